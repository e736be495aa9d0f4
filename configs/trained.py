"""The config of a trained run, read from its folder.

  python -m fld_jax.main --mode=evaluate --workdir=W

uses `--config=configs/trained.py:W` by default, as do the other modes that need
a trained run. Fields can be set on the command line as for any config.
"""

import pathlib

from ml_collections import ConfigDict

from fld_jax.defaults import restore
from fld_jax.errors import InputError
from fld_jax.files import json_files


def get_config(arg: str | None = None) -> ConfigDict:
  """Reads the config that a run was trained with.

  Args:
    arg: The run's folder.

  Returns:
    The config. A field that did not exist when the run was trained has its
    present default.

  Raises:
    InputError: If the folder holds no run, or its manifest cannot be read.
  """
  folder = pathlib.Path(arg or '').expanduser()
  if not arg or not (folder / 'manifest.json').is_file():
    raise InputError(
      f"'{arg or ''}' is no folder of a trained run: it holds no manifest.json."
    )
  manifest = json_files.read_json(folder / 'manifest.json')
  config = manifest.get('config') if isinstance(manifest, dict) else manifest
  return restore(config, f'{folder}/manifest.json')
