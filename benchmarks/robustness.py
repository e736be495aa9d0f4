"""Attacks on the program: odd files, full disks, kills, strangers' runs.

  python benchmarks/robustness.py [--run=W] [--rows=WORD] [--csv=FILE]

does to the program what the section "Attacks" of docs/results/robustness.md
lists, by its command line, and prints a line for each: the row, the exit
statuses, the seconds, the last line of the last call, and the verdict. All is
done in a temporary folder. In each row no call may end in a traceback, run
longer than its time limit, touch a file outside of its output folder, leave out
an item without a word, or end with another status than the row says. Rows that
mount a disk in memory are skipped where that is not allowed. Without --run the
quickstart's cascade is trained first, a few minutes.
"""

import argparse
import contextlib
import csv
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
CONFIG = f'{ROOT}/configs/dfa.py:dataset=synthetic,size=tiny,stages=3'
LIMIT = 150  # seconds a call may take before it counts as one that hangs
AFTER_SIGNAL = 20  # seconds that it may go on after a Ctrl-C
VERDICTS = ('traceback', 'hang', 'touched outside', 'silent loss', 'status')


class Skipped(Exception):
  """The row cannot be tried on this machine; the message says why."""


class Call(NamedTuple):
  """What a call of the program ended in.

  Attributes:
    status: The exit status; minus the number of the signal that ended it.
    seconds: The time it took.
    text: What it printed on both streams.
    stopping: The seconds that it went on after the signal that it was sent.
    peak: The highest resident size in MiB; 0 where the system does not tell.
  """

  status: int
  seconds: float
  text: str
  stopping: float
  peak: int

  @property
  def last(self) -> str:
    """The last line, without the bars of progress before it."""
    lines = [line for line in re.split('[\r\n]+', self.text) if line.strip()]
    return lines[-1].strip() if lines else ''


def drop_privileges() -> None:
  """Takes root's right to read and write everything from this process."""
  if os.geteuid():
    return
  libc = ctypes.CDLL(None, use_errno=True)
  for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
  header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
  data = (ctypes.c_uint32 * 6)()
  libc.capget(header, data)
  for i in (0, 1, 2):  # effective, permitted, inheritable
    data[i] &= ~0b110
  libc.capset(header, data)


