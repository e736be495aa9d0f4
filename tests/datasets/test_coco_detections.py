"""Boxes of a detector instead of annotated ones, from file to predictions."""

import json

import coco_folders
import numpy as np
import pytest
from coco_folders import LAYOUT, config_of
from places import SHARED

from fld_jax import experiment
from fld_jax.configs import pcloss
from fld_jax.datasets.coco import detections
from fld_jax.datasets.coco.folder import (
  Reader,
  read_landmark_set,
  result_ids,
)
from fld_jax.datasets.coco.layout import sources
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import Findings, InputError

PLACE = 'boxes/{split}.json'
# Of val's images 10, 11 and 12, each 60 x 40; 10 has two, 12 none.
FOUND = [
  {'image_id': 10, 'category_id': 7, 'bbox': [1, 2, 30, 20.5], 'score': 0.9},
  {'image_id': 11, 'category_id': 7, 'bbox': [-3, 0, 70, 40], 'score': 0.25},
  {'image_id': 11, 'category_id': 8, 'bbox': [1, 2, 30, 20], 'score': 0.8},
  {'image_id': 10, 'category_id': 7, 'bbox': [5, 5, 10, 10], 'score': 0},
]


@pytest.fixture
def folder(tmp_path):
  documents = {
    split: coco_folders.document(split) for split in ('train', 'val')
  }
  coco_folders.write(tmp_path, documents)
  (tmp_path / 'boxes').mkdir()
  write(tmp_path, FOUND)
  return tmp_path


def write(folder, entries) -> None:
  (folder / 'boxes/val.json').write_text(json.dumps(entries))


def read(folder, findings=None):
  files = detections.detection_files(folder, PLACE)
  (source,) = [one for one in sources(folder, *LAYOUT) if one.split == 'val']
  reader = Reader(source, read_landmark_set(folder, LAYOUT[0]))
  return list(detections.read(reader, files['val'], findings or Findings()))


def test_rows(folder):
  findings = Findings()
  rows = read(folder, findings)
  assert [row.id for row in rows] == ['val/0.png#d0', 'val/1.png#d1'] + [
    'val/0.png#d3'
  ]
  np.testing.assert_array_equal(rows[0].box, [1, 2, 31, 22.5])
  np.testing.assert_array_equal(rows[1].box, [-3, 0, 67, 40])
  np.testing.assert_allclose([row.score for row in rows], [0.9, 0.25, 0])
  assert all((row.visibility == -1).all() for row in rows)
  assert findings.left_out == {'a detection of another category': 1}


def test_only_splits_with_a_file_change(folder, tmp_path):
  plain = prepared_builder(config_of(folder, tmp_path / 'data'))
  builder = prepared_builder(
    config_of(folder, tmp_path / 'data', detections=PLACE)
  )
  assert builder.data_dir != plain.data_dir
  count = lambda b: {k: v.num_examples for k, v in b.info.splits.items()}
  assert count(plain) == {'train': 4, 'val': 4}
  assert count(builder) == {'train': 4, 'val': 3}
  scores = {r['id'].decode(): r['score'] for r in builder.as_data_source('val')}
  assert scores['val/0.png#d0'] == np.float32(0.9)
  assert {r['score'] for r in builder.as_data_source('train')} == {1.0}


MISTAKES = {
  'no list': ({'a': 1}, ['list of detections']),
  'empty': ([], ['list of detections']),
  'no object': ([3], ['detection [0]', 'must be an object']),
  'no score': (
    [{k: v for k, v in FOUND[0].items() if k != 'score'}],
    ['detection [0], score', 'missing'],
  ),
  'image': ([FOUND[0], {**FOUND[0], 'image_id': 99}], ['[1], image_id', '99']),
  'score': ([{**FOUND[0], 'score': 1.5}], ['score', '1.5', 'from 0 to 1']),
  'score text': ([{**FOUND[0], 'score': 'x'}], ['score', "'x'", 'finite']),
  'nan': ([{**FOUND[0], 'score': float('nan')}], ['val.json', 'score']),
  'box': ([{**FOUND[0], 'bbox': [1, 2, 0, 4]}], ['bbox', '0 x 4']),
  # A list is no key of a set; and true is equal to 1.
  'category': ([{**FOUND[0], 'category_id': [7]}], ['category_id', '[7]']),
  'fraction': ([{**FOUND[0], 'category_id': 7.5}], ['category_id', '7.5']),
  'truth': ([{**FOUND[0], 'category_id': True}], ['category_id', 'True']),
  'of another category all': (
    [{**FOUND[0], 'category_id': 0}],
    ['category_id', 'no detection is of a category with landmarks', '7'],
  ),
  'outside': ([{**FOUND[0], 'bbox': [61, 2, 5, 4]}], ['bbox', '60 x 40']),
}


