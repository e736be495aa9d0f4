"""docs/results/*.csv hold what they must, and the pages what these hold."""

import csv
import importlib.util
import re
import statistics
import subprocess
import sys

import pytest
from places import ROOT

RESULTS = ROOT / 'docs/results'
FILES = sorted(path.stem for path in RESULTS.glob('*.csv'))
# What every file begins with: where a figure is from.
PROVENANCE = [
  'series',
  'config',
  'command',
  'commit',
  'device',
  'seed',
  'split',
]
WORDS = {'paper', 'published', 'published_on', 'page', 'model', 'unit'}
WORDS |= {'statuses', 'seen', 'verdict'}  # of attacks
SPLITS = {'', 'train', 'tune', 'val', 'test', 'tune val'}


@pytest.fixture(scope='module')
def tables():
  spec = importlib.util.spec_from_file_location('t', ROOT / 'docs/tables.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def lines(name):
  with open(RESULTS / f'{name}.csv', newline='') as file:
    return list(csv.reader(file))


def test_pages_are_up_to_date():
  found = subprocess.run(
    [sys.executable, ROOT / 'docs/tables.py', '--check'],
    capture_output=True,
    text=True,
  )
  assert found.returncode == 0, found.stderr


def test_a_stale_page_is_found(tables, tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('<!-- table: dfa -->\n| old |\n<!-- end -->\n')
  assert tables.filled(page) != page.read_text()
  page.write_text(tables.filled(page))
  assert tables.filled(page) == page.read_text()
  assert '10.18' in page.read_text()


def test_every_file_is_a_table_of_a_page(tables):
  text = ''.join(page.read_text() for page in tables.pages())
  shown = set(re.findall(r'<!-- table: (\w+) -->', text))
  # The README has the table of the methods.
  assert set(FILES) - shown <= {'methods'}
  assert set(FILES) == set(tables.TABLES)


@pytest.mark.parametrize('name', FILES)
def test_rows(name):
  header, *rows = lines(name)
  assert header[: len(PROVENANCE)] == PROVENANCE
  assert len(rows) == len({tuple(row) for row in rows}) > 0
  for line in rows:
    row = dict(zip(header, line, strict=True))
    assert row['series']
    assert row['split'] in SPLITS
    assert re.fullmatch('([0-9a-f]{7})?', row['commit']), row
    assert row['seed'] == '' or all(map(str.isdigit, row['seed'].split(' ')))
    if row['config']:
      assert (ROOT / row['config'].partition(':')[0]).is_file()
    for column in header[len(PROVENANCE) :]:
      if column not in WORDS and row[column]:
        float(row[column])


@pytest.mark.parametrize('name', FILES)
def test_scripts_of_commands_exist(name):
  header, *rows = lines(name)
  for line in rows:
    command = dict(zip(header, line, strict=True))['command']
    for path in re.findall(r'((?:[a-z]+/)+\w+\.(?:py|sh))', command):
      assert (ROOT / path).is_file(), path


def test_configs_of_runs_take_their_arguments():
  """Each config file is called with the arguments that the row has."""
  for config in sorted({row['config'] for row in _all_rows()} - {''}):
    path, _, argument = config.partition(':')
    spec = importlib.util.spec_from_file_location('c', ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.get_config(argument).dataset.name in argument


def test_means_over_seeds(tables):
  """The mean of single runs is that of the row with several seeds.

  Its figures are rounded ones of exact means, so they differ by 0.01.
  """
  checked = 0
  for name in FILES:
    groups = {}
    for row in tables.read(name):
      groups.setdefault((row['series'], row['commit']), []).append(row)
    for rows in groups.values():
      means = [row for row in rows if ' ' in row['seed']]
      single = [row for row in rows if row['seed'].isdigit()]
      if not means or not single:
        continue
      (mean,) = means
      assert mean['seed'].split() == [row['seed'] for row in single]
      for column in ('ne', 'ne_change', 'ne_restarted', 'stage_1', 'stage_3'):
        if mean.get(column):
          values = [float(row[column]) for row in single]
          wanted = pytest.approx(statistics.mean(values), abs=0.0101)
          assert float(mean[column]) == wanted
          checked += 1
  assert checked > 10


def test_the_papers_figures_are_found(tables):
  keys = {row.get('published') for row in _all_rows()} - {'', None}
  assert len(keys) > 8
  for key in keys:
    assert 1 < tables.published(key)['ne'] < 15
  assert tables.published('PCLOSS_TABLE_1/fpn/none')['ne'] == 3.11
  stage_3 = tables.published('DFA_TABLE_2/s3 + plabels (c. offset)')
  assert stage_3['ne'] == pytest.approx(6.8)
  assert 'waist_left' not in stage_3


def _all_rows():
  for name in FILES:
    header, *rows = lines(name)
    for line in rows:
      yield dict(zip(header, line, strict=True))
