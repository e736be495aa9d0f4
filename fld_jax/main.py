"""The command line: flags, the table of modes, and one function a mode.

python -m fld_jax.main --help
"""

import functools
import logging as std_logging
import pathlib
import sys
import textwrap
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from fld_jax import config_rules
from fld_jax.config import (
  CONFIGS,
  did_you_mean,
  explain_overrides,
  find_config,
  find_flag,
  set_xla_cpu_flags,
)
from fld_jax.errors import (
  START_AGAIN,
  InputError,
  LostProcess,
  Preempted,
  Unwritable,
)
from fld_jax.files.atomic import disk_problem
from fld_jax.runtime import terminal

# --- Flags. `_expand` replaces the short ones by longer ones.

_ARGV: list[
  str
] = []  # the expanded command line, for ml_collections' overrides
_SHORT = flags.FlagValues()
_DATASET = flags.DEFINE_string(
  'dataset',
  None,
  'Name of a data set. In place of --config where no model is needed; for a '
  'trained run it stands for --config.dataset.name.',
  flag_values=_SHORT,
)
_MANUAL_DIR = flags.DEFINE_string(
  'manual_dir',
  None,
  "Folder of the data set's original files; it stands for "
  '--config.dataset.manual_dir.',
  flag_values=_SHORT,
)
# Among all flags too, so that absl suggests them for misspelt ones.
flags.FLAGS.append_flag_values(_SHORT)
_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'Config file, with its argument after a colon: configs/dfa.py:size=tiny. '
  '--config.FIELD=VALUE changes a field; --mode=config lists the fields.',
  sys_argv=_ARGV,
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder of a run, which holds its config once it is trained. For doctor and '
  'score the folder of their results, by default runs/MODE-DATASET.',
)
_SPLIT = flags.DEFINE_string(
  'split', None, 'Split to evaluate; by default those of config.eval_splits.'
)
_PREDICTIONS = flags.DEFINE_string(
  'predictions', None, 'File to score: COCO results in .json, .csv or .npz.'
)
_IMAGES = flags.DEFINE_string(
  'images', None, 'Image, folder of images or glob pattern to predict on.'
)
_BOXES = flags.DEFINE_string(
  'boxes',
  None,
  "File with the items' boxes, .csv or COCO's .json; by default an item fills "
  'its image.',
)
_OUTPUT = flags.DEFINE_string('output', None, 'Folder to write to.')
_PRE_ANNOTATIONS = flags.DEFINE_list(
  'pre_annotations',
  None,
  'Labelling tools to write annotations for: label_studio, cvat, or both with '
  'a comma between; --boxes=EXPORT.json keeps the ids of a tool.',
)
_IMAGE_PREFIX = flags.DEFINE_string(
  'image_prefix',
  '/data/local-files/?d=',
  "What stands before an image's name in Label Studio's tasks.",
)
_MEASURE = flags.DEFINE_list(
  'measure',
  None,
  'Lengths to measure, NAME=LANDMARK:LANDMARK with a comma between two, for '
  'example hem=hem_left:hem_right; A+B is the point between two landmarks.',
)
_SCALE = flags.DEFINE_string(
  'scale',
  None,
  'What makes centimetres of the lengths: centimetres a pixel; FILE.csv with '
  'columns image and cm_per_pixel; NAME=CM, a measure that is known; or '
  'marker=CM, the side of the printed marker of --mode=card.',
)
_OVERLAYS = flags.DEFINE_bool(
  'overlays', True, 'Whether to draw the predicted landmarks on the images.'
)
_FORMAT = flags.DEFINE_enum(
  'format', 'stablehlo', ['stablehlo', 'onnx'], 'Format of the exported file.'
)
_PRECISIONS = flags.DEFINE_list(
  'precisions',
  None,
  'Files to write beside that of float32, of ONNX: float16, int8 or both, with '
  'a comma between.',
)
_RUNTIME = flags.DEFINE_enum(
  'runtime',
  'jax',
  ['jax', 'onnx'],
  'What computes the networks: JAX, or on a CPU ONNX Runtime.',
)
_HOST = flags.DEFINE_string('host', '127.0.0.1', 'Address to listen at.')
_PORT = flags.DEFINE_integer(
  'port', 8000, 'Port to listen at; 0 for any.', 0, 65535
)
_MAX_IMAGES = flags.DEFINE_integer(
  'max_images', 16, 'Photos of a request, and items, at most.', 1
)
_MAX_MEGABYTES = flags.DEFINE_float(
  'max_megabytes', 32.0, 'Megabytes of a request at most.', 0.001
)
_MAX_MEGAPIXELS = flags.DEFINE_float(
  'max_megapixels', 40.0, 'Megapixels of a photo at most.', 0.001, 89
)
_MAX_QUEUE = flags.DEFINE_integer(
  'max_queue', 256, 'Items under way at most; beyond them requests get 429.', 1
)
_MAX_SECONDS = flags.DEFINE_float(
  'max_seconds', 30.0, 'Seconds of a request at most; then it gets 503.', 0.001
)
_BATCH_SECONDS = flags.DEFINE_float(
  'batch_seconds', 0.01, 'Seconds that a batch waits for more at most.', 0
)
_DRAIN_SECONDS = flags.DEFINE_float(
  'drain_seconds', 5.0, 'Seconds that requests are taken after SIGTERM.', 0
)
_FEATURES = flags.DEFINE_enum(
  'features',
  None,
  ['landmarks', 'box', 'image'],
  'Where features are taken from: around the landmarks that --workdir finds, '
  'over the box, or over the whole image; by default landmarks with a run, box '
  'without one.',
)
_INDEX = flags.DEFINE_string(
  'index', None, 'Folder of an index that --mode=index made.'
)
_QUERY = flags.DEFINE_string(
  'query', None, 'Image, folder of images or glob pattern to search for.'
)
_TOP = flags.DEFINE_integer(
  'top', 10, 'How many items to find for each query.', lower_bound=1
)
_WORKDIRS = flags.DEFINE_list(
  'workdirs', None, 'Folders of the runs to report on, separated by commas.'
)
_SOURCE = flags.DEFINE_string(
  'source', None, 'Weights to convert: a file, or the folder of a release.'
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'Whether this is one of several processes that the cluster announces to JAX '
  '(Cloud TPU, SLURM, Kubernetes, Open MPI).',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'HOST:PORT of process 0, where no cluster announces it; in place of '
  '--distributed.',
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'Number of processes in the run.'
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Index of this process in the run, from 0.'
)

