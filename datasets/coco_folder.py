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

import functools
import hashlib
import os
import reprlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fld_jax import schema
from fld_jax.datasets.rows import (
  SPLITS,
  Findings,
  Row,
  file_state,
  image_size,
)
from fld_jax.errors import InputError, shown
from fld_jax.files import read_json

VISIBILITY = {2: schema.VISIBLE, 1: schema.OCCLUDED, 0: schema.ABSENT}
# How far a landmark may lie outside the image: where nobody can have meant it.
TOLERANCE = 0.1  # of the image's longer side
LARGEST = 1e9  # nobody means such a pixel; squares of larger ones may overflow
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring = 2, 60


def annotation_files(manual_dir, annotations: str) -> dict[str, Path]:
  """The files that there are, by split.

  Args:
    manual_dir: the folder.
    annotations: path below it, with {split} for train, val or test.

  Raises:
    InputError: there is none, or the path has no {split}.
  """
  return files_of_splits(manual_dir, annotations, 'annotations')


def files_of_splits(manual_dir, place: str, field: str) -> dict[str, Path]:
  """As `annotation_files`, of the place in a field of `config.dataset`."""
  root = Path(manual_dir)
  if '{split}' not in place:
    raise InputError(
      f"config.dataset.{field} is '{place}', it must have "
      "'{split}' where the files of train, val and test differ.",
      'config',
    )
  files = {split: root / place.replace('{split}', split) for split in SPLITS}
  present = {split: path for split, path in files.items() if path.is_file()}
  if not present:
    raise InputError(
      f'{root}: there is no file of {field}, must be at least one of '
      f'{", ".join(map(str, files.values()))}',
      'missing',
    )
  return present


def read_landmark_set(manual_dir, annotations: str) -> schema.LandmarkSet:
  """The landmarks that the files' categories name.

  Args:
    manual_dir: the folder.
    annotations: see `annotation_files`.

  Raises:
    InputError: the categories are no such, or files differ.
  """
  found = {}
  for path in annotation_files(manual_dir, annotations).values():
    found[path] = _cached_set(path, path.stat().st_mtime_ns)
  (first, landmarks), *others = found.items()
  for path, other in others:
    if other != landmarks:
      raise InputError(
        f'{path}, categories: differ from those of {first}, must be the same'
      )
  return landmarks


@functools.lru_cache(maxsize=32)
def _cached_set(path: Path, modified: int) -> schema.LandmarkSet:
  del modified  # a changed file is read anew
  return _landmark_set(path, load(path)['categories'])


def content_digest(manual_dir, annotations: str, images: str) -> str:
  """16 hex digits that change when a file or a listed image's file changes."""
  digest = hashlib.sha256()
  for split, path in annotation_files(manual_dir, annotations).items():
    digest.update(f'{split} {images}\n'.encode())
    with path.open('rb') as file:
      digest.update(hashlib.file_digest(file, 'sha256').digest())
    for image in load(path)['images']:
      name = image.get('file_name') if isinstance(image, dict) else None
      file = _image_path(manual_dir, images, split, str(name))
      digest.update(file_state(file, name))
  return digest.hexdigest()[:16]


def read(
  manual_dir,
  annotations: str,
  images: str,
  split: str,
  findings: Findings | None = None,
) -> Iterator[Row]:
  """Reads and checks a split; of the images only the headers.

  Args:
    manual_dir: the folder.
    annotations: see `annotation_files`.
    images: folder of the images below it, perhaps with {split}.
    split: 'train', 'val' or 'test'.
    findings: gets the mistakes, by default the first one is raised; and why
      objects are left out, crowds and those without a labelled landmark.

  Yields:
    The rows in the order of the file.

  Raises:
    InputError: the first mistake, with its file, place and field; with other
      findings, only what leaves nothing to read.
  """
  findings = findings or Findings()
  reader = Reader(manual_dir, annotations, images, split)
  count = 0
  for i, annotation in enumerate(reader.annotations):
    try:
      row = reader.row(i, annotation, findings)
    except InputError as mistake:
      findings.mistake(mistake)
      continue
    if row:
      count += 1
      yield row
  if not count:
    findings.mistake(
      InputError(
        f'{reader.path}, annotations: none has a labelled landmark, must be at '
        'least one'
      )
    )


