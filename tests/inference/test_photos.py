"""Image files of every kind become what a viewer shows."""

import errno
import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fld_jax.errors import InputError
from fld_jax.files.images import read
from fld_jax.inference import photos


def gradient(height=6, width=4):
  """(H, W, 3) uint8, every pixel another."""
  y, x = np.mgrid[:height, :width]
  return np.stack([40 * x, 30 * y, 5 * x + 7 * y], axis=-1).astype(np.uint8)


# EXIF orientation -> what is done to the stored pixels to show them, by NumPy.
TURNS = {
  1: lambda a: a,
  2: lambda a: a[:, ::-1],
  3: lambda a: a[::-1, ::-1],
  4: lambda a: a[::-1],
  5: lambda a: np.swapaxes(a, 0, 1),
  6: lambda a: np.rot90(a, -1),
  7: lambda a: np.swapaxes(a[::-1, ::-1], 0, 1),
  8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize('orientation', TURNS)
def test_exif_rotation(tmp_path, orientation):
  image = Image.fromarray(gradient())
  exif = image.getexif()
  exif[0x0112] = orientation
  image.save(tmp_path / 'a.png', exif=exif)
  shown = read(tmp_path / 'a.png')
  np.testing.assert_array_equal(shown, TURNS[orientation](gradient()))


def save(tmp_path, array, mode=None, name='a.png'):
  Image.fromarray(array, mode).save(tmp_path / name)
  return read(tmp_path / name)


def test_grey(tmp_path):
  grey = gradient()[..., 0]
  for colour in np.moveaxis(save(tmp_path, grey), -1, 0):
    np.testing.assert_array_equal(colour, grey)


def test_black_and_white(tmp_path):
  bits = gradient()[..., 0] > 60
  shown = save(tmp_path, bits)
  np.testing.assert_array_equal(shown[..., 1], np.where(bits, 255, 0))


def test_16_bits(tmp_path):
  deep = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
  shown = save(tmp_path, deep)
  np.testing.assert_array_equal(shown[..., 2], [[0, 0, 1], [128, 255, 255]])


def test_16_bits_of_a_pgm(tmp_path):
  values = bytes([0, 0, 128, 0, 255, 255])
  (tmp_path / 'a.pgm').write_bytes(b'P5 3 1 65535\n' + values)
  shown = read(tmp_path / 'a.pgm')
  assert shown[..., 0].tolist() == [[0, 128, 255]]


def test_alpha_is_over_white(tmp_path):
  rgba = np.zeros((1, 3, 4), np.uint8)
  rgba[0, :, 0] = 200
  rgba[0, :, 3] = 0, 128, 255
  shown = save(tmp_path, rgba)
  # colour alpha + 255 (1 - alpha), by hand
  expected = [[255, 255, 255], [227, 127, 127], [200, 0, 0]]
  np.testing.assert_allclose(shown[0], expected, atol=1)


def test_palette_with_a_transparent_entry(tmp_path):
  image = Image.new('P', (2, 1))
  image.putpalette([10, 20, 30, 40, 50, 60])
  image.putdata([0, 1])
  image.save(tmp_path / 'a.png', transparency=0)
  shown = read(tmp_path / 'a.png')
  assert shown.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_cmyk(tmp_path):
  cmyk = np.zeros((8, 8, 4), np.uint8)
  cmyk[..., 0] = 255  # cyan
  Image.fromarray(cmyk, 'CMYK').save(tmp_path / 'a.jpg', quality=100)
  shown = read(tmp_path / 'a.jpg')
  assert (abs(shown.astype(int) - [0, 255, 255]) < 6).all()


def test_first_picture_of_a_gif(tmp_path):
  first, second = Image.new('RGB', (4, 4), 'red'), Image.new('RGB', (4, 4))
  first.save(tmp_path / 'a.gif', save_all=True, append_images=[second])
  assert read(tmp_path / 'a.gif')[0, 0].tolist() == [255, 0, 0]


def png_header(width, height):
  """A PNG that announces a size and holds next to nothing."""

  chunk = lambda kind, data: (
    struct.pack('>I', len(data))
    + kind
    + data
    + struct.pack('>I', zlib.crc32(kind + data))
  )
  header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', b'x')


def whole_jpeg():
  buffer = io.BytesIO()
  Image.fromarray(gradient(64, 64)).save(buffer, 'JPEG')
  return buffer.getvalue()


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (None, 'a.jpg: is missing'),
    (b'', 'is not an image of a kind that Pillow reads'),
    (b'a text file called .jpg', 'is not an image of a kind that Pillow reads'),
    (whole_jpeg()[:-400], 'is damaged, must be a whole image'),
    (png_header(20_000, 20_000), 'is too large .*400000000 pixels'),
    (png_header(10_000, 9_000), '10000 x 9000 pixels, must have at most 894'),
  ],
)
@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_what_is_no_image(tmp_path, content, words):
  if content is not None:
    (tmp_path / 'a.jpg').write_bytes(content)
  with pytest.raises(InputError, match=words):
    read(tmp_path / 'a.jpg')


