"""The heatmap codec against loops, by hand, and as round trips."""

import math

import cv2
import jax
import numpy as np
import pytest

from fld_jax import landmark_sets
from fld_jax.errors import InputError
from fld_jax.ops import heatmaps
from fld_jax.ops.heatmaps import Codec

RNG = np.random.default_rng(0)


def random_points(count, side, border):
  """(count, 8, 2) normalised, at least `border` cells inside the map."""
  cells = RNG.uniform(border, side - 1 - border, (count, 8, 2))
  return ((cells + 0.5) / side - 0.5).astype(np.float32)


def codec(decoder='quarter', sigma=2.0, amplitude=1.0, alpha=15.0):
  return Codec(decoder, sigma, amplitude, 0.0, alpha)


def test_encode_against_a_loop():
  points = random_points(2, 12, -1)
  found = codec(sigma=1.5, amplitude=7.0).encode(points, 12)
  assert found.shape == (2, 12, 12, 8)
  for b, n, row, column in np.ndindex(2, 8, 12, 12):
    # Centres of cells as crop coordinates: 0.5, 1.5, ...
    x, y = (points[b, n].astype(np.float64) + 0.5) * 12
    squared = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2
    expected = 7 * math.exp(-squared / (2 * 1.5**2))
    assert found[b, row, column, n] == pytest.approx(expected, abs=1e-4)


def test_the_middle_of_a_cell_has_the_amplitude():
  points = np.full((1, 8, 2), (2 + 0.5) / 8 - 0.5, np.float32)
  maps = codec(sigma=2.0, amplitude=100.0).encode(points, 8)
  assert maps[0, 2, 2, 0] == pytest.approx(100, rel=1e-5)
  assert np.argmax(maps[0, :, :, 0]) == 2 * 8 + 2


def error_in_cells(found, points, side):
  return np.abs(np.asarray(found) - points).max() * side


@pytest.mark.parametrize('preset', [(1.0, 2.0, 64), (1.0, 1.5, 16)])
def test_round_trip_of_dark(preset):
  amplitude, sigma, side = preset
  points = random_points(200, side, 0)  # the border as well
  maps = codec(sigma=sigma, amplitude=amplitude).encode(points, side)
  found = codec('dark', sigma).decode([maps])
  assert error_in_cells(found, points, side) < 0.1


def test_round_trip_of_the_paper_preset():
  points = random_points(50, 128, 0)
  maps = codec(sigma=8.0, amplitude=100.0).encode(points, 128)
  dark = codec('dark', 8.0, 100.0, 0.1).decode([maps])
  assert error_in_cells(dark, points, 128) < 0.1


def test_dark_of_noisy_maps_against_opencv():
  """The steps of Zhang et al., section 3.2, with OpenCV's Gaussian."""
  sigma, side = 2.0, 32
  rng = np.random.default_rng(4)
  points = rng.uniform(-0.18, 0.18, (20, 8, 2)).astype(np.float32)
  maps = codec(sigma=sigma, amplitude=1.0).encode(points, side)
  maps = np.asarray(maps) + rng.normal(0, 0.1, maps.shape).astype(np.float32)
  found = codec('dark', sigma).decode([maps])
  found = np.asarray(heatmaps.to_index(found, side))
  for b, n in np.ndindex(20, 8):
    smooth = cv2.GaussianBlur(maps[b, :, :, n], (13, 13), sigma)
    y, x = np.unravel_index(smooth.argmax(), smooth.shape)
    m = np.log(np.maximum(smooth.astype(np.float64), 1e-10))
    slope = [(m[y, x + 1] - m[y, x - 1]) / 2, (m[y + 1, x] - m[y - 1, x]) / 2]
    xx = (m[y, x + 2] - 2 * m[y, x] + m[y, x - 2]) / 4
    yy = (m[y + 2, x] - 2 * m[y, x] + m[y - 2, x]) / 4
    xy = m[y + 1, x + 1] - m[y - 1, x + 1] - m[y + 1, x - 1] + m[y - 1, x - 1]
    hessian = np.array([[xx, xy / 4], [xy / 4, yy]])
    top = np.array([x, y]) - np.linalg.solve(hessian, slope)
    np.testing.assert_allclose(found[b, n], top, atol=1e-3)


