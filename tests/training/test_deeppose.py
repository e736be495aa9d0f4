"""DeepPose from data to export: starts drawn from errors, resume, files."""

import jax
import numpy as np
import pytest
from trainings import train

from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade import store
from fld_jax.cascade.setup import resolve
from fld_jax.configs import deeppose
from fld_jax.errors import Preempted
from fld_jax.inference import export
from fld_jax.landmark_sets import FASHION_8
from fld_jax.pretrained import imagenet, start
from fld_jax.runtime import processes
from fld_jax.training import train_step


@pytest.fixture(scope='module')
def tiny(tiny_config):
  """make() -> a fresh config of two stages that trains in seconds."""
  of_dfa = tiny_config()

  def make():
    config = deeppose.get_config('dataset=synthetic,size=tiny,stages=2')
    config.batch_size = 8
    config.log_every_steps = 2
    config.dataset = of_dfa.dataset.copy_and_resolve_references()
    config.input.size, config.model.patch = 32, 16
    config.offset_scale = 2.0
    config.model.trunk.blocks = ((1, 4), (1, 8))
    config.model.pool, config.model.hidden = 2, 16
    for stage in config.stages:
      stage.input_size = 16
      stage.train_steps, stage.eval_steps, stage.train_epochs = 6, 3, 0.0
      stage.eval_epochs, stage.min_steps = 0.0, 0
    return config

  return make


@pytest.fixture(scope='module')
def finished(tiny, synthetic_builder, tmp_path_factory):
  """The folder of a trained run."""
  workdir = tmp_path_factory.mktemp('deeppose')
  train(tiny(), synthetic_builder, workdir)
  return workdir


def test_errors_are_those_of_the_definition():
  rng = np.random.default_rng(0)
  truth = rng.normal(size=(50, 3, 2)).astype(np.float32)
  estimate = truth + rng.normal([0.1, -0.2], 0.3, (50, 3, 2))
  codes = rng.choice([0, 1, 2, 3], (50, 3), p=[0.4, 0.2, 0.3, 0.1])
  codes[:, 2] = 2  # never with a position
  errors = train_step.Errors.measure(estimate, truth, codes)
  for n in range(2):
    off = [
      estimate[i, n] - truth[i, n] for i in range(50) if codes[i, n] in (0, 1)
    ]
    np.testing.assert_allclose(errors.mean[n], np.mean(off, axis=0), rtol=1e-5)
    np.testing.assert_allclose(errors.std[n], np.std(off, axis=0), rtol=1e-5)
  np.testing.assert_array_equal([errors.mean[2], errors.std[2]], 0)
  noise = rng.normal(size=(50, 3, 2))
  other = rng.normal(size=(50, 3, 2))
  found = np.asarray(errors.start(truth, codes, noise, other))
  known = np.isin(codes, (0, 1))
  expected = truth + errors.mean + errors.std * noise
  np.testing.assert_allclose(found[known], expected[known], rtol=1e-5)
  np.testing.assert_allclose(found[~known], other[~known], rtol=1e-6)


def test_a_stopped_run_ends_like_an_unbroken_one(
  finished, tiny, synthetic_builder, tmp_path, monkeypatch
):
  """Stopped after 4 of 6 steps of stage 2, whose starts are random."""
  calls = iter(range(1, 1000))
  with monkeypatch.context() as patch:
    patch.setattr(processes, 'preempted', lambda: next(calls) == 10)
    with pytest.raises(Preempted, match='stage2 is saved at step 4'):
      train(tiny(), synthetic_builder, tmp_path)
  train(tiny(), synthetic_builder, tmp_path)
  stages, expected = (
    store.load_cascade(tiny(), resolve(tiny()), folder)[0]
    for folder in (tmp_path, finished)
  )
  for stage, other in zip(stages, expected, strict=True):
    jax.tree.map(np.testing.assert_array_equal, stage.networks, other.networks)
  path = f'stages/stage2/{store.ERRORS_FILE}'
  assert (tmp_path / path).read_bytes() == (finished / path).read_bytes()
  kept = np.load(finished / path)
  assert kept['mean'].shape == kept['std'].shape == (8, 2)
  assert (kept['std'] > 0).all()
  assert not (finished / 'stages/stage1' / store.ERRORS_FILE).exists()


@pytest.mark.parametrize('format', ['stablehlo', 'onnx'])
def test_exported_files_find_the_same(finished, tiny, tmp_path, format):
  """`export` compares its file with `predict` to 1e-3 pixels, or raises."""
  export.export(tiny(), finished, tmp_path / 'out', format)
  assert (tmp_path / 'out' / f'model.{format}').stat().st_size > 10_000


def test_every_network_starts_from_the_weights_for_imagenet():
  weights = imagenet.find('efficientnet_lite0')
  try:
    imagenet.installed(weights)
  except Exception as error:
    pytest.skip(str(error))
  config = deeppose.get_config(
    'size=full,backbone=efficientnet_lite0,pretrained=imagenet'
  )
  config.model.hidden = 8
  setup = resolve(config)
  kernels = []
  for index in (0, 1):
    stage = config.stages[index]
    model = stage_lib.build_model(config.model, stage, index, FASHION_8)
    shapes = stage_lib.variable_shapes(model, config.input.size)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    found, _ = start.start_network(zeros, config, setup, index, 'all')
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, zeros)
    assert not found['params']['fc6']['kernel'].any()
    kernels.append(found['params']['efficientnet']['block5']['expand_conv'])
  one, each = (tree['kernel'] for tree in kernels)
  assert each.shape == (8, *one.shape) and one.any()
  np.testing.assert_array_equal(each, np.broadcast_to(one, each.shape))
