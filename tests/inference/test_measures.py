"""Lengths between landmarks: their form, their intervals, and their files.

The oracles are lengths worked out by hand, a loop in plain Python, and photos
that are rendered with a known homography.
"""

import csv
import json
import math

import cv2
import numpy as np
import pytest
from made_up_runs import make_run
from PIL import Image

from fld_jax import landmark_sets
from fld_jax.configs import trained
from fld_jax.errors import InputError
from fld_jax.evaluation.calibration import Calibration, Identity
from fld_jax.inference import measures, predict_files, scales
from fld_jax.inference.landmarks import Landmarks
from fld_jax.inference.result_files import Formats
from fld_jax.metrics.held_out import HeldOut

SET = landmark_sets.FASHION_8
NAMES = SET.names
BODY = 'body=collar_left+collar_right:waist_left+waist_right:hem_left'


def item(positions, **fields):
  """An item with these positions, and a box that holds 100 x 100 pixels."""
  values = {
    'box': np.array([0.0, 0.0, 100.0, 100.0]),
    'present': np.ones(8, bool),
    'visibility': None,
    'visibility_probs': None,
    'confidence': np.ones(8),
    'score': 1.0,
    'route': (),
    'stages': {},
  }
  return Landmarks(SET, positions=positions, **{**values, **fields})


def test_lengths_are_those_of_lines_through_points():
  """3-4-5 triangles, worked out by hand."""
  positions = np.zeros((8, 2))
  positions[NAMES.index('collar_left')] = -2, 0
  positions[NAMES.index('collar_right')] = 2, 0
  positions[NAMES.index('waist_left')] = 2, 4
  positions[NAMES.index('waist_right')] = 4, 4
  positions[NAMES.index('hem_left')] = 3, 16
  across, body = measures.parse(['collar=collar_left:collar_right', BODY])
  assert across.length(positions, NAMES) == 4
  # (0, 0) to (3, 4) to (3, 16).
  assert body.length(positions, NAMES) == 17
  assert body.landmarks == (
    'collar_left',
    'collar_right',
    'waist_left',
    'waist_right',
    'hem_left',
  )
  found = measures.Measures([across, body], None, None)
  length = found.of(body, item(positions))
  assert (length.value, length.low, length.high) == (17, 0, math.inf)


@pytest.mark.parametrize(
  ('texts', 'words'),
  [
    (['hem'], 'must be NAME=LANDMARK:LANDMARK'),
    (['hem=hem_left'], 'must be NAME=LANDMARK:LANDMARK'),
    (['hem=hem_left:'], 'must be NAME=LANDMARK:LANDMARK'),
    (['hem=a+:b'], 'must be NAME=LANDMARK:LANDMARK'),
    (['=a:b'], 'must be of letters'),
    (['my hem=a:b'], 'must be of letters'),
    (['marker=a:b'], 'marker card'),
    (['hem=a:a'], 'to the same point'),
    (['hem=a:b+b'], 'to the same point'),
    (['hem=a:b', 'hem=b:c'], 'is there 2 times'),
  ],
)
def test_wrong_measures_are_refused(texts, words):
  with pytest.raises(InputError, match='--measure') as error:
    measures.parse(texts)
  assert words in str(error.value)


def test_unknown_landmarks_are_refused_with_those_that_there_are():
  found = measures.parse(['hem=hem_lfet:hem_right'])
  with pytest.raises(InputError, match="'hem_lfet' is no landmark") as error:
    measures.check_names(found, SET)
  assert "Did you mean 'hem_left'?" in str(error.value)


def correlated(count, seed):
  """Predictions whose errors are correlated and grow with the unsureness."""
  p = make_run(count=count, seed=seed, cascade=False, num_stages=2).predictions
  rng = np.random.default_rng(seed)
  p.visibility[:] = 0
  p.visibility[rng.random(p.visibility.shape) < 0.1] = 1
  scale = 20 * (1.1 - p.confidences['stage2'])[..., None]
  common = rng.normal(size=(count, 1, 2))
  own = rng.standard_t(4, size=p.landmarks.shape)
  p.estimates['stage2'] = p.landmarks + scale * (common + 0.5 * own)
  return p


def loop_length(points, name_a, name_b):
  a, b = points[NAMES.index(name_a)], points[NAMES.index(name_b)]
  return math.dist(a, b)


