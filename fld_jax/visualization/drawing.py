"""Landmarks on images: one visual language for all pictures.

* Orange is left, blue is right, green is neither, by `LandmarkSet.sides`.
* A ring is the truth, a disc an estimate; a thin line joins the two.
* A white rim is visible, a black one occluded.
* Faint is an estimate whose confidence is below UNSURE.
* Thin lines are the skeleton and, with corners, the box.
* Slots without a position, which the item lacks or which lie outside of the
  image, are not drawn.

The report's page, which draws in a browser, speaks the same language.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from fld_jax import schema
from fld_jax.evaluation.text_tables import words
from fld_jax.visualization import lettering

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
# Of landmarks, see `schema.LandmarkSet.sides`.
SIDE_COLOURS = {'left': COLOURS[1], 'right': COLOURS[0], 'middle': COLOURS[2]}
LEFT, RIGHT, MIDDLE = (
  tuple(bytes.fromhex(c[1:])) for c in SIDE_COLOURS.values()
)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
UNSURE = 0.3  # confidence; the usual threshold of drawings of poses
FAINT = 0.35  # opacity of what is unsure
# Of an item's longer side in the picture, and the least and most in pixels.
RADIUS, MIN_RADIUS, MAX_RADIUS = 1 / 80, 2.5, 8.0
# Of the picture's longer side and of the item's, and the least and most in
# pixels.
TEXT, ITEM_TEXT, MIN_TEXT, MAX_TEXT = 1 / 42, 1 / 14, 11, 17
HALO = 2  # pixels around letters
LINE, UNDER = 0.8, 0.45  # opacity of the skeleton, and of what is below it
KEY_GROUND = (246, 247, 249)
CHIP = (122, 130, 142)  # behind samples of marks, so that both rims are seen


@dataclasses.dataclass(frozen=True, eq=False)
class Marks:
  """What is drawn of one item; N landmarks, in pixels of the picture.

  Attributes:
    visibility: (N,) codes of `schema`; only slots that are visible or occluded
      are drawn.
    estimate: (N, 2) x, y of the estimates; None if they are not shown.
    truth: (N, 2) x, y of the true positions; None if they are not shown.
    confidence: (N,) in [0, 1]; None if it is not known.
    box: (4,) x1, y1, x2, y2 of the item; None if it is not shown.
    reach: (N,) radii of circles around the estimates; None for none. Infinite
      ones are not drawn.
  """

  visibility: np.ndarray
  estimate: np.ndarray | None = None
  truth: np.ndarray | None = None
  confidence: np.ndarray | None = None
  box: np.ndarray | None = None
  reach: np.ndarray | None = None

  @property
  def shown(self) -> np.ndarray:
    """(k,) The slots that are drawn."""
    return np.flatnonzero(schema.has_position(np.asarray(self.visibility)))

  @property
  def unsure(self) -> np.ndarray:
    """(N,) bool, whether a slot is drawn faintly."""
    if self.confidence is None or self.estimate is None:
      return np.zeros(len(self.visibility), bool)
    return np.asarray(self.confidence) < UNSURE

  @property
  def points(self) -> np.ndarray:
    """(N, 2) The estimates; the truth where no estimate is shown."""
    points = self.truth if self.estimate is None else self.estimate
    return np.asarray(points, np.float64)

  def moved(self, scale: ArrayLike, shift: ArrayLike) -> 'Marks':
    """The marks in a picture that is scaled, then shifted.

    Args:
      scale: Pixels of the new picture for one of the old, a number or (2,).
      shift: (2,) x, y of the old picture's corner in the new one.
    """
    scale, shift = np.broadcast_to(scale, 2), np.asarray(shift, np.float64)
    place = lambda x: None if x is None else np.asarray(x) * scale + shift
    box = self.box
    if box is not None:
      box = place(np.reshape(box, (2, 2))).ravel()
    reach = None if self.reach is None else self.reach * np.sqrt(scale.prod())
    return dataclasses.replace(
      self,
      estimate=place(self.estimate),
      truth=place(self.truth),
      box=box,
      reach=reach,
    )


def draw(
  image: np.ndarray,
  items: Sequence[Marks],
  landmarks: schema.LandmarkSet,
  *,
  names: Sequence[str] | None = None,
  all_or_none: bool = False,
) -> np.ndarray | None:
  """Draws items on a copy of an image.

  Args:
    image: (H, W, 3) uint8 RGB.
    items: The items of the image.
    landmarks: The N landmarks.
    names: N texts that stand beside the marks where there is room; None for no
      texts.
    all_or_none: Whether nothing is to be drawn if not all texts find room.

  Returns:
    (H, W, 3) uint8 RGB; None if `all_or_none` and there is no room.
  """
  placed = []
  if names is not None:
    placed, missing = _places(image.shape, items, landmarks, names)
    if missing and all_or_none:
      return None
  picture = np.array(image, order='C')
  _draw_boxes(picture, items)
  for opacity, faint in ((FAINT, True), (LINE, False)):
    _draw_lines(picture, items, landmarks, faint, opacity)
  for item in items:
    if item.truth is not None:
      _draw_truth(picture, item, landmarks)
  for opacity, faint in ((FAINT, True), (1.0, False)):
    with _Layer(picture, opacity) as layer:
      for item in items:
        if item.estimate is not None:
          slots = item.shown[item.unsure[item.shown] == faint]
          _draw_estimate(layer, item, slots, landmarks)
  for slot, corner, size in placed:
    colour = tuple(int(0.72 * c) for c in _colour(landmarks, slot))
    lettering.write(picture, names[slot], corner, size, colour, HALO)
  return picture


def labelled(
  image: np.ndarray, items: Sequence[Marks], landmarks: schema.LandmarkSet
) -> np.ndarray:
  """Draws items with the names of their landmarks.

  Where there is no room for every name, numbers stand beside the marks, and a
  key below the image tells their names.

  Args:
    image: (H, W, 3) uint8 RGB.
    items: The items of the image.
    landmarks: The N landmarks.

  Returns:
    (H', W, 3) uint8 RGB: the image, perhaps with a key below it.
  """
  names = [words(name) for name in landmarks.names]
  picture = draw(image, items, landmarks, names=names, all_or_none=True)
  if picture is not None:
    return picture
  picture = draw(image, items, landmarks, names=numbers(landmarks))
  slots = sorted({int(slot) for item in items for slot in item.shown})
  return np.concatenate([picture, key(landmarks, slots, picture.shape[1])])


def numbers(landmarks: schema.LandmarkSet) -> list[str]:
  """The numbers of landmarks in pictures: from 1, by slot.

  Args:
    landmarks: The N landmarks.
  """
  return [str(slot + 1) for slot in range(landmarks.num_landmarks)]


def enlarged(
  image: np.ndarray,
  boxes: Sequence[np.ndarray],
  *,
  least: int,
  most: int,
  item: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Scales an image so that marks do not cover what they stand on.

  Args:
    image: (H, W, 3) uint8 RGB.
    boxes: The (4,) boxes of the items.
    least: The least longer side of the result in pixels.
    most: The largest longer side of the result in pixels.
    item: The longer side in pixels that the smallest item gets, as far as
      `most` allows.

  Returns:
    (H', W', 3) uint8 RGB, and the (2,) pixels of the result for one of the
    image, by axis.
  """
  size = np.array(image.shape[1::-1])
  sides = [max(box[2] - box[0], box[3] - box[1]) for box in boxes]
  sides = [float(side) for side in sides if np.isfinite(side) and side >= 1]
  wanted = max([1.0] + [item / side for side in sides])
  longer = np.clip(wanted * max(size), least, most)
  new = np.maximum(np.round(size * longer / max(size)), 1).astype(int)
  if (new == size).all():
    return image, np.ones(2)
  return resized(image, tuple(new.tolist())), new / size


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """A picture in another size, smooth whether it shrinks or grows.

  Args:
    picture: (H, W, 3) uint8.
    size: The new width and height in pixels.
  """
  grows = size[0] > picture.shape[1]
  method = cv2.INTER_CUBIC if grows else cv2.INTER_AREA
  return cv2.resize(picture, size, interpolation=method)


# --- marks --------------------------------------------------------------------


def radius_of(item: Marks, shape: tuple[int, ...]) -> float:
  """The radius of an item's discs in pixels.

  Args:
    item: The item.
    shape: The shape of the picture.
  """
  return float(np.clip(RADIUS * _side(item, shape), MIN_RADIUS, MAX_RADIUS))


def text_size(item: Marks, shape: tuple[int, ...]) -> int:
  """The height of the letters beside an item's marks in pixels.

  Args:
    item: The item.
    shape: The shape of the picture.
  """
  size = min(TEXT * max(shape[:2]), ITEM_TEXT * _side(item, shape))
  return int(np.clip(round(size), MIN_TEXT, MAX_TEXT))


def _side(item: Marks, shape: tuple[int, ...]) -> float:
  """The longer side of an item, or of the picture if it has no box."""
  side = float(max(shape[:2]))
  if item.box is not None and np.isfinite(item.box).all():
    box = np.asarray(item.box, np.float64)
    side = min(side, max(box[2] - box[0], box[3] - box[1]))
  return side


def _colour(landmarks: schema.LandmarkSet, slot: int) -> tuple[int, int, int]:
  """The RGB colour of a landmark."""
  sides = {'left': LEFT, 'right': RIGHT, 'middle': MIDDLE}
  return sides[landmarks.sides[slot]]


class _Layer:
  """A copy of a picture to draw on, which is laid over it in the end.

  Args:
    picture: (H, W, 3) uint8; it is changed.
    opacity: The share of what is drawn in the result.
  """

  def __init__(self, picture: np.ndarray, opacity: float):
    self._picture, self._opacity = picture, opacity

  def __enter__(self) -> np.ndarray:
    self._layer = self._picture
    if self._opacity < 1:
      self._layer = self._picture.copy()
    return self._layer

  def __exit__(self, *error: Any) -> None:
    if self._opacity < 1:
      share = self._opacity
      cv2.addWeighted(
        self._layer, share, self._picture, 1 - share, 0, dst=self._picture
      )


def _draw_boxes(picture: np.ndarray, items: Sequence[Marks]) -> None:
  """Draws the boxes of items into a picture: light lines in dark ones."""
  boxes = [item.box for item in items if item.box is not None]
  side = max(picture.shape[:2])
  # A box that fills the image is seen as well.
  last = np.array(picture.shape[1::-1]) - 2
  corner = lambda point: tuple(
    np.clip(np.nan_to_num(np.rint(point), nan=side), 1, last)
    .astype(int)
    .tolist()
  )
  for colour, width, opacity in ((BLACK, 3, 0.22), (WHITE, 1, 0.9)):
    if boxes:
      with _Layer(picture, opacity) as layer:
        for box in boxes:
          ends = corner(box[:2]), corner(np.asarray(box[2:]) - 1)
          cv2.rectangle(layer, *ends, colour, width)


def _draw_lines(
  picture: np.ndarray,
  items: Sequence[Marks],
  landmarks: schema.LandmarkSet,
  faint: bool,
  opacity: float,
) -> None:
  """Draws the skeletons of items into a picture.

  Args:
    picture: (H, W, 3) uint8; it is changed.
    items: The items.
    landmarks: The N landmarks.
    faint: Whether lines with an unsure end are drawn, or the others.
    opacity: The opacity of the lines.
  """
  lines = []
  for item in items:
    shown, unsure = set(item.shown.tolist()), item.unsure
    points = _to_cv(item.points, max(picture.shape[:2]))
    width = 2 if radius_of(item, picture.shape) > 4 else 1
    for pair in landmarks.skeleton:
      a, b = map(landmarks.names.index, pair)
      if {a, b} <= shown and bool(unsure[a] or unsure[b]) == faint:
        sides = {landmarks.sides[a], landmarks.sides[b]}
        colour = _colour(landmarks, a) if len(sides) == 1 else WHITE
        lines.append((points[a], points[b], colour, width))
  if lines:
    # White is not seen on white, nor a colour on itself.
    with _Layer(picture, opacity * UNDER) as layer:
      for start, end, colour, width in lines:
        under = BLACK if colour == WHITE else WHITE
        cv2.line(layer, start, end, under, width + 2, cv2.LINE_AA, 4)
    with _Layer(picture, opacity) as layer:
      for start, end, colour, width in lines:
        cv2.line(layer, start, end, colour, width, cv2.LINE_AA, 4)


def _draw_truth(
  picture: np.ndarray, item: Marks, landmarks: schema.LandmarkSet
) -> None:
  """Draws the true positions of an item into a picture."""
  radius = radius_of(item, picture.shape)
  places = _to_cv(item.truth, max(picture.shape[:2]))
  for slot in item.shown:
    _ring(picture, places[slot], radius, *_look(item, landmarks, slot))


def _draw_estimate(
  picture: np.ndarray,
  item: Marks,
  slots: np.ndarray,
  landmarks: schema.LandmarkSet,
) -> None:
  """Draws estimates of an item into a picture, joined to the truth."""
  side, radius = max(picture.shape[:2]), radius_of(item, picture.shape)
  places = _to_cv(item.estimate, side)
  if item.truth is not None:
    truth = _to_cv(item.truth, side)
    for slot in slots:
      for colour, width in ((WHITE, 3), (_colour(landmarks, slot), 1)):
        cv2.line(
          picture, truth[slot], places[slot], colour, width, cv2.LINE_AA, 4
        )
  for slot in slots:
    reach = np.inf if item.reach is None else float(item.reach[slot])
    # A circle beyond the picture says nothing, nor one below its disc.
    if radius < reach < side:
      for colour, width in ((WHITE, 3), (_colour(landmarks, slot), 1)):
        cv2.circle(
          picture,
          places[slot],
          round(16 * reach),
          colour,
          width,
          cv2.LINE_AA,
          4,
        )
  for slot in slots:
    _disc(picture, places[slot], radius, *_look(item, landmarks, slot))


def _look(item: Marks, landmarks: schema.LandmarkSet, slot: int) -> tuple:
  """The colour of a mark and of its rim."""
  visible = item.visibility[slot] == schema.VISIBLE
  return _colour(landmarks, slot), WHITE if visible else BLACK


def _disc(
  picture: np.ndarray,
  place: tuple[int, int],
  radius: float,
  colour: tuple[int, int, int],
  rim: tuple[int, int, int],
) -> None:
  """Draws an estimate; `place` is in sixteenths of a pixel."""
  draw = {'thickness': -1, 'lineType': cv2.LINE_AA, 'shift': 4}
  width = max(1.0, radius / 4)
  cv2.circle(picture, place, round(16 * (radius + width)), rim, **draw)
  cv2.circle(picture, place, round(16 * radius), colour, **draw)


def _ring(
  picture: np.ndarray,
  place: tuple[int, int],
  radius: float,
  colour: tuple[int, int, int],
  rim: tuple[int, int, int],
) -> None:
  """Draws a truth; `place` is in sixteenths of a pixel."""
  width = 2 if radius < 6 else 3
  reach = radius + 2.5
  # The rim is outside: the hole shows what the truth stands on.
  for line_colour, more in ((rim, 1.2), (colour, 0.0)):
    cv2.circle(
      picture,
      place,
      round(16 * (reach + more)),
      line_colour,
      width,
      cv2.LINE_AA,
      4,
    )


def _to_cv(points: np.ndarray, side: int) -> list[tuple[int, int]]:
  """Converts (N, 2) pixels to OpenCV's sixteenths of a pixel.

  OpenCV's origin is the centre of the first pixel.

  Args:
    points: (N, 2) x, y in pixels of the image.
    side: The image's longer side in pixels.
  """
  # A wild estimate would overflow OpenCV's integers; far outside is enough.
  points = np.nan_to_num(np.asarray(points, np.float64), nan=-9 * side)
  points = np.clip(points - 0.5, -9 * side, 9 * side)
  return [tuple(int(v) for v in point) for point in np.rint(points * 16)]


# --- names and numbers --------------------------------------------------------


def _places(
  shape: tuple[int, ...],
  items: Sequence[Marks],
  landmarks: schema.LandmarkSet,
  names: Sequence[str],
) -> tuple[list[tuple[int, tuple[int, int], int]], int]:
  """Finds places for texts where they cover no mark and no other text.

  A text stands beside its mark, rather on the side that looks away from the
  item's middle.

  Returns:
    The slot, upper left corner and height of the letters of each text, and the
    number of texts that find no place.
  """
  height, width = shape[:2]
  discs = [np.empty((0, 3))]
  wanted = []
  for item in items:
    radius = radius_of(item, shape)
    points, shown = item.points, item.shown
    inside = np.isfinite(points).all(axis=1)
    inside &= ((points >= 0) & (points < (width, height))).all(axis=1)
    shown = [slot for slot in shown if inside[slot]]
    if not shown:
      continue
    reach = 1.3 * radius + 1
    discs.append(np.column_stack([points[shown], np.full(len(shown), reach)]))
    if item.truth is not None and item.estimate is not None:
      truth = np.asarray(item.truth)[shown]
      discs.append(np.column_stack([truth, np.full(len(shown), radius + 4)]))
    middle = points[shown].mean(axis=0)
    size = text_size(item, shape)
    wanted += [
      (slot, points[slot], points[slot] - middle, radius, size)
      for slot in shown
    ]
  discs = np.concatenate(discs)
  taken: list[np.ndarray] = []
  placed, missing = [], 0
  for slot, point, outwards, radius, size in wanted:
    sides = lettering.stamp(names[slot], size, HALO).shape[1::-1]
    rectangle = _free(
      point, outwards, radius, np.array(sides), (width, height), discs, taken
    )
    if rectangle is None:
      missing += 1
      continue
    taken.append(rectangle)
    corner = tuple(np.rint(rectangle[:2]).astype(int).tolist())
    placed.append((slot, corner, size))
  return placed, missing


_DIRECTIONS = np.array(
  [(1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)]
)


def _free(
  point: np.ndarray,
  outwards: np.ndarray,
  radius: float,
  sides: np.ndarray,
  size: tuple[int, int],
  discs: np.ndarray,
  taken: Sequence[np.ndarray],
) -> np.ndarray | None:
  """The first free rectangle of a text beside a mark; None if there is none."""
  lengths = np.hypot(*_DIRECTIONS.T) * max(np.hypot(*outwards), 1e-6)
  order = np.argsort(-(_DIRECTIONS @ outwards) / lengths, kind='stable')
  for direction in _DIRECTIONS[order]:
    # On a diagonal the corner of the text comes near.
    gap = (radius + 1) * (0.75 if direction.all() else 1.35)
    centre = point + direction * (gap + sides / 2)
    start, end = centre - sides / 2, centre + sides / 2
    if (start < 0).any() or (end > size).any():
      continue
    near = np.clip(discs[:, :2], start + 2, end - 2)
    distance = np.hypot(*(near - discs[:, :2]).T)
    own = (discs[:, :2] == point).all(axis=1)
    if (distance[~own] < discs[~own, 2]).any():
      continue
    if any(
      (start < other[2:] - 2).all() and (end - 2 > other[:2]).all()
      for other in taken
    ):
      continue
    return np.concatenate([start, end])
  return None


# --- keys ---------------------------------------------------------------------


def key(
  landmarks: schema.LandmarkSet,
  slots: Sequence[int],
  width: int,
  *,
  pairs: np.ndarray | None = None,
) -> np.ndarray:
  """Draws a key of the numbers that stand beside marks.

  Args:
    landmarks: The N landmarks.
    slots: The slots that the key tells.
    width: The width of the key in pixels.
    pairs: (P, 2) slots that change places in a mirrored image, see
      `LandmarkSet.pairs`: the two stand together, joined by an arrow. None if
      the key does not tell them.

  Returns:
    (H, width, 3) uint8 RGB.
  """
  slots = [int(slot) for slot in slots]
  groups = []
  if pairs is not None:
    groups = [tuple(p) for p in pairs.tolist() if {*p} <= {*slots}]
  paired = {slot for group in groups for slot in group}
  groups += [(slot,) for slot in slots if slot not in paired]
  entries = []
  for group in groups:
    parts = []
    for slot in group:
      if parts:
        parts.append(' ↔ ')
      parts.append(_colour(landmarks, slot))
      parts.append(f'{slot + 1} {words(landmarks.names[slot])}')
    entries.append(parts)
  return _table(entries, width)


def legend(
  landmarks: schema.LandmarkSet,
  width: int,
  *,
  truth: bool,
  estimate: bool,
  confidence: bool = False,
  reach: bool = False,
) -> np.ndarray:
  """Draws the meaning of colours and marks.

  Args:
    landmarks: The N landmarks.
    width: The width of the legend in pixels.
    truth: Whether there are rings.
    estimate: Whether there are discs.
    confidence: Whether unsure estimates are faint.
    reach: Whether there are circles of error_50.

  Returns:
    (H, width, 3) uint8 RGB.
  """
  sides = (('left', LEFT), ('right', RIGHT), ('middle', MIDDLE))
  entries = [
    [colour, 'neither' if side == 'middle' else side]
    for side, colour in sides
    if side in landmarks.sides
  ]
  sample = lambda rim=WHITE, opacity=1.0, ring=False: (rim, opacity, ring)
  if truth:
    entries.append([sample(ring=True), 'truth, visible'])
  if estimate:
    entries.append([sample(), 'estimate, visible'])
  entries.append([sample(BLACK, ring=not estimate), 'occluded'])
  if confidence:
    entries.append([sample(opacity=FAINT), f'unsure: below {UNSURE}'])
  if reach:
    entries.append(['circle: error_50'])
  return _table(entries, width)


def _table(entries: list[list], width: int) -> np.ndarray:
  """Draws entries in columns on a light ground.

  Args:
    entries: The parts of each entry: texts, colours of discs, and samples of
      marks, (rim, opacity, whether a ring).
    width: The width in pixels.
  """
  size, edge, gap = MIN_TEXT + 1, 10, 18
  row = size + 9
  disc = 22
  wide = lambda part: (
    lettering.width_of(part, size) + 5 if isinstance(part, str) else disc
  )
  widths = [sum(map(wide, parts)) for parts in entries]
  room = width - 2 * edge
  column = min(room, max(widths, default=0) + gap)
  columns = max(1, min(len(entries), room // max(1, column)))
  lines = -(-len(entries) // columns)
  table = np.full((lines * row + edge, width, 3), KEY_GROUND, np.uint8)
  for place, parts in enumerate(entries):
    x = edge + (place // lines) * column
    y = edge // 2 + (place % lines) * row
    end = x + column
    for part in parts:
      if isinstance(part, str):
        text = lettering.shortened(part, size, max(1, end - x))
        lettering.write(table, text, (x, y + 2), size)
      else:
        middle = (16 * (x + 9), 16 * (y + row // 2))
        _sample(table, middle, part)
      x += wide(part)
  return table


def _sample(table: np.ndarray, middle: tuple[int, int], part: tuple) -> None:
  """Draws a disc of a colour, or a sample of a mark on a grey chip."""
  if isinstance(part[1], int):
    cv2.circle(table, middle, 16 * 5, part, -1, cv2.LINE_AA, 4)
    return
  rim, opacity, is_ring = part
  x, y = middle[0] // 16, middle[1] // 16
  chip = table[y - 8 : y + 9, x - 8 : x + 9]
  chip[:] = CHIP
  layer = chip.copy()
  draw_one = _ring if is_ring else _disc
  draw_one(layer, (16 * 8, 16 * 8), 3.5, LEFT, rim)
  chip[:] = np.rint(opacity * layer + (1 - opacity) * np.float32(chip))
