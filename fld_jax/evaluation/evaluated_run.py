"""The evaluated runs that a report is on, read back from their folders."""

import dataclasses
import functools
import pathlib
import shlex
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from fld_jax import geometry, input_pipeline
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import InputError
from fld_jax.evaluation import results
from fld_jax.files import images, json_files
from fld_jax.metrics.predictions import Predictions


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
  """

  label: str
  evaluation: results.Evaluation
  figures: dict
  image: Callable[[int], np.ndarray]
  guess: dict | None = None

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
          geometry.grow_box(box, options.margin), options.size, options.crop
        )
        for box in self.predictions.boxes
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
  try:
    builder = prepared_builder(evaluation.config.dataset)
  except InputError as error:
    raise InputError(
      f'The images that {place} was evaluated on cannot be read: {error}\n'
      'If they were moved, evaluate it again with --manual_dir=FOLDER.'
    ) from error
  guess = folder / 'baseline.json'
  return EvaluatedRun(
    label=label,
    evaluation=evaluation,
    figures=json_files.read_json(folder / 'metrics.json'),
    image=image_reader(builder, evaluation),
    guess=json_files.read_json(guess) if guess.exists() else None,
  )


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
