"""`--mode=predict` and `Predictor`: anyone's images, a trained run."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from places import ROOT
from predicted import results_of
from xla_flags import xla_flags

from fld_jax import input_pipeline, landmark_sets, schema
from fld_jax.configs import trained
from fld_jax.errors import InputError
from fld_jax.files.images import decode
from fld_jax.inference import photos, predict_files, predictor
from fld_jax.inference.predictor import Predictor


@pytest.fixture(scope='module')
def records(synthetic_builder):
  return list(input_pipeline.Records(synthetic_builder, 'test'))


@pytest.fixture(scope='module')
def folder(records, tmp_path_factory):
  """The test images as files, and their boxes as a CSV."""
  folder = tmp_path_factory.mktemp('photos')
  lines = ['image,x1,y1,x2,y2']
  for i, record in enumerate(records):
    name = f'{"ab"[i % 2]}/{i:02}.jpg'
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(record['image'])
    lines.append(','.join([name, *map(repr, record['box'].tolist())]))
  (folder / 'boxes.csv').write_text('\n'.join(lines) + '\n')
  return folder


@pytest.fixture(scope='module')
def trained_predictor(trained_workdir):
  return Predictor.load(str(trained_workdir))


def evaluated(trained_workdir):
  """Example's id -> its keypoints (N, 3), as the evaluation wrote them."""
  path = trained_workdir / 'eval/test/predictions.json'
  return {
    result['file_name']: np.reshape(result['keypoints'], (-1, 3))
    for result in json.loads(path.read_text())
  }


def test_predicts_what_the_evaluation_did(
  trained_predictor, trained_workdir, records
):
  images = [decode(record['image']) for record in records]
  found = trained_predictor(images, [record['box'] for record in records])
  expected = evaluated(trained_workdir)
  for record, landmarks in zip(records, found, strict=True):
    keypoints = expected[record['id'].decode()]
    np.testing.assert_allclose(landmarks.positions, keypoints[:, :2], atol=1e-3)
    present = record['visibility'] != schema.ABSENT
    np.testing.assert_allclose(
      landmarks.confidence[present], keypoints[present, 2], atol=1e-5
    )


def test_items_do_not_depend_on_each_other(
  trained_predictor, records, monkeypatch
):
  monkeypatch.setattr(predictor, 'PIECE_ITEMS', 3)
  images = [decode(record['image']) for record in records[:7]]
  boxes = [None, *(record['box'] for record in records[1:7])]
  together = trained_predictor(images, boxes)
  for image, box, landmarks in zip(images, boxes, together, strict=True):
    (alone,) = trained_predictor([Image.fromarray(image)], [box])
    np.testing.assert_allclose(landmarks.positions, alone.positions, atol=1e-3)
    assert landmarks.route == alone.route


@pytest.mark.parametrize(
  ('shapes', 'least_full', 'count', 'sizes'),
  [
    ((1, 8, 64), 0.5, 1, [1]),
    ((1, 8, 64), 0.5, 3, [1, 1, 1]),
    ((1, 8, 64), 0.5, 4, [8]),
    ((1, 8, 64), 0.5, 9, [8, 1]),
    ((1, 8, 64), 0.5, 31, [8, 8, 8, 8]),
    ((1, 8, 64), 0.5, 100, [64, 64]),
    ((1, 8, 64), 0.0, 3, [8]),
    ((1, 8, 64), 0.0, 9, [64]),
    ((1, 8, 64), 0.0, 130, [64, 64, 8]),
    ((4, 8), 0.5, 1, [4]),
  ],
)
def test_sizes_of_batches(
  trained_predictor, monkeypatch, shapes, least_full, count, sizes
):
  monkeypatch.setattr(trained_predictor, 'shapes', shapes)
  monkeypatch.setattr(trained_predictor, '_least_full', least_full)
  assert list(trained_predictor._sizes(count)) == sizes


def test_the_size_of_batches_changes_nothing(
  trained_predictor, records, monkeypatch
):
  """Nor do pieces, nor the company of photos that cannot be used."""
  images = [decode(record['image']) for record in records[:11]]
  reference = trained_predictor(images)
  for shapes, seconds in [((4,), 0), ((8,), 9), ((4, 12), 9)]:
    monkeypatch.setattr(trained_predictor, 'shapes', shapes)
    monkeypatch.setattr(predictor, 'PIECE_SECONDS', seconds)
    given = [*images[:5], 'missing.jpg', *images[5:]]
    items = photos.Items(given, [None] * 12, 8)
    told = []
    found = dict(trained_predictor.predict(items, told.append))
    assert list(found) == [i for i in range(12) if i != 5]
    assert list(items.failures) == [5] and sum(told) == 12
    for one, other in zip(found.values(), reference, strict=True):
      np.testing.assert_allclose(one.positions, other.positions, atol=1e-3)
      np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-5)
      assert one.route == other.route


