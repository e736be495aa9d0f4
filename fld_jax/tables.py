"""Figures as plain-text tables, ours alone and beside the paper's."""

import numpy as np

from fld_jax.metrics import PDL_MAIN


def format_table(metrics: dict) -> str:
  """Plain-text tables of what `evaluate` returns, in per cent.

  One row a stage with NE per landmark, macro and micro NE; PDL at 15 pixels,
  outlier and duplicate rate and visibility accuracy; NE of all annotated
  landmarks, by clothes type and by variation. Fits 120 columns for stage names
  of up to 24 characters.
  """
  stages = metrics['stages']
  names = list(metrics['ne']['per_landmark'])
  errors = [name.partition('_')[::2] for name in names]
  errors += [('macro', 'NE'), ('micro', 'NE')]
  shares = [('PDL', f'@{PDL_MAIN}'), ('outlier', 'rate')]
  shares += [('duplicate', 'rate'), ('visibility', 'accuracy')]
  tables = [
    (
      'NE of visible landmarks',
      errors,
      {stage: _ne_row(of['ne']) for stage, of in stages.items()},
    ),
    (
      'shares',
      shares,
      {
        stage: [
          of['pdl_at_15'],
          of['outlier_rate'],
          of['duplicate_rate'],
          of['visibility_accuracy']['overall'],
        ]
        for stage, of in stages.items()
      },
    ),
    (
      'visible and occluded',
      errors,
      {stage: _ne_row(of['ne_annotated']) for stage, of in stages.items()},
    ),
  ]
  for group in ('clothes type', 'variation'):
    rows = {
      f'{stage} {name}': _ne_row(values)
      for stage, of in stages.items()
      for name, values in of['ne_by_' + group.replace(' ', '_')].items()
    }
    tables.append((f'visible, by {group}', errors, rows))
  lines = [
    f'{metrics["num_examples"]} examples, norm {metrics["norm"]}, all in per '
    'cent; macro: mean over landmarks, micro: pooled'
  ]
  lines += [line for table in tables for line in _table(*table)]
  return '\n'.join(lines) + '\n'


def _table(title: str, columns, rows: dict[str, list]) -> list[str]:
  """Lines of one table; `columns` are (upper, lower) words; none if no rows."""
  if not rows:
    return []
  width = max(map(len, [title, *rows]))
  wide = [max(6, *map(len, words)) for words in columns]
  cells = lambda values: ''.join(
    f' {value:>{w}}' for value, w in zip(values, wide, strict=True)
  )
  return [
    '',
    ' ' * width + cells(upper for upper, _ in columns),
    f'{title:{width}}' + cells(lower for _, lower in columns),
    '-' * (width + len(wide) + sum(wide)),
    *(
      f'{label:{width}}' + cells(map(percent, values))
      for label, values in rows.items()
    ),
  ]


def _ne_row(values):
  return [*values['per_landmark'].values(), values['macro'], values['micro']]


def percent(value) -> str:
  """A fraction in per cent with two decimals, '-' for None."""
  return '-' if value is None else f'{100 * value:.2f}'


def figures(metrics: dict) -> dict:
  """What a row of `compare_with_paper` needs of what metrics.evaluate returns.

  Returns:
    The final stage's `ne`, `outlier_rate` and `duplicate_rate`.
  """
  final = metrics['stages'][list(metrics['stages'])[-1]]
  return {key: final[key] for key in ('ne', 'outlier_rate', 'duplicate_rate')}


def compare_with_paper(rows: dict[str, dict], about: str) -> str:
  """Table of our NE beside a paper's, in per cent.

  Args:
    rows: slug -> `title`; `paper`: landmark or 'average' -> their NE, a
      fraction; `runs`: seed -> what `figures` returns; `base`: slug of the row
      that its average is compared with, or ''.
    about: what stands below the table.

  Returns:
    The text. Ours are means over the seeds, the average is macro NE, its
    'spread' the standard deviation over seeds. Where rows have a base there
    are also 'change', the mean difference of the average to the base's over
    the seeds that both have, its spread, and the outlier and duplicate rates.
  """
  columns = list(
    dict.fromkeys(key for r in rows.values() for key in r['paper'])
  )
  extra = ['spread']
  if any(row['base'] for row in rows.values()):
    extra += ['change', 'its spread', 'outlier', 'duplicate']
  width = max(len(row['title']) for row in rows.values())
  lines = [
    'NE in per cent: paper, ours; rates in per cent, ours',
    ' ' * width
    + ''.join(f' {key.replace("_", " "):>12}' for key in columns)
    + ''.join(f' {head:>10}' for head in extra),
  ]
  lines += ['-' * len(lines[1])]
  for row in rows.values():
    runs, macro = list(row['runs'].values()), _macro(row)
    base = _macro(rows[row['base']]) if row['base'] in rows else {}
    change = [macro[seed] - base[seed] for seed in macro.keys() & base.keys()]
    ours = {
      key: _mean([run['ne']['per_landmark'].get(key) for run in runs])
      for key in columns
    }
    ours['average'] = _mean(list(macro.values()))
    cells = {
      'spread': _spread(list(macro.values())),
      'change': _mean(change),
      'its spread': _spread(change),
      'outlier': _mean([run['outlier_rate'] for run in runs]),
      'duplicate': _mean([run['duplicate_rate'] for run in runs]),
    }
    lines.append(
      f'{row["title"]:{width}}'
      + ''.join(
        f' {percent(row["paper"].get(key)):>6}{percent(ours[key]):>6}'
        for key in columns
      )
      + ''.join(f' {percent(cells[head]):>10}' for head in extra)
    )
  seeds = sorted({seed for row in rows.values() for seed in row['runs']})
  lines.append(f'Seeds {", ".join(map(str, seeds))}. {about}')
  return '\n'.join(lines) + '\n'


def _macro(row: dict) -> dict:
  """Seed -> macro NE."""
  return {seed: run['ne']['macro'] for seed, run in row['runs'].items()}


def _mean(values: list):
  """The mean, None where nothing was measured."""
  return None if not values or None in values else float(np.mean(values))


def _spread(values: list):
  """The sample's standard deviation, None for fewer than two values."""
  return None if len(values) < 2 else float(np.std(values, ddof=1))
