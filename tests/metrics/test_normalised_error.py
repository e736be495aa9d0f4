import dataclasses
import json
import types

import numpy as np
import pytest
from places import SHARED
from sklearn.metrics import confusion_matrix

from fld_jax import schema
from fld_jax.cascade.setup import resolve
from fld_jax.errors import InputError
from fld_jax.evaluation import evaluate, text_tables
from fld_jax.evaluation.results import coco_results
from fld_jax.landmark_sets import FASHION_8
from fld_jax.metrics import mean_state, normalised_error
from fld_jax.metrics.predictions import Predictions
from fld_jax.schema import LandmarkSet

V, O, T, A = schema.VISIBLE, schema.OCCLUDED, schema.TRUNCATED, schema.ABSENT  # noqa: E741
DEEPFASHION = SHARED / 'deepfashion'


def two_examples():
  """Boxes 100 x 200 and 50 x 50; all errors written out in the tests."""
  landmarks = np.zeros((2, 8, 2))
  landmarks[:] = [30, 40]
  visibility = np.full((2, 8), V)
  visibility[0, 4:6] = A  # an upper
  visibility[0, 1], visibility[0, 2], visibility[1] = O, T, A
  visibility[1, [4, 5, 6, 7]] = [V, T, V, V]  # a lower
  estimate = landmarks.copy()
  estimate[0, 0] += [3, 8]  # 0.03, 0.04 of the box: NE 0.05
  estimate[0, 1] += [30, 0]  # 0.3
  estimate[0, 2] += [777, 777]  # truncated: must never count
  estimate[0, 6] += [10, 0]  # 0.1
  estimate[1, 6] += [0, -15]  # 0.3
  estimate[1, 4] += [20, 0]  # 0.4
  return Predictions(
    ids=['a/0.jpg', 'a/1.jpg'],
    image_ids=np.arange(2),
    boxes=np.array([[10, 20, 110, 220], [0, 0, 50, 50]]),
    image_sizes=np.array([[400, 500], [80, 60]]),
    landmarks=landmarks,
    visibility=visibility,
    clothes_type=np.array([1, 2]),
    variation=np.array([0, 5]),
    estimates={'one': landmarks + 1.0, 'two': estimate},
    visibility_probs={},
  )


@pytest.mark.parametrize(
  'norm, expected',
  [
    ('bbox_wh', [[100, 200], [50, 50]]),
    ('bbox_long', [[200, 200], [50, 50]]),
    ('bbox_w', [[100, 100], [50, 50]]),
    ('image_wh', [[400, 500], [80, 60]]),
    ('image_w', [[400, 400], [80, 80]]),
    ('bbox_sqrt_area', [[20000**0.5] * 2, [50, 50]]),
  ],
)
def test_normaliser(norm, expected):
  np.testing.assert_allclose(
    normalised_error.normaliser(two_examples(), norm), expected, rtol=1e-12
  )


def test_normaliser_refuses():
  with pytest.raises(InputError, match="'width'.*bbox_wh"):
    normalised_error.normaliser(two_examples(), 'width')
  flat = dataclasses.replace(two_examples(), boxes=np.array([[0, 0, 9, 9]] * 2))
  flat.boxes[1, 2] = 0
  with pytest.raises(InputError, match="'a/1.jpg' is 0 x 9"):
    normalised_error.normaliser(flat, 'bbox_wh')


def test_ne_by_hand():
  result = normalised_error.evaluate(two_examples())
  ne = result['ne']
  assert ne['per_landmark'] == pytest.approx(
    {
      'collar_left': 0.05,
      'collar_right': None,  # occluded
      'sleeve_left': None,  # truncated
      'sleeve_right': 0.0,
      'waist_left': 0.4,
      'waist_right': None,
      'hem_left': 0.2,  # 0.1 and 0.3
      'hem_right': 0.0,
    }
  )
  assert ne['macro'] == pytest.approx((0.05 + 0 + 0.4 + 0.2 + 0) / 5)
  assert ne['micro'] == pytest.approx((0.05 + 0 + 0.4 + 0.1 + 0.3 + 0 + 0) / 7)
  annotated = result['stages']['two']['ne_annotated']
  assert annotated['per_landmark']['collar_right'] == pytest.approx(0.3)
  assert annotated['per_landmark']['sleeve_left'] is None
  assert annotated['macro'] == pytest.approx(0.95 / 6)
  assert annotated['micro'] == pytest.approx(1.15 / 8)


