"""COCO-style keypoint files, read and checked; a mistake names its place.

One JSON file a split, in the form of COCO's person_keypoints_val2017.json:

  images       id, file_name; width and height if known
  categories   id, keypoints: the landmarks' names, the same in each category
  annotations  id, image_id, category_id, bbox [x, y, width, height],
               keypoints [x, y, v, x, y, v, ...]; iscrowd if it is one

v is 2 for visible, 1 for occluded, 0 for not labelled. Positions count from the
image's top-left corner, as everywhere here. Names are words with blanks or
underscores between; 'left' and 'right' make pairs. A category can say more:

  swaps   pairs of names that change places in a mirrored image, where the
          words do not tell
  parts   partitions for PCLoss, {"inner": [["a", "b"], ["c", "d"]]}
"""

import reprlib
from pathlib import Path

import numpy as np

from fld_jax import schema
from fld_jax.errors import InputError, printable
from fld_jax.files.json_files import read_json

VISIBILITY = {2: schema.VISIBLE, 1: schema.OCCLUDED, 0: schema.ABSENT}
# How far a landmark may lie outside the image: where nobody can have meant it.
TOLERANCE = 0.1  # of the image's longer side
LARGEST = 1e9  # nobody means such a pixel; squares of larger ones may overflow
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring = 2, 60


def error(
  path, place: str, field: str, problem: str, kind: str = 'form'
) -> InputError:
  """The InputError for a field of one place, for the caller to raise."""
  problem = printable(problem, 1000)
  return InputError(f'{path}, {place}, {field}: {problem}', kind)


def load(path: Path) -> dict:
  """The object of an annotation file, with its three lists.

  Raises:
    InputError: it has not these lists, or the file is not valid JSON.
  """
  data = read_json(path)
  for field in ('images', 'annotations', 'categories'):
    value = data.get(field) if isinstance(data, dict) else None
    if not isinstance(value, list) or not value:
      raise InputError(
        f'{path}, {field}: is missing or empty, must be a list of objects, as '
        "in COCO's person_keypoints_val2017.json"
      )
  return data


def check_fields(path, place: str, value, *fields: str) -> None:
  """Refuses a value that is not an object with these fields.

  Args:
    path: of the file.
    place: of the value in it.
    value: of any type.
    *fields: names; those of ids must hold a number or a string.

  Raises:
    InputError: naming the place and the field.
  """
  if not isinstance(value, dict):
    raise InputError(f'{path}, {place}: is {short(value)}, must be an object')
  for field in fields:
    if field not in value:
      raise error(path, place, field, 'is missing')
    if field in ('id', 'image_id') and not is_id(value[field]):
      problem = f'is {short(value[field])}, must be a number or a string'
      raise error(path, place, field, problem)


def is_id(value) -> bool:
  """Whether a value can be the id of an image, annotation or category."""
  is_number = isinstance(value, int) and not isinstance(value, bool)
  return is_number or _is_text(value)


def _is_text(value) -> bool:
  r"""Whether it can be written: an escape '\ud800' makes half a character."""
  if not isinstance(value, str):
    return False
  return not any('\ud800' <= c <= '\udfff' for c in value)


def short(value) -> str:
  """A value of any type, in one line of a message."""
  # By a library that also stops at depth: repr can run out of recursion.
  return printable(_REPR.repr(value), 57)


def landmark_set(path, categories) -> schema.LandmarkSet:
  """The one landmark set of all categories."""
  found = []
  for i, category in enumerate(categories):
    place = f'categories[{i}]'
    check_fields(path, place, category, 'id', 'keypoints')
    names = _names(path, place, 'keypoints', category['keypoints'])
    if not names or len(set(names)) < len(names):
      problem = f'are {", ".join(names) or "none"}, must be different names'
      raise error(path, place, 'keypoints', problem)
    swaps, parts = category.get('swaps', []), category.get('parts', {})
    if not isinstance(swaps, list) or not isinstance(parts, dict):
      problem = 'must be a list of pairs, and parts an object of lists'
      raise error(path, place, 'swaps', problem)
    pairs = [_names(path, place, 'swaps', pair, names) for pair in swaps]
    flat = [name for pair in pairs for name in pair]
    if any(len(pair) != 2 for pair in pairs) or len(set(flat)) < len(flat):
      problem = 'must be pairs of names, each name at most once'
      raise error(path, place, 'swaps', problem)
    given = {}
    for name, lists in parts.items():
      if not isinstance(lists, list) or not lists or not all(lists):
        problem = f"'{name}' must be a list of lists of names"
        raise error(path, place, 'parts', problem)
      given[name] = tuple(
        _names(path, place, 'parts', part, names) for part in lists
      )
    landmarks = schema.LandmarkSet(names=names, swaps=tuple(pairs), parts=given)
    try:
      landmarks.flip  # noqa: B018
    except InputError as mistake:
      raise error(path, place, 'keypoints', f'{mistake} Give swaps.') from None
    found.append(landmarks)
    if landmarks != found[0]:
      problem = 'differ from those of the first category, must be the same'
      raise error(path, place, 'keypoints', problem)
  return found[0]


