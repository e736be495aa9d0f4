"""The ablation of the PCLoss paper's Table 4, and its rows for SimpleBaselines.

  python -m fld_jax.main --mode=ablation --workdir=W \
    --config=configs/pcloss_table4.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

Every row is trained with every seed, and compared with its own model without
PCLoss and the same seed. Arguments after the colon, beside `dataset` and `size`
of configs/pcloss.py:
  model  all, or one of fashionnet, fpn, simple_baselines, integral
  rows   all, or pair: without PCLoss and with its skeleton version
  seeds  3: how many; --config.seeds=(4,5) gives them one by one
"""

from ml_collections import ConfigDict

from fld_jax.config import difference, parse_arg
from fld_jax.configs import pcloss

# Model -> PCLoss -> NE on FashionAI's val; for SimpleBaselines from Table 3.
PAPER = {
  'fashionnet': {'none': 0.101724, 'whole': 0.098295, 'skeleton': 0.097078},
  'fpn': {
    'none': 0.041219,
    'whole': 0.039646,
    'top_bottom': 0.039597,
    'skeleton': 0.039110,
  },
  'simple_baselines': {'none': 0.0410, 'skeleton': 0.0390},
  'integral': {'none': None, 'skeleton': None},
}
ABOUT = 'Paper: FashionAI (Table 4; SimpleBaselines: Table 3).'


def get_config(arg: str | None = None) -> ConfigDict:
  """configs/pcloss.py with the table's `rows`, `seeds` and `about`."""
  arg = parse_arg(
    arg,
    dataset=('synthetic', 'deepfashion'),
    size=('full', 'medium', 'small', 'tiny'),
    model=('all', *PAPER),
    rows=('all', 'pair'),
    seeds=3,
  )
  model_of = lambda name, pc: pcloss.get_config(
    f'dataset={arg["dataset"]},size={arg["size"]},model={name},pcloss={pc}'
  )
  names = [arg['model']]
  if arg['model'] == 'all':
    names = ['fashionnet', 'fpn', 'simple_baselines']
  config = model_of(names[0], 'none')
  rows = ConfigDict()
  for name in names:
    for pc, ne in PAPER[name].items():
      if arg['rows'] == 'pair' and pc not in ('none', 'skeleton'):
        continue
      rows[f'{name}_{pc}'] = ConfigDict(
        {
          'title': name if pc == 'none' else f'{name} + PCLoss ({pc})',
          'paper': {'average': ne},
          'base': '' if pc == 'none' else f'{name}_none',
          'num_stages': 1,
          'change': difference(config, model_of(name, pc)),
        }
      )
  with config.unlocked():
    config.rows, config.about = rows, ABOUT
    config.seeds = tuple(range(arg['seeds']))
  return config
