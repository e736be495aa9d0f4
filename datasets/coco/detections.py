"""Boxes of a detector in COCO's form of results, for the images of a split.

A JSON list of {"image_id", "category_id", "bbox" [x, y, width, height],
"score"}, as person detections on val2017 are passed around. Each box becomes a
record without landmarks, whose predictions COCO's AP can be measured on.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fld_jax import schema
from fld_jax.datasets.coco import folder
from fld_jax.datasets.common.rows import Row
from fld_jax.errors import Findings, InputError
from fld_jax.files import coco
from fld_jax.files.json_files import read_json


def detection_files(manual_dir, detections: str) -> dict[str, Path]:
  """The files that there are, by split.

  Args:
    manual_dir: the folder.
    detections: path below it, with {split} for train, val or test; '' for none.

  Raises:
    InputError: there is none, or the path has no {split}.
  """
  if not detections:
    return {}
  return folder.files_of_splits(manual_dir, detections, 'detections')


def add_to_digest(digest: str, files: dict[str, Path]) -> str:
  """A digest that changes with these files as well; as it is without any."""
  if not files:
    return digest
  together = hashlib.sha256(digest.encode())
  for split, path in files.items():
    together.update(split.encode())
    with path.open('rb') as file:
      together.update(hashlib.file_digest(file, 'sha256').digest())
  return together.hexdigest()[:16]


def read(
  manual_dir,
  annotations: str,
  images: str,
  split: str,
  path: Path,
  findings: Findings,
) -> Iterator[Row]:
  """Reads and checks the detections of a split.

  Args:
    manual_dir: the folder.
    annotations: see `folder.annotation_files`; names the images.
    images: see `folder.read`.
    split: the images'.
    path: of the detections.
    findings: gets the mistakes, and how many boxes are left out because they
      are of another category.

  Yields:
    Rows without landmarks; their ids are FILE#dNUMBER, from 0 on.

  Raises:
    InputError: with its file, place and field.
  """
  reader = folder.Reader(manual_dir, annotations, images, split)
  entries = read_json(path)
  if not isinstance(entries, list) or not entries:
    raise InputError(f'{path}: must be a list of detections that is not empty')
  for i, entry in enumerate(entries):
    try:
      row = _row(reader, path, i, entry)
    except InputError as mistake:
      findings.mistake(mistake)
      continue
    if row is None:
      findings.left_out['a detection of another category'] += 1
    else:
      yield row


def _row(reader, path: Path, i: int, entry) -> Row | None:
  place = f'detection [{i}]'
  coco.check_fields(
    path, place, entry, 'image_id', 'category_id', 'bbox', 'score'
  )
  category = entry['category_id']
  if not coco.is_id(category):
    problem = f'is {coco.short(category)}, must be a number or a string'
    raise coco.error(path, place, 'category_id', problem)
  if category not in reader.categories:
    return None
  (score,) = coco.numbers(path, place, 'score', [entry['score']], 1)
  if not 0 <= score <= 1:
    problem = f'is {score:g}, must be from 0 to 1'
    raise coco.error(path, place, 'score', problem)
  box = coco.read_box(path, place, entry['bbox'])
  file_name, file, size = reader.image(path, place, entry['image_id'])
  coco.check_box(path, place, box, size)
  count = len(reader.names)
  return Row(
    id=f'{file_name}#d{i}',
    path=file,
    place=f'{path}, {place}',
    split=reader.split,
    box=box.astype(np.float32),
    landmarks=np.zeros((count, 2), np.float32),
    visibility=np.full(count, schema.ABSENT, np.int32),
    score=float(score),
  )
