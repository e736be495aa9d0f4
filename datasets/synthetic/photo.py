"""Synthetic garments: one photo of one item, with its truth.

The camera, what is in front of the lens, the visibility of the landmarks and
the order of painting. The truth is read off the outlines that are painted.
"""

import dataclasses

import cv2
import numpy as np

from fld_jax import landmark_sets, schema
from fld_jax.datasets.synthetic import garments, paint, shapes
from fld_jax.datasets.synthetic.scene import Layer, Scene

EMPTY = np.zeros((0, 2))
RING = [(2 * np.cos(a), 2 * np.sin(a)) for a in np.arange(8) * np.pi / 4]


@dataclasses.dataclass(frozen=True)
class Photo:
  """A photo and its truth, in pixels.

  Attributes:
    image: (H, W, 3) uint8 RGB.
    box: (4,) float32, x1 y1 x2 y2.
    landmarks: (8, 2) float32; (0, 0) where truncated or absent.
    visibility: (8,) int32 codes of `schema`.
    layers: The painted outlines in pixels, back to front (for tests).
    owner: (8,) index of the layer that each landmark lies on; -1 where absent.
  """

  image: np.ndarray
  box: np.ndarray
  landmarks: np.ndarray
  visibility: np.ndarray
  layers: list[Layer]
  owner: np.ndarray


def draw_photo(
  rng: np.random.Generator, item: garments.Item, variation: int
) -> Photo:
  """Draws one photo.

  Args:
    rng: The source of all randomness.
    item: The garment.
    variation: The code of the variation, see `schema.VARIATIONS`: it sets the
      amplitude of the pose and the zoom.

  Returns:
    The photo, 160 to 200 pixels on its long side.
  """
  scene = Scene(rng, item, variation)
  height = int(rng.integers(160, 201))
  size = int(height * rng.uniform(0.62, 0.95)), height
  layers, marks, scale = _shoot(rng, scene, size, variation)
  own = np.concatenate([layer.outline for layer in layers if layer.own])
  box = _box(rng, own, *size)
  layers += _occluders(rng, own)
  landmarks, visibility, owner = _truth(scene, layers, marks, size)
  image = paint.background(rng, *size)
  folds = paint.folds(rng, *size, scale)
  for layer in layers:
    if layer.item is None:
      paint.plain(image, layer.outline, layer.color)
    else:
      paint.cloth(
        image, layer.outline, layer.item, layer.axis, folds, layer.joined
      )
  image = paint.finish(rng, image)
  return Photo(image, box, landmarks, visibility, layers, owner)


def _shoot(
  rng: np.random.Generator, scene: Scene, size: tuple[int, int], variation: int
) -> tuple[list[Layer], np.ndarray, float]:
  """Warps a scene and chooses a camera.

  Args:
    rng: The source of all randomness.
    scene: The scene.
    size: (width, height) of the photo in pixels.
    variation: The code of the variation.

  Returns:
    The layers in pixels; the landmarks (K, 2) in pixels, in the order of
    `scene.points`; the pixels of a body unit.
  """
  # One array for all points: they are many small ones, and calls cost.
  pieces = [np.stack([point for point, _ in scene.points.values()])]
  for layer in scene.layers:
    pieces += [layer.outline, EMPTY if layer.axis is None else layer.axis]
  lengths = [len(piece) for piece in pieces]
  points = np.concatenate(pieces)
  bent = [scene.layers[k].upright for _, k in scene.points.values()]
  each = [layer.upright for layer in scene.layers for _ in range(2)]
  bent = np.concatenate([bent, np.repeat(each, lengths[1:])])
  points[bent] = shapes.on_spine(scene.pose, points[bent])
  points = shapes.warp(scene.pose, points)
  is_own = [False] + [x for layer in scene.layers for x in (layer.own, False)]
  own = points[np.repeat(is_own, lengths)]
  camera = _camera(rng, own, points[: lengths[0]], size, variation)
  points = points @ camera[:, :2].T + camera[:, 2]
  marks, *parts = np.split(points, np.cumsum(lengths)[:-1])
  layers = [
    dataclasses.replace(layer, outline=outline, axis=axis)
    for layer, outline, axis in zip(
      scene.layers, parts[::2], parts[1::2], strict=True
    )
  ]
  return layers, marks, float(np.hypot(*camera[:, 0]))


