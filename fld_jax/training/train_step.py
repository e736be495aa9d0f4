"""The train step: a pure function of one device's share of a batch.

It reduces over `parallel.AXIS`. Sums are divided by global counts, so neither
padding nor the number of devices changes a figure.
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
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from fld_jax import schema
from fld_jax.cascade import pseudo_labels
from fld_jax.cascade.forward import (
  READERS,
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
  Values,
  stage_losses,
)


class TrainState(flax.struct.PyTreeNode):
  """Everything that a train step changes.

  Attributes:
    step: () int32, the number of updates done.
    variables: The network's parameters and batch statistics: those that are
      evaluated and kept. With averaging, the average of those in training.
    opt_state: The state of the optimiser; with averaging, a dict of that,
      `rule`, and of the variables in training, `training`.
  """

  step: jax.Array
  variables: Variables
  opt_state: Any

  @classmethod
  def create(
    cls,
    variables: Variables,
    optimizer: optax.GradientTransformation,
    average: float = 0.0,
  ) -> 'TrainState':
    """Makes the state of a network before its first step.

    Args:
      variables: The network's variables, with `params`.
      optimizer: The transformation of gradients to updates.
      average: The decay of the average of variables, 0 for none.

    Returns:
      The state with step 0.
    """
    opt_state = optimizer.init(variables['params'])
    if average:
      opt_state = {'rule': opt_state, 'training': variables}
    return cls(np.zeros((), np.int32), variables, opt_state)


class Membership(flax.struct.PyTreeNode):
  """How much each image weighs in a branch that is trained on all of them.

  Attributes:
    is_easy: () bool, whether the branch is the easy one.
    errors: (K,) mean errors of the clusters of the stage that routes.
    epsilon: () the threshold of the routing score.
    temperature: () the distance from the threshold within which an image
      belongs to both branches, above 0, in the unit of the score.
  """

  is_easy: jax.Array
  errors: jax.Array
  epsilon: jax.Array
  temperature: jax.Array

  @classmethod
  def of(
    cls,
    *,
    is_easy: bool,
    errors: Float[np.ndarray, ' k'],
    epsilon: float,
    temperature: float,
  ) -> 'Membership':
    """Makes the arrays from what the routing says.

    Args:
      is_easy: See the attribute, like the others.
      errors: The errors.
      epsilon: The threshold.
      temperature: The distance.
    """
    return cls(
      np.bool_(is_easy), *map(np.float32, (errors, epsilon, temperature))
    )

  def weights(self, pseudo_label: Float[Array, 'b k']) -> Float[Array, ' b']:
    """The weights of images, from 0 to 1; those of both branches sum to 1.

    Args:
      pseudo_label: (b, K) what the stage that routes predicts for the very
        crops.
    """
    score = pseudo_labels.routing_score(pseudo_label, self.errors)
    easy = pseudo_labels.easy_share(score, self.epsilon, self.temperature)
    return lax.stop_gradient(jnp.where(self.is_easy, easy, 1 - easy))


class Errors(flax.struct.PyTreeNode):
  """How far a stage is off on the training images, landmark by landmark.

  By these numbers DeepPose draws where its later stages are trained to start
  (Toshev and Szegedy, 2014, section 3.2; docs/methods.md 2.1).

  Attributes:
    mean: (N, 2) mean of estimate - truth, in sides of the crop.
    std: (N, 2) standard deviation of the same.
  """

  mean: jax.Array
  std: jax.Array

  @classmethod
  def measure(
    cls,
    estimate: Float[np.ndarray, 'm n 2'],
    truth: Float[np.ndarray, 'm n 2'],
    visibility: Int[np.ndarray, 'm n'],
  ) -> 'Errors':
    """Measures the errors where landmarks have positions.

    Args:
      estimate: (m, N, 2) landmarks in normalised coordinates.
      truth: (m, N, 2) true landmarks in the same.
      visibility: (m, N) true visibility codes.

    Returns:
      The errors; 0 for a landmark that never has a position.
    """
    known = schema.has_position(visibility)[..., None].astype(np.float64)
    count = np.maximum(known.sum(axis=0), 1)
    off = (np.asarray(estimate, np.float64) - truth) * known
    mean = off.sum(axis=0) / count
    square = (known * (off - mean) ** 2).sum(axis=0) / count
    return cls(mean.astype(np.float32), np.sqrt(square).astype(np.float32))

  def start(
    self,
    truth: Float[Array, 'b n 2'],
    visibility: Int[Array, 'b n'],
    noise: Float[Array, 'b n 2'],
    other: Float[Array, 'b n 2'],
  ) -> Float[Array, 'b n 2']:
    """Draws where a stage starts.

    Args:
      truth: (b, N, 2) true landmarks in normalised coordinates.
      visibility: (b, N) true visibility codes.
      noise: (b, N, 2) standard normal numbers.
      other: (b, N, 2) the start of landmarks without a position.
    """
    known = schema.has_position(visibility)[..., None]
    return jnp.where(known, truth + self.mean + self.std * noise, other)


class Given(flax.struct.PyTreeNode):
  """The numbers that tell one network's training from another's.

  They are arguments of the train step and no part of its program. So networks
  that differ in nothing else, such as the two branches of a stage and the seeds
  of a row, share a program, which compiles once.

  Attributes:
    seed: () uint32, the seed of dropout and noise.
    clusters: What `stage_losses` takes: `centres` of the pseudo-labels, or {}.
    membership: The weights of the images in the losses, of a branch that is
      trained on all of them; None if all weigh the same.
    errors: What the landmarks are off by where the network is trained to start;
      None to start from the estimate of the stage before.
  """

  seed: jax.Array
  clusters: dict[str, jax.Array]
  membership: Membership | None = None
  errors: Errors | None = None


def on_devices(step: Callable, parallel: Parallel) -> Callable:
  """Makes a train step run on all devices.

  Args:
    step: The per-device function that `make_train_step` returns.
    parallel: The devices.

  Returns:
    The function of arrays on the devices, all but the batch replicated. It
    reuses the memory of the state that it is given.
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
  weights_at: Callable[[Int[Array, '']], dict[str, Float[Array, '']]],
  optimizer: optax.GradientTransformation,
  *,
  average: float = 0.0,
  skip_nan: bool = False,
) -> Callable:
  """Builds the per-device train step of one network.

  The previous stages run inside the step, in eval mode, on the very crops that
  the network sees. So their estimates are those under the training
  augmentation, which generalise better than estimates of the plain training
  images (docs/methods.md A19), and nothing needs to be stored between stages.
  Noise on them (`stage.estimate_noise`, of a fixed size) makes up for errors
  that are smaller on training images than on others.

  Args:
    model: The network to train.
    previous_models: The networks of the stages before, one for each stage.
    forward: How the outputs of all these networks become landmarks.
    objective: The losses that the network is trained towards.
    weights_at: A function of the step to the weight of each loss.
    optimizer: The transformation of gradients to updates.
    average: The decay of the average of variables, 0 for none.
    skip_nan: Whether to leave out an update whose loss or gradient is not
      finite.

  Returns:
    step(state, previous, given, batch) -> (state, metrics). `previous` holds
    the variables of `previous_models`, `given` is of the class Given, `batch`
    is the result of `input_pipeline.device_part`. `metrics` are global scalars:
    each loss's mean, the weighted sum `loss`, `error` (see `_mean_error`) and
    with PCLoss `position_constraint_ratio` (see `_gradient_ratio`).
  """
  forward = forward.without_flip()
  constrained = objective.stage.weights.position_constraint

  def step(
    state: TrainState,
    previous: Sequence[Variables],
    given: Given,
    batch: dict[str, Shaped[Array, 'b ...']],
  ) -> tuple[TrainState, dict[str, Float[Array, '']]]:
    batch = normalise_images(batch, forward.mean, forward.std)
    key = jax.random.fold_in(jax.random.key(given.seed), state.step)
    estimate = clean = None
    shares = batch['mask']
    if previous_models:
      chain = apply_stages(previous_models, previous, batch, forward)
      noise = _noise(key, batch['example_index'], model.num_landmarks)
      clean = lax.stop_gradient(chain[-1]['estimate'])
      estimate = clean + objective.stage.estimate_noise * noise
      if given.errors:
        estimate = given.errors.start(
          batch['landmarks'], batch['visibility'], noise, estimate
        )
      if given.membership:
        shares *= given.membership.weights(chain[-1]['pseudo_label'])
    weights = weights_at(state.step)
    variables, opt_state = state.variables, state.opt_state
    if average:
      variables, opt_state = opt_state['training'], opt_state['rule']

    def loss_fn(params: PyTree[Float[Array, '...']]) -> tuple:
      outputs, mutated = model.apply(
        {**variables, 'params': params},
        {**batch, 'estimate': estimate},
        train=True,
        rngs={'dropout': key},
        mutable=['batch_stats'],
      )
      values = stage_losses(
        outputs, batch, estimate, given.clusters, objective, clean=clean
      )
      means = _means(values, shares)
      loss = sum(weights[name] * mean for name, mean in means.items())
      return loss, (means, mutated, outputs)

    params = variables['params']
    grads, (means, mutated, outputs) = jax.grad(loss_fn, has_aux=True)(params)
    grads = _sum_over_devices(grads)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    variables = {
      **variables,
      **mutated,
      'params': optax.apply_updates(params, updates),
    }
    if average:
      opt_state = {'rule': opt_state, 'training': variables}
      variables = _average(state.variables, variables, average, state.step)
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


