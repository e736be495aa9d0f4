"""FGN through the whole program: its losses, a broken run, real images."""

import math

import jax
import numpy as np
import pytest
import trainings
from places import SHARED

from fld_jax.cascade import store
from fld_jax.cascade.setup import resolve
from fld_jax.cascade.stage import build_model
from fld_jax.configs import fgn
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import InputError, Preempted
from fld_jax.evaluation import evaluate
from fld_jax.landmark_sets import FASHION_8
from fld_jax.runtime import processes
from fld_jax.schema import ABSENT, OCCLUDED, TRUNCATED, VISIBLE
from fld_jax.training import checks, losses
from fld_jax.training.objective import Objective, stage_losses

RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def tiny(tiny_config):
  """make(arg) -> a config that trains in seconds."""
  dataset = tiny_config().dataset

  def make(arg=''):
    config = fgn.get_config(f'size=tiny,backbone=vgg16{arg}')
    config.batch_size = 8
    config.input.size = 32
    config.dataset = dataset.copy_and_resolve_references()
    config.model.trunk.blocks = ((1, 8),) * 4
    config.model.update(channels=8, state=4)
    config.flip_test = False  # half as much to compile
    config.stages[0].update(train_steps=6, eval_steps=2)
    return config

  return make


def test_entropy_of_heatmaps_against_a_loop():
  logits = RNG.normal(0, 3, (4, 3, 3, 5)).astype(np.float32)
  target = RNG.uniform(size=logits.shape).astype(np.float32)
  codes = RNG.choice([VISIBLE, OCCLUDED, TRUNCATED, ABSENT], (4, 5))
  codes[0] = TRUNCATED  # an example without a position
  expected = np.zeros(4)
  for b in range(4):
    known = [n for n in range(5) if codes[b, n] in (0, 1)]
    for n in known:
      for x, t in zip(
        logits[b, ..., n].ravel(), target[b, ..., n].ravel(), strict=True
      ):
        p = 1 / (1 + math.exp(-x))
        cost = -t * math.log(p) - (1 - t) * math.log(1 - p)
        expected[b] += cost / 9 / len(known)
  found = losses.heatmap_entropy(logits, target, codes)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_loss_of_the_clothes_type(tiny):
  """By hand: half a chance, a chance of 0.6, and one of an unknown type."""
  config = tiny()
  towards = Objective.of(config, resolve(config), 0)
  assert towards.categories == (1, 2, 3)
  logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.6, 0.3], [1 / 3] * 3])
  batch = {
    'landmarks': np.zeros((3, 8, 2), np.float32),
    'visibility': np.zeros((3, 8), np.int32),
    'clothes_type': np.array([1, 2, 0], np.int32),
  }
  outputs = {
    'category': logits.astype(np.float32),
    'landmarks': batch['landmarks'],
  }
  found = stage_losses(outputs, batch, None, {}, towards, ['category'])
  loss, counts = found['category']
  np.testing.assert_allclose(loss[:2], -np.log([0.5, 0.6]), rtol=1e-5)
  assert counts.tolist() == [True, True, False]


def test_all_losses_of_places_reach_the_logits(tiny):
  """PCLoss is of the landmarks, which are read from their sigmoid."""
  config = tiny(',pcloss=skeleton')
  towards = Objective.of(config, resolve(config), 0)
  batch = {
    'landmarks': RNG.uniform(-0.4, 0.4, (2, 8, 2)).astype(np.float32),
    'visibility': np.zeros((2, 8), np.int32),
  }
  logits = RNG.normal(size=(2, 8, 8, 8)).astype(np.float32)

  def total(logits, name):
    stale = np.zeros((2, 8, 8, 8), np.float32)  # not what the losses are of
    outputs = {'heatmap_logits': logits, 'heatmaps': stale}
    found = stage_losses(outputs, batch, None, {}, towards, [name])
    return found[name][0].sum()

  for name in ('heatmap_entropy', 'position_constraint'):
    assert np.all(jax.grad(total)(logits, name) != 0), name


def test_heatmaps_that_a_sigmoid_cannot_reach_are_refused(tiny):
  config = tiny()
  config.heatmap.amplitude = 100.0
  with pytest.raises(InputError, match="amplitude is 100.0, .*'fgn' go up to"):
    checks.check_config(config, resolve(config))


