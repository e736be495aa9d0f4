"""The same network is the same program in every process."""

import os
import subprocess
import sys

from places import ROOT

# What a network with all outputs gives, seen from both sides.
PROGRAM = """
import hashlib
import jax
import jax.numpy as jnp
import numpy as np
from fld_jax import defaults
from fld_jax.cascade.forward import Forward, apply_stage
from fld_jax.ops.heatmaps import Codec

class Network:
  def apply(self, variables, batch, train):
    x = batch['image'].mean((1, 2, 3))
    shaped = lambda *shape: x.reshape(-1, *[1] * len(shape)) * jnp.ones(shape)
    return {
      'visibility': shaped(4, 3),
      'heatmaps': shaped(8, 8, 4),
      'landmarks': shaped(4, 2),
    }

codec = Codec(**defaults.base('synthetic').heatmap)
forward = Forward((0, 0, 0), (1, 1, 1), 1.0, codec, np.array([1, 0, 3, 2]))
run = lambda image: apply_stage(Network(), {}, {'image': image}, None, forward)
text = jax.jit(run).lower(np.zeros((2, 8, 8, 3), np.float32)).as_text()
assert text.count('reverse') > 1
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_the_order_of_names_does_not_change_the_program():
  """JAX finds a compiled program again by its text."""
  texts = {
    subprocess.run(
      [sys.executable, '-c', PROGRAM],
      env={**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONHASHSEED': seed},
      check=True,
      capture_output=True,
      text=True,
    ).stdout
    for seed in '0123'
  }
  assert len(texts) == 1
