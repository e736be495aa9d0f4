"""Deployed models: how long photos take, and what fewer bits cost.

  python benchmarks/deployment.py latency --workdir=W --images=DIR [--rounds=30]

prints for JAX and for ONNX Runtime the seconds from the start of a process to
the first answer, with an empty cache and with that of the process before, and
the milliseconds (p50, p99) of calls with 1 and with 8 photos, in turns.

  python benchmarks/deployment.py precision --workdir=W --exported=DIR

prints for each ONNX file of an export its size, the NE of the split and the
milliseconds (p50, p99) of 1 and of 8 crops, in turns.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np

FIRST = """
import sys
import fld_jax
detector = fld_jax.load(sys.argv[1], runtime=sys.argv[2])
detector([sys.argv[3]])
"""


def milliseconds(calls: dict, rounds: int) -> dict[str, list[float]]:
  """The p50 and p99 of calls that are made in turns, after two to warm up.

  Args:
    calls: Name -> function.
    rounds: How often each is called.
  """
  times = {name: [] for name in calls}
  for i in range(rounds + 2):
    for name, call in calls.items():
      start = time.perf_counter()
      call()
      if i > 1:
        times[name].append(1e3 * (time.perf_counter() - start))
  return {
    name: [round(float(np.quantile(x, q)), 2) for q in (0.5, 0.99)]
    for name, x in times.items()
  }


def latency(arguments: argparse.Namespace) -> None:
  """Times first answers and calls of `Predictor`.

  Args:
    arguments: The command line's arguments.
  """
  from fld_jax.inference import photos
  from fld_jax.inference.predictor import RUNTIMES, Predictor

  root, names = photos.find(arguments.images)[:2]
  paths = [str(root / name) for name in names[:64]]
  for runtime in RUNTIMES:
    with tempfile.TemporaryDirectory() as home:
      for cache in ('empty', 'warm'):
        start = time.perf_counter()
        subprocess.run(
          [sys.executable, '-c', FIRST, arguments.workdir, runtime, paths[0]],
          env={**os.environ, 'HOME': home},
          check=True,
        )
        took = round(time.perf_counter() - start, 2)
        line = {'runtime': runtime, 'cache': cache, 'first_answer_s': took}
        print(json.dumps(line), flush=True)
  loaded = {
    runtime: Predictor.load(arguments.workdir, runtime=runtime, warm=True)
    for runtime in RUNTIMES
  }
  for count in (1, 8):
    calls = {
      runtime: (lambda f=predictor, n=count: f(paths[:n]))
      for runtime, predictor in loaded.items()
    }
    for runtime, values in milliseconds(calls, arguments.rounds).items():
      line = {'runtime': runtime, 'photos': count, 'p50_p99_ms': values}
      print(json.dumps(line), flush=True)


def precision(arguments: argparse.Namespace) -> None:
  """Measures the files of an export.

  Args:
    arguments: The command line's arguments.
  """
  from fld_jax import geometry, input_pipeline
  from fld_jax.cascade.setup import resolve
  from fld_jax.configs import trained
  from fld_jax.datasets.prepare import prepared_builder
  from fld_jax.evaluation import evaluate
  from fld_jax.inference.export_formats import FORMATS

  config = trained.get_config(arguments.workdir)
  for field in ('manual_dir', 'data_dir'):
    if getattr(arguments, field):
      config.dataset[field] = getattr(arguments, field)
  setup = resolve(config)
  records = input_pipeline.Records(
    prepared_builder(config.dataset), arguments.split, only=setup.selected
  )
  files = sorted(pathlib.Path(arguments.exported).glob('model*.onnx'))
  runs = {path.name: FORMATS['onnx'][1](path) for path in files}
  batches = list(input_pipeline.eval_batches(records, setup.pipeline))
  lines = {name: {'file': name} for name in runs}
  for (name, run), path in zip(runs.items(), files, strict=True):
    rows = []
    for batch in batches:
      valid = batch['mask'] > 0
      points = run(batch['image'])['landmarks'][valid]
      estimate = geometry.normalise(points, setup.pipeline.size)
      rest = {k: v[valid] for k, v in batch.items() if k != 'image'}
      rows.append({**rest, 'points': estimate})
    joined = {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}
    joined['stages'] = {'last': {'estimate': joined.pop('points')}}
    ne, error = evaluate.macro_ne(joined, 'last', setup)
    lines[name] |= {
      'MB': round(path.stat().st_size / 1e6, 2),
      'NE_%': round(100 * ne, 3),
      'standard_error': round(100 * error, 3),
      'images': len(joined['index']),
    }
  for count in (1, 8):
    crops = np.concatenate([batch['image'] for batch in batches[:8]])[:count]
    calls = {
      name: (lambda run=run, crops=crops: run(crops))
      for name, run in runs.items()
    }
    for name, values in milliseconds(calls, arguments.rounds).items():
      lines[name][f'p50_p99_ms_of_{count}'] = values
  for line in lines.values():
    print(json.dumps(line), flush=True)


def main() -> None:
  """Reads the arguments and runs what they ask for."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  commands = parser.add_subparsers(required=True)
  for run in (latency, precision):
    command = commands.add_parser(run.__name__)
    command.set_defaults(run=run)
    command.add_argument('--rounds', type=int, default=30)
    command.add_argument('--workdir', required=True)
  commands.choices['latency'].add_argument('--images', required=True)
  commands.choices['precision'].add_argument('--exported', required=True)
  commands.choices['precision'].add_argument('--split', default='val')
  commands.choices['precision'].add_argument('--manual_dir')
  commands.choices['precision'].add_argument('--data_dir')
  arguments = parser.parse_args()
  cores = len(os.sched_getaffinity(0))
  print(json.dumps({'cpu': cpu(), 'cores': cores}), flush=True)
  arguments.run(arguments)


def cpu() -> str:
  """The model of the CPU."""
  for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
    if line.startswith('model name'):
      return line.partition(':')[2].strip()
  return platform.processor()


if __name__ == '__main__':
  main()
