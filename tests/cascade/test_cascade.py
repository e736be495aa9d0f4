"""Applying a cascade: routing, batch sizes, devices, the way back to pixels."""

import dataclasses

import jax
import numpy as np
import pytest
from random_networks import random_variables

from fld_jax import input_pipeline
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import resolve
from fld_jax.cascade.stage import Stage, build_model, needed
from fld_jax.errors import InputError
from fld_jax.evaluation import evaluate
from fld_jax.metrics import normalised_error
from fld_jax.runtime.parallel import Parallel

SIZE, NUM_EASY, NUM_HARD = 32, 7, 9
ERRORS = np.float32([0.1, 0.5, 0.9, 0.3])  # of the second stage's clusters


class Counting(Parallel):
  """Counts the calls of each function that it compiled."""

  def __init__(self, *args):
    super().__init__(*args)
    self.calls = []

  def compile(self, fn, **kwargs):
    compiled, index = super().compile(fn, **kwargs), len(self.calls)
    self.calls.append(0)

    def call(*args):
      self.calls[index] += 1
      return compiled(*args)

    return call


@pytest.fixture(scope='module')
def records(synthetic_builder):
  return input_pipeline.Records(synthetic_builder, 'test')


@pytest.fixture(scope='module')
def networks(tiny_config):
  """(models of the three stages, name -> variables), all random."""
  config = tiny_config()
  models = [
    build_model(config.model, s, i, resolve(config).landmarks)
    for i, s in enumerate(config.stages)
  ]
  names = {'stage1': 0, 'stage2': 1, 'easy': 2, 'hard': 2}
  variables = {
    name: random_variables(models[index], SIZE, seed, head=0.1)
    for seed, (name, index) in enumerate(names.items())
  }
  return models, variables


@pytest.fixture(scope='module')
def direct(tiny_config, records, networks):
  """Every network run on every image, as docs/methods.md 1.4 writes it down."""
  config = tiny_config()
  models, variables = networks
  config.batch_size = 16
  (batch,) = input_pipeline.eval_batches(records, resolve(config).pipeline)
  mean, std = np.float32(config.input.mean), np.float32(config.input.std)
  image = (batch['image'].astype(np.float32) - mean) / std

  @jax.jit
  def run(variables):
    shown = {'image': image, 'example_index': np.arange(16)}
    apply = lambda model, name, estimate: model.apply(
      variables[name], {**shown, 'estimate': estimate}, train=False
    )
    o1 = apply(models[0], 'stage1', None)
    l1 = o1['landmarks']
    o2 = apply(models[1], 'stage2', l1)
    l2 = l1 - o2['landmarks'] / 5
    easy, hard = apply(models[2], 'easy', l2), apply(models[2], 'hard', l2)
    return {
      'stage1': l1,
      'stage2': l2,
      'label': o2['pseudo_label'],
      'easy': l2 - easy['landmarks'] / 5,
      'hard': l2 - hard['landmarks'] / 5,
      'easy_visibility': easy['visibility'],
      'hard_visibility': hard['visibility'],
    }

  result = jax.device_get(run(variables))
  result['score'] = (result['label'] * ERRORS).sum(axis=1)
  below, above = np.sort(result['score'])[NUM_EASY - 1 :][:2]
  assert above - below > 1e-5, 'rounding could change the route'
  result['epsilon'] = float((below + above) / 2)
  result['is_easy'] = result['score'] < result['epsilon']
  assert result['is_easy'].sum() == NUM_EASY
  return result


@pytest.fixture(scope='module')
def predict(tiny_config, records, networks, direct):
  """predict(batch size, ...) -> (rows, calls of the chain and the branches)."""
  models, variables = networks

  def run(batch_size, devices=1, mode='route', parallel='shard_map', of=None):
    config = tiny_config()
    config.batch_size = batch_size
    config.routing.mode = mode
    config.dataset.on_corrupt = 'skip'
    counting = Counting(parallel, jax.devices()[:devices])
    branches = {name: variables[name] for name in ('easy', 'hard')}
    stages = [
      Stage('stage1', models[0], {'all': variables['stage1']}, {}),
      Stage(
        'stage2', models[1], {'all': variables['stage2']}, {'errors': ERRORS}
      ),
      Stage('stage3', models[2], branches, {}, direct['epsilon']),
    ]
    cascade = Cascade(stages, resolve(config), counting)
    rows = cascade.predict(
      input_pipeline.eval_batches(
        records if of is None else of, resolve(config).pipeline
      )
    )
    return rows, counting.calls

  return run


