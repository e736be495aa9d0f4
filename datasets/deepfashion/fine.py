"""The fine annotations of DeepFashion's Category and Attribute benchmark.

  Img/img/...jpg                       or img/... without the folder Img
  Anno_fine/train.txt                  images, one a row
  Anno_fine/train_bbox.txt             x_1 y_1 x_2 y_2
  Anno_fine/train_landmarks.txt        x y of the 8 landmarks; 0 0: no position
  Anno_fine/train_cate.txt             number of a category, from 1 on
  Anno_fine/train_attr.txt             of each attribute 1, or 0: has it not
  Anno_fine/list_category_cloth.txt    or in Anno_coarse/, Anno/
  Anno_fine/list_attr_cloth.txt

The files of val and test have the same form; any of the three splits may be
missing. Rows of one number belong together; these files have neither a count
nor column names. All the lists of categories may be missing, and all those of
attributes.

The files do not say which landmarks are occluded: one with a position counts as
visible, one without as truncated if its clothes type has it. The type is the
category's; but a dress may be in a category of skirts, so with a landmark that
this type lacks it is `full`. Without categories it is the type of fewest
landmarks that has all those with a position.
"""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fld_jax import landmark_sets, schema
from fld_jax.datasets.common.joined_lists import JoinedLists
from fld_jax.datasets.common.rows import SPLITS, Row
from fld_jax.datasets.deepfashion import lists
from fld_jax.datasets.deepfashion.coarse import FINE
from fld_jax.datasets.deepfashion.layout import (
  attribute_names,
  checked_row,
  complete,
  digest_of,
  existing_folder,
)
from fld_jax.errors import Findings, InputError
from fld_jax.files.text_lists import (
  columns_error,
  error,
  integer,
  numbers,
  parsed,
  read_lines,
)

LANDMARKS = landmark_sets.FASHION_8
COARSE = ('Anno_coarse', 'Anno')
FULL = 3  # the clothes type with all landmarks
POINT_FIELDS = [
  f'{field}_{i}'
  for i in range(1, 1 + LANDMARKS.num_landmarks)
  for field in lists.LANDMARK_FIELDS[1:]
]
CATEGORY_HEADER = ('category_name', 'category_type')
ATTRIBUTE_BYTES = {'1': 1, '0': 255}  # 255 is the int8 -1
# What a file of a split holds -> the end of its name.
NEEDED = {'split': '', 'box': '_bbox', 'landmarks': '_landmarks'}
ENDS = {**NEEDED, 'category': '_cate', 'attributes': '_attr'}


def read_annotations(
  manual_dir: str | Path, findings: Findings | None = None
) -> Iterator[Row]:
  """Reads and checks a whole folder; of the images only the headers.

  Args:
    manual_dir: The folder, in the layout that this module describes.
    findings: The collector of mistakes; by default the first one is raised.

  Yields:
    One row an image, in the order of train.txt, val.txt and test.txt.

  Raises:
    InputError: The first mistake, with its file, line and field; with other
      findings, only what leaves nothing to read.
  """
  findings = findings or Findings()
  paths = annotation_paths(manual_dir)
  types = None
  if 'categories' in paths:
    path = paths['categories']
    types = lists.read_names(path, CATEGORY_HEADER, landmark_sets.CLOTHES_TYPES)
    types = types['types']
  names = attribute_names(paths)
  splits = [split for split in SPLITS if split in paths]
  with JoinedLists() as tables:
    for i, split in enumerate(splits):
      split_paths = _paths_of_split(paths, split)
      parse = functools.partial(_parse, split_paths, types, len(names))
      rows = parsed(_aligned(split_paths, findings), findings, parse)
      tables.add(split, split_paths['split'], rows, findings)
      earlier = {other: paths[other] for other in splits[:i]}
      for image, cells in tables.join(split):
        try:
          _check_new(tables, earlier, split_paths, image, cells[split][0])
          row = _row(manual_dir, split_paths, image, split, *cells[split])
        except InputError as mistake:
          findings.mistake(mistake)
        else:
          yield row


