"""DeepFashion: from a folder of lists and images to records, and back."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from deepfashion_folders import (
  ATTRIBUTES,
  BOXES,
  FOLDER,
  LANDMARKS,
  NAMES,
  SPLITS,
  TRIPLES,
  A,
  B,
  C,
  write_folder,
)
from PIL import Image
from places import SHARED

from fld_jax.datasets.deepfashion import coarse, layout
from fld_jax.datasets.deepfashion.builders import Deepfashion
from fld_jax.datasets.prepare import content_id
from fld_jax.errors import InputError

REAL = SHARED / 'deepfashion'


def prepare(manual_dir, data_dir):
  builder = Deepfashion(manual_dir=manual_dir, data_dir=data_dir)
  builder.download_and_prepare(file_format='array_record')
  return builder


def read(builder):
  raw = {'image': tfds.decode.SkipDecoding()}
  return {
    (split, record['id'].decode()): record
    for split, source in builder.as_data_source(decoders=raw).items()
    for record in source
  }


def edited(name, line, text=None):
  """FOLDER with one line replaced, or removed and the count lowered."""
  files = {key: list(lines) for key, lines in FOLDER.items()}
  if text is None:
    del files[name][line - 1]
    files[name][0] = str(int(files[name][0]) - 1)
  else:
    files[name][line - 1] = text
  return files


def test_records_hold_what_the_lists_say(tmp_path):
  folder = write_folder(tmp_path / 'folder')
  builder = prepare(folder, tmp_path / 'data')
  records = read(builder)
  assert sorted(records) == [('train', C), ('train', A), ('val', B)]
  upper, lower, full = (
    records['train', A],
    records['val', B],
    records['train', C],
  )
  np.testing.assert_array_equal(upper['box'], [1, 2, 50, 40])
  np.testing.assert_array_equal(full['box'], [5, 6.5, 61, 41])
  # Upper: collars, sleeves, hems; the truncated third loses its position.
  np.testing.assert_array_equal(upper['visibility'], [0, 1, 2, 0, -1, -1, 0, 2])
  np.testing.assert_array_equal(
    upper['landmarks'],
    [[11, 12], [21, 22], [0, 0], [41, 18], [0, 0], [0, 0], [51, 32], [0, 0]],
  )
  np.testing.assert_array_equal(
    lower['visibility'], [-1, -1, -1, -1, 0, 0, 1, 2]
  )
  np.testing.assert_array_equal(
    lower['landmarks'], [[0, 0]] * 4 + [[10, 9], [20, 9.25], [9, 30], [0, 0]]
  )
  np.testing.assert_array_equal(full['visibility'], [0, 0, 0, 0, 0, 0, 1, 0])
  np.testing.assert_array_equal(
    full['landmarks'].ravel(), [*range(1, 15), 62, 16]
  )
  assert [r['clothes_type'] for r in (upper, lower, full)] == [1, 2, 3]
  assert [r['variation'] for r in (upper, lower, full)] == [0, 0, 0]
  np.testing.assert_array_equal(
    [r['attributes'] for r in (upper, lower, full)], [[-1, 1], [0, -1], [1, 0]]
  )
  assert builder.info.metadata['attribute_names'] == ['faux fur', 'a-line']
  assert builder.attribute_groups() == ['type 2', 'type 3']
  assert upper['item_id'] == b''
  for (_, image), record in records.items():
    assert record['image'] == (folder / 'Img' / image).read_bytes()


def test_variation_column_other_folder_names_and_no_attributes(tmp_path):
  files = {
    BOXES.replace('Anno', 'Anno_coarse'): FOLDER[BOXES],
    SPLITS: FOLDER[SPLITS],
    LANDMARKS.replace('Anno', 'Anno_coarse'): [
      '3',
      f'image_name clothes_type variation_type {TRIPLES}',
      *(
        row.replace('.jpg ', '.jpg 0').replace(f'.jpg 0{t}', f'.jpg 0{t} {v}')
        for row, t, v in zip(
          FOLDER[LANDMARKS][2:], (1, 2, 3), (4, 5, 1), strict=True
        )
      ),
    ],
  }
  # The official Anno_fine lacks these lists and must not be taken for them.
  (tmp_path / 'Anno_fine').mkdir()
  folder = write_folder(tmp_path, files, images='.')
  rows = {row.id: row for row in coarse.read_annotations(folder)}
  assert [rows[i].variation for i in (A, B, C)] == [4, 5, 1]
  assert [rows[i].clothes_type for i in (A, B, C)] == [1, 2, 3]
  np.testing.assert_array_equal(rows[B].landmarks[5], [20, 9.25])
  assert all(row.attributes.shape == (0,) for row in rows.values())
  builder = prepare(folder, tmp_path / 'data')
  assert builder.info.metadata['attribute_names'] == []
  assert read(builder)['val', B]['variation'] == 5


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_one_split_alone(tmp_path, split):
  files = FOLDER | {
    SPLITS: FOLDER[SPLITS][:2] + [f'{i} {split}' for i in (A, B, C)]
  }
  builder = prepare(write_folder(tmp_path, files), tmp_path / 'data')
  assert {s: i.num_examples for s, i in builder.info.splits.items()} == {
    split: 3
  }


ROW = FOLDER[LANDMARKS][3]
DAMAGE = {
  'count too high': (BOXES, 1, '4', 1, 'row count', '4 rows', 'has 3'),
  'count too low': (SPLITS, 1, '2', 1, 'row count', '2 rows', 'has 3'),
  'count no integer': (LANDMARKS, 1, 'x3', 1, 'row count', 'x3', 'integer'),
  'no column names': (BOXES, 2, f'{A} 1 2 3 4', 2, 'column names', 'x_1 y_1'),
  'other triples': (
    LANDMARKS,
    2,
    'image_name clothes_type joint_visibility_1',
    2,
    'column names',
    'landmark_visibility_1',
  ),
  'short box': (BOXES, 4, f'{B} 1 2 3', 4, 'columns', 'has 4', '5'),
  'long split': (SPLITS, 4, f'{B} val 1', 4, 'columns', 'has 3', '2'),
  'short landmarks': (LANDMARKS, 4, ROW[:-4], 4, 'columns', 'has 13', '14'),
  'no landmarks': (LANDMARKS, 5, C, 5, 'columns', 'has 1'),
  'short attributes': (ATTRIBUTES, 3, f'{A} 1', 3, 'columns', 'has 2', '3'),
  'nan': (BOXES, 4, f'{B} 1 nan 3 4', 4, 'y_1', 'nan', 'finite'),
  'infinite': (BOXES, 5, f'{C} 1 2 inf 4', 5, 'x_2', 'inf', 'finite'),
  'no number': (BOXES, 3, f'{A} 1o 2 3 4', 3, 'x_1', '1o', 'finite'),
  'nan landmark': (
    LANDMARKS,
    4,
    ROW.replace('009.25', 'NaN'),
    4,
    'landmark_location_y_2',
    'NaN',
    'finite',
  ),
  'visibility': (
    LANDMARKS,
    4,
    ROW.replace('1 009', '3 009'),
    4,
    'landmark_visibility_3',
    '3',
    '0, 1, 2',
  ),
  'clothes type': (
    LANDMARKS,
    4,
    ROW.replace('.jpg 2', '.jpg 4'),
    4,
    'clothes_type',
    '4',
    '1, 2, 3',
  ),
  'split name': (SPLITS, 5, f'{C} dev', 5, 'evaluation_status', 'dev', 'train'),
  'attribute': (ATTRIBUTES, 4, f'{B} 0 2', 4, 'value 2', '2', '1, 0, -1'),
  'attribute type': (NAMES, 3, 'faux fur', 3, 'attribute_type', 'fur', 'int'),
  'box empty': (BOXES, 4, f'{B} 9 9 9 20', 4, 'x_2', '9', 'greater than x_1'),
  'box upside down': (BOXES, 4, f'{B} 9 20 15 9', 4, 'y_2', 'greater than y_1'),
  'box too wide': (BOXES, 4, f'{B} 1 2 62.5 20', 4, 'x_2', '62.5', '60'),
  'box too high': (BOXES, 4, f'{B} 1 2 60 43', 4, 'y_2', '43', '40'),
  'box left': (BOXES, 4, f'{B} -3 2 60 40', 4, 'x_1', '-3', '0'),
  'landmark outside': (
    LANDMARKS,
    4,
    ROW.replace('009.25', '047'),
    4,
    'landmark_location_y_2',
    '47',
    '40',
  ),
  'image twice': (SPLITS, 5, f'{A} val', 5, 'image_name', A, 'line 3'),
  'no box row': (BOXES, 4, None, SPLITS, 4, 'image_name', B, BOXES),
  'no landmark row': (LANDMARKS, 3, None, SPLITS, 3, A, LANDMARKS),
  'no split row': (SPLITS, 5, None, BOXES, 5, 'image_name', C, SPLITS),
  'no attribute row': (ATTRIBUTES, 5, None, SPLITS, 5, C, ATTRIBUTES),
  'empty list': (BOXES, 1, '', 1, 'row count', "''", 'integer'),
  # Python's int and float read these.
  'underscore': (BOXES, 4, f'{B} 1_0 8 60 39', 4, 'x_1', "'1_0'", 'finite'),
  'script': (BOXES, 4, f'{B} ١٠ 8 60 39', 4, 'x_1', "'١٠'", 'finite'),
  'type of ٢': (
    *(LANDMARKS, 4, ROW.replace('.jpg 2', '.jpg ٢')),
    *(4, 'clothes_type', "'٢'", '1, 2, 3'),
  ),
  'visibility 0_1': (
    *(LANDMARKS, 4, ROW.replace('1 009', '0_1 009')),
    *(4, 'landmark_visibility_3', "'0_1'", '0, 1, 2'),
  ),
  # And will not read this.
  'long count': (BOXES, 1, '3' * 5000, 1, 'row count', '33...', 'integer'),
  # float32 would not hold it.
  'huge landmark': (
    *(LANDMARKS, 4, ROW.replace('009.25', '1e39')),
    *(4, 'landmark_location_y_2', "'1e39'", '1e9'),
  ),
  # str.split splits here.
  'separator': (BOXES, 4, f'{B} 10\x1c8 60 39', 4, 'columns', 'has 4', '5'),
  'odd name': (
    *(SPLITS, 5, 'a\x1b[2J\x85b train'),
    *(5, 'image_name', "'a\\x1b[2J\\x85b' has no row"),
  ),
}


@pytest.mark.parametrize('case', DAMAGE)
def test_damaged_list_is_named_with_line_and_field(tmp_path, case):
  name, line, text, *expected = DAMAGE[case]
  write_folder(tmp_path, edited(name, line, text))
  # Where the damage is, unless the case says that another list shows it.
  file = expected.pop(0) if isinstance(expected[0], str) else name
  with pytest.raises(InputError) as raised:
    list(coarse.read_annotations(tmp_path))
  message = str(raised.value)
  assert message.startswith(f'{tmp_path / file}, line {expected[0]}, ')
  assert '\n' not in message
  for part in expected[1:]:
    assert part in message, message


def test_names_may_have_other_white_space_than_ascii(tmp_path):
  names = 'img/a\xa0b.jpg', 'img/c\u3000d\x85.jpg', 'img/e\x1ff.jpg'
  files = {
    key: [
      line.replace(A, names[0]).replace(B, names[1]).replace(C, names[2])
      for line in lines
    ]
    for key, lines in FOLDER.items()
  }
  folder = write_folder(tmp_path, files)
  for old, new in zip((A, B, C), names, strict=True):
    (folder / 'Img' / old).rename(folder / 'Img' / new)
  rows = list(coarse.read_annotations(folder))
  assert [row.id for row in rows] == list(names)
  before = coarse.content_digest(folder)
  os.utime(folder / 'Img' / names[2], ns=(1, 1))
  assert coarse.content_digest(folder) != before


def test_variation_out_of_range(tmp_path):
  rows = [f'{A} 1 6 ' + '0 1 1 ' * 6, f'{B} 2 1 ' + '0 1 1 ' * 4]
  header = f'image_name clothes_type variation_type {TRIPLES}'
  write_folder(tmp_path, FOLDER | {LANDMARKS: ['2', header, *rows]})
  with pytest.raises(InputError, match='line 3, variation_type.*1, 2, 3, 4, 5'):
    list(coarse.read_annotations(tmp_path))


def test_positions_within_the_tolerances_pass(tmp_path):
  # Two pixels for boxes; a tenth of 60 pixels for landmarks.
  files = edited(BOXES, 4, f'{B} -2 -2 62 42')
  files[LANDMARKS][3] = f'{B} 2 0 -6 -6 1 66 46 0 1 1 2 0 0'
  folder = write_folder(tmp_path, files)
  rows = list(coarse.read_annotations(folder))
  np.testing.assert_array_equal(rows[1].box, [-2, -2, 62, 42])
  np.testing.assert_array_equal(rows[1].landmarks[5], [66, 46])


@pytest.mark.parametrize('name', [BOXES, LANDMARKS, SPLITS, NAMES, ATTRIBUTES])
def test_missing_list_and_text_that_is_none(tmp_path, name):
  folder = write_folder(tmp_path)
  (folder / name).write_bytes(b'3\nimage_name\xff\n')
  with pytest.raises(InputError, match='line 2, text.*UTF-8') as raised:
    list(coarse.read_annotations(folder))
  assert str(folder / name) in str(raised.value)
  (folder / name).unlink()
  with pytest.raises(InputError, match='missing') as raised:
    Deepfashion(manual_dir=folder, data_dir=tmp_path / 'data')
  assert str(folder / name) in str(raised.value)


def test_missing_folder(tmp_path):
  with pytest.raises(InputError, match='no such folder') as raised:
    Deepfashion(manual_dir=tmp_path / 'nope', data_dir=tmp_path)
  assert str(tmp_path / 'nope') in str(raised.value)


def png(path):
  Image.new('RGB', (60, 40)).save(path, format='PNG')


def cut(path):
  path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
  'damage, word',
  [
    (Path.unlink, 'missing'),
    (
      lambda path: path.write_text('no image'),
      'is not an image of a kind that Pillow reads, must be JPEG',
    ),
    (
      lambda path: path.write_bytes(b''),
      'is not an image of a kind that Pillow reads, must be JPEG',
    ),
    (png, 'PNG'),
    (cut, 'damaged.*truncated'),
  ],
)
def test_damaged_image_leaves_nothing_prepared(tmp_path, damage, word):
  folder, data = write_folder(tmp_path / 'folder'), tmp_path / 'data'
  damage(folder / 'Img' / B)
  with pytest.raises(InputError, match=word) as raised:
    prepare(folder, data)
  assert f'{folder / SPLITS}, line 4, image_name' in str(raised.value)
  assert str(folder / 'Img' / B) in str(raised.value)
  assert not [path for path in data.rglob('*') if path.is_file()]
  write_folder(folder)  # mended
  assert len(read(prepare(folder, data))) == 3


def test_mistake_in_a_list_leaves_nothing_prepared(tmp_path):
  folder = write_folder(tmp_path / 'f', edited(BOXES, 4, f'{B} 1 2 3 x'))
  with pytest.raises(InputError, match='line 4, y_2'):
    prepare(folder, tmp_path / 'data')
  assert not [p for p in (tmp_path / 'data').rglob('*') if p.is_file()]


def test_corrected_folder_is_prepared_anew(tmp_path):
  folder, data = write_folder(tmp_path / 'folder'), tmp_path / 'data'
  first = prepare(folder, data)
  assert prepare(folder, data).data_dir == first.data_dir
  stale = Deepfashion(manual_dir=folder, data_dir=tmp_path / 'other')
  (folder / BOXES).write_text(
    '\n'.join(edited(BOXES, 4, f'{B} 9 9 20 20')[BOXES])
  )
  with pytest.raises(InputError, match='changed'):
    stale.download_and_prepare(file_format='array_record')
  second = prepare(folder, data)
  np.testing.assert_array_equal(read(second)['val', B]['box'], [9, 9, 20, 20])
  stat = (folder / 'Img' / A).stat()
  os.utime(folder / 'Img' / A, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
  third = prepare(folder, data)
  assert len({b.data_dir for b in (first, second, third)}) == 3
  # For a run, equal records are the same data, whenever they were copied.
  names = [content_id(builder) for builder in (first, second, third)]
  assert names[0] != names[1] == names[2] == content_id(prepare(folder, data))
  # The older ones still stand beside it.
  np.testing.assert_array_equal(read(first)['val', B]['box'], [10, 8, 60, 39])


def test_pickled_source_outlives_the_folder(tmp_path):
  folder = write_folder(tmp_path / 'folder')
  builder = prepare(folder, tmp_path / 'data')
  source = pickle.dumps(builder.as_data_source('val'))
  shutil.rmtree(folder)
  assert pickle.loads(source)[0]['id'].decode() == B


def test_unprepared_builder_pickles(tmp_path):
  folder = write_folder(tmp_path / 'folder')
  builder = Deepfashion(manual_dir=folder, data_dir=tmp_path / 'data')
  assert pickle.loads(pickle.dumps(builder)).data_dir == builder.data_dir


def test_lists_are_read_without_tfds():
  code = (
    'import sys; import fld_jax.datasets.deepfashion.coarse; '
    "sys.exit('tensorflow_datasets' in sys.modules)"
  )
  subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.skipif(not REAL.is_dir(), reason=f'no DeepFashion in {REAL}')
def test_real_folder():
  rows = list(coarse.read_annotations(REAL))
  splits = [row.split for row in rows]
  assert (splits.count('train'), splits.count('val')) == (5000, 1000)
  names = layout.attribute_names(coarse.annotation_paths(REAL))
  assert len(names) == 26 and names[:2] == ['floral', 'graphic']
  # Copied by hand from the lists.
  by_image = {row.id: row for row in rows}
  row = by_image['img/00001.jpg']  # 1 ... 0 144 055 0 157 048 2 000 000 ...
  np.testing.assert_array_equal(row.box, [1, 1, 247, 251])
  np.testing.assert_array_equal(row.visibility, [0, 0, 0, 0, -1, -1, 2, 0])
  np.testing.assert_array_equal(row.landmarks[[3, 7]], [[157, 48], [199, 224]])
  row = by_image['img/00015.jpg']  # 2 2 000 000 2 000 000 0 113 147 2 000 000
  np.testing.assert_array_equal(row.visibility, [-1] * 4 + [2, 2, 0, 2])
  np.testing.assert_array_equal(row.landmarks[5:], [[0, 0], [113, 147], [0, 0]])
  row = by_image['img/05998.jpg']  # 3 0 091 083 0 133 079 0 078 088 ...
  assert (row.clothes_type, row.variation) == (3, 0)
  np.testing.assert_array_equal(row.visibility, [0, 0, 0, 0, 2, 0, 0, 0])
  np.testing.assert_array_equal(
    row.landmarks.astype(int).tolist(),
    [[91, 83], [133, 79], [78, 88], [142, 82]]
    + [[0, 0], [120, 168], [22, 270], [133, 282]],
  )


@pytest.mark.parametrize(
  ('types', 'groups'),
  [
    ((1, 5, 2), ['texture', 'style', 'fabric']),  # of the 1000 attributes
    ((6, 1, 2), ['fit', 'texture', 'sleeve']),  # of the 26
    ((9, 1, 2), ['type 9', 'type 1', 'type 2']),
    ((6, 0, 1), ['type 6', 'type 0', 'type 1']),
  ],
)
def test_groups_of_attributes(tmp_path, types, groups):
  path = tmp_path / 'list_attr_cloth.txt'
  rows = [f'name {i} {code}' for i, code in enumerate(types)]
  text = ['3', 'attribute_name attribute_type', *rows]
  path.write_text('\n'.join(text) + '\n')
  assert layout.attribute_groups({'attribute_names': path}) == groups
  assert layout.attribute_groups({}) == []
