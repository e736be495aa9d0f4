"""Reading PyTorch's files without PyTorch; `torch_files/make.py` wrote them."""

import contextlib
import io
import os
import pathlib
import pickle
import shutil
import sys
import zipfile

import numpy as np
import pytest

from fld_jax.errors import InputError
from fld_jax.pretrained import torch_files

FILES = pathlib.Path(__file__).parent / 'torch_files'
COUNT = np.arange(24, dtype=np.float32)
# By hand, as make.py says.
EXPECTED = {
  'kernel': (COUNT - 7).reshape(2, 3, 2, 2),
  'turned': np.float32([[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]),
  'part': np.float32([3, 4, 5, 6]) / 8,
  'rest': COUNT[7:] / 8,
  'half': np.float32([0, 0.25, 0.5, 0.75, 1]),
  'bfloat16': np.float32([0, 0.25, 0.5, 0.75, 1]),
  'double': np.arange(4) / 3,
  'byte': np.uint8([0, 1, 2, 3]),
  'int': np.int32([-9, -8, -7, -6]),
  'long': np.array(7),
  'bool': np.array([True, False]),
  'none': np.zeros((0, 3), np.float32),
  'parameter': np.float32([0, 1]),
}
WHOLE = (
  *('weights_zip.pth', 'weights_old.pth', 'checkpoint_zip.pth'),
  *('checkpoint_old.pth', 'weights.safetensors'),
)


@pytest.mark.parametrize('name', WHOLE)
def test_tensors_of_every_kind(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # where a command of the pickle would leave marks
  found = torch_files.read(FILES / name)
  assert found.keys() == EXPECTED.keys()
  for key, value in EXPECTED.items():
    assert found[key].dtype == value.dtype, key
    np.testing.assert_array_equal(found[key], value, err_msg=key)
  assert not any(tmp_path.iterdir())


def test_the_files_would_do_harm(tmp_path, monkeypatch):
  """So that the test before means something."""
  monkeypatch.chdir(tmp_path)
  archive = zipfile.ZipFile(FILES / 'checkpoint_zip.pth')
  content = archive.read('checkpoint_zip/data.pkl')
  assert b'system' in content and b'touch evil' in content


class Evil:
  def __reduce__(self):
    return os.system, ('touch evil',)


class EvilState:
  """Harm by way of an object's state and by what is allowed."""

  def __reduce__(self):
    return eval, ('open("evil", "w")',), {'a': Evil()}, iter([Evil()])


@pytest.mark.parametrize('value', [Evil(), EvilState(), {'a': Evil()}])
@pytest.mark.parametrize('protocol', [2, 5])
def test_a_pickle_runs_nothing(value, protocol, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  harm = tmp_path / 'evil'
  content = pickle.dumps(value, protocol)
  with contextlib.suppress(AttributeError):
    pickle.loads(content)
  assert harm.exists()
  harm.unlink()
  path = tmp_path / 'x.pth'
  path.write_bytes(content)
  with pytest.raises(
    InputError, match='x.pth: is a pickle that torch.save did'
  ):
    torch_files.read(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('x/data.pkl', content)
  with pytest.raises(InputError, match='holds no dict|is no tensor'):
    torch_files.read(path)
  assert not harm.exists()


def test_every_cut_is_noticed(tmp_path):
  for name in WHOLE:
    content = (FILES / name).read_bytes()
    path = tmp_path / name
    for size in [*range(0, 64), *range(64, len(content), 37), len(content) - 1]:
      path.write_bytes(content[:size])
      with pytest.raises(InputError) as caught:
        torch_files.read(path)
      assert str(caught.value).startswith(str(path))


def test_damaged_bytes_never_end_in_a_traceback(tmp_path):
  rng = np.random.default_rng(0)
  seen = 0
  for name in WHOLE:
    content = bytearray((FILES / name).read_bytes())
    path = tmp_path / name
    for _ in range(150):
      damaged = bytearray(content)
      for place in rng.integers(0, len(content), 3):
        damaged[place] = rng.integers(256)
      path.write_bytes(damaged)
      try:
        torch_files.read(path)
      except InputError as error:
        seen += 1
        assert str(error).startswith(str(path))
  assert seen > 100


@pytest.mark.parametrize(
  'name, message',
  [
    ('model_zip.pth', 'holds no dict, must hold a state_dict: torch.save'),
    ('list_zip.pth', 'holds no dict'),
    ('list_old.pth', 'holds no dict'),
    ('make.py', 'is neither a file of torch.save nor a .safetensors'),
    ('nothing.pth', 'cannot be read .No such file'),
  ],
)
def test_other_files(name, message):
  with pytest.raises(InputError, match=f'{name}: {message}'):
    torch_files.read(FILES / name)


def test_text_and_nothing_under_a_name_of_weights(tmp_path):
  for text in ('', 'version https://git-lfs.github.com/spec/v1\n', '\x80\x02'):
    path = tmp_path / 'vgg16.pth'
    path.write_bytes(text.encode('latin1'))
    with pytest.raises(InputError, match='vgg16.pth: is n'):
      torch_files.read(path)


def test_archives_that_are_no_weights(tmp_path):
  path = tmp_path / 'x.pth'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a.txt', 'a')
  with pytest.raises(InputError, match='is a zip file without data.pkl'):
    torch_files.read(path)
  shutil.copy(FILES / 'weights_zip.pth', path)
  with zipfile.ZipFile(path, 'a') as archive:
    archive.writestr('weights_zip/constants.pkl', b'')
  with pytest.raises(InputError, match='is a TorchScript program'):
    torch_files.read(path)


def rebuilt(path, *numbers):
  """A file of one tensor of 4 numbers, as PyTorch would be told to see it."""

  class Tensor:
    def __reduce__(self):
      return torch._utils._rebuild_tensor_v2, (STORAGE, *numbers, False, None)

  buffer = io.BytesIO()
  torch = Torch()
  pickler = Pickler(buffer, 2)
  pickler.dump({'x': Tensor()})
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('x/data.pkl', buffer.getvalue())
    archive.writestr('x/data/0', COUNT[:4].tobytes())
  return path


STORAGE = object()


class Torch:
  """Stands in for the module while something is pickled."""

  def __init__(self):
    def _rebuild_tensor_v2():
      pass

    class FloatStorage:
      pass

    _rebuild_tensor_v2.__module__ = 'torch._utils'
    _rebuild_tensor_v2.__qualname__ = '_rebuild_tensor_v2'
    FloatStorage.__module__, FloatStorage.__qualname__ = 'torch', 'FloatStorage'
    self._utils = self
    self._rebuild_tensor_v2, self.FloatStorage = (
      _rebuild_tensor_v2,
      FloatStorage,
    )


class Pickler(pickle._Pickler):
  def persistent_id(self, value):
    if value is STORAGE:
      return 'storage', Global('torch', 'FloatStorage'), '0', 'cpu', 4
    return None

  def save_global(self, obj, name=None):
    module = getattr(obj, '__module__', '')
    if module.startswith('torch'):
      self.write(f'c{module}\n{obj.__qualname__}\n'.encode())
    else:
      super().save_global(obj, name)

  dispatch = pickle._Pickler.dispatch.copy()
  dispatch[type(lambda: 0)] = save_global


class Global:
  def __init__(self, module, name):
    self.module, self.name = module, name


Pickler.dispatch[Global] = lambda self, value: self.write(
  f'c{value.module}\n{value.name}\n'.encode()
)


def test_views_stay_within_their_numbers(tmp_path):
  path = tmp_path / 'x.pth'
  found = torch_files.read(rebuilt(path, 1, (3,), (1,)))
  assert found['x'].tolist() == [1, 2, 3]
  found = torch_files.read(rebuilt(path, 0, (2, 2), (1, 2)))
  assert found['x'].tolist() == [[0, 2], [1, 3]]
  for numbers in (
    (2, (3,), (1,)),
    (0, (5,), (1,)),
    (0, (2, 2), (1, 3)),
    (0, (10**12,), (1,)),
    (0, (2,), (-1,)),
    (-1, (2,), (1,)),
    (0, (-2,), (1,)),
    (5, (1,), (0,)),
  ):
    with pytest.raises(InputError, match='x: has shape .* there are 4: the'):
      torch_files.read(rebuilt(path, *numbers))
  with pytest.raises(InputError, match='is no whole file of PyTorch'):
    torch_files.read(rebuilt(path, 0, (2, 2), (1,)))


def test_torch_is_not_imported():
  assert 'torch' not in sys.modules or os.environ.get('EXTRAS')
