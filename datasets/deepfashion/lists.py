"""The lists of the DeepFashion benchmarks, in the form of text_lists.py."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fld_jax import landmark_sets, schema
from fld_jax.datasets.common.rows import SPLITS
from fld_jax.errors import Findings, printable
from fld_jax.files.text_lists import (
  columns_error,
  error,
  integer,
  number,
  numbers,
  one_of,
  parsed,
  read_rows,
  read_table,
)

BOX_FIELDS = ['x_1', 'y_1', 'x_2', 'y_2']
LANDMARK_FIELDS = [
  'landmark_visibility',
  'landmark_location_x',
  'landmark_location_y',
]
ATTRIBUTE_BYTES = {'1': 1, '0': 0, '-1': 255}  # 255 is the int8 -1
NAME_HEADER = ('attribute_name', 'attribute_type')


def read_names(
  path: Path,
  header: Sequence[str] = NAME_HEADER,
  types: Collection[int] | None = None,
) -> dict[str, list]:
  """Reads list_attr_cloth.txt or list_category_cloth.txt.

  Args:
    path: The path of the list.
    header: The names of its columns. The name is the last one, or the last one
      before a type; it alone may contain spaces ('faux fur 2').
    types: The valid types; None for any integer.

  Returns:
    `names` and `types`, each in the order of the rows; `types` is [] without
    such a column.

  Raises:
    InputError: The first mistake.
  """
  columns = {'names': [], 'types': []}
  typed = header[-1].endswith('_type')
  start = len(header) - 1 - typed
  for line, fields in read_table(path, list(header), Findings())[1]:
    if len(fields) < len(header):
      valid = f'at least {len(header)}, {" ".join(header)}'
      raise columns_error(path, line, fields, valid)
    if typed:
      code = integer(path, line, header[-1], fields.pop(), types)
      columns['types'].append(code)
    columns['names'].append(' '.join(fields[start:]))
  return columns


def read_splits(
  path: Path, findings: Findings, splits: Sequence[str] = SPLITS
) -> Iterator[tuple[str, int, str | None]]:
  """Reads list_eval_partition.txt.

  Args:
    path: The path of the list.
    findings: The collector of the rows' mistakes.
    splits: The valid splits.

  Returns:
    An iterator of (image, line number, split); the split of a mistaken row is
    None.

  Raises:
    InputError: Line 1 or 2 is wrong.
  """
  header = ['image_name', 'evaluation_status']

  def parse(line: int, fields: list[str]) -> str:
    """The split of a row."""
    if len(fields) != 2:
      raise columns_error(path, line, fields, '2, image and split')
    return one_of(path, line, header[1], fields[1], splits, 'split')

  return read_rows(path, header, findings, parse)


def read_boxes(
  path: Path,
  findings: Findings,
  codes: Mapping[str, Collection[int]] | None = None,
) -> Iterator[tuple[str, int, tuple | None]]:
  """Reads list_bbox.txt.

  Args:
    path: The path of the list.
    findings: The collector of the rows' mistakes.
    codes: Columns before the box -> their valid integers; by default there are
      none.

  Returns:
    An iterator of (image, line number, (codes, [x1, y1, x2, y2])), the box in
    image pixels; the last entry of a mistaken row is None.

  Raises:
    InputError: Line 1 or 2 is wrong.
  """
  codes = codes or {}
  header = ['image_name', *codes, *BOX_FIELDS]
  start = 1 + len(codes)

  def parse(line: int, fields: list[str]) -> tuple[list[int], list[float]]:
    """The codes and the box of a row."""
    if len(fields) != len(header):
      valid = f'{len(header)}, {" ".join(header)}'
      raise columns_error(path, line, fields, valid)
    found = [
      integer(path, line, field, token, valid)
      for (field, valid), token in zip(
        codes.items(), fields[1:start], strict=True
      )
    ]
    return found, numbers(path, line, BOX_FIELDS, fields[start:])

  return read_rows(path, header, findings, parse)


def read_landmarks(
  path: Path, findings: Findings
) -> Iterator[tuple[str, int, tuple | None]]:
  """Reads list_landmarks.txt.

  Args:
    path: The path of the list.
    findings: The collector of the rows' mistakes.

  Returns:
    An iterator of (image, line number, (clothes type, variation, codes,
    points)), of which codes are (8,) int32 and points (8, 2) float32 image
    pixels; the last entry of a mistaken row is None.

  Raises:
    InputError: Line 1 or 2 is wrong.
  """
  header = ['image_name', 'clothes_type']
  columns, rows = read_table(path, header, findings)
  # The release's text describes the column, not every release has it.
  if columns[2:3] == ['variation_type']:
    header.append('variation_type')
  expected = header + [f'{field}_1' for field in LANDMARK_FIELDS]
  if columns[: len(expected)] != expected:
    found = printable(' '.join(columns[: len(expected)]))
    problem = f"are '{found}', must begin with '{' '.join(expected)}'"
    raise error(path, 2, 'column names', problem)

  def parse(
    line: int, fields: list[str]
  ) -> tuple[int, int, np.ndarray, np.ndarray]:
    """The clothes type, the variation, the codes and the points of a row."""
    if len(fields) < len(header):
      valid = f'at least {len(header)}, {" ".join(header)}'
      raise columns_error(path, line, fields, valid)
    clothes_type = integer(
      path, line, 'clothes_type', fields[1], landmark_sets.CLOTHES_TYPES
    )
    variation = 0  # not known
    if 'variation_type' in header:
      variation = integer(
        path, line, 'variation_type', fields[2], schema.VARIATIONS
      )
    landmarks = _landmarks(path, line, clothes_type, fields, len(header))
    return clothes_type, variation, *landmarks

  return parsed(rows, findings, parse)


def _landmarks(
  path: Path, line: int, clothes_type: int, fields: list[str], start: int
) -> tuple[np.ndarray, np.ndarray]:
  """Reads the triples of a row.

  Args:
    path: The path of the list, for messages.
    line: The number of the line.
    clothes_type: The code of the clothes type, which says how many there are.
    fields: The fields of the row.
    start: The index of the first triple's first field.

  Returns:
    (8,) int32 codes of `schema`, and (8, 2) float32 image pixels.

  Raises:
    InputError: A field is not valid.
  """
  slots = landmark_sets.FASHION_8.slots[clothes_type]
  if len(fields) != start + 3 * len(slots):
    name = landmark_sets.CLOTHES_TYPES[clothes_type]
    valid = (
      f'{start + 3 * len(slots)}: {start} and {len(slots)} landmarks of 3 for '
      f'clothes_type {clothes_type} ({name})'
    )
    raise columns_error(path, line, fields, valid)
  codes = np.full(
    landmark_sets.FASHION_8.num_landmarks, schema.ABSENT, np.int32
  )
  points = np.zeros((landmark_sets.FASHION_8.num_landmarks, 2), np.float32)
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
  path: Path, num_attributes: int, findings: Findings, name: str = 'image_name'
) -> Iterator[tuple[str, int, np.ndarray | None]]:
  """Reads list_attr_img.txt or list_attr_items.txt.

  Args:
    path: The path of the list.
    num_attributes: The number A of attributes.
    findings: The collector of the rows' mistakes.
    name: The column of the names of images or items.

  Returns:
    An iterator of (name, line number, (A,) int8); the attributes of a mistaken
    row are None.

  Raises:
    InputError: Line 1 or 2 is wrong.
  """

  def parse(line: int, fields: list[str]) -> np.ndarray:
    """The attributes of a row."""
    if len(fields) != 1 + num_attributes:
      valid = (
        f'{1 + num_attributes}: {name} and the {num_attributes} attributes '
        'of list_attr_cloth.txt'
      )
      raise columns_error(path, line, fields, valid)
    return attribute_values(path, line, fields[1:])

  return read_rows(path, [name], findings, parse)


def attribute_values(
  path: Path,
  line: int,
  tokens: Sequence[str],
  codes: Mapping[str, int] | None = None,
) -> np.ndarray:
  """Reads the attributes of a row.

  Args:
    path: The path of the list, for messages.
    line: The number of the line.
    tokens: The texts of A fields.
    codes: The valid texts -> bytes of int8; by default 1, 0 and -1 stand for
      themselves.

  Returns:
    (A,) int8: 1 has it, -1 has it not, 0 not known.

  Raises:
    InputError: A text is not valid.
  """
  codes = codes or ATTRIBUTE_BYTES
  try:  # 1,000 values a row in the full benchmark: no function call each
    values = bytes(map(codes.__getitem__, tokens))
  except KeyError:
    for i, token in enumerate(tokens, 1):
      one_of(path, line, f'attribute_labels, value {i}', token, codes)
    raise
  return np.frombuffer(values, np.int8)
