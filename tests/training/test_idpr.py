"""IDPR from data to export: relations, routing, resume, files."""

import jax
import numpy as np
import pytest

from fld_jax import experiment
from fld_jax.cascade import store
from fld_jax.cascade.setup import resolve
from fld_jax.configs import idpr
from fld_jax.errors import Preempted
from fld_jax.inference import export
from fld_jax.runtime import processes


@pytest.fixture(scope='module')
def tiny(tiny_config):
  """make() -> a fresh config of both passes that trains in seconds."""
  of_dfa = tiny_config()

  def make():
    config = idpr.get_config('dataset=synthetic,size=tiny,extras=routing')
    config.batch_size = 8
    config.log_every_steps = 2
    config.dataset = of_dfa.dataset.copy_and_resolve_references()
    config.input.size = 32
    config.model.trunk.blocks = ((1, 4),) * 5
    config.model.channels, config.model.num_types = 8, 2
    config.stages[0].pseudo_label.num_clusters = 4
    for stage in config.stages:
      stage.train_steps, stage.eval_steps, stage.train_epochs = 6, 3, 0.0
      stage.eval_epochs, stage.min_steps = 0.0, 0
    return config

  return make


@pytest.fixture(scope='module')
def finished(tiny, synthetic_builder, tmp_path_factory):
  """The folder of a trained and evaluated run, and its metrics."""
  workdir = tmp_path_factory.mktemp('idpr')
  return workdir, experiment.run(
    tiny(), workdir, mode='train', splits=('test',)
  )['test']


def test_a_run_of_both_passes(finished, tiny):
  workdir, metrics = finished
  assert list(metrics['stages']) == ['stage1', 'branches']
  passes = metrics['network_passes']
  assert passes['stage1'] == 16
  assert passes['branches/easy'] + passes['branches/hard'] == 16
  stages, _ = store.load_cascade(tiny(), resolve(tiny()), workdir)
  measured = np.load(workdir / 'stages/stage1/relations.npz')
  # As they were measured, in all networks, the averaged ones too.
  for stage in stages:
    for variables in stage.networks.values():
      jax.tree.map(
        np.testing.assert_array_equal, variables['relations'], {**measured}
      )
  errors = np.load(workdir / 'stages/branches' / store.CLUSTER_ERRORS_FILE)
  np.testing.assert_array_equal(stages[0].clusters['errors'], errors['errors'])
  assert (errors['errors'] > 0).all()


def test_a_stopped_run_ends_like_an_unbroken_one(
  finished, tiny, tmp_path, monkeypatch
):
  """Stopped in the second pass, after the first one's 6 steps."""
  calls = iter(range(1, 1000))
  with monkeypatch.context() as patch:
    patch.setattr(processes, 'preempted', lambda: next(calls) == 10)
    with pytest.raises(Preempted):
      experiment.run(tiny(), tmp_path, mode='train', splits=('test',))
  experiment.run(tiny(), tmp_path, mode='train', splits=('test',))
  workdir, _ = finished
  stages, expected = (
    store.load_cascade(tiny(), resolve(tiny()), folder)[0]
    for folder in (tmp_path, workdir)
  )
  for stage, other in zip(stages, expected, strict=True):
    jax.tree.map(np.testing.assert_array_equal, stage.networks, other.networks)
  for name in ('eval/test/predictions.json', 'stages/branches/routes.npz'):
    assert (tmp_path / name).read_bytes() == (workdir / name).read_bytes()


def test_exported_files_find_the_same(finished, tiny, tmp_path):
  """`export` compares its file with `predict` to 1e-3 pixels, or raises."""
  workdir, _ = finished
  export.export(tiny(), workdir, tmp_path / 'out', 'stablehlo')
  assert (tmp_path / 'out/model.stablehlo').stat().st_size > 10_000


def test_the_tree_is_converted_to_onnx(finished, tiny, tmp_path):
  """Of the first pass alone: jax2onnx takes a minute for the branches too."""
  workdir, _ = finished
  config = tiny()
  setup = resolve(config)
  (first, _), _ = store.load_cascade(config, setup, workdir)
  crops = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
  out = tmp_path / 'out'
  export.write_export([first], config, setup, crops, out, 'onnx', {})
  assert (out / 'model.onnx').stat().st_size > 10_000
