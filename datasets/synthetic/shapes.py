"""Synthetic garments: a posed body and the outlines of what it wears.

Body units: the head is about 1 high, the neck's base is (0, 0), x to the
image's right, y down; hips at y = 2.9, ankles at about 6.7. A side `s` is -1
for the image's left and +1 for its right. All outlines are polygons; cloth and
landmarks go through the same functions, so the truth is exact.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from fld_jax.datasets.synthetic import garments

HIP, CROTCH = 2.9, 3.25
SHOULDER, SHOULDER_Y = 0.98, 0.28
UPPER_ARM, FOREARM, THIGH, SHIN = 1.45, 1.35, 1.9, 1.85
# Pose amplitude by schema.VARIATIONS code; the zoom-ins vary the pose mildly.
AMPLITUDE = {1: 0.25, 2: 0.6, 3: 1.0, 4: 0.4, 5: 0.4}
TUBE = np.linspace(0, 1, 9)


def _bend_matrix() -> np.ndarray:
  """The (33, 3) weights of a limb's joints in the points along it.

  The middle joint is rounded.
  """
  grid = np.linspace(0, 1, 33)
  rows = np.stack(
    [np.interp(grid, [0, 0.5, 1], column) for column in np.eye(3)], 1
  )
  for _ in range(2):
    rows[1:-1] = (rows[:-2] + 2 * rows[1:-1] + rows[2:]) / 4
  return rows


BEND = _bend_matrix()


@dataclasses.dataclass(frozen=True)
class Pose:
  """A pose; angles in radians, pairs are (image left, image right).

  Attributes:
    lean: The torso's bend to the side.
    sway: The skirt's bend to the side.
    turn: The turn about the vertical, which narrows and shifts the neckline.
    arms: For each arm, how far it is raised outwards, and the bend of its
      elbow.
    legs: For each leg, how far it is spread, and the bend of its knee.
    waves: (K, 5) wave vector, phase and the amplitudes of x and y.
    taper: The perspective: widths grow by this share per unit downwards.
  """

  lean: float
  sway: float
  turn: float
  arms: tuple[tuple[float, float], ...]
  legs: tuple[tuple[float, float], ...]
  waves: np.ndarray
  taper: float


def draw_pose(rng: np.random.Generator, variation: int, worn: bool) -> Pose:
  """Draws a pose.

  Args:
    rng: The source of all randomness.
    variation: The code of the variation, which sets the amplitude, see
      `schema.VARIATIONS`.
    worn: Whether somebody wears the garment; the arms of one on a hanger hang.

  Returns:
    The pose.
  """
  a = AMPLITUDE[variation]
  u = rng.uniform
  limbs = a if worn else 0.25 * a
  arms = tuple(
    (
      0.1 + u(0, 0.3) + 2.2 * limbs * u() ** 1.5,
      limbs * (u(-1.9, 0.3) if rng.random() < 0.5 else u(-0.3, 1.8)),
    )
    for _ in range(2)
  )
  legs = tuple(
    (u(-0.02, 0.12) + 0.5 * limbs * u(), 0.6 * limbs * u(-1, 0.4))
    for _ in range(2)
  )
  waves = np.stack(
    [
      np.concatenate(
        [u(-2.4, 2.4, 2), u(0, 6.3, 1), (0.03 + 0.05 * a) * u(-1, 1, 2)]
      )
      for _ in range(3)
    ]
  )
  return Pose(
    lean=0.6 * a * u(-1, 1),
    sway=0.5 * a * u(-1, 1),
    turn=0.75 * a * u(-1, 1) if worn else 0.2 * u(-1, 1),
    arms=arms,
    legs=legs,
    waves=waves,
    taper=0.05 * u(-1, 1),
  )


def warp(pose: Pose, points: np.ndarray) -> np.ndarray:
  """Deforms points softly and with perspective.

  Args:
    pose: The pose.
    points: (K, 2) points of the bent body in body units.

  Returns:
    (K, 2) in body units.
  """
  phase = points @ pose.waves[:, :2].T + pose.waves[:, 2]
  moved = points + np.sin(phase) @ pose.waves[:, 3:]
  moved[:, 0] += points[:, 0] * pose.taper * (points[:, 1] - 2)
  return moved


def upright(
  x: float | np.ndarray | Sequence[float], y: np.ndarray | Sequence[float]
) -> np.ndarray:
  """Points of the upright body, which `on_spine` bends.

  Args:
    x: (K,) values in body units, or one for all.
    y: (K,) values in body units.

  Returns:
    (K, 2) points x, y.
  """
  points = np.empty((len(y), 2))
  points[:, 0], points[:, 1] = x, y
  return points


def on_spine(pose: Pose, points: np.ndarray) -> np.ndarray:
  """Bends points of the upright body with the torso.

  The spine is an arc of angle `lean` above the hips, of `sway` below them.

  Args:
    pose: The pose.
    points: (K, 2) points of the upright body in body units.

  Returns:
    (K, 2) in body units.
  """
  x, s = points[:, 0], HIP - points[:, 1]
  phi = np.where(s > 0, pose.lean, pose.sway) * s / HIP + 1e-9
  x = x * math.cos(pose.turn)
  sin, cos = np.sin(phi), np.cos(phi)
  out = np.empty((len(phi), 2))
  out[:, 0] = s * (1 - cos) / phi + x * cos
  out[:, 1] = HIP - s * sin / phi + x * sin
  return out


def limb(pose: Pose, s: int, arm: bool) -> np.ndarray:
  """The joints of an arm or a leg, from the trunk outwards.

  Args:
    pose: The pose.
    s: The side, -1 or 1.
    arm: Whether an arm is wanted, or a leg.

  Returns:
    (3, 2) in body units.
  """
  side = (s + 1) // 2
  if arm:
    root = s * (SHOULDER - 0.2), SHOULDER_Y + 0.18
    (first, bend), lengths = pose.arms[side], (UPPER_ARM, FOREARM)
    tilt = -pose.lean * 0.5
  else:
    root = s * 0.43, HIP + 0.05
    (first, bend), lengths = pose.legs[side], (THIGH, SHIN)
    tilt = 0.0
  angles = s * np.array([first, first + bend]) + tilt
  steps = np.stack([np.sin(angles), np.cos(angles)], 1)
  start = on_spine(pose, np.array([root]))
  return start + np.concatenate(
    [np.zeros((1, 2)), np.cumsum(steps * np.array(lengths)[:, None], 0)]
  )


def tube(
  joints: np.ndarray, share: tuple[float, float], widths: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Outlines a strip along a bent limb.

  Args:
    joints: (3, 2) the joints of the limb.
    share: The shares of the limb's length at which the strip begins and ends, 0
      to 1.
    widths: The half-widths at the beginning, the middle and the end.

  Returns:
    (2K, 2) outline, one edge forth and the other back, so that points K - 1 and
    K are the corners of the end; (K, 2) centre line.
  """
  begin, end = share
  place = (begin + (end - begin) * TUBE) * 32
  k = np.minimum(place.astype(int), 31)
  fine = BEND @ joints
  line = fine[k] + (place - k)[:, None] * (fine[k + 1] - fine[k])
  tangent = np.empty_like(line)
  tangent[0], tangent[-1] = line[1] - line[0], line[-1] - line[-2]
  tangent[1:-1] = line[2:] - line[:-2]
  # A sleeve of length 0 has no direction; it is never painted.
  tangent /= np.hypot(tangent[:, 0], tangent[:, 1])[:, None] + 1e-9
  normal = tangent[:, ::-1] * (-1, 1)
  half = np.interp(TUBE, [0, 0.5, 1], widths)[:, None]
  outline = np.concatenate([line + normal * half, (line - normal * half)[::-1]])
  return outline, line


