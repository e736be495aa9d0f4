"""Values of a map around points: patches by bilinear interpolation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from fld_jax.ops.heatmaps import to_index


def patches(
  x: Float[Array, 'b h w c'],
  points: Float[Array, 'b n 2'],
  side: int,
  spacing: float | Float[Array, 'b n'] = 1.0,
) -> Float[Array, 'b n {side} {side} c']:
  """Samples a square grid around each point.

  A patch is a product of rows, map and columns, since its axes are those of the
  map: matrix products are fast on all devices, and their gradient, unlike that
  of a gather, is one as well.

  Args:
    x: Maps, (B, H, W, C).
    points: (B, N, 2) x, y in normalised coordinates, which span the map from
      -0.5 to 0.5 (docs/coordinates.md); the grid's middle lies on the point.
    side: Side of the grid, in samples.
    spacing: Distance of two neighbouring samples, in cells, of all grids or of
      each. Nothing is averaged if it is above 1, so cells between the samples
      are not seen.

  Returns:
    (B, N, side, side, C) patches, rows first. Between the centres of cells
    values are interpolated; beyond the map they are 0.
  """
  _, h, w, _ = x.shape
  grid = jnp.asarray(spacing)[..., None] * (jnp.arange(side) - (side - 1) / 2)

  def weights(along: Float[Array, 'b n'], length: int) -> Array:
    places = to_index(along, length)[..., None] + grid
    distance = jnp.abs(places[..., None] - jnp.arange(length))
    return jnp.maximum(1 - distance, 0).astype(x.dtype)  # (B, N, side, length)

  rows, columns = weights(points[..., 1], h), weights(points[..., 0], w)
  return jnp.einsum('bnih,bnjw,bhwc->bnijc', rows, columns, x, optimize=True)
