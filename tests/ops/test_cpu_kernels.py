"""Convolutions in their forms for CPUs, against their definitions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fld_jax.models.layers import Conv, Deconv, relu
from fld_jax.ops import cpu_kernels
from fld_jax.runtime.parallel import Parallel


def numbers(*shape):
  return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def outcome(layer, variables, x):
  """Value and gradients."""

  def loss(variables, x):
    y = layer.apply(variables, x)
    # A weight an entry, so that each output's gradient can be told apart.
    return jnp.sum(jnp.sin(jnp.arange(y.size)).reshape(y.shape) * y), y

  return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables, x)


@pytest.mark.parametrize('padding', ['both sides', 'SAME'])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('side', [1, 3, 7])
@pytest.mark.parametrize('rows', [1, 2, 4, 8])
def test_conv_is_that_of_linen_in_value_and_gradient(
  rows, side, stride, padding
):
  """Maps smaller than their kernel too, which have a way of their own."""
  x = numbers(2, rows, 4, 3)
  options = dict(
    features=5,
    kernel_size=(side, side),
    strides=stride,
    padding=side // 2 if padding == 'both sides' else padding,
  )
  variables = nn.Conv(**options).init(jax.random.key(0), x)

  same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  jax.tree.map(
    same,
    outcome(Conv(**options), variables, x),
    outcome(nn.Conv(**options), variables, x),
  )


@pytest.mark.parametrize(
  ('side', 'stride', 'padding'),
  [
    (3, 1, 'SAME'),
    (3, 2, 'SAME'),
    (7, 2, 3),
  ],
)
def test_products_are_convolutions_in_value_and_gradient(side, stride, padding):
  """For kernels of several networks at once, each against Linen's alone."""
  x = numbers(3, 2, 6, 5, 4)
  options = dict(
    features=5, kernel_size=(side, side), strides=stride, padding=padding
  )
  params = {
    'kernel': numbers(3, side, side, 4, 5),
    'bias': numbers(3, 5),
  }

  def products(params, x):
    with cpu_kernels.as_products():
      return outcome(Conv(**options), {'params': params}, x)

  found = jax.vmap(products)(params, x)
  for n in range(3):
    own = {'params': jax.tree.map(lambda p, n=n: p[n], params)}
    expected = outcome(nn.Conv(**options), own, x[n])
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
      np.testing.assert_allclose(a[n], b, rtol=1e-3, atol=1e-4)


def conv_3(x, kernel):
  """A 3x3 convolution with a border of one, in a loop over the taps."""
  height, width = x.shape[1:3]
  x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return sum(
    x[:, i : i + height, j : j + width] @ kernel[i, j]
    for i in range(3)
    for j in range(3)
  )


def deconv_4(x, kernel):
  """Each pixel times the kernel, added up at twice its place, less a border."""
  batch, height, width, _ = x.shape
  out = np.zeros((batch, 2 * height + 2, 2 * width + 2, kernel.shape[-1]))
  for i in range(4):
    for j in range(4):  # the kernel's axes are reversed
      place = out[:, i : i + 2 * height : 2, j : j + 2 * width : 2]
      place += x @ kernel[3 - i, 3 - j]
  return out[:, 1:-1, 1:-1]


@pytest.mark.parametrize(
  ('layer', 'definition'),
  [(Conv(136, (3, 3), padding=1), conv_3), (Deconv(136), deconv_4)],
)
@pytest.mark.parametrize('size', [(1, 1), (2, 4), (5, 6), (8, 3)])
def test_wide_layers_have_values_and_gradients_of_the_definition(
  layer, definition, size
):
  x = numbers(25, *size, 128)
  variables = layer.init(jax.random.key(0), x)
  kernel = np.asarray(variables['params']['kernel'])
  wide = lambda x: x.astype(np.float64)
  value = definition(wide(x), wide(kernel))
  found = outcome(layer, variables, x)
  np.testing.assert_allclose(found[1], value, atol=2e-5)
  # The definition is linear in both, so a gradient is a difference.
  weights = np.sin(np.arange(value.size, dtype=np.float32)).reshape(value.shape)
  for way in range(3):
    rng = np.random.default_rng(way)
    for i, (name, one) in enumerate((('kernel', kernel), ('x', x))):
      step = rng.normal(size=one.shape)
      gradient = (found[0][0]['params']['kernel'], found[0][1])[i]
      moved = (wide(x), step) if name == 'kernel' else (step, wide(kernel))
      expected = (weights * definition(*moved)).sum()
      size_of = np.linalg.norm(step) * np.linalg.norm(gradient)
      assert abs((step * gradient).sum() - expected) < 1e-6 * size_of


def test_what_is_portable_is_plain():
  """Exports are traced so: no barrier, no zeros, convolutions."""
  layers = Conv(5, (3, 3)), Conv(5, (1, 1)), Deconv(128)
  x = numbers(25, 2, 2, 128)

  def network(variables, x):
    outputs = zip(layers, variables, strict=True)
    return [relu(layer.apply(one, x)) for layer, one in outputs]

  variables = [layer.init(jax.random.key(0), x) for layer in layers]
  for_cpu = str(jax.make_jaxpr(network)(variables, x))
  assert 'optimization_barrier' in for_cpu
  assert 'dot_general' in for_cpu
  with cpu_kernels.portable():
    plain = str(jax.make_jaxpr(lambda *args: network(*args))(variables, x))
  assert 'optimization_barrier' not in plain
  assert 'dot_general' not in plain
  assert plain.count('conv_general_dilated[') == 6
  assert (
    str(jax.make_jaxpr(lambda *args: network(*args))(variables, x)) == for_cpu
  )


def test_a_cpu_stores_what_comes_before_a_convolution():
  """XLA heeds the barrier, by an option whose name may change with it."""
  run = Parallel().compile(lambda x: relu(x).T, (True,), True)
  text = run.lower(jnp.ones((8, 4))).compile().as_text()
  assert 'opt-barrier' in text
