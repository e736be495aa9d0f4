"""The door: `fld_jax.load`, `--help`, `--mode=config` and the command."""

import os
import resource
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
from PIL import Image
from places import ROOT

import fld_jax
from fld_jax import config_fields, defaults, experiment, main
from fld_jax.config import XLA_CPU_FLAGS, did_you_mean
from fld_jax.configs import (
  attributes,
  base,
  deeppose,
  detector,
  detector_table,
  dfa,
  dfa_table2,
  dlan,
  pcloss,
  pcloss_figure8,
  pcloss_table1,
  pcloss_table4,
)
from fld_jax.errors import InputError
from fld_jax.inference import landmarks, predictor
from fld_jax.landmark_sets import FASHION_8
from fld_jax.runtime import terminal


def run(*arguments, program=('-m', 'fld_jax.main'), **variables):
  environment = {**os.environ, 'PYTHONPATH': str(ROOT), **variables}
  return subprocess.run(
    [sys.executable, *program, *map(str, arguments)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env={key: value for key, value in environment.items() if value is not None},
    timeout=300,
  )


# --- import fld_jax


def test_import_is_light():
  program = """
import sys, fld_jax
assert set(fld_jax.__all__) <= set(dir(fld_jax))
print({name.partition('.')[0] for name in sys.modules}
      & {'jax', 'flax', 'tensorflow_datasets', 'numpy', 'cv2', 'absl'})
"""
  result = run(program=('-c', program))
  assert (result.returncode, result.stdout) == (0, 'set()\n'), result.stderr


def test_names_of_the_package():
  assert fld_jax.load is predictor.load
  assert fld_jax.Predictor is predictor.Predictor
  with pytest.raises(AttributeError, match="no attribute 'nope'"):
    fld_jax.nope  # noqa: B018


@pytest.fixture
def photo(synthetic_builder, tmp_path):
  """A photo's path, and its pixels as a JPEG decoder sees them."""
  record = synthetic_builder.as_data_source('test', decoders=None)[0]
  path = tmp_path / 'photo.jpg'
  Image.fromarray(record['image']).resize((240, 360)).save(path)
  return path, np.asarray(Image.open(path))


def test_thirty_seconds_of_python(trained_workdir, photo):
  path, pixels = photo
  detector = fld_jax.load(trained_workdir)
  (item,) = detector([str(path)], boxes=[(62, 62, 165, 300)])
  assert item.names == FASHION_8.names and len(item.visibility) == 8
  assert item.positions.shape == (8, 2)
  item.draw(str(path)).save(path.with_name('overlay.jpg'))
  drawn = Image.open(path.with_name('overlay.jpg'))
  # Small photos are enlarged, and keep their shape.
  assert drawn.width > 240
  assert drawn.height >= round(drawn.width * 360 / 240)
  # A path, an image and an array are the same photo.
  expected = landmarks.overlay(pixels, [item])
  before = pixels.copy()
  for kind in (path, Image.open(path), pixels):
    np.testing.assert_array_equal(np.asarray(item.draw(kind)), expected)
  np.testing.assert_array_equal(pixels, before)
  with pytest.raises(InputError, match='missing'):
    item.draw('nowhere.jpg')


def test_fields_of_load(trained_workdir):
  fields = {'flip_test': True, 'routing.mode': 'average'}
  config = fld_jax.load(trained_workdir, **fields).config
  assert config.flip_test and config.routing.mode == 'average'
  with pytest.raises(InputError, match="Did you mean 'flip_test'"):
    fld_jax.load(trained_workdir, flip_tests=True)
  with pytest.raises(InputError, match="config.batch_size is 'four'"):
    fld_jax.load(trained_workdir, batch_size='four')
  with pytest.raises(InputError, match='hidden'):  # other networks
    fld_jax.load(trained_workdir, **{'model.hidden': 8})
  with pytest.raises(InputError, match='trained run'):
    fld_jax.load('nowhere')


LOAD = """
import logging, os, sys
logging.basicConfig(format='%(message)s')
import jax, fld_jax
if {early}:
  jax.devices()
for _ in range(2):
  fld_jax.load({workdir!r})
print(os.environ.get('XLA_FLAGS'))
"""


@pytest.mark.parametrize('early', [False, True])
def test_load_sets_the_flags_for_cpus(trained_workdir, early):
  program = LOAD.format(early=early, workdir=str(trained_workdir))
  result = run(program=('-c', program), XLA_FLAGS=None, JAX_PLATFORMS='cpu')
  assert result.returncode == 0, result.stderr
  assert result.stdout.strip() == ('None' if early else XLA_CPU_FLAGS)
  assert result.stderr.count('2.6 times slower') == early


def test_load_leaves_a_users_flags_alone(trained_workdir):
  program = LOAD.format(early=True, workdir=str(trained_workdir))
  flags = '--xla_force_host_platform_device_count=2'
  result = run(program=('-c', program), XLA_FLAGS=flags, JAX_PLATFORMS='cpu')
  assert result.stdout.strip() == flags and 'slower' not in result.stderr


# --- --help


@pytest.mark.parametrize('flag', ['--help', '-h', '--helpfull'])
def test_help(flag):
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  result = run(flag)
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  assert (result.returncode, result.stderr) == (0, '')
  places = [result.stdout.index(f'\n  {name}\n') for name in main.MODES]
  assert places == sorted(places)
  for name, mode in main.MODES.items():
    assert mode.help in result.stdout
    assert f'--mode={name} {mode.example}' in result.stdout
    for each in mode.needs + mode.takes:
      assert f'\n  --{each} ' in result.stdout  # its description
  assert '--dataset' in result.stdout and '--manual_dir' in result.stdout
  seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
  assert seconds < 0.5


def test_help_imports_no_jax():
  program = """
import sys
from fld_jax import main
sys.argv = ['fld-jax', '--help']
try:
  main.main()
except SystemExit as end:
  assert not end.code
assert not {'jax', 'tensorflow_datasets', 'numpy'} & set(sys.modules)
"""
  result = run(program=('-c', program))
  assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('name', main.MODES)
def test_help_on_a_mode(name, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['fld-jax', f'--mode={name}', '--help'])
  with pytest.raises(SystemExit) as end:
    main.main()
  assert not end.value.code
  text = capsys.readouterr().out
  mode = main.MODES[name]
  described = {
    line.split()[0] for line in text.splitlines() if line.startswith('  --')
  }
  assert described == {f'--{x}' for x in mode.needs + mode.takes}
  assert f'--mode={name} {mode.example}' in text


@pytest.mark.parametrize('name', main.MODES)
def test_every_flag_of_a_mode_exists_and_its_example_uses_them(name):
  mode = main.MODES[name]
  own = {*mode.needs, *mode.takes}
  assert own <= set(main.flags.FLAGS)
  assert set(mode.config_from) <= own
  given = {part.partition('=')[0][2:] for part in mode.example.split()}
  assert given <= own
  needed = set(mode.needs)
  if given & {'config', *mode.config_from}:
    needed.discard('config')
  assert needed <= given


# --- Mistakes


@pytest.mark.parametrize(
  ('arguments', 'hint'),
  [
    (['--mode=evaluat', '--workdir=W'], "Did you mean 'evaluate'?"),
    (['--mode=evaluat', '--help'], "Did you mean 'evaluate'?"),
    (['--datset=fld'], 'Did you mean: dataset'),
    (['--dataset=deepfasion'], "Did you mean 'deepfashion'?"),
    (['--config=configs/dfs.py'], "Did you mean 'configs/dfa.py'?"),
    (['--config=elsewhere/dfa.py'], 'fld_jax/configs/dfa.py'),
    (['--config=configs/dfa.py:sise=tiny'], "Did you mean 'size'?"),
    (['--config=configs/dfa.py:size=tinny'], "Did you mean 'tiny'?"),
    (
      ['--config=configs/dfa.py', '--config.stages[0].train_epoch=3'],
      "Did you mean 'train_epochs'?",
    ),
    (
      ['--config=configs/dfa.py', '--config.stages[0].wieghts.landmarks=3'],
      "Did you mean 'weights'?",
    ),
  ],
)
def test_did_you_mean(arguments, hint):
  result = run(*arguments)
  assert (result.returncode, result.stdout) == (2, '')
  (line,) = result.stderr.splitlines()
  assert line.startswith('error: ') and hint in line


def test_nothing_is_meant_by_nonsense():
  assert did_you_mean('qqq', ['train', 'evaluate']) == ''


# --- --mode=config

CONFIGS = [
  base.get_config('dataset=lsp'),
  base.get_config('dataset=coco'),
  deeppose.get_config(),
  *(dfa.get_config(f'size={size}') for size in ('full', 'tiny')),
  dlan.get_config(),
  *(pcloss.get_config(f'model={model}') for model in pcloss.MODELS),
  attributes.get_config(),
  detector.get_config(),
  detector_table.get_config(),
  dfa_table2.get_config(),
  pcloss_figure8.get_config(),
  pcloss_table1.get_config(),
  pcloss_table4.get_config(),
]


def test_every_field_of_every_config_has_a_meaning():
  fields = {
    path for config in CONFIGS for path, _ in config_fields.fields(config)
  }
  assert len(fields) > 100
  assert [
    path for path in sorted(fields) if not config_fields.meaning(path)
  ] == []


def test_comments_are_read_from_the_source():
  def function(config):
    config.a = 1  # behind
    # Above,
    # and more.
    config.b.c = 2
    config.d = dict(x=1)
    config.e = {
      'f': 1,  # of f
      # Of g.
      'g': 2,
      'h': 3,
    }
    config.a = 4  # a second time

  assert config_fields.comments(function) == {
    'a': 'behind',
    'b.c': 'Above, and more.',
    'd': '',
    'e': '',
    'e.f': 'of f',
    'e.g': 'Of g.',
    'e.h': '',
  }


def test_describe_marks_what_differs():
  config = dfa.get_config('size=tiny')
  lines = config_fields.describe(config).splitlines()
  values = [line for line in lines if ' = ' in line and line[2] != ' ']
  assert f'* batch_size = {config.batch_size}' in values
  assert '  seed = 0' in values
  assert "  stages[1].name = 'stage2'" in values
  assert '* stages[0].optimizer.clip_norm = 5.0' in values
  assert len(values) == len(list(config_fields.fields(config)))
  defaults_alone = config_fields.describe(defaults.base('fld'))
  assert '\n* ' not in defaults_alone.rpartition('\n\n')[0]


def test_mode_config(trained_workdir):
  changed = run('--mode=config', '--dataset=fld', '--config.seed=7')
  assert changed.returncode == 0, changed.stderr
  assert '* seed = 7' in changed.stdout
  assert "dataset.name = 'fld'" in changed.stdout
  trained = run('--mode=config', f'--workdir={trained_workdir}')
  assert '* batch_size = 8' in trained.stdout
  assert "stages[2].name = 'stage3'" in trained.stdout
  assert '--config, or --dataset, or --workdir' in run('--mode=config').stderr


# --- The command fld-jax


def test_command(tmp_path):
  """What an installer makes of [project.scripts] answers, from any folder."""
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  module, function = project['scripts']['fld-jax'].split(':')
  script = tmp_path / 'fld-jax'
  script.write_text(
    f'import sys\nfrom {module} import {function}\nsys.exit({function}())\n'
  )
  for argument, words in (
    ('--help', main.MODES['predict'].help),
    ('--mode=config', 'The flag --config'),
    ('--dataset=lsp', 'The flag --workdir is missing'),
  ):
    result = subprocess.run(
      [sys.executable, script, argument],
      capture_output=True,
      text=True,
      cwd=tmp_path,
      env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert result.returncode == (0 if argument == '--help' else 2)
    assert words in result.stdout + result.stderr


@pytest.mark.parametrize(
  'words', ['--help', '--mode=config --config=configs/dfa.py:size=tiny']
)
@pytest.mark.parametrize('reader', ['head -n 1', 'true'])
def test_a_reader_that_leaves_ends_the_text(words, reader):
  done = subprocess.run(
    [
      'bash',
      '-c',
      f'set -o pipefail; {sys.executable} -m fld_jax.main {words} | {reader}',
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.stdout.count('\n') == (reader != 'true')
  assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.parametrize(
  ('streams', 'status', 'words'),
  [
    ('>/dev/full', 1, 'the standard output cannot be written (No space'),
    ('2>/dev/full', 0, ''),
    ('>&- 2>&-', 0, ''),
    ('>&-', 0, ''),
  ],
)
def test_streams_that_take_nothing(streams, status, words):
  done = subprocess.run(
    ['bash', '-c', f'{sys.executable} -m fld_jax.main --help {streams}'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == status
  assert words in done.stderr and len(done.stderr.splitlines()) == bool(words)


@pytest.mark.parametrize(
  'variables',
  [
    {'PYTHONIOENCODING': 'ascii'},
    {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
  ],
)
def test_terminals_without_the_characters(variables, tmp_path):
  name = os.fsencode(tmp_path) + '/日本caf'.encode() + b'\xe9'
  os.mkdir(name)
  command = [sys.executable, '-m', 'fld_jax.main', '--mode=predict']
  for flag in (b'--images=', b'--output='):
    done = subprocess.run(
      [*command, '--workdir=W', '--config=configs/dfa.py', flag + name]
      + ['--images=X' if flag != b'--images=' else f'--output={tmp_path}/o'],
      cwd=ROOT,
      capture_output=True,
      env={**os.environ, 'PYTHONPATH': str(ROOT), **variables},
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.decode('ascii').splitlines()
    assert line.startswith('error: ')


# --- Flags without a value


@pytest.mark.parametrize('name', main.MODES)
def test_flags_without_a_value(name):
  """Of every mode and in both forms: most often a shell's variable is unset."""
  mode = main.MODES[name]
  for flag in sorted({*mode.needs, *mode.takes}):
    if main.flags.FLAGS[flag].boolean:
      continue
    for given in ([f'--{flag}='], [f'--{flag}', ''], [f'--{flag}= ']):
      argv = ['main', f'--mode={name}', '--workdir=W', *given]
      with pytest.raises(InputError, match=f'--{flag} is given without a val'):
        main._parse(argv)


# --- A changed config


def test_a_changed_config_is_refused_before_data_are_prepared(
  trained_workdir, tiny_config, tmp_path
):
  config = tiny_config()
  config.seed, config.dataset.data_dir = 7, str(tmp_path)
  with pytest.raises(InputError, match='config.seed was 0 and now is 7'):
    experiment.run(config, trained_workdir, mode='train', splits=('test',))
  assert not list(tmp_path.iterdir())


# --- Ctrl-C


SLOW = """
import signal, sys, time
from fld_jax import main
{handler}
def work():
  print('ready', flush=True)
  {work}
mode = main.MODES['{mode}']
main.MODES['{mode}'] = mode._replace(run=work, needs=())
sys.argv = ['main', '--mode={mode}']
main.main()
"""
SLEEPS = 'time.sleep(60)'
# One instruction of Python's, for minutes, as the compilation of a network is.
DEAF = 'import hashlib; hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)'


def interrupted(mode, work, times=1, handler=''):
  """(status, stderr, seconds) of the program whose mode was interrupted."""
  program = SLOW.format(mode=mode, work=work, handler=handler)
  with subprocess.Popen(
    [sys.executable, '-c', program],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
  ) as running:
    assert running.stdout.readline() == 'ready\n'
    start = time.monotonic()
    for _ in range(times):
      time.sleep(0.2)
      running.send_signal(signal.SIGINT)
    try:
      _, said = running.communicate(timeout=60)
    finally:
      running.kill()
  return running.returncode, said, time.monotonic() - start


@pytest.mark.parametrize('mode', main.MODES)
def test_ctrl_c_is_one_line(mode):
  status, said, _ = interrupted(mode, SLEEPS)
  (line,) = said.splitlines()
  assert status == 130
  assert line.startswith(f'Interrupted: --mode={mode} did not come to its end')


@pytest.mark.parametrize('times', [1, 2])
def test_ctrl_c_where_python_does_not_hear_it(times):
  """At the second one at once, at the first after a few seconds."""
  status, said, seconds = interrupted('predict', DEAF, times)
  assert status == 130 and len(said.splitlines()) == 1
  assert (seconds < terminal.GRACE_SECONDS) == (times == 2)


@pytest.mark.parametrize(
  'work',
  [
    'class A:\n    def __del__(self): time.sleep(60)\n  A()',
    'try: time.sleep(60)\n  except KeyboardInterrupt: raise ImportError',
  ],
)
def test_ctrl_c_that_libraries_lose(work):
  """In the end of an object, or as another error."""
  status, said, _ = interrupted('doctor', work)
  assert status == 130 and len(said.splitlines()) == 1


def test_ctrl_c_that_is_ignored_stays_so():
  """As for what a shell starts in the background."""
  handler = 'signal.signal(signal.SIGINT, signal.SIG_IGN)'
  status, said, _ = interrupted('doctor', 'time.sleep(1)', handler=handler)
  assert (status, said) == (0, '')
