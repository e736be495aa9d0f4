"""Pseudo-labels of the DFA cascade (Liu et al., ECCV 2016, section 3.2).

Each training sample gets a vector, k-means clusters the vectors, and the
distances to the centres are what a stage learns beside the landmarks. The
clusters' mean errors then route a sample to one of two branches. Vectors are
float32, in pixels of a 224 input.

A vector may lack coordinates: a truncated landmark has no position. Distances
are over the coordinates that are there, times sqrt(D / their number).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fld_jax import schema
from fld_jax.errors import InputError
from fld_jax.ops.kmeans import kmeans, mask_scale
from fld_jax.runtime import processes

PIXELS = 224  # normalised coordinates times this: the pixels that T counts in
SPACES = ('absolute', 'offset', 'context_offset')
CHUNK = 8192  # vectors that are in memory at a time
TRANSFORMS = ('signed_sqrt', 'raw')


def label_vectors(
  landmarks,
  visibility,
  estimate,
  *,
  space: str,
  context_transform: str = 'signed_sqrt',
):
  """The vectors that are clustered (Liu et al., section 3.2).

  They are targets, so no gradient flows through them.

  Args:
    landmarks: (B, N, 2) ground truth, normalised coordinates.
    visibility: (B, N) codes of `schema`.
    estimate: (B, N, 2) of the stage before, normalised; None will do for
      'absolute'.
    space: 'absolute' (the landmarks), 'offset' (estimate - landmarks) or
      'context_offset' (all products of two offset coordinates).
    context_transform: of the products, which are square pixels: 'signed_sqrt'
      (sign(x) sqrt|x|, pixels again) or 'raw'.

  Returns:
    (z, mask): (B, D) float32 and bool, D = 2N in the order x1, y1, x2, ... or
    4N^2. `mask` tells which coordinates exist. An offset without a position is
    0 and counts as existing.

  Raises:
    InputError: unknown `space` or `context_transform`, or no estimate.
  """
  if space not in SPACES:
    raise InputError(
      f"pseudo-label space is '{space}', valid values are {', '.join(SPACES)}."
    )
  if context_transform not in TRANSFORMS:
    raise InputError(
      f"context_transform is '{context_transform}', valid values are "
      f'{", ".join(TRANSFORMS)}.'
    )
  batch = landmarks.shape[0]
  known = schema.has_position(visibility)[..., None]
  mask = jnp.broadcast_to(known, landmarks.shape).reshape(batch, -1)
  if space == 'absolute':
    z = landmarks
  elif estimate is None:
    raise InputError(
      f"pseudo-label space '{space}' needs the estimate of a stage before, and "
      "there is none: choose 'absolute'."
    )
  else:
    z = estimate - landmarks
  z = PIXELS * lax.stop_gradient(jnp.where(known, z, 0.0)).reshape(batch, -1)
  if space == 'absolute':
    return z, mask
  if space == 'context_offset':
    z = (z[:, :, None] * z[:, None, :]).reshape(batch, -1)
    if context_transform == 'signed_sqrt':
      z = jnp.sign(z) * jnp.sqrt(jnp.abs(z))
  return z, jnp.ones(z.shape, bool)


def _squared_distances(z, mask, centres):
  """(B, K), from differences: exact, and cheap for the size of a batch."""
  gaps = jnp.where(mask[:, None], z[:, None] - centres, 0.0)
  return mask_scale(mask)[:, None] * jnp.sum(gaps**2, axis=2)


def soft_labels(
  z, mask, centres, *, temperature: float, normalize: bool = True
):
  """How near each centre is (Liu et al., equation 1).

  Args:
    z: (B, D) from `label_vectors`.
    mask: (B, D) bool.
    centres: (K, D).
    temperature: T > 0 in the units of z; Liu et al. take 20, and 1 for hard
      labels.
    normalize: softmax(-d / T), which sums to 1; else exp(-d / T) as printed.

  Returns:
    (B, K). A vector without any coordinate is equally near all centres.
  """
  logits = -jnp.sqrt(_squared_distances(z, mask, centres)) / temperature
  return jax.nn.softmax(logits, axis=1) if normalize else jnp.exp(logits)


def hard_label(z, mask, centres):
  """(B,) int32 index of the nearest centre; arguments as `soft_labels`."""
  return jnp.argmin(_squared_distances(z, mask, centres), 1).astype(jnp.int32)


def offset_error(landmarks, visibility, estimate):
  """Length of the offset vector, which routing averages (Liu et al., 3.3).

  Args:
    landmarks: (B, N, 2) normalised.
    visibility: (B, N) codes.
    estimate: (B, N, 2) normalised.

  Returns:
    (B,) ||estimate - landmarks|| over the landmarks with a position, times
    sqrt(N / their number); normalised units; 0 where there is none.
  """
  known = schema.has_position(visibility)
  squared = jnp.sum((estimate - landmarks) ** 2, axis=-1)
  return jnp.sqrt(
    jnp.sum(jnp.where(known, squared, 0.0), 1) * mask_scale(known)
  )


def cluster_errors(labels, errors, num_clusters: int) -> np.ndarray:
  """Mean error of each cluster's members: Liu et al.'s e(C_k), section 3.3.

  In NumPy, with float64 sums, since it sees the whole training set at once.

  Args:
    labels: (n,) cluster of each sample of this process; of all processes there
      is at least one.
    errors: (n,) error of each sample, e.g. `offset_error`.
    num_clusters: K.

  Returns:
    (K,) float32; a cluster without members gets the mean of all errors.
  """
  labels, errors = np.asarray(labels), np.asarray(errors, np.float64)
  own = (
    np.bincount(labels, minlength=num_clusters),
    np.bincount(labels, weights=errors, minlength=num_clusters),
    errors.sum(),
  )
  counts, totals, total = map(sum, zip(*processes.all_gather(own), strict=True))
  mean = total / counts.sum()
  means = np.where(counts > 0, totals / np.maximum(counts, 1), mean)
  return means.astype(np.float32)


def routing_score(pseudo_label, errors):
  """The error to expect of each sample: Liu et al.'s G, section 3.3.

  Args:
    pseudo_label: (B, K) predicted; negative entries count as 0, and it is
      divided by its sum. One without a positive entry says nothing, and all
      clusters weigh the same.
    errors: (K,) from `cluster_errors`.

  Returns:
    (B,) in the units of `errors`; the easy branch is for scores below epsilon.
  """
  positive = jnp.maximum(pseudo_label, 0.0)
  silent = jnp.sum(positive, axis=1, keepdims=True) <= 0
  weights = jnp.where(silent, 1.0, positive)
  weights = weights / jnp.sum(weights, axis=1, keepdims=True)
  return jnp.sum(weights * errors, axis=1)


def make_clusters(
  landmarks, visibility, estimate, places, label, *, seed: int, parallel
) -> dict[str, np.ndarray]:
  """Clusters the training set's label vectors.

  Args:
    landmarks: (n, N, 2) normalised coordinates, NumPy, of the samples that this
      process has; there may be none.
    visibility: (n, N) codes.
    estimate: (n, N, 2) of the stage before, or None.
    places: (n,) among all samples, see `kmeans`.
    label: the stage's `pseudo_label` config.
    seed: of k-means++.
    parallel: the devices.

  Returns:
    `centres` (K, D) float32 and, with an estimate, `errors` (K,): the mean
    length of the members' offsets, Liu et al.'s e(C_k).
  """
  vectors = jax.jit(
    lambda truth, codes, prior: label_vectors(
      truth,
      codes,
      prior,
      space=label.space,
      context_transform=label.context_transform,
    )
  )

  parts = [slice(i, i + CHUNK) for i in range(0, len(landmarks), CHUNK)]

  def chunks():
    for part in parts:
      yield jax.device_get(
        vectors(
          landmarks[part],
          visibility[part],
          None if estimate is None else estimate[part],
        )
      )

  result = kmeans(
    chunks, label.num_clusters, places=places, seed=seed, parallel=parallel
  )
  clusters = {'centres': result.centres}
  if estimate is not None:
    nearest = jax.jit(hard_label)
    labels = [np.zeros(0, np.int32)]  # of a process without a sample
    labels += [nearest(z, mask, result.centres) for z, mask in chunks()]
    errors = [np.zeros(0, np.float32)]
    errors += [
      offset_error(landmarks[part], visibility[part], estimate[part])
      for part in parts
    ]
    clusters['errors'] = cluster_errors(
      np.concatenate(labels), np.concatenate(errors), label.num_clusters
    )
  return clusters
