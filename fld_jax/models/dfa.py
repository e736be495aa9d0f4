"""The stage networks of DFA (Liu et al., ECCV 2016).

Layer by layer as the authors' release has them: `fc_pre` embeds the previous
estimate and joins fc6 before its ReLU and dropout.
"""

import flax.linen as nn
import jax.numpy as jnp

from fld_jax.models.layers import Dropout
from fld_jax.models.vgg import VGG16, VGGFeatures


class DFA(nn.Module):
  """One network of the cascade: stage 1, stage 2 or a branch of stage 3.

  Attributes:
    num_landmarks: N.
    num_clusters: length of the pseudo-label, 0 for no such head.
    use_estimate: False for stage 1, which sees the image alone. True for the
      others: they also see the previous stage's landmarks and predict offsets.
    softmax: end the pseudo-label head with a softmax, so that it is a
      distribution.
    hidden: width of fc6 and fc7; fc_pre has an eighth of it.
    blocks, batch_norm: of the VGG trunk.
    dropout: rate after fc6 and fc7.
    dtype: of the computation; the heads and all parameters are float32.
  """

  num_landmarks: int = 8
  num_clusters: int = 20
  use_estimate: bool = False
  softmax: bool = True
  hidden: int = 4096
  blocks: tuple[tuple[int, int], ...] = VGG16
  batch_norm: bool = False
  dropout: float = 0.5
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch, train: bool) -> dict[str, jnp.ndarray]:
    """Runs the network.

    Args:
      batch: `image` (B, S, S, 3) normalised float; `example_index` (B,) int32,
        place in the global batch; `estimate` (B, N, 2) in [-0.5, 0.5] if
        `use_estimate`.
      train: dropout and batch statistics on.

    Returns:
      `landmarks` (B, N, 2): coordinates in [-0.5, 0.5] for stage 1, else the
      scaled offset (the caller divides by `offset_scale` and subtracts it);
      `visibility` (B, N, 3) logits; `pseudo_label` (B, K) and its
      `pseudo_label_logits`, if there is such a head.
    """
    dense = lambda features, name: nn.Dense(
      features, dtype=self.dtype, name=name
    )
    head = lambda features, name: nn.Dense(
      features, kernel_init=nn.initializers.normal(0.01), name=name
    )
    n = self.num_landmarks
    x = VGGFeatures(self.blocks, self.batch_norm, self.dtype, name='vgg')(
      batch['image'].astype(self.dtype), train
    )
    x = dense(self.hidden, 'fc6')(x.reshape(x.shape[0], -1))
    if self.use_estimate:
      estimate = batch['estimate'].reshape(-1, 2 * n)
      x = jnp.concatenate(
        [x, dense(self.hidden // 8, 'fc_pre')(estimate)], axis=-1
      )
    x = Dropout(self.dropout)(nn.relu(x), batch['example_index'], train)
    x = nn.relu(dense(self.hidden, 'fc7')(x))
    x = Dropout(self.dropout)(x, batch['example_index'], train)
    x = x.astype(jnp.float32)
    visibility = [head(3, f'fc8_visibility_{i}')(x) for i in range(1, n + 1)]
    outputs = {
      'landmarks': head(2 * n, 'fc8_landmarks')(x).reshape(-1, n, 2),
      'visibility': jnp.stack(visibility, axis=1),
    }
    if self.num_clusters:
      logits = head(self.num_clusters, 'fc8_pseudo_label')(x)
      outputs['pseudo_label_logits'] = logits
      outputs['pseudo_label'] = nn.softmax(logits) if self.softmax else logits
    return outputs
