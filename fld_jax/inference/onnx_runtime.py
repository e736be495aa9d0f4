"""A trained cascade in ONNX Runtime, for CPUs on which that is faster.

  ~/.cache/fld_jax/onnx/KEY/model.onnx   the converted networks

The graph is that of `Cascade.forward`, as `--mode=export` has it, and gives
what `Cascade.predict` gives. KEY is a digest of all that the file depends on:
a file is made once, compared with JAX, and found by every later process.
"""

import dataclasses
import hashlib
import pathlib
import tempfile
from collections.abc import Iterable
from typing import Any

import jax
import jax.export
import numpy as np
from ml_collections import ConfigDict

from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.cascade import OUTPUTS, Cascade
from fld_jax.cascade.setup import Setup
from fld_jax.evaluation.calibration import Identity
from fld_jax.files.atomic import whole_folder
from fld_jax.inference import export_formats
from fld_jax.ops import cpu_kernels
from fld_jax.runtime import user_cache
from fld_jax.runtime.parallel import Parallel

NAME = 'model.onnx'
TOLERANCE = 1e-3  # pixels of the crop, between ONNX Runtime and JAX
CHECKED = 5  # crops that a new file is compared on
# The parts of the package that a graph is traced from: another version of them
# may trace another.
SOURCES = ('geometry.py', 'cascade', 'models', 'ops')


class OnnxCascade:
  """What `Predictor` needs of a `Cascade`, computed by ONNX Runtime.

  Attributes:
    stages: The trained stages.
    setup: The objects that the run's config resolves to.
  """

  def __init__(
    self, config: ConfigDict, stages: list[stage_lib.Stage], setup: Setup
  ):
    """Opens the converted networks; converts them if there are none.

    Args:
      config: The run's config.
      stages: The trained stages that there is no final result without.
      setup: The objects that the config resolves to.

    Raises:
      InputError: A package is not installed.
      RuntimeError: The converted networks give other landmarks than JAX.
    """
    export_formats.onnxruntime("runtime 'onnx'")  # names it if it is missing
    self.stages, self.setup = stages, setup
    stages = [
      dataclasses.replace(stage, model=stage_lib.in_float32(stage.model))
      for stage in stages
    ]
    self._device = jax.local_devices(backend='cpu')[0]
    self._cascade = Cascade(
      stages, setup, Parallel('shard_map', [self._device])
    )
    key = _key(config, stages, setup)
    place = user_cache.folder('onnx')
    if place is None:
      with tempfile.TemporaryDirectory() as folder:
        self._run = self._opened(pathlib.Path(folder) / key)
    else:
      self._run = self._opened(place / key)

  def _opened(self, folder: pathlib.Path) -> export_formats.Loaded:
    """The networks of a folder, which is made if it is not there."""
    convert, load, _ = export_formats.FORMATS['onnx']
    if not (folder / NAME).is_file():
      side = self.setup.pipeline.size
      shape = jax.export.symbolic_shape(f'B, {side}, {side}, 3')
      image = jax.ShapeDtypeStruct(shape, np.uint8)
      weights = [stage.networks for stage in self.stages]
      size = sum(x.nbytes for x in jax.tree.leaves(weights))
      with whole_folder(folder) as made:
        with jax.default_device(self._device), cpu_kernels.portable():
          convert(self._outputs, image, made / NAME, size)
        self._check(load(made / NAME))
    return load(folder / NAME)

  def _outputs(self, image: jax.Array) -> dict[str, jax.Array]:
    """The outputs of all stages, 'STAGE/KEY' -> array, for the graph."""
    return {
      f'{name}/{key}': value
      for name, outputs in self._cascade.forward(image).items()
      for key, value in outputs.items()
      if key in (*OUTPUTS, 'route')
    }

  def _check(self, run: export_formats.Loaded) -> None:
    """Compares the landmarks of a new file with those of JAX."""
    side = self.setup.pipeline.size
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (CHECKED, 4, 4, 3), np.uint8)
    places = np.arange(side) * 4 // side
    crops = coarse[:, places][:, :, places]
    batch = {
      'image': crops,
      'mask': np.ones(CHECKED, np.float32),
      'corrupt': np.zeros(CHECKED, np.int32),
    }
    expected = self._cascade.predict([batch])['stages']
    found = run(crops)
    for name, outputs in expected.items():
      gap = np.abs(found[f'{name}/estimate'] - outputs['estimate'])
      if not gap.max() * side <= TOLERANCE:
        raise RuntimeError(
          f'The networks are wrong in ONNX Runtime: the landmarks of {name} '
          f'differ by {gap.max() * side:.2g} pixels from those of JAX.'
        )

  def compile_for(self, batch_size: int) -> None:
    """Runs a batch, for which ONNX Runtime takes memory.

    Args:
      batch_size: Images of the batch.
    """
    side = self.setup.pipeline.size
    self._run(np.zeros((batch_size, side, side, 3), np.uint8))

  def predict(self, batches: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Runs the networks on batches.

    Args:
      batches: Batches of `input_pipeline`, at least one of which has a valid
        example.

    Returns:
      The rows that `Cascade.predict` returns, without its counts.
    """
    rows = []
    for batch in batches:
      valid = batch['mask'] > 0
      chunk = {k: v[valid] for k, v in batch.items() if k != 'image'}
      chunk['stages'] = {}
      for name, value in self._run(batch['image']).items():
        stage, _, key = name.rpartition('/')
        if key == 'route':
          chunk['is_hard'] = value[valid] == 1
        else:
          chunk['stages'].setdefault(stage, {})[key] = value[valid]
      # The last of them is the final one.
      chunk['stages'] = {
        stage.name: chunk['stages'][stage.name] for stage in self.stages
      }
      rows.append(chunk)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *rows)

  def routes(self, rows: dict[str, Any]) -> list[tuple[str, ...]]:
    """Names the networks that each image went through.

    Args:
      rows: The result of `predict`.
    """
    return self._cascade.routes(rows)


def _key(
  config: ConfigDict, stages: list[stage_lib.Stage], setup: Setup
) -> str:
  """A digest of all that the converted networks depend on."""
  digest = hashlib.sha256()
  identity = Identity.of(config, stages)
  model = config.model.to_json_best_effort(sort_keys=True)
  heatmap = config.heatmap.to_json_best_effort(sort_keys=True)
  parts = (jax.__version__, export_formats.OPSET)
  parts += (identity, model, heatmap, setup.forward, setup.pipeline.size)
  digest.update(repr(parts).encode())
  package = pathlib.Path(__file__).parent.parent
  for source in SOURCES:
    path = package / source
    for file in sorted(path.rglob('*.py')) if path.is_dir() else [path]:
      digest.update(file.read_bytes())
  return digest.hexdigest()[:32]
