"""A feature pyramid (Lin et al., CVPR 2017) with a head for landmarks.

Song et al. (2021) name FPN as a base model and do not describe its head; this
one is our reading (docs/methods.md 3.6).
"""

import flax.linen as nn
import jax.numpy as jnp

# By name: what the converter to ONNX puts into jax.image wants a known B.
from jax.image import resize
from jaxtyping import Array

from fld_jax.models.layers import BatchNorm, Conv, heatmap_outputs, relu
from fld_jax.models.resnet import ResNet
from fld_jax.models.trunk import FeatureMap, Trunk, feature_maps


class FPN(nn.Module):
  """Heatmaps from P2 to P5, brought to stride 4 and summed.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    backbone: The trunk, with maps c2 to c5.
    channels: Channels of the pyramid.
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
      InputError: The trunk lacks one of the maps, or S is no multiple of 32.
    """
    conv = lambda side, name: Conv(
      self.channels, (side, side), dtype=self.dtype, name=name
    )
    levels = (5, 4, 3, 2)
    maps = feature_maps(
      self, batch['image'], train, tuple(f'c{level}' for level in levels)
    )
    total, above = 0, None
    for level, x in zip(levels, maps, strict=True):
      lateral = conv(1, f'lateral{level}')(x)
      above = lateral if above is None else lateral + _resize(above, 2)
      x = conv(3, f'smooth{level}')(above)
      x = conv(3, f'head{level}')(x)
      x = relu(BatchNorm(self.dtype, name=f'head_bn{level}')(x, train))
      total += _resize(x, 2 ** (level - 2), 'bilinear')
    x = conv(3, 'head')(total)
    x = relu(BatchNorm(self.dtype, name='head_bn')(x, train))
    return heatmap_outputs(self, x, maps[0])


def _resize(x: FeatureMap, factor: int, method: str = 'nearest') -> FeatureMap:
  """(B, H, W, C) -> (B, factor H, factor W, C)."""
  if factor == 1:
    return x
  b, h, w, c = x.shape
  return resize(x, (b, factor * h, factor * w, c), method)
