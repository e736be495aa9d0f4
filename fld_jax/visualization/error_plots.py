"""The plots of a report; each returns a matplotlib Figure."""

import numpy as np
from matplotlib.figure import Figure

from fld_jax import schema
from fld_jax.evaluation.analysis import (
  confusion,
  kept_ne,
  same_images,
  sureness,
  words,
)
from fld_jax.evaluation.evaluated_run import EvaluatedRun
from fld_jax.metrics import normalised_error
from fld_jax.papers import published
from fld_jax.visualization import curves

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
GREY = '#8a8f98'
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
LAST = 0.4  # NE, where the histogram ends


def series(runs: list[EvaluatedRun]) -> dict[str, tuple[EvaluatedRun, str]]:
  """What a plot compares: the stages of one run, or the runs' final stages."""
  if len(runs) == 1:
    return {stage: (runs[0], stage) for stage in runs[0].stages}
  return {run.label: (run, run.final) for run in runs}


def plot_errors(runs: list[EvaluatedRun]) -> Figure:
  """Histogram of the NE of single landmarks; the last bin has all above."""
  figure = Figure(figsize=(7, 4))
  axes = figure.add_subplot()
  edges = np.linspace(0, LAST, 41)
  for name, (run, stage) in series(runs).items():
    values = run.errors[stage]
    values = np.minimum(values[np.isfinite(values)], LAST - 1e-9)
    counts = np.histogram(values, edges)[0] / max(1, values.size)
    axes.stairs(100 * counts, 100 * edges, label=name, linewidth=1.8)
  axes.axvline(100 * normalised_error.OUTLIER, color=GREY, linestyle=':')
  above = axes.get_xaxis_transform()
  axes.text(
    100 * normalised_error.OUTLIER + 0.4, 0.5, 'outliers', transform=above
  )
  axes.set(
    xlabel='NE of a landmark (%); the last bin has all above',
    ylabel='visible landmarks (%)',
    xlim=(0, 100 * LAST),
  )
  curves.legend(figure, axes, 'center right')
  return figure


def plot_landmarks(runs: list[EvaluatedRun]) -> Figure | None:
  """Mean, median and 90 % quantile of the NE by landmark.

  None if there is nothing to measure.
  """
  names, kinds = runs[0].names, series(runs)
  figure = Figure(figsize=(7, 1.3 + 0.15 * len(names) * (len(kinds) + 1)))
  axes = figure.add_subplot()
  step = 0.8 / len(kinds)
  for index, (label, (run, stage)) in enumerate(kinds.items()):
    errors = 100 * run.errors[stage]
    colour = COLOURS[index % len(COLOURS)]
    for slot in range(len(names)):
      values = errors[:, slot][np.isfinite(errors[:, slot])]
      if not values.size:
        continue
      y = slot + (index - (len(kinds) - 1) / 2) * step
      once = {'label': label} if slot == _first(errors) else {}
      axes.barh(y, values.mean(), step * 0.82, color=colour, alpha=0.85, **once)
      low, high = np.quantile(values, (0.5, 0.9))
      axes.plot([values.mean(), high], [y, y], '-', color=colour, linewidth=1)
      axes.plot([high] * 2, [y - step / 4, y + step / 4], '-', color=colour)
      axes.plot(low, y, '|', color='white', markersize=7, markeredgewidth=2)
  if not axes.patches:
    return None
  config = runs[0].evaluation.config
  papers = published(config.dataset.name, config.model.name, names)
  if papers:
    title, values = list(papers.items())[-1]
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
  axes.set(
    xlabel='NE (%): bar mean, white line median, whisker 90 % of landmarks',
    yticks=range(len(names)),
    yticklabels=[words(name) for name in names],
  )
  axes.grid(axis='y', visible=False)
  axes.set_ylim(len(names) - 0.4, -0.6)
  figure.legend(loc='outside upper left', ncols=2)
  return figure


def _first(errors) -> int:
  """The first landmark with an error."""
  return int(np.isfinite(errors).any(axis=0).argmax())


