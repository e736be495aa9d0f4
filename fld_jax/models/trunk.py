"""What a trunk is, and how a network takes feature maps from one."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from fld_jax.errors import InputError

Image = Float[Array, 'batch height width 3']
FeatureMap = Float[Array, 'batch rows columns channels']
LAST = 'last'


class Trunk(nn.Module):
  """The convolutions that a network's own layers stand on.

  A trunk is a subclass in a file of its own and a row of `models.TRUNKS`. It
  has a field `dtype`, the type of the computation, whereas parameters stay
  float32; its other fields are the options that `config.model.trunk` may hold.
  One of them is `width`, the channels of its first block, 64 in the published
  networks: by it the configs' smaller sizes narrow every trunk but a VGG.

  Where it is `frozen`, its first layers keep the weights and statistics that
  they start with: no gradient gets there, so that training needs neither the
  time nor the memory for one.

  Attributes:
    frozen: The number of the first blocks that keep their weights, at most
      `num_blocks()`.
    tree_name: The name that its parameters have in a network's parameter tree.
    batch_norm: Whether it normalises its maps. Layers of a network that can do
      either do as their trunk does.
  """

  frozen: int = dataclasses.field(default=0, kw_only=True)
  tree_name: ClassVar[str]

  def __call__(self, image: Image, train: bool) -> dict[str, FeatureMap]:
    """Computes feature maps.

    Args:
      image: Normalised images, (B, H, W, 3), of any floating point type.
      train: Whether normalisation uses the batch's own statistics and updates
        the running ones.

    Returns:
      Maps by the names c1 to c9: c3, for example, has stride 2^3 and so the
      shape (B, H / 8, W / 8, C). A trunk may leave names out. Where layers
      behind c3 have the stride 2^3 too, the map of the last of them is d3.

    Raises:
      InputError: The trunk cannot take images of this size.
    """
    raise NotImplementedError

  def frozen_modules(self) -> tuple[str, ...]:
    """The names of the modules that keep their weights."""
    return ()

  def num_blocks(self) -> int:
    """The largest number that `frozen` may be; 0 if nothing can be frozen."""
    return 0


def feature_maps(
  network: nn.Module, image: Image, train: bool, names: tuple[str, ...]
) -> list[FeatureMap]:
  """The maps that a network asks its trunk for; call it in a `__call__`.

  Args:
    network: The network, with a field `backbone`.
    image: Normalised images, (B, H, W, 3).
    train: Whether normalisation uses the batch's own statistics.
    names: Names of the maps, such as 'c5'; 'd5' is the deepest map of that
      stride, which is c5 itself unless the trunk has another. LAST is that of
      the largest stride, whatever its name and however its cells fit.

  Returns:
    The maps in the order of the names.

  Raises:
    InputError: The trunk has no map of that name, or the image's sides are no
      multiples of the maps' strides, so that their cells would not fit on each
      other.
  """
  maps = _run(network, image, train)
  ends = sorted(name for name in maps if name.startswith('c'))
  known = ', '.join(ends)
  maps = {**{f'd{name[1:]}': maps[name] for name in ends}, **maps}
  maps[LAST] = maps[ends[-1]]
  who, trunk = type(network).__name__, type(network.backbone).__name__
  for name in names:
    if name not in maps:
      raise InputError(
        f'{who} takes the maps {", ".join(names)} of its backbone, and {trunk} '
        f'has {known} with these options: give another config.model.backbone, '
        'or other options of it in config.model.trunk.'
      )
    if name == LAST:
      continue
    stride = 2 ** int(name[1:])
    if image.shape[1] % stride or image.shape[2] % stride:
      raise InputError(
        f"config.input.size, or a stage's input_size, is {image.shape[1]}, "
        f'and {who} takes the map {name} of {trunk}, for which it must be a '
        f'multiple of {stride}.'
      )
  return [maps[name] for name in names]


def last_map(network: nn.Module, image: Image, train: bool) -> FeatureMap:
  """The trunk's map of the largest stride; see `feature_maps`."""
  return feature_maps(network, image, train, (LAST,))[0]


def _run(
  network: nn.Module, image: Image, train: bool
) -> dict[str, FeatureMap]:
  # A copy under the trunk's own name: as a plain field its parameters would
  # stand under 'backbone', and saved networks have them under 'vgg', 'resnet'.
  trunk = network.backbone.copy(name=network.backbone.tree_name)
  return trunk(image, train)
