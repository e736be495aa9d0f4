"""One list of drawn garments as the labelling tools export it.

Each writer makes a folder in the form that its tool documents. The garments are
the truth: whatever the form, the same landmarks must be read from it.
"""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
from PIL import Image

LANDMARKS = {
  'shirt': ['left collar', 'right collar', 'left hem', 'right hem'],
  'trousers': ['left waist', 'right waist', 'left hem', 'right hem', 'crotch'],
}
WIDTH, HEIGHT = 60, 80


@dataclasses.dataclass
class Garment:
  """A garment on a photo of its own.

  Attributes:
    number: Tells the garment, and the colour of its photo.
    split: 'train' or 'val'.
    category: A key of LANDMARKS.
    box: x, y, width, height.
    marks: [x, y, v] of each landmark; v is 2, 1 or 0.
  """

  number: int
  split: str
  category: str
  box: list[float]
  marks: list[list[float]]

  @property
  def name(self) -> str:
    return f'photo{self.number:02d}.png'

  @property
  def keypoints(self) -> list[float]:
    return [value for mark in self.marks for value in mark]

  def colour(self) -> tuple[int, int, int]:
    return 40 + 15 * self.number, 30, 200 - 10 * self.number

  def paint(self, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (WIDTH, HEIGHT), self.colour()).save(path)


def garments(count: int = 12) -> list[Garment]:
  """Shirts and trousers in turn; every third one is of val."""
  rng = np.random.default_rng(5)
  found = []
  for i in range(count):
    category = list(LANDMARKS)[i % 2]
    points = rng.uniform([10, 10], [50, 70], (len(LANDMARKS[category]), 2))
    codes = rng.choice([2, 2, 1, 0], len(points))
    codes[0] = 2
    marks = [
      [*point, int(v)] if v else [0, 0, 0]
      for point, v in zip(points.round(2).tolist(), codes, strict=True)
    ]
    box = [5.5, 6, 48, 66.25]
    found.append(
      Garment(i, 'val' if i % 3 == 2 else 'train', category, box, marks)
    )
  return found


def of_split(found: list[Garment], split: str | None) -> list[Garment]:
  return [g for g in found if split in (None, g.split)]


def document(found: list[Garment], name='{name}', first: int = 1) -> dict:
  """A plain COCO file of some garments; ids count from `first` on."""
  ids = {name: i for i, name in enumerate(LANDMARKS, first)}
  return {
    'info': {},
    'licenses': [],
    'categories': [
      {'id': ids[c], 'name': c, 'supercategory': '', 'keypoints': [*names]}
      for c, names in LANDMARKS.items()
    ],
    'images': [
      {
        'id': i,
        'file_name': name.format(name=g.name, split=g.split),
        'width': WIDTH,
        'height': HEIGHT,
      }
      for i, g in enumerate(found, first)
    ],
    'annotations': [
      {
        'id': i,
        'image_id': i,
        'category_id': ids[g.category],
        'bbox': g.box,
        'area': g.box[2] * g.box[3],
        'segmentation': [],
        'iscrowd': 0,
        'keypoints': g.keypoints,
        'num_keypoints': sum(mark[2] > 0 for mark in g.marks),
      }
      for i, g in enumerate(found, first)
    ],
  }


def save(path: Path, data: dict) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(data))


def own(folder: Path, found: list[Garment]) -> None:
  """The layout that this project's documentation names."""
  for split in ('train', 'val'):
    part = of_split(found, split)
    save(folder / f'annotations/{split}.json', document(part))
  for g in found:
    g.paint(folder / 'images' / g.name)


def cvat_default(folder: Path, found: list[Garment]) -> None:
  """A task without subsets."""
  save(folder / 'annotations/person_keypoints_default.json', document(found))
  for g in found:
    g.paint(folder / 'images/default' / g.name)


def cvat_subsets(folder: Path, found: list[Garment]) -> None:
  """A project with the subsets Train and Validation."""
  for split, subset in (('train', 'Train'), ('val', 'Validation')):
    data = document(of_split(found, split))
    save(folder / f'annotations/person_keypoints_{subset}.json', data)
    for g in of_split(found, split):
      g.paint(folder / 'images' / subset / g.name)


def cvat_without_images(folder: Path, found: list[Garment]) -> None:
  """Annotations alone; the photos lie where the user keeps them."""
  save(folder / 'annotations/person_keypoints_default.json', document(found))
  for g in found:
    g.paint(folder / 'my photos/summer' / g.name)


