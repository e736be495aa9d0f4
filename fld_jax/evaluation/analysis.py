"""What a report says of evaluated runs, computed without drawing anything."""

import numpy as np

from fld_jax import schema
from fld_jax.cascade import pseudo_labels
from fld_jax.evaluation.evaluated_run import EvaluatedRun
from fld_jax.metrics.predictions import corner_and_size

KEPT_SHARES = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3)  # shares of `trust`


def words(name: str) -> str:
  """'collar_left' -> 'collar left'."""
  return name.replace('_', ' ')


def confusion(run: EvaluatedRun) -> np.ndarray | None:
  """(3, 3) counts of the final stage, true by predicted visibility.

  None if no stage predicts it.
  """
  probs = run.predictions.visibility_probs
  if not probs:
    return None
  found = np.argmax(list(probs.values())[-1], axis=-1)
  truth = run.predictions.visibility
  return np.array(
    [[np.sum((truth == a) & (found == b)) for b in range(3)] for a in range(3)]
  )


def sureness(run: EvaluatedRun) -> dict[str, np.ndarray]:
  """What may tell how good each landmark of the final stage is.

  Returns:
    name -> (n, N), higher is surer; first the network's own word, if it has
    one.
  """
  final, predictions, found = run.final, run.predictions, {}
  if final in predictions.confidences:
    found['height of the heatmap'] = predictions.confidences[final]
  if final in predictions.visibility_probs:
    probs = predictions.visibility_probs[final]
    found['probability of visible'] = probs[..., schema.VISIBLE]
  if len(run.stages) > 1:
    moved = predictions.estimates[final]
    moved = moved - predictions.estimates[run.stages[-2]]
    moved = moved / corner_and_size(predictions.boxes)[1]
    found['small move by the last stage'] = -np.linalg.norm(moved, axis=-1)
  if predictions.route_score is not None:
    score = -predictions.route_score[:, None]
    found['low routing score'] = np.broadcast_to(score, run.counted.shape)
  return found


def kept_ne(errors, scores, kept) -> list[float | None]:
  """Mean error of the share of values with the highest scores.

  Args:
    errors: (m,) of the landmarks that count.
    scores: (m,), high for what is to be kept.
    kept: shares in (0, 1].
  """
  order = np.argsort(-scores, kind='stable')
  means = np.cumsum(errors[order]) / np.arange(1, len(errors) + 1)
  return [
    float(means[max(1, round(share * len(errors))) - 1])
    if len(errors)
    else None
    for share in kept
  ]


def same_images(
  one: EvaluatedRun, other: EvaluatedRun
) -> tuple[np.ndarray, np.ndarray]:
  """Rows of the images that two runs were both evaluated on, in one order."""
  places = {name: row for row, name in enumerate(other.predictions.ids)}
  pairs = [
    (row, places[name])
    for row, name in enumerate(one.predictions.ids)
    if name in places
  ]
  return tuple(np.array(pairs, int).reshape(-1, 2).T)


MAX_IMAGES = 600  # that means are taken of, evenly spread over the split
MAX_MEMORY = 2e7  # numbers at a time


def sample(run: EvaluatedRun) -> np.ndarray:
  """Rows of the images that means are taken of."""
  count = len(run.predictions.ids)
  return np.unique(
    np.linspace(0, count - 1, min(count, MAX_IMAGES)).astype(int)
  )


def nearest_clusters(run: EvaluatedRun, stage: str) -> np.ndarray:
  """(n,) which centre of a stage's pseudo-labels each image's truth is at."""
  names = run.stages
  config = run.evaluation.config.stages[names.index(stage)].pseudo_label
  centres = run.evaluation.centres[stage]
  predictions = run.predictions
  truth = run.normalised(predictions.landmarks).astype(np.float32)
  before = None
  if names.index(stage):
    before = predictions.estimates[names[names.index(stage) - 1]]
    before = run.normalised(before).astype(np.float32)
  labels, step = [], max(1, int(MAX_MEMORY / centres.size))
  for start in range(0, len(truth), step):
    part = slice(start, start + step)
    z, mask = pseudo_labels.label_vectors(
      truth[part],
      predictions.visibility[part],
      None if before is None else before[part],
      space=config.space,
      context_transform=config.context_transform,
    )
    labels.append(np.asarray(pseudo_labels.hard_label(z, mask, centres)))
  return np.concatenate(labels)


def error_pattern(centre, transform: str) -> np.ndarray:
  """The errors that a centre of 'context_offset' stands for, up to their sign.

  Args:
    centre: (4N^2,), the mean of products of two coordinates of the offsets.
    transform: that was applied to the products.

  Returns:
    (N, 2) in pixels of a 224 input: the pattern whose own products are nearest
    to the centre's, by the largest eigenvalue.
  """
  side = int(np.sqrt(len(centre)))
  products = np.asarray(centre, np.float64).reshape(side, side)
  if transform == 'signed_sqrt':
    products = np.sign(products) * products**2
  values, vectors = np.linalg.eigh((products + products.T) / 2)
  return (np.sqrt(max(values[-1], 0)) * vectors[:, -1]).reshape(-1, 2)


def spread(run: EvaluatedRun, count: int) -> np.ndarray:
  """Rows evenly from the final stage's smallest to its largest error."""
  errors = run.image_errors[run.final]
  order = np.argsort(errors, kind='stable')[: np.isfinite(errors).sum()]
  if not order.size:
    return order
  picks = np.linspace(0, order.size - 1, min(count, order.size))
  return order[np.rint(picks).astype(int)]
