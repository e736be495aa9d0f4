"""The parts of COCO's keypoint files, checked; a mistake names its place.

A file has the form of COCO's person_keypoints_val2017.json, as labelling tools
write it too:

  images       id, file_name; width and height if known
  categories   id, name, keypoints: the landmarks' names
  annotations  id, image_id, category_id, bbox [x, y, width, height],
               keypoints [x, y, v, x, y, v, ...]; iscrowd if it is one

v is 2 for visible, 1 for occluded, 0 for not labelled; then x and y mean
nothing. Positions count from the image's top-left corner. A category can say
more:

  skeleton  pairs of numbers of landmarks, from 1 on, that pictures join
  swaps     pairs of names that change places in a mirrored image, where the
            names do not tell; [] if none do
  parts     partitions for PCLoss, {"inner": [["a", "b"], ["c", "d"]]}

What tools are known to write otherwise is read as it is meant: numbers as text
and whole numbers as 1.0, null or NaN for what is not known, categories that
have no landmarks.
"""

import dataclasses
import math
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fld_jax import mirror_names, schema
from fld_jax.errors import InputError, printable
from fld_jax.files.json_files import read_json
from fld_jax.files.text_lists import plain_number

VISIBILITY = {2: schema.VISIBLE, 1: schema.OCCLUDED, 0: schema.ABSENT}
# How far a landmark may lie outside the image: where nobody can have meant it.
TOLERANCE = 0.1  # of the image's longer side
LARGEST = 1e9  # nobody means such a pixel; squares of larger ones may overflow
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring = 2, 60

Id = int | str


@dataclasses.dataclass(frozen=True)
class Category:
  """A category of objects that have landmarks.

  Attributes:
    name: The category's name.
    names: The names of its n landmarks, with underscores between the words.
    swaps: Pairs of names, see the module; None if the category has none.
    parts: Partitions for PCLoss, see the module.
    skeleton: Pairs of names.
  """

  name: str
  names: tuple[str, ...]
  swaps: tuple[tuple[str, str], ...] | None
  parts: dict[str, tuple[tuple[str, ...], ...]]
  skeleton: tuple[tuple[str, str], ...]


def error(
  path, place: str, field: str, problem: str, kind: str = 'form'
) -> InputError:
  """Makes the InputError for a field of one place, for the caller to raise.

  Args:
    path: The path of the file.
    place: The place in the file, such as 'annotation 7'.
    field: The name of the field.
    problem: What is wrong, and what is valid.
    kind: The kind of `InputError`.
  """
  problem = printable(problem, 1000)
  return InputError(f'{path}, {place}, {field}: {problem}', kind)


