"""Figures as plain-text tables, ours alone and beside the paper's."""

from fld_jax.errors import InputError
from fld_jax.metrics import PDL_MAIN

# DFA, Table 2: NE on FLD. The paper does not show the waistline's columns, so
# `avg` (printed) is close to, but not, the mean of the six that it shows.
PAPER_LANDMARKS = (
  'collar_left',
  'collar_right',
  'sleeve_left',
  'sleeve_right',
  'hem_left',
  'hem_right',
)
# Row -> the six landmarks, then avg.
PAPER_TABLE_2 = {
  's1 direct regression': (0.071, 0.071, 0.134, 0.130, 0.103, 0.102, 0.102),
  's1 - visibility': (0.104, 0.102, 0.213, 0.212, 0.141, 0.143, 0.153),
  's1 + plabels (T=1)': (0.065, 0.065, 0.113, 0.112, 0.094, 0.095, 0.091),
  's1 + plabels (T=20)': (0.057, 0.058, 0.106, 0.104, 0.088, 0.089, 0.084),
  's2 direct regression': (0.051, 0.051, 0.098, 0.096, 0.082, 0.080, 0.078),
  's2 + plabels (abs.)': (0.050, 0.051, 0.097, 0.096, 0.080, 0.079, 0.076),
  's2 + plabels (offset)': (0.049, 0.050, 0.095, 0.093, 0.077, 0.078, 0.074),
  's3 direct regression': (0.049, 0.049, 0.094, 0.093, 0.074, 0.076, 0.073),
  's3 + two-branch': (0.048, 0.049, 0.094, 0.093, 0.073, 0.075, 0.072),
  's3 + auto-routing': (0.048, 0.049, 0.092, 0.091, 0.071, 0.073, 0.070),
  's3 + plabels (offset)': (0.048, 0.048, 0.091, 0.090, 0.071, 0.073, 0.069),
  's3 + plabels (c. offset)': (0.048, 0.048, 0.091, 0.089, 0.071, 0.072, 0.068),
}


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


def compare_with_paper(rows: dict[str, dict]) -> str:
  """Table of our NE beside DFA's Table 2, in per cent.

  Args:
    rows: row name of PAPER_TABLE_2 -> NE dict, as metrics.evaluate has it under
      'ne'. Rows that are not given show '-'.

  Raises:
    InputError: for another row name.
  """
  for name in rows:
    if name not in PAPER_TABLE_2:
      raise InputError(
        f"'{name}' is no row of the paper's Table 2, valid names are "
        f'{", ".join(PAPER_TABLE_2)}.'
      )
  titles = [*(name.replace('_', ' ') for name in PAPER_LANDMARKS), 'average']
  width = max(map(len, PAPER_TABLE_2))
  lines = [
    'NE in per cent: paper, ours',
    ' ' * width + ''.join(f' {title:>12}' for title in titles),
    '-' * (width + 13 * len(titles)),
  ]
  for name, paper in PAPER_TABLE_2.items():
    ours = [None] * len(titles)
    if name in rows:
      of = rows[name]['per_landmark']
      ours = [*(of.get(key) for key in PAPER_LANDMARKS), rows[name]['macro']]
    lines.append(
      f'{name:{width}}'
      + ''.join(
        f' {100 * a:>6.1f}{percent(b):>6}'
        for a, b in zip(paper, ours, strict=True)
      )
    )
  lines += [
    'Paper: FLD, waistline not shown. Our average: macro NE over all landmarks '
    'that have examples.'
  ]
  return '\n'.join(lines) + '\n'
