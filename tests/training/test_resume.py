"""A run that is killed again and again ends as if nothing had happened.

FLD_KILLS=10 python -m pytest tests/training/test_resume.py -s

kills it ten times instead of once and prints at which moments.
"""

import functools
import glob
import hashlib
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from launching import listing, log, started
from places import ROOT

from fld_jax.cascade import store
from fld_jax.cascade.setup import resolve
from fld_jax.files import atomic
from fld_jax.runtime import checkpoint
from fld_jax.training import train_step

KILLS = int(os.environ.get('FLD_KILLS', 1))
POLL = 0.02  # seconds
CURVES = ('run/history.csv', 'run/training.png')

# Of the cascade, by the number of processes: branches are trained by the same
# loop as the networks before them.
STAGES = {1: 3, 2: 2}
# Saved after every step, so that most moments are between two saves.
FIELDS = {
  f'stages[{i}].{field}': value
  for i in range(3)
  for field, value in (('train_steps', 4), ('eval_steps', 1))
}


def start(folder: pathlib.Path, processes: int):
  """The program on four devices, in one process or shared out."""
  return started(
    folder, processes, 4 // processes, FIELDS, stages=STAGES[processes]
  )


def milestones(folder: pathlib.Path) -> set[str]:
  """Names of what is on disk: data, stages, checkpoints, those being saved."""
  patterns = [
    'data/*',
    'run/*',
    'run/stages/*',
    'run/stages/*/*',
    'run/stages/*/*/*',
    'run/stages/*/*/*/*',
    'run/eval/*/*',
  ]
  # Not pathlib's glob, which raises if a folder goes while it looks.
  names = itertools.chain(
    *(glob.iglob(pattern, root_dir=folder) for pattern in patterns)
  )
  # These are written while a checkpoint is being saved, before it or after.
  names = (name for name in names if name not in CURVES)
  # Temporary names end in numbers that differ from start to start.
  return {
    re.sub(r'\.orbax-checkpoint-tmp[^/]*', '.saving', name) for name in names
  }


def tail(folder: pathlib.Path) -> str:
  return log(folder)[-4000:]


def run_unbroken(folder: pathlib.Path, processes) -> list[tuple[float, str]]:
  """Runs to the end; (seconds, milestone) in the order of appearance."""
  begin, seen = time.monotonic(), {}
  with start(folder, processes) as running:
    while any(process.poll() is None for process in running):
      for name in milestones(folder) - seen.keys():
        seen[name] = time.monotonic() - begin
      time.sleep(POLL)
  assert not any(process.returncode for process in running), tail(folder)
  seen['end'] = time.monotonic() - begin
  return sorted((seconds, name) for name, seconds in seen.items())


def choose_moments(timeline, count: int) -> list[float]:
  """Random moments, one in each of `count` equal parts of the time.

  Every second one is moved on to where a network has just saved one of its
  first steps: from there, the next start has to continue inside the network.
  """
  rng = np.random.default_rng(count)
  first, end = timeline[0][0], timeline[-1][0]
  saved = [
    seconds
    for seconds, name in timeline
    if re.fullmatch(r'run/stages/\w+/\w+/[1-4]', name)
  ]
  moments = []
  for i in range(count):
    moment = first + (i + rng.random()) / count * (end - first)
    if i % 2 == 0:
      moment = min((s for s in saved if s >= moment), default=saved[-1])
    moments.append(moment)
  return sorted(moments)


