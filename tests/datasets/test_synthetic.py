"""The synthetic set: its truth against pixels, its files, its difficulty."""

import dataclasses

import cv2
import numpy as np
import pytest

from fld_jax import landmark_sets, schema
from fld_jax.datasets.synthetic import builder as synthetic_builder
from fld_jax.datasets.synthetic import garments, photo
from fld_jax.errors import InputError

SLOT = {name: i for i, name in enumerate(landmark_sets.FASHION_8.names)}


@pytest.fixture(scope='module')
def records():
  return [synthetic_builder.example(0, 'train', i) for i in range(200)]


def stacked(records, key):
  return np.stack([r[key] for r in records])


def seen_cloth(index):
  """Pixels on which the garment is seen, and the photo.

  Only the cloth's colour differs between two renderings: where the pictures
  differ, there is garment. No outline is looked at.
  """
  item, variation, shot = synthetic_builder.photo(0, 'train', index)
  pictures = []
  for level in (40, 215):
    tile = np.full_like(item.tile, level)
    flat = dataclasses.replace(item, tile=tile, trim=(level,) * 3)
    rng = np.random.default_rng((0, 0, index))
    rng.choice(5, p=list(synthetic_builder.VARIATION_SHARES.values()))
    pictures.append(photo.draw_photo(rng, flat, variation).image)
  difference = np.abs(pictures[0].astype(int) - pictures[1]).sum(2)
  return difference > 60, item, shot


@pytest.fixture(scope='module')
def cloths():
  return [seen_cloth(index) for index in range(60)]


def test_same_arguments_same_bytes_in_any_order():
  first = [synthetic_builder.example(3, 'val', i) for i in (0, 5, 9)]
  synthetic_builder._item.cache_clear()
  again = [synthetic_builder.example(3, 'val', i) for i in (9, 5, 0)][::-1]
  for a, b in zip(first, again, strict=True):
    for key in a:
      np.testing.assert_array_equal(a[key], b[key])
  others = [(4, 'val', 0), (3, 'test', 0), (3, 'val', 1)]
  images = {synthetic_builder.example(*o)['image'] for o in others}
  assert len(images | {first[0]['image']}) == 4


def test_prepared_set_reads_back_with_the_truth_intact(tmp_path):
  sizes = {'train': 9, 'val': 4}
  builder = synthetic_builder.Synthetic(sizes=sizes, seed=1, data_dir=tmp_path)
  builder.download_and_prepare(file_format='array_record')
  assert set(builder.info.features) == set(schema.features())
  names = builder.info.metadata['attribute_names']
  assert {n: s.num_examples for n, s in builder.info.splits.items()} == sizes
  for split, size in sizes.items():
    got = {e['id'].decode(): e for e in builder.as_data_source(split)}
    assert len(got) == size
    for index in range(size):
      want = synthetic_builder.example(1, split, index)
      record = got[want['id']]
      jpeg = np.frombuffer(want['image'], np.uint8)
      image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1]
      np.testing.assert_array_equal(record['image'], image)
      assert max(image.shape) <= 200 and max(image.shape) >= 160
      assert record['item_id'].decode() == want['item_id']
      assert len(record['attributes']) == len(names)
      for key in ('box', 'landmarks', 'visibility', 'attributes'):
        np.testing.assert_array_equal(record[key], want[key])
      for key in ('clothes_type', 'variation'):
        assert record[key] == want[key]


def test_other_settings_live_in_other_directories(tmp_path):
  settings = [
    {},
    {'seed': 1},
    {'sizes': {'train': 8}},
    {'sizes': {'val': 8}},
    {'sizes': {'train': 8, 'val': 8}},
  ]
  places = {
    synthetic_builder.Synthetic(data_dir=tmp_path, **s).data_dir
    for s in settings
  }
  assert len(places) == len(settings)


@pytest.mark.parametrize(
  'settings, words',
  [
    ({'sizes': {'dev': 3}}, 'train, val, test'),
    ({'sizes': {'train': -1}}, '0 or more'),
    ({'sizes': {'train': 0}}, 'no images'),
    ({'seed': -2}, '0 or more'),
  ],
)
def test_wrong_settings_are_named(tmp_path, settings, words):
  with pytest.raises(InputError, match=words):
    synthetic_builder.Synthetic(data_dir=tmp_path, **settings)


