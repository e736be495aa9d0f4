"""Results of other programs, and of this one, tied to the examples."""

import copy
import csv
import io
import itertools
import json
import shutil

import coco_folders
import coco_oracle
import numpy as np
import pytest
from places import SHARED
from scipy.optimize import linear_sum_assignment
from score_inputs import config_of

from fld_jax.errors import InputError
from fld_jax.evaluation import prediction_files, ties
from fld_jax.evaluation.score import score
from fld_jax.files.image_names import ImageNames

NAMES = coco_folders.NAMES


def document(num_images, num_objects):
  """A file of annotations: objects side by side, sizes as they may be."""
  data = coco_folders.document('val', num_images)
  first = data['annotations'][0]
  data['annotations'] = []
  for image in data['images']:
    for k in range(num_objects):
      entry = copy.deepcopy(first)
      points = np.reshape(entry['keypoints'], (-1, 3)).astype(float)
      points[:, 0] = points[:, 0] / num_objects + k * 20
      x, y, w, h = entry['bbox']
      entry |= {
        'id': 1000 + len(data['annotations']),
        'image_id': image['id'],
        'keypoints': points.ravel().tolist(),
        'bbox': [x / num_objects + k * 20, y, w / num_objects, h],
      }
      data['annotations'].append(entry)
  return data


@pytest.fixture
def folder(tmp_path):
  """A function of the numbers of images and objects: config, file, results."""

  def make(num_images, num_objects):
    data = document(num_images, num_objects)
    coco_folders.write(tmp_path / 'folder', {'val': data})
    config = config_of('coco_keypoints', tmp_path / 'folder', tmp_path)
    files = {image['id']: image['file_name'] for image in data['images']}
    rng = np.random.default_rng(0)
    results = []
    for entry in data['annotations']:
      points = np.reshape(entry['keypoints'], (-1, 3)).astype(float)
      points[:, :2] += 1
      points[:, 2] = rng.random(len(points))
      results.append(
        {
          'image_id': entry['image_id'],
          'category_id': entry['category_id'],
          'file_name': files[entry['image_id']],
          'bbox': (np.array(entry['bbox']) + rng.normal(0, 0.2, 4)).tolist(),
          'keypoints': points.ravel().tolist(),
          'score': float(rng.random()),
        }
      )
    return config, data, results

  return make


def figures(config, path, content, tmp_path):
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  return score(config, path, 'val', tmp_path / 'out')


def without(*fields):
  return lambda results, data: [
    {k: v for k, v in result.items() if k not in fields} for result in results
  ]


def changed(**changes):
  return lambda results, data: [
    {**result, **{k: change(result) for k, change in changes.items()}}
    for result in results
  ]


def whole(results, data):
  """A whole COCO file, with ids of its own for images and categories."""
  names = [image['file_name'] for image in data['images']]
  (category,) = data['categories']
  return {
    'images': [{'id': 90 + i, 'file_name': n} for i, n in enumerate(names)],
    'categories': [{**category, 'id': 5}],
    'annotations': [
      {
        'id': i,
        'image_id': 90 + names.index(result['file_name']),
        'category_id': 5,
        **{k: result[k] for k in ('bbox', 'keypoints', 'score')},
      }
      for i, result in enumerate(results, 1)
    ],
  }


def reordered(results, data):
  """A whole file whose category names the landmarks in another order."""
  found = whole(results, data)
  order = [*range(len(NAMES))][::-1]
  (category,) = found['categories']
  category['keypoints'] = [
    category['keypoints'][i].replace('_', ' ') for i in order
  ]
  category['skeleton'] = []
  for entry in found['annotations']:
    triples = np.reshape(entry['keypoints'], (-1, 3))[order]
    entry['keypoints'] = triples.ravel().tolist()
  return found