def test_groups_by_hand():
  stage = normalised_error.evaluate(two_examples())['stages']['two']
  by_type = stage['ne_by_clothes_type']
  assert list(by_type) == ['upper', 'lower']
  assert by_type['upper']['macro'] == pytest.approx(0.15 / 4)
  assert by_type['lower']['macro'] == pytest.approx(0.7 / 3)
  assert list(stage['ne_by_variation']) == ['large_zoom_in']
  assert stage['ne_by_variation']['large_zoom_in'] == by_type['lower']


def test_translation_and_scale_leave_ne_alone():
  base = two_examples()
  moved = dataclasses.replace(
    base,
    boxes=3 * base.boxes + 7,
    landmarks=3 * base.landmarks + 7,
    estimates={k: 3 * v + 7 for k, v in base.estimates.items()},
  )
  old, new = normalised_error.evaluate(base), normalised_error.evaluate(moved)
  assert new['ne']['macro'] == pytest.approx(old['ne']['macro'], rel=1e-12)
  assert new['ne']['micro'] == pytest.approx(old['ne']['micro'], rel=1e-12)


def test_merged_states_equal_the_whole():
  rng = np.random.default_rng(0)
  values, mask = rng.random((101, 8)), rng.random((101, 8)) < 0.6
  mask[:, 5] = False
  values[~mask] = np.nan  # what is masked is never read
  state = mean_state.MeanState.from_values(values[:17], mask[:17])
  for part in (slice(17, 17), slice(17, 60), slice(60, 101)):
    state = state.merge(
      mean_state.MeanState.from_values(values[part], mask[part])
    )
  oracle = [
    sum(v for v, m in zip(values[:, i], mask[:, i], strict=True) if m)
    / max(1, mask[:, i].sum())
    for i in range(8)
  ]
  oracle[5] = np.nan
  np.testing.assert_allclose(state.compute(), oracle, rtol=1e-12)


def test_standard_error_of_the_macro_mean():
  """Against the bootstrap over examples, whose landmarks go together."""
  rng = np.random.default_rng(0)
  values = rng.normal(3, 1, (200, 1)) + rng.normal(0, 0.3, (200, 5))
  mask = rng.random((200, 5)) < (0.9, 0.5, 0.2, 0.8, 0)
  values[~mask] = np.nan

  def mean(rows):
    columns = zip(values[rows].T[:4], mask[rows].T[:4], strict=True)
    return np.mean([column[counts].mean() for column, counts in columns])

  drawn = [mean(rng.integers(0, 200, 200)) for _ in range(4000)]
  found = mean_state.macro_mean(values, mask)
  assert found[0] == pytest.approx(mean(np.arange(200)), abs=1e-12)
  assert found[1] == pytest.approx(np.std(drawn), rel=0.05)
  # One landmark of two examples: by hand.
  found = mean_state.macro_mean(np.array([[1.0], [3], [9]]), [[1], [1], [0]])
  assert found == pytest.approx((2, np.sqrt(2) / np.sqrt(2)))
  assert mean_state.macro_mean(np.ones((1, 2)), [[True, True]])[1] == np.inf


def test_no_landmark_to_choose_a_checkpoint_by(tiny_config, monkeypatch):
  absent = dataclasses.replace(two_examples(), visibility=np.full((2, 8), A))
  monkeypatch.setattr(evaluate, 'to_predictions', lambda *unused: absent)
  words = 'None of 2 images has a visible landmark .*dataset.splits.tune'
  with pytest.raises(InputError, match=words):
    evaluate.macro_ne({}, 'one', resolve(tiny_config()))


def test_pdl_by_hand():
  errors = np.array([[0.0, 15.0, 999.0], [15.1, 40.0, 3.0]])
  mask = np.array([[True, True, False], [True, True, True]])
  np.testing.assert_allclose(
    normalised_error.pdl(errors, mask, [0, 3, 14, 15, 16, 50]),
    [0.2, 0.4, 0.4, 0.6, 0.8, 1.0],
  )
  assert np.isnan(normalised_error.pdl(errors, np.zeros_like(mask), [15])).all()


