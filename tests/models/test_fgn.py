"""FGN: its recurrence against NumPy, and what reaches which landmark."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fld_jax.landmark_sets import FASHION_8, LSP_14
from fld_jax.models.fgn import FGN, CategoryHead, ConvGRU
from fld_jax.models.resnet import ResNet
from fld_jax.models.vgg import VGG

sigmoid = lambda x: 1 / (1 + np.exp(-x))
RNG = np.random.default_rng(0)


def drawn(shapes, scale=0.5, seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda leaf: rng.normal(0, scale, leaf.shape).astype(np.float32)
  return jax.tree.map(draw, shapes)


def gru(x, chains, channels=2):
  """(parameters, states of a ConvGRU) with random parameters."""
  cell = ConvGRU(channels)
  shapes = jax.eval_shape(
    lambda key: cell.init(key, x, chains), jax.random.key(0)
  )
  variables = drawn(shapes)
  return variables['params'], cell.apply(variables, x, chains)


def convolved(x, kernel):
  """(H, W, F) maps and a (3, 3, F, C) kernel, cell by cell."""
  height, width, _ = x.shape
  result = np.zeros((height, width, kernel.shape[-1]))
  for i, j, di, dj in itertools.product(
    range(height), range(width), range(3), range(3)
  ):
    y, z = i + di - 1, j + dj - 1
    if 0 <= y < height and 0 <= z < width:
      result[i, j] += x[y, z] @ kernel[di, dj]
  return result


def loop(params, maps):
  """The states along one chain of (H, W, F) maps."""
  count = len(params['inner_bias'])
  state, states = np.zeros((*maps[0].shape[:2], count)), []
  gates = lambda of: np.split(of, 3, axis=-1)
  for x in maps:
    inputs = convolved(x, params['input']['kernel']) + params['input']['bias']
    r, z, new = gates(inputs)
    of_r, of_z, of_new = gates(convolved(state, params['hidden']['kernel']))
    r, z = sigmoid(r + of_r), sigmoid(z + of_z)
    new = np.tanh(new + r * (of_new + params['inner_bias']))
    state = (1 - z) * new + z * state
    states.append(state)
  return states


def test_recurrence_against_a_loop():
  """Chains of several lengths, in any order, that share landmarks."""
  x = RNG.normal(size=(4, 2, 3, 5, 3)).astype(np.float32)
  chains = ((1, 0), (3, 2, 0), (2,))
  params, found = gru(x, chains)
  for b in range(2):
    expected = {
      chain: loop(params, [x[slot, b] for slot in chain]) for chain in chains
    }
    # Chains are told apart by their slots in the order of their places.
    left = [
      (slot, state)
      for chain in chains
      for slot, state in zip(chain, expected[chain], strict=True)
    ]
    for slot, state in found:
      errors = [
        np.abs(state[b] - other).max() if slot == at else np.inf
        for at, other in left
      ]
      assert min(errors) < 1e-5
      left.pop(int(np.argmin(errors)))
    assert not left, 'each place of each chain has a state of its own'


def test_one_cell_is_the_gru_of_pytorch():
  """Of one cell, a 3x3 kernel with a middle alone is a matrix.

  torch.nn.GRUCell: r, z and n from W_i x + b_i and W_h h + b_h, whose b_hn is
  within the brackets that r multiplies.
  """
  channels, inputs, chain = 4, 3, (2, 0, 1)
  x = RNG.normal(size=(3, 1, 1, 1, inputs)).astype(np.float32)
  weight = lambda *shape: RNG.normal(size=shape).astype(np.float32)
  w_i, w_h = weight(3 * channels, inputs), weight(3 * channels, channels)
  b_i, b_h = weight(3 * channels), weight(3 * channels)
  middle = lambda matrix: np.pad(
    matrix.T[None, None], ((1, 1), (1, 1), (0, 0), (0, 0))
  )
  sums = b_i + np.concatenate([b_h[: 2 * channels], np.zeros(channels)])
  params = {
    'input': {'kernel': middle(w_i), 'bias': sums.astype(np.float32)},
    'hidden': {'kernel': middle(w_h)},
    'inner_bias': b_h[2 * channels :],
  }
  found = ConvGRU(channels).apply({'params': params}, x, (chain,))
  h = np.zeros(channels)
  for slot, (at, state) in zip(chain, found, strict=True):
    gi, gh = w_i @ x[slot, 0, 0, 0] + b_i, w_h @ h + b_h
    (ir, iz, i_n), (hr, hz, hn) = np.split(gi, 3), np.split(gh, 3)
    r, z = sigmoid(ir + hr), sigmoid(iz + hz)
    h = (1 - z) * np.tanh(i_n + r * hn) + z * h
    assert at == slot
    np.testing.assert_allclose(state[0, 0, 0], h, rtol=1e-5, atol=1e-6)


# Whole networks.


def shapes(model, size):
  inputs = {'image': jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)}
  return jax.eval_shape(
    lambda key, x: model.init_with_output(key, x, train=False),
    jax.random.key(0),
    inputs,
  )


def test_sizes_of_the_paper():
  model = FGN(grammars=FASHION_8.grammars, num_categories=3, visibility=True)
  outputs, variables = shapes(model, 224)
  assert {name: value.shape for name, value in outputs.items()} == {
    'heatmaps': (2, 28, 28, 8),
    'heatmap_logits': (2, 28, 28, 8),
    'visibility': (2, 8, 3),
    'category': (2, 3),
  }
  params = variables['params']
  count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  # Two grammars in two directions.
  cells = {f'{a}{n}' for a in ('forward', 'backward') for n in (1, 2)}
  for name in cells:
    # 3 gates of x with a bias, of h without, and the bias within.
    assert count(params[name]) == 3 * 64 * (9 * 64 + 1) + 3 * 64 * 9 * 64 + 64
  assert count(params['own']) == (512 + 1) * 8 * 64
  assert count([params['heatmaps_kernel'], params['heatmaps_bias']]) == 8 * 129
  attention = 9 * 512 * 64 + 9 * 64 * 64 + 4 * 64 + (64 + 1) * 512
  convs = 9 * 512 * 64 + 9 * 64 * 64 + 4 * 64
  assert count(params['category']) == attention + convs + 65 * 3
  assert count(params['vgg']) == 14_714_688
  assert params.keys() == {
    *cells,
    *('vgg', 'own', 'category', 'visibility'),
    *('heatmaps_kernel', 'heatmaps_bias'),
  }


def narrow(**fields):
  return FGN(
    backbone=VGG(blocks=((1, 4),) * 4),
    state=3,
    **{'grammars': FASHION_8.grammars, **fields},
  )


@functools.cache
def parameters():
  params = drawn(shapes(narrow(), 16)[1]['params'], 0.3)
  return {**params, 'heatmaps_kernel': 3 * params['heatmaps_kernel']}


def logits(params, model=None):
  image = np.random.default_rng(1).normal(size=(2, 16, 16, 3))
  run = (model or narrow()).apply
  return run({'params': params}, {'image': image}, False)['heatmap_logits']


@pytest.mark.parametrize(
  ('name', 'told'),
  [
    # Along its chain, and from left to right.
    ('sleeve_left', {'collar_left', 'sleeve_right'}),
    ('waist_right', {'collar_right', 'hem_right', 'waist_left'}),
    (
      'collar_left',
      {'waist_left', 'hem_left', 'sleeve_left', 'collar_right'},
    ),
  ],
)
def test_who_hears_of_whom(name, told):
  """A change of one landmark's features reaches its chains and no others."""
  names, params = FASHION_8.names, parameters()
  slot = names.index(name)
  kernel = params['own']['kernel'].copy()
  kernel[..., 3 * slot : 3 * slot + 3] *= -1.5
  own = {**params['own'], 'kernel': kernel}
  before, after = logits(params), logits({**params, 'own': own})
  changed = np.any(np.asarray(before) != np.asarray(after), axis=(0, 1, 2))
  assert {n for n, c in zip(names, changed, strict=True) if c} == {name, *told}


