"""FashionAI key points: the competition's folders -> rows.

Any number of the released folders below one, each with its CSV and Images/:

  .../train/Annotations/train.csv       or annotations.csv, or any *.csv
  .../train/Images/<category>/<hash>.jpg
  .../fashionAI_key_points_test_a_answer_20180426.csv

A CSV counts if any landmark stands at its beginning, or nothing at all, and
then must have all 24 columns; its image paths are looked for beside it, one
folder up, and beside every Images/ of the whole folder. A path with the word
`test` (test_a, testA; not latest) holds test rows; of the others the first
2,100 blouses, 1,900 outwears, 1,900 dresses, 2,100 skirts and 2,000 trousers
are val, as in the PCLoss paper, in the order of paths and lines, and of a small
folder at most a fifth of each. Cells are x_y_v; v is 1 for visible, 0 for
occluded, -1 for absent. There are no boxes: a row's box is its whole image, as
in the paper.
"""

import csv
import dataclasses
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fld_jax import landmark_sets, schema
from fld_jax.datasets.common.joined_lists import JoinedLists
from fld_jax.datasets.common.rows import Row
from fld_jax.errors import Findings, InputError, printable
from fld_jax.files import text_lists
from fld_jax.files.images import file_state, image_size
from fld_jax.files.inside import inside

