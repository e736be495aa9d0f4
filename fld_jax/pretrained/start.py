"""What networks with random weights start from instead: a file or a run."""

import dataclasses
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.cascade.forward import Variables
from fld_jax.cascade.setup import Setup
from fld_jax.errors import InputError
from fld_jax.models import NETWORKS
from fld_jax.pretrained import imagenet, own_run, torchvision


def start_network(
  variables: Variables,
  config: ConfigDict,
  setup: Setup,
  index: int,
  network: str,
) -> tuple[Variables, str]:
  """Fills a network's variables from `config.pretrained`.

  Args:
    variables: The network's fresh variables; anything with shapes if only the
      fit is of interest.
    config: This run's config.
    setup: The objects that the config resolves to.
    index: Which of `config.stages` the network is of.
    network: The name of the network in the stage: 'all', 'easy' or 'hard'.

  Returns:
    The variables, and what was taken and what was not, in words.

  Raises:
    InputError: See `own_run.start_from_run`, `imagenet.start_trunk` and
      `torchvision.start_trunk`.
  """
  path = pathlib.Path(config.pretrained).expanduser()
  if config.pretrained != 'imagenet' and path.is_dir():
    return own_run.start_from_run(
      path, variables, config, setup, index, network
    )
  kind = NETWORKS[config.model.name]
  if index and getattr(kind, 'per_landmark', False):
    return _start_each(variables, config)
  return _start_one(variables, config)


def _start_each(
  variables: Variables, config: ConfigDict
) -> tuple[Variables, str]:
  """Fills variables with a leading axis of networks, all of them alike."""
  one = jax.tree.map(lambda x: _Slot(x.shape[1:]), variables)
  filled, text = _start_one(one, config)
  spread = lambda new, old: (
    old if isinstance(new, _Slot) else np.array(np.broadcast_to(new, old.shape))
  )
  return jax.tree.map(spread, filled, variables), text


@dataclasses.dataclass(frozen=True)
class _Slot:
  """The place of an array that a file may fill."""

  shape: tuple[int, ...]


def _start_one(
  variables: Variables, config: ConfigDict
) -> tuple[Variables, str]:
  """Fills the variables of one network from a file of weights."""
  if config.pretrained == 'imagenet':
    return imagenet.start_trunk(variables, config.model.backbone)
  path = pathlib.Path(config.pretrained).expanduser()
  variables, left_out = torchvision.start_trunk(
    path, variables, config.model.name
  )
  left_out = [key for key in left_out if not key.endswith('tracked')]
  names = ', '.join(left_out) or 'nothing'
  return variables, f'starts from {path}, of which it leaves out {names}'


def check_normalisation(config: ConfigDict) -> None:
  """Refuses a normalisation of images that is not that of the weights.

  Args:
    config: The run's config.

  Raises:
    InputError: If mean or standard deviation differ, or a folder is no run.
  """
  path = pathlib.Path(config.pretrained).expanduser()
  valid = {'mean': defaults.IMAGENET_MEAN, 'std': defaults.IMAGENET_STD}
  if config.pretrained == 'imagenet':
    imagenet.find(config.model.backbone)
    mean, std = defaults.PACKAGED_INPUT[config.model.backbone]
    valid = {'mean': mean, 'std': std}
  elif path.is_dir():
    saved, _ = defaults.find_run(path)
    valid = {field: tuple(saved['config']['input'][field]) for field in valid}
  for field, numbers in valid.items():
    if tuple(config.input[field]) != numbers:
      raise InputError(
        f'config.input.{field} is {tuple(config.input[field])}, and the '
        f'weights {path} want {numbers}: give them as pretrained={path} behind '
        "the config file's colon, which sets it"
      )
