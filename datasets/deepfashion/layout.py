"""What the layouts of DeepFashion share: finding, hashing and checking."""

import codecs
import hashlib
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fld_jax import landmark_sets
from fld_jax.datasets.common.rows import Row
from fld_jax.datasets.deepfashion import lists
from fld_jax.errors import InputError
from fld_jax.files.images import file_state, image_size
from fld_jax.files.inside import inside
from fld_jax.files.text_lists import error

# How far positions may lie outside the image before they count as mistakes.
# In 6,000 real rows no box (1 <= x_1, x_2 <= width) and none of 31,557
# landmarks (1 <= x <= width - 1; y alike) is outside, but 468 boxes touch the
# right and 1,116 the lower border: two pixels leave room for counting from 0
# or 1 and for rounding. Hidden landmarks may be estimated beyond the border,
# so a landmark is refused only where nobody can have meant it.
BOX_TOLERANCE = 2.0  # pixels
LANDMARK_TOLERANCE = 0.1  # of the image's longer side
# Folders of images, which may be links to folders elsewhere.
IMAGE_FOLDERS = ('Img', 'Img/img', 'img')


def existing_folder(manual_dir, holds: str = 'Img/, Anno/ and Eval/') -> Path:
  """The folder; InputError, which says what it must hold, if there is none."""
  root = Path(manual_dir)
  if not root.is_dir():
    raise InputError(
      f'{root}: there is no such folder; it must hold {holds}', 'missing'
    )
  return root


def complete(
  paths: dict[str, Path], attributes: dict[str, Path], hint: str = ''
) -> dict[str, Path]:
  """The paths, with those of the attributes if one of them is there.

  Args:
    paths: of lists that there must be, by what they hold.
    attributes: of lists of which there must be all or none.
    hint: the end of the message.

  Raises:
    InputError: naming all lists that are missing.
  """
  if any(path.is_file() for path in attributes.values()):
    paths = paths | attributes
  missing = {key: path for key, path in paths.items() if not path.is_file()}
  if missing:
    rule = ' (have all lists of attributes or none)'
    raise InputError(
      f'{", ".join(map(str, missing.values()))}: missing, each must be an '
      f'annotation file{rule if missing.keys() & attributes else ""}{hint}',
      'missing',
    )
  return paths


def image_path(manual_dir, image):
  """Below Img/, or below the folder itself if only there is such a file."""
  return os.path.join(_image_folder(manual_dir, image), image)


def _image_folder(manual_dir, image: str) -> str:
  """The folder that an image's name is relative to."""
  folder = os.path.join(manual_dir, 'Img')
  if os.path.exists(os.path.join(folder, image)):
    return folder
  direct = os.path.exists(os.path.join(manual_dir, image))
  return os.fspath(manual_dir) if direct else folder


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
      raise error(path, line, lists.BOX_FIELDS[i + 2], problem, 'box')
    for field, value in zip(lists.BOX_FIELDS[i::2], (low, high), strict=True):
      if not -BOX_TOLERANCE <= value <= size[i] + BOX_TOLERANCE:
        problem = (
          f'is {value:g}, must be from 0 to {size[i]}, the {axis} of the '
          f'image, give or take {BOX_TOLERANCE:g}'
        )
        raise error(path, line, field, problem, 'box')


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
        raise error(path, line, field, problem, 'landmark')


def attribute_names(paths, header=lists.NAME_HEADER) -> list[str]:
  """The names in the list `attribute_names` of the paths; [] without it.

  Args:
    paths: of the lists by what they hold.
    header: see `lists.read_names`.

  Raises:
    InputError: the first mistake in the list.
  """
  if 'attribute_names' not in paths:
    return []
  return lists.read_names(paths['attribute_names'], header)['names']


def digest_of(
  manual_dir,
  paths: Iterable[Path],
  partitions: Iterable[Path],
  start: int = 2,
  images: int = 1,
) -> str:
  """16 hex digits of the lists' bytes and the images' states.

  Args:
    manual_dir: the folder.
    paths: of all lists.
    partitions: those of them that say which images there are.
    start: index of a partition's first row.
    images: how many of a row's first fields are images.

  Returns:
    Digits that change when a list or a listed image's size or time does.
  """
  digest = hashlib.sha256()
  for path in paths:
    with path.open('rb') as file:
      digest.update(path.name.encode())
      digest.update(hashlib.file_digest(file, 'sha256').digest())
  for path in partitions:
    with path.open('rb') as file:
      for raw in itertools.islice(file, start, None):
        fields = raw.removeprefix(codecs.BOM_UTF8).split(maxsplit=images)
        for name in fields[:images]:
          image = os.fsdecode(name)
          digest.update(file_state(image_path(manual_dir, image), image))
  return digest.hexdigest()[:16]


def checked_row(
  manual_dir,
  paths,
  image: str,
  split,
  box,
  landmarks,
  attributes=None,
  item_id: str = '',
  field: str = 'image_name',
  slots: Sequence[int] | None = None,
) -> Row:
  """Checks the positions of an image by the header of its file.

  Args:
    manual_dir: the folder.
    paths: of the lists: `split`, `box`, `landmarks`.
    image: as the lists name it.
    split: (line, split).
    box: (line, (codes, box)) as `lists.read_boxes` yields it.
    landmarks: likewise of `lists.read_landmarks`.
    attributes: (line, (A,) int8), if there are any.
    item_id: of the garment, if known.
    field: the image's column in the list `split`.
    slots: that a row of the list `landmarks` has, in its order; by default
      those of its clothes type.

  Returns:
    The image's row.

  Raises:
    InputError: naming the file, the line and the field.
  """
  place = f'{paths["split"]}, line {split[0]}, {field}'
  roots = [os.path.join(manual_dir, name) for name in (*IMAGE_FOLDERS, '')]
  path = inside(_image_folder(manual_dir, image), image, place, roots)
  size = image_size(path, place, ('JPEG',))
  line, (_, corners) = box
  check_box(paths['box'], line, corners, size)
  line, (clothes_type, variation, visibility, points) = landmarks
  slots = list(slots or landmark_sets.FASHION_8.slots[clothes_type])
  check_landmarks(paths['landmarks'], line, points[slots], size)
  return Row(
    id=image,
    path=path,
    place=place,
    split=split[1],
    clothes_type=clothes_type,
    variation=variation,
    box=np.array(corners, np.float32),
    landmarks=points,
    visibility=visibility,
    item_id=item_id,
    attributes=attributes[1] if attributes else np.zeros(0, np.int8),
  )
