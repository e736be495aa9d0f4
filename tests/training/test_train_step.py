"""The train step: devices, padding, gradients, offsets."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_networks import random_variables

from fld_jax import schema
from fld_jax.cascade import forward
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.setup import resolve
from fld_jax.errors import InputError
from fld_jax.models.dfa import DFA
from fld_jax.models.resnet import ResNet
from fld_jax.models.simcc import SimCC
from fld_jax.models.simple_baselines import SimpleBaselines
from fld_jax.models.vgg import VGG
from fld_jax.runtime.parallel import AXIS, Parallel
from fld_jax.training import objective, schedules, train_step
from fld_jax.training.objective import Objective

SIZE, ROWS, STEPS, CLUSTERS = 16, 16, 20, 5
N = 8


def make_model(*, use_estimate, noisy=True):
  """A small network; `noisy`: with dropout and batch normalisation."""
  return DFA(
    num_landmarks=N,
    num_clusters=CLUSTERS,
    use_estimate=use_estimate,
    hidden=16,
    backbone=VGG(blocks=((1, 8), (1, 8)), batch_norm=noisy),
    dropout=0.5 if noisy else 0.0,
  )


def make_batch(seed, rows=ROWS, masked=(3, 10, 15)):
  """Random images, landmarks, all visibility codes; some rows masked."""
  rng = np.random.default_rng(seed)
  batch = {
    'image': rng.integers(0, 256, (rows, SIZE, SIZE, 3), dtype=np.uint8),
    'landmarks': rng.uniform(-0.5, 0.5, (rows, N, 2)).astype(np.float32),
    'visibility': rng.integers(-1, 3, (rows, N)).astype(np.int32),
    'mask': np.ones(rows, np.float32),
    'example_index': np.arange(rows, dtype=np.int32),
  }
  batch['mask'][list(masked)] = 0
  return batch


@pytest.fixture(scope='module')
def config(tiny_config):
  config = tiny_config()
  config.input.size = SIZE
  config.input.mean = (120.0, 115.0, 100.0)
  config.input.std = (60.0, 60.0, 60.0)
  for index, stage in enumerate(config.stages):
    stage.pseudo_label.num_clusters = CLUSTERS
    stage.pseudo_label.space = ('absolute', 'offset', 'offset')[index]
    stage.estimate_noise = 0.0
    stage.weights.visibility = 0.3
    stage.weights.pseudo_label = 0.7
    stage.optimizer.name = 'sgd'
    stage.optimizer.learning_rate = 0.02
    stage.optimizer.weight_decay = 1e-3
  return config


@pytest.fixture(scope='module')
def clusters():
  rng = np.random.default_rng(5)
  return {'centres': rng.normal(0, 60, (CLUSTERS, 2 * N)).astype(np.float32)}


class Setup:
  """A network with its train step, on some devices."""

  def __init__(
    self,
    config,
    index,
    parallel,
    model=None,
    optimizer=None,
    weights=None,
    membership=None,
  ):
    stage = config.stages[index]
    self.parallel = parallel
    self.model = model or make_model(use_estimate=index > 0)
    self.before = (make_model(use_estimate=False),) if index else ()
    self.previous = tuple(
      random_variables(model, SIZE, 7) for model in self.before
    )
    optimizer = optimizer or schedules.optimizer(stage.optimizer, STEPS, VGG())
    variables = random_variables(self.model, SIZE, 1)
    self.state = train_step.TrainState.create(variables, optimizer)
    self.of_share = train_step.make_train_step(
      self.model,
      self.before,
      resolve(config).forward,
      Objective.of(config, resolve(config), index),
      weights or schedules.loss_weights(stage, STEPS),
      optimizer,
    )
    self.membership = membership
    self.step = parallel.compile(
      self.of_share,
      sharded_in=(False, False, False, True),
      sharded_out=(False, False),
    )

  def run(self, batches, clusters):
    """(last state, list of metrics), both as NumPy."""
    place = self.parallel.replicate
    state, history = place(self.state), []
    given = train_step.Given(np.uint32(3), clusters, self.membership)
    previous, given = place(self.previous), place(given)
    for batch in batches:
      state, metrics = self.step(
        state, previous, given, self.parallel.shard(batch)
      )
      history.append(jax.device_get(self.parallel.unreplicate(metrics)))
    state, after = jax.device_get(self.parallel.unreplicate((state, previous)))
    jax.tree.map(np.testing.assert_array_equal, after, self.previous)
    return state, history


def constant_weights(step):
  del step
  return {
    'landmarks': 1.0,
    'position_constraint': 0.0,
    'visibility': 0.3,
    'pseudo_label': 0.7,
  }


@pytest.mark.parametrize('index', [0, 1])
def test_devices_and_modes_agree(config, clusters, index):
  batches = [make_batch(10 + i % 2) for i in range(STEPS)]
  config = copy.deepcopy(config)
  config.stages[1].estimate_noise = 0.2
  for stage in config.stages:
    stage.weights.position_constraint = 1e-4
  setups = [
    Setup(config, index, Parallel(mode, jax.devices()[:devices]))
    for mode, devices in (('shard_map', 1), ('shard_map', 4), ('pmap', 4))
  ]
  runs = [setup.run(batches, clusters) for setup in setups]
  last, one = runs[0]
  weights = config.stages[index].weights
  used = {name for name, weight in weights.items() if weight}
  ratio = 'position_constraint_ratio'
  assert set(one[0]) == {'loss', 'error', ratio, *used}
  first = setups[0].state.variables
  moved = jax.tree.map(
    lambda new, old: np.abs(new - old).max(), last.variables, first
  )
  assert min(jax.tree.leaves(moved)) > 1e-4, 'a part of the state stands still'
  for state, history in runs[1:]:
    assert int(state.step) == STEPS
    for name in one[0]:
      # Relative: each loss is of a size of its own. The usual gap is 4e-7; in
      # about one run of 24 with twice the learning rate a ReLU's input rounds
      # to the other side of 0, and the gap is 2e-5 from there on.
      np.testing.assert_allclose(
        [metrics[name] for metrics in history],
        [metrics[name] for metrics in one],
        rtol=1e-5,
        err_msg=name,
      )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5),
      state.variables,
      last.variables,
    )


@pytest.fixture(scope='module')
def regular(config):
  """A second stage without dropout and batch normalisation, on one device."""
  parallel = Parallel('shard_map', jax.devices()[:1])
  model = make_model(use_estimate=True, noisy=False)
  return Setup(config, 1, parallel, model)


def test_padding_weighs_nothing(regular, clusters):
  """Three rows, padded by rubbish, count as the same three rows twice."""
  rows = make_batch(20, rows=3, masked=())
  rubbish = make_batch(21, rows=3, masked=(0, 1, 2))
  join = lambda *parts: {
    key: np.concatenate([part[key] for part in parts]) for key in rows
  }
  (state, (metrics,)), (padded_state, (padded_metrics,)) = (
    regular.run([batch], clusters)
    for batch in (join(rows, rows), join(rows, rubbish))
  )
  for name, value in metrics.items():
    np.testing.assert_allclose(padded_metrics[name], value, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    padded_state.variables,
    state.variables,
  )


def test_previous_stage_gets_no_gradient(regular, clusters):
  batch = make_batch(40, rows=6, masked=(5,))
  share = jax.tree.map(lambda x: x[None], batch)  # of the only device

  @jax.jit
  def loss(previous):
    step = lambda share: regular.of_share(
      regular.state,
      previous,
      train_step.Given(np.uint32(3), clusters),
      share,
    )
    return jax.vmap(step, axis_name=AXIS)(share)[1]['loss'][0]

  grads = jax.grad(loss)(regular.previous)
  assert all(not np.any(g) for g in jax.tree.leaves(grads))
  moved = jax.tree.map(lambda x: x * 1.1, regular.previous)
  change = abs(loss(moved) - loss(regular.previous))
  assert change > 1e-4, 'the loss does not see the estimate'


def normalise(image):
  return (image - np.float32([120.0, 115.0, 100.0])) / np.float32(60.0)


def whole_batch(model, variables, batch, estimate, train):
  """Runs a network on a whole batch; its device axis has one entry."""
  rows = len(batch['mask'])
  inputs = {
    'image': normalise(batch['image']),
    'example_index': np.arange(rows),
  }
  if estimate is not None:
    inputs['estimate'] = estimate
  apply = lambda _: model.apply(
    variables, inputs, train=train, mutable=['batch_stats']
  )
  outputs = jax.vmap(apply, axis_name=AXIS)(np.zeros(1))
  return jax.tree.map(lambda x: x[0], outputs)


def written_out_loss(outputs, batch, estimate, centres):
  """Liu et al.'s three losses, summed example by example."""
  total = 0.0
  for i in np.flatnonzero(batch['mask']):
    offset = estimate[i] - batch['landmarks'][i]
    codes = batch['visibility'][i]
    has = np.isin(codes, (0, 1))
    gaps = outputs['landmarks'][i, has] - 5.0 * offset[has]
    total += 0.5 * jnp.vdot(gaps, gaps)
    logits = outputs['visibility'][i, codes >= 0]
    right = np.eye(3)[codes[codes >= 0]]
    normaliser = jnp.log(jnp.exp(logits).sum(axis=1))
    total += 0.3 * (normaliser.sum() - (logits * right).sum())
    vector = 224 * np.where(has[:, None], offset, 0).ravel()
    distances = np.sqrt(((vector - centres) ** 2).sum(axis=1))
    label = np.exp(-distances / 20.0)
    gaps = outputs['pseudo_label'][i] - label / label.sum()
    total += 0.7 * 0.5 * jnp.vdot(gaps, gaps)
  return total / batch['mask'].sum()


