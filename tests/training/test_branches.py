"""Branches of a common stage, the head that routes, the start of a stage."""

import json
import logging
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from fld_jax import config_rules, defaults, experiment
from fld_jax.cascade import pseudo_labels, store
from fld_jax.cascade.setup import resolve
from fld_jax.configs import dfa, dfa_table2
from fld_jax.errors import InputError
from fld_jax.inference.predictor import Predictor
from fld_jax.runtime.manifest import read_manifest
from fld_jax.training import train_cascade, train_network


def assert_same(left, right):
  """Two trees of arrays agree bit by bit."""
  assert jax.tree.structure(left) == jax.tree.structure(right)
  jax.tree.map(np.testing.assert_array_equal, left, right)


def trains(config, workdir, splits=('test',)):
  return experiment.run(config, workdir, mode='train', splits=splits)


def four_stages(tiny_config):
  """The recipe, whose branches stand still: they end as they started."""
  config = tiny_config(stages=4)
  config.stages[3].optimizer.learning_rate = 0.0
  return config


@pytest.fixture(scope='module')
def finished(tiny_config, tmp_path_factory):
  """(workdir, metrics) of a trained cascade with branches of a third stage."""
  workdir = tmp_path_factory.mktemp('branches') / 'run'
  return workdir, trains(four_stages(tiny_config), workdir)


def load(tiny_config, workdir):
  config = four_stages(tiny_config)
  return store.load_cascade(config, resolve(config), workdir)


def test_branches_start_as_the_common_stage(finished, tiny_config):
  workdir, metrics = finished
  entry = read_manifest(workdir)['stages']['branches']
  assert entry['continues'] and entry['threshold'] == 'quantile'
  assert entry['easy_share'] == 0.5, 'of 48 images by the quantile 0.5'
  stages, history = load(tiny_config, workdir)
  assert [stage.continues for stage in stages] == [False] * 3 + [True]
  common = stages[2].networks['all']['params']
  for name in ('easy', 'hard'):
    # All of it, the head of the pseudo-labels too: the clusters are the same.
    assert_same(stages[3].networks[name]['params'], common)
  assert_same(stages[3].clusters, stages[2].clusters)
  first = {p['stage']: p for p in reversed(history)}
  for name in ('branches/easy', 'branches/hard'):
    assert first[name]['step'] == 0
  # All training images, and as many steps as of the common stage.
  steps = [p['step'] for p in history if p['stage'] == 'branches/easy']
  assert steps == [0, 3, 6]
  measured = metrics['test']['routing']
  assert list(measured['rank_correlation']) == [s.name for s in stages]
  assert (
    measured['easy']['num_examples'] + (measured['hard']['num_examples']) == 16
  )
  written = json.loads((workdir / 'eval/test/metrics.json').read_text())
  assert written['routing']['easy']['ne'].keys() == {s.name for s in stages}


def test_prediction_leaves_the_common_stage_out(finished):
  workdir, _ = finished
  predictor = Predictor.load(workdir)
  (found,) = predictor([np.full((40, 30, 3), 90, np.uint8)])
  assert list(found.stages) == ['stage1', 'stage2', 'branches']


def test_the_head_that_routes_is_fitted_and_seen_by_all(
  finished, tiny_config, tmp_path
):
  workdir, metrics = finished
  head = store.checkpoint.load_arrays(workdir / 'stages/stage2/refit.npz')
  assert read_manifest(workdir)['stages']['stage2']['refitted']
  stages, _ = load(tiny_config, workdir)
  found = stages[1].networks['all']['params']['fc8_pseudo_label']
  assert_same(dict(found), head)
  trained = store.load_network(
    workdir / 'stages/stage2/all', stages[1].model, 32
  )[0]['params']['fc8_pseudo_label']
  assert np.abs(trained['kernel'] - head['kernel']).max() > 1e-4
  # A run of which a kill left no head makes the same; so does a damaged file.
  copied = tmp_path / 'run'
  shutil.copytree(workdir, copied)
  path = copied / 'stages/stage2/refit.npz'
  content = path.read_bytes()
  path.write_bytes(content[:100])
  with pytest.raises(InputError, match='refit.npz.*train makes it again'):
    load(tiny_config, copied)
  path.unlink()
  with pytest.raises(InputError, match='refit.npz: is missing: --mode=train'):
    load(tiny_config, copied)
  manifest = json.loads((copied / 'manifest.json').read_text())
  manifest['stages'] = {'stage1': manifest['stages']['stage1']}
  (copied / 'manifest.json').write_text(json.dumps(manifest))
  shutil.rmtree(copied / 'stages/branches')
  again = trains(four_stages(tiny_config), copied)
  assert path.read_bytes() == content
  assert again == metrics
  # And one that takes the stage from this run has its head as well.
  taking = tiny_config(stages=2)
  for stage in taking.stages:
    stage.checkpoint = str(workdir / 'stages' / stage.name)
  trains(taking, tmp_path / 'taking', splits=())
  other, _ = store.load_cascade(taking, resolve(taking), tmp_path / 'taking')
  assert_same(other[1].networks, stages[1].networks)


