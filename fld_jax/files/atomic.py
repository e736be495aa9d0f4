"""Files and folders that are written whole or not at all; locks of folders."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from typing import BinaryIO


def write_file(path: pathlib.Path, content: bytes) -> None:
  """Writes a whole file or, if the process is killed, nothing.

  Args:
    path: The path of the file; missing parent folders are made.
    content: The bytes of the file.
  """
  with whole_file(path) as file:
    file.write(content)


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[BinaryIO]:
  """Opens a file that takes its place at the end of the `with`, or never.

  What a killed process left of the same file is removed first.

  Args:
    path: The path of the file; missing parent folders are made.

  Yields:
    A binary file to write to.
  """
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
    folder: A folder that no other process writes to, see `locked`.
  """
  for path in list(folder.rglob('.*.tmp')):
    if not re.fullmatch(r'\..+\.\d+\.tmp', path.name):
      continue
    if path.is_dir():
      shutil.rmtree(path)
    else:
      path.unlink(missing_ok=True)


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
