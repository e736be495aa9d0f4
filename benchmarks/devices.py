"""The cost of many devices and processes, and their effect on results.

  python benchmarks/devices.py scaling [--batch=32] [--rounds=3]

times train steps of the small DFA cascade's first stage with the same batch on
each device (weak scaling), on virtual devices of one process and on processes
of one device each. All share this machine's cores, so the same total images/s
is the ideal. Processes that reduce over each other are compared with as many
that do not communicate: the difference is the cost of the collectives.

  python benchmarks/devices.py restarts --manual_dir=F --output=O --seeds 0 1 2

trains the small cascade on DeepFashion on four devices, and again on four in
two processes, where it is asked to end three times and continues on two, one,
and four devices.

  python benchmarks/devices.py memory --manual_dir=F --output=O [--fold=10]

trains a cascade for a few steps on DeepFashion and on the same images listed
many times, and prints the highest resident size of any of its processes.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from fld_jax.config import XLA_CPU_FLAGS  # noqa: E402

os.environ.setdefault('XLA_FLAGS', XLA_CPU_FLAGS)
os.environ['JAX_PLATFORMS'] = 'cpu'

# --- weak scaling -------------------------------------------------------------


def step(arguments: argparse.Namespace) -> None:
  """Runs one process: prints 'ready', waits for a line, times its steps.

  Args:
    arguments: The command line's arguments.
  """
  import jax
  from pytorch import example_batch

  from fld_jax.cascade import stage as stage_lib
  from fld_jax.cascade.setup import resolve
  from fld_jax.configs import dfa
  from fld_jax.runtime import checkpoint, processes
  from fld_jax.runtime.parallel import Parallel
  from fld_jax.training import schedules, train_step
  from fld_jax.training.objective import Objective

  jax.config.update('jax_num_cpu_devices', arguments.devices)
  if arguments.coordinator:
    processes.start(
      arguments.coordinator, arguments.processes, arguments.process_id
    )
  parallel = Parallel()
  config = dfa.get_config('dataset=deepfashion,size=small')
  config.batch_size = arguments.batch * parallel.num_devices
  stage = config.stages[0]
  model = stage_lib.build_model(
    config.model, stage, 0, resolve(config).landmarks
  )
  variables = stage_lib.init_variables(model, config.input.size, 0)
  optimizer = schedules.optimizer(stage.optimizer, 1000, model.backbone)
  batch = example_batch(arguments.batch * arguments.devices, config.input.size)
  rng = np.random.default_rng(0)
  centres = rng.normal(size=(stage.pseudo_label.num_clusters, 16)) * 50
  run = train_step.on_devices(
    train_step.make_train_step(
      model,
      (),
      resolve(config).forward,
      Objective.of(config, resolve(config), 0),
      schedules.loss_weights(stage, 1000),
      optimizer,
    ),
    parallel,
  )
  state = parallel.replicate(
    checkpoint.to_host(train_step.TrainState.create(variables, optimizer))
  )
  clusters = {'centres': centres.astype(np.float32)}
  given = parallel.replicate(train_step.Given(np.uint32(0), clusters))
  previous = parallel.replicate(())

  def seconds() -> float:
    nonlocal state
    begin = time.perf_counter()
    processes.barrier('step')
    state, metrics = run(state, previous, given, parallel.shard(batch))
    jax.block_until_ready((state, metrics))
    return time.perf_counter() - begin

  for _ in range(5):
    seconds()
  print('ready', flush=True)
  sys.stdin.readline()
  times = [seconds() for _ in range(arguments.steps)]
  print(json.dumps(config.batch_size / float(np.median(times))), flush=True)


def images_per_second(
  processes: int, devices: int, together: bool, arguments: argparse.Namespace
) -> float:
  """Measures the images/s of all processes.

  Args:
    processes: The number of processes.
    devices: The number of devices of each process.
    together: Whether the processes reduce over each other.
    arguments: The command line's arguments.

  Returns:
    The images/s of all processes together.
  """
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    coordinator = f'127.0.0.1:{free.getsockname()[1]}'
  command = [
    sys.executable,
    __file__,
    'step',
    f'--devices={devices}',
    f'--batch={arguments.batch}',
    f'--steps={arguments.steps}',
  ]
  if together and processes > 1:
    command += [f'--coordinator={coordinator}', f'--processes={processes}']
  with contextlib.ExitStack() as stack:
    running = [
      stack.enter_context(
        subprocess.Popen(
          [*command, f'--process_id={i}'],
          stdin=subprocess.PIPE,
          stdout=subprocess.PIPE,
          text=True,
        )
      )
      for i in range(processes)
    ]
    for process in running:  # Gloo prints other lines before it
      if 'ready\n' not in iter(process.stdout.readline, ''):
        sys.exit('A process of the benchmark has failed, see above.')
    for process in running:
      process.stdin.write('go\n')
      process.stdin.flush()
    rates = [json.loads(process.stdout.readline()) for process in running]
  return rates[0] if together else sum(rates)


def scaling(arguments: argparse.Namespace) -> None:
  """Prints images/s, and their ratio to those of one device.

  Args:
    arguments: The command line's arguments.
  """
  cases = [
    (f'{n} devices in one process', 1, n, True) for n in arguments.counts
  ]
  for n in arguments.counts:
    cases += [
      (f'{n} processes', n, 1, True),
      (f'{n} processes that do not speak', n, 1, False),
    ]
  ratios = {name: [] for name, *_ in cases}
  for _ in range(arguments.rounds):
    one = images_per_second(1, 1, True, arguments)
    print(f'1 device {one:.0f} images/s', flush=True)
    for name, *case in cases:
      rate = images_per_second(*case, arguments)
      ratios[name].append(rate / one)
      print(f'{name} {rate:.0f} images/s, {rate / one:.2f}', flush=True)
  for name, found in ratios.items():
    each = ' '.join(f'{ratio:.2f}' for ratio in found)
    print(f'{name:32} {np.median(found):.2f} of one device ({each})')


# --- runs ---------------------------------------------------------------------

BATCH = 52  # the batch size of `restarts`, a multiple of four devices


def command(
  config: str,
  arguments: argparse.Namespace,
  workdir: pathlib.Path,
  fields: dict[str, Any],
) -> list[str]:
  """Makes the arguments that follow `launch/local_processes.sh N`.

  Args:
    config: The config file in configs/, with its argument.
    arguments: The command line's arguments, with `manual_dir`.
    workdir: The run's folder.
    fields: Path of a config field -> its value.
  """
  return [
    f'--config={ROOT}/configs/{config}',
    f'--manual_dir={arguments.manual_dir}',
    f'--workdir={workdir}',
    '--split=val',
    *(f'--config.{name}={value}' for name, value in fields.items()),
  ]


@contextlib.contextmanager
def started(
  processes: int, devices: int, options: list[str], log: TextIO
) -> Iterator[subprocess.Popen]:
  """Runs the program in several processes, for a `with` block.

  Args:
    processes: The number of processes.
    devices: The number of devices of each process.
    options: The arguments of the program.
    log: The open file that the program prints to.

  Yields:
    The running launcher; it is ended when the block is left.
  """
  environment = {**os.environ, 'DEVICES': str(devices)}
  environment.setdefault('FLD_PYTHON', sys.executable)
  running = subprocess.Popen(
    [ROOT / 'launch/local_processes.sh', str(processes), *options],
    cwd=ROOT,
    env=environment,
    stdout=log,
    stderr=log,
  )
  try:
    yield running
  finally:
    running.terminate()
    running.wait()


def has_come(workdir: pathlib.Path, network: str, step: int) -> bool:
  """Tells whether a run has a checkpoint of at least this step.

  Args:
    workdir: The run's folder.
    network: The network, such as 'stage1/all'.
    step: The number of the step.
  """
  folder = workdir / 'stages' / network
  names = [path.name for path in folder.glob('*')] if folder.is_dir() else []
  return any(name.isdigit() and int(name) >= step for name in names)


def train(
  workdir: pathlib.Path,
  options: list[str],
  parts: list[tuple[int, int, tuple[str, int] | None]],
) -> float:
  """Trains in several parts.

  Args:
    workdir: The run's folder.
    options: The arguments of the program.
    parts: For each part the number of processes, the number of devices of each,
      and the (network, step) at which it is asked to end; None for the end of
      the training.

  Returns:
    The macro NE on val, a fraction.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  with (workdir.parent / f'{workdir.name}.log').open('a') as log:
    for processes, devices, place in parts:
      with started(processes, devices, options, log) as running:
        while running.poll() is None and place:
          if has_come(workdir, *place):
            running.terminate()
            break
          time.sleep(0.2)
        expected = 75 if place else 0
        if running.wait() != expected:
          sys.exit(f'{workdir}: exit code {running.returncode}, see {log.name}')
  metrics = json.loads((workdir / 'eval/val/metrics.json').read_text())
  return metrics['ne']['macro']


