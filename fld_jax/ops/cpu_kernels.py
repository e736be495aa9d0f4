"""Operations in the forms that are fast on a CPU, with the same results.

Other accelerators get them as they are defined, and so does what is exported.
"""

import contextlib
import contextvars
import functools
import typing
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

_PORTABLE = contextvars.ContextVar('portable', default=False)
# Where fewer products outweigh the sums that they need: with so many channels,
# and so many tiles' products saved, as many as transforming the kernel costs.
_CHANNELS = 128
_TILES = 60


@contextlib.contextmanager
def portable():
  """What is first traced within has no form for CPUs: to run anywhere."""
  token = _PORTABLE.set(True)
  try:
    yield
  finally:
    _PORTABLE.reset(token)


def _for_cpu() -> bool:
  return jax.default_backend() == 'cpu' and not _PORTABLE.get()


def store(x):
  """Has XLA compute `x` once on a CPU, and keep it for all that use it.

  XLA's CPU compiler computes cheap elementwise operations anew in each place
  that uses them: up to three maps read in place of one, and that in the slow
  order of the transpositions before a convolution's weight gradient. It needs
  `parallel.CPU_OPTIONS` to heed the barrier. The gradient of `x` is stored too.
  """
  return lax.optimization_barrier(x) if _for_cpu() else x


def convolve(x, kernel, strides, padding, *, precision, **options):
  """`lax.conv_general_dilated`.

  Args:
    x: (B, H, W, Cin).
    kernel: (h, w, Cin, Cout).
    strides: of rows and columns.
    padding: 'SAME', or such that a window's middle goes from the first pixel
      in steps of the strides: half a side of the kernel on both sides.
    precision: of the sums.
    **options: more of `lax.conv_general_dilated`'s, without dilation and
      groups.

  Returns:
    (B, ceil(H / strides[0]), ceil(W / strides[1]), Cout).
  """
  direct = functools.partial(
    lax.conv_general_dilated,
    window_strides=strides,
    padding=padding,
    precision=precision,
    **options,
  )
  if not _for_cpu():
    return direct(x, kernel)
  if kernel.shape[:2] == (1, 1):  # as a product its gradient is twice as fast
    x = store(x[:, :: strides[0], :: strides[1]])
    return jnp.matmul(x, kernel[0, 0], precision=precision)
  direct = functools.partial(_with_zeros, direct, strides)
  if kernel.shape[:2] == (3, 3) and tuple(strides) == (1, 1):
    return _by_fewer_products(x, kernel, _CONV_3, direct, precision)
  return direct(x, kernel)


def deconvolve(x, kernel):
  """A transposed convolution with stride 2 and a border of one.

  Args:
    x: (B, H, W, Cin).
    kernel: (4, 4, Cin, Cout), PyTorch's with both spatial axes reversed.

  Returns:
    (B, 2 H, 2 W, Cout).
  """
  if not _for_cpu():
    return _by_phases(x, kernel)
  return _by_fewer_products(x, kernel, _DECONV_4, _by_phases, None)


def _by_phases(x, kernel):
  """Each phase, even or odd row and column, is a 2x2 convolution of the input.

  The gradient of `nn.ConvTranspose` is 30 times slower on a CPU.
  """
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
  return store(out.reshape(b, 2 * h, 2 * w, c))


