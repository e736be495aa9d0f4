"""PCK, AUC, EPE, PDJ, PCP against loops over their definitions, and by hand."""

import math

import numpy as np
import pytest

from fld_jax import geometry, landmark_sets, schema
from fld_jax.errors import InputError
from fld_jax.metrics import keypoints
from fld_jax.metrics.mean_state import MeanState

LSP = landmark_sets.LSP_14
RNG = np.random.default_rng(0)


def example(n=40, landmarks=14):
  truth = RNG.uniform(0, 100, (n, landmarks, 2))
  estimate = truth + RNG.normal(0, 12, truth.shape)
  mask = RNG.random((n, landmarks)) < 0.8
  mask[:, 3] = False  # a landmark that nothing is known of
  return estimate, truth, mask


def macro_and_micro(value_of, mask):
  """Means of value_of(row, landmark) over what counts, with loops."""
  means, everything = [], []
  for landmark in range(mask.shape[1]):
    values = [
      value_of(row, landmark) for row in range(len(mask)) if mask[row, landmark]
    ]
    everything += values
    if values:
      means.append(sum(values) / len(values))
  return sum(means) / len(means), sum(everything) / len(everything)


def test_against_the_definitions():
  estimate, truth, mask = example()
  sides = RNG.uniform(40, 80, len(truth))
  pixels = keypoints.distances(estimate, truth)
  length = lambda i, j: math.dist(estimate[i, j], truth[i, j])
  summary = lambda state: state.summary(LSP.names)

  share = keypoints.distances(estimate, truth, sides)
  found = summary(keypoints.pck(share, mask, 0.2))
  expected = macro_and_micro(lambda i, j: length(i, j) < 0.2 * sides[i], mask)
  assert (found['macro'], found['micro']) == pytest.approx(expected)

  found = summary(keypoints.auc(pixels, mask))
  curve = [
    macro_and_micro(lambda i, j, t=t: length(i, j) < t / 20 * 30, mask)[0]
    for t in range(20)
  ]
  assert found['macro'] == pytest.approx(sum(curve) / 20)

  found = summary(keypoints.epe(pixels, mask))
  assert found['micro'] == pytest.approx(macro_and_micro(length, mask)[1])
  assert found['per_landmark']['left_hip'] is None

  torso = keypoints.torso_diameter(truth, LSP)
  assert torso[0] == pytest.approx(math.dist(truth[0, 8], truth[0, 3]))
  share = keypoints.distances(estimate, truth, torso)
  found = summary(keypoints.pdj(share, mask, 0.3))
  expected = macro_and_micro(
    lambda i, j: length(i, j) <= 0.3 * math.dist(truth[i, 8], truth[i, 3]), mask
  )
  assert found['macro'] == pytest.approx(expected[0])


def test_thresholds_are_strict_where_the_definition_is():
  truth = np.zeros((1, 3, 2))
  estimate = np.array([[[0.0, 3.0], [4.0, 0.0], [1.5, 0.0]]])
  lengths = keypoints.distances(estimate, truth, 2.0)  # 1.5, 2, 0.75
  every = np.ones((1, 3), bool)
  one = lambda state: state.compute().tolist()
  assert one(keypoints.pck(lengths, every, 2.0)) == [1, 0, 1]
  assert one(keypoints.pdj(lengths, every, 2.0)) == [1, 1, 1]
  # Of the thresholds 0 and 1.5: a length of 0.75 is below one, 1.5 below none.
  areas = keypoints.auc(lengths, every, limit=3.0, steps=2)
  assert one(areas) == [0, 0, 0.5]


def stick_loop(estimate, truth, mask):
  """Strict PCP in LSP's slots, written out."""
  middle = lambda p, a, b: (p[a] + p[b]) / 2
  sticks = [
    (lambda p: (middle(p, 8, 9), middle(p, 2, 3)), (8, 9, 2, 3)),
    (lambda p: (p[13], p[12]), (13, 12)),
    *(
      (lambda p, a=a, b=b: (p[a], p[b]), (a, b))
      for a, b in (
        *((9, 10), (8, 7), (10, 11), (7, 6)),
        *((3, 4), (2, 1), (4, 5), (1, 0)),
      )
    ),
  ]
  rates = []
  for ends, joints in sticks:
    right = count = 0
    for i in range(len(truth)):
      if not all(mask[i, j] for j in joints):
        continue
      (a, b), (true_a, true_b) = ends(estimate[i]), ends(truth[i])
      reach = 0.5 * math.dist(true_a, true_b)
      count += 1
      right += math.dist(a, true_a) <= reach and math.dist(b, true_b) <= reach
    rates.append(right / count if count else None)
  return rates


