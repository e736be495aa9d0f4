"""The page of a report: assets/ filled with figures, tables and data.

page.html is made of <section> elements. `{{figure NAME}}`, `{{table NAME}}`,
`{{list NAME}}` and `{{value NAME}}` stand for what `Content` holds under the
name. What there is not is left out, and so is a section of which nothing is
left. `{{page NAME}}`, outside of sections, is the list of contents, the style,
the script or the gallery's data.
"""

import base64
import dataclasses
import html
import importlib.resources
import itertools
import re
import struct

from fld_jax.report.gallery import embed
from fld_jax.report.table import Table

_SECTION = re.compile(r'<section\b.*?</section>\n?', re.DOTALL)
_HOLDER = re.compile(r'\{\{(figure|table|list|value|page) (\w+)\}\}')
_HEADING = re.compile(r'<section id="(\w+)".*?<h2>(.*?)</h2>', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Picture:
  """A PNG image of the page.

  Attributes:
    slug: name of its file.
    caption: what it shows, plain text.
    alt: what it shows for who cannot see it, plain text.
    png: the file.
  """

  slug: str
  caption: str
  alt: str
  png: bytes

  def html(self) -> str:
    """A <figure> with the image as a data URI."""
    width, height = struct.unpack('>II', self.png[16:24])
    data = base64.b64encode(self.png).decode()
    wide = ' class="wide"' if width > 800 else ''
    return (
      f'<figure id="figure-{self.slug}"><div class="scroll" tabindex="0" '
      f'role="region" aria-label="Figure {html.escape(self.slug)}">'
      f'<img src="data:image/png;base64,{data}" alt="{html.escape(self.alt)}" '
      f'width="{width}" height="{height}" loading="lazy"{wide}></div>'
      f'<figcaption>{html.escape(self.caption)} <span class="files">figures/'
      f'{self.slug}.png</span></figcaption></figure>'
    )


@dataclasses.dataclass
class Content:
  """What a page is filled with, by the names of page.html.

  Attributes:
    figures: name -> pictures.
    tables: name -> tables.
    lists: name -> sentences.
    values: name -> text.
    gallery: of `report_gallery.gallery`.
  """

  figures: dict[str, list[Picture]] = dataclasses.field(default_factory=dict)
  tables: dict[str, list[Table]] = dataclasses.field(default_factory=dict)
  lists: dict[str, list[str]] = dataclasses.field(default_factory=dict)
  values: dict[str, str] = dataclasses.field(default_factory=dict)
  gallery: dict = dataclasses.field(default_factory=dict)

  def html(self, kind: str, name: str) -> str:
    """What stands for a holder; '' if there is nothing."""
    if kind == 'value':
      return html.escape(self.values.get(name, ''))
    if kind == 'list':
      items = self.lists.get(name, [])
      return ''.join(f'<li>{html.escape(item)}</li>' for item in items)
    blocks = {'figure': self.figures, 'table': self.tables}[kind]
    return '\n'.join(block.html() for block in blocks.get(name, []))


def page(content: Content) -> str:
  """The whole HTML file, with nothing that it would have to fetch."""
  template, sections, contents = _read('page.html'), [], []
  for text in _SECTION.findall(template):
    holders = _HOLDER.findall(text)
    if holders and not any(content.html(*holder) for holder in holders):
      sections.append('')
      continue
    filled = _HOLDER.sub(lambda m: content.html(*m.groups()), text)
    sections.append(filled)
    contents += _HEADING.findall(filled)
  entries = ''.join(
    f'<li><a href="#{name}">{heading}</a></li>' for name, heading in contents
  )
  whole = {
    'contents': entries,
    'style': _read('page.css'),
    'script': _read('page.js'),
    'gallery': embed(content.gallery),
  }
  # What is filled in is not looked at again, whatever it says.
  fill = lambda m: (
    whole.get(m[2]) if m[1] == 'page' else content.html(*m.groups())
  )
  around = [_HOLDER.sub(fill, text) for text in _SECTION.split(template)]
  pieces = itertools.zip_longest(around, sections, fillvalue='')
  return ''.join(itertools.chain.from_iterable(pieces))


def _read(name: str) -> str:
  folder = importlib.resources.files('fld_jax.report') / 'assets'
  return (folder / name).read_text('utf-8')
