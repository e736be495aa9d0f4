"""One clothes type alone: config.dataset.clothes_type."""

import dataclasses
import json

import numpy as np
import pytest
from score_inputs import config_of, write_npz

from fld_jax import defaults, experiment, input_pipeline
from fld_jax.cascade.setup import resolve
from fld_jax.configs import trained
from fld_jax.datasets import prepare
from fld_jax.datasets.catalog import DATASETS, landmark_set, selected_type
from fld_jax.doctor import examine
from fld_jax.errors import InputError
from fld_jax.evaluation.score import score
from fld_jax.landmark_sets import FASHION_8
from fld_jax.schema import LandmarkSet

# Methods 6.1: the slots and codes of each type.
TYPES = {
  'upper': (1, [0, 1, 2, 3, 6, 7]),
  'lower': (2, [4, 5, 6, 7]),
  'full': (3, [0, 1, 2, 3, 4, 5, 6, 7]),
}


def dataset(tiny_config, kind):
  config = tiny_config().dataset
  config.clothes_type = kind
  return config


@pytest.mark.parametrize('kind', TYPES)
def test_names_partners_and_parts(kind, tiny_config):
  found = landmark_set(dataset(tiny_config, kind))
  slots = TYPES[kind][1]
  assert found.names == tuple(FASHION_8.names[slot] for slot in slots)
  # Left and right stand in pairs.
  assert found.flip.tolist() == [i ^ 1 for i in range(len(slots))]
  left, right = found.partitions['skeleton']
  assert left.tolist() == list(range(0, len(slots), 2))
  assert right.tolist() == list(range(1, len(slots), 2))
  top = [i for i, slot in enumerate(slots) if slot < 4]
  if top:
    assert found.partitions['top_bottom'][0].tolist() == top
  else:  # trousers have no upper half, as sets have whose top is not known
    assert 'top_bottom' not in found.partitions
  assert found.types == {TYPES[kind][0]: kind}
  assert found.norm == 'bbox_wh'


@pytest.mark.parametrize('split', ['train', 'train[50%:]'])
@pytest.mark.parametrize('kind', TYPES)
def test_a_typed_split_is_the_slice_of_the_whole(
  kind, split, tiny_config, synthetic_builder
):
  code, slots = TYPES[kind]
  only = selected_type(dataset(tiny_config, kind))
  whole = input_pipeline.Records(synthetic_builder, split)
  typed = input_pipeline.Records(synthetic_builder, split, only=only)
  expected = [r for r in map(whole.__getitem__, range(len(whole)))]
  expected = [r for r in expected if r['clothes_type'] == code]
  assert 0 < len(typed) == len(expected) < len(whole)
  for i, record in enumerate(expected):
    found = typed[i]
    assert found.keys() == record.keys()
    for key, value in record.items():
      if key in ('landmarks', 'visibility'):
        value = value[slots]
      np.testing.assert_array_equal(found[key], value)


def test_some_records_of_a_type(tiny_config, synthetic_builder):
  """As a branch is trained on."""
  only = selected_type(dataset(tiny_config, 'upper'))
  typed = input_pipeline.Records(synthetic_builder, 'train', only=only)
  some = typed.indices[[3, 1]]
  found = input_pipeline.Records(synthetic_builder, 'train', some, only)
  assert len(found) == 2 and found.indices.tolist() == some.tolist()
  for i, j in enumerate((3, 1)):
    assert found[i]['id'] == typed[j]['id']
    np.testing.assert_array_equal(found[i]['landmarks'], typed[j]['landmarks'])


def test_batches_are_the_slice_of_the_whole(tiny_config, synthetic_builder):
  config = tiny_config()
  whole = input_pipeline.Records(synthetic_builder, 'train')
  config.batch_size = len(whole)
  (rows,) = input_pipeline.eval_batches(whole, resolve(config).pipeline)
  config.dataset.clothes_type = 'upper'
  only = selected_type(config.dataset)
  typed = input_pipeline.Records(synthetic_builder, 'train', only=only)
  config.batch_size = len(typed)
  (found,) = input_pipeline.eval_batches(typed, resolve(config).pipeline)
  is_upper, slots = rows['clothes_type'] == 1, TYPES['upper'][1]
  assert found['index'].tolist() == np.flatnonzero(is_upper).tolist()
  for key, value in found.items():
    expected = rows[key][is_upper]
    if key in ('landmarks', 'visibility'):
      expected = expected[:, slots]
    np.testing.assert_array_equal(value, expected)


