"""Every config trains, as far as shapes tell; and what a start warns of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.setup import resolve
from fld_jax.configs import detector, dfa, pcloss
from fld_jax.runtime.parallel import AXIS
from fld_jax.training import checks, schedules, train_step
from fld_jax.training.objective import Objective

ROWS = 2
# Entries of the vectors that are clustered, for N landmarks.
LENGTHS = {
  'absolute': lambda n: 2 * n,
  'offset': lambda n: 2 * n,
  'context_offset': lambda n: 4 * n * n,
}


def shapes_of_step(config, index: int) -> dict:
  """The metrics' shapes of one update of a stage; nothing is computed."""
  setup = resolve(config)
  n, size = setup.landmarks.num_landmarks, setup.pipeline.size
  build = lambda i: stage_lib.build_model(
    config.model, config.stages[i], i, setup.landmarks
  )
  models = [build(i) for i in range(index + 1)]
  variables = [stage_lib.variable_shapes(model, size) for model in models]
  stage = config.stages[index]
  optimizer = schedules.optimizer(
    stage.optimizer, stage.train_steps or 100, models[-1].backbone
  )
  step = train_step.make_train_step(
    models[-1],
    models[:-1],
    setup.forward,
    Objective.of(config, setup, index),
    schedules.loss_weights(stage, 100),
    optimizer,
    average=stage.average,
  )
  shape = jax.ShapeDtypeStruct
  label = stage.pseudo_label
  clusters = {}
  if label.num_clusters:
    length = LENGTHS[label.space](n)
    clusters['centres'] = shape((label.num_clusters, length), jnp.float32)
  batch = {
    'image': shape((1, ROWS, size, size, 3), jnp.uint8),
    'landmarks': shape((1, ROWS, n, 2), jnp.float32),
    'visibility': shape((1, ROWS, n), jnp.int32),
    'mask': shape((1, ROWS), jnp.float32),
    'example_index': shape((1, ROWS), jnp.int32),
  }

  def update(variables, previous, given, batch):
    state = train_step.TrainState.create(variables, optimizer, stage.average)
    one_device = jax.vmap(
      lambda batch: step(state, previous, given, batch), axis_name=AXIS
    )
    return state, *one_device(batch)

  before, after, metrics = jax.eval_shape(
    update,
    variables[-1],
    variables[:-1],
    train_step.Given(np.uint32(0), clusters),
    batch,
  )
  one = lambda x: (x.shape, x.dtype)
  of_device = lambda x: (x.shape[1:], x.dtype)
  assert jax.tree.map(one, before) == jax.tree.map(of_device, after)
  return metrics


FULL = [
  (dfa, 'size=full', 3),
  (pcloss, 'size=full,model=simple_baselines', 1),
  (pcloss, 'size=full,model=integral', 1),
  (pcloss, 'dataset=fashion_ai,size=full,model=fpn', 1),
  (pcloss, 'size=full,model=fashionnet', 1),
  (pcloss, 'size=full,model=fashionnet,backbone=resnet50', 1),
  (detector, 'size=large', 1),
]


def test_every_model_is_among_them():
  for model in pcloss.MODELS:
    assert any(f'model={model}' in arg.split(',') for _, arg, _ in FULL)


@pytest.mark.parametrize(('file', 'arg', 'num_stages'), FULL)
def test_an_update_of_published_size(file, arg, num_stages):
  config = file.get_config(arg)
  assert len(config.stages) == num_stages
  for index, stage in enumerate(config.stages):
    metrics = shapes_of_step(config, index)
    weighted = {name for name, weight in stage.weights.items() if weight}
    assert weighted | {'loss', 'error'} <= {*metrics}
    assert all(x.shape == (1,) for x in metrics.values())


# --- what a start warns of ----------------------------------------------------


def test_a_long_recipe_from_random_weights_is_told():
  config = dfa.get_config('dataset=deepfashion')
  (line,) = checks.doubts(config, 198_000)
  # 10,000 steps of 40 images.
  assert "stage1 starts from random weights, with 'vgg16'" in line
  assert '198,000 training images 2.0 times' in line and 'pretrained=' in line
  config.pretrained = 'vgg16.pth'
  assert checks.doubts(config, 198_000) == []
  (line,) = checks.doubts(pcloss.get_config('size=full'), 198_000)
  assert "'resnet50'" in line and '15.2 times' in line


@pytest.mark.parametrize(
  'config',
  [
    lambda: dfa.get_config('size=small'),
    lambda: pcloss.get_config('size=medium,model=integral'),
    lambda: pcloss.get_config('size=tiny,model=fashionnet'),
  ],
)
def test_narrow_networks_are_meant_to_start_from_random_weights(config):
  assert checks.doubts(config(), 4750) == []


@pytest.mark.parametrize(
  ('rate', 'is_stable'), [(1e-3, False), (2e-4, False), (5e-5, True)]
)
def test_rates_of_author_issue6(rate, is_stable):
  """SGD on the landmarks' loss of one output and fixed features.

  The square of the features' length is what fc7's is at random weights.
  """
  config = dfa.get_config('size=full,pretrained=x.pth')
  stage = config.stages[0]
  stage.weight_schedule = 'author_issue6'
  stage.optimizer.learning_rate = rate
  for other in config.stages[1:]:
    assert other.weight_schedule != 'author_issue6'
  doubts = checks.doubts(config, 1000)
  assert len(doubts) == (not is_stable)
  assert all('stages[0].optimizer.learning_rate' in x for x in doubts)

  features = np.random.default_rng(0).normal(size=4096)
  features *= np.sqrt(1105 / (features**2).sum())
  weights, velocity, errors = np.zeros(4096), np.zeros(4096), []
  for _ in range(200):
    error = weights @ features - 0.3
    # Twenty times the gradient of half the square; momentum of 0.9.
    velocity = 0.9 * velocity + 20 * error * features
    weights = weights - rate * velocity
    errors.append(abs(error))
  assert (max(errors[-10:]) < 0.01) == is_stable
