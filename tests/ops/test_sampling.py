"""Patches around points, against OpenCV and a plain loop."""

import cv2
import jax
import numpy as np
import pytest
from sampling_oracle import grid_sample

from fld_jax.ops.sampling import patches


def draw(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
  ('h', 'w', 'side'), [(12, 12, 7), (9, 14, 4), (6, 5, 1)]
)
def test_patches_are_opencv_s(h, w, side):
  """`remap` counts from the centres of cells, and pads with 0."""
  x = draw((2, h, w, 3))
  points = np.random.default_rng(1).uniform(-0.6, 0.6, (2, 5, 2))
  found = patches(x, points.astype(np.float32), side)
  assert found.shape == (2, 5, side, side, 3)
  step = np.arange(side, dtype=np.float32) - (side - 1) / 2
  for b in range(2):
    # A border of zeros that remap interpolates with, as wide as any patch.
    padded = np.pad(x[b], ((9, 9), (9, 9), (0, 0)))
    for n in range(5):
      centre = (points[b, n] + 0.5) * [w, h] - 0.5 + 9
      columns, rows = np.meshgrid(centre[0] + step, centre[1] + step)
      expected = cv2.remap(
        padded,
        columns.astype(np.float32),
        rows.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
      )
      # OpenCV's fractions have 5 bits.
      np.testing.assert_allclose(found[b, n], expected, atol=0.12)


def test_patches_by_hand():
  x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
  # The middle of the map lies between its four inner cells.
  (value,) = patches(x, np.zeros((1, 1, 2), np.float32), 1).reshape(-1)
  assert value == (5 + 6 + 9 + 10) / 4
  # The centre of the cell in row 1, column 2.
  at_cell = np.array([[[2.5 / 4 - 0.5, 1.5 / 4 - 0.5]]], np.float32)
  found = patches(x, at_cell, 3)[0, 0, :, :, 0]
  np.testing.assert_allclose(found, x[0, 0:3, 1:4, 0], atol=1e-5)
  # Half of a corner's patch lies beyond the map.
  corner = np.array([[[0.5 / 4 - 0.5] * 2]], np.float32)
  found = patches(x, corner, 3)[0, 0, :, :, 0]
  np.testing.assert_allclose(found, [[0, 0, 0], [0, 0, 1], [0, 4, 5]])


def test_the_mirrored_map_has_the_mirrored_patches():
  x = draw((2, 8, 8, 3))
  points = np.random.default_rng(2).uniform(-0.5, 0.5, (2, 4, 2))
  points = points.astype(np.float32)
  found = patches(x[:, :, ::-1], points * np.float32([-1, 1]), 5)
  np.testing.assert_allclose(
    found, patches(x, points, 5)[:, :, :, ::-1], atol=1e-4
  )


def test_the_gradient_is_that_of_the_definition():
  """Patches are linear in the map, so a difference is the gradient."""
  x, points = draw((1, 5, 6, 2)), draw((1, 3, 2), 1) / 4
  weights = draw((1, 3, 4, 4, 2), 2)
  total = lambda x: (patches(x, points, 4) * weights).sum()
  gradient = jax.grad(total)(x)
  for place in [(0, 0, 0, 0), (0, 2, 3, 1), (0, 4, 5, 0)]:
    one = np.zeros_like(x)
    one[place] = 1
    np.testing.assert_allclose(gradient[place], total(one), atol=1e-4)


@pytest.mark.parametrize(('h', 'w', 'side'), [(9, 9, 4), (8, 12, 5)])
def test_grids_of_any_spacing_are_grid_sample_s(h, w, side):
  """One spacing for all, or one for each, as windows of their own have."""
  x, rng = draw((2, h, w, 3)), np.random.default_rng(1)
  points = rng.uniform(-0.6, 0.6, (2, 4, 2)).astype(np.float32)
  each = rng.uniform(0.2, 3, (2, 4)).astype(np.float32)
  for spacing in (np.float32(0.7), each):
    found = patches(x, points, side, spacing)
    wide = np.broadcast_to(spacing, (2, 4)) * side
    for b in range(2):
      for n in range(4):
        expected = grid_sample(x[b], points[b, n], (wide[b, n],) * 2, side)
        np.testing.assert_allclose(found[b, n], expected, atol=1e-4)


def test_the_gradient_by_a_window_is_the_difference_quotient():
  """Away from the middles of cells, where bilinear interpolation has a kink."""
  x = draw((1, 7, 7, 2))
  weights = draw((1, 1, 3, 3, 2), 2)
  place = np.array([0.11, -0.07, 1.3], np.float32)
  total = lambda p: (
    patches(x, p[None, None, :2], 3, p[None, 2:]) * weights
  ).sum()
  gradient = jax.grad(total)(place)
  for i in range(3):
    step = np.eye(3, dtype=np.float32)[i] * 1e-2
    expected = (total(place + step) - total(place - step)) / 2e-2
    np.testing.assert_allclose(gradient[i], expected, rtol=1e-2, atol=1e-2)
