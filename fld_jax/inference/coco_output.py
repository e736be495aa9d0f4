"""Predictions as a whole COCO file, which labelling tools and evaluators open.

  images       id, file_name, width and height as the photo is shown
  categories   id, name, keypoints (the landmarks' names), skeleton (pairs of
               their numbers, from 1 on)
  annotations  id, image_id, category_id, bbox [x, y, width, height], area,
               segmentation [], iscrowd 0, keypoints [x, y, v, ...],
               num_keypoints, score; and of our own, each with one entry for
               each landmark of the category: keypoint_scores, visibility,
               visibility_probs, error_50, error_90; and route

v is 2 for a visible landmark; 1 for one that is occluded or of which the
network is unsure, its confidence below UNSURE; 0 for one that is not in the
image or that the item lacks. x and y are the network's in the first case, which
evaluators need, and 0 in the second.

Where the boxes come from a COCO file, the ids, the names and the categories are
those of that file.
"""

import collections
import dataclasses
import importlib.metadata
import json
import math
import pathlib
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from fld_jax import schema
from fld_jax.errors import InputError, shortened
from fld_jax.files import coco, file_names
from fld_jax.files.image_names import ImageNames
from fld_jax.files.json_files import ListWriter
from fld_jax.inference.landmarks import Landmarks
from fld_jax.visualization import drawing

UNSURE = drawing.UNSURE  # a lower confidence makes v 1, and is drawn faintly
# A landmark may lie so far outside of the image and still be at its edge.
EDGE = 0.02  # of the image's longer side
UNKNOWN = 'unknown'  # the name of the category of items whose type is not known
NO_TYPES = 'item'  # the name of the category of a data set that has none


class Export:
  """A labelling tool's COCO file, whose ids and names are to be kept.

  Attributes:
    categories: The file's categories, as they stand.
    annotations: The file's annotations, as they stand.
  """

  def __init__(self, path: pathlib.Path, data: dict):
    """Checks the categories and indexes the images.

    Args:
      path: The path of the file, for messages.
      data: The object of the file, whose `images` and `annotations` could be
        read as boxes.

    Raises:
      InputError: The categories are not valid.
    """
    self.categories = _checked_categories(path, data.get('categories'))
    self.annotations = data['annotations']
    self._images = {
      coco.as_id(entry['id']): entry['file_name'] for entry in data['images']
    }
    self._names = ImageNames(self._images)

  @property
  def image_ids(self) -> Iterable[coco.Id]:
    """The ids of all images."""
    return self._images

  def image(self, name: str, entry: dict) -> tuple[coco.Id, str] | None:
    """The id and the name that an image has in the file; None if it has none.

    Args:
      name: The image's name below the folder of photos.
      entry: An annotation on it, {} if there is none.
    """
    key = coco.find_id(entry.get('image_id'), self._images)
    if key not in self._images:
      key = next(iter(self._names.find(name)), None)
    if key is None:
      return None
    name = self._images[key]
    return key, name if coco.is_id(name) else file_names.encoded(name)


def _checked_categories(path: pathlib.Path, categories: Any) -> list[dict]:
  """The categories of a file, which may have none or landmarks in none.

  Args:
    path: The path of the file, for messages.
    categories: The file's list, of any type.
  """
  if categories is None:
    return []
  if not isinstance(categories, list):
    given = shortened(categories)
    raise InputError(f'{path}, categories: is {given}, must be a list')
  seen: set[coco.Id] = set()
  is_text = lambda value: isinstance(value, str) and coco.is_id(value)
  for i, entry in enumerate(categories):
    place = f'categories[{i}]'
    coco.check_fields(path, place, entry, 'id')
    key = coco.as_id(entry['id'])
    if key in seen:
      problem = f'is {shortened(key)}, which stands twice, must be unique'
      raise coco.error(path, place, 'id', problem)
    seen.add(key)
    names = entry.get('keypoints') or []
    # Numbers are names as well, for `files.coco`, too.
    is_name = lambda name: is_text(name) or type(name) is int
    if not isinstance(names, list) or not all(map(is_name, names)):
      problem = f'is {shortened(names)}, must be a list of names'
      raise coco.error(path, place, 'keypoints', problem)
    if not is_text(entry.get('name', '')):
      problem = f'is {shortened(entry["name"])}, must be a name'
      raise coco.error(path, place, 'name', problem)
    try:
      json.dumps(entry, allow_nan=False)
    except ValueError:
      problem = 'is a number that is not finite, must be finite'
      raise coco.error(path, place, 'a field', problem) from None
  return categories


@dataclasses.dataclass(frozen=True)
class Category:
  """A category of the file that is written.

  Attributes:
    entry: The category as it is written.
    slots: The slot of each of its landmarks, None for one that the run lacks.
  """

  entry: dict
  slots: list[int | None]


