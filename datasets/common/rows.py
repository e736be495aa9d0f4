"""Annotated objects as every reader of a folder yields them, with images."""

import dataclasses

import numpy as np

from fld_jax.files.images import decode_image

# The format of pickled rows: raise it when `Row` moves or changes, so that a
# preparation that was killed before starts anew.
FORMAT = 2
SPLITS = ('train', 'val', 'test')  # of most datasets


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Row:
  """One annotated object; positions in image pixels (x, y).

  Attributes:
    id: A name that is unique within the data set and does not change.
    path: The path of the image file.
    place: The file and line that name the image, for messages.
    split: 'train' or another split of the data set.
    box: (4,) float32, x1 y1 x2 y2.
    landmarks: (N, 2) float32.
    visibility: (N,) int32, codes of `schema`.
    clothes_type: The code of the clothes type; 0 if not known.
    variation: The code of `schema.VARIATIONS`; 0 if not known.
    item_id: A name that all photos of one garment share; '' if not known.
    attributes: (A,) int8: 1 has it, -1 has it not, 0 not known.
    score: The score of the detector that found the box; 1 for an annotated box.
  """

  id: str
  path: str
  place: str
  split: str
  box: np.ndarray
  landmarks: np.ndarray
  visibility: np.ndarray
  clothes_type: int = 0
  variation: int = 0
  item_id: str = ''
  attributes: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int8)
  )
  score: float = 1.0


def read_image(row: Row) -> bytes:
  """Reads a row's image file, and decodes it to see that it is whole.

  Args:
    row: The row of the image.

  Returns:
    The bytes of the file.

  Raises:
    InputError: The file cannot be read or decoded.
  """
  return decode_image(row.path, row.place)[0]
