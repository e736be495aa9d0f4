"""Flags and dispatch: `python -m fld_jax.main --config=... --workdir=...`."""

import logging as std_logging
import os
import pathlib
import sys
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from fld_jax.config import (
  XLA_CPU_FLAGS,
  explain_overrides,
  find_config,
  find_flag,
)
from fld_jax.errors import START_AGAIN, InputError, LostProcess, Preempted

# What stands for longer flags, see `_expand`.
_SHORT = flags.FlagValues()
_DATASET = flags.DEFINE_string(
  'dataset',
  None,
  'Name of a dataset: instead of --config, for prepare, doctor and score; for '
  'a trained run, --config.dataset.name.',
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
  'config',
  None,
  'A config file, with its argument after a colon. A trained run has its own.',
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder of the run; by default runs/MODE-DATASET for doctor and score.',
)
# Mode -> the flags that it cannot do without.
_MODES = {
  'train': ('config', 'workdir'),
  'evaluate': ('config', 'workdir'),
  'ablation': ('config', 'workdir'),
  'predict': ('workdir', 'images', 'output'),
  'export': ('workdir', 'output'),
  'report': ('workdirs', 'output'),
  'convert': ('source', 'output'),
  'prepare': ('config',),
  'doctor': ('config',),
  'score': ('config', 'predictions'),
}
# Modes that work on a dataset alone, and on a run that has a config.
_ALONE = ('prepare', 'doctor', 'score')
_OF_RUN = ('evaluate', 'predict', 'export')
_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  list(_MODES),
  'train ends with an evaluation; ablation does both for each of config.rows; '
  'predict finds the landmarks of --images; export makes a file to deploy; '
  'report writes a page on --workdirs; convert makes a run of the weights of '
  'others; prepare writes the records of a dataset, doctor looks for mistakes '
  'in its files, score measures --predictions.',
)
_SPLIT = flags.DEFINE_string(
  'split', None, 'Split to evaluate; by default config.eval_splits.'
)
_PREDICTIONS = flags.DEFINE_string(
  'predictions', None, 'File to score: COCO results .json, .csv or .npz.'
)
_IMAGES = flags.DEFINE_string(
  'images', None, 'Image, folder of images or glob pattern to predict on.'
)
_BOXES = flags.DEFINE_string(
  'boxes', None, 'Boxes of the items to predict on: .csv, or .json as COCO has.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'Folder for what a mode writes.')
_OVERLAYS = flags.DEFINE_bool(
  'overlays', True, 'Draw what predict finds on the images.'
)
_FORMAT = flags.DEFINE_enum(
  'format', 'stablehlo', ['stablehlo', 'onnx'], 'Of the exported file.'
)
_WORKDIRS = flags.DEFINE_list('workdirs', None, 'Runs to report on.')
_SOURCE = flags.DEFINE_string(
  'source', None, 'Weights to convert: a file, or the folder of a release.'
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'Join the other processes of the run, as the cluster tells JAX (Cloud TPU, '
  'SLURM, Kubernetes, Open MPI).',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT of process 0, instead of --distributed.'
)
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Of the run.')
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Of this process, from 0.'
)
_CONFIGS = pathlib.Path(__file__).parent / 'configs'