def _average(
  before: Variables,
  variables: Variables,
  decay: float,
  step: Int[Array, ''],
) -> Variables:
  """Moves an average towards the variables of a step.

  The decay grows from 1/10 in the first step, so that the variables of the
  start are soon forgotten.

  Args:
    before: The average before the step.
    variables: The variables after it.
    decay: The share of the average that stays, in the end.
    step: The number of steps done before.
  """
  kept = jnp.minimum(decay, (1 + step) / (10 + step))
  return jax.tree.map(lambda a, b: b + kept * (a - b), before, variables)


def _sum_over_devices(
  grads: PyTree[Float[Array, '...']],
) -> PyTree[Float[Array, '...']]:
  """Sums gradients over the devices.

  Between processes on CPUs each array would be sent by itself, and cost a wait
  of its own. There they are sent as one vector; on other devices that would
  only cost a copy.
  """
  if jax.process_count() == 1 or jax.default_backend() != 'cpu':
    return lax.psum(grads, AXIS)
  flat, restore = ravel_pytree(grads)
  return restore(lax.psum(flat, AXIS))


def _if_finite(
  new: TrainState,
  old: TrainState,
  loss: Float[Array, ''],
  grads: PyTree[Float[Array, '...']],
) -> TrainState:
  """Returns the old state if loss or gradients are not finite, else the new."""
  sums = [jnp.sum(leaf) for leaf in jax.tree.leaves(grads)]
  good = jnp.isfinite(loss) & jnp.all(jnp.isfinite(jnp.stack(sums)))
  return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)


