"""Reads predictions of other systems from JSON, CSV or NPZ; N landmarks each.

  .json   COCO keypoint results: a list of {"image_id", "category_id",
          "keypoints": [x, y, s, x, y, s, ...], "score"}; with "file_name", the
          example's id, in all or in none. Then image_id means nothing.
  .csv    id,x_1,y_1,...,x_N,y_N, or the landmarks' names: id,NAME_x,NAME_y,...
  .npz    ids (n,) strings, landmarks (n, N, 2); perhaps visibility_probs
          (n, N, 3), in the order of schema.VISIBILITY_NAMES

Positions are x, y in pixels of the original image from its top-left corner.
"""

import csv
import dataclasses
import pathlib

import numpy as np

from fld_jax.errors import Findings, InputError
from fld_jax.files import coco, json_files, npz, text_lists


@dataclasses.dataclass(frozen=True)
class Results:
  """The n results of a file in the file's order; N landmarks.

  Attributes:
    path: The path of the file.
    landmarks: Positions x, y in image pixels, (n, N, 2) float64.
    ids: The n ids of examples; None if the file has none.
    image_ids: The n image ids of COCO's annotation file; meaningless if there
      are `ids`.
    category_ids: The n category ids, each None where the file has none.
    scores: Scores of the results, (n,); None if the format has none.
    visibility_probs: Probabilities in the order of `schema.VISIBILITY_NAMES`,
      (n, N, 3), 0 to 1; None if the file has none.
  """

  path: pathlib.Path
  landmarks: np.ndarray
  ids: list[str] | None = None
  image_ids: list | None = None
  category_ids: list | None = None
  scores: np.ndarray | None = None
  visibility_probs: np.ndarray | None = None


def read(path: str | pathlib.Path, names: tuple[str, ...]) -> Results:
  """Reads and checks a file of predictions.

  Args:
    path: The path of the file; its ending decides on the format.
    names: Names of the N landmarks.

  Raises:
    InputError: The file has a mistake. The message names the file, the line or
      entry, the field and what is valid.
  """
  path = pathlib.Path(path).expanduser()
  readers = {'.json': _read_json, '.csv': _read_csv, '.npz': _read_npz}
  if path.suffix.lower() not in readers:
    raise InputError(
      f"{path}: the ending is '{path.suffix}', valid are {', '.join(readers)}."
    )
  if not path.is_file():
    raise InputError(f'{path}: this file of predictions is missing.')
  return readers[path.suffix.lower()](path, names)


def _read_json(path: pathlib.Path, names: tuple[str, ...]) -> Results:
  """Reads COCO keypoint results; arguments and errors are those of `read`."""
  data = json_files.read_json(path)
  if not isinstance(data, list) or not data:
    raise InputError(
      f"{path}: must be a list of results, as COCO's keypoint results are"
    )
  named = any(
    isinstance(entry, dict) and 'file_name' in entry for entry in data
  )
  ids = ('file_name',) if named else ('image_id', 'category_id')
  points, scores = [], []
  for i, entry in enumerate(data):
    place = f'results[{i}]'
    coco.check_fields(path, place, entry, 'keypoints', 'score', *ids)
    numbers = lambda field, value, n, place=place: coco.numbers(
      path, place, field, value, n
    )
    points.append(numbers('keypoints', entry['keypoints'], 3 * len(names)))
    scores.append(numbers('score', [entry['score']], 1)[0])
    if named and not isinstance(entry['file_name'], str):
      problem = f"is {entry['file_name']!r:.60}, must be the example's id"
      raise InputError(f'{path}, {place}, file_name: {problem}')
  column = lambda field: [entry.get(field) for entry in data]
  return Results(
    path,
    np.reshape(points, (-1, len(names), 3))[..., :2],
    ids=column('file_name') if named else None,
    image_ids=column('image_id'),
    category_ids=column('category_id'),
    scores=np.array(scores),
  )


def _read_csv(path: pathlib.Path, names: tuple[str, ...]) -> Results:
  """Reads a CSV; arguments and errors are those of `read`."""
  ids, points = [], []
  try:
    with path.open('rb') as file:
      decoded = text_lists.decoded_lines(path, file, Findings())
      lines = csv.reader(decoded, strict=True)
      try:
        header = _header(path, next(lines, []), names)
        for cells in filter(None, lines):  # blank lines have no cells
          place = f'{path}, line {lines.line_num}'
          ids.append(cells[0])
          points.append(_cells(place, header, cells))
      except csv.Error as error:
        place = f'{path}, line {lines.line_num}'
        raise InputError(f'{place}: is no CSV ({error})') from None
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror})') from None
  if not ids:
    raise InputError(f'{path}: there is no line below the header')
  return Results(path, np.reshape(points, (-1, len(names), 2)), ids=ids)


def _header(
  path: pathlib.Path, cells: list[str], names: tuple[str, ...]
) -> list[str]:
  """Returns the columns' names; InputError if the header is not valid."""
  cells = [cell.strip() for cell in cells]
  numbered = ['id', *(f'{a}_{i + 1}' for i in range(len(names)) for a in 'xy')]
  named = ['id', *(f'{name}_{axis}' for name in names for axis in 'xy')]
  if cells not in (numbered, named):
    short = [','.join([*h[:3], '...', *h[-2:]]) for h in (numbered, named)]
    raise InputError(
      f'{path}, line 1: the header of {len(cells)} columns is '
      f"'{','.join(cells):.60}', must be {' or '.join(short)}, "
      f'{len(named)} columns'
    )
  return cells


def _cells(place: str, header: list[str], cells: list[str]) -> np.ndarray:
  """Returns the positions of a line, (2N,) float64; place is for messages."""
  if len(cells) != len(header):
    raise InputError(
      f'{place}: has {len(cells)} columns, must have {len(header)} as the '
      'header has'
    )
  values = []
  for column, text in zip(header[1:], cells[1:], strict=True):
    value = text_lists.plain_number(text)
    if value is None or abs(value) > coco.LARGEST:
      raise InputError(
        f'{place}, {column}: is {text!r:.60}, must be a finite number of pixels'
      )
    values.append(value)
  return np.array(values)


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
  return Results(path, points, ids=ids, visibility_probs=probs)


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
