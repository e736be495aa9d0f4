"""Plots of errors, as functions of a report's facts."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from fld_jax import schema
from fld_jax.evaluation.facts import (
  CURVE_SHARES,
  ERROR_EDGES,
  GROUPS,
  Facts,
  RunFacts,
  Series,
  group_names,
)
from fld_jax.evaluation.text_tables import percent, words
from fld_jax.metrics import normalised_error
from fld_jax.visualization import curves
from fld_jax.visualization.drawing import COLOURS

GREY, INK = '#8a8f98', '#1d232c'
STYLE = {
  'axes.axisbelow': True,
  'axes.edgecolor': '#b6bcc6',
  'axes.grid': True,
  'axes.labelcolor': '#3a414d',
  'axes.prop_cycle': 'cycler("linestyle", ["-", "--", ":"]) * '
  f'cycler("color", {list(COLOURS)})',
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.titlelocation': 'left',
  'axes.titlesize': 10,
  'axes.titleweight': 'bold',
  'figure.constrained_layout.use': True,
  'font.size': 10,
  'grid.color': '#e4e7ec',
  'legend.frameon': False,
  'savefig.dpi': 110,
  'text.color': '#1d232c',
  'xtick.color': '#5b6470',
  'ytick.color': '#5b6470',
}
LINES = ('-', '--', ':', '-.', (0, (6, 1)))


def plot_errors(facts: Facts) -> Figure:
  """Histogram of the NE of single landmarks; the last bin has all above."""
  figure = Figure(figsize=(7, 4))
  axes = figure.add_subplot()
  for label, series in facts.series.items():
    shares = 100 * series.histogram
    axes.stairs(shares, 100 * ERROR_EDGES, label=label, linewidth=1.8)
  axes.axvline(100 * normalised_error.OUTLIER, color=GREY, linestyle=':')
  above = axes.get_xaxis_transform()
  axes.text(
    100 * normalised_error.OUTLIER + 0.4, 0.5, 'outliers', transform=above
  )
  axes.set(
    xlabel='NE of a landmark (%); the last bin has all above',
    ylabel='visible landmarks (%)',
    xlim=(0, 100 * ERROR_EDGES[-1]),
  )
  curves.legend(figure, axes, 'center right')
  return figure


def plot_landmarks(facts: Facts) -> Figure | None:
  """Mean, median and 90 % quantile of the NE by landmark.

  None if there is nothing to measure.
  """
  names, count = facts.landmarks.names, len(facts.series)
  figure = Figure(figsize=(7, 1.3 + 0.15 * len(names) * (count + 1)))
  axes = figure.add_subplot()
  step = 0.8 / count
  for index, (label, series) in enumerate(facts.series.items()):
    colour = COLOURS[index % len(COLOURS)]
    measured = np.flatnonzero(np.isfinite(series.by_landmark[:, 0]))
    for slot in measured:
      mean, median, high = 100 * series.by_landmark[slot]
      y = slot + (index - (count - 1) / 2) * step
      once = {'label': label} if slot == measured[0] else {}
      axes.barh(y, mean, step * 0.82, color=colour, alpha=0.85, **once)
      axes.plot([mean, high], [y, y], '-', color=colour, linewidth=1)
      axes.plot([high] * 2, [y - step / 4, y + step / 4], '-', color=colour)
      # Its rim is seen on the bar as well as beyond it.
      (line,) = axes.plot(
        median, y, '|', color='white', markersize=7, markeredgewidth=2
      )
      line.set_path_effects([withStroke(linewidth=3.6, foreground=INK)])
  if not axes.patches:
    return None
  _mark_published(axes, facts.first.published)
  axes.set(
    xlabel='NE (%): bar mean, white line median, whisker 90 % of landmarks',
    yticks=range(len(names)),
    yticklabels=[words(name) for name in names],
  )
  axes.grid(axis='y', visible=False)
  axes.set_ylim(len(names) - 0.4, -0.6)
  if len(axes.get_legend_handles_labels()[1]) > 1:
    figure.legend(loc='outside upper left', ncols=2)
  return figure


def _mark_published(axes: Axes, published: dict[str, list]) -> None:
  """Marks the last of the papers' rows.

  Args:
    axes: The axes of NE by landmark.
    published: The rows of `RunFacts.published`.
  """
  if not published:
    return
  title, values = list(published.items())[-1]
  known = [i for i, v in enumerate(values[:-1]) if v is not None]
  axes.plot(
    [100 * values[i] for i in known],
    known,
    linestyle='',
    marker='D',
    markersize=5,
    color='black',
    label=title if known else None,
  )


def plot_groups(facts: Facts) -> Figure | None:
  """Macro NE by clothes type and by variation; None if neither is known."""
  macro = lambda of_group: {n: x['macro'] for n, x in of_group.items()}
  return _group_bars(
    facts,
    lambda series, group: macro(series.figures[f'ne_by_{group}']),
    'macro NE (%)',
  )


def plot_detected(facts: Facts) -> Figure | None:
  """PDL at PDL_MAIN in the same groups; None if neither is known."""
  at = normalised_error.PDL_MAIN
  shares = lambda curves: {n: float(x[at]) for n, x in curves.items()}
  return _group_bars(
    facts,
    lambda series, group: shares(series.pdl_by_group[group]),
    f'within {at} pixels (%)',
  )


def _group_bars(
  facts: Facts,
  value: Callable[[Series, str], dict[str, float | None]],
  what: str,
) -> Figure | None:
  """Bars by clothes type and by variation; None if neither is known.

  Args:
    facts: The report's facts.
    value: Function of a series and of a name of GROUPS that returns the value
      of each of the groups.
    what: What the values are, with their unit.
  """
  found = {}
  for group in GROUPS:
    measured = {
      label: value(series, group) for label, series in facts.series.items()
    }
    order = group_names(facts.landmarks, group).values()
    names = [n for n in order if any(n in x for x in measured.values())]
    if names:
      found[group] = names, measured
  if not found:
    return None
  count = len(facts.series)
  bars = sum(len(names) for names, _ in found.values()) * count
  figure = Figure(figsize=(min(10, max(5, 1.5 + 0.45 * bars)), 3.6))
  widths = [max(2, len(names)) for names, _ in found.values()]
  panels = figure.subplots(
    1, len(found), squeeze=False, sharey=True, width_ratios=widths
  )[0]
  step = 0.8 / count
  for axes, (group, (names, measured)) in zip(
    panels, found.items(), strict=True
  ):
    for index, (label, by_name) in enumerate(measured.items()):
      values = [by_name.get(name) for name in names]
      axes.bar(
        np.arange(len(names)) + (index - (count - 1) / 2) * step,
        [np.nan if value is None else 100 * value for value in values],
        step * 0.88,
        label=label,
      )
    axes.set(
      title=words(group),
      xticks=range(len(names)),
      xticklabels=[words(name).replace(' ', '\n', 1) for name in names],
    )
    axes.grid(axis='x', visible=False)
  panels[0].set_ylabel(what)
  if count > 1:
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc='outside upper left', ncols=3)
  return figure


def plot_confusion(facts: Facts) -> Figure | None:
  """Predicted by true visibility; None if no run predicts it."""
  runs = [run for run in facts.runs if run.confusion is not None]
  if not runs:
    return None
  figure = Figure(figsize=(1 + 3.4 * len(runs), 3.6))
  panels = figure.subplots(1, len(runs), squeeze=False)[0]
  for axes, run in zip(panels, runs, strict=True):
    counts = run.confusion
    shares = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap='Blues', vmin=0, vmax=100)
    for (true, found), share in np.ndenumerate(shares):
      axes.text(
        found,
        true,
        f'{share:.1f} %\n({counts[true, found]:,})',
        ha='center',
        va='center',
        color='white' if share > 55 else 'black',
      )
    axes.set(
      title=run.label,
      xticks=range(3),
      xticklabels=schema.VISIBILITY_NAMES,
      yticks=range(3),
      yticklabels=schema.VISIBILITY_NAMES,
      xlabel='predicted',
      ylabel='truth',
    )
    axes.grid(visible=False)
  return figure


def plot_routing(facts: Facts, run: RunFacts) -> Figure | None:
  """Routing score and threshold, and NE of both branches.

  Args:
    facts: The report's facts.
    run: The run.

  Returns:
    The figure; None if the run is not routed.
  """
  del facts  # a plot of one run alone
  if not run.branches:
    return None
  score, hard = run.run.predictions.route_score, run.run.predictions.is_hard
  figure = Figure(figsize=(9, 3.6))
  left, right = figure.subplots(1, 2)
  epsilon = run.run.evaluation.epsilon
  edges = _edges_around(epsilon, score)
  masks, colours = (~hard, hard), (COLOURS[2], COLOURS[1])
  for branch, mask, colour in zip(run.branches, masks, colours, strict=True):
    share = percent(branch.share, decimals=1)
    label = f'{branch.name}: {branch.count:,} images, {share} %'
    left.hist(score[mask], edges, color=colour, alpha=0.85, label=label)
    values = [
      np.nan if branch.macro[stage] is None else 100 * branch.macro[stage]
      for stage in run.stages
    ]
    right.plot(run.stages, values, marker='o', color=colour, label=branch.name)
  left.axvline(epsilon, color='black', linestyle=':')
  left.set(
    xlabel=f'routing score (sides of the crop); threshold {epsilon:.3f}',
    ylabel='images',
  )
  left.locator_params(axis='x', nbins=5)
  left.legend(loc='lower left', bbox_to_anchor=(0, 1))
  right.set(ylabel='macro NE (%)', title='NE of the images of each branch')
  right.margins(y=0.25)
  right.legend()
  return figure


def _edges_around(threshold: float, values: np.ndarray) -> np.ndarray:
  """Some 40 equal bins over (n,) values, with an edge at the threshold."""
  step = max(np.ptp(values), 1e-6) / 40
  ends = np.array([values.min(), values.max()])
  first, last = np.floor((ends - threshold) / step)
  return threshold + step * np.arange(first, last + 2)


def plot_trust(facts: Facts) -> Figure | None:
  """NE of what is kept of the landmarks, the most certain first.

  For a single run all curves are drawn, and the one by the error itself; for
  several runs the network's own confidence, or what stands in for it.

  Args:
    facts: The report's facts.

  Returns:
    The figure; None if no run says how certain it is.
  """
  drawn = []  # label, curve, line style; as many as there are styles
  for run in facts.runs:
    if facts.is_single and run.kept:
      found = zip((*run.kept, run.kept_at_best), LINES, strict=False)
      drawn += [(kept.name, kept, line) for kept, line in found]
    else:
      drawn += [(f'{run.label}: {k.name}', k, '-') for k in run.kept[:1]]
  if not drawn:
    return None
  figure = Figure(figsize=(7, 4))
  axes = figure.add_subplot()
  for label, kept, line in drawn:
    values = [np.nan if value is None else 100 * value for value in kept.curve]
    axes.plot(100 * np.array(CURVE_SHARES), values, linestyle=line, label=label)
  axes.set(
    xlabel='landmarks kept, the surest first (%)',
    ylabel='micro NE of them (%)',
    xlim=(0, 100),
    ylim=(0, None),
  )
  curves.legend(figure, axes, 'best')
  return figure


def plot_reliability(facts: Facts) -> Figure | None:
  """Share of the truth within the distances of each level.

  Args:
    facts: The report's facts.

  Returns:
    The figure; None if no run has a calibration.
  """
  runs = [run for run in facts.runs if run.calibration]
  if not runs:
    return None
  figure = Figure(figsize=(4.6, 4.4))
  axes = figure.add_subplot()
  axes.plot([0, 100], [0, 100], color=GREY, linestyle=':', label='as stated')
  for run in runs:
    shares = [
      np.nan if share is None else 100 * share
      for share in run.calibration['shares']
    ]
    levels = 100 * np.array(run.calibration['levels'])
    axes.plot(levels, shares, marker='o', markersize=4, label=run.label)
  axes.set(
    xlabel='stated chance that the truth is within (%)',
    ylabel='visible landmarks that are within (%)',
    xlim=(0, 100),
    ylim=(0, 100),
    aspect='equal',
  )
  curves.legend(figure, axes, 'upper left')
  return figure


def plot_difference(facts: Facts) -> Figure | None:
  """Each image's NE by the first run and by the others; None if none shared."""
  shared = [found for found in facts.comparisons if found.first.size]
  if not shared:
    return None
  columns = min(3, len(shared))
  lines = -(-len(shared) // columns)
  figure = Figure(figsize=(3.4 * columns, 3.5 * lines))
  panels = figure.subplots(lines, columns, squeeze=False).ravel()
  for axes in panels[len(shared) :]:
    axes.set_axis_off()
  for axes, found in zip(panels, shared, strict=False):
    a, b = 100 * found.first, 100 * found.other
    end = 1.02 * np.nanmax(np.concatenate([a, b, [1]]))
    axes.plot(a, b, '.', markersize=3, alpha=0.5)
    axes.plot([0, end], [0, end], color=GREY, linewidth=1)
    axes.text(0.97, 0.05, 'better', transform=axes.transAxes, ha='right')
    axes.text(0.03, 0.93, 'worse', transform=axes.transAxes)
    axes.set(
      title=found.label,
      xlabel=f'{facts.first.label} (%)',
      ylabel='NE of an image (%)',
      xlim=(0, end),
      ylim=(0, end),
      aspect='equal',
    )
  return figure
