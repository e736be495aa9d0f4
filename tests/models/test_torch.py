"""Our networks against PyTorch's, with the same weights.

PyTorch is not among what the tests install: `EXTRAS=torch launch/test.sh`.
"""

import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from places import ROOT

from fld_jax.models.layers import (
  Deconv,
  adaptive_average_pool,
  max_pool_3x3,
)
from fld_jax.models.resnet import ResNet
from fld_jax.models.simple_baselines import SimpleBaselines
from fld_jax.models.top_down import TopDown
from fld_jax.runtime.parallel import AXIS

torch = pytest.importorskip('torch', reason='PyTorch is not installed')

import torch_networks  # noqa: E402
from torch_networks import nchw, nhwc, run  # noqa: E402


@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('depth', [18, 50])
def test_resnet(depth, train):
  torch.manual_seed(depth)
  theirs = torch_networks.randomise(torch_networks.ResNet(depth, 16), 1)
  compare(theirs, ResNet(depth, 16), train, depth, lambda x: x)


@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('depth', [18, 50])
def test_simple_baselines(depth, train):
  torch.manual_seed(depth)
  theirs = torch_networks.SimpleBaselines(depth, 16, 24)
  torch_networks.randomise(theirs, 1)
  model = SimpleBaselines(backbone=ResNet(depth, 16), channels=24)
  compare(theirs, model, train, depth, lambda x: {'image': x})


@pytest.mark.parametrize('train', [False, True])
def test_top_down_on_lite0(train):
  torch.manual_seed(0)
  theirs = torch_networks.randomise(torch_networks.TopDown(24), 1)
  model = TopDown(channels=24)
  compare(theirs, model, train, 0, lambda x: {'image': x})


@pytest.mark.parametrize(
  'arguments',
  [
    '--network=dfa --width=24 --size=64',
    '--network=detector --size=64',
    '--network=simple_baselines --size=64',
  ],
)
def test_the_benchmark_compares_the_same_networks(arguments, monkeypatch):
  """`benchmarks/pytorch.py speed` leaves with an error where they differ."""
  monkeypatch.setattr(sys, 'argv', ['pytorch.py'])
  benchmark = runpy.run_path(str(ROOT / 'benchmarks' / 'pytorch.py'))
  found = benchmark['read_arguments'](
    ['speed', '--only=check', '--batch_size=4', *arguments.split()]
  )
  config = benchmark['make_config'](found)
  assert max(benchmark['check_equal'](config).values()) < 1e-4


def compare(theirs, model, train, depth, as_input):
  """Outputs to 1e-4 in float32; in train mode of ResNet-50 to 1e-6 in float64.

  There 53 divisions by deviations of a small batch put PyTorch's own float32 up
  to 6e-4 from its float64.
  """
  theirs.train(train)
  x = np.random.default_rng(0).normal(size=(3, 96, 64, 3)).astype(np.float32)
  double = train and depth == 50
  variables = torch_networks.to_variables(theirs)
  if double:
    theirs, model = theirs.double(), model.clone(dtype=jnp.float64)
    if hasattr(model, 'backbone'):
      model = model.clone(backbone=model.backbone.clone(dtype=jnp.float64))
    x = x.astype(np.float64)
  expected = {k: nhwc(v) for k, v in theirs(nchw(x)).items()}
  with jax.enable_x64(double):
    found, mutated = run(model, variables, as_input(x), train)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert found[name].shape == value.shape
    assert np.abs(value).max() > 0.1  # the tolerance means something
    tolerance = 1e-6 * np.abs(value).max() if double else 1e-4
    np.testing.assert_allclose(found[name], value, atol=tolerance, rtol=0)
  if train and 'layer4_1' in mutated['batch_stats']:
    ours = mutated['batch_stats']['layer4_1']['bn1']
    bn = theirs.layer4[1].bn1
    np.testing.assert_allclose(ours['mean'], bn.running_mean, atol=1e-4)
    # PyTorch's running variance has the factor n / (n - 1); the 9 / 10 of the
    # first one are alike.
    count = 3 * 3 * 2
    old = 0.9 * variables['batch_stats']['layer4_1']['bn1']['var']
    theirs_var = old + (bn.running_var.numpy() - old) * (count - 1) / count
    np.testing.assert_allclose(ours['var'], theirs_var, rtol=1e-3)


