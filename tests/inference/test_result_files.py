"""From a labelling tool's export to files that it, and we, read again."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from predicted import results_of
from score_inputs import config_of

from fld_jax import landmark_sets
from fld_jax.configs import trained
from fld_jax.datasets.coco import folder as coco_folder
from fld_jax.errors import InputError
from fld_jax.evaluation.score import score
from fld_jax.inference import predict_files
from fld_jax.inference.result_files import Formats

NAMES = landmark_sets.FASHION_8.names
SLOTS = landmark_sets.FASHION_8.slots
TYPES = landmark_sets.FASHION_8.types


@pytest.fixture
def tool(tmp_path):
  """A folder of photos and a labelling tool's export of them."""
  rng = np.random.default_rng(0)
  images, annotations = [], []
  for i in range(4):
    name = f'photo {i}.jpg'
    (tmp_path / 'images').mkdir(exist_ok=True)
    pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'images' / name)
    images.append({'id': 40 - i, 'file_name': name, 'width': 80, 'height': 60})
  kinds = [code for code in TYPES if code in SLOTS]
  categories = [
    {
      'id': 10 * code,
      'name': TYPES[code],
      'keypoints': [NAMES[s].replace('_', ' ') for s in SLOTS[code]][::-1],
      'skeleton': [],
    }
    for code in kinds
  ]
  for k in range(7):
    code = kinds[k % len(kinds)]
    x, y = rng.uniform(0, 20, 2).round(3).tolist()
    annotations.append(
      {
        'id': 900 - k,
        'image_id': 40 - k % 4,
        'category_id': 10 * code,
        'bbox': [x, y, 40.123, 30.5],
        'keypoints': [20, 20, 2] * len(SLOTS[code]),
        'num_keypoints': len(SLOTS[code]),
        'iscrowd': 0,
        'area': 1200,
        'segmentation': [],
      }
    )
  data = {'images': images, 'categories': categories}
  return tmp_path, {**data, 'annotations': annotations}


def predict(trained_workdir, root, data, **options):
  path = root / 'export.json'
  path.write_text(json.dumps(data))
  return predict_files.predict_files(
    trained.get_config(str(trained_workdir)),
    trained_workdir,
    str(root / 'images'),
    path,
    root / 'out',
    False,
    Formats(**options),
  )


def test_from_an_export_and_back(trained_workdir, tool, capsys):
  root, data = tool
  tools = ('label_studio', 'cvat')
  found = predict(trained_workdir, root, data, tools=tools, model='run')
  assert found == {'ok': True, 'num_items': 7, 'failures': []}
  printed = capsys.readouterr().out
  assert 'predictions.csv, label_studio.json, label_studio.xml, cvat' in printed
  assert 'unknown' not in printed
  results = {entry['id']: entry for entry in results_of(root / 'out')}
  assert results.keys() == {entry['id'] for entry in data['annotations']}
  for given in data['annotations']:
    entry = results[given['id']]
    for field in ('image_id', 'category_id'):
      assert entry[field] == given[field]
    np.testing.assert_allclose(entry['bbox'], given['bbox'], atol=1e-6)
    assert len(entry['keypoints']) == len(given['keypoints'])
  written = json.loads((root / 'out/predictions.json').read_text())
  assert written['categories'] == data['categories']
  order = sorted(written['images'], key=lambda image: image['file_name'])
  assert order == data['images']
  with (root / 'out/predictions.csv').open(newline='') as file:
    lines = list(csv.DictReader(file))
  for line, entry in zip(lines, results_of(root / 'out'), strict=True):
    assert line['image'] == entry['file_name']
    assert line['category'] == entry['category']['name']
    points = np.reshape(entry['keypoints'], (-1, 3))[:, :2]
    names = [n.replace(' ', '_') for n in entry['category']['keypoints']]
    cells = [[float(line[f'{n}_{axis}']) for axis in 'xy'] for n in names]
    np.testing.assert_allclose(cells, points, atol=0.006)
  tasks = json.loads((root / 'out/label_studio.json').read_text())
  assert [task['data']['image'] for task in tasks] == [
    f'/data/local-files/?d=photo%20{i}.jpg' for i in range(4)
  ]
  boxes = [
    region
    for task in tasks
    for region in task['predictions'][0]['result']
    if region['type'] == 'rectanglelabels'
  ]
  assert len(boxes) == 7
  cvat = json.loads((root / 'out/cvat.json').read_text())
  assert len(cvat['annotations']) == 7
  # Our own readers: as truth that scores itself, in each form.
  (root / 'annotations').mkdir()
  truth = root / 'annotations/val.json'
  truth.write_text((root / 'out/predictions.json').read_text())
  rows = list(coco_folder.read(root, 'annotations/{split}.json', 'images'))
  labelled = [r for r in results.values() if r['num_keypoints']]
  assert len(rows) == len(labelled)
  config = config_of('coco_keypoints', root, root)
  for name in ('predictions.json', 'predictions.csv', 'cvat.json'):
    measured = score(config, root / 'out' / name, 'val', root / 'score')
    assert measured['num_examples'] == len(rows)
    assert measured['epe']['micro'] == pytest.approx(0, abs=0.01)
  # And as the boxes of another prediction, with the same ids.
  again = json.loads((root / 'out/predictions.json').read_text())
  predict(trained_workdir, root, again)
  for entry in results_of(root / 'out'):
    before = results[entry['id']]
    np.testing.assert_allclose(
      entry['keypoints'], before['keypoints'], atol=0.01
    )


