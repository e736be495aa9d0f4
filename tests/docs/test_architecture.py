"""The examples of docs/architecture.md: each applied to a copy, and run."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from places import ROOT

PAGE = (ROOT / 'docs/architecture.md').read_text()
EXAMPLES = {
  name: (patch, command)
  for name, patch, command in re.findall(
    r'<!-- patch: (\w+) -->\n```diff\n(.*?)```\n\n```bash\n(.*?)```',
    PAGE,
    re.DOTALL,
  )
}


def git(*arguments, **options):
  return subprocess.run(
    ['git', *arguments], check=True, capture_output=True, text=True, **options
  ).stdout


@pytest.fixture
def copy(tmp_path):
  """A copy of the checkout's files, without its history."""
  top = tmp_path / 'copy'
  top.mkdir()
  for name in ('fld_jax', 'datasets', 'configs'):
    shutil.copytree(
      ROOT / name,
      top / name,
      symlinks=True,
      ignore=shutil.ignore_patterns('__pycache__'),
    )
  return top


def apply(copy, name) -> set[str]:
  """Applies an example's patch; returns the files that it touches."""
  patch, _ = EXAMPLES[name]
  git('apply', '-', cwd=copy, input=patch)
  return set(re.findall(r'^\+\+\+ b/(\S+)', patch, re.MULTILINE))


def run(copy, name, places=()) -> str:
  """Runs an example's command in the copy; returns what it prints."""
  command = EXAMPLES[name][1].replace('\\\n', ' ')
  words = [dict(places).get(word, word) for word in shlex.split(command)]
  words = [w.replace('--workdir=W', '--workdir=run') for w in words]
  assert words[0] == 'python'
  words.append(f'--config.dataset.data_dir={copy}/data')
  done = subprocess.run(
    [sys.executable, *words[1:]],
    cwd=copy,
    env={**os.environ, 'PYTHONPATH': str(copy)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout


def test_there_is_an_example_of_each_table():
  assert list(EXAMPLES) == ['trunk', 'network', 'loss', 'data_set', 'mode']


@pytest.mark.parametrize('name', EXAMPLES)
def test_an_example_touches_little(copy, name):
  """At most two files; the folder of a data set is one thing."""
  touched = {
    'datasets/points_csv' if 'points_csv' in path else path
    for path in apply(copy, name)
  }
  assert 1 <= len(touched) <= 2


@pytest.mark.parametrize('name', ['trunk', 'network', 'loss'])
def test_an_example_trains(copy, name):
  apply(copy, name)
  printed = run(copy, name)
  assert 'NE in % of the box' in printed
  assert (copy / 'run/eval/test/report.html').is_file()


def test_the_example_of_a_data_set(copy, tmp_path):
  apply(copy, 'data_set')
  folder = tmp_path / 'folder'
  folder.mkdir()
  lines = []
  for i, split in enumerate(('train', 'train', 'val')):
    Image.fromarray(np.full((40, 30, 3), 60 * i, np.uint8)).save(
      folder / f'{i}.png'
    )
    points = ['3', '4'] * 7 + ['', '']
    lines.append(','.join([f'{i}.png', split, '0', '0', '30', '40', *points]))
  (folder / 'points.csv').write_text('\n'.join(lines) + '\n')
  places = [('--manual_dir=FOLDER', f'--manual_dir={folder}')]
  printed = run(copy, 'data_set', places)
  assert 'points_csv: 3 records' in printed
  (folder / 'points.csv').write_text(lines[0].replace(',4,', ',x,', 1))
  with pytest.raises(AssertionError, match='points.csv, line 1'):
    run(copy, 'data_set', places)


def test_the_example_of_a_mode(copy):
  apply(copy, 'mode')
  printed = run(copy, 'mode')
  assert re.search(r'stage1: [\d,]+ parameters', printed)
