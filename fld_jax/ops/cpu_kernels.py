"""Operations in the forms that are fast on a CPU, with the same results.

Other accelerators get them as they are defined, and so does what is exported.
"""

import contextlib
import contextvars
import functools

import jax
import jax.numpy as jnp
from jax import lax

_PORTABLE = contextvars.ContextVar('portable', default=False)


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
  return _with_zeros(direct, strides, x, kernel)


def deconvolve(x, kernel):
  """A transposed convolution with stride 2 and a border of one.

  Each phase, even or odd row and column, is a 2x2 convolution of the input: the
  gradient of `nn.ConvTranspose` is 30 times slower on a CPU.

  Args:
    x: (B, H, W, Cin).
    kernel: (4, 4, Cin, Cout), PyTorch's with both spatial axes reversed.

  Returns:
    (B, 2 H, 2 W, Cout).
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
