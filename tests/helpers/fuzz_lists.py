"""Formats of the fuzz test, continued: DeepFashion's other benchmarks."""

import fuzz_mutations as mutations
from fuzz_formats import (
  NAMES,
  TRIPLES,
  TYPES,
  A,
  Format,
  Record,
  T,
  V,
  box_of,
  by_name,
  check_box,
  check_image,
  check_points,
  floats,
  labels_of,
  landmark_table,
  need,
  pixels,
  table,
  text_of,
  whole,
)

from fld_jax.datasets.deepfashion import fine, layout, shops

BOX = ('x_1', 'y_1', 'x_2', 'y_2')
LANDMARKS = [
  '0 011 012 1 021 022 2 031 032 0 041 018 0 051 032 2 000 000',
  '0 010 009  0 020 009.25  1 009 030  2 000 000',
  '0 1 2 0 3 4 0 5 6 0 7 8 0 9 10 0 11 12 1 13 14 0 62 16',
]
BOXES = ['001 002 050 040', '010 008 060 039', '5 6.5 61 41']


def content(*lines: str) -> bytes:
  return '\n'.join([*lines, '']).encode()


class Shop(Format):
  """Base of the two retrieval benchmarks.

  Attributes:
    benchmark: as the package calls it.
    lists: what they hold -> path.
    column: between clothes_type and the box, and its valid integers.
    statuses: of the partition.
  """

  mutations = mutations.TEXT
  benchmark: str
  lists: dict[str, str]
  column: tuple[str, range]
  statuses: tuple[str, ...]

  def __init__(self, damaged: str):
    self.file = self.lists[damaged]
    self.name = f'{self.benchmark}-{damaged}'
    self.images = [f'Img/{name}' for name in NAMES]
    column, _ = self.column
    rows = lambda cells: [' '.join(x) for x in zip(NAMES, cells, strict=True)]
    boxes = zip(('1 1', '2 2', '3 1'), BOXES, strict=True)
    landmarks = zip(('1 4', '2 1', '3 5'), LANDMARKS, strict=True)
    lines = {
      'box': [f'image_name clothes_type {column} {" ".join(BOX)}']
      + rows(map(' '.join, boxes)),
      'landmarks': [f'image_name clothes_type variation_type {TRIPLES}']
      + rows(map(' '.join, landmarks)),
      'items': ['id_1', 'id_é\xa02'],
      'attributes': ['item_id attribute_labels', 'id_1 1 -1', 'id_é\xa02 0 1'],
      **self.own_lines(),
    }
    self.files = {
      self.lists[key]: content(str(len(each) - (key != 'items')), *each)
      for key, each in lines.items()
    }

  def own_lines(self) -> dict[str, list[str]]:
    """The lines of `split` and `names`."""
    raise NotImplementedError

  def read(self, folder, findings):
    return list(shops.read(folder, self.benchmark, findings))

  def more(self, folder):
    shops.content_digest(folder, self.benchmark)
    return shops.read_attribute_names(folder, self.benchmark)

  def expected(self, folder, files):
    lists = {key: files[path] for key, path in self.lists.items()}
    names = self.attribute_names(lists['names'])
    column, codes = self.column
    boxes = {}
    header = ('image_name', 'clothes_type', column, *BOX)
    for name, fields in by_name(table(lists['box'], *header)).items():
      need(len(fields) == 6)
      kind = whole(fields[0], TYPES), whole(fields[1], codes)
      boxes[name] = *kind, box_of(fields[2:])
    landmarks = landmark_table(lists['landmarks'])
    need(boxes.keys() == landmarks.keys())
    items = by_name(table(lists['items']))
    need(not any(items.values()))
    attributes = {
      item: labels_of(fields, names)
      for item, fields in by_name(table(lists['attributes'], 'item_id')).items()
    }
    records = []
    for name, (split, item, code) in self.images_of(lists['split']).items():
      need(name in boxes and item in items and item in attributes)
      clothes_type, found, box = boxes[name]
      need(clothes_type == landmarks[name][2] and found == (code or found))
      check_image(folder, name)
      check_box(box)
      check_points(landmarks[name][0])
      head = name, split, floats(box)
      records.append(Record(*head, *landmarks[name], attributes[item], item))
    self.check_left_out(boxes, records)
    return records, names

  def attribute_names(self, content: bytes) -> list[str]:
    raise NotImplementedError

  def images_of(self, content: bytes) -> dict[str, tuple]:
    """Name -> (split, item, the only valid code or None)."""
    raise NotImplementedError

  def check_left_out(self, boxes, records) -> None:
    """Whether images may be left out."""


