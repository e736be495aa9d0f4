"""Published NE that a report sets beside ours.

"DFA": Liu et al., ECCV 2016; "PCLoss": Song et al., Pattern Recognition 2021.
"""

from fld_jax.configs import dfa_table2, pcloss_table1

# Left and right of collar, sleeve, waist and hem, then the average, in per
# cent: PCLoss, Tables 1 and 2.
DFA_DEEPFASHION = (6.28, 6.37, 6.58, 6.21, 7.26, 7.02, 6.58, 6.63, 6.62)
FLD = {
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
# PCLoss, Table 3: the average alone.
FASHION_AI = {
  'fashionnet': {'none': 0.1017, 'skeleton': 0.0971},
  'fpn': {'none': 0.0412, 'skeleton': 0.0391},
  'simple_baselines': {'none': 0.0410, 'skeleton': 0.0390},
}
STAGES = {
  'stage 1': 's1 + plabels (T=20)',
  'stage 2': 's2 + plabels (offset)',
  'stage 3': 's3 + plabels (c. offset)',
}


def published(
  dataset: str, model: str, names: tuple[str, ...]
) -> dict[str, list]:
  """Rows of the papers that a run can be looked at beside.

  Args:
    dataset: name of the run's, config.dataset.name.
    model: config.model.name.
    names: of the N landmarks.

  Returns:
    title -> NE of the N landmarks and their average, fractions; None where the
    papers do not print it. {} for landmarks that they have no table of.
  """
  if dataset == 'fashion_ai':
    nothing = [None] * len(names)
    return {
      _title(model, pcloss, 'FashionAI'): [*nothing, ne]
      for pcloss, ne in FASHION_AI.get(model, {}).items()
    }
  if dataset not in ('deepfashion', 'fld'):
    return {}
  rows = {}
  if model == 'dfa':
    for stage, title in STAGES.items():
      *of, average = dfa_table2.PAPER[title]
      by_name = dict(zip(dfa_table2.LANDMARKS, of, strict=True))
      values = [by_name.get(name) for name in names]
      rows[f'DFA paper, Table 2: {stage}, on FLD'] = [*values, average]
    # On FLD that is stage 3 again, from another paper.
    if dataset == 'deepfashion':
      title = 'PCLoss paper, Table 1: DFA, on DeepFashion'
      rows[title] = _fractions(DFA_DEEPFASHION)
    return rows
  tables = {
    'deepfashion': (pcloss_table1.PAPER, 'DeepFashion'),
    'fld': (FLD, 'FLD'),
  }
  paper, where = tables[dataset]
  return {
    _title(model, pcloss, where): _fractions(values)
    for pcloss, values in paper.get(model, {}).items()
    if values
  }


def _title(model: str, pcloss: str, where: str) -> str:
  table = {'DeepFashion': 1, 'FLD': 2, 'FashionAI': 3}[where]
  loss = ' + PCLoss' if pcloss != 'none' else ''
  return f'PCLoss paper, Table {table}: {model}{loss}, on {where}'


def _fractions(values) -> list:
  return [None if value is None else value / 100 for value in values]
