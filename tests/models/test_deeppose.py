"""DeepPose's stages: sizes, one network a landmark, and what it sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_networks import random_variables
from sampling_oracle import grid_sample

from fld_jax.cascade.forward import Forward, apply_stage
from fld_jax.cascade.stage import build_model, variable_shapes
from fld_jax.configs import deeppose
from fld_jax.landmark_sets import FASHION_8
from fld_jax.models.deeppose import DeepPose
from fld_jax.models.dfa import DFA
from fld_jax.models.vgg import VGG
from fld_jax.ops import cpu_kernels
from fld_jax.ops.heatmaps import Codec
from fld_jax.runtime.parallel import AXIS

VGG_TRUNK = VGG(blocks=((1, 4), (1, 6)), batch_norm=True)
N, B, SIZE = 3, 2, 32


def model_on(trunk, **fields):
  return DeepPose(
    num_landmarks=N,
    backbone=trunk,
    hidden=8,
    dropout=0.0,
    patch=12,
    **fields,
  )


def draw_batch(seed=0):
  rng = np.random.default_rng(seed)
  image = rng.normal(size=(B, SIZE, SIZE, 3)).astype(np.float32)
  estimate = rng.uniform(-0.6, 0.6, (B, N, 2)).astype(np.float32)
  index = np.arange(B, dtype=np.int32)
  return {'image': image, 'estimate': estimate, 'example_index': index}


def slot(variables, n):
  return jax.tree.map(lambda x: x[n], variables)


@pytest.mark.parametrize('index', [0, 1, 2])
def test_the_golden_count_of_17_networks(index):
  config = deeppose.get_config('size=full,pretrained=imagenet')
  model = build_model(config.model, config.stages[index], index, FASHION_8)
  shapes = variable_shapes(model, config.input.size)['params']
  found = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  # VGG-16's convolutions, fc6 of 7x7 cells, fc7; then 2 coordinates and 3
  # states a landmark.
  body = 14_714_688 + (25_088 + 1) * 4096 + (4096 + 1) * 4096
  heads = (4096 + 1) * (2 + 3)
  assert found == (8 * (body + heads) if index else body + 8 * heads)


def runner(model, train):
  """A compiled function to gradients, outputs and new statistics."""

  def total(params, rest, batch):
    outputs, state = model.apply(
      {**rest, 'params': params}, batch, train, mutable=['batch_stats']
    )
    parts = outputs['landmarks'], outputs['visibility']
    return sum(jnp.sum(jnp.sin(x)) for x in parts), (parts, state)

  def run(variables, batch):
    work = lambda _: jax.grad(total, has_aux=True)(
      variables['params'], variables, batch
    )
    found = jax.vmap(work, axis_name=AXIS)(jnp.zeros(1))
    return jax.tree.map(lambda x: x[0], found)

  return jax.jit(run)


@pytest.mark.parametrize('for_cpu', [False, True])
def test_networks_are_those_of_each_landmark(for_cpu, monkeypatch):
  """Outputs, gradients and statistics are those of N separate networks."""
  monkeypatch.setattr(cpu_kernels, 'for_cpu', lambda: for_cpu)
  model, batch = model_on(VGG_TRUNK, use_estimate=True, side=8), draw_batch()
  variables = random_variables(model, SIZE, seed=1, head=0.3)
  single = DFA(
    num_landmarks=1, num_clusters=0, backbone=VGG_TRUNK, hidden=8, dropout=0.0
  )
  gradients, (parts, state) = runner(model, True)(variables, batch)
  alone = runner(single, True)
  for n in range(N):
    seen = np.stack(
      [
        grid_sample(batch['image'][b], batch['estimate'][b, n], (12, 12), 8)
        for b in range(B)
      ]
    )
    own = {
      'image': seen.astype(np.float32),
      'example_index': batch['example_index'],
    }
    expected = alone(slot(variables, n), own)
    found = (
      slot(gradients, n),
      ([x[:, n : n + 1] for x in parts], slot(state, n)),
    )
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
      np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    assert np.abs(expected[1][0][0]).max() > 0.01, 'nothing is found'


def test_a_network_sees_its_own_patch_alone():
  model, batch = model_on(VGG_TRUNK, use_estimate=True), draw_batch()
  batch['estimate'][:] = np.array([[-0.2, -0.2], [0.3, 0.3], [0.3, -0.3]])
  variables = random_variables(model, SIZE, seed=0)
  run = lambda image: model.apply(variables, {**batch, 'image': image}, False)
  before = run(batch['image'])['visibility']
  # Pixels 4 to 15 are the first landmark's patch, and no other's.
  for part, changed in ((np.s_[4:16, 4:16], [0]), (np.s_[16:20, 4:16], [])):
    image = batch['image'].copy()
    image[(slice(None), *part)] += 1.0
    moved = np.abs(run(image)['visibility'] - before).max(axis=(0, 2)) > 1e-6
    assert np.flatnonzero(moved).tolist() == changed


def test_the_first_stage_is_dfa_s():
  batch = draw_batch()
  model = model_on(VGG_TRUNK, side=16)
  other = DFA(
    num_landmarks=N,
    num_clusters=0,
    side=16,
    backbone=VGG_TRUNK,
    hidden=8,
    dropout=0.0,
  )
  variables = random_variables(other, SIZE, seed=0)
  found = model.apply(variables, batch, False)
  expected = other.apply(variables, batch, False)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_no_landmark_leaves_its_patch():
  model, batch = model_on(VGG_TRUNK, use_estimate=True, side=8), draw_batch()
  variables = random_variables(model, SIZE, seed=0)
  wanted = np.array([[100.0, -0.1], [-100.0, 0.2], [0.3, 100.0]], np.float32)
  head = variables['params']['fc8_landmarks']
  head['kernel'], head['bias'] = 0 * head['kernel'], jnp.asarray(wanted)
  forward = Forward((0.0,) * 3, (1.0,) * 3, SIZE / 12, Codec())
  found = apply_stage(model, variables, batch, batch['estimate'], forward)
  # Half a patch is 6 of 32 pixels; an offset of 1 is a patch.
  moved = np.clip(wanted * 12 / SIZE, -6 / SIZE, 6 / SIZE)
  np.testing.assert_allclose(
    found['estimate'], batch['estimate'] - moved, atol=1e-6
  )


@pytest.mark.parametrize('from_first', [True, False])
def test_a_stage_starts_as_a_correction_of_0(from_first):
  batch = draw_batch()
  first = model_on(VGG_TRUNK, side=8)
  later = model_on(VGG_TRUNK, use_estimate=True, side=8)
  fresh = random_variables(later, SIZE, seed=0)
  source = first if from_first else later
  trained = random_variables(source, SIZE, seed=1)
  found = later.warm_start(fresh, trained)
  assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, fresh)
  outputs = later.apply(found, batch, False)
  np.testing.assert_array_equal(outputs['landmarks'], 0)
  for n in range(N):
    for name in ('vgg', 'fc6', 'fc7'):
      of_source = trained['params'][name]
      of_source = of_source if from_first else slot(of_source, n)
      jax.tree.map(
        np.testing.assert_array_equal,
        slot(found['params'][name], n),
        of_source,
      )
  states = 'fc8_visibility_1'  # whose shape in stage 1 is one landmark's
  assert states in found['params']