def run_until(folder, processes: int, timeline, moment: float) -> str | None:
  """Starts the program and kills all of it at a moment of the unbroken run.

  A moment counts from the milestone before it, because another start takes
  another time to get there: it begins where the last one was killed.

  Args:
    folder: of the run.
    processes: that it has.
    timeline: of `run_unbroken`.
    moment: seconds of that run.

  Returns:
    Where it was killed, None if it came to its end first.
  """
  times = [seconds for seconds, _ in timeline]
  order = {name: i for i, (_, name) in enumerate(timeline)}
  reach = lambda: max(
    (order[name] for name in milestones(folder) if name in order), default=-1
  )
  last = np.searchsorted(times, moment, side='right') - 1
  delay, before, begin = moment - times[last], reach(), time.monotonic()
  if before >= last:
    # Already there: the delay counts from when this start trains again.
    delay += dict(map(reversed, timeline))['run/manifest.json']
  reached = begin if before >= last else None
  with start(folder, processes) as running:
    while any(process.poll() is None for process in running):
      now, place = time.monotonic(), reach()
      if reached is None and place >= last:
        reached = now
      if place > max(last, before) or (reached and now > reached + delay):
        break  # which kills it
      assert now < begin + 10 * times[-1] + 60, f'hangs: {tail(folder)}'
      time.sleep(POLL)
  codes = [process.returncode for process in running]
  if not any(codes):
    return None
  assert set(codes) <= {0, -9}, tail(folder)
  steps = re.findall(r'\S+ step \d+/\d+', tail(folder))
  newest = max(milestones(folder) & order.keys(), key=order.get, default='')
  return (
    f'{moment:.1f} s of {times[-1]:.1f} s: after {now - begin:.1f} s of this '
    f'start, newest file {newest}, last evaluation {steps[-1:]}'
  )


HALF_DELETED = """
import os, pathlib, sys
import numpy as np
from fld_jax.runtime import checkpoint
from fld_jax.training import train_step

unlink = os.unlink

def save(step):
  array = np.full(3, step, np.float32)
  state = train_step.TrainState(np.int32(step), {'params': array}, (array,))
  with checkpoint.Checkpoints(pathlib.Path(sys.argv[1])) as checkpoints:
    checkpoints.save(step, state, {}, [{'images': step}], 1 / step, 0.0)

def unlink_and_die(*args, **kwargs):
  unlink(*args, **kwargs)
  os._exit(9)

save(1)
save(2)
os.unlink = unlink_and_die
save(3)  # which is better, so the first one goes
"""


