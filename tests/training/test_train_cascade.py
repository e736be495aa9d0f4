"""A cascade from data to report, and what a second start makes of it."""

import base64
import json
import shutil
import types

import jax
import numpy as np
import pytest
from random_networks import random_variables

from fld_jax import experiment, input_pipeline, landmark_sets
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade import store
from fld_jax.cascade.setup import resolve
from fld_jax.configs import trained
from fld_jax.errors import InputError
from fld_jax.models.resnet import ResNet
from fld_jax.runtime.manifest import (
  TOPOLOGY,
  compare_configs,
  read_manifest,
  write_manifest,
)
from fld_jax.runtime.parallel import Parallel
from fld_jax.training import checks, train_cascade, train_step

NETWORKS = ('stage1/all', 'stage2/all', 'stage3/easy', 'stage3/hard')


@pytest.fixture(scope='module')
def finished(trained_run, tmp_path_factory):
  """`trained_run`, in a folder that the tests of this file may change."""
  trained, results = trained_run
  workdir = tmp_path_factory.mktemp('finished') / 'run'
  shutil.copytree(trained, workdir)
  return workdir, results


@pytest.fixture
def no_training(monkeypatch):
  """Lets every attempt to train fail."""

  def fail(*args, **kwargs):
    raise AssertionError('this start trains')

  monkeypatch.setattr(train_step, 'make_train_step', fail)
  monkeypatch.setattr(input_pipeline, 'train_batches', fail)


def assert_same(left, right):
  """Two trees of arrays agree bit by bit."""
  assert jax.tree.structure(left) == jax.tree.structure(right)
  jax.tree.map(np.testing.assert_array_equal, left, right)


def test_manifest_and_checkpoints(finished):
  workdir, _ = finished
  manifest = json.loads((workdir / 'manifest.json').read_text())
  assert manifest['config']['stages'][2]['branches'] is True
  assert list(manifest['stages']) == ['stage1', 'stage2', 'stage3']
  assert manifest['stages']['stage1']['networks'] == ['all']
  assert manifest['stages']['stage3']['networks'] == ['easy', 'hard']
  assert manifest['stages']['stage3']['epsilon'] > 0
  for network in NETWORKS:
    folder = workdir / 'stages' / network
    assert (folder / '6').is_dir(), 'the last step'
    name = network.removesuffix('/all')
    (events,) = (workdir / 'tensorboard' / name).glob('events.out.tfevents.*')
    written = events.read_bytes()
    for tag in (b'train/loss', b'train/landmarks', b'tune/ne'):
      assert tag in written


def test_evaluation_files(finished):
  workdir, results = finished
  folder = workdir / 'eval' / 'test'
  metrics = json.loads((folder / 'metrics.json').read_text())
  assert metrics['num_examples'] == 16
  assert metrics['num_corrupt'] == 0
  assert metrics['split'] == 'test'
  assert list(metrics['stages']) == ['stage1', 'stage2', 'stage3']
  for ne in (
    metrics['ne'],
    *(of['ne'] for of in metrics['stages'].values()),
  ):
    assert 0 < ne['macro'] < 1 and 0 < ne['micro'] < 1
    assert set(ne['per_landmark']) == set(landmark_sets.FASHION_8.names)
  assert metrics['ne'] == metrics['stages']['stage3']['ne']
  assert metrics['ne']['macro'] == pytest.approx(
    results['test']['ne']['macro'], abs=1e-6
  )
  passes = metrics['network_passes']
  assert passes['stage1'] == passes['stage2'] == 16
  assert passes['stage3/easy'] + passes['stage3/hard'] == 16
  predictions = json.loads((folder / 'predictions.json').read_text())
  assert sorted(p['image_id'] for p in predictions) == list(range(16))
  for entry in predictions:
    assert entry['category_id'] == 1
    assert np.isfinite(entry['keypoints']).all()
    assert len(entry['keypoints']) == 3 * 8
    assert 0 <= entry['score'] <= 1
  page = (folder / 'report.html').read_text()
  for slug in ('overlays', 'pdl', 'training', 'routing', 'clusters_stage3'):
    picture = (folder / 'figures' / f'{slug}.png').read_bytes()
    assert base64.b64encode(picture).decode() in page


