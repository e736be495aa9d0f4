"""Predictions as COCO files, read by pycocotools and by our own readers."""

import contextlib
import dataclasses
import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from score_inputs import config_of

from fld_jax import landmark_sets, schema
from fld_jax.datasets.coco import folder
from fld_jax.errors import InputError
from fld_jax.evaluation.score import score
from fld_jax.files import coco
from fld_jax.inference import coco_output, labelling_tools
from fld_jax.inference.landmarks import Landmarks

SIZE = (60, 40)
FILES = ['a/1.jpg', 'b 2.jpg', 'c.jpg']
SHIRT = ('collar_left', 'collar_right', 'hem_left', 'hem_right')
SKIRT = ('hem_left', 'hem_right', 'waist_left', 'waist_right')


def category(key, name, names, **more):
  return {'id': key, 'name': name, 'keypoints': list(names), **more}


def landmarks_of(categories):
  found = coco.read_categories('f', categories)
  return coco.landmark_set(list(found.values()), 'f')


SETS = {
  'one': landmarks_of([category(4, 'shirt', SHIRT, skeleton=[[1, 2], [2, 4]])]),
  'two': landmarks_of(
    [category(4, 'shirt', SHIRT), category(9, 'skirt', SKIRT)]
  ),
  'two alike': landmarks_of(
    [category(4, 'shirt', SHIRT), category(9, 'top', SHIRT)]
  ),
  'fashion': landmark_sets.FASHION_8,
  'people': landmark_sets.COCO_17,
}


def made_up(landmark_set, rng, code=0, visibility=True, size=SIZE):
  """The landmarks of an item within its image, of a type if one is given."""
  count = landmark_set.num_landmarks
  every = np.arange(count)
  present = np.isin(every, landmark_set.slots.get(code, every))
  corner = rng.uniform(0, 10, 2)
  probs = rng.dirichlet([1, 1, 1], count)
  return Landmarks(
    landmark_set=landmark_set,
    box=np.concatenate([corner, corner + rng.uniform(15, 28, 2)]),
    positions=rng.uniform(0, size, (count, 2)),
    present=present,
    visibility=tuple(
      np.array(schema.VISIBILITY_NAMES)[probs.argmax(axis=1)].tolist()
    )
    if visibility
    else None,
    visibility_probs=probs if visibility else None,
    confidence=rng.random(count),
    score=rng.random(),
    route=('stage1', 'stage2/easy'),
    stages={},
    category=landmark_set.types.get(code, ''),
  )


def write(path, document, annotations):
  with path.open('wb') as file:
    writer = coco_output.Writer(file)
    for annotation in annotations:
      writer.write(annotation)
    writer.close(document.rest())
  return path


def opened(path):
  with contextlib.redirect_stdout(io.StringIO()):
    return COCO(str(path))


def make(landmark_set, tmp_path, codes=(0, 0, 0, 0), export=None, **options):
  """A file of items on FILES, the first of which has two; it and the items."""
  rng = np.random.default_rng(len(codes))
  items = [made_up(landmark_set, rng, code, **options) for code in codes]
  images = [FILES[0], *FILES][: len(items)]
  document = coco_output.Document(landmark_set, export)
  indices = (
    [None] * len(items)
    if export is None
    else options.get('indices', range(len(items)))
  )
  annotations = [
    document.add(image, SIZE, found, index)
    for image, found, index in zip(images, items, indices, strict=True)
  ]
  path = write(tmp_path / 'predictions.json', document, annotations)
  return path, document, annotations, items