def test_one_sgd_step_is_the_full_batch_gradient(config, clusters):
  """With batch normalisation across the devices, which a bug would show in."""
  rate = 0.1
  model = make_model(use_estimate=True).clone(dropout=0.0)
  setup = Setup(
    config,
    1,
    Parallel('shard_map', jax.devices()[:4]),
    model,
    optax.sgd(rate),
    constant_weights,
  )
  batch = make_batch(30, rows=8, masked=(2, 7))
  state, (metrics,) = setup.run([batch], clusters)

  first, _ = jax.jit(
    lambda variables: whole_batch(
      setup.before[0], variables, batch, None, train=False
    )
  )(setup.previous[0])
  estimate = np.asarray(first['landmarks'])
  variables = setup.state.variables

  def loss_fn(params):
    outputs, mutated = whole_batch(
      model, {**variables, 'params': params}, batch, estimate, train=True
    )
    loss = written_out_loss(outputs, batch, estimate, clusters['centres'])
    return loss, mutated

  (loss, mutated), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(
    variables['params']
  )
  np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-5)
  # Comparing the parameters would hide small gradients behind large weights.
  step = jax.tree.map(
    lambda new, old: (old - new) / rate,
    state.variables['params'],
    variables['params'],
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    step,
    grads,
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    state.variables['batch_stats'],
    mutated['batch_stats'],
  )