@pytest.mark.parametrize('size', ['full', 'small', 'tiny'])
def test_configs_are_sound(size):
  config = fgn.get_config(f'size={size},loss=mse,pcloss=skeleton')
  checks.check_config(config, resolve(config))
  (stage,) = config.stages
  assert stage.weights.position_constraint and not stage.weights.heatmap_entropy
  assert config.input.size // 8 == {'full': 28, 'small': 16, 'tiny': 8}[size]
  # Of people there are no types; their category is not asked for.
  people = fgn.get_config(f'size={size},dataset=lsp,pretrained=none')
  checks.check_config(people, resolve(people))
  assert people.stages[0].weights.category == 0
  # Blocks with random weights are never kept.
  assert people.model.trunk.frozen == 0


def test_how_often_the_clothes_type_is_right(tiny):
  """Two of three; of the fourth the type is not known."""
  setup = resolve(tiny())
  rows = {
    'clothes_type': np.array([1, 2, 3, 0]),
    'stages': {'stage1': {'category': np.eye(4, 3)[[0, 1, 0, 0]]}},
  }
  assert evaluate._category_accuracy(rows, setup) == pytest.approx(2 / 3)
  rows['clothes_type'] = np.zeros(4, int)
  assert evaluate._category_accuracy(rows, setup) is None
  rows = {'clothes_type': np.ones(4), 'stages': {'stage1': {}}}
  assert evaluate._category_accuracy(rows, setup) is None


def test_one_type_of_clothes_has_its_own_chains(tiny):
  config = tiny()
  config.dataset.clothes_type = 'upper'
  setup = resolve(config)
  model = build_model(config.model, config.stages[0], 0, setup.landmarks)
  assert model.grammars == FASHION_8.of_type(1).grammars
  assert (model.num_landmarks, model.num_categories) == (6, 1)


def train(config, builder, workdir):
  """Trains on one device, without evaluation and report."""
  trainings.train(config, builder, workdir)
  return store.load_cascade(config, resolve(config), workdir)


def test_a_broken_run_ends_like_an_unbroken_one(
  tiny, synthetic_builder, tmp_path, monkeypatch
):
  config = tiny()
  whole = train(config, synthetic_builder, tmp_path / 'whole')
  with monkeypatch.context() as patch:
    calls = iter(range(1, 1000))
    patch.setattr(processes, 'preempted', lambda: next(calls) == 3)
    with pytest.raises(Preempted):
      train(config, synthetic_builder, tmp_path / 'broken')
  (stage,), history = train(config, synthetic_builder, tmp_path / 'broken')
  ((expected,), curve) = whole
  jax.tree.map(np.testing.assert_array_equal, stage.networks, expected.networks)
  assert history == curve and history[-1]['category'] > 0


def real_part(folder):
  """The first 200 training images of DeepFashion and 40 of val."""
  source = SHARED / 'deepfashion'
  rows = (source / 'Eval/list_eval_partition.txt').read_text().splitlines()[2:]
  names = [row.split()[0] for row in rows if row.endswith('train')][:200]
  names += [row.split()[0] for row in rows if row.endswith('val')][:40]
  for place in ('Anno', 'Eval'):
    (folder / place).mkdir(parents=True)
  for name in (
    'Anno/list_bbox',
    'Anno/list_landmarks',
    'Eval/list_eval_partition',
  ):
    _, head, *rows = (source / f'{name}.txt').read_text().splitlines()
    kept = [row for row in rows if row.split()[0] in {*names}]
    text = '\n'.join([str(len(kept)), head, *kept])
    (folder / f'{name}.txt').write_text(text + '\n')
  (folder / 'Img').symlink_to(source / 'Img')


def test_learns_from_real_images(tmp_path):
  """A network of a few thousand parameters, from random weights."""
  if not (SHARED / 'deepfashion').is_dir():
    pytest.skip(f'{SHARED}/deepfashion is not here')
  real_part(tmp_path / 'part')
  config = fgn.get_config('dataset=deepfashion,size=tiny,backbone=vgg16')
  config.dataset.manual_dir = str(tmp_path / 'part')
  config.dataset.data_dir = str(tmp_path / 'data')
  config.dataset.splits.update(train='train[:80%]', tune='train[80%:]')
  config.batch_size = 16
  config.model.trunk.blocks = ((1, 8), (1, 16), (1, 16), (1, 32))
  config.model.update(channels=16, state=8)
  config.flip_test = False
  config.stages[0].update(train_steps=120, eval_steps=20, average=0.9)
  config.stages[0].optimizer.learning_rate = 5e-3
  builder = prepared_builder(config.dataset)
  _, history = train(config, builder, tmp_path / 'W')
  errors = [point['tune_ne'] for point in history]
  assert errors[-1] < 0.85 * errors[0], errors
  costs = [point['heatmap_entropy'] for point in history]
  assert costs[-1] < costs[0], costs
