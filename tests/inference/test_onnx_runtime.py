"""`load(..., runtime='onnx')`: the same landmarks from ONNX Runtime."""

import pathlib
import sys

import numpy as np
import pytest

pytest.importorskip('onnxruntime')

from fld_jax import input_pipeline  # noqa: E402
from fld_jax.errors import InputError  # noqa: E402
from fld_jax.files.images import decode  # noqa: E402
from fld_jax.inference import export_formats  # noqa: E402
from fld_jax.inference.predictor import Predictor  # noqa: E402
from fld_jax.runtime import user_cache  # noqa: E402


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp('cache')


@pytest.fixture
def load(trained_workdir, cache, monkeypatch):
  monkeypatch.setattr(user_cache, 'folder', lambda name: cache / name)
  return lambda **fields: Predictor.load(
    trained_workdir, runtime='onnx', **fields
  )


@pytest.fixture(scope='module')
def items(synthetic_builder):
  records = input_pipeline.Records(synthetic_builder, 'test')
  images = [decode(record['image']) for record in records]
  return images, [record['box'] for record in records]


def test_finds_what_jax_finds(load, trained_workdir, items):
  expected = Predictor.load(trained_workdir)(*items)
  found = load(warm=True)(*items)
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one.positions, other.positions, atol=1e-3)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)
    np.testing.assert_allclose(
      one.visibility_probs, other.visibility_probs, atol=1e-4
    )
    np.testing.assert_allclose(one.error_90, other.error_90, rtol=1e-3)
    assert one.route == other.route and one.box.tolist() == other.box.tolist()
    assert list(one.stages) == list(other.stages)
  assert {item.route[-1] for item in found} == {'stage3/easy', 'stage3/hard'}


def test_networks_are_converted_once(load, cache, items, monkeypatch):
  first = load()
  (file,) = pathlib.Path(cache).rglob('model.onnx')
  made = file.stat().st_mtime_ns
  row = (None, *export_formats.FORMATS['onnx'][1:])
  monkeypatch.setitem(export_formats.FORMATS, 'onnx', row)
  again = load()
  assert file.stat().st_mtime_ns == made
  one, other = first(items[0][:2]), again(items[0][:2])
  np.testing.assert_array_equal(one[1].positions, other[1].positions)


def test_other_settings_are_other_networks(load, cache, items):
  both = load(**{'routing.mode': 'average'})(items[0][:1])
  assert both[0].route == ('stage1', 'stage2', 'stage3/easy', 'stage3/hard')
  assert len(list(pathlib.Path(cache).rglob('model.onnx'))) == 2


def test_wrong_networks_are_not_kept(load, cache, monkeypatch):
  convert, open_file, facts = export_formats.FORMATS['onnx']

  def opened(path):
    run = open_file(path)
    spoilt = lambda name, x: x + 0.01 if name.endswith('estimate') else x
    return lambda crops: {k: spoilt(k, v) for k, v in run(crops).items()}

  row = (convert, opened, facts)
  monkeypatch.setitem(export_formats.FORMATS, 'onnx', row)
  before = sorted(pathlib.Path(cache).rglob('*'))
  with pytest.raises(RuntimeError, match='stage1 differ by 0.32 pixels'):
    load(**{'routing.mode': 'two_branch'})
  assert sorted(pathlib.Path(cache).rglob('*')) == before


def test_a_missing_package_is_named(load, monkeypatch):
  monkeypatch.setitem(sys.modules, 'onnxruntime', None)
  words = "runtime 'onnx' needs onnxruntime, which is not installed"
  with pytest.raises(InputError, match=words):
    load()
