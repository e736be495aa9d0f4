"""A page on one or more evaluated runs, with its figures and tables as files.

OUTPUT/report.html    all of it, needs no other file and no network
OUTPUT/figures/*.png  its figures
OUTPUT/tables/*.csv, *.tex
"""

import io
import logging
import pathlib
import time

import matplotlib
import numpy as np
from PIL import Image

from fld_jax import (
  files,
  report_pictures,
  report_plots,
  report_tables,
  visualize,
)
from fld_jax.report_gallery import gallery
from fld_jax.report_html import Content, Picture, page
from fld_jax.report_runs import Run, read_runs
from fld_jax.report_table import Row, Table, text
from fld_jax.report_tables import words

logger = logging.getLogger('fld_jax')

OVERLAYS = 6  # lines of examples, of all runs together


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


def write_report(runs: list[Run], output: pathlib.Path) -> pathlib.Path:
  """Writes the page, the figures and the tables of runs.

  Args:
    runs: with the same landmarks, at least one.
    output: folder; figures and tables of an earlier report are replaced.

  Returns:
    The page's path.
  """
  with matplotlib.rc_context(report_plots.STYLE):
    content = collect(runs)
  for name, endings in (('figures', ('png',)), ('tables', ('csv', 'tex'))):
    for ending in endings:
      for old in (output / name).glob(f'*.{ending}'):
        old.unlink()
  for pictures in content.figures.values():
    for picture in pictures:
      files.write_file(output / f'figures/{picture.slug}.png', picture.png)
  for tables in content.tables.values():
    for table in tables:
      files.write_file(
        output / f'tables/{table.slug}.csv', table.csv().encode()
      )
      files.write_file(
        output / f'tables/{table.slug}.tex', table.tex().encode()
      )
  path = output / 'report.html'
  files.write_file(path, page(content).encode())
  return path


def collect(runs: list[Run]) -> Content:
  """All that the page of some runs shows."""
  content = Content(values=_values(runs), gallery=gallery(runs))
  _add_tables(content, runs)
  _add_plots(content, runs)
  for number, run in enumerate(runs):
    _add_run(content, run, number if len(runs) > 1 else None, len(runs))
  shown = len(content.gallery['images'])
  content.values['gallery'] = (
    f'{shown:,} images: of each run a third the worst, a third the best and a '
    'third evenly spread between, by the NE of the final stage.'
  )
  return content


def _values(runs: list[Run]) -> dict[str, str]:
  """The words of the page."""
  first, figures = runs[0], runs[0].figures
  config = first.evaluation.config
  norm = config and figures['norm']
  values = {
    'title': ' and '.join(run.label for run in runs)
    if len(runs) < 4
    else f'{first.label} and {len(runs) - 1} other runs',
    'lead': _lead(runs),
    'norm': {
      'bbox_wh': 'x divided by the width of the box, y by its height',
      'keypair': 'divided by the distance of two landmarks that the type of '
      'clothes decides (armpits or waistband); images without them have none',
    }.get(norm, f'divided by {norm}'),
  }
  if len(runs) == 1:
    final = figures['stages'][first.final]
    values |= {
      'macro': _percent(final['ne']['macro']),
      'pdl': _percent(final['pdl_at_15']),
      'outliers': _percent(final['outlier_rate']),
      'images': f'{figures["num_examples"]:,}',
      'corrupt': f'{figures.get("num_corrupt", 0):,}',
    }
  if report_tables.by_landmark(runs).rows[-1].kind == 'paper':
    values['papers'] = (
      'The grey rows are what the papers print. They are not comparable as '
      'such: the papers train on all of the data, from ImageNet weights and at '
      'their own resolution; data, weights and input of these runs differ.'
    )
  return values


def _lead(runs: list[Run]) -> str:
  places = dict.fromkeys(
    f'split {run.evaluation.split} of {run.evaluation.config.dataset.name}'
    for run in runs
  )
  lead = f'Evaluated on {" and ".join(places)}. '
  for run in runs[1:]:
    common = len(report_tables.same_images(runs[0], run)[0])
    if common < max(len(r.predictions.ids) for r in (run, runs[0])):
      lead += (
        f'{run.label} has {common:,} of its {len(run.predictions.ids):,} images '
        f'in common with {runs[0].label}: figures of the whole splits are of '
        'different images. '
      )
  return lead.strip()


def _percent(value) -> str:
  return f'{text(value)} %' if value is not None else 'not measured'


