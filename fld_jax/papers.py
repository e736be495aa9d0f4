"""Published NE, each figure once.

The ablations compare their rows with these tables, and a report sets what
`published` returns beside its own figures. "DFA" is Liu et al., "Fashion
Landmark Detection in the Wild", ECCV 2016; "PCLoss" is Song et al., Pattern
Recognition 2021. A table is named by its paper and its number there.
"""

from typing import NamedTuple

# DFA, Table 2: NE on FLD. The paper does not show the waist's columns, so the
# printed average is close to, but not, the mean of the six that it shows.
FASHION_8_ORDER = (
  'collar_left',
  'collar_right',
  'sleeve_left',
  'sleeve_right',
  'hem_left',
  'hem_right',
)
# Row -> the six landmarks, then the average.
DFA_TABLE_2 = {
  's1 direct regression': (0.071, 0.071, 0.134, 0.130, 0.103, 0.102, 0.102),
  's1 - visibility': (0.104, 0.102, 0.213, 0.212, 0.141, 0.143, 0.153),
  's1 + plabels (T=1)': (0.065, 0.065, 0.113, 0.112, 0.094, 0.095, 0.091),
  's1 + plabels (T=20)': (0.057, 0.058, 0.106, 0.104, 0.088, 0.089, 0.084),
  's2 direct regression': (0.051, 0.051, 0.098, 0.096, 0.082, 0.080, 0.078),
  's2 + plabels (abs.)': (0.050, 0.051, 0.097, 0.096, 0.080, 0.079, 0.076),
  's2 + plabels (offset)': (0.049, 0.050, 0.095, 0.093, 0.077, 0.078, 0.074),
  's3 direct regression': (0.049, 0.049, 0.094, 0.093, 0.074, 0.076, 0.073),
  's3 + two-branch': (0.048, 0.049, 0.094, 0.093, 0.073, 0.075, 0.072),
  's3 + auto-routing': (0.048, 0.049, 0.092, 0.091, 0.071, 0.073, 0.070),
  's3 + plabels (offset)': (0.048, 0.048, 0.091, 0.090, 0.071, 0.073, 0.069),
  's3 + plabels (c. offset)': (0.048, 0.048, 0.091, 0.089, 0.071, 0.072, 0.068),
}
# The rows of DFA_TABLE_2 that a report sets beside a cascade.
DFA_STAGES = {
  'stage 1': 's1 + plabels (T=20)',
  'stage 2': 's2 + plabels (offset)',
  'stage 3': 's3 + plabels (c. offset)',
}
# DFA, Table 4: strict PCP on LSP, left and right of the observer, in per cent;
# None where the paper prints nothing.
PCP_ORDER = (
  'torso',
  'head',
  'upper_arm',
  'lower_arm',
  'upper_leg',
  'lower_leg',
  'mean',
)
DFA_TABLE_4 = {
  'DeepPose': (None, None, 56.0, 38.0, 77.0, 71.0, None),
  'DFA': (90.8, 87.2, 70.4, 56.2, 80.6, 75.8, 74.4),
  'IDPR': (92.7, 87.8, 69.2, 55.4, 82.9, 77.0, 75.0),
  'IDPR + plabel': (93.5, 88.5, 72.3, 59.0, 83.9, 78.7, 77.0),
  'IDPR + auto-routing': (94.1, 88.9, 74.3, 61.5, 85.1, 80.4, 78.6),
}


class PCLossSettings(NamedTuple):
  """What PCLoss's section 4.2 sets by data set.

  Attributes:
    k: How many landmarks of a part count.
    beta: The weight of PCLoss.
    steps: The length of the training.
  """

  k: int
  beta: float
  steps: int