@pytest.mark.parametrize('visibility', [True, False])
@pytest.mark.parametrize('title', SETS)
def test_pycocotools_opens_it(tmp_path, title, visibility):
  landmark_set = SETS[title]
  code = max(landmark_set.types, default=0)
  codes = (code, 0, code, code)
  path, document, annotations, items = make(
    landmark_set, tmp_path, codes, visibility=visibility
  )
  found = opened(path)
  assert [found.imgs[i]['file_name'] for i in sorted(found.imgs)] == FILES
  assert len(found.anns) == 4 and len(found.getAnnIds(imgIds=1)) == 2
  assert {(i['width'], i['height']) for i in found.imgs.values()} == {SIZE}
  loaded = found.loadRes(annotations)
  for key, item, code in zip(sorted(found.anns), items, codes, strict=True):
    entry = found.anns[key]
    assert loaded.anns[key]['score'] == pytest.approx(item.score, abs=1e-6)
    of = found.cats[entry['category_id']]
    expected = landmark_set.types.get(code)
    if expected is None and len(landmark_set.types) != 1:
      expected = 'unknown' if landmark_set.types else 'item'
    assert of['name'] == (expected or 'shirt')
    slots = [landmark_set.names.index(n) for n in of['keypoints']]
    assert slots == list(landmark_set.slots.get(code, range(len(item.names))))
    points = np.reshape(entry['keypoints'], (-1, 3))
    np.testing.assert_allclose(points[:, :2], item.positions[slots], atol=1e-5)
    np.testing.assert_allclose(
      entry['keypoint_scores'], item.confidence[slots], atol=1e-6
    )
    assert entry['num_keypoints'] == (points[:, 2] > 0).sum()
    x, y, w, h = entry['bbox']
    np.testing.assert_allclose([x, y, x + w, y + h], item.box, atol=1e-5)
    assert entry['area'] == pytest.approx(w * h, rel=1e-4)
    assert entry['iscrowd'] == 0 and entry['segmentation'] == []
    for slot, v in zip(slots, points[:, 2], strict=True):
      unsure = item.confidence[slot] < coco_output.UNSURE
      told = item.visibility[slot] if visibility else 'visible'
      if told == 'truncated':
        assert v == 0
      else:
        assert v == (1 if unsure or told == 'occluded' else 2)
    for a, b in of['skeleton']:
      pair = of['keypoints'][a - 1], of['keypoints'][b - 1]
      assert pair in landmark_set.skeleton


@pytest.mark.parametrize(
  'position, v',
  [([0, 0], 2), ([60.9, 40.9], 2), ([-1, 5], 2), ([62, 5], 0), ([5, -2], 0)],
)
def test_landmarks_outside_of_the_image(position, v):
  item = made_up(SETS['one'], np.random.default_rng(0), visibility=False)
  item.confidence[:] = 1
  item.positions[2] = position
  assert coco_output.marks(item, SIZE)[2] == v


def test_how_far_landmarks_may_be_off(tmp_path):
  """Null for a landmark that the item lacks, and where it cannot be told."""
  fashion = landmark_sets.FASHION_8
  item = made_up(fashion, np.random.default_rng(0), code=2)
  far = np.arange(8.0)
  far[6] = np.inf
  item = dataclasses.replace(item, error_50=far, error_90=2 * far)
  document = coco_output.Document(fashion)
  path = write(
    tmp_path / 'a.json', document, [document.add('a.jpg', SIZE, item)]
  )
  (found,) = json.loads(path.read_text())['annotations']
  # Trousers have the landmarks 4 to 7.
  assert found['error_50'] == [4, 5, None, 7]
  assert found['error_90'] == [8, 10, None, 14]
  full = made_up(fashion, np.random.default_rng(0))
  full = dataclasses.replace(
    full, present=item.present, error_50=far, error_90=far
  )
  found = document.add('a.jpg', SIZE, full)
  assert found['error_50'] == [None] * 4 + [4, 5, None, 7]
  plain = document.add(
    'a.jpg', SIZE, made_up(fashion, np.random.default_rng(0))
  )
  assert 'error_50' not in plain and 'error_90' not in plain


def export_data(rng=None, **changes):
  """A labelling tool's file: two categories, names in its own writing."""
  shirt = [name.replace('_', ' ') for name in SHIRT[::-1]]
  data = {
    'images': [
      {'id': key, 'file_name': f'up/{name}'}
      for key, name in zip((31, 17, 99), FILES, strict=True)
    ],
    'categories': [
      category(12, 'shirt', shirt, skeleton=[[1, 2]], supercategory='clothes'),
      category(3, 'skirt', SKIRT),
    ],
    'annotations': [
      {'id': 70, 'image_id': 31, 'category_id': 12, 'bbox': [1, 2, 30, 20]},
      {'id': 71, 'image_id': 31, 'category_id': 3, 'bbox': [2, 3, 30, 20]},
      {'id': 50, 'image_id': 17, 'category_id': 3, 'bbox': [3, 4, 30, 20]},
      {'id': 60, 'image_id': 99, 'category_id': 12, 'bbox': [4, 5, 30, 20]},
    ],
  }
  return {**data, **changes}


