"""A light decoder that brings a trunk's maps together at stride 4.

As in a feature pyramid (Lin et al., CVPR 2017), but with few channels, one
convolution a level and one output: nearly all the computation is the trunk's.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.image import resize
from jaxtyping import Array

from fld_jax.models.efficientnet import EfficientNet
from fld_jax.models.layers import BatchNorm, Conv, heatmap_outputs, relu
from fld_jax.models.trunk import FeatureMap, Trunk, feature_maps

LEVELS = ('c5', 'c4', 'c3', 'c2')  # the maps that it takes


class TopDown(nn.Module):
  """Heatmaps at stride 4, made from the maps c5 down to c2.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    backbone: The trunk, with maps c2 to c5.
    channels: Channels of the decoder.
    partners: Each landmark's partner in the mirrored image, if the network
      predicts how they are ordered (`layers.PairOrder`); else ().
    visibility: Whether the network predicts visibility too.
    dtype: The type of the computation; heatmaps and all parameters are float32.
  """

  num_landmarks: int = 8
  backbone: Trunk = EfficientNet()
  channels: int = 64
  partners: tuple[int, ...] = ()
  visibility: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch: dict[str, Array], train: bool) -> dict[str, Array]:
    """Runs the network.

    Args:
      batch: `image`, (B, S, S, 3) normalised float, S a multiple of 4.
      train: Whether normalisation uses the batch's own statistics.

    Returns:
      `heatmaps`, (B, S / 4, S / 4, N), of any range; `visibility`, (B, N, 3)
      logits, if there is such a head.

    Raises:
      InputError: The trunk lacks one of the maps, or S is no multiple of 32.
    """
    maps = feature_maps(self, batch['image'], train, LEVELS)
    return heatmap_outputs(self, merged(self, maps, train), maps[0])


def merged(
  network: nn.Module, maps: list[FeatureMap], train: bool
) -> FeatureMap:
  """Brings a trunk's maps together, within a network's `__call__`.

  Args:
    network: The network, with the fields `channels` and `dtype`.
    maps: The trunk's maps of LEVELS, or of the first few.
    train: Whether normalisation uses the batch's own statistics.

  Returns:
    Features of the size of the last of the maps, with `channels` channels.
  """
  lateral = lambda x, level: Conv(
    network.channels, (1, 1), dtype=network.dtype, name=f'lateral{level}'
  )(x)
  x = lateral(maps[0], 5)
  for level, finer in zip((4, 3, 2), maps[1:], strict=False):
    b, h, w, _ = finer.shape
    x = resize(x, (b, h, w, network.channels), 'bilinear')
    x = Conv(
      network.channels,
      (3, 3),
      use_bias=False,
      dtype=network.dtype,
      name=f'smooth{level}',
    )(x + lateral(finer, level))
    x = relu(BatchNorm(network.dtype, name=f'bn{level}')(x, train))
  return x
