"""Landmarks and attributes of one trunk, the attributes read at the landmarks.

As FashionNet (Liu et al., CVPR 2016) and mmfashion pool features around each
landmark: a window of the trunk's map of stride 16, its maximum, times the
probability that the landmark is in the image. The landmarks are those that the
network finds itself, so that training and use see the same.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from fld_jax import schema
from fld_jax.models.efficientnet import EfficientNet
from fld_jax.models.layers import Dropout, heatmap_outputs, relu
from fld_jax.models.top_down import LEVELS, merged
from fld_jax.models.trunk import FeatureMap, Trunk, feature_maps
from fld_jax.ops import heatmaps, sampling

WINDOW = 2  # side of a landmark's window, in cells


class Attributes(nn.Module):
  """The heatmaps of `TopDown`, and a perceptron for attributes.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    num_attributes: A, how many attributes there are.
    backbone: The trunk, with maps c2 to c5.
    channels: Channels of the heatmaps' decoder.
    partners: Each landmark's partner in the mirrored image, if the network
      predicts how they are ordered (`layers.PairOrder`); else ().
    visibility: Whether the network predicts visibility too.
    at_landmarks: Whether attributes are predicted from the windows of the
      landmarks beside the mean of the last map; otherwise from that alone.
    hidden: Width of the perceptron.
    dropout: Dropout rate before each of its two layers, in [0, 1).
    dtype: The type of the computation; outputs and all parameters are float32.
  """

  num_landmarks: int = 8
  num_attributes: int = 26
  backbone: Trunk = EfficientNet()
  channels: int = 64
  partners: tuple[int, ...] = ()
  visibility: bool = False
  at_landmarks: bool = True
  hidden: int = 512
  dropout: float = 0.3
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch: dict[str, Array], train: bool) -> dict[str, Array]:
    """Runs the network.

    Args:
      batch: `image`, (B, S, S, 3) normalised float, S a multiple of 32; for
        training `example_index`, (B,) places in the global batch.
      train: Whether normalisation uses the batch's own statistics, and entries
        are dropped.

    Returns:
      `attributes`, (B, A) logits, above 0 where the item is more likely to have
      the attribute than not; `heatmaps` and `visibility` as of `TopDown`.

    Raises:
      InputError: The trunk lacks one of the maps, or S is no multiple of 32.
    """
    maps = feature_maps(self, batch['image'], train, LEVELS)
    last, middle = maps[:2]
    found = merged(self, maps, train)
    outputs = heatmap_outputs(self, found, last)
    x = last.mean(axis=(1, 2))
    if self.at_landmarks:
      x = jnp.concatenate([x, self._at_landmarks(middle, outputs)], axis=-1)
    index = batch['example_index']
    x = Dropout(self.dropout)(x, index, train)
    x = nn.Dense(self.hidden, dtype=self.dtype, name='hidden')(x)
    x = Dropout(self.dropout)(relu(x), index, train)
    out = nn.Dense(
      self.num_attributes,
      kernel_init=nn.initializers.normal(0.001),
      name='attributes',
    )
    outputs['attributes'] = out(x.astype(jnp.float32))
    return outputs

  def _at_landmarks(
    self, middle: FeatureMap, outputs: dict[str, Array]
  ) -> Array:
    """The windows' maxima in the order of the slots, (B, N C).

    Args:
      middle: (B, S / 16, S / 16, C) map.
      outputs: The network's `heatmaps` and, if there is one, `visibility`; no
        gradient gets there.
    """
    points = heatmaps.quarter(lax.stop_gradient(outputs['heatmaps']))
    parts = sampling.patches(middle, points, WINDOW).max(axis=(2, 3))
    if self.visibility:
      logits = lax.stop_gradient(outputs['visibility'])
      there = 1 - jax.nn.softmax(logits)[..., schema.TRUNCATED]
      parts *= there[..., None].astype(parts.dtype)
    return parts.reshape(parts.shape[0], -1)
