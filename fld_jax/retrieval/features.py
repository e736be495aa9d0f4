"""Off-the-shelf features of garments at four localisations (DFA, section 4.4).

What the paper leaves open is decided in docs/methods.md, section 5.5: features
are those that EfficientNet-Lite0, trained on ImageNet, makes for its classes.
Those of the whole image or of the box are their mean; those of landmarks or
joints are taken from a window around each point, a quarter of the longer side
of the box (for joints, of the image) wide. A point that is not in the image has
zeros; every part has length 1, and parts stand in the order of the slots.

A network halves its input five times. Crops are chosen so that the longer side
of box or image measures 4 cells of the last map: 128 pixels, and a window one
cell. `scale` multiplies all of it. Crops for points are a quarter wider, so
that no window leaves them.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fld_jax import defaults, input_pipeline, schema
from fld_jax.cascade.forward import normalise_images
from fld_jax.errors import InputError
from fld_jax.files.images import decode
from fld_jax.models import TRUNKS
from fld_jax.ops import sampling
from fld_jax.pretrained import imagenet

BACKBONE = 'efficientnet_lite0'
CELL = 32  # pixels of the crop in a cell of the last map
SIDE = 4  # windows in the longer side of the box
BATCH = 32


@dataclasses.dataclass(frozen=True)
class Localisation:
  """Where features are taken from.

  Attributes:
    whole: Whether the region is the whole image, and not the item's box.
    at_points: Whether features are of windows around points in the region, and
      not their mean over it.
  """

  whole: bool
  at_points: bool


LOCALISATIONS = {
  'image': Localisation(whole=True, at_points=False),
  'box': Localisation(whole=False, at_points=False),
  'joints': Localisation(whole=True, at_points=True),
  'landmarks': Localisation(whole=False, at_points=True),
}


class Located:
  """Records whose boxes are the regions of a localisation.

  Args:
    source: Records as `input_pipeline.Records` or `inference.photos.Items` has
      them.
    localisation: Where features are taken from.
    points: (n, P, 2) x, y in image pixels, and (n, P) visibility codes, in
      place of the landmarks of the n records; None for those.
  """

  def __init__(
    self,
    source: Sequence[dict],
    localisation: Localisation,
    points: tuple[np.ndarray, np.ndarray] | None = None,
  ):
    if points is not None and len(points[0]) != len(source):
      raise InputError(
        f'There are points of {len(points[0])} images, and {len(source)} '
        'records.'
      )
    self._source, self._where, self._points = source, localisation, points

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, i: int) -> dict[str, Any]:
    record = {'corrupt': False, **self._source[i]}
    if not isinstance(record['image'], np.ndarray):
      name = f'Record {record["id"].decode()}, field image'
      record['image'] = decode(record['image'], name)
    box = np.asarray(record['box'], np.float64)
    if self._where.whole:
      height, width = record['image'].shape[:2]
      box = np.array([0.0, 0.0, width, height])
    if self._where.at_points:
      # A square with half a window on each side, all of which is seen.
      centre = (box[:2] + box[2:]) / 2
      half = max(box[2:] - box[:2]) * (1 + 1 / SIDE) / 2
      box = np.concatenate([centre - half, centre + half])
    if self._points is not None:
      record['landmarks'] = np.asarray(self._points[0][i], np.float32)
      record['visibility'] = np.asarray(self._points[1][i], np.int32)
    return {**record, 'box': box.astype(np.float32), 'index': np.int32(i)}


class Extractor:
  """Computes features; compiled once for all sources.

  Attributes:
    name: The localisation, a key of LOCALISATIONS.
    scale: How many cells of the last map a window is wide.
  """

  def __init__(self, name: str, scale: int = 1):
    """Reads the weights.

    Args:
      name: The localisation, a key of LOCALISATIONS.
      scale: How many cells of the last map a window is wide, at least 1.

    Raises:
      InputError: The package of the weights is not installed.
    """
    self.name, self.scale = name, scale
    self._where = LOCALISATIONS[name]
    kind, fixed = TRUNKS[BACKBONE]
    self._trunk = kind(**fixed)
    example = jax.ShapeDtypeStruct((1, CELL, CELL, 3), np.float32)
    shapes = jax.eval_shape(
      lambda x: self._trunk.init(jax.random.key(0), x, False), example
    )
    tree = kind.tree_name
    filled, _ = imagenet.start_trunk(
      {key: {tree: value} for key, value in shapes.items()}, BACKBONE
    )
    self._weights = (
      {key: value[tree] for key, value in filled.items()},
      imagenet.class_features(BACKBONE),
    )
    self._run = jax.jit(self._features)

  def __call__(
    self,
    source: Sequence[dict],
    points: tuple[np.ndarray, np.ndarray] | None = None,
    batch_size: int = BATCH,
  ) -> Iterator[tuple[Int[np.ndarray, ' b'], Float[np.ndarray, 'b D']]]:
    """Computes the features of records, batch by batch.

    Args:
      source: See `Located`.
      points: See `Located`; only for localisations at points.
      batch_size: How many images are computed at a time.

    Yields:
      The places in the source of up to `batch_size` records, in order, and
      their features: of D = 1280 numbers, or at P points 1280 P. Records whose
      image cannot be read are left out.
    """
    if not len(source):
      return
    located = Located(source, self._where, points)
    pipeline = _pipeline(self._size, min(batch_size, len(source)))
    for batch in input_pipeline.eval_batches(located, pipeline):
      there = schema.has_position(batch['visibility'])
      found = self._run(
        self._weights, batch['image'], batch['landmarks'], there
      )
      valid = batch['mask'] > 0
      yield batch['index'][valid], np.asarray(found)[valid]

  @property
  def _size(self) -> int:
    """The side of the crops, in pixels."""
    return CELL * self.scale * (SIDE + self._where.at_points)

  def _features(
    self,
    weights: tuple,
    images: Array,
    points: Float[Array, 'b p 2'],
    there: Array,
  ) -> Float[Array, 'b D']:
    """The features of crops (b, S, S, 3) uint8, points normalised."""
    variables, (kernel, bias) = weights
    batch = normalise_images(
      {'image': images}, *defaults.PACKAGED_INPUT[BACKBONE]
    )
    maps = self._trunk.apply(variables, batch['image'], False)
    cells = jnp.clip(maps[max(maps)] @ kernel + bias, 0, 6)
    if not self._where.at_points:
      return unit(cells.mean(axis=(1, 2)))
    windows = sampling.patches(cells, points, self.scale).mean(axis=(2, 3))
    parts = unit(windows) * there[..., None]
    return parts.reshape(len(images), -1)


def unit(x: Float[Array, '... d']) -> Float[Array, '... d']:
  """Vectors of length 1; one without a length stays 0.

  Args:
    x: Vectors, (..., D).
  """
  length = jnp.linalg.norm(x, axis=-1, keepdims=True)
  return x / jnp.where(length > 0, length, 1)


def _pipeline(size: int, batch_size: int) -> input_pipeline.Pipeline:
  """The settings by which regions become crops."""
  still = input_pipeline.Augmentation(
    flip=False,
    scale=0.0,
    rotation=0.0,
    shift=0.0,
    colour=0.0,
    surroundings=False,
    box_noise=0.0,
    cutout=0.0,
    mild_share=0.0,
  )
  return input_pipeline.Pipeline(
    size=size,
    crop='pad_square',
    margin=0.0,
    augment=still,
    flip=np.zeros(0, int),
    batch_size=batch_size,
    seed=0,
    on_corrupt='skip',
    num_threads=2,
    num_workers=0,
  )
