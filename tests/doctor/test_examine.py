"""The doctor: finds what is planted in a folder, and nothing else."""

import collections
import dataclasses
import io
import json
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from places import ROOT, SHARED

from fld_jax import landmark_sets
from fld_jax.datasets.deepfashion.coarse import read_annotations
from fld_jax.datasets.synthetic import builder
from fld_jax.defaults import base
from fld_jax.doctor import examine as doctor_examine
from fld_jax.doctor import near_duplicates, sides
from fld_jax.errors import InputError

BOXES = 'Anno/list_bbox.txt'
LANDMARKS = 'Anno/list_landmarks.txt'
SPLITS = 'Eval/list_eval_partition.txt'
HEADERS = {
  BOXES: 'image_name x_1 y_1 x_2 y_2',
  LANDMARKS: 'image_name clothes_type landmark_visibility_1 '
  'landmark_location_x_1 landmark_location_y_1',
  SPLITS: 'image_name evaluation_status',
}
NUM = {'train': 60, 'val': 40}


@pytest.fixture(scope='module')
def garments():
  """(split, record) of rendered garments, no two of one item."""
  step = builder.PHOTOS_PER_ITEM
  return [
    (split, builder.example(0, split, step * i))
    for split, count in NUM.items()
    for i in range(count)
  ]


def name(split, i):
  return f'img/{split}/{i:03d}.jpg'


def write(folder, garments):
  """A folder in DeepFashion's layout."""
  lists = {path: [str(len(garments)), head] for path, head in HEADERS.items()}
  seen = collections.Counter()
  for split, record in garments:
    image = name(split, seen[split])
    seen[split] += 1
    path = folder / 'Img' / image
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(record['image'])
    box = ' '.join(f'{x:.3f}' for x in record['box'])
    slots = landmark_sets.FASHION_8.slots[record['clothes_type']]
    codes, points = record['visibility'], record['landmarks']
    marks = ' '.join(
      f'{codes[i]} {points[i, 0]:.3f} {points[i, 1]:.3f}' for i in slots
    )
    lists[BOXES].append(f'{image} {box}')
    lists[LANDMARKS].append(f'{image} {record["clothes_type"]} {marks}')
    lists[SPLITS].append(f'{image} {split}')
  for path, lines in lists.items():
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text('\n'.join(lines) + '\n')
  return folder


def config_of(folder, dataset='deepfashion', **fields):
  config = base(dataset).dataset
  config.update(ConfigDict({'manual_dir': str(folder), **fields}))
  config.data_dir = str(folder / 'nothing goes here')
  return config


def examine(folder, out=None, **fields):
  return doctor_examine.examine(
    config_of(folder, **fields), out or folder / 'out'
  )


def wrong(found):
  """What is not right: check -> how often."""
  counts = {
    **{kind: of['count'] for kind, of in found['mistakes'].items()},
    **{kind: of['count'] for kind, of in found['overlaps'].items()},
    'near': found['near_duplicates']['count'],
    'groups': len(found['sides']['opposite_groups']),
    'pairs': len(found['sides']['opposite_pairs']),
  }
  assert found['ok'] == (not any(counts.values()))
  return {check: count for check, count in counts.items() if count}


def change(path, old, new, line=None):
  """Replaces a piece of text in a file, or in one of its lines, from 1 on."""
  lines = path.read_text().split('\n')
  places = range(len(lines)) if line is None else [line - 1]
  for i in places:
    assert line is None or old in lines[i]
    lines[i] = lines[i].replace(old, new)
  path.write_text('\n'.join(lines))


def edited(path, fields):
  """Changes fields of the row in line 5, given by their place."""

  def plant(folder):
    lines = (folder / path).read_text().split('\n')
    cells = lines[4].split()
    for i, value in fields.items():
      cells[i] = value
    lines[4] = ' '.join(cells)
    (folder / path).write_text('\n'.join(lines))

  return plant


def on_image(act, split='val', i=3):
  return lambda folder: act(folder / 'Img' / name(split, i))


