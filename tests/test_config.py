"""Mistakes on the command line end in one sentence and status 2."""

import json
import subprocess
import sys

import pytest
from places import ROOT

from fld_jax import defaults
from fld_jax.cascade.setup import resolve
from fld_jax.config import explain_overrides, find_config, parse_arg
from fld_jax.configs import dfa, pcloss, trained
from fld_jax.errors import InputError
from fld_jax.runtime import manifest
from fld_jax.training import checks

CONFIG = 'configs/dfa.py:dataset=synthetic,size=tiny'


def test_parse_arg_reads_each_type_and_keeps_the_other_defaults():
  known = dict(size=('full', 'tiny'), stages=3, rate=0.5, name='x', on=True)
  assert parse_arg(None, **known) == dict(
    size='full', stages=3, rate=0.5, name='x', on=True
  )
  given = parse_arg('size=tiny,stages=2,rate=2,name=a=b,on=False', **known)
  assert given == dict(size='tiny', stages=2, rate=2.0, name='a=b', on=False)
  assert isinstance(given['rate'], float)


@pytest.mark.parametrize(
  ('arg', 'words'),
  [
    ('colour=3', ["'colour' is unknown", 'size, stages']),
    ('size=huge', ["size is 'huge'", 'full, tiny']),
    ('stages=three', ["stages is 'three'", 'int']),
    ('stages=', ["stages is ''", 'int']),
  ],
)
def test_parse_arg_says_what_is_wrong(arg, words):
  with pytest.raises(InputError) as error:
    parse_arg(arg, size=('full', 'tiny'), stages=3)
  assert all(word in str(error.value) for word in words)


def test_find_config_knows_both_spellings(tmp_path):
  path = tmp_path / 'c.py'
  path.touch()
  assert find_config(['x', f'--config={path}:a=1,b=2']) == (
    str(path),
    'a=1,b=2',
  )
  assert find_config(['x', '--config', str(path)]) == (str(path), None)
  assert find_config(['x', '--config.seed=1']) is None
  with pytest.raises(InputError, match=r"no config file 'nowhere\.py'"):
    find_config(['--config=nowhere.py:size=tiny'])


@pytest.mark.parametrize(
  ('override', 'words'),
  [
    ('input.sise=3', ["'input.sise'", 'config.input has', 'margin']),
    ('stages[4].name=x', ["'stages[4].name'", 'config.stages has 0, 1, 2, 3.']),
    ('seed.x=1', ["'seed.x'", 'config.seed has no fields']),
  ],
)
def test_explain_overrides_names_what_there_is(override, words):
  arguments = [f'--config={ROOT / CONFIG}', f'--config.{override}']
  with pytest.raises(InputError) as error:
    explain_overrides(arguments)
  assert all(word in str(error.value) for word in words)


def test_explain_overrides_is_silent_if_all_is_there():
  explain_overrides(
    [f'--config={ROOT / CONFIG}', '--config.stages[2].optimizer.name=sgd']
  )


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--config.nope=3', '--workdir=W'], ["config field 'nope'", 'batch_size']),
    (['--config.stages[7].init=x', '--workdir=W'], ['stages[7]', '0, 1, 2']),
    ([], ['--workdir is missing']),
    (['--mode=fly', '--workdir=W'], ['--mode=fly', 'train', 'evaluate']),
    (['W', '--workdir=W'], ["'W' is not a flag"]),
  ],
)
def test_command_line(arguments, words):
  result = subprocess.run(
    [sys.executable, '-m', 'fld_jax.main', f'--config={CONFIG}', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert result.returncode == 2
  assert result.stdout == ''
  (line,) = result.stderr.splitlines()
  assert line.startswith('error: ')
  assert all(word in line for word in words)


def test_config_of_a_run(trained_workdir, tiny_config):
  config = trained.get_config(str(trained_workdir))
  assert config.to_dict() == tiny_config().to_dict()


def test_config_of_an_older_run_has_what_came_later(tmp_path, tiny_config):
  saved = json.loads(tiny_config().to_json_best_effort())
  del saved['flip_test'], saved['stages'][1]['landmark_loss']
  (tmp_path / 'manifest.json').write_text(json.dumps({'config': saved}))
  config = trained.get_config(str(tmp_path))
  assert config.to_dict() == tiny_config().to_dict()


VGG_BLOCKS = [[1, 16], [1, 32], [2, 64], [2, 128], [2, 256]]
# What configs had as `model` before `model.backbone`; as the command lines'
# arguments today.
OLD_MODELS = {
  ('dfa', 'size=tiny'): {
    'batch_norm': True,
    'blocks': [[1, 16], [1, 32], [1, 64], [1, 128]],
    'dropout': 0.0,
    'dtype': 'float32',
    'hidden': 256,
    'name': 'dfa',
  },
  ('pcloss', 'size=small,model=fashionnet'): {
    'batch_norm': True,
    'blocks': VGG_BLOCKS,
    'dropout': 0.1,
    'dtype': 'float32',
    'hidden': 512,
    'name': 'fashionnet',
    'pool': 2,
  },
  ('pcloss', 'size=small,model=fashionnet,backbone=resnet18'): {
    'depth': 18,
    'dropout': 0.1,
    'dtype': 'float32',
    'hidden': 512,
    'name': 'resnet_regression',
    'pool': 2,
    'width': 24,
  },
  ('pcloss', 'size=medium,model=fpn'): {
    'channels': 64,
    'depth': 18,
    'dtype': 'float32',
    'name': 'fpn',
    'width': 48,
  },
  ('pcloss', 'size=full'): {
    'channels': 256,
    'depth': 50,
    'dtype': 'bfloat16',
    'name': 'simple_baselines',
    'width': 64,
  },
}


@pytest.mark.parametrize(('file', 'arg'), OLD_MODELS)
def test_config_of_a_run_before_there_were_backbones(file, arg):
  config = {'dfa': dfa, 'pcloss': pcloss}[file].get_config(arg)
  with config.unlocked():
    del config.model.trunk.frozen  # which there was not yet
    if file == 'dfa':
      for field in ('pool', 'local_maps', 'patch'):
        del config.model[field]
    # Nor was there visibility beside heatmaps: what does not name it has none.
    if 'visibility' in config.model:
      del config.model.visibility
  saved = manifest.to_dict(config)
  old = {**saved, 'model': OLD_MODELS[file, arg]}
  before = json.dumps(old)
  assert defaults.translate(old, 'file') == saved
  assert defaults.restore(old, 'file').to_dict() == config.to_dict()
  assert json.dumps(old) == before
  assert defaults.translate(saved, 'file') == saved  # once is enough


def test_a_run_goes_on_without_visibility_that_it_began_without():
  now = pcloss.get_config('size=tiny')
  assert now.model.visibility and now.stages[0].weights.visibility
  assert defaults.as_begun(now, manifest.to_dict(now)) == now
  saved = manifest.to_dict(now)
  del saved['model']['visibility']
  saved['stages'][0]['weights']['visibility'] = 0.0
  begun = defaults.as_begun(now, saved)
  assert not begun.model.visibility
  assert begun.stages[0].weights.visibility == 0
  assert now.model.visibility and now.stages[0].weights.visibility


def test_a_head_without_a_weight_is_refused():
  config = pcloss.get_config('size=tiny')
  config.stages[0].weights.visibility = 0.0
  with pytest.raises(InputError, match=r'config.model.visibility=False, or'):
    checks.check_config(config, resolve(config))


@pytest.mark.parametrize('arg', [None, 'nowhere'])
def test_no_run(arg):
  with pytest.raises(InputError, match='is no folder of a trained run'):
    trained.get_config(arg)
