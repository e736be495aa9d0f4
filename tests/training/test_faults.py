"""What a disk, a run's folder and numbers can do to a run, and what is said."""

import json
import logging
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
import small_disks
from launching import events, listing, log, run_to_end, started
from tensorboardX.proto.event_pb2 import SessionLog

from fld_jax import experiment, input_pipeline
from fld_jax.cascade import store
from fld_jax.cascade.setup import resolve
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import InputError
from fld_jax.files import atomic
from fld_jax.runtime import checkpoint
from fld_jax.training import train_step
from fld_jax.training.tensorboard import Curves

LOOKS_AT_FIGURES = True  # among the files that a run leaves


def state_of(step: int):
  array = np.arange(1000, dtype=np.float32) + step
  return train_step.TrainState(np.array(step), {'params': array}, (array,))


@pytest.fixture(scope='module')
def two_steps(tmp_path_factory):
  """A folder with checkpoints of the steps 1 and 2."""
  folder = tmp_path_factory.mktemp('checkpoints') / 'network'
  for step in (1, 2):
    with checkpoint.Checkpoints(folder) as checkpoints:
      progress = {'iterator': {'next_index': step}}
      history = [{'images': step}]
      checkpoints.save(step, state_of(step), progress, history, 1 / step, 0.0)
  return folder


def files_of(step):
  return sorted(path for path in step.rglob('*') if path.is_file())


