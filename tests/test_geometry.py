"""Crops against corners worked by hand, and dots found in the pixels."""

import cv2
import numpy as np
import pytest

from fld_jax import geometry, landmark_sets
from fld_jax.errors import InputError

# Centre (20, 40), 20 wide, 40 high.
BOX = np.array([10.0, 20.0, 30.0, 60.0])
CORNERS = np.array([[10, 20], [30, 20], [30, 60], [10, 60], [20, 40]], float)


def mapped(mode, **jitter):
  affine = geometry.crop_affine(BOX, 80, mode, **jitter)
  return geometry.transform(affine, CORNERS)


@pytest.mark.parametrize(
  ('mode', 'jitter', 'expected'),
  [
    # Twice as large, with 20 pixels of padding left and right.
    ('pad_square', {}, [[20, 0], [60, 0], [60, 80], [20, 80], [40, 40]]),
    # Four times as wide, twice as high.
    ('bbox_wh', {}, [[0, 0], [80, 0], [80, 80], [0, 80], [40, 40]]),
    (
      'bbox_wh',
      {'flip': True},
      [[80, 0], [0, 0], [0, 80], [80, 80], [40, 40]],
    ),
    (
      'pad_square',
      {'scale': 0.5},
      [[30, 20], [50, 20], [50, 60], [30, 60], [40, 40]],
    ),
    (
      'pad_square',
      {'shift': (0.25, -0.5)},
      [[40, -40], [80, -40], [80, 40], [40, 40], [60, 0]],
    ),
    # A quarter clockwise: what was at the top left is at the top right.
    (
      'pad_square',
      {'rotation': np.pi / 2},
      [[80, 20], [80, 60], [0, 60], [0, 20], [40, 40]],
    ),
    # The mirror comes last: it also mirrors the rotation and the shift.
    (
      'pad_square',
      {'rotation': np.pi / 2, 'flip': True, 'shift': (0.25, 0)},
      [[-20, 20], [-20, 60], [60, 60], [60, 20], [20, 40]],
    ),
  ],
)
def test_crop_affine_by_hand(mode, jitter, expected):
  np.testing.assert_allclose(mapped(mode, **jitter), expected, atol=1e-9)


def test_crop_affine_of_a_box_without_extent_is_finite():
  for mode in ('pad_square', 'bbox_wh'):
    affine = geometry.crop_affine(np.array([5, 6, 5, 6.0]), 8, mode)
    np.testing.assert_allclose(affine @ [5, 6, 1], [4, 4])


def test_unknown_mode():
  with pytest.raises(InputError, match="'stretch'.*'pad_square'.*'bbox_wh'"):
    geometry.crop_affine(BOX, 80, 'stretch')


def test_grow_box():
  np.testing.assert_allclose(geometry.grow_box(BOX, 0.25), [5, 10, 35, 70])
  np.testing.assert_allclose(geometry.grow_box(BOX, 0), BOX)


def random_affine(rng, box, size, mode):
  return geometry.crop_affine(
    box,
    size,
    mode,
    flip=bool(rng.integers(2)),
    scale=rng.uniform(0.8, 1.2),
    rotation=rng.uniform(-0.5, 0.5),
    shift=rng.uniform(-0.1, 0.1, 2),
  )


def test_invert_and_transform_against_3x3_matrices():
  rng = np.random.default_rng(0)
  affines = np.stack([random_affine(rng, BOX, 64, 'bbox_wh') for _ in range(9)])
  points = rng.uniform(-50, 90, (9, 4, 2))
  there = geometry.transform(affines, points)
  inverse = geometry.invert(affines)
  for i in range(9):
    whole = np.vstack([affines[i], [0, 0, 1]])
    np.testing.assert_allclose(inverse[i], np.linalg.inv(whole)[:2])
    for point, found in zip(points[i], there[i], strict=True):
      np.testing.assert_allclose(found, (whole @ [*point, 1])[:2])
  np.testing.assert_allclose(geometry.transform(inverse, there), points)


def test_normalised_coordinates():
  points = np.array([[0, 0], [224, 224], [112, 56]])
  normalised = geometry.normalise(points, 224)
  np.testing.assert_allclose(normalised, [[-0.5, -0.5], [0.5, 0.5], [0, -0.25]])
  np.testing.assert_allclose(geometry.denormalise(normalised, 224), points)


def test_flip_swaps_left_and_right_and_is_its_own_inverse():
  flip = landmark_sets.FASHION_8.flip
  np.testing.assert_array_equal(flip, [1, 0, 3, 2, 5, 4, 7, 6])
  np.testing.assert_array_equal(flip[flip], range(8))


# Pixels.


def noise(height, width, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), np.uint8)


def warp(image, box, size, mode='pad_square', **jitter):
  affine = geometry.crop_affine(np.asarray(box, float), size, mode, **jitter)
  return geometry.warp(image, np.asarray(box, float), affine, size)


def test_a_crop_at_scale_1_copies_pixels():
  image = noise(40, 50)
  np.testing.assert_array_equal(
    warp(image, [7, 5, 27, 25], 20), image[5:25, 7:27]
  )
  np.testing.assert_array_equal(
    warp(image, [7, 5, 27, 25], 20, flip=True), image[5:25, 7:27][:, ::-1]
  )
  np.testing.assert_array_equal(
    warp(image, [7, 5, 27, 25], 20, rotation=np.pi / 2),
    np.rot90(image[5:25, 7:27], -1),  # clockwise
  )


def test_outside_the_box_is_black():
  crop = warp(np.full((90, 90, 3), 255, np.uint8), [30, 20, 70, 80], 60)
  assert (crop[:, :10] == 0).all() and (crop[:, 50:] == 0).all()
  assert (crop[:, 10:50] == 255).all()


