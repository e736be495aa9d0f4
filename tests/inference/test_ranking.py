"""The order in which images are to be labelled.

The oracle is a loop in plain Python over the images before each.
"""

import csv
import json
import math

import numpy as np
import pytest
from PIL import Image

from fld_jax import landmark_sets
from fld_jax.configs import trained
from fld_jax.inference import predict_files, ranking
from fld_jax.inference.landmarks import Landmarks
from fld_jax.inference.result_files import Formats


def loop_order(errors, vectors, budget):
  order, novelty = [], {}
  while len(order) < min(budget, len(errors)):
    best = None
    for i in range(len(errors)):
      if i in order:
        continue
      gap = min((math.dist(vectors[i], vectors[j]) for j in order), default=1.0)
      if best is None or errors[i] * gap > best[0]:
        best = errors[i] * gap, i, gap
    if order:
      novelty[best[1]] = best[2]
    order.append(best[1])
  rest = [i for i in range(len(errors)) if i not in order]
  return order + sorted(rest, key=lambda i: -errors[i]), novelty


@pytest.mark.parametrize('budget', [1, 7, 40])
def test_the_order_is_that_of_a_loop(budget):
  rng = np.random.default_rng(0)
  errors, vectors = rng.random(30), rng.normal(size=(30, 4))
  found = ranking.rank(errors, vectors, budget)
  order, novelty = loop_order(errors.tolist(), vectors.tolist(), budget)
  assert found.order.tolist() == order
  for i in range(30):
    if i in novelty:
      assert found.novelty[i] == pytest.approx(novelty[i])
    else:
      assert math.isnan(found.novelty[i])


def test_a_copy_of_the_first_image_comes_late():
  errors = np.array([0.9, 0.89, 0.2])
  vectors = np.array([[0.0, 0], [0, 0], [1, 1]])
  assert ranking.rank(errors, vectors).order.tolist() == [0, 2, 1]


def item(**fields):
  values = {
    'landmark_set': landmark_sets.FASHION_8,
    'box': np.array([10.0, 10.0, 50.0, 110.0]),
    'positions': np.full((8, 2), 40.0),
    'present': np.arange(8) < 2,
    'visibility': None,
    'visibility_probs': None,
    'confidence': np.ones(8),
    'score': 0.75,
    'route': (),
    'stages': {},
  }
  return Landmarks(**{**values, **fields})


def test_expected_errors_are_shares_of_the_box():
  """The root of 40 x 100 pixels is 63.2; worked out by hand."""
  known = np.array([6.0, 12.0, *[1000.0] * 6])
  side = math.sqrt(4000)
  assert ranking.expected_error(item(error_50=known)) == pytest.approx(9 / side)
  half = np.array([6.0, math.inf, *[1000.0] * 6])
  assert ranking.expected_error(item(error_50=half)) == pytest.approx(6 / side)
  unknown = np.full(8, math.inf)
  assert ranking.expected_error(item(error_50=unknown)) == pytest.approx(0.25)
  assert ranking.expected_error(item()) == pytest.approx(0.25)
  # The box's centre is 30, 60; what the item lacks counts as no place.
  vector = ranking.vector(item()).reshape(8, 2)
  np.testing.assert_allclose(vector[:2], np.array([[10, -20]] * 2) / side)
  assert (vector[2:] == 0).all()


def test_an_image_is_as_bad_as_its_worst_item():
  images = ranking.Images()
  for name, score in (('a', 0.9), ('b', 0.8), ('a', 0.3)):
    images.add(name, item(score=score))
  first, table = images.ranked()
  assert first == ['a', 'b']
  lines = table.decode().splitlines()
  assert lines[0] == 'rank,image,expected_error,novelty'
  assert [line.split(',')[:3] for line in lines[1:]] == [
    ['1', 'a', '0.7'],
    ['2', 'b', '0.2'],
  ]
  assert ranking.Images().ranked()[0] == []


def test_files_of_tools_stand_in_the_order(trained_workdir, tmp_path):
  rng = np.random.default_rng(0)
  (tmp_path / 'images').mkdir()
  for i in range(6):
    pixels = rng.integers(0, 256, (60, 40 + 9 * i, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'images' / f'{i}.png')
  (tmp_path / 'images' / 'bad.png').write_bytes(b'no image')
  output = tmp_path / 'out'
  found = predict_files.predict_files(
    trained.get_config(str(trained_workdir)),
    trained_workdir,
    str(tmp_path / 'images'),
    None,
    output,
    False,
    Formats(('label_studio', 'cvat'), image_prefix='', ranked=True),
  )
  assert [name for name, _ in found['failures']] == ['bad.png']
  with (output / 'ranking.csv').open() as file:
    rows = list(csv.DictReader(file))
  order = [row['image'] for row in rows]
  assert sorted(order) == [f'{i}.png' for i in range(6)]
  assert [int(row['rank']) for row in rows] == list(range(1, 7))
  tasks = json.loads((output / 'label_studio.json').read_text())
  assert [task['data']['image'] for task in tasks] == order
  document = json.loads((output / 'predictions.json').read_text())
  assert [image['file_name'] for image in document['images']] == order
