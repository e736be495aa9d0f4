"""Attribute recall and item retrieval (DFA, section 4.4)."""

import numpy as np

from fld_jax.errors import InputError
from fld_jax.metrics.mean_state import MeanState


def attribute_recall(scores, labels, k: int = 5) -> MeanState:
  """Top-k recall of attributes.

  An image's k highest scores are its predicted attributes; a true attribute is
  recalled if it is among them. Equal scores rank in the order of attributes.

  Args:
    scores: (n, A), any range.
    labels: (n, A), above 0 where the image has the attribute; DeepFashion's 0
      and -1 both count as not.
    k: attributes predicted of each image.

  Returns:
    State of A attributes. `macro` is the mean over attributes with an example
    (docs/methods.md 5.5: the paper's "average recall"), `micro` all hits over
    all true attributes.

  Raises:
    InputError: for shapes that differ or a k outside 1 to A.
  """
  scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
  if scores.shape != labels.shape or scores.ndim != 2:
    raise InputError(
      f'The scores have the shape {scores.shape} and the labels '
      f'{labels.shape}; both must be (n, A).'
    )
  _check_k(k, scores.shape[1], 'attributes')
  chosen = np.zeros(scores.shape, bool)
  top = np.argsort(-scores, axis=1, kind='stable')[:, :k]
  np.put_along_axis(chosen, top, True, axis=1)
  return MeanState.from_values(chosen, labels > 0)


def retrieval_accuracy(
  queries, query_items, gallery, gallery_items, k: int = 20
) -> MeanState:
  """Share of queries with the same item among their k nearest images.

  Distances are Euclidean; equally near images rank in the gallery's order. The
  queries may come in parts: their states merge.

  Args:
    queries: (n, D) features.
    query_items: n item ids.
    gallery: (m, D) features.
    gallery_items: m item ids.
    k: images looked at.

  Returns:
    State of one value.

  Raises:
    InputError: for features of different size or a k outside 1 to m.
  """
  queries = np.asarray(queries, np.float64)
  gallery = np.asarray(gallery, np.float64)
  if queries.ndim != 2 or queries.shape[1:] != gallery.shape[1:]:
    raise InputError(
      f'The queries have the shape {queries.shape} and the gallery '
      f'{gallery.shape}; both must be (images, features).'
    )
  _check_k(k, len(gallery), 'images in the gallery')
  query_items = np.asarray(query_items)[:, None]
  gallery_items = np.asarray(gallery_items)
  squares = (gallery**2).sum(axis=1)
  hits = []
  for start in range(0, len(queries), 256):  # flat in memory
    part = queries[start : start + 256]
    # Without the query's own square, which is the same for all.
    distance = squares - 2 * part @ gallery.T
    nearest = np.argsort(distance, axis=1, kind='stable')[:, :k]
    same = gallery_items[nearest] == query_items[start : start + 256]
    hits.append(same.any(axis=1))
  hits = np.concatenate(hits)[:, None] if hits else np.zeros((0, 1))
  return MeanState.from_values(hits, np.ones(hits.shape))


def _check_k(k: int, most: int, what: str) -> None:
  if not 1 <= k <= most:
    raise InputError(
      f'k is {k}; there are {most} {what}, it must be 1 to that.'
    )
