"""Pictures of a report that show images: clusters, mean patches, overlays."""

import io

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fld_jax import geometry, schema
from fld_jax.cascade import pseudo_labels
from fld_jax.evaluation.analysis import (
  error_pattern,
  nearest_clusters,
  same_images,
  spread,
  words,
)
from fld_jax.evaluation.evaluated_run import EvaluatedRun
from fld_jax.metrics import mean_state
from fld_jax.visualization import drawing
from fld_jax.visualization.data_plots import colour_of

TILE, GAP, TEXT = 116, 14, 18  # pixels of a cluster's tile
EXAMPLES = 2
PATCH, PATCH_SHARE = 64, 0.3  # pixels; of the box's longer side


def crops_and_patches(
  run: EvaluatedRun, rows
) -> tuple[np.ndarray, list[np.ndarray]]:
  """What the means are taken of, with each image decoded once.

  Args:
    run: the run.
    rows: m rows of its images.

  Returns:
    (crops, patches): (m, TILE, TILE, 3) uint8, the networks' crops; for each
    landmark the (PATCH, PATCH, 3) mean of what is around it where it is
    visible, of stretched contrast; grey where it never is. Images are
    continued by their edges.
  """
  options = run.evaluation.config.input
  predictions = run.predictions
  crops = np.empty((len(rows), TILE, TILE, 3), np.uint8)
  shape = (len(run.names), PATCH, PATCH, 3)
  totals, counts = np.zeros(shape), np.zeros(len(run.names))
  for place, row in enumerate(rows):
    box = predictions.boxes[row]
    half = PATCH_SHARE * max(box[2:] - box[:2]) / 2
    grown = geometry.grow_box(box, options.margin)
    image, shift = _surrounded(run.image(row), grown, half)
    grown = grown + np.tile(shift, 2)
    affine = geometry.crop_affine(grown, TILE, options.crop)
    crops[place] = geometry.warp(image, grown, affine, TILE)
    for slot in np.flatnonzero(predictions.visibility[row] == schema.VISIBLE):
      point = predictions.landmarks[row, slot] + shift
      around = np.concatenate([point - half, point + half])
      affine = geometry.crop_affine(around, PATCH, 'pad_square')
      totals[slot] += geometry.warp(image, around, affine, PATCH)
      counts[slot] += 1
  means = totals / np.maximum(counts, 1)[:, None, None, None]
  low, high = np.quantile(means, (0.02, 0.98), axis=(1, 2, 3), keepdims=True)
  means = 255 * np.clip((means - low) / np.maximum(high - low, 1), 0, 1)
  means[counts == 0] = 200
  return crops, list(means.astype(np.uint8))


def _surrounded(image, box, more: float):
  """An image continued by its edges as far as `box`, and `more`, reach out.

  Returns:
    (image, shift): positions in the first are those in the old plus `shift`.
  """
  size = np.array(image.shape[1::-1])
  out = np.maximum(np.maximum(-box[:2], box[2:] - size).max(), 0) + more
  pad = int(np.ceil(min(out, 4 * size.max())))
  wide = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
  return wide, np.array([pad, pad])