def test_pdl_of_evaluate():
  """Seven visible errors: 0, 0, 0, .05, .1, .3, .4, in 224 pixels 11.2, ..."""
  stage = normalised_error.evaluate(two_examples())['stages']['two']
  curve = stage['pdl_curve']
  assert len(curve) == 51
  assert curve[0] == pytest.approx(3 / 7)
  assert curve[11] == pytest.approx(3 / 7)
  assert curve[12] == stage['pdl_at_15'] == pytest.approx(4 / 7)
  assert curve[50] == pytest.approx(5 / 7)
  assert curve == sorted(curve)


def test_pdl_is_of_the_box_whatever_the_norm_is():
  """A key pair's length, here 10 of a box of 100, is no side of a crop."""
  landmarks = LandmarkSet(
    ('left', 'right', 'tip'), norm='keypair', norm_pairs={1: ('left', 'right')}
  )
  truth = np.array([[[40.0, 50], [50, 50], [60, 60]]] * 2)
  codes = np.full((2, 3), V)
  codes[1, 0] = T  # without a known key pair, and still in a box
  shifted = truth + [3.0, 0]  # 0.03 of the box, 0.3 of the key pair
  shifted[1, 1] += [0, 40]
  predictions = dataclasses.replace(
    two_examples(),
    boxes=np.array([[0, 0, 100, 200]] * 2),
    landmarks=truth,
    visibility=codes,
    clothes_type=np.array([1, 1]),
    estimates={'one': shifted},
    landmark_set=landmarks,
  )
  result = normalised_error.evaluate(predictions)
  assert result['norm'] == 'keypair' and result['num_without_norm'] == 1
  assert result['ne']['macro'] == pytest.approx(0.3)
  curve = result['stages']['one']['pdl_curve']
  # 0.03 * 224 = 6.7 pixels of four landmarks; one has sqrt(.03^2 + .2^2) * 224.
  assert curve[6] == 0 and curve[7] == pytest.approx(4 / 5) == curve[45]
  assert curve[46] == 1


def test_signed_errors_of_labels_that_are_half_a_pixel_off():
  """Eight landmarks of 400 images, errors of 3 pixels, shift of x by 0.5."""
  rng = np.random.default_rng(0)
  truth = rng.uniform(0, 99, (400, 8, 2))
  estimate = truth + [0.5, 0.0] + rng.normal(0, 3, truth.shape)
  codes = rng.choice([V, O, T, A], truth.shape[:2])
  estimate[codes == O] += 50
  estimate[codes == T] = np.nan
  predictions = dataclasses.replace(
    two_examples(),
    landmarks=truth,
    visibility=codes,
    estimates={'one': estimate},
  )
  found = normalised_error.signed_error(predictions, 'one')
  for axis, (values, expected) in enumerate(
    zip(found.values(), (0.5, 0), strict=True)
  ):
    columns = [
      (estimate - truth)[codes[:, n] == V, n, axis].mean() for n in range(8)
    ]
    assert values['per_landmark'] == pytest.approx(
      dict(zip(FASHION_8.names, columns, strict=True))
    )
    assert values['macro'] == pytest.approx(np.mean(columns))
    # 800 errors of deviation 3: 0.106.
    assert values['standard_error'] == pytest.approx(0.106, rel=0.1)
    assert abs(values['macro'] - expected) < 3 * values['standard_error']


def test_signed_errors_of_nothing_and_by_hand():
  found = normalised_error.signed_error(two_examples(), 'two')
  names = FASHION_8.names
  assert found['x']['per_landmark'][names[0]] == 3
  assert found['y']['per_landmark'][names[6]] == -7.5
  assert found['x']['per_landmark'][names[1]] is None  # occluded
  empty = two_examples()
  empty.visibility[:] = T
  found = normalised_error.signed_error(empty, 'two')['y']
  assert found['macro'] is found['standard_error'] is None
  text = text_tables.format_table(normalised_error.evaluate(two_examples()))
  (line,) = [x for x in text.splitlines() if x.startswith('two y')]
  assert line.split()[2:4] == ['8.00', '-']


