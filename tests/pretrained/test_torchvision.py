"""Weights for ImageNet as the start of a training: names, layouts, refusals.

That features come out as PyTorch's is in `test_torch_pretrained.py`.
"""

import itertools

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from torchvision_weights import NAMES, NORMED, PLAIN, SLIM, draw, resnet, vgg

from fld_jax import experiment
from fld_jax.cascade import stage, store
from fld_jax.cascade.setup import resolve
from fld_jax.configs import dfa, pcloss
from fld_jax.errors import InputError
from fld_jax.pretrained import start as start_lib
from fld_jax.pretrained import torchvision
from fld_jax.training import checks

VGG16 = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def tiny(tiny_config, path, stages=1, batch_norm=False, blocks=SLIM, hidden=32):
  config = tiny_config(stages)
  config.model.trunk.update(blocks=blocks, batch_norm=batch_norm)
  config.model.hidden = hidden
  # As the published network: fc6 sees the whole map of the whole crop.
  config.model.pool = config.stages[0].input_size = 0
  config.pretrained = str(path)
  config.input.mean = (123.675, 116.28, 103.53)
  config.input.std = (58.395, 57.12, 57.375)
  return config


def heatmaps(tiny_config, path, depth=18, width=8):
  config = pcloss.get_config('dataset=synthetic,size=tiny')
  config.dataset.update(tiny_config().dataset)
  config.input.size = 32
  base = tiny(tiny_config, path)
  config.pretrained = str(path)
  config.input.mean, config.input.std = base.input.mean, base.input.std
  config.model.update(backbone=f'resnet{depth}', channels=8)
  config.model.trunk.width = width
  return config


def start(config, path, index=0):
  """(fresh variables, those that start from the file, what is left out)."""
  model = stage.build_model(
    config.model,
    config.stages[index],
    index,
    resolve(config).landmarks,
  )
  fresh = stage.init_variables(model, config.input.size, 0)
  return fresh, *torchvision.start_trunk(path, fresh, config.model.name)


def test_vgg(tiny_config, tmp_path):
  path, arrays = tmp_path / 'vgg16.safetensors', vgg()
  save_file(arrays, path)
  fresh, found, left_out = start(tiny(tiny_config, path), path)
  trunk = found['params']['vgg']
  assert sorted(trunk) == sorted(NAMES)
  for name, number in zip(NAMES, PLAIN, strict=True):
    weight = arrays[f'features.{number}.weight']
    for o, i, y, x in itertools.product((0, 1), (0, 2), range(3), range(3)):
      assert trunk[name]['kernel'][y, x, i, o] == weight[o, i, y, x]
    np.testing.assert_array_equal(
      trunk[name]['bias'], arrays[f'features.{number}.bias']
    )
  for name, number in (('fc6', 0), ('fc7', 3)):
    bias = arrays[f'classifier.{number}.bias']
    np.testing.assert_array_equal(found['params'][name]['bias'], bias)
  kernel = found['params']['fc7']['kernel']
  np.testing.assert_array_equal(kernel, arrays['classifier.3.weight'].T)
  for name in fresh['params']:
    if name.startswith('fc8'):
      assert found['params'][name] is fresh['params'][name]
  assert sorted(left_out) == ['classifier.6.bias', 'classifier.6.weight']


def test_the_first_matrix_takes_maps_row_by_row(tiny_config, tmp_path):
  """torchvision flattens channels first, we last."""
  path, arrays = tmp_path / 'vgg16.safetensors', vgg(side=2)
  save_file(arrays, path)
  config = tiny(tiny_config, path)
  config.input.size = 64
  _, found, _ = start(config, path)
  maps = draw(5, 2, 2, 32)  # pool5
  ours = maps.reshape(5, -1) @ found['params']['fc6']['kernel']
  flat = np.moveaxis(maps, -1, 1).reshape(5, -1)
  expected = flat @ arrays['classifier.0.weight'].T
  np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_vgg_of_another_size_gives_its_convolutions(tiny_config, tmp_path):
  path, arrays = tmp_path / 'vgg16.safetensors', vgg(side=7, hidden=48)
  save_file(arrays, path)
  fresh, found, left_out = start(tiny(tiny_config, path), path)
  for name in ('fc6', 'fc7'):
    assert found['params'][name] is fresh['params'][name]
  assert len(left_out) == 6


