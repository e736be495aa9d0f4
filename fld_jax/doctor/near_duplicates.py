"""Images that look alike: perceptual hashes, compared exactly and all."""

from collections import Counter
from collections.abc import Iterator

import imagehash
import numpy as np
from PIL import Image

from fld_jax.doctor.row_index import RowIndex

# Bits of 64 in which the coarse hashes of "the same" picture may differ. Of 600
# DeepFashion images, saved again at quality 30 to 80 and 0.6 to 1.2 times the
# size, 599 differ in 4 or fewer.
MAX_DISTANCE = 4
# Bits of 256 in which the fine hashes may differ. Dresses before a white wall
# are within 4 bits of each other now and then. Of the pairs of those 6,000
# images that are, the same pictures differ in 0 to 26 bits here, others in 40
# to 112; the 600 saved again in 0 to 14.
MAX_FINE_DISTANCE = 32
SIDE = 64  # pixels of the small picture that the hashes are made of
# Grey levels. A picture in which there are fewer has no structure: its hash is
# rounding noise, all zeros or all ones, and would match every other such one.
FLAT_RANGE = 8
MAX_PAIRS = 1000  # that are listed
ROWS, COLUMNS = 64, 8192  # of a chunk of comparisons: 4 MiB, a cache's size


def hashes(image: Image.Image) -> tuple[int, bytes] | None:
  """Computes a coarse and a fine perceptual hash of a picture.

  `imagehash.phash`: which of the lowest frequencies of a small grey picture, 8
  x 8 and 16 x 16, are above their median.

  Args:
    image: A decoded image of any mode and size.

  Returns:
    0 to 2**64 - 1, and 32 bytes; None if the picture is of one colour, see
    FLAT_RANGE.
  """
  small = image.convert('L').resize((SIDE, SIDE), Image.Resampling.LANCZOS)
  low, high = small.getextrema()
  if high - low < FLAT_RANGE:
    return None
  coarse, fine = (
    np.packbits(imagehash.phash(small, side).hash).tobytes() for side in (8, 16)
  )
  return int.from_bytes(coarse, 'big'), fine


def is_same_picture(fine: bytes, other: bytes) -> bool:
  """Whether two fine hashes differ in no more than MAX_FINE_DISTANCE bits.

  Args:
    fine: The 32 bytes of one picture, see `hashes`.
    other: The 32 bytes of the other picture.
  """
  differ = int.from_bytes(fine, 'big') ^ int.from_bytes(other, 'big')
  return differ.bit_count() <= MAX_FINE_DISTANCE


def close_pairs(
  ours: np.ndarray, theirs: np.ndarray, max_distance: int = MAX_DISTANCE
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Compares each hash of one list with each of another.

  Args:
    ours: (n,) uint64 coarse hashes.
    theirs: (m,) uint64 coarse hashes.
    max_distance: The largest number of bits in which a pair may differ.

  Yields:
    (k,) indices into `ours`, (k,) into `theirs` and (k,) distances of some of
    the pairs, in an order that depends on the lists alone. Memory does not grow
    with n or m; the time does with their product, a second for 1.5e9 pairs.
  """
  differ = np.empty((ROWS, COLUMNS), np.uint64)
  bits = np.empty((ROWS, COLUMNS), np.uint8)
  close = np.empty((ROWS, COLUMNS), bool)
  for i in range(0, len(theirs), ROWS):
    rows = theirs[i : i + ROWS, None]
    for j in range(0, len(ours), COLUMNS):
      columns = ours[None, j : j + COLUMNS]
      part = np.s_[: rows.shape[0], : columns.shape[1]]
      np.bitwise_xor(rows, columns, out=differ[part])
      np.bitwise_count(differ[part], out=bits[part])
      np.less_equal(bits[part], max_distance, out=close[part])
      if close[part].any():
        row, column = np.nonzero(close[part])
        yield j + column, i + row, bits[part][row, column]


def find(index: RowIndex) -> dict:
  """Finds pairs of an image of train and one of another split that look alike.

  Equal files are not counted: they are more than alike.

  Args:
    index: The index, with the hashes of all images.

  Returns:
    A dict of `count`, the number of pairs; `by_distance`, the numbers of those
    of 0 bits and up; `images`, the number of images outside of train that are
    in a pair; `refused_by_fine_hash`, the number of pairs that have only the
    coarse hash in common; `flat_images`, the number of images of one colour,
    which are in no pair; and `pairs`, the closest MAX_PAIRS, each with its
    `distance`, the ids `train` and `other`, the `split` of the other and the
    `paths`.
  """
  ours, theirs = index.hashes(train=True), index.hashes(train=False)
  kept = [[] for _ in range(MAX_DISTANCE + 1)]
  counts = Counter()
  alike = np.zeros(len(theirs), bool)
  lists = (
    np.ascontiguousarray(images['hash']).view(np.uint64)
    for images in (ours, theirs)
  )
  for i, j, bits in close_pairs(*lists):
    images = ours['image'][i].tolist(), theirs['image'][j].tolist()
    for distance, place, *pair in zip(bits, j, *images, strict=True):
      digests, fine = zip(*map(index.digest_and_fine, pair), strict=True)
      if digests[0] == digests[1]:
        continue
      if not is_same_picture(*fine):
        counts['refused'] += 1
        continue
      counts[int(distance)] += 1
      alike[place] = True
      if len(kept[distance]) < MAX_PAIRS:
        kept[distance].append((int(distance), *pair))
  closest = [pair for pairs in kept for pair in pairs][:MAX_PAIRS]
  by_distance = [counts[bits] for bits in range(len(kept))]
  return {
    'count': sum(by_distance),
    'by_distance': by_distance,
    'images': int(alike.sum()),
    'refused_by_fine_hash': counts['refused'],
    'flat_images': index.num_flat(),
    'pairs': [_pair(index, *pair) for pair in closest],
  }


def _pair(index: RowIndex, bits: int, image: int, other_image: int) -> dict:
  """One of the `pairs` that `find` returns."""
  row, other = index.row_of(image, True), index.row_of(other_image, False)
  return {
    'distance': bits,
    'train': row.id,
    'split': other.split,
    'other': other.id,
    'paths': [row.path, other.path],
  }
