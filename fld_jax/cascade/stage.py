"""A stage of a cascade: its networks, how they are made, found and loaded."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fld_jax.errors import InputError
from fld_jax.models import MODELS
from fld_jax.runtime import checkpoint

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


def build_model(
  model: ConfigDict, stage: ConfigDict, index: int, num_landmarks: int
) -> nn.Module:
  """The Linen module of a stage.

  Args:
    model: `config.model`: the network's name and fields.
    stage: The stage's config.
    index: Which of the stages it is; 0 sees the image alone.
    num_landmarks: N.

  Returns:
    The module.

  Raises:
    InputError: for an unknown model or field of it, or a stage that asks for
      what the model has not.
  """
  fields = model.to_dict()
  name = fields.pop('name')
  if name not in MODELS:
    raise InputError(
      f"config.model.name is '{name}', valid values are {', '.join(MODELS)}."
    )
  known = {field.name for field in dataclasses.fields(MODELS[name])}
  known -= {'name', 'parent'}
  # What the dataset and the stage decide; only a cascade's networks have all.
  given = {
    'num_landmarks': num_landmarks,
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


def init_variables(model: nn.Module, size: int, seed: int) -> dict:
  """Random variables of a network, as NumPy arrays.

  Args:
    model: The Linen module.
    size: Side of the crops that the network sees, in pixels.
    seed: Seed of the parameters.

  Returns:
    {'params': ...} and, with batch normalisation, 'batch_stats'.
  """
  # rbg: three times faster to compile than the default generator on a CPU.
  key = jax.random.key(seed, impl='rbg')
  return checkpoint.to_host(jax.jit(_init(model, size))(key))


def _init(model: nn.Module, size: int):
  batch = _example(model, size)
  return lambda key: model.init(key, batch, train=False)


def _example(model: nn.Module, size: int) -> dict:
  """A batch of one, as a network takes it."""
  return {
    'image': np.zeros((1, size, size, 3), np.float32),
    'estimate': np.zeros((1, model.num_landmarks, 2), np.float32),
    'example_index': np.zeros((1,), np.int32),
  }


def variable_shapes(model: nn.Module, size: int) -> dict:
  """The variables of a network: their shapes and types, no numbers."""
  return jax.eval_shape(_init(model, size), jax.random.key(0))


def output_shapes(model: nn.Module, size: int) -> dict[str, tuple[int, ...]]:
  """The shapes of a network's outputs for a batch of one image."""
  init = lambda key: model.init_with_output(
    key, _example(model, size), train=False
  )
  outputs, _ = jax.eval_shape(init, jax.random.key(0))
  return {name: value.shape for name, value in outputs.items()}
