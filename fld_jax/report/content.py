"""What the page of a report is filled with."""

from fld_jax.evaluation import analysis
from fld_jax.evaluation.analysis import same_images, words
from fld_jax.evaluation.evaluated_run import EvaluatedRun
from fld_jax.metrics import normalised_error
from fld_jax.report import sections
from fld_jax.report.gallery import gallery
from fld_jax.report.render import Content, Picture
from fld_jax.report.table import Row, Table, text
from fld_jax.visualization import data_plots, error_plots, pictures
from fld_jax.visualization.curves import plot_pdl, plot_training
from fld_jax.visualization.pictures import photo_png, pixels, png

OVERLAYS = 6  # lines of examples, of all runs together


def collect(runs: list[EvaluatedRun]) -> Content:
  """All that the page of some runs shows."""
  content = Content(values=values(runs), gallery=gallery(runs))
  _add_tables(content, runs)
  _add_plots(content, runs)
  for number, run in enumerate(runs):
    _add_run(content, run, number if len(runs) > 1 else None, runs)
  shown = len(content.gallery['images'])
  each = ', of each run' if len(runs) > 1 else ''
  if shown:
    content.values['gallery'] = (
      f'{shown:,} images{each}: a third the worst, a third the best, a third '
      'evenly spread between, by the NE of the final stage.'
    )
  return content


def values(runs: list[EvaluatedRun]) -> dict[str, str]:
  """The words of the page."""
  first, figures = runs[0], runs[0].figures
  found = {
    'title': ', '.join(run.label for run in runs)
    if len(runs) < 4
    else f'{first.label} and {len(runs) - 1} other runs',
    'lead': _lead(runs),
    'norm': {
      'bbox_wh': 'x divided by the width of the box, y by its height',
      'keypair': 'divided by the distance of two landmarks that the type of '
      'clothes decides (armpits or waistband); images without them have none',
    }.get(figures['norm'], f'divided by {figures["norm"]}'),
  }
  if len(runs) == 1:
    final = figures['stages'][first.final]
    found |= {
      'macro': _percent(final['ne']['macro']),
      'pdl': _percent(final['pdl_at_15']),
      'outliers': _percent(final['outlier_rate']),
      'images': f'{figures["num_examples"]:,}',
      'corrupt': f'{figures.get("num_corrupt", 0):,}',
    }
  if sections.by_landmark(runs).rows[-1].kind == 'paper':
    found['beside'] = ', beside the papers'
    found['papers'] = (
      'The grey rows are what the papers print. They are not comparable as '
      'such: the papers train on all of the data, from ImageNet weights and at '
      'their own resolution; data, weights and input of these runs differ.'
    )
  return found


def _lead(runs: list[EvaluatedRun]) -> str:
  places = dict.fromkeys(
    f'split {run.evaluation.split} of {run.evaluation.config.dataset.name}'
    for run in runs
  )
  lead = f'Evaluated on {" and ".join(places)}. '
  for run in runs[1:]:
    common = len(same_images(runs[0], run)[0])
    if common < max(len(r.predictions.ids) for r in (run, runs[0])):
      lead += (
        f'{run.label} has {common:,} of its {len(run.predictions.ids):,} '
        f'images in common with {runs[0].label}: figures of the whole splits '
        'are of different images. '
      )
  return lead.strip()


def _percent(value) -> str:
  return f'{text(value)} %' if value is not None else 'not measured'


def _add_tables(content: Content, runs: list[EvaluatedRun]) -> None:
  content.lists['findings'] = findings(runs)
  tables = {
    'overview': sections.overview(runs),
    'by_landmark': sections.by_landmark(runs),
    'shares': sections.shares(runs),
    'by_clothes_type': sections.by_group(runs, 'clothes_type'),
    'by_variation': sections.by_group(runs, 'variation'),
    'difference': sections.difference(runs),
    'trust': sections.trust(runs),
    'visibility': sections.visibility(runs),
    'routing': sections.routing(runs),
  }
  content.tables = {k: [table] for k, table in tables.items() if table}
  content.tables['data'] = sections.data(runs[0])
  if 'routing' in content.tables:
    rows = [
      Row((run.label, network, f'{count:,}'))
      for run in runs
      if run.predictions.is_hard is not None
      for network, count in sorted(run.figures['network_passes'].items())
    ]
    caption = 'Images that went through each network'
    columns = ('run', 'network', 'images')
    content.tables['passes'] = [
      sections.by_run(runs, 'network_passes', caption, columns, rows)
    ]