def test_a_long_image_is_read(tmp_path):
  Image.new('L', (20_000, 3), 7).save(tmp_path / 'a.png')
  assert read(tmp_path / 'a.png').shape == (3, 20_000, 3)


def test_pixels_without_a_range(tmp_path):
  Image.fromarray(np.float32([[0.5, 2]])).save(tmp_path / 'a.tiff')
  with pytest.raises(
    InputError, match='mode F and from 0.5 to 2, must be of 8'
  ):
    read(tmp_path / 'a.tiff')


def test_find(tmp_path):
  for name in ('b/2.PNG', 'a.jpg', 'b/c/1.webp', 'b/notes.txt'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b'')
  here = lambda pattern: photos.find(str(tmp_path / pattern))[:2]
  assert here('') == (tmp_path, ['a.jpg', 'b/2.PNG', 'b/c/1.webp'])
  assert here('a.jpg') == (tmp_path, ['a.jpg'])
  assert here('b/*.PNG') == (tmp_path / 'b', ['2.PNG'])
  assert here('**/*.[jw]*') == (tmp_path, ['a.jpg', 'b/c/1.webp'])
  # A file that is named counts whatever its ending.
  assert here('b/notes.txt') == (tmp_path / 'b', ['notes.txt'])


@pytest.mark.parametrize(
  ('images', 'words'),
  [
    ('empty', 'the folder holds no file with the ending'),
    ('empty/*.jpg', 'as a pattern it matches no file'),
    ('nowhere', 'is neither a file nor a folder'),
  ],
)
def test_find_nothing(tmp_path, images, words):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(InputError, match=words):
    photos.find(str(tmp_path / images))


def folder_of_all_kinds(folder):
  """Files as phones, Macs and other programs leave them; the photos' names."""
  photos_ = ['a.jpg', 'b/2.PNG', 'b/c/1.webp', 'é.jpg', 'phone.heic', 'raw.cr2']
  photos_ += ['pipe.jpg', 'gone.jpg', 'loop.png', '._real.jpg', 'caf\udce9.jpg']
  for name in [*photos_, 'notes.pdf', 'data.h5', 'clip.mpg', 'x.txt', 'plain']:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if name not in ('pipe.jpg', 'gone.jpg', 'loop.png'):
      (folder / name).write_bytes(b'x')
  os.mkfifo(folder / 'pipe.jpg')
  (folder / 'gone.jpg').symlink_to('nowhere.jpg')
  (folder / 'loop.png').symlink_to('loop.png')
  (folder / 'b/up').symlink_to('..')
  (folder / 'album.jpg').mkdir()
  (folder / '._a.jpg').write_bytes(photos.APPLE_DOUBLE_START + b'Mac OS X')
  return sorted(photos_)


def test_find_of_a_mixed_folder(tmp_path):
  names = folder_of_all_kinds(tmp_path)
  found = photos.find(str(tmp_path))
  assert found.names == names and not found.failures
  left = {'.pdf': 1, '.h5': 1, '.mpg': 1, '.txt': 1, 'without an ending': 1}
  assert found.left_out == {photos.APPLE_DOUBLE: 1, **left}
  # As a pattern, too, which takes no links.
  pattern = photos.find(str(tmp_path / '**/*'))
  assert set(pattern.names) - {'plain'} == set(names) - {'._real.jpg'}


