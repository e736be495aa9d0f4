"""The classifiers for ImageNet that the trunks come from.

Their numbers of parameters are published, so they check the trunks.
"""

import flax.linen as nn
import jax.numpy as jnp

from fld_jax.models.layers import Dropout
from fld_jax.models.resnet import ResNet
from fld_jax.models.trunk import last_map
from fld_jax.models.vgg import VGG


class VGGClassifier(nn.Module):
  """138,357,544 parameters with VGG-16 and 1000 classes at 224 pixels."""

  backbone: VGG = VGG()

  @nn.compact
  def __call__(self, batch, train):
    x = last_map(self, batch['image'], train)
    x = x.reshape(x.shape[0], -1)
    for name in ('fc6', 'fc7'):
      x = nn.relu(nn.Dense(4096, name=name)(x))
      x = Dropout(0.5)(x, batch['example_index'], train)
    return {'logits': nn.Dense(1000, name='fc8')(x)}


class ResNetClassifier(nn.Module):
  """25,557,032 parameters with 50 layers and 1000 classes."""

  backbone: ResNet = ResNet()

  @nn.compact
  def __call__(self, batch, train):
    x = last_map(self, batch['image'], train)
    x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
    return {'logits': nn.Dense(1000, name='fc')(x)}
