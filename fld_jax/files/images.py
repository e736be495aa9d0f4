"""Image files: headers, decoding and the conversion to RGB.

All functions say the same of the same damage. Their errors are of kind 'image'.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from fld_jax.errors import InputError, printable
from fld_jax.geometry import upright_size

MAX_PIXELS = 89_478_485  # of an image; Pillow warns at this, and goes on
_WHOLE = 'a whole image file'


def read(path: str | os.PathLike) -> np.ndarray:
  """Decodes an image file of any kind as a viewer shows it.

  Args:
    path: The path of the file.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: The file is missing, damaged, too large or not an image.
  """
  with _opened(path, f'{path}:') as image:
    return to_rgb(image, str(path))


def to_rgb(image: Image.Image, name: str) -> np.ndarray:
  """Converts an image to what a viewer shows: upright, on a white ground.

  Args:
    image: An image of any mode; of 16 bits the higher 8 are taken.
    name: The image's name in messages.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: The range of the pixels' values is not known.
  """
  image = ImageOps.exif_transpose(image)
  if image.mode.startswith('I') or image.mode == 'F':
    values = np.asarray(image)
    if image.mode == 'F' or values.min() < 0 or values.max() >= 2**16:
      raise InputError(
        f'{name}: the pixels are of mode {image.mode} and from '
        f'{values.min():g} to {values.max():g}, must be of 8 or 16 bits',
        'image',
      )
    grey = (values >> 8).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
  if image.has_transparency_data:
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(white, image)
  return np.asarray(image.convert('RGB'))


def decode(encoded: bytes, name: str = 'The image') -> np.ndarray:
  """Decodes a record's image as a viewer shows it, as `read` does.

  Args:
    encoded: The bytes of an image file.
    name: The image's name in messages.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: The image is damaged, too large or not an image.
  """
  with _opened(io.BytesIO(encoded), f'{name}:') as image:
    return to_rgb(image, name)


def decode_image(path: str, place: str) -> tuple[bytes, Image.Image]:
  """Reads and decodes an image file that a list names.

  Args:
    path: The path of the file.
    place: The place in the list, with which messages begin.

  Returns:
    The bytes of the file, and the image in RGB as a viewer shows it.

  Raises:
    InputError: The file is missing, damaged, too large or not an image.
  """
  subject = _listed(path, place)
  with _named_errors(subject, _WHOLE):
    encoded = pathlib.Path(path).read_bytes()
  with _opened(io.BytesIO(encoded), subject) as image:
    return encoded, Image.fromarray(to_rgb(image, subject))


def image_size(
  path: str, place: str, formats: Sequence[str] = ()
) -> tuple[int, int]:
  """Reads the size of an image file that a list names, as a viewer shows it.

  Args:
    path: The path of the file.
    place: The place in the list, with which messages begin.
    formats: The valid formats, as Pillow names them; empty for all that it
      reads.

  Returns:
    (width, height) in pixels, after turning as the EXIF data say.

  Raises:
    InputError: The file is missing, too large, not an image or of another
      format.
  """
  return upright_size(*stored_size(path, place, formats))


def stored_size(
  path: str, place: str, formats: Sequence[str] = ()
) -> tuple[tuple[int, int], int]:
  """Reads the header of an image file that a list names.

  Args:
    path: The path of the file.
    place: The place in the list, with which messages begin.
    formats: The valid formats, as Pillow names them; empty for all that it
      reads.

  Returns:
    (width, height) in pixels as the file stores them, and the EXIF orientation,
    1 to 8: how a viewer turns the image.

  Raises:
    InputError: The file is missing, too large, not an image or of another
      format.
  """
  with _opened(path, _listed(path, place), formats) as image:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    # As Pillow does, others are taken for none.
    orientation = orientation if orientation in range(1, 9) else 1
    # Of a TIFF Pillow tells the size that it has after turning.
    is_turned = image.format == 'TIFF'
    size = upright_size(image.size, orientation) if is_turned else image.size
    return size, orientation


def _listed(path: str, place: str) -> str:
  """The beginning of messages about an image file that a list names."""
  return f'{place}: the image file {printable(path, 4096)}'


@contextlib.contextmanager
def _opened(
  file: str | os.PathLike | BinaryIO, subject: str, formats: Sequence[str] = ()
) -> Iterator[Image.Image]:
  """Opens an image with a checked header, to decode within the `with`.

  Args:
    file: The path of the file, or a binary file object.
    subject: The words that messages begin with; a verb follows.
    formats: The valid formats, as Pillow names them; empty for all that it
      reads.

  Raises:
    InputError: The image cannot be read, here or within the `with`.
  """
  must = ' or '.join(formats) or _WHOLE
  with _named_errors(subject, must), Image.open(file) as image:
    width, height = image.size
    if width * height > MAX_PIXELS:
      raise InputError(
        f'{subject} has {width} x {height} pixels, must have at most '
        f'{MAX_PIXELS}',
        'image',
      )
    # MPO: JPEG with more pictures behind it.
    kind = 'JPEG' if image.format == 'MPO' else image.format
    if formats and not {kind, image.format} & set(formats):
      raise InputError(
        f'{subject} is a {image.format} image, must be {must}', 'image'
      )
    yield image


@contextlib.contextmanager
def _named_errors(subject: str, must: str) -> Iterator[None]:
  """Turns all that Pillow and the system raise into an InputError.

  Args:
    subject: The words that messages begin with; a verb follows.
    must: What the file must be, for messages.
  """
  problem = None
  try:
    yield
  except InputError:
    raise
  except FileNotFoundError:
    problem = 'is missing'
  except Image.DecompressionBombError as error:
    problem = f'is too large ({error})'
  except Image.UnidentifiedImageError:
    problem = f'is not an image of a kind that Pillow reads, must be {must}'
  # Pillow raises what its parsers run into: a SyntaxError for a PNG, a
  # RuntimeError for an AVIF.
  except Exception as error:
    problem = f'is damaged, must be {_WHOLE} ({printable(str(error))})'
  if problem:
    raise InputError(f'{subject} {problem}', 'image')


def file_state(path: str, name: str) -> bytes:
  """A line that changes with a file.

  Args:
    path: The path of the file.
    name: The file's name in the line.

  Returns:
    The name with the file's size and time, or with the word 'missing'.
  """
  try:
    stat = os.stat(path)
    return os.fsencode(f'{name} {stat.st_size} {stat.st_mtime_ns}\n')
  except (OSError, ValueError):  # a reader names it; here it is one more state
    return os.fsencode(f'{name!r} missing\n')
