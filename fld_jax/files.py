"""Reads JSON with errors that name the place; writes whole files or nothing."""

import json
import os
import pathlib

from fld_jax.errors import InputError


def write_file(path: pathlib.Path, content: bytes) -> None:
  """Writes a whole file or, if killed, nothing."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  with open(temporary, 'wb') as file:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


def write_json(path: pathlib.Path, value) -> None:
  """Writes a value `rounded` and with sorted keys: equal ones, equal bytes."""
  text = json.dumps(rounded(value), sort_keys=True, indent=2, allow_nan=False)
  write_file(path, (text + '\n').encode())


def rounded(value):
  """A JSON-ready value with its numbers rounded to 6 decimals."""
  if isinstance(value, dict):
    return {key: rounded(entry) for key, entry in value.items()}
  if isinstance(value, list):
    return [rounded(entry) for entry in value]
  return round(value, 6) if isinstance(value, float) else value


def read_json(path: pathlib.Path):
  """The value of a JSON file.

  Raises:
    InputError: the file cannot be read, or is no JSON.
  """
  try:
    with path.open('rb') as file:
      return json.load(file)
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror})') from None
  except json.JSONDecodeError as error:
    raise InputError(
      f'{path}, line {error.lineno}, column {error.colno}: is no JSON '
      f'({error.msg})'
    ) from None
  # Bytes that are no text; an integer of thousands of digits.
  except (ValueError, RecursionError) as error:
    raise InputError(f'{path}: is no JSON text ({error})') from None
