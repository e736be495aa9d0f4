"""Heatmaps of landmarks, and decoders of heatmaps.

A heatmap of W x W cells covers the crop. The middle of cell i is at i + 0.5, so
that index i is the normalised coordinate (i + 0.5) / W - 0.5 and a mirrored map
is the map of the mirrored landmarks, without a shift.

Networks that were trained elsewhere may have another convention: `shift` is the
number of cells by which their peaks lie further right and further down.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from fld_jax import geometry
from fld_jax.errors import InputError

DECODERS = ('quarter', 'soft_argmax', 'dark')


def to_index(points: Float[Array, '...'], side: int) -> Float[Array, '...']:
  """Converts normalised coordinates to fractional indices of cells.

  Args:
    points: Normalised coordinates of any shape.
    side: The side W of the maps in cells.

  Returns:
    The indices, with the shape of the coordinates.
  """
  return geometry.denormalise(points, side) - 0.5


def from_index(index: Float[Array, '...'], side: int) -> Float[Array, '...']:
  """Converts fractional indices of cells to normalised coordinates.

  Args:
    index: Indices of any shape.
    side: The side W of the maps in cells.

  Returns:
    The normalised coordinates, with the shape of the indices.
  """
  return geometry.normalise(index + 0.5, side)


@dataclasses.dataclass(frozen=True)
class Codec:
  """The settings of heatmaps, their targets and their decoder.

  Attributes:
    decoder: The decoder, one of DECODERS.
    sigma: The standard deviation of a target's Gaussian, in cells, above 0.
    amplitude: The height of a target, above 0.
    shift: The number of cells by which peaks lie right of the true place and
      below it.
    alpha: The sharpness of the soft-argmax, above 0.
  """

  decoder: str = 'quarter'
  sigma: float = 2.0
  amplitude: float = 1.0
  shift: float = 0.0
  alpha: float = 15.0

  def differentiable(self) -> 'Codec':
    """Returns the settings with the one decoder that has a gradient."""
    return dataclasses.replace(self, decoder='soft_argmax')

  def encode(
    self, points: Float[Array, 'b n 2'], side: int
  ) -> Float[Array, 'b side side n']:
    """Makes the target heatmaps: Gaussians around landmarks.

    The centres are not rounded to cells.

    Args:
      points: (B, N, 2) normalised coordinates.
      side: The side W of the maps in cells.

    Returns:
      (B, W, W, N) float32 maps in [0, amplitude].
    """
    index = to_index(points, side) + self.shift
    cells = jnp.arange(side, dtype=jnp.float32)

    def bell(centre: Float[Array, 'b n']) -> Float[Array, 'b side n']:
      distance = cells[:, None] - centre[:, None]
      return jnp.exp(-(distance**2) / (2 * self.sigma**2))

    x, y = bell(index[..., 0]), bell(index[..., 1])
    return self.amplitude * y[:, :, None] * x[:, None]

  def decode(
    self, views: Sequence[Float[Array, 'b w w n']]
  ) -> Float[Array, 'b n 2']:
    """Reads landmarks from heatmaps.

    Args:
      views: Maps of the same landmarks, each (B, W, W, N): those of the image
        and perhaps those of the mirrored image, mirrored back. 'quarter' and
        'dark' read the mean of the views. The soft-argmax reads each view by
        itself and averages the landmarks: where views disagree, the softmax of
        a mean is far from the mean of softmaxes. With a shift each view is read
        by itself too, since the mirrored image has it to the other side.

    Returns:
      (B, N, 2) normalised coordinates.

    Raises:
      InputError: If the decoder is unknown.
    """
    if self.decoder not in DECODERS:
      raise InputError(
        f"config.heatmap.decoder is '{self.decoder}', valid values are "
        f'{", ".join(DECODERS)}.'
      )
    read = {
      'quarter': quarter,
      'soft_argmax': lambda maps: soft_argmax(maps, self.alpha),
      'dark': lambda maps: dark(maps, self.sigma),
    }[self.decoder]
    if not self.shift and self.decoder != 'soft_argmax':
      return read(sum(views) / len(views))
    shift = self.shift / views[0].shape[1] * np.array([[1, 1], [-1, 1]])
    points = [read(maps) - by for maps, by in zip(views, shift, strict=False)]
    return sum(points) / len(views)

  def confidence(
    self, views: Sequence[Float[Array, 'b w w n']]
  ) -> Float[Array, 'b n']:
    """Computes the confidence of landmarks, the height of their peaks.

    Args:
      views: Maps of the same landmarks, each (B, W, W, N); their mean is taken.

    Returns:
      (B, N) confidences in [0, 1], 1 for a peak as high as its target.
    """
    maps = sum(views) / len(views)
    return jnp.clip(maps.max(axis=(1, 2)) / self.amplitude, 0.0, 1.0)

  def check_sharpness(self, side: int) -> None:
    """Refuses settings whose soft-argmax is drawn to the middle of the map.

    The flat rest of a map outweighs a peak that is too low, whatever the image
    shows (docs/methods.md 4.2). The rule of thumb there, alpha times amplitude
    at least ln(W^2) + 2, leaves out the peak's width; so a peak is tried.

    Args:
      side: The side W of the maps in cells.

    Raises:
      InputError: If a noise-free peak at a quarter of width and height is read
        more than a tenth of the way towards the middle.
    """
    centre, true = (side - 1) / 2, (side - 1) / 4
    bell = np.exp(-((np.arange(side) - true) ** 2) / (2 * self.sigma**2))

    def read(alpha: float) -> float:
      logits = alpha * self.amplitude * np.outer(bell, bell)
      share = np.exp(logits - logits.max())
      return share.sum(0) @ np.arange(side) / share.sum()

    is_sharp = lambda alpha: read(alpha) - true <= 0.1 * (centre - true)
    if is_sharp(self.alpha):
      return
    enough = next(filter(is_sharp, np.geomspace(1e-3, 1e3, 600)), None)
    remedy = 'Raise sigma.'
    if enough:
      remedy = f'Raise alpha to {np.ceil(100 * enough) / 100:g}.'
    raise InputError(
      f'config.heatmap.alpha {self.alpha} is too small for '
      f'config.heatmap.amplitude {self.amplitude}: with sigma '
      f'{self.sigma} the soft-argmax of {side} x {side} heatmaps reads a '
      f'peak in column {true:.1f} as {read(self.alpha):.1f}, drawn to the '
      f'middle {centre:.1f}. {remedy}'
    )


def soft_argmax(
  heatmaps: Float[Array, 'b w w n'], alpha: float
) -> Float[Array, 'b n 2']:
  """Computes the mean place under softmax(alpha * heatmap).

  It follows Song et al. (2021), equations 2 and 3.

  Args:
    heatmaps: (B, W, W, N) heatmaps.
    alpha: The sharpness, above 0. One that is too small gives places near the
      middle of the map (`Codec.check_sharpness`).

  Returns:
    (B, N, 2) normalised coordinates.
  """
  b, side, _, n = heatmaps.shape
  logits = alpha * heatmaps.astype(jnp.float32)
  share = jax.nn.softmax(logits.reshape(b, -1, n), axis=1)
  share = share.reshape(b, side, side, n)
  place = from_index(jnp.arange(side, dtype=jnp.float32), side)
  x = jnp.einsum('bxn,x->bn', share.sum(1), place)
  y = jnp.einsum('byn,y->bn', share.sum(2), place)
  return jnp.stack([x, y], axis=-1)


def quarter(heatmaps: Float[Array, 'b w w n']) -> Float[Array, 'b n 2']:
  """Finds the highest cell, and moves a quarter cell to its higher neighbour.

  This is the usual decoder since Newell et al. (ECCV 2016). At the border of
  the map, where a neighbour is missing, nothing is moved on that axis. For a
  noise-free Gaussian inside the map the error is at most 0.25 cells on each
  axis.

  Args:
    heatmaps: (B, W, W, N) heatmaps.

  Returns:
    (B, N, 2) normalised coordinates.
  """
  maps, side = _flat(heatmaps)
  x, y = _peak(maps, side)
  value = lambda dx, dy: _at(maps, side, x + dx, y + dy)
  inside = lambda i: (i > 0) & (i < side - 1)
  shift_x = jnp.where(inside(x), jnp.sign(value(1, 0) - value(-1, 0)), 0)
  shift_y = jnp.where(inside(y), jnp.sign(value(0, 1) - value(0, -1)), 0)
  index = jnp.stack([x + 0.25 * shift_x, y + 0.25 * shift_y], axis=-1)
  return from_index(index, side)


def dark(
  heatmaps: Float[Array, 'b w w n'], sigma: float
) -> Float[Array, 'b n 2']:
  """Finds the maximum of the underlying Gaussian: DARK.

  It follows Zhang et al. (CVPR 2020). Maps are smoothed with the targets'
  Gaussian; the second-order expansion of the logarithm around the highest cell
  gives the maximum. Near the border, where the smoothing would reach beyond it,
  the map is not smoothed. The result stays within a cell and a half of the
  highest cell on each axis; where the expansion has no maximum, it is that
  cell.

  Args:
    heatmaps: (B, W, W, N) heatmaps, W at least 5.
    sigma: The standard deviation of the targets' Gaussian in cells, above 0.

  Returns:
    (B, N, 2) normalised coordinates.
  """
  maps, side = _flat(heatmaps)
  radius = max(1, round(3 * sigma))
  taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
  taps = jnp.asarray(taps / taps.sum(), maps.dtype)
  smooth = maps.reshape(-1, side, side, 1)
  for shape in ((-1, 1), (1, -1)):
    smooth = lax.conv_general_dilated(
      smooth,
      taps.reshape(*shape)[..., None, None],
      (1, 1),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
  smooth = smooth.reshape(maps.shape)
  x, y = _peak(smooth, side)
  margin = radius + 2
  inside = lambda i: (i >= margin) & (i < side - margin)
  use = (inside(x) & inside(y))[..., None]
  raw_x, raw_y = _peak(maps, side)
  x, y = jnp.where(use[..., 0], x, raw_x), jnp.where(use[..., 0], y, raw_y)
  chosen = jnp.where(use, smooth, maps)
  # The logarithm needs values above 0: nothing is below 1e-10 of the maximum.
  floor = 1e-10 * jnp.maximum(chosen.max(axis=-1, keepdims=True), 1e-30)
  log = jnp.log(jnp.maximum(chosen, floor))
  # The expansion needs two cells on each side.
  cx, cy = jnp.clip(x, 2, side - 3), jnp.clip(y, 2, side - 3)
  at = lambda dx, dy: _at(log, side, cx + dx, cy + dy)
  gx, gy = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
  xx = (at(2, 0) - 2 * at(0, 0) + at(-2, 0)) / 4
  yy = (at(0, 2) - 2 * at(0, 0) + at(0, -2)) / 4
  xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
  det = xx * yy - xy**2
  peaked = (det > 0) & (xx < 0)
  safe = jnp.where(peaked, det, 1.0)
  near = lambda to, i: jnp.clip(to, i - 1.5, i + 1.5)
  top_x = near(cx - (yy * gx - xy * gy) / safe, x)
  top_y = near(cy - (xx * gy - xy * gx) / safe, y)
  index = jnp.stack(
    [jnp.where(peaked, top_x, x), jnp.where(peaked, top_y, y)], axis=-1
  )
  return from_index(index, side)


def _flat(
  heatmaps: Float[Array, 'b w w n'],
) -> tuple[Float[Array, 'b n cells'], int]:
  """Returns the (B, N, W * W) float32 maps, and W."""
  b, side, _, n = heatmaps.shape
  maps = jnp.moveaxis(heatmaps.astype(jnp.float32), -1, 1)
  return maps.reshape(b, n, side * side), side


def _peak(
  maps: Float[Array, 'b n cells'], side: int
) -> tuple[Int[Array, 'b n'], Int[Array, 'b n']]:
  """Returns column and row of the highest cell, each (B, N) int32."""
  place = jnp.argmax(maps, axis=-1)
  # Not % and //: the converter to ONNX supports them only for a fixed B.
  y = lax.div(place, side)
  return place - side * y, y


def _at(
  maps: Float[Array, 'b n cells'],
  side: int,
  x: Int[Array, 'b n'],
  y: Int[Array, 'b n'],
) -> Float[Array, 'b n']:
  """Returns (B, N) values at columns x and rows y, clipped to the map."""
  place = jnp.clip(y, 0, side - 1) * side + jnp.clip(x, 0, side - 1)
  return jnp.take_along_axis(maps, place[..., None], axis=-1)[..., 0]
