"""Arrays of numbers in MATLAB 5 files, which MATLAB writes but for -v7.3.

SciPy reads more of them, but uses the type code of an array's numbers as an
index into a table in C without checking it. Of a valid file with that one byte
changed (8, 10, 25 and 200, then each of the 255 other values), `loadmat` of
SciPy 1.17.1 and 1.18.1 ended Python with signal 11: four of the four, 233 of
the 255. A data set's damaged file must end in a message, so this reader stays
until SciPy refuses such files.
"""

import struct
import zlib
from pathlib import Path

import numpy as np

# Types of data elements, and how NumPy calls those of numbers.
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED, _UTF8 = 1, 5, 6, 14, 15, 16
_NUMBERS = {
  **{1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 9: 'f8'},
  **{12: 'i8', 13: 'u8'},
}
_NUMERIC_CLASSES, _OPAQUE_CLASS = range(6, 16), 17
_COMPLEX = 0x0800  # among an array's flags
_HEADER = 128  # bytes


def read_array(path: str | Path, name: str) -> np.ndarray:
  """Reads an array of real numbers, of the type in which they are stored.

  Args:
    path: The path of the file.
    name: The name of the variable; the first one of that name counts.

  Raises:
    ValueError: There is no such array of numbers, or the file is damaged or not
      a MATLAB 5 file.
  """
  content = memoryview(Path(path).read_bytes())
  order = {b'IM': '<', b'MI': '>'}.get(bytes(content[126:128]))
  if not order or 0 in content[:4] or content[125 - (order == '>')] != 1:
    raise ValueError('it does not begin as a MATLAB 5 file')
  at, names = _HEADER, []
  while at < len(content):
    kind, body, at = _element(content, at, order, padded=False)
    if kind == _COMPRESSED:
      kind, body = _decompressed(body, order)
    if kind != _MATRIX:
      raise ValueError(f'an element of type {kind} stands where arrays do')
    found, array = _matrix(body, order, name)
    if array is not None:
      return array
    names.append(found)
  raise ValueError(f"it has no '{name}', but {', '.join(names) or 'nothing'}")


def _matrix(
  body: memoryview, order: str, wanted: str
) -> tuple[str, np.ndarray | None]:
  """Reads a matrix if it is the wanted one.

  Args:
    body: The bytes of the element.
    order: The byte order, '<' or '>'.
    wanted: The name of the wanted variable.

  Returns:
    The matrix's name, and the array or None.
  """
  _, flags, at = _element(body, 0, order)
  if len(flags) != 8:
    raise ValueError('flags of an array are damaged')
  (flags,) = struct.unpack(f'{order}I', flags[:4])
  if flags & 0xFF == _OPAQUE_CLASS:  # an object, of another structure
    return 'an object', None
  kind, sides, at = _element(body, at, order)
  if kind not in (_INT32, _UINT32) or len(sides) % 4:
    raise ValueError('lengths of an array are damaged')
  shape = struct.unpack(f'{order}{len(sides) // 4}i', sides)
  kind, name, at = _element(body, at, order)
  if kind not in (_INT8, _UTF8):
    raise ValueError('the name of an array is damaged')
  name = bytes(name).decode('latin-1')
  if name != wanted:
    return name, None
  if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX:
    raise ValueError(f"'{name}' is not an array of real numbers")
  kind, data, _ = _element(body, at, order)
  if kind not in _NUMBERS:
    raise ValueError(f"'{name}' has data of type {kind}")
  dtype, count = np.dtype(order + _NUMBERS[kind]), 1
  for side in shape:
    count *= side
  if min(shape, default=0) < 0 or count * dtype.itemsize != len(data):
    raise ValueError(f"'{name}' has {len(data)} bytes, not {shape} numbers")
  return name, np.frombuffer(data, dtype).reshape(shape, order='F')


def _element(
  body: memoryview, at: int, order: str, padded: bool = True
) -> tuple[int, memoryview, int]:
  """Reads an element.

  Args:
    body: The bytes that elements stand in.
    at: The index of the element's first byte.
    order: The byte order, '<' or '>'.
    padded: Whether elements end at multiples of 8 bytes.

  Returns:
    The element's type, its bytes, and the index behind it.
  """
  kind, size = _tag(body, at, order)
  if kind >> 16:  # a small one lies within its tag
    kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
  else:
    start = at + 8
    end = start + (-(-size // 8) * 8 if padded else size)
  if start + size > min(len(body), end):
    raise ValueError(f'an element of {size} bytes does not fit')
  return kind, body[start : start + size], end


def _tag(body: bytes | memoryview, at: int, order: str) -> tuple[int, int]:
  """Reads the two numbers of an element's tag: its type and its size."""
  if at + 8 > len(body):
    raise ValueError('it is cut')
  return struct.unpack(f'{order}2I', body[at : at + 8])


def _decompressed(body: memoryview, order: str) -> tuple[int, memoryview]:
  """The type and the bytes of the element within a compressed one."""
  stream = zlib.decompressobj()
  try:
    kind, size = _tag(stream.decompress(body, 8), 0, order)
    data = stream.decompress(stream.unconsumed_tail, size + 1)
  except zlib.error as error:
    raise ValueError(f'{error}') from None
  if len(data) != size or not stream.eof or stream.unused_data:
    raise ValueError('compressed data are damaged')
  return kind, memoryview(data)
