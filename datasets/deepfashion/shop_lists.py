"""The lists that only DeepFashion's two retrieval benchmarks have."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fld_jax.datasets.common.rows import SPLITS
from fld_jax.errors import Findings, InputError
from fld_jax.files.text_lists import columns_error, error, one_of, read_rows

IN_SHOP_SPLITS = ('train', 'query', 'gallery')
CONSUMER, SHOP = 'image_pair_name_1', 'image_pair_name_2'


class Listed(NamedTuple):
  """Where an image stands in list_eval_partition.txt.

  Attributes:
    item_id: The name of the image's garment.
    status: The row's evaluation_status.
    field: The column of the image: image_name, CONSUMER or SHOP.
  """

  item_id: str
  status: str
  field: str


def read_images(
  path: Path, findings: Findings
) -> Iterator[tuple[str, int, Listed | None]]:
  """Reads In-shop's list_eval_partition.txt.

  Args:
    path: The path of the list.
    findings: The collector of the rows' mistakes.

  Yields:
    (image, line number, its place); the place of a mistaken row is None.

  Raises:
    InputError: Line 1 or 2 is wrong.
  """
  header = ['image_name', 'item_id', 'evaluation_status']
  for image, line, value in _read_partition(
    path, header, IN_SHOP_SPLITS, findings
  ):
    yield image, line, value and Listed(*value[1:], header[0])


def read_pairs(
  path: Path, findings: Findings
) -> Iterator[tuple[str, int, Listed]]:
  """Reads Consumer-to-shop's list_eval_partition.txt.

  Args:
    path: The path of the list.
    findings: The collector of the rows' mistakes.

  Yields:
    (image, line number, its place), two a row: an image comes as often as it
    stands in a pair. Mistaken rows are left out.

  Raises:
    InputError: Line 1 or 2 is wrong.
  """
  header = [CONSUMER, SHOP, 'item_id', 'evaluation_status']
  for _, line, value in _read_partition(path, header, SPLITS, findings):
    if value:
      *images, item_id, status = value
      for field, image in zip((CONSUMER, SHOP), images, strict=True):
        yield image, line, Listed(item_id, status, field)


def _read_partition(
  path: Path, header: list[str], splits: Sequence[str], findings: Findings
) -> Iterator[tuple[str, int, list[str] | None]]:
  """Yields (image, line number, fields), of which the last is a valid split."""

  def parse(line: int, fields: list[str]) -> list[str]:
    """The fields of a row, of which the last is a valid split."""
    if len(fields) != len(header):
      valid = f'{len(header)}, {" ".join(header)}'
      raise columns_error(path, line, fields, valid)
    one_of(path, line, header[-1], fields[-1], splits)
    return fields

  return read_rows(path, header, findings, parse)


def other_place(
  path: Path, name: str, line: int, found: Listed, first: int, known: Listed
) -> InputError | None:
  """The mistake that an image stands in two pairs that contradict each other.

  Args:
    path: The path of the list.
    name: The image.
    line: The line number of the later pair.
    found: The image's place in the later pair.
    first: The line number of the image's first pair.
    known: The image's place in its first pair.

  Returns:
    The mistake; None if both places have one item, one split and one column.
  """
  if found.field != known.field:
    problem = (
      f"'{name}' is in line {first} as {known.field}, must always stand there"
    )
    return error(path, line, found.field, problem, 'split')
  for field, here, there in (
    ('item_id', found.item_id, known.item_id),
    ('evaluation_status', found.status, known.status),
  ):
    if here != there:
      problem = f"is '{here}', must be '{there}': '{name}' is in line {first}"
      return error(path, line, field, problem, 'split')
  return None


def read_items(
  path: Path, findings: Findings
) -> Iterator[tuple[str, int, bool | None]]:
  """Reads list_item_*.txt, which has no column names.

  Args:
    path: The path of the list.
    findings: The collector of the rows' mistakes.

  Returns:
    An iterator of (item, line number, True), with None in a mistaken row.

  Raises:
    InputError: Line 1 is wrong.
  """

  def parse(line: int, fields: list[str]) -> bool:
    """The value of every row that has one field."""
    if len(fields) != 1:
      raise columns_error(path, line, fields, '1, item_id')
    return True

  return read_rows(path, [], findings, parse)