def test_later_stages_take_what_fits(tiny_config, tmp_path):
  """Their fc7 sees the estimate as well."""
  path, arrays = tmp_path / 'vgg16.safetensors', vgg()
  save_file(arrays, path)
  config = tiny(tiny_config, path, stages=2)
  fresh, found, left_out = start(config, path, index=1)
  assert found['params']['fc7'] is fresh['params']['fc7']
  assert found['params']['fc6'] is not fresh['params']['fc6']
  assert found['params']['fc_pre'] is fresh['params']['fc_pre']
  assert 'classifier.3.weight' in left_out


def test_normalised_vgg(tiny_config, tmp_path):
  path, arrays = tmp_path / 'vgg16_bn.safetensors', vgg(batch_norm=True)
  save_file(arrays, path)
  _, found, left_out = start(tiny(tiny_config, path, batch_norm=True), path)
  for name, number in zip(NAMES, NORMED, strict=True):
    assert list(found['params']['vgg'][name]) == ['kernel']
    name = name.replace('conv', 'bn')
    scale = found['params']['vgg'][name]['scale']
    weight = arrays[f'features.{number + 1}.weight']
    np.testing.assert_array_equal(scale, weight)
    # (conv + bias - mean) / deviation: the bias goes to the mean.
    mean = arrays[f'features.{number + 1}.running_mean']
    mean = mean - arrays[f'features.{number}.bias']
    statistics = found['batch_stats']['vgg'][name]
    np.testing.assert_array_equal(statistics['mean'], mean)
    np.testing.assert_array_equal(
      statistics['var'], arrays[f'features.{number + 1}.running_var']
    )
  tracked = [key for key in left_out if key.endswith('num_batches_tracked')]
  assert len(tracked) == 13


@pytest.mark.parametrize(
  'depth, blocks, bottleneck',
  [
    (18, (2, 2, 2, 2), False),
    (34, (3, 4, 6, 3), False),
    (50, (3, 4, 6, 3), True),
    (101, (3, 4, 23, 3), True),
    (152, (3, 8, 36, 3), True),
  ],
)
def test_resnets(depth, blocks, bottleneck, tiny_config, tmp_path):
  path = tmp_path / 'resnet.safetensors'
  arrays = resnet(blocks, bottleneck, 2)
  save_file(arrays, path)
  config = heatmaps(tiny_config, path, depth=depth, width=2)
  model = stage.build_model(
    config.model, config.stages[0], 0, resolve(config).landmarks
  )
  shapes = stage.variable_shapes(model, config.input.size)
  found, left_out = torchvision.start_trunk(path, shapes, 'simple_baselines')
  assert len(left_out) == 2 + sum(k.endswith('tracked') for k in arrays)
  params = found['params']['resnet']
  last = f'layer3_{blocks[2] - 1}'
  weight = arrays[f'layer3.{blocks[2] - 1}.conv2.weight']
  kernel = params[last]['conv2']['kernel']
  np.testing.assert_array_equal(kernel, weight.transpose(2, 3, 1, 0))
  mean = found['batch_stats']['resnet']['layer2_0']['downsample_bn']['mean']
  expected = arrays['layer2.0.downsample.1.running_mean']
  np.testing.assert_array_equal(mean, expected)
  # The head is as it was.
  assert found['params']['deconv1'] is shapes['params']['deconv1']


def without(key):
  return lambda arrays: {k: v for k, v in arrays.items() if k != key}


def changed(key, value):
  return lambda arrays: {**arrays, key: value}


WRONG = {
  'missing': (
    without('features.21.weight'),
    r'is of a VGG of the blocks .*, and config.model.trunk.blocks is ',
  ),
  'missing bias': (
    without('features.21.bias'),
    r'features.21.bias: is missing, must be there with shape \(32,\)',
  ),
  'shape': (
    changed('features.2.weight', draw(4, 5, 3, 3)),
    r'features.2.weight: has shape \(4, 5, 3, 3\), must have \(4, 4, 3, 3\)',
  ),
  'side': (
    changed('features.2.weight', draw(4, 4, 5, 5)),
    r'features.2.weight: has shape \(4, 4, 5, 5\), must have \(4, 4, 3, 3\)',
  ),
  'more': (
    changed('aux.weight', draw(2, 2)),
    r'aux.weight: is of shape \(2, 2\), and there is no such thing',
  ),
  'infinite': (
    changed('features.0.bias', np.float32([np.inf] * 4)),
    'features.0.bias: has NaN or infinite numbers',
  ),
  'wide': (
    lambda arrays: vgg(slim=8),
    r'blocks \(\(2, 8\), .*, and config.model.trunk.blocks is \(\(2, 4\), ',
  ),
  'normalised': (
    lambda arrays: vgg(batch_norm=True),
    'is of a VGG with batch normalisation, and config.model.trunk.batch_norm '
    'is False: set it to True',
  ),
  'ResNet': (
    lambda arrays: resnet(),
    "is a ResNet's weights, and the network 'dfa' has a VGG",
  ),
  'mmpose': (
    lambda arrays: {
      **resnet(prefix='backbone.'),
      'keypoint_head.final_layer.weight': draw(8, 4, 1, 1),
    },
    "is a pose estimator's weights, for --mode=convert, and the network 'dfa'",
  ),
  'other': (
    lambda arrays: {'encoder.0.weight': draw(2)},
    r'is of names that are not known here \(encoder.0.weight\)',
  ),
}