def _paths_of_split(paths: dict[str, Path], split: str) -> dict[str, Path]:
  """The paths of a split's files by what they hold, a key of ENDS.

  Args:
    paths: The paths that `annotation_paths` returns.
    split: The split.
  """
  keys = {what: split + end for what, end in ENDS.items()}
  return {what: paths[key] for what, key in keys.items() if key in paths}


def _aligned(
  paths: dict[str, Path], findings: Findings
) -> Iterator[tuple[int, tuple[str, dict[str, list[str]]]]]:
  """Reads a split's files, of which rows of one number belong together.

  Args:
    paths: The paths that `_paths_of_split` returns.
    findings: The collector of mistakes.

  Yields:
    (line number, (image, key of ENDS -> fields)) of each row that all files
    have.
  """
  count = 0
  readers = [read_lines(path, findings) for path in paths.values()]
  for line, cells in enumerate(itertools.zip_longest(*readers), 1):
    rows = {
      what: cell[1] if cell else []
      for what, cell in zip(paths, cells, strict=True)
    }
    # No text, which is a mistake already; or blank in all files.
    if None in rows.values() or not any(rows.values()):
      continue
    count += 1
    blank = [path for what, path in paths.items() if not rows[what]]
    if not blank:
      yield line, (rows['split'][0], rows)
      continue
    other = next(path for what, path in paths.items() if rows[what])
    problem = f'there is no row, must be one as in {other}'
    findings.mistake(error(blank[0], line, 'row count', problem))
    if None in cells:  # one mistake, not one for each row that is left
      return
  if not count:
    problem = 'there is none, must be at least 1'
    findings.mistake(error(paths['split'], 1, 'row count', problem))


def _parse(
  paths: dict[str, Path],
  types: list[int] | None,
  num_attributes: int,
  line: int,
  found: tuple[str, dict[str, list[str]]],
) -> tuple[tuple, tuple, np.ndarray | None]:
  """Reads one row of a split's files.

  Args:
    paths: The paths that `_paths_of_split` returns.
    types: The clothes type of each category; None without categories.
    num_attributes: The number A of attributes.
    line: The number of the line.
    found: The image, and key of ENDS -> fields.

  Returns:
    The box, the landmarks and the attributes that `checked_row` takes, the
    attributes (A,) int8 or None.

  Raises:
    InputError: A field is not valid.
  """
  _, rows = found
  if len(rows['split']) != 1:
    raise columns_error(paths['split'], line, rows['split'], '1, image_name')
  box = [], numbers(paths['box'], line, lists.BOX_FIELDS, rows['box'])
  values = numbers(paths['landmarks'], line, POINT_FIELDS, rows['landmarks'])
  points = np.array(values, np.float32).reshape(-1, 2)
  shown = points.any(axis=1)
  category_type = None
  if types is not None:
    path, fields = paths['category'], rows['category']
    if len(fields) != 1:
      raise columns_error(path, line, fields, '1, category_label')
    valid = range(1, 1 + len(types))
    label = integer(path, line, 'category_label', fields[0], valid)
    category_type = types[label - 1]
  clothes_type = _clothes_type(shown, category_type)
  codes = np.full(LANDMARKS.num_landmarks, schema.ABSENT, np.int32)
  codes[list(LANDMARKS.slots[clothes_type])] = schema.TRUNCATED
  codes[shown] = schema.VISIBLE
  attributes = None
  if 'attributes' in paths:
    path, fields = paths['attributes'], rows['attributes']
    if len(fields) != num_attributes:
      valid = f'{num_attributes}, the attributes of list_attr_cloth.txt'
      raise columns_error(path, line, fields, valid)
    attributes = lists.attribute_values(path, line, fields, ATTRIBUTE_BYTES)
  return box, (clothes_type, 0, codes, points), attributes


