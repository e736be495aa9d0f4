"""Max-sum on trees: against loops over all configurations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fld_jax.ops import pictorial
from fld_jax.ops.pictorial import Potentials

SIDE, TYPES = 3, 2
# A child that comes before its parent, and a part with two children.
PARENTS = (2, -1, 1, 1)
RELATIONS = [(0, 2), (2, 0), (2, 1), (1, 2), (3, 1), (1, 3)]
CELLS = [(x, y) for y in range(SIDE) for x in range(SIDE)]


def random_potentials(seed=0, batch=2):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  count = len(RELATIONS)
  return Potentials(
    unary=draw(batch, len(PARENTS), SIDE, SIDE),
    types=draw(batch, count, TYPES, SIDE, SIDE),
    quadratic=np.abs(draw(count, TYPES, 2)) + 0.1,
    linear=draw(count, TYPES, 2),
    means=draw(count, TYPES, 2),
  )


def score_of(potentials, example, cells, known=(True,) * 4, types=None):
  """The score's definition in loops; the best types if none are given."""
  total = 0.0
  for part, (x, y) in enumerate(cells):
    if known[part]:
      total += potentials.unary[example, part, y, x]
  for r, (start, end) in enumerate(RELATIONS):
    if not (known[start] and known[end]):
      continue
    x, y = cells[start]
    terms = []
    for t in range(TYPES) if types is None else [types[r]]:
      term = potentials.types[example, r, t, y, x]
      for axis in (0, 1):
        gap = cells[end][axis] - cells[start][axis]
        gap = gap - potentials.means[r, t, axis]
        term -= potentials.quadratic[r, t, axis] * gap**2
        term -= potentials.linear[r, t, axis] * gap
      terms.append(term)
    total += max(terms)
  return total


def configurations():
  return itertools.product(CELLS, repeat=len(PARENTS))


# Compiled, since one operation after another they take many times as long.
infer = jax.jit(pictorial.infer, static_argnums=1)
refine = jax.jit(pictorial.refine, static_argnums=1)
score = jax.jit(pictorial.score, static_argnums=1)
hinge = jax.jit(pictorial.hinge, static_argnums=(1, 4))


def test_one_of_equally_good_types_gets_the_gradient():
  """Whatever else the compiler makes of it, never 0 / 0."""
  zeros = jax.tree.map(jnp.zeros_like, random_potentials())
  cells = jnp.zeros((2, len(PARENTS), 2), jnp.int32)
  total = lambda potentials: score(potentials, PARENTS, cells).sum()
  found = jax.grad(total)(zeros).types
  expected = np.zeros(found.shape)
  expected[:, :, 0, 0, 0] = 1
  np.testing.assert_array_equal(found, expected)


def test_distance_transform():
  rng = np.random.default_rng(0)
  scores, rows, columns = rng.normal(size=(3, 2, 5, 5))
  found = pictorial.distance_transform(scores, rows, columns)
  for n, i, j in np.ndindex(2, 5, 5):
    best = max(
      scores[n, k, m] + rows[n, i, k] + columns[n, j, m]
      for k, m in np.ndindex(5, 5)
    )
    np.testing.assert_allclose(found[n, i, j], best, rtol=1e-6)


def test_the_order_of_relations():
  assert pictorial.relations(PARENTS) == RELATIONS


@pytest.mark.parametrize('seed', [0, 1])
def test_infer_and_score_against_all_configurations(seed):
  potentials = random_potentials(seed)
  found = infer(potentials, PARENTS)
  scores = score(potentials, PARENTS, found)
  for example in range(2):
    every = {c: score_of(potentials, example, c) for c in configurations()}
    best = max(every, key=every.get)
    assert tuple(map(tuple, found[example].tolist())) == best
    np.testing.assert_allclose(scores[example], every[best], rtol=1e-5)


def test_the_best_types_are_the_maximum_over_types():
  """The score's oracle itself, against all types of all relations."""
  potentials = random_potentials(2)
  cells = ((0, 1), (2, 2), (1, 1), (0, 0))
  every = [
    score_of(potentials, 0, cells, types=types)
    for types in itertools.product(range(TYPES), repeat=len(RELATIONS))
  ]
  np.testing.assert_allclose(
    score_of(potentials, 0, cells), max(every), rtol=1e-6
  )


def test_parts_that_are_not_known():
  """Without part 2 the part 0 is alone, and 1 and 3 are a tree."""
  potentials = random_potentials(3)
  known = np.array([[True, True, False, True]] * 2)
  found = infer(potentials, PARENTS, known)
  for example in range(2):
    own = potentials.unary[example, 0]
    y, x = np.unravel_index(own.argmax(), own.shape)
    assert found[example, 0].tolist() == [x, y]
    pairs = {
      (one, three): score_of(
        potentials, example, (CELLS[0], one, CELLS[0], three), known[example]
      )
      for one, three in itertools.product(CELLS, CELLS)
    }
    best = max(pairs, key=pairs.get)
    assert (
      tuple(found[example, 1].tolist()),
      tuple(found[example, 3].tolist()),
    ) == best


