"""A folder of indexed photos: `--mode=index` and `--mode=search`.

  DIR/index.json       what was indexed, with which run and which features
  DIR/items.json       the photo and the box of each item, in the index's order
  DIR/vectors.faiss    the items' vectors, see `vectors`
  DIR/projection.npz   what features were projected by, if they were

A search writes

  OUT/matches.csv      query, rank, image, its box and the cosine
  OUT/matches.png      each query and, to its right, the items found
"""

import dataclasses
import io
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from fld_jax.errors import InputError, printable, shortened
from fld_jax.files import atomic, file_names, json_files, npz
from fld_jax.files.images import read
from fld_jax.inference import item_boxes, photos
from fld_jax.inference.predictor import Predictor, load
from fld_jax.landmark_sets import FASHION_8
from fld_jax.retrieval import item_features
from fld_jax.retrieval.features import LOCALISATIONS, Extractor
from fld_jax.retrieval.projection import Projection
from fld_jax.retrieval.vectors import Vectors, check_installed, write
from fld_jax.visualization import sheets

VERSION = 1  # of the form of index.json
ABOUT, ITEMS = 'index.json', 'items.json'
VECTORS, PROJECTION = 'vectors.faiss', 'projection.npz'
MAX_QUERIES = 8  # on the sheet; matches.csv has all
MAX_FAILURES = 5  # that are printed
FEATURES = ('landmarks', 'box', 'image')


@dataclasses.dataclass(frozen=True, eq=False)
class _Found:
  """Vectors of the items that a user names.

  Attributes:
    root: The folder that names begin at.
    items: The items that can be used.
    vectors: (m, d) their vectors.
    projection: What their features were projected by; None for nothing.
    failures: (image, reason) of each item that cannot be used.
  """

  root: pathlib.Path
  items: list[item_boxes.Item]
  vectors: np.ndarray
  projection: Projection | None
  failures: list[tuple[str, str]]


def make(
  images: str,
  output: pathlib.Path,
  workdir: pathlib.Path | None = None,
  boxes: pathlib.Path | None = None,
  features: str = '',
) -> dict:
  """Indexes the items on photos.

  Args:
    images: A file, a folder or a pattern, see `photos.find`.
    output: The folder to make; it must not exist, or be empty.
    workdir: The folder of the run that finds landmarks; None without one.
    boxes: A file with the boxes of the items, see `item_boxes`; None if each
      photo is one item that fills it.
    features: One of FEATURES; '' for 'landmarks' with a run, else 'box'.

  Returns:
    `ok`, whether every item is in the index; `num_items`, those that are;
    `failures`, (image, reason) of the others.

  Raises:
    InputError: faiss or the weights are not installed, nothing can be indexed,
      or `output` holds something.
  """
  check_installed()
  features = features or ('landmarks' if workdir else 'box')
  if features == 'landmarks' and workdir is None:
    raise InputError(
      '--features=landmarks needs the --workdir of a run that finds them; box '
      'and image need none.'
    )
  problem = atomic.writing_problem(output)
  if output.is_dir() and any(output.iterdir()):
    problem = problem or 'holds something, must be new or empty'
  if problem:
    raise InputError(f'--output={output}: {problem}')
  predictor = load(workdir) if features == 'landmarks' else None
  extractor = Extractor(features)
  found = _vectors_of(extractor, predictor, images, boxes, output, fit=True)
  if not found.items:
    raise InputError(
      f'--images={images}: no item can be indexed: {found.failures[0][1]}'
    )
  with (
    atomic.unwritable(f'{output}: the index'),
    atomic.whole_folder(output) as folder,
  ):
    if found.projection:
      with open(folder / PROJECTION, 'wb') as file:
        np.savez(file, **dataclasses.asdict(found.projection))
    about = {
      'version': VERSION,
      'features': features,
      'scale': extractor.scale,
      'projected': found.projection is not None,
      'root': file_names.encoded(str(found.root.absolute())),
      'run': predictor and predictor.identity,
      'workdir': predictor
      and file_names.encoded(str(pathlib.Path(workdir).absolute())),
      'vectors': write(found.vectors, folder / VECTORS),
    }
    _write_items(folder / ITEMS, found.items)
    json_files.write_json(folder / ABOUT, about)
  _tell(found.failures)
  print(f'Indexed {len(found.items)} items: {output}', flush=True)
  return {
    'ok': not found.failures,
    'num_items': len(found.items),
    'failures': found.failures,
  }


