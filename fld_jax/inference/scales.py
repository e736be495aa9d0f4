"""From pixels to centimetres: what `--scale` may be.

  0.05          centimetres a pixel, the same for all images
  FILE.csv      columns image and cm_per_pixel
  NAME=46       the measure NAME is 46 cm long, on every item
  marker=5      a marker card lies in the plane of the garment; the side of its
                black square is 5 cm

The card is an ArUco marker (Garrido-Jurado et al., 2014), which `--mode=card`
writes for printing. Its four corners give the homography from the image to the
plane, so that a photo may be taken from the side.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from fld_jax.errors import InputError
from fld_jax.files import atomic, csv_tables, file_names, text_lists
from fld_jax.files.images import read

DICTIONARY, MARKER_ID = cv2.aruco.DICT_4X4_50, 0
CARD_SIDE = 5.0  # centimetres of the printed marker
_DPI, _CM_PER_INCH = 600, 2.54
_CARD = (9.0, 8.0)  # centimetres: width and height
_SMALLEST = 12  # pixels of a marker's side


@dataclasses.dataclass(frozen=True, eq=False)
class Ruler:
  """The homography from an image to the garment's plane.

  Attributes:
    matrix: (3, 3) from pixels x, y, 1 to centimetres, up to a factor.
  """

  matrix: np.ndarray

  @classmethod
  def uniform(cls, cm_per_pixel: float) -> 'Ruler':
    """The ruler of a photo that was taken straight from the front."""
    return cls(np.diag([cm_per_pixel, cm_per_pixel, 1.0]))

  def to_cm(
    self, points: Float[np.ndarray, '*n 2']
  ) -> Float[np.ndarray, '*n 2']:
    """Maps (..., 2) pixels x, y to centimetres."""
    ones = np.ones((*points.shape[:-1], 1))
    mapped = np.concatenate([points, ones], axis=-1) @ self.matrix.T
    return mapped[..., :2] / mapped[..., 2:]

  def at(self, points: Float[np.ndarray, 'n 2']) -> float:
    """Centimetres a pixel in the middle of (n, 2) points."""
    centre = np.mean(points, axis=0)
    # The area of a small square there.
    corners = self.to_cm(centre + 0.5 * np.array([[-1, -1], [1, -1], [-1, 1]]))
    u, v = corners[1] - corners[0], corners[2] - corners[0]
    return math.sqrt(abs(u[0] * v[1] - u[1] * v[0]))


class _HasValue(Protocol):
  value: float


@dataclasses.dataclass(frozen=True, eq=False)
class Scale:
  """What `--scale` says.

  Attributes:
    why_not: Why an image may have no scale, in some words.
    known: The name and the centimetres of a length that is known; None if
      another thing is.
    cm_per_pixel: The same for all images; None if another thing is known.
    of_images: Name of an image -> centimetres a pixel; None if another thing is
      known.
    marker: Centimetres of the side of the marker; None if there is none.
    root: The folder of the photos.
  """

  why_not: str
  root: pathlib.Path
  known: tuple[str, float] | None = None
  cm_per_pixel: float | None = None
  of_images: Mapping[str, float] | None = None
  marker: float | None = None

  def ruler(
    self, name: str, in_pixels: Mapping[str, _HasValue | None]
  ) -> Ruler | None:
    """The ruler of an item; None if its scale is not known.

    Args:
      name: The name of its image below the folder of photos.
      in_pixels: Name of a measure -> its length in pixels, if it is known.
    """
    if self.cm_per_pixel:
      return Ruler.uniform(self.cm_per_pixel)
    if self.known:
      found = in_pixels[self.known[0]]
      if not found or not found.value:
        return None
      return Ruler.uniform(self.known[1] / found.value)
    if self.of_images is not None:
      value = self.of_images.get(name)
      return Ruler.uniform(value) if value else None
    return find_marker(read(self.root / name), self.marker)


def parse(text: str, names: tuple[str, ...], root: pathlib.Path) -> Scale:
  """Reads `--scale`.

  Args:
    text: What the module's docstring has.
    names: The names of the measures.
    root: The folder of the photos.

  Raises:
    InputError: The text has another form, or the file cannot be used.
  """
  value = _positive(text)
  if value:
    return Scale('none is left', root, cm_per_pixel=value)
  name, equals, number = (part.strip() for part in text.rpartition('='))
  if equals and not text.lower().endswith('.csv'):
    value = _positive(number)
    if name not in ('marker', *names) or not value:
      raise InputError(
        f"--scale is '{text}', must be marker=CM or NAME=CM with a NAME of "
        f'--measure ({", ".join(names)}) and CM above 0'
      )
    if name == 'marker':
      return Scale('no marker was found', root, marker=value)
    return Scale(f'{name} is not there', root, known=(name, value))
  if not text.lower().endswith('.csv'):
    raise InputError(
      f"--scale is '{text}', must be centimetres a pixel (0.05), NAME=CM, "
      'marker=CM, or a FILE.csv with the columns image and cm_per_pixel'
    )
  path = pathlib.Path(text).expanduser()
  return Scale('the image is not in the file', root, of_images=_of_file(path))


def _positive(text: str) -> float | None:
  value = text_lists.plain_number(text.strip())
  return value if value is not None and 0 < value < 1e6 else None


def _of_file(path: pathlib.Path) -> dict[str, float]:
  """Name of an image -> centimetres a pixel."""
  table = csv_tables.read(path)
  image = table.find(csv_tables.IMAGE_COLUMNS)
  column = table.find(['cm_per_pixel'])
  if image is None or column is None:
    missing = 'image' if image is None else 'cm_per_pixel'
    raise InputError(
      f"{path}: has no column '{missing}', has {', '.join(table.header)}"
    )
  found: dict[str, float] = {}
  for line, cells in table.rows:
    value = _positive(cells[column])
    if not value:
      raise InputError(
        f"{path}, line {line}, cm_per_pixel: is '{cells[column].strip()}', "
        'must be a number above 0'
      )
    name = file_names.from_cell(cells[image].strip())
    if found.setdefault(name, value) != value:
      raise InputError(
        f"{path}, line {line}: '{name}' is there with another scale, too"
      )
  return found


def find_marker(image: UInt8[np.ndarray, 'h w 3'], side: float) -> Ruler | None:
  """Finds the marker card on a photo.

  Args:
    image: (H, W, 3) uint8 RGB.
    side: Centimetres of the side of the marker's black square.

  Returns:
    The ruler, whose origin is the marker's first corner; None if there is no
    marker, or its sides have fewer than 12 pixels. Of several the largest
    counts.
  """
  parameters = cv2.aruco.DetectorParameters()
  parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
  detector = cv2.aruco.ArucoDetector(
    cv2.aruco.getPredefinedDictionary(DICTIONARY), parameters
  )
  corners, ids, _ = detector.detectMarkers(
    cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
  )
  ours = (
    []
    if ids is None
    else [
      square.reshape(4, 2).astype(np.float64)
      for square, number in zip(corners, np.ravel(ids), strict=True)
      if number == MARKER_ID
    ]
  )
  if not ours:
    return None
  largest = max(ours, key=lambda x: cv2.contourArea(x.astype(np.float32)))
  sides = np.linalg.norm(largest - np.roll(largest, 1, axis=0), axis=1)
  if sides.min() < _SMALLEST:
    return None
  # OpenCV counts from the centre of the first pixel, we from its corner.
  largest += 0.5
  plane = side * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
  matrix = cv2.getPerspectiveTransform(
    largest.astype(np.float32), plane.astype(np.float32)
  )
  return Ruler(matrix)


def draw_marker(pixels: int) -> UInt8[np.ndarray, 's s']:
  """Draws the marker's black square, (pixels, pixels) uint8 grey."""
  dictionary = cv2.aruco.getPredefinedDictionary(DICTIONARY)
  return cv2.aruco.generateImageMarker(dictionary, MARKER_ID, pixels)


