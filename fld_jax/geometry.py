"""Coordinates: the one convention, boxes and affine maps.

A Note on Coordinates
---------------------
* Points are (x, y), x to the right, y down.
* Image pixels are continuous: (0, 0) is the top-left corner of the top-left
  pixel, whose centre is (0.5, 0.5); an image is W wide and H high.
* A crop is a square of S x S pixels with the same rule.
* Normalised coordinates, which the networks see, are crop pixels / S - 0.5:
  [-0.5, 0.5] covers the crop.
* An affine map is a (2, 3) matrix [A | t], p -> A p + t.

Conversions between these frames happen in this file only.
"""

import cv2
import numpy as np

from fld_jax import schema
from fld_jax.errors import InputError


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
  """The size of a photo after it is turned as its EXIF data say.

  Args:
    size: (width, height) as the file stores it.
    orientation: The EXIF orientation, 1 to 8.
  """
  return size[::-1] if orientation >= 5 else size


def upright_points(
  points: np.ndarray, size: tuple[int, int], orientation: int
) -> np.ndarray:
  """Maps positions on a stored photo to the photo as it is shown.

  Args:
    points: (..., 2) x, y in pixels of the photo as the file stores it.
    size: (width, height) as the file stores it.
    orientation: The EXIF orientation, 1 to 8.

  Returns:
    (..., 2) float64 x, y in pixels of the photo as it is shown.
  """
  points = np.asarray(points, np.float64)
  x, y = points[..., 0], points[..., 1]
  width, height = size
  turned = {
    1: (x, y),
    2: (width - x, y),
    3: (width - x, height - y),
    4: (x, height - y),
    5: (y, x),
    6: (height - y, x),
    7: (height - y, width - x),
    8: (y, width - x),
  }
  return np.stack(turned[orientation], axis=-1)


def grow_box(box: np.ndarray, margin: float) -> np.ndarray:
  """Grows a box by `margin` of its width and height on each side.

  Args:
    box: (4,) box x1, y1, x2, y2 in image pixels.
    margin: Margin on each side as a fraction of the box's side; 0 leaves the
      box unchanged.

  Returns:
    (4,) float64 box, which may extend beyond the image.
  """
  box = np.asarray(box, np.float64)
  grow = margin * np.maximum(box[2:] - box[:2], 1.0)
  return np.concatenate([box[:2] - grow, box[2:] + grow])


def cropped_box(
  box: np.ndarray, image_size: tuple[int, int], mode: str, margin: float
) -> np.ndarray:
  """Returns the box that a crop shows.

  Args:
    box: (4,) box x1, y1, x2, y2 of the item in image pixels.
    image_size: (width, height) of the image in pixels.
    mode: How the crop is made; 'image' takes the whole image, other modes the
      box.
    margin: Margin on each side as a fraction of the side.

  Returns:
    (4,) float64 box, which may extend beyond the image.
  """
  if mode == 'image':
    box = np.array([0, 0, *image_size])
  return grow_box(box, margin)


