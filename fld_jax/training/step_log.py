"""The metrics of the steps since the last log entry."""

import itertools
import logging

import jax
import numpy as np

from fld_jax.errors import InputError
from fld_jax.runtime import processes

logger = logging.getLogger('fld_jax')


class StepLog:
  """What the steps since the last log said."""

  def __init__(self):
    self._steps, self._metrics, self._ids = [], [], []
    self._corrupt = 0

  def __len__(self) -> int:
    return len(self._steps)

  def add(self, step: int, metrics: dict, batch: dict) -> None:
    """Adds a step: its metrics, on the devices or not, and its batch."""
    self._steps.append(step)
    self._metrics.append(metrics)
    self._ids.append(batch['id'])
    self._corrupt += int(batch['corrupt'].sum())

  def means(self) -> dict[str, float]:
    """Means over the steps; of those left out for a loss that is no number."""
    self._metrics = jax.device_get(self._metrics)
    return {
      **{
        name: float(np.nanmean([m[name] for m in self._metrics]))
        for name in self._metrics[0]
      },
      'corrupt_images': self._corrupt,
    }

  def clear(self) -> None:
    """Forgets the steps; corrupt images are counted on."""
    self._steps, self._metrics, self._ids = [], [], []

  def check(self, name: str, on_nan: str, last_step) -> None:
    """Refuses a loss that is not finite.

    Args:
      name: of the network.
      on_nan: 'stop', or 'skip': the step has left it out.
      last_step: function to the last saved step.

    Raises:
      InputError: naming the first such step, its examples and the last good
        checkpoint.
    """
    self._metrics = jax.device_get(self._metrics)
    for step, metrics, ids in zip(
      self._steps, self._metrics, self._ids, strict=True
    ):
      if np.isfinite(metrics['loss']):
        continue
      parts = processes.all_gather([i.decode() for i in ids.tolist()])
      examples = ', '.join(itertools.chain(*parts))
      text = f'{name}: the loss of step {step} is {metrics["loss"]}'
      if on_nan == 'skip':
        logger.warning('%s; left out. Its examples: %s.', text, examples)
        continue
      raise InputError(
        f'{text}. The last good checkpoint is of step {last_step()}. Lower '
        "the learning rate, or set config.on_nan to 'skip' to leave such "
        f'updates out. Its examples: {examples}.'
      )

  def to_json(self) -> dict:
    """For a checkpoint; float32 survives JSON."""
    metrics = [
      {name: float(value) for name, value in step.items()}
      for step in jax.device_get(self._metrics)
    ]
    return {'steps': self._steps, 'metrics': metrics, 'corrupt': self._corrupt}

  def restore(self, saved: dict) -> None:
    """Takes up what `to_json` gave."""
    self._steps, self._corrupt = saved['steps'], saved['corrupt']
    self._metrics = [
      {name: np.float32(value) for name, value in step.items()}
      for step in saved['metrics']
    ]
    self._ids = [np.zeros(0)] * len(self._steps)
