"""Landmarks straight from a feature map: FashionNet's pose branch.

FashionNet: Liu et al., DeepFashion, CVPR 2016; Song et al. (2021) use it as
their regression model and do not describe its head (docs/methods.md 3.1).
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from fld_jax.models.layers import BatchNorm, Dropout, adaptive_average_pool
from fld_jax.models.trunk import FeatureMap, Trunk, last_map
from fld_jax.models.vgg import VGG


class FashionNet(nn.Module):
  """A trunk and the pose branch: pooling, two hidden layers, linear outputs.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    backbone: The trunk; its last map is what the branch sees. The two hidden
      layers are normalised if the trunk is.
    pool: Side of the grid, in cells, to which the map is averaged; 0 for the
      map as it is.
    hidden: Width of both hidden layers.
    dropout: Rate after each hidden layer, in [0, 1).
    dtype: The type of the computation; the outputs and all parameters are
      float32.
  """

  num_landmarks: int = 8
  backbone: Trunk = VGG()
  pool: int = 7
  hidden: int = 1024
  dropout: float = 0.5
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch: dict[str, Array], train: bool) -> dict[str, Array]:
    """Runs the network.

    Args:
      batch: `image`, (B, S, S, 3) normalised float; `example_index`, (B,)
        int32, each example's place in the global batch.
      train: Whether dropout is on and normalisation uses the batch's own
        statistics.

    Returns:
      `landmarks`, (B, N, 2) coordinates in [-0.5, 0.5]; `visibility`, (B, N, 3)
      logits. FashionNet has two visibility states; three are what FLD and
      DeepFashion annotate.
    """
    return _PoseBranch(
      self.num_landmarks,
      self.pool,
      self.hidden,
      self.dropout,
      self.backbone.batch_norm,
      self.dtype,
      name='pose',
    )(last_map(self, batch['image'], train), batch['example_index'], train)


class _PoseBranch(nn.Module):
  """FashionNet without its trunk, one name in the parameter tree."""

  num_landmarks: int
  pool: int
  hidden: int
  dropout: float
  batch_norm: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: FeatureMap, example_index: Array, train: bool) -> Array:
    x = adaptive_average_pool(x, self.pool) if self.pool else x
    x = x.reshape(x.shape[0], -1)
    for i in (6, 7):
      x = nn.Dense(
        self.hidden,
        use_bias=not self.batch_norm,
        dtype=self.dtype,
        name=f'fc{i}',
      )(x)
      if self.batch_norm:
        x = BatchNorm(self.dtype, name=f'bn{i}')(x, train)
      x = Dropout(self.dropout)(nn.relu(x), example_index, train)
    x = x.astype(jnp.float32)
    head = lambda size, name: nn.Dense(
      self.num_landmarks * size,
      kernel_init=nn.initializers.normal(0.01),
      name=name,
    )(x).reshape(-1, self.num_landmarks, size)
    return {'landmarks': head(2, 'landmarks'), 'visibility': head(3, 'states')}
