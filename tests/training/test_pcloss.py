"""The regression and heatmap models, from config to table."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from random_networks import random_variables

from fld_jax import ablation, experiment, geometry, landmark_sets, papers
from fld_jax.cascade import forward
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.setup import resolve
from fld_jax.config import difference
from fld_jax.configs import pcloss, pcloss_figure8, pcloss_table1, pcloss_table4
from fld_jax.errors import InputError
from fld_jax.runtime.parallel import Parallel
from fld_jax.training import checks, objective, schedules, train_step
from fld_jax.training.objective import Objective

MODELS = pcloss.MODELS
FLIP = landmark_sets.FASHION_8.flip


def shrink(config, data_dir):
  """A config that trains in seconds."""
  config.batch_size = 8
  config.log_every_steps = 2
  config.dataset.data_dir = data_dir
  config.dataset.sizes = {'train': 48, 'val': 16, 'test': 16}
  config.input.size = 32
  small = {'hidden': 16, 'channels': 8}
  config.model.update({k: v for k, v in small.items() if k in config.model})
  # Five blocks where a network wants the map of stride 32.
  blocks = ((1, 8), (1, 8)) if 'hidden' in config.model else ((1, 8),) * 5
  small = {'blocks': blocks, 'width': 4}
  trunk = config.model.trunk
  trunk.update({k: v for k, v in small.items() if k in trunk})
  for stage in config.stages:
    stage.train_epochs = 0.0
    stage.train_steps, stage.eval_steps = 4, 2
  return config


@pytest.fixture
def tiny(tiny_config):
  """tiny(model, pcloss='skeleton') -> a config that trains in seconds."""
  data_dir = tiny_config().dataset.data_dir

  def make(model, pc='skeleton'):
    arg = f'dataset=synthetic,size=tiny,model={model},pcloss={pc}'
    return shrink(pcloss.get_config(arg), data_dir)

  return make


@pytest.mark.parametrize('size', ['full', 'medium', 'small', 'tiny'])
@pytest.mark.parametrize('model', [*MODELS, 'fashionnet,backbone=resnet18'])
def test_configs_are_sound(model, size):
  for pc in ('skeleton', 'none', 'whole', 'top_bottom'):
    config = pcloss.get_config(f'model={model},size={size},pcloss={pc}')
    (stage,) = config.stages
    assert (stage.weights.position_constraint > 0) == (pc != 'none')
    if size != 'full' or pc == 'skeleton':  # tracing ResNet-50 takes a second
      checks.check_config(config, resolve(config))


def test_heatmap_presets():
  show = lambda arg: tuple(
    pcloss.get_config(arg).heatmap[k] for k in ('amplitude', 'alpha', 'sigma')
  )
  assert show('size=full') == (100.0, 0.1, 8.0)
  assert show('size=full,heatmap=unit') == (1.0, 15.0, 2.0)
  assert show('size=medium') == (1.0, 15.0, 2.0)
  assert show('size=small') == (1.0, 15.0, 1.5)
  assert show('size=medium,heatmap=paper') == (100.0, 0.1, 2.0)
  # The weight goes with the squared height of the targets.
  for preset, weight in (('unit', 100.0), ('paper', 0.01)):
    arg = f'size=small,model=integral,heatmap={preset}'
    stage = pcloss.get_config(arg).stages[0]
    assert stage.weights.heatmaps == pytest.approx(weight)
    assert stage.weights.landmarks == 1


# The paper's section 4.2: k, beta, steps; for COCO docs/methods.md 4.4.
@pytest.mark.parametrize(
  ('dataset', 'k', 'beta', 'steps'),
  [
    ('deepfashion', 4, 1e-5, 150_000),
    ('fld', 4, 1e-5, 150_000),
    ('fashion_ai', 8, 2e-4, 100_000),
    ('coco', 8, 1e-5, 150_000),
  ],
)
def test_the_paper_recipe_by_data_set(dataset, k, beta, steps):
  config = pcloss.get_config(f'dataset={dataset},model=fpn')
  (stage,) = config.stages
  assert config.position_constraint.k == k
  assert stage.weights.position_constraint == beta
  assert stage.train_steps == steps
  rate = schedules.learning_rate(stage.optimizer, steps)
  found = [float(rate(step)) for step in (29_999, 30_000, 49_999, 50_000)]
  expected = [3e-4, 1e-4, 1e-4, 1e-4 / 3]
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  # The paper's choice is marked in its figure.
  rows = pcloss_figure8.get_config(f'dataset={dataset}').rows.values()
  assert [row.beta for row in rows if row.chosen] == [beta]
  # Weights that are good in small heatmaps are others.
  small = pcloss.get_config(f'dataset={dataset},model=fpn,size=small')
  assert small.stages[0].weights.position_constraint == 1e-5
  assert small.position_constraint.k == k


@pytest.mark.parametrize('size', ['full', 'medium', 'small', 'tiny'])
def test_training_crops_have_no_black_where_the_photo_goes_on(size):
  """A white photo: an augmented crop of a box in its middle is all white."""
  config = pcloss.get_config(f'size={size}')
  pipeline = resolve(config).pipeline
  image = np.full((400, 400, 3), 255, np.uint8)
  box = np.array([150.0, 120.0, 250.0, 280.0])
  largest = dataclasses.asdict(pipeline.augment)
  for sign in (-1, 1):
    crop, affine = geometry.cut(
      image,
      box,
      pipeline.size,
      pipeline.crop,
      pipeline.margin,
      surroundings=largest['surroundings'],
      scale=float(np.exp(-largest['scale'])),
      rotation=sign * np.deg2rad(largest['rotation']),
      shift=(sign * largest['shift'], -sign * largest['shift']),
    )
    assert crop.min() == 255
  # The plain crop stretches the box's two sides to those of the square.
  _, affine = geometry.cut(image, box, pipeline.size, pipeline.crop, 0.0)
  np.testing.assert_allclose(
    np.diag(affine[:, :2]), pipeline.size / np.array([100, 160])
  )


def test_the_paper_recipe():
  config = pcloss.get_config('dataset=deepfashion')
  (stage,) = config.stages
  assert (config.input.size, config.batch_size) == (512, 20)
  assert config.augment.rotation == 30 and config.augment.flip
  assert np.exp(config.augment.scale) == pytest.approx(1.25)
  weighted = {k: v for k, v in stage.weights.to_dict().items() if v}
  assert weighted == {'heatmaps': 1.0, 'position_constraint': 1e-5}
  assert (config.position_constraint.k, config.position_constraint.space) == (
    4,
    'heatmap_px',
  )
  rate = schedules.learning_rate(stage.optimizer, stage.train_steps)
  found = [float(rate(step)) for step in (0, 29_999, 30_001, 50_001, 149_999)]
  expected = [3e-4, 3e-4, 1e-4, 1e-4 / 3, 1e-4 / 3]
  np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
  'path, value, message',
  [
    ('input.size', 48, 'size is 48, and a ResNet needs a multiple of 32'),
    ('heatmap.alpha', 0.1, 'alpha 0.1 is too small .* drawn to the middle'),
    ('model.backbone', 'resnet20', "is 'resnet20', valid .* vgg16, resnet18"),
    ('model.backbone', 'vgg16', "trunk.width is no field of the trunk 'vgg16'"),
    ('model.pool', 2, "model.pool is no field of .*'simple_baselines'"),
    (
      'model.name',
      'fpm',
      "name is 'fpm', valid values are attributes,",
    ),
    ('position_constraint.space', 'cm', "'cm', valid .*'heatmap_px'"),
  ],
)
def test_refused_before_any_training(tiny, path, value, message):
  config = tiny('simple_baselines')
  part, field = path.split('.')
  with config.unlocked():
    config[part][field] = value
  with pytest.raises(InputError, match=message):
    checks.check_config(config, resolve(config))


def test_a_weak_soft_argmax_that_nothing_uses_is_no_mistake(tiny):
  config = tiny('simple_baselines', 'none')
  config.heatmap.alpha = 0.1
  checks.check_config(config, resolve(config))
  config.heatmap.decoder = 'soft_argmax'
  with pytest.raises(InputError, match='drawn to the middle'):
    checks.check_config(config, resolve(config))


def test_heatmap_models_have_one_stage(tiny):
  config = tiny('fpn')
  second = config.stages[0].copy_and_resolve_references()
  second.name = 'stage2'
  config.stages = (config.stages[0], second)
  with pytest.raises(InputError, match="'fpn', .* only the first of .*, not 2"):
    checks.check_config(config, resolve(config))


def test_losses_on_what_a_regression_does_not_predict(tiny):
  config = tiny('fashionnet')
  config.position_constraint.space = 'heatmap_px'
  with pytest.raises(InputError, match="'heatmap_px', .* 'fashionnet' has no"):
    checks.check_config(config, resolve(config))
  config.stages[0].weights.position_constraint = 0.0  # then nobody asks
  checks.check_config(config, resolve(config))
  config.stages[0].weights.heatmaps = 1.0
  with pytest.raises(InputError, match="'heatmaps': it has landmarks, vis"):
    checks.check_config(config, resolve(config))


def test_a_preset_without_targets():
  for backbone in ('vgg16', 'resnet18'):
    with pytest.raises(InputError, match="'paper', .*'fashionnet' has none"):
      pcloss.get_config(f'model=fashionnet,backbone={backbone},heatmap=paper')


@pytest.mark.parametrize(
  'space, scale', [('heatmap_px', 8), ('input_px', 32), ('normalized', 1)]
)
@pytest.mark.parametrize('mask', ['annotated', 'visible'])
def test_position_constraint_of_heatmaps(tiny, space, scale, mask):
  """Of the soft-argmax, in the config's unit, averaged over what has a pair."""
  config = tiny('simple_baselines', 'whole')
  config.position_constraint.update(space=space, k=8, mask=mask)
  config.stages[0].weights.visibility = 0.0
  rng = np.random.default_rng(0)
  maps = rng.normal(size=(3, 8, 8, 8)).astype(np.float32)
  truth = rng.uniform(-0.5, 0.5, (3, 8, 2)).astype(np.float32)
  visibility = rng.choice([0, 1, 2], (3, 8)).astype(np.int32)
  visibility[2] = 1  # occluded: annotated, not visible
  batch = {'landmarks': truth, 'visibility': visibility}
  losses, counts = objective.stage_losses(
    {'heatmaps': maps},
    batch,
    None,
    {},
    Objective.of(config, resolve(config), 0),
  )['position_constraint']
  assert list(np.asarray(counts)) == [True, True, mask == 'annotated']
  share = np.exp(config.heatmap.alpha * maps.astype(np.float64))
  share /= share.sum((1, 2), keepdims=True)
  place = (np.arange(8) + 0.5) / 8 - 0.5
  x = np.einsum('byxn,x->bn', share, place)
  y = np.einsum('byxn,y->bn', share, place)
  valid = (0,) if mask == 'visible' else (0, 1)
  for row in range(3):
    known = np.isin(visibility[row], valid)
    found = np.stack([x, y], -1)[row, known]
    error = scale * (found - truth[row, known])
    pairs = ((error[:, None] - error[None]) ** 2).sum((1, 2))
    expected = pairs.mean() if known.any() else 0
    np.testing.assert_allclose(losses[row], expected, rtol=1e-4)


