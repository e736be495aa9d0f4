"""The losses against NumPy loops."""

import math

import jax
import numpy as np
import pytest

from fld_jax import defaults
from fld_jax.errors import InputError
from fld_jax.landmark_sets import FASHION_8
from fld_jax.schema import ABSENT, OCCLUDED, TRUNCATED, VISIBLE
from fld_jax.training import losses, objective

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


def test_l1_positions_against_a_loop():
  expected = np.zeros(B)
  for b in range(B):
    for n in range(N):
      if CODES[b, n] in (0, 1):
        expected[b] += sum(abs(PREDICTION[b, n] - TARGET[b, n]))
  found = losses.positions(PREDICTION, TARGET, CODES, 'l1')
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  with pytest.raises(InputError, match="'l3'.*'l2' and 'l1'"):
    losses.positions(PREDICTION, TARGET, CODES, 'l3')


def test_heatmaps_against_a_loop():
  rng = np.random.default_rng(1)
  found, true = rng.normal(size=(2, B, 4, 4, N)).astype(np.float32)
  codes = CODES.copy()
  codes[0] = ABSENT  # an example without any landmark
  expected = np.zeros(B)
  for b in range(B):
    known = [n for n in range(N) if codes[b, n] in (0, 1)]
    for n in known:
      of_map = np.mean((found[b, :, :, n] - true[b, :, :, n]) ** 2)
      expected[b] += of_map / len(known)
  assert expected[0] == 0 and (expected[1:] > 0).all()
  result = losses.heatmaps(found, true, codes)
  np.testing.assert_allclose(result, expected, rtol=1e-5)


# --- PCLoss ------------------------------------------------------------------

PARTS = FASHION_8.partitions


def pc_loss(prediction, target, mask, parts, k, pair_mean=False):
  """In float64, as a NumPy array."""
  with jax.enable_x64(True):
    return np.asarray(
      losses.position_constraint(
        jax.numpy.asarray(prediction),
        jax.numpy.asarray(target),
        jax.numpy.asarray(mask),
        parts,
        k,
        pair_mean,
      )
    )


def pc_loss_by_loops(prediction, target, mask, parts, k, pair_mean=False):
  """Song et al., eqs. 6, 8 and 10, as they are printed."""
  total = np.zeros(len(prediction))
  for b in range(len(prediction)):
    for part in parts:
      of_landmark = []
      for i in part:
        if not mask[b, i]:
          continue
        of_landmark.append(0.0)
        for j in part:
          if mask[b, j]:
            found = prediction[b, j] - prediction[b, i]
            true = target[b, j] - target[b, i]
            of_landmark[-1] += np.sum((found - true) ** 2)
        if pair_mean:
          of_landmark[-1] /= sum(mask[b, j] for j in part)
      largest = sorted(of_landmark, reverse=True)[:k]
      total[b] += np.mean(largest) if largest else 0.0
  return total


def pc_data(seed=0, rows=20):
  rng = np.random.default_rng(seed)
  prediction, target = rng.normal(0, 100, (2, rows, N, 2))
  mask = rng.random((rows, N)) < 0.7
  mask[0], mask[1], mask[2] = False, True, False
  mask[2, 3] = True  # one landmark: no pair
  return prediction, target, mask


def test_pc_loss_by_hand():
  target = np.zeros((1, N, 2))
  prediction = target.copy()
  prediction[0, 0] = [3, 4]  # collar_left is 5 away
  mask = np.full((1, N), True)
  # Left: L is 3 x 25 for it and 25 for the three others. Right: 0.
  left = (3 * 25 + 3 * 25) / 4
  found = pc_loss(prediction, target, mask, PARTS['skeleton'], 4)
  np.testing.assert_allclose(found, [left], rtol=1e-14)
  found = pc_loss(prediction, target, mask, PARTS['skeleton'], 1)
  np.testing.assert_allclose(found, [3 * 25], rtol=1e-14)
  # Whole: 7 x 25 and seven times 25; the largest four.
  found = pc_loss(prediction, target, mask, PARTS['whole'], 4)
  np.testing.assert_allclose(found, [(7 * 25 + 3 * 25) / 4], rtol=1e-14)


@pytest.mark.parametrize('pair_mean', [False, True])
@pytest.mark.parametrize('partition', PARTS)
@pytest.mark.parametrize('k', [1, 3, 4, 8])
def test_pc_loss_against_loops(partition, k, pair_mean):
  prediction, target, mask = pc_data()
  arguments = prediction, target, mask, PARTS[partition], k, pair_mean
  found = pc_loss(*arguments)
  expected = pc_loss_by_loops(*arguments)
  assert expected[0] == expected[2] == 0 < expected[1]
  np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('k', [2, 8])
def test_pc_loss_gradient_against_finite_differences(k):
  prediction, target, mask = pc_data(rows=4)
  prediction, target = prediction / 100, target / 100
  parts = PARTS['skeleton']
  with jax.enable_x64(True):
    gradient = jax.grad(
      lambda p: losses.position_constraint(p, target, mask, parts, k).sum()
    )(jax.numpy.asarray(prediction))
  gradient, step = np.asarray(gradient), 1e-6
  expected = np.zeros_like(prediction)
  for index in np.ndindex(prediction.shape):
    ends = []
    for sign in (1, -1):
      moved = prediction.copy()
      moved[index] += sign * step
      ends.append(pc_loss_by_loops(moved, target, mask, parts, k).sum())
    expected[index] = (ends[0] - ends[1]) / (2 * step)
  np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)
  assert not gradient[~mask].any() and gradient[1].any()


