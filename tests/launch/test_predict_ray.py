"""launch/predict_ray.py: Ray Data, with the answers of `--mode=predict`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from places import ROOT

from fld_jax import input_pipeline
from fld_jax.inference.predictor import Predictor

pytest.importorskip('ray', reason='Ray is not installed (extra ray)')
SCRIPT = ROOT / 'launch/predict_ray.py'


@pytest.fixture(scope='module')
def folder(synthetic_builder, tmp_path_factory):
  """Photos in two folders, one of them broken."""
  folder = tmp_path_factory.mktemp('photos')
  records = input_pipeline.Records(synthetic_builder, 'test')
  for i, record in enumerate(records):
    path = folder / f'{"ab"[i % 2]}/{i:02}.jpg'
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(record['image'])
  (folder / 'a/broken.jpg').write_text('text')
  (folder / 'notes.txt').write_text('no photo')
  return folder


def command(workdir, images, output, *flags):
  words = [sys.executable, str(SCRIPT), f'--workdir={workdir}']
  return [*words, f'--images={images}', f'--output={output}', *flags]


ENV = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), *sys.path])}


def run(*arguments):
  return subprocess.run(
    command(*arguments), env=ENV, capture_output=True, text=True
  )


def rows_of(output):
  """The rows of all parts, in their order."""
  parts = sorted(output.glob('part-*.parquet'))
  return [row for part in parts for row in pq.read_table(part).to_pylist()]


def assert_same(row, landmarks):
  box = [row[name] for name in ('x1', 'y1', 'x2', 'y2')]
  np.testing.assert_allclose(box, landmarks.box)
  np.testing.assert_allclose(row['positions'], landmarks.positions, atol=1e-3)
  np.testing.assert_allclose(row['confidence'], landmarks.confidence, atol=1e-5)
  np.testing.assert_allclose(row['error_90'], landmarks.error_90, rtol=1e-3)
  assert row['visibility'] == list(landmarks.visibility)
  assert row['route'] == list(landmarks.route)
  assert row['category'] == landmarks.category
  assert (row['width'], row['height']) == landmarks.image_size


def test_a_killed_actor_and_a_killed_start_lose_nothing(
  trained_workdir, folder, tmp_path
):
  arguments = (trained_workdir, folder, tmp_path, '--shard_items=3')
  # Killed as soon as a part is there; the work goes on in the next start.
  with subprocess.Popen(
    command(*arguments), env=ENV, stdout=subprocess.PIPE, start_new_session=True
  ) as first:
    while not list(tmp_path.glob('part-*')) and first.poll() is None:
      time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
      os.killpg(first.pid, signal.SIGKILL)
    first.stdout.close()
  before = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob('part-*')}
  assert before
  done = run(*arguments)
  assert done.returncode == 1, done.stderr[-3000:]
  assert f'{6 - len(before)} of 6 shards are left' in done.stdout
  assert '16 of 17 items' in done.stdout
  after = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob('part-*')}
  assert len(after) == 6 and before.items() <= after.items()
  rows = rows_of(tmp_path)
  names = sorted(str(path) for path in folder.rglob('*.jpg'))
  assert [row['image'] for row in rows] == names
  good = [name for name in names if 'broken' not in name]
  expected = dict(zip(good, Predictor.load(trained_workdir)(good), strict=True))
  for row in rows:
    if 'broken' in row['image']:
      assert 'is not an image of a kind' in row['failure']
      assert row['positions'] is None
    else:
      assert row['failure'] is None
      assert_same(row, expected[row['image']])


def test_a_list_of_boxes_through_fsspec(trained_workdir, folder, tmp_path):
  """With paths below the list's folder, boxes, types, and a missing photo."""
  names = ['a/00.jpg', 'a/00.jpg', 'b/01.jpg', 'b/none.jpg']
  corners = [[1, 2, 30, 40], [0, 0, 20, 20], [None] * 4, [0, 0, 9, 9]]
  table = {'image': names, 'clothes_type': ['upper', 'lower', None, None]}
  for name, values in zip(
    ('x1', 'y1', 'x2', 'y2'), zip(*corners, strict=True), strict=True
  ):
    table[name] = pa.array(values, pa.float64())
  pq.write_table(pa.table(table), folder / 'list.parquet')
  url = f'file://{folder}/list.parquet'
  done = run(trained_workdir, url, f'file://{tmp_path}/out')
  assert done.returncode == 1, done.stderr[-3000:]
  rows = rows_of(tmp_path / 'out')
  assert [row['image'] for row in rows] == [
    f'file://{folder}/{n}' for n in names
  ]
  detector = Predictor.load(trained_workdir)
  paths = [folder / name for name in names[:3]]
  expected = detector(paths, [*corners[:2], None])
  for row, landmarks in zip(rows, expected, strict=False):
    np.testing.assert_allclose(row['positions'], landmarks.positions, atol=1e-3)
  assert [row['category'] for row in rows[:3]] == ['upper', 'lower', '']
  assert rows[0]['present'] == [i not in (4, 5) for i in range(8)]
  assert 'none.jpg: is missing' in rows[3]['failure']
  metadata = pq.read_metadata(tmp_path / 'out/part-000000.parquet').metadata
  assert json.loads(metadata[b'landmarks']) == list(detector.landmark_set.names)
  # Another list, or a list that is none, in the same folder.
  other = run(trained_workdir, folder / 'a', tmp_path / 'out')
  assert other.returncode == 2
  assert other.stderr.endswith('another list of items, give another folder.\n')
  assert run(trained_workdir, url, f'file://{tmp_path}/out').returncode == 1
