"""Writes folders like those of DFA's release, with random weights.

Wire format and networks are written down here by hand, after caffe.proto and
the published prototxts, so that they share nothing with what reads them.
"""

import struct

import numpy as np

VGG = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
# Clothes type -> landmarks, and the label layers of stages 1, 2, easy, hard.
TYPES = {'upper': 6, 'lower': 4, 'full': 8}
LABELS = {
  'upper': (
    ('fc8_softlabel', 20),
    ('fc8_hardlabel', 20),
    ('fc8_softlabel_stage3', 20),
    ('fc8_softlabel_stage3', 20),
  ),
  'lower': (
    ('fc8_softlabel', 20),
    ('fc8_softlabel', 10),
    ('fc8_softlabel_stage3', 64),
    ('fc8_softlabel_stage3', 64),
  ),
  'full': (
    ('fc8_softlabel', 20),
    ('fc8_softlabel', 10),
    ('fc8_softlabel_stage3', 256),
    ('fc8_softlabel_stage3', 128),
  ),
}
FILES = (
  'stage1.caffemodel',
  'stage2.caffemodel',
  'stage3_easy.caffemodel',
  'stage3_hard.caffemodel',
)


def prototxt(n, cascade, slim=1, hidden=4096, size=224, labels=True):
  """The text of stage1.prototxt or cascade.prototxt."""
  layers, bottom = [], 'data'

  def add(name, kind, bottoms, top, options=''):
    lines = ''.join(f'  bottom: "{b}"\n' for b in bottoms)
    layers.append(
      f'layer {{\n{lines}  top: "{top}"\n  name: "{name}"\n'
      f'  type: "{kind}"\n{options}}}\n'
    )

  def inner(name, bottom, width):
    options = f'  inner_product_param {{\n    num_output:{width}\n  }}\n'
    add(name, 'InnerProduct', [bottom], name, options)

  shape = f'dim: 1 dim: 3 dim: {size} dim: {size}'
  add(
    'data', 'Input', [], 'data', f'  input_param {{ shape: {{ {shape} }} }}\n'
  )
  if cascade:
    shape = f'dim: 1 dim: 1 dim: 1 dim: {2 * n}'
    options = f'  input_param {{ shape: {{ {shape} }} }}\n'
    add('last_stage_data', 'Input', [], 'prediction', options)
  for i, (count, channels) in enumerate(VGG, 1):
    for j in range(1, count + 1):
      name = f'conv{i}_{j}'
      options = (
        f'  convolution_param {{\n    num_output: {channels // slim}\n'
        '    pad: 1\n    kernel_size: 3\n  }\n'
      )
      add(name, 'Convolution', [bottom], name, options)
      add(f'relu{i}_{j}', 'ReLU', [name], name)
      bottom = name
    options = '    pool: MAX\n    kernel_size: 2\n    stride: 2\n'
    options = f'  pooling_param {{\n{options}  }}\n'
    add(f'pool{i}', 'Pooling', [bottom], f'pool{i}', options)
    bottom = f'pool{i}'
  inner('fc6', bottom, hidden)
  bottom, fc7 = 'fc6', 'fc7'
  if cascade:
    inner('fc_pre', 'prediction', hidden // 8)
    add('fc6_pre', 'Concat', ['fc6', 'fc_pre'], 'fc6_pre')
    bottom, fc7 = 'fc6_pre', 'fc7_pre'
  half = '  dropout_param {\n    dropout_ratio: 0.5\n  }\n'
  add('relu6', 'ReLU', [bottom], bottom)
  add('drop6', 'Dropout', [bottom], bottom, half)
  inner(fc7, bottom, hidden)
  add('relu7', 'ReLU', [fc7], fc7)
  add('drop7', 'Dropout', [fc7], fc7, half)
  if cascade and labels:
    inner('fc8_hardlabel', fc7, 20)
  elif labels:
    inner('fc8_softlabel', fc7, 20)
    add('softmax', 'Softmax', ['fc8_softlabel'], 'fc8_softlabel')
  inner('fc8_landmarks', fc7, 2 * n)
  heads = ['fc8_landmarks']
  for i in range(1, n + 1):
    inner(f'fc8_visibility_{i}', fc7, 3)
    heads.append(f'fc8_visibility_{i}')
  add('fc8', 'Concat', heads, 'fc8')
  return f'name: "DFA_{n}"\n# Processing Layers\n' + '\n'.join(layers)


def shapes(n, cascade, label, slim=1, hidden=4096, size=224):
  """(layer, weights' shape) of each layer of a .caffemodel, in order."""
  found, before = [], 3
  for i, (count, channels) in enumerate(VGG, 1):
    for j in range(1, count + 1):
      found.append((f'conv{i}_{j}', (channels // slim, before, 3, 3)))
      before = channels // slim
  found.append(('fc6', (hidden, before * (size // 32) ** 2)))
  if cascade:
    found.append(('fc_pre', (hidden // 8, 2 * n)))
    found.append(('fc7_pre', (hidden, hidden + hidden // 8)))
  else:
    found.append(('fc7', (hidden, hidden)))
  found.append((label[0], (label[1], hidden)))
  found.append(('fc8_landmarks', (2 * n, hidden)))
  found += [(f'fc8_visibility_{i}', (3, hidden)) for i in range(1, n + 1)]
  return found


def random_weights(layers, seed):
  """[(layer, weights, bias)], of a scale that keeps signals alive."""
  rng, found = np.random.default_rng(seed), []
  for name, shape in layers:
    fan_in = int(np.prod(shape[1:]))
    scale = np.float32(np.sqrt(2 / fan_in))
    if name == 'conv1_1':  # images of some 60 units about their mean
      scale = scale / 60
    elif name.startswith('fc8'):
      scale = np.float32(0.1 / np.sqrt(fan_in))
    weights = rng.standard_normal(shape, np.float32)
    weights *= scale
    bias = rng.standard_normal(shape[0], np.float32) * np.float32(0.1)
    found.append((name, weights, bias))
  return found


def varint(number):
  out = b''
  while number > 127:
    out, number = out + bytes([number & 127 | 128]), number >> 7
  return out + bytes([number])


def field(number, content):
  """A length-delimited field."""
  return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array, legacy=False):
  """A BlobProto."""
  if legacy:
    dims = (1,) * (4 - array.ndim) + array.shape
    head = b''.join(varint(i << 3) + varint(d) for i, d in enumerate(dims, 1))
  else:
    dims = b''.join(map(varint, array.shape))
    head = field(7, field(1, dims))
  return head + field(5, array.astype('<f4').tobytes())


def caffemodel(layers, old=False):
  """The bytes of a NetParameter, of new layers or of V1 ones."""
  net = field(1, b'net')
  # What training nets have beside weights.
  for name, kind in (('data', b'Data'), ('loss', b'EuclideanLoss')):
    if old:
      net += field(2, field(4, name.encode()) + varint(5 << 3) + varint(5))
    else:
      net += field(100, field(1, name.encode()) + field(2, kind))
  for name, *arrays in layers:
    blobs = [blob(array, legacy=old) for array in arrays]
    conv = name.startswith('conv')
    if old:
      kind = varint(5 << 3) + varint(4 if conv else 14)
      body = field(4, name.encode()) + kind
      net += field(2, body + b''.join(field(6, b) for b in blobs))
    else:
      kind = b'Convolution' if conv else b'InnerProduct'
      body = field(1, name.encode()) + field(2, kind)
      multiplier = varint(3 << 3 | 5) + struct.pack('<f', 1.0)
      body += field(6, multiplier)
      net += field(100, body + b''.join(field(7, b) for b in blobs))
  return net


def write(folder, kind, *, seed=0, old=False, **widths):
  """Writes a folder of the release; widths: `slim`, `hidden`, `size`."""
  folder.mkdir(parents=True)
  n = TYPES[kind]
  for name, cascade in (('stage1', False), ('cascade', True)):
    text = prototxt(n, cascade, **widths)
    (folder / f'{name}.prototxt').write_text(text)
  for i, name in enumerate(FILES):
    layers = shapes(n, i > 0, LABELS[kind][i], **widths)
    weights = random_weights(layers, seed + i)
    (folder / name).write_bytes(caffemodel(weights, old))
  return folder