def test_intervals_hold_nine_in_ten_true_lengths():
  """Of 2,000 other images; independent errors would give too wide ones."""
  held = correlated(1000, seed=0)
  fitted = Calibration.fit(held, 'tune', Identity('weights', {}))
  (hem,) = measures.parse(['hem=hem_left:hem_right'])
  measuring = measures.Measures([hem], None, fitted.held_out)
  new = correlated(2000, seed=1)
  radius = fitted.of_level(50, new.confidences['stage2'], new.boxes)
  hits = []
  for i in range(2000):
    if new.visibility[i, 6] or new.visibility[i, 7]:
      continue
    true = loop_length(new.landmarks[i], 'hem_left', 'hem_right')
    found = measuring.of(
      hem, item(new.estimates['stage2'][i], error_50=radius[i])
    )
    hits.append(found.low <= true <= found.high)
  assert len(hits) > 1500
  # A standard error of 1 % of the fit and 0.8 % of the measurement.
  assert abs(np.mean(hits) - 0.9) < 0.03


def test_factors_are_the_ranks_of_split_conformal_prediction():
  p = correlated(100, seed=2)
  held = HeldOut.of(p, np.ones((100, 8)))
  (hem,) = measures.parse(['hem=hem_left:hem_right'])
  residuals = []
  for i in range(100):
    if p.visibility[i, 6] == p.visibility[i, 7] == 0:
      x1, y1, x2, y2 = p.boxes[i]
      side = math.sqrt((x2 - x1) * (y2 - y1))
      true, found = (
        loop_length(each[i], 'hem_left', 'hem_right') / side
        for each in (p.landmarks, p.estimates['stage2'])
      )
      residuals.append((true - found) / math.sqrt(2))
  residuals.sort()
  n = len(residuals)
  low, high = math.floor((n + 1) * 0.05), math.ceil((n + 1) * 0.95)
  assert measures.factors(hem, held) == pytest.approx(
    (residuals[low - 1], residuals[high - 1]), abs=1e-4
  )


def test_too_few_images_give_no_interval():
  held = HeldOut.of(correlated(15, seed=3), np.ones((15, 8)))
  (hem,) = measures.parse(['hem=hem_left:hem_right'])
  assert measures.factors(hem, held) == (-math.inf, math.inf)
  measuring = measures.Measures([hem], None, held)
  assert 'hem is not known' in measuring.notes()[0]


def test_kept_landmarks_come_back_from_the_file(tmp_path):
  p = correlated(1200, seed=4)
  me = Identity('weights', {})
  before = Calibration.fit(p, 'tune', me)
  before.save(tmp_path)
  held = Calibration.read(tmp_path, NAMES, me).held_out
  assert held.estimates.shape == (1000, 8, 2)
  for field in ('estimates', 'truth', 'visible', 'radius'):
    np.testing.assert_allclose(
      getattr(held, field), getattr(before.held_out, field), atol=1e-5
    )
  x1, y1, x2, y2 = p.boxes[0]
  side = math.sqrt((x2 - x1) * (y2 - y1))
  for slot in range(8):
    expected = p.estimates['stage2'][0, slot] - [(x1 + x2) / 2, (y1 + y2) / 2]
    np.testing.assert_allclose(
      held.estimates[0, slot], expected / side, atol=1e-5
    )


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    (lambda x: x.pop('held_out'), 'held_out: is None, must be an object'),
    (lambda x: x['held_out']['truth'].pop(), 'held_out.truth: .* a list of'),
    (
      lambda x: x['held_out']['error_50'].__setitem__(0, 'a'),
      'held_out.error_50',
    ),
  ],
)
def test_damaged_landmarks_are_refused(tmp_path, change, words):
  me = Identity('weights', {})
  Calibration.fit(correlated(60, seed=5), 'tune', me).save(tmp_path)
  path = tmp_path / 'calibration.json'
  content = json.loads(path.read_text())
  change(content['calibrations'][0])
  path.write_text(json.dumps(content))
  with pytest.raises(InputError, match=words):
    Calibration.read(tmp_path, NAMES, me)