def test_prepared_items_are_those_of_a_call(trained_predictor, records):
  images = [decode(record['image']) for record in records[:3]]
  boxes = [record['box'].tolist() for record in records[:3]]
  examples = list(map(trained_predictor.prepare, images, boxes))
  expected = trained_predictor(images, boxes)
  found = trained_predictor.predict_prepared(examples)
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one.positions, other.positions, atol=1e-3)
    np.testing.assert_array_equal(one.box, other.box)
  with pytest.raises(InputError, match='a.jpg, box: is 0 x 4 pixels'):
    trained_predictor.prepare(images[0], (1, 1, 1, 5), 'a.jpg')


FRESH = """
import sys
import numpy as np
import fld_jax
detector = fld_jax.load(sys.argv[1], warm=True)
detector([np.zeros((40, 30, 3), np.uint8)] * 9)
"""


def test_compiled_programs_are_found_by_the_next_process(
  trained_workdir, tmp_path
):
  """In the user's cache folder, where nothing else is said."""
  env = {k: v for k, v in os.environ.items() if 'CACHE' not in k}
  env |= {'HOME': str(tmp_path), 'XLA_FLAGS': xla_flags(devices=1)}
  listings = []
  for _ in range(2):
    done = subprocess.run(
      [sys.executable, '-c', FRESH, str(trained_workdir)],
      env={**env, 'PYTHONPATH': str(ROOT)},
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    cache = tmp_path / '.cache/fld_jax/xla'
    programs = {p.name for p in cache.iterdir() if p.name.endswith('-cache')}
    listings.append({name for name in programs if 'chain' in name})
  # A program of the chain for each of the two sizes.
  assert len(listings[0]) == 2 and listings[1] == listings[0]


def test_an_unknown_runtime(trained_workdir):
  with pytest.raises(InputError, match="runtime is 'torch', valid .*jax, onnx"):
    Predictor.load(trained_workdir, runtime='torch')


def test_routes(trained_workdir, trained_predictor, records):
  images = [decode(record['image']) for record in records]
  found = trained_predictor(images, [record['box'] for record in records])
  routes = [landmarks.route for landmarks in found]
  assert {route[:2] for route in routes} == {('stage1', 'stage2')}
  metrics = json.loads((trained_workdir / 'eval/test/metrics.json').read_text())
  for branch in ('stage3/easy', 'stage3/hard'):
    count = sum(route[2] == branch for route in routes)
    assert count == metrics['network_passes'][branch] > 0
  config = trained.get_config(str(trained_workdir))
  config.routing.mode = 'average'
  both = Predictor.load(trained_workdir, config)(images[:1])
  assert both[0].route == ('stage1', 'stage2', 'stage3/easy', 'stage3/hard')


def test_a_turned_photo_gives_the_same_positions(
  trained_predictor, records, tmp_path
):
  upright = decode(records[0]['image'])
  exif = Image.Exif()
  exif[0x0112] = 6  # stored turned to the left, shown turned back
  Image.fromarray(np.rot90(upright)).save(tmp_path / 'a.png', exif=exif)
  turned, straight = trained_predictor([tmp_path / 'a.png', upright])
  np.testing.assert_array_equal(turned.positions, straight.positions)


def test_positions_follow_the_box(trained_predictor, records):
  """An item seen elsewhere on a larger canvas is the same item there."""
  image = decode(records[0]['image'])
  height, width = image.shape[:2]
  canvas = np.zeros((height + 40, width + 60, 3), np.uint8)
  canvas[30 : 30 + height, 50 : 50 + width] = image
  box = np.array([width // 4, height // 4, 3 * width // 4, 3 * height // 4])
  moved = box + [50, 30, 50, 30]
  alone, placed = trained_predictor([image, canvas], [box, moved])
  np.testing.assert_allclose(
    placed.positions, alone.positions + [50, 30], atol=1e-3
  )


@pytest.mark.parametrize(
  ('images', 'boxes', 'words'),
  [
    ('a.jpg', None, 'Give a list of images'),
    (['missing.jpg'], None, 'missing.jpg: is missing'),
    ([np.zeros((1, 1, 3), np.uint8)], None, 'box: is 1 x 1 pixels'),
    ([np.zeros((9, 9, 3), np.uint8)], [(1, 1, 1, 5)], 'box: is 0 x 4 pixels'),
    ([np.zeros((9, 9, 3), np.uint8)], [], '0 boxes for 1 images'),
    ([np.zeros((9, 9, 3), np.uint8)], ['abc'], "box: is 'abc', must be x1"),
    ([np.zeros((9, 9, 3), np.uint8)], [(1, 2, 3, {})], 'box: is .*must be x1'),
    ([np.zeros((9, 9, 3), np.uint8)], 7, 'Give a list of images, and one'),
    (b'\xff\xd8', None, 'Give a list of images'),
    ([b'\xff\xd8'], None, 'image 0: is of the type bytes, must be a path'),
    ([None], None, 'image 0: is of the type NoneType, must be a path'),
    (None, None, 'Give a list of images'),
    (3, None, 'Give a list of images'),
  ],
)
def test_mistakes(trained_predictor, images, boxes, words):
  with pytest.raises(InputError, match=words):
    trained_predictor(images, boxes)


def test_no_images(trained_predictor):
  assert trained_predictor([]) == []


def test_images_of_a_generator(trained_predictor):
  images = [np.full((9, 9, 3), i, np.uint8) for i in range(3)]
  found = trained_predictor((image for image in images), iter([None] * 3))
  for one, other in zip(found, trained_predictor(images), strict=True):
    np.testing.assert_array_equal(one.positions, other.positions)


def run(trained_workdir, folder, output, **options):
  config = trained.get_config(str(trained_workdir))
  return predict_files.predict_files(
    config,
    trained_workdir,
    str(folder),
    options.get('boxes'),
    output,
    options.get('overlays', True),
  )


def read(output):
  results = results_of(output)
  with (output / 'predictions.csv').open(newline='') as file:
    return results, list(csv.DictReader(file))


def test_files(
  trained_workdir, trained_predictor, folder, records, tmp_path, capsys
):
  found = run(trained_workdir, folder, tmp_path, boxes=folder / 'boxes.csv')
  assert capsys.readouterr().out.count('First answer after ') == 1
  assert found == {'ok': True, 'num_items': 16, 'failures': []}
  results, lines = read(tmp_path)
  # Sorted by name: a's images first.
  order = [*range(0, 16, 2), *range(1, 16, 2)]
  names = [f'{"ab"[i % 2]}/{i:02}.jpg' for i in order]
  assert [result['file_name'] for result in results] == names
  assert [line['image'] for line in lines] == names
  expected = trained_predictor(
    [folder / name for name in names], [records[i]['box'] for i in order]
  )
  for result, line, landmarks in zip(results, lines, expected, strict=True):
    keypoints = np.reshape(result['keypoints'], (-1, 3))
    np.testing.assert_allclose(keypoints[:, :2], landmarks.positions, atol=1e-4)
    x1, y1, width, height = result['bbox']
    box = [x1, y1, x1 + width, y1 + height]
    np.testing.assert_allclose(box, landmarks.box, atol=1e-4)
    scores = result['keypoint_scores']
    assert result['score'] == pytest.approx(np.mean(scores), abs=1e-5)
    assert line['category'] == ''  # of three types, and none was given
    assert result['category']['name'] == 'unknown'
    assert result['route'] == line['route'].split()
    for i, name in enumerate(landmark_sets.FASHION_8.names):
      probs = result['visibility_probs'][i]
      assert sum(probs) == pytest.approx(1, abs=1e-5)
      kind = schema.VISIBILITY_NAMES[int(np.argmax(probs))]
      assert result['visibility'][i] == line[f'{name}_visibility'] == kind
      cell = lambda field, name=name, line=line: float(line[f'{name}_{field}'])
      assert cell('x') == pytest.approx(keypoints[i, 0], abs=0.006)
      assert cell('y') == pytest.approx(keypoints[i, 1], abs=0.006)
      assert cell('probability') == pytest.approx(max(probs), abs=1e-5)
      # The probability that it is in the image.
      assert cell('confidence') == pytest.approx(1 - probs[2], abs=1e-5)
  overlays = sorted((tmp_path / 'overlays').rglob('*.jpg'))
  assert [f'{p.parent.name}/{p.name}' for p in overlays] == sorted(names)
  drawn = np.asarray(Image.open(overlays[0])).astype(int)
  photo = Image.open(folder / names[0])
  # Small photos are enlarged; below them may be a key.
  scale = drawn.shape[1] / photo.width
  height = round(scale * photo.height)
  assert 512 <= max(drawn.shape[1], height) <= 1024 and len(drawn) >= height
  image = np.asarray(photo.resize((drawn.shape[1], height))).astype(int)
  changed = (abs(drawn[:height] - image) > 90).any(axis=-1)
  assert 0.001 < changed.mean() < 0.5
  sheet = Image.open(tmp_path / 'overlays/contact_sheet.png')
  assert sheet.width > 600 and sheet.height > 300


def test_several_items_on_an_image_and_their_types(
  trained_workdir, folder, tmp_path
):
  boxes = tmp_path / 'boxes.csv'
  boxes.write_text(
    'image,x1,y1,x2,y2,clothes_type\n'
    'a/00.jpg,0,0,30,30,lower\nb/01.jpg,0,0,40,40,\na/00.jpg,5,5,40,40,upper\n'
    'elsewhere.jpg,0,0,9,9,\n'
  )
  found = run(trained_workdir, folder, tmp_path, boxes=boxes, overlays=False)
  assert found['num_items'] == 3
  results, lines = read(tmp_path)
  assert [r['file_name'] for r in results] == ['a/00.jpg'] * 2 + ['b/01.jpg']
  names = landmark_sets.FASHION_8.names
  given = [[*map(names.index, r['category']['keypoints'])] for r in results]
  assert given == [[4, 5, 6, 7], [0, 1, 2, 3, 6, 7], [*range(8)]]
  kinds = ['lower', 'upper', 'unknown']
  assert [r['category']['name'] for r in results] == kinds
  assert [line['category'] for line in lines] == ['lower', 'upper', '']
  assert all(
    len(r['keypoint_scores']) == len(r['keypoints']) // 3 for r in results
  )
  assert lines[0]['collar_left_x'] == '' and lines[1]['waist_left_x'] == ''
  assert lines[0]['waist_left_x'] and lines[2]['waist_left_x']
  assert not (tmp_path / 'overlays').exists()


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(
  trained_workdir, folder, tmp_path
):
  photos = tmp_path / 'photos'
  photos.mkdir()
  (photos / '0.jpg').write_text('a text file called .jpg')
  (photos / '1.jpg').write_bytes((folder / 'a/00.jpg').read_bytes())
  Image.new('RGB', (1, 1)).save(photos / '2.png')
  cut = (folder / 'a/02.jpg').read_bytes()
  (photos / '3.jpg').write_bytes(cut[: len(cut) // 2])
  output = tmp_path / 'output'
  command = [sys.executable, '-m', 'fld_jax.main', '--mode=predict']
  command += [f'--workdir={trained_workdir}', f'--images={photos}']
  result = subprocess.run(
    [*command, f'--output={output}'], capture_output=True, text=True
  )
  assert result.returncode == 1, result.stderr
  assert '1 of 4 items' in result.stdout
  results, _ = read(output)
  assert [r['file_name'] for r in results] == ['1.jpg']
  with (output / 'failures.csv').open(newline='') as file:
    failures = {line['image']: line['reason'] for line in csv.DictReader(file)}
  assert list(failures) == ['0.jpg', '2.png', '3.jpg']
  assert 'is not an image of a kind' in failures['0.jpg']
  assert 'is 1 x 1 pixels' in failures['2.png']
  assert 'is damaged' in failures['3.jpg']
  # Mended, nothing of the failures is left.
  for name in failures:
    (photos / name).unlink()
  assert run(trained_workdir, photos, output)['ok']
  assert not (output / 'failures.csv').exists()


def test_none_can_be_read(trained_workdir, tmp_path):
  (tmp_path / 'a.jpg').write_text('text')
  found = run(trained_workdir, tmp_path / 'a.jpg', tmp_path / 'output')
  assert not found['ok'] and len(found['failures']) == 1
  assert read(tmp_path / 'output') == ([], [])


def test_output_is_a_file(trained_workdir, folder, tmp_path):
  (tmp_path / 'output').write_text('')
  with pytest.raises(InputError, match='is a file, must be a folder'):
    run(trained_workdir, folder, tmp_path / 'output')
