"""Top-k attribute recall and retrieval accuracy against loops."""

import math

import numpy as np
import pytest

from fld_jax.errors import InputError
from fld_jax.metrics import retrieval

RNG = np.random.default_rng(0)


def test_attribute_recall_against_a_loop():
  scores = RNG.normal(size=(60, 12))
  labels = RNG.choice([-1, 0, 1], size=(60, 12), p=[0.4, 0.3, 0.3])
  labels[:, 5] = -1  # an attribute that no image has
  found = retrieval.attribute_recall(scores, labels, 4)
  hits, true = [0] * 12, [0] * 12
  for i in range(60):
    best = sorted(range(12), key=lambda a, i=i: -scores[i, a])[:4]
    for a in range(12):
      if labels[i, a] == 1:
        true[a] += 1
        hits[a] += a in best
  summary = found.summary(tuple(map(str, range(12))))
  rates = [h / t for h, t in zip(hits, true, strict=True) if t]
  assert len(rates) == 11 and summary['per_landmark']['5'] is None
  assert summary['macro'] == pytest.approx(sum(rates) / 11)
  assert summary['micro'] == pytest.approx(sum(hits) / sum(true))


def test_retrieval_against_a_loop():
  items = RNG.integers(0, 40, 300)
  places = RNG.normal(size=(40, 8))
  gallery = places[items] + RNG.normal(0, 1.2, (300, 8))
  query_items = RNG.integers(0, 45, 270)  # some have no image in the gallery
  queries = RNG.normal(size=(270, 8))
  queries[:250] = places[query_items[:250] % 40] + 0.5 * queries[:250]
  found = retrieval.retrieval_accuracy(queries, query_items, gallery, items, 7)
  right = 0
  for query, item in zip(queries, query_items, strict=True):
    nearest = sorted(
      range(300), key=lambda j, q=query: math.dist(q, gallery[j])
    )
    right += any(items[j] == item for j in nearest[:7])
  assert found.total.tolist() == [right] and found.count.tolist() == [270]
  assert 0.1 < right / 270 < 0.9
  parts = [
    retrieval.retrieval_accuracy(queries[s], query_items[s], gallery, items, 7)
    for s in (slice(0), slice(11), slice(11, None))
  ]
  assert parts[0].merge(parts[1]).merge(parts[2]).total.tolist() == [right]


def test_cosine_forgets_lengths():
  gallery = np.array([[5.0, 5.1], [1.0, 0.0], [0.0, 3.0]])
  query = np.array([[0.9, 0.8]])  # nearest to (1, 0), along (5, 5.1)
  for distance, item in (('l2', 'b'), ('cosine', 'a')):
    found = retrieval.retrieval_accuracy(
      query, [item], gallery, list('abc'), 1, distance
    )
    assert found.total.tolist() == [1], distance
  with pytest.raises(InputError, match="'l1', valid values are l2, cosine"):
    retrieval.retrieval_accuracy(query, 'a', gallery, list('abc'), 1, 'l1')


def test_bad_input():
  square = np.zeros((3, 3))
  with pytest.raises(InputError, match=r'\(3, 3\) and the labels \(3, 4\)'):
    retrieval.attribute_recall(square, np.zeros((3, 4)))
  with pytest.raises(InputError, match='k is 5; there are 3 attributes'):
    retrieval.attribute_recall(square, square)
  with pytest.raises(InputError, match='k is 0; there are 3 images'):
    retrieval.retrieval_accuracy(square, [1] * 3, square, [1] * 3, 0)
  with pytest.raises(InputError, match=r'\(3, 3\) and the gallery \(3, 2\)'):
    retrieval.retrieval_accuracy(square, [1] * 3, square[:, :2], [1], 1)