def table(separator=',', **options):
  """A CSV, as `--mode=predict` writes it or with other columns."""

  def make(results, data):
    text = io.StringIO()
    lines = csv.writer(text, delimiter=separator, lineterminator='\n')
    fields = {
      options.get('image', 'image'): lambda r, p: r['file_name'],
      'x1': lambda r, p: r['bbox'][0],
      'y1': lambda r, p: r['bbox'][1],
      'x2': lambda r, p: r['bbox'][0] + r['bbox'][2],
      'y2': lambda r, p: r['bbox'][1] + r['bbox'][3],
      'route': lambda r, p: 'all',
    }
    form = options.get('form', '{}_{}')
    for i, name in enumerate(NAMES):
      for k, axis in enumerate('xy'):
        fields[form.format(name, axis)] = lambda r, p, i=i, k=k: p[i, k]
      fields[f'{name}_visibility'] = lambda r, p: 'visible'
    names = list(fields)
    if options.get('shuffled'):
      names = np.random.default_rng(1).permutation(names).tolist()
    lines.writerow(names)
    for result in results:
      points = np.reshape(result['keypoints'], (-1, 3))
      lines.writerow([fields[name](result, points) for name in names])
    return text.getvalue()

  return make


stem = lambda result: result['file_name'].rpartition('/')[2].partition('.')[0]
FORMS = {
  'own list': changed(),
  'mmpose': without('file_name'),
  'ultralytics': changed(
    file_name=lambda r: r['file_name'].rpartition('/')[2],
    image_id=lambda r: int(stem(r)),
  ),
  'ultralytics before file_name': lambda results, data: without('file_name')(
    changed(image_id=lambda r: int(stem(r)))(results, data), data
  ),
  'stems as text': lambda results, data: without('file_name')(
    changed(image_id=stem)(results, data), data
  ),
  'ids as text': lambda results, data: without('file_name')(
    changed(image_id=lambda r: str(r['image_id']))(results, data), data
  ),
  'ids as floats': lambda results, data: without('file_name')(
    changed(image_id=lambda r: float(r['image_id']))(results, data), data
  ),
  'category 0': changed(category_id=lambda r: 0),
  'our item numbers': lambda results, data: [
    {**result, 'image_id': i} for i, result in enumerate(results)
  ],
  'another machine': changed(file_name=lambda r: f'/data/x/{r["file_name"]}'),
  'windows': changed(file_name=lambda r: r['file_name'].replace('/', '\\')),
  'detected boxes': lambda results, data: [
    {**result, 'file_name': f'{result["file_name"]}#d{i}'}
    for i, result in enumerate(results)
  ],
  'whole file': whole,
  'whole file, other order': reordered,
  'csv': table(),
  'csv of semicolons': table(';', shuffled=True, image='file_name'),
  'csv of tabs, other writing': table('\t', image='Filename', form='{} {}'),
}


@pytest.mark.parametrize('num_objects', [1, 3])
@pytest.mark.parametrize('form', FORMS)
def test_forms(folder, tmp_path, form, num_objects):
  """In any form and order, each example gets the result made for it."""
  config, data, results = folder(4, num_objects)
  rng = np.random.default_rng(2)
  mixed = [results[i] for i in rng.permutation(len(results))]
  content = FORMS[form](mixed, data)
  ending = 'csv' if isinstance(content, str) else 'json'
  found = figures(config, tmp_path / f'p.{ending}', content, tmp_path)
  # Each landmark was moved by 1, 1.
  assert found['epe']['micro'] == pytest.approx(np.sqrt(2), abs=1e-4)
  assert found['num_examples'] == len(results)
  assert found['num_left_out'] == 0


def test_no_boxes(folder, tmp_path):
  config, data, results = folder(3, 2)
  content = without('bbox')(results, data)
  with pytest.raises(
    InputError, match=r'6 examples have no.*6 results without'
  ):
    figures(config, tmp_path / 'p.json', content, tmp_path)


def test_false_detections_are_left_out(folder, tmp_path, capsys):
  config, data, results = folder(3, 2)
  extra = [{**r, 'bbox': [50, 0, 2, 2], 'score': 0.01} for r in results[:4]]
  found = figures(config, tmp_path / 'p.json', extra + results, tmp_path)
  assert found['epe']['micro'] == pytest.approx(np.sqrt(2), abs=1e-4)
  assert found['num_left_out'] == 4
  assert (
    'Left out: 4 results have a box that no object' in capsys.readouterr().out
  )


