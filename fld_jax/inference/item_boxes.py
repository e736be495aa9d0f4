"""Reads the boxes of items on photos from a CSV or a COCO JSON file.

  .csv    columns by name, in any order, others left out: the image, the box's
          x1, y1, x2, y2 or x, y, width, height, and perhaps the clothes type;
          NAMES lists what they may be called. Separated by commas, semicolons
          or tabs; one line an item
  .json   COCO's annotations ({"images", "annotations"}), or a list of COCO's
          results with "file_name" and "bbox" [x, y, width, height]

Positions are x, y in pixels of the image as it is shown, from its top-left
corner. An object of a JSON file without a box is a failure of that object; of a
COCO file without annotations each image is an item that fills it.
"""

import csv
import dataclasses
import pathlib
import posixpath
import re
import urllib.parse
from typing import NamedTuple

import numpy as np

from fld_jax.errors import Findings, InputError, printable
from fld_jax.files import coco, file_names, json_files, text_lists

# What columns may be called, in lower case and with underscores.
NAMES = {
  'image': (
    'image file_name filename image_path image_name image_file imagename '
    'imagepath file path filepath file_path img'
  ).split(),
  'x1': 'x1 xmin x_min left bbox_x1 box_x1'.split(),
  'y1': 'y1 ymin y_min top bbox_y1 box_y1'.split(),
  'x2': 'x2 xmax x_max right bbox_x2 box_x2'.split(),
  'y2': 'y2 ymax y_max bottom bbox_y2 box_y2'.split(),
  'x': 'x bbox_x box_x bbox_left left xmin x_min x1'.split(),
  'y': 'y bbox_y box_y bbox_top top ymin y_min y1'.split(),
  'width': 'w bbox_w box_w bbox_width box_width width'.split(),
  'height': 'h bbox_h box_h bbox_height box_height height'.split(),
  'bbox': 'bbox box'.split(),
  'clothes_type': (
    'clothes_type class category label class_name category_name type'
  ).split(),
}
CORNERS = ['x1', 'y1', 'x2', 'y2']
SIDES = ['x', 'y', 'width', 'height']
_VALID = (
  'a column image (or file_name, filename) and the columns x1,y1,x2,y2 (or '
  'xmin,ymin,xmax,ymax), or x,y,width,height'
)


@dataclasses.dataclass(frozen=True)
class Item:
  """One item on a photo.

  Attributes:
    image: The photo's name, as the file of boxes gives it.
    box: (4,) float64 x1, y1, x2, y2 in pixels of the photo; None for the whole
      photo.
    clothes_type: The code of the clothes type, 0 if it is not known.
    entry: The index of the item among the annotations of a COCO file; None if
      it comes from elsewhere.
  """

  image: str
  box: np.ndarray | None
  clothes_type: int = 0
  entry: int | None = None


class Boxes(NamedTuple):
  """What a file of boxes holds.

  Attributes:
    items: The items in the order of the file, at least one.
    failures: (image, reason) of each object that has no box to be used.
    document: The object of a COCO file of images and annotations; None for any
      other file.
  """

  items: list[Item]
  failures: list[tuple[str, str]]
  document: dict | None = None


def read(path: pathlib.Path, types: dict[int, str]) -> Boxes:
  """Reads and checks a file of boxes.

  Args:
    path: The file; its ending, .csv or .json, is its format.
    types: Clothes type code -> name, from the landmark set.

  Returns:
    The items, and the objects that are none.

  Raises:
    InputError: Something is wrong with the file. It names the file, the line or
      entry, the field and what is valid.
  """
  readers = {'.csv': _read_csv, '.json': _read_json}
  if path.suffix.lower() not in readers:
    raise InputError(
      f"{path}: the ending is '{path.suffix}', valid are {', '.join(readers)}."
    )
  if not path.is_file():
    raise InputError(f'{path}: this file of boxes is missing.')
  found = readers[path.suffix.lower()](path, types)
  if not found.items:
    raise InputError(
      found.failures[0][1]
      if found.failures
      else f'{path}: there is no box in it.'
    )
  return found


class _Columns:
  """Where the columns of a CSV stand.

  Attributes:
    image: The index of the column of images.
    box: The indices of the columns of the box, four or, of 'bbox', one.
    fields: The names of these columns, for messages.
    is_corners: Whether the box is x1, y1, x2, y2, and not x, y, width, height.
    clothes_type: The index of the column of types; None if there is none.
    must_be_known: Whether each type must be one of the landmark set's: another
      tool's classes need not be.
    header: The number of columns.
  """

  def __init__(self, path: pathlib.Path, header: list[str]):
    self.header = len(header)
    names = [_plain(cell) for cell in header]
    find = lambda what: next(
      (names.index(name) for name in NAMES[what] if name in names), None
    )
    self.image = find('image')
    self.fields, self.box = CORNERS, [find(name) for name in CORNERS]
    self.is_corners = None not in self.box
    if not self.is_corners:
      self.fields, self.box = SIDES, [find(name) for name in SIDES]
    if None in self.box:
      self.fields, self.box = ['bbox'], [find('bbox')]
    if self.image is None or None in self.box:
      raise InputError(
        f"{path}, line 1: the header is '{printable(','.join(header), 60)}', "
        f'must have {_VALID}'
      )
    self.clothes_type = find('clothes_type')
    self.must_be_known = 'clothes_type' in names


