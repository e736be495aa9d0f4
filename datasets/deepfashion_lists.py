"""The text lists of the DeepFashion benchmarks; a mistake names its line.

Line 1 is the number of rows, line 2 the column names, rows start in line 3;
fields are separated by whitespace, numbers are base 10 and may be padded with
zeros ('072').
"""

import math

import numpy as np

from fld_jax import schema
from fld_jax.datasets.rows import SPLITS, Findings
from fld_jax.errors import InputError

BOX_FIELDS = ['x_1', 'y_1', 'x_2', 'y_2']
LANDMARK_FIELDS = [
  'landmark_visibility',
  'landmark_location_x',
  'landmark_location_y',
]
_ATTRIBUTE_BYTES = {'1': 1, '0': 0, '-1': 255}  # 255 is the int8 -1


def error(
  path, line: int, field: str, problem: str, kind: str = 'form'
) -> InputError:
  """The InputError for one field of one line, for the caller to raise."""
  return InputError(f'{path}, line {line}, {field}: {problem}', kind)


def read_names(path) -> list[str]:
  """list_attr_cloth.txt -> names of the attributes in the rows' order."""
  names = []
  header = ['attribute_name', 'attribute_type']
  for line, fields in _read_table(path, header, Findings())[1]:
    # Names contain spaces ('faux fur 2'): the last field is the type.
    if len(fields) < 2:
      valid = 'at least 2, a name and a type'
      raise columns_error(path, line, fields, valid)
    integer(path, line, 'attribute_type', fields[-1])
    names.append(' '.join(fields[:-1]))
  return names


def read_splits(path, findings: Findings, splits=SPLITS):
  """list_eval_partition.txt -> (image, line, split)."""
  header = ['image_name', 'evaluation_status']

  def parse(line, fields):
    if len(fields) != 2:
      raise columns_error(path, line, fields, '2, image and split')
    return one_of(path, line, header[1], fields[1], splits, 'split')

  return read_rows(path, header, findings, parse)


def read_boxes(path, findings: Findings):
  """list_bbox.txt -> (image, line, [x1, y1, x2, y2])."""
  header = ['image_name', *BOX_FIELDS]

  def parse(line, fields):
    if len(fields) != 5:
      raise columns_error(path, line, fields, f'5, {" ".join(header)}')
    return [
      number(path, line, field, token)
      for field, token in zip(BOX_FIELDS, fields[1:], strict=True)
    ]

  return read_rows(path, header, findings, parse)


def read_landmarks(path, findings: Findings):
  """list_landmarks.txt -> (image, line, (type, variation, codes, points))."""
  header = ['image_name', 'clothes_type']
  columns, rows = _read_table(path, header, findings)
  # The release's text describes the column, not every release has it.
  if columns[2:3] == ['variation_type']:
    header.append('variation_type')
  expected = header + [f'{field}_1' for field in LANDMARK_FIELDS]
  if columns[: len(expected)] != expected:
    found = ' '.join(columns[: len(expected)])
    problem = f"are '{found}', must begin with '{' '.join(expected)}'"
    raise error(path, 2, 'column names', problem)

  def parse(line, fields):
    if len(fields) < len(header):
      valid = f'at least {len(header)}, {" ".join(header)}'
      raise columns_error(path, line, fields, valid)
    clothes_type = integer(
      path, line, 'clothes_type', fields[1], schema.CLOTHES_TYPES
    )
    variation = 0  # not known
    if 'variation_type' in header:
      variation = integer(
        path, line, 'variation_type', fields[2], schema.VARIATIONS
      )
    landmarks = _landmarks(path, line, clothes_type, fields, len(header))
    return clothes_type, variation, *landmarks

  return _parsed(rows, findings, parse)


def _landmarks(path, line, clothes_type, fields, start):
  """Triples from `start` on -> codes (8,) int32, points (8, 2) float32."""
  slots = schema.FASHION_8.slots[clothes_type]
  if len(fields) != start + 3 * len(slots):
    name = schema.CLOTHES_TYPES[clothes_type]
    valid = (
      f'{start + 3 * len(slots)}: {start} and {len(slots)} landmarks of 3 for '
      f'clothes_type {clothes_type} ({name})'
    )
    raise columns_error(path, line, fields, valid)
  codes = np.full(schema.FASHION_8.num_landmarks, schema.ABSENT, np.int32)
  points = np.zeros((schema.FASHION_8.num_landmarks, 2), np.float32)
  for i, slot in enumerate(slots):
    names = [f'{field}_{i + 1}' for field in LANDMARK_FIELDS]
    code, x, y = fields[start + 3 * i : start + 3 * i + 3]
    codes[slot] = integer(
      path,
      line,
      names[0],
      code,
      range(len(schema.VISIBILITY_NAMES)),
      'visibility',
    )
    point = [
      number(path, line, names[1], x),
      number(path, line, names[2], y),
    ]
    if codes[slot] != schema.TRUNCATED:
      points[slot] = point
  return codes, points


