"""Pictorial structures: the best configuration of parts on a tree.

A configuration gives each part i a cell l_i of a W x W map. Its score is that
of Chen and Yuille (NIPS 2014, section 2; docs/methods.md 2.2),

  F(l) = sum_i U_i(l_i) + sum_(i,j) R_ij(l_j - l_i, l_i)
  R_ij = max_t [T_ij^t(l_i) - q_ij^t (d - r_ij^t)^2 - b_ij^t (d - r_ij^t)]

over the parts i and over both directions (i, j) of each edge of the tree, with
the displacement d = l_j - l_i, of which each axis has weights of its own. The
type t of a relation has a mean displacement r. A type stands in no other term,
so the best configuration has the best types of its cells.

Cells are (x, y), displacements are in cells. The edges are those of the parts
with a parent, in the order of the parts; the relation 2 e is that of edge e
from the child to the parent, 2 e + 1 the one back.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class Potentials(NamedTuple):
  """The terms of the score of P parts and R relations of K types.

  Attributes:
    unary: (B, P, W, W) U, the score of each part at each cell, rows first.
    types: (B, R, K, W, W) T, the score of each type at the cell of the part
      that the relation starts from.
    quadratic: (R, K, 2) q, at least 0, of x and y.
    linear: (R, K, 2) b, of x and y.
    means: (R, K, 2) r, of x and y.
  """

  unary: Float[Array, 'b p w w']
  types: Float[Array, 'b r k w w']
  quadratic: Float[Array, 'r k 2']
  linear: Float[Array, 'r k 2']
  means: Float[Array, 'r k 2']


def edges(parents: Sequence[int]) -> list[tuple[int, int]]:
  """Lists the edges of a tree.

  Args:
    parents: The parent of each of P parts, -1 for the root.

  Returns:
    (child, parent) of each edge.
  """
  return [(child, to) for child, to in enumerate(parents) if to >= 0]


def relations(parents: Sequence[int]) -> list[tuple[int, int]]:
  """Lists the relations of a tree: both directions of each edge.

  Args:
    parents: The parent of each of P parts, -1 for the root.

  Returns:
    (start, end) of each relation.
  """
  return [end for edge in edges(parents) for end in (edge, edge[::-1])]


def _levels(parents: Sequence[int]) -> list[list[int]]:
  """The parts by their distance from the root."""

  def depth(part: int) -> int:
    return 0 if parents[part] < 0 else 1 + depth(parents[part])

  found = [[] for _ in parents]
  for part in range(len(parents)):
    found[depth(part)].append(part)
  return [level for level in found if level]


def distance_transform(
  scores: Float[Array, '... w w'],
  rows: Float[Array, '... w w'],
  columns: Float[Array, '... w w'],
) -> Float[Array, '... w w']:
  """Computes the best score from all cells, less the cost of the way.

  The generalised distance transform of Felzenszwalb and Huttenlocher (2012) for
  any separable cost, by the maximum over rows and then over columns, in O(W^3)
  for W^2 cells.

  Args:
    scores: (..., W, W) scores of the cells that one may come from, rows first.
    rows: (..., W, W), entry (i, j) what it is worth to come to row i from row
      j.
    columns: (..., W, W), the same of columns.

  Returns:
    (..., W, W), at (i, j) the maximum over (k, l) of scores (k, l) + rows
    (i, k) + columns (j, l).
  """
  best = jnp.max(scores[..., None, :] + columns[..., None, :, :], axis=-1)
  best = jnp.swapaxes(best, -1, -2)  # its rows are columns
  best = jnp.max(best[..., None, :] + rows[..., None, :, :], axis=-1)
  return jnp.swapaxes(best, -1, -2)


def _worth(
  potentials: Potentials, axis: int, displacement: Float[Array, '... r n']
) -> Float[Array, '... r k n']:
  """What displacements along x (axis 0) or y (1) are worth by each type."""
  weights = (potentials.quadratic, potentials.linear, potentials.means)
  quadratic, linear, mean = (x[:, :, axis, None] for x in weights)
  gap = displacement[..., None, :] - mean
  return -quadratic * gap**2 - linear * gap


def _only(potentials: Potentials, relations: list[int]) -> Potentials:
  """The terms of some of the relations."""
  which = np.array(relations, int)
  return Potentials(
    potentials.unary,
    potentials.types[:, which],
    *(x[which] for x in potentials[2:]),
  )


def _message(
  up: Potentials, down: Potentials, scores: Float[Array, 'b c w w']
) -> Float[Array, 'b c w w']:
  """The best scores of children's subtrees for each cell of their parents.

  Args:
    up: The terms of the relations from the children.
    down: The terms of the relations to them.
    scores: The scores of the children's subtrees.
  """
  side = scores.shape[-1]
  place = jnp.arange(side)
  way = (place[:, None] - place).reshape(1, -1)  # from the child's place

  def both(axis: int) -> Float[Array, 'c k k w w']:
    there, back = _worth(up, axis, way), _worth(down, axis, -way)
    total = there[:, :, None] + back[:, None]
    return total.reshape(*total.shape[:3], side, side)

  start = scores[:, :, None] + up.types
  best = distance_transform(start[:, :, :, None], both(1), both(0))
  return jnp.max(best.max(axis=2) + down.types, axis=2)


def _from_anywhere(
  potentials: Potentials, to: Int[Array, 'b r 2']
) -> Float[Array, 'b r w w']:
  """The relations' best terms for each cell to start from, by their ends."""
  return _best_type(potentials.types, potentials, to, -1)


