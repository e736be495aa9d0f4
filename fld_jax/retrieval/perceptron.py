"""A multi-layer perceptron from features to attributes (DFA, section 4.4)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from fld_jax.training import losses


class Perceptron(nn.Module):
  """One hidden layer, with dropout before each layer.

  Attributes:
    num_attributes: A.
    width: Width of the hidden layer.
    dropout: Dropout rate, in [0, 1).
  """

  num_attributes: int
  width: int = 256
  dropout: float = 0.3

  @nn.compact
  def __call__(
    self, x: Float[Array, 'n d'], train: bool
  ) -> Float[Array, 'n A']:
    """Computes logits.

    Args:
      x: (n, d) features of unit scale.
      train: Whether entries are dropped; then there is a random key `dropout`.
    """
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = nn.relu(nn.Dense(self.width)(x))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(self.num_attributes)(x)


def fit(
  x: Float[np.ndarray, 'n d'],
  labels: Int[np.ndarray, 'n A'],
  *,
  epochs: int = 40,
  batch_size: int = 64,
  learning_rate: float = 1e-3,
  weight_decay: float = 1e-2,
  seed: int = 0,
) -> tuple[Perceptron, Any]:
  """Trains a perceptron by AdamW, the rate falling along a cosine.

  Args:
    x: (n, d) features of unit scale, n at least `batch_size`.
    labels: (n, A) 1 has it, -1 has it not, 0 not known.
    epochs: How often each example is seen.
    batch_size: Examples of a step.
    learning_rate: The rate at its highest.
    weight_decay: Its factor.
    seed: The seed of weights, order and dropout.

  Returns:
    The module, and its variables.
  """
  model = Perceptron(labels.shape[1])
  steps = len(x) // batch_size
  key = jax.random.key(seed, impl='rbg')
  params = model.init(key, jnp.zeros((1, x.shape[1])), False)
  rule = optax.adamw(
    optax.cosine_decay_schedule(learning_rate, epochs * steps),
    weight_decay=weight_decay,
  )
  x, labels = jnp.asarray(x, jnp.float32), jnp.asarray(labels)

  @jax.jit
  def epoch(params: Any, state: Any, order: Array, key: Array) -> tuple:
    """All steps of an epoch; `order` holds a row of indices a step."""

    def step(carry: tuple, rows: Array) -> tuple:
      params, state, key = carry
      key, now = jax.random.split(key)

      def loss(params: Any) -> Array:
        logits = model.apply(params, x[rows], True, rngs={'dropout': now})
        return losses.attributes(logits, labels[rows]).mean()

      updates, state = rule.update(jax.grad(loss)(params), state, params)
      return (optax.apply_updates(params, updates), state, key), None

    (params, state, _), _ = jax.lax.scan(step, (params, state, key), order)
    return params, state

  state, rng = rule.init(params), np.random.default_rng(seed)
  for number in range(epochs):
    order = rng.permutation(len(x))[: steps * batch_size]
    order = jnp.asarray(order.reshape(steps, batch_size))
    now = jax.random.fold_in(key, number)
    params, state = epoch(params, state, order, now)
  return model, params