@pytest.mark.parametrize('sigma', [1.0, 2.0, 3.0])
def test_round_trip_of_quarter(sigma):
  points = random_points(200, 32, 1)
  maps = codec(sigma=sigma, amplitude=1.0).encode(points, 32)
  found = codec('quarter').decode([maps])
  assert error_in_cells(found, points, 32) < 0.3


# Bias in cells of a peak at a quarter of both sides (docs/methods.md 4.2).
@pytest.mark.parametrize(
  'side, sigma, sharpness, bias',
  [
    (128, 2, 0.1, 44.9),
    (128, 2, 15, 0.15),
    (128, 8, 10, 0.72),
    (28, 1, 15, 0.3),
  ],
)
def test_bias_of_the_soft_argmax(side, sigma, sharpness, bias):
  place = 0.25 * (side - 1)  # its index
  points = np.full((1, 8, 2), (place + 0.5) / side - 0.5, np.float32)
  maps = codec(sigma=sigma, amplitude=100.0).encode(points, side)
  found = heatmaps.soft_argmax(maps, sharpness / 100)
  distance = np.linalg.norm((np.asarray(found) - points)[0, 0]) * side
  assert distance == pytest.approx(bias, abs=0.05 + 0.02 * bias)


def test_soft_argmax_against_a_loop():
  maps = RNG.normal(size=(2, 5, 5, 3)).astype(np.float32)
  found = heatmaps.soft_argmax(maps, 2.0)
  for b, n in np.ndindex(2, 3):
    total, x, y = 0.0, 0.0, 0.0
    for row, column in np.ndindex(5, 5):
      weight = math.exp(2.0 * maps[b, row, column, n])
      total += weight
      x += weight * ((column + 0.5) / 5 - 0.5)
      y += weight * ((row + 0.5) / 5 - 0.5)
    np.testing.assert_allclose(found[b, n], [x / total, y / total], atol=1e-6)


def test_quarter_by_hand():
  maps = np.zeros((1, 6, 6, 1), np.float32)
  maps[0, 2, 3] = 1.0
  maps[0, 2, 4] = 0.5  # right neighbour
  maps[0, 1, 3] = 0.2  # neighbour above
  found = np.asarray(heatmaps.quarter(maps))[0, 0]
  np.testing.assert_allclose(
    found, [(3.25 + 0.5) / 6 - 0.5, (1.75 + 0.5) / 6 - 0.5], rtol=1e-6
  )
  corner = np.zeros((1, 6, 6, 1), np.float32)
  corner[0, 0, 5] = 1.0
  found = np.asarray(heatmaps.quarter(corner))[0, 0]
  np.testing.assert_allclose(found, [5.5 / 6 - 0.5, 0.5 / 6 - 0.5], rtol=1e-6)


@pytest.mark.parametrize('decoder', heatmaps.DECODERS)
def test_a_mirrored_map_is_the_map_of_mirrored_landmarks(decoder):
  """To the pixel, without the shift by one that other code needs."""
  flip = landmark_sets.FASHION_8.flip
  points = random_points(4, 16, 2)
  mirrored = points[:, flip] * np.array([-1, 1], np.float32)
  encode = lambda p: np.asarray(codec(sigma=1.5, amplitude=1.0).encode(p, 16))
  maps = encode(points)
  np.testing.assert_allclose(
    encode(mirrored), maps[:, :, ::-1][..., flip], atol=1e-6
  )
  noisy = maps + RNG.normal(0, 0.05, maps.shape).astype(np.float32)
  decode = lambda m: np.asarray(codec(decoder).decode([m]))
  back = decode(noisy[:, :, ::-1][..., flip])[:, flip] * np.array([-1, 1])
  np.testing.assert_allclose(back, decode(noisy), atol=1e-5)


