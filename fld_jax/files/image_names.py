r"""Images by the names that other programs give them.

A name stands for the image of that path; with '\' for '/', './' before it or
the percent signs of a URL it does, too. Failing that, for the one image whose
path ends with it, or that it ends with; then for the one image of its last
part, 05000.jpg for img/05000.jpg; then for the one of this name without an
ending.
"""

import posixpath
import urllib.parse
from collections.abc import Hashable, Iterator, Mapping

from fld_jax.files import file_names


class ImageNames:
  """Finds images by name; the same file may be several images."""

  def __init__(self, names: Mapping[Hashable, str]):
    """Indexes the images.

    Args:
      names: Key of an image -> its name, a path.
    """
    self._exact: dict[str, list] = {}
    self._last: dict[str, list] = {}
    self._stems: dict[str, list] = {}
    self._names = names
    for key, name in names.items():
      plain = posixpath.normpath(name.replace('\\', '/'))
      for text in {name, plain}:
        self._exact.setdefault(text, []).append(key)
      last = posixpath.basename(plain)
      self._last.setdefault(last, []).append(key)
      for stem in {posixpath.splitext(plain)[0], posixpath.splitext(last)[0]}:
        self._stems.setdefault(stem, []).append(key)

  def find(self, name: str) -> list:
    """The keys of the images that a name may stand for, [] if there are none.

    Several are returned where one file is several images, or where the name
    tells too little.

    Args:
      name: The name.
    """
    for form in _forms(name):
      if form in self._exact:
        return self._exact[form]
    several = []
    for find in (self._of_end, self._last.get, self._stems.get):
      for form in _forms(name):
        last = form if find != self._last.get else posixpath.basename(form)
        found = find(last) or []
        if self._is_one(found):
          return found
        several = several or found
    return several

  def find_number(self, number: int) -> list:
    """The keys of the images whose name without its ending is a number.

    Args:
      number: The number, which the name may write with zeros before it.
    """
    return self._numbers.get(number, [])

  @property
  def _numbers(self) -> dict[int, list]:
    if not hasattr(self, '_by_number'):
      self._by_number: dict[int, list] = {}
      for last, keys in self._last.items():
        stem = posixpath.splitext(last)[0]
        if stem.isascii() and stem.isdigit() and len(stem) < 19:
          self._by_number.setdefault(int(stem), []).extend(keys)
    return self._by_number

  def _is_one(self, keys: list) -> bool:
    """Whether all keys are images of one file."""
    return bool(keys) and len({self._names[key] for key in keys}) == 1

  def _of_end(self, name: str) -> list:
    """The images whose path ends with a name, or that the name ends with."""
    return [
      key
      for key in self._last.get(posixpath.basename(name), ())
      if f'/{self._names[key]}'.endswith(f'/{name}')
      or f'/{name}'.endswith(f'/{self._names[key]}')
    ]


def _forms(name: str) -> Iterator[str]:
  """A name as it is, and as other systems and tools write it."""
  yield name
  plain = urllib.parse.unquote(name)
  # Of Label Studio's local storage, /data/local-files/?d=NAME.
  stored = plain.rpartition('?d=')[2]
  for form in dict.fromkeys((name, file_names.decoded(name), plain, stored)):
    yield posixpath.normpath(form)
    yield posixpath.normpath(form.replace('\\', '/'))
