"""Evaluated runs with made-up predictions, of any landmarks and stages."""

import numpy as np

from fld_jax import defaults, landmark_sets, schema
from fld_jax.configs import dfa, pcloss
from fld_jax.evaluation.evaluated_run import EvaluatedRun
from fld_jax.evaluation.results import Evaluation
from fld_jax.metrics import normalised_error
from fld_jax.metrics.predictions import Predictions

SPACES = ('absolute', 'offset', 'context_offset')
OWN = schema.LandmarkSet(
  names=('cuff_left', 'cuff_right', 'tip'), types={1: 'glove & <mitten>'}
)


def picture(row: int) -> np.ndarray:
  """An image that differs by row, (200, 160, 3)."""
  y, x = np.mgrid[:200, :160]
  image = np.stack([x, y, (x + 5 * row) % 200], axis=-1)
  return image.astype(np.uint8)


def make_run(
  label='a',
  *,
  count=40,
  seed=0,
  landmarks=landmark_sets.FASHION_8,
  num_stages=3,
  cascade=True,
  ids=None,
) -> EvaluatedRun:
  """A run; `cascade` tells whether it has what only DFA's stages have.

  The truth depends on `count` and `landmarks` alone, so runs can be compared.
  """
  rng = np.random.default_rng(7)
  size = landmarks.num_landmarks
  boxes = np.tile([20.0, 30.0, 120.0, 180.0], (count, 1))
  boxes += rng.uniform(-8, 8, boxes.shape)
  truth = boxes[:, None, :2] + rng.uniform(0.1, 0.9, (count, size, 2)) * (
    boxes[:, None, 2:] - boxes[:, None, :2]
  )
  visibility = rng.choice([0, 0, 0, 1, 2, -1], (count, size))
  visibility[0] = schema.TRUNCATED  # an image that has no NE
  types = sorted(landmarks.types) or [0]
  clothes_type = rng.choice(types, count).astype(np.int64)
  for code, pair in landmarks.norm_pairs.items():
    rows = np.flatnonzero(clothes_type == code)[1:]
    for name in pair:
      visibility[rows, landmarks.names.index(name)] = schema.VISIBLE
  known = schema.has_position(visibility)[..., None]
  truth = np.where(known, truth, 0.0)
  rng = np.random.default_rng(100 + seed)
  names = [f'stage{i + 1}' for i in range(num_stages)]
  estimates = {
    name: truth + rng.normal(0, 18 / (i + 1), truth.shape)
    for i, name in enumerate(names)
  }
  # Left and right are taken for each other in some images.
  for estimate in estimates.values():
    estimate[5:9] = estimate[5:9][:, landmarks.flip]
  score = rng.uniform(0.1, 0.4, count).astype(np.float32)
  predictions = Predictions(
    ids=ids or [f'img/{i:03}.jpg' for i in range(count)],
    image_ids=np.arange(count),
    boxes=boxes,
    image_sizes=np.tile([160, 200], (count, 1)),
    landmarks=truth,
    visibility=visibility,
    clothes_type=clothes_type,
    variation=rng.integers(1, 4, count) if cascade else np.zeros(count, int),
    estimates=estimates,
    visibility_probs={
      name: rng.dirichlet([3, 1, 1], (count, size)) for name in names
    }
    if cascade
    else {},
    landmark_set=landmarks,
    confidences={}
    if cascade
    else {name: rng.uniform(size=(count, size)) for name in names},
    box_scores=np.ones(count, np.float32),
    pseudo_labels={
      name: rng.dirichlet(np.ones(4), count).astype(np.float32)
      for name in names
    }
    if cascade
    else {},
    route_score=score if cascade else None,
    is_hard=score >= 0.3 if cascade else None,
  )
  if cascade:
    config = dfa.get_config(f'dataset=synthetic,size=tiny,stages={num_stages}')
  else:
    config = pcloss.get_config('dataset=synthetic,size=tiny')
    with config.unlocked():
      config.stages = tuple(map(defaults.stage, names))
  figures = normalised_error.evaluate(predictions)
  figures |= {'split': 'val', 'num_corrupt': 0}
  figures['network_passes'] = dict.fromkeys(names, count)
  lengths = {'absolute': 2 * size, 'offset': 2 * size}
  centres = {
    name: rng.normal(0, 40, (4, lengths.get(space, (2 * size) ** 2)))
    for name, space in zip(names, SPACES, strict=False)
  }
  history = [
    {
      'stage': names[0],
      'step': s,
      'images': 8 * s,
      'loss': 1 / s,
      'tune_ne': 0.1,
    }
    for s in (1, 2, 3)
  ]
  evaluation = Evaluation(
    split='val',
    predictions=predictions,
    config=config,
    history=history,
    centres={k: v.astype(np.float32) for k, v in centres.items()}
    if cascade
    else {},
    epsilon=0.3 if cascade else None,
  )
  return EvaluatedRun(label, evaluation, figures, picture)


def loop_errors(run, stage=None) -> np.ndarray:
  """(n, N) NE of visible landmarks, one by one; NaN elsewhere."""
  p = run.predictions
  estimate = p.estimates[stage or list(p.estimates)[-1]]
  errors = np.full(p.visibility.shape, np.nan)
  for i, box in enumerate(p.boxes):
    for j, code in enumerate(p.visibility[i]):
      if code == 0:
        dx = (estimate[i, j, 0] - p.landmarks[i, j, 0]) / (box[2] - box[0])
        dy = (estimate[i, j, 1] - p.landmarks[i, j, 1]) / (box[3] - box[1])
        errors[i, j] = (dx * dx + dy * dy) ** 0.5
  return errors
