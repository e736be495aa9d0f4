"""ResNet (He et al., CVPR 2016) in torchvision's v1.5 layout, and narrower.

In v1.5 the stride of a bottleneck is in its 3x3 convolution.
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from fld_jax.errors import InputError
from fld_jax.models.layers import BatchNorm, Conv, max_pool_3x3, relu
from fld_jax.models.trunk import FeatureMap, Image, Trunk

# Depth -> blocks of each of the four stages, and whether they are bottlenecks.
LAYOUTS = {
  18: ((2, 2, 2, 2), False),
  34: ((3, 4, 6, 3), False),
  50: ((3, 4, 6, 3), True),
  101: ((3, 4, 23, 3), True),
  152: ((3, 8, 36, 3), True),
}
EXPANSION = 4  # the ratio of a bottleneck's outer channels to its inner ones


class ResNet(Trunk):
  """The convolutions of a ResNet.

  Attributes:
    depth: The number of layers of the published classifier: 18, 34, 50, 101 or
      152.
    width: The number of channels of the stem and of the first stage's inner
      convolutions, 64 in the published network. Each later stage has twice as
      many.
    frozen: See `Trunk`; blocks are the residual ones, and the stem is frozen
      with the first.
    dtype: The type of the computation; parameters stay float32.
  """

  depth: int = 50
  width: int = 64
  dtype: jnp.dtype = jnp.float32
  tree_name: ClassVar[str] = 'resnet'
  batch_norm: ClassVar[bool] = True

  @nn.compact
  def __call__(self, image: Image, train: bool) -> dict[str, FeatureMap]:
    """Computes the maps of the four stages.

    Args:
      image: (B, H, W, 3) normalised images, of any floating point type.
      train: Whether normalisation uses the batch's own statistics and updates
        the running ones.

    Returns:
      The maps c2 to c5. Map ci has the shape (B, H / 2^i, W / 2^i, C). C of c2
      is the width, times 4 for bottlenecks, and doubles from map to map.

    Raises:
      InputError: If there is no ResNet of this depth, or the image's sides are
        no multiples of 32, so that some cells would cover more of it than
        others.
    """
    if image.shape[1] % 32 or image.shape[2] % 32:
      raise InputError(
        f'config.input.size is {image.shape[1]}, and a ResNet needs a multiple '
        'of 32.'
      )
    if self.depth not in LAYOUTS:
      raise InputError(
        f'The depth of a ResNet is {self.depth}, valid values are '
        f'{", ".join(map(str, LAYOUTS))}.'
      )
    blocks, bottleneck = LAYOUTS[self.depth]
    x = _conv(self.width, 7, 2, self.dtype, 'conv1')(image.astype(self.dtype))
    norm = BatchNorm(self.dtype, name='bn1')
    x = relu(norm(x, train and not self.frozen))
    x = max_pool_3x3(x)
    maps, number = {}, 0
    for i, count in enumerate(blocks):
      for j in range(count):
        x = _Block(
          channels=self.width * 2**i,
          stride=2 if i and not j else 1,
          bottleneck=bottleneck,
          dtype=self.dtype,
          name=f'layer{i + 1}_{j}',
        )(x, train and number >= self.frozen)
        if number < self.frozen:
          x = lax.stop_gradient(x)
        number += 1
      maps[f'c{i + 2}'] = x
    return maps

  def num_blocks(self) -> int:
    """See `Trunk`."""
    return sum(LAYOUTS[self.depth][0])

  def frozen_modules(self) -> tuple[str, ...]:
    """See `Trunk`."""
    if not self.frozen:
      return ()
    blocks = [
      f'layer{i}_{j}'
      for i, count in enumerate(LAYOUTS[self.depth][0], 1)
      for j in range(count)
    ]
    return ('conv1', 'bn1', *blocks[: self.frozen])


class _Block(nn.Module):
  """A residual block: two 3x3 convolutions, or 1x1, 3x3 and 1x1.

  Attributes:
    channels: The number of channels of the inner convolutions.
    stride: The stride of the block, 1 or 2.
    bottleneck: Whether the block has the three convolutions.
    dtype: The type of the computation.
  """

  channels: int
  stride: int
  bottleneck: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: FeatureMap, train: bool) -> FeatureMap:
    c, s = self.channels, self.stride
    out = c * EXPANSION if self.bottleneck else c
    # (channels, kernel side, stride)
    layers = (
      ((c, 1, 1), (c, 3, s), (out, 1, 1))
      if self.bottleneck
      else ((c, 3, s), (c, 3, 1))
    )
    y = x
    for i, layer in enumerate(layers, 1):
      y = _conv(*layer, self.dtype, f'conv{i}')(y)
      y = BatchNorm(self.dtype, name=f'bn{i}')(y, train)
      if i < len(layers):
        y = relu(y)
    if s > 1 or x.shape[-1] != out:
      x = _conv(out, 1, s, self.dtype, 'downsample_conv')(x)
      x = BatchNorm(self.dtype, name='downsample_bn')(x, train)
    return relu(x + y)


def _conv(
  channels: int, side: int, stride: int, dtype: jnp.dtype, name: str
) -> nn.Conv:
  """Makes a convolution without bias, padded alike on both sides as PyTorch's.

  Args:
    channels: The number of output channels.
    side: The side of the kernel, odd.
    stride: The stride of rows and columns.
    dtype: The type of the computation.
    name: The name of the layer.
  """
  return Conv(
    channels,
    (side, side),
    strides=stride,
    padding=side // 2,
    use_bias=False,
    kernel_init=nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
    dtype=dtype,
    name=name,
  )