def test_mirrored_crops_swap_within_the_type(tiny_config, synthetic_builder):
  config = tiny_config()
  config.dataset.clothes_type = 'lower'
  config.augment.update(scale=0.0, rotation=0.0, shift=0.0, colour=0.0)
  only = selected_type(config.dataset)
  records = input_pipeline.Records(synthetic_builder, 'train', only=only)
  plain = input_pipeline.Example(resolve(config).pipeline, augment=False)
  mirrored = input_pipeline.Example(resolve(config).pipeline, augment=True)
  seen = 0
  for i in range(len(records)):
    before = plain(records[i], np.random.default_rng(i))
    after = mirrored(records[i], np.random.default_rng(i))
    if np.array_equal(before['image'], after['image']):
      continue
    seen += 1
    # waist left, waist right, hem left, hem right.
    np.testing.assert_array_equal(
      after['visibility'], before['visibility'][[1, 0, 3, 2]]
    )
    known = np.isin(after['visibility'], (0, 1))
    expected = before['landmarks'][[1, 0, 3, 2]] * [-1, 1]
    np.testing.assert_allclose(
      after['landmarks'][known], expected[known], atol=1e-5
    )
  assert seen


def test_a_run_of_one_type(tiny_config, tmp_path, capsys):
  """Trained, and evaluated again by its own config."""
  config = tiny_config(stages=2)
  config.dataset.clothes_type = 'lower'
  config.dataset.splits.tune = 'train'
  for each in config.stages:
    each.train_steps = each.eval_steps = 1
  found = experiment.run(config, tmp_path, mode='train', splits=('train',))[
    'train'
  ]
  names = ['hem_left', 'hem_right', 'waist_left', 'waist_right']
  assert sorted(found['ne']['per_landmark']) == names
  manifest = json.loads((tmp_path / 'manifest.json').read_text())
  assert manifest['config']['dataset']['clothes_type'] == 'lower'
  results = json.loads((tmp_path / 'eval/train/predictions.json').read_text())
  assert len(results) == found['num_examples']
  assert all(len(entry['keypoints']) == 3 * 4 for entry in results)
  own = trained.get_config(str(tmp_path))
  again = experiment.run(own, tmp_path, mode='evaluate', splits=('train',))[
    'train'
  ]
  assert again == found
  own.dataset.clothes_type = ''
  with pytest.raises(
    InputError, match="clothes_type was 'lower' and now is ''"
  ):
    experiment.run(own, tmp_path, mode='evaluate', splits=('train',))


def test_runs_from_before_the_field_go_on(trained_workdir, tiny_config, capsys):
  """Their manifests have no clothes_type."""
  path = trained_workdir / 'manifest.json'
  text = path.read_text()
  manifest = json.loads(text)
  del manifest['config']['dataset']['clothes_type']
  try:
    path.write_text(json.dumps(manifest))
    config = tiny_config()
    experiment.run(config, trained_workdir, mode='train', splits=())
  finally:
    path.write_text(text)


