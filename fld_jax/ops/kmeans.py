"""K-means over a stream of vectors, on all devices.

Lloyd's algorithm from a k-means++ start. The vectors pass by in chunks, so
neither the devices nor the host hold them all. Each process of a run has chunks
of its own: they are stepped through together, a block of each at a time, and
what a step finds is the same on all. A vector may lack coordinates: distances
are over those that are there, times sqrt(D / their number), and a centre's
coordinate is the mean over the members that have it.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import threefry_2x32

from fld_jax.errors import InputError
from fld_jax.runtime import processes
from fld_jax.runtime.parallel import AXIS, Parallel

# Numbers in a device's share of a block: enough to keep a device busy, and few
# enough for a CPU's cache, outside of which a step takes four times as long.
_SHARE = 2**19

# No TF32 or bfloat16 on accelerators.
_dot = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


class KMeans(NamedTuple):
  """What `kmeans` returns.

  Attributes:
    centres: (K, D) float32.
    inertia: sum of the squared differences to the nearest centre over the
      coordinates that are there (not rescaled: this is what Lloyd's steps
      lower).
    counts: (K,) int64 members; vectors without any coordinate belong nowhere.
    num_iters: how often the centres were moved.
  """

  centres: np.ndarray
  inertia: float
  counts: np.ndarray
  num_iters: int


def mask_scale(mask):
  """(B,) D / number of coordinates that are there, for a mask (B, D)."""
  return mask.shape[1] / jnp.maximum(jnp.sum(mask, axis=1), 1)


def _nearest(z, mask, weight, mean, centres):
  """Finds each vector's centre. A mask None stands for a full one (faster).

  Returns:
    (vectors less the mean, index of the nearest centre, squared difference to
    it over the coordinates that are there, squared distance to it).
  """
  x = z - mean
  # x^2 - 2 x c + c^2 without x^2, which is the same for all centres. It only
  # ranks the centres; the gap comes from differences, which don't cancel.
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


def _first_best(score, place, x):
  """Of the largest (rows,) score on all devices: (it, its place, its vector).

  Of equals it is the one with the lowest place.
  """
  best = jnp.argmax(score)
  values = lax.all_gather(score[best], AXIS)
  places = lax.all_gather(place[best], AXIS)
  highest = values == jnp.max(values)
  device = jnp.argmin(jnp.where(highest, places, jnp.uint32(2**32 - 1)))
  mine = lax.axis_index(AXIS) == device
  vector = lax.psum(jnp.where(mine, x[best], 0.0), AXIS)
  return values[device], places[device], vector


def _lloyd_step(z, mask, weight, place, mean, centres):
  """Sums over a block, and its farthest vector."""
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


def _draw_step(z, mask, weight, place, mean, centres, draw):
  """Draws a vector of a block, by the squared distances to the centres.

  Each vector has a clock that rings after Exp(1) / chance, and the first to
  ring wins, so blocks can be compared one after the other. `draw` is (seed,
  number of the draw); with a vector's place it decides the noise.
  """
  x, _, _, distance = _nearest(z, mask, weight, mean, centres)
  chance = jnp.where(draw[1] == 0, weight, distance)
  bits = threefry_2x32(draw, jnp.concatenate([place, jnp.zeros_like(place)]))
  high, low = bits.reshape(2, -1).astype(jnp.float32)
  # 64 bits, since 2^23 steps would not tell 10^8 vectors apart.
  uniform = jnp.minimum(
    (high + (low + 0.5) * 2.0**-32) * 2.0**-32, 1 - 2.0**-24
  )
  ring = jnp.log(chance) - jnp.log(-jnp.log1p(-uniform))
  return _first_best(ring, place, x)


@functools.lru_cache(maxsize=8)
def _compiled(parallel):
  """(Lloyd step, draw step); cached, since each wrap compiles anew."""
  inputs = (True, True, True, True, False, False)
  return (
    parallel.compile(_lloyd_step, inputs, (False, False)),
    parallel.compile(_draw_step, (*inputs, False), False),
  )


class _Survey(NamedTuple):
  """What a first pass tells about one process's vectors."""

  sums: np.ndarray | float  # (D,) float64
  present: np.ndarray | int  # (D,) how many have the coordinate
  size: int  # vectors with a coordinate
  full: bool  # no vector lacks any
  lengths: list[int]  # of the chunks


