"""The evaluated runs that a report is on, read back from their folders."""

import dataclasses
import functools
import logging
import pathlib
import shlex
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from fld_jax import geometry, input_pipeline
from fld_jax.datasets.prepare import make_builder
from fld_jax.errors import InputError, shortened
from fld_jax.evaluation import calibration, results
from fld_jax.evaluation.networks import Networks
from fld_jax.files import images, json_files, npz
from fld_jax.metrics import normalised_error, routing
from fld_jax.metrics.predictions import Predictions

logger = logging.getLogger('fld_jax')


@dataclasses.dataclass(eq=False)
class EvaluatedRun:
  """One evaluated run; n images, N landmarks.

  Attributes:
    label: The name by which the report calls the run.
    evaluation: The contents of evaluation.npz.
    figures: The contents of metrics.json.
    image: Function from a row, 0 to n - 1, to its (H, W, 3) uint8 RGB image.
    guess: What baseline.json holds, see `baseline`; None if the evaluation
      left none.
    has_images: Whether `image` finds the images; if not it returns grey ones.
    networks: What networks.json holds; None if the evaluation left none.
  """

  label: str
  evaluation: results.Evaluation
  figures: dict
  image: Callable[[int], np.ndarray]
  guess: dict | None = None
  has_images: bool = True
  networks: Networks | None = None

  @property
  def predictions(self) -> Predictions:
    """The table of truth and estimates."""
    return self.evaluation.predictions

  @property
  def stages(self) -> list[str]:
    """Names of the stages, the final one last."""
    return list(self.predictions.estimates)

  @property
  def names(self) -> tuple[str, ...]:
    """The names of the N landmarks."""
    return self.predictions.landmark_set.names

  @property
  def final(self) -> str:
    """The name of the final stage."""
    return self.stages[-1]

  def stage_config(self, stage: str) -> ConfigDict:
    """The config of a stage.

    Args:
      stage: The stage's name.
    """
    return self.evaluation.config.stages[self.stages.index(stage)]

  @functools.cached_property
  def affines(self) -> np.ndarray:
    """The (n, 2, 3) maps from image pixels to pixels of the networks' crop."""
    options = self.evaluation.config.input
    return np.stack(
      [
        geometry.crop_affine(
          geometry.cropped_box(box, size, options.crop, options.margin),
          options.size,
          options.crop,
        )
        for box, size in zip(
          self.predictions.boxes, self.predictions.image_sizes, strict=True
        )
      ]
    )

  def normalised(self, points: np.ndarray) -> np.ndarray:
    """Converts positions to those that the networks see.

    Args:
      points: (n, N, 2) image pixels.

    Returns:
      (n, N, 2) in [-0.5, 0.5] within the crop.
    """
    size = self.evaluation.config.input.size
    return geometry.normalise(geometry.transform(self.affines, points), size)


def read_runs(
  workdirs: list[pathlib.Path], split: str | None
) -> list[EvaluatedRun]:
  """Reads the evaluations of one split, of runs with the same landmarks.

  Args:
    workdirs: The runs' folders.
    split: The split's name; by default the one that the first run was evaluated
      on, or 'val' if it was evaluated on several.

  Raises:
    InputError: A run has no evaluation of the split, the runs' landmarks
      differ, or a folder is named twice.
  """
  places = [folder.absolute() for folder in workdirs]
  twice = [str(place) for place in places if places.count(place) > 1]
  if twice:
    raise InputError(f'--workdirs names {twice[0]} twice.')
  split = split or _usual_split(places[0])
  runs = [
    _read_run(label, place, split)
    for label, place in zip(labels(places), places, strict=True)
  ]
  for place, run in zip(places, runs, strict=True):
    if run.names != runs[0].names:
      raise InputError(
        f'{place} has the landmarks {", ".join(run.names)}, and {places[0]} '
        f'has {", ".join(runs[0].names)}: a report compares runs with the same '
        'landmarks, make one of each.'
      )
  return runs


