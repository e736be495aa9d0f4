"""COCO's AP and AR of keypoints, by COCO's own code (pycocotools).

cocodataset.org/#keypoints-eval defines them. Image pixels.
"""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fld_jax.errors import InputError

# In the order of COCOeval.stats.
NAMES = tuple(
  figure + at for figure in ('AP', 'AR') for at in ('', '50', '75', 'M', 'L')
)


def figures(
  objects: list[dict], detections: list[dict], sigmas: Sequence[float]
) -> dict[str, float | None]:
  """Computes COCO's ten figures of detected keypoints.

  Args:
    objects: The annotated objects. Each has `image_id`, `category_id`,
      `keypoints` (N, 3) of x, y and COCO's v, `area`, `bbox` of four numbers
      and `iscrowd`. Ids are integers, coordinates are in image pixels.
    detections: The detected objects. Each has `image_id`, `category_id`,
      `keypoints` (N, 2) and `score`. The 20 with the highest scores of an image
      and category count. Equal scores rank by image id, those of one image in
      the order of this list.
    sigmas: N standard deviations, as fractions of the square root of the
      object's area.

  Returns:
    `AP` and `AR` (means over OKS 0.50 to 0.95), `AP50`, `AP75`, `AR50`, `AR75`,
    `APM`, `APL`, `ARM`, `ARL`: fractions in [0, 1], means over the categories
    that have objects; None where there is no object.

  Raises:
    InputError: If the number of sigmas differs from the number of landmarks, or
      a score or a coordinate of a detection is not finite.
  """
  truth, found = [], []
  for entry in objects:
    points = _points(entry, 3, sigmas)
    labelled = int((points[:, 2] > 0).sum())
    truth.append({**entry, 'keypoints': points, 'num_keypoints': labelled})
  for entry in detections:
    points = _points(entry, 2, sigmas)
    if not (np.isfinite(points).all() and np.isfinite(entry['score'])):
      raise InputError('A score or a place of a detection is not finite.')
    extent = np.ptp(points, axis=0).prod()
    points = np.pad(points, ((0, 0), (0, 1)))
    found.append({**entry, 'keypoints': points, 'area': extent})
  ids = lambda field: [
    {'id': i} for i in sorted({entry[field] for entry in truth + found})
  ]
  with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
    indexed = [COCO(), COCO()]
    for coco, entries in zip(indexed, (truth, found), strict=True):
      coco.dataset = {
        'images': ids('image_id'),
        'categories': ids('category_id'),
        # From 1 on: COCOeval takes an object with the id 0 for not found.
        'annotations': [
          {**entry, 'id': i, 'keypoints': entry['keypoints'].ravel()}
          for i, entry in enumerate(entries, 1)
        ],
      }
      coco.createIndex()
    evaluation = COCOeval(*indexed, 'keypoints')
    evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
  shares = zip(NAMES, evaluation.stats, strict=True)
  return {name: None if x < 0 else float(x) for name, x in shares}


def _points(
  entry: dict, columns: int, sigmas: Sequence[float]
) -> Float[np.ndarray, 'N columns']:
  """Returns the (N, columns) float64 keypoints of an object or a detection."""
  points = np.asarray(entry['keypoints'], np.float64).reshape(-1, columns)
  if len(points) != len(sigmas):
    raise InputError(
      f'There are {len(sigmas)} sigmas for {len(points)} landmarks.'
    )
  return points