def load(path: Path) -> dict:
  """Reads the object of an annotation file, with its three lists.

  Args:
    path: The path of the file.

  Raises:
    InputError: The file is not valid JSON or has not these lists.
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


def check_fields(path, place: str, value: Any, *fields: str) -> None:
  """Refuses a value that is not an object with some fields.

  Args:
    path: The path of the file.
    place: The place of the value in the file.
    value: The value, of any type.
    *fields: The names of the fields; those of ids must hold one.

  Raises:
    InputError: The value is no object, or a field is missing or holds no id.
  """
  if not isinstance(value, dict):
    raise InputError(f'{path}, {place}: is {short(value)}, must be an object')
  for field in fields:
    if field not in value:
      raise error(path, place, field, 'is missing')
    if field in ('id', 'image_id') and not is_id(value[field]):
      problem = f'is {short(value[field])}, must be a whole number or a string'
      raise error(path, place, field, problem)


def is_id(value: Any) -> bool:
  """Whether a value can be the id of an image, annotation or category."""
  return as_id(value) is not None


def as_id(value: Any) -> Id | None:
  """An id as whole number or text; None if a value is none.

  Args:
    value: A value of any type; whole numbers may be written as 1.0.
  """
  if isinstance(value, float) and math.isfinite(value) and value % 1 == 0:
    return int(value)
  is_number = isinstance(value, int) and not isinstance(value, bool)
  return value if is_number or _is_text(value) else None


def find_id(value: Any, known: Iterable[Id]) -> Id | None:
  """The known id that a value means; None if it means none.

  Args:
    value: A value of any type. '1' means 1 where the known id is a number, and
      the other way round.
    known: A set or dict of the ids that there are.
  """
  found = as_id(value)
  if found is None or found in known:
    return found
  if isinstance(found, str):
    text = found.strip()
    is_whole = text.isascii() and text.isdigit() and len(text) < 4300
    other = int(text) if is_whole else as_id(number(text))
  else:
    other = str(found)
  return other if other in known else None


def is_missing(value: Any) -> bool:
  """Whether a value stands for one that is not known: null, NaN or no text.

  Args:
    value: A value of any type.
  """
  return value is None or value == '' or value != value


def _is_text(value: Any) -> bool:
  r"""Whether it can be written: an escape '\ud800' makes half a character."""
  if not isinstance(value, str):
    return False
  return not any('\ud800' <= c <= '\udfff' for c in value)


def short(value: Any) -> str:
  """A value of any type, in one line of a message."""
  # By a library that also stops at depth: repr can run out of recursion.
  return printable(_REPR.repr(value), 57)


def read_categories(path: Path, categories: list) -> dict[Id, Category | None]:
  """Reads the categories of a file.

  Args:
    path: The path of the file, for messages.
    categories: The file's list.

  Returns:
    Category id -> category; None for one that has no landmarks, as tools write
    for rectangles or the name of the project.

  Raises:
    InputError: A category is wrong, or none has landmarks.
  """
  found: dict[Id, Category | None] = {}
  by_name: dict[str, Category] = {}
  for i, entry in enumerate(categories):
    place = f'categories[{i}]'
    check_fields(path, place, entry, 'id')
    key = as_id(entry['id'])
    if key in found:
      problem = f'is {short(key)}, which stands twice, must be unique'
      raise error(path, place, 'id', problem)
    found[key] = category = _category(path, place, entry)
    if category is None:
      continue
    same = by_name.setdefault(category.name, category)
    if {*same.names} != {*category.names}:
      problem = (
        f"is '{category.name}' as in another category, whose keypoints are "
        'other ones: must be different names'
      )
      raise error(path, place, 'name', problem)
    by_name[category.name] = merged(same, category, f'{path}, {place}')
  if not by_name:
    raise InputError(
      f'{path}, categories: none has keypoints, must be the names of the '
      'landmarks in at least one'
    )
  return found


def merged(first: Category, other: Category, place: str) -> Category:
  """One category of two that have the same name and the same landmarks.

  Args:
    first: The category whose order of landmarks stays.
    other: Another category.
    place: The file, and the place of the other category, for messages.

  Returns:
    The first with what only the other declares.

  Raises:
    InputError: Both declare pairs or parts, and different ones.
  """
  pairs = [c.swaps and {frozenset(p) for p in c.swaps} for c in (first, other)]
  parts = {**first.parts, **other.parts}
  kept = {**other.parts, **first.parts}
  field = 'parts' if parts != kept else 'swaps'
  if parts != kept or (None not in pairs and pairs[0] != pairs[1]):
    raise InputError(
      f"{place}, {field}: those of '{first.name}' stand twice and differ, must "
      'be the same'
    )
  return dataclasses.replace(
    first,
    swaps=other.swaps if first.swaps is None else first.swaps,
    parts=kept,
    skeleton=first.skeleton or other.skeleton,
  )


def _category(path, place: str, entry: dict) -> Category | None:
  names = entry.get('keypoints')
  if names is None or names == []:
    return None
  if isinstance(names, list):  # numbers are names as well
    names = [str(n) if type(n) is int else n for n in names]
  names = _names(path, place, 'keypoints', names)
  if len({*names}) < len(names):
    problem = f'are {", ".join(names)}, must be different names'
    raise error(path, place, 'keypoints', problem)
  swaps, parts = entry.get('swaps'), entry.get('parts') or {}
  if not isinstance(swaps, list | None) or not isinstance(parts, dict):
    problem = 'must be a list of pairs, and parts an object of lists'
    raise error(path, place, 'swaps', problem)
  pairs = [_names(path, place, 'swaps', pair, names) for pair in swaps or ()]
  flat = [name for pair in pairs for name in pair]
  if any(len(pair) != 2 for pair in pairs) or len({*flat}) < len(flat):
    problem = 'must be pairs of names, each name at most once'
    raise error(path, place, 'swaps', problem)
  given = {}
  for title, lists in parts.items():
    if not isinstance(lists, list) or not lists or not all(lists):
      problem = f"'{title}' must be a list of lists of names"
      raise error(path, place, 'parts', problem)
    given[title] = tuple(
      _names(path, place, 'parts', part, names) for part in lists
    )
  title = entry.get('name')
  if not _is_text(title) or not title.strip():
    title = f'category {as_id(entry["id"])}'
  return Category(
    name=title.strip(),
    names=names,
    swaps=None if swaps is None else tuple(pairs),
    parts=given,
    skeleton=_skeleton(entry.get('skeleton'), names),
  )


def _skeleton(value: Any, names: tuple[str, ...]) -> tuple:
  """Pairs of names; none of a skeleton that is not valid, which only adorns."""
  pairs = value if isinstance(value, list) else []
  valid = lambda n: isinstance(n, int | float) and n in range(1, len(names) + 1)
  if not all(
    isinstance(pair, list) and len(pair) == 2 and all(map(valid, pair))
    for pair in pairs
  ):
    return ()
  return tuple((names[int(a) - 1], names[int(b) - 1]) for a, b in pairs)


def plain_name(name: str) -> str:
  """A landmark's name with underscores between its words.

  Args:
    name: The name as a file has it.
  """
  return '_'.join(name.replace('_', ' ').split())


def _names(path, place: str, field: str, value, known=None) -> tuple[str, ...]:
  """Names with underscores between the words."""
  if not isinstance(value, list) or not all(map(_is_text, value)):
    problem = f'is {short(value)}, must be a list of names'
    raise error(path, place, field, problem)
  names = tuple(map(plain_name, value))
  for name in names:
    if not name or (known is not None and name not in known):
      problem = f"has '{name}', must be one of {', '.join(known or ())}"
      raise error(path, place, field, problem)
  return names


def landmark_set(categories: list[Category], place: str) -> schema.LandmarkSet:
  """The landmarks of several categories: the union of their names.

  Args:
    categories: Different categories, in order; the landmarks stand in the order
      in which they are named first.
    place: The files, for messages.

  Returns:
    The set. Its types are the categories, numbered from 1 on; where their
    landmarks differ, each has the slots of its own.

  Raises:
    InputError: The categories contradict each other about pairs or parts.
  """
  names = tuple(dict.fromkeys(n for c in categories for n in c.names))
  types = {code: c.name for code, c in enumerate(categories, 1)}
  slots = {
    code: tuple(map(names.index, c.names))
    for code, c in enumerate(categories, 1)
  }
  if all({*c.names} == {*names} for c in categories):
    slots = {}
  parts: dict = {}
  partner: dict[str, str] = {}
  for c in categories:
    for title, lists in c.parts.items():
      if parts.setdefault(title, lists) != lists:
        raise InputError(
          f"{place}, categories, parts: '{title}' differs between categories, "
          'must be the same in all that have it'
        )
    for pair in _pairs(c):
      for a, b in (pair, pair[::-1]):
        if partner.setdefault(a, b) != b:
          raise InputError(
            f"{place}, categories, swaps: '{a}' changes places with "
            f"'{partner[a]}' and with '{b}', must be one of them"
          )
  swaps = None  # told by the names of the union
  told = {tuple(sorted(pair)) for pair in partner.items()}
  if any(c.swaps is not None for c in categories) or not told <= _told(names):
    swaps = tuple(sorted(told))
  return schema.LandmarkSet(
    names=names,
    slots=slots,
    types=types,
    parts=parts,
    swaps=swaps,
    skeleton=tuple(dict.fromkeys(p for c in categories for p in c.skeleton)),
  )


def check_partners(landmarks: schema.LandmarkSet, place: str) -> None:
  """Refuses names of one side alone, unless somebody has declared the pairs.

  Args:
    landmarks: The landmark set of files.
    place: The files, for messages.

  Raises:
    InputError: A landmark is called left or right and has no partner.
  """
  try:
    landmarks.flip  # noqa: B018
  except InputError as mistake:
    raise InputError(
      f'{place}, categories, keypoints: {mistake} Give swaps, pairs of names '
      'that change places ([] if there are none), or '
      f'--config.dataset.swaps={_as_setting(landmarks.names)}'
    ) from None


def _told(names: tuple[str, ...]) -> set[tuple[str, str]]:
  """The pairs, each sorted, that names tell."""
  return {
    tuple(sorted((name, names[partner.slot])))
    for name, partner in zip(names, mirror_names.partners(names), strict=True)
    if names[partner.slot] != name
  }


def _as_setting(names: tuple[str, ...]) -> str:
  """The pairs that names tell, as a value of `config.dataset.swaps`."""
  told = sorted(_told(names), key=lambda pair: names.index(pair[0]))
  return ','.join(map(':'.join, told)) or 'none'


def _pairs(category: Category) -> list[tuple[str, str]]:
  """The declared pairs of a category, else those that its names tell."""
  if category.swaps is not None:
    return list(category.swaps)
  return sorted(_told(category.names))


def read_images(path, images: list) -> dict[Id, tuple[str, tuple | None]]:
  """Reads the images of a file.

  Args:
    path: The path of the file, for messages.
    images: The file's list.

  Returns:
    Image id -> (file name, (width, height) in pixels or None if not known).

  Raises:
    InputError: An image is wrong, or an id stands twice.
  """
  if not isinstance(images, list):
    raise InputError(
      f'{path}, images: is {short(images)}, must be a list of objects'
    )
  files = {}
  for i, image in enumerate(images):
    place = f'images[{i}]'
    check_fields(path, place, image, 'id', 'file_name')
    key = as_id(image['id'])
    if key in files:
      problem = f'is {short(key)}, which stands twice, must be unique'
      raise error(path, place, 'id', problem)
    name = image['file_name']
    if not _is_text(name) or not name or '\0' in name:
      problem = f'is {short(name)}, must be the name of a file'
      raise error(path, place, 'file_name', problem)
    sides = [_side(path, place, field, image) for field in ('width', 'height')]
    files[key] = name, None if None in sides else tuple(sides)
  return files


def _side(path, place: str, field: str, image: dict) -> int | None:
  """A side in pixels; None if it is not known: missing, null or 0."""
  value = image.get(field)
  if is_missing(value):
    return None
  side = number(value)
  if side is None or not 0 <= side <= LARGEST or side % 1:
    problem = f'is {short(value)}, must be a whole number of pixels'
    raise error(path, place, field, problem)
  return int(side) or None


def number(value: Any) -> float | None:
  """A finite number that may be written as text; None if a value is none.

  Args:
    value: A value of any type.
  """
  if isinstance(value, str):
    return plain_number(value.strip())
  if not isinstance(value, int | float) or isinstance(value, bool):
    return None
  return float(value) if abs(value) <= 1e300 else None


def numbers(path, place: str, field: str, value, length: int) -> np.ndarray:
  """Reads a field that must be a list of numbers.

  Args:
    path: The path of the file.
    place: The place of the field in the file.
    field: The name of the field.
    value: The value of the field, of any type.
    length: How many numbers there must be.

  Returns:
    (length,) float64.

  Raises:
    InputError: It names the place, the field and which value is no number.
  """
  if not isinstance(value, list) or len(value) != length:
    count = f' of {len(value)}' if isinstance(value, list) else ''
    problem = f'is {short(value)}{count}, must be a list of {length} numbers'
    raise error(path, place, field, problem)
  found = [number(entry) for entry in value]
  for i, entry in enumerate(found):
    if entry is None or abs(entry) > LARGEST:
      problem = f'value {i + 1} is {short(value[i])}, must be a finite number'
      raise error(path, place, field, problem)
  return np.array(found, np.float64)


def read_keypoints(
  path, place: str, value, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """Reads the landmarks of an object.

  Args:
    path: The path of the file.
    place: The place of the object in the file.
    value: Its keypoints, of any type.
    names: The names of the n landmarks of its category.

  Returns:
    Points (n, 2) float64, 0 where not labelled, and visibility codes (n,).

  Raises:
    InputError: It names the place and the landmark.
  """
  if not isinstance(value, list) or len(value) != 3 * len(names):
    count = f' of {len(value)}' if isinstance(value, list) else ''
    problem = (
      f'is {short(value)}{count}, must be a list of {3 * len(names)} numbers: '
      f'x, y, v of each of {len(names)} landmarks'
    )
    raise error(path, place, 'keypoints', problem)
  marks = value[2::3]
  codes = []
  for name, x, mark in zip(names, value[::3], marks, strict=True):
    v = 0.0 if is_missing(mark) and is_missing(x) else number(mark)
    if v not in VISIBILITY:
      problem = f'v of {name} is {short(mark)}, must be 0, 1 or 2'
      raise error(path, place, 'keypoints', problem, 'visibility')
    codes.append(VISIBILITY[v])
  # Of landmarks that are not labelled tools write NaN, null or anything.
  known = [
    entry if codes[i // 3] != schema.ABSENT else 0
    for i, entry in enumerate(value)
  ]
  triples = numbers(path, place, 'keypoints', known, len(known))
  return triples.reshape(-1, 3)[:, :2], np.array(codes, np.int32)


def read_box(path, place: str, value) -> np.ndarray:
  """Reads the box of an object.

  Args:
    path: The path of the file.
    place: The place of the object in the file.
    value: Its bbox, of any type.

  Returns:
    (4,) x1, y1, x2, y2 in pixels.

  Raises:
    InputError: It is no box, or has no area.
  """
  x, y, width, height = numbers(path, place, 'bbox', value, 4)
  if width <= 0 or height <= 0:
    problem = f'is {width:g} x {height:g} pixels, both must be above 0'
    raise error(path, place, 'bbox', problem, 'box')
  return np.array([x, y, x + width, y + height])


def has_box(entry: dict) -> bool:
  """Whether an object has a box.

  Tools write [] if it has none, or four zeros, or four times null or NaN.

  Args:
    entry: An annotation.
  """
  value = entry.get('bbox')
  if is_missing(value):
    return False
  if not isinstance(value, list) or len(value) != 4:
    return bool(value)
  no_area = [number(side) for side in value[2:]] == [0, 0]
  return not no_area and not all(map(is_missing, value))


def check_box(path, place: str, box: np.ndarray, size: tuple[int, int]) -> None:
  """Refuses a box that has nothing of the image.

  Args:
    path: The path of the file.
    place: The place of the object in the file.
    box: (4,) x1, y1, x2, y2 in pixels.
    size: (width, height) of the image.

  Raises:
    InputError: It names the field.
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


def check_landmarks(
  path,
  place: str,
  points: np.ndarray,
  codes: np.ndarray,
  names: tuple[str, ...],
  size: tuple[int, int],
) -> None:
  """Refuses landmarks where nobody can have meant them.

  Args:
    path: The path of the file.
    place: The place of the object in the file.
    points: (n, 2) x, y in pixels.
    codes: (n,) visibility codes.
    names: The names of the n landmarks.
    size: (width, height) of the image.

  Raises:
    InputError: It names the landmark.
  """
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
