"""Nothing that a data set names lies outside of its folder."""

import os
import pathlib

import deepfashion_folders
import fashion_ai_folders
import pytest

from fld_jax.configs import base
from fld_jax.datasets.deepfashion import coarse
from fld_jax.datasets.fashion_ai import folder as fashion_ai
from fld_jax.doctor import examine
from fld_jax.errors import Findings, InputError
from fld_jax.files.inside import inside, is_plain

PLACE = 'list.txt, line 3, image'


@pytest.fixture
def folders(tmp_path):
  """A data set, with links of all kinds, beside private files."""
  data, disk, private = (tmp_path / x for x in ('data', 'disk', 'private'))
  for folder in (data / 'images/sub', disk / 'sub', private):
    folder.mkdir(parents=True)
    (folder / 'a.jpg').write_bytes(b'')
  (data / 'linked').symlink_to(disk)
  (data / 'images/file.jpg').symlink_to(private / 'a.jpg')
  (data / 'images/relative.jpg').symlink_to('../../private/a.jpg')
  (data / 'images/folder').symlink_to(private)
  (data / 'images/cached.jpg').symlink_to(data / 'images/sub/a.jpg')
  (data / 'images/loop.jpg').symlink_to('loop.jpg')
  # A folder whose name begins as that of the images does.
  (data / 'images2').symlink_to(private)
  return data


@pytest.mark.parametrize(
  'base, name',
  [
    ('images', 'sub/a.jpg'),
    ('images', './sub//../sub/a.jpg'),
    ('images', '../images/sub/a.jpg'),
    ('images', 'missing/b.jpg'),
    ('images', 'cached.jpg'),
    ('images', 'loop.jpg'),
    ('images', '..a.jpg'),
    ('images', 'a' * 5000),
    ('linked', 'a.jpg'),
    ('linked', 'sub/a.jpg'),
    ('.', 'images/sub/a.jpg'),
  ],
)
def test_what_lies_inside(folders, base, name):
  found = inside(folders / base, name, PLACE, [folders])
  assert found == os.path.join(folders / base, name)


def test_an_absolute_name_may_lie_inside(folders):
  name = str(folders / 'images/sub/a.jpg')
  assert inside(folders / 'images', name, PLACE) == name


@pytest.mark.parametrize(
  'name, why',
  [
    ('../../private/a.jpg', 'lies outside'),
    ('../../../../../../etc/passwd', 'lies outside'),
    ('sub/../../../private/a.jpg', 'lies outside'),
    ('../../missing.jpg', 'lies outside'),
    ('..', 'lies outside'),
    ('../..', 'lies outside'),
    ('/etc/passwd', 'lies outside'),
    ('//etc/passwd', 'lies outside'),
    ('file.jpg', 'is a link'),
    ('relative.jpg', 'is a link'),
    ('folder/a.jpg', 'is a link'),
    ('folder/../private/a.jpg', 'is a link|lies outside'),
    ('../images2/a.jpg', 'is a link|lies outside'),
    ('a\0.jpg', 'NUL'),
  ],
)
def test_what_lies_outside(folders, name, why):
  with pytest.raises(InputError, match=why) as raised:
    inside(folders / 'images', name, PLACE)
  assert str(raised.value).startswith(f'{PLACE}: the image file ')
  assert str(raised.value).isprintable() and raised.value.kind == 'image'


def test_a_relative_folder(folders, monkeypatch):
  monkeypatch.chdir(folders)
  assert inside('images', 'sub/a.jpg', PLACE) == 'images/sub/a.jpg'
  with pytest.raises(InputError, match='lies outside'):
    inside('images', '../../private/a.jpg', PLACE)


@pytest.mark.parametrize(
  'name', ['stage1', 'all', 'a b', '.a', 'å', '...', '-rf', '*']
)
def test_plain_names(name):
  assert is_plain(name)
  assert (pathlib.Path('x') / name).parent == pathlib.Path('x')