def _with_zeros(direct, strides, x, kernel):
  """`direct(x, kernel)`, of maps that are not smaller than the kernel.

  XLA has a library for convolutions on a CPU, but leaves those of smaller maps
  to a plain loop, ten to thirty times slower: zeros are added to them, until
  the result is as large as the kernel, because in the gradient it is the result
  that is convolved.
  """
  rows, columns = (-(-x.shape[i + 1] // strides[i]) for i in (0, 1))
  border = (
    max(0, kernel.shape[0] - rows) * strides[0],
    max(0, kernel.shape[1] - columns) * strides[1],
  )
  if not any(border):
    return direct(x, kernel)
  x = jnp.pad(x, ((0, 0), (0, border[0]), (0, border[1]), (0, 0)))
  # Stored, so that XLA does not make the zeros a padding again.
  return store(direct(store(x), kernel))[:, :rows, :columns]


class _Algorithm(typing.NamedTuple):
  """A convolution along one axis, of tiles of four pixels that overlap by two.

  Attributes:
    products: how many.
    tile: from four pixels to what is multiplied with the taps.
    taps: from the kernel's taps to as many factors.
    result: from the products to the tile's pixels of the result.
  """

  products: int
  tile: Callable
  taps: Callable
  result: Callable


# Two pixels by four products in place of six: F(2, 3) of Lavin and Gray, "Fast
# Algorithms for Convolutional Neural Networks" (CVPR 2016), by Winograd.
_CONV_3 = _Algorithm(
  4,
  lambda d: (d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]),
  lambda g: (
    g[0],
    (g[0] + g[1] + g[2]) / 2,
    (g[0] - g[1] + g[2]) / 2,
    g[2],
  ),
  lambda m: (m[0] + m[1] + m[2], m[1] - m[2] - m[3]),
)
# Four pixels by six products in place of eight: two even and two odd ones, each
# pair by an F(2, 2) of two of the four taps.
_DECONV_4 = _Algorithm(
  6,
  lambda d: (
    d[0] - d[1],
    d[1],
    d[1] - d[2],
    d[1] - d[2],
    d[2],
    d[2] - d[3],
  ),
  lambda g: (g[0], g[0] + g[2], g[2], g[1], g[1] + g[3], g[3]),
  lambda m: (m[0] + m[1], m[3] + m[4], m[1] - m[2], m[4] - m[5]),
)


def _by_fewer_products(x, kernel, algorithm: _Algorithm, direct, precision):
  """`direct(x, kernel)`, by the algorithm where that is faster."""
  batch, height, width = x.shape[:3]
  tiles = batch * -(-height // 2) * -(-width // 2)
  # A convolution of smaller maps costs as much as that of 3x3, see _with_zeros.
  products = len(kernel) ** 2 * batch * max(height, 3) * max(width, 3)
  saved = products / algorithm.products**2 - tiles
  wide = min(kernel.shape[2:]) >= _CHANNELS
  # In bfloat16 the sums and differences would lose digits.
  if wide and saved >= _TILES and x.dtype == jnp.float32:
    return _winograd(x, kernel, algorithm, direct, precision)
  return direct(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _winograd(x, kernel, algorithm: _Algorithm, direct: Callable, precision):
  """A convolution with a border of one by fewer products than its definition.

  The products at one place of all tiles are one matrix product.

  Args:
    x: (B, H, W, Cin).
    kernel: (taps, taps, Cin, Cout).
    algorithm: for both axes.
    direct: the convolution by its definition, whose gradients are faster.
    precision: of the sums.

  Returns:
    (B, k H, k W, Cout), k = 1 or 2 by the algorithm.
  """
  batch, height, width, _ = x.shape
  rows, columns = -(-height // 2), -(-width // 2)
  border = ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0))
  x = jnp.pad(x, border)
  pixels = lambda x, axis, tiles: [
    lax.slice_in_dim(x, i, i + 2 * tiles - 1, 2, axis) for i in range(4)
  ]
  product = functools.partial(jnp.matmul, precision=precision)
  lines = []
  for line, factors in zip(
    algorithm.tile(pixels(x, 1, rows)), algorithm.taps(kernel), strict=True
  ):
    tiles = algorithm.tile(pixels(line, 2, columns))
    products = map(product, tiles, algorithm.taps(factors))
    lines.append(algorithm.result(list(products)))
  # out[column][row] of the tiles' results: (B, rows, columns, Cout).
  out = [algorithm.result(column) for column in zip(*lines, strict=True)]
  side = len(out)
  out = jnp.stack([jnp.stack(column, axis=2) for column in out], axis=4)
  # (B, rows, side, columns, side, Cout)
  out = out.reshape(batch, side * rows, side * columns, -1)
  return store(out)[:, : height * side // 2, : width * side // 2]


_winograd.defvjp(
  lambda x, kernel, *options: (_winograd(x, kernel, *options), (x, kernel)),
  lambda algorithm, direct, precision, residuals, gradient: jax.vjp(
    direct, *residuals
  )[1](gradient),
)
