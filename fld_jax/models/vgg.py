"""VGG (Simonyan and Zisserman, ICLR 2015) and narrower variants of it."""

import flax.linen as nn
import jax.numpy as jnp

from fld_jax.models.layers import (
  BatchNorm,
  Conv,
  Dropout,
  max_pool_2x2,
  relu,
)

# (number of 3x3 convolutions, channels) for each block.
VGG16 = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class VGGFeatures(nn.Module):
  """The convolutions: blocks of 3x3 convolutions, each ended by a 2x2 pool.

  Attributes:
    blocks: (convolutions, channels) of each block; VGG16 is the published one.
    batch_norm: normalise after each convolution, which then has no bias. The
      published network has none; training from random weights wants it.
    dtype: of the computation; parameters stay float32.
  """

  blocks: tuple[tuple[int, int], ...] = VGG16
  batch_norm: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, train: bool):
    """(B, H, W, 3) normalised image -> (B, H / 2^blocks, W / 2^blocks, C)."""
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
          x = BatchNorm(self.dtype, name=f'bn{i}_{j}')(x, train)
        x = relu(x)
      x = max_pool_2x2(x)
    return x


class VGG(nn.Module):
  """The classifier: 138,357,544 parameters with 1000 classes at 224 pixels."""

  num_classes: int = 1000
  blocks: tuple[tuple[int, int], ...] = VGG16
  hidden: int = 4096
  dropout: float = 0.5
  batch_norm: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch, train: bool) -> dict[str, jnp.ndarray]:
    """Classifies images.

    Args:
      batch: `image` (B, H, W, 3) normalised float, `example_index` (B,) int32.
      train: dropout and batch statistics on.

    Returns:
      `logits` (B, num_classes).
    """
    x = VGGFeatures(self.blocks, self.batch_norm, self.dtype, name='vgg')(
      batch['image'], train
    )
    x = x.reshape(x.shape[0], -1)
    for name in ('fc6', 'fc7'):
      x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name=name)(x))
      x = Dropout(self.dropout)(x, batch['example_index'], train)
    return {'logits': nn.Dense(self.num_classes, name='fc8')(x)}
