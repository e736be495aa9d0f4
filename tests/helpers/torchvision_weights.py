"""Random weights under torchvision's names."""

import numpy as np

from fld_jax.models.vgg import VGG16

# torchvision's numbers of VGG-16's convolutions, without and with
# normalisation.
PLAIN = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
NORMED = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
NAMES = [
  *('conv1_1', 'conv1_2', 'conv2_1', 'conv2_2', 'conv3_1', 'conv3_2'),
  *('conv3_3', 'conv4_1', 'conv4_2', 'conv4_3', 'conv5_1', 'conv5_2'),
  'conv5_3',
]
SLIM = tuple((count, width // 16) for count, width in VGG16)
RNG = np.random.default_rng(0)


def draw(*shape):
  return RNG.standard_normal(shape).astype(np.float32)


def bn(channels):
  return {
    'weight': draw(channels),
    'bias': draw(channels),
    'running_mean': draw(channels),
    'running_var': draw(channels) ** 2,
    'num_batches_tracked': np.array(3),
  }


def vgg(batch_norm=False, side=1, hidden=32, slim=16):
  """torchvision's names and shapes of a VGG-16 of fewer channels."""
  found, before = {}, 3
  widths = [width // slim for count, width in VGG16 for _ in range(count)]
  for number, width in zip(
    NORMED if batch_norm else PLAIN, widths, strict=True
  ):
    found[f'features.{number}.weight'] = draw(width, before, 3, 3)
    found[f'features.{number}.bias'] = draw(width)
    if batch_norm:
      for name, value in bn(width).items():
        found[f'features.{number + 1}.{name}'] = value
    before = width
  for number, out, inner in (
    (0, hidden, before * side * side),
    (3, hidden, hidden),
    (6, 10, hidden),
  ):
    found[f'classifier.{number}.weight'] = draw(out, inner)
    found[f'classifier.{number}.bias'] = draw(out)
  return found


def resnet(blocks=(2, 2, 2, 2), bottleneck=False, width=8, prefix=''):
  """torchvision's names and shapes of a ResNet."""
  found = {'conv1.weight': draw(width, 3, 7, 7)}

  def add_bn(name, channels):
    found.update({f'{name}.{k}': v for k, v in bn(channels).items()})

  add_bn('bn1', width)
  before = width
  for i, count in enumerate(blocks, 1):
    inner = width * 2 ** (i - 1)
    out = inner * (4 if bottleneck else 1)
    for j in range(count):
      name = f'layer{i}.{j}'
      layers = (
        ((inner, before, 1), (inner, inner, 3), (out, inner, 1))
        if bottleneck
        else ((inner, before, 3), (out, inner, 3))
      )
      for k, (a, b, side) in enumerate(layers, 1):
        found[f'{name}.conv{k}.weight'] = draw(a, b, side, side)
        add_bn(f'{name}.bn{k}', a)
      if before != out or (i > 1 and j == 0):
        found[f'{name}.downsample.0.weight'] = draw(out, before, 1, 1)
        add_bn(f'{name}.downsample.1', out)
      before = out
  found |= {'fc.weight': draw(10, before), 'fc.bias': draw(10)}
  return {prefix + key: value for key, value in found.items()}
