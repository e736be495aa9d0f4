"""Layers that Linen lacks, or that there depend on the number of devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from fld_jax.ops import cpu_kernels
from fld_jax.runtime.parallel import AXIS

# The name of `VisibilityHead` in a network's parameter tree.
VISIBILITY_HEAD = 'visibility'


class Dropout(nn.Module):
  """Dropout whose mask depends on an example's place in the global batch.

  `nn.Dropout` draws one mask for the array that it sees, so that a device's
  share of a batch gets another mask than the same rows of the whole batch.
  Here every example has a key of its own, so that one device and many agree.

  Attributes:
    rate: The probability that an entry is dropped, in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'batch ...'],
    example_index: Int[Array, ' batch'],
    train: bool,
  ) -> Float[Array, 'batch ...']:
    """Applies dropout.

    Args:
      x: (B, ...) activations.
      example_index: (B,) int32, each example's place in the global batch.
      train: Whether to drop entries; if False, `x` is returned.

    Returns:
      (B, ...) activations, the kept ones divided by 1 - rate.
    """
    if not train or self.rate == 0:
      return x
    key = self.make_rng('dropout')
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, example_index)
    keep = jax.vmap(
      lambda k: jax.random.bernoulli(k, 1 - self.rate, x.shape[1:])
    )(keys)
    return jnp.where(keep, x / (1 - self.rate), 0)


class BatchNorm(nn.Module):
  """Batch normalisation over the whole global batch in training.

  It has the parameters and statistics of `nn.BatchNorm`. The running variance
  follows that of the batch, without PyTorch's factor n / (n - 1).

  Attributes:
    dtype: The type of the result; statistics and parameters are float32.
    epsilon: What is added to the variance.
  """

  dtype: jnp.dtype = jnp.float32
  epsilon: float = 1e-5

  @nn.compact
  def __call__(
    self, x: Float[Array, '... channels'], train: bool
  ) -> Float[Array, '... channels']:
    """Normalises activations.

    Args:
      x: (..., C) activations.
      train: If True, the mean and variance are those of the batch, and the
        running ones move a tenth of the way to them; if False, they are the
        running ones.

    Returns:
      (..., C) normalised, scaled and shifted activations.
    """
    shape, channels = x.shape, x.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (channels,))
    bias = self.param('bias', nn.initializers.zeros, (channels,))
    zeros, ones = jnp.zeros, jnp.ones
    running_mean = self.variable('batch_stats', 'mean', zeros, (channels,))
    running_var = self.variable('batch_stats', 'var', ones, (channels,))
    x = x.reshape(-1, channels)
    if train and not self.is_initializing():
      own_mean, own_var = _moments(x)
      # One reduction for both moments, since between processes each costs a
      # wait. The difference of squares is exact about a mean that is near, as
      # the running one is after the first steps; in those it is as exact as
      # Linen's.
      shift = own_mean - running_mean.value
      moments = jnp.stack([shift, own_var + shift**2])
      shift, square = lax.pmean(moments, AXIS)
      mean = running_mean.value + shift
      var = jnp.maximum(square - shift**2, 0)
      running_mean.value += 0.1 * (mean - running_mean.value)
      running_var.value += 0.1 * (var - running_var.value)
    else:
      mean, var = running_mean.value, running_var.value
    x = _normalise(x, mean, lax.rsqrt(var + self.epsilon), scale, bias)
    return x.reshape(shape).astype(self.dtype)


