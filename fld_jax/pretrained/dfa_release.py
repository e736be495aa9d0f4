"""Reads the Caffe release of DFA's authors (Liu et al., ECCV 2016)."""

import dataclasses
import pathlib
import re

import numpy as np
from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.forward import Variables
from fld_jax.cascade.stage import ALL, EASY, HARD
from fld_jax.configs import dfa
from fld_jax.datasets.catalog import landmark_set
from fld_jax.errors import InputError, printable
from fld_jax.pretrained import caffe_files
from fld_jax.pretrained.matching import clothes_type, fill, report_line, some

# The release's convolutions in each block, docs/methods.md 1.2.
_DFA_BLOCKS = (2, 2, 3, 3, 3)
# The release's heads for pseudo-labels have several names; they are not used at
# test time.
_DFA_LABEL = r'fc8_(soft|hard)label(_stage\d)?'
# The release's weights: stage -> network -> file.
_WEIGHTS = {
  'stage1': {ALL: 'stage1.caffemodel'},
  'stage2': {ALL: 'stage2.caffemodel'},
  'stage3': {EASY: 'stage3_easy.caffemodel', HARD: 'stage3_hard.caffemodel'},
}


@dataclasses.dataclass(frozen=True)
class DfaNet:
  """The sizes in which the release's networks may differ.

  Attributes:
    num_landmarks: N, the number of landmarks.
    size: Side of the square input image in pixels, a multiple of 32.
    blocks: Number of convolutions and of channels of each block of the VGG.
    hidden: Width of the layers fc6 and fc7.
  """

  num_landmarks: int
  size: int
  blocks: tuple[tuple[int, int], ...]
  hidden: int


def read_dfa_net(path: pathlib.Path, use_estimate: bool) -> DfaNet:
  """Reads a .prototxt of the release and checks that it is `models.DFA`.

  Args:
    path: The path of the .prototxt.
    use_estimate: Whether the network takes the estimate of the stage before it:
      False for stage 1, True for the later stages.

  Returns:
    The network's sizes.

  Raises:
    InputError: A layer, input or output differs from those of `models.DFA`. The
      message names it, what it is and what it must be.
  """
  net = caffe_files.read_net(path)
  for name in ('conv1_1', 'fc6', 'fc8_landmarks'):
    if name not in net.widths:
      raise InputError(
        f'{path}, layer {name}: is missing; the file has {some(net.layers)}'
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
        f'{path}, input {printable(name)}: has shape {shape}, must have '
        f'(1, 3, S, S) for data, S a multiple of 32 up to 1024, and (1, 1, 1, '
        f'{2 * found.num_landmarks}) for prediction after stage 1'
      )
  labels = [name for name in net.layers if re.fullmatch(_DFA_LABEL, name)]
  ours = {k: v for k, v in net.layers.items() if k not in labels}
  for name in layers | ours:
    if layers.get(name) != ours.get(name):
      raise InputError(
        f'{path}, layer {printable(name)}: is '
        f'{printable(ours.get(name, "missing"))}; '
        f'must be {layers.get(name, "missing")}'
      )
  of_labels = {*labels, *(f'softmax({name})' for name in labels)}
  outputs = [what for what in net.outputs.values() if what not in of_labels]
  if outputs != [output]:
    raise InputError(
      f'{path}, outputs: are {printable("; ".join(outputs))}, must be {output}'
    )
  return found


def _dfa_layers(
  net: DfaNet, use_estimate: bool
) -> tuple[dict[str, tuple[int, ...]], dict[str, str], str]:
  """Describes the release's network in the words of `caffe_files.Net`.

  Args:
    net: The network's sizes.
    use_estimate: Whether the network takes the estimate of the stage before it.

  Returns:
    Shapes of the inputs without the batch, descriptions of the layers with
    weights, and the description of the only output.
  """
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


