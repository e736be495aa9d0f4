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

import dataclasses
import pathlib
from typing import Any, NamedTuple

import numpy as np

from fld_jax.errors import InputError, printable, shortened
from fld_jax.files import (
  coco,
  csv_tables,
  file_names,
  json_files,
  text_lists,
)
from fld_jax.files.image_names import ImageNames

# What columns may be called, as `csv_tables.plain` has it.
NAMES = {
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
  """

  def __init__(self, table: csv_tables.Table):
    """Finds the columns.

    Args:
      table: The cells of the CSV.

    Raises:
      InputError: The columns of the image or of the box are missing.
    """
    self.image = table.find(csv_tables.IMAGE_COLUMNS)
    for self.fields in (CORNERS, SIDES, ['bbox']):
      self.box = [table.find(NAMES[name]) for name in self.fields]
      if None not in self.box:
        break
    if self.image is None or None in self.box:
      raise InputError(
        f"{table.path}, line 1: the header is '"
        f"{printable(','.join(table.header), 60)}', must have {_VALID}"
      )
    self.is_corners = self.fields is CORNERS
    self.clothes_type = table.find(NAMES['clothes_type'])
    self.must_be_known = 'clothes_type' in table.columns


def _read_csv(path: pathlib.Path, types: dict[int, str]) -> Boxes:
  """Reads a CSV; arguments, result and errors are those of `read`."""
  table = csv_tables.read(path)
  columns = _Columns(table)
  items, failures = [], []
  for line, cells in table.rows:
    name = file_names.decoded(file_names.from_cell(cells[columns.image]))
    given = [cells[i].strip() for i in columns.box]
    if not any(given):
      failures.append((name, f'{path}, line {line}: there is no box'))
      continue
    box = _csv_box(table, line, columns, given)
    items.append(Item(name, box, _type(path, line, columns, cells, types)))
  return Boxes(items, failures)


def _csv_box(
  table: csv_tables.Table, line: int, columns: _Columns, given: list[str]
) -> np.ndarray:
  """Reads the box of a line.

  Args:
    table: The cells of the CSV.
    line: The number of the line, for messages.
    columns: The places of the columns.
    given: The cells of the box, without space around them.

  Returns:
    (4,) x1, y1, x2, y2 in pixels.

  Raises:
    InputError: The cells are no numbers, or the box has no area.
  """
  fields = columns.fields
  if fields == ['bbox']:
    fields, given = SIDES, given[0].strip('[]() ').replace(',', ' ').split()
  elif table.separator == ';':  # of spreadsheets that write 1,5 for 1.5
    given = [
      cell.replace(',', '.') if cell.count(',') == 1 else cell for cell in given
    ]
  box = np.array(text_lists.numbers(table.path, line, fields, given))
  if not columns.is_corners:
    box[2:] += box[:2]
  if (box[2:] <= box[:2]).any():
    ends = 'x2 and y2 must be above x1 and y1'
    sides = 'width and height must be above 0'
    problem = f'has no area: {ends if columns.is_corners else sides}'
    raise text_lists.error(table.path, line, 'box', problem)
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


def _code(name: Any, types: dict[int, str]) -> int:
  """The code of a clothes type's name, 0 for any other value."""
  codes = {csv_tables.plain(kind): code for code, kind in types.items()}
  return codes.get(csv_tables.plain(name), 0) if isinstance(name, str) else 0


def _read_json(path: pathlib.Path, types: dict[int, str]) -> Boxes:
  data = json_files.read_json(path)
  images, categories, document = {}, {}, None
  if isinstance(data, list):
    entries, place = data, 'results'
  elif isinstance(data, dict) and {'images', 'annotations'} <= data.keys():
    for field in ('images', 'annotations'):
      if not isinstance(data[field], list):
        given = shortened(data[field])
        raise InputError(f'{path}, {field}: is {given}, must be a list')
    images = _names_by_id(path, data['images'])
    entries, place = data['annotations'], 'annotations'
    document = data
    if not entries:  # of a tool in which nothing is annotated yet
      whole = [Item(name, None) for name in images.values()]
      return Boxes(whole, [], document)
    if isinstance(data.get('categories'), list):
      categories = {
        coco.as_id(entry.get('id')): _code(entry.get('name'), types)
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
    kind = categories.get(coco.find_id(entry.get('category_id'), categories), 0)
    items.append(Item(image, box, kind, i if document else None))
  return Boxes(items, failures, document)


def _names_by_id(path: pathlib.Path, entries: list) -> dict[coco.Id, str]:
  """Id -> name of the images of a COCO file.

  Args:
    path: The path of the file, for messages.
    entries: The file's list of images. Their sides, which are of no use here,
      may be anything.

  Raises:
    InputError: An image has no id or no name, or an id is of two names.
  """
  names = {}
  for i, entry in enumerate(entries):
    place = f'images[{i}]'
    coco.check_fields(path, place, entry, 'id', 'file_name')
    key, name = coco.as_id(entry['id']), entry['file_name']
    if not isinstance(name, str) or not name or '\0' in name:
      problem = f'is {shortened(name)}, must be the name of a file'
      raise coco.error(path, place, 'file_name', problem)
    name = file_names.decoded(name)
    if names.setdefault(key, name) != name:
      problem = f'is {shortened(key)}, which stands twice, must be unique'
      raise coco.error(path, place, 'id', problem)
  return names


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
    key = coco.find_id(name, images)
    if key in images:
      return images[key]
  if field not in entry:
    raise coco.error(path, at, field, 'is missing')
  raise coco.error(path, at, field, f'is {shortened(name)}, must name an image')


def for_images(
  items: list[Item], names: list[str], path: pathlib.Path
) -> tuple[list[Item], int]:
  """The items on the given images, in the order of the images.

  Args:
    items: Items that `read` returned.
    names: The names of the images.
    path: The file of boxes, for the message.

  Returns:
    (items with the names of their images, number of items whose image is not
    among the names, as `ImageNames.find_all` understands these).

  Raises:
    InputError: No item is on any of the images.
  """
  images = ImageNames({name: name for name in names})
  found = [
    dataclasses.replace(item, image=name)
    for item, name in zip(
      items, images.find_all([item.image for item in items]), strict=True
    )
    if name is not None
  ]
  if not found:
    raise InputError(
      f"{path}: of its images, '{printable(items[0].image)}' the first, none "
      f"is among those of --images, '{printable(names[0])}' the first: give "
      'them as paths below the folder of --images.'
    )
  order = {name: i for i, name in enumerate(names)}
  found.sort(key=lambda item: order[item.image])
  return found, len(items) - len(found)
