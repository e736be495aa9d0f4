import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kmeans_oracle import blobs, lloyd_loop
from sklearn.cluster import KMeans as Reference

from fld_jax.cascade import pseudo_labels as pl
from fld_jax.errors import InputError
from fld_jax.ops.kmeans import kmeans
from fld_jax.runtime.parallel import Parallel
from fld_jax.schema import ABSENT, OCCLUDED, TRUNCATED, VISIBLE

ONE = Parallel(devices=jax.devices()[:1])


def chunked(z, mask=None, size=None):
  """A `chunks` argument over arrays; every coordinate there by default."""
  mask = np.ones(z.shape, bool) if mask is None else mask
  size = size or len(z)
  return lambda: (
    (z[i : i + size], mask[i : i + size]) for i in range(0, len(z), size)
  )


# Vectors.


def test_absolute_vectors():
  landmarks = np.array([[[0.25, -0.5], [0.125, 0.0], [9.0, 9.0], [7.0, 7.0]]])
  visibility = np.array([[VISIBLE, OCCLUDED, TRUNCATED, ABSENT]])
  z, mask = pl.label_vectors(landmarks, visibility, None, space='absolute')
  np.testing.assert_allclose(z, [[56, -112, 28, 0, 0, 0, 0, 0]])
  np.testing.assert_array_equal(mask, [[True] * 4 + [False] * 4])


def test_offsets_are_estimate_minus_landmarks_and_0_without_a_position():
  landmarks = np.array([[[0.25, -0.5], [0.0, 0.0]]])
  estimate = np.array([[[0.5, -0.25], [0.3, 0.3]]])
  visibility = np.array([[VISIBLE, TRUNCATED]])
  z, mask = pl.label_vectors(landmarks, visibility, estimate, space='offset')
  np.testing.assert_allclose(z, [[56, 56, 0, 0]])
  assert mask.all()


@pytest.mark.parametrize(
  ('transform', 'expected'),
  [
    ('raw', [[4, -6, -6, 9]]),
    ('signed_sqrt', [[2, -(6**0.5), -(6**0.5), 3]]),
  ],
)
def test_context_offset_is_the_outer_product(transform, expected):
  estimate = np.array([[[2.0, -3.0]]]) / 224  # 2 and -3 pixels off
  z, mask = pl.label_vectors(
    np.zeros((1, 1, 2)),
    np.array([[VISIBLE]]),
    estimate,
    space='context_offset',
    context_transform=transform,
  )
  np.testing.assert_allclose(z, expected, rtol=1e-5)
  assert mask.all()


def test_vectors_are_constants_of_the_loss_under_jit():
  def total(estimate):  # sqrt has no slope at 0, where the first offset is
    z, _ = pl.label_vectors(
      jnp.zeros((1, 2, 2)),
      jnp.zeros((1, 2), int),
      estimate,
      space='context_offset',
    )
    return z.sum() + (estimate**2).sum()

  estimate = jnp.array([[[0.0, 0.0], [0.1, 0.2]]])
  np.testing.assert_allclose(jax.jit(jax.grad(total))(estimate), 2 * estimate)


def test_wrong_names_and_a_missing_estimate():
  landmarks, visibility = np.zeros((1, 2, 2)), np.zeros((1, 2), int)
  with pytest.raises(InputError, match='absolute, offset, context_offset'):
    pl.label_vectors(landmarks, visibility, landmarks, space='polar')
  with pytest.raises(InputError, match='signed_sqrt, raw'):
    pl.label_vectors(
      landmarks, visibility, None, space='absolute', context_transform='log'
    )
  with pytest.raises(InputError, match='needs the estimate'):
    pl.label_vectors(landmarks, visibility, None, space='offset')


# Labels.


