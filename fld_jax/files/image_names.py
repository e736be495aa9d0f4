r"""Images by the names that other programs give them.

A name stands for the image of that path; with '\' for '/', './' before it or
the percent signs of a URL it does, too. Failing that, for the one image whose
path ends with it, or that it ends with; then for the one image of its last
part, 05000.jpg for img/05000.jpg; then for the one of this name without an
ending.
"""

import functools
import posixpath
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from urllib.parse import unquote

from fld_jax.files import file_names


class ImageNames:
  """Finds images by name; the same file may be several images."""

  def __init__(self, names: Mapping[Hashable, str]):
    """Indexes the images.

    Args:
      names: Key of an image -> its name, a path.
    """
    self._names = names
    self._exact: dict[str, list] = {}
    self._last: dict[str, list] = {}
    self._stems: dict[str, list] = {}
    self._last_stems: dict[str, list] = {}
    for key, name in names.items():
      plain = posixpath.normpath(name.replace('\\', '/'))
      last = posixpath.basename(plain)
      for text in {name, plain}:
        self._exact.setdefault(text, []).append(key)
      self._last.setdefault(last, []).append(key)
      self._stems.setdefault(_stem(plain), []).append(key)
      self._last_stems.setdefault(_stem(last), []).append(key)

  def find(self, name: str) -> list:
    """The keys of the images that a name may stand for, [] if there are none.

    Several are returned where one file is several images, or where the name
    tells too little.

    Args:
      name: The name.
    """
    several = []
    for way in (
      self._of_path,
      self._of_end,
      self._of_last,
      self._of_stem,
      self._of_last_stem,
    ):
      for form in _forms(name):
        found = way(form)
        if self._is_one(found):
          return found
        several = several or found
    return several

  def find_all(self, names: Iterable[str]) -> list[Hashable | None]:
    """The key of the image of each of the names that one program wrote.

    That program wrote all of them in the same way: where one is the path of an
    image, another is not to be cut. So the first way in which any name stands
    for an image is that of all: as its path, by its end, without its ending. A
    last part alone does not count if the folder before it is another one.

    Args:
      names: The names.

    Returns:
      A key a name; None where the name stands for no image, or for several.
    """
    names = list(names)
    found: list = []
    for way in (self._of_path, self._of_end, self._of_stem):
      found = [
        next(
          (keys[0] for keys in map(way, _forms(name)) if self._is_one(keys)),
          None,
        )
        for name in names
      ]
      if any(key is not None for key in found):
        break
    return found

  def find_number(self, number: int) -> list:
    """The keys of the images whose name without its ending is a number.

    Args:
      number: The number, which the name may write with zeros before it.
    """
    return self._numbers.get(number, [])

  @functools.cached_property
  def _numbers(self) -> dict[int, list]:
    """Number -> the keys of the images of that name without an ending."""
    found: dict[int, list] = {}
    for stem, keys in self._last_stems.items():
      if stem.isascii() and stem.isdigit() and len(stem) < 19:
        found.setdefault(int(stem), []).extend(keys)
    return found

  def _is_one(self, keys: list) -> bool:
    """Whether all keys are images of one file."""
    return bool(keys) and len({self._names[key] for key in keys}) == 1

  def _of_path(self, name: str) -> list:
    """The images of this path, as it stands or with '/' for a backslash."""
    keys = self._exact.get(name, [])
    return [key for key in keys if self._names[key] == name] or keys

  def _of_end(self, name: str) -> list:
    """The images of the longest path that a name ends with.

    Without any, those whose path ends with the name.
    """
    keys = self._last.get(posixpath.basename(name), [])
    ends = [key for key in keys if f'/{name}'.endswith(f'/{self._names[key]}')]
    if ends:
      longest = max(len(self._names[key]) for key in ends)
      return [key for key in ends if len(self._names[key]) == longest]
    return [key for key in keys if f'/{self._names[key]}'.endswith(f'/{name}')]

  def _of_last(self, name: str) -> list:
    """The images with the same last part of their path."""
    return self._last.get(posixpath.basename(name), [])

  def _of_stem(self, name: str) -> list:
    """The images of a path without its ending."""
    return self._stems.get(name, [])

  def _of_last_stem(self, name: str) -> list:
    """The images whose last part is a name without its ending."""
    return self._last_stems.get(name, [])


def _stem(name: str) -> str:
  """A name without its ending."""
  return posixpath.splitext(name)[0]


def _forms(name: str) -> Iterator[str]:
  """A name as it is, and the paths that it may mean."""
  yield name
  for each in (*writings(name), *writings(file_names.decoded(name))):
    yield posixpath.normpath(each)


def writings(name: str) -> list[str]:
  r"""What another system or a labelling tool may mean by an image's name.

  Args:
    name: The name: a path, with '\' on Windows; or an address.

  Returns:
    The name as it stands; with '/' for a backslash; without the percent signs
    of an address; the file of an address of Label Studio's local storage,
    /data/local-files/?d=folder/a.jpg; or else an address without its query. The
    last one is the likeliest path.
  """
  slashed = lambda text: text.replace('\\', '/')
  found = [name, slashed(name), unquote(name), slashed(unquote(name))]
  local = re.search(r'[?&]d=(([^&#]+).*)', name)
  if local:
    found += [slashed(unquote(path)) for path in local.groups()]
  elif '://' in name or '?' in name:
    found.append(slashed(unquote(re.sub(r'[?#].*', '', name))))
  return list(dict.fromkeys(each for each in found if each))