def test_slots_coordinates_and_boxes_follow_the_schema(records):
  for record in records:
    image = cv2.imdecode(np.frombuffer(record['image'], np.uint8), 1)
    height, width = image.shape[:2]
    visibility, points = record['visibility'], record['landmarks']
    slots = landmark_sets.FASHION_8.slots[record['clothes_type']]
    absent = np.setdiff1d(np.arange(8), slots)
    assert (visibility[absent] == schema.ABSENT).all()
    assert (visibility[list(slots)] != schema.ABSENT).all()
    placed = schema.has_position(visibility)
    assert (points[~placed] == 0).all()
    assert (points[placed] > 0).all()
    assert (points[placed] < (width, height)).all()
    x1, y1, x2, y2 = record['box']
    assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    low, high = record['box'][:2] - 1e-3, record['box'][2:] + 1e-3
    assert ((points[placed] >= low) & (points[placed] <= high)).all()


def test_boxes_fit_the_cloth_seen_in_the_picture(cloths):
  for mask, _, shot in cloths:
    y, x = np.nonzero(mask)
    seen = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
    outside = (seen - shot.box) * (-1, -1, 1, 1)
    assert outside.max() < 2.5  # soft edges and blur reach a little further
  # Loose only through the margin, or where something covers the edge.
  side = np.tile(shot.box[2:] - shot.box[:2], 2)
  assert np.median(outside / side) > -0.06


def behind_itself(shot, slot):
  """Whether another part of the same garment covers the landmark."""
  point = tuple(float(v) for v in shot.landmarks[slot])
  return any(
    layer.own
    and not layer.flat
    and cv2.pointPolygonTest(layer.outline.astype(np.float32), point, True) > 0
    for layer in shot.layers[shot.owner[slot] + 1 :]
  )


def test_visible_points_lie_on_the_edge_of_the_cloth(cloths):
  edge, hidden = [], []
  for mask, _, shot in cloths:
    for slot in range(8):
      x, y = shot.landmarks[slot]
      yy, xx = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
      near = np.hypot(xx - x, yy - y) <= 3
      if shot.visibility[slot] == schema.VISIBLE:
        assert mask[near].any()
        edge.append(not mask[near].all())
      elif shot.visibility[slot] == schema.OCCLUDED:
        if not behind_itself(shot, slot):
          hidden.append(not mask[int(y), int(x)])
  assert len(edge) > 150 and len(hidden) > 10
  # The rest of the visible has another part of the same garment behind it.
  assert np.mean(edge) > 0.93
  assert np.mean(hidden) > 0.8


def test_corners_of_skirts_and_trousers_are_corners_of_the_mask(cloths):
  errors = {'skirt': [], 'trousers': []}
  for mask, item, shot in cloths:
    # Only what is seen as a whole: a cover's edge is no corner of the cloth.
    whole = (shot.visibility[4:] == schema.VISIBLE).all()
    if item.clothes_type != garments.LOWER or not whole:
      continue
    y, x = np.nonzero(mask)
    for name, sx, sy in (
      ('waist_left', -1, -3),
      ('waist_right', 1, -3),
      ('hem_left', -1, 1.5),
      ('hem_right', 1, 1.5),
    ):
      k = np.argmax(sx * x + sy * y)
      corner = np.array([x[k], y[k]]) + 0.5
      distance = np.hypot(*(corner - shot.landmarks[SLOT[name]]))
      errors[item.choices['category']].append(distance)
  for distances in errors.values():
    assert len(distances) >= 12
    assert np.median(distances) < 2.5
    assert np.mean(np.array(distances) < 5) > 0.7


def test_left_and_top_come_first_on_upright_garments():
  rng = np.random.default_rng(5)
  for clothes_type in landmark_sets.CLOTHES_TYPES:
    for _ in range(8):
      item = garments.draw_item(rng, clothes_type)
      shot = photo.draw_photo(rng, item, 1)
      x, y = shot.landmarks.T
      has = shot.visibility != schema.ABSENT
      for left in (0, 2, 4, 6):
        assert not has[left] or x[left] < x[left + 1]
      rows = [y[k : k + 2].mean() for k in (0, 4, 6) if has[k]]
      assert rows == sorted(rows)


