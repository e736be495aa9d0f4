"""PCK, AUC, EPE, PDJ and strict PCP, the keypoint metrics of other fields.

Float64 NumPy in pixels of the original images. Each metric is a
`MeanState` over landmarks or sticks, so that parts of a split, of any size,
merge into the whole.
"""

import numpy as np
from jaxtyping import Bool, Float

from fld_jax.errors import InputError
from fld_jax.metrics.mean_state import MeanState
from fld_jax.schema import LandmarkSet


def distances(
  estimate: Float[np.ndarray, 'n N 2'],
  truth: Float[np.ndarray, 'n N 2'],
  reference: float | Float[np.ndarray, ' n'] = 1.0,
) -> Float[np.ndarray, 'n N']:
  """Computes the lengths of the errors as multiples of a reference length.

  Args:
    estimate: (n, N, 2) estimated landmarks in pixels.
    truth: (n, N, 2) true landmarks in pixels, any values where a landmark has
      no position.
    reference: The length in pixels that the errors are divided by: one number
      above 0, or (n,) of them.

  Returns:
    (n, N) relative lengths, at least 0.

  Raises:
    InputError: If the shapes differ, or a reference is not above 0.
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


def longer_side(boxes: Float[np.ndarray, 'n 4']) -> Float[np.ndarray, ' n']:
  """Computes the longer side of each box, mmpose's reference for PCK.

  Args:
    boxes: (n, 4) boxes x1, y1, x2, y2 in pixels.

  Returns:
    (n,) lengths in pixels.
  """
  boxes = np.asarray(boxes, np.float64)
  return (boxes[:, 2:] - boxes[:, :2]).max(axis=1)


def pck(
  lengths: Float[np.ndarray, 'n N'],
  mask: Bool[np.ndarray, 'n N'],
  threshold: float = 0.2,
) -> MeanState:
  """Computes the percentage of correct keypoints (mmpose's PCKAccuracy).

  The percentage is a fraction in [0, 1].

  Args:
    lengths: (n, N) relative errors from `distances`; mmpose's reference is
      `longer_side`.
    mask: (n, N) bool, True for the landmarks that count; in mmpose these are
      the visible and the occluded ones.
    threshold: A landmark is correct if its relative error is strictly below
      this length.

  Returns:
    The state of N landmarks; mmpose reports its `macro`.
  """
  return MeanState.from_values(np.asarray(lengths) < threshold, mask)


def auc(
  lengths: Float[np.ndarray, 'n N'],
  mask: Bool[np.ndarray, 'n N'],
  limit: float = 30.0,
  steps: int = 20,
) -> MeanState:
  """Computes the area under the curve of PCK from 0 to `limit` (mmpose's AUC).

  The mean of PCK at the thresholds 0, 1/steps, ..., (steps - 1)/steps of the
  limit.

  Args:
    lengths: (n, N) errors from `distances`; mmpose takes them in pixels.
    mask: (n, N) bool, True for the landmarks that count.
    limit: The end of the curve, above 0, in the unit of the lengths.
    steps: Number of thresholds, at least 1.

  Returns:
    The state of N landmarks; mmpose reports its `macro`.
  """
  thresholds = np.arange(steps) / steps
  relative = np.asarray(lengths, np.float64) / limit
  share = (relative[..., None] < thresholds).mean(axis=-1)
  return MeanState.from_values(share, mask)


def epe(
  lengths: Float[np.ndarray, 'n N'], mask: Bool[np.ndarray, 'n N']
) -> MeanState:
  """Computes the end-point error, the mean length (mmpose's EPE).

  Args:
    lengths: (n, N) errors from `distances`.
    mask: (n, N) bool, True for the landmarks that count.

  Returns:
    The state of N landmarks; mmpose reports its `micro`.
  """
  return MeanState.from_values(lengths, mask)


def torso_diameter(
  truth: Float[np.ndarray, 'n N 2'], landmark_set: LandmarkSet
) -> Float[np.ndarray, ' n']:
  """Computes the distance from right shoulder to left hip, PDJ's reference.

  Args:
    truth: (n, N, 2) true joints in pixels. In published curves left and right
      are those of the observer (`geometry.observer_centric`).
    landmark_set: The N joints: `landmark_sets.LSP_14`, or another set with the
      names `right_shoulder` and `left_hip`.

  Returns:
    (n,) lengths in pixels.
  """
  truth = np.asarray(truth, np.float64)
  names = landmark_set.names
  ends = [truth[:, names.index(n)] for n in ('right_shoulder', 'left_hip')]
  return np.linalg.norm(ends[0] - ends[1], axis=-1)


def pdj(
  lengths: Float[np.ndarray, 'n N'],
  mask: Bool[np.ndarray, 'n N'],
  fraction: float,
) -> MeanState:
  """Computes the percentage of detected joints (Sapp and Taskar, CVPR 2013).

  The percentage is a fraction in [0, 1].

  Args:
    lengths: (n, N) errors from `distances`, relative to `torso_diameter`.
    mask: (n, N) bool, True for the joints that count.
    fraction: A joint is detected if its relative error does not exceed this
      fraction of the torso's diameter.

  Returns:
    The state of N joints.
  """
  return MeanState.from_values(np.asarray(lengths) <= fraction, mask)


def pcp(
  estimate: Float[np.ndarray, 'n N 2'],
  truth: Float[np.ndarray, 'n N 2'],
  mask: Bool[np.ndarray, 'n N'],
  landmark_set: LandmarkSet,
  fraction: float = 0.5,
) -> MeanState:
  """Computes the strict percentage of correct parts (docs/methods.md 5.3).

  A stick is correct if the distance of each of its ends to its true position
  does not exceed `fraction` times the length of the true stick. The percentage
  is a fraction in [0, 1].

  Args:
    estimate: (n, N, 2) estimated joints in pixels.
    truth: (n, N, 2) true joints in pixels.
    mask: (n, N) bool, True for the joints that count; a stick counts if all its
      joints do.
    landmark_set: The N joints and their `sticks`, for example
      `landmark_sets.LSP_14`.
    fraction: The largest error of an end, as a fraction of the true stick's
      length.

  Returns:
    The state of the sticks, in the order of `landmark_set.sticks`; its `macro`
    is the published mean, in which each pair of limbs counts twice.
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


def pcp_summary(
  state: MeanState, landmark_set: LandmarkSet
) -> dict[str, float | None]:
  """Returns the columns of published PCP tables, JSON-ready.

  Args:
    state: The result of `pcp`.
    landmark_set: The landmark set that `pcp` was given.

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
