"""K-means over a stream of vectors, on all devices.

Lloyd's algorithm from a k-means++ start. The vectors pass by in chunks, so
neither the devices nor the host hold them all. A vector may lack coordinates:
distances are over those that are there, times sqrt(D / their number), and a
centre's coordinate is the mean over the members that have it.
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
from fld_jax.parallel import AXIS, Parallel

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


def _first_best(score):
  """Largest entry of (rows,) over all devices, and its row in the block."""
  best = jnp.argmax(score)
  values = lax.all_gather(score[best], AXIS)
  rows = lax.all_gather(best, AXIS)
  device = jnp.argmax(values)
  return values[device], device * len(score) + rows[device]


def _lloyd_step(z, mask, weight, mean, centres):
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
  return lax.psum(totals, AXIS), _first_best(distance)


def _draw_step(z, mask, weight, mean, centres, draw):
  """Draws a vector of a block, by the squared distances to the centres.

  Each vector has a clock that rings after Exp(1) / chance, and the first to
  ring wins, so blocks can be compared one after the other. `draw` is (seed,
  number of the draw, index of the block's first vector); with a vector's place
  in the block it decides the noise.
  """
  _, _, _, distance = _nearest(z, mask, weight, mean, centres)
  chance = jnp.where(draw[1] == 0, weight, distance)
  rows = jnp.arange(len(z), dtype=jnp.uint32)
  rows += draw[2] + lax.axis_index(AXIS).astype(jnp.uint32) * len(z)
  bits = threefry_2x32(draw[:2], jnp.concatenate([rows, jnp.zeros_like(rows)]))
  high, low = bits.reshape(2, -1).astype(jnp.float32)
  # 64 bits, since 2^23 steps would not tell 10^8 vectors apart.
  uniform = jnp.minimum(
    (high + (low + 0.5) * 2.0**-32) * 2.0**-32, 1 - 2.0**-24
  )
  return _first_best(jnp.log(chance) - jnp.log(-jnp.log1p(-uniform)))


@functools.lru_cache(maxsize=8)
def _compiled(parallel):
  """(Lloyd step, draw step); cached, since each wrap compiles anew."""
  inputs = (True, True, True, False, False)
  return (
    parallel.wrap(_lloyd_step, inputs, (False, False)),
    parallel.wrap(_draw_step, (*inputs, False), (False, False)),
  )


class _Stream(NamedTuple):
  """The vectors, and what a first pass tells about them."""

  chunks: Callable
  parallel: Parallel
  mean: np.ndarray  # (D,); centred vectors lose less to rounding
  length: int  # vectors
  size: int  # those with a coordinate
  rows: int  # of a block

  @classmethod
  def open(cls, chunks, parallel):
    sums, present, size, start, longest = 0, 0, 0, 0, 0
    for z, mask in chunks():
      bad = ~np.isfinite(z) & mask
      if bad.any():
        raise InputError(
          f'pseudo-label vector {start + int(np.argmax(bad.any(1)))} is not '
          'finite: has the stage before diverged?'
        )
      sums = sums + np.where(mask, z, 0.0).sum(0, dtype=np.float64)
      present = present + mask.sum(0)
      size += int(mask.any(1).sum())
      start, longest = start + len(z), max(longest, len(z))
    if not size:
      raise InputError('There are no pseudo-label vectors with a position.')
    mean = (sums / np.maximum(present, 1)).astype(np.float32)
    devices = parallel.num_devices
    most = devices * max(1, _SHARE // len(mean))
    # The longest chunk in equal parts, as few as fit.
    rows = math.ceil(longest / math.ceil(longest / most))
    rows = math.ceil(rows / devices) * devices
    return cls(chunks, parallel, mean, start, size, rows)

  def blocks(self):
    """Yields (index of first vector, (z, mask, weight)) of `rows` rows."""
    start = 0
    for z, mask in self.chunks():
      for first in range(0, len(z), self.rows):
        part = slice(first, first + self.rows)
        full = mask[part].all()
        weight = np.ones(len(z[part])) if full else mask[part].any(1)
        known = None if full else self._padded(mask[part], bool)
        block = (self._padded(z[part]), known, self._padded(weight))
        yield start + first, block
      start += len(z)
    if start != self.length:
      raise ValueError('chunks() does not give the same vectors each time.')

  def _padded(self, x, dtype=np.float32):
    x = np.asarray(x, dtype)
    short = self.rows - len(x)
    return np.pad(x, ((0, short), *((0, 0),) * (x.ndim - 1))) if short else x

  def fetch(self, tree):
    """NumPy arrays of what a step returns."""
    return jax.device_get(self.parallel.unreplicate(tree))

  def centred(self, block, row):
    """(D,) a vector of a block; 0, the mean, where it has no coordinate."""
    z, mask, _ = block
    return np.where(True if mask is None else mask[row], z[row] - self.mean, 0)


def _assign(stream, centres):
  """One pass: float64 totals of `_lloyd_step`, farthest (distance, vector)."""
  step, place = _compiled(stream.parallel)[0], stream.parallel.replicate
  whole = place((stream.mean, centres))
  totals, farthest = None, (0.0, None)
  for _, block in stream.blocks():
    new, (gap, row) = stream.fetch(step(*stream.parallel.split(block), *whole))
    new = {name: np.asarray(x, np.float64) for name, x in new.items()}
    totals = {name: totals[name] + new[name] for name in new} if totals else new
    if gap > farthest[0]:
      farthest = (gap, stream.centred(block, row))
  return totals, farthest[1]


def _plus_plus(stream, num_clusters, seed):
  """(K, D) centred start by k-means++ (Arthur and Vassilvitskii, SODA 2007)."""
  step, place = _compiled(stream.parallel)[1], stream.parallel.replicate
  centres = np.zeros((num_clusters, len(stream.mean)), np.float32)
  for number in range(num_clusters):
    whole = place((stream.mean, centres))
    best, winner = -np.inf, None
    for start, block in stream.blocks():
      draw = place(np.array([seed, number, start], np.uint32))
      score, row = stream.fetch(
        step(*stream.parallel.split(block), *whole, draw)
      )
      if score > best:
        best, winner = score, stream.centred(block, row)
    if winner is None:
      raise InputError(
        f'num_clusters is {num_clusters}, but the pseudo-label vectors have '
        f'only {number} different values: choose fewer.'
      )
    # The places still to fill repeat a centre, which changes no distance.
    centres[number:] = winner
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
  num_iters: int = 100,
  tolerance: float = 1e-6,
  init: np.ndarray | None = None,
) -> KMeans:
  """Clusters a stream of vectors.

  Neither the chunks' sizes nor the number of devices change the result, but
  for rounding. A cluster that loses all its members starts again at the vector
  that is farthest from its centre, one cluster an iteration.

  Args:
    chunks: called once a pass (num_clusters + num_iters + 2 times at most);
      gives an iterable of (z, mask): (n, D) float and bool NumPy arrays, the
      same each time, n of any size (some thousands keep the devices busy).
    num_clusters: K.
    seed: 0 to 2^32 - 1, of the k-means++ start.
    parallel: the devices.
    num_iters: how often the centres move at most; 0 only evaluates the start.
    tolerance: stop when an iteration lowers the inertia by a smaller share,
      or moves no centre.
    init: (K, D) the start; None draws one with k-means++.

  Returns:
    KMeans; counts and inertia are those of the returned centres.

  Raises:
    InputError: a vector is not finite, or fewer different ones than clusters.
  """
  stream = _Stream.open(chunks, parallel)
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
