"""Annotated objects as every reader of a folder yields them, with images."""

import dataclasses

import numpy as np

from fld_jax.files.images import decode_image

# Of pickled rows: raise it when `Row` moves or changes, so that a preparation
# that was killed before is begun anew.
FORMAT = 2
SPLITS = ('train', 'val', 'test')  # of most datasets


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Row:
  """One annotated object; positions in image pixels (x, y).

  Attributes:
    id: unique and stable.
    path: the image file.
    place: what messages about the image begin with.
    split: 'train' or another of the dataset's.
    box: (4,) float32, x1 y1 x2 y2.
    landmarks: (N, 2) float32.
    visibility: (N,) int32, codes of schema.
    clothes_type, variation: codes, 0 where not known.
    item_id: '' where not known.
    attributes: (A,) int8 in {1, 0, -1}.
    score: of the detector that found the box; 1 for an annotated one.
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
  """The bytes of a row's image file, decoded once to see that they are whole.

  Raises:
    InputError: the file cannot be read or decoded.
  """
  return decode_image(row.path, row.place)[0]
