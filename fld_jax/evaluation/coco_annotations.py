"""The objects of a COCO-style file, as COCO's evaluation wants them.

All of them, unlike the rows that `datasets.coco.folder` reads: crowds and
objects without a labelled landmark decide what no detection is blamed for.
"""

import dataclasses
import pathlib
import re
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from ml_collections import ConfigDict

from fld_jax.datasets.coco import folder, layout
from fld_jax.errors import InputError
from fld_jax.evaluation.prediction_files import Results
from fld_jax.files import coco
from fld_jax.metrics import coco as coco_metrics


@dataclasses.dataclass(frozen=True)
class Annotations:
  """A file's annotations by place; a place is (image id, category id).

  Attributes:
    path: The path of the file.
    image_ids: The id of each image -> its file name.
    category_ids: The ids of all categories.
    places: The id of a row, see `datasets.coco.folder.read` -> its place; also
      for the annotations that are left out there.
    at: Place -> its annotations as they stand in the file, in the file's order.
  """

  path: pathlib.Path
  image_ids: dict
  category_ids: tuple
  places: dict[str, tuple]
  at: dict[tuple, list[dict]]


def read(config_dataset: ConfigDict, split: str) -> Annotations:
  """Reads the annotations of a split.

  Args:
    config_dataset: The config's part `dataset`, of coco_keypoints, whose rows
      can be read without a mistake: what that has checked is not checked again.
    split: A split that has an annotation file.
  """
  reader = _reader(config_dataset, split)
  path = reader.source.path
  data = coco.load(path)
  names = {
    coco.as_id(image['id']): image['file_name']
    for image in data['images']
    if reader.split_of(image['file_name']) == split
  }
  categories = {coco.as_id(entry['id']) for entry in data['categories']}
  places, at = {}, {}
  for i, annotation in enumerate(data['annotations']):
    image = coco.find_id(annotation['image_id'], names)
    if image not in names:  # of the other split
      continue
    place = image, coco.find_id(annotation['category_id'], categories)
    number = annotation.get('id')
    key = i if number is None else coco.as_id(number)
    places[f'{names[image]}#{key}'] = place
    at.setdefault(place, []).append(annotation)
  return Annotations(
    path=path,
    # Numbers, then strings: equal scores rank in the order of the images.
    image_ids=dict(
      sorted(
        names.items(), key=lambda item: (isinstance(item[0], str), item[0])
      )
    ),
    category_ids=tuple(coco.as_id(entry['id']) for entry in data['categories']),
    places=places,
    at=at,
  )


def _reader(config_dataset: ConfigDict, split: str) -> folder.Reader:
  """The reader of the file that holds a split."""
  places = config_dataset.manual_dir, config_dataset.annotations
  landmarks = folder.read_landmark_set(*places)
  sources = layout.sources(*places, config_dataset.images)
  (source,) = [one for one in sources if one.split in (split, '')]
  return folder.Reader(source, landmarks)


def tie(
  annotations: Annotations, results: Results, row_ids: list[str]
) -> tuple[list[str] | None, list[tuple | None]]:
  """Ties results to objects, where the file allows it, and to places.

  Args:
    annotations: The truth.
    results: The n results.
    row_ids: The ids of the split's rows.

  Returns:
    (ids, places). n ids of rows: the file's, not yet checked; without any, by
    image if each image has exactly one object and one result, else None; None
    for boxes of a detector as well. n places, None where no annotation has the
    id.

  Raises:
    InputError: A result names an image or a category that the annotations do
      not have.
  """
  if results.ids is None:
    _check(annotations, results, 'image_id', annotations.image_ids)
    _check(annotations, results, 'category_id', annotations.category_ids)
    places = list(zip(results.image_ids, results.category_ids, strict=True))
    return _ids_by_image(annotations, results, row_ids), places
  places = [annotations.places.get(name) for name in results.ids]
  # As `datasets.coco.detections` names its boxes: their file names an image.
  boxes = all(re.search(r'#d\d+$', name) for name in results.ids)
  if any(places) or not boxes or results.scores is None:
    return results.ids, places
  if len(annotations.category_ids) > 1:
    _check(annotations, results, 'category_id', annotations.category_ids)
    categories = results.category_ids
  else:
    categories = annotations.category_ids * len(places)
  images = _images(annotations, results)
  return None, list(zip(images, categories, strict=True))


