"""The types of IDPR's relations, and the trees that they belong to."""

import dataclasses

import numpy as np
import pytest
from sklearn.cluster import KMeans

from fld_jax import schema
from fld_jax.cascade import relations
from fld_jax.errors import InputError
from fld_jax.landmark_sets import (
  COCO_17,
  FASHION_8,
  FASHION_AI_24,
  LSP_14,
  Tree,
  tree_of,
)
from fld_jax.runtime.parallel import Parallel


def named(tree):
  """Part -> its parent."""
  return {
    name: tree.names[parent] if parent >= 0 else ''
    for name, parent in zip(tree.names, tree.parents, strict=True)
  }


def test_trees_of_clothes():
  """Those of docs/methods.md 2.2, written out."""
  both = lambda tree: {
    part.replace('left', side): above.replace('left', side)
    for part, above in tree.items()
    for side in ('left', 'right')
  }
  upper = {'sleeve_left': 'collar_left', 'hem_left': 'collar_left'}
  top = {'collar_left': '', 'collar_right': 'collar_left'}
  full = {
    'sleeve_left': 'collar_left',
    'waist_left': 'collar_left',
    'hem_left': 'waist_left',
  }
  lower = {
    'waist_left': '',
    'waist_right': 'waist_left',
    'hem_left': 'waist_left',
    'hem_right': 'waist_right',
  }
  assert named(tree_of(FASHION_8)) == both(full) | top
  assert named(tree_of(FASHION_8.of_type(3))) == both(full) | top
  assert named(tree_of(FASHION_8.of_type(1))) == both(upper) | top
  assert named(tree_of(FASHION_8.of_type(2))) == lower


def test_the_tree_of_lsp_is_that_of_the_code():
  """Chen and Yuille's parents, from 1 on, in the order of their parts."""
  parents = (
    *(0, 1, 2, 3, 4, 5, 6, 3, 8, 9, 10, 11, 12, 13),
    *(2, 15, 16, 17, 18, 15, 20, 21, 22, 23, 24, 25),
  )
  side = lambda side: [
    f'{side}_{part}'
    for part in (
      *('shoulder', 'shoulder_elbow_1', 'elbow', 'elbow_wrist_1', 'wrist'),
      *('shoulder_hip_1', 'shoulder_hip_2', 'hip', 'hip_knee_1', 'knee'),
      *('knee_ankle_1', 'ankle'),
    )
  ]
  order = ['head_top', 'neck', *side('left'), *side('right')]
  tree = tree_of(LSP_14)
  assert tree.names[:14] == LSP_14.names
  assert named(tree) == {
    part: order[above - 1] if above else ''
    for part, above in zip(order, parents, strict=True)
  }
  rng = np.random.default_rng(0)
  joints = rng.uniform(-0.4, 0.4, (3, 14, 2)).astype(np.float32)
  codes = np.zeros((3, 14), np.int32)
  codes[1, LSP_14.names.index('left_hip')] = schema.TRUNCATED
  parts, known = relations.place_parts(joints, codes, tree)
  at = lambda name: parts[:, tree.names.index(name)]
  shoulder, hip = at('left_shoulder'), joints[:, 3]
  near, far = at('left_shoulder_hip_1'), at('left_shoulder_hip_2')
  np.testing.assert_allclose(near[0], (2 * shoulder + hip)[0] / 3, rtol=1e-5)
  np.testing.assert_allclose(far[0], (shoulder + 2 * hip)[0] / 3, rtol=1e-5)
  unknown = {tree.names[i] for i in np.flatnonzero(~known[1])}
  assert unknown == {
    *('left_hip', 'left_hip_knee_1'),
    *('left_shoulder_hip_1', 'left_shoulder_hip_2'),
  }
  assert known[[0, 2]].all()


def test_a_part_that_is_not_on_the_crop_is_not_known():
  tree = Tree(('a', 'b'), (-1, 0))
  points = np.array([[[0.2, -0.3], [0.51, 0.0]]], np.float32)
  _, known = relations.place_parts(points, np.zeros((1, 2), int), tree)
  assert known.tolist() == [[True, False]]


@pytest.mark.parametrize('landmarks', [FASHION_AI_24, COCO_17])
def test_other_trees_span_the_skeleton(landmarks):
  tree = tree_of(landmarks)
  assert tree.names == landmarks.names and tree.parents.count(-1) == 1
  lines = {frozenset(line) for line in landmarks.skeleton}
  edges = {frozenset(pair) for pair in named(tree).items() if '' not in pair}
  # The rest join what the skeleton leaves apart.
  first = landmarks.names[0]
  assert all(first in edge for edge in edges - lines)
  assert len(edges - lines) < 4
  above = named(tree)
  for name in landmarks.names:
    seen = []
    while name:
      assert name not in seen
      seen.append(name)
      name = above[name]


def test_a_set_without_a_skeleton_has_a_star():
  bare = dataclasses.replace(
    COCO_17, names=('one', 'two', 'three'), skeleton=()
  )
  assert named(tree_of(bare)) == {'one': '', 'two': 'one', 'three': 'one'}


@pytest.fixture(scope='module')
def sample():
  """Clothes whose displacements have three modes; one landmark is never there.

  (landmarks, codes)
  """
  rng = np.random.default_rng(0)
  modes = np.array([[0.2, 0.0], [0.0, 0.3], [-0.2, 0.1]])
  count = 90
  first = rng.uniform(-0.1, 0.1, (count, 2))
  ways = modes[rng.integers(0, 3, count)] + rng.normal(0, 0.01, (count, 2))
  points = np.stack([first, first + ways, first], axis=1).astype(np.float32)
  codes = np.zeros((count, 3), np.int32)
  codes[:, 2] = schema.ABSENT
  codes[:9, 1] = schema.TRUNCATED
  points[:9, 1] = 0
  return points, codes


def make(sample, num_types):
  tree = Tree(('a', 'b', 'c'), (-1, 0, 0))
  return relations.make_relations(
    *sample,
    np.arange(len(sample[0])),
    tree,
    num_types,
    seed=0,
    parallel=Parallel('shard_map'),
  )


def test_types_are_the_clusters_of_displacements(sample):
  found = make(sample, 3)
  points, _ = sample
  way = (points[:, 0] - points[:, 1])[9:]  # from b, the child, to a
  oracle = KMeans(3, n_init=5, random_state=0).fit(way)
  order = lambda rows: sorted(map(tuple, np.asarray(rows).tolist()))
  np.testing.assert_allclose(
    order(found['displacements'][0]),
    order(oracle.cluster_centers_),
    atol=1e-5,
  )
  np.testing.assert_array_equal(
    found['displacements'][1], -found['displacements'][0]
  )
  spread = np.sqrt(oracle.inertia_ / len(way) / 2)
  np.testing.assert_allclose(found['spreads'][:2], spread, rtol=1e-4)
  # No image has c, so its relations say next to nothing.
  np.testing.assert_array_equal(found['displacements'][2:], 0)
  np.testing.assert_array_equal(found['spreads'][2:], 1)


def test_too_many_types(sample):
  with pytest.raises(InputError, match='num_types is 100, .* edge b-a: .* 81'):
    make(sample, 100)
