"""Photos of users: finding the files, and reading them for the networks.

A photo is read as a viewer shows it: upright as its EXIF data say, transparent
parts over white. Positions on it are x, y in pixels from the top-left corner of
the photo as shown.
"""

import glob
import os
import pathlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from fld_jax import schema
from fld_jax.errors import InputError, printable
from fld_jax.files import coco
from fld_jax.files.images import (
  UNREAD_ENDINGS,
  endings,
  opened_file,
  read,
  shown,
  to_rgb,
)

# What users may give as a photo: a path, or the decoded image.
Photo = str | os.PathLike | Image.Image | np.ndarray
MIN_BOX_SIDE = 2  # pixels a side of an item's box
OVERLAYS = 'overlays'  # the folder of drawn pictures below an output folder
# Files called ._NAME that macOS writes beside NAME, and their first bytes.
APPLE_DOUBLE = 'of macOS (._*)'
APPLE_DOUBLE_START = b'\x00\x05\x16\x07'
MAX_KINDS = 5  # kinds of files that are named among those left out


class Found(NamedTuple):
  """The image files that a user names.

  Attributes:
    root: The folder that the names begin at.
    names: The names of the files below `root`, sorted.
    failures: What could not be looked into, (name of a folder, reason) each.
    left_out: Kind of file -> number of files that are no photos.
  """

  root: pathlib.Path
  names: list[str]
  failures: list[tuple[str, str]]
  left_out: Counter[str]


def find(images: str, output: pathlib.Path | None = None) -> Found:
  """Finds the image files that a user names.

  Args:
    images: A file; a folder, which stands for all files in and below it with
      the ending of an image; or a glob pattern ('**' for any folders).
    output: The folder that results are written to; what lies below it is no
      photo, nor are the overlays of an earlier prediction.

  Returns:
    What was found. A file with the ending of an image is among it whatever it
    is; what is wrong with it is found when it is read.

  Raises:
    InputError: The names lead to no image file.
  """
  path = pathlib.Path(images).expanduser()
  if path.is_dir():
    return _in_folder(path, images, output)
  # A name may hold what looks like a pattern, and then the file counts.
  if os.path.lexists(path):
    return Found(path.parent, [path.name], [], Counter())
  # The folder before the first wildcard.
  root = pathlib.Path(re.split(r'[*?\[]', str(path))[0] + 'x').parent
  walk = _Walk(root, output)
  if '**' in str(path) and root.is_dir():
    walk.look()  # glob passes by the folders that it may not read
    walk.left_out.clear()
  files, seen = [], set()
  # Short ones first: a link to a folder above gives a file many longer names.
  for name in sorted(glob.glob(str(path), recursive=True), key=len):
    file = pathlib.Path(name)
    real = os.path.join(_real(file.parent), file.name)
    if file.is_dir() or real in seen or walk.is_drawn(file.parent):
      continue
    seen.add(real)
    ending = file.suffix.lower()
    if _is_apple_double(file):
      walk.left_out[APPLE_DOUBLE] += 1
    elif _is_image(ending) or (
      str(path).lower().endswith(ending) and file.is_file()
    ):
      files.append(file)  # a pattern with a file's own ending names it, too
    else:
      walk.left_out[ending] += 1
  if not files:
    raise InputError(
      f'--images={printable(images)}: is neither a file nor a folder, and as a '
      f'pattern it matches no file.{_and_others(walk.left_out)}'
    )
  names = sorted(file.relative_to(root).as_posix() for file in files)
  return Found(root, names, sorted(walk.failures), walk.left_out)


def _in_folder(
  root: pathlib.Path, images: str, output: pathlib.Path | None
) -> Found:
  """All image files in and below a folder."""
  walk = _Walk(root, output)
  walk.look()
  if not walk.names and not walk.failures:
    raise InputError(
      f'--images={printable(images)}: the folder holds no file with the ending '
      f'of an image.{_and_others(walk.left_out)}'
    )
  if not walk.names:
    name, why = min(walk.failures)
    raise InputError(f'--images={printable(images)}, {printable(name)}: {why}')
  return Found(root, sorted(walk.names), sorted(walk.failures), walk.left_out)


def _and_others(left_out: Counter[str]) -> str:
  return f' It holds {describe(left_out)}.' if left_out else ''


def describe(left_out: Counter[str]) -> str:
  """What was left out, in words: '2 files .pdf, 1 file of macOS (._*)'.

  Args:
    left_out: The counts of `Found`.
  """
  words = [
    f'{count} {"file" if count == 1 else "files"} {kind}'
    for kind, count in left_out.most_common(MAX_KINDS)
  ]
  rest = sum(left_out.values()) - sum(
    count for _, count in left_out.most_common(MAX_KINDS)
  )
  return ', '.join(words + [f'{rest} of other kinds'] * bool(rest))


