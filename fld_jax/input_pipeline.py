"""Prepared TFDS data -> Grain -> batches of NumPy arrays.

An example holds
  image       (S, S, 3) uint8  the box's crop; normalised on the device
  landmarks   (N, 2) float32   normalised coordinates; 0 where no position
  visibility  (N,) int32       codes of `schema`
  mask        () float32       0 for padding and for a corrupt image, else 1
and, for the host alone, `affine`, which maps crop pixels back to image pixels,
`index`, the place in the split, and `box`, `clothes_type`, `corrupt`, `id`,
`image_size`, `score`, `variation`.
"""

import functools
import logging
import os

import cv2
import grain
import numpy as np
import tensorflow_datasets as tfds

from fld_jax import geometry, schema
from fld_jax.datasets.catalog import landmark_set
from fld_jax.errors import InputError, printable
from fld_jax.files.images import decode

logger = logging.getLogger('fld_jax')

DEVICE_KEYS = ('image', 'landmarks', 'visibility', 'mask')

# Grain's threads are the parallelism; OpenCV's own would compete with XLA's.
cv2.setNumThreads(1)


class Records:
  """Random access to the records of a split, images still encoded.

  Args:
    builder: of the prepared dataset.
    split: its name.
    indices: places in the split to show, in order; None for all, or with a
      clothes type for all of it.
    only: see `datasets.only_type`.

  Attributes:
    indices: places in the split that this source shows, in order.

  Raises:
    InputError: if there is no such split, or nothing in it to show.
  """

  def __init__(self, builder, split: str, indices=None, only=None):
    try:
      count = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
      raise InputError(
        f"There is no split '{split}' in {builder.info.full_name}, it has: "
        f"{', '.join(builder.info.splits)}; 'train[:95%]' is a part of one."
      ) from error
    if not count:
      raise InputError(f"The split '{split}' is empty.")
    self._parts = builder.info.splits[split].file_instructions
    self._source = _source(builder, split)
    if indices is None:
      indices = np.arange(len(self._source))
      if only:
        indices = np.flatnonzero(_clothes_types(builder, split) == only.code)
        if not len(indices):
          raise InputError(
            f"The split '{split}' of {builder.info.full_name} has no record of "
            f"config.dataset.clothes_type '{only.name}'."
          )
    self.indices = np.asarray(indices)
    self._slots = only and list(only.slots)

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, i) -> dict:
    index = int(self.indices[i])
    record = _read(self._source, self._parts, index)
    if self._slots:
      for key in ('landmarks', 'visibility'):
        record[key] = record[key][self._slots]
    return {**record, 'index': np.int32(index)}


def _source(builder, split: str):
  return builder.as_data_source(
    split, decoders={'image': tfds.decode.SkipDecoding()}
  )


def _read(source, parts, index: int) -> dict:
  """A record of a split; `parts` are the split's files."""
  try:
    return source[index]
  except RuntimeError as error:  # of ArrayRecord, which names no file
    ends = np.cumsum([part.take for part in parts])
    file = parts[np.searchsorted(ends, index, side='right')].filename
    raise InputError(
      f'{file}: these records are cut off or damaged '
      f'({printable(str(error))}). '
      f'Remove {os.path.dirname(file)} and start again: they are made anew.'
    ) from error


@functools.lru_cache  # reads all records, which is enough once
def _clothes_types(builder, split: str) -> np.ndarray:
  """(n,) codes of the records of a split."""
  source = _source(builder, split)
  parts = builder.info.splits[split].file_instructions
  codes = [_read(source, parts, i)['clothes_type'] for i in range(len(source))]
  return np.array(codes)


def _jitter(config, rng: np.random.Generator) -> dict:
  """Draws the arguments of `geometry.crop_affine`."""
  return {
    'flip': bool(config.flip and rng.random() < 0.5),
    'scale': float(np.exp(rng.uniform(-config.scale, config.scale))),
    'rotation': np.deg2rad(rng.uniform(-config.rotation, config.rotation)),
    'shift': rng.uniform(-config.shift, config.shift, 2),
  }


def _recolour(image, amount: float, rng: np.random.Generator) -> np.ndarray:
  """Random contrast, tint and brightness, each within `amount`."""
  contrast = 1 + rng.uniform(-amount, amount)
  tint = 1 + rng.uniform(-amount, amount, 3) / 3
  brightness = 127 * rng.uniform(-amount, amount) / 2
  recoloured = image * (contrast * tint).astype(np.float32) + brightness
  return np.clip(recoloured, 0, 255).astype(np.uint8)


