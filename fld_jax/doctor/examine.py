"""Looks for mistakes in a data set's folder, without preparing it.

It reads all rows, decodes all images and reports what there is, what is wrong,
and what would spoil an evaluation: images or items that two splits share, and
images of train that are almost equal to one of another split. `sides` compares
left and right, and says why a single reversed image is not a mistake.

Memory stays flat but for 16 bytes an image, in the search for near duplicates.
"""

import concurrent.futures
import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from fld_jax import schema
from fld_jax.datasets import catalog
from fld_jax.datasets.common.rows import Row
from fld_jax.datasets.common.shards import num_cores
from fld_jax.datasets.prepare import make_builder
from fld_jax.doctor import near_duplicates, sheets, sides, summary
from fld_jax.doctor.row_index import RowIndex
from fld_jax.errors import Findings, InputError
from fld_jax.files.atomic import unwritable, write_file
from fld_jax.files.images import decode_image

# Titles of InputError's kinds; kind 'config' is not a mistake of the folder.
KINDS = {
  'missing': 'missing files of annotations',
  'form': 'malformed annotations',
  'split': 'rows that stand twice or in no known split',
  'box': 'boxes outside of the image, or empty',
  'landmark': 'landmarks outside of the image',
  'visibility': 'wrong visibility codes',
  'image': 'images missing, damaged or not as they must be',
}
OVERLAPS = {
  'same_file': 'image files that two splits list',
  'same_bytes': 'equal image files in two splits',
  'same_item': 'items that train shares with another split',
}
# Counted, but not as errors: a reader's tolerance lets them pass.
BEYOND = {
  'box': 'boxes that reach beyond their image',
  'landmarks': 'rows with a landmark beyond their image',
}
MAX_EXAMPLES = 10  # of each kind of finding, in doctor.json
NUM_PICTURES = 24  # of contact_sheet.png


class _Mistakes(Findings):
  """Counts mistakes by kind and keeps the first few."""

  def __init__(self):
    super().__init__(strict=False)
    self.counts = Counter()
    self.examples = {kind: [] for kind in KINDS}

  def mistake(self, error: InputError) -> None:
    """Counts a mistake.

    Args:
      error: The mistake; of its kind the first messages are kept.
    """
    # A reader's new kind must not get lost.
    kind = error.kind if error.kind in KINDS else 'form'
    self.counts[kind] += 1
    if self.counts[kind] <= MAX_EXAMPLES:
      self.examples[kind].append(str(error))

  def report(self) -> dict:
    """The title of each kind of mistakes, its count and first messages."""
    return {
      kind: {
        'what': what,
        'count': self.counts[kind],
        'examples': self.examples[kind],
      }
      for kind, what in KINDS.items()
    }


class _Tally:
  """Counts of a data set's rows.

  Attributes:
    visibility: (4, N) numbers of rows with each code of `summary.VISIBILITY`.
    sides: (split, clothes type) -> (P, 2) counts as `sides.majority` has them.
    mirror_images: Landmarks without a partner that mirror each other.
  """

  def __init__(self, landmarks: schema.LandmarkSet):
    self.landmarks = landmarks
    self.slots = landmarks.pairs
    codes = list(summary.VISIBILITY)
    self.codes = np.array(codes)[:, None]
    self.visibility = np.zeros((len(codes), landmarks.num_landmarks), np.int64)
    self.sides: dict[tuple, np.ndarray] = {}
    alone = np.setdiff1d(np.arange(landmarks.num_landmarks), self.slots)
    self.mirror_images = sides.MirrorImages(alone)

  def add(self, row: Row) -> np.ndarray:
    """Counts a row; returns its `sides.signs`."""
    signs = sides.signs(row.landmarks, row.visibility, self.slots)
    self.visibility += row.visibility == self.codes
    self.mirror_images.add(row.landmarks, row.visibility, row.box)
    key = row.split, self.name(row.clothes_type)
    empty = np.zeros((len(self.slots), 2), np.int64)
    counts = self.sides.setdefault(key, empty)
    counts += np.stack([signs > 0, signs < 0], axis=1)
    return signs

  def name(self, clothes_type: int) -> str:
    """The name of a clothes type.

    Args:
      clothes_type: The code of a row.
    """
    return self.landmarks.types.get(clothes_type, summary.UNKNOWN)


