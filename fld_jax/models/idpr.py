"""IDPR (Chen and Yuille, NIPS 2014): parts, their relations, and a tree.

A fully convolutional network tells for every cell of its map which part the
patch around it shows and, if it shows that part, in which of K typical
directions each neighbour of the part lies: relations that depend on the image.
A pictorial structure on a tree turns both into landmarks. It is factorised:
where the paper has a class for each combination of the types of a part's
neighbours, here the types of different neighbours are independent, given the
part, which is all that the score asks for (docs/methods.md 2.2).
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from fld_jax.errors import InputError
from fld_jax.landmark_sets import FASHION_8, Tree, tree_of
from fld_jax.models.layers import (
  VISIBILITY_HEAD,
  BatchNorm,
  Conv,
  VisibilityHead,
  relu,
)
from fld_jax.models.top_down import LEVELS, merged
from fld_jax.models.trunk import Trunk, feature_maps
from fld_jax.models.vgg import VGG
from fld_jax.ops import pictorial
from fld_jax.ops.heatmaps import from_index

MAPS = {4: LEVELS, 8: LEVELS[:3]}  # stride -> the trunk's maps
# The first weight of relations beside that of parts. A cell sees nearly the
# whole crop, so that relations mostly repeat what the parts know; at 1 they
# made landmarks worse than without them, at a tenth better.
COUPLING = 0.1
# The first logit of the background: about 150 patches to one of a part.
BACKGROUND = 5.0
# Of the weights of squared distances (Chen and Yuille want them positive), and
# of the spread of a relation in cells: a place is known to a cell.
LEAST_WEIGHT, LEAST_SPREAD = 1e-3, 0.5


class IDPR(nn.Module):
  """Parts, relations and the tree's weights.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    tree: The tree of the P parts, of which the landmarks are the first; it has
      E edges.
    num_types: K, the number of types of a relation.
    num_clusters: Length of the pseudo-label, 0 for no such head.
    softmax: Whether the pseudo-label is a distribution.
    use_estimate: Whether the network comes after another one. It finds the
      landmarks anew, and returns their offset from the other one's.
    backbone: The trunk, with maps c2 (or c3) to c5.
    stride: The stride of the map, 4 or 8.
    channels: Channels of the features that all heads see.
    dtype: The type of the computation; the heads, the tree and all parameters
      are float32.
    label_head: The layer that predicts the pseudo-label.
  """

  num_landmarks: int = 8
  tree: Tree = tree_of(FASHION_8)
  num_types: int = 13
  num_clusters: int = 0
  softmax: bool = True
  use_estimate: bool = False
  backbone: Trunk = VGG()
  stride: int = 8
  channels: int = 256
  dtype: jnp.dtype = jnp.float32
  label_head: ClassVar[str] = 'pseudo_label'

  @nn.compact
  def __call__(self, batch: dict[str, Array], train: bool) -> dict[str, Array]:
    """Runs the network.

    Args:
      batch: `image`, (B, S, S, 3) normalised float, S a multiple of 32;
        `estimate`, (B, N, 2) in [-0.5, 0.5], if `use_estimate`.
      train: Whether normalisation uses the batch's own statistics.

    Returns:
      `landmarks` (B, N, 2), of the best configuration, in [-0.5, 0.5], or with
      `use_estimate` the estimate less that; `confidence` (B, N) in [0, 1], the
      probability of the part at its cell; `visibility` (B, N, 3) logits; with
      W = S / stride, `parts` (B, W, W, P + 1) logits, the last one of the
      background, and `relations` (B, W, W, 2 E, K) logits; the potentials of
      the tree as `pictorial.Potentials` names them, in which no gradient
      reaches the logits; `displacements` (2 E, K, 2), the mean ones in sides of
      the crop; and if there is such a head `pseudo_label` (B, K),
      `pseudo_label_logits` and the `features` (B, channels) that it sees.

    Raises:
      InputError: The trunk lacks a map, S is no multiple of 32, or `stride` is
        neither 4 nor 8.
    """
    if self.stride not in MAPS:
      raise InputError(
        f'config.model.stride is {self.stride}, valid values are '
        f'{", ".join(map(str, MAPS))}.'
      )
    maps = feature_maps(self, batch['image'], train, MAPS[self.stride])
    x, last = merged(self, maps, train), maps[0]
    x = Conv(
      self.channels, (3, 3), use_bias=False, dtype=self.dtype, name='conv'
    )(x)
    x = relu(BatchNorm(self.dtype, name='bn')(x, train)).astype(jnp.float32)
    head = lambda features, name, bias: Conv(
      features,
      (1, 1),
      kernel_init=nn.initializers.normal(0.01),
      bias_init=bias,
      name=name,
    )(x)
    side, count = x.shape[1], len(pictorial.relations(self.tree.parents))
    parts = head(len(self.tree.names) + 1, 'parts', _background)
    zeros = nn.initializers.zeros
    relations = head(count * self.num_types, 'relation_types', zeros)
    relations = relations.reshape(*x.shape[:3], count, self.num_types)
    log_parts = jnp.moveaxis(nn.log_softmax(parts)[..., :-1], -1, 1)
    log_types = jnp.moveaxis(nn.log_softmax(relations), (3, 4), (1, 2))
    potentials, displacements = self._potentials(log_parts, log_types)
    fixed = jax.tree.map(lax.stop_gradient, potentials)
    cells = pictorial.infer(fixed, self.tree.parents)
    places = pictorial.refine(fixed, self.tree.parents, cells)
    own = slice(0, self.num_landmarks)
    landmarks = from_index(places[:, own], side)
    if self.use_estimate:
      landmarks = batch['estimate'] - landmarks
    found = _features(x, cells)
    visibility = VisibilityHead(self.num_landmarks, name=VISIBILITY_HEAD)
    outputs = {
      'landmarks': landmarks,
      'confidence': jnp.exp(pictorial.at(log_parts, cells)[:, own]),
      'visibility': visibility(found[:, own], last),
      'parts': parts,
      'relations': relations,
      'displacements': displacements,
      **potentials._asdict(),
    }
    if self.num_clusters:
      outputs['features'] = seen = found.mean(axis=1)
      logits = nn.Dense(
        self.num_clusters,
        kernel_init=nn.initializers.normal(0.01),
        name=self.label_head,
      )(seen)
      outputs['pseudo_label_logits'] = logits
      outputs['pseudo_label'] = nn.softmax(logits) if self.softmax else logits
    return outputs

  def _potentials(
    self,
    log_parts: Float[Array, 'b p w w'],
    log_types: Float[Array, 'b r k w w'],
  ) -> tuple[pictorial.Potentials, Float[Array, 'r k 2']]:
    """The potentials of the tree, and the mean displacements in crop sides.

    Displacements are weighed in spreads of their relation, so that weights of 1
    are those of Gaussians and of probabilities. Those of relations begin at
    COUPLING.
    """
    _, r, k, side, _ = log_types.shape
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    weights = self.param('part_weights', ones, log_parts.shape[1:2])
    constant = nn.initializers.constant
    priors = self.param('relation_weights', constant(COUPLING), (r,))
    begin = constant(np.log(np.expm1(COUPLING - LEAST_WEIGHT)))
    squared = self.param('relation_squared', begin, (r, k, 2))
    linear = self.param('relation_linear', zeros, (r, k, 2))
    # Measured on the training images before the training
    # (`cascade.relations`), which leaves them as they are.
    measured = lambda name, shape: (
      self.variable('relations', name, jnp.ones, shape).value
    )
    displacements = measured('displacements', (r, k, 2))
    spreads = measured('spreads', (r,))
    spread = jnp.maximum(side * spreads, LEAST_SPREAD)[:, None, None]
    squared = LEAST_WEIGHT + nn.softplus(squared)
    log_parts, log_types = lax.stop_gradient((log_parts, log_types))
    potentials = pictorial.Potentials(
      unary=weights[:, None, None] * log_parts,
      types=priors[:, None, None, None] * log_types,
      quadratic=squared / (2 * spread**2),
      linear=linear / spread,
      means=side * displacements,
    )
    return potentials, displacements

  @nn.nowrap
  def warm_start(self, fresh: dict, source: dict) -> dict:
    """Variables that begin as those of the stage before.

    Args:
      fresh: Random variables of this network.
      source: Trained variables of the network of the stage before.

    Returns:
      The source's variables, without a pseudo-label head if this network has
      none, and with a fresh one if it has: its clusters are others.
    """
    params = {**source['params']}
    params.pop(self.label_head, None)
    return {**source, 'params': {**fresh['params'], **params}}


def _background(
  key: jax.Array, shape: tuple[int], dtype: jnp.dtype = jnp.float32
) -> Float[Array, ' classes']:
  """Biases with which nearly all patches begin as the background."""
  del key
  return jnp.zeros(shape, dtype).at[-1].set(BACKGROUND)


def _features(
  x: Float[Array, 'b w w c'], cells: Int[Array, 'b p 2']
) -> Float[Array, 'b p c']:
  """A map's features at cells (x, y)."""
  b, side, _, channels = x.shape
  place = cells[..., 1] * side + cells[..., 0]
  flat = x.reshape(b, side * side, channels)
  return jnp.take_along_axis(flat, place[..., None], axis=1)
