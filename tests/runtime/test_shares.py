"""Between stages, each of two processes keeps and clusters its own images."""

import os
import pickle
import subprocess
import sys

import jax
import numpy as np
import process_shares
import pytest
from kmeans_oracle import blobs, lloyd_loop
from launching import ROOT, free_port
from random_networks import random_variables
from xla_flags import xla_flags

from fld_jax import input_pipeline
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import resolve
from fld_jax.evaluation import evaluate
from fld_jax.runtime.parallel import Parallel

MODES = ('shard_map', 'pmap')
ITERATIONS = 3


def cases():
  """name -> vectors and arguments of k-means; sizes that nothing divides."""
  rng = np.random.default_rng(0)
  z = blobs(133, 6, 9, 40, 15, seed=3)
  full = np.ones(z.shape, bool)
  holes = rng.random(z.shape) < 0.7
  holes[5] = False  # belongs nowhere
  more = {'num_clusters': 4, 'tolerance': 0, 'num_iters': ITERATIONS}
  start = {**more, 'num_iters': 0}
  # Places 3 and 4 are equally far from all centres; the first one is taken.
  tie = np.array([[0.0], [1], [-1], [9], [-9]], np.float32)
  tie_init = {'init': np.array([[0.0], [1e4]]), 'num_iters': 1}
  wrong = z.copy()
  wrong[7] = np.nan  # of process 1
  make = lambda z, mask, more: {'z': z, 'mask': mask, 'more': more}
  return {
    'full': make(z, full, more),
    'full, start': make(z, full, start),
    'holes': make(np.where(holes, z, np.nan), holes, more),
    'holes, start': make(np.where(holes, z, np.nan), holes, start),
    'alone': make(z, full, more),  # in process 0
    'alone, start': make(z, full, start),
    'three': make(z[:3], full[:3], {'num_clusters': 2}),
    'tie': make(tie, tie == tie, {'num_clusters': 2, **tie_init}),
    'wrong': make(wrong, full, more),
    'wrong: too few': make(z[:3], full[:3], more),
    'wrong: nothing': make(z[:3], ~full[:3], more),
  }


@pytest.fixture(scope='module')
def both(tiny_config, synthetic_builder, tmp_path_factory):
  """(inputs, outputs of two processes, output of one) with four devices."""
  folder = tmp_path_factory.mktemp('shares')
  config = tiny_config()
  model = stage_lib.build_model(
    config.model, config.stages[0], 0, resolve(config).landmarks
  )
  rng = np.random.default_rng(1)
  inputs = {
    'cases': cases(),
    'labels': rng.integers(3, size=41),  # the fourth cluster is empty
    'errors': rng.random(41).astype(np.float32),
    'config': config.copy_and_resolve_references(),
    'variables': random_variables(model, config.input.size, 0, head=0.1),
  }
  (folder / 'inputs').write_bytes(pickle.dumps(inputs))
  port = str(free_port())
  running = []
  try:
    for i in range(2):
      command = [
        sys.executable,
        ROOT / 'tests/helpers/process_shares.py',
        folder,
        port,
        str(i),
      ]
      running.append(
        subprocess.Popen(
          command,
          cwd=ROOT,
          env={
            **os.environ,
            'XLA_FLAGS': xla_flags(devices=2),
            'PYTHONPATH': str(ROOT),
          },
          stderr=subprocess.PIPE,
          text=True,
        )
      )
    alone = process_shares.work(inputs)
    for process in running:
      _, log = process.communicate(timeout=300)
      assert process.returncode == 0, log[-4000:]
  finally:
    for process in running:
      process.kill()
      process.wait()
  outputs = [pickle.loads((folder / f'output{i}').read_bytes()) for i in (0, 1)]
  return inputs, outputs, alone


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('name', ['full', 'holes', 'alone'])
def test_kmeans_against_a_loop(both, name, mode):
  inputs, outputs, alone = both
  z, mask = inputs['cases'][name]['z'], inputs['cases'][name]['mask']
  start = alone[f'{name}, start', 'shard_map'][0]
  # Samples, where they have the coordinate, the mean where they have not.
  whole = np.where(mask, z, np.nanmean(np.where(mask, z, np.nan), axis=0))
  for centre in start:
    assert np.abs(whole - centre).max(1).min() < 1e-4
  centres, inertia, counts = lloyd_loop(
    z, mask, start.astype(float), ITERATIONS
  )
  for output in (*outputs, alone):
    np.testing.assert_allclose(
      output[f'{name}, start', mode][0], start, atol=1e-4
    )
    got = output[name, mode]
    np.testing.assert_allclose(got[0], centres, rtol=1e-4, atol=1e-3)
    assert got[1] == pytest.approx(inertia, rel=1e-5)
    np.testing.assert_array_equal(got[2], counts)
    assert got[3] == ITERATIONS


