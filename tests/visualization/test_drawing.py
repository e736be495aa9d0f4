import dataclasses
import io
import weakref

import cv2
import numpy as np
import pytest
from made_up_runs import make_run
from matplotlib.axes import Axes
from PIL import Image

from fld_jax import landmark_sets, papers, schema
from fld_jax.evaluation import text_tables
from fld_jax.evaluation.analysis import analyse
from fld_jax.metrics import normalised_error
from fld_jax.metrics.predictions import Predictions
from fld_jax.visualization import (
  curves,
  data_plots,
  drawing,
  error_plots,
  lettering,
  pictures,
  sheets,
)
from fld_jax.visualization.drawing import Marks

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


SETS = {
  'words': landmark_sets.FASHION_8,
  'declared': schema.LandmarkSet(
    ('a', 'b', 'c', 'd'),
    swaps=(('d', 'a'),),
    skeleton=(('a', 'b'), ('c', 'd')),
  ),
  'camel': schema.LandmarkSet(('neckL', 'neckR', 'tip', 'hemR', 'hemL')),
  'chinese': schema.LandmarkSet(('左领', '右领', 'middle')),
  'none': schema.LandmarkSet(('p', 'q', 'r'), swaps=()),
}
COLOUR = {
  'left': drawing.LEFT,
  'right': drawing.RIGHT,
  'middle': drawing.MIDDLE,
}


def spread_points(landmarks):
  """Points of a diagonal, in the middle of pixels."""
  slots = np.arange(landmarks.num_landmarks)[:, None]
  return np.array([20.5, 30.5]) + [18, 17] * slots


def near(image, place, radius):
  """(m, 3) pixels of a circle around a place, at a radius of at least that."""
  y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
  distance = np.hypot(x - place[0], y - place[1])
  return image[abs(distance - radius) < 0.7]


@pytest.mark.parametrize('name', SETS)
@pytest.mark.parametrize('kind', ['estimate', 'truth'])
def test_a_mark_has_the_colour_of_its_side(name, kind):
  landmarks = SETS[name]
  points, image = spread_points(landmarks), grey_image(0)
  marks = Marks(np.zeros(len(points), int), **{kind: points})
  drawn = drawing.draw(
    image, [marks], dataclasses.replace(landmarks, skeleton=())
  )
  for point, side in zip(points, landmarks.sides, strict=True):
    x, y = np.floor(point).astype(int)
    expected = COLOUR[side] if kind == 'estimate' else (90, 90, 90)
    assert tuple(drawn[y, x]) == expected, (side, 'a disc is filled')
    ring = near(drawn, point, 2.5 + drawing.MIN_RADIUS)
    is_colour = np.abs(ring.astype(int) - COLOUR[side]).max(axis=1) < 90
    assert (is_colour.mean() > 0.7) == (kind == 'truth'), side


def test_the_page_and_plots_have_the_same_colours():
  for side, colour in COLOUR.items():
    assert drawing.SIDE_COLOURS[side] == '#{:02X}{:02X}{:02X}'.format(*colour)


@pytest.mark.parametrize('code', [-1, 0, 1, 2])
@pytest.mark.parametrize('kind', ['estimate', 'truth'])
def test_rims_and_what_is_not_drawn(code, kind):
  image, landmarks = grey_image(0), SETS['none']
  marks = Marks(np.array([code, -1, -1]), **{kind: np.full((3, 2), 60.5)})
  drawn = drawing.draw(image, [marks], landmarks)
  if code in (schema.ABSENT, schema.TRUNCATED):
    np.testing.assert_array_equal(drawn, image)
    return
  outer = {'estimate': 3.6, 'truth': 6.9}[kind]
  rim = near(drawn, (60.5, 60.5), outer).mean()
  assert rim > 150 if code == schema.VISIBLE else rim < 75


