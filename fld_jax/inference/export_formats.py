"""The formats of exported files: StableHLO and ONNX."""

import calendar
import contextlib
import datetime
import functools
import importlib
import importlib.metadata
import logging
import os
import pathlib
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.export
import jax.extend.core
import numpy as np

from fld_jax.errors import InputError

PLATFORMS = ('cpu', 'cuda', 'tpu')  # platforms that StableHLO is lowered for
GUARANTEE_MONTHS = 6  # for which newer versions of JAX read an export
OPSET = 23  # version of ONNX's operator set
LIMIT = 2**31  # bytes of weights that a file of either format cannot hold

# A traced function of images, and a loaded model: (B, S, S, 3) uint8 crops ->
# name -> array.
Function = Callable[[jax.Array], dict[str, jax.Array]]
Loaded = Callable[[np.ndarray], dict[str, np.ndarray]]


def _to_stablehlo(
  function: Function, image: jax.ShapeDtypeStruct, path: pathlib.Path, size: int
) -> None:
  del size  # the limit was checked
  exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(image)
  path.write_bytes(exported.serialize())


def _load_stablehlo(path: pathlib.Path) -> Loaded:
  call = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
  return lambda crops: jax.device_get(call(crops))


def _stablehlo_facts(exported: datetime.date) -> dict[str, Any]:
  convention = jax.export.maximum_supported_calling_convention_version
  return {
    'platforms': list(PLATFORMS),
    'calling_convention': convention,
    'jax_guarantee_until': _months_later(
      exported, GUARANTEE_MONTHS
    ).isoformat(),
    'words': (
      'JAX guarantees that its versions read this file up to six months after '
      f'the release of jax {package_version("jax")}, which wrote it: until '
      'jax_guarantee_until at the latest. Export again before, or keep '
      '--format=onnx, whose operator sets stay readable.'
    ),
  }


def _months_later(date: datetime.date, months: int) -> datetime.date:
  """The same day of a later month, or that month's last day."""
  years, month = divmod(date.month - 1 + months, 12)
  year, month = date.year + years, month + 1
  last = calendar.monthrange(year, month)[1]
  return datetime.date(year, month, min(date.day, last))


def _to_onnx(
  function: Function, image: jax.ShapeDtypeStruct, path: pathlib.Path, size: int
) -> None:
  jax2onnx, onnx_ir, _ = _onnx_packages()
  # jax2onnx 0.17.1 asks for a class where JAX had it before 0.12, for functions
  # that are compiled by themselves, such as take_along_axis.
  if not hasattr(jax._src.core, 'ClosedJaxpr'):
    jax._src.core.ClosedJaxpr = jax.extend.core.ClosedJaxpr
  _skip_search_of_graph()
  names = sorted(jax.eval_shape(function, image))  # JAX's order of a dict
  # The converter logs warnings about its own doing.
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
      # A network that runs twice, for the mirror image too, would have its
      # weights twice.
      unify = onnx_ir.passes.common.DeduplicateInitializersPass(LIMIT)
      # Weights that are too large for the file go into a second one.
      data = f'{path.name}.data' if size >= LIMIT else None
      onnx_ir.save(unify(model).model, path, external_data=data)
  finally:
    logging.disable(level)


@functools.cache  # once a process
def _skip_search_of_graph() -> None:
  """Lets jax2onnx 0.17.1 trust that what a node has made is in the graph.

  For each operation it looks through all nodes so far, which takes minutes for
  the 6,000 operations of IDPR with branches. The written file is compared with
  JAX in any case. Other versions are left as they are.
  """
  if package_version('jax2onnx') != '0.17.1':
    return
  binding = importlib.import_module('jax2onnx.converter.output_binding')
  searched = binding._value_is_graph_connected
  binding._value_is_graph_connected = lambda context, value: (
    value.producer() is not None or searched(context, value)
  )


def _load_onnx(path: pathlib.Path) -> Loaded:
  runtime = onnxruntime('--format=onnx')
  options = runtime.SessionOptions()
  options.log_severity_level = 3  # errors
  # By default it takes all cores of the machine, be they this process's or not.
  options.intra_op_num_threads = len(os.sched_getaffinity(0))
  session = runtime.InferenceSession(
    path, options, providers=['CPUExecutionProvider']
  )
  names = [output.name for output in session.get_outputs()]
  return lambda crops: dict(
    zip(names, session.run(names, {'image': crops}), strict=True)
  )


def _onnx_facts(exported: datetime.date) -> dict[str, Any]:
  del exported
  _onnx_packages()  # names one that is missing
  return {'opset': OPSET, 'jax2onnx': package_version('jax2onnx')}


def onnxruntime(what: str) -> types.ModuleType:
  """The package onnxruntime.

  Args:
    what: What needs it, for the message.

  Raises:
    InputError: It is not installed.
  """
  with told_missing(what):
    import onnxruntime
  return onnxruntime


@contextlib.contextmanager
def told_missing(what: str) -> Iterator[None]:
  """Names a package that an import within the `with` does not find.

  Args:
    what: What needs it.

  Raises:
    InputError: A package is not installed.
  """
  try:
    yield
  except ImportError as error:
    raise InputError(
      f'{what} needs {error.name}, which is not installed: install '
      "fld_jax's extra onnx, pip install 'fld_jax[onnx]'."
    ) from error


def _onnx_packages():
  with told_missing('--format=onnx'):
    import jax2onnx
    import onnx_ir.passes.common
  return jax2onnx, onnx_ir, onnxruntime('--format=onnx')


# Format -> how to write a file, how to load it, and what the manifest says of
# the format, given the day of the export.
FORMATS = {
  'stablehlo': (_to_stablehlo, _load_stablehlo, _stablehlo_facts),
  'onnx': (_to_onnx, _load_onnx, _onnx_facts),
}


def package_version(package: str) -> str:
  """The version of an installed package.

  Args:
    package: The name of the package.
  """
  return importlib.metadata.version(package)
