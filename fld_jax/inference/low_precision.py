"""Exported ONNX files in float16 and int8.

Beside the float32 file, whose outputs are those of the run, they are smaller
and on some hardware faster, and their landmarks are a little off: by how much
the manifest says, and `benchmarks/export.py` what it costs in NE.

Landmarks are read in float32 from what the last convolution or product gives:
in float16 a coordinate of 224 pixels would be rounded to an eighth.
"""

import logging
import pathlib
import tempfile

import numpy as np

from fld_jax.inference.export_formats import told_missing

# The operators of which a network's time is made.
HEAVY = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
BATCH = 8  # crops that the ranges are read off at a time


def to_float16(
  source: pathlib.Path, target: pathlib.Path, crops: np.ndarray
) -> None:
  """Writes a file that computes in float16.

  Args:
    source: The float32 file.
    target: The file to write.
    crops: Not used.
  """
  del crops
  with told_missing('--precisions=float16'):
    import onnx
    from onnxruntime.transformers import float16
  model = onnx.load(source)
  halved = float16.convert_float_to_float16(
    model, keep_io_types=True, node_block_list=_split(model.graph)[1]
  )
  onnx.save(halved, target)


def _split(graph) -> tuple[list[str], list[str]]:
  """Names of nodes: the last heavy ones, and those that come after them."""
  last, after, feeds_heavy = [], [], set()
  for node in reversed(graph.node):
    feeds = bool(feeds_heavy & set(node.output))
    if node.op_type in HEAVY and not feeds:
      last.append(node.name)
    if node.op_type in HEAVY or feeds:
      feeds_heavy.update(node.input)  # the values that a heavy node needs
    else:
      after.append(node.name)
  return last, after


def to_int8(
  source: pathlib.Path, target: pathlib.Path, crops: np.ndarray
) -> None:
  """Writes a file with the heavy operators in int8, by static quantisation.

  Weights have 7 bits and a scale a channel: with 8, CPUs without VNNI clip the
  sums of products. The ranges of what flows between are those of the crops. The
  last heavy operators, which give the landmarks, stay as they are.

  Args:
    source: The float32 file.
    target: The file to write.
    crops: (n, S, S, 3) uint8 crops that the network was not trained on.
  """
  with told_missing('--precisions=int8'):
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

  class Reader(quantization.CalibrationDataReader):
    """The crops, in batches."""

    def __init__(self):
      starts = range(0, len(crops), BATCH)
      self._batches = iter([{'image': crops[i : i + BATCH]} for i in starts])

    def get_next(self) -> dict | None:
      return next(self._batches, None)

  level = logging.root.manager.disable
  logging.disable(logging.WARNING)  # it recommends what is done here
  try:
    with tempfile.TemporaryDirectory() as folder:
      ready = pathlib.Path(folder) / 'ready.onnx'
      shape_inference.quant_pre_process(source, ready, skip_symbolic_shape=True)
      quantization.quantize_static(
        ready,
        target,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=list(HEAVY),
        # ONNX Runtime 1.32 mixes the two types up around a Reshape if what
        # flows is of QInt8.
        activation_type=quantization.QuantType.QUInt8,
        nodes_to_exclude=_split(onnx.load(ready).graph)[0],
        per_channel=True,
        reduce_range=True,
      )
  finally:
    logging.disable(level)


# Precision -> how to write its file, of the float32 file and held-out crops.
PRECISIONS = {'float16': to_float16, 'int8': to_int8}
