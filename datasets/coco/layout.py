"""Where annotation files and images lie in a folder.

  annotations/train.json, val.json     images/         our own layout
  annotations/person_keypoints_...     images/default/ CVAT
  result.json                          images/         Label Studio
  train/_annotations.coco.json         train/, valid/  Roboflow
  labels.json                          data/           FiftyOne

The settings `config.dataset.annotations` and `images` say where files are. What
is not there is looked for where such tools put it, and never taken if it could
be something else: two files of one split, or two images of one name that
differ, are refused. One file without splits is enough: a fixed share of its
images, by the hash of their names, is val.
"""

import dataclasses
import filecmp
import functools
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from fld_jax.errors import InputError, printable
from fld_jax.files import image_names
from fld_jax.files.inside import inside
from fld_jax.files.json_files import read_json

# What the files and folders of a split are called.
WORDS = {
  'train': ('train', 'training'),
  'val': ('val', 'valid', 'validation', 'dev'),
  'test': ('test', 'testing'),
}
VAL_SHARE = 0.2  # of the images of a file without splits
IMAGES = 'images'  # the value of config.dataset.images if nobody sets it
# Where images lie below a data set's folder or beside its file.
_IMAGE_FOLDERS = ('images', 'data', 'imgs', 'img', '.')
_ARCHIVES = ('.zip', '.tar', '.gz', '.tgz', '.bz2', '.xz', '.7z', '.rar')
# Of the JSON files that are looked at: so many, of each folder, and so deep.
_MAX_FILES, _MAX_IN_FOLDER, _MAX_DEPTH = 500, 50, 3
_SMALL = 1 << 16  # bytes of a file that is parsed whatever words it has
_MAX_TREE = 300_000  # files of a folder in which an image is looked for


