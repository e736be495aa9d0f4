"""Prepares a data set: original files or a seed -> records."""

import os
import pkgutil
import time

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from fld_jax.datasets.catalog import (
  check_manual_dir,
  find,
  instructions,
  whole_set,
)
from fld_jax.datasets.common.folder_builder import FolderBuilder
from fld_jax.files.atomic import unwritable
from fld_jax.schema import LandmarkSet


def prepare(config: ConfigDict) -> dict:
  """Writes a data set's records, unless they exist, and prints a summary.

  Args:
    config: The config's part `dataset`.

  Returns:
    `splits`, name -> number of records; `left_out`, reason -> number of rows
    that are not records; `examples`, reason -> names of a few; `notes`, what is
    worth knowing -> how often it was seen.

  Raises:
    InputError: The folder or a file in it is wrong; then nothing is prepared.
  """
  start = time.perf_counter()
  known = make_builder(config).is_prepared()
  builder = prepared_builder(config)
  seconds = time.perf_counter() - start
  found = summary(builder)
  total = sum(found['splits'].values())
  print(f'\n{config.name}: {total} records')
  for line in describe(builder, whole_set(config)):
    print(f'  {line}')
  rate = f'{seconds:.1f} s, {total / seconds:.0f} images/s'
  print('Prepared before.' if known else f'Prepared in {rate}.')
  print(f'Records: {builder.data_dir}', flush=True)
  return found


def summary(builder: tfds.core.DatasetBuilder) -> dict:
  """The summary of prepared data that `prepare` returns.

  Args:
    builder: The builder of the data.
  """
  if isinstance(builder, FolderBuilder):
    return {'examples': {}, 'notes': {}, **builder.summary()}
  splits = {k: v.num_examples for k, v in builder.info.splits.items()}
  return {'splits': splits, 'left_out': {}, 'examples': {}, 'notes': {}}


def describe(
  builder: tfds.core.DatasetBuilder, landmarks: LandmarkSet
) -> list[str]:
  """What is in prepared data, and how their files were taken.

  Args:
    builder: The builder of the data.
    landmarks: The landmark set of the data.

  Returns:
    Lines of text.
  """
  found = summary(builder)
  lines = [f'{name:10} {n:>9}' for name, n in found['splits'].items()]
  if isinstance(builder, FolderBuilder):
    lines += builder.about()
  for why, n in found['left_out'].items():
    examples = ', '.join(found['examples'].get(why, []))
    lines.append(f'left out: {why} {n} ({examples})')
  lines += [f'{what}: {n}' for what, n in found['notes'].items()]
  if not found['left_out']:
    lines.append('nothing was left out')
  return [*lines, f'left and right: {landmarks.pairs_in_words}']


def prepared_builder(config: ConfigDict) -> tfds.core.DatasetBuilder:
  """The builder that a config names, after preparing its data if needed.

  Args:
    config: The config's part `dataset`; fld_jax/defaults.py describes its
      fields.

  Returns:
    A TFDS builder; its splits can be read with `as_data_source`. It has all
    records, whatever `clothes_type` is.

  Raises:
    InputError: The name is unknown, or the folder or a file in it is wrong.
    Unwritable: The disk is full or read-only; what is finished is kept.
  """
  builder = make_builder(config)
  with unwritable(
    f'config.dataset.data_dir={config.data_dir}: the records of {config.name}'
  ):
    builder.download_and_prepare(file_format='array_record')
  return builder


def content_id(builder: tfds.core.DatasetBuilder) -> str:
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


def make_builder(config: ConfigDict) -> tfds.core.DatasetBuilder:
  """The builder that a config names, prepared or not.

  Args:
    config: The config's part `dataset`.

  Raises:
    InputError: The name is unknown, files are missing, or the landmarks that
      they and the config declare are wrong.
  """
  row = find(config.name)
  whole_set(config)  # refuses wrong landmarks before anything is prepared
  with instructions(config.name):
    if row.source:
      check_manual_dir(config)
    builder = pkgutil.resolve_name(row.builder)
    settings = {name: config[name] for name in row.settings}
    data_dir = os.path.expanduser(config.data_dir)
    return builder(data_dir=data_dir, **settings)
