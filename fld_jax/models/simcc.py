"""SimCC (Li et al., ECCV 2022): each landmark's x and y as classes.

The bins are finer than pixels, and nothing is brought back to a higher
resolution: a convolution of the trunk's last map and two layers that all
landmarks share.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from fld_jax.models.efficientnet import EfficientNet
from fld_jax.models.layers import (
  VISIBILITY_HEAD,
  BatchNorm,
  Conv,
  VisibilityHead,
  relu,
)
from fld_jax.models.trunk import Trunk, last_map


class SimCC(nn.Module):
  """Bins of x and y from the trunk's last map.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    backbone: The trunk; its last map is read.
    channels: Channels of the map that each landmark has.
    hidden: Width of the layer between maps and bins.
    split: Bins a pixel.
    visibility: Whether the network predicts visibility too.
    dtype: The type of the computation; bins and all parameters are float32.
  """

  num_landmarks: int = 8
  backbone: Trunk = EfficientNet()
  channels: int = 16
  hidden: int = 256
  split: int = 2
  visibility: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch: dict[str, Array], train: bool) -> dict[str, Array]:
    """Runs the network.

    Args:
      batch: `image`, (B, S, S, 3) normalised float.
      train: Whether normalisation uses the batch's own statistics.

    Returns:
      `bins`, (B, N, 2, split * S) logits of x and y; `visibility`, (B, N, 3)
      logits, if there is such a head.
    """
    n, side = self.num_landmarks, batch['image'].shape[1]
    last = last_map(self, batch['image'], train)
    x = Conv(
      n * self.channels, (3, 3), use_bias=False, dtype=self.dtype, name='conv'
    )(last)
    x = relu(BatchNorm(self.dtype, name='bn')(x, train))
    b, rows, columns, _ = x.shape
    x = x.reshape(b, rows * columns, n, self.channels)
    x = jnp.moveaxis(x, 2, 1).reshape(b, n, rows * columns * self.channels)
    x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name='hidden')(x))
    x = x.astype(jnp.float32)
    count = self.split * side
    bins = nn.Dense(
      2 * count, kernel_init=nn.initializers.normal(0.01), name='bins'
    )(x)
    outputs = {'bins': bins.reshape(b, n, 2, count)}
    if self.visibility:
      head = VisibilityHead(n, name=VISIBILITY_HEAD)
      outputs['visibility'] = head(x, last)
    return outputs
