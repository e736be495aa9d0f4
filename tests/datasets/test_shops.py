"""In-shop and Consumer-to-shop: made folders, written from the description."""

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.datasets.deepfashion import shops
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import Findings, InputError
from fld_jax.metrics import retrieval

TRIPLE = (
  'landmark_visibility_{0} landmark_location_x_{0} landmark_location_y_{0}'
)
TRIPLES = ' '.join(TRIPLE.format(i) for i in range(1, 9))
SPLITS = 'Eval/list_eval_partition.txt'
NAMES, ATTRIBUTES = 'Anno/list_attr_cloth.txt', 'Anno/list_attr_items.txt'

# Every image is 60 wide and 40 high.
TEE = 'img/WOMEN/Tees/id_01/01_1_front.jpg'
TEE_BACK = 'img/WOMEN/Tees/id_01/01_3_back.jpg'
JEANS = 'img/MEN/Jeans/id_02/01_1_front.jpg'
JEANS_FULL = 'img/MEN/Jeans/id_02/02_4_full.jpg'
DRESS = 'img/WOMEN/Dresses/id_03/01_2_side.jpg'
DRESS_FLAT = 'img/WOMEN/Dresses/id_03/03_7_flat.jpg'
BOXES, LANDMARKS = 'Anno/list_bbox_inshop.txt', 'Anno/list_landmarks_inshop.txt'
ITEMS = 'Anno/list_item_inshop.txt'
IN_SHOP = {
  BOXES: f"""6
image_name clothes_type pose_type x_1 y_1 x_2 y_2
{TEE} 1 1 005 004 050 038
{TEE_BACK} 1 3 006 004 051 039
{JEANS} 2 1 010 002 040 040
{JEANS_FULL} 2 4 011 002 041 040
{DRESS} 3 2 012 001 042 039
{DRESS_FLAT} 3 6 013 001 043 039
""",
  LANDMARKS: f"""6
image_name clothes_type variation_type {TRIPLES}
{TEE} 1 1 0 020 005 0 030 005 1 008 020 0 046 021 0 010 036 2 000 000
{TEE_BACK} 1 2 0 021 005 0 031 005 0 009 020 0 047 021 0 011 036 0 044 037
{JEANS} 2 3 0 012 004 0 038 004 0 014 038 1 036 039
{JEANS_FULL} 2 4 0 013 004 0 039 004 2 000 000 2 000 000
{DRESS} 3 5 0 20 2 0 30 3 0 14 9 0 41 8 0 18 20 0 33 21 0 13 38 0 40 37
{DRESS_FLAT} 3 1 0 21 2 0 31 3 0 15 9 0 42 8 0 19 20 0 34 21 0 14 38 0 41 37
""",
  ITEMS: """3
id_01
id_02
id_03
""",
  NAMES: """3
attribute_name
3/4 sleeve
cotton
faux fur 2
""",
  ATTRIBUTES: """3
item_id attribute_labels
id_03 -1 -1 1
id_01 1 -1 0
id_02 0 1 -1
""",
  SPLITS: f"""6
image_name item_id evaluation_status
{TEE} id_01 train
{TEE_BACK} id_01 train
{JEANS} id_02 query
{JEANS_FULL} id_02 gallery
{DRESS} id_03 query
{DRESS_FLAT} id_03 gallery
""",
}

