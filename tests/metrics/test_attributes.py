"""Figures of attributes against plain loops."""

import numpy as np
import pytest

from fld_jax.errors import InputError
from fld_jax.metrics import attributes
from fld_jax.metrics.attributes import AttributeSet

RNG = np.random.default_rng(3)
NAMES = ('plain', 'dotted', 'long', 'short', 'none', 'tight', 'wide')
GROUPS = ('texture', 'texture', 'sleeve', 'sleeve', 'sleeve', 'fit', 'fit')
SET = AttributeSet(NAMES, GROUPS)


def made_up(n=80):
  labels = RNG.choice([-1, 0, 1], size=(n, 7), p=[0.5, 0.2, 0.3])
  scores = RNG.normal(size=(n, 7)) + 0.8 * labels
  return scores, labels


def accuracy_by_loop(scores, labels, group):
  right = total = 0
  for score, label in zip(scores, labels, strict=True):
    slots = [i for i in range(7) if GROUPS[i] == group]
    if not any(label[i] == 1 for i in slots):
      continue
    total += 1
    best = sorted(slots, key=lambda i, score=score: -score[i])[0]
    right += label[best] == 1
  return right / total


def test_accuracy_of_groups():
  scores, labels = made_up()
  found = attributes.group_accuracy(scores, labels, SET)
  assert [*found] == ['texture', 'sleeve', 'fit']
  for group, value in found.items():
    assert value == pytest.approx(accuracy_by_loop(scores, labels, group))
  mean = attributes.mean_accuracy(scores, labels, SET)
  assert mean == pytest.approx(sum(found.values()) / 3)


def test_a_group_that_no_image_has():
  scores, labels = made_up()
  labels[:, :2] = -1
  found = attributes.evaluate(scores, labels, SET)
  assert found['accuracy_by_group']['texture'] is None
  assert found['recall_by_group']['texture']['macro'] is None
  others = [accuracy_by_loop(scores, labels, g) for g in ('sleeve', 'fit')]
  assert found['accuracy'] == pytest.approx(sum(others) / 2)
  labels[:] = 0
  assert attributes.evaluate(scores, labels, SET)['accuracy'] is None


def test_recall_within_groups():
  """Of three sleeves two are predicted, of two fits one."""
  scores, labels = made_up()
  found = attributes.evaluate(scores, labels, SET, k=5)['recall_by_group']
  for group, few in (('sleeve', 2), ('fit', 1)):
    slots = [i for i in range(7) if GROUPS[i] == group]
    hits, true = dict.fromkeys(slots, 0), dict.fromkeys(slots, 0)
    for score, label in zip(scores, labels, strict=True):
      top = sorted(slots, key=lambda i, score=score: -score[i])[:few]
      for i in slots:
        true[i] += label[i] == 1
        hits[i] += label[i] == 1 and i in top
    assert found[group]['k'] == few
    micro = sum(hits.values()) / sum(true.values())
    macro = np.mean([hits[i] / true[i] for i in slots])
    assert found[group]['micro'] == pytest.approx(micro)
    assert found[group]['macro'] == pytest.approx(macro)


def test_recall_of_all():
  scores, labels = made_up()
  found = attributes.evaluate(scores, labels, SET, k=3)
  hits = true = 0
  for score, label in zip(scores, labels, strict=True):
    top = np.argsort(-score)[:3]
    true += sum(label == 1)
    hits += sum(label[top] == 1)
  assert found['recall']['micro'] == pytest.approx(hits / true)
  assert [*found['recall']['per_attribute']] == [*NAMES]
  perfect = attributes.evaluate(labels.astype(float), labels, SET, k=7)
  assert perfect['accuracy'] == perfect['recall']['macro'] == 1


def test_bootstrap_of_a_mean_is_its_standard_error():
  values = RNG.normal(size=400)
  found = attributes.bootstrap_error(
    lambda rows: float(values[rows].mean()), 400, draws=800
  )
  assert found == pytest.approx(values.std() / 20, rel=0.1)


def test_names_without_groups_are_refused():
  with pytest.raises(InputError, match='2 attributes and groups of 1'):
    AttributeSet(('a', 'b'), ('x',))
