"""Small disks in memory, for tests of full and read-only ones.

They are mounted in a folder of their own, not below that of pytest, which can
neither remove nor pass by what a killed run leaves mounted there. Each start
dismounts what processes left that are gone.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

PLACE = pathlib.Path(tempfile.gettempdir()) / 'fld_jax-test-disks'


def dismount_left(place: pathlib.Path = PLACE) -> None:
  """Dismounts and removes the disks of processes that are gone.

  Args:
    place: The folder of the disks, each in a folder PID-NUMBER.
  """
  for disk in place.glob('*-*') if place.is_dir() else ():
    pid = disk.name.partition('-')[0]
    if pid.isdigit() and not pathlib.Path(f'/proc/{pid}').exists():
      _dismount(disk)


def _dismount(disk: pathlib.Path) -> None:
  # Lazily: a process that is still being killed may hold a file.
  while os.path.ismount(disk):
    subprocess.run(['umount', '-l', str(disk)], check=True)
  shutil.rmtree(disk, ignore_errors=True)


class SmallDisk:
  """A disk in memory; `mount` makes it, or changes it.

  Attributes:
    place: The folder that it is mounted on.
  """

  def __init__(self, place: pathlib.Path):
    self.place = place

  def mount(self, size: int, *options: str) -> pathlib.Path:
    """Mounts the disk, or with 'remount' changes it.

    Args:
      size: The disk's size in MB.
      *options: Options of mount, 'remount' or 'ro' for example.
    """
    words = ','.join([*options, f'size={size}m'])
    result = subprocess.run(
      ['mount', '-t', 'tmpfs', '-o', words, 'tmpfs', str(self.place)],
      capture_output=True,
      text=True,
    )
    if result.returncode:
      pytest.skip(f'no disk can be mounted here: {result.stderr.strip()}')
    return self.place

  def fill(self, left: int = 0) -> pathlib.Path:
    """Fills the disk but for some bytes; returns the file that does."""
    filler = self.place / 'all'
    with (
      contextlib.suppress(OSError),
      filler.open('wb', buffering=0) as file,
    ):
      while True:
        file.write(bytes(4096))
    if left:
      os.truncate(filler, max(filler.stat().st_size - left, 0))
    return filler


@contextlib.contextmanager
def small_disk():
  """A disk that is dismounted at the end; skips where none can be mounted."""
  if os.geteuid():
    pytest.skip('only root can mount a small disk')
  PLACE.mkdir(exist_ok=True)
  dismount_left()
  number = 0
  while True:
    place = PLACE / f'{os.getpid()}-{number}'
    with contextlib.suppress(FileExistsError):
      place.mkdir()
      break
    number += 1
  try:
    yield SmallDisk(place)
  finally:
    _dismount(place)
