"""The loop that trains one network."""

import logging
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import numpy as np
from clu import parameter_overview
from tensorboardX import SummaryWriter
from tqdm import tqdm

from fld_jax import checkpoint, input_pipeline, schedules, train_step
from fld_jax import stage as stage_lib
from fld_jax.parallel import Parallel

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
      images.
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
  with checkpoint.Checkpoints(job.directory) as checkpoints:
    done = checkpoints.last_step()
    if done >= total:
      return
    # --- state and step -----------------------------------------------------
    variables = stage_lib.init_variables(job.model, config, job.seed)
    if job.initial is not None:
      variables = stage_lib.start_from(
        variables, job.initial, config.offset_scale
      )
    optimizer = schedules.optimizer(job.stage.optimizer, total)
    state = checkpoint.to_host(
      train_step.TrainState(
        step=np.zeros((), np.int32),
        variables=variables,
        opt_state=optimizer.init(variables['params']),
      )
    )
    iterator = input_pipeline.train_batches(job.records, config, seed=job.seed)
    history = []
    if done:
      state, history = checkpoints.restore_last(state, iterator)
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
    step_fn = parallel.wrap(
      train_step.make_train_step(
        job.model,
        job.previous_models,
        config,
        job.stage,
        schedules.loss_weights(job.stage, total),
        optimizer,
        job.seed,
      ),
      sharded_in=(False, False, False, True),
      sharded_out=(False, False),
      donate=(0,),
    )
    state = parallel.replicate(state)
    previous = parallel.replicate(job.previous)
    clusters = parallel.replicate(job.clusters)
    # --- loop ---------------------------------------------------------------
    writer = SummaryWriter(
      str(workdir / 'tensorboard' / job.name), purge_step=done + 1
    )
    progress = tqdm(
      total=total * config.batch_size,
      initial=done * config.batch_size,
      desc=job.name,
      unit='img',
      unit_scale=True,
      mininterval=0.5 if sys.stderr.isatty() else 15,
      dynamic_ncols=True,
    )
    waiting, since, corrupt = [], time.monotonic(), 0
    with writer, progress:
      for step in range(done + 1, total + 1):
        batch = next(iterator)
        corrupt += int(batch['corrupt'].sum())
        state, metrics = step_fn(
          state,
          previous,
          clusters,
          parallel.shard(input_pipeline.device_part(batch)),
        )
        waiting.append(metrics)
        progress.update(config.batch_size)
        ends = schedules.is_time(step, every, total)
        if ends or schedules.is_time(step, config.log_every_steps, total):
          means = _mean(parallel, waiting)
          elapsed = time.monotonic() - since
          means['images_per_second'] = (
            len(waiting) * config.batch_size / elapsed
          )
          means['corrupt_images'] = corrupt
          for name, value in means.items():
            writer.add_scalar(f'train/{name}', value, step)
          progress.set_postfix(
            {k: f'{v:.4g}' for k, v in means.items() if 'image' not in k},
            refresh=False,
          )
          waiting, since = [], time.monotonic()
        if ends:
          host = checkpoint.to_host(parallel.unreplicate(state))
          ne = job.tune_ne(host.variables)
          writer.add_scalar('tune/ne', ne, step)
          history.append(
            {
              'step': step,
              'images': step * config.batch_size,
              'error': means['error'],
              'loss': means['loss'],
              'tune_ne': ne,
            }
          )
          progress.write(
            f'{job.name} step {step}/{total}: '
            f'{means["images_per_second"]:.0f} images/s, train error '
            f'{means["error"]:.4f}, tune NE {100 * ne:.2f} %',
            file=sys.stderr,
          )
          checkpoints.save(step, host, iterator, history, ne)
          since = time.monotonic()


def _mean(parallel: Parallel, metrics: list[dict]) -> dict[str, float]:
  host = jax.device_get([parallel.unreplicate(m) for m in metrics])
  return {k: float(np.mean([m[k] for m in host])) for k in host[0]}
