"""EfficientNet-Lite: its layers' counts and maps."""

import jax
import jax.numpy as jnp
import pytest

from fld_jax.models.efficientnet import EfficientNet

# Parameters of the published classifiers, as their files hold them, and the
# channels of the last map.
PUBLISHED = {
  'lite0': (4_652_008, 320, 16),
  'lite1': (5_416_680, 320, 21),
  'lite2': (6_092_072, 352, 21),
}


@pytest.mark.parametrize('size', PUBLISHED)
def test_published_counts_and_maps(size):
  trunk = EfficientNet(size=size)
  maps, variables = jax.eval_shape(
    lambda x: trunk.init_with_output(jax.random.key(0), x, False),
    jax.ShapeDtypeStruct((2, 96, 64, 3), jnp.float32),
  )
  total, last, blocks = PUBLISHED[size]
  classifier = last * 1280 + 2 * 1280 + 1281 * 1000
  leaves = jax.tree.leaves(variables['params'])
  assert sum(leaf.size for leaf in leaves) == total - classifier
  assert len(trunk.layout()) == blocks
  for level, (name, leaf) in enumerate(sorted(maps.items()), 1):
    assert name == f'c{level}'
    assert leaf.shape[:3] == (2, 96 // 2**level, 64 // 2**level)
  assert maps['c5'].shape[3] == last


def test_half_the_width():
  """TensorFlow's rule: a multiple of 8, never less than nine tenths."""
  channels = [block[3] for block in EfficientNet(width=32).layout()]
  assert channels[:4] == [8, 16, 16, 24] and channels[-1] == 160