def test_history_is_of_every_network(finished, tiny_config):
  workdir, _ = finished
  _, history = store.load_cascade(
    tiny_config(), resolve(tiny_config()), workdir
  )
  steps = {}
  for point in history:
    steps.setdefault(point['stage'], []).append(point['step'])
    assert 0 < point['tune_ne'] < 5
    assert np.isfinite(point['loss']) if point['step'] else 'loss' not in point
  # Those with a known start begin with it.
  names = [network.removesuffix('/all') for network in NETWORKS]
  assert steps == {'stage1': [3, 6], **{n: [0, 3, 6] for n in names[1:]}}
  # Both branches are trained, each on images of its own.
  easy, hard = (
    [p['loss'] for p in history if p['stage'] == name and p['step']]
    for name in ('stage3/easy', 'stage3/hard')
  )
  assert len(easy) == 2 and not set(easy) & set(hard)


def test_routes_share_the_images_out(finished):
  """quantile=0.5: half of the training images on each side."""
  workdir, _ = finished
  routes = np.load(workdir / 'stages' / 'stage3' / 'routes.npz')
  easy = routes['train_score'] < routes['epsilon']
  assert len(easy) == 48 and easy.sum() == 24
  assert sorted(routes['train_index']) == list(range(48))
  assert sorted(routes['tune_index']) == list(range(16))


def test_again_trains_nothing(finished, tiny_config, no_training):
  workdir, _ = finished
  state = lambda: {
    path: (path.stat().st_mtime_ns, path.stat().st_size)
    for path in (workdir / 'stages').rglob('*')
    if path.is_file()
  }
  before, metrics = state(), workdir / 'eval' / 'test' / 'metrics.json'
  content, manifest = (
    metrics.read_bytes(),
    (workdir / 'manifest.json').read_bytes(),
  )
  metrics.unlink()
  experiment.run(tiny_config(), workdir, mode='train', splits=('test',))
  assert metrics.read_bytes() == content
  assert (workdir / 'manifest.json').read_bytes() == manifest
  assert state() == before


def test_evaluate_alone_and_on_another_split(
  finished, tiny_config, no_training
):
  workdir, trained = finished
  results = experiment.run(
    tiny_config(), workdir, mode='evaluate', splits=('val', 'train[:25%]')
  )
  assert results['val']['num_examples'] == 16
  assert results['train[:25%]']['num_examples'] == 12
  assert results['val']['ne'] != trained['test']['ne']
  for split in results:
    written = json.loads(
      (workdir / 'eval' / split / 'metrics.json').read_text()
    )
    assert written['split'] == split
  with pytest.raises(
    InputError, match="no split 'nope'.*train with 48 images, val"
  ):
    experiment.run(tiny_config(), workdir, mode='evaluate', splits=('nope',))


CHANGES = {
  'input.size': lambda config: setattr(config.input, 'size', 48),
  'seed': lambda config: setattr(config, 'seed', 1),
  'stages.1.weights.pseudo_label': lambda config: setattr(
    config.stages[1].weights, 'pseudo_label', 0.7
  ),
}


@pytest.mark.parametrize('field', CHANGES)
def test_another_config_is_refused(finished, tiny_config, field):
  workdir, _ = finished
  config = tiny_config()
  CHANGES[field](config)
  before = (workdir / 'manifest.json').read_bytes()
  with pytest.raises(InputError) as raised:
    experiment.run(config, workdir, mode='train', splits=('test',))
  assert f'{workdir}/manifest.json' in str(raised.value)
  assert f'config.{field} was' in str(raised.value)
  assert (workdir / 'manifest.json').read_bytes() == before


def test_evaluation_needs_the_same_networks_only(finished, tiny_config):
  workdir, _ = finished
  config = tiny_config()
  CHANGES['seed'](config)
  CHANGES['stages.1.weights.pseudo_label'](config)
  store.load_cascade(config, resolve(config), workdir)
  CHANGES['input.size'](config)
  with pytest.raises(InputError, match=r'manifest.json .*config.input.size'):
    store.load_cascade(config, resolve(config), workdir)


def test_free_fields_may_change(finished, tiny_config):
  workdir, _ = finished
  config = tiny_config()
  config.log_every_steps, config.parallel = 7, 'pmap'
  config.eval_splits, config.input.num_threads = ('val',), 1
  manifest = read_manifest(workdir)
  compare_configs(workdir, manifest, config)


def test_other_data_are_refused(finished, tiny_config, synthetic_builder):
  """The config may be the same and the files of the data changed."""
  workdir, _ = finished
  folder = workdir.parent / 'other_data'
  whole = resolve(tiny_config()).whole
  write_manifest(folder, tiny_config(), whole, 'older/data', TOPOLOGY, {})
  parallel = Parallel('shard_map')
  with pytest.raises(InputError, match='trained on older/data'):
    train_cascade.train_cascade(
      tiny_config(),
      resolve(tiny_config()),
      synthetic_builder,
      folder,
      parallel,
    )
  data = read_manifest(workdir)['data']
  assert data == synthetic_builder.info.full_name


