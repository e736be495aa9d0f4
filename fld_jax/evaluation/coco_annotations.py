"""The objects of a COCO-style file, as COCO's evaluation wants them.

All of them, unlike the rows that `datasets.coco.folder` reads: crowds and
objects without a labelled landmark decide what no detection is blamed for.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from fld_jax.datasets.coco import folder, layout
from fld_jax.datasets.common.rows import Row
from fld_jax.errors import InputError
from fld_jax.evaluation import ties
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
    by_id: The keys of `places` -> the annotations as they stand in the file.
  """

  path: pathlib.Path
  image_ids: dict
  category_ids: tuple
  places: dict[str, tuple]
  at: dict[tuple, list[dict]]
  by_id: dict[str, dict]


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
  places, at, by_id = {}, {}, {}
  for i, annotation in enumerate(data['annotations']):
    image = coco.find_id(annotation['image_id'], names)
    if image not in names:  # of the other split
      continue
    place = image, coco.find_id(annotation['category_id'], categories)
    number = annotation.get('id')
    key = i if number is None else coco.as_id(number)
    places[f'{names[image]}#{key}'] = place
    at.setdefault(place, []).append(annotation)
    by_id[f'{names[image]}#{key}'] = annotation
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
    by_id=by_id,
  )


def _reader(config_dataset: ConfigDict, split: str) -> folder.Reader | None:
  """The reader of the file that holds a split; None if there is none."""
  places = config_dataset.manual_dir, config_dataset.annotations
  landmarks = folder.read_landmark_set(*places)
  sources = layout.sources(*places, config_dataset.images)
  found = [one for one in sources if one.split in (split, '')]
  return folder.Reader(found[0], landmarks) if found else None


def categories(
  config_dataset: ConfigDict, split: str
) -> dict[coco.Id, tuple[str, ...]]:
  """The names of the landmarks of each category, by its id.

  Args:
    config_dataset: The config's part `dataset`.
    split: The split of the data set.

  Returns:
    {} for other data sets than coco_keypoints, and where no file has the split.
  """
  if config_dataset.name != 'coco_keypoints':
    return {}
  reader = _reader(config_dataset, split)
  found = reader.categories if reader else {}
  return {key: category.names for key, category in found.items() if category}


def objects(annotations: Annotations, rows: list[Row]) -> ties.Objects:
  """The objects that results can be tied to, those without landmarks as well.

  Args:
    annotations: The truth.
    rows: The split's rows, which are the examples.
  """
  of_row = {row.id: row for row in rows}
  ids = list(annotations.places)
  entries = annotations.by_id
  return ties.Objects(
    images=annotations.image_ids,
    ids=ids,
    image_keys=[annotations.places[name][0] for name in ids],
    category_ids=[annotations.places[name][1] for name in ids],
    boxes=[
      of_row[name].box if name in of_row else _box(entries[name])
      for name in ids
    ],
    by_image_id=True,
    examples=frozenset(of_row),
  )


def _box(entry: dict) -> np.ndarray | None:
  """The box (4,) of an object that is no example; None if it has none."""
  value = entry.get('bbox')
  sides = [coco.number(side) for side in value or ()] if value else []
  if len(sides) != 4 or None in sides:
    return None
  return np.array([*sides[:2], sides[0] + sides[2], sides[1] + sides[3]])


def places(
  annotations: Annotations, results: Results, found: ties.Ties
) -> list[tuple]:
  """The place of each result, for COCO's figures.

  Args:
    annotations: The truth.
    results: The results, whose images are known.
    found: What they are of.

  Raises:
    InputError: A result names a category that the annotations do not have.
  """
  several = len(annotations.category_ids) > 1
  at = []
  for i, image in enumerate(found.image_keys):
    if found.is_named[i]:
      at.append(annotations.places[found.ids[i]])
      continue
    value = results.category_ids[i]
    category = coco.find_id(value, annotations.category_ids)
    if category not in annotations.category_ids:
      # Other programs number the only category by their own counting.
      if several or category is None:
        valid = ', '.join(map(str, annotations.category_ids[:5]))
        raise InputError(
          f'{results.path}, {results.places[i]}, category_id: is '
          f'{coco.short(value)}, which no category of {annotations.path} has: '
          f'{valid}'
        )
      category = annotations.category_ids[0]
    at.append((image, category))
  return at


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
