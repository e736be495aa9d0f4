"""Damaged annotation files: read as what they say, or refused with the place.

FLD_FUZZ is the number of damaged files of each format, 10000 for a real run.
"""

import contextlib
import datetime
import io
import os
import re
import resource
import signal
import time
import zlib
from collections import Counter

import fuzz_formats
import fuzz_lists
import fuzz_mutations
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from fld_jax.datasets.common import rows as rows_lib
from fld_jax.errors import Findings, InputError
from fld_jax.files import images

EXAMPLES = int(os.environ.get('FLD_FUZZ', '60'))
SECONDS = 5  # of one example
FORMATS = fuzz_formats.FORMATS + fuzz_lists.FORMATS
settings = hypothesis.settings(
  max_examples=EXAMPLES,
  deadline=datetime.timedelta(seconds=SECONDS),
  derandomize=True,
  database=None,
  suppress_health_check=list(hypothesis.HealthCheck),
  phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
)


def steps(mutations):
  """One or two mutations, each with where and how."""
  number = st.integers(0, 1 << 20)
  return st.lists(
    st.tuples(st.sampled_from(mutations), number, number),
    min_size=1,
    max_size=2,
  )


class Hang(BaseException):
  """Not caught by a reader."""


@contextlib.contextmanager
def no_hang():
  """Ends what hangs; the deadline only judges what has ended."""

  def stop(*_):
    raise Hang

  before = signal.signal(signal.SIGALRM, stop)
  signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def attempt(function, *args):
  """(result, None) or (None, InputError)."""
  try:
    return function(*args), None
  except InputError as error:
    return None, error


def check_message(form, folder, error) -> None:
  message = str(error)
  place = '|'.join(map(re.escape, form.files))
  pattern = rf'{re.escape(str(folder))}/({place})(, |: )({form.place})'
  assert re.match(pattern, message), message
  assert message.isprintable() and len(message) < 5000, message


def check_strict(form, folder, files):
  """Reads as every program does: the first mistake ends it."""
  try:
    expected = form.expected(folder, files)
  except fuzz_formats.Invalid:
    expected = None
  rows, error = attempt(form.read, folder, Findings())
  more, more_error = attempt(form.more, folder)
  for one in filter(None, (error, more_error)):
    check_message(form, folder, one)
  if expected is None:
    assert error or more_error, 'reads what is not valid'
    return None, error or more_error
  assert not error and not more_error, f'refuses what is valid: {error}'
  found = [fuzz_formats.record(row) for row in rows]
  assert found == expected[0]
  assert len({row.id for row in rows}) == len(rows)
  assert more == expected[1]
  return found, None


def check_lenient(form, folder, found, refused) -> None:
  """Reads to the end, as a program that lists all mistakes."""
  findings = Findings(strict=False)
  rows, error = attempt(form.read, folder, findings)
  for mistake in [*findings.mistakes, *filter(None, [error])]:
    check_message(form, folder, mistake)
  if not refused:
    assert not error and not findings.mistakes
    assert [fuzz_formats.record(row) for row in rows] == found


@pytest.mark.parametrize('form', FORMATS, ids=lambda form: form.name)
def test_annotations(form, tmp_path):
  form.prepare(tmp_path)
  counts, start = Counter(), time.monotonic()

  @settings
  @hypothesis.given(steps(form.mutations))
  def check(chosen):
    content = fuzz_mutations.apply(form.files[form.file], chosen)
    path = tmp_path / form.file
    path.write_bytes(content)
    counts['examples'] += 1
    # Readers may remember a file by its time.
    os.utime(path, ns=(0, 1_000_000_000 * counts['examples']))
    with no_hang():
      found, refused = check_strict(
        form, tmp_path, form.files | {form.file: content}
      )
      check_lenient(form, tmp_path, found, refused)
    counts['refused' if refused else 'read'] += 1

  peak = peak_memory()
  check()
  report(form.name, counts, start, peak)
  assert counts['read'] and counts['refused'] > EXAMPLES // 10


