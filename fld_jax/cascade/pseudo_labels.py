"""Pseudo-labels of the DFA cascade (Liu et al., ECCV 2016, section 3.2).

Each training sample gets a vector, k-means clusters the vectors, and the
distances to the centres are what a stage learns beside the landmarks. The
clusters' mean errors then route a sample to one of two branches. Vectors are
float32, in pixels of a 224 input.

A vector may lack coordinates, since a truncated landmark has no position.
Distances are over the known coordinates, times sqrt(D / their number).
"""

import pathlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from fld_jax import schema
from fld_jax.errors import InputError
from fld_jax.files import npz
from fld_jax.ops.kmeans import kmeans, mask_scale
from fld_jax.runtime import processes
from fld_jax.runtime.parallel import Parallel

PIXELS = 224  # side of the paper's input; the temperature T is in its pixels
SPACES = ('absolute', 'offset', 'context_offset')
CHUNK = 8192  # number of vectors that are in memory at a time
TRANSFORMS = ('signed_sqrt', 'raw')


def label_vectors(
  landmarks: Float[Array, 'b n 2'],
  visibility: Int[Array, 'b n'],
  estimate: Float[Array, 'b n 2'] | None,
  *,
  space: str,
  context_transform: str = 'signed_sqrt',
) -> tuple[Float[Array, 'b d'], Bool[Array, 'b d']]:
  """Computes the vectors that are clustered (Liu et al., section 3.2).

  They are targets, so no gradient flows through them.

  Args:
    landmarks: (B, N, 2) true landmarks in normalised coordinates.
    visibility: (B, N) true visibility codes of `schema`.
    estimate: (B, N, 2) the landmarks of the stage before in normalised
      coordinates. It may be None for 'absolute'.
    space: The kind of vector: 'absolute' (the landmarks), 'offset' (estimate -
      landmarks) or 'context_offset' (all products of two offset coordinates).
    context_transform: The transform of the products, which are in square
      pixels: 'signed_sqrt' (sign(x) sqrt|x|, in pixels again) or 'raw'.

  Returns:
    (z, mask), the vectors (B, D) float32 in pixels of a 224 input, and (B, D)
    bool, True for the coordinates that are known. D is 2N, in the order x1, y1,
    x2, ..., or 4N^2. The offset of a landmark without a position is 0 and
    counts as known.

  Raises:
    InputError: If `space` or `context_transform` is unknown, or an estimate is
      needed and None.
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


def _squared_distances(
  z: Float[Array, 'b d'], mask: Bool[Array, 'b d'], centres: Float[Array, 'k d']
) -> Float[Array, 'b k']:
  """Computes squared distances to the centres.

  It takes differences, which is exact, and cheap for the size of a batch.
  """
  gaps = jnp.where(mask[:, None], z[:, None] - centres, 0.0)
  return mask_scale(mask)[:, None] * jnp.sum(gaps**2, axis=2)


def soft_labels(
  z: Float[Array, 'b d'],
  mask: Bool[Array, 'b d'],
  centres: Float[Array, 'k d'],
  *,
  temperature: float,
  normalize: bool = True,
) -> Float[Array, 'b k']:
  """Computes soft labels, how near each centre is (Liu et al., equation 1).

  Args:
    z: (B, D) vectors of `label_vectors`.
    mask: (B, D) bool, True for the coordinates that are known.
    centres: (K, D) centres of the clusters, in the unit of z.
    temperature: The temperature T, above 0, in the unit of z; Liu et al. take
      20, and 1 for hard labels.
    normalize: If True, the labels are softmax(-d / T), which sum to 1;
      otherwise exp(-d / T), as the paper prints it.

  Returns:
    (B, K) labels in [0, 1]. A vector without any known coordinate is equally
    near all centres.
  """
  logits = -jnp.sqrt(_squared_distances(z, mask, centres)) / temperature
  return jax.nn.softmax(logits, axis=1) if normalize else jnp.exp(logits)


def hard_label(
  z: Float[Array, 'b d'], mask: Bool[Array, 'b d'], centres: Float[Array, 'k d']
) -> Int[Array, ' b']:
  """Finds the nearest centre of each vector.

  Args:
    z: (B, D) vectors of `label_vectors`.
    mask: (B, D) bool, True for the coordinates that are known.
    centres: (K, D) centres of the clusters, in the unit of z.

  Returns:
    (B,) int32 indices of the centres.
  """
  return jnp.argmin(_squared_distances(z, mask, centres), 1).astype(jnp.int32)


def offset_error(
  landmarks: Float[Array, 'b n 2'],
  visibility: Int[Array, 'b n'],
  estimate: Float[Array, 'b n 2'],
) -> Float[Array, ' b']:
  """Computes the length of the offset vector, which routing averages.

  It follows Liu et al., section 3.3.

  Args:
    landmarks: (B, N, 2) true landmarks in normalised coordinates.
    visibility: (B, N) true visibility codes of `schema`.
    estimate: (B, N, 2) the landmarks of the stage before in normalised
      coordinates.

  Returns:
    (B,) ||estimate - landmarks|| over the landmarks with a position, times
    sqrt(N / their number), in sides of the crop; 0 where there is none.
  """
  known = schema.has_position(visibility)
  squared = jnp.sum((estimate - landmarks) ** 2, axis=-1)
  return jnp.sqrt(
    jnp.sum(jnp.where(known, squared, 0.0), 1) * mask_scale(known)
  )


def cluster_errors(
  labels: Int[np.ndarray, ' n'],
  errors: Float[np.ndarray, ' n'],
  num_clusters: int,
) -> Float[np.ndarray, ' k']:
  """Computes the mean error of each cluster's members.

  These are Liu et al.'s e(C_k), section 3.3. It sums in float64 with NumPy,
  since it sees the whole training set at once.

  Args:
    labels: (n,) the cluster of each sample of this process. All processes
      together have at least one sample.
    errors: (n,) the error of each sample, from `offset_error`.
    num_clusters: The number of clusters K.

  Returns:
    (K,) float32 errors in the unit of `errors`; a cluster without members gets
    the mean of all errors.
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


