"""Folders of COCO-style keypoint files."""

import json

import cv2
import numpy as np

from fld_jax.configs import base

NAMES = ['left cup', 'right cup', 'strap_top', 'left_hem', 'right_hem']
LAYOUT = ('annotations/{split}.json', 'images')


def document(split: str, count: int = 3) -> dict:
  """A file of 60 x 40 images with one object each, the second with two."""
  rng = np.random.default_rng(len(split))
  data = {'images': [], 'annotations': [], 'info': {'year': 2024}}
  data['categories'] = [{'id': 7, 'name': 'bra', 'keypoints': [*NAMES]}]
  for i in range(count):
    name = f'{split}/{i}.png'
    size = {'width': 60, 'height': 40}
    data['images'].append({'id': 10 + i, 'file_name': name, **size})
    for j in range(1 + (i == 1)):
      points = np.column_stack([rng.uniform(5, 35, (5, 2)), [2, 1, 0, 2, 2]])
      data['annotations'].append(
        {
          'id': 100 + 10 * i + j,
          'image_id': 10 + i,
          'category_id': 7,
          'bbox': [2.5, 3, 40, 30 + j],
          'keypoints': points.ravel().tolist(),
          'num_keypoints': 4,
          'area': 1200,
          'iscrowd': 0,
        }
      )
  return data


def write(folder, documents: dict) -> None:
  rng = np.random.default_rng(0)
  (folder / 'annotations').mkdir(parents=True, exist_ok=True)
  for split, data in documents.items():
    path = folder / 'annotations' / f'{split}.json'
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    (folder / 'images' / split).mkdir(parents=True, exist_ok=True)
    for i in range(40):
      image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
      cv2.imwrite(str(folder / 'images' / split / f'{i}.png'), image)


def config_of(folder, data_dir, **layout):
  config = base.get_config('dataset=coco_keypoints').dataset
  config.manual_dir, config.data_dir = str(folder), str(data_dir)
  config.update(layout)
  return config
