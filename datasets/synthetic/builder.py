"""Synthetic garments with exact truth, as a TFDS dataset.

Rendered from a seed, so that everything runs without gated archives:

    builder = Synthetic(sizes={'train': 1500, 'val': 300, 'test': 300}, seed=0,
                        data_dir='runs/data')
    builder.download_and_prepare(file_format='array_record')
    source = builder.as_data_source('train')

Conventions of the truth:

* `left` is the image's left on the upright person, in every slot.
* collar: the ends of the neckline; sleeve: the middle of the cuff's edge, and
  without sleeves the middle of the armhole's edge; waist: both sides of the
  waist line (a dress) or the corners of the waistband; hem: the ends of the
  hem, on trousers each leg's outer corner.
* occluded: inside the image and covered by something painted later, be it the
  garment's own other part.
* Four consecutive photos of a split show one item.

`python -m fld_jax.datasets.synthetic OUT.png` draws a contact sheet.
"""

import functools
import sys
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from fld_jax import schema
from fld_jax.datasets.common.dataset_info import DatasetInfo
from fld_jax.datasets.synthetic import garments, paint
from fld_jax.datasets.synthetic.photo import Photo, draw_photo
from fld_jax.errors import InputError

SIZES = {'train': 1500, 'val': 300, 'test': 300}
PHOTOS_PER_ITEM = 4
VARIATION_SHARES = {1: 0.25, 2: 0.25, 3: 0.25, 4: 0.15, 5: 0.1}


@functools.lru_cache(maxsize=64)
def _item(seed: int, key: int, number: int) -> garments.Item:
  """An item of a split, drawn from its own stream of random numbers."""
  # The last 1 keeps the items' streams apart from the photos'.
  return garments.draw_item(np.random.default_rng((seed, key, number, 1)))


