"""K-means over a stream of vectors, on all devices.

It is Lloyd's algorithm from a k-means++ start. The vectors come in chunks, so
neither the devices nor the host hold them all. Each process of a run has chunks
of its own. The processes work in step, on one block each at a time, and the
result of a step is the same on all. A vector may lack coordinates: distances
are over the known ones, times sqrt(D / their number), and a centre's coordinate
is the mean over the members that have it.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import threefry_2x32
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt32

from fld_jax.errors import InputError
from fld_jax.runtime import processes
from fld_jax.runtime.parallel import AXIS, Parallel

# How many numbers a device's share of a block holds: enough to keep a device
# busy, and few enough for a CPU's cache, without which a step takes four times
# as long.
_SHARE = 2**19

# No TF32 or bfloat16 on accelerators.
_dot = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


class KMeans(NamedTuple):
  """The result of `kmeans`.

  Attributes:
    centres: (K, D) float32 centres in the unit of the vectors.
    inertia: The sum of the squared differences to the nearest centre over the
      known coordinates. It is not rescaled, since this sum is what Lloyd's
      steps lower.
    counts: (K,) int64 numbers of members; a vector without any known coordinate
      is a member of no cluster.
    num_iters: The number of times that the centres were moved.
  """

  centres: np.ndarray
  inertia: float
  counts: np.ndarray
  num_iters: int


def mask_scale(mask: Bool[Array, 'b d']) -> Float[Array, ' b']:
  """Computes the factor of squared distances over known coordinates.

  Args:
    mask: (B, D) bool, True for the coordinates that are known.

  Returns:
    (B,) D / the number of known coordinates, D if there is none.
  """
  return mask.shape[1] / jnp.maximum(jnp.sum(mask, axis=1), 1)


def _nearest(
  z: Float[Array, 'b d'],
  mask: Bool[Array, 'b d'] | None,
  weight: Float[Array, ' b'],
  mean: Float[Array, ' d'],
  centres: Float[Array, 'k d'],
) -> tuple[
  Float[Array, 'b d'], Int[Array, ' b'], Float[Array, ' b'], Float[Array, ' b']
]:
  """Finds each vector's centre.

  Args:
    z: (B, D) vectors.
    mask: (B, D) bool, True for the known coordinates; None if all are known,
      which is faster.
    weight: (B,) 1 for a vector, 0 for padding and vectors without a coordinate.
    mean: (D,) mean of all vectors.
    centres: (K, D) centres less the mean.

  Returns:
    (B, D) vectors less the mean; (B,) index of the nearest centre; (B,) squared
    difference to it over the known coordinates; (B,) squared distance to it.
  """
  x = z - mean
  # x^2 - 2 x c + c^2 without x^2, which is the same for all centres. It only
  # ranks the centres: the gap is computed from differences, which are exact.
  if mask is None:
    nearest = jnp.argmin(jnp.sum(centres**2, 1) - 2 * _dot(x, centres.T), 1)
    gap = weight * jnp.sum((x - centres[nearest]) ** 2, axis=1)
    return x, nearest, gap, gap
  x = jnp.where(mask, x, 0.0)
  present = mask.astype(x.dtype)
  rank = _dot(present, (centres**2).T) - 2 * _dot(x, centres.T)
  nearest = jnp.argmin(rank, axis=1)
  differences = jnp.where(mask, x - centres[nearest], 0.0)
  gap = weight * jnp.sum(differences**2, axis=1)
  return x, nearest, gap, gap * mask_scale(mask)


def _first_best(
  score: Float[Array, ' b'], place: UInt32[Array, ' b'], x: Float[Array, 'b d']
) -> tuple[Float[Array, ''], UInt32[Array, ''], Float[Array, ' d']]:
  """Finds the largest score on all devices.

  Returns:
    The score, its place and its vector. Of equal scores it is the one with the
    lowest place.
  """
  best = jnp.argmax(score)
  values = lax.all_gather(score[best], AXIS)
  places = lax.all_gather(place[best], AXIS)
  highest = values == jnp.max(values)
  device = jnp.argmin(jnp.where(highest, places, jnp.uint32(2**32 - 1)))
  mine = lax.axis_index(AXIS) == device
  vector = lax.psum(jnp.where(mine, x[best], 0.0), AXIS)
  return values[device], places[device], vector


def _lloyd_step(
  z: Float[Array, 'b d'],
  mask: Bool[Array, 'b d'] | None,
  weight: Float[Array, ' b'],
  place: UInt32[Array, ' b'],
  mean: Float[Array, ' d'],
  centres: Float[Array, 'k d'],
) -> tuple[dict[str, Float[Array, '...']], tuple]:
  """Computes a block's sums for Lloyd's algorithm, and its farthest vector.

  Args:
    z: (B, D) vectors, this device's share of the block.
    mask: (B, D) bool, True for the known coordinates; None if all are known.
    weight: (B,) 1 for a vector, 0 for padding and vectors without a coordinate.
    place: (B,) the places of the vectors among all.
    mean: (D,) mean of all vectors.
    centres: (K, D) centres less the mean.

  Returns:
    (totals, farthest). The totals are sums over the block on all devices: each
    cluster's `sums` (K, D) of vectors less the mean, `present`, how many
    members have each coordinate ((K, D), or (K, 1) if all are known), `counts`
    (K,) of members, and the `inertia`. `farthest` is the result of
    `_first_best`.
  """
  x, nearest, gap, distance = _nearest(z, mask, weight, mean, centres)
  member = jax.nn.one_hot(nearest, len(centres)) * weight[:, None]
  counts = jnp.sum(member, axis=0)
  totals = {
    'sums': _dot(member.T, x),
    'present': counts[:, None]
    if mask is None
    else _dot(member.T, mask.astype(x.dtype)),
    'counts': counts,
    'inertia': jnp.sum(gap),
  }
  return lax.psum(totals, AXIS), _first_best(distance, place, x)


def _draw_step(
  z: Float[Array, 'b d'],
  mask: Bool[Array, 'b d'] | None,
  weight: Float[Array, ' b'],
  place: UInt32[Array, ' b'],
  mean: Float[Array, ' d'],
  centres: Float[Array, 'k d'],
  draw: UInt32[Array, '2'],
) -> tuple[Float[Array, ''], UInt32[Array, ''], Float[Array, ' d']]:
  """Draws a vector of a block, in proportion to squared distances to centres.

  Each vector gets an exponential waiting time with its squared distance as the
  rate, and the shortest time wins. So blocks can be compared one after another.

  Args:
    z: (B, D) vectors, this device's share of the block.
    mask: (B, D) bool, True for the known coordinates; None if all are known.
    weight: (B,) 1 for a vector, 0 for padding and vectors without a coordinate.
    place: (B,) the places of the vectors among all.
    mean: (D,) mean of all vectors.
    centres: (K, D) centres less the mean.
    draw: (2,) the seed and the number of the draw, from 0 on. With a vector's
      place they decide its random number. Draw 0 is uniform.

  Returns:
    The result of `_first_best`; the score is the negative logarithm of the
    waiting time.
  """
  x, _, _, distance = _nearest(z, mask, weight, mean, centres)
  chance = jnp.where(draw[1] == 0, weight, distance)
  bits = threefry_2x32(draw, jnp.concatenate([place, jnp.zeros_like(place)]))
  high, low = bits.reshape(2, -1).astype(jnp.float32)
  # From 64 bits: with the 2^23 values of one float32, 10^8 vectors would tie.
  uniform = jnp.minimum(
    (high + (low + 0.5) * 2.0**-32) * 2.0**-32, 1 - 2.0**-24
  )
  ring = jnp.log(chance) - jnp.log(-jnp.log1p(-uniform))
  return _first_best(ring, place, x)


@functools.lru_cache(maxsize=8)
def _compiled(parallel: Parallel) -> tuple[Callable, Callable]:
  """Returns the Lloyd step and the draw step, cached for later calls."""
  inputs = (True, True, True, True, False, False)
  return (
    parallel.compile(_lloyd_step, inputs, (False, False)),
    parallel.compile(_draw_step, (*inputs, False), False),
  )


class _Survey(NamedTuple):
  """The facts about one process's vectors that a first pass collects.

  Attributes:
    sums: (D,) float64 sums of each coordinate where it is known; 0.0 without a
      chunk.
    present: (D,) the number of vectors that have the coordinate; 0 without a
      chunk.
    size: The number of vectors with a known coordinate.
    full: Whether every vector has all its coordinates.
    lengths: The number of vectors in each chunk.
  """

  sums: np.ndarray | float
  present: np.ndarray | int
  size: int
  full: bool
  lengths: list[int]


def _survey(
  chunks: Callable[[], Iterable], places: Int[np.ndarray, ' n'] | None
) -> _Survey:
  """Makes a first pass over this process's vectors."""
  sums, present, size, full, lengths = 0.0, 0, 0, True, []
  for z, mask in chunks():
    bad = (~np.isfinite(z) & mask).any(1)
    if bad.any():
      vector = sum(lengths) + int(np.argmax(bad))
      raise InputError(
        f'pseudo-label vector {vector if places is None else places[vector]} '
        'is not finite: has the stage before diverged?'
      )
    sums = sums + np.where(mask, z, 0.0).sum(0, dtype=np.float64)
    present = present + mask.sum(0)
    size += int(mask.any(1).sum())
    full = full and bool(mask.all())
    lengths.append(len(z))
  return _Survey(sums, present, size, full, lengths)


