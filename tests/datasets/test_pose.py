"""LSP, LSP extended and Image Parse: their opposite conventions."""

import cv2
import numpy as np
import pytest
import scipy.io
from ml_collections import ConfigDict
from places import SHARED

from fld_jax import landmark_sets, schema
from fld_jax.datasets.catalog import landmark_set
from fld_jax.datasets.pose import mat_files
from fld_jax.datasets.pose.folder import LAYOUTS, read
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import InputError

LSP = landmark_sets.LSP_14
V, O, A = schema.VISIBLE, schema.OCCLUDED, schema.ABSENT  # noqa: E741


def people(n):
  """(n, 14, 2): standing, the first facing the camera, the second away."""
  points = np.zeros((n, 14, 2))
  for name, y, out in (
    *(('shoulder', 20, 10), ('elbow', 35, 15), ('wrist', 50, 18)),
    *(('hip', 50, 8), ('knee', 75, 9), ('ankle', 100, 10)),
  ):
    points[:, LSP.names.index(f'right_{name}')] = 50 - out, y
    points[:, LSP.names.index(f'left_{name}')] = 50 + out, y
  points[:, 12], points[:, 13] = (50, 15), (50, 4)
  points[1] = points[1, LSP.flip]
  return points


def write(folder, name, array, count=None):
  layout = LAYOUTS[name]
  (folder / 'images').mkdir(parents=True, exist_ok=True)
  scipy.io.savemat(folder / layout.file, {layout.key: array})
  axis = layout.axes.index('n')
  for i in range(array.shape[axis] if count is None else count):
    image = np.full((120, 100, 3), i % 256, np.uint8)
    cv2.imwrite(str(folder / layout.image.format(i + 1)), image)
  return folder


def lsp(points, occluded):
  return np.stack([points[..., 0].T, points[..., 1].T, occluded.T])


def test_lsp(tmp_path):
  """3 x 14 x n; the third row says occluded; all places count."""
  points = people(1002)
  occluded = np.zeros((1002, 14))
  occluded[0, 3] = 1
  folder = write(tmp_path, 'lsp', lsp(points, occluded))
  rows = list(read(folder, 'lsp'))
  assert [row.split for row in rows] == ['train'] * 1000 + ['test'] * 2
  assert rows[0].id == 'images/im0001.jpg'
  np.testing.assert_array_equal(rows[0].landmarks, points[0])
  assert rows[0].visibility.tolist() == [V] * 3 + [O] + [V] * 10
  # Seen from behind: the observer's left is not the person's.
  np.testing.assert_array_equal(rows[1].landmarks, points[0])
  np.testing.assert_allclose(
    rows[0].box, [32 - 16, 4 - 16, 68 + 16, 100 + 16], rtol=1e-6
  )
  rows = list(read(folder, 'lsp', 'person'))
  np.testing.assert_array_equal(rows[1].landmarks, points[1])


def test_lspet(tmp_path):
  """14 x 3 x n; the third column says annotated, the rest is junk."""
  points = people(4)
  array = np.concatenate([points, np.ones((4, 14, 1))], axis=2)
  array[0, 5] = -260, 9000, 0
  array[2, :, 2] = 0
  folder = write(tmp_path, 'lspet', array.transpose(1, 2, 0))
  rows = list(read(folder, 'lspet'))
  assert [row.id[-5:-4] for row in rows] == ['1', '2', '4']
  assert {row.split for row in rows} == {'train'}
  assert rows[0].visibility.tolist() == [V] * 5 + [A] + [V] * 8
  np.testing.assert_array_equal(rows[0].landmarks[5], 0)
  np.testing.assert_array_equal(rows[1].landmarks, points[0])


def test_parse(tmp_path):
  """14 x 2 x n, the observer's left and right already."""
  points = people(102)
  folder = write(tmp_path, 'parse', points.transpose(1, 2, 0))
  rows = list(read(folder, 'parse'))
  assert [row.split for row in rows] == ['train'] * 100 + ['test'] * 2
  np.testing.assert_array_equal(rows[1].landmarks, points[1])
  with pytest.raises(InputError, match="'person', valid for parse: observer."):
    list(read(folder, 'parse', 'person'))


