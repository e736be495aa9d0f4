"""Scores of predictions made elsewhere: by hand, and of real data."""

import csv
import json
import subprocess
import sys

import coco_folders
import coco_oracle
import cv2
import deepfashion_folders
import fashion_ai_folders
import numpy as np
import pytest
from ml_collections import ConfigDict
from places import ROOT, SHARED
from score_inputs import config_of, read, write_npz

from fld_jax import landmark_sets, schema
from fld_jax.datasets.prepare import make_builder
from fld_jax.errors import Findings, InputError
from fld_jax.evaluation.results import write_evaluation
from fld_jax.evaluation.score import score
from fld_jax.metrics import normalised_error
from fld_jax.metrics.predictions import Predictions

UPPER, FULL = deepfashion_folders.A, deepfashion_folders.C  # the train split
FIGURES = [n + at for n in ('AP', 'AR') for at in ('', '50', '75', 'M', 'L')]


def shared(name):
  if not (SHARED / name).exists():
    pytest.skip(f'{SHARED / name} is not here')
  return SHARED / name


def entry(name, points, **more):
  triples = np.column_stack([points, np.ones(len(points))])
  return {
    'image_id': 7,
    'category_id': 1,
    'keypoints': triples.ravel().tolist(),
    'score': 1.0,
    'file_name': name,
    **more,
  }


def write_json(path, ids, points):
  entries = [entry(str(name), p) for name, p in zip(ids, points, strict=True)]
  path.write_text(json.dumps(entries))
  return path


def write_csv(path, ids, points, names=None):
  header = ['id']
  for i in range(points.shape[1]):
    of = f'{names[i]}_{{}}' if names else f'{{}}_{i + 1}'
    header += [of.format(axis) for axis in 'xy']
  with path.open('w', newline='') as file:
    lines = csv.writer(file, lineterminator='\n')
    lines.writerow(header)
    for name, p in zip(ids, points, strict=True):
      lines.writerow([name, *p.ravel().tolist()])
  return path


def test_by_hand(fashion, tmp_path, capsys):
  config, truth = fashion
  upper, full = (truth.id.tolist().index(name) for name in (UPPER, FULL))
  points = truth.landmarks.astype(float)
  points[upper, 0] += [4.9, 0]  # the box is 49 x 38, the image 60 x 40
  points[upper, 1] += [0, 3.8]  # occluded
  points[upper, 4] += 999  # upper clothes have no waist
  points[full, 7] += [5.6, 3.45]  # the box is 56 x 34.5
  path = write_npz(tmp_path / 'p.npz', truth.id, points)
  found = score(config, path, 'train', tmp_path / 'out')
  far = np.hypot(5.6, 3.45)
  visible = {
    'bbox_wh': [0.1, 0.1 * np.sqrt(2)],
    'bbox_long': [4.9 / 49, far / 56],
    'bbox_w': [4.9 / 49, far / 56],
    'image_wh': [4.9 / 60, np.hypot(5.6 / 60, 3.45 / 40)],
    'image_w': [4.9 / 60, far / 60],
    'bbox_sqrt_area': [4.9 / np.sqrt(49 * 38), far / np.sqrt(56 * 34.5)],
  }
  assert list(found['ne_by_norm']) == list(visible)
  for norm, (near, of_full) in visible.items():
    of = found['ne_by_norm'][norm]
    # Visible are 3 of the upper and 7 of the full one; the collar of both.
    assert of['visible']['micro'] == pytest.approx((near + of_full) / 10)
    assert of['visible']['macro'] == pytest.approx((near / 2 + of_full) / 8)
    assert of['num_without_norm'] == 0
  annotated = found['ne_by_norm']['bbox_wh']['annotated']
  assert annotated['micro'] == pytest.approx((0.2 + 0.1 * np.sqrt(2)) / 12)
  assert annotated['macro'] == pytest.approx((0.1 + 0.1 * np.sqrt(2)) / 8)
  assert found['norm'] == 'bbox_wh'
  assert (
    found['ne']['macro'] == found['ne_by_norm']['bbox_wh']['visible']['macro']
  )
  assert found['epe']['micro'] == pytest.approx((4.9 + 3.8 + far) / 12)
  assert found['pck']['macro'] == 1
  # Thresholds of 1.5 k: 4.9 is below from k = 4 on, 3.8 from 3, far from 5.
  share = (16 + 17 + 15 + 9 * 19) / 20 / 12
  assert found['auc']['micro'] == pytest.approx(share)
  assert not {'pdj', 'pcp', 'coco'} & set(found)
  printed = capsys.readouterr().out
  assert (tmp_path / 'out/score.txt').read_text() == printed
  for part in ('deepfashion, split train', 'bbox_sqrt_area', 'collar', 'EPE'):
    assert part in printed
  written = json.loads((tmp_path / 'out/score.json').read_text())
  assert written['ne']['micro'] == round(found['ne']['micro'], 6)
  assert not (tmp_path / 'prepared').exists()


