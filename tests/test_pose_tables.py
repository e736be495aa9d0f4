"""The tables of human pose: their rows, and what stands in them."""

import json
import pathlib
import types

import coco_oracle
import numpy as np
import pytest
from places import SHARED

from fld_jax import ablation, config_rules, experiment, papers
from fld_jax.configs import dfa_table4, pcloss, pcloss_table5
from fld_jax.evaluation import evaluate, text_tables
from fld_jax.landmark_sets import LSP_14
from fld_jax.metrics.coco import NAMES

ARG = 'dataset=lspet,size=small'
W = pathlib.Path('W').absolute()


@pytest.fixture(scope='module')
def table():
  config = dfa_table4.get_config(ARG)
  config.dataset.manual_dir = 'FOLDER'  # what a command line sets
  return config


def of(slug, rows):
  """The row of a method, of the slugs with their numbers."""
  (found,) = (name for name in rows if name.partition('_')[2] == slug)
  return found, rows[found]


def test_each_row_is_the_method_that_its_title_says(table):
  for seed in (7, 8):  # the second seed finds the rows as the first did
    rows = ablation.row_configs(table, W, seed)
    for slug, (_, file, own, _) in dfa_table4.METHODS.items():
      expected = file.get_config(f'{ARG},{own}')
      expected.dataset.manual_dir, expected.seed = 'FOLDER', seed
      row = of(slug, rows)[1]
      found = row.copy_and_resolve_references()
      for stage in found.stages:
        stage.checkpoint = ''
      assert found.to_dict() == expected.to_dict()
      config_rules.check(row)


def test_stages_are_taken_from_the_row_that_trains_them(table):
  rows = ablation.row_configs(table, W, 7)
  places = lambda slug: [stage.checkpoint for stage in of(slug, rows)[1].stages]
  stage = lambda slug, name: str(W / of(slug, rows)[0] / 'seed7/stages' / name)
  assert places('dfa_stage1') == places('idpr_plabel') == ['']
  assert places('dfa') == [
    stage('dfa_stage1', 'stage1'),
    stage('dfa_stage2', 'stage2'),
    '',
  ]
  # Not IDPR's without pseudo-labels.
  assert places('idpr_routing') == [stage('idpr_plabel', 'stage1'), '']


def test_papers_figures_are_in_the_rows(table):
  paper = lambda slug: of(slug, table.rows)[1].paper
  assert paper('idpr_routing').PCP_mean == pytest.approx(0.786)
  assert paper('dfa').PCP_head == pytest.approx(0.872)
  assert paper('dfa_stage1').PCP_mean is None
  base = of('idpr_routing', table.rows)[1].base
  assert base == of('idpr', table.rows)[0]
  for title, values in papers.DFA_TABLE_4.items():
    if None not in values:
      once, twice = values[:2], values[2:6]
      mean = (sum(once) + 2 * sum(twice)) / 10
      assert mean == pytest.approx(values[6], abs=0.06), title


def test_a_table_shows_pcp_beside_the_papers():
  ne = {'per_landmark': {}, 'macro': 0.05}
  run = {'ne': ne, 'outlier_rate': 0.0, 'duplicate_rate': 0.0}
  pcp = {'centric': 'observer', 'torso': 0.9, 'mean': 0.61}
  rows = {
    'a': {
      'title': 'IDPR',
      'paper': {'PCP_torso': 0.927, 'PCP_mean': 0.75, 'average': None},
      'base': '',
      'runs': {
        0: {**run, 'pcp': pcp},
        1: {**run, 'pcp': {**pcp, 'mean': 0.63}},
      },
    }
  }
  lines = text_tables.compare_with_paper(rows, '').splitlines()
  ours = next(line for line in lines if 'ours' in line)
  theirs = next(line for line in lines if 'paper' in line)
  assert ours.split()[-3:] == ['90.00', '62.00', '5.00']
  assert theirs.split()[-3:] == ['92.70', '75.00', '-']


def test_pcp_of_a_run_is_that_of_its_final_stage():
  """By hand: all right but for one ankle, which is one of ten sticks."""
  rng = np.random.default_rng(0)
  truth = rng.uniform(0, 100, (1, 14, 2))
  off = truth.copy()
  off[0, LSP_14.names.index('left_ankle')] += 1000
  predictions = types.SimpleNamespace(
    landmark_set=LSP_14,
    landmarks=truth,
    visibility=np.zeros((1, 14), int),
    estimates={'stage1': truth + 1000, 'stage2': off},
  )
  found = evaluate._pcp(predictions, 'observer')
  assert found.pop('centric') == 'observer'
  assert found.pop('mean') == pytest.approx(0.9)
  assert found.pop('lower_leg') == pytest.approx(0.5)
  assert set(found.values()) == {1.0}


def test_rows_of_coco():
  config = pcloss_table5.get_config('dataset=coco,size=small,model=fpn')
  rows = ablation.row_configs(config, W, 0)
  expected = pcloss.get_config('dataset=coco,size=small,model=fpn,pcloss=none')
  assert rows['fpn_none'].to_dict() == expected.to_dict()
  assert config.rows.fpn_skeleton.paper.AP == 0.706
  assert config.rows.fpn_skeleton.base == 'fpn_none'


@pytest.mark.parametrize('boxes', ['annotated', 'detected'])
def test_a_row_on_coco_has_the_ap_of_pycocotools(tmp_path, monkeypatch, boxes):
  folder = SHARED / 'coco'
  if not folder.exists():
    pytest.skip(f'{folder} is not there')
  config = pcloss.get_config('dataset=coco,size=small,model=fpn')
  config.dataset.manual_dir = str(folder)
  config.dataset.annotations = '{split}2017/person_keypoints.json'
  config.dataset.images = '{split}2017/images'
  path = folder / 'val2017/person_keypoints.json'
  truth = json.loads(path.read_text())
  rng = np.random.default_rng(0)
  found = coco_oracle.perturbed(truth['annotations'], rng, 0.1)
  if boxes == 'annotated':
    config.dataset.detections = ''
  else:  # which says no more than whose boxes were looked at
    config.dataset.detections = str(tmp_path / '{split}.json')

  def trained(row, workdir, *, mode, splits):
    assert mode == 'train' and row is config
    for split in splits:
      place = workdir / 'eval' / split
      place.mkdir(parents=True)
      (place / 'predictions.json').write_text(json.dumps(found))
    return {split: {'split': split} for split in splits}

  monkeypatch.setattr(experiment, 'run', trained)
  metrics = experiment._run_row(config, tmp_path / 'run', ('val',))['val']
  np.testing.assert_allclose(
    [metrics['coco'][name] for name in NAMES],
    coco_oracle.pycocotools_figures(truth, found),
    rtol=0,
    atol=1e-9,
  )
