"""Damage of annotation files, as it happens: bytes in, bytes out.

A mutation is a function (content, a, b) of a file's bytes and of two whole
numbers that choose a place and a change. One that finds nothing to change
returns what it got.
"""

import contextlib
import copy
import io
import json
import re
import tempfile
import warnings

import numpy as np
import scipy.io

from fld_jax.datasets.pose import mat_files

# What stands where a number or a name should, and still looks like one.
TOKENS = [
  *('0 1 2 3 4 5 6 7 9 -1 -2 007 10 12 39 40 41 42 43 44 46 47 59 60').split(),
  *('61 62 62.5 63 66 67 100 1e1 1.5 .5 1. -0 +5 +1 -5 0.0 1E+1 30.25').split(),
  *('nan NaN -nan inf Infinity -inf 1e400 -1e400 1e39 1e-400 1e309').split(),
  *('0x10 0b1 0o7 1_0 1__0 1,5 1;5 1e 1e+ . - + -- 5- 1.5.2 1d3 ½').split(),
  *('١٢ １２ ² Ⅷ １ −1 1\u00a00 1\u20280 \ufeff1 \u200b1 1\x00 1\x1c2').split(
    ' '
  ),
  *('9' * 18, '9' * 19, '9' * 30, '9' * 5000, '0' * 30 + '1', '1' * 200),
  *('-' + '9' * 4000, '0.' + '3' * 400, '1.' + '0' * 5000),
  *('train val test Train train, dev None null True false').split(),
  *('img img/ .. /dev/null "" \'\' " x\ufffdy é\x85 \x00').split(' '),
]
# Single characters that tools add, lose or take for others.
CHARACTERS = [
  *('\0', '\x1a', '\x1b', '\x1c', '\x1f', '\x7f', '\x85', '\xa0', '\xad'),
  *('\u2028', '\u2029', '\u200b', '\u3000', '\ufeff', '\U0001f457', 'é'),
  *(' ', '  ', '\t', '\v', '\f', '\r', '\r\n', '\n', '\n\n', ',', ';', '"'),
  *("'", '_', '-', '.', '/', '#', '\\', '{', '}', '[', ']', ':', '0', '1'),
]
_TOKEN = re.compile(rb'[^ \t\r\n,:\[\]{}]+')
_NUMBER = re.compile(rb'-?\d+(\.\d+)?')


def _chosen(pattern, content: bytes, a: int):
  """Start and end of the a-th match, or None."""
  spans = [match.span() for match in pattern.finditer(content)]
  return spans[a % len(spans)] if spans else None


def _put(content: bytes, span, new: bytes) -> bytes:
  return content[: span[0]] + new + content[span[1] :]


def replace_token(content, a, b):
  span = _chosen(_TOKEN, content, a)
  new = TOKENS[b % len(TOKENS)].encode()
  return _put(content, span, new) if span else content


def replace_number(content, a, b):
  span = _chosen(_NUMBER, content, a)
  new = TOKENS[b % len(TOKENS)].encode()
  return _put(content, span, new) if span else content


def nudge_number(content, a, b):
  """Slips of a finger, and other ways to write the same number."""
  span = _chosen(_NUMBER, content, a)
  if not span:
    return content
  old = content[slice(*span)]
  value = min(max(float(old), -1e300), 1e300)
  ways = [
    *(b'%d' % (value + step) for step in (1, -1, 2, -2, 10, -10, 100)),
    *(b'-' + old, b'+' + old, b'0' + old, b'000' + old, old + b'0'),
    *(old + b'.', old + b'.0', old + b'e0', old + b'.5', old[1:], old[:-1]),
    *(old + old, old[::-1], b'%.3f' % value, b'%.1e' % value),
    *(b'1' + old, b'_'.join([old[:1], old[1:]]), old + b'f', b'(%s)' % old),
    old.translate(bytes.maketrans(b'01', b'Ol')),
  ]
  return _put(content, span, ways[b % len(ways)])


def copy_token(content, a, b):
  """Another token of the file in place of one."""
  span, source = _chosen(_TOKEN, content, a), _chosen(_TOKEN, content, b)
  if not span:
    return content
  return _put(content, span, content[slice(*source)])


def swap_tokens(content, a, b):
  if not _TOKEN.search(content):
    return content
  one, two = sorted([_chosen(_TOKEN, content, a), _chosen(_TOKEN, content, b)])
  if one == two:
    return content
  first, second = content[slice(*one)], content[slice(*two)]
  return _put(_put(content, two, first), one, second)


def swap_neighbours(content, a, b):
  return swap_tokens(content, a, a + 1)


def drop_token(content, a, b):
  span = _chosen(_TOKEN, content, a)
  return _put(content, span, b'') if span else content


