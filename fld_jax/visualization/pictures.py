"""Pictures of a report that show images: clusters, mean patches, overlays."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from fld_jax.evaluation.facts import Facts, RunFacts
from fld_jax.evaluation.mean_images import MAX_EXAMPLES, PATCH, TILE, Cluster
from fld_jax.evaluation.text_tables import percent, words
from fld_jax.visualization import drawing, sheets

GAP, TEXT = 14, 30  # pixels between the tiles of clusters, and above them
_PALETTE_PIXELS = 250_000  # so many tell the palette of a larger picture
# Colours with a meaning, which no palette may change.
_KEPT = (
  drawing.LEFT,
  drawing.RIGHT,
  drawing.MIDDLE,
  drawing.WHITE,
  drawing.BLACK,
)
TITLE = 44  # pixels above all clusters
# What is drawn on a cluster's mean image, by the space of the pseudo-labels.
DRAWN = {
  'absolute': 'dots: the centre, positions of the landmarks',
  'offset': 'the centre, errors of the stage before: from where it puts each '
  'landmark to the dot, its mean place',
  'context_offset': 'the centre, errors of the stage before that come '
  'together: along the lines, one way or the other',
}


def plot_patches(facts: Facts) -> Figure | None:
  """The mean surroundings of each landmark (DFA, Figure 1 c).

  None if the images are not there.
  """
  if not facts.first.run.has_images:
    return None
  columns = 8
  lines = -(-len(facts.patches) // columns)
  figure = Figure(figsize=(9, 1.45 * lines))
  panels = figure.subplots(lines, columns, squeeze=False).ravel()
  for axes in panels:
    axes.set_axis_off()
  for axes, patch, name in zip(
    panels, facts.patches, facts.landmarks.names, strict=False
  ):
    axes.imshow(patch)
    axes.plot(*[(PATCH - 1) / 2] * 2, '+', color='white', markersize=9)
    axes.set_title(words(name), fontsize=9, fontweight='normal')
  return figure


def draw_clusters(facts: Facts, run: RunFacts, stage: str) -> np.ndarray:
  """Draws the clusters of a stage: mean images with centres, and examples.

  Clusters without images are left out, and counted in the title.

  Args:
    facts: The report's facts.
    run: The run.
    stage: The stage's name.

  Returns:
    (H, W, 3) uint8 RGB.
  """
  clusters = run.clusters[stage]
  found = [cluster for cluster in clusters if cluster.mean is not None]
  columns = min(5, len(found))
  lines = -(-len(found) // columns)
  width, height = TILE + TILE // MAX_EXAMPLES + GAP, TILE + TEXT + GAP
  shape = (lines * height + TITLE, columns * width, 3)
  mosaic = np.full(shape, 255, np.uint8)
  figure = Figure(
    figsize=(shape[1] / 80, shape[0] / 80), dpi=110, layout='none'
  )
  axes = figure.add_axes((0, 0, 1, 1))
  colours = [drawing.SIDE_COLOURS[side] for side in facts.landmarks.sides]
  space = run.run.stage_config(stage).pseudo_label.space
  axes.text(
    GAP // 2,
    4,
    _clusters_title(clusters, found, stage, space),
    fontsize=9,
    va='top',
  )
  for place, cluster in enumerate(found):
    y = (place // columns) * height + TEXT + TITLE
    x = (place % columns) * width + GAP // 2
    share = f'{percent(cluster.share, decimals=1)} % of the images'
    ne = ''
    if cluster.ne is not None:
      ne = f', NE {percent(cluster.ne, decimals=1)} %'
    title = f'Cluster {cluster.number}{ne}\n{share}'
    axes.text(x, y - 4, title, fontsize=7.5, va='bottom')
    _place_tiles(mosaic, cluster, x, y)
    _draw_centre(axes, cluster, space, colours, (x, y))
  axes.imshow(mosaic, interpolation='bilinear')
  axes.set(xlim=(0, mosaic.shape[1]), ylim=(mosaic.shape[0], 0))
  axes.set_axis_off()
  return pixels(figure)


def _clusters_title(
  clusters: list[Cluster], found: list[Cluster], stage: str, space: str
) -> str:
  """What stands above the clusters of a stage."""
  title = f'{stage}: mean image and examples of {len(found)} clusters'
  if len(found) < len(clusters):
    title += f'; {len(clusters) - len(found)} without images are left out'
  sentence = DRAWN[space]
  return f'{title}\n{sentence[0].upper()}{sentence[1:]}'


def _place_tiles(mosaic: np.ndarray, cluster: Cluster, x: int, y: int) -> None:
  """Writes a cluster's mean and examples into a mosaic.

  Args:
    mosaic: (H, W, 3) uint8; it is changed.
    cluster: The cluster.
    x: The left edge of the mean in the mosaic, in pixels.
    y: The upper edge of the mean in the mosaic, in pixels.
  """
  mosaic[y : y + TILE, x : x + TILE] = cluster.mean
  small = TILE // MAX_EXAMPLES
  left = x + TILE + 1
  for number, example in enumerate(cluster.examples):
    top = y + number * small
    tiny = example[:: TILE // small, :: TILE // small][:small, :small]
    mosaic[top : top + small, left : left + small] = tiny


def _draw_centre(
  axes: Axes,
  cluster: Cluster,
  space: str,
  colours: list[str],
  corner: tuple[int, int],
) -> None:
  """Draws a centre onto the mean image of its cluster.

  Args:
    axes: The axes of the mosaic.
    cluster: The cluster.
    space: The space of the stage's pseudo-labels.
    colours: N colours of the landmarks.
    corner: The (x, y) of the mean image in the mosaic.
  """
  to_mosaic = lambda points: (np.asarray(points) + 0.5) * TILE + corner
  tile = Rectangle(corner, TILE, TILE, transform=axes.transData)
  dot = {'marker': 'o', 'linestyle': '', 'markeredgecolor': 'white'}
  for slot in cluster.slots:
    colour, position = colours[slot], cluster.positions[slot]
    if cluster.moves is None:
      axes.plot(*to_mosaic(position), **dot, color=colour, markersize=5)
      continue
    end, move = to_mosaic(position), cluster.moves[slot]
    ends = [end, to_mosaic(position + move)]
    if space != 'offset':  # the sign is not known
      ends = [to_mosaic(position - move), to_mosaic(position + move)]
    for line_colour, width in (('white', 3), (colour, 1.6)):
      (line,) = axes.plot(
        *np.transpose(ends), '-', color=line_colour, linewidth=width
      )
      line.set_clip_path(tile)
    axes.plot(*end, **dot, color=colour, markersize=4)


def overlays(facts: Facts, run: RunFacts) -> np.ndarray:
  """Draws example images: a line for each, its truth and its estimates.

  Args:
    facts: The report's facts.
    run: The run.

  Returns:
    (H, W, 3) uint8 RGB.
  """
  del facts  # a picture of one run alone
  loaded = run.run
  return sheets.overlay_sheet(
    loaded.image, loaded.predictions, run.example_rows, run.image_errors
  )


def png(figure: Figure) -> bytes:
  """Encodes a figure as PNG; equal figures give equal bytes.

  Args:
    figure: The figure.
  """
  buffer = io.BytesIO()
  # No version of matplotlib in it: equal inputs, equal bytes.
  figure.savefig(buffer, format='png', metadata={'Software': None})
  return buffer.getvalue()


def pixels(figure: Figure) -> np.ndarray:
  """Renders a figure.

  Args:
    figure: The figure.

  Returns:
    (H, W, 3) uint8 RGB.
  """
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3]


def photo_png(picture: np.ndarray) -> bytes:
  """Encodes a picture with photographs as PNG of 256 colours.

  That is a third of the size of one with all colours. Nothing is dithered:
  grain is seen more than the small steps of a palette chosen for the picture.
  The colours of sides and rims stay what they are.

  Args:
    picture: (H, W, 3) uint8 RGB.
  """
  buffer = io.BytesIO()
  count = 256 - len(_KEPT)
  # Of a large picture every second or third row and column tell the palette.
  # k-means goes on until less than one pixel in twenty changes its colour: to
  # the last one of them all takes ten times as long, for one decibel.
  height, width, _ = picture.shape
  step = max(1, int(np.sqrt(height * width / _PALETTE_PIXELS)))
  seen = Image.fromarray(picture[::step, ::step])
  moved = seen.width * seen.height // 20
  chosen = seen.quantize(count, kmeans=max(moved, 1))
  if step > 1:
    whole = Image.fromarray(picture)
    chosen = whole.quantize(palette=chosen, dither=Image.Dither.NONE)
  palette = np.array(chosen.getpalette(), np.uint8).reshape(-1, 3)[:count]
  indices = np.array(chosen)
  for place, colour in enumerate(_KEPT, len(palette)):
    indices[(picture == colour).all(axis=-1)] = place
  palette = np.concatenate([palette, np.array(_KEPT, np.uint8)])
  image = Image.fromarray(indices)
  image.putpalette(palette.ravel().tolist())
  image.save(buffer, 'PNG')
  return buffer.getvalue()
