"""Trained stages on disk: where they lie, and how they are loaded."""

import pathlib

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from fld_jax.cascade.setup import Setup
from fld_jax.cascade.stage import ALL, Stage, build_model, variable_shapes
from fld_jax.errors import InputError
from fld_jax.runtime import checkpoint
from fld_jax.runtime.manifest import (
  INPUT_FIELDS,
  NETWORK_FIELDS,
  compare_configs,
  read_manifest,
)


def stage_directory(workdir: pathlib.Path, stage) -> pathlib.Path:
  """Where a stage lies: in this run, or in the one that it is taken from."""
  if stage.checkpoint:
    return pathlib.Path(stage.checkpoint).expanduser()
  return workdir / 'stages' / stage.name


def load_network(
  directory: pathlib.Path, model: nn.Module, size: int
) -> tuple[dict, list[dict]]:
  """The chosen variables of a trained network, and its history."""
  with checkpoint.Checkpoints(directory) as checkpoints:
    shapes = variable_shapes(model, size)
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    return checkpoints.restore_chosen(template), checkpoints.history()


def load_stage(
  config: ConfigDict,
  setup: Setup,
  index: int,
  directory: pathlib.Path,
  entry: dict,
) -> tuple[Stage, list[dict]]:
  """Loads a finished stage.

  Args:
    config: The run's config.
    setup: What it resolves to.
    index: Which of `config.stages` it is.
    directory: The folder that holds the stage.
    entry: The stage's part of its run's manifest.

  Returns:
    (Stage, history): the curves of its networks, with their names as `stage`.
  """
  stage = config.stages[index]
  model = build_model(config.model, stage, index, setup.landmarks.num_landmarks)
  networks, history = {}, []
  for name in entry['networks']:
    networks[name], curve = load_network(
      directory / name, model, setup.pipeline.size
    )
    label = stage.name if name == ALL else f'{stage.name}/{name}'
    history += [{**point, 'stage': label} for point in curve]
  clusters = checkpoint.load_arrays(directory / 'clusters.npz') or {}
  if stage.pseudo_label.num_clusters and not clusters:
    raise InputError(
      f'{directory}/clusters.npz is missing or damaged: --mode=train makes it '
      'again.'
    )
  loaded = Stage(stage.name, model, networks, clusters, entry['epsilon'])
  return loaded, history


def take_stage(
  config: ConfigDict, setup: Setup, index: int
) -> tuple[Stage, dict]:
  """Loads the stage of another run that `stage.checkpoint` names.

  Args:
    config: This run's config.
    setup: What it resolves to.
    index: Which of `config.stages` it is.

  Returns:
    (Stage, entry): `entry` is its part of the manifest.

  Raises:
    InputError: if there is no such stage, it is not finished, or its inputs or
      networks have another config.
  """
  stage = config.stages[index]
  directory = stage_directory(pathlib.Path(), stage).absolute()
  manifest = read_manifest(directory.parents[1])
  entry = manifest.get('stages', {}).get(directory.name)
  if entry is None or not directory.is_dir():
    raise InputError(
      f'config.stages[{index}].checkpoint is {directory}, which holds no '
      'finished stage; give WORKDIR/stages/NAME of a run.'
    )
  compare_configs(directory.parents[1], manifest, config, INPUT_FIELDS)
  _check_fits(stage, index, directory, manifest['config']['stages'])
  loaded, _ = load_stage(config, setup, index, directory, entry)
  return loaded, entry


def _check_fits(stage, index: int, directory, others: list[dict]) -> None:
  """Refuses a stage of another run whose network is not the stage's own."""
  names = [other['name'] for other in others]
  other = others[names.index(directory.name)]
  facts = {
    'being the first stage': (names[0] == directory.name, index == 0),
    'branches': (other['branches'], stage.branches),
  }
  for field in ('num_clusters', 'normalize'):
    then, now = other['pseudo_label'][field], stage.pseudo_label[field]
    facts[f'pseudo_label.{field}'] = (then, now)
  for what, (then, now) in facts.items():
    if then != now:
      raise InputError(
        f'config.stages[{index}].checkpoint is {directory}, which does not '
        f'fit: {what} was {then!r} and now is {now!r}.'
      )


def load_cascade(
  config: ConfigDict, setup: Setup, workdir: pathlib.Path
) -> tuple[list[Stage], list[dict]]:
  """Loads a finished cascade.

  Args:
    config: The run's config, or one with other data but the same networks.
    setup: What it resolves to.
    workdir: The run's folder.

  Returns:
    (stages, history) of all its stages, see `load_stage`.

  Raises:
    InputError: if the folder holds no finished cascade of this config.
  """
  manifest = read_manifest(workdir)
  if manifest:
    compare_configs(workdir, manifest, config, NETWORK_FIELDS)
  stages, history = [], []
  for index, stage in enumerate(config.stages):
    entry = manifest.get('stages', {}).get(stage.name)
    if not entry:
      raise InputError(
        f"{workdir} holds no finished stage '{stage.name}': train it with "
        '--mode=train.'
      )
    directory = stage_directory(workdir, stage)
    loaded, curves = load_stage(config, setup, index, directory, entry)
    stages.append(loaded)
    history += curves
  return stages, history
