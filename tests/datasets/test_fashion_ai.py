"""FashionAI: its CSVs, the paper's split and parts, its normaliser."""

import numpy as np
import pytest
from fashion_ai_folders import AI, images, line, write
from ml_collections import ConfigDict
from places import SHARED

from fld_jax import schema
from fld_jax.datasets.fashion_ai.folder import (
  NUM_VAL,
  annotation_files,
  read,
  read_labels,
)
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import Findings, InputError
from fld_jax.metrics import normalised_error
from fld_jax.metrics.predictions import Predictions

REAL = SHARED / 'fashionai'


@pytest.fixture
def folder(tmp_path):
  """Two training folders of which one repeats a line, and a test folder."""
  names = [f'Images/skirt/{i}.jpg' for i in range(12)]
  images(tmp_path / 'train', *names)
  write(tmp_path, 'train/Annotations/train.csv', [line(name) for name in names])
  images(tmp_path / 'warm', 'Images/dress/a.jpg')
  write(
    tmp_path,
    'warm/Annotations/annotations.csv',
    [line('Images/dress/a.jpg', 'dress'), line(names[3])],
  )
  images(tmp_path / 'test_a', 'Images/skirt/t.jpg')
  (tmp_path / 'test_a/test.csv').write_text(
    'image_id,image_category\nx,skirt\n'
  )
  write(tmp_path, 'answer_test_a.csv', [line('Images/skirt/t.jpg')])
  return tmp_path


def test_folders_are_joined(folder):
  findings = Findings()
  rows = list(read(folder, findings))
  assert findings.left_out == {'a line repeats another one': 1}
  by_split = {
    split: [row.id for row in rows if row.split == split]
    for split in ('train', 'val', 'test')
  }
  # A fifth of the 12 skirts of a small folder, none of one dress.
  assert by_split['val'] == ['Images/skirt/0.jpg', 'Images/skirt/1.jpg']
  assert by_split['test'] == ['Images/skirt/t.jpg']
  assert len(by_split['train']) == 11 and 'Images/dress/a.jpg' in str(by_split)
  row = rows[-1] if rows[-1].id.endswith('9.jpg') else rows[0]
  slot = AI.names.index
  assert row.visibility[slot('hemline_left')] == schema.OCCLUDED
  assert row.visibility[slot('crotch')] == schema.ABSENT
  np.testing.assert_array_equal(row.landmarks[slot('hemline_right')], [45, 50])
  np.testing.assert_array_equal(row.box, [0, 0, 50, 60])
  assert {row.clothes_type for row in rows} == {3, 5}


