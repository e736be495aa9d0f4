"""Curves: PDL, training and sweeps."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fld_jax.evaluation.facts import Facts
from fld_jax.evaluation.text_tables import words
from fld_jax.metrics.normalised_error import (
  CROP_PIXELS,
  PDL_MAIN,
  PDL_THRESHOLDS,
)


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
  """Share of detected landmarks over the distance."""
  figure = Figure(figsize=(7, 4.5), layout='constrained')
  axes = figure.add_subplot()
  for label, series in facts.series.items():
    curve = series.figures['pdl_curve']
    shares = [np.nan if s is None else 100 * s for s in curve]
    axes.plot(PDL_THRESHOLDS, shares, label=label)
  axes.axvline(PDL_MAIN, color='grey', linestyle=':', linewidth=1)
  axes.set(
    xlabel=f'distance to the truth (pixels of {CROP_PIXELS})',
    ylabel='detected landmarks (%)',
    xlim=(0, PDL_THRESHOLDS[-1]),
    ylim=(0, 100),
  )
  axes.grid(alpha=0.3)
  legend(figure, axes, 'lower right')
  return figure


def plot_pdl_by_landmark(facts: Facts) -> Figure | None:
  """The same of each landmark (DFA, Figure 5); None if none is visible."""
  names = facts.landmarks.names
  curves = {
    name: {
      label: series.pdl_by_landmark[slot]
      for label, series in facts.series.items()
    }
    for slot, name in enumerate(names)
  }
  return _pdl_panels(curves)


def plot_pdl_by_group(facts: Facts) -> Figure | None:
  """The same by clothes type and variation (DFA, Figure 6); None without."""
  curves = {}
  for label, series in facts.series.items():
    for of_group in series.pdl_by_group.values():
      for name, curve in of_group.items():
        curves.setdefault(name, {})[label] = curve
  return _pdl_panels(curves)


def _pdl_panels(curves: dict[str, dict[str, np.ndarray]]) -> Figure | None:
  """A panel for each part of the landmarks.

  Args:
    curves: Name of the part -> label -> (T,) shares at PDL_THRESHOLDS, NaN
      where nothing was measured.
  """
  curves = {
    name: of_part
    for name, of_part in curves.items()
    if any(np.isfinite(curve).any() for curve in of_part.values())
  }
  if not curves:
    return None
  columns = min(4, len(curves))
  rows = -(-len(curves) // columns)
  figure = Figure(figsize=(2.75 * columns, 0.6 + 2.1 * rows))
  panels = figure.subplots(
    rows, columns, squeeze=False, sharex=True, sharey=True
  )
  labels = list(dict.fromkeys(label for x in curves.values() for label in x))
  for axes, (name, of_part) in zip(panels.flat, curves.items(), strict=False):
    for label in labels:  # all, so that colours are the same in each panel
      curve = of_part.get(label, np.full(PDL_THRESHOLDS.shape, np.nan))
      axes.plot(PDL_THRESHOLDS, 100 * curve, label=label)
    axes.axvline(PDL_MAIN, color='grey', linestyle=':', linewidth=1)
    axes.set(title=words(name), xlim=(0, PDL_THRESHOLDS[-1]), ylim=(0, 100))
  for axes in panels.flat[len(curves) :]:
    axes.set_visible(False)
  for axes in panels.flat[len(curves) - columns : len(curves)]:
    axes.tick_params(labelbottom=True)  # the lowest one of its column
  figure.supxlabel(f'distance to the truth (pixels of {CROP_PIXELS})')
  figure.supylabel('detected landmarks (%)')
  handles, names = panels.flat[0].get_legend_handles_labels()
  lines = -(-len(names) // 3)
  figure.set_figheight(figure.get_figheight() + 0.22 * lines)
  figure.legend(handles, names, loc='outside upper left', ncols=3)
  return figure


def plot_training(facts: Facts) -> Figure | None:
  """The curves of the trainings; None if they are not known."""
  return plot_history(facts.history) if facts.history else None


def plot_history(history: list[dict]) -> Figure:
  """Training loss, NE of the held-out tune part, and the learning rate.

  Args:
    history: A record for each evaluation, with `stage`, `images` (seen by this
      network so far) and some of `loss`, `tune_ne` and `mean_position_ne`
      (both macro, fractions) and `learning_rate`; other keys are free. The
      first is drawn as a line across, which curves of NE have to fall below.
  """
  figure = Figure(figsize=(11, 4.2), layout='constrained')
  keys = {'loss': 1, 'tune_ne': 100, 'learning_rate': 1}
  if not any('learning_rate' in record for record in history):
    del keys['learning_rate']  # of older runs it is not known
  axes_of = dict(zip(keys, figure.subplots(1, len(keys)), strict=True))
  stages = list(dict.fromkeys(record['stage'] for record in history))
  for number, stage in enumerate(stages):
    of_stage = [record for record in history if record['stage'] == stage]
    colour = f'C{number % 10}'
    for key, scale in keys.items():
      points = [(r['images'], scale * r[key]) for r in of_stage if key in r]
      if points:
        axes_of[key].plot(
          *zip(*points, strict=True), marker='.', color=colour, label=stage
        )
  guesses = {
    record['stage']: 100 * record['mean_position_ne']
    for record in history
    if 'mean_position_ne' in record
  }
  # One line for all, unless they have images of their own, as branches have.
  alone = len(set(guesses.values())) == 1
  for stage, guess in guesses.items():
    colour = 'grey' if alone else f'C{stages.index(stage) % 10}'
    axes_of['tune_ne'].axhline(guess, color=colour, linestyle='--', linewidth=1)
  if guesses:
    axes_of['tune_ne'].plot(
      [], [], '--', color='grey', linewidth=1, label='mean position'
    )
  axes_of['loss'].set(ylabel='training loss', yscale='log')
  axes_of['tune_ne'].set(ylabel='macro NE on tune (%)')
  if 'learning_rate' in axes_of:
    axes_of['learning_rate'].set(ylabel='learning rate')
  for axes in axes_of.values():
    axes.set(xlabel='images seen')
    axes.grid(alpha=0.3)
  most = max(
    (axes_of['tune_ne'], axes_of['loss']), key=lambda axes: len(axes.lines)
  )
  legend(figure, most, 'best')
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
