"""The rules of a config's fields: complete, and the same everywhere."""

import copy
import json
import math
import subprocess
import sys

import pytest
from places import ROOT

from fld_jax import config_rules, defaults
from fld_jax.cascade import pseudo_labels
from fld_jax.cascade.setup import resolve
from fld_jax.config_fields import fields
from fld_jax.configs import (
  attributes,
  deeppose,
  detector,
  dfa,
  dlan,
  fgn,
  idpr,
  pcloss,
  trained,
)
from fld_jax.datasets.catalog import DATASETS
from fld_jax.datasets.pose import folder as pose_folder
from fld_jax.errors import InputError
from fld_jax.ops import heatmaps
from fld_jax.runtime import manifest
from fld_jax.training import objective

SIZES = ('full', 'small', 'tiny')
CONFIGS = [
  *(('dfa', f'dataset={name}') for name in DATASETS),
  *(('dfa', f'size={size}') for size in SIZES),
  *(('dfa', f'size={size},backbone=resnet18') for size in SIZES),
  *(
    ('pcloss', f'size={size},model={name}')
    for size in (*SIZES, 'medium')
    for name in ('fashionnet', 'simple_baselines', 'fpn', 'integral')
  ),
  *(('detector', f'size={size}') for size in ('small', 'medium', 'large')),
  ('detector', 'size=small,head=simcc'),
  *((name, f'size={size}') for name in ('deeppose', 'dlan') for size in SIZES),
  ('deeppose', 'size=small,backbone=efficientnet_lite0,pretrained=imagenet'),
  ('dlan', 'size=small,backbone=efficientnet_lite0,pretrained=imagenet'),
  *(('fgn', f'size={size}') for size in SIZES),
  ('fgn', 'size=small,loss=mse,pcloss=skeleton,dataset=lsp'),
  *(('idpr', f'size={size},extras=routing') for size in SIZES),
  ('attributes', 'trunk=frozen'),
]
FILES = {
  'attributes': attributes,
  'deeppose': deeppose,
  'detector': detector,
  'dfa': dfa,
  'dlan': dlan,
  'fgn': fgn,
  'idpr': idpr,
  'pcloss': pcloss,
}


def get(file, arg):
  return FILES[file].get_config(arg)


def rules_of(path: str):
  """The rule of a field as `fields` writes its path."""
  if path.startswith('model.'):
    return config_rules.MODEL.get(path.removeprefix('model.'))
  if path.startswith('stages['):
    return config_rules.STAGE.get(path.partition('].')[2])
  return config_rules.BASE.get(path)


@pytest.mark.parametrize(('file', 'arg'), CONFIGS)
def test_every_field_of_every_config_has_a_rule_that_it_obeys(file, arg):
  config = get(file, arg)
  for path, value in fields(config):
    rule = rules_of(path)
    assert rule is not None, f'{path} has no rule in config_rules.py'
    assert rule.valid(value), f'{path}: {value!r}'
  config_rules.check(config)
  saved = manifest.to_dict(config)
  assert defaults.restore(saved, 'file').to_dict() == config.to_dict()


def test_no_rule_is_of_a_field_that_there_is_not():
  known = {'': set(), 'model': set(), 'stages': set()}
  for file, arg in CONFIGS:
    for path, _ in fields(get(file, arg)):
      part = path.partition('.')[0].partition('[')[0]
      part = part if part in known else ''
      inner = path.partition('.')[2] if part else path
      known[part].add(inner)
  for part, rules in (
    ('', config_rules.BASE),
    ('model', config_rules.MODEL),
    ('stages', config_rules.STAGE),
  ):
    assert rules.keys() == known[part]


def test_names_are_those_of_the_tables():
  base, stage = config_rules.BASE, config_rules.STAGE
  same = lambda rule, names: sorted(rule.names) == sorted(names)
  assert same(base['heatmap.decoder'], heatmaps.DECODERS)
  assert same(base['position_constraint.space'], objective.PC_SPACES)
  assert same(base['position_constraint.mask'], objective.PC_MASKS)
  assert same(base['dataset.centric'], pose_folder.CENTRICS)
  assert same(stage['pseudo_label.space'], pseudo_labels.SPACES)
  assert same(stage['pseudo_label.context_transform'], pseudo_labels.TRANSFORMS)


