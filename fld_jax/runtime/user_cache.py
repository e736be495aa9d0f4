"""What is kept between starts, in the user's cache folder.

~/.cache/fld_jax/xla has the programs that JAX compiled, unless
JAX_COMPILATION_CACHE_DIR names another folder; ~/.cache/fld_jax/onnx the
networks that were converted for ONNX Runtime.
"""

import logging
import os
import pathlib

import jax
from jax.experimental.compilation_cache import compilation_cache

from fld_jax.files import atomic

logger = logging.getLogger('fld_jax')

# Programs that compile faster are not worth a file. JAX's own limit of a second
# leaves out the networks of single photos, each of which then waits for it.
MIN_COMPILE_SECONDS = 0.1


def folder(name: str, hint: str = '') -> pathlib.Path | None:
  """A folder of the cache, which need not exist yet.

  Args:
    name: The folder's name.
    hint: What the warning ends with, ' ' before it.

  Returns:
    The path; None, with a warning, where nothing can be written to it.
  """
  path = pathlib.Path('~/.cache/fld_jax', name).expanduser()
  problem = atomic.writing_problem(path)
  if problem:
    logger.warning(
      'Compiled programs are not kept: each start makes them anew. %s %s.%s',
      path,
      problem,
      hint,
    )
    return None
  return path


def keep_programs() -> None:
  """Lets every later start find the programs that this one compiles.

  Whoever has set JAX's own option `jax_compilation_cache_dir` (the environment
  variable JAX_COMPILATION_CACHE_DIR) has decided for themselves.
  """
  if jax.config.jax_compilation_cache_dir:
    return
  path = folder('xla', ' JAX_COMPILATION_CACHE_DIR names another folder.')
  if path is None:
    return
  jax.config.update('jax_compilation_cache_dir', str(path))
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update(
      'jax_persistent_cache_min_compile_time_secs', MIN_COMPILE_SECONDS
    )
  # JAX asks once whether there is a cache, at the first program of the process.
  compilation_cache.reset_cache()
