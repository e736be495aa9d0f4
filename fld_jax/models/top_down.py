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
from fld_jax.models.trunk import FeatureMap, Image, Trunk, feature_maps


class TopDown(nn.Module):
  """Heatmaps at stride 4, made from the maps c5 down to c2.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    backbone: The trunk, with maps c2 to c5.
    channels: Channels of the decoder.
    visibility: Whether the network predicts visibility too.
    dtype: The type of the computation; heatmaps and all parameters are float32.
  """

  num_landmarks: int = 8
  backbone: Trunk = EfficientNet()
  channels: int = 64
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
    x, last = merged(self, batch['image'], train, 2)
    return heatmap_outputs(self, x, last)


def merged(
  network: nn.Module, image: Image, train: bool, finest: int
) -> tuple[FeatureMap, FeatureMap]:
  """Brings the maps of a network's trunk together, within its `__call__`.

  Args:
    network: The network, with the fields `backbone`, `channels` and `dtype`.
    image: Normalised images, (B, S, S, 3), S a multiple of 32.
    train: Whether normalisation uses the batch's own statistics.
    finest: The level of the result, whose stride is 2^finest.

  Returns:
    (B, S / 2^finest, S / 2^finest, channels) features, and the trunk's map c5.

  Raises:
    InputError: The trunk lacks one of the maps, or S is no multiple of 32.
  """
  levels = range(5, finest - 1, -1)
  maps = feature_maps(
    network, image, train, tuple(f'c{level}' for level in levels)
  )
  lateral = lambda x, level: Conv(
    network.channels, (1, 1), dtype=network.dtype, name=f'lateral{level}'
  )(x)
  x = lateral(maps[0], 5)
  for level, finer in zip(levels[1:], maps[1:], strict=True):
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
  return x, maps[0]
