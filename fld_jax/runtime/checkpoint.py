"""Checkpoints of a run, by orbax.

  W/manifest.json                         the run's config and its stages
  W/stages/NAME/clusters.npz              centres and cluster errors
  W/stages/NAME/relations.npz             types of IDPR's relations
  W/stages/NAME/routes.npz                threshold, route of training images
  W/stages/NAME/cluster_errors.npz        errors of a first stage that routes
  W/stages/NAME/NETWORK/STEP/             state, data iterator, history, and
                                          the checksums of all its files

Every file appears whole or not at all, so that a run killed at any moment
continues from the same command. Only training writes, by `Checkpoints`; all
else reads by `SavedNetwork`, which leaves the folder as it is.
"""

import contextlib
import copy
import hashlib
import io
import json
import logging
import math
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.struct import PyTreeNode

from fld_jax.errors import InputError, Preempted, printable, shortened
from fld_jax.files import npz
from fld_jax.files.atomic import write_file
from fld_jax.files.json_files import read_json, write_json
from fld_jax.runtime import processes

logger = logging.getLogger('fld_jax')

# The SHA-256 of each file of a checkpoint; the second name is that of runs
# before 0.1.0, which are still read.
CHECKSUMS, OLD_CHECKSUMS = 'checksums.json', 'sums.json'


