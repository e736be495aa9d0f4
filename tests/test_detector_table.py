"""The detector's own table: each row is the detector with one thing changed."""

import pathlib

import pytest

from fld_jax import ablation
from fld_jax.configs import detector, detector_table
from fld_jax.errors import InputError

ARG = 'dataset=deepfashion,size=small'


def test_each_row_is_the_detector_that_its_title_says():
  config = detector_table.get_config(f'{ARG},seeds=3')
  config.dataset.manual_dir = 'FOLDER'  # what a command line sets
  rows = ablation.row_configs(config, pathlib.Path('W'), seed=7)
  titles = [row.title for row in config.rows.values()]
  assert titles == [
    '95 % of the images',
    '20 % of the images',
    '5 % of the images',
    'random weights',
  ]
  parts = ('train[:95%]', 'train[:20%]', 'train[:5%]', 'train[:95%]')
  starts = ('imagenet',) * 3 + ('none',)
  for found, part, start in zip(rows.values(), parts, starts, strict=True):
    expected = detector.get_config(f'{ARG},pretrained={start}')
    expected.dataset.splits.train = part
    expected.dataset.manual_dir, expected.seed = 'FOLDER', 7
    assert found.to_dict() == expected.to_dict()
  # The images that choose checkpoints are in no row's part.
  assert {row.dataset.splits.tune for row in rows.values()} == {'train[95%:]'}
  assert config.seeds == 3


def test_arguments_that_rows_decide_are_refused():
  with pytest.raises(InputError, match='pretrained'):
    detector_table.get_config('pretrained=none')
