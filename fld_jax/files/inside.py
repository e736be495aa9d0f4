"""Whether what a file names stays inside the folder that holds it.

A data set or a run may come from a stranger. A name in it must not lead to the
private files of whoever reads it: what is read gets into records, contact
sheets and reports, which are shared.
"""

import functools
import os
from collections.abc import Iterable
from typing import Any

from fld_jax.errors import InputError, printable


def inside(
  folder: str | os.PathLike,
  name: str,
  place: str,
  roots: Iterable[str | os.PathLike] = (),
) -> str:
  """The path of a file that a data set names, if it stays inside the data set.

  A folder of images may itself be a link, as people put images on another disk:
  what counts is where the folder really lies. A single file or a folder further
  down that links to somewhere else is refused.

  Args:
    folder: The folder that the name is relative to.
    name: The name as the data set has it, after all decoding; it may be
      absolute or have '..' in it, as long as it ends inside.
    place: The place of the name in its file, with which the message begins.
    roots: Other folders in which the file may lie: the data set's own folder,
      and those of its folders that the layout names.

  Returns:
    The path of the file, which need not exist.

  Raises:
    InputError: The path leads out of all these folders, or is no path at all.
      It is of kind 'image'.
  """
  path = os.path.join(folder, name)
  if '\0' in path:
    raise InputError(
      f'{place}: the image file {printable(name, 4096)} is not a file name, '
      'must be one without NUL',
      'image',
    )
  real = os.path.realpath(path)
  places = [os.path.abspath(root) for root in (folder, *roots)]
  if any(_below(real, _real(root)) for root in places):
    return path
  # As it is written, without following links.
  written = os.path.abspath(path)
  if any(_below(written, root) for root in places):
    problem = (
      f'is a link to a file outside of {places[-1]}, must lie in that folder: '
      'copy the file, or link the whole folder of images'
    )
  else:
    problem = f'lies outside of {places[-1]}, must lie in that folder'
  raise InputError(
    f'{place}: the image file {printable(name, 4096)} {problem}', 'image'
  )


@functools.lru_cache(maxsize=64)  # a folder has many files
def _real(folder: str) -> str:
  """Where a folder lies when all links are followed."""
  return os.path.realpath(folder)


def _below(path: str, root: str) -> bool:
  """Whether an absolute path is that of something in a folder."""
  return path.startswith(os.path.join(root, ''))


def is_plain(name: Any) -> bool:
  """Whether a value is the name of one file or folder, and no path.

  Args:
    name: Any value, such as one of a manifest.

  Returns:
    True if joined to a folder it is something directly in that folder.
  """
  return (
    isinstance(name, str)
    and name.isprintable()  # so without NUL
    and 0 < len(name.encode()) <= 255
    and name not in ('.', '..')
    and not set(name) & set('/\\')
  )