def _to_anywhere(
  potentials: Potentials, start: Int[Array, 'b r 2']
) -> Float[Array, 'b r w w']:
  """The relations' best terms for each cell to end at, by their starts."""
  types = _types_at(potentials, start)[..., None, None]
  return _best_type(types, potentials, -start, 1)


def _best_type(
  types: Float[Array, 'b r k _ _'],
  potentials: Potentials,
  known: Int[Array, 'b r 2'],
  sign: int,
) -> Float[Array, 'b r w w']:
  """The maximum over types for each cell, the way being known + sign * cell."""
  place = sign * jnp.arange(potentials.types.shape[-1])
  x, y = (
    _worth(potentials, axis, known[..., axis, None] + place) for axis in (0, 1)
  )
  return jnp.max(types + y[..., None] + x[..., None, :], axis=2)


def _flat(cells: Int[Array, 'b p 2'], side: int) -> Int[Array, 'b p']:
  """The places of cells (x, y) in maps that are written row by row."""
  return cells[..., 1] * side + cells[..., 0]


def _types_at(
  potentials: Potentials, start: Int[Array, 'b r 2']
) -> Float[Array, 'b r k']:
  """The scores of the types at the cells that relations start from."""
  b, r, k, side, _ = potentials.types.shape
  place = _flat(start, side)[..., None, None]
  flat = potentials.types.reshape(b, r, k, side * side)
  return jnp.take_along_axis(flat, place, axis=-1)[..., 0]


def at(
  maps: Float[Array, 'b p w w'], cells: Int[Array, 'b p 2']
) -> Float[Array, 'b p']:
  """Takes the values of maps at cells.

  Args:
    maps: (B, P, W, W) maps, rows first.
    cells: (B, P, 2) cells (x, y).

  Returns:
    (B, P) values.
  """
  b, p, side, _ = maps.shape
  flat = maps.reshape(b, p, side * side)
  place = _flat(cells, side)[..., None]
  return jnp.take_along_axis(flat, place, axis=-1)[..., 0]


