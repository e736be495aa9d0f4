"""A folder of COCO-style keypoint files and images -> rows.

fld_jax/files/coco.py describes the form of the files, layout.py where they lie.
"""

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fld_jax import geometry, schema
from fld_jax.datasets.coco import layout
from fld_jax.datasets.common.rows import Row
from fld_jax.errors import Findings, InputError, printable
from fld_jax.files import coco
from fld_jax.files.images import file_state, stored_size
from fld_jax.files.json_files import read_json

# Of a box that is drawn around landmarks: what is added on each side, as a
# share of its longer side, and the least, as a share of the image's.
BOX_MARGIN, LEAST_BOX_MARGIN = 0.15, 0.02


def read_landmark_set(
  manual_dir: str | os.PathLike, annotations: str
) -> schema.LandmarkSet:
  """The landmarks that the files' categories name, see `coco.landmark_set`.

  Args:
    manual_dir: The data set's folder.
    annotations: See `layout.sources`.

  Raises:
    InputError: The categories are not valid, or one has other landmarks in one
      file than in another.
  """
  files = layout.sources(manual_dir, annotations, '')
  by_name: dict[str, tuple[Path, coco.Category]] = {}  # first seen in a file
  for path in dict.fromkeys(source.path for source in files):
    for category in _categories(path, path.stat().st_mtime_ns).values():
      if category is None:
        continue
      first, same = by_name.setdefault(category.name, (path, category))
      if {*same.names} != {*category.names}:
        differing = sorted({*same.names} ^ {*category.names})
        raise InputError(
          f"{path}, categories, keypoints: those of '{category.name}' differ "
          f'from those in {first}: {", ".join(differing[:5])} '
          'stand in one of the two only, must be the same'
        )
      both = coco.merged(same, category, f'{path}, categories')
      by_name[category.name] = first, both
  categories = [category for _, category in by_name.values()]
  return coco.landmark_set(categories, str(files[0].path))


def configured_landmark_set(config: ConfigDict) -> schema.LandmarkSet:
  """The landmarks of the files that a config names.

  Args:
    config: The config's part `dataset`.

  Raises:
    InputError: As for `read_landmark_set`, or no pairs are declared and a
      landmark is called left or right and has no partner.
  """
  landmarks = read_landmark_set(config.manual_dir, config.annotations)
  if not config.get('swaps'):
    sources = layout.sources(config.manual_dir, config.annotations, '')
    coco.check_partners(landmarks, str(sources[0].path))
  return landmarks


@functools.lru_cache(maxsize=32)
def _categories(path: Path, modified: int) -> dict:
  del modified  # a changed file is read anew
  return coco.read_categories(path, coco.load(path)['categories'])


def content_digest(
  manual_dir: str | os.PathLike, annotations: str, images: str
) -> str:
  """16 hex digits that change when a file or a listed image's file changes.

  Args:
    manual_dir: The data set's folder.
    annotations: See `layout.sources`.
    images: See `layout.sources`.
  """
  digest = hashlib.sha256()
  for source in layout.sources(manual_dir, annotations, images):
    digest.update(f'{source.split} {source.path.name}\n'.encode())
    with source.path.open('rb') as file:
      digest.update(hashlib.file_digest(file, 'sha256').digest())
    for image in coco.load(source.path)['images']:
      name = str(image.get('file_name') if isinstance(image, dict) else None)
      try:
        state = file_state(source.image_path(name, ''), name)
      except (InputError, ValueError):  # a reader names it
        state = f'{name!r} is refused\n'.encode()
      digest.update(state)
  return digest.hexdigest()[:16]


def read(
  manual_dir: str | os.PathLike,
  annotations: str,
  images: str,
  findings: Findings | None = None,
  splits: tuple[str, ...] = (),
) -> Iterator[Row]:
  """Reads and checks the files; of the images only the headers.

  Args:
    manual_dir: The data set's folder.
    annotations: See `layout.sources`.
    images: See `layout.sources`.
    findings: Gets the mistakes, by default the first one is raised; what is
      left out, and what is worth knowing.
    splits: The splits to read; () for all.

  Yields:
    The rows in the order of the files.

  Raises:
    InputError: The first mistake, with its file, place and field; with other
      findings, only what leaves nothing to read.
  """
  findings = findings or Findings()
  landmarks = read_landmark_set(manual_dir, annotations)
  for source in layout.sources(manual_dir, annotations, images):
    if not splits or source.split in (*splits, ''):
      for row in Reader(source, landmarks).rows(findings):
        if not splits or row.split in splits:
          yield row


