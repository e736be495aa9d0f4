"""What an evaluation leaves on disk, and what is read back."""

import dataclasses
import json

import numpy as np
import pytest
from made_up_runs import OWN, make_run

from fld_jax.datasets.catalog import DATASETS
from fld_jax.errors import InputError
from fld_jax.evaluation import results
from fld_jax.evaluation.results import write_evaluation
from fld_jax.metrics import predictions


def test_results(tmp_path):
  run = make_run(count=5)
  for name in ('a', 'b'):
    write_evaluation(tmp_path / name, run.predictions, run.figures)
  names = sorted(path.name for path in (tmp_path / 'a').iterdir())
  assert names == ['metrics.json', 'predictions.json']
  for name in names:
    first, second = (tmp_path / folder / name for folder in 'ab')
    assert first.read_bytes() == second.read_bytes()
  read = json.loads((tmp_path / 'a/metrics.json').read_text())
  macro = run.figures['ne']['macro']
  assert read['ne']['macro'] == pytest.approx(macro, abs=1e-6)
  assert read['num_examples'] == 5
  rows = json.loads((tmp_path / 'a/predictions.json').read_text())
  points = np.reshape([row['keypoints'] for row in rows], (5, 8, 3))[..., :2]
  final = run.predictions.estimates['stage3']
  np.testing.assert_allclose(points, final, atol=1e-6)


def test_key_order_does_not_change_the_bytes(tmp_path):
  run = make_run(count=5)
  turned = dict(reversed(run.figures.items()))
  write_evaluation(tmp_path / 'a', run.predictions, run.figures)
  write_evaluation(tmp_path / 'b', run.predictions, turned)
  texts = [(tmp_path / name / 'metrics.json').read_bytes() for name in 'ab']
  assert texts[0] == texts[1]


def test_nan_is_never_written(tmp_path):
  run = make_run(count=5)
  write_evaluation(tmp_path, run.predictions, run.figures)
  before = (tmp_path / 'metrics.json').read_bytes()
  with pytest.raises(ValueError):
    broken = {**run.figures, 'ne': {'macro': float('nan')}}
    write_evaluation(tmp_path, run.predictions, broken)
  assert (tmp_path / 'metrics.json').read_bytes() == before


@pytest.mark.parametrize('cascade', [True, False])
def test_all_is_read_back(tmp_path, cascade):
  # Stages whose order is not that of their names; an id that is no ASCII.
  ids = ['ä/0.jpg', '</script>', 'b c', 'd', 'e', 'f']
  written = make_run(count=6, ids=ids, cascade=cascade).evaluation
  p = written.predictions
  for name in results.BY_STAGE:
    of = getattr(p, name)
    if of:
      renamed = dict(zip(('s9', 's10', 's1'), of.values(), strict=True))
      setattr(p, name, renamed)
  with written.config.unlocked():
    for stage, name in zip(
      written.config.stages, ('s9', 's10', 's1'), strict=True
    ):
      stage.name = name
  for name in ('a', 'b'):
    written.save(tmp_path / name / 'evaluation.npz')
  one, two = ((tmp_path / n / 'evaluation.npz').read_bytes() for n in 'ab')
  assert one == two
  read = results.read_evaluation(tmp_path / 'a' / 'evaluation.npz')
  assert read.split == 'val' and read.epsilon == written.epsilon
  assert read.history == written.history
  assert read.config.to_dict() == written.config.to_dict()
  assert list(read.predictions.estimates) == ['s9', 's10', 's1']
  for field in dataclasses.fields(predictions.Predictions):
    mine = getattr(p, field.name)
    again = getattr(read.predictions, field.name)
    if isinstance(mine, dict):
      assert mine.keys() == again.keys(), field.name
      pairs = [(mine[key], again[key]) for key in mine]
    else:
      pairs = [(mine, again)]
    for a, b in pairs:
      if isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
      else:
        assert a == b, field.name


def test_a_file_of_evaluation_is_not_mistaken_for_predictions(tmp_path):
  """Its truth would score an NE of 0."""
  make_run(count=3).evaluation.save(tmp_path / 'evaluation.npz')
  with np.load(tmp_path / 'evaluation.npz') as arrays:
    assert 'landmarks' not in arrays.files


def test_other_landmarks_than_then_are_refused(tmp_path, monkeypatch):
  """In a file of a version without the landmark set."""
  path = tmp_path / 'evaluation.npz'
  make_run(count=3).evaluation.save(path)
  with np.load(path) as file:
    arrays = dict(file)
  about = json.loads(str(arrays['about']))
  del about['landmark_set']
  np.savez(path, **{**arrays, 'about': np.array(json.dumps(about))})
  assert results.read_evaluation(path).predictions.ids
  other = dataclasses.replace(DATASETS['synthetic'], landmarks=OWN)
  monkeypatch.setitem(DATASETS, 'synthetic', other)
  with pytest.raises(InputError, match='collar_left.*cuff_left.*again'):
    results.read_evaluation(tmp_path / 'evaluation.npz')


def test_a_broken_file_is_told(tmp_path):
  path = tmp_path / 'evaluation.npz'
  make_run(count=3).evaluation.save(path)
  whole = path.read_bytes()
  broken = (b'', whole[:1000], b'{}' * 99, whole.replace(b'about', b'other'))
  for content in broken:
    path.write_bytes(content)
    with pytest.raises(
      InputError, match='evaluation.npz.* is not what an evaluation left'
    ):
      results.read_evaluation(path)
