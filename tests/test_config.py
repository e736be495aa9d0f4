"""Mistakes on the command line end in one sentence and status 2."""

import json
import subprocess
import sys

import pytest
from places import ROOT

from fld_jax.config import explain_overrides, find_config, parse_arg
from fld_jax.configs import trained
from fld_jax.errors import InputError

CONFIG = 'configs/dfa.py:dataset=synthetic,size=tiny'


def test_parse_arg_reads_each_type_and_keeps_the_other_defaults():
  defaults = dict(size=('full', 'tiny'), stages=3, rate=0.5, name='x', on=True)
  assert parse_arg(None, **defaults) == dict(
    size='full', stages=3, rate=0.5, name='x', on=True
  )
  given = parse_arg('size=tiny,stages=2,rate=2,name=a=b,on=False', **defaults)
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
    ('stages[3].name=x', ["'stages[3].name'", 'config.stages has 0, 1, 2.']),
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


@pytest.mark.parametrize('arg', [None, 'nowhere'])
def test_no_run(arg):
  with pytest.raises(InputError, match='is no folder of a trained run'):
    trained.get_config(arg)