NOT_NUMBERS = (None, 'x', '48', [], {}, [1], math.nan, math.inf, True)
WRONG = {
  config_rules.Number: NOT_NUMBERS,
  config_rules.Flag: (None, 0, 1, 'true', [], {}),
  config_rules.Text: (None, 1, ['x'], {}, 'a\0b', '\ud800'),
  config_rules.OneOf: (None, 1, '', 'nope', ['adam'], {}),
  config_rules.Several: (None, 1, 'xyz', {}, [None] * 3, [['x']], '0.5'),
}


def wrong_values(rule):
  """Values that a rule must refuse, each of its kind."""
  yield from WRONG[type(rule)]
  if isinstance(rule, config_rules.Number):
    yield from (rule.low - 1, rule.high * 2 + 1, -math.inf)
    if rule.whole:
      yield rule.low + 0.5
  if isinstance(rule, config_rules.Several):
    yield [0] * (rule.longest + 1)
  if isinstance(rule, config_rules.Text) and rule.plain:
    yield from ('', '.', '..', '/x', 'a/b', '../x', 'a\\b')


ALL_RULES = [
  *(('', name) for name in config_rules.BASE),
  *(('model', name) for name in config_rules.MODEL),
  *(('stages', name) for name in config_rules.STAGE),
]


@pytest.mark.parametrize(('part', 'name'), ALL_RULES)
def test_each_field_of_a_manifest(part, name):
  """File, field and value are named, whatever stands there."""
  arg = 'size=tiny'
  file = 'pcloss' if name in ('channels', 'visibility') else 'dfa'
  if name == 'trunk.width':
    arg += ',backbone=resnet18'
  if name in ('select', 'steps', 'transform_rate'):
    file = 'dlan'
  if name == 'split':
    file, arg = 'detector', 'size=small,head=simcc'
  if name in ('merge', 'state'):
    file = 'fgn'
  if name in ('stride', 'num_types'):
    file = 'idpr'
  if name in ('num_attributes', 'at_landmarks'):
    file, arg = 'attributes', 'size=small'
  if name == 'trunk.frozen':
    file, arg = 'detector', 'size=small'
  if name == 'pool':
    file, arg = 'pcloss', 'size=tiny,model=fashionnet'
  valid = manifest.to_dict(get(file, arg))
  rule = {
    '': config_rules.BASE,
    'model': config_rules.MODEL,
    'stages': config_rules.STAGE,
  }[part][name]
  for value in wrong_values(rule):
    saved = copy.deepcopy(valid)
    holder, shown = saved, f'config.{name}'
    if part == 'model':
      holder, shown = saved['model'], f'config.model.{name}'
    if part == 'stages':
      holder, shown = saved['stages'][0], f'config.stages[0].{name}'
    *parents, last = name.split('.')
    for parent in parents:
      holder = holder[parent]
    assert last in holder, name
    holder[last] = value
    with pytest.raises(InputError) as raised:
      defaults.restore(saved, 'W/manifest.json')
    message = str(raised.value)
    assert message.startswith(f'W/manifest.json, {shown}'), message
    assert ': is ' in message and message.isprintable()
    assert 'must be' in message or 'valid values are' in message


