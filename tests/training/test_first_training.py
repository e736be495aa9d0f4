"""What a training tells: its length, its time, and what a guess is worth."""

import contextlib
import csv
import errno
import io
import json
import logging
import math
import os
import pathlib
import re

import numpy as np
import pytest

from fld_jax import defaults, experiment, input_pipeline
from fld_jax.cascade import store
from fld_jax.cascade.setup import resolve
from fld_jax.configs import dfa, pcloss
from fld_jax.errors import InputError, Preempted
from fld_jax.evaluation import baseline
from fld_jax.evaluation.baseline import MeanPosition
from fld_jax.metrics import normalised_error
from fld_jax.runtime import compile_times, manifest, processes
from fld_jax.training import progress
from fld_jax.training.schedules import MIN_EVALUATIONS, Plan
from fld_jax.visualization import curves
from fld_jax.visualization import history as history_files

# Lengths.


def plan(stage, images, batch=50):
  return Plan.of(stage, batch_size=batch, num_examples=images)


def published():
  """Every recipe with a reported result: stage, images, total, checkpoints."""
  for name in ('fashionnet', 'simple_baselines', 'fpn', 'integral'):
    small = pcloss.get_config(f'model={name},size=small').stages[0]
    yield small, 4750, 760, [285, 570, 760]
    medium = pcloss.get_config(f'model={name},size=medium').stages[0]
    yield medium, 4750, 5700, range(285, 5701, 285)
    tiny = pcloss.get_config(f'model={name},size=tiny').stages[0]
    yield tiny, 1500, 180, [90, 180]
  small = dfa.get_config('dataset=deepfashion,size=small').stages
  yield small[0], 4750, 2280, range(190, 2281, 190)
  for stage in small[1:3]:
    yield stage, 4750, 760, range(95, 761, 95)
  yield small[3], 4750, 190, [95, 190]  # the branches
  tiny = dfa.get_config('dataset=synthetic,size=tiny').stages
  yield tiny[0], 1500, 360, [90, 180, 270, 360]
  yield tiny[1], 1500, 180, [90, 180]
  yield tiny[2], 1500, 180, [90, 180]
  yield tiny[3], 1500, 60, [30, 60]
  for config in (dfa, pcloss):
    for stage in config.get_config('dataset=deepfashion').stages:
      every = stage.eval_steps
      yield (
        stage,
        200_000,
        stage.train_steps,
        range(every, stage.train_steps + 1, every),
      )


@pytest.mark.parametrize('case', published())
def test_published_recipes_are_as_they_were(case):
  """Neither their length nor the checkpoints that one is chosen of."""
  stage, images, total, checkpoints = case
  found = plan(stage, images)
  assert found.total == found.wished == total
  saved = [s for s in range(1, total + 1) if s % found.save_every == 0]
  assert [*saved, *([] if saved[-1] == total else [total])] == [*checkpoints]
  assert {*checkpoints} <= found.evaluations


@pytest.mark.parametrize('images', [1, 8, 49, 51, 250, 1000, 4750, 100_000])
@pytest.mark.parametrize(
  'config', [dfa.get_config('size=small'), pcloss.get_config('size=medium')]
)
def test_few_images_train_no_less_and_more_images_as_before(config, images):
  for stage in config.stages:
    found = plan(stage, images)
    wished = math.ceil(stage.train_epochs * images / 50)
    assert found.total == max(wished, stage.min_steps)
    assert len(found.evaluations) >= MIN_EVALUATIONS
    if wished < stage.min_steps:  # each evaluation has a checkpoint
      assert all(
        step % found.save_every == 0 or step == found.total
        for step in found.evaluations
      )
      assert len(found.evaluations) <= MIN_EVALUATIONS + 2


def in_epochs(**fields):
  stage = defaults.stage('s')
  stage.train_steps = stage.eval_steps = 0
  stage.update(fields)
  return stage


@pytest.mark.parametrize('total', [1, 2, 9, 10, 11, 38, 100, 199, 360])
@pytest.mark.parametrize('every', [1, 3, 7, 99, 100, 1000])
def test_ten_evaluations_however_short(total, every):
  stage = in_epochs(train_epochs=float(total), eval_epochs=float(every))
  found = plan(stage, images=1, batch=1)
  steps = sorted(found.evaluations)
  assert steps[-1] == total and steps[0] >= 1
  assert len(steps) >= min(total, MIN_EVALUATIONS)
  # No more than are needed: a longer gap would leave too few.
  assert len(steps) <= total // min(every, total) + 2 * MIN_EVALUATIONS
  assert {*range(every, total, every)} <= found.evaluations
  gaps = np.diff([0, *steps])
  assert gaps.max() <= max(1, math.ceil(total / MIN_EVALUATIONS) + 1)


