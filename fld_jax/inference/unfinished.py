"""What an interrupted prediction has finished, and is taken up again.

While `--mode=predict` works, what it has found stands in one file of the output
folder, NAME, a JSON object a line:

  {"format": 3, "run": "...", "settings": {...}}        the first line
  {"item": "...", "image": "a.jpg", "found": {...}}     an item
  {"item": "...", "image": "b.jpg", "failure": "..."}   one that cannot be used

`item` is a digest of all that the result depends on beside the run: the photo's
name, size and time, the box and the type. So whatever ends the program, the
same command goes on where it was; what has changed since is done again; and a
file of another run or with other settings counts for nothing. Memory holds a
number for each item, never the results.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fld_jax.errors import printable
from fld_jax.inference.item_boxes import Item
from fld_jax.inference.landmarks import Landmarks
from fld_jax.schema import LandmarkSet

NAME = 'predictions.partial.jsonl'
FORMAT = 3  # of the file; one of another format counts for nothing
_NONE = -1  # the place of an item that has no line


class Unfinished:
  """The results of items on disk, in the order in which they became known.

  A context manager, which closes the file; `remove` ends its life.

  Attributes:
    path: The path of the file.
    begins_anew: What differs, where there was a file of something else; ''
      where there was none, or where the work goes on.
  """

  def __init__(
    self,
    output: pathlib.Path,
    about: dict[str, Any],
    items: Sequence[Item],
    keys: Sequence[bytes],
  ):
    """Opens the file of an output folder, and reads what it already has.

    Args:
      output: The path of the folder, which exists.
      about: What the results depend on, JSON-ready: they count only if the
        file's first line is the same.
      items: The items of this prediction, those of an image side by side.
      keys: The digest of each item, of `item_keys`.
    """
    self.path = output / NAME
    self.begins_anew = ''
    self._items, self._keys = items, keys
    # Where each item's line begins.
    self._places = np.full(len(items), _NONE, np.int64)
    self._file = open(self.path, 'a+b')  # noqa: SIM115
    about = {'format': FORMAT, **about}
    end = self._read(about)
    self._file.truncate(end)
    if not end:
      self._append([about])

  def __enter__(self) -> 'Unfinished':
    return self

  def __exit__(self, *error: Any) -> None:
    self._file.close()

  def _read(self, about: dict[str, Any]) -> int:
    """Finds the items' lines; returns the end of what counts of the file."""
    self._file.seek(0)
    first = self._file.readline()
    if not first.endswith(b'\n'):
      return 0  # new, or ended before its first line was whole
    then = _parsed(first)
    if then != about:
      then = then or {}
      differs = [
        key
        for key in sorted({*then.get('settings', {}), *about['settings']})
        if then.get('settings', {}).get(key) != about['settings'].get(key)
      ]
      if then.get('run') != about['run']:
        differs.insert(0, 'the run')
      self.begins_anew = printable(', '.join(differs)) or 'the form'
      return 0
    index = {key: i for i, key in enumerate(self._keys)}
    end = place = self._file.tell()
    for line in self._file:
      entry = _parsed(line)
      place, end = end, end + len(line)
      if entry is None:
        # A kill or a full disk ended the writing here.
        end = place
        break
      i = index.get(_key_of(entry))
      if i is not None:
        self._places[i] = place
    # An image counts if all its items do: they are drawn together.
    missing = {
      item.image
      for item, place in zip(self._items, self._places, strict=True)
      if place == _NONE
    }
    for i, item in enumerate(self._items):
      if item.image in missing:
        self._places[i] = _NONE
    return end

  def left(self) -> list[int]:
    """The indices of the items that have no result yet."""
    return np.flatnonzero(self._places == _NONE).tolist()

  def num_done(self) -> int:
    """The number of items that have a result or a failure."""
    return int((self._places != _NONE).sum())

  def add(self, entries: Sequence[tuple[int, Landmarks | str]]) -> None:
    """Writes the results of the items of an image, all at once.

    Args:
      entries: The index of each item, with what was found or with the reason
        why nothing was.

    Raises:
      OSError: The disk is full; what was written before is kept.
    """
    lines = []
    for i, found in entries:
      line = {'item': self._keys[i].hex(), 'image': self._items[i].image}
      if isinstance(found, str):
        line['failure'] = found
      else:
        line['found'] = _to_json(found)
      lines.append(line)
    places = self._append(lines)
    for (i, _), place in zip(entries, places, strict=True):
      self._places[i] = place

  def _append(self, lines: Sequence[dict]) -> list[int]:
    """Writes lines; returns where each begins."""
    place = self._file.seek(0, os.SEEK_END)
    encoded = [json.dumps(line).encode() + b'\n' for line in lines]
    self._file.write(b''.join(encoded))
    self._file.flush()
    starts = np.cumsum([place, *map(len, encoded)])
    return starts[:-1].tolist()

  def read(self, i: int, landmark_set: LandmarkSet) -> Landmarks | str:
    """The result of an item, or the reason why it has none.

    Args:
      i: The item's index; it must have a line.
      landmark_set: The N landmarks.
    """
    self._file.seek(int(self._places[i]))
    entry = json.loads(self._file.readline())
    if 'failure' in entry:
      return entry['failure']
    return _from_json(entry['found'], landmark_set)

  def remove(self) -> None:
    """Removes the file: all of it stands elsewhere."""
    self._file.close()
    self.path.unlink(missing_ok=True)