def save_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes named arrays to an .npz file, on the main process.

  Args:
    path: The path of the file.
    arrays: Name -> array.

  Raises:
    OSError: If the file cannot be written.
  """
  if not processes.is_main():
    return
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  write_file(path, buffer.getvalue())


def load_arrays(path: pathlib.Path) -> dict[str, np.ndarray] | None:
  """Reads what `save_arrays` wrote, for all processes.

  Args:
    path: The path of the .npz file.

  Returns:
    The arrays by their names; None if there is no such file.

  Raises:
    InputError: The file is damaged.
  """
  return processes.call_on_main(
    lambda: npz.read(path) if path.exists() else None
  )


def load_or_make_arrays(
  path: pathlib.Path,
  check: Callable[[dict[str, np.ndarray]], None],
  make: Callable[[], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  """Reads what `save_arrays` wrote, or makes and saves it, for all processes.

  Args:
    path: The path of the .npz file.
    check: Function of the arrays that raises InputError if they do not fit.
    make: Makes the arrays. It is called if there is no such file, or if it is
      damaged or does not fit, which a warning says.

  Returns:
    The arrays by their names.
  """

  def load():
    if not path.exists():
      return None
    try:
      found = npz.read(path)
      check(found)
    except InputError as error:
      logger.warning('%s: it is made again.', error)
      return None
    return found

  arrays = processes.call_on_main(load)
  if arrays is None:
    arrays = make()
    save_arrays(path, arrays)
  return arrays


class _Manager(ocp.CheckpointManager):
  """Orbax's manager, which does not ask by itself whether the run has to end.

  Orbax would ask with a network's step, but JAX's runtime expects numbers that
  grow over the whole run: `processes.preempted` gives them.
  """

  def reached_preemption(self, step: int) -> bool:
    del step
    return False


class SavedNetwork:
  """The checkpoints of one network, read and never changed.

  Nothing is made, moved or deleted: a run may be read-only, or a stranger's.
  Only the files that are asked for count, so that a checkpoint with a damaged
  optimiser still predicts. One whose files are damaged is passed over, which a
  warning says, and the one before takes its place.
  """

  def __init__(self, directory: pathlib.Path):
    """Keeps the place; files are read when they are asked for.

    Args:
      directory: The folder of the network's checkpoints.
    """
    self._directory = directory.absolute()

  def restore_chosen(self, template: dict) -> dict:
    """The variables of the checkpoint that `chosen` of all whole ones names.

    Args:
      template: Variables as NumPy arrays of the same structure and shapes.

    Raises:
      InputError: No checkpoint is whole and fits the template.
    """
    read = {}

    def choose() -> int:
      step, read['here'] = self._choose(template)
      return step

    step = processes.call_on_main(choose)
    return read['here'] if read else self._variables(step, template)

  def read_chosen(self) -> tuple[dict, int]:
    """The variables that `restore_chosen` restores, of a network of any form.

    Returns:
      The variables, a tree of NumPy arrays; and the step.

    Raises:
      InputError: No checkpoint is whole.
    """
    step, found = self._choose()
    return to_host(found), step

  def copy_chosen(self, template: dict, target: pathlib.Path) -> None:
    """Copies the chosen checkpoint, without what only training needs.

    It waits for no other process.

    Args:
      template: Variables as NumPy arrays of the same structure and shapes.
      target: The folder for the copy, in which it is the only checkpoint.

    Raises:
      InputError: No checkpoint is whole and fits the template.
    """
    step, _ = self._choose(template)
    source, folder = self._directory / str(step), target / str(step)
    for item in ('variables', 'metrics'):
      shutil.copytree(source / item, folder / item, copy_function=_link)
    (folder / 'history').mkdir()
    history = json.dumps(self._history())
    write_file(folder / 'history/metadata', history.encode())
    write_json(folder / CHECKSUMS, _checksums(folder))

  def _choose(self, template: dict | None = None) -> tuple[int, dict]:
    """The chosen step and its variables, which fit the template if given."""
    figures, problem = {}, ''
    for step in _steps(self._directory):
      try:
        figures[step] = self._figures(step)
      except InputError as error:
        problem = self._pass_over(step, error)
    while figures:
      step = chosen(figures)
      try:
        return step, self._variables(step, template)
      except InputError as error:
        problem = self._pass_over(step, error)
        del figures[step]
    raise _none_whole(self._directory, problem)

  def _pass_over(self, step: int, error: InputError) -> str:
    logger.warning(
      'The checkpoint %s is damaged (%s): it is passed over.',
      self._directory / str(step),
      error,
    )
    return str(error)

  def _figures(self, step: int) -> dict[str, float]:
    """The figures by which `chosen` chooses a checkpoint."""
    self._check(step, 'metrics')
    path = self._directory / str(step) / 'metrics' / 'metrics'
    found = _read_item(path)
    # Older runs have no standard error, and of most starts no NE is known.
    optional = {'standard_error': 0.0, 'start_ne': math.inf}
    figures = {**optional, **found} if _is_dict(found) else {}
    for name in ('ne', *optional):
      value = figures.get(name)
      is_number = isinstance(value, float) or _is_count(value)
      if not (is_number and value >= 0):
        raise InputError(
          f'{path}, {name}: is {shortened(value)}, must be a number from 0 on'
        )
    return {name: float(figures[name]) for name in ('ne', *optional)}

  def _variables(self, step: int, template: dict | None) -> dict:
    self._check(step, 'variables')
    folder = self._directory / str(step) / 'variables'
    alone = _alone()
    try:
      with ocp.Checkpointer(
        ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        multiprocessing_options=alone,
      ) as reader:
        found = reader.restore(folder, args=ocp.args.StandardRestore(template))
    # Orbax and TensorStore raise what their parsers run into.
    except Exception as error:
      raise InputError(
        f'{folder}: cannot be read ({printable(str(error))})'
      ) from error
    if template is None:
      return found
    shapes = lambda tree: {
      jax.tree_util.keystr(path): np.shape(leaf)
      for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    there, wanted = shapes(found), shapes(template)
    for name in sorted(there.keys() | wanted.keys()):
      if there.get(name) != wanted.get(name):
        raise InputError(
          f'{folder}, {printable(name)}: is of shape {there.get(name)}, must '
          f'be of shape {wanted.get(name)} as the config says'
        )
    return found

  def history(self) -> list[dict]:
    """The curves up to the last step; [] if no checkpoint has whole ones."""
    return processes.call_on_main(self._history)

  def _history(self) -> list[dict]:
    for step in reversed(_steps(self._directory)):
      path = self._directory / str(step) / 'history' / 'metadata'
      try:
        self._check(step, 'history')
        return check_history(_read_item(path), str(path))
      except InputError as error:
        logger.warning('%s: these curves are left out.', error)
    return []

  def _check(self, step: int, item: str) -> None:
    """Refuses a part of a checkpoint that is not as it was saved."""
    folder = self._directory / str(step)
    problem = _verify(folder, item)
    if problem:
      raise InputError(f'{folder}: {problem}')


def _link(source: str, target: str) -> None:
  """Makes a second name of a file that is never changed; or a copy."""
  try:
    os.link(source, target)
  except OSError:  # on another disk, or of another user
    shutil.copyfile(source, target)


def check_history(history: Any, place: str) -> list[dict]:
  """Checks curves of a training, which stand in files of a run.

  Args:
    history: Any value.
    place: The place of the value, with which messages begin.

  Returns:
    The history: a list of points, each with its place `images` and what was
    measured there.

  Raises:
    InputError: It is not such a list.
  """
  if not isinstance(history, list):
    raise InputError(
      f'{place}: is {shortened(history)}, must be a list of points'
    )
  for i, point in enumerate(history):
    if not _is_dict(point):
      raise InputError(
        f'{place}[{i}]: is {shortened(point)}, must be an object'
      )
    for name, value in {'images': None, **point}.items():
      if name == 'stage' and isinstance(value, str):
        continue
      if not isinstance(value, float) and not _is_count(value):
        raise InputError(
          f'{place}[{i}].{printable(str(name))}: is {shortened(value)}, must '
          'be a number'
        )
  return history


def _read_item(path: pathlib.Path) -> Any:
  if not path.is_file():
    raise InputError(f'{path}: is missing')
  return read_json(path)


def _is_dict(value: Any) -> bool:
  return isinstance(value, dict)


def _is_count(value: Any) -> bool:
  """Whether it is a whole number that NumPy takes."""
  return isinstance(value, int) and abs(value) < 2**63


def chosen(figures: dict[int, dict[str, float]]) -> int:
  """Returns the last step whose NE is within a standard error of the lowest.

  A difference within the standard error does not tell two checkpoints apart,
  and the later one has seen more images. An overfitted one is not chosen, since
  its NE has risen again. None is chosen that is worse than the start of the
  training, where that is known: it is as good as the stage before.

  Args:
    figures: Step -> `ne` of a checkpoint, and some of `standard_error` and
      `start_ne`, the NE of the training's start; at least one step.
  """
  lowest = min(figures.values(), key=lambda f: f['ne'])
  highest = lowest['ne'] + lowest.get('standard_error', 0.0)
  # At the least the lowest, since the start itself may be damaged.
  start = lowest.get('start_ne', math.inf)
  highest = max(lowest['ne'], min(highest, start))
  return max(step for step in figures if figures[step]['ne'] <= highest)


def _none_whole(directory: pathlib.Path, problem: str = '') -> InputError:
  why = f' ({problem})' if problem else ''
  return InputError(
    f'{directory} holds no whole checkpoint{why}: train the network again with '
    '--mode=train.'
  )


def _alone() -> ocp.options.MultiprocessingOptions:
  """Lets orbax work in this process without waiting for the others."""
  if processes.count() == 1:
    return ocp.options.MultiprocessingOptions()
  me = processes.index()
  return ocp.options.MultiprocessingOptions(
    primary_host=me, active_processes={me}
  )


class Checkpoints:
  """The checkpoints of a network in training: the best by NE and the last two.

  The main process writes them, all processes read them. Saving goes on in the
  background. Each checkpoint holds the checksums of its files; one whose files
  do not match is moved to `damaged/`, and the one before takes its place.

  It is a context manager: leaving it waits until everything is on disk.
  """

  def __init__(self, directory: pathlib.Path):
    self._directory = directory = directory.absolute()
    self._deleted = directory / 'deleted'
    self._saving: int | None = None
    if processes.is_main():
      directory.mkdir(parents=True, exist_ok=True)
      shutil.rmtree(self._deleted, ignore_errors=True)
      for step in _steps(directory):
        self._quarantine(step)
    processes.barrier(f'checkpoints of {directory.name}')
    self._manager = self._make_manager()

  def _make_manager(self) -> _Manager:
    policies = ocp.checkpoint_managers
    main = processes.is_main()
    return _Manager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(
          [
            policies.LatestN(2),
            policies.BestN(
              get_metric_fn=lambda metrics: metrics['ne'], reverse=True, n=1
            ),
          ]
        ),
        # Without best_fn, orbax neither writes nor reads the figures.
        best_fn=lambda metrics: metrics['ne'],
        best_mode='min',
        create=False,
        read_only=not main,
        cleanup_tmp_directories=main,
        # Orbax deletes file by file, and what a kill leaves of a step looks
        # like a step. So it only moves the step away, which is atomic.
        todelete_subdir=self._deleted.name if main else None,
        multiprocessing_options=_alone(),
      ),
      item_names=('variables', 'optimizer', 'progress', 'history'),
      item_handlers={
        'variables': ocp.StandardCheckpointHandler(),
        'optimizer': ocp.StandardCheckpointHandler(),
        'progress': ocp.JsonCheckpointHandler(),
        'history': ocp.JsonCheckpointHandler(),
      },
    )

  def __enter__(self):
    return self

  def __exit__(self, kind: type | None, *unused: Any) -> None:
    self._finish()
    self._manager.close()
    if processes.is_main():
      shutil.rmtree(self._deleted, ignore_errors=True)
    if kind in (None, Preempted):  # else the others do not come
      processes.barrier(f'end of the checkpoints of {self._directory.name}')

  def write_missing_checksums(self) -> None:
    """Writes the checksums that a killed run left unwritten.

    A step under its own name is whole: orbax gives it that name when all of it
    is written.

    Raises:
      OSError: If a file cannot be written.
    """
    if not processes.is_main():
      return
    for step in _steps(self._directory):
      folder = self._directory / str(step)
      if not _checksums_file(folder).exists():
        write_json(folder / CHECKSUMS, _checksums(folder))

  def last_step(self) -> int:
    """Returns the number of the last saved step, 0 if there is none."""
    return processes.call_on_main(lambda: self._manager.latest_step() or 0)

  def has_steps(self) -> bool:
    """Tells whether a step is saved, perhaps step 0: the start itself."""
    return processes.call_on_main(
      lambda: self._manager.latest_step() is not None
    )

  def save(
    self,
    step: int,
    state: PyTreeNode,
    progress: dict,
    history: list,
    ne: float,
    standard_error: float,
    start_ne: float | None = None,
  ) -> None:
    """Starts to save a checkpoint, on the main process.

    Args:
      step: The number of updates done.
      state: A TrainState of NumPy arrays, which the caller no longer changes.
      progress: A JSON-ready dict: the data iterator's state just after the
        batch of `step`, and what else the loop continues from.
      history: A JSON-ready list, the curves so far.
      ne: The macro NE on the tune split, a fraction; infinite if it was not
        measured.
      standard_error: The standard error of the NE.
      start_ne: The NE of step 0; None if it was not measured.

    Raises:
      InputError: If the disk is full; the last checkpoint stays whole.
    """
    if not processes.is_main():
      return
    metrics = {'ne': ne, 'standard_error': standard_error}
    if start_ne is not None:
      metrics['start_ne'] = start_ne
    self._finish()
    shutil.rmtree(self._deleted, ignore_errors=True)
    with self._full_disk(step):
      saved = self._manager.save(
        step,
        args=ocp.args.Composite(
          variables=ocp.args.StandardSave(state.variables),
          optimizer=ocp.args.StandardSave(_without_variables(state)),
          # Copies: they are written while the loop goes on.
          progress=ocp.args.JsonSave(copy.deepcopy(progress)),
          history=ocp.args.JsonSave(copy.deepcopy(history)),
        ),
        metrics=metrics,
      )
    if not saved:
      raise RuntimeError(f'orbax did not save step {step}.')
    self._saving = step

  def save_weights(self, variables: dict) -> None:
    """Starts to save variables that were trained elsewhere, as step 0.

    They have no curves and no known NE, and no training can continue from them.

    Args:
      variables: The network's variables, a tree of NumPy arrays.

    Raises:
      InputError: If the disk is full.
    """
    with self._full_disk(0):
      self._manager.save(
        0,
        args=ocp.args.Composite(
          variables=ocp.args.StandardSave(variables),
          history=ocp.args.JsonSave([]),
        ),
        metrics={'ne': math.inf, 'standard_error': 0.0},
      )
    self._saving = 0

  def _finish(self) -> None:
    """Waits for what is being saved, and adds the checksums of its files."""
    if self._saving is None:
      return
    step, self._saving = self._saving, None
    with self._full_disk(step):
      self._manager.wait_until_finished()
      folder = self._directory / str(step)
      write_json(folder / CHECKSUMS, _checksums(folder))

  @contextlib.contextmanager
  def _full_disk(self, step: int):
    try:
      yield
    except Exception as error:  # as many kinds as there are writers
      if 'No space left' not in str(error):
        raise
      whole = [s for s in _steps(self._directory) if s != step]
      raise InputError(
        f'{self._directory}: the disk is full, step {step} could not be saved. '
        f'The last whole checkpoint is of step {max(whole, default=0)}; free '
        'some space and start the same command again.'
      ) from error

  def _quarantine(self, step: int) -> None:
    folder = self._directory / str(step)
    problem = _verify(folder)
    if problem:
      aside = self._directory / 'damaged' / str(step)
      shutil.rmtree(aside, ignore_errors=True)
      aside.parent.mkdir(exist_ok=True)
      folder.rename(aside)
      logger.warning(
        'The checkpoint %s is damaged (%s): it is now in %s, and the one '
        'before it takes its place.',
        folder,
        problem,
        aside,
      )

  def restore_last(self, template: PyTreeNode) -> tuple[PyTreeNode, dict, list]:
    """Reads the last checkpoint.

    Args:
      template: A TrainState of NumPy arrays with the same structure.

    Returns:
      (state, progress, history), as `save` was given them.
    """
    restored = self._manager.restore(
      self.last_step(),
      args=ocp.args.Composite(
        variables=ocp.args.StandardRestore(template.variables),
        optimizer=ocp.args.StandardRestore(_without_variables(template)),
        progress=ocp.args.JsonRestore(),
        history=ocp.args.JsonRestore(),
      ),
    )
    state = template.replace(
      variables=restored['variables'], **restored['optimizer']
    )
    return state, restored['progress'], restored['history']


def _steps(directory: pathlib.Path) -> list[int]:
  """Returns the steps that a folder holds, in ascending order."""
  if not directory.is_dir():
    return []
  return sorted(
    int(path.name)
    for path in directory.iterdir()
    if re.fullmatch(r'0|[1-9][0-9]{0,17}', path.name) and path.is_dir()
  )


def _checksums(folder: pathlib.Path, item: str = '') -> dict[str, str]:
  """Returns relative path -> SHA-256 of a checkpoint's files but this one.

  Args:
    folder: The folder of the checkpoint.
    item: The part of the checkpoint, such as 'variables'; '' for all.
  """
  sums = {}
  for path in sorted((folder / item).rglob('*')):
    if path.is_file() and path.name not in (CHECKSUMS, OLD_CHECKSUMS):
      with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
      sums[path.relative_to(folder).as_posix()] = digest
  return sums


def _checksums_file(folder: pathlib.Path) -> pathlib.Path:
  """Returns the path of a checkpoint's checksums, under their old name too."""
  old = folder / OLD_CHECKSUMS
  return old if old.exists() else folder / CHECKSUMS


