"""DeepFashion's row-aligned files, written from their description."""

import cv2
import numpy as np
import pytest

from fld_jax import defaults
from fld_jax.datasets.deepfashion import coarse as deepfashion_coarse
from fld_jax.datasets.deepfashion.fine import (
  annotation_paths,
  content_digest,
  read_annotations,
)
from fld_jax.datasets.deepfashion.layout import attribute_names
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import Findings, InputError

# Every image is 60 wide and 40 high.
TEE, SKIRT = 'img/Crew_Tee/img_00000001.jpg', 'img/Skirt/img_00000002.jpg'
DRESS, LONG = 'img/Dress/img_00000003.jpg', 'img/Long_Tee/img_00000004.jpg'
BLANK = 'img/Jeans/img_00000005.jpg'
IMAGES = (TEE, SKIRT, DRESS, LONG, BLANK)
NAMES = 'Anno_fine/list_attr_cloth.txt'
CATEGORIES = 'Anno_fine/list_category_cloth.txt'
# Collar, sleeve, waist, hem, each left and right. The long tee, of an upper
# category, has waists as well; the jeans have no position at all.
FOLDER = {
  'Anno_fine/train.txt': f'{TEE}\n{DRESS}\n{LONG}\n',
  'Anno_fine/train_bbox.txt': '5 4 50 38\n6 3 51 39\n7 2 52 40\n',
  'Anno_fine/train_landmarks.txt': """\
20 5 30 6 10 20 0 0 0 0 0 0 15 37 0 0
21 5 31 6 11 20 45 21 18 22 33 23 12 38 44 39
22 5 32 6 12 20 46 21 19 22 0 0 13 38 45 39
""",
  'Anno_fine/train_cate.txt': '1\n4\n1\n',
  'Anno_fine/train_attr.txt': '1 0 0\n0 1 1\n0 0 0\n',
  'Anno_fine/test.txt': f'{SKIRT}\n{BLANK}\n',
  'Anno_fine/test_bbox.txt': '008 001 053 039\n9 1 54 40\n',
  'Anno_fine/test_landmarks.txt': """\
0 0 0 0 0 0 0 0 14 3 41 3.5 0 0 48 38
0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
""",
  'Anno_fine/test_cate.txt': '3\n2\n',
  'Anno_fine/test_attr.txt': '1 1 1\n0 1 0\n',
  NAMES: """3
attribute_name attribute_type
floral 1
long sleeve 3
no dress 5
""",
  CATEGORIES: """4
category_name  category_type
Tee            1
Jeans          2
Skirt          2
Dress          3
""",
}
ATTRIBUTES = (NAMES, 'Anno_fine/train_attr.txt', 'Anno_fine/test_attr.txt')
CATES = ('Anno_fine/train_cate.txt', 'Anno_fine/test_cate.txt')
COARSE = {
  'Anno_coarse/list_bbox.txt': f"""1
image_name x_1 y_1 x_2 y_2
{TEE} 1 2 3 4
""",
  'Anno_coarse/list_landmarks.txt': f"""1
image_name clothes_type landmark_visibility_1 landmark_location_x_1 \
landmark_location_y_1
{TEE} 2 0 1 2 0 3 4 1 5 6 2 0 0
""",
  'Eval/list_eval_partition.txt': f"""1
image_name evaluation_status
{TEE} val
""",
}


def write(folder, files):
  for name, text in files.items():
    if text is not None:
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      (folder / name).write_text(text)
  for i, image in enumerate(IMAGES):
    path = folder / 'Img' / image
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 60, 3), 30 * i, np.uint8))
  return folder


def prepare(folder, data, labels):
  config = defaults.base('deepfashion').dataset
  assert config.labels == 'coarse'
  config.labels, config.manual_dir = labels, str(folder)
  config.data_dir = str(data)
  return prepared_builder(config)


def records(builder, split):
  source = builder.as_data_source(split)
  return {record['id'].decode(): record for record in source}


