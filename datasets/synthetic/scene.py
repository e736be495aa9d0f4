"""Synthetic garments: what a photo shows, as layers from back to front.

Everything is in body units and not yet warped, see `shapes`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from fld_jax import landmark_sets
from fld_jax.datasets.synthetic import garments, shapes

SKIN = ((236, 198, 172), (214, 168, 136), (176, 124, 92), (112, 76, 56))
HAIR = ((34, 26, 24), (86, 56, 38), (178, 138, 84), (120, 116, 114))


@dataclasses.dataclass(frozen=True)
class Layer:
  """One outline and what fills it.

  Attributes:
    outline: (K, 2) corners in body units, later in pixels.
    color: The RGB colour of a plain layer.
    item: The garment whose cloth fills the layer.
    own: Whether it is a part of the garment in question.
    axis: (2, 2) two points along which the texture runs.
    upright: Whether it is still to be bent with the spine.
    flat: Whether it lies on its garment and hides nothing of it.
    joined: Whether it is sewn to another part at its first corners.
  """

  outline: np.ndarray
  color: tuple[int, int, int] | None = None
  item: garments.Item | None = None
  own: bool = False
  axis: np.ndarray | None = None
  upright: bool = False
  flat: bool = False
  joined: bool = False


class Scene:
  """A person, or a hanger, with an item and other clothes.

  Attributes:
    pose: The pose.
    layers: The layers, back to front.
    points: Name of a landmark that the item has -> its point (2,) and the index
      of the layer that it lies on.
  """

  def __init__(
    self, rng: np.random.Generator, item: garments.Item, variation: int
  ):
    """Draws a scene.

    Args:
      rng: The source of all randomness.
      item: The garment whose landmarks are wanted.
      variation: The code of the variation, see `schema.VARIATIONS`.
    """
    worn = bool(rng.random() < 0.85)
    self.item = item
    self.back = bool(worn and rng.random() < 0.12)  # seen from behind
    self.pose = shapes.draw_pose(rng, variation, worn)
    self.arms = {s: shapes.limb(self.pose, s, True) for s in (-1, 1)}
    self.legs = {s: shapes.limb(self.pose, s, False) for s in (-1, 1)}
    self.skin = SKIN[rng.integers(len(SKIN))]
    self.layers: list[Layer] = []
    self.points: dict[str, tuple[np.ndarray, int]] = {}
    if worn:
      self._person(rng)
    else:
      _hanger(self.add, item.clothes_type)
      if item.clothes_type == garments.LOWER:
        self._wear(item)
      else:
        for s in (-1, 1):
          self._sleeve(item, s)
        self._wear(item)
    slots = landmark_sets.FASHION_8.slots[item.clothes_type]
    names = [landmark_sets.FASHION_8.names[slot] for slot in slots]
    self.points = {name: self.points[name] for name in names}

  def add(self, outline: np.ndarray, **fill: Any) -> None:
    """Puts a layer in front of all others.

    Args:
      outline: (K, 2) corners in body units.
      **fill: The other attributes of `Layer`.
    """
    self.layers.append(Layer(outline, **fill))

  def _person(self, rng: np.random.Generator) -> None:
    """Stacks a person, the item and another garment beside it."""
    kind, pose = self.item.clothes_type, self.pose
    hair = HAIR[rng.integers(len(HAIR))]
    top = bottom = self.item
    if kind == garments.LOWER:
      top = garments.draw_item(rng, garments.UPPER, quiet=True)
      # A bit longer than the waist: it hides it, or the waistband hides it.
      top.cut['hem'] = self.item.cut['waist'] + rng.uniform(0.05, 0.3)
    elif kind == garments.UPPER:
      bottom = garments.draw_item(rng, garments.LOWER, quiet=True)
    long_hair = hair if rng.random() < 0.4 else None
    _body(self.add, self.legs, self.skin, long_hair)
    front = rng.random(2) < 0.6
    bare = top.choices['sleeve_length'] == 'sleeveless'
    for s, is_front in zip((-1, 1), front, strict=True):
      if bare or not is_front:
        self._arm(top, s, 0.0)
    order = [bottom, top]
    if kind == garments.LOWER and rng.random() < 0.6:
      order = [top, bottom]  # tucked in
    for garment in order if top is not bottom else [top]:
      self._wear(garment)
    _head(self.add, pose, rng, self.skin, hair, self.back)
    for s, is_front in zip((-1, 1), front, strict=True):
      if is_front:  # a bare upper arm stays behind the armhole's edge
        self._arm(top, s, 0.5 if bare else 0.0)

  def _wear(self, garment: garments.Item) -> None:
    """Adds the trunk of a garment, the legs of trousers, a shirt's collar."""
    own, kind = garment is self.item, garment.choices['category']
    outline, names = shapes.trunk(self.pose, garment, self.back)
    axis = shapes.upright(0, [0.5, 3.0])
    fill = {'item': garment, 'own': own}
    joined = kind == 'trousers'
    self.add(outline, upright=True, axis=axis, joined=joined, **fill)
    if own:
      self._mark(names)
    if kind == 'trousers':
      for s in (-1, 1):
        leg, corner = shapes.trouser_leg(self.legs[s], garment, s)
        self.add(leg, axis=leg[[0, 8]], joined=True, **fill)
        if own:
          self._mark({f'hem_{_side(s)}': corner})
    if garment.choices.get('neckline') == 'shirt' and not self.back:
      for part in shapes.shirt_front(self.pose, garment):
        self.add(part, upright=True, flat=True, axis=axis, **fill)

  def _arm(self, top: garments.Item, s: int, begin: float) -> None:
    """Adds the skin of an arm and the sleeve over it.

    Args:
      top: The garment that has the sleeve.
      s: The side, -1 or 1.
      begin: The share of the arm's length at which the skin begins.
    """
    joints = self.arms[s]
    outline, line = shapes.tube(joints, (begin, 1), (0.2, 0.17, 0.12))
    self.add(outline, color=self.skin)
    hand = line[-1] + 0.17 * _circle() + 0.1 * (line[-1] - line[-2])
    self.add(hand, color=self.skin)
    self._sleeve(top, s)

  def _sleeve(self, top: garments.Item, s: int) -> None:
    """Adds the sleeve of a garment on one side, if it has sleeves."""
    if top.choices['sleeve_length'] == 'sleeveless':
      return
    own = top is self.item
    outline, cuff = shapes.sleeve(self.arms[s], top)
    axis = self.arms[s][:2]
    self.add(outline, item=top, own=own, axis=axis, joined=True)
    if own:
      self._mark({f'sleeve_{_side(s)}': cuff})

  def _mark(self, names: dict[str, np.ndarray]) -> None:
    """Enters landmarks as lying on the front layer."""
    for name, point in names.items():
      self.points[name] = point, len(self.layers) - 1


