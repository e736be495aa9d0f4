"""The DFA paper's Table 4: human pose, strict PCP on Leeds Sports Pose.

  python -m fld_jax.main --mode=ablation --workdir=W \
    --config=configs/dfa_table4.py:dataset=lspet,size=small \
    --config.dataset.manual_dir=FOLDER

DeepPose, DFA, IDPR and the paper's two additions to it; and SimpleBaselines and
FPN, each with PCLoss and without. Left and right are the observer's, as in the
paper, or with --config.dataset.centric=person the person's. A row of a method
of several stages trains its last stage alone; the rows before it have the
others. Fields of stages are those of the methods' own config files, in which a
value of the command line would be lost.

Arguments after the colon:
  dataset  lsp; lspet, a part of which is split off to report on; parse
  size     full, small or tiny, of every method's config file
  backbone  auto: every method's own; or a trunk for all
  pretrained  auto: every method's own; or weights for all
  seeds    1: how many, from config.seed on

Expected: not measured; neither is the time. Of DeepPose's first stage a public
re-implementation reports a mean of 42.0 from random weights, and of 55.7 from
weights for ImageNet, trained on LSP and its extension (torso 87.3 and 92.8,
head 44.0 and 62.8, upper arms 25.4 and 39.8, lower arms 7.6 and 17.5, upper
legs 52.3 and 68.1, lower legs 35.4 and 53.0).
"""

from ml_collections import ConfigDict

from fld_jax.config import difference, parse_arg
from fld_jax.configs import deeppose, dfa, idpr, pcloss
from fld_jax.papers import DFA_TABLE_4, PCP_ORDER

ABOUT = (
  'PCP is strict, of sticks, left and right averaged. Paper: LSP, 1,000 '
  'training images.'
)
# Slug -> title, config file, its arguments, and the row it is compared with.
METHODS = {
  'dfa': ('DFA', dfa, 'cascade=paper,stages=3', ''),
  'deeppose': ('DeepPose', deeppose, '', ''),
  'idpr': ('IDPR', idpr, 'extras=none', ''),
  'idpr_plabel': ('IDPR + plabel', idpr, 'extras=pseudo_label', 'idpr'),
  'idpr_routing': ('IDPR + auto-routing', idpr, 'extras=routing', 'idpr'),
  **{
    f'{model}_{pc}': (
      model if pc == 'none' else f'{model} + PCLoss',
      pcloss,
      f'model={model},pcloss={pc}',
      '' if pc == 'none' else f'{model}_none',
    )
    for model in ('simple_baselines', 'fpn')
    for pc in ('none', 'skeleton')
  },
}


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of the table.

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
    dataset=('lsp', 'lspet', 'parse'),
    size=('full', 'small', 'tiny'),
    backbone='auto',
    pretrained='auto',
    seeds=1,
  )
  seeds = arg.pop('seeds')
  given = [f'{key}={value}' for key, value in arg.items() if value != 'auto']
  configs = {
    slug: file.get_config(','.join(filter(None, [*given, own])))
    for slug, (_, file, own, _) in METHODS.items()
  }
  config, rows = next(iter(configs.values())), {}
  for slug, (title, _, _, base) in METHODS.items():
    *earlier, last = range(1, len(configs[slug].stages) + 1)
    if base:  # has them too
      earlier = []
    for number in earlier:
      what = f'{title}, stage {number}'
      rows[f'{slug}_stage{number}'] = _row(what, config, configs[slug], number)
    rows[slug] = _row(title, config, configs[slug], last, base)
  # A ConfigDict sorts its fields.
  slugs = {slug: f'row{i:02}_{slug}' for i, slug in enumerate(rows, 1)}
  for row in rows.values():
    row.base = slugs.get(row.base, '')
  with config.unlocked():
    config.rows = ConfigDict({slugs[slug]: row for slug, row in rows.items()})
    config.seeds, config.about = seeds, ABOUT
  return config


def _row(
  title: str, config: ConfigDict, own: ConfigDict, number: int, base: str = ''
) -> ConfigDict:
  """Makes the row of the first stages of a method.

  Args:
    title: The row's title, a key of DFA_TABLE_4 if the paper has it.
    config: The table's config.
    own: The method's config.
    number: The number of stages.
    base: The row that it is compared with; '' for none.
  """
  columns = [*(f'PCP_{name}' for name in PCP_ORDER), 'average']
  printed = DFA_TABLE_4.get(title, ())
  paper = dict.fromkeys(columns)
  for column, value in zip(columns, printed, strict=False):
    paper[column] = None if value is None else value / 100
  change = tuple(
    entry
    for entry in difference(config, own)
    if not entry[0].startswith('stages')
  )
  stages = tuple(own.stages[:number])
  return ConfigDict(
    {
      'title': title,
      'paper': paper,
      'base': base,
      'num_stages': number,
      'change': (*change, ('stages', None, stages)),
    }
  )
