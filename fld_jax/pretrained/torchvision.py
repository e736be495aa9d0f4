"""Reads torchvision's weights of VGG-16 and of ResNets."""

import itertools
import logging
import pathlib
import re
from collections.abc import Collection

import numpy as np
from flax import traverse_util

from fld_jax.errors import InputError
from fld_jax.models import NETWORKS
from fld_jax.models.resnet import LAYOUTS
from fld_jax.pretrained import torch_files
from fld_jax.pretrained.matching import fill, some

logger = logging.getLogger('fld_jax')

# PyTorch's names of a layer's arrays, by ours.
LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}


def start_trunk(
  path: pathlib.Path, variables: dict, model: str
) -> tuple[dict, list[str]]:
  """Fills a network's trunk, and perhaps more layers, from a file.

  A VGG-16 fills the convolutions, and those of the network's `imagenet_layers`
  whose inputs and widths equal the file's: both layers of DFA's stage 1 at 224
  pixels. A ResNet fills all but the classifier.

  Args:
    path: File of torchvision's weights.
    variables: The network's fresh variables; anything with shapes if only the
      file's fit is of interest.
    model: The network's name, a row of `models.NETWORKS`.

  Returns:
    The variables, and the names of the file's arrays that were left out.

  Raises:
    InputError: The file has the weights of another trunk, or the network has
      neither a VGG nor a ResNet.
  """
  params = variables['params']
  trunk = next((name for name in ('vgg', 'resnet') if name in params), None)
  if trunk is None:
    raise InputError(
      f"config.pretrained is {path}, and the network '{model}' stands on "
      'neither a VGG nor a ResNet: leave it out, or give another '
      'config.model.backbone'
    )
  arrays, prefix = without_prefix(torch_files.read(path))
  if prefix:
    logger.info("%s: '%s' before all names is left out.", path, prefix)
  kind = kind_of_weights(arrays)
  if kind != trunk:
    names = {
      'vgg': "a VGG's weights",
      'resnet': "a ResNet's weights",
      'mmpose': "a pose estimator's weights, for --mode=convert",
      '': f'of names that are not known here ({some(arrays)})',
    }
    raise InputError(
      f"{path}: is {names[kind]}, and the network '{model}' has a "
      f"{'VGG' if trunk == 'vgg' else 'ResNet'}: must be torchvision's weights "
      'of one'
    )
  if kind == 'vgg':
    layers = getattr(NETWORKS[model], 'imagenet_layers', {})
    return _start_vgg(path, arrays, variables, layers)
  _check_resnet(path, arrays, '', params['resnet'])
  filled, left_out = fill(
    path,
    arrays,
    _part(variables, 'resnet'),
    lambda place: resnet_key(place[2:]),
    r'fc\..*|.*\.num_batches_tracked',
  )
  return _replaced(variables, filled), left_out


def without_prefix(
  arrays: dict[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], str]:
  """Takes off what stands before all names: 'module.', 'backbone.' and others.

  Wrappers such as DataParallel and trainers put it there, perhaps several of
  them. The layer 'fc' or 'head.fc' of a classifier, which a trunk does not
  need, may stand beside the prefix.

  Args:
    arrays: The file's arrays by their names.

  Returns:
    The arrays with the names that torchvision has, and the prefix; of names
    that are not known even without what they share, the arrays as they are and
    ''.
  """
  prefix, names = '', list(arrays)
  is_head = lambda name: re.match(r'(head\.)?fc\.', name)
  while names and kind_of_weights(names) not in ('vgg', 'resnet'):
    rest = [name for name in names if not is_head(name)]
    words = {name.partition('.')[0] for name in rest}
    if len(words) != 1 or not all('.' in name for name in rest):
      return arrays, ''
    prefix += f'{words.pop()}.'
    names = [name.partition('.')[2] for name in rest]
  kept = {
    name.removeprefix(prefix): array
    for name, array in arrays.items()
    if name.startswith(prefix)
  }
  return kept, prefix


