"""Predicts a split in image pixels and computes its metrics."""

import collections

import jax
import numpy as np
import tensorflow_datasets as tfds
from scipy.special import softmax

from fld_jax import geometry, input_pipeline
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import Setup
from fld_jax.errors import InputError
from fld_jax.evaluation import attributes
from fld_jax.evaluation.calibration import Calibration
from fld_jax.metrics import keypoints, mean_state, normalised_error, routing
from fld_jax.metrics.predictions import Predictions, counted
from fld_jax.runtime import processes


def to_predictions(rows: dict, setup: Setup) -> Predictions:
  """Maps a cascade's output back to the original images.

  Args:
    rows: What `Cascade.predict` returned.
    setup: What the run's config resolves to.

  Returns:
    The predictions, from which `fld_jax.metrics` computes its figures.
  """
  to_image = lambda points: geometry.transform(
    rows['affine'],
    geometry.denormalise(points.astype(np.float64), setup.pipeline.size),
  )
  known = np.isin(rows['visibility'], (0, 1))[..., None]
  return Predictions(
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
      name: softmax(logits, axis=-1)
      for name, logits in _each(rows, 'visibility').items()
    },
    landmark_set=setup.landmarks,
    confidences=_each(rows, 'confidence'),
    box_scores=rows['score'],
    pseudo_labels=_each(rows, 'pseudo_label'),
    route_score=rows.get('route_score'),
    is_hard=rows.get('is_hard'),
  )


def _each(rows: dict, key: str) -> dict[str, np.ndarray]:
  """Returns an output of every stage that has it, by the stage's name."""
  return {name: out[key] for name, out in rows['stages'].items() if key in out}


def evaluate_split(
  cascade: Cascade,
  builder: tfds.core.DatasetBuilder,
  split: str,
  calibration: Calibration | None = None,
) -> tuple[Predictions | None, dict]:
  """Predicts and measures every example of a split once.

  Args:
    cascade: The trained stages.
    builder: The builder of the data set.
    split: Name of the split, for example 'val' or 'train[95%:]'.
    calibration: How far estimates may be off, to be measured too; None if it is
      not known.

  Returns:
    The predictions, None except on the main process; and the metrics, a
    JSON-ready dict of the figures of `metrics.normalised_error.evaluate` and of
    `split`, `num_corrupt` and `network_passes` (number of images that went
    through each network); of a routed cascade `routing` (`metrics.routing`); of
    a network that predicts them `attributes` (`evaluation.attributes`); with a
    calibration its figures, `calibration`; of a network that predicts the
    clothes type `category_accuracy`, the share of the images whose type is
    known that it is right of; for landmarks with sticks `pcp` of the final
    stage (`keypoints.pcp_summary`, and `centric`, whose left and right the
    landmarks have), over visible and occluded landmarks.
  """
  setup = cascade.setup
  records = input_pipeline.Records(builder, split, only=setup.selected)
  parts = processes.gather_to_main(cascade.predict_records(records))
  predictions = None

  def measure() -> dict:
    """Measures what all processes predicted; runs on the main process alone."""
    nonlocal predictions
    rows = _joined(parts)
    predictions = to_predictions(rows, setup)
    figures = normalised_error.evaluate(predictions)
    more = {}
    if of_routing := routing.evaluate(predictions, figures['norm']):
      more['routing'] = of_routing
    found = attributes.figures(rows, builder)
    if found:
      more['attributes'] = found
    if calibration:
      more['calibration'] = calibration.figures(predictions)
    right = _category_accuracy(rows, setup)
    if right is not None:
      more['category_accuracy'] = right
    if setup.landmarks.sticks:
      more['pcp'] = _pcp(predictions, getattr(builder, 'centric', 'person'))
    return {
      **more,
      **figures,
      'split': split,
      'num_corrupt': rows['num_corrupt'],
      'network_passes': rows['passes'],
    }

  results = processes.call_on_main(measure, processes.LONG_SECONDS)
  return predictions, results


def _category_accuracy(rows: dict, setup: Setup) -> float | None:
  """The share of right clothes types; None if none is predicted or known."""
  last = list(rows['stages'].values())[-1]
  codes = np.array(list(setup.landmarks.types), int)
  known = np.isin(rows['clothes_type'], codes)
  if 'category' not in last or not known.any():
    return None
  found = codes[np.argmax(last['category'], axis=-1)]
  return float(np.mean(found[known] == rows['clothes_type'][known]))


def _pcp(predictions: Predictions, centric: str) -> dict:
  """The `pcp` of `evaluate_split`."""
  landmarks = predictions.landmark_set
  state = keypoints.pcp(
    list(predictions.estimates.values())[-1],
    predictions.landmarks,
    counted(predictions.visibility, 'annotated'),
    landmarks,
  )
  return {'centric': centric, **keypoints.pcp_summary(state, landmarks)}


def _joined(parts: list[dict]) -> dict:
  """Joins the rows of all processes, in the order of their indices."""
  if len(parts) == 1:
    return parts[0]
  passes = collections.Counter()
  for part in parts:
    passes.update(part.pop('passes'))
  corrupt = sum(part.pop('num_corrupt') for part in parts)
  parts = [part for part in parts if len(part['index'])]
  order = np.argsort(np.concatenate([part['index'] for part in parts]))
  rows = jax.tree.map(lambda *each: np.concatenate(each)[order], *parts)
  return {**rows, 'passes': dict(passes), 'num_corrupt': corrupt}


def macro_ne(rows: dict, stage: str, setup: Setup) -> tuple[float, float]:
  """Computes a stage's macro NE over all processes' visible landmarks.

  Args:
    rows: This process's rows, as `Cascade.predict_records` returns them.
    stage: Name of the stage.
    setup: What the run's config resolves to.

  Returns:
    Macro NE, and its standard error over the images.

  Raises:
    InputError: No image has a visible landmark.
  """

  def errors_and_mask() -> tuple[np.ndarray, np.ndarray]:
    """The (n, N) errors of this process's rows, and which of them count."""
    predictions = to_predictions(rows, setup)
    errors = normalised_error.normalised_errors(
      predictions, stage, setup.landmarks.norm
    )
    visible = counted(predictions.visibility) & np.isfinite(errors)
    return errors, visible

  shares = processes.call_on_all(errors_and_mask)
  errors, visible = map(np.concatenate, zip(*shares, strict=True))
  if not visible.any():
    raise InputError(
      f'None of {len(visible)} images has a visible landmark to measure NE by: '
      'let config.dataset.splits.tune have some, in another --workdir.'
    )
  return mean_state.macro_mean(errors, visible)
