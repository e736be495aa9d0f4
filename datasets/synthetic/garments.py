"""Synthetic garments: what one item looks like, whatever the photo.

An item has a cut (numbers in body units, see `shapes`), colours, a
texture tile and exact attributes; all its photos share them.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

UPPER, LOWER, FULL = 1, 2, 3  # codes of schema.CLOTHES_TYPES
TILE = 64  # side of a texture tile in pixels; tiles repeat without a seam

# RGB of the cloth; an item's colour is drawn close to one of these.
COLORS = {
  'black': (38, 36, 42),
  'white': (232, 230, 226),
  'grey': (132, 134, 138),
  'red': (188, 38, 46),
  'yellow': (222, 186, 62),
  'green': (56, 120, 78),
  'blue': (48, 84, 160),
  'pink': (224, 142, 164),
}

ATTRIBUTE_GROUPS = {
  'category': ('top', 'trousers', 'skirt', 'dress'),
  'color': tuple(COLORS),
  'pattern': ('plain', 'striped', 'checked', 'dotted', 'floral'),
  'sleeve_length': ('sleeveless', 'short', 'long'),
  'neckline': ('round', 'v', 'shirt'),
  'length': ('mini', 'midi', 'maxi'),
  'fit': ('slim', 'loose'),
}
ATTRIBUTE_NAMES = tuple(
  f'{group}/{name}'
  for group, names in ATTRIBUTE_GROUPS.items()
  for name in names
)


@dataclasses.dataclass(frozen=True)
class Item:
  """One garment.

  Attributes:
    clothes_type: The code of the clothes type, see `schema.CLOTHES_TYPES`.
    choices: Attribute group -> the name chosen, for the groups that apply.
    cut: The numbers of the cut in body units, see `draw_item`.
    tile: (TILE, TILE, 3) uint8 RGB, seamless.
    trim: The RGB colour of the seams, 0 to 255.
  """

  clothes_type: int
  choices: dict[str, str]
  cut: dict[str, float]
  tile: np.ndarray
  trim: tuple[int, int, int]

  def attributes(self) -> np.ndarray:
    """The item's attributes, in the order of ATTRIBUTE_NAMES.

    Returns:
      (A,) int8: 1 has it, -1 has it not, 0 the group does not apply.
    """
    return np.array(
      [
        0 if group not in self.choices else 2 * (self.choices[group] == n) - 1
        for group, names in ATTRIBUTE_GROUPS.items()
        for n in names
      ],
      np.int8,
    )


def draw_item(
  rng: np.random.Generator,
  clothes_type: int | None = None,
  quiet: bool = False,
) -> Item:
  """Draws an item.

  Args:
    rng: The source of all randomness.
    clothes_type: The code of the clothes type; None draws one.
    quiet: Whether the item is plain and dull, for what is worn beside the item
      in question.

  Returns:
    The item. Its cut has `sleeve` (share of the arm that it covers), `cuff`
    (half-width of the cuff), `collar` (half-width of the neckline), `neck` (its
    depth), `ease` (added to every half-width), `hem` (length below the neck, or
    of trousers the share of the leg), `flare` (half-width added at the hem),
    `waist` (height of the waist line below the neck).
  """
  if clothes_type is None:
    clothes_type = int(rng.choice([UPPER, LOWER, FULL], p=[0.4, 0.3, 0.3]))
  pick = {
    group: names[rng.integers(len(names))]
    for group, names in ATTRIBUTE_GROUPS.items()
  }
  pick['category'] = {
    UPPER: 'top',
    LOWER: pick['category']
    if pick['category'] in ('trousers', 'skirt')
    else ('trousers', 'skirt')[rng.integers(2)],
    FULL: 'dress',
  }[clothes_type]
  if clothes_type == LOWER:
    del pick['sleeve_length'], pick['neckline']
  if clothes_type == UPPER:
    del pick['length']
  base = np.array(COLORS[pick['color']]) + rng.uniform(-14, 14, 3)
  if quiet:
    pick['pattern'] = 'plain'
    base = 0.25 * base + 0.75 * np.full(3, rng.uniform(60, 215))
  other = _contrast(rng, base)
  return Item(
    clothes_type=clothes_type,
    choices=pick,
    cut=_draw_cut(rng, pick),
    tile=draw_tile(rng, pick['pattern'], base, other),
    trim=tuple(int(v) for v in (other if rng.random() < 0.4 else base * 0.6)),
  )


def _draw_cut(
  rng: np.random.Generator, pick: dict[str, str]
) -> dict[str, float]:
  """Draws the numbers of the cut that follow from the attributes.

  Args:
    rng: The source of all randomness.
    pick: Attribute group -> the name chosen.
  """
  loose = pick['fit'] == 'loose'
  u = rng.uniform
  sleeve = {
    'sleeveless': (0.0, 0.0),
    'short': (0.28, 0.48),
    'long': (0.82, 0.98),
  }[pick.get('sleeve_length', 'short')]
  hem = {
    'top': {None: (2.35, 3.1)},
    'dress': {'mini': (3.5, 4.0), 'midi': (4.4, 5.0), 'maxi': (5.6, 6.4)},
    'skirt': {'mini': (3.3, 3.8), 'midi': (4.3, 4.9), 'maxi': (5.6, 6.4)},
    'trousers': {'mini': (0.3, 0.45), 'midi': (0.58, 0.75), 'maxi': (0.88, 1)},
  }[pick['category']][pick.get('length')]
  flare = {'top': (0, 0.15), 'trousers': (0, 0.08)}.get(
    pick['category'], (-0.05, 0.15)
  )
  if loose:
    flare = (flare[1], 3 * flare[1] + 0.35 * (pick['category'] != 'trousers'))
  return {
    'sleeve': u(*sleeve),
    'cuff': u(0.3, 0.42) if loose else u(0.17, 0.23),
    'collar': u(0.3, 0.42) if pick.get('neckline') == 'shirt' else u(0.36, 0.6),
    'neck': {'round': u(0.25, 0.5), 'v': u(0.7, 1.1), 'shirt': u(0.3, 0.45)}[
      pick.get('neckline', 'round')
    ],
    'ease': u(0.14, 0.3) if loose else u(0.0, 0.06),
    'hem': u(*hem),
    'flare': u(*flare),
    'waist': u(1.9, 2.25),
  }


def _contrast(rng: np.random.Generator, base: np.ndarray) -> np.ndarray:
  """Draws a second RGB colour, far from the first."""
  palette = np.array(list(COLORS.values()), float)
  far = palette[np.abs(palette - base).sum(1) > 150]
  return far[rng.integers(len(far))]


def draw_tile(
  rng: np.random.Generator, pattern: str, base: np.ndarray, other: np.ndarray
) -> np.ndarray:
  """Draws a texture.

  Args:
    rng: The source of all randomness.
    pattern: The name of the pattern, one of ATTRIBUTE_GROUPS['pattern'].
    base: (3,) RGB of the ground, 0 to 255.
    other: (3,) RGB of the figure, 0 to 255.

  Returns:
    (TILE, TILE, 3) uint8 RGB that repeats without a seam.
  """
  y, x = np.mgrid[:TILE, :TILE]
  period = TILE // int(rng.choice([2, 4]))
  width = period * rng.uniform(0.25, 0.5)
  if pattern == 'striped':
    share = ((x if rng.random() < 0.5 else y) % period < width).astype(float)
  elif pattern == 'checked':
    share = ((x % period < width) * 0.5) + ((y % period < width) * 0.5)
  elif pattern == 'dotted':
    r = np.hypot(x % period - period / 2, y % period - period / 2)
    share = (r < period * rng.uniform(0.2, 0.36)).astype(float)
  else:
    share = np.zeros((TILE, TILE))
  tile = base + 0.7 * share[..., None] * (np.asarray(other) - base)
  tile = np.clip(tile, 0, 255).astype(np.uint8)
  if pattern == 'floral':
    leaf = np.clip(0.5 * base + (10, 50, 10), 0, 255)
    for _ in range(7):
      cx, cy = rng.integers(0, TILE, 2)
      color = other if rng.random() < 0.6 else leaf
      r, turn = int(rng.integers(4, 8)), rng.uniform(0, 2)
      for k in range(5):
        a = turn + k * 2 * np.pi / 5
        _disc(tile, cx + r * np.cos(a), cy + r * np.sin(a), r * 0.7, color)
      _disc(tile, cx, cy, r * 0.5, (230, 200, 90))
  return tile


def _disc(
  tile: np.ndarray, cx: float, cy: float, radius: float, color: Sequence[float]
) -> None:
  """Draws a disc, in place, that goes on at the opposite edge.

  Args:
    tile: (TILE, TILE, 3) uint8 RGB.
    cx: The x of the centre in pixels.
    cy: The y of the centre in pixels.
    radius: The radius in pixels.
    color: The RGB colour, 0 to 255.
  """
  color, radius = [int(c) for c in color], int(radius)
  cx, cy = int(cx) % TILE, int(cy) % TILE
  low, high = radius + 1, TILE - radius - 1
  for x in (cx, cx + TILE * ((cx < low) - (cx > high))):
    for y in (cy, cy + TILE * ((cy < low) - (cy > high))):
      cv2.circle(tile, (x, y), radius, color, -1)
