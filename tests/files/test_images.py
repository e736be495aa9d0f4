"""What is opened as an image: files alone, by Pillow alone."""

import contextlib
import os
import socket
import stat
import time

import pytest
from PIL import Image, ImageFile

from fld_jax.errors import InputError
from fld_jax.files import images

READERS = {
  'predict': images.read,
  'prepare and doctor': lambda path: images.decode_image(str(path), 'row 1'),
  'score': lambda path: images.image_size(str(path), 'row 1'),
}


def make_socket(path):
  """A socket, which stays when it is closed."""
  os.chdir(path.parent)  # its path must be short
  with socket.socket(socket.AF_UNIX) as server:
    server.bind(path.name)


SPECIAL = {
  'a named pipe': os.mkfifo,
  'a folder': os.mkdir,
  'a socket': make_socket,
  'a device': lambda path: path.symlink_to('/dev/zero'),
  'a link that leads to itself': lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('what', SPECIAL)
def test_what_is_no_file_is_refused_at_once(
  tmp_path, monkeypatch, reader, what
):
  monkeypatch.chdir(tmp_path)
  path = tmp_path / 'a.jpg'
  SPECIAL[what](path)
  start = time.monotonic()
  with pytest.raises(InputError, match=f'a.jpg:? is {what}'):
    READERS[reader](path)
  assert time.monotonic() - start < 5


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path, monkeypatch):
  os.mkfifo(tmp_path / 'a.jpg')
  (tmp_path / 'file').write_bytes(b'')
  regular = os.stat(tmp_path / 'file')
  monkeypatch.setattr(os, 'stat', lambda *unused, **named: regular)
  with pytest.raises(InputError, match='is a named pipe'):
    with images.opened_file(tmp_path / 'a.jpg', 'a.jpg'):
      pass


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('name', ['a.jpg', 'a.eps', 'a.ps'])
def test_no_program_is_started(tmp_path, monkeypatch, reader, name):
  """Neither for PostScript, nor for a file with PostScript in it."""
  program, log = tmp_path / 'gs', tmp_path / 'log'
  program.write_text(f'#!/bin/sh\necho called >> {log}\n')
  program.chmod(program.stat().st_mode | stat.S_IXUSR)
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  monkeypatch.setattr('PIL.EpsImagePlugin.gs_binary', None)
  drawing = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n'
  (tmp_path / name).write_bytes(drawing)
  # It would be called, if the file were opened as any image.
  with contextlib.suppress(OSError), Image.open(tmp_path / name) as image:
    image.load()
  assert log.exists()
  log.unlink()
  with pytest.raises(InputError, match='not an image of a kind|not read'):
    READERS[reader](tmp_path / name)
  assert not log.exists()


def test_formats_are_decoded_by_pillow_alone():
  assert {'JPEG', 'PNG', 'WEBP', 'TIFF', 'GIF', 'BMP'} <= set(images.formats())
  assert not set(images.formats()) & set(images.UNSAFE_FORMATS)
  for name in images.formats():
    factory = Image.OPEN[name][0]
    if isinstance(factory, type):
      assert not issubclass(factory, ImageFile.StubImageFile), name
  assert not images.endings() & {'.pdf', '.mpg', '.h5', '.grib', '.eps', '.ps'}
  assert not images.endings() & images.RAW_ENDINGS


@pytest.mark.parametrize(
  'ending', ['.HEIC', '.heif', '.cr2', '.NEF', '.dng', '.svg', '.xcf', '.raw']
)
def test_formats_that_are_not_read_say_what_to_do(tmp_path, ending):
  path = tmp_path / f'a{ending}'
  path.write_bytes(bytes(100))
  if ending.lower() in images.endings():
    pytest.skip('a package reads it here')
  with pytest.raises(InputError, match='convert it, for example to JPEG'):
    images.read(path)


def test_what_an_ending_says_wrongly(tmp_path):
  """A JPEG called .heic is read; a raw file's thumbnail is no photo."""
  Image.new('RGB', (4, 4)).save(tmp_path / 'a.heic', 'JPEG')
  assert images.read(tmp_path / 'a.heic').shape == (4, 4, 3)
  Image.new('RGB', (4, 4)).save(tmp_path / 'a.dng', 'TIFF')
  with pytest.raises(InputError, match='convert it'):
    images.read(tmp_path / 'a.dng')
