"""Time and inertia of k-means, compared with scikit-learn's Lloyd.

Both start from the same centres and run the same number of iterations,
alternately, after one warm-up each. Usage:

  python benchmarks/kmeans.py [--vectors FILE.npy] [--clusters 20]
"""

import argparse
import time

import numpy as np
from sklearn.cluster import KMeans

from fld_jax.ops.kmeans import kmeans
from fld_jax.runtime.parallel import Parallel


def _random_vectors(count: int, dims: int, seed: int = 0) -> np.ndarray:
  """Draws overlapping clouds around 30 points, as large as pixel offsets.

  Args:
    count: The number n of vectors.
    dims: The number D of coordinates.
    seed: The seed.

  Returns:
    (n, D) float32.
  """
  rng = np.random.default_rng(seed)
  centres = rng.normal(0, 60, (30, dims))
  noise = rng.normal(0, 40, (count, dims))
  return (centres[rng.integers(30, size=count)] + noise).astype(np.float32)


def compare(
  name: str, z: np.ndarray, num_clusters: int, repeats: int, num_iters: int
) -> None:
  """Prints one line: both times, their ratio, and the inertias' difference.

  Args:
    name: The name of the vectors.
    z: (n, D) float32 vectors.
    num_clusters: The number of clusters K.
    repeats: The number of pairs of runs.
    num_iters: The number of times that the centres move.
  """
  rng = np.random.default_rng(1)
  init = z[rng.choice(len(z), num_clusters, replace=False)]
  mask = np.ones(z.shape, bool)
  parallel = Parallel()
  reference = KMeans(
    num_clusters,
    init=init,
    n_init=1,
    algorithm='lloyd',
    max_iter=num_iters,
    tol=0,
  )

  def ours():
    return kmeans(
      lambda: [(z, mask)],
      num_clusters,
      seed=0,
      parallel=parallel,
      num_iters=num_iters,
      tolerance=0,
      init=init,
    )

  def theirs():
    return reference.fit(z)

  times = {ours: [], theirs: []}
  for number in range(repeats + 1):
    for run in (ours, theirs) if number % 2 else (theirs, ours):
      start = time.perf_counter()
      run()
      if number:  # the first pair compiles and warms up
        times[run].append(time.perf_counter() - start)
  ours_s, theirs_s = np.median(times[ours]), np.median(times[theirs])
  result = ours()
  difference = result.inertia / reference.inertia_ - 1
  print(
    f'{name}: {z.shape[0]} x {z.shape[1]}, {num_clusters} clusters, '
    f'{result.num_iters} and {reference.n_iter_} iterations; '
    f'fld_jax {ours_s:.3f} s, scikit-learn {theirs_s:.3f} s, '
    f'ratio {ours_s / theirs_s:.2f}; inertia differs by {difference:+.1e}'
  )


def main() -> None:
  """Compares on the given vectors, or on two random sets."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--vectors', help='.npy file of (n, D) numbers')
  parser.add_argument('--clusters', type=int, default=20)
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--iterations', type=int, default=20)
  flags = parser.parse_args()
  if flags.vectors:
    sets = {flags.vectors: np.load(flags.vectors).astype(np.float32)}
  else:
    sets = {
      'random': _random_vectors(100_000, 16),
      'random, long': _random_vectors(20_000, 256),
    }
  for name, z in sets.items():
    compare(name, z, flags.clusters, flags.repeats, flags.iterations)


if __name__ == '__main__':
  main()
