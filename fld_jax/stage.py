"""A stage of a cascade: its networks, how they are made, found and loaded."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fld_jax.datasets.catalog import landmark_set
from fld_jax.errors import InputError
from fld_jax.models import MODELS
from fld_jax.runtime import checkpoint
from fld_jax.runtime.manifest import (
  INPUT_FIELDS,
  NETWORK_FIELDS,
  compare_configs,
  read_manifest,
)

EASY, HARD, ALL = 'easy', 'hard', 'all'


@dataclasses.dataclass
class Stage:
  """A trained stage.

  Attributes:
    name: of the stage.
    model: the Linen module, one for all its networks.
    networks: {'all': variables}, or {'easy': ..., 'hard': ...}.
    clusters: `centres` (K, D) and `errors` (K,), or {}.
    epsilon: routing threshold of a stage with branches, else None.
  """

  name: str
  model: Any
  networks: dict[str, Any]
  clusters: dict[str, np.ndarray]
  epsilon: float | None = None


def build_model(config, stage, index: int):
  """The Linen module of a stage.

  Args:
    config: `dataset`; `model`: `name` and the module's fields.
    stage: the stage's config.
    index: 0 for the stage that sees the image alone.

  Returns:
    The module.

  Raises:
    InputError: for an unknown model or field of it, or a stage that asks for
      what the model has not.
  """
  fields = config.model.to_dict()
  name = fields.pop('name')
  if name not in MODELS:
    raise InputError(
      f"config.model.name is '{name}', valid values are {', '.join(MODELS)}."
    )
  known = {field.name for field in dataclasses.fields(MODELS[name])}
  known -= {'name', 'parent'}
  # What the dataset and the stage decide; only a cascade's networks have all.
  given = {
    'num_landmarks': landmark_set(config.dataset).num_landmarks,
    'use_estimate': index > 0,
    'num_clusters': stage.pseudo_label.num_clusters,
    'softmax': stage.pseudo_label.normalize,
  }
  if index and 'use_estimate' not in known:
    raise InputError(
      f"config.model.name is '{name}', which takes no landmarks of a stage "
      f'before it: leave only the first of config.stages, not {index + 1}.'
    )
  if given['num_clusters'] and 'num_clusters' not in known:
    raise InputError(
      f'config.stages[{index}].pseudo_label.num_clusters is '
      f"{given['num_clusters']}, but config.model.name '{name}' has no "
      'pseudo-label: set it to 0.'
    )
  unknown = sorted(fields.keys() - (known - given.keys()))
  if unknown:
    raise InputError(
      f"config.model.{unknown[0]} is no field of the network '{name}', valid "
      f'are {", ".join(sorted(known - given.keys()))}.'
    )
  fields['dtype'] = jnp.dtype(fields['dtype'])
  given = {key: value for key, value in given.items() if key in known}
  return MODELS[name](**given, **fields)


def init_variables(model, config, seed: int) -> dict:
  """Random variables of a network, as NumPy arrays.

  Args:
    model: the Linen module.
    config: `input.size`.
    seed: of the parameters.

  Returns:
    {'params': ...} and, with batch normalisation, 'batch_stats'.
  """
  # rbg: three times faster to compile than the default generator on a CPU.
  key = jax.random.key(seed, impl='rbg')
  return checkpoint.to_host(jax.jit(_init(model, config))(key))


def _init(model, config):
  batch = _example(model, config)
  return lambda key: model.init(key, batch, train=False)


def _example(model, config) -> dict:
  """A batch of one, as a network takes it."""
  size = config.input.size
  return {
    'image': np.zeros((1, size, size, 3), np.float32),
    'estimate': np.zeros((1, model.num_landmarks, 2), np.float32),
    'position': np.zeros((1,), np.int32),
  }


def variable_shapes(model, config) -> dict:
  """The variables of a network: their shapes and types, no numbers."""
  return jax.eval_shape(_init(model, config), jax.random.key(0))


def output_shapes(model, config) -> dict[str, tuple[int, ...]]:
  """The shapes of a network's outputs for a batch of one image."""
  init = lambda key: model.init_with_output(
    key, _example(model, config), train=False
  )
  outputs, _ = jax.eval_shape(init, jax.random.key(0))
  return {name: value.shape for name, value in outputs.items()}