class Fixed:
  """A network that answers a constant and keeps what it was shown."""

  def __init__(self, answer):
    self.answer, self.shown = answer, None

  def apply(self, variables, batch, train):
    assert not train
    self.shown = batch['estimate']
    return {'landmarks': np.full((2, N, 2), self.answer), 'extra': variables}


def test_offsets_are_subtracted(config):
  assert config.offset_scale == 5
  first, second, third = Fixed(0.2), Fixed(0.5), Fixed(-1.0)
  outputs = forward.apply_stages(
    [first, second, third],
    ['a', 'b', 'c'],
    {'image': None},
    resolve(config).forward,
  )
  assert first.shown is None
  np.testing.assert_allclose(second.shown, 0.2)
  # 0.2 - 0.5 / 5 = 0.1, and 0.1 - (-1) / 5 = 0.3
  np.testing.assert_allclose(third.shown, 0.1)
  np.testing.assert_allclose(
    [out['estimate'][0, 0, 0] for out in outputs], [0.2, 0.1, 0.3]
  )
  assert [out['extra'] for out in outputs] == ['a', 'b', 'c']


@pytest.mark.parametrize('missing', ['landmarks', 'visibility', 'pseudo_label'])
def test_weight_without_output(config, clusters, missing):
  stage = config.stages[0]
  batch = make_batch(50, rows=2, masked=())
  outputs = {
    'landmarks': np.zeros((2, N, 2)),
    'visibility': np.zeros((2, N, 3)),
    'pseudo_label': np.zeros((2, CLUSTERS)),
  }
  towards = Objective.of(config, resolve(config), 0)
  arguments = (batch, None, clusters, towards)
  assert set(objective.stage_losses(outputs, *arguments)) == set(outputs)
  del outputs[missing]
  with pytest.raises(InputError) as raised:
    objective.stage_losses(outputs, *arguments)
  message = str(raised.value)
  assert f"loss '{missing}' of stage '{stage.name}'" in message
  assert f"no output '{missing}'" in message
  assert ', '.join(outputs) in message


