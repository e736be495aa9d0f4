"""Parts of a trunk that keep their weights: no gradient, no new statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.cascade.stage import build_model
from fld_jax.errors import InputError
from fld_jax.landmark_sets import FASHION_8
from fld_jax.models.efficientnet import EfficientNet
from fld_jax.models.resnet import ResNet
from fld_jax.models.vgg import VGG
from fld_jax.runtime.parallel import AXIS

BLOCKS = ((1, 4), (2, 4), (1, 4))
PLAIN = VGG(blocks=BLOCKS)
NORMALISED = VGG(blocks=BLOCKS, batch_norm=True)


@pytest.mark.parametrize(
  'trunk', [PLAIN, NORMALISED, ResNet(18, width=4), EfficientNet(width=8)]
)
def test_nothing_is_frozen_unless_it_is_asked_for(trunk):
  assert not list(trunk.frozen_modules())


@pytest.mark.parametrize(
  ('trunk', 'frozen'),
  [
    (PLAIN, ()),
    (PLAIN.clone(frozen=2), ('conv1_1', 'conv2_1', 'conv2_2')),
    (NORMALISED.clone(frozen=1), ('conv1_1', 'bn1_1')),
    (
      ResNet(18, width=4, frozen=3),
      ('conv1', 'bn1', 'layer1_0', 'layer1_1', 'layer2_0'),
    ),
    (
      EfficientNet(width=8, frozen=2),
      ('stem_conv', 'stem_bn', 'block0', 'block1'),
    ),
  ],
)
def test_what_is_frozen_has_no_gradient_and_keeps_its_statistics(trunk, frozen):
  x = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
  init = jax.jit(trunk.init, static_argnums=2)
  variables = init(jax.random.key(0), x, False)

  def loss(params):
    maps, mutated = trunk.apply(
      {**variables, 'params': params}, x, True, mutable=['batch_stats']
    )
    total = sum(jnp.sum(jnp.sin(value)) for value in maps.values())
    return total, mutated.get('batch_stats', {})

  step = jax.jit(
    jax.vmap(
      lambda _: jax.grad(loss, has_aux=True)(variables['params']),
      axis_name=AXIS,
    )
  )
  grads, stats = step(jnp.zeros(1))
  assert sorted(trunk.frozen_modules()) == sorted(frozen)
  assert set(frozen) <= set(grads)
  for name, tree in grads.items():
    is_zero = all(not np.any(leaf) for leaf in jax.tree.leaves(tree))
    assert is_zero == (name in frozen), name
  for name, tree in stats.items():
    same = jax.tree.map(
      lambda a, b: np.array_equal(a[0], b), tree, variables['batch_stats'][name]
    )
    assert all(jax.tree.leaves(same)) == (name in frozen), name


@pytest.mark.parametrize(
  ('backbone', 'blocks'),
  [('vgg16', 5), ('resnet50', 16), ('efficientnet_lite0', 16)],
)
def test_no_more_than_all_blocks_can_be_frozen(backbone, blocks):
  config = ConfigDict(
    {'model': {'name': 'top_down', 'dtype': 'float32', 'channels': 8}}
  )
  defaults.set_backbone(config, backbone)
  stage = defaults.stage('stage1')
  stage.pseudo_label.num_clusters = 0
  config.model.trunk.frozen = blocks
  build_model(config.model, stage, 0, FASHION_8)
  config.model.trunk.frozen = blocks + 1
  with pytest.raises(InputError, match=f'{blocks + 1}, and .* {blocks} blocks'):
    build_model(config.model, stage, 0, FASHION_8)
