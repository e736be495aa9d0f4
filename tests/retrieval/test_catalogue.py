"""--mode=index and --mode=search on folders of photos."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fld_jax.errors import InputError
from fld_jax.pretrained import imagenet
from fld_jax.retrieval import catalogue
from fld_jax.retrieval.features import Extractor


@pytest.fixture(autouse=True, scope='module')
def _installed():
  pytest.importorskip('faiss')
  try:
    imagenet.installed(imagenet.find('efficientnet_lite0'))
  except InputError as missing:
    pytest.skip(str(missing))


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """Seven photos, of which no two look alike."""
  folder = tmp_path_factory.mktemp('photos')
  for i in range(7):
    rng = np.random.default_rng(i)
    cells = rng.integers(0, 255, (3 + i, 3, 3))
    image = np.kron(cells, np.ones((20, 24, 1))).astype(np.uint8)
    Image.fromarray(image).save(folder / f'{i}.png')
  return folder


@pytest.fixture(scope='module')
def index(photos, tmp_path_factory):
  folder = tmp_path_factory.mktemp('index') / 'I'
  found = catalogue.make(str(photos), folder)
  assert found == {'ok': True, 'num_items': 7, 'failures': []}
  return folder


def test_every_photo_finds_itself_first(index, photos, tmp_path):
  found = catalogue.search(index, str(photos), tmp_path, k=3)
  assert found['ok'] and len(found['matches']) == 7
  for image, answer in found['matches']:
    assert answer[0][0] == image and len(answer) == 3
    assert answer[0][1] == pytest.approx(1, abs=1e-4)
  with open(tmp_path / 'matches.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 21
  assert [row['image'] for row in rows[::3]] == [f'{i}.png' for i in range(7)]
  assert Image.open(tmp_path / 'matches.png').size[0] > 4 * 150


def test_search_is_brute_force(index, photos, tmp_path):
  from fld_jax.inference.photos import Items

  names = sorted(path.name for path in photos.iterdir())
  items = Items([photos / name for name in names], [None] * 7, 8)
  ((_, x),) = Extractor('box')(items)
  x = np.asarray(x, np.float64)
  wanted = np.argsort(-(x @ x.T), axis=1)
  found = catalogue.search(index, str(photos), tmp_path, k=7)
  for i, (_, answer) in enumerate(found['matches']):
    assert [name for name, _ in answer] == [names[j] for j in wanted[i]]


def test_boxes(photos, tmp_path):
  """A photo with two items has two entries, and one without a box none."""
  boxes = tmp_path / 'boxes.csv'
  boxes.write_text(
    'image,x1,y1,x2,y2\n5.png,0,0,40,160\n5.png,32,0,72,160\n1.png,0,0,72,80\n'
  )
  found = catalogue.make(str(photos), tmp_path / 'I', boxes=boxes)
  assert found['num_items'] == 3
  items = json.loads((tmp_path / 'I/items.json').read_text())
  assert [item['image'] for item in items] == ['1.png', '5.png', '5.png']
  assert items[1]['box'] == [0, 0, 40, 160]


def test_a_photo_that_cannot_be_read_is_left_out(photos, tmp_path, capsys):
  copy = tmp_path / 'photos'
  shutil.copytree(photos, copy)
  (copy / '3.png').write_bytes(b'no image')
  found = catalogue.make(str(copy), tmp_path / 'I')
  assert not found['ok'] and found['num_items'] == 6
  assert [name for name, _ in found['failures']] == ['3.png']
  assert 'Left out: ' in capsys.readouterr().out
  items = json.loads((tmp_path / 'I/items.json').read_text())
  assert '3.png' not in [item['image'] for item in items]


@pytest.mark.parametrize(
  ('field', 'value', 'word'),
  [
    ('version', 2, 'version: is 2, must be 1'),
    ('features', 'nope', "features: is 'nope', must be one of landmarks"),
    ('vectors', None, 'vectors: is None, must be an object'),
    ('run', 'abc', 'run: must be of a run'),
  ],
)
def test_a_changed_description_is_refused(
  index, photos, tmp_path, field, value, word
):
  copy = tmp_path / 'I'
  shutil.copytree(index, copy)
  about = json.loads((copy / 'index.json').read_text())
  (copy / 'index.json').write_text(json.dumps({**about, field: value}))
  with pytest.raises(InputError, match=word):
    catalogue.search(copy, str(photos), tmp_path / 'out')


def test_a_list_of_other_items_is_refused(index, photos, tmp_path):
  copy = tmp_path / 'I'
  shutil.copytree(index, copy)
  (copy / 'items.json').write_text('[{"image": "1.png", "box": null}]')
  with pytest.raises(InputError, match='must be a list of 7 items'):
    catalogue.search(copy, str(photos), tmp_path / 'out')
  with pytest.raises(InputError, match='is no index'):
    catalogue.search(photos, str(photos), tmp_path / 'out')


def test_a_name_outside_of_the_folder_is_not_shown(index, photos, tmp_path):
  """An index of a stranger leads to no private picture."""
  copy = tmp_path / 'I'
  shutil.copytree(index, copy)
  secret = tmp_path / 'secret.png'
  Image.new('RGB', (64, 64), (255, 0, 255)).save(secret)
  items = json.loads((copy / 'items.json').read_text())
  for item in items:
    item['image'] = str(secret)
  (copy / 'items.json').write_text(json.dumps(items))
  catalogue.search(copy, str(photos / '0.png'), tmp_path / 'out', k=2)
  sheet = np.asarray(Image.open(tmp_path / 'out/matches.png').convert('RGB'))
  assert not (sheet == [255, 0, 255]).all(axis=-1).any()


def test_at_the_landmarks_of_a_run(trained_workdir, photos, tmp_path):
  one = str(photos / '1.png')
  with pytest.raises(InputError, match='--features=landmarks needs'):
    catalogue.make(one, tmp_path / 'I', features='landmarks')
  catalogue.make(str(photos), tmp_path / 'I', trained_workdir)
  found = catalogue.search(tmp_path / 'I', one, tmp_path / 'out', k=2)
  ((image, answer),) = found['matches']
  assert answer[0][0] == image == '1.png'
  about = json.loads((tmp_path / 'I/index.json').read_text())
  assert about['features'] == 'landmarks' and about['run']
  path = tmp_path / 'I/index.json'
  path.write_text(json.dumps({**about, 'run': '0' * 32}))
  with pytest.raises(InputError, match='was made with another run'):
    catalogue.search(tmp_path / 'I', one, tmp_path / 'out')
  path.write_text(json.dumps({**about, 'workdir': '/nowhere'}))
  with pytest.raises(InputError, match='is not there any more'):
    catalogue.search(tmp_path / 'I', one, tmp_path / 'out')
  with pytest.raises(InputError, match='holds something'):
    catalogue.make(one, tmp_path / 'I')
