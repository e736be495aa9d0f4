"""Left and right of public schemas: right pairs, and none that is made up."""

import re

import keypoint_schemas
import numpy as np
import pytest

from fld_jax import mirror_names

SCHEMAS = keypoint_schemas.SCHEMAS


def told(names):
  """The pairs as (left, right), and the names without a partner."""
  found = mirror_names.partners(names)
  pairs = set()
  for slot, (partner, side) in enumerate(found):
    assert found[partner].slot == slot
    if partner != slot and side == 'left':
      assert found[partner].side == 'right'
      pairs.add((names[slot], names[partner]))
  alone = [n for i, n in enumerate(names) if found[i].slot == i]
  assert len(names) == 2 * len(pairs) + len(alone)
  return pairs, set(alone)


def test_there_are_enough():
  assert len(SCHEMAS) >= 30
  assert all(schema.source for schema in SCHEMAS.values())


@pytest.mark.parametrize('name', SCHEMAS)
def test_schema(name):
  schema = SCHEMAS[name]
  names = [*schema.middle, *(n for pair in schema.pairs for n in pair)]
  assert len({*names}) == len(names)
  for seed in range(3):  # whatever their order
    order = np.random.default_rng(seed).permutation(len(names))
    pairs, alone = told([names[i] for i in order])
    assert pairs == {*schema.pairs}
    assert alone == {*schema.middle}


def camel(name: str) -> str:
  first, *rest = re.split(r'[ _-]', name)
  return first + ''.join(word[:1].upper() + word[1:] for word in rest)


WRITINGS = {
  'upper': str.upper,
  'title': lambda name: re.sub(r'[^ _-]+', lambda m: m[0].capitalize(), name),
  'hyphens': lambda name: re.sub('[ _]', '-', name),
  'blanks': lambda name: re.sub('[_-]', ' ', name),
  'dots': lambda name: re.sub('[ _-]', '.', name),
  'camelCase': camel,
  'PascalCase': lambda name: camel(name)[:1].upper() + camel(name)[1:],
  'before': lambda name: f'garment_{name}',
  'behind': lambda name: f'{name}_2',
}
# Those that have words for the sides, between separators.
PLAIN = [
  *('COCO', 'COCO-WholeBody', 'LSP', 'AIC', 'PoseTrack18', 'H36M', 'FLD'),
  *(
    'FashionAI',
    'ATRW',
    'BlazePose',
    'CarFusion',
    'ApolloCar3D',
    'SuperAnimal',
  ),
  *('InterHand2.6M', 'Facial Keypoints', 'MPII-TRB', 'StanfordExtra'),
]


@pytest.mark.parametrize('name', PLAIN)
@pytest.mark.parametrize('writing', WRITINGS)
def test_writings(name, writing):
  schema, write = SCHEMAS[name], WRITINGS[writing]
  names = [*schema.middle, *(n for pair in schema.pairs for n in pair)]
  pairs, alone = told([write(n) for n in names])
  assert pairs == {tuple(map(write, pair)) for pair in schema.pairs}
  assert alone == {write(n) for n in schema.middle}


LANGUAGES = [
  ('linke Schulter', 'rechte Schulter'),
  ('Kragen links', 'Kragen rechts'),
  ('manche gauche', 'manche droite'),
  ('col gauche', 'col droit'),
  ('manga izquierda', 'manga derecha'),
  ('hombro izquierdo', 'hombro derecho'),
  ('manica sinistra', 'manica destra'),
  ('spalla sx', 'spalla dx'),
  ('manga esquerda', 'manga direita'),
  ('ombro esquerdo', 'ombro direito'),
  ('vänster ärm', 'höger ärm'),
  ('lewy rękaw', 'prawy rękaw'),
  ('sol kol', 'sağ kol'),
  ('lengan kiri', 'lengan kanan'),
  ('левый рукав', 'правый рукав'),
  ('左袖', '右袖'),
  ('袖口左', '袖口右'),
  ('왼쪽 소매', '오른쪽 소매'),
  ('왼쪽소매', '오른쪽소매'),
  ('좌 어깨', '우 어깨'),
]


@pytest.mark.parametrize('pair', LANGUAGES, ids=lambda pair: pair[0])
def test_languages(pair):
  middle = ('neck', 'centre', 'hem', '中', 'cuello')
  assert told([*middle, *pair]) == ({pair}, {*middle})
  assert told([*pair[::-1], *middle]) == ({pair}, {*middle})


NO_PAIRS = [
  ('upright', 'upleft corner'),
  ('lower', 'upper'),
  ('light', 'right'),
  ('collar', 'colla'),
  ('neckline', 'neck'),
  ('left', 'left 2'),
  ('bright', 'bleft'),
  ('point l', 'point r', *(f'point {c}' for c in 'abcdefghijkmnopqst')),
  ('l1', 'l2', 't1', 'c7'),
  ('a1', 'a2', 'b1', 'b2'),
]


@pytest.mark.parametrize('names', NO_PAIRS, ids=lambda names: names[0])
def test_words_that_only_look_like_sides(names):
  assert told(list(names))[0] in (set(), {('bleft', 'bright')})
