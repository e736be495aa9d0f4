"""The ablation of the PCLoss paper's Table 4.

  python -m fld_jax.main --mode=ablation --workdir=W \
    --config=configs/pcloss_table4.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

Every row is trained with every seed, and compared with its own model without
PCLoss and the same seed. Arguments after the colon, beside `dataset` and `size`
of configs/pcloss.py:
  model  all, fashionnet or fpn
  seeds  3: how many, from config.seed on

Expected for size=small, 3 to 4 minutes a run on 1 CPU core; NE on val in per
cent: fashionnet 12.62 without PCLoss, 12.54 with the skeleton, 12.72 with the
whole; fpn 10.65 without, 10.71 with the skeleton, 0.04 more than without for
top_bottom and 0.15 more for the whole (docs/results/pcloss.md; with
--config.augment.surroundings=False).
"""

from ml_collections import ConfigDict

from fld_jax.config import difference, parse_arg
from fld_jax.configs import pcloss
from fld_jax.datasets.catalog import DATASETS
from fld_jax.papers import PCLOSS_TABLE_4

ABOUT = 'Paper: FashionAI.'


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
    name: {pc: {'average': ne} for pc, ne in of_model.items()}
    for name, of_model in PCLOSS_TABLE_4.items()
  }
  return table(arg, rows, ABOUT)


def table(
  arg: str | None,
  paper: dict[str, dict[str, dict[str, float]]],
  about: str,
) -> ConfigDict:
  """Makes the config of a table of models with and without PCLoss.

  Args:
    arg: The arguments after the file's colon, 'key=value,key=value'; None for
      the defaults.
    paper: Model -> partition of PCLoss, or 'none' -> landmark, or 'average' ->
      the paper's NE, a fraction.
    about: The text below the table.

  Returns:
    The locked config, with `rows`, `seeds` and `about`.

  Raises:
    InputError: If an argument is not valid.
  """
  arg = parse_arg(
    arg,
    dataset=tuple(DATASETS),
    size=('full', 'medium', 'small', 'tiny'),
    model=('all', *paper),
    seeds=3,
  )
  config_of = lambda name: pcloss.get_config(
    f'dataset={arg["dataset"]},size={arg["size"]},model={name}'
  )
  names = list(paper) if arg['model'] == 'all' else [arg['model']]
  config = config_of(names[0])
  weight = 'stages[0].weights.position_constraint'
  rows = ConfigDict()
  for name in names:
    differs = difference(config, config_of(name))
    for pc, ne in paper[name].items():
      own = ('position_constraint.partition', 'skeleton', pc)
      change = (*differs, own)
      if pc == 'none':  # the weight is 0, whatever the other rows' weight is
        change = (*(x for x in differs if x[0] != weight), (weight, None, 0.0))
      rows[f'{name}_{pc}'] = ConfigDict(
        {
          'title': name if pc == 'none' else f'{name} + {pc}',
          'paper': ne,
          'base': '' if pc == 'none' else f'{name}_none',
          'num_stages': 1,
          'change': change,
        }
      )
  with config.unlocked():
    config.rows, config.seeds, config.about = rows, arg['seeds'], about
  return config