def search(
  index: pathlib.Path,
  query: str,
  output: pathlib.Path,
  workdir: pathlib.Path | None = None,
  boxes: pathlib.Path | None = None,
  k: int = 10,
) -> dict:
  """Finds the indexed items that look most like those on photos.

  Args:
    index: The folder that `make` made.
    query: A file, a folder or a pattern, see `photos.find`.
    output: The folder to write to; it is made if it does not exist.
    workdir: The folder of the run that the index was made with, if it has been
      moved; None for where it was.
    boxes: A file with the boxes of the queries; None if each photo is one item
      that fills it.
    k: How many items to find for each query, at least 1.

  Returns:
    `ok`, whether every query could be used; `matches`, for each that could its
    (query's image, [(image, cosine), ...]), the nearest first; `failures`,
    (image, reason) of the others.

  Raises:
    InputError: faiss or the weights are not installed, the index is damaged or
      of another run, or no query can be used.
  """
  check_installed()
  if problem := atomic.writing_problem(output):
    raise InputError(f'--output={output}: {problem}')
  if k < 1:
    raise InputError(f'--top={k}: must be at least 1')
  about = _read_about(index)
  root = pathlib.Path(file_names.decoded(about['root']))
  indexed = _read_items(index / ITEMS, root, about['vectors']['count'])
  vectors = Vectors(index / VECTORS, about['vectors'])
  projection = _read_projection(index / PROJECTION, about)
  predictor = _predictor_of(index, about, workdir)
  extractor = Extractor(about['features'], about['scale'])
  found = _vectors_of(extractor, predictor, query, boxes, output, projection)
  if not found.items:
    raise InputError(f'--query={query}: {found.failures[0][1]}')
  if found.vectors.shape[1] != about['vectors']['dimension']:
    raise InputError(
      f'{index / ABOUT}: its vectors have {about["vectors"]["dimension"]} '
      f'numbers, and the features of {about["features"]} have '
      f'{found.vectors.shape[1]}: make the index again'
    )
  cosines, places = vectors.search(found.vectors, k)
  answers = [
    [
      (indexed[place], float(cosine))
      for place, cosine in zip(rows, values, strict=True)
      if place >= 0
    ]
    for rows, values in zip(places.tolist(), cosines, strict=True)
  ]
  with atomic.unwritable(f'{output}: the matches'):
    _write_matches(output / 'matches.csv', found.items, answers)
    sheet = _draw(found, answers, root)
    encoded = io.BytesIO()
    Image.fromarray(sheet).save(encoded, 'PNG')
    atomic.write_file(output / 'matches.png', encoded.getvalue())
  _tell(found.failures)
  for item, answer in zip(found.items[:MAX_QUERIES], answers, strict=False):
    print(file_names.encoded(item.image))
    for other, cosine in answer:
      print(f'  {cosine:.4f}  {file_names.encoded(other.image)}')
  print(f'Matches: {output}/matches.csv, matches.png', flush=True)
  return {
    'ok': not found.failures,
    'matches': [
      (item.image, [(other.image, cosine) for other, cosine in answer])
      for item, answer in zip(found.items, answers, strict=True)
    ],
    'failures': found.failures,
  }


def _vectors_of(
  extractor: Extractor,
  predictor: Predictor | None,
  images: str,
  boxes: pathlib.Path | None,
  output: pathlib.Path,
  projection: Projection | None = None,
  *,
  fit: bool = False,
) -> _Found:
  """Computes the vectors of the items that a user names.

  Args:
    extractor: What computes features.
    predictor: The run that finds landmarks; None for features of other places.
    images: A file, a folder or a pattern.
    boxes: A file with the boxes of the items; None for whole photos.
    output: The folder that is written to, in which no photos are looked for.
    projection: What features are projected by; None for nothing.
    fit: Whether to fit a projection.
  """
  there = photos.find(images, output)
  failures = list(there.failures)
  items = [item_boxes.Item(name, None) for name in there.names]
  landmarks = predictor.landmark_set if predictor else FASHION_8
  if boxes:
    given = item_boxes.read(boxes, landmarks.types)
    failures += given.failures
    items, _ = item_boxes.for_images(given.items, there.names, boxes)
  source = photos.Items(
    [there.root / item.image for item in items],
    [item.box for item in items],
    landmarks.num_landmarks,
    [item.clothes_type for item in items],
  )
  points = item_features.find_points(predictor, source) if predictor else None
  indices, vectors, projection = item_features.of_items(
    extractor, source, points, projection, fit=fit
  )
  good = [i not in source.failures for i in indices.tolist()]
  failures += [
    (items[i].image, why) for i, why in sorted(source.failures.items())
  ]
  return _Found(
    there.root,
    [items[i] for i in indices[good]],
    vectors[good],
    projection,
    failures,
  )


