"""The loop that trains one network."""

import contextlib
import logging
import pathlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import flax.struct
import jax
from ml_collections import ConfigDict

from fld_jax import input_pipeline
from fld_jax.cascade.forward import Forward, Variables
from fld_jax.errors import Preempted
from fld_jax.input_pipeline import Pipeline, Records
from fld_jax.runtime import checkpoint, compile_times, processes
from fld_jax.runtime.parallel import Parallel
from fld_jax.training import schedules, train_step
from fld_jax.training.objective import Objective
from fld_jax.training.progress import Progress
from fld_jax.training.step_log import StepLog
from fld_jax.training.tensorboard import Curves

logger = logging.getLogger('fld_jax')


@flax.struct.dataclass
class Job:
  """What one network is trained on.

  Attributes:
    name: 'stage1', or 'stage3/hard' for a branch.
    directory: The folder of its checkpoints.
    model: The Linen module.
    stage: The stage's config.
    records: Its training images.
    epoch: The number of images of an epoch, by which its length is counted.
    has_known_start: Whether it starts as a network that was chosen before. Then
      the start is evaluated, and is the first candidate of its checkpoints.
    pipeline: How they become batches.
    forward: How outputs become landmarks.
    objective: What the network is trained towards.
    previous_models: The modules of the stages before.
    previous: Their variables.
    given: The numbers that tell its train step from another's.
    initial: Makes the variables to start from. It is called with True if the
      training is begun, and with False if it is resumed, when their structure
      is all that counts.
    tune_ne: Function of the network's variables to macro NE on held-out
      images, and its standard error.
    guess: The macro NE on the same images of a guess that ignores the image;
      None if it cannot be measured.
    show: A function that is called at each evaluation, with the curve so far
      and whether this is its last point.
    seed: Seed of the order of its images and of their augmentation.
    log_every: Steps between two entries of the log.
    on_nan: What to do about a loss that is not finite: 'stop' or 'skip'.
  """

  name: str
  directory: pathlib.Path
  model: nn.Module
  stage: ConfigDict
  records: Records
  epoch: int
  has_known_start: bool
  pipeline: Pipeline
  forward: Forward
  objective: Objective
  previous_models: tuple[nn.Module, ...]
  previous: tuple[Variables, ...]
  given: train_step.Given
  initial: Callable[[bool], Variables]
  tune_ne: Callable[[Variables], tuple[float, float]]
  guess: float | None
  show: Callable[[list[dict], bool], None]
  seed: int
  log_every: int
  on_nan: str

  def plan(self) -> schedules.Plan:
    """When this network is evaluated and saved, and when its training ends.

    Raises:
      InputError: If the stage's config does not set the durations.
    """
    return schedules.Plan.of(
      self.stage,
      batch_size=self.pipeline.batch_size,
      num_examples=self.epoch,
    )

  def program(self, what: str) -> str:
    """A name of one of this network's programs, for `compile_times`.

    Args:
      what: The program.
    """
    sizes = (self.pipeline.batch_size, self.pipeline.size)
    return compile_times.name_of(
      what, sizes, self.model, self.previous_models, self.stage.to_json()
    )


