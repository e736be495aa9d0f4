"""The networks in PyTorch, as an oracle, and their weights as ours.

Names are torchvision's, so that its ResNets load into these and back.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from fld_jax.runtime.parallel import AXIS

LAYOUTS = {18: ((2, 2, 2, 2), False), 50: ((3, 4, 6, 3), True)}


class Block(nn.Module):
  def __init__(self, channels_in, channels, stride, bottleneck):
    super().__init__()
    out = 4 * channels if bottleneck else channels
    layers = (
      ((channels, 1, 1), (channels, 3, stride), (out, 1, 1))
      if bottleneck
      else ((channels, 3, stride), (channels, 3, 1))
    )
    self.count, before = len(layers), channels_in
    for i, (c, side, s) in enumerate(layers, 1):
      conv = nn.Conv2d(before, c, side, s, side // 2, bias=False)
      setattr(self, f'conv{i}', conv)
      setattr(self, f'bn{i}', nn.BatchNorm2d(c))
      before = c
    if stride > 1 or channels_in != out:
      self.downsample = nn.Sequential(
        nn.Conv2d(channels_in, out, 1, stride, bias=False), nn.BatchNorm2d(out)
      )
    else:
      self.downsample = nn.Identity()

  def forward(self, x):
    y = x
    for i in range(1, self.count + 1):
      y = getattr(self, f'bn{i}')(getattr(self, f'conv{i}')(y))
      if i < self.count:
        y = torch.relu(y)
    return torch.relu(y + self.downsample(x))


class ResNet(nn.Module):
  def __init__(self, depth, width=64):
    super().__init__()
    blocks, bottleneck = LAYOUTS[depth]
    self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.pool = nn.MaxPool2d(3, 2, 1)
    before = width
    for i, count in enumerate(blocks):
      channels, layer = width * 2**i, []
      for j in range(count):
        stride = 2 if i and not j else 1
        layer.append(Block(before, channels, stride, bottleneck))
        before = channels * (4 if bottleneck else 1)
      setattr(self, f'layer{i + 1}', nn.Sequential(*layer))
    self.channels = before

  def forward(self, x):
    x = self.pool(torch.relu(self.bn1(self.conv1(x))))
    maps = {}
    for i in range(1, 5):
      x = getattr(self, f'layer{i}')(x)
      maps[f'c{i + 1}'] = x
    return maps


class SimpleBaselines(nn.Module):
  def __init__(self, depth, width=64, channels=256, num_landmarks=8):
    super().__init__()
    self.resnet = ResNet(depth, width)
    before = self.resnet.channels
    for i in range(1, 4):
      deconv = nn.ConvTranspose2d(before, channels, 4, 2, 1, bias=False)
      setattr(self, f'deconv{i}', deconv)
      setattr(self, f'deconv_bn{i}', nn.BatchNorm2d(channels))
      before = channels
    self.heatmaps = nn.Conv2d(channels, num_landmarks, 1)

  def forward(self, x):
    x = self.resnet(x)['c5']
    for i in range(1, 4):
      x = getattr(self, f'deconv{i}')(x)
      x = torch.relu(getattr(self, f'deconv_bn{i}')(x))
    return {'heatmaps': self.heatmaps(x)}


class Same(nn.Conv2d):
  """TensorFlow's padding: what is odd stands on the right and below."""

  def forward(self, x):
    (side, _), (stride, _) = self.kernel_size, self.stride
    pads = []
    for length in (x.shape[-1], x.shape[-2]):
      total = max((-(-length // stride) - 1) * stride + side - length, 0)
      pads += [total // 2, total - total // 2]
    return super().forward(nn.functional.pad(x, pads) if any(pads) else x)


class InvertedResidual(nn.Module):
  def __init__(self, before, side, stride, expansion, channels):
    super().__init__()
    inner = before * expansion
    norm = lambda channels: nn.BatchNorm2d(channels, eps=1e-3)
    self.expands = expansion > 1
    if self.expands:
      self.expand_conv = nn.Conv2d(before, inner, 1, bias=False)
      self.expand_bn = norm(inner)
    self.depthwise_conv = Same(
      inner, inner, side, stride, groups=inner, bias=False
    )
    self.depthwise_bn = norm(inner)
    self.project_conv = nn.Conv2d(inner, channels, 1, bias=False)
    self.project_bn = norm(channels)
    self.skips = stride == 1 and before == channels

  def forward(self, x):
    y = x
    if self.expands:
      y = nn.functional.relu6(self.expand_bn(self.expand_conv(y)))
    y = nn.functional.relu6(self.depthwise_bn(self.depthwise_conv(y)))
    y = self.project_bn(self.project_conv(y))
    return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
  # (blocks, side of the kernel, stride, expansion, channels) of each stage
  STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
  )

  def __init__(self):
    super().__init__()
    self.stem_conv = Same(3, 32, 3, 2, bias=False)
    self.stem_bn = nn.BatchNorm2d(32, eps=1e-3)
    self.blocks, before = [], 32
    for count, side, stride, expansion, channels in self.STAGES:
      for i in range(count):
        name = f'block{len(self.blocks)}'
        first = 1 if i else stride
        block = InvertedResidual(before, side, first, expansion, channels)
        self.add_module(name, block)
        self.blocks.append((name, first))
        before = channels

  def forward(self, x):
    x = nn.functional.relu6(self.stem_bn(self.stem_conv(x)))
    maps, level = {}, 1
    for name, stride in self.blocks:
      level += stride == 2
      x = maps[f'c{level}'] = getattr(self, name)(x)
    return maps


class TopDown(nn.Module):
  def __init__(self, channels=64, num_landmarks=8):
    super().__init__()
    self.efficientnet = EfficientNetLite0()
    for level, before in ((5, 320), (4, 112), (3, 40), (2, 24)):
      setattr(self, f'lateral{level}', nn.Conv2d(before, channels, 1))
      if level < 5:
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        setattr(self, f'smooth{level}', conv)
        setattr(self, f'bn{level}', nn.BatchNorm2d(channels))
    self.heatmaps = nn.Conv2d(channels, num_landmarks, 1)

  def forward(self, x):
    maps = self.efficientnet(x)
    x = self.lateral5(maps['c5'])
    for level in (4, 3, 2):
      finer = maps[f'c{level}']
      x = nn.functional.interpolate(
        x, size=finer.shape[2:], mode='bilinear', align_corners=False
      )
      x = x + getattr(self, f'lateral{level}')(finer)
      x = getattr(self, f'bn{level}')(getattr(self, f'smooth{level}')(x))
      x = torch.relu(x)
    return {'heatmaps': self.heatmaps(x)}


class VGG(nn.Module):
  def __init__(self, blocks):
    super().__init__()
    self.blocks, before = blocks, 3
    for i, (convolutions, channels) in enumerate(blocks, 1):
      for j in range(1, convolutions + 1):
        conv = nn.Conv2d(before, channels, 3, padding=1)
        setattr(self, f'conv{i}_{j}', conv)
        before = channels

  def forward(self, x):
    for i, (convolutions, _) in enumerate(self.blocks, 1):
      for j in range(1, convolutions + 1):
        x = torch.relu(getattr(self, f'conv{i}_{j}')(x))
      x = nn.functional.max_pool2d(x, 2)
    return x


class DFA(nn.Module):
  """Stage 1 without the head of pseudo-labels."""

  def __init__(self, blocks, side=224, hidden=4096, num_landmarks=8):
    super().__init__()
    self.vgg, self.n = VGG(blocks), num_landmarks
    cells = side // 2 ** len(blocks)
    self.fc6 = nn.Linear(cells * cells * blocks[-1][1], hidden)
    self.fc7 = nn.Linear(hidden, hidden)
    self.fc8_landmarks = nn.Linear(hidden, 2 * num_landmarks)
    for i in range(1, num_landmarks + 1):
      setattr(self, f'fc8_visibility_{i}', nn.Linear(hidden, 3))

  def forward(self, x):
    x = self.vgg(x).permute(0, 2, 3, 1).flatten(1)  # rows first, as ours
    x = torch.relu(self.fc7(torch.relu(self.fc6(x))))
    states = [
      getattr(self, f'fc8_visibility_{i}')(x) for i in range(1, self.n + 1)
    ]
    return {
      'landmarks': self.fc8_landmarks(x).unflatten(1, (self.n, 2)),
      'visibility': torch.stack(states, 1),
    }


def randomise(network, seed):
  """Batch statistics and scales that are not 0 and 1."""
  generator = torch.Generator().manual_seed(seed)
  for module in network.modules():
    if isinstance(module, nn.BatchNorm2d):
      for value in (module.weight, module.running_var):
        value.data.uniform_(0.5, 1.5, generator=generator)
      for value in (module.bias, module.running_mean):
        value.data.normal_(0, 0.2, generator=generator)
  return network


def places(network):
  """(tensor, collection, path, axes) of each weight, in our variables.

  `axes` permutes the tensor's to ours; a deconvolution's kernel is also
  reversed.
  """
  for name, module in network.named_modules():
    path = name.replace('.downsample.0', '.downsample_conv')
    path = path.replace('.downsample.1', '.downsample_bn').split('.')
    merged = []  # layer1.0 -> layer1_0
    for part in path:
      if part.isdigit():
        merged[-1] += f'_{part}'
      else:
        merged.append(part)
    if isinstance(module, nn.Conv2d):
      yield module.weight, 'params', (*merged, 'kernel'), (2, 3, 1, 0)
      if module.bias is not None:
        yield module.bias, 'params', (*merged, 'bias'), (0,)
    elif isinstance(module, nn.ConvTranspose2d):
      yield module.weight, 'params', (*merged, 'kernel'), (2, 3, 0, 1)
    elif isinstance(module, nn.Linear):
      yield module.weight, 'params', (*merged, 'kernel'), (1, 0)
      yield module.bias, 'params', (*merged, 'bias'), (0,)
    elif isinstance(module, nn.BatchNorm2d):
      yield module.weight, 'params', (*merged, 'scale'), (0,)
      yield module.bias, 'params', (*merged, 'bias'), (0,)
      yield module.running_mean, 'batch_stats', (*merged, 'mean'), (0,)
      yield module.running_var, 'batch_stats', (*merged, 'var'), (0,)


def reverse(array, path):
  """A deconvolution's kernel, spatial axes first, in the other order."""
  return array[::-1, ::-1] if path[-2][:-1] == 'deconv' else array


def to_variables(network) -> dict:
  """Our variables of a PyTorch network."""
  variables = {}
  for tensor, collection, path, axes in places(network):
    array = reverse(tensor.detach().numpy().transpose(axes), path)
    holder = variables.setdefault(collection, {})
    for part in path[:-1]:
      holder = holder.setdefault(part, {})
    holder[path[-1]] = array.copy()  # PyTorch updates statistics in place
  return variables


def load_variables(network, variables: dict):
  """Gives a PyTorch network our variables."""
  for tensor, collection, path, axes in places(network):
    array = variables[collection]
    for part in path:
      array = array[part]
    array = reverse(np.asarray(array), path).transpose(np.argsort(axes))
    tensor.data.copy_(torch.from_numpy(array.copy()))
  return network


def nchw(x):
  return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def nhwc(x):
  return np.moveaxis(x.detach().numpy(), 1, -1)


def run(model, variables, x, train):
  """Outputs, and the updated batch statistics."""
  apply = lambda x: model.apply(
    variables, x, train=train, mutable=['batch_stats']
  )
  outputs, mutated = jax.vmap(apply, axis_name=AXIS)(
    jax.tree.map(lambda a: jnp.asarray(a)[None], x)
  )
  return jax.tree.map(lambda a: np.asarray(a[0]), (outputs, mutated))
