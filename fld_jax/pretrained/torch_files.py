"""PyTorch's weights without PyTorch: both formats of .pth, and .safetensors.

A .pth is a pickle, which can name any function and call it. Here it gets none:
what a pickle names becomes something inert, but for ordered dicts and what
tensors are made of.
"""

import collections
import io
import math
import pathlib
import pickle
import zipfile
from typing import NamedTuple

import numpy as np
import safetensors

from fld_jax.errors import InputError, printable

# By the names of storages and of dtypes; bfloat16 is the upper half of float32.
_KINDS = {
  'BFloat16': 'bfloat16',
  'Bool': '?',
  'Byte': 'u1',
  'Char': 'i1',
  'Double': '<f8',
  'Float': '<f4',
  'Half': '<f2',
  'Int': '<i4',
  'Long': '<i8',
  'Short': '<i2',
}
_DTYPES = {
  'bfloat16': 'bfloat16',
  'bool': '?',
  'float16': '<f2',
  'float32': '<f4',
  'float64': '<f8',
  'int16': '<i2',
  'int32': '<i4',
  'int64': '<i8',
  'int8': 'i1',
  'uint16': '<u2',
  'uint32': '<u4',
  'uint64': '<u8',
  'uint8': 'u1',
}
_SAFETENSORS = {
  'BF16': 'bfloat16',
  'BOOL': '?',
  'F16': '<f2',
  'F32': '<f4',
  'F64': '<f8',
  'I16': '<i2',
  'I32': '<i4',
  'I64': '<i8',
  'I8': 'i1',
  'U8': 'u1',
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The tensors of a state_dict.

  Args:
    path: a file that torch.save wrote, new (zip) or old, of a state_dict or of
      a dict that holds one under 'state_dict' beside anything else; or a
      .safetensors. The content tells which, not the ending.

  Returns:
    name -> array; halves are float32.

  Raises:
    InputError: the file cannot be read, is none of these, is cut off, or holds
      no state_dict.
  """
  try:
    content = path.read_bytes()
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror})') from None
  if content[:4] == b'PK\x03\x04':
    reader = _read_zip
  elif content[:1] == b'\x80':
    reader = _read_legacy
  elif content[8:9] == b'{':
    reader = _read_safetensors
  else:
    raise InputError(
      f'{path}: is neither a file of torch.save nor a .safetensors; it has '
      f'{len(content)} bytes, the first are {content[:8]!r}'
    )
  try:
    return reader(path, content)
  except InputError:
    raise
  except Exception as error:  # of parsers that run into anything
    raise InputError(
      f'{path}: is no whole file of PyTorch: it is cut off or damaged '
      f'({printable(f"{type(error).__name__}: {error}")})'
    ) from None


def _read_safetensors(path, content: bytes) -> dict[str, np.ndarray]:
  arrays = {}
  for name, tensor in safetensors.deserialize(content):
    kind = _SAFETENSORS.get(tensor['dtype'])
    if kind is None:
      raise InputError(
        f'{path}, {printable(name)}: is of type {tensor["dtype"]}, valid are '
        f'{", ".join(_SAFETENSORS)}'
      )
    arrays[name] = _numbers(tensor['data'], kind).reshape(tensor['shape'])
  return arrays


def _numbers(data: bytes, kind: str) -> np.ndarray:
  """(n,) of a storage's bytes; halves as float32."""
  if kind == 'bfloat16':
    return (np.frombuffer(data, '<u2').astype('<u4') << 16).view('<f4')
  array = np.frombuffer(data, kind)
  return array.astype('<f4') if kind == '<f2' else array


# --- what torch.save writes --------------------------------------------------


class _Storage(NamedTuple):
  """Numbers that tensors are views of.

  Attributes:
    key: its name in the file.
    kind: of its numbers; None if the tensor tells.
  """

  key: str
  kind: str | None


class _Tensor(NamedTuple):
  """A view of a storage, all in elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]
  kind: str


class _Inert:
  """What a pickle made of anything else: takes all, does nothing."""

  def __new__(cls, *unused, **unused_too):
    return super().__new__(cls)

  def __init__(self, *unused, **unused_too):
    pass

  def __call__(self, *unused, **unused_too):
    return self

  def __setstate__(self, unused):
    pass

  def __setitem__(self, unused, unused_too):
    pass

  def append(self, unused):
    """As lists and their like are filled."""

  extend = add = append


class _Kind(NamedTuple):
  """A type of storage, or a dtype, by its name; None for untyped bytes."""

  name: str | None


def _tensor(storage, offset, shape, strides, *unused):
  """torch._utils._rebuild_tensor and _rebuild_tensor_v2."""
  return _Tensor(storage, offset, tuple(shape), tuple(strides), storage.kind)


def _tensor_with_dtype(
  storage, offset, shape, strides, unused_grad, unused_hooks, dtype, *unused
):
  """torch._utils._rebuild_tensor_v3."""
  if not isinstance(dtype, _Kind):
    raise pickle.UnpicklingError('a type of numbers that is not known here')
  return _Tensor(storage, offset, tuple(shape), tuple(strides), dtype.name)


_ALLOWED = {
  ('collections', 'OrderedDict'): collections.OrderedDict,
  ('torch._utils', '_rebuild_tensor'): _tensor,
  ('torch._utils', '_rebuild_tensor_v2'): _tensor,
  ('torch._utils', '_rebuild_tensor_v3'): _tensor_with_dtype,
  ('torch._utils', '_rebuild_parameter'): lambda tensor, *unused: tensor,
  ('torch.storage', 'UntypedStorage'): _Kind(None),
  ('torch', 'UntypedStorage'): _Kind(None),
  **{('torch', f'{name}Storage'): _Kind(kind) for name, kind in _KINDS.items()},
  **{('torch', name): _Kind(kind) for name, kind in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
  """A pickle of tensors, and nothing that it names is looked up or run.

  Attributes:
    kinds: key -> kind of the numbers of each storage.
  """

  def __init__(self, file):
    super().__init__(file)
    self.kinds = {}

  def find_class(self, module, name):
    return _ALLOWED.get((module, name), _Inert)

  def persistent_load(self, pid):
    if pid[0] == 'module':  # of a whole model, with its source
      return _Inert
    what, kind, key, _, _, *view = pid
    if what != 'storage' or not isinstance(kind, _Kind) or any(view):
      raise pickle.UnpicklingError(f'no storage as known here: {pid!r:.100}')
    self.kinds[key] = kind.name
    return _Storage(key, kind.name)


def _read_zip(path, content: bytes) -> dict[str, np.ndarray]:
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    names = archive.namelist()
    pickles = [name for name in names if name.endswith('/data.pkl')]
    if len(pickles) != 1:
      raise InputError(
        f'{path}: is a zip file without data.pkl, so torch.save did not '
        'write it'
      )
    folder = pickles[0].removesuffix('data.pkl')
    if f'{folder}constants.pkl' in names:
      raise InputError(
        f'{path}: is a TorchScript program, must be weights: save its '
        'state_dict()'
      )
    if f'{folder}byteorder' in names:
      _check_byte_order(path, archive.read(f'{folder}byteorder') == b'little')
    found = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
    return _arrays(path, found, lambda key: archive.read(f'{folder}data/{key}'))


def _read_legacy(path, content: bytes) -> dict[str, np.ndarray]:
  file = io.BytesIO(content)
  if _Unpickler(file).load() != _LEGACY_MAGIC:
    raise InputError(f'{path}: is a pickle that torch.save did not write')
  _Unpickler(file).load()  # version of the protocol
  system = _Unpickler(file).load()
  _check_byte_order(path, system['little_endian'])
  unpickler = _Unpickler(file)
  found = unpickler.load()
  storages = {}
  for key in _Unpickler(file).load():
    count = int.from_bytes(file.read(8), 'little')
    kind = unpickler.kinds[key]
    size = {None: 1, 'bfloat16': 2}.get(kind) or np.dtype(kind).itemsize
    storages[key] = file.read(count * size)
  return _arrays(path, found, storages.__getitem__)


def _check_byte_order(path, is_little: bool) -> None:
  if not is_little:
    raise InputError(f'{path}: is of a big-endian machine')


def _arrays(path, found, storage_of) -> dict[str, np.ndarray]:
  """The tensors of an unpickled state_dict.

  Args:
    path: of the file, for messages.
    found: what the pickle holds.
    storage_of: function of a storage's key to its bytes.
  """
  if isinstance(found, dict) and isinstance(found.get('state_dict'), dict):
    found = found['state_dict']
  if not isinstance(found, dict) or not found:
    what = 'an empty dict' if isinstance(found, dict) else 'no dict'
    raise InputError(
      f'{path}: holds {what}, must hold a state_dict: '
      'torch.save(model.state_dict(), FILE)'
    )
  arrays, storages = {}, {}
  for name, tensor in found.items():
    if not isinstance(tensor, _Tensor):
      raise InputError(
        f'{path}, {printable(str(name))}: is no tensor, so this is no '
        'state_dict'
      )
    place = tensor.storage.key, tensor.kind
    if place not in storages:
      storages[place] = _numbers(storage_of(tensor.storage.key), tensor.kind)
    arrays[name] = _view(
      f'{path}, {printable(str(name))}', tensor, storages[place]
    )
  return arrays


def _view(place: str, tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
  """The array of a tensor; NumPy does not look whether it fits."""
  shape, strides = tensor.shape, tensor.strides
  whole = (tensor.offset, *shape, *strides)
  last = tensor.offset
  if all(isinstance(n, int) and n >= 0 for n in whole):
    last += sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if math.prod(shape) == 0 or last < len(numbers):
      return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :],
        shape,
        [step * numbers.itemsize for step in strides],
        writeable=False,
      )
  raise InputError(
    f'{place}: has shape {shape} and ends at number {last}, but there are '
    f'{len(numbers)}: the file is cut off or damaged'
  )
