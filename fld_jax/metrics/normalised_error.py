"""The figures of fashion landmarks: NE, PDL and visibility accuracy.

Everything is float64 NumPy in the pixels of the original images, so no figure
depends on how the crops were made or batched. "DFA" is Liu et al., "Fashion
Landmark Detection in the Wild", ECCV 2016.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fld_jax import landmark_sets, schema
from fld_jax.errors import InputError
from fld_jax.metrics.mean_state import MeanState, macro_mean
from fld_jax.metrics.predictions import Predictions, corner_and_size, counted

NORMS = (
  'bbox_wh',
  'bbox_long',
  'bbox_w',
  'image_wh',
  'image_w',
  'bbox_sqrt_area',
  'keypair',
)
CROP_PIXELS = 224  # the side of DFA's network input, whose pixels PDL counts
PDL_THRESHOLDS = np.arange(51)
PDL_MAIN = 15
OUTLIER = 0.2  # the NE above which a landmark is an outlier
DUPLICATE_TRUE, DUPLICATE_FOUND = 0.1, 0.03  # fractions of the box's sides


def normaliser(predictions: Predictions, norm: str) -> Float[np.ndarray, 'n 2']:
  """Computes the lengths that errors in x and y are divided by.

  Args:
    predictions: The examples.
    norm: The kind of length, one of NORMS. `bbox_wh` is the box's width for x
      and its height for y (DFA eq. 5), `bbox_long` its longer side (the
      released DFA), `bbox_w` its width, `bbox_sqrt_area` the square root of its
      area. `image_wh` and `image_w` are sides of the image. `keypair` is the
      true distance of two landmarks that the clothes type decides (FashionAI).

  Returns:
    (n, 2) lengths in pixels, above 0; for `keypair` NaN where one of the two
    landmarks has no position.

  Raises:
    InputError: If `norm` is unknown, or the landmark set has no pairs for it,
      or a box or image has no area, or two landmarks of a pair are in one
      place.
  """
  if norm not in NORMS:
    raise InputError(f"norm is '{norm}', valid values are {', '.join(NORMS)}.")
  if norm == 'keypair':
    return np.repeat(_pair_distance(predictions)[:, None], 2, axis=1)
  what = norm.partition('_')[0]
  if what == 'bbox':
    size = corner_and_size(predictions.boxes)[1][:, 0]
  else:
    size = np.asarray(predictions.image_sizes, np.float64)
  flat = np.flatnonzero((size <= 0).any(axis=1))
  if flat.size:
    raise InputError(
      f"The {what} of example '{predictions.ids[flat[0]]}' is "
      f'{size[flat[0], 0]:g} x {size[flat[0], 1]:g} pixels, both sides must be '
      'above 0.'
    )
  if norm.endswith('_wh'):
    return size
  side = {
    'long': size.max(axis=1),
    'w': size[:, 0],
    'sqrt_area': np.sqrt(size.prod(axis=1)),
  }[norm.partition('_')[2]]
  return np.repeat(side[:, None], 2, axis=1)


def _pair_distance(predictions: Predictions) -> Float[np.ndarray, ' n']:
  """Computes the (n,) true distances of the clothes types' landmark pairs."""
  landmarks = predictions.landmark_set
  if not landmarks.norm_pairs:
    raise InputError(
      "norm is 'keypair', but these landmarks have no pairs for it."
    )
  truth = np.asarray(predictions.landmarks, np.float64)
  known = counted(predictions.visibility, 'annotated')
  distance = np.full(len(truth), np.nan)
  for code, pair in landmarks.norm_pairs.items():
    a, b = map(landmarks.names.index, pair)
    rows = np.asarray(predictions.clothes_type) == code
    rows &= known[:, a] & known[:, b]
    distance[rows] = np.linalg.norm(truth[rows, a] - truth[rows, b], axis=-1)
  if (distance == 0).any():
    name = predictions.ids[int(np.flatnonzero(distance == 0)[0])]
    raise InputError(
      f"The two landmarks of example '{name}' whose distance NE is divided by "
      'are in one place.'
    )
  return distance