class Reader:
  """Turns the annotations of a file into rows.

  Attributes:
    source: Where the file and its images are.
    landmarks: The landmark set of the whole data set, with N landmarks.
    categories: Category id -> category; None for one without landmarks.
  """

  def __init__(self, source: layout.Source, landmarks: schema.LandmarkSet):
    """Reads the file.

    Args:
      source: Where the file and its images are.
      landmarks: The landmark set of the whole data set.

    Raises:
      InputError: The file has not the form of COCO's.
    """
    self.source = source
    self.landmarks = landmarks
    data = coco.load(source.path)
    self.categories = coco.read_categories(source.path, data['categories'])
    self._annotations = data['annotations']
    self._images = coco.read_images(source.path, data['images'])
    self._codes = {name: code for code, name in landmarks.types.items()}
    self._views: dict[tuple, _View] = {}
    self._seen: set[str] = set()
    self._val = frozenset()  # if val is split off from this file
    if not source.split:
      self._val = layout.val_images(self._labelled_images())

  def split_of(self, name: str) -> str:
    """The split of an image.

    Args:
      name: The image's name in the file.
    """
    return self.source.split or ('val' if name in self._val else 'train')

  def _labelled_images(self) -> Iterator[str]:
    """The names of images with a labelled landmark, mistakes not counted."""
    for entry in self._annotations:
      if not isinstance(entry, dict):
        continue
      image = coco.find_id(entry.get('image_id'), self._images)
      category = coco.find_id(entry.get('category_id'), self.categories)
      marks = entry.get('keypoints')
      if (
        image in self._images
        and self.categories.get(category)
        and isinstance(marks, list)
        and not coco.number(entry.get('iscrowd'))
        and entry.get('iscrowd') is not True
      ):
        if any(coco.number(mark) for mark in marks[2::3]):
          yield self._images[image][0]

  def rows(self, findings: Findings) -> Iterator[Row]:
    """Reads and checks all annotations.

    Args:
      findings: Gets the mistakes, and why objects are left out.

    Yields:
      The rows in the order of the file.
    """
    count, before = 0, len(findings.mistakes)
    for i, annotation in enumerate(self._annotations):
      try:
        row = self._row(i, annotation, findings)
      except InputError as mistake:
        findings.mistake(mistake)
        continue
      if row:
        count += 1
        yield row
    self.note_views(findings)
    if not count and len(findings.mistakes) == before:
      findings.mistake(
        InputError(
          f'{self.source.path}, annotations: none has a labelled landmark, '
          'must be at least one'
        )
      )

  def note_views(self, findings: Findings) -> None:
    """Counts what is worth knowing of the images that were looked at.

    Args:
      findings: Gets the numbers.
    """
    views = {view.file: view for view in self._views.values()}.values()
    counts = {
      'photos that EXIF data turn, taken as they are shown': sum(
        view.is_turned for view in views
      ),
      'of them with the size before turning: their positions are taken to '
      'count in the file as it is stored': sum(
        view.is_unclear for view in views
      ),
      'images found by the last parts of their names': sum(
        view.is_guess for view in views
      ),
    }
    findings.notes.update({what: n for what, n in counts.items() if n})

  def image(self, path: Path, place: str, image_id: Any) -> tuple:
    """Looks at an image.

    Args:
      path: The path of the file that names it, for messages.
      place: The place in that file.
      image_id: What stands there, of any type.

    Returns:
      (name, view): the image's name in the file of annotations, and how its
      file is seen.

    Raises:
      InputError: There is no such image, or its file is not as announced.
    """
    key = self._known(path, place, 'image_id', image_id, self._images)
    name, announced = self._images[key]
    if (name, announced) not in self._views:
      listed = f'{self.source.path}, image {coco.short(key)}'
      file = self.source.find_image(name, f'{listed}, file_name')
      self._views[name, announced] = _view(*file, listed, announced)
    return name, self._views[name, announced]

  def _known(self, path: Path, place: str, field: str, value: Any, known):
    key = coco.find_id(value, known)
    if key is None or key not in known:
      plural = {'image_id': 'images', 'category_id': 'categories'}[field]
      first = ', '.join(map(repr, list(known)[:3]))
      problem = (
        f'is {coco.short(value)}, which is not among the ids of {plural}, '
        f'{first} and so on'
      )
      raise coco.error(path, place, field, problem)
    return key

  def category(self, path: Path, place: str, value: Any):
    """The category that an id names; None if it has no landmarks.

    Args:
      path: The path of the file that names it, for messages.
      place: The place in that file.
      value: What stands there, of any type.

    Raises:
      InputError: There is no such category.
    """
    key = self._known(path, place, 'category_id', value, self.categories)
    return self.categories[key]

  def code(self, category: coco.Category) -> int:
    """The code of a category's type in the landmark set."""
    return self._codes[category.name]

  def _row(self, i: int, annotation: Any, findings: Findings) -> Row | None:
    """The row of the i-th annotation, None if it is left out."""
    path, place = self.source.path, f'annotations[{i}]'
    coco.check_fields(path, place, annotation, 'image_id', 'category_id')
    number = annotation.get('id')
    if number is not None:  # some tools number nothing
      coco.check_fields(path, place, annotation, 'id')
      place = f'annotation {coco.short(number)}'
    key = str(i if number is None else coco.as_id(number))
    if key in self._seen:
      raise coco.error(path, place, 'id', 'stands twice, must be unique')
    self._seen.add(key)
    image_id = annotation['image_id']
    self._known(path, place, 'image_id', image_id, self._images)
    category = self.category(path, place, annotation['category_id'])
    if self._is_crowd(path, place, annotation):
      findings.leave_out('crowd', place)
      return None
    if category is None:
      marks = annotation.get('keypoints')
      labelled = isinstance(marks, list) and any(
        coco.number(mark) for mark in marks[2::3]
      )
      findings.leave_out(
        'with landmarks, and of a category that does not name them'
        if labelled
        else 'of a category without landmarks',
        place,
      )
      return None
    if not annotation.get('keypoints'):
      findings.leave_out('no labelled landmark', place)
      return None
    points, codes = coco.read_keypoints(
      path, place, annotation['keypoints'], category.names
    )
    if not schema.has_position(codes).any():
      findings.leave_out('no labelled landmark', place)
      return None
    name, view = self.image(path, place, image_id)
    coco.check_landmarks(path, place, points, codes, category.names, view.size)
    if coco.has_box(annotation):
      box = coco.read_box(path, place, annotation['bbox'])
      coco.check_box(path, place, box, view.size)
    else:
      findings.notes['objects without a box: it is drawn around landmarks'] += 1
      box = _box_around(points[schema.has_position(codes)], view.size)
    slots = [self.landmarks.names.index(name) for name in category.names]
    count = self.landmarks.num_landmarks
    landmarks = np.zeros((count, 2))
    landmarks[slots] = np.where(
      schema.has_position(codes)[:, None], view.shown(points), 0
    )
    visibility = np.full(count, schema.ABSENT, np.int32)
    visibility[slots] = codes
    return Row(
      id=f'{name}#{key}',
      path=view.file,
      place=f'{path}, image {coco.short(image_id)}, file_name',
      split=self.split_of(name),
      box=view.shown_box(box).astype(np.float32),
      landmarks=landmarks.astype(np.float32),
      visibility=visibility,
      clothes_type=self.code(category),
    )

  def _is_crowd(self, path: Path, place: str, annotation: dict) -> bool:
    value = annotation.get('iscrowd')
    if coco.is_missing(value):
      return False
    if isinstance(value, bool):
      return value
    number = coco.number(value)
    if number not in (0, 1):
      problem = f'is {coco.short(value)}, must be 0 or 1'
      raise coco.error(path, place, 'iscrowd', problem)
    return bool(number)


