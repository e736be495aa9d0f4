"""Whole files or none, and what is said of disks that take nothing."""

import errno
import os
import sqlite3

import pytest
import small_disks

from fld_jax.errors import Unwritable
from fld_jax.files import atomic


@pytest.mark.parametrize('length', [1, 200, 249, 255])
def test_names_of_any_length(tmp_path, length):
  path = tmp_path / ('n' * length)
  atomic.write_file(path, b'1')
  atomic.write_file(path, b'2')
  assert [p.name for p in tmp_path.iterdir()] == [path.name]
  assert path.read_bytes() == b'2'


@pytest.mark.parametrize('length', [1, 249])
def test_what_a_kill_left_is_removed(tmp_path, length):
  path, other = tmp_path / ('n' * length), tmp_path / '.other.1.tmp'
  with atomic.whole_file(path):
    (left,) = tmp_path.iterdir()
    name = left.name.replace(f'.{os.getpid()}.', '.999999999.')
  (tmp_path / name).write_bytes(b'half')
  other.write_bytes(b'')
  atomic.write_file(path, b'')
  assert sorted(tmp_path.iterdir()) == sorted([path, other])


def test_a_failure_leaves_nothing(tmp_path):
  with pytest.raises(ZeroDivisionError), atomic.whole_file(tmp_path / 'a'):
    raise ZeroDivisionError
  assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named():
  with small_disks.small_disk() as disk:
    place = disk.mount(1)
    disk.fill()
    with pytest.raises(Unwritable) as caught:
      with atomic.unwritable('The table'):
        atomic.write_file(place / 'a', bytes(9000))
    assert str(caught.value) == (
      f'The table could not be written ({place}/a: No space left on device).'
    )
    assert [p.name for p in place.iterdir()] == ['all']


def test_folders_that_cannot_be_written_to(tmp_path):
  (tmp_path / 'file').write_text('')
  assert atomic.writing_problem(tmp_path / 'a/b') is None
  assert atomic.writing_problem(tmp_path / 'file') == (
    'is a file, must be a folder'
  )
  assert atomic.writing_problem(tmp_path / 'file/a/b') == (
    f'lies below {tmp_path}/file, which is a file'
  )
  with small_disks.small_disk() as disk:
    place = disk.mount(1, 'ro')
    assert atomic.writing_problem(place) == 'is read-only'
    words = f'lies below {place}, which is read-only'
    assert atomic.writing_problem(place / 'a/b') == words


@pytest.mark.parametrize(
  ('error', 'words'),
  [
    (OSError(errno.ENOSPC, 'x'), 'No space left on device'),
    (OSError(errno.EROFS, 'x', 'a'), 'a: Read-only file system'),
    (OSError('Not enough disk space. Needed: 3'), 'Not enough disk space'),
    (RuntimeError('write() failed: No space left on device'), 'No space left'),
    (sqlite3.OperationalError('database or disk is full'), 'is full'),
    (OSError(errno.EINVAL, 'x'), None),
    (RuntimeError('a defect'), None),
    (sqlite3.OperationalError('no such table'), None),
    (ValueError('No space left on device'), None),
  ],
)
def test_only_what_disks_do_is_a_disk_problem(error, words):
  found = atomic.disk_problem(error)
  assert found is None if words is None else words in found
