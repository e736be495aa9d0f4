"""Predicts on catalogues that are too large for one machine, with Ray Data.

  pip install 'fld_jax[ray]'
  python launch/predict_ray.py --workdir=W --images=PLACE --output=PLACE \
    [--actors=8 --cpus=4 | --actors=8 --gpus=1] [--address=auto]

--images is a folder, of which all images in and below it count, or a list in
Parquet (PLACE.parquet) with a column `image` and perhaps x1, y1, x2, y2 (pixels
of the image; all empty: the item fills it) and clothes_type. Both places, and
the images of a list, may be paths or what fsspec opens: s3://, gs://, ... A
relative path of a list begins at the list's folder.

  OUTPUT/items.parquet       the items, --shard_items to a row group
  OUTPUT/about.json          the run and the settings
  OUTPUT/part-000000.parquet the answers to the items of row group 0

A row of a part is an item: `image`, `failure` (empty where it was predicted),
and what `fld_jax.load(W)(images, boxes)` returns for it. The landmarks' names
stand in the metadata of the file, as JSON under `landmarks`.

Ray starts the work again that a lost machine had. A part takes its place when
it is whole, and the same command leaves out those that are there: so it goes on
after any interruption, and no item is missing or there twice. W must be
readable under the same path by all machines.

Exit status: 0 if every item was predicted, 1 if some were not, 2 for a mistake.
"""

import argparse
import collections
import hashlib
import io
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from fld_jax.errors import InputError, shortened
from fld_jax.files import file_names, images
from fld_jax.inference import photos
from fld_jax.inference.landmarks import Landmarks
from fld_jax.inference.predictor import RUNTIMES, Predictor

CORNERS = ('x1', 'y1', 'x2', 'y2')
ITEMS = pa.schema(
  [
    ('image', pa.string()),
    *((name, pa.float64()) for name in CORNERS),
    ('clothes_type', pa.string()),
  ]
)
_REALS = pa.list_(pa.float64())
PART = pa.schema(
  [
    ('image', pa.string()),
    ('failure', pa.string()),
    ('width', pa.int32()),
    ('height', pa.int32()),
    *((name, pa.float64()) for name in CORNERS),
    ('category', pa.string()),
    ('score', pa.float64()),
    ('route', pa.list_(pa.string())),
    ('positions', pa.list_(_REALS)),
    ('present', pa.list_(pa.bool_())),
    ('confidence', _REALS),
    ('visibility', pa.list_(pa.string())),
    ('visibility_probs', pa.list_(_REALS)),
    ('error_50', _REALS),
    ('error_90', _REALS),
  ]
)


class Place:
  """A folder, here or in a store.

  Attributes:
    path: The path, as its file system has it.
  """

  def __init__(self, url: str):
    self.fs, self.path = fsspec.url_to_fs(url)
    self.path = self.path.rstrip('/')

  def file(self, name: str) -> str:
    """The path of a file in the folder."""
    return f'{self.path}/{name}'

  def write(self, name: str, content: bytes) -> None:
    """Writes a file, which takes its place whole or never."""
    self.fs.makedirs(self.path, exist_ok=True)
    with self.fs.transaction, self.fs.open(self.file(name), 'wb') as file:
      file.write(content)

  def names(self) -> set[str]:
    """The names of the files in the folder."""
    if not self.fs.exists(self.path):
      return set()
    return {
      path.rpartition('/')[2] for path in self.fs.ls(self.path, detail=False)
    }


def part_name(shard: int) -> str:
  """The name of the file with the answers of a shard."""
  return f'part-{shard:06d}.parquet'


def listed(url: str) -> Iterator[pa.RecordBatch]:
  """The items of a folder or of a list, in the form ITEMS.

  Args:
    url: The place.

  Raises:
    InputError: There are none, or the list has no column `image`.
  """
  fs, path = fsspec.url_to_fs(url)
  if not path.endswith('.parquet'):
    found = sorted(
      file_names.encoded(fs.unstrip_protocol(name) if '://' in url else name)
      for name in fs.find(path)
      if name[name.rfind('.') :].lower() in images.endings()
    )
    if not found:
      raise InputError(f'--images={url}: there is no image in it.')
    empty = {name: [None] * len(found) for name in ITEMS.names[1:]}
    yield pa.RecordBatch.from_pydict({'image': found, **empty}, ITEMS)
    return
  start = url.rpartition('/')[0]
  with fs.open(path, 'rb') as opened:
    file = pq.ParquetFile(opened)
    has = set(file.schema_arrow.names)
    if 'image' not in has:
      raise InputError(
        f'{url}: has the columns {", ".join(sorted(has))}, must have image'
      )
    corners = has & set(CORNERS)
    if corners and corners != set(CORNERS):
      raise InputError(
        f'{url}: has of the box {", ".join(sorted(corners))} alone, must have '
        'x1, y1, x2 and y2'
      )
    for batch in file.iter_batches(columns=sorted(has & set(ITEMS.names))):
      columns = {name: [None] * len(batch) for name in ITEMS.names}
      columns |= batch.to_pydict()
      columns['image'] = [_absolute(x, start, url) for x in columns['image']]
      try:
        yield pa.RecordBatch.from_pydict(columns, ITEMS)
      except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f'{url}: {error}') from error


