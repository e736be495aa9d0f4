"""The lists of the DeepFashion benchmarks, tables of text_lists.py."""

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


def read_names(path, header=NAME_HEADER, types=None) -> dict[str, list]:
  """list_attr_cloth.txt or list_category_cloth.txt -> its columns.

  Args:
    path: pathlib.Path of the list.
    header: the names of its columns. The name is the last one, or the last one
      before a type; it alone may contain spaces ('faux fur 2').
    types: the valid types; None for any integer.

  Returns:
    `names`, and `types`, which is [] without such a column; in the rows' order.

  Raises:
    InputError: the first mistake.
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


def read_splits(path, findings: Findings, splits=SPLITS):
  """list_eval_partition.txt -> (image, line, split)."""
  header = ['image_name', 'evaluation_status']

  def parse(line, fields):
    if len(fields) != 2:
      raise columns_error(path, line, fields, '2, image and split')
    return one_of(path, line, header[1], fields[1], splits, 'split')

  return read_rows(path, header, findings, parse)


def read_boxes(path, findings: Findings, codes=None):
  """list_bbox.txt -> (image, line, (codes, [x1, y1, x2, y2])).

  Args:
    path: pathlib.Path of the list.
    findings: gets mistakes.
    codes: columns before the box -> their valid integers; by default none.
  """
  codes = codes or {}
  header = ['image_name', *codes, *BOX_FIELDS]
  start = 1 + len(codes)

  def parse(line, fields):
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


def read_landmarks(path, findings: Findings):
  """list_landmarks.txt -> (image, line, (type, variation, codes, points))."""
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

  def parse(line, fields):
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


def _landmarks(path, line, clothes_type, fields, start):
  """Triples from `start` on -> codes (8,) int32, points (8, 2) float32."""
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
    return attribute_values(path, line, fields[1:])

  return read_rows(path, [name], findings, parse)


def attribute_values(path, line: int, tokens, codes=None) -> np.ndarray:
  """(A,) int8 of A tokens; `codes`: token -> byte, by default as they say."""
  codes = codes or ATTRIBUTE_BYTES
  try:  # 1,000 values a row in the full benchmark: no function call each
    values = bytes(map(codes.__getitem__, tokens))
  except KeyError:
    for i, token in enumerate(tokens, 1):
      one_of(path, line, f'attribute_labels, value {i}', token, codes)
    raise
  return np.frombuffer(values, np.int8)
