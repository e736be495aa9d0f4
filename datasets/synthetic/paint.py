"""Synthetic garments: pixels. Outlines are in pixels, colours are RGB."""

from collections.abc import Sequence

import cv2
import numpy as np

from fld_jax.datasets.synthetic import garments

SHIFT = 4  # fractional bits of OpenCV's polygon corners


def _fixed(outline: np.ndarray) -> np.ndarray:
  """Converts (K, 2) corners for OpenCV, to whom a pixel's centre is whole."""
  return np.round((outline - 0.5) * (1 << SHIFT)).astype(np.int32)[None]


def plain(image: np.ndarray, outline: np.ndarray, color: Sequence[int]) -> None:
  """Fills an outline with one colour and shades its edge, in place.

  Args:
    image: (H, W, 3) uint8 RGB.
    outline: (K, 2) corners in pixels.
    color: The RGB colour, 0 to 255.
  """
  corners = _fixed(outline)
  cv2.fillPoly(image, corners, color, cv2.LINE_AA, SHIFT)
  edge = [int(0.78 * c) for c in color]
  cv2.polylines(image, corners, True, edge, 1, cv2.LINE_AA, SHIFT)


def folds(
  rng: np.random.Generator, width: int, height: int, scale: float
) -> np.ndarray:
  """Draws a field of folds over the picture.

  Args:
    rng: The source of all randomness.
    width: The width of the picture in pixels.
    height: The height of the picture in pixels.
    scale: The pixels of a body unit, which set the size of the folds.

  Returns:
    (H, W) float32, about -1 to 1.
  """
  along = max(3, int(height / scale * 1.2) + 2)
  across = max(3, int(width / scale * 3.5) + 2)
  coarse = rng.uniform(-1, 1, (along, across)).astype(np.float32)
  # Enlarged and slanted at once.
  zoom_x, zoom_y = width / across, height / along
  slant = rng.uniform(-0.5, 0.5) * zoom_y
  matrix = np.array([[zoom_x, slant, 0], [0, zoom_y, 0]])
  flags, border = cv2.INTER_CUBIC, cv2.BORDER_REFLECT
  return cv2.warpAffine(
    coarse, matrix, (width, height), flags=flags, borderMode=border
  )


def cloth(
  image: np.ndarray,
  outline: np.ndarray,
  item: garments.Item,
  axis: np.ndarray,
  field: np.ndarray,
  joined: bool = False,
) -> None:
  """Paints a part of a garment in place: texture, folds, edge shading, seam.

  Args:
    image: (H, W, 3) uint8 RGB.
    outline: (K, 2) corners in pixels.
    item: The garment, which has the texture and the trim.
    axis: (2, 2) from one point of the part to another: the texture's y.
    field: (H, W) the result of `folds`.
    joined: Whether the side between the last and the first corner is sewn to
      another part and shows no edge.
  """
  height, width = image.shape[:2]
  x0, y0 = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
  x1, y1 = np.minimum(np.ceil(outline.max(0)).astype(int) + 1, (width, height))
  if x1 <= x0 or y1 <= y0:
    return
  mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
  corners = _fixed(outline - (x0, y0))
  cv2.fillPoly(mask, corners, 255, cv2.LINE_AA, SHIFT)
  length = np.hypot(*(axis[1] - axis[0]))
  down = (axis[1] - axis[0]) / length
  # Texture coordinates: a turn and a scale, bent a little by the folds. The
  # axis spans 1.3 to 2.5 body units; a tile covers about one.
  k = garments.TILE * 1.8 / length
  x = np.arange(x0, x1, dtype=np.float32)[None] - np.float32(axis[0, 0])
  y = np.arange(y0, y1, dtype=np.float32)[:, None] - np.float32(axis[0, 1])
  bend = field[y0:y1, x0:x1]
  u = np.float32(k * down[1]) * x - np.float32(k * down[0]) * y + 3 * bend
  v = np.float32(k * down[0]) * x + np.float32(k * down[1]) * y + 2 * bend
  wrap = cv2.BORDER_WRAP
  filled = cv2.remap(item.tile, u, v, cv2.INTER_LINEAR, borderMode=wrap)
  # Darker towards the edge, as on a round body.
  side = max(3, int(0.35 * min(x1 - x0, y1 - y0))) | 1
  border, solid = cv2.BORDER_CONSTANT, mask
  if joined:  # the cloth goes on beyond the seam
    ends, border = outline[[0, -1]] - (x0, y0), cv2.BORDER_REPLICATE
    radius = int(0.6 * np.hypot(*(ends[0] - ends[1])))
    centre = [int(v) for v in ends.mean(0)]
    solid = cv2.circle(mask.copy(), centre, radius, 255, -1)
  round_off = cv2.blur(solid, (side, side), borderType=border)
  shade = round_off.astype(np.float32) * np.float32(0.5) + 76
  shade += 26 * bend
  shade = np.clip(shade, 0, 255).astype(np.uint8)
  filled = cv2.multiply(filled, cv2.merge([shade] * 3), scale=1 / 200)
  seam = [int(c) for c in item.trim]
  cv2.polylines(filled, corners, not joined, seam, 1, cv2.LINE_AA, SHIFT)
  view = image[y0:y1, x0:x1]
  weight = cv2.merge([mask] * 3).astype(np.uint16)
  view[:] = (filled * weight + view * (255 - weight) + 127) // 255