@pytest.mark.parametrize(
  ('network', 'loss'), [(SimpleBaselines, 'heatmaps'), (SimCC, 'bins')]
)
def test_visibility_leaves_landmarks_as_they_are(tiny_config, network, loss):
  """The same updates to the bit, though the gradients are clipped."""
  config = tiny_config()
  config.input.size = 32
  config.heatmap.decoder = 'soft_argmax'
  fields = config.stages[0]
  fields.weights.update({loss: 10.0, 'pseudo_label': 0.0})
  fields.optimizer.update(name='adamw', clip_norm=1e-3)
  trained = {}
  for weight in (0.0, 50.0):
    fields.weights.visibility = weight
    model = network(
      num_landmarks=N,
      backbone=ResNet(18, width=4),
      channels=4,
      visibility=weight > 0,
    )
    variables = stage_lib.init_variables(model, 32, 0)
    optimizer = schedules.optimizer(fields.optimizer, STEPS, model.backbone)
    step = train_step.on_devices(
      train_step.make_train_step(
        model,
        (),
        resolve(config).forward,
        Objective.of(config, resolve(config), 0),
        schedules.loss_weights(fields, STEPS),
        optimizer,
      ),
      parallel := Parallel('shard_map', jax.devices()[:1]),
    )
    state = parallel.replicate(
      train_step.TrainState.create(variables, optimizer)
    )
    batch = make_batch(5)
    batch['image'] = batch['image'].repeat(2, axis=1).repeat(2, axis=2)
    losses = []
    for _ in range(3):
      state, metrics = step(
        state,
        parallel.replicate(()),
        parallel.replicate(train_step.Given(np.uint32(3), {})),
        parallel.shard(batch),
      )
      losses.append(jax.device_get(metrics))
    trained[weight] = jax.device_get(state.variables)
  for name in (loss, 'visibility'):
    assert losses[2][name] < losses[0][name]
  head = trained[50.0]['params'].pop('visibility')
  assert np.abs(head['mean']['bias']).max() > 0
  jax.tree.map(np.testing.assert_array_equal, trained[0.0], trained[50.0])


def test_losses_without_weight_are_left_out(config):
  stage = config.stages[0].copy_and_resolve_references()
  outputs = {'landmarks': np.zeros((2, N, 2))}
  batch = make_batch(60, rows=2, masked=())
  stage.weights.visibility = stage.weights.pseudo_label = 0.0
  towards = dataclasses.replace(
    Objective.of(config, resolve(config), 0), stage=stage
  )
  values = objective.stage_losses(outputs, batch, None, {}, towards)
  assert list(values) == ['landmarks']


@pytest.mark.parametrize(
  'space, scale', [('input_px', SIZE), ('normalized', 1)]
)
def test_position_constraint_of_a_stage(config, space, scale):
  """On the new estimates, not on offsets; in the config's space."""
  config = copy.deepcopy(config)
  config.position_constraint.update(space=space, partition='whole', k=N)
  stage = config.stages[1]
  stage.weights.visibility = stage.weights.pseudo_label = 0.0
  stage.weights.position_constraint = 1e-5
  batch = make_batch(70, rows=3, masked=())
  rng = np.random.default_rng(0)
  estimate, offset = rng.normal(size=(2, 3, N, 2))
  values = objective.stage_losses(
    {'landmarks': offset},
    batch,
    estimate,
    {},
    Objective.of(config, resolve(config), 1),
  )
  assert list(values) == ['landmarks', 'position_constraint']
  new = estimate - offset / config.offset_scale
  losses, counts = values['position_constraint']
  known = schema.has_position(batch['visibility']).sum(axis=1)
  np.testing.assert_array_equal(counts, known >= 2)
  for row, loss in enumerate(losses):
    known = schema.has_position(batch['visibility'][row])
    error = scale * (new - batch['landmarks'])[row, known]
    pairs = ((error[:, None] - error[None]) ** 2).sum((1, 2))
    np.testing.assert_allclose(loss, pairs.mean(), rtol=1e-4)