def read_attributes(
  path, num_attributes: int, findings: Findings, name: str = 'image_name'
):
  """list_attr_img.txt -> (image, line, (A,) int8); or by another name."""

  def parse(line, fields):
    if len(fields) != 1 + num_attributes:
      valid = (
        f'{1 + num_attributes}: {name} and the {num_attributes} attributes '
        'of list_attr_cloth.txt'
      )
      raise columns_error(path, line, fields, valid)
    try:  # 1,000 values a row in the full benchmark: no function call each
      values = bytes(map(_ATTRIBUTE_BYTES.__getitem__, fields[1:]))
    except KeyError:
      for i, token in enumerate(fields[1:], 1):
        field = f'attribute_labels, value {i}'
        one_of(path, line, field, token, _ATTRIBUTE_BYTES)
    return np.frombuffer(values, np.int8)

  return read_rows(path, [name], findings, parse)


def read_rows(path, header: list[str], findings: Findings, parse):
  """Yields the rows of a list.

  Args:
    path: pathlib.Path of the list.
    header: what its column names must begin with.
    findings: gets the rows' mistakes.
    parse: function of a line's number and fields to its value, or InputError.

  Yields:
    (first field, line, value), with the value None of a mistaken row.

  Raises:
    InputError: line 1 or 2 is wrong.
  """
  return _parsed(_read_table(path, header, findings)[1], findings, parse)


def _parsed(rows, findings: Findings, parse):
  for line, fields in rows:
    try:
      value = parse(line, fields)
    except InputError as mistake:
      findings.mistake(mistake)
      value = None
    yield fields[0], line, value


def columns_error(path, line: int, fields, valid: str) -> InputError:
  """The InputError for a row of the wrong length; `valid` says the right."""
  return error(
    path, line, 'columns', f'the row has {len(fields)}, must have {valid}'
  )


def _read_table(path, header: list[str], findings: Findings):
  """Opens a list.

  Args:
    path: pathlib.Path of the list.
    header: what its column names must begin with.
    findings: gets a wrong number of rows, and lines that are no text.

  Returns:
    The column names, and an iterator of (line number, fields) over the rows
    that are not blank. At its end it compares their number to line 1: last,
    because a mistake within a row says more.

  Raises:
    InputError: line 1 or 2 is wrong.
  """
  lines = _lines(path, findings)
  announced = ' '.join(next(lines, (1, []))[1])
  if not (announced.isascii() and announced.isdigit()):
    problem = f"is '{announced}', must be one integer, the number of rows"
    raise error(path, 1, 'row count', problem)
  columns = next(lines, (2, []))[1]
  found, wanted = ' '.join(columns[: len(header)]), ' '.join(header)
  if found != wanted:
    problem = f"are '{found}', must begin with '{wanted}'"
    raise error(path, 2, 'column names', problem)
  return columns, _counted(path, int(announced), lines, findings)


def one_of(path, line: int, field: str, token: str, valid, kind: str = 'form'):
  """Returns the token; InputError unless it is one of the strings `valid`."""
  if token not in valid:
    problem = f"is '{token}', must be one of {', '.join(valid)}"
    raise error(path, line, field, problem, kind)
  return token


def integer(
  path, line: int, field: str, token: str, valid=None, kind: str = 'form'
) -> int:
  """The field's integer; InputError unless it is in `valid` (None: any)."""
  try:
    value = int(token)
  except ValueError:
    value = None
  if value is None or (valid is not None and value not in valid):
    allowed = 'an integer'
    if valid is not None:
      allowed = f'one of {", ".join(map(str, valid))}'
    problem = f"is '{token}', must be {allowed}"
    raise error(path, line, field, problem, kind)
  return value


def number(path, line: int, field: str, token: str) -> float:
  """The field's number; InputError unless it is finite."""
  try:
    value = float(token)
  except ValueError:
    value = math.nan
  if not math.isfinite(value):
    raise error(path, line, field, f"is '{token}', must be a finite number")
  return value


def _lines(path, findings: Findings):
  """Yields (line number, fields) of a text file; a BOM is skipped."""
  with path.open('rb') as file:
    for line, raw in enumerate(file, 1):
      try:
        text = raw.decode('utf-8-sig' if line == 1 else 'utf-8')
      except UnicodeDecodeError:
        findings.mistake(error(path, line, 'text', 'is not UTF-8, must be'))
        continue
      yield line, text.split()


def _counted(path, announced: int, lines, findings: Findings):
  count = 0
  for line, fields in lines:
    if fields:
      count += 1
      yield line, fields
  if count != announced or count == 0:
    findings.mistake(
      error(
        path,
        1,
        'row count',
        f'announces {announced} rows, but the file has {count}; '
        'the two must be equal and at least 1',
      )
    )