@pytest.mark.parametrize(
  'name',
  ['', '.', '..', '/', '/a', 'a/b', '../a', 'a\\b', 'a\0', 'a\n', '\ud800']
  + ['a' * 256, None, 1, ['a'], {}],
)
def test_names_that_are_not_plain(name):
  assert not is_plain(name)


ESCAPES = ['../../private/p.jpg', '{root}/private/p.jpg', 'img/link.jpg']


def _mistakes(rows, findings) -> list[InputError]:
  list(rows)
  return findings.mistakes


@pytest.mark.parametrize('escape', ESCAPES)
def test_deepfashion(tmp_path, escape):
  name = escape.format(root=tmp_path)
  a = deepfashion_folders.A
  data = deepfashion_folders.write_folder(tmp_path / 'data')
  (tmp_path / 'private').mkdir()
  private = tmp_path / 'private/p.jpg'
  private.write_bytes((data / 'Img' / a).read_bytes())
  (data / 'Img/img/link.jpg').symlink_to(private)
  for path in deepfashion_folders.FOLDER:
    lines = (data / path).read_text().replace(a, name)
    (data / path).write_text(lines)
  findings = Findings(strict=False)
  rows = coarse.read_annotations(data, findings)
  (mistake,) = _mistakes(rows, findings)
  assert 'list_eval_partition.txt, line 3, image_name' in str(mistake)
  assert mistake.kind == 'image' and 'must lie in that folder' in str(mistake)


@pytest.mark.parametrize('linked', ['Img', 'Img/img'])
def test_folders_of_deepfashion_may_be_links(tmp_path, linked):
  data = deepfashion_folders.write_folder(tmp_path / 'data')
  (data / linked).rename(tmp_path / 'disk')
  (data / linked).symlink_to(tmp_path / 'disk')
  assert len(list(coarse.read_annotations(data))) == 3


@pytest.mark.parametrize('csv', ['train/Annotations/t.csv', 't.csv'])
@pytest.mark.parametrize('escape', [*ESCAPES, 'private/p.jpg'])
def test_fashion_ai(tmp_path, escape, csv):
  name, data = escape.format(root=tmp_path), tmp_path / 'data'
  fashion_ai_folders.images(tmp_path, 'private/p.jpg')
  for folder in (data / csv).parent, data / 'x':
    (folder / 'img').mkdir(parents=True, exist_ok=True)
    (folder / 'img/link.jpg').symlink_to(tmp_path / 'private/p.jpg')
  fashion_ai_folders.images(data, 'x/Images/1.jpg')
  lines = [fashion_ai_folders.line(x) for x in (name, 'Images/1.jpg')]
  fashion_ai_folders.write(data, csv, lines)
  findings = Findings(strict=False)
  (mistake,) = _mistakes(fashion_ai.read(data, findings), findings)
  assert 'line 2, image_id' in str(mistake) and mistake.kind == 'image'


def test_folders_of_fashion_ai_may_be_links(tmp_path):
  fashion_ai_folders.images(tmp_path / 'disk', '1.jpg')
  fashion_ai_folders.write(
    tmp_path / 'data/train', 't.csv', [fashion_ai_folders.line('Images/1.jpg')]
  )
  (tmp_path / 'data/train/Images').symlink_to(tmp_path / 'disk')
  assert len(list(fashion_ai.read(tmp_path / 'data'))) == 1


def test_doctor_counts_it_among_the_images(tmp_path):
  a = deepfashion_folders.A
  data = deepfashion_folders.write_folder(tmp_path / 'data')
  (data / 'Img' / a).rename(tmp_path / 'private.jpg')
  for path in deepfashion_folders.FOLDER:
    text = (data / path).read_text().replace(a, '../../private.jpg')
    (data / path).write_text(text)
  config = base.get_config('dataset=deepfashion').dataset
  config.manual_dir = str(data)
  found = examine.examine(config, tmp_path / 'out')
  counts = {kind: each['count'] for kind, each in found['mistakes'].items()}
  assert not found['ok'] and counts == {**dict.fromkeys(counts, 0), 'image': 1}
