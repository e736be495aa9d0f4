"""The pictures that the doctor leaves."""

from pathlib import Path

import numpy as np
from PIL import Image

from fld_jax import schema
from fld_jax.datasets.common.rows import Row
from fld_jax.files.images import decode_image
from fld_jax.visualization import drawing

NUM_DUPLICATES = 12  # pairs in duplicates.png
COLUMNS = {'contact_sheet.png': 6, 'duplicates.png': 4}


def write(directory: Path, rows: list[Row], pairs: list[dict], names) -> None:
  """Writes contact_sheet.png and duplicates.png, or removes those of before.

  Args:
    directory: where.
    rows: of the contact sheet; none, no sheet.
    pairs: see `examine.examine`, near duplicates; none, no sheet.
    names: N landmark names.
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
  """(H, W, 3) uint8 RGB of a file that was decoded before."""
  return np.asarray(decode_image(path, path)[1].convert('RGB'))


def _save(path: Path, examples, captions, names) -> None:
  path.unlink(missing_ok=True)
  if examples:
    columns = COLUMNS[path.name]
    sheet = drawing.contact_sheet(examples, captions, names, columns)
    Image.fromarray(sheet).save(path)
