"""Predicts the landmarks on image files: `--mode=predict`.

  DIR/predictions.json   COCO keypoint results, with the visibility of each
                         landmark and the networks that each item passed
  DIR/predictions.csv    the same, one line an item
  DIR/overlays/NAME      the landmarks drawn on the images
  DIR/overlays/contact_sheet.png
                         some of the items on one sheet, the least sure first
  DIR/failures.csv       items that could not be used, and why; if there are any

Positions are x, y in pixels of the images as viewers show them (EXIF rotation
applied), from their top-left corner.
"""

import concurrent.futures
import contextlib
import csv
import io
import itertools
import json
import pathlib

import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from fld_jax.errors import InputError
from fld_jax.files.atomic import whole_file, write_file
from fld_jax.files.images import read
from fld_jax.files.json_files import rounded
from fld_jax.inference import item_boxes, photos, prediction_sheet
from fld_jax.inference.landmarks import Landmarks, overlay
from fld_jax.inference.predictor import Predictor

THREADS = 8  # threads that draw overlays
MAX_PRINTED_FAILURES = 5  # all of them are in failures.csv


def predict_files(
  config: ConfigDict,
  workdir: pathlib.Path,
  images: str,
  boxes: pathlib.Path | None,
  output: pathlib.Path,
  overlays: bool = True,
) -> dict:
  """Predicts the landmarks of the items on image files.

  Args:
    config: The run's config.
    workdir: The run's folder.
    images: A file, a folder or a pattern, see `photos.find`.
    boxes: A file with the boxes of the items, see `item_boxes`; images without
      a box are left out. None if each image is one item.
    output: The folder to write to; it is made if it does not exist.
    overlays: Whether to draw the landmarks on the images.

  Returns:
    `ok`, whether every item was predicted; `num_items`; `failures`, (image,
    reason) of each item that was not.

  Raises:
    InputError: Nothing can be predicted: there are no images, no finished run,
      a wrong file of boxes, or `output` is a file.
  """
  if output.exists() and not output.is_dir():
    raise InputError(f'--output={output}: is a file, must be a folder')
  root, names = photos.find(images)
  predictor = Predictor.load(workdir, config)
  items = [item_boxes.Item(name, None) for name in names]
  if boxes:
    given = item_boxes.read(boxes, predictor.landmark_set.types)
    items, elsewhere = item_boxes.for_images(given, names, boxes)
    without = len(names) - len({item.image for item in items})
    if elsewhere or without:
      print(
        f'Left out: {without} images without a box, {elsewhere} boxes of '
        'other images.'
      )
  source = photos.Items(
    [root / item.image for item in items],
    [item.box for item in items],
    predictor.landmark_set.num_landmarks,
    [item.clothes_type for item in items],
  )
  sheet = prediction_sheet.PredictionSheet()
  with (
    _Writer(output, predictor.landmark_set.names) as writer,
    _Painter(root, output / 'overlays' if overlays else None) as painter,
  ):
    found = tqdm(
      predictor.predict(source), total=len(items), unit='items', smoothing=0.1
    )
    of_image = lambda pair: items[pair[0]].image
    for name, group in itertools.groupby(found, of_image):
      on_image = []
      for index, landmarks in group:
        writer.write(index, name, landmarks)
        sheet.add(root / name, name, landmarks)
        on_image.append(landmarks)
      painter.draw(name, on_image)
  failures = [
    (items[i].image, source.failures[i]) for i in sorted(source.failures)
  ]
  if overlays:
    prediction_sheet.write(sheet, output / 'overlays')
  _write_failures(output, failures)
  _print_summary(output, len(items), failures, overlays)
  return {'ok': not failures, 'num_items': len(items), 'failures': failures}


def _print_summary(
  output: pathlib.Path,
  num_items: int,
  failures: list[tuple[str, str]],
  overlays: bool,
) -> None:
  print(f'{num_items - len(failures)} of {num_items} items')
  for _, why in failures[:MAX_PRINTED_FAILURES]:
    print(f'not predicted: {why}')
  if len(failures) > MAX_PRINTED_FAILURES:
    print(f'... and {len(failures) - MAX_PRINTED_FAILURES} more')
  if failures:
    print(f'Failures: {output}/failures.csv')
  print(f'Predictions: {output}/predictions.json, predictions.csv')
  if overlays:
    print(
      f'Overlays: {output}/overlays, some of them on '
      f'overlays/{prediction_sheet.NAME}',
      flush=True,
    )


