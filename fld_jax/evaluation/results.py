"""Files of an evaluation: figures, COCO results, all that a report needs.

  W/eval/SPLIT/metrics.json       the metrics of `evaluate.evaluate_split`
  W/eval/SPLIT/predictions.json   COCO keypoint results of the final stage
  W/eval/SPLIT/evaluation.npz     `Evaluation`: truth and every stage's outputs

Equal inputs give the same bytes, and each file appears whole or not at all.
"""

import dataclasses
import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from fld_jax import defaults, schema
from fld_jax.datasets.catalog import landmark_set
from fld_jax.errors import InputError
from fld_jax.files import atomic, json_files
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
_DAMAGE = (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile)
BY_STAGE = ('confidences', 'estimates', 'pseudo_labels', 'visibility_probs')


@dataclasses.dataclass
class Evaluation:
  """One evaluated split of a run.

  Attributes:
    split: The split's name.
    predictions: The split's truth and every stage's outputs.
    config: The run's config, a ConfigDict; its dataset leads to the images.
    history: Curves of the training, as `cascade.store.load_stage` returns them.
    centres: Cluster centres of the pseudo-labels, (K, D), by the stage's name.
    epsilon: Threshold of the routing score; None without routing.
  """

  split: str
  predictions: Predictions
  config: Any
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
    arrays['about'] = np.array(json.dumps(about, sort_keys=True))
    arrays['ids'] = np.array(predictions.ids)
    checkpoint.save_arrays(path, arrays)


def read_evaluation(path: pathlib.Path) -> Evaluation:
  """Reads an evaluation.npz that `Evaluation.save` wrote.

  Args:
    path: The path of evaluation.npz.

  Raises:
    InputError: The file is damaged, or the data set's landmarks are no longer
      those of the file.
  """
  try:
    with np.load(path) as file:
      arrays = dict(file)
    about = json.loads(str(arrays['about']))
    arrays['landmarks'] = arrays.pop('truth')
    if 'hard' in arrays:  # its name before 0.1.0
      arrays['is_hard'] = arrays.pop('hard')
  except _DAMAGE as error:
    raise InputError(
      f'{path} is not what an evaluation left ({error}): evaluate again.'
    ) from error
  config = defaults.restore(about['config'], str(path))
  landmarks = landmark_set(config.dataset)
  if list(landmarks.names) != about['landmarks']:
    raise InputError(
      f'{path}, landmarks: are {", ".join(about["landmarks"])}, and those of '
      f"'{config.dataset.name}' now are {', '.join(landmarks.names)}: evaluate "
      'again.'
    )
  # In the order of the cascade.
  of = lambda name: {
    stage: arrays[f'{name}/{stage}']
    for stage in about['stages']
    if f'{name}/{stage}' in arrays
  }
  predictions = Predictions(
    ids=arrays['ids'].tolist(),
    landmark_set=landmarks,
    **{name: arrays[name] for name in ARRAYS},
    **{name: arrays.get(name) for name in PERHAPS},
    **{name: of(name) for name in BY_STAGE},
  )
  return Evaluation(
    split=about['split'],
    predictions=predictions,
    config=config,
    history=about['history'],
    centres=of('centres'),
    epsilon=about['epsilon'],
  )


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