class _Walk:
  """A walk through a folder and all folders below it, links followed once.

  Attributes:
    names: The names of image files, as paths below the root.
    failures: (name of a folder, reason) of each that could not be looked into.
    left_out: Kind of file -> number of files that are no photos.
  """

  def __init__(self, root: pathlib.Path, output: pathlib.Path | None):
    self._root, self._output = root, None
    if output is not None:
      here, there = _real(root), _real(output)
      below = there != here and there.startswith(os.path.join(here, ''))
      # Where photos lie in the output folder itself, its overlays are no
      # photos, unless they are what is asked for.
      self._output = there if below else os.path.join(there, OVERLAYS)
      if (here + os.sep).startswith(self._output + os.sep):
        self._output = None
    self.names: list[str] = []
    self.failures: list[tuple[str, str]] = []
    self.left_out: Counter[str] = Counter()

  def look(self) -> None:
    """Walks through all folders."""
    seen = set()
    # Links to folders last: what lies in the folder by itself keeps its name.
    folders, links = [''], []
    while folders or links:
      name = folders.pop() if folders else links.pop(0)
      folder = self._root / name
      try:
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in seen or self.is_drawn(folder):
          continue
        seen.add((stat.st_dev, stat.st_ino))
        with os.scandir(folder) as entries:
          for entry in sorted(entries, key=lambda entry: entry.name):
            below = f'{name}/{entry.name}' if name else entry.name
            if not _is_folder(entry):
              self._add(below, entry.name)
            elif entry.is_symlink():
              links.append(below)
            else:
              folders.append(below)
      except OSError as error:
        why = f'this folder cannot be read ({error.strerror})'
        self.failures.append((name or '.', why))

  def is_drawn(self, folder: pathlib.Path) -> bool:
    """Whether the pictures of a folder are what a prediction drew.

    Args:
      folder: The path of the folder.
    """
    if self._output is not None:
      real = _real(folder) + os.sep
      if real.startswith(self._output + os.sep):
        return True
    inside = folder.relative_to(self._root).parts
    return any(
      part == OVERLAYS
      and (self._root.joinpath(*inside[:depth]) / 'predictions.json').is_file()
      for depth, part in enumerate(inside)
    )

  def _add(self, name: str, file: str) -> None:
    ending = os.path.splitext(file)[1].lower()
    if not _is_image(ending):
      self.left_out[ending or 'without an ending'] += 1
    elif _is_apple_double(self._root / name):
      self.left_out[APPLE_DOUBLE] += 1
    else:
      self.names.append(name)


def _is_image(ending: str) -> bool:
  """Whether an ending is an image's, be it one that is read or not."""
  return ending in endings() or ending in UNREAD_ENDINGS


def _is_folder(entry: os.DirEntry) -> bool:
  try:
    return entry.is_dir()
  except OSError:  # a link that leads to itself; reading it will say
    return False


def _real(path: pathlib.Path) -> str:
  return os.path.realpath(path).rstrip(os.sep)


def _is_apple_double(path: pathlib.Path) -> bool:
  """Whether a file holds what macOS keeps beside a photo on foreign disks."""
  if not path.name.startswith('._'):
    return False
  try:
    with opened_file(path, str(path)) as file:
      start = file.read(len(APPLE_DOUBLE_START))
  except (OSError, InputError):
    return False  # whatever it is, reading it will say
  return start == APPLE_DOUBLE_START or not start


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
    return to_rgb(photo, name)
  if not isinstance(photo, Photo):
    raise InputError(
      f'{name}: is of the type {type(photo).__name__}, must be a path, a PIL '
      'image or an array of pixels'
    )
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
    names: Sequence[str] = (),
  ):
    """Keeps references; files are read when a record is asked for.

    Args:
      images: The photo of each item.
      boxes: The box of each item, (4,) x1, y1, x2, y2 in pixels of its photo;
        None stands for the whole photo.
      num_landmarks: N, the number of landmarks of the landmark set.
      types: The clothes type code of each item, 0 where it is not known; None
        if no type is known.
      names: What messages call the photos; by default paths and numbers.
    """
    self._images, self._boxes, self._names = images, boxes, names
    self._types = types if types is not None else [0] * len(images)
    self._num_landmarks = num_landmarks
    self.failures: dict[int, str] = {}

  def __len__(self) -> int:
    return len(self._images)

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

  def name(self, i: int) -> str:
    """What messages call an item's photo.

    Args:
      i: The item's index.
    """
    if self._names:
      return self._names[i]
    photo = self._images[i]
    if isinstance(photo, str | os.PathLike):
      return shown(photo)
    return f'image {i}'

  def _read(self, i: int) -> tuple[np.ndarray, np.ndarray]:
    name = self.name(i)
    image = to_array(self._images[i], name)
    height, width = image.shape[:2]
    box = self._boxes[i]
    if box is None:
      box = np.array([0, 0, width, height])
    try:
      box = np.asarray(box, np.float64)
    except (TypeError, ValueError):
      given = printable(repr(box))
      raise InputError(
        f'{name}, box: is {given}, must be x1, y1, x2, y2'
      ) from None
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
