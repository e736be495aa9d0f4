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

The second one's pairs are of a consumer's photo and a shop's. An image that is
in many pairs is one row: val and test are the consumers' photos, which the
benchmark queries with; the shops' photos of val and test are `gallery`. Where
two pairs contradict each other on an image, the later one is the mistake.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
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
    suffix: of the names of its own lists.
    read_partition: reads list_eval_partition.txt, see `shop_lists`.
    column: of the images there, for messages.
    images: how many images a row there has.
    code: the column before the box, beside clothes_type.
    codes: its valid integers.
    names: the header of list_attr_cloth.txt.
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
  manual_dir, name: str, findings: Findings | None = None
) -> Iterator[Row]:
  """Reads and checks a folder; of the images only the headers.

  Args:
    manual_dir: folder in a layout above.
    name: 'in_shop' or 'consumer_to_shop'.
    findings: gets the mistakes, by default the first one is raised; and how
      many images of consumer_to_shop are left out because they are in no pair.

  Yields:
    One row an image, in the order of list_eval_partition.txt.

  Raises:
    InputError: the first mistake, with its file, line and field; with other
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


def _fill(tables: JoinedLists, paths, name: str, findings: Findings) -> None:
  """Reads all lists: `split`, `box`, `landmarks`, `items`, `attributes`."""
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
  manual_dir, paths, tables: JoinedLists, image: str, split, box, landmarks
) -> Row | None:
  """The row of an image; the last three are (line, value) of a list.

  None if the attributes of its item are a mistake that is known.
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


def _check_codes(paths, image: str, split, box, landmarks) -> None:
  """Refuses codes that contradict another list; arguments as of `_row`."""
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


def read_attribute_names(manual_dir, name: str) -> list[str]:
  """Names of the A attributes in the rows' order; [] without the two lists.

  Those of consumer_to_shop are the English ones.
  """
  paths = annotation_paths(manual_dir, name)
  return attribute_names(paths, LAYOUTS[name].names)


def content_digest(manual_dir, name: str) -> str:
  """16 hex digits that change when a list or a listed image's file changes.

  Checks nothing but that the folder and the lists exist (InputError).
  """
  paths = annotation_paths(manual_dir, name)
  images = LAYOUTS[name].images
  return digest_of(manual_dir, paths.values(), [paths['split']], images=images)


def annotation_paths(manual_dir, name: str) -> dict[str, Path]:
  """Paths of the lists by what they hold; items, attributes where present.

  Raises:
    InputError: the folder or a list is missing.
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