@pytest.mark.parametrize('name', ['simple_baselines', 'fashionnet'])
@pytest.mark.parametrize('decoder', ['quarter', 'soft_argmax'])
def test_flip_test_sees_an_image_and_its_mirror_image_alike(
  tiny, name, decoder
):
  config = tiny(name)
  config.heatmap.decoder = decoder
  model = stage_lib.build_model(
    config.model, config.stages[0], 0, resolve(config).landmarks
  )
  variables = random_variables(model, 32, seed=0, head=0.3)
  rng = np.random.default_rng(0)
  image = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)

  def apply(image, flip):
    batch = {'image': image, 'example_index': np.arange(2, dtype=np.int32)}
    how = dataclasses.replace(resolve(config).forward, flip=flip)
    stage = forward.apply_stage(model, variables, batch, None, how)
    return np.asarray(stage['estimate'])

  one, other = apply(image, FLIP), apply(image[:, :, ::-1], FLIP)
  back = other[:, FLIP] * np.array([-1, 1])
  np.testing.assert_allclose(back, one, atol=2e-5)
  plain, mirrored = apply(image, None), apply(image[:, :, ::-1], None)
  assert np.abs(one - plain).max() > 1e-3
  if decoder == 'soft_argmax' or name == 'fashionnet':
    # Places are averaged, not maps.
    places = (plain + mirrored[:, FLIP] * np.array([-1, 1])) / 2
    np.testing.assert_allclose(one, places, atol=2e-5)


