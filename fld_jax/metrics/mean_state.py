"""Means as mergeable pairs of a sum and a count."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from fld_jax import landmark_sets


@dataclasses.dataclass(frozen=True)
class MeanState:
  """A mean per landmark that can be merged with others, e.g. over processes.

  Attributes:
    total: (N,) float64 sums of the counted values.
    count: (N,) numbers of the counted values.
  """

  total: np.ndarray
  count: np.ndarray

  @classmethod
  def from_values(
    cls, values: Float[np.ndarray, 'n N'], mask: Bool[np.ndarray, 'n N']
  ) -> 'MeanState':
    """Makes the state of a table of values.

    Args:
      values: (n, N) values, any (even NaN) where the mask is False.
      mask: (n, N) bool, True for the values that count.

    Returns:
      The state of N means.
    """
    mask = np.asarray(mask, bool)
    # where, not a product: what is not counted may be NaN.
    values = np.where(mask, np.asarray(values, np.float64), 0.0)
    return cls(values.sum(axis=0), mask.sum(axis=0))

  def merge(self, other: 'MeanState') -> 'MeanState':
    """Returns the state of two sets of values together.

    Args:
      other: The state of the other set, with the same N landmarks.
    """
    return MeanState(self.total + other.total, self.count + other.count)

  def compute(self) -> Float[np.ndarray, ' N']:
    """Returns the (N,) means, NaN for a landmark without a counted value."""
    nothing = np.full(self.total.shape, np.nan)
    return np.divide(self.total, self.count, out=nothing, where=self.count > 0)

  def summary(
    self, names: Sequence[str] = landmark_sets.FASHION_8.names
  ) -> dict:
    """Returns JSON-ready means, None where nothing was counted.

    Args:
      names: The names of the N landmarks.

    Returns:
      `macro`, the mean of the landmarks' means (the published tables' average);
      `micro`, the mean over all values; `per_landmark`, name -> mean.
    """
    means = self.compute()
    counted = self.count > 0
    seen = counted.any()
    return {
      'macro': float(means[counted].mean()) if seen else None,
      'micro': float(self.total.sum() / self.count.sum()) if seen else None,
      'per_landmark': {
        name: float(mean) if has else None
        for name, mean, has in zip(names, means, counted, strict=True)
      },
    }


def macro_mean(
  values: Float[np.ndarray, 'n N'], mask: Bool[np.ndarray, 'n N']
) -> tuple[float, float]:
  """Computes the mean of the landmarks' means, and its standard error.

  The standard error is over examples, since the landmarks of one example are
  not independent: the mean is linearised into one summand for each example.

  Args:
    values: (n, N) values, any where the mask is False.
    mask: (n, N) bool, True for the values that count, which is at least one.

  Returns:
    The mean and its standard error, which is infinite for a single example.
  """
  mask = np.asarray(mask, bool)
  whole = MeanState.from_values(values, mask)
  means, counted = whole.compute(), whole.count > 0
  parts = np.where(mask, values - means, 0) / np.maximum(whole.count, 1)
  parts = parts.sum(axis=1) / counted.sum()
  examples = mask.any(axis=1).sum()
  if examples > 1:
    error = np.sqrt(examples / (examples - 1) * (parts**2).sum())
  else:
    error = np.inf
  return float(means[counted].mean()), float(error)