class Reader:
  """Turns the annotations of a split into rows.

  Attributes:
    path: of the file.
    split: 'train', 'val' or 'test'.
    names: of the landmarks.
    categories: their ids.
    annotations: as the file has them, not yet checked.
  """

  def __init__(self, manual_dir, annotations: str, images: str, split: str):
    """Reads the file, see `read`."""
    self.path = annotation_files(manual_dir, annotations)[split]
    self.split = split
    data = load(self.path)
    self.names = _landmark_set(self.path, data['categories']).names
    self.categories = {category['id'] for category in data['categories']}
    self.annotations = data['annotations']
    self._files = _read_images(self.path, data['images'])
    self._image_path = functools.partial(_image_path, manual_dir, images, split)
    self._sizes: dict[str, tuple[int, int]] = {}
    self._seen: set = set()

  def image(self, path, place: str, image_id):
    """An image's name, file and (width, height).

    Args:
      path: of the file that names it.
      place: in that file.
      image_id: what stands there.

    Raises:
      InputError: there is no such image, or its file is not as announced.
    """
    self._check_known(path, place, 'image_id', image_id, self._files)
    name, announced = self._files[image_id]
    file = self._image_path(name)
    if file not in self._sizes:
      listed = f'{self.path}, image {_short(image_id)}'
      self._sizes[file] = _checked_size(file, listed, announced)
    return name, file, self._sizes[file]

  def _check_known(self, path, place: str, field: str, value, known) -> None:
    if not is_id(value) or value not in known:
      problem = f'is {_short(value)}, which is not among the {field[:-3]}s'
      raise _error(path, place, field, problem)

  def row(self, i: int, annotation, findings: Findings) -> Row | None:
    """The row of the i-th annotation, None if it is left out."""
    path, place = self.path, f'annotations[{i}]'
    check_fields(path, place, annotation, 'id', 'image_id', 'category_id')
    place = f'annotation {_short(annotation["id"])}'
    key = str(annotation['id'])  # as it gets into the row's
    if key in self._seen:
      raise _error(path, place, 'id', 'stands twice, must be unique')
    self._seen.add(key)
    known_ids = {'image_id': self._files, 'category_id': self.categories}
    for field, known in known_ids.items():
      self._check_known(path, place, field, annotation[field], known)
    if annotation.get('iscrowd', 0) not in (0, 1):
      problem = f'is {_short(annotation["iscrowd"])}, must be 0 or 1'
      raise _error(path, place, 'iscrowd', problem)
    if annotation.get('iscrowd', 0):
      findings.left_out['crowd'] += 1
      return None
    check_fields(path, place, annotation, 'keypoints', 'bbox')
    points, codes = _keypoints(path, place, annotation['keypoints'], self.names)
    if not schema.has_position(codes).any():
      findings.left_out['no labelled landmark'] += 1
      return None
    box = _box(path, place, annotation['bbox'])
    file_name, file, size = self.image(path, place, annotation['image_id'])
    check_box(path, place, box, size)
    _check_landmarks(path, place, points, codes, self.names, size)
    return Row(
      id=f'{file_name}#{annotation["id"]}',
      path=file,
      place=f'{path}, image {_short(annotation["image_id"])}, file_name',
      split=self.split,
      box=box.astype(np.float32),
      landmarks=points.astype(np.float32),
      visibility=codes,
    )


def _error(
  path, place: str, field: str, problem: str, kind: str = 'form'
) -> InputError:
  problem = shown(problem, 1000)
  return InputError(f'{path}, {place}, {field}: {problem}', kind)


