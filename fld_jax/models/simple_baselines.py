"""SimpleBaselines (Xiao et al., ECCV 2018): ResNet and three deconvolutions.

With the coordinates of the soft-argmax trained too it is integral regression
(Sun et al., ECCV 2018).
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from fld_jax.models.layers import BatchNorm, Deconv, heatmap_outputs, relu
from fld_jax.models.resnet import ResNet
from fld_jax.models.trunk import Trunk, feature_maps


class SimpleBaselines(nn.Module):
  """Heatmaps from C5.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    backbone: The trunk, with a map c5.
    channels: Channels of each of the deconvolutions.
    partners: Each landmark's partner in the mirrored image, if the network
      predicts how they are ordered (`layers.PairOrder`); else ().
    visibility: Whether the network predicts visibility too.
    dtype: The type of the computation; heatmaps and all parameters are float32.
  """

  num_landmarks: int = 8
  backbone: Trunk = ResNet()
  channels: int = 256
  partners: tuple[int, ...] = ()
  visibility: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch: dict[str, Array], train: bool) -> dict[str, Array]:
    """Runs the network.

    Args:
      batch: `image`, (B, S, S, 3) normalised float, S a multiple of 32.
      train: Whether normalisation uses the batch's own statistics.

    Returns:
      `heatmaps`, (B, S / 4, S / 4, N), of any range; `visibility`, (B, N, 3)
      logits, if there is such a head.

    Raises:
      InputError: The trunk lacks that map, or S is no multiple of 32.
    """
    (last,) = feature_maps(self, batch['image'], train, ('c5',))
    x = last
    for i in range(1, 4):
      x = Deconv(self.channels, self.dtype, name=f'deconv{i}')(x)
      x = relu(BatchNorm(self.dtype, name=f'deconv_bn{i}')(x, train))
    return heatmap_outputs(self, x, last)
