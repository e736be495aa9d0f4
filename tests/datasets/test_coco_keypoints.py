"""COCO-style files: read as their format says, or refused with the place."""

import copy
import functools
import json

import numpy as np
import pytest
from coco_folders import LAYOUT, NAMES, config_of, document, write
from places import SHARED

from fld_jax import experiment, landmark_sets, schema
from fld_jax.configs import pcloss
from fld_jax.datasets.catalog import landmark_set
from fld_jax.datasets.coco import folder as coco_folder
from fld_jax.datasets.coco import layout
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import Findings, InputError

LOOKS_AT_FIGURES = True  # at the overlays


@pytest.fixture
def folder(tmp_path):
  write(tmp_path, {'train': document('train'), 'val': document('val')})
  return tmp_path


def test_rows(folder):
  findings = Findings()
  rows = list(coco_folder.read(folder, *LAYOUT, findings, ('train',)))
  assert not findings.left_out and len(rows) == 4
  assert [row.id for row in rows[:3]] == [
    'train/0.png#100',
    'train/1.png#110',
    'train/1.png#111',
  ]
  triples = np.reshape(document('train')['annotations'][2]['keypoints'], (5, 3))
  np.testing.assert_allclose(rows[2].box, [2.5, 3, 42.5, 34])
  np.testing.assert_array_equal(
    rows[2].visibility,
    [schema.VISIBLE, schema.OCCLUDED, schema.ABSENT] + [schema.VISIBLE] * 2,
  )
  labelled = [0, 1, 3, 4]
  np.testing.assert_allclose(
    rows[2].landmarks[labelled], triples[labelled, :2], rtol=1e-6
  )
  np.testing.assert_array_equal(rows[2].landmarks[2], 0)


def test_sides_that_tools_write_as_fractions(folder):
  data = document('train')
  rows = list(coco_folder.read(folder, *LAYOUT, None, ('train',)))
  data['images'][0] |= {'width': 60.0, 'height': 40.0}
  write(folder, {'train': data})
  again = list(coco_folder.read(folder, *LAYOUT, None, ('train',)))
  assert [row.id for row in again] == [row.id for row in rows]


def test_landmarks_of_a_file(folder):
  landmarks = coco_folder.read_landmark_set(folder, LAYOUT[0])
  assert landmarks.names[:3] == ('left_cup', 'right_cup', 'strap_top')
  assert landmarks.flip.tolist() == [1, 0, 2, 4, 3]
  parts = landmarks.partitions
  assert [part.tolist() for part in parts['skeleton']] == [[0, 2, 3], [1, 2, 4]]
  assert set(parts) == {'whole', 'skeleton'}


def test_swaps_and_parts_of_ones_own(folder):
  data = document('train')
  data['categories'][0] |= {
    'keypoints': ['a', 'b', 'c', 'd', 'e'],
    'swaps': [['a', 'd'], ['b', 'c']],
    'parts': {'inner': [['a', 'b'], ['c', 'd', 'e']]},
  }
  write(folder, {'train': data, 'val': {**document('val'), **{}}})
  (folder / 'annotations/val.json').unlink()
  landmarks = coco_folder.read_landmark_set(folder, LAYOUT[0])
  assert landmarks.flip.tolist() == [3, 2, 1, 0, 4]
  inner = landmarks.partitions['inner']
  assert [part.tolist() for part in inner] == [[0, 1], [2, 3, 4]]


def test_what_is_left_out_is_counted(folder):
  data = document('train')
  data['annotations'][0]['iscrowd'] = 1
  data['annotations'][1]['keypoints'] = [0] * 15
  write(folder, {'train': data})
  findings = Findings()
  rows = list(coco_folder.read(folder, *LAYOUT, findings, ('train',)))
  assert findings.left_out == {'crowd': 1, 'no labelled landmark': 1}
  assert [row.id for row in rows] == ['train/1.png#111', 'train/2.png#120']


