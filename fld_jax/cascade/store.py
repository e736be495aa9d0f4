"""Trained stages on disk: where they are stored, and how they are loaded."""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from fld_jax.cascade.pseudo_labels import check_clusters, check_errors
from fld_jax.cascade.setup import Setup
from fld_jax.cascade.stage import (
  ALL,
  Stage,
  before,
  build_model,
  variable_shapes,
)
from fld_jax.errors import InputError
from fld_jax.files import npz
from fld_jax.files.atomic import whole_folder
from fld_jax.runtime import checkpoint, processes
from fld_jax.runtime.manifest import (
  INPUT_FIELDS,
  NETWORK_FIELDS,
  compare_configs,
  read_manifest,
)

# The file of the head of pseudo-labels that was fitted to a trained network.
HEAD_FILE = 'refit.npz'
# The errors of the stages before, by which a stage's starts were drawn.
ERRORS_FILE = 'errors.npz'
# The file, in the folder of a stage with branches, of the errors of the
# clusters of the stage that routes, if that is the first one.
CLUSTER_ERRORS_FILE = 'cluster_errors.npz'


def stage_directory(workdir: pathlib.Path, stage: ConfigDict) -> pathlib.Path:
  """Returns the folder of a stage.

  Args:
    workdir: The run's folder.
    stage: The stage's config.

  Returns:
    The path in this run's folder; or in that of the run that the stage is taken
    from, if this run has no copy of it.
  """
  own = workdir / 'stages' / stage.name
  if stage.checkpoint and not own.is_dir():
    return pathlib.Path(stage.checkpoint).expanduser()
  return own


def load_network(
  directory: pathlib.Path, model: nn.Module, size: int
) -> tuple[dict[str, Any], list[dict]]:
  """Loads a trained network.

  Args:
    directory: The folder of the network's checkpoints.
    model: The Linen module.
    size: The side of the crops that the network sees, in pixels.

  Returns:
    (variables, history), the variables of the chosen checkpoint and the curves.

  Raises:
    InputError: If the folder holds no whole checkpoint.
  """
  saved = checkpoint.SavedNetwork(directory)
  return saved.restore_chosen(_template(model, size)), saved.history()


def load_stage(
  config: ConfigDict,
  setup: Setup,
  index: int,
  directory: pathlib.Path,
  entry: dict[str, Any],
) -> tuple[Stage, list[dict]]:
  """Loads a finished stage.

  Args:
    config: The run's config.
    setup: The objects that the config resolves to.
    index: The stage's place in `config.stages`, from 0 on.
    directory: The folder that holds the stage.
    entry: The stage's entry in its run's manifest.

  Returns:
    (stage, history). The history joins the curves of the stage's networks, each
    point with the network's name as `stage`.

  Raises:
    InputError: If a checkpoint or the file of the clusters is missing.
  """
  stage = config.stages[index]
  model = build_model(config.model, stage, index, setup.landmarks)
  networks, history = {}, []
  for name in entry['networks']:
    networks[name], curve = load_network(
      directory / name, model, setup.pipeline.size
    )
    label = stage.name if name == ALL else f'{stage.name}/{name}'
    history += [{**point, 'stage': label} for point in curve]
  clusters = {}
  if stage.pseudo_label.num_clusters:
    clusters = _load_clusters(
      directory / 'clusters.npz', setup, stage.pseudo_label, index
    )
  if entry['refitted']:
    head = _trainable(lambda: load_head(directory, model, networks[ALL]))
    put_head(model, networks[ALL], head)
  loaded = Stage(
    stage.name, model, networks, clusters, entry['epsilon'], entry['continues']
  )
  return loaded, history


def load_head(
  directory: pathlib.Path, model: nn.Module, variables: dict[str, Any]
) -> dict[str, np.ndarray]:
  """Loads the head of pseudo-labels that was fitted to a trained network.

  Args:
    directory: The folder of the stage.
    model: The Linen module.
    variables: The network's variables.

  Returns:
    `kernel` (hidden, K) and `bias` (K,).

  Raises:
    InputError: If the file is missing or does not fit the network.
  """
  path = directory / HEAD_FILE
  found = checkpoint.load_arrays(path)
  if found is None:
    raise InputError(f'{path}: is missing')
  check_head(path, found, model, variables)
  return found