LANDMARKS = landmark_sets.FASHION_AI_24
COLUMNS = ['image_id', 'image_category', *LANDMARKS.names]
# Words end where letters do, and in camelCase before a capital letter.
_WORD = re.compile('[A-Z]+(?![a-z])|[A-Z]?[a-z]+')
CATEGORIES = {name: code for code, name in LANDMARKS.types.items()}
VISIBILITY = {1: schema.VISIBLE, 0: schema.OCCLUDED, -1: schema.ABSENT}
NUM_VAL = {  # Song et al., 2021, section 4.1
  'blouse': 2100,
  'outwear': 1900,
  'dress': 1900,
  'skirt': 2100,
  'trousers': 2000,
}
TOLERANCE = 0.1  # of the image's longer side, for places beyond the border
_CELL = re.compile(r'(-?\d{1,6})_(-?\d{1,6})_(-?\d{1,6})', re.ASCII)
_ANY_CELL = re.compile(r',-?\d+_-?\d+_-?\d+\b', re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Labels:
  """A line of a CSV.

  Attributes:
    line: The number of the line, from 1 on.
    image: The path of the image that the line names.
    category: A name of CATEGORIES, for example 'blouse'.
    points: (24, 2) float32 image pixels, 0 where absent.
    visibility: (24,) int32 codes of `schema`.
  """

  line: int
  image: str
  category: str
  points: np.ndarray
  visibility: np.ndarray


def annotation_files(manual_dir: str | Path) -> list[Path]:
  """Finds the CSVs with landmarks.

  Args:
    manual_dir: The folder.

  Returns:
    The paths, sorted.

  Raises:
    InputError: The folder does not exist or holds no such file.
  """
  root = Path(manual_dir)
  if not root.is_dir():
    raise InputError(f'{root}: there is no such folder', 'missing')
  paths = (path for path in sorted(root.rglob('*.csv')) if path.is_file())
  found = [path for path in paths if _has_landmarks(path)]
  if not found:
    raise InputError(
      f"{root}: holds no CSV whose first line is '{','.join(COLUMNS[:3])},"
      "...', with the 24 landmarks",
      'missing',
    )
  return found


def _has_landmarks(path: Path) -> bool:
  """Whether a CSV has landmarks; the tests' question files only list images.

  A damaged header counts, so that its file is refused and not passed over.
  """
  with path.open('rb') as file:
    head = file.read(10_000).replace(b'\0', b'').decode('latin-1')
  if _ANY_CELL.search(head) or any(name in head for name in LANDMARKS.names):
    return True
  first = head.partition('\n')[0].strip('ï»¿ÿþ\r')  # a BOM
  cut = ','.join(COLUMNS).startswith(first)
  return cut and first != ','.join(COLUMNS[:2])


def read_labels(
  path: Path, findings: Findings | None = None
) -> Iterator[Labels]:
  """Reads a CSV.

  Args:
    path: The path of the CSV.
    findings: The collector of mistakes; by default the first one is raised.

  Yields:
    The labels of each line.

  Raises:
    InputError: The first mistake, with its line and column; with other
      findings, only one after which the file cannot be read on.
  """
  findings = findings or Findings()
  rows = _read_cells(path, findings)
  line, header = next(rows, (1, []))
  if header != COLUMNS:
    wrong = next(
      (i for i, x in enumerate(COLUMNS) if header[i : i + 1] != [x]), 26
    )
    found = (
      f"'{printable(header[wrong])}'" if wrong < len(header) else 'nothing'
    )
    wanted = f"'{COLUMNS[wrong]}'" if wrong < 26 else 'nothing'
    raise InputError(
      f'{path}, line {line}, column {wrong + 1}: is {found}, must be {wanted}'
    )
  empty = True
  for line, cells in rows:
    empty = False
    try:
      labels = _labels(path, line, cells)
    except InputError as mistake:
      findings.mistake(mistake)
    else:
      yield labels
  if empty:
    findings.mistake(
      InputError(
        f'{path}, line 2, text: is missing, must be a row of landmarks'
      )
    )


def _read_cells(
  path: Path, findings: Findings
) -> Iterator[tuple[int, list[str]]]:
  """Yields (line, cells) of a CSV, without blank lines."""
  with path.open('rb') as file:
    reader = csv.reader(
      text_lists.decoded_lines(path, file, findings), strict=True
    )
    while True:
      line = reader.line_num + 1
      try:
        cells = next(reader, None)
      except csv.Error as error:
        raise InputError(
          f'{path}, line {line}, text: is not a valid line of CSV ({error})'
        ) from None
      if cells is None:
        return
      if cells:
        yield line, cells


def _labels(path: Path, line: int, cells: list[str]) -> Labels:
  """Reads the cells of a line.

  Args:
    path: The path of the CSV, for messages.
    line: The number of the line.
    cells: The line's cells.

  Raises:
    InputError: A cell is not valid.
  """
  if len(cells) != len(COLUMNS):
    raise InputError(
      f'{path}, line {line}, columns: has {len(cells)} columns, must have '
      f'{len(COLUMNS)}'
    )
  image, category, *marks = cells
  if not image or '\0' in image:
    raise InputError(
      f"{path}, line {line}, image_id: is '{printable(image)}', must be a path"
    )
  if category not in CATEGORIES:
    raise InputError(
      f"{path}, line {line}, image_category: is '{printable(category)}', "
      f'must be one of {", ".join(CATEGORIES)}'
    )
  points = np.zeros((len(marks), 2), np.float32)
  codes = np.full(len(marks), schema.ABSENT, np.int32)
  for i, (name, cell) in enumerate(zip(LANDMARKS.names, marks, strict=True)):
    match = _CELL.fullmatch(cell)
    x, y, v = map(int, match.groups()) if match else (0, 0, None)
    if v not in VISIBILITY:
      raise InputError(
        f"{path}, line {line}, {name}: is '{printable(cell)}', must be x_y_v "
        'with whole numbers, v one of 1, 0, -1',
        'visibility' if match else 'form',
      )
    codes[i] = VISIBILITY[v]
    if v >= 0:
      points[i] = x, y
  return Labels(line, image, category, points, codes)


def read(
  manual_dir: str | Path, findings: Findings | None = None
) -> Iterator[Row]:
  """Reads and checks a folder; of the images only the headers.

  Args:
    manual_dir: The folder.
    findings: The collector of mistakes, and of the number of lines that are
      left out because they repeat another one; by default the first mistake is
      raised.

  Yields:
    The rows, each with its split.

  Raises:
    InputError: The first mistake, with its file, line and field; with other
      findings, only what leaves nothing to read on.
  """
  findings = findings or Findings()
  roots = _image_roots(manual_dir)
  with JoinedLists() as tables:
    lines = _distinct_lines(manual_dir, tables, findings)
    tables.add('lines', manual_dir, lines, findings)
    places = lambda: (cells['lines'][1] for _, cells in tables.join())
    total = Counter(
      labels.category
      for path, labels in places()
      if not _is_test(manual_dir, path)
    )
    num_val = {name: min(NUM_VAL[name], n // 5) for name, n in total.items()}
    seen = Counter()
    for path, labels in places():
      if _is_test(manual_dir, path):
        split = 'test'
      else:
        seen[labels.category] += 1
        is_val = seen[labels.category] <= num_val[labels.category]
        split = 'val' if is_val else 'train'
      try:
        row = _row(manual_dir, path, labels, split, roots)
      except InputError as mistake:
        findings.mistake(mistake)
      else:
        yield row


def _distinct_lines(
  manual_dir: str | Path, tables: JoinedLists, findings: Findings
) -> Iterator[tuple[str, int, tuple[Path, Labels]]]:
  """Yields (image, line number, (path, labels)), each image once.

  Args:
    manual_dir: The folder.
    tables: The lists, of which `lines` holds what was yielded before.
    findings: The collector of mistakes, and of the number of repeated lines.
  """
  for path in annotation_files(manual_dir):
    for labels in read_labels(path, findings):
      known = tables.get('lines', labels.image)
      if not known:
        yield labels.image, labels.line, (path, labels)
        continue
      other_path, other = known[1]
      if (
        (labels.points != other.points).any()
        or (labels.visibility != other.visibility).any()
        or labels.category != other.category
      ):
        findings.mistake(
          InputError(
            f'{path}, line {labels.line}, image_id: {printable(labels.image)} '
            f'stands in {other_path}, line {other.line}, with other landmarks',
            'split',
          )
        )
      else:
        findings.leave_out(
          'a line repeats another one', f'{path}, line {labels.line}'
        )


def _row(
  manual_dir: str | Path,
  path: Path,
  labels: Labels,
  split: str,
  roots: list[Path],
) -> Row:
  """Makes the row of a line.

  Args:
    manual_dir: The folder.
    path: The path of the CSV.
    labels: The line.
    split: The split.
    roots: The folders with a folder Images.

  Raises:
    InputError: The image is not valid or lies outside of the folder, or a
      landmark lies far outside of the image.
  """
  place = f'{path}, line {labels.line}, image_id'
  folder = _image_folder(manual_dir, path, labels.image, roots)
  # A folder Images may be a link to a folder elsewhere.
  within = [root / 'Images' for root in roots]
  file = inside(folder, labels.image, place, [*within, manual_dir])
  size = image_size(file, place)
  known = schema.has_position(labels.visibility)
  reach = TOLERANCE * max(size)
  outside = (labels.points < -reach) | (labels.points > np.array(size) + reach)
  outside = outside.any(axis=-1) & known
  if outside.any():
    slot = int(np.flatnonzero(outside)[0])
    x, y = labels.points[slot]
    raise InputError(
      f'{path}, line {labels.line}, {LANDMARKS.names[slot]}: is at {x:g}, '
      f'{y:g}, outside of the image of {size[0]} x {size[1]} pixels by more '
      f'than {reach:g}',
      'landmark',
    )
  return Row(
    id=labels.image,
    path=file,
    place=place,
    split=split,
    box=np.array([0, 0, *size], np.float32),
    landmarks=labels.points,
    visibility=labels.visibility,
    clothes_type=CATEGORIES[labels.category],
  )


def digest(manual_dir: str | Path) -> str:
  """A digest of the CSVs' contents and the images' sizes and times.

  Args:
    manual_dir: The folder.

  Returns:
    16 hex digits that change when a CSV or an image that it names does.

  Raises:
    InputError: The folder does not exist or holds no CSV with landmarks.
  """
  found = hashlib.sha256()
  roots = _image_roots(manual_dir)
  for path in annotation_files(manual_dir):
    found.update(os.fsencode(path.relative_to(manual_dir)))
    with path.open('rb') as file:
      for line in file:
        found.update(line)
        image = os.fsdecode(line.partition(b',')[0])
        folder = _image_folder(manual_dir, path, image, roots)
        found.update(file_state(os.path.join(folder, image), image))
  return found.hexdigest()[:16]


def _is_test(manual_dir: str | Path, path: Path) -> bool:
  """Whether a CSV holds test rows: 'test' is a word of its path."""
  words = _WORD.findall(str(path.relative_to(manual_dir)))
  return 'test' in map(str.lower, words)


def _image_roots(manual_dir: str | Path) -> list[Path]:
  """The folders with a folder Images."""
  return sorted(
    path.parent for path in Path(manual_dir).rglob('Images') if path.is_dir()
  )


def _image_folder(
  manual_dir: str | Path, path: Path, image: str, roots: list[Path]
) -> Path:
  """The folder that an image's name in a CSV is relative to.

  Args:
    manual_dir: The folder.
    path: The path of the CSV.
    image: The image's path in the CSV.
    roots: The folders with a folder Images.

  Returns:
    The folder in which there is such a file; that of the CSV if the image is
    nowhere.
  """
  places = [path.parent, *roots]
  if path.parent != Path(manual_dir):  # above it lie other things
    places.insert(1, path.parent.parent)
  for place in places:
    file = os.path.join(place, image)
    if '\0' not in file and os.path.isfile(file):
      return place
  return places[0]