def test_every_kind_of_example_appears(records):
  visibility = stacked(records, 'visibility')
  variation = stacked(records, 'variation')
  assert set(np.unique(visibility)) == {-1, 0, 1, 2}
  assert set(variation) == set(schema.VARIATIONS)
  types = stacked(records, 'clothes_type')
  assert set(types) == set(landmark_sets.CLOTHES_TYPES)

  def share(code):
    slots = visibility[variation == code]
    return (slots == schema.TRUNCATED).sum() / (slots >= 0).sum()

  assert share(1) == share(2) == share(3) == 0
  assert 0.15 < share(4) < share(5) < 0.7
  placed = schema.has_position(visibility).sum(1)
  assert placed.min() >= 1 and np.mean(placed >= 2) > 0.95


def test_items_stay_in_one_split_with_one_look(records):
  groups = {}
  for record in records:
    groups.setdefault(record['item_id'], []).append(record)
  assert {len(group) for group in groups.values()} == {4}
  for group in groups.values():
    assert len({r['clothes_type'] for r in group}) == 1
    assert len({r['attributes'].tobytes() for r in group}) == 1
    assert len({r['image'] for r in group}) == 4
  for split in ('val', 'test'):
    others = [synthetic_builder.example(0, split, i) for i in range(8)]
    assert not groups.keys() & {r['item_id'] for r in others}
    assert not {r['id'] for r in records} & {r['id'] for r in others}


def test_attributes_are_one_hot_within_each_group(records):
  names = np.array(garments.ATTRIBUTE_NAMES)
  groups = np.array([name.split('/')[0] for name in names])
  not_on = {1: {'length'}, 2: {'sleeve_length', 'neckline'}, 3: set()}
  kinds = {1: {'top'}, 2: {'trousers', 'skirt'}, 3: {'dress'}}
  positive = set()
  for record in records:
    values, kind = record['attributes'], record['clothes_type']
    assert values.dtype == np.int8 and values.shape == names.shape
    for group in set(groups):
      inside = values[groups == group]
      if group in not_on[kind]:
        assert (inside == 0).all()
      else:
        assert sorted(inside) == [-1] * (len(inside) - 1) + [1]
    (category,) = names[(groups == 'category') & (values == 1)]
    assert category.split('/')[1] in kinds[kind]
    positive |= set(names[values == 1])
  assert positive == set(names)


def test_long_sleeves_end_further_from_the_collar():
  reach = {}
  for index in range(0, 200, 4):
    item, _, _ = synthetic_builder.photo(0, 'train', index)
    if item.clothes_type == garments.UPPER:
      shot = photo.draw_photo(np.random.default_rng(index), item, 1)
      points = shot.landmarks
      length = np.hypot(*(points[2] - points[0]))
      width = np.hypot(*(points[7] - points[6]))
      kind = item.choices['sleeve_length']
      reach.setdefault(kind, []).append(length / width)
  order = [np.mean(reach[k]) for k in ('sleeveless', 'short', 'long')]
  assert order[0] < order[1] < order[2]


def test_the_mean_position_is_a_bad_guess(records):
  box = stacked(records, 'box')[:, None]
  size = box[..., 2:] - box[..., :2]
  inside = (stacked(records, 'landmarks') - box[..., :2]) / size
  visible = stacked(records, 'visibility') == schema.VISIBLE
  errors = []
  for slot in range(8):
    points = inside[visible[:, slot], slot]
    errors.append(np.hypot(*(points - points.mean(0)).T).mean())
  assert 0.14 < np.mean(errors) < 0.22


def test_contact_sheet_marks_the_landmarks(tmp_path):
  path = tmp_path / 'sheet.png'
  synthetic_builder.main(['synthetic', str(path)])
  sheet = cv2.imread(str(path))
  assert sheet.shape == (1000, 1520, 3)
  green = (sheet == synthetic_builder.VISIBILITY_RGB[schema.VISIBLE][::-1]).all(
    2
  )
  assert green.sum() > 1000
  with pytest.raises(SystemExit, match='cannot write'):
    synthetic_builder.main(
      ['synthetic', str(tmp_path / 'nowhere' / 'sheet.png')]
    )