# A ResNet is compiled four times as long as a VGG: one is enough.
@pytest.mark.parametrize(
  'name',
  [
    'fashionnet',
    'simple_baselines',
    'fpn,backbone=vgg16',
    'integral,backbone=vgg16',
  ],
)
def test_trains_and_evaluates(tiny, tmp_path, name):
  config = tiny(name)
  results = experiment.run(config, tmp_path, mode='train', splits=('test',))
  assert results['test']['num_examples'] == 16
  accuracy = results['test']['stages']['stage1']['visibility_accuracy']
  assert 0 <= accuracy['overall'] <= 1
  # The height of a heatmap, or a visibility: both in [0, 1], and not all alike.
  boxes = json.loads((tmp_path / 'eval/test/predictions.json').read_text())
  scores = {x for box in boxes for x in box['keypoints'][2::3]}
  assert len(scores) > 2 and min(scores) >= 0 and max(scores) <= 1
  page = (tmp_path / 'eval/test/report.html').read_text()
  macro = results['test']['ne']['macro']
  assert f'<dd>{100 * macro:.2f} %</dd>' in page
  if name == 'simple_baselines':
    config.flip_test = True
    flipped = experiment.run(
      config, tmp_path, mode='evaluate', splits=('test',)
    )
    assert flipped['test']['ne'] != results['test']['ne']
    # The same network and weights; only the maps mean something else.
    config.heatmap.alpha = 1.0
    with pytest.raises(InputError, match='drawn to the middle'):
      experiment.run(config, tmp_path, mode='evaluate', splits=('test',))
    config.heatmap.alpha = 30.0
    with pytest.raises(InputError, match='heatmap.alpha'):
      experiment.run(config, tmp_path, mode='evaluate', splits=('test',))