@pytest.mark.parametrize('case', WRONG)
def test_wrong_files_are_refused(case, tiny_config, tmp_path):
  change, message = WRONG[case]
  path = tmp_path / 'file.safetensors'
  save_file(change(vgg()), path)
  with pytest.raises(InputError, match=f'file.safetensors.*{message}'):
    checks.check_pretrained(
      tiny(tiny_config, path), resolve(tiny(tiny_config, path))
    )


@pytest.mark.parametrize(
  'arrays, message',
  [
    (
      lambda: resnet((3, 4, 6, 3), True),
      'is of a ResNet of 50 layers and width 8, and config.model.backbone is '
      "'resnet18': set it to 'resnet50'",
    ),
    (
      lambda: resnet(width=16),
      'of 18 layers and width 16, and config.model.trunk.width is 8: set it to '
      '16',
    ),
    (
      lambda: resnet((2, 2, 2, 3)),
      r'has \(2, 2, 2, 3\) blocks in its four stages, must be a ResNet of 18, ',
    ),
    (
      vgg,
      "is a VGG's weights, and the network 'simple_baselines' has a ResNet",
    ),
  ],
)
def test_wrong_files_of_a_resnet(arrays, message, tiny_config, tmp_path):
  path = tmp_path / 'file.safetensors'
  save_file(arrays(), path)
  with pytest.raises(InputError, match=f'file.safetensors.*{message}'):
    checks.check_pretrained(
      heatmaps(tiny_config, path), resolve(heatmaps(tiny_config, path))
    )


@pytest.mark.parametrize('field', ['mean', 'std'])
def test_the_normalisation_must_be_that_of_the_weights(field, tiny_config):
  config = tiny(tiny_config, 'file')
  start_lib.check_normalisation(config)
  config.input[field] = (60.0, 60.0, 60.0)
  values = {'mean': '123.675, 116.28, 103.53', 'std': '58.395, 57.12, 57.375'}
  with pytest.raises(
    InputError,
    match=rf'config.input.{field} is \(60.0, 60.0, 60.0\), and the weights '
    rf'file want \({values[field]}\): give them as pretrained=file',
  ):
    checks.check_pretrained(config, resolve(config))


PREFIXES = [
  'module.',
  'backbone.',
  'model.',
  'state_dict.',
  'encoder.',
  'module.backbone.',
  'state_dict.model.module.backbone.',
]


@pytest.mark.parametrize('prefix', PREFIXES)
@pytest.mark.parametrize('network', ['vgg', 'resnet'])
def test_a_prefix_of_all_names_is_taken_off(
  prefix, network, tiny_config, tmp_path, caplog
):
  path, plain = tmp_path / 'a.safetensors', tmp_path / 'b.safetensors'
  arrays = vgg() if network == 'vgg' else resnet()
  save_file(arrays, plain)
  save_file({prefix + key: value for key, value in arrays.items()}, path)
  config = (tiny if network == 'vgg' else heatmaps)(tiny_config, path)
  with caplog.at_level('INFO', 'fld_jax'):
    _, found, _ = start(config, path)
  assert f"'{prefix}' before all names" in caplog.text
  jax.tree.map(np.testing.assert_array_equal, found, start(config, plain)[1])


@pytest.mark.parametrize('head', ['head.fc.', 'fc.', 'module.fc.'])
def test_a_classifier_beside_the_prefix_is_left_out(
  head, tiny_config, tmp_path
):
  """As mmpretrain saves a network: backbone and head."""
  path, arrays = tmp_path / 'a.safetensors', resnet()
  trunk = {k: v for k, v in arrays.items() if not k.startswith('fc.')}
  prefix = 'module.backbone.' if head.startswith('module.') else 'backbone.'
  named = {prefix + key: value for key, value in trunk.items()}
  save_file({**named, f'{head}weight': draw(10, 64)}, path)
  config = heatmaps(tiny_config, path)
  if head == 'module.fc.':
    # 'module.' is shared, and then only 'fc.' stands beside 'backbone.'.
    found, taken_off = torchvision.without_prefix(
      {**named, 'module.fc.weight': draw(10, 64)}
    )
    assert taken_off == prefix and set(found) == set(trunk)
  _, found, _ = start(config, path)
  kernel = found['params']['resnet']['conv1']['kernel']
  expected = arrays['conv1.weight'].transpose(2, 3, 1, 0)
  np.testing.assert_array_equal(kernel, expected)


