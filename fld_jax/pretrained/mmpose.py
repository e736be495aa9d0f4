"""Reads mmpose's checkpoints of SimpleBaselines (Xiao et al., ECCV 2018)."""

import dataclasses
import pathlib
import re

import numpy as np
from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.forward import Variables
from fld_jax.cascade.stage import ALL
from fld_jax.configs import pcloss
from fld_jax.datasets.catalog import landmark_set
from fld_jax.errors import InputError
from fld_jax.pretrained import torch_files
from fld_jax.pretrained.matching import clothes_type, fill, report_line, some
from fld_jax.pretrained.torchvision import (
  LEAVES,
  kind_of_weights,
  read_resnet,
  resnet_key,
)


@dataclasses.dataclass(frozen=True)
class Heatmaps:
  """The sizes of a `models.SimpleBaselines`.

  Attributes:
    num_landmarks: N, the number of landmarks.
    depth: Number of layers of the ResNet.
    width: Number of channels of the ResNet's stem.
    channels: Number of channels of the transposed convolutions.
  """

  num_landmarks: int
  depth: int
  width: int
  channels: int


def read_mmpose(path: pathlib.Path) -> tuple[Heatmaps, dict[str, np.ndarray]]:
  """Reads mmpose's top-down heatmap estimator on a ResNet.

  Args:
    path: The path of the checkpoint, of mmpose 0 or 1.

  Returns:
    The network's sizes and the file's arrays, for `fill_mmpose`.

  Raises:
    InputError: The file is not such a checkpoint. For torchvision's weights the
      message says how to use them.
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


def fill_mmpose(
  path: pathlib.Path, arrays: dict[str, np.ndarray], shapes: Variables
) -> tuple[dict, list[str]]:
  """Fills the variables of `models.SimpleBaselines`.

  Args:
    path: The path of the checkpoint, for messages.
    arrays: The file's arrays, as `read_mmpose` returns them.
    shapes: The variables to fill, a nested dict of anything with a `shape`.

  Returns:
    The variables, and the names of the file's arrays that were left out.

  Raises:
    InputError: The file's arrays are not those of the network.
  """

  def key_of(place: tuple[str, ...]) -> str:
    """The file's name of the array at a place among the variables."""
    _, module, *rest = place
    if module == 'resnet':
      return f'backbone.{resnet_key(tuple(rest))}'
    if module == 'heatmaps':
      return f'head.final_layer.{LEAVES[rest[-1]]}'
    # Each deconvolution is three layers of the file, the last one a ReLU.
    number = 3 * (int(module[-1]) - 1) + ('bn' in module)
    return f'head.deconv_layers.{number}.{LEAVES[rest[-1]]}'

  return fill(path, arrays, shapes, key_of, r'.*\.num_batches_tracked')


def read_run(
  path: pathlib.Path,
) -> tuple[ConfigDict, dict[str, dict[str, Variables]], list[str]]:
  """Reads mmpose's heatmap estimator as a run.

  Args:
    path: The checkpoint's file.

  Returns:
    The run's config; its variables by the names of the stage and of the
    network; and the lines of a report.

  Raises:
    InputError: The file has mistakes.
  """
  net, arrays = read_mmpose(path)
  config = pcloss.get_config('dataset=deepfashion,heatmap=unit,pcloss=none')
  place = f'{path}, head.final_layer.weight'
  config.dataset.clothes_type = clothes_type(place, net.num_landmarks)
  # mmpose pads boxes by a factor of 1.25. Its images are 256 pixels high and
  # 192 wide; an item that is higher than wide is as large in our square images.
  config.input.size, config.input.margin = 256, 0.125
  config.input.crop = 'pad_square'
  config.input.mean, config.input.std = (
    defaults.IMAGENET_MEAN,
    defaults.IMAGENET_STD,
  )
  defaults.set_backbone(config, f'resnet{net.depth}', width=net.width)
  config.model.update(channels=net.channels, dtype='float32')
  # In mmpose, cell i of a heatmap is the centre of pixel 4 i, at 4 i + 0.5; in
  # fld_jax it is at 4 i + 2.
  config.heatmap.update(
    sigma=2.0, amplitude=1.0, decoder='quarter', shift=0.375
  )
  config.flip_test = True
  (stage,) = config.stages
  model = stage_lib.build_model(
    config.model, stage, 0, landmark_set(config.dataset)
  )
  shapes = stage_lib.variable_shapes(model, config.input.size)
  variables, left_out = fill_mmpose(path, arrays, shapes)
  report = [
    f"mmpose's SimpleBaselines for '{config.dataset.clothes_type}', "
    f'{net.num_landmarks} landmarks, ResNet-{net.depth}:',
    report_line(stage.name, path.name, variables, left_out),
    f'  It sees squares of {config.input.size} pixels, where mmpose shows '
    '256 x 192.',
  ]
  return config, {stage.name: {ALL: variables}}, report
