"""Weights of others -> variables of our networks, every number accounted for.

  Caffe        kernels (out, in, h, w), images in BGR, maps flattened as C, H, W

A file's arrays come from `caffe_files` or `torch_files`. Here is what they are
called and how they lie; all that a network has must be in the file, and all
that is in the file must be used, but for what a rule leaves out by name.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable

import numpy as np
from flax import traverse_util

from fld_jax import caffe_files
from fld_jax.errors import InputError, shown

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
  return ', '.join(names[:most]) + (', ...' if len(names) > most else '')


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
  found = DfaNet(
    coordinates // 2, net.inputs.get('data', (0,))[-1], blocks, hidden
  )
  inputs, layers, output = _dfa_layers(found, use_estimate)
  for name, shape in net.inputs.items():
    expected = inputs.get(name, 'no such input')
    if shape[1:] != expected or found.size % 32:
      raise InputError(
        f'{path}, input {shown(name)}: has shape {shape}, must have '
        f'(1, 3, S, S) for data, S a multiple of 32, and (1, 1, 1, '
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