DEFECTS = {
  'columns': ('form', edited(BOXES, {4: ''})),
  'header': ('form', lambda f: change(f / LANDMARKS, 'clothes_type', 'type')),
  'no number': ('form', edited(BOXES, {1: 'x'})),
  'clothes type': ('form', edited(LANDMARKS, {1: '7'})),
  'box': ('box', edited(BOXES, {3: '4000'})),
  'empty box': ('box', edited(BOXES, {1: '20', 3: '10'})),
  'landmark': ('landmark', edited(LANDMARKS, {2: '0', 3: '4000'})),
  'code': ('visibility', edited(LANDMARKS, {2: '3'})),
  'split': ('split', edited(SPLITS, {1: 'dev'})),
  'missing': ('image', on_image(pathlib.Path.unlink)),
  'no image': ('image', on_image(lambda path: path.write_text('no'))),
  'half': (
    'image',
    on_image(lambda path: path.write_bytes(path.read_bytes()[:-900])),
  ),
}


def test_clean_folder(tmp_path, garments, capsys):
  found = examine(write(tmp_path, garments))
  assert wrong(found) == {}
  out = tmp_path / 'out'
  assert sorted(path.name for path in out.iterdir()) == [
    'contact_sheet.png',
    'doctor.json',
    'doctor.txt',
  ]
  assert json.loads((out / 'doctor.json').read_text()) == found
  text = (out / 'doctor.txt').read_text()
  assert text in capsys.readouterr().out and 'ok: nothing is wrong' in text
  counts = found['counts']
  assert counts['rows'] == counts['images'] == len(garments)
  assert counts['splits'] == NUM and list(counts['splits']) == list(NUM)
  types = collections.Counter(r['clothes_type'] for _, r in garments)
  for code, of_type in landmark_sets.CLOTHES_TYPES.items():
    of_splits = counts['clothes_types'].values()
    assert sum(of.get(of_type, 0) for of in of_splits) == types[code]
  assert counts['variations'] == {
    split: {'not known': count} for split, count in NUM.items()
  }
  codes = np.stack([record['visibility'] for _, record in garments])
  for slot, states in enumerate(counts['visibility'].values()):
    assert states == {
      'visible': (codes[:, slot] == 0).sum(),
      'occluded': (codes[:, slot] == 1).sum(),
      'truncated': (codes[:, slot] == 2).sum(),
      'absent': (codes[:, slot] == -1).sum(),
    }
  sheet = cv2.imread(str(out / 'contact_sheet.png'))
  # 24 pictures, six in a line, of 3 types and 2 splits.
  assert sheet.shape[0] > 4 * (288 + 20 + 24) and sheet.shape[1] % 6 == 0


@pytest.mark.parametrize('case', DEFECTS)
def test_one_defect_and_nothing_else(tmp_path, garments, case):
  kind, plant = DEFECTS[case]
  plant(write(tmp_path, garments))
  found = examine(tmp_path)
  assert wrong(found) == {kind: 1}
  (message,) = found['mistakes'][kind]['examples']
  assert str(tmp_path) in message
  assert message in (tmp_path / 'out/doctor.txt').read_text()
  rows = {'header': 0, 'half': len(garments)}.get(case, len(garments) - 1)
  assert found['counts']['rows'] == rows


def test_image_that_stands_twice(tmp_path, garments):
  folder = write(tmp_path, garments)
  with (folder / SPLITS).open('a') as file:
    file.write(f'{name("train", 0)} val\n')
  change(folder / SPLITS, str(len(garments)), str(len(garments) + 1), line=1)
  assert wrong(examine(folder)) == {'split': 1}


def test_many_mistakes_are_counted_and_few_are_kept(tmp_path, garments):
  folder = write(tmp_path, garments)
  change(folder / SPLITS, ' val', ' dev')
  found = examine(folder)
  assert wrong(found) == {'split': NUM['val']}
  examples = found['mistakes']['split']['examples']
  assert (
    len(examples) == doctor_examine.MAX_EXAMPLES and 'line 63' in examples[0]
  )
  assert found['counts']['splits'] == {'train': NUM['train']}


