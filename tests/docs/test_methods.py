"""Comments cite sections of docs/methods.md, and those exist."""

import re

import pytest
from places import ROOT

PAGE = ROOT / 'docs/methods.md'
FOLDERS = ('fld_jax', 'configs', 'datasets', 'benchmarks', 'tests')
# After 'docs/methods.md': '4.3', 'A19, A20' or '1.2 to 1.4'.
NUMBER = r'(?:A\d+|\d+(?:\.\d+)*)'
CITATION = re.compile(
  rf'docs/methods\.md ({NUMBER}(?:(?:,| and|, and| to) {NUMBER})*)'
)


def sections() -> list[str]:
  """The numbers of the page's headings, in order."""
  return re.findall(rf'^#+ ({NUMBER})[.:]? ', PAGE.read_text(), re.MULTILINE)


def code() -> dict[str, str]:
  """Each Python file's text, with comments and lines joined."""
  texts = {}
  for folder in FOLDERS:
    for path in sorted((ROOT / folder).rglob('*.py')):
      if path == ROOT / 'tests/docs/test_methods.py' or not path.is_file():
        continue
      text = re.sub(r'\s*\n\s*(# )?', ' ', path.read_text())
      texts[str(path.relative_to(ROOT))] = text
  return texts


@pytest.fixture(scope='module')
def texts():
  return code()


def test_every_section_has_a_number_of_its_own():
  assert len(sections()) == len(set(sections())) > 60


def test_every_cited_section_exists(texts):
  cited = {
    (name, number)
    for name, text in texts.items()
    for citation in CITATION.findall(text)
    for number in re.findall(NUMBER, citation)
  }
  assert len(cited) > 30
  known = set(sections())
  assert [entry for entry in sorted(cited) if entry[1] not in known] == []


def test_citations_name_the_page_and_papers_their_authors(texts):
  """No 'methods 4.3' without the page, no 'P1' for a paper."""
  for name, text in texts.items():
    bare = re.findall(rf'(?<!docs/)\bmethods {NUMBER}', text)
    assert bare == [], name
    # P2 to P5 are levels of a feature pyramid.
    papers = re.findall(r"\bP1\b|\bP2\b(?! to P5)|\bP2's", text)
    assert papers == [], name
