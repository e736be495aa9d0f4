"""DLAN: selective dilated convolutions, windows, and how they are held."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling_oracle import grid_sample

from fld_jax.models import dlan
from fld_jax.models.dlan import DLAN, SCALES, SelectiveDilated
from fld_jax.models.vgg import VGG

TRUNK = VGG(blocks=((1, 4), (1, 6)))
N, B = 3, 2


def small(**fields):
  return DLAN(
    num_landmarks=N,
    backbone=TRUNK,
    local_maps=('c1', 'c2'),
    channels=5,
    patch=3,
    hidden=7,
    **fields,
  )


def draw_batch(seed=0):
  rng = np.random.default_rng(seed)
  return {'image': rng.normal(size=(B, 16, 16, 3)).astype(np.float32)}


def dilated(x, kernel, bias, distance):
  """A 3x3 convolution of zero-padded maps with a dilation, as a loop."""
  b, h, w, _ = x.shape
  out = np.zeros((b, h, w, len(bias))) + bias
  for row in range(h):
    for column in range(w):
      for i in range(3):
        for j in range(3):
          r, c = row + (i - 1) * distance, column + (j - 1) * distance
          if 0 <= r < h and 0 <= c < w:
            out[:, row, column] += x[:, r, c] @ kernel[i, j]
  return out


@pytest.mark.parametrize('select', ['max', 'gate'])
def test_dilations_share_a_kernel_and_a_cell_takes_what_fits(select):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 5, 7, 4)).astype(np.float32)
  layer = SelectiveDilated(6, select, jnp.float32)
  params = layer.init(jax.random.key(0), x)['params']
  params = jax.tree.map(
    lambda p: p + rng.normal(0, 0.1, p.shape).astype(np.float32), params
  )
  found = layer.apply({'params': params}, x)
  params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
  inner = params['reduce']
  inner = np.maximum(x @ inner['kernel'][0, 0] + inner['bias'], 0)
  kernel = params['kernel'].reshape(3, 3, 6, 6)
  each = np.stack(
    [dilated(inner, kernel, params['bias'], d) for d in (1, 2, 4)]
  )
  if select == 'max':
    expected = each.max(axis=0)
  else:
    gate = inner @ params['gate']['kernel'][0, 0] + params['gate']['bias']
    gate = np.exp(gate) / np.exp(gate).sum(axis=-1, keepdims=True)
    expected = sum(gate[..., k : k + 1] * each[k] for k in range(3))
  np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-4)


def test_it_starts_at_the_identity():
  """Whatever the image, the window is the photo, and nothing is refined."""
  model, batch = small(steps=4), draw_batch()
  variables = model.init(jax.random.key(0), batch, False)
  outputs = model.apply(variables, batch, False)
  shapes = {name: value.shape for name, value in outputs.items()}
  assert shapes == {
    'landmarks': (B, N, 2),
    'visibility': (B, N, 3),
    'looks': (B, 4, N, 2),
    'log_scales': (B, 4),
  }
  np.testing.assert_array_equal(outputs['log_scales'], 0)
  np.testing.assert_array_equal(outputs['landmarks'], outputs['looks'][:, -1])
  assert np.ptp(np.asarray(outputs['landmarks']), axis=0).min() > 0


def test_windows_move_and_are_held(monkeypatch):
  """What is sampled, against grid_sample's windows composed by hand."""
  seen = []
  original = dlan.patches

  def spy(x, centre, side, spacing):
    found = original(x, centre, side, spacing)
    seen.append([np.asarray(v) for v in (x, centre, spacing, found)])
    return found

  monkeypatch.setattr(dlan, 'patches', spy)
  model, batch = small(transform_rate=0.5), draw_batch()
  variables = model.init(jax.random.key(0), batch, False)
  bias = np.array([-8.0, 0.4, -0.2], np.float32)  # smaller, right, up
  variables['params']['transform']['bias'] = jnp.asarray(bias)
  seen.clear()
  outputs = model.apply(variables, batch, False)
  np.testing.assert_allclose(outputs['log_scales'][0], [0, -4, -8])
  low = SCALES[0]
  centres = np.array([[0, 0], [0.2, -0.1], [0.2 + low * 0.2, -0.1 - low * 0.1]])
  for look, scale in enumerate([1.0, low, low]):
    for x, centre, spacing, found in seen[2 * look : 2 * look + 2]:
      np.testing.assert_allclose(centre[0, 0], centres[look], atol=1e-6)
      side = scale * x.shape[1]
      np.testing.assert_allclose(spacing, side / 3, rtol=1e-6)
      expected = grid_sample(x[0], centres[look], (side, side), 3)
      np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)
  # Around each landmark of the last look, a smaller one.
  for x, centre, spacing, _ in seen[6:]:
    np.testing.assert_array_equal(centre, outputs['looks'][:, -1])
    side = dlan.LOCAL_SCALE * low * x.shape[1]
    np.testing.assert_allclose(spacing, side / 3, rtol=1e-6)
  # A landmark at the middle of a window is at its centre.
  variables['params']['landmarks']['kernel'] *= 0
  looks = model.apply(variables, batch, False)['looks']
  np.testing.assert_allclose(
    looks[0], np.broadcast_to(centres[:, None], (3, N, 2)), atol=1e-6
  )
