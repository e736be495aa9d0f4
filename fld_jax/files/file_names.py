r"""Names of files as text: in JSON, in CSV, on a terminal; and back.

A file's name is bytes. Python shows those that are not UTF-8 by characters that
no file of text can hold, so such a name is written with an escape:

  caf\xe9.jpg     the byte 0xe9, which is not UTF-8, as \xe9
  a\\b\xe9.jpg    in such a name a backslash is doubled

All other names are written as they are, but for one that holds what looks like
such an escape, '\x' and two hexadecimal digits: its backslashes are doubled,
too.
So `decoded(encoded(name)) == name` for every name.

A spreadsheet takes a cell of a CSV that begins with '=', '+', '-' or '@' for a
formula, and runs it. Such a cell is written with an apostrophe before it, which
`from_cell` takes off.
"""

import re
from collections.abc import Iterable

_ESCAPE = re.compile(r'\\x[0-9a-f]{2}')
_QUOTED = re.compile('[",;\t\r\n]')
_SURROGATE = re.compile('[\ud800-\udfff]')
# With full-width signs, which some spreadsheets take for the plain ones.
_FORMULA = re.compile(r"'*(?:\s*[=+\-@＝＋－＠]| *[\t\r\n])")


def encoded(name: str) -> str:
  """A file's name as text that every file can hold.

  Args:
    name: The name as Python has it, bytes that are not UTF-8 as surrogates.
  """
  if not _SURROGATE.search(name) and not _ESCAPE.search(name):
    return name
  return _SURROGATE.sub(
    lambda found: f'\\x{ord(found[0]) & 0xFF:02x}', name.replace('\\', r'\\')
  )


def decoded(text: str) -> str:
  """The file's name that `encoded` made a text of.

  Args:
    text: The text.
  """
  if not _ESCAPE.search(text):
    return text
  return re.sub(
    r'\\(\\|x([0-9a-f]{2}))',
    lambda found: '\\' if found[1] == '\\' else _character(int(found[2], 16)),
    text,
  )


def _character(byte: int) -> str:
  """The character by which Python shows a byte of a name."""
  return chr(0xDC00 + byte) if byte >= 0x80 else chr(byte)


def to_cell(text: str) -> str:
  """A text as a cell of a CSV that no spreadsheet takes for a formula.

  Args:
    text: The text, for example a name; numbers need none of this.
  """
  return f"'{text}" if _FORMULA.match(text) else text


def csv_line(cells: Iterable[str]) -> bytes:
  """A line of a CSV in UTF-8.

  Cells with a semicolon or a tab are in quotes, too, since a spreadsheet may
  take these for separators.

  Args:
    cells: The texts of the line's cells, as `to_cell` makes them safe.
  """
  quoted = (
    '"' + cell.replace('"', '""') + '"' if _QUOTED.search(cell) else cell
    for cell in cells
  )
  return (','.join(quoted) + '\r\n').encode()


def from_cell(cell: str) -> str:
  """The text that `to_cell` made a cell of.

  Args:
    cell: The cell of a CSV.
  """
  return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell
