"""The config of work on a data set alone, without a model."""

from ml_collections import ConfigDict

from fld_jax.config import parse_arg
from fld_jax.datasets.catalog import DATASETS
from fld_jax.defaults import base


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes a config without a model, for work on a data set alone.

  Args:
    arg: The argument 'dataset=NAME' after the file's colon, None for the
      default data set.

  Returns:
    The locked config.

  Raises:
    InputError: If the argument is not valid.
  """
  config = base(parse_arg(arg, dataset=tuple(DATASETS))['dataset'])
  config.lock()
  return config