class Lab:
  """The folder in which a row is tried, and what was seen.

  Attributes:
    here: The row's folder.
    run: The trained run's folder, which the row must leave as it is.
    calls: The calls so far.
    seen: What the results were, in words.
    problems: Verdict -> what was seen.
  """

  def __init__(self, base: pathlib.Path, run: pathlib.Path):
    self.base, self.run = base, run
    self._count = 0
    self.begin()

  def begin(self) -> None:
    """Begins a row."""
    self._count += 1
    self.here = self.base / 'rows' / f'{self._count}'
    self.here.mkdir(parents=True)
    self.calls: list[Call] = []
    self.seen: list[str] = []
    self.problems: list[tuple[str, str]] = []
    self._outputs = 0

  def folder(self, name: str) -> pathlib.Path:
    """Makes a folder of the row."""
    folder = self.here / name
    folder.mkdir(parents=True)
    return folder

  def output(self) -> pathlib.Path:
    """The path of an output folder, which does not exist yet."""
    self._outputs += 1
    return self.folder(f'output {self._outputs}') / 'found'

  def photos(
    self, count: int, name: str = 'photos', ending: str = 'jpg'
  ) -> pathlib.Path:
    """Makes a folder of small photos 00000.jpg and so on."""
    folder = self.folder(name)
    for i in range(count):
      photo(folder / f'{i:05}.{ending}', i)
    return folder

  def copied_run(self, name: str = 'run') -> pathlib.Path:
    """A copy of the run."""
    return shutil.copytree(self.run, self.here / name)

  def changed_run(self, **fields: Any) -> pathlib.Path:
    """A copy of the run with other fields in its manifest.

    Args:
      **fields: Path of a field with '__' in place of dots -> value; DELETED
        deletes the field.
    """
    self._outputs += 1
    folder = self.here / f'run {self._outputs}'
    # The files of the networks are the same ones, which saves time.
    shutil.copytree(self.run, folder, copy_function=os.link)
    content = json.loads((folder / 'manifest.json').read_text())
    for field, value in fields.items():
      *way, last = [int(x) if x.isdigit() else x for x in field.split('__')]
      holder = content
      for key in way:
        holder = holder[key]
      if value is DELETED:
        del holder[last]
      else:
        holder[last] = value
    (folder / 'manifest.json').unlink()
    (folder / 'manifest.json').write_text(json.dumps(content))
    return folder

  def call(
    self,
    *argv: str,
    may_touch: Iterable[pathlib.Path] = (),
    limit: float = LIMIT,
    env: dict[str, str] | None = None,
    unprivileged: bool = False,
    stdout: str | int = '',
    send: tuple[int, Callable[[str], bool]] | None = None,
    watch: Callable[[], None] | None = None,
    allow: tuple[str, ...] = (),
  ) -> Call:
    """Calls the program, and looks for what may never be.

    Args:
      *argv: The command line.
      may_touch: The folders that the call may write to.
      limit: The seconds after which it is ended, and counts as hanging.
      env: Variables of its environment that are set, too.
      unprivileged: Whether it may read and write only what others may.
      stdout: A path, or an open descriptor, to which it prints.
      send: A signal for it and those it has started, and a function of what it
        has printed that says when.
      watch: A function that is called all the time while it runs.
      allow: The verdicts that count for nothing.
    """
    logs = self.base / 'logs'
    logs.mkdir(exist_ok=True)
    log = logs / f'{self._count}-{len(self.calls)}.txt'
    here = self.base / 'empty'
    here.mkdir(exist_ok=True)
    environ = {
      'PATH': os.environ['PATH'],
      'HOME': str(self.base / 'home'),
      'LANG': 'C.UTF-8',
      'PYTHONPATH': str(ROOT),
      'TMPDIR': str(self.base / 'tmp'),
      'MPLCONFIGDIR': str(self.base / 'cache/matplotlib'),
      'JAX_COMPILATION_CACHE_DIR': str(self.base / 'cache/xla'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PLATFORMS': 'cpu',
      **(env or {}),
    }
    for name in ('home', 'tmp'):
      (self.base / name).mkdir(exist_ok=True)
    skip = [self.base / 'cache', logs, *may_touch]
    before = state(self.base, skip)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
      err = stack.enter_context(log.open('wb'))
      out = err.fileno()
      if isinstance(stdout, str) and stdout:
        out = stack.enter_context(open(stdout, 'wb')).fileno()
      elif not isinstance(stdout, str):
        out = stdout
      process = _started(
        list(argv), here, environ, out, err.fileno(), unprivileged
      )
      sent = 0.0
      peak = 0
      hangs = False
      while process.poll() is None:
        now = time.monotonic()
        peak = max(peak, resident(process.pid))
        if watch:
          watch()
        text = log.read_text(errors='replace') if send else ''
        if send and not sent and send[1](text):
          sent = now
          os.killpg(process.pid, send[0])
        late = sent and now - sent > AFTER_SIGNAL
        if late or now - started > limit:
          hangs = True
          os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    ended = time.monotonic()
    text = log.read_text(errors='replace')
    call = Call(
      process.returncode,
      ended - started,
      text,
      ended - sent if sent else 0,
      peak,
    )
    self.calls.append(call)
    errors = re.findall('^error: .*', text, re.MULTILINE)
    self.seen += [self.shown(error) for error in errors[:1]]
    if send and not sent:
      self.problem('status', 'ended before the signal')
    if hangs:
      self.problem('hang', f'{call.seconds:.0f} s')
    if 'Traceback' in text and 'traceback' not in allow:
      self.problem('traceback', call.last)
    after = state(self.base, skip)
    touched = sorted(
      name
      for name in before.keys() | after.keys()
      # In the folder for temporary files, only what is left there counts.
      if before.get(name) != after.get(name) and name != environ['TMPDIR']
    )
    if touched and 'touched outside' not in allow:
      self.problem('touched outside', ', '.join(touched[:3]))
    return call

  def predict(
    self,
    images: str | pathlib.Path,
    output: pathlib.Path | None = None,
    *more: str,
    run: pathlib.Path | None = None,
    status: int | None = None,
    says: str = '',
    may_touch: Iterable[pathlib.Path] = (),
    **options: Any,
  ) -> pathlib.Path:
    """Predicts.

    Args:
      images: The images.
      output: The output folder; by default a new one.
      *more: More flags.
      run: The run's folder; by default the trained one.
      status: The expected exit status.
      says: A regular expression that the output must match.
      may_touch: Other folders that the call may write to.
      **options: Arguments of `call`.

    Returns:
      The output folder.
    """
    output = output or self.output()
    call = self.call(
      '--mode=predict',
      f'--workdir={run or self.run}',
      f'--images={os.fspath(images)}',
      f'--output={output}',
      *more,
      may_touch=[output.parent, *may_touch],
      **options,
    )
    self.expect(call, status, says)
    return output

  def expect(self, call: Call, status: int | None, says: str = '') -> None:
    """Compares how a call ended with how it should have."""
    if status is not None and call.status != status:
      self.problem('status', f'{call.status}, should be {status}: {call.last}')
    if says and not re.search(says, call.text):
      self.problem('status', f'does not say "{says}": {call.last}')
    if status == 2 and len(call.text.strip().splitlines()) > 4:
      self.problem('status', f'not one line: {call.text[:300]}')

  def results(
    self,
    output: pathlib.Path,
    good: Iterable[str],
    failed: Iterable[str] = (),
    overlays: bool = True,
  ) -> None:
    """Compares the results of a prediction with what there must be."""
    found, failures, drawn = read_results(output)
    words = f'{found.total()} predicted'
    if failures:
      words += f', {failures.total()} in failures.csv'
    self.seen.append(words)
    for name, here, wanted in (
      ('predicted', found, Counter(good)),
      ('failures', failures, Counter(failed)),
    ):
      if here != wanted:
        differs = (wanted - here) + (here - wanted)
        self.problem('silent loss', f'{name}: {sorted(differs)[:3]}')
    with (output / 'predictions.csv').open(newline='') as file:
      lines = len(list(csv.DictReader(file)))
    if lines != found.total():
      self.problem('silent loss', f'{lines} lines of {found.total()} items')
    if overlays and drawn != len(found):
      self.problem('silent loss', f'{drawn} overlays of {len(found)}')
    left = [path.name for path in output.rglob('*') if '.tmp' in path.name]
    if left:
      self.problem('touched outside', f'left {left[:3]}')

  def shown(self, text: str) -> str:
    """Text without the temporary folder, in one line of a table's cell."""
    text = re.sub(f'{self.base}/(rows/\\d+/)?', '', text)
    return text.replace('|', ' ')

  def check(self, right: bool, verdict: str, words: str) -> None:
    """Notes a problem unless something is right."""
    if not right:
      self.problem(verdict, words)

  def problem(self, verdict: str, words: str) -> None:
    """Notes a problem."""
    assert verdict in VERDICTS, verdict
    self.problems.append((verdict, words))


class _Deleted:
  pass


DELETED = _Deleted()


def _started(argv, here, environ, out, err, unprivileged) -> subprocess.Popen:
  """Starts the program by its command line."""
  return subprocess.Popen(
    [sys.executable, '-m', 'fld_jax.main', *argv],
    cwd=here,
    env=environ,
    stdin=subprocess.DEVNULL,
    stdout=out,
    stderr=err,
    start_new_session=True,
    preexec_fn=drop_privileges if unprivileged else None,
  )


def state(folder: pathlib.Path, skip: Iterable[pathlib.Path]) -> dict:
  """What changes when anything is done in a folder.

  Args:
    folder: The folder.
    skip: Folders in it that do not count.

  Returns:
    Path -> time and size of the files, time of the folders.
  """
  skip = {os.fspath(path) for path in skip}
  found = {}

  def look(path: str) -> None:
    for entry in os.scandir(path):
      if entry.path in skip:
        continue
      about = entry.stat(follow_symlinks=False)
      found[entry.path] = about.st_mtime_ns, about.st_size, about.st_mode
      if entry.is_dir(follow_symlinks=False):
        look(entry.path)

  look(os.fspath(folder))
  return found


def resident(pid: int) -> int:
  """The highest resident size of a process so far, in MiB; 0 if unknown."""
  try:
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
  except OSError:
    return 0
  found = re.search(r'VmHWM:\s*(\d+)', status)
  return int(found[1]) // 1024 if found else 0


def photo(path: pathlib.Path, seed: int = 0, **options: Any) -> None:
  """Writes a small photo."""
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (40, 32, 3), np.uint8)
  with open(path, 'wb') as file:
    kind = {'png': 'PNG'}.get(path.suffix[1:], 'JPEG')
    Image.fromarray(pixels).save(file, kind, **options)