class _View:
  """How a photo is seen: turned as its EXIF data say.

  Attributes:
    file: The path of the file.
    size: (width, height) that the positions in the annotations count in.
    is_turned: Whether the EXIF data turn or mirror the photo.
    is_unclear: Whether the annotations announce the size before turning.
    is_guess: Whether the file was found by the last part of its name.
  """

  def __init__(
    self,
    file: str,
    stored: tuple[int, int],
    orientation: int,
    unclear: bool,
    is_guess: bool,
  ):
    self.file = file
    self.is_guess = is_guess
    self.is_turned = orientation != 1
    self.is_unclear = unclear
    self._stored, self._orientation = stored, orientation
    turned = geometry.upright_size(stored, orientation)
    self.size = stored if unclear else turned

  def shown(self, points: np.ndarray) -> np.ndarray:
    """The points (n, 2) on the photo as it is shown."""
    if not self.is_unclear:
      return points
    return geometry.upright_points(points, self._stored, self._orientation)

  def shown_box(self, box: np.ndarray) -> np.ndarray:
    """The box (4,) on the photo as it is shown."""
    corners = self.shown(box.reshape(2, 2))
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def _box_around(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """A box (4,) around points (n, 2), within the image where they are."""
  low, high = points.min(axis=0), points.max(axis=0)
  margin = max(BOX_MARGIN * (high - low).max(), LEAST_BOX_MARGIN * max(size))
  box = np.concatenate([low - margin, high + margin])
  inside = np.clip(box, 0, np.tile(size, 2))
  return np.where((inside[2:] > inside[:2]).all(), inside, box)


def _view(
  file: str, is_guess: bool, place: str, announced: tuple | None
) -> _View:
  """How a photo is seen; its size must be as the annotations announce.

  Args:
    file: The path of the file.
    is_guess: Whether it was found by the last part of its name.
    place: The place in the annotations, for messages.
    announced: (width, height), None if not known.

  Raises:
    InputError: The file is no image, or of another size.
  """
  stored, orientation = stored_size(file, f'{place}, file_name')
  shown = geometry.upright_size(stored, orientation)
  if announced in (None, shown):
    return _View(file, stored, orientation, False, is_guess)
  if announced == stored:
    return _View(file, stored, orientation, True, is_guess)
  sides = ' x '.join(map(coco.short, announced))
  turned = f', or {shown[0]} x {shown[1]} as it is shown (EXIF orientation '
  raise InputError(
    f'{place}, width and height: are {sides}, but {printable(file, 4096)} is '
    f'{stored[0]} x {stored[1]}'
    + (f'{turned}{orientation})' if shown != stored else ''),
    'image',
  )


def result_ids(
  manual_dir: str | os.PathLike,
  annotations: str,
  ids: list[str],
  detections: dict[str, Path],
) -> list[tuple[int, int]] | None:
  """What COCO's results name records by.

  Args:
    manual_dir: The data set's folder.
    annotations: See `layout.sources`.
    ids: The ids of records: FILE#ANNOTATION, or FILE#dNUMBER of a detected
      box.
    detections: Split -> file, see `detections.detection_files`.

  Returns:
    (image id, category id) of each record; None if the files name images by
    words, or one name twice.
  """
  images: dict[str, int] = {}
  categories: dict[str, int] = {}
  for source in layout.sources(manual_dir, annotations, ''):
    data, names = coco.load(source.path), {}
    listed = coco.read_images(source.path, data['images'])
    known = {coco.as_id(entry['id']) for entry in data['categories']}
    for number, (name, _) in listed.items():
      if not isinstance(number, int) or images.get(name, number) != number:
        return None
      images[name] = number
      names[number] = name
    objects = [
      (str(i if entry.get('id') is None else coco.as_id(entry['id'])), entry)
      for i, entry in enumerate(data['annotations'])
    ]
    if source.split in detections:
      boxes = read_json(detections[source.split])
      objects += [(f'd{i}', entry) for i, entry in enumerate(boxes)]
    for key, entry in objects:
      name = names[coco.find_id(entry['image_id'], names)]
      category = coco.find_id(entry['category_id'], known)
      categories[f'{name}#{key}'] = category
  if any(isinstance(categories[i], str) for i in ids):
    return None
  return [(images[i.rpartition('#')[0]], categories[i]) for i in ids]