def _names(path, place: str, field: str, value, known=None) -> tuple[str, ...]:
  """Names with underscores between the words."""
  if not isinstance(value, list) or not all(map(_is_text, value)):
    problem = f'is {short(value)}, must be a list of names'
    raise error(path, place, field, problem)
  names = tuple('_'.join(v.replace('_', ' ').split()) for v in value)
  for name in names:
    if not name or (known is not None and name not in known):
      problem = f"has '{name}', must be one of {', '.join(known or ())}"
      raise error(path, place, field, problem)
  return names


def read_images(path, images) -> dict:
  """Image id -> (file name, (width, height) or None)."""
  files = {}
  for i, image in enumerate(images):
    place = f'images[{i}]'
    check_fields(path, place, image, 'id', 'file_name')
    if image['id'] in files:
      problem = f'is {short(image["id"])}, which stands twice, must be unique'
      raise error(path, place, 'id', problem)
    name = image['file_name']
    if not _is_text(name) or not name or '\0' in name:
      problem = f'is {short(name)}, must be the name of a file'
      raise error(path, place, 'file_name', problem)
    size = image.get('width'), image.get('height')
    for field, side in zip(('width', 'height'), size, strict=True):
      if side is not None and not _is_side(side):
        problem = f'is {short(side)}, must be a whole number of pixels'
        raise error(path, place, field, problem)
    files[image['id']] = name, None if None in size else size
  return files


def _is_side(value) -> bool:
  """Whether it is a whole number from 1 on, which tools also write as 96.0."""
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  return is_number and value >= 1 and value % 1 == 0


def numbers(path, place: str, field: str, value, length: int) -> np.ndarray:
  """(length,) float64 of a field that must be a list of so many numbers.

  Raises:
    InputError: naming the place, the field and which value is none.
  """
  if not isinstance(value, list) or len(value) != length:
    count = f' of {len(value)}' if isinstance(value, list) else ''
    problem = f'is {short(value)}{count}, must be a list of {length} numbers'
    raise error(path, place, field, problem)
  for i, number in enumerate(value):
    good = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not good or not abs(number) <= LARGEST:
      problem = f'value {i + 1} is {short(number)}, must be a finite number'
      raise error(path, place, field, problem)
  return np.array(value, np.float64)


def read_keypoints(path, place: str, value, names):
  """Points (N, 2) float64, 0 where not labelled, and codes (N,)."""
  triples = numbers(path, place, 'keypoints', value, 3 * len(names))
  triples = triples.reshape(-1, 3)
  for name, v in zip(names, triples[:, 2], strict=True):
    if v not in VISIBILITY:
      problem = f'v of {name} is {v:g}, must be 0, 1 or 2'
      raise error(path, place, 'keypoints', problem, 'visibility')
  codes = np.array([VISIBILITY[v] for v in triples[:, 2]], np.int32)
  known = schema.has_position(codes)
  return np.where(known[:, None], triples[:, :2], 0.0), codes


def read_box(path, place: str, value) -> np.ndarray:
  """(4,) x1, y1, x2, y2."""
  x, y, width, height = numbers(path, place, 'bbox', value, 4)
  if width <= 0 or height <= 0:
    problem = f'is {width:g} x {height:g} pixels, both must be above 0'
    raise error(path, place, 'bbox', problem, 'box')
  return np.array([x, y, x + width, y + height])


def check_box(path, place: str, box, size) -> None:
  """Refuses a box (x1, y1, x2, y2) that has nothing of the image.

  Args:
    path: of the file.
    place: in it.
    box: in pixels.
    size: (width, height) of the image.

  Raises:
    InputError: naming the field.
  """
  width, height = size
  if box[0] >= width or box[1] >= height or box[2] <= 0 or box[3] <= 0:
    problem = f'lies outside of the image of {width} x {height} pixels'
    raise error(path, place, 'bbox', problem, 'box')
  # Boxes of cropped images reach beyond them; a slip of the point reaches far.
  if (box < -max(size)).any() or (box > np.tile(size, 2) + max(size)).any():
    problem = (
      f'ends at {", ".join(f"{side:g}" for side in box)}, beyond the image of '
      f'{width} x {height} pixels by more than its longer side'
    )
    raise error(path, place, 'bbox', problem, 'box')


def check_landmarks(path, place, points, codes, names, size) -> None:
  """Refuses what lies where nobody can have meant it."""
  width, height = size
  reach = TOLERANCE * max(size)
  for name, (x, y), code in zip(names, points, codes, strict=True):
    inside = -reach <= x <= width + reach and -reach <= y <= height + reach
    if schema.has_position(code) and not inside:
      problem = (
        f'{name} is at {x:g}, {y:g}, outside of the image of {width} x '
        f'{height} pixels by more than {reach:g}'
      )
      raise error(path, place, 'keypoints', problem, 'landmark')
