"""What stands on the page of a report: one row for each table and figure.

A new table or figure is one function of the facts and one row of BLOCKS.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
from matplotlib.figure import Figure

from fld_jax.evaluation.facts import Facts, RunFacts
from fld_jax.evaluation.mean_images import PATCH_SHARE
from fld_jax.evaluation.text_tables import percent
from fld_jax.report import sections, sentences
from fld_jax.report.gallery import gallery
from fld_jax.report.render import Content, Picture
from fld_jax.report.table import Table
from fld_jax.visualization import curves, data_plots, error_plots, pictures


def _once(facts: Facts) -> Iterator[tuple]:
  """The arguments of a block that stands on the page once."""
  yield (facts,)


def _each_run(facts: Facts) -> Iterator[tuple]:
  """The arguments of a block that each run has."""
  for run in facts.runs:
    yield facts, run


def _each_clustering(facts: Facts) -> Iterator[tuple]:
  """The arguments of a block that each stage with pseudo-labels has."""
  for run in facts.runs:
    for stage in run.clusters:
      yield facts, run, stage


@dataclasses.dataclass(frozen=True)
class Block:
  """A kind of table or figure on the page.

  Attributes:
    section: The id of its section in page.html.
    function: Makes a table (which has its own slug and caption), a matplotlib
      figure, an (H, W, 3) uint8 picture, or None if there is nothing to show.
    slug: The name of a figure's file.
    caption: What a figure shows, or a function that returns it.
    alt: What a figure shows for readers who cannot see it, or a function that
      returns it.
    each: Function from the facts to the arguments of each time that the block
      stands on the page; `function`, `caption` and `alt` are called with them.
  """

  section: str
  function: Callable
  slug: str = ''
  caption: str | Callable[..., str] = ''
  alt: str | Callable[..., str] = ''
  each: Callable[[Facts], Iterator[tuple]] = _once


def _subject(facts: Facts) -> str:
  """What plots compare."""
  return 'each stage' if facts.is_single else 'the final stage of each run'


def _errors_alt(facts: Facts) -> str:
  """What the histogram of errors shows, for readers who cannot see it."""
  figures = {label: found.figures for label, found in facts.series.items()}
  macro = sentences.macro_by_stage(figures)
  return f'Histogram of the NE of landmarks; macro NE {macro}.'


def _patches_caption(facts: Facts) -> str:
  """The caption of the mean patches."""
  return (
    f'Mean surroundings of each visible landmark, of {facts.num_means:,} '
    f'images; a side is {percent(PATCH_SHARE, decimals=0)} % of the box’s '
    'longer side, the contrast is stretched.'
  )


def _clusters_caption(facts: Facts, run: RunFacts, stage: str) -> str:
  """The caption of a stage's clusters, which says what is drawn on them."""
  space = run.run.stage_config(stage).pseudo_label.space
  drawn = pictures.DRAWN[space]
  return f'Pseudo-labels of {stage}, space {space}; {drawn}.'


def _clusters_alt(facts: Facts, run: RunFacts, stage: str) -> str:
  """What the mean images show, for readers who cannot see them."""
  return f'Mean images of the {len(run.clusters[stage])} clusters of {stage}.'


def _by(function: Callable, group: str) -> Callable:
  """A table function of the facts, for one kind of groups."""
  return functools.partial(function, group=group)


