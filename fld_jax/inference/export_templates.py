"""The Python files of an export, which run without fld_jax."""

import inspect

from ml_collections import ConfigDict

from fld_jax import geometry

# The functions that crop.py consists of.
_FUNCTIONS = (
  geometry.grow_box,
  geometry.crop_affine,
  geometry.warp,
  geometry.cut,
  geometry.invert,
  geometry.transform,
)
_CROP = '''\
"""Cuts the crops that the model takes, and brings points back to the image.

  pixels, back = prepare(image, box)
  points = transform(back, landmarks)   # landmarks: pixels of the crop

Points are (x, y); (0, 0) is the top-left corner of the top-left pixel, whose
centre is (0.5, 0.5). Made from the source of fld_jax/geometry.py, so the pixels
are those that the model was trained on. Needs NumPy and OpenCV.
"""

import cv2
import numpy as np

InputError = ValueError
SIZE, CROP, MARGIN = {size!r}, {crop!r}, {margin!r}


def prepare(image: np.ndarray, box=None) -> tuple[np.ndarray, np.ndarray]:
  """The crop of one item.

  Args:
    image: (H, W, 3) uint8 RGB.
    box: x1, y1, x2, y2 of the item in image pixels; by default all the image.

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
import cv2
import numpy as np
{imports}

FOLDER = pathlib.Path(__file__).parent
NAMES = json.loads((FOLDER / 'manifest.json').read_text())['landmarks']['names']
{model}


def main(path, *box):
  image = cv2.imread(path, cv2.IMREAD_COLOR)  # upright, as EXIF says
  if image is None:
    sys.exit(f'error: {{path}} is not an image that OpenCV can read')
  image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
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
    options: config.input, of which `size`, `crop` and `margin` are used.
  """
  functions = '\n\n'.join(map(inspect.getsource, _FUNCTIONS))
  return _CROP.format(
    size=options.size,
    crop=options.crop,
    margin=options.margin,
    functions=functions,
  )


def loader(format: str) -> str:
  """The source of load.py for a format, 'stablehlo' or 'onnx'."""
  return _LOAD.format(**_LOADERS[format])
