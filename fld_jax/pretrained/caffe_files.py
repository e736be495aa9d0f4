"""Reads Caffe's networks (.prototxt) and weights (.caffemodel).

Both are messages of caffe.proto, as text and in binary form. Only the fields
that matter here are declared, for current layers and for the older V1 layers.
The checks against a certain network are in `pretrained.dfa_release`.
"""

import dataclasses
import pathlib

import numpy as np
from google.protobuf import (
  descriptor_pb2,
  descriptor_pool,
  message,
  message_factory,
  text_format,
)

from fld_jax.errors import InputError, printable

# Message -> field -> (number, type, default); '*' before the type: repeated.
# A blob's numbers are packed, so the same bytes are read as one string of them.
_MESSAGES = {
  'BlobShape': {'dim': (1, '*int64')},
  'BlobProto': {
    'num': (1, 'int32'),
    'channels': (2, 'int32'),
    'height': (3, 'int32'),
    'width': (4, 'int32'),
    'data': (5, '*bytes'),
    'shape': (7, 'BlobShape'),
    'double_data': (8, '*bytes'),
  },
  'ConcatParameter': {
    'concat_dim': (1, 'uint32', '1'),
    'axis': (2, 'int32', '1'),
  },
  'ConvolutionParameter': {
    'num_output': (1, 'uint32'),
    'bias_term': (2, 'bool', 'true'),
    'pad': (3, '*uint32'),
    'kernel_size': (4, '*uint32'),
    'group': (5, 'uint32', '1'),
    'stride': (6, '*uint32'),
    'pad_h': (9, 'uint32', '0'),
    'pad_w': (10, 'uint32', '0'),
    'kernel_h': (11, 'uint32'),
    'kernel_w': (12, 'uint32'),
    'stride_h': (13, 'uint32'),
    'stride_w': (14, 'uint32'),
    'axis': (16, 'int32', '1'),
    'dilation': (18, '*uint32'),
  },
  'InnerProductParameter': {
    'num_output': (1, 'uint32'),
    'bias_term': (2, 'bool', 'true'),
    'axis': (5, 'int32', '1'),
    'transpose': (6, 'bool', 'false'),
  },
  'InputParameter': {'shape': (1, '*BlobShape')},
  'PoolingParameter': {
    'pool': (1, 'PoolMethod'),
    'kernel_size': (2, 'uint32'),
    'stride': (3, 'uint32', '1'),
    'pad': (4, 'uint32', '0'),
    'kernel_h': (5, 'uint32'),
    'kernel_w': (6, 'uint32'),
    'stride_h': (7, 'uint32'),
    'stride_w': (8, 'uint32'),
    'pad_h': (9, 'uint32', '0'),
    'pad_w': (10, 'uint32', '0'),
    'global_pooling': (12, 'bool', 'false'),
  },
  'ReLUParameter': {'negative_slope': (1, 'float', '0')},
  'SoftmaxParameter': {'axis': (2, 'int32', '1')},
  'LayerParameter': {
    'name': (1, 'string'),
    'type': (2, 'string'),
    'bottom': (3, '*string'),
    'top': (4, '*string'),
    'blobs': (7, '*BlobProto'),
    'concat_param': (104, 'ConcatParameter'),
    'convolution_param': (106, 'ConvolutionParameter'),
    'inner_product_param': (117, 'InnerProductParameter'),
    'pooling_param': (121, 'PoolingParameter'),
    'relu_param': (123, 'ReLUParameter'),
    'softmax_param': (125, 'SoftmaxParameter'),
    'input_param': (143, 'InputParameter'),
  },
  'V1LayerParameter': {
    'bottom': (2, '*string'),
    'top': (3, '*string'),
    'name': (4, 'string'),
    'type': (5, 'LayerType'),
    'blobs': (6, '*BlobProto'),
    'concat_param': (9, 'ConcatParameter'),
    'convolution_param': (10, 'ConvolutionParameter'),
    'inner_product_param': (17, 'InnerProductParameter'),
    'pooling_param': (19, 'PoolingParameter'),
    'relu_param': (30, 'ReLUParameter'),
    'softmax_param': (39, 'SoftmaxParameter'),
  },
  'NetParameter': {
    'name': (1, 'string'),
    'layers': (2, '*V1LayerParameter'),
    'input': (3, '*string'),
    'input_dim': (4, '*int32'),
    'input_shape': (8, '*BlobShape'),
    'layer': (100, '*LayerParameter'),
  },
}
_ENUMS = {
  'PoolMethod': {'MAX': 0, 'AVE': 1, 'STOCHASTIC': 2},
  'LayerType': {
    'NONE': 0,
    'CONCAT': 3,
    'CONVOLUTION': 4,
    'DROPOUT': 6,
    'INNER_PRODUCT': 14,
    'POOLING': 17,
    'RELU': 18,
    'SOFTMAX': 20,
  },
}
_V1_TYPES = {
  3: 'Concat',
  4: 'Convolution',
  6: 'Dropout',
  14: 'InnerProduct',
  17: 'Pooling',
  18: 'ReLU',
  20: 'Softmax',
}


