"""What the layouts of DeepFashion share: finding, hashing and checking."""

import codecs
import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
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


def existing_folder(
  manual_dir: str | Path, holds: str = 'Img/, Anno/ and Eval/'
) -> Path:
  """The path of a folder that exists.

  Args:
    manual_dir: The folder.
    holds: What the folder must hold, for the message.

  Raises:
    InputError: There is no such folder.
  """
  root = Path(manual_dir)
  if not root.is_dir():
    raise InputError(
      f'{root}: there is no such folder; it must hold {holds}', 'missing'
    )
  return root


def complete(
  paths: dict[str, Path], attributes: dict[str, Path], hint: str = ''
) -> dict[str, Path]:
  """Completes the paths of lists by those of the attributes, if they are there.

  Args:
    paths: The paths of the lists that must be there, by what they hold.
    attributes: The paths of the lists of which all or none must be there, by
      what they hold.
    hint: The end of the message.

  Returns:
    The paths, with those of the attributes if one of them is there.

  Raises:
    InputError: A list is missing; the message names all that are.
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


def image_path(manual_dir: str | Path, image: str) -> str:
  """The path of an image.

  Args:
    manual_dir: The folder.
    image: The image's name in the lists.

  Returns:
    A path below Img/, or below the folder itself if only there is such a file.
  """
  return os.path.join(_image_folder(manual_dir, image), image)


def _image_folder(manual_dir: str | Path, image: str) -> str:
  """The folder that an image's name is relative to: Img/ or the top one."""
  folder = os.path.join(manual_dir, 'Img')
  if os.path.exists(os.path.join(folder, image)):
    return folder
  direct = os.path.exists(os.path.join(manual_dir, image))
  return os.fspath(manual_dir) if direct else folder


def check_box(
  path: Path, line: int, box: Sequence[float], size: tuple[int, int]
) -> None:
  """Refuses a box that is empty or reaches out of the image.

  Args:
    path: The path of the list.
    line: The number of the row's line.
    box: The sides x1, y1, x2, y2 in image pixels.
    size: (width, height) of the image in pixels.

  Raises:
    InputError: A side is not valid; the message names its field.
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


def check_landmarks(
  path: Path, line: int, points: np.ndarray, size: tuple[int, int]
) -> None:
  """Refuses landmarks far outside of the image.

  Args:
    path: The path of the list.
    line: The number of the row's line.
    points: (n, 2) x, y in image pixels, in the order of the row's triples.
    size: (width, height) of the image in pixels.

  Raises:
    InputError: A coordinate is too far outside; the message names its field.
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


def attribute_names(
  paths: Mapping[str, Path], header: Sequence[str] = lists.NAME_HEADER
) -> list[str]:
  """Reads the names of the attributes.

  Args:
    paths: The paths of the lists by what they hold.
    header: The column names of the list, see `lists.read_names`.

  Returns:
    The names of the A attributes in the order of the rows' attributes; [] if
    there is no path `attribute_names`.

  Raises:
    InputError: The first mistake in the list.
  """
  if 'attribute_names' not in paths:
    return []
  return lists.read_names(paths['attribute_names'], header)['names']


# The groups of attributes by the largest number of a type: those of the
# benchmark's 1000 attributes, and those of the 26 in Anno_fine.
ATTRIBUTE_GROUPS = {
  5: ('texture', 'fabric', 'shape', 'part', 'style'),
  6: ('texture', 'sleeve', 'length', 'neckline', 'fabric', 'fit'),
}


def attribute_groups(paths: Mapping[str, Path]) -> list[str]:
  """Reads the groups of the attributes.

  Args:
    paths: The paths of the lists by what they hold.

  Returns:
    The group of each attribute, of ATTRIBUTE_GROUPS, or 'type N' if the types
    of the list are others; [] if there is no path `attribute_names`.

  Raises:
    InputError: The first mistake in the list.
  """
  if 'attribute_names' not in paths:
    return []
  types = lists.read_names(paths['attribute_names'])['types']
  known = ATTRIBUTE_GROUPS.get(max(types, default=0))
  if known is None or min(types) < 1:
    return [f'type {number}' for number in types]
  return [known[number - 1] for number in types]


def digest_of(
  manual_dir: str | Path,
  paths: Iterable[Path],
  partitions: Iterable[Path],
  start: int = 2,
  images: int = 1,
) -> str:
  """A digest of the lists' bytes and the images' sizes and times.

  Args:
    manual_dir: The folder.
    paths: The paths of all lists.
    partitions: The paths of the lists that say which images there are.
    start: The index of the first line of a partition that is a row.
    images: The number of a row's first fields that are images.

  Returns:
    16 hex digits that change when a list or a listed image's size or time does.
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
  manual_dir: str | Path,
  paths: Mapping[str, Path],
  image: str,
  split: tuple[int, str],
  box: tuple[int, tuple],
  landmarks: tuple[int, tuple],
  attributes: tuple[int, np.ndarray] | None = None,
  item_id: str = '',
  field: str = 'image_name',
  slots: Sequence[int] | None = None,
) -> Row:
  """Makes a row, and checks its positions by the header of the image file.

  Args:
    manual_dir: The folder.
    paths: The paths of the lists `split`, `box` and `landmarks`.
    image: The image's name in the lists.
    split: (line number, split).
    box: (line number, (codes, box)), the value that `lists.read_boxes` yields.
    landmarks: (line number, (clothes type, variation, codes, points)), the
      value that `lists.read_landmarks` yields.
    attributes: (line number, (A,) int8); None if there are none.
    item_id: The name of the garment; '' if not known.
    field: The image's column in the list `split`.
    slots: The slots that a row of the list `landmarks` has, in its order; by
      default those of its clothes type.

  Returns:
    The image's row.

  Raises:
    InputError: The image or a position is not valid; the message names the
      file, the line and the field.
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
