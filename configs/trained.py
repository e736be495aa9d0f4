"""The config of a trained run, read from its folder.

  python -m fld_jax.main --mode=evaluate --workdir=W

takes `--config=configs/trained.py:W`; so do the other modes that want a trained
run. Fields can be given on the command line as for any config.
"""

import pathlib

from ml_collections import ConfigDict

from fld_jax.defaults import restore
from fld_jax.errors import InputError
from fld_jax.files import json_files


def get_config(arg: str | None = None) -> ConfigDict:
  """The config that a run was trained with.

  Args:
    arg: the run's folder. Fields that there were not yet at its time have their
      present defaults.

  Raises:
    InputError: if the folder holds no run.
  """
  folder = pathlib.Path(arg or '').expanduser()
  if not arg or not (folder / 'manifest.json').is_file():
    raise InputError(
      f"'{arg or ''}' is no folder of a trained run: it holds no manifest.json."
    )
  manifest = json_files.read_json(folder / 'manifest.json')
  if not isinstance(manifest, dict) or 'config' not in manifest:
    raise InputError(f'{folder}/manifest.json, config: is missing')
  return restore(manifest['config'])