class Document:
  """What a whole COCO file of predictions holds, item by item.

  Attributes:
    images: The images so far, as they are written.
  """

  def __init__(
    self, landmarks: schema.LandmarkSet, export: Export | None = None
  ):
    """Makes the categories.

    Args:
      landmarks: The landmark set of the run.
      export: The file that the boxes come from; None if it is no COCO file of
        images and annotations.
    """
    self._landmarks, self._export = landmarks, export
    self._categories: dict[coco.Id, Category] = {}
    self._ids: dict[str, coco.Id] = {}  # of categories, by name
    self._bare: set[coco.Id] = set()  # categories that name no landmarks
    for entry in export.categories if export else ():
      self._add(coco.as_id(entry['id']), entry)
    if not self._categories:
      for code, name in (landmarks.types or {1: NO_TYPES}).items():
        self._add(code, {'id': code, 'name': name})
    self._given = set(self._categories)
    self._used: set[coco.Id] = set()
    self._lost: collections.Counter = collections.Counter()
    self._num_unknown = 0
    self._image_ids: dict = {}
    self.images: list[dict] = []
    self._by_image_id: dict[coco.Id, dict] = {}
    entries = export.annotations if export else []
    ids = [coco.as_id(e.get('id')) for e in entries if isinstance(e, dict)]
    self._next_id = _above(ids)
    self._next_image_id = _above(export.image_ids if export else ())
    self._seen: set[coco.Id] = set()

  def _add(self, key: coco.Id, entry: dict) -> None:
    """Adds a category, with the landmarks of its type if it names none."""
    given, skeleton = entry.get('keypoints') or (), entry.get('skeleton')
    given = list(map(str, given))
    plain = list(map(coco.plain_name, given))
    names = self._landmarks.names
    own = plain
    if not plain:
      if self._export:
        self._bare.add(key)
      code = self._code(str(entry.get('name')))
      slots = self._landmarks.slots.get(code, range(len(names)))
      given = plain = [names[slot] for slot in slots]
    if not isinstance(skeleton, list) or plain != own:
      there = [p for p in self._landmarks.skeleton if {*p} <= {*plain}]
      skeleton = [[plain.index(name) + 1 for name in pair] for pair in there]
    entry = {
      **entry,
      'name': str(entry.get('name', key)),
      'keypoints': given,
      'skeleton': skeleton,
    }
    slots = [names.index(n) if n in names else None for n in plain]
    self._categories[key] = Category(entry, slots)
    self._ids.setdefault(entry['name'], key)

  def _code(self, name: str) -> int:
    """The code of the type of a name, 0 for any other name."""
    codes = {name: code for code, name in self._landmarks.types.items()}
    return codes.get(name.strip(), 0)

  def add(
    self,
    name: str,
    size: tuple[int, int],
    found: Landmarks,
    index: int | None = None,
  ) -> dict:
    """Makes the annotation of an item, and the entry of its image.

    Args:
      name: The name of the item's image below the folder of photos.
      size: (width, height) of the image as it is shown.
      found: The item's landmarks.
      index: The index of the item's box among the annotations of the export;
        None if it comes from elsewhere.

    Returns:
      The annotation, JSON-ready.
    """
    given = {}
    if self._export is not None and index is not None:
      given = self._export.annotations[index]
    category = self._category(found, given)
    self._count_lost(category, found)
    slots = category.slots
    pick = lambda values, missing: [
      missing if slot is None or not found.present[slot] else values[slot]
      for slot in slots
    ]
    v = marks(found, size)
    points = [
      [0.0, 0.0, 0] if s is None else [*_xy(found, s), v[s]] for s in slots
    ]
    corner, side = found.box[:2], found.box[2:] - found.box[:2]
    annotation = {
      'id': self._annotation_id(given),
      'image_id': self._image(name, size, given),
      'category_id': category.entry['id'],
      'bbox': [*corner.tolist(), *side.tolist()],
      'area': float(side.prod()),
      'segmentation': [],
      'iscrowd': 0,
      'keypoints': [value for point in points for value in point],
      'num_keypoints': sum(point[2] > 0 for point in points),
      'score': float(found.score),
      'keypoint_scores': pick(found.confidence.tolist(), 0.0),
      'route': list(found.route),
    }
    if found.visibility:
      annotation['visibility'] = pick(found.visibility, None)
      probs = found.visibility_probs.tolist()
      annotation['visibility_probs'] = pick(probs, None)
    if found.attributes is not None:
      annotation['attribute_probs'] = found.attributes
    for name in ('error_50', 'error_90'):
      values = getattr(found, name)
      if values is not None:
        known = [v if math.isfinite(v) else None for v in values.tolist()]
        annotation[name] = pick(known, None)
    return annotation

  def _category(self, found: Landmarks, given: dict) -> Category:
    """The category of an item: its box's, its type's or the only one."""
    key = coco.find_id(given.get('category_id'), self._categories)
    if key not in self._given:
      key = self._ids.get(found.category)
    if key is None and len(self._given) == 1:
      (key,) = self._given
    if key is None:
      key = self._ids.get(UNKNOWN)
      self._num_unknown += 1
    if key is None:
      key = _above(self._categories)
      self._add(key, {'id': key, 'name': UNKNOWN})
    self._used.add(key)
    return self._categories[key]

  def _count_lost(self, category: Category, found: Landmarks) -> None:
    """Counts the landmarks that the item's category has no place for."""
    if found.category or not self._landmarks.slots:
      lost = {*np.flatnonzero(found.present).tolist()} - {*category.slots}
      self._lost.update(found.names[slot] for slot in lost)

  def _annotation_id(self, given: dict) -> coco.Id:
    key = coco.as_id(given.get('id'))
    if key is None or key in self._seen:
      key = self._next_id
      self._next_id += 1
    self._seen.add(key)
    return key

  def _image(self, name: str, size: tuple[int, int], given: dict) -> coco.Id:
    """The id of an image, whose entry is made if there is none."""
    known = self._export.image(name, given) if self._export else None
    where = known or name
    if where not in self._image_ids:
      key, file_name = known or (None, file_names.encoded(name))
      if key is None:
        key = self._next_image_id
        self._next_image_id += 1
      self._image_ids[where] = key
      width, height = (int(side) for side in size)
      image = {'id': key, 'file_name': file_name}
      image |= {'width': width, 'height': height}
      self.images.append(image)
      self._by_image_id[key] = image
    return self._image_ids[where]

  @property
  def categories(self) -> list[dict]:
    """The categories as they are written."""
    return [
      category.entry
      if key in self._used or key not in self._bare
      # Rectangles of a labelling tool that no item came from.
      else {**category.entry, 'keypoints': [], 'skeleton': []}
      for key, category in self._categories.items()
    ]

  @property
  def by_id(self) -> dict[coco.Id, dict]:
    """The categories by their ids."""
    return {key: each.entry for key, each in self._categories.items()}

  def image_of(self, annotation: dict) -> dict:
    """The entry of the image of an annotation.

    Args:
      annotation: An annotation that `add` made.
    """
    return self._by_image_id[annotation['image_id']]

  def rest(self) -> dict:
    """The fields of the file beside the annotations."""
    version = importlib.metadata.version('fld_jax')
    about = 'Landmarks predicted by fld_jax'
    return {
      'categories': self.categories,
      'images': self.images,
      'info': {'description': about, 'version': version},
      'licenses': [],
    }

  def notes(self) -> list[str]:
    """Sentences about what the file does not hold as one may expect."""
    lines = []
    if self._num_unknown:
      names = ', '.join(self._landmarks.types.values())
      lines.append(
        f"{self._num_unknown} items are of the category '{UNKNOWN}', with all "
        f'landmarks, since it is not known what they are ({names}): give it in '
        "--boxes, by the column clothes_type of a CSV or a COCO file's "
        'category_id'
      )
    if self._lost:
      first = ', '.join(list(self._lost)[:5])
      lines.append(
        f'{len(self._lost)} landmarks have no place in the categories of '
        f'--boxes and stand in predictions.csv alone: {first}'
      )
    return lines