IMAGES = {
  'jpeg': {'format': 'JPEG'},
  'progressive': {
    **{'format': 'JPEG', 'progressive': True},
    'exif': b'Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06'
    + bytes(7),
  },
  'png': {'format': 'PNG'},
  'webp': {'format': 'WEBP'},
  'tiff': {'format': 'TIFF', 'compression': 'tiff_lzw'},
  'bmp': {'format': 'BMP'},
  'gif': {'format': 'GIF'},
  'avif': {'format': 'AVIF'},
}


@pytest.mark.filterwarnings('ignore:.*:UserWarning')  # Pillow's, of its tags
@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
@pytest.mark.parametrize('kind', IMAGES)
def test_images(kind, tmp_path):
  """Read whole, with the size of the header, or refused."""
  if kind in ('webp', 'avif') and not features.check(kind):
    pytest.skip(f'Pillow is without {kind}')
  noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
  file, path = io.BytesIO(), tmp_path / 'image'
  Image.fromarray(noise).save(file, **IMAGES[kind])
  row = rows_lib.Row(
    '', str(path), 'list, line 3, image', '', *[np.zeros(0)] * 3
  )
  counts, start, peak = Counter(), time.monotonic(), peak_memory()

  @settings
  @hypothesis.given(steps(fuzz_mutations.IMAGE))
  def check(chosen):
    content = fuzz_mutations.apply(file.getvalue(), chosen)
    path.write_bytes(content)
    with no_hang():
      size, error = attempt(images.image_size, str(path), row.place)
      encoded = None
      if not error:
        encoded, error = attempt(rows_lib.read_image, row)
    counts['refused' if error else 'read'] += 1
    if error:
      message = str(error)
      assert message.startswith(f'{row.place}: ') and str(path) in message
      assert message.isprintable() and error.kind == 'image'
    else:
      assert encoded == content
      with Image.open(path) as image:
        assert ImageOps.exif_transpose(image).size == size

  check()
  report(kind, counts, start, peak)
  assert counts['read'] and counts['refused'] > EXAMPLES // 10


def _png_chunk(name: bytes, data: bytes) -> bytes:
  check = zlib.crc32(name + data).to_bytes(4, 'big')
  return len(data).to_bytes(4, 'big') + name + data + check


def test_an_image_that_breaks_pillow(tmp_path):
  """It raises a SyntaxError for this PNG."""
  file, path = io.BytesIO(), tmp_path / 'image.png'
  Image.new('RGB', (60, 40), 'red').save(file, 'PNG')
  head, _, rest = file.getvalue().partition(b'IDAT')
  length = int.from_bytes(head[-4:], 'big')
  data, tail = rest[:length], rest[length + 4 :]
  parts = _png_chunk(b'IDAT', data[:20]) + _png_chunk(b'\x93DAT', data[20:])
  path.write_bytes(head[:-4] + parts + tail)
  row = rows_lib.Row('', str(path), 'list, line 3', '', *[np.zeros(0)] * 3)
  with pytest.raises(InputError, match='list, line 3: .* is damaged'):
    rows_lib.read_image(row)


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_an_image_of_a_few_bytes_and_many_pixels(tmp_path):
  """Pillow would only warn, and take half a gigabyte."""
  path = tmp_path / 'image.jpg'
  Image.new('RGB', (60, 40)).save(path)
  sides = [side.to_bytes(2, 'big') for side in (40, 60)]
  large = [side.to_bytes(2, 'big') for side in (10000, 9000)]
  content = path.read_bytes()
  assert content.count(b''.join(sides)) == 1
  path.write_bytes(content.replace(b''.join(sides), b''.join(large)))
  with pytest.raises(
    InputError, match='9000 x 10000 pixels, must have at most'
  ):
    images.image_size(str(path), 'list, line 3')


def peak_memory() -> int:
  """In KB on Linux."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def report(name: str, counts, start: float, peak: int) -> None:
  """Prints what was done; fails if it took much memory."""
  seconds, grown = time.monotonic() - start, peak_memory() - peak
  number = counts['read'] + counts['refused']
  print(
    f'\n{name}: {number} files, {counts["read"]} read, {counts["refused"]} '
    f'refused, {seconds:.0f} s, {grown >> 10} MB more'
  )
  assert grown < 1_000_000
