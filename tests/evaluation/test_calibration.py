"""How far estimates may be off: fitted, kept in a file, and held to the truth.

The oracle is a loop over the landmarks of images in plain Python.
"""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from made_up_runs import make_run
from predicted import results_of

from fld_jax import experiment, input_pipeline
from fld_jax.cascade.stage import Stage
from fld_jax.configs import trained
from fld_jax.errors import InputError
from fld_jax.evaluation import calibration
from fld_jax.evaluation.calibration import Calibration, Identity
from fld_jax.files.images import decode
from fld_jax.inference import predict_files
from fld_jax.inference.predictor import Predictor
from fld_jax.inference.result_files import Formats
from fld_jax.report import report

ME = Identity('weights', {'flip_test': False})
NAMES = ('error_50', 'error_90')
LOOKS_AT_FIGURES = True  # at the reliability diagram


def predictions_of(count, *, seed=0, cascade=False):
  """The predictions of a made-up run whose errors fall with the confidence."""
  p = make_run(
    count=count, seed=seed, cascade=cascade, num_stages=2
  ).predictions
  rng = np.random.default_rng(seed)
  scores = p.confidences['stage2'] if not cascade else np.ones((count, 8))
  shape = p.landmarks.shape
  scale = 20 * (1.1 - scores)[..., None]
  p.estimates['stage2'] = p.landmarks + scale * rng.normal(size=shape)
  return p


def visible_pixels(p, slot=None):
  """(score, pixels, root of the box's area) of each visible landmark."""
  final = list(p.estimates)[-1]
  found = []
  for i, (x1, y1, x2, y2) in enumerate(np.asarray(p.boxes).tolist()):
    for j in range(p.visibility.shape[1]) if slot is None else [slot]:
      if p.visibility[i, j] == 0:
        pixels = math.dist(p.estimates[final][i, j], p.landmarks[i, j])
        side = math.sqrt((x2 - x1) * (y2 - y1))
        score = 1.0
        if p.confidences:
          score = float(p.confidences[final][i, j])
        found.append((score, pixels, side))
  return found


def test_a_landmark_with_few_examples_takes_the_table_of_all():
  """Without a telling score a table is one quantile, which a loop finds."""
  p = predictions_of(80)
  p = dataclasses.replace(p, confidences={}, visibility_probs={})
  p.visibility[:, 3] = np.where(np.arange(80) < 49, 0, 1)
  p.visibility[:, 4] = np.where(np.arange(80) < 50, 0, 1)
  found = Calibration.fit(p, 'tune', ME)
  assert 'sleeve_right' not in found.own and found.own['waist_left'].count == 50
  radius = found.distances(np.ones((80, 8)), p.boxes)[7]
  side = visible_pixels(p, 4)[7][2]
  for slot, which in ((3, None), (4, 4)):
    shares = sorted(
      pixels / side for _, pixels, side in visible_pixels(p, which)
    )
    for column, percent in ((4, 50), (8, 90)):
      rank = math.ceil((len(shares) + 1) * percent / 100)
      expected = shares[rank - 1] * side
      assert radius[slot, column] == pytest.approx(expected)


def test_the_less_sure_are_further_off():
  p = predictions_of(400)
  found = Calibration.fit(p, 'tune', ME)
  assert set(found.own) == set(p.landmark_set.names)
  boxes = np.tile(p.boxes[:1], (2, 1))
  low_high = np.array([np.full(8, 0.05), np.full(8, 0.95)])
  radius = found.of_level(90, low_high, boxes)
  assert (radius[0] > 1.5 * radius[1]).all()
  # Twice as large boxes have twice as large distances.
  twice = found.of_level(90, low_high, 2 * boxes)
  np.testing.assert_allclose(twice, 2 * radius)


