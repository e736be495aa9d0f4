"""The stage networks of DeepPose (Toshev and Szegedy, CVPR 2014).

As Liu et al. (ECCV 2016) hold it against DFA (docs/methods.md 2.1): stage 1
regresses all landmarks from the whole crop; each later stage has one network a
landmark, which sees a square patch of the crop around the estimate of the stage
before and regresses the landmark's offset from there. So three stages of eight
landmarks are 17 networks.
"""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fld_jax.models.dfa import DFA
from fld_jax.models.trunk import Trunk
from fld_jax.models.vgg import VGG
from fld_jax.ops import cpu_kernels
from fld_jax.ops.sampling import patches


class DeepPose(nn.Module):
  """All networks of one stage; each is stage 1 of DFA without pseudo-labels.

  Those of a later stage are one network whose variables have a leading axis of
  N, a slot a landmark. A landmark's network never sees another's patch.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    use_estimate: False for stage 1, True for the others.
    side: Side of what the networks see, in pixels: the crop is averaged down to
      it, a patch is resampled to it. 0 for the pixels as they are.
    patch: Side of the patches, in pixels of the crop.
    backbone: The trunk; fc6 sees its last map.
    pool: Side of the grid, in cells, to which the last map is averaged; 0 for
      the map as it is.
    hidden: Width of fc6 and fc7.
    dropout: Rate after fc6 and fc7, in [0, 1).
    dtype: The type of the computation; the heads and all parameters are
      float32.
    imagenet_layers: See `DFA`.
    per_landmark: Whether variables of later stages have the leading axis.
  """

  num_landmarks: int = 8
  use_estimate: bool = False
  side: int = 0
  patch: int = 120
  backbone: Trunk = VGG()
  pool: int = 0
  hidden: int = 4096
  dropout: float = 0.5
  dtype: jnp.dtype = jnp.float32
  imagenet_layers: ClassVar[dict[str, str]] = DFA.imagenet_layers
  per_landmark: ClassVar[bool] = True

  @nn.compact
  def __call__(self, batch: dict[str, Array], train: bool) -> dict[str, Array]:
    """Runs the stage's networks.

    Args:
      batch: `image`, (B, S, S, 3) normalised float; `example_index`, (B,)
        int32, each example's place in the global batch; `estimate`, (B, N, 2)
        in [-0.5, 0.5], if `use_estimate`.
      train: Whether dropout is on and normalisation uses the batch's own
        statistics.

    Returns:
      `landmarks`, (B, N, 2): coordinates in [-0.5, 0.5] for stage 1, else the
      scaled offset (the caller divides by `offset_scale` and subtracts it);
      `visibility`, (B, N, 3) logits.
    """
    network = DFA(
      num_landmarks=1 if self.use_estimate else self.num_landmarks,
      num_clusters=0,
      side=0 if self.use_estimate else self.side,
      backbone=self.backbone,
      pool=self.pool,
      hidden=self.hidden,
      dropout=self.dropout,
      dtype=self.dtype,
      name='network',
    )
    # The variables stand where those of DFA do: a run can start from one's.
    nn.share_scope(self, network)
    if not self.use_estimate:
      return network(batch, train)
    side = self.side or self.patch
    seen = patches(
      batch['image'],
      jax.lax.stop_gradient(batch['estimate']),
      side,
      self.patch / side,
    )

    def run(network: DFA, image: Float[Array, 'b s s 3']) -> dict[str, Array]:
      with cpu_kernels.as_products():
        return network(
          {'image': image, 'example_index': batch['example_index']}, train
        )

    outputs = _each(run)(network, seen)
    return {
      name: outputs[name][:, :, 0] for name in ('landmarks', 'visibility')
    }

  @nn.nowrap
  def reach(self, size: int) -> float:
    """How far a later stage may move a landmark: to the edge of its patch.

    Args:
      size: Side of the crops, in pixels.

    Returns:
      The largest change of x and of y, in sides of the crop.
    """
    return self.patch / size / 2

  @nn.nowrap
  def warm_start(self, fresh: dict, source: dict) -> dict:
    """Variables of a stage that starts as a correction of 0.

    Each network starts as the one of its landmark in the stage before; after
    stage 1, as the one that there is, but for its heads.

    Args:
      fresh: Random variables of this stage.
      source: Trained variables of the stage before.

    Returns:
      Variables with the structure and shapes of `fresh`.
    """

    def taken(path: tuple, new: np.ndarray) -> np.ndarray:
      if path[1].key == 'fc8_landmarks':
        return np.zeros_like(new)
      old = source
      for entry in path:
        old = old.get(entry.key)
        if old is None:  # a head that stage 1 has for another landmark
          return new
      if np.shape(old) == new.shape[1:]:
        return np.array(np.broadcast_to(old, new.shape))
      return np.array(old) if np.shape(old) == new.shape else new

    return jax.tree_util.tree_map_with_path(taken, fresh)


def _each(run: Callable) -> Callable:
  """Runs one network a landmark, each with variables of its own.

  In exported files, whose formats cannot express convolutions with kernels of
  several networks at once, the networks stand one after another.

  Args:
    run: Function of a module and of one landmark's (B, S, S, 3) patches.

  Returns:
    The same function of the module, whose variables have the leading axis N,
    and of (B, N, S, S, 3) patches; outputs have the axis N after B.
  """
  if cpu_kernels.is_portable():
    return lambda network, images: _in_turn(run, network, images)
  return nn.vmap(
    run,
    variable_axes={'params': 0, 'batch_stats': 0},
    split_rngs={'params': True, 'dropout': True},
    in_axes=1,
    out_axes=1,
  )


def _in_turn(run: Callable, network: nn.Module, images: Array) -> dict:
  """Runs the networks of a trained module, see `_each`."""
  each = []
  for n in range(images.shape[1]):
    own = lambda tree, n=n: jax.tree.map(lambda x: x[n], tree)
    alone = nn.map_variables(run, ('params', 'batch_stats'), own)
    each.append(alone(network, images[:, n]))
  return jax.tree.map(lambda *parts: jnp.stack(parts, axis=1), *each)