def read_dfa_weights(
  path: pathlib.Path, shapes: Variables, use_estimate: bool
) -> tuple[dict, list[str]]:
  """Reads a .caffemodel of the release.

  Args:
    path: The path of the .caffemodel.
    shapes: Shapes of the variables of `models.DFA` without pseudo-labels, as a
      nested dict.
    use_estimate: Whether the network takes the estimate of the stage before it:
      False for stage 1, True for the later stages.

  Returns:
    The variables, and the names of the file's arrays that were left out.

  Raises:
    InputError: The file cannot be read, or its arrays are not those of the
      network.
  """
  blobs = {'kernel': 0, 'bias': 1}
  layer = {'fc7': 'fc7_pre'} if use_estimate else {}

  def key_of(place: tuple[str, ...]) -> str:
    """The file's name of the array at a place among the variables."""
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
    flattened={'fc6': trunk[last]['kernel'].shape[-1]},
  )
  first = variables['params']['vgg']['conv1_1']
  first['kernel'] = np.ascontiguousarray(first['kernel'][:, :, ::-1])  # BGR
  return variables, left_out


def read_run(
  folder: pathlib.Path,
) -> tuple[ConfigDict, dict[str, dict[str, Variables]], list[str]]:
  """Reads one clothes type of DFA's release as a run (docs/methods.md 1.2-1.4).

  Args:
    folder: The folder of one clothes type.

  Returns:
    The run's config; its variables by the names of the stage and of the
    network; and the lines of a report.

  Raises:
    InputError: A file is missing or has mistakes.
  """
  net = read_dfa_net(folder / 'stage1.prototxt', use_estimate=False)
  path = folder / 'cascade.prototxt'
  other = read_dfa_net(path, use_estimate=True)
  for field, value in vars(net).items():
    if getattr(other, field) != value:
      raise InputError(
        f'{path}: has {field} {getattr(other, field)}, must have {value} as '
        'stage1.prototxt beside it'
      )
  config = _dfa_config(folder, net)
  kind, n = config.dataset.clothes_type, net.num_landmarks
  networks, report = {}, [f"DFA's release for '{kind}', {n} landmarks:"]
  for index, stage in enumerate(config.stages):
    model = stage_lib.build_model(
      config.model, stage, index, landmark_set(config.dataset)
    )
    shapes = stage_lib.variable_shapes(model, net.size)
    networks[stage.name] = {}
    for name, file in _WEIGHTS[stage.name].items():
      variables, left_out = read_dfa_weights(
        folder / file, shapes, use_estimate=index > 0
      )
      networks[stage.name][name] = variables
      label = stage.name if name == ALL else f'{stage.name}/{name}'
      report.append(report_line(label, file, variables, left_out))
  return config, networks, report


def _dfa_config(folder: pathlib.Path, net: DfaNet) -> ConfigDict:
  """Returns the config of a run that has the release's networks."""
  config = dfa.get_config('dataset=fld,stages=3')
  config.stages[2].branches = True
  place = f'{folder}/stage1.prototxt, layer fc8_landmarks'
  config.dataset.clothes_type = clothes_type(place, net.num_landmarks)
  # docs/methods.md 1.3: padded to a square, mean subtracted, nothing divided.
  config.input.size = net.size
  config.input.crop, config.input.margin = 'pad_square', 0.0
  config.input.mean, config.input.std = defaults.RELEASE_MEAN, (1.0, 1.0, 1.0)
  defaults.set_backbone(config, 'vgg16', blocks=net.blocks, batch_norm=False)
  config.model.hidden, config.model.dtype = net.hidden, 'float32'
  config.offset_scale = 5.0
  config.routing.mode = 'average'
  for stage in config.stages:
    stage.pseudo_label.num_clusters, stage.weights.pseudo_label = 0, 0.0
    stage.pseudo_label.refit = 0.0
    stage.init, stage.estimate_noise = 'random', 0.0
  return config
