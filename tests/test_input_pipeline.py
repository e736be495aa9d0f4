"""Batches: the same for all, complete, and with landmarks on their pixels."""

import copy
import io
import logging
import re
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fld_jax import experiment, input_pipeline, schema
from fld_jax.cascade.setup import resolve
from fld_jax.configs import pcloss
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import InputError
from fld_jax.schema import ABSENT, OCCLUDED, TRUNCATED, VISIBLE


@pytest.fixture(scope='module')
def records(synthetic_builder):
  return input_pipeline.Records(synthetic_builder, 'train')


@pytest.fixture
def config(tiny_config):
  config = tiny_config()
  config.input.num_threads = 1
  return config


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def assert_same(batches, others):
  for batch, other in zip(batches, others, strict=True):
    assert batch.keys() == other.keys()
    for key in batch:
      np.testing.assert_array_equal(batch[key], other[key], err_msg=key)


# Order and determinism.


@pytest.mark.parametrize(('threads', 'workers'), [(0, 0), (4, 0), (1, 1)])
def test_threads_and_processes_change_nothing(
  records, config, threads, workers
):
  # Eight batches: more than one epoch of 48.
  expected = take(
    input_pipeline.train_batches(records, resolve(config).pipeline, seed=3), 8
  )
  config.input.num_threads, config.input.num_workers = threads, workers
  found = take(
    input_pipeline.train_batches(records, resolve(config).pipeline, seed=3), 8
  )
  assert_same(found, expected)


def test_a_second_load_of_the_data_gives_the_same(records, config):
  again = input_pipeline.Records(prepared_builder(config.dataset), 'train')
  assert_same(
    take(
      input_pipeline.train_batches(again, resolve(config).pipeline, seed=3), 2
    ),
    take(
      input_pipeline.train_batches(records, resolve(config).pipeline, seed=3), 2
    ),
  )


def test_each_epoch_shows_each_record_once_in_an_order_of_its_own(
  records, config
):
  batches = take(
    input_pipeline.train_batches(records, resolve(config).pipeline, seed=3), 12
  )
  epochs = np.concatenate([b['index'] for b in batches]).reshape(2, 48)
  np.testing.assert_array_equal(np.sort(epochs), [range(48)] * 2)
  assert (epochs[0] != epochs[1]).any() and (epochs[0] != range(48)).any()
  (other,) = take(
    input_pipeline.train_batches(records, resolve(config).pipeline, seed=4), 1
  )
  assert (other['index'] != batches[0]['index']).any()


def test_a_restored_iterator_continues_with_the_same_batches(records, config):
  config.input.num_threads = 4  # which have read ahead when the state is taken
  iterator = input_pipeline.train_batches(
    records, resolve(config).pipeline, seed=3
  )
  take(iterator, 5)
  state = copy.deepcopy(iterator.get_state())
  expected = take(iterator, 3)
  fresh = input_pipeline.train_batches(
    records, resolve(config).pipeline, seed=3
  )
  next(fresh)
  fresh.set_state(state)
  assert_same(take(fresh, 3), expected)