def test_a_box_partly_outside_the_image():
  image = noise(70, 60)
  crop = warp(image, [-20, -10, 40, 50], 60)
  assert (crop[:10] == 0).all() and (crop[:, :20] == 0).all()
  np.testing.assert_array_equal(crop[10:, 20:], image[:50, :40])
  crop = warp(image, [30, 40, 90, 100], 60)
  np.testing.assert_array_equal(crop[:30, :30], image[40:, 30:])
  assert (crop[30:] == 0).all() and (crop[:, 30:] == 0).all()


@pytest.mark.parametrize(
  'box', [[-30, 0, -10, 20], [0, 80, 20, 99], [60, 5, 70, 15]]
)
def test_a_box_wholly_outside_the_image_is_black(box):
  assert not warp(noise(70, 60), box, 16).any()


def block_means(image, rows, columns):
  height, width = image.shape[:2]
  shape = (rows, height // rows, columns, width // columns, 3)
  return image.reshape(shape).astype(float).mean((1, 3))


def test_a_strong_reduction_averages_areas():
  image = noise(128, 128)
  np.testing.assert_allclose(
    warp(image, [0, 0, 128, 128], 16), block_means(image, 16, 16), atol=1
  )


def test_a_reduction_along_one_axis_averages_it_and_enlarges_the_other():
  row = noise(1, 512)
  image = np.repeat(row, 8, axis=0)  # 512 x 8 pixels -> 32 x 32
  crop = warp(image, [0, 0, 512, 8], 32, 'bbox_wh')
  # The outermost rows lie beyond the centres of the image's.
  expected = np.repeat(block_means(row, 1, 32), 28, axis=0)
  np.testing.assert_allclose(crop[2:-2], expected, atol=1)


def dots(height, width, points, sigma):
  """One soft dot a channel, drawn by the definition of pixel centres."""
  y, x = np.mgrid[:height, :width] + 0.5
  squares = [(x - px) ** 2 + (y - py) ** 2 for px, py in points]
  return np.stack(
    [np.round(255 * np.exp(-s / (2 * sigma**2))) for s in squares], axis=-1
  ).astype(np.uint8)


def centroids(image):
  """(3, 2): the middle of each channel's light."""
  height, width = image.shape[:2]
  y, x = np.mgrid[:height, :width] + 0.5
  light = image.astype(float)
  total = light.sum((0, 1))
  weighted = [(light * axis[..., None]).sum((0, 1)) / total for axis in (x, y)]
  return np.stack(weighted, axis=-1)


@pytest.mark.parametrize('mode', ['pad_square', 'bbox_wh'])
@pytest.mark.parametrize('size', [48, 224, 500])  # smaller, about as is, larger
@pytest.mark.parametrize('seed', range(3))
def test_dots_appear_where_the_affine_says(mode, size, seed):
  rng = np.random.default_rng(seed)
  box = np.array([60.3, 40.7, 251.9, 349.2])
  points = rng.uniform([130, 160], [180, 230], (3, 2))
  image = dots(400, 300, points, sigma=5)
  np.testing.assert_allclose(centroids(image), points, atol=0.01)
  affine = random_affine(rng, box, size, mode)
  crop = geometry.warp(image, box, affine, size)
  expected = [affine @ [*point, 1] for point in points]
  # Half a pixel of the image, which a wrong convention would move dots by,
  # is 0.07 pixels of the smallest crop.
  np.testing.assert_allclose(centroids(crop), expected, atol=0.04)


def test_surroundings_of_a_box():
  """Shown where the crop reaches beyond the box; nothing changes within."""
  rng = np.random.default_rng(0)
  image = rng.integers(1, 256, (90, 120, 3), dtype=np.uint8)
  box = np.array([40, 30, 80, 60])
  jitter = {'flip': True, 'scale': 0.7, 'rotation': 0.3, 'shift': (0.1, -0.1)}
  black, affine = geometry.cut(image, box, 64, 'bbox_wh', 0.0, **jitter)
  shown, same = geometry.cut(
    image, box, 64, 'bbox_wh', 0.0, surroundings=True, **jitter
  )
  np.testing.assert_array_equal(affine, same)
  # The definition: pixel centres of the crop, looked up in the whole image.
  x, y = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
  places = geometry.transform(
    geometry.invert(affine), np.stack([x, y], axis=-1).reshape(-1, 2)
  ).reshape(64, 64, 2)
  expected = cv2.remap(
    image,
    *(places - 0.5).astype(np.float32).transpose(2, 0, 1),
    cv2.INTER_LINEAR,
  )
  assert np.abs(shown.astype(int) - expected).mean() < 2
  inside = ((places > box[:2] + 2) & (places < box[2:] - 2)).all(axis=-1)
  far = ((places < box[:2] - 2) | (places > box[2:] + 2)).any(axis=-1)
  in_image = ((places > 2) & (places < [118, 88])).all(axis=-1)
  assert np.abs(shown[inside].astype(int) - black[inside]).max() <= 3
  assert not black[far].any() and shown[far & in_image].any(axis=-1).all()
  # Of a plain crop there is nothing to show.
  for mode in ('bbox_wh', 'pad_square'):
    plain = geometry.cut(image, box, 64, mode, 0.1)[0]
    wide = geometry.cut(image, box, 64, mode, 0.1, surroundings=True)[0]
    if mode == 'bbox_wh':
      np.testing.assert_array_equal(plain, wide)
    else:
      assert (plain == 0).all(axis=-1).sum() > (wide == 0).all(axis=-1).sum()
