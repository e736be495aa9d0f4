"""The order of left and right landmarks: its loss and its head."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fld_jax import schema
from fld_jax.cascade.setup import resolve
from fld_jax.configs import detector, dfa
from fld_jax.errors import InputError
from fld_jax.models.layers import PairOrder
from fld_jax.training import losses
from fld_jax.training.objective import Objective, check_outputs, stage_losses

RNG = np.random.default_rng(0)
PARTNERS = (1, 0, 2, 4, 3)


def test_loss_against_a_loop():
  pairs = np.array([[0, 1], [4, 3]])
  truth = RNG.uniform(-0.5, 0.5, (40, 5, 2)).astype(np.float32)
  codes = RNG.choice([0, 1, 2, -1], (40, 5)).astype(np.int32)
  codes[0] = schema.TRUNCATED
  logits = RNG.normal(size=40).astype(np.float32)
  expected = []
  for points, visibility, logit in zip(truth, codes, logits, strict=True):
    gaps = [
      points[right, 0] - points[left, 0]
      for left, right in pairs
      if {visibility[left], visibility[right]} <= {0, 1}
    ]
    gap = np.mean(gaps) if gaps else 0
    chance = 1 / (1 + np.exp(-logit))
    expected.append(-abs(gap) * np.log(chance if gap < 0 else 1 - chance))
  found = losses.pair_order(logits, truth, codes, pairs)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
  assert expected[0] == 0 and np.count_nonzero(expected) > 10


def test_no_pairs_cost_nothing():
  """A set of landmarks may have none."""
  pairs = np.zeros((0, 2), int)
  loss = lambda x: losses.pair_order(
    x, jnp.ones((2, 5, 2)), jnp.zeros((2, 5), int), pairs
  ).sum()
  value, slope = jax.value_and_grad(loss)(jnp.ones(2))
  assert value == 0 and not slope.any()


def test_the_head_weighs_both_orders():
  heatmaps = RNG.normal(size=(3, 4, 4, 5)).astype(np.float32)
  last = RNG.normal(size=(3, 2, 2, 6)).astype(np.float32)
  head = PairOrder(PARTNERS)
  variables = head.init(jax.random.key(0), heatmaps, last)
  maps, logits = head.apply(variables, heatmaps, last)
  share = 1 / (1 + np.exp(-np.asarray(logits)))
  assert np.all(np.abs(share - 0.05) < 0.01)  # most garments are seen in front
  for b in range(3):
    for i, partner in enumerate(PARTNERS):
      np.testing.assert_allclose(
        maps[b, ..., i],
        (1 - share[b]) * heatmaps[b, ..., i]
        + share[b] * heatmaps[b, ..., partner],
        rtol=1e-5,
        atol=1e-6,
      )
  # A landmark without a partner stays as it is.
  np.testing.assert_allclose(maps[..., 2], heatmaps[..., 2], rtol=1e-6)


def test_the_head_learns_who_is_seen_from_behind():
  """The maps show both places; features of the whole image tell which."""
  behind = np.arange(32) % 4 == 0
  last = RNG.normal(size=(32, 2, 2, 6)).astype(np.float32)
  last[..., 0] += np.where(behind, 3, -3)[:, None, None]
  heatmaps = np.zeros((32, 1, 2, 2), np.float32)
  heatmaps[:, 0, 0, 0] = heatmaps[:, 0, 1, 1] = 1
  truth = np.tile([[-0.25, 0], [0.25, 0]], (32, 1, 1)).astype(np.float32)
  truth[behind] *= -1
  head = PairOrder((1, 0))
  variables = head.init(jax.random.key(0), heatmaps, last)
  rule = optax.adam(0.01)
  state = rule.init(variables)

  def loss(variables):
    _, logits = head.apply(variables, heatmaps, last)
    codes = jnp.zeros((32, 2), int)
    return losses.pair_order(logits, truth, codes, np.array([[0, 1]])).mean()

  @jax.jit
  def step(variables, state):
    updates, state = rule.update(jax.grad(loss)(variables), state)
    return optax.apply_updates(variables, updates), state

  for _ in range(100):
    variables, state = step(variables, state)
  maps, _ = head.apply(variables, heatmaps, last)
  left = np.asarray(maps)[:, 0, :, 0].argmax(axis=1)
  np.testing.assert_array_equal(left, behind)


def test_the_detector_has_it():
  """By default, at the loss's weight, with the pairs of its data set."""
  config = detector.get_config('dataset=deepfashion,pretrained=none')
  assert config.stages[0].weights.pair_order > 0
  towards = Objective.of(config, resolve(config), 0)
  assert towards.pairs.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
  truth = np.zeros((2, 8, 2), np.float32)
  truth[:, 1::2, 0] = [[0.4], [-0.4]]
  batch = {'landmarks': truth, 'visibility': np.zeros((2, 8), np.int32)}
  outputs = {'pair_order': np.zeros(2, np.float32), 'landmarks': truth}
  found = stage_losses(outputs, batch, None, {}, towards, ['pair_order'])
  loss, counts = found['pair_order']
  np.testing.assert_allclose(loss, 0.4 * np.log(2), rtol=1e-5)
  assert counts.all()


def test_networks_without_it_refuse_its_loss():
  config = dfa.get_config('size=tiny')
  config.stages[0].weights.pair_order = 1.0
  towards = Objective.of(config, resolve(config), 0)
  with pytest.raises(InputError, match="loss 'pair_order' of stage 'stage1'"):
    check_outputs(['landmarks', 'visibility', 'pseudo_label'], towards)