def test_batches_that_devices_cannot_share():
  parallel = Parallel('pmap', jax.devices()[:4])
  parallel.check_batch_size(8)
  with pytest.raises(InputError, match='batch_size is 10, which 4 devices'):
    parallel.check_batch_size(10)


def test_estimate_noise(config, clusters):
  """The variance of the noise, from the squared offsets that it adds."""
  batch = make_batch(0, rows=64, masked=())

  def squared_offsets(noise):
    """The landmark loss of a network that says 0."""
    changed = copy.deepcopy(config)
    changed.stages[1].estimate_noise = noise
    model = make_model(use_estimate=True)
    one = Parallel('shard_map', jax.devices()[:1])
    setup = Setup(changed, 1, one, model, optax.set_to_zero())
    params = setup.state.variables['params']
    params['fc8_landmarks'] = jax.tree.map(
      np.zeros_like, params['fc8_landmarks']
    )
    _, history = setup.run([batch] * 8, clusters)
    return np.array([metrics['landmarks'] for metrics in history])

  added = squared_offsets(0.3) - squared_offsets(0.0)
  coordinates = 2 * np.mean(
    np.sum(schema.has_position(batch['visibility']), axis=1)
  )
  variance = added / (0.5 * config.offset_scale**2 * coordinates)
  # Each from about 64 x 8 coordinates.
  np.testing.assert_allclose(variance, 0.09, atol=0.03)
  assert len(set(variance)) == 8, 'the same noise at each step'


def test_labels_are_of_the_clean_estimate(config, clusters):
  """As the clusters are: noise changes landmark targets, and no label's."""
  batch = make_batch(0, rows=16, masked=())

  def losses(noise):
    """Those of a network whose heads say the same to everything."""
    changed = copy.deepcopy(config)
    changed.stages[1].estimate_noise = noise
    one = Parallel('shard_map', jax.devices()[:1])
    model = make_model(use_estimate=True)
    setup = Setup(changed, 1, one, model, optax.set_to_zero())
    params = setup.state.variables['params']
    for head in ('fc8_landmarks', 'fc8_pseudo_label'):
      params[head] = jax.tree.map(np.zeros_like, params[head])
    _, (metrics,) = setup.run([batch], clusters)
    return setup, metrics

  (setup, clean), (_, noisy) = losses(0.0), losses(0.3)
  assert noisy['landmarks'] > 2 * clean['landmarks']
  np.testing.assert_allclose(
    noisy['pseudo_label'], clean['pseudo_label'], rtol=1e-6
  )
  # And they are those of the estimate, written out.
  first = jax.jit(
    lambda variables: whole_batch(
      setup.before[0], variables, batch, None, train=False
    )
  )(setup.previous[0])[0]
  offset = np.asarray(first['landmarks']) - batch['landmarks']
  offset = 224 * np.where(
    schema.has_position(batch['visibility'])[..., None], offset, 0
  )
  gaps = offset.reshape(16, 1, -1) - clusters['centres']
  label = np.exp(-np.linalg.norm(gaps, axis=-1) / 20)
  label /= label.sum(axis=1, keepdims=True)
  expected = 0.5 * ((1 / CLUSTERS - label) ** 2).sum(axis=1).mean()
  np.testing.assert_allclose(clean['pseudo_label'], expected, rtol=1e-4)


