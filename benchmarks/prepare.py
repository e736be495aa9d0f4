"""Images/s and peak memory of preparing a data set.

    python benchmarks/prepare.py folder --dataset=deepfashion --manual_dir=F
    python benchmarks/prepare.py rows 1000 10000 100000 1000000

`folder` prepares a folder from nothing. `rows` makes, for each number, a folder
in DeepFashion's layout with this number of rows, each with an image file of its
own (links to few files), and prepares it. Each preparation runs in a process of
its own, whose highest resident size is printed.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
LINKS = 50_000  # links of one file; file systems allow some more


def make_folder(root: pathlib.Path, count: int) -> None:
  """Writes the lists of upper garments, and links for their images.

  Args:
    root: The folder to fill, which is empty.
    count: The number of rows.
  """
  from PIL import Image

  rng = np.random.default_rng(0)
  triples = ' '.join(
    f'landmark_visibility_{i} landmark_location_x_{i} landmark_location_y_{i}'
    for i in range(1, 9)
  )
  columns = {
    'Eval/list_eval_partition.txt': 'evaluation_status',
    'Anno/list_bbox.txt': 'x_1 y_1 x_2 y_2',
    'Anno/list_landmarks.txt': f'clothes_type {triples}',
  }
  for folder in ('Eval', 'Anno', 'Img'):
    (root / folder).mkdir()
  files = {name: (root / name).open('w') for name in columns}
  for name, file in files.items():
    file.write(f'{count}\nimage_name {columns[name]}\n')
  for i in range(count):
    if not i % LINKS:
      source = root / f'{i}.jpg'
      pixels = rng.integers(0, 256, (48, 32, 3), np.uint8)
      Image.fromarray(pixels).save(source)
    folder = root / 'Img' / f'{i // 1000:04d}'
    if not i % 1000:
      folder.mkdir()
    os.link(source, folder / f'{i}.jpg')
    name = f'{folder.name}/{i}.jpg'
    points = rng.integers(1, 32, 12)
    landmarks = ' '.join(f'0 {x} {y}' for x, y in points.reshape(6, 2))
    cells = ('train' if i % 5 else 'val', '1 1 32 48', f'1 {landmarks}')
    for file, cell in zip(files.values(), cells, strict=True):
      file.write(f'{name} {cell}\n')
  for file in files.values():
    file.close()


def measure(dataset: str, manual_dir: str) -> dict[str, float]:
  """Prepares a folder in this process.

  Args:
    dataset: The name of the data set.
    manual_dir: The folder of its files.

  Returns:
    The number of `images`, the `seconds` of the preparation, and the highest
    resident size of this process in `MiB`.
  """
  from fld_jax.configs import base
  from fld_jax.datasets.prepare import prepared_builder

  config = base.get_config(f'dataset={dataset}').dataset
  with tempfile.TemporaryDirectory() as data_dir:
    config.manual_dir, config.data_dir = manual_dir, data_dir
    start = time.perf_counter()
    builder = prepared_builder(config)
    seconds = time.perf_counter() - start
  return {
    'images': builder.info.splits.total_num_examples,
    'seconds': seconds,
    'MiB': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
  }


def measure_alone(dataset: str, manual_dir: str) -> None:
  """Prepares a folder in a process of its own, and prints the measurement.

  Args:
    dataset: The name of the data set.
    manual_dir: The folder of its files.
  """
  command = [sys.executable, __file__, 'alone', f'--dataset={dataset}']
  output = subprocess.run(
    [*command, f'--manual_dir={manual_dir}'],
    check=True,
    stdout=subprocess.PIPE,
    text=True,
  ).stdout
  found = json.loads(output.splitlines()[-1])
  print(
    f'{found["images"]:8} images  {found["seconds"]:7.1f} s  '
    f'{found["images"] / found["seconds"]:6.0f} images/s  '
    f'{found["MiB"]:5.0f} MiB',
    flush=True,
  )


def main() -> None:
  """Reads the arguments and prints a line for each folder."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('what', choices=['folder', 'rows', 'alone'])
  parser.add_argument('counts', nargs='*', type=int)
  parser.add_argument('--dataset', default='deepfashion')
  parser.add_argument('--manual_dir')
  arguments = parser.parse_args()
  if arguments.what == 'alone':
    print(json.dumps(measure(arguments.dataset, arguments.manual_dir)))
  elif arguments.what == 'folder':
    measure_alone(arguments.dataset, arguments.manual_dir)
  for count in arguments.counts:
    with tempfile.TemporaryDirectory() as root:
      make_folder(pathlib.Path(root), count)
      measure_alone('deepfashion', root)


if __name__ == '__main__':
  main()
