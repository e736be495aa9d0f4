"""Image files: headers, decoding and the conversion to RGB."""

import io
import os

import numpy as np
from PIL import Image, ImageOps

from fld_jax.errors import InputError, printable


def read(path) -> np.ndarray:
  """An image file as (H, W, 3) uint8 RGB, whatever its kind.

  Raises:
    InputError: it is missing, damaged, no image, or too large.
  """
  try:
    with Image.open(path) as image:
      width, height = image.size
      if width * height <= MAX_PIXELS:
        return to_rgb(image)
  except FileNotFoundError:
    raise InputError(f'{path}: this image file is missing', 'image') from None
  except Image.DecompressionBombError as problem:
    raise InputError(f'{path}: is too large ({problem})', 'image') from None
  except Image.UnidentifiedImageError:
    raise InputError(
      f'{path}: is no image of a kind that Pillow reads', 'image'
    ) from None
  except InputError as problem:
    raise InputError(f'{path}: {problem}', 'image') from None
  except Exception as problem:  # Pillow raises what its parsers run into
    raise InputError(
      f'{path}: is damaged, must be a whole image ({printable(str(problem))})',
      'image',
    ) from None
  raise InputError(
    f'{path}: has {width} x {height} pixels, must have at most {MAX_PIXELS}',
    'image',
  )


def to_rgb(image: Image.Image) -> np.ndarray:
  """An image as a viewer shows it, (H, W, 3) uint8.

  Args:
    image: of any mode; of 16 bits the higher 8 are taken.

  Raises:
    InputError: for pixels whose range is not known.
  """
  image = ImageOps.exif_transpose(image)
  if image.mode.startswith('I') or image.mode == 'F':
    values = np.asarray(image)
    if image.mode == 'F' or values.min() < 0 or values.max() >= 2**16:
      raise InputError(
        f'the pixels are of mode {image.mode} and from {values.min():g} to '
        f'{values.max():g}, must be of 8 or 16 bits'
      )
    grey = (values >> 8).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
  if image.has_transparency_data:
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(white, image)
  return np.asarray(image.convert('RGB'))


def decode(encoded: bytes) -> np.ndarray:
  """(H, W, 3) uint8 RGB; OSError if truncated or no image."""
  with Image.open(io.BytesIO(encoded)) as image:
    return np.asarray(image.convert('RGB'))


MAX_PIXELS = 89_478_485  # of an image; Pillow warns at this, and goes on


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
      f'{place}: the image file {printable(path, 4096)} is missing', 'image'
    ) from None
  except Exception:  # Pillow raises what its parsers run into
    raise InputError(
      f'{place}: {printable(path, 4096)} is no readable image, must be {must}',
      'image',
    ) from None
  if size[0] * size[1] > MAX_PIXELS:
    raise InputError(
      f'{place}: {printable(path, 4096)} announces {size[0]} x {size[1]} '
      f'pixels, must be at most {MAX_PIXELS}',
      'image',
    )
  # MPO: JPEG with more pictures behind it.
  if (
    formats
    and kind not in formats
    and not (kind == 'MPO' and 'JPEG' in formats)
  ):
    raise InputError(
      f'{place}: {printable(path, 4096)} is a {kind} image, must be {must}',
      'image',
    )
  return size


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
      f'{place}: the image file {printable(path, 4096)} is damaged, must be '
      f'whole ({printable(str(problem))})',
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