def test_branches_in_the_place_of_a_common_stage(
  tiny_config, records, networks, direct
):
  """They see what that stage sees; without it the result is the same."""
  models, variables = networks
  config = tiny_config()
  config.batch_size = 7
  branches = {name: variables[name] for name in ('easy', 'hard')}
  stages = [
    Stage('stage1', models[0], {'all': variables['stage1']}, {}),
    Stage(
      'stage2', models[1], {'all': variables['stage2']}, {'errors': ERRORS}
    ),
    # With errors of its own, which must not route.
    Stage(
      'common', models[2], {'all': variables['hard']}, {'errors': ERRORS[::-1]}
    ),
    Stage('stage3', models[2], branches, {}, direct['epsilon'], continues=True),
  ]
  setup = resolve(config)
  found = {}
  for name, chosen in {'all': stages, 'needed': needed(stages)}.items():
    cascade = Cascade(chosen, setup, Parallel('shard_map', jax.devices()[:1]))
    found[name] = cascade.predict(
      input_pipeline.eval_batches(records, setup.pipeline)
    )
    check_against(found[name], direct)
    (batch,) = input_pipeline.eval_batches(
      records, dataclasses.replace(setup.pipeline, batch_size=16)
    )
    # What is exported is the same function.
    graph = jax.jit(cascade.forward)(batch['image'])
    np.testing.assert_allclose(
      graph['stage3']['estimate'],
      found[name]['stages']['stage3']['estimate'],
      atol=1e-5,
    )
    np.testing.assert_array_equal(graph['stage3']['route'], ~direct['is_easy'])
  np.testing.assert_allclose(
    found['all']['stages']['common']['estimate'], direct['hard'], atol=1e-5
  )
  assert found['all']['passes']['common'] == 16
  assert 'common' not in found['needed']['passes']
  assert sum(found['needed']['passes'].values()) == 3 * 16, 'as in the paper'
  assert needed(stages[:2]) == stages[:2]


def check_against(rows, direct, keep=slice(None)):
  """Holds routed rows against the networks' own outputs."""
  is_easy = direct['is_easy'][keep, None, None]
  expected = {
    'stage1': direct['stage1'][keep],
    'stage2': direct['stage2'][keep],
    'stage3': np.where(is_easy, direct['easy'][keep], direct['hard'][keep]),
  }
  for name, estimate in expected.items():
    np.testing.assert_allclose(
      rows['stages'][name]['estimate'], estimate, atol=1e-5
    )
  np.testing.assert_allclose(
    rows['stages']['stage3']['visibility'],
    np.where(
      is_easy, direct['easy_visibility'][keep], direct['hard_visibility'][keep]
    ),
    atol=1e-5,
  )
  np.testing.assert_allclose(
    rows['route_score'], direct['score'][keep], atol=1e-6
  )


def test_branches_differ(direct):
  assert np.abs(direct['easy'] - direct['hard']).min(axis=0).max() > 1e-3


@pytest.mark.parametrize(
  ('batch_size', 'devices', 'batches', 'branch_batches'),
  [(1, 1, 16, 16), (7, 1, 3, 1 + 2), (64, 4, 1, 1 + 1)],
)
def test_route(
  predict, direct, records, batch_size, devices, batches, branch_batches
):
  rows, calls = predict(batch_size, devices)
  assert rows['index'].tolist() == list(range(16))
  assert rows['id'].tolist() == [records[i]['id'] for i in range(16)]
  check_against(rows, direct)
  # Each image passes one branch, and nothing but the last batches is padded.
  assert calls == [batches, branch_batches]
  assert rows['passes'] == {
    'stage1': 16,
    'stage2': 16,
    'stage3/easy': NUM_EASY,
    'stage3/hard': NUM_HARD,
  }
  assert rows['num_corrupt'] == 0


def flatten(tree):
  return {
    jax.tree_util.keystr(k): v for k, v in jax.tree.leaves_with_path(tree)
  }


def test_metrics_do_not_depend_on_batches_or_devices(predict, tiny_config):
  tables = [
    flatten(
      normalised_error.evaluate(
        evaluate.to_predictions(rows, resolve(tiny_config()))
      )
    )
    for rows, _ in (
      predict(1),
      predict(7),
      predict(64, 4),
      predict(64, 4, parallel='pmap'),
    )
  ]
  for table in tables[1:]:
    assert table.keys() == tables[0].keys()
    for key, value in tables[0].items():
      if isinstance(value, float):
        # Signed errors are per cents, so that float32 shows in them.
        bound = 3e-5 if 'signed_error' in key else 1e-5
        value = pytest.approx(value, abs=bound)
      assert table[key] == value, key