def test_killed_while_an_old_checkpoint_is_deleted(tmp_path):
  child = subprocess.run(
    [sys.executable, '-c', HALF_DELETED, tmp_path / 'network'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert child.returncode == 9, f'nothing was deleted: {child.stderr}'
  with checkpoint.Checkpoints(tmp_path / 'network') as checkpoints:
    assert checkpoints.last_step() == 3
    saved = checkpoint.SavedNetwork(tmp_path / 'network')
    best = saved.restore_chosen({'params': np.zeros(3, np.float32)})
    np.testing.assert_array_equal(best['params'], [3, 3, 3])
    assert saved.history() == [{'images': 3}]
  steps = {path.name for path in (tmp_path / 'network').iterdir()}
  assert steps == {'2', '3'}, 'the deleted checkpoint is still there'


@pytest.mark.parametrize(
  ('errors', 'standard_error', 'chosen'),
  [
    ([5, 4, 3, 2], 0.1, 4),
    ([5, 1, 3, 2], 0.1, 2),  # better than by chance
    ([5, 1, 3, 2], 1.0, 4),  # by chance
    ([5, 1, 2, 3], 1.0, 3),
    ([5, 1, 2, 3], np.inf, 4),  # of one image
    ([5, 1, 3, np.inf], 0.1, 2),  # the last was not measured
    ([np.inf, np.inf, np.inf], 0.0, 3),
  ],
)
def test_which_checkpoint_is_used(tmp_path, errors, standard_error, chosen):
  state = train_step.TrainState(np.int32(1), {'a': np.ones(3)}, ())
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    for step, ne in enumerate(errors, 1):
      state = state.replace(variables={'a': np.full(3, step)})
      checkpoints.save(step, state, {}, [], ne, standard_error)
  saved = checkpoint.SavedNetwork(tmp_path)
  restored = saved.restore_chosen({'a': np.zeros(3, int)})
  assert restored['a'].tolist() == [chosen] * 3


@pytest.mark.parametrize(
  ('errors', 'start', 'chosen'),
  [
    ({0: 5.0, 1: 4.0, 2: 3.5}, 5.0, 2),
    # Within a standard error of the lowest, and worse than the start.
    ({0: 5.0, 1: 4.9, 2: 5.1}, 5.0, 1),
    ({0: 5.0, 1: 5.1, 2: 5.2}, 5.0, 0),
    ({1: 4.9, 2: 5.1}, 5.0, 1),  # the start itself is not kept
    ({1: 5.2, 2: 5.3}, 5.0, 1),  # and is damaged: as good as it gets
    ({0: 5.0, 1: 4.9, 2: 5.1}, None, 2),  # a run that did not measure it
  ],
)
def test_none_worse_than_the_start_is_used(errors, start, chosen):
  known = {} if start is None else {'start_ne': start}
  figures = {
    step: {'ne': ne, 'standard_error': 0.5, **known}
    for step, ne in errors.items()
  }
  assert checkpoint.chosen(figures) == chosen


def test_killed_before_the_sums_were_written(tmp_path):
  state = train_step.TrainState(np.int32(1), {'a': np.ones(3)}, ())
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state, {}, [], 0.1, 0.0)
  (tmp_path / '1' / checkpoint.CHECKSUMS).unlink()
  files = [path for path in (tmp_path / '1').rglob('*') if path.is_file()]
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.write_missing_checksums()
    assert checkpoints.last_step() == 1
  assert json.loads((tmp_path / '1' / checkpoint.CHECKSUMS).read_text()) == {
    path.relative_to(tmp_path / '1').as_posix(): hashlib.sha256(
      path.read_bytes()
    ).hexdigest()
    for path in files
  }


def test_what_a_kill_left_unfinished_is_cleared_away(tmp_path):
  left = [tmp_path / '.manifest.json.123.tmp', tmp_path / 'a/.b.npz.4.tmp']
  kept = [tmp_path / 'a/b.npz', tmp_path / 'a/.c.tmp', tmp_path / 'd.5.tmp']
  (tmp_path / 'a').mkdir()
  for path in left + kept:
    path.write_bytes(b'')
  (tmp_path / 'e/.report.6.tmp').mkdir(parents=True)
  atomic.remove_unfinished(tmp_path)
  there = {path for path in tmp_path.rglob('*') if path.is_file()}
  assert there == set(kept) and not list((tmp_path / 'e').iterdir())


@pytest.mark.parametrize('processes', [1, 2])
def test_killed_run_ends_like_an_unbroken_one(tmp_path, tiny_config, processes):
  timeline = run_unbroken(tmp_path / 'unbroken', processes)
  kills = []
  until = functools.partial(run_until, tmp_path / 'killed', processes, timeline)
  for moment in choose_moments(timeline, KILLS):
    # A start that is faster than the unbroken one may end first: once more.
    where = until(moment) or until(moment)
    print(f'killed at {where}', flush=True)
    kills.append(where)
  assert kills[0], 'the run ended before the first kill'
  with start(tmp_path / 'killed', processes) as running:
    for process in running:
      assert process.wait() == 0, tail(tmp_path / 'killed')
  continued = re.findall(
    r'(\S+ continues from step \d+ of \d+)', log(tmp_path / 'killed')
  )
  print('\n'.join(continued))
  assert continued, 'no kill fell between two steps of a network'

  unbroken, killed = (
    tmp_path / name / 'run' for name in ('unbroken', 'killed')
  )
  for name in ('metrics.json', 'predictions.json'):
    name = f'eval/test/{name}'
    assert (killed / name).read_bytes() == (unbroken / name).read_bytes(), name
  config = tiny_config(stages=STAGES[processes])
  (stages, history), (expected, expected_history) = (
    store.load_cascade(config, resolve(config), workdir)
    for workdir in (killed, unbroken)
  )
  for stage, other in zip(stages, expected, strict=True):
    jax.tree.map(np.testing.assert_array_equal, stage.networks, other.networks)
    jax.tree.map(np.testing.assert_array_equal, stage.clusters, other.clusters)
    assert stage.epsilon == other.epsilon
  assert history == expected_history
  assert listing(killed) == listing(unbroken)
  made = {
    path.relative_to(unbroken) for path in unbroken.glob('stages/*/*.npz')
  }
  # Clusters of each stage, the refitted head of the second, routes of a third.
  assert len(made) == {3: 5, 2: 3}[STAGES[processes]], made
  for name in made:
    with np.load(killed / name) as left, np.load(unbroken / name) as right:
      assert left.keys() == right.keys()
      for key in right:
        np.testing.assert_array_equal(left[key], right[key])
