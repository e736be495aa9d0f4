"""What the tables of a report say. Shares and NE are fractions until shown."""

import numpy as np

from fld_jax import schema
from fld_jax.evaluation.analysis import (
  KEPT_SHARES,
  confusion,
  kept_ne,
  same_images,
  sureness,
  words,
)
from fld_jax.evaluation.evaluated_run import EvaluatedRun
from fld_jax.metrics import normalised_error
from fld_jax.papers import published
from fld_jax.report.table import Row, Table


def by_run(
  runs: list[EvaluatedRun], slug, caption, columns, rows, heads: int = 2
):
  """A table whose first column is the run; without it if there is one run."""
  if len(runs) == 1:
    rows = [Row(row.cells[1:], row.kind) for row in rows]
    columns, heads = columns[1:], heads - 1
  return Table(slug, _unit(caption, runs), tuple(columns), rows, heads)


def overview(runs: list[EvaluatedRun]) -> Table:
  """A row a run."""
  rows = []
  for run in runs:
    config, final = run.evaluation.config, run.figures['stages'][run.final]
    seen = {}  # network -> images
    for point in run.evaluation.history:
      seen[point['stage']] = max(seen.get(point['stage'], 0), point['images'])
    cells = (
      run.label,
      config.model.name,
      config.input.size,
      f'{sum(seen.values()):,}' if seen else None,
      f'{run.figures["num_examples"]:,}',
      final['ne']['macro'],
      final['ne']['micro'],
      final['pdl_at_15'],
      final['outlier_rate'],
      final['duplicate_rate'],
      float(run.exchanged[run.final].mean()),
      final['visibility_accuracy']['overall'],
    )
    rows.append(Row(cells))
  columns = ('run', 'model', 'input (pixels)', 'training images seen')
  columns += ('images evaluated', 'macro NE', 'micro NE', 'PDL at 15')
  columns += ('outliers', 'duplicates', 'left and right exchanged')
  columns += ('visibility right',)
  caption = 'The runs, final stage; NE in % of the box, shares in %'
  return Table('overview', _unit(caption, runs), columns, rows)


def by_landmark(runs: list[EvaluatedRun]) -> Table:
  """NE of every stage by landmark, and the papers' below."""
  rows, papers = [], {}
  for run in runs:
    for stage in run.stages:  # JSON's keys are sorted
      of = run.figures['stages'][stage]
      ne = of['ne']
      values = [ne['per_landmark'][name] for name in run.names]
      kind = 'final' if stage == run.final else 'ours'
      head = (run.label, stage)
      rows.append(Row((*head, *values, ne['macro'], ne['micro']), kind))
    config = run.evaluation.config
    papers |= published(config.dataset.name, config.model.name, run.names)
  rows += [
    Row(('paper', title, *values, None), 'paper')
    for title, values in papers.items()
  ]
  columns = ('run', 'stage', *map(words, runs[0].names), 'macro', 'micro')
  caption = 'NE of visible landmarks in % of the box, by landmark'
  return by_run(runs, 'ne_by_landmark', caption, columns, rows)


def shares(runs: list[EvaluatedRun]) -> Table:
  """Detected, wrong and doubled landmarks of every stage."""
  rows = []
  for run in runs:
    for stage in run.stages:  # JSON's keys are sorted
      of = run.figures['stages'][stage]
      cells = (
        run.label,
        stage,
        of['ne_annotated']['macro'],
        of['pdl_at_15'],
        of['outlier_rate'],
        of['duplicate_rate'],
        of['visibility_accuracy']['overall'],
      )
      kind = 'final' if stage == run.final else 'ours'
      rows.append(Row(cells, kind))
  columns = ('run', 'stage', 'macro NE with occluded', 'PDL at 15')
  columns += ('outliers', 'duplicates', 'visibility right')
  caption = 'Every stage: NE in % of the box, shares in %'
  return by_run(runs, 'shares', caption, columns, rows)


def by_group(runs: list[EvaluatedRun], group: str) -> Table | None:
  """The final stage by 'clothes_type' or 'variation'; None where not known."""
  rows = []
  for run in runs:
    landmarks = run.predictions.landmark_set
    codes = getattr(run.predictions, group)
    names = landmarks.types if group == 'clothes_type' else schema.VARIATIONS
    of = run.figures['stages'][run.final][f'ne_by_{group}']
    errors, images = run.errors[run.final], run.image_errors[run.final]
    for code, name in names.items():
      mask = codes == code
      if name not in of:
        continue
      seen = images[mask][np.isfinite(images[mask])]
      values = errors[mask][np.isfinite(errors[mask])]
      cells = (
        run.label,
        words(name),
        f'{int(mask.sum()):,}',
        of[name]['macro'],
        float(np.median(seen)) if seen.size else None,
        float(np.quantile(seen, 0.9)) if seen.size else None,
        float(np.mean(values > normalised_error.OUTLIER))
        if values.size
        else None,
      )
      rows.append(Row(cells))
  if not rows:
    return None
  columns = ('run', words(group), 'images', 'macro NE', 'median image')
  columns += ('90 % of images below', 'outliers')
  caption = f'Final stage by {words(group)}; NE in % of the box, shares in %'
  return by_run(runs, f'by_{group}', caption, columns, rows)


