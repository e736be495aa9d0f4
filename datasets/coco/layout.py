"""Where annotation files and images lie in a folder.

  annotations/train.json, val.json     images/         our own layout
  annotations/person_keypoints_...     images/default/ CVAT
  result.json                          images/         Label Studio
  train/_annotations.coco.json         train/, valid/  Roboflow
  labels.json                          data/           FiftyOne

The settings `config.dataset.annotations` and `images` say where files are. What
is not there is looked for where such tools put it. One file without splits is
enough: a fixed share of its images, by the hash of their names, is val.
"""

import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from fld_jax.errors import InputError, printable
from fld_jax.files.inside import inside
from fld_jax.files.json_files import read_json

# What the files and folders of a split are called.
WORDS = {
  'train': ('train', 'training'),
  'val': ('val', 'valid', 'validation', 'dev'),
  'test': ('test', 'testing'),
}
VAL_SHARE = 0.2  # of the images of a file without splits
# Where images lie below a data set's folder or beside its file.
_IMAGE_FOLDERS = ('images', 'data', 'imgs', 'img', '.')
_MAX_FILES, _MAX_DEPTH = 500, 3  # of files that are looked at


@dataclasses.dataclass(frozen=True)
class Source:
  """A file of annotations.

  Attributes:
    path: The path of the file.
    split: 'train', 'val' or 'test'; '' if val is split off from it.
    root: The data set's folder.
    folders: The folders in which its images are looked for, in order.
  """

  path: Path
  split: str
  root: Path
  folders: tuple[str, ...]

  def image_path(self, name: str, place: str) -> str:
    """The path of an image's file.

    It is looked for under the name as it stands; with '/' for a backslash;
    decoded, where it is encoded as in an address; without its first folders,
    which may be those of another machine.

    Args:
      name: The image's name in the file of annotations.
      place: The place of the name, for messages.

    Returns:
      The path of the first file that exists, or the path under the name as it
      stands if none does.

    Raises:
      InputError: The name leads out of the data set's folder, and there is no
        file of its last part in it.
    """
    refused = None
    for each in _writings(name):
      for folder in self.folders:
        try:
          path = inside(folder, each, place, (*self.folders, self.root))
        except InputError as mistake:
          refused = refused or mistake
          continue
        if os.path.isfile(path):
          return path
    if refused:
      raise refused
    return os.path.join(self.folders[0], name)


def _writings(name: str) -> Iterator[str]:
  """The name as it stands, then as it may be meant."""
  plain = name.replace('\\', '/')
  decoded = unquote(re.sub(r'[?#].*', '', plain))
  seen = dict.fromkeys([name, plain, unquote(plain), decoded])
  parts = [part for part in decoded.split('/') if part not in ('', '..', '.')]
  yield from seen
  for i in range(1, len(parts)):
    tail = '/'.join(parts[i:])
    if tail not in seen:
      yield tail


def files_of_splits(
  manual_dir: str | os.PathLike, place: str, field: str
) -> dict[str, tuple[Path, str]]:
  """The files of a setting with {split} that there are.

  Args:
    manual_dir: The data set's folder.
    place: The value of the setting, a path below the folder with {split}.
    field: The name of the setting, for messages.

  Returns:
    Split -> (path, the word that stands for the split in it).

  Raises:
    InputError: A split has two files, under two of its words.
  """
  root = Path(manual_dir).expanduser()
  found = {}
  for split, words in WORDS.items():
    paths = {word: root / place.replace('{split}', word) for word in words}
    there = {word: path for word, path in paths.items() if path.is_file()}
    if len(there) > 1:
      raise InputError(
        f'{root}: {" and ".join(map(str, there.values()))} are both files of '
        f'{field} for {split}, must be one',
        'missing',
      )
    for word, path in there.items():
      found[split] = path, word
  return found


def sources(
  manual_dir: str | os.PathLike, annotations: str, images: str
) -> list[Source]:
  """The files of annotations of a data set.

  Args:
    manual_dir: The data set's folder, or its one file of annotations.
    annotations: The path of the files below it, with {split} where those of
      train, val and test differ; or of one file.
    images: The folder of the images below it, perhaps with {split}.

  Returns:
    The files, train before val before test.

  Raises:
    InputError: There is no such file, or several that could be meant.
  """
  root = Path(os.path.abspath(Path(manual_dir).expanduser()))
  if root.is_file():
    root, annotations = root.parent, root.name
    if annotations.lower().endswith(('.zip', '.tar', '.gz', '.7z', '.rar')):
      raise InputError(
        f'{root / annotations}: is an archive, must be a folder: unpack it',
        'missing',
      )
  if '{split}' in annotations:
    found = files_of_splits(root, annotations, 'annotations')
  else:
    path = root / annotations
    found = {'': (path, '')} if annotations and path.is_file() else {}
  if not found:
    found = _search(root, annotations)
  if [*found] == ['train']:  # val is split off
    found = {'': found['train']}
  return [
    Source(path, split, root, _image_folders(root, images, path, word))
    for split, (path, word) in found.items()
  ]


