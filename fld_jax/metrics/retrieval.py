"""Attribute recall and item retrieval (DFA, section 4.4)."""

import numpy as np
from jaxtyping import Float, Int, Shaped

from fld_jax.errors import InputError
from fld_jax.metrics.mean_state import MeanState

DISTANCES = ('l2', 'cosine')


def attribute_recall(
  scores: Float[np.ndarray, 'n A'], labels: Int[np.ndarray, 'n A'], k: int = 5
) -> MeanState:
  """Computes the top-k recall of attributes.

  An image's k highest scores are its predicted attributes; a true attribute is
  recalled if it is among them. Equal scores rank in the order of attributes.

  Args:
    scores: (n, A) predicted scores in any range.
    labels: (n, A) true labels, above 0 where the image has the attribute;
      DeepFashion's 0 and -1 both mean that it does not have it.
    k: Number of attributes that are predicted for each image.

  Returns:
    The state of A attributes. `macro` is the mean over attributes with an
    example (docs/methods.md 5.5: the paper's "average recall"), `micro` all
    hits over all true attributes.

  Raises:
    InputError: If the shapes differ, or k is not in 1 to A.
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
  queries: Float[np.ndarray, 'n D'],
  query_items: Shaped[np.ndarray, ' n'],
  gallery: Float[np.ndarray, 'm D'],
  gallery_items: Shaped[np.ndarray, ' m'],
  k: int = 20,
  distance: str = 'l2',
) -> MeanState:
  """Computes the share of queries whose item is among their k nearest images.

  Equally near images rank in the gallery's order. The queries may come in
  parts: their states merge.

  Args:
    queries: (n, D) features of the query images.
    query_items: (n,) item ids of the query images.
    gallery: (m, D) features of the gallery's images.
    gallery_items: (m,) item ids of the gallery's images.
    k: Number of nearest images that are searched for the item.
    distance: 'l2', the Euclidean distance, as in the paper; or 'cosine', that
      of the features brought to length 1.

  Returns:
    The state of one value.

  Raises:
    InputError: If the numbers of features differ, k is not in 1 to m, or there
      is no such distance.
  """
  queries = np.asarray(queries, np.float64)
  gallery = np.asarray(gallery, np.float64)
  if queries.ndim != 2 or queries.shape[1:] != gallery.shape[1:]:
    raise InputError(
      f'The queries have the shape {queries.shape} and the gallery '
      f'{gallery.shape}; both must be (images, features).'
    )
  _check_k(k, len(gallery), 'images in the gallery')
  if distance not in DISTANCES:
    raise InputError(
      f"The distance is '{distance}', valid values are {', '.join(DISTANCES)}."
    )
  if distance == 'cosine':
    queries, gallery = _unit(queries), _unit(gallery)
  query_items = np.asarray(query_items)[:, None]
  gallery_items = np.asarray(gallery_items)
  squares = (gallery**2).sum(axis=1)
  hits = []
  for start in range(0, len(queries), 256):  # flat in memory
    part = queries[start : start + 256]
    # Without the query's own square, which is the same for all.
    far = squares - 2 * part @ gallery.T
    nearest = np.argsort(far, axis=1, kind='stable')[:, :k]
    same = gallery_items[nearest] == query_items[start : start + 256]
    hits.append(same.any(axis=1))
  hits = np.concatenate(hits)[:, None] if hits else np.zeros((0, 1))
  return MeanState.from_values(hits, np.ones(hits.shape))


def _unit(x: Float[np.ndarray, 'n D']) -> Float[np.ndarray, 'n D']:
  """Features of length 1; one without a length stays 0."""
  length = np.linalg.norm(x, axis=1, keepdims=True)
  return x / np.where(length > 0, length, 1)


def _check_k(k: int, most: int, what: str) -> None:
  """Raises InputError if k is not in 1 to the number of candidates."""
  if not 1 <= k <= most:
    raise InputError(
      f'k is {k}; there are {most} {what}, it must be 1 to that.'
    )
