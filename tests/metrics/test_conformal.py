"""Conformal quantiles: by hand, by fractions, and by what they promise."""

import fractions
import math

import numpy as np
import pytest

from fld_jax.metrics.conformal import LEVELS, MIN_COUNT, Table, quantile


def test_quantiles_by_hand():
  errors = np.array([9.0, 1, 8, 2, 7, 3, 6, 4, 5])
  assert quantile(errors, 50) == 5  # the 5th of 9: 10 * 0.5
  assert quantile(errors, 90) == 9  # the 9th of 9: 10 * 0.9
  assert quantile(errors, 95) == np.inf  # there is no 10th
  assert quantile(errors[:-1], 90) == np.inf  # 9 * 0.9 = 8.1 -> the 9th of 8
  assert quantile(np.array([]), 10) == np.inf


def test_the_rank_is_exact():
  """By fractions: 10 * 0.7 is above 7 in floating point."""
  for count in range(1, 120):
    errors = np.arange(1.0, count + 1)
    for level in LEVELS:
      rank = math.ceil(fractions.Fraction((count + 1) * level, 100))
      expected = rank if rank <= count else np.inf
      assert quantile(errors[::-1], level) == expected


def test_a_table_by_hand():
  """Fifty sure landmarks with errors 1 to 50, fifty unsure ones with 51 on."""
  errors = np.arange(100, 0, -1.0)
  scores = np.linspace(0, 0.99, 100)
  table = Table.fit(errors, scores)
  assert table.count == 100
  assert table.edges == pytest.approx([0.495])
  # 51 * 0.5 = 25.5: the 26th; 51 * 0.9 = 45.9: the 46th; 48.45: the 49th.
  columns = [LEVELS.index(level) for level in (50, 90, 95)]
  np.testing.assert_array_equal(
    table.quantiles[:, columns], [[76, 96, 99], [26, 46, 49]]
  )
  found = table.at(np.array([0.0, 0.494, 0.495, 0.496, 2.0]))[:, columns[0]]
  np.testing.assert_array_equal(found, [76, 76, 26, 26, 26])


def test_bins_that_contradict_the_score_are_pooled():
  """The surer have the larger errors: both get the quantile of all."""
  errors, scores = np.arange(1, 101.0), np.linspace(0, 1, 100)
  table = Table.fit(errors, scores)
  assert len(table.edges) == 1
  column = table.quantiles[:, LEVELS.index(50)]
  np.testing.assert_array_equal(column, [51, 51])  # 101 * 0.5: the 51st


def test_a_bin_is_pooled_backwards_until_none_rises():
  """Bins of 3, 2 and 9: what 2s and 9s make together is above 3."""
  parts = [np.full(60, value) for value in (3.0, 2.0, 9.0)]
  table = Table.fit(np.concatenate(parts), np.linspace(0, 1, 180))
  assert len(table.edges) == 2
  # 121 * 0.6 = 72.6: the 73rd of 2s and 9s is a 9, above 3; of all 180, sixty
  # of each, 181 * 0.6 = 108.6: the 109th is a 3.
  column = table.quantiles[:, LEVELS.index(60)]
  np.testing.assert_array_equal(column, [3, 3, 3])
  # 121 * 0.4 = 48.4: the 49th of 2s and 9s is a 2, below 3.
  column = table.quantiles[:, LEVELS.index(40)]
  np.testing.assert_array_equal(column, [3, 2, 2])


@pytest.mark.parametrize('count', [0, 1, 5, 99, 100, 101, 777, 3000])
def test_tables_fall_with_the_score_and_rise_with_the_level(count):
  rng = np.random.default_rng(count)
  scores = np.round(rng.beta(2, 1, count), 2)  # many are equal
  table = Table.fit(rng.exponential(1.2 - scores), scores)
  assert len(table.quantiles) == len(table.edges) + 1 <= 10
  assert (table.quantiles[1:] <= table.quantiles[:-1]).all()
  assert (table.quantiles[:, 1:] >= table.quantiles[:, :-1]).all()
  bins = np.searchsorted(table.edges, scores, side='right')
  sizes = np.bincount(bins, minlength=len(table.quantiles))
  assert (sizes >= min(count, MIN_COUNT)).all()
  assert (np.diff(table.edges) > 0).all()


@pytest.mark.parametrize('spread', [0, 1e-8])
def test_equal_scores_are_one_bin(spread):
  """Also scores that a file's six decimals do not tell apart."""
  errors = np.arange(1, 401.0)
  scores = np.linspace(1 - spread, 1, 400)
  table = Table.fit(errors, scores)
  assert table.edges.size == 0
  assert table.quantiles[0, LEVELS.index(50)] == 201


@pytest.mark.parametrize('is_telling', [True, False])
@pytest.mark.parametrize('count', [19, 199])
def test_new_errors_are_covered_as_promised(count, is_telling):
  """P(covered) is from p to p + 1 / (n + 1), with n of a bin at least."""
  rng = np.random.default_rng(0)
  repeats = 6000
  covered = np.zeros((repeats, len(LEVELS)))
  for i in range(repeats):
    scores = rng.uniform(0, 1, count + 1)
    mean = 1.05 - scores if is_telling else np.ones(count + 1)
    errors = rng.exponential(mean)
    table = Table.fit(errors[:-1], scores[:-1])
    covered[i] = errors[-1] <= table.at(scores[-1:])[0]
  levels = np.array(LEVELS) / 100
  # Four standard errors of a share.
  slack = 4 * np.sqrt(levels * (1 - levels) / repeats)
  share = covered.mean(axis=0)
  assert (share >= levels - slack).all()
  least = min(count, MIN_COUNT)
  assert (share <= levels + 1 / (least + 1) + slack).all()
