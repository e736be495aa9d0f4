"""The train and predict steps: pure per-device functions.

Each sees one device's share of a batch and reduces over `parallel.AXIS`.
Sums are divided by global counts, so neither padding nor the number of devices
changes a figure.
"""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from fld_jax import losses, pseudo_labels, schema
from fld_jax.datasets.catalog import landmark_set
from fld_jax.errors import InputError
from fld_jax.ops import heatmaps
from fld_jax.runtime.parallel import AXIS, Parallel

PC_SPACES = ('input_px', 'heatmap_px', 'normalized')  # methods 4.3
PC_MASKS = {  # methods 4.5
  'annotated': schema.has_position,
  'visible': lambda visibility: visibility == schema.VISIBLE,
}
Variables = dict[str, Any]  # {'params': ..., 'batch_stats': ...} of one network


class TrainState(flax.struct.PyTreeNode):
  """Everything that a train step changes.

  Attributes:
    step: () int32, updates done.
    variables: the network's parameters and batch statistics.
    opt_state: the optimiser's.
  """

  step: jax.Array
  variables: Variables
  opt_state: Any

  @classmethod
  def create(cls, variables: Variables, optimizer) -> 'TrainState':
    """That of a network before its first step."""
    return cls(
      step=np.zeros((), np.int32),
      variables=variables,
      opt_state=optimizer.init(variables['params']),
    )


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

  P1's offset is estimate - truth, so it is subtracted (methods A2).
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
      methods A3), `heatmap`.
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
    {'position': None, **batch, 'estimate': estimate},
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
  outputs = add_landmarks(views, config.heatmap)
  new = new_estimate(outputs, estimate, config.offset_scale)
  return {**outputs, 'estimate': new}


def add_landmarks(views: Sequence[dict], options) -> dict:
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


def apply_chain(
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


def on_devices(step, parallel: Parallel):
  """What `make_train_step` gives, on all devices.

  Args:
    step: the per-device function.
    parallel: the devices.

  Returns:
    The same function of placed arrays, all but the batch replicated; it reuses
    the memory of the state that it is given.
  """
  return parallel.wrap(
    step,
    sharded_in=(False, False, False, True),
    sharded_out=(False, False),
    donate=(0,),
  )


def make_train_step(
  model, previous_models, config, stage, weights_at, optimizer, seed
):
  """Builds the per-device train step of one network.

  The previous stages run inside the step, in eval mode, on the very crops that
  the network sees. So their estimates are those under the training
  augmentation, which generalise better than estimates of the plain training
  images (methods A19), and nothing needs to be stored between stages. Noise on
  them (`stage.estimate_noise`; DeepPose's jitter, methods 2.1, of a fixed size)
  makes the network look at the image: an estimate that the same trunk could
  have made tells it nothing of where the landmarks are.

  Args:
    model: the network to train.
    previous_models: the stages before, each a single network.
    config: `dataset`, `input`, `offset_scale`, `heatmap`,
      `position_constraint`, `on_nan`.
    stage: the stage's config.
    weights_at: function of the step to the loss weights.
    optimizer: the transformation.
    seed: of dropout and noise.

  Returns:
    step(state, previous, clusters, batch) -> (state, metrics): `previous` the
    variables of `previous_models`, `clusters` see `stage_losses`, `batch` of
    `input_pipeline.device_part`, `metrics`
    global scalars: the losses' means, `loss`, `error` (see `_mean_error`) and
    with PCLoss `position_constraint_ratio` (see `_gradient_ratio`).
  """

  def step(state, previous, clusters, batch):
    batch = normalise_images(batch, config.input.mean, config.input.std)
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    estimate = None
    if previous_models:
      chain = apply_chain(previous_models, previous, batch, config)
      noise = _noise(key, batch['position'], model.num_landmarks)
      estimate = chain[-1]['estimate'] + stage.estimate_noise * noise
      estimate = lax.stop_gradient(estimate)
    weights = weights_at(state.step)

    def loss_fn(params):
      outputs, mutated = model.apply(
        {**state.variables, 'params': params},
        {**batch, 'estimate': estimate},
        train=True,
        rngs={'dropout': key},
        mutable=['batch_stats'],
      )
      values = stage_losses(outputs, batch, estimate, clusters, stage, config)
      means = _means(values, batch['mask'])
      loss = sum(weights[name] * mean for name, mean in means.items())
      return loss, (means, mutated, outputs)

    params = state.variables['params']
    grads, (means, mutated, outputs) = jax.grad(loss_fn, has_aux=True)(params)
    grads = _sum_over_devices(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, params)
    variables = {
      **state.variables,
      **mutated,
      'params': optax.apply_updates(params, updates),
    }
    metrics = lax.psum(means, AXIS)
    metrics['loss'] = sum(weights[name] * metrics[name] for name in means)
    if stage.weights.position_constraint:
      metrics['position_constraint_ratio'] = _gradient_ratio(
        outputs, batch, estimate, stage, weights, config
      )
    metrics['error'] = _mean_error(outputs, batch, estimate, config)
    new = state.replace(variables=variables, opt_state=opt_state)
    if config.on_nan == 'skip':
      new = _if_finite(new, state, metrics['loss'], grads)
    return new.replace(step=state.step + 1), metrics

  return step


def _sum_over_devices(grads):
  """The gradients' sums.

  Between processes on CPUs each array would be sent by itself, and wait: there
  they travel as one vector, which elsewhere would only be copied.
  """
  if jax.process_count() == 1 or jax.default_backend() != 'cpu':
    return lax.psum(grads, AXIS)
  flat, restore = ravel_pytree(grads)
  return restore(lax.psum(flat, AXIS))


def _if_finite(new, old, loss, grads):
  """The new state; the old one if loss or gradients are not finite."""
  sums = [jnp.sum(leaf) for leaf in jax.tree.leaves(grads)]
  good = jnp.isfinite(loss) & jnp.all(jnp.isfinite(jnp.stack(sums)))
  return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)


