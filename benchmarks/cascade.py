"""What the parts of a trained cascade are worth, on one split.

  python benchmarks/cascade.py WORKDIR [--split=val] [--batch=50]

Prints
* the NE of each stage, and its change against the stage before on the same
  images, with the bootstrap's standard error;
* the NE of the second stage, given the first one's landmarks, the mean of those
  over the images, those of another image, and the truth: a stage that makes
  nothing of its estimate has the same NE with all of them;
* the rank correlation of the routing score with the NE of each stage;
* the branches against the stage before them, by variation.

The data must be where the run's manifest says. NE are in per cent.
"""

import argparse
import pathlib

import numpy as np

from fld_jax import input_pipeline, schema
from fld_jax.cascade import store
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.forward import apply_stage, normalise_images
from fld_jax.cascade.setup import Setup, resolve
from fld_jax.cascade.stage import ALL, Stage
from fld_jax.config import set_xla_cpu_flags
from fld_jax.configs import trained
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.evaluation import evaluate
from fld_jax.metrics import normalised_error, routing
from fld_jax.metrics.predictions import Predictions, counted
from fld_jax.runtime.parallel import Parallel

RESAMPLES = 1000
Errors = dict[str, np.ndarray]  # stage -> (n, N) NE, NaN where not counted


def errors_of(predictions: Predictions, norm: str) -> Errors:
  """Measures every landmark that counts, by each stage.

  Args:
    predictions: The examples.
    norm: The length that errors are divided by.
  """
  visible = counted(predictions.visibility)
  return {
    stage: np.where(
      visible,
      normalised_error.normalised_errors(predictions, stage, norm),
      np.nan,
    )
    for stage in predictions.estimates
  }


def macro(errors: np.ndarray) -> float:
  """The mean over landmarks of their mean NE, in per cent.

  Args:
    errors: (n, N) NE, NaN where not counted.
  """
  known = np.isfinite(errors)
  total, count = np.where(known, errors, 0).sum(0), known.sum(0)
  return 100 * float((total[count > 0] / count[count > 0]).mean())