def test_evaluate_without_a_finished_cascade(finished, tiny_config, tmp_path):
  with pytest.raises(InputError, match="no finished stage 'stage1'.*train"):
    experiment.run(tiny_config(), tmp_path, mode='evaluate', splits=('test',))
  workdir, _ = finished
  shutil.copytree(workdir / 'stages', tmp_path / 'stages')
  manifest = read_manifest(workdir)
  del manifest['stages']['stage3']
  write_manifest(
    tmp_path,
    tiny_config(),
    manifest['landmarks'],
    manifest['data'],
    TOPOLOGY,
    manifest['stages'],
  )
  with pytest.raises(InputError, match="no finished stage 'stage3'.*train"):
    experiment.run(tiny_config(), tmp_path, mode='evaluate', splits=('test',))


def from_run(config, workdir, count):
  """Takes the first stages from another run."""
  for stage in config.stages[:count]:
    stage.checkpoint = str(workdir / 'stages' / stage.name)
  return config


def test_a_branch_without_images(tiny_config, synthetic_builder, caplog):
  """A score that is the same for all images must not end the run."""
  config = tiny_config()
  trainer = types.SimpleNamespace(
    config=config, builder=synthetic_builder, setup=resolve(config)
  )
  routes = {
    'train_score': np.full(48, 0.3),
    'train_index': np.arange(48),
    'tune_score': np.full(16, 0.3),
    'tune_index': np.arange(16),
  }
  subsets = train_cascade._Trainer._subsets
  epsilon = train_cascade.find_threshold(routes['train_score'], config.routing)
  for easy in (True, False):
    records = subsets(trainer, routes, epsilon, easy=easy, takes_all=False)
    assert [len(part) for part in records] == [48, 16]
  assert caplog.text.count("routed to the branch 'easy'") == 2
  # One that tells them apart gives each branch its own images, unless with
  # weights, which leaves the tuning images as they will be routed.
  routes['train_score'] = np.arange(48) / 100
  routes['tune_score'] = np.arange(16) / 100
  for takes_all, count in ((False, 10), (True, 48)):
    train, tune = subsets(trainer, routes, 0.1, easy=True, takes_all=takes_all)
    assert (len(train), len(tune)) == (count, 10)


def test_stage_from_another_run(finished, tiny_config, tmp_path):
  workdir, _ = finished
  config = from_run(tiny_config(stages=2), workdir, 1)
  results = experiment.run(config, tmp_path, mode='train', splits=('test',))
  # A copy without what only training needs, so that the run is whole.
  (step,) = (tmp_path / 'stages/stage1/all').iterdir()
  assert (step / 'variables').is_dir() and not (step / 'optimizer').exists()
  new, _ = store.load_cascade(config, resolve(config), tmp_path)
  old, _ = store.load_cascade(tiny_config(), resolve(tiny_config()), workdir)
  # The second stage sees what it saw in the first run, so it becomes the same.
  for index in (0, 1):
    assert_same(new[index].networks, old[index].networks)
    assert_same(new[index].clusters, old[index].clusters)
  evaluated = json.loads((workdir / 'eval/test/metrics.json').read_text())
  assert results['test']['ne']['macro'] == pytest.approx(
    evaluated['stages']['stage2']['ne']['macro'], abs=1e-6
  )


def test_dropout_does_not_matter_to_a_trained_stage(finished, tiny_config):
  workdir, _ = finished
  config = tiny_config()
  config.model.dropout += 0.25
  stages, _ = store.load_cascade(config, resolve(config), workdir)
  assert [stage.name for stage in stages] == ['stage1', 'stage2', 'stage3']
  config.model.hidden *= 2
  with pytest.raises(InputError, match='config.model.hidden was'):
    store.load_cascade(config, resolve(config), workdir)


