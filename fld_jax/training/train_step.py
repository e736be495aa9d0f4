"""The train and predict steps: pure per-device functions.

Each sees one device's share of a batch and reduces over `parallel.AXIS`.
Sums are divided by global counts, so neither padding nor the number of devices
changes a figure.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from fld_jax import schema
from fld_jax.cascade.forward import (
  Variables,
  apply_stages,
  decode_outputs,
  new_estimate,
  normalise_images,
)
from fld_jax.runtime.parallel import AXIS, Parallel
from fld_jax.training.objective import stage_losses


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


def on_devices(step, parallel: Parallel):
  """What `make_train_step` gives, on all devices.

  Args:
    step: the per-device function.
    parallel: the devices.

  Returns:
    The same function of placed arrays, all but the batch replicated; it reuses
    the memory of the state that it is given.
  """
  return parallel.compile(
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
  images (docs/methods.md A19), and nothing needs to be stored between stages.
  Noise on them (`stage.estimate_noise`; DeepPose's jitter, docs/methods.md 2.1,
  of a fixed size) makes the network look at the image: an estimate that the
  same trunk could have made tells it nothing of where the landmarks are.

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
      chain = apply_stages(previous_models, previous, batch, config)
      noise = _noise(key, batch['example_index'], model.num_landmarks)
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
  """PCLoss's weight beside the other losses on places (docs/methods.md 4.3).

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


def _noise(key, example_index, num_landmarks: int):
  """Normal numbers (b, N, 2), the same on any number of devices."""
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, example_index)
  return jax.vmap(lambda k: jax.random.normal(k, (num_landmarks, 2)))(keys)


def _mean_error(outputs, batch, estimate, config):
  """Mean distance in crop sides: what to watch, not what is reported.

  From the second stage on, of estimates that began with noise.
  """
  outputs = decode_outputs([outputs], config.heatmap)
  new = new_estimate(outputs, estimate, config.offset_scale)
  mask = schema.has_position(batch['visibility']) * batch['mask'][:, None]
  distance = jnp.linalg.norm(new - batch['landmarks'], axis=-1)
  total, count = lax.psum((jnp.sum(distance * mask), jnp.sum(mask)), AXIS)
  return total / jnp.maximum(count, 1)