def test_pmap_equals_shard_map(predict, direct):
  rows, calls = predict(64, 4, parallel='pmap')
  check_against(rows, direct)
  assert calls == [1, 2]


@pytest.mark.parametrize('mode', ['average', 'two_branch'])
def test_average(predict, direct, mode):
  rows, calls = predict(7, mode=mode)
  last = rows['stages']['stage3']
  np.testing.assert_allclose(
    last['estimate'], (direct['easy'] + direct['hard']) / 2, atol=1e-5
  )
  np.testing.assert_allclose(
    last['visibility'],
    direct['easy_visibility'] + direct['hard_visibility'],
    atol=1e-5,
  )
  assert rows['passes']['stage3/easy'] == rows['passes']['stage3/hard'] == 16
  assert calls == [3, 2 * 3]


class Broken:
  """Records of which some hold no image."""

  def __init__(self, records, bad):
    self._records, self._bad = records, bad

  def __len__(self):
    return len(self._records)

  def __getitem__(self, i):
    record = self._records[i]
    return {**record, 'image': b'no image'} if i in self._bad else record


def test_corrupt_images_are_counted_and_left_out(predict, direct, records):
  bad = [0, 9]
  rows, _ = predict(7, of=Broken(records, bad))
  keep = np.setdiff1d(np.arange(16), bad)
  assert rows['num_corrupt'] == 2
  assert rows['index'].tolist() == keep.tolist()
  assert rows['passes']['stage1'] == 14
  assert rows['passes']['stage3/easy'] == direct['is_easy'][keep].sum()
  check_against(rows, direct, keep)


def test_nothing_to_predict(predict, records):
  with pytest.raises(InputError, match='no valid example'):
    predict(7, of=Broken(records, range(16)))


def test_back_to_image_pixels(predict, records, tiny_config):
  rows, _ = predict(7)
  rng = np.random.default_rng(0)
  free = rng.uniform(-0.6, 0.6, (16, 8, 2)).astype(np.float32)
  visibility = np.zeros((16, 8, 3), np.float32)
  rows['stages'] = {
    'truth': {'estimate': rows['landmarks'], 'visibility': visibility},
    'free': {'estimate': free, 'visibility': visibility},
  }
  predictions = evaluate.to_predictions(rows, resolve(tiny_config()))
  for i in range(16):
    record = records[i]
    known = np.isin(record['visibility'], (0, 1))
    assert known.any()
    for points in (predictions.landmarks[i], predictions.estimates['truth'][i]):
      np.testing.assert_allclose(
        points[known], record['landmarks'][known], atol=1e-3
      )
    # The crop is the box with 15 % more on each side, stretched to a square.
    x1, y1, x2, y2 = record['box'].astype(float)
    width, height = x2 - x1, y2 - y1
    corner = np.array([x1 - 0.15 * width, y1 - 0.15 * height])
    expected = corner + (free[i] + 0.5) * 1.3 * np.array([width, height])
    np.testing.assert_allclose(
      predictions.estimates['free'][i], expected, atol=1e-3
    )
    assert predictions.ids[i] == record['id'].decode()
    np.testing.assert_array_equal(predictions.boxes[i], record['box'])
    np.testing.assert_array_equal(
      predictions.visibility[i], record['visibility']
    )
  # Without errors the truth's own figures are 0.
  results = normalised_error.evaluate(predictions)
  assert results['stages']['truth']['ne']['macro'] < 1e-5
  assert results['stages']['free']['ne']['macro'] > 0.1


def test_route_needs_a_threshold(tiny_config, networks):
  models, variables = networks
  branches = {name: variables[name] for name in ('easy', 'hard')}
  stages = [
    Stage('stage1', models[0], {'all': variables['stage1']}, {}),
    Stage('stage2', models[2], branches, {}, None),
  ]
  with pytest.raises(InputError, match="routing.mode is 'route'.*'stage2'"):
    Cascade(
      stages, resolve(tiny_config()), Parallel('shard_map', jax.devices()[:1])
    )


def test_unknown_mode(tiny_config):
  config = tiny_config()
  config.routing.mode = 'both'
  with pytest.raises(InputError, match="mode is 'both', valid .*'average'"):
    Cascade([], resolve(config), Parallel('shard_map', jax.devices()[:1]))