def _verify(folder: pathlib.Path, item: str = '') -> str:
  """Tells what is wrong with a checkpoint, '' if nothing is known to be.

  A checkpoint of a run that was killed before it wrote the checksums has none,
  and counts as good: `Checkpoints.write_missing_checksums` adds them.

  Args:
    folder: The folder of the checkpoint.
    item: The part of the checkpoint, such as 'variables'; '' for all.
  """
  for path in (folder / item).rglob('*'):
    if not path.is_file() and not path.is_dir():  # a pipe would be waited for
      return f'{path.relative_to(folder)} is no file'
  file = _checksums_file(folder)
  if not file.exists():
    return ''
  try:
    expected = _read_item(file)
  except InputError as error:
    return str(error)
  found = _checksums(folder, item)
  if isinstance(expected, dict) and item:
    start = f'{item}/'
    expected = {k: v for k, v in expected.items() if k.startswith(start)}
  if not isinstance(expected, dict) or expected.keys() != found.keys():
    return 'it has other files than it was saved with'
  differing = [name for name in found if found[name] != expected[name]]
  return f'{differing[0]} has changed' if differing else ''


def _without_variables(state: PyTreeNode) -> dict:
  """The parts of a TrainState that only training needs."""
  return {'step': state.step, 'opt_state': state.opt_state}


def to_host(tree: Any) -> Any:
  """Copies arrays to the host, safe from the donation of their buffers.

  Args:
    tree: A tree of arrays on the devices, or NumPy arrays.

  Returns:
    The tree with NumPy arrays of its own.
  """
  return jax.tree.map(np.array, jax.device_get(tree))