def test_fit_head_is_logistic_regression():
  """Against scikit-learn's, which takes each label as weighted examples."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(60, 5)) * [1, 2, 3, 0.1, 1] + [0, 1, 5, 0, 0]
  x[:, 4] = 0.7  # a unit that is always the same
  true = rng.normal(size=(4, 3))
  labels = softmax(x[:, :4] @ true / [1, 2, 1], axis=1)
  decay = 0.01
  head = pseudo_labels.fit_head(x.astype(np.float32), labels, decay)
  scaled = (x - x.mean(0))[:, :4] / x.std(0)[:4]
  oracle = LogisticRegression(C=1 / (60 * decay), tol=1e-8, max_iter=10_000)
  oracle.fit(
    np.repeat(scaled, 3, axis=0),
    np.tile(np.arange(3), 60),
    sample_weight=labels.ravel(),
  )
  found = softmax(x @ head['kernel'] + head['bias'], axis=1)
  np.testing.assert_allclose(found, oracle.predict_proba(scaled), atol=1e-4)
  np.testing.assert_array_equal(head['kernel'][4], 0)
  assert head['kernel'].dtype == head['bias'].dtype == np.float32


def test_easy_share():
  score = np.float32([0.25, 0.3, 0.4])
  np.testing.assert_allclose(
    pseudo_labels.easy_share(score, 0.3, 0.05),
    [1 / (1 + np.e**-1), 0.5, 1 / (1 + np.e**2)],
    rtol=1e-5,
  )
  # With no edge it is the paper's rule.
  np.testing.assert_allclose(
    pseudo_labels.easy_share(score[[0, 2]], 0.3, 1e-6), [1, 0], atol=1e-6
  )


SCORES = np.linspace(0.1, 1.0, 10)


@pytest.mark.parametrize(
  ('epsilon', 'quantile', 'expected', 'warns'),
  [
    (0.35, 0.0, 0.35, False),  # 3 of 10
    (0.05, 0.0, 0.73, True),  # none: the quantile 0.7 of 0.1, 0.2, ..., 1
    (1.5, 0.0, 0.73, True),  # all
    (0.05, 0.5, 0.55, False),
    (0.35, 0.9, 0.91, False),
  ],
)
def test_threshold(epsilon, quantile, expected, warns, caplog):
  routing = ConfigDict({'epsilon': epsilon, 'quantile': quantile})
  with caplog.at_level(logging.WARNING, 'fld_jax'):
    found = train_cascade.find_threshold(SCORES, routing)
  assert found == pytest.approx(expected)
  assert ('leaves a branch less than 5 %' in caplog.text) == warns


@pytest.mark.parametrize('whole', [True, False])
def test_hard_branches_of_a_useless_threshold(
  finished, tiny_config, tmp_path, whole, caplog
):
  """They fall back to a quantile, and have the steps of all images, or not."""
  workdir, _ = finished
  config = tiny_config()  # the paper's, from stage 2
  for stage in config.stages[:2]:
    stage.checkpoint = str(workdir / 'stages' / stage.name)
  config.routing.epsilon, config.routing.quantile = 1e9, 0.0
  last = config.stages[2]
  last.whole_epochs = whole
  last.train_steps, last.train_epochs, last.min_steps = 0, 1.0, 0
  last.eval_steps, last.eval_epochs = 0, 1.0
  trains(config, tmp_path, splits=())
  assert 'the quantile 0.7 of their scores' in caplog.text
  entry = read_manifest(tmp_path)['stages']['stage3']
  assert entry['threshold'] == 'fallback'
  assert entry['easy_share'] == pytest.approx(0.7, abs=0.02)
  _, history = store.load_cascade(config, resolve(config), tmp_path)
  steps = {p['stage']: p['step'] for p in history}
  # 48 images, of which 33 or 34 are easy, in batches of 8.
  easy, hard = (6, 6) if whole else (5, 2)
  assert steps['stage3/easy'] == easy and steps['stage3/hard'] == hard


def bad_second_stage(tiny_config, workdir):
  """The config of a second stage that training can only spoil."""
  config = tiny_config(stages=2)
  config.stages[0].checkpoint = str(workdir / 'stages/stage1')
  last = config.stages[1]
  last.optimizer.learning_rate, last.optimizer.warmup = 3.0, 0.0
  last.pseudo_label.refit = 0.0
  return config


def test_a_stage_is_never_worse_than_its_start(
  finished, tiny_config, tmp_path, monkeypatch
):
  workdir, metrics = finished
  config = bad_second_stage(tiny_config, workdir)
  found = trains(config, tmp_path / 'unbroken')['test']['stages']
  setup = resolve(config)
  _, history = store.load_cascade(config, setup, tmp_path / 'unbroken')
  curve = [p['tune_ne'] for p in history if p['stage'] == 'stage2']
  assert len(curve) == 3 and min(curve[1:]) > 2 * curve[0]
  # Of the start's landmarks only those units are gone that carry the estimate.
  first = metrics['test']['stages']['stage1']['ne']['macro']
  assert found['stage1']['ne']['macro'] == pytest.approx(first, rel=1e-6)
  assert found['stage2']['ne']['macro'] == pytest.approx(first, rel=0.1)
  # Killed with nothing saved but the start, it ends the same.
  update = train_network._Training.update

  def killed(self, step, batch):
    if self._job.name == 'stage2':
      raise RuntimeError('killed')
    update(self, step, batch)

  monkeypatch.setattr(train_network._Training, 'update', killed)
  with pytest.raises(RuntimeError, match='killed'):
    trains(config, tmp_path / 'killed')
  saved = tmp_path / 'killed/stages/stage2/all'
  assert [p.name for p in saved.iterdir() if p.name.isdigit()] == ['0']
  monkeypatch.setattr(train_network._Training, 'update', update)
  assert trains(config, tmp_path / 'killed')['test']['stages'] == found
  _, resumed = store.load_cascade(config, setup, tmp_path / 'killed')
  assert resumed == history


def test_an_old_run_keeps_its_own_epochs():
  saved = {'stages': [{'name': 'a', 'whole_epochs': True}, {'name': 'b'}]}
  config = dfa.get_config('size=tiny,stages=2')
  begun = defaults.as_begun(config, saved)
  assert [stage.whole_epochs for stage in begun.stages] == [True, False]


REFUSED = {
  'stages[2].init': lambda c: c.stages[2].update(init='continue'),
  'stages[3].pseudo_label.num_clusters': lambda c: c.stages[
    3
  ].pseudo_label.update(num_clusters=9),
  'stages[3].pseudo_label.refit': lambda c: c.stages[3].pseudo_label.update(
    refit=0.1
  ),
  'stages[1].pseudo_label.refit': lambda c: c.stages[1].pseudo_label.update(
    num_clusters=0
  ),
  'stages[3].branch_temperature': lambda c: c.stages[3].update(
    branch_temperature=-1.0
  ),
}


@pytest.mark.parametrize('field', REFUSED)
def test_refused(field):
  config = dfa.get_config('size=tiny')
  config_rules.check(config)
  REFUSED[field](config)
  with pytest.raises(InputError) as raised:
    config_rules.check(config)
  assert f'config.{field} ' in str(raised.value)


@pytest.mark.parametrize('size', ['full', 'small', 'tiny'])
def test_auxiliary_losses_weigh_the_same_in_all_stages(size):
  """The landmarks' loss is in squares of what is 5 times larger."""
  config = dfa.get_config(f'size={size}')
  first = config.stages[0].weights
  for stage in config.stages[1:]:
    for name in ('visibility', 'pseudo_label'):
      assert stage.weights[name] == pytest.approx(25 * first[name])
    assert stage.weights.landmarks == first.landmarks


def test_table_2_is_as_the_paper_has_it():
  """Hard branches from stage 2 on their own images, no head fitted again."""
  config = dfa_table2.get_config('dataset=deepfashion,size=small')
  rows = {
    row.title: {path: new for path, _, new in row.change}
    for row in config.rows.values()
  }
  assert rows['s3 + auto-routing']['stages[2].branches'] is True
  assert 'stages[2].branches' not in rows['s3 direct regression']
  assert rows['s3 + two-branch']['routing.mode'] == 'two_branch'
  for stage in config.stages:
    assert stage.pseudo_label.refit == stage.visibility_floor == 0
  assert {row.num_stages for row in config.rows.values()} == {1, 2, 3}
  assert config.stages[2].branch_temperature == 0
