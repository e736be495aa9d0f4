"""Landmark sets of the data sets: names, left/right pairs, partitions."""

import collections
import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from fld_jax.schema import LandmarkSet

# Codes of list_landmarks.txt. 0 stands for "not known".
CLOTHES_TYPES = {1: 'upper', 2: 'lower', 3: 'full'}


def _both_sides(*names: str) -> list[tuple[str, ...]]:
  """The chain of landmarks on the left side, and that on the right one."""
  return [
    tuple(f'{name}_{side}' for name in names) for side in ('left', 'right')
  ]


FASHION_8 = LandmarkSet(
  names=(
    'collar_left',
    'collar_right',
    'sleeve_left',
    'sleeve_right',
    'waist_left',
    'waist_right',
    'hem_left',
    'hem_right',
  ),
  slots={
    1: (0, 1, 2, 3, 6, 7),
    2: (4, 5, 6, 7),
    3: (0, 1, 2, 3, 4, 5, 6, 7),
  },
  top=('collar', 'sleeve'),
  types=CLOTHES_TYPES,
  skeleton=(
    ('collar_left', 'collar_right'),
    ('collar_left', 'sleeve_left'),
    ('collar_right', 'sleeve_right'),
    ('collar_left', 'waist_left'),
    ('collar_right', 'waist_right'),
    ('waist_left', 'waist_right'),
    ('waist_left', 'hem_left'),
    ('waist_right', 'hem_right'),
    ('hem_left', 'hem_right'),
  ),
  chains=(
    *_both_sides('collar', 'waist', 'hem'),
    *_both_sides('collar', 'sleeve'),
  ),
)


def _across(*names: str) -> list[tuple[str, str]]:
  """The lines from left to right."""
  return [(f'{name}_left', f'{name}_right') for name in names]


FASHION_AI_24 = LandmarkSet(
  names=(
    'neckline_left',
    'neckline_right',
    'center_front',
    'shoulder_left',
    'shoulder_right',
    'armpit_left',
    'armpit_right',
    'waistline_left',
    'waistline_right',
    'cuff_left_in',
    'cuff_left_out',
    'cuff_right_in',
    'cuff_right_out',
    'top_hem_left',
    'top_hem_right',
    'waistband_left',
    'waistband_right',
    'hemline_left',
    'hemline_right',
    'crotch',
    'bottom_left_in',
    'bottom_left_out',
    'bottom_right_in',
    'bottom_right_out',
  ),
  # The 17 that Song et al.'s Figure 7 calls top (docs/methods.md 4.4).
  top=(
    'neckline',
    'center',
    'shoulder',
    'armpit',
    'waistline',
    'cuff',
    'top',
    'waistband',
  ),
  types={1: 'blouse', 2: 'outwear', 3: 'dress', 4: 'trousers', 5: 'skirt'},
  norm='keypair',
  norm_pairs={
    **dict.fromkeys((1, 2, 3), ('armpit_left', 'armpit_right')),
    **dict.fromkeys((4, 5), ('waistband_left', 'waistband_right')),
  },
  skeleton=(
    *_both_sides('neckline', 'shoulder'),
    *_both_sides('shoulder', 'armpit'),
    *_both_sides('armpit', 'waistline'),
    *_both_sides('waistband', 'hemline'),
    ('neckline_left', 'center_front'),
    ('center_front', 'neckline_right'),
    *_across('waistline', 'top_hem', 'waistband', 'hemline'),
    ('cuff_left_in', 'cuff_left_out'),
    ('cuff_right_in', 'cuff_right_out'),
    ('shoulder_left', 'cuff_left_out'),
    ('shoulder_right', 'cuff_right_out'),
    ('armpit_left', 'cuff_left_in'),
    ('armpit_right', 'cuff_right_in'),
    ('armpit_left', 'top_hem_left'),
    ('armpit_right', 'top_hem_right'),
    ('waistband_left', 'bottom_left_out'),
    ('waistband_right', 'bottom_right_out'),
    ('bottom_left_out', 'bottom_left_in'),
    ('bottom_right_out', 'bottom_right_in'),
    ('crotch', 'bottom_left_in'),
    ('crotch', 'bottom_right_in'),
  ),
  chains=(
    *_both_sides('neckline', 'shoulder', 'armpit', 'waistline', 'hemline'),
    *_both_sides('neckline', 'shoulder', 'armpit', 'top_hem'),
    ('shoulder_left', 'cuff_left_out', 'cuff_left_in', 'armpit_left'),
    ('shoulder_right', 'cuff_right_out', 'cuff_right_in', 'armpit_right'),
    ('neckline_left', 'center_front', 'neckline_right'),
    *_both_sides('waistband', 'hemline'),
    ('waistband_left', 'bottom_left_out', 'bottom_left_in', 'crotch'),
    ('waistband_right', 'bottom_right_out', 'bottom_right_in', 'crotch'),
  ),
)


