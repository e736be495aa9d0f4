"""A table of a report: as HTML, CSV and TeX, all with the same cells."""

import csv
import dataclasses
import html
import io

from fld_jax.evaluation.text_tables import percent

MISSING = '–'  # in HTML and TeX; an empty cell in CSV
_TEX = {
  **{sign: f'\\{sign}' for sign in '&%$#_{}'},
  '\\': r'\textbackslash{}',
  '~': r'\textasciitilde{}',
  '^': r'\textasciicircum{}',
  '<': r'\textless{}',
  '>': r'\textgreater{}',
  '–': '--',
  '±': r'$\pm$',
}


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of cells.

  Attributes:
    cells: texts, numbers or None. A float is a share or an NE, and is shown in
      per cent with two decimals.
    kind: 'ours'; 'final', ours of a last stage; 'paper', a published figure.
  """

  cells: tuple
  kind: str = 'ours'


@dataclasses.dataclass(frozen=True)
class Table:
  """A table.

  Attributes:
    slug: name of its files.
    caption: what it shows and in which unit.
    columns: headings.
    rows: as many cells each.
    heads: how many cells of each row, from the left, name it.
  """

  slug: str
  caption: str
  columns: tuple[str, ...]
  rows: list[Row]
  heads: int = 1

  def html(self) -> str:
    """A <figure> whose table scrolls within a box of its own."""
    escape, name = html.escape, f'caption-{self.slug}'
    head = lambda i: ' class="head"' if i < self.heads else ''
    lines = [
      f'<figure class="table"><figcaption id="{name}">{escape(self.caption)} '
      f'<span class="files">tables/{self.slug}.csv, .tex; '
      '<a href="#definitions">definitions</a></span></figcaption>',
      '<div class="scroll" tabindex="0" role="region" '
      f'aria-labelledby="{name}">',
      f'<table id="table-{self.slug}" aria-labelledby="{name}"><thead><tr>',
      *(
        f'<th scope="col"{head(i)}>{escape(column)}</th>'
        for i, column in enumerate(self.columns)
      ),
      '</tr></thead><tbody>',
    ]
    for row in self.rows:
      cells = [escape(text(cell) or MISSING) for cell in row.cells]
      heads = (f'<th scope="row">{cell}</th>' for cell in cells[: self.heads])
      values = (f'<td>{cell}</td>' for cell in cells[self.heads :])
      lines.append(f'<tr class="{row.kind}">{"".join([*heads, *values])}</tr>')
    return '\n'.join([*lines, '</tbody></table></div></figure>'])

  def csv(self) -> str:
    """Comma-separated values with a line of headings."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(self.columns)
    writer.writerows(map(text, row.cells) for row in self.rows)
    return buffer.getvalue()

  def tex(self) -> str:
    """A table environment; needs the package booktabs."""
    line = lambda cells: '  ' + ' & '.join(map(escape_tex, cells)) + r' \\'
    columns = 'l' * self.heads + 'r' * (len(self.columns) - self.heads)
    return '\n'.join(
      [
        r'\begin{table}',
        f'  \\caption{{{escape_tex(self.caption)}}}',
        f'  \\begin{{tabular}}{{{columns}}}',
        r'  \toprule',
        line(self.columns),
        r'  \midrule',
        *(
          line([text(cell) or MISSING for cell in row.cells])
          for row in self.rows
        ),
        r'  \bottomrule',
        r'  \end{tabular}',
        r'\end{table}',
        '',
      ]
    )


def text(cell) -> str:
  """A cell as it is shown; '' for None."""
  if cell is None:
    return ''
  return percent(cell) if isinstance(cell, float) else str(cell)


def escape_tex(words: str) -> str:
  """Plain text as TeX."""
  return ''.join(_TEX.get(letter, letter) for letter in words)