def test_without_relations_each_part_is_at_its_own_peak():
  potentials = random_potentials(4)
  zero = lambda x: np.zeros_like(x)
  alone = potentials._replace(
    types=zero(potentials.types),
    quadratic=zero(potentials.quadratic),
    linear=zero(potentials.linear),
  )
  found = infer(alone, PARENTS)
  peaks = potentials.unary.reshape(2, len(PARENTS), -1).argmax(-1)
  np.testing.assert_array_equal(found[..., 1] * SIDE + found[..., 0], peaks)


def hinge_of(potentials, example, truth, known, reach):
  """The hinge's definition in loops."""

  def loss(cells):
    far = [
      min(np.hypot(x - u, y - v) / reach, 1)
      for (x, y), (u, v), there in zip(cells, truth, known, strict=True)
      if there
    ]
    return sum(far)

  best = max(
    score_of(potentials, example, cells, known) + loss(cells)
    for cells in configurations()
  )
  return best - score_of(potentials, example, truth, known)


def test_hinge_and_its_gradient():
  """Against loops, and against differences, which are exact up to rounding.

  The hinge is linear in the potentials near a point without ties, and a
  quadratic function of the means.
  """
  potentials = random_potentials(5)
  truth = np.array([[[0, 0], [1, 2], [2, 1], [1, 1]]] * 2, np.int32)
  known = np.array([[True] * 4, [True, True, False, True]])
  value = lambda potentials: hinge(potentials, PARENTS, truth, known, 1.5)
  found = value(potentials)
  for example in range(2):
    cells = tuple(map(tuple, truth[example].tolist()))
    expected = hinge_of(potentials, example, cells, known[example], 1.5)
    np.testing.assert_allclose(found[example], expected, rtol=1e-4)
  assert (found > 0).all()
  gradient = jax.jit(jax.grad(lambda p: value(p).sum()))(potentials)
  rng, step, total = np.random.default_rng(0), 2e-3, 0
  for name in Potentials._fields:
    array = getattr(potentials, name)
    for _ in range(2):
      way = rng.normal(size=array.shape).astype(np.float32)
      moved = [
        value(potentials._replace(**{name: array + sign * step * way})).sum()
        for sign in (1, -1)
      ]
      slope = float(moved[0] - moved[1]) / (2 * step)
      exact = float(jnp.vdot(getattr(gradient, name), way))
      np.testing.assert_allclose(exact, slope, atol=2e-2)
      total += abs(exact) > 0.1
  assert total > 4, 'most slopes are large beside the tolerance'


def test_hinge_is_nothing_where_the_truth_wins_by_its_margin():
  potentials = random_potentials(6)
  truth = np.array([[[0, 0], [1, 2], [2, 1], [1, 1]]] * 2, np.int32)
  unary = potentials.unary.copy()
  for part, (x, y) in enumerate(truth[0]):
    unary[:, part, y, x] += 50
  known = np.ones((2, 4), bool)
  won = potentials._replace(unary=unary)
  found = hinge(won, PARENTS, truth, known, 1.5)
  np.testing.assert_allclose(found, 0, atol=1e-4)


def test_refine_finds_the_top_of_a_paraboloid():
  """Two parts, whose unary terms and relation are parabolas: a 2x2 system.

  The neighbour stays at its cell, (4, 2): the first part's top is where
  2 (x - 2.3) + 2 q (x + d - 4) = 0, with the mean displacement d = 1.5 of both
  types together and q = 0.5, so x = (2.3 + 0.5 * 2.5) / 1.5 for the one
  direction; y the same way, with a displacement of 0.
  """
  side = 6
  place = np.arange(side)
  bowl = lambda x, y: -((place - x) ** 2)[None] - ((place - y) ** 2)[:, None]
  unary = np.stack([bowl(2.3, 1.8), bowl(4.0, 2.0)])[None].astype(np.float32)
  zero = np.zeros((2, 1, 2), np.float32)
  # Only the relation from the first part to the second counts.
  quadratic = np.array([[[0.5, 0.5]], [[0, 0]]], np.float32)
  means = np.array([[[1.5, 0.0]], [[0, 0]]], np.float32)
  potentials = Potentials(
    unary, np.zeros((1, 2, 1, side, side), np.float32), quadratic, zero, means
  )
  cells = infer(potentials, (1, -1))
  assert cells.tolist() == [[[2, 2], [4, 2]]]
  found = refine(potentials, (1, -1), cells)
  expected = [(2.3 + 0.5 * 2.5) / 1.5, (1.8 + 0.5 * 2.0) / 1.5]
  np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)
  # The second part's: (4 + 0.5 * (2 + 1.5)) / 1.5 is 3.83, and 2 is 2.
  np.testing.assert_allclose(found[0, 1], [5.75 / 1.5, 2.0], atol=1e-5)


def test_refine_stays_at_the_border():
  unary = np.zeros((1, 1, 3, 3), np.float32)
  unary[0, 0, 0, 2] = 1  # the last column of the first row
  potentials = Potentials(
    unary, np.zeros((1, 0, 1, 3, 3)), *(np.zeros((0, 1, 2)) for _ in range(3))
  )
  cells = infer(potentials, (-1,))
  assert refine(potentials, (-1,), cells).tolist() == [[[2, 0]]]