def test_gradients_of_simple_baselines():
  torch.manual_seed(0)
  theirs = torch_networks.SimpleBaselines(18, 8, 8).train()
  variables = torch_networks.to_variables(theirs)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(4, 64, 64, 3)).astype(np.float32)
  target = rng.normal(size=(4, 16, 16, 8)).astype(np.float32)
  ((theirs(nchw(x))['heatmaps'] - nchw(target)) ** 2).mean().backward()
  model = SimpleBaselines(backbone=ResNet(18, 8), channels=8)

  def loss(params):
    apply = lambda x: model.apply(
      {**variables, 'params': params},
      {'image': x},
      train=True,
      mutable=['batch_stats'],
    )[0]
    outputs = jax.vmap(apply, axis_name=AXIS)(x[None])
    return jnp.mean((outputs['heatmaps'][0] - target) ** 2)

  found = jax.grad(loss)(variables['params'])
  for module in theirs.modules():  # a gradient takes its weight's place
    for weight in module.parameters(recurse=False):
      weight.data = weight.grad
  expected = torch_networks.to_variables(theirs)['params']
  flat = jax.tree_util.tree_leaves_with_path
  for (path, a), (_, b) in zip(flat(found), flat(expected), strict=True):
    scale = max(1e-3, np.abs(b).max())
    name = jax.tree_util.keystr(path)
    np.testing.assert_allclose(a / scale, b / scale, atol=2e-3, err_msg=name)


def test_weights_go_there_and_back():
  torch.manual_seed(0)
  theirs = torch_networks.randomise(torch_networks.SimpleBaselines(50, 8, 8), 1)
  variables = torch_networks.to_variables(theirs)
  model = SimpleBaselines(backbone=ResNet(50, 8), channels=8)
  shapes = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), {'image': np.zeros((1, 64, 64, 3))}, train=False
    )
  )
  jax.tree.map(lambda a, b: a.shape == b.shape or 1 / 0, variables, shapes)
  other = torch_networks.SimpleBaselines(50, 8, 8)
  torch_networks.load_variables(other, variables)
  for name, value in theirs.state_dict().items():
    assert torch.equal(value, other.state_dict()[name]), name


def test_reference_is_torchvision():
  """The oracle itself loads torchvision's weights and agrees with it."""
  torchvision = pytest.importorskip('torchvision')
  x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
  for depth in (18, 50):
    library = getattr(torchvision.models, f'resnet{depth}')(weights=None).eval()
    ours = torch_networks.ResNet(depth).eval()
    state = library.state_dict()
    state = {k: v for k, v in state.items() if not k.startswith('fc.')}
    ours.load_state_dict(state, strict=True)
    expected = library.fc(ours(x)['c5'].mean((2, 3)))
    torch.testing.assert_close(library(x), expected)


@pytest.mark.parametrize('size', [(5, 7), (8, 6)])
def test_max_pool(size):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 3)).astype(np.float32)
  weight = None
  theirs = nchw(x).requires_grad_()
  expected = torch.nn.functional.max_pool2d(theirs, 3, 2, 1)
  weight = rng.normal(size=nhwc(expected).shape).astype(np.float32)
  (expected * nchw(weight)).sum().backward()
  np.testing.assert_array_equal(max_pool_3x3(x), nhwc(expected))
  gradient = jax.grad(lambda x: (max_pool_3x3(x) * weight).sum())(x)
  np.testing.assert_allclose(gradient, nhwc(theirs.grad), atol=1e-6)


def test_deconvolution():
  theirs = torch.nn.ConvTranspose2d(5, 6, 4, 2, 1, bias=False)
  x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
  kernel = theirs.weight.flip(2, 3).permute(2, 3, 0, 1).detach().numpy()
  found = Deconv(6).apply({'params': {'kernel': kernel}}, x)
  np.testing.assert_allclose(found, nhwc(theirs(nchw(x))), atol=1e-5)


@pytest.mark.parametrize('size', [(2, 3), (7, 7), (16, 9)])
def test_adaptive_average_pool(size):
  x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
  expected = torch.nn.functional.adaptive_avg_pool2d(nchw(x), 7)
  found = adaptive_average_pool(x, 7)
  np.testing.assert_allclose(found, nhwc(expected), atol=1e-6)
