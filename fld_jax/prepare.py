"""Prepares a dataset, and says what was read and what was left out."""

import time

from fld_jax.datasets import make_builder, prepared_builder
from fld_jax.datasets.folder_builder import FolderBuilder


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
