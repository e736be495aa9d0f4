"""The forward pass of trained stages: images in, landmarks out."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fld_jax.ops import bins
from fld_jax.ops.heatmaps import Codec

# Outputs that landmarks are read from -> what reads them, with the methods
# `decode` and `confidence`, of the settings config.heatmap.
READERS = {
  'heatmaps': lambda codec: codec,
  'bins': lambda codec: bins.Bins(codec.sigma),
}
Variables = dict[str, Any]  # {'params': ..., 'batch_stats': ...} of one network


@dataclasses.dataclass(frozen=True, eq=False)
class Forward:
  """How networks turn crops into landmarks: all but the networks themselves.

  Attributes:
    mean: The mean of the three channels, in [0, 255], that is subtracted from
      images.
    std: The standard deviation of the three channels, in the same unit, that
      images are then divided by.
    offset_scale: The factor that a network's offsets are too large by
      (docs/methods.md A3).
    codec: The settings of what landmarks are read from, see READERS.
    flip: (N,) each landmark's partner in the mirrored image, to average
      predictions with those of the mirrored image; None for the image alone.
  """

  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  offset_scale: float
  codec: Codec
  flip: np.ndarray | None = None

  def without_flip(self) -> 'Forward':
    """Returns the settings for the image alone, as training uses them."""
    return dataclasses.replace(self, flip=None)


def normalise_images(
  batch: dict[str, Array], mean: Sequence[float], std: Sequence[float]
) -> dict[str, Array]:
  """Brings the images of a batch to the range that a network sees.

  Args:
    batch: A batch with `image` (b, S, S, 3) uint8 RGB.
    mean: The mean of the three channels, in [0, 255].
    std: The standard deviation of the three channels, in the same unit.

  Returns:
    The batch with `image` float32.
  """
  image = batch['image'].astype(jnp.float32)
  image = (image - jnp.asarray(mean, jnp.float32)) / jnp.asarray(
    std, jnp.float32
  )
  return {**batch, 'image': image}


def mirror(
  points: Float[Array, 'b n 2'], flip: Int[np.ndarray, ' n']
) -> Float[Array, 'b n 2']:
  """Mirrors landmarks.

  Args:
    points: (B, N, 2) normalised coordinates.
    flip: (N,) the slot of each landmark's partner in the mirrored image.

  Returns:
    (B, N, 2) normalised coordinates in the mirrored image.
  """
  return points[:, flip] * jnp.array([-1.0, 1.0])


def new_estimate(
  outputs: dict[str, Array],
  estimate: Float[Array, 'b n 2'] | None,
  offset_scale: float,
) -> Float[Array, 'b n 2']:
  """Computes landmarks in normalised coordinates from a network's outputs.

  The offset of Liu et al. (2016) is estimate - truth, so it is subtracted
  (docs/methods.md A2).

  Args:
    outputs: The network's outputs, with `landmarks` (B, N, 2): coordinates in
      stage 1, scaled offsets in later stages.
    estimate: (B, N, 2) the landmarks of the stage before, None for stage 1.
    offset_scale: The factor that offsets are too large by.

  Returns:
    (B, N, 2) normalised coordinates.
  """
  if estimate is None:
    return outputs['landmarks']
  return estimate - outputs['landmarks'] / offset_scale


def apply_stage(
  model: nn.Module,
  variables: Variables,
  batch: dict[str, Array],
  estimate: Float[Array, 'b n 2'] | None,
  forward: Forward,
) -> dict[str, Array]:
  """Runs a trained stage network.

  Args:
    model: A Linen module of `models.NETWORKS`.
    variables: The variables of the module.
    batch: The batch that `normalise_images` returns.
    estimate: (B, N, 2) the landmarks of the stage before, None for stage 1.
    forward: The settings of offsets, heatmaps and the mirrored image. With
      `forward.flip` the network sees the mirrored image too, and heatmaps (see
      `Codec.decode`), landmarks, visibility, category and attributes are
      averaged.

  Returns:
    The network's outputs after `decode_outputs`, and `estimate` (B, N, 2), the
    landmarks in normalised coordinates. A network with a `reach`, the part of
    the crop that it sees around a landmark, moves none out of it.
  """
  # Only dropout asks for the examples' indices.
  run = lambda batch, estimate: model.apply(
    variables,
    {'example_index': None, **batch, 'estimate': estimate},
    train=False,
  )
  views, flip = [run(batch, estimate)], forward.flip
  if flip is not None:
    mirrored = {**batch, 'image': batch['image'][:, :, ::-1]}
    other = run(mirrored, None if estimate is None else mirror(estimate, flip))
    back = {
      'heatmaps': lambda x: x[:, :, ::-1, flip],
      'bins': lambda x: bins.mirrored(x, flip),
      'landmarks': lambda x: mirror(x, flip),
      'visibility': lambda x: x[:, flip],
      'category': lambda x: x,
      'pair_order': lambda x: x,
      'attributes': lambda x: x,
    }
    # In an order that is always the same: programs are found again by their
    # text, and the order of a set of names changes with the process.
    views.append({k: turn(other[k]) for k, turn in back.items() if k in other})
  outputs = decode_outputs(views, forward.codec)
  new = new_estimate(outputs, estimate, forward.offset_scale)
  if estimate is not None and hasattr(model, 'reach'):
    reach = model.reach(batch['image'].shape[2])
    new = jnp.clip(new, estimate - reach, estimate + reach)
  return {**outputs, 'estimate': new}


def decode_outputs(
  views: Sequence[dict[str, Array]], codec: Codec
) -> dict[str, Array]:
  """Averages the outputs of several views, and decodes heatmaps.

  Args:
    views: The outputs of a network for the same examples: of the images, and
      perhaps of the mirrored images, mirrored back. An output that the last
      view lacks is taken from the first.
    codec: The settings of the decoder that reads `landmarks` from `heatmaps` or
      `bins`, if the network has them.

  Returns:
    The outputs, with `landmarks` (B, N, 2); for a network with heatmaps or bins
    also with `confidence` (B, N) in [0, 1].
  """
  outputs = dict(views[0])
  if len(views) > 1:
    mean = lambda name: sum(view[name] for view in views) / len(views)
    outputs |= {name: mean(name) for name in views[-1]}
  for name in filter(outputs.__contains__, READERS):
    maps, reader = [view[name] for view in views], READERS[name](codec)
    outputs['landmarks'] = reader.decode(maps)
    outputs['confidence'] = reader.confidence(maps)
  return outputs


def apply_stages(
  models: Sequence[nn.Module],
  variables: Sequence[Variables],
  batch: dict[str, Array],
  forward: Forward,
) -> list[dict[str, Array]]:
  """Runs single-network stages one after another.

  Args:
    models: One Linen module for each stage.
    variables: The variables of each module.
    batch: The batch that `normalise_images` returns.
    forward: The settings of offsets, heatmaps and the mirrored image.

  Returns:
    The outputs of each stage, as `apply_stage` returns them.
  """
  outputs, estimate = [], None
  for model, stage_variables in zip(models, variables, strict=True):
    outputs.append(
      apply_stage(model, stage_variables, batch, estimate, forward)
    )
    estimate = outputs[-1]['estimate']
  return outputs
