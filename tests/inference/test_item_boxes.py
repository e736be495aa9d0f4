"""Boxes from CSV and COCO JSON, and what is refused."""

import json

import pytest
from places import SHARED

from fld_jax import landmark_sets
from fld_jax.errors import InputError
from fld_jax.inference import item_boxes

SHARED_BOXES = SHARED / 'field_cases/13-boxes'
TYPES = landmark_sets.FASHION_8.types


def read(tmp_path, content, name='boxes.csv'):
  path = tmp_path / name
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  items = item_boxes.read(path, TYPES).items
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


@pytest.mark.parametrize(
  ('header', 'row'),
  [
    ('image,x1,y1,x2,y2', 'a.jpg,1,2,3.5,4'),
    ('y2,x2,extra,y1,x1,Image', '4,3.5,?,2,1,a.jpg'),
    (
      'filename,width,height,class,xmin,ymin,xmax,ymax',
      'a.jpg,9,9,s,1,2,3.5,4',
    ),
    ('file_name;x1;y1;x2;y2', 'a.jpg;1;2;3,5;4'),
    ('Image Path\tX1\tY1\tX2\tY2', 'a.jpg\t1\t2\t3.5\t4'),
    ('image,x,y,w,h', 'a.jpg,1,2,2.5,2'),
    ('file,x,y,width,height,score', 'a.jpg,1,2,2.5,2,0.3'),
    ('image,bbox_x,bbox_y,bbox_width,bbox_height', 'a.jpg,1,2,2.5,2'),
    ('img,left,top,right,bottom', 'a.jpg,1,2,3.5,4'),
    ('file_name,bbox', 'a.jpg,"[1, 2, 2.5, 2]"'),
    ('\ufeffimage,x1,y1,x2,y2', 'a.jpg, 1 ,2,3.5,4'),
  ],
)
def test_columns_by_name(tmp_path, header, row):
  expected = [('a.jpg', [1, 2, 3.5, 4], 0)]
  assert read(tmp_path, f'{header}\n{row}\n') == expected


@pytest.mark.parametrize(
  'column', ['clothes_type', 'class', 'category', 'label']
)
def test_types_by_other_names(tmp_path, column):
  content = f'image,{column},x1,y1,x2,y2\na,Lower,1,2,3,4\nb,,1,2,3,4\n'
  assert [kind for *_, kind in read(tmp_path, content)] == [2, 0]
  if column != 'clothes_type':  # another tool's classes mean nothing here
    content = f'image,{column},x1,y1,x2,y2\na,shirt,1,2,3,4\n'
    assert [kind for *_, kind in read(tmp_path, content)] == [0]


def test_names_that_were_made_safe(tmp_path):
  content = "image,x1,y1,x2,y2\n'=1.jpg,1,2,3,4\ncaf\\xe9.jpg,1,2,3,4\n"
  names = [name for name, *_ in read(tmp_path, content)]
  assert names == ['=1.jpg', 'caf\udce9.jpg']


def test_a_line_without_a_box_is_a_failure(tmp_path):
  path = tmp_path / 'boxes.csv'
  path.write_text('image,x1,y1,x2,y2\na,,,,\nb,1,2,3,4\n')
  found = item_boxes.read(path, TYPES)
  assert [item.image for item in found.items] == ['b']
  assert found.failures == [('a', f'{path}, line 2: there is no box')]


USELESS = [
  {},
  {'bbox': None},
  {'bbox': []},
  {'bbox': [1, 2, 3]},
  {'bbox': [1, 2, 0, 4]},
  {'bbox': [1, 2, float('nan'), 4]},
  {'bbox': 'all'},
  {'bbox': [1, 2, 3, None]},
  {'bbox': {'x': 1}},
  {'image_id': 99, 'bbox': [1, 2, 3, 4]},
  {'image_id': None, 'bbox': [1, 2, 3, 4]},
  {'image_id': [1], 'bbox': [1, 2, 3, 4]},
]


@pytest.mark.parametrize('useless', [*USELESS, 7, None, 'x', []])
def test_an_object_without_a_box_is_one_failure(tmp_path, useless):
  good = {'image_id': 1, 'bbox': [1, 2, 3, 4]}
  if isinstance(useless, dict):
    useless = {'image_id': 1, **useless}
  path = tmp_path / 'boxes.json'
  images = [{'id': 1, 'file_name': 'a.jpg'}]
  data = {'images': images, 'annotations': [good, useless, good]}
  path.write_text(json.dumps(data))
  found = item_boxes.read(path, TYPES)
  assert [item.image for item in found.items] == ['a.jpg'] * 2
  ((_, why),) = found.failures
  assert f'{path}, annotations[1]' in why
  # Alone, it is the end.
  path.write_text(json.dumps({**data, 'annotations': [useless]}))
  with pytest.raises(InputError, match=r'annotations\[0\]'):
    item_boxes.read(path, TYPES)


