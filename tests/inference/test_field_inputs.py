"""What users met elsewhere: photos, predictions, weights and exports.

The inputs are those of ../shared/data/field_cases that are no data to prepare;
tests/datasets/test_field_cases.py has the others, test_item_boxes.py the boxes.
"""

import csv
import json

import numpy as np
import pytest
from coco_folders import config_of
from PIL import Image
from places import SHARED

from fld_jax.errors import InputError
from fld_jax.evaluation.score import score
from fld_jax.files import images
from fld_jax.inference import predict_files
from fld_jax.inference.predictor import Predictor
from fld_jax.pretrained import torch_files
from fld_jax.pretrained.torchvision import kind_of_weights, without_prefix

FOLDER = SHARED / 'field_cases'


def case(name):
  if not FOLDER.exists():
    pytest.skip(f'{FOLDER} is not here')
  return FOLDER / name


@pytest.mark.parametrize('name', ['07a-score-ultralytics', '07b-score-own'])
def test_predictions_are_scored(name, tmp_path):
  """By image and box; the error is that of the file, worked out by hand."""
  folder = case(name)
  truth = json.loads((folder / 'annotations/val.json').read_text())
  results = json.loads((folder / 'predictions.json').read_text())
  config = config_of(folder, tmp_path)
  found = score(config, folder / 'predictions.json', 'val', tmp_path / 'out')
  file_of = {image['id']: image['file_name'] for image in truth['images']}
  result_of = {entry['file_name']: entry for entry in results}
  distances = []
  for entry in truth['annotations']:
    result = result_of[file_of[entry['image_id']]]
    true, estimate = (
      np.reshape(each['keypoints'], (-1, 3)) for each in (entry, result)
    )
    apart = np.linalg.norm(true[:, :2] - estimate[:, :2], axis=1)
    distances += apart[true[:, 2] > 0].tolist()
  assert found['num_examples'] == len(truth['annotations']) == 4
  assert found['epe']['micro'] == pytest.approx(
    np.mean(distances), rel=1e-4, abs=1e-4
  )


def test_photos_of_a_phone_and_a_mac(trained_workdir, tmp_path, capsys):
  """The photo is predicted, the HEIC a failure, and the rest no photos."""
  folder = case('08-photos')
  output = tmp_path / 'out'
  found = predict_files.predict_files(
    None, trained_workdir, str(folder), None, output
  )
  assert (found['num_items'], found['ok']) == (2, False)
  predictions = json.loads((output / 'predictions.json').read_text())
  names = [image['file_name'] for image in predictions['images']]
  assert len(predictions['annotations']) == 1 and 'plain.jpg' in names
  with (output / 'failures.csv').open(newline='') as file:
    _, (image, reason) = csv.reader(file)
  assert image == 'IMG_0001.HEIC' and 'onvert' in reason
  assert 'clip.mpg' not in capsys.readouterr().out.replace('left out', '')


def test_weights_with_a_prefix():
  arrays = torch_files.read(case('10-pretrained-module/module.safetensors'))
  assert all(name.startswith('module.') for name in arrays)
  bare, prefix = without_prefix(arrays)
  assert prefix == 'module.' and kind_of_weights(bare) == 'resnet'
  for name, array in bare.items():
    np.testing.assert_array_equal(array, arrays[f'module.{name}'])


def test_transparency_is_white_and_a_cut_file_is_refused(trained_workdir):
  folder = case('11-alpha')
  with Image.open(folder / 'alpha.png') as image:
    alpha = np.asarray(image.convert('RGBA'))[..., 3]
  seen = images.read(folder / 'alpha.png')
  assert (alpha == 0).any() and (seen[alpha == 0] == 255).all()
  predictor = Predictor.load(str(trained_workdir))
  by_path, by_pixels = (
    predictor([photo])[0] for photo in (folder / 'alpha.png', seen)
  )
  np.testing.assert_array_equal(by_path.positions, by_pixels.positions)
  with pytest.raises(InputError, match='truncated.jpg: is damaged'):
    predictor([folder / 'truncated.jpg'])
