"""mmpose's ResNet heatmap checkpoints."""

import dataclasses
import pathlib
import re

import numpy as np

from fld_jax.errors import InputError
from fld_jax.pretrained import torch_files
from fld_jax.pretrained.matching import fill, some
from fld_jax.pretrained.torchvision import (
  LEAVES,
  kind_of_weights,
  read_resnet,
  resnet_key,
)


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
  kind = kind_of_weights(arrays)
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
      f'{some(arrays)}'
    )
  if first is None or last.ndim != 4 or first.ndim != 4:
    raise InputError(
      f'{path}, head: must have three deconvolutions and a final layer; the '
      f'file has {some(k for k in arrays if k.startswith("head."))}'
    )
  depth, width = read_resnet(path, arrays, 'backbone.')
  return Heatmaps(last.shape[0], depth, width, first.shape[1]), arrays


def fill_mmpose(path, arrays: dict[str, np.ndarray], shapes: dict):
  """The variables of `models.SimpleBaselines`; see `fill`."""

  def key_of(place):
    _, module, *rest = place
    if module == 'resnet':
      return f'backbone.{resnet_key(tuple(rest))}'
    if module == 'heatmaps':
      return f'head.final_layer.{LEAVES[rest[-1]]}'
    # Convolution, normalisation, ReLU.
    number = 3 * (int(module[-1]) - 1) + ('bn' in module)
    return f'head.deconv_layers.{number}.{LEAVES[rest[-1]]}'

  return fill(path, arrays, shapes, key_of, r'.*\.num_batches_tracked')