def routing_score(
  pseudo_label: Float[Array, 'b k'], errors: Float[Array, ' k']
) -> Float[Array, ' b']:
  """Computes the error to expect of each sample, Liu et al.'s G (section 3.3).

  Args:
    pseudo_label: (B, K) predicted pseudo-labels. Negative entries count as 0,
      and each label is divided by its sum; where no entry is positive, all
      clusters weigh the same.
    errors: (K,) mean errors of the clusters, from `cluster_errors`.

  Returns:
    (B,) scores in the unit of `errors`; scores below the threshold epsilon go
    to the easy branch.
  """
  positive = jnp.maximum(pseudo_label, 0.0)
  silent = jnp.sum(positive, axis=1, keepdims=True) <= 0
  weights = jnp.where(silent, 1.0, positive)
  weights = weights / jnp.sum(weights, axis=1, keepdims=True)
  return jnp.sum(weights * errors, axis=1)


def easy_share(
  score: Float[Array, ' b'], epsilon: float, temperature: float
) -> Float[Array, ' b']:
  """Computes how much samples belong to the easy branch.

  Liu et al.'s r is 1 if G < epsilon and else 0 (section 3.3). Each branch then
  learns from its own samples alone, and a sample near the threshold changes
  sides with its augmentation. This is r with a soft edge, so that both branches
  learn from all samples, most from their own.

  Args:
    score: (b,) scores of `routing_score`.
    epsilon: The threshold.
    temperature: The width of the edge, above 0, in the unit of the score.

  Returns:
    (b,) shares in [0, 1], sigmoid((epsilon - G) / temperature).
  """
  return jax.nn.sigmoid((epsilon - score) / temperature)