def check_head(
  path: pathlib.Path,
  found: dict[str, np.ndarray],
  model: nn.Module,
  variables: dict[str, Any],
) -> None:
  """Refuses a head of a file that does not fit the network.

  Args:
    path: The path of the file, for messages.
    found: The arrays of the file.
    model: The Linen module.
    variables: The network's variables.

  Raises:
    InputError: An array is missing, or has another shape or no finite numbers.
  """
  for name, array in variables['params'][model.label_head].items():
    npz.numbers(path, name, found.get(name), np.shape(array))


def put_head(
  model: nn.Module, variables: dict[str, Any], head: dict[str, np.ndarray]
) -> None:
  """Gives a network a head of pseudo-labels, in place.

  Args:
    model: The Linen module.
    variables: The network's variables.
    head: What `load_head` returned.
  """
  params = variables['params']
  params[model.label_head] = {
    name: head[name].astype(np.float32) for name in params[model.label_head]
  }


def _load_clusters(
  path: pathlib.Path, setup: Setup, label: ConfigDict, index: int
) -> dict[str, np.ndarray]:
  """The clusters of a finished stage, which fit it."""

  def load() -> dict[str, np.ndarray]:
    clusters = checkpoint.load_arrays(path)
    if clusters is None:
      raise InputError(f'{path}: is missing')
    check_clusters(
      path, clusters, label, setup.landmarks.num_landmarks, index > 0
    )
    return clusters

  return _trainable(load)


def _load_errors(directory: pathlib.Path, label: ConfigDict) -> np.ndarray:
  """The errors of the clusters of a first stage that routes."""
  path = directory / CLUSTER_ERRORS_FILE

  def load() -> np.ndarray:
    found = checkpoint.load_arrays(path)
    if found is None:
      raise InputError(f'{path}: is missing')
    check_errors(path, found, label)
    return found['errors']

  return _trainable(load)


def _trainable(load: Callable[[], Any]) -> Any:
  """Loads a file; an error says how it is made again."""
  try:
    return load()
  except InputError as error:
    raise InputError(f'{error}: --mode=train makes it again.') from None


def take_stage(
  config: ConfigDict, setup: Setup, index: int
) -> tuple[Stage, dict[str, Any]]:
  """Loads the stage of another run that `stage.checkpoint` names.

  Args:
    config: This run's config.
    setup: The objects that the config resolves to.
    index: The stage's place in `config.stages`, from 0 on.

  Returns:
    (stage, entry), the stage and its entry in the other run's manifest.

  Raises:
    InputError: If there is no such stage, it is not finished, or its inputs or
      networks have another config.
  """
  stage = config.stages[index]
  directory = pathlib.Path(stage.checkpoint).expanduser().absolute()
  manifest, entry = _stage_of_a_run(directory, index)
  known = manifest['landmarks']
  if known is not None and known.names != setup.whole.names:
    raise InputError(
      f'config.stages[{index}].checkpoint is {directory}, whose landmarks are '
      f'{", ".join(known.names)}, and those of the data set are '
      f'{", ".join(setup.whole.names)}: they must be the same.'
    )
  compare_configs(directory.parents[1], manifest, config, INPUT_FIELDS)
  _check_fits(stage, index, directory, manifest['config']['stages'])
  loaded, _ = load_stage(config, setup, index, directory, entry)
  return loaded, entry