def restarts(arguments: argparse.Namespace) -> None:
  """Prints NE of unbroken runs, and of runs that change devices on the way.

  Args:
    arguments: The command line's arguments.
  """
  # Of each network half, of a branch a quarter.
  steps = int(arguments.epochs * 4750 / BATCH)
  parts = [
    (2, 2, ('stage1/all', steps // 2)),
    (1, 2, ('stage2/all', steps // 2)),
    (1, 1, ('stage3/easy', steps // 4)),
    (1, 4, None),
  ]
  found = []
  for seed in arguments.seeds:
    fields = {'seed': seed, 'batch_size': BATCH}
    fields |= {f'stages[{i}].train_epochs': arguments.epochs for i in range(3)}
    fields |= {f'stages[{i}].eval_epochs': 1.0 for i in range(3)}
    fields |= {f'stages[{i}].min_steps': 0 for i in range(3)}
    fields |= {'stages[2].branches': True}
    row = []
    for name, plan in (('unbroken', [(1, 4, None)]), ('restarted', parts)):
      workdir = pathlib.Path(arguments.output) / f'{name}{seed}'
      options = command(
        'dfa.py:dataset=deepfashion,size=small,stages=3',
        arguments,
        workdir,
        fields,
      )
      row.append(100 * train(workdir, options, plan))
      print(f'seed {seed} {name}: NE {row[-1]:.2f}', flush=True)
    found.append(row)
  unbroken, restarted = np.array(found).T
  print(
    f'Unbroken {unbroken.mean():.2f}, spread over seeds '
    f'{unbroken.std(ddof=1):.2f}, restarted {restarted.mean():.2f}; changes '
    f'{", ".join(f"{change:+.2f}" for change in restarted - unbroken)}.'
  )


def fold(source: pathlib.Path, target: pathlib.Path, times: int) -> None:
  """Makes a DeepFashion folder that lists every training image several times.

  Args:
    source: The folder of DeepFashion.
    target: The folder to make, with links to the images.
    times: The number of times that each training image is listed.
  """
  for name in ('Anno', 'Eval', 'Img'):
    (target / name).mkdir(parents=True, exist_ok=True)
  for i in range(times):
    link = target / 'Img' / f'{i}'
    if not link.is_symlink():
      link.symlink_to((source / 'Img').absolute())
  partition = 'Eval/list_eval_partition.txt'
  lines = (source / partition).read_text().splitlines()[2:]
  train = {line.split()[0] for line in lines if line.split()[1] == 'train'}
  for name in (partition, 'Anno/list_bbox.txt', 'Anno/list_landmarks.txt'):
    _, columns, *rows = (source / name).read_text().splitlines()
    rows = [
      f'{i}/{row}'
      for i in range(times)
      for row in rows
      if not i or row.split()[0] in train
    ]
    text = '\n'.join([str(len(rows)), columns, *rows])
    (target / name).write_text(f'{text}\n')


def memory(arguments: argparse.Namespace) -> None:
  """Prints the highest resident size of any process of a run.

  Args:
    arguments: The command line's arguments.
  """
  output = pathlib.Path(arguments.output)
  for times in (1, arguments.fold):
    folder = output / f'folder{times}'
    fold(pathlib.Path(arguments.manual_dir), folder, times)
    given = argparse.Namespace(manual_dir=folder)
    fields = {f'stages[{i}].train_steps': arguments.steps for i in range(3)}
    fields |= {'dataset.data_dir': output / 'data'}
    config = 'dfa.py:dataset=deepfashion,size=tiny,stages=3'
    for processes in (1, 2):
      workdir = output / f'run{times}-{processes}'
      options = command(config, given, workdir, fields)
      with (output / f'{workdir.name}.log').open('w') as log:
        # Preparation and compilation are not measured: the second training
        # finds both done. The second process is an exception: on a CPU JAX
        # caches a compiled program for one process, and writes only those of
        # the first. So its compilation adds to what the run needs.
        for mode in ('prepare', 'train', 'train'):
          shutil.rmtree(workdir, ignore_errors=True)
          with started(
            1 if mode == 'prepare' else processes,
            1,
            [*options, f'--mode={mode}'],
            log,
          ) as running:
            _, status, usage = os.wait4(running.pid, 0)
            running.returncode = os.waitstatus_to_exitcode(status)
          if running.returncode:
            sys.exit(f'Exit code {running.returncode}, see {log.name}')
      print(
        f'{times:3} times the images, {processes} processes: '
        f'{usage.ru_maxrss / 1024:.0f} MiB',
        flush=True,
      )


def main() -> None:
  """Reads the arguments and runs a benchmark."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('what', choices=['scaling', 'restarts', 'memory', 'step'])
  parser.add_argument('--manual_dir', default='')
  parser.add_argument('--output', default='devices')
  parser.add_argument('--batch', type=int, default=32, help='of a device')
  parser.add_argument('--steps', type=int, default=40)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--counts', type=int, nargs='+', default=[2, 4])
  parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
  parser.add_argument('--epochs', type=float, default=8)
  parser.add_argument('--fold', type=int, default=10)
  # The arguments of `step`, which `scaling` starts.
  parser.add_argument('--devices', type=int, default=1)
  parser.add_argument('--coordinator')
  parser.add_argument('--processes', type=int)
  parser.add_argument('--process_id', type=int)
  arguments = parser.parse_args()
  globals()[arguments.what](arguments)


if __name__ == '__main__':
  main()