def photo(
  seed: int, split: str, index: int
) -> tuple[garments.Item, int, Photo]:
  """Draws the photo of one example; a pure function of its arguments.

  Args:
    seed: The seed of the data set, 0 or more.
    split: The split, a key of SIZES.
    index: The position in the split, 0 or more.

  Returns:
    The item, the variation's code, the photo.
  """
  key = list(SIZES).index(split)
  item = _item(seed, key, index // PHOTOS_PER_ITEM)
  rng = np.random.default_rng((seed, key, index))
  shares = list(VARIATION_SHARES.values())
  variation = int(rng.choice(list(VARIATION_SHARES), p=shares))
  return item, variation, draw_photo(rng, item, variation)


def example(seed: int, split: str, index: int) -> dict:
  """Makes one record, a pure function of its arguments.

  Args:
    seed: The seed of the data set, 0 or more.
    split: The split, a key of SIZES.
    index: The position in the split, 0 or more.

  Returns:
    The record, of the features of `schema.features`.
  """
  item, variation, shot = photo(seed, split, index)
  return {
    'id': f'{split}/{index:06d}.jpg',
    'image': paint.encode(shot.image),
    'box': shot.box,
    'landmarks': shot.landmarks,
    'visibility': shot.visibility,
    'clothes_type': item.clothes_type,
    'variation': variation,
    'item_id': f'{split}_{index // PHOTOS_PER_ITEM:05d}',
    'attributes': item.attributes(),
    'score': 1.0,
  }


class Synthetic(tfds.core.GeneratorBasedBuilder):
  """Rendered garments with exact landmarks.

  Args:
    sizes: Split -> number of images; a split left out, or of 0 images, does not
      exist.
    seed: The seed, 0 or more; the same seed gives the same bytes.
    **kwargs: The arguments of tfds.core.GeneratorBasedBuilder, such as
      data_dir.

  Raises:
    InputError: A split, a size or the seed is not valid.
  """

  VERSION = tfds.core.Version('1.1.0')
  RELEASE_NOTES = {'1.0.0': 'First version.', '1.1.0': 'score.'}
  # Keeps TFDS 4.9.10 from looking for checksums of downloads, of which there
  # are none, by way of importlib_resources, which it does not install.
  code_path = None

  def __init__(
    self,
    *,
    sizes: dict[str, int] | None = None,
    seed: int = 0,
    **kwargs: Any,
  ):
    sizes = dict(SIZES if sizes is None else sizes)
    _check(sizes, seed)
    self._sizes = {s: int(sizes[s]) for s in SIZES if sizes.get(s)}
    self._seed = int(seed)
    # The name holds all settings, and it names the prepared directory: other
    # settings never read stale data.
    counts = '_'.join(f'{s}{n}' for s, n in self._sizes.items())
    config = tfds.core.BuilderConfig(
      name=f'{counts}_seed{self._seed}', version=self.VERSION
    )
    kwargs.setdefault('file_format', 'array_record')  # others need TensorFlow
    self._arguments = {'sizes': self._sizes, 'seed': self._seed, **kwargs}
    super().__init__(config=config, **kwargs)

  def __reduce__(self) -> tuple:
    # Data sources pickle their builder for Grain's worker processes; TFDS would
    # give the config, which is made here, to __init__ as well.
    return functools.partial(type(self), **self._arguments), ()

  def attribute_groups(self) -> list[str]:
    """Names of the groups that the attributes are of, one for each."""
    return [
      name
      for name, members in garments.ATTRIBUTE_GROUPS.items()
      for _ in members
    ]

  def _info(self) -> tfds.core.DatasetInfo:
    names = list(garments.ATTRIBUTE_NAMES)
    return DatasetInfo(
      builder=self,
      description=__doc__,
      features=schema.features(),
      metadata=tfds.core.MetadataDict(attribute_names=names),
    )

  def _split_generators(
    self, dl_manager: Any
  ) -> dict[str, Iterator[tuple[int, dict]]]:
    del dl_manager
    return {s: self._generate_examples(s) for s in self._sizes}

  def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
    for index in range(self._sizes[split]):
      yield index, example(self._seed, split, index)


def _check(sizes: dict[str, int], seed: int) -> None:
  """Refuses sizes and seeds that are not valid, see `Synthetic`."""
  for split, size in sizes.items():
    if split not in SIZES:
      raise InputError(
        f"sizes['{split}']: no such split; the splits are {', '.join(SIZES)}."
      )
    if int(size) != size or size < 0:
      raise InputError(
        f"sizes['{split}'] is {size!r}; it must be a whole number, 0 or more."
      )
  if not any(sizes.values()):
    raise InputError('sizes has no images; give at least one split a size.')
  if int(seed) != seed or seed < 0:
    raise InputError(f'seed is {seed!r}; it must be a whole number, 0 or more.')


VISIBILITY_RGB = {
  schema.VISIBLE: (30, 220, 60),
  schema.OCCLUDED: (240, 40, 40),
}


def contact_sheet(seed: int = 0, rows: int = 5, columns: int = 8) -> np.ndarray:
  """Draws photos in reading order, so each item fills half a row of eight.

  Green is visible, red occluded; a left point is a disc, a right one a ring;
  the box is white.

  Args:
    seed: The seed of the data set.
    rows: The number of rows of the sheet.
    columns: The number of columns of the sheet.

  Returns:
    (200 * rows, 190 * columns, 3) uint8 RGB.
  """
  height, width = 200, 190
  sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
  for index in range(rows * columns):
    _, _, shot = photo(seed, 'train', index)
    # Fewer levels, or the grain makes the file several times larger.
    image = cv2.medianBlur(shot.image, 3) & 0xF8
    x1, y1, x2, y2 = (int(v) for v in shot.box)
    cv2.rectangle(image, (x1, y1), (x2, y2), (255, 255, 255), 1)
    for slot in range(8):
      color = VISIBILITY_RGB.get(int(shot.visibility[slot]))
      if color is None:
        continue
      at = tuple(int((v - 0.5) * 16) for v in shot.landmarks[slot])
      thick = -1 if slot % 2 == 0 else 1
      cv2.circle(image, at, 3 * 16, color, thick, cv2.LINE_AA, 4)
    y, x = index // columns * height, index % columns * width
    sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
  return sheet


def main(argv: list[str]) -> None:
  """Writes the contact sheet.

  Args:
    argv: The name of the program and the path of the sheet.

  Raises:
    SystemExit: The path is missing or cannot be written to.
  """
  if len(argv) != 2:
    raise SystemExit('usage: python -m fld_jax.datasets.synthetic OUT.png')
  if not cv2.imwrite(argv[1], contact_sheet()[..., ::-1]):
    raise SystemExit(f'cannot write {argv[1]}')


if __name__ == '__main__':
  main(sys.argv)