@pytest.mark.parametrize('mode', MODES)
def test_fewer_vectors_than_devices_and_a_tie(both, mode):
  inputs, outputs, alone = both
  z = inputs['cases']['three']['z']
  for output in (*outputs, alone):
    assert sorted(output['three', mode][2]) == [1, 2]
    pair = output['three', mode][0][np.argmax(output['three', mode][2])]
    means = [(z[a] + z[b]) / 2 for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(np.abs(pair - mean).max() for mean in means) < 1e-4
    np.testing.assert_allclose(output['tie', mode][0], [[0], [9]], atol=1e-5)


@pytest.mark.parametrize('mode', MODES)
def test_mistakes_end_all_processes_alike(both, mode):
  _, outputs, alone = both
  for output in (*outputs, alone):
    assert 'vector 7 is not finite' in output['wrong', mode]
    assert 'only 3 pseudo-label' in output['wrong: too few', mode]
    assert 'are no pseudo-label vectors' in output['wrong: nothing', mode]
    assert 'field image' in output['spoilt']


def test_cluster_errors_of_all_processes(both):
  inputs, outputs, alone = both
  labels, errors = inputs['labels'], inputs['errors'].astype(float)
  expected = [errors[labels == k].mean() for k in range(3)] + [errors.mean()]
  for output in (*outputs, alone):
    np.testing.assert_allclose(output['errors'], expected, rtol=1e-6)
    np.testing.assert_allclose(output['errors of one'], errors[:1].repeat(4))


@pytest.mark.parametrize('when', ['before stage 1', 'before stage 2'])
def test_a_process_holds_the_rows_of_its_own_images(both, when):
  _, outputs, alone = both
  arrays = lambda output: {
    key: x for key, x in output['rows'][when].items() if hasattr(x, 'shape')
  }
  whole = arrays(alone)
  # Positions and codes of 8 landmarks, index; estimate and 4 pseudo-labels.
  size = 8 * 8 + 4 * 8 + 4 + (when != 'before stage 1') * (8 * 8 + 4 * 4)
  assert sum(x.nbytes for x in whole.values()) == 48 * size
  for which, output in enumerate(outputs):
    own = arrays(output)
    assert own.keys() == whole.keys()
    assert sum(x.nbytes for x in own.values()) == 24 * size
    for key, x in own.items():
      np.testing.assert_allclose(x, whole[key][which::2], atol=1e-5)


def test_fewer_images_than_processes(both):
  _, outputs, alone = both
  whole = alone['rows']['of one image']
  for count, output in zip((1, 0), outputs, strict=True):
    own = output['rows']['of one image']
    for key in ('index', 'landmarks', 'visibility', 'estimate', 'pseudo_label'):
      assert own[key].shape == (count, *whole[key].shape[1:])
      assert own[key].dtype == whole[key].dtype


def test_routes_are_of_all_images_in_order(both):
  _, outputs, alone = both
  for output in outputs:
    assert output['routes'].keys() == alone['routes'].keys()
    for part, count in (('train', 48), ('tune', 16)):
      index = output['routes'][f'{part}_index']
      assert index.tolist() == list(range(count))
    for key, value in alone['routes'].items():
      found = output['routes'][key]
      assert found.dtype == value.dtype
      np.testing.assert_allclose(found, value, atol=1e-5)
    train = output['routes']['train_score']
    np.testing.assert_array_equal(output['routes']['epsilon'], np.median(train))


def test_tuning_ne_by_hand(both, synthetic_builder):
  inputs, outputs, alone = both
  config = inputs['config']
  model = stage_lib.build_model(
    config.model, config.stages[0], 0, resolve(config).landmarks
  )
  stage = stage_lib.Stage('stage1', model, {'all': inputs['variables']}, {})
  records = input_pipeline.Records(synthetic_builder, 'val')
  one = Parallel(devices=jax.devices()[:1])
  rows = Cascade([stage], resolve(config), one).predict(
    input_pipeline.eval_batches(records, resolve(config).pipeline)
  )
  predictions = evaluate.to_predictions(rows, resolve(config))
  of_landmark, of_one = [[] for _ in range(8)], []
  for i in range(16):
    x1, y1, x2, y2 = predictions.boxes[i]
    gap = predictions.estimates['stage1'][i] - predictions.landmarks[i]
    for k in range(8):
      if predictions.visibility[i, k] == 0:
        ne = np.hypot(gap[k, 0] / (x2 - x1), gap[k, 1] / (y2 - y1))
        of_landmark[k].append(ne)
        if i == 3:
          of_one.append(ne)
  expected = np.mean([np.mean(some) for some in of_landmark if some])
  for output in (*outputs, alone):
    ne, standard_error = output['ne']['val']
    assert ne == pytest.approx(expected, rel=1e-5)
    assert standard_error == pytest.approx(alone['ne']['val'][1], rel=1e-5)
    ne, standard_error = output['ne']['one']
    assert ne == pytest.approx(np.mean(of_one), rel=1e-5)
    assert standard_error == np.inf


def test_the_main_process_has_the_predictions_and_all_the_results(both):
  _, outputs, alone = both
  assert outputs[0]['ids'] == alone['ids'] and len(alone['ids']) == 16
  assert outputs[1]['ids'] is None
  for output in outputs:
    results = output['results']
    assert results.keys() == alone['results'].keys()
    assert results['num_examples'] == results['network_passes']['stage1'] == 16
    assert results['ne']['macro'] == pytest.approx(
      alone['results']['ne']['macro'], rel=1e-5
    )
