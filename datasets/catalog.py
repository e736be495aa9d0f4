"""The data sets: a row each says what fld_jax knows of one.

A new data set is a row of `DATASETS` and a folder beside this file that holds
its builder.
"""

import contextlib
import dataclasses
import pkgutil
import textwrap
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fld_jax import landmark_sets
from fld_jax.errors import InputError, printable
from fld_jax.schema import LandmarkSet


@dataclasses.dataclass(frozen=True)
class Source:
  """Where the original files of a data set come from.

  Attributes:
    address: The page that offers them.
    tree: The expected layout of the folder, line by line.
  """

  address: str
  tree: str


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A row of `DATASETS`.

  Builders and functions are named 'MODULE:NAME' and imported when they are
  needed: TensorFlow Datasets takes a second, which `--help` does not have.

  Attributes:
    landmarks: The landmark set; or, where the files say which landmarks there
      are, the name of a function of `config.dataset` that reads it from them.
    builder: The name of the class, a TFDS builder.
    settings: The fields of `config.dataset` that the builder takes by keyword,
      beside `data_dir`.
    source: Where the original files come from; None for rendered images, which
      need no `config.dataset.manual_dir`.
    eval_splits: The splits that a trained network is evaluated on by default.
    overrides: Fields of `config.dataset` whose default values this row changes.
      With `name` among them the row is another layout of that data set.
  """

  landmarks: LandmarkSet | str
  builder: str
  settings: tuple[str, ...] = ('manual_dir',)
  source: Source | None = None
  eval_splits: tuple[str, ...] = ('val',)
  overrides: dict[str, Any] = dataclasses.field(default_factory=dict)


_DEEPFASHION = 'http://mmlab.ie.cuhk.edu.hk/projects/DeepFashion'
DATASETS = {
  'synthetic': Dataset(
    landmarks=landmark_sets.FASHION_8,
    builder='fld_jax.datasets.synthetic.builder:Synthetic',
    settings=('sizes', 'seed'),
    eval_splits=('test',),
    # As many as are wished for can be rendered.
    overrides={'splits': {'train': 'train', 'tune': 'val'}},
  ),
  'deepfashion': Dataset(
    landmarks=landmark_sets.FASHION_8,
    builder='fld_jax.datasets.deepfashion.builders:Deepfashion',
    settings=('manual_dir', 'labels'),
    source=Source(
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
  ),
  'fld': Dataset(
    landmarks=landmark_sets.FASHION_8,
    builder='fld_jax.datasets.deepfashion.builders:Fld',
    source=Source(
      f'{_DEEPFASHION}/LandmarkDetection.html',
      """
      Img/img_00000001.jpg ...
      Anno/list_bbox.txt
      Anno/list_landmarks.txt
      Eval/list_eval_partition.txt
      """,
    ),
  ),
  'in_shop': Dataset(
    landmarks=landmark_sets.FASHION_8,
    builder='fld_jax.datasets.deepfashion.builders:InShop',
    eval_splits=('query',),
    source=Source(
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
  ),
  'consumer_to_shop': Dataset(
    landmarks=landmark_sets.FASHION_8,
    builder='fld_jax.datasets.deepfashion.builders:ConsumerToShop',
    source=Source(
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
  ),
  'coco_keypoints': Dataset(
    landmarks='fld_jax.datasets.coco.folder:configured_landmark_set',
    builder='fld_jax.datasets.coco.builder:CocoKeypoints',
    settings=('manual_dir', 'annotations', 'images', 'detections'),
    source=Source(
      'https://cocodataset.org/#download (or your own files)',
      """
      annotations/train.json, val.json, test.json   (one is enough)
      images/FILE_NAME ...
      Folders as CVAT, Label Studio, Roboflow and FiftyOne export them are found
      without a setting; config.dataset.annotations and images name others.
      COCO 2017's own layout, annotations/person_keypoints_val2017.json and
      val2017/, is --dataset=coco, or dataset=coco in a config's argument.
      """,
    ),
  ),
  'fashion_ai': Dataset(
    landmarks=landmark_sets.FASHION_AI_24,
    builder='fld_jax.datasets.fashion_ai.builder:FashionAi',
    source=Source(
      'https://tianchi.aliyun.com/competition/entrance/231648',
      """
      ANY_FOLDER/ANY_NAME.csv     (with the 24 landmark columns)
      ANY_FOLDER/Images/CATEGORY/HASH.jpg ...
      """,
    ),
  ),
  'lsp': Dataset(
    landmarks=landmark_sets.LSP_14,
    builder='fld_jax.datasets.pose.builders:Lsp',
    settings=('manual_dir', 'centric'),
    eval_splits=('test',),
    source=Source(
      'http://sam.johnson.io/research/lsp.html',
      """
      joints.mat
      images/im0001.jpg ... im2000.jpg
      """,
    ),
  ),
  'lspet': Dataset(
    landmarks=landmark_sets.LSP_14,
    builder='fld_jax.datasets.pose.builders:Lspet',
    settings=('manual_dir', 'centric'),
    # There is only train.
    eval_splits=('train[95%:]',),
    overrides={'splits': {'train': 'train[:90%]', 'tune': 'train[90%:95%]'}},
    source=Source(
      'http://sam.johnson.io/research/lspet.html',
      """
      joints.mat
      images/im00001.jpg ... im10000.jpg
      """,
    ),
  ),
  'parse': Dataset(
    landmarks=landmark_sets.LSP_14,
    builder='fld_jax.datasets.pose.builders:Parse',
    settings=('manual_dir', 'centric'),
    eval_splits=('test',),
    source=Source(
      'https://www.ics.uci.edu/~dramanan/papers/parse/',
      """
      labels.mat
      im0001.jpg ... im0305.jpg
      """,
    ),
  ),
}
# COCO 2017's own layout.
DATASETS['coco'] = dataclasses.replace(
  DATASETS['coco_keypoints'],
  overrides={
    'name': 'coco_keypoints',
    'annotations': 'annotations/person_keypoints_{split}2017.json',
    'images': '{split}2017',
  },
)


def names() -> list[str]:
  """The valid values of `config.dataset.name`."""
  return [key for key, row in DATASETS.items() if 'name' not in row.overrides]


def find(name: str) -> Dataset:
  """The row of a data set.

  Args:
    name: A value of `config.dataset.name`.

  Raises:
    InputError: There is no data set of this name.
  """
  if name not in names():
    raise InputError(
      f"config.dataset.name is '{name}', valid values are "
      f'{", ".join(names())}.',
      'config',
    )
  return DATASETS[name]


def names_with_files() -> list[str]:
  """The valid values of `config.dataset.name` that have original files."""
  return [name for name in names() if DATASETS[name].source]


def landmark_set(
  config: ConfigDict, known: LandmarkSet | None = None
) -> LandmarkSet:
  """The landmarks that a config asks for.

  Args:
    config: The config's part `dataset`.
    known: The landmarks of all clothes types, as a run's manifest holds them.
      Then no file of the data set is read.

  Returns:
    The landmark set of the data set, or of its one type of clothes if the
    config asks for one.

  Raises:
    InputError: The name or the clothes type is unknown, or files that say which
      landmarks there are are wrong.
  """
  whole, only = whole_set(config, known), selected_type(config, known)
  return whole if only is None else whole.of_type(only.code)


class ClothesType(NamedTuple):
  """A type of clothes in a data set whose types have different landmarks.

  Attributes:
    name: The name of the type, for example 'upper'.
    code: The code of the type in records.
    slots: The slots of the landmarks that the type has.
  """

  name: str
  code: int
  slots: tuple[int, ...]


def selected_type(
  config: ConfigDict, known: LandmarkSet | None = None
) -> ClothesType | None:
  """The one clothes type that a config asks for.

  Args:
    config: The config's part `dataset`.
    known: The landmarks of all clothes types, see `landmark_set`.

  Returns:
    The type that `clothes_type` names; None if that is '', which stands for
    all.

  Raises:
    InputError: The name is unknown, or the data set's types do not have
      landmarks of their own.
  """
  if not config.clothes_type:
    return None
  whole = whole_set(config, known)
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


def whole_set(
  config: ConfigDict, known: LandmarkSet | None = None
) -> LandmarkSet:
  """The landmarks of all clothes types.

  Args:
    config: The config's part `dataset`.
    known: The same landmarks, see `landmark_set`.

  Returns:
    The landmark set, with the pairs that `config.swaps` declares.

  Raises:
    InputError: The name is unknown, files that say which landmarks there are
      are wrong, or `swaps` names none of the landmarks.
  """
  landmarks = known or find(config.name).landmarks
  if not isinstance(landmarks, LandmarkSet):
    with instructions(config.name):
      check_manual_dir(config)
      landmarks = pkgutil.resolve_name(landmarks)(config)
  if not config.get('swaps'):  # a config by hand may have few fields
    return landmarks
  swaps = _declared(config.swaps, landmarks.names)
  return dataclasses.replace(landmarks, swaps=swaps)


def _declared(text: str, names: tuple[str, ...]) -> tuple:
  """The pairs of names that `config.dataset.swaps` declares."""
  if text == 'none':
    return ()
  pairs = [tuple(pair.strip().split(':')) for pair in text.split(',')]
  # Names have underscores where files may have blanks.
  words = lambda name: name.replace('_', ' ').split()
  pairs = [tuple('_'.join(words(name)) for name in pair) for pair in pairs]
  each = [name for pair in pairs for name in pair]
  wrong = [name for name in each if name not in names]
  if wrong or any(len(pair) != 2 for pair in pairs) or len({*each}) < len(each):
    reason = f"is '{printable(text, 60)}'"
    if wrong:
      reason = f"has '{printable(wrong[0], 60)}'"
    example = printable(f'{names[0]}:{names[-1]}', 100)
    raise InputError(
      f"config.dataset.swaps {reason}, must be 'none' or pairs of landmarks "
      f'that change places in a mirrored image, such as {example}, each at '
      f'most once; there are {printable(", ".join(names), 1000)}.',
      'config',
    )
  return tuple(pairs)


@contextlib.contextmanager
def instructions(name: str):
  """Adds to errors of missing files where to obtain them, and the layout.

  Args:
    name: A value of `config.dataset.name`.
  """
  try:
    yield
  except InputError as error:
    source = DATASETS[name].source
    if error.kind != 'missing' or source is None:
      raise
    tree = textwrap.indent(textwrap.dedent(source.tree).strip('\n'), '  ')
    raise InputError(
      f'{error}.\n{name} can be obtained at {source.address}.\n'
      f'Expected layout of the folder:\n{tree}',
      'missing',
    ) from error


def check_manual_dir(config: ConfigDict) -> None:
  """Refuses a config that names no folder of original files.

  Args:
    config: The config's part `dataset`.

  Raises:
    InputError: `manual_dir` is empty.
  """
  if not config.manual_dir:
    raise InputError(
      "config.dataset.manual_dir is empty: give the dataset's folder, "
      '--manual_dir=FOLDER',
      'missing',
    )
