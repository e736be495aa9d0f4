"""TFDS builders, one file a dataset; all write the record of fld_jax.schema."""

import os

from fld_jax.errors import InputError


def prepared_builder(config):
  """The builder that a config names, its data prepared if they were not.

  Args:
    config: `name`; `data_dir`, where prepared data lie; `manual_dir`, the
      folder of the original files (deepfashion); `sizes`, `seed` (synthetic).

  Returns:
    A TFDS builder; its splits can be read with `as_data_source`.

  Raises:
    InputError: for an unknown name, or anything wrong with the folder.
  """
  data_dir = os.path.expanduser(config.data_dir)
  if config.name == 'deepfashion':
    if not config.manual_dir:
      raise InputError(
        'config.dataset.manual_dir is empty: give the folder that holds Img/, '
        'Anno/ and Eval/.'
      )
    from fld_jax.datasets.deepfashion import Deepfashion

    builder = Deepfashion(manual_dir=config.manual_dir, data_dir=data_dir)
  elif config.name == 'synthetic':
    from fld_jax.datasets.synthetic import Synthetic

    builder = Synthetic(
      sizes=config.sizes.to_dict(), seed=config.seed, data_dir=data_dir
    )
  else:
    raise InputError(
      f"config.dataset.name is '{config.name}', valid values are 'deepfashion' "
      "and 'synthetic'."
    )
  builder.download_and_prepare(file_format='array_record')
  return builder