def normalised_errors(
  predictions: Predictions, stage: str, norm: str = 'bbox_wh'
) -> Float[np.ndarray, 'n N']:
  """Computes the lengths of the normalised errors (DFA section 5).

  Args:
    predictions: The examples.
    stage: The stage's name.
    norm: The length that errors are divided by, one of NORMS.

  Returns:
    (n, N) lengths as fractions, at least 0. They are meaningless where the
    truth has no position (`counted`).

  Raises:
    InputError: If an estimate of a landmark with a position is not finite, or
      `normaliser` fails.
  """
  truth = np.asarray(predictions.landmarks, np.float64)
  estimate = np.asarray(predictions.estimates[stage], np.float64)
  bad = ~np.isfinite(estimate).all(axis=-1)
  bad &= counted(predictions.visibility, 'annotated')
  if bad.any():
    name = predictions.ids[int(np.argwhere(bad)[0, 0])]
    raise InputError(
      f"Stage '{stage}' estimates a position of example '{name}' that is not a "
      'finite number: its training has diverged.'
    )
  scale = normaliser(predictions, norm)[:, None]
  return np.linalg.norm((estimate - truth) / scale, axis=-1)


def ne(
  errors: Float[np.ndarray, 'n N'],
  mask: Bool[np.ndarray, 'n N'],
  names: Sequence[str] = landmark_sets.FASHION_8.names,
) -> dict[str, Any]:
  """Computes the normalised error.

  Args:
    errors: (n, N) lengths of `normalised_errors`.
    mask: (n, N) bool, True for the landmarks that count.
    names: The names of the N landmarks.

  Returns:
    The means of `MeanState.summary`, as fractions.
  """
  return MeanState.from_values(errors, mask).summary(names)


def image_errors(
  predictions: Predictions, stage: str, norm: str = 'bbox_wh'
) -> Float[np.ndarray, ' n']:
  """Computes the mean NE of each image's visible landmarks.

  Args:
    predictions: The examples.
    stage: The stage's name.
    norm: The length that errors are divided by, one of NORMS.

  Returns:
    (n,) fractions, NaN for an image without a landmark that counts.

  Raises:
    InputError: If `normalised_errors` fails.
  """
  errors = normalised_errors(predictions, stage, norm)
  mask = counted(predictions.visibility) & np.isfinite(errors)
  return MeanState.from_values(errors.T, mask.T).compute()


def pdl(
  errors: Float[np.ndarray, 'n N'],
  mask: Bool[np.ndarray, 'n N'],
  thresholds: Float[np.ndarray, ' T'] | Int[np.ndarray, ' T'],
) -> Float[np.ndarray, ' T']:
  """Computes the percentage of detected landmarks (DFA Fig. 5).

  The percentage is a fraction in [0, 1].

  Args:
    errors: (n, N) distances in pixels of the 224-pixel crop.
    mask: (n, N) bool, True for the landmarks that count.
    thresholds: (T,) largest distances of a detection, in the same pixels.

  Returns:
    (T,) fractions, NaN if no landmark counts.
  """
  distances = np.asarray(errors)[np.asarray(mask, bool)]
  thresholds = np.asarray(thresholds)
  if not distances.size:
    return np.full(thresholds.shape, np.nan)
  return (distances[:, None] <= thresholds).mean(axis=0)


def outlier_rate(
  errors: Float[np.ndarray, 'n N'], mask: Bool[np.ndarray, 'n N']
) -> float | None:
  """Computes the share of landmarks whose NE is above 0.2.

  Args:
    errors: (n, N) lengths of `normalised_errors`.
    mask: (n, N) bool, True for the landmarks that count.

  Returns:
    The share in [0, 1], None if no landmark counts.
  """
  errors = np.asarray(errors)[np.asarray(mask, bool)]
  return float((errors > OUTLIER).mean()) if errors.size else None


