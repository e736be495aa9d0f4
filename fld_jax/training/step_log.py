"""The metrics of the steps since the last log entry."""

import itertools
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Shaped

from fld_jax.errors import InputError
from fld_jax.runtime import processes

logger = logging.getLogger('fld_jax')


class StepLog:
  """The metrics of the steps since the last log entry.

  They stay on the devices until they are asked for, so that a step does not
  wait for the one before it. The length is the number of steps.
  """

  def __init__(self):
    """Starts without any step."""
    self._steps, self._metrics, self._ids = [], [], []
    self._corrupt = 0

  def __len__(self) -> int:
    return len(self._steps)

  def add(
    self,
    step: int,
    metrics: dict[str, Float[Array, '']],
    batch: dict[str, Shaped[np.ndarray, 'b ...']],
  ) -> None:
    """Adds a step.

    Args:
      step: The number of the step, from 1 on.
      metrics: The scalars that the train step returns, `loss` among them.
      batch: This process's share of the step's batch, with `id` (b,) and
        `corrupt` (b,), 1 for an image that could not be read.
    """
    self._steps.append(step)
    self._metrics.append(metrics)
    self._ids.append(batch['id'])
    self._corrupt += int(batch['corrupt'].sum())

  def means(self) -> dict[str, float]:
    """Computes the means over the steps.

    Returns:
      Name of the metric -> its mean over the steps in which it is a number, and
      `corrupt_images`, how many images could not be read since the start.
    """
    self._metrics = jax.device_get(self._metrics)
    return {
      **{
        name: float(np.nanmean([m[name] for m in self._metrics]))
        for name in self._metrics[0]
      },
      'corrupt_images': self._corrupt,
    }

  def clear(self) -> None:
    """Forgets the steps, but not the number of corrupt images."""
    self._steps, self._metrics, self._ids = [], [], []

  def check(self, name: str, on_nan: str, last_step: Callable[[], int]) -> None:
    """Refuses a loss that is not finite.

    Args:
      name: The network's name, for messages.
      on_nan: What to do about such a loss: 'stop' raises; 'skip' only warns,
        since the train step has left the update out.
      last_step: A function that returns the last saved step.

    Raises:
      InputError: If a loss is not finite and `on_nan` is 'stop'. The message
        names the first such step, its examples and the last good checkpoint.
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

  def to_json(self) -> dict[str, Any]:
    """Returns the state for a checkpoint, JSON-ready and without loss.

    A float32 keeps its value as a JSON number.
    """
    metrics = [
      {name: float(value) for name, value in step.items()}
      for step in jax.device_get(self._metrics)
    ]
    return {'steps': self._steps, 'metrics': metrics, 'corrupt': self._corrupt}

  def restore(self, saved: dict[str, Any]) -> None:
    """Restores the state of a checkpoint.

    Args:
      saved: What `to_json` returned. The ids of its examples are not known any
        more.
    """
    self._steps, self._corrupt = saved['steps'], saved['corrupt']
    self._metrics = [
      {name: np.float32(value) for name, value in step.items()}
      for step in saved['metrics']
    ]
    self._ids = [np.zeros(0)] * len(self._steps)
