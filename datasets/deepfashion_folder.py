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

import hashlib
import os
from pathlib import Path

import numpy as np

from fld_jax import schema
from fld_jax.datasets import deepfashion_lists as lists
from fld_jax.datasets.rows import Row, file_state, image_size
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


def read_annotations(manual_dir) -> list[Row]:
  """Reads and checks a whole folder; of the images only the headers.

  Args:
    manual_dir: folder in the layout above.

  Returns:
    One row an image, in the order of list_eval_partition.txt.

  Raises:
    InputError: the first mistake, with its file, line and field.
  """
  paths = annotation_paths(manual_dir)
  splits = lists.read_splits(paths['split'])
  boxes = lists.read_boxes(paths['box'])
  landmarks = lists.read_landmarks(paths['landmarks'])
  tables = {'box': boxes, 'landmarks': landmarks}
  if 'attributes' in paths:
    names = read_attribute_names(manual_dir)
    tables['attributes'] = lists.read_attributes(
      paths['attributes'], len(names)
    )
  for key, table in tables.items():
    _check_same_images(paths['split'], splits, paths[key], table)

  attributes = tables.get('attributes', {})
  no_attributes = 0, np.zeros(0, np.int8)
  rows = []
  for image, (line, split) in splits.items():
    path = _image_path(manual_dir, image)
    listed = f'{paths["split"]}, line {line}, image_name'
    size = image_size(path, listed, ('JPEG',))
    _check_box(paths['box'], *boxes[image], size)
    line, (clothes_type, variation, visibility, points) = landmarks[image]
    slots = schema.FASHION_8.slots[clothes_type]
    _check_landmarks(paths['landmarks'], line, points[list(slots)], size)
    rows.append(
      Row(
        id=image,
        path=path,
        place=listed,
        split=split,
        clothes_type=clothes_type,
        variation=variation,
        box=np.array(boxes[image][1], np.float32),
        landmarks=points,
        visibility=visibility,
        attributes=attributes.get(image, no_attributes)[1],
      )
    )
  return rows


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
    for raw in list(file)[2:]:
      if not raw.strip():
        continue
      image = os.fsdecode(raw.split(maxsplit=1)[0])
      digest.update(file_state(_image_path(manual_dir, image), image))
  return digest.hexdigest()[:16]


def annotation_paths(manual_dir) -> dict[str, Path]:
  """Paths of the lists by what they hold; attributes only where present.

  Raises:
    InputError: the folder or a list is missing.
  """
  root = Path(manual_dir)
  if not root.is_dir():
    raise InputError(
      f'{root}: there is no such folder; it must hold Img/, Anno/ and Eval/'
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
  for key, path in paths.items():
    if not path.is_file():
      hint = ' (have both attribute lists or neither)' * (key in attributes)
      raise InputError(f'{path}: this annotation file is missing{hint}')
  return paths


def _check_same_images(path, table, other_path, other_table):
  for here, images, there, others in (
    (path, table, other_path, other_table),
    (other_path, other_table, path, table),
  ):
    for image, (line, _) in images.items():
      if image not in others:
        problem = f"'{image}' has no row in {there}, must be in both lists"
        raise lists.error(here, line, 'image_name', problem)


def _image_path(manual_dir, image):
  """Below Img/, or below the folder itself if only there is such a file."""
  path = os.path.join(manual_dir, 'Img', image)
  if os.path.exists(path):
    return path
  direct = os.path.join(manual_dir, image)
  return direct if os.path.exists(direct) else path


def _check_box(path, line, box, size):
  for i, axis in enumerate(('width', 'height')):
    low, high = box[i], box[i + 2]
    if high <= low:
      problem = (
        f'is {high:g}, must be greater than {lists.BOX_FIELDS[i]} = {low:g}'
      )
      raise lists.error(path, line, lists.BOX_FIELDS[i + 2], problem)
    for field, value in zip(lists.BOX_FIELDS[i::2], (low, high), strict=True):
      if not -BOX_TOLERANCE <= value <= size[i] + BOX_TOLERANCE:
        problem = (
          f'is {value:g}, must be from 0 to {size[i]}, the {axis} of the '
          f'image, give or take {BOX_TOLERANCE:g}'
        )
        raise lists.error(path, line, field, problem)


def _check_landmarks(path, line, points, size):
  tolerance = LANDMARK_TOLERANCE * max(size)
  for i, point in enumerate(points.tolist(), 1):
    for j, axis in enumerate(('width', 'height')):
      if not -tolerance <= point[j] <= size[j] + tolerance:
        field = f'{lists.LANDMARK_FIELDS[1 + j]}_{i}'
        problem = (
          f'is {point[j]:g}, must be from 0 to {size[j]}, the {axis} of the '
          f'image, give or take {tolerance:g}'
        )
        raise lists.error(path, line, field, problem)
