"""What the routing of a cascade is worth (Liu et al., 2016, section 3.3)."""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from fld_jax.metrics import normalised_error
from fld_jax.metrics.predictions import Predictions, counted


def rank_correlation(
  score: Float[np.ndarray, ' n'], error: Float[np.ndarray, ' n']
) -> float | None:
  """Computes Spearman's rank correlation of a score with an error.

  Args:
    score: (n,) scores.
    error: (n,) errors, NaN where there is none.

  Returns:
    The correlation in [-1, 1]; None if fewer than two images have an error, or
    all scores or all errors are the same.
  """
  known = np.isfinite(error)
  score, error = np.asarray(score)[known], np.asarray(error)[known]
  if len(np.unique(score)) < 2 or len(np.unique(error)) < 2:
    return None
  return float(spearmanr(score, error).statistic)


def evaluate(predictions: Predictions, norm: str) -> dict[str, Any] | None:
  """Measures whether the routing score knows what the branches are for.

  Args:
    predictions: The examples of a split.
    norm: The length that errors are divided by, one of
      `normalised_error.NORMS`.

  Returns:
    `rank_correlation`, stage -> Spearman's correlation of the routing score
    with the NE of the images by that stage; and for `easy` and `hard`
    `num_examples` and `ne`, stage -> the macro NE of the images on that side.
    JSON-ready. None if images were not routed.

  Raises:
    InputError: If an error cannot be measured.
  """
  if predictions.route_score is None:
    return None
  errors = {
    stage: normalised_error.normalised_errors(predictions, stage, norm)
    for stage in predictions.estimates
  }
  has_norm = np.isfinite(normalised_error.normaliser(predictions, norm)[:, :1])
  mask = counted(predictions.visibility) & has_norm

  def side(rows: np.ndarray) -> dict[str, Any]:
    names = predictions.landmark_set.names
    macro = lambda found: normalised_error.ne(found[rows], mask[rows], names)
    return {
      'num_examples': int(rows.sum()),
      'ne': {stage: macro(found)['macro'] for stage, found in errors.items()},
    }

  return {
    'rank_correlation': {
      stage: rank_correlation(
        predictions.route_score,
        normalised_error.image_errors(predictions, stage, norm),
      )
      for stage in errors
    },
    'easy': side(~predictions.is_hard),
    'hard': side(predictions.is_hard),
  }
