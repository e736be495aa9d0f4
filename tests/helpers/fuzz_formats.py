"""What the fuzz test knows of each format: valid files, and a naive reader.

The readers here are written from the descriptions of the formats, without the
package, and only say what is right: each file is small and in memory. They
raise `Invalid` without a reason.

A number is, everywhere but in JSON: an optional sign, digits of ASCII, and
where it need not be whole an optional fraction and an optional exponent; a
whole one has at most 18 digits, a place in pixels is at most 1e9. White space
is that of ASCII. Text is UTF-8, with or without a BOM; a line may end with
carriage returns too. The last line need not end: of a file that is cut within
its last number nobody can know.
"""

import codecs
import dataclasses
import io
import json
import os
import re
import struct
import zlib

import fuzz_mutations as mutations
import numpy as np
import scipy.io
from PIL import Image

from fld_jax.datasets.coco import detections
from fld_jax.datasets.coco import folder as coco_folder
from fld_jax.datasets.deepfashion import coarse, layout
from fld_jax.datasets.fashion_ai import folder as fashion_ai_folder
from fld_jax.datasets.pose import folder as pose_folder

WIDTH, HEIGHT = 60, 40
V, O, T, A = 0, 1, 2, -1  # noqa: E741  visible, occluded, truncated, absent


class Invalid(Exception):
  """The file is not of its format."""


def need(condition) -> None:
  if not condition:
    raise Invalid


def text_of(content: bytes) -> str:
  try:
    return content.decode('utf-8').removeprefix('\ufeff')
  except UnicodeDecodeError:
    raise Invalid from None


def whole(token: str, valid=None) -> int:
  need(re.fullmatch('[+-]?[0-9]{1,18}', token))
  need(valid is None or int(token) in valid)
  return int(token)


def pixels(token: str) -> float:
  digits = r'([0-9]+\.?[0-9]*|\.[0-9]+)'
  need(re.fullmatch(rf'[+-]?{digits}([eE][+-]?[0-9]+)?', token))
  need(abs(float(token)) <= 1e9)
  return float(token)


def floats(values) -> list:
  return np.array(values, np.float32).tolist()


def is_file(*parts) -> bool:
  try:
    return os.path.isfile(os.path.join(*parts))
  except ValueError:
    return False


@dataclasses.dataclass
class Record:
  """A row, in numbers that can be compared."""

  id: str
  split: str
  box: list[float]
  landmarks: list[list[float]]
  visibility: list[int]
  clothes_type: int = 0
  variation: int = 0
  attributes: tuple[int, ...] = ()
  item_id: str = ''
  score: float = 1.0


def record(row) -> Record:
  """What a reader says, as the oracles say it."""
  return Record(
    id=row.id,
    split=row.split,
    box=floats(row.box),
    landmarks=floats(row.landmarks),
    visibility=row.visibility.tolist(),
    clothes_type=row.clothes_type,
    variation=row.variation,
    attributes=tuple(row.attributes.tolist()),
    item_id=row.item_id,
    score=row.score,
  )


class Format:
  """Base of all formats.

  Attributes:
    name: of the test.
    files: valid ones, path -> bytes.
    file: the path of the one that is damaged.
    images: paths, all of WIDTH x HEIGHT.
    mutations: functions of `fuzz_mutations`.
    place: regular expression of where in a file a message says that it is.
  """

  name: str
  files: dict[str, bytes]
  file: str
  images: list[str]
  mutations: tuple
  place = r'line \d+, [^:]+: '

  def prepare(self, folder) -> None:
    """Writes the valid folder."""
    rng = np.random.default_rng(0)
    for name in self.images:
      path = folder / name
      path.parent.mkdir(parents=True, exist_ok=True)
      noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
      Image.fromarray(noise).save(path)
    for name, content in self.files.items():
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      (folder / name).write_bytes(content)

  def read(self, folder, findings):
    """The rows, by the package."""
    raise NotImplementedError

  def more(self, folder):
    """Everything else that the package reads from these files."""
    raise NotImplementedError

  def expected(self, folder, files) -> tuple:
    """(records, what `more` has to return first), by the naive reader."""
    raise NotImplementedError


# DeepFashion and FLD.

