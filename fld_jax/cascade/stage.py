"""A stage of a cascade: its networks, and how they are made and initialised."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fld_jax.errors import InputError
from fld_jax.landmark_sets import tree_of
from fld_jax.models import NETWORKS, TRUNKS
from fld_jax.models.trunk import Trunk
from fld_jax.runtime import checkpoint
from fld_jax.schema import LandmarkSet

EASY, HARD, ALL = 'easy', 'hard', 'all'


@dataclasses.dataclass
class Stage:
  """A trained stage.

  Attributes:
    name: The stage's name in the config.
    model: The Linen module, one for all networks of the stage.
    networks: Name of the network -> its variables. The names are 'all', or
      'easy' and 'hard' in a stage with branches.
    clusters: `centres` (K, D) and `errors` (K,), {} without pseudo-labels.
    epsilon: The routing threshold of a stage with branches, None in any other.
    continues: Whether it comes in the place of the stage before it, whose
      networks it started from: then it sees what that one sees.
  """

  name: str
  model: nn.Module
  networks: dict[str, Any]
  clusters: dict[str, np.ndarray]
  epsilon: float | None = None
  continues: bool = False


def in_float32(model: nn.Module) -> nn.Module:
  """The network with all of its computation in float32, its trunk's too.

  Args:
    model: The Linen module.
  """
  trunk = model.backbone.clone(dtype=jnp.float32)
  return model.clone(dtype=jnp.float32, backbone=trunk)


def before(stages: Sequence[Any], continues: bool) -> list[Any]:
  """The stages whose landmarks and pseudo-labels a stage sees.

  Args:
    stages: All that come before it in the config, in their order.
    continues: Whether it comes in the place of the last of them.
  """
  return list(stages[:-1] if continues else stages)


def needed(stages: list[Stage]) -> list[Stage]:
  """The stages without which there is no final result.

  Args:
    stages: The trained stages, in their order.

  Returns:
    The stages, without one in whose place the last one comes: that one only
    shows what the last one is worth.
  """
  *first, last = stages
  if not last.continues:
    return stages
  return [*before(first, True), dataclasses.replace(last, continues=False)]


def build_model(
  model: ConfigDict, stage: ConfigDict, index: int, landmarks: LandmarkSet
) -> nn.Module:
  """Builds the Linen module of a stage.

  Args:
    model: The part `model` of the config: the network's `name`, its `backbone`,
      that trunk's options `trunk`, and the network's own fields.
    stage: The stage's config.
    index: The stage's place in config.stages. The first, 0, sees the image
      alone.
    landmarks: The N landmarks that the network predicts.

  Returns:
    The module, a network of `models.NETWORKS` on a trunk of `models.TRUNKS`.

  Raises:
    InputError: If a network, a trunk, or a field of one is unknown, or the
      stage needs an input or output that the network does not have.
  """
  fields = model.to_dict()
  name = fields.pop('name')
  if name not in NETWORKS:
    raise InputError(
      f"config.model.name is '{name}', valid values are {', '.join(NETWORKS)}."
    )
  known = _fields(NETWORKS[name])
  # The fields that the data set and the stage decide. No network has all of
  # them.
  given = {
    'num_landmarks': landmarks.num_landmarks,
    'use_estimate': index > 0,
    'num_clusters': stage.pseudo_label.num_clusters,
    'softmax': stage.pseudo_label.normalize,
    'side': stage.get('input_size', 0),
    'num_categories': len(landmarks.types) if stage.weights.category else 0,
    'partners': tuple(landmarks.flip.tolist())
    if stage.weights.pair_order
    else (),
  }
  if 'grammars' in known:
    given['grammars'] = landmarks.grammars
  if 'tree' in known:
    given['tree'] = tree_of(landmarks)
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
  if given['side'] and 'side' not in known:
    raise InputError(
      f'config.stages[{index}].input_size is {given["side"]}, but '
      f"config.model.name '{name}' sees crops as they are: set it to 0."
    )
  dtype = fields['dtype'] = jnp.dtype(fields['dtype'])
  trunk = _build_trunk(fields.pop('backbone'), fields.pop('trunk'), dtype)
  valid = known - given.keys() - {'backbone'}
  _check_fields('config.model', fields, valid, f"the network '{name}'")
  given = {key: value for key, value in given.items() if key in known}
  return NETWORKS[name](backbone=trunk, **given, **fields)


def _build_trunk(name: str, options: dict, dtype: jnp.dtype) -> Trunk:
  """Builds the Linen module of config.model.backbone and config.model.trunk."""
  if name not in TRUNKS:
    raise InputError(
      f"config.model.backbone is '{name}', valid values are "
      f'{", ".join(TRUNKS)}.'
    )
  kind, fixed = TRUNKS[name]
  valid = _fields(kind) - fixed.keys() - {'dtype'}
  _check_fields(
    'config.model.trunk',
    options,
    valid,
    f"the trunk '{name}'",
    f" The config file's argument backbone={name} sets the right ones.",
  )
  trunk = kind(**fixed, **options, dtype=dtype)
  frozen = options.get('frozen', 0)
  if frozen > trunk.num_blocks():
    raise InputError(
      f'config.model.trunk.frozen is {frozen}, and the trunk has '
      f'{trunk.num_blocks()} blocks: give at most as many.'
    )
  return trunk


def _fields(module: type[nn.Module]) -> set[str]:
  """Returns the names of a Linen module's own fields."""
  names = {field.name for field in dataclasses.fields(module)}
  return names - {'name', 'parent'}