def test_equal_images_of_two_names(tmp_path, garments):
  folder = write(tmp_path, garments)
  encoded = (folder / 'Img' / name('train', 7)).read_bytes()
  for i in (2, 5):
    (folder / 'Img' / name('val', i)).write_bytes(encoded)
  found = examine(folder)
  assert wrong(found) == {'same_bytes': 1}
  assert found['overlaps']['same_bytes']['examples'] == [
    {'train': name('train', 7), 'val': name('val', 2)}
  ]
  # Within a split it is no overlap.
  folder = write(tmp_path, garments)
  (folder / 'Img' / name('train', 6)).write_bytes(encoded)
  assert wrong(examine(folder)) == {}


def test_near_duplicates(tmp_path, garments):
  folder = write(tmp_path, garments)
  image = Image.open(folder / 'Img' / name('train', 7))
  size = [round(0.96 * side) for side in image.size]
  image.resize(size).save(folder / 'Img' / name('val', 3), quality=50)
  # The row must fit the picture that is now there.
  record = {**garments[7][1], 'box': garments[7][1]['box'] * 0.9}
  record['landmarks'] = record['landmarks'] * 0.96
  encoded = (folder / 'Img' / name('val', 3)).read_bytes()
  changed = list(garments)
  changed[NUM['train'] + 3] = ('val', {**record, 'image': encoded})
  found = examine(write(folder, changed))
  assert wrong(found) == {'near': 1}
  near = found['near_duplicates']
  assert near['images'] == sum(near['by_distance']) == 1
  (pair,) = near['pairs']
  assert (pair['train'], pair['other']) == (name('train', 7), name('val', 3))
  assert pair['split'] == 'val'
  assert pair['distance'] <= near_duplicates.MAX_DISTANCE
  sheet = cv2.imread(str(folder / 'out/duplicates.png'))
  assert sheet.shape[0] == 288 + 20 + 24
  # Mended, the picture goes.
  assert wrong(examine(write(folder, garments))) == {}
  assert not (folder / 'out/duplicates.png').exists()


def test_images_of_one_colour_are_no_near_duplicates(tmp_path, garments):
  plain = []
  for i, (split, record) in enumerate(garments):
    height, width = cv2.imdecode(
      np.frombuffer(record['image'], np.uint8), cv2.IMREAD_COLOR
    ).shape[:2]
    image = np.full((height, width, 3), 2 * i, np.uint8)
    encoded = cv2.imencode('.jpg', image)[1].tobytes()
    plain.append((split, {**record, 'image': encoded}))
  found = examine(write(tmp_path, plain))
  assert wrong(found) == {}
  assert found['near_duplicates']['flat_images'] == len(garments)


def swapped(record):
  order = landmark_sets.FASHION_8.flip
  return {
    **record,
    'landmarks': record['landmarks'][order],
    'visibility': record['visibility'][order],
  }


def test_swaps_of_a_split(tmp_path, garments):
  turned = [
    (split, swapped(record) if split == 'val' else record)
    for split, record in garments
  ]
  found = examine(write(tmp_path, turned))
  assert set(wrong(found)) == {'groups'}
  groups = found['sides']['opposite_groups']
  assert {(g['split'], g['type']) for g in groups} == {('val', None)}
  # Not the waist: too few are visible.
  pairs = [part[0].partition('_')[0] for part in (g['pair'] for g in groups)]
  assert {'hem'} <= set(pairs) <= {'collar', 'sleeve', 'waist', 'hem'}
  text = (tmp_path / 'out/doctor.txt').read_text()
  assert 'val: ' in text and 'elsewhere' in text


def test_swaps_of_a_pair(tmp_path, garments):
  hems = np.array([0, 1, 2, 3, 4, 5, 7, 6])
  turned = [
    (split, {**r, **{k: r[k][hems] for k in ('landmarks', 'visibility')}})
    for split, r in garments
  ]
  found = examine(write(tmp_path, turned))
  assert wrong(found) == {'pairs': 1}
  assert found['sides']['opposite_pairs'] == [['hem_left', 'hem_right']]


