"""Checkpoints of a run, by orbax.

  W/manifest.json                         the run's config and its stages
  W/stages/NAME/clusters.npz              centres and cluster errors
  W/stages/NAME/routes.npz                threshold, route of training images
  W/stages/NAME/NETWORK/STEP/             state, data iterator, history, and
                                          the checksums of all its files

Every file appears whole or not at all, so that a run killed at any moment
continues from the same command.
"""

import contextlib
import copy
import hashlib
import io
import logging
import math
import pathlib
import shutil
import zipfile

import jax
import numpy as np
import orbax.checkpoint as ocp

from fld_jax.errors import InputError, Preempted
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

  A damaged file counts as missing and is logged, since it can be made again.

  Args:
    path: The path of the file.

  Returns:
    Name -> array; None if the file is missing or damaged.
  """

  def load():
    if not path.exists():
      return None
    try:
      with np.load(path) as arrays:
        return {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
      logger.warning('%s is damaged (%s): it is made again.', path, error)
      return None

  return processes.call_on_main(load)


class _Manager(ocp.CheckpointManager):
  """Orbax's manager, which does not ask by itself whether the run has to end.

  Orbax would ask with a network's step, but JAX's runtime expects numbers that
  grow over the whole run: `processes.preempted` gives them.
  """

  def reached_preemption(self, step: int) -> bool:
    del step
    return False


class Checkpoints:
  """The checkpoints of one network: the best by NE and the last two.

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

  def _make_manager(self):
    policies = ocp.checkpoint_managers
    main, me = processes.is_main(), processes.index()
    alone = ocp.options.MultiprocessingOptions(
      primary_host=me, active_processes={me}
    )
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
        multiprocessing_options=alone
        if processes.count() > 1
        else ocp.options.MultiprocessingOptions(),
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

  def __exit__(self, kind, *unused):
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

  def chosen_step(self) -> int:
    """Returns the last step whose NE is within a standard error of the lowest.

    A difference within the standard error does not tell two checkpoints apart,
    and the later one has seen more images. An overfitted one is not chosen,
    since its NE has risen again.

    Raises:
      InputError: If there is no whole checkpoint.
    """

    def choose() -> int:
      steps = self._manager.all_steps()
      if not steps:
        raise InputError(
          f'{self._directory} holds no whole checkpoint: train the network '
          'again with --mode=train.'
        )
      return _chosen({step: self._manager.metrics(step) for step in steps})

    return processes.call_on_main(choose)

  def save(
    self,
    step: int,
    state,
    progress: dict,
    history: list,
    ne: float,
    standard_error: float,
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

    Raises:
      InputError: If the disk is full; the last checkpoint stays whole.
    """
    if not processes.is_main():
      return
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
        metrics={'ne': ne, 'standard_error': standard_error},
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

  def restore_last(self, template):
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

  def restore_chosen(self, template) -> dict:
    """Reads the variables of `chosen_step`.

    Args:
      template: A tree of arrays with the structure of the variables.

    Returns:
      The variables, a tree of NumPy arrays.

    Raises:
      InputError: If there is no whole checkpoint.
    """
    return self._manager.restore(
      self.chosen_step(),
      args=ocp.args.Composite(variables=ocp.args.StandardRestore(template)),
    )['variables']

  def history(self) -> list[dict]:
    """Returns the curves up to the last step, one dict for each evaluation."""
    return self._manager.restore(
      self.last_step(), args=ocp.args.Composite(history=ocp.args.JsonRestore())
    )['history']


def read_chosen(directory: pathlib.Path) -> tuple[dict, int]:
  """Reads the variables of another run's network, and changes nothing there.

  Args:
    directory: The folder of the network's checkpoints.

  Returns:
    The variables of the step that `Checkpoints.chosen_step` would choose, a
    tree of NumPy arrays; and the step.

  Raises:
    InputError: If there is no whole checkpoint.
  """
  directory, figures = directory.absolute(), {}
  for step in _steps(directory):
    metrics = directory / str(step) / 'metrics' / 'metrics'
    if not _verify(directory / str(step)) and metrics.is_file():
      figures[step] = read_json(metrics)
  if not figures:
    raise InputError(f'{directory} holds no whole checkpoint of a network')
  step = _chosen(figures)
  with ocp.StandardCheckpointer() as checkpointer:
    variables = checkpointer.restore(directory / str(step) / 'variables')
  return jax.tree.map(np.asarray, variables), step


def _chosen(figures: dict[int, dict[str, float]]) -> int:
  """Chooses a step, see `Checkpoints.chosen_step`.

  Args:
    figures: Step -> its `ne` and `standard_error`; at least one.
  """
  lowest = min(figures.values(), key=lambda each: each['ne'])
  # Older runs have no standard error.
  highest = lowest['ne'] + lowest.get('standard_error', 0.0)
  return max(step for step in figures if figures[step]['ne'] <= highest)


def _steps(directory: pathlib.Path) -> list[int]:
  """Returns the steps that a folder holds, in ascending order."""
  if not directory.is_dir():
    return []
  names = [path.name for path in directory.iterdir()]
  return sorted(int(name) for name in names if name.isdigit())


def _checksums(folder: pathlib.Path) -> dict[str, str]:
  """Returns relative path -> SHA-256 of a checkpoint's files but this one."""
  sums = {}
  for path in sorted(folder.rglob('*')):
    if path.is_file() and path.name not in (CHECKSUMS, OLD_CHECKSUMS):
      with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
      sums[path.relative_to(folder).as_posix()] = digest
  return sums


def _checksums_file(folder: pathlib.Path) -> pathlib.Path:
  """Returns the path of a checkpoint's checksums, under their old name too."""
  old = folder / OLD_CHECKSUMS
  return old if old.exists() else folder / CHECKSUMS


def _verify(folder: pathlib.Path) -> str:
  """Tells what is wrong with a checkpoint, '' if nothing is known to be.

  A checkpoint of a run that was killed before it wrote the checksums has none,
  and counts as good: `Checkpoints.write_missing_checksums` adds them.
  """
  file = _checksums_file(folder)
  if not file.exists():
    return ''
  try:
    expected = read_json(file)
  except InputError as error:
    return str(error)
  found = _checksums(folder)
  if not isinstance(expected, dict) or expected.keys() != found.keys():
    return 'it has other files than it was saved with'
  differing = [name for name in found if found[name] != expected[name]]
  return f'{differing[0]} has changed' if differing else ''


def _without_variables(state) -> dict:
  return {'step': state.step, 'opt_state': state.opt_state}


def to_host(tree):
  """Copies arrays to the host, safe from the donation of their buffers.

  Args:
    tree: A tree of arrays on the devices, or NumPy arrays.

  Returns:
    The tree with NumPy arrays of its own.
  """
  return jax.tree.map(np.array, jax.device_get(tree))