def plot_groups(runs: list[EvaluatedRun]) -> Figure | None:
  """Macro NE by clothes type and by variation; None if neither is known."""
  kinds = series(runs)
  found = {}
  for group in ('clothes_type', 'variation'):
    of = {
      label: run.figures['stages'][stage][f'ne_by_{group}']
      for label, (run, stage) in kinds.items()
    }
    order = runs[0].predictions.landmark_set.types
    order = order if group == 'clothes_type' else schema.VARIATIONS
    names = [n for n in order.values() if any(n in x for x in of.values())]
    if names:
      found[group] = names, of
  if not found:
    return None
  bars = sum(len(names) for names, _ in found.values()) * len(kinds)
  figure = Figure(figsize=(min(10, max(5, 1.5 + 0.45 * bars)), 3.6))
  widths = [max(2, len(names)) for names, _ in found.values()]
  panels = figure.subplots(
    1, len(found), squeeze=False, sharey=True, width_ratios=widths
  )[0]
  step = 0.8 / len(kinds)
  for axes, (group, (names, of)) in zip(panels, found.items(), strict=True):
    for index, (label, each) in enumerate(of.items()):
      values = [each.get(name, {}).get('macro') for name in names]
      axes.bar(
        np.arange(len(names)) + (index - (len(kinds) - 1) / 2) * step,
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
  panels[0].set_ylabel('macro NE (%)')
  handles = panels[0].get_legend_handles_labels()
  figure.legend(*handles, loc='outside upper left', ncols=3)
  return figure


def plot_confusion(runs: list[EvaluatedRun]) -> Figure | None:
  """Predicted by true visibility; None if no run predicts it."""
  tables = {run.label: confusion(run) for run in runs}
  tables = {k: counts for k, counts in tables.items() if counts is not None}
  if not tables:
    return None
  figure = Figure(figsize=(1 + 3.4 * len(tables), 3.6))
  panels = figure.subplots(1, len(tables), squeeze=False)[0]
  for axes, (label, counts) in zip(panels, tables.items(), strict=True):
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
      title=label,
      xticks=range(3),
      xticklabels=schema.VISIBILITY_NAMES,
      yticks=range(3),
      yticklabels=schema.VISIBILITY_NAMES,
      xlabel='predicted',
      ylabel='truth',
    )
    axes.grid(visible=False)
  return figure


def plot_routing(run: EvaluatedRun) -> Figure | None:
  """Routing score and threshold; NE of both branches; None if not routed."""
  score, hard = run.predictions.route_score, run.predictions.is_hard
  if hard is None:
    return None
  figure = Figure(figsize=(9, 3.6))
  left, right = figure.subplots(1, 2)
  epsilon = run.evaluation.epsilon
  step = max(np.ptp(score), 1e-6) / 40  # an edge is at the threshold
  ends = np.array([score.min(), score.max()])
  first, last = np.floor((ends - epsilon) / step)
  edges = epsilon + step * np.arange(first, last + 2)
  parts = {'easy': (~hard, COLOURS[2]), 'hard': (hard, COLOURS[1])}
  for name, (mask, colour) in parts.items():
    share = 100 * mask.mean()
    label = f'{name}: {mask.sum():,} images, {share:.1f} %'
    left.hist(score[mask], edges, color=colour, alpha=0.85, label=label)
    values = [
      np.nan if ne is None else 100 * ne
      for ne in (
        normalised_error.ne(run.errors[s][mask], run.counted[mask], run.names)[
          'macro'
        ]
        for s in run.stages
      )
    ]
    right.plot(run.stages, values, marker='o', color=colour, label=name)
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


def plot_trust(runs: list[EvaluatedRun]) -> Figure | None:
  """NE of what is kept of the landmarks, the surest first.

  None if no run says how sure it is.
  """
  shares = np.linspace(0.05, 1, 96)
  figure = Figure(figsize=(7, 4))
  axes = figure.add_subplot()
  for run in runs:
    mask, errors = run.counted, run.errors[run.final]
    found = sureness(run)
    if len(runs) > 1:  # the network's own word, or what stands in for it
      found = {f'{run.label}: {k}': found[k] for k in list(found)[:1]}
    elif found:
      found['at best: by the error itself'] = -errors
    for (name, scores), line in zip(found.items(), LINES, strict=False):
      values = kept_ne(errors[mask], scores[mask], shares)
      values = [np.nan if value is None else 100 * value for value in values]
      line = '-' if len(runs) > 1 else line
      axes.plot(100 * shares, values, line, label=name)
  if not axes.lines:
    return None
  axes.set(
    xlabel='landmarks kept, the surest first (%)',
    ylabel='micro NE of them (%)',
    xlim=(0, 100),
    ylim=(0, None),
  )
  curves.legend(figure, axes, 'best')
  return figure


def plot_difference(runs: list[EvaluatedRun]) -> Figure | None:
  """Each image's NE by the first run and by the others; None if none shared."""
  pairs = {run.label: (run, *same_images(runs[0], run)) for run in runs[1:]}
  pairs = {label: pair for label, pair in pairs.items() if pair[1].size}
  if not pairs:
    return None
  columns = min(3, len(pairs))
  lines = -(-len(pairs) // columns)
  figure = Figure(figsize=(3.4 * columns, 3.5 * lines))
  panels = figure.subplots(lines, columns, squeeze=False).ravel()
  for axes in panels[len(pairs) :]:
    axes.set_axis_off()
  for axes, (label, (run, first, second)) in zip(
    panels, pairs.items(), strict=False
  ):
    a = 100 * runs[0].image_errors[runs[0].final][first]
    b = 100 * run.image_errors[run.final][second]
    end = 1.02 * np.nanmax(np.concatenate([a, b, [1]]))
    axes.plot(a, b, '.', markersize=3, alpha=0.5)
    axes.plot([0, end], [0, end], color=GREY, linewidth=1)
    axes.text(0.97, 0.05, 'better', transform=axes.transAxes, ha='right')
    axes.text(0.03, 0.93, 'worse', transform=axes.transAxes)
    axes.set(
      title=label,
      xlabel=f'{runs[0].label} (%)',
      ylabel='NE of an image (%)',
      xlim=(0, end),
      ylim=(0, end),
      aspect='equal',
    )
  return figure