def test_single_images_the_other_way_round_are_told(tmp_path, garments):
  clean = examine(write(tmp_path, garments))['sides']['opposite_images']
  seen = [
    i
    for i, (_, record) in enumerate(garments[: NUM['train']])
    if record['clothes_type'] == 1 and (record['visibility'] < 1).all()
  ]
  turned = list(garments)
  for i in seen[:3]:
    turned[i] = ('train', swapped(garments[i][1]))
  found = examine(write(tmp_path, turned))
  assert wrong(found) == {}
  opposite = found['sides']['opposite_images']
  assert opposite['count'] == clean['count'] + 3
  assert {name('train', i) for i in seen[:3]} <= set(opposite['examples'])


class Stub:
  """A builder with rows of its own."""

  def __init__(self, rows):
    self.rows = rows

  def landmarks(self):
    return landmark_sets.FASHION_8

  def about(self):
    return []

  def read(self, findings):
    del findings
    yield from self.rows


@pytest.mark.parametrize(
  'splits, expected',
  [
    (('train', 'val'), {'same_item': 1}),
    (('train', 'gallery'), {'same_item': 1}),
    (('query', 'gallery'), {}),
    (('val', 'gallery'), {}),
    (('train', 'train'), {}),
  ],
)
def test_items_of_two_splits(tmp_path, garments, monkeypatch, splits, expected):
  rows = list(read_annotations(write(tmp_path, garments)))
  for i, split in enumerate(splits):
    rows[i] = dataclasses.replace(rows[i], split=split, item_id='id_1')
  monkeypatch.setattr(doctor_examine, 'make_builder', lambda config: Stub(rows))
  found = examine(tmp_path)
  assert wrong(found) == expected
  if expected:
    (example,) = found['overlaps']['same_item']['examples']
    assert list(example.items()) == [
      (split, rows[i].id) for i, split in enumerate(splits)
    ]


def test_files_of_two_splits(tmp_path, garments, monkeypatch):
  rows = list(read_annotations(write(tmp_path, garments)))
  again = [dataclasses.replace(rows[i], split='test', id='b') for i in (1, 0)]
  more = [dataclasses.replace(rows[2], id='c')]  # two garments of one image
  stub = Stub(rows + again + more)
  monkeypatch.setattr(doctor_examine, 'make_builder', lambda config: stub)
  found = examine(tmp_path)
  assert wrong(found) == {'same_file': 2}
  assert found['overlaps']['same_file']['examples'] == [
    {'train': rows[0].id, 'test': 'b'},
    {'train': rows[1].id, 'test': 'b'},
  ]
  assert found['counts']['images'] == len(rows)


