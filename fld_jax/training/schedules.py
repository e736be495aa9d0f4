"""Every number that depends on the step, and the units of durations."""

import math

import jax
import optax

from fld_jax.errors import InputError


def num_steps(config, name: str, *, batch_size: int, num_examples: int) -> int:
  """A duration in steps, from whichever of its three units is not zero.

  Args:
    config: has one of `{name}_steps`, `{name}_epochs`, `{name}_examples`; of
      several that are not 0, the first in this order counts.
    name: for example 'train'.
    batch_size: global batch size.
    num_examples: size of the training set of this network.

  Returns:
    The number of steps, at least 1.

  Raises:
    InputError: if all three are absent or 0, or one is negative.
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
  """True at each multiple of `every` and at the last step."""
  return step % every == 0 or step == last


def learning_rate(config, total_steps: int) -> optax.Schedule:
  """Linear warm-up to `config.learning_rate`, then the named decay.

  Args:
    config: `learning_rate`; `schedule`: 'constant', 'cosine' (to 0) or 'step'
      (times `step_factor` at each of `step_at`, shares of the run);
      `warmup`: share of the run.
    total_steps: length of the run.

  Returns:
    Function of the step.

  Raises:
    InputError: for another schedule.
  """
  peak = config.learning_rate
  warmup = round(config.warmup * total_steps)
  if config.schedule == 'constant':
    decay = optax.constant_schedule(peak)
  elif config.schedule == 'cosine':
    decay = optax.cosine_decay_schedule(peak, max(1, total_steps - warmup))
  elif config.schedule == 'step':
    boundaries = {
      round(share * total_steps) - warmup: config.step_factor
      for share in config.step_at
    }
    decay = optax.piecewise_constant_schedule(peak, boundaries)
  else:
    raise InputError(
      f"config.optimizer.schedule is '{config.schedule}', valid values are "
      "'constant', 'cosine' and 'step'."
    )
  ramp = optax.linear_schedule(0.0, peak, max(1, warmup))
  return optax.join_schedules([ramp, decay], [warmup])


def loss_weights(config, total_steps: int):
  """Weights of the losses as functions of the step.

  Equation 4 of Liu et al. (2016) prints, for auxiliary losses, a weight of 1 up
  to t1, then a ramp that climbs from 0 back to 1 at t2, then 0. The readings
  (docs/methods.md A14):
  * 'ramp_down': 1, then (t2 - t) / (t2 - t1), then 0. The likely intent.
  * 'paper_literal': 1, then (t - t1) / (t2 - t1), then 0.
  * 'author_issue6': auxiliary losses stay at 1; positions 1 up to t1, then 20.
  * 'constant': all stay at their weights.

  Args:
    config: `weight_schedule`, `weight_t1` and `weight_t2` (shares of the run;
      Liu et al.: 2000 and 4000 of 10,000 iterations), `weights` with the names
      that are returned.
    total_steps: length of the run.

  Returns:
    Function of the step to each name of `config.weights`; 'visibility' and
    'pseudo_label' are the auxiliary ones.

  Raises:
    InputError: for another schedule.
  """
  t1 = config.weight_t1 * total_steps
  t2 = config.weight_t2 * total_steps
  ramp = optax.linear_schedule(1.0, 0.0, max(1, round(t2 - t1)), round(t1))
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
  return lambda step: {
    name: weight * scales.get(name, main)(step)
    for name, weight in config.weights.items()
  }


def optimizer(config, total_steps: int) -> optax.GradientTransformation:
  """Gradient clipping, then SGD with momentum, Adam or AdamW.

  Weight decay acts on kernels only, not on biases and batch-norm scales.

  Args:
    config: `name`, `momentum`, `weight_decay`, `clip_norm` (0: no clipping)
      and the fields of `learning_rate`.
    total_steps: length of the run.

  Returns:
    The transformation.

  Raises:
    InputError: for another name.
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
  first = optax.clip_by_global_norm(clip) if clip else optax.identity()
  return optax.chain(first, *rule, optax.scale_by_learning_rate(rate))