def visibility(runs: list[EvaluatedRun]) -> Table | None:
  """What was predicted for each true class; None if no run predicts it."""
  rows = []
  for run in runs:
    counts = confusion(run)
    for true, line in zip(
      schema.VISIBILITY_NAMES, [] if counts is None else counts, strict=False
    ):
      total = int(line.sum())
      found = [float(n / total) if total else None for n in line]
      rows.append(Row((run.label, true, f'{total:,}', *found)))
  if not rows:
    return None
  columns = ('run', 'truth', 'landmarks')
  columns += tuple(f'said {name}' for name in schema.VISIBILITY_NAMES)
  caption = 'Predicted visibility in % of the landmarks of each true class'
  return by_run(runs, 'visibility', caption, columns, rows)


def routing(runs: list[EvaluatedRun]) -> Table | None:
  """The images of each branch; None if no run is routed."""
  rows = []
  for run in runs:
    hard = run.predictions.is_hard
    if hard is None:
      continue
    for name, mask in (('easy', ~hard), ('hard', hard)):
      cells = [run.label, name, f'{int(mask.sum()):,}', float(mask.mean())]
      for stage in run.stages[-2:]:
        ne = normalised_error.ne(
          run.errors[stage][mask], run.counted[mask], run.names
        )
        cells.append(ne['macro'])
      rows.append(Row(tuple(cells)))
  if not rows:
    return None
  columns = ('run', 'branch', 'images', 'share')
  columns += ('macro NE before the branch', 'macro NE after it')
  caption = 'Routing: share in % of the images, NE in % of the box'
  return by_run(runs, 'routing', caption, columns, rows)


def data(run: EvaluatedRun) -> list[Table]:
  """Shares of types and variations, and of visibility by landmark."""
  predictions, tables = run.predictions, []
  total = len(predictions.ids)
  for group, names in (
    ('clothes_type', predictions.landmark_set.types),
    ('variation', schema.VARIATIONS),
  ):
    codes = np.asarray(getattr(predictions, group))
    if codes.any():
      counts = {words(n): int(np.sum(codes == c)) for c, n in names.items()}
      counts['not known'] = total - sum(counts.values())
      rows = [
        Row((name, f'{count:,}', count / total))
        for name, count in counts.items()
        if count
      ]
      caption = f'Images by {words(group)}; share in %'
      columns = (words(group), 'images', 'share')
      tables.append(Table(f'data_{group}', caption, columns, rows))
  codes, rows = predictions.visibility, []
  for slot, name in enumerate(run.names):
    of = codes[:, slot]
    present = int(np.sum(of != schema.ABSENT))
    states = [
      float(np.sum(of == code) / present) if present else None
      for code in range(len(schema.VISIBILITY_NAMES))
    ]
    rows.append(Row((words(name), f'{present:,}', *states)))
  columns = ('landmark', 'items that have it', *schema.VISIBILITY_NAMES)
  caption = 'Visibility by landmark, in % of the items that have it'
  tables.append(Table('data_visibility', caption, columns, rows))
  return tables


def trust(runs: list[EvaluatedRun]) -> Table | None:
  """Micro NE of what is kept when the least sure landmarks are left out."""
  rows = []
  for run in runs:
    mask = run.counted
    for name, scores in sureness(run).items():
      values = kept_ne(run.errors[run.final][mask], scores[mask], KEPT_SHARES)
      rows.append(Row((run.label, name, *values)))
  if not rows:
    return None
  columns = (
    'run',
    'kept by',
    *(f'{100 * share:.0f} % kept' for share in KEPT_SHARES),
  )
  caption = 'Micro NE in % of the box of the landmarks kept, the surest first'
  return by_run(runs, 'trust', caption, columns, rows)


def difference(runs: list[EvaluatedRun]) -> Table | None:
  """Each run against the first, on the images that both have."""
  rows = []
  for run in runs[1:]:
    first, second = same_images(runs[0], run)
    a = runs[0].image_errors[runs[0].final][first]
    b = run.image_errors[run.final][second]
    known = np.isfinite(a) & np.isfinite(b)
    change = (b - a)[known]
    if not change.size:
      continue
    error = None
    if change.size > 1:
      error = float(change.std(ddof=1) / np.sqrt(change.size))
    cells = (
      run.label,
      f'{change.size:,}',
      float(a[known].mean()),
      float(b[known].mean()),
      float(change.mean()),
      error,
      float((change < 0).mean()),
    )
    rows.append(Row(cells))
  if not rows:
    return None
  columns = ('run', 'images of both', f'mean image NE of {runs[0].label}')
  columns += ('of this run', 'change', 'standard error', 'images better')
  caption = f'Against {runs[0].label} on the same images: NE in % of the box, '
  caption += 'below 0 is better; share in %'
  return Table('difference', _unit(caption, runs), columns, rows)


def _unit(caption: str, runs: list[EvaluatedRun]) -> str:
  """The caption with what NE is divided by, if that is not the box."""
  keypair = runs[0].figures['norm'] == 'keypair'
  return caption.replace('the box', 'the pair') if keypair else caption
