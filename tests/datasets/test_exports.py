"""Exports of labelling tools: whatever their form, the same landmarks."""

import copy
import json
import math
import re
import shutil
import time
from pathlib import Path

import exports
import numpy as np
import pytest
from coco_folders import config_of
from PIL import Image

from fld_jax import schema
from fld_jax.datasets import catalog, prepare
from fld_jax.datasets.coco import layout
from fld_jax.errors import Findings, InputError

CODES = {2: schema.VISIBLE, 1: schema.OCCLUDED, 0: schema.ABSENT}
GARMENTS = exports.garments()


def read(folder, findings=None, **settings):
  """(rows, landmark set) as a preparation reads them."""
  config = config_of(folder, Path(folder).parent / 'records', **settings)
  builder = prepare.make_builder(config)
  rows = list(builder.read(findings or Findings()))
  return rows, catalog.whole_set(config)


def number_of(row) -> int:
  """The garment whose colour the row's photo has."""
  colour = np.asarray(Image.open(row.path).convert('RGB'))[0, 0].tolist()
  (number,) = [g.number for g in GARMENTS if list(g.colour()) == colour]
  return number


def check(rows, landmarks, garments=GARMENTS, splits=True) -> None:
  """Compares rows with the garments that were drawn."""
  assert len(rows) == len(garments)
  found = {number_of(row): row for row in rows}
  assert set(found) == {g.number for g in garments}
  for g in garments:
    row = found[g.number]
    if splits:
      assert row.split == g.split
    x, y, width, height = g.box
    np.testing.assert_allclose(row.box, [x, y, x + width, y + height])
    assert landmarks.types[row.clothes_type] == g.category
    names = ['_'.join(n.split()) for n in exports.LANDMARKS[g.category]]
    expected = np.full(landmarks.num_landmarks, schema.ABSENT)
    for name, (x, y, v) in zip(names, g.marks, strict=True):
      slot = landmarks.names.index(name)
      expected[slot] = CODES[v]
      point = [x, y] if v else [0, 0]
      np.testing.assert_allclose(row.landmarks[slot], point, rtol=1e-6)
    np.testing.assert_array_equal(row.visibility, expected)


def pairs_of(landmarks):
  return {tuple(landmarks.names[slot] for slot in p) for p in landmarks.pairs}


PAIRS = {
  ('left_collar', 'right_collar'),
  ('left_hem', 'right_hem'),
  ('left_waist', 'right_waist'),
}


@pytest.mark.parametrize('tool', {**exports.ONE_FILE, **exports.OF_SPLITS})
def test_tools(tmp_path, tool):
  write = {**exports.ONE_FILE, **exports.OF_SPLITS}[tool]
  write(tmp_path / 'export', GARMENTS)
  findings = Findings()
  rows, landmarks = read(tmp_path / 'export', findings)
  check(rows, landmarks, splits=tool in exports.OF_SPLITS)
  assert findings.left_out == exports.LEFT_OUT.get(tool, {})
  assert pairs_of(landmarks) == PAIRS
  of_type = {landmarks.types[c]: slots for c, slots in landmarks.slots.items()}
  assert of_type == {
    name: tuple(landmarks.names.index('_'.join(n.split())) for n in names)
    for name, names in exports.LANDMARKS.items()
  }
  assert {row.split for row in rows} == {'train', 'val'}
  config = config_of(tmp_path / 'export', tmp_path / 'records')
  lines = ' '.join(prepare.make_builder(config).about())
  if tool in exports.ONE_FILE:
    assert 'is the only file: 20%' in lines
  else:
    assert ' is val' in lines and 'only file' not in lines


