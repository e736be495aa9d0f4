"""NPZ files: read with one error for whatever is wrong with them."""

import pathlib
from collections.abc import Collection

import numpy as np

from fld_jax.errors import InputError, printable

LARGEST = 1e9  # larger numbers mean nothing here, and their squares overflow


def read(
  path: pathlib.Path, names: Collection[str] | None = None
) -> dict[str, np.ndarray]:
  """Reads the arrays of an NPZ file; nothing in it is run.

  Args:
    path: The path of the file.
    names: The names of the arrays to read; None for all.

  Returns:
    The arrays by their names.

  Raises:
    InputError: The file is missing, damaged, or holds other things than arrays
      of numbers and strings.
  """
  if not path.is_file():
    raise InputError(f'{path}: is missing, must be an NPZ file')
  try:
    with np.load(path, allow_pickle=False) as archive:
      wanted = [n for n in archive.files if names is None or n in names]
      return {name: archive[name] for name in wanted}
  except Exception as error:  # NumPy raises what its parsers run into
    raise InputError(
      f'{path}: is no NPZ file of numbers and strings ({printable(str(error))})'
    ) from None


def numbers(
  path: pathlib.Path,
  name: str,
  array: np.ndarray | None,
  shape: tuple[int | None, ...],
  low: float = -LARGEST,
  high: float = LARGEST,
  kinds: str = 'fiu',
) -> np.ndarray:
  """Checks an array of numbers.

  Args:
    path: The path of its file, for messages.
    name: The array's name.
    array: The array; None if the file does not hold it.
    shape: The valid length of each axis, None for any.
    low: The smallest valid number.
    high: The largest valid number.
    kinds: The valid kinds of NumPy's types: 'f', 'i', 'u', 'b'.

  Returns:
    The array.

  Raises:
    InputError: The array is missing, of another shape or type, or holds a
      number that is not valid, such as NaN.
  """
  fits = (
    array is not None
    and array.dtype.kind in kinds
    and len(array.shape) == len(shape)
    and all(
      want in (None, found)
      for found, want in zip(array.shape, shape, strict=True)
    )
  )
  if not fits:
    sides = ', '.join('any' if side is None else str(side) for side in shape)
    what = 'truth values' if kinds == 'b' else 'numbers'
    raise InputError(
      f'{path}, {printable(name)}: is {kind(array)}, must be {what} of the '
      f'shape ({sides})'
    )
  # Half precision has no number as large as the bounds.
  values = array.astype(np.float64) if array.dtype.kind == 'f' else array
  bad = np.argwhere(~((values >= low) & (values <= high)))
  if bad.size:
    at = ', '.join(map(str, bad[0]))
    raise InputError(
      f'{path}, {printable(name)}[{at}]: is {array[tuple(bad[0])]}, must be a '
      f'number from {low:g} to {high:g}'
    )
  return array


def texts(path: pathlib.Path, name: str, array: np.ndarray | None) -> list[str]:
  """Checks an array of texts.

  Args:
    path: The path of its file, for messages.
    name: The array's name.
    array: The array; None if the file does not hold it.

  Returns:
    The texts; bytes are read as UTF-8.

  Raises:
    InputError: The array is missing, or no list of texts.
  """
  if array is None or array.ndim != 1 or array.dtype.kind not in 'US':
    raise InputError(
      f'{path}, {name}: is {kind(array)}, must be strings of the shape (n,)'
    )
  try:
    if array.dtype.kind == 'S':
      array = np.char.decode(array, 'utf-8')
    found = array.tolist()
    ''.join(found).encode()  # halves of characters cannot be written
  except UnicodeError as error:
    raise InputError(
      f'{path}, {name}: are no UTF-8 text ({printable(str(error))})'
    ) from None
  return found


def kind(array: np.ndarray | None) -> str:
  """Describes an array's type and shape for a message.

  Args:
    array: The array; None if the file does not hold it.
  """
  return 'missing' if array is None else f'{array.dtype} of shape {array.shape}'
