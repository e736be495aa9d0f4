"""Training that starts from a run of one's own: what is taken and what not."""

import hashlib
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from flax import traverse_util

from fld_jax import defaults, experiment
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade import store
from fld_jax.cascade.setup import resolve
from fld_jax.configs import dfa, pcloss
from fld_jax.errors import InputError
from fld_jax.landmark_sets import FASHION_8
from fld_jax.pretrained import start
from fld_jax.training import checks


@pytest.fixture
def run(trained_workdir, tmp_path):
  """A copy of a trained run, which a test may change."""
  return pathlib.Path(shutil.copytree(trained_workdir, tmp_path / 'before'))


def begin(config, path, index=0, network='all'):
  """(fresh variables, those that start from the run, what is said), flat."""
  config.pretrained = str(path)
  setup = resolve(config)
  model = stage_lib.build_model(
    config.model, config.stages[index], index, setup.landmarks
  )
  fresh = stage_lib.init_variables(model, config.input.size, 7)
  found, said = start.start_network(fresh, config, setup, index, network)
  assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, fresh)
  return *map(traverse_util.flatten_dict, (fresh, found)), said


def network_of(config, workdir, index, network):
  stages, _ = store.load_cascade(config, resolve(config), workdir)
  return traverse_util.flatten_dict(stages[index].networks[network])


@pytest.mark.parametrize(
  'below, index, network, source',
  [
    ('', 0, 'all', (0, 'all')),
    ('', 1, 'all', (1, 'all')),
    ('', 2, 'hard', (2, 'hard')),
    ('stages', 2, 'easy', (2, 'easy')),
    ('stages/stage1', 0, 'all', (0, 'all')),
    ('stages/stage1/all', 0, 'all', (0, 'all')),
    ('stages/stage3', 1, 'all', (2, 'easy')),
    ('stages/stage3/hard', 2, 'easy', (2, 'hard')),
  ],
)
def test_the_same_landmarks_take_all_but_the_pseudo_labels(
  run, tiny_config, below, index, network, source
):
  theirs = network_of(tiny_config(), run, *source)
  fresh, found, said = begin(tiny_config(), run / below, index, network)
  for place, array in found.items():
    new = 'fc8_pseudo_label' in place
    np.testing.assert_array_equal(array, (fresh if new else theirs)[place])
  assert f'{len(found) - 2} of {len(found)} arrays' in said
  assert 'new: 1 layers (fc8_pseudo_label)' in said


def test_a_stage_that_the_run_has_not_starts_from_its_first(run, tiny_config):
  config = tiny_config()
  config.stages[1].name = 'refined'
  theirs = network_of(tiny_config(), run, 0, 'all')
  fresh, found, said = begin(config, run, 1)
  kernel = ('params', 'vgg', 'conv1_1', 'kernel')
  np.testing.assert_array_equal(found[kernel], theirs[kernel])
  for place in found:  # its estimate comes in there
    if 'fc_pre' in place or ('fc7' in place and 'kernel' in place):
      np.testing.assert_array_equal(found[place], fresh[place])
  assert 'fc_pre' in said and 'fc7' in said


def names_changed(run):
  path = run / 'mean_position.json'
  content = json.loads(path.read_text())
  content['landmarks'][0] = 'pocket'
  path.write_text(json.dumps(content))


@pytest.mark.parametrize('case', ['number', 'names'])
def test_other_landmarks_have_a_new_head(run, tiny_config, case):
  config = tiny_config()
  if case == 'number':
    config.dataset.clothes_type = 'upper'
  else:
    names_changed(run)
  theirs = network_of(tiny_config(), run, 0, 'all')
  fresh, found, said = begin(config, run)
  for place, array in found.items():
    new = place[1].startswith('fc8')
    np.testing.assert_array_equal(array, (fresh if new else theirs)[place])
  assert 'new (other landmarks): ' in said and 'fc8_landmarks' in said


def test_heatmaps_of_other_landmarks_are_new(tiny_config):
  config = pcloss.get_config('dataset=synthetic,size=tiny')
  setup = resolve(config)
  model = stage_lib.build_model(config.model, config.stages[0], 0, FASHION_8)
  shapes = stage_lib.variable_shapes(model, config.input.size)
  flat = traverse_util.flatten_dict(shapes)
  places = start.own_run.places_of_landmarks(config, setup, 0, flat)
  assert {place[1] for place in places} == {'heatmaps', 'visibility'}