def examine(config_dataset: ConfigDict, directory: str | os.PathLike) -> dict:
  """Examines a whole folder, prints a table and writes the findings.

  Args:
    config_dataset: The config's part `dataset`; `data_dir` is not used.
    directory: The folder for doctor.json, doctor.txt, contact_sheet.png and, if
      there are near duplicates, duplicates.png; created if it does not exist.

  Returns:
    The content of doctor.json: `ok`, whether there are rows and no errors;
    `about`, lines on how the files are taken; `counts`,
    `left_out_examples`, `mistakes`, `beyond`,
    `overlaps`, `near_duplicates`, `sides`. Not
    counted as errors are rows that are left out or reach beyond their image
    within the tolerance, single reversed images and images of one colour.

  Raises:
    InputError: The folder or its lists are missing, or a setting is wrong.
      Every other mistake is in the returned value.
    Unwritable: The disk is full or read-only; the table is printed before.
  """
  if not catalog.find(config_dataset.name).source:
    raise InputError(
      f"config.dataset.name is '{config_dataset.name}', which has no folder to "
      f'examine; valid values are {", ".join(catalog.names_with_files())}.',
      'config',
    )
  directory = Path(directory)
  mistakes = _Mistakes()
  with RowIndex() as index:
    tally, about = _read(config_dataset, index, mistakes)
    _decode(index, mistakes)
    found = {
      'ok': False,
      'dataset': config_dataset.name,
      'manual_dir': str(config_dataset.manual_dir),
      'about': [
        *about,
        *(f'{what}: {n}' for what, n in sorted(mistakes.notes.items())),
        f'left and right: {tally.landmarks.pairs_in_words}',
      ],
      'counts': _counts(index, tally, mistakes.left_out),
      'left_out_examples': mistakes.left_out_examples,
      'mistakes': mistakes.report(),
      'beyond': _beyond(index),
      'overlaps': _overlaps(index),
      'near_duplicates': near_duplicates.find(index),
      'sides': _sides(index, tally),
    }
    found['ok'] = _ok(found)
    # Before anything is written: it is worth as much where no file can be.
    table = summary.text(found)
    print(f'\n{table}', flush=True)
    with unwritable(f'{directory}: the findings'):
      directory.mkdir(parents=True, exist_ok=True)
      text = json.dumps(found, indent=2)
      write_file(directory / 'doctor.json', f'{text}\n'.encode())
      write_file(directory / 'doctor.txt', table.encode())
      sheets.write(
        directory,
        index.spread(NUM_PICTURES),
        found['near_duplicates']['pairs'],
        tally.landmarks,
      )
  print(f'Written to {directory}', flush=True)
  return found


def _read(
  config: ConfigDict, index: RowIndex, mistakes: _Mistakes
) -> tuple[_Tally, list[str]]:
  """Reads all rows, or those before a mistake that ends the reading.

  Returns:
    The counts, and what the builder says of how the files are taken.
  """
  tally, about = _Tally(schema.LandmarkSet(())), []
  try:
    builder = make_builder(config)
  except InputError as error:
    if error.kind in ('missing', 'config'):
      raise
    mistakes.mistake(error)
    return tally, about
  tally, about = _Tally(catalog.whole_set(config)), builder.about()
  rows = tqdm(builder.read(mistakes), 'reading', unit=' rows', unit_scale=True)
  try:
    for row in rows:
      index.add(row, tally.add(row))
  except InputError as error:
    if error.kind == 'config':
      raise
    mistakes.mistake(error)
  return tally, about


def _decode(index: RowIndex, mistakes: _Mistakes) -> None:
  """Decodes all images, in threads: Pillow does it without Python's lock."""
  with (
    concurrent.futures.ThreadPoolExecutor(num_cores()) as pool,
    tqdm(desc='decoding', unit=' images', total=index.num_images()) as progress,
  ):
    for chunk in index.images():
      for image, *result in pool.map(_digest, chunk):
        progress.update()
        if isinstance(result[0], InputError):
          mistakes.mistake(result[0])
        else:
          index.set_image(image, *result)


def _digest(job: tuple[int, str, str]) -> tuple:
  """(image, digest of the file, hashes and size), or (image, mistake)."""
  image, path, place = job
  try:
    encoded, picture = decode_image(path, place)
  except InputError as mistake:
    return image, mistake
  digest = hashlib.sha256(encoded).digest()[:16]
  return image, digest, near_duplicates.hashes(picture), picture.size


