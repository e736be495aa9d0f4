"""Prepares a data set: original files or a seed -> records."""

import os
import pkgutil
import time

from ml_collections import ConfigDict

from fld_jax.datasets.catalog import check_manual_dir, find, instructions
from fld_jax.datasets.common.folder_builder import FolderBuilder


def prepare(config: ConfigDict) -> dict:
  """Writes a data set's records, unless they exist, and prints a summary.

  Args:
    config: The config's part `dataset`.

  Returns:
    `splits`, name -> number of records, and `left_out`, reason -> number of
    rows that are not records.

  Raises:
    InputError: The folder or a file in it is wrong; then nothing is prepared.
  """
  start = time.perf_counter()
  known = make_builder(config).is_prepared()
  builder = prepared_builder(config)
  seconds = time.perf_counter() - start
  summary = {
    'splits': {k: v.num_examples for k, v in builder.info.splits.items()},
    'left_out': {},
  }
  if isinstance(builder, FolderBuilder):
    summary = builder.summary()
  total = sum(summary['splits'].values())
  print(f'\n{config.name}: {total} records')
  for part, rows in summary.items():
    for name, number in rows.items():
      print(f'  {"left out: " * (part == "left_out")}{name:10} {number:>9}')
  if not summary['left_out']:
    print('  nothing was left out')
  rate = f'{seconds:.1f} s, {total / seconds:.0f} images/s'
  print('Prepared before.' if known else f'Prepared in {rate}.')
  print(f'Records: {builder.data_dir}', flush=True)
  return summary


def prepared_builder(config: ConfigDict):
  """The builder that a config names, after preparing its data if needed.

  Args:
    config: The config's part `dataset`; fld_jax/defaults.py describes its
      fields.

  Returns:
    A TFDS builder; its splits can be read with `as_data_source`. It has all
    records, whatever `clothes_type` is.

  Raises:
    InputError: The name is unknown, or the folder or a file in it is wrong.
  """
  builder = make_builder(config)
  builder.download_and_prepare(file_format='array_record')
  return builder


def content_id(builder) -> str:
  """A name of prepared data that is the same for the same records.

  The path of the prepared files also changes with the times of the image files:
  a copy of a folder is prepared again, but a run on it can be resumed.

  Args:
    builder: A TFDS builder whose data are prepared.
  """
  content = (builder.info.metadata or {}).get('content')
  if content is None:  # rendered: the name says from what
    return builder.info.full_name
  return f'{builder.name}/{content}/{builder.version}'


def make_builder(config: ConfigDict):
  """The builder that a config names, prepared or not.

  Args:
    config: The config's part `dataset`.

  Raises:
    InputError: The name is unknown, or files are missing.
  """
  row = find(config.name)
  with instructions(config.name):
    if row.source:
      check_manual_dir(config)
    builder = pkgutil.resolve_name(row.builder)
    settings = {name: config[name] for name in row.settings}
    data_dir = os.path.expanduser(config.data_dir)
    return builder(data_dir=data_dir, **settings)