def copy_stage(
  config: ConfigDict,
  setup: Setup,
  index: int,
  workdir: pathlib.Path,
  entry: dict[str, Any],
) -> None:
  """Copies a stage of another run into this one, which is whole with it.

  Args:
    config: This run's config.
    setup: The objects that the config resolves to.
    index: The stage's place in `config.stages`, from 0 on.
    workdir: This run's folder.
    entry: The stage's part of the other run's manifest.

  Raises:
    InputError: If a network of the stage has no whole checkpoint.
  """
  stage = config.stages[index]
  source = pathlib.Path(stage.checkpoint).expanduser()
  own = workdir / 'stages' / stage.name
  model = build_model(config.model, stage, index, setup.landmarks)

  def copy() -> None:
    if own.is_dir():
      return
    with whole_folder(own) as folder:
      for name in entry['networks']:
        saved = checkpoint.SavedNetwork(source / name)
        saved.copy_chosen(_template(model, setup.pipeline.size), folder / name)
      for name in ('clusters.npz', HEAD_FILE, ERRORS_FILE, CLUSTER_ERRORS_FILE):
        if (source / name).is_file():
          shutil.copyfile(source / name, folder / name)

  processes.call_on_main(copy, processes.LONG_SECONDS)


def _template(model: nn.Module, size: int) -> dict[str, Any]:
  """Arrays of the structure, shapes and types of a network's variables."""
  shapes = variable_shapes(model, size)
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def _stage_of_a_run(
  directory: pathlib.Path, index: int
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Finds the run that a stage is taken from.

  Args:
    directory: The absolute path of the stage's folder.
    index: Which of this run's `config.stages` takes it, for the message.

  Returns:
    (manifest, entry), of that run and of the stage in it.

  Raises:
    InputError: If the folder is not that of a finished stage of a run.
  """
  manifest, entry = {}, None
  if len(directory.parents) > 1:
    manifest = read_manifest(directory.parents[1])
    entry = manifest.get('stages', {}).get(directory.name)
  is_stage = directory.parent.name == 'stages' and directory.is_dir()
  if entry is None or not is_stage:
    raise InputError(
      f'config.stages[{index}].checkpoint is {directory}, which holds no '
      'finished stage; give WORKDIR/stages/NAME of a run.'
    )
  return manifest, entry


def _check_fits(
  stage: ConfigDict,
  index: int,
  directory: pathlib.Path,
  others: list[dict[str, Any]],
) -> None:
  """Refuses a stage of another run whose networks differ from the stage's.

  Args:
    stage: The stage's config in this run.
    index: The stage's place in `config.stages`, from 0 on.
    directory: The folder of the stage in the other run.
    others: The configs of the other run's stages.
  """
  names = [other['name'] for other in others]
  other = others[names.index(directory.name)]
  facts = {
    'being the first stage': (names[0] == directory.name, index == 0),
    'branches': (other['branches'], stage.branches),
    'continuing the stage before': (
      other['init'] == 'continue',
      stage.init == 'continue',
    ),
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
    setup: The objects that the config resolves to.
    workdir: The run's folder.

  Returns:
    (stages, history), the stages and the joined curves of all of them (see
    `load_stage`).

  Raises:
    InputError: If the folder holds no finished cascade of this config.
  """
  manifest = read_manifest(workdir)
  if manifest:
    compare_configs(workdir, manifest, config, NETWORK_FIELDS)
  for index, stage in enumerate(config.stages):
    try:
      build_model(config.model, stage, index, setup.landmarks)
    except InputError as error:  # which does not know where the config is from
      raise InputError(f'{workdir}/manifest.json, {error}') from None
  stages, history = [], []
  for index, stage in enumerate(config.stages):
    entry = manifest.get('stages', {}).get(stage.name)
    if not entry:
      raise InputError(
        f"{workdir} holds no finished stage '{stage.name}': train it with "
        '--mode=train.'
      )
    directory = stage_directory(workdir, stage)
    if directory.parent != workdir / 'stages':
      _stage_of_a_run(directory.absolute(), index)
    loaded, curves = load_stage(config, setup, index, directory, entry)
    if loaded.epsilon is not None:
      router = before(stages, loaded.continues)[-1]
      if 'errors' not in router.clusters:
        label = config.stages[0].pseudo_label
        router.clusters['errors'] = _load_errors(directory, label)
    stages.append(loaded)
    history += curves
  return stages, history