def findings(runs: list[EvaluatedRun]) -> list[str]:
  """Where to look first: in one run, or among several."""
  if len(runs) > 1:
    return _best(runs)
  run, sentences = runs[0], []
  of = run.figures['stages']
  if len(run.stages) > 1:
    parts = [f'{s} {_percent(of[s]["ne"]["macro"])}' for s in run.stages]
    sentences.append(f'Macro NE by stage: {", ".join(parts)}.')
  final = of[run.final]
  groups = {
    'landmark': final['ne']['per_landmark'],
    'clothes type': _macro(final['ne_by_clothes_type']),
    'variation': _macro(final['ne_by_variation']),
  }
  for name, values in groups.items():
    values = {k: v for k, v in values.items() if v is not None}
    if len(values) > 1:
      worst, best = max(values, key=values.get), min(values, key=values.get)
      sentences.append(
        f'The hardest {name} is {words(worst)}, NE {text(values[worst])} %; '
        f'the easiest {words(best)}, {text(values[best])} %.'
      )
  return sentences + _sides(run)


def _best(runs: list[EvaluatedRun]) -> list[str]:
  """Which run is the best by what."""
  sentences = []
  finals = {run.label: run.figures['stages'][run.final] for run in runs}
  for name, best, value in (
    ('Lowest macro NE', min, lambda of: of['ne']['macro']),
    ('Most landmarks within 15 of 224 pixels', max, lambda o: o['pdl_at_15']),
    ('Fewest outliers', min, lambda of: of['outlier_rate']),
  ):
    values = {label: value(of) for label, of in finals.items()}
    if None not in values.values():
      label = best(values, key=values.get)
      sentences.append(f'{name}: {label}, {text(values[label])} %.')
  return sentences


def _macro(groups: dict) -> dict:
  return {name: values['macro'] for name, values in groups.items()}


def _sides(run: EvaluatedRun) -> list[str]:
  """How much of the error is left and right taken for each other."""
  turned = run.exchanged[run.final]
  errors = run.errors[run.final]
  outliers = errors > normalised_error.OUTLIER
  if not turned.any() or not outliers.any():
    return []
  share = float(outliers[turned].sum() / outliers.sum())
  return [
    f'In {_percent(float(turned.mean()))} of the images the prediction would '
    'fit better with left and right exchanged; they have '
    f'{_percent(share)} of the outliers.'
  ]


def _add_plots(content: Content, runs: list[EvaluatedRun]) -> None:
  one = len(runs) == 1
  of = 'each stage' if one else 'the final stage of each run'
  kinds = error_plots.series(runs)
  curves = {
    'stages': {
      label: run.figures['stages'][stage]
      for label, (run, stage) in kinds.items()
    }
  }
  history = [
    point if one else {**point, 'stage': f'{run.label} {point["stage"]}'}
    for run in runs
    for point in run.evaluation.history
  ]
  macro = ', '.join(
    f'{label} {_percent(run.figures["stages"][stage]["ne"]["macro"])}'
    for label, (run, stage) in kinds.items()
  )
  plots = (
    (
      'errors',
      error_plots.plot_errors(runs),
      f'How large the errors of single visible landmarks are, of {of}; NE in % '
      'of the box.',
      f'Histogram of the NE of landmarks; macro NE {macro}.',
    ),
    (
      'pdl',
      plot_pdl(curves),
      'Share of the visible landmarks within a distance of the truth (PDL), '
      f'of {of}; the dotted line is at 15 of 224 pixels.',
      f'Curves of detected landmarks by distance, of {", ".join(kinds)}.',
    ),
    (
      'landmarks',
      error_plots.plot_landmarks(runs),
      f'NE by landmark, of {of}: mean, median and what 90 % are below.',
      'Bars of the NE of each landmark; the figures are in the table of NE by '
      'landmark.',
    ),
    (
      'groups',
      error_plots.plot_groups(runs),
      f'Macro NE by clothes type and by variation, of {of}.',
      'Bars of macro NE by clothes type and variation; the figures of the '
      'final stage are in the tables below.',
    ),
    (
      'difference',
      error_plots.plot_difference(runs),
      f'NE of each image by {runs[0].label} and by the others; below the line '
      'the other is better.',
      'Scatter of the images’ NE of two runs; the table above has the means.',
    ),
    (
      'trust',
      error_plots.plot_trust(runs),
      'Micro NE of the visible landmarks that are kept, of the final stage.',
      'Curves of the micro NE over the share of landmarks kept; figures are in '
      'the table below.',
    ),
    (
      'confusion',
      error_plots.plot_confusion(runs),
      'Predicted visibility of the landmarks of each true class, final stage: '
      'share of the line, and how many.',
      'Confusion matrix of visibility; the figures are in the table below.',
    ),
    (
      'training',
      plot_training(history) if history else None,
      'Training loss, and macro NE on the held-out images that choose the '
      'checkpoint, over the images seen by each network.',
      'Curves of training loss and held-out NE.',
    ),
    (
      'data',
      data_plots.plot_data(runs[0]),
      f'The images that {runs[0].label} was evaluated on: shares of types, of '
      'variations, and of the visibility of each landmark.',
      'Bars of the shares; the figures are in the tables below.',
    ),
    (
      'places',
      data_plots.plot_places(runs[0]),
      'True positions of each landmark in its box, visible and occluded ones; '
      'the ellipse is at two standard deviations. The box is 0 to 1.',
      'Scatter plots of the landmarks’ positions in the box.',
    ),
  )
  for slug, figure, caption, alt in plots:
    if figure is not None:
      picture = Picture(slug, caption, alt, png(figure))
      content.figures[slug] = [picture]


