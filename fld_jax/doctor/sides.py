"""Whether left and right of a data set's landmarks have changed places.

In a set that follows one convention, the left landmark of a pair lies left of
the right one in most images, or in few. Where a part of the set does the
opposite, its annotators followed another convention, or a conversion mixed up
the columns.

One image the other way round proves nothing: where sides are the person's, or
the garment's as in DeepFashion, one that is seen from behind does that, and
where they are the observer's, one that is upside down or lies, or crossed legs.
"""

import numpy as np

from fld_jax import schema

MIN_IMAGES = 20  # fewer do not make a group
# Of two landmarks that mirror each other, in sides of the box: the most that
# one's mean is off the other's mirror image, and the least that they are apart;
# in at least so many images.
MIN_MIRRORED, MAX_OFF, MIN_WIDTH = 8, 0.08, 0.15
# A majority is clear if it is off an even split by so many standard errors:
# about a hundred groups and pairs are looked at, and of those that are even one
# in 370 is off by more.
CLEAR = 3.0


def signs(
  points: np.ndarray, visibility: np.ndarray, slots: np.ndarray
) -> np.ndarray:
  """Which way round the pairs of an image are.

  Args:
    points: (N, 2) x, y.
    visibility: (N,) codes.
    slots: (P, 2), see `LandmarkSet.pairs`.

  Returns:
    (P,) int8: 1 left lies left, -1 left lies right, 0 one of the two is not
    visible or they are at the same x.
  """
  x = points[:, 0][slots]
  seen = (visibility[slots] == schema.VISIBLE).all(axis=1)
  return np.where(seen, np.sign(x[:, 1] - x[:, 0]), 0).astype(np.int8)


def majority(counts: np.ndarray) -> np.ndarray:
  """Which way round most images are.

  Args:
    counts: (..., 2) images in which left lies left, and lies right.

  Returns:
    (...) int8: 1, -1, or 0 where there is no clear majority of MIN_IMAGES.
  """
  counts = np.asarray(counts, np.float64)
  total, excess = counts.sum(axis=-1), counts[..., 0] - counts[..., 1]
  # The difference of two shares of n throws of a coin deviates by sqrt(n).
  clear = (total >= MIN_IMAGES) & (np.abs(excess) > CLEAR * np.sqrt(total))
  return np.where(clear, np.sign(excess), 0).astype(np.int8)


def opposite_groups(cells: dict[tuple, np.ndarray]) -> list[dict]:
  """Groups that are the other way round from the rest of the set.

  Args:
    cells: (split, type) -> (P, 2) counts as for `majority`.

  Returns:
    `split` and `type`, one of them or both, None for all; `pair`, its index;
    `left`, `images`: of the group; `other_left`, `other_images`: of the rest. A
    group is not larger than the rest; of two equal halves both are named. Where
    a split or a type is named, its parts are not.
  """
  total = sum(cells.values())
  ours = {}
  for (split, kind), counts in cells.items():
    for key in {(split, None), (None, kind), (split, kind)}:
      ours[key] = ours.get(key, 0) + counts
  found, named = [], set()
  order = lambda key: (None not in key, *(str(x or '') for x in key))
  for split, kind in sorted(ours, key=order):
    group, rest = ours[split, kind], total - ours[split, kind]
    against = majority(group) * majority(rest) < 0
    smaller = group.sum(axis=1) <= rest.sum(axis=1)
    for pair in np.flatnonzero(against & smaller).tolist():
      if {(split, None, pair), (None, kind, pair)} & named:
        continue
      named.add((split, kind, pair))
      found.append(
        {
          'split': split,
          'type': kind,
          'pair': pair,
          'left': int(group[pair, 0]),
          'images': int(group[pair].sum()),
          'other_left': int(rest[pair, 0]),
          'other_images': int(rest[pair].sum()),
        }
      )
  return found


def opposite_pairs(total: np.ndarray) -> list[int]:
  """Pairs that are the other way round from most of the other pairs.

  Args:
    total: (P, 2) counts of the whole set.
  """
  ways = majority(total).astype(int)
  return np.flatnonzero(ways * (ways.sum() - ways) < 0).tolist()


def opposite_images(image_signs: np.ndarray, total: np.ndarray) -> np.ndarray:
  """Images of which all pairs, two or more, are against the majority.

  Args:
    image_signs: (n, P) of `signs`.
    total: (P, 2) counts of the whole set; pairs without a clear majority do not
      count.

  Returns:
    (n,) bool.
  """
  against = image_signs * majority(total)
  known = against != 0
  return (known.sum(axis=1) >= 2) & (against <= 0).all(axis=1)


class MirrorImages:
  """Looks for landmarks without a partner that mirror each other by position.

  Names that do not tell left from right, such as numbers, have no partner, and
  a mirrored training image would teach one for the other. Positions tell: over
  all images, the mean of one is the mirror image of the other's in the box.

  Args:
    slots: (M,) The slots of the landmarks that have no partner.
  """

  def __init__(self, slots: np.ndarray):
    self._slots = slots
    size = (len(slots), len(slots))
    self._count = np.zeros(size, np.int64)
    self._middle = np.zeros(size)  # sums of how far the middle of two is off
    self._height = np.zeros(size)  # sums of y_i - y_j
    self._width = np.zeros(size)  # sums of |x_i - x_j|

  def add(
    self, points: np.ndarray, visibility: np.ndarray, box: np.ndarray
  ) -> None:
    """Counts an item.

    Args:
      points: (N, 2) x, y in pixels.
      visibility: (N,) visibility codes.
      box: (4,) x1, y1, x2, y2 in pixels.
    """
    if len(self._slots) < 2:
      return
    side = np.maximum(box[2:] - box[:2], 1)
    places = (points[self._slots] - box[:2]) / side
    known = schema.has_position(visibility[self._slots])
    both = known[:, None] & known
    x, y = places.T
    self._count += both
    self._middle += np.where(both, (x[:, None] + x) / 2 - 0.5, 0)
    self._height += np.where(both, y[:, None] - y, 0)
    self._width += np.where(both, np.abs(x[:, None] - x), 0)

  def pairs(self) -> list[tuple[int, int]]:
    """Slots of two landmarks each, which are each other's best mirror image."""
    few = self._count < MIN_MIRRORED
    count = np.maximum(self._count, 1)
    off = np.hypot(self._middle / count, self._height / count)
    width = self._width / count
    off[few | (off > MAX_OFF) | (width < MIN_WIDTH)] = np.inf
    if not len(off):
      return []
    best = off.argmin(axis=1)
    return [
      (int(self._slots[i]), int(self._slots[j]))
      for i, j in enumerate(best)
      if i < j and best[j] == i and np.isfinite(off[i, j])
    ]