def _side(s: int) -> str:
  """The side's name in those of landmarks."""
  return 'left' if s < 0 else 'right'


def _circle(count: int = 16) -> np.ndarray:
  """Corners (K, 2) of a circle of radius 1 around (0, 0)."""
  a = np.linspace(0, 2 * np.pi, count, endpoint=False)
  return np.stack([np.cos(a), np.sin(a)], 1)


def _body(
  add: Callable[..., None],
  legs: dict[int, np.ndarray],
  skin: tuple[int, int, int],
  long_hair: tuple[int, int, int] | None,
) -> None:
  """Adds what lies behind the clothes: long hair, legs, shoes, trunk, neck.

  Args:
    add: The method `Scene.add`.
    legs: Side -> (3, 2) joints of the leg.
    skin: The RGB colour of the skin.
    long_hair: The RGB colour of long hair; None for short hair.
  """
  if long_hair is not None:
    y = np.linspace(-1.2, 1.3, 8)
    w = np.interp(y, [-1.2, -0.8, 0, 1.3], [0.3, 0.58, 0.6, 0.5])
    edges = shapes.upright(w, y), shapes.upright(-w, y)[::-1]
    add(np.concatenate(edges), upright=True, color=long_hair)
  for s in (-1, 1):
    outline, line = shapes.tube(legs[s], (0, 1), (0.4, 0.28, 0.15))
    add(
      line[-1] + _circle() * (0.28, 0.2) + (0.05 * s, 0.1), color=(40, 36, 38)
    )
    add(outline, color=skin)
  y = np.linspace(0.12, 3.1, 10)
  w = np.interp(y, [0.12, 0.3, 1, 2.1, 3.1], [0.5, 0.88, 0.74, 0.6, 0.8])
  edges = shapes.upright(w, y), shapes.upright(-w, y)[::-1]
  add(np.concatenate(edges), upright=True, color=skin)
  y = np.array([-0.5, 0.0, 0.15, 0.3])
  w = np.array([0.24, 0.26, 0.42, 0.6])
  edges = shapes.upright(w, y), shapes.upright(-w, y)[::-1]
  add(
    np.concatenate(edges), upright=True, color=tuple(int(0.9 * c) for c in skin)
  )