@dataclasses.dataclass
class Net:
  """What a network computes.

  Layers without weights are part of the description of the layer that takes
  their output. Dropout, which does nothing at test time, is left out. Whether
  a layer works in place makes no difference.

  Attributes:
    inputs: Shape of each input, by its name.
    layers: Description of each layer with weights, by the layer's name, for
      example 'Convolution 64, 3x3, pad 1 of relu(conv1_1)'.
    widths: Number of outputs of each layer with weights, by the layer's name.
    outputs: Description of each blob that no layer takes, by the blob's name,
      for example 'concat(places, states)'.
  """

  inputs: dict[str, tuple[int, ...]]
  layers: dict[str, str]
  widths: dict[str, int]
  outputs: dict[str, str]


def read_net(path: pathlib.Path) -> Net:
  """Reads a .prototxt.

  Args:
    path: The path of the .prototxt.

  Returns:
    What the network computes.

  Raises:
    InputError: The file cannot be read or is not a .prototxt, or a layer has an
      unknown type or takes a blob that no layer before it makes.
  """
  net = _NetParameter()
  try:
    text_format.Parse(
      _bytes(path).decode(),
      net,
      allow_unknown_field=True,
      max_recursion_depth=100,
    )
  except (text_format.ParseError, UnicodeDecodeError) as error:
    raise InputError(
      f'{path}: is no network of Caffe as text ({printable(str(error))})'
    ) from None
  layers = [(layer.type, layer) for layer in net.layer]
  layers += [(_V1_TYPES.get(layer.type, ''), layer) for layer in net.layers]
  found = Net(_legacy_inputs(path, net), {}, {}, {})
  blobs, taken = {name: name for name in found.inputs}, set()
  for kind, layer in layers:
    place = f'{path}, layer {printable(layer.name)}'
    if kind == 'Input':
      shapes = [tuple(shape.dim) for shape in layer.input_param.shape]
      if len(shapes) != len(layer.top):
        raise InputError(
          f'{place}: has {len(shapes)} shapes, must have one for each of '
          f'{len(layer.top)} tops'
        )
      found.inputs |= dict(zip(layer.top, shapes, strict=True))
      blobs |= {name: name for name in layer.top}
      continue
    for name in layer.bottom:
      if name not in blobs:
        raise InputError(
          f"{place}: takes '{printable(name)}', which no layer before it makes"
        )
    if len(layer.top) != 1 or not layer.bottom:
      raise InputError(
        f'{place}: has {len(layer.bottom)} bottoms and {len(layer.top)} tops, '
        'must have a bottom and one top'
      )
    taken |= {*layer.bottom} - {*layer.top}
    taken -= {*layer.top}
    inputs = [blobs[name] for name in layer.bottom]
    what = _describe(place, kind, layer, inputs)
    if kind in _WITH_WEIGHTS:
      if layer.name in found.layers:
        raise InputError(f'{place}: stands twice, must be unique')
      width = _WITH_WEIGHTS[kind](layer).num_output
      if not width:
        raise InputError(f'{place}, num_output: is missing, must be above 0')
      found.layers[layer.name], found.widths[layer.name] = what, width
      what = layer.name
    blobs[layer.top[0]] = what
  found.outputs = {k: v for k, v in blobs.items() if k not in taken}
  return found