def test_scores_count_the_type_alone(fashion, tmp_path, capsys):
  config, truth = fashion
  config.clothes_type = 'full'
  full = truth.clothes_type == 3
  assert full.sum() == 1 < len(full)
  points = truth.landmarks[full].astype(float)
  points[0, 7] += [5.6, 0]  # the box is 56 wide; 7 landmarks are visible
  path = write_npz(tmp_path / 'p.npz', truth.id[full], points)
  found = score(config, path, 'train', tmp_path / 'out')
  assert found['ne']['micro'] == pytest.approx(0.1 / 7)
  assert found['num_examples'] == 1
  config.clothes_type = 'upper'
  upper = truth.clothes_type == 1
  points = truth.landmarks[upper].astype(float)
  with pytest.raises(InputError, match='must be numbers of the shape .1, 6, 2'):
    write_npz(path, truth.id[upper], points)
    score(config, path, 'train', tmp_path / 'out')
  points[0, 7] += [0, 3.8]  # the box is 38 high; 3 of it count
  write_npz(path, truth.id[upper], points[:, TYPES['upper'][1]])
  found = score(config, path, 'train', tmp_path / 'out')
  assert list(found['ne']['per_landmark']) == [
    FASHION_8.names[slot] for slot in TYPES['upper'][1]
  ]
  visible = (truth.visibility[upper][0] == 0).sum()
  counts = truth.visibility[upper][0, 7] == 0
  assert found['ne']['micro'] == pytest.approx(counts * 0.1 / visible)
  with pytest.raises(InputError, match='1 predictions are of no example'):
    write_npz(path, truth.id[full], points[:, TYPES['upper'][1]])
    score(config, path, 'train', tmp_path / 'out')


def test_folders_are_prepared_and_examined_whole(fashion, tmp_path, capsys):
  config, _ = fashion
  whole = prepare.prepare(config)['splits']
  config.clothes_type = 'lower'
  config.data_dir = str(tmp_path / 'again')
  assert prepare.prepare(config)['splits'] == whole
  assert examine.examine(config, tmp_path / 'doctor')['ok']


def test_a_split_without_the_type(tiny_config, synthetic_builder):
  only = selected_type(dataset(tiny_config, 'lower'))
  only = only._replace(code=9)
  with pytest.raises(InputError, match="'test' of synthetic.*clothes_type 'lo"):
    input_pipeline.Records(synthetic_builder, 'test', only=only)


@pytest.mark.parametrize('kind', ['dress', 'Upper', 'upper ', '1'])
def test_unknown_types_are_refused(kind, tiny_config):
  with pytest.raises(
    InputError, match="valid values are '' for all, upper, lo"
  ):
    landmark_set(dataset(tiny_config, kind))


@pytest.mark.parametrize('name', ['fashion_ai', 'lsp', 'parse'])
def test_sets_without_landmarks_of_types(name, tmp_path):
  assert not DATASETS[name].landmarks.slots
  config = config_of(name, tmp_path, tmp_path, clothes_type='dress')
  with pytest.raises(InputError, match=f"'{name}' has the same landmarks"):
    landmark_set(config)
  config.clothes_type = ''
  assert landmark_set(config) is DATASETS[name].landmarks


def test_of_a_type_all_that_names_other_landmarks_is_gone():
  whole = LandmarkSet(
    names=('a', 'b', 'c', 'd'),
    slots={1: (0, 1, 2), 2: (2, 3)},
    sticks={'one': (('a',), ('b', 'c')), 'other': (('c',), ('d',))},
    sigmas=(0.1, 0.2, 0.3, 0.4),
    swaps=(('a', 'c'), ('b', 'd')),
    parts={'in': (('a', 'd'), ('b', 'c')), 'out': (('d',), ('a',))},
    types={1: 'shirt', 2: 'skirt'},
    norm_pairs={1: ('a', 'b'), 2: ('c', 'd')},
    skeleton=(('a', 'b'), ('c', 'd')),
  )
  assert whole.of_type(1) == LandmarkSet(
    names=('a', 'b', 'c'),
    slots={1: (0, 1, 2)},
    sticks={'one': (('a',), ('b', 'c'))},
    sigmas=(0.1, 0.2, 0.3),
    swaps=(('a', 'c'),),
    parts={'in': (('a',), ('b', 'c'))},
    types={1: 'shirt'},
    norm_pairs={1: ('a', 'b')},
    skeleton=(('a', 'b'),),
  )
  fields = {field.name for field in dataclasses.fields(LandmarkSet)}
  assert fields == {*vars(whole)} | {'top', 'norm'}, 'one is new: add it above'
  assert defaults.base('fld').dataset.clothes_type == ''
