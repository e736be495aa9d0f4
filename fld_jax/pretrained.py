"""Weights of others -> variables of our networks, every number accounted for.

  DFA          the authors' Caffe files of one clothes type
  torchvision  VGG-16, with batch normalisation and without, and ResNets: what
               training starts from, `config.pretrained`
  mmpose       SimpleBaselines' heatmaps on a ResNet

Kernels are (out, in, h, w) there and (h, w, in, out) here, and maps are
flattened as C, H, W there and as H, W, C here. What a file's arrays are called
is said here; that every array of a network is in the file, with its shape, and
that nothing in the file is left over but what a rule names, `fill` sees to.
"""

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Callable

import numpy as np
from flax import traverse_util

from fld_jax import caffe_files, torch_files
from fld_jax.errors import InputError, shown
from fld_jax.models.resnet import LAYOUTS

# The release's convolutions in each block, methods 1.2.
_DFA_BLOCKS = (2, 2, 3, 3, 3)
# Its heads for pseudo-labels go by several names; nothing at test reads them.
_DFA_LABEL = r'fc8_(soft|hard)label(_stage\d)?'


def fill(
  path: pathlib.Path,
  arrays: dict[str, np.ndarray],
  shapes: dict,
  key_of: Callable,
  left_out: str,
  channels: int = 0,
) -> tuple[dict, list[str]]:
  """The variables of a network, or of a part of one, from a file's arrays.

  Args:
    path: of the file, for messages.
    arrays: the file's, by its own names, in its own layouts: kernels
      (out, in, h, w), of transposed convolutions (in, out, h, w); matrices
      (out, in).
    shapes: nested dict of anything with a `shape`: the variables wanted.
    key_of: function of ('params', 'vgg', 'conv1_1', 'kernel'), for example, to
      the file's name of it.
    left_out: regular expression of the file's names that nothing here wants.
    channels: of the maps that the layer `fc6` takes, flattened.

  Returns:
    (variables, the file's names that were left out).

  Raises:
    InputError: naming the file, the array, its shape and the valid one.
  """
  filled, used = {}, set()
  flat = traverse_util.flatten_dict(shapes)
  for place in sorted(flat, key=lambda place: (*place[:-1], 'bias' in place)):
    wanted = flat[place]
    key = key_of(place)
    axes = _axes(place, len(wanted.shape))
    expected = tuple(wanted.shape[i] for i in np.argsort(axes))
    if key not in arrays:
      raise InputError(
        f'{path}, {key}: is missing, must be there with shape {expected}; the '
        f'file has {_some(arrays)}'
      )
    array = arrays[key]
    # Caffe's old files have four axes, the first of them 1.
    if array.ndim == 4 > len(expected):
      lead = array.ndim - len(expected)
      if array.shape[:lead] == (1,) * lead:
        array = array.reshape(array.shape[lead:])
    if array.shape != expected:
      raise InputError(
        f'{path}, {key}: has shape {array.shape}, must have {expected}'
      )
    if not np.isfinite(array).all():
      raise InputError(f'{path}, {key}: has NaN or infinite numbers')
    used.add(key)
    filled[place] = _to_ours(place, array.transpose(axes), channels)
  rest = [key for key in arrays if key not in used]
  strange = [key for key in rest if not re.fullmatch(left_out, key)]
  if strange:
    raise InputError(
      f'{path}, {shown(strange[0])}: is of shape {arrays[strange[0]].shape}, '
      'and there is no such thing in the network that it should be of'
    )
  return traverse_util.unflatten_dict(filled), rest


def _axes(place: tuple[str, ...], ndim: int) -> tuple[int, ...]:
  """Which of the file's axes each of ours is."""
  if place[-2].startswith('deconv') and ndim == 4:
    return (2, 3, 0, 1)
  return {4: (2, 3, 1, 0), 2: (1, 0)}.get(ndim, (0,))


def _to_ours(place, array: np.ndarray, channels: int) -> np.ndarray:
  """An array whose axes are in our order, to float32 in our layout."""
  if place[-2:] == ('fc6', 'kernel'):  # C, H, W -> H, W, C
    side = int(np.sqrt(len(array) / channels))
    array = array.reshape(channels, side, side, -1).transpose(1, 2, 0, 3)
    array = array.reshape(-1, array.shape[-1])
  if place[-2].startswith('deconv') and place[-1] == 'kernel':
    array = array[::-1, ::-1]
  return np.ascontiguousarray(array, np.float32)