def test_records(folder, tmp_path):
  config = config_of(folder, tmp_path / 'data')
  builder = prepared_builder(config)
  source = builder.as_data_source('train')
  rows = list(coco_folder.read(folder, *LAYOUT, None, ('train',)))
  assert len(source) == 4
  found = {record['id'].decode(): record for record in source}
  for row in rows:
    record = found[row.id]
    assert record['image'].shape == (40, 60, 3)
    np.testing.assert_array_equal(record['landmarks'], row.landmarks)
    np.testing.assert_array_equal(record['visibility'], row.visibility)
    np.testing.assert_array_equal(record['box'], row.box)
  names = builder.info.metadata['landmark_names']
  assert tuple(names) == landmark_set(config).names
  before = builder.data_dir
  assert prepared_builder(config).data_dir == before
  data = document('train')
  data['annotations'].pop()
  write(folder, {'train': data})
  changed = prepared_builder(config)
  assert changed.data_dir != before
  assert changed.info.splits['train'].num_examples == 3


def edit(path: str, value):
  """A change of a document: `path` like 'annotations.0.bbox'."""

  def change(data):
    *parents, last = [int(k) if k.isdigit() else k for k in path.split('.')]
    for key in parents:
      data = data[key]
    if value is KeyError:
      del data[last]
    else:
      data[last] = value

  return change


