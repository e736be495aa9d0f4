"""FGN (Wang et al., CVPR 2018): heatmaps along the grammars of fashion.

Each landmark has a feature map of stride 8. Bidirectional convolutional
recurrence passes messages along chains of landmarks: those of the kinematic
grammar follow the garment, those of the symmetry grammar join left and right.
Of a landmark in several chains the maximum of its states counts. Two attentions
show a head for the category where to look. Layer sizes are not published;
docs/methods.md 3.4 says what is from the paper and what is our choice.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.image import resize
from jaxtyping import Array, Float

from fld_jax.models.layers import (
  VISIBILITY_HEAD,
  BatchNorm,
  Conv,
  VisibilityHead,
  relu,
)
from fld_jax.models.top_down import LEVELS, merged
from fld_jax.models.trunk import LAST, FeatureMap, Trunk, feature_maps
from fld_jax.models.vgg import VGG

# Of the 28 x 28 cells of a landmark's map about 6 are near its peak: with this
# bias the first maps are as low as their targets are on the whole.
_FIRST_LOGIT = -4.0
Chains = tuple[tuple[int, ...], ...]


class FGN(nn.Module):
  """Heatmaps of stride 8 from states that know of the other landmarks.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    num_categories: K, how many categories there are; 0 for no such head.
    grammars: The chains of slots of each grammar, `LandmarkSet.grammars`; ()
      leaves every landmark to itself.
    backbone: The trunk.
    merge: Whether the features are brought together from the trunk's maps c5
      down to c3, of which a light trunk's c3 alone sees too little. Otherwise
      they are its deepest map of stride 8: conv4_3 of a VGG, as in the paper.
    channels: Channels of the merged features and of the category's layers.
    state: Channels of a landmark's state in each direction.
    visibility: Whether the network predicts visibility too.
    dtype: The type of the computation; heatmaps and all parameters are float32.
  """

  num_landmarks: int = 8
  num_categories: int = 0
  grammars: tuple[Chains, ...] = ()
  backbone: Trunk = VGG()
  merge: bool = False
  channels: int = 64
  state: int = 64
  visibility: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch: dict[str, Array], train: bool) -> dict[str, Array]:
    """Runs the network.

    Args:
      batch: `image`, (B, S, S, 3) normalised float, S a multiple of 8, with
        `merge` of 32.
      train: Whether normalisation uses the batch's own statistics.

    Returns:
      `heatmaps`, (B, S / 8, S / 8, N) in [0, 1], and `heatmap_logits`, of which
      they are the sigmoid; `visibility`, (B, N, 3) logits, if there is such a
      head; `category`, (B, K) logits, if there are categories.

    Raises:
      InputError: The trunk lacks one of the maps, or S is not such a multiple.
    """
    image, n = batch['image'], self.num_landmarks
    if self.merge:
      maps = feature_maps(self, image, train, LEVELS[:3])
      features, last = merged(self, maps, train), maps[0]
    else:
      features, last = feature_maps(self, image, train, ('d3', LAST))
    b, height, width, _ = features.shape
    own = Conv(n * self.state, (1, 1), dtype=self.dtype, name='own')(features)
    own = relu(own).reshape(b, height, width, n, self.state)
    states = self._states(jnp.moveaxis(own, 3, 0)).astype(jnp.float32)
    init = nn.initializers.normal(0.01)
    kernel = self.param('heatmaps_kernel', init, (n, states.shape[-1]))
    first = nn.initializers.constant(_FIRST_LOGIT)
    bias = self.param('heatmaps_bias', first, (n,))
    logits = jnp.einsum('nbhwc,nc->bhwn', states, kernel) + bias
    outputs = {'heatmap_logits': logits, 'heatmaps': nn.sigmoid(logits)}
    if self.visibility:
      cells = states.reshape(n, b, height * width, states.shape[-1])
      peak = jnp.argmax(logits.reshape(b, height * width, n), axis=1)
      found = jnp.take_along_axis(cells, peak.T[..., None, None], axis=2)
      head = VisibilityHead(n, name=VISIBILITY_HEAD)
      outputs['visibility'] = head(jnp.moveaxis(found[:, :, 0], 0, 1), last)
    if self.num_categories:
      head = CategoryHead(
        self.num_categories, self.channels, self.dtype, name='category'
      )
      outputs['category'] = head(features, outputs['heatmaps'], train)
    return outputs

  def _states(
    self, own: Float[Array, 'n b h w c']
  ) -> Float[Array, 'n b h w 2*c']:
    """Passes messages along all chains, in both directions.

    Args:
      own: (N, B, H, W, C) features of each landmark alone.

    Returns:
      (N, B, H, W, 2 C): the states of the forward direction and of the
      backward one, of each the maximum over the landmark's chains.
    """
    grammars = self.grammars
    if not grammars:
      grammars = (tuple((slot,) for slot in range(self.num_landmarks)),)
    directions = []
    for name, step in (('forward', 1), ('backward', -1)):
      found = [[] for _ in range(self.num_landmarks)]
      for number, chains in enumerate(grammars, 1):
        chains = tuple(chain[::step] for chain in chains)
        cell = ConvGRU(self.state, self.dtype, name=f'{name}{number}')
        for slot, state in cell(own, chains):
          found[slot].append(state)
      best = [functools.reduce(jnp.maximum, states) for states in found]
      directions.append(jnp.stack(best))
    return jnp.concatenate(directions, axis=-1)


class ConvGRU(nn.Module):
  """A gated recurrent unit whose matrix products are 3x3 convolutions.

  With x of a landmark and h of the one before it in the chain, at first 0:

    r, z = sigmoid(W_r * x + U_r * h), sigmoid(W_z * x + U_z * h)
    n = tanh(W_n * x + r (U_n * h + c))
    h' = (1 - z) n + z h

  It is PyTorch's GRUCell, whose two biases of r, and of z, are one here.

  Attributes:
    channels: The number C of channels of a state.
    dtype: The type of the computation.
  """

  channels: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'n b h w f'], chains: Chains
  ) -> list[tuple[int, Float[Array, 'b h w c']]]:
    """Runs along chains, all of them side by side.

    Args:
      x: (N, B, H, W, F) features of each landmark.
      chains: The slots of each chain, from its start on.

    Returns:
      The slot and the (B, H, W, C) state of each place of each chain.
    """
    conv = functools.partial(Conv, 3 * self.channels, (3, 3), dtype=self.dtype)
    hidden = conv(use_bias=False, name='hidden')
    inner = self.param('inner_bias', nn.initializers.zeros, (self.channels,))
    inputs = _each(conv(name='input'), x)
    chains = sorted(chains, key=len, reverse=True)
    found, state = [], None
    for place in range(len(chains[0])):
      # The longest chains come first, so that those that go on do.
      slots = [chain[place] for chain in chains if len(chain) > place]
      gates = jnp.stack([inputs[slot] for slot in slots])
      r, z, new = jnp.split(gates, 3, axis=-1)
      told = inner.astype(self.dtype)
      if state is not None:
        state = state[: len(slots)]
        of_state = jnp.stack(_each(hidden, state))
        of_r, of_z, of_new = jnp.split(of_state, 3, axis=-1)
        r, z, told = r + of_r, z + of_z, told + of_new
      new = jnp.tanh(new + nn.sigmoid(r) * told)
      z = nn.sigmoid(z)
      state = (1 - z) * new + (0 if state is None else z * state)
      found += zip(slots, _unstacked(state), strict=True)
    return found


def _each(
  layer: nn.Module, x: Float[Array, 'n b h w c']
) -> list[Float[Array, 'b h w f']]:
  """Applies a convolution to each of N maps."""
  n, b, height, width, channels = x.shape
  y = layer(x.reshape(n * b, height, width, channels))
  return _unstacked(y.reshape(n, b, height, width, y.shape[-1]))


def _unstacked(x: Float[Array, 'n ...']) -> list[Float[Array, '...']]:
  """The N parts; the gradient of a split is one array, that of slices N."""
  return [part[0] for part in jnp.split(x, x.shape[0])]


class CategoryHead(nn.Module):
  """The category, from features that two attentions have raised.

  The attention of the landmarks is the highest of their heatmaps, which are
  trained to be there; the category's own comes from the features on a coarser
  grid. Features are multiplied by 1 and both.

  Attributes:
    num_categories: The number K of categories.
    channels: Channels of its layers.
    dtype: The type of the computation.
  """

  num_categories: int
  channels: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    features: FeatureMap,
    heatmaps: Float[Array, 'b h w n'],
    train: bool,
  ) -> Float[Array, 'b k']:
    """Computes the logits of the categories.

    Args:
      features: (B, H, W, F) features.
      heatmaps: (B, H, W, N) heatmaps in [0, 1]; they get no gradient.
      train: Whether normalisation uses the batch's own statistics.

    Returns:
      (B, K) float32 logits.
    """
    down = lambda x, name: relu(
      BatchNorm(self.dtype, name=f'{name}_bn')(
        Conv(
          self.channels,
          (3, 3),
          strides=2,
          use_bias=False,
          dtype=self.dtype,
          name=name,
        )(x),
        train,
      )
    )
    b, height, width, depth = features.shape
    coarse = down(down(features, 'attention1'), 'attention2')
    gate = Conv(depth, (1, 1), dtype=self.dtype, name='attention3')(coarse)
    gate = resize(gate, (b, height, width, depth), 'bilinear')
    landmarks = jnp.max(heatmaps, axis=-1, keepdims=True)
    landmarks = lax.stop_gradient(landmarks).astype(self.dtype)
    x = features * (1 + landmarks + nn.sigmoid(gate))
    x = down(down(x, 'conv1'), 'conv2').astype(jnp.float32)
    return nn.Dense(self.num_categories, name='logits')(x.mean(axis=(1, 2)))
