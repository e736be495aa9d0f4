"""The perceptron learns what needs a hidden layer, and generalises."""

import numpy as np

from fld_jax.retrieval import perceptron


def test_exclusive_or_is_learnt():
  rng = np.random.default_rng(0)
  x = rng.choice([-1.0, 1.0], (512, 2)) + rng.normal(0, 0.2, (512, 2))
  truth = np.where(np.prod(x, axis=1, keepdims=True) > 0, 1, -1)
  labels = np.concatenate([truth, np.where(x[:, :1] > 0, 1, -1)], axis=1)
  known = labels.copy()
  known[::2, 0] = 0  # half of them do not say
  model, params = perceptron.fit(x[:384], known[:384], epochs=60)
  scores = np.asarray(model.apply(params, x[384:], False))
  right = (scores > 0) == (labels[384:] > 0)
  assert right.mean(axis=0).min() > 0.95