def test_soft_labels_by_hand():
  z = np.array([[3.0, 4.0], [3.0, 99.0], [99.0, 99.0]])
  mask = np.array([[True, True], [True, False], [False, False]])
  centres = np.array([[0.0, 0.0], [3.0, 0.0]])
  # Distances 5, 4; with one coordinate of two 3 sqrt 2, 0; without any 0, 0.
  distances = np.array([[5, 4], [3 * 2**0.5, 0], [0, 0]])
  got = pl.soft_labels(z, mask, centres, temperature=2.0, normalize=False)
  expected = np.exp(-distances / 2)
  np.testing.assert_allclose(got, expected, rtol=1e-6)
  got = pl.soft_labels(z, mask, centres, temperature=2.0)
  expected /= expected.sum(1, keepdims=True)
  np.testing.assert_allclose(got, expected, rtol=1e-6)
  np.testing.assert_allclose(got[2], 0.5)


def test_temperature_1_is_hard_and_20_soft_for_offsets_of_some_pixels():
  rng = np.random.default_rng(0)
  landmarks = rng.uniform(-0.4, 0.4, (200, 8, 2))
  estimate = landmarks + rng.normal(0, 0.06, landmarks.shape)
  visibility = np.zeros((200, 8), int)
  z, mask = pl.label_vectors(landmarks, visibility, estimate, space='offset')
  labels = {
    t: pl.soft_labels(z, mask, z[:20], temperature=t)[20:] for t in (1, 20)
  }
  assert np.median(labels[1].max(1)) > 0.95
  assert 0.05 < np.median(labels[20].max(1)) < 0.5
  nearest = pl.hard_label(z, mask, z[:20])[20:]
  np.testing.assert_array_equal(labels[20].argmax(1), nearest)


def test_hard_label_against_a_loop():
  rng = np.random.default_rng(1)
  z, centres = rng.normal(0, 50, (40, 6)), rng.normal(0, 50, (5, 6))
  mask = rng.random((40, 6)) < 0.6
  expected = [
    min(range(5), key=lambda k: sum((row - centres[k])[m] ** 2))
    for row, m in zip(z, mask, strict=True)
  ]
  got = pl.hard_label(z, mask, centres)
  np.testing.assert_array_equal(got, expected)


# Errors and routing.


def test_offset_error_by_hand():
  landmarks = np.zeros((3, 4, 2))
  estimate = np.zeros((3, 4, 2))
  estimate[:, 0], estimate[:, 1] = (0.3, 0.0), (0.0, 0.4)
  visibility = np.array(
    [
      [VISIBLE, OCCLUDED, VISIBLE, VISIBLE],
      [TRUNCATED, VISIBLE, TRUNCATED, ABSENT],
      [TRUNCATED, ABSENT, ABSENT, ABSENT],
    ]
  )
  got = pl.offset_error(landmarks, visibility, estimate)
  np.testing.assert_allclose(got, [0.5, 0.4 * 4**0.5, 0.0], rtol=1e-6)


def test_cluster_errors_by_hand():
  got = pl.cluster_errors(jnp.array([0, 2, 2]), jnp.array([0.1, 0.2, 0.6]), 4)
  np.testing.assert_allclose(got, [0.1, 0.3, 0.4, 0.3], rtol=1e-6)


def test_routing_score_by_hand():
  predicted = jnp.array(
    [[0.25, 0.75, 0.0], [0.5, 0.5, -3.0], [2.0, 0.0, 2.0], [-1.0, -2.0, 0.0]]
  )
  got = pl.routing_score(predicted, jnp.array([0.1, 0.2, 0.6]))
  np.testing.assert_allclose(got, [0.175, 0.15, 0.35, 0.3], rtol=1e-6)


# K-means.