def test_formats_agree(fashion, tmp_path):
  config, truth = fashion
  ids = truth.id
  rng = np.random.default_rng(0)
  points = truth.landmarks + rng.normal(0, 3, truth.landmarks.shape)
  names = landmark_sets.FASHION_8.names
  paths = [
    write_json(tmp_path / 'p.json', ids, points),
    write_csv(tmp_path / 'p.csv', ids[::-1], points[::-1]),
    write_csv(tmp_path / 'named.csv', ids, points, names),
    write_npz(tmp_path / 'p.npz', ids[::-1], points[::-1]),
    write_npz(tmp_path / 'bytes.npz', np.char.encode(ids, 'utf-8'), points),
  ]
  # A spreadsheet's: a mark, CRLF and a blank line at the end.
  text = '\ufeff' + paths[1].read_text().replace('\n', '\r\n') + '\r\n'
  paths.append(tmp_path / 'sheet.CSV')
  paths[-1].write_bytes(text.encode())
  found = set()
  for path in paths:
    score(config, path, 'train', tmp_path / 'out')
    found.add((tmp_path / 'out/score.json').read_bytes())
  assert len(found) == 1
  probs = np.eye(3)[rng.integers(0, 3, (2, 8))]
  path = write_npz(tmp_path / 'v.npz', ids, points, visibility_probs=probs)
  stage = score(config, path, 'train', tmp_path)['stages']['predictions']
  right = [
    probs[i, j].argmax() == truth.visibility[i, j]
    for i, j in np.ndindex(2, 8)
    if truth.visibility[i, j] != schema.ABSENT
  ]
  assert stage['visibility_accuracy']['overall'] == np.mean(right)


def test_own_predictions_score_as_they_were_evaluated(fashion, tmp_path):
  config, truth = fashion
  points = truth.landmarks.astype(float)
  noise = np.random.default_rng(0).normal(0, 5, points.shape)
  predictions = Predictions(
    ids=truth.id.tolist(),
    image_ids=np.array([8, 3]),
    boxes=truth.box,
    image_sizes=np.full((2, 2), [60, 40]),
    landmarks=points,
    visibility=truth.visibility,
    clothes_type=truth.clothes_type,
    variation=truth.variation,
    # As many decimals as the file has.
    estimates={'predictions': np.round(points + noise, 6)},
    visibility_probs={},
  )
  expected = normalised_error.evaluate(predictions)
  write_evaluation(tmp_path, predictions, expected)
  found = score(config, tmp_path / 'predictions.json', 'train', tmp_path)
  assert {key: found[key] for key in expected} == expected


