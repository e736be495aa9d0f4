"""Landmarks straight from a feature map: FashionNet's pose branch.

FashionNet: Liu et al., DeepFashion, CVPR 2016; Song et al. (2021) use it as
their regression model and do not describe its head (docs/methods.md 3.1).
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from fld_jax.models.layers import BatchNorm, Dropout
from fld_jax.models.resnet import ResNetFeatures
from fld_jax.models.vgg import VGG16, VGGFeatures


class FashionNet(nn.Module):
  """VGG and the pose branch.

  Attributes:
    num_landmarks: N.
    blocks, batch_norm: of the VGG trunk.
    pool, hidden, dropout: see `RegressionHead`.
    dtype: of the computation; the outputs and all parameters are float32.
  """

  num_landmarks: int = 8
  blocks: tuple[tuple[int, int], ...] = VGG16
  batch_norm: bool = False
  pool: int = 7
  hidden: int = 1024
  dropout: float = 0.5
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch, train: bool) -> dict[str, jnp.ndarray]:
    """Runs the network: see `RegressionHead` for arguments and outputs."""
    x = VGGFeatures(self.blocks, self.batch_norm, self.dtype, name='vgg')(
      batch['image'].astype(self.dtype), train
    )
    return RegressionHead(
      self.num_landmarks,
      self.pool,
      self.hidden,
      self.dropout,
      self.batch_norm,
      self.dtype,
      name='pose',
    )(x, batch, train)


class ResNetRegression(nn.Module):
  """The same branch on a ResNet's C5.

  Attributes:
    num_landmarks: N.
    depth, width: of the ResNet.
    pool, hidden, dropout: see `RegressionHead`.
    dtype: of the computation; the outputs and all parameters are float32.
  """

  num_landmarks: int = 8
  depth: int = 50
  width: int = 64
  pool: int = 7
  hidden: int = 1024
  dropout: float = 0.5
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch, train: bool) -> dict[str, jnp.ndarray]:
    """Runs the network: see `RegressionHead` for arguments and outputs."""
    x = ResNetFeatures(self.depth, self.width, self.dtype, name='resnet')(
      batch['image'], train
    )['c5']
    return RegressionHead(
      self.num_landmarks,
      self.pool,
      self.hidden,
      self.dropout,
      True,
      self.dtype,
      name='pose',
    )(x, batch, train)


class RegressionHead(nn.Module):
  """Average pooling to a fixed grid, two hidden layers, linear outputs.

  Attributes:
    num_landmarks: N.
    pool: side of the grid.
    hidden: width of both layers.
    dropout: rate after each of them.
    batch_norm: normalise after each of them.
    dtype: of the computation; outputs and parameters are float32.
  """

  num_landmarks: int
  pool: int
  hidden: int
  dropout: float
  batch_norm: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, batch, train: bool) -> dict[str, jnp.ndarray]:
    """Runs the head.

    Args:
      x: (B, H, W, C) feature map.
      batch: `example_index` (B,) int32, place in the global batch.
      train: dropout and batch statistics on.

    Returns:
      `landmarks` (B, N, 2) normalised coordinates and `visibility` (B, N, 3)
      logits. FashionNet has two visibility states; three are what FLD and
      DeepFashion annotate.
    """
    x = adaptive_average_pool(x, self.pool)
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
      x = Dropout(self.dropout)(nn.relu(x), batch['example_index'], train)
    x = x.astype(jnp.float32)
    head = lambda size, name: nn.Dense(
      self.num_landmarks * size,
      kernel_init=nn.initializers.normal(0.01),
      name=name,
    )(x).reshape(-1, self.num_landmarks, size)
    return {'landmarks': head(2, 'landmarks'), 'visibility': head(3, 'states')}


def adaptive_average_pool(x, side: int):
  """Averages (B, H, W, C) to (B, side, side, C), as PyTorch's layer does.

  Cell i covers rows floor(i H / side) to ceil((i + 1) H / side).
  """

  def weights(length: int):
    rows = np.arange(side)
    first, last = rows * length // side, -(-(rows + 1) * length // side)
    places = np.arange(length)
    inside = (places >= first[:, None]) & (places < last[:, None])
    return jnp.asarray(inside / inside.sum(1, keepdims=True), x.dtype)

  _, h, w, _ = x.shape
  return jnp.einsum('ih,jw,bhwc->bijc', weights(h), weights(w), x)
