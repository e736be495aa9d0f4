"""The site of docs/ is built without a warning, and asks no other host."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from places import ROOT

if importlib.util.find_spec('mkdocs') is None:
  pytest.skip(
    "mkdocs is absent: pip install '.[docs]'", allow_module_level=True
  )


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  folder = tmp_path_factory.mktemp('site')
  built = subprocess.run(
    [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-q', '-d', folder],
    cwd=ROOT,
    env=os.environ | {'NO_MKDOCS_2_WARNING': '1'},
    capture_output=True,
    text=True,
  )
  assert built.returncode == 0, built.stdout + built.stderr
  return folder


def test_every_page_is_in_the_site(site):
  docs = ROOT / 'docs'
  pages = [path.relative_to(docs) for path in docs.rglob('*.md')]
  assert len(pages) > 10
  for page in pages:
    assert (site / page.with_suffix('.html')).is_file()
  assert not (site / 'tables.py').exists()


def test_nothing_comes_from_another_host(site):
  """No page loads a script, a style, a font or an image from elsewhere."""
  loads = re.compile(
    r'<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)="?((?:https?:)?//[^">]+)'
    r'|url\(["\']?((?:https?:)?//[^)]+)|@import\s+["\']((?:https?:)?//[^"\']+)'
  )
  files = [*site.rglob('*.html'), *site.rglob('*.css')]
  assert len(files) > 20
  for path in files:
    assert loads.findall(path.read_text()) == [], path


def test_the_api_pages_have_the_docstrings(site):
  for page, name in (
    ('predictor', 'fld_jax.inference.predictor.load'),
    ('losses', 'fld_jax.training.losses.position_constraint'),
    ('metrics', 'fld_jax.metrics.normalised_error.normalised_errors'),
    ('geometry', 'fld_jax.geometry.crop_affine'),
    ('heatmaps', 'fld_jax.ops.heatmaps.soft_argmax'),
    ('pseudo_labels', 'fld_jax.cascade.pseudo_labels.routing_score'),
  ):
    html = (site / f'api/{page}.html').read_text()
    assert f'id="{name}"' in html, page
    assert 'Parameters:' in html, page
