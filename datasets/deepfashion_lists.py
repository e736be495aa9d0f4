"""The text lists of the DeepFashion benchmarks; a mistake names its line.

Line 1 is the number of rows, line 2 the column names, rows start in line 3;
fields are separated by whitespace, numbers are base 10 and may be padded with
zeros ('072').
"""

import math

import numpy as np

from fld_jax import schema
from fld_jax.datasets.rows import SPLITS
from fld_jax.errors import InputError

BOX_FIELDS = ['x_1', 'y_1', 'x_2', 'y_2']
LANDMARK_FIELDS = [
  'landmark_visibility',
  'landmark_location_x',
  'landmark_location_y',
]
_ATTRIBUTE_BYTES = {'1': 1, '0': 0, '-1': 255}  # 255 is the int8 -1


def error(path, line: int, field: str, problem: str) -> InputError:
  """The InputError for one field of one line, for the caller to raise."""
  return InputError(f'{path}, line {line}, {field}: {problem}')


def read_names(path) -> list[str]:
  """list_attr_cloth.txt -> names of the attributes in the rows' order."""
  names = []
  header = ['attribute_name', 'attribute_type']
  for line, fields in _read_table(path, header)[1]:
    # Names contain spaces ('faux fur 2'): the last field is the type.
    if len(fields) < 2:
      valid = 'at least 2, a name and a type'
      raise _columns_error(path, line, fields, valid)
    _integer(path, line, 'attribute_type', fields[-1])
    names.append(' '.join(fields[:-1]))
  return names


def read_splits(path):
  """list_eval_partition.txt -> {image: (line, split)}."""
  table = {}
  header = ['image_name', 'evaluation_status']
  for line, fields in _read_table(path, header)[1]:
    if len(fields) != 2:
      raise _columns_error(path, line, fields, '2, image and split')
    _one_of(path, line, header[1], fields[1], SPLITS)
    _add_row(table, path, line, *fields)
  return table


def read_boxes(path):
  """list_bbox.txt -> {image: (line, [x1, y1, x2, y2])}."""
  table = {}
  header = ['image_name', *BOX_FIELDS]
  for line, fields in _read_table(path, header)[1]:
    if len(fields) != 5:
      valid = f'5, {" ".join(header)}'
      raise _columns_error(path, line, fields, valid)
    box = [
      _number(path, line, field, token)
      for field, token in zip(BOX_FIELDS, fields[1:], strict=True)
    ]
    _add_row(table, path, line, fields[0], box)
  return table


def read_landmarks(path):
  """list_landmarks.txt -> {image: (line, (type, variation, codes, points))}."""
  table = {}
  header = ['image_name', 'clothes_type']
  columns, rows = _read_table(path, header)
  # The release's text describes the column, not every release has it.
  if columns[2:3] == ['variation_type']:
    header.append('variation_type')
  expected = header + [f'{field}_1' for field in LANDMARK_FIELDS]
  if columns[: len(expected)] != expected:
    found = ' '.join(columns[: len(expected)])
    problem = f"are '{found}', must begin with '{' '.join(expected)}'"
    raise error(path, 2, 'column names', problem)
  for line, fields in rows:
    if len(fields) < len(header):
      valid = f'at least {len(header)}, {" ".join(header)}'
      raise _columns_error(path, line, fields, valid)
    clothes_type = _integer(
      path, line, 'clothes_type', fields[1], schema.CLOTHES_TYPES
    )
    variation = 0  # not known
    if 'variation_type' in header:
      variation = _integer(
        path, line, 'variation_type', fields[2], schema.VARIATIONS
      )
    landmarks = _landmarks(path, line, clothes_type, fields, len(header))
    value = clothes_type, variation, *landmarks
    _add_row(table, path, line, fields[0], value)
  return table


def _landmarks(path, line, clothes_type, fields, start):
  """Triples from `start` on -> codes (8,) int32, points (8, 2) float32."""
  slots = schema.FASHION_8.slots[clothes_type]
  if len(fields) != start + 3 * len(slots):
    name = schema.CLOTHES_TYPES[clothes_type]
    valid = (
      f'{start + 3 * len(slots)}: {start} and {len(slots)} landmarks of 3 for '
      f'clothes_type {clothes_type} ({name})'
    )
    raise _columns_error(path, line, fields, valid)
  codes = np.full(schema.FASHION_8.num_landmarks, schema.ABSENT, np.int32)
  points = np.zeros((schema.FASHION_8.num_landmarks, 2), np.float32)
  for i, slot in enumerate(slots):
    names = [f'{field}_{i + 1}' for field in LANDMARK_FIELDS]
    code, x, y = fields[start + 3 * i : start + 3 * i + 3]
    codes[slot] = _integer(
      path, line, names[0], code, range(len(schema.VISIBILITY_NAMES))
    )
    point = [
      _number(path, line, names[1], x),
      _number(path, line, names[2], y),
    ]
    if codes[slot] != schema.TRUNCATED:
      points[slot] = point
  return codes, points