def _some(names, most: int = 6) -> str:
  """The first of some names, in words."""
  names = [shown(name, 60) for name in names]
  more = ', ...' if len(names) > most else ''
  return ', '.join(names[:most]) + more or 'nothing'


# --- the authors' release of DFA ---------------------------------------------


@dataclasses.dataclass(frozen=True)
class DfaNet:
  """What a .prototxt of the release leaves open.

  Attributes:
    num_landmarks: N.
    size: side of the image.
    blocks: (convolutions, channels) of each block of the VGG.
    hidden: width of fc6 and fc7.
  """

  num_landmarks: int
  size: int
  blocks: tuple[tuple[int, int], ...]
  hidden: int


def read_dfa_net(path: pathlib.Path, use_estimate: bool) -> DfaNet:
  """Reads a .prototxt of the release, that of `models.DFA`.

  Args:
    path: of the file.
    use_estimate: False for stage 1, True for the network of the others.

  Raises:
    InputError: naming the layer, what it is and what it must be.
  """
  net = caffe_files.read_net(path)
  for name in ('conv1_1', 'fc6', 'fc8_landmarks'):
    if name not in net.widths:
      raise InputError(
        f'{path}, layer {name}: is missing; the file has {_some(net.layers)}'
      )
  blocks = tuple(
    (count, net.widths.get(f'conv{i}_1', 0))
    for i, count in enumerate(_DFA_BLOCKS, 1)
  )
  hidden, coordinates = net.widths['fc6'], net.widths['fc8_landmarks']
  size = (net.inputs.get('data') or (0,))[-1]
  found = DfaNet(coordinates // 2, size, blocks, hidden)
  inputs, layers, output = _dfa_layers(found, use_estimate)
  for name, shape in net.inputs.items():
    if shape[1:] != inputs.get(name) or size % 32 or not 32 <= size <= 1024:
      raise InputError(
        f'{path}, input {shown(name)}: has shape {shape}, must have '
        f'(1, 3, S, S) for data, S a multiple of 32 up to 1024, and (1, 1, 1, '
        f'{2 * found.num_landmarks}) for prediction after stage 1'
      )
  labels = [name for name in net.layers if re.fullmatch(_DFA_LABEL, name)]
  ours = {k: v for k, v in net.layers.items() if k not in labels}
  for name in layers | ours:
    if layers.get(name) != ours.get(name):
      raise InputError(
        f'{path}, layer {shown(name)}: is {shown(ours.get(name, "missing"))}; '
        f'must be {layers.get(name, "missing")}'
      )
  of_labels = {*labels, *(f'softmax({name})' for name in labels)}
  outputs = [what for what in net.outputs.values() if what not in of_labels]
  if outputs != [output]:
    raise InputError(
      f'{path}, outputs: are {shown("; ".join(outputs))}, must be {output}'
    )
  return found


def _dfa_layers(net: DfaNet, use_estimate: bool):
  """Inputs, layers and output of the release, in the words of `caffe_files`."""
  layers, x, n = {}, 'data', net.num_landmarks
  for i, (count, channels) in enumerate(net.blocks, 1):
    for j in range(1, count + 1):
      name = f'conv{i}_{j}'
      layers[name] = f'Convolution {channels}, 3x3, pad 1 of {x}'
      x = f'relu({name})'
    x = f'max_pool[2x2 stride 2x2]({x})'
  inputs = {'data': (3, net.size, net.size)}
  layers['fc6'] = f'InnerProduct {net.hidden} of {x}'
  x, fc7 = 'fc6', 'fc7'
  if use_estimate:
    inputs['prediction'] = (1, 1, 2 * n)
    layers['fc_pre'] = f'InnerProduct {net.hidden // 8} of prediction'
    x, fc7 = 'concat(fc6, fc_pre)', 'fc7_pre'
  layers[fc7] = f'InnerProduct {net.hidden} of relu({x})'
  heads = {'fc8_landmarks': 2 * n}
  heads |= {f'fc8_visibility_{i}': 3 for i in range(1, n + 1)}
  for name, width in heads.items():
    layers[name] = f'InnerProduct {width} of relu({fc7})'
  return inputs, layers, f'concat({", ".join(heads)})'


def read_dfa_weights(path: pathlib.Path, shapes: dict, use_estimate: bool):
  """Reads a .caffemodel of the release.

  Args:
    path: of the file.
    shapes: of the variables of `models.DFA` without pseudo-labels.
    use_estimate: see `read_dfa_net`.

  Returns:
    (variables, the file's names that were left out).

  Raises:
    InputError: see `fill`.
  """
  blobs = {'kernel': 0, 'bias': 1}
  layer = {'fc7': 'fc7_pre'} if use_estimate else {}

  def key_of(place):
    *_, name, kind = place
    return f'{layer.get(name, name)}[{blobs[kind]}]'

  trunk = shapes['params']['vgg']
  last = max(trunk)  # conv5_3
  variables, left_out = fill(
    path,
    caffe_files.read_weights(path),
    shapes,
    key_of,
    rf'{_DFA_LABEL}\[[01]\]',
    channels=trunk[last]['kernel'].shape[-1],
  )
  first = variables['params']['vgg']['conv1_1']
  first['kernel'] = np.ascontiguousarray(first['kernel'][:, :, ::-1])  # BGR
  return variables, left_out


# --- torchvision -------------------------------------------------------------

# Our names of what a layer has, and PyTorch's.
_LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}