def _plain(cell: str) -> str:
  """A column's name in lower case, with underscores between its words."""
  return re.sub(r'[\s\-.]+', '_', cell.strip().lower())


def _read_csv(path: pathlib.Path, types: dict[int, str]) -> Boxes:
  items, failures = [], []
  with path.open('rb') as file:
    decoded = text_lists.decoded_lines(path, file, Findings())
    first = next(decoded, '')
    # The one that the header has most of: names of columns have none of them.
    separator = max(',;\t', key=first.count)
    lines = csv.reader(_again(first, decoded), strict=True, delimiter=separator)
    try:
      columns = _Columns(path, next(lines, []))
      for cells in filter(None, lines):  # blank lines have no cells
        line = lines.line_num
        if len(cells) != columns.header:
          valid = f'{columns.header}, as the header has'
          raise text_lists.columns_error(path, line, cells, valid)
        name = file_names.decoded(file_names.from_cell(cells[columns.image]))
        given = [cells[i].strip() for i in columns.box]
        if not any(given):
          failures.append((name, f'{path}, line {line}: there is no box'))
          continue
        box = _csv_box(path, line, columns, given, separator)
        items.append(Item(name, box, _type(path, line, columns, cells, types)))
    except csv.Error as error:
      raise InputError(
        f'{path}, line {lines.line_num}: is not valid CSV ({error})'
      ) from None
  return Boxes(items, failures)


def _again(first: str, rest):
  """The first line, which was looked at, and the rest."""
  if first:
    yield first
  yield from rest


def _csv_box(
  path: pathlib.Path,
  line: int,
  columns: _Columns,
  given: list[str],
  separator: str,
) -> np.ndarray:
  """The box of a line, (4,) x1, y1, x2, y2."""
  fields = columns.fields
  if fields == ['bbox']:
    fields, given = SIDES, given[0].strip('[]() ').replace(',', ' ').split()
  elif separator == ';':  # of spreadsheets that write 1,5 for one and a half
    given = [
      cell.replace(',', '.') if cell.count(',') == 1 else cell for cell in given
    ]
  box = np.array(text_lists.numbers(path, line, fields, given))
  if not columns.is_corners:
    box[2:] += box[:2]
  if (box[2:] <= box[:2]).any():
    ends = 'x2 and y2 must be above x1 and y1'
    sides = 'width and height must be above 0'
    problem = f'has no area: {ends if columns.is_corners else sides}'
    raise text_lists.error(path, line, 'box', problem)
  return box


def _type(
  path: pathlib.Path,
  line: int,
  columns: _Columns,
  cells: list[str],
  types: dict[int, str],
) -> int:
  """The code of a line's clothes type, 0 if it is not known."""
  if columns.clothes_type is None:
    return 0
  kind = cells[columns.clothes_type].strip()
  code = _code(kind, types)
  if kind and not code and columns.must_be_known:
    raise text_lists.error(
      path,
      line,
      'clothes_type',
      f"is '{printable(kind)}', must be one of {', '.join(types.values())}",
    )
  return code


def _code(name, types: dict[int, str]) -> int:
  """The code of a clothes type's name, 0 for any other value."""
  codes = {_plain(kind): code for code, kind in types.items()}
  return codes.get(_plain(name), 0) if isinstance(name, str) else 0


def _read_json(path: pathlib.Path, types: dict[int, str]) -> Boxes:
  data = json_files.read_json(path)
  images, categories, document = {}, {}, None
  if isinstance(data, list):
    entries, place = data, 'results'
  elif isinstance(data, dict) and {'images', 'annotations'} <= data.keys():
    for field in ('images', 'annotations'):
      if not isinstance(data[field], list):
        given = coco.short(data[field])
        raise InputError(f'{path}, {field}: is {given}, must be a list')
    images = _by_id(path, data['images'], 'file_name')
    entries, place = data['annotations'], 'annotations'
    document = data
    if not entries:  # of a tool in which nothing is annotated yet
      whole = [Item(name, None) for name in images.values()]
      return Boxes(whole, [], document)
    if isinstance(data.get('categories'), list):
      categories = {
        _id(entry.get('id')): _code(entry.get('name'), types)
        for entry in data['categories']
        if isinstance(entry, dict)
      }
  else:
    raise InputError(
      f'{path}: must be a list of COCO results with file_name and bbox, or an '
      'object with images and annotations'
    )
  items, failures = [], []
  for i, entry in enumerate(entries):
    at, image = f'{place}[{i}]', ''
    try:
      coco.check_fields(path, at, entry)
      image = _image(path, at, entry, images, place == 'results')
      if entry.get('bbox') is None:
        raise coco.error(path, at, 'bbox', 'is missing')
      box = coco.read_box(path, at, entry['bbox'])
    except InputError as problem:
      failures.append((image, str(problem)))
      continue
    kind = categories.get(_id(entry.get('category_id')), 0)
    items.append(Item(image, box, kind, i if document else None))
  return Boxes(items, failures, document)