def test_devices_agree(tiny):
  """Batch statistics, PCLoss's count and all, on one device and on four."""
  config = tiny('simple_baselines')
  (stage,) = config.stages
  stage.weights.position_constraint = 1e-3
  model = stage_lib.build_model(
    config.model, stage, 0, resolve(config).landmarks
  )
  variables = random_variables(model, 32, seed=0)
  rng = np.random.default_rng(0)
  batches = [
    {
      'image': rng.integers(0, 255, (8, 32, 32, 3)).astype(np.uint8),
      'landmarks': rng.uniform(-0.4, 0.4, (8, 8, 2)).astype(np.float32),
      # Devices have unlike numbers of images with a pair.
      'visibility': rng.choice([0, 1, 2], (8, 8), p=[0.3, 0.1, 0.6]).astype(
        np.int32
      ),
      'mask': np.array([1, 1, 1, 0, 1, 1, 0, 1], np.float32),
    }
    for _ in range(5)
  ]
  weights, runs = stage.weights.to_dict(), []
  for devices in (1, 4):
    parallel = Parallel('shard_map', jax.devices()[:devices])
    optimizer = optax.sgd(1e-2)
    step = parallel.compile(
      train_step.make_train_step(
        model,
        (),
        resolve(config).forward,
        Objective.of(config, resolve(config), 0),
        lambda _: weights,
        optimizer,
      ),
      sharded_in=(False, False, False, True),
      sharded_out=(False, False),
    )
    state = train_step.TrainState.create(variables, optimizer)
    state, history = parallel.replicate(state), []
    for batch in batches:
      state, metrics = step(
        state,
        parallel.replicate(()),
        parallel.replicate(train_step.Given(np.uint32(0), {})),
        parallel.shard(batch),
      )
      history.append(jax.device_get(parallel.unreplicate(metrics)))
    runs.append(history)
  assert runs[0][0]['position_constraint_ratio'] > 1e-3
  for history in runs[1:]:
    for found, expected in zip(history, runs[0], strict=True):
      for key in expected:
        # The ratio's two norms each carry the rounding of five steps.
        tolerance = 1e-3 if 'ratio' in key else 1e-4
        np.testing.assert_allclose(
          found[key], expected[key], rtol=tolerance, err_msg=key
        )


def test_gradient_ratio(tiny):
  """Of a regression: both gradients by hand, from the formulas."""
  config = tiny('fashionnet', 'whole')
  config.position_constraint.update(space='normalized', k=8)
  towards = Objective.of(config, resolve(config), 0)
  rng = np.random.default_rng(0)
  landmarks, truth = rng.uniform(-0.4, 0.4, (2, 4, 8, 2)).astype(np.float32)
  batch = {
    'landmarks': truth,
    'visibility': np.zeros((4, 8), np.int32),
    'mask': np.array([1, 1, 0, 1], np.float32),
  }
  batch['visibility'][3, 1:] = 2  # no pair: PCLoss is a mean over two images
  weights = {'landmarks': 2.0, 'position_constraint': 0.3, 'visibility': 1.0}
  outputs = {'landmarks': landmarks, 'visibility': np.zeros((4, 8, 3))}
  ratio = jax.vmap(
    lambda batch: train_step._gradient_ratio(
      outputs, batch, None, towards, weights
    ),
    axis_name='batch',
  )(jax.tree.map(lambda x: x[None], batch))[0]
  error = (landmarks - truth).astype(np.float64)
  # mean_i sum_j |e_i - e_j|^2 has the gradient 4 / N sum_j (e_i - e_j).
  whole = error[:2]
  pairs = 4 / 8 * (8 * whole - whole.sum(1, keepdims=True)) / 2
  others = np.concatenate([error[:2].ravel(), error[3, 0]]) / 3
  expected = 0.3 * np.linalg.norm(pairs) / (2.0 * np.linalg.norm(others))
  assert ratio == pytest.approx(expected, rel=1e-4)


