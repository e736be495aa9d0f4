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
import urllib.parse
import zlib

import fuzz_mutations as mutations
import numpy as np
import scipy.io
from PIL import Image

from fld_jax.datasets.coco import detections
from fld_jax.datasets.coco import folder as coco_folder
from fld_jax.datasets.coco import layout as coco_layout
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


def as_id(value):
  """A whole number, also as 1.0, or text; anything else is none."""
  if type(value) is float and value.is_integer():
    return int(value)
  need(type(value) is int or is_string(value))
  return value


def find_id(value, known):
  """The known id that is meant: 1 for '1', and '1' for 1, if none is equal."""
  found = as_id(value)
  if found in known:
    return found
  if type(found) is str:
    found = number(found)
    need(found is not None and float(found).is_integer())
    found = int(found)
  else:
    found = str(found)
  need(found in known)
  return found


def is_missing(value) -> bool:
  """null, NaN or empty text."""
  return value is None or value == '' or value != value


def is_string(value) -> bool:
  """Without halves of characters, which cannot be written."""
  return type(value) is str and not re.search('[\ud800-\udfff]', value)


def number(value):
  """A number, also as text; None if it is none or has no end."""
  if type(value) is str:
    text = value.strip()
    if re.fullmatch('[0-9]{1,4299}', text):
      return int(text)
    try:
      digits = r'([0-9]+\.?[0-9]*|\.[0-9]+)'
      need(re.fullmatch(rf'[+-]?{digits}([eE][+-]?[0-9]+)?', text))
    except Invalid:
      return None
    return float(text)
  if type(value) not in (int, float) or not abs(value) <= 1e300:
    return None
  return value


def numbers(value, length: int) -> list[float]:
  need(type(value) is list and len(value) == length)
  found = [number(entry) for entry in value]
  need(all(n is not None and abs(n) <= 1e9 for n in found))
  return [float(n) for n in found]