def test_other_images_are_covered_and_the_figures_count_it(tmp_path):
  Calibration.fit(predictions_of(600), 'tune', ME).save(tmp_path)
  p = predictions_of(600, seed=1)
  found = Calibration.read(tmp_path, p.landmark_set.names, ME)
  figures = found.figures(p)
  radius = found.distances(p.confidences['stage2'], p.boxes)
  for level, index in ((50, 4), (90, 8)):
    hits = {name: [] for name in p.landmark_set.names}
    for i in range(600):
      for j, name in enumerate(p.landmark_set.names):
        if p.visibility[i, j] == 0:
          gap = math.dist(p.estimates['stage2'][i, j], p.landmarks[i, j])
          hits[name].append(gap <= radius[i, j, index])
    within = figures[f'within_{level}']
    for name, each in hits.items():
      assert within['per_landmark'][name] == sum(each) / len(each)
    every = sum(hits.values(), [])
    assert within['overall'] == sum(every) / len(every)
    assert figures['shares'][index] == within['overall']
    # Some 2,400 landmarks: a standard error is 1 %, with that of the fit 1.4.
    assert abs(within['overall'] - level / 100) < 0.04
  shares = [radius[i, 2, 4] for i in range(600) if p.visibility[i, 2] == 0]
  sides = [side for _, _, side in visible_pixels(p, 2)]
  typical = np.median(np.array(shares) / sides)
  name = p.landmark_set.names[2]
  found_typical = figures['typical_50']['per_landmark'][name]
  assert found_typical == pytest.approx(typical)


def test_networks_without_a_confidence_have_quantiles_of_each_landmark():
  p = predictions_of(120, cascade=True)
  p = dataclasses.replace(p, visibility_probs={})
  found = Calibration.fit(p, 'tune', ME)
  assert all(table.edges.size == 0 for table in found.own.values())
  assert found.figures(p)['within_90']['overall'] == pytest.approx(
    0.9, abs=0.03
  )


def test_too_few_images_are_said(tmp_path):
  p = predictions_of(2)
  p.visibility[:] = 1
  p.visibility[0, :7] = 0
  Calibration.fit(p, 'train[95%:]', ME).save(tmp_path)
  found = Calibration.read(tmp_path, p.landmark_set.names, ME)
  assert np.isfinite(found.of_level(50, np.ones((2, 8)), p.boxes)).all()
  assert np.isinf(found.of_level(90, np.ones((2, 8)), p.boxes)).all()
  assert found.unknown().startswith('error_90 cannot be told')
  assert 'the 2 held-out images (train[95%:])' in found.unknown()
  figures = found.figures(p)
  assert figures['within_90']['overall'] is None
  assert figures['shares'][-1] is None
  assert 'too few' in calibration.describe(figures)
  many = Calibration.fit(predictions_of(90), 'tune', ME)
  assert many.unknown() == ''


def test_a_file_has_what_holds_for_the_same_networks(tmp_path):
  p = predictions_of(150)
  names = p.landmark_set.names
  flipped = Identity('weights', {'flip_test': True})
  Calibration.fit(p, 'tune', ME).save(tmp_path)
  first = (tmp_path / 'calibration.json').read_bytes()
  Calibration.fit(p, 'tune', ME).save(tmp_path)
  assert (tmp_path / 'calibration.json').read_bytes() == first
  assert Calibration.read(tmp_path, names, flipped) is None
  assert Calibration.read(tmp_path, names[::-1], ME) is None
  Calibration.fit(predictions_of(60), 'tune', flipped).save(tmp_path)
  found = Calibration.read(tmp_path, names, ME)
  assert (found.num_images, found.split) == (150, 'tune')
  made = Calibration.fit(p, 'tune', ME)
  scores, boxes = p.confidences['stage2'], p.boxes
  np.testing.assert_allclose(
    found.distances(scores, boxes), made.distances(scores, boxes), atol=1e-3
  )
  assert Calibration.read(tmp_path, names, flipped).num_images == 60
  # Trained anew: what was fitted to the networks before is gone.
  Calibration.fit(p, 'tune', Identity('others', {})).save(tmp_path)
  assert Calibration.read(tmp_path, names, ME) is None
  assert Calibration.read(tmp_path / 'elsewhere', names, ME) is None


@pytest.mark.parametrize(
  'change', ['weight', 'epsilon', 'flip_test', 'decoder', None]
)
def test_what_it_holds_for(tiny_config, change):
  """It changes with every weight and with what inference may be changed to."""

  def identity(change=None):
    weights = {'params': {'kernel': np.arange(6.0).reshape(2, 3)}}
    if change == 'weight':
      weights['params']['kernel'][1, 2] += 1e-6
    epsilon = 0.4 if change == 'epsilon' else 0.3
    config = tiny_config()
    config.flip_test = change == 'flip_test'
    if change == 'decoder':
      config.heatmap.decoder = 'dark'
    config.batch_size = 4 if change else 8
    stage = Stage('stage1', None, {'all': weights}, {}, epsilon)
    return Identity.of(config, [stage])

  assert (identity(change) == identity()) == (change is None)


def put(*path):
  """A change of the object of a file: the last of `path` is the value."""

  def change(content):
    *way, last, value = path
    for part in way:
      content = content[part]
    content[last] = value

  return change