def _image_folders(
  root: Path, images: str, path: Path, word: str
) -> tuple[str, ...]:
  """The folders in which the images of a file can lie, in order."""
  words = [word] if word else ['default', *(w for w in WORDS['train'])]
  of_setting = [images.replace('{split}', w) for w in words]
  # person_keypoints_val2017.json belongs to val2017/.
  year = re.search(rf'{word}\d+', path.stem) if word else None
  words = [*words, *([year.group()] if year else [])]
  below = [
    *of_setting,
    *(f'{folder}/{w}' for folder in _IMAGE_FOLDERS for w in words),
    *_IMAGE_FOLDERS,
  ]
  places = [os.path.join(root, folder) for folder in below]
  places += [os.path.join(path.parent, folder) for folder in _IMAGE_FOLDERS]
  places = dict.fromkeys(map(os.path.normpath, places))
  first = os.path.join(root, of_setting[0])
  return (first, *(p for p in places if p != first and os.path.isdir(p)))


def _search(root: Path, annotations: str) -> dict[str, tuple[Path, str]]:
  """The files of annotations anywhere in a folder, as `files_of_splits`."""
  expected = f'{root / annotations}'
  if not root.is_dir():
    raise InputError(f'{root}: this folder is missing', 'missing')
  found: dict[str, list[tuple[Path, str]]] = {}
  damaged = None
  for path in _json_files(root):
    try:
      good = _has_landmarks(path)
    except InputError as mistake:
      good, damaged = False, damaged or mistake
    if good:
      split, word = _split_of(path.relative_to(root))
      found.setdefault(split, []).append((path, word))
  named = {split: found[split] for split in WORDS if split in found}
  choice = named or found
  if not choice and damaged:
    raise damaged
  if not choice:
    raise InputError(
      f'{root}: there is no file of annotations, must be one at {expected} or '
      'elsewhere in the folder: a .json in the form of COCO, with categories '
      'that have keypoints',
      'missing',
    )
  for split, files in choice.items():
    if len(files) > 1:
      names = [str(path.relative_to(root)) for path, _ in files]
      raise InputError(
        f'{root}: {" and ".join(names[:4])} could all be the file of '
        f'annotations{f" of {split}" if split else ""}: name one with '
        f"--config.dataset.annotations='{names[0]}', or with {{split}} where "
        'the files of train, val and test differ',
        'missing',
      )
  return {split: files[0] for split, files in choice.items()}


def _json_files(root: Path) -> Iterable[Path]:
  """JSON files, at most so many and so deep."""
  count = 0
  for folder, names, files in os.walk(root):
    depth = len(Path(folder).relative_to(root).parts)
    names[:] = (
      []
      if depth >= _MAX_DEPTH
      else sorted(name for name in names if not name.startswith('.'))
    )
    for name in sorted(files):
      if name.lower().endswith('.json') and not name.startswith('.'):
        count += 1
        if count > _MAX_FILES:
          return
        yield Path(folder, name)


@functools.lru_cache(maxsize=_MAX_FILES)
def _has_landmarks(path: Path) -> bool:
  """Whether a file is one of annotations with landmarks."""
  data = read_json(path)
  if not isinstance(data, dict):
    return False
  lists = [data.get(key) for key in ('images', 'annotations', 'categories')]
  return all(isinstance(each, list) for each in lists) and any(
    isinstance(category, dict) and category.get('keypoints')
    for category in data['categories']
  )


def _split_of(path: Path) -> tuple[str, str]:
  """The split that a path names, last part first, and the word; or '', ''."""
  for part in [path.stem, *path.parts[-2::-1]]:
    for split, words in WORDS.items():
      for word in sorted(words, key=len, reverse=True):
        if re.search(rf'(?<![a-z]){word}(?![a-z])', part, re.IGNORECASE):
          return split, re.search(word, part, re.IGNORECASE).group()
  return '', ''


def val_images(names: Iterable[str]) -> frozenset[str]:
  """The images of a file without splits that are val.

  Args:
    names: The names of the images that have landmarks.

  Returns:
    Those whose hash lies in the lowest VAL_SHARE of all hashes, so that more
    images change no other's split; at least one of two and more.
  """
  key = lambda name: hashlib.sha256(name.encode()).digest()
  ordered = sorted(set(names), key=key)
  limit = int(VAL_SHARE * 2**32)
  chosen = [n for n in ordered if int.from_bytes(key(n)[:4], 'big') < limit]
  if len(ordered) > 1:
    chosen = (chosen or ordered[:1])[: len(ordered) - 1]
  else:
    chosen = []
  return frozenset(chosen)


def describe(found: list[Source]) -> list[str]:
  """What is worth saying of the files that were found, a line each.

  Args:
    found: The sources of a data set.
  """
  lines = []
  for source in found:
    name = printable(os.path.relpath(source.path, source.root))
    if not source.split:
      lines.append(
        f'{name} is the only file: {VAL_SHARE:.0%} of its images, by the hash '
        'of their names, are val, the others train'
      )
    else:
      lines.append(f'{name} is {source.split}')
  return lines
