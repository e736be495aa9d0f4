"""Operations in forms that are fast on a CPU, with the same results.

On other devices, and in exported graphs, they have their plain forms.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# The zeros at both ends of rows and of columns.
Borders = tuple[tuple[int, int], tuple[int, int]]

_PORTABLE = contextvars.ContextVar('portable', default=False)
_PRODUCTS = contextvars.ContextVar('products', default=False)


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


def for_cpu() -> bool:
  """Tells whether the forms for CPUs are to be used."""
  return jax.default_backend() == 'cpu' and not _PORTABLE.get()


@contextlib.contextmanager
def as_products() -> Iterator[None]:
  """Makes convolutions matrix products on a CPU, for a `with` block.

  It is for functions that are mapped over several kernels. XLA's library for
  convolutions on a CPU has one kernel at a time, without which gradients of
  kernels are ten and more times slower; for products it does not matter.
  """
  token = _PRODUCTS.set(True)
  try:
    yield
  finally:
    _PRODUCTS.reset(token)


def is_portable() -> bool:
  """Tells whether operations shall have forms that run anywhere."""
  return _PORTABLE.get()


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
  return lax.optimization_barrier(x) if for_cpu() else x


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
    **options: Further options of `lax.conv_general_dilated`, without dilation;
      of groups, as many as there are channels.

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
  if not for_cpu():
    return direct(x, kernel)
  if options.get('feature_group_count', 1) > 1:
    return _depthwise(
      x, kernel[:, :, 0], tuple(strides), _borders(x, kernel, strides, padding)
    )
  if kernel.shape[:2] == (1, 1):  # a matrix product's gradient is twice as fast
    x = store(x[:, :: strides[0], :: strides[1]])
    return jnp.matmul(x, kernel[0, 0], precision=precision)
  if _PRODUCTS.get():
    borders = _borders(x, kernel, strides, padding)
    taps = _taps(x, kernel.shape[:2], tuple(strides), borders)
    seen = jnp.concatenate(list(taps.values()), axis=-1)
    return jnp.matmul(
      store(seen), kernel.reshape(-1, kernel.shape[-1]), precision=precision
    )
  return _with_zeros(direct, strides, x, kernel)


def _borders(
  x: Float[Array, 'batch height width channels'],
  kernel: Float[Array, 'rows columns 1 channels'],
  strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
) -> Borders:
  """The zeros at both ends of rows and of columns."""
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(
      x.shape[1:3], kernel.shape[:2], strides, padding
    )
  return tuple(tuple(map(int, ends)) for ends in padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(
  x: Float[Array, 'batch height width channels'],
  kernel: Float[Array, 'rows columns channels'],
  strides: tuple[int, int],
  borders: Borders,
) -> Float[Array, 'batch out_height out_width channels']:
  """Convolves every channel with a kernel of its own.

  XLA's CPU compiler has a plain loop for it. Here it is a sum of shifted
  products, one for each weight of a kernel, which becomes a single vectorised
  loop: ten to a hundred times faster (docs/results/speed.md).

  Args:
    x: (B, H, W, C) maps.
    kernel: (h, w, C) weights.
    strides: The strides of rows and columns.
    borders: The zeros at both ends of rows and of columns.
  """
  taps = _taps(x, kernel.shape[:2], strides, borders)
  return store(sum(part * kernel[i, j] for (i, j), part in taps.items()))


def _taps(
  x: Float[Array, 'batch height width channels'],
  sides: tuple[int, int],
  strides: tuple[int, int],
  borders: Borders,
) -> dict[tuple[int, int], Float[Array, 'batch rows columns channels']]:
  """What each weight of a kernel of these sides is multiplied with."""
  x = jnp.pad(x, ((0, 0), *borders, (0, 0)))
  ends = [
    (length - side) // stride * stride + 1
    for length, side, stride in zip(x.shape[1:3], sides, strides, strict=True)
  ]
  return {
    (i, j): x[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
    for i in range(sides[0])
    for j in range(sides[1])
  }


def _depthwise_forward(
  x: Array, kernel: Array, strides: tuple[int, int], borders: Borders
) -> tuple[Array, tuple[Array, Array]]:
  return _depthwise(x, kernel, strides, borders), (x, kernel)


def _depthwise_backward(
  strides: tuple[int, int],
  borders: Borders,
  residuals: tuple[Array, Array],
  gradient: Array,
) -> tuple[Array, Array]:
  """Computes the gradients with respect to maps and kernel.

  The kernel's is summed up image by image, in an array of the size of a map for
  each weight. It stays in the cache, and only at the end its rows are added. A
  sum over all rows at once is 10 to 40 times slower.
  """
  x, kernel = residuals
  gradient = store(gradient)
  sides = kernel.shape[:2]

  def add_image(sums: dict, image: tuple[Array, Array]):
    maps, gradients = image
    taps = _taps(maps[None], sides, strides, borders)
    return {
      place: sums[place] + part[0] * gradients for place, part in taps.items()
    }, None

  zeros = jnp.zeros(gradient.shape[1:], gradient.dtype)
  places = [(i, j) for i in range(sides[0]) for j in range(sides[1])]
  sums, _ = lax.scan(add_image, dict.fromkeys(places, zeros), (x, gradient))
  rows = jnp.ones((1, zeros.shape[0] * zeros.shape[1]), zeros.dtype)
  of_kernel = [rows @ sums[p].reshape(-1, zeros.shape[-1]) for p in places]
  return (
    _depthwise_transposed(gradient, kernel, strides, borders, x.shape),
    jnp.stack(of_kernel).reshape(kernel.shape),
  )


def _depthwise_transposed(
  gradient: Array,
  kernel: Array,
  strides: tuple[int, int],
  borders: Borders,
  shape: Sequence[int],
) -> Array:
  """The gradient with respect to maps of a shape: a sum for each phase.

  Rows p of the maps with the same p mod stride see the same rows of the kernel.
  """
  phases = [
    _one_axis(
      gradient.shape[axis + 1],
      kernel.shape[axis],
      strides[axis],
      borders[axis][0],
      shape[axis + 1],
    )
    for axis in (0, 1)
  ]
  out = []
  for rows in phases[0]:
    line = []
    for columns in phases[1]:
      border = (
        (0, 0),
        (rows.before, rows.after),
        (columns.before, columns.after),
        (0, 0),
      )
      wide = jnp.pad(gradient, border)
      line.append(
        sum(
          wide[:, a : a + rows.length, b : b + columns.length] * kernel[i, j]
          for i, a in rows.taps
          for j, b in columns.taps
        )
        + jnp.zeros(
          (len(gradient), rows.length, columns.length, shape[-1]),
          gradient.dtype,
        )
      )
    out.append(jnp.stack(line, axis=3))
  whole = jnp.stack(out, axis=2)
  b, h, sh, w, sw, c = whole.shape
  return store(whole.reshape(b, h * sh, w * sw, c)[:, : shape[1], : shape[2]])


class _Phase(NamedTuple):
  """How the rows of one phase see a gradient.

  Attributes:
    taps: (row of the kernel, first row of the widened gradient).
    before: Zeros before the gradient's rows.
    after: Zeros behind them.
    length: The number of rows of the phase.
  """

  taps: list[tuple[int, int]]
  before: int
  after: int
  length: int


def _one_axis(
  count: int, side: int, stride: int, border: int, length: int
) -> list[_Phase]:
  """The phases along rows or columns.

  Args:
    count: The gradient's length.
    side: The kernel's.
    stride: The stride.
    border: The zeros before the maps.
    length: The maps' length.
  """
  rows = -(-length // stride)
  phases = []
  for phase in range(stride):
    # Row stride * r + phase is seen by output row o with tap i if
    # stride * o + i = stride * r + phase + border.
    taps = [
      (i, (phase + border - i) // stride)
      for i in range(side)
      if (phase + border - i) % stride == 0
    ]
    before = max([0, *(-first for _, first in taps)])
    after = max([0, *(first + rows - count for _, first in taps)])
    phases.append(
      _Phase([(i, first + before) for i, first in taps], before, after, rows)
    )
  return phases


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


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