_WITH_WEIGHTS = {
  'Convolution': lambda layer: layer.convolution_param,
  'InnerProduct': lambda layer: layer.inner_product_param,
}


def _legacy_inputs(
  path: pathlib.Path, net: message.Message
) -> dict[str, tuple[int, ...]]:
  """Shapes of the inputs that are fields of the network instead of layers."""
  shapes = [tuple(shape.dim) for shape in net.input_shape]
  dims = net.input_dim
  shapes += [tuple(dims[i : i + 4]) for i in range(0, len(dims), 4)]
  if len(shapes) != len(net.input):
    raise InputError(
      f'{path}, input: has {len(shapes)} shapes for {len(net.input)} inputs, '
      'must have one for each'
    )
  return dict(zip(net.input, shapes, strict=True))


def _describe(
  place: str, kind: str, layer: message.Message, inputs: list[str]
) -> str:
  """Describes a layer, with each setting that is not Caffe's default."""
  of = ', '.join(inputs)
  if kind == 'Dropout':
    return of
  if kind == 'ReLU':
    slope = layer.relu_param.negative_slope
    return f'relu({of})' if not slope else f'relu[slope {slope:g}]({of})'
  if kind == 'Softmax':
    axis = layer.softmax_param.axis
    return f'softmax({of})' if axis == 1 else f'softmax[axis {axis}]({of})'
  if kind == 'Concat':
    options = layer.concat_param
    axis = options.axis if options.axis != 1 else options.concat_dim
    return f'concat({of})' if axis == 1 else f'concat[axis {axis}]({of})'
  if kind == 'Pooling':
    return f'{_pooling(layer.pooling_param)}({of})'
  if kind == 'InnerProduct':
    options = layer.inner_product_param
    what = [f'InnerProduct {options.num_output}']
    what += ['transposed'] if options.transpose else []
  elif kind == 'Convolution':
    options = layer.convolution_param
    what = [f'Convolution {options.num_output}', *_window(options)]
    what += [f'group {options.group}'] if options.group != 1 else []
  else:
    types = 'Input, ' + ', '.join(sorted(_V1_TYPES.values()))
    raise InputError(
      f"{place}: is of the type '{printable(kind or str(layer.type))}', valid "
      f'are {types}'
    )
  what += [] if options.bias_term else ['without bias']
  what += [f'axis {options.axis}'] if options.axis != 1 else []
  return f'{", ".join(what)} of {of}'


def _window(options: message.Message) -> list[str]:
  """Describes a convolution's kernel, padding, stride and dilation."""
  sizes = {'kernel': 'x'.join(map(str, _pair(options, 'kernel', 0)))}
  for name, usual in (('pad', 0), ('stride', 1), ('dilation', 1)):
    pair = _pair(options, name, usual)
    if pair != (usual, usual):
      size = str(pair[0]) if pair[0] == pair[1] else 'x'.join(map(str, pair))
      sizes[name] = f'{name} {size}'
  return list(sizes.values())


def _pair(options: message.Message, name: str, usual: int) -> tuple[int, ...]:
  """Returns the vertical and the horizontal value of a setting.

  Args:
    options: The parameters of a convolution.
    name: The setting: 'kernel', 'pad', 'stride' or 'dilation'.
    usual: The value if the setting is missing.
  """
  if name != 'dilation' and any(
    options.HasField(f'{name}_{axis}') for axis in 'hw'
  ):
    return getattr(options, f'{name}_h'), getattr(options, f'{name}_w')
  given = getattr(options, 'kernel_size' if name == 'kernel' else name)
  given = tuple(given) or (usual,)
  return given * 2 if len(given) == 1 else given