def duplicate_rate(predictions: Predictions, stage: str) -> float | None:
  """Computes the share of pairs of distinct landmarks predicted as one.

  Two visible landmarks of an image are distinct if their true distance is at
  least 0.1; they are predicted as one if their estimates are less than 0.03
  apart. Distances are in fractions of the box's width and height. PCLoss is
  meant to prevent such duplicates (Song et al., 2021, Figure 1).

  Args:
    predictions: The examples.
    stage: The stage's name.

  Returns:
    The share in [0, 1], None if there is no pair of distinct landmarks.

  Raises:
    InputError: If a box has no area.
  """
  scale = normaliser(predictions, 'bbox_wh')[:, None]
  first, second = np.triu_indices(predictions.visibility.shape[1], 1)

  def distance(points: Float[np.ndarray, 'n N 2']) -> np.ndarray:
    points = np.asarray(points, np.float64) / scale
    return np.linalg.norm(points[:, first] - points[:, second], axis=-1)

  visible = counted(predictions.visibility)
  pairs = visible[:, first] & visible[:, second]
  pairs &= distance(predictions.landmarks) >= DUPLICATE_TRUE
  if not pairs.any():
    return None
  found = distance(predictions.estimates[stage])[pairs]
  return float((found < DUPLICATE_FOUND).mean())


def signed_error(predictions: Predictions, stage: str) -> dict[str, Any]:
  """Computes the mean error to the right and down, in pixels of the images.

  It is near 0 if errors have no common direction. If labels are indices of
  pixels, whose middles are at i + 0.5 here (`fld_jax.geometry`), a landmark
  lies half a pixel to the right of its label, and in the mirror image half a
  pixel to the left: a network that is trained on both learns the middle, and
  its error in x is half a pixel. The shift in y it learns from the labels.

  Args:
    predictions: The examples; their visible landmarks count.
    stage: The stage's name.

  Returns:
    `x` and `y`, each what `MeanState.summary` returns of estimate minus truth,
    and `standard_error`, that of its `macro`; None if a single example or none
    counts.
  """
  visible = counted(predictions.visibility)
  error = np.asarray(predictions.estimates[stage], np.float64)
  error = error - np.asarray(predictions.landmarks, np.float64)
  names, found = predictions.landmark_set.names, {}
  for axis, values in zip('xy', np.moveaxis(error, -1, 0), strict=True):
    spread = macro_mean(values, visible)[1] if visible.any() else np.inf
    found[axis] = {
      **MeanState.from_values(values, visible).summary(names),
      'standard_error': float(spread) if np.isfinite(spread) else None,
    }
  return found


def visibility_accuracy(
  probs: Float[np.ndarray, 'n N 3'] | None, visibility: Int[np.ndarray, 'n N']
) -> dict[str, Any]:
  """Computes how often the most probable visibility class is the true one.

  Args:
    probs: (n, N, 3) probabilities in the order of schema.VISIBILITY_NAMES, None
      if the stage predicts none.
    visibility: (n, N) true visibility codes; ABSENT slots are left out.

  Returns:
    `overall`, the share in [0, 1], and `per_class`, name -> the recall of the
    class; None where no landmark counts.
  """
  names = schema.VISIBILITY_NAMES
  if probs is None:
    return {'overall': None, 'per_class': dict.fromkeys(names)}
  visibility = np.asarray(visibility)
  right = np.argmax(probs, axis=-1) == visibility

  def share(mask: Bool[np.ndarray, 'n N']) -> float | None:
    return float(right[mask].mean()) if mask.any() else None

  return {
    'overall': share(visibility != schema.ABSENT),
    'per_class': {
      name: share(visibility == code) for code, name in enumerate(names)
    },
  }


