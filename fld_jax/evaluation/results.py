"""Files of an evaluation: figures, COCO results, all that a report needs.

  W/eval/SPLIT/metrics.json       the metrics of `evaluate.evaluate_split`
  W/eval/SPLIT/predictions.json   COCO keypoint results of the final stage
  W/eval/SPLIT/evaluation.npz     `Evaluation`: truth and every stage's outputs

Equal inputs give the same bytes, and each file appears whole or not at all.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fld_jax import defaults, schema
from fld_jax.cascade import pseudo_labels
from fld_jax.datasets.catalog import landmark_set
from fld_jax.errors import InputError, shortened
from fld_jax.files import atomic, images, json_files, npz
from fld_jax.files.inside import is_plain
from fld_jax.metrics import mean_state
from fld_jax.metrics.predictions import (
  Predictions,
  confidences,
  corner_and_size,
)
from fld_jax.runtime import checkpoint, manifest

# Fields of metrics.predictions.Predictions by how evaluation.npz holds them.
ARRAYS = (
  'boxes',
  'clothes_type',
  'image_ids',
  'image_sizes',
  'landmarks',
  'variation',
  'visibility',
)
PERHAPS = ('box_scores', 'is_hard', 'route_score')
MAX_SIDE = 65_500  # pixels; a JPEG has no longer one
BY_STAGE = ('confidences', 'estimates', 'pseudo_labels', 'visibility_probs')


@dataclasses.dataclass
class Evaluation:
  """One evaluated split of a run.

  Attributes:
    split: The split's name.
    predictions: The split's truth and every stage's outputs.
    config: The run's config, whose dataset leads to the images.
    history: Curves of the training, as `cascade.store.load_stage` returns them.
    centres: Cluster centres of the pseudo-labels, (K, D), by the stage's name.
    epsilon: Threshold of the routing score; None without routing.
  """

  split: str
  predictions: Predictions
  config: ConfigDict
  history: list[dict]
  centres: dict[str, np.ndarray]
  epsilon: float | None

  def save(self, path: pathlib.Path) -> None:
    """Writes evaluation.npz.

    Args:
      path: The path of evaluation.npz.
    """
    predictions = self.predictions
    about = {
      'split': self.split,
      'landmarks': predictions.landmark_set.names,
      'landmark_set': predictions.landmark_set.to_dict(),
      'stages': list(predictions.estimates),
      'config': manifest.to_dict(self.config),
      'history': self.history,
      'epsilon': self.epsilon,
    }
    arrays = {name: getattr(predictions, name) for name in ARRAYS}
    # Not 'landmarks': in a file of predictions those are the estimates.
    arrays['truth'] = arrays.pop('landmarks')
    for name in PERHAPS:
      if getattr(predictions, name) is not None:
        arrays[name] = getattr(predictions, name)
    by_stage = {name: getattr(predictions, name) for name in BY_STAGE}
    for name, of in {**by_stage, 'centres': self.centres}.items():
      arrays |= {f'{name}/{stage}': values for stage, values in of.items()}
    # Sorted but for the landmark set, whose order is that of tables.
    about = {key: about[key] for key in sorted(about)}
    arrays['about'] = np.array(json.dumps(about))
    arrays['ids'] = np.array(predictions.ids)
    checkpoint.save_arrays(path, arrays)


def read_evaluation(path: pathlib.Path) -> Evaluation:
  """Reads an evaluation.npz that `Evaluation.save` wrote.

  Every array is checked, as the file may be damaged or a stranger's.

  Args:
    path: The path of evaluation.npz.

  Returns:
    The evaluation.

  Raises:
    InputError: If the file is damaged or an array does not fit the others, or
      if it is of a version without the landmark set and the data set now has
      other landmarks.
  """
  try:
    return _Saved(path).evaluation()
  except InputError as error:
    raise InputError(
      f'{str(error).removesuffix(".")}: this is not what an evaluation left, '
      'evaluate again.'
    ) from None


class _Saved:
  """An evaluation.npz, checked part by part.

  Attributes:
    path: The path of the file.
    arrays: The arrays by their present names.
    about: The object that the array `about` holds.
    config: The run's config.
    landmarks: The landmark set of the run.
  """

  def __init__(self, path: pathlib.Path):
    """Reads the file.

    Args:
      path: The path of the file.

    Raises:
      InputError: If it is no NPZ file, or `about` is wrong.
    """
    self.path, self.arrays = path, npz.read(path)
    for old, new in (('truth', 'landmarks'), ('hard', 'is_hard')):
      if old in self.arrays:  # 'hard' was the name before 0.1.0
        self.arrays[new] = self.arrays.pop(old)
    about = self.arrays.get('about')
    if about is None or about.shape != () or about.dtype.kind != 'U':
      raise InputError(
        f'{path}, about: is {npz.kind(about)}, must be a text in JSON'
      )
    self.about = json_files.parse_json(f'{path}, about', str(about))
    self._check('split', is_plain, 'the name of a split')
    self.config = defaults.restore(self.about.get('config'), str(path))
    names = [stage.name for stage in self.config.stages]
    self._check('stages', lambda v: v == names, f'{", ".join(names)}')
    self._check(
      'epsilon',
      lambda v: v is None or manifest.EPSILON.valid(v),
      'null or a number',
    )
    self.landmarks = self._landmark_set()

  def _check(self, field: str, valid: Callable[[Any], bool], what: str) -> None:
    """Refuses a field of `about` that has no valid value."""
    value = self.about.get(field) if isinstance(self.about, dict) else None
    if not valid(value):
      raise InputError(
        f'{self.path}, about.{field}: is {shortened(value)}, must be {what}'
      )

  def _landmark_set(self) -> schema.LandmarkSet:
    if 'landmark_set' in self.about:
      return schema.LandmarkSet.from_dict(
        self.about['landmark_set'], f'{self.path}, about.landmark_set'
      )
    landmarks = landmark_set(self.config.dataset)
    names = list(landmarks.names)
    self._check(
      'landmarks',
      lambda v: v == names,
      f"{', '.join(names)}, the landmarks of '{self.config.dataset.name}'",
    )
    return landmarks

  def _numbers(self, name: str, *shape: int | None, **valid: Any) -> np.ndarray:
    return npz.numbers(self.path, name, self.arrays.get(name), shape, **valid)

  def _perhaps(
    self, name: str, *shape: int | None, **valid: Any
  ) -> np.ndarray | None:
    return self._numbers(name, *shape, **valid) if name in self.arrays else None

  def _by_stage(self, name: str, *shape: int | None, **valid: Any) -> dict:
    """The arrays of the stages that have one, in the order of the cascade."""
    return {
      stage.name: self._numbers(f'{name}/{stage.name}', *shape, **valid)
      for stage in self.config.stages
      if f'{name}/{stage.name}' in self.arrays
    }

  def evaluation(self) -> Evaluation:
    """The evaluation that the file holds.

    Raises:
      InputError: If an array is missing or does not fit the others.
    """
    ids = npz.texts(self.path, 'ids', self.arrays.get('ids'))
    count, size = len(ids), self.landmarks.num_landmarks
    if not count:
      raise InputError(f'{self.path}, ids: is empty, must have an example')
    code = {'kinds': 'iu', 'low': 0}
    sizes = self._numbers('image_sizes', count, 2, low=1, high=MAX_SIDE)
    boxes = self._numbers('boxes', count, 4)
    self._check_boxes(boxes, sizes)
    probability = {'low': -1e-3, 'high': 1 + 1e-3}
    estimates = self._by_stage('estimates', count, size, 2)
    if len(estimates) < len(self.config.stages):
      raise InputError(f'{self.path}, estimates: is missing for a stage')
    predictions = Predictions(
      ids=ids,
      image_ids=self._numbers('image_ids', count, **code),
      boxes=boxes,
      image_sizes=sizes,
      landmarks=self._numbers('landmarks', count, size, 2),
      visibility=self._numbers(
        'visibility', count, size, kinds='iu', low=-1, high=2
      ),
      clothes_type=self._numbers('clothes_type', count, **code),
      variation=self._numbers('variation', count, **code),
      estimates=estimates,
      visibility_probs=self._by_stage(
        'visibility_probs', count, size, 3, **probability
      ),
      landmark_set=self.landmarks,
      confidences=self._by_stage('confidences', count, size),
      box_scores=self._perhaps('box_scores', count),
      pseudo_labels=self._by_stage('pseudo_labels', count, None),
      route_score=self._perhaps('route_score', count),
      is_hard=self._perhaps('is_hard', count, kinds='b'),
    )
    if (predictions.is_hard is None) != (predictions.route_score is None):
      raise InputError(f'{self.path}, is_hard: must be there with route_score')
    history = checkpoint.check_history(
      self.about.get('history'), f'{self.path}, about.history'
    )
    for i, point in enumerate(history):
      if 'stage' not in point:
        raise InputError(f'{self.path}, about.history[{i}].stage: is missing')
    return Evaluation(
      split=self.about['split'],
      predictions=predictions,
      config=self.config,
      history=history,
      centres=self._centres(),
      epsilon=self.about.get('epsilon'),
    )

  def _check_boxes(self, boxes: np.ndarray, sizes: np.ndarray) -> None:
    """Refuses boxes that are empty or so far out that crops would be huge."""
    sides = sizes.max(axis=1, keepdims=True)
    bad = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    bad |= (np.abs(boxes) > 2.5 * sides).any(axis=1)
    bad |= sizes.astype(np.int64).prod(axis=1) > images.MAX_PIXELS
    if bad.any():
      row = int(np.argmax(bad))
      raise InputError(
        f'{self.path}, boxes[{row}]: is {boxes[row].tolist()}, must be x1, y1, '
        f'x2, y2 on an image of {" x ".join(map(str, sizes[row].tolist()))}'
      )

  def _centres(self) -> dict[str, np.ndarray]:
    found = {}
    for stage in self.config.stages:
      name = f'centres/{stage.name}'
      length = pseudo_labels.vector_length(
        stage.pseudo_label, self.landmarks.num_landmarks
      )
      if name in self.arrays:
        found[stage.name] = self._numbers(name, None, length)
        if not len(found[stage.name]):
          raise InputError(f'{self.path}, {name}: is empty')
    return found


def coco_results(
  predictions: Predictions, stage: str, ids: list[tuple] | None = None
) -> list[dict]:
  """Returns COCO keypoint results, plus `file_name` and `bbox`.

  Keypoints are x, y in image pixels, counted from the top-left corner of the
  image, and a score: the height of the heatmap; of a network without any, the
  probability that the landmark is not truncated; 1 if it does not predict that
  either. It is 0 for slots that the clothes type lacks. `score` is the mean
  over the slots that it has, times the score of a detected box.

  Args:
    predictions: The predictions of n examples.
    stage: Name of the stage whose estimates are written.
    ids: Image id and category id of each of the n results; by default
      `predictions.image_ids` and 1.

  Returns:
    One dict for each example, n.
  """
  if ids is None:
    ids = [(int(image), 1) for image in predictions.image_ids]
  present = np.asarray(predictions.visibility) != schema.ABSENT
  if predictions.box_scores is not None:
    # A detected box has no truth: all slots count.
    present |= ~present.any(axis=1, keepdims=True)
  points = np.asarray(predictions.estimates[stage], np.float64)
  scores = confidences(predictions, stage)
  mean = mean_state.MeanState.from_values(scores.T, present.T).compute()
  if predictions.box_scores is not None:
    mean = mean * predictions.box_scores
  keypoints = np.dstack([points, np.where(present, scores, 0)])
  corner, size = corner_and_size(predictions.boxes)
  boxes = np.concatenate([corner, size], axis=-1)[:, 0]
  return [
    {
      'image_id': ids[i][0],
      'category_id': ids[i][1],
      'keypoints': keypoints[i].ravel().tolist(),
      'score': float(mean[i]) if present[i].any() else 0.0,
      'file_name': predictions.ids[i],
      'bbox': boxes[i].tolist(),
    }
    for i in range(len(predictions.ids))
  ]


def write_evaluation(
  directory: str | pathlib.Path,
  predictions: Predictions,
  metrics: dict,
  ids: list[tuple] | None = None,
) -> None:
  """Writes metrics.json and predictions.json (COCO results, final stage).

  Numbers are rounded to 6 decimals and keys sorted: equal inputs give the same
  bytes. Each file appears whole or not at all.

  Args:
    directory: The folder of both files; it is made if it does not exist.
    predictions: The predictions of n examples.
    metrics: The metrics of these predictions, a JSON-ready dict.
    ids: Image id and category id of each of the n COCO results; by default
      `predictions.image_ids` and 1.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  json_files.write_json(directory / 'metrics.json', metrics)
  final = list(predictions.estimates)[-1]
  results = [
    json.dumps(json_files.rounded(result), sort_keys=True, allow_nan=False)
    for result in coco_results(predictions, final, ids)
  ]
  lines = '[\n' + ',\n'.join(results) + '\n]\n'
  atomic.write_file(directory / 'predictions.json', lines.encode())
