"""Bilinear sampling as a plain loop, the way that grid_sample defines it."""

import numpy as np


def grid_sample(image, centre, sides, count):
  """A rectangular grid of samples; 0 outside of the image.

  It is PyTorch's grid_sample with align_corners=False and zeros, for the affine
  grid of `count` x `count` cells over the rectangle.

  Args:
    image: (H, W, C).
    centre: x, y of the rectangle's middle, in sides of the image from its
      middle.
    sides: width and height of the rectangle, in cells of the image.
    count: samples along each side.

  Returns:
    (count, count, C) float64.
  """
  height, width, channels = image.shape
  out = np.zeros((count, count, channels))
  for i in range(count):
    for j in range(count):
      # Cell k of the image is centred at k + 0.5.
      across = ((j + 0.5) / count - 0.5) * sides[0]
      down = ((i + 0.5) / count - 0.5) * sides[1]
      x = (centre[0] + 0.5) * width + across - 0.5
      y = (centre[1] + 0.5) * height + down - 0.5
      left, top = int(np.floor(x)), int(np.floor(y))
      for row in (top, top + 1):
        for column in (left, left + 1):
          weight = (1 - abs(y - row)) * (1 - abs(x - column))
          if 0 <= row < height and 0 <= column < width:
            out[i, j] += weight * image[row, column]
  return out
