"""The pictures that the doctor leaves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fld_jax import schema
from fld_jax.datasets.common.rows import Row
from fld_jax.files.images import decode_image
from fld_jax.visualization import sheets
from fld_jax.visualization.drawing import Marks

NUM_DUPLICATES = 12  # pairs in duplicates.png
COLUMNS = {'contact_sheet.png': 6, 'duplicates.png': 4}


def write(
  directory: Path,
  rows: list[Row],
  pairs: list[dict],
  landmarks: schema.LandmarkSet,
) -> None:
  """Writes contact_sheet.png and duplicates.png.

  A sheet of an earlier run is removed, also where there is nothing to show now.

  Args:
    directory: The existing folder of the two files.
    rows: The rows of the contact sheet; without any there is no sheet.
    pairs: The near duplicates that `near_duplicates.find` returns; without any
      there is no sheet.
    landmarks: The N landmarks.

  Raises:
    InputError: An image cannot be read any more.
  """
  for name in COLUMNS:
    (directory / name).unlink(missing_ok=True)
  if rows:
    _save(
      directory / 'contact_sheet.png',
      (_of_row(row, landmarks) for row in rows),
      landmarks,
      pairs=landmarks.pairs,
    )
  if pairs:
    entries = _of_pairs(pairs[:NUM_DUPLICATES])
    _save(directory / 'duplicates.png', entries, landmarks)


def _save(path: Path, *sheet: Any, **options: Any) -> None:
  """Writes a contact sheet to a path with a name of COLUMNS."""
  picture = sheets.contact_sheet(*sheet, COLUMNS[path.name], **options)
  Image.fromarray(picture).save(path)


def _of_row(row: Row, landmarks: schema.LandmarkSet) -> sheets.Entry:
  """A row's image with its landmarks, and its type if that is known."""
  marks = Marks(row.visibility, truth=row.landmarks)
  about = filter(None, [row.split, landmarks.types.get(row.clothes_type)])
  caption = f'{", ".join(about)}: {row.id}'
  return sheets.Entry(_picture(row.path), row.box, caption, marks)


def _of_pairs(pairs: list[dict]) -> Iterator[sheets.Entry]:
  """The two images of each pair, without landmarks."""
  for pair in pairs:
    captions = (
      f'train: {pair["train"]}',
      f'{pair["distance"]} bits, {pair["split"]}: {pair["other"]}',
    )
    for path, caption in zip(pair['paths'], captions, strict=True):
      picture = _picture(path)
      height, width = picture.shape[:2]
      box = np.array([0, 0, width, height])
      yield sheets.Entry(picture, box, caption)


def _picture(path: str) -> np.ndarray:
  """Decodes a file that was decoded before: (H, W, 3) uint8 RGB."""
  return np.asarray(decode_image(path, path)[1].convert('RGB'))
