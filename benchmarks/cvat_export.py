"""Makes a folder as CVAT exports it, of real photos, to try the way of a user.

  python benchmarks/cvat_export.py DEEPFASHION FOLDER

FOLDER/export gets, as CVAT writes them, a file of annotations and 300 photos of
upper-body and lower-body clothes: two categories with different landmarks,
names without separators, no splits. FOLDER/new gets 30 photos that the file
does not know, and FOLDER/new.json their boxes and categories without landmarks,
as one draws them before pre-annotation.
"""

import argparse
import json
import pathlib
import shutil

from fld_jax import schema
from fld_jax.datasets.common.rows import Row
from fld_jax.datasets.deepfashion import coarse
from fld_jax.files.images import image_size

# Category -> the clothes type, and the names by those of DeepFashion.
CATEGORIES = {
  'top': (1, {'collar': 'neck', 'sleeve': 'cuff', 'hem': 'hem'}),
  'skirt': (2, {'waist': 'waist', 'hem': 'hem'}),
}
NAMES = [
  f'{p}_{s}'
  for p in ('collar', 'sleeve', 'waist', 'hem')
  for s in ('left', 'right')
]


def main() -> None:
  """Writes the folder."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('deepfashion', type=pathlib.Path)
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--images', type=int, default=300)
  parser.add_argument('--new', type=int, default=30)
  arguments = parser.parse_args()
  half = (arguments.images + arguments.new) // 2
  rows = [*coarse.read_annotations(arguments.deepfashion)]
  chosen: list[tuple[int, Row]] = []
  for number, (code, _) in enumerate(CATEGORIES.values(), 1):
    of_type = [row for row in rows if row.clothes_type == code]
    chosen += [(number, row) for row in of_type[:half]]
  chosen.sort(key=lambda pair: pair[1].id)
  step = len(chosen) / arguments.new
  new = {int(i * step) for i in range(arguments.new)}
  known = [pair for i, pair in enumerate(chosen) if i not in new]
  write(
    arguments.folder / 'export/annotations/person_keypoints_default.json',
    arguments.folder / 'export/images/default',
    known,
    with_landmarks=True,
  )
  write(
    arguments.folder / 'new.json',
    arguments.folder / 'new',
    [chosen[i] for i in sorted(new)],
    with_landmarks=False,
  )


def write(
  path: pathlib.Path,
  images: pathlib.Path,
  chosen: list[tuple[int, Row]],
  *,
  with_landmarks: bool,
) -> None:
  """Writes a file of annotations and its images.

  Args:
    path: The path of the file.
    images: The folder of the images.
    chosen: (category id, row) of each object.
    with_landmarks: Whether the file has the landmarks.
  """
  images.mkdir(parents=True, exist_ok=True)
  path.parent.mkdir(parents=True, exist_ok=True)
  data: dict[str, list] = {'categories': [], 'images': [], 'annotations': []}
  for number, (name, (_, parts)) in enumerate(CATEGORIES.items(), 1):
    names = [f'{new}{side}' for new in parts.values() for side in 'LR']
    data['categories'].append(
      {
        'id': number,
        'name': name,
        'supercategory': '',
        'keypoints': names,
        'skeleton': [],
      }
    )
  for i, (number, row) in enumerate(chosen, 1):
    name = f'photo{i:04d}.jpg'
    shutil.copyfile(row.path, images / name)
    width, height = image_size(row.path, row.place)
    data['images'].append(
      {'id': i, 'file_name': name, 'width': width, 'height': height}
    )
    x1, y1, x2, y2 = map(float, row.box)
    entry = {
      'id': i,
      'image_id': i,
      'category_id': number,
      'iscrowd': 0,
      'bbox': [x1, y1, x2 - x1, y2 - y1],
      'area': (x2 - x1) * (y2 - y1),
    }
    if with_landmarks:
      _, parts = list(CATEGORIES.values())[number - 1]
      triples = []
      for part in parts:
        for side in ('left', 'right'):
          slot = NAMES.index(f'{part}_{side}')
          v = {schema.VISIBLE: 2, schema.OCCLUDED: 1}.get(
            int(row.visibility[slot]), 0
          )
          x, y = map(float, row.landmarks[slot]) if v else (0.0, 0.0)
          triples += [x, y, v]
      entry |= {
        'keypoints': triples,
        'num_keypoints': sum(v > 0 for v in triples[2::3]),
      }
    data['annotations'].append(entry)
  path.write_text(json.dumps(data))


if __name__ == '__main__':
  main()