def test_lengths_in_steps_are_taken_as_they_are():
  stage = in_epochs(train_steps=6, eval_steps=3, min_steps=100)
  found = plan(stage, 1000)
  assert (found.total, found.evaluations) == (6, {3, 6})


def test_a_negative_floor_is_refused():
  with pytest.raises(InputError, match='min_steps is -1'):
    plan(in_epochs(train_epochs=1.0, eval_epochs=1.0, min_steps=-1), 8)


def test_no_floor_by_default():
  assert defaults.stage('s').min_steps == 0


# The whole training.


@pytest.fixture(scope='module')
def short(tiny_config):
  """make() -> a config of one stage of 24 steps, in epochs."""

  def make(**fields):
    config = tiny_config(stages=1)
    config.stages[0].update(
      train_steps=0, eval_steps=0, train_epochs=2.0, eval_epochs=1.0
    )
    config.stages[0].update(min_steps=0, **fields)
    return config

  return make


def rows(workdir):
  return list(csv.DictReader((workdir / 'history.csv').open()))


class Log(logging.Handler):
  """Keeps what is logged."""

  def __init__(self):
    super().__init__()
    self.records = []

  def emit(self, record):
    self.records.append(record)


@pytest.fixture(scope='module')
def trained(short, tmp_path_factory):
  """(config, workdir, what the console showed, what was logged)."""
  config, workdir = short(), tmp_path_factory.mktemp('trained') / 'W'
  config.stages[0].min_steps = 20
  logger, log = logging.getLogger('fld_jax'), Log()
  level, shown = logger.level, io.StringIO()
  logger.addHandler(log)
  logger.setLevel(logging.INFO)
  with (
    pytest.MonkeyPatch.context() as patch,
    contextlib.redirect_stdout(shown),
    contextlib.redirect_stderr(shown),
  ):
    # Short waits are passed over in silence, and these may be short.
    patch.setattr(progress, 'SHORT_SECONDS', 0)
    experiment.run(config, workdir, mode='train', splits=('test',))
  logger.removeHandler(log)
  logger.setLevel(level)
  return config, workdir, shown.getvalue(), log.records


def test_what_the_console_says(trained):
  _, workdir, shown, log = trained
  log = '\n'.join(record.getMessage() for record in log)
  assert '20 updates (its min_steps; its train_epochs would be 12)' in log
  assert log.count('macro NE is the mean of') == 1
  assert re.search('compiling the training, about (a minute|.* s as)', shown)
  assert re.search(r'compiled the training in \d+ s', shown)
  lines = re.findall(
    r'stage1: (\d+) of 20 updates(?:, (?:\d+ s|\d+ min) left)?; macro NE on '
    r'tune ([\d.]+) % \(a constant guess has ([\d.]+) %\)',
    shown,
  )
  assert [int(step) for step, *_ in lines] == [*range(2, 21, 2)]
  for (_, ne, guess), row in zip(lines, rows(workdir), strict=True):
    assert ne == f'{100 * float(row["tune_ne"]):.2f}'
    assert guess == f'{100 * float(row["mean_position_ne"]):.2f}'
  # One unit (error_50 and error_90 are names), and no table of shapes.
  assert not re.search('error(?!_[59]0)', shown)
  assert 'kernel' not in shown + log
  assert shown.count('within error_50') == 1
  table = (workdir / 'parameters.txt').read_text()
  assert 'vgg/conv1_1/kernel' in table and 'stage1' in table
  total = re.search(r'Total: ([\d,]+)', table)[1]
  assert f'stage1 {total}; listed in {workdir}/parameters.txt' in log


def test_history_is_that_of_the_checkpoints(trained):
  config, workdir, *_ = trained
  _, history = store.load_cascade(config, resolve(config), workdir)
  written = rows(workdir)
  assert [int(row['step']) for row in written] == [*range(2, 21, 2)]
  assert len(written) == len(history)
  for row, point in zip(written, history, strict=True):
    assert row.pop('stage') == point.pop('stage') == 'stage1'
    assert {k: float(v) for k, v in row.items()} == pytest.approx(point)
  assert {'loss', 'landmarks', 'visibility', 'learning_rate'} <= history[
    0
  ].keys()
  assert (workdir / 'training.png').read_bytes().startswith(b'\x89PNG')


