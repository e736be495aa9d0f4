"""Data sets and prediction files to score."""

import types

import numpy as np

from fld_jax import defaults
from fld_jax.datasets.prepare import make_builder
from fld_jax.errors import Findings


def config_of(name, folder, tmp_path, **fields):
  config = defaults.base(name).dataset
  config.manual_dir = str(folder)
  config.data_dir = str(tmp_path / 'prepared')
  config.update(fields)
  return config


def read(config, split):
  """The rows of a split, and the arrays of their fields."""
  rows = make_builder(config).read(Findings())
  rows = [row for row in rows if row.split == split]
  fields = 'id box landmarks visibility clothes_type variation'.split()
  arrays = {f: np.array([getattr(row, f) for row in rows]) for f in fields}
  arrays['boxes'] = arrays['box']  # as metrics.mean_position has it
  return types.SimpleNamespace(**arrays)


def write_npz(path, ids, points, **more):
  np.savez(path, ids=np.array(ids), landmarks=points, **more)
  return path