def test_unsure_is_faint_and_truth_is_not():
  landmarks = SETS['none']
  points = np.array([[30.5, 60.5], [90.5, 60.5], [150.5, 60.5]])
  sure = np.array([drawing.UNSURE - 1e-3, drawing.UNSURE, 1.0])
  marks = Marks(np.zeros(3, int), estimate=points, confidence=sure)
  drawn = drawing.draw(grey_image(0), [marks], landmarks)
  share = drawing.FAINT
  expected = share * np.array(drawing.MIDDLE) + (1 - share) * 90
  np.testing.assert_allclose(drawn[60, 30], expected, atol=1)
  for x in (90, 150):
    assert tuple(drawn[60, x]) == drawing.MIDDLE
  # The ring of a truth does not depend on the estimate's confidence.
  rings = [
    drawing.draw(
      grey_image(0),
      [dataclasses.replace(marks, truth=points + [0, 40], confidence=c)],
      landmarks,
    )[105:115, 20:41]
    for c in (sure, None)
  ]
  np.testing.assert_array_equal(*rings)


def test_truth_and_estimate_are_joined():
  landmarks = SETS['none']
  marks = Marks(
    np.array([0, -1, -1]),
    estimate=np.full((3, 2), 40.5),
    truth=np.full((3, 2), 40.5) + [100, 0],
  )
  drawn = drawing.draw(grey_image(0), [marks], landmarks)
  np.testing.assert_allclose(drawn[40, 90], drawing.MIDDLE, atol=25)
  assert tuple(drawn[40, 20]) == (90, 90, 90)


def test_skeleton_lies_under_the_dots_and_needs_both_ends():
  landmarks = SETS['declared']
  points = np.array([[20.5, 20.5], [80.5, 20.5], [20.5, 90.5], [80.5, 90.5]])
  marks = Marks(np.array([0, 0, -1, 0]), estimate=points)
  drawn = drawing.draw(grey_image(0), [marks], landmarks)
  assert drawn[20, 50].min() > 170  # between a side and none: light
  assert tuple(drawn[20, 20]) == COLOUR[landmarks.sides[0]]
  assert tuple(drawn[90, 50]) == (90, 90, 90)
  same_side = dataclasses.replace(landmarks, swaps=(('a', 'c'), ('b', 'd')))
  drawn = drawing.draw(grey_image(0), [marks], same_side)
  share = drawing.LINE
  assert (
    np.abs(
      drawn[20, 50] - share * np.array(drawing.LEFT) - (1 - share) * 90
    ).max()
    < 60
  )


@pytest.mark.parametrize('scale', [1, (1.5, 1.5)])
def test_a_circle_has_the_radius_that_is_stated(scale):
  """Of three landmarks one is known to 20 pixels, and one not at all."""
  marks = Marks(
    np.zeros(3, int),
    estimate=np.array([[60.5, 60.5], [20.5, 20.5], [60.5, 100.5]]),
    reach=np.array([20.0, np.inf, 1e9]),
  ).moved(scale, (0, 0))
  factor = np.ravel(scale)[0]
  landmarks = SETS['none']
  image = np.zeros((200, 200, 3), np.uint8)
  drawn = drawing.draw(image, [marks], landmarks)
  plain = drawing.draw(
    image, [dataclasses.replace(marks, reach=None)], landmarks
  )
  y, x = np.nonzero((drawn != plain).any(axis=-1))
  away = np.hypot(x + 0.5 - 60.5 * factor, y + 0.5 - 60.5 * factor)
  assert len(away) > 2 * np.pi * 20 * factor
  assert away.mean() == pytest.approx(20 * factor, abs=0.5)
  np.testing.assert_allclose(away, 20 * factor, atol=4)  # with its white rim


def test_box_is_a_thin_line():
  box = np.array([30.0, 40, 120, 150])
  marks = Marks(np.full(3, -1), truth=np.zeros((3, 2)), box=box)
  image = np.zeros((180, 200, 3), np.uint8)
  drawn = drawing.draw(image, [marks], SETS['none'])
  light = drawn.min(axis=-1) > 150
  assert light.sum() == pytest.approx(2 * (90 + 110), abs=6)
  y, x = np.nonzero(light)
  assert (x.min(), y.min(), x.max(), y.max()) == (30, 40, 119, 149)


