"""Boxes of a detector in COCO's form of results, for the images of a split.

A JSON list of {"image_id", "category_id", "bbox" [x, y, width, height],
"score"}, as person detections on val2017 are passed around. Each box becomes a
record without landmarks, whose predictions COCO's AP can be measured on.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fld_jax import schema
from fld_jax.datasets.coco import folder, layout
from fld_jax.datasets.common.rows import Row
from fld_jax.errors import Findings, InputError, shortened
from fld_jax.files import coco
from fld_jax.files.json_files import read_json


def detection_files(
  manual_dir: str | os.PathLike, detections: str
) -> dict[str, Path]:
  """The files that there are, by split.

  Args:
    manual_dir: The data set's folder.
    detections: The path of the files below that folder, with {split} for
      train, val or test; '' for none.

  Raises:
    InputError: There is no such file, or the path has no {split}.
  """
  if not detections:
    return {}
  if '{split}' not in detections:
    raise InputError(
      f"config.dataset.detections is '{detections}', it must have '{{split}}' "
      'where the files of train, val and test differ.',
      'config',
    )
  found = layout.files_of_splits(manual_dir, detections, 'detections')
  if not found:
    raise InputError(
      f'{Path(manual_dir).expanduser() / detections}: there is no such file of '
      'detections, must be at least one, for train, val or test',
      'missing',
    )
  return {split: path for split, (path, _) in found.items()}


def add_to_digest(digest: str, files: dict[str, Path]) -> str:
  """A digest that changes with the files of detections as well.

  Args:
    digest: The digest of the other files; it is returned as it is where there
      are no files of detections.
    files: Split -> file of detections.
  """
  if not files:
    return digest
  together = hashlib.sha256(digest.encode())
  for split, path in files.items():
    together.update(split.encode())
    with path.open('rb') as file:
      together.update(hashlib.file_digest(file, 'sha256').digest())
  return together.hexdigest()[:16]


def read(
  reader: folder.Reader, path: Path, findings: Findings
) -> Iterator[Row]:
  """Reads and checks the detections of a split.

  Args:
    reader: The reader of the split's annotations, which name the images.
    path: The path of the file of detections.
    findings: The collector of mistakes, and of boxes that are left out because
      they are of another category.

  Yields:
    Rows without landmarks; their ids are FILE#dNUMBER, from 0 on.

  Raises:
    InputError: A detection is wrong. The message names its file, place and
      field.
  """
  entries = read_json(path)
  if not isinstance(entries, list) or not entries:
    raise InputError(f'{path}: must be a list of detections that is not empty')
  count, before = 0, len(findings.mistakes)
  for i, entry in enumerate(entries):
    try:
      row = _row(reader, path, i, entry)
    except InputError as mistake:
      findings.mistake(mistake)
      continue
    if row is None:
      findings.leave_out('a detection of another category', f'detection [{i}]')
    else:
      count += 1
      yield row
  reader.note_views(findings)
  if not count and len(findings.mistakes) == before:
    valid = [key for key, found in reader.categories.items() if found]
    findings.mistake(
      InputError(
        f'{path}, category_id: no detection is of a category with landmarks, '
        f'which are {", ".join(map(repr, valid[:5]))}'
      )
    )


def _row(reader: folder.Reader, path: Path, i: int, entry: Any) -> Row | None:
  place = f'detection [{i}]'
  coco.check_fields(
    path, place, entry, 'image_id', 'category_id', 'bbox', 'score'
  )
  value = entry['category_id']
  if not coco.is_id(value):
    problem = f'is {shortened(value)}, must be a whole number or a string'
    raise coco.error(path, place, 'category_id', problem)
  # Detectors of 80 kinds of things are used for one of them.
  category = reader.categories.get(coco.find_id(value, reader.categories))
  if category is None:
    return None
  (score,) = coco.numbers(path, place, 'score', [entry['score']], 1)
  if not 0 <= score <= 1:
    problem = f'is {score:g}, must be from 0 to 1'
    raise coco.error(path, place, 'score', problem)
  box = coco.read_box(path, place, entry['bbox'])
  file_name, view = reader.image(path, place, entry['image_id'])
  coco.check_box(path, place, box, view.size)
  count = reader.landmarks.num_landmarks
  return Row(
    id=f'{file_name}#d{i}',
    path=view.file,
    place=f'{path}, {place}',
    split=reader.source.split,
    box=view.shown_box(box).astype(np.float32),
    landmarks=np.zeros((count, 2), np.float32),
    visibility=np.full(count, schema.ABSENT, np.int32),
    clothes_type=reader.code(category),
    score=float(score),
  )
