"""Plots of the evaluated data: what there is, and where landmarks lie."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from fld_jax import schema
from fld_jax.evaluation.facts import Facts
from fld_jax.evaluation.text_tables import words
from fld_jax.visualization.drawing import COLOURS, SIDE_COLOURS


def plot_data(facts: Facts) -> Figure:
  """Shares of types, variations and visibility states (DFA, Figure 2 c)."""
  data, names = facts.data, facts.landmarks.names
  figure = Figure(figsize=(10, 1.2 + 0.26 * max(6, len(names))))
  panels = figure.subplots(1, len(data.groups) + 1, squeeze=False)[0]
  for axes, (group, counts) in zip(panels, data.groups.items(), strict=False):
    shares = [100 * (count / data.total) for count in counts.values()]
    bars = axes.barh([words(name) for name in counts], shares)
    axes.bar_label(bars, fmt='%.1f', padding=3)
    axes.set(title=words(group), xlabel='images (%)')
    axes.margins(x=0.18)
    axes.grid(axis='y', visible=False)
    axes.invert_yaxis()
  axes, left = panels[-1], np.zeros(len(names))
  for code, colour in enumerate((COLOURS[2], COLOURS[4], COLOURS[3])):
    share = 100 * data.states[:, code] / np.maximum(1, data.present)
    label = schema.VISIBILITY_NAMES[code]
    axes.barh(
      [words(n) for n in names], share, left=left, color=colour, label=label
    )
    left += share
  axes.set(title='visibility', xlabel='items that have the landmark (%)')
  axes.grid(axis='y', visible=False)
  axes.invert_yaxis()
  axes.legend(loc='lower center', bbox_to_anchor=(0.5, 1.08), ncols=3)
  return figure


def plot_places(facts: Facts) -> Figure:
  """Where each landmark lies in the box (DFA, Figure 1 b)."""
  data, landmarks = facts.data, facts.landmarks
  count = landmarks.num_landmarks
  columns = 4 if count <= 8 else 6
  lines = -(-count // columns)
  figure = Figure(figsize=(9, 0.5 + 9 / columns * 1.08 * lines))
  panels = figure.subplots(lines, columns, sharex=True, sharey=True).ravel()
  for axes in panels[count:]:
    axes.set_axis_off()
  for slot, axes in enumerate(panels[:count]):
    points, colour = data.positions[slot], SIDE_COLOURS[landmarks.sides[slot]]
    axes.plot(*points.T, '.', color=colour, markersize=2.5, alpha=0.35)
    ellipse = data.ellipses[slot]
    if ellipse:
      axes.add_patch(
        Ellipse(
          ellipse.centre,
          ellipse.width,
          ellipse.height,
          angle=ellipse.angle,
          facecolor='none',
          edgecolor='black',
          linewidth=1.2,
        )
      )
    axes.set(
      title=words(landmarks.names[slot]),
      xlim=(-0.15, 1.15),
      ylim=(1.15, -0.15),
      aspect='equal',
      xticks=(0, 0.5, 1),
      yticks=(0, 0.5, 1),
    )
  figure.supxlabel('share of the box’s width', fontsize=10)
  figure.supylabel('share of the box’s height', fontsize=10)
  return figure