def test_discs_are_centred_to_a_fraction_of_a_pixel():
  """The centre of mass of what is drawn is the landmark, in our convention."""
  for point in ((50.5, 60.5), (50.9, 60.1), (51.0, 60.25)):
    image = np.zeros((120, 120, 3), np.uint8)
    marks = Marks(np.array([0, -1, -1]), estimate=np.array([point] * 3))
    landmarks = schema.LandmarkSet(('left_a', 'right_a', 'b'))
    drawn = drawing.draw(image, [marks], landmarks)
    weight = (drawn[..., 0] > 120) * drawn[..., 0].astype(float)
    y, x = np.mgrid[:120, :120] + 0.5
    mass = [(weight * x).sum(), (weight * y).sum()] / weight.sum()
    np.testing.assert_allclose(mass, point, atol=0.25)


@pytest.mark.parametrize('value', [1e12, -1e12, np.nan, np.inf])
def test_wild_estimates_can_be_drawn(value):
  landmarks = landmark_sets.FASHION_8
  wild = np.full((8, 2), value)
  marks = Marks(
    np.zeros(8, int), estimate=wild, truth=wild, box=np.full(4, value)
  )
  drawn = drawing.labelled(grey_image(0), [marks], landmarks)
  assert drawn.shape[1:] == (200, 3) and len(drawn) >= 180


@pytest.mark.parametrize('seed', range(6))
def test_drawing_never_changes_what_it_is_given(seed):
  rng = np.random.default_rng(seed)
  landmarks = [*SETS.values(), landmark_sets.COCO_17][seed % 6]
  n = landmarks.num_landmarks
  image = rng.integers(0, 256, (rng.integers(1, 90), 120, 3), np.uint8)
  items = [
    Marks(
      rng.integers(-1, 3, n),
      estimate=rng.normal(60, 50, (n, 2)) if seed % 2 else None,
      truth=rng.normal(60, 50, (n, 2)),
      confidence=rng.uniform(size=n),
      box=rng.uniform(0, 90, 4),
    )
    for _ in range(3)
  ]
  fields = [f.name for f in dataclasses.fields(Marks)]
  copies = [
    image.copy(),
    *(np.copy(getattr(item, f)) for item in items for f in fields),
  ]
  picture, _ = drawing.enlarged(
    image, [item.box for item in items], least=1, most=999, item=1
  )
  drawing.labelled(picture, items, landmarks)
  entry = sheets.Entry(image, items[0].box, 'a', items[0])
  sheets.contact_sheet([entry], landmarks, 3)
  left = [image, *(getattr(item, f) for item in items for f in fields)]
  for before, after in zip(copies, left, strict=True):
    np.testing.assert_array_equal(before, after)


# --- names, numbers, keys -----------------------------------------------------


