"""Ablations: trains and evaluates a table's rows, and compares with the paper.

A row is a config that differs from the table's in a few fields.
"""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_flags import config_path

from fld_jax.config import difference
from fld_jax.errors import InputError
from fld_jax.evaluation import text_tables
from fld_jax.files.atomic import write_file
from fld_jax.visualization import curves


def row_configs(
  config: ConfigDict, workdir: pathlib.Path, seed: int
) -> dict[str, ConfigDict]:
  """Makes the config of each row, in an order in which they can be trained.

  Args:
    config: The table's config. Its field `rows` maps each row's slug to its
      `title`, `num_stages`, `change`, and what `text_tables.compare_with_paper`
      shows. `change` holds triples of path, old and new value as
      `config.difference` returns them; an old value of None stands for any.
      A row's config is the table's with this change, so that what the command
      line sets holds for every row.
    workdir: The table's folder; a row's own is WORKDIR/SLUG/seedSEED.
    seed: The seed of the runs.

  Returns:
    Slug -> config. All stages of a row but its last are taken from the first
    row that ends with exactly this stage.

  Raises:
    InputError: If the config has no rows, no row trains a needed stage, or a
      row changes a field that the command line has set.
  """
  if 'rows' not in config:
    raise InputError(
      'The config has no rows to run with --mode=ablation: give '
      '--config=configs/dfa_table2.py, for example.'
    )
  configs, trained = {}, {}  # trained: stages so far -> folder of the last one
  for slug, row in config.rows.items():
    row_config = config.copy_and_resolve_references()
    with row_config.unlocked():
      for field in ('rows', 'seeds', 'about'):
        del row_config[field]
      row_config.stages = _copied(config.stages[: row.num_stages])
      for path, old, new in row.change:
        given = config_path.get_value(path, row_config)
        if old is not None and difference(given, old):
          raise InputError(
            f'config.{path} is {given!r}, but the rows of this table differ in '
            f"it, and '{row.title}' sets it to {new!r}: leave it at {old!r}."
          )
        config_path.set_value(path, row_config, new)
      row_config.stages = _copied(row_config.stages)
      row_config.seed = seed
    model = row_config.model.to_dict()
    keys = [repr((model, stage.to_dict())) for stage in row_config.stages]
    for i, stage in enumerate(row_config.stages[:-1], 1):
      place = trained.get(tuple(keys[:i]))
      if place is None:
        raise InputError(
          f"Row '{row.title}' builds on a stage '{stage.name}' that no row "
          'before it trains.'
        )
      stage.checkpoint = str(place)
    folder = row_directory(workdir, slug, seed)
    last = folder / 'stages' / row_config.stages[-1].name
    trained.setdefault(tuple(keys), last.absolute())
    configs[slug] = row_config
  return configs


def _copied(stages: Sequence[ConfigDict]) -> tuple[ConfigDict, ...]:
  """Copies stages, which a copy of a config shares, as it does all tuples."""
  return tuple(stage.copy_and_resolve_references() for stage in stages)


def row_directory(workdir: pathlib.Path, slug: str, seed: int) -> pathlib.Path:
  """Returns the folder of a row's run.

  Args:
    workdir: The table's folder.
    slug: The row's slug.
    seed: The seed of the run.
  """
  return workdir / slug / f'seed{seed}'


def run_rows(
  config: ConfigDict,
  workdir: pathlib.Path,
  run_row: Callable[[ConfigDict, pathlib.Path], dict[str, Any]],
  split: str,
) -> dict[str, dict[int, dict]]:
  """Runs every row with every seed.

  W/table.json and W/table.txt, and for a sweep W/sweep.png, are written anew
  after each run.

  Args:
    config: The table's config, with the `rows` of `row_configs`. `seed` is the
      first seed and `seeds` the number of seeds, at least 1; `about` is the
      text below the table.
    workdir: The table's folder.
    run_row: A function of a row's config and folder that trains and evaluates
      it, and returns split -> metrics.
    split: The name of the split whose figures the table shows.

  Returns:
    Title of the row -> seed -> figures (see `text_tables.figures`).

  Raises:
    InputError: If `row_configs` or a run fails, or there is no seed.
  """
  if config.get('seeds', 1) < 1:
    raise InputError(f'config.seeds is {config.seeds}, it must be at least 1.')
  rows = {}
  for seed in range(config.seed, config.seed + config.get('seeds', 1)):
    for slug, row_config in row_configs(config, workdir, seed).items():
      row = config.rows[slug]
      folder = row_directory(workdir, slug, seed)
      print(f'\n=== {row.title}, seed {seed} ({folder})', flush=True)
      metrics = run_row(row_config, folder)[split]
      shown = row.to_dict()
      del shown['change'], shown['num_stages']
      entry = rows.setdefault(slug, {**shown, 'runs': {}})
      entry['runs'][seed] = text_tables.figures(metrics)
      table = text_tables.compare_with_paper(rows, config.about)
      write_file(workdir / 'table.txt', table.encode())
      write_file(workdir / 'table.json', json.dumps(rows, indent=2).encode())
      if 'beta' in row:
        curves.plot_sweep(rows).savefig(workdir / 'sweep.png', dpi=120)
  print(f'\n{table}\nTable: {workdir}/table.txt')
  return {row['title']: row['runs'] for row in rows.values()}