def _by_id(path: pathlib.Path, entries: list, field: str) -> dict[str, str]:
  """Id -> the name in a field, of the images of a COCO file."""
  names = {}
  for i, entry in enumerate(entries):
    place = f'images[{i}]'
    coco.check_fields(path, place, entry, field)
    key, name = _id(entry.get('id')), entry[field]
    if key is None:
      problem = (
        f'is {coco.short(entry.get("id"))}, must be a number or a string'
      )
      raise coco.error(path, place, 'id', problem)
    if names.get(key, name) != name:
      problem = f'is {coco.short(entry["id"])}, which stands twice'
      raise coco.error(path, place, 'id', f'{problem}, must be unique')
    if not isinstance(name, str) or not name or '\0' in name:
      problem = f'is {coco.short(name)}, must be the name of a file'
      raise coco.error(path, place, field, problem)
    names[key] = file_names.decoded(name)
  return names


def _id(value) -> str | None:
  """An id as text: tools write 1, 1.0 and "1" for one; None if it is none."""
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  if isinstance(value, bool) or not isinstance(value, (int, str)):
    return None
  if isinstance(value, int) and abs(value) > 10**30:
    return None
  return str(value)


def _image(
  path: pathlib.Path, at: str, entry: dict, images: dict, is_result: bool
) -> str:
  """The name of the image that an entry is on."""
  if is_result and 'file_name' in entry:
    field, name = 'file_name', entry['file_name']
    if isinstance(name, str) and name:
      return file_names.decoded(name)
  elif is_result:
    # Some tools name the image by its file's name without the ending.
    field = (
      'image_id' if isinstance(entry.get('image_id'), str) else 'file_name'
    )
    name = entry.get(field)
    if isinstance(name, str) and name:
      return name
  else:
    field, name = 'image_id', entry.get('image_id')
    if _id(name) in images:
      return images[_id(name)]
  if field not in entry:
    raise coco.error(path, at, field, 'is missing')
  raise coco.error(
    path, at, field, f'is {coco.short(name)}, must name an image'
  )


def for_images(
  items: list[Item], names: list[str], path: pathlib.Path
) -> tuple[list[Item], int]:
  r"""The items on the given images, in the order of the images.

  A name stands for the image of that path; with '\' for '/', './' before it or
  percent signs of a URL it does, too. If none does, names that end with an
  image's path do, which a labelling tool wrote with folders of its own; and
  then names without an ending.

  Args:
    items: Items that `read` returned.
    names: The names of the images.
    path: The file of boxes, for the message.

  Returns:
    (items with the names of their images, number of items whose image is not
    among the names).

  Raises:
    InputError: No item is on any of the images.
  """
  order = {name: i for i, name in enumerate(names)}
  matches = (_exact(order), _of_ends(names), _of_stems(names))
  for match in matches:
    pairs = [(match(item.image), item) for item in items]
    found = [
      dataclasses.replace(item, image=name)
      for name, item in pairs
      if name is not None
    ]
    if found:
      found.sort(key=lambda item: order[item.image])
      return found, len(items) - len(found)
  raise InputError(
    f"{path}: of its images, '{printable(items[0].image)}' the first, none "
    f"is among those of --images, '{printable(names[0])}' the first: give "
    'them as paths below the folder of --images.'
  )


def _forms(name: str):
  """A name as it is, and as other systems and tools write it."""
  yield name
  plain = urllib.parse.unquote(name)
  # Of Label Studio's local storage, /data/local-files/?d=NAME.
  for form in (name, plain, plain.rpartition('?d=')[2]):
    yield posixpath.normpath(form)
    yield posixpath.normpath(form.replace('\\', '/'))


def _exact(order: dict[str, int]):
  return lambda name: next(
    (form for form in _forms(name) if form in order), None
  )


def _of_ends(names: list[str]):
  """Finds the image whose path a name ends with, or that ends with the name."""
  by_last = {}
  for name in names:
    by_last.setdefault(posixpath.basename(name), []).append(name)

  def match(given: str) -> str | None:
    for form in _forms(given):
      found = [
        name
        for name in by_last.get(posixpath.basename(form), ())
        if f'/{form}'.endswith(f'/{name}')
      ]
      if found:
        return max(found, key=len)
      longer = [
        name
        for name in by_last.get(posixpath.basename(form), ())
        if name.endswith(f'/{form}')
      ]
      if len(longer) == 1:
        return longer[0]
    return None

  return match


def _of_stems(names: list[str]):
  """Finds the one image of a name without its ending."""
  by_stem = {}
  for name in names:
    by_stem.setdefault(posixpath.splitext(name)[0], []).append(name)

  def match(given: str) -> str | None:
    for form in _forms(given):
      if len(by_stem.get(form, ())) == 1:
        return by_stem[form][0]
    return None

  return match