# Two consumers' photos of item 1, which the shop has one photo of.
STREET, STREET_2 = 'img/TOPS/1/comsumer_01.jpg', 'img/TOPS/1/comsumer_02.jpg'
STORE = 'img/TOPS/1/shop_01.jpg'
VAL, VAL_STORE = 'img/SKIRTS/2/comsumer_01.jpg', 'img/SKIRTS/2/shop_01.jpg'
TEST, TEST_STORE = 'img/DRESS/3/comsumer_01.jpg', 'img/DRESS/3/shop_01.jpg'
C2S_BOXES = 'Anno/list_bbox_consumer2shop.txt'
C2S_LANDMARKS = 'Anno/list_landmarks_consumer2shop.txt'
C2S_ITEMS = 'Anno/list_items_consumer2shop.txt'
CONSUMER = {
  C2S_BOXES: f"""7
image_name clothes_type source_type x_1 y_1 x_2 y_2
{STORE} 1 1 001 001 031 031
{STREET} 1 2 002 002 032 032
{STREET_2} 1 2 003 003 033 033
{VAL} 2 2 004 004 034 034
{VAL_STORE} 2 1 005 005 035 035
{TEST} 3 2 006 006 036 036
{TEST_STORE} 3 1 007 007 037 037
""",
  C2S_LANDMARKS: f"""7
image_name clothes_type variation_type {TRIPLES}
{STORE} 1 1 0 11 1 0 12 2 0 13 3 0 14 4 0 15 5 0 16 6
{STREET} 1 1 0 21 1 0 22 2 0 23 3 0 24 4 0 25 5 0 26 6
{STREET_2} 1 2 0 31 1 0 32 2 0 33 3 0 34 4 0 35 5 0 36 6
{VAL} 2 3 0 41 1 0 42 2 1 43 3 2 00 0
{VAL_STORE} 2 1 0 51 1 0 52 2 0 53 3 0 54 4
{TEST} 3 4 0 1 1 0 2 2 0 3 3 0 4 4 0 5 5 0 6 6 0 7 7 0 8 8
{TEST_STORE} 3 1 0 1 9 0 2 9 0 3 9 0 4 9 0 5 9 0 6 9 0 7 9 0 8 9
""",
  C2S_ITEMS: '3\nid_1\nid_2\nid_3\n',
  NAMES: """2
attribute_name(Chinese) attribute_name(English) attribute_type
圆领 round neck 1
T恤 t-shirt 12
""",
  'Anno/list_attr_type.txt': '1\nattribute_type_id x\n1 领型 collar\n',
  ATTRIBUTES: """3
item_id attribute_labels
id_1 1 0
id_2 -1 1
id_3 0 -1
""",
  SPLITS: f"""5
image_pair_name_1 image_pair_name_2 item_id evaluation_status
{STREET} {STORE} id_1 train
{STREET_2} {STORE} id_1 train
{VAL} {VAL_STORE} id_2 val
{TEST} {TEST_STORE} id_3 test
{STREET} {STORE} id_1 train
""",
}
FOLDERS = {'in_shop': IN_SHOP, 'consumer_to_shop': CONSUMER}
IMAGES = {
  'in_shop': (TEE, TEE_BACK, JEANS, JEANS_FULL, DRESS, DRESS_FLAT),
  'consumer_to_shop': (
    *(STREET, STREET_2, STORE),
    *(VAL, VAL_STORE, TEST, TEST_STORE),
  ),
}


def write(folder, name, changes=()):
  """A made folder; `changes`: file -> its text, or None to leave it out."""
  for file, text in {**FOLDERS[name], **dict(changes)}.items():
    if text is not None:
      (folder / file).parent.mkdir(parents=True, exist_ok=True)
      (folder / file).write_text(text, encoding='utf-8')
  for i, image in enumerate(IMAGES[name]):
    path = folder / 'Img' / image
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 60, 3), 30 * i, np.uint8))
  return folder


def prepare(folder, name, data):
  fields = {'name': name, 'manual_dir': str(folder), 'data_dir': str(data)}
  return prepared_builder(ConfigDict(fields))


def records(builder, split):
  source = builder.as_data_source(split)
  return {record['id'].decode(): record for record in source}


def test_in_shop_records(tmp_path):
  folder = write(tmp_path / 'folder', 'in_shop')
  builder = prepare(folder, 'in_shop', tmp_path / 'data')
  assert builder.name == 'in_shop'
  assert set(builder.info.splits) == {'train', 'query', 'gallery'}
  names = builder.info.metadata['attribute_names']
  assert names == ['3/4 sleeve', 'cotton', 'faux fur 2']
  train = records(builder, 'train')
  query, gallery = records(builder, 'query'), records(builder, 'gallery')
  assert set(train) == {TEE, TEE_BACK}
  assert set(query) == {JEANS, DRESS}
  assert set(gallery) == {JEANS_FULL, DRESS_FLAT}
  tee = train[TEE]
  assert (tee['clothes_type'], tee['variation']) == (1, 1)
  assert tee['box'].tolist() == [5, 4, 50, 38]
  assert tee['visibility'].tolist() == [0, 0, 1, 0, -1, -1, 0, 2]
  assert tee['landmarks'].tolist() == [
    *([20, 5], [30, 5], [8, 20], [46, 21]),
    *([0, 0], [0, 0], [10, 36], [0, 0]),
  ]
  assert tee['image'].shape == (40, 60, 3) and tee['image'].max() < 3
  assert train[TEE_BACK]['box'].tolist() == [6, 4, 51, 39]
  jeans = query[JEANS]
  assert (jeans['clothes_type'], jeans['variation']) == (2, 3)
  assert jeans['visibility'].tolist() == [-1, -1, -1, -1, 0, 0, 0, 1]
  assert jeans['landmarks'][4:].tolist() == [
    *([12, 4], [38, 4], [14, 38], [36, 39]),
  ]
  assert gallery[JEANS_FULL]['visibility'].tolist() == [-1] * 4 + [0, 0, 2, 2]
  dress = query[DRESS]
  assert (dress['clothes_type'], dress['variation']) == (3, 5)
  assert dress['visibility'].tolist() == [0] * 8
  assert dress['landmarks'][5:].tolist() == [[33, 21], [13, 38], [40, 37]]
  for record, item, labels in (
    (tee, b'id_01', [1, -1, 0]),
    (train[TEE_BACK], b'id_01', [1, -1, 0]),
    (jeans, b'id_02', [0, 1, -1]),
    (dress, b'id_03', [-1, -1, 1]),
    (gallery[DRESS_FLAT], b'id_03', [-1, -1, 1]),
  ):
    assert record['item_id'] == item
    assert record['attributes'].tolist() == labels
    assert record['score'] == 1


