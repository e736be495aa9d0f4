"""Reads predictions of this and of other programs from JSON, CSV or NPZ.

  .json   COCO keypoint results, a list of {"image_id", "category_id",
          "keypoints": [x, y, s, x, y, s, ...], "score"}, as pycocotools,
          mmpose, Ultralytics and `--mode=evaluate` write them; perhaps with
          "file_name", the image's name or the example's id, and "bbox". Or a
          whole COCO file with images and annotations, as `--mode=predict`
          writes it
  .csv    columns by name, in any order, others left out: the example's id or
          the image, and NAME_x and NAME_y (or x_1, y_1, ...) of each landmark;
          perhaps the box's x1, y1, x2, y2
  .npz    ids (n,) strings, landmarks (n, N, 2); perhaps visibility_probs
          (n, N, 3), in the order of schema.VISIBILITY_NAMES

Positions are x, y in pixels of the original image from its top-left corner.
Which example each result is of, `ties` finds out.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from fld_jax.errors import InputError, printable
from fld_jax.files import coco, csv_tables, file_names, json_files, npz

# What the columns of an image's name may be called, in plain letters.
IMAGE_COLUMNS = (
  'file_name filename image image_name image_path image_file imagename '
  'imagepath file path filepath file_path name img'
).split()
BOX_COLUMNS = ('x1', 'y1', 'x2', 'y2')


@dataclasses.dataclass(frozen=True)
class Results:
  """The n results of a file in the file's order; N landmarks.

  Attributes:
    path: The path of the file.
    landmarks: Positions x, y in image pixels, (n, N, 2) float64; NaN where the
      file has none, for landmarks that a category or a type lacks.
    places: Where each result stands in the file, for messages.
    ids: The n ids of examples, None where a result has none.
    names: The n names of images, which may be ids of examples, None where a
      result has none.
    image_ids: The n ids of images, None where a result has none.
    category_ids: The n ids of categories, None where a result has none.
    numbers: The n ids of the results themselves, None where a result has none.
    boxes: The n boxes (4,) x1, y1, x2, y2, None where a result has none.
    scores: Scores of the results, (n,); None if the file has none.
    visibility_probs: Probabilities in the order of `schema.VISIBILITY_NAMES`,
      (n, N, 3), 0 to 1; None if the file has none.
  """

  path: pathlib.Path
  landmarks: np.ndarray
  places: list[str]
  ids: list[str | None]
  names: list[str | None]
  image_ids: list
  category_ids: list
  numbers: list
  boxes: list
  scores: np.ndarray | None = None
  visibility_probs: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.landmarks)


def read(
  path: str | pathlib.Path,
  names: tuple[str, ...],
  of_category: dict[Any, tuple[str, ...]] | None = None,
) -> Results:
  """Reads and checks a file of predictions.

  Args:
    path: The path of the file; its ending decides on the format.
    names: Names of the N landmarks.
    of_category: Category id -> the names of its landmarks, of the data set's
      categories; a list of results may have these alone.

  Raises:
    InputError: The file has a mistake. The message names the file, the line or
      entry, the field and what is valid.
  """
  path = pathlib.Path(path).expanduser()
  readers = {
    '.json': lambda: _read_json(path, names, of_category or {}),
    '.csv': lambda: _read_csv(path, names),
    '.npz': lambda: _read_npz(path, names),
  }
  if path.suffix.lower() not in readers:
    raise InputError(
      f"{path}: the ending is '{path.suffix}', valid are {', '.join(readers)}."
    )
  if not path.is_file():
    raise InputError(f'{path}: this file of predictions is missing.')
  return readers[path.suffix.lower()]()


def _read_json(
  path: pathlib.Path, names: tuple[str, ...], of_category: dict
) -> Results:
  """Reads COCO keypoint results; arguments and errors are those of `read`."""
  data = json_files.read_json(path)
  files: dict = {}
  entries, at = data, 'results'
  if isinstance(data, dict) and {'images', 'annotations'} <= data.keys():
    images = coco.read_images(path, data['images'])
    files = {key: name for key, (name, _) in images.items()}
    entries, at = data['annotations'], 'annotations'
    of_category = _own_categories(path, data.get('categories'), names)
  if not isinstance(entries, list) or not entries:
    raise InputError(
      f'{path}: must be a list of results that is not empty, as COCO has them, '
      'or an object with images and annotations'
    )
  has = lambda field: any(
    isinstance(entry, dict) and entry.get(field) is not None
    for entry in entries
  )
  # A whole file may be one of annotations, which have no scores.
  with_scores = not files or has('score')
  with_probs = has('visibility_probs')
  found = [
    _Entry(path, f'{at}[{i}]', entry, names, of_category, files)
    for i, entry in enumerate(entries)
  ]
  return Results(
    path,
    np.array([entry.points for entry in found]),
    places=[entry.place for entry in found],
    ids=[None] * len(found),
    names=[entry.name for entry in found],
    image_ids=[entry.get('image_id') for entry in found],
    category_ids=[entry.get('category_id') for entry in found],
    numbers=[entry.get('id') for entry in found],
    boxes=[entry.box for entry in found],
    scores=np.array([e.score() for e in found]) if with_scores else None,
    visibility_probs=(
      np.array([entry.probs() for entry in found]) if with_probs else None
    ),
  )


def _own_categories(
  path: pathlib.Path, categories: Any, names: tuple[str, ...]
) -> dict[Any, tuple[str, ...]]:
  """Category id -> its landmarks' names, of a whole file of COCO.

  Args:
    path: The path of the file, for messages.
    categories: The file's list, of any type; None if it has none.
    names: The names of the data set's N landmarks.
  """
  if not isinstance(categories, list) or not categories:
    return {}
  found = coco.read_categories(path, categories)
  for key, category in found.items():
    unknown = [n for n in category.names if n not in names] if category else []
    if unknown:
      raise InputError(
        f'{path}, category {coco.short(key)}, keypoints: has '
        f"'{printable(unknown[0])}', must be among the data set's landmarks: "
        f'{", ".join(names)}'
      )
  return {key: category.names for key, category in found.items() if category}


class _Entry:
  """A result of a JSON file.

  Attributes:
    place: The place in the file.
    points: (N, 2) float64, NaN for landmarks that its category lacks.
    name: The image's name or the example's id, None if there is none.
    box: (4,) x1, y1, x2, y2, None if there is none.
  """

  def __init__(
    self,
    path: pathlib.Path,
    place: str,
    entry: Any,
    names: tuple[str, ...],
    of_category: dict,
    files: dict,
  ):
    """Reads what every result has.

    Args:
      path: The path of the file.
      place: The place in the file.
      entry: The result, of any type.
      names: The names of the N landmarks.
      of_category: Category id -> the names of its landmarks.
      files: Image id -> name, of a whole file; {} of a list of results.
    """
    self._path, self.place, self._entry = path, place, entry
    self._count = len(names)
    coco.check_fields(path, place, entry, 'keypoints')
    self.name = entry.get('file_name')
    if files:
      key = coco.find_id(entry.get('image_id'), files)
      if key not in files:
        problem = f'is {coco.short(entry.get("image_id"))}, which no image has'
        raise coco.error(path, place, 'image_id', problem)
      self.name = files[key]
    elif self.name is None:
      coco.check_fields(path, place, entry, 'image_id')
    if self.name is not None and not isinstance(self.name, str):
      problem = (
        f'is {coco.short(self.name)}, must be the name of an image or the id '
        'of an example'
      )
      raise coco.error(path, place, 'file_name', problem)
    category = entry.get('category_id')
    if category is not None and not coco.is_id(category):
      problem = f'is {coco.short(category)}, must be a whole number or a string'
      raise coco.error(path, place, 'category_id', problem)
    self._slots = self._find_slots(names, of_category, bool(files))
    triples = self._numbers('keypoints', 3 * len(self._slots))
    self.points = np.full((len(names), 2), np.nan)
    self.points[self._slots] = triples.reshape(-1, 3)[:, :2]
    self.box = None
    if coco.has_box(entry):
      corner, size = np.split(self._numbers('bbox', 4), 2)
      self.box = np.concatenate([corner, corner + size])

  def get(self, field: str) -> Any:
    """The value of a field as it stands, None if there is none."""
    return self._entry.get(field)

  def _find_slots(
    self, names: tuple[str, ...], of_category: dict, is_whole: bool
  ) -> list[int]:
    """The slots of the landmarks that the result has, in its order.

    Of a whole file they are those of the result's category in that file. A list
    of results has the landmarks of the data set, or those of its category.
    """
    key = coco.find_id(self.get('category_id'), of_category)
    own = of_category.get(key, names)
    given = self._entry['keypoints']
    every = isinstance(given, list) and len(given) == 3 * len(names)
    return list(map(names.index, names if every and not is_whole else own))

  def _numbers(self, field: str, length: int) -> np.ndarray:
    return coco.numbers(
      self._path, self.place, field, self._entry[field], length
    )

  def score(self) -> float:
    """The result's score."""
    coco.check_fields(self._path, self.place, self._entry, 'score')
    value = [self._entry['score']]
    return coco.numbers(self._path, self.place, 'score', value, 1)[0]

  def probs(self) -> np.ndarray:
    """(N, 3) The probabilities of the kinds of visibility."""
    coco.check_fields(self._path, self.place, self._entry, 'visibility_probs')
    rows, field = self._entry['visibility_probs'], 'visibility_probs'
    if not isinstance(rows, list) or len(rows) != len(self._slots):
      problem = f'must be a list of {len(self._slots)} lists of 3 numbers'
      raise coco.error(self._path, self.place, field, problem)
    found = np.zeros((self._count, 3))
    for slot, row in zip(self._slots, rows, strict=True):
      values = coco.numbers(self._path, self.place, field, row, 3)
      if ((values < 0) | (values > 1)).any():
        problem = f'has {coco.short(row)}, must be from 0 to 1'
        raise coco.error(self._path, self.place, field, problem)
      found[slot] = values
    return found


