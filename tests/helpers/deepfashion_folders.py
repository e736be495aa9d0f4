"""Folders in the layout of DeepFashion."""

import numpy as np
from PIL import Image

BOXES = 'Anno/list_bbox.txt'
LANDMARKS = 'Anno/list_landmarks.txt'
SPLITS = 'Eval/list_eval_partition.txt'
NAMES = 'Anno/list_attr_cloth.txt'
ATTRIBUTES = 'Anno/list_attr_img.txt'
A, B, C = 'img/Tee/img_1.jpg', 'img/Skirt/img_2.jpg', 'img/Dress/img_3.jpg'


TRIPLES = ' '.join(
  f'landmark_visibility_{i} landmark_location_x_{i} landmark_location_y_{i}'
  for i in range(1, 9)
)
# Written by hand; every image is 60 wide and 40 high. Upper, lower, full.
FOLDER = {
  BOXES: ['3', 'image_name x_1 y_1 x_2 y_2']
  + [f'{A} 001 002 050 040', f'{B} 010 008 060 039', f'{C} 5 6.5 61 41'],
  LANDMARKS: ['3', f'image_name clothes_type {TRIPLES}']
  + [
    f'{A} 1 0 011 012 1 021 022 2 031 032 0 041 018 0 051 032 2 000 000',
    f'{B} 2  0 010 009  0 020 009.25  1 009 030  2 000 000',
    f'{C} 3 0 1 2 0 3 4 0 5 6 0 7 8 0 9 10 0 11 12 1 13 14 0 62 16',
  ],
  SPLITS: ['3', 'image_name evaluation_status']
  + [f'{A} train', f'{B}   val', f'{C} train'],
  NAMES: ['2', 'attribute_name attribute_type', 'faux fur   2', 'a-line 3'],
  ATTRIBUTES: ['3', 'image_name attribute_labels']
  + [f'{A} -1  1', f'{B}  0 -1', f'{C}  1  0'],
}


def write_folder(root, files=None, images='Img'):
  for name, lines in (files or FOLDER).items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n')
  rng = np.random.default_rng(0)
  for image in (A, B, C):
    path = root / images / image
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=90)
  return root
