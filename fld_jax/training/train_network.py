"""The loop that trains one network."""

import contextlib
import logging
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import flax.struct
from clu import parameter_overview
from tqdm import tqdm

from fld_jax import input_pipeline
from fld_jax.cascade import stage as stage_lib
from fld_jax.errors import Preempted
from fld_jax.pretrained import torchvision
from fld_jax.runtime import checkpoint, processes
from fld_jax.runtime.parallel import Parallel
from fld_jax.training import schedules, train_step
from fld_jax.training.step_log import StepLog
from fld_jax.training.tensorboard import Curves

logger = logging.getLogger('fld_jax')


@flax.struct.dataclass
class Job:
  """What one network is trained on.

  Attributes:
    name: 'stage1', or 'stage3/hard' for a branch.
    directory: of its checkpoints.
    model: the Linen module.
    stage: the stage's config.
    records: its training images.
    previous_models, previous: modules and variables of the stages before.
    clusters: {'centres'} of the pseudo-labels, or {}.
    initial: variables to start from, or None for random ones.
    tune_ne: function of the network's variables to macro NE on held-out
      images, and its standard error.
    seed: of everything random in this network's training.
  """

  name: str
  directory: pathlib.Path
  model: Any
  stage: Any
  records: Any
  previous_models: tuple
  previous: tuple
  clusters: dict
  initial: Any
  tune_ne: Callable
  seed: int


def train_network(job: Job, config, parallel: Parallel, workdir) -> None:
  """Trains a network to its end, from wherever its checkpoints stand.

  The order at the end of a step is fixed: evaluate, then save with the data
  iterator just after the step's batch, then fetch the next batch. So a resumed
  run sees exactly the batches and figures of an unbroken one.

  Args:
    job: what to train on.
    config: the run's config.
    parallel: the devices.
    workdir: the run's folder, for event files.

  Raises:
    InputError: the loss is not a finite number, or the disk is full.
    Preempted: the run was asked to end, and is saved.
    LostProcess: another process did not come to a step.
  """
  total = schedules.num_steps(
    job.stage,
    'train',
    batch_size=config.batch_size,
    num_examples=len(job.records),
  )
  every = schedules.num_steps(
    job.stage,
    'eval',
    batch_size=config.batch_size,
    num_examples=len(job.records),
  )
  # Outermost: what is being saved when the run is asked to end gets saved.
  with (
    processes.preemption_waits(),
    checkpoint.Checkpoints(job.directory) as checkpoints,
  ):
    checkpoints.write_missing_checksums()
    done = checkpoints.last_step()
    if done >= total:
      return
    # --- state and step -----------------------------------------------------
    variables = stage_lib.init_variables(job.model, config, job.seed)
    if job.initial is not None:
      variables = job.model.warm_start(
        variables, job.initial, config.offset_scale
      )
    elif config.pretrained and not done:
      variables = _pretrained(job, config, variables)
    optimizer = schedules.optimizer(job.stage.optimizer, total)
    state = checkpoint.to_host(
      train_step.TrainState.create(variables, optimizer)
    )
    share = (processes.index(), processes.count())
    iterator = input_pipeline.train_batches(
      job.records, config, seed=job.seed, share=share
    )
    history, seen = [], StepLog()
    if done:
      state, progress, history = checkpoints.restore_last(state)
      iterator.set_state(progress['iterator'])
      seen.restore(progress['seen'])
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
    step_fn = train_step.on_devices(
      train_step.make_train_step(
        job.model,
        job.previous_models,
        config,
        job.stage,
        schedules.loss_weights(job.stage, total),
        optimizer,
        job.seed,
      ),
      parallel,
    )
    state = parallel.replicate(state)
    previous = parallel.replicate(job.previous)
    clusters = parallel.replicate(job.clusters)
    # --- loop ---------------------------------------------------------------
    main = processes.is_main()
    curves = contextlib.nullcontext()
    if main:
      curves = Curves(workdir / 'tensorboard' / job.name, done + 1)
    bar = tqdm(
      total=total * config.batch_size,
      initial=done * config.batch_size,
      desc=job.name,
      unit='img',
      unit_scale=True,
      mininterval=0.5 if sys.stderr.isatty() else 15,
      dynamic_ncols=True,
      disable=not main,
    )

    def save(step: int, host, ne: float, standard_error: float) -> None:
      progress = {'iterator': iterator.get_state(), 'seen': seen.to_json()}
      checkpoints.save(step, host, progress, history, ne, standard_error)

    since = time.monotonic()
    with curves, bar:
      for step in range(done + 1, total + 1):
        batch = next(iterator)
        processes.barrier(f'step {step} of {job.name}')
        state, metrics = step_fn(
          state,
          previous,
          clusters,
          parallel.shard(input_pipeline.device_part(batch, share)),
        )
        seen.add(step, parallel.unreplicate(metrics), batch)
        bar.update(config.batch_size)
        ends = schedules.is_time(step, every, total)
        leaves = processes.preempted()
        if (
          ends
          or leaves
          or schedules.is_time(step, config.log_every_steps, total)
        ):
          seen.check(job.name, config.on_nan, checkpoints.last_step)
        if ends or schedules.is_time(step, config.log_every_steps, total):
          means = seen.means()
          speed = len(seen) * config.batch_size / (time.monotonic() - since)
          means['images_per_second'] = speed
          if main:
            curves.write(step, {f'train/{k}': v for k, v in means.items()})
          bar.set_postfix(
            {k: f'{v:.4g}' for k, v in means.items() if 'image' not in k},
            refresh=False,
          )
          seen.clear()
          since = time.monotonic()
        if ends:
          host = checkpoint.to_host(parallel.unreplicate(state))
          ne, standard_error = job.tune_ne(host.variables)
          history.append(
            {
              'step': step,
              'images': step * config.batch_size,
              'error': means['error'],
              'loss': means['loss'],
              'tune_ne': ne,
            }
          )
          if main:
            curves.write(step, {'tune/ne': ne})
            bar.write(
              f'{job.name} step {step}/{total}: '
              f'{means["images_per_second"]:.0f} images/s, train error '
              f'{means["error"]:.4f}, tune NE {100 * ne:.2f} %',
              file=sys.stderr,
            )
          save(step, host, ne, standard_error)
          since = time.monotonic()
        if leaves:
          if not ends:
            host = checkpoint.to_host(parallel.unreplicate(state))
            save(step, host, float('inf'), 0.0)
          raise Preempted(f'{job.name} is saved at step {step} of {total}.')


def _pretrained(job: Job, config, variables: dict) -> dict:
  """The fresh variables, with the trunk of the file `config.pretrained`."""
  path = pathlib.Path(config.pretrained).expanduser()
  variables, left_out = torchvision.start_trunk(
    path, variables, config.model.name
  )
  logger.info(
    '%s starts from %s, of which it leaves out %s.',
    job.name,
    path,
    ', '.join(k for k in left_out if not k.endswith('tracked')) or 'nothing',
  )
  return variables