@pytest.mark.parametrize(
  'damage, message',
  [
    (lambda a: a[:, :13], r'joints: has the shape \(3, 13, 2\), must be'),
    (lambda a: a[0], r'has the shape .*, must be numbers .* \(3, 14, images\)'),
    (lambda a: np.where(a == a[2], 0.5, a), 'right_ankle: it has the code 0.5'),
    (
      lambda a: np.where(a == 100, np.nan, a),
      'joints, image 1, right_ankle: it has no finite place',
    ),
    (
      lambda a: np.where(a == 100, 900, a),
      'image 1, right_ankle: it is at 40, 900, far outside .* 100 x 120',
    ),
  ],
)
def test_bad_arrays(tmp_path, damage, message):
  folder = write(tmp_path, 'lsp', lsp(people(2), np.zeros((2, 14))))
  array = damage(lsp(people(2), np.zeros((2, 14))))
  scipy.io.savemat(folder / 'joints.mat', {'joints': array})
  with pytest.raises(InputError, match=message) as raised:
    list(read(folder, 'lsp'))
  assert str(folder / 'joints.mat') in str(raised.value)


def test_junk_of_absent_joints_is_not_computed_with(tmp_path):
  """Infinities would give warnings, which are errors here."""
  array = np.concatenate([people(2), np.ones((2, 14, 1))], axis=2)
  array[0, [2, 8]] = (np.inf, -np.inf, 0), (np.nan, 1e300, 0)
  folder = write(tmp_path, 'lspet', array.transpose(1, 2, 0))
  row, _ = read(folder, 'lspet')
  assert np.flatnonzero(row.visibility == A).tolist() == [2, 8]
  np.testing.assert_array_equal(row.landmarks[[2, 8]], 0)


def test_a_joint_is_named_as_the_file_has_it(tmp_path):
  """Not by the observer's side, where it would get to."""
  array = lsp(people(2), np.zeros((2, 14)))
  for value in (900, 1e300):
    array[0, 5, 1] = value  # left ankle of one seen from behind
    folder = write(tmp_path, 'lsp', array)
    with pytest.raises(InputError, match='image 2, left_ankle: it is at'):
      list(read(folder, 'lsp'))


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize(
  'kind', 'f8 f4 i1 u1 i2 u2 i4 u4 i8 u8 >f8 >i2 ?'.split()
)
def test_mat_files_are_read_as_scipy_reads_them(tmp_path, kind, compressed):
  array = (np.arange(120).reshape(4, 5, 6) % 7).astype(kind)
  path = tmp_path / 'a.mat'
  data = {'text': 'abc', 'cell': np.array([1, 'x'], object), 'joints': array}
  scipy.io.savemat(path, data, do_compression=compressed)
  found = mat_files.read_array(path, 'joints')
  np.testing.assert_array_equal(found, scipy.io.loadmat(path)['joints'])
  assert found.dtype == scipy.io.loadmat(path)['joints'].dtype
  with pytest.raises(ValueError, match="has no 'x', but text, cell, joints"):
    mat_files.read_array(path, 'x')
  for name in ('text', 'cell'):
    with pytest.raises(ValueError, match='not an array of real numbers'):
      mat_files.read_array(path, name)


def test_a_flipped_bit_does_not_end_the_process(tmp_path):
  """With this one SciPy 1.17 looks for a type beyond its table."""
  folder = write(tmp_path, 'lsp', lsp(people(2), np.zeros((2, 14))))
  path = folder / 'joints.mat'
  content = bytearray(path.read_bytes())
  assert content[192:194] == b'\x09\0'  # doubles
  content[193] ^= 4
  path.write_bytes(content)
  with pytest.raises(
    InputError, match="is not a valid MATLAB file .*'joints' has data"
  ):
    list(read(folder, 'lsp'))


