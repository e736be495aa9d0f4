"""Predictions as annotations to start from in labelling tools.

  label_studio.json   tasks with predictions, for Label Studio's import
  label_studio.xml    the labelling interface that these tasks fit
  cvat.json           COCO keypoints, for CVAT's "Upload annotations" in the
                      format "COCO Keypoints 1.0"

All are made from the annotations of `coco_output.Document`.
"""

import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import numpy as np

from fld_jax.files import coco

TOOLS = ('label_studio', 'cvat')
# Of tasks in Label Studio, which reads the images in its local storage.
IMAGE_PREFIX = '/data/local-files/?d='
IMAGE, ITEMS, LANDMARKS = 'image', 'items', 'landmarks'  # names of its controls
POINT_WIDTH = 0.5  # of a drawn landmark, in per cent of the image's width


def label_studio_task(
  image: dict,
  annotations: Sequence[dict],
  categories: dict[coco.Id, dict],
  prefix: str,
  model: str,
) -> dict:
  """A task of Label Studio with its prediction: rectangles and landmarks.

  Landmarks with a v of 0 are left out; those of an item have its rectangle as
  their parent. Positions are in per cent of the image's sides.

  Args:
    image: The image of a COCO file, with its size.
    annotations: The annotations on it.
    categories: The file's categories by id.
    prefix: What stands before the image's name in the task.
    model: The name of the model.

  Returns:
    The task, JSON-ready.
  """
  size = np.array([image['width'], image['height']], np.float64)
  common = {
    'to_name': IMAGE,
    'original_width': image['width'],
    'original_height': image['height'],
    'image_rotation': 0,
  }
  result = []
  for i, annotation in enumerate(annotations, 1):
    category = categories[annotation['category_id']]
    corner, sides = np.split(np.array(annotation['bbox']), 2)
    low = np.clip(corner, 0, size)
    x, y, width, height = np.concatenate(
      [low / size, (np.clip(corner + sides, 0, size) - low) / size]
    )
    region = f'item{i}'
    result.append(
      {
        **common,
        'id': region,
        'from_name': ITEMS,
        'type': 'rectanglelabels',
        'score': annotation['score'],
        'value': {
          'x': 100 * x,
          'y': 100 * y,
          'width': 100 * width,
          'height': 100 * height,
          'rotation': 0,
          'rectanglelabels': [category['name']],
        },
      }
    )
    points = np.reshape(annotation['keypoints'], (-1, 3))
    for k, (name, (*point, v)) in enumerate(
      zip(category['keypoints'], points, strict=True), 1
    ):
      if v == 0:
        continue
      x, y = 100 * np.clip(point, 0, size) / size
      entry = {
        **common,
        'id': f'{region}landmark{k}',
        'parentID': region,
        'from_name': LANDMARKS,
        'type': 'keypointlabels',
        'score': annotation['keypoint_scores'][k - 1],
        'value': {
          'x': x,
          'y': y,
          'width': POINT_WIDTH,
          'keypointlabels': [name],
        },
      }
      if v == 1:
        entry['meta'] = {'text': ['occluded or unsure']}
      result.append(entry)
  return {
    'data': {IMAGE: _address(image['file_name'], prefix)},
    'predictions': [
      {
        'model_version': model,
        'score': float(np.mean([a['score'] for a in annotations])),
        'result': result,
      }
    ],
  }


def _address(name: str, prefix: str) -> str:
  """The address of an image, which the export of Label Studio has as its name.

  Args:
    name: The image's name.
    prefix: What stands before any other name.
  """
  if name.startswith(('/data/', prefix)) or '://' in name:
    return name
  return prefix + urllib.parse.quote(name)


def label_studio_config(categories: Sequence[dict]) -> bytes:
  """The labelling interface of Label Studio that the tasks fit, as XML.

  Args:
    categories: The categories of the COCO file.
  """
  view = ET.Element('View')
  ET.SubElement(view, 'Image', name=IMAGE, value=f'${IMAGE}', zoom='true')
  names = (
    (category['name'] for category in categories if category['keypoints']),
    (name for category in categories for name in category['keypoints']),
  )
  kinds = (('RectangleLabels', ITEMS), ('KeyPointLabels', LANDMARKS))
  for (kind, name), labels in zip(kinds, names, strict=True):
    control = ET.SubElement(view, kind, name=name, toName=IMAGE)
    for i, label in enumerate(dict.fromkeys(labels)):
      entry = ET.SubElement(control, 'Label', value=label)
      if name == LANDMARKS:  # their order in Label Studio's COCO export
        entry.set('model_index', str(i))
  ET.indent(view)
  return ET.tostring(view, encoding='utf-8') + b'\n'


class CvatAnnotations:
  """Annotations as CVAT imports them, with the fields and ids that it takes.

  CVAT refuses a file with an id that is no whole number, or with a category
  that its task does not have.

  Attributes:
    num_left_out: The number of items whose category is not known.
  """

  def __init__(self, unknown: str):
    """Begins with no image.

    Args:
      unknown: The name of the category of items whose category is not known.
    """
    self._unknown = unknown
    self._ids: dict[str, dict] = {}
    self.num_left_out = 0

  def _number(self, kind: str, key: coco.Id) -> int:
    """A whole number above 0 in place of an id of a kind."""
    ids = self._ids.setdefault(kind, {})
    return ids.setdefault(key, len(ids) + 1)

  def annotation(
    self, annotation: dict, categories: dict[coco.Id, dict]
  ) -> dict | None:
    """An annotation of CVAT's; None for an item of no known category.

    Args:
      annotation: An annotation of the COCO file.
      categories: The file's categories by id.
    """
    key = annotation['category_id']
    if categories[key]['name'] == self._unknown:
      self.num_left_out += 1
      return None
    fields = 'bbox area segmentation iscrowd keypoints num_keypoints score'
    return {
      **{name: annotation[name] for name in fields.split()},
      'id': self._number('annotation', annotation['id']),
      'image_id': self._number('image', annotation['image_id']),
      'category_id': self._number('category', key),
    }

  def rest(self, images: Sequence[dict], categories: Sequence[dict]) -> dict:
    """The other fields of CVAT's file.

    Args:
      images: The images of the COCO file.
      categories: Its categories.
    """
    return {
      'images': [
        {**image, 'id': self._number('image', image['id'])} for image in images
      ],
      'categories': [
        {**category, 'id': self._number('category', category['id'])}
        for category in categories
        if category['name'] != self._unknown and category['keypoints']
      ],
      'info': {},
      'licenses': [],
    }
