"""The pictures that the doctor leaves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fld_jax import schema
from fld_jax.datasets.common.rows import Row
from fld_jax.files.images import decode_image
from fld_jax.visualization import drawing

NUM_DUPLICATES = 12  # pairs in duplicates.png
COLUMNS = {'contact_sheet.png': 6, 'duplicates.png': 4}


def write(
  directory: Path, rows: list[Row], pairs: list[dict], names: Sequence[str]
) -> None:
  """Writes contact_sheet.png and duplicates.png.

  A sheet of an earlier run is removed, also where there is nothing to show now.

  Args:
    directory: The existing folder of the two files.
    rows: The rows of the contact sheet; without any there is no sheet.
    pairs: The near duplicates that `near_duplicates.find` returns; without any
      there is no sheet.
    names: The names of the N landmarks.

  Raises:
    InputError: An image cannot be read any more.
  """
  examples = [
    (_picture(row.path), row.box, row.landmarks, row.visibility) for row in rows
  ]
  captions = [f'{row.split}: {row.id}' for row in rows]
  _save(directory / 'contact_sheet.png', examples, captions, names)
  nothing = np.zeros((len(names), 2)), np.full(len(names), schema.ABSENT)
  examples, captions = [], []
  for pair in pairs[:NUM_DUPLICATES]:
    for path in pair['paths']:
      picture = _picture(path)
      height, width = picture.shape[:2]
      examples.append((picture, (0, 0, width, height), *nothing))
    captions.append(f'train: {pair["train"]}')
    captions.append(
      f'{pair["distance"]} bits, {pair["split"]}: {pair["other"]}'
    )
  _save(directory / 'duplicates.png', examples, captions, names)


def _picture(path: str) -> np.ndarray:
  """Decodes a file that was decoded before: (H, W, 3) uint8 RGB."""
  return np.asarray(decode_image(path, path)[1].convert('RGB'))


def _save(
  path: Path, examples: list[tuple], captions: list[str], names: Sequence[str]
) -> None:
  """Writes a contact sheet of the examples, or removes an old one.

  Args:
    path: The path of the sheet, with a name of COLUMNS.
    examples: (image, box, landmarks, visibility) of each picture, see
      `drawing.contact_sheet`.
    captions: The text below each picture.
    names: The names of the N landmarks.
  """
  path.unlink(missing_ok=True)
  if examples:
    columns = COLUMNS[path.name]
    sheet = drawing.contact_sheet(examples, captions, names, columns)
    Image.fromarray(sheet).save(path)
