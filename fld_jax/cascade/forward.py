"""The forward pass of trained stages: images in, landmarks out."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fld_jax.ops.heatmaps import Codec

Variables = dict[str, Any]  # {'params': ..., 'batch_stats': ...} of one network


@dataclasses.dataclass(frozen=True, eq=False)
class Forward:
  """How networks turn crops into landmarks: all but the networks themselves.

  Attributes:
    mean: Mean of the three channels, 0 to 255, that images are reduced by.
    std: Deviation of the three channels that images are then divided by.
    offset_scale: How many times too large a network's offsets are
      (docs/methods.md A3).
    codec: Reads landmarks from heatmaps.
    flip: (N,) each landmark's partner in the mirrored image, to average
      predictions with those of the mirror image; None for the image alone.
  """

  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  offset_scale: float
  codec: Codec
  flip: np.ndarray | None = None

  def without_flip(self) -> 'Forward':
    """The same for the plain image alone, as training sees it."""
    return dataclasses.replace(self, flip=None)


def normalise_images(
  batch: dict[str, Array], mean: Sequence[float], std: Sequence[float]
) -> dict[str, Array]:
  """Brings the images of a batch to the range that a network sees.

  Args:
    batch: Holds `image` (b, S, S, 3) uint8 RGB.
    mean: Mean of the three channels, in the images' units, 0 to 255.
    std: Deviation of the three channels, in the same units.

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
  """Normalised landmarks of the mirrored image; `flip` are partner slots."""
  return points[:, flip] * jnp.array([-1.0, 1.0])


def new_estimate(
  outputs: dict[str, Array],
  estimate: Float[Array, 'b n 2'] | None,
  offset_scale: float,
) -> Float[Array, 'b n 2']:
  """Landmarks in normalised coordinates from a network's outputs.

  The offset of Liu et al. (2016) is estimate - truth, so it is subtracted
  (docs/methods.md A2).
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
    variables: Its variables.
    batch: As `normalise_images` returns it.
    estimate: (b, N, 2) the previous stage's landmarks, None for stage 1.
    forward: Offsets, heatmaps and the mirror image; with `forward.flip` the
      network sees the mirrored image too, and heatmaps (see `Codec.decode`),
      landmarks and visibility are averaged.

  Returns:
    The model's outputs, with `landmarks` and `estimate`: see `decode_outputs`
    and `new_estimate`.
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
      'landmarks': lambda x: mirror(x, flip),
      'visibility': lambda x: x[:, flip],
    }
    views.append({k: back[k](other[k]) for k in back.keys() & other.keys()})
  outputs = decode_outputs(views, forward.codec)
  new = new_estimate(outputs, estimate, forward.offset_scale)
  return {**outputs, 'estimate': new}


def decode_outputs(
  views: Sequence[dict[str, Array]], codec: Codec
) -> dict[str, Array]:
  """One view's outputs, or the mean of several, with `landmarks`.

  Those of a network with heatmaps also get `confidence` (b, N).

  Args:
    views: Outputs of a model for the same examples; what the last one lacks
      is the first one's.
    codec: Reads `landmarks` from `heatmaps`, if there are any.

  Returns:
    The outputs.
  """
  outputs = dict(views[0])
  if len(views) > 1:
    mean = lambda name: sum(view[name] for view in views) / len(views)
    outputs |= {name: mean(name) for name in views[-1]}
  if 'heatmaps' in outputs:
    maps = [view['heatmaps'] for view in views]
    outputs['landmarks'] = codec.decode(maps)
    outputs['confidence'] = codec.confidence(maps)
  return outputs


def apply_stages(
  models: Sequence[nn.Module],
  variables: Sequence[Variables],
  batch: dict[str, Array],
  forward: Forward,
) -> list[dict[str, Array]]:
  """Runs single-network stages one after another.

  Args:
    models: One Linen module a stage.
    variables: The variables of each.
    batch: As `normalise_images` returns it.
    forward: As for `apply_stage`.

  Returns:
    A list of each stage's outputs.
  """
  outputs, estimate = [], None
  for model, stage_variables in zip(models, variables, strict=True):
    outputs.append(
      apply_stage(model, stage_variables, batch, estimate, forward)
    )
    estimate = outputs[-1]['estimate']
  return outputs
