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

import pathlib
import re
from collections.abc import Callable

import jax
import numpy as np
from flax import traverse_util

from fld_jax import landmark_sets
from fld_jax.cascade.forward import Variables
from fld_jax.errors import InputError, printable


def fill(
  path: pathlib.Path,
  arrays: dict[str, np.ndarray],
  shapes: dict,
  key_of: Callable,
  left_out: str,
  flattened: dict[str, int] | None = None,
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
    flattened: Name of each layer that takes flattened maps -> the channels of
      these maps.

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
  """Which of the file's axes each of ours is."""
  if place[-2].startswith('deconv') and ndim == 4:
    return (2, 3, 0, 1)
  return {4: (2, 3, 1, 0), 2: (1, 0)}.get(ndim, (0,))


def _to_ours(
  place: tuple[str, ...], array: np.ndarray, flattened: dict[str, int]
) -> np.ndarray:
  """An array whose axes are in our order, to float32 in our layout."""
  if place[-2] in flattened and place[-1] == 'kernel':  # C, H, W -> H, W, C
    channels = flattened[place[-2]]
    side = int(np.sqrt(len(array) / channels))
    array = array.reshape(channels, side, side, -1).transpose(1, 2, 0, 3)
    array = array.reshape(-1, array.shape[-1])
  if place[-2].startswith('deconv') and place[-1] == 'kernel':
    array = array[::-1, ::-1]
  return np.ascontiguousarray(array, np.float32)


def some(names, most: int = 6) -> str:
  """The first of some names, in words."""
  names = [printable(name, 60) for name in names]
  more = ', ...' if len(names) > most else ''
  return ', '.join(names[:most]) + more or 'nothing'


def clothes_type(place: str, num_landmarks: int) -> str:
  """The clothes type that has so many of the eight landmarks."""
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
):
  """What became of one network, in a line."""
  sizes = [array.size for array in jax.tree.leaves(variables)]
  counters = [key for key in left_out if key.endswith('.num_batches_tracked')]
  left_out = [key for key in left_out if key not in counters]
  left_out += [f'{len(counters)} num_batches_tracked'] if counters else []
  without = f'; left out: {", ".join(left_out)}' if left_out else ''
  return f'  {label} of {file}: {sum(sizes):,} numbers{without}'