TYPES = {1: [0, 1, 2, 3, 6, 7], 2: [4, 5, 6, 7], 3: [*range(8)]}
# A name with a no-break space and a letter beyond ASCII.
NAMES = ['img/Tee/1.jpg', 'img/Tee_é\xa0b/2.jpg', 'img_3.jpg']
TRIPLES = ' '.join(
  f'landmark_visibility_{i} landmark_location_x_{i} landmark_location_y_{i}'
  for i in range(1, 9)
)
LISTS = {
  'bbox': 'Anno/list_bbox.txt',
  'landmarks': 'Anno/list_landmarks.txt',
  'split': 'Eval/list_eval_partition.txt',
  'names': 'Anno/list_attr_cloth.txt',
  'attributes': 'Anno/list_attr_img.txt',
}


def table(content: bytes, *header: str) -> list[list[str]]:
  """The rows of a list: their number, the columns' names if any, then they."""
  lines = [
    [field for field in re.split('[ \t\r\v\f]+', line) if field]
    for line in text_of(content).split('\n')
  ]
  need(len(lines) > 1 and len(lines[0]) == 1)
  need(re.fullmatch('[0-9]{1,18}', lines[0][0]))
  need(lines[1][: len(header)] == list(header))
  rows = [fields for fields in lines[1 + bool(header) :] if fields]
  need(rows and len(rows) == int(lines[0][0]))
  return rows


def by_name(rows) -> dict[str, list[str]]:
  named = {fields[0]: fields[1:] for fields in rows}
  need(len(named) == len(rows))
  return named


def box_of(fields) -> list[float]:
  need(len(fields) == 4)
  return [pixels(field) for field in fields]


def check_box(box) -> None:
  x1, y1, x2, y2 = box
  need(-2 <= x1 < x2 <= WIDTH + 2 and -2 <= y1 < y2 <= HEIGHT + 2)


def landmarks_of(fields, has_variation: bool):
  """(points, codes, clothes type, variation) of a row without its name."""
  start = 1 + has_variation
  need(len(fields) >= start)
  clothes_type = whole(fields[0], TYPES)
  variation = whole(fields[1], range(1, 6)) if has_variation else 0
  slots = TYPES[clothes_type]
  need(len(fields) == start + 3 * len(slots))
  points, codes = [[0.0, 0.0] for _ in range(8)], [A] * 8
  for i, slot in enumerate(slots):
    code, x, y = fields[start + 3 * i : start + 3 * i + 3]
    codes[slot] = whole(code, (V, O, T))
    point = floats([pixels(x), pixels(y)])
    if codes[slot] != T:
      points[slot] = point
  return points, codes, clothes_type, variation


def check_points(points) -> None:
  for x, y in points:
    need(-6 <= x <= WIDTH + 6 and -6 <= y <= HEIGHT + 6)


def labels_of(fields, names) -> tuple[int, ...]:
  need(len(fields) == len(names) and set(fields) <= {'1', '0', '-1'})
  return tuple(int(field) for field in fields)


def landmark_table(content: bytes):
  """name -> `landmarks_of`; with a column of variations, or without."""
  header = ['image_name', 'clothes_type', *TRIPLES.split()[:3]]
  has_variation = b'variation_type' in content
  if has_variation:
    header.insert(2, 'variation_type')
  rows = by_name(table(content, *header)).items()
  return {name: landmarks_of(fields, has_variation) for name, fields in rows}


def check_image(folder, name: str) -> None:
  need(is_file(folder, 'Img', name) or is_file(folder, name))