def _wide(x: Float[Array, '...']) -> Float[Array, '...']:
  """Converts activations to float32, in which statistics are computed."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _mean_of_rows(
  x: Float[Array, 'rows channels'],
) -> Float[Array, ' channels']:
  """Computes the (C,) mean of (M, C) rows.

  On a CPU a matrix product does it three to five times faster than a sum, and
  more exactly, because a product adds up in blocks. Elsewhere a sum has both,
  and reads the rows in the type that they are converted from.
  """
  if not cpu_kernels.for_cpu():
    return jnp.mean(x, axis=0)
  average = jnp.full((1, len(x)), 1 / len(x), x.dtype)
  return jnp.matmul(average, x, precision=lax.Precision.HIGHEST)[0]


@jax.custom_vjp
def _moments(
  x: Float[Array, 'rows channels'],
) -> tuple[Float[Array, ' channels'], Float[Array, ' channels']]:
  """Computes the (C,) mean and variance of (M, C) rows, in float32.

  The gradient is written out, so that the backward pass keeps the rows in their
  own type, which may be half as wide, and no second array of that size.
  """
  wide = _wide(x)
  mean = _mean_of_rows(wide)
  return mean, _mean_of_rows((wide - mean) ** 2)


def _moments_forward(x: Float[Array, 'rows channels']) -> tuple:
  """Computes the moments, and what their gradient needs."""
  mean, var = _moments(x)
  return (mean, var), (x, mean)


def _moments_backward(residuals: tuple, gradients: tuple) -> tuple:
  """Computes the gradient with respect to the rows.

  The derivative of the variance with respect to the mean is 0.
  """
  x, mean = residuals
  of_mean, of_var = (gradient / len(x) for gradient in gradients)
  return ((of_mean + (_wide(x) - mean) * (2 * of_var)).astype(x.dtype),)


_moments.defvjp(_moments_forward, _moments_backward)


@jax.custom_vjp
def _normalise(
  x: Float[Array, 'rows channels'],
  mean: Float[Array, ' channels'],
  inverse: Float[Array, ' channels'],
  scale: Float[Array, ' channels'],
  bias: Float[Array, ' channels'],
) -> Float[Array, 'rows channels']:
  """Computes (x - mean) * inverse * scale + bias, in float32.

  The gradient is written out with two sums over the rows instead of four, as
  matrix products: on a CPU a train step is a tenth faster. As in `_moments`,
  the backward pass keeps the rows in their own type.

  Args:
    x: (M, C) activations of any floating type.
    mean: (C,) means.
    inverse: (C,) inverse standard deviations.
    scale: (C,) factors.
    bias: (C,) summands.

  Returns:
    (M, C) activations.
  """
  return (_wide(x) - mean) * (scale * inverse) + bias


def _normalise_forward(
  x: Float[Array, 'rows channels'],
  mean: Float[Array, ' channels'],
  inverse: Float[Array, ' channels'],
  scale: Float[Array, ' channels'],
  bias: Float[Array, ' channels'],
) -> tuple[Float[Array, 'rows channels'], tuple]:
  """Computes the result, and what its gradient needs."""
  y = _normalise(x, mean, inverse, scale, bias)
  return y, (x, mean, inverse, scale)


def _normalise_backward(
  residuals: tuple, gradient: Float[Array, 'rows channels']
) -> tuple:
  """Computes the gradients with respect to the five arguments."""
  x, mean, inverse, scale = residuals
  gradient = cpu_kernels.store(gradient)
  total = len(x) * _mean_of_rows(gradient)
  moment = len(x) * _mean_of_rows(gradient * (_wide(x) - mean))
  return (
    (gradient * (scale * inverse)).astype(x.dtype),
    -total * (scale * inverse),
    moment * scale,
    moment * inverse,
    total,
  )


_normalise.defvjp(_normalise_forward, _normalise_backward)


def relu(x: Float[Array, '...']) -> Float[Array, '...']:
  """Computes ReLU, and stores it on a CPU for the convolutions after it.

  Args:
    x: Activations of any shape.

  Returns:
    The activations, negative ones replaced by 0 (see `cpu_kernels.store`).
  """
  return cpu_kernels.store(nn.relu(x))


Conv = functools.partial(nn.Conv, conv_general_dilated=cpu_kernels.convolve)


def max_pool_2x2(
  x: Float[Array, 'batch height width channels'],
) -> Float[Array, 'batch height//2 width//2 channels']:
  """Computes 2x2 max-pooling with stride 2.

  An odd last row or column is left out. On a CPU the gradient of `nn.max_pool`
  runs on one core, 10 to 30 times slower than that of three maxima.

  Args:
    x: (B, H, W, C) maps.

  Returns:
    (B, H // 2, W // 2, C) maps.
  """
  height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
  x = x[:, :height, :width]
  top = jnp.maximum(x[:, ::2, ::2], x[:, ::2, 1::2])
  bottom = jnp.maximum(x[:, 1::2, ::2], x[:, 1::2, 1::2])
  return jnp.maximum(top, bottom)


def max_pool_3x3(
  x: Float[Array, 'batch height width channels'],
) -> Float[Array, 'batch (height+1)//2 (width+1)//2 channels']:
  """Computes the pooling of ResNet's stem: 3x3, stride 2, padding 1.

  It takes maxima of slices, since on a CPU the gradient of `nn.max_pool` is
  slow.

  Args:
    x: (B, H, W, C) maps.

  Returns:
    (B, ceil(H / 2), ceil(W / 2), C) maps.
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
  """A 4x4 transposed convolution with stride 2 and padding 1, without bias.

  It doubles the sides, and agrees with `nn.ConvTranspose`.

  Attributes:
    features: The number of output channels.
    dtype: The type of the computation. The kernel (4, 4, in, out) stays float32
      and is PyTorch's with both spatial axes reversed.
  """

  features: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'batch height width channels']
  ) -> Float[Array, 'batch 2*height 2*width features']:
    """Doubles the sides of maps.

    Args:
      x: (B, H, W, C) maps.

    Returns:
      (B, 2 H, 2 W, features) maps.
    """
    shape = (4, 4, x.shape[-1], self.features)
    # Each output sums over 2x2 of the 4x4 weights, so the fan-in is a quarter.
    init = nn.initializers.variance_scaling(8.0, 'fan_in', 'normal')
    kernel = self.param('kernel', init, shape).astype(self.dtype)
    return cpu_kernels.deconvolve(x.astype(self.dtype), kernel)