def marker_photo(homography, size=(900, 700)):
  """A photo of a grey table with a card, of a plane of 0.01 cm a pixel.

  The card's first corner is at 2, 2 cm of the plane.
  """
  plane = np.full((2500, 3000), 200, np.uint8)
  plane[150:850, 150:850] = 255
  plane[200:700, 200:700] = scales.draw_marker(500)
  photo = cv2.warpPerspective(
    plane, homography, size, flags=cv2.INTER_AREA, borderValue=120
  )
  return np.repeat(photo[..., None], 3, axis=2)


# From pixels of the plane: straight from the front, and from the side.
FRONT = np.array([[0.3, 0, 0], [0, 0.3, 0], [0, 0, 1]])
CORNERS = np.float32([[0, 0], [3000, 0], [3000, 2500], [0, 2500]])
SIDE = cv2.getPerspectiveTransform(
  CORNERS, np.float32([[20, 10], [860, 90], [800, 600], [60, 690]])
)


@pytest.mark.parametrize('homography', [FRONT, SIDE])
def test_the_marker_gives_lengths_in_centimetres(homography):
  ruler = scales.find_marker(marker_photo(homography), 5.0)
  # 20 cm apart in the plane, far from the card, in the same corner's frame.
  ends = np.array([[500.0, 2200.0], [2500.0, 2200.0]])
  mapped = np.c_[ends, np.ones(2)] @ homography.T
  # OpenCV's positions are from the centre of the first pixel.
  pixels = mapped[:, :2] / mapped[:, 2:] + 0.5
  found = ruler.to_cm(pixels)
  assert math.dist(*found) == pytest.approx(20, rel=0.02)
  np.testing.assert_allclose(found, (ends - 200) / 100, atol=0.3)


def test_photos_without_our_marker_have_no_scale():
  photo = marker_photo(FRONT)
  assert scales.find_marker(np.full_like(photo, 200), 5.0) is None
  assert (
    scales.find_marker(marker_photo(FRONT * [[0.05], [0.05], [1]]), 5.0) is None
  )


def test_centimetres_a_pixel_are_measured_in_the_middle_of_the_landmarks():
  assert scales.Ruler.uniform(0.25).at(np.ones((4, 2))) == pytest.approx(0.25)
  ruler = scales.Ruler(np.array([[1, 0, 0], [0, 1, 0], [0.01, 0, 1.0]]))
  # The determinant of the derivative of x / (1 + 0.01 x), y / (1 + 0.01 x).
  expected = math.sqrt(1 / 2**2 * 1 / 2)
  assert ruler.at(np.array([[100.0, 0.0]])) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('', 'must be centimetres a pixel'),
    ('0', 'must be centimetres a pixel'),
    ('-1', 'must be centimetres a pixel'),
    ('0,05', 'must be centimetres a pixel'),
    ('length=40', 'a NAME of --measure'),
    ('hem=0', 'CM above 0'),
    ('marker=five', 'CM above 0'),
    ('missing.csv', 'missing.csv: cannot be read'),
  ],
)
def test_wrong_scales_are_refused(tmp_path, text, words):
  with pytest.raises(InputError, match=words):
    scales.parse(text, ('hem',), tmp_path)


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    ('image,scale\na.jpg,1\n', "no column 'cm_per_pixel'"),
    ('image,cm_per_pixel\na.jpg,0\n', 'line 2, cm_per_pixel'),
    ('image,cm_per_pixel\na.jpg,1\na.jpg,2\n', 'line 3: .*another scale'),
  ],
)
def test_wrong_files_of_scales_are_refused(tmp_path, content, words):
  (tmp_path / 's.csv').write_text(content)
  with pytest.raises(InputError, match=words):
    scales.parse(str(tmp_path / 's.csv'), ('hem',), tmp_path)


def rows_of(path):
  with path.open() as file:
    return list(csv.DictReader(file))


def square(size):
  """Landmarks whose hem is `size` pixels wide and whose collar is 10."""
  positions = np.zeros((8, 2))
  positions[NAMES.index('collar_right')] = 10, 0
  positions[NAMES.index('hem_right')] = size, 0
  return positions


