"""Landmark sets: sides, pairs and what follows from them."""

import json

import pytest

from fld_jax.errors import InputError
from fld_jax.landmark_sets import COCO_17, FASHION_8, FASHION_AI_24, LSP_14
from fld_jax.schema import LandmarkSet

GIVEN = LandmarkSet(('a', 'b', 'c'), swaps=(('c', 'a'),))


def test_pairs_of_landmarks():
  names = [[LSP_14.names[slot] for slot in pair] for pair in LSP_14.pairs]
  assert all(a.replace('left', 'right') == b for a, b in names)
  assert len(names) == 6
  assert GIVEN.pairs.tolist() == [[0, 2]]
  assert LandmarkSet(('tip',)).pairs.shape == (0, 2)


@pytest.mark.parametrize(
  'landmarks', [FASHION_8, FASHION_AI_24, LSP_14, COCO_17]
)
def test_sides_are_those_of_the_names(landmarks):
  for name, side in zip(landmarks.names, landmarks.sides, strict=True):
    words = {'left', 'right'} & set(name.split('_'))
    assert words == ({side} - {'middle'})
  sides = [[landmarks.sides[slot] for slot in pair] for pair in landmarks.pairs]
  assert sides == [['left', 'right']] * len(sides)


def test_sides_of_declared_pairs():
  assert GIVEN.sides == ('left', 'middle', 'right')
  skeleton = GIVEN.partitions['skeleton']
  assert [part.tolist() for part in skeleton] == [[0, 1], [1, 2]]
  # A word tells more than the order does, and tells the partner's side too.
  half = LandmarkSet(('flap', 'left_cuff'), swaps=(('flap', 'left_cuff'),))
  assert half.sides == ('right', 'left')
  assert half.pairs.tolist() == [[1, 0]]


@pytest.mark.parametrize('swaps', [None, ()])
def test_a_skeleton_without_sides_is_counted_once(swaps):
  landmarks = LandmarkSet(('tip', 'neck', 'hem'), swaps=swaps)
  parts = landmarks.partitions['skeleton']
  assert [part.tolist() for part in parts] == [[0, 1, 2]]


def test_a_landmark_without_a_partner_is_refused():
  with pytest.raises(InputError, match="'left_cup' has no partner 'right_cup'"):
    LandmarkSet(('left_cup', 'tip')).flip  # noqa: B018


@pytest.mark.parametrize(
  'landmarks', [FASHION_8, FASHION_AI_24, LSP_14, COCO_17, GIVEN]
)
def test_written_down_and_read_again(landmarks):
  text = json.dumps(landmarks.to_dict())
  assert LandmarkSet.from_dict(json.loads(text), 'F, landmarks') == landmarks


@pytest.mark.parametrize('field', [*LSP_14.to_dict()])
@pytest.mark.parametrize('value', [None, 7, 'x', [5], {'a': {}}, [['neck']]])
def test_a_wrong_field_is_named(field, value):
  if (field, value) in (('swaps', None), ('norm', 'x')):
    return
  with pytest.raises(InputError, match=f'^F, landmarks.{field}: is .* must be'):
    LandmarkSet.from_dict({**LSP_14.to_dict(), field: value}, 'F, landmarks')
  missing = LSP_14.to_dict()
  del missing[field]
  if field == 'chains':  # which older versions did not write
    return
  with pytest.raises(InputError, match=f'^F, landmarks.{field}: is missing'):
    LandmarkSet.from_dict(missing, 'F, landmarks')


def test_skeletons_join_landmarks_of_the_set():
  for landmarks in (FASHION_8, FASHION_AI_24, LSP_14, COCO_17):
    joined = {name for pair in landmarks.skeleton for name in pair}
    assert joined == {*landmarks.names}


def named(landmarks):
  """The chains of both grammars, by name."""
  return [
    ['-'.join(landmarks.names[slot] for slot in chain) for chain in chains]
    for chains in landmarks.grammars
  ]


def test_grammars_of_clothes():
  kinematic, symmetry = named(FASHION_8)
  assert kinematic == [
    'collar_left-waist_left-hem_left',
    'collar_right-waist_right-hem_right',
    'collar_left-sleeve_left',
    'collar_right-sleeve_right',
  ]
  assert symmetry == [
    'collar_left-collar_right',
    'sleeve_left-sleeve_right',
    'waist_left-waist_right',
    'hem_left-hem_right',
  ]
  upper, lower = (named(FASHION_8.of_type(code)) for code in (1, 2))
  assert upper[0] == [
    'collar_left-hem_left',
    'collar_right-hem_right',
    'collar_left-sleeve_left',
    'collar_right-sleeve_right',
  ]
  assert upper[1] == [symmetry[0], symmetry[1], symmetry[3]]
  assert lower == [
    ['waist_left-hem_left', 'waist_right-hem_right'],
    symmetry[2:],
  ]


@pytest.mark.parametrize(
  'landmarks', [FASHION_8, FASHION_AI_24, LSP_14, COCO_17]
)
def test_grammars_know_every_landmark_and_no_side_before_the_other(landmarks):
  kinematic, symmetry = landmarks.grammars
  assert {slot for chain in kinematic for slot in chain} == set(
    range(landmarks.num_landmarks)
  )
  assert [*map(list, symmetry)] == landmarks.pairs.tolist()
  # Mirrored, the garment or body has the same chains, perhaps turned round.
  both = {min(chain, chain[::-1]) for chain in kinematic}
  flip = landmarks.flip.tolist()
  for chain in kinematic:
    mirrored = tuple(flip[slot] for slot in chain)
    assert min(mirrored, mirrored[::-1]) in both


def test_grammars_of_other_landmarks():
  """The skeleton's lines; what nothing joins is a chain of its own."""
  own = LandmarkSet(
    ('tip', 'cuff_left', 'cuff_right', 'end'), skeleton=(('tip', 'cuff_left'),)
  )
  assert named(own) == [['tip-cuff_left', 'end'], ['cuff_left-cuff_right']]
  assert named(LandmarkSet(('a', 'b'))) == [['a', 'b']]
  wrong = LandmarkSet(('a', 'b'), chains=(('a', 'c'),))
  with pytest.raises(InputError, match='chain a-c must .* there are a, b'):
    wrong.grammars  # noqa: B018


def test_a_landmark_set_from_before_there_were_chains():
  saved = FASHION_8.to_dict()
  assert saved.pop('chains')
  read = LandmarkSet.from_dict(saved, 'file')
  assert read.chains == () and read.names == FASHION_8.names
  for chains in (['collar_left'], [['collar_left', 'nose']], [[]], 3):
    with pytest.raises(InputError, match='file.chains: is .* must be lists'):
      LandmarkSet.from_dict({**saved, 'chains': chains}, 'file')
