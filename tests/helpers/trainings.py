"""Trainings without evaluation and report, which take most of a test's time."""

import jax

from fld_jax.cascade.setup import resolve
from fld_jax.runtime.parallel import Parallel
from fld_jax.training import train_cascade


def train(config, builder, workdir):
  """Trains on one device, without evaluation and report."""
  parallel = Parallel(config.parallel, jax.local_devices()[:1])
  train_cascade.train_cascade(
    config, resolve(config), builder, workdir, parallel
  )
