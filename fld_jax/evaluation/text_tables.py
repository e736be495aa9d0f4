"""Figures as plain-text tables, ours alone and beside the paper's."""

from collections.abc import Sequence

import numpy as np
from tabulate import SEPARATING_LINE, tabulate

from fld_jax.metrics.normalised_error import PDL_MAIN


def format_table(metrics: dict) -> str:
  """Plain-text tables of what `normalised_error.evaluate` returns, in per cent.

  One row a stage with NE per landmark, macro and micro NE; PDL at 15 pixels,
  outlier and duplicate rate and visibility accuracy; NE of all annotated
  landmarks, by clothes type and by variation; mean errors to the right and
  down in pixels. Fits 120 columns for stage names
  of up to 24 characters.

  Args:
    metrics: The figures of a split.
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
  signed = {
    f'{stage} {axis}': _pixels(of['signed_error'][axis])
    for stage, of in stages.items()
    for axis in ('x', 'y')
  }
  upper, lower = zip(*errors, strict=True)
  lower = (*lower[:-2], 'mean', '+-')
  upper = (*upper[:-2], 'macro', 'macro')
  lines += text_table(
    [['', *upper], ['estimate - truth, pixels', *lower]],
    [[name, *cells] for name, cells in signed.items()],
  )
  return '\n'.join(lines) + '\n'


def _pixels(values: dict) -> list[str]:
  """The signed error of each landmark, their mean and its standard error."""
  cells = [*values['per_landmark'].values()]
  cells += [values['macro'], values['standard_error']]
  return ['-' if cell is None else f'{cell:.2f}' for cell in cells]


def text_table(heads: list[list], rows: list[list]) -> list[str]:
  """Lines of a table after an empty one: names at the left, cells at the right.

  Args:
    heads: The lines of headings, each with a first cell above the names.
    rows: The lines, each with a name and its cells.
  """
  # Headings are rows here: tabulate makes columns wider than their headings.
  text = tabulate(
    [*heads, SEPARATING_LINE, *rows],
    tablefmt='simple',
    disable_numparse=True,
    stralign='right',
    colalign=('left',),
  )
  return ['', *text.splitlines()[1:-1]]  # without the lines around it


def _table(
  title: str, columns: Sequence[tuple[str, str]], rows: dict[str, list]
) -> list[str]:
  """Lines of one table of shares; [] if it has no rows.

  Args:
    title: The heading of the names.
    columns: The upper and the lower word of each column's heading.
    rows: Name -> fractions, None where nothing was measured.
  """
  if not rows:
    return []
  upper, lower = zip(*columns, strict=True)
  shares = [[name, *map(percent, values)] for name, values in rows.items()]
  return text_table([['', *upper], [title, *lower]], shares)


def _ne_row(values: dict) -> list[float | None]:
  """The NE of each landmark, macro and micro NE."""
  return [*values['per_landmark'].values(), values['macro'], values['micro']]


def percent(value: float | None, missing: str = '-', decimals: int = 2) -> str:
  """Formats a fraction in per cent, without the sign.

  Args:
    value: The fraction; None if it was not measured.
    missing: The text for None.
    decimals: The number of decimals.
  """
  return missing if value is None else f'{100 * value:.{decimals}f}'


def words(name: str) -> str:
  """Writes a name in words: 'collar_left' becomes 'collar left'.

  Args:
    name: A name with underscores.
  """
  return name.replace('_', ' ')


def format_score(score: dict) -> str:
  """Plain-text tables of what `score.score` returns, in per cent.

  Args:
    score: The figures of a file of predictions.
  """
  lines = [f'{score["dataset"]}, split {score["split"]}, in per cent']
  if 'ne_by_norm' in score:
    norms = score['ne_by_norm']
    columns = [
      (kind, average)
      for kind in ('visible', 'annotated')
      for average in ('macro', 'micro')
    ]
    rows = {n: [of[k][a] for k, a in columns] for n, of in norms.items()}
    lines += _table('NE divided by', columns, rows)
    lines += [
      f'{norm} leaves out {of["num_without_norm"]} examples without it'
      for norm, of in norms.items()
      if of['num_without_norm']
    ]
    lines += ['', *format_table(score).splitlines(), '']
    epe = score['epe']['micro']
    lines += [
      'visible and occluded, as mmpose: PCK at 0.2 of the longer side of the '
      f'box {percent(score["pck"]["macro"])},',
      f'AUC to 30 pixels {percent(score["auc"]["macro"])}, EPE '
      f'{"-" if epe is None else format(epe, ".3f")} pixels',
    ]
  if 'pcp' in score:
    lines += _sticks(score['pdj'], score['pcp'], score['num_examples'])
  if 'coco' in score:
    columns = [(n[:2], n[2:] or 'mean') for n in score['coco']]
    lines += _table('OKS', columns, {'COCO': list(score['coco'].values())})
  return '\n'.join(lines) + '\n'


def _sticks(pdj: dict, pcp: dict, num_examples: int) -> list[str]:
  """Lines of PDJ and PCP.

  Args:
    pdj: The `pdj` of `score.figures`.
    pcp: The `pcp` of `score.figures`.
    num_examples: The number of examples.
  """
  title = f'{pcp["centric"]}-centric'
  values = {name: v for name, v in pcp.items() if name != 'centric'}
  places = [i for i in range(10, len(pdj['curve']), 10)]
  columns = [('PCP', n) for n in values]
  columns += [('PDJ', f'@{pdj["fractions"][i]:g}') for i in places]
  cells = [*values.values(), *(pdj['curve'][i] for i in places)]
  known = num_examples - pdj['num_without_torso']
  return [
    *_table(title, columns, {'macro': cells}),
    f'PDJ of the {known} examples whose torso is known',
  ]


def figures(metrics: dict) -> dict:
  """Extracts what a row of `compare_with_paper` needs.

  Args:
    metrics: The figures of `normalised_error.evaluate`.

  Returns:
    The final stage's `ne`, `outlier_rate` and `duplicate_rate`, fractions; and
    `pcp` and `coco`, if they were measured.
  """
  final = metrics['stages'][list(metrics['stages'])[-1]]
  found = {key: final[key] for key in ('ne', 'outlier_rate', 'duplicate_rate')}
  return found | {
    key: metrics[key] for key in ('pcp', 'coco') if key in metrics
  }


def compare_with_paper(rows: dict[str, dict], about: str) -> str:
  """Plain-text tables of our NE beside a paper's, in per cent.

  Args:
    rows: Slug -> `title`; `paper`: landmark or 'average' -> the paper's NE, or
      'PCP_' and a name of `keypoints.pcp_summary` -> its PCP, or 'AP', a
      fraction, None where it prints none; `runs`: seed -> what `figures`
      returns; `base`: slug of the row that this one is compared with, or ''.
    about: The text below the tables.

  Returns:
    The text. Ours are means over the seeds, the average is macro NE. Where rows
    have a base, a second table has macro NE, outlier and duplicate rate, each
    with its standard deviation over the seeds, the mean difference to the
    base's over the seeds that both have, and that difference's deviation.
  """
  columns = list(
    dict.fromkeys(key for r in rows.values() for key in r['paper'])
  )
  columns = columns or ['average']
  cells = {}
  for row in rows.values():
    runs = list(row['runs'].values())
    ours = {key: _mean([_figure(run, key) for run in runs]) for key in columns}
    for who, values in (('paper', row['paper']), ('ours', ours)):
      if any(value is not None for value in values.values()):
        cells[f'{row["title"]}: {who}'] = [values.get(key) for key in columns]
  others = ['PCP' for column in columns if _stick(column)][:1]
  others += ['AP'] if 'AP' in columns else []
  title = ' and '.join([*others, 'NE'])
  lines = _table(title, [key.partition('_')[::2] for key in columns], cells)
  if any(row['base'] for row in rows.values()):
    heads = []
    for name, kind in (
      ('NE', 'mean'),
      ('outlier', 'rate'),
      ('duplicate', 'rate'),
    ):
      heads += [(name, kind), ('', 'spread'), ('', 'change'), ('', 'spread')]
    lines += _table(
      'ours', heads, {r['title']: _changes(r, rows) for r in rows.values()}
    )
  seeds = sorted({seed for row in rows.values() for seed in row['runs']})
  lines += ['', f'In per cent. Seeds {", ".join(map(str, seeds))}. {about}']
  return '\n'.join(lines[1:]) + '\n'


def _stick(column: str) -> str:
  """The name of a column of PCP without its start; '' for other columns."""
  return column.partition('PCP_')[2]


def _figure(run: dict, column: str) -> float | None:
  """The figure of a run in a column of `compare_with_paper`."""
  if column == 'average':
    return run['ne']['macro']
  if column == 'AP':
    return run.get('coco', {}).get(column)
  if stick := _stick(column):
    return run.get('pcp', {}).get(stick)
  return run['ne']['per_landmark'].get(column)


def _changes(row: dict, rows: dict) -> list:
  """Mean, spread, mean change and its spread, for NE and for both rates.

  Args:
    row: A row of `compare_with_paper`.
    rows: All of its rows.
  """
  cells = []
  base = rows.get(row['base'], {'runs': {}})
  for value in (
    lambda run: run['ne']['macro'],
    lambda run: run['outlier_rate'],
    lambda run: run['duplicate_rate'],
  ):
    ours = {seed: value(run) for seed, run in row['runs'].items()}
    theirs = {seed: value(run) for seed, run in base['runs'].items()}
    both = [seed for seed in ours if seed in theirs]
    change = [
      None if None in (ours[seed], theirs[seed]) else ours[seed] - theirs[seed]
      for seed in both
    ]
    for values in (list(ours.values()), change):
      cells += [_mean(values), _spread(values)]
  return cells


def _mean(values: list[float | None]) -> float | None:
  """The mean, None where nothing was measured."""
  return None if not values or None in values else float(np.mean(values))


def _spread(values: list[float | None]) -> float | None:
  """The sample's standard deviation, None for fewer than two values."""
  missing = len(values) < 2 or None in values
  return None if missing else float(np.std(values, ddof=1))