@pytest.mark.parametrize(
  'names',
  [
    ('a.layer1.0.conv1.weight', 'b.conv1.weight'),
    ('encoder.0.weight', 'encoder.1.weight'),
    ('weight',),
    ('module.weight', 'weight'),
  ],
)
def test_names_that_stay_unknown_are_left_as_they_are(names):
  arrays = {name: draw(2) for name in names}
  found, prefix = torchvision.without_prefix(arrays)
  assert found == arrays and not prefix


def test_a_training_starts_from_the_file(tiny_config, tmp_path, capsys):
  """With a learning rate of 0 it ends where it began."""
  path = tmp_path / 'vgg16.safetensors'
  # Small, so that 13 layers of them stay finite.
  save_file({k: v / 16 for k, v in vgg().items()}, path)
  config = tiny(tiny_config, path, stages=2)
  for each in config.stages:
    each.init = 'random'
    each.optimizer.learning_rate = 0.0
    each.train_steps = each.eval_steps = 1
  experiment.run(config, tmp_path / 'W', mode='train', splits=())
  stages, _ = store.load_cascade(config, resolve(config), tmp_path / 'W')
  for i, each in enumerate(stages):
    _, expected, _ = start(config, path, i)
    (found,) = each.networks.values()
    for name in ('vgg', 'fc6') if i else ('vgg', 'fc6', 'fc7'):
      jax.tree.map(
        np.testing.assert_array_equal,
        found['params'][name],
        expected['params'][name],
      )
  path.unlink()  # what is trained no longer needs it
  experiment.run(config, tmp_path / 'W', mode='train', splits=())
  experiment.run(config, tmp_path / 'W', mode='evaluate', splits=('test',))


def test_dfa_on_a_resnet(tiny_config, tmp_path):
  """The trunk is the file's, and DFA's own layers are as they were."""
  path = tmp_path / 'resnet.safetensors'
  arrays = resnet()
  save_file(arrays, path)
  config = tiny(tiny_config, path)
  with config.unlocked():
    config.model.backbone, config.model.trunk = 'resnet18', {'width': 8}
  checks.check_pretrained(config, resolve(config))
  fresh, found, left_out = start(config, path)
  kernel = found['params']['resnet']['conv1']['kernel']
  expected = arrays['conv1.weight'].transpose(2, 3, 1, 0)
  np.testing.assert_array_equal(kernel, expected)
  assert found['params']['fc6'] is fresh['params']['fc6']
  assert 'fc.weight' in left_out


def test_a_trunk_that_torchvision_has_not(tmp_path):
  with pytest.raises(InputError, match="'dfa' stands on neither a VGG nor a"):
    torchvision.start_trunk(tmp_path / 'x.pth', {'params': {'own': {}}}, 'dfa')


def test_a_wrong_file_stops_before_anything_is_written(tiny_config, tmp_path):
  config = tiny(tiny_config, tmp_path / 'nothing.pth')
  with pytest.raises(InputError, match='nothing.pth: cannot be read'):
    experiment.run(config, tmp_path / 'W', mode='train', splits=('test',))
  assert not (tmp_path / 'W').exists()


@pytest.mark.parametrize(
  'name', ['vgg16-397923af.pth', 'vgg16_bn-6c64b313.pth']
)
def test_argument_of_the_configs(name):
  for config in (
    dfa.get_config(f'pretrained=a/{name}'),
    pcloss.get_config(f'model=fashionnet,pretrained=a/{name}'),
    pcloss.get_config(f'pretrained=a/{name}'),
  ):
    assert config.pretrained == f'a/{name}'
    assert config.input.mean == (123.675, 116.28, 103.53)
    assert config.input.std == (58.395, 57.12, 57.375)
    if 'batch_norm' in config.model.trunk:
      assert config.model.trunk.batch_norm == ('_bn' in name)
  assert dfa.get_config().pretrained == ''
  assert dfa.get_config().input.mean == (122.7717, 115.9465, 102.9801)
