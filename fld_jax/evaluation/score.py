"""Scores predictions that were made elsewhere, against a folder's truth.

Nothing here needs JAX, or data that were prepared.
"""

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from fld_jax import landmark_sets
from fld_jax.datasets import catalog, prepare
from fld_jax.datasets.common.rows import Row
from fld_jax.errors import Findings, InputError, printable
from fld_jax.evaluation import coco_annotations, prediction_files, text_tables
from fld_jax.files.atomic import write_file
from fld_jax.files.images import image_size
from fld_jax.files.json_files import write_json
from fld_jax.metrics import keypoints, normalised_error
from fld_jax.metrics.predictions import Predictions, counted
from fld_jax.schema import LandmarkSet

STAGE = 'predictions'  # what tables of stages call the estimates
PDJ_FRACTIONS = np.arange(51) / 100
PDJ_MAIN = 0.2


def score(
  config_dataset: ConfigDict,
  predictions_path: str | pathlib.Path,
  split: str,
  directory: str | pathlib.Path,
) -> dict:
  """Measures a file of predictions, writes score.json and score.txt, prints.

  Args:
    config_dataset: The config's part `dataset`, which names the folder; the
      folder is read as it is, `data_dir` is not used.
    predictions_path: The path of the file, of a format that `prediction_files`
      lists.
    split: The split of the data set.
    directory: The folder for the two files; it is made if it does not exist.

  Returns:
    The contents of score.json, not rounded: `dataset`, `split` and

    * of predictions that are tied to examples, all of
      `normalised_error.evaluate` with the landmarks' own norm and all of
      `figures`;
    * `coco`, the ten figures of `coco_annotations.figures`, of COCO results of
      COCO's 17 landmarks. `coco_annotations.tie` says when these are tied.

  Raises:
    InputError: The folder or the file has a mistake; an example has no
      prediction or several, or a prediction no example.
  """
  landmarks = catalog.landmark_set(config_dataset)
  # First, since a folder can take minutes.
  results = prediction_files.read(predictions_path, landmarks.names)
  rows = _rows(config_dataset, split)
  found = {'dataset': config_dataset.name, 'split': split}
  ids, scores = results.ids, results.scores
  if config_dataset.name == 'coco_keypoints':
    annotations = coco_annotations.read(config_dataset, split)
    ids, places = coco_annotations.tie(
      annotations, results, [r.id for r in rows]
    )
  if ids is not None:
    _check_ids(results.path, ids, rows, split)
  if landmarks.names == landmark_sets.COCO_17.names and scores is not None:
    detections = list(zip(places, results.landmarks, scores, strict=True))
    sigmas = landmark_sets.COCO_17.sigmas
    found['coco'] = coco_annotations.figures(annotations, detections, sigmas)
  if ids is not None:
    predictions = _predictions(results, ids, rows, landmarks)
    found |= normalised_error.evaluate(predictions)
    found |= figures(predictions, config_dataset.centric)
  elif 'coco' not in found:
    problem = 'is missing' if results.ids is None else "is a detected box's"
    raise InputError(
      f'{results.path}, results[0], file_name: {problem}, must be the id of an '
      f"example, like '{rows[0].id}'"
    )
  directory = pathlib.Path(directory)
  text = text_tables.format_score(found)
  write_json(directory / 'score.json', found)
  write_file(directory / 'score.txt', text.encode())
  print(text, end='')
  return found


def figures(predictions: Predictions, centric: str) -> dict:
  """Computes what other evaluations report of the same predictions.

  Args:
    predictions: The predictions, with one stage, `STAGE`.
    centric: Whose left and right the landmarks have, 'observer' or 'person'.

  Returns:
    JSON-ready figures, fractions but for EPE:

    * `ne_by_norm`: norm -> `visible` and `annotated`, each `macro` and `micro`,
      and `num_without_norm`; every norm that the landmarks have.
    * `pck` (at 0.2 of the box's longer side), `auc` (to 30 pixels) and `epe`
      (in pixels), defined like mmpose's, over visible and occluded landmarks;
      each as `MeanState.summary`. mmpose's figure is the macro of the first
      two, the micro of the third.
    * for landmarks with sticks, `pdj` (macro `curve` over `fractions` of the
      torso, `at_0.2` as a summary, `num_without_torso`) and strict `pcp` (see
      `keypoints.pcp_summary`), over visible and occluded landmarks; both say
      whose left and right, `centric`.
  """
  landmarks = predictions.landmark_set
  truth, estimate = predictions.landmarks, predictions.estimates[STAGE]
  mask = counted(predictions.visibility, 'annotated')
  pixels = keypoints.distances(estimate, truth)
  sides = keypoints.distances(
    estimate, truth, keypoints.longer_side(predictions.boxes)
  )
  states = {
    'pck': keypoints.pck(sides, mask),
    'auc': keypoints.auc(pixels, mask),
    'epe': keypoints.epe(pixels, mask),
  }
  found = {name: s.summary(landmarks.names) for name, s in states.items()}
  found['ne_by_norm'] = {
    norm: _ne(predictions, norm)
    for norm in normalised_error.NORMS
    if norm != 'keypair' or landmarks.norm_pairs
  }
  if landmarks.sticks:
    found['pdj'] = {'centric': centric, **_pdj(predictions, mask)}
    state = keypoints.pcp(estimate, truth, mask, landmarks)
    summary = keypoints.pcp_summary(state, landmarks)
    found['pcp'] = {'centric': centric, **summary}
  return found


