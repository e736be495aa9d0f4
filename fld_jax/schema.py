"""Landmark sets, visibility codes and the fields of a record.

Everything that depends on which landmark sits in which slot is derived from
the tables here, by name.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from fld_jax import mirror_names
from fld_jax.errors import InputError, printable

# Visibility codes, as the FLD and DeepFashion files write them. ABSENT is ours:
# the slot does not exist on this type of clothes (a skirt has no collar).
VISIBLE, OCCLUDED, TRUNCATED, ABSENT = 0, 1, 2, -1
VISIBILITY_NAMES = ('visible', 'occluded', 'truncated')
VERSION = 1  # of the form that `LandmarkSet.to_dict` writes
_OPPOSITE = {'left': 'right', 'right': 'left'}

VARIATIONS = {
  1: 'normal_pose',
  2: 'medium_pose',
  3: 'large_pose',
  4: 'medium_zoom_in',
  5: 'large_zoom_in',
}


@dataclasses.dataclass(frozen=True)
class LandmarkSet:
  """Names of the N slots and what follows from them.

  Attributes:
    names: N names of words with underscores between them.
    top: The words in the names of the upper body's landmarks.
    slots: Clothes type code -> the slots that its annotation rows fill, in the
      order of the rows' triples.
    sticks: The sticks of PCP by name: the landmarks of one end and those of the
      other end. An end of two landmarks is the point midway between them.
    sigmas: N constants of COCO's OKS; () if none are known.
    swaps: The pairs of names that change places in a mirrored image; () if
      there are none. None takes the pairs that the names tell (`mirror_names`).
    parts: Partitions for PCLoss, name -> the landmarks of each part, beside or
      instead of those that words tell.
    types: Clothes type code -> its name.
    norm: The usual normaliser of NE, see `metrics.normaliser`.
    norm_pairs: Clothes type code -> the two landmarks whose distance is the
      normaliser 'keypair'.
    skeleton: Pairs of names that pictures join by a line.
    chains: Chains of names along the body or the garment, see `grammars`; ()
      takes the lines of the skeleton.
  """

  names: tuple[str, ...]
  top: tuple[str, ...] = ()
  slots: dict[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)
  sticks: dict[str, tuple] = dataclasses.field(default_factory=dict)
  sigmas: tuple[float, ...] = ()
  swaps: tuple[tuple[str, str], ...] | None = None
  parts: dict[str, tuple[tuple[str, ...], ...]] = dataclasses.field(
    default_factory=dict
  )
  types: dict[int, str] = dataclasses.field(default_factory=dict)
  norm: str = 'bbox_wh'
  norm_pairs: dict[int, tuple[str, str]] = dataclasses.field(
    default_factory=dict
  )
  skeleton: tuple[tuple[str, str], ...] = ()
  chains: tuple[tuple[str, ...], ...] = ()

  @property
  def num_landmarks(self) -> int:
    """N."""
    return len(self.names)

  @functools.cached_property
  def _partners(self) -> list[mirror_names.Partner]:
    if self.swaps is None:
      return mirror_names.partners(self.names)
    told = [mirror_names.word_side(name) for name in self.names]
    found = [mirror_names.Partner(i, side) for i, side in enumerate(told)]
    for pair in self.swaps:
      a, b = sorted(map(self.names.index, pair))
      side = told[a] or _OPPOSITE.get(told[b], 'left')
      found[a] = mirror_names.Partner(b, side)
      found[b] = mirror_names.Partner(a, told[b] or _OPPOSITE[side])
    return found

  @functools.cached_property
  def flip(self) -> np.ndarray:
    """(N,) The slot that takes each slot's place when the image is mirrored.

    Raises:
      InputError: A landmark is called left or right and has no partner, and the
        pairs are not declared.
    """
    if self.swaps is None:
      for slot, (partner, side) in enumerate(self._partners):
        if side and partner == slot:
          name = self.names[slot]
          other = printable(mirror_names.mirrored_name(name), 60)
          raise InputError(
            f"The landmark '{printable(name, 60)}' has no partner '{other}' "
            'that takes its place in a mirrored image; there are '
            f'{printable(", ".join(self.names), 1000)}.'
          )
    return np.array([partner.slot for partner in self._partners], int)

  @property
  def sides(self) -> tuple[str, ...]:
    """N of 'left', 'right' and 'middle'.

    A name that tells its side has it. Of a declared pair whose names tell
    nothing, the landmark in the lower slot is the left one.
    """
    return tuple(partner.side or 'middle' for partner in self._partners)

  @property
  def pairs(self) -> np.ndarray:
    """(P, 2) The slots, left and right, of landmarks that have a partner.

    Raises:
      InputError: As for `flip`.
    """
    found = [
      (partner, slot) if self.sides[slot] == 'right' else (slot, partner)
      for slot, partner in enumerate(self.flip.tolist())
      if slot < partner
    ]
    return np.array(found, np.int64).reshape(-1, 2)

  @property
  def pairs_in_words(self) -> str:
    """The pairs, for messages; 'none' if there are none."""
    names = [f'{self.names[a]}-{self.names[b]}' for a, b in self.pairs]
    return ', '.join(names) or 'none'

  @property
  def partitions(self) -> dict[str, tuple[np.ndarray, ...]]:
    """The slots of the parts that PCLoss compares within (docs/methods.md 4.4).

    `whole`; `skeleton`: left and right, a landmark without a side is in both,
    or one part if no landmark has a side;
    `top_bottom`, if the upper body's landmarks are known; and those of `parts`.

    Raises:
      InputError: A landmark has no partner.
    """
    upper = [not set(n.split('_')).isdisjoint(self.top) for n in self.names]
    sides, top = np.array(self.sides), np.array(upper)
    slots = lambda *masks: tuple(map(np.flatnonzero, masks))
    partitions = {
      'whole': slots(np.full(self.num_landmarks, True)),
      'skeleton': slots(sides != 'right', sides != 'left'),
    }
    if not self.pairs.size:  # both would be the whole set, counted twice
      partitions['skeleton'] = partitions['whole']
    if top.any():
      partitions['top_bottom'] = slots(top, ~top)
    for name, parts in self.parts.items():
      indices = lambda part: np.array([self.names.index(x) for x in part])
      partitions[name] = tuple(map(indices, parts))
    return partitions

  @property
  def grammars(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Chains of slots along which FGN passes messages (docs/methods.md 3.4).

    First those of the kinematic grammar, along the body or the garment; then
    those of the symmetry grammar, from left to right. A landmark of neither is
    a chain of its own. A grammar without chains is left out.

    Raises:
      InputError: A chain names an unknown landmark, or one twice, or a landmark
        has no partner.
    """
    kinematic = []
    for chain in self.chains or self.skeleton:
      unknown = [name for name in chain if name not in self.names]
      if unknown or len({*chain}) < len(chain):
        raise InputError(
          f'The chain {"-".join(chain)} must be of different landmarks; there '
          f'are {printable(", ".join(self.names), 1000)}.'
        )
      kinematic.append(tuple(map(self.names.index, chain)))
    symmetry = tuple(map(tuple, self.pairs.tolist()))
    linked = {slot for chain in (*kinematic, *symmetry) for slot in chain}
    alone = {*range(self.num_landmarks)} - linked
    kinematic += [(slot,) for slot in sorted(alone)]
    return tuple(filter(None, (tuple(kinematic), symmetry)))

  def of_type(self, code: int) -> 'LandmarkSet':
    """The set of the landmarks that one clothes type has.

    Args:
      code: A key of `slots`.
    """
    slots = self.slots[code]
    names = tuple(self.names[slot] for slot in slots)
    there = lambda pairs: tuple(p for p in pairs if {*p} <= {*names})
    parts = {
      title: tuple(
        tuple(name for name in part if name in names) for part in parts
      )
      for title, parts in self.parts.items()
    }
    chains = (tuple(n for n in chain if n in names) for chain in self.chains)
    return dataclasses.replace(
      self,
      names=names,
      slots={code: tuple(range(len(slots)))},
      sticks={
        title: ends
        for title, ends in self.sticks.items()
        if {name for end in ends for name in end} <= {*names}
      },
      sigmas=tuple(self.sigmas[slot] for slot in slots) if self.sigmas else (),
      swaps=None if self.swaps is None else there(self.swaps),
      parts={title: found for title, found in parts.items() if all(found)},
      types={code: self.types[code]},
      norm_pairs={
        key: pair for key, pair in self.norm_pairs.items() if key == code
      },
      skeleton=there(self.skeleton),
      chains=tuple(chain for chain in chains if len(chain) > 1),
    )

  def to_dict(self) -> dict:
    """The set as JSON can hold it, with the version of this form."""
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    # Through JSON: its keys are text, its tuples are lists.
    return json.loads(json.dumps({'version': VERSION, **fields}))

  @classmethod
  def from_dict(cls, value: Any, place: str) -> 'LandmarkSet':
    """The set that `to_dict` wrote.

    Args:
      value: What JSON holds, of any type.
      place: The file and field that it comes from, for messages.

    Raises:
      InputError: A field is missing or wrong; it names place and field.
    """
    return _parsed(_Fields(value, place))


