"""Random variables for networks, drawn without compiling anything."""

import jax
import numpy as np


def random_variables(model, size: int, seed: int, head: float = 0.01) -> dict:
  """Variables as the model's own initialiser scales them, in NumPy.

  Args:
    model: a network of fld_jax.models.
    size: side of its images.
    seed: of the kernels.
    head: deviation of the heads' kernels.
  """
  batch = {
    'image': np.zeros((1, size, size, 3), np.float32),
    'estimate': np.zeros((1, model.num_landmarks, 2), np.float32),
    'example_index': np.zeros((1,), np.int32),
  }
  shapes = jax.eval_shape(
    lambda key: model.init(key, batch, train=False), jax.random.key(0)
  )
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name = jax.tree_util.keystr(path)
    if 'kernel' not in name:
      ones = 'scale' in name or 'var' in name
      return np.full(leaf.shape, float(ones), np.float32)
    fan_in = np.prod(leaf.shape[:-1])
    deviation = np.sqrt((2 if 'conv' in name else 1) / fan_in)
    if 'fc8' in name:
      deviation = head
    return rng.normal(0, deviation, leaf.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)
