"""The sheet of a prediction: which items it shows, and that few are kept."""

import numpy as np
import pytest
from PIL import Image

from fld_jax import landmark_sets
from fld_jax.inference import prediction_sheet
from fld_jax.inference.landmarks import Landmarks
from fld_jax.inference.prediction_sheet import PredictionSheet
from fld_jax.visualization import drawing, sheets

NAMES = landmark_sets.FASHION_8


def item(score):
  return Landmarks(
    landmark_set=NAMES,
    box=np.array([10.0, 10, 110, 110]),
    positions=np.random.default_rng(0).uniform(20, 100, (8, 2)),
    present=np.ones(8, bool),
    visibility=None,
    visibility_probs=None,
    confidence=np.full(8, score),
    score=score,
    route=('all',),
    stages={},
  )


@pytest.mark.parametrize('count', [0, 1, 15, 16, 17, 48, 49, 600, 5000])
@pytest.mark.parametrize('order', ['random', 'rising', 'falling', 'equal'])
def test_the_least_sure_and_a_spread(count, order, tmp_path):
  rng = np.random.default_rng(count)
  scores = rng.uniform(size=count)
  if order != 'random':
    scores = {
      'rising': np.sort(scores),
      'falling': -np.sort(-scores),
      'equal': np.full(count, 0.5),
    }[order]
  sheet = PredictionSheet()
  for i, score in enumerate(scores.tolist()):
    sheet.add(tmp_path / f'{i}.jpg', str(i), item(score))
  kept = len(sheet._lowest) + len(sheet._sample)
  assert kept <= prediction_sheet.NUM_LOWEST + prediction_sheet.NUM_SAMPLED
  chosen = sheet.chosen()
  names = [int(name) for _, name, _ in chosen]
  assert len(names) == len({*names}) == min(count, sheets.MAX_PICTURES)
  found = scores[names]
  assert (np.diff(found) >= 0).all()
  lowest = np.sort(scores)[: prediction_sheet.NUM_LOWEST]
  np.testing.assert_array_equal(found[: len(lowest)], lowest)
  if count >= 600 and order != 'equal':
    # Evenly over the scores: no quarter of the others is empty.
    others = np.searchsorted(np.sort(scores), found[len(lowest) :]) / count
    assert np.histogram(others, 4, (0, 1))[0].min() >= 5


def test_the_sheet_is_written_and_photos_that_went_are_left_out(tmp_path):
  sheet = PredictionSheet()
  folder = tmp_path / 'overlays'
  folder.mkdir()
  path = folder / prediction_sheet.NAME
  path.touch()  # of an earlier prediction
  for i in range(5):
    photo = tmp_path / f'{i}.png'
    sheet.add(photo, photo.name, item(0.2 + i / 10))
  assert not prediction_sheet.write(sheet, folder)
  assert not path.exists()
  for i in (1, 3):
    Image.new('RGB', (120, 120), 'white').save(tmp_path / f'{i}.png')
  assert prediction_sheet.write(sheet, folder)
  picture = np.asarray(Image.open(path).convert('RGB')).astype(int)
  cell = sheets.CELL_HEIGHT + 2 * sheets.GAP
  assert picture.shape[1] == 2 * cell  # two pictures, as wide as high
  sure = np.abs(picture[:, cell:] - drawing.LEFT).max(axis=-1) < 12
  assert sure.sum() > 60