# By the argument `dataset` of configs; '' are DeepFashion's and FLD's, which
# all others have. For COCO the paper gives none (docs/methods.md 4.4).
PCLOSS_SETTINGS = {
  '': PCLossSettings(k=4, beta=1e-5, steps=150_000),
  'fashion_ai': PCLossSettings(k=8, beta=2e-4, steps=100_000),
  'coco': PCLossSettings(k=8, beta=1e-5, steps=150_000),
}
# PCLoss, Table 1: model -> PCLoss -> NE in per cent on DeepFashion; left and
# right of collar, sleeve, waist and hem, then the average. `integral` is ours
# alone.
PCLOSS_TABLE_1 = {
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
# PCLoss, Table 1, the row of DFA: as in PCLOSS_TABLE_1.
PCLOSS_TABLE_1_DFA = (6.28, 6.37, 6.58, 6.21, 7.26, 7.02, 6.58, 6.63, 6.62)
# PCLoss, Table 2: the same on FLD.
PCLOSS_TABLE_2 = {
  'fashionnet': {
    'none': (7.84, 8.03, 9.75, 9.23, 8.74, 8.21, 8.02, 8.93, 8.59),
    'skeleton': (3.86, 3.94, 7.46, 7.38, 7.70, 7.65, 5.00, 4.95, 5.99),
  },
  'fpn': {
    'none': (2.83, 2.89, 5.19, 5.22, 6.60, 6.57, 4.73, 4.50, 4.82),
    'skeleton': (2.83, 2.84, 5.21, 5.17, 6.56, 6.49, 4.31, 4.30, 4.71),
  },
  'simple_baselines': {
    'none': (2.88, 2.89, 5.11, 5.20, 6.53, 6.28, 4.48, 4.37, 4.72),
    'skeleton': (2.86, 2.84, 5.01, 5.05, 6.44, 6.28, 4.18, 3.95, 4.58),
  },
}
# PCLoss, Tables 1 and 2, the rows of FGN, which has no PCLoss there: as in
# PCLOSS_TABLE_1, by the data set.
PCLOSS_FGN = {
  'deepfashion': (4.15, 4.04, 4.96, 4.49, 5.02, 5.23, 5.37, 5.51, 4.85),
  'fld': (4.63, 4.71, 6.27, 6.14, 6.35, 6.92, 6.35, 5.27, 5.83),
}
# PCLoss, Table 4: model -> PCLoss -> NE on FashionAI's val, the average alone.
PCLOSS_TABLE_4 = {
  'fashionnet': {'none': 0.101724, 'whole': 0.098295, 'skeleton': 0.097078},
  'fpn': {
    'none': 0.041219,
    'whole': 0.039646,
    'top_bottom': 0.039597,
    'skeleton': 0.039110,
  },
}
# PCLoss, Table 3: the same to four decimals, and one more model.
PCLOSS_TABLE_3 = {
  **{
    model: {pcloss: round(ne[pcloss], 4) for pcloss in ('none', 'skeleton')}
    for model, ne in PCLOSS_TABLE_4.items()
  },
  'simple_baselines': {'none': 0.0410, 'skeleton': 0.0390},
}

# PCLoss, Table 5: model -> PCLoss -> AP on COCO's val2017.
PCLOSS_TABLE_5 = {
  'fpn': {'none': 0.699, 'skeleton': 0.706},
  'simple_baselines': {'none': 0.704, 'skeleton': 0.707},
}


def published(
  dataset: str, model: str, names: tuple[str, ...]
) -> dict[str, list]:
  """Rows of the papers that a run can be looked at beside.

  Args:
    dataset: The name of the run's data set, config.dataset.name.
    model: The name of the run's model, config.model.name.
    names: The names of the N landmarks.

  Returns:
    title -> NE of the N landmarks and their average, fractions; None where the
    papers do not print it. {} for landmarks that they have no table of.
  """
  if dataset == 'fashion_ai':
    nothing = [None] * len(names)
    return {
      _title(model, pcloss, 'FashionAI'): [*nothing, ne]
      for pcloss, ne in PCLOSS_TABLE_3.get(model, {}).items()
    }
  if dataset not in ('deepfashion', 'fld'):
    return {}
  rows = {}
  if model == 'dfa':
    for stage, title in DFA_STAGES.items():
      *shown, average = DFA_TABLE_2[title]
      by_name = dict(zip(FASHION_8_ORDER, shown, strict=True))
      values = [by_name.get(name) for name in names]
      rows[f'DFA paper, Table 2: {stage}, on FLD'] = [*values, average]
    # On FLD that is stage 3 again, from another paper.
    if dataset == 'deepfashion':
      title = 'PCLoss paper, Table 1: DFA, on DeepFashion'
      rows[title] = _fractions(PCLOSS_TABLE_1_DFA)
    return rows
  tables = {
    'deepfashion': (PCLOSS_TABLE_1, 'DeepFashion'),
    'fld': (PCLOSS_TABLE_2, 'FLD'),
  }
  paper, where = tables[dataset]
  if model == 'fgn':
    paper = {model: {'none': PCLOSS_FGN[dataset]}}
  return {
    _title(model, pcloss, where): _fractions(values)
    for pcloss, values in paper.get(model, {}).items()
    if values
  }


def _title(model: str, pcloss: str, where: str) -> str:
  """A row's title: the table, the model, PCLoss and the data set."""
  table = {'DeepFashion': 1, 'FLD': 2, 'FashionAI': 3}[where]
  loss = ' + PCLoss' if pcloss != 'none' else ''
  return f'PCLoss paper, Table {table}: {model}{loss}, on {where}'


def _fractions(values: tuple[float, ...]) -> list[float]:
  """Per cent as fractions."""
  return [value / 100 for value in values]
