"""What a split's predictions are worth: NE, PDL, visibility accuracy.

Everything is float64 NumPy in the pixels of the original images, so no figure
depends on how the crops were made or batched. "DFA" is Liu et al., "Fashion
Landmark Detection in the Wild", ECCV 2016.
"""

import numpy as np

from fld_jax import landmark_sets, schema
from fld_jax.errors import InputError
from fld_jax.metrics.mean_state import MeanState
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
CROP_PIXELS = 224  # PDL counts pixels of the network input of DFA
PDL_THRESHOLDS = np.arange(51)
PDL_MAIN = 15
OUTLIER = 0.2  # NE
DUPLICATE_TRUE, DUPLICATE_FOUND = 0.1, 0.03  # shares of the box's sides


def normaliser(predictions: Predictions, norm: str) -> np.ndarray:
  """(n, 2) pixels that x and y errors are divided by.

  Args:
    predictions: the examples.
    norm: one of NORMS. `bbox_wh`: the box's width for x, its height for y (DFA
      eq. 5); `bbox_long`: its longer side (the released DFA); `bbox_w`: its
      width; `bbox_sqrt_area`; `image_wh` and `image_w`: the same of the image;
      `keypair`: the true distance of two landmarks that the clothes type
      decides (FashionAI), NaN where one has no position.

  Raises:
    InputError: for another name, or one that the landmark set has not; for a
      box or image without area, or two landmarks in one place.
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


def _pair_distance(predictions: Predictions) -> np.ndarray:
  """(n,) true distances of the clothes types' pairs, see `normaliser`."""
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
) -> np.ndarray:
  """(n, N) lengths of the errors divided by `norm`, DFA section 5.

  Meaningless where the truth has no position: see `counted`.

  Raises:
    InputError: if an estimate that counts is not a finite number.
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


def ne(errors, mask, names=landmark_sets.FASHION_8.names) -> dict:
  """Normalised error of (n, N) errors where mask, see MeanState.summary."""
  return MeanState.from_values(errors, mask).summary(names)


def image_errors(
  predictions: Predictions, stage: str, norm: str = 'bbox_wh'
) -> np.ndarray:
  """(n,) mean NE of each image's visible landmarks, NaN if it has none."""
  errors = normalised_errors(predictions, stage, norm)
  mask = counted(predictions.visibility) & np.isfinite(errors)
  return MeanState.from_values(errors.T, mask.T).compute()


def pdl(errors, mask, thresholds) -> np.ndarray:
  """Percentage of detected landmarks, as a share in [0, 1] (DFA Fig. 5).

  Args:
    errors: (n, N) distances in pixels of the 224-pixel crop.
    mask: (n, N) which landmarks count.
    thresholds: (T,) pixels; a distance equal to it is a detection.

  Returns:
    (T,) shares, NaN if no landmark counts.
  """
  distances = np.asarray(errors)[np.asarray(mask, bool)]
  thresholds = np.asarray(thresholds)
  if not distances.size:
    return np.full(thresholds.shape, np.nan)
  return (distances[:, None] <= thresholds).mean(axis=0)


def outlier_rate(errors, mask) -> float | None:
  """Share of the landmarks whose NE is above 0.2.

  Args:
    errors: (n, N) NE.
    mask: (n, N) which landmarks count.

  Returns:
    The share in [0, 1], None if no landmark counts.
  """
  errors = np.asarray(errors)[np.asarray(mask, bool)]
  return float((errors > OUTLIER).mean()) if errors.size else None


def duplicate_rate(predictions: Predictions, stage: str) -> float | None:
  """Share of the pairs of distinct landmarks that are predicted as one.

  Distinct are two visible landmarks of an image at least 0.1 apart in truth; a
  duplicate is predicted less than 0.03 apart. Both in shares of the box's width
  and height. What PCLoss is meant to prevent (Song et al., 2021, Figure 1).

  Returns:
    The share in [0, 1], None if there is no such pair.
  """
  scale = normaliser(predictions, 'bbox_wh')[:, None]
  first, second = np.triu_indices(predictions.visibility.shape[1], 1)

  def distance(points):
    points = np.asarray(points, np.float64) / scale
    return np.linalg.norm(points[:, first] - points[:, second], axis=-1)

  visible = counted(predictions.visibility)
  pairs = visible[:, first] & visible[:, second]
  pairs &= distance(predictions.landmarks) >= DUPLICATE_TRUE
  if not pairs.any():
    return None
  found = distance(predictions.estimates[stage])[pairs]
  return float((found < DUPLICATE_FOUND).mean())