def test_reversed_chains_exchange_the_directions():
  """And the order of a chain matters, as long as the cells stay."""
  params = parameters()
  turned = tuple(
    tuple(chain[::-1] for chain in chains) for chains in FASHION_8.grammars
  )
  other = narrow(grammars=turned)
  exchanged = {
    **params,
    'forward1': params['backward1'],
    'backward1': params['forward1'],
    'forward2': params['backward2'],
    'backward2': params['forward2'],
    'heatmaps_kernel': np.roll(params['heatmaps_kernel'], 3, axis=1),
  }
  before = logits(params)
  np.testing.assert_allclose(logits(exchanged, other), before, atol=1e-5)
  assert np.abs(logits(params, other) - before).max() > 1e-2
  # Four landmarks and their partners change places: so do their heatmaps.
  flip = FASHION_8.flip
  mirrored = tuple(
    tuple(tuple(int(flip[slot]) for slot in chain) for chain in chains)
    for chains in FASHION_8.grammars
  )
  blocks = lambda x: x.reshape(*x.shape[:-1], 8, 3)[..., flip, :].reshape(
    x.shape
  )
  moved = {
    **params,
    'own': jax.tree.map(blocks, params['own']),
    'heatmaps_kernel': params['heatmaps_kernel'][flip],
    'heatmaps_bias': params['heatmaps_bias'][flip],
  }
  np.testing.assert_allclose(
    logits(moved, narrow(grammars=mirrored))[..., flip], before, atol=1e-5
  )


