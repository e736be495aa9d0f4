"""Mean images of a report, for clusters and for the surroundings of landmarks.

Source: DFA (Liu et al., ECCV 2016), Figure 1 c, and the clusters of its
pseudo-labels, section 4.2.
"""

import dataclasses

import cv2
import numpy as np
from ml_collections import ConfigDict

from fld_jax import geometry, schema
from fld_jax.cascade import pseudo_labels
from fld_jax.cascade import stage as stage_lib
from fld_jax.evaluation.evaluated_run import EvaluatedRun
from fld_jax.metrics import mean_state

MAX_IMAGES = 600  # that means are taken of, evenly spread over the split
MAX_MEMORY = 2e7  # numbers at a time
TILE = 116  # pixels, the side of a cluster's mean image
MAX_EXAMPLES = 2  # images of a cluster that are shown beside their mean
PATCH, PATCH_SHARE = 64, 0.3  # pixels; share of the box's longer side


@dataclasses.dataclass(frozen=True, eq=False)
class Cluster:
  """The evaluated images whose truth is nearest to one centre.

  Positions are those of the networks' crop, [-0.5, 0.5].

  Attributes:
    number: The cluster's number, from 1.
    count: The number of images.
    share: Their share of all images.
    ne: The mean NE of these images after the final stage, None if there is
      none.
    mean: (TILE, TILE, 3) uint8 mean of the sampled images; None if none of them
      is in the cluster.
    examples: (k, TILE, TILE, 3) some of the sampled images.
    slots: The landmarks that are drawn: those that more than a quarter of the
      sampled images have.
    positions: (N, 2) the centre's positions ('absolute'), or the mean of the
      landmarks' positions.
    moves: (N, 2) from there to where the stage before estimates the landmarks;
      None for the space 'absolute'.
  """

  number: int
  count: int
  share: float
  ne: float | None
  mean: np.ndarray | None = None
  examples: np.ndarray | tuple = ()
  slots: np.ndarray | tuple = ()
  positions: np.ndarray | None = None
  moves: np.ndarray | None = None


def sample(count: int) -> np.ndarray:
  """The rows of the images that means are taken of, evenly over all rows.

  Args:
    count: The number of images.

  Returns:
    (m,) rows, at most MAX_IMAGES.
  """
  return np.unique(
    np.linspace(0, count - 1, min(count, MAX_IMAGES)).astype(int)
  )