def test_names_where_there_is_room_else_numbers_and_a_key():
  landmarks = landmark_sets.FASHION_8
  image = np.full((600, 500, 3), 90, np.uint8)
  apart = np.array(
    [[140 + 200 * (i % 2), 90 + 120 * (i // 2)] for i in range(8)]
  )
  codes = np.zeros(8, int)
  codes[7] = schema.ABSENT
  named = drawing.labelled(image, [Marks(codes, estimate=apart)], landmarks)
  assert named.shape == image.shape
  crowd = Marks(codes, estimate=apart / 10 + 200)
  numbered = drawing.labelled(image, [crowd], landmarks)
  assert len(numbered) > len(image)  # the key
  # The key has a disc in the colour of each slot, but none of the absent one.
  strip = numbered[len(image) :]
  for colour, count in ((drawing.LEFT, 4), (drawing.RIGHT, 3)):
    mask = (strip == colour).all(axis=-1).astype(np.uint8)
    assert cv2.connectedComponents(mask)[0] - 1 == count


@pytest.mark.parametrize('size', [(200, 150), (1000, 700)])
def test_texts_cover_no_marks_nor_each_other(size):
  landmarks = landmark_sets.COCO_17
  rng = np.random.default_rng(0)
  points = rng.uniform(0.1, 0.9, (17, 2)) * size[::-1]
  marks = Marks(np.zeros(17, int), estimate=points)
  placed, missing = drawing._places(
    (*size, 3), [marks], landmarks, drawing.numbers(landmarks)
  )
  assert len(placed) + missing == 17 and missing <= 5
  height = drawing.text_size(marks, size)
  cells = [
    np.array([*corner, *np.array(corner) + [height / 2, height]])
    for _, corner, _ in placed
  ]
  for i, a in enumerate(cells):
    inside = ((points > a[:2] + 2) & (points < a[2:] - 2)).all(axis=1)
    assert not inside.any()
    for b in cells[:i]:
      assert not ((a[:2] < b[2:]) & (b[:2] < a[2:])).all()


def test_the_key_joins_the_pairs_that_change_places():
  landmarks = SETS['declared']
  plain = drawing.key(landmarks, range(4), 300)
  paired = drawing.key(landmarks, range(4), 300, pairs=landmarks.pairs)
  assert (plain.shape != paired.shape) or (plain != paired).any()
  for strip in (plain, paired):
    assert count_pixels(strip, drawing.LEFT) > 30
    assert count_pixels(strip, drawing.RIGHT) > 30


@pytest.mark.parametrize(
  'text', ['a', 'Ärmel', '左领', '\U000f0000', 'a\nb', 'caf\udce9', 'x' * 99]
)
def test_any_name_can_be_written(text):
  cover = lettering.stamp(text, 13, 2)
  assert cover[..., 0].max() > 0.5 and (cover[..., 1] >= cover[..., 0]).all()
  short = lettering.shortened(text, 13, 60)
  assert lettering.width_of(short, 13) <= 60


def test_text_in_a_corner_is_cut_off():
  for corner in ((-5, -5), (95, 95), (-500, 0), (0, 500)):
    picture = np.zeros((100, 100, 3), np.uint8)
    lettering.write(picture, 'wide text', corner, 13, halo=2)


@pytest.mark.parametrize('kind', ['noise', 'flat', 'ramp', 'large'])
def test_a_palette_keeps_the_colours_that_mean_something(kind):
  rng = np.random.default_rng(0)
  y, x = np.mgrid[:90, :120]
  picture = {
    'noise': rng.integers(0, 256, (90, 120, 3)),
    'flat': np.full((90, 120, 3), 90),
    'ramp': np.stack([x, y, x + y], axis=-1),
    # Of which not all pixels tell the palette.
    'large': np.stack([x, y, x + y], axis=-1).repeat(10, 0).repeat(10, 1),
  }[kind].astype(np.uint8)
  kept = (*COLOUR.values(), (255, 255, 255), (0, 0, 0))
  for i, colour in enumerate(kept):
    picture[10 * i : 10 * i + 2] = colour
  image = Image.open(io.BytesIO(pictures.photo_png(picture)))
  assert image.mode == 'P' and len(image.getpalette()) <= 768
  found = np.asarray(image.convert('RGB'))
  for i, colour in enumerate(kept):
    assert (found[10 * i : 10 * i + 2] == colour).all()
  if kind in ('ramp', 'large'):  # in small steps, and not dithered
    other = np.abs(found.astype(int) - picture).max()
    assert other < 24


# --- sizes and sheets ---------------------------------------------------------


@pytest.mark.parametrize(
  ('size', 'box', 'expected'),
  [
    ((240, 360), 300, 512),  # small photos grow
    ((800, 600), 700, 800),  # others stay
    ((4000, 3000), 3000, 1024),  # or shrink
    ((600, 600), 250, 922),  # so that the item has 384 pixels
    ((600, 600), 5, 1024),
  ],
)
def test_sizes_of_overlays(size, box, expected):
  image = np.zeros((*size[::-1], 3), np.uint8)
  picture, scale = drawing.enlarged(
    image, [np.array([0, 0, box, box / 2])], least=512, most=1024, item=384
  )
  assert max(picture.shape) == pytest.approx(expected, abs=1)
  np.testing.assert_allclose(scale * size, picture.shape[1::-1])


def test_overlay_sheet_grid():
  predictions = fake_predictions()
  errors = {
    stage: normalised_error.image_errors(predictions, stage, 'bbox_wh')
    for stage in predictions.estimates
  }
  one = sheets.overlay_sheet(grey_image, predictions, [1], errors)
  three = sheets.overlay_sheet(grey_image, predictions, [1, 2, 0], errors)
  assert one.dtype == np.uint8 and one.shape[1] == three.shape[1]
  assert one.shape[1] % 3 == 0  # truth and two stages
  row = sheets.CELL_HEIGHT + 2 * sheets.GAP + sheets.TEXT_HEIGHT
  start = sheets.TEXT_HEIGHT + 6
  np.testing.assert_array_equal(three[: start + row], one[: start + row])
  for column in np.split(one[start : start + row], 3, axis=1):
    assert count_pixels(column, drawing.LEFT) > 40
  # Nothing is drawn for the example of which every landmark is truncated.
  last = three[start + 2 * row : start + 3 * row]
  assert count_pixels(last, drawing.LEFT) == 0


def test_a_contact_sheet_holds_one_image_at_a_time():
  alive = []

  def entries():
    for i in range(10):
      image = grey_image(i)
      alive.append(weakref.ref(image))
      assert sum(found() is not None for found in alive) <= 2
      marks = Marks(np.zeros(8, int), estimate=np.full((8, 2), 90.0))
      yield sheets.Entry(image, np.array([50, 50, 150, 150]), str(i), marks)

  sheet = sheets.contact_sheet(
    entries(), landmark_sets.FASHION_8, 4, title='10 of 10'
  )
  row = sheets.CELL_HEIGHT + 2 * sheets.GAP + sheets.TEXT_HEIGHT
  assert len(sheet) > sheets.TEXT_HEIGHT + 3 * row


@pytest.mark.parametrize('count', [0, 1, 5, 48, 49, 1000])
def test_spread_over_scores(count):
  scores = np.random.default_rng(count).uniform(size=count)
  chosen = sheets.spread(scores, 48)
  assert len(chosen) == len(set(chosen)) == min(count, 48)
  assert (np.diff(scores[chosen]) >= 0).all()
  if count > 1:
    assert {scores.argmin(), scores.argmax()} <= {*chosen}


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


def test_plots_leave_out_what_says_nothing():
  single = analyse([make_run(num_stages=1, cascade=False)])
  assert not error_plots.plot_landmarks(single).legends
  several = analyse([make_run(num_stages=2)])
  assert error_plots.plot_landmarks(several).legends
  own = schema.LandmarkSet(('a_left', 'a_right'))
  run = make_run(landmarks=own, num_stages=1, cascade=False)
  p = run.predictions
  p.clothes_type[:] = 0
  panels = data_plots.plot_data(analyse([run])).axes
  assert len(panels) == 1 and 'landmark' in panels[0].get_xlabel()
  p.visibility[:] = schema.VISIBLE
  assert data_plots.plot_data(analyse([run])) is None


def test_clusters_without_images_are_left_out_and_counted(monkeypatch):
  run = make_run(num_stages=1)
  run.evaluation.centres['stage1'][3] += 1e6  # no image is near
  facts = analyse([run])
  titles = []
  text = Axes.text
  monkeypatch.setattr(
    Axes, 'text', lambda *a, **k: titles.append(a[3]) or text(*a, **k)
  )
  picture = pictures.draw_clusters(facts, facts.first, 'stage1')
  assert picture.dtype == np.uint8
  empty = sum(c.mean is None for c in facts.first.clusters['stage1'])
  assert empty >= 1
  assert f'; {empty} without images are left out' in titles[0]
  assert len(titles) == 1 + 4 - empty
  assert all(title.startswith('Cluster ') for title in titles[1:])


def test_curves_hold_the_numbers():
  run = make_run(num_stages=2)
  facts = dataclasses.replace(analyse([run]), history=HISTORY)
  axes = curves.plot_pdl(facts).axes[0]
  for line in axes.lines[:2]:
    shares = run.figures['stages'][line.get_label()]['pdl_curve']
    np.testing.assert_allclose(line.get_ydata(), 100 * np.array(shares))
  assert error_plots.plot_reliability(facts) is None  # without a calibration
  run.figures['calibration'] = {
    'levels': [0.1, 0.5, 0.95],
    'shares': [0.125, 0.5, None],
  }
  _, line = error_plots.plot_reliability(facts).axes[0].lines
  np.testing.assert_allclose(line.get_xdata(), [10, 50, 95])
  np.testing.assert_allclose(line.get_ydata(), [12.5, 50, np.nan])
  loss, ne = curves.plot_training(facts).axes
  assert [line.get_label() for line in loss.lines] == ['one', 'two']
  np.testing.assert_allclose(loss.lines[0].get_xdata(), [8, 16, 24])
  np.testing.assert_allclose(ne.lines[1].get_ydata(), [20, 10])
