"""The tests' devices, and what several files share."""

import os

from xla_flags import xla_flags  # imports no JAX

# Before anything imports JAX. Four devices, so that sharding is real.
os.environ['XLA_FLAGS'] = xla_flags(devices=4)
os.environ['JAX_PLATFORMS'] = 'cpu'
# Not the users' own cache: theirs is of programs for another device count.
# Each of pytest-xdist's workers has its own, since JAX writes into it without a
# lock, and a half-written program is a warning, which is an error here.
_worker = os.environ.get('PYTEST_XDIST_WORKER', '')
os.environ['JAX_COMPILATION_CACHE_DIR'] = os.path.expanduser(
  f'~/.cache/fld_jax/xla-tests{_worker and f"-{_worker}"}'
)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.1'

import deepfashion_folders  # noqa: E402
import pytest  # noqa: E402
from score_inputs import config_of, read  # noqa: E402

from fld_jax.configs import dfa  # noqa: E402
from fld_jax.datasets.prepare import prepared_builder  # noqa: E402
from fld_jax.report import content  # noqa: E402

# Files that take longest. They come first, so that no process is left alone
# with one of them at the end.
LONGEST = (
  'runtime/test_processes.py',
  'training/test_resume.py',
  'training/test_idpr.py',
  'docs/test_docs.py',
)
# Folders whose tests train networks and look at no figure of a report. To draw
# them takes a third of a tiny training. Reports are drawn in the other folders,
# in files that set LOOKS_AT_FIGURES, and by every program that a test starts as
# a user does.
WITHOUT_FIGURES = (
  'cascade',
  'datasets',
  'evaluation',
  'pretrained',
  'training',
)
ALL_BLOCKS = content.BLOCKS


def pytest_collection_modifyitems(items):
  def place(item):
    path = item.path.as_posix()
    return next(
      (i for i, name in enumerate(LONGEST) if path.endswith(name)), len(LONGEST)
    )

  items.sort(key=place)


@pytest.fixture(autouse=True, scope='module')
def without_figures(request):
  """Reports have tables alone, in the folders WITHOUT_FIGURES."""
  with pytest.MonkeyPatch.context() as patch:
    draws = getattr(request.module, 'LOOKS_AT_FIGURES', False)
    if request.path.parent.name in WITHOUT_FIGURES and not draws:
      tables = tuple(block for block in ALL_BLOCKS if not block.slug)
      patch.setattr(content, 'BLOCKS', tables)
    yield


@pytest.fixture(scope='session')
def tiny_config(tmp_path_factory):
  """make(stages=3) -> a fresh config that trains in seconds.

  Of three stages the last has branches that start from the second; of four it
  has those that continue the third.
  """
  data_dir = str(tmp_path_factory.mktemp('data'))

  def make(stages: int = 3):
    config = dfa.get_config(f'dataset=synthetic,size=tiny,stages={stages}')
    if stages == 3:  # as the paper has it: branches from stage 2
      config.stages[2].branches = True
    config.batch_size = 8
    config.log_every_steps = 2
    config.dataset.data_dir = data_dir
    config.dataset.sizes = {'train': 48, 'val': 16, 'test': 16}
    config.input.size, config.stages[0].input_size = 32, 16
    config.model.trunk.blocks = ((1, 8), (1, 8))
    config.model.pool, config.model.hidden = 4, 64
    config.model.local_maps, config.model.patch = ('c1', 'c2'), 3
    for stage in config.stages:
      stage.train_steps, stage.eval_steps = 6, 3
      stage.pseudo_label.num_clusters = 4
    return config

  return make


@pytest.fixture(scope='session')
def synthetic_builder(tiny_config):
  """The builder of `tiny_config`'s data, prepared."""
  return prepared_builder(tiny_config().dataset)


@pytest.fixture(scope='session')
def trained_run(tiny_config, tmp_path_factory):
  """(workdir, metrics) of `tiny_config`'s three stages, evaluated."""
  from fld_jax import experiment

  workdir = tmp_path_factory.mktemp('trained') / 'run'
  # With figures, whichever file asks for it first.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(content, 'BLOCKS', ALL_BLOCKS)
    return workdir, experiment.run(
      tiny_config(), workdir, mode='train', splits=('test',)
    )


@pytest.fixture(scope='session')
def trained_workdir(trained_run):
  """The folder of `trained_run`."""
  return trained_run[0]


@pytest.fixture
def fashion(tmp_path):
  """The config of a folder of three images, and its two train examples."""
  folder = deepfashion_folders.write_folder(tmp_path / 'folder')
  config = config_of('deepfashion', folder, tmp_path)
  return config, read(config, 'train')
