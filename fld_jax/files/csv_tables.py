"""CSV files of anybody: columns by name, in any order.

Cells are separated by commas, semicolons or tabs, whichever the header has most
of. Names of columns are compared in lower case, with underscores between their
words, so 'Left collar.x' is left_collar_x. Numbers have a point.
"""

import csv
import dataclasses
import pathlib
import re

from fld_jax.errors import Findings, InputError, printable
from fld_jax.files import coco, file_names, text_lists


@dataclasses.dataclass(frozen=True)
class Table:
  """The cells of a CSV.

  Attributes:
    path: The path of the file.
    header: The columns' names as they stand.
    columns: Name of a column -> its index, as it stands and as `plain` has it;
      the first one of several with the same name.
    rows: (number of the line, cells) of each line below the header that is not
      blank.
  """

  path: pathlib.Path
  header: list[str]
  columns: dict[str, int]
  rows: list[tuple[int, list[str]]]


def plain(name: str) -> str:
  """A column's name in lower case, with underscores between its words.

  Args:
    name: The name as it stands.
  """
  return re.sub(r'[\s\-._]+', '_', name.strip().lower())


def read(path: pathlib.Path) -> Table:
  """Reads a CSV.

  Args:
    path: The path of the file.

  Raises:
    InputError: The file cannot be read, is no CSV in UTF-8, or a line has more
      or fewer cells than the header.
  """
  try:
    with path.open('rb') as file:
      decoded = list(text_lists.decoded_lines(path, file, Findings()))
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror})') from None
  first = decoded[0] if decoded else ''
  separator = max(',;\t', key=first.count)
  lines = csv.reader(decoded, strict=True, delimiter=separator)
  rows = []
  try:
    header = [file_names.from_cell(cell.strip()) for cell in next(lines, [])]
    for cells in lines:
      if not any(cell.strip() for cell in cells):
        continue
      if len(cells) != len(header):
        raise InputError(
          f'{path}, line {lines.line_num}: has {len(cells)} columns, must have '
          f'{len(header)} as the header has'
        )
      rows.append((lines.line_num, cells))
  except csv.Error as error:
    place = f'{path}, line {lines.line_num}'
    raise InputError(f'{place}: is no CSV ({error})') from None
  columns: dict[str, int] = {}
  for names in (header, map(plain, header)):
    for i, name in enumerate(names):
      columns.setdefault(name, i)
  return Table(path, header, columns, rows)


def number(table: Table, line: int, column: int, cell: str) -> float | None:
  """The number in a cell, None if the cell is empty.

  Args:
    table: The table, for messages.
    line: The number of the line, for messages.
    column: The index of the column, for messages.
    cell: The text of the cell.

  Raises:
    InputError: The text is no number of pixels; it names line and column.
  """
  text = cell.strip()
  if not text:
    return None
  value = text_lists.plain_number(text)
  if value is not None and abs(value) <= coco.LARGEST:
    return value
  place = f'{table.path}, line {line}, {table.header[column]}'
  shown = printable(repr(text), 60)
  with_point = text.replace(',', '.')
  if text.count(',') == 1 and text_lists.plain_number(with_point) is not None:
    raise InputError(
      f'{place}: is {shown}, a number with a decimal comma, must have a point: '
      f"'{with_point}'"
    )
  raise InputError(f'{place}: is {shown}, must be a finite number of pixels')