def test_unlabelled_objects_take_their_results(folder, tmp_path, capsys):
  """The boxes of all annotations were predicted on, examples or not."""
  config, data, results = folder(3, 2)
  data['annotations'][1]['keypoints'] = [0] * 3 * len(NAMES)
  coco_folders.write(tmp_path / 'folder', {'val': data})
  found = figures(config, tmp_path / 'p.json', results, tmp_path)
  assert found['num_examples'] == 5 and found['num_left_out'] == 1
  assert found['epe']['micro'] == pytest.approx(np.sqrt(2), abs=1e-4)
  assert (
    '1 results are of objects that are no examples' in capsys.readouterr().out
  )


def test_missing_and_unknown_are_counted(folder, tmp_path):
  config, data, results = folder(5, 1)
  results[0]['file_name'] = 'elsewhere.png'
  with pytest.raises(
    InputError,
    match=r"1 predictions are of no .*'elsewhere.png'.*; 2 examples have no",
  ):
    figures(config, tmp_path / 'p.json', results[:4], tmp_path)


def test_a_name_of_several_images(folder, tmp_path):
  config, data, results = folder(4, 1)
  for i, image in enumerate(data['images']):
    image['file_name'] = f'val/{i}/same.png'
    (tmp_path / f'folder/images/val/{i}').mkdir()
    name = tmp_path / f'folder/images/val/{i}.png'
    shutil.copy(name, tmp_path / f'folder/images/val/{i}/same.png')
  coco_folders.write(tmp_path / 'folder', {'val': data})
  for result in results:
    result['file_name'] = 'same.png'
  found = figures(config, tmp_path / 'p.json', results, tmp_path)
  assert found['num_examples'] == 4  # image_id tells
  for result in results:
    result['image_id'] = 0
  with pytest.raises(
    InputError, match=r"results\[0\], file_name: 'same.png' co"
  ):
    figures(config, tmp_path / 'p.json', results, tmp_path)


@pytest.mark.parametrize(
  'old, new, message',
  [
    ('5.0', '"5,0"', r"is '5,0', a number with a decimal comma, .* '5.0'"),
    ('5.0', 'x', r"is 'x', must be a finite number"),
    ('5.0', '', r'is empty, or its y is'),
    ('5.0,', '', r'has \d+ columns, must have'),
  ],
)
@pytest.mark.parametrize('separator', ',;\t')
def test_bad_cells(folder, tmp_path, separator, old, new, message):
  config, data, results = folder(3, 1)
  results[1]['keypoints'][0] = 5.0
  text = table(separator)(results, data)
  assert text.count(f'{separator}5.0{separator}') == 1
  old, new = (
    t.replace(',', separator) if old == '5.0,' else t for t in (old, new)
  )
  text = text.replace(f'{separator}{old}', f'{separator}{new}')
  with pytest.raises(InputError, match=rf'p.csv, line 3.*{message}'):
    figures(config, tmp_path / 'p.csv', text, tmp_path)


def test_absent_landmarks(folder, tmp_path):
  """Empty cells are no positions: valid only where the truth has none."""
  config, data, results = folder(3, 1)
  path = tmp_path / 'p.csv'
  lines = table()(results, data).splitlines()
  header, cells = lines[0].split(','), lines[2].split(',')
  for axis in 'xy':
    cells[header.index(f'{NAMES[0]}_{axis}')] = ''
  text = '\n'.join([*lines[:2], ','.join(cells), *lines[3:]])
  with pytest.raises(InputError, match='line 3: has no position of left_cup'):
    figures(config, path, text, tmp_path)
  data['annotations'][1]['keypoints'][:3] = [0, 0, 0]
  coco_folders.write(tmp_path / 'folder', {'val': data})
  found = figures(config, path, text, tmp_path)
  assert found['epe']['micro'] == pytest.approx(np.sqrt(2), abs=1e-4)