def test_norm_of_pairs(tmp_path):
  """FashionAI's own, and what has no such pair is left out and counted."""
  names = [f'Images/skirt/{i}.jpg' for i in range(2)]
  fashion_ai_folders.images(tmp_path / 'test', *names)
  lines = [
    fashion_ai_folders.line(names[0]),  # the waistband is 30 pixels wide
    fashion_ai_folders.line(names[1], waistband_left='-1_-1_-1'),
  ]
  fashion_ai_folders.write(tmp_path, 'test/answer.csv', lines)
  config = config_of('fashion_ai', tmp_path, tmp_path)
  (split,) = {row.split for row in make_builder(config).read(Findings())}
  truth = read(config, split)
  points = truth.landmarks + np.array([3.0, 0])
  path = write_npz(tmp_path / 'p.npz', truth.id, points)
  found = score(config, path, split, tmp_path)
  assert set(found['ne_by_norm']) == set(normalised_error.NORMS)
  pair = found['ne_by_norm']['keypair']
  assert pair['num_without_norm'] == found['num_without_norm'] == 1
  assert pair['visible']['macro'] == found['ne']['macro'] == pytest.approx(0.1)
  of_image = found['ne_by_norm']['image_w']['annotated']
  assert of_image['micro'] == pytest.approx(3 / 50)


def test_needs_no_jax(fashion, tmp_path):
  config, truth = fashion
  path = write_npz(tmp_path / 'p.npz', truth.id, truth.landmarks)
  program = f"""
import sys
from ml_collections import ConfigDict
from fld_jax.evaluation.score import score
config = ConfigDict({config.to_dict()!r})
score(config, {str(path)!r}, 'train', {str(tmp_path)!r})
assert not {{'jax', 'orbax', 'matplotlib'}} & set(sys.modules)
"""
  subprocess.run([sys.executable, '-c', program], check=True, cwd=ROOT)


