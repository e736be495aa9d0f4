"""Files of lower precision, of a network that is made by hand."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fld_jax.inference import low_precision

SIDE, CHANNELS, POINTS = 16, 8, 3


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """image -> (x - 128) / 64 -> two convolutions -> a product -> pixels."""
  rng = np.random.default_rng(0)
  weights = {
    'first': rng.normal(0, 0.3, (CHANNELS, 3, 3, 3)),
    'second': rng.normal(0, 0.2, (CHANNELS, CHANNELS, 3, 3)),
    'flat': np.array([0, -1]),
    'last': rng.normal(0, 0.02, (CHANNELS * SIDE**2, 2 * POINTS)),
    'shape': np.array([0, POINTS, 2]),
    'mean': np.array(128),
    'std': np.array(64),
    'side': np.array(224),
  }
  whole = {'flat', 'shape'}
  initial = [
    numpy_helper.from_array(
      value.astype(np.int64 if name in whole else np.float32), name
    )
    for name, value in weights.items()
  ]
  make = lambda kind, inputs, output, **options: helper.make_node(
    kind, inputs.split(), [output], name=output, **options
  )
  nodes = [
    make('Cast', 'image', 'a', to=TensorProto.FLOAT),
    make('Sub', 'a mean', 'b'),
    make('Div', 'b std', 'c'),
    make('Transpose', 'c', 'd', perm=[0, 3, 1, 2]),
    make('Conv', 'd first', 'e', pads=[1] * 4),
    make('Relu', 'e', 'f'),
    make('Conv', 'f second', 'g', pads=[1] * 4),
    make('Relu', 'g', 'h'),
    make('Reshape', 'h flat', 'i'),
    make('MatMul', 'i last', 'j'),
    make('Reshape', 'j shape', 'k'),
    make('Mul', 'k side', 'landmarks'),
  ]
  graph = helper.make_graph(
    nodes,
    'made_by_hand',
    [
      helper.make_tensor_value_info(
        'image', TensorProto.UINT8, ['B', 16, 16, 3]
      )
    ],
    [
      helper.make_tensor_value_info('landmarks', TensorProto.FLOAT, ['B', 3, 2])
    ],
    initial,
  )
  model = helper.make_model(
    graph, opset_imports=[helper.make_opsetid('', 21)], ir_version=10
  )
  onnx.checker.check_model(model)
  path = tmp_path_factory.mktemp('onnx') / 'model.onnx'
  onnx.save(model, path)
  return path


@pytest.fixture(scope='module')
def crops():
  return np.random.default_rng(1).integers(0, 256, (20, 16, 16, 3), np.uint8)


def outputs(path, crops):
  session = onnxruntime.InferenceSession(path)
  return session.run(['landmarks'], {'image': crops})[0]


def weights_of(path):
  graph = onnx.load(path).graph
  return [numpy_helper.to_array(value) for value in graph.initializer]


def test_float16(source, crops, tmp_path):
  low_precision.to_float16(source, tmp_path / 'half.onnx', crops)
  expected, found = (
    outputs(path, crops) for path in (source, tmp_path / 'half.onnx')
  )
  assert found.dtype == np.float32
  gap = np.abs(found - expected).max()
  assert 0 < gap < 2e-3 * np.abs(expected).max()
  large = [w for w in weights_of(tmp_path / 'half.onnx') if w.size > 100]
  assert [w.dtype for w in large] == [np.float16] * 3
  # What comes after the last product is of float32: 224 is no float16 there.
  single = [w for w in weights_of(tmp_path / 'half.onnx') if not w.ndim]
  assert {float(w) for w in single if w.dtype == np.float32} == {224}


def test_int8(source, crops, tmp_path):
  low_precision.to_int8(source, tmp_path / 'int8.onnx', crops[:10])
  new = crops[10:]
  expected, found = (
    outputs(path, new) for path in (source, tmp_path / 'int8.onnx')
  )
  assert found.dtype == np.float32
  gap = np.sqrt(np.mean((found - expected) ** 2))
  assert 0 < gap < 0.05 * expected.std()
  large = [w for w in weights_of(tmp_path / 'int8.onnx') if w.size > 100]
  # The last product, which gives the landmarks, is left as it is.
  assert sorted(w.dtype.name for w in large) == ['float32', 'int8', 'int8']
  one = outputs(tmp_path / 'int8.onnx', new[:1])  # any number of crops
  np.testing.assert_allclose(one, found[:1], atol=1e-3)