def test_consumer_to_shop_records(tmp_path):
  folder = write(tmp_path / 'folder', 'consumer_to_shop')
  builder = prepare(folder, 'consumer_to_shop', tmp_path / 'data')
  assert builder.name == 'consumer_to_shop'
  assert builder.info.metadata['attribute_names'] == ['round neck', 't-shirt']
  # The store's photo of three pairs is one record.
  assert {s: set(records(builder, s)) for s in builder.info.splits} == {
    'train': {STREET, STREET_2, STORE},
    'val': {VAL},
    'test': {TEST},
    'gallery': {VAL_STORE, TEST_STORE},
  }
  train, (val,) = records(builder, 'train'), records(builder, 'val').values()
  gallery = records(builder, 'gallery')
  assert train[STORE]['box'].tolist() == [1, 1, 31, 31]
  assert train[STREET_2]['box'].tolist() == [3, 3, 33, 33]
  assert train[STREET_2]['variation'] == 2
  assert train[STREET]['landmarks'].tolist() == [
    *([21, 1], [22, 2], [23, 3], [24, 4]),
    *([0, 0], [0, 0], [25, 5], [26, 6]),
  ]
  assert (val['clothes_type'], val['variation']) == (2, 3)
  assert val['visibility'].tolist() == [-1, -1, -1, -1, 0, 0, 1, 2]
  assert val['landmarks'][6:].tolist() == [[43, 3], [0, 0]]
  assert gallery[TEST_STORE]['landmarks'].tolist() == [
    [x, 9] for x in range(1, 9)
  ]
  for record, item, labels in (
    (train[STORE], b'id_1', [1, 0]),
    (train[STREET_2], b'id_1', [1, 0]),
    (val, b'id_2', [-1, 1]),
    (gallery[VAL_STORE], b'id_2', [-1, 1]),
    (gallery[TEST_STORE], b'id_3', [0, -1]),
  ):
    assert record['item_id'] == item
    assert record['attributes'].tolist() == labels


@pytest.mark.parametrize('name', FOLDERS)
def test_lists_that_need_not_be_there(tmp_path, name):
  absent = dict.fromkeys((ITEMS, C2S_ITEMS, NAMES, ATTRIBUTES))
  folder = write(tmp_path, name, absent)
  rows = list(shops.read(folder, name))
  assert [row.id for row in rows][:2] == [
    *{'in_shop': (TEE, TEE_BACK), 'consumer_to_shop': (STREET, STORE)}[name]
  ]
  assert len(rows) == len(IMAGES[name])
  assert all(row.attributes.shape == (0,) for row in rows)
  assert shops.read_attribute_names(folder, name) == []


def test_the_other_name_of_the_items(tmp_path):
  """With one item less, which both names must show."""
  short = {C2S_ITEMS: None, 'Anno/list_item_consumer2shop.txt': '1\nid_1\n'}
  folder = write(tmp_path, 'consumer_to_shop', short)
  with pytest.raises(InputError, match="line 5, item_id: 'id_2' has no row"):
    list(shops.read(folder, 'consumer_to_shop'))


