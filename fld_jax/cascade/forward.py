"""The forward pass of trained stages: images in, landmarks out."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from fld_jax.ops import heatmaps

Variables = dict[str, Any]  # {'params': ..., 'batch_stats': ...} of one network


def normalise_images(batch: dict, mean, std) -> dict:
  """Brings the images of a batch to the range that a network sees.

  Args:
    batch: `image` (b, S, S, 3) uint8 RGB.
    mean: of the three channels, in the images' units, 0 to 255.
    std: likewise; the images are divided by it.

  Returns:
    The batch with `image` float32.
  """
  image = batch['image'].astype(jnp.float32)
  image = (image - jnp.asarray(mean, jnp.float32)) / jnp.asarray(
    std, jnp.float32
  )
  return {**batch, 'image': image}


def mirror(points, flip):
  """Landmarks (b, N, 2), normalised, of the mirrored image; `flip` (N,)."""
  return points[:, flip] * jnp.array([-1.0, 1.0])


def new_estimate(outputs, estimate, offset_scale):
  """(b, N, 2) landmarks in normalised coordinates from a network's outputs.

  Liu et al.'s offset is estimate - truth, so it is subtracted (docs/methods.md
  A2).
  """
  if estimate is None:
    return outputs['landmarks']
  return estimate - outputs['landmarks'] / offset_scale


def apply_stage(model, variables, batch, estimate, config, flip=None):
  """Runs a trained stage network.

  Args:
    model: a Linen module of `models.MODELS`.
    variables: its variables.
    batch: from `normalise_images`.
    estimate: (b, N, 2) the previous stage's landmarks, None for stage 1.
    config: `offset_scale` (the network's offsets are this much too large,
      docs/methods.md A3), `heatmap`.
    flip: (N,) partner slots: see the mirrored image too, and average heatmaps
      (see `heatmaps.decode`), landmarks and visibility. None for the plain
      image.

  Returns:
    The model's outputs, with `landmarks` and `estimate`: see `add_landmarks`
    and `new_estimate`.
  """
  # Only dropout asks for the position.
  run = lambda batch, estimate: model.apply(
    variables,
    {'example_index': None, **batch, 'estimate': estimate},
    train=False,
  )
  views = [run(batch, estimate)]
  if flip is not None:
    mirrored = {**batch, 'image': batch['image'][:, :, ::-1]}
    other = run(mirrored, None if estimate is None else mirror(estimate, flip))
    back = {
      'heatmaps': lambda x: x[:, :, ::-1, flip],
      'landmarks': lambda x: mirror(x, flip),
      'visibility': lambda x: x[:, flip],
    }
    views.append({k: back[k](other[k]) for k in back.keys() & other.keys()})
  outputs = decode_outputs(views, config.heatmap)
  new = new_estimate(outputs, estimate, config.offset_scale)
  return {**outputs, 'estimate': new}


def decode_outputs(views: Sequence[dict], options) -> dict:
  """One view's outputs, or the mean of several, with `landmarks`.

  Of a network with heatmaps, with `confidence` (b, N) as well.

  Args:
    views: outputs of a model for the same examples; what the last one lacks
      is the first one's.
    options: see `heatmaps.decode`, for landmarks from `heatmaps` if there are
      any.

  Returns:
    The outputs.
  """
  outputs = dict(views[0])
  if len(views) > 1:
    mean = lambda name: sum(view[name] for view in views) / len(views)
    outputs |= {name: mean(name) for name in views[-1]}
  if 'heatmaps' in outputs:
    maps = [view['heatmaps'] for view in views]
    outputs['landmarks'] = heatmaps.decode(maps, options)
    outputs['confidence'] = heatmaps.confidence(maps, options.amplitude)
  return outputs


def apply_stages(
  models: Sequence, variables: Sequence, batch, config, flip=None
):
  """Runs single-network stages one after another.

  Args:
    models: one Linen module a stage.
    variables: their variables.
    batch: from `normalise_images`.
    config: see `apply_stage`.
    flip: see `apply_stage`.

  Returns:
    A list of each stage's outputs.
  """
  outputs, estimate = [], None
  for model, stage_variables in zip(models, variables, strict=True):
    outputs.append(
      apply_stage(model, stage_variables, batch, estimate, config, flip)
    )
    estimate = outputs[-1]['estimate']
  return outputs
