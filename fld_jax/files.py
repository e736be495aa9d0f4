"""Reads JSON with errors that name the place; writes whole files or nothing."""

import contextlib
import fcntl
import functools
import json
import os
import pathlib
import re
import reprlib
import shutil

from fld_jax.errors import InputError, shown


def write_file(path: pathlib.Path, content: bytes) -> None:
  """Writes a whole file or, if killed, nothing."""
  with whole_file(path) as file:
    file.write(content)


@contextlib.contextmanager
def whole_file(path: pathlib.Path):
  """A file to write bytes to, which takes its place at the end or never."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with open(temporary, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def remove_unfinished(folder: pathlib.Path) -> None:
  """Removes what a kill in the midst of `whole_file` or `whole_folder` left.

  Args:
    folder: that nobody else writes to, see `locked`.
  """
  for path in list(folder.rglob('.*.tmp')):
    if not re.fullmatch(r'\..+\.\d+\.tmp', path.name):
      continue
    if path.is_dir():
      shutil.rmtree(path)
    else:
      path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: pathlib.Path, on_busy):
  """Holds the lock of a folder, which lasts no longer than the process.

  Args:
    folder: that there is.
    on_busy: called if another process holds it; it may raise, else this one
      waits for its turn.
  """
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      on_busy()
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def whole_folder(path: pathlib.Path):
  """A folder to fill, which takes its place at the end or never.

  What a killed process left of the same folder is removed first.

  Args:
    path: of an empty folder, or of none.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  for left in list(path.parent.iterdir()):
    if re.fullmatch(rf'\.{re.escape(path.name)}\.\d+\.tmp', left.name):
      shutil.rmtree(left, ignore_errors=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    temporary.mkdir()
    yield temporary
    os.replace(temporary, path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


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

  NaN and infinities, which Python writes, are values; an integer of more digits
  than Python reads is an infinity.

  Raises:
    InputError: the file cannot be read, or is no JSON; or a key stands twice in
      one object, of which Python would take the last.
  """
  try:
    raw = path.read_bytes()
    encoding = json.detect_encoding(raw)
    return _parsed(path, raw.decode(encoding))
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror})') from None
  except json.JSONDecodeError as error:
    raise InputError(
      f'{path}, line {error.lineno}, column {error.colno}: is no JSON '
      f'({error.msg})'
    ) from None
  except UnicodeDecodeError as error:
    line = raw[: error.start].count(b'\n') + 1
    raise InputError(
      f'{path}, line {line}, text: is no JSON text in {encoding}'
    ) from None
  except RecursionError:
    raise InputError(
      f'{path}, text: is no JSON text for this, nested too deeply'
    ) from None


def _parsed(path: pathlib.Path, text: str):
  objects = functools.partial(_object, path)
  try:
    return json.loads(text, object_pairs_hook=objects)
  except json.JSONDecodeError:
    raise
  except ValueError:
    integer = lambda digits: (int if len(digits) < 4300 else float)(digits)
    return json.loads(text, object_pairs_hook=objects, parse_int=integer)


def _object(path: pathlib.Path, pairs: list) -> dict:
  value = dict(pairs)
  if len(value) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = shown(next(key for key in keys if keys.count(key) > 1))
    of = ' of id ' + shown(reprlib.repr(value['id'])) if 'id' in value else ''
    raise InputError(
      f'{path}, object{of}, {twice}: stands twice in one object, must be unique'
    )
  return value