class DeepFashion(Format):
  """The lists of Category and Attribute; with the column of variations, FLD's.

  A list's header must begin with the columns up to the first triple.
  """

  mutations = mutations.TEXT

  def __init__(self, variation: bool, damaged: str):
    self.variation, self.file = variation, LISTS[damaged]
    self.name = f'{"fld" if variation else "deepfashion"}-{damaged}'
    self.images = [f'Img/{name}' for name in NAMES]
    kinds = ['1 4', '2 1', '3 5'] if variation else ['1', '2', '3']
    column = 'variation_type ' if variation else ''
    lines = {
      'bbox': ['image_name x_1 y_1 x_2 y_2']
      + ['001 002 050 040', '010 008 060 039', '5 6.5 61 41'],
      'landmarks': [f'image_name clothes_type {column}{TRIPLES}']
      + [
        f'{kinds[0]} 0 011 012 1 021 022 2 031 032 0 041 018 0 051 032 2 0 0',
        f'{kinds[1]}  0 010 009  0 020 009.25  1 009 030  2 000 000',
        f'{kinds[2]} 0 1 2 0 3 4 0 5 6 0 7 8 0 9 10 0 11 12 1 13 14 0 62 16',
      ],
      'split': ['image_name evaluation_status', 'train', 'val', 'test'],
      'attributes': ['image_name attribute_labels', '-1  1', ' 0 -1', ' 1  0'],
    }
    self.files = {
      LISTS[key]: '\n'.join(
        ['3', header, *map(' '.join, zip(NAMES, rows, strict=True)), '']
      ).encode()
      for key, (header, *rows) in lines.items()
    }
    self.files[LISTS['names']] = (
      b'2\nattribute_name attribute_type\nfaux fur   2\na-line 3\n'
    )

  def read(self, folder, findings):
    return list(coarse.read_annotations(folder, findings))

  def more(self, folder):
    names = layout.attribute_names(coarse.annotation_paths(folder))
    coarse.content_digest(folder)
    return names

  def expected(self, folder, files):
    lists = {key: files[path] for key, path in LISTS.items()}
    names = table(lists['names'], 'attribute_name', 'attribute_type')
    for fields in names:
      need(len(fields) > 1)
      whole(fields[-1])
    landmarks = landmark_table(lists['landmarks'])
    boxes, splits, attributes = (
      by_name(table(lists[key], *columns))
      for key, columns in {
        'bbox': 'image_name x_1 y_1 x_2 y_2'.split(),
        'split': ['image_name', 'evaluation_status'],
        'attributes': ['image_name'],
      }.items()
    )
    need(boxes.keys() == landmarks.keys() == splits.keys() == attributes.keys())
    records = []
    for name, split in splits.items():
      check_image(folder, name)
      need(len(split) == 1 and split[0] in ('train', 'val', 'test'))
      box = box_of(boxes[name])
      check_box(box)
      check_points(landmarks[name][0])
      labels = labels_of(attributes[name], names)
      head = name, split[0], floats(box)
      records.append(Record(*head, *landmarks[name], labels))
    return records, [' '.join(fields[:-1]) for fields in names]


# FashionAI.

AI_COLUMNS = (
  'image_id,image_category,neckline_left,neckline_right,center_front,'
  'shoulder_left,shoulder_right,armpit_left,armpit_right,waistline_left,'
  'waistline_right,cuff_left_in,cuff_left_out,cuff_right_in,cuff_right_out,'
  'top_hem_left,top_hem_right,waistband_left,waistband_right,hemline_left,'
  'hemline_right,crotch,bottom_left_in,bottom_left_out,bottom_right_in,'
  'bottom_right_out'
).split(',')
AI_TYPES = ['blouse', 'outwear', 'dress', 'trousers', 'skirt']


def csv_lines(text: str) -> list[list[str]]:
  """RFC 4180; no cell here needs a line break."""
  lines = []
  for line in text.split('\n'):
    line = line.rstrip('\r')
    if line:
      cell = r'("([^"\r]|"")*"|[^",\r]*)'
      need(re.fullmatch(f'{cell}(,{cell})*', line))
      lines.append(_quoted(line) if '"' in line else line.split(','))
  return lines


def _quoted(line: str) -> list[str]:
  cells, at = [], 0
  while at <= len(line):
    match = re.compile(r'"(?:[^"]|"")*"|[^",]*').match(line, at)
    cell = match[0]
    quoted = cell.startswith('"')
    cells.append(cell[1:-1].replace('""', '"') if quoted else cell)
    at = match.end() + 1
  return cells


