"""The PCLoss paper's Table 1: each model with PCLoss and without.

  python -m fld_jax.main --mode=ablation --workdir=W \
    --config=configs/pcloss_table1.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

Every row is trained with every seed, and compared with its own model without
PCLoss and the same seed. The paper's FashionNet without PCLoss is the figure of
2016, from another recipe. Arguments after the colon, beside `dataset` and
`size` of configs/pcloss.py:
  model  all, or one of fashionnet, fpn, simple_baselines, integral (ours alone)
  seeds  3: how many, from config.seed on

Expected for size=small, 3 to 4 minutes a run on 1 CPU core; NE on val in per
cent without and with PCLoss: fashionnet 12.62 and 12.58, simple_baselines 11.66
and 11.62 (docs/results/pcloss.md; with --config.augment.surroundings=False);
fpn and integral not measured by it.
"""

from ml_collections import ConfigDict

from fld_jax.configs import pcloss_table4
from fld_jax.landmark_sets import FASHION_8
from fld_jax.papers import PCLOSS_TABLE_1

ABOUT = 'Paper: all of DeepFashion, 512 pixels, ImageNet weights.'


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of configs/pcloss.py with the table's rows.

  Args:
    arg: The arguments after the file's colon, 'key=value,key=value'; None for
      the defaults.

  Returns:
    The locked config, with `rows`, `seeds` and `about`.

  Raises:
    InputError: If an argument is not valid.
  """
  columns = (*FASHION_8.names, 'average')
  rows = {
    name: {
      pc: {
        key: value / 100 for key, value in zip(columns, values, strict=False)
      }
      for pc, values in of_model.items()
    }
    for name, of_model in PCLOSS_TABLE_1.items()
  }
  return pcloss_table4.table(arg, rows, ABOUT)