def crop_affine(
  box: np.ndarray,
  size: int,
  mode: str,
  *,
  flip: bool = False,
  scale: float = 1.0,
  rotation: float = 0.0,
  shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
  """Returns the affine map from image pixels to the pixels of a box's crop.

  The box's centre goes to the crop's centre plus `shift`.

  Args:
    box: (4,) box x1, y1, x2, y2 in image pixels.
    size: Side S of the crop in pixels.
    mode: The way to make the box square. 'pad_square' keeps the aspect ratio
      and the longer side fills the crop (as in DFA's release), and so does
      'image'; 'bbox_wh' stretches both sides to S (Liu et al., 2016, eq. 5).
    flip: If True, left and right are mirrored, after all other operations.
    scale: Magnification; a value above 1 shows the item larger.
    rotation: Angle in radians, clockwise as the image is displayed.
    shift: Translation (x, y) as fractions of the crop's side.

  Returns:
    (2, 3) float64 affine map.

  Raises:
    InputError: If `mode` is none of the three.
  """
  width, height = np.maximum(np.asarray(box[2:]) - box[:2], 1.0)
  if mode in ('pad_square', 'image'):
    sides = np.full(2, max(width, height), np.float64)
  elif mode == 'bbox_wh':
    sides = np.array([width, height], np.float64)
  else:
    raise InputError(
      f"config.input.crop is '{mode}', valid values are 'pad_square', "
      "'bbox_wh' and 'image'."
    )
  cos, sin = scale * np.cos(rotation), scale * np.sin(rotation)
  linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag(size / sides)
  centre = (np.asarray(box[:2], np.float64) + box[2:]) / 2
  offset = size / 2 + size * np.asarray(shift) - linear @ centre
  affine = np.concatenate([linear, offset[:, None]], axis=1)
  if flip:
    affine[0] = -affine[0]
    affine[0, 2] += size
  return affine


def invert(affine: np.ndarray) -> np.ndarray:
  """Inverts affine maps (..., 2, 3)."""
  linear = np.linalg.inv(affine[..., :2])
  return np.concatenate([linear, -linear @ affine[..., 2:]], axis=-1)


def transform(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
  """Maps points (..., N, 2) by affine maps (..., 2, 3)."""
  return points @ np.swapaxes(affine[..., :2], -1, -2) + affine[..., None, :, 2]


def normalise(points: np.ndarray, size: int) -> np.ndarray:
  """Converts crop pixels (..., 2) to normalised coordinates."""
  return points / size - 0.5


def denormalise(points: np.ndarray, size: int) -> np.ndarray:
  """Converts normalised coordinates (..., 2) to crop pixels."""
  return (points + 0.5) * size


def warp(
  image: np.ndarray,
  box: np.ndarray,
  affine: np.ndarray,
  size: int,
) -> np.ndarray:
  """Resamples the part of an image inside a box into a crop.

  What lies outside the box or outside the image is black, as the release pads.
  A strong reduction is area-averaged first, so that nothing aliases.

  Args:
    image: (H, W, 3) uint8 image.
    box: (4,) box x1, y1, x2, y2 in image pixels; every pixel that it touches is
      used whole.
    affine: (2, 3) affine map from image pixels to crop pixels.
    size: Side S of the crop in pixels.

  Returns:
    (S, S, 3) uint8 crop.
  """
  height, width = image.shape[:2]
  x1, y1 = np.clip(np.floor(box[:2]), 0, [width, height]).astype(int)
  x2, y2 = np.clip(np.ceil(box[2:]), 0, [width, height]).astype(int)
  part = image[y1:y2, x1:x2]
  if part.size == 0:
    return np.zeros((size, size, 3), np.uint8)
  affine = affine.copy()
  affine[:, 2] += affine[:, :2] @ [x1, y1]
  # At least 1: enlarging is the warp's work, and OpenCV averages areas only if
  # both axes are reduced.
  reduction = np.maximum(1 / np.linalg.norm(affine[:, :2], axis=0), 1)
  small = np.maximum(np.round([x2 - x1, y2 - y1] / reduction), 1).astype(int)
  if reduction.max() > 1.5:
    factor = [x2 - x1, y2 - y1] / small
    part = cv2.resize(
      part, tuple(map(int, small)), interpolation=cv2.INTER_AREA
    )
    affine[:, :2] = affine[:, :2] * factor
  # OpenCV counts from pixel centres, we from corners.
  affine[:, 2] += affine[:, :2] @ [0.5, 0.5] - 0.5
  return cv2.warpAffine(part, affine, (size, size), flags=cv2.INTER_LINEAR)


def cut(
  image: np.ndarray,
  box: np.ndarray,
  size: int,
  mode: str,
  margin: float,
  *,
  surroundings: bool = False,
  **jitter: bool | float | tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
  """Cuts the crop of a box out of an image.

  Args:
    image: (H, W, 3) uint8 image.
    box: (4,) box x1, y1, x2, y2 in image pixels.
    size: Side S of the crop in pixels.
    mode: The way to make the box square, 'pad_square' or 'bbox_wh' as
      `crop_affine` defines them; or 'image' for the whole image.
    margin: Margin on each side as a fraction of the box's side.
    surroundings: Whether the crop shows what lies around the box; otherwise
      all outside of the grown box is black, as the release pads.
    **jitter: The augmentation: `flip`, `scale`, `rotation` and `shift` of
      `crop_affine`.

  Returns:
    The (S, S, 3) uint8 crop and the (2, 3) affine map from image pixels to crop
    pixels.

  Raises:
    InputError: If `mode` is none of the three.
  """
  box = cropped_box(box, image.shape[1::-1], mode, margin)
  affine = crop_affine(box, size, mode, **jitter)
  shown = box
  if surroundings:
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]])
    corners = transform(invert(affine), corners)
    shown = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
  return warp(image, shown, affine, size), affine


def observer_centric(
  points: np.ndarray,
  visibility: np.ndarray,
  landmark_set: schema.LandmarkSet,
) -> tuple[np.ndarray, np.ndarray]:
  """Names limbs by the side that the observer sees them on.

  With the torso turned upright, if the two hips are the other way round in x,
  legs swap, and if the shoulders are, arms do. The convention of Eichner and
  Ferrari (ACCV 2012), which papers on LSP evaluate by; on a person that faces
  the camera nothing changes. Nor does it where a hip or shoulder has no
  position.

  Args:
    points: (n, N, 2) person-centric joints, (x, y) in pixels.
    visibility: (n, N) visibility codes, which are swapped with the joints.
    landmark_set: The N joints: `landmark_sets.LSP_14`, or another set with the
      same limbs.

  Returns:
    The observer-centric points and their visibility codes, as new arrays.
  """
  points, visibility = np.array(points), np.array(visibility)
  index = landmark_set.names.index
  ends = lambda word: (
    np.asarray(points[:, index(f'right_{word}')], np.float64),
    np.asarray(points[:, index(f'left_{word}')], np.float64),
  )
  torso = [
    index(f'{side}_{word}')
    for side in ('left', 'right')
    for word in ('hip', 'shoulder')
  ]
  known = schema.has_position(visibility[:, torso]).all(axis=1)
  down = sum(ends('hip')) / 2 - sum(ends('shoulder')) / 2
  swaps = {}
  for limb in (('hip', 'knee', 'ankle'), ('shoulder', 'elbow', 'wrist')):
    right, left = ends(limb[0])
    across = left - right
    # Upright, x grows at a right angle to the torso: (x, y) -> (y, -x).
    turned = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0] < 0
    swaps[limb] = np.flatnonzero(turned & known)
  for limb, rows in swaps.items():
    right = [index(f'right_{word}') for word in limb]
    left = [index(f'left_{word}') for word in limb]
    for values in (points, visibility):
      moved = values[np.ix_(rows, left)]
      values[np.ix_(rows, left)] = values[np.ix_(rows, right)]
      values[np.ix_(rows, right)] = moved
  return points, visibility