def _clothes_type(shown: np.ndarray, category_type: int | None) -> int:
  """Tells a garment's clothes type.

  Args:
    shown: (8,) bool, whether a landmark has a position.
    category_type: The type of the garment's category; None if not known.
  """
  positioned = set(np.flatnonzero(shown).tolist())
  holding = [t for t, s in LANDMARKS.slots.items() if positioned <= set(s)]
  if category_type is None:
    return min(holding, key=lambda each: len(LANDMARKS.slots[each]))
  return category_type if category_type in holding else FULL


def _check_new(
  tables: JoinedLists,
  earlier: dict[str, Path],
  paths: dict[str, Path],
  image: str,
  line: int,
) -> None:
  """Refuses an image that an earlier split has.

  Args:
    tables: The lists of this split and of earlier ones.
    earlier: Split -> its list of images, for the earlier splits.
    paths: The paths of this split's files.
    image: The image.
    line: The number of its line.

  Raises:
    InputError: An earlier split has the image.
  """
  for split, path in earlier.items():
    cell = tables.get(split, image)
    if cell:
      problem = f"'{image}' is in line {cell[0]} of {path} already"
      raise error(paths['split'], line, 'image_name', problem, 'split')


def _row(
  manual_dir: str | Path,
  paths: dict[str, Path],
  image: str,
  split: str,
  line: int,
  value: tuple,
) -> Row:
  """Makes the row of an image.

  Args:
    manual_dir: The folder.
    paths: The paths of the split's files.
    image: The image.
    split: The split.
    line: The number of the line.
    value: The result of `_parse`.

  Raises:
    InputError: The image is not valid, or a position lies outside of it.
  """
  box, landmarks, attributes = value
  return checked_row(
    manual_dir,
    paths,
    image,
    (line, split),
    (line, box),
    (line, landmarks),
    None if attributes is None else (line, attributes),
    slots=range(LANDMARKS.num_landmarks),
  )


def content_digest(manual_dir: str | Path) -> str:
  """A digest of the lists' contents and the images' sizes and times.

  Args:
    manual_dir: The folder.

  Returns:
    16 hex digits that change when a list or a listed image's file changes.

  Raises:
    InputError: The folder or a list is missing. Nothing else is checked.
  """
  paths = annotation_paths(manual_dir)
  partitions = [paths[split] for split in SPLITS if split in paths]
  return digest_of(manual_dir, paths.values(), partitions, start=0)


def annotation_paths(manual_dir: str | Path) -> dict[str, Path]:
  """Finds the lists of a folder.

  Args:
    manual_dir: The folder.

  Returns:
    The name of a list (`train`, `train_bbox` and so on, for the splits that are
    there) -> its path; also `categories` and `attribute_names` where there are
    categories and attributes.

  Raises:
    InputError: The folder or a list is missing.
  """
  root = existing_folder(manual_dir, f'Img/ and {FINE}/')
  path = lambda stem: root / FINE / f'{stem}.txt'
  splits = [
    split
    for split in SPLITS
    if any(path(split + end).is_file() for end in ENDS.values())
  ]
  hint = ''
  if not splits:
    splits, hint = ['train'], '; val and test may be there instead'
    if any((root / name / 'list_landmarks.txt').is_file() for name in COARSE):
      hint += ', --config.dataset.labels=coarse reads list_landmarks.txt'
  of = lambda end: {split + end: path(split + end) for split in splits}
  paths = {}
  for end in NEEDED.values():
    paths |= of(end)
  categories = of(ENDS['category'])
  if any(each.is_file() for each in categories.values()):
    places = [root / name / 'list_category_cloth.txt' for name in COARSE]
    places = [path('list_category_cloth'), *places]
    there = [place for place in places if place.is_file()]
    paths |= {**categories, 'categories': (there or places)[0]}
  attributes = {
    'attribute_names': path('list_attr_cloth'),
    **of(ENDS['attributes']),
  }
  return complete(paths, attributes, hint)