class VisibilityHead(nn.Module):
  """Visibility from what a network has found, without changing it.

  The logits of a landmark are linear in its own features and in the mean of the
  trunk's last map. No gradient leaves the head, so that the landmarks are those
  of a network without it; `schedules.optimizer` clips the others' gradients
  without its own for the same reason.

  Attributes:
    num_landmarks: N, how many landmarks there are.
  """

  num_landmarks: int

  @nn.compact
  def __call__(
    self,
    found: Float[Array, 'batch landmarks channels'],
    last: Float[Array, 'batch rows columns features'],
  ) -> Float[Array, 'batch landmarks 3']:
    """Computes the logits of the states of `schema.VISIBILITY_NAMES`.

    Args:
      found: (B, N, C) features of each landmark.
      last: (B, R, S, F) the trunk's map of the largest stride.

    Returns:
      (B, N, 3) float32 logits.
    """
    found, last = (
      lax.stop_gradient(x.astype(jnp.float32)) for x in (found, last)
    )
    n = self.num_landmarks
    init = nn.initializers.normal(0.01)
    own = self.param('own_kernel', init, (n, found.shape[-1], 3))
    whole = nn.Dense(3 * n, kernel_init=init, name='mean')
    logits = whole(last.mean(axis=(1, 2))).reshape(-1, n, 3)
    return logits + jnp.einsum('bnc,ncs->bns', found, own)


def at_peaks(
  x: Float[Array, 'batch height width channels'],
  heatmaps: Float[Array, 'batch height width landmarks'],
) -> Float[Array, 'batch landmarks channels']:
  """Takes a map's features at the highest cell of each heatmap.

  Args:
    x: (B, H, W, C) maps.
    heatmaps: (B, H, W, N) heatmaps.

  Returns:
    (B, N, C) features.
  """
  (b, height, width, channels), n = x.shape, heatmaps.shape[-1]
  cells = x.reshape(b, height * width, channels)
  peak = jnp.argmax(heatmaps.reshape(b, height * width, n), axis=1)
  return jnp.take_along_axis(cells, peak[..., None], axis=1)


def heatmap_outputs(
  network: nn.Module,
  x: Float[Array, 'batch height width channels'],
  last: Float[Array, 'batch rows columns features'],
) -> dict[str, Array]:
  """Computes the outputs of a heatmap network, within its `__call__`.

  Args:
    network: The network, with the fields `num_landmarks`, `partners` and
      `visibility`, and no other module of the names of the outputs.
    x: (B, H, W, C) maps that the heatmaps are made of.
    last: (B, R, S, F) the trunk's map of the largest stride.

  Returns:
    `heatmaps` (B, H, W, N) float32, of any range; with `network.partners` also
    `pair_order` (B,), the logit of `PairOrder`; with `network.visibility` also
    `visibility` (B, N, 3) logits, for which the landmarks' features are those
    at the peaks, among which the height of the peak is one.
  """
  outputs = {'heatmaps': heatmap_head(x, network.num_landmarks)}
  if network.partners:
    head = PairOrder(network.partners, name='pair_order')
    outputs['heatmaps'], outputs['pair_order'] = head(outputs['heatmaps'], last)
  if network.visibility:
    head = VisibilityHead(network.num_landmarks, name=VISIBILITY_HEAD)
    found = at_peaks(x, outputs['heatmaps'])
    outputs['visibility'] = head(found, last)
  return outputs