def test_command_line(fashion, tmp_path):
  """--mode=score with the dataset's name and folder alone."""
  config, train = fashion
  path = write_npz(tmp_path / 'p.npz', train.id, train.landmarks)
  command = [sys.executable, '-m', 'fld_jax.main', '--mode=score']
  command += [f'--dataset={config.name}', f'--manual_dir={config.manual_dir}']
  command += [f'--predictions={path}', f'--workdir={tmp_path / "w"}']
  run = lambda *more: subprocess.run(
    [*command, *more],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  result = run('--split=train')
  assert result.returncode == 0, result.stderr
  found = json.loads((tmp_path / 'w/score.json').read_text())
  assert found['num_examples'] == 2 and found['ne']['macro'] == 0
  result = run()  # val, which these are not of
  assert result.returncode == 2 and 'are of no example' in result.stderr


def test_mean_position_of_real_garments(tmp_path):
  """The data's own description states 14.9 %."""
  config = config_of('deepfashion', shared('deepfashion'), tmp_path)
  train, val = read(config, 'train'), read(config, 'val')
  points = normalised_error.mean_position(
    normalised_error.mean_places(train), val
  )
  path = write_npz(tmp_path / 'p.npz', val.id, points)
  found = score(config, path, 'val', tmp_path)
  assert found['num_examples'] == 1000
  assert round(100 * found['ne']['macro'], 2) == 14.87


STICKS = {  # slots of one end and of the other
  'torso': [([8, 9], [2, 3])],
  'head': [([13], [12])],
  'upper_arm': [([8], [7]), ([9], [10])],
  'lower_arm': [([7], [6]), ([10], [11])],
  'upper_leg': [([2], [1]), ([3], [4])],
  'lower_leg': [([1], [0]), ([4], [5])],
}


def loop_pcp(truth, points):
  shares = {}
  for name, sticks in STICKS.items():
    for a, b in sticks:
      right = []
      for n in range(len(points)):
        if any(truth.visibility[n, j] not in (0, 1) for j in a + b):
          continue
        ends = [
          truth.landmarks[n, e].astype(float).mean(axis=0) for e in (a, b)
        ]
        guess = [points[n, end].mean(axis=0) for end in (a, b)]
        limit = 0.5 * np.hypot(*(ends[0] - ends[1]))
        right.append(
          all(
            np.hypot(*(g - e)) <= limit
            for g, e in zip(guess, ends, strict=True)
          )
        )
      shares.setdefault(name, []).append(np.mean(right))
  means = {name: np.mean(values) for name, values in shares.items()}
  return {'mean': np.mean(sum(shares.values(), [])), **means}


def loop_pdj(truth, points, fraction):
  right = [[] for _ in range(14)]
  for n in range(len(points)):
    known = np.isin(truth.visibility[n], (0, 1))
    places = truth.landmarks[n].astype(float)
    torso = np.hypot(*(places[8] - places[3]))
    if known[8] and known[3] and torso > 0:
      for j in np.flatnonzero(known):
        error = np.hypot(*(points[n, j] - places[j]))
        right[j].append(error <= fraction * torso)
  return np.mean([np.mean(r) for r in right]), len(right[8])


@pytest.mark.parametrize(
  'name, split, centric',
  [
    ('parse', 'test', 'observer'),
    ('lspet', 'train', 'observer'),
    ('lspet', 'train', 'person'),
  ],
)
def test_real_people(name, split, centric, tmp_path, capsys):
  config = config_of(name, shared(name), tmp_path, centric=centric)
  truth = read(config, split)
  rng = np.random.default_rng(0)
  noise = rng.normal(0, 9, truth.landmarks.shape)
  points = truth.landmarks + noise * rng.choice([0.2, 1, 3], (len(noise), 1, 1))
  path = write_npz(tmp_path / 'p.npz', truth.id, points)
  found = score(config, path, split, tmp_path)
  expected = loop_pcp(truth, points)
  pcp = found['pcp']
  assert pcp.pop('centric') == found['pdj']['centric'] == centric
  assert pcp == pytest.approx(expected, abs=1e-12)
  assert 0.3 < pcp['mean'] < 0.9
  pdj = found['pdj']
  assert pdj['fractions'] == [round(0.01 * i, 2) for i in range(51)]
  for i in (0, 7, 20, 50):
    value, known = loop_pdj(truth, points, i / 100)
    assert pdj['curve'][i] == pytest.approx(value, abs=1e-12)
  assert pdj['at_0.2']['macro'] == pdj['curve'][20]
  assert found['num_examples'] - pdj['num_without_torso'] == known
  assert f'{centric}-centric' in capsys.readouterr().out


def test_real_coco_detections(tmp_path, capsys):
  """Several of an image, tied to nothing: AP alone, as pycocotools has it."""
  layout = ('{split}2017/person_keypoints.json', '{split}2017/images')
  places = dict(zip(('annotations', 'images'), layout, strict=True))
  config = config_of('coco_keypoints', shared('coco'), tmp_path, **places)
  path = SHARED / 'coco/val2017/person_keypoints.json'
  truth = json.loads(path.read_text())
  rng = np.random.default_rng(0)
  results = coco_oracle.perturbed(truth['annotations'], rng, 0.1)
  (tmp_path / 'p.json').write_text(json.dumps(results))
  found = score(config, tmp_path / 'p.json', 'val', tmp_path)
  assert set(found) == {'dataset', 'split', 'coco'}
  expected = coco_oracle.pycocotools_figures(truth, results)
  np.testing.assert_allclose(
    [found['coco'][name] for name in FIGURES], expected, rtol=0, atol=1e-9
  )
  assert f'{100 * expected[0]:.2f}' in capsys.readouterr().out
  # Tied by file_name, whatever image_id says: both.
  rows = read(config, 'val')
  ids = {name.partition('#')[2]: name for name in rows.id.tolist()}
  kept = [a for a in truth['annotations'] if str(a['id']) in ids]
  tied = []
  for a in kept:
    points = np.reshape(a['keypoints'], (17, 3))[:, :2] + rng.normal(0, 3, 2)
    result = entry(ids[str(a['id'])], points, score=float(rng.random()))
    tied.append({**result, 'image_id': 0, 'category_id': 99})
  (tmp_path / 'p.json').write_text(json.dumps(tied))
  found = score(config, tmp_path / 'p.json', 'val', tmp_path)
  for result, a in zip(tied, kept, strict=True):
    result |= {'image_id': a['image_id'], 'category_id': 1}
  np.testing.assert_allclose(
    [found['coco'][name] for name in FIGURES],
    coco_oracle.pycocotools_figures(truth, tied),
    rtol=0,
    atol=1e-9,
  )
  assert found['num_examples'] == len(kept) and found['epe']['micro'] < 9
  # Of detected boxes the file_name only names the image, as in our own files.
  files = {image['id']: image['file_name'] for image in truth['images']}
  boxes = [
    {**r, 'file_name': f'{files[r["image_id"]]}#d{i}', 'image_id': 0}
    for i, r in enumerate(results)
  ]
  (tmp_path / 'p.json').write_text(json.dumps(boxes))
  config.detections = 'there_are_none_{split}.json'  # the truth needs none
  found_of_boxes = score(config, tmp_path / 'p.json', 'val', tmp_path)
  assert set(found_of_boxes) == {'dataset', 'split', 'coco'}
  np.testing.assert_allclose(
    [found_of_boxes['coco'][name] for name in FIGURES], expected, atol=1e-9
  )
  # Without scores there is no AP.
  points = [np.reshape(r['keypoints'], (17, 3))[:, :2] for r in tied]
  names = [r['file_name'] for r in tied]
  other = score(
    config, write_npz(tmp_path / 'p.npz', names, points), 'val', tmp_path
  )
  assert 'coco' not in other and other['ne'] == found['ne']


def write_made_up(tmp_path, truth, results):
  """A folder of test_coco_metrics.made_up and p.json; returns its config."""
  cv2.imwrite(str(tmp_path / 'all.png'), np.zeros((600, 600, 3), np.uint8))
  for image in truth['images']:
    image['file_name'] = 'all.png'
  (tmp_path / 'val.json').write_text(json.dumps(truth))
  (tmp_path / 'p.json').write_text(json.dumps(results))
  places = {'annotations': '{split}.json', 'images': '.'}
  return config_of('coco_keypoints', tmp_path, tmp_path, **places)


@pytest.mark.parametrize('seed', range(3))
def test_crowds_and_two_categories(seed, tmp_path):
  """Objects without labels, crowds, images without any; two categories."""
  rng = np.random.default_rng(seed)
  truth = coco_oracle.made_up(rng)
  names = list(landmark_sets.COCO_17.names)
  truth['categories'] = [
    {'id': i, 'name': str(i), 'keypoints': names} for i in (1, 5)
  ]
  results = coco_oracle.perturbed(truth['annotations'] * 3, rng, 0.1)
  for thing in truth['annotations'] + results:
    thing['category_id'] = int(rng.choice([1, 5]))
  config = write_made_up(tmp_path, truth, results)
  found = score(config, tmp_path / 'p.json', 'val', tmp_path)['coco']
  expected = coco_oracle.pycocotools_figures(truth, results)
  np.testing.assert_allclose(
    [found[name] for name in FIGURES], expected, rtol=0, atol=1e-9
  )


@pytest.fixture
def coco(tmp_path):
  """Config of a folder of four images with one object each; its results."""
  data = coco_folders.document('val', 4)
  data['annotations'].pop(2)
  coco_folders.write(tmp_path / 'folder', {'val': data})
  config = config_of('coco_keypoints', tmp_path / 'folder', tmp_path)
  truth = read(config, 'val')
  results = [entry('', p + 1.0) for p in truth.landmarks]
  for result, annotation in zip(results, data['annotations'], strict=True):
    del result['file_name']
    result |= {k: annotation[k] for k in ('image_id', 'category_id')}
  return config, truth, results


def test_one_object_an_image(coco, tmp_path):
  config, truth, results = coco
  path = tmp_path / 'p.json'
  path.write_text(json.dumps(results[::-1]))
  found = score(config, path, 'val', tmp_path)
  assert found['epe']['micro'] == pytest.approx(np.sqrt(2), rel=1e-6)
  assert 'coco' not in found  # nobody knows the sigmas of such landmarks
  path.write_text(json.dumps(results[1:]))
  with pytest.raises(InputError, match=r'1 examples have no .*val/0.png#100'):
    score(config, path, 'val', tmp_path)
  path.write_text(json.dumps([*results, results[0]]))  # without boxes
  with pytest.raises(InputError, match=r'have no .*; 2 results without bbox'):
    score(config, path, 'val', tmp_path)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'image_id': 9}, r"1 predictions are of no example .*val': '9'"),
    ({'image_id': [9]}, r'results\[1\], image_id: is \[9\], must be a whole n'),
    ({'category_id': {}}, r'results\[1\], category_id: is {}, must be a whole'),
    ({'file_name': 'a'}, r"1 predictions are of no example .*val': 'a'"),
    (
      {'score': 'high'},
      r"results\[1\], score: value 1 is 'high', must be a fi",
    ),
    ({'keypoints': [1.0, 2, 3]}, r'keypoints: is .* must be a list of 15 num'),
    ({'keypoints': [float('nan')] * 15}, 'keypoints: value 1 is nan, must'),
    ({'keypoints': [10**400] * 15}, 'keypoints: value 1 is 1000.* finite'),
  ],
)
def test_bad_results(coco, tmp_path, change, message):
  config, _, results = coco
  results[1] |= change
  (tmp_path / 'p.json').write_text(json.dumps(results))
  with pytest.raises(InputError, match=message) as raised:
    score(config, tmp_path / 'p.json', 'val', tmp_path / 'out')
  assert str(tmp_path / 'p.json') in str(raised.value)
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('p.txt', '', "ending is '.txt', valid are .json, .csv, .npz"),
    ('none.json', None, 'none.json: this file of predictions is missing'),
    ('p.json', '[{"a": 1,}]', 'p.json, line 1, column .*: is not valid JSON'),
    ('p.json', b'\xff\xfe\x00', 'p.json, line 1, text: is not valid JSON'),
    ('p.json', '[' + '9' * 5000 + ']', r'results\[0\]: is inf, must be an ob'),
    ('p.json', '{"annotations": []}', 'p.json: must be a list of results'),
    ('p.json', '[]', 'p.json: must be a list of results'),
    ('p.json', '[5]', r'results\[0\]: is 5, must be an object'),
    ('p.json', '[{"score": 1}]', r'results\[0\], keypoints: is missing'),
    ('p.csv', '', "header of 0 columns is '' without id or image, .*must"),
    (
      'p.csv',
      'id,x_1\na,1',
      'header of 2 .* without y_1, x_2, y_2 and so on, m',
    ),
    ('p.csv', '{head}\n', 'p.csv: there is no line below the header'),
    ('p.csv', '{head}\na,1,2\n', 'line 2: has 3 columns, must have 17'),
    ('p.csv', '{head}\n\na{row}\nb{bad}', "line 4, y_2: is 'inf', must be a f"),
    (
      'p.csv',
      '{head}\na{word}',
      "line 2, x_1: is 'x', must be a finite number",
    ),
    ('p.csv', '{head}\n"a{row}', 'line 2: is no CSV'),
    ('p.csv', b'\xff\xff', 'p.csv, line 1, text: is not UTF-8'),
    ('p.npz', 'PK\3\4 cut', 'p.npz: is no NPZ file of numbers and strings'),
  ],
)
def test_bad_files(fashion, tmp_path, name, content, message):
  config, _ = fashion
  parts = {
    '{head}': ','.join(
      ['id', *(f'{a}_{i + 1}' for i in range(8) for a in 'xy')]
    ),
    '{row}': ',1' * 16,
    '{bad}': ',1,1,1,inf' + ',1' * 12,
    '{word}': ',x' + ',1' * 15,
  }
  if isinstance(content, str):
    for part, text in parts.items():
      content = content.replace(part, text)
    content = content.encode()
  if content is not None:
    (tmp_path / name).write_bytes(content)
  with pytest.raises(InputError, match=message):
    score(config, tmp_path / name, 'train', tmp_path)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'ids': None}, r'ids: is missing, must be strings of the shape \(n,\)'),
    ({'ids': np.arange(2)}, r'ids: is int64 of shape \(2,\), must be strings'),
    ({'ids': np.array([b'\xff'])}, 'ids: are no UTF-8 text'),
    ({'ids': np.array([UPPER, {}])}, 'is no NPZ file .*allow_pickle'),
    (
      {'landmarks': np.zeros((2, 7, 2))},
      r'landmarks: is .*\(2, 8, 2\): as many',
    ),
    (
      {'landmarks': np.full((2, 8, 2), 1e12)},
      r'landmarks\[0, 0, 0\]: is 1.*fin',
    ),
    ({'visibility_probs': np.ones((2, 8))}, r'visibility_probs: .*\(2, 8, 3\)'),
  ],
)
def test_bad_arrays(fashion, tmp_path, change, message):
  config, truth = fashion
  arrays = {'ids': truth.id, 'landmarks': truth.landmarks, **change}
  arrays = {name: a for name, a in arrays.items() if a is not None}
  np.savez(tmp_path / 'p.npz', **arrays)
  with pytest.raises(InputError, match=f'p.npz.*{message}'):
    score(config, tmp_path / 'p.npz', 'train', tmp_path)


