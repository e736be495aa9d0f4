"""Starts the program as a user does, in one process or several."""

import contextlib
import os
import pathlib
import re
import socket
import subprocess
import sys

from places import ROOT
from tensorboardX.proto import event_pb2
from xla_flags import xla_flags

# What conftest's tiny_config sets, so that the compiled programs are shared.
TINY = {
  'batch_size': 8,
  'log_every_steps': 2,
  'dataset.sizes.train': 48,
  'dataset.sizes.val': 16,
  'dataset.sizes.test': 16,
  'input.size': 32,
  'stages[0].input_size': 16,
  'model.trunk.blocks': '((1,8),(1,8))',
  'model.pool': 4,
  'model.local_maps': "('c1','c2')",
  'model.patch': 3,
  'model.hidden': 64,
  'stages[2].branches': True,
  **{
    f'stages[{i}].{field}': value
    for i in range(3)
    for field, value in (
      ('train_steps', 6),
      ('eval_steps', 3),
      ('pseudo_label.num_clusters', 4),
    )
  },
}


def free_port() -> int:
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


@contextlib.contextmanager
def started(
  folder: pathlib.Path,
  processes: int = 1,
  devices=4,
  fields=None,
  flags=(),
  distributed: bool | None = None,
  stages: int = 3,
):
  """Starts the quickstart, or starts it again; kills it at the end.

  Args:
    folder: of the run, `run`, its data, `data`, and logs, `log0.txt`.
    processes: how many.
    devices: virtual ones, of each process.
    fields: of the config, over those of TINY.
    flags: of the program, beside these.
    distributed: whether JAX's distributed runtime is started; None: if there
      are several processes.
    stages: how many the cascade has; of three the last has branches.
  """
  distributed = processes > 1 if distributed is None else distributed
  fields = {'dataset.data_dir': folder / 'data', **TINY, **(fields or {})}
  later = [f'stages[{index}]' for index in range(stages, 3)]
  fields = {
    name: value
    for name, value in fields.items()
    if not name.startswith(tuple(later))
  }
  folder.mkdir(exist_ok=True)
  command = [
    sys.executable,
    '-m',
    'fld_jax.main',
    f'--config=configs/dfa.py:dataset=synthetic,size=tiny,stages={stages}',
    f'--workdir={folder / "run"}',
    *(f'--config.{key}={value}' for key, value in fields.items()),
    *flags,
  ]
  if distributed:
    command += [
      f'--coordinator=127.0.0.1:{free_port()}',
      f'--num_processes={processes}',
    ]
  running = []
  try:
    for i in range(processes):
      own = [f'--process_id={i}'] if distributed else []
      with open(folder / f'log{i}.txt', 'a') as log:
        running.append(
          subprocess.Popen(
            command + own,
            cwd=ROOT,
            env={**os.environ, 'XLA_FLAGS': xla_flags(devices)},
            stdout=log,
            stderr=log,
          )
        )
    yield running
  finally:
    for process in running:
      process.kill()
    for process in running:
      process.wait()


def log(folder: pathlib.Path, process: int = 0) -> str:
  return (folder / f'log{process}.txt').read_text()


def run_to_end(folder: pathlib.Path, processes: int = 1, **options) -> None:
  with started(folder, processes, **options) as running:
    for i, process in enumerate(running):
      assert process.wait() == 0, log(folder, i)[-4000:]


def events(folder: pathlib.Path):
  """All events in TensorBoard's files, in their order."""
  for path in sorted(folder.glob('events*')):
    content, at = path.read_bytes(), 0
    while at < len(content):
      length = int.from_bytes(content[at : at + 8], 'little')
      yield event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
      at += 16 + length


def listing(workdir: pathlib.Path) -> set[str]:
  """All that is in a workdir; names that hold a random number without it."""
  names = {str(path.relative_to(workdir)) for path in workdir.rglob('*')}
  random = r'(?<=/d/)[0-9a-f]{32}|(?<=events\.out\.tfevents\.).*'
  return {re.sub(random, '*', name) for name in names}