def text_ids(data):
  for entry in data['annotations']:
    entry |= {k: str(entry[k]) for k in ('id', 'image_id', 'category_id')}
  for entry in data['images'] + data['categories']:
    entry['id'] = str(entry['id'])


def float_ids(data):
  for entry in data['annotations'] + data['images']:
    entry['id'] = float(entry['id'])


@pytest.mark.parametrize('change', [lambda data: None, text_ids, float_ids])
def test_the_ids_and_names_of_a_labelling_tool(tmp_path, change):
  data = export_data()
  change(data)
  export = coco_output.Export('e.json', json.loads(json.dumps(data)))
  landmark_set = SETS['two']
  path, document, annotations, items = make(
    landmark_set, tmp_path, (1, 2, 2, 1), export
  )
  for entry, given in zip(annotations, data['annotations'], strict=True):
    for field in ('id', 'image_id', 'category_id'):
      assert entry[field] == given[field]
  found = json.loads(path.read_text())
  assert found['categories'][0] == data['categories'][0]
  assert found['categories'][1]['keypoints'] == list(SKIRT)
  names = {image['id']: image['file_name'] for image in data['images']}
  assert {i['id']: i['file_name'] for i in found['images']} == names
  # The shirt's landmarks stand in the order of its category.
  points = np.reshape(annotations[0]['keypoints'], (-1, 3))[:, :2]
  slots = [landmark_set.names.index(name) for name in SHIRT[::-1]]
  np.testing.assert_allclose(points, items[0].positions[slots], atol=1e-5)
  assert document.notes() == []
  assert len(opened(path).anns) == 4


def test_ids_of_a_tool_that_are_missing_or_stand_twice(tmp_path):
  data = export_data()
  del data['annotations'][1]['id']
  data['annotations'][3]['id'] = 70
  _, _, annotations, _ = make(
    SETS['two'], tmp_path, (1, 2, 2, 1), coco_output.Export('e.json', data)
  )
  assert [entry['id'] for entry in annotations] == [70, 71, 50, 72]


def test_an_image_that_the_tool_does_not_have(tmp_path):
  document = coco_output.Document(
    SETS['two'], coco_output.Export('e.json', export_data())
  )
  item = made_up(SETS['two'], np.random.default_rng(0), 2)
  entry = document.add('new.jpg', SIZE, item)
  assert (entry['id'], entry['image_id'], entry['category_id']) == (72, 100, 3)
  assert document.images == [
    {'id': 100, 'file_name': 'new.jpg', 'width': 60, 'height': 40}
  ]
  # By its name an image is the tool's, though no box of the tool is on it.
  assert document.add('b 2.jpg', SIZE, item)['image_id'] == 17


@pytest.mark.parametrize('used', [7, 8])
def test_categories_without_landmarks(tmp_path, used):
  """Label Studio's rectangles are a category of their own."""
  data = export_data(
    categories=[{'id': 7, 'name': 'garment'}, category(8, 'default', SHIRT)]
  )
  for entry in data['annotations']:
    entry['category_id'] = used
  path, document, annotations, items = make(
    SETS['one'], tmp_path, (1, 1, 1, 1), coco_output.Export('e.json', data)
  )
  assert {entry['category_id'] for entry in annotations} == {used}
  rectangles, points = document.categories
  assert rectangles['keypoints'] == (list(SHIRT) if used == 7 else [])
  assert points['keypoints'] == list(SHIRT)
  np.testing.assert_allclose(
    np.reshape(annotations[2]['keypoints'], (-1, 3))[:, :2],
    items[2].positions,
    atol=1e-5,
  )


def test_landmarks_that_the_tool_does_not_name(tmp_path):
  data = export_data(categories=[category(12, 'shirt', ['hem left', 'button'])])
  for entry in data['annotations']:
    entry['category_id'] = 12
  _, document, annotations, items = make(
    SETS['one'], tmp_path, (1, 1, 1, 1), coco_output.Export('e.json', data)
  )
  hem, button = np.reshape(annotations[0]['keypoints'], (2, 3))
  np.testing.assert_allclose(hem[:2], items[0].positions[2], atol=1e-5)
  assert button.tolist() == [0, 0, 0]
  (note,) = document.notes()
  assert note.startswith('3 landmarks have no place in the categories')


