"""PCK, AUC, EPE, PDJ and strict PCP: what other fields call a good landmark.

Float64 NumPy in pixels of the original images. Each metric is a
`metrics.MeanState` over landmarks or sticks, so that shares of a split, of any
size, merge into the whole.
"""

import numpy as np

from fld_jax.errors import InputError
from fld_jax.metrics.mean_state import MeanState


def distances(estimate, truth, reference=1.0) -> np.ndarray:
  """Lengths of the errors, as multiples of a reference.

  Args:
    estimate: (n, N, 2) pixels.
    truth: (n, N, 2) pixels; anything where there is no position.
    reference: pixels that the lengths are divided by: one number, or (n,).

  Returns:
    (n, N).

  Raises:
    InputError: for shapes that differ, or a reference that is not above 0.
  """
  estimate = np.asarray(estimate, np.float64)
  truth = np.asarray(truth, np.float64)
  if estimate.shape != truth.shape or estimate.shape[-1:] != (2,):
    raise InputError(
      f'The estimates have the shape {estimate.shape} and the truth '
      f'{truth.shape}; both must be (n, N, 2).'
    )
  reference = np.asarray(reference, np.float64).reshape(-1, 1)
  flat = np.flatnonzero(~(reference[:, 0] > 0))
  if flat.size:
    raise InputError(
      f'The reference length of example {flat[0]} is '
      f'{reference[flat[0], 0]:g} pixels, it must be above 0.'
    )
  return np.linalg.norm(estimate - truth, axis=-1) / reference


def longer_side(boxes) -> np.ndarray:
  """(n,) pixels: mmpose's reference for PCK, of (n, 4) boxes x1, y1, x2, y2."""
  boxes = np.asarray(boxes, np.float64)
  return (boxes[:, 2:] - boxes[:, :2]).max(axis=1)


def pck(lengths, mask, threshold: float = 0.2) -> MeanState:
  """Percentage of correct keypoints, as a share (mmpose's PCKAccuracy).

  Args:
    lengths: (n, N) from `distances`; mmpose's reference is `longer_side`.
    mask: (n, N) which landmarks count; mmpose: visible and occluded ones.
    threshold: a landmark is correct if its length is strictly below.

  Returns:
    State of N landmarks; mmpose reports `macro`.
  """
  return MeanState.from_values(np.asarray(lengths) < threshold, mask)


def auc(lengths, mask, limit: float = 30.0, steps: int = 20) -> MeanState:
  """Area under the curve of PCK from 0 to `limit` (mmpose's AUC).

  The mean of PCK at the thresholds 0, 1/steps, ..., (steps - 1)/steps of the
  limit.

  Args:
    lengths: (n, N) from `distances`, in pixels for mmpose.
    mask: (n, N) which landmarks count.
    limit: in the unit of the lengths.
    steps: number of thresholds.

  Returns:
    State of N landmarks; mmpose reports `macro`.
  """
  thresholds = np.arange(steps) / steps
  relative = np.asarray(lengths, np.float64) / limit
  share = (relative[..., None] < thresholds).mean(axis=-1)
  return MeanState.from_values(share, mask)


def epe(lengths, mask) -> MeanState:
  """End-point error: the mean length (mmpose's EPE, which reports `micro`)."""
  return MeanState.from_values(lengths, mask)


def torso_diameter(truth, landmark_set) -> np.ndarray:
  """(n,) pixels from right shoulder to left hip, the reference of PDJ.

  Args:
    truth: (n, N, 2) pixels.
    landmark_set: `schema.LSP_14`, or another with these names. Observer's view
      (see `geometry.observer_centric`) is what published curves use.
  """
  truth = np.asarray(truth, np.float64)
  names = landmark_set.names
  ends = [truth[:, names.index(n)] for n in ('right_shoulder', 'left_hip')]
  return np.linalg.norm(ends[0] - ends[1], axis=-1)


def pdj(lengths, mask, fraction: float) -> MeanState:
  """Percentage of detected joints, as a share (Sapp and Taskar, CVPR 2013).

  Args:
    lengths: (n, N) from `distances` with `torso_diameter`.
    mask: (n, N) which joints count.
    fraction: of the torso; a joint is detected if its length is not above.

  Returns:
    State of N joints.
  """
  return MeanState.from_values(np.asarray(lengths) <= fraction, mask)


def pcp(estimate, truth, mask, landmark_set, fraction=0.5) -> MeanState:
  """Strict percentage of correct parts, as a share (docs/methods.md 5.3).

  A stick is correct if both its ends are within `fraction` of the true stick's
  length of their true places.

  Args:
    estimate: (n, N, 2) pixels.
    truth: (n, N, 2) pixels.
    mask: (n, N) which joints count; a stick counts if all its joints do.
    landmark_set: `schema.LSP_14`: its `sticks`.
    fraction: see above.

  Returns:
    State of the sticks, in the order of `landmark_set.sticks`; its `macro` is
    the published mean, in which each pair of limbs counts twice.
  """
  index = landmark_set.names.index
  right, counts = [], []
  for ends in landmark_set.sticks.values():
    slots = [[index(name) for name in end] for end in ends]
    place = lambda points, s=slots: [
      np.asarray(points, np.float64)[:, end].mean(axis=1) for end in s
    ]
    (a, b), (true_a, true_b) = place(estimate), place(truth)
    far = np.maximum(
      np.linalg.norm(a - true_a, axis=-1), np.linalg.norm(b - true_b, axis=-1)
    )
    right.append(far <= fraction * np.linalg.norm(true_a - true_b, axis=-1))
    counts.append(np.asarray(mask, bool)[:, sum(slots, [])].all(axis=1))
  return MeanState.from_values(np.stack(right, 1), np.stack(counts, 1))


def pcp_summary(state: MeanState, landmark_set) -> dict:
  """The columns of published PCP tables, JSON-ready.

  Args:
    state: from `pcp`.
    landmark_set: the same.

  Returns:
    `mean` over the sticks and, by name, the mean of a stick's left and right
    (`upper_arm`) or the stick itself; None where nothing was counted.
  """
  of_stick = state.summary(tuple(landmark_set.sticks))
  pairs: dict[str, list] = {}
  for name, value in of_stick['per_landmark'].items():
    plain = name.removeprefix('left_').removeprefix('right_')
    pairs.setdefault(plain, []).append(value)
  return {
    'mean': of_stick['macro'],
    **{k: None if None in v else sum(v) / len(v) for k, v in pairs.items()},
  }