# In the order of the page within each section.
BLOCKS = (
  Block('overview', sections.overview),
  Block('overview', sections.networks),
  Block('papers', sections.by_landmark),
  Block(
    'errors',
    error_plots.plot_errors,
    'errors',
    lambda facts: (
      'How large the errors of single visible landmarks are, of '
      f'{_subject(facts)}; NE in % of the box.'
    ),
    _errors_alt,
  ),
  Block(
    'errors',
    curves.plot_pdl,
    'pdl',
    lambda facts: (
      'Share of the visible landmarks within a distance of the '
      f'truth (PDL), of {_subject(facts)}; the dotted line is at 15 of 224 '
      'pixels.'
    ),
    lambda facts: (
      f'Curves of detected landmarks by distance, of {", ".join(facts.series)}.'
    ),
  ),
  Block(
    'errors',
    curves.plot_pdl_by_landmark,
    'pdl_by_landmark',
    lambda facts: (
      'The same by landmark, as in Figure 5 of the DFA paper, of '
      f'{_subject(facts)}.'
    ),
    'Curves of detected landmarks by distance, a panel for each landmark.',
  ),
  Block(
    'errors',
    error_plots.plot_landmarks,
    'landmarks',
    lambda facts: (
      f'NE by landmark, of {_subject(facts)}: mean, median and '
      'what 90 % are below.'
    ),
    'Bars of the NE of each landmark; the figures are in the table of NE by '
    'landmark.',
  ),
  Block('errors', sections.shares),
  Block(
    'groups',
    error_plots.plot_groups,
    'groups',
    lambda facts: (
      f'Macro NE by clothes type and by variation, of {_subject(facts)}.'
    ),
    'Bars of macro NE by clothes type and variation; the figures of the final '
    'stage are in the tables below.',
  ),
  Block(
    'groups',
    error_plots.plot_detected,
    'detected',
    lambda facts: (
      'Share of the visible landmarks within 15 of 224 pixels by clothes type '
      f'and by variation, of {_subject(facts)}.'
    ),
    'Bars of the detected landmarks by clothes type and variation; the curves '
    'below have the same shares at the dotted line.',
  ),
  Block(
    'groups',
    curves.plot_pdl_by_group,
    'pdl_by_group',
    lambda facts: (
      'Share of the visible landmarks within a distance of the truth by '
      'clothes type and by variation, as in Figure 6 of the DFA paper, of '
      f'{_subject(facts)}.'
    ),
    'Curves of detected landmarks by distance, a panel for each clothes type '
    'and each variation.',
  ),
  Block('groups', _by(sections.by_group, 'clothes_type')),
  Block('groups', _by(sections.by_group, 'variation')),
  Block('comparison', sections.difference),
  Block(
    'comparison',
    error_plots.plot_difference,
    'difference',
    lambda facts: (
      f'NE of each image by {facts.first.label} and by the others; '
      'below the line the other is better.'
    ),
    'Scatter of the images’ NE of two runs; the table above has the means.',
  ),
  Block(
    'trust',
    error_plots.plot_trust,
    'trust',
    'Micro NE of the visible landmarks that are kept, of the final stage.',
    'Curves of the micro NE over the share of landmarks kept; figures are in '
    'the table below.',
  ),
  Block('trust', sections.trust),
  Block(
    'trust',
    error_plots.plot_reliability,
    'reliability',
    lambda facts: (
      'Share of the visible landmarks within the distances that are stated for '
      'each chance. On the dotted line a stated chance is the true one; above '
      'it the distances are larger than need be, below it too small.'
    ),
    'Curves of the share within, over the stated chance; figures for 50 and '
    '90 % are in the table below.',
  ),
  Block('trust', sections.calibration),
  Block(
    'stages',
    pictures.overlays,
    'overlays',
    'Truth and the estimate of each stage; NE in % of the box.',
    'Example images with true and predicted landmarks.',
    _each_run,
  ),
  Block(
    'visibility',
    error_plots.plot_confusion,
    'confusion',
    'Predicted visibility of the landmarks of each true class, final stage: '
    'share of the line, and how many.',
    'Confusion matrix of visibility; the figures are in the table below.',
  ),
  Block('visibility', sections.visibility),
  Block(
    'routing',
    error_plots.plot_routing,
    'routing',
    'Routing score of the evaluated images with the threshold, and macro NE '
    'of the images of each branch after each stage.',
    'Histogram of the routing score, and NE of both branches.',
    _each_run,
  ),
  Block('routing', sections.routing),
  Block('routing', sections.branches_by_variation),
  Block('routing', sections.passes),
  Block(
    'clusters',
    pictures.draw_clusters,
    'clusters',
    _clusters_caption,
    _clusters_alt,
    _each_clustering,
  ),
  Block('clusters', sections.clusters, each=_each_clustering),
  Block(
    'landmarks',
    data_plots.plot_places,
    'places',
    'True positions of each landmark in its box, visible and occluded ones; '
    'the ellipse is at two standard deviations. The box is 0 to 1.',
    'Scatter plots of the landmarks’ positions in the box.',
  ),
  Block(
    'landmarks',
    pictures.plot_patches,
    'patches',
    _patches_caption,
    'Mean image patches: the blurrier, the more its looks vary.',
  ),
  Block(
    'data',
    data_plots.plot_data,
    'data',
    lambda facts: (
      f'The images that {facts.first.label} was evaluated on: '
      'shares of types, of variations, and of the visibility of each landmark.'
    ),
    'Bars of the shares; the figures are in the tables below.',
  ),
  Block('data', _by(sections.data_by_group, 'clothes_type')),
  Block('data', _by(sections.data_by_group, 'variation')),
  Block('data', sections.data_visibility),
  Block(
    'training',
    curves.plot_training,
    'training',
    'Training loss, and macro NE on the held-out images that choose the '
    'checkpoint, over the images seen by each network.',
    'Curves of training loss and held-out NE.',
  ),
)


def collect(facts: Facts) -> Content:
  """Makes all that the page shows.

  Args:
    facts: The report's facts.
  """
  content = Content(
    values=sentences.values(facts),
    findings=sentences.findings(facts),
    gallery=gallery(facts),
  )
  for block in BLOCKS:
    for arguments in block.each(facts):
      shown = block.function(*arguments)
      if shown is not None:
        if not isinstance(shown, Table):
          shown = _picture(block, shown, arguments)
        content.blocks.setdefault(block.section, []).append(shown)
  return content


def _picture(
  block: Block, shown: Figure | np.ndarray, arguments: tuple
) -> Picture:
  """Makes a figure as it stands on the page; of one run, with the run's name.

  Args:
    block: The row of BLOCKS.
    shown: The result of the block's function.
    arguments: The arguments of that call: the facts, then perhaps a run and one
      of its stages.
  """
  suffix = prefix = ''
  if len(arguments) > 1:
    _, run, *stages = arguments
    suffix = ''.join(f'_{stage}' for stage in stages) + run.file_suffix
    prefix = run.caption_prefix
  about = lambda words: words(*arguments) if callable(words) else words
  is_plot = isinstance(shown, Figure)
  return Picture(
    slug=block.slug + suffix,
    caption=prefix + about(block.caption),
    alt=prefix + about(block.alt),
    png=pictures.png(shown) if is_plot else pictures.photo_png(shown),
  )