class _Fields:
  """The fields of a JSON object, checked one by one.

  Args:
    value: The object, of any type.
    place: The file and field that it comes from, for messages.
  """

  def __init__(self, value: Any, place: str):
    self.place = place
    if not isinstance(value, dict):
      raise InputError(f'{place}: must be an object')
    self._value = value

  def get(
    self,
    name: str,
    valid: Callable[[Any], bool],
    what: str,
    default: Any = None,
  ) -> Any:
    """The value of a field.

    Args:
      name: The name of the field.
      valid: A function that tells whether the value is valid.
      what: What a valid value is, for the message.
      default: The value of a field that older versions did not write; None if
        the field must be there.

    Raises:
      InputError: The field is missing or not valid.
    """
    if name not in self._value and default is not None:
      return default
    if name not in self._value:
      raise InputError(f'{self.place}.{name}: is missing, must be {what}')
    value = self._value[name]
    if not valid(value):
      shown = printable(repr(value), 60)
      raise InputError(f'{self.place}.{name}: is {shown}, must be {what}')
    return value


def _parsed(fields: _Fields) -> LandmarkSet:
  """The landmark set of `LandmarkSet.to_dict`'s fields."""
  fields.get('version', lambda v: v == VERSION, f'{VERSION}')
  is_text = lambda v: isinstance(v, str) and v != ''
  texts = lambda v: isinstance(v, list) and all(map(is_text, v))
  distinct = lambda v: texts(v) and len({*v}) == len(v)
  names = fields.get('names', lambda v: distinct(v) and v, 'different names')
  known = lambda v: texts(v) and {*v} <= {*names}
  pair = lambda v: known(v) and len(v) == 2 and v[0] != v[1]
  pairs = lambda v: isinstance(v, list) and all(map(pair, v))
  once = lambda v: pairs(v) and distinct([name for each in v for name in each])
  number = lambda v: isinstance(v, int | float) and 0 < v < 1e9
  each = lambda key, entry: (
    lambda v: (
      isinstance(v, dict)
      and all(key(k) and entry(value) for k, value in v.items())
    )
  )
  code = lambda k: k.isascii() and k.isdigit() and len(k) < 10
  slot = lambda v: type(v) is int and 0 <= v < len(names)
  listed = lambda entry: (
    lambda v: isinstance(v, list) and v and all(map(entry, v))
  )
  ends = lambda v: listed(listed(is_text))(v) and len(v) == 2
  swaps = fields.get(
    'swaps', lambda v: v is None or once(v), 'null or pairs of names'
  )
  by_code = lambda found: {int(key): value for key, value in found.items()}
  types = fields.get('types', each(code, is_text), 'names by number')
  slots = fields.get(
    'slots',
    each(
      lambda k: k in types, lambda v: listed(slot)(v) and len({*v}) == len(v)
    ),
    'lists of different slots by the number of a type',
  )
  sigmas = fields.get(
    'sigmas',
    lambda v: v == [] or (listed(number)(v) and len(v) == len(names)),
    'a number above 0 for each landmark, or none',
  )
  sticks = fields.get(
    'sticks',
    each(is_text, lambda v: ends(v) and all(map(known, v))),
    'two ends by name',
  )
  parts = fields.get(
    'parts',
    each(is_text, listed(listed(lambda v: v in names))),
    'lists of names',
  )
  norm_pairs = fields.get('norm_pairs', each(code, pair), 'pairs by number')
  chain = lambda v: known(v) and distinct(v) and len(v) > 1
  chains = fields.get(
    'chains',
    lambda v: isinstance(v, list) and all(map(chain, v)),
    'lists of different names',
    default=(),
  )
  return LandmarkSet(
    names=tuple(names),
    top=tuple(fields.get('top', texts, 'a list of words')),
    slots={key: tuple(value) for key, value in by_code(slots).items()},
    sticks={name: tuple(map(tuple, value)) for name, value in sticks.items()},
    sigmas=tuple(sigmas),
    swaps=swaps if swaps is None else tuple(map(tuple, swaps)),
    parts={name: tuple(map(tuple, value)) for name, value in parts.items()},
    types=by_code(types),
    norm=fields.get('norm', is_text, "a name of metrics' normalisers"),
    norm_pairs={key: tuple(v) for key, v in by_code(norm_pairs).items()},
    skeleton=tuple(map(tuple, fields.get('skeleton', pairs, 'pairs of names'))),
    chains=tuple(map(tuple, chains)),
  )


def has_position(visibility: Any) -> Any:
  """Marks the landmarks that have coordinates: visible or occluded ones.

  Args:
    visibility: Visibility codes, an integer array of any shape (NumPy or JAX).

  Returns:
    A boolean array of the same shape.
  """
  return (visibility == VISIBLE) | (visibility == OCCLUDED)


def features(num_landmarks: int = 8):
  """The TFDS features of a record; every dataset builder writes exactly these.

  * `id`: A name that is unique within the data set and does not change, for
    example the image's relative path.
  * `image`: The encoded image file: a JPEG, or another kind that Pillow reads.
  * `box`: (x1, y1, x2, y2) of the clothing item in image pixels.
  * `landmarks`: (N, 2), (x, y) in image pixels; (0, 0) where the visibility is
    TRUNCATED or ABSENT.
  * `visibility`: (N,) visibility codes.
  * `clothes_type`, `variation`: Codes; 0 where not known.
  * `item_id`: A name that all photos of one garment share; '' if not known.
  * `attributes`: 1 if the item has the attribute, -1 if not, 0 if not known;
    the names are in the builder's metadata under `attribute_names`.
  * `score`: The score of the detector that found the box; 1 for an annotated
    box.

  Args:
    num_landmarks: N.
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
