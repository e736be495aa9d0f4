"""COCO's AP and AR against pycocotools."""

import json

import numpy as np
import pytest
from coco_oracle import SIGMAS, made_up, perturbed, pycocotools_figures
from places import SHARED

from fld_jax.errors import InputError
from fld_jax.metrics.coco import CocoState, Objects, oks

FILES = SHARED / 'coco'


def our_figures(truth: dict, found: list) -> list[float]:
  states = []
  for image in sorted(image['id'] for image in truth['images']):
    objects = [a for a in truth['annotations'] if a['image_id'] == image]
    points = np.array([a['keypoints'] for a in objects], float)
    points = points.reshape(-1, 17, 3)
    mine = [d for d in found if d['image_id'] == image]
    estimates = np.array([d['keypoints'] for d in mine], float)
    states.append(
      CocoState.from_image(
        estimates.reshape(-1, 17, 3)[..., :2],
        [d['score'] for d in mine],
        Objects(
          points[..., :2],
          points[..., 2] > 0,
          np.array([a['area'] for a in objects]),
          np.array([a['bbox'] for a in objects]),
          np.array([a['iscrowd'] for a in objects], bool),
        ),
        SIGMAS,
      )
    )
  halves = [CocoState.merge(s) for s in (states[:9], states[9:])]
  figures = CocoState.merge(halves).compute()
  order = ('', '50', '75', 'M', 'L')
  names = [name + at for name in ('AP', 'AR') for at in order]
  return [-1 if figures[name] is None else figures[name] for name in names]


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


@pytest.mark.parametrize('seed', range(8))
def test_made_up_images(seed):
  rng = np.random.default_rng(seed)
  truth = made_up(rng)
  found = perturbed(truth['annotations'] * 3, rng, 0.1)
  # More than 20 of one image, and some of an image without objects.
  found += [{**d, 'image_id': 1} for d in found[:30]]
  np.testing.assert_allclose(
    our_figures(truth, found), pycocotools_figures(truth, found), atol=1e-9
  )


def test_no_objects_and_no_detections():
  nothing = Objects(*(np.zeros(s) for s in ((0, 17, 2), (0, 17), 0, (0, 4), 0)))
  state = CocoState.from_image([], [], nothing, SIGMAS)
  assert set(state.compute().values()) == {None}
  one = Objects(
    np.ones((1, 17, 2)),
    np.ones((1, 17), bool),
    np.array([50.0**2]),
    np.array([[0, 0, 50, 50]]),
    np.zeros(1, bool),
  )
  missed = CocoState.from_image([], [], one, SIGMAS)
  figures = CocoState.merge([state, missed]).compute()
  assert figures['AP'] == figures['AR'] == figures['APM'] == 0
  assert figures['APL'] is None
  exact = CocoState.from_image(one.keypoints, [0.3], one, SIGMAS).compute()
  assert exact['AP'] == pytest.approx(1) and exact['AR'] == 1


def test_bad_input():
  nothing = Objects(*(np.zeros(s) for s in ((0, 17, 2), (0, 17), 0, (0, 4), 0)))
  with pytest.raises(InputError, match='3 sigmas for 17 landmarks'):
    oks(np.zeros((1, 17, 2)), nothing, (0.1, 0.1, 0.1))
  with pytest.raises(InputError, match='not finite'):
    CocoState.from_image(np.full((1, 17, 2), np.nan), [1.0], nothing, SIGMAS)