def names_of(folder: pathlib.Path) -> list[str]:
  """The names of a folder's photos, as results have them."""
  from fld_jax.files import file_names

  return sorted(file_names.encoded(name) for name in os.listdir(folder))


def read_results(output: pathlib.Path) -> tuple[Counter, Counter, int]:
  """Images of predictions, of failures, and the number of overlays."""
  found, failures = Counter(), Counter()
  if (output / 'predictions.json').exists():
    content = json.loads((output / 'predictions.json').read_text())
    names = {image['id']: image['file_name'] for image in content['images']}
    found.update(names[item['image_id']] for item in content['annotations'])
  if (output / 'failures.csv').exists():
    with (output / 'failures.csv').open(newline='') as file:
      failures.update(row['image'] for row in csv.DictReader(file))
  drawn = [
    path
    for path in (output / 'overlays').rglob('*')
    if path.is_file() and path.name != 'contact_sheet.png'
  ]
  return found, failures, len(drawn)


@contextlib.contextmanager
def disk(place: pathlib.Path, size: int) -> Iterator[Callable[[str], None]]:
  """Mounts a disk in memory.

  Args:
    place: The folder, which is made.
    size: The disk's size in KiB.

  Yields:
    A function that mounts it again with other options.

  Raises:
    Skipped: It is not allowed.
  """
  place.mkdir()

  def mount(options: str) -> None:
    words = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', os.fspath(place)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
      raise Skipped('no disk can be mounted')

  if not shutil.which('mount'):
    raise Skipped('there is no mount')
  mount(f'size={size}k')
  try:
    yield mount
  finally:
    subprocess.run(['umount', '-l', os.fspath(place)], check=True)


# --- The rows -----------------------------------------------------------------


def _stranger_victim(lab: Lab) -> None:
  victim = lab.folder('victim')
  for name in ('deleted', '2019', '7'):
    place = victim / 'all' / name
    place.mkdir(parents=True)
    (place / 'sums.json').write_text('{"a": "b"}')
    (place / 'a').write_text('mine')
  _led_outside(lab, [str(victim), '../victim'], 'checkpoint')
  _led_outside(lab, [str(victim), '../../victim'], 'name')


def _stranger_made(lab: Lab) -> None:
  outside = str(lab.here / 'outside')
  _led_outside(lab, [outside, '../outside'], 'checkpoint')
  _led_outside(lab, [[outside], ['../../../../x']], 'networks')


def _led_outside(lab: Lab, values: list, field: str) -> None:
  """Predicts with runs of which a field leads outside."""
  photos = lab.here / 'photos'
  if not photos.exists():
    lab.photos(1)
  for value in values:
    where = 'stages__stage1' if field == 'networks' else 'config__stages__0'
    run = lab.changed_run(**{f'{where}__{field}': value})
    if field == 'checkpoint':
      # It tells where training took the weights from; the run has its own.
      ours = lab.predict(photos, run=run, status=0)
      theirs = lab.predict(photos, status=0)
      same = [(x / 'predictions.csv').read_bytes() for x in (ours, theirs)]
      lab.check(same[0] == same[1], 'silent loss', 'weights of something else')
      shutil.rmtree(run / 'stages/stage1')
    lab.predict(photos, run=run, status=2, says='(?m)^error: ')


def _fifo(lab: Lab) -> None:
  photos = lab.photos(30)
  good = names_of(photos)
  os.mkfifo(photos / 'pipe.jpg')
  output = lab.predict(photos, status=1)
  lab.results(output, good, ['pipe.jpg'])


def _long_name(lab: Lab) -> None:
  photos = lab.photos(3)
  for letter, length in (('a', 249), ('b', 255), ('é', 127)):
    photo(photos / f'{letter * (length - 4)}.jpg')
  output = lab.predict(photos, status=0)
  lab.results(output, names_of(photos))


def _odd_encoding(lab: Lab) -> None:
  photos = lab.photos(3)
  photo(photos / os.fsdecode(b'caf\xe9.jpg'))
  output = lab.predict(photos, status=0)
  lab.results(output, names_of(photos))
  good = names_of(photos)
  (photos / os.fsdecode(b'brok\xe9n.jpg')).write_text('broken')
  bad = set(names_of(photos)) - set(good)
  output = lab.predict(photos, status=1)
  lab.results(output, good, bad)


def _same_overlay(lab: Lab) -> None:
  for count in (4, 40):
    photos = lab.photos(count, f'{count} pairs', 'png')
    for path in sorted(photos.glob('*.png')):
      photo(path.with_name(f'{path.name}.jpg'), 1)
    output = lab.predict(photos, status=0)
    lab.results(output, names_of(photos))


def _postscript(lab: Lab) -> None:
  photos = lab.photos(2)
  good = names_of(photos)
  for name in ('photo.jpg', 'photo.eps', 'photo.png'):
    (photos / name).write_text(
      '%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n%%EOF\n'
    )
  programs = lab.folder('programs')
  called = lab.folder('called')
  gs = programs / 'gs'
  gs.write_text(f'#!/bin/sh\ntouch "{called}/yes"\nexit 0\n')
  gs.chmod(0o755)
  path = f'{programs}:{os.environ["PATH"]}'
  output = lab.predict(photos, status=1, env={'PATH': path})
  lab.results(output, good, ['photo.jpg', 'photo.eps', 'photo.png'])


def _output_below_images(lab: Lab) -> None:
  photos = lab.photos(2)
  for name in ('found', 'found', 'a/found', '.'):
    output = lab.predict(photos, photos / name, status=0, may_touch=[photos])
    lab.results(output, ['00000.jpg', '00001.jpg'])


def _empty_images(lab: Lab) -> None:
  lab.predict('', status=2, says='--images is given without a value')


def _empty_output(lab: Lab) -> None:
  words = ('--mode=predict', f'--workdir={lab.run}')
  call = lab.call(*words, f'--images={lab.photos(1)}', '--output=')
  lab.expect(call, 2, '--output is given without a value')


def _empty_boxes(lab: Lab) -> None:
  photos = lab.photos(1)
  lab.predict(
    photos, None, '--boxes=', status=2, says='--boxes is given without a value'
  )


