"""The PCLoss paper's Figure 8: NE over the weight of PCLoss.

  python -m fld_jax.main --mode=ablation --workdir=W \
    --config=configs/pcloss_figure8.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

It draws W/sweep.png. Arguments after the colon, beside `dataset`, `size` and
`model` of configs/pcloss.py:
  seeds  1: how many
The best weight depends on the unit and the other loss (docs/methods.md 4.3), so
choose it on training images that no run saw or chose a checkpoint by:
  --config.dataset.splits.train=train[:90%]
  --config.dataset.splits.tune=train[90%:95%]
  "--config.eval_splits=('train[95%:]',)"

Expected for model=simple_baselines, seed 0, on 250 held-out training images, NE
in per cent in the order of BETAS: 10.47, 10.94, 10.54, 10.98, 11.20, 12.66
(docs/results/pcloss.md; with --config.augment.surroundings=False). Time not
measured; a run of size=small takes 3 to 4 minutes on 1 CPU core.
"""

from ml_collections import ConfigDict

from fld_jax.config import parse_arg
from fld_jax.configs import pcloss
from fld_jax.datasets.catalog import DATASETS
from fld_jax.papers import PCLOSS_SETTINGS

# The paper's text has neither its grid nor figures.
BETAS = (0.0, 1e-6, 1e-5, 1e-4, 2e-4, 1e-3)


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of configs/pcloss.py with the sweep's rows.

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
    size=('full', 'medium', 'small', 'tiny'),
    model=pcloss.MODELS,
    seeds=1,
  )
  seeds = arg.pop('seeds')
  paper = PCLOSS_SETTINGS.get(arg['dataset'], PCLOSS_SETTINGS[''])
  config = pcloss.get_config(','.join(f'{k}={v}' for k, v in arg.items()))
  rows = ConfigDict()
  old = config.stages[0].weights.position_constraint
  for i, beta in enumerate(BETAS):
    rows[f'beta{i}'] = ConfigDict(
      {
        'title': f'PCLoss x {beta:g}' if beta else 'without PCLoss',
        'paper': {'average': None},
        'base': 'beta0' if beta else '',
        'beta': beta,
        'chosen': beta == paper.beta,
        'num_stages': 1,
        'change': (('stages[0].weights.position_constraint', old, beta),),
      }
    )
  with config.unlocked():
    config.rows, config.seeds = rows, seeds
    config.about = 'The paper draws a curve and prints no figures.'
  return config