def test_the_guess_is_beside_the_network_everywhere(trained, synthetic_builder):
  config, workdir, shown, log = trained
  landmarks = resolve(config).landmarks
  truth = {
    split: baseline.read_truth(
      landmarks, input_pipeline.Records(synthetic_builder, split)
    )
    for split in ('train', 'val', 'test')
  }
  places = normalised_error.mean_places(truth['train'])
  macro = {}
  for split in ('val', 'test'):
    truth[split].estimates['guess'] = normalised_error.mean_position(
      places, truth[split]
    )
    figures = normalised_error.evaluate(truth[split])
    macro[split] = figures['ne']['macro']
  written = json.loads((workdir / 'eval/test/baseline.json').read_text())
  assert written['ne']['macro'] == pytest.approx(macro['test'], abs=2e-6)
  assert written['ne_by_clothes_type'].keys() == (
    figures['stages']['guess']['ne_by_clothes_type'].keys()
  )
  for row in rows(workdir):
    assert float(row['mean_position_ne']) == pytest.approx(macro['val'])
  of_network = json.loads((workdir / 'eval/test/metrics.json').read_text())
  assert 'mean_position' not in json.dumps(of_network)
  said = baseline.compare(of_network['ne']['macro'], written['ne']['macro'])
  assert said in shown
  page = (workdir / 'eval/test/report.html').read_text()
  assert 'A constant guess, each landmark' in page
  assert f'{100 * written["ne"]["macro"]:.2f}' in page
  table = (workdir / 'eval/test/tables/ne_by_landmark.csv').read_text()
  assert 'mean position' in table
  # It was trained for a moment.
  assert of_network['ne']['macro'] > written['ne']['macro']
  assert 'the network is not better' in said and 'is not better' in page
  warned = [r.getMessage() for r in log if r.levelno == logging.WARNING]
  assert any('is not better' in message for message in warned)


def stopped_at(step, monkeypatch):
  """Lets the run be asked to end at a step, once."""
  calls = iter(range(1, 1000))
  monkeypatch.setattr(processes, 'preempted', lambda: next(calls) == step)


@pytest.mark.parametrize('stop', [1, 4, 17])
def test_history_of_a_run_that_was_stopped(short, tmp_path, monkeypatch, stop):
  config = short()
  config.stages[0].min_steps = 20
  with monkeypatch.context() as patch:
    stopped_at(stop, patch)
    with pytest.raises(Preempted):
      experiment.run(config, tmp_path / 'W', mode='train', splits=())
  experiment.run(config, tmp_path / 'W', mode='train', splits=())
  found = [int(row['step']) for row in rows(tmp_path / 'W')]
  assert found == [*range(2, 21, 2)]


def test_a_run_from_before_there_was_a_floor_goes_on_without_it(
  short, tmp_path, monkeypatch
):
  """Its manifest has no `min_steps`, and the same command now sets it."""
  workdir = tmp_path / 'W'
  with monkeypatch.context() as patch:
    stopped_at(5, patch)
    with pytest.raises(Preempted):
      experiment.run(short(), workdir, mode='train', splits=())
  path = workdir / 'manifest.json'
  saved = json.loads(path.read_text())
  del saved['config']['stages'][0]['min_steps']
  path.write_text(json.dumps(saved))
  config = short()
  config.stages[0].min_steps = 100
  experiment.run(config, workdir, mode='train', splits=())
  assert [int(row['step']) for row in rows(workdir)][-1] == 12
  assert config.stages[0].min_steps == 100, 'the caller has the config'
  # What has begun with a floor keeps it.
  restored = manifest.read_manifest(workdir)['config']
  assert restored['stages'][0]['min_steps'] == 0
  config.stages[0].min_steps = 50
  with pytest.raises(InputError, match='min_steps was 0 and now is 50'):
    experiment.run(config, workdir, mode='train', splits=())


def test_curves_on_a_full_disk(tmp_path, monkeypatch):
  def write_file(path, content):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(history_files, 'write_file', write_file)
  point = {'stage': 'a', 'images': 8, 'loss': 1.0, 'tune_ne': 0.1}
  message = 'history.csv: could not be written .No space'
  with pytest.raises(InputError, match=message):
    history_files.HistoryFiles(tmp_path).write([point], True)


def test_pictures_are_drawn_now_and_then(tmp_path):
  """The table has every evaluation, the picture the last one in any case."""
  files, picture = (
    history_files.HistoryFiles(tmp_path),
    tmp_path / 'training.png',
  )
  points = [
    {'stage': 'a', 'images': i, 'loss': 1 / i, 'tune_ne': 1 / i}
    for i in (1, 2, 3)
  ]
  files.write(points[:1], False)
  first = picture.read_bytes()
  files.write(points[:2], False)
  assert picture.read_bytes() == first and len(rows(tmp_path)) == 2
  files.write(points, True)
  assert picture.read_bytes() != first and len(rows(tmp_path)) == 3