def test_reading_that_stops_keeps_what_was_read(tmp_path):
  folder = tmp_path / 'coco'
  (folder / 'annotations').mkdir(parents=True)
  (folder / 'images').mkdir()
  rng = np.random.default_rng(0)
  cv2.imwrite(
    str(folder / 'images/a.png'), rng.integers(0, 255, (40, 60, 3), np.uint8)
  )
  annotation = {
    **{'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [1, 1, 30, 30]},
    'keypoints': [1, 1, 2, 20, 20, 1],
  }
  for split, width in (('train', 60), ('val', -60)):
    data = {
      'images': [{'id': 1, 'file_name': 'a.png', 'width': width, 'height': 40}],
      'categories': [{'id': 1, 'keypoints': ['left cup', 'right cup']}],
      'annotations': [annotation, {**annotation, 'id': 2, 'iscrowd': 1}],
    }
    (folder / f'annotations/{split}.json').write_text(json.dumps(data))
  found = examine(folder, dataset='coco_keypoints')
  assert wrong(found) == {'form': 1}
  assert found['counts']['splits'] == {'train': 1}
  assert found['counts']['left_out'] == {'crowd': 1}
  assert found['counts']['visibility']['right_cup']['occluded'] == 1
  (folder / 'annotations/val.json').write_text('{')
  found = examine(folder, dataset='coco_keypoints')
  assert wrong(found) == {'form': 1} and found['counts']['rows'] == 0
  assert not (folder / 'out/contact_sheet.png').exists()


def test_what_reaches_beyond_the_image_is_told(tmp_path, garments):
  """Within the readers' tolerance: two pixels, and a tenth of the image."""
  folder = write(tmp_path, garments)
  with Image.open(folder / 'Img' / name('val', 3)) as image:
    width, height = image.size
  set_row(folder, BOXES, name('val', 3), f'1 1 {width + 1} {height}')
  clean = examine(folder)
  assert clean['ok'] and clean['beyond']['landmarks']['count'] == 0
  box = clean['beyond']['box']
  assert (box['count'], box['examples']) == (1, [name('val', 3)])
  line = f'2 0 -1 5 2 0 0 0 9 {height} 2 0 0'
  set_row(folder, LANDMARKS, name('train', 7), line)
  landmarks = examine(folder)['beyond']['landmarks']
  assert landmarks['examples'] == [name('train', 7)]


def test_command_line(tmp_path, garments):
  """--mode=doctor; its exit status says whether anything is wrong."""
  folder = write(tmp_path / 'folder', garments)
  command = [sys.executable, '-m', 'fld_jax.main', '--mode=doctor']
  command += ['--dataset=deepfashion', f'--manual_dir={folder}']
  command += [f'--workdir={tmp_path / "w"}']
  run = lambda: subprocess.run(
    command, capture_output=True, text=True, cwd=ROOT
  )
  result = run()
  assert result.returncode == 0, result.stderr
  assert 'ok: nothing is wrong' in result.stdout
  assert json.loads((tmp_path / 'w/doctor.json').read_text())['ok']
  set_row(folder, BOXES, name('val', 3), '1 1 9 x')
  result = run()
  assert result.returncode == 1 and 'not ok' in result.stdout


def set_row(folder, path, image, cells):
  """Puts other cells behind an image's name in a list."""
  lines = (folder / path).read_text().splitlines()
  lines = [f'{image} {cells}' if x.split()[0] == image else x for x in lines]
  (folder / path).write_text('\n'.join(lines) + '\n')


def test_what_leaves_nothing_to_examine(tmp_path, garments):
  with pytest.raises(InputError, match='no such folder'):
    examine(tmp_path / 'nope')
  with pytest.raises(InputError, match='no folder to examine'):
    examine(tmp_path, dataset='synthetic')
  folder = write(tmp_path / 'f', garments)
  (folder / BOXES).unlink()
  with pytest.raises(InputError, match='list_bbox.txt: missing'):
    examine(folder)
  assert not (folder / 'out').exists()


def test_a_wrong_setting_is_no_mistake_of_the_folder(tmp_path):
  if not (SHARED / 'parse').is_dir():
    pytest.skip('no PARSE in shared/data')
  with pytest.raises(InputError, match='centric'):
    fields = {'dataset': 'parse', 'centric': 'person'}
    examine(SHARED / 'parse', tmp_path, **fields)


def test_the_same_twice(tmp_path, garments):
  folder = write(tmp_path, garments)
  edited(BOXES, {3: '4000'})(folder)
  encoded = Image.open(folder / 'Img' / name('train', 7))
  encoded.save(folder / 'Img' / name('val', 3), quality=40)
  for out in ('a', 'b'):
    examine(folder, tmp_path / out)
  names = sorted(path.name for path in (tmp_path / 'a').iterdir())
  assert 'duplicates.png' in names and len(names) == 4
  for one in names:
    files = [(tmp_path / out / one).read_bytes() for out in ('a', 'b')]
    assert files[0] == files[1]


def test_close_pairs_are_those_of_a_plain_loop(monkeypatch):
  monkeypatch.setattr(near_duplicates, 'ROWS', 4)
  monkeypatch.setattr(near_duplicates, 'COLUMNS', 8)
  rng = np.random.default_rng(0)
  ours = rng.integers(0, 2**64, 37, np.uint64)
  theirs = rng.integers(0, 2**64, 22, np.uint64)
  for i in range(20):  # up to six bits away from one of ours
    mask = sum(1 << int(b) for b in rng.choice(64, i % 7, replace=False))
    theirs[i] = ours[i] ^ np.uint64(mask)
  theirs[20] = ours[0]
  found = {
    (i, j, d)
    for triple in near_duplicates.close_pairs(ours, theirs)
    for i, j, d in zip(*(x.tolist() for x in triple), strict=True)
  }
  expected = set()
  for i, one in enumerate(ours.tolist()):
    for j, other in enumerate(theirs.tolist()):
      distance = bin(one ^ other).count('1')
      if distance <= near_duplicates.MAX_DISTANCE:
        expected.add((i, j, distance))
  assert found == expected and len(found) >= 15
  empty = np.zeros(0, np.uint64)
  assert not list(near_duplicates.close_pairs(empty, theirs))
  assert not list(near_duplicates.close_pairs(ours, empty))


def test_hashes_know_a_picture_again(garments):
  seen = []
  for _, record in garments[:12]:
    image = Image.open(io.BytesIO(record['image']))
    again = io.BytesIO()
    size = [round(1.1 * side) for side in image.size]
    image.resize(size).save(again, 'JPEG', quality=60)
    (coarse, fine), (coarse_2, fine_2) = (
      near_duplicates.hashes(one) for one in (image, Image.open(again))
    )
    assert (coarse ^ coarse_2).bit_count() <= near_duplicates.MAX_DISTANCE
    assert near_duplicates.is_same_picture(fine, fine_2)
    assert not any(near_duplicates.is_same_picture(fine, x) for x in seen)
    seen.append(fine)


def test_majorities_need_more_than_chance():
  counts = [[0, 0], [19, 0], [20, 0], [0, 20], [12, 8], [60, 40], [66, 34]]
  assert sides.majority(counts).tolist() == [0, 0, 1, -1, 0, 0, 1]


def test_opposite_groups():
  most, few, against = [[90, 10]], [[5, 0]], [[2, 40]]
  cells = {
    ('train', 'upper'): np.array(most),
    ('train', 'lower'): np.array(most),
    ('val', 'upper'): np.array(few),
    ('val', 'lower'): np.array(against),
  }
  found = sides.opposite_groups(cells)
  assert [(g['split'], g['type']) for g in found] == [('val', None)]
  cells['val', 'upper'] = np.array(most)
  (group,) = sides.opposite_groups(cells)
  assert (group['split'], group['type'], group['pair']) == ('val', 'lower', 0)
  assert (group['left'], group['images']) == (2, 42)
  assert (group['other_left'], group['other_images']) == (270, 300)
  # Of two halves nobody knows which one is wrong.
  halves = {('train', 'x'): np.array([[40, 0]]), ('val', 'x'): [[0, 40]]}
  halves = {key: np.array(value) for key, value in halves.items()}
  assert [g['split'] for g in sides.opposite_groups(halves)] == ['train', 'val']


@pytest.mark.parametrize(
  'place, fields, splits, near',
  [
    ('deepfashion', {}, {'train': 5000, 'val': 1000}, 0),
    ('parse', {'dataset': 'parse'}, {'train': 100, 'test': 205}, 1),
    (
      'coco',
      {
        'dataset': 'coco_keypoints',
        'annotations': '{split}2017/person_keypoints.json',
        'images': '{split}2017/images',
      },
      {'train': 86, 'val': 68},
      0,
    ),
  ],
)
def test_real_folder(tmp_path, place, fields, splits, near):
  if not (SHARED / place).is_dir():
    pytest.skip(f'{SHARED / place} is not here')
  found = examine(SHARED / place, tmp_path, **fields)
  assert found['counts']['splits'] == splits
  assert wrong(found) == ({'near': near} if near else {})
