"""Weights of others -> the folder of a run, to evaluate and to predict with."""

import pathlib

import jax

from fld_jax import defaults, landmark_sets
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.forward import Variables
from fld_jax.cascade.setup import resolve
from fld_jax.cascade.stage import ALL, EASY, HARD
from fld_jax.configs import dfa, pcloss
from fld_jax.errors import InputError
from fld_jax.files.atomic import whole_folder
from fld_jax.pretrained import dfa_release, mmpose
from fld_jax.runtime import checkpoint, manifest

# The release's weights: stage -> network -> file.
_WEIGHTS = {
  'stage1': {ALL: 'stage1.caffemodel'},
  'stage2': {ALL: 'stage2.caffemodel'},
  'stage3': {EASY: 'stage3_easy.caffemodel', HARD: 'stage3_hard.caffemodel'},
}


def convert(source: pathlib.Path, output: pathlib.Path) -> None:
  """Writes a run's folder and prints what became of the weights.

  Args:
    source: the folder of one clothes type of DFA's release, or the file of
      mmpose's heatmap estimator on a ResNet, trained on DeepFashion or FLD.
    output: the new folder. It appears when all is written.

  Raises:
    InputError: for mistakes in the files; if there is such a folder, and
      something in it.
  """
  if output.exists() and (not output.is_dir() or any(output.iterdir())):
    raise InputError(f'{output}: is there already, must be a new folder')
  if not source.exists():
    raise InputError(f'{source}: there is no such file or folder')
  read = _dfa_release if source.is_dir() else _mmpose
  config, networks, report = read(source)
  _write(output, config, networks, f'weights from {source.absolute()}')
  landmarks = resolve(config).landmarks
  print('\n'.join(report))
  print(
    f'Landmarks: {", ".join(landmarks.names)}\n'
    f'Run: {output}, for --mode=predict and --mode=evaluate',
    flush=True,
  )


def _write(
  output: pathlib.Path,
  config,
  networks: dict[str, dict[str, Variables]],
  data: str,
) -> None:
  """The folder of a run, whole or not at all.

  Args:
    output: the folder.
    config: of the run.
    networks: stage -> network -> variables.
    data: where the weights are from.
  """
  stages = {}
  with whole_folder(output) as folder:
    for stage, of_stage in networks.items():
      for name, variables in of_stage.items():
        directory = folder / 'stages' / stage / name
        with checkpoint.Checkpoints(directory) as checkpoints:
          checkpoints.save_weights(variables)
      stages[stage] = {'networks': sorted(of_stage), 'epsilon': None}
    topology = {'devices': 1, 'processes': 1}
    manifest.write_manifest(folder, config, data, topology, stages)


def _dfa_release(folder: pathlib.Path):
  """A run of one clothes type of DFA's release, see methods 1.2 to 1.4.

  Returns:
    (config, stage -> network -> variables, lines of a report).
  """
  net = dfa_release.read_dfa_net(folder / 'stage1.prototxt', use_estimate=False)
  path = folder / 'cascade.prototxt'
  other = dfa_release.read_dfa_net(path, use_estimate=True)
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
    model = stage_lib.build_model(config.model, stage, index, n)
    shapes = stage_lib.variable_shapes(model, net.size)
    networks[stage.name] = {}
    for name, file in _WEIGHTS[stage.name].items():
      variables, left_out = dfa_release.read_dfa_weights(
        folder / file, shapes, use_estimate=index > 0
      )
      networks[stage.name][name] = variables
      label = stage.name if name == ALL else f'{stage.name}/{name}'
      report.append(_line(label, file, variables, left_out))
  return config, networks, report


def _dfa_config(folder: pathlib.Path, net: dfa_release.DfaNet):
  """The config of a run of the release."""
  config = dfa.get_config('dataset=fld')
  place = f'{folder}/stage1.prototxt, layer fc8_landmarks'
  config.dataset.clothes_type = _clothes_type(place, net.num_landmarks)
  # As methods 1.3: padded to a square, the mean subtracted, nothing divided.
  config.input.size = net.size
  config.input.crop, config.input.margin = 'pad_square', 0.0
  config.input.mean, config.input.std = defaults.RELEASE_MEAN, (1.0, 1.0, 1.0)
  config.model.blocks, config.model.hidden = net.blocks, net.hidden
  config.model.batch_norm, config.model.dtype = False, 'float32'
  config.offset_scale = 5.0
  config.routing.mode = 'average'
  for stage in config.stages:
    stage.pseudo_label.num_clusters, stage.weights.pseudo_label = 0, 0.0
    stage.init, stage.estimate_noise = 'random', 0.0
  return config


def _mmpose(path: pathlib.Path):
  """A run of mmpose's heatmap estimator; returns what `_dfa_release` does."""
  net, arrays = mmpose.read_mmpose(path)
  config = pcloss.get_config('dataset=deepfashion,heatmap=unit,pcloss=none')
  place = f'{path}, head.final_layer.weight'
  config.dataset.clothes_type = _clothes_type(place, net.num_landmarks)
  # Its boxes are padded by 1.25. Its images are higher than wide, 256 x 192; of
  # ours, which are square, a higher item is as large.
  config.input.size, config.input.margin = 256, 0.125
  config.input.crop = 'pad_square'
  config.input.mean, config.input.std = (
    defaults.IMAGENET_MEAN,
    defaults.IMAGENET_STD,
  )
  config.model.update(
    depth=net.depth, width=net.width, channels=net.channels, dtype='float32'
  )
  # There cell i stands for the middle of pixel 4 i, which lies at 4 i + 0.5;
  # here for 4 i + 2.
  config.heatmap.update(
    sigma=2.0, amplitude=1.0, decoder='quarter', shift=0.375
  )
  config.flip_test = True
  (stage,) = config.stages
  model = stage_lib.build_model(config.model, stage, 0, net.num_landmarks)
  shapes = stage_lib.variable_shapes(model, config.input.size)
  variables, left_out = mmpose.fill_mmpose(path, arrays, shapes)
  report = [
    f"mmpose's SimpleBaselines for '{config.dataset.clothes_type}', "
    f'{net.num_landmarks} landmarks, ResNet-{net.depth}:',
    _line(stage.name, path.name, variables, left_out),
    f'  It sees squares of {config.input.size} pixels, where mmpose shows '
    '256 x 192.',
  ]
  return config, {stage.name: {ALL: variables}}, report


def _clothes_type(place: str, num_landmarks: int) -> str:
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


def _line(label: str, file: str, variables: Variables, left_out: list[str]):
  """What became of one network, in a line."""
  sizes = [array.size for array in jax.tree.leaves(variables)]
  counters = [key for key in left_out if key.endswith('.num_batches_tracked')]
  left_out = [key for key in left_out if key not in counters]
  left_out += [f'{len(counters)} num_batches_tracked'] if counters else []
  without = f'; left out: {", ".join(left_out)}' if left_out else ''
  return f'  {label} of {file}: {sum(sizes):,} numbers{without}'
