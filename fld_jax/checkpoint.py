"""Checkpoints and manifest of a run on disk, written by orbax.

  W/manifest.json                         the run's config and its stages
  W/stages/NAME/clusters.npz              centres, cluster errors
  W/stages/NAME/routes.npz                threshold, route of training images
  W/stages/NAME/NETWORK/STEP/             state, data iterator, history, and
                                          the sums of all its files

Every file appears whole or not at all, so that a run killed at any moment
continues from the same command.
"""

import contextlib
import copy
import hashlib
import io
import json
import logging
import math
import pathlib
import re
import shutil
import zipfile

import jax
import numpy as np
import orbax.checkpoint as ocp

from fld_jax import processes
from fld_jax.errors import InputError, Preempted
from fld_jax.files import read_json, write_file, write_json

logger = logging.getLogger('fld_jax')

SUMS = 'sums.json'  # of a checkpoint's files

# Fields that may change between two starts of one run: they say where data lie
# and what is shown, not what is computed.
FREE_FIELDS = (
  'dataset.data_dir',
  'dataset.manual_dir',
  'eval_splits',
  'input.num_threads',
  'input.num_workers',
  'log_every_steps',
  'on_nan',
  'parallel',
)
# All that the networks' shapes, inputs and the meaning of their outputs depend
# on: what evaluation compares.
INPUT_FIELDS = r'(input|model)\.(?!dropout)|offset_scale|dataset\.clothes_type'
NETWORK_FIELDS = (
  INPUT_FIELDS
  + r'|heatmap\.(?!decoder)'
  + r'|stages\.\d+\.(name|branches|pseudo_label\.(num_clusters|normalize))'
)


def save_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes named arrays to an .npz file, on the main process."""
  if not processes.is_main():
    return
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  write_file(path, buffer.getvalue())


def load_arrays(path: pathlib.Path) -> dict[str, np.ndarray] | None:
  """Reads what `save_arrays` wrote, for all processes; None if it did not.

  A damaged file counts as none, which is said: it can be made again.
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

  return processes.from_main(load)


class _Manager(ocp.CheckpointManager):
  """Orbax's, but that it does not ask whether the run shall end.

  It asks with a network's step, and JAX's runtime expects one row of numbers:
  `processes.preempted` gives them.
  """

  def reached_preemption(self, step: int) -> bool:
    del step
    return False


class Checkpoints:
  """The checkpoints of one network: the best by NE and the last two.

  The main process writes them, all processes read them. Saving goes on in the
  background. Each holds the sums of its files; one that does not fit them is
  moved to `damaged/`, and the one before takes its place.

  A context manager: leaving it waits until all is on disk.
  """

  def __init__(self, directory: pathlib.Path):
    self._directory = directory = directory.absolute()
    self._deleted = directory / 'deleted'
    self._saving: int | None = None
    if processes.is_main():
      directory.mkdir(parents=True, exist_ok=True)
      shutil.rmtree(self._deleted, ignore_errors=True)
      for step in _steps(directory):
        self._set_damaged_aside(step)
    processes.wait(f'checkpoints of {directory.name}')
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
      processes.wait(f'end of the checkpoints of {self._directory.name}')

  def seal(self) -> None:
    """Writes the sums that a kill left unwritten.

    A step under its own name is whole: orbax names it so when all is written.
    """
    if not processes.is_main():
      return
    for step in _steps(self._directory):
      folder = self._directory / str(step)
      if not (folder / SUMS).exists():
        write_json(folder / SUMS, _sums(folder))

  def last_step(self) -> int:
    """The last saved step, 0 if there is none."""
    return processes.from_main(lambda: self._manager.latest_step() or 0)

  def chosen_step(self) -> int:
    """The last step whose NE is within a standard error of the lowest.

    A hundred images cannot tell two checkpoints apart, and the later one is the
    better network, unless it has learnt the training images by heart.
    """

    def choose() -> int:
      steps = self._manager.all_steps()
      if not steps:
        raise InputError(
          f'{self._directory} holds no whole checkpoint: train the network '
          'again with --mode=train.'
        )
      figures = {step: self._manager.metrics(step) for step in steps}
      lowest = min(figures.values(), key=lambda f: f['ne'])
      # Older runs have no standard error.
      highest = lowest['ne'] + lowest.get('standard_error', 0.0)
      return max(step for step in steps if figures[step]['ne'] <= highest)

    return processes.from_main(choose)

  def save(
    self,
    step: int,
    state,
    progress: dict,
    history: list,
    ne: float,
    standard_error: float,
  ) -> None:
    """Starts to save.

    Args:
      step: number of updates done.
      state: TrainState of NumPy arrays, not changed any more by the caller.
      progress: JSON-ready: the data iterator's state just after the batch of
        `step`, and what else the loop goes on with.
      history: JSON-ready, the curves so far.
      ne: macro NE on the tune split; infinite if it was not measured.
      standard_error: of the NE.

    Raises:
      InputError: if the disk is full; the last checkpoint stays whole.
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

    They have no curves and no known NE, and no training can go on from them.
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
    """Waits for what is being saved, and adds the sums of its files."""
    if self._saving is None:
      return
    step, self._saving = self._saving, None
    with self._full_disk(step):
      self._manager.wait_until_finished()
      folder = self._directory / str(step)
      write_json(folder / SUMS, _sums(folder))

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

  def _set_damaged_aside(self, step: int) -> None:
    folder = self._directory / str(step)
    problem = _damage(folder)
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
    """What was saved last: (state, progress, history).

    Args:
      template: TrainState of NumPy arrays with the same structure.
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
    """The variables of `chosen_step`; `template` has their structure."""
    return self._manager.restore(
      self.chosen_step(),
      args=ocp.args.Composite(variables=ocp.args.StandardRestore(template)),
    )['variables']

  def history(self) -> list[dict]:
    """The curves up to the last step."""
    return self._manager.restore(
      self.last_step(), args=ocp.args.Composite(history=ocp.args.JsonRestore())
    )['history']


