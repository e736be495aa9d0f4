"""Schedules and optimisers: what depends on the step, and durations in steps.

Schedules are functions of the step, an int32 scalar from 0 on, that can be
traced by `jit`.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import optax
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from fld_jax.errors import InputError
from fld_jax.models.layers import VISIBILITY_HEAD
from fld_jax.models.trunk import Trunk

# Evaluations of a network in training, at the least: a curve of fewer points
# tells little.
MIN_EVALUATIONS = 10


@dataclasses.dataclass(frozen=True)
class Plan:
  """When a network in training does what; all of it in updates.

  Attributes:
    total: The length of the training.
    wished: The length that the stage's config asks for; `total` is longer if
      that is less than the config's `min_steps`.
    save_every: The number of updates between two evaluations with a checkpoint.
    evaluations: The updates after which the network is evaluated.
  """

  total: int
  wished: int
  save_every: int
  evaluations: frozenset[int]

  @classmethod
  def of(
    cls, stage: ConfigDict, *, batch_size: int, num_examples: int
  ) -> 'Plan':
    """Computes the plan of a stage's network.

    Lengths in steps are taken as they are. Lengths in epochs depend on the
    number of images, and of few images too little would become of them: then
    the training has `min_steps`, with MIN_EVALUATIONS checkpoints. Evaluations
    that only add a point to the curve never save a checkpoint, so that they
    change nothing of what a training results in.

    Args:
      stage: The stage's config.
      batch_size: The number of examples in a global batch.
      num_examples: The number of examples in this network's training set.

    Raises:
      InputError: If a length is negative or missing.
    """
    steps = lambda name: num_steps(
      stage, name, batch_size=batch_size, num_examples=num_examples
    )
    wished, save_every = steps('train'), steps('eval')
    if stage.min_steps < 0:
      raise InputError(
        f'min_steps is {stage.min_steps}, it must not be negative.'
      )
    total = wished if stage.train_steps else max(wished, stage.min_steps)
    if stage.eval_steps:
      evaluations = range(save_every, total, save_every)
    else:
      if total > wished:
        save_every = max(1, total // MIN_EVALUATIONS)
      evaluations = evaluation_steps(total, save_every)
    return cls(total, wished, save_every, frozenset([*evaluations, total]))


def evaluation_steps(total: int, save_every: int) -> list[int]:
  """Shares out at least MIN_EVALUATIONS evaluations, or one for each update.

  Args:
    total: The length of the training in updates.
    save_every: The number of updates between two checkpoints, all of which are
      among the evaluations.

  Returns:
    The updates after which the network is evaluated, in ascending order.
  """
  parts = max(1, math.ceil(MIN_EVALUATIONS * save_every / total))
  within = [math.ceil(save_every * i / parts) for i in range(1, parts + 1)]
  steps = {
    start + step for start in range(0, total, save_every) for step in within
  }
  return sorted({step for step in steps if step < total} | {total})


def num_steps(
  config: ConfigDict, name: str, *, batch_size: int, num_examples: int
) -> int:
  """Computes a duration in steps, from the one of its units that is not zero.

  Args:
    config: The stage's config, with one of `{name}_steps`, `{name}_epochs`,
      `{name}_examples`; of several that are not 0, the first in this order
      counts.
    name: The name of the duration, for example 'train'.
    batch_size: The number of examples in a global batch.
    num_examples: The number of examples in this network's training set.

  Returns:
    The number of steps, at least 1.

  Raises:
    InputError: If all three are absent or 0, or one is negative.
  """
  examples_per_unit = {
    'steps': batch_size,
    'epochs': num_examples,
    'examples': 1,
  }
  for unit, examples in examples_per_unit.items():
    amount = config.get(f'{name}_{unit}', 0)
    if amount < 0:
      raise InputError(f'{name}_{unit} is {amount}, it must not be negative.')
    if amount:
      # Rounded first: 1.1 epochs of 10 are 11 examples, not 11.000000000000002.
      return max(1, math.ceil(round(amount * examples / batch_size, 6)))
  fields = ', '.join(f'{name}_{unit}' for unit in examples_per_unit)
  raise InputError(f'One of the config fields {fields} must be above 0.')


def is_time(step: int, every: int, last: int) -> bool:
  """Tells whether something is due that is done at regular steps.

  Args:
    step: The number of steps done, from 1 on.
    every: The number of steps from one time to the next, at least 1.
    last: The number of the last step.

  Returns:
    True at each multiple of `every` and at the last step.
  """
  return step % every == 0 or step == last


def learning_rate(config: ConfigDict, total_steps: int) -> optax.Schedule:
  """Builds a linear warm-up to `config.learning_rate`, then a decay.

  Args:
    config: The optimiser's config. `learning_rate` is the peak, above 0.
      `schedule` is 'constant', 'cosine' (to 0) or 'step' (times `step_factor`
      at each of `step_at`: fractions of the run, or above 1 steps). `warmup` is
      a fraction of the run in [0, 1].
    total_steps: The number of steps of the run.

  Returns:
    A function of the step to the learning rate.

  Raises:
    InputError: If `schedule` is none of the three.
  """
  peak = config.learning_rate
  warmup = round(config.warmup * total_steps)
  if config.schedule == 'constant':
    decay = optax.constant_schedule(peak)
  elif config.schedule == 'cosine':
    decay = optax.cosine_decay_schedule(peak, max(1, total_steps - warmup))
  elif config.schedule == 'step':
    # Above 1 an entry is a step, of which a longer training has no other.
    steps = [x if x > 1 else x * total_steps for x in config.step_at]
    boundaries = {round(step) - warmup: config.step_factor for step in steps}
    decay = optax.piecewise_constant_schedule(peak, boundaries)
  else:
    raise InputError(
      f"config.optimizer.schedule is '{config.schedule}', valid values are "
      "'constant', 'cosine' and 'step'."
    )
  ramp = optax.linear_schedule(0.0, peak, max(1, warmup))
  return optax.join_schedules([ramp, decay], [warmup])


def loss_weights(
  config: ConfigDict, total_steps: int
) -> Callable[[Int[Array, '']], dict[str, Float[Array, '']]]:
  """Builds the weights of the losses as a function of the step.

  Equation 4 of Liu et al. (2016) prints, for auxiliary losses, a weight of 1 up
  to t1, then a ramp that climbs from 0 back to 1 at t2, then 0. The readings
  (docs/methods.md A14):
  * 'ramp_down': 1, then (t2 - t) / (t2 - t1), then 0. The likely intent. The
    weight of the visibility may end at `visibility_floor` instead, since the
    network goes on changing below a head that is no longer trained.
  * 'paper_literal': 1, then (t - t1) / (t2 - t1), then 0.
  * 'author_issue6': auxiliary losses stay at 1; positions 1 up to t1, then 20.
  * 'constant': all stay at their weights.

  Args:
    config: The stage's config. `weight_schedule` is one of the four readings,
      `weight_t1` and `weight_t2` are fractions of the run (Liu et al.: 2000 and
      4000 of 10,000 iterations), `weights` holds the unscaled weight of each
      loss.
    total_steps: The number of steps of the run.

  Returns:
    A function of the step to the weight of each loss of `config.weights`.
    'visibility' and 'pseudo_label' are the auxiliary losses.

  Raises:
    InputError: If `weight_schedule` is none of the four.
  """
  t1 = config.weight_t1 * total_steps
  t2 = config.weight_t2 * total_steps
  fade = lambda last: optax.linear_schedule(
    1.0, last, max(1, round(t2 - t1)), round(t1)
  )
  ramp = fade(0.0)
  climb = optax.linear_schedule(0.0, 1.0, max(1, round(t2 - t1)))
  constant = optax.constant_schedule
  main, auxiliary = {
    'ramp_down': (constant(1.0), ramp),
    'paper_literal': (
      constant(1.0),
      optax.join_schedules(
        [constant(1.0), climb, constant(0.0)], [round(t1), round(t2)]
      ),
    ),
    'author_issue6': (
      optax.join_schedules([constant(1.0), constant(20.0)], [round(t1)]),
      constant(1.0),
    ),
    'constant': (constant(1.0), constant(1.0)),
  }.get(config.weight_schedule, (None, None))
  if main is None:
    raise InputError(
      f"weight_schedule is '{config.weight_schedule}', valid values are "
      "'ramp_down', 'paper_literal', 'author_issue6' and 'constant'."
    )
  scales = {'visibility': auxiliary, 'pseudo_label': auxiliary}
  if config.weight_schedule == 'ramp_down':
    scales['visibility'] = fade(config.visibility_floor)
  return lambda step: {
    name: weight * scales.get(name, main)(step)
    for name, weight in config.weights.items()
  }


def optimizer(
  config: ConfigDict, total_steps: int, trunk: Trunk
) -> optax.GradientTransformation:
  """Builds gradient clipping, then SGD with momentum, Adam or AdamW.

  Weight decay acts on kernels only, not on biases and batch-norm scales.

  Args:
    config: The optimiser's config. `name` is 'sgd', 'adam' or 'adamw';
      `momentum` is in [0, 1); `weight_decay` is at least 0; `clip_norm` is the
      largest global norm of the gradient, 0 for no clipping, see `_clip`. It
      also has the fields that `learning_rate` reads.
    total_steps: The number of steps of the run.
    trunk: The network's trunk, whose learning rate is multiplied by the field
      `trunk_rate` and whose frozen modules get no updates.

  Returns:
    The transformation of gradients to updates.

  Raises:
    InputError: If `name` or `schedule` is not valid.
  """
  rate = learning_rate(config, total_steps)
  decay = optax.add_decayed_weights(
    config.weight_decay,
    mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
  )
  rule = {
    'sgd': [decay, optax.trace(config.momentum)],
    'adam': [decay, optax.scale_by_adam()],
    'adamw': [optax.scale_by_adam(), decay],
  }.get(config.name)
  if rule is None:
    raise InputError(
      f"config.optimizer.name is '{config.name}', valid values are 'sgd', "
      "'adam' and 'adamw'."
    )
  clip = config.clip_norm
  first = _clip(clip) if clip else optax.identity()
  rules = [first, *rule, optax.scale_by_learning_rate(rate)]
  frozen = trunk.frozen_modules()
  if config.trunk_rate != 1 or frozen:
    rules.append(_scale_trunk(trunk.tree_name, config.trunk_rate, frozen))
  return optax.chain(*rules)


def _clip(norm: float) -> optax.GradientTransformation:
  """Clips gradients by their global norm, a visibility head's by its own.

  The head of a heatmap network learns beside the others (`VisibilityHead`): its
  gradient must not shorten theirs.

  Args:
    norm: The largest norm, above 0.
  """
  rule = optax.clip_by_global_norm(norm)

  def clipped(updates: dict, params: dict) -> dict:
    head = updates.keys() & {VISIBILITY_HEAD}
    parts = (updates.keys() - head, head)
    clipped = {}
    for names in parts:
      part = {name: updates[name] for name in names}
      clipped |= rule.update(part, optax.EmptyState())[0]
    return clipped

  return optax.stateless(clipped)


def _scale_trunk(
  name: str, factor: float, frozen: tuple[str, ...]
) -> optax.GradientTransformation:
  """Multiplies a trunk's updates by a factor, those of frozen modules by 0.

  Args:
    name: The trunk's name in the parameter tree.
    factor: The factor of modules that are not frozen.
    frozen: Names of modules of the trunk.
  """

  def scaled(path: tuple, update: Array) -> Array:
    keys = [entry.key for entry in path]
    if keys[0] != name:
      return update
    return update * (0.0 if keys[1] in frozen else factor)

  return optax.stateless(
    lambda updates, params: jax.tree_util.tree_map_with_path(scaled, updates)
  )
