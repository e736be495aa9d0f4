"""The stage networks of DFA (Liu et al., ECCV 2016).

Layer by layer as the authors' release has them: `fc_pre` embeds the previous
estimate and joins fc6 before its ReLU and dropout. Beyond the paper, a stage
after the first can look at the image where the estimate is (`local_maps`), as
FashionNet does (Liu et al., CVPR 2016), and on crops of another size (`side`).
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fld_jax.models.layers import (
  Conv,
  Dropout,
  adaptive_average_pool,
  shrink,
)
from fld_jax.models.trunk import LAST, FeatureMap, Trunk, feature_maps
from fld_jax.models.vgg import VGG
from fld_jax.ops.sampling import patches

# Features of each map, and of each landmark, that a stage sees at the estimate.
LOCAL_CHANNELS, LOCAL_FEATURES = 32, 64


class DFA(nn.Module):
  """One network of the cascade: stage 1, stage 2, stage 3 or a branch of it.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    num_clusters: Length of the pseudo-label, 0 for no such head.
    use_estimate: False for stage 1, which sees the image alone. True for the
      others: they also see the previous stage's landmarks and predict offsets.
    softmax: Whether the pseudo-label head ends with a softmax, so that it is a
      distribution.
    side: Side of the crops that the network sees, in pixels: larger ones are
      averaged down to it. 0 for crops as they are.
    backbone: The trunk; fc6 sees its last map.
    pool: Side of the grid, in cells, to which the last map is averaged; 0 for
      the map as it is.
    local_maps: Names of the trunk's maps of which a stage after the first sees
      a patch around each landmark of the estimate; () for none, as in the
      paper.
    patch: Side of these patches, in cells of the maps.
    hidden: Width of fc6 and fc7; fc_pre has an eighth of it.
    dropout: Rate after fc6 and fc7, in [0, 1).
    dtype: The type of the computation; the heads and all parameters are
      float32.
    label_head: The layer that predicts the pseudo-label.
    imagenet_layers: Layers that VGG-16 for ImageNet has too: our name of each
      -> torchvision's. The first of them takes the flattened map.
  """

  num_landmarks: int = 8
  num_clusters: int = 20
  use_estimate: bool = False
  softmax: bool = True
  side: int = 0
  backbone: Trunk = VGG()
  pool: int = 0
  local_maps: tuple[str, ...] = ()
  patch: int = 7
  hidden: int = 4096
  dropout: float = 0.5
  dtype: jnp.dtype = jnp.float32
  label_head: ClassVar[str] = 'fc8_pseudo_label'
  imagenet_layers: ClassVar[dict[str, str]] = {
    'fc6': 'classifier.0',
    'fc7': 'classifier.3',
  }

  @nn.compact
  def __call__(self, batch: dict[str, Array], train: bool) -> dict[str, Array]:
    """Runs the network.

    Args:
      batch: `image`, (B, S, S, 3) normalised float; `example_index`, (B,)
        int32, each example's place in the global batch; `estimate`, (B, N, 2)
        in [-0.5, 0.5], if `use_estimate`.
      train: Whether dropout is on and normalisation uses the batch's own
        statistics.

    Returns:
      `landmarks`, (B, N, 2): coordinates in [-0.5, 0.5] for stage 1, else the
      scaled offset (the caller divides by `offset_scale` and subtracts it);
      `visibility`, (B, N, 3) logits; `pseudo_label`, (B, K), and its
      `pseudo_label_logits`, if there is such a head, and `features`, (B,
      hidden): what it sees.
    """
    dense = lambda features, name: nn.Dense(
      features, dtype=self.dtype, name=name
    )
    head = lambda features, name: nn.Dense(
      features, kernel_init=nn.initializers.normal(0.01), name=name
    )
    n = self.num_landmarks
    names = self.local_maps if self.use_estimate else ()
    image = shrink(batch['image'], self.side)
    last, *maps = feature_maps(self, image, train, (LAST, *names))
    x = adaptive_average_pool(last, self.pool) if self.pool else last
    x = dense(self.hidden, 'fc6')(x.reshape(x.shape[0], -1))
    if self.use_estimate:
      estimate = batch['estimate'].reshape(-1, 2 * n)
      x = jnp.concatenate(
        [x, dense(self.hidden // 8, 'fc_pre')(estimate)], axis=-1
      )
    if names:
      local = _Local(self.patch, self.dtype, name='local')(
        maps, batch['estimate']
      )
      x = jnp.concatenate([x, local.reshape(local.shape[0], -1)], axis=-1)
    x = Dropout(self.dropout)(nn.relu(x), batch['example_index'], train)
    x = nn.relu(dense(self.hidden, 'fc7')(x))
    x = Dropout(self.dropout)(x, batch['example_index'], train)
    x = x.astype(jnp.float32)
    landmarks = head(2 * n, 'fc8_landmarks')(x).reshape(-1, n, 2)
    if names:
      offset = PerLandmark(
        2, kernel_init=nn.initializers.zeros, name='fc8_local'
      )
      landmarks += offset(local.astype(jnp.float32))
    visibility = [head(3, f'fc8_visibility_{i}')(x) for i in range(1, n + 1)]
    outputs = {
      'landmarks': landmarks,
      'visibility': jnp.stack(visibility, axis=1),
    }
    if self.num_clusters:
      outputs['features'] = x
      logits = head(self.num_clusters, self.label_head)(x)
      outputs['pseudo_label_logits'] = logits
      outputs['pseudo_label'] = nn.softmax(logits) if self.softmax else logits
    return outputs

  @nn.nowrap
  def warm_start(self, fresh: dict, source: dict) -> dict:
    """Variables of a stage that starts as a correction of 0.

    The trunk and the hidden layers are those of the stage before. The layers of
    the offset are 0, so that the stage begins with the very landmarks that it
    gets, and what it learns can only be a correction of them. Where fc7 sees
    more than that of the stage before, it begins without it.

    The pseudo-label head starts afresh: another stage's clusters are others.

    Args:
      fresh: Random variables of this network.
      source: Trained variables of the network of the stage before.

    Returns:
      Variables with the structure and shapes of `fresh`.
    """
    new, old = dict(fresh['params']), source['params']
    for name in old.keys() & new.keys():
      if name not in ('fc7', self.label_head):
        new[name] = jax.tree.map(_taken, new[name], old[name])
    kernel = np.zeros_like(new['fc7']['kernel'])
    seen = old['fc7']['kernel']
    kernel[: len(seen)] = seen
    new['fc7'] = {**old['fc7'], 'kernel': kernel}
    for name in ('fc8_landmarks', 'fc8_local'):
      if name in new:
        new[name] = jax.tree.map(np.zeros_like, new[name])
    return {**fresh, **source, 'params': new}


class _Local(nn.Module):
  """What the image shows around each landmark of an estimate.

  Attributes:
    patch: Side of the patches, in cells.
    dtype: The type of the computation.
  """

  patch: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self, maps: list[FeatureMap], estimate: Float[Array, 'b n 2']
  ) -> Float[Array, 'b n features']:
    """Computes features of patches of all maps, by a matrix a landmark.

    Args:
      maps: Maps of any sizes.
      estimate: (B, N, 2) normalised coordinates, which get no gradient.

    Returns:
      (B, N, LOCAL_FEATURES), from 0 on.
    """
    estimate, seen = jax.lax.stop_gradient(estimate), []
    for i, x in enumerate(maps):
      x = Conv(LOCAL_CHANNELS, (1, 1), dtype=self.dtype, name=f'map{i}')(x)
      seen.append(patches(x, estimate, self.patch))
    x = jnp.concatenate([y.reshape(*y.shape[:2], -1) for y in seen], axis=-1)
    return nn.relu(PerLandmark(LOCAL_FEATURES, self.dtype, name='fc')(x))


class PerLandmark(nn.Module):
  """A fully connected layer with weights of its own for each landmark.

  Attributes:
    features: The number of outputs of each landmark.
    dtype: The type of the computation; parameters are float32.
    kernel_init: How the kernels, (N, inputs, features), are drawn.
  """

  features: int
  dtype: jnp.dtype = jnp.float32
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal(
    batch_axis=0
  )

  @nn.compact
  def __call__(self, x: Float[Array, 'b n i']) -> Float[Array, 'b n o']:
    """Computes (B, N, features) of (B, N, I)."""
    _, n, width = x.shape
    kernel = self.param('kernel', self.kernel_init, (n, width, self.features))
    bias = self.param('bias', nn.initializers.zeros, (n, self.features))
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    return jnp.einsum('bni,nio->bno', x, kernel) + bias.astype(self.dtype)


def _taken(new: np.ndarray, old: np.ndarray) -> np.ndarray:
  """The old array where it fits, else the new one."""
  return np.array(old) if np.shape(new) == np.shape(old) else new
