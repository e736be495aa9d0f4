"""Networks: golden sizes, shapes, dropout. Large ones are never allocated."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from classifiers import ResNetClassifier, VGGClassifier

from fld_jax.errors import InputError
from fld_jax.landmark_sets import Tree
from fld_jax.models import NETWORKS, TRUNKS
from fld_jax.models.dfa import DFA
from fld_jax.models.fashionnet import FashionNet
from fld_jax.models.layers import (
  BatchNorm,
  Dropout,
  VisibilityHead,
  at_peaks,
  max_pool_2x2,
)
from fld_jax.models.resnet import ResNet
from fld_jax.models.vgg import VGG
from fld_jax.ops import cpu_kernels
from fld_jax.runtime.parallel import AXIS

# All convolutions of VGG-16 with biases, and its 13 layers' channels in sum.
CONVS = 14_714_688
CHANNELS = 2 * 64 + 2 * 128 + 3 * 256 + 3 * 512 + 3 * 512
FC6 = 7 * 7 * 512 * 4096 + 4096
HEADS = 4097 * (2 * 8 + 3 * 8 + 20)


def batch_of(batch, size, landmarks=8):
  return {
    'image': jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32),
    'estimate': jax.ShapeDtypeStruct((batch, landmarks, 2), jnp.float32),
    'example_index': jax.ShapeDtypeStruct((batch,), jnp.int32),
  }


def shapes(model, size=224, batch=2):
  """Outputs and variables, as shapes."""
  inputs = batch_of(batch, size)
  return jax.eval_shape(
    lambda key, x: model.init_with_output(key, x, train=False),
    jax.random.key(0),
    inputs,
  )


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


# torchvision's ResNets less their fc.
RESNET18, RESNET50 = 11_689_512 - 513_000, 25_557_032 - 2_049_000
# Pooled 7x7 maps, two hidden layers, 2 coordinates and 3 states a landmark.
POSE = (49 * 512 + 1) * 1024 + 1025 * 1024 + 1025 * 8 * 5
RESNET_POSE = POSE + 49 * (2048 - 512) * 1024 - 2 * 1024 + 4 * 1024
DECONVS = 16 * 256 * (2048 + 256 + 256) + 3 * 2 * 256 + 257 * 8
# Lateral 1x1; 4 + 4 + 1 of 3x3; five normalisations; 1x1.
PYRAMID = 256 * (256 + 512 + 1024 + 2048 + 4) + 9 * (9 * 256 + 1) * 256
PYRAMID += 5 * 2 * 256 + 257 * 8
# The counts of the published EfficientNet-Lites.
LITE = (4_652_008, 5_416_680, 6_092_072)
LITE_HEAD = 320 * 1280 + 2 * 1280 + 1281 * 1000
# 16 channels a landmark at 7x7 cells, 256 hidden, two bins a pixel of 224.
SIMCC = (9 * 320 + 2) * 128 + (49 * 16 + 1) * 256 + 257 * 2 * 448
# Laterals from 24, 40, 112 and 320 channels to 64, three 3x3 convolutions with
# normalisation, and the output.
TOP_DOWN = (24 + 40 + 112 + 320 + 4) * 64 + 3 * (9 * 64 * 64 + 2 * 64) + 65 * 8
# Eight landmarks alone: own features of conv4_3, one step of both directions'
# recurrence, and a map of both states.
FGN = 513 * 8 * 64 + 2 * (9 * 64 * 192 + 192 + 64) + 8 * (2 * 64 + 1)
# Laterals from 512, 512 and 256 channels, two 3x3 convolutions, one more, each
# with normalisation; nine classes, 13 types of 14 relations; the tree's weights
# of parts, relations and types in x and y; the head of visibility.
IDPR = 256 * (512 + 512 + 256 + 3) + 3 * (9 * 256 + 2) * 256
IDPR += 257 * (9 + 14 * 13) + 8 + 14 + 14 * 13 * 4 + (8 * 256 + 8 * 513) * 3
# Of the last map's 320 channels and eight landmarks' 112, a layer of 512.
ATTRIBUTES = (320 + 8 * 112 + 1) * 512 + 513 * 26
GOLDEN = {
  'attributes': LITE[0] - LITE_HEAD + TOP_DOWN + ATTRIBUTES,
  'deeppose': CONVS + FC6 + (4096 * 4096 + 4096) + 4097 * (2 * 8 + 3 * 8),
  'dfa': CONVS + FC6 + (4096 * 4096 + 4096) + HEADS,
  # Reductions to 256 channels, two 3x3 kernels; 8x8 samples of both, memory,
  # landmarks, window and states; layers a landmark.
  'dlan': CONVS
  + 2 * ((512 + 1) * 256 + (9 * 256 + 1) * 256)
  + (64 * 512 + 1) * 1024
  + 1025 * (1024 + 2 * 8 + 3 + 3 * 8)
  + 8 * ((64 * 512 + 1) * 64 + 65 * (2 + 3)),
  'fashionnet': CONVS + POSE,
  'fgn': CONVS + FGN,
  'fpn': RESNET50 + PYRAMID,
  'simple_baselines': RESNET50 + DECONVS,
  'idpr': CONVS + IDPR,
  # Without the classifier's 1x1 convolution, normalisation and matrix.
  'simcc': LITE[0] - LITE_HEAD + SIMCC,
  'top_down': LITE[0] - LITE_HEAD + TOP_DOWN,
}


@pytest.mark.parametrize(
  'depth, golden',
  [
    (18, 11_689_512),
    (34, 21_797_672),
    (50, 25_557_032),
    (101, 44_549_160),
    (152, 60_192_808),
  ],
)
def test_resnet(depth, golden):
  """The counts that torchvision documents."""
  outputs, variables = shapes(ResNetClassifier(ResNet(depth)))
  assert count(variables['params']) == golden
  assert outputs['logits'].shape == (2, 1000)
  inputs = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
  maps, _ = jax.eval_shape(
    lambda key, x: ResNet(depth).init_with_output(key, x, train=False),
    jax.random.key(0),
    inputs,
  )
  last = 512 if depth < 50 else 2048
  assert {name: leaf.shape for name, leaf in maps.items()} == {
    'c2': (2, 16, 24, last // 8),
    'c3': (2, 8, 12, last // 4),
    'c4': (2, 4, 6, last // 2),
    'c5': (2, 2, 3, last),
  }


def test_unknown_depth():
  with pytest.raises(InputError, match='ResNet is 20, .* 18, 34, 50, 101, 152'):
    shapes(ResNetClassifier(ResNet(depth=20)))


@pytest.mark.parametrize('name', ['fpn', 'simple_baselines'])
def test_heatmaps_have_a_quarter_of_the_side(name):
  model = NETWORKS[name](
    num_landmarks=5, backbone=ResNet(18, width=8), channels=8
  )
  outputs, _ = shapes(model, size=96)
  assert {k: v.shape for k, v in outputs.items()} == {
    'heatmaps': (2, 24, 24, 5)
  }


def test_regression_on_both_trunks():
  for backbone in (VGG(blocks=((1, 8),)), ResNet(18, width=8)):
    model = FashionNet(num_landmarks=5, backbone=backbone, hidden=8)
    outputs, _ = shapes(model, size=64)
    assert {k: v.shape for k, v in outputs.items()} == {
      'landmarks': (2, 5, 2),
      'visibility': (2, 5, 3),
    }


NARROW = {'vgg16': {'blocks': ((1, 4), (1, 8), (1, 8), (1, 8), (1, 8))}}
OWN = {
  'attributes': {
    'channels': 8,
    'hidden': 8,
    'num_attributes': 3,
    'visibility': True,
  },
  'deeppose': {'hidden': 8},
  'dfa': {'hidden': 16, 'use_estimate': True},
  'dlan': {'hidden': 8, 'channels': 8},
  'fashionnet': {'hidden': 8},
  'fgn': {
    'channels': 8,
    'state': 4,
    'visibility': True,
    'num_categories': 2,
    'grammars': (((0, 1, 2), (3, 1)), ((4, 0),)),
  },
  'fpn': {'channels': 8, 'visibility': True},
  'idpr': {
    'channels': 8,
    'num_types': 2,
    'tree': Tree(tuple('abcde'), (-1, 0, 0, 1, 1)),
  },
  'simcc': {'channels': 4, 'hidden': 8, 'visibility': True},
  'simple_baselines': {'channels': 8, 'visibility': True},
  'top_down': {'channels': 8, 'visibility': True},
}


@pytest.mark.parametrize('trunk', TRUNKS)
def test_every_network_on_every_trunk(trunk):
  assert set(OWN) == set(NETWORKS)
  kind, fixed = TRUNKS[trunk]
  backbone = kind(**fixed, **NARROW.get(trunk, {'width': 4}))
  alone = jax.eval_shape(
    lambda x: backbone.init(jax.random.key(0), x, train=True),
    jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32),
  )
  # The larger ones of a family have the same maps, which take long to trace.
  larger = trunk in ('resnet34', 'resnet101', 'resnet152') or trunk[-1] in '12'
  for name in ('dfa', 'top_down') if larger else OWN:
    model = NETWORKS[name](num_landmarks=5, backbone=backbone, **OWN[name])
    inputs = batch_of(2, 64, landmarks=5)
    outputs, variables = jax.eval_shape(
      lambda x, model=model: model.init_with_output(
        {'params': jax.random.key(0), 'dropout': jax.random.key(1)},
        x,
        train=True,
      ),
      inputs,
    )
    expected = {'heatmaps': (2, 16, 16, 5), 'visibility': (2, 5, 3)}
    if name == 'fgn':
      expected = {
        'heatmaps': (2, 8, 8, 5),
        'heatmap_logits': (2, 8, 8, 5),
        'visibility': (2, 5, 3),
        'category': (2, 2),
      }
    if name == 'attributes':
      expected['attributes'] = (2, 3)
    if name == 'simcc':
      expected = {'bins': (2, 5, 2, 128), 'visibility': (2, 5, 3)}
    if name in ('deeppose', 'dfa', 'dlan', 'fashionnet', 'idpr'):
      expected = {'landmarks': (2, 5, 2), 'visibility': (2, 5, 3)}
    assert {k: v.shape for k, v in outputs.items() if k in expected} == expected
    # The trunk is all there, under its own name and nothing under another.
    assert 'backbone' not in variables['params']
    own = {k: v[backbone.tree_name] for k, v in variables.items() if k in alone}
    if name not in ('fpn', 'top_down'):
      assert own == alone
    else:
      assert own['params'] == alone['params']


def test_idpr_on_maps_of_both_strides():
  """What is measured is no parameter; each edge has two relations."""
  for stride, side in ((4, 16), (8, 8)):
    model = NETWORKS['idpr'](
      backbone=ResNet(18, width=4), stride=stride, channels=8, num_clusters=3
    )
    outputs, variables = shapes(model, size=64)
    assert outputs['parts'].shape == (2, side, side, 9)
    assert outputs['relations'].shape == (2, side, side, 14, 13)
    assert outputs['types'].shape == (2, 14, 13, side, side)
    assert outputs['pseudo_label'].shape == (2, 3)
    measured = {k: v.shape for k, v in variables['relations'].items()}
    assert measured == {'displacements': (14, 13, 2), 'spreads': (14,)}
  with pytest.raises(InputError, match='stride is 5, valid values are 4, 8'):
    shapes(NETWORKS['idpr'](stride=5), size=64)


@pytest.mark.parametrize(
  ('network', 'maps'),
  [
    ('fpn', 'c5, c4, c3, c2'),
    ('top_down', 'c5, c4, c3, c2'),
    ('simple_baselines', 'c5'),
  ],
)
def test_a_trunk_that_lacks_a_map(network, maps):
  backbone = VGG(blocks=((1, 4),) * 4)
  model = NETWORKS[network](backbone=backbone)
  who = type(model).__name__
  with pytest.raises(InputError, match=f'{who} .* {maps} .* VGG has c1, .*c4 '):
    shapes(model, size=64)
  model = NETWORKS[network](backbone=VGG(blocks=((1, 4),) * 5), channels=4)
  with pytest.raises(InputError, match=f'is 48, and {who} .* c5 of VGG.* 32'):
    shapes(model, size=48)


def test_every_model_has_the_golden_count():
  assert (FC6, HEADS) == (102_764_544, 245_820)
  assert set(GOLDEN) == set(NETWORKS)
  for name, golden in GOLDEN.items():
    _, variables = shapes(NETWORKS[name]())
    assert count(variables['params']) == golden, name
  _, variables = shapes(FashionNet(backbone=ResNet(50)))
  assert count(variables['params']) == RESNET50 + RESNET_POSE


def test_vgg16():
  outputs, variables = shapes(VGGClassifier())
  assert count(variables['params']) == 138_357_544
  assert outputs['logits'].shape == (2, 1000)


def test_vgg16_convolutions_with_and_without_batch_norm():
  for batch_norm, expected in (
    (False, CONVS),
    (True, CONVS + CHANNELS),  # no bias, but a scale and an offset
  ):
    model = VGG(batch_norm=batch_norm)
    inputs = jax.ShapeDtypeStruct((2, 96, 64, 3), jnp.float32)
    maps, variables = jax.eval_shape(
      lambda key, x, model=model: model.init_with_output(key, x, train=False),
      jax.random.key(0),
      inputs,
    )
    assert count(variables['params']) == expected
    assert {name: leaf.shape for name, leaf in maps.items()} == {
      'c1': (2, 48, 32, 64),
      'd1': (2, 48, 32, 128),
      'c2': (2, 24, 16, 128),
      'd2': (2, 24, 16, 256),
      'c3': (2, 12, 8, 256),
      'd3': (2, 12, 8, 512),
      'c4': (2, 6, 4, 512),
      'd4': (2, 6, 4, 512),
      'c5': (2, 3, 2, 512),
    }
    statistics = count(variables.get('batch_stats', {}))
    assert statistics == (2 * CHANNELS if batch_norm else 0)


def test_dfa_that_sees_an_estimate():
  outputs, variables = shapes(DFA(use_estimate=True))
  fc_pre, fc7 = (2 * 8 + 1) * 512, (4096 + 512 + 1) * 4096
  assert count(variables['params']) == CONVS + FC6 + fc_pre + fc7 + HEADS
  assert variables['params']['fc7']['kernel'].shape == (4608, 4096)
  assert {k: v.shape for k, v in outputs.items()} == {
    'landmarks': (2, 8, 2),
    'visibility': (2, 8, 3),
    'features': (2, 4096),
    'pseudo_label': (2, 20),
    'pseudo_label_logits': (2, 20),
  }


def test_dfa_without_pseudo_labels_and_with_other_landmarks():
  model = DFA(
    num_landmarks=24,
    num_clusters=0,
    backbone=VGG(blocks=((1, 8),)),
    hidden=16,
  )
  outputs, variables = shapes(model, size=16)
  # 3x3 convolution, fc6 of 8x8 cells, fc7, positions and visibilities.
  expected = (27 + 1) * 8 + (512 + 1) * 16 + 17 * 16 + 17 * 24 * (2 + 3)
  assert count(variables['params']) == expected
  assert {k: v.shape for k, v in outputs.items()} == {
    'landmarks': (2, 24, 2),
    'visibility': (2, 24, 3),
  }


def test_bfloat16_leaves_parameters_and_outputs_in_float32():
  model = DFA(
    use_estimate=True,
    backbone=VGG(batch_norm=True, dtype=jnp.bfloat16),
    dtype=jnp.bfloat16,
  )
  for leaf in jax.tree.leaves(shapes(model)):
    assert leaf.dtype == jnp.float32


# Dropout.


def drop(x, positions, rate=0.5, train=True, seed=0):
  return np.asarray(
    Dropout(rate).apply(
      {},
      x,
      jnp.asarray(positions),
      train,
      rngs={'dropout': jax.random.key(seed)},
    )
  )


def test_dropout_follows_the_example_and_not_the_batch():
  ones = np.ones((8, 200), np.float32)
  whole = drop(ones, range(8))
  np.testing.assert_array_equal(drop(ones[3:5], [3, 4]), whole[3:5])
  np.testing.assert_array_equal(drop(ones, range(7, -1, -1)), whole[::-1])
  for i in range(8):
    for j in range(i):
      assert (whole[i] != whole[j]).any()
  assert (drop(ones, range(8), seed=1) != whole).any()


@pytest.mark.parametrize('rate', [0.1, 0.5])
def test_dropout_keeps_the_mean(rate):
  out = drop(np.ones((64, 400), np.float32), range(64), rate)
  np.testing.assert_allclose(np.unique(out), [0, 1 / (1 - rate)], rtol=1e-6)
  # Five standard deviations of the mean of 64 * 400 entries.
  spread = 5 * (rate / (1 - rate) / out.size) ** 0.5
  np.testing.assert_allclose(out.mean(), 1, atol=spread)


def test_dropout_is_off_in_evaluation_and_at_rate_0():
  x = np.arange(6, dtype=np.float32).reshape(2, 3)
  np.testing.assert_array_equal(drop(x, [0, 1], train=False), x)
  np.testing.assert_array_equal(drop(x, [0, 1], rate=0.0), x)


# The small DFA: fc6 (16) and fc_pre (2) are joined before ReLU and dropout.


@pytest.fixture(scope='module')
def fc7_of():
  """fc7_of(fc6, fc_pre, train): fc7's result, if both layers are constant.

  fc7 is set to hand through its last two inputs and its first fourteen.
  """
  model = DFA(
    use_estimate=True,
    backbone=VGG(blocks=((1, 4),)),
    hidden=16,
    num_clusters=0,
  )
  batch = {
    key: np.zeros(leaf.shape, leaf.dtype)
    for key, leaf in batch_of(20, 4).items()
  }
  batch['example_index'] = np.arange(20, dtype=np.int32)
  _, zeros = shapes(model, size=4, batch=20)
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), zeros)

  @jax.jit
  def apply(params):
    return [
      model.apply(
        {'params': params},
        batch,
        train=train,
        rngs={'dropout': jax.random.key(3)},
        capture_intermediates=lambda module, _: module.name == 'fc7',
      )[1]['intermediates']['fc7']['__call__'][0]
      for train in (False, True)
    ]

  def run(fc6, fc_pre):
    params = jax.tree.map(np.copy, zeros['params'])
    params['fc6']['bias'][:] = fc6
    params['fc_pre']['bias'][:] = fc_pre
    params['fc7']['kernel'][16:, :2] = np.eye(2)
    params['fc7']['kernel'][:14, 2:] = np.eye(14)
    evaluated, trained = map(np.asarray, apply(params))
    return (evaluated[:, 2:], evaluated[:, :2]), (
      trained[:, 2:],
      trained[:, :2],
    )

  return run


def test_relu_acts_on_fc6_and_on_fc_pre(fc7_of):
  (fc6, fc_pre), _ = fc7_of(fc6=3.0, fc_pre=-2.0)
  assert (fc6 == 3).all() and (fc_pre == 0).all()
  (fc6, fc_pre), _ = fc7_of(fc6=-3.0, fc_pre=2.0)
  assert (fc6 == 0).all() and (fc_pre == 2).all()


def test_dropout_acts_on_fc6_and_on_fc_pre(fc7_of):
  _, (fc6, fc_pre) = fc7_of(fc6=3.0, fc_pre=2.0)
  np.testing.assert_array_equal(np.unique(fc6), [0, 6])
  np.testing.assert_array_equal(np.unique(fc_pre), [0, 4])


def test_max_pool_is_that_of_linen_in_value_and_gradient():
  x = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))

  def pooled(pool):
    # A weight an entry, so that each output's gradient can be told apart.
    weight = jnp.arange(2 * 3 * 3 * 3.0).reshape(2, 3, 3, 3)
    return jax.value_and_grad(lambda y: jnp.sum(weight * pool(y)))(x)

  linen = pooled(lambda y: nn.max_pool(y, (2, 2), (2, 2)))
  ours = pooled(max_pool_2x2)
  np.testing.assert_allclose(ours[0], linen[0], rtol=1e-6)
  np.testing.assert_array_equal(ours[1], linen[1])


@pytest.mark.parametrize('devices', [1, 2])
@pytest.mark.parametrize('shape', [(4, 5, 6, 3), (8, 3)])
@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize(
  'forms', [contextlib.nullcontext, cpu_kernels.portable], ids=['cpu', 'other']
)
def test_batch_norm_is_that_of_linen_in_value_and_gradient(
  shape, train, devices, forms
):
  """Shares of devices, against the whole batch in Linen."""
  rng = np.random.default_rng(0)
  x = rng.normal(2, 3, shape).astype(np.float32)
  weight = rng.normal(size=shape).astype(np.float32)
  draw = lambda: rng.uniform(0.5, 1.5, 3).astype(np.float32)
  params = {'scale': draw(), 'bias': draw()}
  stats = {'mean': draw(), 'var': draw()}
  linen = nn.BatchNorm(momentum=0.9, use_fast_variance=False)

  def outcome(apply, x, weight):
    """Value, gradients of the parameters and of x, running statistics."""

    def loss(params, x):
      out, mutated = apply({'params': params, 'batch_stats': stats}, x)
      return jnp.sum(out * weight), (out, mutated)

    (_, (out, mutated)), (of_params, of_x) = jax.value_and_grad(
      loss, argnums=(0, 1), has_aux=True
    )(params, x)
    return out, of_x, of_params, mutated

  def share(x, weight):
    """As in a train step: the gradient is a device's, then summed."""
    out, of_x, of_params, mutated = outcome(
      lambda v, x: BatchNorm().apply(v, x, train, mutable=['batch_stats']),
      x,
      weight,
    )
    return out, of_x, jax.lax.psum(of_params, AXIS), mutated

  expected = outcome(
    lambda v, x: linen.apply(
      v, x, use_running_average=not train, mutable=['batch_stats']
    ),
    x,
    weight,
  )
  split = lambda x: x.reshape(devices, -1, *shape[1:])
  with forms():
    found = jax.vmap(share, axis_name=AXIS)(split(x), split(weight))
  whole = [y.reshape(shape) for y in found[:2]]
  same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  jax.tree.map(same, whole, list(expected[:2]))
  for device in range(devices):
    own = jax.tree.map(lambda y: y[device], found[2:])  # noqa: B023
    jax.tree.map(same, own, expected[2:])


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_batch_norm_of_half_precision_keeps_no_float32_for_the_gradient(dtype):
  """As exact as Linen's, of arrays that are half as large."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(2, 3, (512, 8)), dtype)
  weight = rng.normal(size=x.shape).astype(np.float32)
  layer = BatchNorm(dtype)
  stats = {'mean': np.zeros(8), 'var': np.ones(8)}
  params = {'scale': rng.uniform(0.5, 1.5, 8), 'bias': rng.normal(size=8)}
  params, stats = jax.tree.map(np.float32, (params, stats))

  def outcome(layer, x, **options):
    def loss(params, x):
      variables = {'params': params, 'batch_stats': stats}
      out, _ = layer.apply(variables, x, mutable=['batch_stats'], **options)
      return jnp.sum(out * weight)

    return jax.grad(loss, argnums=(0, 1))(params, x)

  with cpu_kernels.portable():
    apply = lambda x: layer.apply(
      {'params': params, 'batch_stats': stats}, x, True, mutable=['batch_stats']
    )[0]
    alone = lambda f: jax.vmap(f, axis_name=AXIS)(x[None])
    kept = alone(lambda x: jax.tree.leaves(jax.vjp(apply, x)[1]))
    large = [y.dtype for y in kept if y.size == x.size]
    assert large and set(large) == {jnp.dtype(dtype)}
    found = alone(lambda x: outcome(layer, x, train=True))
  linen = nn.BatchNorm(use_running_average=False, use_fast_variance=False)
  expected = outcome(linen, x.astype(jnp.float32))
  assert found[1].dtype == dtype
  close = lambda a, b, **tolerance: np.testing.assert_allclose(
    np.float32(a[0]), b, **tolerance
  )
  # The rounding of gradients of size 1 to 8 bits.
  close(found[1], expected[1], atol=0.01)
  for name in ('scale', 'bias'):
    close(found[0][name], expected[0][name], rtol=1e-2, atol=0.3)


@pytest.mark.parametrize('devices', [1, 4])
def test_batch_norm_of_a_large_mean_is_exact(devices):
  """E[x^2] - E[x]^2 in float32 would be off, were it not about that mean."""
  x = np.random.default_rng(0).normal(100, 0.1, (4096, 3)).astype(np.float32)
  x += np.repeat(np.arange(4), 1024)[:, None] / 100  # shares differ
  wide = x.astype(np.float64)
  stats = {'mean': np.full(3, 99.0), 'var': np.ones(3)}
  params = {'scale': np.ones(3), 'bias': np.zeros(3)}
  variables = jax.tree.map(np.float32, {'params': params, 'batch_stats': stats})
  found = jax.vmap(
    lambda x: BatchNorm().apply(variables, x, True, mutable=['batch_stats'])[0],
    axis_name=AXIS,
  )(x.reshape(devices, -1, 3))
  expected = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5)
  np.testing.assert_allclose(found.reshape(-1, 3), expected, atol=2e-3)


def test_visibility_is_read_at_the_peak_and_from_the_mean():
  """In NumPy, landmark by landmark; no gradient leaves the head."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  x, maps, last = draw(2, 4, 4, 6), draw(2, 4, 4, 3), draw(2, 2, 3, 5)
  head = VisibilityHead(3)
  found = at_peaks(x, maps)
  params = {
    'own_kernel': draw(3, 6, 3),
    'mean': {'kernel': draw(5, 9), 'bias': draw(9)},
  }
  logits = head.apply({'params': params}, found, last)
  for b in range(2):
    mean = last[b].reshape(-1, 5).mean(axis=0)
    whole = (mean @ params['mean']['kernel'] + params['mean']['bias']).reshape(
      3, 3
    )
    for n in range(3):
      row, column = np.unravel_index(maps[b, :, :, n].argmax(), (4, 4))
      own = x[b, row, column] @ params['own_kernel'][n]
      np.testing.assert_allclose(logits[b, n], whole[n] + own, rtol=1e-5)
  total = lambda *inputs: jnp.sum(head.apply({'params': params}, *inputs) ** 2)
  for gradient in jax.grad(total, argnums=(0, 1))(found, last):
    assert not np.any(gradient)


@pytest.mark.parametrize('name', ['simple_baselines', 'top_down'])
def test_the_head_of_visibility_changes_no_first_weight(name):
  image = jnp.zeros((1, 32, 32, 3))

  def draw(visibility):
    model = NETWORKS[name](
      num_landmarks=5,
      backbone=VGG(blocks=((1, 4),) * 5, batch_norm=True),
      channels=4,
      visibility=visibility,
    )
    return model.init(jax.random.key(0), {'image': image}, train=False)

  params = draw(True)['params']
  assert params.pop('visibility')
  jax.tree.map(np.testing.assert_array_equal, params, draw(False)['params'])
