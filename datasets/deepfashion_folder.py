"""A folder in DeepFashion's Category and Attribute layout, read and checked.

The layout, of the official release and of a folder of one's own:

  Img/img/<folder>/img_00000001.jpg   or img/... without the folder Img; FLD's
                                      lie flat, Img/img_00000001.jpg
  Anno/list_bbox.txt                  or in Anno_coarse/, Anno_fine/
  Anno/list_landmarks.txt
  Anno/list_attr_cloth.txt, Anno/list_attr_img.txt   both, or neither
  Eval/list_eval_partition.txt        train, val, test: any subset of them

FLD's Anno/list_joints.txt is not read.

deepfashion_lists.py has the form of the lists. Positions pass into the rows as
they stand, unclipped.
"""

import functools
import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fld_jax import schema
from fld_jax.datasets import deepfashion_lists as lists
from fld_jax.datasets.rows import Findings, Row, file_state, image_size
from fld_jax.datasets.tables import Tables
from fld_jax.errors import InputError

ANNO_FOLDERS = ('Anno', 'Anno_coarse', 'Anno_fine')

# How far positions may lie outside the image before they count as mistakes.
# In 6,000 real rows no box (1 <= x_1, x_2 <= width) and none of 31,557
# landmarks (1 <= x <= width - 1; y alike) is outside, but 468 boxes touch the
# right and 1,116 the lower border: two pixels leave room for counting from 0
# or 1 and for rounding. Hidden landmarks may be estimated beyond the border,
# so a landmark is refused only where nobody can have meant it.
BOX_TOLERANCE = 2.0  # pixels
LANDMARK_TOLERANCE = 0.1  # of the image's longer side


def read_annotations(
  manual_dir, findings: Findings | None = None
) -> Iterator[Row]:
  """Reads and checks a whole folder; of the images only the headers.

  Args:
    manual_dir: folder in the layout above.
    findings: gets the mistakes; by default the first one is raised.

  Yields:
    One row an image, in the order of list_eval_partition.txt.

  Raises:
    InputError: the first mistake, with its file, line and field; with other
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
      num_attributes=len(read_attribute_names(manual_dir)),
    ),
  }
  with Tables() as tables:
    for key, read in readers.items():
      if key in paths:
        rows = read(paths[key], findings=findings)
        tables.add(key, paths[key], rows, findings)
    for key in readers:
      if key in paths and key != 'split':
        tables.check_same_names('split', key, findings)
    for image, cells in tables.join():
      try:
        row = _row(manual_dir, paths, image, **cells)
      except InputError as mistake:
        findings.mistake(mistake)
      else:
        yield row


def _row(
  manual_dir, paths, image: str, split, box, landmarks, attributes=None
) -> Row:
  """The row of an image; each argument is (line, value) of a list."""
  path = image_path(manual_dir, image)
  place = f'{paths["split"]}, line {split[0]}, image_name'
  size = image_size(path, place, ('JPEG',))
  check_box(paths['box'], *box, size)
  line, (clothes_type, variation, visibility, points) = landmarks
  slots = list(schema.FASHION_8.slots[clothes_type])
  check_landmarks(paths['landmarks'], line, points[slots], size)
  return Row(
    id=image,
    path=path,
    place=place,
    split=split[1],
    clothes_type=clothes_type,
    variation=variation,
    box=np.array(box[1], np.float32),
    landmarks=points,
    visibility=visibility,
    attributes=attributes[1] if attributes else np.zeros(0, np.int8),
  )


def read_attribute_names(manual_dir) -> list[str]:
  """Names of the A attributes in the rows' order; [] without the two lists."""
  path = annotation_paths(manual_dir).get('attribute_names')
  if path is None:
    return []
  return lists.read_names(path)


def content_digest(manual_dir) -> str:
  """16 hex digits that change when a list or a listed image's file changes.

  Hashes the lists' bytes and each image's name, size and modification time.
  Checks nothing but that the folder and the lists exist (InputError).
  """
  digest = hashlib.sha256()
  paths = annotation_paths(manual_dir)
  for path in paths.values():
    with path.open('rb') as file:
      digest.update(path.name.encode())
      digest.update(hashlib.file_digest(file, 'sha256').digest())
  with paths['split'].open('rb') as file:
    for raw in itertools.islice(file, 2, None):
      if not raw.strip():
        continue
      image = os.fsdecode(raw.split(maxsplit=1)[0])
      digest.update(file_state(image_path(manual_dir, image), image))
  return digest.hexdigest()[:16]


def annotation_paths(manual_dir) -> dict[str, Path]:
  """Paths of the lists by what they hold; attributes only where present.

  Raises:
    InputError: the folder or a list is missing.
  """
  root = Path(manual_dir)
  if not root.is_dir():
    raise InputError(
      f'{root}: there is no such folder; it must hold Img/, Anno/ and Eval/',
      'missing',
    )
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
  if any(path.is_file() for path in attributes.values()):
    paths |= attributes
  missing = {key: path for key, path in paths.items() if not path.is_file()}
  if missing:
    hint = ' (have both attribute lists or neither)'
    raise InputError(
      f'{", ".join(map(str, missing.values()))}: missing, each must be an '
      f'annotation file{hint if missing.keys() & attributes else ""}',
      'missing',
    )
  return paths


def image_path(manual_dir, image):
  """Below Img/, or below the folder itself if only there is such a file."""
  path = os.path.join(manual_dir, 'Img', image)
  if os.path.exists(path):
    return path
  direct = os.path.join(manual_dir, image)
  return direct if os.path.exists(direct) else path


def check_box(path, line: int, box, size) -> None:
  """Refuses a box (x1, y1, x2, y2) that is empty or outside of the image.

  Args:
    path: of the list.
    line: of the row.
    box: in pixels.
    size: (width, height) of the image.

  Raises:
    InputError: naming the field.
  """
  for i, axis in enumerate(('width', 'height')):
    low, high = box[i], box[i + 2]
    if high <= low:
      problem = (
        f'is {high:g}, must be greater than {lists.BOX_FIELDS[i]} = {low:g}'
      )
      raise lists.error(path, line, lists.BOX_FIELDS[i + 2], problem, 'box')
    for field, value in zip(lists.BOX_FIELDS[i::2], (low, high), strict=True):
      if not -BOX_TOLERANCE <= value <= size[i] + BOX_TOLERANCE:
        problem = (
          f'is {value:g}, must be from 0 to {size[i]}, the {axis} of the '
          f'image, give or take {BOX_TOLERANCE:g}'
        )
        raise lists.error(path, line, field, problem, 'box')


def check_landmarks(path, line: int, points, size) -> None:
  """Refuses landmarks far outside of the image; arguments as `check_box`.

  Args:
    path: of the list.
    line: of the row.
    points: (n, 2) in pixels, in the order of the row's triples.
    size: (width, height) of the image.

  Raises:
    InputError: naming the field.
  """
  tolerance = LANDMARK_TOLERANCE * max(size)
  for i, point in enumerate(points.tolist(), 1):
    for j, axis in enumerate(('width', 'height')):
      if not -tolerance <= point[j] <= size[j] + tolerance:
        field = f'{lists.LANDMARK_FIELDS[1 + j]}_{i}'
        problem = (
          f'is {point[j]:g}, must be from 0 to {size[j]}, the {axis} of the '
          f'image, give or take {tolerance:g}'
        )
        raise lists.error(path, line, field, problem, 'landmark')
