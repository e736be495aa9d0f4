import dataclasses

import cv2
import numpy as np
import pytest
from made_up_runs import make_run

from fld_jax import landmark_sets, papers, schema
from fld_jax.evaluation import text_tables
from fld_jax.evaluation.analysis import analyse
from fld_jax.metrics import normalised_error
from fld_jax.metrics.predictions import Predictions
from fld_jax.visualization import curves, drawing

HISTORY = [
  {'stage': stage, 'step': step, 'images': 8 * step, 'loss': 1 / step, **extra}
  for stage in ('one', 'two')
  for step, extra in ((1, {}), (2, {'tune_ne': 0.2}), (3, {'tune_ne': 0.1}))
]


def fake_predictions(count=5):
  rng = np.random.default_rng(3)
  landmarks = rng.uniform(60, 140, (count, 8, 2))
  visibility = np.zeros((count, 8), int)
  visibility[:, 1], visibility[:, 2] = schema.OCCLUDED, schema.TRUNCATED
  visibility[0] = schema.TRUNCATED  # an image without any visible landmark
  estimates = {
    name: landmarks + rng.normal(0, spread, landmarks.shape)
    for name, spread in (('one', 9), ('s2 direct regression', 4))
  }
  return Predictions(
    ids=[f'img/{i}<&>.jpg' for i in range(count)],
    image_ids=np.arange(count),
    boxes=np.tile([50.0, 50, 150, 150], (count, 1)),
    image_sizes=np.tile([200, 180], (count, 1)),
    landmarks=landmarks,
    visibility=visibility,
    clothes_type=np.full(count, 3),
    variation=np.zeros(count, int),
    estimates=estimates,
    visibility_probs={
      name: rng.dirichlet([1, 1, 1], (count, 8)) for name in estimates
    },
  )


def grey_image(index):
  return np.full((180, 200, 3), 90 + index, np.uint8)


def decode(path):
  image = cv2.imread(str(path), cv2.IMREAD_COLOR)
  assert image is not None, path
  return image[..., ::-1]


def count_pixels(image, colour):
  return int((image == np.array(colour)).all(axis=-1).sum())


def test_drawn_where_the_landmark_is():
  image = grey_image(0)
  landmarks = np.tile([20.5, 30.5], (8, 1)) + 18 * np.arange(8)[:, None]
  visibility = np.array([0, 0, 1, 1, 2, 2, -1, -1])
  drawn = drawing.draw_landmarks(image, landmarks, visibility)
  assert (image == 90).all()  # a copy was drawn on
  for i in range(8):
    x, y = np.floor(landmarks[i]).astype(int)
    left = landmark_sets.FASHION_8.names[i].endswith('_left')
    colour = drawing.LEFT if left else drawing.RIGHT
    expected = colour if i < 4 else (90, 90, 90)
    assert tuple(drawn[y, x]) == expected, i


def test_a_landmark_without_a_side_has_its_own_colour():
  names = ('cuff_left', 'cuff_right', 'tip')
  landmarks = np.array([[20.5, 20.5], [60.5, 60.5], [100.5, 100.5]])
  codes = np.zeros(3, int)
  drawn = drawing.draw_landmarks(grey_image(0), landmarks, codes, names=names)
  colours = [tuple(drawn[i, i]) for i in (20, 60, 100)]
  assert colours == [drawing.LEFT, drawing.RIGHT, drawing.MIDDLE]
  # The plots and the page use the same colours, by the set's sides.
  sides = schema.LandmarkSet(names).sides
  assert sides == ('left', 'right', 'middle')
  for side, colour in zip(sides, colours, strict=True):
    assert drawing.SIDE_COLOURS[side] == '#{:02X}{:02X}{:02X}'.format(*colour)


def test_sides_of_pairs_that_words_do_not_tell():
  one = schema.LandmarkSet(('a', 'b', 'c'), swaps=(('c', 'a'),))
  assert one.sides == ('left', 'middle', 'right')


def test_circles_are_centred_to_a_fraction_of_a_pixel():
  """The centre of mass of what is drawn is the landmark, in our convention."""
  for point in ((50.5, 60.5), (50.9, 60.1), (51.0, 60.25)):
    image = np.zeros((120, 120, 3), np.uint8)
    landmarks = np.array([point] + [(0, 0)] * 7)
    codes = np.array([0] + [-1] * 7)
    drawn = drawing.draw_landmarks(image, landmarks, codes).astype(float)
    weight = drawn[..., 0]  # the rim and LEFT are both 255 in red
    y, x = np.mgrid[:120, :120] + 0.5
    mass = [(weight * x).sum(), (weight * y).sum()] / weight.sum()
    np.testing.assert_allclose(mass, point, atol=0.15)


def test_truth_is_hollow_and_joined():
  image = grey_image(0)
  landmarks = np.full((8, 2), 40.5)
  truth = np.full((8, 2), 40.5) + [100, 0]
  codes = np.array([0] + [-1] * 7)
  drawn = drawing.draw_landmarks(image, landmarks, codes, truth=truth)
  assert tuple(drawn[40, 40]) == drawing.LEFT
  # The line, smoothed at its edges.
  np.testing.assert_allclose(drawn[40, 90], drawing.LEFT, atol=25)
  assert tuple(drawn[42, 140]) == (90, 90, 90)  # inside of the ring
  ring = drawn[25:56, 134:156].astype(int)
  near = np.abs(ring - drawing.LEFT).max(axis=-1) < 80
  assert near.sum() > 10


