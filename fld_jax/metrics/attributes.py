"""Attributes of garments: accuracy of each group, and top-k recall.

Attributes come in groups, of which an item has one each (DeepFashion's sleeves
are long, short or missing) or several (its textures). docs/methods.md, section
5.5, says which public figures mean what.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from fld_jax.errors import InputError
from fld_jax.metrics.retrieval import attribute_recall


@dataclasses.dataclass(frozen=True)
class AttributeSet:
  """The attributes that records have.

  Attributes:
    names: The names of the A attributes.
    groups: The name of the group of each attribute.
  """

  names: tuple[str, ...]
  groups: tuple[str, ...]

  def __post_init__(self):
    if len(self.names) != len(self.groups):
      raise InputError(
        f'There are {len(self.names)} attributes and groups of '
        f'{len(self.groups)}.'
      )

  def slots(self) -> dict[str, np.ndarray]:
    """Name of each group -> the places of its attributes, ascending."""
    groups = np.array(self.groups)
    return {
      name: np.flatnonzero(groups == name)
      for name in dict.fromkeys(self.groups)
    }


def group_accuracy(
  scores: Float[np.ndarray, 'n A'],
  labels: Int[np.ndarray, 'n A'],
  attributes: AttributeSet,
) -> dict[str, float | None]:
  """Computes how often the best-scored attribute of a group is a true one.

  Args:
    scores: (n, A) predicted scores in any range; within a group they must be
      comparable.
    labels: (n, A) true labels, above 0 where the image has the attribute.
    attributes: The A attributes.

  Returns:
    Name of the group -> the share of the images that have an attribute of this
    group for which the best-scored one of the group is among theirs; None if no
    image has one. Of equal scores the first counts.
  """
  scores, labels = np.asarray(scores), np.asarray(labels)
  found = {}
  for name, slots in attributes.slots().items():
    truth = labels[:, slots] > 0
    known = truth.any(axis=1)
    best = scores[:, slots].argmax(axis=1)
    right = truth[np.arange(len(truth)), best]
    found[name] = float(right[known].mean()) if known.any() else None
  return found


def mean_accuracy(
  scores: Float[np.ndarray, 'n A'],
  labels: Int[np.ndarray, 'n A'],
  attributes: AttributeSet,
) -> float:
  """Computes the mean over groups of `group_accuracy`; NaN of no group."""
  found = group_accuracy(scores, labels, attributes).values()
  values = [value for value in found if value is not None]
  return float(np.mean(values)) if values else float('nan')


def evaluate(
  scores: Float[np.ndarray, 'n A'],
  labels: Int[np.ndarray, 'n A'],
  attributes: AttributeSet,
  k: int = 5,
) -> dict:
  """Computes all figures of predicted attributes.

  Args:
    scores: (n, A) predicted scores; ranks compare those of all attributes.
    labels: (n, A) true labels, above 0 where the image has the attribute.
    attributes: The A attributes.
    k: Number of attributes that are predicted for an image; no more than A.

  Returns:
    A JSON-ready dict: `k`; `recall` of all attributes with `macro`, `micro` and
    `per_attribute` (see `retrieval.attribute_recall`); `recall_by_group`, of
    ranks within the group alone: `macro` and `micro` at min(k, its size - 1),
    at least 1, since all of a group's attributes always contain the true one;
    `accuracy_by_group`, and `accuracy`, the mean over groups.

  Raises:
    InputError: The shapes differ.
  """
  scores, labels = np.asarray(scores), np.asarray(labels)
  k = min(k, len(attributes.names))
  recall = attribute_recall(scores, labels, k).summary(attributes.names)
  by_group = {}
  for name, slots in attributes.slots().items():
    few = max(1, min(k, len(slots) - 1))
    part = attribute_recall(scores[:, slots], labels[:, slots], few)
    part = part.summary(tuple(attributes.names[i] for i in slots))
    by_group[name] = {'k': few, 'macro': part['macro'], 'micro': part['micro']}
  accuracy = group_accuracy(scores, labels, attributes)
  mean = mean_accuracy(scores, labels, attributes)
  return {
    'k': k,
    'recall': {
      'macro': recall['macro'],
      'micro': recall['micro'],
      'per_attribute': recall['per_landmark'],
    },
    'recall_by_group': by_group,
    'accuracy_by_group': accuracy,
    'accuracy': None if np.isnan(mean) else mean,
  }


def bootstrap_error(
  figure: Callable[[Int[np.ndarray, ' n']], float],
  count: int,
  draws: int = 200,
  seed: int = 0,
) -> float:
  """Computes the standard error of a figure over images, by the bootstrap.

  Args:
    figure: The figure of the images with these indices, some more than once.
    count: n, the number of images.
    draws: The number of sets of n images that are drawn with replacement.
    seed: The seed of the draws.

  Returns:
    The standard deviation (n - 1) of the figure over the draws.
  """
  rng = np.random.default_rng(seed)
  values = [figure(rng.integers(0, count, count)) for _ in range(draws)]
  return float(np.std(values, ddof=1))
