"""What is on disk of a run, and the only importer of orbax.

  W/manifest.json                         the run's config and its stages
  W/stages/NAME/clusters.npz              centres, cluster errors
  W/stages/NAME/routes.npz                threshold, route of training images
  W/stages/NAME/NETWORK/STEP/             state, data iterator, history

Every file appears whole or not at all, so that a run killed at any moment
continues from the same command.
"""

import io
import json
import pathlib
import re
import shutil

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp

from fld_jax.errors import InputError
from fld_jax.files import write_file

# Fields that may change between two starts of one run: they say where data lie
# and what is shown, not what is computed.
FREE_FIELDS = (
  'dataset.data_dir',
  'dataset.manual_dir',
  'eval_splits',
  'input.num_threads',
  'input.num_workers',
  'log_every_steps',
  'parallel',
)
# All that the networks' shapes, inputs and the meaning of their outputs depend
# on: what evaluation compares.
INPUT_FIELDS = r'(input|model)\.(?!dropout)|offset_scale'
NETWORK_FIELDS = (
  INPUT_FIELDS
  + r'|heatmap\.(?!decoder)'
  + r'|stages\.\d+\.(name|branches|pseudo_label\.(num_clusters|normalize))'
)


def save_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes named arrays to an .npz file."""
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  write_file(path, buffer.getvalue())


def load_arrays(path: pathlib.Path) -> dict[str, np.ndarray] | None:
  """Reads what `save_arrays` wrote; None if it was not written."""
  if not path.exists():
    return None
  with np.load(path) as arrays:
    return {key: arrays[key] for key in arrays.files}


class Checkpoints:
  """The checkpoints of one network: the best by NE and the last.

  A context manager, because saving goes on in the background: leaving it waits
  until all is on disk.
  """

  def __init__(self, directory: pathlib.Path):
    policies = ocp.checkpoint_managers
    self._deleted = directory.absolute() / 'deleted'
    shutil.rmtree(self._deleted, ignore_errors=True)
    self._manager = ocp.CheckpointManager(
      directory.absolute(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(
          [
            policies.LatestN(1),
            policies.BestN(
              get_metric_fn=lambda metrics: metrics['ne'], reverse=True, n=1
            ),
          ]
        ),
        # Without best_fn, orbax neither writes nor reads the figures.
        best_fn=lambda metrics: metrics['ne'],
        best_mode='min',
        cleanup_tmp_directories=True,
        # Orbax deletes file by file, and what a kill leaves of a step looks
        # like a step. So it only moves the step away, which is atomic.
        todelete_subdir=self._deleted.name,
      ),
      item_names=('variables', 'optimizer', 'iterator', 'history'),
      item_handlers={
        'variables': ocp.StandardCheckpointHandler(),
        'optimizer': ocp.StandardCheckpointHandler(),
        'iterator': grain.checkpoint.CheckpointHandler(),
        'history': ocp.JsonCheckpointHandler(),
      },
    )

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self._manager.close()  # waits
    shutil.rmtree(self._deleted, ignore_errors=True)

  def last_step(self) -> int:
    """The last saved step, 0 if there is none."""
    return self._manager.latest_step() or 0

  def best_step(self) -> int:
    """The saved step with the lowest NE; of equals, the later."""
    steps = self._manager.all_steps()
    return min(steps, key=lambda s: (self._manager.metrics(s)['ne'], -s))

  def save(self, step: int, state, iterator, history: list, ne: float) -> None:
    """Starts to save.

    Args:
      step: number of updates done.
      state: TrainState of NumPy arrays, not changed any more by the caller.
      iterator: Grain iterator, just after the batch of `step`.
      history: JSON-ready list, the curves so far.
      ne: macro NE on the tune split.
    """
    self._manager.wait_until_finished()
    shutil.rmtree(self._deleted, ignore_errors=True)
    saved = self._manager.save(
      step,
      args=ocp.args.Composite(
        variables=ocp.args.StandardSave(state.variables),
        optimizer=ocp.args.StandardSave(_without_variables(state)),
        iterator=grain.checkpoint.CheckpointSave(iterator),
        history=ocp.args.JsonSave(history),
      ),
      metrics={'ne': ne},
    )
    if not saved:
      raise RuntimeError(f'orbax did not save step {step}.')

  def restore_last(self, template, iterator):
    """The last state and history; sets the iterator to where it was.

    Args:
      template: TrainState of NumPy arrays with the same structure.
      iterator: a fresh Grain iterator of the same pipeline.

    Returns:
      (state, history).
    """
    restored = self._manager.restore(
      self.last_step(),
      args=ocp.args.Composite(
        variables=ocp.args.StandardRestore(template.variables),
        optimizer=ocp.args.StandardRestore(_without_variables(template)),
        iterator=grain.checkpoint.CheckpointRestore(iterator),
        history=ocp.args.JsonRestore(),
      ),
    )
    state = template.replace(
      variables=restored['variables'], **restored['optimizer']
    )
    return state, restored['history']

  def restore_best(self, template) -> dict:
    """The variables with the lowest NE; `template` has their structure."""
    return self._manager.restore(
      self.best_step(),
      args=ocp.args.Composite(variables=ocp.args.StandardRestore(template)),
    )['variables']

  def history(self) -> list[dict]:
    """The curves up to the last step."""
    return self._manager.restore(
      self.last_step(), args=ocp.args.Composite(history=ocp.args.JsonRestore())
    )['history']


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
  """The manifest of a run, {} if there is none."""
  path = workdir / 'manifest.json'
  return json.loads(path.read_text()) if path.exists() else {}


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
    if then.get(key) != now.get(key):
      raise InputError(
        f'{workdir}/manifest.json is of another config: config.{key} was '
        f'{then.get(key)!r} and now is {now.get(key)!r}. Give the same config '
        'or another --workdir.'
      )


def write_manifest(workdir, config, data: str, stages: dict) -> None:
  """Writes W/manifest.json.

  Args:
    workdir: the run's folder.
    config: of the run.
    data: full name of the prepared dataset, with its fingerprint.
    stages: name -> what `stage.load_stage` needs, of each finished stage.
  """
  content = {'config': to_dict(config), 'data': data, 'stages': stages}
  text = json.dumps(content, indent=2, sort_keys=True)
  write_file(workdir / 'manifest.json', text.encode())


def to_dict(config) -> dict:
  """A config as plain JSON-ready dicts and lists."""
  return json.loads(config.to_json_best_effort())


def to_host(tree):
  """NumPy copies of arrays, safe from the donation of their buffers."""
  return jax.tree.map(np.array, jax.device_get(tree))