def write_card(output: pathlib.Path) -> None:
  """Writes the marker card for printing, DIR/marker_card.pdf.

  Args:
    output: The folder.

  Raises:
    InputError: The folder cannot be written to.
  """
  if problem := atomic.writing_problem(output):
    raise InputError(f'--output={output}: {problem}')
  pixels = lambda cm: round(cm / _CM_PER_INCH * _DPI)
  card = Image.new('L', (pixels(_CARD[0]), pixels(_CARD[1])), 255)
  left, top = pixels((_CARD[0] - CARD_SIDE) / 2), pixels(1.0)
  card.paste(Image.fromarray(draw_marker(pixels(CARD_SIDE))), (left, top))
  pen = ImageDraw.Draw(card)
  below = top + pixels(CARD_SIDE + 0.7)
  pen.line([left, below, left + pixels(CARD_SIDE), below], width=pixels(0.03))
  for step in range(int(CARD_SIDE) + 1):
    x = left + pixels(step)
    pen.line([x, below, x, below + pixels(0.3)], width=pixels(0.03))
  text = f'{CARD_SIDE:g} cm: print at 100 %.  --scale=marker={CARD_SIDE:g}'
  pen.text((left, below + pixels(0.4)), text, 0, font_size=pixels(0.28))
  pen.rectangle([0, 0, card.width - 1, card.height - 1], outline=160, width=4)
  output.mkdir(parents=True, exist_ok=True)
  with atomic.whole_file(output / 'marker_card.pdf') as file:
    card.save(file, 'PDF', resolution=_DPI)
