"""The catalogue of data sets: a row says all that the rest needs."""

import pkgutil
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds
from deepfashion_folders import write_folder
from places import ROOT

from fld_jax import defaults
from fld_jax.configs import base, detector, dfa, pcloss
from fld_jax.datasets import catalog, prepare
from fld_jax.datasets.catalog import DATASETS, Dataset, Source
from fld_jax.errors import InputError
from fld_jax.landmark_sets import FASHION_8
from fld_jax.schema import LandmarkSet


@pytest.mark.parametrize('name', DATASETS)
def test_every_row_names_what_there_is(name):
  row = DATASETS[name]
  builder = pkgutil.resolve_name(row.builder)
  assert issubclass(builder, tfds.core.DatasetBuilder)
  if not isinstance(row.landmarks, LandmarkSet):
    assert callable(pkgutil.resolve_name(row.landmarks))
  config = defaults.base(name)
  assert config.eval_splits == row.eval_splits
  assert {*row.settings, *row.overrides} <= set(config.dataset)
  assert ('manual_dir' in row.settings) == (row.source is not None)
  # Its name among the prepared data, which tells old runs what they saw.
  assert builder.name == config.dataset.name


@pytest.mark.parametrize('name', DATASETS)
@pytest.mark.parametrize(
  'config_of',
  [
    lambda name: base.get_config(f'dataset={name}'),
    *(
      lambda name, size=size, file=file: file.get_config(
        f'dataset={name},size={size}'
      )
      for file, sizes in (
        (dfa, ('full', 'small', 'tiny')),
        (pcloss, ('full', 'medium', 'small', 'tiny')),
        (detector, ('small', 'medium', 'large')),
      )
      for size in sizes
    ),
  ],
)
def test_no_image_is_trained_on_and_chooses_or_is_reported(name, config_of):
  """A split as the set of its hundredths."""

  def hundredths(split):
    whole, _, share = split.partition('[')
    low, high = (share.removesuffix(']') or ':').split(':')
    number = lambda edge, end: int(edge.removesuffix('%')) if edge else end
    return {(whole, i) for i in range(number(low, 0), number(high, 100))}

  config = config_of(name)
  splits = (config.dataset.splits.train, config.dataset.splits.tune)
  parts = [hundredths(split) for split in (*splits, *config.eval_splits)]
  assert all(parts)
  assert sum(map(len, parts)) == len(set.union(*parts))
  # What there is of it: only the rendered garments are sure to have val.
  if name != 'synthetic':
    assert 'val' not in splits and 'test' not in splits


@pytest.mark.parametrize('name', ['coco', 'nothing'])
def test_the_valid_names_are_told(name, tmp_path):
  config = defaults.base('fld').dataset
  config.name, config.manual_dir = name, str(tmp_path)
  valid = [key for key in DATASETS if key != 'coco']
  with pytest.raises(InputError, match=', '.join(valid)):
    prepare.make_builder(config)
  if name != 'coco':
    with pytest.raises(InputError, match=', '.join(DATASETS)):
      dfa.get_config(f'dataset={name}')


def test_a_run_of_a_data_set_that_is_gone_is_refused():
  saved = dfa.get_config('dataset=fld').to_dict()
  saved['dataset']['name'] = 'gone'
  with pytest.raises(InputError, match="file, config.dataset.name: is 'gone'"):
    defaults.restore(saved, 'file')


def test_one_row_and_one_folder_add_a_data_set(tmp_path, monkeypatch):
  """The folder is `my_data`, which holds a builder with a setting."""
  package = tmp_path / 'code' / 'my_data'
  package.mkdir(parents=True)
  (package / '__init__.py').write_text('')
  (package / 'builder.py').write_text("""
from fld_jax import landmark_sets
from fld_jax.datasets.common.folder_builder import FolderBuilder
from fld_jax.datasets.deepfashion import coarse


class MyData(FolderBuilder):
  '''Garments of my own.'''

  def digest(self):
    return f'{coarse.content_digest(self.manual_dir)}_{self.centric}'

  def landmarks(self):
    return landmark_sets.FASHION_8

  def read(self, findings):
    return coarse.read_annotations(self.manual_dir, findings)
""")
  monkeypatch.syspath_prepend(str(package.parent))
  row = Dataset(
    landmarks=FASHION_8,
    builder='my_data.builder:MyData',
    settings=('manual_dir', 'centric'),
    source=Source('a page of mine', 'lists/\nphotos/'),
    eval_splits=('test',),
    overrides={'centric': 'person'},
  )
  monkeypatch.setitem(DATASETS, 'my_data', row)
  config = dfa.get_config('dataset=my_data,size=tiny').dataset
  config.data_dir = str(tmp_path / 'prepared')
  assert base.get_config('dataset=my_data').eval_splits == ('test',)
  assert catalog.landmark_set(config) is FASHION_8
  config.manual_dir = str(tmp_path / 'empty')
  with pytest.raises(InputError, match='a page of mine.*\n.*\n  lists/\n  pho'):
    prepare.make_builder(config)
  write_folder(tmp_path / 'folder')
  config.manual_dir = str(tmp_path / 'folder')
  builder = prepare.prepared_builder(config)
  assert builder.info.full_name.endswith('_person/1.2.0')
  assert builder.info.splits.total_num_examples > 0


def test_configs_come_without_tensorflow_datasets():
  """It takes a second to import, and --help needs it not."""
  program = """
import sys
from fld_jax.configs import dfa
dfa.get_config('dataset=fld')
print('tensorflow_datasets' in sys.modules)
"""
  result = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT
  )
  assert (result.returncode, result.stdout) == (0, 'False\n'), result.stderr
