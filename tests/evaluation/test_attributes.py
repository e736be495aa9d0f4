"""From records to figures and files of attributes, by one tiny run."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from fld_jax import defaults, experiment
from fld_jax.configs import attributes as config_file
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.datasets.synthetic.garments import (
  ATTRIBUTE_GROUPS,
  ATTRIBUTE_NAMES,
)
from fld_jax.errors import InputError
from fld_jax.evaluation import attributes
from fld_jax.inference import predict_files
from fld_jax.metrics.attributes import AttributeSet


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  config = config_file.get_config('pretrained=none')
  config.unlock()
  config.dataset.data_dir = str(tmp_path_factory.mktemp('data'))
  config.dataset.sizes = {'train': 32, 'val': 16, 'test': 16}
  config.batch_size, config.log_every_steps = 8, 1
  config.input.size = 32
  # Five convolutions, which compile in seconds.
  defaults.set_backbone(config, 'vgg16', blocks=((1, 8),) * 5)
  config.model.channels, config.model.hidden = 8, 16
  config.heatmap.sigma, config.heatmap.alpha = 1.0, 9.0
  (stage,) = config.stages
  stage.train_epochs = stage.eval_epochs = 0.0
  stage.train_steps, stage.eval_steps = 8, 2
  return config


@pytest.fixture(scope='module')
def run(config, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run') / 'W'
  found = experiment.run(config, workdir, mode='train', splits=('test',))
  return workdir, found['test']


def test_figures_of_a_run(run, config):
  workdir, found = run
  names = json.loads((workdir / 'attributes.json').read_text())
  assert names['names'] == [*ATTRIBUTE_NAMES]
  assert set(names['groups']) == set(ATTRIBUTE_GROUPS)
  figures = found['attributes']
  assert [*figures['accuracy_by_group']] == [*ATTRIBUTE_GROUPS]
  assert figures['accuracy_error'] > 0
  # A group's share, counted from the records and what the run wrote of them.
  again = json.loads((workdir / 'eval/test/metrics.json').read_text())
  assert again['attributes']['accuracy'] == pytest.approx(
    figures['accuracy'], abs=1e-6
  )
  source = prepared_builder(config.dataset).as_data_source('test')
  known = sum((record['attributes'] != 0).any() for record in source)
  assert known == 16


def test_losses_fall_on_attributes(run):
  """The log of the training has the loss of attributes, near log 2 at first."""
  workdir, _ = run
  with open(workdir / 'history.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  values = [float(row['attributes']) for row in rows if row['attributes']]
  assert len(values) > 2 and values[0] == pytest.approx(np.log(2), abs=0.05)
  assert values[-1] < values[0]


def test_prediction_writes_probabilities(run, tmp_path):
  workdir, _ = run
  photo = tmp_path / 'photo.png'
  rng = np.random.default_rng(0)
  Image.fromarray(rng.integers(0, 255, (60, 40, 3), np.uint8)).save(photo)
  from fld_jax.configs import trained

  config = trained.get_config(str(workdir))
  predict_files.predict_files(
    config, workdir, str(photo), None, tmp_path / 'out', overlays=False
  )
  with open(tmp_path / 'out/attributes.csv', newline='') as file:
    (row,) = csv.DictReader(file)
  document = json.loads((tmp_path / 'out/predictions.json').read_text())
  probs = document['annotations'][0]['attribute_probs']
  assert [*row][:5] == ['image', 'x1', 'y1', 'x2', 'y2']
  assert [*row][5:] == [*ATTRIBUTE_NAMES]
  for name in ATTRIBUTE_NAMES:
    assert 0 < probs[name] < 1
    assert float(row[name]) == pytest.approx(probs[name], abs=1e-4)


def test_another_number_of_attributes_is_refused(config):
  builder = prepared_builder(config.dataset)
  other = config.copy_and_resolve_references()
  other.model.num_attributes = 5
  with pytest.raises(InputError, match='num_attributes=28'):
    attributes.check(other, builder)
  attributes.check(config, builder)


def test_a_damaged_file_is_refused(tmp_path):
  path = tmp_path / attributes.NAME
  attributes.save(tmp_path, AttributeSet(('a', 'b'), ('x', 'x')))
  assert attributes.read(tmp_path, 2).names == ('a', 'b')
  assert attributes.read(tmp_path, None) is None
  for content in ('{"names": ["a"], "groups": ["x", "x"]}', '[]', '{"names"'):
    path.write_text(content)
    with pytest.raises(InputError, match='attributes.json'):
      attributes.read(tmp_path, 2)