def test_a_training_starts_from_a_run_and_leaves_it_as_it_was(
  run, tiny_config, tmp_path, caplog
):
  """With a learning rate of 0 it ends where it began."""
  state = lambda: {
    path: (path.stat().st_mtime_ns, hashlib.md5(path.read_bytes()).digest())
    if path.is_file()
    else None
    for path in run.rglob('*')
  }
  before, config = state(), tiny_config(stages=1)
  config.pretrained = str(run)
  config.stages[0].optimizer.learning_rate = 0.0
  config.stages[0].train_steps = config.stages[0].eval_steps = 1
  with caplog.at_level('INFO', 'fld_jax'):
    experiment.run(config, tmp_path / 'W', mode='train', splits=())
  assert f'stage1 starts from {run}/stages/stage1/all, step ' in caplog.text
  assert state() == before
  theirs = network_of(tiny_config(), run, 0, 'all')
  ours = network_of(config, tmp_path / 'W', 0, 'all')
  for place in theirs:
    if place[0] == 'params' and 'fc8_pseudo_label' not in place:
      np.testing.assert_array_equal(ours[place], theirs[place])
  shutil.rmtree(run)  # what is trained no longer needs it
  experiment.run(config, tmp_path / 'W', mode='train', splits=())
  experiment.run(config, tmp_path / 'W', mode='evaluate', splits=('test',))


def set_manifest(change):
  def damage(run):
    path = run / 'manifest.json'
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))

  return damage


REFUSALS = {
  'no run': (shutil.rmtree, 'is no folder of a run: it holds no manifest.json'),
  'nothing trained': (
    lambda run: shutil.rmtree(run / 'stages'),
    'which holds no trained network: give the folder of a run',
  ),
  'no config': (
    set_manifest(lambda manifest: manifest.pop('config')),
    'manifest.json, config: is None, must be an object',
  ),
  'mean': (
    set_manifest(lambda m: m['config']['input'].update(mean=[1, 2])),
    r'manifest.json, config.input.mean: is \[1, 2\], must be a list of 3',
  ),
  'another normalisation': (
    set_manifest(lambda m: m['config']['input'].update(std=[9, 9, 9])),
    r'config.input.std is \(60.0, .* want \(9, 9, 9\): give .* pretrained=',
  ),
}


@pytest.mark.parametrize('case', REFUSALS)
def test_refused_before_data_are_prepared(
  case, run, tiny_config, tmp_path, monkeypatch
):
  change, message = REFUSALS[case]
  change(run)
  run.mkdir(exist_ok=True)

  def fail(config):
    raise AssertionError('this start prepares data')

  monkeypatch.setattr(experiment, 'prepared_builder', fail)
  config = tiny_config(stages=1)
  config.pretrained = str(run)
  with pytest.raises(InputError, match=message):
    experiment.run(config, tmp_path / 'W', mode='train', splits=('test',))
  assert not (tmp_path / 'W').exists()


def test_another_trunk_is_refused(run, tiny_config):
  config = tiny_config(stages=1)
  config.model.trunk.blocks = ((1, 12), (1, 12))
  config.pretrained = str(run)
  with pytest.raises(InputError, match='nothing of its trunk fits: .*vgg16'):
    checks.check_pretrained(config, resolve(config))
  with config.unlocked():
    config.model.backbone, config.model.trunk = 'resnet18', {'width': 4}
    config.stages[0].input_size, config.model.pool = 0, 1
  with pytest.raises(InputError, match="fits: 'vgg16' .*, 'resnet18' .width 4"):
    checks.check_pretrained(config, resolve(config))


@pytest.mark.parametrize('below', ['', 'stages/stage1', 'stages/stage1/all'])
def test_the_argument_takes_the_normalisation_of_the_run(run, below):
  set_manifest(
    lambda m: m['config']['input'].update(mean=[1.0, 2.0, 3.0], std=[4.0] * 3)
  )(run)
  for configs in (dfa, pcloss):
    arg = f'dataset=synthetic,size=tiny,pretrained={run / below}'
    config = configs.get_config(arg)
    assert config.pretrained == str(run / below)
    assert config.input.mean == (1, 2, 3) and config.input.std == (4, 4, 4)


def test_a_begun_training_goes_on_without_the_run(run, tiny_config):
  """The argument can no longer say in which normalisation it was."""
  begun = tiny_config(stages=1)
  begun.pretrained, begun.input.mean = str(run), (1.0, 2.0, 3.0)
  saved, now = json.loads(begun.to_json()), tiny_config(stages=1)
  now.pretrained = str(run)
  assert defaults.as_begun(now, saved).input.mean == now.input.mean
  shutil.rmtree(run)
  assert defaults.as_begun(now, saved).input.mean == (1, 2, 3)
