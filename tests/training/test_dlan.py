"""DLAN from data to export; whole images; outputs that do not collapse."""

import jax
import numpy as np
import pytest
from trainings import train

from fld_jax import geometry, input_pipeline, schema
from fld_jax.cascade import store
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import resolve
from fld_jax.configs import dlan
from fld_jax.errors import Preempted
from fld_jax.inference import export
from fld_jax.inference.predictor import Predictor
from fld_jax.runtime import processes
from fld_jax.runtime.parallel import Parallel
from fld_jax.training import losses

STEPS = 400


@pytest.fixture(scope='module')
def tiny(tiny_config):
  """make() -> a fresh config that trains in seconds."""
  of_dfa = tiny_config()

  def make():
    config = dlan.get_config('dataset=synthetic,size=tiny')
    config.batch_size = 8
    config.log_every_steps = 50
    config.dataset = of_dfa.dataset.copy_and_resolve_references()
    config.input.size = 32
    config.model.trunk.blocks = ((1, 8), (1, 12))
    config.model.local_maps = ('c1', 'c2')
    config.model.channels, config.model.hidden = 8, 32
    config.model.patch = 5
    (stage,) = config.stages
    stage.train_epochs = stage.eval_epochs = 0.0
    stage.min_steps, stage.average = 0, 0.9
    stage.optimizer.learning_rate = 3e-3
    stage.train_steps, stage.eval_steps = STEPS, STEPS // 2
    return config

  return make


@pytest.fixture(scope='module')
def finished(tiny, synthetic_builder, tmp_path_factory):
  """The folder of a trained run."""
  workdir = tmp_path_factory.mktemp('dlan')
  train(tiny(), synthetic_builder, workdir)
  return workdir


@pytest.mark.parametrize('kind', ['l2', 'l1'])
def test_the_loss_is_that_of_the_definition(kind):
  rng = np.random.default_rng(0)
  prediction = rng.normal(size=(3, 4, 5, 2)).astype(np.float32)
  log_scale = np.log(rng.uniform(0.05, 2.0, (3, 4))).astype(np.float32)
  truth = rng.normal(size=(3, 5, 2)).astype(np.float32)
  codes = rng.integers(0, 4, (3, 5))
  found = losses.scale_regularised(prediction, log_scale, truth, codes, kind)
  for b in range(3):
    total = 0.0
    for t in range(4):
      scale = np.exp(np.float64(log_scale[b, t]))
      error = 0.0
      for n in range(5):
        if codes[b, n] in (0, 1):
          gap = prediction[b, t, n] - np.float64(truth[b, n])
          error += sum(gap**2) / 2 if kind == 'l2' else sum(abs(gap))
      total += error / min(max(scale, 0.2), 1.2) ** 0.25
      if scale < 0.2:
        total += np.log(scale / 0.2) ** 2
      if scale > 1.2:
        total += np.log(scale / 1.2) ** 2
    np.testing.assert_allclose(found[b], total / 4, rtol=1e-4)


def test_the_loss_brings_scales_back_and_does_not_grow_windows():
  zeros = np.zeros((1, 4, 2, 2), np.float32)
  log_scale = np.log([[0.1, 0.5, 1.1, 2.0]]).astype(np.float32)
  codes = np.zeros((1, 2), int)
  gradient = jax.grad(
    lambda s: losses.scale_regularised(zeros, s, zeros[:, 0] + 1, codes).sum()
  )(log_scale)
  assert np.sign(gradient[0]).tolist() == [-1, 0, 0, 1]


def test_the_box_neither_moves_the_crop_nor_is_lost(tiny, synthetic_builder):
  config = tiny()
  example = input_pipeline.Example(resolve(config).pipeline, augment=False)
  record = input_pipeline.Records(synthetic_builder, 'test')[0]
  one = example(record, None)
  box = np.array([3, 5, 40, 60], np.float32)
  other = example({**record, 'box': box}, None)
  np.testing.assert_array_equal(one['image'], other['image'])
  np.testing.assert_array_equal(one['landmarks'], other['landmarks'])
  np.testing.assert_array_equal(other['box'], box)
  width, height = one['image_size']
  side = max(width, height)
  corners = np.array([[0, 0], [32, 32]], float)
  found = geometry.transform(one['affine'], corners)
  middle = np.array([width, height]) / 2
  np.testing.assert_allclose(found, [middle - side / 2, middle + side / 2])


def test_images_do_not_collapse_to_one_output(
  finished, tiny, synthetic_builder
):
  """What public trainings of such networks ended with."""
  setup = resolve(tiny())
  stages, _ = store.load_cascade(tiny(), setup, finished)
  cascade = Cascade(stages, setup, Parallel('shard_map', jax.devices()[:1]))
  records = input_pipeline.Records(synthetic_builder, 'test')
  rows = cascade.predict_records(records)
  found, truth = rows['stages']['stage1']['estimate'], rows['landmarks']
  assert len(np.unique(found.reshape(16, -1), axis=0)) == 16
  known = schema.has_position(rows['visibility'])
  spread = lambda x: [x[known[:, n], n].std(axis=0).mean() for n in range(8)]
  # Over the images a landmark moves at least a fifth as much as the true one.
  assert (np.array(spread(found)) > 0.2 * np.array(spread(truth))).all()
  gap = np.linalg.norm(found - truth, axis=-1)[known].mean()
  assert gap < 0.2, 'it has learnt nothing'


def test_a_stopped_run_ends_like_an_unbroken_one(
  finished, tiny, synthetic_builder, tmp_path, monkeypatch
):
  calls = iter(range(1, 1000))
  with monkeypatch.context() as patch:
    patch.setattr(processes, 'preempted', lambda: next(calls) == STEPS - 7)
    with pytest.raises(Preempted):
      train(tiny(), synthetic_builder, tmp_path)
  train(tiny(), synthetic_builder, tmp_path)
  (stage,), (other,) = (
    store.load_cascade(tiny(), resolve(tiny()), folder)[0]
    for folder in (tmp_path, finished)
  )
  jax.tree.map(np.testing.assert_array_equal, stage.networks, other.networks)


@pytest.mark.parametrize('format', ['stablehlo', 'onnx'])
def test_exported_files_find_the_same(finished, tiny, tmp_path, format):
  """`export` compares its file with `predict` to 1e-3 pixels, or raises."""
  export.export(tiny(), finished, tmp_path / 'out', format)
  source = (tmp_path / 'out/crop.py').read_text()
  assert "SIZE, CROP, MARGIN = 32, 'image', 0.0" in source


def test_a_box_of_an_item_changes_nothing_but_the_item(finished):
  detector = Predictor.load(finished)
  photo = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
  alone, boxed = detector([photo, photo], [None, (5, 6, 20, 30)])
  np.testing.assert_array_equal(alone.positions, boxed.positions)
  assert boxed.box.tolist() == [5, 6, 20, 30]
