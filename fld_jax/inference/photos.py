"""Photos of users: finding the files, and reading them for the networks.

A photo is read as a viewer shows it: upright as its EXIF data say, transparent
parts over white. Positions on it are x, y in pixels from the top-left corner of
the photo as shown.
"""

import glob
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from fld_jax import schema
from fld_jax.errors import InputError
from fld_jax.files import coco
from fld_jax.files.images import read, to_rgb

# What users may give as a photo: a path, or the decoded image.
Photo = str | os.PathLike | Image.Image | np.ndarray
MIN_BOX_SIDE = 2  # pixels a side of an item's box


def find(images: str) -> tuple[pathlib.Path, list[str]]:
  """Finds the image files that a user names.

  Args:
    images: A file; a folder, which stands for all files in and below it with an
      ending that Pillow knows; or a glob pattern ('**' for any folders).

  Returns:
    (root, names): the files are root / name, the names sorted.

  Raises:
    InputError: There are no such files.
  """
  path = pathlib.Path(images).expanduser()
  if path.is_file():
    return path.parent, [path.name]
  if path.is_dir():
    endings = Image.registered_extensions()
    files = sorted(
      file for file in path.rglob('*') if file.suffix.lower() in endings
    )
    if not files:
      raise InputError(
        f'--images={images}: the folder holds no file with the ending of an '
        'image that Pillow reads.'
      )
    root = path
  else:
    found = map(pathlib.Path, glob.glob(str(path), recursive=True))
    files = sorted(file for file in found if file.is_file())
    if not files:
      raise InputError(
        f'--images={images}: is neither a file nor a folder, and as a pattern '
        'it matches no file.'
      )
    # The folder before the first wildcard.
    plain = re.split(r'[*?\[]', str(path))[0]
    root = pathlib.Path(plain + 'x').parent
  return root, [file.relative_to(root).as_posix() for file in files]


def to_array(photo: Photo, name: str = 'image') -> np.ndarray:
  """Reads a photo.

  Args:
    photo: A path, a PIL image or an (H, W, 3) uint8 RGB array.
    name: What messages call a photo that has no path.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: The photo cannot be read, or the array has another form.
  """
  if isinstance(photo, Image.Image):
    return to_rgb(photo)
  if not isinstance(photo, np.ndarray):
    return read(photo)
  if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
    raise InputError(
      f'{name}: is {photo.dtype} of shape {photo.shape}, must be uint8 of '
      'shape (H, W, 3)'
    )
  return photo


class Items:
  """Items on photos, as a source of records for `input_pipeline`.

  An item whose photo or box cannot be used is a record marked as corrupt.

  Attributes:
    failures: Index of an item -> what is wrong with it, for the items that were
      read so far.
  """

  def __init__(
    self,
    images: Sequence[Photo],
    boxes: Sequence,
    num_landmarks: int,
    types: Sequence[int] | None = None,
  ):
    """Keeps references; files are read when a record is asked for.

    Args:
      images: The photo of each item.
      boxes: The box of each item, (4,) x1, y1, x2, y2 in pixels of its photo;
        None stands for the whole photo.
      num_landmarks: N, the number of landmarks of the landmark set.
      types: The clothes type code of each item, 0 where it is not known; None
        if no type is known.
    """
    self._images, self._boxes = images, boxes
    self._types = types if types is not None else [0] * len(images)
    self._num_landmarks = num_landmarks
    self.failures: dict[int, str] = {}

  def __len__(self) -> int:
    return len(self._images)

  def part(self, start: int, stop: int) -> 'Items':
    """The items from start up to stop, with `failures` of their own."""
    cut = slice(start, stop)
    return Items(
      self._images[cut], self._boxes[cut], self._num_landmarks, self._types[cut]
    )

  def __getitem__(self, i: int) -> dict:
    i = int(i)
    try:
      image, box = self._read(i)
      corrupt = False
    except InputError as problem:
      self.failures[i] = str(problem)
      image, corrupt = np.zeros((1, 1, 3), np.uint8), True
      box = np.array([0, 0, 1, 1], np.float32)
    return {
      'id': str(i).encode(),
      'image': image,
      'corrupt': corrupt,
      'box': np.asarray(box, np.float32),
      'landmarks': np.zeros((self._num_landmarks, 2), np.float32),
      'visibility': np.full(self._num_landmarks, schema.ABSENT, np.int32),
      'clothes_type': np.int32(self._types[i]),
      'variation': np.int32(0),
      'score': np.float32(1),
      'index': np.int32(i),
    }

  def _read(self, i: int) -> tuple[np.ndarray, np.ndarray]:
    photo, name = self._images[i], f'image {i}'
    image = to_array(photo, name)
    if isinstance(photo, str | os.PathLike):
      name = str(photo)
    height, width = image.shape[:2]
    box = self._boxes[i]
    if box is None:
      box = np.array([0, 0, width, height])
    box = np.asarray(box, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all():
      raise InputError(f'{name}, box: is {box}, must be x1, y1, x2, y2')
    if min(box[2:] - box[:2]) < MIN_BOX_SIDE:
      size = ' x '.join(f'{side:g}' for side in box[2:] - box[:2])
      raise InputError(
        f'{name}, box: is {size} pixels, must be at least {MIN_BOX_SIDE} x '
        f'{MIN_BOX_SIDE} to show an item'
      )
    coco.check_box(name, 'box', box, (width, height))
    return image, box