def _peaks(maps: Float[Array, 'b p w w']) -> Int[Array, 'b p 2']:
  """The cells of the highest values, of equal ones the first."""
  b, p, side, _ = maps.shape
  place = jnp.argmax(maps.reshape(b, p, side * side), axis=-1)
  # Not % and //: the converter to ONNX supports them only for a fixed B.
  y = lax.div(place, side)
  return jnp.stack([place - side * y, y], axis=-1).astype(jnp.int32)


def infer(
  potentials: Potentials,
  parents: Sequence[int],
  known: Bool[Array, 'b p'] | None = None,
) -> Int[Array, 'b p 2']:
  """Finds the best configuration by max-sum from the leaves to the root.

  Args:
    potentials: The terms of the score.
    parents: The parent of each of P parts, -1 for the root.
    known: (B, P), the parts that take part; a relation counts if both of its
      ends do. None for all of them.

  Returns:
    (B, P, 2) cells (x, y) with the highest score; any cell for a part that
    takes no part. Of equally good cells of a part it is the first one.
  """
  numbers = {child: e for e, (child, _) in enumerate(edges(parents))}
  potentials = _masked(potentials, known)
  scores = [potentials.unary[:, part] for part in range(len(parents))]
  root, *levels = _levels(parents)
  terms = {}  # of each level: those of the relations up, and those down
  for level in levels:
    both = [[2 * numbers[part] + i for part in level] for i in (0, 1)]
    terms[level[0]] = [_only(potentials, relations) for relations in both]

  def related(level: list[int]) -> Bool[Array, 'b c 1 1']:
    there = [known[:, part] & known[:, parents[part]] for part in level]
    return jnp.stack(there, axis=1)[..., None, None]

  for level in reversed(levels):
    own = jnp.stack([scores[part] for part in level], axis=1)
    message = _message(*terms[level[0]], own)
    if known is not None:
      alone = jnp.max(own, axis=(2, 3), keepdims=True)
      message = jnp.where(related(level), message, alone)
    for i, part in enumerate(level):
      scores[parents[part]] += message[:, i]
  found = {root[0]: _peaks(scores[root[0]][:, None])[:, 0]}
  for level in levels:
    up, down = terms[level[0]]
    there = jnp.stack([found[parents[part]] for part in level], axis=1)
    term = _from_anywhere(up, there) + _to_anywhere(down, there)
    if known is not None:
      term = jnp.where(related(level), term, 0.0)
    own = jnp.stack([scores[part] for part in level], axis=1)
    cells = _peaks(own + term)
    found |= {part: cells[:, i] for i, part in enumerate(level)}
  return jnp.stack([found[part] for part in range(len(parents))], axis=1)


def _masked(
  potentials: Potentials, known: Bool[Array, 'b p'] | None
) -> Potentials:
  """The terms without those of parts that take no part."""
  if known is None:
    return potentials
  unary = jnp.where(known[..., None, None], potentials.unary, 0.0)
  return potentials._replace(unary=unary)


def _ends(parents: Sequence[int]) -> Int[np.ndarray, '2 r']:
  """The parts that the relations start from, and those they end at."""
  return np.array(relations(parents), int).reshape(-1, 2).T


def score(
  potentials: Potentials,
  parents: Sequence[int],
  cells: Int[Array, 'b p 2'],
  known: Bool[Array, 'b p'] | None = None,
) -> Float[Array, ' b']:
  """Computes the score of configurations, with the best types of each.

  At the cells of `infer` it is the maximum over all configurations, and its
  gradient with respect to the potentials is that of the maximum.

  Args:
    potentials: The terms of the score.
    parents: The parent of each of P parts, -1 for the root.
    cells: (B, P, 2) cells (x, y).
    known: See `infer`.

  Returns:
    (B,) scores.
  """
  total = jnp.sum(at(_masked(potentials, known).unary, cells), axis=1)
  start, end = _ends(parents)
  way = (cells[:, end] - cells[:, start]).astype(jnp.float32)
  x, y = (_worth(potentials, i, way[..., i, None])[..., 0] for i in (0, 1))
  types = _types_at(potentials, cells[:, start])
  terms = types + x + y
  # By place: the gradient of a maximum compares the terms with it, finds none
  # equal where the compiler computes them twice and rounds otherwise (products
  # and sums in one instruction or two), and is then 0 / 0.
  best = jnp.argmax(lax.stop_gradient(terms), axis=-1, keepdims=True)
  terms = jnp.take_along_axis(terms, best, axis=-1)[..., 0]
  if known is not None:
    terms = jnp.where(known[:, start] & known[:, end], terms, 0.0)
  return total + jnp.sum(terms, axis=1)


