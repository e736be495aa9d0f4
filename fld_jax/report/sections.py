"""The tables of a report, as functions of its facts.

NE and shares are fractions until they are shown.
"""

from fld_jax import schema
from fld_jax.evaluation.facts import KEPT_SHARES, Facts, RunFacts
from fld_jax.evaluation.text_tables import percent, words
from fld_jax.report.table import Row, Table


def _by_run(
  facts: Facts,
  slug: str,
  caption: str,
  columns: tuple[str, ...],
  rows: list[Row],
  heads: int = 2,
) -> Table | None:
  """A table whose first column is the run; without it for a single run.

  Args:
    facts: The report's facts.
    slug: The name of the table's files.
    caption: What the table shows, and in which unit.
    columns: The headings, first that of the run.
    rows: The rows; None is returned if there are none.
    heads: How many cells of each row, from the left, name it.
  """
  if not rows:
    return None
  if facts.is_single:
    rows = [Row(row.cells[1:], row.kind) for row in rows]
    columns, heads = columns[1:], heads - 1
  return Table(slug, _unit(caption, facts), columns, rows, heads)


def _unit(caption: str, facts: Facts) -> str:
  """The caption with what NE is divided by, if that is not the box."""
  keypair = facts.norm == 'keypair'
  return caption.replace('the box', 'the pair') if keypair else caption


def _kind(run: RunFacts, stage: str) -> str:
  """The kind of a stage's row, see `Row.kind`."""
  return 'final' if stage == run.final else 'ours'


def overview(facts: Facts) -> Table:
  """The final stage of each run: the main figures."""
  rows = []
  for run in facts.runs:
    config, final = run.run.evaluation.config, run.final_figures
    seen = run.images_seen
    cells = (
      run.label,
      config.model.name,
      config.input.size,
      None if seen is None else f'{seen:,}',
      f'{run.run.figures["num_examples"]:,}',
      final['ne']['macro'],
      run.guess_macro,
      final['ne']['micro'],
      final['pdl_at_15'],
      final['outlier_rate'],
      final['duplicate_rate'],
      float(run.exchanged[run.final].mean()),
      final['visibility_accuracy']['overall'],
    )
    rows.append(Row(cells))
  columns = ('run', 'model', 'input (pixels)', 'training images seen')
  columns += ('images evaluated', 'macro NE', 'macro NE of the mean position')
  columns += ('micro NE', 'PDL at 15')
  columns += ('outliers', 'duplicates', 'left and right exchanged')
  columns += ('visibility right',)
  caption = 'The runs, final stage; NE in % of the box, shares in %'
  return Table('overview', _unit(caption, facts), columns, rows)


def networks(facts: Facts) -> Table | None:
  """How many networks, how large and how fast (DFA, Table 5).

  None if no evaluation has counted them.
  """
  rows = []
  for run in facts.runs:
    found = run.run.networks
    if found is None:
      continue
    time = f'{found.ms_per_image:.3g}'
    cells = (run.label, found.trained, found.run, f'{found.parameters:,}')
    rows.append(Row((*cells, time, found.batch_size, found.device)))
  columns = ('run', 'networks trained', 'networks an image', 'parameters')
  columns += ('ms an image', 'images a batch', 'devices')
  caption = 'The networks: parameters of all that were trained; time as in the '
  caption += 'evaluation, without reading images'
  return Table('networks', caption, columns, rows) if rows else None


def by_landmark(facts: Facts) -> Table:
  """NE of every stage by landmark, and the papers' below."""
  rows, published = [], {}
  for run in facts.runs:
    for stage in run.stages:  # JSON's keys are sorted
      ne = run.run.figures['stages'][stage]['ne']
      values = [ne['per_landmark'][name] for name in facts.landmarks.names]
      cells = (run.label, stage, *values, ne['macro'], ne['micro'])
      rows.append(Row(cells, _kind(run, stage)))
    if run.run.guess:
      ne = run.run.guess['ne']
      values = [ne['per_landmark'][name] for name in facts.landmarks.names]
      cells = (run.label, 'mean position', *values, ne['macro'], ne['micro'])
      rows.append(Row(cells))
    published |= run.published
  rows += [
    Row(('paper', title, *values, None), 'paper')
    for title, values in published.items()
  ]
  columns = ('run', 'stage', *map(words, facts.landmarks.names))
  columns += ('macro', 'micro')
  caption = 'NE of visible landmarks in % of the box, by landmark'
  return _by_run(facts, 'ne_by_landmark', caption, columns, rows)