NO_COCO = {
  'image': lambda name: {'file_name': name},
  'last part': lambda name: {'file_name': name.rpartition('/')[2]},
  'stem': lambda name: {'image_id': name.rpartition('/')[2].partition('.')[0]},
  'path without ending': lambda name: {'image_id': name.partition('.')[0]},
  'another machine': lambda name: {'file_name': f'/home/me/{name}'},
  'url': lambda name: {'file_name': f'https://a.b/c/{name}'},
  'windows': lambda name: {'file_name': name.replace('/', '\\')},
}


@pytest.mark.parametrize('form', NO_COCO)
def test_data_sets_of_lists(fashion, tmp_path, form):
  """Names of images are ids there; their last parts may be unique or not."""
  config, truth = fashion
  last = [name.rpartition('/')[2] for name in truth.id.tolist()]
  is_ambiguous = len({*last}) < len(last) and form in ('last part', 'stem')
  results = [
    {
      'category_id': 0,
      'score': 1,
      'keypoints': np.column_stack([p + 1, np.ones(8)]).ravel().tolist(),
      'image_id': 5,
      **NO_COCO[form](name),
    }
    for name, p in zip(truth.id.tolist(), truth.landmarks, strict=True)
  ]
  (tmp_path / 'p.json').write_text(json.dumps(results[::-1]))
  if is_ambiguous:
    with pytest.raises(InputError, match='could be|are of no example'):
      score(config, tmp_path / 'p.json', 'train', tmp_path)
    return
  found = score(config, tmp_path / 'p.json', 'train', tmp_path)
  assert found['epe']['micro'] == pytest.approx(np.sqrt(2), abs=1e-4)


def test_real_results_of_ultralytics(tmp_path):
  """A part of COCO's val: with file_name the figures are those without."""
  path = SHARED / 'coco/val2017/person_keypoints.json'
  if not path.exists():
    pytest.skip(f'{path} is not here')
  places = ('{split}2017/person_keypoints.json', '{split}2017/images')
  layout = dict(zip(('annotations', 'images'), places, strict=True))
  config = config_of('coco_keypoints', SHARED / 'coco', tmp_path, **layout)
  truth = json.loads(path.read_text())
  files = {image['id']: image['file_name'] for image in truth['images']}
  rng = np.random.default_rng(0)
  plain = coco_oracle.perturbed(truth['annotations'], rng, 0.1)
  named = [{**r, 'file_name': files[r['image_id']]} for r in plain]
  both = [
    figures(config, tmp_path / 'p.json', r, tmp_path) for r in (plain, named)
  ]
  assert both[0] == both[1] and both[0]['coco']['AP'] > 0
  # All annotations' boxes, as --mode=predict --boxes=val.json has them.
  every = [
    {
      **{k: a[k] for k in ('image_id', 'category_id', 'bbox', 'keypoints')},
      'score': 0.5,
      'file_name': files[a['image_id']],
    }
    for a in truth['annotations']
  ]
  found = figures(config, tmp_path / 'p.json', every, tmp_path)
  labelled = sum(
    a['num_keypoints'] > 0 and not a['iscrowd'] for a in truth['annotations']
  )
  assert found['num_examples'] == labelled
  assert found['num_left_out'] == len(every) - labelled
  assert found['epe']['micro'] == pytest.approx(0, abs=1e-3)


def objects_of(boxes, images, names):
  ids = [f'{names[k]}#{i}' for i, k in enumerate(images)]
  return ties.Objects(
    names, ids, images, [1] * len(ids), boxes, True, frozenset(ids)
  )


def results_of(boxes, images):
  n = len(boxes)
  none = [None] * n
  return prediction_files.Results(
    'p', np.zeros((n, 1, 2)), none, none, none, images, [1] * n, none, boxes
  )


