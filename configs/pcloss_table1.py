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
"""

from ml_collections import ConfigDict

from fld_jax.configs import pcloss_table4
from fld_jax.schema import FASHION_8

# Model -> PCLoss -> NE in per cent on DeepFashion; left and right of collar,
# sleeve, waist and hem, then the average.
PAPER = {
  'fashionnet': {
    'none': (8.54, 9.02, 9.73, 9.35, 8.54, 8.45, 8.12, 8.23, 8.75),
    'skeleton': (2.33, 2.40, 4.00, 4.17, 5.81, 6.01, 2.13, 2.20, 3.63),
  },
  'fpn': {
    'none': (2.19, 2.19, 3.28, 3.31, 4.81, 4.87, 2.09, 2.11, 3.11),
    'skeleton': (2.04, 2.05, 3.18, 3.19, 4.72, 4.81, 1.90, 1.96, 2.98),
  },
  'simple_baselines': {
    'none': (2.07, 2.10, 3.18, 3.13, 4.83, 4.83, 1.75, 1.77, 2.96),
    'skeleton': (2.03, 2.06, 3.00, 3.04, 4.64, 4.75, 1.50, 1.53, 2.82),
  },
  'integral': {'none': (), 'skeleton': ()},
}
ABOUT = 'Paper: all of DeepFashion, 512 pixels, ImageNet weights.'


def get_config(arg: str | None = None) -> ConfigDict:
  """configs/pcloss.py with the table's `rows`, `seeds` and `about`."""
  columns = (*FASHION_8.names, 'average')
  rows = {
    name: {
      pc: {
        key: value / 100 for key, value in zip(columns, values, strict=False)
      }
      for pc, values in of_model.items()
    }
    for name, of_model in PAPER.items()
  }
  return pcloss_table4.table(arg, rows, ABOUT)
