"""Features of the items on photos, at the landmarks that a run finds."""

import numpy as np
from jaxtyping import Float, Int

from fld_jax import schema
from fld_jax.inference.photos import Items
from fld_jax.inference.predictor import Predictor
from fld_jax.retrieval.features import Extractor, unit
from fld_jax.retrieval.projection import Projection

# Of so many items or more, features are brought to this many numbers; by the
# first SAMPLE items it is decided to which.
DIMENSION, SAMPLE = 256, 4096


def find_points(
  predictor: Predictor, items: Items
) -> tuple[Float[np.ndarray, 'n N 2'], Int[np.ndarray, 'n N']]:
  """Finds where a run's landmarks are on items.

  Args:
    predictor: The trained run.
    items: n items. What is wrong with those that cannot be used is in
      `items.failures` afterwards.

  Returns:
    (n, N, 2) x, y in image pixels and (n, N) visibility codes, all ABSENT for
    an item that cannot be used.
  """
  count = predictor.landmark_set.num_landmarks
  points = np.zeros((len(items), count, 2), np.float32)
  codes = np.full((len(items), count), schema.ABSENT, np.int32)
  for i, found in predictor.predict(items):
    codes[i] = found.codes
    points[i] = np.where(
      schema.has_position(found.codes)[:, None], found.positions, 0
    )
  return points, codes


def of_items(
  extractor: Extractor,
  items: Items,
  points: tuple[np.ndarray, np.ndarray] | None,
  projection: Projection | None = None,
  *,
  fit: bool = False,
) -> tuple[Int[np.ndarray, ' m'], Float[np.ndarray, 'm d'], Projection | None]:
  """Computes the vectors of items by which they are compared.

  Args:
    extractor: What computes features.
    items: n items; see `find_points`.
    points: The result of `find_points`, for features at points; else None.
    projection: What features are projected by, None for nothing.
    fit: Whether to fit a projection, where there are DIMENSION items or more.

  Returns:
    (m,) the indices of the items that can be used, in order; (m, d) float32
    vectors of length 1; and the projection.
  """
  fit = fit and len(items) >= DIMENSION
  indices, vectors, waiting = [], [], []

  def project() -> None:
    nonlocal projection
    if not waiting:
      return
    x = np.concatenate(waiting)
    waiting.clear()
    if fit and projection is None:
      projection = Projection.fit(x, DIMENSION)
    vectors.append(np.asarray(unit(projection(x) if projection else x)))

  for index, found in extractor(items, points):
    indices.append(index)
    waiting.append(found)
    if projection or sum(map(len, waiting)) >= SAMPLE:
      project()
  project()
  if not indices:
    return np.zeros(0, int), np.zeros((0, 1), np.float32), projection
  return np.concatenate(indices), np.concatenate(vectors), projection