def shares(facts: Facts) -> Table:
  """Detected, wrong and doubled landmarks of every stage."""
  rows = []
  for run in facts.runs:
    for stage in run.stages:  # JSON's keys are sorted
      figures = run.run.figures['stages'][stage]
      cells = (
        run.label,
        stage,
        figures['ne_annotated']['macro'],
        figures['pdl_at_15'],
        figures['outlier_rate'],
        figures['duplicate_rate'],
        figures['visibility_accuracy']['overall'],
      )
      rows.append(Row(cells, _kind(run, stage)))
  columns = ('run', 'stage', 'macro NE with occluded', 'PDL at 15')
  columns += ('outliers', 'duplicates', 'visibility right')
  caption = 'Every stage: NE in % of the box, shares in %'
  return _by_run(facts, 'shares', caption, columns, rows)


def by_group(facts: Facts, group: str) -> Table | None:
  """The final stage by clothes type or variation; None where it is not known.

  Args:
    facts: The report's facts.
    group: 'clothes_type' or 'variation'.
  """
  rows = []
  for run in facts.runs:
    for found in run.groups[group]:
      cells = (run.label, words(found.name), f'{found.count:,}', found.macro)
      rows.append(Row((*cells, found.median, found.high, found.outliers)))
  columns = ('run', words(group), 'images', 'macro NE', 'median image')
  columns += ('90 % of images below', 'outliers')
  caption = f'Final stage by {words(group)}; NE in % of the box, shares in %'
  return _by_run(facts, f'by_{group}', caption, columns, rows)


def visibility(facts: Facts) -> Table | None:
  """What was predicted for each true class; None if no run predicts it."""
  rows = []
  for run in facts.runs:
    if run.confusion is None:
      continue
    for true, line in zip(schema.VISIBILITY_NAMES, run.confusion, strict=True):
      total = int(line.sum())
      found = [float(n / total) if total else None for n in line]
      rows.append(Row((run.label, true, f'{total:,}', *found)))
  columns = ('run', 'truth', 'landmarks')
  columns += tuple(f'said {name}' for name in schema.VISIBILITY_NAMES)
  caption = 'Predicted visibility in % of the landmarks of each true class'
  return _by_run(facts, 'visibility', caption, columns, rows)


def routing(facts: Facts) -> Table | None:
  """The images of each branch; None if no run is routed."""
  rows = []
  for run in facts.runs:
    for branch in run.branches:
      ne = [branch.macro[stage] for stage in run.stages[-2:]]
      cells = (run.label, branch.name, f'{branch.count:,}', branch.share, *ne)
      rows.append(Row(cells))
  columns = ('run', 'branch', 'images', 'share')
  columns += ('macro NE before the branch', 'macro NE after it')
  caption = 'Routing: share in % of the images, NE in % of the box'
  return _by_run(facts, 'routing', caption, columns, rows)


def branches_by_variation(facts: Facts) -> Table | None:
  """NE before and after the branches by variation; None without routing.

  Liu et al. show in their Table 3 what branches are for: zoomed-in items and
  large poses.
  """
  rows = []
  for run in facts.runs:
    if not run.branches:
      continue
    before, after = (
      run.run.figures['stages'][stage]['ne_by_variation']
      for stage in run.stages[-2:]
    )
    for found in run.groups['variation']:
      ne = [stage[found.name]['macro'] for stage in (before, after)]
      rows.append(Row((run.label, words(found.name), f'{found.count:,}', *ne)))
  columns = ('run', 'variation', 'images')
  columns += ('macro NE before the branch', 'macro NE after it')
  caption = 'The branches by variation; NE in % of the box'
  return _by_run(facts, 'branches_by_variation', caption, columns, rows)


def passes(facts: Facts) -> Table | None:
  """Images that went through each network; None if no run is routed."""
  rows = [
    Row((run.label, network, f'{count:,}'))
    for run in facts.runs
    if run.branches
    for network, count in sorted(run.run.figures['network_passes'].items())
  ]
  caption = 'Images that went through each network'
  columns = ('run', 'network', 'images')
  return _by_run(facts, 'network_passes', caption, columns, rows)


