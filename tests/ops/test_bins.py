"""Bins of x and y against NumPy."""

import numpy as np
import pytest
import scipy.special

from fld_jax.ops.bins import Bins, mirrored
from fld_jax.training import losses

FLIP = np.array([1, 0, 2])


def test_labels_are_gaussians_around_the_middles_of_bins():
  """Bin i covers i to i + 1 of K: a landmark in its middle peaks there."""
  found = np.asarray(Bins(1.5).labels(np.array([[[-0.5 + 2.5 / 8, 0.1]]]), 8))
  assert found.shape == (1, 1, 2, 8)
  for axis, centre in enumerate((2.5, 0.6 * 8)):
    bell = np.exp(-((np.arange(8) + 0.5 - centre) ** 2) / (2 * 1.5**2))
    np.testing.assert_allclose(found[0, 0, axis], bell / bell.sum(), rtol=1e-5)
  assert found[0, 0, 0].argmax() == 2


def test_labels_are_read_back_and_sure():
  rng = np.random.default_rng(0)
  points = rng.uniform(-0.3, 0.3, (2, 3, 2)).astype(np.float32)
  bins = Bins(2.0)
  logits = np.log(np.asarray(bins.labels(points, 64)) + 1e-30)
  np.testing.assert_allclose(bins.decode([logits]), points, atol=1e-5)
  # A peak between two bins is lower by exp(-1/32) on each axis.
  sure = np.asarray(bins.confidence([logits]))
  assert (sure > np.exp(-1 / 32) - 1e-5).all() and (sure <= 1).all()


def test_flat_bins_are_the_middle_and_unsure():
  bins, flat = Bins(2.0), np.zeros((1, 3, 2, 64), np.float32)
  np.testing.assert_allclose(bins.decode([flat]), 0, atol=1e-6)
  # 1/64 over the height of a Gaussian of sigma 2.
  expected = 2 * np.sqrt(2 * np.pi) / 64
  np.testing.assert_allclose(bins.confidence([flat]), expected, rtol=1e-4)


def test_views_are_averaged_as_distributions():
  rng = np.random.default_rng(1)
  views = rng.normal(0, 3, (2, 2, 3, 2, 16)).astype(np.float32)
  share = scipy.special.softmax(views, axis=-1).mean(axis=0)
  place = (np.arange(16) + 0.5) / 16 - 0.5
  bins = Bins(1.0)
  np.testing.assert_allclose(bins.decode(list(views)), share @ place, atol=1e-6)
  bell = np.exp(-(np.arange(-15, 16) ** 2) / 2)
  height = np.minimum(share.max(axis=-1) * bell.sum(), 1)
  np.testing.assert_allclose(
    bins.confidence(list(views)), np.sqrt(height.prod(axis=-1)), rtol=1e-5
  )


def test_mirrored_bins_are_those_of_mirrored_landmarks():
  rng = np.random.default_rng(2)
  logits = rng.normal(0, 3, (2, 3, 2, 16)).astype(np.float32)
  points = np.asarray(Bins(1.0).decode([logits]))
  found = np.asarray(Bins(1.0).decode([mirrored(logits, FLIP)]))
  np.testing.assert_allclose(found, points[:, FLIP] * [-1, 1], atol=1e-6)
  np.testing.assert_array_equal(mirrored(mirrored(logits, FLIP), FLIP), logits)


@pytest.mark.parametrize('codes', [(0, 1, 2), (2, -1, 2), (0, 0, 0)])
def test_loss_is_the_divergence_of_known_landmarks(codes):
  rng = np.random.default_rng(3)
  logits = rng.normal(0, 2, (1, 3, 2, 8)).astype(np.float32)
  labels = rng.dirichlet(np.ones(8), (1, 3, 2)).astype(np.float32)
  labels[0, 0, 0] = np.eye(8)[3]  # 0 log 0 is 0
  share = scipy.special.softmax(logits, axis=-1)
  known = [n for n in range(3) if codes[n] in (0, 1)]
  expected = sum(
    scipy.special.rel_entr(labels[0, n, axis], share[0, n, axis]).sum()
    for n in known
    for axis in range(2)
  ) / max(len(known), 1)
  found = losses.bins(logits, labels, np.array([codes]))
  np.testing.assert_allclose(found, [expected], rtol=1e-5, atol=1e-6)