def _above(ids: Iterable[coco.Id | None]) -> int:
  """The number after the largest of some ids, at least 1."""
  return 1 + max((i for i in ids if isinstance(i, int)), default=0)


def _xy(found: Landmarks, slot: int) -> list[float]:
  """The position of a landmark, 0 for one that the item lacks."""
  return found.positions[slot].tolist() if found.present[slot] else [0.0, 0.0]


def marks(found: Landmarks, size: tuple[int, int]) -> list[int]:
  """COCO's v of the N landmarks of an item: 2 sure, 1 unsure, 0 not there.

  Args:
    found: The item's landmarks.
    size: (width, height) of the image as it is shown.
  """
  slack = EDGE * max(size)
  inside = (found.positions >= -slack) & (
    found.positions <= np.add(size, slack)
  )
  there = schema.has_position(found.codes) & inside.all(axis=1)
  sure = (found.codes == schema.VISIBLE) & (found.confidence >= UNSURE)
  return np.where(there, np.where(sure, 2, 1), 0).tolist()


class Writer:
  """Writes a COCO file annotation by annotation; close it at the end."""

  def __init__(self, file: BinaryIO):
    """Begins the file.

    Args:
      file: The file, open for bytes.
    """
    self._file = file
    self._file.write(b'{"annotations": ')
    self._annotations = ListWriter(file)

  def write(self, annotation: dict) -> None:
    """Adds an annotation.

    Args:
      annotation: The annotation, JSON-ready.
    """
    self._annotations.write(annotation)

  def close(self, rest: dict[str, Any]) -> None:
    """Ends the file, which stays open.

    Args:
      rest: The other fields of the file; a list has an entry a line.
    """
    self._annotations.close()
    for name, value in sorted(rest.items()):
      self._file.write(f',\n{json.dumps(name)}: '.encode())
      if isinstance(value, list):
        entries = ListWriter(self._file)
        for entry in value:
          entries.write(entry)
        entries.close()
      else:
        text = json.dumps(value, sort_keys=True, allow_nan=False)
        self._file.write(text.encode())
    self._file.write(b'}\n')
