"""Image files as people have them, as what the networks can be shown.

A photo is shown as a viewer shows it: turned as its EXIF data say, what is
transparent in white. Positions on it count from the top-left corner of that.
"""

import glob
import pathlib
import re

import numpy as np
from PIL import Image

from fld_jax import schema
from fld_jax.errors import InputError
from fld_jax.files import coco
from fld_jax.files.images import read, to_rgb

SMALLEST = 2  # pixels a side, of an image or a box


def find(images: str) -> tuple[pathlib.Path, list[str]]:
  """The image files that a user names.

  Args:
    images: a file, a folder (of which all files below count whose endings
      Pillow knows), or a glob pattern ('**' for any folders).

  Returns:
    (root, names): the files are root / name, the names sorted.

  Raises:
    InputError: if there are none.
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
        f'--images={images}: the folder has no image, of its endings Pillow '
        'knows none.'
      )
    root = path
  else:
    found = map(pathlib.Path, glob.glob(str(path), recursive=True))
    files = sorted(file for file in found if file.is_file())
    if not files:
      raise InputError(
        f'--images={images}: is no file, no folder, and as a pattern fits no '
        'file.'
      )
    # The folder before the first wildcard.
    plain = re.split(r'[*?\[]', str(path))[0]
    root = pathlib.Path(plain + 'x').parent
  return root, [file.relative_to(root).as_posix() for file in files]


class Items:
  """Items on photos, as a source of records for `input_pipeline`.

  An item whose image or box cannot be used is a record marked as corrupt.

  Attributes:
    failures: place of an item -> what is wrong with it, of those asked for.
  """

  def __init__(self, images, boxes, num_landmarks: int, types=None):
    """Keeps references; files are read when asked for.

    Args:
      images: of each item a path, a PIL.Image or (H, W, 3) uint8 RGB.
      boxes: of each item (4,) x1, y1, x2, y2 in image pixels; None: the whole
        image.
      num_landmarks: N.
      types: of each item the code of its clothes type, 0 where not known.
    """
    self._images, self._boxes = images, boxes
    self._types = types if types is not None else [0] * len(images)
    self._num_landmarks = num_landmarks
    self.failures: dict[int, str] = {}

  def __len__(self) -> int:
    return len(self._images)

  def part(self, start: int, stop: int) -> 'Items':
    """The items from start up to stop; it has failures of its own."""
    cut = slice(start, stop)
    return Items(
      self._images[cut], self._boxes[cut], self._num_landmarks, self._types[cut]
    )

  def __getitem__(self, i) -> dict:
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
    image, name = self._images[i], f'image {i}'
    if isinstance(image, Image.Image):
      image = to_rgb(image, name)
    elif isinstance(image, np.ndarray):
      if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(
          f'{name}: is {image.dtype} of shape {image.shape}, must be uint8 of '
          'shape (H, W, 3)'
        )
    else:
      image, name = read(image), str(image)
    height, width = image.shape[:2]
    box = self._boxes[i]
    if box is None:
      box = np.array([0, 0, width, height])
    box = np.asarray(box, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all():
      raise InputError(f'{name}, box: is {box}, must be x1, y1, x2, y2')
    if min(box[2:] - box[:2]) < SMALLEST:
      size = ' x '.join(f'{side:g}' for side in box[2:] - box[:2])
      raise InputError(
        f'{name}, box: is {size} pixels, must be at least {SMALLEST} x '
        f'{SMALLEST} to show an item'
      )
    coco.check_box(name, 'box', box, (width, height))
    return image, box