def _truth(
  scene: Scene, layers: list[Layer], marks: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Tells which landmarks can be seen.

  Args:
    scene: The scene.
    layers: All layers in pixels, back to front.
    marks: (K, 2) the landmarks in pixels, in the order of `scene.points`.
    size: (width, height) of the photo in pixels.

  Returns:
    Landmarks (8, 2), visibility (8,) and owners (8,), see `Photo`.
  """
  landmarks = np.zeros((8, 2), np.float32)
  visibility = np.full(8, schema.ABSENT, np.int32)
  owner = np.full(8, -1)
  contours = [
    (k, layer.outline.astype(np.float32))
    for k, layer in enumerate(layers)
    if not layer.flat
  ]
  for (x, y), name in zip(marks.tolist(), scene.points, strict=True):
    slot = landmark_sets.FASHION_8.names.index(name)
    owner[slot] = scene.points[name][1]
    if not (0 <= x < size[0] and 0 <= y < size[1]):
      visibility[slot] = schema.TRUNCATED
      continue
    landmarks[slot] = x, y
    own = layers[owner[slot]].outline.astype(np.float32)
    covers = [c for k, c in contours if k > owner[slot]]
    hidden = _hidden((x, y), own, covers)
    visibility[slot] = schema.OCCLUDED if hidden else schema.VISIBLE
  return landmarks, visibility, owner


def _hidden(
  point: tuple[float, float], own: np.ndarray, covers: list[np.ndarray]
) -> bool:
  """Whether later layers cover a point of a layer and the cloth beside it.

  More than a pixel inside a cover it is hidden; close to a cover's edge it is
  hidden if all of its own layer 2 pixels around it is.

  Args:
    point: The point x, y in pixels.
    own: (K, 2) float32 outline of the point's layer.
    covers: The float32 outlines of the layers in front of it.
  """
  depth = [cv2.pointPolygonTest(cover, point, True) for cover in covers]
  if max(depth, default=-9) > 1:
    return True
  near = [c for c, d in zip(covers, depth, strict=True) if d > -2]
  if not near:
    return False
  around = [(point[0] + dx, point[1] + dy) for dx, dy in RING]
  cloth = [p for p in around if cv2.pointPolygonTest(own, p, False) > 0]
  return all(
    # A cover is drawn with a seam that is a pixel wide.
    any(cv2.pointPolygonTest(cover, p, True) >= -0.8 for cover in near)
    for p in cloth
  )


def _box(
  rng: np.random.Generator, own: np.ndarray, width: int, height: int
) -> np.ndarray:
  """Draws the bounds of the garment with a margin of up to 4 %.

  Args:
    rng: The source of all randomness.
    own: (K, 2) corners of the garment's outlines in pixels.
    width: The width of the photo in pixels.
    height: The height of the photo in pixels.

  Returns:
    (4,) float32, x1 y1 x2 y2, inside the image.
  """
  limit = np.array([width, height])
  low, high = np.clip(own.min(0), 0, limit), np.clip(own.max(0), 0, limit)
  margin = (high - low) * rng.uniform(0, 0.04, (2, 2))
  low, high = low - margin[0], high + margin[1]
  return np.clip(np.concatenate([low, high]), 0, np.tile(limit, 2)).astype(
    np.float32
  )


def _camera(
  rng: np.random.Generator,
  own: np.ndarray,
  marks: np.ndarray,
  size: tuple[int, int],
  variation: int,
) -> np.ndarray:
  """Draws a camera.

  The pose subsets show the whole garment. The zoom-ins choose among random
  close-ups one that cuts off a quarter (medium) or half (large) of the
  landmarks, at least one, and keeps two.

  Args:
    rng: The source of all randomness.
    own: (K, 2) corners of the garment's outlines in body units.
    marks: (M, 2) landmarks in body units.
    size: (width, height) of the photo in pixels.
    variation: The code of the variation.

  Returns:
    (2, 3) affine map from body units to pixels.
  """
  spread = {1: 0.06, 2: 0.15, 3: 0.35, 4: 0.12, 5: 0.15}[variation]
  roll = rng.uniform(-spread, spread)
  turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
  own, marks = own @ turn.T, marks @ turn.T
  low, high = own.min(0), own.max(0)
  size = np.array(size, float)
  fit = (size / (high - low)).min()
  if variation in (1, 2, 3):
    scale = fit * rng.uniform(0.6, 0.95)
    slack = size - scale * (high - low)
    shift = slack * rng.uniform(0.1, 0.9, 2) - scale * low
  else:
    want = max(1, round(len(marks) * (0.25 if variation == 4 else 0.5)))
    want = min(want, len(marks) - 2)
    zoom = (1.05, 2.0) if variation == 4 else (1.2, 2.6)
    scales = fit * rng.uniform(*zoom, (64, 1))
    middle, half = (low + high) / 2, 0.38 * (high - low)
    centres = middle + half * rng.uniform(-1, 1, (64, 2))
    shifts = size / 2 - scales * centres
    seen = marks * scales[:, None] + shifts[:, None]
    inside = ((seen >= 0) & (seen < size)).all(2).sum(1)
    extra = inside - (len(marks) - want)
    # Of equally wrong close-ups the one that shows more.
    best = np.where(extra < 0, 0.5 - extra, extra).argmin()
    scale, shift = scales[best, 0], shifts[best]
  return np.concatenate([scale * turn, shift[:, None]], 1)


def _occluders(rng: np.random.Generator, own: np.ndarray) -> list[Layer]:
  """Draws zero to two objects in front of the garment, in pixels.

  Args:
    rng: The source of all randomness.
    own: (K, 2) corners of the garment's outlines in pixels.
  """
  low, high = own.min(0), own.max(0)
  size = float(np.sqrt(np.prod(high - low)))
  found = []
  for _ in range(int(rng.choice([0, 1, 2], p=[0.7, 0.25, 0.05]))):
    centre = rng.uniform(low, high)
    radius = size * rng.uniform(0.07, 0.17, 2)
    turn = rng.uniform(0, 2 * np.pi)
    corners = 4 if rng.random() < 0.6 else 18
    start = np.pi / 4 if corners == 4 else 0
    a = np.linspace(0, 2 * np.pi, corners, endpoint=False) + start
    shape = np.stack([np.cos(a), np.sin(a)], 1) * radius
    turn = np.array([np.cos(turn), np.sin(turn)])
    turn = np.array([[turn[0], -turn[1]], [turn[1], turn[0]]])
    color = tuple(int(c) for c in rng.integers(20, 235, 3))
    outline = centre + shape @ turn.T
    found.append(Layer(outline, color=color))
    if corners == 4:  # a bag: its strap runs up to the edge of the picture
      strap = np.array([outline[0], outline[0] + (2, 0)])
      up = strap[::-1] + (rng.uniform(-0.3, 0.3) * size, -3 * size)
      found.append(Layer(np.concatenate([strap, up]), color=color))
  return found