def crops_and_patches(
  run: EvaluatedRun, rows: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
  """Makes the images that means are taken of; each image is decoded once.

  Args:
    run: The run.
    rows: (m,) rows of its images.

  Returns:
    (crops, patches): (m, TILE, TILE, 3) uint8, the networks' crops; for each
    landmark the (PATCH, PATCH, 3) mean of what is around it where it is
    visible, of stretched contrast; grey where it never is. Images are continued
    by their edges.
  """
  options = run.evaluation.config.input
  predictions = run.predictions
  crops = np.empty((len(rows), TILE, TILE, 3), np.uint8)
  shape = (len(run.names), PATCH, PATCH, 3)
  totals, counts = np.zeros(shape), np.zeros(len(run.names))
  for index, row in enumerate(rows):
    box = predictions.boxes[row]
    half = PATCH_SHARE * max(box[2:] - box[:2]) / 2
    image = run.image(row)
    grown = geometry.cropped_box(
      box, image.shape[1::-1], options.crop, options.margin
    )
    image, shift = _surrounded(image, grown, half)
    grown = grown + np.tile(shift, 2)
    affine = geometry.crop_affine(grown, TILE, options.crop)
    crops[index] = geometry.warp(image, grown, affine, TILE)
    for slot in np.flatnonzero(predictions.visibility[row] == schema.VISIBLE):
      point = predictions.landmarks[row, slot] + shift
      around = np.concatenate([point - half, point + half])
      affine = geometry.crop_affine(around, PATCH, 'pad_square')
      totals[slot] += geometry.warp(image, around, affine, PATCH)
      counts[slot] += 1
  return crops, _stretched_means(totals, counts)


def _stretched_means(
  totals: np.ndarray, counts: np.ndarray
) -> list[np.ndarray]:
  """Mean patches as uint8, from dark to bright; grey where there are none.

  Args:
    totals: (N, PATCH, PATCH, 3) sums of patches.
    counts: (N,) the number of patches in each sum.
  """
  means = totals / np.maximum(counts, 1)[:, None, None, None]
  low, high = np.quantile(means, (0.02, 0.98), axis=(1, 2, 3), keepdims=True)
  means = 255 * np.clip((means - low) / np.maximum(high - low, 1), 0, 1)
  means[counts == 0] = 200
  return list(means.astype(np.uint8))


def _surrounded(
  image: np.ndarray, box: np.ndarray, more: float
) -> tuple[np.ndarray, np.ndarray]:
  """An image that is continued by its edges as far as a box reaches out.

  Args:
    image: (H, W, 3) uint8.
    box: (4,) x1, y1, x2, y2 in image pixels.
    more: Pixels that are added beyond the box.

  Returns:
    (image, shift): positions in the first are those in the old plus `shift`.
  """
  size = np.array(image.shape[1::-1])
  out = np.maximum(np.maximum(-box[:2], box[2:] - size).max(), 0) + more
  pad = int(np.ceil(min(out, 4 * size.max())))
  wide = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
  return wide, np.array([pad, pad])


def clusters(
  run: EvaluatedRun,
  stage: str,
  rows: np.ndarray,
  crops: np.ndarray,
  image_errors: np.ndarray,
) -> list[Cluster]:
  """Describes the clusters of a stage's pseudo-labels, the largest first.

  Args:
    run: The run.
    stage: The stage's name.
    rows: (m,) rows of images.
    crops: (m, TILE, TILE, 3) the crops of these images.
    image_errors: (n,) NE of the images by the final stage, NaN if none.
  """
  labels = nearest_clusters(run, stage)
  centres = run.evaluation.centres[stage]
  truth = run.normalised(run.predictions.landmarks)
  counts = np.bincount(labels, minlength=len(centres))
  found = []
  for index in np.argsort(-counts, kind='stable').tolist():
    errors = image_errors[labels == index]
    errors = errors[np.isfinite(errors)]
    cluster = Cluster(
      number=index + 1,
      count=int(counts[index]),
      share=float(counts[index] / len(labels)),
      ne=float(errors.mean()) if errors.size else None,
    )
    members = np.flatnonzero(labels[rows] == index)
    if members.size:
      known = schema.has_position(run.predictions.visibility[rows[members]])
      positions, moves = _centre_positions(
        centres[index],
        run.stage_config(stage).pseudo_label,
        mean_state.MeanState.from_values(
          truth[rows[members]], known[..., None]
        ).compute(),
      )
      cluster = dataclasses.replace(
        cluster,
        mean=crops[members].mean(axis=0).astype(np.uint8),
        examples=crops[members[:MAX_EXAMPLES]],
        slots=np.flatnonzero(known.mean(axis=0) > 0.25),
        positions=positions,
        moves=moves,
      )
    found.append(cluster)
  return found


def _centre_positions(
  centre: np.ndarray, config: ConfigDict, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
  """What a centre stands for: `positions` and `moves` of `Cluster`.

  Args:
    centre: (D,) the centre of a pseudo-label.
    config: The config of the stage's pseudo-labels.
    mean: (N, 2) the mean position of each landmark in the cluster.
  """
  centre = np.asarray(centre, np.float64)
  if config.space == 'absolute':
    return centre.reshape(-1, 2) / pseudo_labels.PIXELS, None
  if config.space == 'offset':
    moves = centre.reshape(-1, 2)
  else:
    moves = error_pattern(centre, config.context_transform)
  return mean, moves / pseudo_labels.PIXELS


def nearest_clusters(run: EvaluatedRun, stage: str) -> np.ndarray:
  """Finds the centre of a stage's pseudo-labels that each image's truth is at.

  Args:
    run: The run.
    stage: The stage's name.

  Returns:
    (n,) indices of centres.
  """
  config = run.stage_config(stage).pseudo_label
  centres = run.evaluation.centres[stage]
  predictions = run.predictions
  truth = run.normalised(predictions.landmarks).astype(np.float32)
  before = None
  seen = stage_lib.before(
    run.stages[: run.stages.index(stage)],
    run.stage_config(stage).init == 'continue',
  )
  if seen:
    before = run.normalised(predictions.estimates[seen[-1]]).astype(np.float32)
  labels, step = [], max(1, int(MAX_MEMORY / centres.size))
  for start in range(0, len(truth), step):
    part = slice(start, start + step)
    z, mask = pseudo_labels.label_vectors(
      truth[part],
      predictions.visibility[part],
      None if before is None else before[part],
      space=config.space,
      context_transform=config.context_transform,
    )
    labels.append(np.asarray(pseudo_labels.hard_label(z, mask, centres)))
  return np.concatenate(labels)


def error_pattern(centre: np.ndarray, transform: str) -> np.ndarray:
  """Finds the errors that a centre of 'context_offset' stands for.

  Args:
    centre: (4N^2,), the mean of products of two coordinates of the offsets.
    transform: The transform that was applied to the products.

  Returns:
    (N, 2) in pixels of a 224 input, up to their common sign: the pattern whose
    own products are nearest to the centre's, by the largest eigenvalue.
  """
  side = int(np.sqrt(len(centre)))
  products = np.asarray(centre, np.float64).reshape(side, side)
  if transform == 'signed_sqrt':
    products = np.sign(products) * products**2
  values, vectors = np.linalg.eigh((products + products.T) / 2)
  return (np.sqrt(max(values[-1], 0)) * vectors[:, -1]).reshape(-1, 2)