def test_visibility_accuracy():
  codes = np.array([[V, V, V, O, T, A], [T, T, A, V, O, A]])
  guess = np.array([[V, V, O, O, V, V], [T, T, T, V, T, O]])
  result = normalised_error.visibility_accuracy(np.eye(3)[guess], codes)
  assert result['overall'] == pytest.approx(6 / 9)
  assert result['per_class'] == pytest.approx(
    {'visible': 3 / 4, 'occluded': 1 / 2, 'truncated': 2 / 3}
  )
  rng = np.random.default_rng(1)
  codes, probs = rng.integers(-1, 3, (50, 8)), rng.random((50, 8, 3))
  present = codes >= 0
  matrix = confusion_matrix(codes[present], probs.argmax(-1)[present])
  result = normalised_error.visibility_accuracy(probs, codes)
  assert result['overall'] == pytest.approx(np.trace(matrix) / matrix.sum())
  assert list(result['per_class'].values()) == pytest.approx(
    list(np.diag(matrix) / matrix.sum(axis=1))
  )
  nobody = normalised_error.visibility_accuracy(
    np.eye(3)[[[V]]], np.array([[V]])
  )
  assert nobody['per_class']['truncated'] is None


def test_no_nan_in_json():
  empty = two_examples()
  empty.visibility[:] = T
  result = normalised_error.evaluate(empty)
  json.dumps(result, allow_nan=False)
  assert result['ne']['macro'] is None
  assert result['stages']['two']['pdl_at_15'] is None
  assert '-' in text_tables.format_table(result).splitlines()[-1]


def test_diverged_estimates_are_refused():
  bad = two_examples()
  bad.estimates['two'][0, 2] = np.nan  # truncated: nothing to measure
  normalised_error.evaluate(bad)
  bad.estimates['two'][1, 4, 0] = np.nan
  with pytest.raises(InputError, match="Stage 'two'.*'a/1.jpg'"):
    normalised_error.evaluate(bad)


def test_outliers():
  # Of the seven visible landmarks of `two`, two are more than 0.2 away.
  result = normalised_error.evaluate(two_examples())['stages']
  assert result['two']['outlier_rate'] == pytest.approx(2 / 7)
  assert result['one']['outlier_rate'] == 0
  nothing = np.zeros((2, 8), bool)
  assert normalised_error.outlier_rate(np.ones((2, 8)), nothing) is None
  exactly = np.full((1, 8), 0.2)
  assert normalised_error.outlier_rate(exactly, np.ones((1, 8))) == 0


def test_duplicates():
  predictions = two_examples()
  visibility = np.full((2, 8), A)
  visibility[0, :4] = [V, V, V, O]
  visibility[1, :2] = V
  predictions.visibility = visibility
  # In shares of the first box, 100 x 200 pixels: 0.1 apart in x; in y; near.
  predictions.landmarks[0, :4] = [[30, 40], [40, 40], [30, 64], [90, 90]]
  predictions.landmarks[1, :2] = [[10, 10], [14, 10]]  # 0.08: not distinct
  found = predictions.estimates['two']
  found[0, :4] = [[50, 50], [52, 50], [50, 55.9], [50, 50]]
  found[1, :2] = 10
  # Distinct: 0-1, 0-2, 1-2; found 0.02, 0.0295 and 0.0356 apart.
  assert normalised_error.duplicate_rate(predictions, 'two') == pytest.approx(
    2 / 3
  )
  predictions.visibility[0] = A
  assert normalised_error.duplicate_rate(predictions, 'two') is None


def test_table_shows_the_numbers():
  lines = text_tables.format_table(
    normalised_error.evaluate(two_examples())
  ).splitlines()
  assert max(map(len, lines)) <= 120
  rows = [line.split() for line in lines if line.startswith('two ')]
  assert rows[0] == ('two 5.00 - - 0.00 40.00 - 20.00 0.00 13.00 12.14'.split())
  assert rows[1] == 'two 57.14 28.57 - -'.split()
  assert rows[2][1:4] == ['5.00', '30.00', '-']  # occluded count here
  assert ['two', 'lower', '-', '-', '-', '-', '40.00'] == rows[4][:7]
  assert rows[5][:2] == ['two', 'large_zoom_in']