def visibility_accuracy(probs, visibility) -> dict:
  """How often the most probable visibility class is the true one.

  Args:
    probs: (n, N, 3) in the order of schema.VISIBILITY_NAMES, None if the stage
      predicts none.
    visibility: (n, N) true codes; ABSENT slots are left out.

  Returns:
    `overall` and `per_class`, each class's recall; None where none is counted.
  """
  names = schema.VISIBILITY_NAMES
  if probs is None:
    return {'overall': None, 'per_class': dict.fromkeys(names)}
  visibility = np.asarray(visibility)
  right = np.argmax(probs, axis=-1) == visibility

  def share(mask):
    return float(right[mask].mean()) if mask.any() else None

  return {
    'overall': share(visibility != schema.ABSENT),
    'per_class': {
      name: share(visibility == code) for code, name in enumerate(names)
    },
  }


def evaluate(predictions: Predictions, *, norm: str | None = None) -> dict:
  """All figures of a split, ready for JSON: None, never NaN, where none counts.

  Args:
    predictions: the split.
    norm: see `normaliser`; by default the landmark set's own.

  Returns:
    `num_examples`, `num_without_norm` (examples that NE leaves out, because
    their normaliser is not known), `norm`, `ne` (the final stage's) and
    `stages`: for each stage `ne` (visible landmarks), `ne_annotated` (and
    occluded ones), `ne_by_clothes_type`, `ne_by_variation` (of visible ones,
    only groups that are present), `pdl_at_15`, `pdl_curve` (0 to 50 pixels of
    224), `outlier_rate`, `duplicate_rate` and `visibility_accuracy`. NE and
    shares are fractions, not per cent.

  Raises:
    InputError: see `normaliser` and `normalised_errors`.
  """
  landmarks = predictions.landmark_set
  norm = norm or landmarks.norm
  # Only of the normaliser 'keypair' some are not known.
  has_norm = np.isfinite(normaliser(predictions, norm)[:, :1])
  visible = counted(predictions.visibility) & has_norm
  annotated = counted(predictions.visibility, 'annotated') & has_norm
  slots, stages = landmarks.names, {}
  for stage in predictions.estimates:
    errors = normalised_errors(predictions, stage, norm)
    curve = pdl(errors * CROP_PIXELS, visible, PDL_THRESHOLDS)
    curve = [None if np.isnan(share) else float(share) for share in curve]

    def by_group(codes, groups, errors=errors):
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
    }
  return {
    'num_examples': len(predictions.ids),
    'num_without_norm': int((~has_norm).sum()),
    'norm': norm,
    'ne': stages[list(stages)[-1]]['ne'],
    'stages': stages,
  }


def mean_places(train) -> dict[int, np.ndarray]:
  """Each landmark's mean place in its box, by clothes type.

  Args:
    train: Anything with `landmarks`, `visibility`, `boxes` and `clothes_type`
      like Predictions; its visible and occluded landmarks are averaged.

  Returns:
    Clothes type code -> (N, 2) places, of which each side of the box counts as
    1; the box's centre for slots that `train` has no example of on that type.
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


def mean_position(places: dict[int, np.ndarray], test) -> np.ndarray:
  """Baseline that ignores the image: each clothes type's mean place in the box.

  Args:
    places: What `mean_places` returned.
    test: Anything with `boxes` and `clothes_type`.

  Returns:
    (n, N, 2) image pixels for `test`; the box's centre for types that `places`
    has not.
  """
  corner, size = corner_and_size(test.boxes)
  types = np.asarray(test.clothes_type)
  mean = np.full((len(corner), *next(iter(places.values())).shape), 0.5)
  for code, of_type in places.items():
    mean[types == code] = of_type
  return corner + mean * size
