"""Preparing: summaries, order, parallel writing, and going on after a kill."""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import coco_folders
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from places import ROOT

from fld_jax import defaults, experiment
from fld_jax.configs import base, pcloss
from fld_jax.datasets import prepare
from fld_jax.datasets.common import shards
from fld_jax.datasets.prepare import make_builder, prepared_builder
from fld_jax.errors import Findings, InputError
from fld_jax.files import images

NUM_IMAGES = 60


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Lower garments, two of three for training, in the layout of FLD."""
  root = tmp_path_factory.mktemp('fld')
  for name in ('Img', 'Anno', 'Eval'):
    (root / name).mkdir()
  names = [f'img_{i:08d}.jpg' for i in range(NUM_IMAGES)]
  rng = np.random.default_rng(0)
  for name in names:
    pixels = rng.integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(root / 'Img' / name)
  triples = ' '.join(
    f'landmark_visibility_{i} landmark_location_x_{i} landmark_location_y_{i}'
    for i in range(1, 9)
  )
  lists = {
    'Anno/list_bbox.txt': ('x_1 y_1 x_2 y_2', lambda i: '1 1 40 30'),
    'Anno/list_landmarks.txt': (
      f'clothes_type variation_type {triples}',
      lambda i: f'2 1 0 {i % 40} 1 0 2 2 0 3 3 2 0 0',
    ),
    'Eval/list_eval_partition.txt': (
      'evaluation_status',
      lambda i: 'train' if i % 3 else 'test',
    ),
  }
  for path, (columns, cells) in lists.items():
    lines = [str(NUM_IMAGES), f'image_name {columns}']
    lines += [f'{name} {cells(i)}' for i, name in enumerate(names)]
    (root / path).write_text('\n'.join(lines) + '\n')
  return root


def config_of(folder, data_dir):
  config = base.get_config('dataset=fld').dataset
  config.manual_dir, config.data_dir = str(folder), str(data_dir)
  return config


def records(builder):
  raw = {'image': tfds.decode.SkipDecoding()}
  return {
    split: [(r['id'], r['image'], r['landmarks'].tolist()) for r in source]
    for split, source in builder.as_data_source(decoders=raw).items()
  }


def test_summary_and_second_time(folder, tmp_path, capsys):
  config = config_of(folder, tmp_path)
  nothing = {'left_out': {}, 'examples': {}, 'notes': {}}
  expected = {'splits': {'test': 20, 'train': 40}, **nothing}
  assert prepare.prepare(config) == expected
  out = capsys.readouterr().out
  assert 'fld: 60 records' in out and 'images/s' in out
  assert prepare.prepare(config) == expected
  assert 'Prepared before.' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['fld', 'synthetic'])
def test_nothing_is_left_in_the_temporary_folder(
  name, folder, tmp_path, monkeypatch
):
  temporary = tmp_path / 'temporary'
  temporary.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(temporary))
  config = base.get_config(f'dataset={name}').dataset
  config.manual_dir, config.data_dir = str(folder), str(tmp_path / 'records')
  if name == 'synthetic':
    config.sizes = {'train': 2, 'val': 2, 'test': 2}
  for _ in range(2):
    prepare.prepare(config)
    assert not list(temporary.iterdir())


class Plain(tfds.core.GeneratorBasedBuilder):
  """The same records as TFDS writes and shuffles them itself."""

  VERSION = tfds.core.Version('1.0.0')
  code_path = None

  def __init__(self, rows, features, **kwargs):
    self.rows, self.features = rows, features
    super().__init__(file_format='array_record', **kwargs)

  def _info(self):
    return tfds.core.DatasetInfo(builder=self, features=self.features)

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      split: self._generate_examples(split)
      for split in sorted({row.split for row in self.rows})
    }

  def _generate_examples(self, split):
    for row in self.rows:
      if row.split == split:
        record = {
          name: getattr(row, name) for name in self.features if name != 'image'
        }
        yield row.id, {**record, 'image': pathlib.Path(row.path).read_bytes()}


def test_records_and_order_are_tfds_own(folder, tmp_path, monkeypatch):
  monkeypatch.setattr(shards, 'MIN_RECORDS', 7)
  builder = prepared_builder(config_of(folder, tmp_path / 'ours'))
  assert builder.info.splits['train'].shard_lengths == [7] * 5 + [5]
  rows = list(builder.read(Findings()))
  plain = Plain(rows, builder.info.features, data_dir=tmp_path / 'plain')
  plain.download_and_prepare()
  assert records(builder) == records(plain)


def test_many_records_get_larger_files(folder, tmp_path, monkeypatch):
  monkeypatch.setattr(shards, 'MIN_RECORDS', 7)
  monkeypatch.setattr(shards, 'MAX_FILES', 3)
  builder = prepared_builder(config_of(folder, tmp_path))
  assert builder.info.splits['train'].shard_lengths == [14, 14, 12]
  assert builder.info.splits['test'].shard_lengths == [7, 7, 6]


PROGRAM = """
import sys
import tempfile
from fld_jax.configs import base
from fld_jax.datasets.common import shards
from fld_jax.datasets.prepare import prepared_builder
if __name__ == '__main__':
  config = base.get_config('dataset=fld').dataset
  config.manual_dir, config.data_dir = sys.argv[1:]
  shards.MIN_RECORDS = 4
  prepared_builder(config)