def test_table_fits_long_names():
  predictions = two_examples()
  predictions.estimates = {'s3 + plabels (c. offset)': predictions.landmarks}
  predictions.variation[:] = 4
  text = text_tables.format_table(normalised_error.evaluate(predictions))
  assert 's3 + plabels (c. offset) medium_zoom_in' in text
  assert max(map(len, text.splitlines())) <= 120


def test_mean_position_by_hand():
  train = types.SimpleNamespace(
    boxes=np.array([[0, 0, 10, 20], [10, 10, 30, 30], [0, 0, 10, 10]]),
    clothes_type=np.array([1, 1, 2]),
    visibility=np.array([[V, T], [O, A], [V, A]]),
    landmarks=np.array(
      [[[1, 2], [9, 9]], [[16, 28], [0, 0]], [[5, 1], [0, 0]]]
    ),
  )
  test = types.SimpleNamespace(
    boxes=np.array([[100, 200, 200, 400], [0, 0, 10, 10], [0, 0, 2, 2]]),
    clothes_type=np.array([1, 2, 3]),
  )
  # Type 1: mean of (.1, .1) and (.3, .9) = (.2, .5); slot 1 has no example.
  expected = [[[120, 300], [150, 300]], [[5, 1], [5, 5]], [[1, 1], [1, 1]]]
  np.testing.assert_allclose(
    normalised_error.mean_position(normalised_error.mean_places(train), test),
    expected,
  )


def test_coco_results():
  predictions = two_examples()
  probs = np.zeros((2, 8, 3))
  probs[..., T], probs[..., V] = 0.25, 0.75
  probs[0, 0] = [0, 0.1, 0.9]
  predictions.visibility_probs['two'] = probs
  results = json.loads(json.dumps(coco_results(predictions, 'two')))
  for i, result in enumerate(results):
    keypoints = np.reshape(result['keypoints'], (8, 3))
    np.testing.assert_allclose(
      keypoints[:, :2], predictions.estimates['two'][i]
    )
    assert (result['image_id'], result['category_id']) == (i, 1)
    assert result['file_name'] == predictions.ids[i]
  assert results[0]['bbox'] == [10, 20, 100, 200]
  np.testing.assert_allclose(
    results[0]['keypoints'][2::3], [0.1, 0.75, 0.75, 0.75, 0, 0, 0.75, 0.75]
  )
  assert results[0]['score'] == pytest.approx((0.1 + 5 * 0.75) / 6)
  assert results[1]['score'] == pytest.approx(0.75)


def read_deepfashion(split):
  def rows(name):
    lines = (DEEPFASHION / name).read_text().splitlines()[2:]
    return [line.split() for line in lines]

  splits = dict(rows('Eval/list_eval_partition.txt'))
  boxes = {row[0]: row[1:] for row in rows('Anno/list_bbox.txt')}
  slots = {'1': [0, 1, 2, 3, 6, 7], '2': [4, 5, 6, 7], '3': list(range(8))}
  found = [r for r in rows('Anno/list_landmarks.txt') if splits[r[0]] == split]
  landmarks = np.zeros((len(found), 8, 2))
  visibility = np.full((len(found), 8), A)
  for i, row in enumerate(found):
    triples = np.reshape([int(text) for text in row[2:]], (-1, 3))
    visibility[i, slots[row[1]]] = triples[:, 0]
    landmarks[i, slots[row[1]]] = triples[:, 1:]
  return Predictions(
    ids=[row[0] for row in found],
    image_ids=np.arange(len(found)),
    boxes=np.array([boxes[row[0]] for row in found], np.float64),
    image_sizes=np.ones((len(found), 2)),
    landmarks=landmarks,
    visibility=visibility,
    clothes_type=np.array([int(row[1]) for row in found]),
    variation=np.zeros(len(found), int),
    estimates={},
    visibility_probs={},
  )


@pytest.mark.skipif(not DEEPFASHION.is_dir(), reason='no DeepFashion part here')
def test_mean_position_on_deepfashion():
  train, val = read_deepfashion('train'), read_deepfashion('val')
  val.estimates['mean position'] = normalised_error.mean_position(
    normalised_error.mean_places(train), val
  )
  # The data's own description states 14.9 %.
  assert round(100 * normalised_error.evaluate(val)['ne']['macro'], 1) == 14.9