class FashionAi(Format):
  """A folder with a damaged training CSV and a whole one of test rows."""

  name = 'fashion_ai'
  file = 'train/Annotations/train.csv'
  mutations = mutations.CSV
  place = r'line \d+, [^:]+: '

  def __init__(self):
    rng = np.random.default_rng(0)
    names = [f'Images/skirt/{i}.jpg' for i in range(5)]
    names += [f'Images/dréss/{i}.jpg' for i in range(5)]
    cell = lambda v: f'{rng.integers(0, WIDTH)}_{rng.integers(0, HEIGHT)}_{v}'
    cells = lambda kind: [
      '-1_-1_-1' if i % 3 else cell((i + kind) % 2) for i in range(24)
    ]
    line = lambda i, name, kind: ','.join([name, kind, *cells(i)])
    train = [
      line(i, name, ('skirt', 'dress')[i // 5]) for i, name in enumerate(names)
    ]
    test = [line(0, 'Images/t.jpg', 'blouse')]
    self.images = [f'train/{name}' for name in names] + ['test/Images/t.jpg']
    self.files = {
      name: '\n'.join([','.join(AI_COLUMNS), *lines, '']).encode()
      for name, lines in {self.file: train, 'answer_test.csv': test}.items()
    }

  def read(self, folder, findings):
    return list(fashion_ai_folder.read(folder, findings))

  def more(self, folder):
    fashion_ai_folder.digest(folder)

  def expected(self, folder, files):
    lines = {}
    for name in sorted(files):
      for image, line in self._lines(files[name]):
        known = lines.get(image)
        need(known is None or known[1:] == line)
        lines.setdefault(image, ('test' in name, *line))
    count = lambda which: sum(
      line[1] == which and not line[0] for line in lines.values()
    )
    left = {kind: count(kind) // 5 for kind in AI_TYPES}  # for val
    records = []
    for image, (is_test, kind, points, codes) in lines.items():
      need(
        any(
          is_file(folder, place, image)
          for place in ('train/Annotations', 'train', 'test')
        )
      )
      for (x, y), code in zip(points, codes, strict=True):
        if code != A:
          need(-6 <= x <= WIDTH + 6 and -6 <= y <= HEIGHT + 6)
      split = 'test' if is_test else 'val' if left[kind] > 0 else 'train'
      left[kind] -= not is_test
      box = [0.0, 0.0, float(WIDTH), float(HEIGHT)]
      kind = 1 + AI_TYPES.index(kind)
      records.append(Record(image, split, box, points, codes, kind))
    return records, None

  def _lines(self, content: bytes):
    """(image, (category, points, codes)) of a CSV, if it is one of landmarks.

    One may be passed over only if no sign of landmarks is in it, and it is no
    beginning of a header; the header of images alone is whole.
    """
    plain = content.replace(b'\0', b'').decode('latin-1')
    signs = [*AI_COLUMNS[2:], r',-?[0-9]+_-?[0-9]+_-?[0-9]+\b']
    if not re.search('|'.join(signs), plain, re.ASCII):
      first = plain.split('\n')[0].strip('ï»¿ÿþ\r')
      if first == 'image_id,image_category':
        return
      if not ','.join(AI_COLUMNS).startswith(first):
        return
    lines = csv_lines(text_of(content))
    need(lines and lines[0] == AI_COLUMNS)
    for cells in lines[1:]:
      need(len(cells) == 26 and cells[0] and '\0' not in cells[0])
      need(cells[1] in AI_TYPES)
      points, codes = [], []
      for cell in cells[2:]:
        match = re.fullmatch(
          '(-?[0-9]{1,6})_(-?[0-9]{1,6})_(-?[0-9]{1,6})', cell
        )
        need(match)
        x, y, v = map(int, match.groups())
        need(v in (1, 0, -1))
        codes.append({1: V, 0: O, -1: A}[v])
        points.append([0.0, 0.0] if v < 0 else [float(x), float(y)])
      yield cells[0], (cells[1], points, codes)


# COCO-style JSON.

COCO_NAMES = ['left cup', 'right cup', 'strap_top']
LAYOUT = ('annotations/{split}.json', 'images')


def unique_object(pairs) -> dict:
  need(len({key for key, _ in pairs}) == len(pairs))
  return dict(pairs)


def is_id(value) -> bool:
  return type(value) is int or is_string(value)


def is_string(value) -> bool:
  """Without halves of characters, which cannot be written."""
  return type(value) is str and not re.search('[\ud800-\udfff]', value)


def numbers(value, length: int) -> list[float]:
  need(type(value) is list and len(value) == length)
  for number in value:
    need(type(number) in (int, float) and abs(number) <= 1e9)  # not NaN
  return [float(number) for number in value]


class Coco(Format):
  """A file of one split.

  JSON in UTF-8, or in UTF-16 or 32, which other programs write. NaN and the
  infinities, which Python writes, are values that nothing takes. Fields that
  are not read may hold anything. `iscrowd` is 0 or 1, also as true and false.
  A box must touch the image and end within its longer side of it.
  """

  name = 'coco'
  file = 'annotations/train.json'
  mutations = mutations.JSON
  place = (
    r'(line \d+, [^:]+|(annotations|images|categories)(\[\d+\](, [^:]+)?)?|'
    r'(annotation|image) .+, [^:]+|object( of id .+)?, .+|text): '
  )
  images = ['images/0.png', 'images/é/1.png', 'images/2.png']

  def __init__(self):
    rng = np.random.default_rng(0)
    points = lambda: np.column_stack([rng.uniform(0, 40, (3, 2)), [2, 1, 0]])
    data = {
      'info': {'year': 2024, 'area': 1.5},
      'images': [
        {'id': 10, 'file_name': '0.png', 'width': WIDTH, 'height': HEIGHT},
        {'id': 11, 'file_name': 'é/1.png'},
        {'id': 'x', 'file_name': '2.png', 'width': 60.0, 'height': HEIGHT},
      ],
      'annotations': [
        {
          'id': (100, 101, 'y', 103)[i],
          'image_id': (10, 11, 11, 'x')[i],
          'category_id': (7, 8, 7, 7)[i],
          'bbox': [2.5, 3, 40, 30 + i],
          'keypoints': points().ravel().tolist(),
          'area': 1200,
          'iscrowd': int(i == 3),
        }
        for i in range(4)
      ],
      'categories': [
        {
          'id': i,
          'keypoints': COCO_NAMES,
          'swaps': [['left cup', 'right cup']],
          'parts': {'cups': [['left cup', 'right_cup'], ['strap top']]},
        }
        for i in (7, 8)
      ],
    }
    text = json.dumps(data, ensure_ascii=False, indent=1)
    self.files = {Coco.file: text.encode()}

  def read(self, folder, findings):
    return list(coco_folder.read(folder, *LAYOUT, findings, ('train',)))

  def more(self, folder):
    found = coco_folder.read_landmark_set(folder, LAYOUT[0])
    coco_folder.content_digest(folder, *LAYOUT)
    return found.names, found.swaps, found.parts

  def expected(self, folder, files):
    data = self._parse(files[self.file])
    need(type(data) is dict)
    for key in ('images', 'annotations', 'categories'):
      need(type(data.get(key)) is list and data[key])
      need(all(type(entry) is dict for entry in data[key]))
      need(all(is_id(entry.get('id')) for entry in data[key]))
    landmarks = [self._category(entry) for entry in data['categories']]
    need(all(one == landmarks[0] for one in landmarks))
    images = {}
    for entry in data['images']:
      need(entry['id'] not in images)
      name = entry.get('file_name')
      need(is_string(name) and name and '\0' not in name)
      sides = [entry.get('width'), entry.get('height')]
      for side in sides:
        whole = type(side) is float and side.is_integer()
        need(side is None or ((type(side) is int or whole) and side > 0))
      images[entry['id']] = name, sides
    records = self._records(folder, data, images, landmarks[0][0])
    need(records)
    ids = [str(entry['id']) for entry in data['annotations']]
    need(len(set(ids)) == len(ids))
    return records, landmarks[0]

  def _parse(self, content: bytes):
    try:
      # Long whole numbers as infinities: longer than Python reads.
      return json.loads(
        content.decode(self._encoding(content)),
        object_pairs_hook=unique_object,
        parse_int=lambda text: int(text) if len(text) < 4300 else float(text),
      )
    except (ValueError, RecursionError):
      raise Invalid from None

  def _encoding(self, content: bytes) -> str:
    boms = {
      codecs.BOM_UTF32_LE: 'utf-32',
      codecs.BOM_UTF32_BE: 'utf-32',
      codecs.BOM_UTF16_LE: 'utf-16',
      codecs.BOM_UTF16_BE: 'utf-16',
      codecs.BOM_UTF8: 'utf-8-sig',
    }
    for bom, name in boms.items():
      if content.startswith(bom):
        return name
    zeros = [byte == 0 for byte in content[:4]]
    return {
      (True, True, True, False): 'utf-32-be',
      (False, True, True, True): 'utf-32-le',
      (True, False, True, False): 'utf-16-be',
      (False, True, False, True): 'utf-16-le',
      (True, False, False, False): 'utf-16-be',
      (False, True, False, False): 'utf-16-le',
    }.get(tuple(zeros), 'utf-8')

  def _names(self, value, known=None) -> tuple[str, ...]:
    need(type(value) is list and all(map(is_string, value)))
    names = tuple(
      '_'.join(word for word in re.split(r'[\s_]+', name) if word)
      for name in value
    )
    need(all(names) and (known is None or set(names) <= set(known)))
    return names

  def _category(self, entry):
    names = self._names(entry.get('keypoints'))
    need(names and len(set(names)) == len(names))
    swaps, parts = entry.get('swaps', []), entry.get('parts', {})
    need(type(swaps) is list and type(parts) is dict)
    swaps = tuple(self._names(pair, names) for pair in swaps)
    flat = [name for pair in swaps for name in pair]
    need(all(len(pair) == 2 for pair in swaps))
    need(len(set(flat)) == len(flat))
    for name in names if not swaps else ():
      turned = {'left': 'right', 'right': 'left'}
      words = [turned.get(word, word) for word in name.split('_')]
      need('_'.join(words) in names)
    for lists in parts.values():
      need(type(lists) is list and lists and all(lists))
    parts = {
      key: tuple(self._names(part, names) for part in lists)
      for key, lists in parts.items()
    }
    return names, swaps, parts

  def _records(self, folder, data, images, names):
    categories = [entry['id'] for entry in data['categories']]
    records = []
    for entry in data['annotations']:
      need(is_id(entry.get('image_id')) and entry['image_id'] in images)
      category = entry.get('category_id')
      need(is_id(category) and category in categories)
      crowd = entry.get('iscrowd', 0)
      need(type(crowd) in (int, float, bool) and crowd in (0, 1))
      if crowd:
        continue
      need('bbox' in entry)
      triples = numbers(entry.get('keypoints'), 3 * len(names))
      points, codes = [], []
      for x, y, v in zip(*(triples[i::3] for i in range(3)), strict=True):
        need(v in (0, 1, 2))
        points.append([x, y] if v else [0.0, 0.0])
        codes.append({2: V, 1: O, 0: A}[v])
      if set(codes) == {A}:
        continue
      for (x, y), code in zip(points, codes, strict=True):
        if code != A:
          need(-6 <= x <= WIDTH + 6 and -6 <= y <= HEIGHT + 6)
      box = self._box(entry['bbox'])
      name = self._image(folder, *images[entry['image_id']])
      key = f'{name}#{entry["id"]}'
      records.append(Record(key, 'train', box, floats(points), codes))
    return records

  def _box(self, value) -> list[float]:
    x, y, width, height = numbers(value, 4)
    need(width > 0 and height > 0)
    need(-WIDTH <= x < WIDTH and -WIDTH <= y < HEIGHT)
    need(0 < x + width <= 2 * WIDTH and 0 < y + height <= HEIGHT + WIDTH)
    return floats([x, y, x + width, y + height])

  def _image(self, folder, name: str, sides) -> str:
    need(is_file(folder, 'images', name))
    need(None in sides or sides == [WIDTH, HEIGHT])
    return name


class CocoDetections(Coco):
  """A list of boxes of a detector, of images of a file without damage."""

  name = 'coco_detections'
  file = 'detections/train.json'
  place = rf'{Coco.place}|detection \[\d+\](, [^:]+)?: |must be a list of det'

  def __init__(self):
    super().__init__()
    entry = {'image_id': 10, 'category_id': 7, 'bbox': [2.5, 3, 40, 30]}
    data = [
      {**entry, 'score': 0.75},
      {**entry, 'image_id': 'x', 'score': 1},
      {**entry, 'category_id': 1, 'score': 0},
    ]
    self.files[self.file] = json.dumps(data, indent=1).encode()

  def read(self, folder, findings):
    path = folder / self.file
    return list(detections.read(folder, *LAYOUT, 'train', path, findings))

  def more(self, folder):
    detections.add_to_digest('', {'train': folder / self.file})

  def expected(self, folder, files):
    names = {10: '0.png', 11: 'é/1.png', 'x': '2.png'}
    entries = self._parse(files[self.file])
    need(type(entries) is list and entries)
    records = []
    for i, entry in enumerate(entries):
      need(type(entry) is dict and {'bbox', 'score'} <= entry.keys())
      image, category = entry.get('image_id'), entry.get('category_id')
      need(is_id(image) and is_id(category))
      if category not in (7, 8):
        continue
      (score,) = numbers([entry['score']], 1)
      need(0 <= score <= 1 and image in names)
      key, box = f'{names[image]}#d{i}', self._box(entry['bbox'])
      nothing = [[0.0, 0.0]] * 3, [A] * 3
      records.append(Record(key, 'train', box, *nothing, score=score))
    return records, None


# Leeds Sports Pose, its extension, Image Parse.

MI_TYPES = {
  **{1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 9: 'f8'},
  **{12: 'i8', 13: 'u8'},
}
COMPRESSED, MATRIX = 15, 14


class Mat:
  """The numeric arrays of a MATLAB 5 file, as its documentation says."""

  def __init__(self, content: bytes):
    need(len(content) >= 128 and 0 not in content[:4])
    self.order = {b'IM': '<', b'MI': '>'}.get(content[126:128])
    need(self.order)
    need(struct.unpack(f'{self.order}H', content[124:126])[0] >> 8 == 1)
    self.content = content

  def array(self, name: bytes) -> np.ndarray:
    """The first array of a name; those before it may be anything."""
    at = 128
    while at < len(self.content):
      need(at + 8 <= len(self.content))
      kind, size = struct.unpack(f'{self.order}2I', self.content[at : at + 8])
      body = self.content[at + 8 : at + 8 + size]
      at += 8 + size
      need(len(body) == size)
      if kind == COMPRESSED:
        kind, body = self._decompress(body)
      need(kind == MATRIX)
      found, array = self._matrix(body, name)
      if found:
        return array
    raise Invalid

  def _decompress(self, body: bytes):
    stream = zlib.decompressobj()
    try:
      body = stream.decompress(body)
    except zlib.error:
      raise Invalid from None
    need(stream.eof and not stream.unused_data and len(body) >= 8)
    kind, size = struct.unpack(f'{self.order}2I', body[:8])
    need(len(body) == 8 + size)
    return kind, body[8:]

  def _matrix(self, body: bytes, wanted: bytes):
    kind, flags, at = self._element(body, 0)
    need(len(flags) == 8)
    flags = struct.unpack(f'{self.order}2I', flags)[0]
    if flags & 0xFF == 17:  # an object of MATLAB's own
      return False, None
    kind, dims, at = self._element(body, at)
    need(kind in (5, 6))
    dims = np.frombuffer(dims, f'{self.order}i4').tolist()
    kind, name, at = self._element(body, at)
    need(kind in (1, 16))
    if name != wanted:
      return False, None
    need(6 <= flags & 0xFF <= 15 and not flags & 0x0800)  # numbers, not complex
    kind, data, at = self._element(body, at)
    need(kind in MI_TYPES and min(dims, default=0) >= 0)
    data = np.frombuffer(data, self.order + MI_TYPES[kind])
    need(len(data) == np.prod(dims, dtype=object))
    return True, data.reshape(dims, order='F')

  def _element(self, body: bytes, at: int):
    """(type, bytes, where the next one is)."""
    need(at + 8 <= len(body))
    kind, size = struct.unpack(f'{self.order}2I', body[at : at + 8])
    if kind >> 16:  # up to four bytes, in the tag
      kind, size = kind & 0xFFFF, kind >> 16
      need(size <= 4)
      start, end = at + 4, at + 8
    else:
      start, end = at + 8, at + 8 + -(-size // 8) * 8
    need(start + size <= len(body))
    need(size % np.dtype(MI_TYPES.get(kind, 'i1')).itemsize == 0)
    return kind, body[start : start + size], end


def people(count: int) -> np.ndarray:
  """(count, 14, 2): standing; every other one is seen from behind."""
  right = np.array([[20, 38], [21, 30], [22, 22], [15, 20], [18, 14], [23, 8]])
  left = np.array([[40, 37], [39, 31], [38, 22], [45, 21], [42, 13], [37, 8]])
  head = np.array([[30, 7], [30, 1]])
  joints = np.concatenate(
    [right[:3], left[2::-1], right[3:], left[:2:-1], head]
  )
  points = np.array([joints + 0.25 * i for i in range(count)], float)
  mirror = [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13]
  points[1::2] = points[1::2, mirror]
  return points


class Pose(Format):
  """Three joints.mat of three conventions, with the observer's sides."""

  mutations = mutations.MAT

  def __init__(self, name: str):
    self.name = name
    self.file = 'labels.mat' if name == 'parse' else 'joints.mat'
    pattern = {
      'lsp': 'images/im{:04d}.jpg',
      'lspet': 'images/im{:05d}.jpg',
      'parse': 'im{:04d}.jpg',
    }
    self.image = pattern[name].format
    self.images = [self.image(i) for i in (1, 2, 3)]
    self.key = 'ptsAll' if name == 'parse' else 'joints'
    self.place = (
      rf'(image \d+|{self.key}|{self.key}, image \d+, \w+)(: |$)'
      '|is not a valid MATLAB'
    )
    points = people(3)
    third = np.ones((3, 14, 1)) if name == 'lspet' else np.zeros((3, 14, 1))
    third[0, 3] = third[2, 6] = 1 - third[0, 0]
    array = np.concatenate([points, third], axis=2)
    if name == 'lspet':
      array[0, 3, :2] = -260, 9000
    order = {'lsp': (2, 1, 0), 'lspet': (1, 2, 0), 'parse': (1, 2, 0)}[name]
    array = array[:, :, :2] if name == 'parse' else array
    file = io.BytesIO()
    scipy.io.savemat(file, {self.key: array.transpose(order)})
    self.files = {self.file: file.getvalue()}

  def read(self, folder, findings):
    return list(pose_folder.read(folder, self.name, findings=findings))

  def more(self, folder):
    list(pose_folder.read(folder, self.name, 'observer'))
    pose_folder.digest(folder, self.name, 'observer')

  def expected(self, folder, files):
    array = Mat(files[self.file]).array(self.key.encode())
    need(array.ndim == 3)
    if self.name == 'lsp':
      array = array.transpose(1, 0, 2)
    need(array.shape[:2] == (14, 2 if self.name == 'parse' else 3))
    need(array.shape[2] > 0)
    array = np.array(array, np.float64)
    records = []
    for i in range(array.shape[2]):
      of_image = self._record(folder, i, array[:, :, i].tolist())
      records += [of_image] if of_image else []
    return records, None

  def _record(self, folder, i: int, joints):
    codes = [V] * 14
    if self.name != 'parse':
      meanings = {'lsp': {0: V, 1: O}, 'lspet': {1: V, 0: A}}[self.name]
      for j, joint in enumerate(joints):
        need(joint[2] in meanings)
        codes[j] = meanings[joint[2]]
    points = [
      [0.0, 0.0] if code == A else joint[:2]
      for joint, code in zip(joints, codes, strict=True)
    ]
    known = [j for j in range(14) if codes[j] != A]
    if not known:
      return None
    need(is_file(folder, self.image(i + 1)))
    for x, y in (points[j] for j in known):
      need(-WIDTH <= x <= 2 * WIDTH and -WIDTH <= y <= HEIGHT + WIDTH)
    low = [min(points[j][k] for j in known) for k in (0, 1)]
    high = [max(points[j][k] for j in known) for k in (0, 1)]
    margin = max(high[0] - low[0], high[1] - low[1], 1.0) / 6
    box = floats([v - margin for v in low] + [v + margin for v in high])
    if self.name != 'parse' and {2, 3, 8, 9} <= set(known):
      self._turn(points, codes)
    return Record(self.image(i + 1), 'train', box, floats(points), codes)

  def _turn(self, points, codes) -> None:
    """The sides as the observer sees them; in place."""
    middle = lambda a, b, k: (points[a][k] + points[b][k]) / 2
    down = [middle(2, 3, k) - middle(8, 9, k) for k in (0, 1)]
    limbs = {(2, 3): [0, 1, 2], (8, 9): [6, 7, 8]}
    wrong = []
    for (right, left), limb in limbs.items():
      across = [points[left][k] - points[right][k] for k in (0, 1)]
      if across[0] * down[1] - across[1] * down[0] < 0:
        wrong += limb
    for j in wrong:
      other = {0: 5, 1: 4, 2: 3, 6: 11, 7: 10, 8: 9}[j]
      for values in (points, codes):
        values[j], values[other] = values[other], values[j]


FORMATS = [
  *(DeepFashion(False, key) for key in LISTS),
  *(DeepFashion(True, key) for key in LISTS),
  FashionAi(),
  Coco(),
  CocoDetections(),
  *(Pose(name) for name in ('lsp', 'lspet', 'parse')),
]