def background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
  """Draws a wall, a room or clutter.

  Args:
    rng: The source of all randomness.
    width: The width of the picture in pixels.
    height: The height of the picture in pixels.

  Returns:
    (H, W, 3) uint8 RGB.
  """
  coarse = rng.integers(100, 250, (2, 2, 3))
  if rng.random() < 0.6:  # a wall of one colour, unevenly lit
    coarse = rng.integers(110, 250, 3) + rng.integers(-25, 25, (2, 2, 3))
  coarse = np.clip(coarse, 0, 255).astype(np.uint8)
  coarse = _mute(rng, coarse)
  small = cv2.resize(coarse, (48, 64), interpolation=cv2.INTER_LINEAR)
  if rng.random() < 0.4:  # the floor
    floor = _mute(rng, rng.integers(80, 220, 3)).tolist()
    small[int(rng.integers(40, 60)) :] = floor
  for _ in range(int(rng.choice([0, 3, 9], p=[0.5, 0.35, 0.15]))):
    color = _mute(rng, rng.integers(60, 250, 3)).tolist()
    x, y = (int(v) for v in rng.integers(0, (48, 64)))
    w, h = (int(v) for v in rng.integers(3, 22, 2))
    if rng.random() < 0.6:
      cv2.rectangle(small, (x, y), (x + w, y + h), color, -1)
    else:
      cv2.ellipse(small, (x, y), (w // 2, h // 2), 0, 0, 360, color, -1)
  if rng.random() < 0.3:
    noise = rng.integers(0, 30, small.shape[:2], dtype=np.uint8)
    small = cv2.add(small, cv2.merge([noise] * 3))
  soft = cv2.INTER_CUBIC if rng.random() < 0.85 else cv2.INTER_LINEAR
  return cv2.resize(small, (width, height), interpolation=soft)


def _mute(rng: np.random.Generator, color: np.ndarray) -> np.ndarray:
  """Mixes RGB colours with their grey; the result is uint8."""
  grey = color.mean(-1, keepdims=True)
  return (grey + rng.uniform(0.1, 0.5) * (color - grey)).astype(np.uint8)


def finish(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """Applies a colour cast, brightness, contrast, blur and noise.

  Args:
    rng: The source of all randomness.
    image: (H, W, 3) uint8 RGB.

  Returns:
    (H, W, 3) uint8 RGB.
  """
  gain = rng.uniform(0.8, 1.12) * rng.uniform(0.93, 1.07, 3)
  shift = rng.uniform(-12, 22)
  table = np.arange(256)[:, None] * gain + shift
  table = np.clip(table, 0, 255).astype(np.uint8)[:, None]
  image = cv2.LUT(image, table)
  if rng.random() < 0.25:
    image = cv2.GaussianBlur(image, (3, 3), 0)
  grain = int(rng.integers(1, 14))
  noise = rng.integers(0, grain, image.shape, dtype=np.uint8)
  return cv2.subtract(cv2.add(image, noise), grain // 2)


def encode(image: np.ndarray) -> bytes:
  """Encodes an image as JPEG of quality 90.

  Args:
    image: (H, W, 3) uint8 RGB.

  Returns:
    The bytes of the file.

  Raises:
    RuntimeError: OpenCV cannot encode the image.
  """
  flags = [cv2.IMWRITE_JPEG_QUALITY, 90]
  done, data = cv2.imencode('.jpg', image[..., ::-1], flags)
  if not done:
    raise RuntimeError('OpenCV could not encode the image')
  return data.tobytes()
