"""The doctor's findings as text."""

from tabulate import tabulate

from fld_jax import schema
from fld_jax.evaluation.text_tables import text_table

VISIBILITY = {
  schema.VISIBLE: 'visible',
  schema.OCCLUDED: 'occluded',
  schema.TRUNCATED: 'truncated',
  schema.ABSENT: 'absent',
}
UNKNOWN = 'not known'
# What is wrong in `sides`.
SIDES = ('opposite_groups', 'opposite_pairs', 'mirror_images')
MAX_EXAMPLES = 3  # examples of a finding


def text(found: dict) -> str:
  """Formats tables of counts and a row for each check with its examples.

  Args:
    found: The findings that `examine.examine` returns.
  """
  counts = found['counts']
  lines = [
    f'{found["dataset"]} in {found["manual_dir"]}: {counts["rows"]} rows of '
    f'{counts["images"]} images',
    *found['about'],
  ]
  lines += _table('rows', counts['clothes_types'])
  lines += _table('variations', counts['variations'])
  lines += _table('visibility', counts['visibility'])
  checks = [
    ('check', 'found', ['examples']),
    *(
      (f'left out: {why}', count, found['left_out_examples'].get(why, []))
      for why, count in counts['left_out'].items()
    ),
    *(
      (check['what'], check['count'], check['examples'])
      for check in found['mistakes'].values()
    ),
    *(
      (check['what'], check['count'], check['examples'])
      for check in found['beyond'].values()
    ),
    *(
      (check['what'], check['count'], list(map(_ids, check['examples'])))
      for check in found['overlaps'].values()
    ),
    *_near_duplicates(found['near_duplicates']),
    *_sides(found['sides']),
  ]
  rows = [
    (what, count, '\n'.join(examples[:MAX_EXAMPLES]))
    for what, count, examples in checks
    if count
  ]
  nothing = len(checks) - len(rows)
  align = 'left', 'right', 'left'
  plain = tabulate(
    rows, tablefmt='plain', disable_numparse=True, colalign=align
  )
  lines += ['', *([plain] if len(rows) > 1 else [])]
  lines += [f'{nothing} checks found nothing']
  lines += ['', 'ok: nothing is wrong' if found['ok'] else 'not ok']
  return '\n'.join(lines) + '\n'


def _table(title: str, rows: dict[str, dict[str, int]]) -> list[str]:
  """A table of counts by group; columns without any counts are left out.

  Args:
    title: The heading of the groups.
    rows: Group -> column -> count.
  """
  names = dict.fromkeys(name for row in rows.values() for name in row)
  columns = [n for n in names if any(row.get(n) for row in rows.values())]
  if columns == [UNKNOWN]:
    columns = ['all'] if title == 'rows' else []
    rows = {name: {'all': sum(row.values())} for name, row in rows.items()}
  if not columns:
    return []
  count = lambda name: [rows[name].get(column, 0) for column in columns]
  return text_table(
    [[title, *columns]], [[name, *count(name)] for name in rows]
  )


def _ids(id_of_split: dict[str, str]) -> str:
  """The examples of an overlap: the splits, each with the id of a row."""
  return ', '.join(f'{split}: {id}' for split, id in id_of_split.items())


def _near_duplicates(found: dict) -> list[tuple]:
  """Rows of the table of checks on images that look alike.

  Args:
    found: The findings that `near_duplicates.find` returns.
  """
  pairs = [
    f'{pair["distance"]} bits: {pair["train"]}, {pair["split"]}: '
    f'{pair["other"]}'
    for pair in found['pairs']
  ]
  return [
    (
      'near duplicates in train and another split',
      found['count'],
      pairs,
    ),
    ('images of one colour, not compared', found['flat_images'], []),
  ]


def _sides(found: dict) -> list[tuple]:
  """Rows of the table of checks on left and right.

  Groups with the same split and type are put together: they are seldom wrong
  alone.

  Args:
    found: The findings of `sides`, as `examine.examine` returns them.
  """
  groups: dict[str, list] = {}
  for group in found['opposite_groups']:
    name = ' '.join(filter(None, (group['split'], group['type'])))
    groups.setdefault(name, []).append(
      f'{group["pair"][0]} {_share(group["left"], group["images"])}, '
      f'elsewhere {_share(group["other_left"], group["other_images"])}'
    )
  shares = {
    tuple(row['pair']): _share(row['left'], row['images'])
    for row in found['pairs']
  }
  return [
    (
      'groups with left and right the other way round',
      len(groups),
      [f'{name}: {"; ".join(pairs)}' for name, pairs in groups.items()],
    ),
    (
      'pairs the other way round from the other pairs',
      len(found['opposite_pairs']),
      [
        f'{pair[0]} lies left of {pair[1]} in {shares[tuple(pair)]}'
        for pair in found['opposite_pairs']
      ],
    ),
    (
      'images with all pairs the other way round (a back?)',
      found['opposite_images']['count'],
      found['opposite_images']['examples'],
    ),
    (
      'sets in which nothing is known to change places in a mirrored image',
      found['no_pairs'],
      [found['remedy']] * found['no_pairs'],
    ),
    (
      'landmarks that mirror each other by position, and are no pair',
      len(found['mirror_images']),
      [' and '.join(pair) for pair in found['mirror_images']][
        : MAX_EXAMPLES - 1
      ]
      + [found['remedy']] * bool(found['mirror_images']),
    ),
  ]


def _share(part: int, total: int) -> str:
  """A share in words, such as '12 % of 300'."""
  return f'{100 * part / total:.0f} % of {total}' if total else 'none'
