"""Split conformal prediction: how large an error may be, by a score.

The calibration errors are sorted by their scores and parted into bins; the
quantile of a bin for level p is the ceil((n + 1) p)-th smallest of its n errors
(Papadopoulos et al., 2002; Lei et al., 2018; by groups: Vovk et al., 2003). If
new errors come from where these came from, one of that bin is at most its
quantile with a probability from p to p + 1 / (n + 1), whatever the scores are
worth. A bin of lower scores never has a smaller quantile: bins that say
otherwise are pooled, the rule of isotonic regression.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

LEVELS = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)  # per cent
MIN_COUNT = 50  # errors of a bin
MAX_BINS = 10
DECIMALS = 6  # of an edge


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """Quantiles of errors by score; K bins, L levels.

  Attributes:
    count: The number of errors that it was fitted to.
    edges: (K - 1,) ascending scores; bin i has those from edge i - 1 on
      and below edge i.
    quantiles: (K, L) errors; infinite where the bin has too few errors for the
      level.
  """

  count: int
  edges: np.ndarray
  quantiles: np.ndarray

  @classmethod
  def fit(
    cls, errors: Float[np.ndarray, ' n'], scores: Float[np.ndarray, ' n']
  ) -> 'Table':
    """Fits a table.

    Args:
      errors: (n,) errors, at least 0.
      scores: (n,) their scores, high where small errors are to be expected.
    """
    order = np.argsort(scores, kind='stable')
    errors, scores = errors[order], scores[order]
    count = len(errors)
    least = max(MIN_COUNT, -(-count // MAX_BINS))
    starts, edges = [0], []
    for i in range(1, count):
      if i - starts[-1] < least or count - i < least:
        continue
      # Equal scores are in one bin, also after a file has rounded the edge.
      edge = round(float(scores[i - 1] + scores[i]) / 2, DECIMALS)
      if scores[i - 1] < edge <= scores[i]:
        starts.append(i)
        edges.append(edge)
    bins = np.split(errors, starts[1:])
    columns = [_falling(bins, level) for level in LEVELS]
    # Bins are pooled level by level: a higher level has no smaller distance.
    quantiles = np.maximum.accumulate(np.stack(columns, axis=1), axis=1)
    return cls(count, np.array(edges, np.float64), quantiles)

  def at(self, scores: Float[np.ndarray, ' n']) -> Float[np.ndarray, 'n L']:
    """Looks up the (n, L) quantiles of (n,) scores."""
    return self.quantiles[np.searchsorted(self.edges, scores, side='right')]


def quantile(errors: Float[np.ndarray, ' n'], level: int) -> float:
  """Computes the conformal quantile of errors.

  Args:
    errors: (n,) errors.
    level: The level in per cent, above 0 and below 100.

  Returns:
    The ceil((n + 1) level / 100)-th smallest error; infinity if there are fewer
    errors than that.
  """
  rank = -(-(len(errors) + 1) * level // 100)  # whole numbers: no rounding
  return float(np.sort(errors)[rank - 1]) if rank <= len(errors) else np.inf


def _falling(bins: list[np.ndarray], level: int) -> Float[np.ndarray, ' K']:
  """Computes the bins' quantiles, which do not rise from bin to bin.

  Args:
    bins: K arrays of errors.
    level: The level in per cent.

  Returns:
    (K,) quantiles; neighbours whose quantiles rise are pooled, until none do.
  """
  pools = []  # errors, quantile, number of bins
  for errors in bins:
    pools.append((errors, quantile(errors, level), 1))
    while len(pools) > 1 and pools[-1][1] > pools[-2][1]:
      (a, _, m), (b, _, n) = pools[-2:]
      pooled = np.concatenate([a, b])
      pools[-2:] = [(pooled, quantile(pooled, level), m + n)]
  return np.concatenate([[value] * n for _, value, n in pools])