def clusters(facts: Facts, run: RunFacts, stage: str) -> Table:
  """The clusters of a stage's pseudo-labels, the largest first.

  Args:
    facts: The report's facts.
    run: The run.
    stage: The stage's name.
  """
  rows = [
    Row((found.number, found.count, found.share, found.ne))
    for found in run.clusters[stage]
  ]
  columns = ('cluster', 'images', 'share', 'mean image NE')
  caption = f'{run.caption_prefix}clusters of {stage}: share in %, NE of the '
  caption += 'final stage in %'
  slug = f'clusters_{stage}{run.file_suffix}'
  return Table(slug, caption, columns, rows)


def data_by_group(facts: Facts, group: str) -> Table | None:
  """The first run's images by clothes type or variation; None if not known.

  Args:
    facts: The report's facts.
    group: 'clothes_type' or 'variation'.
  """
  if group not in facts.data.groups:
    return None
  total = facts.data.total
  counts = {words(n): c for n, c in facts.data.groups[group].items()}
  counts['not known'] = total - sum(counts.values())
  rows = [
    Row((name, f'{count:,}', count / total))
    for name, count in counts.items()
    if count
  ]
  caption = f'Images by {words(group)}; share in %'
  return Table(
    f'data_{group}', caption, (words(group), 'images', 'share'), rows
  )


def data_visibility(facts: Facts) -> Table:
  """Visibility of each landmark in the first run's data."""
  rows = []
  for name, present, states in zip(
    facts.landmarks.names,
    facts.data.present.tolist(),
    facts.data.states.tolist(),
    strict=True,
  ):
    found = [count / present if present else None for count in states]
    rows.append(Row((words(name), f'{present:,}', *found)))
  columns = ('landmark', 'items that have it', *schema.VISIBILITY_NAMES)
  caption = 'Visibility by landmark, in % of the items that have it'
  return Table('data_visibility', caption, columns, rows)


def trust(facts: Facts) -> Table | None:
  """Micro NE of what is kept when the least certain landmarks are left out."""
  rows = [
    Row((run.label, kept.name, *kept.table))
    for run in facts.runs
    for kept in run.kept
  ]
  columns = ('run', 'kept by')
  columns += tuple(f'{percent(s, decimals=0)} % kept' for s in KEPT_SHARES)
  caption = 'Micro NE in % of the box of the landmarks kept, the surest first'
  return _by_run(facts, 'trust', caption, columns, rows)


def calibration(facts: Facts) -> Table | None:
  """How far landmarks may be off, and how often that holds, by landmark."""
  rows = []
  for run in facts.runs:
    found = run.calibration
    if not found:
      continue
    figures = [
      f'{kind}_{n}' for n in (50, 90) for kind in ('typical', 'within')
    ]
    for name in facts.landmarks.names:
      values = [found[figure]['per_landmark'][name] for figure in figures]
      rows.append(Row((run.label, words(name), *values)))
    values = [found[figure]['overall'] for figure in figures]
    rows.append(Row((run.label, 'all', *values), 'final'))
  columns = ('run', 'landmark', 'typical error_50', 'within error_50')
  columns += ('typical error_90', 'within error_90')
  caption = 'How far visible landmarks may be off, the median in % of the root '
  caption += 'of the box’s area, and the share in % that are within'
  return _by_run(facts, 'calibration', caption, columns, rows)


def difference(facts: Facts) -> Table | None:
  """Each run against the first, on the images that both have."""
  rows = [
    Row(
      (
        found.label,
        f'{found.count:,}',
        found.mean_first,
        found.mean_other,
        found.change,
        found.standard_error,
        found.better,
      )
    )
    for found in facts.comparisons
    if found.count
  ]
  if not rows:
    return None
  first = facts.first.label
  columns = ('run', 'images of both', f'mean image NE of {first}')
  columns += ('of this run', 'change', 'standard error', 'images better')
  caption = f'Against {first} on the same images: NE in % of the box, below 0 '
  caption += 'is better; share in %'
  return Table('difference', _unit(caption, facts), columns, rows)
