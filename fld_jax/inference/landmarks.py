"""The landmarks of an item, and their overlay on its photo."""

import dataclasses

import numpy as np
from PIL import Image

from fld_jax import schema
from fld_jax.inference import photos
from fld_jax.visualization import drawing

# Pixels of an overlay's longer side, and of its smallest item's as far as the
# most allows.
MIN_OVERLAY_SIDE, MAX_OVERLAY_SIDE, ITEM_SIDE = 512, 1024, 384


@dataclasses.dataclass(frozen=True, eq=False)
class Landmarks:
  """The N landmarks of one item, in pixels of its image.

  Attributes:
    landmark_set: The N landmarks, which have names, pairs and a skeleton.
    box: (4,) x1, y1, x2, y2 of the item.
    positions: (N, 2) float64 x, y from the top-left corner of the image; they
      may be outside of the image.
    present: (N,) bool, False for landmarks that the item's clothes type lacks;
      all True if the type is not known.
    visibility: N of 'visible', 'occluded' and 'truncated' (not in the image);
      None if the network does not estimate visibility.
    visibility_probs: (N, 3) probabilities of these three kinds; None if the
      network does not estimate visibility.
    confidence: (N,) in [0, 1]: the height of the landmark's heatmap or
      distributions (SimCC); for another network the probability that the
      landmark is in the image; 1 if it estimates neither.
    score: The mean confidence of the landmarks that are present, in [0, 1].
    route: The names of the networks that the image passed.
    stages: Stage name -> (N, 2) positions that this stage estimated.
    category: The name of the item's clothes type or category; '' if it is not
      known.
    image_size: (width, height) of the image as it is shown; None if it is not
      known.
    error_50: (N,) pixels within which a landmark that is visible truly lies
      with a chance of 50 %, infinite where the run does not know it; None if it
      has no calibration, see `evaluation.calibration`.
    error_90: (N,) the same with a chance of 90 %.
    attributes: Name of each attribute -> the probability that the item has it;
      None if the network does not predict attributes.
  """

  landmark_set: schema.LandmarkSet
  box: np.ndarray
  positions: np.ndarray
  present: np.ndarray
  visibility: tuple[str, ...] | None
  visibility_probs: np.ndarray | None
  confidence: np.ndarray
  score: float
  route: tuple[str, ...]
  stages: dict[str, np.ndarray]
  category: str = ''
  image_size: tuple[int, int] | None = None
  error_50: np.ndarray | None = None
  error_90: np.ndarray | None = None
  attributes: dict[str, float] | None = None

  @property
  def codes(self) -> np.ndarray:
    """(N,) visibility codes of `schema`, which drawing functions take."""
    codes = np.full(len(self.names), schema.VISIBLE)
    if self.visibility_probs is not None:
      codes = np.argmax(self.visibility_probs, axis=-1)
    return np.where(self.present, codes, schema.ABSENT)

  @property
  def names(self) -> tuple[str, ...]:
    """The names of the N landmarks."""
    return self.landmark_set.names

  @property
  def marks(self) -> drawing.Marks:
    """What pictures show of the item."""
    return drawing.Marks(
      self.codes,
      estimate=self.positions,
      confidence=self.confidence,
      box=self.box,
      reach=self.error_50,
    )

  def is_finite(self) -> bool:
    """Whether all that the networks gave is a number."""
    given = [self.positions, self.confidence, *self.stages.values()]
    if self.visibility_probs is not None:
      given.append(self.visibility_probs)
    if self.attributes is not None:
      given.append(list(self.attributes.values()))
    return bool(
      np.isfinite(self.score) and all(np.isfinite(x).all() for x in given)
    )

  def draw(self, photo: photos.Photo) -> Image.Image:
    """Draws the item's box and landmarks on its photo.

    Args:
      photo: The photo that the landmarks were found on: a path, a PIL image or
        an (H, W, 3) uint8 RGB array.

    Returns:
      A new RGB image, of the size that `overlay` gives it.

    Raises:
      InputError: The photo cannot be read.
    """
    return Image.fromarray(overlay(photos.to_array(photo), [self]))


def overlay(image: np.ndarray, found: list[Landmarks]) -> np.ndarray:
  """Draws the boxes and landmarks of an image's items on a copy of it.

  Args:
    image: (H, W, 3) uint8 RGB.
    found: The landmarks of each item.

  Returns:
    (H', W', 3) uint8 RGB: the image, its longer side from MIN_OVERLAY_SIDE to
    MAX_OVERLAY_SIDE pixels, and below it, if the names find no room, their key.
  """
  picture, scale = drawing.enlarged(
    image,
    [item.box for item in found],
    least=MIN_OVERLAY_SIDE,
    most=MAX_OVERLAY_SIDE,
    item=ITEM_SIDE,
  )
  marks = [item.marks.moved(scale, (0, 0)) for item in found]
  return drawing.labelled(picture, marks, found[0].landmark_set)
