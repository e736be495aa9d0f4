"""Which object each result of a file of predictions is of.

A result that names an example is of that example. Any other names an image: by
its `file_name`, as `image_names` understands it; without one by its `image_id`,
which is that of the data set's file or, as Ultralytics has it, the image's name
without its ending, as text or as a number. On an image with one object and one
result these belong together. Otherwise results and objects of an image are tied
by their boxes, one to one, so that the sum of the boxes' intersections over
unions is largest, and at least LEAST_IOU of each pair.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping

import numpy as np

from fld_jax.errors import InputError, printable
from fld_jax.evaluation.prediction_files import Results
from fld_jax.files import coco
from fld_jax.files.image_names import ImageNames

# Boxes that overlap by less are of different objects.
LEAST_IOU = 0.3
# What the same category, and the same number, add to the overlap: they decide
# between boxes that are nearly or exactly equal.
_SAME_CATEGORY, _SAME_NUMBER = 0.05, 0.01


@dataclasses.dataclass(frozen=True)
class Objects:
  """The objects of a split, which results can be of.

  Attributes:
    images: Key of an image -> its name.
    ids: The ids of the m objects.
    image_keys: The m keys of the objects' images.
    category_ids: The m ids of the objects' categories, None where not known.
    boxes: The m boxes (4,) x1, y1, x2, y2, None where there is none.
    by_image_id: Whether the keys of the images are what a result's `image_id`
      names.
    examples: The ids of the objects that are examples.
  """

  images: Mapping[Hashable, str]
  ids: list[str]
  image_keys: list
  category_ids: list
  boxes: list
  by_image_id: bool
  examples: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Ties:
  """What the n results of a file are of.

  Attributes:
    ids: The n ids of objects, None for a result that is tied to none.
    image_keys: The n keys of images, None for a result whose image is not
      known.
    is_named: Whether each of the n results itself names its object.
    unknown: The names of images or examples that are none of the split.
  """

  ids: list[str | None]
  image_keys: list
  is_named: list[bool]
  unknown: list[str]

  def report(self, results: Results, objects: Objects) -> list[str]:
    """Sentences about the results that count for nothing.

    Args:
      results: The results.
      objects: The objects.
    """
    others = [
      i for i in self.ids if i is not None and i not in objects.examples
    ]
    free = [
      box
      for name, key, box in zip(
        self.ids, self.image_keys, results.boxes, strict=True
      )
      if name is None and key is not None
    ]
    without = sum(box is None for box in free)
    lines = []
    if others:
      lines.append(
        f'{len(others)} results are of objects that are no examples (a crowd, '
        'or no labelled landmark)'
      )
    if len(free) - without:
      lines.append(
        f'{len(free) - without} results have a box that no object of their '
        f'image has left for them (an overlap of at least {LEAST_IOU:g})'
      )
    if without:
      lines.append(
        f'{without} results without bbox are on images that have several '
        'objects or results'
      )
    return lines


def tie(results: Results, objects: Objects) -> Ties:
  """Finds out which object each result is of.

  Args:
    results: The n results.
    objects: The objects of the split.

  Raises:
    InputError: A result names no image, or one name is of several images.
  """
  ids: list = [None] * len(results)
  known = set(objects.ids)
  image_of = dict(zip(objects.ids, objects.image_keys, strict=True))
  for i, names in enumerate(zip(results.ids, results.names, strict=True)):
    ids[i] = next((name for name in names if name in known), None)
  is_named = [name is not None for name in ids]
  left = [i for i, named in enumerate(is_named) if not named]
  found, unknown = _images(results, objects, left)
  keys = [found.get(i, image_of.get(name)) for i, name in enumerate(ids)]
  taken = set(filter(None, ids))
  on_image = defaultdict(lambda: ([], []))
  for i in found:
    on_image[found[i]][0].append(i)
  for j, key in enumerate(objects.image_keys):
    if key in on_image and objects.ids[j] not in taken:
      on_image[key][1].append(j)
  for mine, theirs in on_image.values():
    for i, j in _pairs(results, objects, mine, theirs):
      ids[i] = objects.ids[j]
  return Ties(ids, keys, is_named, unknown)


def _images(
  results: Results, objects: Objects, indices: list[int]
) -> tuple[dict[int, Hashable], list[str]]:
  """The image of each of some results, and the names that are of none."""
  names = ImageNames(objects.images)
  found: dict = {}
  unknown: dict = {}
  by_id = []
  for i in indices:
    # An id of a detected box is the image's name and a number.
    texts = [t for t in (results.names[i], results.ids[i]) if t is not None]
    texts += [t.rpartition('#')[0] for t in texts if '#' in t]
    if not texts:
      by_id.append(i)
      continue
    several = next(filter(None, map(names.find, texts)), [])
    key = coco.find_id(results.image_ids[i], dict.fromkeys(several))
    if len(several) == 1:
      found[i] = several[0]
    elif not several:
      unknown[texts[0]] = None
    elif objects.by_image_id and key in several:
      found[i] = key
    else:
      raise InputError(
        f"{results.path}, {results.places[i]}, file_name: '"
        f"{printable(texts[0])}' could be {len(several)} images, like '"
        f"{printable(objects.images[several[0]])}' and '"
        f"{printable(objects.images[several[1]])}', must be one image's name"
      )
  of_ids, strangers = _images_by_id(results, objects, by_id, names)
  return found | of_ids, [*unknown, *strangers]


def _images_by_id(
  results: Results, objects: Objects, indices: list[int], names: ImageNames
) -> tuple[dict[int, Hashable], list[str]]:
  """The images of results that only have an `image_id`.

  All ids of a file are understood in one way: as those of the data set's file,
  or as names without their endings.
  """
  found_by = {'id': {}, 'name': {}}
  for i in indices:
    value = coco.as_id(results.image_ids[i])
    if value is None:
      given = results.image_ids[i]
      what = 'is missing' if given is None else f'is {coco.short(given)}'
      example = next(iter(objects.images.values()), '')
      raise InputError(
        f'{results.path}, {results.places[i]}, '
        + (
          f"file_name: {what}, must be the name of an image, like '"
          f"{printable(example)}', or the id of an example"
          if given is None
          else f'image_id: {what}, must be a whole number or a string'
        )
      )
    if objects.by_image_id:
      key = coco.find_id(value, objects.images)
      if key in objects.images:
        found_by['id'][i] = key
    several = names.find(value) if isinstance(value, str) else []
    if not several and str(value).isdigit():
      several = names.find_number(int(value))
    if len(several) == 1:
      found_by['name'][i] = several[0]
  best = max(found_by, key=lambda kind: len(found_by[kind]))
  found = found_by[best]
  unknown = {str(results.image_ids[i]): None for i in indices if i not in found}
  return found, list(unknown)


def _pairs(
  results: Results, objects: Objects, mine: list[int], theirs: list[int]
) -> list[tuple[int, int]]:
  """The pairs of a result and an object of one image.

  Args:
    results: The results.
    objects: The objects.
    mine: The indices of the image's results.
    theirs: The indices of its objects that no result has named.
  """
  if len(mine) == len(theirs) == 1:
    return [(mine[0], theirs[0])]
  mine = [i for i in mine if results.boxes[i] is not None]
  theirs = [j for j in theirs if objects.boxes[j] is not None]
  if not mine or not theirs:
    return []
  from scipy.optimize import linear_sum_assignment  # 0.2 s to import

  overlaps = iou(
    np.array([results.boxes[i] for i in mine]),
    np.array([objects.boxes[j] for j in theirs]),
  )
  is_near = overlaps >= LEAST_IOU
  same = lambda a, b: (
    _SAME_CATEGORY
    * (results.category_ids[mine[a]] == objects.category_ids[theirs[b]])
    + _SAME_NUMBER
    * objects.ids[theirs[b]].endswith(f'#{results.numbers[mine[a]]}')
  )
  gain = np.zeros_like(overlaps)
  for a, b in np.argwhere(is_near):
    gain[a, b] = overlaps[a, b] + same(a, b)
  rows, columns = linear_sum_assignment(gain, maximize=True)
  return [
    (mine[a], theirs[b])
    for a, b in zip(rows, columns, strict=True)
    if is_near[a, b]
  ]


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Intersections over unions of boxes.

  Args:
    first: (a, 4) boxes x1, y1, x2, y2.
    second: (b, 4) boxes.

  Returns:
    (a, b) fractions; 0 where neither box has an area.
  """
  low = np.maximum(first[:, None, :2], second[None, :, :2])
  high = np.minimum(first[:, None, 2:], second[None, :, 2:])
  shared = np.clip(high - low, 0, None).prod(axis=-1)
  area = lambda boxes: np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1)
  union = area(first)[:, None] + area(second)[None] - shared
  return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def check(results: Results, ties: Ties, objects: Objects, split: str) -> None:
  """Refuses all but exactly one result for each example.

  Args:
    results: The results.
    ties: What they are of.
    objects: The objects of the split.
    split: The split's name, for messages.

  Raises:
    InputError: A result is of no example, or an example has none or several.
  """
  counts = Counter(filter(None, ties.ids))
  examples = [name for name in objects.ids if name in objects.examples]
  mistakes = {
    'predictions are of no example': ties.unknown,
    'examples have several predictions': [i for i in counts if counts[i] > 1],
    'examples have no prediction': [i for i in examples if i not in counts],
  }
  for what, names in mistakes.items():
    if names:
      first = ', '.join(f"'{printable(name)}'" for name in names[:3])
      rest = [
        f'{len(others)} {kind}'
        for kind, others in mistakes.items()
        if others and kind != what
      ]
      rest += ties.report(results, objects)
      raise InputError(
        f"{results.path}: {len(names)} {what} of the split '{split}': {first}"
        f'{" and so on" if len(names) > 3 else ""}. Each of its '
        f'{len(examples)} examples must have one, by file_name or id: the '
        f"example's, like '{printable(examples[0])}', or the image's and, "
        'where it has several objects, bbox'
        + ''.join(f'; {line}' for line in rest)
      )