class InShop(Shop):
  benchmark = 'in_shop'
  lists = {
    'box': 'Anno/list_bbox_inshop.txt',
    'landmarks': 'Anno/list_landmarks_inshop.txt',
    'items': 'Anno/list_item_inshop.txt',
    'names': 'Anno/list_attr_cloth.txt',
    'attributes': 'Anno/list_attr_items.txt',
    'split': 'Eval/list_eval_partition.txt',
  }
  column = 'pose_type', range(1, 7)
  statuses = 'train', 'query', 'gallery'

  def own_lines(self):
    items = ('id_1 train', 'id_é\xa02 query', 'id_é\xa02 gallery')
    return {
      'split': ['image_name item_id evaluation_status']
      + [' '.join(pair) for pair in zip(NAMES, items, strict=True)],
      'names': ['attribute_name', 'faux  fur', 'a-line'],
    }

  def attribute_names(self, content):
    return [' '.join(fields) for fields in table(content, 'attribute_name')]

  def images_of(self, content):
    header = 'image_name', 'item_id', 'evaluation_status'
    images = by_name(table(content, *header))
    for fields in images.values():
      need(len(fields) == 2 and fields[1] in self.statuses)
    return {name: (*fields[::-1], None) for name, fields in images.items()}

  def check_left_out(self, boxes, records):
    need(len(boxes) == len(records))


class ConsumerToShop(Shop):
  benchmark = 'consumer_to_shop'
  lists = {
    'box': 'Anno/list_bbox_consumer2shop.txt',
    'landmarks': 'Anno/list_landmarks_consumer2shop.txt',
    'items': 'Anno/list_item_consumer2shop.txt',
    'names': 'Anno/list_attr_cloth.txt',
    'attributes': 'Anno/list_attr_items.txt',
    'split': 'Eval/list_eval_partition.txt',
  }
  column = 'source_type', range(1, 3)
  statuses = 'train', 'val', 'test'

  def own_lines(self):
    pairs = ((1, 0), (1, 2))  # a consumer's photo and a shop's
    return {
      'split': ['image_pair_name_1 image_pair_name_2 item_id evaluation_status']
      + [f'{NAMES[i]} {NAMES[j]} id_é\xa02 val' for i, j in pairs],
      'names': [
        'attribute_name(Chinese) attribute_name(English) attribute_type',
        '\u5370\u82b1 faux fur 2',
        '\u6761 a-line 3',
      ],
    }

  def attribute_names(self, content):
    header = 'attribute_name(Chinese)', 'attribute_name(English)'
    rows = table(content, *header, 'attribute_type')
    for fields in rows:
      need(len(fields) > 2)
      whole(fields[-1])
    return [' '.join(fields[1:-1]) for fields in rows]

  def images_of(self, content):
    header = 'image_pair_name_1', 'image_pair_name_2', 'item_id'
    images = {}
    for fields in table(content, *header, 'evaluation_status'):
      need(len(fields) == 4)
      *pair, item, status = fields
      need(status in self.statuses)
      for name, code in zip(pair, (2, 1), strict=True):
        split = 'gallery' if code == 1 and status != 'train' else status
        # Another status of a shop's photo is a contradiction too.
        found = split, item, code, status
        need(images.setdefault(name, found) == found)
    return {name: found[:3] for name, found in images.items()}


