"""The lists that only DeepFashion's two retrieval benchmarks have."""

from typing import NamedTuple

from fld_jax.datasets.common.rows import SPLITS
from fld_jax.errors import Findings, InputError
from fld_jax.files.text_lists import columns_error, error, one_of, read_rows

IN_SHOP_SPLITS = ('train', 'query', 'gallery')
CONSUMER, SHOP = 'image_pair_name_1', 'image_pair_name_2'


class Listed(NamedTuple):
  """Where an image stands in list_eval_partition.txt.

  Attributes:
    item_id: of its garment.
    status: evaluation_status.
    field: the column of the image: image_name, CONSUMER or SHOP.
  """

  item_id: str
  status: str
  field: str


def read_images(path, findings: Findings):
  """In-shop's list_eval_partition.txt -> (image, line, Listed)."""
  header = ['image_name', 'item_id', 'evaluation_status']
  for image, line, value in _read_partition(
    path, header, IN_SHOP_SPLITS, findings
  ):
    yield image, line, value and Listed(*value[1:], header[0])


def read_pairs(path, findings: Findings):
  """Consumer-to-shop's -> (image, line, Listed), two a row.

  An image comes as often as it stands in a pair; a mistaken row does not.
  """
  header = [CONSUMER, SHOP, 'item_id', 'evaluation_status']
  for _, line, value in _read_partition(path, header, SPLITS, findings):
    if value:
      *images, item_id, status = value
      for field, image in zip((CONSUMER, SHOP), images, strict=True):
        yield image, line, Listed(item_id, status, field)


def _read_partition(path, header: list[str], splits, findings: Findings):
  """Yields (image, line, fields); the last field is one of `splits`."""

  def parse(line, fields):
    if len(fields) != len(header):
      valid = f'{len(header)}, {" ".join(header)}'
      raise columns_error(path, line, fields, valid)
    one_of(path, line, header[-1], fields[-1], splits)
    return fields

  return read_rows(path, header, findings, parse)


def other_place(
  path, name: str, line: int, found: Listed, first: int, known: Listed
) -> InputError | None:
  """The mistake that an image stands in two pairs that contradict each other.

  Args:
    path: of the list.
    name: the image.
    line: of the later pair.
    found: of that line.
    first: line of the image's first pair.
    known: of that line.

  Returns:
    None if both are of one item, one split and one column.
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


def read_items(path, findings: Findings):
  """list_item_*.txt, which has no column names -> (item, line, True)."""

  def parse(line, fields):
    if len(fields) != 1:
      raise columns_error(path, line, fields, '1, item_id')
    return True

  return read_rows(path, [], findings, parse)
