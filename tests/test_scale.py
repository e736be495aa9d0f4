"""docs/scale.md says what benchmarks/scale.py computes, and that is right."""

import math
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

TOP = pathlib.Path(__file__).parents[1]
DOCUMENT = (TOP / 'docs' / 'scale.md').read_text()
sys.path.insert(0, str(TOP / 'benchmarks'))
import scale  # noqa: E402

sys.path.pop(0)


@pytest.fixture(scope='module')
def printed():
  done = subprocess.run(
    [sys.executable, TOP / 'benchmarks' / 'scale.py'],
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
    'ROW': [scale.ROW],
    'ROW_STAGE': [scale.ROW_STAGE],
    'KMEANS': [pytest.approx(1e6 * x) for x in scale.KMEANS.values()],
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
  # 1e8 * (213 + 2 * 240) bytes, twice; 8 processes on a node of GPUs.
  assert scale.between(scale.v5e(256), 3, 10**8)['peak'] == 1.386e11
  assert scale.between(scale.h100(8), 3, 10**8)['host_peak'] == 8 * 1.386e11


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
  from fld_jax import stage
  from fld_jax.configs import dfa

  config = dfa.get_config('dataset=deepfashion,size=full')
  model = stage.build_model(config, config.stages[0], 0)
  batch = {
    'image': np.zeros((1, 224, 224, 3), np.float32),
    'position': np.zeros(1, np.int32),
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


def test_a_row_is_as_large_as_stated(synthetic_builder, tiny_config):
  from fld_jax import input_pipeline

  config = tiny_config()
  records = input_pipeline.Records(synthetic_builder, 'test')
  batch = next(iter(input_pipeline.eval_batches(records, config)))
  sizes = {k: v.nbytes // len(v) for k, v in batch.items() if k != 'image'}
  # Ids are of any length: DeepFashion's here have 13 bytes.
  assert sum(sizes.values()) - sizes['id'] == scale.ROW - 13
  # estimate (8, 2), visibility (8, 3) and pseudo_label (20,), float32
  assert scale.ROW_STAGE == 4 * (16 + 24 + 20)
