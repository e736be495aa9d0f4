"""Blobs, and k-means on them as a plain loop."""

import numpy as np


def blobs(count, dims, num_blobs, spread, noise, seed=0):
  rng = np.random.default_rng(seed)
  centres = rng.normal(0, spread, (num_blobs, dims))
  which = rng.integers(num_blobs, size=count)
  z = centres[which] + rng.normal(0, noise, (count, dims))
  return z.astype(np.float32)


def lloyd_loop(z, mask, centres, num_iters):
  """Masked k-means, sample by sample, in float64."""
  for iteration in range(num_iters + 1):
    members = [[] for _ in centres]
    inertia = 0.0
    for i in range(len(z)):
      if mask[i].any():
        gaps = [np.sum((z[i] - c)[mask[i]] ** 2) for c in centres]
        members[int(np.argmin(gaps))].append(i)
        inertia += min(gaps)
    if iteration == num_iters:
      return centres, inertia, [len(m) for m in members]
    centres = centres.copy()
    for k, rows in enumerate(members):
      for j in range(z.shape[1]):
        there = [z[i, j] for i in rows if mask[i, j]]
        if there:
          centres[k, j] = np.mean(there)
