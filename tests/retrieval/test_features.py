"""Features of regions and of windows, against what the weights' file says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fld_jax import geometry, schema
from fld_jax.errors import InputError
from fld_jax.models.efficientnet import EfficientNet
from fld_jax.pretrained import imagenet, torch_files
from fld_jax.retrieval import features
from fld_jax.retrieval.features import LOCALISATIONS, Extractor, Located
from fld_jax.retrieval.projection import Projection

RNG = np.random.default_rng(5)
BOX = np.array([30.0, 20.0, 90.0, 160.0], np.float32)
POINTS = np.array([[33.0, 25.0], [60.0, 90.0], [0.0, 0.0], [88.0, 158.0]])
CODES = np.array(
  [schema.VISIBLE, schema.OCCLUDED, schema.TRUNCATED, schema.VISIBLE]
)


@pytest.fixture(scope='module')
def path():
  try:
    return imagenet.installed(imagenet.find('efficientnet_lite0'))
  except InputError as missing:
    pytest.skip(str(missing))


def record(seed):
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 255, (12, 8, 3))
  image = np.kron(coarse, np.ones((16, 16, 1))).astype(np.uint8)
  return {
    'id': b'a',
    'image': image,
    'box': BOX,
    'landmarks': POINTS.astype(np.float32),
    'visibility': CODES.astype(np.int32),
    'clothes_type': np.int32(0),
    'variation': np.int32(0),
    'score': np.float32(1),
    'index': np.int32(7),
  }


def cells_of(path, crop):
  """The outputs of the class layer, by the file's own arrays."""
  arrays = torch_files.read(path)
  variables = Extractor('box')._weights[0]
  image = (crop[None].astype(np.float32) - 127) / 128
  run = jax.jit(lambda image: EfficientNet().apply(variables, image, False))
  maps = run(image)['c5']
  x = np.asarray(maps[0]) @ arrays['_conv_head.weight'][:, :, 0, 0].T
  scale = arrays['_bn1.weight'] / np.sqrt(arrays['_bn1.running_var'] + 1e-3)
  x = (x - arrays['_bn1.running_mean']) * scale + arrays['_bn1.bias']
  return np.clip(x, 0, 6)


def interpolated(cells, x, y):
  """The value at x, y in cells, the centre of the first at 0.5; 0 outside."""
  total = np.zeros(cells.shape[-1])
  for row in range(len(cells)):
    for column in range(len(cells)):
      near = max(0, 1 - abs(y - row - 0.5)) * max(0, 1 - abs(x - column - 0.5))
      total += near * cells[row, column]
  return total


def test_windows_of_landmarks(path):
  extractor = Extractor('landmarks')
  ((index, found),) = extractor([record(0)])
  assert index.tolist() == [0] and found.shape == (1, 4 * 1280)
  parts = found.reshape(4, 1280)
  # The box is 140 high, so the crop is of the 175 pixels around its middle, in
  # 5 cells of 35 pixels: a window is a quarter of 140.
  corner = np.array([60 - 87.5, 90 - 87.5])
  region = np.array([*corner, *(corner + 175)])
  crop, _ = geometry.cut(record(0)['image'], region, 160, 'pad_square', 0.0)
  cells = cells_of(path, crop)
  assert cells.shape == (5, 5, 1280)
  for i, (point, code) in enumerate(zip(POINTS, CODES, strict=True)):
    if code == schema.TRUNCATED:
      assert not parts[i].any()
      continue
    wanted = interpolated(cells, *((point - corner) / 35))
    wanted /= np.linalg.norm(wanted)
    np.testing.assert_allclose(parts[i], wanted, atol=2e-4)


def test_mean_of_the_box(path):
  # Three records in batches of two: the last batch is filled up.
  found = list(Extractor('box')([record(i) for i in range(3)], batch_size=2))
  assert [i.tolist() for i, _ in found] == [[0, 1], [2]]
  crop, _ = geometry.cut(record(2)['image'], BOX, 128, 'pad_square', 0.0)
  wanted = cells_of(path, crop).mean(axis=(0, 1))
  wanted /= np.linalg.norm(wanted)
  np.testing.assert_allclose(found[1][1][0], wanted, atol=2e-4)


def test_regions():
  source = [record(0)]
  box = lambda name, points=None: Located(source, LOCALISATIONS[name], points)[
    0
  ]['box'].tolist()
  assert box('box') == BOX.tolist()
  assert box('image') == [0, 0, 128, 192]
  # A quarter wider than the longer side, about the same centre.
  assert box('landmarks') == [-27.5, 2.5, 147.5, 177.5]
  assert box('joints') == [-56, -24, 184, 216]


def test_points_of_another_run_take_the_place_of_the_truth():
  points = np.full((1, 2, 2), 5.0), np.array([[0, 2]])
  found = Located([record(0)], LOCALISATIONS['landmarks'], points)[0]
  assert found['landmarks'].tolist() == [[5, 5], [5, 5]]
  assert found['visibility'].tolist() == [0, 2]
  with pytest.raises(InputError, match='points of 1 images, and 2 records'):
    Located([record(0)] * 2, LOCALISATIONS['landmarks'], points)


def test_unit():
  found = features.unit(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
  np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]])


@pytest.mark.parametrize('shape', [(40, 12), (12, 40)])
def test_projection_keeps_what_svd_keeps(shape):
  x = RNG.normal(size=shape) * np.geomspace(5, 0.1, shape[1])
  found = Projection.fit(x, 5)
  _, values, rows = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
  y = found(x)
  assert y.shape == (shape[0], 5)
  np.testing.assert_allclose((y**2).sum(axis=0), values[:5] ** 2, rtol=1e-4)
  cosines = np.abs((found.components * rows[:5].T).sum(axis=0))
  np.testing.assert_allclose(cosines, 1, atol=1e-4)


def test_projection_to_more_than_there_is():
  x = RNG.normal(size=(4, 9))
  found = Projection.fit(x, 100)
  assert found(x).shape == (4, 4)
  # Distances between the four stay what they were.
  y = found(x)
  for i in range(4):
    for j in range(4):
      wanted = np.linalg.norm(x[i] - x[j])
      assert np.linalg.norm(y[i] - y[j]) == pytest.approx(wanted, abs=1e-4)