@pytest.mark.parametrize('all_known', [True, False])
def test_pcp_against_a_loop(all_known):
  estimate, truth, mask = example(200)
  if all_known:
    mask[:] = True
  state = keypoints.pcp(estimate, truth, mask, LSP)
  expected = stick_loop(estimate, truth, mask)
  found = state.summary(tuple(LSP.sticks))['per_landmark']
  assert list(found.values()) == pytest.approx(expected)
  summary = keypoints.pcp_summary(state, LSP)
  if not all_known:
    assert summary['torso'] is None and summary['lower_arm'] is not None
    return
  assert summary['mean'] == pytest.approx(sum(expected) / 10)
  assert summary['upper_arm'] == pytest.approx((expected[2] + expected[3]) / 2)
  assert list(summary) == [
    *('mean', 'torso', 'head', 'upper_arm', 'lower_arm'),
    *('upper_leg', 'lower_leg'),
  ]


@pytest.mark.parametrize(
  'row, mean',  # paper 1, Table 4: torso, head, upper and lower arms and legs
  [
    ((90.8, 87.2, 70.4, 56.2, 80.6, 75.8), 74.4),
    ((92.7, 87.8, 69.2, 55.4, 82.9, 77.0), 75.0),
    ((93.5, 88.5, 72.3, 59.0, 83.9, 78.7), 77.0),
    ((94.1, 88.9, 74.3, 61.5, 85.1, 80.4), 78.6),
  ],
)
def test_means_of_the_paper_follow_from_their_columns(row, mean):
  """1,000 images of which as many have each stick right as the table says."""
  torso, head, *limbs = row
  shares = [torso, head, *np.repeat(limbs, 2)]
  state = MeanState(np.array(shares) * 10, np.full(10, 1000))
  summary = keypoints.pcp_summary(state, LSP)
  assert 100 * summary['mean'] == pytest.approx(mean, abs=0.0501)
  assert 100 * summary['lower_leg'] == pytest.approx(row[-1])


def standing():
  """A person who faces the camera: the right side at smaller x."""
  points = np.zeros((14, 2))
  for name, y, out in (
    *(('shoulder', 20, 10), ('elbow', 35, 15), ('wrist', 50, 18)),
    *(('hip', 50, 8), ('knee', 75, 9), ('ankle', 100, 10)),
  ):
    points[LSP.names.index(f'right_{name}')] = 50 - out, y
    points[LSP.names.index(f'left_{name}')] = 50 + out, y
  points[12], points[13] = (50, 15), (50, 0)
  return points


@pytest.mark.parametrize('degrees', [0, 60, 180, 250])
def test_observer_centric(degrees):
  angle = math.radians(degrees)
  turn = np.array(
    [
      [math.cos(angle), -math.sin(angle)],
      [math.sin(angle), math.cos(angle)],
    ]
  )
  front = standing()
  back = front[LSP.flip]  # seen from behind: the same places, names swapped
  twisted = front.copy()
  arms = [i for i, n in enumerate(LSP.names) if n.endswith(('er', 'ow', 'ist'))]
  twisted[arms] = back[arms]
  people = np.stack([front, back, twisted]) @ turn.T
  visibility = RNG.integers(0, 2, (3, 14))
  points, moved = geometry.observer_centric(people, visibility, LSP)
  for person in range(3):
    np.testing.assert_allclose(points[person], front @ turn.T, atol=1e-9)
  np.testing.assert_array_equal(moved[0], visibility[0])
  np.testing.assert_array_equal(moved[1], visibility[1][LSP.flip])
  expected = visibility[2].copy()
  expected[arms] = visibility[2][LSP.flip][arms]
  np.testing.assert_array_equal(moved[2], expected)
  again, _ = geometry.observer_centric(points, moved, LSP)
  np.testing.assert_array_equal(again, points)


def test_observer_centric_needs_the_torso():
  back = standing()[LSP.flip][None]
  visibility = np.zeros((1, 14), int)
  visibility[0, LSP.names.index('left_hip')] = schema.ABSENT
  points, _ = geometry.observer_centric(back, visibility, LSP)
  np.testing.assert_array_equal(points, back)


def test_parts_merge_into_the_whole():
  estimate, truth, mask = example(30)
  lengths = keypoints.distances(estimate, truth)
  for metric in (keypoints.auc, keypoints.epe):
    whole = metric(lengths, mask)
    parts = [metric(lengths[s], mask[s]) for s in (slice(7), slice(7, 30))]
    merged = parts[0].merge(parts[1])
    np.testing.assert_allclose(merged.total, whole.total, rtol=1e-12)
    np.testing.assert_array_equal(merged.count, whole.count)


def test_bad_input():
  with pytest.raises(
    InputError, match=r'\(2, 3, 2\) and the truth \(2, 4, 2\)'
  ):
    keypoints.distances(np.zeros((2, 3, 2)), np.zeros((2, 4, 2)))
  with pytest.raises(InputError, match='example 1 is 0 pixels'):
    keypoints.distances(np.zeros((2, 3, 2)), np.zeros((2, 3, 2)), [1.0, 0.0])
