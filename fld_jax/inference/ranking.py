"""Which photos a person should label next: unsure ones, unlike each other.

  DIR/ranking.csv   a line an image, the one to label first at the top: rank,
                    image, expected_error, novelty

An item's expected error is the mean over its landmarks of error_50, as a share
of the square root of its box's area; where the run has no calibration, the
share that its score lacks to 1. An image has that of its worst item.

The first image is the least sure one. After it the largest product of expected
error and novelty follows, the distance of the item's landmarks in its box to
those of every image before it: the farthest-first traversal (Gonzalez, 1985),
as it chooses examples to label (Sener and Savarese, ICLR 2018), weighted by the
uncertainty.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fld_jax.files import file_names
from fld_jax.inference.landmarks import Landmarks

NAME = 'ranking.csv'
BUDGET = 1000  # images that are chosen for being unlike; the rest by error


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
  """The order of n images.

  Attributes:
    order: (n,) indices of the images, the one to label first at the start.
    novelty: (n,) the distance of each image, by its index, to all before it in
      the order; NaN for the first and for those that are beyond the budget.
  """

  order: np.ndarray
  novelty: np.ndarray


def rank(
  errors: Float[np.ndarray, ' n'],
  vectors: Float[np.ndarray, 'n d'],
  budget: int = BUDGET,
) -> Ranking:
  """Orders images by expected error and novelty.

  Args:
    errors: (n,) expected errors, at least 0.
    vectors: (n, d) what images are compared by, as Euclidean distances.
    budget: The number of images that are compared with those before them; the
      others follow by their errors.
  """
  count = len(errors)
  novelty = np.full(count, np.nan)
  left = np.ones(count, bool)
  order = []
  distances = np.full(count, np.inf)
  for _ in range(min(budget, count)):
    if order:
      gaps = np.linalg.norm(vectors - vectors[order[-1]], axis=1)
      distances = np.minimum(distances, gaps)
    worth = errors * (distances if order else 1.0)
    chosen = int(np.argmax(np.where(left, worth, -1.0)))
    if order:
      novelty[chosen] = distances[chosen]
    order.append(chosen)
    left[chosen] = False
  rest = np.flatnonzero(left)
  rest = rest[np.argsort(-errors[rest], kind='stable')]
  return Ranking(np.array([*order, *rest], np.int64), novelty)


def expected_error(found: Landmarks) -> float:
  """The expected error of an item; see the module's docstring."""
  if found.error_50 is not None:
    radius = found.error_50[found.present]
    radius = radius[np.isfinite(radius)]
    if radius.size:
      return float(radius.mean() / _side(found))
  return 1 - found.score


def vector(found: Landmarks) -> Float[np.ndarray, ' d']:
  """The (2N,) places of an item's landmarks in its box.

  They are from the box's centre in square roots of its area; 0 for a landmark
  that the item lacks.
  """
  centre = (found.box[:2] + found.box[2:]) / 2
  places = (found.positions - centre) / _side(found)
  return np.where(found.present[:, None], places, 0.0).ravel()


def _side(found: Landmarks) -> float:
  width, height = found.box[2:] - found.box[:2]
  return float(np.sqrt(max(width * height, 1.0)))


class Images:
  """Collects what images are ranked by, item by item."""

  def __init__(self):
    """Begins without images."""
    self._worst: dict[str, tuple[float, np.ndarray]] = {}

  def add(self, name: str, found: Landmarks) -> None:
    """Adds an item.

    Args:
      name: The name of its image.
      found: Its landmarks.
    """
    error = expected_error(found)
    if name not in self._worst or error > self._worst[name][0]:
      self._worst[name] = error, vector(found)

  def ranked(self) -> tuple[list[str], bytes]:
    """Orders the images.

    Returns:
      The names of the images, the one to label first at the start; and the
      content of ranking.csv.
    """
    names = list(self._worst)
    lines = [
      file_names.csv_line(('rank', 'image', 'expected_error', 'novelty'))
    ]
    if not names:
      return [], b''.join(lines)
    errors, vectors = zip(*self._worst.values(), strict=True)
    found = rank(np.array(errors), np.stack(vectors))
    order: Int[np.ndarray, ' n'] = found.order
    for place, i in enumerate(order, 1):
      far = found.novelty[i]
      cell = file_names.to_cell(file_names.encoded(names[i]))
      novelty = '' if np.isnan(far) else f'{far:.6g}'
      line = (str(place), cell, f'{errors[i]:.6g}', novelty)
      lines.append(file_names.csv_line(line))
    return [names[i] for i in order], b''.join(lines)


def in_order(names: Sequence[str], first: Sequence[str]) -> list[str]:
  """All of some names once, those of `first` at the start.

  Args:
    names: All names, several times each or not.
    first: Some of them, in their order.
  """
  return list(dict.fromkeys([*first, *names]))
