"""COCO's AP and AR: by hand, by figures kept, and as pycocotools has them."""

import json

import numpy as np
import pytest
from coco_oracle import SIGMAS, made_up, perturbed, pycocotools_figures
from places import SHARED

from fld_jax.errors import InputError
from fld_jax.metrics import coco

FILES = SHARED / 'coco'


def our_figures(truth: dict, found: list) -> list[float]:
  detections = [
    {**d, 'keypoints': np.reshape(d['keypoints'], (17, 3))[:, :2]}
    for d in found
  ]
  figures = coco.figures(truth['annotations'], detections, SIGMAS)
  assert list(figures) == [
    name + at for name in ('AP', 'AR') for at in ('', '50', '75', 'M', 'L')
  ]
  return [-1 if value is None else value for value in figures.values()]


@pytest.mark.parametrize('split', ['train2017', 'val2017'])
@pytest.mark.parametrize('seed, noise', [(0, 0.05), (1, 0.15), (2, 0.01)])
def test_real_images(split, seed, noise):
  path = FILES / split / 'person_keypoints.json'
  if not path.exists():
    pytest.skip(f'{path} is not here')
  truth = json.loads(path.read_text())
  found = perturbed(truth['annotations'], np.random.default_rng(seed), noise)
  expected = pycocotools_figures(truth, found)
  assert 0.05 < expected[0] < 0.999
  np.testing.assert_allclose(our_figures(truth, found), expected, atol=1e-9)


def made_up_detections(seed):
  rng = np.random.default_rng(seed)
  truth = made_up(rng)
  found = perturbed(truth['annotations'] * 3, rng, 0.1)
  # More than 20 of one image, and some of an image without objects.
  return truth, found + [{**d, 'image_id': 1} for d in found[:30]]


@pytest.mark.parametrize('seed', range(8))
def test_made_up_images(seed):
  truth, found = made_up_detections(seed)
  np.testing.assert_allclose(
    our_figures(truth, found), pycocotools_figures(truth, found), atol=1e-9
  )


# Of code written from the definition, without pycocotools.
KEPT = {
  0: (
    [0.235077615, 0.317084648, 0.245398952, 0.374907334, 0.198594313]
    + [0.682352941, 0.882352941, 0.705882353, 0.690000000, 0.671428571]
  ),
  1: (
    [0.143897702, 0.298887051, 0.093896203, 0.243956972, 0.116813993]
    + [0.613333333, 0.866666667, 0.600000000, 0.608333333, 0.950000000]
  ),
}


@pytest.mark.parametrize('seed', KEPT)
def test_figures_of_another_implementation(seed):
  figures = our_figures(*made_up_detections(seed))
  np.testing.assert_allclose(figures, KEPT[seed], rtol=0, atol=1e-9)


def thing(**fields):
  """An object of 50 x 50 pixels with three landmarks at (1, 1)."""
  return {
    'image_id': 0,
    'category_id': 0,
    'keypoints': [[1, 1, 2]] * 3,
    'area': 50.0**2,
    'bbox': [0, 0, 50, 50],
    'iscrowd': 0,
    **fields,
  }


def at_oks(similarity, score=0.5, sigma=0.1, **fields):
  """A detection of `thing` with this OKS, its three landmarks moved alike."""
  # OKS = exp(-d^2 / (2 area (2 sigma)^2)), methods of cocodataset.org.
  away = np.sqrt(-np.log(similarity) * 2 * 50**2 * (2 * sigma) ** 2)
  points = [[1 + away, 1]] * 3
  return thing(**fields, keypoints=points, score=score)


def by_hand(objects, detections, sigma=0.1):
  return coco.figures(objects, detections, (sigma,) * 3)


@pytest.mark.parametrize('sigma', [0.02, 0.1])
def test_one_detection(sigma):
  """An OKS of 0.62 is over three of ten thresholds."""
  figures = by_hand([thing()], [at_oks(0.62, sigma=sigma)], sigma)
  assert figures['AP'] == pytest.approx(0.3)
  assert figures['AR'] == pytest.approx(0.3)
  assert figures['AP50'] == pytest.approx(1)
  assert figures['AP75'] == figures['AR75'] == 0
  assert figures['APM'] == pytest.approx(0.3) and figures['APL'] is None


def test_a_wrong_one_before_the_right_one():
  """Half of what stands up to the only object is right; twenty count."""
  wrong = thing(keypoints=[[900, 900]] * 3, score=0.9)
  found = [at_oks(0.999, image_id=1), {**wrong, 'image_id': 1}]
  figures = by_hand([thing(image_id=1)], found)
  assert figures['AP'] == pytest.approx(0.5) and figures['AR'] == 1
  # But it has no extent, so among the objects of that size it is not counted.
  assert figures['APM'] == pytest.approx(1)
  figures = by_hand([thing()], [at_oks(0.999)] + [wrong] * 20)
  assert figures['AP'] == figures['AR'] == 0
  # Of two objects one is found: the 51 recalls up to a half are reached.
  two = [thing(), thing(image_id=1)]
  figures = by_hand(two, [at_oks(0.999)])
  assert figures['AP'] == pytest.approx(51 / 101) and figures['AR'] == 0.5


def test_what_no_detection_is_blamed_for():
  """One in a crowd, or near an object without labels; but one of nothing."""
  crowd = thing(iscrowd=1)
  unlabelled = thing(image_id=1, keypoints=[[0, 0, 0]] * 3)
  found = [at_oks(0.999, 0.1), at_oks(0.999, 0.9), at_oks(0.999, 0.8)]
  found.append(thing(image_id=1, keypoints=[[-50, 100]] * 3, score=0.9))
  figures = by_hand([thing(), crowd, unlabelled], found)
  assert figures['AP'] == pytest.approx(1) and figures['AR'] == 1
  found.append(thing(image_id=1, keypoints=[[-99, 150]] * 3, score=1))
  figures = by_hand([thing(), crowd, unlabelled], found)
  assert figures['AP'] == pytest.approx(0.5)


def test_the_mean_is_over_categories_with_objects():
  objects = [thing(), thing(category_id=3)]
  found = [at_oks(0.62), at_oks(0.999, category_id=3)]
  figures = by_hand(objects, found + [at_oks(0.999, category_id=7)])
  assert figures['AP'] == pytest.approx((0.3 + 1) / 2)


def test_no_objects_and_no_detections():
  assert set(by_hand([], []).values()) == {None}
  assert set(by_hand([], [at_oks(0.999)]).values()) == {None}
  figures = by_hand([thing()], [])
  assert figures['AP'] == figures['AR'] == figures['APM'] == 0
  assert figures['APL'] is None
  exact = by_hand([thing()], [at_oks(1, 0.3)])
  assert exact['AP'] == pytest.approx(1) and exact['AR'] == 1


def test_nothing_is_printed(capsys):
  by_hand([thing()], [at_oks(0.62)])
  assert capsys.readouterr().out == ''


def test_bad_input():
  with pytest.raises(InputError, match='3 sigmas for 17 landmarks'):
    coco.figures([], [thing(keypoints=[[0, 0]] * 17, score=1)], [1] * 3)
  with pytest.raises(InputError, match='3 sigmas for 17 landmarks'):
    by_hand([thing(keypoints=[[0, 0, 2]] * 17)], [])
  for mistake in ({'keypoints': [[np.nan, 1]] * 3}, {'score': np.inf}):
    with pytest.raises(InputError, match='not finite'):
      by_hand([], [{**at_oks(0.9), **mistake}])
