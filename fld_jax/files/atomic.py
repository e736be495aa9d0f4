"""Writes whole files and folders or nothing; locks of folders; full disks."""

import contextlib
import errno
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from typing import BinaryIO

from fld_jax.errors import Unwritable

# What a disk, or the rights on it, can have against a file: no defect of the
# program, and nothing that a traceback would help with.
DISK_ERRORS = frozenset(
  {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EEXIST,
    errno.EPERM,
    errno.EIO,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
  }
)
_LONGEST_NAME = 255  # bytes of a file's name, on the usual file systems


def disk_problem(error: BaseException) -> str | None:
  """What the disk has against a file, if that is what an error says.

  Args:
    error: Any exception that writing raised.

  Returns:
    The reason in words, with the path where it is known; None for an error of
    another kind, which is a defect of the program.
  """
  if isinstance(error, OSError) and error.errno in DISK_ERRORS:
    place = f'{os.fsdecode(error.filename)}: ' if error.filename else ''
    return f'{place}{os.strerror(error.errno)}'
  text = str(error)
  if isinstance(error, sqlite3.OperationalError) and (
    'disk' in text or 'readonly' in text or 'unable to open' in text
  ):
    return text
  # The writer of records knows no errno, and TFDS makes a sentence of it.
  found = re.search(
    'No space left on device|Read-only file system|Permission denied'
    '|Disk quota exceeded|Not enough disk space',
    text,
  )
  if isinstance(error, OSError | RuntimeError) and found:
    return found[0]
  return None


@contextlib.contextmanager
def unwritable(words: str) -> Iterator[None]:
  """Turns what a disk has against writing into one sentence.

  Args:
    words: What could not be written, with which the sentence begins, for
      example 'runs/a: the findings'.

  Raises:
    Unwritable: The disk is full or read-only, or belongs to somebody else.
  """
  try:
    yield
  except (OSError, RuntimeError, sqlite3.OperationalError) as error:
    problem = disk_problem(error)
    if problem is None:
      raise
    raise Unwritable(f'{words} could not be written ({problem}).') from error


def writing_problem(folder: pathlib.Path) -> str | None:
  """Why nothing can be written to a folder, as far as is known beforehand.

  Args:
    folder: The path of a folder, which need not exist.

  Returns:
    The reason, to stand after the folder's name; None if nothing is known.
  """
  for place in (folder, *folder.absolute().parents):
    try:
      if not os.path.lexists(place):
        continue
      if not place.is_dir():
        return (
          'is a file, must be a folder'
          if place == folder
          else f'lies below {place}, which is a file'
        )
      # The system's word: it knows read-only disks too, which root may not
      # write to either.
      if os.access(place, os.W_OK | os.X_OK):
        return None
      read_only = os.statvfs(place).f_flag & os.ST_RDONLY
      why = 'is read-only' if read_only else 'is not yours to write to'
      return why if place == folder else f'lies below {place}, which {why}'
    except OSError as error:
      return f'cannot be used ({error.strerror})'
  return None


def write_file(path: pathlib.Path, content: bytes) -> None:
  """Writes a whole file or, if killed, nothing.

  Args:
    path: The path of the file; its folder is made if it does not exist.
    content: The file's bytes.
  """
  with whole_file(path) as file:
    file.write(content)


@contextlib.contextmanager
def whole_file(path: pathlib.Path, sweep: bool = True) -> Iterator[BinaryIO]:
  """Opens a file that takes its place at the end of the `with`, or never.

  Args:
    path: The path of the file; missing parent folders are made.
    sweep: Whether to remove what a killed process left of the same file. It
      reads the whole folder, which takes long where there are many files.

  Yields:
    A binary file to write to.

  Raises:
    OSError: The file cannot be written.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  if sweep:
    remove_left(path)
  temporary = _temporary(path)
  try:
    with open(temporary, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError as error:
    # A full disk is met while bytes are written, where no name is known.
    if error.filename is None and error.errno is not None:
      error.filename = str(path)
    raise
  finally:
    temporary.unlink(missing_ok=True)


def _temporary(path: pathlib.Path) -> pathlib.Path:
  """Where a file or folder is written until it is whole."""
  name = path.name
  longest = _LONGEST_NAME - len(f'..{os.getpid()}.tmp')
  if len(os.fsencode(name)) > longest:
    name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
  return path.with_name(f'.{name}.{os.getpid()}.tmp')


def remove_left(path: pathlib.Path) -> None:
  """Removes what killed processes left half written of a file or folder.

  Args:
    path: The path that the file or folder has once it is whole.
  """
  name = re.escape(_temporary(path).name[1:].rpartition(f'.{os.getpid()}')[0])
  for left in list(path.parent.iterdir()):
    if re.fullmatch(rf'\.{name}\.\d+\.tmp', left.name):
      _remove(left)


def _remove(path: pathlib.Path) -> None:
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    path.unlink(missing_ok=True)


def remove_unfinished(folder: pathlib.Path) -> None:
  """Removes what a kill in the midst of `whole_file` or `whole_folder` left.

  Args:
    folder: A folder that no other process writes to, see `locked`.
  """
  for path in list(folder.rglob('.*.tmp')):
    if not re.fullmatch(r'\..+\.\d+\.tmp', path.name):
      continue
    _remove(path)


@contextlib.contextmanager
def locked(
  folder: pathlib.Path, on_busy: Callable[[], object]
) -> Iterator[None]:
  """Holds the lock of a folder, which lasts no longer than the process.

  Args:
    folder: An existing folder.
    on_busy: A function that is called if another process holds the lock. It may
      raise; otherwise this process waits for its turn.
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
def whole_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes a folder that takes its place at the end of the `with`, or never.

  What a killed process left of the same folder is removed first.

  Args:
    path: The path of a folder that is empty or does not exist yet; missing
      parent folders are made.

  Yields:
    The path of a temporary folder to fill.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  remove_left(path)
  temporary = _temporary(path)
  try:
    temporary.mkdir()
    yield temporary
    os.replace(temporary, path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
