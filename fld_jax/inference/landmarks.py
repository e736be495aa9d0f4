"""The landmarks of an item, and how they are drawn."""

import dataclasses

import cv2
import numpy as np

from fld_jax import schema
from fld_jax.visualization import drawing


@dataclasses.dataclass(frozen=True, eq=False)
class Landmarks:
  """The N landmarks of one item, in pixels of its image.

  Attributes:
    names: of the landmarks.
    box: (4,) x1, y1, x2, y2 of the item.
    positions: (N, 2) float64 x, y from the top-left corner; they may lie
      outside of the image.
    present: (N,) bool, False for those that the clothes type, if it is known,
      has not.
    visibility: N of 'visible', 'occluded' and 'truncated' (not in the image);
      None if the network does not tell.
    visibility_probs: (N, 3), of each of these; or None.
    confidence: (N,) in [0, 1]: the height of the heatmap; of a network without
      any the probability that the landmark is in the image; 1 if it does not
      tell.
    score: () in [0, 1], the mean confidence of what is present.
    route: the networks that the image went through.
    stages: name -> (N, 2), what each stage of a cascade estimated.
  """

  names: tuple[str, ...]
  box: np.ndarray
  positions: np.ndarray
  present: np.ndarray
  visibility: tuple[str, ...] | None
  visibility_probs: np.ndarray | None
  confidence: np.ndarray
  score: float
  route: tuple[str, ...]
  stages: dict[str, np.ndarray]

  @property
  def codes(self) -> np.ndarray:
    """(N,) visibility codes of `schema`, as drawing functions want them."""
    codes = np.full(len(self.names), schema.VISIBLE)
    if self.visibility_probs is not None:
      codes = np.argmax(self.visibility_probs, axis=-1)
    return np.where(self.present, codes, schema.ABSENT)


MAX_OVERLAY_SIDE = 1024  # pixels of an overlay's longer side


def overlay(image: np.ndarray, found: list[Landmarks]) -> np.ndarray:
  """An image with the landmarks and boxes of its items drawn on it.

  Args:
    image: (H, W, 3) uint8 RGB.
    found: its items.

  Returns:
    (H', W', 3) uint8, the longer side at most LONGEST.
  """
  size = np.array(image.shape[1::-1])
  scale = min(1, MAX_OVERLAY_SIDE / max(size))
  small = np.maximum(np.round(size * scale), 1).astype(int)
  if scale < 1:
    image = cv2.resize(
      image, tuple(map(int, small)), interpolation=cv2.INTER_AREA
    )
  image = np.ascontiguousarray(image).copy()
  for item in found:
    x1, y1, x2, y2 = np.round(item.box * np.tile(small / size, 2)).astype(int)
    last = small - 1
    corner = (int(max(x1, 0)), int(max(y1, 0)))
    end = (int(min(x2, last[0])), int(min(y2, last[1])))
    cv2.rectangle(image, corner, end, drawing.WHITE, 1)
    image = drawing.draw_landmarks(
      image, item.positions * small / size, item.codes, names=item.names
    )
  return image
