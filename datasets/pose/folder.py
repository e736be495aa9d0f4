"""Leeds Sports Pose, its extension and Image Parse: official folders -> rows.

  lsp     joints.mat, images/im0001.jpg ...    1,000 train, 1,000 test
          (Johnson and Everingham, BMVC 2010)
  lspet   joints.mat, images/im00001.jpg ...   10,000 train
          (Johnson and Everingham, CVPR 2011)
  parse   labels.mat, im0001.jpg ...           100 train, 205 test
          (Ramanan, NIPS 2006)

A folder with fewer images, of which the .mat file knows, is fine. The three
files differ: lsp holds x, y and 1 for occluded (every joint has a place), lspet
x, y and 1 for annotated (the others' places are junk), parse no third row. Its
left and right are the observer's, those of the other two the person's.

There are no boxes: a row's is that of the joints, grown by a sixth of its
longer side, so a person's place and size are given away, as is usual.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fld_jax import geometry, landmark_sets, schema
from fld_jax.datasets.common.rows import Row
from fld_jax.datasets.pose import mat_files
from fld_jax.errors import Findings, InputError, printable
from fld_jax.files.images import file_state, image_size
from fld_jax.files.inside import inside

LANDMARKS = landmark_sets.LSP_14
CENTRICS = ('observer', 'person')
MARGIN = 1 / 6  # of the longer side of the joints' box


@dataclasses.dataclass(frozen=True)
class Layout:
  """How the files of a data set are named and shaped.

  Attributes:
    file: The name of the .mat file.
    key: The name of the array in it.
    axes: The array's axes: j joints (14), c coordinates, n images.
    rows: The number of coordinates: 2, or 3 with a code.
    image: The path of an image, to be formatted with its number from 1 on.
    num_train: The number of images before the test ones; None if all are for
      training.
    codes: The third coordinate -> visibility.
    centric: Whose left and right the files have, 'observer' or 'person'.
  """

  file: str
  key: str
  axes: str
  rows: int
  image: str
  num_train: int | None
  codes: dict[int, int]
  centric: str


LAYOUTS = {
  'lsp': Layout(
    *('joints.mat', 'joints', 'cjn', 3, 'images/im{:04d}.jpg', 1000),
    codes={0: schema.VISIBLE, 1: schema.OCCLUDED},
    centric='person',
  ),
  'lspet': Layout(
    *('joints.mat', 'joints', 'jcn', 3, 'images/im{:05d}.jpg', None),
    codes={1: schema.VISIBLE, 0: schema.ABSENT},
    centric='person',
  ),
  'parse': Layout(
    *('labels.mat', 'ptsAll', 'jcn', 2, 'im{:04d}.jpg', 100),
    codes={},
    centric='observer',
  ),
}


def digest(manual_dir: str | Path, name: str, centric: str) -> str:
  """A digest of the .mat file and the images' sizes and times.

  Args:
    manual_dir: The folder.
    name: 'lsp', 'lspet' or 'parse'.
    centric: Whose left and right the rows have, 'observer' or 'person'.

  Returns:
    16 hex digits that change when the .mat file or an image does.

  Raises:
    InputError: The .mat file is missing or not valid.
  """
  layout, path = _mat(manual_dir, name)
  found = hashlib.sha256(f'{name} {centric}\n'.encode())
  found.update(path.read_bytes())
  for i in range(1, _load(path, layout).shape[0] + 1):
    image = layout.image.format(i)
    found.update(file_state(os.path.join(manual_dir, image), image))
  return found.hexdigest()[:16]


def read(
  manual_dir: str | Path,
  name: str,
  centric: str = 'observer',
  findings: Findings | None = None,
) -> Iterator[Row]:
  """Reads and checks a folder; of the images only the headers.

  Args:
    manual_dir: The folder.
    name: 'lsp', 'lspet' or 'parse'.
    centric: Whose left and right the rows have, 'observer' or 'person'.
    findings: The collector of mistakes, and of the number of images that are
      left out because no joint has a position; by default the first mistake is
      raised.

  Yields:
    One row an image.

  Raises:
    InputError: The first mistake, with its file and place; parse is to be
      person-centric, which its files do not tell; with other findings, only
      what leaves nothing to read.
  """
  findings = findings or Findings()
  layout, path = _mat(manual_dir, name)
  if centric not in CENTRICS or (centric, layout.centric) == (
    'person',
    'observer',
  ):
    valid = CENTRICS[: 1 + (layout.centric == 'person')]
    raise InputError(
      f"config.dataset.centric is '{centric}', valid for {name}: "
      f'{", ".join(valid)}.',
      'config',
    )
  joints = _load(path, layout)  # (n, 14, 2 or 3)
  for i, image_joints in enumerate(joints):
    try:
      row = _row(manual_dir, path, layout, i, image_joints, centric)
    except InputError as mistake:
      findings.mistake(mistake)
      continue
    if row is None:
      findings.leave_out('no joint with a position', f'image {i + 1}')
    else:
      in_train = layout.num_train is None or i < layout.num_train
      yield dataclasses.replace(row, split='train' if in_train else 'test')


def _row(
  manual_dir: str | Path,
  path: Path,
  layout: Layout,
  i: int,
  joints: np.ndarray,
  centric: str,
) -> Row | None:
  """Makes the row of an image, in the split 'train'.

  Args:
    manual_dir: The folder.
    path: The path of the .mat file, for messages.
    layout: The layout of the data set.
    i: The index of the image, from 0 on.
    joints: (14, 2 or 3) the image's part of the array.
    centric: Whose left and right the row has.

  Returns:
    The row; None if no joint has a position.

  Raises:
    InputError: The image is not valid, or a joint has an invalid code or place.
  """
  points = joints[:, :2]
  codes = np.full(len(points), schema.VISIBLE, np.int32)
  if layout.rows == 3:
    codes = _codes(path, layout, i, joints[:, 2])
  known = schema.has_position(codes)
  bad = np.flatnonzero(~np.isfinite(points).all(axis=-1) & known)
  if bad.size:
    raise InputError(_place(path, layout, i, bad[0]) + ' has no finite place')
  if not known.any():
    return None
  image = layout.image.format(i + 1)
  place = f'{path}, image {i + 1}'
  # The folder of images may be a link to a folder elsewhere.
  folder = os.path.join(manual_dir, os.path.dirname(image))
  file = inside(folder, os.path.basename(image), place, [manual_dir])
  width, height = image_size(file, place)
  here = points[known]
  reach = max(width, height)
  outside = (here < -reach) | (here > np.array([width, height]) + reach)
  if outside.any():
    joint = np.flatnonzero(known)[np.argwhere(outside)[0, 0]]
    x, y = points[joint]
    raise InputError(
      f'{_place(path, layout, i, joint)} is at {x:g}, {y:g}, far outside of '
      f'the image of {width} x {height} pixels',
      'landmark',
    )
  # What is absent may be any junk, infinities too.
  points = np.where(known[:, None], points, 0)
  if centric != layout.centric:
    (points,), (codes,) = geometry.observer_centric(
      points[None], codes[None], LANDMARKS
    )
  low, high = here.min(axis=0), here.max(axis=0)
  grow = MARGIN * max(*(high - low), 1.0)
  return Row(
    id=image,
    path=file,
    place=place,
    split='train',
    box=np.concatenate([low - grow, high + grow]).astype(np.float32),
    landmarks=points.astype(np.float32),
    visibility=codes,
  )


def _mat(manual_dir: str | Path, name: str) -> tuple[Layout, Path]:
  """The layout of a data set, and the path of its existing .mat file."""
  layout = LAYOUTS[name]
  path = Path(manual_dir) / layout.file
  if not path.is_file():
    raise InputError(
      f'{path}: this file is missing; beside it must be '
      f'{layout.image.format(1)} and so on',
      'missing',
    )
  return layout, path


def _load(path: Path, layout: Layout) -> np.ndarray:
  """Reads the array of a .mat file: (n, 14, rows) float64."""
  try:
    array = mat_files.read_array(path, layout.key)
  except ValueError as error:
    problem = printable(str(error))
    raise InputError(
      f'{path}: is not a valid MATLAB file ({problem})'
    ) from None
  lengths = {'j': 14, 'c': layout.rows}
  shape = array.shape
  if (
    len(shape) != 3
    or any(
      lengths.get(a, n) != n for a, n in zip(layout.axes, shape, strict=True)
    )
    or not array.size
  ):
    sides = ', '.join(str(lengths.get(a, 'images')) for a in layout.axes)
    raise InputError(
      f'{path}, {layout.key}: has the shape {shape}, must be numbers of the '
      f'shape ({sides})'
    )
  order = [layout.axes.index(axis) for axis in 'njc']
  return np.asarray(array, np.float64).transpose(order)


def _codes(
  path: Path, layout: Layout, image: int, third: np.ndarray
) -> np.ndarray:
  """Converts the codes of an image: (14,) int32 codes of `schema`.

  Args:
    path: The path of the .mat file, for messages.
    layout: The layout of the data set.
    image: The index of the image, from 0 on.
    third: (14,) the third coordinates.

  Raises:
    InputError: A code is not one of the layout's.
  """
  bad = np.flatnonzero(~np.isin(third, list(layout.codes)))
  if bad.size:
    raise InputError(
      f'{_place(path, layout, image, bad[0])} has the code {third[bad[0]]:g}, '
      'must be 0 or 1',
      'visibility',
    )
  return np.where(third == 1, layout.codes[1], layout.codes[0]).astype(np.int32)


def _place(path: Path, layout: Layout, image: int, joint: int) -> str:
  """The beginning of a message about a joint; a verb follows."""
  return (
    f'{path}, {layout.key}, image {image + 1}, {LANDMARKS.names[joint]}: it'
  )