def _sides(one: str, other: str) -> dict[str, tuple]:
  """Ends of a limb's two sticks, by side."""
  return {
    side: ((f'{side}_{one}',), (f'{side}_{other}',))
    for side in ('left', 'right')
  }


def _limbs(*joints: str) -> list[tuple[str, str]]:
  """The lines along the joints of a limb, of both sides."""
  return [
    (f'{side}_{a}', f'{side}_{b}')
    for side in ('left', 'right')
    for a, b in itertools.pairwise(joints)
  ]


def _branches(start: str, *joints: str) -> list[tuple[str, ...]]:
  """The chains from a joint in the middle along a limb, of both sides."""
  sided = lambda side: (f'{side}_{joint}' for joint in joints)
  return [(start, *sided(side)) for side in ('left', 'right')]


# Joints in the order of LSP's files; sticks of strict PCP
# (docs/methods.md 5.3).
LSP_14 = LandmarkSet(
  names=(
    'right_ankle',
    'right_knee',
    'right_hip',
    'left_hip',
    'left_knee',
    'left_ankle',
    'right_wrist',
    'right_elbow',
    'right_shoulder',
    'left_shoulder',
    'left_elbow',
    'left_wrist',
    'neck',
    'head_top',
  ),
  top=('wrist', 'elbow', 'shoulder', 'neck', 'head'),
  sticks={
    'torso': (('left_shoulder', 'right_shoulder'), ('left_hip', 'right_hip')),
    'head': (('head_top',), ('neck',)),
    **{
      f'{side}_{limb}': ends
      for limb, joints in {
        'upper_arm': ('shoulder', 'elbow'),
        'lower_arm': ('elbow', 'wrist'),
        'upper_leg': ('hip', 'knee'),
        'lower_leg': ('knee', 'ankle'),
      }.items()
      for side, ends in _sides(*joints).items()
    },
  },
  skeleton=(
    ('head_top', 'neck'),
    ('left_shoulder', 'right_shoulder'),
    ('left_hip', 'right_hip'),
    *_limbs('shoulder', 'elbow', 'wrist'),
    *_limbs('hip', 'knee', 'ankle'),
    *_limbs('shoulder', 'hip'),
  ),
  chains=(
    ('head_top', 'neck'),
    *_branches('neck', 'shoulder', 'elbow', 'wrist'),
    *_branches('neck', 'hip', 'knee', 'ankle'),
  ),
)


# Names and sigmas of COCO's person keypoints (docs/methods.md 5.4).
COCO_17 = LandmarkSet(
  names=(
    'nose',
    'left_eye',
    'right_eye',
    'left_ear',
    'right_ear',
    'left_shoulder',
    'right_shoulder',
    'left_elbow',
    'right_elbow',
    'left_wrist',
    'right_wrist',
    'left_hip',
    'right_hip',
    'left_knee',
    'right_knee',
    'left_ankle',
    'right_ankle',
  ),
  top=('nose', 'eye', 'ear', 'shoulder', 'elbow', 'wrist'),
  sigmas=(
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
  ),
  skeleton=(
    ('left_eye', 'right_eye'),
    *_limbs('shoulder', 'elbow', 'wrist'),
    *_limbs('hip', 'knee', 'ankle'),
    *_limbs('shoulder', 'hip'),
    *_limbs('eye', 'ear'),
    ('nose', 'left_eye'),
    ('nose', 'right_eye'),
    ('left_shoulder', 'right_shoulder'),
    ('left_hip', 'right_hip'),
  ),
  chains=(
    *_branches('nose', 'eye', 'ear'),
    *_branches('nose', 'shoulder', 'elbow', 'wrist'),
    *_branches('nose', 'hip', 'knee', 'ankle'),
  ),
)


