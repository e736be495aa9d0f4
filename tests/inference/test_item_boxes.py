"""Boxes from CSV and COCO JSON, and what is refused."""

import json

import pytest

from fld_jax import landmark_sets
from fld_jax.errors import InputError
from fld_jax.inference import item_boxes

TYPES = landmark_sets.FASHION_8.types


def read(tmp_path, content, name='boxes.csv'):
  path = tmp_path / name
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  items = item_boxes.read(path, TYPES)
  return [(i.image, i.box.tolist(), i.clothes_type) for i in items]


def test_csv(tmp_path):
  content = 'image,x1,y1,x2,y2\na.jpg,1,2,3.5,4\n"b, c.jpg",-1,0,9,9\n'
  assert read(tmp_path, content) == [
    ('a.jpg', [1, 2, 3.5, 4], 0),
    ('b, c.jpg', [-1, 0, 9, 9], 0),
  ]


def test_csv_with_types(tmp_path):
  content = (
    'image,x1,y1,x2,y2,clothes_type\na.jpg,1,2,3,4,lower\n\nb.jpg,1,2,3,4,\n'
  )
  assert [kind for *_, kind in read(tmp_path, content)] == [2, 0]


def test_coco_annotations(tmp_path):
  content = {
    'images': [{'id': 7, 'file_name': 'a.jpg'}, {'id': 9, 'file_name': 'b'}],
    'annotations': [
      {'image_id': 9, 'bbox': [1, 2, 3, 4]},
      {'image_id': 7, 'bbox': [0, 0, 5, 5]},
    ],
  }
  assert read(tmp_path, content, 'a.json') == [
    ('b', [1, 2, 4, 6], 0),
    ('a.jpg', [0, 0, 5, 5], 0),
  ]


def test_coco_results(tmp_path):
  content = [{'file_name': 'a.jpg', 'bbox': [1, 2, 3, 4], 'score': 0.5}]
  assert read(tmp_path, content, 'a.json') == [('a.jpg', [1, 2, 4, 6], 0)]


HEAD = 'image,x1,y1,x2,y2\n'


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    ('', "line 1: the header is ''"),
    ('a.jpg,1,2,3,4\n', "line 1: the header is 'a.jpg,1,2,3,4', must be image"),
    (HEAD, 'there is no box in it'),
    (HEAD + 'a.jpg,1,2,3\n', 'line 2, columns: the row has 4, must have 5'),
    (HEAD + 'a.jpg,1,2,x,4\n', "line 2, x2: is 'x', must be a finite number"),
    (HEAD + 'a.jpg,1,2,nan,4\n', "line 2, x2: is 'nan'"),
    (HEAD + 'a.jpg,1,2,3,4\na.jpg,5,2,5,4\n', 'line 3, box: has no area'),
    (
      'image,x1,y1,x2,y2,clothes_type\na,1,2,3,4,hat\n',
      "line 2, clothes_type: is 'hat', must be one of upper, lower, full",
    ),
  ],
)
def test_bad_csv(tmp_path, content, words):
  with pytest.raises(InputError, match=words):
    read(tmp_path, content)


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    ({}, 'must be a list of COCO results with file_name and bbox, or an'),
    ([], 'there is no box in it'),
    ([{'bbox': [1, 2, 3, 4]}], r'results\[0\], file_name: is missing'),
    ([{'file_name': 3, 'bbox': [1, 2, 3, 4]}], 'must name an image'),
    ([{'file_name': 'a', 'bbox': [1, 2, 0, 4]}], r'bbox: is 0 x 4 pixels'),
    (
      {
        'images': [{'id': 1, 'file_name': 'a'}],
        'annotations': [{'image_id': 2, 'bbox': [1, 2, 3, 4]}],
      },
      r'annotations\[0\], image_id: is 2, must name an image',
    ),
  ],
)
def test_bad_json(tmp_path, content, words):
  with pytest.raises(InputError, match=words):
    read(tmp_path, content, 'a.json')


def test_other_endings(tmp_path):
  with pytest.raises(InputError, match=r"ending is '.txt', valid are .csv"):
    read(tmp_path, '', 'a.txt')
  with pytest.raises(InputError, match='this file of boxes is missing'):
    item_boxes.read(tmp_path / 'b.csv', TYPES)


def test_items_follow_their_images(tmp_path):
  items = [item_boxes.Item(name, None) for name in ('c', 'a', 'x', 'a', 'b')]
  found, elsewhere = item_boxes.for_images(items, ['a', 'b', 'c'], tmp_path)
  assert [item.image for item in found] == ['a', 'a', 'b', 'c']
  assert elsewhere == 1
  with pytest.raises(InputError, match="'c' the first, none is among"):
    item_boxes.for_images(items, ['other'], tmp_path)