def test_a_linked_folder_is_looked_into_once(tmp_path):
  (tmp_path / 'disk/sub').mkdir(parents=True)
  (tmp_path / 'disk/sub/1.jpg').write_bytes(b'')
  (tmp_path / 'photos/own').mkdir(parents=True)
  (tmp_path / 'photos/own/2.jpg').write_bytes(b'')
  (tmp_path / 'photos/link').symlink_to(tmp_path / 'disk')
  (tmp_path / 'photos/again').symlink_to(tmp_path / 'photos/own')
  (tmp_path / 'disk/sub/back').symlink_to(tmp_path / 'disk')
  names = photos.find(str(tmp_path / 'photos')).names
  assert names == ['link/sub/1.jpg', 'own/2.jpg']


@pytest.mark.parametrize('pattern', ['', '**/*.jpg'])
def test_a_folder_without_permission_is_a_failure(
  tmp_path, monkeypatch, pattern
):
  for name in ('open/1.jpg', 'closed/2.jpg'):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(b'')
  plain = os.scandir

  def scandir(folder='.'):
    if str(folder).endswith('closed'):
      raise PermissionError(errno.EACCES, 'Permission denied', str(folder))
    return plain(folder)

  monkeypatch.setattr(os, 'scandir', scandir)
  found = photos.find(str(tmp_path / pattern))
  assert found.names == ['open/1.jpg']
  why = 'this folder cannot be read (Permission denied)'
  assert found.failures == [('closed', why)]
  with pytest.raises(InputError, match='cannot be read .Permission'):
    photos.find(str(tmp_path / 'closed'))


@pytest.mark.parametrize('images', ['', '*/*.jpg', '**/*.jpg'])
@pytest.mark.parametrize('output', ['out', 'out/deep', '', '../elsewhere'])
def test_what_was_drawn_is_no_photo(tmp_path, images, output):
  """Neither that of this output folder nor that of an earlier one."""
  root = tmp_path / 'photos'
  here = (root / output).resolve()
  drawn = [here / 'overlays/0.jpg', here / 'overlays/x/0.jpg']
  drawn += [root / 'old/overlays/0.jpg']
  for path in (root / 'a/0.jpg', root / 'overlays_of_mine/0.jpg', *drawn):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'')
  (root / 'old/predictions.json').write_text('[]')
  found = photos.find(str(root / images), here)
  assert found.names == ['a/0.jpg', 'overlays_of_mine/0.jpg']
  # Who asks for them by name gets them.
  asked = photos.find(str(here / 'overlays'), here)
  assert asked.names == ['0.jpg', 'x/0.jpg']


def test_a_folder_without_images_says_what_it_holds(tmp_path):
  for i in range(7):
    (tmp_path / f'{i}.x{i % 3}').write_bytes(b'')
  words = r'ending of an image. It holds 3 files .x0, 2 files .x1, 2 files .x2$'
  with pytest.raises(InputError, match=words.replace('$', r'\.$')):
    photos.find(str(tmp_path))


def item(image, box=None):
  items = photos.Items([image], [box], num_landmarks=8)
  return items[0], items.failures


def test_the_whole_image_is_the_box():
  record, failures = item(gradient(6, 4))
  assert record['box'].tolist() == [0, 0, 4, 6] and not failures


@pytest.mark.parametrize(
  ('image', 'box', 'words'),
  [
    (np.zeros((1, 1, 3), np.uint8), None, 'box: is 1 x 1 pixels, must be'),
    (gradient(), (1, 1, 1, 5), 'box: is 0 x 4 pixels, must be at least 2 x 2'),
    (gradient(), (3, 3, 1, 5), 'box: is -2 x 2 pixels'),
    (gradient(), (4, 0, 9, 5), 'lies outside of the image of 4 x 6 pixels'),
    (gradient(), (0, 0, 900, 5), 'beyond the image of 4 x 6'),
    (gradient(), (0, 0, np.nan, 5), r'box: is \[ 0.  0. nan'),
    (gradient()[..., 0], None, r'uint8 of shape \(6, 4\), must be uint8 of'),
    (gradient().astype(float), None, 'float64 of shape'),
  ],
)
def test_items_that_cannot_be_used(image, box, words):
  record, failures = item(image, box)
  assert record['corrupt'] and re.search(words, failures[0])
