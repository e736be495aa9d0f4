"""Plots of the evaluated data: what there is, and where landmarks lie."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from fld_jax import schema
from fld_jax.evaluation.analysis import words
from fld_jax.evaluation.evaluated_run import EvaluatedRun
from fld_jax.metrics.predictions import corner_and_size
from fld_jax.visualization.error_plots import COLOURS

# As the page draws them.
LEFT, RIGHT, MIDDLE = '#D55E00', '#0072B2', '#009E73'


def colour_of(name: str) -> str:
  """Of a landmark, by its side."""
  sides = {'left': LEFT, 'right': RIGHT, None: MIDDLE}
  return sides[schema.side_in_words(name)]


def plot_data(run: EvaluatedRun) -> Figure:
  """Shares of types, variations and visibility states (DFA, Figure 2 c)."""
  predictions = run.predictions
  groups = {
    group: (names, np.asarray(getattr(predictions, group)))
    for group, names in (
      ('clothes_type', predictions.landmark_set.types),
      ('variation', schema.VARIATIONS),
    )
    if np.asarray(getattr(predictions, group)).any()
  }
  height = 1.2 + 0.26 * max(6, len(run.names))
  figure = Figure(figsize=(10, height))
  panels = figure.subplots(1, len(groups) + 1, squeeze=False)[0]
  for axes, (group, (names, codes)) in zip(
    panels, groups.items(), strict=False
  ):
    shares = [100 * np.mean(codes == code) for code in names]
    bars = axes.barh([words(name) for name in names.values()], shares)
    axes.bar_label(bars, fmt='%.1f', padding=3)
    axes.set(title=words(group), xlabel='images (%)')
    axes.margins(x=0.18)
    axes.grid(axis='y', visible=False)
    axes.invert_yaxis()
  axes, left = panels[-1], np.zeros(len(run.names))
  codes = predictions.visibility
  present = np.maximum(1, np.sum(codes != schema.ABSENT, axis=0))
  for code, colour in enumerate((COLOURS[2], COLOURS[4], COLOURS[3])):
    share = 100 * np.sum(codes == code, axis=0) / present
    name = schema.VISIBILITY_NAMES[code]
    axes.barh(
      [words(n) for n in run.names], share, left=left, color=colour, label=name
    )
    left += share
  axes.set(title='visibility', xlabel='items that have the landmark (%)')
  axes.grid(axis='y', visible=False)
  axes.invert_yaxis()
  axes.legend(loc='lower center', bbox_to_anchor=(0.5, 1.08), ncols=3)
  return figure


def plot_places(run: EvaluatedRun) -> Figure:
  """Where each landmark lies in the box (DFA, Figure 1 b)."""
  predictions = run.predictions
  corner, size = corner_and_size(predictions.boxes)
  places = (np.asarray(predictions.landmarks) - corner) / size
  known = schema.has_position(predictions.visibility)
  columns = 4 if len(run.names) <= 8 else 6
  lines = -(-len(run.names) // columns)
  figure = Figure(figsize=(9, 0.5 + 9 / columns * 1.08 * lines))
  panels = figure.subplots(lines, columns, sharex=True, sharey=True).ravel()
  for slot, axes in enumerate(panels):
    if slot >= len(run.names):
      axes.set_axis_off()
      continue
    points = places[known[:, slot], slot]
    colour = colour_of(run.names[slot])
    axes.plot(*points.T, '.', color=colour, markersize=2.5, alpha=0.35)
    if len(points) > 1:
      axes.add_patch(_ellipse(points))
    axes.set(
      title=words(run.names[slot]),
      xlim=(-0.15, 1.15),
      ylim=(1.15, -0.15),
      aspect='equal',
      xticks=(0, 0.5, 1),
      yticks=(0, 0.5, 1),
    )
  figure.supxlabel('share of the box’s width', fontsize=10)
  figure.supylabel('share of the box’s height', fontsize=10)
  return figure


def _ellipse(points) -> Ellipse:
  """Two standard deviations around the mean."""
  values, vectors = np.linalg.eigh(np.cov(points.T))
  angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
  width, height = 4 * np.sqrt(np.maximum(values[::-1], 0))
  style = {'facecolor': 'none', 'edgecolor': 'black', 'linewidth': 1.2}
  return Ellipse(points.mean(axis=0), width, height, angle=angle, **style)
