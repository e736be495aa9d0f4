"""A page on one or more evaluated runs, with its figures and tables as files.

OUTPUT/report.html    all of it, needs no other file and no network
OUTPUT/figures/*.png  its figures
OUTPUT/tables/*.csv, *.tex
"""

import itertools
import pathlib
import time

import matplotlib

from fld_jax.evaluation.analysis import analyse
from fld_jax.evaluation.evaluated_run import EvaluatedRun, read_runs
from fld_jax.files import atomic
from fld_jax.report.content import collect
from fld_jax.report.render import Picture, page
from fld_jax.visualization.error_plots import STYLE


def report(
  workdirs: list[pathlib.Path], output: pathlib.Path, split: str | None
) -> pathlib.Path:
  """Reads evaluated runs and writes a report that compares them.

  Args:
    workdirs: The runs' folders.
    output: The folder for the report; made if it is not there.
    split: The evaluated split, see `evaluated_run.read_runs`.

  Returns:
    The page's path.

  Raises:
    InputError: See `evaluated_run.read_runs`.
  """
  started = time.monotonic()
  path = write_report(read_runs(workdirs, split), output)
  print(
    f'Report: {path} ({path.stat().st_size / 1e6:.1f} MB, '
    f'{time.monotonic() - started:.0f} s)',
    flush=True,
  )
  return path


def write_report(
  runs: list[EvaluatedRun], output: pathlib.Path
) -> pathlib.Path:
  """Writes the page, the figures and the tables of runs.

  Args:
    runs: Runs with the same landmarks, at least one.
    output: The folder; figures and tables of an earlier report are replaced.

  Returns:
    The page's path.
  """
  with matplotlib.rc_context(STYLE):
    content = collect(analyse(runs))
  for name, endings in (('figures', ('png',)), ('tables', ('csv', 'tex'))):
    for ending in endings:
      for old in (output / name).glob(f'*.{ending}'):
        old.unlink()
  for block in itertools.chain.from_iterable(content.blocks.values()):
    if isinstance(block, Picture):
      atomic.write_file(output / f'figures/{block.slug}.png', block.png)
    else:
      name = f'tables/{block.slug}'
      atomic.write_file(output / f'{name}.csv', block.csv().encode())
      atomic.write_file(output / f'{name}.tex', block.tex().encode())
  path = output / 'report.html'
  atomic.write_file(path, page(content).encode())
  return path