def _means(values, mask):
  """A device's share of each loss's mean over the global batch: sum them up."""
  means = {}
  for name, (value, counts) in values.items():
    count = lax.psum(jnp.sum(counts * mask), AXIS)
    means[name] = jnp.sum(value * counts * mask) / jnp.maximum(count, 1)
  return means


def _gradient_ratio(outputs, batch, estimate, stage, weights, config):
  """How much PCLoss weighs beside the other losses on places (methods 4.3).

  The norm of its gradient at the network's outputs, over that of the landmark
  and heatmap losses, all with their weights; 0 if these have none.
  """
  places = {k: outputs[k] for k in ('heatmaps', 'landmarks') if k in outputs}
  stage = stage.copy_and_resolve_references()
  stage.weights.visibility = stage.weights.pseudo_label = 0.0

  def norm(*names):
    def total(places):
      values = stage_losses(places, batch, estimate, {}, stage, config)
      means = _means(values, batch['mask'])
      parts = [weights[name] * means[name] for name in names if name in means]
      return sum(parts, jnp.zeros(()))

    squares = jax.tree.map(lambda g: jnp.sum(g**2), jax.grad(total)(places))
    return jnp.sqrt(lax.psum(sum(jax.tree.leaves(squares)), AXIS))

  others = norm('landmarks', 'heatmaps')
  ratio = norm('position_constraint') / jnp.maximum(others, 1e-30)
  return jnp.where(others > 0, ratio, 0.0)


def _noise(key, positions, num_landmarks: int):
  """Normal numbers (b, N, 2), the same on any number of devices."""
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, positions)
  return jax.vmap(lambda k: jax.random.normal(k, (num_landmarks, 2)))(keys)


def _mean_error(outputs, batch, estimate, config):
  """Mean distance in crop sides: what to watch, not what is reported.

  From the second stage on, of estimates that began with noise.
  """
  outputs = add_landmarks([outputs], config.heatmap)
  new = new_estimate(outputs, estimate, config.offset_scale)
  mask = schema.has_position(batch['visibility']) * batch['mask'][:, None]
  distance = jnp.linalg.norm(new - batch['landmarks'], axis=-1)
  total, count = lax.psum((jnp.sum(distance * mask), jnp.sum(mask)), AXIS)
  return total / jnp.maximum(count, 1)