def test_records(tmp_path):
  folder = write(tmp_path / 'folder', {**FOLDER, **COARSE})
  builder = prepare(folder, tmp_path / 'data', 'fine')
  assert builder.name == 'deepfashion'
  names = builder.info.metadata['attribute_names']
  assert names == ['floral', 'long sleeve', 'no dress']
  assert set(builder.info.splits) == {'train', 'test'}
  train, test = records(builder, 'train'), records(builder, 'test')
  assert set(train) == {TEE, DRESS, LONG} and set(test) == {SKIRT, BLANK}
  tee, dress, long = train[TEE], train[DRESS], train[LONG]
  skirt, blank = test[SKIRT], test[BLANK]
  # 0 visible, 2 truncated, -1 absent.
  assert tee['visibility'].tolist() == [0, 0, 0, 2, -1, -1, 0, 2]
  assert tee['landmarks'].tolist() == [
    *([20, 5], [30, 6], [10, 20], [0, 0]),
    *([0, 0], [0, 0], [15, 37], [0, 0]),
  ]
  assert dress['visibility'].tolist() == [0] * 8
  assert dress['landmarks'].ravel().tolist() == [
    *(21, 5, 31, 6, 11, 20, 45, 21, 18, 22, 33, 23, 12, 38, 44, 39)
  ]
  assert long['visibility'].tolist() == [0, 0, 0, 0, 0, 2, 0, 0]
  assert skirt['visibility'].tolist() == [-1, -1, -1, -1, 0, 0, 2, 0]
  assert skirt['landmarks'][4:].tolist() == [
    *([14, 3], [41, 3.5], [0, 0], [48, 38])
  ]
  assert blank['visibility'].tolist() == [-1] * 4 + [2] * 4
  for record, clothes_type, box, attributes in (
    (tee, 1, [5, 4, 50, 38], [1, -1, -1]),
    (dress, 3, [6, 3, 51, 39], [-1, 1, 1]),
    (long, 3, [7, 2, 52, 40], [-1, -1, -1]),
    (skirt, 2, [8, 1, 53, 39], [1, 1, 1]),
    (blank, 2, [9, 1, 54, 40], [-1, 1, -1]),
  ):
    assert record['clothes_type'] == clothes_type
    assert record['box'].tolist() == box
    assert record['attributes'].tolist() == attributes
    assert (record['variation'], record['item_id']) == (0, b'')
    assert record['image'].shape == (40, 60, 3)
  # The other labels of the same folder are other data.
  coarse = prepare(folder, tmp_path / 'data', 'coarse')
  (row,) = records(coarse, 'val').values()
  assert row['box'].tolist() == [1, 2, 3, 4] and row['clothes_type'] == 2
  assert prepare(folder, tmp_path / 'data', 'fine').data_dir == builder.data_dir


def test_without_categories_and_attributes(tmp_path):
  """The type of fewest landmarks that has all those with a position."""
  absent = dict.fromkeys((*ATTRIBUTES, *CATES, CATEGORIES))
  folder = write(tmp_path, {**FOLDER, **absent})
  rows = {row.id: row for row in read_annotations(folder)}
  types = [rows[image].clothes_type for image in IMAGES]
  assert types == [1, 2, 3, 3, 2]
  assert rows[TEE].visibility.tolist() == [0, 0, 0, 2, -1, -1, 0, 2]
  assert all(row.attributes.shape == (0,) for row in rows.values())
  assert attribute_names(annotation_paths(folder)) == []


@pytest.mark.parametrize('place', ['Anno_coarse', 'Anno'])
def test_categories_of_another_folder(tmp_path, place):
  """They name the jeans an upper garment, as no other file does."""
  text = FOLDER[CATEGORIES].replace('Jeans          2', 'Jeans 1')
  other = {CATEGORIES: None, f'{place}/list_category_cloth.txt': text}
  folder = write(tmp_path, {**FOLDER, **other})
  rows = {row.id: row for row in read_annotations(folder)}
  assert rows[BLANK].clothes_type == 1
  assert rows[BLANK].visibility.tolist() == [2, 2, 2, 2, -1, -1, 2, 2]


@pytest.mark.parametrize('split', ['train', 'test'])
def test_one_split_alone(tmp_path, split):
  other = {'train': 'test', 'test': 'train'}[split]
  absent = dict.fromkeys(f for f in FOLDER if f'/{other}' in f)
  folder = write(tmp_path, {**FOLDER, **absent})
  rows = list(read_annotations(folder))
  assert {row.split for row in rows} == {split}


def test_blank_lines_at_the_end(tmp_path):
  file = 'Anno_fine/train_bbox.txt'
  folder = write(tmp_path, {**FOLDER, file: FOLDER[file] + '\n  \n'})
  assert len(list(read_annotations(folder))) == 5


# File without folder and ending, a text in it, what it becomes, line, field,
# the rest of the message, kind. The file of the message if it is another.
BAD = {
  'box columns': ('train_bbox', '6 3 51 39', '6 3 51', 2, 'columns', 'has 3'),
  'box no number': ('train_bbox', '6 3', '6 x', 2, 'y_1', "'x', must be a fin"),
  'box outside': ('train_bbox', '51', '63', 2, 'x_2', 'from 0 to 60', 'box'),
  'box empty': ('train_bbox', '51', '6', 2, 'x_2', 'greater than x_1', 'box'),
  'points columns': (
    *('train_landmarks', ' 44 39', ' 44'),
    *(2, 'columns', 'has 15, must have 16, landmark_location_x_1'),
  ),
  'point no number': (
    *('train_landmarks', ' 44 39', ' 44 nan'),
    *(2, 'landmark_location_y_8', "is 'nan', must be a finite number"),
  ),
  'point outside': (
    *('test_landmarks', '41 3.5', '41 47'),
    *(1, 'landmark_location_y_6', 'is 47, must be from 0 to 40', 'landmark'),
  ),
  'category of none': (
    *('test_cate', '3\n', '5\n'),
    *(1, 'category_label', "is '5', must be one of 1, 2, 3, 4"),
  ),
  'category from 0': (
    *('test_cate', '3\n', '0\n'),
    *(1, 'category_label', "is '0', must be one of 1, 2, 3, 4"),
  ),
  'two categories': ('test_cate', '3\n', '3 1\n', 1, 'columns', 'must have 1'),
  'type of a category': (
    *('list_category_cloth', 'Tee            1', 'Tee 4'),
    *(3, 'category_type', "is '4', must be one of 1, 2, 3"),
  ),
  'attribute value': (
    *('train_attr', '0 1 1', '0 -1 1'),
    *(2, 'attribute_labels, value 2', "is '-1', must be one of 1, 0"),
  ),
  'attribute columns': (
    *('train_attr', '0 1 1', '0 1'),
    *(2, 'columns', 'has 2, must have 3, the attributes of list_attr'),
  ),
  'name without a type': (
    *('list_attr_cloth', 'long sleeve 3', 'long sleeve'),
    *(4, 'attribute_type', "is 'sleeve', must be an integer"),
  ),
  'image and more': ('train', LONG, f'{LONG} 1', 3, 'columns', 'must have 1'),
  'image twice': (
    *('train', LONG, TEE, 3, 'image_name'),
    *(f"'{TEE}' is in line 1 already", 'split'),
  ),
  'image in two splits': (
    *('test', BLANK, DRESS, 2, 'image_name', f"'{DRESS}' is in line 2 of"),
    'split',
  ),
  'file too short': (
    *('train_cate', '4\n1\n', '4\n', 3, 'row count'),
    'there is no row, must be one as in',
  ),
  'file too long': (
    *('train_bbox', '52 40\n', '52 40\n1 2 3 4\n', 4, 'row count'),
    *('there is no row, must be one as in', 'form', 'train'),
  ),
  'row left out': (
    *('train_landmarks', '\n21 5', '\n\n21 5', 2, 'row count'),
    'there is no row',
  ),
}


def damaged(folder, case):
  """Writes the folder of a case."""
  file, old, new = BAD[case][:3]
  file = f'Anno_fine/{file}.txt'
  assert old in FOLDER[file]
  text = FOLDER[file].replace(old, new, 1)
  return write(folder, {**FOLDER, file: text})


@pytest.mark.parametrize('case', BAD)
def test_mistakes(tmp_path, case):
  folder = damaged(tmp_path, case)
  file, _, _, line, field, problem, *rest = BAD[case]
  kind, file = [*rest, *('form', file)[len(rest) :]]
  with pytest.raises(InputError) as raised:
    list(read_annotations(folder))
  message = str(raised.value)
  place = f'{folder}/Anno_fine/{file}.txt, line {line}, {field}: '
  assert message.startswith(place)
  assert problem in message and '\n' not in message
  assert raised.value.kind == kind