# --- Modes. Each imports what it needs: a mistake on the command line is found
# before JAX is imported, which takes seconds. A mode returns its exit status;
# None is 0.


def _path(flag: flags.FlagHolder) -> pathlib.Path | None:
  """The path that a flag gives, '~' expanded; None if it is not given."""
  return pathlib.Path(flag.value).expanduser() if flag.value else None


def _result_folder() -> pathlib.Path:
  """--workdir, or runs/MODE-DATASET."""
  name = f'runs/{_MODE.value}-{_CONFIG.value.dataset.name}'
  return _path(_WORKDIR) or pathlib.Path(name)


def _doctor() -> int:
  from fld_jax.doctor import examine

  found = examine.examine(_CONFIG.value.dataset, _result_folder())
  return 0 if found['ok'] else 1


def _prepare() -> None:
  from fld_jax.datasets import prepare

  prepare.prepare(_CONFIG.value.dataset)


def _print_config() -> None:
  from fld_jax import config_fields

  print(config_fields.describe(_CONFIG.value))


def _experiment(mode: str) -> None:
  from fld_jax import experiment
  from fld_jax.runtime import processes

  if _DISTRIBUTED.value or _COORDINATOR.value:
    processes.start(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if not processes.is_main():  # the main process logs for all
      std_logging.getLogger('fld_jax').setLevel(std_logging.WARNING)
  processes.listen_for_preemption()
  config, workdir = _CONFIG.value, _path(_WORKDIR)
  splits = (_SPLIT.value,) if _SPLIT.value else config.eval_splits
  processes.run_together(
    lambda: experiment.run(config, workdir, mode=mode, splits=splits)
  )


def _report() -> None:
  from fld_jax.report import report

  workdirs = [pathlib.Path(text).expanduser() for text in _WORKDIRS.value]
  report.report(workdirs, _path(_OUTPUT), _SPLIT.value)


def _predict(tools: tuple[str, ...] = (), ranked: bool = False) -> int:
  from fld_jax.inference.result_files import Formats

  workdir = _path(_WORKDIR)
  given = tuple(name.strip() for name in _PRE_ANNOTATIONS.value or ())
  formats = Formats(
    tuple(dict.fromkeys(given or tools)),
    _IMAGE_PREFIX.value,
    workdir.resolve().name,
    tuple(_MEASURE.value or ()),
    _SCALE.value or '',
    ranked,
  )
  from fld_jax.inference import predict_files

  found = predict_files.predict_files(
    _CONFIG.value,
    _path(_WORKDIR),
    _IMAGES.value,
    _path(_BOXES),
    _path(_OUTPUT),
    _OVERLAYS.value,
    formats,
    _RUNTIME.value,
  )
  return 0 if found['ok'] else 1


def _card() -> None:
  from fld_jax.inference import scales

  scales.write_card(_path(_OUTPUT))
  print(f'Marker card: {_path(_OUTPUT)}/marker_card.pdf')


def _demo() -> None:
  from fld_jax.inference import demo_page

  demo_page.write_demo(_CONFIG.value, _path(_WORKDIR), _path(_OUTPUT))


def _serve() -> None:
  from fld_jax.service import server

  server.serve(
    _CONFIG.value,
    _path(_WORKDIR),
    host=_HOST.value,
    port=_PORT.value,
    limits=server.Limits(
      images=_MAX_IMAGES.value,
      bytes=int(_MAX_MEGABYTES.value * 1e6),
      pixels=int(_MAX_MEGAPIXELS.value * 1e6),
      queue=_MAX_QUEUE.value,
      seconds=_MAX_SECONDS.value,
    ),
    deadline=_BATCH_SECONDS.value,
    drain_seconds=_DRAIN_SECONDS.value,
    runtime=_RUNTIME.value,
  )


def _index() -> int:
  from fld_jax.retrieval import catalogue

  found = catalogue.make(
    _IMAGES.value,
    _path(_OUTPUT),
    _path(_WORKDIR),
    _path(_BOXES),
    _FEATURES.value or '',
  )
  return 0 if found['ok'] else 1


def _search() -> int:
  from fld_jax.retrieval import catalogue

  found = catalogue.search(
    _path(_INDEX),
    _QUERY.value,
    _path(_OUTPUT),
    _path(_WORKDIR),
    _path(_BOXES),
    _TOP.value,
  )
  return 0 if found['ok'] else 1


def _export() -> None:
  from fld_jax.inference import export

  export.export(
    _CONFIG.value,
    _path(_WORKDIR),
    _path(_OUTPUT),
    _FORMAT.value,
    _PRECISIONS.value or (),
  )


def _convert() -> None:
  from fld_jax.pretrained import convert

  convert.convert(_path(_SOURCE), _path(_OUTPUT))


def _score() -> None:
  from fld_jax.evaluation import score

  config = _CONFIG.value
  split = _SPLIT.value or config.eval_splits[0]
  score.score(config.dataset, _path(_PREDICTIONS), split, _result_folder())


class Mode(NamedTuple):
  """A mode of the program.

  Attributes:
    help: What the mode does, in one line.
    needs: Names of the flags that must be given.
    takes: Names of the flags that may be given.
    example: A command line, without the program and --mode.
    run: The mode's function; it returns the exit status, None for 0.
    config_from: Names of the flags that can take the place of --config:
      'dataset', if the mode needs no model; 'workdir', if it works on a trained
      run, whose folder holds its config.
  """

  help: str
  needs: tuple[str, ...]
  takes: tuple[str, ...]
  example: str
  run: Callable[[], int | None]
  config_from: tuple[str, ...] = ()


_PROCESS_FLAGS = ('distributed', 'coordinator', 'num_processes', 'process_id')
# Every mode, in the order of a user's day.
MODES = {
  'doctor': Mode(
    "Looks for mistakes in a data set's files.",
    ('config',),
    ('dataset', 'manual_dir', 'workdir'),
    '--dataset=deepfashion --manual_dir=FOLDER',
    _doctor,
    config_from=('dataset',),
  ),
  'prepare': Mode(
    'Writes the records of a data set, from which training reads.',
    ('config',),
    ('dataset', 'manual_dir'),
    '--dataset=deepfashion --manual_dir=FOLDER',
    _prepare,
    config_from=('dataset',),
  ),
  'config': Mode(
    'Prints every field of a config, with its value and meaning.',
    ('config',),
    ('dataset', 'manual_dir', 'workdir'),
    '--config=configs/dfa.py:dataset=deepfashion,size=small',
    _print_config,
    config_from=('dataset', 'workdir'),
  ),
  'train': Mode(
    'Trains a cascade, or goes on with its training, and evaluates it.',
    ('config', 'workdir'),
    ('manual_dir', 'split', *_PROCESS_FLAGS),
    '--config=configs/dfa.py:dataset=synthetic,size=tiny --workdir=W',
    functools.partial(_experiment, 'train'),
  ),
  'evaluate': Mode(
    'Evaluates a trained run.',
    ('workdir',),
    ('config', 'dataset', 'manual_dir', 'split', *_PROCESS_FLAGS),
    '--workdir=W --split=test',
    functools.partial(_experiment, 'evaluate'),
    config_from=('workdir',),
  ),
  'report': Mode(
    'Writes a page that compares evaluated runs.',
    ('workdirs', 'output'),
    ('split',),
    '--workdirs=W1,W2 --output=FOLDER',
    _report,
  ),
  'predict': Mode(
    'Finds the landmarks on your own images.',
    ('workdir', 'images', 'output'),
    (
      'config',
      'dataset',
      'boxes',
      'pre_annotations',
      'image_prefix',
      'measure',
      'scale',
      'overlays',
      'runtime',
    ),
    '--workdir=W --images=photo.jpg --output=FOLDER',
    _predict,
    config_from=('workdir',),
  ),
  'annotate': Mode(
    'Predicts landmarks to be corrected in a labelling tool, those first that '
    'teach most.',
    ('workdir', 'images', 'output'),
    (
      'config',
      'dataset',
      'boxes',
      'pre_annotations',
      'image_prefix',
      'overlays',
      'runtime',
    ),
    '--workdir=W --images=FOLDER --output=FOLDER',
    functools.partial(_predict, ('label_studio', 'cvat'), ranked=True),
    config_from=('workdir',),
  ),
  'card': Mode(
    'Writes the marker card that gives photos their scale, to be printed.',
    ('output',),
    (),
    '--output=FOLDER',
    _card,
  ),
  'serve': Mode(
    'Answers HTTP requests with the landmarks on the photos in them.',
    ('workdir',),
    (
      'config',
      'dataset',
      'host',
      'port',
      'runtime',
      'max_images',
      'max_megabytes',
      'max_megapixels',
      'max_queue',
      'max_seconds',
      'batch_seconds',
      'drain_seconds',
    ),
    '--workdir=W --host=0.0.0.0 --port=8000',
    _serve,
    config_from=('workdir',),
  ),
  'index': Mode(
    'Indexes the items on your own images, to search among them.',
    ('images', 'output'),
    ('workdir', 'boxes', 'features'),
    '--images=FOLDER --output=INDEX --workdir=W',
    _index,
  ),
  'search': Mode(
    'Finds the indexed items that look most like those on other images.',
    ('index', 'query', 'output'),
    ('workdir', 'boxes', 'top'),
    '--index=INDEX --query=photo.jpg --output=FOLDER',
    _search,
  ),
  'export': Mode(
    'Writes a trained run as a file that runs without fld_jax.',
    ('workdir', 'output'),
    ('config', 'dataset', 'manual_dir', 'format', 'precisions'),
    '--workdir=W --output=FOLDER --format=onnx',
    _export,
    config_from=('workdir',),
  ),
  'demo': Mode(
    'Writes a page that finds landmarks on photos in the browser.',
    ('workdir', 'output'),
    ('config', 'dataset', 'manual_dir'),
    '--workdir=W --output=FOLDER',
    _demo,
    config_from=('workdir',),
  ),
  'score': Mode(
    "Measures another system's predictions on a data set.",
    ('config', 'predictions'),
    ('dataset', 'manual_dir', 'split', 'workdir'),
    '--dataset=fld --manual_dir=FOLDER --predictions=results.json',
    _score,
    config_from=('dataset',),
  ),
  'convert': Mode(
    "Makes a run of other projects' weights.",
    ('source', 'output'),
    (),
    '--source=FILE --output=W',
    _convert,
  ),
  'ablation': Mode(
    "Trains and evaluates every row of a paper's table.",
    ('config', 'workdir'),
    ('manual_dir', 'split', *_PROCESS_FLAGS),
    '--config=configs/dfa_table2.py:dataset=synthetic,size=tiny --workdir=W',
    functools.partial(_experiment, 'ablation'),
  ),
}
_MODE = flags.DEFINE_enum('mode', 'train', list(MODES), 'What to do.')

# --- Help.

_HELP_FLAGS = {'--help', '-help', '-h', '-?', '--helpfull', '--helpshort'}
_PROGRAM = 'python -m fld_jax.main'


def _help(argv: list[str]) -> str:
  """What --help prints, for the mode on the command line or for all modes."""
  name = find_flag(argv, 'mode')
  _check_mode(name)
  if name is None:
    modes = '\n'.join(
      f'  {name}\n    {mode.help}\n{_usage(mode)}\n    {_example(name)}\n'
      for name, mode in MODES.items()
    )
    every = {x for mode in MODES.values() for x in mode.needs + mode.takes}
    return (
      'Fashion-landmark detection: the DFA cascade, PCLoss and their '
      f'baselines.\n\nUsage: {_PROGRAM} [--mode=MODE] FLAGS\n'
      f'By default the mode is {_MODE.default}. Help on one mode: --mode=MODE '
      '--help\n\nModes, their flags ([optional ones] in brackets) and an '
      'example of each\n\n'
      f'{modes}\n'
      f'Flags\n\n{_describe(every)}'
    )
  mode = MODES[name]
  return (
    f'{mode.help}\n\nUsage: {_PROGRAM} --mode={name} FLAGS\n{_usage(mode)}\n\n'
    f'Example\n\n  {_example(name)}\n\nFlags\n\n'
    f'{_describe({*mode.needs, *mode.takes})}'
  )


def _usage(mode: Mode) -> str:
  """The flags of a mode, in brackets those that need not be given."""
  alone = [f'--{name}' for name in mode.needs if name != 'config']
  if 'config' in mode.needs:
    stand_ins = [f'--{name}' for name in mode.config_from]
    alone.insert(0, ' | '.join(['--config', *stand_ins]))
    if stand_ins:
      alone[0] = f'({alone[0]})'
  rest = set(mode.config_from) if 'config' in mode.needs else set()
  optional = [f'[--{name}]' for name in mode.takes if name not in rest]
  return textwrap.fill(
    ' '.join(alone + optional), initial_indent='    ', subsequent_indent='    '
  )


def _example(name: str) -> str:
  return f'{_PROGRAM} --mode={name} {MODES[name].example}'


def _describe(names: set[str]) -> str:
  """Name, meaning and default of each flag, in the order of this file."""
  lines = []
  for name in [x for x in flags.FLAGS if x in names]:
    flag = flags.FLAGS[name]
    default = f' Default: {flag.default}.' if flag.default is not None else ''
    lines += textwrap.wrap(
      f'--{name}'.ljust(18) + flag.help + default,
      width=79,
      initial_indent='  ',
      subsequent_indent=' ' * 20,
    )
  return '\n'.join(lines)


# --- The command line.


def _check_mode(name: str | None) -> None:
  if name is not None and name not in MODES:
    raise InputError(
      f'--mode={name} is not a mode, valid values are {", ".join(MODES)}.'
      f'{did_you_mean(name, MODES)}'
    )


def _check_not_empty(argv: list[str]) -> None:
  """Refuses a flag of a mode that is given without a value.

  Most often a variable of the shell is not set; for a path that would mean the
  present folder.
  """
  for name in sorted({x for mode in MODES.values() for x in _flags(mode)}):
    value = find_flag(argv, name)
    if value is not None and not value.strip(' ,'):
      raise InputError(
        f'--{name} is given without a value: is a variable of the shell not '
        'set? Give a value, or leave the flag out.'
      )


def _flags(mode: Mode) -> tuple[str, ...]:
  """The names of a mode's flags that take a value, and of --mode."""
  names = ('mode', *mode.needs, *mode.takes)
  return tuple(x for x in names if not flags.FLAGS[x].boolean)


def _parse(argv: list[str]) -> list[str]:
  """Parses flags; a mistake in one becomes an `InputError` of one sentence."""
  try:
    _check_mode(find_flag(argv, 'mode'))
    _check_not_empty(argv)
    argv = _expand(argv)
    find_config(argv)  # a missing file would end in a traceback much later
    rest = flags.FLAGS(argv)
  except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
    # ml_collections only says "'nope'": look closer.
    explain_overrides(argv)
    raise InputError(f'Bad command line: {error}.') from error
  except flags.Error as error:
    raise InputError(f'{error}') from error
  mode = MODES[_MODE.value]
  for name in mode.needs:
    if flags.FLAGS[name].value is None:
      stand_ins = mode.config_from if name == 'config' else ()
      names = ', or '.join(f'--{each}' for each in (name, *stand_ins))
      raise InputError(f'The flag {names} is missing.')
  config = _CONFIG.value
  if config and 'dataset' not in mode.config_from and 'stages' not in config:
    raise InputError(
      f'--mode={_MODE.value} needs a config with a model, for example '
      f'--config=configs/pcloss.py:dataset={config.dataset.name}'
    )
  if config:
    config_rules.check(config)
  if rest[1:]:
    raise InputError(f"'{rest[1]}' is not a flag: flags begin with --.")
  return rest


def _expand(argv: list[str]) -> list[str]:
  """Replaces short flags by the longer ones that they stand for.

  --dataset and --manual_dir stand for fields of the config; the --workdir of a
  trained run stands for the config that it was trained with.
  """
  argv = _SHORT(argv, known_only=True)
  workdir = find_flag(argv, 'workdir')
  mode = MODES[find_flag(argv, 'mode') or _MODE.default]
  given = find_config(argv)
  if not given and workdir and 'workdir' in mode.config_from:
    given = CONFIGS / 'trained.py'
    argv.insert(1, f'--config={given}:{workdir}')
    if _DATASET.value is not None:
      argv.append(f'--config.dataset.name={_DATASET.value}')
  elif _DATASET.value is not None:
    if given:
      raise InputError('Give either --dataset or --config, which names one.')
    argv.insert(1, f'--config={CONFIGS / "base.py"}:dataset={_DATASET.value}')
  if _MANUAL_DIR.value is not None:
    argv.append(f'--config.dataset.manual_dir={_MANUAL_DIR.value}')
  _ARGV[:] = argv
  return argv


def _run() -> int | None:
  set_xla_cpu_flags()
  return MODES[_MODE.value].run()


def main() -> None:
  """Runs the program; mistakes of the user end in one line and status 2.

  So does a disk that cannot be written to, with status 1, and Ctrl-C, with
  status 130.
  """
  logging.use_absl_handler()
  # At lower levels orbax and TFDS write pages a checkpoint. Their errors are
  # raised too, and end in one line below.
  logging.set_verbosity(logging.FATAL)
  std_logging.getLogger('fld_jax').setLevel(std_logging.INFO)
  # Of broken EXIF data, which name no file; what counts, `files.images` says.
  warnings.filterwarnings('ignore', category=UserWarning, module='PIL')
  with (
    terminal.guarded_streams() as stdout_problem,
    terminal.hidden_late_answers(),
    terminal.heard_interrupts(_interrupted),
  ):
    try:
      _run_or_end()
    except SystemExit as end:
      problem = stdout_problem()
      if problem and not end.code:
        _end(1, f'error: the standard output cannot be written ({problem})')
      raise


def _run_or_end() -> None:
  try:
    if _HELP_FLAGS & set(sys.argv[1:]):
      print(_help(sys.argv))
      sys.exit()
    app.run(lambda argv: sys.exit(_run()), flags_parser=_parse)
  except InputError as error:
    _end(2, f'error: {error}')
  except Unwritable as error:
    _end(1, f'error: {error}')
  except LostProcess as error:
    _end(1, f'error: {error}', wait_for_others=False)
  except Preempted as word:
    by_hand = terminal.interrupted()
    status = terminal.INTERRUPTED if by_hand else START_AGAIN
    _end(status, f'{word} Start the same command again.')
  except KeyboardInterrupt:
    terminal.leave(_interrupted())
  except Exception as error:
    if terminal.interrupted():  # libraries make other errors of it
      terminal.leave(_interrupted())
    problem = disk_problem(error)
    if problem is None:
      raise
    _end(1, f'error: {problem}')


def _interrupted() -> str:
  """The line that a Ctrl-C ends in."""
  mode = find_flag(sys.argv, 'mode') or _MODE.default
  again = ''
  if mode in ('train', 'ablation', 'prepare', 'predict'):
    again = '; the same command goes on with what is saved'
  return f'Interrupted: --mode={mode} did not come to its end{again}.'


def _end(status: int, word: str, **options: Any) -> NoReturn:
  sys.stdout.flush()  # so that the word is the last line of a log of both
  print(word, file=sys.stderr, flush=True)
  # Where it is not imported there is no other process that has to know.
  processes = sys.modules.get('fld_jax.runtime.processes')
  if processes is None:
    sys.exit(status)
  processes.leave(status, **options)


if __name__ == '__main__':
  main()