def _steps(directory: pathlib.Path) -> list[int]:
  """The steps that lie in a folder."""
  if not directory.is_dir():
    return []
  names = [path.name for path in directory.iterdir()]
  return sorted(int(name) for name in names if name.isdigit())


def _sums(folder: pathlib.Path) -> dict[str, str]:
  """Relative path -> SHA-256 of each file below a folder, but SUMS."""
  sums = {}
  for path in sorted(folder.rglob('*')):
    if path.is_file() and path.name != SUMS:
      with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
      sums[path.relative_to(folder).as_posix()] = digest
  return sums


def _damage(folder: pathlib.Path) -> str:
  """What is wrong with a checkpoint, '' if nothing is known to be.

  One that was killed before its sums were written has none, see
  `Checkpoints.seal`.
  """
  if not (folder / SUMS).exists():
    return ''
  try:
    expected = read_json(folder / SUMS)
  except InputError as error:
    return str(error)
  found = _sums(folder)
  if not isinstance(expected, dict) or expected.keys() != found.keys():
    return 'it has other files than it was saved with'
  differing = [name for name in found if found[name] != expected[name]]
  return f'{differing[0]} has changed' if differing else ''


def _without_variables(state) -> dict:
  return {'step': state.step, 'opt_state': state.opt_state}


def _flatten(tree, prefix='') -> dict:
  if isinstance(tree, dict):
    items = tree.items()
  elif isinstance(tree, list | tuple):
    items = enumerate(tree)
  else:
    return {prefix: tree}
  flat = {}
  for key, value in items:
    flat |= _flatten(value, f'{prefix}.{key}' if prefix else str(key))
  return flat


def read_manifest(workdir: pathlib.Path) -> dict:
  """The manifest of a run, for all processes; {} if there is none."""
  path = workdir / 'manifest.json'
  return processes.from_main(lambda: read_json(path) if path.exists() else {})


def compare_configs(workdir, manifest: dict, config, fields: str = '') -> None:
  """Refuses to go on with a run of another config.

  Args:
    workdir: the run's folder, for the message.
    manifest: of `read_manifest`.
    config: of this start.
    fields: regular expression that the fields to compare begin with; by
      default all but FREE_FIELDS are.

  Raises:
    InputError: naming the first field that differs and both values.
  """
  then, now = _flatten(manifest['config']), _flatten(to_dict(config))
  for key in sorted(then.keys() | now.keys()):
    if key.startswith(FREE_FIELDS) or not re.match(fields, key):
      continue
    # A field that there was not yet did nothing, as '' and 0 do.
    if (then.get(key) or 0) != (now.get(key) or 0):
      raise InputError(
        f'{workdir}/manifest.json is of another config: config.{key} was '
        f'{then.get(key)!r} and now is {now.get(key)!r}. Give the same config '
        'or another --workdir.'
      )


def write_manifest(
  workdir, config, data: str, topology: dict, stages: dict
) -> None:
  """Writes W/manifest.json, on the main process.

  Args:
    workdir: the run's folder.
    config: of the run.
    data: `datasets.identity` of the prepared dataset.
    topology: numbers of `devices` and `processes` of this start.
    stages: name -> what `stage.load_stage` needs, of each finished stage.
  """
  if not processes.is_main():
    return
  content = {
    'config': to_dict(config),
    'data': data,
    'topology': topology,
    'stages': stages,
  }
  text = json.dumps(content, indent=2, sort_keys=True)
  write_file(workdir / 'manifest.json', text.encode())


def to_dict(config) -> dict:
  """A config as plain JSON-ready dicts and lists."""
  return json.loads(config.to_json_best_effort())


def to_host(tree):
  """NumPy copies of arrays, safe from the donation of their buffers."""
  return jax.tree.map(np.array, jax.device_get(tree))