def change(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
  """Computes a change of macro NE and its standard error, in per cent.

  Images are drawn anew, each with both of its errors, so that what is hard for
  both cancels.

  Args:
    before: (n, N) NE, NaN where not counted.
    after: (n, N) NE of the same landmarks.
  """
  rng, draws = np.random.default_rng(0), []
  for _ in range(RESAMPLES):
    rows = rng.integers(0, len(before), len(before))
    draws.append(macro(after[rows]) - macro(before[rows]))
  return macro(after) - macro(before), float(np.std(draws, ddof=1))


def estimates_for(rows: dict) -> dict[str, np.ndarray]:
  """What the second stage may be given: (n, N, 2) normalised landmarks.

  Args:
    rows: What `Cascade.predict_records` returned.
  """
  first = next(iter(rows['stages'].values()))['estimate']
  order = np.random.default_rng(0).permutation(len(first))
  # Absent landmarks have no truth: there the estimate stays.
  known = schema.has_position(rows['visibility'])[..., None]
  return {
    "the first stage's": first,
    'one for all images': np.broadcast_to(first.mean(0), first.shape),
    "another image's": first[order],
    'the truth': np.where(known, rows['landmarks'], first),
  }


def second_stage(
  second: Stage,
  setup: Setup,
  parallel: Parallel,
  records: input_pipeline.Records,
  rows: dict,
) -> Errors:
  """Runs the second stage on different estimates.

  Args:
    second: The second stage.
    setup: The objects that the run's config resolves to.
    parallel: The devices.
    records: The images.
    rows: What `Cascade.predict_records` returned for them.

  Returns:
    What it was given -> (n, N) NE.
  """
  forward = setup.forward
  run = parallel.compile(
    lambda variables, batch: apply_stage(
      second.model,
      variables,
      normalise_images({'image': batch['image']}, forward.mean, forward.std),
      batch['estimate'],
      forward,
    )['estimate'],
    sharded_in=(False, True),
    sharded_out=True,
  )
  variables = parallel.replicate(second.networks[ALL])
  given = estimates_for(rows)
  found, start = {name: [] for name in given}, 0
  for batch in input_pipeline.eval_batches(records, setup.pipeline):
    valid = batch['mask'] > 0
    count = int(valid.sum())
    for name, estimate in given.items():
      filled = np.zeros((len(valid), *estimate.shape[1:]), np.float32)
      filled[valid] = estimate[start : start + count]
      part = {'image': batch['image'], 'estimate': filled}
      out = parallel.to_host(run(variables, parallel.shard(part)))
      found[name].append(out[valid])
    start += count
  stages = {
    name: {'estimate': np.concatenate(parts)} for name, parts in found.items()
  }
  predictions = evaluate.to_predictions({**rows, 'stages': stages}, setup)
  return errors_of(predictions, setup.landmarks.norm)


def show(workdir: pathlib.Path, split: str, batch: int) -> None:
  """Measures a run and prints what the module says.

  Args:
    workdir: The folder of a finished run.
    split: The split to measure on.
    batch: The number of images in a batch.
  """
  config = trained.get_config(str(workdir))
  with config.unlocked():
    config.batch_size = batch
  setup = resolve(config)
  stages, _ = store.load_cascade(config, setup, workdir)
  parallel = Parallel(config.parallel)
  records = input_pipeline.Records(
    prepared_builder(config.dataset), split, only=setup.selected
  )
  rows = Cascade(stages, setup, parallel).predict_records(records)
  predictions = evaluate.to_predictions(rows, setup)
  errors = errors_of(predictions, setup.landmarks.norm)
  print(f'{workdir}, {split}, {len(predictions.ids)} images\n')
  before = None
  for stage, of_stage in errors.items():
    line = f'{stage:<10} NE {macro(of_stage):6.2f}'
    if before:
      amount, error = change(errors[before], of_stage)
      line += f'   against {before}: {amount:+.2f} +- {error:.2f}'
    print(line)
    before = stage
  if len(stages) > 1 and ALL in stages[1].networks:
    print(f'\n{stages[1].name}, given')
    for name, found in second_stage(
      stages[1], setup, parallel, records, rows
    ).items():
      print(f'  {name:<20} NE {macro(found):6.2f}')
  of_routing = routing.evaluate(predictions, setup.landmarks.norm)
  if of_routing:
    _show_routing(of_routing, predictions, errors)


def _show_routing(
  of_routing: dict, predictions: Predictions, errors: Errors
) -> None:
  """Prints what the routing knows and what the branches gain.

  Args:
    of_routing: What `routing.evaluate` returned.
    predictions: The examples.
    errors: Their errors by each stage.
  """
  print('\nrank correlation of the routing score with NE')
  for stage, value in of_routing['rank_correlation'].items():
    print(f'  {stage:<20} {"-" if value is None else f"{value:.2f}"}')
  *_, before, after = errors
  groups = {
    'easy': ~predictions.is_hard,
    'hard': predictions.is_hard,
    **{
      name: np.asarray(predictions.variation) == code
      for code, name in schema.VARIATIONS.items()
    },
  }
  print(f'\n{after} against {before}')
  for name, rows in groups.items():
    if rows.sum() > 1 and np.isfinite(errors[after][rows]).any():
      was, now = macro(errors[before][rows]), macro(errors[after][rows])
      amount, error = change(errors[before][rows], errors[after][rows])
      print(
        f'  {name:<20} {rows.sum():6,} images {was:6.2f} to {now:6.2f}, '
        f'{amount:+.2f} +- {error:.2f}'
      )


def main() -> None:
  """Reads the command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('workdir', type=pathlib.Path)
  parser.add_argument('--split', default='val')
  parser.add_argument('--batch', type=int, default=50)
  arguments = parser.parse_args()
  set_xla_cpu_flags()
  show(arguments.workdir, arguments.split, arguments.batch)


if __name__ == '__main__':
  main()
