"""The stage networks of DFA (Liu et al., ECCV 2016).

Layer by layer as the authors' release has them: `fc_pre` embeds the previous
estimate and joins fc6 before its ReLU and dropout.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fld_jax.errors import InputError
from fld_jax.models.layers import Dropout
from fld_jax.models.trunk import Trunk, last_map
from fld_jax.models.vgg import VGG


class DFA(nn.Module):
  """One network of the cascade: stage 1, stage 2 or a branch of stage 3.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    num_clusters: Length of the pseudo-label, 0 for no such head.
    use_estimate: False for stage 1, which sees the image alone. True for the
      others: they also see the previous stage's landmarks and predict offsets.
    softmax: Whether the pseudo-label head ends with a softmax, so that it is a
      distribution.
    backbone: The trunk; fc6 sees its last map.
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
  backbone: Trunk = VGG()
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
    x = last_map(self, batch['image'], train)
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
      outputs['features'] = x
      logits = head(self.num_clusters, self.label_head)(x)
      outputs['pseudo_label_logits'] = logits
      outputs['pseudo_label'] = nn.softmax(logits) if self.softmax else logits
    return outputs

  @nn.nowrap
  def warm_start(self, fresh: dict, source: dict, offset_scale: float) -> dict:
    """Variables that start as the network of the stage before ended.

    A residual to an estimate that is already good is hardly learned from heads
    near zero: the trunk gets no gradient that tells of the pose. So the network
    starts with one that does: as `offset_scale * (estimate - own)`, where `own`
    are the landmarks that stage 1 sees. That is made of stage 1's landmark head
    and of units that carry the estimate through fc7; they take the place of
    those to which that head gives the least weight. A network that already
    reads an estimate is taken over whole.

    The pseudo-label head starts afresh: another stage's clusters are others.

    Args:
      fresh: Random variables of this network.
      source: Trained variables of the network of the stage before.
      offset_scale: How many times too large the predicted offsets are
        (docs/methods.md A3).

    Returns:
      Variables with the structure and shapes of `fresh`.
    """
    new, old = dict(fresh['params']), source['params']
    for name in old.keys() & new.keys():
      if name != self.label_head:
        new[name] = jax.tree.map(np.array, old[name])
    if 'fc_pre' not in old:
      _carry_estimate(new, old, offset_scale)
    return {**fresh, **source, 'params': new}

  @nn.nowrap
  def check_warm_start(self, stage: int) -> None:
    """Refuses a network too narrow for `warm_start`.

    Args:
      stage: The stage's place in config.stages, for the message.

    Raises:
      InputError: fc_pre has too few units to carry the estimate.
    """
    units = 4 * self.num_landmarks  # two a coordinate
    if self.hidden < 8 * units:
      raise InputError(
        f"config.stages[{stage}].init is 'previous', which takes {units} units "
        f'of fc_pre to carry the estimate; it has {self.hidden // 8}, an '
        f'eighth of config.model.hidden: raise that to {8 * units}.'
      )


def _carry_estimate(new: dict, old: dict, offset_scale: float) -> None:
  """Makes stage 1's parameters, in `new`, those of a later stage.

  A unit ends in a ReLU, so each coordinate takes two, for its positive and its
  negative part. There are as many copies as fc_pre has room for, as the noise
  of dropout averages out over them.
  """
  head = old['fc8_landmarks']['kernel']  # (hidden, 2N)
  hidden, coordinates = head.shape
  width = new['fc_pre']['bias'].size
  copies = width // (2 * coordinates)
  carriers = np.argsort(np.linalg.norm(head, axis=1), kind='stable')
  carriers = carriers[: copies * 2 * coordinates]
  eye = np.eye(coordinates, dtype=np.float32)
  signs = np.tile(np.hstack([eye, -eye]), copies)  # (2N, carriers)
  new['fc_pre'] = jax.tree.map(np.zeros_like, new['fc_pre'])
  new['fc_pre']['kernel'][:, : len(carriers)] = signs
  fc7 = new['fc7']
  rows = np.zeros((width, hidden), np.float32)
  rows[np.arange(len(carriers)), carriers] = 1
  fc7['kernel'] = np.concatenate([fc7['kernel'], rows])
  fc7['kernel'][:hidden, carriers] = 0
  fc7['bias'][carriers] = 0
  for name in new:
    if name.startswith('fc8_visibility'):
      new[name]['kernel'][carriers] = 0
  new['fc8_landmarks'] = {
    'kernel': -offset_scale * head,
    'bias': -offset_scale * old['fc8_landmarks']['bias'],
  }
  new['fc8_landmarks']['kernel'][carriers] = offset_scale * signs.T / copies
