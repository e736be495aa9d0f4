"""A page on one or more evaluated runs, with its figures and tables as files.

OUTPUT/report.html    all of it, needs no other file and no network
OUTPUT/figures/*.png  its figures
OUTPUT/tables/*.csv, *.tex
"""

import pathlib
import time

import matplotlib

from fld_jax.evaluation.evaluated_run import EvaluatedRun, read_runs
from fld_jax.files import atomic
from fld_jax.report.content import collect
from fld_jax.report.render import page
from fld_jax.visualization.error_plots import STYLE


def report(
  workdirs: list[pathlib.Path], output: pathlib.Path, split: str | None
) -> pathlib.Path:
  """Reads evaluated runs and writes a report that compares them.

  Args:
    workdirs: folders of runs.
    output: folder for the report; made if it is not there.
    split: of the evaluations, see `report_runs.read_runs`.

  Returns:
    The page's path.

  Raises:
    InputError: see `report_runs.read_runs`.
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
    runs: with the same landmarks, at least one.
    output: folder; figures and tables of an earlier report are replaced.

  Returns:
    The page's path.
  """
  with matplotlib.rc_context(STYLE):
    content = collect(runs)
  for name, endings in (('figures', ('png',)), ('tables', ('csv', 'tex'))):
    for ending in endings:
      for old in (output / name).glob(f'*.{ending}'):
        old.unlink()
  for pictures in content.figures.values():
    for picture in pictures:
      atomic.write_file(output / f'figures/{picture.slug}.png', picture.png)
  for tables in content.tables.values():
    for table in tables:
      atomic.write_file(
        output / f'tables/{table.slug}.csv', table.csv().encode()
      )
      atomic.write_file(
        output / f'tables/{table.slug}.tex', table.tex().encode()
      )
  path = output / 'report.html'
  atomic.write_file(path, page(content).encode())
  return path
