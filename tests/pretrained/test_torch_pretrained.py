"""Networks that start from PyTorch's files, against PyTorch itself.

PyTorch is not among what the tests install: `EXTRAS=torch launch/test.sh`.
"""

import pathlib
import re

import jax
import numpy as np
import pytest

from fld_jax.cascade import stage, store
from fld_jax.cascade.setup import resolve
from fld_jax.configs import trained
from fld_jax.errors import InputError
from fld_jax.models.dfa import DFA
from fld_jax.models.resnet import ResNet
from fld_jax.models.simple_baselines import SimpleBaselines
from fld_jax.models.vgg import VGG, VGG16
from fld_jax.pretrained import convert, torch_files
from fld_jax.pretrained.torchvision import start_trunk

torch = pytest.importorskip('torch', reason='PyTorch is not installed')
safetensors = pytest.importorskip('safetensors.torch')

import torch_networks  # noqa: E402
from torch_networks import nchw, nhwc, run  # noqa: E402

SLIM = tuple((count, width // 16) for count, width in VGG16)


def save(network, path):
  """By torch.save, old or new, or as .safetensors, as the path says."""
  state = network.state_dict()
  if path.suffix == '.safetensors':
    state = {key: value.contiguous() for key, value in state.items()}
    safetensors.save_file(state, path)
  else:
    zipped = 'old' not in path.name
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
  return path


FORMS = ('weights.pth', 'weights_old.pth', 'weights.safetensors')


class Vgg(torch.nn.Module):
  """torchvision's VGG-16 with other widths: the same names."""

  def __init__(self, blocks, batch_norm, side, hidden):
    super().__init__()
    layers, before = [], 3
    for count, width in blocks:
      for _ in range(count):
        layers.append(torch.nn.Conv2d(before, width, 3, padding=1))
        if batch_norm:
          layers.append(torch.nn.BatchNorm2d(width))
        layers.append(torch.nn.ReLU())
        before = width
      layers.append(torch.nn.MaxPool2d(2, 2))
    self.features = torch.nn.Sequential(*layers)
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    self.classifier = torch.nn.Sequential(
      *(linear(before * side**2, hidden), relu(), torch.nn.Dropout()),
      *(linear(hidden, hidden), relu(), torch.nn.Dropout()),
      linear(hidden, 1000),
    )


def check_vgg(theirs, path, blocks, hidden, batch_norm, size, count):
  """Stage 1's landmarks with the file's trunk, fc6 and fc7, to 1e-4."""
  model = DFA(num_clusters=0, backbone=VGG(blocks, batch_norm), hidden=hidden)
  images = np.random.default_rng(0).normal(size=(count, size, size, 3))
  batch = {
    'image': images.astype(np.float32),
    'example_index': np.zeros(count, np.int32),
  }
  config = type('Config', (), {'input': type('Input', (), {'size': size})})
  fresh = stage.init_variables(model, config.input.size, 0)
  variables, _ = start_trunk(path, fresh, 'dfa')
  found, _ = run(model, variables, batch, train=False)
  with torch.no_grad():
    maps = theirs.features(nchw(batch['image']))
    hidden = theirs.classifier[:6](maps.flatten(1)).numpy()
  head = variables['params']['fc8_landmarks']
  expected = hidden @ head['kernel'] + head['bias']
  assert expected.std(axis=0).min() > 1e-4
  np.testing.assert_allclose(
    found['landmarks'].reshape(count, -1), expected, atol=1e-4, rtol=0
  )


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('batch_norm', [False, True])
def test_vgg(batch_norm, form, tmp_path):
  torch.manual_seed(0)
  theirs = Vgg(SLIM, batch_norm, 2, 64).eval()
  torch_networks.randomise(theirs, 1)
  for module in theirs.features:
    if isinstance(module, torch.nn.Conv2d):  # keeps signals alive
      torch.nn.init.kaiming_normal_(module.weight)
      torch.nn.init.normal_(module.bias, 0, 0.1)
  path = save(theirs, tmp_path / form)
  check_vgg(theirs, path, SLIM, 64, batch_norm, 64, 3)


@pytest.mark.parametrize('name', ['vgg16', 'vgg16_bn'])
def test_torchvision_vgg(name, tmp_path):
  torchvision = pytest.importorskip('torchvision')
  torch.manual_seed(0)
  theirs = getattr(torchvision.models, name)(weights=None).eval()
  torch_networks.randomise(theirs, 1)
  path = save(theirs, tmp_path / 'weights.pth')
  check_vgg(theirs, path, VGG16, 4096, '_bn' in name, 224, 2)


def check_resnet(theirs, path, depth, width, count=2, side=64):
  model = ResNet(depth, width)
  shape = (count, side, side, 3)
  x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  fresh = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
  nested = {key: {'resnet': tree} for key, tree in fresh.items()}
  filled, _ = start_trunk(path, nested, 'fpn')
  variables = {key: tree['resnet'] for key, tree in filled.items()}
  found, _ = run(model, variables, x, train=False)
  with torch.no_grad():
    expected = theirs(nchw(x))
  for name, value in found.items():
    reference = nhwc(expected[name])
    assert reference.std() > 0.1
    # Random normalisations let some maps grow to hundreds.
    tolerance = 1e-4 * max(1, reference.std())
    np.testing.assert_allclose(value, reference, atol=tolerance, rtol=0)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('depth', [18, 50])
def test_resnet(depth, form, tmp_path):
  torch.manual_seed(depth)
  theirs = torch_networks.randomise(torch_networks.ResNet(depth, 16), 1).eval()
  check_resnet(theirs, save(theirs, tmp_path / form), depth, 16)


@pytest.mark.parametrize('depth', [18, 50])
def test_torchvision_resnet(depth, tmp_path):
  """Its own file; the names of `torch_networks` are checked against it."""
  torchvision = pytest.importorskip('torchvision')
  extraction = pytest.importorskip('torchvision.models.feature_extraction')
  torch.manual_seed(depth)
  library = getattr(torchvision.models, f'resnet{depth}')(weights=None).eval()
  torch_networks.randomise(library, 1)
  path = save(library, tmp_path / 'weights.pth')
  names = {f'layer{i}': f'c{i + 1}' for i in range(1, 5)}
  theirs = extraction.create_feature_extractor(library, names)
  check_resnet(theirs, path, depth, 64)


def to_mmpose(network, version):
  """The state_dict of a SimpleBaselines under mmpose's names."""
  head = ('keypoint_head', 'head')[version]

  def rename(key):
    match = re.match(r'deconv(_bn)?(\d)\.(.*)', key)
    if match:
      number = 3 * (int(match[2]) - 1) + bool(match[1])
      return f'{head}.deconv_layers.{number}.{match[3]}'
    key = re.sub(r'^resnet\.', 'backbone.', key)
    return re.sub(r'^heatmaps\.', f'{head}.final_layer.', key)

  return {rename(key): value for key, value in network.state_dict().items()}


@pytest.mark.parametrize('old', [False, True])
@pytest.mark.parametrize('version', [0, 1])
@pytest.mark.parametrize('depth, n', [(18, 4), (50, 6)])
def test_mmpose(depth, n, version, old, tmp_path):
  torch.manual_seed(depth)
  theirs = torch_networks.SimpleBaselines(depth, 16, 24, n)
  torch_networks.randomise(theirs, 1).eval()
  state = {'meta': {'epoch': 210}, 'state_dict': to_mmpose(theirs, version)}
  path = tmp_path / 'res.pth'
  torch.save(state, path, _use_new_zipfile_serialization=not old)
  convert.convert(path, tmp_path / 'W')
  config = trained.get_config(str(tmp_path / 'W'))
  assert config.model.backbone == f'resnet{depth}'
  assert config.model.trunk.width == 16
  ((only,), _) = store.load_cascade(config, resolve(config), tmp_path / 'W')
  x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
  model = SimpleBaselines(n, ResNet(depth, 16), 24)
  assert only.model == model
  found, _ = run(model, only.networks['all'], {'image': x}, train=False)
  with torch.no_grad():
    expected = nhwc(theirs(nchw(x))['heatmaps'])
  assert expected.std() > 0.1
  np.testing.assert_allclose(found['heatmaps'], expected, atol=1e-4, rtol=1e-4)


def test_files_of_the_repository_are_what_pytorch_reads():
  """So `test_torch_files` expects what PyTorch would give."""
  folder = pathlib.Path(__file__).parent / 'torch_files'
  for name in ('weights_zip.pth', 'weights_old.pth'):
    theirs = torch.load(folder / name, weights_only=True)
    ours = torch_files.read(folder / name)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
      value = value.detach()
      half = value.dtype in (torch.float16, torch.bfloat16)
      value = (value.float() if half else value).numpy()
      assert ours[key].dtype == value.dtype
      np.testing.assert_array_equal(ours[key], value)


def test_other_tensors_that_pytorch_saves(tmp_path):
  """Newer dtypes and whole models."""
  path = tmp_path / 'x.pth'
  torch.save({'x': torch.ones(3, dtype=torch.uint16)}, path)
  assert torch_files.read(path)['x'].tolist() == [1, 1, 1]
  for kind in (torch.complex64, torch.float8_e4m3fn):
    torch.save({'x': torch.ones(3).to(kind)}, path)
    with pytest.raises(InputError, match='x.pth.* known here'):
      torch_files.read(path)
  old = {'_use_new_zipfile_serialization': False}
  for options in ({}, old):
    torch.save(torch.nn.Linear(1, 1), path, **options)
    with pytest.raises(InputError, match='holds no dict, must hold a state_d'):
      torch_files.read(path)