BAD = {
  'no list of images': (edit('images', {}), 'images: is missing or empty'),
  'no categories': (edit('categories', KeyError), 'categories: is missing'),
  'an annotation that is none': (
    edit('annotations.1', 5),
    r'annotations\[1\]: is 5, must be an object',
  ),
  'no image_id': (
    edit('annotations.1.image_id', KeyError),
    r'annotations\[1\], image_id: is missing',
  ),
  'an image that is not there': (
    edit('annotations.1.image_id', 99),
    'annotation 110, image_id: is 99, which is not among the ids of images',
  ),
  'a list for an id': (
    edit('annotations.0.category_id', [7]),
    r'annotation 100, category_id: is \[7\], which is not',
  ),
  'an annotation twice': (
    edit('annotations.1.id', 100),
    'annotation 100, id: stands twice',
  ),
  'an image twice': (
    edit('images.1.id', 10),
    r'images\[1\], id: is 10, which stands twice',
  ),
  'too few numbers': (
    edit('annotations.0.keypoints', [1, 2, 2]),
    'annotation 100, keypoints: is .* of 3, must be a list of 15 numbers',
  ),
  'a word for a number': (
    edit('annotations.0.keypoints.3', '12 px'),
    "annotation 100, keypoints: value 4 is '12 px', must be a finite number",
  ),
  'not a number': (
    edit('annotations.0.keypoints.3', float('nan')),
    'keypoints: value 4 is nan',
  ),
  'an unknown v': (
    edit('annotations.0.keypoints.5', 3),
    'keypoints: v of right_cup is 3, must be 0, 1 or 2',
  ),
  'far outside': (
    edit('annotations.0.keypoints.0', 80),
    'keypoints: left_cup is at 80, .* outside of the image of 60 x 40',
  ),
  'a flat box': (
    edit('annotations.0.bbox.2', 0),
    'annotation 100, bbox: is 0 x 30 pixels',
  ),
  'a box beside the image': (
    edit('annotations.0.bbox.0', 61),
    'bbox: lies outside of the image of 60 x 40',
  ),
  'a crowd of two': (edit('annotations.0.iscrowd', 2), 'iscrowd: is 2'),
  'half a pixel': (
    edit('images.0.width', 60.5),
    r'images\[0\], width: is 60.5, must be a whole number of pixels',
  ),
  'a side that is no number': (
    edit('images.0.height', True),
    r'images\[0\], height: is True, must be a whole number of pixels',
  ),
  'a side without end': (
    edit('images.0.width', float('inf')),
    r'images\[0\], width: is inf, must be a whole number of pixels',
  ),
  'another size': (
    edit('images.0.height', 41),
    'image 10, width and height: are 60 x 41, but .*0.png is 60 x 40',
  ),
  'no such file': (
    edit('images.2.file_name', 'train/no.png'),
    'image 12, file_name: the image file .*no.png is missing',
  ),
  'one name twice': (
    edit('categories.0.keypoints.1', 'left cup'),
    r'categories\[0\], keypoints: are left_cup, left_cup,.* different names',
  ),
  'a side without the other': (
    edit('categories.0.keypoints.1', 'middle'),
    "'left_cup' has no partner 'right_cup'.* Give swaps",
  ),
  'swaps of three': (
    edit('categories.0.swaps', [['left cup', 'right cup', 'strap top']]),
    r'categories\[0\], swaps: must be pairs',
  ),
  'parts of strangers': (
    edit('categories.0.parts', {'x': [['left cup', 'sleeve']]}),
    "parts: has 'sleeve', must be one of left_cup",
  ),
  'ids of one text': (
    lambda data: data['annotations'].insert(
      1, {**data['annotations'][0], 'id': '100'}
    ),
    "annotation '100', id: stands twice",  # 'train/0.png#100' would be
  ),
  'half a character': (
    edit('annotations.0.id', '\ud800'),
    r"annotations\[0\], id: is '\\ud800', must be a whole number or a string",
  ),
  'half a character in a name': (
    edit('categories.0.keypoints.2', 'strap \udc80'),
    r'categories\[0\], keypoints: is .* must be a list of names',
  ),
  'half a character in a file': (
    edit('images.0.file_name', '\ud800.png'),
    r"images\[0\], file_name: is '\\ud800.png', must be the name",
  ),
  'more digits than float has': (
    edit('annotations.0.keypoints.0', 10**400),
    'keypoints: value 1 is 1000.*0000, must be a finite number',
  ),
  'a far box': (
    edit('annotations.0.bbox.2', 4000),
    'bbox: ends at 2.5, 3, 4002.5, 33, beyond the image of 60 x 40',
  ),
  'a deep value': (
    edit(
      'annotations.0.keypoints', functools.reduce(lambda x, _: [x], '2' * 700)
    ),
    r'annotation 100, keypoints: is \[\[\[\.\.\.\]\]\] of 1, must be a list',
  ),
  'an empty part': (
    edit('categories.0.parts', {'x': [['left cup'], []]}),
    "parts: 'x' must be a list of lists",
  ),
  'a name of lines': (
    edit('categories.0.parts', {'x\ny': 5}),
    r"parts: 'x\\ny' must be a list of lists",
  ),
  'other landmarks of one name': (
    lambda data: data['categories'].append(
      {'id': 8, 'name': 'bra', 'keypoints': NAMES[:4]}
    ),
    r"categories\[1\], name: is 'bra' as in another category",
  ),
  'pairs that contradict': (
    lambda data: data['categories'].extend(
      [
        {'id': 8, 'name': 'b', 'keypoints': NAMES, 'swaps': [NAMES[:2]]},
        {'id': 9, 'name': 'c', 'keypoints': NAMES, 'swaps': [NAMES[1:3]]},
      ]
    ),
    "swaps: 'right_cup' changes places with 'left_cup' and with 'strap_top'",
  ),
  'no landmarks at all': (
    edit('categories.0.keypoints', []),
    'categories: none has keypoints, must be the names',
  ),
  'visible at no place': (
    edit('annotations.0.keypoints.0', None),
    'keypoints: value 1 is None, must be a finite number',
  ),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_files(folder, tmp_path, case):
  change, message = BAD[case]
  data = document('train')
  change(data)
  write(folder, {'train': data})
  (folder / 'annotations/val.json').unlink()
  config = config_of(folder, tmp_path / 'data')
  with pytest.raises(InputError, match=message) as raised:
    prepared_builder(config)
  assert str(folder / 'annotations/train.json') in str(raised.value)
  assert not list((tmp_path / 'data').rglob('dataset_info.json'))


@pytest.mark.parametrize(
  'text, message',
  [
    (
      '"id": 7, "id": 8',
      'object of id 8, id: stands twice in one object, must be unique',
    ),
    ('"id": 7, "x": NaN', None),  # Python writes it; nothing reads it
    ('"id": 7, "x": ' + '9' * 5000, None),
    ('"id": ' + '9' * 5000, r'categories\[0\], id: is inf, must be a whole'),
    (
      '"id": 7, "x": ' + '[' * 3000 + ']' * 3000,
      'text: is nested too deeply, must be valid JSON',
    ),
    ('"id": 7, "x": "\xff"', 'line 1, text: is not valid JSON in utf-8'),
    (
      '"id": 7, "x": "\xed\xa0\x80"',
      'line 1, text: is not valid JSON in utf-8',
    ),
  ],
)
def test_json_that_python_reads_otherwise(folder, text, message):
  data = json.dumps(document('train')).replace('"id": 7', text)
  path = folder / 'annotations/train.json'
  path.write_bytes(data.encode('latin-1'))
  if message is None:
    assert len(list(coco_folder.read(folder, *LAYOUT, None, ('train',)))) == 4
    return
  with pytest.raises(InputError, match=message) as raised:
    list(coco_folder.read(folder, *LAYOUT, None, ('train',)))
  assert str(raised.value).startswith(f'{path}, ')
  assert str(raised.value).isprintable()


def test_bad_text_and_folders(folder, tmp_path):
  path = folder / 'annotations/train.json'
  path.write_text('{"images": [\n  {"id": 1,}]}')
  with pytest.raises(InputError, match='train.json, line 2, column 1'):
    coco_folder.read_landmark_set(folder, LAYOUT[0])
  path.write_bytes(b'\xff\xfe\x00')
  with pytest.raises(
    InputError, match='json, line 1, text: is not valid JSON in'
  ):
    coco_folder.read_landmark_set(folder, LAYOUT[0])
  path.write_text('[' * 100_000)
  with pytest.raises(InputError, match='train.json'):
    coco_folder.read_landmark_set(folder, LAYOUT[0])
  with pytest.raises(InputError, match=r"'none.json', and there is no such.*"):
    layout.sources(folder, 'none.json', 'images')
  with pytest.raises(
    InputError,
    match=r'can be obtained at .*cocodataset(.|\n)*annotations/train.json',
  ):
    landmark_set(config_of('', tmp_path))
  write(folder, {'train': document('train'), 'val': document('val')})
  changed = copy.deepcopy(document('val'))
  changed['categories'][0]['keypoints'] = ['strap', *NAMES[1:4], 'left cup']
  write(folder, {'val': changed})
  with pytest.raises(InputError, match="val.json.* those of 'bra' differ"):
    coco_folder.read_landmark_set(folder, LAYOUT[0])
  changed = document('val')
  changed['categories'][0]['swaps'] = [['left_hem', 'right cup']]
  write(folder, {'val': changed})
  landmarks = coco_folder.read_landmark_set(folder, LAYOUT[0])
  assert landmarks.swaps == (('left_hem', 'right_cup'),)
  data = document('train')
  data['categories'][0]['swaps'] = [['left_hem', 'left cup']]
  write(folder, {'train': data})
  with pytest.raises(
    InputError, match='val.json, categories, swaps: .* differ'
  ):
    coco_folder.read_landmark_set(folder, LAYOUT[0])
  write(folder, {'val': document('val')})
  (folder / 'images/val/1.png').write_bytes(b'\x89PNG cut')
  with pytest.raises(InputError, match='image 11, file_name: .*1.png is no'):
    list(coco_folder.read(folder, *LAYOUT, None, ('val',)))


def leaves(value, path=()):
  """Places of everything in a document."""
  if path:
    yield path
  items = {dict: lambda: value.items(), list: lambda: enumerate(value)}
  for key, entry in items.get(type(value), tuple)():
    yield from leaves(entry, (*path, key))


def test_mutated_files_are_read_or_refused(folder):
  """What is read keeps to the format; nothing but an InputError is raised."""
  rng = np.random.default_rng(0)
  strange = (None, -1, 0, 1e300, float('inf'), '', 'x', [], {}, True, [[1]])
  read = refused = 0
  for _ in range(400):
    data = document('train')
    for _ in range(rng.integers(1, 3)):
      places = list(leaves(data))
      *parents, last = places[rng.integers(len(places))]
      at = data
      for key in parents:
        at = at[key]
      if rng.random() < 0.3:
        del at[last]
      else:
        at[last] = copy.deepcopy(strange[rng.integers(len(strange))])
    (folder / 'annotations/train.json').write_text(json.dumps(data))
    try:
      landmarks = coco_folder.read_landmark_set(folder, LAYOUT[0])
      rows = list(coco_folder.read(folder, *LAYOUT, None, ('train',)))
    except InputError as error:
      assert '.json' in str(error)
      refused += 1
      continue
    read += 1
    for row in rows:
      assert row.landmarks.shape == (landmarks.num_landmarks, 2)
      assert np.isfinite(row.landmarks).all() and np.isfinite(row.box).all()
      assert set(row.visibility) <= {-1, 0, 1}
      assert (row.box[2:] > row.box[:2]).all()
  assert read > 20 and refused > 200


@pytest.mark.parametrize(
  'place, layout, splits',
  [
    (
      'coco',
      ('{split}2017/person_keypoints.json', '{split}2017/images'),
      {'train': (28, 17), 'val': (32, 17)},
    ),
    ('coco_style_samples/fld', ('{split}_fld.json', '.'), {'test': (2, 8)}),
  ],
)
def test_real_files(place, layout, splits, tmp_path):
  root = SHARED / place
  if not root.exists():
    pytest.skip(f'{root} is not here')
  names = dict(zip(('annotations', 'images'), layout, strict=True))
  config = config_of(root, tmp_path, **names)
  builder = prepared_builder(config)
  assert set(builder.info.splits) == set(splits)
  for split, (images, landmarks) in splits.items():
    path = root / layout[0].format(split=split)
    truth = json.loads(path.read_text())['annotations']
    kept = {
      f'#{a["id"]}': a
      for a in truth
      if not a['iscrowd'] and any(a['keypoints'][2::3])
    }
    source = builder.as_data_source(split)
    assert len(source) == len(kept)
    names = set()
    for record in source:
      name, _, number = record['id'].decode().rpartition('#')
      names.add(name)
      triples = np.reshape(kept[f'#{number}']['keypoints'], (landmarks, 3))
      known = triples[:, 2] > 0
      np.testing.assert_array_equal(
        record['visibility'], np.where(known, 2 - triples[:, 2], -1)
      )
      np.testing.assert_allclose(
        record['landmarks'][known], triples[known, :2], rtol=1e-6
      )
      x, y, w, h = kept[f'#{number}']['bbox']
      np.testing.assert_allclose(record['box'], [x, y, x + w, y + h], rtol=1e-6)
    assert len(names) <= images
  if place == 'coco':
    assert landmark_set(config).names == landmark_sets.COCO_17.names


def test_trains_and_evaluates_from_one_config(tmp_path):
  """Five landmarks of somebody's own: an epoch of SimpleBaselines."""
  folder = tmp_path / 'mine'
  write(folder, {'train': document('train', 30), 'val': document('val', 7)})
  config = pcloss.get_config('dataset=coco_keypoints,size=small')
  config.dataset.manual_dir = str(folder)
  config.dataset.data_dir = str(tmp_path / 'data')
  config.batch_size = 8
  config.input.size = 32
  config.model.trunk.width = config.model.channels = 8
  config.flip_test = True
  stage = config.stages[0]
  stage.train_epochs, stage.eval_epochs, stage.min_steps = 1.0, 1.0, 0
  results = experiment.run(
    config, tmp_path / 'w', mode='train', splits=('val',)
  )
  assert results['val']['num_examples'] == 8
  errors = results['val']['ne']['per_landmark']
  assert list(errors) == [*('left_cup', 'right_cup', 'strap_top'), *NAMES[3:]]
  assert errors['strap_top'] is None  # never labelled
  assert 0 < errors['left_cup'] < 2
  assert (tmp_path / 'w/eval/val/figures/overlays.png').exists()
