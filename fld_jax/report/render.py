"""The page of a report: assets/page.html filled with tables, figures and data.

page.html is a Jinja template with autoescape: whatever a name, a path or a
caption says, it is text. A section that nothing stands in is left out.
"""

import base64
import dataclasses
import struct
from typing import ClassVar

import jinja2
from markupsafe import Markup

from fld_jax.report import table as report_table
from fld_jax.report.table import Table
from fld_jax.visualization.drawing import SIDE_COLOURS, UNSURE


@dataclasses.dataclass(frozen=True)
class Picture:
  """A PNG image of the page.

  Attributes:
    slug: The name of the image's file, without its ending.
    caption: What the image shows, plain text.
    alt: What the image shows for readers who cannot see it, plain text.
    png: The bytes of the file.
  """

  kind: ClassVar[str] = 'figure'
  slug: str
  caption: str
  alt: str
  png: bytes

  @property
  def size(self) -> tuple[int, int]:
    """Width and height in pixels."""
    return struct.unpack('>II', self.png[16:24])

  @property
  def data_uri(self) -> str:
    """The file as an address that holds it."""
    return f'data:image/png;base64,{base64.b64encode(self.png).decode()}'


@dataclasses.dataclass
class Content:
  """What a page is filled with.

  Attributes:
    values: Texts by the names that page.html uses.
    findings: Sentences of the overview.
    blocks: Section id -> its tables and figures, in the order of the page.
    gallery: What `gallery.gallery` returns.
  """

  values: dict[str, str] = dataclasses.field(default_factory=dict)
  findings: list[str] = dataclasses.field(default_factory=list)
  blocks: dict[str, list[Table | Picture]] = dataclasses.field(
    default_factory=dict
  )
  gallery: dict = dataclasses.field(default_factory=dict)


def page(content: Content) -> str:
  """Fills page.html with tables, figures and data.

  Args:
    content: What the page is filled with.

  Returns:
    The whole HTML file, with nothing that it would have to fetch.
  """
  template = _environment().get_template('page.html')
  return template.render(
    content=content, side_colours=SIDE_COLOURS, unsure=UNSURE
  )


def table_html(table: Table) -> str:
  """Makes the HTML of a table.

  Args:
    table: The table.

  Returns:
    A <figure> whose table scrolls by itself, as on the page.
  """
  return str(_environment().get_template('blocks.html').module.table(table))


def _environment() -> jinja2.Environment:
  """A Jinja environment with the templates and files of assets/."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('fld_jax.report', 'assets'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=['jinja2.ext.do'],
  )
  environment.policies['json.dumps_kwargs'] = {
    'allow_nan': False,
    'separators': (',', ':'),
  }
  environment.filters['cell'] = lambda cell: (
    report_table.text(cell) or report_table.MISSING
  )
  # The style and the script are ours: they stand in the page as they are.
  source = lambda name: environment.loader.get_source(environment, name)[0]
  environment.globals['asset'] = lambda name: Markup(source(name))
  return environment
