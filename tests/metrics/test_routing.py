"""What is said of routing: rank correlation, NE of both sides."""

import dataclasses

import numpy as np
import pytest
from made_up_runs import loop_errors, make_run

from fld_jax.metrics import routing


def ranks(values):
  """Ranks from 1 on, equal values with the mean of theirs."""
  values = list(values)
  below = [sum(other < value for other in values) for value in values]
  equal = [values.count(value) for value in values]
  return np.array([b + (e + 1) / 2 for b, e in zip(below, equal, strict=True)])


def test_rank_correlation():
  correlation = routing.rank_correlation
  assert correlation([1, 2, 3, 4], np.array([5.0, 6, 8, 7])) == pytest.approx(
    1 - 6 * 2 / (4 * 15)  # two neighbours exchanged
  )
  assert correlation([1, 2, 3], np.array([3.0, 2, 1])) == pytest.approx(-1)
  # An image without an error is left out.
  assert correlation([1, 9, 3], np.array([1.0, np.nan, 2])) == pytest.approx(1)
  assert correlation([2, 2, 2], np.array([1.0, 2, 3])) is None
  assert correlation([1, 2], np.array([1.0, np.nan])) is None


def test_evaluate():
  run = make_run()
  predictions = run.predictions
  found = routing.evaluate(predictions, 'bbox_wh')
  score = predictions.route_score
  for stage in run.stages:
    errors = loop_errors(run, stage)
    of_image = [
      row[np.isfinite(row)].mean() if np.isfinite(row).any() else None
      for row in errors
    ]
    known = [i for i, error in enumerate(of_image) if error is not None]
    assert len(known) < len(score)
    expected = np.corrcoef(
      ranks(score[known]), ranks([of_image[i] for i in known])
    )[0, 1]
    assert found['rank_correlation'][stage] == pytest.approx(expected)
    for name, rows in (('easy', score < 0.3), ('hard', score >= 0.3)):
      columns = [
        column[np.isfinite(column)].mean() for column in errors[rows].T
      ]
      assert found[name]['ne'][stage] == pytest.approx(np.mean(columns))
      assert found[name]['num_examples'] == rows.sum()


def test_a_side_without_images():
  predictions = make_run().predictions
  alone = dataclasses.replace(
    predictions, is_hard=np.zeros(len(predictions.ids), bool)
  )
  found = routing.evaluate(alone, 'bbox_wh')
  assert found['hard']['num_examples'] == 0
  assert set(found['hard']['ne'].values()) == {None}


def test_without_routing():
  plain = make_run(cascade=False, num_stages=1).predictions
  assert routing.evaluate(plain, 'bbox_wh') is None