def evaluate(
  predictions: Predictions, *, norm: str | None = None
) -> dict[str, Any]:
  """Computes all figures of a split, JSON-ready.

  NE and shares are fractions, not per cent. A figure that no landmark counts
  for is None, never NaN.

  Args:
    predictions: The examples of the split.
    norm: The length that errors are divided by, one of NORMS; None for the
      landmark set's own.

  Returns:
    `num_examples`; `num_without_norm`, the number of examples that NE leaves
    out because their length is not known; `norm`; `ne` of the final stage; and
    `stages`, name -> the figures of the stage: `ne` (of visible landmarks),
    `ne_annotated` (of visible and occluded ones), `ne_by_clothes_type` and
    `ne_by_variation` (of visible ones, for each group that has examples),
    `pdl_at_15`, `pdl_curve` (at 0 to 50 pixels of 224), `outlier_rate`,
    `duplicate_rate`, `visibility_accuracy` and `signed_error`. PDL is of the
    box's sides whatever `norm` is: only they are 224 pixels of a crop.

  Raises:
    InputError: If `normaliser` or `normalised_errors` fails.
  """
  landmarks = predictions.landmark_set
  norm = norm or landmarks.norm
  # Only the lengths of 'keypair' may be unknown.
  has_norm = np.isfinite(normaliser(predictions, norm)[:, :1])
  visible = counted(predictions.visibility) & has_norm
  annotated = counted(predictions.visibility, 'annotated') & has_norm
  slots, stages = landmarks.names, {}
  for stage in predictions.estimates:
    errors = normalised_errors(predictions, stage, norm)
    in_box = normalised_errors(predictions, stage, 'bbox_wh')
    curve = pdl(
      in_box * CROP_PIXELS, counted(predictions.visibility), PDL_THRESHOLDS
    )
    curve = [None if np.isnan(share) else float(share) for share in curve]

    def by_group(
      codes: Int[np.ndarray, ' n'],
      groups: Mapping[int, str],
      errors: Float[np.ndarray, 'n N'] = errors,
    ) -> dict[str, dict]:
      codes = np.asarray(codes)
      return {
        name: ne(errors[codes == code], visible[codes == code], slots)
        for code, name in groups.items()
        if (codes == code).any()
      }

    stages[stage] = {
      'ne': ne(errors, visible, slots),
      'ne_annotated': ne(errors, annotated, slots),
      'ne_by_clothes_type': by_group(predictions.clothes_type, landmarks.types),
      'ne_by_variation': by_group(predictions.variation, schema.VARIATIONS),
      'pdl_at_15': curve[PDL_MAIN],
      'pdl_curve': curve,
      'outlier_rate': outlier_rate(errors, visible),
      'duplicate_rate': duplicate_rate(predictions, stage),
      'visibility_accuracy': visibility_accuracy(
        predictions.visibility_probs.get(stage), predictions.visibility
      ),
      'signed_error': signed_error(predictions, stage),
    }
  return {
    'num_examples': len(predictions.ids),
    'num_without_norm': int((~has_norm).sum()),
    'norm': norm,
    'ne': stages[list(stages)[-1]]['ne'],
    'stages': stages,
  }


def mean_places(train: Any) -> dict[int, Float[np.ndarray, 'N 2']]:
  """Computes each landmark's mean place in its box, by clothes type.

  Args:
    train: The training examples, an object with the attributes `landmarks`,
      `visibility`, `boxes` and `clothes_type` of Predictions. Its visible and
      occluded landmarks are averaged.

  Returns:
    Clothes type code -> (N, 2) places, of which each side of the box counts as
    1; the box's centre for a landmark that `train` has no example of on that
    clothes type.
  """
  corner, size = corner_and_size(train.boxes)
  places = (np.asarray(train.landmarks, np.float64) - corner) / size
  known = counted(train.visibility, 'annotated')
  types, found = np.asarray(train.clothes_type), {}
  for code in np.unique(types):
    rows = types == code
    state = MeanState.from_values(places[rows], known[rows][..., None])
    found[int(code)] = np.where(state.count > 0, state.compute(), 0.5)
  return found


def mean_position(
  places: dict[int, Float[np.ndarray, 'N 2']], test: Any
) -> Float[np.ndarray, 'n N 2']:
  """Estimates landmarks without the image: a baseline.

  The estimate of a landmark is its mean place in the box, over the training
  examples of the same clothes type.

  Args:
    places: The mean places, as `mean_places` returned them.
    test: The examples to estimate, an object with the attributes `boxes` and
      `clothes_type` of Predictions.

  Returns:
    (n, N, 2) estimates for `test` in image pixels, the box's centre for the
    clothes types that `places` lacks.
  """
  corner, size = corner_and_size(test.boxes)
  types = np.asarray(test.clothes_type)
  mean = np.full((len(corner), *next(iter(places.values())).shape), 0.5)
  for code, of_type in places.items():
    mean[types == code] = of_type
  return corner + mean * size
