"""Flags and dispatch: `python -m fld_jax.main --config=... --workdir=...`."""

import logging as std_logging
import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from fld_jax.config import XLA_CPU_FLAGS, explain_overrides, find_config
from fld_jax.errors import InputError

# What stands for longer flags, see `_expand`.
_SHORT = flags.FlagValues()
_DATASET = flags.DEFINE_string(
  'dataset',
  None,
  'Name of a dataset: instead of --config, for prepare, doctor and score.',
  flag_values=_SHORT,
)
_MANUAL_DIR = flags.DEFINE_string(
  'manual_dir',
  None,
  'Folder of its original files: --config.dataset.manual_dir.',
  flag_values=_SHORT,
)
flags.FLAGS.append_flag_values(_SHORT)  # for --help
_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'A config file, with its argument after a colon.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder of the run; by default runs/MODE-DATASET for doctor and score.',
)
_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'evaluate', 'ablation', 'prepare', 'doctor', 'score'],
  'train ends with an evaluation; ablation does both for each of config.rows; '
  'prepare writes the records of a dataset, doctor looks for mistakes in its '
  'files, score measures --predictions.',
)
_SPLIT = flags.DEFINE_string(
  'split', None, 'Split to evaluate; by default config.eval_splits.'
)
_PREDICTIONS = flags.DEFINE_string(
  'predictions', None, 'File to score: COCO results .json, .csv or .npz.'
)
# Modes that work on a dataset alone, and flags that modes cannot do without.
_ALONE = ('prepare', 'doctor', 'score')
_NEEDED = {
  **dict.fromkeys(('train', 'evaluate', 'ablation'), ('workdir',)),
  'score': ('predictions',),
}
_CONFIGS = pathlib.Path(__file__).parent / 'configs'


def _run() -> int | None:
  config, mode = _CONFIG.value, _MODE.value
  workdir = _WORKDIR.value or f'runs/{mode}-{config.dataset.name}'
  workdir = pathlib.Path(workdir).expanduser()
  splits = (_SPLIT.value,) if _SPLIT.value else config.eval_splits
  # Imported here: not for --help or a bad flag, and JAX only where it is used.
  if mode == 'prepare':
    from fld_jax import prepare

    prepare.prepare(config.dataset)
  elif mode == 'doctor':
    from fld_jax import doctor

    return 0 if doctor.examine(config.dataset, workdir)['ok'] else 1
  elif mode == 'score':
    from fld_jax import score

    predictions = pathlib.Path(_PREDICTIONS.value).expanduser()
    score.score(config.dataset, predictions, splits[0], workdir)
  else:
    # Whoever sets XLA_FLAGS decides for themselves.
    os.environ.setdefault('XLA_FLAGS', XLA_CPU_FLAGS)
    from fld_jax import run

    run.run(config, workdir, mode=mode, splits=splits)
  return None


def _parse(argv: list[str]) -> list[str]:
  """Parses flags; a mistake in one becomes a sentence."""
  try:
    argv = _expand(argv)
    find_config(argv)  # a missing file would end in a traceback much later
    rest = flags.FLAGS(argv)
  except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
    # ml_collections only says "'nope'": look closer.
    explain_overrides(argv)
    raise InputError(f'Bad command line: {error}.') from error
  except flags.Error as error:
    raise InputError(f'{error}') from error
  for name in ('config', *_NEEDED.get(_MODE.value, ())):
    if flags.FLAGS[name].value is None:
      hint = (
        ', or --dataset' if name == 'config' and _MODE.value in _ALONE else ''
      )
      raise InputError(f'The flag --{name}{hint} is missing.')
  if _MODE.value not in _ALONE and 'stages' not in _CONFIG.value:
    raise InputError(
      f'--mode={_MODE.value} needs a config with a model, for example '
      f'--config=configs/pcloss.py:dataset={_CONFIG.value.dataset.name}'
    )
  if rest[1:]:
    raise InputError(f"'{rest[1]}' is no flag: flags begin with --.")
  return rest


def _expand(argv: list[str]) -> list[str]:
  """Replaces --dataset and --manual_dir by what they are short for."""
  argv = _SHORT(argv, known_only=True)
  if _DATASET.value is not None:
    if find_config(argv):
      raise InputError('Give either --dataset or --config, which names one.')
    base = _CONFIGS / 'base.py'
    argv.insert(1, f'--config={base}:dataset={_DATASET.value}')
  if _MANUAL_DIR.value is not None:
    argv.append(f'--config.dataset.manual_dir={_MANUAL_DIR.value}')
  sys.argv[:] = argv  # where ml_collections looks for overrides
  return argv


def main() -> None:
  """Runs the program; mistakes of the user end in one line and status 2."""
  logging.use_absl_handler()
  # At lower levels orbax and TFDS write pages a checkpoint.
  logging.set_verbosity(logging.ERROR)
  std_logging.getLogger('fld_jax').setLevel(std_logging.INFO)
  try:
    app.run(lambda argv: sys.exit(_run()), flags_parser=_parse)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
  main()