@pytest.mark.parametrize(('is_easy', 'devices'), [(True, 1), (False, 4)])
def test_a_branch_weighs_images_by_their_score(
  config, clusters, is_easy, devices
):
  """The loss is the weighted mean of the examples' own, one by one."""
  rng = np.random.default_rng(2)
  errors = rng.uniform(0.1, 0.9, CLUSTERS).astype(np.float32)
  batch = make_batch(33, rows=8, masked=(2, 7))
  model = make_model(use_estimate=True, noisy=False)
  membership = train_step.Membership.of(
    is_easy=is_easy, errors=errors, epsilon=0.5, temperature=0.02
  )
  setup = Setup(
    config,
    1,
    Parallel('shard_map', jax.devices()[:devices]),
    model,
    optax.sgd(0.1),
    constant_weights,
    membership,
  )
  # Labels that differ from one example to the next.
  head = setup.previous[0]['params']['fc8_pseudo_label']
  head['kernel'] = np.asarray(100 * head['kernel'])
  _, (metrics,) = setup.run([batch], clusters)
  first, _ = jax.jit(
    lambda variables: whole_batch(
      setup.before[0], variables, batch, None, train=False
    )
  )(setup.previous[0])
  estimate = np.asarray(first['landmarks'])
  outputs, _ = jax.jit(
    lambda variables: whole_batch(model, variables, batch, estimate, train=True)
  )(setup.state.variables)
  total, shares = 0.0, []
  for i in np.flatnonzero(batch['mask']):
    score = float(np.asarray(first['pseudo_label'])[i] @ errors)
    sign = 1 if is_easy else -1
    share = 1 / (1 + np.exp(-sign * (0.5 - score) / 0.02))
    alone = {**batch, 'mask': np.float32(np.arange(8) == i)}
    total += share * written_out_loss(
      outputs, alone, estimate, clusters['centres']
    )
    shares.append(share)
  assert np.ptp(shares) > 0.3, 'all weigh the same'
  np.testing.assert_allclose(metrics['loss'], total / sum(shares), rtol=1e-4)


def test_seeds_and_branches_share_a_program(config, clusters):
  """What tells them from each other is an argument, and has its effect."""
  config = copy.deepcopy(config)
  config.stages[1].estimate_noise = 0.2
  setup = Setup(config, 1, Parallel('shard_map', jax.devices()[:1]))
  place = setup.parallel.replicate
  batch = setup.parallel.shard(make_batch(34, rows=8, masked=(2,)))
  state, previous = place(setup.state), place(setup.previous)
  rng = np.random.default_rng(3)
  errors = rng.uniform(0.1, 0.9, CLUSTERS).astype(np.float32)
  lowered, losses = set(), []
  for seed, is_easy, epsilon in (
    (0, True, 0.5),
    (1, True, 0.4),
    (1, False, 0.4),
  ):
    membership = train_step.Membership.of(
      is_easy=is_easy, errors=errors, epsilon=epsilon, temperature=0.02
    )
    given = place(train_step.Given(np.uint32(seed), clusters, membership))
    arguments = (state, previous, given, batch)
    lowered.add(setup.step.lower(*arguments).as_text())
    losses.append(float(setup.step(*arguments)[1]['loss']))
  assert len(lowered) == 1 and len(set(losses)) == 3


def test_average_of_weights(config, clusters):
  """Against a loop over the steps without averaging."""
  decay, count = 0.6, 4
  batches = [make_batch(seed) for seed in range(count)]
  model = make_model(use_estimate=False)
  first = random_variables(model, SIZE, 0)
  optimizer = optax.sgd(0.1)
  towards = Objective.of(config, resolve(config), 0)
  parallel = Parallel('shard_map')

  def run(average):
    step = train_step.on_devices(
      train_step.make_train_step(
        model,
        (),
        resolve(config).forward,
        towards,
        constant_weights,
        optimizer,
        average=average,
      ),
      parallel,
    )
    state = parallel.replicate(
      train_step.TrainState.create(first, optimizer, average)
    )
    states = []
    for batch in batches:
      state, _ = step(
        state,
        parallel.replicate(()),
        parallel.replicate(train_step.Given(np.uint32(0), clusters)),
        parallel.shard(batch),
      )
      states.append(jax.device_get(parallel.unreplicate(state)))
    return states

  plain, averaged = run(0.0), run(decay)
  expected = first
  for number, (one, other) in enumerate(zip(plain, averaged, strict=True)):
    kept = min(decay, (1 + number) / (10 + number))
    expected = jax.tree.map(
      lambda a, b, kept=kept: kept * np.asarray(a) + (1 - kept) * np.asarray(b),
      expected,
      one.variables,
    )
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    jax.tree.map(same, other.variables, expected)
    jax.tree.map(same, other.opt_state['training'], one.variables)
