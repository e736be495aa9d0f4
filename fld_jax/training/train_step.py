"""The train and predict steps: pure per-device functions.

Each sees one device's share of a batch and reduces over `parallel.AXIS`.
Sums are divided by global counts, so neither padding nor the number of devices
changes a figure.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from fld_jax import schema
from fld_jax.cascade.forward import (
  Forward,
  Variables,
  apply_stages,
  decode_outputs,
  new_estimate,
  normalise_images,
)
from fld_jax.runtime.parallel import AXIS, Parallel
from fld_jax.training.objective import (
  PLACE_LOSSES,
  Objective,
  stage_losses,
)


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


def on_devices(step: Callable, parallel: Parallel) -> Callable:
  """Runs what `make_train_step` gives on all devices.

  Args:
    step: The per-device function.
    parallel: The devices.

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
  model: nn.Module,
  previous_models: Sequence[nn.Module],
  forward: Forward,
  objective: Objective,
  weights_at: Callable[[Array], dict[str, Array]],
  optimizer: optax.GradientTransformation,
  *,
  seed: int,
  skip_nan: bool = False,
) -> Callable:
  """Builds the per-device train step of one network.

  The previous stages run inside the step, in eval mode, on the very crops that
  the network sees. So their estimates are those under the training
  augmentation, which generalise better than estimates of the plain training
  images (docs/methods.md A19), and nothing needs to be stored between stages.
  Noise on them (`stage.estimate_noise`; DeepPose's jitter, docs/methods.md 2.1,
  of a fixed size) makes the network look at the image: an estimate that the
  same trunk could have made tells it nothing of where the landmarks are.

  Args:
    model: The network to train.
    previous_models: The networks of the stages before, one each.
    forward: How their outputs, and this network's, become landmarks.
    objective: What the network is trained towards.
    weights_at: Function of the step to the losses' weights.
    optimizer: Turns gradients into updates.
    seed: Seed of dropout and noise.
    skip_nan: Leave out an update whose loss or gradient is not finite.

  Returns:
    step(state, previous, clusters, batch) -> (state, metrics). `previous` are
    the variables of `previous_models`, `clusters` those of `stage_losses`,
    `batch` is one of `input_pipeline.device_part`. `metrics` are global
    scalars: each loss's mean, `loss`, `error` (see `_mean_error`) and with
    PCLoss `position_constraint_ratio` (see `_gradient_ratio`).
  """
  forward = forward.without_flip()
  constrained = objective.stage.weights.position_constraint

  def step(state, previous, clusters, batch):
    batch = normalise_images(batch, forward.mean, forward.std)
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    estimate = None
    if previous_models:
      chain = apply_stages(previous_models, previous, batch, forward)
      noise = _noise(key, batch['example_index'], model.num_landmarks)
      noise = objective.stage.estimate_noise * noise
      estimate = lax.stop_gradient(chain[-1]['estimate'] + noise)
    weights = weights_at(state.step)

    def loss_fn(params):
      outputs, mutated = model.apply(
        {**state.variables, 'params': params},
        {**batch, 'estimate': estimate},
        train=True,
        rngs={'dropout': key},
        mutable=['batch_stats'],
      )
      values = stage_losses(outputs, batch, estimate, clusters, objective)
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
    if constrained:
      metrics['position_constraint_ratio'] = _gradient_ratio(
        outputs, batch, estimate, objective, weights
      )
    metrics['error'] = _mean_error(outputs, batch, estimate, forward)
    new = state.replace(variables=variables, opt_state=opt_state)
    if skip_nan:
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


def _gradient_ratio(outputs, batch, estimate, objective: Objective, weights):
  """How much PCLoss weighs beside the other place losses (docs/methods.md 4.3).

  The norm of its gradient at the network's outputs, over that of the landmark
  and heatmap losses, all with their weights; 0 if these have none.
  """
  places = {k: outputs[k] for k in ('heatmaps', 'landmarks') if k in outputs}

  def norm(*names):
    def total(places):
      values = stage_losses(
        places, batch, estimate, {}, objective, PLACE_LOSSES
      )
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


def _mean_error(outputs, batch, estimate, forward: Forward):
  """Mean distance in crop sides: what to watch, not what is reported.

  From the second stage on, of estimates that began with noise.
  """
  outputs = decode_outputs([outputs], forward.codec)
  new = new_estimate(outputs, estimate, forward.offset_scale)
  mask = schema.has_position(batch['visibility']) * batch['mask'][:, None]
  distance = jnp.linalg.norm(new - batch['landmarks'], axis=-1)
  total, count = lax.psum((jnp.sum(distance * mask), jnp.sum(mask)), AXIS)
  return total / jnp.maximum(count, 1)