def test_retrieval_of_a_folder(tmp_path):
  """Queries find their item by features that name it, and no other."""
  folder = write(tmp_path / 'folder', 'in_shop')
  builder = prepare(folder, 'in_shop', tmp_path / 'data')
  items = {
    split: [r['item_id'].decode() for r in records(builder, split).values()]
    for split in ('query', 'gallery')
  }
  assert (
    sorted(items['query']) == sorted(items['gallery']) == ['id_02', 'id_03']
  )
  places = {'id_02': [0.0, 0.0], 'id_03': [1.0, 0.0]}
  queries = [places[item] for item in items['query']]
  gallery = [places[item] for item in items['gallery']]
  found = retrieval.retrieval_accuracy(
    queries, items['query'], gallery, items['gallery'], k=1
  )
  assert (found.total.tolist(), found.count.tolist()) == ([2], [2])
  wrong = retrieval.retrieval_accuracy(
    queries[::-1], items['query'], gallery, items['gallery'], k=1
  )
  assert wrong.total.tolist() == [0]


def test_in_shop_is_evaluated_on_the_queries():
  assert defaults.base('in_shop').eval_splits == ('query',)
  assert defaults.base('consumer_to_shop').eval_splits == ('val',)


# Name: dataset, file, a text in it, what it becomes, line, field, the rest of
# the message, kind. The file of the message if it is another.
BAD = {
  'pose': (
    *('in_shop', BOXES, f'{TEE} 1 1', f'{TEE} 1 7'),
    *(3, 'pose_type', "is '7', must be one of 1, 2, 3, 4, 5, 6", 'form'),
  ),
  'clothes type': (
    *('in_shop', BOXES, f'{TEE} 1 1', f'{TEE} 4 1'),
    *(3, 'clothes_type', "is '4', must be one of 1, 2, 3", 'form'),
  ),
  'box too short': (
    *('in_shop', BOXES, '050 038', '050'),
    *(3, 'columns', 'has 6, must have 7, image_name clothes_type', 'form'),
  ),
  'box no number': (
    *('in_shop', BOXES, '050 038', '050 tall'),
    *(3, 'y_2', "is 'tall', must be a finite number", 'form'),
  ),
  'box outside': (
    *('in_shop', BOXES, '050 038', '063 038'),
    *(3, 'x_2', 'is 63, must be from 0 to 60', 'box'),
  ),
  'box empty': (
    *('in_shop', BOXES, '050 038', '050 004'),
    *(3, 'y_2', 'is 4, must be greater than y_1 = 4', 'box'),
  ),
  'box header': (
    *('in_shop', BOXES, 'pose_type', 'pose'),
    *(2, 'column names', 'must begin with', 'form'),
  ),
  'box twice': (
    *('in_shop', BOXES, TEE_BACK, TEE),
    *(4, 'image_name', f"'{TEE}' is in line 3 already", 'split'),
  ),
  'box count': (
    *('in_shop', BOXES, '6\n', '5\n'),
    *(1, 'row count', 'announces 5 rows, but the file has 6', 'form'),
  ),
  'visibility': (
    *('in_shop', LANDMARKS, '1 008 020', '3 008 020'),
    *(3, 'landmark_visibility_3', "'3', must be one of 0, 1, 2", 'visibility'),
  ),
  'landmark outside': (
    *('in_shop', LANDMARKS, '1 008 020', '1 008 047'),
    *(3, 'landmark_location_y_3', 'is 47, must be from 0 to 40', 'landmark'),
  ),
  'two types': (
    *('in_shop', LANDMARKS, f'{JEANS} 2 3', f'{JEANS} 1 3 0 1 1 0 1 1'),
    *(5, 'clothes_type', 'is 1, must be 2 as in line 5 of', 'form'),
  ),
  'no landmarks': (
    *('in_shop', LANDMARKS, f'{JEANS} 2', 'img/other.jpg 2'),
    *(5, 'image_name', f"'{JEANS}' has no row in", 'form', BOXES),
  ),
  'no box and landmarks': (
    *('in_shop', SPLITS, f'{JEANS} id', 'img/other.jpg id'),
    *(5, 'image_name', "'img/other.jpg' has no row in", 'form'),
  ),
  'in no split': (
    *('in_shop', SPLITS, '6\n', '5\n', 8, 'image_name'),
    *(f"'{DRESS_FLAT}' has no row in", 'form', BOXES),
  ),
  'split': (
    *('in_shop', SPLITS, 'id_02 query', 'id_02 val'),
    *(
      5,
      'evaluation_status',
      "'val', must be one of train, query, gal",
      'form',
    ),
  ),
  'split columns': (
    *('in_shop', SPLITS, 'id_02 query', 'query'),
    *(5, 'columns', 'has 2, must have 3, image_name item_id', 'form'),
  ),
  'image twice': (
    *('in_shop', SPLITS, TEE_BACK, TEE),
    *(4, 'image_name', f"'{TEE}' is in line 3 already", 'split'),
  ),
  'item not listed': (
    *('in_shop', ITEMS, 'id_02', 'id_04'),
    *(5, 'item_id', "'id_02' has no row in", 'form', SPLITS),
  ),
  'item twice': (
    *('in_shop', ITEMS, 'id_02', 'id_01'),
    *(3, 'item_id', "'id_01' is in line 2 already", 'split'),
  ),
  'item columns': (
    *('in_shop', ITEMS, 'id_02', 'id_02 1'),
    *(3, 'columns', 'has 2, must have 1, item_id', 'form'),
  ),
  'item without attributes': (
    *('in_shop', ATTRIBUTES, 'id_02', 'id_04'),
    *(5, 'item_id', "'id_02' has no row in", 'form', SPLITS),
  ),
  'attribute value': (
    *('in_shop', ATTRIBUTES, 'id_01 1 -1 0', 'id_01 1 2 0'),
    *(4, 'attribute_labels, value 2', "'2', must be one of 1, 0, -1", 'form'),
  ),
  'attribute columns': (
    *('in_shop', ATTRIBUTES, 'id_01 1 -1 0', 'id_01 1 -1'),
    *(4, 'columns', 'has 3, must have 4: item_id and the 3', 'form'),
  ),
  'no header of attributes': (
    *('in_shop', NAMES, 'attribute_name\n', ''),
    *(2, 'column names', "must begin with 'attribute_name'", 'form'),
  ),
  'source type': (
    *('consumer_to_shop', C2S_BOXES, f'{STORE} 1 1', f'{STORE} 1 3'),
    *(3, 'source_type', "is '3', must be one of 1, 2", 'form'),
  ),
  'consumer as shop': (
    *('consumer_to_shop', C2S_BOXES, f'{VAL} 2 2', f'{VAL} 2 1'),
    *(6, 'source_type', 'is 1 (shop), must be 2 (consumer)', 'form'),
  ),
  'shop as consumer': (
    *('consumer_to_shop', C2S_BOXES, f'{STORE} 1 1', f'{STORE} 1 2'),
    *(3, 'source_type', 'is 2 (consumer), must be 1 (shop)', 'form'),
  ),
  'two items': (
    *('consumer_to_shop', SPLITS, f'{STREET_2} {STORE} id_1'),
    *(f'{STREET_2} {STORE} id_2', 4, 'item_id'),
    *(f"is 'id_2', must be 'id_1': '{STORE}' is in line 3", 'split'),
  ),
  'two splits': (
    *('consumer_to_shop', SPLITS, f'{STREET_2} {STORE} id_1 train'),
    *(f'{STREET_2} {STORE} id_1 val', 4, 'evaluation_status'),
    *(f"is 'val', must be 'train': '{STORE}' is in line 3", 'split'),
  ),
  'both places': (
    *('consumer_to_shop', SPLITS, f'{STREET_2} {STORE}'),
    *(f'{STORE} {STREET_2}', 4, 'image_pair_name_1'),
    *(f"'{STORE}' is in line 3 as image_pair_name_2", 'split'),
  ),
  'pair without a shop': (
    *('consumer_to_shop', SPLITS, f'{VAL} {VAL_STORE}', VAL),
    *(5, 'columns', 'has 3, must have 4, image_pair_name_1', 'form'),
  ),
  'pair with a stranger': (
    *('consumer_to_shop', SPLITS, f'{VAL} {VAL_STORE}', f'{VAL} img/x.jpg'),
    *(5, 'image_pair_name', "'img/x.jpg' has no row in", 'form'),
  ),
  'status': (
    *('consumer_to_shop', SPLITS, 'id_2 val', 'id_2 query'),
    *(5, 'evaluation_status', "'query', must be one of train, val", 'form'),
  ),
  'attribute without a type': (
    *('consumer_to_shop', NAMES, 'T恤 t-shirt 12', '圆领 round neck'),
    *(4, 'attribute_type', "is 'neck', must be an integer", 'form'),
  ),
  'attribute without English': (
    *('consumer_to_shop', NAMES, 'T恤 t-shirt 12', 'T恤 12'),
    *(4, 'columns', 'has 2, must have at least 3', 'form'),
  ),
}


