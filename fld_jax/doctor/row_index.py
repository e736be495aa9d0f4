"""A data set's rows and images in a file on disk, to ask about all of them."""

import pickle
import sqlite3
from collections.abc import Iterator

import numpy as np

from fld_jax import schema
from fld_jax.datasets.common.rows import SPLITS, Row

HASHES = np.dtype([('image', np.int64), ('hash', np.int64)])
# From where to where a row's box and its landmarks with a position reach.
EXTENTS = tuple(
  (part, side)
  for part in ('box', 'landmarks')
  for side in ('left', 'top', 'right', 'bottom')
)
_CHUNK = 4096  # rows or images that are in memory at a time
# The splits that have an item, or an image, and an id of each.
_NAMES = """
  SELECT split, MIN(id) FROM rows JOIN images USING (image) WHERE {0} = ?
  GROUP BY split ORDER BY split != 'train', split
"""


class RowIndex:
  """Rows in the order in which they came; a context manager.

  The file is SQLite's own, private and gone at the end; while it is small it
  stays in memory.
  """

  def __init__(self):
    self._database = sqlite3.connect('', isolation_level=None)
    for statement in (
      'PRAGMA journal_mode = OFF',
      'CREATE TABLE images (image INTEGER PRIMARY KEY, path TEXT UNIQUE, '
      'place TEXT, digest BLOB, hash INTEGER, fine BLOB, '
      'width INTEGER, height INTEGER)',
      'CREATE TABLE rows (number INTEGER PRIMARY KEY, image INTEGER, '
      'split TEXT, type INTEGER, variation INTEGER, id TEXT, item TEXT, '
      'signs BLOB, row BLOB, '
      + ', '.join(f'{part}_{side} REAL' for part, side in EXTENTS)
      + ')',
      'CREATE INDEX by_image ON rows (image)',
      'CREATE INDEX by_item ON rows (item)',
      'BEGIN',
    ):
      self._database.execute(statement)

  def __enter__(self) -> 'RowIndex':
    return self

  def __exit__(self, *error: object) -> None:
    self._database.close()

  def _ask(self, query: str, *values: object) -> sqlite3.Cursor:
    return self._database.execute(query, values)

  def add(self, row: Row, signs: np.ndarray) -> None:
    """Adds a row.

    Args:
      row: The row.
      signs: (P,) int8, what `sides.signs` says of the row.
    """
    insert = 'INSERT OR IGNORE INTO images (path, place) VALUES (?, ?)'
    self._ask(insert, row.path, row.place)
    query = 'SELECT image FROM images WHERE path = ?'
    (image,) = self._ask(query, row.path).fetchone()
    cells = (
      *(image, row.split, row.clothes_type, row.variation, row.id),
      *(row.item_id, signs.tobytes(), pickle.dumps(row, protocol=5)),
      *_extents(row),
    )
    self._ask(f'INSERT INTO rows VALUES (NULL{", ?" * len(cells)})', *cells)

  def num_images(self) -> int:
    """The number of image files; several rows may be of one."""
    return self._ask('SELECT COUNT(*) FROM images').fetchone()[0]

  def images(self) -> Iterator[list[tuple[int, str, str]]]:
    """Yields lists of (image number, path, place).

    The index may be written to between two lists.
    """
    query = 'SELECT image, path, place FROM images WHERE image > ? LIMIT ?'
    last = 0
    while chunk := self._ask(query, last, _CHUNK).fetchall():
      yield chunk
      last = chunk[-1][0]

  def set_image(
    self,
    image: int,
    digest: bytes,
    hashes: tuple[int, bytes] | None,
    size: tuple[int, int],
  ) -> None:
    """Stores the digest, the hashes and the size of a decoded image.

    Args:
      image: The image's number, see `images`.
      digest: A digest of the file's bytes.
      hashes: The picture's hashes, see `near_duplicates.hashes`; None if it has
        none.
      size: (width, height) in pixels.
    """
    coarse, fine = hashes or (None, None)
    if coarse is not None:  # SQLite's integers have a sign
      coarse -= (coarse >> 63) << 64
    columns = ('digest', 'hash', 'fine', 'width', 'height')
    update = f'UPDATE images SET {" = ?, ".join(columns)} = ? WHERE image = ?'
    self._ask(update, digest, coarse, fine, *size, image)

  def digest_and_fine(self, image: int) -> tuple[bytes, bytes]:
    """The digest and the fine hash of an image that has hashes.

    Args:
      image: The image's number, see `images`.

    Returns:
      The digest of the file's bytes, and the fine hash of
      `near_duplicates.hashes`.
    """
    query = 'SELECT digest, fine FROM images WHERE image = ?'
    return self._ask(query, image).fetchone()

  def groups(self) -> Iterator[tuple[str, int, int, int]]:
    """Yields (split, clothes type, variation, number of rows) in that order."""
    columns = 'split, type, variation'
    yield from self._ask(
      f'SELECT {columns}, COUNT(*) FROM rows GROUP BY {columns} '
      f'ORDER BY {_rank("split")}, {columns}'
    )

  def beyond(self, part: str, most: int) -> tuple[int, list[str]]:
    """Finds rows of which a part reaches beyond their image, however little.

    Args:
      part: 'box' or 'landmarks'.
      most: The number of examples that are wanted.

    Returns:
      The number of such rows, and the ids of the first ones.
    """
    query = (
      f'FROM rows JOIN images USING (image) WHERE {part}_left < 0 '
      f'OR {part}_top < 0 OR {part}_right > width OR {part}_bottom > height'
    )
    (count,) = self._ask(f'SELECT COUNT(*) {query}').fetchone()
    ids = self._ask(f'SELECT id {query} ORDER BY number LIMIT ?', most)
    return count, [name for (name,) in ids]

  def shared_files(self, most: int) -> tuple[int, list[dict[str, str]]]:
    """Finds image files that rows of several splits name.

    Args:
      most: The number of examples that are wanted.

    Returns:
      The number of such files; and for each of the first ones, split -> id of a
      row.
    """
    query = """
      SELECT image FROM rows GROUP BY image HAVING MIN(split) != MAX(split)
      ORDER BY image"""
    return self._shared(query, 'rows.image', most)

  def shared_bytes(self, most: int) -> tuple[int, list[dict[str, str]]]:
    """Finds equal files of several names in several splits.

    Args:
      most: The number of examples that are wanted.

    Returns:
      The number of such contents; and for each of the first ones, split -> id
      of a row.
    """
    query = """
      SELECT digest FROM images JOIN rows USING (image)
      WHERE digest IS NOT NULL GROUP BY digest
      HAVING COUNT(DISTINCT image) > 1 AND MIN(split) != MAX(split)
      ORDER BY MIN(image)"""
    return self._shared(query, 'digest', most)

  def shared_items(self, most: int) -> tuple[int, list[dict[str, str]]]:
    """Finds items that train and another split have.

    Args:
      most: The number of examples that are wanted.

    Returns:
      The number of such items; and for each of the first ones, split -> id of a
      row.
    """
    query = """
      SELECT item FROM rows WHERE item != '' GROUP BY item
      HAVING MAX(split = 'train') AND NOT MIN(split = 'train')
      ORDER BY MIN(number)"""
    return self._shared(query, 'item', most)

  def _shared(
    self, query: str, column: str, most: int
  ) -> tuple[int, list[dict[str, str]]]:
    """Counts the keys of a query; for the first ones, split -> id of a row."""
    (count,) = self._ask(f'SELECT COUNT(*) FROM ({query})').fetchone()
    keys = [key for (key,) in self._ask(f'{query} LIMIT ?', most)]
    names = _NAMES.format(column)
    return count, [dict(self._ask(names, key).fetchall()) for key in keys]

  def hashes(self, train: bool) -> np.ndarray:
    """The coarse hashes of the images of train, or of all other splits.

    Args:
      train: Whether the images of train are wanted, or those of the others.

    Returns:
      (n,) of the type HASHES, in which the first bit of a hash is the sign.
      Images without hashes are left out.
    """
    equal = '=' if train else '!='
    return np.fromiter(
      self._ask(
        'SELECT image, hash FROM images WHERE hash IS NOT NULL AND '
        'EXISTS (SELECT 1 FROM rows WHERE rows.image = images.image AND '
        f"split {equal} 'train') ORDER BY image"
      ),
      HASHES,
    )

  def num_flat(self) -> int:
    """The number of decoded images that have no hashes."""
    query = 'SELECT COUNT(*) FROM images WHERE hash IS NULL AND digest NOT NULL'
    return self._ask(query).fetchone()[0]

  def row_of(self, image: int, train: bool) -> Row:
    """The first row of an image in train, or in another split.

    Args:
      image: The image's number, see `images`.
      train: Whether the row is of train, or of another split.
    """
    equal = '=' if train else '!='
    query = (
      f"SELECT row FROM rows WHERE image = ? AND split {equal} 'train' "
      'ORDER BY number LIMIT 1'
    )
    return pickle.loads(self._ask(query, image).fetchone()[0])

  def signs(self) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yields the ids of some rows, and the (n, P) int8 signs given to `add`."""
    cursor = self._ask('SELECT id, signs FROM rows ORDER BY number')
    while chunk := cursor.fetchmany(_CHUNK):
      ids, signs = zip(*chunk, strict=True)
      yield (
        list(ids),
        np.frombuffer(b''.join(signs), np.int8).reshape(len(ids), -1),
      )

  def spread(self, most: int) -> list[Row]:
    """Chooses rows evenly over splits, types and their order.

    Args:
      most: The largest number of rows.

    Returns:
      Rows whose images could be decoded.
    """
    whole = 'FROM rows JOIN images USING (image) WHERE digest NOT NULL'
    cells = self._ask(
      f'SELECT split, type, COUNT(*) {whole} GROUP BY split, type '
      f'ORDER BY {_rank("split")}, split, type'
    ).fetchall()
    shares = _even_shares([count for *_, count in cells], most)
    query = (
      f'SELECT row {whole} AND split = ? AND type = ? ORDER BY number '
      'LIMIT 1 OFFSET ?'
    )
    return [
      pickle.loads(self._ask(query, split, kind, int(at)).fetchone()[0])
      for (split, kind, count), share in zip(cells, shares, strict=True)
      for at in np.rint(np.linspace(0, count - 1, share))
    ]


def _extents(row: Row) -> list[float | None]:
  """The values of EXTENTS; None where no landmark has a position."""
  points = row.landmarks[schema.has_position(row.visibility)]
  extent = [None] * 4
  if len(points):
    extent = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
  return [*row.box.tolist(), *extent]


def _rank(column: str) -> str:
  """SQL that puts splits in their usual order."""
  whens = ' '.join(f"WHEN '{s}' THEN {i}" for i, s in enumerate(SPLITS))
  return f'CASE {column} {whens} ELSE {len(SPLITS)} END'


def _even_shares(counts: list[int], most: int) -> list[int]:
  """Divides `most` evenly among groups of these counts, round by round."""
  shares = [0] * len(counts)
  while sum(shares) < min(most, sum(counts)):
    for i, count in enumerate(counts):
      if shares[i] < count and sum(shares) < most:
        shares[i] += 1
  return shares
