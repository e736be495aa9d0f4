"""Lists that are joined by a name, without being held in memory."""

import os
import pickle
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fld_jax.errors import Findings, InputError, printable
from fld_jax.files.text_lists import error


class JoinedLists:
  """Rows of several lists by name, in a private file that ends with the object.

  A context manager. Small lists stay in memory.
  """

  def __init__(self):
    # '': SQLite's private file, which stays in its cache while it is small.
    self._database = sqlite3.connect('', isolation_level=None)
    self._database.execute('PRAGMA journal_mode = OFF')
    self._paths: dict[str, Any] = {}
    self._fields: dict[str, str] = {}

  def __enter__(self) -> 'JoinedLists':
    return self

  def __exit__(self, *error: object) -> None:
    self._database.close()

  def add(
    self,
    table: str,
    path: str | os.PathLike,
    rows: Iterable[tuple[str, int, Any]],
    findings: Findings,
    field: str = 'image_name',
    again: Callable[..., InputError | None] | None = None,
  ) -> None:
    """Reads a list; of a name that stands twice the first row is kept.

    Args:
      table: The name of the list here, an identifier of SQL.
      path: The path of the list's file, for messages.
      rows: (name, line number, value) of each row; a value of None is a row
        that was there, but is not to be used.
      findings: The collector of mistakes: names that stand twice.
      field: The column of the names, for messages.
      again: A function of a name, its line number and value and its first line
        number and value to the mistake that this is, or None; by default it
        always is a mistake.
    """
    self._paths[table], self._fields[table] = path, field
    self._database.execute(
      f'CREATE TABLE {table} (name TEXT PRIMARY KEY, line INTEGER, value BLOB)'
    )
    insert = f'INSERT OR IGNORE INTO {table} VALUES (?, ?, ?)'
    self._database.execute('BEGIN')
    for name, line, value in rows:
      data = None if value is None else pickle.dumps(value, protocol=5)
      if not self._database.execute(insert, (name, line, data)).rowcount:
        first, known = self.get(table, name)
        if again:
          mistake = again(name, line, value, first, known)
        else:
          problem = f"'{printable(name)}' is in line {first} already"
          mistake = error(path, line, field, problem, 'split')
        if mistake:
          findings.mistake(mistake)
    self._database.execute('COMMIT')

  def get(self, table: str, name: str) -> tuple[int, Any] | None:
    """Finds the row of a name.

    Args:
      table: The name of the list.
      name: The name of the row.

    Returns:
      (line number, value), or None if the list does not have the name.
    """
    query = f'SELECT line, value FROM {table} WHERE name = ?'
    row = self._database.execute(query, (name,)).fetchone()
    return row and (row[0], _value(row[1]))

  def check_same_names(self, one: str, other: str, findings: Findings) -> None:
    """Collects the names that only one of two lists has, as mistakes.

    Args:
      one: The name of the one list.
      other: The name of the other list.
      findings: The collector of mistakes.
    """
    self.check_names(one, other, findings)
    self.check_names(other, one, findings)

  def check_names(self, here: str, there: str, findings: Findings) -> None:
    """Collects the names that one list has and another has not, as mistakes.

    Args:
      here: The name of the list that has the names.
      there: The name of the list that has not.
      findings: The collector of mistakes.
    """
    for name, line in self.names_without(here, there):
      problem = (
        f"'{printable(name)}' has no row in {self._paths[there]}, must have one"
      )
      findings.mistake(
        error(self._paths[here], line, self._fields[here], problem)
      )

  def names_without(self, here: str, there: str) -> Iterator[tuple[str, int]]:
    """Finds the names that one list has and another has not.

    Args:
      here: The name of the list that has the names.
      there: The name of the list that has not.

    Yields:
      (name, line number in `here`), in the order of the list.
    """
    yield from self._database.execute(
      f'SELECT name, line FROM {here} WHERE NOT EXISTS (SELECT 1 FROM {there} '
      f'WHERE {there}.name = {here}.name) ORDER BY rowid'
    )

  def join(
    self, *tables: str
  ) -> Iterator[tuple[str, dict[str, tuple[int, Any]]]]:
    """Joins lists by the names that all of them have.

    Args:
      *tables: The names of the lists; by default all that were added.

    Yields:
      The name, and list -> (line number, value), in the order of the first
      list. Names with a value of None are left out.
    """
    tables = tables or tuple(self._paths)
    first, *others = tables
    columns = ', '.join(f'{t}.line, {t}.value' for t in tables)
    joins = ' '.join(f'JOIN {t} ON {t}.name = {first}.name' for t in others)
    query = f'SELECT {first}.name, {columns} FROM {first} {joins}'
    for name, *cells in self._database.execute(
      f'{query} ORDER BY {first}.rowid'
    ):
      if None not in cells:
        pairs = zip(cells[::2], map(_value, cells[1::2]), strict=True)
        yield name, dict(zip(tables, pairs, strict=True))


def _value(data: bytes | None) -> Any:
  """Unpickles a value; None stays None."""
  return None if data is None else pickle.loads(data)
