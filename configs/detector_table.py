"""What the detector owes to its start and to the number of training images.

  python -m fld_jax.main --mode=ablation --workdir=W \
    --config=configs/detector_table.py:dataset=deepfashion,size=medium \
    --config.dataset.manual_dir=FOLDER

Every row is configs/detector.py with one thing changed: random weights in place
of those for ImageNet, or a part of the training images. Arguments after the
colon, beside `dataset`, `size` and `backbone` of configs/detector.py:
  seeds  2: how many, from config.seed on

Expected: of size=medium on DeepFashion, seed 0, NE 6.51, 9.17 and 11.15 on val
with 95, 20 and 5 % of the images (docs/results/detector.md). The first took 38
minutes on two CPU cores, the others 18 and 20 with tests beside them; random
weights are not measured.
"""

from ml_collections import ConfigDict

from fld_jax.config import difference, parse_arg
from fld_jax.configs import detector
from fld_jax.datasets.catalog import DATASETS

# Shares of the split train in per cent; of the 5,000 images of DeepFashion that
# are at hand they are 4,750 (the rest chooses checkpoints), 1,000 and 250.
SHARES = (95, 20, 5)
ABOUT = (
  'Rows that have a part of the images train for as many epochs, and at least '
  'min_steps.'
)


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of configs/detector.py with the table's rows.

  Args:
    arg: The arguments after the file's colon, 'key=value,key=value'; None for
      the defaults.

  Returns:
    The locked config, with `rows`, `seeds` and `about`.

  Raises:
    InputError: If an argument is not valid.
  """
  arg = parse_arg(
    arg,
    dataset=tuple(DATASETS),
    size=tuple(detector.SIZES),
    backbone='efficientnet_lite0',
    seeds=2,
  )
  seeds = arg.pop('seeds')
  make = lambda **more: detector.get_config(
    ','.join(f'{key}={value}' for key, value in {**arg, **more}.items())
  )
  config = make()
  rows = ConfigDict()
  for number, share in enumerate(SHARES, 1):
    new = make()
    new.dataset.splits.train = f'train[:{share}%]'
    rows[f'row{number}'] = _row(f'{share} % of the images', config, new)
  rows.row4 = _row('random weights', config, make(pretrained='none'))
  with config.unlocked():
    config.rows, config.seeds, config.about = rows, seeds, ABOUT
  return config


def _row(title: str, old: ConfigDict, new: ConfigDict) -> ConfigDict:
  """Makes the row of a changed config; the paper has no figure for it."""
  change = difference(old, new)
  return ConfigDict(
    {
      'title': title,
      'paper': {'average': None},
      'base': 'row1' if change else '',
      'num_stages': 1,
      'change': change,
    }
  )