def test_wild_estimates_can_be_drawn():
  landmarks = np.full((8, 2), 1e12)
  drawn = drawing.draw_landmarks(grey_image(0), landmarks, np.zeros(8, int))
  assert drawn.shape == (180, 200, 3)


def test_overlay_sheet_grid():
  predictions = fake_predictions()
  errors = {
    stage: normalised_error.image_errors(predictions, stage, 'bbox_wh')
    for stage in predictions.estimates
  }
  one = drawing.overlay_sheet(grey_image, predictions, [1], errors)
  three = drawing.overlay_sheet(grey_image, predictions, [1, 2, 0], errors)
  assert one.dtype == np.uint8 and one.shape[1] == three.shape[1]
  assert one.shape[1] % 3 == 0  # truth and two stages
  np.testing.assert_array_equal(three[: len(one)], one)
  row = len(one) - drawing.TEXT_HEIGHT
  assert len(three) == drawing.TEXT_HEIGHT + 3 * row
  for column in np.split(one, 3, axis=1):
    assert count_pixels(column, drawing.LEFT) > 100
  # Nothing is drawn for the example of which every landmark is truncated.
  assert count_pixels(three[-row:], drawing.LEFT) == 0


def run_of(macro, collar=None, outliers=0.1, duplicates=None):
  """What tables.figures returns."""
  ne = {'macro': macro, 'micro': 0.2, 'per_landmark': {'collar_left': collar}}
  return {'ne': ne, 'outlier_rate': outliers, 'duplicate_rate': duplicates}


def table_rows():
  return {
    'a': {
      'title': 'plain',
      'paper': {'collar_left': 0.071, 'average': 0.102},
      'base': '',
      'runs': {0: run_of(0.10, 0.05), 1: run_of(0.14, 0.07)},
    },
    'b': {
      'title': 'with it',
      'paper': {'average': None},
      'base': 'a',
      'runs': {
        0: run_of(0.09, outliers=0.2),
        1: run_of(0.11, outliers=0.3),
        2: run_of(0.13, outliers=0.3),
      },
    },
  }


def test_compare_with_paper():
  text = text_tables.compare_with_paper(table_rows(), 'About it.')
  lines = text.splitlines()
  assert max(map(len, lines)) <= 120
  row = lambda start, nth=0: [
    line.removeprefix(start).split() for line in lines if line.startswith(start)
  ][nth]
  assert lines[1].split() == ['NE', 'left']
  assert row('plain: paper') == ['7.10', '10.20']
  assert row('plain: ours') == ['6.00', '12.00']
  assert row('with it: ours') == ['-', '11.00']
  assert not any(line.startswith('with it: paper') for line in lines)
  # NE of 10 and 14; nothing to be compared with; 10 % of outliers.
  assert row('plain ', 0)[:4] == ['12.00', '2.83', '-', '-']
  assert row('plain ', 0)[4:] == ['10.00', '0.00', *'------']
  # Seeds 0 and 1 changed by -1 and -3, outliers by 10 and 20.
  assert row('with it ')[:4] == ['11.00', '2.00', '-2.00', '1.41']
  assert row('with it ')[4:8] == ['26.67', '5.77', '15.00', '7.07']
  assert lines[-1] == 'In per cent. Seeds 0, 1, 2. About it.'


def test_a_table_without_bases_is_one_table():
  rows = {'a': table_rows()['a']}
  lines = text_tables.compare_with_paper(rows, 'About.').splitlines()
  assert [line.split(':')[0] for line in lines].count('plain') == 2
  assert 'outlier' not in ''.join(lines)


def test_sweep_is_drawn(tmp_path):
  rows = table_rows()
  rows['a'].update(beta=0.0, chosen=False)
  rows['b'].update(beta=1e-4, chosen=True)
  rows['c'] = {**rows['b'], 'beta': 1e-3, 'chosen': False}
  for row in rows.values():
    for run in row['runs'].values():
      run['duplicate_rate'] = 0.01
  curves.plot_sweep(rows).savefig(tmp_path / 'sweep.png')
  image = decode(tmp_path / 'sweep.png')
  assert image.shape[1] > 800 and image.std() > 5


def test_paper_table():
  """The printed averages are the means of the shown columns, near enough."""
  assert len(papers.DFA_TABLE_2) == 12
  for row in papers.DFA_TABLE_2.values():
    assert len(row) == 7
    assert np.mean(row[:6]) == pytest.approx(row[6], abs=0.0021)


def test_curves_hold_the_numbers():
  run = make_run(num_stages=2)
  facts = dataclasses.replace(analyse([run]), history=HISTORY)
  axes = curves.plot_pdl(facts).axes[0]
  for line in axes.lines[:2]:
    shares = run.figures['stages'][line.get_label()]['pdl_curve']
    np.testing.assert_allclose(line.get_ydata(), 100 * np.array(shares))
  loss, ne = curves.plot_training(facts).axes
  assert [line.get_label() for line in loss.lines] == ['one', 'two']
  np.testing.assert_allclose(loss.lines[0].get_xdata(), [8, 16, 24])
  np.testing.assert_allclose(ne.lines[1].get_ydata(), [20, 10])
