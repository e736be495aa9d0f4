"""Rows -> files of records, in parallel over cores; resumable after a kill.

A folder of its own holds

  rows.sqlite     all rows, checked
  SPLIT-00003     a finished file of records

and files with .tmp at the end of their names that are not complete.

The records of a split stand in the order of TFDS's hash of their ids, which
shuffles them. No step holds more rows in memory than one file has.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tqdm import tqdm

from fld_jax.datasets.common.rows import Row, read_image
from fld_jax.errors import Findings

# Files of so many records, and at most so many files, of which each is open
# while it is read.
MIN_RECORDS, MAX_FILES = 1000, 128


def write(
  read: Callable[[Findings], Iterable[Row]],
  features: tfds.features.FeaturesDict,
  partial: Path,
  target: Path,
  name: str,
) -> tuple[dict[str, list[int]], dict]:
  """Writes all rows as records.

  Args:
    read: A function that yields the rows and gives mistakes to its argument.
    features: The TFDS features of the records, see `schema.features`.
    partial: The folder for files that are not complete; given the same folder,
      the next call goes on from there after a kill. It is removed at the end.
    target: The folder for the files NAME-SPLIT.array_record-...
    name: The name of the data set in the names of the files.

  Returns:
    Split -> the number of records in each file; and a summary: `splits`, split
    -> number of records; `left_out`, reason -> number of rows; `examples`,
    reason -> names of a few of them; and `notes`, what is worth knowing -> how
    often it was seen.

  Raises:
    InputError: The first mistake.
  """
  partial, target = Path(partial), Path(target)
  partial.mkdir(parents=True, exist_ok=True)
  database = partial / 'rows.sqlite'
  summary = _collect(read, database)
  jobs, lengths = [], {}
  for split, count in summary['splits'].items():
    size = max(MIN_RECORDS, -(-count // MAX_FILES))
    starts = range(0, count, size)
    lengths[split] = [min(size, count - start) for start in starts]
    jobs += [
      _Job(
        split,
        start,
        length,
        partial / f'{split}-{i:05d}',
        target / f'{name}-{split}.array_record-{i:05d}-of-{len(starts):05d}',
      )
      for i, (start, length) in enumerate(
        zip(starts, lengths[split], strict=True)
      )
    ]
  _run([job for job in jobs if not job.part.exists()], jobs, database, features)
  for job in jobs:
    os.replace(job.part, job.file)
  shutil.rmtree(partial)
  return lengths, summary


@dataclasses.dataclass(frozen=True)
class _Job:
  """A file of records to write.

  Attributes:
    split: The split of the records.
    start: The index of the first record in its split.
    length: The number of records.
    part: The path of the file until all files are complete.
    file: The path of the file in the end.
  """

  split: str
  start: int
  length: int
  part: Path
  file: Path


def _collect(read: Callable[[Findings], Iterable[Row]], path: Path) -> dict:
  """Writes all rows to a database, which exists once all rows are valid.

  Args:
    read: A function that yields the rows and gives mistakes to its argument.
    path: The path of the database.

  Returns:
    The summary that `write` returns.

  Raises:
    InputError: The first mistake.
  """
  if path.exists():
    with _connect(path) as database:
      (text,) = database.execute('SELECT summary FROM done').fetchone()
    return json.loads(text)
  findings, incomplete = Findings(), path.with_suffix('.tmp')
  incomplete.unlink(missing_ok=True)

  def cells(row: Row) -> tuple[str, bytes, bytes]:
    """The cells of a row in the database: split, key, pickled row."""
    # As TFDS shuffles what it writes itself.
    key = hashlib.md5(f'{row.split}{row.id}'.encode()).digest()
    return row.split, key, pickle.dumps(row, protocol=5)

  with _connect(incomplete) as database:
    database.execute('PRAGMA journal_mode = OFF')
    database.execute('CREATE TABLE rows (split TEXT, key BLOB, row BLOB)')
    rows = tqdm(read(findings), 'reading', unit=' rows', unit_scale=True)
    database.execute('BEGIN')
    database.executemany('INSERT INTO rows VALUES (?, ?, ?)', map(cells, rows))
    database.execute('COMMIT')
    # Unique: two rows of one id would be two records of one name.
    database.execute('CREATE UNIQUE INDEX place ON rows (split, key)')
    count = 'SELECT split, COUNT(*) FROM rows GROUP BY split ORDER BY split'
    summary = {
      'splits': dict(database.execute(count)),
      'left_out': dict(findings.left_out),
      'examples': findings.left_out_examples,
      'notes': dict(findings.notes),
    }
    done = 'CREATE TABLE done AS SELECT ? AS summary'
    database.execute(done, (json.dumps(summary),))
  os.replace(incomplete, path)
  return summary


def _connect(path: Path) -> contextlib.closing[sqlite3.Connection]:
  """Opens a database that is closed at the end of a `with`."""
  return contextlib.closing(sqlite3.connect(path, isolation_level=None))


def _run(
  jobs: list[_Job],
  all_jobs: Sequence[_Job],
  database: Path,
  features: tfds.features.FeaturesDict,
) -> None:
  """Writes files of records.

  In threads: Pillow decodes, which takes most of the time, without Python's
  lock, and other processes would import the user's program again.

  Args:
    jobs: The files to write.
    all_jobs: These files and those that are finished, for the progress.
    database: The path of the database of rows.
    features: The TFDS features of the records.
  """
  total = sum(job.length for job in all_jobs)
  done = total - sum(job.length for job in jobs)
  with (
    tqdm(desc='writing', unit=' images', total=total, initial=done) as progress,
    concurrent.futures.ThreadPoolExecutor(num_cores()) as pool,
  ):
    write_one = lambda job: _write_file(job, database, features, progress)
    futures = [pool.submit(write_one, job) for job in jobs]
    try:
      for future in concurrent.futures.as_completed(futures):
        future.result()
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise


def num_cores() -> int:
  """The number of cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # not on every system
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _write_file(
  job: _Job,
  database: Path,
  features: tfds.features.FeaturesDict,
  progress: tqdm,
) -> None:
  """Writes one file of records.

  Args:
    job: The file.
    database: The path of the database of rows.
    features: The TFDS features of the records.
    progress: The bar that counts the records.

  Raises:
    InputError: An image cannot be decoded.
  """
  partial = f'{job.part}.tmp'
  # As TFDS's own writer: every record can be read without its neighbours.
  writer = array_record_module.ArrayRecordWriter(partial, 'group_size:1')
  query = 'SELECT row FROM rows WHERE split = ? ORDER BY key LIMIT ? OFFSET ?'
  try:
    with _connect(database) as connection:
      place = job.split, job.length, job.start
      for (data,) in connection.execute(query, place):
        writer.write(features.serialize_example(_record(data)))
        progress.update()
  finally:
    writer.close()
  os.replace(partial, job.part)


def _record(data: bytes) -> dict:
  """The record of a pickled row, with the bytes of its image file."""
  row = pickle.loads(data)
  record = {
    field.name: getattr(row, field.name)
    for field in dataclasses.fields(Row)
    if field.name not in ('path', 'place', 'split')
  }
  return {**record, 'image': read_image(row)}
