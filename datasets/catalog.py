"""The data sets: landmarks, source, builder and evaluation splits."""

import contextlib
import dataclasses
import textwrap
from typing import NamedTuple

from fld_jax import landmark_sets, schema
from fld_jax.errors import InputError

LANDMARK_SETS = {
  'deepfashion': landmark_sets.FASHION_8,
  'fld': landmark_sets.FASHION_8,
  'in_shop': landmark_sets.FASHION_8,
  'consumer_to_shop': landmark_sets.FASHION_8,
  'synthetic': landmark_sets.FASHION_8,
  'coco_keypoints': None,  # the files say
  'fashion_ai': landmark_sets.FASHION_AI_24,
  'lsp': landmark_sets.LSP_14,
  'lspet': landmark_sets.LSP_14,
  'parse': landmark_sets.LSP_14,
}


@dataclasses.dataclass(frozen=True)
class Source:
  """Where the original files of a dataset come from, and how they lie.

  Attributes:
    address: where to ask for them.
    tree: the folder, line by line.
  """

  address: str
  tree: str


_DEEPFASHION = 'http://mmlab.ie.cuhk.edu.hk/projects/DeepFashion'
SOURCES = {
  'deepfashion': Source(
    f'{_DEEPFASHION}/AttributePrediction.html',
    """
    Img/img/FOLDER/img_00000001.jpg ...
    Anno/list_bbox.txt               (or in Anno_coarse/, Anno_fine/)
    Anno/list_landmarks.txt
    Anno/list_attr_cloth.txt, Anno/list_attr_img.txt   (both or neither)
    Eval/list_eval_partition.txt
    or, with --config.dataset.labels=fine, of train, val and test any:
    Anno_fine/train.txt, train_bbox.txt, train_landmarks.txt
    Anno_fine/train_cate.txt, list_category_cloth.txt  (all or none)
    Anno_fine/train_attr.txt, list_attr_cloth.txt      (all or none)
    """,
  ),
  'fld': Source(
    f'{_DEEPFASHION}/LandmarkDetection.html',
    """
    Img/img_00000001.jpg ...
    Anno/list_bbox.txt
    Anno/list_landmarks.txt
    Eval/list_eval_partition.txt
    """,
  ),
  'in_shop': Source(
    f'{_DEEPFASHION}/InShopRetrieval.html',
    """
    Img/img/...jpg
    Anno/list_bbox_inshop.txt
    Anno/list_landmarks_inshop.txt
    Anno/list_item_inshop.txt        (need not be there)
    Anno/list_attr_cloth.txt, Anno/list_attr_items.txt (both or neither)
    Eval/list_eval_partition.txt
    """,
  ),
  'consumer_to_shop': Source(
    f'{_DEEPFASHION}/Consumer2ShopRetrieval.html',
    """
    Img/img/...jpg
    Anno/list_bbox_consumer2shop.txt
    Anno/list_landmarks_consumer2shop.txt
    Anno/list_item_consumer2shop.txt (or list_items_...; need not be there)
    Anno/list_attr_cloth.txt, Anno/list_attr_items.txt (both or neither)
    Eval/list_eval_partition.txt
    """,
  ),
  'coco_keypoints': Source(
    'https://cocodataset.org/#download (or your own files)',
    """
    annotations/train.json, val.json, test.json   (one or more of them; other
                                places: config.dataset.annotations)
    images/FILE_NAME ...        (other places: config.dataset.images)
    COCO 2017's own layout, annotations/person_keypoints_val2017.json and
    val2017/, is --dataset=coco, or dataset=coco in a config's argument.
    """,
  ),
  'fashion_ai': Source(
    'https://tianchi.aliyun.com/competition/entrance/231648',
    """
    ANY_FOLDER/ANY_NAME.csv     (with the 24 landmark columns)
    ANY_FOLDER/Images/CATEGORY/HASH.jpg ...
    """,
  ),
  'lsp': Source(
    'http://sam.johnson.io/research/lsp.html',
    """
    joints.mat
    images/im0001.jpg ... im2000.jpg
    """,
  ),
  'lspet': Source(
    'http://sam.johnson.io/research/lspet.html',
    """
    joints.mat
    images/im00001.jpg ... im10000.jpg
    """,
  ),
  'parse': Source(
    'https://www.ics.uci.edu/~dramanan/papers/parse/',
    """
    labels.mat
    im0001.jpg ... im0305.jpg
    """,
  ),
}


def landmark_set(config) -> schema.LandmarkSet:
  """The landmarks that a config asks for.

  Args:
    config: see `prepared_builder`; `clothes_type`, see `only_type`.

  Returns:
    Those of the dataset; with a clothes type, those that it has.

  Raises:
    InputError: for an unknown name or clothes type; for coco_keypoints,
      anything wrong with the files' category.
  """
  whole, only = whole_set(config), selected_type(config)
  return whole if only is None else whole.of_type(only.code)


class ClothesType(NamedTuple):
  """A type of clothes, of a dataset where each has landmarks of its own.

  Attributes:
    name: for example 'upper'.
    code: in records.
    slots: of the landmarks that it has.
  """

  name: str
  code: int
  slots: tuple[int, ...]


def selected_type(config) -> ClothesType | None:
  """The one clothes type that a config asks for, None for all.

  Args:
    config: `name`; `clothes_type`, the name of one, or '' for all.

  Raises:
    InputError: for an unknown name, or a dataset whose types have not each
      their own landmarks.
  """
  if not config.clothes_type:
    return None
  whole = whole_set(config)
  if not whole.slots:
    raise InputError(
      f"config.dataset.clothes_type is '{config.clothes_type}', and "
      f"'{config.name}' has the same landmarks for all types, if it has types: "
      "leave it ''.",
      'config',
    )
  codes = {whole.types[code]: code for code in whole.slots}
  if config.clothes_type not in codes:
    raise InputError(
      f"config.dataset.clothes_type is '{config.clothes_type}', valid values "
      f"are '' for all, {', '.join(codes)}.",
      'config',
    )
  code = codes[config.clothes_type]
  return ClothesType(config.clothes_type, code, whole.slots[code])


def whole_set(config) -> schema.LandmarkSet:
  """The landmarks of all clothes types, see `landmark_set`."""
  if config.name not in LANDMARK_SETS:
    raise InputError(
      f"config.dataset.name is '{config.name}', valid values are "
      f'{", ".join(LANDMARK_SETS)}.',
      'config',
    )
  if LANDMARK_SETS[config.name]:
    return LANDMARK_SETS[config.name]
  from fld_jax.datasets.coco import folder

  with instructions(config.name):
    check_manual_dir(config)
    return folder.read_landmark_set(config.manual_dir, config.annotations)


@contextlib.contextmanager
def instructions(name: str):
  """Where files are missing, says where to get them and how they shall lie."""
  try:
    yield
  except InputError as error:
    if error.kind != 'missing':
      raise
    place = SOURCES[name]
    tree = textwrap.indent(textwrap.dedent(place.tree).strip('\n'), '  ')
    raise InputError(
      f'{error}.\n{name} is to be had at {place.address}.\nThe folder:\n{tree}',
      'missing',
    ) from error


def check_manual_dir(config) -> None:
  """Raises InputError if a config names no folder of original files."""
  if not config.manual_dir:
    raise InputError(
      "config.dataset.manual_dir is empty: give the dataset's folder, "
      '--manual_dir=FOLDER',
      'missing',
    )
