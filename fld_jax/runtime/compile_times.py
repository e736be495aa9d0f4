"""How long programs took to compile at earlier starts.

CACHE/compile_seconds.json lies beside the compiled programs in JAX's cache, and
goes with them: a program that is cached is loaded, which is faster.
"""

import contextlib
import hashlib
import pathlib
from typing import Any

import jax

from fld_jax.errors import InputError
from fld_jax.files.json_files import read_json, write_json


def name_of(*parts: Any) -> str:
  """A name for a program: the same for what compiles to the same.

  Args:
    *parts: Everything that tells the program from others, with a repr.
  """
  device = jax.devices()[0]
  about = (jax.__version__, device.device_kind, jax.device_count(), *parts)
  return hashlib.sha256(repr(about).encode()).hexdigest()[:16]


def last(name: str) -> float | None:
  """How long a program took to compile when it was last compiled.

  Args:
    name: The program's name, from `name_of`.

  Returns:
    The seconds; None if they are not known.
  """
  seconds = _read().get(name)
  return float(seconds) if isinstance(seconds, int | float) else None


def keep(name: str, seconds: float) -> None:
  """Keeps how long a program took, for the next start's `last`.

  Args:
    name: The program's name, from `name_of`.
    seconds: The time.
  """
  path = _path()
  if path is not None:
    # The times are a convenience: without them the next start says "about a
    # minute". JAX itself warns of a cache that cannot be written.
    with contextlib.suppress(OSError):
      write_json(path, {**_read(), name: round(seconds, 1)})


def _path() -> pathlib.Path | None:
  """The file; None if programs are not cached, or not in a folder."""
  folder = jax.config.jax_compilation_cache_dir
  if not folder or '://' in folder:
    return None
  return pathlib.Path(folder) / 'compile_seconds.json'


def _read() -> dict:
  """The seconds by the programs' names; {} if nothing is known."""
  path = _path()
  if path is None or not path.exists():
    return {}
  try:
    found = read_json(path)
  except InputError:  # damaged: as good as none
    return {}
  return found if isinstance(found, dict) else {}
