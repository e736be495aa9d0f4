"""Annotated objects as every reader of a folder yields them, with images."""

import dataclasses
import io
import os

import numpy as np
from PIL import Image

from fld_jax.errors import InputError, shown

SPLITS = ('train', 'val', 'test')  # of most datasets
MAX_PIXELS = 89_478_485  # of an image; Pillow warns at this, and goes on


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Row:
  """One annotated object; positions in image pixels (x, y).

  Attributes:
    id: unique and stable.
    path: the image file.
    place: what messages about the image begin with.
    split: 'train' or another of the dataset's.
    box: (4,) float32, x1 y1 x2 y2.
    landmarks: (N, 2) float32.
    visibility: (N,) int32, codes of schema.
    clothes_type, variation: codes, 0 where not known.
    item_id: '' where not known.
    attributes: (A,) int8 in {1, 0, -1}.
    score: of the detector that found the box; 1 for an annotated one.
  """

  id: str
  path: str
  place: str
  split: str
  box: np.ndarray
  landmarks: np.ndarray
  visibility: np.ndarray
  clothes_type: int = 0
  variation: int = 0
  item_id: str = ''
  attributes: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int8)
  )
  score: float = 1.0


def image_size(path: str, place: str, formats=None) -> tuple[int, int]:
  """(width, height) from the header of an image file.

  Args:
    path: of the file.
    place: what messages begin with.
    formats: names that Pillow gives; None for all that it reads.

  Raises:
    InputError: the file is missing, unreadable, of another format or larger
      than an image is.
  """
  must = ' or '.join(formats) if formats else 'an image'
  try:
    with Image.open(path) as image:
      size, kind = image.size, image.format
  except FileNotFoundError:
    raise InputError(
      f'{place}: the image file {shown(path, 4096)} is missing', 'image'
    ) from None
  except Exception:  # Pillow raises what its parsers run into
    raise InputError(
      f'{place}: {shown(path, 4096)} is no readable image, must be {must}',
      'image',
    ) from None
  if size[0] * size[1] > MAX_PIXELS:
    raise InputError(
      f'{place}: {shown(path, 4096)} announces {size[0]} x {size[1]} pixels, '
      f'must be at most {MAX_PIXELS}',
      'image',
    )
  # MPO: JPEG with more pictures behind it.
  if (
    formats
    and kind not in formats
    and not (kind == 'MPO' and 'JPEG' in formats)
  ):
    raise InputError(
      f'{place}: {shown(path, 4096)} is a {kind} image, must be {must}', 'image'
    )
  return size


def read_image(row: Row) -> bytes:
  """The bytes of a row's image file, decoded once to see that they are whole.

  Raises:
    InputError: the file cannot be read or decoded.
  """
  return decode_image(row.path, row.place)[0]


def decode_image(path: str, place: str) -> tuple[bytes, Image.Image]:
  """The bytes of an image file, and the decoded image in RGB.

  Args:
    path: of the file.
    place: what messages begin with.

  Raises:
    InputError: the file cannot be read or decoded.
  """
  try:
    with open(path, 'rb') as file:
      encoded = file.read()
    with Image.open(io.BytesIO(encoded)) as image:
      decoded = image.convert('RGB')
  except Exception as problem:  # SyntaxError of a PNG, RuntimeError of an AVIF
    raise InputError(
      f'{place}: the image file {shown(path, 4096)} is damaged, must be whole '
      f'({shown(str(problem))})',
      'image',
    ) from None
  return encoded, decoded


def file_state(path: str, name: str) -> bytes:
  """A line that changes with a file: name, size and time, or no file."""
  try:
    stat = os.stat(path)
    return os.fsencode(f'{name} {stat.st_size} {stat.st_mtime_ns}\n')
  except (OSError, ValueError):  # a reader names it; here it is one more state
    return os.fsencode(f'{name!r} missing\n')