def _means(
  values: dict[str, Values], weights: Float[Array, ' b']
) -> dict[str, Float[Array, '']]:
  """Computes this device's share of each loss's mean over the global batch.

  The mean is the sum of the devices' shares.

  Args:
    values: The result of `stage_losses`.
    weights: (b,) the weight of each example in the mean, 0 for padding.

  Returns:
    Name of the loss -> the share.
  """
  means = {}
  for name, (value, counts) in values.items():
    total = lax.psum(jnp.sum(counts * weights), AXIS)
    share = jnp.sum(value * counts * weights)
    means[name] = share / jnp.where(total > 0, total, 1)
  return means


def _gradient_ratio(
  outputs: dict[str, Float[Array, 'b ...']],
  batch: dict[str, Shaped[Array, 'b ...']],
  estimate: Float[Array, 'b n 2'] | None,
  objective: Objective,
  weights: dict[str, Float[Array, '']],
) -> Float[Array, '']:
  """Computes the weight of PCLoss beside the other losses of places.

  It is the norm of the gradient of PCLoss at the network's outputs, divided by
  that of the other losses of PLACE_LOSSES together, each loss with its weight
  (docs/methods.md 4.3). It is 0 if the others have no gradient.

  Args:
    outputs: The network's outputs.
    batch: This device's share of the batch.
    estimate: (b, N, 2) the landmarks of the stage before, None for stage 1.
    objective: The losses that the network is trained towards.
    weights: The weight of each loss.

  Returns:
    The ratio, at least 0.
  """
  read = {'landmarks', 'heatmap_logits', 'looks', 'log_scales', *READERS}
  places = {k: v for k, v in outputs.items() if k in read}

  def norm(*names: str) -> Float[Array, '']:
    def total(places: dict[str, Float[Array, 'b ...']]) -> Float[Array, '']:
      values = stage_losses(
        places, batch, estimate, {}, objective, PLACE_LOSSES
      )
      means = _means(values, batch['mask'])
      parts = [weights[name] * means[name] for name in names if name in means]
      return sum(parts, jnp.zeros(()))

    squares = jax.tree.map(lambda g: jnp.sum(g**2), jax.grad(total)(places))
    return jnp.sqrt(lax.psum(sum(jax.tree.leaves(squares)), AXIS))

  pcloss = 'position_constraint'
  others = norm(*(name for name in PLACE_LOSSES if name != pcloss))
  ratio = norm(pcloss) / jnp.maximum(others, 1e-30)
  return jnp.where(others > 0, ratio, 0.0)


def _noise(
  key: Key[Array, ''], example_index: Int[Array, ' b'], num_landmarks: int
) -> Float[Array, 'b num_landmarks 2']:
  """Draws (b, N, 2) normal numbers, the same on any number of devices."""
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, example_index)
  return jax.vmap(lambda k: jax.random.normal(k, (num_landmarks, 2)))(keys)


def _mean_error(
  outputs: dict[str, Float[Array, 'b ...']],
  batch: dict[str, Shaped[Array, 'b ...']],
  estimate: Float[Array, 'b n 2'] | None,
  forward: Forward,
) -> Float[Array, '']:
  """Computes the mean distance of landmarks in crop sides, for the log.

  It is measured under augmentation, and from the second stage on from an
  estimate with noise, so it is not the reported error.
  """
  outputs = decode_outputs([outputs], forward.codec)
  new = new_estimate(outputs, estimate, forward.offset_scale)
  mask = schema.has_position(batch['visibility']) * batch['mask'][:, None]
  distance = jnp.linalg.norm(new - batch['landmarks'], axis=-1)
  total, count = lax.psum((jnp.sum(distance * mask), jnp.sum(mask)), AXIS)
  return total / jnp.maximum(count, 1)
