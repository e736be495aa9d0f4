"""Sheets of many small pictures, with the key of their landmarks."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fld_jax import schema
from fld_jax.evaluation import text_tables
from fld_jax.metrics.predictions import Predictions
from fld_jax.visualization import drawing, lettering
from fld_jax.visualization.drawing import Marks

CELL_HEIGHT, CELL_MAX_WIDTH, GAP = 288, 288, 10  # pixels
MIN_CELL_WIDTH = 150  # pixels, for captions
TEXT_HEIGHT, TEXT_SIZE = 24, 13  # pixels of a line of captions, of its letters
MARGIN = 0.12  # of the box's longer side
MAX_PICTURES = 48  # of a contact sheet of predictions


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
  """One item of a sheet.

  Attributes:
    image: (H, W, 3) uint8 RGB.
    box: (4,) x1, y1, x2, y2 in pixels of the image: what is shown of it, with a
      margin.
    caption: The text below the picture.
    marks: What is drawn, in pixels of the image; None for nothing.
  """

  image: np.ndarray
  box: np.ndarray
  caption: str
  marks: Marks | None = None


def contact_sheet(
  entries: Iterable[Entry],
  landmarks: schema.LandmarkSet,
  columns: int,
  *,
  title: str = '',
  pairs: np.ndarray | None = None,
) -> np.ndarray:
  """Draws a grid of items with numbered landmarks, and their key below.

  Memory holds the small pictures alone: entries are taken one by one.

  Args:
    entries: The items, at least one.
    landmarks: The N landmarks.
    columns: The number of pictures in a line of the grid.
    title: A line of text above the grid; '' for none.
    pairs: (P, 2) slots whose changing places in a mirrored image the key tells;
      None if it does not.

  Returns:
    (H, W, 3) uint8 RGB.
  """
  pictures, captions, slots = [], [], set()
  truth = estimate = confidence = reach = False
  for entry in entries:
    items = []
    if entry.marks is not None:
      items = [entry.marks]
      slots |= {int(slot) for slot in entry.marks.shown}
      truth |= entry.marks.truth is not None
      estimate |= entry.marks.estimate is not None
      confidence |= entry.marks.confidence is not None
      reach |= entry.marks.reach is not None
    pictures.append(_draw_item(entry.image, entry.box, items, landmarks))
    captions.append(entry.caption)
  columns = min(columns, len(pictures))
  lines = _grid(pictures, captions, columns)
  width = lines[0].shape[1]
  if title:
    lines.insert(0, _heads([title], width))
  if slots:
    lines.append(
      _keys(landmarks, slots, width, pairs, truth, estimate, confidence, reach)
    )
  return np.concatenate(lines)


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
  landmarks, stages = predictions.landmark_set, list(predictions.estimates)
  pictures, captions, slots = [], [], set()
  for index in indices:
    image, box = images(index), predictions.boxes[index]
    truth = Marks(
      predictions.visibility[index], truth=predictions.landmarks[index]
    )
    slots |= {int(slot) for slot in truth.shown}
    pictures.append(_draw_item(image, box, [truth], landmarks))
    captions.append(predictions.ids[index])
    for stage in stages:
      sure = predictions.confidences.get(stage)
      marks = dataclasses.replace(
        truth,
        estimate=predictions.estimates[stage][index],
        confidence=None if sure is None else sure[index],
      )
      pictures.append(_draw_item(image, box, [marks], landmarks))
      error = errors[stage][index]
      value = None if np.isnan(error) else error
      captions.append(f'NE {text_tables.percent(value)} %')
  heads = ['truth', *stages]
  width = len(heads) * _cell_width(pictures)
  lines = [
    _heads(heads, _cell_width(pictures)),
    *_grid(pictures, captions, len(heads)),
  ]
  confidence = any(stage in predictions.confidences for stage in stages)
  if slots:
    lines.append(_keys(landmarks, slots, width, None, True, True, confidence))
  return np.concatenate(lines)


def spread(scores: Sequence[float], count: int = MAX_PICTURES) -> list[int]:
  """Chooses items evenly over their scores.

  Args:
    scores: The score of each of n items.
    count: The largest number of items.

  Returns:
    At most `count` different indices, the lowest score first; the lowest and
    the highest score are among them.
  """
  order = np.argsort(np.asarray(scores, np.float64), kind='stable')
  places = np.linspace(0, len(order) - 1, min(count, len(order)))
  return order[np.rint(places).astype(int)].tolist()


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
  picture = drawing.resized(crop, tuple(size))
  return picture, np.array([x1, y1]), size / np.array([x2 - x1, y2 - y1])


def _draw_item(
  image: np.ndarray,
  box: np.ndarray,
  items: list[Marks],
  landmarks: schema.LandmarkSet,
) -> np.ndarray:
  """Cuts out an item of a sheet, and draws its marks with numbers."""
  picture, corner, scale = cut_out(image, box)
  items = [
    dataclasses.replace(marks, box=np.asarray(box)).moved(
      scale, -corner * scale
    )
    for marks in items
  ]
  names = drawing.numbers(landmarks)
  return drawing.draw(picture, items, landmarks, names=names)


def _grid(
  pictures: list[np.ndarray], captions: list[str], columns: int
) -> list[np.ndarray]:
  """Makes lines of pictures, each above its captions; white fills the last."""
  width = _cell_width(pictures)
  lines = []
  for start in range(0, len(pictures), columns):
    line = [_centred(p, width) for p in pictures[start : start + columns]]
    texts = captions[start : start + columns]
    missing = columns - len(line)
    line += [np.full_like(line[0], 255)] * missing
    lines.append(np.concatenate(line, axis=1))
    texts = texts + [''] * missing
    lines.append(lettering.line(texts, width, TEXT_HEIGHT, TEXT_SIZE))
  return lines


def _cell_width(pictures: list[np.ndarray]) -> int:
  """The common width of the cells of pictures, in pixels."""
  return max([MIN_CELL_WIDTH] + [p.shape[1] for p in pictures]) + 2 * GAP


def _centred(picture: np.ndarray, width: int) -> np.ndarray:
  """Centres a picture in a white cell.

  Args:
    picture: (h, w, 3) uint8, no larger than the cell.
    width: The width of the cell in pixels.
  """
  cell = np.full((CELL_HEIGHT + 2 * GAP, width, 3), 255, np.uint8)
  height, long = picture.shape[:2]
  y, x = (cell.shape[0] - height) // 2, (width - long) // 2
  cell[y : y + height, x : x + long] = picture
  return cell


def _heads(texts: list[str], width: int) -> np.ndarray:
  """Makes the line of headings of columns, or of a sheet."""
  return lettering.line(texts, width, TEXT_HEIGHT + 6, TEXT_SIZE + 2)


def _keys(
  landmarks: schema.LandmarkSet,
  slots: set[int],
  width: int,
  pairs: np.ndarray | None,
  truth: bool,
  estimate: bool,
  confidence: bool,
  reach: bool = False,
) -> np.ndarray:
  """Makes the key of a sheet: colours and marks, then the numbers."""
  parts = [
    drawing.legend(
      landmarks,
      width,
      truth=truth,
      estimate=estimate,
      confidence=confidence,
      reach=reach,
    ),
    drawing.key(landmarks, sorted(slots), width, pairs=pairs),
  ]
  if pairs is not None:
    text = (
      'Joined by an arrow: pairs that change places in a mirrored image.'
      if len(pairs)
      else 'No two landmarks change places in a mirrored image.'
    )
    ground = np.full((TEXT_HEIGHT, width, 3), drawing.KEY_GROUND, np.uint8)
    lettering.write(ground, text, (GAP, 4), TEXT_SIZE - 1)
    parts.insert(1, ground)
  return np.concatenate(parts)
