"""Which landmarks change places in a mirrored image, as their names tell.

Names are compared in the writings of common labelling tools: `left_collar`,
`Left collar`, `leftCollar`, `LEFT-COLLAR`, `collar.left`, `leftcollar`,
`L_collar`, `collarL`, `lcollar`, `左领`, and the words of other languages. A
name has a partner only if the mirrored name is among the names as well, so that
`lower` or `upright` mean nothing; numbers tell no side.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_LEFT_TO_RIGHT = {
  'left': 'right',
  'lft': 'rgt',
  'lt': 'rt',
  'lh': 'rh',
  'lhs': 'rhs',
  '左': '右',
  '왼쪽': '오른쪽',
  '왼': '오른',
  '좌': '우',
  'links': 'rechts',
  'linker': 'rechter',
  'linke': 'rechte',
  'linkes': 'rechtes',
  'gauche': 'droite',
  'izquierdo': 'derecho',
  'izquierda': 'derecha',
  'izq': 'der',
  'sinistro': 'destro',
  'sinistra': 'destra',
  'esquerdo': 'direito',
  'esquerda': 'direita',
  'esq': 'dir',
  'sx': 'dx',
  'vänster': 'höger',
  'lewy': 'prawy',
  'lewa': 'prawa',
  'lewe': 'prawe',
  'sol': 'sağ',
  'kiri': 'kanan',
  'trái': 'phải',
  'левый': 'правый',
  'левая': 'правая',
  'левое': 'правое',
}
# 'droit' is the masculine form of 'droite': of a right collar, not a sleeve.
_OPPOSITE = {
  **_LEFT_TO_RIGHT,
  **{right: left for left, right in _LEFT_TO_RIGHT.items()},
  'droit': 'gauche',
}
_LEFT_WORDS = {*_LEFT_TO_RIGHT, 'l'}
_LETTERS = {'l': 'r', 'r': 'l'}
# Words that names begin or end with even where no separator stands between.
_JOINED = {
  word: _OPPOSITE[word]
  for word in ('left', 'right', '왼쪽', '오른쪽', '왼', '오른', '좌', '우')
}
# Letters, cut where camelCase begins a new word: 'neckL', 'RHip', 'leftCollar';
# or digits.
_TOKENS = re.compile(
  r'[A-Z]+(?![a-z])|[A-Z][a-z]+|\d+|[^\W\d_A-Z]+', re.UNICODE
)

_Key = tuple[str, ...]


class Partner(NamedTuple):
  """What takes a landmark's place in a mirrored image.

  Attributes:
    slot: The index of the partner; a landmark's own if it has none.
    side: 'left' or 'right', as the name tells; None if it does not.
  """

  slot: int
  side: str | None


def partners(names: Sequence[str]) -> list[Partner]:
  """The partner of each landmark.

  Args:
    names: The names of the N landmarks, all different.

  Returns:
    N partners; the partner of a landmark's partner is the landmark itself.
  """
  keys = [_key(name) for name in names]
  # Names that differ in their writing alone cannot be told apart.
  slots = _unique(keys)
  # 'LKnee' and 'Rknee' have other words, and the same letters.
  texts = _unique([''.join(key) for key in keys])
  found = [Partner(slot, word_side(name)) for slot, name in enumerate(names)]
  paired: set[int] = set()
  for rule in _RULES:
    for key, slot in slots.items():
      for mirrored, word in rule(key):
        text = ''.join(mirrored)
        partner = slots.get(mirrored, texts.get(text, slot))
        if (
          partner != slot
          and not {slot, partner} & paired
          and not _enumerates(''.join(key), text, texts)
        ):
          side = _side_of(word)
          other = 'right' if side == 'left' else 'left'
          found[slot] = Partner(partner, side)
          found[partner] = Partner(slot, other)
          paired |= {slot, partner}
  return found


def _unique(keys: list) -> dict:
  """Key -> slot, of the keys that stand once."""
  counts = Counter(keys)
  return {key: slot for slot, key in enumerate(keys) if counts[key] == 1}


def _enumerates(text: str, mirrored: str, texts: dict[str, int]) -> bool:
  """Whether the l of two names is one of a, b, c and so on, and no side."""
  places = [
    i
    for i, pair in enumerate(zip(text, mirrored, strict=False))
    if pair in (('l', 'r'), ('r', 'l'))
  ]
  if len(text) != len(mirrored) or not places:
    return False
  with_letter = lambda letter: ''.join(
    letter if i in places else c for i, c in enumerate(text)
  )
  return with_letter('k') in texts and with_letter('q') in texts


def word_side(name: str) -> str | None:
  """The side that the word 'left' or 'right' in a name tells.

  Args:
    name: A landmark's name, such as 'collar_left'.

  Returns:
    'left', 'right'; None if there is no such word. Of two words the first
    counts: the left corner of the right brow, `right_brow_left_corner`, is on
    the right.
  """
  return next((t for t in _key(name) if t in ('left', 'right')), None)


def mirrored_name(name: str) -> str:
  """A name with 'left' and 'right' exchanged, in the writing that it has.

  Args:
    name: A landmark's name in any writing.
  """

  def exchange(match: re.Match) -> str:
    word = match.group()
    other = _OPPOSITE[word.lower()]
    if word.isupper():
      return other.upper()
    return other.capitalize() if word[0].isupper() else other

  return re.sub('left|right', exchange, name, flags=re.IGNORECASE)


def _key(name: str) -> _Key:
  """The words of a name in lower case; numbers are words of their own."""
  name = unicodedata.normalize('NFC', name)  # Macs write accents apart
  for word in ('左', '右'):  # Chinese and Japanese have no separators
    name = name.replace(word, f' {word} ')
  return tuple(token.lower() for token in _TOKENS.findall(name))


# Rules yield mirrored keys, each with the word that was exchanged first.


def _by_words(key: _Key, opposite: dict[str, str] = _OPPOSITE):
  """Exchanges all words for left and right."""
  first = next((token for token in key if token in opposite), None)
  if first:
    yield tuple(opposite.get(token, token) for token in key), first


def _by_letters(key: _Key):
  """Exchanges all words that are an l or an r alone."""
  return _by_words(key, _LETTERS)


def _by_joined(key: _Key, opposite: dict[str, str]):
  """Exchanges one word that stands right before or behind another."""
  for i, token in enumerate(key):
    for word, other in opposite.items():
      # A light is no right, and the mirror image of a left is none of letters.
      if len(token) == len(word) or token in _OPPOSITE:
        continue
      turned = []
      if token.startswith(word):
        turned.append(other + token[len(word) :])
      if token.endswith(word):
        turned.append(token[: -len(word)] + other)
      for each in turned:
        if each not in _OPPOSITE:
          yield (*key[:i], each, *key[i + 1 :]), word


def _side_of(word: str) -> str:
  return 'left' if word in _LEFT_WORDS else 'right'


# The surest first: each is asked for the names that are left.
_RULES = (
  _by_words,
  _by_letters,
  lambda key: _by_joined(key, _JOINED),
  lambda key: _by_joined(key, _LETTERS),
)
