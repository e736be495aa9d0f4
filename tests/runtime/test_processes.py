"""Several processes do what one does; a lost one ends the others."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from launching import (
  ROOT,
  events,
  free_port,
  listing,
  log,
  run_to_end,
  started,
)

# Sizes that nothing divides, and an optimiser without a division by tiny
# numbers, in which rounding would grow.
FIELDS = {
  'dataset.sizes.train': 46,
  'dataset.sizes.val': 15,
  'dataset.sizes.test': 17,
  'log_every_steps': 1,
  **{
    f'stages[{i}].{field}': value
    for i in range(3)
    for field, value in (
      ('train_steps', 20),
      ('eval_steps', 10),
      ('optimizer.name', 'sgd'),
      ('optimizer.learning_rate', 0.01),
    )
  },
}
# What Gloo's C++ prints of its connections. Its threads write these pieces
# one by one, so those of several lines may be mixed.
GLOO = re.compile(
  r'\[Gloo\] Rank | is connected to | peer ranks\. '
  r'|Expected number of connected peer ranks is : |[0-9\s]'
)
LAYOUTS = {'1x1': (1, 1), '2x2': (2, 2)}


def scalars(workdir, network):
  """(tag, step) -> value, of TensorBoard's files."""
  return {
    (value.tag, event.step): value.simple_value
    for event in events(workdir / 'tensorboard' / network)
    for value in event.summary.value
  }


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """The folder of a run of each layout, on the same prepared data."""
  folder = tmp_path_factory.mktemp('layouts')
  data = {'dataset.data_dir': folder / 'data'}
  for name, (processes, devices) in LAYOUTS.items():
    run_to_end(
      folder / name, processes, devices=devices, fields={**FIELDS, **data}
    )
  return {name: folder / name for name in LAYOUTS}


# The first two: in stage 3 a ReLU's input within rounding of 0 falls on the
# other side in one of the layouts, and its gradient with it. With softplus in
# the place of ReLU all networks agree to 2e-6.
@pytest.mark.parametrize('network', ['stage1', 'stage2'])
def test_losses(runs, network):
  expected = scalars(runs['1x1'] / 'run', network)
  found = scalars(runs['2x2'] / 'run', network)
  assert found.keys() == expected.keys()
  losses = [key for key in expected if key[0] == 'train/loss']
  assert [step for _, step in sorted(losses)] == list(range(1, 21))
  for key in expected:
    if 'images_per_second' not in key[0]:
      assert found[key] == pytest.approx(expected[key], rel=1e-5, abs=1e-6), key


@pytest.mark.parametrize(
  'file',
  [
    'stage1/clusters.npz',
    'stage2/clusters.npz',
    'stage2/refit.npz',
    'stage3/clusters.npz',
    'stage3/routes.npz',
  ],
)
def test_what_is_made_between_stages(runs, file):
  arrays = {}
  for name in LAYOUTS:
    with np.load(runs[name] / 'run/stages' / file) as found:
      arrays[name] = dict(found)
  found, expected = arrays['2x2'], arrays['1x1']
  assert found.keys() == expected.keys()
  for key, value in expected.items():
    assert found[key].dtype == value.dtype
    atol = 0 if 'index' in key else 2e-5 * np.abs(value).max()
    np.testing.assert_allclose(found[key], value, atol=atol, rtol=0)


def flat(value, path=''):
  items = value.items() if isinstance(value, dict) else enumerate(value)
  for key, entry in items:
    if isinstance(entry, dict | list):
      yield from flat(entry, f'{path}.{key}')
    else:
      yield f'{path}.{key}', entry