def _tell(failures: list[tuple[str, str]]) -> None:
  """Prints the first of the items that cannot be used."""
  for _, why in failures[:MAX_FAILURES]:
    print(f'Left out: {why}')
  if len(failures) > MAX_FAILURES:
    print(f'Left out: {len(failures) - MAX_FAILURES} more')


def _write_items(path: pathlib.Path, items: list[item_boxes.Item]) -> None:
  with open(path, 'wb') as file:
    writer = json_files.ListWriter(file)
    for item in items:
      box = None if item.box is None else np.asarray(item.box).tolist()
      writer.write({'image': file_names.encoded(item.image), 'box': box})
    writer.close()


def _read_about(index: pathlib.Path) -> dict[str, Any]:
  """Reads and checks index.json."""
  path = index / ABOUT
  if not path.is_file():
    raise InputError(
      f'--index={index}: is no index, it holds no {ABOUT}: make one with '
      '--mode=index'
    )
  about = json_files.read_json(path)
  about = about if isinstance(about, dict) else {}
  text = lambda value: isinstance(value, str) and '\0' not in value
  whole = lambda low, high: (
    lambda value: type(value) is int and low <= value <= high
  )
  rules = {
    'version': (whole(VERSION, VERSION), f'{VERSION}'),
    'features': (lambda v: v in FEATURES, f'one of {", ".join(FEATURES)}'),
    'scale': (whole(1, 16), 'a whole number from 1 to 16'),
    'projected': (lambda v: isinstance(v, bool), 'true or false'),
    'root': (text, 'the path of a folder'),
    'run': (lambda v: v is None or text(v), 'a digest or null'),
    'workdir': (lambda v: v is None or text(v), 'the path of a folder or null'),
    'vectors': (lambda v: isinstance(v, dict), 'an object'),
  }
  _check(path, '', about, rules)
  _check(
    path,
    'vectors.',
    about['vectors'],
    {
      'kind': (lambda v: v in ('exact', 'inverted'), 'exact or inverted'),
      'count': (whole(1, 10**12), 'a whole number from 1 on'),
      'dimension': (whole(1, 10**6), 'a whole number from 1 to 1000000'),
      'bytes': (whole(1, 10**15), 'a whole number from 1 on'),
      'sha256': (lambda v: v is None or text(v), 'a digest or null'),
    },
  )
  at_landmarks = LOCALISATIONS[about['features']].at_points
  if {about[name] is not None for name in ('run', 'workdir')} != {at_landmarks}:
    raise InputError(
      f'{path}, run: must be of a run, with its workdir, for the features '
      'landmarks, and null for others'
    )
  return about


def _check(path: pathlib.Path, prefix: str, found: dict, rules: dict) -> None:
  """Checks fields by (rule, what is valid)."""
  for name, (valid, what) in rules.items():
    if name not in found:
      raise InputError(f'{path}, {prefix}{name}: is missing, must be {what}')
    if not valid(found[name]):
      raise InputError(
        f'{path}, {prefix}{name}: is {shortened(found[name])}, must be {what}'
      )


def _read_items(
  path: pathlib.Path, root: pathlib.Path, count: int
) -> list[item_boxes.Item]:
  """Reads and checks items.json."""
  entries = json_files.read_json(path)
  if not isinstance(entries, list) or len(entries) != count:
    raise InputError(
      f'{path}: must be a list of {count} items, as {ABOUT} says'
    )
  items = []
  for i, entry in enumerate(entries):
    entry = entry if isinstance(entry, dict) else {}
    name, box = entry.get('image'), entry.get('box')
    if not isinstance(name, str) or not name or '\0' in name:
      raise InputError(f'{path}, [{i}].image: must be the name of a file')
    if box is not None:
      numbers = isinstance(box, list) and len(box) == 4
      numbers = numbers and all(
        type(x) in (int, float) and abs(x) < 1e9 for x in box
      )
      if not numbers:
        raise InputError(f'{path}, [{i}].box: must be x1, y1, x2, y2 or null')
      box = np.array(box, np.float64)
    items.append(item_boxes.Item(file_names.decoded(name), box))
  return items