"""


def test_a_killed_preparation_goes_on(folder, tmp_path, monkeypatch):
  program = tmp_path / 'program.py'
  program.write_text(PROGRAM)
  data_dir = tmp_path / 'data'
  process = subprocess.Popen(
    [sys.executable, program, folder, data_dir], stderr=subprocess.PIPE
  )
  written = lambda: list(data_dir.glob('fld/*.partial/*-?????'))
  end = time.monotonic() + 60
  while not written() and time.monotonic() < end:
    time.sleep(0.001)
  process.send_signal(signal.SIGKILL)
  process.wait()
  done = {path.name: path.stat().st_mtime_ns for path in written()}
  assert 1 <= len(done) < 15, 'killed too early or too late to say anything'
  assert not list(data_dir.glob('fld/*/*/dataset_info.json'))

  monkeypatch.setattr(shards, 'MIN_RECORDS', 4)
  builder = prepared_builder(config_of(folder, data_dir))
  for name, when in done.items():
    split, number = name.split('-')
    (file,) = pathlib.Path(builder.data_dir).glob(
      f'fld-{split}.array_record-{number}-of-*'
    )
    assert file.stat().st_mtime_ns == when, 'written again'
  fresh = prepared_builder(config_of(folder, tmp_path / 'fresh'))
  assert records(builder) == records(fresh)
  assert not list(data_dir.glob('fld/*.partial'))


def test_two_at_once(folder, tmp_path):
  """One prepares, the other waits and reads what is there."""
  program = tmp_path / 'program.py'
  program.write_text(
    PROGRAM.replace(
      '  prepared_builder(config)', '  b = prepared_builder(config)'
    )
    + "  print(b.info.splits['train'].num_examples)\n"
  )
  command = [sys.executable, program, folder, tmp_path / 'data']
  pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
  both = [subprocess.Popen(command, **pipes) for _ in range(2)]
  outputs = [process.communicate(timeout=120) for process in both]
  assert [out for out, _ in outputs] == ['40\n', '40\n'], outputs
  assert sum('writing' in err for _, err in outputs) == 1


def test_an_unguarded_script(folder, tmp_path):
  """Whoever prepares many files need not write `if __name__ == ...`."""
  program = tmp_path / 'program.py'
  program.write_text(PROGRAM.replace("if __name__ == '__main__':", 'if True:'))
  command = [sys.executable, program, folder, tmp_path / 'data']
  subprocess.run(command, check=True, timeout=60)


def test_prepared_data_are_read_without_write_access(folder, tmp_path):
  """And from a folder by another name, which has the same files."""
  builder = prepared_builder(config_of(folder, tmp_path / 'data'))
  (tmp_path / 'data/fld').chmod(0o500)
  moved = tmp_path / 'moved'
  moved.symlink_to(folder)
  again = prepared_builder(config_of(moved, tmp_path / 'data'))
  (tmp_path / 'data/fld').chmod(0o700)
  assert again.data_dir == builder.data_dir
  assert again.partial() != builder.partial()


def test_rows_are_not_read_again(folder, tmp_path, monkeypatch):
  config = config_of(folder, tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(shards, '_run', lambda *a: (_ for _ in ()).throw(KeyError))
    with pytest.raises(KeyError):
      prepared_builder(config)
  builder = make_builder(config)
  monkeypatch.setattr(type(builder), 'read', None)
  builder.download_and_prepare(file_format='array_record')
  assert builder.info.splits.total_num_examples == NUM_IMAGES


def test_a_half_read_database_is_thrown_away(folder, tmp_path):
  builder = make_builder(config_of(folder, tmp_path))
  partial = builder.partial()
  partial.mkdir(parents=True)
  (partial / 'rows.tmp').write_bytes(b'half of a page')
  builder.download_and_prepare(file_format='array_record')
  assert builder.info.splits.total_num_examples == NUM_IMAGES


def test_coco_by_its_own_name(tmp_path):
  """The official files need no settings."""
  root = tmp_path / 'coco'
  coco_folders.write(root, {'val': coco_folders.document('val')})
  annotations = root / 'annotations'
  (annotations / 'val.json').rename(
    annotations / 'person_keypoints_val2017.json'
  )
  (root / 'images').rename(root / 'val2017')
  config = base.get_config('dataset=coco').dataset
  config.manual_dir, config.data_dir = str(root), str(tmp_path / 'data')
  assert prepare.prepare(config)['splits'] == {'val': 4}


def test_a_folder_at_home(folder, tmp_path, monkeypatch):
  """A shell leaves the ~ of --manual_dir=~/coco to the program."""
  monkeypatch.setenv('HOME', str(tmp_path))
  document = coco_folders.document('val')
  coco_folders.write(tmp_path / 'coco', {'val': document})
  (tmp_path / 'fld').symlink_to(folder)
  for name, splits in (
    ('coco_keypoints', {'val': 4}),
    ('fld', {'test': 20, 'train': 40}),
  ):
    config = base.get_config(f'dataset={name}').dataset
    config.data_dir = str(tmp_path / 'data')
    config.manual_dir = '~/coco' if name == 'coco_keypoints' else '~/fld'
    assert prepare.prepare(config)['splits'] == splits


@pytest.mark.parametrize(
  ('name', 'splits'),
  [
    ('fld', ('val',)),
    ('parse', ('test',)),
    ('lsp', ('test',)),
    ('lspet', ('train[95%:]',)),
  ],
)
def test_default_evaluation(name, splits):
  assert defaults.base(name).eval_splits == splits


def test_a_split_that_is_not_there_is_refused_before_training(folder, tmp_path):
  config = pcloss.get_config('dataset=fld,size=small')
  config.batch_size = 8
  config.dataset.manual_dir = str(folder)
  config.dataset.data_dir = str(tmp_path / 'data')
  with pytest.raises(
    InputError, match="no split 'val'.*test with .*train with"
  ):
    experiment.run(config, tmp_path / 'w', mode='train', splits=('val',))
  assert not (tmp_path / 'w').exists()


def test_images_are_decoded_to_rgb(tmp_path):
  """Pillow turns LAB into RGB, but not into grey, of which hashes are made."""
  path = tmp_path / 'lab.tif'
  Image.new('LAB', (8, 8)).save(path)
  assert images.decode_image(str(path), 'a list')[1].mode == 'RGB'


def run_main(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'fld_jax.main', *map(str, arguments)],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )


def test_command_line(folder, tmp_path):
  short = ('--mode=prepare', '--dataset=fld', f'--manual_dir={folder}')
  data_dir = f'--config.dataset.data_dir={tmp_path}'
  result = run_main(*short, data_dir)
  assert result.returncode == 0, result.stderr
  (summary,) = tmp_path.glob('fld/*/*/summary.json')
  assert json.loads(summary.read_text())['splits'] == {'test': 20, 'train': 40}
  # A whole config does as well.
  config = '--config=configs/dfa.py:dataset=fld'
  result = run_main('--mode=prepare', config, short[2], data_dir)
  assert 'Prepared before.' in result.stdout, result.stderr


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--dataset=fld'], ['manual_dir', 'LandmarkDetection', 'list_bbox.txt']),
    (['--dataset=fld', '--manual_dir=/nope'], ['/nope', 'Eval/list_eval']),
    (['--dataset=nope'], ["'nope'", 'deepfashion, fld']),
    (['--dataset=fld', '--config=configs/dfa.py'], ['either --dataset']),
    ([], ['--config, or --dataset']),
    (
      ['--mode=train', '--dataset=fld', '--workdir=/nope'],
      ['--mode=train needs a config with a model', 'dataset=fld'],
    ),
    (['--dataset=fld', '--config.dataset.nope=1'], ['dataset.nope', 'images']),
  ],
)
def test_mistakes_on_the_command_line(arguments, words):
  result = run_main('--mode=prepare', *arguments)
  assert result.returncode == 2
  assert result.stderr.startswith('error: ')
  for word in words:
    assert word in result.stderr


def test_every_missing_list_is_named(tmp_path):
  with pytest.raises(InputError) as raised:
    make_builder(config_of(tmp_path, tmp_path))
  for name in ('list_bbox', 'list_landmarks', 'list_eval_partition'):
    assert f'{name}.txt' in str(raised.value).partition('to be had')[0]
