"""Imports point one way, and TensorFlow is never among them."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'fld_jax'

# A module may import modules of earlier layers only.
LAYERS = (
  ('errors', 'schema', 'geometry', 'parallel', 'processes', 'config', 'files'),
  (
    'caffe_files',
    'coco_metrics',
    'configs',
    'curves',
    'datasets',
    'heatmaps',
    'keypoint_metrics',
    'kmeans',
    'losses',
    'metrics',
    'models',
    'models.cpu',
    'models.dfa',
    'models.fpn',
    'models.layers',
    'models.regression',
    'models.resnet',
    'models.simple_baselines',
    'models.vgg',
    'pseudo_labels',
    'report_table',
    'retrieval_metrics',
    'schedules',
    'sides',
    'tables',
    'torch_files',
    'visualize',
  ),
  (
    'checkpoint',
    'coco_objects',
    'doctor_sheets',
    'doctor_table',
    'export_files',
    'input_pipeline',
    'item_boxes',
    'photos',
    'prediction_files',
    'pretrained',
    'report_papers',
    'row_index',
    'train_step',
  ),
  ('evaluation_files', 'near_duplicates', 'score', 'stage'),
  ('checks', 'convert', 'doctor', 'evaluate', 'predict', 'prepare'),
  ('export', 'predictor', 'train'),
  (
    'cascade',
    'predict_files',
    'report',
    'report_content',
    'report_data_plots',
    'report_gallery',
    'report_html',
    'report_pictures',
    'report_plots',
    'report_runs',
    'report_tables',
  ),
  ('ablation',),
  ('run',),
  ('main',),
)
# And these, of its own layer.
SAME_LAYER = {
  ('config', 'errors'),
  ('evaluate', 'predict'),
  ('files', 'errors'),
  ('geometry', 'errors'),
  ('geometry', 'schema'),
  ('keypoint_metrics', 'metrics'),
  ('models', 'models.dfa'),
  ('models', 'models.fpn'),
  ('models', 'models.regression'),
  ('models', 'models.simple_baselines'),
  ('models.dfa', 'models.layers'),
  ('models.dfa', 'models.vgg'),
  ('models.fpn', 'models.layers'),
  ('models.fpn', 'models.resnet'),
  ('models.layers', 'models.cpu'),
  ('models.regression', 'models.layers'),
  ('models.regression', 'models.resnet'),
  ('models.regression', 'models.vgg'),
  ('models.resnet', 'models.layers'),
  ('models.simple_baselines', 'models.layers'),
  ('models.simple_baselines', 'models.resnet'),
  ('models.vgg', 'models.layers'),
  ('parallel', 'errors'),
  ('processes', 'errors'),
  ('pseudo_labels', 'kmeans'),
  ('report', 'report_content'),
  ('report', 'report_html'),
  ('report', 'report_plots'),
  ('report', 'report_runs'),
  ('report_content', 'report_data_plots'),
  ('report_content', 'report_gallery'),
  ('report_content', 'report_html'),
  ('report_content', 'report_pictures'),
  ('report_content', 'report_plots'),
  ('report_content', 'report_runs'),
  ('report_content', 'report_tables'),
  ('report_data_plots', 'report_plots'),
  ('report_data_plots', 'report_runs'),
  ('report_data_plots', 'report_tables'),
  ('report_gallery', 'report_runs'),
  ('report_gallery', 'report_tables'),
  ('report_html', 'report_gallery'),
  ('report_pictures', 'report_data_plots'),
  ('report_pictures', 'report_runs'),
  ('report_pictures', 'report_tables'),
  ('report_plots', 'report_runs'),
  ('report_plots', 'report_tables'),
  ('report_table', 'tables'),
  ('report_tables', 'report_runs'),
  ('retrieval_metrics', 'metrics'),
  ('schema', 'errors'),
  ('tables', 'metrics'),
  ('visualize', 'metrics'),
  ('visualize', 'tables'),
}
LAYER = {name: i for i, names in enumerate(LAYERS) for name in names}
# Folders of which any file may import any other.
FOLDERS = ('configs', 'datasets')


def unit(dotted):
  """'fld_jax.models.vgg' -> 'models.vgg'; 'fld_jax.datasets.x' -> 'datasets'"""
  parts = dotted.split('.')[1:]
  return parts[0] if parts[0] in FOLDERS else '.'.join(parts)


def source_files():
  # glob, not rglob: datasets/ and configs/ are links, which rglob passes by.
  for path in [*PACKAGE.glob('*.py'), *PACKAGE.glob('*/*.py')]:
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
  (unit(name), unit(target))
  for name, targets in IMPORTS.items()
  for target in targets
  if target.startswith('fld_jax.') and unit(name) != unit(target)
}


def test_the_reader_sees_every_form_of_import():
  source = """
import numpy as np, fld_jax.schema
from fld_jax import losses
from fld_jax.models.vgg import VGG
def f():
  from tensorflow import data
"""
  assert set(imported(source)) == {
    'numpy',
    'fld_jax.schema',
    'fld_jax.losses',
    'fld_jax.models.vgg',
    'tensorflow',
  }


def test_every_module_has_a_place_in_the_order():
  assert {unit(name) for name in FILES} == set(LAYER)


def test_imports_point_one_way():
  wrong = [
    f'{importer} imports {target}'
    for importer, target in sorted(EDGES - SAME_LAYER)
    if LAYER[target] >= LAYER[importer]
  ]
  assert not wrong


def test_every_listed_exception_is_within_a_layer_and_in_use():
  assert all(LAYER[a] == LAYER[b] for a, b in SAME_LAYER)
  assert SAME_LAYER <= EDGES
  assert not {(b, a) for a, b in SAME_LAYER} & SAME_LAYER


@pytest.mark.parametrize(
  ('package', 'importers'),
  [
    ('orbax', {'fld_jax.checkpoint', 'fld_jax.processes'}),
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
for name in {sorted(FILES)!r}:
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