def damaged(folder, case):
  """Writes the folder of a case."""
  name, file, old, new = BAD[case][:4]
  text = FOLDERS[name][file]
  assert old in text
  text = text.replace(old, new, 1)
  if case == 'in no split':
    text = text.replace(f'{DRESS_FLAT} id_03 gallery\n', '')
  return name, write(folder, name, {file: text})


@pytest.mark.parametrize('case', BAD)
def test_mistakes(tmp_path, case):
  name, folder = damaged(tmp_path, case)
  file, line, field, problem, kind, *other = BAD[case][1:2] + BAD[case][4:]
  with pytest.raises(InputError) as raised:
    list(shops.read(folder, name))
  message = str(raised.value)
  place = f'{folder / (other or [file])[0]}, line {line}, {field}: '
  assert message.startswith(place)
  assert problem in message and '\n' not in message
  assert raised.value.kind == kind


@pytest.mark.parametrize(
  ('case', 'kept'),
  [
    ('pose', 5),
    ('box outside', 5),
    ('visibility', 5),
    ('two types', 5),
    ('attribute value', 4),
    ('item not listed', 4),
    ('item columns', 4),
    ('image twice', 5),
    ('source type', 6),
    ('consumer as shop', 6),
    ('two items', 7),
  ],
)
def test_after_a_mistake_it_goes_on_without_the_row(tmp_path, case, kept):
  name, folder = damaged(tmp_path, case)
  findings = Findings(strict=False)
  rows = list(shops.read(folder, name, findings))
  assert len(rows) == kept and findings.mistakes
  assert not findings.left_out
  assert len({row.id for row in rows}) == kept