def _absolute(image: Any, start: str, url: str) -> str:
  """The path of an image of a list."""
  if not isinstance(image, str) or not image:
    raise InputError(f'{url}, image: is {shortened(image)}, must be a path')
  is_absolute = image.startswith('/') or '://' in image
  return image if is_absolute or not start else f'{start}/{image}'


def write_items(
  url: str, output: Place, shard_items: int, expected: str | None
) -> str:
  """Writes items.parquet anew; returns a digest of the items.

  Args:
    url: The folder or the list.
    output: The folder of the results.
    shard_items: The number of items in a row group.
    expected: The digest of the file that is there; None if there is none.

  Raises:
    InputError: The items are others; the file is left as it is.
  """
  digest = hashlib.sha256()
  output.fs.makedirs(output.path, exist_ok=True)
  with output.fs.transaction:
    with output.fs.open(output.file('items.parquet'), 'wb') as file:
      with pq.ParquetWriter(file, ITEMS) as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in listed(url):
          for row in batch.to_pylist():
            digest.update(json.dumps(row).encode())
          waiting.append(batch)
          table = pa.Table.from_batches(waiting)
          whole = len(table) // shard_items * shard_items
          if whole:
            writer.write_table(table[:whole], shard_items)
          waiting = table[whole:].to_batches()
        if waiting:
          writer.write_table(pa.Table.from_batches(waiting), shard_items)
    if expected not in (None, digest.hexdigest()):
      raise InputError(
        f'--output={output.path}: is of another list of items, give another '
        'folder.'
      )
  return digest.hexdigest()


class Photos(Sequence):
  """The photos of items, each read and decoded when it is asked for."""

  def __init__(self, paths: Sequence[str]):
    self._paths = paths

  def __len__(self) -> int:
    return len(self._paths)

  def __getitem__(self, i: int) -> np.ndarray:
    path = self._paths[i]
    if '://' not in path:
      return images.read(path)
    try:
      with fsspec.open(path, 'rb') as file:
        content = file.read()
    except FileNotFoundError:
      raise InputError(f'{path}: is missing') from None
    return images.decode(content, path)


