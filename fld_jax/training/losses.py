"""Losses: pure, one value per element, masked by the caller's reduction.

No function here averages. `train_step` divides sums by global counts, so that
padding, device count and batch size weigh nothing.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from fld_jax import schema
from fld_jax.errors import InputError
from fld_jax.models.dlan import SCALES

POWER = 0.25  # of a window's scale, by which its loss is divided


def positions(
  prediction: Float[Array, 'b n 2'],
  target: Float[Array, 'b n 2'],
  visibility: Int[Array, 'b n'],
  kind: str = 'l2',
) -> Float[Array, ' b']:
  """Computes the loss of each example's landmark coordinates.

  Landmarks without a position (truncated or absent) cost nothing.

  Args:
    prediction: (B, N, 2) predicted coordinates.
    target: (B, N, 2) true coordinates in the unit of the prediction, any
      finite values where a landmark has no position.
    visibility: (B, N) visibility codes of `schema`.
    kind: The norm. 'l2' is half the sum of squares (Liu et al., 2016, section
      3; Caffe's EuclideanLoss, whose division by the batch size is the caller's
      mean); 'l1' is the sum of absolute values (Sun et al., Integral Human Pose
      Regression, ECCV 2018).

  Returns:
    (B,) losses.

  Raises:
    InputError: If `kind` is neither 'l2' nor 'l1'.
  """
  mask = schema.has_position(visibility)[..., None]
  error = jnp.where(mask, prediction - target, 0.0)
  if kind == 'l2':
    return 0.5 * jnp.sum(error**2, axis=(1, 2))
  if kind == 'l1':
    return jnp.sum(jnp.abs(error), axis=(1, 2))
  raise InputError(
    f"landmark_loss is '{kind}', valid values are 'l2' and 'l1'."
  )


def scale_regularised(
  prediction: Float[Array, 'b t n 2'],
  log_scale: Float[Array, 'b t'],
  target: Float[Array, 'b n 2'],
  visibility: Int[Array, 'b n'],
  kind: str = 'l2',
) -> Float[Array, ' b']:
  """Computes the loss of landmarks that were found in windows of their own.

  DLAN's scale-regularised regression (Yan et al., 2017) as we read it
  (docs/methods.md 3.3): the mean over the windows of `positions`, divided by
  the window's scale to the power of POWER, and of the square of what the
  scale's logarithm is beyond that of SCALES.

  Args:
    prediction: (B, T, N, 2) predicted coordinates, T times.
    log_scale: (B, T) logarithm of the side of each window, in sides of the
      image. The first loss has no gradient by it: windows would grow for the
      sake of the divisor.
    target: (B, N, 2) true coordinates, see `positions`.
    visibility: (B, N) visibility codes of `schema`.
    kind: The norm, see `positions`.

  Returns:
    (B,) losses.
  """
  low, high = np.log(SCALES)
  beyond = jnp.maximum(log_scale - high, 0) + jnp.maximum(low - log_scale, 0)
  held = jnp.clip(jax.lax.stop_gradient(log_scale), low, high)
  each = jax.vmap(
    lambda found: positions(found, target, visibility, kind),
    in_axes=1,
    out_axes=1,
  )(prediction)
  return jnp.mean(each / jnp.exp(POWER * held) + beyond**2, axis=1)


def heatmaps(
  prediction: Float[Array, 'b w w n'],
  target: Float[Array, 'b w w n'],
  visibility: Int[Array, 'b n'],
) -> Float[Array, ' b']:
  """Computes the mean squared error of the maps of landmarks with a position.

  Args:
    prediction: (B, W, W, N) predicted heatmaps.
    target: (B, W, W, N) target heatmaps, made by `ops.heatmaps.encode`.
    visibility: (B, N) visibility codes of `schema`.

  Returns:
    (B,) losses: the mean over the cells and over an example's landmarks, 0 for
    an example in which no landmark has a position. The usual loss divides by N
    in place of the example's number (docs/methods.md 3.6).
  """
  mask = schema.has_position(visibility)
  of_map = jnp.mean((prediction - target) ** 2, axis=(1, 2))
  count = jnp.maximum(jnp.sum(mask, axis=-1), 1)
  return jnp.sum(jnp.where(mask, of_map, 0.0), axis=-1) / count


def heatmap_entropy(
  logits: Float[Array, 'b w w n'],
  target: Float[Array, 'b w w n'],
  visibility: Int[Array, 'b n'],
) -> Float[Array, ' b']:
  """Computes the binary cross-entropy of the maps of landmarks with a position.

  Args:
    logits: (B, W, W, N) logits, whose sigmoid is the heatmaps.
    target: (B, W, W, N) target heatmaps in [0, 1].
    visibility: (B, N) visibility codes of `schema`.

  Returns:
    (B,) losses, averaged as in `heatmaps`. They are above 0 even for the best
    prediction, by the entropy of the targets.
  """
  mask = schema.has_position(visibility)
  entropy = optax.sigmoid_binary_cross_entropy(logits, target)
  of_map = jnp.mean(entropy, axis=(1, 2))
  count = jnp.maximum(jnp.sum(mask, axis=-1), 1)
  return jnp.sum(jnp.where(mask, of_map, 0.0), axis=-1) / count


def bins(
  logits: Float[Array, 'b n 2 k'],
  labels: Float[Array, 'b n 2 k'],
  visibility: Int[Array, 'b n'],
) -> Float[Array, ' b']:
  """Computes the Kullback-Leibler divergence of labels from predicted bins.

  It is the loss of SimCC (Li et al., ECCV 2022) with smoothed labels.

  Args:
    logits: (B, N, 2, K) predicted logits of x and y.
    labels: (B, N, 2, K) label distributions, made by `ops.bins`.
    visibility: (B, N) visibility codes of `schema`.

  Returns:
    (B,) losses: the sum over both axes, averaged over an example's landmarks
    with a position; 0 for an example without one.
  """
  mask = schema.has_position(visibility)
  known = jnp.where(mask[..., None, None], labels, 0.0)
  entropy = -jnp.sum(jax.scipy.special.xlogy(known, known), axis=(2, 3))
  crossed = -jnp.sum(known * jax.nn.log_softmax(logits), axis=(2, 3))
  count = jnp.maximum(jnp.sum(mask, axis=-1), 1)
  return jnp.sum(crossed - entropy, axis=-1) / count


def parts(
  logits: Float[Array, 'b w w classes'],
  bells: Float[Array, 'b w w p'],
  known: Bool[Array, 'b p'],
) -> Float[Array, ' b']:
  """Computes the cross-entropy of what each patch of an image shows.

  A patch near a part is of that part as much as a Gaussian around it is high,
  and for the rest of the background, so that the logarithm of the probability
  is a parabola with its top at the part (docs/methods.md 2.2 has patches of one
  part or none). Where the Gaussians of parts sum to more than 1 they share it.

  Args:
    logits: (B, W, W, P + 1) predicted logits, the last one of the background.
    bells: (B, W, W, P) Gaussians around the parts, of height 1.
    known: (B, P) bool, True for the parts that the image shows.

  Returns:
    (B,) losses, the sum over patches divided by P.
  """
  share = jnp.where(known[:, None, None], bells, 0.0)
  share /= jnp.maximum(jnp.sum(share, axis=-1, keepdims=True), 1.0)
  rest = 1 - jnp.sum(share, axis=-1, keepdims=True)
  labels = jnp.concatenate([share, rest], axis=-1)
  crossed = optax.softmax_cross_entropy(logits, labels)
  return jnp.sum(crossed, axis=(1, 2)) / bells.shape[-1]


def relations(
  logits: Float[Array, 'b w w r k'],
  labels: Int[Array, 'b r'],
  bells: Float[Array, 'b w w r'],
  known: Bool[Array, 'b r'],
) -> Float[Array, ' b']:
  """Computes the cross-entropy of the types of relations, at their parts.

  Args:
    logits: (B, W, W, R, K) predicted logits.
    labels: (B, R) true types.
    bells: (B, W, W, R) the weight of each patch, which is that of the part from
      which the relation starts.
    known: (B, R) bool, True for the relations of which both ends are known.

  Returns:
    (B,) losses: the means over an image's known relations of the weighted means
    over patches; 0 for an image without any.
  """
  label = jax.nn.one_hot(labels, logits.shape[-1])
  log = jax.nn.log_softmax(logits)
  crossed = -jnp.einsum('bhwrk,brk,bhwr->br', log, label, bells)
  of_relation = crossed / jnp.maximum(jnp.sum(bells, axis=(1, 2)), 1e-6)
  count = jnp.maximum(jnp.sum(known, axis=-1), 1)
  return jnp.sum(jnp.where(known, of_relation, 0.0), axis=-1) / count


def has_pair(
  mask: Bool[Array, 'b n'], parts: Sequence[Sequence[int]]
) -> Bool[Array, ' b']:
  """Tells for which examples PCLoss is defined: a part has two landmarks.

  Args:
    mask: (B, N) bool, True for the landmarks that count.
    parts: The landmark slots of each part.

  Returns:
    (B,) bool, True for an example with a pair.
  """
  counts = [jnp.sum(mask[:, jnp.asarray(part)], axis=-1) for part in parts]
  return jnp.max(jnp.stack(counts), axis=0) >= 2


def position_constraint(
  prediction: Float[Array, 'b n 2'],
  target: Float[Array, 'b n 2'],
  mask: Bool[Array, 'b n'],
  parts: Sequence[Sequence[int]],
  k: int,
  pair_mean: bool = False,
) -> Float[Array, ' b']:
  """Computes PCLoss, the loss of the landmarks' relative positions.

  For landmark i, L_i is the sum over the part's landmarks j of the squared
  length of (predicted j - i) - (true j - i); moving all landmarks together
  costs nothing. A part costs the mean of its k largest L_i (Song et al.,
  Pattern Recognition 2021, eqs. 6 and 8), an example the sum over the parts
  (eq. 10). A landmark that does not count takes part in no pair; a part with
  fewer than two that count costs nothing (docs/methods.md 4.5).

  Args:
    prediction: (B, N, 2) predicted coordinates in any unit; the loss is in its
      square.
    target: (B, N, 2) true coordinates in the unit of the prediction, any
      finite values where the mask is False.
    mask: (B, N) bool, True for the landmarks that count.
    parts: The landmark slots of each part, one of the partitions of a
      `schema.LandmarkSet`.
    k: Number of largest L_i that count, at least 1. All of them count in a part
      with fewer landmarks.
    pair_mean: If True, each L_i is divided by the number of the part's
      landmarks that count, so that large parts do not outweigh small ones
      (docs/methods.md 4.5; the paper does not divide).

  Returns:
    (B,) losses.
  """
  total = jnp.zeros(prediction.shape[0])
  for part in parts:
    slots = jnp.asarray(part)
    counts = mask[:, slots]
    error = jnp.where(
      counts[..., None], prediction[:, slots] - target[:, slots], 0.0
    )
    pairs = counts[:, :, None] & counts[:, None, :]
    squared = jnp.sum((error[:, :, None] - error[:, None]) ** 2, axis=-1)
    of_landmark = jnp.sum(jnp.where(pairs, squared, 0.0), axis=-1)
    if pair_mean:
      of_landmark /= jnp.maximum(jnp.sum(counts, axis=-1, keepdims=True), 1)
    # Not less than 0, so -1 puts those that do not count last.
    largest, _ = lax.top_k(
      jnp.where(counts, of_landmark, -1.0), min(k, len(part))
    )
    chosen = jnp.minimum(jnp.sum(counts, axis=-1), largest.shape[-1])
    mean = jnp.sum(jnp.maximum(largest, 0.0), axis=-1) / jnp.maximum(chosen, 1)
    total += mean
  return total


def visibility(
  logits: Float[Array, 'b n 3'], target: Int[Array, 'b n']
) -> Float[Array, ' b']:
  """Computes the cross-entropy of the visibility, summed over landmarks.

  Args:
    logits: (B, N, 3) predicted logits of the visibility states.
    target: (B, N) true visibility codes of `schema`; ABSENT slots cost nothing.

  Returns:
    (B,) losses.
  """
  known = target != schema.ABSENT
  entropy = optax.softmax_cross_entropy_with_integer_labels(
    logits, jnp.where(known, target, 0)
  )
  return jnp.sum(jnp.where(known, entropy, 0.0), axis=1)


def pair_order(
  logits: Float[Array, ' b'],
  target: Float[Array, 'b n 2'],
  visibility: Int[Array, 'b n'],
  pairs: Int[np.ndarray, 'p 2'],
) -> Float[Array, ' b']:
  """Computes the cross-entropy of how left and right landmarks are ordered.

  It is weighed by the distance in x of the landmarks from their partners: in a
  view from the side the order says little and costs little.

  Args:
    logits: (B,) predicted logits of the order being reversed.
    target: (B, N, 2) true coordinates, any finite values where a landmark has
      no position.
    visibility: (B, N) visibility codes of `schema`.
    pairs: (P, 2) the slots of partners; P is 0 for landmarks without any.

  Returns:
    (B,) losses, 0 for an example without a pair. An order is reversed if on
    average the first of a pair has the larger x.
  """
  known = schema.has_position(visibility)
  both = known[:, pairs[:, 0]] & known[:, pairs[:, 1]]
  gaps = target[:, pairs[:, 1], 0] - target[:, pairs[:, 0], 0]
  total = jnp.sum(jnp.where(both, gaps, 0.0), axis=1)
  gap = total / jnp.maximum(jnp.sum(both, axis=1), 1)
  label = (gap < 0).astype(logits.dtype)
  return jnp.abs(gap) * optax.sigmoid_binary_cross_entropy(logits, label)


def attributes(
  logits: Float[Array, 'b A'], labels: Int[Array, 'b A']
) -> Float[Array, ' b']:
  """Computes the binary cross-entropy of attributes, the mean over known ones.

  Args:
    logits: (B, A) predicted logits.
    labels: (B, A) labels: 1 has it, -1 has it not, 0 is not known and costs
      nothing.

  Returns:
    (B,) losses, 0 for an image without a label.
  """
  known = labels != 0
  entropy = optax.sigmoid_binary_cross_entropy(
    logits, (labels > 0).astype(logits.dtype)
  )
  total = jnp.sum(jnp.where(known, entropy, 0.0), axis=1)
  return total / jnp.maximum(jnp.sum(known, axis=1), 1)


def pseudo_label(
  outputs: Mapping[str, Array], target: Float[Array, 'b k'], kind: str
) -> Float[Array, ' b']:
  """Computes the pseudo-label loss.

  It follows Liu et al. (2016), section 3, and docs/methods.md A6.

  Args:
    outputs: The network's outputs: `pseudo_label` for 'euclidean',
      `pseudo_label_logits` for the other kinds, each (B, K).
    target: (B, K) soft labels.
    kind: The form of the loss: 'euclidean' (half the squared error, as in Liu
      et al.), 'xent_soft' (cross-entropy against the labels) or 'xent_hard'
      (cross-entropy against the likeliest cluster).

  Returns:
    (B,) losses.

  Raises:
    InputError: If `kind` is none of the three.
  """
  if kind == 'euclidean':
    return 0.5 * jnp.sum((outputs['pseudo_label'] - target) ** 2, axis=-1)
  logits = outputs['pseudo_label_logits']
  if kind == 'xent_soft':
    return optax.softmax_cross_entropy(logits, target)
  if kind == 'xent_hard':
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, jnp.argmax(target, axis=-1)
    )
  raise InputError(
    f"pseudo_label.loss is '{kind}', valid values are 'euclidean', "
    "'xent_soft' and 'xent_hard'."
  )