def test_an_export_without_annotations(trained_workdir, tool, capsys):
  """The images of a tool in which nothing is annotated yet."""
  root, data = tool
  data['annotations'] = []
  data['categories'] = data['categories'][:1]
  assert predict(trained_workdir, root, data)['num_items'] == 4
  results = results_of(root / 'out')
  assert [entry['image_id'] for entry in results] == [40, 39, 38, 37]
  assert {entry['category_id'] for entry in results} == {10}
  assert all(entry['bbox'] == [0, 0, 80, 60] for entry in results)
  assert 'unknown' not in capsys.readouterr().out


def test_photos_that_exif_data_turn(trained_workdir, tool):
  """Sizes and positions are those of the photo as it is shown."""
  root, data = tool
  exif = Image.Exif()
  exif[0x0112] = 6
  for path in sorted((root / 'images').iterdir()):
    with Image.open(path) as image:
      image.save(path, exif=exif)
  data['annotations'] = []
  predict(trained_workdir, root, data)
  images = json.loads((root / 'out/predictions.json').read_text())['images']
  assert {(image['width'], image['height']) for image in images} == {(60, 80)}


def test_formulas_of_spreadsheets(trained_workdir, tool):
  root, data = tool
  name = '=cmd|calc.jpg'
  (root / 'images/photo 0.jpg').rename(root / 'images' / name)
  data['images'][0]['file_name'] = name
  predict(trained_workdir, root, data)
  text = (root / 'out/predictions.csv').read_text()
  assert f"\n'{name}," in text and f'\n{name}' not in text
  assert name in {entry['file_name'] for entry in results_of(root / 'out')}


@pytest.mark.parametrize('tools', [('labelstudio',), ('cvat', '')])
def test_tools_that_do_not_exist(tools):
  with pytest.raises(InputError, match='must be of label_studio, cvat'):
    Formats(tools)


def test_the_command_line(trained_workdir, tool):
  root, data = tool
  (root / 'export.json').write_text(json.dumps(data))
  command = [sys.executable, '-m', 'fld_jax.main', '--mode=predict']
  command += [f'--workdir={trained_workdir}', f'--images={root}/images']
  command += [f'--boxes={root}/export.json', f'--output={root}/out']
  run = lambda *flags: subprocess.run(
    [*command, *flags], capture_output=True, text=True
  )
  wrong = run('--pre_annotations=cvat,labelbox')
  assert wrong.returncode == 2 and "is 'labelbox', must be of" in wrong.stderr
  assert not (root / 'out').exists()
  right = run('--pre_annotations=label_studio', '--image_prefix=http://a/')
  assert right.returncode == 0, right.stderr
  (first, *_) = json.loads((root / 'out/label_studio.json').read_text())
  assert first['data']['image'] == 'http://a/photo%200.jpg'
  (prediction,) = first['predictions']
  assert prediction['model_version'] == trained_workdir.name
  assert not (root / 'out/cvat.json').exists()


@pytest.mark.parametrize(
  'form',
  [
    '/data/local-files/?d=photo%20{}.jpg',
    '/data/local-files/?d=set/photo%20{}.jpg',
    '/data/upload/7/photo%20{}.jpg',
    'http://host/photo%20{}.jpg',
  ],
)
def test_addresses_of_label_studio(trained_workdir, tool, form):
  """Its export names images by addresses, which its tasks then have again."""
  root, data = tool
  for i, image in enumerate(data['images']):
    image['file_name'] = form.format(i)
  found = predict(trained_workdir, root, data, tools=('label_studio',))
  assert found['num_items'] == 7
  tasks = json.loads((root / 'out/label_studio.json').read_text())
  addresses = [task['data']['image'] for task in tasks]
  assert addresses == [form.format(i) for i in range(4)]