def start_from(fresh: dict, source: dict, offset_scale: float) -> dict:
  """Variables that start as the network of the stage before ended.

  A residual to an estimate that is already good is hardly learned from heads
  near zero: the trunk gets no gradient that tells of the pose. So the network
  starts with one that does: as `offset_scale * (estimate - own)`, where `own`
  are the landmarks that stage 1 sees. That is made of stage 1's landmark head
  and of units that carry the estimate through fc7; they take the place of those
  to which that head gives the least weight. A network that already reads an
  estimate is taken over whole.

  The pseudo-label head starts afresh: another stage's clusters are others.

  Args:
    fresh: random variables of the new network.
    source: trained variables of the stage before.
    offset_scale: methods A3.

  Returns:
    Variables with the structure and shapes of `fresh`.
  """
  new, old = dict(fresh['params']), source['params']
  for name in old.keys() & new.keys():
    if name != 'fc8_pseudo_label':
      new[name] = jax.tree.map(np.array, old[name])
  if 'fc_pre' not in old:
    _carry_estimate(new, old, offset_scale)
  return {**fresh, **source, 'params': new}


def _carry_estimate(new: dict, old: dict, offset_scale: float) -> None:
  """Makes stage 1's parameters, in `new`, those of a later stage.

  A unit ends in a ReLU, so each coordinate takes two, for its positive and its
  negative part. There are as many copies as fc_pre has room for, as the noise
  of dropout averages out over them.
  """
  head = old['fc8_landmarks']['kernel']  # (hidden, 2N)
  hidden, coordinates = head.shape
  width = new['fc_pre']['bias'].size
  copies = width // (2 * coordinates)
  carriers = np.argsort(np.linalg.norm(head, axis=1), kind='stable')
  carriers = carriers[: copies * 2 * coordinates]
  eye = np.eye(coordinates, dtype=np.float32)
  signs = np.tile(np.hstack([eye, -eye]), copies)  # (2N, carriers)
  new['fc_pre'] = jax.tree.map(np.zeros_like, new['fc_pre'])
  new['fc_pre']['kernel'][:, : len(carriers)] = signs
  fc7 = new['fc7']
  rows = np.zeros((width, hidden), np.float32)
  rows[np.arange(len(carriers)), carriers] = 1
  fc7['kernel'] = np.concatenate([fc7['kernel'], rows])
  fc7['kernel'][:hidden, carriers] = 0
  fc7['bias'][carriers] = 0
  for name in new:
    if name.startswith('fc8_visibility'):
      new[name]['kernel'][carriers] = 0
  new['fc8_landmarks'] = {
    'kernel': -offset_scale * head,
    'bias': -offset_scale * old['fc8_landmarks']['bias'],
  }
  new['fc8_landmarks']['kernel'][carriers] = offset_scale * signs.T / copies


def stage_directory(workdir: pathlib.Path, stage) -> pathlib.Path:
  """Where a stage lies: in this run, or in the one that it is taken from."""
  if stage.checkpoint:
    return pathlib.Path(stage.checkpoint).expanduser()
  return workdir / 'stages' / stage.name


def load_network(directory: pathlib.Path, model, config):
  """The chosen variables of a trained network, and its history."""
  with checkpoint.Checkpoints(directory) as checkpoints:
    shapes = variable_shapes(model, config)
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    return checkpoints.restore_chosen(template), checkpoints.history()


def load_stage(config, stage, index: int, directory, entry: dict):
  """Loads a finished stage.

  Args:
    config: of the run.
    stage: the stage's config.
    index: of the stage.
    directory: that holds it.
    entry: the stage's part of its run's manifest.

  Returns:
    (Stage, history): the curves of its networks, with their names as `stage`.
  """
  model = build_model(config, stage, index)
  networks, history = {}, []
  for name in entry['networks']:
    networks[name], curve = load_network(directory / name, model, config)
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


def take_stage(config, stage, index: int):
  """Loads the stage of another run that `stage.checkpoint` names.

  Args:
    config: of this run.
    stage: the stage's config.
    index: of the stage.

  Returns:
    (Stage, entry): `entry` is its part of the manifest.

  Raises:
    InputError: if there is no such stage, it is not finished, or its inputs or
      networks have another config.
  """
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
  loaded, _ = load_stage(config, stage, index, directory, entry)
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


def load_cascade(config, workdir) -> tuple[list[Stage], list[dict]]:
  """Loads a finished cascade.

  Args:
    config: of the run, or one with other data but the same networks.
    workdir: the run's folder.

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
    loaded, curves = load_stage(config, stage, index, directory, entry)
    stages.append(loaded)
    history += curves
  return stages, history