class Fine(Format):
  """Anno_fine: files of a split whose rows of one number belong together."""

  mutations = mutations.TEXT
  splits = {'train': NAMES[:2], 'val': NAMES[2:]}
  ends = ('', '_bbox', '_landmarks', '_cate', '_attr')
  categories = 'Anno_fine/list_category_cloth.txt'
  names = 'Anno_fine/list_attr_cloth.txt'

  def __init__(self, damaged: str):
    self.file = f'Anno_fine/{damaged}.txt'
    self.name = f'fine-{damaged}'
    self.images = [f'Img/{name}' for name in NAMES]
    points = (
      '11 12 21 22 0 0 41 18 0 0 0 0 51 32 0 0',
      '0 0 0 0 0 0 0 0 010 009 20 9.25 9 30 0 0',
      '1 2 3 4 5 6 7 8 9 10 11 12 13 14 62 16',
    )
    cells = [NAMES, BOXES, points, ('1', '2', '2'), ('1 0', '0 0', '0 1')]
    self.files = {
      self.categories: content(
        *('2', 'category_name category_type', 'Tee  Shirt 1', 'Skirt 2')
      ),
      self.names: content(
        *('2', 'attribute_name attribute_type', 'faux fur 2', 'a-line 3')
      ),
    }
    for split, rows in (('train', slice(2)), ('val', slice(2, 3))):
      for end, column in zip(self.ends, cells, strict=True):
        self.files[f'Anno_fine/{split}{end}.txt'] = content(*column[rows])

  def read(self, folder, findings):
    return list(fine.read_annotations(folder, findings))

  def more(self, folder):
    fine.content_digest(folder)
    return layout.attribute_names(fine.annotation_paths(folder))

  def expected(self, folder, files):
    types = []
    for fields in table(
      files[self.categories], 'category_name', 'category_type'
    ):
      need(len(fields) > 1)
      types.append(whole(fields[-1], TYPES))
    names = []
    for fields in table(files[self.names], 'attribute_name', 'attribute_type'):
      need(len(fields) > 1)
      whole(fields[-1])
      names.append(' '.join(fields[:-1]))
    records = []
    for split in self.splits:
      rows = self._rows(files, split)
      need(rows)
      for cells in rows:
        record = self._record(split, types, names, *cells)
        check_image(folder, record.id)
        records.append(record)
    need(len({record.id for record in records}) == len(records))
    return records, names

  def _rows(self, files, split: str):
    """The fields of all files, of each row."""
    columns = []
    for end in self.ends:
      text = text_of(files[f'Anno_fine/{split}{end}.txt'])
      for other in '\t\r\v\f':
        text = text.replace(other, ' ')
      lines = text.split('\n')
      columns.append([[x for x in line.split(' ') if x] for line in lines])
    length = max(map(len, columns))
    columns = [each + [[]] * (length - len(each)) for each in columns]
    rows = [row for row in zip(*columns, strict=True) if any(row)]
    need(all(map(all, rows)))
    return rows

  def _record(self, split, types, names, image, box, points, category, labels):
    need(len(image) == 1 and len(category) == 1 and len(points) == 16)
    box = box_of(box)
    check_box(box)
    points = floats([pixels(token) for token in points])
    points = [points[i : i + 2] for i in range(0, 16, 2)]
    check_points(points)
    shown = {i for i, point in enumerate(points) if any(point)}
    kind = types[whole(category[0], range(1, 1 + len(types))) - 1]
    if not shown <= set(TYPES[kind]):
      kind = 3
    codes = [
      V if i in shown else T if i in TYPES[kind] else A for i in range(8)
    ]
    need(len(labels) == len(names) and set(labels) <= {'0', '1'})
    labels = tuple({'0': -1, '1': 1}[label] for label in labels)
    head = image[0], split, floats(box)
    return Record(*head, points, codes, kind, 0, labels)


FORMATS = [
  *map(InShop, InShop.lists),
  *map(ConsumerToShop, ConsumerToShop.lists),
  *map(Fine, ('train', 'train_bbox', 'train_landmarks', 'train_cate')),
  *map(Fine, ('train_attr', 'val', 'list_category_cloth', 'list_attr_cloth')),
]