def test_without_grammars_landmarks_are_alone():
  """Both ways are the first step of a recurrence."""
  model = narrow(grammars=())
  params = drawn(shapes(model, 16)[1]['params'], 0.3)
  assert 'hidden' not in params['forward1']
  for slot in range(8):
    kernel = params['own']['kernel'].copy()
    kernel[..., 3 * slot : 3 * slot + 3] *= -1.5
    own = {**params['own'], 'kernel': kernel}
    change = logits({**params, 'own': own}, model) - logits(params, model)
    changed = np.flatnonzero(np.any(np.asarray(change) != 0, axis=(0, 1, 2)))
    assert changed.tolist() == [slot]


def test_visibility_is_told_by_the_landmarks_own_peak():
  """Its head sees a state at the peak; so the height of it, too."""
  model = narrow(visibility=True)
  params = drawn(shapes(model, 16)[1]['params'], 0.3)
  head = jax.tree.map(np.zeros_like, params['visibility'])
  # The logit of a peak, by the weights of the heatmaps.
  head['own_kernel'] = np.repeat(params['heatmaps_kernel'][..., None], 3, -1)
  image = np.random.default_rng(1).normal(size=(2, 16, 16, 3))
  found = model.apply(
    {'params': {**params, 'visibility': head}}, {'image': image}, False
  )
  peaks = found['heatmap_logits'].max(axis=(1, 2)) - params['heatmaps_bias']
  for state in range(3):
    np.testing.assert_allclose(
      found['visibility'][..., state], peaks, rtol=1e-4, atol=1e-5
    )


def test_merged_features_on_a_light_trunk():
  model = FGN(
    num_landmarks=14,
    grammars=LSP_14.grammars,
    backbone=ResNet(18, width=4),
    merge=True,
    channels=8,
    state=4,
  )
  outputs, variables = shapes(model, 64)
  assert outputs['heatmaps'].shape == (2, 8, 8, 14)
  assert variables['params']['own']['kernel'].shape == (1, 1, 8, 14 * 4)


def test_both_attentions_raise_the_features():
  """Without a gate's kernel, its attention is the same everywhere."""
  head = CategoryHead(num_categories=3, channels=2)
  features = RNG.normal(size=(2, 8, 8, 4)).astype(np.float32)
  maps = RNG.uniform(size=(2, 8, 8, 5)).astype(np.float32)
  init = lambda key: head.init(key, features, maps, False)
  tree = jax.eval_shape(init, jax.random.key(0))
  params, bias = drawn(tree['params']), np.array([0.0, 1.0, -1.0, 2.0])
  params['attention3'] = {
    'kernel': 0 * params['attention3']['kernel'],
    'bias': bias.astype(np.float32),
  }
  stats = jax.tree.map(
    lambda leaf: np.ones(leaf.shape, np.float32), tree['batch_stats']
  )
  run = lambda x, h: head.apply(
    {'params': params, 'batch_stats': stats}, x, h, False
  )
  found = run(features, maps)
  gate = 1 + sigmoid(bias)
  raised = features * (gate + maps.max(axis=-1, keepdims=True)) / gate
  expected = run(raised.astype(np.float32), np.zeros_like(maps))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  assert np.abs(found - run(features, 0 * maps)).max() > 1e-3
  gradient = jax.grad(lambda h: run(features, h).sum())(maps)
  assert not np.any(gradient), 'the landmarks alone teach their heatmaps'
