"""Starts a stage from the weights of the stage before."""

import jax
import numpy as np


def start_from(fresh: dict, source: dict, offset_scale: float) -> dict:
  """Variables that start as the network of the stage before ended.

  A residual to an estimate that is already good is hardly learned from heads
  near zero: the trunk gets no gradient that tells of the pose. So the network
  starts with one that does: as `offset_scale * (estimate - own)`, where `own`
  are the landmarks that stage 1 sees. That is made of stage 1's landmark head
  and of units that carry the estimate through fc7; they take the place of those
  to which that head gives the least weight. A network that already reads an
  estimate is taken over whole.

  The pseudo-label head starts afresh: another stage's clusters are others.

  Args:
    fresh: random variables of the new network.
    source: trained variables of the stage before.
    offset_scale: docs/methods.md A3.

  Returns:
    Variables with the structure and shapes of `fresh`.
  """
  new, old = dict(fresh['params']), source['params']
  for name in old.keys() & new.keys():
    if name != 'fc8_pseudo_label':
      new[name] = jax.tree.map(np.array, old[name])
  if 'fc_pre' not in old:
    _carry_estimate(new, old, offset_scale)
  return {**fresh, **source, 'params': new}


def _carry_estimate(new: dict, old: dict, offset_scale: float) -> None:
  """Makes stage 1's parameters, in `new`, those of a later stage.

  A unit ends in a ReLU, so each coordinate takes two, for its positive and its
  negative part. There are as many copies as fc_pre has room for, as the noise
  of dropout averages out over them.
  """
  head = old['fc8_landmarks']['kernel']  # (hidden, 2N)
  hidden, coordinates = head.shape
  width = new['fc_pre']['bias'].size
  copies = width // (2 * coordinates)
  carriers = np.argsort(np.linalg.norm(head, axis=1), kind='stable')
  carriers = carriers[: copies * 2 * coordinates]
  eye = np.eye(coordinates, dtype=np.float32)
  signs = np.tile(np.hstack([eye, -eye]), copies)  # (2N, carriers)
  new['fc_pre'] = jax.tree.map(np.zeros_like, new['fc_pre'])
  new['fc_pre']['kernel'][:, : len(carriers)] = signs
  fc7 = new['fc7']
  rows = np.zeros((width, hidden), np.float32)
  rows[np.arange(len(carriers)), carriers] = 1
  fc7['kernel'] = np.concatenate([fc7['kernel'], rows])
  fc7['kernel'][:hidden, carriers] = 0
  fc7['bias'][carriers] = 0
  for name in new:
    if name.startswith('fc8_visibility'):
      new[name]['kernel'][carriers] = 0
  new['fc8_landmarks'] = {
    'kernel': -offset_scale * head,
    'bias': -offset_scale * old['fc8_landmarks']['bias'],
  }
  new['fc8_landmarks']['kernel'][carriers] = offset_scale * signs.T / copies