def test_evaluation_counts_every_example_once(runs, tmp_path):
  """The same networks, evaluated by another number of processes."""
  shutil.copytree(runs['1x1'] / 'run', tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run/eval')
  processes, devices = LAYOUTS['2x2']
  run_to_end(
    tmp_path,
    processes,
    devices=devices,
    fields={
      **FIELDS,
      'dataset.data_dir': runs['1x1'].parent / 'data',
      'eval_splits': "('test', 'test[:1]')",  # of one, some process has none
    },
    flags=['--mode=evaluate'],
  )
  read = lambda folder, name, split='test': json.loads(
    (folder / 'run/eval' / split / name).read_text()
  )
  found = dict(flat(read(tmp_path, 'metrics.json')))
  expected = dict(flat(read(runs['1x1'], 'metrics.json')))
  assert found['.num_examples'] == found['.network_passes.stage1'] == 17
  assert found.keys() == expected.keys()
  for key, value in expected.items():
    if isinstance(value, float):
      # Both are rounded to 1e-6. Signed errors are per cents and cancel, so
      # that the float32 of the positions shows in them.
      bound = 1e-5 if '.signed_error.' in key else 1.5e-6
      value = pytest.approx(value, abs=bound)
    assert found[key] == value, key
  names = [of['file_name'] for of in read(tmp_path, 'predictions.json')]
  assert len(set(names)) == len(names) == 17
  assert names == [
    of['file_name'] for of in read(runs['1x1'], 'predictions.json')
  ]
  (first,) = read(tmp_path, 'predictions.json', 'test[:1]')
  assert first['file_name'] == names[0]
  assert read(tmp_path, 'metrics.json', 'test[:1]')['num_examples'] == 1


def test_the_same_is_left_and_only_one_prints(runs):
  assert listing(runs['2x2'] / 'run') == listing(runs['1x1'] / 'run')
  assert 'NE of visible landmarks' in log(runs['2x2'], 0)
  assert GLOO.sub('', log(runs['2x2'], 1)) == ''


def test_goes_on_with_other_devices(runs, tmp_path):
  """Four devices in two processes, killed; two in one, killed; then one."""
  fields = {**FIELDS, 'dataset.data_dir': runs['1x1'].parent / 'data'}
  for processes, network in ((2, 'stage1/all'), (1, 'stage2/all')):
    with started(tmp_path, processes, 2, fields) as running:
      wait_for_step(tmp_path, running, 10, network)
  run_to_end(tmp_path, 1, devices=1, fields=fields)
  assert 'goes on with 2 devices in 1 processes; it had 4 in 2' in log(tmp_path)
  assert 'goes on with 1 devices in 1 processes; it had 2 in 1' in log(tmp_path)
  for network in ('stage1', 'stage2'):
    expected = scalars(runs['1x1'] / 'run', network)
    found = scalars(tmp_path / 'run', network)
    # What a killed start had not yet written is not there.
    losses = [key for key in found if key[0] == 'train/loss']
    assert ('train/loss', 20) in losses
    for key in losses:
      assert found[key] == pytest.approx(expected[key], rel=1e-5), key


# --- what ends a run ----------------------------------------------------------

LONG = {f'stages[{i}].train_steps': 100_000 for i in range(3)} | {
  f'stages[{i}].eval_steps': 5 for i in range(3)
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """The field of a folder with data, which the first run prepares."""
  return {'dataset.data_dir': tmp_path_factory.mktemp('data')}


def wait_for_step(folder, running, step: int, network='stage1/all') -> None:
  """Returns when a checkpoint of at least this step is there."""
  while True:
    names = [path.name for path in (folder / 'run/stages' / network).glob('*')]
    if any(name.isdigit() and int(name) >= step for name in names):
      return
    assert all(p.poll() is None for p in running), log(folder)[-2000:]
    time.sleep(0.02)


# One process may be started as one of a cluster, too.
@pytest.mark.parametrize(
  ('processes', 'distributed', 'sent'),
  [
    (1, False, signal.SIGTERM),
    (1, False, signal.SIGINT),
    (1, True, signal.SIGTERM),
    (2, True, signal.SIGTERM),
    (2, True, signal.SIGINT),
  ],
)
def test_asked_to_end(tmp_path, data, processes, distributed, sent):
  """SIGTERM or Ctrl-C to one: all save the same step and ask for more."""
  fields = {**LONG, **data}
  options = {'devices': 1, 'fields': fields, 'distributed': distributed}
  with started(tmp_path, processes, **options) as running:
    wait_for_step(tmp_path, running, 5)
    begin = time.monotonic()
    running[-1].send_signal(sent)
    codes = [process.wait(60) for process in running]
    print(
      f'{processes} processes: ended after {time.monotonic() - begin:.1f} s'
    )
  last = 130 if sent == signal.SIGINT else 75
  assert codes == [75] * (processes - 1) + [last]
  (step,) = re.findall(
    r'stage1 is saved at step (\d+) of 100000', log(tmp_path)
  )
  assert (tmp_path / 'run/stages/stage1/all' / step / 'checksums.json').exists()
  if sent == signal.SIGINT:
    return  # what is saved does not depend on the signal
  with started(tmp_path, processes, **options) as running:
    wait_for_step(tmp_path, running, int(step) + 1)
  assert f'stage1 continues from step {step} of' in log(tmp_path)


@pytest.mark.parametrize(
  ('processes', 'stage', 'last'), [(1, 1, 12), (2, 2, 6)]
)
def test_asked_to_end_between_two_stages(
  tmp_path, data, processes, stage, last
):
  """However few steps of how many other networks come before and after."""
  steps = {f'stages[{i}].train_steps': n for i, n in enumerate((12, 6, 3))}
  options = {'devices': 1, 'fields': {**steps, **data}, 'distributed': True}
  with started(tmp_path, processes, **options) as running:
    while f'stage{stage}: {last} of {last} updates' not in log(tmp_path):
      assert all(process.poll() is None for process in running), log(tmp_path)
      time.sleep(0.02)
    running[0].send_signal(signal.SIGTERM)
    assert [process.wait(120) for process in running] == [75] * processes


@pytest.mark.parametrize(
  ('sent', 'victim'), [(signal.SIGKILL, 1), (signal.SIGSTOP, 1)]
)
def test_a_lost_process_ends_the_other(tmp_path, data, sent, victim):
  fields = {**LONG, **data}
  with started(tmp_path, 2, devices=1, fields=fields) as running:
    wait_for_step(tmp_path, running, 5)
    begin = time.monotonic()
    running[victim].send_signal(sent)
    assert running[1 - victim].wait(60) not in (0, 75)
    print(f'{sent.name}: ended after {time.monotonic() - begin:.1f} s')
  ending = log(tmp_path, 1 - victim)[-6000:]
  # Our own word, or that of JAX's runtime, which lists the lost below.
  assert re.search(
    r'process 1 of 2 did not come|stopped sending heartbeats\):\s*1\b', ending
  ), ending


STUCK = """
import sys, time
from fld_jax.errors import LostProcess
from fld_jax.runtime import processes

me = int(sys.argv[2])
processes.start(f'127.0.0.1:{sys.argv[1]}', 2, me)
assert processes.all_gather(me) == [0, 1]
assert processes.all_gather('x' * me) == ['', 'x']
assert processes.call_on_main(lambda: me) == 0
try:
  processes.call_on_main(lambda: 1 / 0)
except ZeroDivisionError:
  print('raised everywhere', flush=True)
if me == 1:
  time.sleep(30)  # alive, its heart beats, but it does not come
try:
  processes.barrier('the next step', seconds=2)
except LostProcess as error:
  print(error, flush=True)
  processes.leave(1, wait_for_others=False)
"""


def test_a_stuck_process_is_named():
  port = str(free_port())
  running = [
    subprocess.Popen(
      [sys.executable, '-c', STUCK, port, str(i)],
      cwd=ROOT,
      env={**os.environ, 'XLA_FLAGS': ''},
      stdout=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  try:
    output, _ = running[0].communicate(timeout=60)
  finally:
    for process in running:
      process.kill()
      process.wait()
  assert 'raised everywhere' in output
  assert "process 1 of 2 did not come to 'the next step' within 2 s" in output
  assert running[0].returncode == 1


def test_the_others_do_not_come(tmp_path):
  command = [sys.executable, '-m', 'fld_jax.main', '--mode=train']
  command += ['--config=configs/dfa.py:dataset=synthetic,size=tiny']
  command += [f'--workdir={tmp_path}', '--coordinator=127.0.0.1:1']
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 2
  assert (
    'error: The processes of the run did not come together' in result.stderr
  )
  assert '--num_processes=N' in result.stderr