@pytest.mark.parametrize(
  ('dims', 'shift', 'size'),
  # The last: expanded squares lose all that tells these vectors apart.
  [(16, 0.0, 20), (256, 100.0, 20), (256, 3000.0, 1)],
)
def test_inertia_as_scikit_learn(dims, shift, size):
  z = blobs(3000, dims, 15, size, size) + np.float32(shift)
  init = z[:12]
  reference = Reference(12, init=init, n_init=1, algorithm='lloyd', tol=0)
  reference.fit(z.astype(np.float64))
  got = kmeans(
    chunked(z, size=800), 12, seed=0, parallel=ONE, tolerance=0, init=init
  )
  assert got.inertia == pytest.approx(reference.inertia_, rel=1e-4)
  assert got.num_iters > 2
  centres = reference.cluster_centers_
  np.testing.assert_allclose(got.centres, centres, atol=0.02 * size)
  counts = np.bincount(reference.labels_)
  np.testing.assert_allclose(got.counts, counts, atol=5)


def test_masked_kmeans_against_a_loop():
  rng = np.random.default_rng(2)
  z = blobs(300, 6, 4, 80, 15)
  mask = rng.random(z.shape) < 0.7
  init = z[:4].copy()
  mask[5] = False  # belongs nowhere
  z = np.where(mask, z, np.nan)  # what is not there is never read
  got = kmeans(
    chunked(z, mask),
    4,
    seed=0,
    parallel=ONE,
    num_iters=4,
    tolerance=0,
    init=init,
  )
  centres, inertia, counts = lloyd_loop(z, mask, init.astype(float), 4)
  np.testing.assert_allclose(got.centres, centres, rtol=1e-4, atol=1e-3)
  np.testing.assert_array_equal(got.counts, counts)
  assert got.counts.sum() == mask.any(1).sum() < 300
  assert got.inertia == pytest.approx(inertia, rel=1e-5)


def test_coordinate_that_no_member_has_keeps_its_value():
  z = np.array([[0, 0], [2, 0], [100, 7], [104, 7]], np.float32)
  mask = np.array([[1, 1], [1, 1], [1, 0], [1, 0]], bool)
  init = np.array([[1, 3], [90, 42]], np.float32)
  got = kmeans(chunked(z, mask), 2, seed=0, parallel=ONE, init=init)
  np.testing.assert_allclose(got.centres, [[1, 0], [102, 42]], atol=1e-4)
  assert got.inertia == pytest.approx(10)


@pytest.mark.skipif(len(jax.devices()) < 4, reason='needs 4 devices')
def test_same_result_for_any_chunks_and_devices():
  z = blobs(300, 8, 9, 40, 15, seed=3)
  rng = np.random.default_rng(3)
  mask = rng.random(z.shape) < 0.8
  mask[:130] = True  # some chunks are full, some are not

  def run(parallel, size, num_iters=2):
    return kmeans(
      chunked(z, mask, size), 4, seed=5, parallel=parallel, num_iters=num_iters
    )

  expected = run(ONE, 64)
  assert expected.inertia < run(ONE, 64, num_iters=0).inertia
  four = jax.devices()[:4]
  for parallel, size in (
    (Parallel(devices=four), 1000),
    (Parallel('pmap', devices=four), 130),
  ):
    got = run(parallel, size)
    np.testing.assert_allclose(got.centres, expected.centres, atol=1e-3)
    np.testing.assert_array_equal(got.counts, expected.counts)
    assert got.inertia == pytest.approx(expected.inertia, rel=1e-5)


def test_plus_plus_start_is_reproducible_and_depends_on_the_seed():
  z = blobs(200, 4, 5, 40, 10)
  starts = [
    kmeans(chunked(z), 5, seed=s, parallel=ONE, num_iters=0).centres
    for s in (0, 0, 1)
  ]
  np.testing.assert_array_equal(starts[0], starts[1])
  assert np.abs(starts[0] - starts[2]).max() > 1
  for centre in starts[0]:  # samples, all different
    assert np.abs(z - centre).max(1).min() < 1e-4
  assert len(np.unique(starts[0].round(2), axis=0)) == 5


def test_plus_plus_start_finds_all_of_separate_blobs():
  z = blobs(600, 4, 8, 1000, 1, seed=4)
  rng = np.random.default_rng(0)
  for seed in range(3):
    got = kmeans(chunked(z), 8, seed=seed, parallel=ONE, num_iters=0)
    random = z[rng.choice(len(z), 8, replace=False)]
    gaps = ((z[:, None] - random) ** 2).sum(2).min(1)
    assert got.inertia < 0.1 * gaps.sum()
    assert got.counts.min() > 20


