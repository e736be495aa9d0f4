"""Layers that Linen has not, or not independent of the number of devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from fld_jax.parallel import AXIS


class Dropout(nn.Module):
  """Dropout whose mask depends on an example's place in the global batch.

  `nn.Dropout` draws one mask for the array that it sees, so that a device's
  share of a batch gets another mask than the same rows of the whole batch.
  Here every example has a key of its own: one device and many agree.
  """

  rate: float

  @nn.compact
  def __call__(self, x, positions, train: bool):
    """Applies dropout.

    Args:
      x: (B, ...) activations.
      positions: (B,) int32, each example's place in the global batch.
      train: False returns `x` as it is.

    Returns:
      (B, ...), kept entries divided by 1 - rate.
    """
    if not train or self.rate == 0:
      return x
    key = self.make_rng('dropout')
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, positions)
    keep = jax.vmap(
      lambda k: jax.random.bernoulli(k, 1 - self.rate, x.shape[1:])
    )(keys)
    return jnp.where(keep, x / (1 - self.rate), 0)


class BatchNorm(nn.Module):
  """Batch normalisation over the whole global batch in training.

  The parameters and statistics of `nn.BatchNorm`; the running variance is that
  of the batch, without PyTorch's factor n / (n - 1). Its sums over pixels are
  matrix products here: on a CPU three to five times faster, and closer to
  exact, because a product adds up in blocks.

  Attributes:
    dtype: of the result; statistics and parameters are float32.
  """

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, train: bool):
    """Normalises.

    Args:
      x: (..., C).
      train: by the batch's mean and variance, which also move the running ones
        by a tenth; False: by the running ones.

    Returns:
      (..., C).
    """
    shape, channels = x.shape, x.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (channels,))
    bias = self.param('bias', nn.initializers.zeros, (channels,))
    zeros, ones = jnp.zeros, jnp.ones
    running_mean = self.variable('batch_stats', 'mean', zeros, (channels,))
    running_var = self.variable('batch_stats', 'var', ones, (channels,))
    wide = jnp.promote_types(x.dtype, jnp.float32)
    x = x.reshape(-1, channels).astype(wide)
    if train and not self.is_initializing():
      average = jnp.full((1, len(x)), 1 / len(x), x.dtype)
      product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
      over_batch = lambda y: lax.pmean(product(average, y)[0], AXIS)
      mean = over_batch(x)
      var = over_batch((x - mean) ** 2)
      running_mean.value += 0.1 * (mean - running_mean.value)
      running_var.value += 0.1 * (var - running_var.value)
    else:
      mean, var = running_mean.value, running_var.value
    x = (x - mean) * (scale * lax.rsqrt(var + 1e-5)) + bias
    return x.reshape(shape).astype(self.dtype)


def max_pool_2x2(x):
  """2x2 max-pooling with stride 2, an odd last row or column left out.

  On a CPU the gradient of `nn.max_pool` runs on one core, 10 to 30 times
  slower than that of three maxima.

  Args:
    x: (B, H, W, C).

  Returns:
    (B, H // 2, W // 2, C).
  """
  height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
  x = x[:, :height, :width]
  top = jnp.maximum(x[:, ::2, ::2], x[:, ::2, 1::2])
  bottom = jnp.maximum(x[:, 1::2, ::2], x[:, 1::2, 1::2])
  return jnp.maximum(top, bottom)


def max_pool_3x3(x):
  """3x3 max-pooling with stride 2 and a border of one: ResNet's stem.

  As maxima of slices, for the same reason as `max_pool_2x2`.

  Args:
    x: (B, H, W, C).

  Returns:
    (B, ceil(H / 2), ceil(W / 2), C).
  """
  for axis in (1, 2):
    length = x.shape[axis]
    border = [(0, 0)] * x.ndim
    border[axis] = (1, 1)
    padded = jnp.pad(x, border, constant_values=-jnp.inf)
    first, middle, last = (
      lax.slice_in_dim(padded, i, i + length, 2, axis) for i in range(3)
    )
    x = jnp.maximum(jnp.maximum(first, middle), last)
  return x


class Deconv(nn.Module):
  """4x4 transposed convolution with stride 2 and a border of one, no bias.

  It doubles the side. Each of the four phases of the output, even or odd row
  and column, is a 2x2 convolution of the input: the same sums as
  `nn.ConvTranspose`, whose gradient is 30 times slower on a CPU.

  Attributes:
    features: output channels.
    dtype: of the computation; the kernel (4, 4, in, out) stays float32 and is
      PyTorch's, both spatial axes reversed.
  """

  features: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    """(B, H, W, C) -> (B, 2 H, 2 W, features)."""
    shape = (4, 4, x.shape[-1], self.features)
    # A phase sums over 2x2 of the 4x4 places.
    init = nn.initializers.variance_scaling(8.0, 'fan_in', 'normal')
    kernel = self.param('kernel', init, shape).astype(self.dtype)
    x = x.astype(self.dtype)
    phase = lambda i, j: lax.conv_general_dilated(
      x,
      kernel[i::2, j::2],
      window_strides=(1, 1),
      padding=((1 - i, i), (1 - j, j)),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    rows = [
      jnp.stack([phase(i, j) for j in (0, 1)], axis=3) for i in (0, 1)
    ]  # each (B, H, W, 2, C)
    out = jnp.stack(rows, axis=2)  # (B, H, 2, W, 2, C)
    b, h, _, w, _, c = out.shape
    return lax.optimization_barrier(out.reshape(b, 2 * h, 2 * w, c))


def heatmap_head(x, num_landmarks: int):
  """The last layer of a network for heatmaps; call it in its `__call__`.

  Weights start small, so that the first maps are flat.

  Args:
    x: (B, H, W, C).
    num_landmarks: N.

  Returns:
    (B, H, W, N) float32.
  """
  return nn.Conv(
    num_landmarks,
    (1, 1),
    kernel_init=nn.initializers.normal(0.001),
    name='heatmaps',
  )(x.astype(jnp.float32))