def item_keys(
  root: pathlib.Path, names: Sequence[str], items: Sequence[Item]
) -> list[bytes]:
  """A digest of each item, which changes with its photo and its box.

  Args:
    root: The folder of the photos.
    names: The name of each item's photo below `root`.
    items: The items.
  """
  keys, seen = [], {}
  state = last = None
  for name, item in zip(names, items, strict=True):
    if name != last:
      last, state = name, _state(root / name)
    box = None if item.box is None else np.asarray(item.box).tolist()
    what = [item.image, state, box, item.clothes_type]
    key = hashlib.sha256(json.dumps(what).encode()).digest()[:16]
    # The same box may stand twice on an image.
    seen[key] = seen.get(key, 0) + 1
    if seen[key] > 1:
      again = json.dumps([*what, seen[key]]).encode()
      key = hashlib.sha256(again).digest()[:16]
    keys.append(key)
  return keys


def _state(path: pathlib.Path) -> list[int] | None:
  """Numbers that change with a file; None if nothing is known of it."""
  try:
    stat = os.stat(path)
  except (OSError, ValueError):  # reading it will say what it is
    return None
  return [stat.st_size, stat.st_mtime_ns, stat.st_mode]


def _parsed(line: bytes) -> dict | None:
  """The object of a line; None for a line that is not whole."""
  if not line.endswith(b'\n'):
    return None
  try:
    entry = json.loads(line)
  except (ValueError, RecursionError):
    return None
  return entry if isinstance(entry, dict) else None


def _key_of(entry: dict) -> bytes | None:
  """The digest of a line's item; None if the line has no whole result."""
  if not isinstance(entry.get('failure'), str):
    found = entry.get('found')
    if not isinstance(found, dict) or found.keys() != _FIELDS:
      return None
  try:
    return bytes.fromhex(entry.get('item', ''))
  except (TypeError, ValueError):
    return None


_FIELDS = {
  'box',
  'positions',
  'present',
  'visibility',
  'visibility_probs',
  'confidence',
  'score',
  'route',
  'category',
  'image_size',
  'error_50',
  'error_90',
  'attributes',
}


def _to_json(found: Landmarks) -> dict[str, Any]:
  """The fields of an item's landmarks that results are written from."""
  plain = lambda value: value.tolist() if hasattr(value, 'tolist') else value
  return {name: plain(getattr(found, name)) for name in sorted(_FIELDS)}


def _from_json(entry: dict[str, Any], landmark_set: LandmarkSet) -> Landmarks:
  """The landmarks that `_to_json` made an object of, without their stages."""
  probs = entry['visibility_probs']
  array = lambda value: None if value is None else np.array(value)
  return Landmarks(
    landmark_set=landmark_set,
    box=np.array(entry['box']),
    positions=np.array(entry['positions']).reshape(-1, 2),
    present=np.array(entry['present'], bool),
    visibility=entry['visibility'] and tuple(entry['visibility']),
    visibility_probs=array(probs),
    confidence=np.array(entry['confidence']),
    score=entry['score'],
    route=tuple(entry['route']),
    stages={},
    category=entry['category'],
    image_size=entry['image_size'] and tuple(entry['image_size']),
    error_50=array(entry['error_50']),
    error_90=array(entry['error_90']),
    attributes=entry['attributes'],
  )