def _read_csv(path: pathlib.Path, names: tuple[str, ...]) -> Results:
  """Reads a CSV; arguments and errors are those of `read`."""
  table = csv_tables.read(path)
  columns = table.columns
  ids = columns.get('id')
  image = next((columns[n] for n in IMAGE_COLUMNS if n in columns), None)
  image_ids = columns.get('image_id')
  points, lacking = _point_columns(names, columns)
  if ids is None and image is None and image_ids is None:
    lacking = ['id or image', *lacking]
  if lacking:
    valid = f'id,{names[0]}_x,{names[0]}_y,...,{names[-1]}_y'
    raise InputError(
      f'{path}, line 1: the header of {len(table.header)} columns is '
      f"'{printable(','.join(table.header), 60)}' without "
      f'{", ".join(lacking[:3])}{" and so on" if lacking[3:] else ""}, must '
      f'have {valid} or id,x_1,y_1,...,y_{len(names)}, in any order'
    )
  if not table.rows:
    raise InputError(f'{path}: there is no line below the header')
  box = [columns.get(name) for name in BOX_COLUMNS]
  score = columns.get('score')
  text = lambda cells, column: (
    file_names.from_cell(cells[column]) if column is not None else None
  )
  read_number = lambda line, cells, column: csv_tables.number(
    table, line, column, cells[column]
  )
  numbers = lambda line, cells, where: [
    read_number(line, cells, column) for column in where
  ]
  boxes, positions, scores = [], [], []
  for line, cells in table.rows:
    corners = [None] if None in box else numbers(line, cells, box)
    boxes.append(None if None in corners else np.array(corners))
    found = np.array(numbers(line, cells, points), np.float64).reshape(-1, 2)
    halves = np.flatnonzero(np.isnan(found).sum(axis=1) == 1)
    if halves.size:
      column = table.header[points[2 * halves[0]]]
      raise InputError(
        f'{path}, line {line}, {column}: is empty, or its y is: must be two '
        'numbers, or none where the item lacks the landmark'
      )
    positions.append(found)
    if score is not None:
      scores.append(read_number(line, cells, score))
  cells_of = lambda column: [text(cells, column) for _, cells in table.rows]
  return Results(
    path,
    np.array(positions),
    places=[f'line {line}' for line, _ in table.rows],
    ids=cells_of(ids),
    names=cells_of(image),
    image_ids=cells_of(image_ids),
    category_ids=cells_of(columns.get('category_id')),
    numbers=[None] * len(positions),
    boxes=boxes,
    scores=np.array(scores) if scores and None not in scores else None,
  )


