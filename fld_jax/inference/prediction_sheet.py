"""One sheet of a whole prediction, so that it can be checked at a glance.

Items are given one by one, and few are kept: the least sure, and of the others
a sample that is the same whenever the items are. Photos are read once more in
the end, one at a time.
"""

import heapq
import io
import itertools
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from fld_jax.errors import InputError
from fld_jax.files.atomic import write_file
from fld_jax.files.images import read
from fld_jax.inference.landmarks import Landmarks
from fld_jax.visualization import sheets

NUM_LOWEST = 16  # items of the lowest scores that are shown in any case
NUM_SAMPLED = 512  # items that the others are chosen from
COLUMNS = 6
# Of the sheet among the overlays, which are all JPEG: no photo's has this name.
NAME = 'contact_sheet.png'


class PredictionSheet:
  """Chooses items while they are predicted, and draws them in the end."""

  def __init__(self):
    self._count = 0
    self._rng = np.random.default_rng(0)
    # (score below zero, number, photo, name, landmarks): the first of a heap
    # is the surest.
    self._lowest: list[tuple] = []
    self._sample: list[tuple] = []
    self._num_others = 0

  def add(self, photo: pathlib.Path, name: str, found: Landmarks) -> None:
    """Takes an item into account.

    Args:
      photo: The path of the item's photo.
      name: The name of the photo that stands below the picture.
      found: The item's landmarks.
    """
    self._count += 1
    entry = (-found.score, self._count, photo, name, found)
    if len(self._lowest) < NUM_LOWEST:
      heapq.heappush(self._lowest, entry)
      return
    entry = heapq.heappushpop(self._lowest, entry)
    # Each of the others has the same chance to be in the sample.
    self._num_others += 1
    if len(self._sample) < NUM_SAMPLED:
      self._sample.append(entry)
      return
    place = int(self._rng.integers(self._num_others))
    if place < NUM_SAMPLED:
      self._sample[place] = entry

  def chosen(self) -> list[tuple[pathlib.Path, str, Landmarks]]:
    """The items of the sheet, the lowest score first."""
    room = sheets.MAX_PICTURES - NUM_LOWEST
    others = sheets.spread([-entry[0] for entry in self._sample], room)
    found = self._lowest + [self._sample[i] for i in others]
    return [entry[2:] for entry in sorted(found, key=lambda e: (-e[0], e[1]))]

  def draw(self) -> np.ndarray | None:
    """Draws the sheet.

    Returns:
      (H, W, 3) uint8 RGB; None if there are no items, or no photo can be read
      any more.
    """
    chosen = self.chosen()
    title = f'{len(chosen)} of {self._count} items, the lowest score first'
    if len(chosen) < self._count:
      title += f': the {NUM_LOWEST} lowest, and others evenly over the scores'
    entries = self._entries(chosen)
    first = next(entries, None)
    if first is None:
      return None
    return sheets.contact_sheet(
      itertools.chain([first], entries),
      chosen[0][2].landmark_set,
      COLUMNS,
      title=title,
    )

  def _entries(self, chosen: list[tuple]) -> Iterator[sheets.Entry]:
    """The pictures of items whose photos can still be read."""
    for photo, name, found in chosen:
      try:
        image = read(photo)
      except InputError:
        continue  # it has gone since; its landmarks are in the other files
      caption = f'{found.score:.2f}  {name}'
      yield sheets.Entry(image, found.box, caption, found.marks)


def write(sheet: PredictionSheet, directory: pathlib.Path) -> bool:
  """Writes a sheet, or removes that of an earlier prediction.

  Args:
    sheet: The sheet.
    directory: The folder of the overlays.

  Returns:
    Whether there is a sheet.
  """
  path = directory / NAME
  picture = sheet.draw()
  if picture is None:
    path.unlink(missing_ok=True)
    return False
  encoded = io.BytesIO()
  Image.fromarray(picture).save(encoded, 'PNG')
  write_file(path, encoded.getvalue())
  return True