def test_stages_that_cannot_be_taken(finished, tiny_config, tmp_path):
  workdir, _ = finished

  def take(change):
    config = from_run(tiny_config(stages=2), workdir, 1)
    change(config)
    folder = tmp_path / change.__name__
    experiment.run(config, folder, mode='train', splits=('test',))

  def elsewhere(config):
    config.stages[0].checkpoint = str(tmp_path / 'stages' / 'stage1')

  def second_as_first(config):
    config.stages[0].checkpoint = str(workdir / 'stages' / 'stage2')

  def word(config):
    config.stages[0].checkpoint = 'stage1'

  def clusters(config):
    config.stages[0].pseudo_label.num_clusters = 9

  with pytest.raises(InputError, match=r'stages\[0\].checkpoint is .*no fin'):
    take(elsewhere)
  with pytest.raises(InputError, match=r'stages\[0\].checkpoint is .*no fin'):
    take(word)
  with pytest.raises(InputError, match=r'config.input.size was 32 .* 48'):
    take(CHANGES['input.size'])
  with pytest.raises(InputError, match='being the first stage was False'):
    take(second_as_first)
  with pytest.raises(InputError, match=r'stages\[0\].*num_clusters was 4 .* 9'):
    take(clusters)


@pytest.fixture
def three_networks(tiny_config):
  """Models of three stages, random variables of each, and a batch."""
  config = tiny_config()
  size = config.input.size
  models = [
    stage_lib.build_model(
      config.model,
      config.stages[min(i, 1)],
      i,
      resolve(config).landmarks,
    )
    for i in range(3)
  ]
  variables = [
    random_variables(model, size, seed, head=0.1)
    for seed, model in enumerate(models)
  ]
  rng = np.random.default_rng(0)
  for each in variables:
    each['batch_stats'] = jax.tree.map(
      lambda x: rng.uniform(0.5, 2, x.shape).astype(np.float32),
      each['batch_stats'],
    )
  batch = {
    'image': rng.normal(size=(4, size, size, 3)).astype(np.float32),
    'estimate': rng.normal(size=(4, 8, 2)).astype(np.float32),
    'example_index': np.arange(4),
  }
  return models, variables, batch


def run_network(model, variables, batch):
  return jax.jit(lambda v: model.apply(v, batch, train=False))(variables)


@pytest.mark.parametrize('index', [1, 2])
def test_a_stage_starts_as_a_correction_of_0(three_networks, index):
  models, variables, batch = three_networks
  source, fresh = variables[index - 1], variables[index]
  new = models[index].warm_start(fresh, source)
  outputs = run_network(models[index], new, batch)
  # To the last bit: so its landmarks are those of the stage before.
  np.testing.assert_array_equal(outputs['landmarks'], 0)
  assert_same(jax.tree.map(np.shape, new), jax.tree.map(np.shape, fresh))
  # Another stage's clusters are others.
  assert_same(
    new['params']['fc8_pseudo_label'], fresh['params']['fc8_pseudo_label']
  )


def test_a_stage_starts_with_what_the_one_before_sees(three_networks):
  """On the same crops, fc7's features are those of stage 1."""
  models, (source, fresh, _), batch = three_networks
  new = models[1].warm_start(fresh, source)
  second = models[1].clone(side=16)
  for name in ('features', 'visibility'):
    np.testing.assert_allclose(
      run_network(second, new, batch)[name],
      run_network(models[0], source, batch)[name],
      rtol=1e-5,
      atol=1e-5,
    )


def test_the_first_stage_sees_averages_of_the_crop(three_networks):
  models, (variables, *_), batch = three_networks
  assert models[0].side == 16
  expected = np.zeros((4, 16, 16, 3), np.float32)
  for row in range(16):
    for column in range(16):
      part = batch['image'][
        :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2
      ]
      expected[:, row, column] = part.mean(axis=(1, 2))
  found = run_network(models[0], variables, batch)
  wanted = run_network(models[0], variables, {**batch, 'image': expected})
  np.testing.assert_allclose(
    found['landmarks'], wanted['landmarks'], rtol=1e-5, atol=1e-6
  )


def test_an_offset_depends_on_the_image_at_the_landmark(three_networks):
  """The local layers tell one landmark's estimate from another place."""
  models, (_, variables, _), batch = three_networks
  rng = np.random.default_rng(3)
  params = dict(variables['params'])
  kernel = params['fc8_local']['kernel']
  params['fc8_local'] = {
    'kernel': rng.normal(size=kernel.shape).astype(np.float32),
    'bias': params['fc8_local']['bias'],
  }
  # Nothing but the local layers: the whole image and fc_pre say nothing.
  params['fc8_landmarks'] = jax.tree.map(np.zeros_like, params['fc8_landmarks'])
  variables = {**variables, 'params': params}
  estimate = np.zeros((4, 8, 2), np.float32)
  moved = estimate.copy()
  moved[:, 5] += 0.2
  run = lambda points: run_network(
    models[1], variables, {**batch, 'estimate': points}
  )['landmarks']
  change = np.abs(run(moved) - run(estimate)).max(axis=(0, 2))
  assert change[5] > 1e-3
  np.testing.assert_allclose(np.delete(change, 5), 0, atol=1e-5)


