"""The PCLoss paper's Table 5: human pose, AP on COCO's val.

  python -m fld_jax.main --mode=ablation --workdir=W \
    --config=configs/pcloss_table5.py:dataset=coco,size=small \
    --config.dataset.manual_dir=FOLDER

FPN and SimpleBaselines, with PCLoss (left and right apart) and without. AP is
pycocotools' own, of the annotated boxes; --config.dataset.detections=FILE takes
those of a detector (docs/datasets.md), as papers on COCO do. Arguments after
the colon, beside `dataset` and `size` of configs/pcloss.py:
  model  all, fpn or simple_baselines
  seeds  3: how many, from config.seed on

Expected: not measured; neither is the time.
"""

from ml_collections import ConfigDict

from fld_jax.configs import pcloss_table4
from fld_jax.papers import PCLOSS_TABLE_5

ABOUT = 'Paper: COCO val2017, 256 x 192 pixels.'


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
  rows = {
    name: {pc: {'AP': ap, 'average': None} for pc, ap in of_model.items()}
    for name, of_model in PCLOSS_TABLE_5.items()
  }
  return pcloss_table4.table(arg, rows, ABOUT)