def _counts(index: RowIndex, tally: _Tally, left_out: Counter) -> dict:
  splits, types, variations = Counter(), {}, {}
  for split, kind, variation, count in index.groups():
    splits[split] += count
    types.setdefault(split, Counter())[tally.name(kind)] += count
    name = schema.VARIATIONS.get(variation, summary.UNKNOWN)
    variations.setdefault(split, Counter())[name] += count
  return {
    'rows': splits.total(),
    'images': index.num_images(),
    'splits': dict(splits),
    'clothes_types': {split: dict(counts) for split, counts in types.items()},
    'variations': {split: dict(counts) for split, counts in variations.items()},
    'visibility': {
      name: dict(zip(summary.VISIBILITY.values(), counts, strict=True))
      for name, counts in zip(
        tally.landmarks.names, tally.visibility.T.tolist(), strict=True
      )
    },
    'left_out': dict(sorted(left_out.items())),
  }


def _beyond(index: RowIndex) -> dict:
  found = {}
  for part, what in BEYOND.items():
    count, examples = index.beyond(part, MAX_EXAMPLES)
    found[part] = {'what': what, 'count': count, 'examples': examples}
  return found


def _overlaps(index: RowIndex) -> dict:
  """Counts images and items that two splits share.

  Query and gallery of a retrieval set show the same items by design, so items
  count only if train has them as well.
  """
  shared = {
    'same_file': index.shared_files,
    'same_bytes': index.shared_bytes,
    'same_item': index.shared_items,
  }
  found = {}
  for name, find in shared.items():
    count, examples = find(MAX_EXAMPLES)
    found[name] = {
      'what': OVERLAPS[name],
      'count': count,
      'examples': examples,
    }
  return found


def _sides(index: RowIndex, tally: _Tally) -> dict:
  """Compares left and right over the whole set."""
  names = [
    [tally.landmarks.names[slot] for slot in pair]
    for pair in tally.slots.tolist()
  ]
  total = sum(tally.sides.values()) if tally.sides else np.zeros((0, 2))
  count, ids = 0, []
  for row_ids, signs in index.signs():
    opposite = np.flatnonzero(sides.opposite_images(signs, total))
    count += len(opposite)
    ids += [row_ids[i] for i in opposite[: MAX_EXAMPLES - len(ids)]]
  groups = sides.opposite_groups(tally.sides) if tally.sides else []
  return {
    'pairs': [
      {'pair': pair, 'left': int(left), 'images': int(left + right)}
      for pair, (left, right) in zip(names, total, strict=bool(tally.sides))
    ],
    'opposite_groups': [{**g, 'pair': names[g['pair']]} for g in groups],
    'opposite_pairs': [names[pair] for pair in sides.opposite_pairs(total)],
    'opposite_images': {'count': count, 'examples': ids},
    **_unpaired(tally),
  }


def _unpaired(tally: _Tally) -> dict:
  """Whether left and right are known, and what positions say if not.

  Returns:
    `no_pairs`: 1 if no two landmarks are known to change places in a mirrored
    image, and nobody has declared that none do. `mirror_images`: pairs of names
    that mirror each other by position and are no pair; `remedy`: how to declare
    them, '' if nothing is to be declared.
  """
  landmarks = tally.landmarks
  declared_none = landmarks.swaps == ()
  names = lambda slots: [landmarks.names[slot] for slot in slots]
  mirrored = [] if declared_none else tally.mirror_images.pairs()
  no_pairs = (
    not declared_none and landmarks.num_landmarks > 1 and not len(tally.slots)
  )
  remedy = ''
  if mirrored or no_pairs:
    pairs = [*map(names, tally.slots.tolist()), *map(names, mirrored)]
    text = ','.join(map(':'.join, pairs)) or 'a:b,c:d'
    remedy = f'--config.dataset.swaps={text}, or none if they do not'
  return {
    'no_pairs': int(no_pairs),
    'mirror_images': [names(pair) for pair in mirrored],
    'remedy': remedy,
  }


def _ok(found: dict) -> bool:
  wrong = [
    *(check['count'] for check in found['mistakes'].values()),
    *(check['count'] for check in found['overlaps'].values()),
    found['near_duplicates']['count'],
    *(len(found['sides'][key]) for key in summary.SIDES),
    found['sides']['no_pairs'],
  ]
  return found['counts']['rows'] > 0 and not any(wrong)