def test_examples_with_a_pair():
  _, _, mask = pc_data()
  for parts in PARTS.values():
    expected = [
      any(sum(row[i] for i in part) >= 2 for part in parts) for row in mask
    ]
    assert not expected[0] and expected[1] and not expected[2]
    np.testing.assert_array_equal(losses.has_pair(mask, parts), expected)


def test_pc_loss_ignores_translation_and_sees_a_swap():
  _, target, mask = pc_data()
  shift = np.array([300.0, -40.0])
  arguments = (mask, PARTS['whole'], 8)
  np.testing.assert_allclose(
    pc_loss(target + shift, target, *arguments), 0, atol=1e-9
  )
  swapped = target[:, FASHION_8.flip]
  assert (pc_loss(swapped, target, *arguments)[mask.sum(1) > 3] > 0).all()


def test_pc_loss_of_the_left_is_not_that_of_the_right():
  prediction, target, mask = pc_data()
  left, right = PARTS['skeleton']
  moved = prediction.copy()
  moved[:, left[0]] += 50
  change = lambda part: (
    pc_loss(moved, target, mask, [part], 4)
    - pc_loss(prediction, target, mask, [part], 4)
  )
  assert np.abs(change(left)).max() > 1
  np.testing.assert_array_equal(change(right), 0)


def test_pc_loss_of_nothing_is_zero_and_so_is_its_gradient():
  prediction = np.random.default_rng(0).normal(size=(3, N, 2))
  mask = np.full((3, N), False)
  target = np.full((3, N, 2), np.nan)  # never looked at
  value, gradient = jax.value_and_grad(
    lambda p: losses.position_constraint(
      p, target, mask, PARTS['skeleton'], 4
    ).sum()
  )(prediction.astype(np.float32))
  assert value == 0
  np.testing.assert_array_equal(gradient, 0)


def test_partitions():
  left, right = PARTS['skeleton']
  names = np.array(FASHION_8.names)
  assert list(names[left]) == [
    'collar_left', 'sleeve_left', 'waist_left', 'hem_left'
  ]  # fmt: skip
  np.testing.assert_array_equal(FASHION_8.flip[left], right)
  top, bottom = PARTS['top_bottom']
  assert {name.partition('_')[0] for name in names[top]} == {'collar', 'sleeve'}
  assert {name.partition('_')[0] for name in names[bottom]} == {'waist', 'hem'}
  (whole,) = PARTS['whole']
  np.testing.assert_array_equal(whole, np.arange(N))


def test_every_loss_has_a_weight_in_the_defaults():
  assert set(defaults.stage('any').weights) == set(objective.LOSSES)


# IDPR's parts and relations.

CELLS, NUM_PARTS, NUM_TYPES = 3, 2, 4


def idpr_inputs():
  rng = np.random.default_rng(1)
  bells = rng.uniform(0, 0.9, (B, CELLS, CELLS, NUM_PARTS)).astype(np.float32)
  known = rng.random((B, NUM_PARTS)) < 0.7
  known[0], known[1] = True, False
  draw = lambda n: rng.normal(size=(B, CELLS, CELLS, n)).astype(np.float32)
  return rng, bells, known, draw


def test_parts_against_a_loop():
  _, bells, known, draw = idpr_inputs()
  logits = draw(NUM_PARTS + 1)
  expected = np.zeros(B)
  for b, i, j in np.ndindex(B, CELLS, CELLS):
    share = [
      x if there else 0
      for x, there in zip(bells[b, i, j], known[b], strict=True)
    ]
    total = max(sum(share), 1)
    label = [x / total for x in share]
    label.append(1 - sum(label))
    expected[b] += cross_entropy(logits[b, i, j], label) / NUM_PARTS
  found = losses.parts(logits, bells, known)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_relations_against_a_loop():
  rng, bells, known, draw = idpr_inputs()
  logits = draw(NUM_PARTS * NUM_TYPES).reshape(
    B, CELLS, CELLS, NUM_PARTS, NUM_TYPES
  )
  labels = rng.integers(0, NUM_TYPES, (B, NUM_PARTS))
  expected = np.zeros(B)
  for b in range(B):
    means = []
    for r in np.flatnonzero(known[b]):
      label = np.eye(NUM_TYPES)[labels[b, r]]
      costs = [
        bells[b, i, j, r] * cross_entropy(logits[b, i, j, r], label)
        for i, j in np.ndindex(CELLS, CELLS)
      ]
      means.append(sum(costs) / bells[b, :, :, r].sum())
    expected[b] = np.mean(means) if means else 0
  found = losses.relations(logits, labels, bells, known)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_attributes_against_a_loop():
  rng = np.random.default_rng(4)
  logits = 3 * rng.normal(size=(6, 5)).astype(np.float32)
  labels = rng.integers(-1, 2, (6, 5))
  labels[2] = 0  # nothing is known of it
  wanted = []
  for row, truth in zip(logits, labels, strict=True):
    costs = [
      -np.log(1 / (1 + np.exp(-score if label > 0 else score)))
      for score, label in zip(row, truth, strict=True)
      if label
    ]
    wanted.append(sum(costs) / len(costs) if costs else 0)
  found = losses.attributes(logits.astype(np.float32), labels)
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
