"""The palette, landmarks on images, and sheets of example images."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np

from fld_jax import landmark_sets, mirror_names, schema
from fld_jax.evaluation import text_tables
from fld_jax.metrics.predictions import Predictions

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
# Of landmarks, see `schema.LandmarkSet.sides`.
SIDE_COLOURS = {'left': COLOURS[1], 'right': COLOURS[0], 'middle': COLOURS[2]}
LEFT, RIGHT, MIDDLE = (
  tuple(bytes.fromhex(c[1:])) for c in SIDE_COLOURS.values()
)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
CELL_HEIGHT, CELL_MAX_WIDTH, TEXT_HEIGHT, GAP = 288, 288, 24, 10  # pixels
MARGIN = 0.12  # of the box's longer side


def draw_landmarks(
  image: np.ndarray,
  landmarks: np.ndarray,
  visibility: np.ndarray,
  *,
  truth: np.ndarray | None = None,
  names: Sequence[str] = landmark_sets.FASHION_8.names,
) -> np.ndarray:
  """Draws landmarks on a copy of an image.

  Filled circles are `landmarks`, with a white rim if visible and a black one if
  occluded; hollow circles are `truth`, joined to them by a line. Truncated and
  absent slots are left out.

  Args:
    image: (H, W, 3) uint8 RGB.
    landmarks: (N, 2) x, y in this image's pixels.
    visibility: (N,) codes of `schema`.
    truth: (N, 2) true positions; None if they are not shown.
    names: N landmark names; the words 'left' and 'right' choose the colour.

  Returns:
    (H, W, 3) uint8 RGB.
  """
  image = np.ascontiguousarray(image).copy()
  side = max(image.shape[:2])
  radius = max(3, round(side / 64))
  points = _to_cv(landmarks, side)
  truths = None if truth is None else _to_cv(truth, side)
  draw = {'lineType': cv2.LINE_AA, 'shift': 4}
  shown = np.flatnonzero(schema.has_position(np.asarray(visibility)))
  for i in shown if truth is not None else ():
    colour = _colour(names[i])
    cv2.line(image, truths[i], points[i], colour, 1, **draw)
    hollow = 16 * (radius + 3)
    cv2.circle(image, truths[i], hollow, WHITE, 3, **draw)
    cv2.circle(image, truths[i], hollow, colour, 1, **draw)
  for i in shown:
    rim = WHITE if visibility[i] == schema.VISIBLE else BLACK
    cv2.circle(image, points[i], 16 * (radius + 1), rim, -1, **draw)
    cv2.circle(image, points[i], 16 * radius, _colour(names[i]), -1, **draw)
  return image


def _colour(name: str) -> tuple[int, int, int]:
  """The RGB colour of a landmark, by the side in its name."""
  sides = {'left': LEFT, 'right': RIGHT, None: MIDDLE}
  return sides[mirror_names.word_side(name)]


def _to_cv(points: np.ndarray, side: int) -> list[tuple[int, int]]:
  """Converts (N, 2) pixels to OpenCV's sixteenths of a pixel.

  OpenCV's origin is the centre of the first pixel.

  Args:
    points: (N, 2) x, y in pixels of the image.
    side: The image's longer side in pixels.
  """
  # A wild estimate would overflow OpenCV's integers; far outside is enough.
  points = np.clip(np.asarray(points, np.float64) - 0.5, -9 * side, 9 * side)
  return [tuple(int(v) for v in point) for point in np.rint(points * 16)]


def overlay_sheet(
  images: Callable[[int], np.ndarray],
  predictions: Predictions,
  indices: Sequence[int],
  errors: dict[str, np.ndarray],
) -> np.ndarray:
  """Draws a grid: one row an example, a column for the truth and each stage.

  Garments are cut out with a margin and scaled to a common height; below each
  estimate is its mean NE over the visible landmarks.

  Args:
    images: Function from an index to the (H, W, 3) uint8 RGB image.
    predictions: The truth and the estimates of n examples.
    indices: The indices of the examples to show.
    errors: Stage -> (n,) NE of each example, a fraction; NaN if it has none.

  Returns:
    (H, W, 3) uint8 RGB.
  """
  stages = list(predictions.estimates)
  width, cells = _cells((images(i), predictions.boxes[i]) for i in indices)
  pictures, captions = [], []
  for index, cell in zip(indices, cells, strict=True):
    given = (predictions.visibility[index], predictions.landmark_set.names)
    truth = predictions.landmarks[index]
    pictures.append(cell.draw(truth, *given))
    captions.append(predictions.ids[index])
    for stage in stages:
      estimate = predictions.estimates[stage][index]
      pictures.append(cell.draw(estimate, *given, truth=truth))
      error = errors[stage][index]
      value = None if np.isnan(error) else error
      captions.append(f'NE {text_tables.percent(value)} %')
  heads = ['truth', *stages]
  lines = _grid(pictures, captions, len(heads), width)
  return np.concatenate([_text_row(heads, width), *lines])


def contact_sheet(
  examples: Iterable[tuple],
  captions: list[str],
  names: Sequence[str],
  columns: int,
) -> np.ndarray:
  """Draws a grid of pictures with their landmarks, scaled to a common height.

  Args:
    examples: One or more (image, box, landmarks, visibility), of the shapes
      that a record has; the box is shown, with a margin.
    captions: The text below each picture.
    names: N landmark names.
    columns: The number of pictures in a line of the grid.

  Returns:
    (H, W, 3) uint8 RGB.
  """
  examples = list(examples)
  width, cells = _cells((image, box) for image, box, *_ in examples)
  pictures = [
    cell.draw(landmarks, visibility, names)
    for cell, (_, _, landmarks, visibility) in zip(cells, examples, strict=True)
  ]
  return np.concatenate(_grid(pictures, captions, columns, width))


@dataclasses.dataclass(frozen=True, eq=False)
class _Cell:
  """A cell's picture, and how positions in the image get there.

  Attributes:
    picture: (H, W, 3) uint8 RGB.
    corner: (2,) x, y of the shown part's corner in pixels of the image.
    scale: (2,) pixels of the picture for one of the image.
    shift: (2,) x, y of the shown part's corner in pixels of the picture.
  """

  picture: np.ndarray
  corner: np.ndarray
  scale: np.ndarray
  shift: np.ndarray

  def draw(
    self,
    landmarks: np.ndarray,
    visibility: np.ndarray,
    names: Sequence[str],
    truth: np.ndarray | None = None,
  ) -> np.ndarray:
    """Draws landmarks on a copy of the picture, see `draw_landmarks`.

    Args:
      landmarks: (N, 2) x, y in pixels of the image.
      visibility: (N,) codes of `schema`.
      names: N landmark names.
      truth: (N, 2) true positions in pixels of the image, or None.
    """
    place = lambda points: (points - self.corner) * self.scale + self.shift
    return draw_landmarks(
      self.picture,
      place(landmarks),
      visibility,
      truth=None if truth is None else place(truth),
      names=names,
    )


def _cells(
  pictures: Iterable[tuple[np.ndarray, np.ndarray]],
) -> tuple[int, list[_Cell]]:
  """Makes the cells of (image, box) pairs; also returns their common width."""
  garments = [cut_out(image, box) for image, box in pictures]
  width = max([150] + [crop.shape[1] for crop, _, _ in garments]) + 2 * GAP
  cells = []
  for crop, corner, scale in garments:
    picture, shift = _centre(crop, width)
    cells.append(_Cell(picture, corner, scale, shift))
  return width, cells


def _grid(
  pictures: list[np.ndarray], captions: list[str], columns: int, width: int
) -> list[np.ndarray]:
  """Makes lines of pictures, each above its captions; white fills the last."""
  lines = []
  for start in range(0, len(pictures), columns):
    line = pictures[start : start + columns]
    texts = captions[start : start + columns]
    missing = columns - len(line)
    line = line + [np.full_like(line[0], 255)] * missing
    lines.append(np.concatenate(line, axis=1))
    lines.append(_text_row(texts + [''] * missing, width))
  return lines


def cut_out(
  image: np.ndarray,
  box: np.ndarray,
  *,
  height: int = CELL_HEIGHT,
  width: int = CELL_MAX_WIDTH,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Cuts out the box of a garment and a margin, scaled to a height.

  Args:
    image: (H, W, 3) uint8.
    box: (4,) x1, y1, x2, y2 in image pixels.
    height: The height of the result in pixels; it is less where the result
      would be wider than `width`.
    width: The largest width of the result in pixels.

  Returns:
    (picture, corner, scale): uint8; (x, y) of its corner in image pixels; its
    pixels for one of the image, by axis.
  """
  box = np.asarray(box, np.float64)
  margin = MARGIN * max(box[2:] - box[:2])
  bottom, right = image.shape[:2]
  x1, y1 = np.floor(np.clip(box[:2] - margin, 0, [right - 1, bottom - 1]))
  x2, y2 = np.ceil(np.clip(box[2:] + margin, [x1 + 1, y1 + 1], [right, bottom]))
  crop = image[int(y1) : int(y2), int(x1) : int(x2)]
  scale = min(height / (y2 - y1), width / (x2 - x1))
  size = [max(1, round(scale * side)) for side in crop.shape[1::-1]]
  crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
  return crop, np.array([x1, y1]), size / np.array([x2 - x1, y2 - y1])