@pytest.mark.parametrize(
  'decoder, columns', [('soft_argmax', (3 + 10) / 2), ('quarter', 10.0)]
)
def test_two_views_that_disagree(decoder, columns):
  """The soft-argmax averages places; the highest cell is the mean map's."""
  views = np.zeros((2, 1, 16, 16, 1), np.float32)
  views[0, 0, 5, 3], views[1, 0, 5, 10] = 2.0, 4.0
  found = codec(decoder, alpha=20.0).decode(list(views))
  index = heatmaps.to_index(np.asarray(found), 16)
  np.testing.assert_allclose(index[0, 0], (columns, 5.0), atol=1e-4)


@pytest.mark.parametrize('decoder', heatmaps.DECODERS)
@pytest.mark.parametrize(
  'maps',
  [
    np.zeros((1, 8, 8, 2), np.float32),
    -np.ones((1, 8, 8, 2), np.float32),
    RNG.normal(size=(1, 8, 8, 2)).astype(np.float32),
  ],
  ids=['flat', 'negative', 'noise'],
)
def test_any_map_gives_a_place_on_it(decoder, maps):
  found = np.asarray(codec(decoder).decode([maps]))
  assert found.shape == (1, 2, 2)
  assert np.isfinite(found).all()
  assert (np.abs(found) < 0.5 + 1.5 / 8).all()


def test_soft_argmax_has_a_gradient():
  maps = RNG.normal(size=(1, 6, 6, 2)).astype(np.float32)
  x = lambda m: heatmaps.soft_argmax(m, 3.0)[0, 0, 0]
  found = jax.grad(x)(maps)
  step = 1e-2
  for place in [(0, 1, 2, 0), (0, 5, 5, 0), (0, 3, 3, 1)]:
    change = np.zeros_like(maps)
    change[place] = step
    slope = (x(maps + change) - x(maps - change)) / (2 * step)
    assert found[place] == pytest.approx(float(slope), abs=1e-3)


@pytest.mark.parametrize(
  'amplitude, alpha, sigma, side',
  [(1.0, 15.0, 2.0, 128), (1.0, 15.0, 1.5, 16), (100.0, 0.1, 8.0, 128)],
)
def test_presets_are_sharp(amplitude, alpha, sigma, side):
  codec('dark', sigma, amplitude, alpha).check_sharpness(side)


# The first is Song et al.'s alpha with targets of unit height: 44.9 of 45 cells
# off.
@pytest.mark.parametrize(
  'amplitude, alpha, sigma, found',
  [(1.0, 0.1, 2.0, 63.5), (1.0, 10.0, 2.0, 38.3), (100.0, 0.05, 8.0, 48.2)],
)
def test_what_sees_only_the_middle_is_refused(amplitude, alpha, sigma, found):
  with pytest.raises(InputError, match='column 31.8 as ([0-9.]+)') as raised:
    codec('dark', sigma, amplitude, alpha).check_sharpness(128)
  said = float(str(raised.value).partition(' as ')[2].partition(',')[0])
  # The table of docs/methods.md 4.2 has the distance, sqrt(2) times that of an
  # axis.
  assert said == pytest.approx(found, abs=0.1)


def test_unknown_decoder():
  with pytest.raises(InputError, match="'max'.*quarter, soft_argmax, dark"):
    codec('max').decode([np.zeros((1, 8, 8, 1))])


def test_confidence_is_the_height_of_the_mean_map():
  maps = np.zeros((2, 6, 6, 3), np.float32)
  maps[0, 2, 3] = [50, 100, 130]
  maps[1, 5, 0] = [-3, 10, 0]
  maps[1] -= [4, 0, 0]
  alone = codec(amplitude=100.0).confidence([maps])
  np.testing.assert_allclose(alone, [[0.5, 1, 1], [0, 0.1, 0]])
  elsewhere = np.roll(maps, 1, axis=1)
  both = codec(amplitude=100.0).confidence([maps, elsewhere])
  np.testing.assert_allclose(both, [[0.25, 0.5, 0.65], [0, 0.05, 0]])