def _head(
  add: Callable[..., None],
  pose: shapes.Pose,
  rng: np.random.Generator,
  skin: tuple[int, int, int],
  hair: tuple[int, int, int],
  back: bool,
) -> None:
  """Adds head and hair; hair may fall over the collar.

  Args:
    add: The method `Scene.add`.
    pose: The pose.
    rng: The source of all randomness.
    skin: The RGB colour of the skin.
    hair: The RGB colour of the hair.
    back: Whether the person is seen from behind.
  """
  centre = shapes.on_spine(pose, np.array([[0.2 * np.sin(pose.turn), -0.78]]))[
    0
  ]
  add(centre + _circle(20) * (0.46, 0.6), color=hair if back else skin)
  if back:
    y = np.linspace(-1.2, rng.uniform(0.0, 1.2), 6)
    w = np.interp(y, [-1.2, -0.8, 1.2], [0.25, 0.52, 0.46])
    edges = shapes.upright(w, y), shapes.upright(-w, y)[::-1]
    add(np.concatenate(edges), upright=True, color=hair)
    return
  a = np.linspace(np.pi, 2 * np.pi, 10)
  cap = np.stack([0.52 * np.cos(a), 0.68 * np.sin(a)], 1)
  fringe = np.stack([0.4 * np.cos(a), 0.3 * np.sin(a)], 1)[::-1]
  add(centre + np.concatenate([cap, fringe]) - (0, 0.05), color=hair)
  for s in (-1, 1):
    if rng.random() < 0.18:
      y = np.linspace(-0.9, rng.uniform(0.3, 1.1), 6)
      inner = shapes.upright(s * np.linspace(0.4, 0.25, 6), y)
      outer = shapes.upright(s * np.linspace(0.54, 0.6, 6), y)
      add(np.concatenate([inner, outer[::-1]]), upright=True, color=hair)


def _hanger(add: Callable[..., None], kind: int) -> None:
  """Adds a hanger above a garment that nobody wears.

  Args:
    add: The method `Scene.add`.
    kind: The code of the garment's clothes type.
  """
  y = 0.0 if kind != garments.LOWER else 1.85
  rod = np.array([(-0.85, y + 0.3), (0, y - 0.1), (0.85, y + 0.3)])
  add(np.concatenate([rod, rod[::-1] + (0, 0.1)]), color=(150, 120, 88))
  hook = np.array([(-0.03, y - 0.6), (0.03, y - 0.6), (0.03, y), (-0.03, y)])
  add(hook, color=(120, 120, 124))
