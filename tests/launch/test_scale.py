"""docs/scale.md says what benchmarks/scale.py computes, and that is right."""

import math
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from places import ROOT

DOCUMENT = (ROOT / 'docs' / 'scale.md').read_text()
sys.path.insert(0, str(ROOT / 'benchmarks'))
import scale  # noqa: E402

sys.path.pop(0)


NUMBERS = {1: 16, 2: 16, 3: 256}  # of a vector of each stage


@pytest.fixture(scope='module')
def printed():
  done = subprocess.run(
    [sys.executable, ROOT / 'benchmarks' / 'scale.py'],
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout


def test_document_has_the_tables_as_printed(printed):
  tables = re.findall(r'(?:^\|.*\n)+', DOCUMENT, re.M)
  computed = [table for table in tables if '8 H100' in table]
  assert '\n'.join(computed) == printed


def test_bold_figures_are_in_the_tables(printed):
  figures = [
    ' '.join(text.split())
    for text in re.findall(r'\*\*([^*]+)\*\*', DOCUMENT)
    if text[0].isdigit()
  ]
  assert len(figures) >= 12
  cells = {cell.strip() for cell in printed.split('|')}
  assert not set(figures) - cells


def test_measured_figures_are_those_of_the_script():
  section = DOCUMENT.split('## Measured')[1].split('## Assumed')[0]
  rows = re.findall(r'\| `(\w+)` \| (.*) \|', section)
  stated = {
    name: [float(x.replace(',', '')) for x in re.findall(r'[\d.,e]*\d', text)]
    for name, text in rows
  }
  assert stated == {
    'RECORD': [scale.RECORD],
    'EXAMPLE': [pytest.approx(1e3 * scale.EXAMPLE)],
    'CATALOGUE': [pytest.approx(1e3 * scale.CATALOGUE)],
    'PARAMS': [scale.PARAMS],
    'FORWARD': [scale.FORWARD],
    'ROWS': [*scale.ROWS.values()],
    'ROUTE': [scale.ROUTE],
    'ROUTE_PEAK': [scale.ROUTE_PEAK],
    'KMEANS': [pytest.approx(1e6 * x) for x in scale.KMEANS.values()],
    'STEP': [pytest.approx(1e3 * scale.STEP)],
    'SAVE': [pytest.approx(8 * scale.SAVE * scale.PARAMS)],
  }


def test_a_step_worked_by_hand():
  # 64 images * 3 * 30.15e9 / (0.4 * 197e12) = 5788.8e9 / 78.8e12
  step = scale.training(scale.v5e(256), 1)
  assert step['compute'] == pytest.approx(0.0734619, rel=1e-5)
  # 2 * 255 / 256 * 538,042,352 bytes / 120e9
  assert step['reduce'] == pytest.approx(0.00893234, rel=1e-5)
  # 64 * 256 / 0.0823943
  assert step['images'] == pytest.approx(198849, rel=1e-5)
  # Stage 3 runs two networks more forwards: 5 instead of 3.
  third = scale.training(scale.v5e(256), 3)
  assert third['compute'] == pytest.approx(0.0734619 * 5 / 3, rel=1e-5)


def test_rows_worked_by_hand():
  # Of 64 processes: 1e8 / 64 * 168 bytes; routes and order 1e8 * (32 + 8).
  pod = scale.between(scale.v5e(256), 3, 10**8)
  assert pod['rows'] == 2.625e8
  assert pod['host_peak'] == 2.625e8 + 4e9
  # Of 4, twice the rows are more than rows and routes.
  assert scale.between(scale.v5e(16), 3, 10**8)['host_peak'] == 8.4e9 + 8e8
  # Eight processes on a node of GPUs.
  assert scale.between(scale.h100(8), 3, 10**8)['host_peak'] == 8 * 6.1e9


def test_kmeans_worked_by_hand():
  # A GPU's step takes 2^19 / 256 vectors of stage 3, four chips' 8,192.
  for pod, processes, vectors in (
    (scale.h100(8), 8, 2048),
    (scale.v5e(256), 64, 8192),
  ):
    found = scale.between(pod, 3, 10**8)
    own = 1e8 / processes
    assert found['kmeans'] == pytest.approx(122 * own * scale.KMEANS[3])
    assert found['waits'] == pytest.approx(122 * own / vectors * scale.STEP)


def test_failures_agree_with_the_closed_form():
  # For failures of rate r, a piece of length c costs (e^(r c) - 1) (1/r + R)
  # on average (Daly 2006, without a time to save).
  pod, every = scale.v5e(256), 3600.0
  rate = pod.chips / pod.host_chips / scale.BETWEEN_FAILURES
  pieces = 200
  expected = pieces * math.expm1(rate * every) * (1 / rate + scale.RESTART)
  taken = scale.with_failures(pod, pieces * every, every, runs=300)
  assert taken == pytest.approx(expected, rel=0.01)


def test_network_is_as_large_as_stated():
  from fld_jax.cascade import stage
  from fld_jax.cascade.setup import resolve
  from fld_jax.configs import dfa

  config = dfa.get_config('dataset=deepfashion,size=full')
  model = stage.build_model(
    config.model, config.stages[0], 0, resolve(config).landmarks
  )
  batch = {
    'image': np.zeros((1, 224, 224, 3), np.float32),
    'example_index': np.zeros(1, np.int32),
  }
  variables = jax.eval_shape(
    lambda key: model.init(key, batch, train=False), jax.random.key(0)
  )
  leaves = jax.tree.leaves(variables['params'])
  assert sum(math.prod(leaf.shape) for leaf in leaves) == scale.PARAMS
  # Two operations a weight and place: 3 x 3 convolutions, then dense layers.
  operations, side, channels = 0, 224, 3
  for count, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
    for _ in range(count):
      operations += 2 * 9 * channels * width * side**2
      channels = width
    side //= 2
  for width in (4096, 4096):
    operations += 2 * side**2 * channels * width
    side, channels = 1, width
  # XLA counts no products with padding, and adds what is done element by
  # element.
  assert scale.FORWARD == pytest.approx(operations, rel=0.03)


def test_a_row_is_as_large_as_stated(synthetic_builder, tiny_config, tmp_path):
  from fld_jax.cascade import pseudo_labels
  from fld_jax.cascade.setup import resolve
  from fld_jax.ops import kmeans
  from fld_jax.runtime.parallel import Parallel
  from fld_jax.training import train_cascade

  config = tiny_config()
  trainer = train_cascade._Trainer(
    config,
    resolve(config),
    synthetic_builder,
    tmp_path,
    Parallel(),
    lambda curves, is_last: None,
  )
  rows = trainer._rows(trainer.stages, trainer.tune, augment=True)
  size = sum(x.nbytes for x in rows.values() if hasattr(x, 'nbytes'))
  assert size == 16 * scale.ROWS[1]
  # estimate (8, 2) float32, and after stage 2 a score
  assert scale.ROWS[2] == scale.ROWS[1] + 4 * 16
  assert scale.ROWS[3] == scale.ROWS[2] + 4
  score, index = train_cascade.joined_routes(
    np.float32([3, 4]), np.int32([0, 1])
  )
  assert (score.nbytes + index.nbytes) / 2 == scale.ROUTE
  assert scale.CHUNK == pseudo_labels.CHUNK
  assert scale.SHARE == {s: kmeans._SHARE // d for s, d in NUMBERS.items()}