@pytest.mark.parametrize(
  ('scale', 'per_pixel'),
  [
    ('0.5', (0.5, 0.5)),
    ('collar=20', (2, 2)),
    ('scales.csv', (3, None)),
  ],
)
def test_lines_and_chart(tmp_path, scale, per_pixel):
  (tmp_path / 'scales.csv').write_text('image,cm_per_pixel\na.jpg,3\n')
  if scale.endswith('.csv'):
    scale = str(tmp_path / scale)
  found = measures.parse(
    ['hem=hem_left:hem_right', 'collar=collar_left:collar_right']
  )
  measuring = measures.Measures(
    found, scales.parse(scale, ('hem', 'collar'), tmp_path), None
  )
  header = ','.join(measuring.header()).encode() + b'\n'
  lines = [
    measuring.line('a.jpg', item(square(30), category='upper')),
    measuring.line('b.jpg', item(square(50), category='upper')),
  ]
  path = tmp_path / 'measures.csv'
  path.write_bytes(header + b''.join(lines))
  for row, size, factor in zip(rows_of(path), (30, 50), per_pixel, strict=True):
    assert float(row['hem_px']) == size
    assert row['hem_px_low'] == row['hem_px_high'] == ''
    if factor:
      assert float(row['hem_cm']) == pytest.approx(factor * size)
      assert float(row['cm_per_pixel']) == pytest.approx(factor)
    else:
      assert row['hem_cm'] == row['cm_per_pixel'] == ''
      assert 'no scale' in ' '.join(measuring.notes())
  with (tmp_path / 'size_chart.csv').open('wb') as file:
    measuring.write_chart(file)
  chart = {
    (row['measure'], row['unit']): row
    for row in rows_of(tmp_path / 'size_chart.csv')
  }
  assert float(chart['hem', 'px']['mean']) == 40
  assert float(chart['hem', 'px']['p50']) == 40
  assert chart['hem', 'px']['count'] == '2'
  known = [
    factor * s for s, factor in zip((30, 50), per_pixel, strict=True) if factor
  ]
  assert float(chart['hem', 'cm']['mean']) == pytest.approx(np.mean(known))


def test_what_is_not_there_is_not_measured_and_counted():
  found = measures.parse(['hem=hem_left:hem_right'])
  measuring = measures.Measures(found, None, None)
  lacking = np.array(SET.names) != 'hem_left'
  outside = ['visible'] * 7 + ['truncated']
  assert measuring.of(found[0], item(square(30), present=lacking)) is None
  away = item(square(30), visibility=tuple(outside))
  assert measuring.of(found[0], away) is None
  measuring.line('a.jpg', away)
  assert (
    measuring.notes()[0]
    == 'Not measured, hem: a landmark is not there: 1 items'
  )


def test_a_run_measures_photos(trained_workdir, tmp_path):
  """The columns are those of the landmarks in predictions.csv."""
  rng = np.random.default_rng(0)
  (tmp_path / 'images').mkdir()
  for i in range(3):
    pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'images' / f'{i}.png')
  output = tmp_path / 'out'
  predict_files.predict_files(
    trained.get_config(str(trained_workdir)),
    trained_workdir,
    str(tmp_path / 'images'),
    None,
    output,
    False,
    Formats(measures=('hem=hem_left:hem_right',), scale='0.1'),
  )
  predicted = rows_of(output / 'predictions.csv')
  measured = rows_of(output / 'measures.csv')
  assert len(measured) == 3
  for row, line in zip(predicted, measured, strict=True):
    ends = [
      (float(row[f'{name}_x']), float(row[f'{name}_y']))
      for name in ('hem_left', 'hem_right')
    ]
    if line['hem_px']:
      assert float(line['hem_px']) == pytest.approx(math.dist(*ends), abs=0.03)
      assert float(line['hem_cm']) == pytest.approx(
        0.1 * float(line['hem_px']), abs=0.01
      )
  assert (output / 'size_chart.csv').exists()


def test_the_card_is_found_again(tmp_path):
  scales.write_card(tmp_path)
  content = (tmp_path / 'marker_card.pdf').read_bytes()
  assert content.startswith(b'%PDF')
  # 9 x 8 cm in points of 1/72 inch.
  width, height = 9 / 2.54 * 72, 8 / 2.54 * 72
  box = content.split(b'/MediaBox')[1].split(b']')[0].strip(b' [').split()
  np.testing.assert_allclose(
    [float(x) for x in box[2:]], [width, height], atol=0.2
  )
