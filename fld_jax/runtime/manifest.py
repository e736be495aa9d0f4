"""The manifest of a run: its config, data, devices and finished stages."""

import json
import pathlib
import re

from fld_jax.defaults import translate
from fld_jax.errors import InputError
from fld_jax.files.atomic import write_file
from fld_jax.files.json_files import read_json
from fld_jax.runtime import processes

# Fields that may change between two starts of one run: they say where data lie
# and what is shown, not what is computed.
FREE_FIELDS = (
  'dataset.annotations',  # the data's content is compared
  'dataset.data_dir',
  'dataset.images',
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
  """Reads the manifest of a run, for all processes.

  Args:
    workdir: The run's folder.

  Returns:
    The content of W/manifest.json, {} if there is none. A config of an older
    version gets its fields' present names.

  Raises:
    InputError: If the file cannot be read.
  """
  path = workdir / 'manifest.json'
  manifest = processes.call_on_main(
    lambda: read_json(path) if path.exists() else {}
  )
  if 'config' in manifest:
    manifest['config'] = translate(manifest['config'])
  return manifest


def compare_configs(workdir, manifest: dict, config, fields: str = '') -> None:
  """Refuses to go on with a run of another config.

  Args:
    workdir: The run's folder, for the message.
    manifest: The run's manifest, as `read_manifest` returns it.
    config: The ConfigDict of this start.
    fields: A regular expression that must match the beginning of a field's
      path for the field to be compared. FREE_FIELDS are never compared.

  Raises:
    InputError: If a field differs. The message names the first one and both
      values.
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
    workdir: The run's folder.
    config: The run's ConfigDict.
    data: The `datasets.prepare.content_id` of the prepared data set.
    topology: The numbers of `devices` and `processes` of this start.
    stages: For each finished stage, its name -> the entry that
      `store.load_stage` needs.

  Raises:
    OSError: If the file cannot be written.
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
  """Turns a config into plain JSON-ready dicts and lists.

  Args:
    config: A ConfigDict.

  Returns:
    The config's fields, tuples as lists.
  """
  return json.loads(config.to_json_best_effort())
