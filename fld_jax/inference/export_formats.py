"""The formats of exported files: StableHLO and ONNX."""

import importlib.metadata
import logging
import pathlib
import warnings

import jax.export

from fld_jax.errors import InputError

PLATFORMS = ('cpu', 'cuda', 'tpu')  # that StableHLO is lowered for
OPSET = 23  # of ONNX
LIMIT = 2**31  # bytes of weights that a file of either format cannot hold


def _to_stablehlo(function, image, path: pathlib.Path, size: int) -> None:
  del size
  exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(image)
  path.write_bytes(exported.serialize())


def _load_stablehlo(path: pathlib.Path):
  call = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
  return lambda crops: jax.device_get(call(crops))


def _to_onnx(function, image, path: pathlib.Path, size: int) -> None:
  jax2onnx, onnx_ir, _ = _onnx_packages()
  names = sorted(jax.eval_shape(function, image))  # JAX's order of a dict
  # The converter warns of what it does itself.
  level = logging.root.manager.disable
  logging.disable(logging.WARNING)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      model = jax2onnx.to_onnx(
        function,
        [image],
        model_name='fld_jax',
        opset=OPSET,
        input_names=['image'],
        output_names=names,
        return_mode='ir',
      )
      # A network that is run twice, for the mirror image, has its weights once.
      unify = onnx_ir.passes.common.DeduplicateInitializersPass(LIMIT)
      # Beside it, if the weights are too large to be in it.
      data = f'{path.name}.data' if size >= LIMIT else None
      onnx_ir.save(unify(model).model, path, external_data=data)
  finally:
    logging.disable(level)


def _load_onnx(path: pathlib.Path):
  onnxruntime = _onnx_packages()[-1]
  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3  # errors
  session = onnxruntime.InferenceSession(
    path, options, providers=['CPUExecutionProvider']
  )
  names = [output.name for output in session.get_outputs()]
  return lambda crops: dict(
    zip(names, session.run(names, {'image': crops}), strict=True)
  )


def _onnx_versions() -> dict:
  _onnx_packages()  # has words for one that is missing
  return {'opset': OPSET, 'jax2onnx': package_version('jax2onnx')}


def _onnx_packages():
  try:
    import jax2onnx
    import onnx_ir.passes.common
    import onnxruntime
  except ImportError as error:
    raise InputError(
      f'--format=onnx needs {error.name}, which is not installed: install '
      "fld_jax's extra onnx, pip install 'fld_jax[onnx]'."
    ) from error
  return jax2onnx, onnx_ir, onnxruntime


# Format -> how to write a file, how to load it, the versions it is of.
FORMATS = {
  'stablehlo': (
    _to_stablehlo,
    _load_stablehlo,
    lambda: {'platforms': list(PLATFORMS)},
  ),
  'onnx': (
    _to_onnx,
    _load_onnx,
    _onnx_versions,
  ),
}


def package_version(package: str) -> str:
  """The version of an installed package."""
  return importlib.metadata.version(package)
