"""Prepared TFDS data -> Grain -> batches of NumPy arrays.

An example holds
  image       (S, S, 3) uint8  the box's crop; normalised on the device
  landmarks   (N, 2) float32   normalised coordinates; 0 where no position
  visibility  (N,) int32       codes of `schema`
  mask        () float32       0 for padding and for a corrupt image, else 1
  clothes_type  () int32       a code of the landmark set, 0 if not known
and, for the host alone, `affine`, which maps crop pixels back to image pixels,
`index`, the record's index in the split, and `attributes`, `box`, `corrupt`,
`id`, `image_size`, `item_id`, `score`, `variation`.
"""

import dataclasses
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import grain
import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from fld_jax import geometry, schema
from fld_jax.datasets.catalog import ClothesType
from fld_jax.errors import InputError, printable
from fld_jax.files.images import decode

logger = logging.getLogger('fld_jax')

DEVICE_KEYS = ('image', 'landmarks', 'visibility', 'mask', 'clothes_type')

# Grain's threads are the parallelism; OpenCV's own would compete with XLA's.
cv2.setNumThreads(1)


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Random changes of a training example (docs/methods.md A21).

  Attributes:
    flip: Mirror every other example.
    scale: Logarithm of the largest factor of the crop's side.
    rotation: Largest angle in degrees.
    shift: Largest shift, as a share of the crop's side.
    colour: Largest relative change of contrast, tint and brightness.
    surroundings: Show what lies around the box, in place of black.
    box_noise: Largest standard deviation of the noise on a side of the box, in
      the box's widths and heights.
    cutout: Largest side of the square that is painted over, as a share of the
      crop's side.
    mild_share: Share of a training, at its end, in which `mild` is in force.
  """

  flip: bool
  scale: float
  rotation: float
  shift: float
  colour: float
  surroundings: bool
  box_noise: float
  cutout: float
  mild_share: float

  def mild(self) -> 'Augmentation':
    """The changes of a training's end: half as large, and no cutout.

    Boxes stay as far off as they are, since that is not for the sake of
    variety: a detector's boxes are so.
    """
    return dataclasses.replace(
      self,
      scale=self.scale / 2,
      rotation=self.rotation / 2,
      shift=self.shift / 2,
      colour=self.colour / 2,
      cutout=0.0,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Pipeline:
  """How records become batches.

  Attributes:
    size: Side S of the crops, in pixels.
    crop: 'pad_square', 'bbox_wh' or 'image', see `geometry.cut`.
    margin: Share of the box's sides that is added on each side.
    augment: The random changes in training.
    flip: (N,) each landmark's partner in the mirrored image.
    batch_size: Examples of a batch, of all processes together.
    seed: Seed of the augmentation in `eval_batches`.
    on_corrupt: 'stop' at a corrupt image, or 'skip' it.
    num_threads: Threads that read and crop.
    num_workers: Processes that do so; 0 for threads alone.
  """

  size: int
  crop: str
  margin: float
  augment: Augmentation
  flip: np.ndarray
  batch_size: int
  seed: int
  on_corrupt: str
  num_threads: int
  num_workers: int

  @classmethod
  def of(cls, config: ConfigDict, landmarks: schema.LandmarkSet) -> 'Pipeline':
    """The pipeline of a run's config.

    Args:
      config: The run's config.
      landmarks: Its landmark set.
    """
    read = config.input
    return cls(
      size=read.size,
      crop=read.crop,
      margin=read.margin,
      augment=Augmentation(**config.augment),
      flip=landmarks.flip,
      batch_size=config.batch_size,
      seed=config.seed,
      on_corrupt=config.dataset.on_corrupt,
      num_threads=read.num_threads,
      num_workers=read.num_workers,
    )


class Records:
  """Random access to the records of a split, images still encoded.

  Args:
    builder: The builder of the prepared data set.
    split: Name of the split.
    indices: Indices in the split to show, in order; None for all, or with a
      clothes type for all of that type.
    only: The one clothes type to show, with its own landmarks; None for all.
    field: The flag or config field that the split's name is from, which a
      message then names with a value that works.

  Attributes:
    split: Name of the split.
    indices: Indices in the split that this source shows, in order.

  Raises:
    InputError: If there is no such split, or nothing in it to show.
  """

  def __init__(
    self,
    builder: tfds.core.DatasetBuilder,
    split: str,
    indices: np.ndarray | None = None,
    only: ClothesType | None = None,
    field: str = '',
  ):
    _check_split(builder, split, field)
    self.split = split
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

  def __getitem__(self, i: int) -> dict:
    index = int(self.indices[i])
    record = _read(self._source, self._parts, index)
    if self._slots:
      for key in ('landmarks', 'visibility'):
        record[key] = record[key][self._slots]
    return {**record, 'index': np.int32(index)}


def _check_split(
  builder: tfds.core.DatasetBuilder, split: str, field: str
) -> None:
  """Refuses a split that there is not, or that has no images.

  Args:
    builder: The builder of the prepared data set.
    split: Name of the split.
    field: See `Records`.

  Raises:
    InputError: It says what there is, and a value of the field that works.
  """
  splits, name = builder.info.splits, builder.info.full_name
  sizes = {key: part.num_examples for key, part in splits.items()}
  try:
    if splits[split].num_examples:
      return
  except (KeyError, NotImplementedError, ValueError):  # TFDS' ways to say no
    what = f"There is no split '{split}' in {name}"
  else:
    what = f"The split '{split}' of {name} has no images"
  has = ', '.join(f'{key} with {count} images' for key, count in sizes.items())
  base = split.partition('[')[0]
  # Of a split without images, a part of another one may do.
  if not sizes.get(base):
    base = 'train' if sizes.get('train') else max(sizes, key=sizes.get)
  raise InputError(
    f'{what}, it has {has}. {_remedy(splits, base, split, field)}', 'config'
  )


def _remedy(
  splits: tfds.core.splits.SplitDict, base: str, split: str, field: str
) -> str:
  """A value that works in place of a split without images, as a sentence.

  Args:
    splits: The splits of the data set.
    base: A split with images, if any has some.
    split: Name of the split that was wished for.
    field: See `Records`.
  """
  share = _working_share(splits, base)
  others = [
    key
    for key in ('val', 'test', *splits)
    if key in splits and key != 'train' and splits[key].num_examples
  ]
  if not splits[base].num_examples or (share is None and not others):
    return 'Training and evaluation need at least two images.'
  if field.startswith('config.dataset.splits.'):
    if share is None:
      return f'Set --config.dataset.splits.tune={others[0]}'
    return (
      'Set both '
      f"'--config.dataset.splits.train={base}[:{share}%]' and "
      f"'--config.dataset.splits.tune={base}[{share}%:]'"
    )
  is_whole = '[' not in split
  value = others[0] if is_whole and others else f'{base}[{share}%:]'
  if field == 'config.eval_splits':
    return f'Set \'--config.eval_splits=("{value}",)\'{_apart(splits, value)}'
  if field:
    return f"Set '{field}={value}'"
  return f"'{value}' would work."


def _apart(splits: tfds.core.splits.SplitDict, value: str) -> str:
  """Splits for training that leave out what is reported, if they have images.

  Args:
    splits: The splits of the data set.
    value: The split that is reported, of the form 'train[80%:]' if it is a part
      of train.

  Returns:
    The end of a sentence that names the split; '' if nothing is to be added.
  """
  if not value.startswith('train['):
    return ''
  share = int(value.removeprefix('train[').removesuffix('%:]'))
  train = f'train[:{2 * share - 100}%]'
  tune = f'train[{2 * share - 100}%:{share}%]'
  if not (splits[train].num_examples and splits[tune].num_examples):
    return ''
  return (
    f" with '--config.dataset.splits.train={train}' and "
    f"'--config.dataset.splits.tune={tune}', which leave it out"
  )


def num_shared(
  builder: tfds.core.DatasetBuilder, first: str, second: str
) -> int:
  """Counts the records that two splits share.

  Args:
    builder: The builder of the prepared data set.
    first: Name of a split with images, for example 'train[:95%]'.
    second: Name of another one.
  """
  count = 0
  for a in builder.info.splits[first].file_instructions:
    for b in builder.info.splits[second].file_instructions:
      if a.filename == b.filename:
        end = min(a.skip + a.take, b.skip + b.take)
        count += max(0, end - max(a.skip, b.skip))
  return count


def _working_share(splits: tfds.core.splits.SplitDict, base: str) -> int | None:
  """The per cent of a split at which both of its parts have images.

  Args:
    splits: The splits of the data set.
    base: Name of the split.

  Returns:
    The largest usual share that leaves two images or, of few, one for the
    second part; None if a split has no two images.
  """
  enough = min(2, splits[base].num_examples // 2)
  for share in (95, 90, 80, 75, 50):
    first, second = (
      splits[f'{base}[{part}]'].num_examples
      for part in (f':{share}%', f'{share}%:')
    )
    if first and second >= max(1, enough):
      return share
  return None


def _source(builder: tfds.core.DatasetBuilder, split: str) -> Sequence[dict]:
  return builder.as_data_source(
    split, decoders={'image': tfds.decode.SkipDecoding()}
  )


def _read(source: Sequence[dict], parts: Sequence[Any], index: int) -> dict:
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
def _clothes_types(builder: tfds.core.DatasetBuilder, split: str) -> np.ndarray:
  """(n,) codes of the records of a split."""
  source = _source(builder, split)
  parts = builder.info.splits[split].file_instructions
  codes = [_read(source, parts, i)['clothes_type'] for i in range(len(source))]
  return np.array(codes)


def _jitter(augment: Augmentation, rng: np.random.Generator) -> dict:
  """Draws the arguments of `geometry.crop_affine`."""
  return {
    'flip': bool(augment.flip and rng.random() < 0.5),
    'scale': float(np.exp(rng.uniform(-augment.scale, augment.scale))),
    'rotation': np.deg2rad(rng.uniform(-augment.rotation, augment.rotation)),
    'shift': rng.uniform(-augment.shift, augment.shift, 2),
    'surroundings': augment.surroundings,
  }


def _recolour(
  image: np.ndarray, amount: float, rng: np.random.Generator
) -> np.ndarray:
  """Random contrast, tint and brightness, each within `amount`."""
  contrast = 1 + rng.uniform(-amount, amount)
  tint = 1 + rng.uniform(-amount, amount, 3) / 3
  brightness = 127 * rng.uniform(-amount, amount) / 2
  recoloured = image * (contrast * tint).astype(np.float32) + brightness
  return np.clip(recoloured, 0, 255).astype(np.uint8)


def _move_sides(
  box: np.ndarray, noise: float, rng: np.random.Generator
) -> np.ndarray:
  """Moves the sides of a box, as those of a detector's boxes are off.

  The standard deviation is drawn for each box from 0 to `noise`, so that a
  network sees boxes that fit as well as boxes that do not.

  Args:
    box: (4,) x1, y1, x2, y2 in image pixels.
    noise: The largest standard deviation, in the box's widths and heights.
    rng: The source of randomness.

  Returns:
    (4,) float32 box, at least a quarter as wide and high as it was.
  """
  size = np.tile(box[2:] - box[:2], 2)
  moved = box + size * rng.uniform(0, noise) * rng.normal(size=4)
  centre = (moved[:2] + moved[2:]) / 2
  half = np.maximum((moved[2:] - moved[:2]) / 2, size[:2] / 8)
  return np.concatenate([centre - half, centre + half]).astype(np.float32)


def _cut_out(
  crop: np.ndarray, largest: float, rng: np.random.Generator
) -> np.ndarray:
  """Paints a random square of a crop over with a random colour.

  Cutout (DeVries and Taylor, 2017): what a landmark looks like must then be
  told from the rest of the item.

  Args:
    crop: (S, S, 3) uint8 crop.
    largest: The largest side of the square, in sides of the crop; the smallest
      is half of it.
    rng: The source of randomness.

  Returns:
    A new (S, S, 3) uint8 crop.
  """
  size = len(crop)
  side = size * rng.uniform(largest / 2, largest)
  x, y = rng.uniform(0, size, 2)
  low = np.clip(np.round([x - side / 2, y - side / 2]), 0, size).astype(int)
  high = np.clip(np.round([x + side / 2, y + side / 2]), 0, size).astype(int)
  crop = crop.copy()
  crop[low[1] : high[1], low[0] : high[0]] = rng.integers(0, 256, 3)
  return crop


class Example:
  """Makes an example of a record. A class, because Grain pickles it."""

  def __init__(self, pipeline: Pipeline, augment: bool):
    self._pipeline = pipeline
    self._augment = pipeline.augment if augment else None

  def __call__(self, record: dict, rng: np.random.Generator) -> dict:
    """The example of a record; all randomness is drawn from `rng`."""
    how, augment = self._pipeline, self._augment
    image, corrupt = self._decode(record)
    jitter = _jitter(augment, rng) if augment else {}
    box = record['box']
    if augment and augment.box_noise:
      box = _move_sides(box, augment.box_noise, rng)
    crop, affine = geometry.cut(
      image, box, how.size, how.crop, how.margin, **jitter
    )
    landmarks = geometry.transform(affine, record['landmarks'])
    landmarks = geometry.normalise(landmarks, how.size)
    visibility = np.array(record['visibility'], np.int32)
    if augment:
      crop = _recolour(crop, augment.colour, rng)
      if augment.cutout:
        crop = _cut_out(crop, augment.cutout, rng)
      if jitter['flip']:
        landmarks, visibility = landmarks[how.flip], visibility[how.flip]
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
      # Photos of a user have neither attributes nor an item.
      'attributes': record.get('attributes', np.zeros(0, np.int8)),
      'box': record['box'],
      'clothes_type': record['clothes_type'],
      'corrupt': np.int32(corrupt),
      'id': record['id'],
      'image_size': np.array(image.shape[1::-1], np.int32),
      'index': record['index'],
      'item_id': record.get('item_id', b''),
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
      if self._pipeline.on_corrupt == 'stop':
        raise InputError(
          f"{error}. Mend it, or set config.dataset.on_corrupt to 'skip'.",
          'image',
        ) from error
      logger.warning('%s. Skipped.', error)
      return np.zeros((1, 1, 3), np.uint8), True


def train_batches(
  records: Records,
  pipeline: Pipeline,
  *,
  seed: int,
  steps: int = 0,
  share: tuple[int, int] = (0, 1),
) -> Iterator[dict]:
  """An endless, shuffled, augmented stream of whole batches.

  The same seed gives the same batches whatever the number of workers, and the
  shares of any number of processes make up the same batches.

  Args:
    records: The source.
    pipeline: How examples and batches are made.
    seed: Seed of order and augmentation.
    steps: The length of the training, for `Augmentation.mild_share`; the stream
      itself has no end.
    share: (which, of how many): every so many'th example of each batch.

  Returns:
    A Grain iterator, whose state a checkpoint can hold; it is the same in every
    process.
  """
  which, shares = share
  shuffled = grain.MapDataset.source(records).seed(seed).shuffle().repeat()
  dataset = shuffled.random_map(Example(pipeline, augment=True))
  if share_of_mild := pipeline.augment.mild_share:
    mild = dataclasses.replace(pipeline, augment=pipeline.augment.mild())
    end = shuffled.random_map(Example(mild, augment=True))
    first = round(steps * (1 - share_of_mild)) * pipeline.batch_size
    dataset = grain.MapDataset.concatenate([dataset[:first], end[first:]])
  dataset = dataset[which::shares].batch(pipeline.batch_size // shares)
  return iter(_prefetch(dataset, pipeline))


def eval_batches(
  records: Records,
  pipeline: Pipeline,
  *,
  augment: bool = False,
  share: tuple[int, int] = (0, 1),
) -> Iterator[dict]:
  """Every record once, in order; the last batch is padded with mask 0.

  Args:
    records: The source.
    pipeline: How examples and batches are made.
    augment: Show each record under one augmentation drawn from the pipeline's
      seed.
    share: (which, of how many): every so many'th record. Of too few records
      it is none: then there is one batch with nothing but mask 0.

  Yields:
    Batches of exactly `pipeline.batch_size` examples, divided by the shares.
  """
  which, shares = share
  none = which >= len(records)
  first = 0 if none else which
  size = pipeline.batch_size // shares
  dataset = (
    grain.MapDataset.source(records)
    .seed(pipeline.seed)
    .random_map(Example(pipeline, augment=augment))[first::shares]
    .batch(size, drop_remainder=False)
  )
  for batch in _prefetch(dataset, pipeline):
    batch = pad(batch, size)
    if none:
      batch['mask'][:] = batch['corrupt'][:] = 0
    yield batch


def examples(
  records: Sequence[dict], pipeline: Pipeline, ahead: int
) -> Iterator[dict]:
  """The example of every record once, in order, for `collate`.

  Threads make them ahead of the asking, each example by itself: of one batch of
  photos many are decoded at a time.

  Args:
    records: The source, such as `photos.Items`.
    pipeline: How examples are made.
    ahead: The number of examples that may be made before they are asked for.
  """
  example = Example(pipeline, augment=False)
  if len(records) == 1:  # for one, threads would take longer than the work
    return iter([example(records[0], None)])
  dataset = grain.MapDataset.source(records).map(lambda x: example(x, None))
  return iter(_prefetch(dataset, pipeline, ahead))


def collate(examples: Sequence[dict], size: int) -> dict:
  """A batch of examples.

  Args:
    examples: At least one example, and at most `size`.
    size: Examples of the batch, which is filled up as `pad` does.
  """
  keys = examples[0]
  return pad({key: np.stack([x[key] for x in examples]) for key in keys}, size)


def _prefetch(
  dataset: grain.MapDataset, pipeline: Pipeline, ahead: int = 0
) -> grain.IterDataset:
  threads = pipeline.num_threads
  dataset = dataset.to_iter_dataset(
    grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=max(2 * threads, 2, ahead)
    )
  )
  if pipeline.num_workers:
    # Spawned workers read absl's flags, which a test or notebook never parsed.
    from absl import flags

    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=pipeline.num_workers)
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


def device_part(batch: dict, share: tuple[int, int] = (0, 1)) -> dict:
  """The arrays that the networks and losses need.

  Args:
    batch: A batch of `train_batches`.
    share: As it was given to `train_batches`.

  Returns:
    DEVICE_KEYS, and `example_index`: each example's row in the whole batch.
  """
  which, shares = share
  index = which + shares * np.arange(len(batch['mask']), dtype=np.int32)
  return {**{key: batch[key] for key in DEVICE_KEYS}, 'example_index': index}
