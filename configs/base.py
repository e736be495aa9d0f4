"""What the configs of all experiments have in common."""

from ml_collections import ConfigDict

from fld_jax.config import parse_arg
from fld_jax.datasets.catalog import DATASETS
from fld_jax.defaults import base


def get_config(arg: str | None = None) -> ConfigDict:
  """A config without a model: what work on a dataset alone needs.

  Args:
    arg: 'dataset=NAME'.
  """
  config = base(parse_arg(arg, dataset=tuple(DATASETS))['dataset'])
  config.lock()
  return config
