"""A folder of COCO-style keypoint files and images -> rows.

fld_jax/files/coco.py describes the form of the files. Their paths are settings,
with {split} for train, val or test.
"""

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fld_jax import schema
from fld_jax.datasets.common.rows import SPLITS, Row
from fld_jax.errors import Findings, InputError, printable
from fld_jax.files import coco
from fld_jax.files.images import file_state, image_size
from fld_jax.files.json_files import read_json


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
  """The files of a setting that there are, by split.

  Args:
    manual_dir: The folder.
    place: The value of the setting, a path below the folder with {split}.
    field: The name of the setting, for messages.

  Raises:
    InputError: There is no such file, or the path has no {split}.
  """
  root = Path(manual_dir).expanduser()
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
    InputError: The categories are not valid, or files differ in them.
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


def configured_landmark_set(config) -> schema.LandmarkSet:
  """`read_landmark_set` of the files that `config.dataset` names."""
  return read_landmark_set(config.manual_dir, config.annotations)


@functools.lru_cache(maxsize=32)
def _cached_set(path: Path, modified: int) -> schema.LandmarkSet:
  del modified  # a changed file is read anew
  return coco.landmark_set(path, coco.load(path)['categories'])


def content_digest(manual_dir, annotations: str, images: str) -> str:
  """16 hex digits that change when a file or a listed image's file changes."""
  digest = hashlib.sha256()
  for split, path in annotation_files(manual_dir, annotations).items():
    digest.update(f'{split} {images}\n'.encode())
    with path.open('rb') as file:
      digest.update(hashlib.file_digest(file, 'sha256').digest())
    for image in coco.load(path)['images']:
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
    data = coco.load(self.path)
    self.names = coco.landmark_set(self.path, data['categories']).names
    self.categories = {category['id'] for category in data['categories']}
    self.annotations = data['annotations']
    self._files = coco.read_images(self.path, data['images'])
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
      listed = f'{self.path}, image {coco.short(image_id)}'
      self._sizes[file] = _checked_size(file, listed, announced)
    return name, file, self._sizes[file]

  def _check_known(self, path, place: str, field: str, value, known) -> None:
    if not coco.is_id(value) or value not in known:
      problem = f'is {coco.short(value)}, which is not among the {field[:-3]}s'
      raise coco.error(path, place, field, problem)

  def row(self, i: int, annotation, findings: Findings) -> Row | None:
    """The row of the i-th annotation, None if it is left out."""
    path, place = self.path, f'annotations[{i}]'
    coco.check_fields(path, place, annotation, 'id', 'image_id', 'category_id')
    place = f'annotation {coco.short(annotation["id"])}'
    key = str(annotation['id'])  # as it gets into the row's
    if key in self._seen:
      raise coco.error(path, place, 'id', 'stands twice, must be unique')
    self._seen.add(key)
    known_ids = {'image_id': self._files, 'category_id': self.categories}
    for field, known in known_ids.items():
      self._check_known(path, place, field, annotation[field], known)
    if annotation.get('iscrowd', 0) not in (0, 1):
      problem = f'is {coco.short(annotation["iscrowd"])}, must be 0 or 1'
      raise coco.error(path, place, 'iscrowd', problem)
    if annotation.get('iscrowd', 0):
      findings.left_out['crowd'] += 1
      return None
    coco.check_fields(path, place, annotation, 'keypoints', 'bbox')
    points, codes = coco.read_keypoints(
      path, place, annotation['keypoints'], self.names
    )
    if not schema.has_position(codes).any():
      findings.left_out['no labelled landmark'] += 1
      return None
    box = coco.read_box(path, place, annotation['bbox'])
    file_name, file, size = self.image(path, place, annotation['image_id'])
    coco.check_box(path, place, box, size)
    coco.check_landmarks(path, place, points, codes, self.names, size)
    image_id = coco.short(annotation['image_id'])
    return Row(
      id=f'{file_name}#{annotation["id"]}',
      path=file,
      place=f'{path}, image {image_id}, file_name',
      split=self.split,
      box=box.astype(np.float32),
      landmarks=points.astype(np.float32),
      visibility=codes,
    )


def _image_path(manual_dir, images: str, split: str, name: str) -> str:
  return os.path.join(manual_dir, images.replace('{split}', split), name)


def _checked_size(file: str, place: str, announced):
  """(width, height) from the header, and as the annotations say."""
  size = image_size(file, f'{place}, file_name')
  if announced and size != tuple(announced):
    sides = ' x '.join(map(coco.short, announced))
    raise InputError(
      f'{place}, width and height: are {sides}, but '
      f'{printable(file, 4096)} is {size[0]} x {size[1]}',
      'image',
    )
  return size


def result_ids(
  manual_dir, annotations: str, ids: list[str], detections: dict[str, Path]
) -> list[tuple[int, int]] | None:
  """What COCO's results name records by.

  Args:
    manual_dir: the folder.
    annotations: see `annotation_files`.
    ids: of records, FILE#ANNOTATION or, of a detected box, FILE#dNUMBER.
    detections: see `detections.detection_files`.

  Returns:
    (image id, category id) of each record; None if the files name images by
    words, or one name twice.
  """
  images: dict[str, int] = {}
  categories: dict[str, int] = {}
  for split, path in annotation_files(manual_dir, annotations).items():
    data, names = coco.load(path), {}
    for number, (name, _) in coco.read_images(path, data['images']).items():
      if not isinstance(number, int) or images.get(name, number) != number:
        return None
      images[name] = number
      names[number] = name
    objects = [(str(entry['id']), entry) for entry in data['annotations']]
    if split in detections:
      boxes = read_json(detections[split])
      objects += [(f'd{i}', entry) for i, entry in enumerate(boxes)]
    for key, entry in objects:
      name = names[entry['image_id']]
      categories[f'{name}#{key}'] = entry['category_id']
  return [(images[i.rpartition('#')[0]], categories[i]) for i in ids]