class Example:
  """Makes an example of a record. A class, because Grain pickles it."""

  def __init__(self, config, augment: bool):
    self._config = config.input.to_dict()
    self._augment = config.augment.copy_and_resolve_references()
    self._augmented = augment
    self._on_corrupt = config.dataset.on_corrupt
    self._flip = landmark_set(config.dataset).flip

  def __call__(self, record: dict, rng: np.random.Generator) -> dict:
    """The example of a record; all randomness is drawn from `rng`."""
    size = self._config['size']
    image, corrupt = self._decode(record)
    jitter = _jitter(self._augment, rng) if self._augmented else {}
    crop, affine = geometry.cut(
      image,
      record['box'],
      size,
      self._config['crop'],
      self._config['margin'],
      **jitter,
    )
    landmarks = geometry.transform(affine, record['landmarks'])
    landmarks = geometry.normalise(landmarks, size)
    visibility = np.array(record['visibility'], np.int32)
    if self._augmented:
      crop = _recolour(crop, self._augment.colour, rng)
      if jitter['flip']:
        landmarks, visibility = landmarks[self._flip], visibility[self._flip]
      # What the augmentation moved out of the crop is cut off, as in a photo.
      outside = np.any(np.abs(landmarks) > 0.5, axis=-1)
      visibility[outside & schema.has_position(visibility)] = schema.TRUNCATED
    landmarks[~schema.has_position(visibility)] = 0
    return {
      'image': crop,
      'landmarks': landmarks.astype(np.float32),
      'visibility': visibility,
      'mask': np.float32(not corrupt),
      'affine': geometry.invert(affine),
      'box': record['box'],
      'clothes_type': record['clothes_type'],
      'corrupt': np.int32(corrupt),
      'id': record['id'],
      'image_size': np.array(image.shape[1::-1], np.int32),
      'index': record['index'],
      'score': np.float32(record['score']),
      'variation': record['variation'],
    }

  def _decode(self, record: dict) -> tuple[np.ndarray, bool]:
    if isinstance(record['image'], np.ndarray):  # of `photos.Items`
      return record['image'], record['corrupt']
    name = f'Record {record["id"].decode()}, field image'
    try:
      return decode(record['image'], name), False
    except InputError as error:
      if self._on_corrupt == 'stop':
        raise InputError(
          f"{error}. Mend it, or set config.dataset.on_corrupt to 'skip'.",
          'image',
        ) from error
      logger.warning('%s. Skipped.', error)
      return np.zeros((1, 1, 3), np.uint8), True


def train_batches(records: Records, config, *, seed: int, share=(0, 1)):
  """An endless, shuffled, augmented stream of whole batches.

  The same seed gives the same batches whatever the number of workers, and the
  shares of any number of processes make up the same batches.

  Args:
    records: the source.
    config: `batch_size`, `input`, `augment`, `dataset`.
    seed: of order and augmentation.
    share: (which, of how many): every so many'th example of each batch.

  Returns:
    A Grain iterator, whose state a checkpoint can hold; it is the same in every
    process.
  """
  which, shares = share
  dataset = (
    grain.MapDataset.source(records)
    .seed(seed)
    .shuffle()
    .repeat()
    .random_map(Example(config, augment=True))[which::shares]
    .batch(config.batch_size // shares)
  )
  return iter(_prefetch(dataset, config))


def eval_batches(
  records: Records, config, *, augment: bool = False, share=(0, 1)
):
  """Every record once, in order; the last batch is padded with mask 0.

  Args:
    records: the source.
    config: as for `train_batches`, and `seed`.
    augment: show each record under one augmentation drawn from `config.seed`.
    share: (which, of how many): every so many'th record. Of too few records
      it is none: then there is one batch with nothing but mask 0.

  Yields:
    Batches of exactly `config.batch_size` examples, divided by the shares.
  """
  which, shares = share
  none = which >= len(records)
  first = 0 if none else which
  size = config.batch_size // shares
  dataset = (
    grain.MapDataset.source(records)
    .seed(config.seed)
    .random_map(Example(config, augment=augment))[first::shares]
    .batch(size, drop_remainder=False)
  )
  for batch in _prefetch(dataset, config):
    batch = pad(batch, size)
    if none:
      batch['mask'][:] = batch['corrupt'][:] = 0
    yield batch


def _prefetch(dataset, config):
  threads = config.input.num_threads
  dataset = dataset.to_iter_dataset(
    grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=max(2 * threads, 2)
    )
  )
  if config.input.num_workers:
    # Spawned workers read absl's flags, which a test or notebook never parsed.
    from absl import flags

    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=config.input.num_workers)
    )
  return dataset


def pad(batch: dict, size: int) -> dict:
  """Fills a batch up to `size` with copies of its first example, mask 0."""
  missing = size - len(batch['mask'])
  if not missing:
    return batch
  padded = {
    key: np.concatenate([value, np.repeat(value[:1], missing, axis=0)])
    for key, value in batch.items()
  }
  padded['mask'][-missing:] = 0
  padded['corrupt'][-missing:] = 0
  return padded


def device_part(batch: dict, share=(0, 1)) -> dict:
  """The arrays that the networks and losses need.

  Args:
    batch: of `train_batches`.
    share: as it was given there.

  Returns:
    DEVICE_KEYS, and `position`: each example's place in the whole batch.
  """
  which, shares = share
  place = which + shares * np.arange(len(batch['mask']), dtype=np.int32)
  return {**{key: batch[key] for key in DEVICE_KEYS}, 'example_index': place}
