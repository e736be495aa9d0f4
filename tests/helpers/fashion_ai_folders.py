"""Folders in the layout of FashionAI."""

import cv2
import numpy as np

from fld_jax import landmark_sets

AI = landmark_sets.FASHION_AI_24
# As the competition's description lists them, written out for this test.
HEADER = (
  'image_id,image_category,neckline_left,neckline_right,center_front,'
  'shoulder_left,shoulder_right,armpit_left,armpit_right,waistline_left,'
  'waistline_right,cuff_left_in,cuff_left_out,cuff_right_in,cuff_right_out,'
  'top_hem_left,top_hem_right,waistband_left,waistband_right,hemline_left,'
  'hemline_right,crotch,bottom_left_in,bottom_left_out,bottom_right_in,'
  'bottom_right_out'
)


def line(image, category='skirt', **cells):
  names = HEADER.split(',')[2:]
  cells = {
    **{'waistband_left': '10_20_1', 'waistband_right': '40_20_1'},
    **{'hemline_left': '5_50_0', 'hemline_right': '45_50_1'},
    **cells,
  }
  marks = [cells.get(name, '-1_-1_-1') for name in names]
  return ','.join([image, category, *marks])


def write(folder, name, lines, header=HEADER):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join([header, *lines]) + '\n')
  return path


def images(folder, *names):
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / name), np.zeros((60, 50, 3), np.uint8))