def start_trunk(
  path: pathlib.Path, variables: dict, model: str
) -> tuple[dict, list[str]]:
  """Variables of a network whose trunk, and perhaps more, is a file's.

  Of VGG-16 that is the convolutions, and fc6 and fc7 if the network has layers
  of these names, inputs and widths: those of DFA's stage 1 at 224 pixels.

  Args:
    path: of torchvision's weights.
    variables: of the network, fresh; anything with shapes if only the file's
      fit is of interest.
    model: the network's `config.model.name`, for messages.

  Returns:
    (variables, the file's names that were left out).

  Raises:
    InputError: for anything but the same trunk.
  """
  params = variables['params']
  trunk = 'vgg' if 'vgg' in params else 'resnet'
  arrays = torch_files.read(path)
  kind = _kind(arrays)
  if kind != trunk:
    names = {
      'vgg': "a VGG's weights",
      'resnet': "a ResNet's weights",
      'mmpose': "a pose estimator's weights, for --mode=convert",
      '': f'of names that are not known here ({_some(arrays)})',
    }
    raise InputError(
      f"{path}: is {names[kind]}, and the network '{model}' has a "
      f"{'VGG' if trunk == 'vgg' else 'ResNet'}: must be torchvision's weights "
      'of one'
    )
  if kind == 'vgg':
    return _start_vgg(path, arrays, variables)
  _check_resnet(path, arrays, '', params['resnet'])
  filled, left_out = fill(
    path,
    arrays,
    _part(variables, 'resnet'),
    lambda place: _resnet_key(place[2:]),
    r'fc\..*|.*\.num_batches_tracked',
  )
  return _replaced(variables, filled), left_out


def _kind(arrays) -> str:
  """Whose names these are: 'vgg', 'resnet', 'mmpose' or ''."""
  if 'features.0.weight' in arrays:
    return 'vgg'
  if 'layer1.0.conv1.weight' in arrays:
    return 'resnet'
  return 'mmpose' if any(k.startswith('backbone.') for k in arrays) else ''


def _part(variables: dict, *names: str) -> dict:
  """The variables of some modules alone."""
  return {
    collection: {name: tree[name] for name in names if name in tree}
    for collection, tree in variables.items()
    if any(name in tree for name in names)
  }


def _replaced(variables: dict, filled: dict) -> dict:
  """The variables, with those modules that are filled."""
  return {k: {**tree, **filled.get(k, {})} for k, tree in variables.items()}


def _start_vgg(path, arrays: dict[str, np.ndarray], variables: dict):
  """See `start_trunk`."""
  vgg = variables['params']['vgg']
  ours, theirs = 'bn1_1' in vgg, 'features.1.running_mean' in arrays
  if ours != theirs:
    raise InputError(
      f'{path}: is of a VGG {"with" if theirs else "without"} batch '
      f'normalisation, and config.model.batch_norm is {ours}: set it to '
      f'{theirs}'
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
      f'{path}: is of a VGG of the blocks {of_file}, and config.model.blocks '
      f'is {blocks}: set it to them'
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
  for name, key in (('fc6', 'classifier.0'), ('fc7', 'classifier.3')):
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
    lambda place: f'{places[place[-2]]}.{_LEAVES[place[-1]]}',
    r'classifier\..*|.*\.num_batches_tracked',
    channels=blocks[-1][1],
  )
  return _replaced(variables, filled), left_out


