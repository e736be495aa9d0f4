"""Prepares a dataset, and says what was read and what was left out."""

import os
import pkgutil
import time

from fld_jax.datasets.catalog import check_manual_dir, find, instructions
from fld_jax.datasets.common.folder_builder import FolderBuilder


def prepare(config) -> dict:
  """Writes a dataset's records, if they are not there yet, and a summary.

  Args:
    config: of the dataset, see `datasets.prepared_builder`.

  Returns:
    `splits`, name -> number of records, and `left_out`, why -> how many.

  Raises:
    InputError: anything wrong with the files; then nothing is prepared.
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


def prepared_builder(config):
  """The builder that a config names, its data prepared if they were not.

  Args:
    config: `name`; `data_dir`, where prepared data lie; `manual_dir`, the
      folder of the original files; `labels` (deepfashion); `annotations`,
      `images`, `detections` (coco_keypoints); `centric` (lsp, lspet, parse);
      `sizes`, `seed` (synthetic).

  Returns:
    A TFDS builder; its splits can be read with `as_data_source`. It has all
    records, whatever `clothes_type` is.

  Raises:
    InputError: for an unknown name, or anything wrong with the folder.
  """
  builder = make_builder(config)
  builder.download_and_prepare(file_format='array_record')
  return builder


def content_id(builder) -> str:
  """A name of a prepared dataset that is the same for the same records.

  Unlike the place of the prepared files, which changes with the images' times
  too: a copy of a folder is prepared again, and a run goes on with it.
  """
  content = (builder.info.metadata or {}).get('content')
  if content is None:  # rendered: the name says from what
    return builder.info.full_name
  return f'{builder.name}/{content}/{builder.version}'


def make_builder(config):
  """The builder that a config names, prepared or not.

  Args:
    config: see `prepared_builder`.

  Raises:
    InputError: for an unknown name, or missing files.
  """
  row = find(config.name)
  with instructions(config.name):
    if row.source:
      check_manual_dir(config)
    builder = pkgutil.resolve_name(row.builder)
    settings = {name: config[name] for name in row.settings}
    data_dir = os.path.expanduser(config.data_dir)
    return builder(data_dir=data_dir, **settings)
