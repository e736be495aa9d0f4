"""The documentation names what exists, and its runnable blocks run.

`<!-- runnable -->` on the line before a shell or Python block marks it.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata

import pytest
from PIL import Image
from places import ROOT

README = ROOT / 'README.md'
GUIDE = sorted((ROOT / 'docs').rglob('*.md'))
PAGES = [README, *GUIDE]
# What a command of the guide needs of a checkout.
CHECKOUT = ('configs', 'datasets', 'fld_jax', 'launch')
FENCE = re.compile(r'^```.*?^```$', re.MULTILINE | re.DOTALL)
RUNNABLE = re.compile(
  r'^<!-- runnable -->\n```(bash|python)\n(.*?)^```$', re.MULTILINE | re.DOTALL
)
LINK = re.compile(r'\]\(([^)\s]+)\)')
NAMED_FILE = re.compile(r'\b(?:docs|configs)/[\w/]+\.(?:md|py)\b')


def name(page: pathlib.Path) -> str:
  return str(page.relative_to(ROOT))


def prose(page: pathlib.Path) -> str:
  """A page without its code."""
  return re.sub(r'`[^`\n]*`', '', FENCE.sub('', page.read_text()))


def anchors(page: pathlib.Path) -> set[str]:
  """The anchors of a page's headings, as GitHub and mkdocs name them."""
  found = set()
  for heading in re.findall(
    r'^#+ (.+)$', FENCE.sub('', page.read_text()), re.M
  ):
    plain = unicodedata.normalize('NFKD', heading).encode('ascii', 'ignore')
    plain = re.sub(r'[^\w\s-]', '', plain.decode()).strip().lower()
    found.add(re.sub(r'[-\s]+', '-', plain))
  return found


def blocks(page: pathlib.Path) -> list[tuple[str, str]]:
  """The language and the text of a page's runnable blocks."""
  return RUNNABLE.findall(page.read_text())


def broken_links(page: pathlib.Path) -> list[str]:
  """The relative links of a page that lead nowhere."""
  broken = []
  for target in LINK.findall(prose(page)):
    if re.match(r'\w+:', target):
      continue
    path, _, anchor = target.partition('#')
    file = page.parent / path if path else page
    if not file.exists() or anchor and anchor not in anchors(file):
      broken.append(target)
  return broken


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_links_lead_somewhere(page):
  assert not broken_links(page)


def test_a_broken_link_is_found(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('# A head\n[a](#a-head) [b](#no) [c](no.md) [d](page.md)\n')
  assert broken_links(page) == ['#no', 'no.md']


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_named_files_exist(page):
  named = set(NAMED_FILE.findall(page.read_text()))
  assert not [file for file in sorted(named) if not (ROOT / file).is_file()]


@pytest.mark.parametrize('page', GUIDE, ids=name)
def test_a_page_of_the_site_links_only_to_the_site(page):
  """Links out of docs/ work in the repository, but not in the site."""
  outside = [
    target
    for target in LINK.findall(prose(page))
    if not re.match(r'\w+:', target)
    and not (page.parent / target).resolve().is_relative_to(ROOT / 'docs')
  ]
  assert not outside


def test_the_readme_is_short():
  assert len(README.read_text().splitlines()) <= 130


def test_the_commands_of_the_readme_can_be_started():
  """CI runs them; here they would start this test again."""
  shell = [text for language, text in blocks(README) if language == 'bash']
  commands = [
    shlex.split(line, comments=True)[0]
    for text in shell
    for line in text.splitlines()
  ]
  assert commands == ['./launch/local.sh', './launch/test.sh']
  assert all(os.access(ROOT / command, os.X_OK) for command in commands)


@pytest.fixture
def checkout(trained_workdir, synthetic_builder, tmp_path):
  """A folder as the guide's commands are started in, its run trained."""
  folder = tmp_path / 'checkout'
  for part in CHECKOUT:
    # Compiled modules come and go while other tests import them.
    shutil.copytree(
      ROOT / part,
      folder / part,
      symlinks=True,
      ignore=shutil.ignore_patterns('__pycache__'),
    )
  shutil.copytree(trained_workdir, folder / 'runs/quickstart')
  record = synthetic_builder.as_data_source('test')[0]
  Image.fromarray(record['image']).resize((240, 320)).save(folder / 'photo.jpg')
  return folder


def command(language: str, text: str) -> list[str]:
  """What starts a block by this Python, not by that of a new .venv."""
  if language == 'python':
    return [sys.executable, '-c', text]
  python = shlex.quote(sys.executable)
  # The environment's Python first: the second replacement brings in its path.
  text = text.replace('.venv/bin/python', python)
  text = text.replace('./launch/local.sh', f'{python} -m fld_jax.main')
  return ['bash', '-euo', 'pipefail', '-c', text]


@pytest.mark.parametrize(
  'page', [page for page in PAGES if blocks(page)], ids=name
)
def test_runnable_blocks(page, checkout, tmp_path):
  """In their order; the README's shell commands are for CI."""
  for language, text in blocks(page):
    if page == README and language == 'bash':
      continue
    done = subprocess.run(
      command(language, text),
      cwd=checkout,
      env={**os.environ, 'HOME': str(tmp_path / 'home')},
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, f'{text}\n{done.stdout}\n{done.stderr[-4000:]}'


def test_the_guide_has_runnable_blocks():
  pages = {page.stem for page in GUIDE if blocks(page)}
  assert {'quickstart', 'training', 'evaluation', 'prediction'} <= pages
