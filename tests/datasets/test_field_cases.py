"""What users met elsewhere: each input is taken as its user would want.

Those of training, prediction and scores are tried by the tests of these.
"""

import collections
import json

import numpy as np
import pytest
from coco_folders import config_of
from PIL import Image, ImageOps
from places import SHARED

from fld_jax import schema
from fld_jax.datasets import catalog, prepare
from fld_jax.doctor import examine
from fld_jax.files import images

FOLDER = SHARED / 'field_cases'
SHIRT = (
  ('left_collar', 'right_collar'),
  ('left_sleeve', 'right_sleeve'),
  ('left_hem', 'right_hem'),
)
SPLITS = {'train': 8, 'val': 4}
# Cases that are no files of annotations to train from.
OTHERS = {
  '07a-score-ultralytics',
  '07b-score-own',
  '08-photos',
  '10-pretrained-module',
  '11-alpha',
  '13-boxes',
}


class Case:
  """What is right of an input.

  Attributes:
    pairs: The pairs of names.
    splits: Split -> number of records; None if val is split off.
    total: The number of records.
    left_out: Reason -> number.
    notes: A part of a note -> number.
    settings: Settings that its user gives.
  """

  def __init__(
    self,
    pairs=SHIRT,
    splits=SPLITS,
    total=12,
    left_out=None,
    notes=None,
    **settings,
  ):
    self.pairs, self.splits, self.total = pairs, splits, total
    self.left_out, self.notes = left_out or {}, notes or {}
    self.settings = settings


CASES = {
  '01a-roboflow-category-0': Case(),
  '01c-labelstudio-rectangle': Case(
    left_out={'of a category without landmarks': 12}
  ),
  '02a-names-Left-Right': Case(
    tuple(tuple(n.capitalize() for n in pair) for pair in SHIRT)
  ),
  '02b-names-leftCollar': Case(
    tuple(
      tuple(a + b.capitalize() for a, b in (n.split('_') for n in pair))
      for pair in SHIRT
    )
  ),
  '03a-exif-silent': Case(notes={'EXIF': 12}),
  '03b-exif-size-as-shown': Case(notes={'EXIF': 12}),
  '04a-split-valid': Case(),
  '04b-cvat-default': Case(splits=None, total=8),
  '04c-only-train': Case(splits=None),
  '05a-object-without-keypoints': Case(left_out={'no labelled landmark': 2}),
  '05c-no-bbox': Case(notes={'without a box': 12}),
  '06-backslash': Case(),
  '09-eight-images': Case(),
  '12a-float-size': Case(),
  '14-two-categories': Case((*SHIRT, ('left_waist', 'right_waist'))),
  '15a-nan-unlabelled': Case(),
}


@pytest.fixture(params=CASES)
def case(request):
  folder = FOLDER / request.param
  if not folder.is_dir():
    pytest.skip(f'{folder} is not here')
  return folder, CASES[request.param]


def documents(folder):
  """The files of annotations, by the order of their names."""
  return [json.loads(p.read_text()) for p in sorted(folder.rglob('*.json'))]


def truth(folder):
  """(last part of the image's name, names, triples) of labelled objects."""
  found = []
  for data in documents(folder):
    names = {c['id']: c.get('keypoints') for c in data['categories']}
    files = {i['id']: i['file_name'] for i in data['images']}
    for entry in data['annotations']:
      if entry.get('keypoints') and names[entry['category_id']]:
        triples = np.reshape(entry['keypoints'], (-1, 3)).astype(float)
        name = files[entry['image_id']].replace('\\', '/').split('/')[-1]
        words = ['_'.join(n.split()) for n in names[entry['category_id']]]
        found.append((name, words, triples, entry.get('bbox')))
  return found


def test_every_input_is_tried():
  if not FOLDER.is_dir():
    pytest.skip(f'{FOLDER} is not here')
  there = {path.name for path in FOLDER.iterdir() if path.is_dir()}
  assert there == {*CASES, *OTHERS}