@dataclasses.dataclass(frozen=True)
class Source:
  """A file of annotations.

  Attributes:
    path: The path of the file.
    split: 'train', 'val' or 'test'; '' if val is split off from it.
    root: The data set's folder.
    folders: The folders in which its images are looked for, in order.
    is_exact: Whether the settings name the first of the folders: what lies
      there is the image, whatever lies in the other folders.
    tree: The files of the data set's folder.
    others: The other files of annotations of the data set.
    unused: Files of annotations in the folder that are no part of the data set.
  """

  path: Path
  split: str
  root: Path
  folders: tuple[str, ...]
  is_exact: bool
  tree: '_Tree'
  others: tuple['Source', ...] = ()
  unused: tuple[Path, ...] = ()

  def image_path(self, name: str, place: str) -> str:
    """The path of an image's file, which `find_image` looks for.

    Args:
      name: The image's name in the file of annotations.
      place: The place of the name, for messages.

    Raises:
      InputError: The name leads out of the data set's folder, or several files
        could be meant.
    """
    return self.find_image(name, place)[0]

  def find_image(self, name: str, place: str) -> tuple[str, bool]:
    """Looks for an image's file.

    It is looked for in the folders of this file of annotations, under the name
    as it stands; with '/' for a backslash; decoded, where it is encoded as in
    an address; and then, as a guess, without its first folders, which may be
    those of another machine; and at last anywhere in the data set's folder.

    Args:
      name: The image's name in the file of annotations.
      place: The place of the name, for messages.

    Returns:
      The path of the file, or if there is none the path under the name as it
      stands; and whether it is a guess.

    Raises:
      InputError: The name leads out of the data set's folder, and there is no
        file of its last part in it; or several files could be meant, or what is
        found could be another image as well.
    """
    found, is_guess = self._resolve(name, place)
    if found and is_guess:
      self._check_guess(name, found, place)
    if not found:
      found, is_guess = self._anywhere(name, place), True
    if found:
      return found, is_guess
    # A name that leads out is refused, whether there is a file or not.
    inside(self.folders[0], name, place, (*self.folders, self.root))
    return os.path.join(self.folders[0], name), False

  def _resolve(self, name: str, place: str) -> tuple[str | None, bool]:
    """The file in the folders of this source, and whether it is a guess."""
    refused = None
    for each in image_names.writings(name):
      try:
        found = self._in_folders(each, place)
      except InputError as mistake:
        refused = refused or mistake
        continue
      if found:
        return found, False
    for tail in _tails(name):
      found = self._in_folders(tail, place)
      if found:
        return found, True
    if refused:
      raise refused
    return None, False

  def _in_folders(self, name: str, place: str) -> str | None:
    """The file of this name in the first folder that has one."""
    found = []
    for folder in self.folders:
      path = os.path.join(folder, name)
      if os.path.isfile(path):
        found.append(inside(folder, name, place, (*self.folders, self.root)))
        if self.is_exact and folder == self.folders[0]:
          break
    for other in found[1:]:
      if not os.path.samefile(found[0], other) and not filecmp.cmp(
        found[0], other, shallow=False
      ):
        raise InputError(
          f'{place}: the image file {printable(name, 4096)} is in '
          f'{self._relative(found[0])} and in {self._relative(other)}, and '
          'they differ: name the folder with '
          f'--config.dataset.images={self._setting(found[0], name)} or '
          f'{self._setting(other, name)}',
          'image',
        )
    return found[0] if found else None

  def _relative(self, path: str) -> str:
    return printable(os.path.relpath(path, self.root), 4096)

  def _setting(self, path: str, name: str) -> str:
    """A value of config.dataset.images that leads to a file of this name."""
    folder = os.path.relpath(path.removesuffix(name), self.root)
    for word in WORDS.get(self.split, ()):
      folder = re.sub(rf'(?<![a-z]){word}(?![a-z])', '{split}', folder)
    return f'{printable(folder, 4096)}/'  # so not the default, which guesses

  def _check_guess(self, name: str, path: str, place: str) -> None:
    """Refuses a file that another listed name leads to as well."""
    for source, other in self._namesakes(name):
      try:
        there, _ = source._resolve(other, '')
      except InputError:  # it is refused when it is read
        continue
      if there == path and _parts(other) != _parts(name):
        raise InputError(
          f'{place}: the image file {printable(name, 4096)} is missing; '
          f'{self._relative(path)} could be that, and that of '
          f"'{printable(other)}' in {self._relative(str(source.path))}, must "
          'be one of them: keep the folders that the names have',
          'image',
        )

  def _anywhere(self, name: str, place: str) -> str | None:
    """The one file of the data set's folder that can be meant, or None."""
    found = []
    for path in self.tree.files.get(_last(name), ()) if _last(name) else ():
      folder = Path(os.path.relpath(path, self.root)).parent
      if not self.split or _split_of(folder / '_')[0] in ('', self.split):
        found.append(path)  # never one of another split
    names = self._namesakes(name)
    is_alone = all(
      source is self and _parts(other) == _parts(name)
      for source, other in names
    )
    if len(found) != 1 or not is_alone:
      return None
    return inside(self.root, found[0], place, (*self.folders, self.root))

  def _namesakes(self, name: str) -> list[tuple['Source', str]]:
    """The listed names with the same last part, each with its source."""
    return [
      (source, other)
      for source in (self, *self.others)
      for other in _listed(source.path, source.path.stat().st_mtime_ns).get(
        _last(name), ()
      )
    ]


class _Tree:
  """The files of a folder, which are listed once an image is looked for.

  Args:
    root: The path of the folder.
  """

  def __init__(self, root: Path):
    self._root = root

  @functools.cached_property
  def files(self) -> dict[str, list[str]]:
    """The last part of a path, as `_plain` has it -> the paths of files."""
    found: dict[str, list[str]] = {}
    count = 0
    for folder, names, files in os.walk(self._root):
      names[:] = sorted(name for name in names if not name.startswith('.'))
      count += len(files)
      if count > _MAX_TREE:
        return {}
      for name in sorted(files):
        if not name.startswith('.'):
          found.setdefault(_plain(name), []).append(os.path.join(folder, name))
    return found


def _plain(name: str) -> str:
  """A name in the one writing of all systems: of letters and their case."""
  return unicodedata.normalize('NFC', name).casefold()


def _parts(name: str) -> tuple[str, ...]:
  """The folders and the file of a name, as it may be meant."""
  last = [name, *image_names.writings(name)][-1]
  return tuple(part for part in last.split('/') if part not in ('', '..', '.'))


def _last(name: str) -> str:
  """The last part of a name, as `_plain` has it; '' if it has none."""
  return _plain(''.join(_parts(name)[-1:]))


