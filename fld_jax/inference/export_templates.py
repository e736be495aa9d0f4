"""The Python files of an export, which run without fld_jax."""

import inspect

from ml_collections import ConfigDict

from fld_jax import errors, geometry
from fld_jax.files import file_names, images

# What crop.py consists of: how photos are read, and how they are cut.
_FUNCTIONS = (
  errors.printable,
  file_names.encoded,
  images.endings,
  images.formats,
  images.opened_file,
  images.read,
  images.shown,
  images.to_rgb,
  images._opened,
  images._named_errors,
  images._damaged,
  images._system_problem,
  images._check_ending,
  geometry.grow_box,
  geometry.cropped_box,
  geometry.crop_affine,
  geometry.warp,
  geometry.cut,
  geometry.invert,
  geometry.transform,
)
_CROP = '''\
"""Reads photos, cuts the crops that the model takes, and brings points back.

  image = read(path)
  pixels, back = prepare(image, box)
  points = transform(back, landmarks)   # landmarks: pixels of the crop

A photo is read as a viewer shows it: upright as its EXIF data say, transparent
parts over white; a damaged one is an InputError. Points are (x, y); (0, 0) is
the top-left corner of the top-left pixel, whose centre is (0.5, 0.5). Made from
the source of fld_jax, so the pixels are those that the model was trained on.
Needs NumPy, OpenCV and Pillow.
"""

import contextlib
import errno
import functools
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps

SIZE, CROP, MARGIN = {size!r}, {crop!r}, {margin!r}
MAX_PIXELS = {max_pixels!r}
UNSAFE_FORMATS = {unsafe_formats!r}
RAW_ENDINGS = {raw_endings!r}
UNREAD_ENDINGS = {unread_endings!r}
_WHOLE = {whole!r}
_SURROGATE = re.compile({surrogate!r})
_ESCAPE = re.compile({escape!r})


class InputError(ValueError):
  """A photo that cannot be used; the message is a sentence."""

  def __init__(self, message: str, kind: str = ''):
    super().__init__(message)


def prepare(image: np.ndarray, box=None) -> tuple[np.ndarray, np.ndarray]:
  """The crop of one item.

  Args:
    image: (H, W, 3) uint8 RGB.
    box: x1, y1, x2, y2 of the item in image pixels; by default all the image,
      which with CROP 'image' the crop always shows.

  Returns:
    (pixels, back): (SIZE, SIZE, 3) uint8; (2, 3), crop pixels -> image pixels.
  """
  if box is None:
    box = [0, 0, image.shape[1], image.shape[0]]
  pixels, affine = cut(image, np.asarray(box, np.float32), SIZE, CROP, MARGIN)
  return pixels, invert(affine)


{functions}'''
_LOAD = '''\
"""Finds landmarks: python load.py IMAGE [x1 y1 x2 y2]; prints image pixels."""

import json
import pathlib
import sys

import crop
import numpy as np
{imports}

FOLDER = pathlib.Path(__file__).parent
NAMES = json.loads((FOLDER / 'manifest.json').read_text())['landmarks']['names']
{model}


def main(path, *box):
  try:
    image = crop.read(path)
  except crop.InputError as error:
    sys.exit(f'error: {{error}}')
  pixels, back = crop.prepare(image, [float(v) for v in box] or None)
  out = run(pixels[None])  # any number of crops
  points = crop.transform(back, np.asarray(out['landmarks'][0], float))
  for name, (x, y), score in zip(NAMES, points, out['confidence'][0]):
    print(f'{{name}} {{x:.3f}} {{y:.3f}} confidence {{score:.3f}}')


if __name__ == '__main__':
  main(*sys.argv[1:]) if len(sys.argv) in (2, 6) else sys.exit(__doc__)
'''
_LOADERS = {
  'stablehlo': {
    'imports': 'from jax import export, jit',
    'model': """\
model = (FOLDER / 'model.stablehlo').read_bytes()
run = jit(export.deserialize(bytearray(model)).call)""",
  },
  'onnx': {
    'imports': 'import onnxruntime',
    'model': """\
session = onnxruntime.InferenceSession(FOLDER / 'model.onnx')
outputs = [output.name for output in session.get_outputs()]
run = lambda crops: dict(zip(outputs, session.run(None, {'image': crops})))""",
  },
}


def crop_module(options: ConfigDict) -> str:
  """The source of crop.py.

  Args:
    options: The part `input` of the config, of which `size`, `crop` and
      `margin` are used.
  """
  functions = '\n\n'.join(map(inspect.getsource, _FUNCTIONS))
  return _CROP.format(
    size=options.size,
    crop=options.crop,
    margin=options.margin,
    max_pixels=images.MAX_PIXELS,
    unsafe_formats=images.UNSAFE_FORMATS,
    raw_endings=sorted(images.RAW_ENDINGS),
    unread_endings=sorted(images.UNREAD_ENDINGS),
    whole=images._WHOLE,
    surrogate=file_names._SURROGATE.pattern,
    escape=file_names._ESCAPE.pattern,
    functions=functions,
  )


def loader(format: str) -> str:
  """The source of load.py.

  Args:
    format: 'stablehlo' or 'onnx'.
  """
  return _LOAD.format(**_LOADERS[format])
