"""The table of predictions that every metric is computed from."""

import dataclasses

import numpy as np

from fld_jax import landmark_sets, schema


@dataclasses.dataclass
class Predictions:
  """Truth and estimates of a split on the host; n examples, N landmarks.

  Attributes:
    ids: n names.
    image_ids: (n,) int64, the position in the split (COCO wants an integer).
    boxes: (n, 4) x1, y1, x2, y2 in image pixels.
    image_sizes: (n, 2) width, height in pixels.
    landmarks: (n, N, 2) true x, y in image pixels.
    visibility: (n, N) true codes of fld_jax.schema.
    clothes_type: (n,) codes, 0 where not known.
    variation: (n,) codes, 0 where not known.
    estimates: stage name -> (n, N, 2) image pixels; the last is the final one.
    visibility_probs: stage name -> (n, N, 3) probabilities in the order of
      schema.VISIBILITY_NAMES; a stage that predicts none has no entry.
    landmark_set: the N landmarks.
    confidences: stage name -> (n, N) in [0, 1], of stages with heatmaps.
    box_scores: (n,) of the detector that found the boxes; None if annotated.
    pseudo_labels: stage name -> (n, K) predicted, of stages with pseudo-labels.
    route_score: (n,) G of DFA section 3.3, of a routed cascade.
    is_hard: (n,) bool, which images a routed cascade sent to its hard branch.
  """

  ids: list[str]
  image_ids: np.ndarray
  boxes: np.ndarray
  image_sizes: np.ndarray
  landmarks: np.ndarray
  visibility: np.ndarray
  clothes_type: np.ndarray
  variation: np.ndarray
  estimates: dict[str, np.ndarray]
  visibility_probs: dict[str, np.ndarray]
  landmark_set: schema.LandmarkSet = landmark_sets.FASHION_8
  confidences: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  box_scores: np.ndarray | None = None
  pseudo_labels: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  route_score: np.ndarray | None = None
  is_hard: np.ndarray | None = None


def confidences(predictions: Predictions, stage: str) -> np.ndarray:
  """How sure a stage is of each landmark, (n, N) in [0, 1].

  The height of the heatmap; of a network without any, the probability that the
  landmark is not truncated; 1 if it does not predict that either.
  """
  if stage in predictions.confidences:
    return np.asarray(predictions.confidences[stage], np.float64)
  if stage in predictions.visibility_probs:
    probs = np.asarray(predictions.visibility_probs[stage], np.float64)
    return 1 - probs[..., schema.TRUNCATED]
  return np.ones(predictions.visibility.shape)


def corner_and_size(boxes):
  """(n, 1, 2) top-left corners and (n, 1, 2) sizes."""
  boxes = np.asarray(boxes, np.float64)[:, None]
  return boxes[..., :2], boxes[..., 2:] - boxes[..., :2]


def counted(visibility, mask: str = 'visible') -> np.ndarray:
  """Mask of the landmarks that an error is measured for.

  Args:
    visibility: codes, any shape.
    mask: 'visible' or 'annotated' (visible and occluded).
  """
  choices = {
    'visible': lambda codes: codes == schema.VISIBLE,
    'annotated': schema.has_position,
  }
  return choices[mask](np.asarray(visibility))