# The guess.


@pytest.mark.parametrize(
  'text, message',
  [
    ('[]', 'is not what a training left'),
    ('{"landmarks": ["a"], "places": []}', 'is not what a training left'),
    ('{"landmarks": ["a"], "places": {"1": [[0]]}}', 'two finite numbers'),
    ('{"landmarks": ["a"], "places": {"1": [[0, NaN]]}}', 'two finite numbers'),
    ('{"landmarks": ["a"], "places": {}}', 'two finite numbers'),
    ('{"landmarks": ["a"], "places": {"x": [[0, 1]]}}', 'is not what a train'),
    ('{', 'is not valid JSON'),
  ],
)
def test_damaged_places_are_refused(tiny_config, tmp_path, text, message):
  (tmp_path / 'mean_position.json').write_text(text)
  landmarks = resolve(tiny_config()).landmarks
  with pytest.raises(InputError, match=f'mean_position.json.*{message}'):
    MeanPosition.read(landmarks, tmp_path)


def test_places_of_other_landmarks_are_none(tiny_config, tmp_path):
  text = '{"landmarks": ["a"], "places": {"1": [[0, 1]]}}'
  (tmp_path / 'mean_position.json').write_text(text)
  landmarks = resolve(tiny_config()).landmarks
  assert MeanPosition.read(landmarks, tmp_path) is None
  assert MeanPosition.read(landmarks, tmp_path / 'elsewhere') is None


def test_which_guess_is_worse():
  assert baseline.compare(None, 0.1) == baseline.compare(0.1, None) == ''
  assert baseline.compare(0.1, 0.2).endswith('that of the network is 10.00 %.')
  for equal in (0.2, 0.25):
    assert 'is not better' in baseline.compare(equal, 0.2)


# Curves, times.


@pytest.mark.parametrize('guesses', [(), (0.15, 0.15), (0.15, 0.1)])
@pytest.mark.parametrize('rate', [True, False])
def test_curves_have_the_line_of_the_guess(guesses, rate):
  history = [
    {'stage': stage, 'images': 8 * i, 'loss': 1 / i, 'tune_ne': 0.2}
    for stage in ('a', 'b')
    for i in (1, 2)
  ]
  for record in history:
    if guesses:
      record['mean_position_ne'] = guesses[record['stage'] == 'b']
    if rate:
      record['learning_rate'] = 0.1
  figure = curves.plot_history(history)
  assert len(figure.axes) == (3 if rate else 2)
  across = {
    line.get_ydata()[0]
    for line in figure.axes[1].lines
    if line.get_linestyle() == '--' and len(line.get_ydata())
  }
  assert across == {100 * guess for guess in guesses}


@pytest.mark.parametrize(
  'seconds, words',
  [
    (0.1, '1 s'),
    (59, '59 s'),
    (61, '1 min'),
    (3000, '50 min'),
    (7300, '2 h 2 min'),
  ],
)
def test_durations(seconds, words):
  assert progress.duration(seconds) == words


@pytest.mark.parametrize('content', [None, '', '[]', '{"a": "x"}', '{}'])
def test_compile_times_are_kept_beside_the_programs(
  tmp_path, monkeypatch, content
):
  path = tmp_path / 'compile_seconds.json'
  monkeypatch.setattr(compile_times, '_path', lambda: path)
  if content is not None:
    path.write_text(content)
  assert compile_times.last('a') is None
  compile_times.keep('a', 41.26)
  compile_times.keep('b', 2)
  assert (compile_times.last('a'), compile_times.last('b')) == (41.3, 2)
  monkeypatch.setattr(compile_times, '_path', lambda: None)
  compile_times.keep('a', 1)
  assert compile_times.last('a') is None


def test_compile_times_that_cannot_be_kept(tmp_path, monkeypatch):
  (tmp_path / 'file').write_text('')
  path = pathlib.Path(tmp_path / 'file/compile_seconds.json')
  monkeypatch.setattr(compile_times, '_path', lambda: path)
  compile_times.keep('a', 1)


def test_programs_have_names_of_their_own():
  assert compile_times.name_of(1, 'a') == compile_times.name_of(1, 'a')
  assert compile_times.name_of(1, 'a') != compile_times.name_of(1, 'b')
