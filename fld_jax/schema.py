"""Landmark sets, visibility codes and the fields of a record.

Everything that depends on which landmark sits in which slot is derived from
the tables here, by name.
"""

import dataclasses
import functools

import numpy as np

from fld_jax.errors import InputError

# Visibility codes, as the FLD and DeepFashion files write them. ABSENT is ours:
# the slot does not exist on this type of clothes (a skirt has no collar).
VISIBLE, OCCLUDED, TRUNCATED, ABSENT = 0, 1, 2, -1
VISIBILITY_NAMES = ('visible', 'occluded', 'truncated')
_OPPOSITE = {'left': 'right', 'right': 'left'}

VARIATIONS = {
  1: 'normal_pose',
  2: 'medium_pose',
  3: 'large_pose',
  4: 'medium_zoom_in',
  5: 'large_zoom_in',
}


def side_in_words(name: str) -> str | None:
  """The side that a landmark's name tells: 'left', 'right', or None."""
  return next((word for word in name.split('_') if word in _OPPOSITE), None)


@dataclasses.dataclass(frozen=True)
class LandmarkSet:
  """Names of the N slots and what follows from them.

  Attributes:
    names: N names of words; one with the word 'left' has a partner with
      'right', and the other way round.
    top: words in the names of the upper body's landmarks.
    slots: for each clothes type code, the slots that its annotation rows
      fill, in the order of the rows' triples.
    sticks: of PCP, by name: the landmarks of one end and of the other, which is
      in their middle.
    sigmas: N, of COCO's OKS; () if none are known.
    swaps: pairs of names that change places in a mirrored image, where words do
      not tell; then they are all pairs that there are.
    parts: partitions for PCLoss, name -> the landmarks of each part, beside or
      instead of those that words tell.
    types: clothes type code -> name.
    norm: the usual normaliser of NE, see `metrics.normaliser`.
    norm_pairs: clothes type code -> the two landmarks whose distance is the
      normaliser 'keypair'.
  """

  names: tuple[str, ...]
  top: tuple[str, ...] = ()
  slots: dict[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)
  sticks: dict[str, tuple] = dataclasses.field(default_factory=dict)
  sigmas: tuple[float, ...] = ()
  swaps: tuple[tuple[str, str], ...] = ()
  parts: dict[str, tuple[tuple[str, ...], ...]] = dataclasses.field(
    default_factory=dict
  )
  types: dict[int, str] = dataclasses.field(default_factory=dict)
  norm: str = 'bbox_wh'
  norm_pairs: dict[int, tuple[str, str]] = dataclasses.field(
    default_factory=dict
  )

  @property
  def num_landmarks(self) -> int:
    """N."""
    return len(self.names)

  @functools.cached_property
  def flip(self) -> np.ndarray:
    """(N,) slot that takes each slot's place when the image is mirrored.

    Raises:
      InputError: if a landmark's partner is missing.
    """
    given = {a: b for pair in self.swaps for a, b in (pair, pair[::-1])}
    slots = []
    for name in self.names:
      words = [_OPPOSITE.get(word, word) for word in name.split('_')]
      partner = given.get(name, name) if given else '_'.join(words)
      if partner not in self.names:
        raise InputError(
          f"The landmark '{name}' has no partner '{partner}' that takes its "
          f'place in a mirrored image; there are {", ".join(self.names)}.'
        )
      slots.append(self.names.index(partner))
    return np.array(slots)

  @functools.cached_property
  def sides(self) -> tuple[str, ...]:
    """N of 'left', 'right' and 'middle'.

    A name with the word 'left' or 'right' tells its side. Of a declared pair
    whose names tell nothing, the landmark in the lower slot is the left one.

    Raises:
      InputError: A landmark has no partner.
    """
    told = [side_in_words(name) for name in self.names]
    sides = []
    for slot, partner in enumerate(self.flip.tolist()):
      other = _OPPOSITE.get(
        told[partner], 'left' if slot < partner else 'right'
      )
      sides.append(told[slot] or ('middle' if slot == partner else other))
    return tuple(sides)

  @property
  def partitions(self) -> dict[str, tuple[np.ndarray, ...]]:
    """The slots of the parts that PCLoss compares within (methods 4.4).

    `whole`; `skeleton`: left and right, a landmark without a side is in both;
    `top_bottom`, if it is known which are the upper ones; and those of `parts`.
    """
    words = [set(name.split('_')) for name in self.names]
    top = np.array([not w.isdisjoint(self.top) for w in words])
    slots = lambda mask: tuple(map(np.flatnonzero, mask))
    partitions = {
      'whole': slots([np.full(self.num_landmarks, True)]),
      'skeleton': slots(
        [['right' not in w for w in words], ['left' not in w for w in words]]
      ),
    }
    if top.any():
      partitions['top_bottom'] = slots([top, ~top])
    for name, parts in self.parts.items():
      index = lambda part: np.array([self.names.index(x) for x in part])
      partitions[name] = tuple(map(index, parts))
    return partitions

  def of_type(self, code: int) -> 'LandmarkSet':
    """The set of the landmarks that one clothes type has.

    Args:
      code: a key of `slots`; such a set has names alone, and no `sticks`,
        `sigmas`, `swaps` or `parts`.
    """
    slots = self.slots[code]
    return dataclasses.replace(
      self,
      names=tuple(self.names[slot] for slot in slots),
      slots={code: tuple(range(len(slots)))},
      types={code: self.types[code]},
    )


def has_position(visibility):
  """Mask of landmarks whose coordinates mean something: visible or occluded.

  Args:
    visibility: integer array of any shape, codes as above (NumPy or JAX).

  Returns:
    Boolean array of the same shape.
  """
  return (visibility == VISIBLE) | (visibility == OCCLUDED)


def features(num_landmarks: int = 8):
  """The TFDS features of a record; every dataset builder writes exactly these.

  * `id`: unique within the dataset and stable, e.g. the image's relative path.
  * `image`: the encoded file: a JPEG, or what else Pillow reads.
  * `box`: (x1, y1, x2, y2) of the clothing item in image pixels.
  * `landmarks`: (N, 2), (x, y) in image pixels; (0, 0) where the visibility is
    TRUNCATED or ABSENT.
  * `visibility`: (N,) codes.
  * `clothes_type`, `variation`: codes, 0 where not known.
  * `item_id`: photos of one and the same garment share it; '' if not known.
  * `attributes`: 1 has it, 0 not known, -1 has it not; the names are in the
    builder's metadata under `attribute_names`.
  * `score`: of the detector that found the box, 1 for an annotated box.
  """
  import tensorflow_datasets as tfds  # 1 s to import; only builders need it

  return tfds.features.FeaturesDict(
    {
      'id': tfds.features.Text(),
      'image': tfds.features.Image(
        shape=(None, None, 3), encoding_format='jpeg'
      ),
      'box': tfds.features.Tensor(shape=(4,), dtype=np.float32),
      'landmarks': tfds.features.Tensor(
        shape=(num_landmarks, 2), dtype=np.float32
      ),
      'visibility': tfds.features.Tensor(
        shape=(num_landmarks,), dtype=np.int32
      ),
      'clothes_type': np.int32,
      'variation': np.int32,
      'item_id': tfds.features.Text(),
      'attributes': tfds.features.Tensor(shape=(None,), dtype=np.int8),
      'score': np.float32,
    }
  )
