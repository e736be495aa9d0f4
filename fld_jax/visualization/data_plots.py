"""Plots of the evaluated data: what there is, and where landmarks lie."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from fld_jax import schema
from fld_jax.evaluation.facts import Facts
from fld_jax.evaluation.text_tables import words
from fld_jax.visualization.drawing import SIDE_COLOURS

# Of visible, occluded, truncated; the colours of sides mean something else.
STATE_COLOURS = ('#c3c9d2', '#1d232c', '#CC79A7')


def plot_data(facts: Facts) -> Figure | None:
  """Shares of types, variations and visibility states (DFA, Figure 2 c).

  A panel that says nothing is left out: one group, or all visible. None if that
  leaves no panel.
  """
  data, names = facts.data, facts.landmarks.names
  groups = {
    group: counts
    for group, counts in data.groups.items()
    if sum(map(bool, counts.values())) > 1
  }
  has_states = bool(data.states[:, 1:].any())
  count = len(groups) + has_states
  if not count:
    return None
  figure = Figure(
    figsize=(10 if count > 1 else 6, 1.2 + 0.26 * max(6, len(names)))
  )
  panels = figure.subplots(1, count, squeeze=False)[0]
  for axes, (group, counts) in zip(panels, groups.items(), strict=False):
    shares = [100 * (count / data.total) for count in counts.values()]
    bars = axes.barh([words(name) for name in counts], shares)
    axes.bar_label(bars, fmt='%.1f', padding=3)
    axes.set(title=words(group), xlabel='images (%)')
    axes.margins(x=0.18)
    axes.grid(axis='y', visible=False)
    axes.invert_yaxis()
  if has_states:
    _plot_states(panels[-1], facts)
  return figure


def _plot_states(axes: Axes, facts: Facts) -> None:
  """Draws the shares of the visibility states of each landmark."""
  data, names = facts.data, facts.landmarks.names
  left = np.zeros(len(names))
  for code, colour in enumerate(STATE_COLOURS):
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