def load(path: Path) -> dict:
  """The object of an annotation file, with its three lists.

  Raises:
    InputError: it has not these lists, or the file is no JSON.
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
  """Refuses a value that is no object with these fields.

  Args:
    path: of the file.
    place: of the value in it.
    value: of any type.
    *fields: names; those of ids must hold a number or a string.

  Raises:
    InputError: naming the place and the field.
  """
  if not isinstance(value, dict):
    raise InputError(f'{path}, {place}: is {_short(value)}, must be an object')
  for field in fields:
    if field not in value:
      raise _error(path, place, field, 'is missing')
    if field in ('id', 'image_id') and not is_id(value[field]):
      problem = f'is {_short(value[field])}, must be a number or a string'
      raise _error(path, place, field, problem)


def is_id(value) -> bool:
  """Whether a value can be the id of an image, annotation or category."""
  is_number = isinstance(value, int) and not isinstance(value, bool)
  return is_number or _is_text(value)


def _is_text(value) -> bool:
  r"""Whether it can be written: an escape '\ud800' makes half a character."""
  if not isinstance(value, str):
    return False
  return not any('\ud800' <= c <= '\udfff' for c in value)


def _short(value) -> str:
  # By a library that also stops at depth: repr can run out of recursion.
  return shown(_REPR.repr(value), 57)


def _landmark_set(path, categories) -> schema.LandmarkSet:
  """The one landmark set of all categories."""
  found = []
  for i, category in enumerate(categories):
    place = f'categories[{i}]'
    check_fields(path, place, category, 'id', 'keypoints')
    names = _names(path, place, 'keypoints', category['keypoints'])
    if not names or len(set(names)) < len(names):
      problem = f'are {", ".join(names) or "none"}, must be different names'
      raise _error(path, place, 'keypoints', problem)
    swaps, parts = category.get('swaps', []), category.get('parts', {})
    if not isinstance(swaps, list) or not isinstance(parts, dict):
      problem = 'must be a list of pairs, and parts an object of lists'
      raise _error(path, place, 'swaps', problem)
    pairs = [_names(path, place, 'swaps', pair, names) for pair in swaps]
    flat = [name for pair in pairs for name in pair]
    if any(len(pair) != 2 for pair in pairs) or len(set(flat)) < len(flat):
      problem = 'must be pairs of names, each name at most once'
      raise _error(path, place, 'swaps', problem)
    given = {}
    for name, lists in parts.items():
      if not isinstance(lists, list) or not lists or not all(lists):
        problem = f"'{name}' must be a list of lists of names"
        raise _error(path, place, 'parts', problem)
      given[name] = tuple(
        _names(path, place, 'parts', part, names) for part in lists
      )
    landmarks = schema.LandmarkSet(names=names, swaps=tuple(pairs), parts=given)
    try:
      landmarks.flip  # noqa: B018
    except InputError as error:
      raise _error(path, place, 'keypoints', f'{error} Give swaps.') from None
    found.append(landmarks)
    if landmarks != found[0]:
      problem = 'differ from those of the first category, must be the same'
      raise _error(path, place, 'keypoints', problem)
  return found[0]


def _names(path, place: str, field: str, value, known=None) -> tuple[str, ...]:
  """Names with underscores between the words."""
  if not isinstance(value, list) or not all(map(_is_text, value)):
    problem = f'is {_short(value)}, must be a list of names'
    raise _error(path, place, field, problem)
  names = tuple('_'.join(v.replace('_', ' ').split()) for v in value)
  for name in names:
    if not name or (known is not None and name not in known):
      problem = f"has '{name}', must be one of {', '.join(known or ())}"
      raise _error(path, place, field, problem)
  return names


def _read_images(path, images) -> dict:
  """Image id -> (file name, (width, height) or None)."""
  files = {}
  for i, image in enumerate(images):
    place = f'images[{i}]'
    check_fields(path, place, image, 'id', 'file_name')
    if image['id'] in files:
      problem = f'is {_short(image["id"])}, which stands twice, must be unique'
      raise _error(path, place, 'id', problem)
    name = image['file_name']
    if not _is_text(name) or not name or '\0' in name:
      problem = f'is {_short(name)}, must be the name of a file'
      raise _error(path, place, 'file_name', problem)
    size = image.get('width'), image.get('height')
    for field, side in zip(('width', 'height'), size, strict=True):
      if side is not None and (
        not isinstance(side, int) or isinstance(side, bool) or side < 1
      ):
        problem = f'is {_short(side)}, must be a number of pixels'
        raise _error(path, place, field, problem)
    files[image['id']] = name, None if None in size else size
  return files


def numbers(path, place: str, field: str, value, length: int) -> np.ndarray:
  """(length,) float64 of a field that must be a list of so many numbers.

  Raises:
    InputError: naming the place, the field and which value is none.
  """
  if not isinstance(value, list) or len(value) != length:
    count = f' of {len(value)}' if isinstance(value, list) else ''
    problem = f'is {_short(value)}{count}, must be a list of {length} numbers'
    raise _error(path, place, field, problem)
  for i, number in enumerate(value):
    good = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not good or not abs(number) <= LARGEST:
      problem = f'value {i + 1} is {_short(number)}, must be a finite number'
      raise _error(path, place, field, problem)
  return np.array(value, np.float64)


def _keypoints(path, place: str, value, names):
  """Points (N, 2) float64, 0 where not labelled, and codes (N,)."""
  triples = numbers(path, place, 'keypoints', value, 3 * len(names))
  triples = triples.reshape(-1, 3)
  for name, v in zip(names, triples[:, 2], strict=True):
    if v not in VISIBILITY:
      problem = f'v of {name} is {v:g}, must be 0, 1 or 2'
      raise _error(path, place, 'keypoints', problem, 'visibility')
  codes = np.array([VISIBILITY[v] for v in triples[:, 2]], np.int32)
  known = schema.has_position(codes)
  return np.where(known[:, None], triples[:, :2], 0.0), codes


def _box(path, place: str, value) -> np.ndarray:
  """(4,) x1, y1, x2, y2."""
  x, y, width, height = numbers(path, place, 'bbox', value, 4)
  if width <= 0 or height <= 0:
    problem = f'is {width:g} x {height:g} pixels, both must be above 0'
    raise _error(path, place, 'bbox', problem, 'box')
  return np.array([x, y, x + width, y + height])


def _image_path(manual_dir, images: str, split: str, name: str) -> str:
  return os.path.join(manual_dir, images.format(split=split), name)


def _checked_size(file: str, place: str, announced):
  """(width, height) from the header, and as the annotations say."""
  size = image_size(file, f'{place}, file_name')
  if announced and size != tuple(announced):
    raise InputError(
      f'{place}, width and height: are {" x ".join(map(_short, announced))}, '
      f'but {shown(file, 4096)} is {size[0]} x {size[1]}',
      'image',
    )
  return size


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
    raise _error(path, place, 'bbox', problem, 'box')
  # Boxes of cropped images reach beyond them; a slip of the point reaches far.
  if (box < -max(size)).any() or (box > np.tile(size, 2) + max(size)).any():
    problem = (
      f'ends at {", ".join(f"{side:g}" for side in box)}, beyond the image of '
      f'{width} x {height} pixels by more than its longer side'
    )
    raise _error(path, place, 'bbox', problem, 'box')


def _check_landmarks(path, place, points, codes, names, size) -> None:
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
      raise _error(path, place, 'keypoints', problem, 'landmark')


def image_ids(manual_dir, annotations: str, ids: list[str]) -> list[int] | None:
  """The files' numbers of the images of records.

  Args:
    manual_dir: the folder.
    annotations: see `annotation_files`.
    ids: of records, FILE#ANNOTATION.

  Returns:
    One a record; None if the files name images by words, or one name twice.
  """
  found: dict[str, int] = {}
  for path in annotation_files(manual_dir, annotations).values():
    for number, (name, _) in _read_images(path, load(path)['images']).items():
      if not isinstance(number, int) or found.get(name, number) != number:
        return None
      found[name] = number
  return [found[name.rpartition('#')[0]] for name in ids]