@pytest.mark.parametrize(
  ('path', 'words'),
  [
    ('', 'config: is None, must be an object'),
    ('dataset', 'config.dataset: is None, must be an object'),
    ('dataset.name', 'config.dataset.name: is None, must be a text'),
    ('model', 'config.model: is None, must be an object'),
    ('model.trunk', 'config.model.trunk: is None, must be an object'),
    ('input', 'config.input: is None, must be an object'),
    ('stages', 'config.stages: is None, must be a list of 1 to 64 stages'),
    ('stages.0', r'config.stages\[0\]: is None, must be an object'),
    ('stages.0.weights', r'config.stages\[0\].weights: is None, must be an'),
    ('augment', 'config.augment: is None, must be an object'),
  ],
)
def test_parts_of_a_manifest(path, words):
  saved = {'config': manifest.to_dict(get('dfa', 'size=tiny'))}
  holder, last = saved, 'config'
  for name in filter(None, path.split('.')):
    holder, last = holder[last], int(name) if name.isdigit() else name
  holder[last] = None
  with pytest.raises(InputError, match=f'W/manifest.json, {words}'):
    defaults.restore(saved['config'], 'W/manifest.json')


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    (lambda c: c.update(sead=1), r"config.sead: is no field.*mean 'seed'"),
    (lambda c: c['input'].update(x=1), 'config.input.x: is no field'),
    (lambda c: c['model'].update(x=1), 'config.model.x: is no field'),
    (lambda c: c['stages'][1].update(x=1), r'stages\[1\].x: is no field'),
    (lambda c: c.pop('model'), 'config.model: is missing'),
    (lambda c: c.pop('stages'), 'config.stages: is missing'),
    (lambda c: c['dataset'].pop('name'), 'config.dataset.name: is missing'),
    (lambda c: c['model'].pop('trunk'), 'config.model.trunk: is missing'),
    (lambda c: c['stages'][0].pop('name'), r'stages\[0\].name: is missing'),
    (lambda c: c['stages'][1].update(name='stage1'), 'an earlier stage has'),
    (lambda c: c['stages'][0].update(branches=True), 'only the last of 4'),
    (lambda c: c['stages'].clear(), 'must be a list of 1 to 64'),
    (lambda c: c['dataset'].update(name='fdl'), "mean 'fld'"),
    (
      lambda c: c.update(batch_size=65536, input={**c['input'], 'size': 512}),
      'config.batch_size: is 65536, must be at most 16384 for crops of',
    ),
    (lambda c: c['model']['trunk'].update(blocks=[[17, 8]]), 'a list of two'),
    (lambda c: c['model']['trunk'].update(blocks=[[1, 2, 3]]), 'a list of two'),
    (lambda c: c['input'].update(size=8), 'must be at least 16, as the trunk'),
  ],
)
def test_fields_that_do_not_fit(change, words):
  saved = manifest.to_dict(get('dfa', 'size=tiny'))
  change(saved)
  with pytest.raises(InputError, match=f'^W/manifest.json, .*{words}'):
    defaults.restore(saved, 'W/manifest.json')


def test_a_field_without_a_rule_has_the_type_of_its_default(monkeypatch):
  """Such as the weight of a loss that somebody adds."""
  monkeypatch.delitem(config_rules.STAGE, 'weights.heatmaps')
  monkeypatch.delitem(config_rules.BASE, 'dataset.swaps')
  for part, name, value in (
    ('weights', 'heatmaps', 'x'),
    ('weights', 'heatmaps', math.nan),
    ('dataset', 'swaps', 7),
  ):
    saved = manifest.to_dict(get('dfa', 'size=tiny'))
    holder = saved['stages'][0] if part == 'weights' else saved
    holder[part][name] = value
    with pytest.raises(InputError, match=f'{part}.{name}: is .*, must be'):
      defaults.restore(saved, 'W/manifest.json')