@pytest.mark.parametrize(
  'ids, message',
  [
    ([UPPER], f"1 examples have no .* '{FULL}'. Each of its 2 examples must"),
    ([UPPER, FULL, UPPER], f"1 examples have several predictions .*'{UPPER}'"),
    (list('abcd'), "4 predictions are of no .*: 'a', 'b', 'c' and so on. Each"),
  ],
)
def test_every_example_once(fashion, tmp_path, ids, message):
  config, _ = fashion
  path = write_npz(tmp_path / 'p.npz', ids, np.ones((len(ids), 8, 2)))
  with pytest.raises(InputError, match=f'p.npz: {message}'):
    score(config, path, 'train', tmp_path)


def test_bad_datasets(fashion, tmp_path):
  config, truth = fashion
  path = write_json(tmp_path / 'p.json', truth.id, truth.landmarks)
  with pytest.raises(InputError, match="split is 'test', valid .* train, val"):
    score(config, path, 'test', tmp_path)
  with pytest.raises(InputError, match="'synthetic', which has no folder"):
    score(ConfigDict({**config, 'name': 'synthetic'}), path, 'val', tmp_path)
  results = json.loads(path.read_text())
  for result in results:
    del result['file_name']
  path.write_text(json.dumps(results))
  with pytest.raises(InputError, match="1 predictions are of no example.*'7'"):
    score(config, path, 'train', tmp_path)


