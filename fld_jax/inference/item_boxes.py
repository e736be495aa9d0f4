"""Reads the boxes of items on photos from a CSV or a COCO JSON file.

  .csv    image,x1,y1,x2,y2 and optionally ,clothes_type; one line an item
  .json   COCO's annotations ({"images", "annotations"}), or a list of COCO's
          results with "file_name" and "bbox" [x, y, width, height]

Positions are x, y in pixels of the image as it is shown, from its top-left
corner.
"""

import csv
import dataclasses
import pathlib

import numpy as np

from fld_jax.errors import Findings, InputError, printable
from fld_jax.files import coco, json_files, text_lists

HEADER = ['image', 'x1', 'y1', 'x2', 'y2']


@dataclasses.dataclass(frozen=True)
class Item:
  """One item on a photo.

  Attributes:
    image: The photo's name, as the file of boxes gives it.
    box: (4,) float64 x1, y1, x2, y2 in pixels of the photo; None for the whole
      photo.
    clothes_type: The code of the clothes type, 0 if it is not known.
  """

  image: str
  box: np.ndarray | None
  clothes_type: int = 0


def read(path: pathlib.Path, types: dict[int, str]) -> list[Item]:
  """Reads and checks a file of boxes.

  Args:
    path: The file; its ending, .csv or .json, is its format.
    types: Clothes type code -> name, from the landmark set.

  Returns:
    The items in the order of the file, at least one.

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
  items = readers[path.suffix.lower()](path, types)
  if not items:
    raise InputError(f'{path}: there is no box in it.')
  return items


def _read_csv(path: pathlib.Path, types: dict[int, str]) -> list[Item]:
  codes = {name: code for code, name in types.items()}
  items = []
  with path.open('rb') as file:
    lines = csv.reader(
      text_lists.decoded_lines(path, file, Findings()), strict=True
    )
    try:
      header = [cell.strip() for cell in next(lines, [])]
      if header not in (HEADER, [*HEADER, 'clothes_type']):
        raise InputError(
          f"{path}, line 1: the header is '{printable(','.join(header), 60)}', "
          f'must be {",".join(HEADER)} or {",".join(HEADER)},clothes_type'
        )
      for cells in filter(None, lines):  # blank lines have no cells
        line = lines.line_num
        if len(cells) != len(header):
          valid = f'{len(header)}, {",".join(header)}'
          raise text_lists.columns_error(path, line, cells, valid)
        box = np.array(text_lists.numbers(path, line, HEADER[1:], cells[1:5]))
        if (box[2:] <= box[:2]).any():
          problem = 'has no area: x2 and y2 must be above x1 and y1'
          raise text_lists.error(path, line, 'box', problem)
        code = 0
        if cells[5:] and cells[5]:
          kind = text_lists.one_of(
            path, line, 'clothes_type', cells[5], list(codes)
          )
          code = codes[kind]
        items.append(Item(cells[0], box, code))
    except csv.Error as error:
      raise InputError(
        f'{path}, line {lines.line_num}: is not valid CSV ({error})'
      ) from None
  return items


def _read_json(path: pathlib.Path, types: dict[int, str]) -> list[Item]:
  del types  # COCO's files have none
  data = json_files.read_json(path)
  if isinstance(data, list):
    entries, place, name = data, 'results', 'file_name'
    name_of = lambda entry: entry['file_name']
  elif isinstance(data, dict) and {'images', 'annotations'} <= data.keys():
    images = coco.read_images(path, data['images'])
    entries, place, name = data['annotations'], 'annotations', 'image_id'
    name_of = lambda entry: images.get(entry['image_id'], (None,))[0]
  else:
    raise InputError(
      f'{path}: must be a list of COCO results with file_name and bbox, or an '
      'object with images and annotations'
    )
  items = []
  for i, entry in enumerate(entries):
    at = f'{place}[{i}]'
    coco.check_fields(path, at, entry, name, 'bbox')
    image = name_of(entry)
    if not isinstance(image, str):
      raise InputError(
        f'{path}, {at}, {name}: is {coco.short(entry[name])}, must name '
        'an image'
      )
    items.append(Item(image, coco.read_box(path, at, entry['bbox'])))
  return items


def for_images(
  items: list[Item], names: list[str], path: pathlib.Path
) -> tuple[list[Item], int]:
  """The items on the given images, in the order of the images.

  Args:
    items: Items that `read` returned.
    names: The names of the images.
    path: The file of boxes, for the message.

  Returns:
    (items, number of items whose image is not among the names).

  Raises:
    InputError: No item is on any of the images.
  """
  order = {name: i for i, name in enumerate(names)}
  found = [item for item in items if item.image in order]
  if not found:
    raise InputError(
      f"{path}: of its images, '{printable(items[0].image)}' the first, none "
      f"is among those of --images, '{printable(names[0])}' the first: give "
      'them as paths below the folder of --images.'
    )
  found.sort(key=lambda item: order[item.image])
  return found, len(items) - len(found)
