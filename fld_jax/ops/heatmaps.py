"""Landmarks <-> heatmaps.

A heatmap of W x W cells covers the crop. Cell i holds what lies at i + 0.5, so
that index i is the normalised coordinate (i + 0.5) / W - 0.5 and a mirrored
map is the map of the mirrored landmarks, without a shift.

Networks of others may have learned otherwise: `shift` is by how many cells
their peaks lie to the right of that, and below.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from fld_jax import geometry
from fld_jax.errors import InputError

DECODERS = ('quarter', 'soft_argmax', 'dark')


def to_index(points: Float[Array, '...'], side: int) -> Float[Array, '...']:
  """Normalised coordinates (..., 2) -> indices of cells, fractional."""
  return geometry.denormalise(points, side) - 0.5


def from_index(index: Float[Array, '...'], side: int) -> Float[Array, '...']:
  """Indices of cells (..., 2), fractional -> normalised coordinates."""
  return geometry.normalise(index + 0.5, side)


@dataclasses.dataclass(frozen=True)
class Codec:
  """Heatmaps of landmarks, and landmarks of heatmaps.

  Attributes:
    decoder: 'quarter', 'soft_argmax' or 'dark'.
    sigma: Standard deviation of a target's Gaussian, in cells.
    amplitude: Height of a target.
    shift: How many cells the peaks lie to the right of our cells, and below.
    alpha: Sharpness of the soft-argmax.
  """

  decoder: str = 'quarter'
  sigma: float = 2.0
  amplitude: float = 1.0
  shift: float = 0.0
  alpha: float = 15.0

  def differentiable(self) -> 'Codec':
    """The same targets, read by the one decoder that has a gradient."""
    return dataclasses.replace(self, decoder='soft_argmax')

  def encode(
    self, points: Float[Array, 'b n 2'], side: int
  ) -> Float[Array, 'b side side n']:
    """Gaussians around landmarks; centres are not rounded to cells.

    Args:
      points: (B, N, 2) normalised coordinates.
      side: W, the maps' side in cells.

    Returns:
      (B, W, W, N) float32.
    """
    index = to_index(points, side) + self.shift
    cells = jnp.arange(side, dtype=jnp.float32)

    def bell(centre):  # (B, N) -> (B, W, N)
      distance = cells[:, None] - centre[:, None]
      return jnp.exp(-(distance**2) / (2 * self.sigma**2))

    x, y = bell(index[..., 0]), bell(index[..., 1])
    return self.amplitude * y[:, :, None] * x[:, None]

  def decode(
    self, views: Sequence[Float[Array, 'b w w n']]
  ) -> Float[Array, 'b n 2']:
    """Landmarks of heatmaps.

    Args:
      views: Maps of the same landmarks, each (B, W, W, N): the plain image's
        and perhaps its mirror image's, mirrored back. 'quarter' and 'dark' read
        their mean. The soft-argmax reads each by itself and averages the
        landmarks: where views disagree, the softmax of a mean is far from the
        mean of softmaxes. So it is with a shift, which the mirror image has to
        the other side.

    Returns:
      (B, N, 2) normalised coordinates.

    Raises:
      InputError: For a decoder that there is not.
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
    """How sure maps are of their landmarks: their highest values.

    Args:
      views: Maps of the same landmarks as for `decode`; their mean is taken.

    Returns:
      (B, N) in [0, 1], 1 for a peak as high as its target.
    """
    maps = sum(views) / len(views)
    return jnp.clip(maps.max(axis=(1, 2)) / self.amplitude, 0.0, 1.0)

  def check_sharpness(self, side: int) -> None:
    """Refuses settings whose soft-argmax is drawn to the middle of the map.

    The flat rest of a map outweighs a peak that is too low, whatever the image
    shows (docs/methods.md 4.2). The rule of thumb there, alpha times amplitude
    at least ln(W^2) + 2, leaves the peak's width out; so a peak is tried.

    Args:
      side: W, the maps' side in cells.

    Raises:
      InputError: If a noise-free peak at a quarter of width and height is read
        more than a tenth of its way to the middle.
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
  """The mean place under softmax(alpha * heatmap) (Song et al. eqs. 2 and 3).

  Args:
    heatmaps: (B, W, W, N).
    alpha: Sharpness; too small a one gives the middle of the map, see
      `Codec.check_sharpness`.

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
  """The highest cell, and a quarter of a cell towards the higher neighbour.

  The usual decoding since Newell et al. (ECCV 2016). At the border of the map,
  where a neighbour is missing, there is no shift on that axis. Of a noise-free
  Gaussian the error is at most 0.25 cells an axis inside the map.

  Args:
    heatmaps: (B, W, W, N).

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
  """DARK (Zhang et al., CVPR 2020): the top of the Gaussian below the maps.

  Maps are smoothed with the targets' Gaussian; the logarithm's second-order
  expansion around the highest cell gives the maximum. Where the smoothing
  would reach beyond the border the map is taken as it is. The result stays
  within a cell and a half of the highest cell on each axis; where the
  expansion has no maximum, it is that cell.

  Args:
    heatmaps: (B, W, W, N), W at least 5.
    sigma: of the targets, in cells.

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
  # Ten decades below the top: the logarithm of a map with values below 0.
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


def _flat(heatmaps):
  """(B, W, W, N) -> ((B, N, W * W) float32, W)."""
  b, side, _, n = heatmaps.shape
  maps = jnp.moveaxis(heatmaps.astype(jnp.float32), -1, 1)
  return maps.reshape(b, n, side * side), side


def _peak(maps, side: int):
  """Column and row of the highest cell, each (B, N) int32."""
  place = jnp.argmax(maps, axis=-1)
  # Not % and //, which the converter to ONNX lowers for a known B only.
  y = lax.div(place, side)
  return place - side * y, y


def _at(maps, side: int, x, y):
  """Values at columns x and rows y, each (B, N); the border's beyond it."""
  place = jnp.clip(y, 0, side - 1) * side + jnp.clip(x, 0, side - 1)
  return jnp.take_along_axis(maps, place[..., None], axis=-1)[..., 0]
