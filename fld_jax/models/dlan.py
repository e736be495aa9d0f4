"""DLAN: landmarks on photos without boxes (Yan et al., ACM MM 2017).

Of the paper no more than its abstract could be read, so this is our reading of
it (docs/methods.md 3.3): selective dilated convolutions see garments of several
sizes; a hierarchical recurrent spatial transformer looks at the whole photo,
then again and again at a window that it moves itself, at last at a smaller one
around each landmark; the loss keeps the windows' scale ('scaled_landmarks' of
`training.objective`).

Public trainings of such networks ended with one output for all images. So the
window starts as the whole photo, its scale is held in a range, and it moves at
a lower rate than the rest is learnt.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fld_jax.models.dfa import PerLandmark
from fld_jax.models.layers import Conv, relu
from fld_jax.models.trunk import FeatureMap, Trunk, feature_maps
from fld_jax.models.vgg import VGG
from fld_jax.ops.sampling import patches

DILATIONS = (1, 2, 4)
# The window's side, in sides of the photo, is held in this range.
SCALES = (0.2, 1.2)
# Side of a landmark's own window, in sides of the last one around the garment.
LOCAL_SCALE = 0.4
LOCAL_FEATURES = 64


class DLAN(nn.Module):
  """The network, of one stage.

  Attributes:
    num_landmarks: N, how many landmarks there are.
    backbone: The trunk.
    local_maps: Names of the trunk's maps that windows are cut out of.
    channels: Channels of each selective dilated convolution.
    select: How it chooses among dilations: 'max', the largest response; 'gate',
      a softmax at each cell.
    patch: Side of a window's grid of samples.
    steps: How often the network looks at the window, which is the whole photo
      at first.
    hidden: Width of what it remembers of a look.
    transform_rate: Factor of the window's changes, and so with Adam of their
      learning rate.
    dtype: The type of the computation; the outputs and all parameters are
      float32.
  """

  num_landmarks: int = 8
  backbone: Trunk = VGG()
  local_maps: tuple[str, ...] = ('c4', 'c5')
  channels: int = 256
  select: str = 'max'
  patch: int = 8
  steps: int = 3
  hidden: int = 1024
  transform_rate: float = 0.1
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, batch: dict[str, Array], train: bool) -> dict[str, Array]:
    """Runs the network.

    Args:
      batch: `image`, (B, S, S, 3) normalised float, whole photos.
      train: Whether normalisation uses the batch's own statistics.

    Returns:
      `landmarks`, (B, N, 2) coordinates in [-0.5, 0.5]; `visibility`, (B, N, 3)
      logits; `looks`, (B, steps, N, 2), the landmarks after each look at the
      window; `log_scales`, (B, steps), the logarithm of the side that the
      window would have without being held, in sides of the photo.
    """
    n, steps = self.num_landmarks, self.steps
    maps = feature_maps(self, batch['image'], train, self.local_maps)
    maps = [
      SelectiveDilated(self.channels, self.select, self.dtype, name=f'sdc{i}')(
        x
      )
      for i, x in enumerate(maps)
    ]
    dense = lambda features, name, **options: nn.Dense(
      features, dtype=self.dtype, name=name, **options
    )
    head = lambda features, name, scale=0.01: nn.Dense(
      features, kernel_init=nn.initializers.normal(scale), name=name
    )
    # Every look has the same weights.
    see, remember = dense(self.hidden, 'see'), dense(self.hidden, 'remember')
    find, move = head(2 * n, 'landmarks'), head(3, 'transform', 0.0)

    b = batch['image'].shape[0]
    centre, log_scale = jnp.zeros((b, 1, 2)), jnp.zeros((b, 1))
    memory = jnp.zeros((b, self.hidden), self.dtype)
    looks, log_scales = [], []
    for look in range(steps):
      scale = _held(log_scale)
      seen = _window(maps, centre, scale, self.patch)[:, 0]
      memory = nn.relu(see(seen) + remember(memory))
      x = memory.astype(jnp.float32)
      places = find(x).reshape(-1, n, 2)
      looks.append(centre + scale[..., None] * places)
      log_scales.append(log_scale[:, 0])
      if look < steps - 1:
        change = self.transform_rate * move(x)
        centre = centre + scale[..., None] * change[:, None, 1:]
        log_scale = log_scale + change[:, :1]
    last = looks[-1]
    scale = LOCAL_SCALE * scale
    # Where a landmark's window lies is learnt by the looks alone.
    around = jax.lax.stop_gradient(last)
    widths = jnp.broadcast_to(jax.lax.stop_gradient(scale), around.shape[:2])
    local = _window(maps, around, widths, self.patch)
    local = nn.relu(
      PerLandmark(LOCAL_FEATURES, self.dtype, name='local')(local)
    )
    local = local.astype(jnp.float32)
    nothing = nn.initializers.zeros
    offset = PerLandmark(2, kernel_init=nothing, name='local_landmarks')(local)
    states = PerLandmark(3, kernel_init=nothing, name='local_visibility')(local)
    return {
      'landmarks': last + widths[..., None] * offset,
      'visibility': head(3 * n, 'visibility')(x).reshape(-1, n, 3) + states,
      'looks': jnp.stack(looks, axis=1),
      'log_scales': jnp.stack(log_scales, axis=1),
    }


class SelectiveDilated(nn.Module):
  """One 3x3 kernel at several dilations, of which each cell takes what fits.

  Attributes:
    channels: The number of output channels.
    select: 'max' or 'gate', see `DLAN`.
    dtype: The type of the computation.
  """

  channels: int
  select: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: FeatureMap) -> FeatureMap:
    """Computes (B, H, W, channels) of (B, H, W, C)."""
    x = relu(Conv(self.channels, (1, 1), dtype=self.dtype, name='reduce')(x))
    shape = (9 * self.channels, self.channels)
    kernel = self.param('kernel', nn.initializers.he_normal(), shape)
    bias = self.param('bias', nn.initializers.zeros, (self.channels,))
    kernel, bias = kernel.astype(self.dtype), bias.astype(self.dtype)
    found = [_neighbours(x, d) @ kernel + bias for d in DILATIONS]
    if self.select == 'max':
      return relu(jnp.max(jnp.stack(found), axis=0))
    gate = Conv(len(DILATIONS), (1, 1), dtype=self.dtype, name='gate')(x)
    gate = jnp.moveaxis(nn.softmax(gate), -1, 0)[..., None]
    return relu(jnp.sum(gate * jnp.stack(found), axis=0))


def _neighbours(x: FeatureMap, distance: int) -> FeatureMap:
  """Each cell's nine neighbours at a distance, 0 beyond the map.

  A product of these with a kernel is a dilated convolution. On a CPU XLA has
  nothing but a plain loop for one whose kernel spans more than the map.

  Returns:
    (B, H, W, 9 C), rows of neighbours first.
  """
  _, h, w, _ = x.shape
  wide = jnp.pad(
    x, ((0, 0), (distance, distance), (distance, distance), (0, 0))
  )
  starts = [i * distance for i in range(3)]
  return jnp.concatenate(
    [wide[:, i : i + h, j : j + w] for i in starts for j in starts], axis=-1
  )


def _held(log_scale: Float[Array, '...']) -> Float[Array, '...']:
  """The side of a window, in sides of the photo, within SCALES."""
  return jnp.clip(jnp.exp(log_scale), *SCALES)


def _window(
  maps: list[FeatureMap],
  centre: Float[Array, 'b k 2'],
  scale: Float[Array, 'b k'],
  side: int,
) -> Float[Array, 'b k features']:
  """What all maps show in square windows.

  Args:
    maps: (B, H, W, C) maps of the photo, of any sizes.
    centre: (B, K, 2) middles of windows in normalised coordinates.
    scale: (B, K) their sides, in sides of the photo.
    side: Side of the grid of samples in each window.

  Returns:
    (B, K, features): the samples of all maps in a row.
  """
  seen = []
  for x in maps:
    sampled = patches(x, centre, side, scale * x.shape[1] / side)
    seen.append(sampled.reshape(*sampled.shape[:2], -1))
  return jnp.concatenate(seen, axis=-1)