def _run() -> int | None:
  config, mode = _CONFIG.value, _MODE.value
  path = lambda text: pathlib.Path(text).expanduser()
  workdir = _WORKDIR.value and path(_WORKDIR.value)
  # Imported here: not for --help or a bad flag, and JAX only where it is used.
  if mode in _ALONE:
    workdir = workdir or path(f'runs/{mode}-{config.dataset.name}')
    return _work_on_dataset(config, workdir)
  # Whoever sets XLA_FLAGS decides for themselves.
  os.environ.setdefault('XLA_FLAGS', XLA_CPU_FLAGS)
  if mode == 'predict':
    from fld_jax.inference import predict_files

    output, boxes = path(_OUTPUT.value), _BOXES.value and path(_BOXES.value)
    found = predict_files.predict_files(
      config, workdir, _IMAGES.value, boxes, output, _OVERLAYS.value
    )
    return 0 if found['ok'] else 1
  if mode == 'export':
    from fld_jax.inference import export

    export.export(config, workdir, path(_OUTPUT.value), _FORMAT.value)
  elif mode == 'report':
    from fld_jax.report import report

    workdirs = [path(text) for text in _WORKDIRS.value]
    report.report(workdirs, path(_OUTPUT.value), _SPLIT.value)
  elif mode == 'convert':
    from fld_jax.pretrained import convert

    convert.convert(path(_SOURCE.value), path(_OUTPUT.value))
  else:
    from fld_jax import experiment
    from fld_jax.runtime import processes

    _join_processes()
    splits = (_SPLIT.value,) if _SPLIT.value else config.eval_splits
    processes.run_together(
      lambda: experiment.run(config, workdir, mode=mode, splits=splits)
    )
  return None


def _join_processes() -> None:
  from fld_jax.runtime import processes

  if _DISTRIBUTED.value or _COORDINATOR.value:
    processes.start(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if not processes.is_main():  # the main one tells what there is to tell
      std_logging.getLogger('fld_jax').setLevel(std_logging.WARNING)
  processes.listen_for_preemption()


def _work_on_dataset(config, workdir: pathlib.Path) -> int | None:
  if _MODE.value == 'prepare':
    from fld_jax.datasets import prepare

    prepare.prepare(config.dataset)
  elif _MODE.value == 'doctor':
    from fld_jax.doctor import examine

    return 0 if examine.examine(config.dataset, workdir)['ok'] else 1
  else:
    from fld_jax.evaluation import score

    predictions = pathlib.Path(_PREDICTIONS.value).expanduser()
    split = _SPLIT.value or config.eval_splits[0]
    score.score(config.dataset, predictions, split, workdir)
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
  mode = _MODE.value
  for name in _MODES[mode]:
    if flags.FLAGS[name].value is None:
      hint = ', or --dataset' if name == 'config' and mode in _ALONE else ''
      raise InputError(f'The flag --{name}{hint} is missing.')
  config = _CONFIG.value
  if config and mode not in _ALONE and 'stages' not in config:
    raise InputError(
      f'--mode={mode} needs a config with a model, for example '
      f'--config=configs/pcloss.py:dataset={config.dataset.name}'
    )
  if rest[1:]:
    raise InputError(f"'{rest[1]}' is no flag: flags begin with --.")
  return rest


def _expand(argv: list[str]) -> list[str]:
  """Replaces short flags by what they are short for, and finds a run's config.

  --dataset and --manual_dir stand for fields of the config; a trained run has a
  config of its own, in its folder.
  """
  argv = _SHORT(argv, known_only=True)
  workdir = find_flag(argv, 'workdir')
  given = find_config(argv)
  if not given and workdir and find_flag(argv, 'mode') in _OF_RUN:
    given = _CONFIGS / 'trained.py'
    argv.insert(1, f'--config={given}:{workdir}')
    if _DATASET.value is not None:
      argv.append(f'--config.dataset.name={_DATASET.value}')
  elif _DATASET.value is not None:
    if given:
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
    _end(2, f'error: {error}')
  except LostProcess as error:
    _end(1, f'error: {error}', wait_for_others=False)
  except Preempted as word:
    _end(START_AGAIN, f'{word} Start the same command again.')


def _end(status: int, word: str, **options) -> NoReturn:
  print(word, file=sys.stderr, flush=True)
  # Not imported before there is JAX; then there is no other process either.
  processes = sys.modules.get('fld_jax.runtime.processes')
  if processes is None:
    sys.exit(status)
  processes.leave(status, **options)


if __name__ == '__main__':
  main()