class Shards:
  """An actor: answers for the items of a shard, and writes its part."""

  def __init__(self, workdir: str, output: str, runtime: str):
    self._predictor = Predictor.load(workdir, runtime=runtime, warm=True)
    self._output = Place(output)
    self._codes = {
      name: code for code, name in self._predictor.landmark_set.types.items()
    }

  def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
    """Writes the parts of shards.

    Args:
      batch: `shard`, the numbers of the shards.

    Returns:
      `shard`, and `items`, the numbers of items that were predicted.
    """
    shards = batch['shard'].tolist()
    return {'shard': shards, 'items': list(map(self._write, shards))}

  def _write(self, shard: int) -> int:
    if self._output.fs.exists(self._output.file(part_name(shard))):
      return 0  # of work that was begun before, and is done again
    path = self._output.file('items.parquet')
    with self._output.fs.open(path, 'rb') as file:
      table = pq.ParquetFile(file).read_row_group(shard)
    rows = self._answers(table.to_pylist())
    failures = sum(row['failure'] is not None for row in rows)
    about = {
      'landmarks': json.dumps(self._predictor.landmark_set.names),
      'failures': str(failures),
    }
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, PART.with_metadata(about)), file)
    self._output.write(part_name(shard), file.getvalue())
    return len(rows)

  def _answers(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a part, of rows of ITEMS."""
    paths = [row['image'] for row in rows]
    items = photos.Items(
      Photos([file_names.decoded(path) for path in paths]),
      [self._box(row) for row in rows],
      self._predictor.landmark_set.num_landmarks,
      [self._codes.get(row['clothes_type'] or '', 0) for row in rows],
      names=paths,
    )
    found = dict(self._predictor.predict(items))
    return [
      to_row(path, found.get(i), items.failures.get(i))
      for i, path in enumerate(paths)
    ]

  def _box(self, row: dict[str, Any]) -> list[float] | None:
    box = [row[name] for name in CORNERS]
    if all(value is None for value in box):
      return None
    return [np.nan if value is None else value for value in box]


def to_row(
  image: str, found: Landmarks | None, failure: str | None
) -> dict[str, Any]:
  """An item's row of a part.

  Args:
    image: The path of its image.
    found: Its landmarks; None if there are none.
    failure: Why there are none; None if there are.
  """
  row = dict.fromkeys(PART.names) | {'image': image, 'failure': failure}
  if found is None:
    return row
  plain = lambda value: value.tolist() if hasattr(value, 'tolist') else value
  row |= dict(zip(CORNERS, found.box.tolist(), strict=True))
  row |= {'width': found.image_size[0], 'height': found.image_size[1]}
  same = row.keys() - {*CORNERS, 'image', 'failure', 'width', 'height'}
  return row | {name: plain(getattr(found, name)) for name in same}


def run_digest(workdir: str) -> str:
  """A digest that changes with a run.

  JAX is left alone: Ray starts its processes by forks of this one.

  Args:
    workdir: The run's folder.

  Raises:
    InputError: It holds no run.
  """
  digest = hashlib.sha256()
  for name in ('manifest.json', 'calibration.json'):
    path = pathlib.Path(workdir) / name
    if path.is_file():
      digest.update(name.encode() + path.read_bytes())
    elif name == 'manifest.json':
      raise InputError(f'--workdir={workdir}: holds no trained run.')
  return digest.hexdigest()[:32]


def begin(arguments: argparse.Namespace, output: Place) -> int:
  """Writes the list of the items, or checks that it is the one there.

  Args:
    arguments: The command line's arguments.
    output: The folder of the results.

  Returns:
    The number of shards.

  Raises:
    InputError: The output is of other work.
  """
  names = output.names()
  then = None
  if 'about.json' in names:
    then = json.loads(output.fs.cat_file(output.file('about.json')))
  elif any(name.startswith('part-') for name in names):
    raise InputError(f'--output={arguments.output}: has parts of other work.')
  about = {
    'run': run_digest(arguments.workdir),
    'runtime': arguments.runtime,
    'shard_items': arguments.shard_items,
  }
  for field, value in about.items():
    if then and then.get(field) != value:
      raise InputError(
        f'--output={arguments.output}: was begun with {field} '
        f'{then.get(field)}, which now is {value}: give another folder.'
      )
  about['items'] = write_items(
    arguments.images, output, arguments.shard_items, then and then['items']
  )
  output.write('about.json', json.dumps(about).encode())
  with output.fs.open(output.file('items.parquet'), 'rb') as file:
    return pq.ParquetFile(file).metadata.num_row_groups


def end(output: Place, shards: int) -> collections.Counter:
  """Counts the rows of all parts.

  Args:
    output: The folder of the results.
    shards: The number of parts.
  """
  counts = collections.Counter()
  for shard in range(shards):
    with output.fs.open(output.file(part_name(shard)), 'rb') as file:
      metadata = pq.ParquetFile(file).metadata
      counts['items'] += metadata.num_rows
      counts['failures'] += int(metadata.metadata[b'failures'])
  return counts


def run(arguments: argparse.Namespace) -> int:
  """Predicts what is left; returns the exit status.

  Args:
    arguments: The command line's arguments.
  """
  output = Place(arguments.output)
  shards = begin(arguments, output)
  there = output.names()
  left = [k for k in range(shards) if part_name(k) not in there]
  print(f'{len(left)} of {shards} shards are left.', flush=True)
  ray.init(address=arguments.address, log_to_driver=False)
  ray.data.DataContext.get_current().enable_progress_bars = False
  start = time.monotonic()
  if left:
    answers = ray.data.from_items(
      [{'shard': shard} for shard in left],
      override_num_blocks=min(len(left), 64 * arguments.actors),
    ).map_batches(
      Shards,
      fn_constructor_args=(
        arguments.workdir,
        arguments.output,
        arguments.runtime,
      ),
      batch_size=1,
      compute=ray.data.ActorPoolStrategy(size=arguments.actors),
      num_cpus=arguments.cpus,
      num_gpus=arguments.gpus,
    )
    done = items = 0
    for row in answers.iter_rows():
      done, items = done + 1, items + row['items']
      rate = items / (time.monotonic() - start)
      print(
        f'{done} of {len(left)} shards, {items} items, {rate:.1f} items/s',
        flush=True,
      )
  counts = end(output, shards)
  print(
    f'{counts["items"] - counts["failures"]} of {counts["items"]} items: '
    f'{arguments.output}'
  )
  return 1 if counts['failures'] else 0


def main() -> int:
  """Reads the arguments and runs."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, help='folder of the run')
  parser.add_argument('--images', required=True, help='folder or list')
  parser.add_argument('--output', required=True, help='folder of the results')
  parser.add_argument('--shard_items', type=int, default=1000)
  parser.add_argument('--actors', type=int, default=1, help='processes')
  parser.add_argument('--cpus', type=float, default=1, help='of an actor')
  parser.add_argument('--gpus', type=float, default=0, help='of an actor')
  parser.add_argument('--runtime', choices=RUNTIMES, default='jax')
  parser.add_argument(
    '--address', help='of a Ray cluster; by default a new one'
  )
  arguments = parser.parse_args()
  # Actors may work in another folder.
  for name in ('workdir', 'images', 'output'):
    place = getattr(arguments, name)
    if '://' not in place:
      setattr(arguments, name, os.path.abspath(os.path.expanduser(place)))
  try:
    return run(arguments)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2


if __name__ == '__main__':
  sys.exit(main())