class _Stream(NamedTuple):
  """This process's vectors, and facts about those of all processes.

  Attributes:
    chunks: The function that gives this process's chunks anew.
    places: (n,) the places of this process's vectors among all.
    parallel: The devices, of all processes.
    mean: (D,) float32 mean of all vectors. Steps subtract it, since centred
      vectors lose less to rounding.
    size: The number of all processes' vectors with a known coordinate.
    full: Whether every vector of all processes has all its coordinates.
    rows: The number of rows of a block that this process fills.
    num_blocks: The number of blocks in a pass.
  """

  chunks: Callable
  places: np.ndarray
  parallel: Parallel
  mean: np.ndarray
  size: int
  full: bool
  rows: int
  num_blocks: int

  @classmethod
  def open(
    cls,
    chunks: Callable[[], Iterable],
    places: Int[np.ndarray, ' n'] | None,
    parallel: Parallel,
  ) -> '_Stream':
    """Makes a first pass, and plans the blocks; arguments of `kmeans`."""
    surveys = processes.call_on_all(lambda: _survey(chunks, places))
    sums, present, sizes, full, lengths = zip(*surveys, strict=True)
    if not sum(sizes):
      raise InputError('There are no pseudo-label vectors with a position.')
    mean = (sum(sums) / np.maximum(sum(present), 1)).astype(np.float32)
    devices = parallel.num_devices // parallel.num_processes
    most = devices * max(1, _SHARE // len(mean))
    # The longest chunk in equal parts, as few as fit.
    longest = max(map(max, filter(None, lengths)))
    rows = math.ceil(longest / math.ceil(longest / most))
    rows = math.ceil(rows / devices) * devices
    blocks = (sum(math.ceil(n / rows) for n in own) for own in lengths)
    if places is None:
      places = np.arange(sum(lengths[processes.index()]))
    return cls(
      chunks, places, parallel, mean, sum(sizes), all(full), rows, max(blocks)
    )

  def blocks(self) -> Iterator[tuple]:
    """Makes a pass over the vectors.

    Every process gets `num_blocks` blocks; one with fewer vectors adds rows of
    weight 0.

    Yields:
      (z, mask, weight, place), this process's share of a block, with `rows`
      rows each; the mask is None if all coordinates are known.
    """
    processes.barrier('a pass of k-means')
    start = number = 0
    for z, mask in self.chunks():
      for first in range(0, len(z), self.rows):
        part = slice(first, min(first + self.rows, len(z)))
        place = self.places[start + part.start : start + part.stop]
        yield self._block(z[part], mask[part], place)
        number += 1
      start += len(z)
    if start != len(self.places):
      raise ValueError('chunks() does not give the same vectors each time.')
    nothing = np.zeros((0, len(self.mean)))
    for _ in range(number, self.num_blocks):
      yield self._block(nothing, nothing, nothing[:, 0])

  def _block(
    self,
    z: Float[np.ndarray, 'n d'],
    mask: Shaped[np.ndarray, 'n d'],
    place: Shaped[np.ndarray, ' n'],
  ) -> tuple:
    """Pads vectors to a block."""
    weight = np.ones(len(z)) if self.full else mask.any(1)
    return (
      self._padded(z, np.float32),
      None if self.full else self._padded(mask, bool),
      self._padded(weight, np.float32),
      self._padded(place, np.uint32),
    )

  def _padded(
    self, x: Shaped[np.ndarray, 'n ...'], dtype: DTypeLike
  ) -> Shaped[np.ndarray, 'rows ...']:
    """Adds zeros up to the number of rows of a block."""
    x = np.asarray(x, dtype)
    short = self.rows - len(x)
    return np.pad(x, ((0, short), *((0, 0),) * (x.ndim - 1))) if short else x

  def steps(
    self, step: Callable, *whole: Float[np.ndarray, '...']
  ) -> Iterator[Any]:
    """Runs a compiled step on every block of a pass.

    Args:
      step: `_lloyd_step` or `_draw_step`, compiled.
      *whole: The arguments of the step after the block's.

    Yields:
      What the step returns for a block, as NumPy arrays.
    """
    whole = self.parallel.replicate(whole)
    for block in self.blocks():
      out = step(*self.parallel.shard(block), *whole)
      yield jax.device_get(self.parallel.unreplicate(out))


def _better(new: tuple, best: tuple) -> bool:
  """Tells whether a (score, place, vector) comes before another one."""
  return new[0] > best[0] or (new[0] == best[0] and new[1] < best[1])


def _assign(
  stream: _Stream, centres: Float[np.ndarray, 'k d']
) -> tuple[dict[str, Float[np.ndarray, '...']], Float[np.ndarray, ' d'] | None]:
  """Makes a pass of Lloyd's algorithm.

  Returns:
    The totals of `_lloyd_step` over all blocks in float64, and the (D,) vector
    less the mean that is farthest from its centre; None if all are at a centre.
  """
  step, totals, farthest = _compiled(stream.parallel)[0], None, (0.0, 0, None)
  for new, found in stream.steps(step, stream.mean, centres):
    new = {name: np.asarray(x, np.float64) for name, x in new.items()}
    totals = {name: totals[name] + new[name] for name in new} if totals else new
    farthest = found if _better(found, farthest) else farthest
  return totals, farthest[2]


def _plus_plus(
  stream: _Stream, num_clusters: int, seed: int
) -> Float[np.ndarray, 'k d']:
  """Draws the start by k-means++ (Arthur and Vassilvitskii, SODA 2007).

  Returns:
    (K, D) float32 centres less the mean.
  """
  step = _compiled(stream.parallel)[1]
  centres = np.zeros((num_clusters, len(stream.mean)), np.float32)
  for number in range(num_clusters):
    draw, winner = np.array([seed, number], np.uint32), (-np.inf, 0, None)
    for found in stream.steps(step, stream.mean, centres, draw):
      winner = found if _better(found, winner) else winner
    if winner[2] is None:
      raise InputError(
        f'num_clusters is {num_clusters}, but the pseudo-label vectors have '
        f'only {number} different values: choose fewer.'
      )
    # The rows still to fill repeat a centre, which changes no distance.
    centres[number:] = winner[2]
  return centres


def _moved(
  centres: Float[np.ndarray, 'k d'],
  totals: dict[str, Float[np.ndarray, '...']],
  farthest: Float[np.ndarray, ' d'] | None,
) -> Float[np.ndarray, 'k d']:
  """Moves centres to their members' means.

  The first centre without members moves to the farthest vector.
  """
  sums, present = totals['sums'], totals['present']
  means = np.where(present > 0, sums / np.maximum(present, 1), centres)
  empty = np.flatnonzero(totals['counts'] == 0)
  if len(empty) and farthest is not None:
    means[empty[0]] = farthest
  return means.astype(np.float32)


def kmeans(
  chunks: Callable[[], Iterable],
  num_clusters: int,
  *,
  seed: int,
  parallel: Parallel,
  places: Int[np.ndarray, ' n'] | None = None,
  num_iters: int = 100,
  tolerance: float = 1e-6,
  init: Float[np.ndarray, 'k d'] | None = None,
) -> KMeans:
  """Clusters a stream of vectors, of which each process has a share.

  Neither the chunks' sizes nor the number of devices and processes change the
  result, but for rounding. A cluster that loses all its members starts again at
  the vector that is farthest from its centre, one cluster in each iteration.

  Args:
    chunks: A function that is called once for each pass, num_clusters +
      num_iters + 2 times at most. It returns an iterable of (z, mask), (n, D)
      float and bool NumPy arrays, the same each time. n is any number; some
      thousands keep the devices busy. A process may have no chunk.
    num_clusters: The number of clusters K, at least 1.
    seed: The seed of the k-means++ start, 0 to 2^32 - 1.
    parallel: The devices, of all processes.
    places: (n,) the places of this process's vectors among all, ascending and
      below 2^32; None if this process has all vectors.
    num_iters: The largest number of times that the centres move; 0 only
      evaluates the start.
    tolerance: The relative decrease of the inertia below which the iterations
      stop. They also stop when no centre moves.
    init: (K, D) centres to start from; None draws them with k-means++.

  Returns:
    The clusters; counts and inertia are those of the returned centres.

  Raises:
    InputError: If a vector is not finite, or there are fewer different vectors
      than clusters.
    ValueError: If `chunks` does not give the same vectors each time.
  """
  stream = _Stream.open(chunks, places, parallel)
  if stream.size < num_clusters:
    raise InputError(
      f'num_clusters is {num_clusters}, but there are only {stream.size} '
      'pseudo-label vectors: choose fewer.'
    )
  if init is None:
    centres = _plus_plus(stream, num_clusters, seed)
  else:
    centres = (np.asarray(init) - stream.mean).astype(np.float32)
  before, moves = np.inf, 0
  while True:
    totals, farthest = _assign(stream, centres)
    inertia = float(totals['inertia'])
    target = _moved(centres, totals, farthest)
    small = before - inertia < tolerance * before and totals['counts'].all()
    if moves == num_iters or small or np.array_equal(target, centres):
      break
    centres, before, moves = target, inertia, moves + 1
  return KMeans(
    centres + stream.mean, inertia, totals['counts'].astype(np.int64), moves
  )