def _tails(name: str) -> list[str]:
  """The name without its first folders, the longest first."""
  writings = image_names.writings(name)
  found: dict[str, None] = {}
  for each in writings[1:] or writings:
    parts = [part for part in each.split('/') if part not in ('', '..', '.')]
    found |= {'/'.join(parts[i:]): None for i in range(len(parts))}
  ordered = [tail for tail in found if tail not in writings]
  return sorted(ordered, key=lambda tail: -tail.count('/'))


@functools.lru_cache(maxsize=16)
def _listed(path: Path, modified: int) -> dict[str, list[str]]:
  """The names of images in a file of annotations, by their last parts."""
  del modified  # a changed file is read anew
  images = read_json(path).get('images')
  found: dict[str, dict[str, None]] = {}
  for image in images if isinstance(images, list) else ():
    name = image.get('file_name') if isinstance(image, dict) else None
    if isinstance(name, str) and name:
      found.setdefault(_last(name), {})[name] = None
  return {last: list(names) for last, names in found.items()}


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
        f'{field} for {split}, must be one: move the other one out of the '
        'folder',
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
    if annotations.lower().endswith(_ARCHIVES):
      raise InputError(
        f'{root / annotations}: is an archive, must be a folder: unpack it and '
        'give its folder, --manual_dir=FOLDER',
        'missing',
      )
  unused: list[Path] = []
  if '{split}' in annotations:
    found = files_of_splits(root, annotations, 'annotations')
  else:
    path = root / annotations
    found = {'': (path, '')} if annotations and path.is_file() else {}
    if annotations and not found and root.is_dir():
      raise _missing(root, annotations)
  is_named = bool(found)
  if not found:
    found, unused = _search(root, annotations)
  elif [*found] == ['train']:  # those of other splits may have other names
    more, unused = _choose(
      root,
      [
        path
        for path in _candidates(root)[0]
        if _split_of(path.relative_to(root))[0] != 'train'
      ],
    )
    found |= {split: more[split] for split in WORDS if split in more}
    unused += [more[''][0]] if '' in more else []
  if [*found] == ['train']:  # val is split off
    found = {'': found['train']}
  tree, sources = _Tree(root), []
  for split, (path, word) in found.items():
    exact, folders = _image_folders(root, images, path, split, word, is_named)
    sources.append(Source(path, split, root, folders, exact, tree))
  return [
    dataclasses.replace(
      source,
      others=tuple(other for other in sources if other is not source),
      unused=tuple(dict.fromkeys(unused)),
    )
    for source in sources
  ]


def _image_folders(
  root: Path, images: str, path: Path, split: str, word: str, is_named: bool
) -> tuple[bool, tuple[str, ...]]:
  """The folders in which the images of a file can lie, in order.

  Args:
    root: The data set's folder.
    images: The value of config.dataset.images.
    path: The path of the file of annotations.
    split: The split of the file; '' if val is split off from it.
    word: The word for the split in the file's name.
    is_named: Whether the settings name the file, so that it was not searched.

  Returns:
    Whether the first is the one that the settings name, and the folders.
  """
  own = [word] if word else ['default']
  splits = [split] if split else ['train'] if word else [*WORDS]
  words = dict.fromkeys([*own, *(w for each in splits for w in WORDS[each])])
  of_setting = [
    os.path.normpath(os.path.join(root, images.replace('{split}', each)))
    for each in words
  ]
  there = [folder for folder in of_setting if os.path.isdir(folder)]
  first = (there or of_setting)[0]
  if images != IMAGES and is_named:
    return True, tuple(dict.fromkeys([first, *there]))
  # person_keypoints_val2017.json belongs to val2017/.
  year = re.search(rf'{word}\d+', path.stem) if word else None
  words = [*words, *([year.group()] if year else [])]
  below = [f'{folder}/{each}' for folder in _IMAGE_FOLDERS for each in words]
  below += [f'{each}/{folder}' for each in words for folder in _IMAGE_FOLDERS]
  places = [
    *there,
    *(os.path.join(root, folder) for folder in (*below, *_IMAGE_FOLDERS)),
    *(os.path.join(path.parent, folder) for folder in _IMAGE_FOLDERS),
  ]
  places = dict.fromkeys(map(os.path.normpath, places))
  found = [place for place in places if place != first and os.path.isdir(place)]
  is_exact = images != IMAGES or (is_named and '{split}' not in images)
  return is_exact and bool(there), (first, *found)


