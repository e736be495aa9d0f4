"""Made-up COCO annotations, and what pycocotools says of results on them."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fld_jax import landmark_sets

SIGMAS = landmark_sets.COCO_17.sigmas


def perturbed(annotations, rng, noise: float):
  """Detections in COCO's format: moved, missing, doubled, of nothing at all."""
  found = []
  for truth in annotations:
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
      points = np.array(truth['keypoints'], float).reshape(-1, 3)
      x, y, w, h = truth['bbox']
      inside = rng.uniform((x, y), (x + w, y + h), (len(points), 2))
      place = np.where(points[:, 2:] > 0, points[:, :2], inside)
      scale = noise * np.sqrt(truth['area']) * rng.choice([0.3, 1, 3])
      points[:, :2] = place + rng.normal(0, scale, place.shape)
      found.append(
        {
          'image_id': truth['image_id'],
          'category_id': 1,
          'keypoints': points.ravel().tolist(),
          # Few values, so that many scores are equal.
          'score': float(rng.integers(1, 12)) / 12,
        }
      )
  return found


def pycocotools_figures(truth: dict, found: list) -> list[float]:
  with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    results = coco.loadRes(found)
    evaluation = COCOeval(coco, results, 'keypoints')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
  return list(evaluation.stats)


def made_up(rng, num_images=12):
  """Objects of all sizes, crowds, unlabelled ones, and images without any."""
  truth = {'images': [], 'annotations': [], 'info': {}}
  truth['categories'] = [{'id': 1, 'name': 'person', 'keypoints': []}]
  for image in range(1, num_images + 1):
    truth['images'].append({'id': image})
    for _ in range(rng.integers(0, 5)):
      corner, size = rng.uniform(0, 300, 2), rng.uniform(15, 250, 2)
      points = np.zeros((17, 3))
      points[:, :2] = rng.uniform(corner, corner + size, (17, 2))
      points[:, 2] = rng.integers(0, 3, 17) * (rng.random() < 0.8)
      truth['annotations'].append(
        {
          'id': len(truth['annotations']) + 1,
          'image_id': image,
          'category_id': 1,
          'keypoints': points.ravel().tolist(),
          'num_keypoints': int((points[:, 2] > 0).sum()),
          'bbox': [*corner, *size],
          'area': float(size.prod() * rng.uniform(0.3, 1)),
          'iscrowd': int(rng.random() < 0.15),
        }
      )
  return truth
