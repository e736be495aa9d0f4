"""The objective of a stage: each loss of its outputs, one value an example."""

import jax.numpy as jnp

from fld_jax import schema
from fld_jax.cascade import pseudo_labels
from fld_jax.cascade.forward import new_estimate
from fld_jax.datasets.catalog import landmark_set
from fld_jax.errors import InputError
from fld_jax.ops import heatmaps
from fld_jax.training import losses

PC_SPACES = ('input_px', 'heatmap_px', 'normalized')  # docs/methods.md 4.3
PC_MASKS = {  # docs/methods.md 4.5
  'annotated': schema.has_position,
  'visible': lambda visibility: visibility == schema.VISIBLE,
}


def stage_losses(outputs, batch, estimate, clusters, stage, config):
  """Each loss of a stage, one value an example.

  Args:
    outputs: of the stage's model.
    batch: `landmarks`, `visibility`.
    estimate: (b, N, 2) of the previous stage, or None.
    clusters: dict with `centres` (K, D), {} if the stage has no
      pseudo-labels.
    stage: the stage's config.
    config: the run's: `dataset`, `offset_scale`, `heatmap`,
      `position_constraint`, `input.size`.

  Returns:
    name of the loss -> (values (b,), counts (b,) bool: which examples its mean
    is over), those whose weight is not 0.

  Raises:
    InputError: if a weight is not 0 and the model lacks the output.
  """
  if 'heatmaps' in outputs:
    # Both losses on coordinates want a decoder with a gradient.
    options = config.heatmap.copy_and_resolve_references()
    options.decoder = 'soft_argmax'
    landmarks = heatmaps.decode([outputs['heatmaps']], options)
    outputs = {**outputs, 'landmarks': landmarks}
  check_outputs(outputs, stage, config)
  truth, visibility = batch['landmarks'], batch['visibility']
  everyone = jnp.ones(truth.shape[0], bool)
  values = {}
  if stage.weights.landmarks:
    target = truth
    if estimate is not None:
      target = config.offset_scale * (estimate - truth)
    loss = losses.positions(
      outputs['landmarks'], target, visibility, stage.landmark_loss
    )
    values['landmarks'] = loss, everyone
  if stage.weights.heatmaps:
    target = heatmaps.encode(
      truth,
      outputs['heatmaps'].shape[1],
      sigma=config.heatmap.sigma,
      amplitude=config.heatmap.amplitude,
      shift=config.heatmap.shift,
    )
    loss = losses.heatmaps(outputs['heatmaps'], target, visibility)
    values['heatmaps'] = loss, everyone
  if stage.weights.position_constraint:
    values['position_constraint'] = _position_constraint(
      new_estimate(outputs, estimate, config.offset_scale),
      truth,
      visibility,
      _pc_scale(outputs, config),
      config,
    )
  if stage.weights.visibility:
    loss = losses.visibility(outputs['visibility'], visibility)
    values['visibility'] = loss, everyone
  if stage.weights.pseudo_label:
    label = stage.pseudo_label
    vectors = pseudo_labels.label_vectors(
      truth,
      visibility,
      estimate,
      space=label.space,
      context_transform=label.context_transform,
    )
    target = pseudo_labels.soft_labels(
      *vectors,
      clusters['centres'],
      temperature=label.temperature,
      normalize=label.normalize,
    )
    loss = losses.pseudo_label(outputs, target, label.loss)
    values['pseudo_label'] = loss, everyone
  return values


def check_outputs(outputs, stage, config) -> None:
  """Refuses losses on what the network does not predict.

  Args:
    outputs: of the stage's model, by name; a network with `heatmaps` has
      `landmarks` too.
    stage: the stage's config.
    config: the run's.

  Raises:
    InputError: naming the loss, the output and those that there are.
  """
  names = list(outputs)
  if 'heatmaps' in names and 'landmarks' not in names:
    names.append('landmarks')
  for name, weight in stage.weights.items():
    output = 'landmarks' if name == 'position_constraint' else name
    if weight and output not in names:
      raise InputError(
        f"The loss '{name}' of stage '{stage.name}' has weight {weight}, but "
        f"the network has no output '{output}': it has {', '.join(names)}."
      )
  space = config.position_constraint.space
  constrained = stage.weights.position_constraint
  if constrained and space == 'heatmap_px' and 'heatmaps' not in names:
    raise InputError(
      "config.position_constraint.space is 'heatmap_px', but the network "
      f"'{config.model.name}' has no heatmaps: valid values are 'input_px' and "
      "'normalized'."
    )


def _pc_scale(outputs, config) -> float:
  """What normalised coordinates are multiplied by before PCLoss."""
  space = config.position_constraint.space
  if space == 'heatmap_px':
    return outputs['heatmaps'].shape[1]
  return config.input.size if space == 'input_px' else 1.0


def _position_constraint(prediction, truth, visibility, scale, config):
  """PCLoss of normalised landmarks, and which examples have one."""
  options = config.position_constraint
  mask = PC_MASKS[options.mask](visibility)
  parts = landmark_set(config.dataset).partitions[options.partition]
  loss = losses.position_constraint(
    scale * prediction,
    scale * truth,
    mask,
    parts,
    options.k,
    options.pair_mean,
  )
  return loss, losses.has_pair(mask, parts)
