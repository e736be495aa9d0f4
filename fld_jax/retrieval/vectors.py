"""An index of vectors on disk, searched by faiss (Johnson et al., 2019).

Up to EXACT_VECTORS every vector is compared with the query. Beyond, they are
filed by the nearest of many centres, and a search looks through the nearest
files alone, which stay on the disk until they are read (an inverted file).
"""

import hashlib
import math
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fld_jax.errors import InputError, printable

EXACT_VECTORS = 1_000_000
LARGEST_HASHED = 2**30  # bytes; a larger file is only known by its size
_TRAINING = 64  # vectors a centre that centres are found from
_PROBES = 32  # a search looks through one in so many files


def _faiss() -> Any:
  """The module faiss.

  Raises:
    InputError: It is not installed.
  """
  try:
    import faiss
  except ImportError:
    raise InputError(
      "Searching needs faiss, which is not installed: pip install 'fld_jax"
      "[retrieval]'"
    ) from None
  return faiss


def check_installed() -> None:
  """Refuses to go on without faiss.

  Raises:
    InputError: It is not installed.
  """
  _faiss()


def write(
  vectors: Float[np.ndarray, 'n d'],
  path: pathlib.Path,
  exact_vectors: int = EXACT_VECTORS,
) -> dict[str, Any]:
  """Writes an index of vectors.

  Args:
    vectors: (n, d) float32 vectors of length 1, at least one.
    path: The path of the file.
    exact_vectors: The largest number of vectors that are all compared.

  Returns:
    A JSON-ready dict by which `Vectors` knows the file: `kind`, 'exact' or
    'inverted'; `count`, n; `dimension`, d; `bytes`, the size of the file; and
    its `sha256`, None of a file above LARGEST_HASHED.
  """
  faiss = _faiss()
  vectors = np.ascontiguousarray(vectors, np.float32)
  count, dimension = vectors.shape
  index = faiss.IndexFlatIP(dimension)
  kind = 'exact' if count <= exact_vectors else 'inverted'
  if kind == 'inverted':
    centres = max(1, min(round(4 * math.sqrt(count)), count // 39))
    index = faiss.IndexIVFFlat(
      index, dimension, centres, faiss.METRIC_INNER_PRODUCT
    )
    picks = np.random.default_rng(0).permutation(count)[: _TRAINING * centres]
    index.train(vectors[np.sort(picks)])
  for start in range(0, count, 65536):
    index.add(vectors[start : start + 65536])
  faiss.write_index(index, str(path))
  return {
    'kind': kind,
    'count': count,
    'dimension': dimension,
    'bytes': path.stat().st_size,
    'sha256': _digest(path),
  }


def _digest(path: pathlib.Path) -> str | None:
  """The SHA-256 of a file, None if it is above LARGEST_HASHED."""
  if path.stat().st_size > LARGEST_HASHED:
    return None
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


class Vectors:
  """An index that `write` wrote."""

  def __init__(self, path: pathlib.Path, about: dict[str, Any]):
    """Opens the index.

    Args:
      path: The path of the file.
      about: What `write` returned.

    Raises:
      InputError: The file is missing, or not the one that was written.
    """
    faiss = _faiss()
    if not path.is_file():
      raise InputError(f'{path}: this file of the index is missing')
    size = path.stat().st_size
    if size != about['bytes']:
      raise InputError(
        f'{path}: has {size} bytes, must have {about["bytes"]}: it is cut off, '
        'or of another index; make the index again'
      )
    if _digest(path) != about['sha256']:
      raise InputError(
        f'{path}: is damaged, or of another index (its SHA-256 differs); make '
        'the index again'
      )
    inverted = about['kind'] == 'inverted'
    flags = [faiss.IO_FLAG_MMAP] if inverted else []
    try:
      self._index = faiss.read_index(str(path), *flags)
    except RuntimeError as error:
      why = printable(str(error), 200)
      raise InputError(
        f'{path}: is no index that faiss reads ({why})'
      ) from None
    found = (self._index.ntotal, self._index.d)
    if found != (about['count'], about['dimension']):
      raise InputError(
        f'{path}: holds {found[0]} vectors of {found[1]} numbers, must hold '
        f'{about["count"]} of {about["dimension"]}'
      )
    if inverted:
      self._index.nprobe = max(1, self._index.nlist // _PROBES)

  def search(
    self, queries: Float[np.ndarray, 'q d'], k: int
  ) -> tuple[Float[np.ndarray, 'q k'], Int[np.ndarray, 'q k']]:
    """Finds the nearest vectors.

    Args:
      queries: (q, d) vectors of length 1.
      k: How many to find for each, at least 1.

    Returns:
      (q, k) cosines, the largest first, and (q, k) places of the vectors in the
      order in which they were written; k is no more than there are. An inverted
      file can find fewer for a query: then places are -1.
    """
    k = min(k, self._index.ntotal)
    return self._index.search(np.ascontiguousarray(queries, np.float32), k)
