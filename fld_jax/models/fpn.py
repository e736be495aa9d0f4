"""A feature pyramid (Lin et al., CVPR 2017) with a head for landmarks.

Song et al. (2021) name FPN as a base model and do not describe its head; this
one is our reading (docs/methods.md 3.6).
"""

import flax.linen as nn
import jax.numpy as jnp

# By name: what the converter to ONNX puts into jax.image wants a known B.
from jax.image import resize

from fld_jax.models.layers import BatchNorm, Conv, heatmap_head, relu
from fld_jax.models.resnet import ResNetFeatures


class FPN(nn.Module):
  """Heatmaps from P2 to P5, brought to stride 4 and summed.

  Attributes:
    num_landmarks: N.
    depth, width: of the ResNet.
    channels: of the pyramid.
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
    conv = lambda side, name: Conv(
      self.channels, (side, side), dtype=self.dtype, name=name
    )
    maps = ResNetFeatures(self.depth, self.width, self.dtype, name='resnet')(
      batch['image'], train
    )
    total, above = 0, None
    for level in (5, 4, 3, 2):
      lateral = conv(1, f'lateral{level}')(maps[f'c{level}'])
      above = lateral if above is None else lateral + _resize(above, 2)
      x = conv(3, f'smooth{level}')(above)
      x = conv(3, f'head{level}')(x)
      x = relu(BatchNorm(self.dtype, name=f'head_bn{level}')(x, train))
      total += _resize(x, 2 ** (level - 2), 'bilinear')
    x = conv(3, 'head')(total)
    x = relu(BatchNorm(self.dtype, name='head_bn')(x, train))
    return {'heatmaps': heatmap_head(x, self.num_landmarks)}


def _resize(x, factor: int, method: str = 'nearest'):
  """(B, H, W, C) -> (B, factor H, factor W, C)."""
  if factor == 1:
    return x
  b, h, w, c = x.shape
  return resize(x, (b, factor * h, factor * w, c), method)