def _check(
  annotations: Annotations, results: Results, field: str, valid: Collection
) -> None:
  """Refuses results of images or categories that the annotations have not."""
  for i, value in enumerate(getattr(results, f'{field}s')):
    if not coco.is_id(value) or value not in valid:
      raise InputError(
        f'{results.path}, results[{i}], {field}: is {value!r:.60}, which no '
        f'{field[:-3]} of {annotations.path} has'
      )


def _ids_by_image(
  annotations: Annotations, results: Results, row_ids: list[str]
) -> list[str] | None:
  """The row of each result, if each image has one object and one result."""
  objects = Counter(image for image, _ in annotations.places.values())
  row_of = {annotations.places[name][0]: name for name in row_ids}
  unique = len(row_of) == len(row_ids) and all(objects[i] == 1 for i in row_of)
  if unique and Counter(results.image_ids) == dict.fromkeys(row_of, 1):
    return [row_of[image] for image in results.image_ids]
  return None


def _images(annotations: Annotations, results: Results) -> list:
  """The image id of each result, by the file's name in the result's id."""
  counts = Counter(annotations.image_ids.values())
  image_of = {name: image for image, name in annotations.image_ids.items()}
  images = []
  for i, box_id in enumerate(results.ids):
    name = box_id.rpartition('#')[0]
    if counts[name] != 1:
      raise InputError(
        f"{results.path}, results[{i}], file_name: '{name}' is the file of "
        f'{counts[name]} images of {annotations.path}, must be of one'
      )
    images.append(image_of[name])
  return images


def figures(
  annotations: Annotations, detections: list[tuple], sigmas: Sequence[float]
) -> dict[str, float | None]:
  """Computes COCO's ten figures of keypoints.

  Args:
    annotations: The truth.
    detections: (place, (N, 2) image pixels, score) of each detection; equal
      scores of an image rank in this order.
    sigmas: N standard deviations, as fractions of the square root of the
      object's area.

  Returns:
    The figures of `metrics.coco.figures`, fractions; of several categories, the
    mean over those that have objects.

  Raises:
    InputError: An annotation has no area, or its box or its landmarks are not
      valid.
  """
  # Ids may be strings and numbers in one file; pycocotools wants numbers.
  image_index = {key: i for i, key in enumerate(annotations.image_ids)}
  category_index = {key: i for i, key in enumerate(annotations.category_ids)}
  at = lambda place: {
    'image_id': image_index[place[0]],
    'category_id': category_index[place[1]],
  }
  objects = [
    {**_object(annotations.path, entry, len(sigmas)), **at(place)}
    for place, entries in annotations.at.items()
    for entry in entries
  ]
  found = [
    {'keypoints': points, 'score': score, **at(place)}
    for place, points, score in detections
  ]
  return coco_metrics.figures(objects, found, sigmas)


def _object(path: pathlib.Path, entry: dict, num_landmarks: int) -> dict:
  """Converts an annotation for `metrics.coco.figures`, but for its place.

  Args:
    path: The path of the file, for messages.
    entry: The annotation as it stands in the file.
    num_landmarks: The number N of landmarks.
  """
  name = f'annotation {entry["id"]!r}'
  numbers = lambda field, value, n: coco.numbers(path, name, field, value, n)
  coco.check_fields(path, name, entry, 'area', 'bbox')
  area = numbers('area', [entry['area']], 1)[0]
  if area < 0:
    raise InputError(
      f"{path}, {name}, area: is {area:g}, must be the object's area in pixels"
    )
  keypoints = np.zeros(3 * num_landmarks)  # a crowd may have none
  if 'keypoints' in entry:
    keypoints = numbers('keypoints', entry['keypoints'], 3 * num_landmarks)
  return {
    'area': area,
    'bbox': numbers('bbox', entry['bbox'], 4),
    'keypoints': keypoints.reshape(-1, 3),
    'iscrowd': int(bool(entry.get('iscrowd', 0))),
  }
