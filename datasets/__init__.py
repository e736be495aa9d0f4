"""TFDS builders, one file a dataset; all write the record of fld_jax.schema."""

import os

from fld_jax import schema
from fld_jax.errors import InputError

LANDMARK_SETS = {
  'deepfashion': schema.FASHION_8,
  'synthetic': schema.FASHION_8,
  'coco_keypoints': None,  # the files say
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
      `sizes`, `seed` (synthetic).

  Returns:
    A TFDS builder; its splits can be read with `as_data_source`.

  Raises:
    InputError: for an unknown name, or anything wrong with the folder.
  """
  landmark_set(config)  # knows the names
  data_dir = os.path.expanduser(config.data_dir)
  if config.name == 'synthetic':
    from fld_jax.datasets.synthetic import Synthetic

    builder = Synthetic(
      sizes=config.sizes.to_dict(), seed=config.seed, data_dir=data_dir
    )
  elif config.name == 'deepfashion':
    _check_manual_dir(config)
    from fld_jax.datasets.deepfashion import Deepfashion

    builder = Deepfashion(manual_dir=config.manual_dir, data_dir=data_dir)
  else:
    from fld_jax.datasets.coco_keypoints import CocoKeypoints

    builder = CocoKeypoints(
      manual_dir=config.manual_dir,
      annotations=config.annotations,
      images=config.images,
      data_dir=data_dir,
    )
  builder.download_and_prepare(file_format='array_record')
  return builder


def _check_manual_dir(config) -> None:
  if config.manual_dir:
    return
  held = {
    'deepfashion': 'Img/, Anno/ and Eval/',
    'coco_keypoints': f'{config.annotations} and {config.images}/',
  }
  raise InputError(
    'config.dataset.manual_dir is empty: give the folder that holds '
    f'{held[config.name]}.'
  )
