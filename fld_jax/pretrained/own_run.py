"""Starts networks from those of another run of this program.

Taken is what has the same name and the same shape. Layers whose outputs are
landmarks are only taken if the landmarks are the same ones, since those of
others would begin in wrong places; the layers of pseudo-labels and of the types
of relations never are, since each run has clusters of its own. Nothing in the
other run's folder is changed.
"""

import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Iterable

from flax import traverse_util
from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.forward import Variables
from fld_jax.cascade.setup import Setup
from fld_jax.cascade.stage import ALL
from fld_jax.datasets.catalog import landmark_set
from fld_jax.errors import InputError
from fld_jax.files.json_files import read_json
from fld_jax.models import TRUNKS
from fld_jax.pretrained.matching import some
from fld_jax.runtime import checkpoint
from fld_jax.schema import LandmarkSet

Place = tuple[str, ...]


def start_from_run(
  path: pathlib.Path,
  variables: Variables,
  config: ConfigDict,
  setup: Setup,
  index: int,
  network: str,
) -> tuple[Variables, str]:
  """Fills what fits of a network's variables from another run.

  Args:
    path: The folder W of a run, or W/stages/NAME, or W/stages/NAME/NETWORK. Of
      a run it is the stage of the same name, else the first; of a stage the
      network of the same name, else the first.
    variables: The network's fresh variables; anything with shapes if only the
      fit is of interest.
    config: This run's config.
    setup: The objects that the config resolves to.
    index: Which of `config.stages` the network is of.
    network: The name of the network in the stage: 'all', 'easy' or 'hard'.

  Returns:
    The variables, and what was taken and what was not, in words.

  Raises:
    InputError: The folder holds no trained network, or nothing of the trunk
      fits.
  """
  saved, workdir = defaults.find_run(path)
  folder = _network_folder(path, workdir, config.stages[index].name, network)
  found, step = checkpoint.SavedNetwork(folder).read_chosen()
  theirs = traverse_util.flatten_dict(found)
  ours = traverse_util.flatten_dict(variables)
  names = _landmark_names(workdir, saved)
  is_same = names == setup.landmarks.names
  own = set() if is_same else places_of_landmarks(config, setup, index, ours)
  own |= {
    place
    for place in ours
    if re.search('pseudo_label|relation', '/'.join(place))
  }
  taken = {
    place
    for place in ours.keys() - own
    if place in theirs and theirs[place].shape == ours[place].shape
  }
  kernels = {p for p in ours if _is_of_trunk(p) and p[-1] == 'kernel'}
  if not taken & kernels:
    raise InputError(
      f'config.pretrained is {path}, and nothing of its trunk fits: '
      f'{_trunk(saved["config"])} there, {_trunk(config.to_dict())} here; set '
      'config.model.backbone and config.model.trunk to those of that run'
    )
  filled = {p: theirs[p] if p in taken else ours[p] for p in ours}
  size = sum(theirs[place].size for place in taken)
  total = sum(math.prod(array.shape) for array in ours.values())
  why = '' if is_same else ' (other landmarks)'
  text = (
    f'starts from {folder}, step {step}: {len(taken)} of {len(ours)} arrays, '
    f'{size:,} of {total:,} numbers; new{why}: '
    f'{_names(ours.keys() - taken)}; not taken: {_names(theirs.keys() - taken)}'
  )
  return traverse_util.unflatten_dict(filled), text


def _network_folder(
  path: pathlib.Path, workdir: pathlib.Path, stage: str, network: str
) -> pathlib.Path:
  """Finds the network of a run to start from, see `start_from_run`."""
  path = pathlib.Path(os.path.abspath(path))
  level = len(path.relative_to(workdir).parts)
  if level == 3:  # stages/NAME/NETWORK
    return path
  stages = {}
  pattern = '*/*' if level < 2 else f'{path.name}/*'
  for folder in sorted(workdir.glob(f'stages/{pattern}')):
    if any(p.name.isdigit() for p in folder.glob('*') if p.is_dir()):
      stages.setdefault(folder.parent.name, {})[folder.name] = folder
  if not stages:
    raise InputError(
      f'config.pretrained is {path}, which holds no trained network: give the '
      'folder of a run, or its stages/NAME/NETWORK'
    )
  networks = stages.get(stage) or next(iter(stages.values()))
  return (
    networks.get(network) or networks.get(ALL) or next(iter(networks.values()))
  )


def _landmark_names(
  workdir: pathlib.Path, saved: dict
) -> tuple[str, ...] | None:
  """The landmarks of another run; None if they are not known any more."""
  path = workdir / 'mean_position.json'
  if path.is_file():
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get('landmarks'), list):
      return tuple(content['landmarks'])
  try:
    return landmark_set(defaults.restore(saved['config']).dataset).names
  except (InputError, KeyError, TypeError):  # its data set is not here
    return None


def places_of_landmarks(
  config: ConfigDict, setup: Setup, index: int, ours: Iterable[Place]
) -> set[Place]:
  """Finds the variables that are there for the landmarks.

  Those are the ones that would be others with one landmark more, in shape or
  because a layer is there once for each landmark, and then has its number.

  Args:
    config: This run's config.
    setup: The objects that the config resolves to.
    index: Which of `config.stages` the network is of.
    ours: The places of the variables of the network.
  """
  stage, size = config.stages[index], setup.pipeline.size

  def shapes(landmarks: LandmarkSet) -> dict[Place, tuple[int, ...]]:
    model = stage_lib.build_model(config.model, stage, index, landmarks)
    flat = traverse_util.flatten_dict(stage_lib.variable_shapes(model, size))
    return {place: array.shape for place, array in flat.items()}

  names = (*setup.landmarks.names, 'one more')
  larger = dataclasses.replace(setup.landmarks, names=names)
  these, more = shapes(setup.landmarks), shapes(larger)
  unnumbered = lambda place: re.sub(r'\d+', '#', '/'.join(place))
  numbered = {unnumbered(place) for place in more.keys() - these.keys()}
  return {
    place
    for place in ours
    if these[place] != more.get(place) or unnumbered(place) in numbered
  }


def _is_of_trunk(place: Place) -> bool:
  """Tells whether a variable is of the trunk, see `models.trunk.Trunk`."""
  names = {trunk.tree_name for trunk, _ in TRUNKS.values()}
  return place[0] == 'params' and place[1] in names


def _trunk(config: dict) -> str:
  """A config's trunk in words."""
  model = config.get('model', {})
  options = ', '.join(f'{k} {v}' for k, v in model.get('trunk', {}).items())
  return f"'{model.get('backbone')}' ({options})"


def _names(places: Iterable[Place]) -> str:
  """Names of the layers that variables are of, the first of many."""
  layers = dict.fromkeys('/'.join(p[1:-1]) for p in sorted(places))
  return f'{len(layers)} layers ({some(layers)})' if layers else 'nothing'