@pytest.mark.parametrize('tool', exports.ONE_FILE)
def test_one_file_is_given_by_itself(tmp_path, tool):
  """--manual_dir=export.json, or the setting that a message would name."""
  if tool == 'CVAT, photos elsewhere':
    pytest.skip('they do not lie beside the file')
  folder = tmp_path / 'export'
  exports.ONE_FILE[tool](folder, GARMENTS)
  (path,) = [p for p in folder.rglob('*.json') if 'photos' not in str(p)]
  name = str(path.relative_to(folder))
  named, landmarks = read(folder, annotations=name)
  check(named, landmarks, splits=False)
  if '/' not in name:
    alone, landmarks = read(path)
    check(alone, landmarks, splits=False)
    assert [(r.id, r.split) for r in alone] == [(r.id, r.split) for r in named]


def test_the_share_of_val(tmp_path):
  """A fixed one by hash: more photos change no other's split."""
  names = [f'{i}.jpg' for i in range(2000)]
  chosen = layout.val_images(names)
  assert 0.17 < len(chosen) / len(names) < 0.23
  assert layout.val_images(names[:900]) == chosen & {*names[:900]}
  assert layout.val_images(reversed(names)) == chosen
  assert not layout.val_images(['a.jpg'])
  for count in range(2, 12):
    assert 0 < len(layout.val_images(names[:count])) < count


# What is done to a file and changes nothing.

Document = dict


def each(data: Document, lists: str, change) -> None:
  for entry in data[lists]:
    change(entry)


def as_text(value):
  """All numbers of a value as text."""
  if isinstance(value, list):
    return [as_text(entry) for entry in value]
  return str(value) if isinstance(value, int | float) else value


def as_float(value):
  if isinstance(value, list):
    return [as_float(entry) for entry in value]
  return float(value) if isinstance(value, int) else value


def every_number(convert):
  def change(data):
    for lists in ('images', 'annotations', 'categories'):
      for entry in data[lists]:
        for key, value in entry.items():
          if key not in ('keypoints', 'skeleton') or lists == 'annotations':
            entry[key] = convert(value)

  return change


def unlabelled(x, y, v=0):
  """Writes other values where v is 0."""

  def change(data):
    for entry in data['annotations']:
      marks = entry['keypoints']
      for i in range(0, len(marks), 3):
        if not marks[i + 2]:
          marks[i : i + 3] = [x, y, v]

  return change


def setting(lists: str, **fields):
  return lambda data: each(data, lists, lambda entry: entry.update(fields))


def without(lists: str, *fields: str):
  def change(data):
    each(data, lists, lambda entry: [entry.pop(f, None) for f in fields])

  return change


def names(convert):
  def change(data):
    each(
      data,
      'images',
      lambda entry: entry.update(file_name=convert(entry['file_name'])),
    )

  return change


def other_order(data):
  data['categories'].reverse()


def ids_mixed(data):
  for i, entry in enumerate(data['annotations']):
    entry['image_id'] = (str, float, lambda x: f'{x}.0')[i % 3](
      entry['image_id']
    )
    entry['category_id'] = (float, str)[i % 2](entry['category_id'])


def more_objects(data):
  """Objects that have no landmarks, in all forms."""
  first = data['annotations'][0]
  bare = {k: v for k, v in first.items() if 'keypoints' not in k}
  count = len(first['keypoints'])
  forms = [
    bare,
    {**bare, 'keypoints': None},
    {**bare, 'keypoints': []},
    {**bare, 'keypoints': [0] * count, 'bbox': [0, 0, 0, 0]},
    {**bare, 'keypoints': [None] * count},
    {**bare, 'keypoints': [math.nan] * count},
    {**bare, 'bbox': None},
  ]
  for i, form in enumerate(forms):
    data['annotations'].append({**form, 'id': 900 + i})


