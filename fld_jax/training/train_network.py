"""The loop that trains one network."""

import contextlib
import logging
import pathlib
import sys
import time
from collections.abc import Callable
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
    """The stage's duration 'train' or 'eval' in steps."""
    return schedules.num_steps(
      self.stage,
      name,
      batch_size=self.pipeline.batch_size,
      num_examples=len(self.records),
    )


def train_network(job: Job, parallel: Parallel, workdir: pathlib.Path) -> None:
  """Trains a network to its end, from wherever its checkpoints stand.

  The order at the end of a step is fixed: evaluate, then save with the data
  iterator just after the step's batch, then fetch the next batch. So a resumed
  run sees exactly the batches and figures of an unbroken one.

  Args:
    job: What to train, and on what.
    parallel: The devices.
    workdir: The run's folder, for event files.

  Raises:
    InputError: The loss is not a finite number, or the disk is full.
    Preempted: The run was asked to end, and is saved.
    LostProcess: Another process did not come to a step.
  """
  total, every = job.num_steps('train'), job.num_steps('eval')
  # Outermost: what is being saved when the run is asked to end gets saved.
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
  """A network in training: its state on the devices, and what is kept of it.

  Attributes:
    iterator: The data iterator, just after the last step's batch.
    step_log: Metrics of the steps since the last entry of the log.
    history: The curve so far, a point an evaluation.
  """

  def __init__(
    self,
    job: Job,
    parallel: Parallel,
    checkpoints: checkpoint.Checkpoints,
    total: int,
  ):
    """Starts a network, or takes it up from its last checkpoint."""
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

  def update(self, step: int, batch: dict) -> None:
    """Updates the network by a batch, of this process's share."""
    part = input_pipeline.device_part(batch, self._share)
    with jax.profiler.StepTraceAnnotation(self._job.name, step_num=step):
      self._state, metrics = self._step(
        self._state, self._previous, self._clusters, self._parallel.shard(part)
      )
    self.step_log.add(step, self._parallel.unreplicate(metrics), batch)

  def log(self, step: int, curves, bar: tqdm) -> dict[str, float]:
    """Writes and returns the means of the steps since the last entry."""
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
    self, step: int, means: dict[str, float], curves, bar: tqdm
  ) -> None:
    """Measures NE on held-out images, adds to the curve, and saves."""
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
    """The present state, on the host."""
    return checkpoint.to_host(self._parallel.unreplicate(self._state))

  def save(
    self,
    step: int,
    state: train_step.TrainState,
    ne: float,
    standard_error: float,
  ) -> None:
    """Saves the state with the data iterator just after the step's batch."""
    progress = {
      'iterator': self.iterator.get_state(),
      'seen': self.step_log.to_json(),
    }
    self._checkpoints.save(
      step, state, progress, self.history, ne, standard_error
    )


def _curves(directory: pathlib.Path, step: int):
  """The event files on the main process, None on the others."""
  if processes.is_main():
    return Curves(directory, step)
  return contextlib.nullcontext()


def _progress_bar(job: Job, done: int, total: int) -> tqdm:
  """Counts images; on the main process alone."""
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