def plot_patches(run: EvaluatedRun, patches) -> Figure:
  """The mean surroundings of each landmark (DFA, Figure 1 c)."""
  columns = 8
  lines = -(-len(patches) // columns)
  figure = Figure(figsize=(9, 1.45 * lines))
  panels = figure.subplots(lines, columns, squeeze=False).ravel()
  for axes in panels:
    axes.set_axis_off()
  for axes, patch, name in zip(panels, patches, run.names, strict=False):
    axes.imshow(patch)
    axes.plot(*[(PATCH - 1) / 2] * 2, '+', color='white', markersize=9)
    axes.set_title(words(name), fontsize=9, fontweight='normal')
  return figure


def plot_clusters(
  run: EvaluatedRun, stage: str, rows, crops
) -> tuple[Figure, list]:
  """Each cluster of a stage: mean image with its centre, and examples.

  Args:
    run: the run.
    stage: its name.
    rows: m rows of images.
    crops: (m, TILE, TILE, 3) of them.

  Returns:
    (figure, table): the clusters from the largest on, and for each its number,
    images of the split, their share, and the mean image NE of the final stage.
  """
  labels = nearest_clusters(run, stage)
  centres = run.evaluation.centres[stage]
  errors = run.image_errors[run.final]
  counts = np.bincount(labels, minlength=len(centres))
  order = np.argsort(-counts, kind='stable')
  columns = min(5, len(order))
  lines = -(-len(order) // columns)
  small = TILE // EXAMPLES
  width, height = TILE + small + GAP, TILE + TEXT + GAP
  mosaic = np.full((lines * height, columns * width, 3), 255, np.uint8)
  figure = Figure(
    figsize=(columns * width / 80, lines * height / 80), dpi=110, layout='none'
  )
  axes = figure.add_axes((0, 0, 1, 1))
  table = []
  for place, cluster in enumerate(order):
    y = (place // columns) * height + TEXT
    x = (place % columns) * width + GAP // 2
    of = errors[labels == cluster]
    of = of[np.isfinite(of)]
    ne = float(of.mean()) if of.size else None
    share = counts[cluster] / len(labels)
    table.append((int(cluster) + 1, int(counts[cluster]), float(share), ne))
    shown = '' if ne is None else f' · NE {100 * ne:.1f} %'
    axes.text(
      x,
      y - 4,
      f'{cluster + 1} · {100 * share:.1f} %{shown}',
      fontsize=8.5,
      va='bottom',
    )
    members = np.flatnonzero(labels[rows] == cluster)
    if not members.size:
      mosaic[y : y + TILE, x : x + TILE] = 225
      continue
    mosaic[y : y + TILE, x : x + TILE] = crops[members].mean(axis=0)
    for number, member in enumerate(members[:EXAMPLES]):
      top = y + number * small
      left = x + TILE + 1
      tiny = crops[member][:: TILE // small, :: TILE // small][:small, :small]
      mosaic[top : top + small, left : left + small] = tiny
    _draw_centre(axes, run, stage, cluster, rows[members], (x, y))
  axes.imshow(mosaic, interpolation='bilinear')
  axes.set(xlim=(0, mosaic.shape[1]), ylim=(mosaic.shape[0], 0))
  axes.set_axis_off()
  return figure, table


def _draw_centre(
  axes, run: EvaluatedRun, stage: str, cluster: int, rows, corner
):
  """Draws a centre onto the mean image of its members."""
  names = run.stages
  config = run.evaluation.config.stages[names.index(stage)].pseudo_label
  centre = np.asarray(run.evaluation.centres[stage][cluster], np.float64)
  codes = run.predictions.visibility[rows]
  known = schema.has_position(codes)
  truth = run.normalised(run.predictions.landmarks)[rows]
  mean = mean_state.MeanState.from_values(truth, known[..., None]).compute()
  place = lambda points: (np.asarray(points) + 0.5) * TILE + corner
  slots = np.flatnonzero(known.mean(axis=0) > 0.25)
  colours = [colour_of(name) for name in run.names]
  if config.space == 'absolute':
    points = place(centre.reshape(-1, 2) / pseudo_labels.PIXELS)
    for slot in slots:
      axes.plot(
        *points[slot],
        'o',
        color=colours[slot],
        markeredgecolor='white',
        markersize=5,
      )
    return
  if config.space == 'offset':
    moves = centre.reshape(-1, 2) / pseudo_labels.PIXELS
  else:
    moves = error_pattern(centre, config.context_transform)
    moves = moves / pseudo_labels.PIXELS
  for slot in slots:
    end, start = place(mean[slot]), place(mean[slot] + moves[slot])
    ends = [end, start]
    if config.space != 'offset':  # the sign is not known
      ends = [place(mean[slot] - moves[slot]), start]
    axes.plot(*np.transpose(ends), color='white', linewidth=3)
    axes.plot(*np.transpose(ends), color=colours[slot], linewidth=1.6)
    axes.plot(*end, 'o', color=colours[slot], markeredgecolor='white', ms=4)


def overlays(run: EvaluatedRun, first: EvaluatedRun, count: int) -> np.ndarray:
  """(H, W, 3): a line an image, truth and the estimate of each stage.

  Args:
    run: the run.
    first: the run that chooses the images, where `run` has them as well.
    count: of lines.
  """
  mine, theirs = same_images(run, first)
  place = dict(zip(theirs.tolist(), mine.tolist(), strict=True))
  rows = [place[row] for row in spread(first, count).tolist() if row in place]
  rows = rows or spread(run, count)
  norm = run.figures['norm']
  return drawing.overlay_sheet(run.image, run.predictions, rows, norm=norm)


def png(figure: Figure) -> bytes:
  """A figure as a PNG file."""
  buffer = io.BytesIO()
  # No version of matplotlib in it: equal inputs, equal bytes.
  figure.savefig(buffer, format='png', metadata={'Software': None})
  return buffer.getvalue()


def pixels(figure: Figure) -> np.ndarray:
  """A figure as (H, W, 3) uint8."""
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3]


def photo_png(picture) -> bytes:
  """A picture with photographs, in 256 colours: a third of the size."""
  buffer = io.BytesIO()
  image = Image.fromarray(picture)
  colours = image.quantize(256)
  dither = Image.Dither.FLOYDSTEINBERG
  places = np.array(image.quantize(palette=colours, dither=dither))
  # The lightest colour is the paper's white, and paper is not dithered.
  palette = np.array(colours.getpalette()).reshape(-1, 3)
  white = palette.sum(axis=1).argmax()
  palette[white] = 255
  places[(picture == 255).all(axis=-1)] = white
  dithered = Image.fromarray(places)
  dithered.putpalette(palette.ravel().tolist())
  dithered.save(buffer, 'PNG')
  return buffer.getvalue()