def label_studio(folder: Path, found: list[Garment], prefix='images/') -> None:
  """KeyPointLabels and RectangleLabels: the latter is a category of its own."""
  data = document(found, f'{prefix}1a2b-{{name}}', first=0)
  for category in data['categories']:
    category['id'] += 1
  data['categories'].insert(0, {'id': 0, 'name': 'garment'})
  boxes = []
  for entry in data['annotations']:
    entry['category_id'] += 1
    entry['id'] = 2 * entry['id'] + 1
    boxes.append(
      {
        **{'id': entry['id'] - 1, 'image_id': entry['image_id']},
        **{'category_id': 0, 'segmentation': [], 'bbox': entry['bbox']},
        **{'ignore': 0, 'iscrowd': 0, 'area': entry['area']},
      }
    )
  data['annotations'] = [
    entry
    for pair in zip(boxes, data['annotations'], strict=True)
    for entry in pair
  ]
  save(folder / 'result.json', data)
  for g in found:
    g.paint(folder / 'images' / f'1a2b-{g.name}')


def label_studio_windows(folder: Path, found: list[Garment]) -> None:
  label_studio(folder, found, 'images\\')


def label_studio_uploads(folder: Path, found: list[Garment]) -> None:
  label_studio(folder, found, '../../label-studio/data/media/upload/1/')


def label_studio_local_files(folder: Path, found: list[Garment]) -> None:
  label_studio(folder, found, '/data/local-files/?d=shop%20photos/')


def roboflow(folder: Path, found: list[Garment]) -> None:
  """train and valid, each with its photos; category 0 is the project."""
  for split, word in (('train', 'train'), ('val', 'valid')):
    part = of_split(found, split)
    data = document(part)
    data['categories'].insert(
      0, {'id': 0, 'name': 'shirts', 'supercategory': 'none'}
    )
    for g, image in zip(part, data['images'], strict=True):
      image['file_name'] = f'{g.name[:-4]}_png.rf.0f3c9ab1.png'
      image |= {
        'license': 1,
        'date_captured': '2025',
        'extra': {'name': g.name},
      }
      g.paint(folder / word / image['file_name'])
    save(folder / word / '_annotations.coco.json', data)


def coco_annotator(folder: Path, found: list[Garment]) -> None:
  """Objects with a segmentation only are among the others."""
  data = document(found)
  for image in data['images']:
    image |= {'path': f'/datasets/x/{image["file_name"]}', 'annotated': True}
  for category in data['categories']:
    category |= {'color': '#fff', 'metadata': {}, 'skeleton': [[1, 2]]}
  for i, entry in enumerate(data['annotations'][:3]):
    plain = {k: v for k, v in entry.items() if 'keypoints' not in k}
    plain |= {'id': 1000 + i, 'isbbox': False, 'color': '#f00'}
    data['annotations'].append(plain)
  save(folder / 'export.json', data)
  for g in found:
    g.paint(folder / g.name)


def labelme2coco(folder: Path, found: list[Garment]) -> None:
  """dataset.json beside the photos, and labelme's own files."""
  save(folder / 'dataset.json', document(found, first=0))
  for g in found:
    g.paint(folder / 'photos' / g.name)
    shapes = {'version': '5.0', 'shapes': [], 'imagePath': g.name}
    save(folder / 'photos' / f'{g.name[:-4]}.json', shapes)


def fiftyone(folder: Path, found: list[Garment]) -> None:
  """A COCODetectionDataset."""
  save(folder / 'labels.json', document(found))
  for g in found:
    g.paint(folder / 'data' / g.name)


def mmpose(folder: Path, found: list[Garment]) -> None:
  """COCO 2017's own layout, as Ultralytics and mmpose expect it."""
  for split in ('train', 'val'):
    data = document(of_split(found, split))
    path = folder / f'annotations/person_keypoints_{split}2017.json'
    save(path, data)
    # Boxes of the same images, in a file without landmarks.
    plain = copy.deepcopy(data)
    for category in plain['categories']:
      del category['keypoints']
    save(folder / f'annotations/instances_{split}2017.json', plain)
    for g in of_split(found, split):
      g.paint(folder / f'{split}2017' / g.name)


def mmpose_images(folder: Path, found: list[Garment]) -> None:
  """The same with all photos below images/, as Ultralytics has them."""
  for split in ('train', 'val'):
    path = folder / f'annotations/person_keypoints_{split}2017.json'
    save(path, document(of_split(found, split)))
    for g in of_split(found, split):
      g.paint(folder / f'images/{split}2017' / g.name)


ONE_FILE = {
  'CVAT, one subset': cvat_default,
  'CVAT, photos elsewhere': cvat_without_images,
  'Label Studio': label_studio,
  'Label Studio on Windows': label_studio_windows,
  'Label Studio, uploads': label_studio_uploads,
  'Label Studio, local files': label_studio_local_files,
  'coco-annotator': coco_annotator,
  'labelme2coco': labelme2coco,
  'FiftyOne': fiftyone,
}
OF_SPLITS = {
  'our own': own,
  'CVAT, subsets': cvat_subsets,
  'Roboflow': roboflow,
  'COCO 2017': mmpose,
  'COCO 2017, images': mmpose_images,
}
LEFT_OUT = {
  **{
    name: {'of a category without landmarks': 12}
    for name in ONE_FILE
    if name.startswith('Label Studio')
  },
  'coco-annotator': {'no labelled landmark': 3},
}
