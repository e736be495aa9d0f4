"""Durations, learning rates, loss weights and optimisers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.errors import InputError
from fld_jax.models.efficientnet import EfficientNet
from fld_jax.models.vgg import VGG
from fld_jax.training import schedules


def rates(total=100, steps=range(101), **fields):
  config = defaults.stage('s').optimizer
  config.update({'learning_rate': 2.0, 'schedule': 'constant', **fields})
  schedule = schedules.learning_rate(config, total)
  return [float(schedule(step)) for step in steps]


# Durations.


@pytest.mark.parametrize(
  ('fields', 'steps'),
  [
    ({'train_steps': 7}, 7),
    ({'train_epochs': 2.0}, 12),
    ({'train_epochs': 0.1}, 1),  # 4.8 images
    ({'train_examples': 50}, 7),  # 6.25 batches
    ({'train_steps': 7, 'train_epochs': 2.0, 'train_examples': 50}, 7),
    ({'train_steps': 0, 'train_epochs': 2.0, 'train_examples': 50}, 12),
  ],
)
def test_num_steps_in_each_unit(fields, steps):
  found = schedules.num_steps(
    ConfigDict(fields), 'train', batch_size=8, num_examples=48
  )
  assert found == steps


def test_num_steps_without_any_unit_names_the_three():
  config = ConfigDict({'train_steps': 0, 'eval_steps': 5})
  with pytest.raises(
    InputError, match='train_steps, train_epochs, train_examples'
  ):
    schedules.num_steps(config, 'train', batch_size=8, num_examples=48)


def test_is_time_at_multiples_and_at_the_end():
  times = [s for s in range(1, 11) if schedules.is_time(s, 4, 10)]
  assert times == [4, 8, 10]


# Learning rates.


def test_a_rate_that_falls_at_steps_falls_there_in_a_run_of_any_length():
  fields = {'schedule': 'step', 'step_at': (30.0, 50.0), 'step_factor': 0.5}
  for total in (100, 150, 1000):
    found = rates(total, [0, 29, 30, 49, 50, total], warmup=0.0, **fields)
    assert found[1:] == [2.0, 1.0, 1.0, 0.5, 0.5]
  # After a warm-up as well; 1 is still a share.
  found = rates(100, [29, 30], warmup=0.2, **fields)
  assert found == [2.0, 1.0]
  fields['step_at'] = (1.0,)
  assert rates(100, [99, 100], warmup=0.0, **fields) == [2.0, 1.0]


def test_constant_rate_after_a_linear_warmup():
  found = rates(warmup=0.1)
  np.testing.assert_allclose(found[:11], 0.2 * np.arange(11), rtol=1e-6)
  np.testing.assert_allclose(found[11:], 2.0)
  assert rates(warmup=0.0)[0] == 2.0


def test_cosine_rate():
  config = dict(schedule='cosine', warmup=0.1)
  fields = defaults.stage('s').optimizer
  fields.update(learning_rate=2.0, **config)
  schedule = schedules.learning_rate(fields, 100)
  # After 10 steps of warm-up, a third, half and all of the other 90.
  found = [float(schedule(step)) for step in (5, 10, 40, 55, 100)]
  np.testing.assert_allclose(found, [1.0, 2.0, 1.5, 1.0, 0.0], atol=1e-6)


@pytest.mark.parametrize('warmup', [0.0, 0.1])
def test_step_rate_falls_at_shares_of_the_whole_run(warmup):
  fields = defaults.stage('s').optimizer
  fields.update(learning_rate=2.0, schedule='step', warmup=warmup)
  fields.update(step_at=(0.5, 0.8), step_factor=0.1)
  schedule = schedules.learning_rate(fields, 100)
  found = [float(schedule(step)) for step in (10, 49, 50, 79, 80, 99)]
  np.testing.assert_allclose(found, [2, 2, 0.2, 0.2, 0.02, 0.02], rtol=1e-6)


def test_unknown_rate_schedule():
  fields = defaults.stage('s').optimizer
  fields.schedule = 'linear'
  with pytest.raises(InputError, match="'linear'.*'cosine'"):
    schedules.learning_rate(fields, 100)


def test_visibility_floor():
  """Of the visibility alone, and of 'ramp_down': from 1 to 0.2 in 2000."""
  config = defaults.stage('s')
  config.visibility_floor = 0.2
  config.weights.update(visibility=0.5, pseudo_label=0.1)
  for name, expected in (
    ('ramp_down', [1, 1, 1, 0.8, 0.6, 0.2004, 0.2, 0.2]),
    ('paper_literal', [1, 1, 0, 0.25, 0.5, 0.9995, 0, 0]),
  ):
    config.weight_schedule = name
    weights_at = schedules.loss_weights(config, 10_000)
    found = [weights_at(step) for step in STEPS]
    np.testing.assert_allclose(
      [float(w['visibility']) for w in found],
      0.5 * np.array(expected),
      atol=1e-6,
    )
    assert float(found[-1]['pseudo_label']) == 0


# Loss weights: Liu et al.'s 10,000 iterations with t1 = 2000 and t2 = 4000.

STEPS = (0, 1999, 2000, 2500, 3000, 3999, 4000, 9999)


@pytest.mark.parametrize(
  ('name', 'main', 'auxiliary'),
  [
    ('ramp_down', [1] * 8, [1, 1, 1, 0.75, 0.5, 0.0005, 0, 0]),
    ('paper_literal', [1] * 8, [1, 1, 0, 0.25, 0.5, 0.9995, 0, 0]),
    ('author_issue6', [1, 1, 20, 20, 20, 20, 20, 20], [1] * 8),
    ('constant', [1] * 8, [1] * 8),
  ],
)
def test_loss_weights(name, main, auxiliary):
  config = defaults.stage('s')
  config.weight_schedule = name
  config.weights.update(
    landmarks=3.0,
    heatmaps=4.0,
    position_constraint=0.2,
    visibility=0.5,
    pseudo_label=0.1,
  )
  weights_at = schedules.loss_weights(config, 10_000)
  found = [weights_at(step) for step in STEPS]
  for key, scale, expected in (
    ('landmarks', 3.0, main),
    ('heatmaps', 4.0, main),
    ('position_constraint', 0.2, main),
    ('visibility', 0.5, auxiliary),
    ('pseudo_label', 0.1, auxiliary),
  ):
    np.testing.assert_allclose(
      [float(w[key]) for w in found],
      scale * np.array(expected),
      atol=1e-6,
      err_msg=key,
    )


def test_unknown_loss_weights():
  config = defaults.stage('s')
  config.weight_schedule = 'none'
  with pytest.raises(InputError, match="'none'.*'paper_literal'"):
    schedules.loss_weights(config, 10)


# Optimisers: two steps, the learning rate falling after the first.

PARAMS = {
  'kernel': np.array([[1.0, -2.0], [0.5, 3.0]]),
  'bias': np.array([0.25, -1.0]),
}
GRADS = (
  {'kernel': np.array([[3.0, 0.0], [0.0, 0.0]]), 'bias': np.array([0.0, 4.0])},
  {'kernel': np.full((2, 2), -1.0), 'bias': np.array([2.0, 0.5])},
)
DECAY = {'kernel': 0.1, 'bias': 0.0}
RATES = (0.2, 0.02)


def run(**fields):
  config = defaults.stage('s').optimizer
  config.update(learning_rate=0.2, schedule='step', step_at=(0.5,))
  config.update(weight_decay=0.1, **fields)
  transformation = schedules.optimizer(config, 2, VGG())
  params = {k: jnp.asarray(v, jnp.float32) for k, v in PARAMS.items()}
  state = transformation.init(params)
  for grads in GRADS:
    grads = {k: jnp.asarray(v, jnp.float32) for k, v in grads.items()}
    updates, state = transformation.update(grads, state, params)
    params = {k: params[k] + updates[k] for k in params}
  return params


def check(found, expected):
  assert found.keys() == expected.keys()
  for key, value in expected.items():
    np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('clip', [0.0, 1.0, 100.0])
def test_sgd_with_momentum_and_clipping(clip):
  expected = {}
  # The first gradient's norm over all arrays is 5, the second's sqrt(8.25).
  norms = (5.0, 8.25**0.5)
  for key, p in PARAMS.items():
    velocity = 0.0
    for grads, rate, norm in zip(GRADS, RATES, norms, strict=True):
      g = grads[key] * (min(1.0, clip / norm) if clip else 1.0)
      velocity = 0.9 * velocity + g + DECAY[key] * p
      p = p - rate * velocity
    expected[key] = p
  check(run(name='sgd', momentum=0.9, clip_norm=clip), expected)


@pytest.mark.parametrize('name', ['adam', 'adamw'])
def test_adam(name):
  expected = {}
  for key, p in PARAMS.items():
    m = v = 0.0
    for t, (grads, rate) in enumerate(zip(GRADS, RATES, strict=True), 1):
      decay = DECAY[key] * p
      g = grads[key] + (decay if name == 'adam' else 0)
      m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
      step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
      p = p - rate * (step + (decay if name == 'adamw' else 0))
    expected[key] = p
  check(run(name=name), expected)


def test_unknown_optimizer():
  with pytest.raises(InputError, match="'lion'.*'adamw'"):
    run(name='lion')


def test_a_trunk_is_slower_and_what_is_frozen_stays():
  """Weight decay as well, which needs no gradient."""
  trunk = EfficientNet(frozen=1)
  kernel = lambda: {'kernel': jnp.full((2, 2), 3.0)}
  params = {
    'head': kernel(),
    'efficientnet': {
      name: kernel() for name in ('stem_conv', 'block0', 'block1')
    },
  }
  config = defaults.stage('s').optimizer
  config.update(name='adamw', learning_rate=0.1, schedule='constant')
  config.update(weight_decay=0.5, trunk_rate=0.25)
  updates = {}
  for which in (trunk, VGG()):
    rule = schedules.optimizer(config, 10, which)
    grads = {
      'head': kernel(),
      'efficientnet': {
        name: jax.tree.map(jnp.zeros_like, tree) if name != 'block1' else tree
        for name, tree in params['efficientnet'].items()
      },
    }
    found, _ = rule.update(grads, rule.init(params), params)
    updates[type(which)] = found
  plain, found = updates[VGG], updates[EfficientNet]
  same = np.testing.assert_allclose
  same(found['head']['kernel'], plain['head']['kernel'])
  ours, theirs = found['efficientnet'], plain['efficientnet']
  same(ours['block1']['kernel'], 0.25 * theirs['block1']['kernel'], rtol=1e-6)
  for name in ('stem_conv', 'block0'):
    assert np.any(theirs[name]['kernel'])  # by weight decay alone
    assert not np.any(ours[name]['kernel'])