def _pooling(options: message.Message) -> str:
  """Describes a pooling layer."""
  method = {0: 'max', 1: 'average', 2: 'stochastic'}[options.pool]
  if options.global_pooling:
    return f'global_{method}_pool'
  sizes = []
  for name in ('kernel', 'stride', 'pad'):
    plain = getattr(options, 'kernel_size' if name == 'kernel' else name)
    pair = [plain, plain]
    if any(options.HasField(f'{name}_{axis}') for axis in 'hw'):
      pair = [getattr(options, f'{name}_{axis}') for axis in 'hw']
    sizes.append('x'.join(map(str, pair)))
  kernel, stride, pad = sizes
  padded = '' if pad == '0x0' else f' pad {pad}'
  return f'{method}_pool[{kernel} stride {stride}{padded}]'


def read_weights(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads a .caffemodel.

  Args:
    path: The path of the .caffemodel.

  Returns:
    Float32 arrays in the file's own shapes, by 'LAYER[i]' for blob i of a
    layer. In old files every shape has four axes, and the first may be 1.

  Raises:
    InputError: The file cannot be read, is not a .caffemodel or is truncated,
      or a blob's number of values does not fit its shape.
  """
  net = _NetParameter()
  content = _bytes(path)
  try:
    net.ParseFromString(content)
  except message.DecodeError:
    raise InputError(
      f'{path}: is no whole .caffemodel: it is cut off, or of another kind '
      f'(it has {len(content)} bytes)'
    ) from None
  arrays = {}
  for layer in [*net.layer, *net.layers]:
    for i, blob in enumerate(layer.blobs):
      key = f'{layer.name}[{i}]'
      if key in arrays:
        raise InputError(
          f'{path}, layer {printable(layer.name)}: stands twice, must be unique'
        )
      arrays[key] = _array(f'{path}, {printable(key)}', blob)
  if not arrays:
    raise InputError(f'{path}: holds no weights, so it is no .caffemodel')
  return arrays


def _array(place: str, blob: message.Message) -> np.ndarray:
  """Returns a blob's values, float32; place names the blob in messages."""
  shape = tuple(blob.shape.dim)
  if not blob.HasField('shape'):
    shape = (blob.num, blob.channels, blob.height, blob.width)
  data, item = (
    (blob.double_data, '<f8') if blob.double_data else (blob.data, '<f4')
  )
  joined = data[0] if len(data) == 1 else b''.join(data)
  # Python's integers: a shape of a damaged file can be of any size.
  count = int(np.prod([int(n) for n in shape], dtype=object))
  if min(shape, default=1) < 1 or len(joined) != count * int(item[2]):
    raise InputError(
      f'{place}: has {len(joined)} bytes of numbers, must have '
      f'{count * int(item[2])} for its shape {shape}'
    )
  return np.frombuffer(joined, item).reshape(shape).astype('f4', copy=False)


def _bytes(path: pathlib.Path) -> bytes:
  """Reads a file; InputError if that is not possible."""
  try:
    return path.read_bytes()
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror})') from None


def _message_class() -> type[message.Message]:
  """Builds the class of NetParameter from `_MESSAGES` and `_ENUMS`."""
  field = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(
    name='fld_jax/caffe.proto', package='fld_jax.caffe', syntax='proto2'
  )
  for name, values in _ENUMS.items():
    enum = file.enum_type.add(name=name)
    for value, number in values.items():
      enum.value.add(name=value, number=number)
  for name, fields in _MESSAGES.items():
    holder = file.message_type.add(name=name)
    for field_name, (number, kind, *default) in fields.items():
      label = 'LABEL_REPEATED' if kind[0] == '*' else 'LABEL_OPTIONAL'
      kind = kind.removeprefix('*')
      added = holder.field.add(
        name=field_name, number=number, label=getattr(field, label)
      )
      if default:
        added.default_value = default[0]
      if kind in _MESSAGES or kind in _ENUMS:
        added.type_name = f'.fld_jax.caffe.{kind}'
        is_enum = kind in _ENUMS
        added.type = field.TYPE_ENUM if is_enum else field.TYPE_MESSAGE
      else:
        added.type = getattr(field, f'TYPE_{kind.upper()}')
  pool = descriptor_pool.DescriptorPool()
  pool.AddSerializedFile(file.SerializeToString())
  full_name = 'fld_jax.caffe.NetParameter'
  return message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))


_NetParameter = _message_class()
