"""A short training of every method, on rendered garments.

  python benchmarks/every_method.py --output=DIR [--size=full] [--steps=40]

trains all stages of each config for `--steps` steps and evaluates, each in a
process of its own, on the devices that JAX finds. It prints a row for each and
writes them to DIR/methods.csv: seconds from start to end, images/s of the last
stage's last half (which count the waiting for input, not the compilation), the
peak of the first device's memory where JAX can tell. One that failed has no
row; the exit status is the number of these.
"""

import argparse
import csv
import json
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'helpers')]

# Module of fld_jax.configs -> the arguments of its variants; {size} and
# {detector}, the size of the networks that the detector's recipe knows.
METHODS = {
  'dfa': ('size={size}',),
  'pcloss': tuple(
    f'size={{size}},model={model}'
    for model in ('fashionnet', 'simple_baselines', 'fpn', 'integral')
  ),
  'detector': ('size={detector},pretrained=none',),
  'attributes': ('size={detector},pretrained=none',),
  'deeppose': ('size={size}',),
  'dlan': ('size={size}',),
  'fgn': ('size={size}',),
  'idpr': ('size={size},extras=routing',),
}
COLUMNS = ('method', 'devices', 'device', 'seconds', 'images_per_s', 'MiB')


def train(method: str, output: pathlib.Path, steps: int) -> dict:
  """Trains a method in this process.

  Args:
    method: Module and argument of a config, 'dfa:size=tiny'.
    output: The folder in which it makes a run, and data for all of them.
    steps: The number of steps of each network.

  Returns:
    A row of the table, by its columns.
  """
  import importlib

  import jax
  from launching import events

  from fld_jax import experiment
  from fld_jax.config import set_xla_cpu_flags

  set_xla_cpu_flags()
  start = time.monotonic()
  name, _, argument = method.partition(':')
  module = importlib.import_module(f'fld_jax.configs.{name}')
  config = module.get_config(f'dataset=synthetic,{argument}')
  config.unlock()
  config.dataset.data_dir = str(output / 'data')
  config.dataset.sizes = {'train': 512, 'val': 64, 'test': 64}
  # As many as the devices share evenly.
  devices = jax.device_count()
  config.batch_size = -(-config.batch_size // devices) * devices
  config.log_every_steps = steps // 2
  for stage in config.stages:
    stage.train_steps, stage.eval_steps = steps, steps
    stage.train_epochs, stage.eval_epochs, stage.min_steps = 0.0, 0.0, 0
  workdir = output / re.sub(r'\W+', '_', method)
  experiment.run(config, workdir, mode='train', splits=('test',))
  name = config.stages[-1].name
  name += '/hard' if config.stages[-1].branches else ''
  rates = [
    value.simple_value
    for event in events(workdir / 'tensorboard' / name)
    for value in event.summary.value
    if value.tag == 'train/images_per_second'
  ]
  stats = jax.local_devices()[0].memory_stats() or {}
  return {
    'method': method,
    'devices': devices,
    'device': jax.local_devices()[0].device_kind,
    'seconds': round(time.monotonic() - start),
    'images_per_s': round(rates[-1], 1),
    'MiB': stats.get('peak_bytes_in_use', 0) // 2**20 or '',
  }


def main() -> None:
  """Trains all methods, each in a process of its own."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--output', required=True, type=pathlib.Path)
  parser.add_argument('--size', default='full', choices=('full', 'tiny'))
  parser.add_argument('--steps', type=int, default=40)
  parser.add_argument('--only', help='the one that this process trains')
  arguments = parser.parse_args()
  if arguments.only:
    row = train(arguments.only, arguments.output, arguments.steps)
    print(json.dumps(row), flush=True)
    return
  detector = {'full': 'large', 'tiny': 'small'}[arguments.size]
  methods = [
    f'{name}:{variant.format(size=arguments.size, detector=detector)}'
    for name, variants in METHODS.items()
    for variant in variants
  ]
  failed = 0
  arguments.output.mkdir(parents=True, exist_ok=True)
  with (arguments.output / 'methods.csv').open('w', newline='') as file:
    table = csv.DictWriter(file, COLUMNS, lineterminator='\n')
    table.writeheader()
    for method in methods:
      done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], f'--only={method}'],
        stdout=subprocess.PIPE,
        text=True,
      )
      if done.returncode:
        failed += 1
        print(f'{method} FAILED', flush=True)
        continue
      row = json.loads(done.stdout.splitlines()[-1])
      print(row, flush=True)
      table.writerow(row)
      file.flush()
  sys.exit(failed)


if __name__ == '__main__':
  main()
