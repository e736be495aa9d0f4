"""TFDS builders, one file a dataset; all write the record of fld_jax.schema."""

import os

from fld_jax import schema
from fld_jax.errors import InputError

LANDMARK_SETS = {
  'deepfashion': schema.FASHION_8,
  'fld': schema.FASHION_8,
  'synthetic': schema.FASHION_8,
  'coco_keypoints': None,  # the files say
  'fashion_ai': schema.FASHION_AI_24,
  'lsp': schema.LSP_14,
  'lspet': schema.LSP_14,
  'parse': schema.LSP_14,
}
# What the folder of the original files holds.
FOLDERS = {
  'deepfashion': 'Img/, Anno/ and Eval/',
  'fld': 'Img/, Anno/ and Eval/',
  'coco_keypoints': 'the annotations and images that config.dataset names',
  'fashion_ai': 'the folders of the competition, each with its CSV and Images/',
  'lsp': 'joints.mat and images/',
  'lspet': 'joints.mat and images/',
  'parse': 'labels.mat and im0001.jpg to im0305.jpg',
}


def landmark_set(config) -> schema.LandmarkSet:
  """The landmarks of the dataset that a config names.

  Args:
    config: see `prepared_builder`.

  Raises:
    InputError: for an unknown name; for coco_keypoints, anything wrong with the
      files' category.
  """
  if config.name not in LANDMARK_SETS:
    raise InputError(
      f"config.dataset.name is '{config.name}', valid values are "
      f'{", ".join(LANDMARK_SETS)}.'
    )
  if LANDMARK_SETS[config.name]:
    return LANDMARK_SETS[config.name]
  from fld_jax.datasets import coco_folder

  _check_manual_dir(config)
  return coco_folder.read_landmark_set(config.manual_dir, config.annotations)


def prepared_builder(config):
  """The builder that a config names, its data prepared if they were not.

  Args:
    config: `name`; `data_dir`, where prepared data lie; `manual_dir`, the
      folder of the original files; `annotations`, `images` (coco_keypoints);
      `centric` (lsp, lspet, parse); `sizes`, `seed` (synthetic).

  Returns:
    A TFDS builder; its splits can be read with `as_data_source`.

  Raises:
    InputError: for an unknown name, or anything wrong with the folder.
  """
  landmark_set(config)  # knows the names
  if config.name in FOLDERS:
    _check_manual_dir(config)
  builder = _builder(config, os.path.expanduser(config.data_dir))
  builder.download_and_prepare(file_format='array_record')
  return builder


def _builder(config, data_dir: str):
  # Imported here: TFDS takes a second.
  if config.name == 'synthetic':
    from fld_jax.datasets.synthetic import Synthetic

    sizes = config.sizes.to_dict()
    return Synthetic(sizes=sizes, seed=config.seed, data_dir=data_dir)
  places = {'manual_dir': config.manual_dir, 'data_dir': data_dir}
  if config.name in ('deepfashion', 'fld'):
    from fld_jax.datasets import deepfashion

    builders = {'deepfashion': deepfashion.Deepfashion, 'fld': deepfashion.Fld}
    return builders[config.name](**places)
  if config.name == 'coco_keypoints':
    from fld_jax.datasets.coco_keypoints import CocoKeypoints

    return CocoKeypoints(
      annotations=config.annotations, images=config.images, **places
    )
  if config.name == 'fashion_ai':
    from fld_jax.datasets.fashion_ai import FashionAi

    return FashionAi(**places)
  from fld_jax.datasets import pose

  builders = {'lsp': pose.Lsp, 'lspet': pose.Lspet, 'parse': pose.Parse}
  return builders[config.name](centric=config.centric, **places)


def _check_manual_dir(config) -> None:
  if not config.manual_dir:
    raise InputError(
      'config.dataset.manual_dir is empty: give the folder that holds '
      f'{FOLDERS[config.name]}.'
    )