def test_prepared(case, tmp_path, capsys):
  folder, right = case
  config = config_of(folder, tmp_path, **right.settings)
  found = prepare.prepare(config)
  out = capsys.readouterr().out
  if right.splits:
    assert found['splits'] == right.splits
  else:
    assert set(found['splits']) == {'train', 'val'}
    assert 'is the only file: 20%' in out
  assert sum(found['splits'].values()) == right.total
  assert found['left_out'] == right.left_out
  for words, count in right.notes.items():
    (note,) = [what for what in found['notes'] if words in what]
    assert found['notes'][note] == count and note in out
  landmarks = catalog.whole_set(config)
  pairs = {
    tuple(landmarks.names[slot] for slot in pair) for pair in landmarks.pairs
  }
  assert pairs == {*right.pairs}
  assert all('-'.join(pair) in out for pair in pairs)
  check_records(folder, config, landmarks)


def check_records(folder, config, landmarks):
  """All objects with landmarks, each where it was labelled."""
  builder = prepare.prepared_builder(config)
  records = collections.defaultdict(list)
  for split in builder.info.splits:
    for record in builder.as_data_source(split):
      name = record['id'].decode().rpartition('#')[0].replace('\\', '/')
      records[name.split('/')[-1]].append(record)
  expected = truth(folder)
  assert sorted(records) == sorted({name for name, *_ in expected})
  for name, names, triples, box in expected:
    (record,) = records[name]
    slots = [landmarks.names.index(n) for n in names]
    known = triples[:, 2] > 0
    codes = np.full(landmarks.num_landmarks, schema.ABSENT)
    codes[slots] = np.where(known, 2 - triples[:, 2], schema.ABSENT)
    np.testing.assert_array_equal(record['visibility'], codes)
    np.testing.assert_allclose(
      record['landmarks'][slots][known], triples[known, :2], rtol=1e-6
    )
    if box:
      x, y, width, height = box
      sides = [x, y, x + width, y + height]
      np.testing.assert_allclose(record['box'], sides, rtol=1e-6)


def test_doctor(case, tmp_path):
  folder, right = case
  config = config_of(folder, tmp_path, **right.settings)
  found = examine.examine(config, tmp_path / 'out')
  assert found['counts']['rows'] == right.total
  assert found['counts']['left_out'] == right.left_out
  if right.splits:
    assert found['counts']['splits'] == right.splits
  assert not sum(kind['count'] for kind in found['mistakes'].values())
  text = (tmp_path / 'out/doctor.txt').read_text()
  assert all('-'.join(pair) in text for pair in right.pairs)
  for words in right.notes:
    assert words in text
  # Garments that one program draws look alike, and nothing else is wrong.
  assert not found['sides']['no_pairs'] and not found['sides']['mirror_images']
  assert not sum(check['count'] for check in found['overlaps'].values())


@pytest.mark.parametrize('name', ['03a-exif-silent', '03b-exif-size-as-shown'])
def test_turned_photos_are_upright(tmp_path, name):
  """Landmarks lie on the edge of the garment that the record's photo shows."""
  folder = FOLDER / name
  if not folder.is_dir():
    pytest.skip(f'{folder} is not here')
  builder = prepare.prepared_builder(config_of(folder, tmp_path))
  raw = {'image': prepare.tfds.decode.SkipDecoding()}
  off = []
  for record in builder.as_data_source('train', decoders=raw):
    picture = images.decode(record['image'])
    file = record['id'].decode().rpartition('#')[0]
    with Image.open(folder / 'images' / file) as image:
      assert image.getexif()[274] == 6
      upright = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
    np.testing.assert_array_equal(picture, upright)
    ground = picture[2, 2].astype(int)
    garment = np.abs(picture.astype(int) - ground).sum(axis=-1) > 60
    x1, y1, x2, y2 = record['box']
    rows, columns = (
      np.flatnonzero(garment.any(1)),
      np.flatnonzero(garment.any(0)),
    )
    drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    off.append(np.abs(np.subtract(drawn, [x1, y1, x2, y2])).max())
  assert np.median(off) < 6, off


def test_two_categories_have_their_own_slots(tmp_path):
  folder = FOLDER / '14-two-categories'
  if not folder.is_dir():
    pytest.skip(f'{folder} is not here')
  landmarks = catalog.whole_set(config_of(folder, tmp_path))
  assert landmarks.types == {1: 'shirt', 2: 'trousers'}
  words = lambda code: [landmarks.names[slot] for slot in landmarks.slots[code]]
  assert words(1) == [name for pair in SHIRT for name in pair]
  assert words(2) == ['left_waist', 'right_waist', 'left_hem', 'right_hem']
  assert landmarks.num_landmarks == 8