FIRST = ('calibrations', 0)


@pytest.mark.parametrize(
  'change, message',
  [
    (put('version', 1), 'version: is 1, must be 2'),
    (put('calibrations', {}), 'calibrations: is {}, must be a list'),
    (put(*FIRST, 5), r'calibrations\[0\]: is 5, must be an object'),
    (put(*FIRST, 'networks', None), 'networks: is None, must be a text'),
    (put(*FIRST, 'landmarks', []), 'landmarks: is .*must be a list of names'),
    (put(*FIRST, 'num_images', -1), 'num_images: is -1, must be a whole'),
    (put(*FIRST, 'own', 'nose', {}), "own: is 'nose', must be of collar_left"),
    (put(*FIRST, 'pooled', None), 'pooled: is None, must be an object'),
    (put(*FIRST, 'pooled', 'count', 0.5), 'pooled.count: is 0.5, must be'),
    (put(*FIRST, 'pooled', 'edges', [0.5, 0.5]), 'must be a list of ascending'),
    (put(*FIRST, 'pooled', 'edges', ['a']), 'must be a list of ascending'),
    (
      put(*FIRST, 'pooled', 'quantiles', []),
      'pooled.quantiles: is .*a list of',
    ),
    (
      put(*FIRST, 'own', 'hem_left', 'quantiles', 0, [1]),
      r'quantiles\[0\]: is',
    ),
    (
      put(*FIRST, 'own', 'hem_left', 'quantiles', 0, 3, -0.1),
      r'own.hem_left.quantiles\[0\]: is .*be 10 numbers from 0 on, or null',
    ),
    (
      put(*FIRST, 'own', 'hem_left', 'quantiles', 0, 3, float('nan')),
      r'own.hem_left.quantiles\[0\]: is',
    ),
  ],
)
def test_damaged_files_are_refused(tmp_path, change, message):
  path = tmp_path / 'calibration.json'
  Calibration.fit(predictions_of(150), 'tune', ME).save(tmp_path)
  content = json.loads(path.read_text())
  change(content)
  path.write_text(json.dumps(content))
  with pytest.raises(
    InputError, match=rf'calibration\.json, .*{message}'
  ) as it:
    Calibration.read(tmp_path, ('a',), ME)
  assert '--mode=evaluate makes it again' in str(it.value)


@pytest.mark.parametrize('text', ['{', '[]', 'null'])
def test_files_of_something_else_are_refused(tmp_path, text):
  (tmp_path / 'calibration.json').write_text(text)
  with pytest.raises(InputError, match=r'calibration\.json, '):
    Calibration.read(tmp_path, ('a',), ME)


# Whole runs.


@pytest.fixture
def run(trained_workdir, tmp_path):
  """A copy of a trained run."""
  return shutil.copytree(trained_workdir, tmp_path / 'run')


def evaluate(run, **fields):
  config = trained.get_config(str(run))
  for name, value in fields.items():
    config[name] = value
  return experiment.run(config, run, mode='evaluate', splits=('test',))['test']


def photos_of(builder, folder, count=6):
  """Photos of the test split in a folder, with their boxes in a CSV."""
  folder.mkdir()
  records = input_pipeline.Records(builder, 'test')
  records = [records[i] for i in range(count)]
  lines = ['image,x1,y1,x2,y2']
  for i, record in enumerate(records):
    (folder / f'{i}.jpg').write_bytes(record['image'])
    lines.append(','.join([f'{i}.jpg', *map(repr, record['box'].tolist())]))
  (folder / 'boxes.csv').write_text('\n'.join(lines) + '\n')
  return records


def test_training_leaves_it_and_the_evaluation_measures_it(run):
  saved = json.loads((run / 'calibration.json').read_text())
  (entry,) = saved['calibrations']
  config = trained.get_config(str(run))
  assert entry['split'] == config.dataset.splits.tune
  assert entry['settings']['flip_test'] is config.flip_test is False
  figures = json.loads((run / 'eval/test/metrics.json').read_text())
  assert figures['calibration']['num_images'] == entry['num_images']
  assert 0 <= figures['calibration']['within_50']['overall'] <= 1
  assert (run / 'eval/test/figures/reliability.png').exists()
  page = (run / 'eval/test/report.html').read_text()
  assert 'within error_50' in page