def _read_projection(
  path: pathlib.Path, about: dict[str, Any]
) -> Projection | None:
  if not about['projected']:
    return None
  arrays = npz.read(path, ('mean', 'components'))
  dimension = about['vectors']['dimension']
  components = npz.numbers(
    path, 'components', arrays.get('components'), (None, dimension)
  )
  mean = npz.numbers(path, 'mean', arrays.get('mean'), (len(components),))
  return Projection(mean.astype(np.float32), components.astype(np.float32))


def _predictor_of(
  index: pathlib.Path, about: dict[str, Any], workdir: pathlib.Path | None
) -> Predictor | None:
  """The run that an index was made with; None if it was made without one."""
  if about['run'] is None:
    return None
  place = workdir or pathlib.Path(file_names.decoded(about['workdir']))
  if not place.is_dir():
    raise InputError(
      f'{index / ABOUT}, workdir: the run {place} is not there any more: say '
      'where it is, --workdir=W'
    )
  predictor = load(place)
  if predictor.identity != about['run']:
    raise InputError(
      f'{index}: was made with another run than {place}, whose landmarks lie '
      'elsewhere: give that one as --workdir, or make the index again'
    )
  return predictor


def _write_matches(
  path: pathlib.Path,
  queries: list[item_boxes.Item],
  answers: list[list[tuple[item_boxes.Item, float]]],
) -> None:
  header = ['query', 'rank', 'image', 'x1', 'y1', 'x2', 'y2', 'cosine']
  with atomic.whole_file(path) as file:
    file.write(file_names.csv_line(header))
    cell = lambda name: file_names.to_cell(file_names.encoded(name))
    for item, answer in zip(queries, answers, strict=True):
      for rank, (other, cosine) in enumerate(answer, 1):
        box = [''] * 4
        if other.box is not None:
          box = list(map('{:.2f}'.format, other.box))
        line = [cell(item.image), str(rank), cell(other.image), *box]
        file.write(file_names.csv_line([*line, f'{cosine:.6f}']))


def _draw(
  found: _Found,
  answers: list[list[tuple[item_boxes.Item, float]]],
  root: pathlib.Path,
) -> np.ndarray:
  """The sheet of the first queries, each left of what was found for it."""
  columns = 1 + max(map(len, answers[:MAX_QUERIES]))
  entries = []
  for item, answer in zip(found.items[:MAX_QUERIES], answers, strict=False):
    entries.append(_entry(found.root / item.image, item, 'query'))
    for rank, (other, cosine) in enumerate(answer, 1):
      caption = f'{rank}: {cosine:.3f}  {pathlib.Path(other.image).name}'
      try:
        entries.append(_entry(_below(root, other.image), other, caption))
      except InputError:  # moved since, or not in the folder
        blank = np.full((64, 64, 3), 255, np.uint8)
        box = np.array([0.0, 0.0, 64.0, 64.0])
        entries.append(sheets.Entry(blank, box, f'{caption}: not there'))
    missing = columns - 1 - len(answer)
    blank = np.full((64, 64, 3), 255, np.uint8)
    box = np.array([0.0, 0.0, 64.0, 64.0])
    entries += [sheets.Entry(blank, box, '')] * missing
  return sheets.contact_sheet(entries, FASHION_8, columns)


def _below(root: pathlib.Path, name: str) -> pathlib.Path:
  """The path of an indexed photo; links are followed, as in indexing.

  Raises:
    InputError: The name leads out of the folder.
  """
  path = pathlib.PurePath(name)
  if path.is_absolute() or '..' in path.parts:
    raise InputError(f'{root}: {printable(name)} lies outside of this folder')
  return root / path


def _entry(
  path: pathlib.Path, item: item_boxes.Item, caption: str
) -> sheets.Entry:
  image = read(path)
  box = item.box
  if box is None:
    box = np.array([0.0, 0.0, image.shape[1], image.shape[0]])
  return sheets.Entry(image, box, caption)
