"""Scores predictions that were made elsewhere, against a folder's truth.

Nothing here needs JAX, or data that were prepared.
"""

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from fld_jax import landmark_sets, schema
from fld_jax.datasets import catalog, prepare
from fld_jax.datasets.common.rows import Row
from fld_jax.errors import Findings, InputError, printable
from fld_jax.evaluation import (
  coco_annotations,
  prediction_files,
  text_tables,
  ties,
)
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

    * of predictions that are tied to examples, see `ties`, all of
      `normalised_error.evaluate` with the landmarks' own norm, all of
      `figures`, and `num_left_out`, the number of other predictions;
    * `coco`, the ten figures of `coco_annotations.figures`, of COCO results of
      COCO's 17 landmarks, which need not be tied.

  Raises:
    InputError: The folder or the file has a mistake; an example has no
      prediction or several, or a prediction no example.
  """
  landmarks = catalog.landmark_set(config_dataset)
  is_coco = config_dataset.name == 'coco_keypoints'
  # First, since a folder can take minutes.
  categories = coco_annotations.categories(config_dataset, split)
  results = prediction_files.read(predictions_path, landmarks.names, categories)
  rows = _rows(config_dataset, split)
  found = {'dataset': config_dataset.name, 'split': split}
  if is_coco:
    annotations = coco_annotations.read(config_dataset, split)
    objects = coco_annotations.objects(annotations, rows)
  else:
    objects = _objects(rows)
  tied = ties.tie(results, objects)
  has_oks = landmarks.names == landmark_sets.COCO_17.names
  try:
    ties.check(results, tied, objects, split)
    is_tied = True
  except InputError as mistake:
    # AP and AR take any number of results on images that are known.
    is_strict = any(tied.is_named) or tied.unknown
    if not has_oks or results.scores is None or is_strict:
      raise
    is_tied = False
    print(f'Only AP and AR. {mistake}')
  if has_oks and results.scores is not None:
    places = coco_annotations.places(annotations, results, tied)
    points = np.nan_to_num(results.landmarks)
    detections = list(zip(places, points, results.scores, strict=True))
    sigmas = landmark_sets.COCO_17.sigmas
    found['coco'] = coco_annotations.figures(annotations, detections, sigmas)
  if is_tied:
    for line in tied.report(results, objects):
      print(f'Left out: {line}.')
    predictions = _predictions(results, tied.ids, rows, landmarks)
    found['num_left_out'] = len(results) - len(rows)
    found |= normalised_error.evaluate(predictions)
    found |= figures(predictions, config_dataset.centric)
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


def _objects(rows: list[Row]) -> ties.Objects:
  """The objects of a data set whose examples are named by their images."""
  ids = [row.id for row in rows]
  return ties.Objects(
    images=dict(zip(ids, ids, strict=True)),
    ids=ids,
    image_keys=ids,
    category_ids=[row.clothes_type or None for row in rows],
    boxes=[row.box for row in rows],
    by_image_id=False,
    examples=frozenset(ids),
  )


def _predictions(
  results: prediction_files.Results,
  ids: Sequence[str | None],
  rows: list[Row],
  landmarks: LandmarkSet,
) -> Predictions:
  """Joins results and truth, in the order of the rows.

  Args:
    results: The n results.
    ids: The id of the object of each result, which each row has once.
    rows: The n rows.
    landmarks: The landmark set of the rows.
  """
  index = {name: i for i, name in enumerate(ids)}
  order = np.array([index[row.id] for row in rows])
  points = results.landmarks[order]
  needed = schema.has_position(np.stack([row.visibility for row in rows]))
  missing = np.argwhere(needed & np.isnan(points).any(axis=2))
  if len(missing):
    i, slot = missing[0]
    raise InputError(
      f'{results.path}, {results.places[order[i]]}: has no position of '
      f"{landmarks.names[slot]}, which the example '{printable(rows[i].id)}' "
      f'has; so it is with {len(missing)} landmarks, must be positions of all'
    )
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
    estimates={STAGE: np.nan_to_num(points)},
    visibility_probs={} if probs is None else {STAGE: probs[order]},
    landmark_set=landmarks,
  )
