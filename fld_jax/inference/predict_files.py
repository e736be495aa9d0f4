"""Predicts the landmarks on image files: `--mode=predict`.

  DIR/predictions.json   a whole COCO file, with the ids and names of the COCO
                         file that the boxes come from
  DIR/predictions.csv    the same, one line an item
  DIR/label_studio.json, label_studio.xml, cvat.json
                         to start from in these tools; if asked for
  DIR/measures.csv, size_chart.csv
                         lengths of the items; if asked for
  DIR/ranking.csv        which images to label first; if asked for
  DIR/overlays/NAME      the landmarks drawn on the images
  DIR/overlays/contact_sheet.png
                         some of the items on one sheet, the least sure first
  DIR/failures.csv       items that could not be used, and why; if there are any

Positions are x, y in pixels of the images as viewers show them (EXIF rotation
applied), from their top-left corner. While it works, what is known stands in
the file that `unfinished` describes.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import itertools
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from fld_jax.errors import InputError, Unwritable
from fld_jax.files import atomic, file_names
from fld_jax.files.images import read
from fld_jax.inference import (
  item_boxes,
  measures,
  photos,
  prediction_sheet,
  ranking,
  result_files,
  scales,
)
from fld_jax.inference.coco_output import Export
from fld_jax.inference.landmarks import Landmarks, overlay
from fld_jax.inference.predictor import Predictor
from fld_jax.inference.result_files import Formats, ResultFiles
from fld_jax.inference.unfinished import NAME, Unfinished, item_keys
from fld_jax.schema import LandmarkSet

THREADS = 8  # threads that draw overlays
MAX_PRINTED_FAILURES = 5  # all of them are in failures.csv
FILES = (*result_files.FILES, 'failures.csv')
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes that file systems take


def predict_files(
  config: ConfigDict,
  workdir: pathlib.Path,
  images: str,
  boxes: pathlib.Path | None,
  output: pathlib.Path,
  overlays: bool = True,
  formats: Formats | None = None,
  runtime: str = 'jax',
) -> dict:
  """Predicts the landmarks of the items on image files.

  What an interrupted call has finished is taken up by the same call.

  Args:
    config: The run's config.
    workdir: The run's folder.
    images: A file, a folder or a pattern, see `photos.find`.
    boxes: A file with the boxes of the items, see `item_boxes`; images without
      a box are left out. None if each image is one item that fills it.
    output: The folder to write to; it is made if it does not exist.
    overlays: Whether to draw the landmarks on the images.
    formats: What is written beside predictions.json and predictions.csv.
    runtime: What computes the networks, see `predictor.load`.

  Returns:
    `ok`, whether every item was predicted; `num_items`; `failures`, (image,
    reason) of each item that was not, and of each folder or box that cannot be
    read.

  Raises:
    InputError: Nothing can be predicted: there are no images, no finished run,
      a wrong file of boxes, or `output` cannot be written to.
    Unwritable: The disk was full before the end; what is finished is kept.
  """
  start = time.monotonic()
  formats = formats or Formats()
  check_output(output)
  found = photos.find(images, output)
  predictor = Predictor.load(workdir, config, runtime=runtime)
  measuring = _measures(formats, predictor, found.root)
  _say_what_errors_are_known(predictor, workdir)
  if found.left_out:
    print(f'Left out: {photos.describe(found.left_out)}.')
  failures, export = list(found.failures), None
  items = [item_boxes.Item(name, None) for name in found.names]
  if boxes:
    given = item_boxes.read(boxes, predictor.landmark_set.types)
    failures += given.failures
    if given.document is not None:
      export = Export(boxes, given.document)
    items = _with_boxes(given, found.names, boxes)
  failures = [(file_names.encoded(name), why) for name, why in failures]
  names = [item.image for item in items]
  items = [
    dataclasses.replace(item, image=file_names.encoded(item.image))
    for item in items
  ]
  about = {
    'run': predictor.identity,
    'settings': {
      '--images': file_names.encoded(os.path.realpath(found.root)),
      '--overlays': overlays,
    },
  }
  with atomic.unwritable(str(output)):
    output.mkdir(parents=True, exist_ok=True)
  busy = InputError(
    f'--output={output}: another prediction writes to this folder, wait for '
    'its end or give another one'
  )
  with atomic.locked(output, lambda: _raise(busy)), _saved(output) as saved:
    _remove_left(output)
    keys = item_keys(found.root, names, items)
    work = saved(Unfinished(output, about, items, keys))
    _say_what_is_there(work, len(items))
    clock = _FirstAnswer(start)
    _predict(predictor, work, found.root, names, items, output, overlays, clock)
    sheet = prediction_sheet.PredictionSheet()
    failed, notes = _assemble(
      output,
      work,
      found.root,
      names,
      items,
      predictor.landmark_set,
      export,
      formats,
      measuring,
      sheet,
    )
    failures += failed
    if overlays:
      prediction_sheet.write(sheet, output / photos.OVERLAYS)
    _write_failures(output, failures)
    work.remove()
  _print_summary(output, len(items), len(failed), failures, overlays)
  for line in [*notes, f'Predictions: {output}/{", ".join(formats.files)}']:
    print(line, flush=True)
  return {'ok': not failures, 'num_items': len(items), 'failures': failures}


def _measures(
  formats: Formats, predictor: Predictor, root: pathlib.Path
) -> measures.Measures | None:
  """What is measured on the items; None if nothing is."""
  if not formats.measures:
    return None
  found = measures.parse(formats.measures)
  measures.check_names(found, predictor.landmark_set)
  scale = None
  if formats.scale:
    scale = scales.parse(formats.scale, tuple(m.name for m in found), root)
  held_out = predictor.calibration and predictor.calibration.held_out
  return measures.Measures(found, scale, held_out)


def _say_what_errors_are_known(
  predictor: Predictor, workdir: pathlib.Path
) -> None:
  """Says which of error_50 and error_90 the results do not have, and why."""
  if predictor.calibration:
    unknown = predictor.calibration.unknown()
  else:
    unknown = (
      'The results have no error_50 and error_90: the run has not measured '
      'them with these settings. To have them, first --mode=evaluate '
      f'--workdir={shlex.quote(str(workdir))} with the same settings.'
    )
  if unknown:
    print(unknown, flush=True)


def check_output(output: pathlib.Path) -> None:
  """Refuses an output folder that cannot be written to.

  Args:
    output: The path of the folder, which need not exist.

  Raises:
    InputError: The output is a file, lies below one, is read-only, or a folder
      has the name of one of the files to be written.
  """
  problem = atomic.writing_problem(output)
  for name in FILES:
    if (output / name).is_dir():
      problem = problem or f'holds a folder {name}, where a file is to be'
  folder = output / photos.OVERLAYS
  if folder.exists() and (why := atomic.writing_problem(folder)):
    problem = problem or f'holds {photos.OVERLAYS}, which {why}'
  if problem:
    raise InputError(f'--output={output}: {problem}')


def _raise(error: Exception) -> None:
  raise error


@contextlib.contextmanager
def _saved(output: pathlib.Path):
  """Says, when the disk is full, how much of the work is kept.

  Args:
    output: The output folder.

  Yields:
    A function that takes the `Unfinished`, once it is opened, and returns it;
    it is closed at the end.

  Raises:
    Unwritable: The disk is full or read-only.
  """
  work = []

  def register(unfinished: Unfinished) -> Unfinished:
    work.append(unfinished)
    return unfinished

  try:
    with contextlib.ExitStack() as stack:
      yield lambda unfinished: stack.enter_context(register(unfinished))
  except OSError as error:
    problem = atomic.disk_problem(error)
    if problem is None:
      raise
    count = work[0].num_done() if work else 0
    kept = f'{count} finished items are kept in {output / NAME}'
    if not count:
      kept = 'No item was finished'
      (output / NAME).unlink(missing_ok=True)
    raise Unwritable(
      f'{output}: the results could not be written ({problem}). {kept}; mend '
      'that and start the same command again.'
    ) from error


def _remove_left(output: pathlib.Path) -> None:
  """Removes the files that killed predictions left half written."""
  for name in FILES:
    atomic.remove_left(output / name)
  if (output / photos.OVERLAYS).is_dir():
    atomic.remove_unfinished(output / photos.OVERLAYS)


def _with_boxes(
  given: item_boxes.Boxes, names: list[str], path: pathlib.Path
) -> list[item_boxes.Item]:
  """The items of a file of boxes on the given images; says what is left out."""
  items, elsewhere = item_boxes.for_images(given.items, names, path)
  without = len(names) - len({item.image for item in items})
  if elsewhere or without:
    print(
      f'Left out: {without} images without a box, {elsewhere} boxes of '
      'other images.'
    )
  return items


def _say_what_is_there(work: Unfinished, num_items: int) -> None:
  if work.begins_anew:
    print(
      f'{work.path} is of another prediction ({work.begins_anew} differs): '
      'begins anew.',
      flush=True,
    )
  elif work.num_done():
    print(
      f'Goes on after an interruption: {work.num_done()} of {num_items} items '
      f'are finished, in {work.path}.',
      flush=True,
    )


def _predict(
  predictor: Predictor,
  work: Unfinished,
  root: pathlib.Path,
  names: Sequence[str],
  items: Sequence[item_boxes.Item],
  output: pathlib.Path,
  overlays: bool,
  clock: '_FirstAnswer',
) -> None:
  """Predicts and draws the items that have no result yet."""
  left = work.left()
  source = photos.Items(
    [root / names[i] for i in left],
    [items[i].box for i in left],
    predictor.landmark_set.num_landmarks,
    [items[i].clothes_type for i in left],
  )
  drawn = overlay_names(sorted(set(names)), output / photos.OVERLAYS)
  with (
    tqdm(
      total=len(items),
      initial=len(items) - len(left),
      unit='items',
      smoothing=0.1,
    ) as bar,
    _Painter(work.add) as painter,
  ):

    def progress(count: int) -> None:
      bar.update(count)
      painter.save()

    stream = predictor.predict(source, progress)
    found = {}
    for name, group in itertools.groupby(
      range(len(left)), lambda i: names[left[i]]
    ):
      entries = []
      for i in group:
        # What follows is not asked for: it would be a piece of work more.
        while i not in found and i not in source.failures:
          following = next(stream, None)
          if following is None:
            break  # the last items gave no numbers
          clock.answered()
          found[following[0]] = following[1]
        entries.append((left[i], found.pop(i, None) or source.failures[i]))
      painter.add(entries, root / name, drawn[name] if overlays else None)
    collections.deque(stream, maxlen=0)  # to the end of its last batch


class _FirstAnswer:
  """Says how long the first answer took, and how much of it was loading."""

  def __init__(self, start: float):
    """Begins when the run is loaded.

    Args:
      start: When the program began to predict, of `time.monotonic`.
    """
    self._start, self._loaded = start, time.monotonic()
    self._is_said = False

  def answered(self) -> None:
    """Is to be called at every answer."""
    if not self._is_said:
      self._is_said = True
      now = time.monotonic()
      tqdm.write(
        f'First answer after {now - self._start:.1f} s, of which '
        f'{self._loaded - self._start:.1f} s went into loading.',
        file=sys.stdout,
      )


def _assemble(
  output: pathlib.Path,
  work: Unfinished,
  root: pathlib.Path,
  names: Sequence[str],
  items: Sequence[item_boxes.Item],
  landmark_set: LandmarkSet,
  export: Export | None,
  formats: Formats,
  measuring: measures.Measures | None,
  sheet: prediction_sheet.PredictionSheet,
) -> tuple[list[tuple[str, str]], list[str]]:
  """Writes the files of results in the order of the items, or ranked.

  Args:
    output: The folder of the files.
    work: The results of all items.
    root: The folder of the photos.
    names: The name of each item's photo below `root`.
    items: The items.
    landmark_set: The N landmarks.
    export: The COCO file that the boxes come from; None if they come from
      elsewhere.
    formats: The files of results that are written.
    measuring: What is measured on the items; None if nothing is.
    sheet: The sheet, which every result is added to.

  Returns:
    (image, reason) of each item without a result; and sentences about what the
    files do not hold.
  """
  failures = []
  of_image: dict[str, list[int]] = {}
  for i, name in enumerate(names):
    of_image.setdefault(name, []).append(i)
  order: Iterable[str] = of_image
  if formats.ranked:
    images = ranking.Images()
    for i, name in enumerate(names):
      found = work.read(i, landmark_set)
      if not isinstance(found, str):
        images.add(name, found)
    first, table = images.ranked()
    order = ranking.in_order(names, first)
    atomic.write_file(output / ranking.NAME, table)
  with ResultFiles(output, landmark_set, export, formats, measuring) as files:
    for name in order:
      on_image = []
      for i in of_image[name]:
        found = work.read(i, landmark_set)
        if isinstance(found, str):
          failures.append((items[i].image, found))
        else:
          on_image.append((items[i], found))
          sheet.add(root / name, items[i].image, found)
      files.write(name, on_image)
    notes = files.finish()
  return failures, notes


def _print_summary(
  output: pathlib.Path,
  num_items: int,
  num_failed: int,
  failures: list[tuple[str, str]],
  overlays: bool,
) -> None:
  print(f'{num_items - num_failed} of {num_items} items')
  for name, why in failures[:MAX_PRINTED_FAILURES]:
    # Most reasons begin with the path.
    print(f'not predicted: {why if name in why else f"{name}: {why}"}')
  if len(failures) > MAX_PRINTED_FAILURES:
    print(f'... and {len(failures) - MAX_PRINTED_FAILURES} more')
  if failures:
    print(f'Failures: {output}/failures.csv')
  if overlays:
    print(
      f'Overlays: {output}/{photos.OVERLAYS}, some of them on '
      f'{photos.OVERLAYS}/{prediction_sheet.NAME}',
      flush=True,
    )


def _write_failures(
  output: pathlib.Path, failures: list[tuple[str, str]]
) -> None:
  """Writes failures.csv, or removes that of an earlier run."""
  path = output / 'failures.csv'
  if not failures:
    path.unlink(missing_ok=True)
    return
  lines = [
    map(file_names.to_cell, line) for line in [('image', 'reason'), *failures]
  ]
  atomic.write_file(path, b''.join(map(file_names.csv_line, lines)))


def overlay_names(
  names: Sequence[str], directory: pathlib.Path
) -> dict[str, pathlib.Path]:
  """Where the overlay of each photo is written, no two in one place.

  An overlay is a JPEG of the photo's name, with '.jpg' at its end where it has
  another ending. Where another photo's overlay or a folder has that name, or it
  is longer than a file's name may be, it gets a part of it and a digest.

  Args:
    names: The names of the photos, all different.
    directory: The folder of the overlays.

  Returns:
    Name of a photo -> path of its overlay.
  """
  own = lambda name: name.lower().endswith(('.jpg', '.jpeg'))
  taken = {name for name in names if own(name)}
  folders = {
    '/'.join(parts[:depth])
    for parts in (name.split('/') for name in names)
    for depth in range(1, len(parts))
  }
  paths = {}
  for name in names:
    target = name if own(name) else f'{name}.jpg'
    if (
      (target != name and target in taken)
      or target in folders
      or len(os.fsencode(target.rpartition('/')[2])) > _LONGEST_NAME
    ):
      folder, slash, last = name.rpartition('/')
      target = f'{folder}{slash}{_shortened(name, last)}'
    if len(os.fsencode(directory / target)) > _LONGEST_PATH:
      target = _shortened(name, '')
    taken.add(target)
    paths[name] = directory / target
  return paths


def _shortened(name: str, last: str) -> str:
  """A file's name of a part of a name and the whole name's digest."""
  digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
  # A character that the cut goes through is left out.
  part = os.fsencode(last)[:200].decode('utf-8', 'ignore')
  return f'{part}-{digest}.jpg' if part else f'{digest}.jpg'


class _Painter(contextlib.ExitStack):
  """Draws overlays in threads, while the networks run.

  The results of an image are saved once its overlay is whole: whoever goes on
  after a kill finds both or neither.
  """

  def __init__(self, save: Callable[[Sequence], None]):
    """Starts the threads.

    Args:
      save: A function that takes the entries of an image, see
        `Unfinished.add`.
    """
    super().__init__()
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    self._pool = self.enter_context(pool)
    self._save = save
    self._pending = collections.deque()

  def __exit__(self, kind: type | None, *error: Any) -> None:
    if kind is None:
      self.save(most=0)
    self._pool.shutdown(cancel_futures=True)
    return super().__exit__(kind, *error)

  def add(
    self,
    entries: list[tuple[int, Landmarks | str]],
    photo: pathlib.Path,
    path: pathlib.Path | None,
  ) -> None:
    """Draws the items on an image; waits while too many images are queued.

    Args:
      entries: The entries of the image's items, see `Unfinished.add`.
      photo: The path of the image.
      path: The path of the overlay; None if none is drawn.
    """
    future = None
    found = [each for _, each in entries if not isinstance(each, str)]
    if found and path is not None:
      future = self._pool.submit(_draw, photo, path, found)
    self._pending.append((future, entries))
    self.save(most=4 * THREADS)

  def save(self, most: int = 4 * THREADS) -> None:
    """Saves the entries of the images that are drawn, in their order.

    Args:
      most: The number of images that may wait; for others it is waited.
    """
    while self._pending:
      future, entries = self._pending[0]
      if future and not future.done() and len(self._pending) <= most:
        return
      try:
        if future:
          future.result()
      except InputError as problem:  # the file has changed since it was read
        entries = [(i, str(problem)) for i, _ in entries]
      self._pending.popleft()
      self._save(entries)


def _draw(
  photo: pathlib.Path, path: pathlib.Path, found: list[Landmarks]
) -> None:
  encoded = io.BytesIO()
  Image.fromarray(overlay(read(photo), found)).save(encoded, 'JPEG', quality=90)
  with atomic.whole_file(path, sweep=False) as file:
    file.write(encoded.getvalue())
