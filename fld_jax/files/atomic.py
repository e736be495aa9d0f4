"""Reads JSON with errors that name the place; writes whole files or nothing."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil


def write_file(path: pathlib.Path, content: bytes) -> None:
  """Writes a whole file or, if killed, nothing."""
  with whole_file(path) as file:
    file.write(content)


@contextlib.contextmanager
def whole_file(path: pathlib.Path):
  """A file to write bytes to, which takes its place at the end or never."""
  path.parent.mkdir(parents=True, exist_ok=True)
  for left in list(path.parent.iterdir()):
    if re.fullmatch(rf'\.{re.escape(path.name)}\.\d+\.tmp', left.name):
      shutil.rmtree(left, ignore_errors=True)
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