def labels(places: list[pathlib.Path]) -> list[str]:
  """The shortest ends of paths that tell them apart.

  Args:
    places: The paths, all different.

  Returns:
    An end of each path, of the same number of parts.
  """
  for length in range(1, max(len(place.parts) for place in places) + 1):
    ends = ['/'.join(place.parts[-length:]) for place in places]
    if len(set(ends)) == len(ends):
      break
  return ends


def _usual_split(place: pathlib.Path) -> str:
  """The split that a run was evaluated on; 'val' if that is not exactly one."""
  names = [path.parent.name for path in place.glob('eval/*/evaluation.npz')]
  return names[0] if len(names) == 1 else 'val'


def _read_run(label: str, place: pathlib.Path, split: str) -> EvaluatedRun:
  """Reads one run's evaluation.

  Args:
    label: The name by which the report calls the run.
    place: The run's folder.
    split: The split's name.

  Raises:
    InputError: The folder, the evaluation or the images are missing.
  """
  folder = place / 'eval' / split
  if not place.is_dir():
    raise InputError(f'--workdirs names {place}, which is no folder.')
  if not (folder / 'evaluation.npz').is_file():
    others = sorted(p.parent.name for p in place.glob('eval/*/evaluation.npz'))
    has = f' (it has one of {", ".join(others)})' if others else ''
    raise InputError(
      f"{place} holds no evaluation of the split '{split}' that a report can "
      f'be made of{has}: make it by python -m fld_jax.main --mode=evaluate '
      f'--workdir={shlex.quote(str(place))} --split={shlex.quote(split)}'
    )
  evaluation = results.read_evaluation(folder / 'evaluation.npz')
  image = _prepared_images(place, evaluation)
  guess = folder / 'baseline.json'
  return EvaluatedRun(
    label=label,
    evaluation=evaluation,
    figures=_read_figures(folder / 'metrics.json', evaluation),
    image=image or _stand_in(evaluation),
    guess=json_files.read_json(guess) if guess.exists() else None,
    has_images=image is not None,
    networks=Networks.read(folder / 'networks.json'),
  )


def _read_figures(
  path: pathlib.Path, evaluation: results.Evaluation
) -> dict[str, Any]:
  """Reads metrics.json and refuses one that is not of the evaluation's form.

  Args:
    path: The path of metrics.json.
    evaluation: The evaluation of the same folder.

  Returns:
    The figures.

  Raises:
    InputError: If a figure is missing or of another kind.
  """
  form = normalised_error.evaluate(evaluation.predictions)
  form |= {'split': evaluation.split, 'num_corrupt': 0}
  form = json_files.rounded(form)
  found = json_files.read_json(path)
  # Older evaluations did not measure the routing.
  if isinstance(found, dict) and 'routing' in found:
    measured = routing.evaluate(evaluation.predictions, form['norm'])
    form['routing'] = json_files.rounded(measured)
  if isinstance(found, dict) and 'category_accuracy' in found:
    form['category_accuracy'] = 0.0
  _add_newer_figures(found, form)
  _check_form(path, '', found, form)
  passes = found.get('network_passes')
  if not isinstance(passes, dict) or not all(
    isinstance(number, int) and 0 <= number < 2**63
    for number in passes.values()
  ):
    raise InputError(
      f'{path}, network_passes: is {shortened(passes)}, must be numbers of '
      'images by network: evaluate again.'
    )
  if 'calibration' in found:  # runs of older versions have none
    names = evaluation.predictions.landmark_set.names
    calibration.check_figures(path, found['calibration'], names)
  return found


def _add_newer_figures(found: Any, form: dict[str, Any]) -> None:
  """Gives the stages of an older metrics.json the figures it had not yet.

  Args:
    found: The content of metrics.json, of any type.
    form: The figures of the same evaluation.
  """
  stages = found.get('stages') if isinstance(found, dict) else None
  for name, figures in form['stages'].items():
    stage = stages.get(name) if isinstance(stages, dict) else None
    if isinstance(stage, dict):
      stage.setdefault('signed_error', figures['signed_error'])