SAME = {
  'numbers as text': every_number(as_text),
  'whole numbers as fractions': every_number(as_float),
  'v as text': lambda data: each(
    data,
    'annotations',
    lambda entry: entry.update(
      keypoints=[
        f'{int(v)}' if i % 3 == 2 else v
        for i, v in enumerate(entry['keypoints'])
      ]
    ),
  ),
  'NaN where v is 0': unlabelled(math.nan, math.nan),
  'null where v is 0': unlabelled(None, None),
  'all null': unlabelled(None, None, None),
  'all NaN': unlabelled(math.nan, math.nan, math.nan),
  'anything where v is 0': unlabelled(-1, 1e30),
  'iscrowd null': setting('annotations', iscrowd=None),
  'iscrowd NaN': setting('annotations', iscrowd=math.nan),
  'iscrowd false': setting('annotations', iscrowd=False),
  'iscrowd as text': setting('annotations', iscrowd='0'),
  'iscrowd absent': without('annotations', 'iscrowd'),
  'only what is needed': without(
    'annotations', 'iscrowd', 'area', 'segmentation', 'num_keypoints', 'id'
  ),
  'ids of several types': ids_mixed,
  'sizes absent': without('images', 'width', 'height'),
  'sizes 0': setting('images', width=0, height=0),
  'sizes null': setting('images', width=None, height=None),
  'sizes NaN': setting('images', width=math.nan, height=math.nan),
  'sizes as text': setting('images', width='60', height='80'),
  'sizes as fractions': setting('images', width=60.0, height=80.0),
  'sizes as empty text': setting('images', width='', height=''),
  'a backslash': names(lambda name: f'images\\{name}'),
  'a path of Windows': names(lambda name: f'C:\\Users\\Ann\\images\\{name}'),
  'an address': names(lambda name: f'https://shop.example/a%20b/{name}?w=90#x'),
  'an address of a file': names(lambda name: f'file:///home/ann/x/{name}'),
  'a path of another machine': names(lambda name: f'/home/ann/photos/{name}'),
  'a folder above': names(lambda name: f'../images/{name}'),
  'folders above': names(lambda name: f'../../upload/1/{name}'),
  'a dot': names(lambda name: f'./{name}'),
  'other letters': names(str.upper),
  'the order of the categories': other_order,
  'a category without objects': lambda data: data['categories'].append(
    {'id': 77, 'name': 'none', 'keypoints': []}
  ),
  'a strange skeleton': setting('categories', skeleton='none'),
  'a skeleton of names': setting('categories', skeleton=[['left', 'right']]),
  'objects without landmarks': more_objects,
}


@pytest.mark.parametrize('kind', SAME)
def test_what_tools_write_otherwise(tmp_path, kind):
  folder = tmp_path / 'export'
  exports.own(folder, GARMENTS)
  for split in ('train', 'val'):
    path = folder / f'annotations/{split}.json'
    data = json.loads(path.read_text())
    SAME[kind](data)
    path.write_text(json.dumps(data))
  findings = Findings()
  rows, landmarks = read(folder, findings)
  check(rows, landmarks)
  left_out = {'no labelled landmark': 14} if kind.startswith('objects') else {}
  assert findings.left_out == left_out


ENCODED = {
  'blanks': ('a photo {i}.png', 'a%20photo%20{i}.png'),
  'letters': ('größe é {i}.png', 'gr%C3%B6%C3%9Fe%20%C3%A9%20{i}.png'),
  'a sign': ('bild #{i} (1)?.png', 'bild #{i} (1)?.png'),
  'a percent sign': ('50%25 {i}.png', '50%25 {i}.png'),
  'parts of letters': ('e\u0301t\u00e9 {i}.png', '\u00e9te\u0301 {i}.png'),
}


@pytest.mark.parametrize('kind', ENCODED)
def test_names_of_files(tmp_path, kind):
  """As it stands first; then decoded."""
  folder = tmp_path / 'export'
  exports.own(folder, GARMENTS)
  there, written = ENCODED[kind]
  for split in ('train', 'val'):
    path = folder / f'annotations/{split}.json'
    data = json.loads(path.read_text())
    for image in data['images']:
      i = image['file_name'][5:7]
      source = folder / 'images' / image['file_name']
      source.rename(folder / 'images' / there.format(i=i))
      image['file_name'] = written.format(i=i)
    path.write_text(json.dumps(data))
  check(*read(folder))


