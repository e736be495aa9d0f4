"""Words on pictures: in any script that a font of this machine has."""

import functools
import pathlib

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from fld_jax.errors import printable

INK = (29, 35, 44)
WHITE = (255, 255, 255)


@functools.lru_cache(4096)
def stamp(text: str, size: int, halo: int = 0) -> np.ndarray:
  """Where the letters of a text cover a picture, and where their halo does.

  Args:
    text: One line of text.
    size: The height of the font in pixels.
    halo: The width of the halo around the letters in pixels.

  Returns:
    (h, w, 2) float32 shares in [0, 1] that the letters and the letters with
    their halo cover. All texts of one size have the same height.
  """
  text = printable(text)
  path = _font(frozenset(text))
  if path is None:  # nobody can read boxes; code points can be looked up
    text = text.encode('ascii', 'backslashreplace').decode()
    path = _usual_font()
  font = ImageFont.truetype(path, size)
  ascent, descent = font.getmetrics()
  width = int(np.ceil(font.getlength(text)))
  shape = max(1, width + 2 * halo), ascent + descent + 2 * halo
  layers = []
  for stroke in (0, halo):
    layer = Image.new('L', shape)
    ImageDraw.Draw(layer).text(
      (halo, halo), text, 255, font, stroke_width=stroke
    )
    layers.append(np.asarray(layer, np.float32) / 255)
  letters, around = layers
  return np.stack([letters, np.maximum(letters, around)], axis=-1)


def write(
  picture: np.ndarray,
  text: str,
  corner: tuple[int, int],
  size: int,
  colour: tuple[int, int, int] = INK,
  halo: int = 0,
) -> None:
  """Writes a line of text into a picture; what is outside of it is cut off.

  Args:
    picture: (H, W, 3) uint8; it is changed.
    text: One line of text.
    corner: The x, y of the upper left corner in pixels, the halo included.
    size: The height of the font in pixels.
    colour: The RGB colour of the letters; their halo is white.
    halo: The width of the halo in pixels.
  """
  cover = stamp(text, size, halo)
  x, y = corner
  height, width = picture.shape[:2]
  cover = cover[max(0, -y) : height - y, max(0, -x) : width - x]
  part = picture[max(0, y) :, max(0, x) :][: cover.shape[0], : cover.shape[1]]
  letters, around = cover[..., :1], cover[..., 1:]
  if not halo:
    around = np.zeros_like(letters)
  under = part * (1 - around) + np.float32(WHITE) * around
  part[:] = np.rint(under * (1 - letters) + np.float32(colour) * letters)


def width_of(text: str, size: int) -> int:
  """The width of a line of text in pixels.

  Args:
    text: One line of text.
    size: The height of the font in pixels.
  """
  return stamp(text, size).shape[1]


def shortened(text: str, size: int, width: int) -> str:
  """A text that fits a width; an ellipsis stands for the part left out.

  The end of a text is kept rather than its start: of paths it tells more.

  Args:
    text: One line of text.
    size: The height of the font in pixels.
    width: The width in pixels.
  """
  if width_of(text, size) <= width:
    return text
  low, high = 0, len(text)  # letters that fit, and that do not
  while high - low > 1:
    middle = (low + high) // 2
    fits = width_of(_middle_left_out(text, middle), size) <= width
    low, high = (middle, high) if fits else (low, middle)
  return _middle_left_out(text, low)


def _middle_left_out(text: str, count: int) -> str:
  """A text of which so many letters are kept, a third of them its first."""
  first = count // 3
  return text[:first] + '…' + text[len(text) - (count - first) :]


def _usual_font() -> str:
  """The path of DejaVu Sans, which comes with matplotlib."""
  folder = pathlib.Path(matplotlib.get_data_path())
  return str(folder / 'fonts/ttf/DejaVuSans.ttf')


@functools.lru_cache(256)
def _font(letters: frozenset[str]) -> str | None:
  """The path of a font that has all the letters; None if there is none."""
  codes = set(map(ord, letters))
  if codes <= _codes(_usual_font()):
    return _usual_font()
  # It takes a second where matplotlib has not yet listed the machine's fonts.
  from matplotlib import font_manager

  for font in font_manager.fontManager.ttflist:
    if font.weight in (400, 'normal', 'regular') and codes <= _codes(
      font.fname
    ):
      return font.fname
  return None


@functools.lru_cache(64)
def _codes(path: str) -> frozenset[int]:
  """The code points of a font's letters."""
  return frozenset(FT2Font(path).get_charmap())


def line(texts: list[str], width: int, height: int, size: int) -> np.ndarray:
  """A white line of captions, one a cell, shortened to fit.

  Args:
    texts: The text of each cell.
    width: The width of a cell in pixels.
    height: The height of the line in pixels.
    size: The height of the font in pixels.

  Returns:
    (height, width * n, 3) uint8 RGB.
  """
  row = np.full((height, width * len(texts), 3), 255, np.uint8)
  for column, text in enumerate(texts):
    short = shortened(text, size, width - size)
    place = (column * width + (width - width_of(short, size)) // 2, 1)
    write(row, short, place, size)
  return row