def test_plus_plus_draws_by_squared_distance():
  points = np.array([0.0, 1.0, 3.0, 7.0])
  z = points[:, None].astype(np.float32)
  draws = 300
  frequency = np.zeros((4, 4))
  for seed in range(draws):
    got = kmeans(chunked(z), 2, seed=seed, parallel=ONE, num_iters=0)
    first, second = np.abs(points - got.centres).argmin(1)
    frequency[first, second] += 1 / draws
  squared = (points[:, None] - points) ** 2
  expected = squared / squared.sum(1, keepdims=True) / 4
  # By chance the deviations sum to 0.13 on average, 0.26 at the 99.9th
  # percentile; draws by the plain distance are 0.29 off, uniform ones 0.72.
  assert np.abs(frequency - expected).sum() < 0.24


def test_empty_cluster_starts_again_at_the_farthest_vector():
  z = np.array([[0.0], [2.0], [4.0], [30.0], [64.0]], np.float32)
  init = np.array([[1.0], [-1e4]])
  once = kmeans(
    chunked(z, size=2), 2, seed=0, parallel=ONE, num_iters=1, init=init
  )
  np.testing.assert_allclose(once.centres, [[20], [64]], atol=1e-4)
  end = kmeans(chunked(z), 2, seed=0, parallel=ONE, init=init)
  np.testing.assert_allclose(end.centres, [[9], [64]], atol=1e-4)
  np.testing.assert_array_equal(end.counts, [4, 1])
  assert end.inertia == pytest.approx(81 + 49 + 25 + 441)


def test_farthest_counts_missing_coordinates_in():
  z = np.array([[6, 9], [6, 5], [0, 1]], np.float32)
  mask = np.array([[1, 0], [1, 1], [1, 1]], bool)
  init = np.array([[0.0, 0.0], [-1e3, -1e3]])
  # Squared distances to (0, 0): 36 * 2, 61, 1. What it lacks is the mean, 3.
  got = kmeans(
    chunked(z, mask), 2, seed=0, parallel=ONE, num_iters=1, init=init
  )
  np.testing.assert_allclose(got.centres, [[4, 3], [6, 3]], atol=1e-5)


def test_several_empty_clusters_are_all_filled():
  z = blobs(300, 3, 6, 100, 1)
  init = np.full((6, 3), 1e4)
  init[0] = 0
  got = kmeans(chunked(z), 6, seed=0, parallel=ONE, init=init)
  assert got.counts.min() > 0
  assert got.inertia < 300 * 3 * 2  # all blobs found: noise of variance 1


def test_mistakes_of_the_input():
  z = blobs(10, 3, 2, 10, 1)
  with pytest.raises(InputError, match='num_clusters is 11.*only 10'):
    kmeans(chunked(z), 11, seed=0, parallel=ONE)
  same = np.repeat(z[:2], 5, axis=0)
  with pytest.raises(InputError, match='num_clusters is 3.*only 2 different'):
    kmeans(chunked(same), 3, seed=0, parallel=ONE)
  z[7, 1] = np.nan
  with pytest.raises(InputError, match='vector 7 is not finite'):
    kmeans(chunked(z, size=4), 2, seed=0, parallel=ONE)
  with pytest.raises(InputError, match='no pseudo-label vectors'):
    kmeans(chunked(z, np.zeros(z.shape, bool)), 2, seed=0, parallel=ONE)


def test_an_iterator_that_is_used_up_is_noticed():
  z = blobs(10, 3, 2, 10, 1)
  once = iter([(z, np.ones(z.shape, bool))])
  with pytest.raises(ValueError, match='same vectors each time'):
    kmeans(lambda: once, 2, seed=0, parallel=ONE, init=z[:2])
