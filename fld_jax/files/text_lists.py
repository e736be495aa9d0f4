"""Text lists that are read row by row; a mistake names its line.

In a table line 1 is the number of rows, line 2 the column names, and rows start
in line 3; fields are separated by whitespace of ASCII, so a name may have a
no-break space. Numbers are base 10, in ASCII, and may be padded with zeros
('072').
"""

import re
from collections.abc import Iterator

from fld_jax.errors import Findings, InputError, printable

# Python's own int and float also take '1_0', digits of other scripts and more
# of them than it can print.
_DIGITS = re.compile(r'[0-9]{1,18}')
_INTEGER = re.compile(r'[+-]?[0-9]{1,18}')
_NUMBER = re.compile(r'[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?')
_MAX_PIXEL = 1e9  # nobody means more; float32 would become infinite at 3e38


def error(
  path, line: int, field: str, problem: str, kind: str = 'form'
) -> InputError:
  """The InputError for one field of one line, for the caller to raise."""
  problem = printable(problem, 1000)
  return InputError(f'{path}, line {line}, {field}: {problem}', kind)


def read_rows(path, header: list[str], findings: Findings, parse):
  """Yields the rows of a list.

  Args:
    path: pathlib.Path of the list.
    header: as of `read_table`.
    findings: gets the rows' mistakes.
    parse: function of a line's number and fields to its value, or InputError.

  Yields:
    (first field, line, value), with the value None of a mistaken row.

  Raises:
    InputError: line 1 or 2 is wrong.
  """
  return parsed(read_table(path, header, findings)[1], findings, parse)


def parsed(rows, findings: Findings, parse):
  """As `read_rows`, of the rows that `read_table` returns."""
  for line, fields in rows:
    try:
      value = parse(line, fields)
    except InputError as mistake:
      findings.mistake(mistake)
      value = None
    yield fields[0], line, value


def columns_error(path, line: int, fields, valid: str) -> InputError:
  """The InputError for a row of the wrong length; `valid` says the right."""
  return error(
    path, line, 'columns', f'the row has {len(fields)}, must have {valid}'
  )


def read_table(
  path, header: list[str], findings: Findings
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
  """Opens a list.

  Args:
    path: pathlib.Path of the list.
    header: what its column names must begin with; [] if it has none and rows
      start in line 2.
    findings: gets a wrong number of rows, and lines that are no text.

  Returns:
    The column names, and an iterator of (line number, fields) over the rows
    that are not blank. At its end it compares their number to line 1: last,
    because a mistake within a row says more.

  Raises:
    InputError: line 1 or 2 is wrong.
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


def one_of(path, line: int, field: str, token: str, valid, kind: str = 'form'):
  """Returns the token; InputError unless it is one of the strings `valid`."""
  if token not in valid:
    problem = f"is '{printable(token)}', must be one of {', '.join(valid)}"
    raise error(path, line, field, problem, kind)
  return token


def integer(
  path, line: int, field: str, token: str, valid=None, kind: str = 'form'
) -> int:
  """The field's integer; InputError unless it is in `valid` (None: any)."""
  value = int(token) if _INTEGER.fullmatch(token) else None
  if value is None or (valid is not None and value not in valid):
    allowed = 'an integer'
    if valid is not None:
      allowed = f'one of {", ".join(map(str, valid))}'
    problem = f"is '{printable(token)}', must be {allowed}"
    raise error(path, line, field, problem, kind)
  return value


def plain_number(token: str) -> float | None:
  """The number that a word is, in ASCII as this module has them, or None."""
  return float(token) if _NUMBER.fullmatch(token) else None


def number(path, line: int, field: str, token: str) -> float:
  """The field's number of pixels; InputError unless it is finite."""
  value = plain_number(token)
  if value is None or abs(value) > _MAX_PIXEL:
    problem = f"is '{printable(token)}', must be a finite number up to 1e9"
    raise error(path, line, field, problem)
  return value


def numbers(path, line: int, fields, tokens) -> list[float]:
  """One finite number for each of `fields`; InputError if there are others."""
  if len(tokens) != len(fields):
    valid = f'{len(fields)}, {" ".join(fields)}'
    raise columns_error(path, line, tokens, valid)
  return [
    number(path, line, field, token)
    for field, token in zip(fields, tokens, strict=True)
  ]


def read_lines(
  path, findings: Findings
) -> Iterator[tuple[int, list[str] | None]]:
  """Yields (line number, fields) of a text file; a BOM is skipped.

  A line that is no text is a mistake, and its fields are None.
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


def _counted(path, announced: int, lines, findings: Findings):
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


def decoded_lines(path, file, findings: Findings):
  """Yields the lines of a CSV as text; one that is none as blank, to count it.

  A file that Python opens as text is decoded in pieces of many lines, so it
  could not tell which one is wrong.

  Args:
    path: of the file, for messages.
    file: opened for bytes.
    findings: gets lines that are no text.
  """
  for line, raw in enumerate(file, 1):
    try:
      yield raw.decode('utf-8-sig' if line == 1 else 'utf-8')
    except UnicodeDecodeError:
      findings.mistake(
        InputError(f'{path}, line {line}, text: is not UTF-8, must be')
      )
      yield '\n'