BOXES = {
  'absent': KeyError,
  'null': None,
  'empty': [],
  'zeros': [0, 0, 0, 0],
  'zeros as text': ['0', '0', '0', '0'],
  'a place without area': [12, 13, 0, 0],
  'all null': [None] * 4,
  'all NaN': [math.nan] * 4,
}


@pytest.mark.parametrize('kind', BOXES)
def test_objects_without_a_box(tmp_path, kind):
  """It is drawn around the labelled landmarks, with a margin, and counted."""
  folder = tmp_path / 'export'
  exports.own(folder, GARMENTS)
  path = folder / 'annotations/train.json'
  data = json.loads(path.read_text())
  for entry in data['annotations']:
    entry['bbox'] = BOXES[kind]
    if BOXES[kind] is KeyError:
      del entry['bbox']
  path.write_text(json.dumps(data))
  findings = Findings()
  rows, _ = read(folder, findings)
  train = exports.of_split(GARMENTS, 'train')
  (note,) = [what for what in findings.notes if 'without a box' in what]
  assert findings.notes[note] == len(train)
  for row in rows:
    if row.split == 'train':
      points = row.landmarks[schema.has_position(row.visibility)]
      low, high = points.min(axis=0), points.max(axis=0)
      sides = [exports.WIDTH, exports.HEIGHT]
      assert (row.box[:2] < low).all() and (row.box[2:] > high).all()
      assert (row.box[:2] >= 0).all() and (row.box[2:] <= sides).all()
      room = 0.2 * max((high - low).max(), 0.1 * max(sides))
      assert (low - row.box[:2] <= room + 1e-4).all()


# Categories.


def test_a_category_that_val_lacks(tmp_path):
  folder = tmp_path / 'export'
  kept = [g for g in GARMENTS if (g.split, g.category) != ('val', 'trousers')]
  exports.own(folder, kept)
  path = folder / 'annotations/val.json'
  data = json.loads(path.read_text())
  data['categories'] = [c for c in data['categories'] if c['name'] == 'shirt']
  path.write_text(json.dumps(data))
  check(*read(folder), kept)


def test_categories_with_other_ids_in_val(tmp_path):
  folder = tmp_path / 'export'
  exports.own(folder, GARMENTS)
  path = folder / 'annotations/val.json'
  data = json.loads(path.read_text())
  swap = {1: 2, 2: 1}
  for category in data['categories']:
    category['id'] = swap[category['id']]
    # Another order of the same landmarks.
    category['keypoints'].reverse()
  data['categories'].reverse()
  for entry in data['annotations']:
    entry['category_id'] = swap[entry['category_id']]
    triples = np.reshape(entry['keypoints'], (-1, 3))
    entry['keypoints'] = triples[::-1].ravel().tolist()
  path.write_text(json.dumps(data))
  check(*read(folder))


def one_category(names, count=12):
  """A file of one category, and garments that have its landmarks."""
  found = [g for g in exports.garments() if g.category == 'shirt']
  data = exports.document(found)
  data['categories'] = [{'id': 1, 'name': 'shirt', 'keypoints': names}]
  return found, data


def test_categories_with_the_same_landmarks(tmp_path):
  found, data = one_category(exports.LANDMARKS['shirt'])
  data['categories'].append({**data['categories'][0], 'id': 2, 'name': 'coat'})
  for entry in data['annotations'][::2]:
    entry['category_id'] = 2
  exports.save(tmp_path / 'x/result.json', data)
  for g in found:
    g.paint(tmp_path / 'x/images' / g.name)
  rows, landmarks = read(tmp_path / 'x')
  assert landmarks.types == {1: 'shirt', 2: 'coat'} and not landmarks.slots
  assert len(landmarks.names) == 4
  kinds = [landmarks.types[row.clothes_type] for row in rows]
  assert kinds == ['coat', 'shirt'] * (len(rows) // 2)


def test_one_name_with_other_landmarks_in_val_is_refused(tmp_path):
  exports.own(tmp_path / 'x', GARMENTS)
  path = tmp_path / 'x/annotations/val.json'
  data = json.loads(path.read_text())
  data['categories'][0]['keypoints'][0] = 'middle collar'
  path.write_text(json.dumps(data))
  with pytest.raises(InputError) as raised:
    read(tmp_path / 'x')
  message = str(raised.value)
  assert message.startswith(f'{path}, categories, keypoints')
  for word in ("'shirt'", 'train.json', 'left_collar', 'middle_collar'):
    assert word in message


def test_an_object_whose_category_names_no_landmarks_is_told(tmp_path):
  exports.own(tmp_path / 'x', GARMENTS)
  path = tmp_path / 'x/annotations/train.json'
  data = json.loads(path.read_text())
  del data['categories'][0]['keypoints']
  path.write_text(json.dumps(data))
  findings = Findings()
  rows, _ = read(tmp_path / 'x', findings)
  shirts = [g for g in exports.of_split(GARMENTS, 'train') if g.number % 2 == 0]
  assert len(rows) == len(GARMENTS) - len(shirts)
  reason = 'with landmarks, and of a category that does not name them'
  assert findings.left_out == {reason: len(shirts)}


WRITINGS = [
  ('Left collar', 'Right collar', 'Left hem', 'Right hem'),
  ('leftCollar', 'rightCollar', 'leftHem', 'rightHem'),
  ('LEFT-COLLAR', 'RIGHT-COLLAR', 'LEFT-HEM', 'RIGHT-HEM'),
  ('l_collar', 'r_collar', 'l_hem', 'r_hem'),
  ('collarL', 'collarR', 'hemL', 'hemR'),
  ('左领', '右领', '左下摆', '右下摆'),
]


@pytest.mark.parametrize('names', WRITINGS, ids=lambda names: names[0])
def test_writings_of_sides(tmp_path, names):
  found, data = one_category(list(names))
  exports.save(tmp_path / 'x/labels.json', data)
  for g in found:
    g.paint(tmp_path / 'x/data' / g.name)
  _, landmarks = read(tmp_path / 'x')
  assert landmarks.flip.tolist() == [1, 0, 3, 2]
  assert landmarks.sides == ('left', 'right', 'left', 'right')


def test_two_categories_in_two_writings_keep_their_pairs(tmp_path):
  """Names that differ in their writing alone stand for two landmarks."""
  found, data = one_category(list(WRITINGS[0]))
  data['categories'].append({'id': 2, 'name': 'b', 'keypoints': WRITINGS[1]})
  exports.save(tmp_path / 'x/labels.json', data)
  for g in found:
    g.paint(tmp_path / 'x/data' / g.name)
  _, landmarks = read(tmp_path / 'x')
  assert landmarks.flip.tolist() == [1, 0, 3, 2, 5, 4, 7, 6]


def test_declared_pairs_of_names_that_tell_one_side_only(tmp_path):
  """The remedy that the refusal names works."""
  found, data = one_category(['left collar', 'right collar', 'left logo', 'x'])
  exports.save(tmp_path / 'x/labels.json', data)
  for g in found:
    g.paint(tmp_path / 'x/data' / g.name)
  with pytest.raises(InputError, match="'left_logo' has no partner") as raised:
    read(tmp_path / 'x')
  value = re.search(r'--config\.dataset\.swaps=(\S+)', str(raised.value))
  rows, landmarks = read(tmp_path / 'x', swaps=value.group(1))
  assert landmarks.flip.tolist() == [1, 0, 2, 3] and len(rows) == len(found)
  _, landmarks = read(tmp_path / 'x', swaps='left logo:x')
  assert landmarks.flip.tolist() == [0, 1, 3, 2]


# Where files lie.


@pytest.mark.parametrize('word', ['val', 'valid', 'validation', 'dev', 'Valid'])
@pytest.mark.parametrize('form', ['{}/_annotations.coco.json', 'a/{}.json'])
def test_words_for_val(tmp_path, word, form):
  folder = tmp_path / 'x'
  for split, name in (('train', 'train'), ('val', word)):
    part = exports.of_split(GARMENTS, split)
    exports.save(folder / form.format(name), exports.document(part))
    for g in part:
      g.paint(folder / name / g.name)
  check(*read(folder))
  check(*read(folder, annotations=form.format('{split}'), images='{split}'))


def test_val_and_valid_are_refused(tmp_path):
  folder = tmp_path / 'x'
  exports.roboflow(folder, GARMENTS)
  shutil.copytree(folder / 'valid', folder / 'val')
  for settings in ({}, {'annotations': '{split}/_annotations.coco.json'}):
    with pytest.raises(InputError, match='of val|for val') as raised:
      read(folder, **settings)
    assert 'val/_ann' in str(raised.value) and 'valid/' in str(raised.value)


def test_val_elsewhere_is_no_part_of_train(tmp_path):
  """A lone train.json, and a file of val that the settings do not name."""
  folder = tmp_path / 'x'
  exports.own(folder, GARMENTS)
  (folder / 'annotations/val.json').rename(folder / 'labels_valid.json')
  check(*read(folder))


def test_a_file_that_is_not_used_is_told(tmp_path):
  folder = tmp_path / 'x'
  exports.cvat_subsets(folder, GARMENTS)
  extra = folder / 'annotations/person_keypoints_extra.json'
  exports.save(extra, exports.document(GARMENTS))
  check(*read(folder))
  builder = prepare.make_builder(config_of(folder, tmp_path / 'records'))
  assert any('extra.json is not used' in line for line in builder.about())


def test_two_candidates_are_refused_with_a_setting_that_works(tmp_path):
  folder = tmp_path / 'x'
  exports.fiftyone(folder, GARMENTS)
  exports.save(folder / 'second.json', exports.document(GARMENTS))
  with pytest.raises(InputError, match='could all be the file') as raised:
    read(folder)
  assert raised.value.kind == 'missing'
  (value,) = re.findall(
    r"--config.dataset.annotations='(.+?)'", str(raised.value)
  )
  check(*read(folder, annotations=value), splits=False)


def test_two_candidates_of_splits(tmp_path):
  folder = tmp_path / 'x'
  exports.mmpose(folder, GARMENTS)
  for split in ('train', 'val'):
    part = exports.of_split(GARMENTS, split)
    exports.save(folder / f'other/{split}_2.json', exports.document(part))
  with pytest.raises(InputError, match='could all be the file') as raised:
    read(folder)
  assert raised.value.kind == 'missing'
  (value,) = re.findall(
    r"--config.dataset.annotations='(.+?)'", str(raised.value)
  )
  assert '{split}' in value
  check(*read(folder, annotations=value))


def test_a_setting_that_leads_nowhere_is_refused_with_one_that_works(tmp_path):
  folder = tmp_path / 'x'
  exports.fiftyone(folder, GARMENTS)
  with pytest.raises(
    InputError, match="annotations is 'lables.json'"
  ) as raised:
    read(folder, annotations='lables.json')
  (value,) = re.findall(r'for example (\S+\.json)', str(raised.value))
  check(*read(folder, annotations=value), splits=False)


@pytest.mark.parametrize('name', ['export.zip', 'export.tar.gz', 'export.tgz'])
def test_archives_are_to_be_unpacked(tmp_path, name):
  (tmp_path / 'x').mkdir()
  (tmp_path / 'x' / name).write_bytes(b'PK\x03\x04')
  with pytest.raises(InputError, match=f'{name}: is an archive.* unpack it'):
    read(tmp_path / 'x' / name)
  with pytest.raises(InputError, match=f'{name} is an archive: unpack it'):
    read(tmp_path / 'x')


def test_damaged_files_are_named(tmp_path):
  folder = tmp_path / 'x'
  exports.fiftyone(folder, GARMENTS)
  path = folder / 'labels.json'
  for text in (path.read_text()[:-30], ''):
    path.write_text(text)
    with pytest.raises(InputError, match=f'^{path}, line 1, .* is not valid'):
      read(folder)


def test_no_landmarks_anywhere(tmp_path):
  folder = tmp_path / 'x'
  data = exports.document(GARMENTS)
  for category in data['categories']:
    del category['keypoints']
  exports.save(folder / 'labels.json', data)
  with pytest.raises(InputError, match='categories that have keypoints'):
    read(folder)
  with pytest.raises(InputError, match='categories: none has keypoints'):
    read(folder, annotations='labels.json')


@pytest.mark.parametrize('name', ['result.json', 'annotations/all.json'])
def test_thousands_of_other_files_stay_quick(tmp_path, name):
  folder = tmp_path / 'x'
  exports.save(folder / name, exports.document(GARMENTS))
  shape = {'version': '5.0', 'shapes': [], 'imageData': 'A' * 3000}
  for i in range(4000):
    (folder / f'label_{i}.json').write_text(json.dumps(shape))
  for g in GARMENTS:
    g.paint(folder / g.name)
  start = time.process_time()
  check(*read(folder), splits=False)
  assert time.process_time() - start < 5


# Photos of one name.


def other_colour(path: Path) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  size = exports.WIDTH, exports.HEIGHT
  Image.new('RGB', size, 'white').save(path)


def numbered(folder: Path, place: str, prefix: str = ''):
  """Both splits number their photos from 1 on; each has its own folder."""
  for split in ('train', 'val'):
    part = exports.of_split(GARMENTS, split)
    data = exports.document(part)
    for i, (g, image) in enumerate(zip(part, data['images'], strict=True)):
      image['file_name'] = prefix.format(split=split) + f'{i:04d}.png'
      g.paint(folder / place.format(split=split) / f'{i:04d}.png')
    exports.save(folder / f'annotations/{split}.json', data)


NUMBERED = [
  ('images/{split}', ''),
  ('images/{split}', '{split}/'),
  ('images/{split}', 'images/{split}/'),
  ('images/{split}', '/home/ann/{split}/'),
  ('images/{split}', '/home/ann/photos/'),
  ('images/{split}', 'C:\\{split}\\'),
  ('{split}', ''),
  ('{split}', '../{split}/'),
  ('{split}/images', 'https://shop.example/'),
  ('data/{split}', '{split}/'),
]


@pytest.mark.parametrize('place, prefix', NUMBERED)
def test_splits_that_number_alike(tmp_path, place, prefix):
  numbered(tmp_path / 'x', place, prefix)
  check(*read(tmp_path / 'x'))


@pytest.mark.parametrize('place, prefix', NUMBERED)
def test_a_missing_photo_is_never_another_one(tmp_path, place, prefix):
  """One of val's is missing; train has one of that name."""
  folder = tmp_path / 'x'
  numbered(folder, place, prefix)
  (folder / place.format(split='val') / '0001.png').unlink()
  with pytest.raises(InputError, match='0001.png') as raised:
    read(folder)
  assert raised.value.kind == 'image' and 'val.json' in str(raised.value)


def test_photos_of_two_folders_in_one(tmp_path):
  """Two batches number alike, and somebody put all photos in one folder."""
  folder = tmp_path / 'x'
  data = exports.document(GARMENTS)
  for i, image in enumerate(data['images']):
    image['file_name'] = f'batch{i % 2}/{i // 2:04d}.png'
    GARMENTS[i].paint(folder / 'images' / f'{i // 2:04d}.png')
  exports.save(folder / 'result.json', data)
  with pytest.raises(InputError, match='batch0/0000.png.*batch1/0000.png'):
    read(folder)
  # With their folders, below any other one.
  for i, g in enumerate(GARMENTS):
    g.paint(folder / f'images/batch{i % 2}' / f'{i // 2:04d}.png')
  check(*read(folder), splits=False)
  shutil.move(folder / 'images', folder / 'kept')
  with pytest.raises(InputError, match='is missing'):
    read(folder)  # three files of each name
  check(*read(folder, images='kept'), splits=False)


@pytest.mark.parametrize('tool', ['FiftyOne', 'CVAT, one subset', 'Roboflow'])
def test_a_photo_in_two_folders(tmp_path, tool):
  """Equal files are one; where they differ a setting is asked for."""
  folder = tmp_path / 'x'
  {**exports.ONE_FILE, **exports.OF_SPLITS}[tool](folder, GARMENTS)
  splits = tool == 'Roboflow'
  for path in sorted(folder.rglob('*.png')):
    (folder / 'images').mkdir(exist_ok=True)
    shutil.copy(path, folder / 'images' / path.name)
  check(*read(folder), splits=splits)
  for path in sorted((folder / 'images').glob('*.png')):
    other_colour(path)
  with pytest.raises(InputError, match='and they differ') as raised:
    read(folder)
  values = re.search(r'images=(\S+) or (\S+)$', str(raised.value)).groups()
  wrong = [value for value in values if value == 'images/']
  (right,) = {*values} - {*wrong}
  check(*read(folder, images=right), splits=splits)
  rows, _ = read(folder, images=wrong[0])
  assert {np.asarray(Image.open(r.path)).min() for r in rows} == {255}


def test_the_folder_of_the_settings_comes_first(tmp_path):
  folder = tmp_path / 'x'
  exports.own(folder, GARMENTS)
  for g in GARMENTS:
    other_colour(folder / 'images/train' / g.name)
    other_colour(folder / 'data' / g.name)
  check(*read(folder))


def test_photos_of_two_splits_are_told(tmp_path):
  folder = tmp_path / 'x'
  exports.own(folder, GARMENTS)
  path = folder / 'annotations/val.json'
  data = json.loads(path.read_text())
  data['images'][0]['file_name'] = 'photo00.png'
  path.write_text(json.dumps(data))
  findings = Findings()
  read(folder, findings)
  assert findings.notes['images that two splits list'] == 1


def test_guesses_are_told(tmp_path):
  exports.label_studio_uploads(tmp_path / 'x', GARMENTS)
  findings = Findings()
  read(tmp_path / 'x', findings)
  (count,) = [n for what, n in findings.notes.items() if 'last parts' in what]
  assert count == len(GARMENTS)


def test_no_guess_leaves_the_folder(tmp_path):
  """A link to a file elsewhere, found by any way, is refused."""
  folder = tmp_path / 'x'
  exports.own(folder, GARMENTS)
  outside = tmp_path / 'private.png'
  GARMENTS[0].paint(outside)
  for where in ('images', 'images/deep', 'other'):
    for name in ('photo00.png', '/home/ann/photo00.png', f'{outside}'):
      data = exports.document(exports.of_split(GARMENTS, 'train'))
      data['images'][0]['file_name'] = name
      (folder / 'annotations/train.json').write_text(json.dumps(data))
      shutil.rmtree(folder / 'images')
      shutil.rmtree(folder / 'other', ignore_errors=True)
      for g in GARMENTS[1:]:
        g.paint(folder / 'images' / g.name)
      (folder / where).mkdir(exist_ok=True)
      (folder / where / 'photo00.png').symlink_to(outside)
      with pytest.raises(InputError) as raised:
        read(folder)
      assert raised.value.kind == 'image'


def test_copies_of_a_document_are_not_shared():
  """The writers change no list that others use."""
  before = copy.deepcopy(exports.LANDMARKS)
  data = exports.document(GARMENTS)
  data['categories'][0]['keypoints'].clear()
  assert before == exports.LANDMARKS