def read_attributes(path, num_attributes):
  """list_attr_img.txt -> {image: (line, (A,) int8)}."""
  table = {}
  _, rows = _read_table(path, ['image_name'])
  for line, fields in rows:
    if len(fields) != 1 + num_attributes:
      valid = (
        f'{1 + num_attributes}: image_name and the {num_attributes} attributes '
        'of list_attr_cloth.txt'
      )
      raise _columns_error(path, line, fields, valid)
    try:  # 1,000 values a row in the full benchmark: no function call each
      values = bytes(map(_ATTRIBUTE_BYTES.__getitem__, fields[1:]))
    except KeyError:
      for i, token in enumerate(fields[1:], 1):
        field = f'attribute_labels, value {i}'
        _one_of(path, line, field, token, _ATTRIBUTE_BYTES)
    values = np.frombuffer(values, np.int8)
    _add_row(table, path, line, fields[0], values)
  return table


def _columns_error(path, line: int, fields, valid: str) -> InputError:
  """The InputError for a row of the wrong length; `valid` says the right."""
  return error(
    path, line, 'columns', f'the row has {len(fields)}, must have {valid}'
  )


def _read_table(path, header: list[str]):
  """Opens a list.

  Args:
    path: pathlib.Path of the list.
    header: what its column names must begin with.

  Returns:
    The column names, and an iterator of (line number, fields) over the rows
    that are not blank. At its end it compares their number to line 1: last,
    because a mistake within a row says more.

  Raises:
    InputError: line 1 or 2 is wrong; from the iterator, the text or the count.
  """
  lines = _lines(path)
  announced = ' '.join(next(lines, (1, []))[1])
  if not (announced.isascii() and announced.isdigit()):
    problem = f"is '{announced}', must be one integer, the number of rows"
    raise error(path, 1, 'row count', problem)
  columns = next(lines, (2, []))[1]
  found, wanted = ' '.join(columns[: len(header)]), ' '.join(header)
  if found != wanted:
    problem = f"are '{found}', must begin with '{wanted}'"
    raise error(path, 2, 'column names', problem)
  return columns, _counted(path, int(announced), lines)


def _add_row(table: dict, path, line: int, image: str, value):
  """Sets table[image] = (line, value); InputError if it is there already."""
  if image in table:
    problem = f"'{image}' is in line {table[image][0]} already"
    raise error(path, line, 'image_name', problem)
  table[image] = line, value


def _one_of(path, line: int, field: str, token: str, valid):
  """Returns the token; InputError unless it is one of the strings `valid`."""
  if token not in valid:
    problem = f"is '{token}', must be one of {', '.join(valid)}"
    raise error(path, line, field, problem)
  return token


def _integer(path, line: int, field: str, token: str, valid=None) -> int:
  """The field's integer; InputError unless it is in `valid` (None: any)."""
  try:
    value = int(token)
  except ValueError:
    value = None
  if value is None or (valid is not None and value not in valid):
    allowed = 'an integer'
    if valid is not None:
      allowed = f'one of {", ".join(map(str, valid))}'
    raise error(path, line, field, f"is '{token}', must be {allowed}")
  return value


def _number(path, line: int, field: str, token: str) -> float:
  """The field's number; InputError unless it is finite."""
  try:
    value = float(token)
  except ValueError:
    value = math.nan
  if not math.isfinite(value):
    raise error(path, line, field, f"is '{token}', must be a finite number")
  return value


def _lines(path):
  """Yields (line number, fields) of a text file; a BOM is skipped."""
  with path.open('rb') as file:
    for line, raw in enumerate(file, 1):
      try:
        text = raw.decode('utf-8-sig' if line == 1 else 'utf-8')
      except UnicodeDecodeError:
        raise error(path, line, 'text', 'is not UTF-8, must be') from None
      yield line, text.split()


def _counted(path, announced, lines):
  count = 0
  for line, fields in lines:
    if fields:
      count += 1
      yield line, fields
  if count != announced or count == 0:
    raise error(
      path,
      1,
      'row count',
      f'announces {announced} rows, but the file has {count}; '
      'the two must be equal and at least 1',
    )