def _centre(crop: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
  """Centres a picture in a white cell.

  Args:
    crop: (h, w, 3) uint8, no larger than the cell.
    width: The width of the cell in pixels.

  Returns:
    The cell, and the (x, y) of the picture's corner in it.
  """
  cell = np.full((CELL_HEIGHT + 2 * GAP, width, 3), 255, np.uint8)
  height, long = crop.shape[:2]
  y, x = (cell.shape[0] - height) // 2, (width - long) // 2
  cell[y : y + height, x : x + long] = crop
  return cell, np.array([x, y])


def _text_row(texts: list[str], width: int) -> np.ndarray:
  """Makes a white line of text, one entry a cell, shrunk to fit the cell.

  Args:
    texts: The text of each cell.
    width: The width of a cell in pixels.
  """
  row = np.full((TEXT_HEIGHT, width * len(texts), 3), 255, np.uint8)
  font = cv2.FONT_HERSHEY_SIMPLEX
  for column, text in enumerate(texts):
    (long, _), _ = cv2.getTextSize(text, font, 0.45, 1)
    size = 0.45 * min(1, (width - 2 * GAP) / max(1, long))
    at = (column * width + GAP, TEXT_HEIGHT - 8)
    cv2.putText(row, text, at, font, size, BLACK, 1, cv2.LINE_AA)
  return row
