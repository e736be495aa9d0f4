"""Depthwise convolutions on a CPU, against XLA's own and a loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fld_jax.ops import cpu_kernels
from fld_jax.runtime.parallel import AXIS, Parallel

CHANNELS = 6
LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def numbers(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def padding_of(kind, side):
  return 'SAME' if kind == 'SAME' else ((side // 2, side // 2),) * 2


def ours(x, kernel, stride, padding):
  return cpu_kernels.convolve(
    x,
    kernel,
    (stride, stride),
    padding,
    precision=None,
    dimension_numbers=LAYOUT,
    feature_group_count=CHANNELS,
  )


def plain(x, kernel, stride, padding):
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    dimension_numbers=LAYOUT,
    feature_group_count=CHANNELS,
  )


@pytest.mark.parametrize(
  'rows, columns, side, stride, kind',
  [
    (7, 8, 3, 1, 'SAME'),
    (8, 5, 3, 2, 'SAME'),
    (7, 8, 5, 2, 'both sides'),
    (2, 3, 5, 1, 'both sides'),
    (1, 4, 5, 2, 'SAME'),
  ],
)
def test_value_and_gradients_are_those_of_xla(
  rows, columns, side, stride, kind
):
  """Maps smaller than their kernel too."""
  x = numbers(0, 3, rows, columns, CHANNELS)
  kernel = numbers(1, side, side, 1, CHANNELS)
  padding = padding_of(kind, side)

  @functools.partial(jax.jit, static_argnums=0)
  def outcome(convolve, x, kernel):
    value, back = jax.vjp(lambda *a: convolve(*a, stride, padding), x, kernel)
    # A weight an entry, so that each output's gradient can be told apart.
    return value, *back(jnp.sin(jnp.arange(value.size)).reshape(value.shape))

  for a, b in zip(
    outcome(ours, x, kernel), outcome(plain, x, kernel), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_value_is_that_of_a_loop():
  x, kernel = numbers(0, 2, 5, 6, CHANNELS), numbers(1, 3, 3, 1, CHANNELS)
  wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  expected = np.zeros((2, 3, 3, CHANNELS))
  for n, r, c, k in np.ndindex(expected.shape):
    window = wide[n, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3, k]
    expected[n, r, c, k] = np.sum(window * kernel[:, :, 0, k])
  found = ours(x, kernel, 2, padding_of('both sides', 3))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('mode', ['shard_map', 'pmap'])
def test_gradients_over_devices_are_those_of_one(mode):
  """Within the compiled step, whose loops XLA could put in another order."""
  x, kernel = numbers(0, 4, 6, 6, CHANNELS), numbers(1, 5, 5, 1, CHANNELS)
  loss = lambda kernel, x: jnp.sum(jnp.sin(ours(x, kernel, 2, 'SAME')))
  alone = jax.grad(loss)(kernel, x)
  parallel = Parallel(mode)

  def on_device(kernel, x):
    return (lax.psum(jax.grad(loss)(kernel, x), AXIS),)

  compiled = parallel.compile(
    on_device, sharded_in=(False, True), sharded_out=(False,)
  )
  found = compiled(parallel.replicate(kernel), parallel.shard(x))
  found = parallel.unreplicate(found)
  np.testing.assert_allclose(
    jax.tree.leaves(found)[0], alone, rtol=1e-4, atol=1e-4
  )


def test_what_is_portable_is_plain():
  x, kernel = numbers(0, 1, 4, 4, CHANNELS), numbers(1, 3, 3, 1, CHANNELS)
  with cpu_kernels.portable():
    text = str(jax.make_jaxpr(lambda *a: ours(*a, 1, 'SAME'))(x, kernel))
  assert 'conv_general_dilated' in text and 'custom_vjp' not in text
