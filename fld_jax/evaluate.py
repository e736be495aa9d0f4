"""A split -> predictions in image pixels -> metrics."""

import numpy as np

from fld_jax import geometry, input_pipeline, metrics
from fld_jax.datasets import landmark_set, only_type
from fld_jax.predict import Cascade


def to_predictions(rows: dict, config) -> metrics.Predictions:
  """Maps a cascade's output back to the original images.

  Args:
    rows: of `Cascade.predict`.
    config: the run's: `dataset`, `input.size`.

  Returns:
    The table that `metrics` works on.
  """
  to_image = lambda points: geometry.transform(
    rows['affine'],
    geometry.denormalise(points.astype(np.float64), config.input.size),
  )
  known = np.isin(rows['visibility'], (0, 1))[..., None]
  return metrics.Predictions(
    ids=[name.decode() for name in rows['id'].tolist()],
    image_ids=rows['index'].astype(np.int64),
    boxes=rows['box'],
    image_sizes=rows['image_size'],
    landmarks=np.where(known, to_image(rows['landmarks']), 0.0),
    visibility=rows['visibility'],
    clothes_type=rows['clothes_type'],
    variation=rows['variation'],
    estimates={
      name: to_image(out['estimate']) for name, out in rows['stages'].items()
    },
    visibility_probs={
      name: _softmax(logits)
      for name, logits in _each(rows, 'visibility').items()
    },
    landmark_set=landmark_set(config.dataset),
    confidences=_each(rows, 'confidence'),
    box_scores=rows['score'],
    pseudo_labels=_each(rows, 'pseudo_label'),
    route_score=rows.get('route_score'),
    hard=rows.get('hard'),
  )


def _each(rows: dict, key: str) -> dict[str, np.ndarray]:
  """An output of every stage that has it."""
  return {name: out[key] for name, out in rows['stages'].items() if key in out}


def evaluate_split(cascade: Cascade, builder, split: str, config):
  """Predicts and measures every example of a split once.

  Args:
    cascade: the trained stages.
    builder: of the dataset.
    split: its name, for example 'val' or 'train[95%:]'.
    config: the run's config.

  Returns:
    (predictions, metrics): a `metrics.Predictions` and a JSON-ready dict with,
    beside those of `metrics.evaluate`, `split`, `num_corrupt` and
    `network_passes` (images that went through each network).
  """
  only = only_type(config.dataset)
  records = input_pipeline.Records(builder, split, only=only)
  rows = cascade.predict_records(records)
  predictions = to_predictions(rows, config)
  results = metrics.evaluate(predictions)
  results['split'] = split
  results['num_corrupt'] = rows['num_corrupt']
  results['network_passes'] = rows['passes']
  return predictions, results


def macro_ne(rows: dict, stage: str, config) -> float:
  """Macro NE of one stage over the visible landmarks of predicted rows."""
  predictions = to_predictions(rows, config)
  landmarks = predictions.landmark_set
  errors = metrics.normalised_errors(predictions, stage, landmarks.norm)
  visible = metrics.counted(predictions.visibility) & np.isfinite(errors)
  return float(metrics.ne(errors, visible, landmarks.names)['macro'])


def _softmax(logits):
  shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return shifted / shifted.sum(axis=-1, keepdims=True)