@pytest.mark.parametrize(
  'ids, message',
  [
    (['val/0.png#d0', 'val/1.png#d1'], "2 examples have no .*'val/2.png#120'"),
    (['val/0.png#d0', 'no.png#d1'], "1 predictions are of no .*'no.png#d1'"),
  ],
)
def test_ids_of_boxes(coco, tmp_path, ids, message):
  config, truth, _ = coco
  path = write_json(tmp_path / 'p.json', ids, truth.landmarks[:2])
  with pytest.raises(InputError, match=message):
    score(config, path, 'val', tmp_path)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'area': None}, 'annotation 1, area: value 1 is None'),
    ({'area': -1}, "annotation 1, area: is -1, must be the object's area"),
    ({'bbox': [1, 2]}, 'annotation 1, bbox: is .* must be a list of 4'),
    ({'keypoints': [0, 0]}, 'annotation 1, keypoints: .* list of 51'),
  ],
)
def test_bad_crowds(tmp_path, change, message):
  """What rows do not need, AP does."""
  truth = coco_oracle.made_up(np.random.default_rng(0))
  names = list(landmark_sets.COCO_17.names)
  truth['categories'] = [{'id': 1, 'keypoints': names}]
  truth['annotations'][0] |= {'iscrowd': 1, **change}
  result = {'image_id': 1, 'category_id': 1, 'score': 1, 'keypoints': [0] * 51}
  config = write_made_up(tmp_path, truth, [result])
  with pytest.raises(InputError, match=f'val.json, {message}'):
    score(config, tmp_path / 'p.json', 'val', tmp_path)
