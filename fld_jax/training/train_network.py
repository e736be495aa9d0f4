"""The loop that trains one network."""

import contextlib
import logging
import pathlib
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import flax.struct
import jax
from clu import parameter_overview
from ml_collections import ConfigDict
from tqdm import tqdm

from fld_jax import input_pipeline
from fld_jax.cascade.forward import Forward, Variables
from fld_jax.errors import Preempted
from fld_jax.input_pipeline import Pipeline, Records
from fld_jax.runtime import checkpoint, processes
from fld_jax.runtime.parallel import Parallel
from fld_jax.training import schedules, train_step
from fld_jax.training.objective import Objective
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
    pipeline: How they become batches.
    forward: How outputs become landmarks.
    objective: What the network is trained towards.
    previous_models: The modules of the stages before.
    previous: Their variables.
    clusters: Holds `centres` of the pseudo-labels, or {}.
    initial: Makes the variables to start from. It is called with True if the
      training is begun, and with False if it is resumed, when their structure
      is all that counts.
    tune_ne: Function of the network's variables to macro NE on held-out
      images, and its standard error.
    seed: Seed of everything random in this network's training.
    log_every: Steps between two entries of the log.
    on_nan: What to do about a loss that is not finite: 'stop' or 'skip'.
  """

  name: str
  directory: pathlib.Path
  model: nn.Module
  stage: ConfigDict
  records: Records
  pipeline: Pipeline
  forward: Forward
  objective: Objective
  previous_models: tuple[nn.Module, ...]
  previous: tuple[Variables, ...]
  clusters: dict[str, Any]
  initial: Callable[[bool], Variables]
  tune_ne: Callable[[Variables], tuple[float, float]]
  seed: int
  log_every: int
  on_nan: str

  def num_steps(self, name: str) -> int:
    """Computes a duration of the stage in steps.

    Args:
      name: The duration: 'train', the whole training, or 'eval', the time from
        one evaluation to the next.

    Returns:
      The number of steps, at least 1.

    Raises:
      InputError: If the stage's config does not set the duration.
    """
    return schedules.num_steps(
      self.stage,
      name,
      batch_size=self.pipeline.batch_size,
      num_examples=len(self.records),
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
  total, every = job.num_steps('train'), job.num_steps('eval')
  # Outermost, so that a save that has begun is finished before the run ends.
  with (
    processes.preemption_waits(),
    checkpoint.Checkpoints(job.directory) as checkpoints,
  ):
    checkpoints.write_missing_checksums()
    done = checkpoints.last_step()
    if done >= total:
      return
    training = _Training(job, parallel, checkpoints, total)
    with (
      _curves(workdir / 'tensorboard' / job.name, done + 1) as curves,
      _progress_bar(job, done, total) as bar,
    ):
      for step in range(done + 1, total + 1):
        batch = next(training.iterator)
        # A process that is gone is noticed here, on the host: a collective of
        # the devices would wait for it for ever.
        processes.barrier(f'step {step} of {job.name}')
        training.update(step, batch)
        bar.update(job.pipeline.batch_size)
        ends = schedules.is_time(step, every, total)
        logs = ends or schedules.is_time(step, job.log_every, total)
        # All processes ask after every step and hear the same, so that all of
        # them leave after the same one.
        leaves = processes.preempted()
        if logs or leaves:
          # Before anything is saved: a checkpoint never holds a loss that is
          # not finite.
          training.step_log.check(job.name, job.on_nan, checkpoints.last_step)
        if logs:
          means = training.log(step, curves, bar)
        if ends:
          # Evaluated before it is saved, since a checkpoint is kept or deleted
          # by its NE.
          training.evaluate_and_save(step, means, curves, bar)
        if leaves:
          if not ends:
            training.save(step, training.host_state(), float('inf'), 0.0)
          raise Preempted(f'{job.name} is saved at step {step} of {total}.')


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
    total: int,
  ):
    """Starts a network, or restores it from its last checkpoint.

    Args:
      job: The network, its data and its settings.
      parallel: The devices.
      checkpoints: The network's checkpoints.
      total: The number of steps of the whole training.
    """
    self._job, self._parallel, self._total = job, parallel, total
    self._checkpoints = checkpoints
    self._share = (processes.index(), processes.count())
    self.iterator = input_pipeline.train_batches(
      job.records, job.pipeline, seed=job.seed, share=self._share
    )
    self.step_log, self.history = StepLog(), []
    done = checkpoints.last_step()
    variables = job.initial(not done)
    optimizer = schedules.optimizer(job.stage.optimizer, total)
    state = checkpoint.to_host(
      train_step.TrainState.create(variables, optimizer)
    )
    if done:
      state, progress, self.history = checkpoints.restore_last(state)
      self.iterator.set_state(progress['iterator'])
      self.step_log.restore(progress['seen'])
      logger.info('%s continues from step %d of %d.', job.name, done, total)
    else:
      logger.info(
        '%s: %d steps on %d images.\n%s',
        job.name,
        total,
        len(job.records),
        parameter_overview.get_parameter_overview(
          variables['params'], include_stats=False
        ),
      )
    self._step = train_step.on_devices(
      train_step.make_train_step(
        job.model,
        job.previous_models,
        job.forward,
        job.objective,
        schedules.loss_weights(job.stage, total),
        optimizer,
        seed=job.seed,
        skip_nan=job.on_nan == 'skip',
      ),
      parallel,
    )
    self._state = parallel.replicate(state)
    self._previous = parallel.replicate(job.previous)
    self._clusters = parallel.replicate(job.clusters)
    self._since = time.monotonic()

  def update(self, step: int, batch: dict[str, Any]) -> None:
    """Updates the network by one step.

    Args:
      step: The number of the step, from 1 on.
      batch: This process's share of the step's batch, from `train_batches`.
    """
    part = input_pipeline.device_part(batch, self._share)
    with jax.profiler.StepTraceAnnotation(self._job.name, step_num=step):
      self._state, metrics = self._step(
        self._state, self._previous, self._clusters, self._parallel.shard(part)
      )
    self.step_log.add(step, self._parallel.unreplicate(metrics), batch)

  def log(
    self, step: int, curves: Curves | None, bar: tqdm
  ) -> dict[str, float]:
    """Writes and returns the means of the steps since the last entry.

    Args:
      step: The number of the last step.
      curves: The event file, None on all processes but the main one.
      bar: The progress bar.

    Returns:
      Name of the metric -> its mean, and `images_per_second`.
    """
    means = self.step_log.means()
    images = len(self.step_log) * self._job.pipeline.batch_size
    means['images_per_second'] = images / (time.monotonic() - self._since)
    if curves:
      curves.write(step, {f'train/{k}': v for k, v in means.items()})
    bar.set_postfix(
      {k: f'{v:.4g}' for k, v in means.items() if 'image' not in k},
      refresh=False,
    )
    self.step_log.clear()
    self._since = time.monotonic()
    return means

  def evaluate_and_save(
    self,
    step: int,
    means: dict[str, float],
    curves: Curves | None,
    bar: tqdm,
  ) -> None:
    """Measures NE on held-out images, adds to the curve, and saves.

    Args:
      step: The number of the last step.
      means: The means that `log` has returned for this step.
      curves: The event file, None on all processes but the main one.
      bar: The progress bar.
    """
    state = self.host_state()
    ne, standard_error = self._job.tune_ne(state.variables)
    self.history.append(
      {
        'step': step,
        'images': step * self._job.pipeline.batch_size,
        'error': means['error'],
        'loss': means['loss'],
        'tune_ne': ne,
      }
    )
    if curves:
      curves.write(step, {'tune/ne': ne})
      bar.write(
        f'{self._job.name} step {step}/{self._total}: '
        f'{means["images_per_second"]:.0f} images/s, train error '
        f'{means["error"]:.4f}, tune NE {100 * ne:.2f} %',
        file=sys.stderr,
      )
    self.save(step, state, ne, standard_error)
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
    self._checkpoints.save(
      step, state, progress, self.history, ne, standard_error
    )


def _curves(
  directory: pathlib.Path, step: int
) -> AbstractContextManager[Curves | None]:
  """Opens the event file on the main process; it is None on the others."""
  if processes.is_main():
    return Curves(directory, step)
  return contextlib.nullcontext()


def _progress_bar(job: Job, done: int, total: int) -> tqdm:
  """Makes the bar that counts images, silent on all but the main process."""
  return tqdm(
    total=total * job.pipeline.batch_size,
    initial=done * job.pipeline.batch_size,
    desc=job.name,
    unit='img',
    unit_scale=True,
    mininterval=0.5 if sys.stderr.isatty() else 15,
    dynamic_ncols=True,
    disable=not processes.is_main(),
  )
