"""A folder in DeepFashion's Category and Attribute layout, read and checked.

The layout, of the official release and of a folder of one's own:

  Img/img/<folder>/img_00000001.jpg   or img/... without the folder Img; FLD's
                                      lie flat, Img/img_00000001.jpg
  Anno/list_bbox.txt                  or in Anno_coarse/, Anno_fine/ (whose
                                      other files fine.py reads)
  Anno/list_landmarks.txt
  Anno/list_attr_cloth.txt, Anno/list_attr_img.txt   both, or neither
  Eval/list_eval_partition.txt        train, val, test: any subset of them

FLD's Anno/list_joints.txt is not read.

lists.py describes the form of the lists. Positions pass into the rows as they
stand, unclipped.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

from fld_jax.datasets.common.joined_lists import JoinedLists
from fld_jax.datasets.common.rows import SPLITS, Row
from fld_jax.datasets.deepfashion import lists
from fld_jax.datasets.deepfashion.layout import (
  attribute_names,
  checked_row,
  complete,
  digest_of,
  existing_folder,
)
from fld_jax.errors import Findings, InputError

FINE = 'Anno_fine'
ANNO_FOLDERS = ('Anno', 'Anno_coarse', FINE)


def read_annotations(
  manual_dir: str | Path, findings: Findings | None = None
) -> Iterator[Row]:
  """Reads and checks a whole folder; of the images only the headers.

  Args:
    manual_dir: The folder, in the layout that this module describes.
    findings: The collector of mistakes; by default the first one is raised.

  Yields:
    One row an image, in the order of list_eval_partition.txt.

  Raises:
    InputError: The first mistake, with its file, line and field; with other
      findings, only what leaves nothing to read.
  """
  findings = findings or Findings()
  paths = annotation_paths(manual_dir)
  readers = {
    'split': lists.read_splits,
    'box': lists.read_boxes,
    'landmarks': lists.read_landmarks,
    'attributes': functools.partial(
      lists.read_attributes,
      num_attributes=len(attribute_names(paths)),
    ),
  }
  with JoinedLists() as tables:
    for key, read in readers.items():
      if key in paths:
        rows = read(paths[key], findings=findings)
        tables.add(key, paths[key], rows, findings)
    for key in readers:
      if key in paths and key != 'split':
        tables.check_same_names('split', key, findings)
    for image, cells in tables.join():
      try:
        row = checked_row(manual_dir, paths, image, **cells)
      except InputError as mistake:
        findings.mistake(mistake)
      else:
        yield row


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
  return digest_of(manual_dir, paths.values(), [paths['split']])


def annotation_paths(manual_dir: str | Path) -> dict[str, Path]:
  """Finds the lists of a folder.

  Args:
    manual_dir: The folder.

  Returns:
    The contents ('split', 'box', 'landmarks') -> the path of the list; also
    'attribute_names' and 'attributes' where one of these two lists is there.

  Raises:
    InputError: The folder or a list is missing.
  """
  root = existing_folder(manual_dir)
  # The official Anno_fine holds other files: the list decides, not the name.
  folders = [root / name for name in ANNO_FOLDERS]
  present = [folder for folder in folders if folder.is_dir()] or folders
  with_list = [f for f in present if (f / 'list_landmarks.txt').is_file()]
  anno = (with_list or present)[0]
  paths = {
    'split': root / 'Eval' / 'list_eval_partition.txt',
    'box': anno / 'list_bbox.txt',
    'landmarks': anno / 'list_landmarks.txt',
  }
  attributes = {
    'attribute_names': anno / 'list_attr_cloth.txt',
    'attributes': anno / 'list_attr_img.txt',
  }
  hint = ''
  if any((root / FINE / f'{split}.txt').is_file() for split in SPLITS):
    hint = (
      f'; the dataset deepfashion reads the other files in {root / FINE} with '
      '--config.dataset.labels=fine'
    )
  return complete(paths, attributes, hint)