def _check_form(path: pathlib.Path, place: str, found: Any, form: Any) -> None:
  """Refuses a value of metrics.json that differs in its form from another.

  Args:
    path: The path of metrics.json, for messages.
    place: The value's place in it, '' for the whole.
    found: The value.
    form: A value with the same objects and lists, and with numbers, or null,
      where there must be some. A text must be the same.

  Raises:
    InputError: Naming the place.
  """

  def refuse(must: str) -> NoReturn:
    raise InputError(
      f'{path}, {place or "content"}: is {shortened(found)}, must be {must}: '
      'evaluate again.'
    )

  if isinstance(form, dict):
    if not isinstance(found, dict):
      refuse('an object')
    missing = [name for name in form if name not in found]
    if missing:
      refuse(f'an object with {missing[0]}')
    for name, value in form.items():
      inner = f'{place}.{name}' if place else name
      _check_form(path, inner, found[name], value)
    # What an object has beside it would be shown too.
    if place and found.keys() > form.keys():
      refuse(f'an object of {", ".join(form) or "nothing"}')
  elif isinstance(form, list):
    if not isinstance(found, list) or len(found) != len(form):
      refuse(f'a list of {len(form)}')
    for i, value in enumerate(form):
      _check_form(path, f'{place}[{i}]', found[i], value)
  elif isinstance(form, str):
    if found != form:
      refuse(repr(form))
  else:
    is_number = isinstance(found, int | float) and abs(found) <= npz.LARGEST
    if (form is None) != (found is None) or not (found is None or is_number):
      refuse('null' if form is None else 'a number')


def _prepared_images(
  place: pathlib.Path, evaluation: results.Evaluation
) -> Callable[[int], np.ndarray] | None:
  """Finds the images of an evaluation; prepares nothing.

  Args:
    place: The run's folder, for the warning.
    evaluation: The evaluation.

  Returns:
    The function `EvaluatedRun.image`; None if the images are not here, which a
    warning says.
  """
  try:
    builder = make_builder(evaluation.config.dataset)
    if not builder.is_prepared():
      raise InputError('The data set is not prepared here')
    records = input_pipeline.Records(builder, evaluation.split)
    names, rows = evaluation.predictions.ids, evaluation.predictions.image_ids
    for row in (int(rows.argmin()), int(rows.argmax())):
      index = int(rows[row])
      if index >= len(records) or records[index]['id'].decode() != names[row]:
        raise InputError('The prepared data set is another one')
  except InputError as error:
    logger.warning(
      'The images that %s was evaluated on are not here, so positions are '
      'shown on grey: %s. If they were moved, evaluate it again with '
      '--manual_dir=FOLDER.',
      place,
      str(error).splitlines()[0].removesuffix('.'),
    )
    return None
  return image_reader(builder, evaluation)


def _stand_in(
  evaluation: results.Evaluation,
) -> Callable[[int], np.ndarray]:
  """Makes a function from a row to a grey image of the size of its image."""
  sizes = evaluation.predictions.image_sizes
  return lambda row: np.full((*map(int, sizes[row][::-1]), 3), 225, np.uint8)


def image_reader(
  builder: tfds.core.DatasetBuilder, evaluation: results.Evaluation
) -> Callable[[int], np.ndarray]:
  """Makes the function `EvaluatedRun.image` of an evaluated split.

  Args:
    builder: The data set's builder.
    evaluation: The split's evaluation.

  Returns:
    A function from a row, 0 to n - 1, to its (H, W, 3) uint8 RGB image.
  """
  records = input_pipeline.Records(builder, evaluation.split)
  indices = evaluation.predictions.image_ids
  return lambda row: images.decode(records[int(indices[row])]['image'])