def _ne(predictions: Predictions, norm: str) -> dict:
  """The entry of one norm in the `ne_by_norm` of `figures`."""
  has_norm = np.isfinite(normalised_error.normaliser(predictions, norm)[:, :1])
  errors = normalised_error.normalised_errors(predictions, STAGE, norm)
  found = {'num_without_norm': int((~has_norm).sum())}
  for kind in ('visible', 'annotated'):
    mask = counted(predictions.visibility, kind) & has_norm
    summary = normalised_error.ne(errors, mask, predictions.landmark_set.names)
    found[kind] = {key: summary[key] for key in ('macro', 'micro')}
  return found


def _pdj(predictions: Predictions, mask: np.ndarray) -> dict:
  """The `pdj` of `figures`, but for `centric`.

  Args:
    predictions: The predictions.
    mask: (n, N) mask of the landmarks that count.
  """
  landmarks, truth = predictions.landmark_set, predictions.landmarks
  torso = keypoints.torso_diameter(truth, landmarks)
  ends = [landmarks.names.index(n) for n in ('right_shoulder', 'left_hip')]
  known = mask[:, ends].all(axis=1) & (torso > 0)
  lengths = keypoints.distances(
    predictions.estimates[STAGE], truth, np.where(known, torso, 1)
  )
  at = lambda fraction: keypoints.pdj(
    lengths, mask & known[:, None], fraction
  ).summary(landmarks.names)
  return {
    'num_without_torso': int((~known).sum()),
    'fractions': PDJ_FRACTIONS.tolist(),
    'curve': [at(fraction)['macro'] for fraction in PDJ_FRACTIONS],
    f'at_{PDJ_MAIN}': at(PDJ_MAIN),
  }


def _rows(config_dataset: ConfigDict, split: str) -> list[Row]:
  """Reads the rows of a split, at least one.

  Args:
    config_dataset: The config's part `dataset`.
    split: The split of the data set.

  Raises:
    InputError: The data set has no files or no such split, or the files have a
      mistake.
  """
  if not catalog.find(config_dataset.name).source:
    raise InputError(
      f"config.dataset.name is '{config_dataset.name}', which has no folder of "
      f'files to score with; valid are '
      f'{", ".join(catalog.names_with_files())}.'
    )
  config = config_dataset.copy_and_resolve_references()
  config.detections = ''  # boxes are no truth
  only = catalog.selected_type(config)
  splits, rows = Counter(), []
  for row in prepare.make_builder(config).read(Findings()):
    if only and row.clothes_type != only.code:
      continue
    splits[row.split] += 1
    if row.split == split:
      rows.append(_with_slots(row, only.slots) if only else row)
  if not rows:
    raise InputError(
      f"The split is '{split}', valid ones of {config_dataset.manual_dir} are "
      f'{", ".join(splits)}.'
    )
  return rows


def _with_slots(row: Row, slots: tuple[int, ...]) -> Row:
  """The row with some of its landmarks."""
  slots = list(slots)
  return dataclasses.replace(
    row, landmarks=row.landmarks[slots], visibility=row.visibility[slots]
  )


def _predictions(
  results: prediction_files.Results,
  ids: Sequence[str],
  rows: list[Row],
  landmarks: LandmarkSet,
) -> Predictions:
  """Joins results and truth, in the order of the rows.

  Args:
    results: The n results.
    ids: The id of the row of each result; each row has exactly one.
    rows: The n rows.
    landmarks: The landmark set of the rows.
  """
  index = {name: i for i, name in enumerate(ids)}
  order = np.array([index[row.id] for row in rows])
  # An image can have many objects; its header is read once.
  files = {row.path: row.place for row in rows}
  sizes = {path: image_size(path, place) for path, place in files.items()}
  stack = lambda field: np.stack([getattr(row, field) for row in rows])
  probs = results.visibility_probs
  return Predictions(
    ids=[row.id for row in rows],
    image_ids=np.arange(len(rows)),
    boxes=stack('box').astype(np.float64),
    image_sizes=np.array([sizes[row.path] for row in rows]),
    landmarks=stack('landmarks').astype(np.float64),
    visibility=stack('visibility'),
    clothes_type=stack('clothes_type'),
    variation=stack('variation'),
    estimates={STAGE: results.landmarks[order]},
    visibility_probs={} if probs is None else {STAGE: probs[order]},
    landmark_set=landmarks,
  )


def _check_ids(
  path: pathlib.Path, names: Sequence[str], rows: list[Row], split: str
) -> None:
  """Refuses all but exactly one prediction for each example.

  Args:
    path: The path of the file of predictions, for messages.
    names: The ids of the predictions.
    rows: The rows of the split.
    split: The split's name, for messages.

  Raises:
    InputError: A prediction is of no example, or an example has none or
      several.
  """
  known = {row.id: None for row in rows}
  counts = Counter(names)
  mistakes = {
    'predictions are of no example': [i for i in counts if i not in known],
    'examples have several predictions': [i for i in counts if counts[i] > 1],
    'examples have no prediction': [i for i in known if i not in counts],
  }
  for what, ids in mistakes.items():
    if ids:
      first = ', '.join(f"'{printable(name)}'" for name in ids[:3])
      raise InputError(
        f"{path}: {len(ids)} {what} of the split '{split}': {first}"
        f'{" and so on" if len(ids) > 3 else ""}. Each of its {len(rows)} '
        f"examples must have one, by ids like '{rows[0].id}'"
      )