def kind_of_weights(arrays: Collection[str]) -> str:
  """Tells a file's network by the names of its arrays.

  Args:
    arrays: Names of the file's arrays, or a dict with these keys.

  Returns:
    'vgg' or 'resnet' for torchvision's classifiers, 'mmpose' for a pose
    estimator, '' for any other names.
  """
  if 'features.0.weight' in arrays:
    return 'vgg'
  if 'layer1.0.conv1.weight' in arrays:
    return 'resnet'
  return 'mmpose' if any(k.startswith('backbone.') for k in arrays) else ''


def _part(variables: dict, *names: str) -> dict:
  """Returns the variables of the named modules alone."""
  return {
    collection: {name: tree[name] for name in names if name in tree}
    for collection, tree in variables.items()
    if any(name in tree for name in names)
  }


def _replaced(variables: dict, filled: dict) -> dict:
  """Returns the variables with the filled modules in place of their own."""
  return {k: {**tree, **filled.get(k, {})} for k, tree in variables.items()}


def _start_vgg(
  path: pathlib.Path,
  arrays: dict[str, np.ndarray],
  variables: dict,
  imagenet_layers: dict[str, str],
) -> tuple[dict, list[str]]:
  """Fills a VGG, and perhaps the layers after it, from torchvision's weights.

  Args:
    path: The path of the file, for messages.
    arrays: The file's arrays. Means of normalised layers take in the biases.
    variables: The network's variables.
    imagenet_layers: Names of the file's layers by the names of the network's
      layers that may start from them.

  Returns:
    The variables, and the names of the file's arrays that were left out.

  Raises:
    InputError: The VGG of the file has other blocks or another normalisation.
  """
  vgg = variables['params']['vgg']
  ours, theirs = 'bn1_1' in vgg, 'features.1.running_mean' in arrays
  if ours != theirs:
    raise InputError(
      f'{path}: is of a VGG {"with" if theirs else "without"} batch '
      f'normalisation, and config.model.trunk.batch_norm is {ours}: set it '
      f'to {theirs}'
    )
  names = [name for name in sorted(vgg) if name.startswith('conv')]
  grouped = itertools.groupby(names, lambda name: name[:5])  # conv1_1, conv1_2
  blocks = tuple(
    (len(block), vgg[block[-1]]['kernel'].shape[-1])
    for block in (list(group) for _, group in grouped)
  )
  numbers = _vgg_blocks(arrays, step=3 if theirs else 2)
  of_file = tuple(
    (len(block), arrays[f'features.{block[-1]}.weight'].shape[0])
    for block in numbers
  )
  if blocks != of_file:
    raise InputError(
      f'{path}: is of a VGG of the blocks {of_file}, and '
      f'config.model.trunk.blocks is {blocks}: set it to them'
    )
  places = {}
  for name, number in zip(names, sum(numbers, []), strict=True):
    places[name] = f'features.{number}'
    if theirs:
      places[name.replace('conv', 'bn')] = f'features.{number + 1}'
      # Here a normalised convolution has no bias: the mean takes it in.
      mean = f'features.{number + 1}.running_mean'
      bias = arrays.pop(f'features.{number}.bias', 0)
      if np.shape(bias) == np.shape(arrays.get(mean)):
        arrays[mean] = arrays[mean] - bias
  parts = ['vgg']
  for name, key in imagenet_layers.items():
    layer = variables['params'].get(name, {})
    weight = arrays.get(f'{key}.weight')
    if {*layer} == {'kernel', 'bias'} and weight is not None:
      if weight.shape == layer['kernel'].shape[::-1]:
        parts.append(name)
        places[name] = key
  filled, left_out = fill(
    path,
    arrays,
    _part(variables, *parts),
    lambda place: f'{places[place[-2]]}.{LEAVES[place[-1]]}',
    r'classifier\..*|.*\.num_batches_tracked',
    flattened={next(iter(imagenet_layers), ''): blocks[-1][1]},
  )
  return _replaced(variables, filled), left_out


