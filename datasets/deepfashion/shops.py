"""Folders of DeepFashion's two retrieval benchmarks, read and checked.

In-shop Clothes Retrieval:

  Img/img/...jpg                       or img/... without the folder Img
  Anno/list_bbox_inshop.txt            with clothes_type and pose_type
  Anno/list_landmarks_inshop.txt
  Anno/list_item_inshop.txt            need not be there
  Anno/list_attr_cloth.txt, Anno/list_attr_items.txt   both, or neither
  Eval/list_eval_partition.txt         train, query, gallery

Consumer-to-shop Clothes Retrieval:

  Img/img/...jpg
  Anno/list_bbox_consumer2shop.txt     with clothes_type and source_type
  Anno/list_landmarks_consumer2shop.txt
  Anno/list_item_consumer2shop.txt     or list_items_..., or neither
  Anno/list_attr_cloth.txt, Anno/list_attr_items.txt
  Eval/list_eval_partition.txt         pairs in train, val, test

A pair of Consumer-to-shop is a consumer's photo and a shop's. An image that is
in many pairs is one row: val and test are the consumers' photos, which the
benchmark queries with; the shops' photos of val and test are `gallery`. Where
two pairs contradict each other on an image, the later one is the mistake.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from fld_jax import landmark_sets
from fld_jax.datasets.common.joined_lists import JoinedLists
from fld_jax.datasets.common.rows import Row
from fld_jax.datasets.deepfashion import lists, shop_lists
from fld_jax.datasets.deepfashion.layout import (
  attribute_names,
  checked_row,
  complete,
  digest_of,
  existing_folder,
)
from fld_jax.datasets.deepfashion.shop_lists import CONSUMER, SHOP, Listed
from fld_jax.errors import Findings, InputError, printable
from fld_jax.files.text_lists import error

# Codes of source_type, and which one an image in each column of a pair has.
SOURCES = {1: 'shop', 2: 'consumer'}
SOURCE_OF = {CONSUMER: 2, SHOP: 1}


@dataclasses.dataclass(frozen=True)
class Layout:
  """How the lists of a benchmark are named, and what they hold.

  Attributes:
    suffix: The end of the names of the benchmark's own lists.
    read_partition: The function that reads list_eval_partition.txt.
    column: The column of the images in that list, for messages.
    images: The number of images in a row of that list.
    code: The column before the box, beside clothes_type.
    codes: The valid integers of that column.
    names: The header of list_attr_cloth.txt.
  """

  suffix: str
  read_partition: Callable
  column: str
  images: int
  code: str
  codes: tuple[int, ...]
  names: tuple[str, ...]


LAYOUTS = {
  'in_shop': Layout(
    suffix='inshop',
    read_partition=shop_lists.read_images,
    column='image_name',
    images=1,
    code='pose_type',
    codes=tuple(range(1, 7)),
    names=('attribute_name',),
  ),
  'consumer_to_shop': Layout(
    suffix='consumer2shop',
    read_partition=shop_lists.read_pairs,
    column='image_pair_name',
    images=2,
    code='source_type',
    codes=tuple(SOURCES),
    names=(
      'attribute_name(Chinese)',
      'attribute_name(English)',
      'attribute_type',
    ),
  ),
}


def read(
  manual_dir: str | Path, name: str, findings: Findings | None = None
) -> Iterator[Row]:
  """Reads and checks a folder; of the images only the headers.

  Args:
    manual_dir: The folder, in a layout that this module describes.
    name: 'in_shop' or 'consumer_to_shop'.
    findings: The collector of mistakes, and of the number of images of
      consumer_to_shop that are left out because they are in no pair; by default
      the first mistake is raised.

  Yields:
    One row an image, in the order of list_eval_partition.txt.

  Raises:
    InputError: The first mistake, with its file, line and field; with other
      findings, only what leaves nothing to read.
  """
  findings = findings or Findings()
  paths = annotation_paths(manual_dir, name)
  with JoinedLists() as tables:
    _fill(tables, paths, name, findings)
    tables.check_same_names('box', 'landmarks', findings)
    tables.check_names('split', 'box', findings)
    if name == 'in_shop':
      tables.check_names('box', 'split', findings)
    else:
      for image, _ in tables.names_without('box', 'split'):
        findings.leave_out('in no pair', printable(image))
    for image, cells in tables.join('split', 'box', 'landmarks'):
      try:
        row = _row(manual_dir, paths, tables, image, **cells)
      except InputError as mistake:
        findings.mistake(mistake)
      else:
        if row is not None:
          yield row


def _fill(
  tables: JoinedLists, paths: Mapping[str, Path], name: str, findings: Findings
) -> None:
  """Reads all lists: `split`, `box`, `landmarks`, `items`, `attributes`.

  Args:
    tables: The lists, to which these are added.
    paths: The paths that `annotation_paths` returns.
    name: 'in_shop' or 'consumer_to_shop'.
    findings: The collector of mistakes.
  """
  layout = LAYOUTS[name]
  path = paths['split']
  again = functools.partial(shop_lists.other_place, path)
  tables.add(
    'split',
    path,
    layout.read_partition(path, findings),
    findings,
    layout.column,
    again if layout.images > 1 else None,
  )
  codes = {
    'clothes_type': landmark_sets.CLOTHES_TYPES,
    layout.code: layout.codes,
  }
  path = paths['box']
  tables.add('box', path, lists.read_boxes(path, findings, codes), findings)
  path = paths['landmarks']
  tables.add('landmarks', path, lists.read_landmarks(path, findings), findings)
  if 'items' in paths:
    path = paths['items']
    rows = shop_lists.read_items(path, findings)
    tables.add('items', path, rows, findings, 'item_id')
  if 'attributes' in paths:
    path = paths['attributes']
    number = len(attribute_names(paths, layout.names))
    rows = lists.read_attributes(path, number, findings, 'item_id')
    tables.add('attributes', path, rows, findings, 'item_id')


def _row(
  manual_dir: str | Path,
  paths: Mapping[str, Path],
  tables: JoinedLists,
  image: str,
  split: tuple[int, Listed],
  box: tuple[int, tuple],
  landmarks: tuple[int, tuple],
) -> Row | None:
  """Makes the row of an image.

  Args:
    manual_dir: The folder.
    paths: The paths that `annotation_paths` returns.
    tables: All lists.
    image: The image.
    split: (line number, place) of the image.
    box: (line number, value) of the list `box`.
    landmarks: (line number, value) of the list `landmarks`.

  Returns:
    The row; None if the attributes of its item are a mistake that is known.

  Raises:
    InputError: The lists contradict each other, or the image or a position is
      not valid.
  """
  line, listed = split
  _check_codes(paths, image, split, box, landmarks)
  attributes = None
  for key in ('items', 'attributes'):
    if key not in paths:
      continue
    cell = tables.get(key, listed.item_id)
    if cell is None:
      problem = f"'{listed.item_id}' has no row in {paths[key]}, must have one"
      raise error(paths['split'], line, 'item_id', problem)
    if cell[1] is None:
      return None
    if key == 'attributes':
      attributes = cell
  return checked_row(
    manual_dir,
    paths,
    image,
    (line, _split(listed)),
    box,
    landmarks,
    attributes,
    item_id=listed.item_id,
    field=listed.field,
  )


def _check_codes(
  paths: Mapping[str, Path],
  image: str,
  split: tuple[int, Listed],
  box: tuple[int, tuple],
  landmarks: tuple[int, tuple],
) -> None:
  """Refuses codes that contradict another list.

  Args:
    paths: The paths that `annotation_paths` returns.
    image: The image.
    split: (line number, place) of the image.
    box: (line number, value) of the list `box`.
    landmarks: (line number, value) of the list `landmarks`.

  Raises:
    InputError: A clothes type or a source type differs.
  """
  (line, listed), (box_line, ((clothes_type, code), _)) = split, box
  there = landmarks[1][0]
  if clothes_type != there:
    problem = (
      f'is {there}, must be {clothes_type} as in line {box_line} of '
      f'{paths["box"]}'
    )
    raise error(paths['landmarks'], landmarks[0], 'clothes_type', problem)
  source = SOURCE_OF.get(listed.field, code)
  if code != source:
    problem = (
      f'is {code} ({SOURCES[code]}), must be {source} ({SOURCES[source]}): '
      f"'{image}' is {listed.field} in line {line} of {paths['split']}"
    )
    raise error(paths['box'], box_line, 'source_type', problem)


def _split(listed: Listed) -> str:
  """The split of the data set that an image is in."""
  if listed.field == SHOP and listed.status != 'train':
    return 'gallery'
  return listed.status


def read_attribute_names(manual_dir: str | Path, name: str) -> list[str]:
  """Reads the names of the attributes, of consumer_to_shop the English ones.

  Args:
    manual_dir: The folder.
    name: 'in_shop' or 'consumer_to_shop'.

  Returns:
    The names of the A attributes in the order of the rows' attributes; [] if
    the folder has no list of them.

  Raises:
    InputError: A list is missing, or the list of names has a mistake.
  """
  paths = annotation_paths(manual_dir, name)
  return attribute_names(paths, LAYOUTS[name].names)


def content_digest(manual_dir: str | Path, name: str) -> str:
  """A digest of the lists' contents and the images' sizes and times.

  Args:
    manual_dir: The folder.
    name: 'in_shop' or 'consumer_to_shop'.

  Returns:
    16 hex digits that change when a list or a listed image's file changes.

  Raises:
    InputError: The folder or a list is missing. Nothing else is checked.
  """
  paths = annotation_paths(manual_dir, name)
  images = LAYOUTS[name].images
  return digest_of(manual_dir, paths.values(), [paths['split']], images=images)


def annotation_paths(manual_dir: str | Path, name: str) -> dict[str, Path]:
  """Finds the lists of a folder.

  Args:
    manual_dir: The folder.
    name: 'in_shop' or 'consumer_to_shop'.

  Returns:
    The contents ('split', 'box', 'landmarks') -> the path of the list; also
    'items', 'attribute_names' and 'attributes' where such lists are there.

  Raises:
    InputError: The folder or a list is missing.
  """
  root, suffix = existing_folder(manual_dir), LAYOUTS[name].suffix
  anno = root / 'Anno'
  paths = {
    'split': root / 'Eval' / 'list_eval_partition.txt',
    'box': anno / f'list_bbox_{suffix}.txt',
    'landmarks': anno / f'list_landmarks_{suffix}.txt',
  }
  for word in ('item', 'items'):
    path = anno / f'list_{word}_{suffix}.txt'
    if path.is_file():
      paths['items'] = path
  attributes = {
    'attribute_names': anno / 'list_attr_cloth.txt',
    'attributes': anno / 'list_attr_items.txt',
  }
  return complete(paths, attributes)
