"""Converts third-party weights to a run, for evaluation and prediction."""

import pathlib

from ml_collections import ConfigDict

from fld_jax.cascade.forward import Variables
from fld_jax.cascade.setup import resolve
from fld_jax.errors import InputError
from fld_jax.files.atomic import whole_folder
from fld_jax.pretrained import dfa_release, mmpose
from fld_jax.runtime import checkpoint, manifest


def convert(source: pathlib.Path, output: pathlib.Path) -> None:
  """Writes a run's folder and prints which weights it took and left out.

  Args:
    source: The folder of one clothes type of DFA's release, or the file of
      mmpose's heatmap estimator on a ResNet, trained on DeepFashion or FLD.
    output: The run's new folder. It appears when all files are written.

  Raises:
    InputError: The source is missing, its files have mistakes, or the output
      is not a new or empty folder.
  """
  if output.exists() and (not output.is_dir() or any(output.iterdir())):
    raise InputError(f'{output}: is there already, must be a new folder')
  if not source.exists():
    raise InputError(f'{source}: there is no such file or folder')
  reader = dfa_release if source.is_dir() else mmpose
  config, networks, report = reader.read_run(source)
  _write(output, config, networks, f'weights from {source.absolute()}')
  landmarks = resolve(config).landmarks
  print('\n'.join(report))
  print(
    f'Landmarks: {", ".join(landmarks.names)}\n'
    f'Run: {output}, for --mode=predict and --mode=evaluate',
    flush=True,
  )


def _write(
  output: pathlib.Path,
  config: ConfigDict,
  networks: dict[str, dict[str, Variables]],
  data: str,
) -> None:
  """Writes the folder of a run atomically.

  Args:
    output: The run's folder.
    config: The run's config.
    networks: Variables by the names of the stage and of the network.
    data: Description of the weights' source, for the run's manifest.
  """
  stages = {}
  with whole_folder(output) as folder:
    for stage, of_stage in networks.items():
      for name, variables in of_stage.items():
        directory = folder / 'stages' / stage / name
        with checkpoint.Checkpoints(directory) as checkpoints:
          checkpoints.save_weights(variables)
      stages[stage] = {'networks': sorted(of_stage), 'epsilon': None}
    topology = {'devices': 1, 'processes': 1}
    whole = resolve(config).whole
    manifest.write_manifest(folder, config, whole, data, topology, stages)
