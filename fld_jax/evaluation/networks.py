"""How many networks a method has, how large and how fast they are.

  W/eval/SPLIT/networks.json  `Networks`

A file of its own, since no two measurements of a time are equal. Liu et al.
(ECCV 2016) compare cascades so in their Table 5.
"""

import dataclasses
import pathlib
import time
from typing import Any

import jax
import numpy as np

from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.cascade import Cascade
from fld_jax.errors import InputError, shortened
from fld_jax.files import json_files
from fld_jax.runtime import processes

REPEATS = 3  # the shortest time counts


@dataclasses.dataclass(frozen=True)
class Networks:
  """The networks of a trained method.

  Attributes:
    trained: The number of networks that were trained.
    run: The number of networks that an image passes in prediction.
    parameters: The number of their parameters, of all that were trained.
    ms_per_image: Milliseconds that an image takes, in batches and without
      reading it; as in the evaluation, so with its mirror image if that is
      asked for, and with a stage that branches continue.
    batch_size: The number of images of these batches.
    device: The devices that they were run on.
  """

  trained: int
  run: int
  parameters: int
  ms_per_image: float
  batch_size: int
  device: str

  @classmethod
  def of(cls, cascade: Cascade) -> 'Networks':
    """Counts and times the networks of a cascade.

    Args:
      cascade: The trained cascade, on the devices of this process.
    """
    batch_size = cascade.setup.pipeline.batch_size // processes.count()
    stages = cascade.stages
    *chain, last = stage_lib.needed(stages)
    per_image = len(last.networks)
    if cascade.setup.routing == 'route':
      per_image = 1
    devices = jax.local_devices()
    return cls(
      trained=sum(_count(stage) * len(stage.networks) for stage in stages),
      run=sum(map(_count, chain)) + per_image * _count(last),
      parameters=sum(
        array.size
        for stage in stages
        for variables in stage.networks.values()
        for array in jax.tree.leaves(variables['params'])
      ),
      ms_per_image=_ms_per_image(cascade, batch_size),
      batch_size=batch_size,
      device=f'{len(devices)} x {devices[0].device_kind}',
    )

  def save(self, path: pathlib.Path) -> None:
    """Writes networks.json.

    Args:
      path: The path of networks.json.
    """
    json_files.write_json(path, dataclasses.asdict(self))

  @classmethod
  def read(cls, path: pathlib.Path) -> 'Networks | None':
    """Reads networks.json; None if an older evaluation wrote none.

    Args:
      path: The path of networks.json.

    Raises:
      InputError: A field is missing or wrong.
    """
    if not path.exists():
      return None
    found = json_files.read_json(path)
    if not isinstance(found, dict):
      raise InputError(f'{path}: is {shortened(found)}, must be an object')
    fields = {field.name: field.type for field in dataclasses.fields(cls)}
    for name, kind in fields.items():
      _check(path, name, found.get(name), kind)
    return cls(**{name: found[name] for name in fields})


def _count(stage: stage_lib.Stage) -> int:
  """How many networks one of a stage's modules is: perhaps one a landmark."""
  alone = getattr(stage.model, 'per_landmark', False)
  each = alone and stage.model.use_estimate
  return stage.model.num_landmarks if each else 1


def _ms_per_image(cascade: Cascade, batch_size: int) -> float:
  """The shortest time of a batch, of which the first compiled the programs."""
  side = cascade.setup.pipeline.size
  shape = (batch_size, side, side, 3)
  batch = {
    'image': np.random.default_rng(0).integers(0, 256, shape, np.uint8),
    'mask': np.ones(batch_size, np.float32),
    'corrupt': np.zeros(batch_size, np.int32),
  }
  seconds = []
  for _ in range(1 + REPEATS):
    start = time.perf_counter()
    cascade.predict([batch])
    seconds.append(time.perf_counter() - start)
  return 1000 * min(seconds[1:]) / batch_size


def _check(path: pathlib.Path, name: str, value: Any, kind: type) -> None:
  """Refuses a field of networks.json that is not of its kind."""
  if kind is str:
    is_valid, must = isinstance(value, str), 'a text'
  else:
    kinds = int | float if kind is float else int
    is_valid = isinstance(value, kinds) and 0 < value < 1e15
    is_valid, must = is_valid and value is not True, 'a number above 0'
  if not is_valid:
    raise InputError(
      f'{path}, {name}: is {shortened(value)}, must be {must}: evaluate again.'
    )