@pytest.mark.parametrize(
  ('argument', 'words'),
  [
    ('input.size=0', 'config.input.size is 0, must be a whole number from 8'),
    ('batch_size=-5', 'config.batch_size is -5, must be a whole number'),
    ('routing.epsilon=nan', 'config.routing.epsilon is nan, must be a number'),
    ('heatmap.decoder=x', "config.heatmap.decoder is 'x', valid values are"),
    ('stages[0].name=../x', "is '../x', must be a name without '/'"),
    ('model.dtype=int8', "config.model.dtype is 'int8', valid values are"),
  ],
)
def test_the_command_line_obeys_the_same_rules(argument, words, tmp_path):
  done = subprocess.run(
    [sys.executable, '-X', 'importtime', '-m', 'fld_jax.main', '--mode=train']
    + ['--config=configs/dfa.py:dataset=synthetic,size=tiny']
    + [f'--workdir={tmp_path}/W', f'--config.{argument}'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  (line,) = [x for x in done.stderr.splitlines() if not x.startswith('import')]
  assert line.startswith(f'error: {words}') or words in line
  assert not (tmp_path / 'W').exists()
  assert '| jax\n' not in done.stderr, 'found only after JAX was imported'


def test_resolve_obeys_the_rules_too():
  """For those who call Python, and --mode=predict --config.batch_size=0."""
  config = get('dfa', 'size=tiny')
  config.batch_size = 0
  with pytest.raises(InputError, match='config.batch_size is 0, must be'):
    resolve(config)


@pytest.mark.parametrize(
  'content', ['', 'null', '[]', '7', '"x"', '{}', '{"config": [', '[' * 10**5]
)
def test_files_that_are_no_manifest(tmp_path, content):
  (tmp_path / 'manifest.json').write_text(content)
  for read in (trained.get_config, manifest.read_manifest):
    with pytest.raises(InputError, match='manifest.json'):
      read(tmp_path if read is manifest.read_manifest else str(tmp_path))


@pytest.mark.parametrize(
  ('field', 'value', 'words'),
  [
    ('data', 7, 'data: is 7, must be a text'),
    ('topology', [], r'topology: is \[\], must be an object'),
    ('topology', {'devices': 0, 'processes': 1}, 'topology.devices: is 0'),
    ('topology', {'devices': 1}, 'topology.processes: is None'),
    ('stages', None, 'stages: is None, must be an object'),
    ('stages', [1], r'stages: is \[1\], must be an object'),
    ('stages', {'../x': {}}, "stages: is '../x', must be one of stage1"),
    ('stages', {'stage1': 7}, 'stages.stage1: is 7, must be an object'),
    (
      'stages',
      {'stage1': {}},
      "stages.stage1.networks: is None, must be .'all'",
    ),
    (
      *('stages', {'stage1': {'networks': ['../x'], 'epsilon': None}}),
      "stages.stage1.networks: is .'../x'., must be .'all'",
    ),
    (
      *('stages', {'branches': {'networks': ['all'], 'epsilon': None}}),
      "stages.branches.networks: is .'all'., must be .'easy', 'hard'.",
    ),
    (
      *('stages', {'stage1': {'networks': ['all'], 'threshold': 'luck'}}),
      "stages.stage1.threshold: is 'luck', must be null or one of 'epsilon'",
    ),
    (
      *('stages', {'stage1': {'networks': ['all'], 'easy_share': 1.5}}),
      'stages.stage1.easy_share: is 1.5, must be null or a number from 0 to 1',
    ),
    (
      *('stages', {'stage1': {'networks': ['all'], 'refitted': 'no'}}),
      "stages.stage1.refitted: is 'no', must be true or false",
    ),
    (
      *('stages', {'stage1': {'networks': ['all'], 'epsilon': 'x'}}),
      "stages.stage1.epsilon: is 'x', must be null or a number",
    ),
    (
      *('stages', {'stage1': {'networks': ['all'], 'epsilon': math.nan}}),
      'stages.stage1.epsilon: is nan, must be null or a number',
    ),
    ('landmarks', [], 'landmarks: must be an object'),
    ('landmarks', {'version': 1}, 'landmarks.names: is missing'),
  ],
)
def test_other_fields_of_a_manifest(tmp_path, field, value, words):
  config = get('dfa', 'size=tiny')
  whole = resolve(config).whole
  manifest.write_manifest(tmp_path, config, whole, 'x', manifest.TOPOLOGY, {})
  path = tmp_path / 'manifest.json'
  saved = json.loads(path.read_text())
  assert manifest.read_manifest(tmp_path)['landmarks'] == whole
  path.write_text(json.dumps({**saved, field: value}))
  with pytest.raises(InputError, match=f'manifest.json, {words}'):
    manifest.read_manifest(tmp_path)
