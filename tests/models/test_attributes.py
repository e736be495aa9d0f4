"""The joint network: what its attributes are read from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fld_jax.configs import attributes as config_file
from fld_jax.models.attributes import Attributes
from fld_jax.models.efficientnet import EfficientNet
from fld_jax.ops import heatmaps


def test_windows_at_the_peaks():
  """The maximum of 2x2 samples around each peak, times its probability."""
  rng = np.random.default_rng(0)
  middle = rng.uniform(size=(2, 6, 6, 5)).astype(np.float32)
  maps = np.zeros((2, 24, 24, 3), np.float32)
  peaks = rng.integers(5, 19, (2, 3, 2))
  for b in range(2):
    for n in range(3):
      maps[b, peaks[b, n, 1], peaks[b, n, 0], n] = 1
  logits = rng.normal(size=(2, 3, 3)).astype(np.float32)
  network = Attributes(num_landmarks=3, visibility=True)
  found = network._at_landmarks(
    jnp.asarray(middle), {'heatmaps': maps, 'visibility': logits}
  )
  points = np.asarray(heatmaps.quarter(jnp.asarray(maps)))
  wanted = np.zeros((2, 3, 5))
  for b in range(2):
    for n in range(3):
      x, y = (points[b, n] + 0.5) * 6 - 0.5
      samples = []
      for dy in (-0.5, 0.5):
        for dx in (-0.5, 0.5):
          total = np.zeros(5)
          for row in range(6):
            for column in range(6):
              near = max(0, 1 - abs(y + dy - row))
              near *= max(0, 1 - abs(x + dx - column))
              total += near * middle[b, row, column]
          samples.append(total)
      share = np.exp(logits[b, n]) / np.exp(logits[b, n]).sum()
      wanted[b, n] = np.max(samples, axis=0) * (1 - share[2])
  np.testing.assert_allclose(found, wanted.reshape(2, -1), atol=1e-5)


@pytest.mark.parametrize('at_landmarks', [True, False])
def test_shapes_without_running(at_landmarks):
  network = Attributes(
    num_attributes=7, at_landmarks=at_landmarks, hidden=11, visibility=True
  )
  batch = {
    'image': jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32),
    'example_index': jax.ShapeDtypeStruct((2,), jnp.int32),
  }
  outputs, variables = jax.eval_shape(
    lambda batch: network.init_with_output(jax.random.key(0), batch, False),
    batch,
  )
  assert {name: value.shape for name, value in outputs.items()} == {
    'attributes': (2, 7),
    'heatmaps': (2, 16, 16, 8),
    'visibility': (2, 8, 3),
  }
  # The last map has 320 channels, that of stride 16 has 112.
  width = 320 + 8 * 112 * at_landmarks
  assert variables['params']['hidden']['kernel'].shape == (width, 11)


def test_a_frozen_trunk_is_frozen_as_a_whole():
  config = config_file.get_config('trunk=frozen')
  assert config.model.trunk.frozen == EfficientNet().num_blocks()