class PairOrder(nn.Module):
  """Tells from the whole image how left and right landmarks are ordered.

  Left and right are the wearer's, so that a garment seen from behind has them
  the other way round, by half its width. What tells so, a face or a zip, lies
  elsewhere than the landmarks do. So heatmaps are of both orders at first: this
  head weighs them against those of each landmark's partner.

  Attributes:
    partners: Each landmark's partner in the mirrored image.
    hidden: Width of the layer before the logit.
  """

  partners: tuple[int, ...]
  hidden: int = 128

  @nn.compact
  def __call__(
    self,
    heatmaps: Float[Array, 'batch height width landmarks'],
    last: Float[Array, 'batch rows columns features'],
  ) -> tuple[
    Float[Array, 'batch height width landmarks'], Float[Array, ' batch']
  ]:
    """Weighs the heatmaps of both orders.

    Args:
      heatmaps: (B, H, W, N) heatmaps of landmarks in the common order.
      last: (B, R, S, F) the trunk's map of the largest stride.

    Returns:
      (B, H, W, N) heatmaps, and (B,) the logit of the order being reversed: a
      left landmark has a larger x than its partner.
    """
    x = nn.Dense(self.hidden, name='hidden')(
      last.astype(jnp.float32).mean(axis=(1, 2))
    )
    logit = nn.Dense(
      1,
      kernel_init=nn.initializers.normal(0.01),
      # One image in twenty, as most are from the front.
      bias_init=nn.initializers.constant(-3.0),
      name='logit',
    )(nn.relu(x))
    share = nn.sigmoid(logit)[:, None, None]
    swapped = heatmaps[..., np.array(self.partners)]
    return (1 - share) * heatmaps + share * swapped, logit[:, 0]


def heatmap_head(
  x: Float[Array, 'batch height width channels'], num_landmarks: int
) -> Float[Array, 'batch height width landmarks']:
  """Computes the last layer of a heatmap network, within its `__call__`.

  Weights start small, so that the first maps are flat.

  Args:
    x: (B, H, W, C) maps.
    num_landmarks: The number N of landmarks.

  Returns:
    (B, H, W, N) float32 heatmaps.
  """
  return Conv(
    num_landmarks,
    (1, 1),
    kernel_init=nn.initializers.normal(0.001),
    name='heatmaps',
  )(x.astype(jnp.float32))


def adaptive_average_pool(
  x: Float[Array, 'batch height width channels'], side: int
) -> Float[Array, 'batch side side channels']:
  """Averages a map to a grid of a fixed size, as PyTorch's layer does.

  Cell i covers rows floor(i H / side) to ceil((i + 1) H / side).

  Args:
    x: Map of any height and width, (B, H, W, C).
    side: Side of the grid, in cells.

  Returns:
    The grid of averages, (B, side, side, C).
  """

  def weights(length: int):
    rows = np.arange(side)
    first, last = rows * length // side, -(-(rows + 1) * length // side)
    places = np.arange(length)
    inside = (places >= first[:, None]) & (places < last[:, None])
    return jnp.asarray(inside / inside.sum(1, keepdims=True), x.dtype)

  _, h, w, _ = x.shape
  return jnp.einsum('ih,jw,bhwc->bijc', weights(h), weights(w), x)


def shrink(
  image: Float[Array, 'batch height width channels'], side: int
) -> Float[Array, 'batch {side} {side} channels']:
  """Averages square images down to a side that divides theirs.

  Args:
    image: (B, S, S, C) images.
    side: The new side, in pixels; 0 leaves the images as they are.

  Returns:
    (B, side, side, C) images.
  """
  b, size, _, c = image.shape
  if not side or side == size:
    return image
  factor = size // side
  return image.reshape(b, side, factor, side, factor, c).mean(axis=(2, 4))