def _vgg_blocks(arrays, step: int) -> list[list[int]]:
  """Numbers of the convolutions of each block; a pool stands between blocks.

  Args:
    arrays: torchvision's; it numbers all layers, those without weights too.
    step: from a convolution to the next one of its block.
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


def _resnet_key(place: tuple[str, ...]) -> str:
  """The name in a file of ('layer1_0', 'downsample_conv', 'kernel')."""
  path = '.'.join([*place[:-1], _LEAVES[place[-1]]])
  path = re.sub(r'^layer(\d)_(\d+)', r'layer\1.\2', path)
  return path.replace('downsample_conv', 'downsample.0').replace(
    'downsample_bn', 'downsample.1'
  )


def read_resnet(path, arrays: dict[str, np.ndarray], prefix: str):
  """(depth, width) of the ResNet whose weights these are.

  Args:
    path: of the file, for messages.
    arrays: the file's.
    prefix: of the ResNet's names.

  Raises:
    InputError: for a ResNet that is none of `models.resnet.LAYOUTS`.
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


def _check_resnet(path, arrays, prefix: str, params: dict) -> None:
  """Refuses a ResNet of another depth or width than a network's."""
  names = {'/'.join(place) for place in traverse_util.flatten_dict(params)}
  blocks = tuple(
    sum(re.fullmatch(rf'layer{i}_\d+', name) is not None for name in params)
    for i in range(1, 5)
  )
  layout = blocks, 'layer1_0/conv3/kernel' in names
  (depth,) = (depth for depth, known in LAYOUTS.items() if known == layout)
  ours = depth, params['conv1']['kernel'].shape[-1]
  theirs = read_resnet(path, arrays, prefix)
  for field, a, b in zip(('depth', 'width'), ours, theirs, strict=True):
    if a != b:
      raise InputError(
        f'{path}: is of a ResNet of {theirs[0]} layers and width {theirs[1]}, '
        f'and config.model.{field} is {a}: set it to {b}'
      )


# --- mmpose ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Heatmaps:
  """A network of SimpleBaselines: what `models.SimpleBaselines` is made of."""

  num_landmarks: int
  depth: int
  width: int
  channels: int


def read_mmpose(path: pathlib.Path) -> tuple[Heatmaps, dict[str, np.ndarray]]:
  """Reads mmpose's top-down heatmap estimator on a ResNet.

  Args:
    path: of the checkpoint, of mmpose 0 or 1.

  Returns:
    The network and the file's arrays, for `fill_mmpose`.

  Raises:
    InputError: for other files; where torchvision's weights belong is said.
  """
  arrays = torch_files.read(path)
  kind = _kind(arrays)
  if kind in ('vgg', 'resnet'):
    raise InputError(
      f'{path}: is a classifier of ImageNet, with no landmarks to convert: '
      'start a training from it, --config=configs/'
      f'{"dfa" if kind == "vgg" else "pcloss"}.py:pretrained={path}'
    )
  head = (
    'keypoint_head' if any('keypoint_head.' in k for k in arrays) else 'head'
  )
  # mmpose 1 has the names of mmpose 0, but for the first word.
  arrays = {
    re.sub(rf'^{head}\.', 'head.', key): value for key, value in arrays.items()
  }
  last = arrays.get('head.final_layer.weight')
  first = arrays.get('head.deconv_layers.0.weight')
  if 'backbone.layer1.0.conv1.weight' not in arrays or last is None:
    raise InputError(
      f'{path}: is no heatmap estimator of mmpose on a ResNet: it lacks '
      'backbone.layer1.0.conv1.weight or head.final_layer.weight, and has '
      f'{_some(arrays)}'
    )
  if first is None or last.ndim != 4 or first.ndim != 4:
    raise InputError(
      f'{path}, head: must have three deconvolutions and a final layer; the '
      f'file has {_some(k for k in arrays if k.startswith("head."))}'
    )
  depth, width = read_resnet(path, arrays, 'backbone.')
  return Heatmaps(last.shape[0], depth, width, first.shape[1]), arrays


def fill_mmpose(path, arrays: dict[str, np.ndarray], shapes: dict):
  """The variables of `models.SimpleBaselines`; see `fill`."""

  def key_of(place):
    _, module, *rest = place
    if module == 'resnet':
      return f'backbone.{_resnet_key(tuple(rest))}'
    if module == 'heatmaps':
      return f'head.final_layer.{_LEAVES[rest[-1]]}'
    # Convolution, normalisation, ReLU.
    number = 3 * (int(module[-1]) - 1) + ('bn' in module)
    return f'head.deconv_layers.{number}.{_LEAVES[rest[-1]]}'

  return fill(path, arrays, shapes, key_of, r'.*\.num_batches_tracked')
