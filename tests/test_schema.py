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
  with pytest.raises(InputError, match=f'^F, landmarks.{field}: is missing'):
    LandmarkSet.from_dict(missing, 'F, landmarks')


def test_skeletons_join_landmarks_of_the_set():
  for landmarks in (FASHION_8, FASHION_AI_24, LSP_14, COCO_17):
    joined = {name for pair in landmarks.skeleton for name in pair}
    assert joined == {*landmarks.names}
