"""The ablation of the DFA paper's Table 2: twelve rows, one command.

  python -m fld_jax.main --mode=ablation --workdir=W \
    --config=configs/dfa_table2.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

A row trains only its own stage; the stages before it are taken from the row
that the paper builds on. The arguments are those of configs/dfa.py.

Expected: not measured; neither is the time. The paper's figures are DFA_TABLE_2
of fld_jax/papers.py.
"""

from ml_collections import ConfigDict

from fld_jax.config import difference
from fld_jax.configs import dfa
from fld_jax.papers import DFA_TABLE_2, FASHION_8_ORDER

ABOUT = (
  'Paper: FLD, waist not shown. Our average: macro NE over all landmarks that '
  'have examples.'
)


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of configs/dfa.py with the table's rows.

  Args:
    arg: The arguments of configs/dfa.py, None for the defaults.

  Returns:
    The locked config, with `rows`, `seeds` and `about`.

  Raises:
    InputError: If an argument is not valid.
  """
  config = dfa.get_config(arg)
  with config.unlocked():
    for stage in config.stages:  # as the paper has it
      stage.pseudo_label.refit = stage.visibility_floor = 0.0
  rows = [
    _row('s1 direct regression', config, 1, label=False),
    _row('s1 - visibility', config, 1, label=False, visibility=False),
    _row('s1 + plabels (T=1)', config, 1, temperature=1.0),
    _row('s1 + plabels (T=20)', config, 1),
    _row('s2 direct regression', config, 2, label=False),
    _row('s2 + plabels (abs.)', config, 2, space='absolute'),
    _row('s2 + plabels (offset)', config, 2),
    _row('s3 direct regression', config, 3, label=False, branches=False),
    _row('s3 + two-branch', config, 3, label=False, mode='two_branch'),
    _row('s3 + auto-routing', config, 3, label=False),
    _row('s3 + plabels (offset)', config, 3, space='offset'),
    _row('s3 + plabels (c. offset)', config, 3),
  ]
  with config.unlocked():
    config.rows = ConfigDict({f'row{i:02}': r for i, r in enumerate(rows, 1)})
    config.seeds = 1
    config.about = ABOUT
  return config


def _row(
  title: str,
  config: ConfigDict,
  number: int,
  *,
  label: bool = True,
  visibility: bool = True,
  temperature: float | None = None,
  space: str | None = None,
  branches: bool = True,
  mode: str = 'route',
) -> ConfigDict:
  """Makes a row whose last stage differs from the default cascade's.

  Args:
    title: The row's title, a key of DFA_TABLE_2.
    config: The config of the default cascade.
    number: The number of stages of the row.
    label: Whether the last stage has pseudo-labels.
    visibility: Whether the last stage is trained on visibility.
    temperature: The temperature of the last stage's pseudo-labels, None for the
      default.
    space: The space of the last stage's pseudo-labels, None for the default.
    branches: Whether stage 3 has branches, each from stage 2 and on its own
      images.
    mode: The use of the branches, one of `setup.ROUTING_MODES`.
  """
  old, new = (
    ConfigDict(
      {
        'routing': config.routing.copy_and_resolve_references(),
        'stages': tuple(
          stage.copy_and_resolve_references()
          for stage in config.stages[:number]
        ),
      }
    )
    for _ in range(2)
  )
  new.routing.mode = mode
  last = new.stages[-1]
  if not label:
    last.pseudo_label.num_clusters = 0
    last.weights.pseudo_label = 0.0
  if not visibility:
    last.weights.visibility = 0.0
  last.pseudo_label.temperature = temperature or last.pseudo_label.temperature
  last.pseudo_label.space = space or last.pseudo_label.space
  last.branches = number == 3 and branches
  return ConfigDict(
    {
      'title': title,
      'paper': dict(
        zip((*FASHION_8_ORDER, 'average'), DFA_TABLE_2[title], strict=True)
      ),
      'base': '',
      'num_stages': number,
      'change': difference(old, new),
    }
  )