def _vgg_blocks(arrays: dict[str, np.ndarray], step: int) -> list[list[int]]:
  """Returns torchvision's numbers of the convolutions, block by block.

  Torchvision numbers all layers, including those without weights. A larger gap
  than usual between two convolutions is a pooling layer, which ends a block.

  Args:
    arrays: The file's arrays, with torchvision's names.
    step: Difference of the numbers of two adjacent convolutions in a block.
  """
  found = [re.fullmatch(r'features\.(\d+)\.weight', key) for key in arrays]
  numbers = sorted(
    int(match[1]) for match in found if match and arrays[match[0]].ndim == 4
  )
  blocks = []
  for number in numbers:
    if blocks and number - blocks[-1][-1] == step:
      blocks[-1].append(number)
    else:
      blocks.append([number])
  return blocks


def resnet_key(place: tuple[str, ...]) -> str:
  """Returns torchvision's name of one of a ResNet's arrays.

  Args:
    place: The variable's path in the ResNet, such as
      ('layer1_0', 'downsample_conv', 'kernel').
  """
  path = '.'.join([*place[:-1], LEAVES[place[-1]]])
  path = re.sub(r'^layer(\d)_(\d+)', r'layer\1.\2', path)
  return path.replace('downsample_conv', 'downsample.0').replace(
    'downsample_bn', 'downsample.1'
  )


def read_resnet(
  path: pathlib.Path, arrays: dict[str, np.ndarray], prefix: str
) -> tuple[int, int]:
  """Tells the size of the ResNet in a file.

  Args:
    path: The path of the file, for messages.
    arrays: The file's arrays.
    prefix: The start of the names of all arrays of the ResNet, '' or
      'backbone.'.

  Returns:
    The ResNet's depth (number of layers) and width (channels of the stem).

  Raises:
    InputError: The blocks are not those of a ResNet of `models.resnet.LAYOUTS`.
  """
  stem = arrays.get(f'{prefix}conv1.weight')
  found = [
    re.match(rf'{re.escape(prefix)}layer(\d)\.(\d+)\.conv(\d)', key)
    for key in arrays
  ]
  found = [tuple(map(int, match.groups())) for match in found if match]
  blocks = tuple(
    1 + max((b for layer, b, _ in found if layer == i), default=-1)
    for i in range(1, 5)
  )
  layout = blocks, any(conv == 3 for *_, conv in found)
  depths = [depth for depth, known in LAYOUTS.items() if known == layout]
  if not depths or stem is None or stem.ndim != 4:
    raise InputError(
      f'{path}: has {blocks} blocks in its four stages, must be a ResNet of '
      f'{", ".join(map(str, LAYOUTS))} layers'
    )
  return depths[0], stem.shape[0]


def _check_resnet(
  path: pathlib.Path,
  arrays: dict[str, np.ndarray],
  prefix: str,
  params: dict,
) -> None:
  """Checks that a file's ResNet has the depth and width of a network's.

  Args:
    path: The path of the file, for messages.
    arrays: The file's arrays.
    prefix: The start of the names of all arrays of the file's ResNet.
    params: Parameters of the network's ResNet.

  Raises:
    InputError: The depth or the width differs.
  """
  names = {'/'.join(place) for place in traverse_util.flatten_dict(params)}
  blocks = tuple(
    sum(re.fullmatch(rf'layer{i}_\d+', name) is not None for name in params)
    for i in range(1, 5)
  )
  layout = blocks, 'layer1_0/conv3/kernel' in names
  (depth,) = (depth for depth, known in LAYOUTS.items() if known == layout)
  ours = depth, params['conv1']['kernel'].shape[-1]
  theirs = read_resnet(path, arrays, prefix)
  names = [(f"'resnet{d}'", w) for d, w in (ours, theirs)]
  for field, a, b in zip(('backbone', 'trunk.width'), *names, strict=True):
    if a != b:
      raise InputError(
        f'{path}: is of a ResNet of {theirs[0]} layers and width {theirs[1]}, '
        f'and config.model.{field} is {a}: set it to {b}'
      )
