"""Text lists that are read row by row; a mistake names its line.

In a table line 1 is the number of rows, line 2 the column names, and rows start
in line 3; fields are separated by whitespace of ASCII, so a name may have a
no-break space. Numbers are base 10, in ASCII, and may be padded with zeros
('072').
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fld_jax.errors import Findings, InputError, printable

# Python's own int and float also take '1_0', digits of other scripts and more
# of them than it can print.
_DIGITS = re.compile(r'[0-9]{1,18}')
_INTEGER = re.compile(r'[+-]?[0-9]{1,18}')
_NUMBER = re.compile(r'[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?')
LARGEST = 1e9  # nobody means such a pixel; squares of larger ones may overflow


def error(
  path: Path, line: int, field: str, problem: str, kind: str = 'form'
) -> InputError:
  """Makes the error for one field of one line, for the caller to raise.

  Args:
    path: The path of the list.
    line: The number of the line, from 1 on.
    field: The name of the field.
    problem: The rest of the message: the value and what is valid.
    kind: The kind of mistake, see `InputError`.
  """
  problem = printable(problem, 1000)
  return InputError(f'{path}, line {line}, {field}: {problem}', kind)


def read_rows(
  path: Path,
  header: list[str],
  findings: Findings,
  parse: Callable[[int, list[str]], Any],
) -> Iterator[tuple[str, int, Any]]:
  """Yields the rows of a list.

  Args:
    path: The path of the list.
    header: The words that the column names must begin with; [] if the list has
      no column names and its rows start in line 2.
    findings: The collector of the rows' mistakes.
    parse: A function of a line's number and fields to the row's value; it
      raises an InputError for a mistake.

  Yields:
    (first field, line number, value); the value of a mistaken row is None.

  Raises:
    InputError: Line 1 or 2 is wrong.
  """
  return parsed(read_table(path, header, findings)[1], findings, parse)


def parsed(
  rows: Iterable[tuple[int, Any]],
  findings: Findings,
  parse: Callable[[int, Any], Any],
) -> Iterator[tuple[Any, int, Any]]:
  """Yields the rows that `read_table` returns, with their values.

  Args:
    rows: (line number, fields) of each row.
    findings: The collector of the rows' mistakes.
    parse: A function of a line's number and fields to the row's value; it
      raises an InputError for a mistake.

  Yields:
    (first field, line number, value); the value of a mistaken row is None.
  """
  for line, fields in rows:
    try:
      value = parse(line, fields)
    except InputError as mistake:
      findings.mistake(mistake)
      value = None
    yield fields[0], line, value


def columns_error(
  path: Path, line: int, fields: Sequence[str], valid: str
) -> InputError:
  """Makes the error for a row of the wrong length, for the caller to raise.

  Args:
    path: The path of the list.
    line: The number of the line, from 1 on.
    fields: The fields of the row.
    valid: The right number of fields, and their names.
  """
  return error(
    path, line, 'columns', f'the row has {len(fields)}, must have {valid}'
  )


def read_table(
  path: Path, header: list[str], findings: Findings
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
  """Opens a list.

  Args:
    path: The path of the list.
    header: The words that the column names must begin with; [] if the list has
      no column names and its rows start in line 2.
    findings: The collector of mistakes: a wrong number of rows, and lines that
      are not UTF-8.

  Returns:
    The column names, and an iterator of (line number, fields) over the rows
    that are not blank. At its end it compares their number to line 1: last,
    because a mistake within a row says more.

  Raises:
    InputError: Line 1 or 2 is wrong.
  """
  lines = read_lines(path, findings)
  announced = ' '.join(next(lines, (1, None))[1] or [])
  if not _DIGITS.fullmatch(announced):
    problem = f"is '{printable(announced)}', must be one integer, the row count"
    raise error(path, 1, 'row count', problem)
  columns = (next(lines, (2, None))[1] if header else None) or []
  found, wanted = ' '.join(columns[: len(header)]), ' '.join(header)
  if found != wanted:
    problem = f"are '{printable(found)}', must begin with '{wanted}'"
    raise error(path, 2, 'column names', problem)
  return columns, _counted(path, int(announced), lines, findings)


def one_of(
  path: Path,
  line: int,
  field: str,
  token: str,
  valid: Collection[str],
  kind: str = 'form',
) -> str:
  """Returns a field's token if it is valid.

  Args:
    path: The path of the list, for messages.
    line: The number of the line, from 1 on.
    field: The name of the field.
    token: The text of the field.
    valid: The valid tokens.
    kind: The kind of mistake, see `InputError`.

  Raises:
    InputError: The token is not among the valid ones.
  """
  if token not in valid:
    problem = f"is '{printable(token)}', must be one of {', '.join(valid)}"
    raise error(path, line, field, problem, kind)
  return token


def integer(
  path: Path,
  line: int,
  field: str,
  token: str,
  valid: Collection[int] | None = None,
  kind: str = 'form',
) -> int:
  """Reads a field's integer.

  Args:
    path: The path of the list, for messages.
    line: The number of the line, from 1 on.
    field: The name of the field.
    token: The text of the field.
    valid: The valid integers; None for any of at most 18 digits.
    kind: The kind of mistake, see `InputError`.

  Raises:
    InputError: The token is not a valid integer.
  """
  value = int(token) if _INTEGER.fullmatch(token) else None
  if value is None or (valid is not None and value not in valid):
    allowed = 'an integer'
    if valid is not None:
      allowed = f'one of {", ".join(map(str, valid))}'
    problem = f"is '{printable(token)}', must be {allowed}"
    raise error(path, line, field, problem, kind)
  return value


def plain_number(token: str) -> float | None:
  """Reads a number in the one notation that lists may have.

  Args:
    token: A word.

  Returns:
    The number; None if the word is not one in base 10 and in ASCII.
  """
  return float(token) if _NUMBER.fullmatch(token) else None


def number(path: Path, line: int, field: str, token: str) -> float:
  """Reads a field's number of pixels.

  Args:
    path: The path of the list, for messages.
    line: The number of the line, from 1 on.
    field: The name of the field.
    token: The text of the field.

  Raises:
    InputError: The token is not a number, or one beyond 1e9 or -1e9.
  """
  value = plain_number(token)
  if value is None or abs(value) > LARGEST:
    problem = f"is '{printable(token)}', must be a finite number up to 1e9"
    raise error(path, line, field, problem)
  return value


def numbers(
  path: Path, line: int, fields: Sequence[str], tokens: Sequence[str]
) -> list[float]:
  """Reads the numbers of pixels of several fields.

  Args:
    path: The path of the list, for messages.
    line: The number of the line, from 1 on.
    fields: The names of the fields.
    tokens: The texts of the fields.

  Returns:
    One number for each field.

  Raises:
    InputError: There are more or fewer tokens than fields, or one is not a
      number from -1e9 to 1e9.
  """
  if len(tokens) != len(fields):
    valid = f'{len(fields)}, {" ".join(fields)}'
    raise columns_error(path, line, tokens, valid)
  return [
    number(path, line, field, token)
    for field, token in zip(fields, tokens, strict=True)
  ]


def read_lines(
  path: Path, findings: Findings
) -> Iterator[tuple[int, list[str] | None]]:
  """Splits the lines of a text file into fields; a BOM is skipped.

  Args:
    path: The path of the file.
    findings: The collector of mistakes: lines that are not UTF-8.

  Yields:
    (line number from 1 on, fields); the fields of a line that is not UTF-8 are
    None, those of a blank line [].
  """
  with path.open('rb') as file:
    for line, raw in enumerate(file, 1):
      # Bytes split at ASCII alone; text, also within names ('a\xa0b').
      joined = b'\n'.join(raw.split())
      try:
        text = joined.decode('utf-8-sig' if line == 1 else 'utf-8')
      except UnicodeDecodeError:
        findings.mistake(error(path, line, 'text', 'is not UTF-8, must be'))
        yield line, None
      else:
        yield line, text.split('\n') if text else []


def _counted(
  path: Path,
  announced: int,
  lines: Iterable[tuple[int, list[str] | None]],
  findings: Findings,
) -> Iterator[tuple[int, list[str]]]:
  """Yields the lines that have fields, and compares their number at the end."""
  count = 0
  for line, fields in lines:
    if fields:
      count += 1
      yield line, fields
  if count != announced or count == 0:
    findings.mistake(
      error(
        path,
        1,
        'row count',
        f'announces {announced} rows, but the file has {count}; '
        'the two must be equal and at least 1',
      )
    )


def decoded_lines(
  path: Path, file: BinaryIO, findings: Findings
) -> Iterator[str]:
  """Yields the lines of a CSV as text.

  A file that Python opens as text is decoded in pieces of many lines, so it
  could not tell which one is wrong.

  Args:
    path: The path of the file, for messages.
    file: The file, opened for bytes.
    findings: The collector of mistakes: lines that are not UTF-8.

  Yields:
    The text of each line; a blank line for one that is not UTF-8, so that the
    lines' numbers stay right.
  """
  for line, raw in enumerate(file, 1):
    try:
      yield raw.decode('utf-8-sig' if line == 1 else 'utf-8')
    except UnicodeDecodeError:
      findings.mistake(
        InputError(f'{path}, line {line}, text: is not UTF-8, must be')
      )
      yield '\n'