@pytest.mark.parametrize(
  ('case', 'kept', 'mistakes'),
  [
    ('box columns', 4, 1),
    ('box outside', 4, 1),
    ('category of none', 4, 1),
    ('image twice', 4, 1),
    ('image in two splits', 4, 1),
    ('file too short', 4, 1),
    ('file too long', 5, 1),
  ],
)
def test_after_a_mistake_it_goes_on(tmp_path, case, kept, mistakes):
  folder = damaged(tmp_path, case)
  findings = Findings(strict=False)
  rows = list(read_annotations(folder, findings))
  assert (len(rows), len(findings.mistakes)) == (kept, mistakes)


def test_a_line_that_is_no_text_does_not_move_the_others(tmp_path):
  folder = write(tmp_path, FOLDER)
  path = folder / 'Anno_fine/train_bbox.txt'
  path.write_bytes(b'5 4 50 38\n\xff\xfe\n7 2 52 40\n')
  findings = Findings(strict=False)
  rows = list(read_annotations(folder, findings))
  boxes = {row.id: row.box.tolist() for row in rows if row.split == 'train'}
  assert boxes == {TEE: [5, 4, 50, 38], LONG: [7, 2, 52, 40]}
  (mistake,) = findings.mistakes
  assert str(mistake) == f'{path}, line 2, text: is not UTF-8, must be'


def test_empty_files(tmp_path):
  empty = {f: '' for f in FOLDER if '/train' in f}
  folder = write(tmp_path, {**FOLDER, **empty})
  with pytest.raises(InputError, match='train.txt, line 1, row count: there'):
    list(read_annotations(folder))


def test_damaged_image(tmp_path):
  folder = write(tmp_path, FOLDER)
  (folder / 'Img' / SKIRT).unlink()
  with pytest.raises(InputError, match='is missing') as raised:
    list(read_annotations(folder))
  place = f'{folder}/Anno_fine/test.txt, line 1, image_name: '
  assert str(raised.value).startswith(place) and raised.value.kind == 'image'


def test_all_missing_files_at_once(tmp_path):
  gone = ('train', 'train_bbox', 'test_landmarks', 'test_cate', 'train_attr')
  files = [f'Anno_fine/{stem}.txt' for stem in gone] + [CATEGORIES]
  folder = write(tmp_path, {**FOLDER, **dict.fromkeys(files)})
  with pytest.raises(InputError) as raised:
    annotation_paths(folder)
  assert raised.value.kind == 'missing'
  found = str(raised.value).partition(': missing')[0].split(', ')
  assert sorted(found) == sorted(str(folder / file) for file in files)


def test_only_the_other_labels_are_there(tmp_path):
  fine = write(tmp_path / 'fine', FOLDER)
  with pytest.raises(InputError, match='config.dataset.labels=fine') as raised:
    prepare(fine, tmp_path / 'data', 'coarse')
  assert 'list_landmarks.txt' in str(raised.value)
  assert 'Anno_fine/train_cate.txt' in str(raised.value)  # the folder's tree
  with pytest.raises(InputError, match='config.dataset.labels=fine'):
    deepfashion_coarse.annotation_paths(fine)
  coarse = write(tmp_path / 'coarse', COARSE)
  with pytest.raises(InputError, match='labels=coarse reads') as raised:
    prepare(coarse, tmp_path / 'data', 'fine')
  for stem in ('train', 'train_bbox', 'train_landmarks'):
    assert f'{coarse}/Anno_fine/{stem}.txt' in str(raised.value)
  with pytest.raises(InputError, match="labels is 'best', valid.*coarse, fine"):
    prepare(fine, tmp_path / 'data', 'best')
  with pytest.raises(InputError, match='no such folder.*Anno_fine'):
    prepare(tmp_path / 'none', tmp_path / 'data', 'fine')


def test_the_digest_covers_every_file_and_image(tmp_path):
  folder = write(tmp_path, FOLDER)
  found = {content_digest(folder)}
  for i, file in enumerate(FOLDER, 2):
    (folder / file).write_text(FOLDER[file] + '\n')
    found.add(content_digest(folder))
    assert len(found) == i, file
  for i, image in enumerate(IMAGES, len(found) + 1):
    (folder / 'Img' / image).write_bytes(b'shorter')
    found.add(content_digest(folder))
    assert len(found) == i, image
