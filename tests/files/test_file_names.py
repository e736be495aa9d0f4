"""Names of files as text, and back."""

import csv
import io
import json
import random

import pytest

from fld_jax.files import file_names

PIECES = [
  '\\',
  'x',
  'e',
  '9',
  '\\xe9',
  "'",
  '=',
  '+',
  '-',
  '@',
  '＝',
  '\t',
  ' ',
]
PIECES += ['\n', '\r', '"', ';', ',', '\udce9', '\udcff', 'é', '日', '.jpg']


def made_up(count):
  """Names of all kinds of characters, the same ones each time."""
  rng = random.Random(0)
  for _ in range(count):
    yield ''.join(rng.choices(PIECES, k=rng.randrange(1, 7)))


def test_every_name_comes_back():
  texts = {}
  for name in made_up(20_000):
    text = file_names.encoded(name)
    text.encode()  # every file can hold it
    assert file_names.decoded(text) == name
    assert texts.setdefault(text, name) == name  # no two have one text


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('plain é.jpg', 'plain é.jpg'),
    ('sub\\a.jpg', 'sub\\a.jpg'),
    ('caf\udce9.jpg', 'caf\\xe9.jpg'),
    ('a\\caf\udce9.jpg', 'a\\\\caf\\xe9.jpg'),
    ('caf\\xe9.jpg', 'caf\\\\xe9.jpg'),
  ],
)
def test_forms(name, text):
  assert file_names.encoded(name) == text


def test_cells_are_no_formulas_and_come_back():
  for name in made_up(20_000):
    text = file_names.encoded(name)
    cell = file_names.to_cell(text)
    assert not cell.strip(' ').startswith(tuple('=+-@＝\t\r\n'))
    assert file_names.from_cell(cell) == text


def test_lines_are_csv():
  """Python's reader is the oracle; and a semicolon never stands bare."""
  rows = [[*names] for names in zip(*[made_up(3000)] * 3, strict=True)]
  rows = [[file_names.encoded(name) for name in row] for row in rows]
  content = b''.join(map(file_names.csv_line, rows)).decode()
  assert list(csv.reader(io.StringIO(content, newline=''))) == rows
  assert file_names.csv_line(['a;=1', '2']) == b'"a;=1",2\r\n'


def test_json_holds_them():
  for name in made_up(1000):
    text = json.dumps(file_names.encoded(name))
    assert file_names.decoded(json.loads(text)) == name
