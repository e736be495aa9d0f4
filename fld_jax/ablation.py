"""Trains and evaluates the rows of a table, and prints ours beside theirs."""

import json
import pathlib

from fld_jax import checkpoint, tables
from fld_jax.errors import InputError


def row_configs(config, workdir: pathlib.Path) -> dict:
  """The config of each row, in an order in which they can be trained.

  Args:
    config: has `rows`: slug -> `title`, `mode`, `stages`.
    workdir: of the whole table; a row's own is WORKDIR/SLUG.

  Returns:
    slug -> config. All stages of a row but its last are taken from the first
    row that ends with exactly this stage.

  Raises:
    InputError: if the config has no rows, or no row trains a needed stage.
  """
  if 'rows' not in config:
    raise InputError(
      'The config has no rows to run with --mode=ablation: give '
      '--config=configs/dfa_table2.py.'
    )
  configs, trained = {}, {}  # trained: stages so far -> where the last one lies
  for slug, row in config.rows.items():
    row_config = config.copy_and_resolve_references()
    with row_config.unlocked():
      del row_config.rows
      row_config.routing.mode = row.mode
      row_config.stages = row.copy_and_resolve_references().stages
    keys = [repr(stage.to_dict()) for stage in row_config.stages]
    for i, stage in enumerate(row_config.stages[:-1], 1):
      place = trained.get(tuple(keys[:i]))
      if place is None:
        raise InputError(
          f"Row '{row.title}' builds on a stage '{stage.name}' that no row "
          'before it trains.'
        )
      stage.checkpoint = str(place)
    last = workdir / slug / 'stages' / row_config.stages[-1].name
    trained.setdefault(tuple(keys), last.absolute())
    configs[slug] = row_config
  return configs


def run_rows(config, workdir: pathlib.Path, run_row, split: str) -> dict:
  """Runs every row and writes W/table.json and W/table.txt after each.

  Args:
    config: see `row_configs`.
    workdir: of the whole table.
    run_row: function of a row's config and workdir to {split: metrics}.
    split: whose figures are shown.

  Returns:
    title -> the row's `ne` on the split.
  """
  results = {}
  for slug, row_config in row_configs(config, workdir).items():
    title = config.rows[slug].title
    print(f'\n=== {title} ({workdir / slug})', flush=True)
    results[title] = run_row(row_config, workdir / slug)[split]['ne']
    table = tables.compare_with_paper(results)
    checkpoint.write_file(workdir / 'table.txt', table.encode())
    checkpoint.write_file(
      workdir / 'table.json', json.dumps(results, indent=2).encode()
    )
  print(f'\n{table}\nTable: {workdir}/table.txt')
  return results
