"""Curves: PDL, training and sweeps."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fld_jax.evaluation.facts import Facts
from fld_jax.metrics import normalised_error


def legend(figure: Figure, axes: Axes, place: str) -> None:
  """Names the curves of axes: within them, or below if there are many.

  Args:
    figure: A figure of constrained layout.
    axes: Axes whose curves have labels.
    place: Matplotlib's name of a place within the axes.
  """
  handles, names = axes.get_legend_handles_labels()
  if len(names) <= 4:
    axes.legend(loc=place)
    return
  columns = 2 if max(map(len, names)) < 40 else 1
  lines = -(-len(names) // columns)
  figure.set_figheight(figure.get_figheight() + 0.22 * lines)
  figure.legend(handles, names, loc='outside lower left', ncols=columns)


def plot_pdl(facts: Facts) -> Figure:
  """Share of detected landmarks over the distance (DFA, Figure 5)."""
  figure = Figure(figsize=(7, 4.5), layout='constrained')
  axes = figure.add_subplot()
  for label, series in facts.series.items():
    curve = series.figures['pdl_curve']
    shares = [np.nan if s is None else 100 * s for s in curve]
    axes.plot(normalised_error.PDL_THRESHOLDS, shares, label=label)
  axes.axvline(
    normalised_error.PDL_MAIN, color='grey', linestyle=':', linewidth=1
  )
  axes.set(
    xlabel=f'distance to the truth (pixels of {normalised_error.CROP_PIXELS})',
    ylabel='detected landmarks (%)',
    xlim=(0, normalised_error.PDL_THRESHOLDS[-1]),
    ylim=(0, 100),
  )
  axes.grid(alpha=0.3)
  legend(figure, axes, 'lower right')
  return figure


def plot_training(facts: Facts) -> Figure | None:
  """Training loss and NE of the held-out tune part over the images seen.

  Args:
    facts: The report's facts. A record of their `history` has `stage`, `images`
      (seen in this stage so far) and one or both of `loss` and `tune_ne`
      (macro, a fraction); other keys are free.

  Returns:
    The figure; None if the curves of the training are not known.
  """
  history = facts.history
  if not history:
    return None
  figure = Figure(figsize=(11, 4.2), layout='constrained')
  left, right = figure.subplots(1, 2)
  for stage in dict.fromkeys(record['stage'] for record in history):
    for axes, key, scale in ((left, 'loss', 1), (right, 'tune_ne', 100)):
      points = [
        (record['images'], scale * record[key])
        for record in history
        if record['stage'] == stage and key in record
      ]
      if points:
        axes.plot(*zip(*points, strict=True), marker='.', label=stage)
  left.set(xlabel='images seen', ylabel='training loss', yscale='log')
  right.set(xlabel='images seen', ylabel='macro NE on tune (%)')
  for axes in (left, right):
    axes.grid(alpha=0.3)
  axes = max(left, right, key=lambda axes: len(axes.lines))
  legend(figure, axes, 'best')
  return figure


def plot_sweep(rows: dict[str, dict]) -> Figure:
  """NE, outliers and duplicates over PCLoss's weight (Song et al., Fig. 8).

  Args:
    rows: Slug -> a row of `text_tables.compare_with_paper`, also with `beta`,
      the weight, and `chosen`, True for the one row that the paper chooses. The
      row with weight 0 is drawn as a line across.
  """
  figure = Figure(figsize=(11, 3.8), layout='constrained')
  parts = {
    'macro NE (%)': lambda run: run['ne']['macro'],
    'outliers (%)': lambda run: run['outlier_rate'],
    'duplicates (%)': lambda run: run['duplicate_rate'],
  }
  for axes, (name, value) in zip(
    figure.subplots(1, 3), parts.items(), strict=True
  ):
    points = []
    for row in rows.values():
      values = [100 * value(run) for run in row['runs'].values()]
      if row['beta']:
        points.append((row['beta'], np.mean(values)))
        axes.plot([row['beta']] * len(values), values, '.', color='C0')
      else:
        axes.axhline(np.mean(values), color='C1', label='without PCLoss')
      if row['chosen']:
        axes.axvline(
          row['beta'], color='grey', linestyle=':', label="the paper's choice"
        )
    axes.plot(*zip(*sorted(points), strict=True), color='C0', label='PCLoss')
    axes.set(xlabel='weight of PCLoss', ylabel=name, xscale='log')
    axes.grid(alpha=0.3)
  axes.legend()
  return figure