def _missing(root: Path, annotations: str) -> InputError:
  """The error for a setting that names a file which is not there."""
  names = [str(path.relative_to(root)) for path in _candidates(root)[0]]
  example = f', for example {names[0]}' if names else ''
  return InputError(
    f"{root}: config.dataset.annotations is '{printable(annotations)}', and "
    f'there is no such file, must be one in this folder{example}',
    'missing',
  )


def _search(
  root: Path, annotations: str
) -> tuple[dict[str, tuple[Path, str]], list[Path]]:
  """The files of annotations anywhere in a folder.

  Returns:
    What `files_of_splits` returns, and other files of annotations.
  """
  if not root.is_dir():
    raise InputError(f'{root}: this folder is missing', 'missing')
  candidates, damaged = _candidates(root)
  if not candidates and damaged:
    raise damaged
  if not candidates:
    archives = [
      name
      for name in sorted(os.listdir(root))
      if name.lower().endswith(_ARCHIVES)
    ]
    unpack = f'; {archives[0]} is an archive: unpack it' if archives else ''
    raise InputError(
      f'{root}: there is no file of annotations, must be one at '
      f'{root / annotations} or elsewhere in the folder: a .json in the form '
      f'of COCO, with categories that have keypoints{unpack}',
      'missing',
    )
  return _choose(root, candidates)


def _candidates(root: Path) -> tuple[list[Path], InputError | None]:
  """The files of landmarks in a folder, and what is wrong with another one."""
  found, damaged = [], None
  for path in _json_files(root):
    try:
      if _has_landmarks(path, path.stat().st_mtime_ns):
        found.append(path)
    except InputError as mistake:
      damaged = damaged or mistake
    except OSError:  # a link to nothing
      continue
  return found, damaged


def _choose(
  root: Path, candidates: list[Path]
) -> tuple[dict[str, tuple[Path, str]], list[Path]]:
  """The file of each split, as `files_of_splits`, and the files without one."""
  found: dict[str, list[tuple[Path, str]]] = {}
  for path in candidates:
    split, word = _split_of(path.relative_to(root))
    found.setdefault(split, []).append((path, word))
  choice = {split: found[split] for split in WORDS if split in found} or found
  for split, files in choice.items():
    if len(files) > 1:
      names = [str(path.relative_to(root)) for path, _ in files]
      setting = names[0]
      if split:
        head, _, tail = setting.rpartition(files[0][1])
        setting = f'{head}{{split}}{tail}'
      raise InputError(
        f'{root}: {" and ".join(map(printable, names[:4]))} could all be the '
        f'file of annotations{f" of {split}" if split else ""}: name one with '
        f"--config.dataset.annotations='{printable(setting)}'",
        'missing',
      )
  unused = [path for path, _ in found.get('', ())] if '' not in choice else []
  return {split: files[0] for split, files in choice.items()}, unused


def _json_files(root: Path) -> list[Path]:
  """JSON files, at most so many and so deep, the likeliest of each folder."""
  found: list[Path] = []
  for folder, names, files in os.walk(root):
    depth = len(Path(folder).relative_to(root).parts)
    names[:] = (
      []
      if depth >= _MAX_DEPTH
      else sorted(name for name in names if not name.startswith('.'))
    )
    paths = [
      Path(folder, name)
      for name in files
      if name.lower().endswith('.json') and not name.startswith('.')
    ]
    # Files of one image each are numbered, those of a data set are not.
    digits = lambda path: sum(map(str.isdigit, path.stem))
    paths.sort(key=lambda p: (not _split_of(Path(p.name))[0], digits(p), p))
    found += sorted(paths[:_MAX_IN_FOLDER])
    if len(found) >= _MAX_FILES:
      break
  return found[:_MAX_FILES]


@functools.lru_cache(maxsize=_MAX_FILES)
def _has_landmarks(path: Path, modified: int) -> bool:
  """Whether a file is one of annotations with landmarks."""
  del modified  # a changed file is read anew
  if path.stat().st_size > _SMALL:  # only looked through, which is quick
    raw = path.read_bytes()
    words = (b'"annotations"', b'"categories"', b'"keypoints"')
    if 0 not in raw[:4] and not all(word in raw for word in words):
      return False
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
        found = re.search(rf'(?<![a-z]){word}(?![a-z])', part, re.IGNORECASE)
        if found:
          return split, found.group()
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
  for path in found[0].unused if found else ():
    name = printable(os.path.relpath(path, found[0].root))
    lines.append(f'{name} is not used, its name tells no split of its own')
  return lines