def train_network(job: Job, parallel: Parallel, workdir: pathlib.Path) -> None:
  """Trains a network to its end, from its last checkpoint on.

  The order at the end of a step is fixed: evaluate, then save with the data
  iterator just after the step's batch, then fetch the next batch. So a resumed
  run sees exactly the batches and figures of an unbroken one.

  Args:
    job: The network, its data and its settings.
    parallel: The devices.
    workdir: The run's folder, for event files.

  Raises:
    InputError: If the loss is not finite, or the disk is full.
    Preempted: If the run was asked to end; its state is saved.
    LostProcess: If another process did not come to a step.
  """
  plan = job.plan()
  total = plan.total
  # Outermost, so that a save that has begun is finished before the run ends.
  with (
    processes.preemption_waits(),
    checkpoint.Checkpoints(job.directory) as checkpoints,
  ):
    checkpoints.write_missing_checksums()
    done = checkpoints.last_step()
    if done >= total:
      return
    _announce(job, plan, done)
    training = _Training(job, parallel, checkpoints, plan)
    starts = job.has_known_start and not checkpoints.has_steps()
    first = 0 if starts else done + 1
    with (
      _curves(workdir / 'tensorboard' / job.name, first) as curves,
      Progress(job.name, plan, done, job.guess) as progress,
    ):
      if starts:
        training.evaluate(0, {}, curves, progress, saves=True)
      for step in range(done + 1, total + 1):
        batch = next(training.iterator)
        # A process that is gone is noticed here, on the host: a collective of
        # the devices would wait for it for ever.
        processes.barrier(f'step {step} of {job.name}')
        with progress.compiling(
          job.program('train'), 'the training', step == done + 1
        ):
          training.update(step, batch)
        progress.update(step)
        evaluates = step in plan.evaluations
        saves = schedules.is_time(step, plan.save_every, total)
        logs = evaluates or schedules.is_time(step, job.log_every, total)
        # All processes ask after every step and hear the same, so that all of
        # them leave after the same one.
        leaves = processes.preempted()
        if logs or leaves:
          # Before anything is saved: a checkpoint never holds a loss that is
          # not finite.
          training.step_log.check(job.name, job.on_nan, checkpoints.last_step)
        if logs:
          means = training.log(step, curves, progress)
        if evaluates:
          # Evaluated before it is saved, since a checkpoint is kept or deleted
          # by its NE.
          training.evaluate(step, means, curves, progress, saves=saves)
        if leaves:
          if not saves:
            training.save(step, training.host_state(), float('inf'), 0.0)
          raise Preempted(f'{job.name} is saved at step {step} of {total}.')


def _announce(job: Job, plan: schedules.Plan, done: int) -> None:
  """Says how long a network is trained, and on how much.

  Args:
    job: The network, its data and its settings.
    plan: The length of the training.
    done: The number of updates that earlier starts have done.
  """
  if done:
    logger.info('%s continues from step %d of %d.', job.name, done, plan.total)
    return
  why = ''
  if plan.total > plan.wished:
    why = f' (its min_steps; its train_epochs would be {plan.wished})'
  logger.info(
    '%s: %d updates%s on %d images, %d evaluations.',
    job.name,
    plan.total,
    why,
    len(job.records),
    len(plan.evaluations),
  )