def flip_a_byte(path: pathlib.Path) -> None:
  content = bytearray(path.read_bytes())
  if content:
    content[len(content) // 2] ^= 0xFF
  else:
    content = bytearray(b'?')
  path.write_bytes(bytes(content))


@pytest.mark.parametrize('damage', [flip_a_byte, pathlib.Path.unlink])
def test_every_damaged_file_gives_way_to_the_step_before(
  two_steps, tmp_path, damage, caplog
):
  """But for the sums themselves: without them orbax's word has to do."""
  names = [path.relative_to(two_steps) for path in files_of(two_steps / '2')]
  assert len(names) > 10
  for number, name in enumerate(names):
    if damage is pathlib.Path.unlink and name.name == checkpoint.CHECKSUMS:
      continue
    folder = tmp_path / str(number)
    shutil.copytree(two_steps, folder)
    damage(folder / name)
    caplog.clear()
    with checkpoint.Checkpoints(folder) as checkpoints:
      assert checkpoints.last_step() == 1, name
      template = state_of(0)
      state, progress, history = checkpoints.restore_last(template)
      np.testing.assert_array_equal(
        state.variables['params'], state_of(1).variables['params']
      )
      assert progress == {'iterator': {'next_index': 1}}
      assert history == [{'images': 1}]
      assert f'{folder}/2 is damaged' in caplog.text
      # The step can be made again.
      checkpoints.save(2, state_of(2), progress, history, 0.5, 0.0)
    assert sorted(path.name for path in folder.iterdir()) == [
      '1',
      '2',
      'damaged',
    ]


def states(folder) -> dict:
  """Path -> what tells that something was done to it, of all in a folder."""
  return {
    str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
    for path in [folder, *folder.rglob('*')]
  }


@pytest.mark.parametrize('damage', [flip_a_byte, pathlib.Path.unlink])
def test_reading_passes_over_what_it_needs_and_leaves_all_as_it_is(
  two_steps, tmp_path, damage, caplog
):
  """Of each damaged file: what is read, what is said, and nothing is done."""
  names = [path.relative_to(two_steps) for path in files_of(two_steps / '2')]
  for number, name in enumerate(names):
    folder = tmp_path / str(number)
    shutil.copytree(two_steps, folder)
    (folder / 'deleted').mkdir()
    (folder / 'deleted/x').write_bytes(b'')
    damage(folder / name)
    before = states(folder)
    caplog.clear()
    saved = checkpoint.SavedNetwork(folder)
    part = name.parts[1]
    # Without the sums orbax's word has to do.
    passed = part in ('variables', 'metrics') or (
      part == checkpoint.CHECKSUMS and damage is flip_a_byte
    )
    restored = saved.restore_chosen(state_of(0).variables)
    expected = state_of(1 if passed else 2).variables['params']
    np.testing.assert_array_equal(restored['params'], expected, str(name))
    lines = [r for r in caplog.records if r.name == 'fld_jax']
    assert len(lines) == passed and (f'{folder}/2 ' in caplog.text) == passed
    step = 1 if part == 'history' or part == checkpoint.CHECKSUMS else 2
    if part == checkpoint.CHECKSUMS and damage is pathlib.Path.unlink:
      step = 2
    assert saved.history() == [{'images': step}]
    assert states(folder) == before


@pytest.mark.parametrize('item', ['variables', 'metrics', 'history'])
def test_garbage_without_sums(two_steps, tmp_path, item, caplog):
  """What orbax would take for whole, and raises all kinds of errors for."""
  for number, path in enumerate(files_of(two_steps / '2' / item)):
    for content in (b'', b'{}', b'[1]', b'{"ne": "x"}', b'\x0c\xdb\x3a\x2a'):
      folder = tmp_path / f'{number}-{content.hex()}'
      shutil.copytree(two_steps, folder)
      (folder / '2' / checkpoint.CHECKSUMS).unlink()
      (folder / path.relative_to(two_steps)).write_bytes(content)
      saved = checkpoint.SavedNetwork(folder)
      restored = saved.restore_chosen(state_of(0).variables)['params']
      assert any(
        (restored == state_of(s).variables['params']).all() for s in (1, 2)
      )
      assert saved.history() in ([{'images': 1}], [{'images': 2}])


def test_a_pipe_among_the_files_is_not_waited_for(two_steps, tmp_path):
  for item in ('variables', 'metrics', 'history'):
    folder = tmp_path / item
    shutil.copytree(two_steps, folder)
    (folder / '2' / checkpoint.CHECKSUMS).unlink()
    for path in files_of(folder / '2' / item):
      path.unlink()
      os.mkfifo(path)
    saved = checkpoint.SavedNetwork(folder)
    step = 2 if item == 'history' else 1
    restored = saved.restore_chosen(state_of(0).variables)['params']
    np.testing.assert_array_equal(restored, state_of(step).variables['params'])
    assert saved.history() == [{'images': 1 if item == 'history' else 2}]


def test_variables_of_another_shape(two_steps):
  for template in (
    {'params': np.zeros(999, np.float32)},
    {'params': np.zeros((10, 100), np.float32)},
    {'params': {'a': np.zeros(1000, np.float32)}},
    {},
  ):
    with pytest.raises(InputError, match='holds no whole checkpoint'):
      checkpoint.SavedNetwork(two_steps).restore_chosen(template)


def test_reading_makes_no_folder(tmp_path):
  saved = checkpoint.SavedNetwork(tmp_path / 'a/b')
  with pytest.raises(InputError, match='holds no whole checkpoint'):
    saved.restore_chosen({})
  assert saved.history() == [] and not list(tmp_path.iterdir())


def test_none_is_whole(two_steps, tmp_path):
  folder = tmp_path / 'network'
  shutil.copytree(two_steps, folder)
  for step in ('1', '2'):
    flip_a_byte(next((folder / step / 'variables' / 'd').iterdir()))
  with checkpoint.Checkpoints(folder) as checkpoints:
    assert checkpoints.last_step() == 0
  with pytest.raises(InputError, match='holds no whole checkpoint'):
    checkpoint.SavedNetwork(folder).restore_chosen(state_of(0).variables)


@pytest.fixture
def copied(trained_workdir, tmp_path):
  shutil.copytree(trained_workdir, tmp_path / 'run')
  return tmp_path / 'run'


def go_on(config, workdir):
  return experiment.run(config, workdir, mode='train', splits=('test',))


def test_a_run_goes_on_after_damage(
  copied, trained_workdir, tiny_config, caplog
):
  """A damaged checkpoint and clusters are made again as they were."""
  caplog.set_level(logging.WARNING, 'fld_jax')
  flip_a_byte(copied / 'stages/stage2/clusters.npz')
  last = copied / 'stages/stage3/hard/6/variables/d'
  flip_a_byte(next(last.iterdir()))
  go_on(tiny_config(), copied)
  assert 'stage2/clusters.npz: is no NPZ file' in caplog.text
  assert 'stage3/hard/6 is damaged' in caplog.text
  for name in ('eval/test/metrics.json', 'eval/test/predictions.json'):
    assert (copied / name).read_bytes() == (trained_workdir / name).read_bytes()
  assert (copied / 'stages/stage3/hard/damaged/6').is_dir()


def test_the_next_start_completes_what_a_kill_left(
  copied, trained_workdir, tiny_config
):
  """A checkpoint without its sums, a file and a folder half written."""
  sums = 'stages/stage3/hard/6/checksums.json'
  (copied / sums).unlink()
  (copied / '.manifest.json.1.tmp').write_bytes(b'{')
  (copied / 'eval/.test.1.tmp').mkdir()
  go_on(tiny_config(), copied)
  assert (copied / sums).read_bytes() == (trained_workdir / sums).read_bytes()
  assert listing(copied) == listing(trained_workdir)


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('manifest.json', 'manifest.json'),
    (
      'stages/stage2/clusters.npz',
      'clusters.npz: is no NPZ file .* makes it again',
    ),
  ],
)
def test_evaluation_of_damaged_files(copied, tiny_config, name, words):
  content = (copied / name).read_bytes()
  (copied / name).write_bytes(content[: len(content) // 2])
  with pytest.raises(InputError, match=words):
    experiment.run(tiny_config(), copied, mode='evaluate', splits=('test',))


def test_one_run_at_a_time(copied, tiny_config):
  with atomic.locked(copied, lambda: None):
    for mode in ('train', 'evaluate'):
      with pytest.raises(InputError, match='is used by another run'):
        experiment.run(tiny_config(), copied, mode=mode, splits=('test',))
  experiment.run(tiny_config(), copied, mode='train', splits=())


def test_shards_that_are_cut_off_are_named(tiny_config, tmp_path):
  config = tiny_config()
  config.dataset.data_dir = str(tmp_path)
  builder = prepared_builder(config.dataset)
  (shard,) = tmp_path.rglob('*test.array_record*')
  content = shard.read_bytes()
  for size in (0, len(content) // 2, len(content) - 1):
    shard.write_bytes(content[:size])
    records = input_pipeline.Records(builder, 'test')
    with pytest.raises(
      InputError, match=f'{shard.name}: .* cut off or damaged'
    ):
      list(input_pipeline.eval_batches(records, resolve(config).pipeline))


def nan_on(monkeypatch, name: bytes):
  """Makes the landmarks of one example no numbers."""
  plain = input_pipeline.device_part

  def device_part(batch, share=(0, 1)):
    part = plain(batch, share)
    part['landmarks'] = np.where(
      (batch['id'] == name)[:, None, None], np.nan, part['landmarks']
    )
    return part

  monkeypatch.setattr(input_pipeline, 'device_part', device_part)


def config_of_one_stage(tiny_config):
  config = tiny_config(stages=1)
  # Every example once an epoch of six steps; the first is in one of them.
  config.stages[0].train_steps, config.stages[0].eval_steps = 12, 2
  return config


def test_a_loss_that_is_no_number_stops_the_run(
  tiny_config, tmp_path, monkeypatch, synthetic_builder
):
  name = input_pipeline.Records(synthetic_builder, 'train')[0]['id']
  nan_on(monkeypatch, name)
  config = config_of_one_stage(tiny_config)
  with pytest.raises(InputError) as error:
    go_on(config, tmp_path)
  text = str(error.value)
  step = int(text.partition('the loss of step ')[2].partition(' ')[0])
  assert 'is nan' in text and name.decode() in text
  assert text.count('train/') == 8, 'not the examples of one batch'
  last = (step - 1) // 2 * 2
  assert f'The last good checkpoint is of step {last}.' in text
  saved = tmp_path / 'stages/stage1/all'
  steps = [int(p.name) for p in saved.iterdir() if p.name.isdigit()]
  assert max(steps, default=0) == last


def test_or_is_left_out(
  tiny_config, tmp_path, monkeypatch, synthetic_builder, caplog
):
  caplog.set_level(logging.WARNING, 'fld_jax')
  name = input_pipeline.Records(synthetic_builder, 'train')[0]['id']
  nan_on(monkeypatch, name)
  config = config_of_one_stage(tiny_config)
  config.on_nan = 'skip'
  go_on(config, tmp_path)
  left_out = [r for r in caplog.messages if 'is nan; left out' in r]
  assert len(left_out) == 2, 'one in each of the two epochs'
  assert all(name.decode() in message for message in left_out)
  metrics = json.loads((tmp_path / 'eval/test/metrics.json').read_text())
  assert np.isfinite(metrics['ne']['macro'])
  _, history = store.load_cascade(config, resolve(config), tmp_path)
  assert all(np.isfinite(point['loss']) for point in history)


@pytest.fixture
def small_disk():
  """A function that makes a disk of so many MB, or makes it larger."""
  with small_disks.small_disk() as disk:
    yield disk.mount


@pytest.fixture
def full_disk(small_disk):
  place = small_disk(1)
  with pytest.raises(OSError, match='No space'):
    (place / 'all').write_bytes(bytes(2**21))
  return place


def test_curves_on_a_full_disk(full_disk):
  words = f'{full_disk}/a: the curves could not be written .No space left'
  with Curves(full_disk / 'a', 1) as curves:
    with pytest.raises(InputError, match=words):
      curves.write(1, {'loss': 0.5})
    (full_disk / 'all').unlink()
    curves.write(2, {'loss': 0.25})
  values = [v for event in events(full_disk / 'a') for v in event.summary.value]
  assert [value.simple_value for value in values] == [0.5, 0.25]


def test_curves_go_on_from_a_step(tmp_path):
  with Curves(tmp_path / 'a', 7) as curves:
    curves.write(7, {'loss': 0.5, 'error': 0.25})
    # On the disk at once.
    version, start, loss, error = events(tmp_path / 'a')
  assert version.file_version == 'brain.Event:2'
  assert (start.step, start.session_log.status) == (7, SessionLog.START)
  found = [
    (e.step, v.tag, v.simple_value)
    for e in (loss, error)
    for v in e.summary.value
  ]
  assert found == [(7, 'loss', 0.5), (7, 'error', 0.25)]


def test_curves_that_cannot_be_closed_hide_no_error(full_disk):
  with pytest.raises(InputError, match='a: the curves'):
    with Curves(full_disk / 'a', 1):
      pass
  with pytest.raises(InputError, match='the reason'):
    with Curves(full_disk / 'b', 1):
      raise InputError('the reason')


def test_a_full_disk(small_disk, tmp_path):
  """The run ends in a sentence; with more room it goes on to its end."""
  (tmp_path / 'run').symlink_to(small_disk(6))
  with started(tmp_path) as running:
    assert running[0].wait() == 2, log(tmp_path)[-3000:]
  text = log(tmp_path).strip()
  last = text.splitlines()[-1]
  assert re.match('error: .*(disk is full, step|could not be written)', last)
  assert 'Traceback' not in text  # of orbax, whose other threads fail too
  steps = [p for p in tmp_path.glob('run/stages/*/*/*') if p.name.isdigit()]
  assert steps, 'nothing was saved before the disk was full'
  for step in steps:
    sums = json.loads((step / checkpoint.CHECKSUMS).read_text())
    assert checkpoint._checksums(step) == sums
  small_disk(100, 'remount')
  run_to_end(tmp_path)
  assert (tmp_path / 'run/eval/test/metrics.json').exists()


def test_disks_of_killed_runs_are_dismounted(small_disk):
  """What a killed run left mounted goes at the next one's start."""
  left = small_disks.PLACE / '999999999-0'  # no process has this number
  left.mkdir()
  small_disks.SmallDisk(left).mount(1)
  (left / 'file').write_bytes(b'x')
  small_disks.dismount_left()
  assert not left.exists()
