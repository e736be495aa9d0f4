"""Imports point one way, and TensorFlow is never among them."""

import ast
import graphlib
import os
import re
import subprocess
import sys

import pytest
from places import ROOT

PACKAGE = ROOT / 'fld_jax'

# A file or folder of the package may import from those before it, and a file of
# a folder from any other of its own folder, without circles.
ORDER = (
  'errors',
  'mirror_names',
  'schema',
  'landmark_sets',
  'geometry',
  'files',
  'datasets',
  'config',
  'config_rules',
  'defaults',
  'config_fields',
  'papers',
  'configs',
  'runtime',
  'metrics',
  'ops',
  'models',
  'input_pipeline',
  'cascade',
  'pretrained',
  'evaluation',
  'training',
  'visualization',
  'report',
  'doctor',
  'inference',
  'service',
  'retrieval',
  'ablation',
  'experiment',
  'main',
)


def room(dotted):
  """'fld_jax.models.vgg' -> 'models'"""
  return dotted.split('.')[1]


def source_files():
  # Patterns, not rglob: datasets/ and configs/ are links, which it passes by.
  for pattern in ('*.py', '*/*.py', '*/*/*.py'):
    for path in PACKAGE.glob(pattern):
      parts = path.relative_to(ROOT).with_suffix('').parts
      dotted = '.'.join(parts).removesuffix('.__init__')
      if dotted != 'fld_jax':
        yield dotted, path


def imported(source):
  """Dotted names of all that a source imports, wherever in it."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'imports are absolute'
      for alias in node.names:
        dotted = f'{node.module}.{alias.name}'
        inside = PACKAGE.parent / dotted.replace('.', '/')
        is_module = inside.with_suffix('.py').exists() or inside.is_dir()
        yield dotted if is_module else node.module


FILES = dict(source_files())
IMPORTS = {
  name: set(imported(path.read_text())) for name, path in FILES.items()
}
EDGES = {
  (name, target)
  for name, targets in IMPORTS.items()
  for target in targets
  if target.startswith('fld_jax.') and target != name
}


def test_the_reader_sees_every_form_of_import():
  source = """
import numpy as np, fld_jax.schema
from fld_jax.training import losses
from fld_jax.models.vgg import VGG
def f():
  from tensorflow import data
"""
  assert set(imported(source)) == {
    'numpy',
    'fld_jax.schema',
    'fld_jax.training.losses',
    'fld_jax.models.vgg',
    'tensorflow',
  }


def test_every_file_and_folder_has_a_place_in_the_order():
  assert {room(name) for name in FILES} == set(ORDER)


def test_imports_point_one_way():
  place = {name: i for i, name in enumerate(ORDER)}
  wrong = [
    f'{importer} imports {target}'
    for importer, target in sorted(EDGES)
    if place[room(target)] > place[room(importer)]
  ]
  assert not wrong


def test_no_files_import_each_other_in_a_circle():
  graph = {name: set() for name in FILES}
  for importer, target in EDGES:
    graph[importer].add(target)
  # Raises CycleError, which names the files.
  list(graphlib.TopologicalSorter(graph).static_order())


def test_only_dfa_knows_its_layers():
  """And the reader of its authors' release; configs give their sizes."""
  own = {'fld_jax.pretrained.dfa_release'}
  layers = re.compile(r'\b(fc_pre|fc6|fc7|fc8\w*)\b|model\.hidden\b')
  knowing = {
    name for name, path in FILES.items() if layers.search(path.read_text())
  }
  free = ('models', 'configs')
  others = {name for name in knowing if room(name) not in free}
  assert others == own


@pytest.mark.parametrize(
  ('package', 'importers'),
  [
    ('orbax', {'fld_jax.runtime.checkpoint', 'fld_jax.runtime.processes'}),
    ('tensorflow', set()),
    ('torch', set()),
  ],
)
def test_who_imports(package, importers):
  found = {
    name
    for name, targets in IMPORTS.items()
    if any(target.split('.')[0] == package for target in targets)
  }
  assert found == importers


def test_modules_import_without_tensorflow(tmp_path):
  # One that can be found, so that the test means something without the real.
  (tmp_path / 'tensorflow').mkdir()
  (tmp_path / 'tensorflow' / '__init__.py').write_text('')
  program = f"""
import importlib.util, sys
assert importlib.util.find_spec('tensorflow')
served = importlib.util.find_spec('fastapi')  # of the extra serve
for name in {sorted(FILES)!r}:
  if served or not name.startswith('fld_jax.service.'):
    importlib.import_module(name)
print('tensorflow' in sys.modules)
"""
  path = os.pathsep.join([str(tmp_path), str(ROOT)])
  result = subprocess.run(
    [sys.executable, '-c', program],
    env={**os.environ, 'PYTHONPATH': path},
    capture_output=True,
    text=True,
  )
  assert (result.returncode, result.stdout) == (0, 'False\n'), result.stderr