@pytest.mark.parametrize('batch_size', [1, 7, 64])
@pytest.mark.parametrize('augment', [False, True])
def test_eval_batches_cover_each_record_once(
  records, config, batch_size, augment
):
  config.batch_size = batch_size
  batches = list(
    input_pipeline.eval_batches(
      records, resolve(config).pipeline, augment=augment
    )
  )
  assert len(batches) == -(-48 // batch_size)
  for batch in batches:
    assert {len(value) for value in batch.values()} == {batch_size}
  joined = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  np.testing.assert_array_equal(
    joined['mask'], [1] * 48 + [0] * (len(joined['mask']) - 48)
  )
  np.testing.assert_array_equal(joined['index'][:48], range(48))
  assert len(set(joined['id'][:48].tolist())) == 48
  assert not joined['corrupt'].any()


def test_padding_with_a_corrupt_first_example_counts_it_once():
  batch = {'mask': np.float32([0, 1]), 'corrupt': np.int32([1, 0])}
  padded = input_pipeline.pad(batch, 5)
  np.testing.assert_array_equal(padded['mask'], [0, 1, 0, 0, 0])
  np.testing.assert_array_equal(padded['corrupt'], [1, 0, 0, 0, 0])


def test_splits(synthetic_builder):
  half = input_pipeline.Records(synthetic_builder, 'train[50%:]')
  assert len(half) == 24
  whole = input_pipeline.Records(synthetic_builder, 'train', [24, 40])
  assert len(whole) == 2
  assert [whole[i]['index'] for i in (0, 1)] == [24, 40]
  assert [whole[i]['id'] for i in (0, 1)] == [half[i]['id'] for i in (0, 16)]


@pytest.mark.parametrize('split', ['validation', 'validation[:5]', 'train[x]'])
def test_an_unknown_split_lists_those_there_are(synthetic_builder, split):
  with pytest.raises(InputError) as error:
    input_pipeline.Records(synthetic_builder, split)
  assert f"'{split}'" in str(error.value)
  listed = str(error.value).partition('it has ')[2].partition('.')[0]
  assert set(listed.split(', ')) == {
    'train with 48 images',
    'val with 16 images',
    'test with 16 images',
  }


def test_an_empty_split(synthetic_builder):
  with pytest.raises(InputError, match=r"'train\[:0\]' of .* has no images"):
    input_pipeline.Records(synthetic_builder, 'train[:0]')


def info(**sizes):
  """Splits of as many images, as a builder has them."""
  template = tfds.core.ShardedFileTemplate(
    data_dir='/nowhere', dataset_name='a', filetype_suffix='array_record'
  )
  splits = [
    tfds.core.SplitInfo(
      name=name,
      shard_lengths=[count] if count else [],
      num_bytes=0,
      filename_template=template,
    )
    for name, count in sizes.items()
  ]
  return types.SimpleNamespace(
    info=types.SimpleNamespace(
      splits=tfds.core.splits.SplitDict(splits), full_name='own/1.0.0'
    )
  )


def remedies(builder, split, field):
  """What the message says to set: field -> the split in its value."""
  with pytest.raises(InputError) as raised:
    input_pipeline.Records(builder, split, field=field)
  text = str(raised.value)
  return text, dict(re.findall(r'(--[\w.]+)=(?:\(\")?([\w\[\]:%]+)', text))


@pytest.mark.parametrize('count', [*range(1, 13), 19, 29])
@pytest.mark.parametrize('share', [50, 80, 95, 99])
def test_empty_parts_are_answered_with_parts_that_work(count, share):
  builder = info(train=count, val=count)
  fields = {'train': f'train[:{share}%]', 'tune': f'train[{share}%:]'}
  for name, split in fields.items():
    if builder.info.splits[split].num_examples:
      continue
    text, found = remedies(builder, split, f'config.dataset.splits.{name}')
    assert f"'{split}'" in text and f'train with {count} images' in text
    if count == 1:
      assert found == {'--config.dataset.splits.tune': 'val'}
      continue
    parts = [found[f'--config.dataset.splits.{each}'] for each in fields]
    sizes = [builder.info.splits[part].num_examples for part in parts]
    assert min(sizes) >= 1 and sum(sizes) == count
    assert sizes[1] >= min(2, count // 2)


@pytest.mark.parametrize(
  'sizes, split, field, expected',
  [
    # One file alone, a folder of another name, an empty one, a slip.
    ({'train': 12}, 'val', 'config.eval_splits', 'train[80%:]'),
    ({'train': 12}, 'test', '--split', 'train[80%:]'),
    ({'train': 12, 'valid': 4}, 'val', 'config.eval_splits', 'valid'),
    ({'train': 12, 'val': 0, 'test': 3}, 'val', '--split', 'test'),
    ({'train': 12, 'val': 2}, 'vall', '--split', 'val'),
    ({'whole': 12}, 'val', '--split', 'whole'),
    ({'train': 12}, 'val', 'config.dataset.splits.tune', 'train[80%:]'),
    ({'train': 12, 'val': 0}, 'val[50%:]', '--split', 'train[80%:]'),
  ],
)
def test_a_missing_split_is_answered_with_one_that_works(
  sizes, split, field, expected
):
  builder = info(**sizes)
  _, found = remedies(builder, split, field)
  value = found[field if field.startswith('--') else f'--{field}']
  assert value == expected and builder.info.splits[value].num_examples


@pytest.mark.parametrize('count', [8, 12, 30, 300])
def test_the_splits_proposed_for_a_report_share_no_image(count):
  builder = info(train=count)
  _, found = remedies(builder, 'val', 'config.eval_splits')
  assert len(found) == 3
  parts = [set(members(split, train=count)) for split in found.values()]
  assert all(parts) and sum(map(len, parts)) == len(set.union(*parts)) == count


def members(split, **sizes):
  """The records of a split: (name, index), as TFDS rounds shares."""
  for part in split.split('+'):
    name, _, share = part.partition('[')
    edges = share.removesuffix(']').split(':') if share else ['', '']
    low, high = (
      round(float(edge.removesuffix('%')) / 100 * sizes[name]) if edge else end
      for edge, end in zip(edges, (0, sizes[name]), strict=True)
    )
    yield from ((name, i) for i in range(low, high))


@pytest.mark.parametrize(
  'first', ['train', 'train[:95%]', 'train[40%:60%]+val']
)
@pytest.mark.parametrize('second', ['val', 'train[95%:]', 'train[50%:]+test'])
def test_images_that_two_splits_share_are_counted(first, second):
  sizes = {'train': 200, 'val': 7, 'test': 9}
  builder = info(**sizes)
  expected = {*members(first, **sizes)} & {*members(second, **sizes)}
  for pair in ((first, second), (second, first)):
    assert input_pipeline.num_shared(builder, *pair) == len(expected)


def test_a_start_says_which_splits_share_images():
  config = pcloss.get_config('dataset=lspet')
  builder = info(train=200, val=20)
  warnings = lambda reported: experiment._shared_images(
    config, builder, reported
  )
  assert warnings(config.eval_splits) == []
  config.dataset.splits.tune = 'train[85%:95%]'
  of_tune, of_report = warnings(('val', 'train[92.5%:]'))
  assert of_tune.startswith("10 images of 'train[85%:95%]'")
  assert "'train[:90%]', on which networks are trained" in of_tune
  assert of_report.startswith("5 images of 'train[92.5%:]'")
  assert "'train[85%:95%]', by which checkpoints are chosen" in of_report


def test_no_two_images_have_no_remedy():
  with pytest.raises(InputError, match='need at least two images'):
    input_pipeline.Records(info(train=1), 'val', field='--split')


# Landmarks and pixels. A photo with a red dot at one end of the collar, the
# image's left, and a blue one at the other; the other slots do not exist.

LEFT, RIGHT = (70.0, 60.0), (130.0, 62.0)
BOX = np.array([50, 40, 150, 160], np.float32)


def dot_record(left=LEFT, right=RIGHT, visibility=(VISIBLE, VISIBLE)):
  y, x = np.mgrid[:200, :210] + 0.5
  image = np.zeros((200, 210, 3))
  for channel, (px, py) in ((0, left), (2, right)):
    image[..., channel] = 255 * np.exp(
      -((x - px) ** 2 + (y - py) ** 2) / (2 * 4.0**2)
    )
  file = io.BytesIO()
  # Without subsampling, so that the colours stay where they are.
  Image.fromarray(image.astype(np.uint8)).save(
    file, 'jpeg', quality=98, subsampling=0
  )
  landmarks = np.zeros((8, 2), np.float32)
  landmarks[:2] = left, right
  codes = np.full(8, ABSENT, np.int32)
  codes[:2] = visibility
  return {
    'id': b'a.jpg',
    'image': file.getvalue(),
    'box': BOX,
    'landmarks': landmarks,
    'visibility': codes,
    'clothes_type': np.int32(1),
    'variation': np.int32(0),
    'score': np.float32(1),
    'index': np.int32(0),
  }


def examples(config, record, count, augment=True):
  make = input_pipeline.Example(resolve(config).pipeline, augment=augment)
  return [make(record, np.random.default_rng(seed)) for seed in range(count)]


def dot_at(crop, channel):
  """Where the dot of a channel is, in crop pixels."""
  light = np.where(crop[..., channel] > 40, crop[..., channel], 0).astype(float)
  y, x = np.mgrid[: crop.shape[0], : crop.shape[1]] + 0.5
  return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


@pytest.mark.parametrize('crop', ['bbox_wh', 'pad_square'])
def test_augmented_landmarks_lie_on_their_pixels(config, crop):
  config.input.size, config.input.crop = 96, crop
  config.augment.rotation = 15.0
  record = dot_record(visibility=(VISIBLE, OCCLUDED))
  of_left = []
  for example in examples(config, record, 30):
    points = (example['landmarks'][:2].astype(float) + 0.5) * 96
    dots = {c: dot_at(example['image'], c) for c in (0, 2)}
    # The slot named left is the image's left, mirrored or not.
    assert points[0, 0] < points[1, 0]
    first, second = sorted(dots, key=lambda c: dots[c][0])
    np.testing.assert_allclose(points, [dots[first], dots[second]], atol=0.5)
    # What was said of the red dot is still said of the red dot.
    said = (VISIBLE, OCCLUDED) if first == 0 else (OCCLUDED, VISIBLE)
    np.testing.assert_array_equal(example['visibility'][:2], said)
    assert (example['visibility'][2:] == ABSENT).all()
    of_left.append(first)
    # And the way back to the photo.
    back = [example['affine'] @ [*point, 1] for point in points]
    expected = [LEFT, RIGHT] if first == 0 else [RIGHT, LEFT]
    np.testing.assert_allclose(back, expected, atol=1e-3)
  assert set(of_left) == {0, 2}  # both mirrored and not


def test_augmentations_of_one_record_differ_and_stay_within_their_range(config):
  config.augment.flip = False
  config.augment.update(scale=0.2, rotation=0.0, shift=0.1)
  config.input.update(size=96, crop='bbox_wh', margin=0.0)
  linear = [
    np.linalg.inv(e['affine'][:, :2])
    for e in examples(config, dot_record(), 50)
  ]
  wide = np.array([a[0, 0] for a in linear]) * 100 / 96  # the box's 100 pixels
  assert np.exp(-0.2) < wide.min() < 0.9 and 1.1 < wide.max() < np.exp(0.2)
  np.testing.assert_allclose([a[0, 1] for a in linear], 0, atol=1e-9)


def test_noise_moves_each_side_of_the_box_on_its_own(config):
  config.augment.update(
    flip=False, scale=0.0, rotation=0.0, shift=0.0, colour=0.0, box_noise=0.1
  )
  config.input.update(size=16, crop='bbox_wh', margin=0.0)
  crops = examples(config, dot_record(), 2000)
  corners = np.array([[0, 0, 1], [16, 16, 1]])
  boxes = np.array([corners @ e['affine'].T for e in crops]).reshape(-1, 4)
  off = (boxes - BOX) / [100, 120, 100, 120]
  # A standard deviation that is uniform in [0, s] gives one of s / sqrt(3), and
  # more large ones than a normal distribution: E[x^4] = 3 s^4 / 5.
  np.testing.assert_allclose(off.std(axis=0), 0.1 / np.sqrt(3), rtol=0.08)
  np.testing.assert_allclose((off**4).mean(), 0.6 * 0.1**4, rtol=0.15)
  np.testing.assert_allclose(off.mean(axis=0), 0, atol=0.005)
  # Sides of one box share its deviation, but not their signs.
  assert np.abs(np.corrcoef(off.T) - np.eye(4)).max() < 0.08
  # Errors are still measured against the box as it is annotated.
  np.testing.assert_array_equal(crops[0]['box'], BOX)


def test_a_box_never_becomes_thin_or_turns_over(config):
  config.augment.update(flip=False, scale=0.0, rotation=0.0, shift=0.0)
  config.augment.update(box_noise=1.0)
  config.input.update(size=16, crop='bbox_wh', margin=0.0)
  linear = [e['affine'][:, :2] for e in examples(config, dot_record(), 200)]
  sides = 16 * np.array([np.diag(a) for a in linear])
  assert (sides >= [25 - 1e-3, 30 - 1e-3]).all()
  assert (sides < [26, 31]).any()  # and some were held back


def test_cutout_paints_one_square_with_one_colour(config):
  config.input.size = 64
  whole = examples(config, dot_record(), 300)
  config.augment.cutout = 0.5
  holed = examples(config, dot_record(), 300)
  sides, colours = [], set()
  for before, after in zip(whole, holed, strict=True):
    for key in before.keys() - {'image'}:
      np.testing.assert_array_equal(before[key], after[key], err_msg=key)
    changed = (before['image'] != after['image']).any(axis=-1)
    rows, columns = np.nonzero(changed.any(1))[0], np.nonzero(changed.any(0))[0]
    part = after['image'][
      rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1
    ].reshape(-1, 3)
    assert (part == part[0]).all()  # one colour, and nothing else is changed
    colours.add(tuple(part[0]))
    if 0 < rows[0] and rows[-1] < 63 and 0 < columns[0] and columns[-1] < 63:
      sides.append((len(rows), len(columns)))
  sides = np.array(sides)
  # From a quarter to a half of 64 pixels; its ends are rounded.
  assert 15 <= sides.min() < 18 and 30 < sides.max() <= 33
  assert np.abs(sides[:, 0] - sides[:, 1]).max() <= 1
  assert len(colours) > 290


@pytest.mark.parametrize('processes', [1, 2])
def test_the_end_of_a_training_is_augmented_half_as_much(
  records, config, processes
):
  config.input.update(size=64, crop='bbox_wh')
  config.augment.update(flip=False, scale=0.0, shift=0.0, rotation=20.0)
  config.augment.update(cutout=0.5)
  steps = 12  # of 8 images; 48 are an epoch

  def stream(**changes):
    config.augment.update(changes)
    shares = [
      input_pipeline.train_batches(
        records,
        resolve(config).pipeline,
        seed=3,
        steps=steps,
        share=(which, processes),
      )
      for which in range(processes)
    ]
    return [
      {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
      for parts in zip(*(take(i, steps) for i in shares), strict=True)
    ]

  angles = lambda b: np.arctan2(b['affine'][:, 1, 0], b['affine'][:, 0, 0])
  strong, phased = stream(), stream(mild_share=0.25)
  assert_same(phased[:9], strong[:9])
  for before, after in zip(strong[9:], phased[9:], strict=True):
    np.testing.assert_array_equal(after['index'], before['index'])
    wide, high = (after['box'][:, 2:] - after['box'][:, :2]).T
    # Boxes are stretched to squares after they are turned.
    tangent = lambda b, w=wide, h=high: np.tan(angles(b)) * w / h
    np.testing.assert_allclose(
      np.arctan(tangent(after)), np.arctan(tangent(before)) / 2, atol=1e-6
    )
  # Nothing is painted over: all is as without cutout from the start.
  assert_same(phased[9:], stream(cutout=0.0)[9:])


def test_a_restored_iterator_goes_on_into_the_milder_end(records, config):
  config.augment.update(mild_share=0.5, rotation=20.0, cutout=0.3)
  start = lambda: input_pipeline.train_batches(
    records, resolve(config).pipeline, seed=3, steps=6
  )
  iterator = start()
  take(iterator, 2)
  state = copy.deepcopy(iterator.get_state())
  expected, fresh = take(iterator, 3), start()
  fresh.set_state(state)
  assert_same(take(fresh, 3), expected)


def test_landmarks_moved_out_of_the_crop_are_truncated(config):
  config.input.update(size=96, crop='bbox_wh', margin=0.0)
  config.augment.update(scale=0.1, shift=0.1, flip=False)
  config.augment.update(rotation=0.0, colour=0.0)
  # The red dot near the box's corner, the blue one in its middle.
  record = dot_record(left=(55, 46), right=(100, 100))
  seen = {VISIBLE: 0, TRUNCATED: 0}
  for example in examples(config, record, 60):
    code = int(example['visibility'][0])
    seen[code] += 1
    red = example['image'][..., 0]
    if code == TRUNCATED:
      # The dot's middle is brighter than 240, and it is not inside.
      assert red[2:-2, 2:-2].max() < 240
      np.testing.assert_array_equal(example['landmarks'][0], [0, 0])
    else:
      x, y = ((example['landmarks'][0] + 0.5) * 96).astype(int)
      assert red[y, x] > 150
    assert example['visibility'][1] == VISIBLE
  assert min(seen.values()) > 5


def test_evaluation_keeps_a_landmark_outside_the_box(config):
  config.input.update(size=96, crop='bbox_wh', margin=0.0)
  (example,) = examples(config, dot_record(left=(40, 100)), 1, augment=False)
  np.testing.assert_allclose(example['landmarks'][0], [-0.6, 0.0], atol=1e-6)
  assert example['visibility'][0] == VISIBLE


def test_a_slot_without_position_stays_so(config):
  record = dot_record(visibility=(TRUNCATED, VISIBLE))
  for example in examples(config, record, 10):
    codes = example['visibility'][:2].tolist()
    assert sorted(codes) == [VISIBLE, TRUNCATED]
    gone = codes.index(TRUNCATED)
    np.testing.assert_array_equal(example['landmarks'][gone], [0, 0])
    assert example['landmarks'][1 - gone].any()


def test_without_augmentation_nothing_is_random(records, config):
  config.augment.colour = 1.0
  one, other = examples(config, records[0], 2, augment=False)
  assert_same([one], [other])


def test_colour_changes_pixels_only(records, config):
  config.augment.update(flip=False, scale=0.0, rotation=0.0, shift=0.0)
  config.augment.colour = 0.0
  (plain,) = examples(config, records[0], 1)
  (evaluated,) = examples(config, records[0], 1, augment=False)
  np.testing.assert_array_equal(plain['image'], evaluated['image'])
  config.augment.colour = 0.5
  first, second = examples(config, records[0], 2)
  for key in set(plain) - {'image'}:
    np.testing.assert_array_equal(first[key], plain[key], err_msg=key)
  assert (first['image'] != plain['image']).any()
  assert (first['image'] != second['image']).any()


# Corrupt images.


class Spoilt:
  """Records of which one has a cut JPEG and one no image at all."""

  def __init__(self, records):
    self._records = records

  def __len__(self):
    return len(self._records)

  def __getitem__(self, i):
    record = self._records[i]
    if i == 3:
      return {**record, 'image': record['image'][: len(record['image']) // 2]}
    return {**record, 'image': b'<html>'} if i == 9 else record


@pytest.mark.parametrize('threads', [0, 2])
def test_a_corrupt_image_stops_with_its_name(records, config, threads):
  config.input.num_threads = threads
  with pytest.raises(InputError) as error:
    list(input_pipeline.eval_batches(Spoilt(records), resolve(config).pipeline))
  for words in (
    records[3]['id'].decode(),
    'field image',
    "on_corrupt to 'skip'",
  ):
    assert words in str(error.value)


def test_a_corrupt_image_can_be_skipped(records, config, caplog):
  config.dataset.on_corrupt = 'skip'
  config.batch_size = 20
  with caplog.at_level(logging.WARNING, 'fld_jax'):
    batches = list(
      input_pipeline.eval_batches(Spoilt(records), resolve(config).pipeline)
    )
  joined = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  assert np.flatnonzero(joined['corrupt']).tolist() == [3, 9]
  # Two corrupt ones and twelve that pad the last batch.
  assert np.flatnonzero(joined['mask'] == 0).tolist() == [3, 9, *range(48, 60)]
  for i in (3, 9):
    assert records[i]['id'].decode() in caplog.text
    assert not joined['image'][i].any()
  (train,) = take(
    input_pipeline.train_batches(
      Spoilt(records), resolve(config).pipeline, seed=1
    ),
    1,
  )
  np.testing.assert_array_equal(
    train['corrupt'], np.isin(train['index'], [3, 9])
  )
  np.testing.assert_array_equal(train['mask'], 1 - train['corrupt'])


def test_device_part_has_what_the_step_needs(records, config):
  (batch,) = take(
    input_pipeline.train_batches(records, resolve(config).pipeline, seed=0), 1
  )
  part = input_pipeline.device_part(batch)
  assert {k: (v.shape, v.dtype.name) for k, v in part.items()} == {
    'image': ((8, 32, 32, 3), 'uint8'),
    'landmarks': ((8, 8, 2), 'float32'),
    'visibility': ((8, 8), 'int32'),
    'mask': ((8,), 'float32'),
    'clothes_type': ((8,), 'int64'),
    'example_index': ((8,), 'int32'),
  }
  assert part['example_index'].tolist() == [*range(8)]
  # Of three processes with eight examples each, the second's.
  shared = input_pipeline.device_part(batch, share=(1, 3))
  assert shared['example_index'].tolist() == [*range(1, 24, 3)]
  positions = part['landmarks'][schema.has_position(part['visibility'])]
  assert np.abs(positions).max() <= 0.5


def test_batches_carry_the_item_and_its_attributes(records, config):
  """What retrieval and attributes need; the network never sees them."""
  (batch,) = take(
    input_pipeline.train_batches(records, resolve(config).pipeline, seed=0), 1
  )
  for i, index in enumerate(batch['index']):
    record = records[int(index)]
    assert batch['item_id'][i] == record['item_id'] != b''
    np.testing.assert_array_equal(batch['attributes'][i], record['attributes'])
  assert batch['attributes'].size
  device = input_pipeline.device_part(batch)
  assert not {'item_id', 'attributes'} & device.keys()
