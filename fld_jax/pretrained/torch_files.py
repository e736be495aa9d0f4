"""Reads PyTorch's weights without PyTorch: .pth of both formats, .safetensors.

A .pth is a pickle, which can name any function and call it. Here no such
function is looked up: everything that a pickle names is replaced by an inert
object, except ordered dicts and the parts of tensors.
"""

import collections
import io
import math
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import safetensors

from fld_jax.errors import InputError, printable

# NumPy's types by the names of PyTorch's storages, of its dtypes, and of the
# types of safetensors. A bfloat16 is the upper half of a float32.
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
  """Reads the tensors of a state_dict.

  Args:
    path: A file that torch.save wrote, in the zip format or the older one, with
      a state_dict or a dict that has one as its entry 'state_dict'; or a
      .safetensors. The content decides on the format, not the ending.

  Returns:
    Arrays by their names; float16 and bfloat16 are converted to float32.

  Raises:
    InputError: The file cannot be read, has another format, is truncated, or
      holds no state_dict.
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
  except Exception as error:  # the parsers raise errors of any kind
    raise InputError(
      f'{path}: is no whole file of PyTorch: it is cut off or damaged '
      f'({printable(f"{type(error).__name__}: {error}")})'
    ) from None


def _read_safetensors(
  path: pathlib.Path, content: bytes
) -> dict[str, np.ndarray]:
  """Reads a .safetensors; path is for messages."""
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
  """Returns a storage's values, (n,); float16 and bfloat16 become float32."""
  if kind == 'bfloat16':
    return (np.frombuffer(data, '<u2').astype('<u4') << 16).view('<f4')
  array = np.frombuffer(data, kind)
  return array.astype('<f4') if kind == '<f2' else array


# --- what torch.save writes --------------------------------------------------


class _Storage(NamedTuple):
  """Memory that tensors are views of.

  Attributes:
    key: The storage's name in the file.
    kind: NumPy's type of the values; None for untyped bytes, for which the
      tensor has the type.
  """

  key: str
  kind: str | None


class _Tensor(NamedTuple):
  """A view of a storage; offset and strides are numbers of elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]
  kind: str


class _Inert:
  """Stands for any other object of a pickle: takes anything, does nothing."""

  def __new__(cls, *unused: Any, **unused_too: Any) -> Self:
    return super().__new__(cls)

  def __init__(self, *unused: Any, **unused_too: Any) -> None:
    pass

  def __call__(self, *unused: Any, **unused_too: Any) -> Self:
    return self

  def __setstate__(self, unused: Any) -> None:
    pass

  def __setitem__(self, unused: Any, unused_too: Any) -> None:
    pass

  def append(self, unused: Any) -> None:
    """Takes an entry, as a pickle fills lists and sets."""

  extend = add = append


class _Kind(NamedTuple):
  """NumPy's type of a storage or a dtype; None for untyped bytes."""

  name: str | None


def _tensor(
  storage: _Storage,
  offset: int,
  shape: Sequence[int],
  strides: Sequence[int],
  *unused: Any,
) -> _Tensor:
  """Stands for torch._utils._rebuild_tensor and _rebuild_tensor_v2."""
  return _Tensor(storage, offset, tuple(shape), tuple(strides), storage.kind)


def _tensor_with_dtype(
  storage: _Storage,
  offset: int,
  shape: Sequence[int],
  strides: Sequence[int],
  unused_grad: Any,
  unused_hooks: Any,
  dtype: _Kind,
  *unused: Any,
) -> _Tensor:
  """Stands for torch._utils._rebuild_tensor_v3."""
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
  """Reads a pickle of tensors; nothing that it names is looked up or run.

  Attributes:
    kinds: NumPy's type of each storage's values, by the storage's key.
  """

  def __init__(self, file: BinaryIO) -> None:
    super().__init__(file)
    self.kinds = {}

  def find_class(self, module: str, name: str) -> Any:
    """The stand-in for what a pickle names; nothing is imported."""
    return _ALLOWED.get((module, name), _Inert)

  def persistent_load(self, pid: tuple) -> _Storage | type[_Inert]:
    """The storage that a pickle refers to; its values are read later.

    Args:
      pid: The reference: 'storage', its kind, its key and more.

    Raises:
      UnpicklingError: The reference is of another form.
    """
    if pid[0] == 'module':  # a whole model, with its source
      return _Inert
    what, kind, key, _, _, *view = pid
    if what != 'storage' or not isinstance(kind, _Kind) or any(view):
      raise pickle.UnpicklingError(f'no storage as known here: {pid!r:.100}')
    self.kinds[key] = kind.name
    return _Storage(key, kind.name)


def _read_zip(path: pathlib.Path, content: bytes) -> dict[str, np.ndarray]:
  """Reads torch.save's zip format; path is for messages."""
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


def _read_legacy(path: pathlib.Path, content: bytes) -> dict[str, np.ndarray]:
  """Reads torch.save's format before PyTorch 1.6; path is for messages."""
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


def _check_byte_order(path: pathlib.Path, is_little: bool) -> None:
  """Raises an InputError for a file of a big-endian machine."""
  if not is_little:
    raise InputError(f'{path}: is of a big-endian machine')


def _arrays(
  path: pathlib.Path, found: Any, storage_of: Callable[[str], bytes]
) -> dict[str, np.ndarray]:
  """Returns the tensors of an unpickled state_dict, by their names.

  Args:
    path: The path of the file, for messages.
    found: The object that the pickle holds.
    storage_of: Function that maps a storage's key to its bytes.

  Raises:
    InputError: The object is not a state_dict, or a tensor does not fit into
      its storage.
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
  """Returns a tensor's array.

  Args:
    place: The file and the tensor's name, for messages.
    tensor: The view.
    numbers: The storage's values, (n,).

  Raises:
    InputError: The view does not fit into its storage, which NumPy would not
      notice.
  """
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