def _profile(
  nodes: list[tuple[float, float]], count: int = 12
) -> tuple[np.ndarray, np.ndarray]:
  """Eases half-widths between nodes.

  Args:
    nodes: The (y, half-width) of each node, y ascending.
    count: The number of even values of y, to which the nodes' are added.

  Returns:
    (K,) y and (K,) half-widths.
  """
  ys, ws = np.array(nodes, float).T
  y = np.unique(np.concatenate([np.linspace(ys[0], ys[-1], count), ys]))
  k = np.clip(np.searchsorted(ys, y, 'right') - 1, 0, len(ys) - 2)
  t = (y - ys[k]) / (ys[k + 1] - ys[k])
  return y, ws[k] + (ws[k + 1] - ws[k]) * (1 - np.cos(np.pi * t)) / 2


def trunk(
  pose: Pose, item: garments.Item, back: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Outlines a top, a dress, a skirt or the hip part of trousers.

  Args:
    pose: The pose.
    item: The garment.
    back: Whether it is seen from behind, where the neckline is shallow.

  Returns:
    (K, 2) upright outline; name of a landmark that lies on it -> (2,) point.
  """
  cut, kind = item.cut, item.choices['category']
  ease, waist = cut['ease'], cut['waist']
  at_waist = 0.66 + ease * (0.8 if kind in ('top', 'dress') else 0.3)
  if kind == 'trousers':
    nodes = [(waist, at_waist), (HIP, 0.84 + ease), (CROTCH, 0.86 + ease)]
  elif kind == 'skirt':
    hem = 0.86 + ease + cut['flare'] * (cut['hem'] - waist) / 2
    nodes = [(waist, at_waist), (HIP, 0.84 + ease), (cut['hem'], hem)]
  else:
    nodes = [(1.0, 0.8 + ease), (waist, at_waist)]
    if kind == 'dress':
      hem = 0.86 + ease + cut['flare'] * (cut['hem'] - waist) / 2
      nodes += [(HIP, 0.84 + ease), (cut['hem'], hem)]
    else:
      # Below the waist line the cloth needs some length to widen.
      wide = max(0.84 + ease + cut['flare'] - at_waist, 0)
      drop = np.clip((cut['hem'] - waist) / 0.9, 0.0, 1)
      nodes += [(cut['hem'], at_waist + wide * drop)]
  y, w = _profile(nodes)
  edge = np.linspace(-1, 1, 9)
  sag = y[-1] + 0.1 * (1 - edge**2)  # the hem hangs lowest in the middle
  if kind == 'trousers':
    sag = np.full(9, y[-1])
  right = upright(w, y)
  left = upright(-w, y)[::-1]
  bottom = upright(edge[::-1] * w[-1], sag)
  names = {'hem_left': left[0], 'hem_right': right[-1]}
  if kind in ('trousers', 'skirt'):
    names |= {'waist_left': left[-1], 'waist_right': right[0]}
    top = upright(edge * w[0], y[0] + 0.05 * (1 - edge**2))
    return np.concatenate([right, bottom, left, top]), names
  at = np.flatnonzero(y == waist)[0]
  names |= {'waist_left': left[len(y) - 1 - at], 'waist_right': right[at]}
  holes = {s: _armhole(pose, item, s, w[0]) for s in (-1, 1)}
  neck = _neckline(pose, item, back)
  names |= {'collar_left': neck[0], 'collar_right': neck[-1]}
  if item.choices['sleeve_length'] == 'sleeveless':
    names |= {'sleeve_left': holes[-1][4], 'sleeve_right': holes[1][4]}
  outline = [neck, holes[1], right, bottom, left, holes[-1][::-1]]
  return np.concatenate(outline), names


def _armhole(
  pose: Pose, item: garments.Item, s: int, width: float
) -> np.ndarray:
  """The (9, 2) points from the shoulder's tip down to the armpit.

  Args:
    pose: The pose.
    item: The garment.
    s: The side, -1 or 1.
    width: The half-width of the trunk at the armpit.
  """
  t = np.linspace(0, 1, 9)
  bare = item.choices['sleeve_length'] == 'sleeveless'
  tip = max(SHOULDER - 0.2, item.cut['collar'] + 0.12) if bare else SHOULDER
  inward = 0.12 * np.sin(np.pi * t) * bare
  x = tip + (width - tip) * t - inward
  return upright(s * x, SHOULDER_Y - 0.04 * bare + (0.72 + 0.04) * t)


def _neckline(pose: Pose, item: garments.Item, back: bool) -> np.ndarray:
  """The (11, 2) points from the left collar point to the right one.

  Args:
    pose: The pose.
    item: The garment.
    back: Whether it is seen from behind.
  """
  t = np.linspace(-1, 1, 11)
  depth = 0.12 if back else item.cut['neck']
  if item.choices['neckline'] == 'v' and not back:
    dip = 1 - np.abs(t)
  else:
    dip = 1 - np.abs(t) ** 2.5
  shift = 0.25 * np.sin(pose.turn) * dip
  return upright(item.cut['collar'] * t + shift, 0.06 + depth * dip)


def shirt_front(pose: Pose, item: garments.Item) -> list[np.ndarray]:
  """Outlines a shirt's two collar flaps and its button strip.

  Args:
    pose: The pose.
    item: The shirt.

  Returns:
    The strip's and the two flaps' upright outlines, (K, 2) each.
  """
  cut = item.cut
  depth, wide = 0.06 + cut['neck'], cut['collar']
  shift = 0.25 * np.sin(pose.turn)
  flaps = [
    upright(
      [s * wide, shift, shift + s * 0.28, s * (wide + 0.1)],
      [0.06, depth, depth + 0.22, 0.3],
    )
    for s in (-1, 1)
  ]
  y = np.linspace(depth, min(cut['hem'], HIP), 6)
  strip = [upright(shift + 0 * y + x, y) for x in (-0.06, 0.06)]
  return [np.concatenate([strip[0], strip[1][::-1]]), *flaps]


def sleeve(
  arm: np.ndarray, item: garments.Item
) -> tuple[np.ndarray, np.ndarray]:
  """Outlines a sleeve.

  Args:
    arm: (3, 2) the joints of the arm.
    item: The garment.

  Returns:
    (K, 2) outline, and the (2,) landmark: the middle of the cuff.
  """
  cut = item.cut
  top = 0.3 + 0.4 * cut['ease']
  widths = (top, (top + cut['cuff']) / 2, cut['cuff'])
  outline, line = tube(arm, (0, cut['sleeve']), widths)
  return outline, line[-1]


def trouser_leg(
  joints: np.ndarray, item: garments.Item, s: int
) -> tuple[np.ndarray, np.ndarray]:
  """Outlines a leg of trousers.

  Args:
    joints: (3, 2) the joints of the leg.
    item: The trousers.
    s: The side, -1 or 1.

  Returns:
    (K, 2) outline, and the (2,) landmark: the outer corner of the hem.
  """
  cut = item.cut
  wide = 0.47 + 0.6 * cut['ease']
  end = 0.24 + 0.5 * cut['ease'] + cut['flare'] + 0.2 * (1 - cut['hem'])
  outline, _ = tube(joints, (0, cut['hem']), (wide, (wide + end) / 2, end))
  corners = outline[len(outline) // 2 - 1], outline[len(outline) // 2]
  return outline, corners[0 if s < 0 else 1]
