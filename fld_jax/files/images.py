"""Image files: headers, decoding and the conversion to RGB.

All functions say the same of the same damage. Their errors are of kind 'image'.
No function waits for a file that is no file (a pipe, a device), and none starts
another program for a format that Pillow leaves to one (PostScript).
"""

import contextlib
import errno
import functools
import io
import os
import stat
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps

from fld_jax.errors import InputError, printable
from fld_jax.files.file_names import encoded
from fld_jax.geometry import upright_size

MAX_PIXELS = 89_478_485  # of an image; Pillow warns at this, and goes on
_WHOLE = 'a whole image file'
# Formats that are never read. Pillow starts Ghostscript for EPS; an IPTC file
# holds another file of any format, also of that one; of MPEG it knows the
# header alone.
UNSAFE_FORMATS = ('EPS', 'IPTC', 'MPEG')
# Endings of images that Pillow does not read: photos of phones, raw files of
# cameras, drawings. A raw file can look like a TIFF of a thumbnail's size.
RAW_ENDINGS = frozenset(
  """
  .3fr .ari .arw .bay .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .k25 .kdc .mef
  .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f
  """.split()
)
UNREAD_ENDINGS = RAW_ENDINGS | frozenset(
  """
  .ai .avif .avifs .djvu .emf .eps .exr .hdr .heic .heics .heif .heifs .hif
  .jp2 .jxl .jxr .psb .ps .svg .svgz .wdp .webp .wmf .xcf
  """.split()
)


@functools.cache
def formats() -> tuple[str, ...]:
  """The formats that are read, as Pillow names them.

  Those that Pillow decodes by itself: neither the UNSAFE_FORMATS, nor those
  that it only recognises and leaves to another package.
  """
  try:
    import pillow_heif

    pillow_heif.register_heif_opener()
  except ImportError:
    pass  # it is optional, and without it HEIC is a format that is not read
  Image.init()
  stub = ImageFile.StubImageFile
  return tuple(
    name
    for name, (factory, _) in Image.OPEN.items()
    if name not in UNSAFE_FORMATS
    and not (isinstance(factory, type) and issubclass(factory, stub))
  )


@functools.cache
def endings() -> frozenset[str]:
  """The endings of files that are read, '.jpg' for example, in lower case."""
  known = {*formats(), 'MPO'}  # a JPEG with more pictures behind it
  return frozenset(
    ending
    for ending, name in Image.registered_extensions().items()
    if name in known
  )


@contextlib.contextmanager
def opened_file(path: str | os.PathLike, subject: str) -> Iterator[BinaryIO]:
  """A file to read bytes from; what is no file is refused, not waited for.

  Args:
    path: The path of the file.
    subject: What messages begin with; a verb follows.

  Raises:
    InputError: The path leads to a folder, a pipe, a socket or a device.
    OSError: The file cannot be opened.
  """
  kinds = {
    stat.S_IFDIR: 'folder',
    stat.S_IFIFO: 'named pipe',
    stat.S_IFSOCK: 'socket',
    stat.S_IFCHR: 'device',
    stat.S_IFBLK: 'device',
  }
  # Asked before, since to open a device can do something; and again, since
  # another file may have taken the name.
  mode = os.stat(path).st_mode
  if stat.S_ISREG(mode):
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, 'rb') as file:
      mode = os.fstat(descriptor).st_mode
      if stat.S_ISREG(mode):
        yield file
        return
  kind = kinds.get(stat.S_IFMT(mode), 'special file')
  raise InputError(f'{subject} is a {kind}, must be a file', 'image')


def read(path: str | os.PathLike) -> np.ndarray:
  """Decodes an image file of any kind as a viewer shows it.

  Args:
    path: The path of the file.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: The file is missing, damaged, too large or not an image.
  """
  name = shown(path)
  with _opened(path, f'{name}:') as image:
    return to_rgb(image, name)


def shown(path: str | os.PathLike) -> str:
  """A path as messages show it, in one line of printable characters.

  Args:
    path: The path of a file.
  """
  return printable(encoded(os.fsdecode(path)), 4096)


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


def decode(
  content: bytes, name: str = 'The image', max_pixels: int = MAX_PIXELS
) -> np.ndarray:
  """Decodes a record's image as a viewer shows it, as `read` does.

  Args:
    content: The bytes of an image file.
    name: The image's name in messages.
    max_pixels: The most pixels that an image may have, at most MAX_PIXELS.

  Returns:
    (H, W, 3) uint8 RGB.

  Raises:
    InputError: The image is damaged, too large or not an image.
  """
  opened = _opened(io.BytesIO(content), f'{name}:', max_pixels=max_pixels)
  with opened as image:
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
  with _named_errors(subject, _WHOLE), opened_file(path, subject) as file:
    content = file.read()
  with _opened(io.BytesIO(content), subject) as image:
    return content, Image.fromarray(to_rgb(image, subject))