def _add_tables(content: Content, runs: list[Run]) -> None:
  content.lists['findings'] = _findings(runs)
  tables = {
    'overview': report_tables.overview(runs),
    'by_landmark': report_tables.by_landmark(runs),
    'shares': report_tables.shares(runs),
    'by_clothes_type': report_tables.by_group(runs, 'clothes_type'),
    'by_variation': report_tables.by_group(runs, 'variation'),
    'difference': report_tables.difference(runs),
    'trust': report_tables.trust(runs),
    'visibility': report_tables.visibility(runs),
    'routing': report_tables.routing(runs),
  }
  content.tables = {k: [table] for k, table in tables.items() if table}
  content.tables['data'] = report_tables.data(runs[0])
  if 'routing' in content.tables:
    rows = [
      Row((run.label, network, f'{count:,}'))
      for run in runs
      for network, count in run.figures['network_passes'].items()
    ]
    table = Table(
      'network_passes',
      'Images that went through each network',
      ('run', 'network', 'images'),
      rows,
      heads=2,
    )
    content.tables['passes'] = [table]


def _findings(runs: list[Run]) -> list[str]:
  """Where to look first, of each run's final stage."""
  sentences = []
  for run in runs:
    of = run.figures['stages'][run.final]
    who = f'{run.label}: ' if len(runs) > 1 else ''
    parts = []
    for key, name in (
      ('per_landmark', 'landmark'),
      ('ne_by_clothes_type', 'clothes type'),
      ('ne_by_variation', 'variation'),
    ):
      values = of['ne'][key] if key == 'per_landmark' else of[key]
      values = {
        k: v if key == 'per_landmark' else v['macro'] for k, v in values.items()
      }
      values = {k: v for k, v in values.items() if v is not None}
      if len(values) > 1:
        worst = max(values, key=values.get)
        best = min(values, key=values.get)
        parts.append(
          f'hardest {name} {words(worst)} (NE {text(values[worst])} %), easiest '
          f'{words(best)} ({text(values[best])} %)'
        )
    sentences += [who + '; '.join(parts) + '.'] if parts else []
    if len(run.stages) > 1:
      values = [
        (stage, run.figures['stages'][stage]['ne']['macro'])
        for stage in run.stages
      ]
      line = ', '.join(f'{stage} {text(value)} %' for stage, value in values)
      sentences.append(f'{who}macro NE by stage: {line}.')
  return sentences


def _add_plots(content: Content, runs: list[Run]) -> None:
  one = len(runs) == 1
  of = 'each stage' if one else 'the final stage of each run'
  kinds = report_plots.series(runs)
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
      report_plots.plot_errors(runs),
      f'How large the errors of single visible landmarks are, of {of}; NE in % '
      'of the box.',
      f'Histogram of the NE of landmarks; macro NE {macro}.',
    ),
    (
      'pdl',
      visualize.plot_pdl(curves),
      f'Share of the visible landmarks within a distance of the truth (PDL), of '
      f'{of}; the dotted line is at 15 of 224 pixels.',
      f'Curves of detected landmarks by distance, of {", ".join(kinds)}.',
    ),
    (
      'landmarks',
      report_plots.plot_landmarks(runs),
      f'NE by landmark, of {of}: mean, median and the value that 90 % are below.',
      'Bars of the NE of each landmark; the figures are in the table of NE by '
      'landmark.',
    ),
    (
      'groups',
      report_plots.plot_groups(runs),
      f'Macro NE by clothes type and by variation, of {of}.',
      'Bars of macro NE by clothes type and variation; the figures of the final '
      'stage are in the tables below.',
    ),
    (
      'difference',
      report_plots.plot_difference(runs),
      f'NE of each image by {runs[0].label} and by the others; below the line '
      'the other is better.',
      'Scatter of the images’ NE of two runs; the means are in the table above.',
    ),
    (
      'trust',
      report_plots.plot_trust(runs),
      'Micro NE of the visible landmarks that are kept, of the final stage.',
      'Curves of the micro NE over the share of landmarks kept; figures are in '
      'the table below.',
    ),
    (
      'confusion',
      report_plots.plot_confusion(runs),
      'Predicted visibility of the landmarks of each true class, final stage: '
      'share of the line, and how many.',
      'Confusion matrix of visibility; the figures are in the table below.',
    ),
    (
      'training',
      visualize.plot_training(history) if history else None,
      'Training loss, and macro NE on the held-out images that choose the '
      'checkpoint, over the images seen by each network.',
      'Curves of training loss and held-out NE.',
    ),
    (
      'data',
      report_plots.plot_data(runs[0]),
      f'Which images were evaluated ({runs[0].label}): shares of types, of '
      'variations, and of the visibility of each landmark.'
      if not one
      else 'Which images were evaluated: shares of types, of variations, and of '
      'the visibility of each landmark.',
      'Bars of the shares; the figures are in the tables below.',
    ),
    (
      'places',
      report_plots.plot_places(runs[0]),
      'True positions of each landmark in its box, visible and occluded ones; '
      'the ellipse is at two standard deviations. The box is 0 to 1.',
      'Scatter plots of the landmarks’ positions in the box.',
    ),
  )
  for slug, figure, caption, alt in plots:
    if figure is not None:
      picture = Picture(slug, caption, alt, _png(figure))
      content.figures[slug] = [picture]