def _full_disk(lab: Lab) -> None:
  photos = lab.photos(40)
  for flag, size in (('--overlays', 300), ('--nooverlays', 24)):
    place = lab.here / f'disk {size}'
    with disk(place, size) as mount:
      output = lab.predict(
        photos, place / 'found', flag, status=1, says='error: .*'
      )
      left = [path.name for path in output.rglob('*.tmp')]
      lab.check(not left, 'touched outside', f'left {left[:3]}')
      lab.check(len(lab.calls[-1].text) < 3000, 'status', 'many lines')
      mount('remount,size=100m')
      lab.predict(photos, output, flag, status=0)
      lab.results(output, names_of(photos), overlays=flag == '--overlays')


def _unwritable_output(lab: Lab) -> None:
  photos = lab.photos(1)
  file = lab.folder('folder') / 'file'
  file.write_text('x')
  lab.predict(photos, file / 'found', status=2, says='--output=')
  lab.predict(photos, file, status=2, says='--output=')
  place = lab.here / 'disk'
  with disk(place, 1000) as mount:
    mount('remount,ro')
    lab.predict(photos, place / 'found', status=2, says='--output=')
    lab.check(lab.calls[-1].seconds < 20, 'hang', 'after the run was loaded')


def _prepare_unwritable(lab: Lab) -> None:
  sizes = [f'--config.dataset.sizes.{s}=60' for s in ('train', 'val', 'test')]
  place = lab.here / 'disk'
  words = ('--mode=prepare', f'--config={CONFIG}', *sizes)
  words += (f'--config.dataset.data_dir={place}/records',)
  with disk(place, 200) as mount:
    call = lab.call(*words, may_touch=[place])
    lab.expect(call, 1, 'error: ')
    mount('remount,size=100m,ro')
    call = lab.call(*words, may_touch=[place])
    lab.expect(call, None, 'error: ')
    lab.check(call.status in (1, 2), 'status', call.last)
    mount('remount,rw')
    lab.expect(lab.call(*words, may_touch=[place]), 0)
    count = sum(
      int(n)
      for path in (place / 'records').rglob('dataset_info.json')
      for each in json.loads(path.read_text())['splits']
      for n in each['shardLengths']
    )
    lab.check(count == 180, 'silent loss', f'{count} records of 180')


def _doctor_full(lab: Lab) -> None:
  folder = deepfashion_folder(lab.folder('data'))
  place = lab.here / 'disk'
  with disk(place, 8) as mount:
    for options in ('size=8k', 'size=8k,ro'):
      mount(f'remount,{options}')
      with contextlib.suppress(OSError):
        (place / 'all').write_bytes(bytes(8 << 10))
      call = lab.call(
        '--mode=doctor',
        '--dataset=deepfashion',
        f'--manual_dir={folder}',
        f'--workdir={place}/doctor',
        may_touch=[place],
      )
      # Where it is known before that nothing can be written, nothing is read.
      early = call.status == 2 and 'ro' in options
      lab.expect(call, None, '' if early else 'images')
      lab.check(call.status in (1, 2), 'status', f'{call.status}: {call.last}')


