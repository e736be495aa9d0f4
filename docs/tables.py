"""Fills the tables of README.md and docs/ from docs/results/*.csv.

  python docs/tables.py          writes the tables into the pages
  python docs/tables.py --check  exit status 1 if a page is not up to date

A page has a place for the table NAME of TABLES below:

  <!-- table: NAME -->
  <!-- end -->

The papers' figures are those of fld_jax.papers, which a row names in its cell
`published`, PCLOSS_TABLE_1/fpn/none for example.
"""

import csv
import os
import pathlib
import re
import sys

from tabulate import tabulate

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from fld_jax import landmark_sets, papers  # noqa: E402

RESULTS = ROOT / 'docs/results'
BLOCK = re.compile(r'(<!-- table: (\w+) -->\n).*?(<!-- end -->)', re.DOTALL)
IN_FRACTIONS = ('DFA_TABLE_2', 'PCLOSS_TABLE_3', 'PCLOSS_TABLE_4')
# Table, which is also the CSV's name -> the columns that its rows are grouped
# by, then heading: cell. A cell is a column of the CSV, of the group's mean
# over seeds if there is one; 'column*' lists all single runs; '`column`' is
# code; '@name' is a case of `cell`.
LANDMARKS = 'collar: @pair, sleeve: @pair, waist: @pair, hem: @pair'
TABLES = {
  'methods': (
    'series; method: series, paper: paper, config: `config`, NE (ours): '
    '@ours, NE (paper): @paper, more: @link'
  ),
  'dfa': (
    'series; what: series, split: split, seeds: seed, minutes: minutes*, '
    'stage 1: @stage_1, stage 2: @stage_2, stage 3: @stage_3, '
    'branches: branches'
  ),
  'dfa_landmarks': f'series; stage: series, {LANDMARKS}',
  'dfa_warm_start': 'series; stage 2: series, epochs: epochs, NE: ne',
  'pcloss_models': (
    'series; model: series, seeds: seed, images seen: images_seen, '
    f'{LANDMARKS}, average: ne'
  ),
  'pcloss_changes': (
    'series; model and partition: series, weight: weight, commit: `commit`,'
    ' NE of each seed: ne_change*, mean: ne_change, spread: ne_spread, '
    'outliers of each seed: outliers_change*, duplicates: '
    'duplicates_change*'
  ),
  'pcloss_weights': (
    'series model weight; what: series, model: `model`, weight: weight, NE:'
    ' ne, outliers: outliers'
  ),
  'integral': (
    'series heatmap_weight split; what: series, split: split, heatmap '
    'weight: heatmap_weight, width: width, epochs: epochs, NE: ne'
  ),
  'boxes': (
    'series scale shift rotation colour; run: series, scale: scale, shift: '
    'shift, rotation: rotation, colour: colour, tune: tune, val: val, noise'
    ' 2 %: noise_2, 5 %: noise_5, 10 %: noise_10'
  ),
  'detector': (
    'series; recipe: series, training images: images, pixels: side, epochs: '
    'epochs, box noise: box_noise, weight of the order: pair_order, '
    'frozen blocks: frozen, tune: tune, val: ne, noise 2 %: noise_2, 5 %: '
    'noise_5, 10 %: noise_10, from behind: reversed, others: front'
  ),
  'attributes': (
    'series images seed; features: series, training images: images, mean '
    'accuracy: accuracy, +-: accuracy_error, texture: texture, sleeve: sleeve,'
    ' length: length, neckline: neckline, fabric: fabric, fit: fit, top-5 '
    'recall: recall, +- (recall): recall_error'
  ),
  'pytorch': (
    'series; network: series, PyTorch (each seed): ne_pytorch*, fld_jax '
    '(each seed): ne*'
  ),
  'speed': (
    'series unit; what: series, seen: @span, unit: unit, commit: `commit`, '
    'command: `command`'
  ),
  'speed_pytorch': (
    'series cores; network: series, cores: cores, forward: forward*, train '
    'step: train_step*, peak memory: peak_memory*, PCLoss adds (%): '
    'pcloss_percent*'
  ),
  'speed_devices': (
    'processes devices_per_process commit; processes: processes, devices in'
    ' each: devices_per_process, commit: `commit`, speed: share*'
  ),
  'robustness': (
    'series; what: series, seen: figure, unit: unit, command: `command`'
  ),
  'robustness_attacks': (
    'series; attack: series, exit statuses: statuses, seen: seen, verdict: '
    'verdict'
  ),
  'robustness_restarts': (
    'seed; seeds: seed, unbroken: ne, restarted: ne_restarted, spread of '
    'unbroken: ne_spread'
  ),
  'robustness_memory': (
    'series processes; what: series, processes: processes, 5000 images '
    '(MiB): mib_5000*, 50000 images (MiB): mib_50000*'
  ),
}