AS_TEXT = {
  'image_id': '10',
  'category_id': '7',
  'score': '0.9',
  'bbox': ['1', '2', '30', '20.5'],
}
AS_FRACTION = {'image_id': 10.0, 'category_id': 7.0}


@pytest.mark.parametrize('change', [AS_TEXT, AS_FRACTION])
def test_numbers_in_other_writings(folder, change):
  (expected,) = read(folder)[:1]
  write(folder, [{**FOUND[0], **change}])
  (row,) = read(folder)
  assert (row.id, row.score, row.path) == (expected.id, 0.9, expected.path)
  np.testing.assert_array_equal(row.box, expected.box)


@pytest.mark.parametrize('case', MISTAKES)
def test_mistakes(folder, case):
  entries, words = MISTAKES[case]
  write(folder, entries)
  with pytest.raises(InputError) as raised:
    read(folder)
  assert str(raised.value).startswith(f'{folder}/boxes/val.json')
  for word in words:
    assert word in str(raised.value)


def test_missing_file(folder):
  with pytest.raises(
    InputError, match=r'none/{split}\.json: there is no such file of detections'
  ):
    detections.detection_files(folder, 'none/{split}.json')
  with pytest.raises(InputError, match="detections is 'x.json'.*split"):
    detections.detection_files(folder, 'x.json')


def test_result_ids(folder):
  files = detections.detection_files(folder, PLACE)
  ids = ['val/1.png#110', 'train/0.png#100', 'val/1.png#d1']
  found = result_ids(folder, LAYOUT[0], ids, files)
  assert found == [(11, 7), (10, 7), (11, 7)]


def test_trained_on_annotated_boxes_and_evaluated_on_detected(folder, tmp_path):
  """Results name COCO's images and rank by the detector's and our scores."""
  config = pcloss.get_config(
    'dataset=coco_keypoints,size=small,model=simple_baselines,pcloss=none'
  )
  config.dataset.manual_dir = str(folder)
  config.dataset.data_dir = str(tmp_path / 'data')
  config.dataset.detections = PLACE
  config.dataset.splits = {'train': 'train', 'tune': 'train'}
  config.batch_size = 4
  config.input.size = 32
  config.model.trunk.width, config.model.channels = 8, 8
  stage = config.stages[0]
  stage.train_epochs, stage.eval_epochs, stage.min_steps = 1.0, 1.0, 0
  metrics = experiment.run(
    config, tmp_path / 'w', mode='train', splits=('val',)
  )
  assert metrics['val']['num_examples'] == 3
  assert metrics['val']['ne']['macro'] is None  # there is no truth
  path = tmp_path / 'w/eval/val/predictions.json'
  found = {r['file_name']: r for r in json.loads(path.read_text())}
  assert {k: v['image_id'] for k, v in found.items()} == {
    'val/0.png#d0': 10,
    'val/1.png#d1': 11,
    'val/0.png#d3': 10,
  }
  for name, box_score in (
    ('val/0.png#d0', 0.9),
    ('val/1.png#d1', 0.25),
    ('val/0.png#d3', 0),
  ):
    of_landmarks = found[name]['keypoints'][2::3]
    assert len(of_landmarks) == 5 and all(0 <= s <= 1 for s in of_landmarks)
    expected = box_score * np.mean(of_landmarks)
    np.testing.assert_allclose(found[name]['score'], expected, atol=2e-6)
  assert found['val/0.png#d0']['bbox'] == [1, 2, 30, 20.5]
  assert {r['category_id'] for r in found.values()} == {7}


REAL = SHARED / 'coco_style_samples/coco'


@pytest.mark.skipif(not REAL.is_dir(), reason=f'no COCO samples in {REAL}')
def test_real_detections(tmp_path):
  """The person detections that are passed around, of four images."""
  config = config_of(
    REAL,
    tmp_path,
    annotations='{split}_coco.json',
    images='.',
    detections='{split}_coco_det_AP_H_56.json',
  )
  found = json.loads((REAL / 'test_coco_det_AP_H_56.json').read_text())
  records = prepared_builder(config).as_data_source('test')
  assert len(records) == len(found) == 118
  by_id = {record['id'].decode(): record for record in records}
  record = by_id['000000000785.jpg#d0']
  x, y, width, height = found[0]['bbox']
  np.testing.assert_allclose(record['box'], [x, y, x + width, y + height])
  np.testing.assert_allclose(record['score'], found[0]['score'])