def _add_run(
  content: Content, run: EvaluatedRun, number: int | None, runs
) -> None:
  """The figures that are of one run alone."""
  end = '' if number is None else f'_{number + 1}'
  who = '' if number is None else f'{run.label}: '
  add = lambda name, *about: content.figures.setdefault(name, []).append(
    Picture(*about)
  )
  sheet = pictures.overlays(run, runs[0], max(2, OVERLAYS // len(runs)))
  caption = f'{who}Truth and the estimate of each stage; NE in % of the box.'
  alt = f'{who}Example images with true and predicted landmarks.'
  add('overlays', f'overlays{end}', caption, alt, photo_png(sheet))
  figure = error_plots.plot_routing(run)
  if figure:
    alt = f'{who}Histogram of the routing score, and NE of both branches.'
    caption = (
      f'{who}Routing score of the evaluated images with the threshold, and '
      'macro NE of the images of each branch after each stage.'
    )
    add('routing', f'routing{end}', caption, alt, png(figure))
  rows = analysis.sample(run)
  if not number or run.evaluation.centres:
    crops, patches = pictures.crops_and_patches(run, rows)
  if not number:  # of the data, as the first run has them
    figure = pictures.plot_patches(run, patches)
    caption = (
      f'Mean surroundings of each visible landmark, of {len(rows):,} images; a '
      f'side is {100 * pictures.PATCH_SHARE:.0f} % of the box’s longer '
      'side, the contrast is stretched.'
    )
    alt = 'Mean image patches: the blurrier, the more its looks vary.'
    add('patches', 'patches', caption, alt, png(figure))
  for stage in run.evaluation.centres:
    figure, table = pictures.plot_clusters(run, stage, rows, crops)
    slug = f'clusters_{stage}{end}'
    space = _stage_config(run, stage).pseudo_label.space
    drawn = {
      'absolute': 'dots: the centre, positions of the landmarks',
      'offset': 'the centre, errors of the stage before: from where it puts '
      'each landmark to the dot, its mean place',
      'context_offset': 'the centre, errors of the stage before that come '
      'together: along the lines, one way or the other',
    }[space]
    caption = f'{who}Pseudo-labels of {stage}, space {space}; {drawn}.'
    alt = f'{who}Mean images of the {len(table)} clusters of {stage}.'
    add('clusters', slug, caption, alt, photo_png(pixels(figure)))
    columns = ('cluster', 'images', 'share', 'mean image NE')
    caption = (
      f'{who}clusters of {stage}: share in %, NE of the final stage in %'
    )
    content.tables.setdefault('clusters', []).append(
      Table(slug, caption, columns, [Row(cells) for cells in table])
    )


def _stage_config(run: EvaluatedRun, stage: str):
  return run.evaluation.config.stages[run.stages.index(stage)]