def test_compressed_data_are_checked_to_their_end(tmp_path):
  folder = write(tmp_path, 'lsp', lsp(people(2), np.zeros((2, 14))))
  path = folder / 'joints.mat'
  array = lsp(people(2), np.zeros((2, 14)))
  scipy.io.savemat(path, {'joints': array}, do_compression=True)
  content = path.read_bytes()
  assert len(list(read(folder, 'lsp'))) == 2
  for damaged in (content[:-1], content[:-1] + b'x', content + b'x'):
    path.write_bytes(damaged)
    if damaged == content + b'x':  # behind the array
      assert len(list(read(folder, 'lsp'))) == 2
      continue
    with pytest.raises(
      InputError, match='joints.mat: is not a valid MATLAB file'
    ):
      list(read(folder, 'lsp'))


def test_bad_folders(tmp_path):
  with pytest.raises(InputError, match='joints.mat: this file is missing'):
    list(read(tmp_path, 'lsp'))
  (tmp_path / 'joints.mat').write_bytes(b'MATLAB 5.0, no longer')
  with pytest.raises(
    InputError, match='joints.mat: is not a valid MATLAB file'
  ):
    list(read(tmp_path, 'lsp'))
  folder = write(tmp_path, 'lsp', lsp(people(2), np.zeros((2, 14))), count=1)
  with pytest.raises(InputError, match='image 2: .*im0002.jpg is missing'):
    list(read(folder, 'lsp'))
  with pytest.raises(InputError, match="centric is 'left', valid for lsp: obs"):
    list(read(folder, 'lsp', 'left'))


@pytest.mark.parametrize(
  'name, sizes', [('parse', {'train': 100, 'test': 205}), ('lspet', None)]
)
def test_real_folders(tmp_path, name, sizes):
  folder = SHARED / name
  if not folder.exists():
    pytest.skip(f'{folder} is not here')
  if name == 'parse':
    config = ConfigDict(
      {
        **{'name': name, 'manual_dir': str(folder), 'centric': 'observer'},
        **{'data_dir': str(tmp_path), 'clothes_type': ''},
      }
    )
    builder = prepared_builder(config)
    splits = builder.info.splits
    assert {k: splits[k].num_examples for k in splits} == sizes
    record = builder.as_data_source('train')[0]
    assert record['landmarks'].shape == (14, 2)
    assert landmark_set(config) is LSP
  rows = list(read(folder, name))
  if name == 'parse':
    # By hand from labels.mat: the observer's left ankle of the first image.
    np.testing.assert_allclose(rows[0].landmarks[0], [79.97792, 194.4175])
    return
  data = scipy.io.loadmat(folder / 'joints.mat')['joints']
  assert len(rows) == (data[:, 2] > 0).any(axis=0).sum()
  known = sum((row.visibility == V).sum() for row in rows)
  assert known == (data[:, 2] == 1).sum()
  # Observer-centric: of all, upright people's right hips have smaller x.
  person = list(read(folder, name, 'person'))
  swapped = 0
  for ours, theirs in zip(rows, person, strict=True):
    right, left = (LSP.names.index(f'{s}_hip') for s in ('right', 'left'))
    head, neck = (LSP.names.index(n) for n in ('head_top', 'neck'))
    swapped += (ours.landmarks != theirs.landmarks).any()
    torso = [2, 3, 8, 9]
    if (ours.visibility[torso] != V).any():
      continue
    hips = ours.landmarks[[right, left]].mean(axis=0)
    shoulders = ours.landmarks[[8, 9]].mean(axis=0)
    down = hips - shoulders
    if down[1] > 2 * abs(down[0]):  # roughly upright
      across = ours.landmarks[left] - ours.landmarks[right]
      assert across[0] * down[1] - across[1] * down[0] >= 0
  assert 0.1 < swapped / len(rows) < 0.6