def double_token(content, a, b):
  span = _chosen(_TOKEN, content, a)
  if not span:
    return content
  token = content[slice(*span)]
  return _put(content, span, token + (b' ', b',', b'')[b % 3] + token)


def add_character(content, a, b):
  at = a % (len(content) + 1)
  new = CHARACTERS[b % len(CHARACTERS)].encode()
  return content[:at] + new + content[at:]


def replace_character(content, a, b):
  at = a % (len(content) + 1)
  new = CHARACTERS[b % len(CHARACTERS)].encode()
  return content[:at] + new + content[at + 1 :]


def edit_lines(content, a, b):
  lines = content.split(b'\n')
  i, j = a % len(lines), (a // 97) % len(lines)
  match b % 8:
    case 0:
      del lines[i]
    case 1:
      lines.insert(j, lines[i])
    case 2:
      lines[i], lines[j] = lines[j], lines[i]
    case 3:
      lines.insert(i, (b'', b' ', b'\t', b'#', b'\x1c')[j % 5])
    case 4:
      lines[i : i + 2] = [b' '.join(lines[i : i + 2])]
    case 5:
      lines[i] = lines[i][: a // 97 % (len(lines[i]) + 1)]
    case 6:  # a row repeated, and counted
      lines.insert(i, lines[i])
      lines[0] = b'%d' % (len(lines) - 3)
    case 7:  # a row dropped, and counted
      del lines[i]
      if lines:
        lines[0] = b'%d' % (len(lines) - 3)
  return b'\n'.join(lines)


def truncate(content, a, b):
  return content[: a % (len(content) + 1)]


def append(content, a, b):
  tails = (b'\n', b'\n\n', b'\0', b'\0' * 512, b'\x1a', b'x', b' ', b'}', b']')
  more = (content, content[a % (len(content) + 1) :], b'\xff\xfe', b'\r\n\r\n')
  return content + [*tails, *more][b % (len(tails) + len(more))]


def encode_anew(content, a, b):
  """The whole file as another program would save it."""
  try:
    text = content.decode('utf-8')
  except UnicodeDecodeError:
    return content
  ways = (
    lambda: b'\xef\xbb\xbf' + content,
    lambda: b'\xef\xbb\xbf' * 2 + content,
    *(
      lambda name=name: text.encode(name, 'replace')
      for name in (
        *('latin-1', 'cp1252', 'utf-16', 'utf-16-le', 'utf-16-be', 'utf-32'),
        *('utf-7', 'ascii', 'cp037'),
      )
    ),
    lambda: content.replace(b'\n', b'\r\n'),
    lambda: content.replace(b'\n', b'\r'),
    lambda: content.replace(b'\n', b'\n\n'),
    lambda: content.replace(b'\n', '\x85'.encode()),
    lambda: content.replace(b'\n', b' \t\n'),
    lambda: content.replace(b' ', b'\t'),
    lambda: content.replace(b' ', b'   '),
    lambda: content.replace(b' ', b','),
    lambda: content.replace(b',', b';'),
    lambda: content.replace(b',', b', '),
    lambda: content.replace(b' ', '\xa0'.encode()),
    lambda: content.replace(b' ', b'\x1c'),
    lambda: content.upper(),
    lambda: text.replace('é', 'e\u0301').encode(),
    lambda: content.replace(b'\n', b'\f\n'),
    lambda: content.translate(bytes(range(128)) * 2),
  )
  return ways[b % len(ways)]()


def flip_bits(content, a, b):
  if not content:
    return content
  at = a % len(content)
  return _put(content, (at, at + 1), bytes([content[at] ^ (1 << b % 8)]))


def random_bytes(content, a, b):
  at, length = a % (len(content) + 1), (1, 1, 1, 2, 4, 8, 64)[b % 7]
  new = np.random.default_rng(b).bytes(length)
  return content[:at] + new + content[at + (b // 7 % 2) * length :]


def move_block(content, a, b):
  """A block of the file lost, repeated or blank, as on a bad disk."""
  at = a % (len(content) + 1)
  length = 1 << (b % 10)
  block = content[at : at + length]
  new = (b'', block * 2, b'\0' * len(block), b' ' * len(block))[b // 10 % 4]
  return _put(content, (at, at + length), new)


TEXT = (
  *(replace_token, replace_number, nudge_number, nudge_number, copy_token),
  *(swap_tokens, swap_neighbours, drop_token, double_token, add_character),
  *(replace_character, edit_lines, edit_lines, truncate, append, encode_anew),
  *(flip_bits, random_bytes, move_block),
)


def quote_cell(content, a, b):
  """CSV: a cell in quotes, in wrong ones, or with something in them."""
  span = _chosen(re.compile(rb'[^,\r\n]+'), content, a)
  if not span:
    return content
  cell = content[slice(*span)]
  ways = (
    *(b'"%s"', b'"%s"', b'"%s', b'%s"', b"'%s'", b'" %s"', b'"%s" ', b' "%s"'),
    *(b'"%s\n"', b'"\r\n%s"', b'"%s,"', b'"%s""', b'""%s""', b'"%s"x', b'\\%s'),
    b'"""%s"""',
  )
  return _put(content, span, ways[b % len(ways)] % cell)


def edit_column(content, a, b):
  """CSV: one column of all lines lost, doubled or moved."""
  rows = [line.split(b',') for line in content.split(b'\n')]
  for cells in rows:
    if len(cells) > 1:
      at = a % len(cells)
      match b % 4:
        case 0:
          del cells[at]
        case 1:
          cells.insert(at, cells[at])
        case 2:
          cells.append(cells.pop(at))
        case 3:
          cells.append(b'')
  return b'\n'.join(map(b','.join, rows))


CSV = (*TEXT, *(quote_cell,) * 3, edit_column)

# Values of JSON, and what programs write that think it is JSON.
VALUES = [
  *('0', '1', '2', '3', '-1', '7', '10', '11', '100', '60', '40', '-0', '2.0'),
  *('1.5', '1e1', '10.0', '1e9', '1e10', '1e39', '1e308', '1e400', '-1e400'),
  *('true', 'false', 'null', '""', '"x"', '"1"', '"10"', '"100"', '" "'),
  *('[]', '{}', '[[]]', '[1]', '[[1]]', '[[2.5,3,40,30]]', '{"id":1}', '[{}]'),
  *('NaN', 'Infinity', '-Infinity', 'nan', 'None', 'True', "'x'", 'undefined'),
  *('01', '+1', '.5', '5.', '1_0', '0x10', '１', '"\\ud800"', '"\\udc80x"'),
  *('"\\u0000"', '"a\\nb"', '"a\\u2028b"', '"\\u001b[31m"', '"left cup"'),
  *('"right cup"', '"left_cup"', '"left"', '"\\ud83d\\udc57"', '"a\tb"'),
  *('["left cup","right cup","strap_top"]', '["a","b","c"]', '["a","a","b"]'),
  *('[["left cup","right cup"]]', '[["left cup","left cup"]]', '[["x","y"]]'),
  *('{"x":[["strap top"]]}', '{"x":[[]]}', '{"x\\n":5}', '[0,0,0,0,0,0,0,0,0]'),
  *('[10,10,2,20,20,1,0,0,0]', '[5,5,50,30]', '[5,5,0,30]', '[5,5,-1,30]'),
  *('9' * 18, '9' * 200, '-' + '9' * 4200, '9' * 5000, '1.' + '1' * 5000),
  *('"%s"' % ('y' * 5000), '[' * 90 + ']' * 90, '[' * 950 + ']' * 950),
  *('{"a":' * 300 + '1' + '}' * 300, '[' * 30000, '[' * 30000 + ']' * 30000),
]
_MARK = '\ue000'  # in a document: here stands text that is no value


def _places(value, path=()):
  """Places of everything in a document."""
  if path:
    yield path
  items = {dict: lambda: value.items(), list: lambda: enumerate(value)}
  for key, entry in items.get(type(value), tuple)():
    yield from _places(entry, (*path, key))


def edit_json(content, a, b):
  """One value of a document changed, moved, lost or given twice."""
  try:
    data = json.loads(content)
    places = list(_places(data))
    *parents, last = places[a % len(places)]
  except (ValueError, RecursionError, ZeroDivisionError):
    return content
  at = data
  for key in parents:
    at = at[key]
  kind, b = b % 8, b // 8
  value = VALUES[b % len(VALUES)]
  raw = ''
  if kind < 3:
    at[last], raw = _MARK, value
  elif kind == 3:
    del at[last]
  elif kind == 4:  # something of elsewhere
    *others, key = places[b % len(places)]
    there = data
    for other in others:
      there = there[other]
    at[last] = copy.deepcopy(there[key])
  elif isinstance(at, list):
    if kind == 5:
      at.insert(last, copy.deepcopy(at[last]))
    elif kind == 6:
      at.append(at.pop(last))
    else:
      at.insert(last, _MARK)
      raw = value
  elif kind == 5:  # the same key twice, with another value or the same
    raw = value if b % 3 else json.dumps(at[last])
    at[f'{last}{_MARK}'] = _MARK
  elif kind == 6:
    at[f'{last}{"_sx "[b % 4]}'] = at.pop(last)
  else:  # a field that is not of the format
    at[('comment', 'score', 'iscrowd', 'width', 'swaps', 'parts')[b % 6]] = (
      _MARK
    )
    raw = value
  text = json.dumps(data, ensure_ascii=False, indent=(None, 1)[a % 2])
  text = text.replace(f'"{_MARK}"', raw).replace(_MARK, '')
  return text.encode('utf-8', 'surrogatepass')


JSON = (*(edit_json,) * 20, *TEXT)

NUMBERS = [
  *(0, 1, 2, -1, 0.5, -0.0, 5, 50, 99, 100, 119, 120, 200, 240, 241, -120),
  *(-121, 255, 256, 1e9, 1e39, 1e300, -1e300, 1e-320, np.nan, np.inf, -np.inf),
]
TYPES = [
  *('f4', 'f2', '>f8', 'i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8', '?'),
  *('c16', 'U4', 'O'),
]


def _change_array(array, a, b):
  """Values, shape or type."""
  at = np.unravel_index(a % array.size, array.shape)
  axis = a % array.ndim
  kind, b = b % 10, b // 10
  if kind < 4:
    array[at] = np.float64(NUMBERS[b % len(NUMBERS)]).astype(array.dtype)
  elif kind == 4:
    array = np.where(array == array[at], NUMBERS[b % len(NUMBERS)], array)
  elif kind == 5:
    array = np.delete(array, a % array.shape[axis], axis)
  elif kind == 6:
    array = np.repeat(array, [1, 2, 0][b % 3], axis)
  elif kind == 7:
    array = array.transpose(np.random.default_rng(b).permutation(array.ndim))
  elif kind == 8:
    shapes = [array.shape[::-1], (-1,), (1, *array.shape), array.shape[:1]]
    shape = shapes[b % 4]
    array = np.resize(array, shape) if b % 4 == 3 else array.reshape(shape)
  else:
    array = array.astype(TYPES[b % len(TYPES)])
  return array


def _array_of(content: bytes):
  """(name, array) of a file. Not by SciPy, which damaged files can crash."""
  with tempfile.NamedTemporaryFile() as file:
    file.write(content)
    file.flush()
    for name in ('joints', 'ptsAll'):
      with contextlib.suppress(ValueError):
        return name, mat_files.read_array(file.name, name)
  return None, None


def edit_array(content, a, b):
  """The array of a .mat file changed, and what is around it."""
  name, array = _array_of(content)
  if array is None or not array.size:
    return content
  array = _change_array(np.array(array), a, b // 8)
  files = (
    *({name: array},) * 3,
    {'other': array},
    {'other': np.arange(4.0), name: array},
    {name: array, 'other': 'text'},
    {name: {'x': array}},
    {name.upper(): array},
  )
  file, data = io.BytesIO(), files[b % 8]
  with contextlib.suppress(TypeError, ValueError):  # what SciPy cannot write
    is_old = a % 11 == 0 and array.ndim <= 2
    kind = '4' if is_old else '5'
    scipy.io.savemat(file, data, format=kind, do_compression=a % 3 == 0)
    return file.getvalue()
  return content


def compress(content, a, b):
  """The same array, compressed or not."""
  name, array = _array_of(content)
  if array is None:
    return content
  file = io.BytesIO()
  scipy.io.savemat(file, {name: array}, do_compression=a % 2 == 0)
  return file.getvalue()


def edit_tag(content, a, b):
  """A word of four bytes of the file's beginning: types, lengths, flags."""
  at = 4 * (a % max(min(len(content), 240) // 4, 1))
  words = (0, 1, 2, 3, 5, 6, 7, 9, 12, 14, 15, 16, 17, 56, 1 << 16, 1 << 31)
  words = (*words, (1 << 32) - 1, (1 << 31) - 8, 8, 255, 0x0806, 0x0206, 0x0406)
  return _put(
    content, (at, at + 4), words[b % len(words)].to_bytes(4, 'little')
  )


def early_bits(content, a, b):
  return flip_bits(content, a % 240, b)


MAT = (
  *(edit_array,) * 12,
  *(compress, compress, edit_tag, edit_tag, early_bits, early_bits, flip_bits),
  *(flip_bits, truncate, append, random_bytes, move_block, edit_lines),
)
IMAGE = (
  *(flip_bits, flip_bits, early_bits, early_bits, early_bits, random_bytes),
  *(truncate, append, move_block, edit_tag),
)


def apply(content: bytes, steps) -> bytes:
  """All of (mutation, a, b), one after the other."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of arrays that are damaged already
    for mutation, a, b in steps:
      content = mutation(content, a, b)
  return content