def test_images_in_no_pair_are_counted(tmp_path):
  text = CONSUMER[SPLITS].replace(f'{VAL} {VAL_STORE} id_2 val\n', '')
  changes = {SPLITS: text.replace('5\n', '4\n', 1)}
  findings = Findings()
  folder = write(tmp_path, 'consumer_to_shop', changes)
  rows = list(shops.read(folder, 'consumer_to_shop', findings))
  assert {row.id for row in rows} == {
    *(STREET, STREET_2, STORE, TEST, TEST_STORE)
  }
  assert findings.left_out == {'in no pair': 2}


@pytest.mark.parametrize('name', FOLDERS)
def test_all_missing_files_at_once_and_where_to_get_them(tmp_path, name):
  folder = write(tmp_path / 'folder', name)
  boxes = {'in_shop': BOXES, 'consumer_to_shop': C2S_BOXES}[name]
  for file in (boxes, SPLITS, NAMES):
    (folder / file).unlink()
  with pytest.raises(InputError) as raised:
    prepare(folder, name, tmp_path / 'data')
  message, _, instructions = str(raised.value).partition('\n')
  for file in (boxes, SPLITS, NAMES):
    assert str(folder / file) in message
  assert 'all lists of attributes or none' in message
  assert 'mmlab.ie.cuhk.edu.hk' in instructions and boxes in instructions
  with pytest.raises(InputError) as raised:
    shops.annotation_paths(folder, name)
  assert raised.value.kind == 'missing'
  with pytest.raises(InputError, match='no such folder.*Anno/ and Eval/'):
    shops.annotation_paths(folder / 'no', name)


@pytest.mark.parametrize(
  ('damage', 'word'),
  [
    (lambda path: path.unlink(), 'is missing'),
    (
      lambda path: path.write_bytes(b'no image'),
      'is not an image of a kind that Pillow',
    ),
  ],
)
def test_damaged_images(tmp_path, damage, word):
  folder = write(tmp_path, 'consumer_to_shop')
  damage(folder / 'Img' / VAL_STORE)
  with pytest.raises(InputError, match=word) as raised:
    list(shops.read(folder, 'consumer_to_shop'))
  place = f'{folder / SPLITS}, line 5, image_pair_name_2: '
  assert str(raised.value).startswith(place)
  assert raised.value.kind == 'image'


@pytest.mark.parametrize('name', FOLDERS)
def test_the_digest_covers_every_list_and_image(tmp_path, name):
  folder = write(tmp_path, name)
  found = {shops.content_digest(folder, name)}
  files = [f for f in FOLDERS[name] if f != 'Anno/list_attr_type.txt']
  for i, file in enumerate(files, 2):
    (folder / file).write_text(FOLDERS[name][file] + '\n', encoding='utf-8')
    found.add(shops.content_digest(folder, name))
    assert len(found) == i, file
  for i, image in enumerate(IMAGES[name], len(found) + 1):
    (folder / 'Img' / image).write_bytes(b'shorter')
    found.add(shops.content_digest(folder, name))
    assert len(found) == i, image
