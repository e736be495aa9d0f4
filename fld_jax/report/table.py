"""A table of a report, and how it is written as CSV and TeX.

The page's template makes its HTML. All three have the same cells.
"""

import csv
import dataclasses
import io
from typing import ClassVar

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
    cells: Texts, numbers or None. A float is a share or an NE, and is shown in
      per cent with two decimals.
    kind: 'ours'; 'final', a final stage of ours; 'paper', a published figure.
  """

  cells: tuple
  kind: str = 'ours'


@dataclasses.dataclass(frozen=True)
class Table:
  """A table.

  Attributes:
    slug: The name of the table's files, without their endings.
    caption: What the table shows, and in which unit.
    columns: The headings.
    rows: The rows, of as many cells as there are headings.
    heads: The number of cells, from the left, that name a row.
  """

  kind: ClassVar[str] = 'table'
  slug: str
  caption: str
  columns: tuple[str, ...]
  rows: list[Row]
  heads: int = 1

  def csv(self) -> str:
    """Comma-separated values with a line of headings."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(self.columns)
    writer.writerows(map(text, row.cells) for row in self.rows)
    return buffer.getvalue()

  def tex(self) -> str:
    """A LaTeX table environment; it needs the package booktabs."""
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


def text(cell: object) -> str:
  """Formats a cell; a float is a fraction and is shown in per cent.

  Args:
    cell: A text, a number or None.

  Returns:
    The cell's text; '' for None.
  """
  if cell is None:
    return ''
  return percent(cell) if isinstance(cell, float) else str(cell)


def escape_tex(plain: str) -> str:
  """Escapes plain text for LaTeX.

  Args:
    plain: The text.
  """
  return ''.join(_TEX.get(letter, letter) for letter in plain)