class _Training:
  """A network in training: its state on the devices, and its curves.

  Attributes:
    iterator: The data iterator, just after the last step's batch.
    step_log: The metrics of the steps since the last entry of the log.
    history: The curve so far, one point for each evaluation.
  """

  def __init__(
    self,
    job: Job,
    parallel: Parallel,
    checkpoints: checkpoint.Checkpoints,
    plan: schedules.Plan,
  ):
    """Starts a network, or restores it from its last checkpoint.

    Args:
      job: The network, its data and its settings.
      parallel: The devices.
      checkpoints: The network's checkpoints.
      plan: The length of the training.
    """
    self._job, self._parallel, total = job, parallel, plan.total
    self._rate = schedules.learning_rate(job.stage.optimizer, total)
    self._checkpoints = checkpoints
    self._share = (processes.index(), processes.count())
    self.iterator = input_pipeline.train_batches(
      job.records,
      job.pipeline,
      seed=job.seed,
      steps=plan.total,
      share=self._share,
    )
    self.step_log, self.history = StepLog(), []
    self._is_first_evaluation, self._last = True, total
    begun = checkpoints.has_steps()
    variables = job.initial(not begun)
    optimizer = schedules.optimizer(
      job.stage.optimizer, total, job.model.backbone
    )
    average = job.stage.average
    state = checkpoint.to_host(
      train_step.TrainState.create(variables, optimizer, average)
    )
    if begun:
      state, progress, self.history = checkpoints.restore_last(state)
      self.iterator.set_state(progress['iterator'])
      self.step_log.restore(progress['seen'])
    self._step = train_step.on_devices(
      train_step.make_train_step(
        job.model,
        job.previous_models,
        job.forward,
        job.objective,
        schedules.loss_weights(job.stage, total),
        optimizer,
        average=average,
        skip_nan=job.on_nan == 'skip',
      ),
      parallel,
    )
    self._state = parallel.replicate(state)
    self._previous = parallel.replicate(job.previous)
    self._given = parallel.replicate(job.given)
    self._since = time.monotonic()

  def update(self, step: int, batch: dict[str, Any]) -> None:
    """Updates the network by one step.

    Args:
      step: The number of the step, from 1 on.
      batch: This process's share of the step's batch, from `train_batches`.
    """
    part = input_pipeline.device_part(batch, self._share)
    if self._job.stage.weights.attributes:
      part['attributes'] = batch['attributes']
    with jax.profiler.StepTraceAnnotation(self._job.name, step_num=step):
      self._state, metrics = self._step(
        self._state, self._previous, self._given, self._parallel.shard(part)
      )
    self.step_log.add(step, self._parallel.unreplicate(metrics), batch)

  def log(
    self, step: int, curves: Curves | None, progress: Progress
  ) -> dict[str, float]:
    """Writes and returns the means of the steps since the last entry.

    Args:
      step: The number of the last step.
      curves: The event file, None on all processes but the main one.
      progress: What the console shows.

    Returns:
      Name of the metric -> its mean, and `images_per_second`.
    """
    means = self.step_log.means()
    images = len(self.step_log) * self._job.pipeline.batch_size
    means['images_per_second'] = images / (time.monotonic() - self._since)
    if curves:
      curves.write(step, {f'train/{k}': v for k, v in means.items()})
    progress.show_loss(means['loss'])
    self.step_log.clear()
    self._since = time.monotonic()
    return means

  def evaluate(
    self,
    step: int,
    means: dict[str, float],
    curves: Curves | None,
    progress: Progress,
    *,
    saves: bool,
  ) -> None:
    """Measures NE on held-out images, and adds to the curve.

    Args:
      step: The number of the last step; 0 for the start.
      means: The means that `log` has returned for this step; {} at the start.
      curves: The event file, None on all processes but the main one.
      progress: What the console shows.
      saves: Whether a checkpoint is saved; otherwise the next start, if this
        one is killed, makes this point of the curve again.
    """
    job, state = self._job, self.host_state()
    with progress.compiling(
      job.program('evaluation'), 'the evaluation', self._is_first_evaluation
    ):
      ne, standard_error = job.tune_ne(state.variables)
    self._is_first_evaluation = False
    point = {
      **{k: v for k, v in means.items() if 'image' not in k},
      'step': step,
      'images': step * job.pipeline.batch_size,
      'tune_ne': ne,
    }
    if step:
      # Without the digits that float32 does not have.
      rate = float(f'{float(self._rate(step - 1)):.6g}')
      point['learning_rate'] = rate
    tune = {'ne': ne}
    if job.guess is not None:
      point['mean_position_ne'] = tune['mean_position_ne'] = job.guess
    self.history.append(point)
    if curves:
      curves.write(step, {f'tune/{name}': v for name, v in tune.items()})
    progress.evaluated(step, ne)
    if saves:
      self.save(step, state, ne, standard_error)
    job.show(self.history, step == self._last)
    self._since = time.monotonic()

  def host_state(self) -> train_step.TrainState:
    """Returns the present state, on the host."""
    return checkpoint.to_host(self._parallel.unreplicate(self._state))

  def save(
    self,
    step: int,
    state: train_step.TrainState,
    ne: float,
    standard_error: float,
  ) -> None:
    """Saves the state, and the data iterator just after the step's batch.

    Args:
      step: The number of the last step.
      state: The state on the host.
      ne: The macro NE on held-out images, infinite if it was not measured.
      standard_error: The standard error of the NE.
    """
    progress = {
      'iterator': self.iterator.get_state(),
      'seen': self.step_log.to_json(),
    }
    starts = [p['tune_ne'] for p in self.history[:1] if not p['step']]
    self._checkpoints.save(
      step,
      state,
      progress,
      self.history,
      ne,
      standard_error,
      *starts,
    )


def _curves(
  directory: pathlib.Path, step: int
) -> AbstractContextManager[Curves | None]:
  """Opens the event file on the main process; it is None on the others."""
  if processes.is_main():
    return Curves(directory, step)
  return contextlib.nullcontext()
