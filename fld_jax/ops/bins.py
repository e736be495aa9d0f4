"""Landmarks as distributions over bins of x and of y: SimCC.

Li et al., SimCC: a Simple Coordinate Classification Perspective for Human Pose
Estimation, ECCV 2022. K bins cover the crop on each axis. The middle of bin i
is at i + 0.5, as with the cells of `ops.heatmaps`, so that a reversed x is that
of the mirrored image.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fld_jax.ops.heatmaps import from_index, to_index


@dataclasses.dataclass(frozen=True)
class Bins:
  """The labels of bins, and their reader.

  Attributes:
    sigma: The standard deviation of a label's Gaussian, in bins, above 0.
  """

  sigma: float

  def labels(
    self, points: Float[Array, 'b n 2'], count: int
  ) -> Float[Array, 'b n 2 count']:
    """Makes the label distributions: Gaussians around landmarks.

    Args:
      points: (B, N, 2) normalised coordinates.
      count: The number K of bins on each axis.

    Returns:
      (B, N, 2, K) float32 distributions of x and of y, each of sum 1.
    """
    distance = jnp.arange(count) - to_index(points, count)[..., None]
    return jax.nn.softmax(-(distance**2) / (2 * self.sigma**2), axis=-1)

  def decode(
    self, views: Sequence[Float[Array, 'b n 2 k']]
  ) -> Float[Array, 'b n 2']:
    """Computes the means of the distributions, averaged over the views.

    Args:
      views: Logits of the same landmarks, each (B, N, 2, K): of the image and
        perhaps of the mirrored image, mirrored back.

    Returns:
      (B, N, 2) normalised coordinates.
    """
    share = _mean_share(views)
    count = share.shape[-1]
    place = from_index(jnp.arange(count, dtype=jnp.float32), count)
    return jnp.einsum('bnak,k->bna', share, place)

  def confidence(
    self, views: Sequence[Float[Array, 'b n 2 k']]
  ) -> Float[Array, 'b n']:
    """Computes the confidence of landmarks, the height of their peaks.

    Args:
      views: Logits of the same landmarks, each (B, N, 2, K).

    Returns:
      (B, N) confidences in [0, 1]: the geometric mean of both axes' highest
      shares over the highest share of a label in the middle of a bin, at most
      1.
    """
    share = _mean_share(views)
    away = np.arange(share.shape[-1])
    bell = np.exp(-(away**2) / (2 * self.sigma**2))
    top = 1 / (2 * bell.sum() - 1)
    height = jnp.clip(share.max(axis=-1) / top, 0.0, 1.0)
    return jnp.sqrt(height[..., 0] * height[..., 1])


def mirrored(
  logits: Float[Array, 'b n 2 k'], flip: Int[np.ndarray, ' n']
) -> Float[Array, 'b n 2 k']:
  """Mirrors the bins of landmarks.

  Args:
    logits: (B, N, 2, K) logits of x and of y.
    flip: (N,) the slot of each landmark's partner in the mirrored image.

  Returns:
    (B, N, 2, K) logits in the mirrored image.
  """
  logits = logits[:, flip]
  return jnp.stack([logits[:, :, 0, ::-1], logits[:, :, 1]], axis=2)


def _mean_share(
  views: Sequence[Float[Array, 'b n 2 k']],
) -> Float[Array, 'b n 2 k']:
  """The mean of the views' distributions."""
  shares = [jax.nn.softmax(view.astype(jnp.float32)) for view in views]
  return sum(shares) / len(views)
