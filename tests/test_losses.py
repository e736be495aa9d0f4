"""The losses against NumPy loops."""

import math

import jax
import numpy as np
import pytest

from fld_jax import losses
from fld_jax.errors import InputError
from fld_jax.schema import ABSENT, OCCLUDED, TRUNCATED, VISIBLE

B, N, K = 5, 8, 6
RNG = np.random.default_rng(0)
PREDICTION = RNG.normal(0, 0.3, (B, N, 2)).astype(np.float32)
TARGET = RNG.normal(0, 0.3, (B, N, 2)).astype(np.float32)
LOGITS = RNG.normal(0, 2, (B, N, 3)).astype(np.float32)
CODES = RNG.choice([VISIBLE, OCCLUDED, TRUNCATED, ABSENT], (B, N))


def cross_entropy(logits, label):
  total = sum(math.exp(x) for x in logits)
  return -sum(
    share * (x - math.log(total))
    for x, share in zip(logits, label, strict=True)
  )


def test_positions_by_hand():
  one = losses.positions(
    np.array([[[0.3, 0.4], [1.0, 0.0]]]),
    np.zeros((1, 2, 2)),
    np.array([[VISIBLE, TRUNCATED]]),
  )
  np.testing.assert_allclose(one, [0.125], rtol=1e-6)


def test_positions_against_a_loop():
  expected = np.zeros(B)
  for b in range(B):
    for n in range(N):
      if CODES[b, n] in (0, 1):
        expected[b] += sum((PREDICTION[b, n] - TARGET[b, n]) ** 2) / 2
  found = losses.positions(PREDICTION, TARGET, CODES)
  assert found.shape == (B,)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_positions_gradient_is_the_error_where_there_is_a_position():
  gradient = jax.grad(lambda p: losses.positions(p, TARGET, CODES).sum())(
    PREDICTION
  )
  counts = np.isin(CODES, [0, 1])[..., None]
  np.testing.assert_allclose(
    gradient, counts * (PREDICTION - TARGET), atol=1e-6
  )


def test_visibility_by_hand():
  logits = np.zeros((1, 3, 3))
  logits[0, 1] = [0, 0, math.log(2)]  # 1/4, 1/4, 1/2
  logits[0, 2] = 1e3 * np.arange(3)
  found = losses.visibility(logits, np.array([[VISIBLE, TRUNCATED, ABSENT]]))
  np.testing.assert_allclose(found, [math.log(3) + math.log(2)], rtol=1e-6)


def test_visibility_against_a_loop():
  expected = np.zeros(B)
  for b in range(B):
    for n in range(N):
      if CODES[b, n] != -1:
        expected[b] += cross_entropy(LOGITS[b, n], np.eye(3)[CODES[b, n]])
  found = losses.visibility(LOGITS, CODES)
  assert found.shape == (B,)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_absent_slot_is_as_if_cut_off():
  codes = np.abs(CODES)
  codes[:, 3] = ABSENT
  without = lambda array: np.delete(array, 3, axis=1)
  np.testing.assert_allclose(
    losses.positions(PREDICTION, TARGET, codes),
    losses.positions(*map(without, (PREDICTION, TARGET, codes))),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    losses.visibility(LOGITS, codes),
    losses.visibility(without(LOGITS), without(codes)),
    rtol=1e-6,
  )


def test_all_masked_costs_nothing_and_has_gradient_0():
  codes = np.full((B, N), ABSENT)
  for loss, value in (
    (lambda x: losses.positions(x, TARGET, codes), PREDICTION),
    (lambda x: losses.visibility(x, codes), LOGITS),
  ):
    np.testing.assert_array_equal(loss(value), np.zeros(B))
    gradient = jax.grad(lambda x, loss=loss: loss(x).sum())(value)
    np.testing.assert_array_equal(gradient, np.zeros_like(value))


@pytest.mark.parametrize('kind', ['euclidean', 'xent_soft', 'xent_hard'])
def test_pseudo_label(kind):
  logits = RNG.normal(0, 2, (B, K)).astype(np.float32)
  output = RNG.random((B, K)).astype(np.float32)
  target = RNG.dirichlet(np.ones(K), B).astype(np.float32)
  expected = []
  for b in range(B):
    if kind == 'euclidean':
      expected.append(sum((output[b] - target[b]) ** 2) / 2)
    elif kind == 'xent_soft':
      expected.append(cross_entropy(logits[b], target[b]))
    else:
      likeliest = np.eye(K)[list(target[b]).index(max(target[b]))]
      expected.append(cross_entropy(logits[b], likeliest))
  outputs = {'pseudo_label': output, 'pseudo_label_logits': logits}
  found = losses.pseudo_label(outputs, target, kind)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_unknown_pseudo_label_loss():
  outputs = dict.fromkeys(
    ('pseudo_label', 'pseudo_label_logits'), np.zeros((B, K))
  )
  with pytest.raises(InputError, match="'l1'.*'xent_soft'"):
    losses.pseudo_label(outputs, np.zeros((B, K)), 'l1')
