"""OKS and COCO's AP and AR of keypoints, as COCO's own evaluation defines them.

cocodataset.org/#keypoints-eval; sums are in the order of pycocotools, so the
figures agree with it to rounding. Float64 NumPy in image pixels.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fld_jax.errors import InputError

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 20
# Areas of objects in pixels, both ends included.
AREAS = {'all': (0, 1e10), 'medium': (32**2, 96**2), 'large': (96**2, 1e10)}
EPSILON = np.spacing(1)


@dataclasses.dataclass(frozen=True)
class Objects:
  """The annotated objects of one image; G objects, N landmarks.

  Attributes:
    keypoints: (G, N, 2) x, y in pixels.
    labelled: (G, N) bool, COCO's v above 0.
    areas: (G,) pixels.
    boxes: (G, 4) x, y, width, height, as COCO writes them.
    crowd: (G,) bool.
  """

  keypoints: np.ndarray
  labelled: np.ndarray
  areas: np.ndarray
  boxes: np.ndarray
  crowd: np.ndarray


def oks(estimates, objects: Objects, sigmas) -> np.ndarray:
  """Object keypoint similarity.

  An object without labelled keypoints is compared by how far outside of its
  box, doubled on each side, the estimates lie.

  Args:
    estimates: (D, N, 2) pixels.
    objects: G of them.
    sigmas: N standard deviations, as shares of the square root of the area.

  Returns:
    (D, G) in [0, 1].

  Raises:
    InputError: if the number of sigmas is not that of the landmarks.
  """
  estimates = np.asarray(estimates, np.float64)
  sigmas = np.asarray(sigmas, np.float64)
  if len(sigmas) != estimates.shape[1]:
    raise InputError(
      f'There are {len(sigmas)} sigmas for {estimates.shape[1]} landmarks.'
    )
  variances = (2 * sigmas) ** 2
  similarity = np.zeros((len(estimates), len(objects.areas)))
  for g in range(len(objects.areas)):
    labelled = np.asarray(objects.labelled[g], bool)
    if labelled.any():
      error = estimates - np.asarray(objects.keypoints[g], np.float64)
    else:
      corner, size = np.split(np.asarray(objects.boxes[g], np.float64), 2)
      low, high = corner - size, corner + 2 * size
      error = np.maximum(low - estimates, 0) + np.maximum(estimates - high, 0)
      labelled = np.full(len(sigmas), True)
    squared = (error**2).sum(axis=-1)
    squared = squared / variances / (objects.areas[g] + EPSILON) / 2
    similarity[:, g] = np.exp(-squared[:, labelled]).mean(axis=1)
  return similarity


@dataclasses.dataclass(frozen=True)
class CocoState:
  """Matched detections of any number of images; they merge.

  M detections, A area ranges, T thresholds.

  Attributes:
    scores: (M,).
    matched: (A, T, M) bool.
    ignored: (A, T, M) bool, neither right nor wrong.
    num_objects: (A,) objects to be found.
  """

  scores: np.ndarray
  matched: np.ndarray
  ignored: np.ndarray
  num_objects: np.ndarray

  @classmethod
  def from_image(cls, estimates, scores, objects: Objects, sigmas):
    """Matches one image's detections with its objects.

    Args:
      estimates: (D, N, 2) pixels; the 20 with the highest scores count.
      scores: (D,).
      objects: the image's.
      sigmas: see `oks`.

    Returns:
      The image's state.

    Raises:
      InputError: see `oks`; for a score or a place that is not finite.
    """
    estimates = np.asarray(estimates, np.float64).reshape(-1, len(sigmas), 2)
    scores = np.asarray(scores, np.float64)
    if not (np.isfinite(estimates).all() and np.isfinite(scores).all()):
      raise InputError('A score or a place of a detection is not finite.')
    order = np.argsort(-scores, kind='stable')[:MAX_DETECTIONS]
    estimates, scores = estimates[order], scores[order]
    similarity = oks(estimates, objects, sigmas)
    extent = np.ptp(estimates, axis=1).prod(axis=-1)  # area of a detection
    unlabelled = ~np.asarray(objects.labelled, bool).any(axis=-1)
    crowd = np.asarray(objects.crowd, bool)
    shape = len(AREAS), len(THRESHOLDS), len(scores)
    matched, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    num_objects = np.zeros(len(AREAS), int)
    for a, (low, high) in enumerate(AREAS.values()):
      outside = (objects.areas < low) | (objects.areas > high)
      skip = crowd | unlabelled | outside
      num_objects[a] = (~skip).sum()
      beyond = (extent < low) | (extent > high)
      for t, threshold in enumerate(THRESHOLDS):
        found = _match(similarity, threshold, skip, crowd)
        matched[a, t] = found >= 0
        ignored[a, t] = np.where(
          found >= 0, skip[found] if len(skip) else False, beyond
        )
    return cls(scores, matched, ignored, num_objects)

  @classmethod
  def merge(cls, states: Sequence['CocoState']) -> 'CocoState':
    """State of all images together.

    Detections with equal scores rank in the order of the states.
    """
    join = lambda name: np.concatenate(
      [getattr(state, name) for state in states], axis=-1
    )
    return cls(
      join('scores'),
      join('matched'),
      join('ignored'),
      sum(state.num_objects for state in states),
    )

  def compute(self) -> dict[str, float | None]:
    """COCO's ten figures, shares in [0, 1].

    Returns:
      `AP` and `AR` (means over OKS 0.50 to 0.95), `AP50`, `AP75`, `AR50`,
      `AR75`, `APM`, `APL`, `ARM`, `ARL`; None where there is no object
      (pycocotools: -1).
    """
    order = np.argsort(-self.scores, kind='stable')
    matched, ignored = self.matched[..., order], self.ignored[..., order]
    right = np.cumsum(matched & ~ignored, axis=-1, dtype=np.float64)
    wrong = np.cumsum(~matched & ~ignored, axis=-1, dtype=np.float64)
    precision = np.full((len(AREAS), len(THRESHOLDS)), np.nan)
    recall = precision.copy()
    for a, t in np.ndindex(precision.shape):
      if not self.num_objects[a]:
        continue
      found = right[a, t] / self.num_objects[a]
      recall[a, t] = found[-1] if len(found) else 0.0
      exact = right[a, t] / (wrong[a, t] + right[a, t] + EPSILON)
      # The best precision at this recall or a higher one.
      best = np.maximum.accumulate(exact[::-1])[::-1]
      places = np.searchsorted(found, RECALLS, side='left')
      reached = places < len(best)
      at = np.zeros(len(RECALLS))
      at[reached] = best[places[reached]]
      precision[a, t] = at.mean()
    figures = {}
    for name, table in (('AP', precision), ('AR', recall)):
      figures |= {
        name: table[0].mean(),
        f'{name}50': table[0, 0],
        f'{name}75': table[0, 5],
        f'{name}M': table[1].mean(),
        f'{name}L': table[2].mean(),
      }
    return {k: None if np.isnan(v) else float(v) for k, v in figures.items()}


def _match(similarity, threshold: float, skip, crowd) -> np.ndarray:
  """(D,) the object that each detection finds, -1 for none.

  Detections choose in order of their scores, each the most similar object that
  is left. Those to be skipped are chosen only if no other will do; a crowd can
  be chosen any number of times.
  """
  order = np.argsort(skip, kind='stable')
  taken = np.zeros(len(skip), bool)
  found = np.full(len(similarity), -1)
  for d, row in enumerate(similarity):
    best = min(threshold, 1 - 1e-10)
    for g in order:
      if taken[g] and not crowd[g]:
        continue
      if found[d] >= 0 and not skip[found[d]] and skip[g]:
        break
      if row[g] >= best:
        best, found[d] = row[g], g
    if found[d] >= 0:
      taken[found[d]] = True
  return found
