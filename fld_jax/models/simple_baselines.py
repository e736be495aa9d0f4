"""SimpleBaselines (Xiao et al., ECCV 2018): ResNet and three deconvolutions.

With the coordinates of the soft-argmax trained too it is integral regression
(Sun et al., ECCV 2018).
"""

import flax.linen as nn
import jax.numpy as jnp

from fld_jax.models.layers import BatchNorm, Deconv, heatmap_head, relu
from fld_jax.models.resnet import ResNetFeatures


class SimpleBaselines(nn.Module):
  """Heatmaps from C5.

  Attributes:
    num_landmarks: N.
    depth, width: of the ResNet.
    channels: of the deconvolutions.
    dtype: of the computation; heatmaps and all parameters are float32.
  """

  num_landmarks: int = 8
  depth: int = 50
  width: int = 64
  channels: int = 256
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch, train: bool) -> dict[str, jnp.ndarray]:
    """Runs the network.

    Args:
      batch: `image` (B, S, S, 3) normalised float, S a multiple of 32.
      train: batch statistics on.

    Returns:
      `heatmaps` (B, S / 4, S / 4, N), of any range.
    """
    x = ResNetFeatures(self.depth, self.width, self.dtype, name='resnet')(
      batch['image'], train
    )['c5']
    for i in range(1, 4):
      x = Deconv(self.channels, self.dtype, name=f'deconv{i}')(x)
      x = relu(BatchNorm(self.dtype, name=f'deconv_bn{i}')(x, train))
    return {'heatmaps': heatmap_head(x, self.num_landmarks)}