def _survey(chunks, places) -> _Survey:
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
  """This process's vectors, and what a first pass tells about all."""

  chunks: Callable
  places: np.ndarray  # (n,) of this process's among all
  parallel: Parallel
  mean: np.ndarray  # (D,); centred vectors lose less to rounding
  size: int  # vectors with a coordinate, of all processes
  full: bool  # no vector lacks any
  rows: int  # of a block, of this process
  num_blocks: int  # of a pass

  @classmethod
  def open(cls, chunks, places, parallel):
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

  def blocks(self):
    """Yields (z, mask, weight, place) of `rows` rows, to be sharded.

    Every process gets as many: who has fewer vectors adds rows of weight 0.
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

  def _block(self, z, mask, place):
    weight = np.ones(len(z)) if self.full else mask.any(1)
    return (
      self._padded(z, np.float32),
      None if self.full else self._padded(mask, bool),
      self._padded(weight, np.float32),
      self._padded(place, np.uint32),
    )

  def _padded(self, x, dtype):
    x = np.asarray(x, dtype)
    short = self.rows - len(x)
    return np.pad(x, ((0, short), *((0, 0),) * (x.ndim - 1))) if short else x

  def steps(self, step, *whole):
    """Yields what a step returns of each block, as NumPy arrays."""
    whole = self.parallel.replicate(whole)
    for block in self.blocks():
      out = step(*self.parallel.shard(block), *whole)
      yield jax.device_get(self.parallel.unreplicate(out))


def _better(new, best):
  """Whether a (score, place, vector) comes before another."""
  return new[0] > best[0] or (new[0] == best[0] and new[1] < best[1])


def _assign(stream, centres):
  """One pass: float64 totals of `_lloyd_step`, and the farthest vector."""
  step, totals, farthest = _compiled(stream.parallel)[0], None, (0.0, 0, None)
  for new, found in stream.steps(step, stream.mean, centres):
    new = {name: np.asarray(x, np.float64) for name, x in new.items()}
    totals = {name: totals[name] + new[name] for name in new} if totals else new
    farthest = found if _better(found, farthest) else farthest
  return totals, farthest[2]


def _plus_plus(stream, num_clusters, seed):
  """(K, D) centred start by k-means++ (Arthur and Vassilvitskii, SODA 2007)."""
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
    # The places still to fill repeat a centre, which changes no distance.
    centres[number:] = winner[2]
  return centres


def _moved(centres, totals, farthest):
  """Centres at their members' means; the first empty one at the farthest."""
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
  places: np.ndarray | None = None,
  num_iters: int = 100,
  tolerance: float = 1e-6,
  init: np.ndarray | None = None,
) -> KMeans:
  """Clusters a stream of vectors, of which each process has a share.

  Neither the chunks' sizes nor the number of devices and processes change the
  result, but for rounding. A cluster that loses all its members starts again at
  the vector that is farthest from its centre, one cluster an iteration.

  Args:
    chunks: called once a pass (num_clusters + num_iters + 2 times at most);
      gives an iterable of (z, mask): (n, D) float and bool NumPy arrays, the
      same each time, n of any size (some thousands keep the devices busy). A
      process may have none.
    num_clusters: K.
    seed: 0 to 2^32 - 1, of the k-means++ start.
    parallel: the devices, of all processes.
    places: below 2^32, ascending, those of this process's vectors among all;
      None if it has them all.
    num_iters: how often the centres move at most; 0 only evaluates the start.
    tolerance: stop when an iteration lowers the inertia by a smaller share,
      or moves no centre.
    init: (K, D) the start; None draws one with k-means++.

  Returns:
    KMeans; counts and inertia are those of the returned centres.

  Raises:
    InputError: a vector is not finite, or fewer different ones than clusters.
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