def read(name: str) -> list[dict[str, str]]:
  """The rows of docs/results/NAME.csv."""
  with open(RESULTS / f'{name}.csv', newline='') as file:
    return list(csv.DictReader(file))


def published(key: str) -> dict[str, float]:
  """A paper's NE in per cent by landmark, and the average as 'ne'.

  Args:
    key: A table of fld_jax.papers and the keys of its row, for example
      'PCLOSS_TABLE_2/fpn/none'.
  """
  table, *keys = key.split('/')
  row = getattr(papers, table)
  for each in keys:
    row = row[each]
  names = landmark_sets.FASHION_8.names
  order = papers.FASHION_8_ORDER if table == 'DFA_TABLE_2' else names
  scale = 100 if table in IN_FRACTIONS else 1
  columns = (*order, 'ne')
  return {k: scale * value for k, value in zip(columns, row, strict=True)}


def with_paper(rows: list[dict]) -> list[dict]:
  """Each row and, below it, the paper's if it names one."""
  both = []
  for row in rows:
    both.append(row)
    if row.get('published'):
      found = published(row['published'])
      # Liu et al. print three decimals of a fraction, Song et al. per cent.
      digits = 1 if row['published'].startswith(IN_FRACTIONS) else 2
      figures = {name: f'{value:.{digits}f}' for name, value in found.items()}
      title = {'series': f'the paper: {row["series"]}'}
      both.append(dict.fromkeys(row, '') | figures | title)
  return both


def cell(spec: str, heading: str, group: list[dict], page: pathlib.Path) -> str:
  """A cell of TABLES for a group of rows, on the page that it is for."""
  single = [row for row in group if ' ' not in row['seed']]
  row = next((row for row in group if ' ' in row['seed']), group[0])
  seeds = row['seed'].replace(' ', ', ')
  if spec.endswith('*'):
    return ', '.join(run[spec[:-1]] for run in single if run[spec[:-1]])
  if spec.startswith('`'):
    return row[spec[1:-1]] and f'`{row[spec[1:-1]]}`'
  if spec == 'seed':
    return seeds
  if spec == '@pair':
    sides = [row[f'{heading}_left'], row[f'{heading}_right']]
    return ', '.join(filter(None, sides))
  if spec.startswith('@stage'):
    stage = spec[1:]
    values = ', '.join(run[stage] for run in single)
    return f'{row[stage]} ({values})' if len(single) > 1 else row[stage]
  if spec == '@span':
    low, high = row['low'], row['high']
    return low if low == high else f'{low} to {high}'
  if spec == '@ours':
    return f'{row["ne"]} ({row["split"]}, seeds {seeds})'
  if spec == '@paper':
    key = row['published']
    return f'{published(key)["ne"]:.2f} ({row["published_on"]})' if key else ''
  if spec == '@link':
    to = os.path.relpath(RESULTS / f'{row["page"]}.md', page.parent)
    return f'[{row["page"]}]({to})'
  return row[spec]


def table(name: str, page: pathlib.Path) -> str:
  """A table in Markdown, with links relative to `page`."""
  keys, _, columns = TABLES[name].partition('; ')
  columns = dict(column.split(': ') for column in columns.split(', '))
  rows = read(name)
  groups = {}
  for row in with_paper(rows) if '@pair' in columns.values() else rows:
    groups.setdefault(tuple(row[key] for key in keys.split()), []).append(row)
  cells = [
    [cell(spec, heading, group, page) for heading, spec in columns.items()]
    for group in groups.values()
  ]
  return tabulate(cells, list(columns), 'github', disable_numparse=True)


def filled(page: pathlib.Path) -> str:
  """The text of a page with its tables as the CSVs have them."""
  return BLOCK.sub(
    lambda found: f'{found[1]}{table(found[2], page)}\n{found[3]}',
    page.read_text(),
  )


def pages() -> list[pathlib.Path]:
  """The pages that may hold tables."""
  return [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]


def main() -> None:
  """Writes the pages, or checks them."""
  stale = [page for page in pages() if filled(page) != page.read_text()]
  if sys.argv[1:] == ['--check']:
    if stale:
      names = ', '.join(str(page.relative_to(ROOT)) for page in stale)
      sys.exit(f'Not up to date: {names}. Run python docs/tables.py.')
    return
  for page in stale:
    page.write_text(filled(page))


if __name__ == '__main__':
  main()
