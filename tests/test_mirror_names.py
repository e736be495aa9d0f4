"""Pairs of left and right: in all common writings, and none invented."""

import pytest

from fld_jax.mirror_names import mirrored_name, partners, word_side

PAIRS = (  # a left name, and its partner
  ('collar_left', 'collar_right'),
  ('left_collar', 'right_collar'),
  ('Left collar', 'Right collar'),
  ('LEFT_COLLAR', 'RIGHT_COLLAR'),
  ('leftCollar', 'rightCollar'),
  ('LeftCollar', 'RightCollar'),
  ('collarLeft', 'collarRight'),
  ('collar-left', 'collar-right'),
  ('collar.left', 'collar.right'),
  ('leftcollar', 'rightcollar'),
  ('collarleft', 'collarright'),
  ('Collar (left)', 'Collar (right)'),
  ('l_collar', 'r_collar'),
  ('L-collar', 'R-collar'),
  ('collar_l', 'collar_r'),
  ('collarL', 'collarR'),
  ('collar L', 'collar R'),
  ('LCollar', 'RCollar'),
  ('lCollar', 'rCollar'),
  ('lcollar', 'rcollar'),
  ('NECKL', 'NECKR'),
  ('collarL2', 'collarR2'),
  ('2L', '2R'),
  ('left2', 'right2'),
  ('cuff_left_in', 'cuff_right_in'),
  ('L_F_Paw', 'R_F_Paw'),
  ('wheel_fl', 'wheel_fr'),
  ('LeftBrowRightCorner', 'RightBrowLeftCorner'),
  ('左领', '右领'),
  ('领口左', '领口右'),
  ('col_gauche', 'col_droit'),
  ('manche gauche', 'manche droite'),
  ('links_Kragen', 'rechts_Kragen'),
  ('cuello_izquierdo', 'cuello_derecho'),
)


@pytest.mark.parametrize('pair', PAIRS)
def test_a_pair_is_seen_in_any_writing(pair):
  others = ('lower', 'upper', 'neck', 'centre', '17', 'bright', 'collar')
  for names in ((*pair, *others), (*others, *pair[::-1])):
    found = partners(names)
    a, b = map(names.index, pair)
    assert found[a] == (b, 'left') and found[b] == (a, 'right')
    alone = [i for i in range(len(names)) if i not in (a, b)]
    assert [found[i] for i in alone] == [(i, None) for i in alone]


def test_all_writings_at_once():
  names = [name for pair in PAIRS for name in pair]
  # Of two pairs that differ in their writing alone none is taken.
  found = partners(['left_a', 'right_a', 'Left A', 'Right A', 'left b'])
  assert [partner.slot for partner in found] == list(range(5))
  for slot, (partner, _) in enumerate(partners(names)):
    assert partners(names)[partner].slot == slot


def test_none_is_invented():
  for names in (
    [str(i) for i in range(1, 295)],  # DeepFashion2's converter
    [f'kp_{i}' for i in range(98)],  # WFLW
    ['lower', 'upper', 'bright', 'cleft', 'lapel', 'collar', 'rear', 'tail'],
    ['thumb1', 'thumb2', 'l', 'left'],
    ['copyright', 'leftover'],
  ):
    assert all(p.slot == i for i, p in enumerate(partners(names)))


def test_words():
  assert word_side('right_brow_left_corner') == 'right'
  assert word_side('leftCuff') == 'left'
  assert word_side('bright_cleft') is None
  assert mirrored_name('LEFT_Right_leftCup') == 'RIGHT_Left_rightCup'