class Coco(Format):
  """A file of val, the only one.

  JSON in UTF-8, or in UTF-16 or 32, which other programs write. Numbers may be
  text and whole ones 1.0; null, NaN and empty text stand for what is not known.
  Fields that are not read may hold anything. `iscrowd` is 0 or 1, also as true
  and false. Categories without landmarks are left out with their objects; the
  others have types, and the landmarks are the union. A box must touch the image
  and end within its longer side of it; where there is none it is drawn around
  the landmarks. Images are found by the last part of their names if no other
  listed name could mean that file.
  """

  name = 'coco'
  file = 'annotations/val.json'
  mutations = mutations.JSON
  place = (
    r'(line \d+, [^:]+|(annotations|images|categories)(\[\d+\](, [^:]+)?)?|'
    r'categories, .+|'
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
    return list(coco_folder.read(folder, *LAYOUT, findings))

  def more(self, folder):
    found = coco_folder.read_landmark_set(folder, LAYOUT[0])
    coco_folder.content_digest(folder, *LAYOUT)
    return found.names, found.swaps, found.parts, found.types

  def expected(self, folder, files):
    data = self._parse(files[self.file])
    need(type(data) is dict)
    for key in ('images', 'annotations', 'categories'):
      need(type(data.get(key)) is list and data[key])
      need(all(type(entry) is dict for entry in data[key]))
    categories = {}
    for entry in data['categories']:
      key = as_id(entry.get('id'))
      need(key not in categories)
      categories[key] = self._category(key, entry)
    landmarks = self._union(categories)
    images = {}
    for entry in data['images']:
      key, name = as_id(entry.get('id')), entry.get('file_name')
      need(key not in images and is_string(name) and name and '\0' not in name)
      sides = [self._side(entry.get(side)) for side in ('width', 'height')]
      images[key] = name, sides
    records = self._records(folder, data, images, categories, landmarks)
    need(records)
    return records, landmarks

  def _side(self, value):
    if is_missing(value):
      return None
    side = number(value)
    need(side is not None and 0 <= side <= 1e9 and float(side).is_integer())
    return int(side) or None

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

  def _category(self, key, entry):
    """(name, landmarks, pairs or None, parts); None without landmarks."""
    names = entry.get('keypoints')
    if names is None or names == []:
      return None
    need(type(names) is list)
    names = self._names([str(n) if type(n) is int else n for n in names])
    need(len(set(names)) == len(names))
    swaps, parts = entry.get('swaps'), entry.get('parts') or {}
    need(swaps is None or type(swaps) is list)
    need(type(parts) is dict)
    if swaps is not None:
      swaps = tuple(self._names(pair, names) for pair in swaps)
      flat = [name for pair in swaps for name in pair]
      need(all(len(pair) == 2 for pair in swaps))
      need(len(set(flat)) == len(flat))
      swaps = {tuple(sorted(pair)) for pair in swaps}
    for lists in parts.values():
      need(type(lists) is list and lists and all(lists))
    parts = {
      key: tuple(self._names(part, names) for part in lists)
      for key, lists in parts.items()
    }
    title = entry.get('name')
    if not is_string(title) or not title.strip():
      title = f'category {key}'
    return title.strip(), names, swaps, parts

  def _union(self, categories):
    """(names, pairs or None, parts, types) of all categories."""
    names, told, parts, types, declared = [], set(), {}, {}, {}
    for found in categories.values():
      if not found:
        continue
      title, own, swaps, own_parts = found
      for other in categories.values():
        if other and other[0] == title:
          need(set(other[1]) == set(own))
          if None not in (swaps, other[2]):
            need(swaps == other[2])
          swaps = other[2] if swaps is None else swaps
      for key, lists in own_parts.items():
        need(parts.setdefault(key, lists) == lists)
      if title not in types.values():
        types[len(types) + 1] = title
        names += [name for name in own if name not in names]
        declared[title] = swaps
        told |= self._told(own) if swaps is None else swaps
    need(names)
    flat = [name for pair in told for name in pair]
    need(len(set(flat)) == len(flat))
    swaps = tuple(sorted(told))
    if all(pairs is None for pairs in declared.values()):
      swaps = None
    return tuple(names), swaps, parts, types

  def _told(self, names):
    turned = {'left': 'right', 'right': 'left'}
    key = lambda name: tuple(name.lower().split('_'))
    keys = {key(name): name for name in names}
    mirrored = lambda name: tuple(turned.get(w, w) for w in key(name))
    return {
      tuple(sorted((name, keys[mirrored(name)])))
      for name in names
      if keys.get(mirrored(name), name) != name
    }

  def _records(self, folder, data, images, categories, landmarks):
    union, _, _, types = landmarks
    codes_of = {name: code for code, name in types.items()}
    listed = [name for name, _ in images.values()]
    records, keys = [], set()
    for i, entry in enumerate(data['annotations']):
      key = i if entry.get('id') is None else as_id(entry['id'])
      need(str(key) not in keys)
      keys.add(str(key))
      as_id(entry.get('image_id'))
      image = images[find_id(entry['image_id'], images)]
      category = categories[find_id(entry.get('category_id'), categories)]
      crowd = entry.get('iscrowd')
      if not is_missing(crowd) and type(crowd) is not bool:
        crowd = number(crowd)
        need(crowd in (0, 1))
      if crowd and not is_missing(crowd):
        continue
      if category is None or not entry.get('keypoints'):
        continue
      title, names, *_ = category
      points, codes = self._marks(entry['keypoints'], names)
      if set(codes) == {A}:
        continue
      known = [
        point for point, code in zip(points, codes, strict=True) if code != A
      ]
      for x, y in known:
        need(-6 <= x <= WIDTH + 6 and -6 <= y <= HEIGHT + 6)
      box = self._box_or_around(entry.get('bbox'), known)
      name = self._image(folder, *image, listed)
      all_points = [[0.0, 0.0] for _ in union]
      all_codes = [A] * len(union)
      for n, point, code in zip(names, points, codes, strict=True):
        all_points[union.index(n)] = point
        all_codes[union.index(n)] = code
      records.append(
        Record(
          id=f'{name}#{key}',
          split='val',
          box=box,
          landmarks=floats(all_points),
          visibility=all_codes,
          clothes_type=codes_of[title],
        )
      )
    return records

  def _marks(self, value, names):
    need(type(value) is list and len(value) == 3 * len(names))
    points, codes = [], []
    for x, y, v in zip(*(value[i::3] for i in range(3)), strict=True):
      v = 0 if is_missing(v) and is_missing(x) else number(v)
      need(v in (0, 1, 2))
      points.append(numbers([x, y], 2) if v else [0.0, 0.0])
      codes.append({2: V, 1: O, 0: A}[v])
    return points, codes

  def _box_or_around(self, value, known) -> list[float]:
    a_list = type(value) is list and len(value) == 4
    if (
      is_missing(value)
      or (not a_list and not value)
      or (a_list and [number(side) for side in value[2:]] == [0, 0])
      or (a_list and all(map(is_missing, value)))
    ):
      low, high = np.min(known, axis=0), np.max(known, axis=0)
      margin = max(0.15 * (high - low).max(), 0.02 * WIDTH)
      box = np.concatenate([low - margin, high + margin])
      inside = np.clip(box, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
      return floats(inside if (inside[2:] > inside[:2]).all() else box)
    return self._box(value)

  def _box(self, value) -> list[float]:
    x, y, width, height = numbers(value, 4)
    need(width > 0 and height > 0)
    need(-WIDTH <= x < WIDTH and -WIDTH <= y < HEIGHT)
    need(0 < x + width <= 2 * WIDTH and 0 < y + height <= HEIGHT + WIDTH)
    return floats([x, y, x + width, y + height])

  def _image(self, folder, name: str, sides, listed) -> str:
    file, is_guess = self._file(folder, name)
    last = lambda parts: parts[-1].casefold() if parts else ''
    parts = self._parts(name)
    namesakes = [
      other
      for other in listed
      if self._parts(other) != parts and last(self._parts(other)) == last(parts)
    ]
    if is_guess:
      need(all(self._file(folder, other)[0] != file for other in namesakes))
    if not file:
      ends = [
        path for path in self.images if last(path.split('/')) == last(parts)
      ]
      need(len(ends) == 1 and not namesakes)
    else:
      need(os.path.relpath(file, folder) in self.images)
    need(None in sides or sides == [WIDTH, HEIGHT])
    return name

  def _parts(self, name: str) -> list[str]:
    """What a name may mean: decoded, without folders above."""
    name = name.replace('\\', '/')
    decoded = urllib.parse.unquote(name)
    if '://' in name or '?' in name:
      decoded = urllib.parse.unquote(re.split('[?#]', name)[0]) or decoded
    return [part for part in decoded.split('/') if part not in ('', '.', '..')]

  def _file(self, folder, name: str):
    """(the file that a name leads to or None, whether only its end does)."""
    places = ('images', '.', 'annotations')
    decoded = self._parts(name)
    slashes = name.replace('\\', '/')
    writings = [name, slashes, urllib.parse.unquote(slashes), '/'.join(decoded)]
    tails = ['/'.join(decoded[i:]) for i in range(1, len(decoded))]
    for i, each in enumerate([*writings, *tails]):
      for place in places:
        if is_file(folder, place, each):
          path = os.path.normpath(os.path.join(folder, place, each))
          return path, i >= len(writings)
    return None, False


class CocoDetections(Coco):
  """A list of boxes of a detector, of images of a file without damage."""

  name = 'coco_detections'
  file = 'detections/val.json'
  place = (
    rf'{Coco.place}|detection \[\d+\](, [^:]+)?: |must be a list of det|'
    'category_id: '
  )

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
    (source,) = coco_layout.sources(folder, *LAYOUT)
    landmarks = coco_folder.read_landmark_set(folder, LAYOUT[0])
    reader = coco_folder.Reader(source, landmarks)
    return list(detections.read(reader, folder / self.file, findings))

  def more(self, folder):
    detections.add_to_digest('', {'val': folder / self.file})

  def expected(self, folder, files):
    names = {10: '0.png', 11: 'é/1.png', 'x': '2.png'}
    entries = self._parse(files[self.file])
    need(type(entries) is list and entries)
    records = []
    for i, entry in enumerate(entries):
      need(type(entry) is dict and {'bbox', 'score'} <= entry.keys())
      as_id(entry.get('image_id'))
      as_id(entry.get('category_id'))
      try:
        category = find_id(entry['category_id'], (7, 8))
      except Invalid:
        continue
      (score,) = numbers([entry['score']], 1)
      need(0 <= score <= 1)
      image = find_id(entry['image_id'], names)
      key, box = f'{names[image]}#d{i}', self._box(entry['bbox'])
      records.append(
        Record(
          *(key, 'val', box, [[0.0, 0.0]] * 3, [A] * 3),
          clothes_type=category - 6,
          score=score,
        )
      )
    need(records)
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