def _write_failures(
  output: pathlib.Path, failures: list[tuple[str, str]]
) -> None:
  """Writes failures.csv, or removes that of an earlier run."""
  path = output / 'failures.csv'
  path.unlink(missing_ok=True)
  if failures:
    text = io.StringIO()
    csv.writer(text).writerows([('image', 'reason'), *failures])
    write_file(path, text.getvalue().encode())


class _Writer(contextlib.ExitStack):
  """Writes predictions.json and predictions.csv item by item."""

  def __init__(self, output: pathlib.Path, names: tuple[str, ...]):
    super().__init__()
    self._json = self.enter_context(whole_file(output / 'predictions.json'))
    self._csv = self.enter_context(whole_file(output / 'predictions.csv'))
    self._count = 0
    fields = ('x', 'y', 'visibility', 'probability', 'confidence')
    self._line(
      ['image', 'x1', 'y1', 'x2', 'y2', 'score', 'route']
      + [f'{name}_{field}' for name in names for field in fields]
    )

  def __exit__(self, *error):
    self._json.write(b'\n]\n' if self._count else b'[]\n')
    return super().__exit__(*error)

  def write(self, index: int, name: str, found: Landmarks) -> None:
    """Adds the landmarks of the item of an index on the image of a name."""
    result = rounded(_result(index, name, found))
    text = json.dumps(result, sort_keys=True, allow_nan=False)
    self._json.write(b',\n' if self._count else b'[\n')
    self._json.write(text.encode())
    self._count += 1
    self._line(_cells(name, found))

  def _line(self, cells: list[str]) -> None:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    self._csv.write(text.getvalue().encode())


def _result(index: int, name: str, found: Landmarks) -> dict:
  """A COCO keypoint result, with file_name, bbox, visibility and route."""
  scores = np.where(found.present, found.confidence, 0)
  corner, end = found.box[:2], found.box[2:]
  result = {
    'image_id': index,
    'category_id': 1,
    'file_name': name,
    'bbox': np.concatenate([corner, end - corner]).tolist(),
    'keypoints': np.column_stack([found.positions, scores]).ravel().tolist(),
    'score': found.score,
    'route': list(found.route),
  }
  if found.visibility:
    result['visibility'] = list(found.visibility)
    result['visibility_probs'] = found.visibility_probs.tolist()
  return result


def _cells(name: str, found: Landmarks) -> list[str]:
  """A line of the CSV; cells of what is not known are empty."""
  number = lambda value: f'{value:.6g}'
  cells = [
    name,
    *map('{:.2f}'.format, found.box),
    number(found.score),
    ' '.join(found.route),
  ]
  for i in range(len(found.names)):
    if not found.present[i]:
      cells += [''] * 5
      continue
    cells += map('{:.2f}'.format, found.positions[i])
    if found.visibility:
      cells += [found.visibility[i], number(found.visibility_probs[i].max())]
    else:
      cells += ['', '']
    cells.append(number(found.confidence[i]))
  return cells


class _Painter(contextlib.ExitStack):
  """Draws overlays in threads, while the networks run."""

  def __init__(self, root: pathlib.Path, directory: pathlib.Path | None):
    super().__init__()
    self._root, self._directory = root, directory
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    self._pool = self.enter_context(pool)
    self._pending = set()

  def __exit__(self, *error):
    for future in self._pending:
      future.result()
    return super().__exit__(*error)

  def draw(self, name: str, found: list[Landmarks]) -> None:
    """Draws the items on an image; waits while too many images are queued."""
    if self._directory is None:
      return
    if len(self._pending) >= 4 * THREADS:
      done, self._pending = concurrent.futures.wait(
        self._pending, return_when=concurrent.futures.FIRST_COMPLETED
      )
      for future in done:
        future.result()
    self._pending.add(self._pool.submit(self._draw, name, found))

  def _draw(self, name: str, found: list[Landmarks]) -> None:
    picture = overlay(read(self._root / name), found)
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, 'JPEG', quality=90)
    ending = '' if name.lower().endswith(('.jpg', '.jpeg')) else '.jpg'
    write_file(self._directory / f'{name}{ending}', encoded.getvalue())