@pytest.mark.parametrize('field', ['images', 'annotations'])
@pytest.mark.parametrize('value', [None, 7, 'x', {}, True, 1.5])
def test_lists_that_are_none(tmp_path, field, value):
  data = {'images': [], 'annotations': [], field: value}
  with pytest.raises(InputError, match=f'{field}: is .*, must be a list'):
    read(tmp_path, data, 'a.json')


@pytest.mark.parametrize(
  ('key', 'image_id'), [(1, 1.0), (1.0, 1), ('1', 1), (1, '1'), ('a', 'a')]
)
def test_ids_as_tools_write_them(tmp_path, key, image_id):
  content = {
    'images': [
      {'id': key, 'file_name': 'a.jpg', 'width': 96.0, 'height': None}
    ],
    'annotations': [{'image_id': image_id, 'bbox': [1, 2, 3, 4]}],
  }
  assert read(tmp_path, content, 'a.json') == [('a.jpg', [1, 2, 4, 6], 0)]


def test_categories_are_types(tmp_path):
  content = {
    'images': [{'id': 1, 'file_name': 'a.jpg'}],
    'categories': [{'id': 5, 'name': 'Lower'}, {'id': 6, 'name': 'hat'}],
    'annotations': [
      {'image_id': 1, 'bbox': [1, 2, 3, 4], 'category_id': kind}
      for kind in (5, 6, 7, None)
    ],
  }
  kinds = [kind for *_, kind in read(tmp_path, content, 'a.json')]
  assert kinds == [2, 0, 0, 0]


@pytest.mark.parametrize(
  'name', sorted(SHARED_BOXES.glob('*.[cj]s*')) or [None]
)
def test_boxes_of_other_tools(name):
  if name is None:
    pytest.skip('the shared inputs are not here')
  found = item_boxes.read(name, TYPES)
  names = ['plain.jpg', 'sub dir/plain.jpg']
  items, elsewhere = item_boxes.for_images(found.items, names, name)
  assert [item.box.tolist() for item in items] == [[10, 10, 80, 120]]
  assert elsewhere == 0
  assert len(found.failures) == (name.stem == 'coco_seg_only')


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
    (
      'a.jpg,1,2,3,4\n',
      "line 1: the header is 'a.jpg,1,2,3,4', must have a column image",
    ),
    (HEAD, 'there is no box in it'),
    (
      HEAD + 'a.jpg,1,2,3\n',
      'line 2: has 4 columns, must have 5 as the header has',
    ),
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


@pytest.mark.parametrize(
  ('given', 'found'),
  [
    ('./sub/a.jpg', 'sub/a.jpg'),
    ('sub\\a.jpg', 'sub/a.jpg'),
    ('.\\sub\\a.jpg', 'sub/a.jpg'),
    ('sub//x/../a.jpg', 'sub/a.jpg'),
    ('sub/a%20b.jpg', 'sub/a b.jpg'),
    ('odd\\name.jpg', 'odd\\name.jpg'),
    ('/data/images/default/sub/a.jpg', 'sub/a.jpg'),
    ('C:\\photos\\sub\\a.jpg', 'sub/a.jpg'),
    ('only.jpg', 'deep/only.jpg'),
    ('sub%5Ca.jpg', 'sub/a.jpg'),
    ('http://host/deep/only.jpg?size=1', 'deep/only.jpg'),
    ('/data/local-files/?d=deep%5Conly.jpg', 'deep/only.jpg'),
    ('else/only.jpg', None),  # in another folder
    ('sub/a', 'sub/a.jpg'),
    ('a.jpg', None),  # there are two
    ('xsub/a.jpg', None),
  ],
)
def test_a_name_in_other_forms(given, found):
  names = ['deep/only.jpg', 'odd\\name.jpg', 'other/a.jpg', 'sub/a b.jpg']
  names += ['sub/a.jpg']
  items = [item_boxes.Item(given, None)]
  if found is None:
    with pytest.raises(InputError, match='none is among those'):
      item_boxes.for_images(items, names, 'boxes.csv')
    return
  (item,), elsewhere = item_boxes.for_images(items, names, 'boxes.csv')
  assert (item.image, elsewhere) == (found, 0)


def test_items_follow_their_images(tmp_path):
  items = [item_boxes.Item(name, None) for name in ('c', 'a', 'x', 'a', 'b')]
  found, elsewhere = item_boxes.for_images(items, ['a', 'b', 'c'], tmp_path)
  assert [item.image for item in found] == ['a', 'a', 'b', 'c']
  assert elsewhere == 1
  with pytest.raises(InputError, match="'c' the first, none is among"):
    item_boxes.for_images(items, ['other'], tmp_path)