def test_an_unknown_category_is_said(tmp_path):
  path, document, annotations, _ = make(SETS['two'], tmp_path, (1, 0, 0, 2))
  assert [entry['category_id'] for entry in annotations] == [1, 3, 3, 2]
  assert document.categories[2]['name'] == 'unknown'
  assert document.categories[2]['keypoints'] == list(SETS['two'].names)
  (note,) = document.notes()
  assert note.startswith("2 items are of the category 'unknown'")
  assert 'shirt, skirt' in note and 'clothes_type' in note


@pytest.mark.parametrize('export', [None, export_data])
@pytest.mark.parametrize('codes', [(1, 2, 2, 1), (1, 0, 2, 0)])
def test_our_own_readers_take_it(tmp_path, codes, export):
  """As annotations to train on, and as predictions to score."""
  data = export() if export else None
  path, document, annotations, items = make(
    SETS['two'], tmp_path, codes, data and coco_output.Export('e.json', data)
  )
  for name in {image['file_name'] for image in document.images}:
    file = tmp_path / 'folder/images' / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', SIZE).save(file)
  (tmp_path / 'folder/annotations').mkdir()
  path.rename(tmp_path / 'folder/annotations/val.json')
  path = tmp_path / 'folder/annotations/val.json'
  names = {image['id']: image['file_name'] for image in document.images}
  rows = list(
    folder.read(tmp_path / 'folder', 'annotations/{split}.json', 'images')
  )
  landmark_set = folder.read_landmark_set(
    tmp_path / 'folder', 'annotations/{split}.json'
  )
  assert {*landmark_set.names} == {*SETS['two'].names}
  expected = [
    (entry, item)
    for entry, item in zip(annotations, items, strict=True)
    if entry['num_keypoints']
  ]
  assert len(rows) == len(expected) > 2
  for row, (entry, item) in zip(rows, expected, strict=True):
    assert row.id == f'{names[entry["image_id"]]}#{entry["id"]}'
    np.testing.assert_allclose(row.box, item.box, atol=0.01)
    v = coco_output.marks(item, SIZE)
    for slot, name in enumerate(landmark_set.names):
      mine = item.names.index(name)
      code = row.visibility[slot]
      of = next(
        c for c in document.categories if c['id'] == entry['category_id']
      )
      if name not in map(coco.plain_name, of['keypoints']):
        assert code == schema.ABSENT
        continue
      if not item.present[mine]:
        assert code == schema.ABSENT
      assert (code == schema.VISIBLE) == (v[mine] == 2)
      assert (code == schema.OCCLUDED) == (v[mine] == 1)
      if v[mine]:
        np.testing.assert_allclose(
          row.landmarks[slot], item.positions[mine], atol=0.01
        )
  config = config_of('coco_keypoints', tmp_path / 'folder', tmp_path)
  found = score(config, path, 'val', tmp_path / 'out')
  assert found['num_examples'] == len(rows)
  assert found['epe']['micro'] == pytest.approx(0, abs=1e-4)


def test_equal_items_give_equal_bytes(tmp_path):
  one = make(SETS['two'], tmp_path, (1, 2, 0))[0].read_bytes()
  assert one == make(SETS['two'], tmp_path, (1, 2, 0))[0].read_bytes()
  assert b'NaN' not in one


def test_no_items(tmp_path):
  document = coco_output.Document(SETS['one'])
  found = opened(write(tmp_path / 'p.json', document, []))
  assert not found.anns and [c['name'] for c in found.cats.values()] == [
    'shirt'
  ]