def test_a_run_of_an_older_version_gets_it_by_an_evaluation(
  run, synthetic_builder, tmp_path, capsys
):
  before = (run / 'calibration.json').read_bytes()
  metrics = (run / 'eval/test/metrics.json').read_bytes()
  (run / 'calibration.json').unlink()
  photos_of(synthetic_builder, tmp_path / 'photos')
  predict = lambda name: predict_files.predict_files(
    trained.get_config(str(run)),
    run,
    str(tmp_path / 'photos'),
    tmp_path / 'photos/boxes.csv',
    tmp_path / name,
    formats=Formats(),
  )
  assert predict('without')['ok']
  assert capsys.readouterr().out.count('no error_50 and error_90') == 1
  (first, *_) = results_of(tmp_path / 'without')
  assert not set(NAMES) & set(first)
  evaluate(run)
  assert (run / 'calibration.json').read_bytes() == before
  assert (run / 'eval/test/metrics.json').read_bytes() == metrics
  assert predict('with')['ok']
  assert 'no error_50' not in capsys.readouterr().out
  found = Predictor.load(run)
  lines = (tmp_path / 'with/predictions.csv').read_text().splitlines()
  header, *rows = [line.split(',') for line in lines]
  annotations = results_of(tmp_path / 'with')
  for row, annotation in zip(rows, annotations, strict=True):
    for name in NAMES:
      values = annotation[name]
      level = int(name[-2:])
      x1, y1, w, h = annotation['bbox']
      expected = found.calibration.of_level(
        level,
        np.array([annotation['keypoint_scores']]),
        np.array([[x1, y1, x1 + w, y1 + h]]),
      )[0]
      for i, landmark in enumerate(annotation['category']['keypoints']):
        cell = row[header.index(f'{landmark}_{name}')]
        if math.isinf(expected[i]):
          assert values[i] is None and cell == ''
        else:
          assert values[i] == pytest.approx(expected[i], abs=1e-3)
          assert float(cell) == pytest.approx(expected[i], abs=0.01)


def test_other_settings_have_a_calibration_of_their_own(run, synthetic_builder):
  records = input_pipeline.Records(synthetic_builder, 'test')
  images = [decode(records[i]['image']) for i in range(3)]
  boxes = [records[i]['box'] for i in range(3)]
  plain = (run / 'calibration.json').read_bytes()
  assert Predictor.load(run, flip_test=True)(images, boxes)[0].error_50 is None
  figures = evaluate(run, flip_test=True)
  assert (run / 'calibration.json').read_bytes() != plain
  flipped = Predictor.load(run, flip_test=True)
  assert flipped.calibration.settings['flip_test'] is True
  assert figures['calibration']['within_50']['overall'] is not None
  (first, *_) = flipped(images, boxes)
  (other, *_) = Predictor.load(run)(images, boxes)
  assert np.isfinite(first.error_50).all() and np.isfinite(other.error_50).all()
  # The size of a batch is no such setting, nor does it change a distance.
  alone = flipped(images[:1], boxes[:1])[0]
  np.testing.assert_allclose(alone.error_50, first.error_50, rtol=1e-4)
  batch = Predictor.load(run, batch_size=4)
  np.testing.assert_allclose(
    batch(images, boxes)[0].error_50, other.error_50, rtol=1e-4
  )


def test_data_that_the_run_was_not_trained_on_calibrate_nothing(run, tmp_path):
  (run / 'calibration.json').unlink()
  config = trained.get_config(str(run))
  config.dataset.sizes.train = 40
  figures = experiment.run(config, run, mode='evaluate', splits=('test',))
  assert 'calibration' not in figures['test']
  assert not (run / 'calibration.json').exists()
  page = (run / 'eval/test/report.html').read_text()
  assert 'reliability' not in page


@pytest.mark.parametrize(
  'change, message',
  [
    (put('calibration', []), 'calibration: is'),
    (put('calibration', 'split', 3), 'calibration.split: is 3'),
    (put('calibration', 'levels', [0.5]), 'calibration.levels: is'),
    (put('calibration', 'shares', 2, 'x'), 'calibration.shares: is'),
    (put('calibration', 'within_90', {}), 'calibration.within_90.overall: is'),
    (
      put('calibration', 'typical_50', 'per_landmark', 'nose', 0.1),
      'calibration.typical_50.per_landmark: is',
    ),
  ],
)
def test_damaged_figures_are_refused(run, tmp_path, change, message):
  path = run / 'eval/test/metrics.json'
  content = json.loads(path.read_text())
  change(content)
  path.write_text(json.dumps(content))
  with pytest.raises(InputError, match=rf'metrics\.json, {message}'):
    report.report([run], tmp_path / 'report', 'test')