def _add_run(
  content: Content, run: Run, number: int | None, total: int
) -> None:
  """The figures that are of one run alone."""
  end = '' if number is None else f'_{number + 1}'
  who = '' if number is None else f'{run.label}: '
  add = lambda name, *about: content.figures.setdefault(name, []).append(
    Picture(*about)
  )
  sheet = report_pictures.overlays(run, max(2, OVERLAYS // total))
  caption = f'{who}truth and the estimate of each stage; NE in % of the box.'
  alt = f'{who}example images with true and predicted landmarks.'
  add('overlays', f'overlays{end}', caption, alt, _png_of(sheet))
  figure = report_plots.plot_routing(run)
  if figure:
    alt = f'{who}histogram of the routing score, and NE of both branches.'
    caption = (
      f'{who}routing score of the evaluated images with the threshold, and macro '
      'NE of the images of each branch after each stage.'
    )
    add('routing', f'routing{end}', caption, alt, _png(figure))
  rows = report_pictures.sample(run)
  if not number or run.evaluation.centres:
    crops, patches = report_pictures.crops_and_patches(run, rows)
  if not number:  # of the data, as the first run has them
    figure = report_pictures.plot_patches(run, patches)
    caption = (
      f'Mean surroundings of each visible landmark, of {len(rows):,} images; a '
      f'side is {100 * report_pictures.PATCH_SHARE:.0f} % of the box’s longer '
      'side.'
    )
    alt = 'Mean image patches: the blurrier, the more its looks vary.'
    add('patches', 'patches', caption, alt, _png(figure))
  for stage in run.evaluation.centres:
    figure, table = report_pictures.plot_clusters(run, stage, rows, crops)
    slug = f'clusters_{stage}{end}'
    space = _stage_config(run, stage).pseudo_label.space
    drawn = {
      'absolute': 'dots: the centre, positions of the landmarks',
      'offset': 'the centre, errors of the stage before: from where it puts '
      'each landmark to the dot, its mean place',
      'context_offset': 'the centre, errors of the stage before that come '
      'together: along the lines, one way or the other',
    }[space]
    caption = f'{who}{stage}, pseudo-labels of space {space}; {drawn}.'
    alt = f'{who}mean images of the {len(table)} clusters of {stage}.'
    add('clusters', slug, caption, alt, _png_of(_pixels(figure)))
    columns = ('cluster', 'images', 'share', 'mean image NE')
    caption = (
      f'{who}clusters of {stage}: share in %, NE of the final stage in %'
    )
    content.tables.setdefault('clusters', []).append(
      Table(slug, caption, columns, [Row(cells) for cells in table])
    )


def _stage_config(run: Run, stage: str):
  return run.evaluation.config.stages[run.stages.index(stage)]


def _png(figure) -> bytes:
  buffer = io.BytesIO()
  # No version of matplotlib in it: equal inputs, equal bytes.
  figure.savefig(buffer, format='png', metadata={'Software': None})
  return buffer.getvalue()


def _pixels(figure) -> np.ndarray:
  with Image.open(io.BytesIO(_png(figure))) as image:
    return np.asarray(image.convert('RGB'))


def _png_of(picture) -> bytes:
  """A picture with photographs, in 256 colours: a third of the size."""
  buffer = io.BytesIO()
  Image.fromarray(picture).quantize(256).save(buffer, 'PNG', optimize=True)
  return buffer.getvalue()