@pytest.mark.parametrize('seed', range(20))
def test_largest_overlap(seed):
  """All assignments tried: none has a larger sum of overlaps."""
  rng = np.random.default_rng(seed)
  corner = rng.uniform(0, 20, (4, 2))
  truth = np.hstack([corner, corner + rng.uniform(15, 40, (4, 2))])
  found = truth[rng.permutation(4)][: rng.integers(2, 5)]
  found = found + rng.normal(0, 4, found.shape)
  objects = objects_of(list(truth), [7] * 4, {7: 'a.jpg'})
  results = results_of(list(found), [7] * len(found))
  tied = ties.tie(results, objects)
  overlaps = ties.iou(found, truth)
  for i, j in itertools.product(range(len(found)), range(4)):
    low = np.maximum(found[i, :2], truth[j, :2])
    high = np.minimum(found[i, 2:], truth[j, 2:])
    shared = max(high[0] - low[0], 0) * max(high[1] - low[1], 0)
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    union = area(found[i]) + area(truth[j]) - shared
    assert overlaps[i, j] == pytest.approx(shared / union)
  enough = np.where(overlaps >= ties.LEAST_IOU, overlaps, 0)
  best = max(
    sum(enough[i, j] for i, j in enumerate(order))
    for order in itertools.permutations(range(4), len(found))
  )
  chosen = [objects.ids.index(x) if x else None for x in tied.ids]
  used = [j for j in chosen if j is not None]
  assert len(set(used)) == len(used)
  assert sum(
    enough[i, j] for i, j in enumerate(chosen) if j is not None
  ) == pytest.approx(best)
  assert best == pytest.approx(
    enough[linear_sum_assignment(enough, maximize=True)].sum()
  )


@pytest.mark.parametrize(
  'name, expected',
  [
    ('img/a/05000.jpg', [0]),
    ('./img/a/05000.jpg', [0]),
    ('img\\a\\05000.jpg', [0]),
    ('img/a%2F05000.jpg', [0]),
    ('/data/local-files/?d=img/a/05000.jpg', [0]),
    ('/data/local-files/?d=07.jpg', [2]),
    ('/home/u/img/a/05000.jpg', [0]),
    ('a/05000.jpg', [0]),
    ('05000.jpg', [0, 1]),
    ('07.jpg', [2]),
    ('07', [2]),
    ('img/c d/07', [2]),
    ('img/c%20d/07.jpg', [2]),
    ('x.png', [3, 4]),
    ('caf\\xe9.jpg', [5]),
    ('7.jpg', []),
    ('', []),
  ],
)
def test_names(name, expected):
  names = ['img/a/05000.jpg', 'img/b/05000.jpg', 'img/c d/07.jpg']
  names += ['x.png', 'x.png', 'caf\udce9.jpg']
  assert ImageNames(dict(enumerate(names))).find(name) == expected


def test_numbers():
  names = ImageNames(
    {0: 'img/05000.jpg', 1: '17.png', 2: 'a/17.jpg', 3: 'b.jpg'}
  )
  assert names.find_number(5000) == [0]
  assert names.find_number(17) == [1, 2]
  assert names.find_number(3) == []


JUNK = [
  None,
  True,
  -1,
  float('nan'),
  '',
  '#',
  '\ud800',
  [],
  {},
  1.5,
  [1, 2, 3, 4],
]


def damaged(value, rng):
  """A copy of a JSON value with a part of it replaced or missing."""
  value = copy.deepcopy(value)
  node = value
  while True:
    keys = list(node) if isinstance(node, dict) else range(len(node))
    key = keys[rng.integers(len(keys))]
    if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.7:
      node = node[key]
      continue
    if rng.random() < 0.2:
      del node[key]
    else:
      node[key] = copy.deepcopy(JUNK[rng.integers(len(JUNK))])
    return value


@pytest.mark.parametrize('make', [changed(), whole])
def test_damaged_results_end_in_a_sentence(folder, tmp_path, make):
  config, data, results = folder(2, 2)
  content, rng = make(results, data), np.random.default_rng(0)
  refused = 0
  for _ in range(60):
    try:
      figures(config, tmp_path / 'p.json', damaged(content, rng), tmp_path)
    except InputError as mistake:
      assert 'p.json' in str(mistake)
      refused += 1
  assert 20 < refused < 60