def image_size(
  path: str, place: str, valid: Sequence[str] = ()
) -> tuple[int, int]:
  """Reads the size of an image file that a list names, as a viewer shows it.

  Args:
    path: The path of the file.
    place: The place in the list, with which messages begin.
    valid: The valid formats, as Pillow names them; empty for all of `formats`.

  Returns:
    (width, height) in pixels, after turning as the EXIF data say.

  Raises:
    InputError: The file is missing, too large, not an image or of another
      format.
  """
  return upright_size(*stored_size(path, place, valid))


def stored_size(
  path: str, place: str, valid: Sequence[str] = ()
) -> tuple[tuple[int, int], int]:
  """Reads the header of an image file that a list names.

  Args:
    path: The path of the file.
    place: The place in the list, with which messages begin.
    valid: The valid formats, as Pillow names them; empty for all of `formats`.

  Returns:
    (width, height) in pixels as the file stores them, and the EXIF orientation,
    1 to 8: how a viewer turns the image.

  Raises:
    InputError: The file is missing, too large, not an image or of another
      format.
  """
  with _opened(path, _listed(path, place), valid) as image:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    # As Pillow does, others are taken for none.
    orientation = orientation if orientation in range(1, 9) else 1
    # Of a TIFF Pillow tells the size that it has after turning.
    is_turned = image.format == 'TIFF'
    size = upright_size(image.size, orientation) if is_turned else image.size
    return size, orientation


def _listed(path: str, place: str) -> str:
  """The beginning of messages about an image file that a list names."""
  return f'{place}: the image file {shown(path)}'


@contextlib.contextmanager
def _opened(
  file: str | os.PathLike | BinaryIO,
  subject: str,
  valid: Sequence[str] = (),
  max_pixels: int = MAX_PIXELS,
) -> Iterator[Image.Image]:
  """Opens an image with a checked header, to decode within the `with`.

  Args:
    file: The path of the file, or a binary file object.
    subject: The words that messages begin with; a verb follows.
    valid: The valid formats, as Pillow names them; empty for all of
      `formats`.
    max_pixels: The most pixels that the image may have.

  Raises:
    InputError: The image cannot be read, here or within the `with`.
  """
  must = ' or '.join(valid) or _WHOLE
  with contextlib.ExitStack() as stack:
    stack.enter_context(_named_errors(subject, must))
    if isinstance(file, str | os.PathLike):
      _check_ending(file, subject)
      file = stack.enter_context(opened_file(file, subject))
    image = stack.enter_context(Image.open(file, formats=formats()))
    width, height = image.size
    if width * height > max_pixels:
      raise InputError(
        f'{subject} has {width} x {height} pixels, must have at most '
        f'{max_pixels}',
        'image',
      )
    # MPO: JPEG with more pictures behind it.
    kind = 'JPEG' if image.format == 'MPO' else image.format
    if valid and not {kind, image.format} & set(valid):
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
  except OSError as error:
    # Of the system, or, without a number, of one of Pillow's parsers.
    problem = _system_problem(error) or _damaged(error)
  # Pillow raises what its parsers run into: a SyntaxError for a PNG, a
  # RuntimeError for an AVIF.
  except Exception as error:
    problem = _damaged(error)
  if problem:
    raise InputError(f'{subject} {problem}', 'image')


def _damaged(error: Exception) -> str:
  return f'is damaged, must be {_WHOLE} ({printable(str(error))})'


def _system_problem(error: OSError) -> str | None:
  """What the system has against a file; None if it is something else."""
  if error.errno in (errno.EACCES, errno.EPERM):
    return 'may not be read: there is no permission'
  if error.errno == errno.ELOOP:
    return 'is a link that leads to itself'
  if error.errno is not None:
    return f'cannot be read ({error.strerror})'
  return None


def _check_ending(path: str | os.PathLike, subject: str) -> None:
  """Refuses a file with the ending of an image that is not read.

  A file may have another content than its ending says, as JPEGs of phones have
  that are called .heic; of a raw file the content does not tell.
  """
  ending = os.path.splitext(os.fspath(path))[1].lower()
  if ending not in UNREAD_ENDINGS or ending in endings():
    return
  if ending not in RAW_ENDINGS:
    with opened_file(path, subject) as file:
      try:
        Image.open(file, formats=formats()).close()
      except Image.UnidentifiedImageError:
        pass
      else:
        return
  plugin = ''
  if ending.startswith(('.hei', '.hif')):
    plugin = ', or install pillow-heif'
  raise InputError(
    f'{subject} is of a format that is not read ({ending}): convert it, for '
    f'example to JPEG{plugin}',
    'image',
  )


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
