"""VGG (Simonyan and Zisserman, ICLR 2015) and narrower variants of it."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from fld_jax.models.layers import BatchNorm, Conv, max_pool_2x2, relu
from fld_jax.models.trunk import FeatureMap, Image, Trunk

# (number of 3x3 convolutions, channels) for each block.
VGG16 = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class VGG(Trunk):
  """The convolutions: blocks of 3x3 convolutions, each ended by a 2x2 pool.

  Attributes:
    blocks: Number of convolutions and their channels, for each block; VGG16 is
      the published network.
    batch_norm: Whether each convolution is normalised; it then has no bias. The
      published network is not, and training from random weights wants it.
    frozen: See `Trunk`; blocks are those of `blocks`.
    dtype: The type of the computation; parameters stay float32.
  """

  blocks: tuple[tuple[int, int], ...] = VGG16
  batch_norm: bool = False
  dtype: jnp.dtype = jnp.float32
  tree_name: ClassVar[str] = 'vgg'

  @nn.compact
  def __call__(self, image: Image, train: bool) -> dict[str, FeatureMap]:
    """Computes the maps before and after each block's pool; see `Trunk`.

    c1, c2, ... are those after the pools; d3 is conv4_3, before the fourth.
    """
    x, maps = image.astype(self.dtype), {}
    for i, (convolutions, channels) in enumerate(self.blocks, 1):
      for j in range(1, convolutions + 1):
        x = Conv(
          channels,
          (3, 3),
          use_bias=not self.batch_norm,
          kernel_init=nn.initializers.he_normal(),
          dtype=self.dtype,
          name=f'conv{i}_{j}',
        )(x)
        if self.batch_norm:
          norm = BatchNorm(self.dtype, name=f'bn{i}_{j}')
          x = norm(x, train and i > self.frozen)
        x = relu(x)
      if i <= self.frozen:
        x = lax.stop_gradient(x)
      if i > 1:
        maps[f'd{i - 1}'] = x
      maps[f'c{i}'] = x = max_pool_2x2(x)
    return maps

  def num_blocks(self) -> int:
    """See `Trunk`."""
    return len(self.blocks)

  def frozen_modules(self) -> tuple[str, ...]:
    """See `Trunk`."""
    kinds = ('conv', 'bn') if self.batch_norm else ('conv',)
    return tuple(
      f'{kind}{i}_{j}'
      for i, (convolutions, _) in enumerate(self.blocks[: self.frozen], 1)
      for j in range(1, convolutions + 1)
      for kind in kinds
    )