@pytest.mark.parametrize('export', [None, export_data])
def test_label_studio(tmp_path, export):
  """Percentages back to pixels; every label is in the interface."""
  data = export() if export else None
  _, document, annotations, items = make(
    SETS['two'],
    tmp_path,
    (1, 2, 0, 1),
    data and coco_output.Export('e.json', data),
  )
  categories = {entry['id']: entry for entry in document.categories}
  view = ET.fromstring(labelling_tools.label_studio_config(document.categories))
  controls = {control.get('name'): control for control in view}
  labels = {
    name: {label.get('value') for label in control}
    for name, control in controls.items()
  }
  for image in document.images:
    on_image = [a for a in annotations if a['image_id'] == image['id']]
    task = labelling_tools.label_studio_task(
      image, on_image, categories, 'http://x/', 'run'
    )
    task = json.loads(json.dumps(task))
    name = image['file_name'].replace(' ', '%20')
    assert task['data'] == {'image': f'http://x/{name}'}
    (prediction,) = task['predictions']
    assert prediction['model_version'] == 'run'
    assert 0 <= prediction['score'] <= 1
    regions = prediction['result']
    assert len({region['id'] for region in regions}) == len(regions)
    boxes = [r for r in regions if r['type'] == 'rectanglelabels']
    assert len(boxes) == len(on_image)
    for box, entry in zip(boxes, on_image, strict=True):
      value = box['value']
      scale = np.array([60, 40, 60, 40]) / 100
      pixels = [value[k] for k in ('x', 'y', 'width', 'height')] * scale
      np.testing.assert_allclose(pixels, entry['bbox'], atol=0.01)
      of = categories[entry['category_id']]
      points = np.reshape(entry['keypoints'], (-1, 3))
      expected = {
        name: point
        for name, point in zip(of['keypoints'], points, strict=True)
        if point[2]
      }
      mine = [r for r in regions if r.get('parentID') == box['id']]
      assert len(mine) == len(expected)
      for region in mine:
        (name,) = region['value']['keypointlabels']
        assert region['type'] == 'keypointlabels'
        at = np.array([region['value']['x'], region['value']['y']]) * scale[:2]
        clipped = np.clip(expected[name][:2], 0, SIZE)
        np.testing.assert_allclose(at, clipped, atol=0.01)
        assert ('meta' in region) == (expected[name][2] == 1)
    for region in regions:
      control = controls[region['from_name']]
      assert control.tag.lower() == region['type']
      assert control.get('toName') == region['to_name'] == 'image'
      assert region['value'][region['type']][0] in labels[region['from_name']]
      assert (region['original_width'], region['original_height']) == SIZE


def test_cvat(tmp_path):
  """Whole numbers alone, no item of a category that CVAT does not know."""
  data = export_data()
  text_ids(data)
  _, document, annotations, _ = make(
    SETS['two'], tmp_path, (1, 2, 2, 1), coco_output.Export('e.json', data)
  )
  cvat = labelling_tools.CvatAnnotations(coco_output.UNKNOWN)
  categories = {entry['id']: entry for entry in document.categories}
  entries = [cvat.annotation(a, categories) for a in annotations]
  rest = cvat.rest(document.images, document.categories)
  path = tmp_path / 'cvat.json'
  path.write_text(json.dumps({'annotations': entries, **rest}))
  found = opened(path)
  assert all(
    type(key) is int for key in [*found.anns, *found.imgs, *found.cats]
  )
  names = {i['id']: i['file_name'] for i in data['images']}
  for entry, given in zip(entries, annotations, strict=True):
    image = found.imgs[entry['image_id']]['file_name']
    assert image == names[given['image_id']]
    of = found.cats[entry['category_id']]
    assert of['name'] == categories[given['category_id']]['name']
    assert isinstance(of['skeleton'], list)
    assert entry['keypoints'] == given['keypoints']
  _, document, annotations, _ = make(SETS['two'], tmp_path, (1, 0, 2, 0))
  cvat = labelling_tools.CvatAnnotations(coco_output.UNKNOWN)
  categories = {entry['id']: entry for entry in document.categories}
  kept = [cvat.annotation(a, categories) is not None for a in annotations]
  assert kept == [True, False, True, False] and cvat.num_left_out == 2
  rest = cvat.rest(document.images, document.categories)
  assert [c['name'] for c in rest['categories']] == ['shirt', 'skirt']


@pytest.mark.parametrize(
  'change, message',
  [
    ({'categories': 5}, 'e.json, categories: is 5, must be a list'),
    ({'categories': [5]}, r'categories\[0\]: is 5, must be an object'),
    ({'categories': [{}]}, r'categories\[0\], id: is missing'),
    (
      {'categories': [{'id': 1}, {'id': 1.0}]},
      r'\[1\], id: is 1, which stands',
    ),
    ({'categories': [category(1, 'a', [1.5])]}, r'keypoints: is \[1.5\], must'),
    ({'categories': [category(1, 5, [])]}, 'name: is 5, must be a name'),
    ({'categories': [category(1, 'a', [], x=float('nan'))]}, 'is not finite'),
  ],
)
def test_bad_categories(change, message):
  """Before the work begins, not at its end."""
  with pytest.raises(InputError, match=message):
    coco_output.Export('e.json', export_data(**change))
