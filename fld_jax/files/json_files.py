"""JSON files: read with an error that names the place, written atomically."""

import functools
import json
import pathlib
import reprlib
from typing import Any, BinaryIO

from fld_jax.errors import InputError, printable
from fld_jax.files.atomic import write_file


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file; equal values give equal bytes.

  Args:
    path: The path of the file.
    value: A JSON-ready value; its numbers are rounded to 6 decimals.
  """
  text = json.dumps(rounded(value), sort_keys=True, indent=2, allow_nan=False)
  write_file(path, (text + '\n').encode())


class ListWriter:
  """Writes a list of JSON entry by entry, one a line; close it at the end."""

  def __init__(self, file: BinaryIO):
    """Begins the list.

    Args:
      file: The file, open for bytes.
    """
    self._file, self._count = file, 0
    self._file.write(b'[')

  def write(self, entry: Any) -> None:
    """Adds an entry.

    Args:
      entry: A JSON-ready value; its numbers are rounded to 6 decimals.
    """
    text = json.dumps(rounded(entry), sort_keys=True, allow_nan=False)
    self._file.write(b',\n' if self._count else b'\n')
    self._file.write(text.encode())
    self._count += 1

  def close(self) -> None:
    """Ends the list; the file stays open."""
    self._file.write(b'\n]' if self._count else b']')


def rounded(value: Any) -> Any:
  """Rounds the numbers of a JSON-ready value to 6 decimals.

  Args:
    value: A JSON-ready value: dicts, lists, strings, numbers, bools and None.

  Returns:
    A copy with rounded numbers.
  """
  if isinstance(value, dict):
    return {key: rounded(entry) for key, entry in value.items()}
  if isinstance(value, list):
    return [rounded(entry) for entry in value]
  return round(value, 6) if isinstance(value, float) else value


def read_json(path: pathlib.Path) -> Any:
  """Reads a JSON file.

  NaN and infinities, which Python writes, are values; an integer of more digits
  than Python reads is an infinity.

  Args:
    path: The path of the file.

  Returns:
    The value of the file: dicts, lists, strings, numbers, bools and None.

  Raises:
    InputError: The file cannot be read or is not valid JSON; or one object has
      a key twice, of which Python would take the last.
  """
  try:
    if path.is_fifo() or path.is_socket():  # one would wait for ever
      raise InputError(f'{path}: cannot be read (it is no regular file)')
    raw = path.read_bytes()
    encoding = json.detect_encoding(raw)
    text = raw.decode(encoding)
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror})') from None
  except UnicodeDecodeError as error:
    line = raw[: error.start].count(b'\n') + 1
    raise InputError(
      f'{path}, line {line}, text: is not valid JSON in {encoding}'
    ) from None
  return parse_json(path, text)


def parse_json(place: str | pathlib.Path, text: str) -> Any:
  """Parses JSON, as `read_json` does.

  Args:
    place: The path of the file, or the place in it, that the text comes from.
    text: The text.

  Returns:
    The value: dicts, lists, strings, numbers, bools and None.

  Raises:
    InputError: The text is not valid JSON, or one object has a key twice.
  """
  try:
    return _parsed(place, text)
  except json.JSONDecodeError as error:
    raise InputError(
      f'{place}, line {error.lineno}, column {error.colno}: is not valid '
      f'JSON ({error.msg})'
    ) from None
  except RecursionError:
    raise InputError(
      f'{place}, text: is nested too deeply, must be valid JSON of fewer levels'
    ) from None


def _parsed(path: str | pathlib.Path, text: str) -> Any:
  """Parses JSON, also with integers that have too many digits for Python."""
  objects = functools.partial(_object, path)
  try:
    return json.loads(text, object_pairs_hook=objects)
  except json.JSONDecodeError:
    raise
  except ValueError:
    integer = lambda digits: (int if len(digits) < 4300 else float)(digits)
    return json.loads(text, object_pairs_hook=objects, parse_int=integer)


def _object(
  path: str | pathlib.Path, pairs: list[tuple[str, Any]]
) -> dict[str, Any]:
  """Makes a dict of an object's pairs; refuses a key that stands twice."""
  value = dict(pairs)
  if len(value) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = printable(next(key for key in keys if keys.count(key) > 1))
    named = ''
    if 'id' in value:
      named = f' of id {printable(reprlib.repr(value["id"]))}'
    raise InputError(
      f'{path}, object{named}, {twice}: stands twice in one object, must be '
      'unique'
    )
  return value
