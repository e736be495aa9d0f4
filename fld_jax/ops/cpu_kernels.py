"""Operations in forms that are fast on a CPU, with the same results.

On other devices, and in exported graphs, they have their plain forms.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_PORTABLE = contextvars.ContextVar('portable', default=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
  """Gives operations their plain forms, for a `with` block.

  A function that is first traced within the block has no forms for CPUs, so
  that it runs anywhere.
  """
  token = _PORTABLE.set(True)
  try:
    yield
  finally:
    _PORTABLE.reset(token)


def _for_cpu() -> bool:
  """Tells whether the forms for CPUs are to be used."""
  return jax.default_backend() == 'cpu' and not _PORTABLE.get()


def store(x: Float[Array, '...']) -> Float[Array, '...']:
  """Makes XLA compute an array once on a CPU and keep it for all its users.

  XLA's CPU compiler computes cheap elementwise operations anew in each place
  that uses them. Such a place then reads up to three maps instead of one, and
  before a convolution's weight gradient it reads them in a slow, transposed
  order. The barrier takes effect only with `parallel.CPU_OPTIONS`. The gradient
  of the array is stored too.

  Args:
    x: An array of any shape.

  Returns:
    The array with the same values.
  """
  return lax.optimization_barrier(x) if _for_cpu() else x


def convolve(
  x: Float[Array, 'batch height width inputs'],
  kernel: Float[Array, 'rows columns inputs outputs'],
  strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  *,
  precision: lax.PrecisionLike,
  **options: Any,
) -> Float[Array, 'batch out_height out_width outputs']:
  """Computes a convolution, as `lax.conv_general_dilated` does.

  Args:
    x: (B, H, W, Cin) maps.
    kernel: (h, w, Cin, Cout) weights.
    strides: The strides of rows and columns.
    padding: 'SAME', or half a side of the kernel at both ends of each axis, so
      that the middles of the windows start at the first pixel.
    precision: The precision of the products.
    **options: Further options of `lax.conv_general_dilated`, without dilation
      and groups.

  Returns:
    (B, ceil(H / strides[0]), ceil(W / strides[1]), Cout) maps.
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
  if kernel.shape[:2] == (1, 1):  # a matrix product's gradient is twice as fast
    x = store(x[:, :: strides[0], :: strides[1]])
    return jnp.matmul(x, kernel[0, 0], precision=precision)
  return _with_zeros(direct, strides, x, kernel)


def deconvolve(
  x: Float[Array, 'batch height width inputs'],
  kernel: Float[Array, '4 4 inputs outputs'],
) -> Float[Array, 'batch 2*height 2*width outputs']:
  """Computes a transposed convolution with stride 2 and padding 1.

  Each phase, even or odd rows and columns, is a 2x2 convolution of the input.
  On a CPU the gradient of `nn.ConvTranspose` is 30 times slower.

  Args:
    x: (B, H, W, Cin) maps.
    kernel: (4, 4, Cin, Cout) weights, PyTorch's with both spatial axes
      reversed.

  Returns:
    (B, 2 H, 2 W, Cout) maps.
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


def _with_zeros(
  direct: Callable[[Array, Array], Array],
  strides: Sequence[int],
  x: Float[Array, 'batch height width inputs'],
  kernel: Float[Array, 'rows columns inputs outputs'],
) -> Float[Array, 'batch out_height out_width outputs']:
  """Computes `direct(x, kernel)`, with zeros added to maps that are too small.

  XLA has a library for convolutions on a CPU, but computes those of maps that
  are smaller than the kernel in a plain loop, ten to thirty times slower. Zeros
  are added until the result is as large as the kernel, because in the gradient
  it is the result that is convolved.
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