def _read_only_run(lab: Lab) -> None:
  photos = lab.photos(2)
  place = lab.here / 'disk'
  size = sum(p.stat().st_size for p in lab.run.rglob('*') if p.is_file())
  with disk(place, size // 1000 + 10_000) as mount:
    run = shutil.copytree(lab.run, place / 'run')
    damage_last(run / 'stages/stage1/all')
    mount('remount,ro')
    output = lab.predict(photos, run=run, status=0, says='damaged')
    lab.results(output, names_of(photos))
    mount('remount,rw')
    damage_last(run / 'stages/stage1/all', others=True)
    mount('remount,ro')
    lab.predict(photos, run=run, status=2)


def _outside_files(lab: Lab) -> None:
  secret = lab.folder('secret') / 'private.jpg'
  photo(secret)
  records = lab.folder('records')
  for name in ('../../secret/private.jpg', str(secret)):
    for kind in ('coco', 'deepfashion'):
      folder = lab.folder(f'{kind} {len(lab.calls)}')
      if kind == 'coco':
        coco_folder(folder, name)
        data = ['--dataset=coco_keypoints', f'--manual_dir={folder}']
      else:
        deepfashion_folder(folder, name)
        data = ['--dataset=deepfashion', f'--manual_dir={folder}']
      work = lab.folder(f'work {len(lab.calls)}')
      for mode, more in (
        ('doctor', [f'--workdir={work}']),
        ('prepare', [f'--config.dataset.data_dir={records}']),
      ):
        call = lab.call(
          f'--mode={mode}', *data, *more, may_touch=[work, records]
        )
        status = {'doctor': 1, 'prepare': 2}[mode]
        lab.expect(call, status, 'outside|private')
      made = [p for p in records.rglob('*') if 'record' in p.name]
      lab.check(not made, 'silent loss', 'records were written')


def _coco_boxes(lab: Lab) -> None:
  photos = lab.photos(2)
  images = [{'id': 0, 'file_name': '00000.jpg', 'width': 32, 'height': 40}]
  for key, value in (
    ('annotations', None),
    ('annotations', 7),
    ('images', None),
    ('images', 7),
    ('annotations', [None]),
    ('images', [7]),
  ):
    path = lab.here / 'boxes.json'
    whole = {'images': images, 'annotations': [], 'categories': []}
    path.write_text(json.dumps({**whole, key: value}))
    lab.predict(photos, None, f'--boxes={path}', status=2, says='boxes.json')


MANIFESTS = (
  {'config': []},
  {'config': {}},
  {'config': None},
  {'stages': None},
  {'stages': []},
  {'stages__stage1__networks': DELETED},
  {'config__dataset__name': DELETED},
  {'stages__stage3__epsilon': 'much'},
  {'config__input__size': 0},
  {'config__input__size': 10**6},
  {'config__batch_size': 0},
  {'config__batch_size': -5},
  {'config__model__dtype': 'float31'},
  {'config__model__hidden': 10**9},
  {'config__input__std': [0, 0, 0]},
  {'config__stages__0': 7},
  {'config__model': None},
  {'landmarks': []},
)


def _manifests(lab: Lab) -> None:
  photos = lab.photos(1)
  for fields in MANIFESTS:
    run = lab.changed_run(**fields)
    lab.predict(photos, run=run, status=2, says='manifest')


def _manifests_more(lab: Lab) -> None:
  photos = lab.photos(1)
  for fields in ({'config__stages': None}, {'config__input__size': '48'}):
    run = lab.changed_run(**fields)
    lab.predict(photos, run=run, status=2, says='manifest')


def _epsilon_nan(lab: Lab) -> None:
  photos = lab.photos(1)
  for value in (float('nan'), float('inf')):
    run = lab.changed_run(stages__stage3__epsilon=value)
    lab.predict(photos, run=run, status=2, says='epsilon')


def _nan_comes_out(lab: Lab) -> None:
  photos = lab.photos(2)
  run = lab.changed_run(config__input__std=[1e-38] * 3)
  output = lab.predict(photos, run=run)
  (call,) = lab.calls
  if call.status != 2:  # that it is refused is as good
    lab.expect(call, 1)
    lab.results(output, [], names_of(photos))


def _tampered_evaluation(lab: Lab) -> None:
  run = lab.copied_run()
  (split,) = [path.name for path in (run / 'eval').iterdir()]
  place = run / 'eval' / split
  whole = (place / 'evaluation.npz').read_bytes()
  with np.load(place / 'evaluation.npz') as file:
    arrays = dict(file)
  deep = '[' * 100_000
  for change in (
    {'about': np.array('{}')},
    {'about': np.array(deep)},
    {'image_ids': np.tile(arrays['image_ids'], 2)},
    {'boxes': arrays['boxes'][:-3]},
  ):
    np.savez(place / 'evaluation.npz', **{**arrays, **change})
    _report(lab, run)
  (place / 'evaluation.npz').write_bytes(whole)
  metrics = (place / 'metrics.json').read_text()
  for content in ('{}', '[]', 'null', deep):
    (place / 'metrics.json').write_text(content)
    _report(lab, run)
  (place / 'metrics.json').write_text(metrics)
  _report(lab, run, 0)


def _report(lab: Lab, run: pathlib.Path, status: int = 2) -> None:
  output = lab.output()
  call = lab.call(
    '--mode=report',
    f'--workdirs={run}',
    f'--output={output}',
    may_touch=[output.parent],
  )
  lab.expect(call, status, '' if status == 0 else '(?m)^error: ')


def _clusters_few(lab: Lab) -> None:
  run = lab.copied_run()
  path = run / 'stages/stage3/clusters.npz'
  with np.load(path) as file:
    arrays = dict(file)
  np.savez(path, **{**arrays, 'errors': arrays['errors'][:2]})
  lab.predict(lab.photos(1), run=run, status=2, says='clusters.npz')


def _clusters_cut(lab: Lab) -> None:
  run = lab.copied_run()
  path = run / 'stages/stage3/clusters.npz'
  path.write_bytes(path.read_bytes()[:-50])
  lab.predict(lab.photos(1), run=run, status=2, says='clusters.npz')
  lab.check('made again' not in lab.calls[-1].text, 'status', 'two messages')


def _ctrl_c(lab: Lab) -> None:
  photos = lab.photos(400)
  output = lab.output()
  partial = output / 'predictions.partial.jsonl'
  begun = lambda text: partial.exists() and partial.stat().st_size > 9999
  _interrupt(
    lab,
    begun,
    '--mode=predict',
    f'--workdir={lab.run}',
    f'--images={photos}',
    f'--output={output}',
    may_touch=[output.parent],
  )
  lab.predict(photos, output, status=0, says='Goes on')
  lab.results(output, names_of(photos))
  data = lab.folder('data')
  records = f'--config.dataset.data_dir={data}'
  sizes = [f'--config.dataset.sizes.{s}=300' for s in ('train', 'val', 'test')]
  prepare = ('--mode=prepare', f'--config={CONFIG}', records, *sizes)
  begun = lambda text: any(data.rglob('*/*/*'))
  _interrupt(lab, begun, *prepare, may_touch=[data])
  lab.expect(lab.call(*prepare, may_touch=[data]), 0)
  work = lab.folder('train')
  _interrupt(
    lab,
    lambda text: 'compiling the training' in text,
    f'--config={CONFIG}',
    records,
    *sizes,
    f'--workdir={work}/run',
    may_touch=[work, lab.base / 'home'],
    env={'JAX_COMPILATION_CACHE_DIR': f'{lab.base}/cache/{time.time_ns()}'},
  )
  begun = time.monotonic()
  folder = deepfashion_folder(lab.folder('pictures'), count=20_000)
  begun = time.monotonic()
  _interrupt(
    lab,
    lambda text: time.monotonic() - begun > 7 or 'image' in text,
    '--mode=doctor',
    '--dataset=deepfashion',
    f'--manual_dir={folder}',
    f'--workdir={work}/doctor',
    may_touch=[work],
  )


def _interrupt(lab: Lab, when: Callable[[str], bool], *argv, **options) -> None:
  call = lab.call(*argv, send=(signal.SIGINT, when), **options)
  lab.expect(call, 130, 'Interrupted|Start the same command again')
  lab.seen.append(f'ended {call.stopping:.1f} s after a Ctrl-C')


def _killed(lab: Lab) -> None:
  photos = lab.photos(400)
  output = lab.output()
  partial = output / 'predictions.partial.jsonl'
  size = 0
  for number in (signal.SIGTERM, signal.SIGKILL):
    enough = size + 20_000
    more = lambda text, enough=enough: (
      partial.exists() and partial.stat().st_size > enough
    )
    lab.predict(photos, output, send=(number, more), status=-number)
    size = partial.stat().st_size
  lab.predict(photos, output, status=0, says='Goes on')
  lab.results(output, names_of(photos))


def _progress(lab: Lab) -> None:
  photos = lab.photos(1500)
  output = lab.output()
  partial = output / 'predictions.partial.jsonl'
  seen = []

  def look() -> None:
    size = partial.stat().st_size if partial.exists() else 0
    if not seen or seen[-1] != size:
      seen.append(size)

  lab.predict(photos, output, '--nooverlays', watch=look, status=0)
  lab.results(output, names_of(photos), overlays=False)
  lab.check(len(seen) > 5, 'status', f'grew {len(seen)} times')


def _closed_pipe(lab: Lab) -> None:
  photos = lab.photos(3)
  reading, writing = os.pipe()
  os.close(reading)
  output = lab.predict(photos, status=0, stdout=writing)
  os.close(writing)
  lab.results(output, names_of(photos))


def _odd_stdout(lab: Lab) -> None:
  photos = lab.photos(3)
  good = names_of(photos)
  (photos / '连衣裙.jpg').write_text('broken')
  output = lab.predict(photos, status=1, env={'PYTHONIOENCODING': 'ascii'})
  lab.results(output, good, ['连衣裙.jpg'])
  output = lab.predict(photos, status=1, stdout='/dev/full')
  lab.results(output, good, ['连衣裙.jpg'])
  (photos / '连衣裙.jpg').unlink()
  output = lab.predict(photos, status=1, stdout='/dev/full', says='error: ')
  lab.results(output, good)


def _formula(lab: Lab) -> None:
  photos = lab.folder('photos')
  for name in ('=1+1', '@x', '+1', '-1'):
    photo(photos / f'{name}.jpg')
    (photos / f'{name} broken.jpg').write_text('x')
  output = lab.predict(photos, status=1)
  for name in ('predictions.csv', 'failures.csv'):
    with (output / name).open(newline='') as file:
      cells = [row[0] for row in csv.reader(file)][1:]
    lab.check(len(cells) == 4, 'silent loss', f'{name}: {len(cells)}')
    lab.seen.append(f'{name}: {" ".join(sorted(cells))}')
    bad = [cell for cell in cells if cell[0] in '=+-@']
    lab.check(not bad, 'status', f'{name}: {bad}')


def _closed_folder(lab: Lab) -> None:
  photos = lab.photos(2)
  good = names_of(photos)
  closed = photos / 'closed'
  closed.mkdir()
  photo(closed / 'a.jpg')
  closed.chmod(0)
  try:
    output = lab.predict(photos, status=1, unprivileged=True)
    lab.results(output, good, ['closed'])
  finally:
    closed.chmod(0o755)


def _no_images(lab: Lab) -> None:
  photos = lab.photos(2)
  good = names_of(photos)
  (photos / 'album.jpg').mkdir()
  for name in ('notes.pdf', 'data.h5', 'movie.mpg'):
    (photos / name).write_text('x')
  output = lab.predict(photos, status=0, says='Left out: ')
  lab.results(output, good)


def _unreadable(lab: Lab) -> None:
  photos = lab.photos(2)
  good = names_of(photos)
  photo(photos / 'closed.jpg')
  (photos / 'closed.jpg').chmod(0)
  (photos / 'loop.jpg').symlink_to('loop.jpg')
  output = lab.predict(photos, status=1, unprivileged=True)
  lab.results(output, good, ['closed.jpg', 'loop.jpg'])
  words = (output / 'failures.csv').read_text()
  lab.check('is damaged' not in words, 'status', words)


def _boxes_names(lab: Lab) -> None:
  photos = lab.photos(4)
  path = lab.here / 'boxes.csv'
  lines = [f'{"./" * (i % 2)}{i:05}.jpg,1,1,30,30\n' for i in range(4)]
  path.write_text('image,x1,y1,x2,y2\n' + ''.join(lines))
  output = lab.predict(photos, None, f'--boxes={path}', status=0)
  lab.results(output, names_of(photos))


def _garbage_exif(lab: Lab) -> None:
  photos = lab.folder('photos')
  rng = np.random.default_rng(0)
  for i in range(20):
    start = [b'Exif\0\0', b'Exif\0\0II*\0', b'Exif\0\0MM\0*\0\0\0\x08'][i % 3]
    photo(photos / f'{i}.jpg', exif=start + rng.bytes(40))
  output = lab.predict(photos, status=0)
  lab.results(output, names_of(photos))
  lab.check('Warning' not in lab.calls[-1].text, 'status', 'a warning')


def _python_arguments(lab: Lab) -> None:
  path = lab.photos(1) / '00000.jpg'
  _in_python(
    lab,
    [
      ('(p for p in [PATH])', 'None'),
      ('None', 'None'),
      ('[None]', 'None'),
      ('7', 'None'),
      ('[PATH]', "['abc']"),
      ('[PATH]', "'abc'"),
      ('[PATH]', '[(1, 2, 3)]'),
      ('[PATH]', '[(1, 2, float("nan"), 9)]'),
    ],
    path,
  )


def _python_bytes(lab: Lab) -> None:
  path = lab.photos(1) / '00000.jpg'
  _in_python(
    lab, [('[open(PATH, "rb").read()]', 'None')] * 2, path, longest=400
  )


def _in_python(
  lab: Lab,
  arguments: list[tuple[str, str]],
  path: pathlib.Path,
  longest: int = 1000,
) -> None:
  """Calls a Predictor with arguments that are each an InputError."""
  script = lab.here / 'script.py'
  script.write_text(
    'import sys, fld_jax\n'
    'from fld_jax.errors import InputError\n'
    f'PATH = {str(path)!r}\n'
    f'detector = fld_jax.load({str(lab.run)!r})\n'
    f'for images, boxes in {arguments!r}:\n'
    '  try:\n'
    '    detector(eval(images), boxes=eval(boxes))\n'
    '    print("taken", images, boxes)\n'
    '  except InputError as error:\n'
    '    print("refused", str(error))\n'
    '  except Exception as error:\n'
    '    print("WRONG", images, boxes, repr(error))\n'
  )
  started = time.monotonic()
  done = subprocess.run(
    [sys.executable, script],
    capture_output=True,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
    timeout=LIMIT,
  )
  seconds = time.monotonic() - started
  text = done.stdout + done.stderr
  lab.calls.append(Call(done.returncode, seconds, text, 0, 0))
  lab.expect(lab.calls[-1], 0)
  lines = done.stdout.splitlines()
  refused = [line for line in lines if line.startswith('refused')]
  lab.seen.append(f'{len(refused)} of {len(lines)} refused in a sentence')
  for line in lines:
    if line.startswith('WRONG'):
      lab.problem('traceback', line)
    # An iterator in place of a list may be taken.
    elif line.startswith('taken') and ' for p in ' not in line:
      lab.problem('status', line)
    lab.check(len(line) < longest, 'status', f'{len(line)} characters')


def _many(lab: Lab, count: int = 5000) -> None:
  photos, bad = lab.photos(count), []
  whole = (photos / '00000.jpg').read_bytes()
  rng = np.random.default_rng(0)
  for i in range(5, count, 10):
    path = photos / f'{i:05}.jpg'
    bad.append(path.name)
    kinds = (b'', whole[: len(whole) // 3], b'<html>', rng.bytes(500))
    path.write_bytes(kinds[i // 10 % 4])
  good = sorted({*names_of(photos)} - {*bad})
  output = lab.output()
  partial = output / 'predictions.partial.jsonl'
  overlays = output / 'overlays'
  drawn, twice, still, grown = {}, 0, 0.0, (0, 0.0)

  def look() -> None:
    nonlocal still, grown
    with contextlib.suppress(FileNotFoundError):
      size = partial.stat().st_size
      if size != grown[0]:
        grown = size, time.monotonic()
      elif size and grown[1]:
        still = max(still, time.monotonic() - grown[1])

  for kill in (1, 2, 3, 0):
    at = kill * count // 4 + int(rng.integers(0, count // 8))
    enough = lambda text, at=at: (
      partial.exists() and partial.read_bytes().count(b'\n') > at
    )
    send = (signal.SIGKILL, enough) if kill else None
    status = -signal.SIGKILL if kill else 1
    grown = grown[0], 0.0
    lab.predict(
      photos, output, send=send, watch=look, status=status, limit=1800
    )
    # An overlay that was whole before must not have been drawn again.
    for name, then in drawn.items():
      twice += (overlays / name).stat().st_mtime_ns != then
    if kill:
      lines = partial.read_bytes().split(b'\n')[1:-1]
      saved = [json.loads(line) for line in lines]
      names = Counter(x['image'] for x in saved)
      twice += sum(n - 1 for n in names.values())
      drawn = {
        x['image']: (overlays / x['image']).stat().st_mtime_ns
        for x in saved
        if 'found' in x
      }
  lab.results(output, good, bad)
  found, failures, _ = read_results(output)
  here = found + failures
  twice += sum(n - 1 for n in here.values())
  lost = sum((Counter([*good, *bad]) - here).values())
  lab.check(not twice, 'silent loss', f'{twice} done twice')
  peak = max(call.peak for call in lab.calls)
  lab.seen.append(
    f'done twice {twice}, lost {lost}; at most {peak} MiB; progress stood for '
    f'at most {still:.0f} s'
  )


def _moved(lab: Lab) -> None:
  photos = lab.photos(3)
  place = lab.here / 'another machine'
  size = sum(p.stat().st_size for p in lab.run.rglob('*') if p.is_file())
  with disk(place, size // 1000 + 20_000) as mount:
    run = shutil.copytree(lab.run, place / 'run')
    mount('remount,ro')
    # Neither the run nor its records are where they were.
    hidden = [x for x in (lab.run, lab.base / 'records') if x.exists()]
    for path in hidden:
      path.rename(path.with_name(f'hidden {path.name}'))
    try:
      _use_moved(lab, run, photos)
    finally:
      for path in hidden:
        path.with_name(f'hidden {path.name}').rename(path)


def _use_moved(lab: Lab, run: pathlib.Path, photos: pathlib.Path) -> None:
  output = lab.predict(photos, run=run, status=0)
  lab.results(output, names_of(photos))
  for mode, flag in (('export', 'workdir'), ('report', 'workdirs')):
    output = lab.output()
    call = lab.call(
      f'--mode={mode}',
      f'--{flag}={run}',
      f'--output={output}',
      may_touch=[output.parent],
    )
    lab.expect(call, 0)
    count = sum(path.is_file() for path in output.rglob('*'))
    lab.check(count > 0, 'silent loss', f'{mode} wrote nothing')
    lab.seen.append(f'{mode}: {count} files')


ROWS = (
  (
    "manifest: `checkpoint`, or a stage's name, leads to the user's folders",
    _stranger_victim,
  ),
  (
    'manifest: `checkpoint` not there; `networks` that lead outside',
    _stranger_made,
  ),
  ('A FIFO `pipe.jpg` among 30 photos', _fifo),
  ('A file name of 249 bytes, and of 255', _long_name),
  (
    'File names that are not UTF-8 (`caf\\xe9.jpg`), one of a broken file',
    _odd_encoding,
  ),
  ('`a.png` beside `a.png.jpg`: 4 pairs, 40 pairs', _same_overlay),
  (
    'PostScript named `photo.jpg` and `photo.eps`, a `gs` on the PATH',
    _postscript,
  ),
  ('`--output` below `--images`, thrice', _output_below_images),
  ('`--images=` (an unset variable of the shell)', _empty_images),
  ('`--output=`', _empty_output),
  ('`--boxes=`', _empty_boxes),
  (
    'Disk full while predict writes, with overlays and without; then again',
    _full_disk,
  ),
  ('Output on a read-only file system; below a file', _unwritable_output),
  ('prepare: `data_dir` read-only; full; then again', _prepare_unwritable),
  (
    'doctor: `--workdir` on a full disk; the table is printed all the same',
    _doctor_full,
  ),
  ('A read-only run whose last checkpoint is damaged, predict', _read_only_run),
  (
    'Data sets whose lists name `../../secret/private.jpg`, or absolute paths',
    _outside_files,
  ),
  ('COCO boxes with `annotations` null or 7, `images` null', _coco_boxes),
  ('manifest.json with 18 wrong types and numbers', _manifests),
  ("`config.stages` null, `size` '48'", _manifests_more),
  ('`epsilon` NaN, infinite', _epsilon_nan),
  ('A network of which NaN comes out: `std` 1e-38, in predict', _nan_comes_out),
  (
    'evaluation.npz, metrics.json with wrong contents, report',
    _tampered_evaluation,
  ),
  ('clusters.npz with 2 of 20 errors, predict', _clusters_few),
  ('clusters.npz truncated, predict', _clusters_cut),
  ('Ctrl-C: predict; train while it compiles; prepare; doctor', _ctrl_c),
  ('SIGTERM, SIGKILL in predict, then the same command again', _killed),
  ('Progress of predict: finished items are written all the time', _progress),
  ('stdout is a closed pipe, predict', _closed_pipe),
  (
    'stdout ASCII and a broken file of a Chinese name; stdout `/dev/full`',
    _odd_stdout,
  ),
  (
    'predictions.csv and failures.csv of `=1+1.jpg`, `@x.jpg`, `+1.jpg`',
    _formula,
  ),
  ('A folder without permission among the photos', _closed_folder),
  (
    'A folder `album.jpg`; notes.pdf, data.h5, movie.mpg beside a photo',
    _no_images,
  ),
  ('A photo without permission, a link that leads to itself', _unreadable),
  ('Boxes half of `./00000.jpg`, half of `00001.jpg`', _boxes_names),
  ('Garbage in EXIF data', _garbage_exif),
  ("Predictor: a generator, None; the box 'abc'", _python_arguments),
  ('Predictor: the bytes of a JPEG', _python_bytes),
  ('5,000 files, 10 % broken, `kill -9` three times, then to the end', _many),
  (
    'A run copied to another place, read-only, without its data set: predict, '
    'export, report',
    _moved,
  ),
)


def damage_last(folder: pathlib.Path, others: bool = False) -> None:
  """Flips bits in the weights of the last checkpoint of a network.

  Args:
    folder: The folder of the network's checkpoints.
    others: Whether all others are damaged instead.
  """
  steps = sorted(
    (path for path in folder.iterdir() if path.name.isdigit()),
    key=lambda path: int(path.name),
  )
  for step in steps[:-1] if others else steps[-1:]:
    files = [p for p in step.rglob('*') if p.is_file()]
    for path in files:
      if 'optimizer' not in path.parts and '/d/' in str(path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)


def coco_folder(folder: pathlib.Path, name: str) -> None:
  """A folder of COCO keypoints, one of whose images has another name."""
  images = folder / 'images'
  images.mkdir()
  (folder / 'annotations').mkdir()
  for split in ('train', 'val'):
    photo(images / f'{split}.jpg')
    names = [f'{split}.jpg', name]
    document = {
      'images': [
        {'id': i, 'file_name': each, 'width': 32, 'height': 40}
        for i, each in enumerate(names)
      ],
      'annotations': [
        {
          'id': i,
          'image_id': i,
          'category_id': 1,
          'bbox': [1, 1, 20, 20],
          'keypoints': [5, 5, 2, 9, 9, 2],
          'num_keypoints': 2,
        }
        for i in range(len(names))
      ],
      'categories': [{'id': 1, 'name': 'bra', 'keypoints': ['a', 'b']}],
    }
    path = folder / f'annotations/{split}.json'
    path.write_text(json.dumps(document))


def deepfashion_folder(
  folder: pathlib.Path, name: str = 'img/1.jpg', count: int = 3
) -> pathlib.Path:
  """A folder in the layout of DeepFashion.

  Args:
    folder: The folder.
    name: The name of the second image in the lists.
    count: The number of images; there is one file.
  """
  names = [f'img/{i}.jpg' for i in range(count)]
  (folder / 'Img/img').mkdir(parents=True)
  photo(folder / 'Img' / names[0])
  for each in names[1:]:
    os.link(folder / 'Img' / names[0], folder / 'Img' / each)
  names[1] = name
  triples = ' '.join(
    f'landmark_visibility_{i} landmark_location_x_{i} landmark_location_y_{i}'
    for i in range(1, 9)
  )
  points = ' 0 5 5' * 6
  splits = ['train', 'val']
  lists = {
    'Anno/list_bbox.txt': ('x_1 y_1 x_2 y_2', lambda i: '1 1 30 30'),
    'Anno/list_landmarks.txt': (
      f'clothes_type {triples}',
      lambda i: f'1{points}',
    ),
    'Eval/list_eval_partition.txt': (
      'evaluation_status',
      lambda i: splits[i % 2],
    ),
    'Anno/list_attr_img.txt': ('attribute_labels', lambda i: '1'),
  }
  for file, (header, row) in lists.items():
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    rows = [f'{each} {row(i)}' for i, each in enumerate(names)]
    lines = [str(count), f'image_name {header}', *rows]
    path.write_text('\n'.join(lines) + '\n')
  attributes = '1\nattribute_name attribute_type\nfaux fur 2\n'
  (folder / 'Anno/list_attr_cloth.txt').write_text(attributes)
  return folder


def attacks(lab: Lab, arguments: argparse.Namespace) -> bool:
  """Tries the rows.

  Args:
    lab: The place to try them in.
    arguments: The command line's arguments.

  Returns:
    Whether every row is right or skipped.
  """
  counts: Counter = Counter()
  rows = []
  for title, row in ROWS:
    name = row.__name__.strip('_')
    if arguments.rows not in name:
      continue
    lab.begin()
    skipped = ''
    try:
      row(lab)
    except Skipped as why:
      skipped = f'skipped: {why}'
    kinds = [verdict for verdict, _ in lab.problems]
    verdict = ', '.join(dict.fromkeys(kinds)) or skipped or 'ok'
    counts.update(kinds)
    counts['calls'] += len(lab.calls)
    statuses = ' '.join(str(call.status) for call in lab.calls)
    seconds = sum(call.seconds for call in lab.calls)
    last = lab.shown(lab.calls[-1].last) if lab.calls else ''
    print(f'{title} | {statuses} | {seconds:.0f} s | {last} | {verdict}')
    for kind, words in lab.problems:
      print(f'  {kind}: {lab.shown(words)}')
    sys.stdout.flush()
    seen = [x if len(x) < 160 else f'{x[:160]}...' for x in lab.seen]
    seen = '; '.join(dict.fromkeys(seen[:1] + seen[-1:]))
    rows.append((f' --rows={name}', title, statuses, seconds, seen, verdict))
    for path in (lab.base / 'rows').iterdir():
      shutil.rmtree(path)
  found = ', '.join(f'{kind} {counts[kind]}' for kind in VERDICTS)
  words = f'{counts["calls"]} calls: {found}'
  print(words)
  seconds = sum(row[3] for row in rows)
  ok = not any(counts[kind] for kind in VERDICTS)
  rows.append(('', 'all rows', '', seconds, words, 'ok' if ok else 'not ok'))
  if arguments.csv:
    _write_csv(arguments.csv, rows)
  return ok


def _write_csv(path: str, rows: list[tuple]) -> None:
  """Writes the rows as docs/tables.py reads them."""
  commit = subprocess.run(
    ['git', '-C', ROOT, 'rev-parse', '--short=7', 'HEAD'],
    capture_output=True,
    text=True,
  ).stdout.strip()
  with open(path, 'w', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(
      'series config command commit device seed split statuses seconds seen '
      'verdict'.split()
    )
    for flag, title, statuses, seconds, seen, verdict in rows:
      command = f'python benchmarks/robustness.py{flag}'
      device = f'{os.cpu_count()} CPU cores'
      writer.writerow(
        [title, '', command, commit, device, '', '']
        + [statuses, f'{seconds:.0f}', seen, verdict]
      )


def main() -> None:
  """Runs the command line."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--run', help='a trained and evaluated run of dfa')
  parser.add_argument('--rows', default='', help='a part of the rows names')
  parser.add_argument('--csv', help='the file for docs/tables.py')
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    base = pathlib.Path(name).resolve()
    run = base / 'run'
    lab = Lab(base, run)
    if arguments.run:
      shutil.copytree(arguments.run, run)
    else:
      records = f'--config.dataset.data_dir={base}/records'
      call = lab.call(
        *(f'--config={CONFIG}', f'--workdir={run}', records),
        may_touch=[base],
        limit=3600,
      )
      lab.expect(call, 0)
      lab.begin()
    ok = attacks(lab, arguments)
  sys.exit(0 if ok else 1)


if __name__ == '__main__':
  main()
