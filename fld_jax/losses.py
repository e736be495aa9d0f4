"""Losses: pure, one value per element, masked by the caller's reduction.

No function here averages. `train_step` divides sums by global counts, so that
padding, device count and batch size weigh nothing.
"""

import jax.numpy as jnp
import optax

from fld_jax import schema
from fld_jax.errors import InputError


def positions(prediction, target, visibility):
  """Half the squared error of each example's landmarks (P1 section 3).

  Caffe's EuclideanLoss: the sum over coordinates, divided by 2; its division
  by the batch size is the caller's mean. Landmarks without a position
  (truncated or absent) cost nothing.

  Args:
    prediction: (B, N, 2).
    target: (B, N, 2), anything finite where there is no position.
    visibility: (B, N) codes.

  Returns:
    (B,) losses.
  """
  mask = schema.has_position(visibility)[..., None]
  error = jnp.where(mask, prediction - target, 0.0)
  return 0.5 * jnp.sum(error**2, axis=(1, 2))


def visibility(logits, target):
  """Cross-entropy of the three visibility states, summed over landmarks.

  Args:
    logits: (B, N, 3).
    target: (B, N) codes; ABSENT slots cost nothing.

  Returns:
    (B,) losses.
  """
  known = target != schema.ABSENT
  entropy = optax.softmax_cross_entropy_with_integer_labels(
    logits, jnp.where(known, target, 0)
  )
  return jnp.sum(jnp.where(known, entropy, 0.0), axis=1)


def pseudo_label(outputs, target, kind: str):
  """The pseudo-label loss (P1 section 3; methods A6).

  Args:
    outputs: `pseudo_label` and `pseudo_label_logits`, each (B, K).
    target: (B, K) soft labels.
    kind: 'euclidean' (P1: half the squared error), 'xent_soft' (cross-entropy
      against the labels) or 'xent_hard' (against the likeliest cluster).

  Returns:
    (B,) losses.

  Raises:
    InputError: for another kind.
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
