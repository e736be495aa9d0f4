"""The manifest of a run: its config, data, devices and finished stages."""

import json
import pathlib
import re
from typing import Any, NoReturn

from ml_collections import ConfigDict

from fld_jax import config_rules
from fld_jax.defaults import check_saved
from fld_jax.errors import InputError, printable, shortened
from fld_jax.files.atomic import write_file
from fld_jax.files.json_files import read_json
from fld_jax.runtime import processes
from fld_jax.schema import LandmarkSet

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
# What a manifest without them stands for, and what they may be.
TOPOLOGY = {'devices': 1, 'processes': 1}
PARTS = config_rules.whole(1, 10**6)
EPSILON = config_rules.BASE['routing.epsilon']
# Where a threshold of routing is from: `routing.epsilon`, `routing.quantile`,
# or the quantile in place of an epsilon that leaves a branch too few images.
THRESHOLDS = ('epsilon', 'quantile', 'fallback')
# The fields of a finished stage, and what stands for those that an older run
# lacks.
ENTRY = {
  'networks': None,  # the names of its networks, sorted
  'epsilon': None,  # the threshold of its branches
  'threshold': None,  # where that is from, one of THRESHOLDS
  'easy_share': None,  # the share of the training images below it
  'continues': False,  # see `cascade.stage.Stage`
  'refitted': False,  # whether refit.npz holds its head of pseudo-labels
}


def _flatten(tree: Any, prefix: str = '') -> dict[str, Any]:
  """The leaves of dicts and lists by their paths, such as stages.0.name."""
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
    version gets its fields' present names. `landmarks` is a LandmarkSet; None
    in a run of a version that did not write it.

  Raises:
    InputError: If the file is damaged, or a field has a value that it cannot
      have.
  """
  path = workdir / 'manifest.json'
  return processes.call_on_main(
    lambda: check(read_json(path), path) if path.exists() else {}
  )


def check(manifest: Any, path: pathlib.Path) -> dict:
  """Checks every field of a manifest.

  Args:
    manifest: The value that the file holds.
    path: The path of the file, for messages.

  Returns:
    The manifest, with the present names of its config's fields and the
    LandmarkSet of `landmarks`, None where it is missing.

  Raises:
    InputError: A field is missing, unknown, or has a value that it cannot have.
  """

  def refuse(field: str, value: Any, valid: str) -> NoReturn:
    raise InputError(f'{path}, {field}: is {shortened(value)}, must be {valid}')

  if not isinstance(manifest, dict):
    raise InputError(
      f'{path}: is {shortened(manifest)}, must be the object that a training '
      'writes'
    )
  config = check_saved(manifest.get('config'), str(path))
  data = manifest.get('data', '')
  if not isinstance(data, str):
    refuse('data', data, 'a text')
  topology = manifest.get('topology', TOPOLOGY)
  if not isinstance(topology, dict):
    refuse('topology', topology, 'an object')
  for name in TOPOLOGY:
    if not PARTS.valid(topology.get(name)):
      refuse(f'topology.{name}', topology.get(name), str(PARTS))
  landmarks = manifest.get('landmarks')
  if landmarks is not None:
    landmarks = LandmarkSet.from_dict(landmarks, f'{path}, landmarks')
  stages = manifest.get('stages', {})
  if not isinstance(stages, dict):
    refuse('stages', stages, 'an object')
  branches = {s['name']: s.get('branches', False) for s in config['stages']}
  for name, entry in stages.items():
    field = f'stages.{printable(name)}'
    if name not in branches:
      refuse('stages', name, f'one of {", ".join(branches)}, as in the config')
    if not isinstance(entry, dict):
      refuse(field, entry, 'an object')
    networks = ['easy', 'hard'] if branches[name] else ['all']
    if entry.get('networks') != networks:
      refuse(f'{field}.networks', entry.get('networks'), str(networks))
    epsilon = entry.get('epsilon')
    if epsilon is not None and not EPSILON.valid(epsilon):
      refuse(f'{field}.epsilon', epsilon, f'null or {EPSILON}')
    for flag in ('continues', 'refitted'):
      if not config_rules.FLAG.valid(entry.get(flag, False)):
        refuse(f'{field}.{flag}', entry[flag], str(config_rules.FLAG))
    threshold = entry.get('threshold')
    if threshold is not None and threshold not in THRESHOLDS:
      valid = ', '.join(map(repr, THRESHOLDS))
      refuse(f'{field}.threshold', threshold, f'null or one of {valid}')
    share = entry.get('easy_share')
    if share is not None and not config_rules.SHARE.valid(share):
      refuse(f'{field}.easy_share', share, f'null or {config_rules.SHARE}')
  return {
    **manifest,
    'config': config,
    'data': data,
    'topology': topology,
    'landmarks': landmarks,
    'stages': {
      name: {key: entry.get(key, value) for key, value in ENTRY.items()}
      for name, entry in stages.items()
    },
  }


def compare_landmarks(
  workdir: pathlib.Path, manifest: dict, whole: LandmarkSet
) -> None:
  """Refuses to go on with a run of another landmark set.

  Args:
    workdir: The run's folder, for the message.
    manifest: The content of the run's manifest, as `read_manifest` returns it.
    whole: The landmarks of all clothes types that the data set now has.

  Raises:
    InputError: If they differ; it names the first field that does.
  """
  known = manifest['landmarks']
  if known is None or known == whole:
    return
  then, now = known.to_dict(), whole.to_dict()
  field = next(key for key in then if then[key] != now[key])
  raise InputError(
    f'{workdir}/manifest.json, landmarks.{field}: is {shortened(then[field])}, '
    f'and the data set now has {shortened(now[field])}. Give the same data or '
    'another --workdir.'
  )


def compare_configs(
  workdir: pathlib.Path, manifest: dict, config: ConfigDict, fields: str = ''
) -> None:
  """Refuses to go on with a run of another config.

  Args:
    workdir: The run's folder, for the message.
    manifest: The run's manifest, as `read_manifest` returns it.
    config: The config of this start.
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
  workdir: pathlib.Path,
  config: ConfigDict,
  landmarks: LandmarkSet,
  data: str,
  topology: dict,
  stages: dict,
) -> None:
  """Writes W/manifest.json, on the main process.

  Args:
    workdir: The run's folder.
    config: The run's config.
    landmarks: The landmarks of all clothes types of the data set. With them the
      run predicts where there is no data set.
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
  content = json.loads(json.dumps(content, sort_keys=True))
  # Not sorted: the order of its types and parts is that of tables.
  content['landmarks'] = landmarks.to_dict()
  text = json.dumps(content, indent=2)
  write_file(workdir / 'manifest.json', text.encode())


def to_dict(config: ConfigDict) -> dict:
  """Turns a config into plain JSON-ready dicts and lists.

  Args:
    config: The config.

  Returns:
    The config's fields, tuples as lists.
  """
  return json.loads(config.to_json_best_effort())
