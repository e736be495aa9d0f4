"""Matches the arrays of third-party files to the variables of our networks.

  DFA          the authors' Caffe files of one clothes type
  torchvision  VGG-16, with batch normalisation and without, and ResNets, which
               training starts from with `config.pretrained`
  mmpose       SimpleBaselines' heatmaps on a ResNet

Kernels are (out, in, h, w) in the files and (h, w, in, out) in our networks,
and maps are flattened as C, H, W in the files and as H, W, C in our networks.
The module of each format knows the names of its arrays. `fill` checks that the
file has every array of a network, with its shape, and that no array of the file
is left over except those that the format's rule allows.
"""

import pathlib
import re
from collections.abc import Callable, Iterable

import jax
import numpy as np
from flax import traverse_util

from fld_jax import landmark_sets
from fld_jax.cascade.forward import Variables
from fld_jax.errors import InputError, printable


def fill(
  path: pathlib.Path,
  arrays: dict[str, np.ndarray],
  shapes: Variables,
  key_of: Callable[[tuple[str, ...]], str],
  left_out: str,
  flattened: dict[str, int] | None = None,
) -> tuple[dict, list[str]]:
  """Fills the variables of a network, or of a part of it, from arrays.

  Args:
    path: The path of the file, for messages.
    arrays: The file's arrays by their names in the file, in its own layouts:
      kernels (out, in, h, w), kernels of transposed convolutions
      (in, out, h, w), matrices (out, in).
    shapes: The variables to fill, a nested dict of anything with a `shape`.
    key_of: Function that maps a variable's path, such as
      ('params', 'vgg', 'conv1_1', 'kernel'), to the array's name in the file.
    left_out: Regular expression of the names in the file that may be left out.
    flattened: Number of channels of the maps that a layer takes flattened, by
      the layer's name.

  Returns:
    The variables, and the names of the file's arrays that were left out.

  Raises:
    InputError: An array is missing, has another shape, is not finite, or is not
      part of the network. The message names the file, the array, its shape and
      the valid one.
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
        f'file has {some(arrays)}'
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
    filled[place] = _to_ours(place, array.transpose(axes), flattened or {})
  rest = [key for key in arrays if key not in used]
  strange = [key for key in rest if not re.fullmatch(left_out, key)]
  if strange:
    raise InputError(
      f'{path}, {printable(strange[0])}: is of shape '
      f'{arrays[strange[0]].shape}, and there is no such thing in the '
      'network that it should be of'
    )
  return traverse_util.unflatten_dict(filled), rest


def _axes(place: tuple[str, ...], ndim: int) -> tuple[int, ...]:
  """Returns the axis in the file of each axis of a variable.

  Args:
    place: The variable's path, such as ('params', 'vgg', 'conv1_1', 'kernel').
    ndim: Number of axes of the variable.
  """
  if place[-2].startswith('deconv') and ndim == 4:
    return (2, 3, 0, 1)
  return {4: (2, 3, 1, 0), 2: (1, 0)}.get(ndim, (0,))


def _to_ours(
  place: tuple[str, ...], array: np.ndarray, flattened: dict[str, int]
) -> np.ndarray:
  """Converts an array, its axes already in our order, to our float32 layout.

  Args:
    place: The variable's path, such as ('params', 'vgg', 'conv1_1', 'kernel').
    array: The file's array, transposed to the order of our axes.
    flattened: Number of channels of the maps that a layer takes flattened, by
      the layer's name.
  """
  if place[-2] in flattened and place[-1] == 'kernel':  # C, H, W -> H, W, C
    channels = flattened[place[-2]]
    side = int(np.sqrt(len(array) / channels))
    array = array.reshape(channels, side, side, -1).transpose(1, 2, 0, 3)
    array = array.reshape(-1, array.shape[-1])
  if place[-2].startswith('deconv') and place[-1] == 'kernel':
    array = array[::-1, ::-1]
  return np.ascontiguousarray(array, np.float32)


def some(names: Iterable[str], most: int = 6) -> str:
  """Lists the first names for a message.

  Args:
    names: The names.
    most: The largest number of names to list.
  """
  names = [printable(name, 60) for name in names]
  more = ', ...' if len(names) > most else ''
  return ', '.join(names[:most]) + more or 'nothing'


def clothes_type(place: str, num_landmarks: int) -> str:
  """Returns the clothes type that has so many of DeepFashion's 8 landmarks.

  Args:
    place: The file and layer, for messages.
    num_landmarks: Number of landmarks of the network.

  Raises:
    InputError: No clothes type has this number of landmarks.
  """
  types = {
    len(slots): landmark_sets.FASHION_8.types[code]
    for code, slots in landmark_sets.FASHION_8.slots.items()
  }
  if num_landmarks not in types:
    known = ', '.join(f'{n} ({kind})' for n, kind in types.items())
    raise InputError(
      f'{place}: is of {num_landmarks} landmarks, valid are {known}'
    )
  return types[num_landmarks]


def report_line(
  label: str, file: str, variables: Variables, left_out: list[str]
) -> str:
  """Describes in one line which weights a network took and left out.

  Args:
    label: The name of the stage, and of its network if there are several.
    file: The name of the file.
    variables: The network's variables.
    left_out: Names of the file's arrays that were left out.
  """
  sizes = [array.size for array in jax.tree.leaves(variables)]
  counters = [key for key in left_out if key.endswith('.num_batches_tracked')]
  left_out = [key for key in left_out if key not in counters]
  left_out += [f'{len(counters)} num_batches_tracked'] if counters else []
  without = f'; left out: {", ".join(left_out)}' if left_out else ''
  return f'  {label} of {file}: {sum(sizes):,} numbers{without}'
