"""Flags and dispatch: `python -m fld_jax.main --config=... --workdir=...`."""

import logging as std_logging
import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from fld_jax.config import explain_overrides, find_config
from fld_jax.errors import InputError

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'A config file, with its argument after a colon.'
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.')
_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'evaluate', 'ablation'],
  'train ends with an evaluation; ablation does both for each of config.rows.',
)
_SPLIT = flags.DEFINE_string(
  'split', None, 'Split to evaluate; by default config.eval_splits.'
)


def _run() -> None:
  # On a CPU, XLA's default library for convolutions is two to three times
  # slower than the one it had before; an empty value turns it off. It is a flag
  # of the CPU alone, and whoever sets XLA_FLAGS decides for themselves.
  os.environ.setdefault('XLA_FLAGS', '--xla_cpu_experimental_ynn_fusion_type=')
  from fld_jax import run  # imports JAX: not for --help or a bad flag

  config, workdir = _CONFIG.value, pathlib.Path(_WORKDIR.value)
  splits = (_SPLIT.value,) if _SPLIT.value else config.eval_splits
  run.run(config, workdir.expanduser(), mode=_MODE.value, splits=splits)


def _parse(argv: list[str]) -> list[str]:
  """Parses flags; a mistake in one becomes a sentence."""
  find_config(argv)  # a missing file would end in a traceback much later
  try:
    rest = flags.FLAGS(argv)
  except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
    # ml_collections only says "'nope'": look closer.
    explain_overrides(argv)
    raise InputError(f'Bad command line: {error}.') from error
  except flags.Error as error:
    raise InputError(f'{error}') from error
  for name in ('config', 'workdir'):
    if flags.FLAGS[name].value is None:
      raise InputError(f'The flag --{name} is missing.')
  if rest[1:]:
    raise InputError(f"'{rest[1]}' is no flag: flags begin with --.")
  return rest


def main() -> None:
  """Runs the program; mistakes of the user end in one line and status 2."""
  logging.use_absl_handler()
  # At lower levels orbax and TFDS write pages a checkpoint.
  logging.set_verbosity(logging.ERROR)
  std_logging.getLogger('fld_jax').setLevel(std_logging.INFO)
  try:
    app.run(lambda argv: _run(), flags_parser=_parse)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
  main()
