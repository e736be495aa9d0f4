"""Layers that Linen has not, or not independent of the number of devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fld_jax.parallel import AXIS


class Dropout(nn.Module):
  """Dropout whose mask depends on an example's place in the global batch.

  `nn.Dropout` draws one mask for the array that it sees, so that a device's
  share of a batch gets another mask than the same rows of the whole batch.
  Here every example has a key of its own: one device and many agree.
  """

  rate: float

  @nn.compact
  def __call__(self, x, positions, train: bool):
    """Applies dropout.

    Args:
      x: (B, ...) activations.
      positions: (B,) int32, each example's place in the global batch.
      train: False returns `x` as it is.

    Returns:
      (B, ...), kept entries divided by 1 - rate.
    """
    if not train or self.rate == 0:
      return x
    key = self.make_rng('dropout')
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, positions)
    keep = jax.vmap(
      lambda k: jax.random.bernoulli(k, 1 - self.rate, x.shape[1:])
    )(keys)
    return jnp.where(keep, x / (1 - self.rate), 0)


def batch_norm(train: bool, name: str | None = None, dtype=jnp.float32):
  """Batch normalisation over the whole global batch in training."""
  return nn.BatchNorm(
    use_running_average=not train,
    momentum=0.9,
    axis_name=AXIS if train else None,
    dtype=dtype,
    name=name,
  )


def max_pool_2x2(x):
  """2x2 max-pooling with stride 2, an odd last row or column left out.

  On a CPU the gradient of `nn.max_pool` runs on one core, 10 to 30 times
  slower than that of three maxima.

  Args:
    x: (B, H, W, C).

  Returns:
    (B, H // 2, W // 2, C).
  """
  height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
  x = x[:, :height, :width]
  top = jnp.maximum(x[:, ::2, ::2], x[:, ::2, 1::2])
  bottom = jnp.maximum(x[:, 1::2, ::2], x[:, 1::2, 1::2])
  return jnp.maximum(top, bottom)