def test_the_cascade_on_a_resnet(tiny_config, tmp_path):
  """Two stages, the second of which starts as the first ended."""
  config = tiny_config(stages=2)
  config.model.backbone, config.stages[0].input_size = 'resnet18', 0
  config.model.pool, config.model.local_maps = 1, ('c2', 'c3')
  with config.unlocked():
    config.model.trunk = {'width': 4}
  for stage in config.stages:
    stage.init = 'previous' if stage.name == 'stage2' else 'random'
    stage.train_steps, stage.eval_steps = 4, 2
  results = experiment.run(config, tmp_path, mode='train', splits=('test',))
  assert results['test']['num_examples'] == 16
  stages, _ = store.load_cascade(config, resolve(config), tmp_path)
  for stage in stages:
    assert 'resnet' in stage.networks['all']['params']
    assert isinstance(stage.model.backbone, ResNet)
  again = experiment.run(config, tmp_path, mode='evaluate', splits=('test',))
  assert again['test']['ne'] == results['test']['ne']


def test_a_run_from_before_there_were_backbones(
  tiny_config, trained_workdir, tmp_path
):
  """Its manifest names the trunk's options as the network's; it goes on."""
  workdir = tmp_path / 'run'
  shutil.copytree(trained_workdir, workdir)
  path = workdir / 'manifest.json'
  manifest = json.loads(path.read_text())
  model = manifest['config']['model']
  for stage in manifest['config']['stages']:
    assert stage.pop('whole_epochs'), 'there was no such field yet'
    del stage['branch_temperature']
  for name, entry in manifest['stages'].items():
    for field in ('continues', 'easy_share', 'threshold'):
      assert field in entry, name
      del entry[field]
  assert model.pop('backbone') == 'vgg16'
  trunk = model.pop('trunk')
  assert trunk.pop('frozen') == 0, 'there was no such field yet'
  model.update(trunk)
  path.write_text(json.dumps(manifest))
  figures = (workdir / 'eval/test/metrics.json').read_text()
  shutil.rmtree(workdir / 'eval')
  restored = trained.get_config(str(workdir))
  experiment.run(restored, workdir, mode='evaluate', splits=('test',))
  assert (workdir / 'eval/test/metrics.json').read_text() == figures
  # To resume it, first as if the last stage were still to be trained.
  shutil.rmtree(workdir / 'stages/stage3')
  manifest['stages'].pop('stage3')
  path.write_text(json.dumps(manifest))
  experiment.run(tiny_config(), workdir, mode='train', splits=('test',))
  assert json.loads(path.read_text())['config']['model']['backbone'] == 'vgg16'
  assert (workdir / 'eval/test/metrics.json').read_text() == figures
  with pytest.raises(InputError, match='config.model.trunk.blocks.0.1 was 8'):
    config = tiny_config()
    config.model.trunk.blocks = ((1, 4), (1, 8))
    experiment.run(config, workdir, mode='train', splits=('test',))


@pytest.mark.parametrize(
  'field, value, message',
  [
    ('stages.1.init', 'before', "'before', valid .* 'random', 'previous'"),
    ('stages.0.branches', True, 'only the last of 3 stages'),
    ('stages.0.input_size', 12, 'is 12, must be 0 or divide .* which is 32'),
    ('model.local_maps', ('c3',), 'c3 of its backbone, and VGG has c1, c2 '),
    ('position_constraint.space', 'cm', "'cm', valid .* 'input_px'"),
    ('position_constraint.mask', 'all', "'all', valid .* 'visible'"),
    ('heatmap.decoder', 'max', "'max', valid .* 'dark'"),
    ('heatmap.sigma', 0.0, 'sigma is 0.0, must be a number from 1e-06'),
    ('stages.2.landmark_loss', 'l3', "'l3', valid .* 'l1'"),
    ('model.name', 'fpn', "num_clusters is 4, but .* 'fpn' has no"),
    ('position_constraint.partition', 'half', "'half', valid .*'skeleton'"),
    ('position_constraint.k', 0, 'k is 0, must be a whole number from 1'),
  ],
)
def test_refused_before_any_training(tiny_config, field, value, message):
  config = tiny_config()
  checks.check_config(config, resolve(config))
  *path, last = field.split('.')
  where = config
  for name in path:
    where = where[int(name)] if name.isdigit() else where[name]
  where[last] = value
  with pytest.raises(InputError, match=message) as raised:
    checks.check_config(config, resolve(config))
  assert path[0] in str(raised.value)