@pytest.mark.parametrize(
  ('path', 'split'),
  [
    ('latest/labels.csv', 'train'),
    ('contest_round1/Annotations/fastest.csv', 'train'),
    ('attestation.csv', 'train'),
    ('test/a.csv', 'test'),
    ('round2_test_a/answers.csv', 'test'),
    ('fashionAI_key_points_test_b_answer_20180426.csv', 'test'),
    ('TEST.csv', 'test'),
    ('testA.csv', 'test'),
    ('fashionAITest/answers.csv', 'test'),
    ('round1-test2.csv', 'test'),
  ],
)
def test_only_the_word_test_makes_test_rows(path, split, tmp_path):
  images(tmp_path, 'Images/skirt/t.jpg')
  (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
  write(tmp_path, path, [line('Images/skirt/t.jpg')])
  assert [row.split for row in read(tmp_path)] == [split]


def test_the_paper_takes_its_val_from_the_first(folder, monkeypatch):
  monkeypatch.setitem(NUM_VAL, 'skirt', 1)
  rows = list(read(folder))
  assert [r.id for r in rows if r.split == 'val'] == ['Images/skirt/0.jpg']


def test_records(folder, tmp_path):
  config = ConfigDict(
    {
      **{'name': 'fashion_ai', 'manual_dir': str(folder)},
      'data_dir': str(tmp_path / 'data'),
    }
  )
  builder = prepared_builder(config)
  assert builder.info.splits['train'].num_examples == 11
  (record,) = builder.as_data_source('test')
  assert record['landmarks'].shape == (24, 2) and record['clothes_type'] == 5


BAD = {
  'header': (
    lambda t: t.replace('crotch', 'knee'),
    "line 1, column 22: is 'kn",
  ),
  'short': (lambda t: t.replace(',40_20_1', ''), 'line 2, columns: has 25'),
  'category': (
    lambda t: t.replace(',skirt,', ',kilt,'),
    "line 2, image_category: is 'kilt', must be one of blouse, outwear",
  ),
  'v': (
    lambda t: t.replace('10_20_1', '10_20_2'),
    "line 2, waistband_left: is '10_20_2', must be x_y_v",
  ),
  'words': (
    lambda t: t.replace('10_20_1', '1e1_2_1'),
    'line 2, waistband_left',
  ),
  'far away': (
    lambda t: t.replace('10_20_1', '10_99_1', 1),
    'line 2, waistband_left: is at 10, 99, outside of the image of 50 x 60',
  ),
  'quotes': (
    lambda t: t.replace('10_20_1', '"10_20_1'),
    'is not a valid line of CSV',
  ),
  'no image': (
    lambda t: t.replace('skirt/5.jpg', 'skirt/no.jpg'),
    'line 7, image_id: the image file .*no.jpg is missing',
  ),
  'twice': (
    lambda t: (
      t.replace('skirt/5.jpg,skirt,', 'skirt/4.jpg,skirt,').replace(
        '-1_-1_-1', '1_1_1', 0
      )
      + line('Images/skirt/0.jpg', crotch='9_9_1')
      + '\n'
    ),
    'line 14, image_id: Images/skirt/0.jpg stands in .*line 2, with other',
  ),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_files(folder, case):
  change, message = BAD[case]
  path = folder / 'train/Annotations/train.csv'
  path.write_text(change(path.read_text()))
  with pytest.raises(InputError, match=message) as raised:
    list(read(folder))
  assert 'train.csv' in str(raised.value)


def test_a_line_that_is_no_text_is_named(folder):
  """Also behind the first ones, which would be decoded along with it."""
  path = folder / 'train/Annotations/train.csv'
  lines = path.read_bytes().split(b'\n')
  lines[4] = lines[4].replace(b'skirt', b'sk\xffrt')
  path.write_bytes(b'\n'.join(lines))
  with pytest.raises(InputError, match='train.csv, line 5, text: is not UTF-8'):
    list(read(folder))
  findings = Findings(strict=False)
  rows = list(read(folder, findings))
  assert len(findings.mistakes) == 1 and len(rows) == 14
  lines[4], lines[7] = lines[3], b'"' + lines[7]
  path.write_bytes(b'\n'.join(lines))
  with pytest.raises(
    InputError, match='line 8, text: is not a valid line of CSV'
  ):
    list(read(folder))


@pytest.mark.parametrize(
  'change',
  [
    lambda t: t.replace('neckline_left', 'necklin_left'),
    lambda t: t[t.index('\n') + 1 :],
    lambda t: t[:30],
    lambda t: '',
  ],
  ids=['header', 'no header', 'cut', 'empty'],
)
def test_a_damaged_file_is_not_passed_over(folder, change):
  path = folder / 'train/Annotations/train.csv'
  path.write_text(change(path.read_text()))
  with pytest.raises(InputError, match='train.csv, line 1, column'):
    list(read(folder))
  path.write_text(path.read_text(), encoding='utf-16')
  with pytest.raises(InputError, match='train.csv, line 1, text'):
    list(read(folder))


def test_messages_are_of_one_line(folder):
  path = folder / 'train/Annotations/train.csv'
  text = path.read_text()
  for old in ('10_20_1', 'skirt,', 'Images/skirt/1.jpg'):
    path.write_text(text.replace(old, f'"a\nb\x1b"{"," * old.count(",")}', 1))
    with pytest.raises(InputError, match=r'a\\nb\\x1b') as raised:
      list(read(folder))
    assert str(raised.value).isprintable()


def test_bad_folders(tmp_path):
  with pytest.raises(InputError, match='no such folder'):
    list(read(tmp_path / 'nope'))
  with pytest.raises(InputError, match='holds no CSV whose first line'):
    list(read(tmp_path))


def test_normaliser_is_the_distance_of_a_pair(tmp_path):
  """One image is left out, because its pair is not known."""
  landmarks = np.zeros((3, 24, 2))
  visibility = np.full((3, 24), schema.ABSENT)
  slot = AI.names.index
  place = {'waistband_left': (10, 20), 'waistband_right': (40, 60)}  # 50 apart
  for name, point in place.items():
    landmarks[:, slot(name)] = point
    visibility[:, slot(name)] = schema.VISIBLE
  visibility[1, slot('waistband_right')] = schema.OCCLUDED  # counts as a pair
  visibility[2, slot('waistband_right')] = schema.ABSENT
  estimate = landmarks + np.array([3.0, 4.0])  # 5 pixels
  predictions = Predictions(
    ids=['a', 'b', 'c'],
    image_ids=np.arange(3),
    boxes=np.array([[0, 0, 100, 100]] * 3),
    image_sizes=np.array([[100, 100]] * 3),
    landmarks=landmarks,
    visibility=visibility,
    clothes_type=np.array([5, 5, 4]),
    variation=np.zeros(3, int),
    estimates={'one': estimate},
    visibility_probs={},
    landmark_set=AI,
  )
  found = normalised_error.evaluate(predictions)
  assert found['norm'] == 'keypair' and found['num_without_norm'] == 1
  assert found['ne']['micro'] == pytest.approx(0.1)
  assert list(found['stages']['one']['ne_by_clothes_type']) == [
    *('trousers', 'skirt')
  ]
  of_type = found['stages']['one']['ne_by_clothes_type']
  assert of_type['trousers']['macro'] is None
  boxes = normalised_error.evaluate(predictions, norm='bbox_wh')
  assert boxes['ne']['micro'] == pytest.approx(0.05)
  assert boxes['num_without_norm'] == 0
  landmarks[0, slot('waistband_right')] = 10, 20
  with pytest.raises(InputError, match="'a' .* in one place"):
    normalised_error.evaluate(predictions)


def test_parts_of_the_paper():
  """By the 1-based indices of the CSV that docs/methods.md 4.4 lists."""
  parts = AI.partitions
  left, right = (part + 1 for part in parts['skeleton'])
  assert left.tolist() == [1, 3, 4, 6, 8, 10, 11, 14, 16, 18, 20, 21, 22]
  assert right.tolist() == [2, 3, 5, 7, 9, 12, 13, 15, 17, 19, 20, 23, 24]
  top, bottom = (part + 1 for part in parts['top_bottom'])
  assert top.tolist() == list(range(1, 18))
  assert bottom.tolist() == list(range(18, 25))


@pytest.mark.skipif(not REAL.exists(), reason=f'{REAL} is not here')
def test_real_rows():
  (path,) = annotation_files(REAL)
  rows = list(read_labels(path))
  assert len(rows) == 9995
  owns = {}  # what a category has, by the rows themselves
  for row in rows:
    known = schema.has_position(row.visibility)
    owns[row.category] = owns.get(row.category, False) | known
  assert {k: int(v.sum()) for k, v in owns.items()} == {
    **{'blouse': 13, 'outwear': 14, 'dress': 15, 'trousers': 7, 'skirt': 4}
  }
  few = {}  # parts with fewer than two, by how many the category has there
  for row in rows:
    known = schema.has_position(row.visibility)
    for partition in ('skeleton', 'top_bottom'):
      for part in AI.partitions[partition]:
        has = int(owns[row.category][part].sum())
        if has >= 2 and known[part].sum() < 2:
          few[has] = few.get(has, 0) + 1
  # Where one of two is cut off, PCLoss has no pair; it never happens to more.
  assert few == {2: 98}
