"""The cost of inference.

  python benchmarks/inference.py networks [--size=full] [--rounds=3]

times each stage network of a DFA cascade alone, and the routed cascade on the
same batches, in turns. It prints the time that the cascade takes for an image
as a multiple of that of a stage network. Weights are random, half of the images
are easy. The paper says 3; DeepPose would take 17.

  python benchmarks/inference.py files --workdir=W --images=DIR [--rounds=3]

times `Predictor` on image files, all at once and in a plain loop of one image
at a time, in turns.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

from fld_jax.cascade.setup import resolve
from fld_jax.config import XLA_CPU_FLAGS

os.environ.setdefault('XLA_FLAGS', XLA_CPU_FLAGS)

import jax  # noqa: E402
import numpy as np  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

from fld_jax.cascade import stage  # noqa: E402
from fld_jax.cascade.cascade import Cascade  # noqa: E402
from fld_jax.configs import dfa  # noqa: E402
from fld_jax.inference import photos
from fld_jax.inference.predictor import Predictor  # noqa: E402
from fld_jax.runtime.parallel import Parallel  # noqa: E402

BATCH = 64


def seconds(call: Callable[[], Any]) -> float:
  """Measures the wall time of a call in seconds.

  Args:
    call: The function to call.
  """
  start = time.perf_counter()
  call()
  return time.perf_counter() - start


def random_stages(config: ConfigDict) -> list[stage.Stage]:
  """Makes untrained stages.

  Args:
    config: The config of a cascade.

  Returns:
    One stage for each of `config.stages`, the last with two branches.
  """
  stages = []
  rng = np.random.default_rng(0)
  for i, settings in enumerate(config.stages):
    model = stage.build_model(
      config.model, settings, i, resolve(config).landmarks
    )
    names = ('easy', 'hard') if settings.branches else ('all',)
    networks = {
      name: stage.init_variables(model, config.input.size, seed=10 * i + j)
      for j, name in enumerate(names)
    }
    errors = rng.uniform(0.1, 0.5, settings.pseudo_label.num_clusters)
    stages.append(
      stage.Stage(settings.name, model, networks, {'errors': errors}, 0.0)
    )
  return stages


def make_batches(size: int, count: int) -> list[dict[str, np.ndarray]]:
  """Makes batches of random images for `Cascade.predict`.

  Args:
    size: The side of the images in pixels.
    count: The number of batches.

  Returns:
    Batches of BATCH images, (BATCH, S, S, 3) uint8.
  """
  rng = np.random.default_rng(1)
  return [
    {
      'image': rng.integers(0, 256, (BATCH, size, size, 3), np.uint8),
      'mask': np.ones(BATCH, np.float32),
      'corrupt': np.zeros(BATCH, np.int32),
    }
    for _ in range(count)
  ]


def networks(arguments: argparse.Namespace) -> None:
  """Prints the times of the stage networks and of the cascade.

  Args:
    arguments: The command line's arguments.
  """
  config = dfa.get_config(f'dataset=synthetic,size={arguments.size},stages=3')
  config.unlock()
  config.stages[2].branches = True  # a prediction leaves the common stage out
  config.batch_size, config.model.dtype = BATCH, 'float32'
  stages, parallel = random_stages(config), Parallel(config.parallel)
  batches = make_batches(config.input.size, arguments.batches)
  # The threshold that lets half of the images pass each branch.
  stages[-1].epsilon = 1.0
  first = Cascade(stages, resolve(config), parallel).predict(batches)
  stages[-1].epsilon = float(np.median(first['route_score']))
  cascade = Cascade(stages, resolve(config), parallel)
  estimate = np.zeros((BATCH, 8, 2), np.float32)
  alone = {}
  for part in stages:
    for name, variables in part.networks.items():
      single = stage.Stage(part.name, part.model, {'all': variables}, {})
      alone[f'{part.name}/{name}'] = _one_network(
        single, config, parallel, batches[0]['image'], estimate
      )
  times = {name: [] for name in (*alone, 'cascade')}
  for call in alone.values():
    call()
  print(cascade.predict(batches)['passes'])  # compiles
  for _ in range(arguments.rounds):
    for name, call in alone.items():
      times[name].append(seconds(call) / BATCH)
    count = BATCH * len(batches)
    times['cascade'].append(seconds(lambda: cascade.predict(batches)) / count)
  for name, values in times.items():
    print(f'{name:14} {1e3 * np.median(values):8.2f} ms/image')
  mean = np.mean([times[name] for name in alone], axis=0)
  ratios = np.array(times['cascade']) / mean
  print('cascade, in stage networks:', np.round(ratios, 3))


def _one_network(
  part: stage.Stage,
  config: ConfigDict,
  parallel: Parallel,
  images: np.ndarray,
  estimate: np.ndarray,
) -> Callable[[], Any]:
  """Makes a call that runs one network on a batch, as the cascade runs it.

  Args:
    part: A stage with the single network 'all'.
    config: The config of the cascade.
    parallel: The devices.
    images: (B, S, S, 3) uint8 crops.
    estimate: (B, N, 2) the landmarks of the stage before.
  """
  from fld_jax.cascade import forward

  how = resolve(config).forward

  def run(
    variables: dict[str, Any], batch: dict[str, jax.Array]
  ) -> dict[str, jax.Array]:
    shown = forward.normalise_images(batch, how.mean, how.std)
    before = batch['estimate'] if part.model.use_estimate else None
    return forward.apply_stage(part.model, variables, shown, before, how)

  compiled = parallel.compile(run, sharded_in=(False, True), sharded_out=True)
  variables = parallel.replicate(part.networks['all'])
  return lambda: parallel.to_host(
    compiled(variables, parallel.shard({'image': images, 'estimate': estimate}))
  )


def files(arguments: argparse.Namespace) -> None:
  """Prints the images/s of one call for all images, and of a call for each.

  Args:
    arguments: The command line's arguments.
  """
  root, names = photos.find(arguments.images)[:2]
  paths = [root / name for name in names]
  predictor = Predictor.load(arguments.workdir)
  together = lambda: predictor(paths)
  loop = lambda: [predictor([path]) for path in paths]
  together(), predictor(paths[:1])  # compile
  for _ in range(arguments.rounds):
    fast, slow = seconds(together), seconds(loop)
    print(
      f'{len(paths)} images: together {len(paths) / fast:.0f} images/s, one at '
      f'a time {len(paths) / slow:.0f}, ratio {slow / fast:.2f}'
    )


def main() -> None:
  """Reads the arguments and runs what they ask for."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  commands = parser.add_subparsers(required=True)
  for run in (networks, files):
    command = commands.add_parser(run.__name__)
    command.set_defaults(run=run)
    command.add_argument('--rounds', type=int, default=3)
  commands.choices['networks'].add_argument('--size', default='full')
  commands.choices['networks'].add_argument('--batches', type=int, default=4)
  commands.choices['files'].add_argument('--workdir', required=True)
  commands.choices['files'].add_argument('--images', required=True)
  arguments = parser.parse_args()
  print(jax.devices()[0].device_kind, os.cpu_count(), 'cores')
  arguments.run(arguments)


if __name__ == '__main__':
  main()