def make_clusters(
  landmarks: Float[np.ndarray, 'n N 2'],
  visibility: Int[np.ndarray, 'n N'],
  estimate: Float[np.ndarray, 'n N 2'] | None,
  places: Int[np.ndarray, ' n'],
  label: ConfigDict,
  *,
  seed: int,
  parallel: Parallel,
) -> dict[str, np.ndarray]:
  """Clusters the training set's label vectors.

  Args:
    landmarks: (n, N, 2) true landmarks of this process's samples in normalised
      coordinates; n may be 0.
    visibility: (n, N) true visibility codes of `schema`.
    estimate: (n, N, 2) the landmarks of the stage before in normalised
      coordinates, None for stage 1.
    places: (n,) the places of this process's samples among all, ascending.
    label: The stage's `pseudo_label` config.
    seed: The seed of k-means++, 0 to 2^32 - 1.
    parallel: The devices, of all processes.

  Returns:
    `centres` (K, D) float32 in pixels of a 224 input and, with an estimate,
    `errors` (K,) float32, the mean length of the members' offsets.

  Raises:
    InputError: If a vector is not finite, or there are fewer different vectors
      than clusters.
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

  def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for i in range(0, len(landmarks), CHUNK):
      part = slice(i, i + CHUNK)
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
    clusters['errors'] = measured_errors(
      landmarks, visibility, estimate, result.centres, label
    )
  return clusters


def measured_errors(
  landmarks: Float[np.ndarray, 'n N 2'],
  visibility: Int[np.ndarray, 'n N'],
  estimate: Float[np.ndarray, 'n N 2'],
  centres: Float[np.ndarray, 'k d'],
  label: ConfigDict,
) -> Float[np.ndarray, ' k']:
  """Computes how far estimates are off in each cluster.

  Args:
    landmarks: (n, N, 2) true landmarks of this process's samples in normalised
      coordinates; n may be 0.
    visibility: (n, N) true visibility codes of `schema`.
    estimate: (n, N, 2) the estimates in normalised coordinates: those of the
      stage before; of a first stage, which has none, its own.
    centres: (K, D) centres of the clusters.
    label: The stage's `pseudo_label` config.

  Returns:
    (K,) float32, see `cluster_errors`.
  """
  labels = [np.zeros(0, np.int32)]  # a process may have no sample
  errors = [np.zeros(0, np.float32)]
  nearest = jax.jit(
    lambda *sample: hard_label(
      *label_vectors(
        *sample,
        space=label.space,
        context_transform=label.context_transform,
      ),
      centres,
    )
  )
  for i in range(0, len(landmarks), CHUNK):
    part = slice(i, i + CHUNK)
    sample = landmarks[part], visibility[part], estimate[part]
    labels.append(nearest(*sample))
    errors.append(offset_error(*sample))
  return cluster_errors(
    np.concatenate(labels), np.concatenate(errors), label.num_clusters
  )


def fit_head(
  features: Float[np.ndarray, 'n h'],
  labels: Float[np.ndarray, 'n k'],
  decay: float,
) -> dict[str, np.ndarray]:
  """Fits the softmax layer that predicts pseudo-labels from features.

  In training the weight of the pseudo-labels fades (Liu et al., equation 4)
  while the features go on changing, so the layer is stale at the end, and the
  routing score with it. This is the layer that suits the features as they are:
  multinomial logistic regression to soft labels, with weight decay on features
  of variance 1. The problem is convex, so the result does not depend on a
  start.

  Args:
    features: (n, H) what the layer sees of n samples.
    labels: (n, K) their labels, which sum to 1.
    decay: The factor of half the sum of squared weights, beside the mean
      cross-entropy; above 0.

  Returns:
    `kernel` (H, K) and `bias` (K,), float32.
  """
  labels = np.asarray(labels, np.float64)
  mean, scale = features.mean(0, np.float64), features.std(0, np.float64)
  # A unit that is always off, or always the same, is left without weight.
  scale = np.where(scale > 1e-6 * np.abs(features).max(), scale, np.inf)
  x = (features - mean) / scale
  shape = (x.shape[1] + 1, labels.shape[1])

  def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
    weights = flat.reshape(shape)
    logits = x @ weights[1:] + weights[0]
    entropy = logsumexp(logits, axis=1) - (labels * logits).sum(1)
    gap = (softmax(logits, axis=1) - labels) / len(x)
    gradient = np.vstack([gap.sum(0), x.T @ gap + decay * weights[1:]])
    value = entropy.mean() + decay / 2 * np.sum(weights[1:] ** 2)
    return value, gradient.ravel()

  found = minimize(
    loss,
    np.zeros(shape).ravel(),
    jac=True,
    method='L-BFGS-B',
    # So near to the solution that rounding, which differs with the devices,
    # does not show: the distance to it is at most the gradient over the decay.
    options={'maxiter': 2000, 'maxfun': 4000, 'gtol': 1e-8, 'ftol': 0.0},
  ).x.reshape(shape)
  kernel = found[1:] / scale[:, None]
  head = {'kernel': kernel, 'bias': found[0] - mean @ kernel}
  return {name: array.astype(np.float32) for name, array in head.items()}


def vector_length(label: ConfigDict, num_landmarks: int) -> int:
  """Returns D, the length of the vectors that are clustered.

  Args:
    label: The `pseudo_label` config of the stage.
    num_landmarks: N.
  """
  length = 2 * num_landmarks
  return length**2 if label.space == 'context_offset' else length


def check_clusters(
  path: pathlib.Path,
  clusters: dict[str, np.ndarray],
  label: ConfigDict,
  num_landmarks: int,
  has_estimate: bool,
) -> None:
  """Refuses clusters of a file that do not fit the stage.

  Args:
    path: The path of the file, for messages.
    clusters: What `make_clusters` returned, as the file has it.
    label: The stage's `pseudo_label` config.
    num_landmarks: N.
    has_estimate: Whether there is a stage before.

  Raises:
    InputError: An array is missing, or of another shape, or has a number that
      is not valid.
  """
  length = vector_length(label, num_landmarks)
  count = label.num_clusters
  npz.numbers(path, 'centres', clusters.get('centres'), (count, length))
  if has_estimate:
    check_errors(path, clusters, label)


def check_errors(
  path: pathlib.Path, found: dict[str, np.ndarray], label: ConfigDict
) -> None:
  """Refuses errors of clusters of a file that do not fit the stage.

  Args:
    path: The path of the file, for messages.
    found: The arrays of the file.
    label: The `pseudo_label` config of the stage.

  Raises:
    InputError: The errors are missing, too many or few, or not valid.
  """
  count = label.num_clusters
  npz.numbers(path, 'errors', found.get('errors'), (count,), low=0)