def refine(
  potentials: Potentials,
  parents: Sequence[int],
  cells: Int[Array, 'b p 2'],
) -> Float[Array, 'b p 2']:
  """Moves the best configuration to places between the middles of cells.

  Each part goes to the top of the parabolas through its score at its cell and
  at the neighbours in x and in y, the other parts being where they are: at most
  half a cell, and not at all along an axis where the map ends.

  Args:
    potentials: The terms of the score.
    parents: The parent of each of P parts, -1 for the root.
    cells: (B, P, 2) cells (x, y) of `infer`.

  Returns:
    (B, P, 2) fractional cells.
  """
  maps = [potentials.unary[:, part] for part in range(len(parents))]
  start, end = _ends(parents)
  leaves = _from_anywhere(potentials, cells[:, end])
  comes = _to_anywhere(potentials, cells[:, start])
  for relation, (first, last) in enumerate(relations(parents)):
    maps[first] += leaves[:, relation]
    maps[last] += comes[:, relation]
  maps, side = jnp.stack(maps, axis=1), potentials.unary.shape[-1]

  def shift(step: Int[np.ndarray, '2']) -> Float[Array, 'b p']:
    before, here, after = (
      at(maps, jnp.clip(cells + i * step, 0, side - 1)) for i in (-1, 0, 1)
    )
    place = jnp.sum(cells * step, axis=-1)
    bend = before - 2 * here + after
    is_top = (place > 0) & (place < side - 1) & (bend < 0)
    top = (before - after) / (2 * jnp.where(is_top, bend, 1.0))
    return jnp.where(is_top, jnp.clip(top, -0.5, 0.5), 0.0)

  moves = [shift(np.array(step)) for step in ((1, 0), (0, 1))]
  return cells + jnp.stack(moves, axis=-1)


def hinge(
  potentials: Potentials,
  parents: Sequence[int],
  truth: Int[Array, 'b p 2'],
  known: Bool[Array, 'b p'],
  reach: float,
) -> Float[Array, ' b']:
  """Computes the structured hinge loss of the truth, with any types.

  It is the highest score plus loss of all configurations, less the score of
  the true one: the loss of a part is its distance from the truth, in `reach`,
  and at most 1. The true types are those that fit best, which are latent
  (Felzenszwalb et al., 2010). The gradient is that of the two scores at the
  best rival, a subgradient.

  Args:
    potentials: The terms of the score.
    parents: The parent of each of P parts, -1 for the root.
    truth: (B, P, 2) true cells (x, y); any cell for a part that is not known.
    known: (B, P), the parts with a true cell.
    reach: The distance, in cells, from which on a part's loss is 1.

  Returns:
    (B,) losses, at least 0.
  """
  place = jnp.arange(potentials.unary.shape[-1])
  x, y = ((place - truth[..., axis, None]) ** 2 for axis in (0, 1))
  distance = jnp.sqrt((y[..., None] + x[..., None, :]).astype(jnp.float32))
  margin = jnp.minimum(distance / reach, 1.0)
  rivals = potentials._replace(unary=potentials.unary + margin)
  cells = infer(jax.tree.map(lax.stop_gradient, rivals), parents, known)
  best = score(rivals, parents, cells, known)
  return best - score(potentials, parents, truth, known)