@dataclasses.dataclass(frozen=True)
class Tree:
  """The tree of a pictorial structure: P parts, of which N are landmarks.

  Attributes:
    names: The names of the parts, first those of the landmarks.
    parents: The parent of each part, -1 for the root, which is one.
    between: Of each part after the landmarks, two landmarks and the share of
      the way from the first to the second at which it lies.
  """

  names: tuple[str, ...]
  parents: tuple[int, ...]
  between: tuple[tuple[int, int, float], ...] = ()

  @property
  def mixture(self) -> np.ndarray:
    """(P, N) float32: a part's place is this times the landmarks' places."""
    count = len(self.names) - len(self.between)
    rows = np.zeros((len(self.names), count), np.float32)
    rows[range(count), range(count)] = 1
    for part, (start, end, share) in enumerate(self.between, count):
      rows[part, start], rows[part, end] = 1 - share, share
    return rows


def _divided_tree() -> tuple[dict[str, str], dict[str, tuple[str, str, float]]]:
  """Chen and Yuille's tree of LSP, 26 parts: part -> parent, and the points.

  Between two joints of a limb lies one point, between shoulder and hip two.
  """
  parents, between = {'head_top': '', 'neck': 'head_top'}, {}
  for side in ('left', 'right'):
    parents[f'{side}_shoulder'] = 'neck'
    for start, end, count in (
      ('shoulder', 'elbow', 1),
      ('elbow', 'wrist', 1),
      ('shoulder', 'hip', 2),
      ('hip', 'knee', 1),
      ('knee', 'ankle', 1),
    ):
      ends = last, final = f'{side}_{start}', f'{side}_{end}'
      for i in range(1, count + 1):
        name = f'{side}_{start}_{end}_{i}'
        between[name] = (*ends, i / (count + 1))
        parents[name], last = last, name
      parents[final] = last
  return parents, between


# Trees by their parts: part -> its parent, and part -> two landmarks and the
# share of the way between them at which it lies (docs/methods.md 2.2).
TREES: tuple[tuple[Mapping, Mapping], ...] = (
  (
    {
      'collar_left': '',
      'collar_right': 'collar_left',
      'sleeve_left': 'collar_left',
      'sleeve_right': 'collar_right',
      'waist_left': 'collar_left',
      'waist_right': 'collar_right',
      'hem_left': 'waist_left',
      'hem_right': 'waist_right',
    },
    {},
  ),
  _divided_tree(),
)


def tree_of(landmarks: LandmarkSet) -> Tree:
  """The tree of a landmark set.

  It is that of TREES which knows all of the landmarks. A landmark whose parent
  the set lacks hangs on the nearest ancestor that it has (the hem of upper-body
  clothes on the collar), and on the root if there is none. Of other landmarks
  it is a spanning tree of the skeleton, by breadth from the first landmark, on
  which what the skeleton does not reach hangs as well.

  Args:
    landmarks: The landmark set.
  """
  names = landmarks.names
  parents, between = next(
    (tree for tree in TREES if {*names} <= tree[0].keys()),
    (_spanning(landmarks), {}),
  )
  between = {
    name: (names.index(start), names.index(end), share)
    for name, (start, end, share) in between.items()
    if {start, end} <= {*names}
  }
  parts = (*names, *between)
  # In the tree's own order, in which the root comes first.
  root = next(name for name in parents if name in parts)

  def parent(part: str) -> int:
    above = parents[part]
    while above and above not in parts:
      above = parents[above]
    return -1 if part == root else parts.index(above or root)

  return Tree(parts, tuple(map(parent, parts)), tuple(between.values()))


def _spanning(landmarks: LandmarkSet) -> dict[str, str]:
  """Part -> parent of a spanning tree of the skeleton, the root first."""
  first = landmarks.names[0]
  lines = collections.defaultdict(list)
  for one, other in landmarks.skeleton:
    lines[one].append(other)
    lines[other].append(one)
  parents = {}
  for start in landmarks.names:
    queue = collections.deque([(start, '' if start == first else first)])
    while queue:
      part, above = queue.popleft()
      if part not in parents:
        parents[part] = above
        queue.extend((other, part) for other in lines[part])
  return parents