def _point_columns(
  names: tuple[str, ...], columns: dict[str, int]
) -> tuple[list[int], list[str]]:
  """The 2N columns of x and y of each landmark, and the names of those missing.

  Args:
    names: The names of the N landmarks.
    columns: Name of a column -> its index.
  """
  by_name, by_number = {}, {}
  for i, name in enumerate(names, 1):
    for axis in 'xy':
      title = f'{name}_{axis}'
      plain = csv_tables.plain(title)
      by_name[title] = columns.get(title, columns.get(plain))
      by_number[f'{axis}_{i}'] = columns.get(f'{axis}_{i}')
  missing = lambda found: [name for name, i in found.items() if i is None]
  found = min(by_name, by_number, key=lambda each: len(missing(each)))
  return list(found.values()), missing(found)


def _read_npz(path: pathlib.Path, names: tuple[str, ...]) -> Results:
  """Reads an NPZ; arguments and errors are those of `read`."""
  arrays = npz.read(path, ('ids', 'landmarks', 'visibility_probs'))
  ids = npz.texts(path, 'ids', arrays.get('ids'))
  shape = len(ids), len(names)
  points = _array(path, 'landmarks', arrays.get('landmarks'), (*shape, 2))
  probs = arrays.get('visibility_probs')
  if probs is not None:
    probs = _array(path, 'visibility_probs', probs, (*shape, 3))
    if ((probs < 0) | (probs > 1)).any():
      raise InputError(
        f'{path}, visibility_probs: has {probs.min():g} to {probs.max():g}, '
        'must be from 0 to 1'
      )
  none = [None] * len(ids)
  return Results(
    path,
    points,
    places=[f'ids[{i}]' for i in range(len(ids))],
    ids=ids,
    names=none,
    image_ids=none,
    category_ids=none,
    numbers=none,
    boxes=none,
    visibility_probs=probs,
  )


def _array(
  path: pathlib.Path,
  field: str,
  array: np.ndarray | None,
  shape: tuple[int, ...],
) -> np.ndarray:
  """Returns an array as float64; InputError for other shapes or numbers."""
  if array is None or array.shape != shape or array.dtype.kind not in 'fiu':
    raise InputError(
      f'{path}, {field}: is {npz.kind(array)}, must be numbers of the shape '
      f'{shape}: as many as ids, {shape[1]} landmarks'
    )
  array = array.astype(np.float64)
  bad = np.argwhere(~(abs(array) <= coco.LARGEST))
  if bad.size:
    place = ', '.join(map(str, bad[0]))
    raise InputError(
      f'{path}, {field}[{place}]: is {array[tuple(bad[0])]}, must be a finite '
      'number'
    )
  return array