def _check_fields(
  place: str, given: dict, valid: set[str], owner: str, hint: str = ''
) -> None:
  """Refuses fields of a config that a module does not have."""
  unknown = sorted(given.keys() - valid)
  if unknown:
    raise InputError(
      f'{place}.{unknown[0]} is no field of {owner}, valid are '
      f'{", ".join(sorted(valid))}.{hint}'
    )


def init_variables(model: nn.Module, size: int, seed: int) -> dict[str, Any]:
  """Draws random variables of a network, as NumPy arrays.

  Args:
    model: The Linen module.
    size: The side of the crops that the network sees, in pixels.
    seed: The seed of the random parameters.

  Returns:
    The trees `params` and, with batch normalisation, `batch_stats`.
  """
  # On a CPU, rbg compiles three times faster than the default generator.
  key = jax.random.key(seed, impl='rbg')
  return checkpoint.to_host(jax.jit(_init(model, size))(key))


def _init(model: nn.Module, size: int) -> Callable[[jax.Array], dict[str, Any]]:
  """Returns the function of a random key that draws a network's variables."""
  batch = _example(model, size)
  return lambda key: model.init(key, batch, train=False)


def _example(model: nn.Module, size: int) -> dict[str, np.ndarray]:
  """Makes a batch of one example, with all inputs that a network may take."""
  return {
    'image': np.zeros((1, size, size, 3), np.float32),
    'estimate': np.zeros((1, model.num_landmarks, 2), np.float32),
    'example_index': np.zeros((1,), np.int32),
  }


def variable_shapes(model: nn.Module, size: int) -> dict[str, Any]:
  """Finds the shapes and types of a network's variables.

  Args:
    model: The Linen module.
    size: The side of the crops that the network sees, in pixels.

  Returns:
    The tree that `init_variables` returns, with a `jax.ShapeDtypeStruct` in
    place of each array.
  """
  return jax.eval_shape(_init(model, size), jax.random.key(0))


def output_shapes(model: nn.Module, size: int) -> dict[str, tuple[int, ...]]:
  """Finds the shapes of a network's outputs for a batch of one image.

  Args:
    model: The Linen module.
    size: The side of the crops that the network sees, in pixels.

  Returns:
    The name of each output -> its shape, with a batch of 1.

  Raises:
    InputError: If the trunk lacks a map that the network needs, or cannot take
      images of this size.
  """
  init = lambda key: model.init_with_output(
    key, _example(model, size), train=False
  )
  outputs, _ = jax.eval_shape(init, jax.random.key(0))
  return {name: value.shape for name, value in outputs.items()}