# --- ablations ----------------------------------------------------------------


def test_difference():
  old = ConfigDict({'a': 1, 'b': {'c': 2.0}, 's': (ConfigDict({'x': 1}),)})
  new = ConfigDict({'a': 1, 'b': {'c': 3.0}, 's': (ConfigDict({'x': 2}),)})
  assert difference(old, new) == (('b.c', 2.0, 3.0), ('s[0].x', 1, 2))
  assert difference(old, old) == ()
  other = ConfigDict({'a': 1, 'b': {'d': 2.0}, 's': ()})
  assert difference(old, other) == (('b', old.b, other.b), ('s', old.s, ()))


@pytest.mark.parametrize('table', [pcloss_table1, pcloss_table4])
def test_rows_of_a_table_are_the_configs_of_their_models(table, tmp_path):
  arg = 'dataset=deepfashion,size=small'
  config = table.get_config(arg)
  config.stages[0].train_epochs = 7.0  # from the command line: for every row
  rows = ablation.row_configs(config, tmp_path, seed=4)
  assert len(rows) == {pcloss_table1: 8, pcloss_table4: 7}[table]
  for slug, row in rows.items():
    name, pc = next(
      (m, slug.removeprefix(m + '_')) for m in MODELS if slug.startswith(m)
    )
    expected = pcloss.get_config(f'{arg},model={name},pcloss={pc}')
    with expected.unlocked():
      expected.seed, expected.stages[0].train_epochs = 4, 7.0
    assert row.to_dict() == expected.to_dict(), slug
  assert config.stages[0].weights.position_constraint == 1e-4, 'a row did it'


def test_a_weight_given_for_a_table_is_that_of_the_rows_with_pcloss(tmp_path):
  config = pcloss_table4.get_config('size=small,model=fashionnet')
  config.stages[0].weights.position_constraint = 3e-4
  rows = ablation.row_configs(config, tmp_path, seed=0)
  found = {
    slug: row.stages[0].weights.position_constraint
    for slug, row in rows.items()
  }
  assert found == {
    'fashionnet_none': 0,
    'fashionnet_whole': 3e-4,
    'fashionnet_skeleton': 3e-4,
  }


@pytest.mark.parametrize(
  'change, message',
  [
    (('position_constraint', 'partition', 'whole'), "partition is 'whole'"),
    (('position_constraint', 'space', 'normalized'), "space is 'normalized'"),
  ],
)
def test_what_a_row_decides_is_not_for_the_command_line(
  tmp_path, change, message
):
  config = pcloss_table4.get_config('size=small')
  part, field, value = change
  config[part][field] = value
  with pytest.raises(InputError, match=f'{message}, but the rows .* leave it'):
    ablation.row_configs(config, tmp_path, seed=0)


def test_seeds_of_an_ablation(tmp_path):
  config = pcloss_figure8.get_config('size=tiny')
  config.seeds = 0
  with pytest.raises(InputError, match='config.seeds is 0'):
    ablation.run_rows(config, tmp_path, None, 'test')


def test_table_1_is_the_papers():
  """Every printed average is the mean of its row."""
  for rows in papers.PCLOSS_TABLE_1.values():
    for row in filter(None, rows.values()):
      assert np.mean(row[:8]) == pytest.approx(row[8], abs=0.006)


def test_an_ablation_runs(tiny, tmp_path):
  config = pcloss_figure8.get_config('size=tiny,model=fashionnet,seeds=2')
  config.seed = 5
  shrink(config, tiny('fpn').dataset.data_dir)
  with config.unlocked():
    for slug in ('beta1', 'beta2', 'beta4', 'beta5'):
      del config.rows[slug]
  calls = itertools.count()

  def run_row(row, folder):
    next(calls)
    assert row.seed in (5, 6) and 'rows' not in row
    return experiment.run(row, folder, mode='train', splits=('test',))

  experiment.ablation.run_rows(config, tmp_path, run_row, 'test')
  assert next(calls) == 4
  for slug, seed in itertools.product(('beta0', 'beta3'), (5, 6)):
    manifest = tmp_path / slug / f'seed{seed}' / 'manifest.json'
    stage = json.loads(manifest.read_text())['config']['stages'][0]
    beta = 0 if slug == 'beta0' else 1e-4
    assert stage['weights']['position_constraint'] == beta
  table = (tmp_path / 'table.txt').read_text()
  assert 'PCLoss x 0.0001' in table and 'Seeds 5, 6.' in table
  assert (tmp_path / 'sweep.png').stat().st_size > 10_000
