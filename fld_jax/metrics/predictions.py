"""The table of predictions that every metric is computed from."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from fld_jax import landmark_sets, schema


@dataclasses.dataclass
class Predictions:
  """Truth and estimates of a split on the host; n examples, N landmarks.

  Attributes:
    ids: The names of the n examples.
    image_ids: (n,) int64 indices in the split (COCO requires integers).
    boxes: (n, 4) boxes x1, y1, x2, y2 in image pixels.
    image_sizes: (n, 2) widths and heights in pixels.
    landmarks: (n, N, 2) true x, y in image pixels.
    visibility: (n, N) true visibility codes of fld_jax.schema.
    clothes_type: (n,) codes of the clothes types, 0 where unknown.
    variation: (n,) codes of the variations, 0 where unknown.
    estimates: Stage name -> (n, N, 2) estimates in image pixels; the last stage
      is the final one.
    visibility_probs: Stage name -> (n, N, 3) probabilities in the order of
      schema.VISIBILITY_NAMES. A stage that predicts none has no entry.
    landmark_set: The N landmarks.
    confidences: Stage name -> (n, N) confidences in [0, 1]. A stage without
      heatmaps has no entry.
    box_scores: (n,) scores of the detector that found the boxes; None if the
      boxes are annotated.
    pseudo_labels: Stage name -> (n, K) predicted pseudo-labels. A stage without
      pseudo-labels has no entry.
    route_score: (n,) scores G of DFA section 3.3; None if the cascade is not
      routed.
    is_hard: (n,) bool, True for the images that a routed cascade sent to its
      hard branch; None if the cascade is not routed.
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


def confidences(
  predictions: Predictions, stage: str
) -> Float[np.ndarray, 'n N']:
  """Returns how confident a stage is of each landmark.

  The confidence is the height of the heatmap. For a network without heatmaps it
  is the probability that the landmark is not truncated, and 1 if the network
  does not predict visibility either.

  Args:
    predictions: The examples.
    stage: The stage's name.

  Returns:
    (n, N) confidences in [0, 1].
  """
  if stage in predictions.confidences:
    return np.asarray(predictions.confidences[stage], np.float64)
  if stage in predictions.visibility_probs:
    probs = np.asarray(predictions.visibility_probs[stage], np.float64)
    return 1 - probs[..., schema.TRUNCATED]
  return np.ones(predictions.visibility.shape)


def corner_and_size(
  boxes: Float[np.ndarray, 'n 4'],
) -> tuple[Float[np.ndarray, 'n 1 2'], Float[np.ndarray, 'n 1 2']]:
  """Returns the corners and sizes of boxes, for broadcasting over landmarks.

  Args:
    boxes: (n, 4) boxes x1, y1, x2, y2 in pixels.

  Returns:
    (n, 1, 2) top-left corners and (n, 1, 2) widths and heights, in pixels.
  """
  boxes = np.asarray(boxes, np.float64)[:, None]
  return boxes[..., :2], boxes[..., 2:] - boxes[..., :2]


def counted(
  visibility: Int[np.ndarray, '*shape'], mask: str = 'visible'
) -> Bool[np.ndarray, '*shape']:
  """Returns the mask of the landmarks that an error is measured for.

  Args:
    visibility: Visibility codes of `schema`, of any shape.
    mask: The landmarks that count: 'visible', or 'annotated' (visible and
      occluded).

  Returns:
    A bool array with the shape of `visibility`.
  """
  choices = {
    'visible': lambda codes: codes == schema.VISIBLE,
    'annotated': schema.has_position,
  }
  return choices[mask](np.asarray(visibility))
