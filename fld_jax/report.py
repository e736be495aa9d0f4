"""Writes what an evaluation found: JSON for programs, HTML for people."""

import html
import json
import os
import pathlib

import numpy as np
from PIL import Image

from fld_jax import metrics as metrics_lib
from fld_jax import visualize
from fld_jax.errors import InputError

# DFA, Table 2: NE on FLD. The paper does not show the waistline's columns, so
# `avg` (printed) is close to, but not, the mean of the six that it shows.
PAPER_LANDMARKS = (
  'collar_left',
  'collar_right',
  'sleeve_left',
  'sleeve_right',
  'hem_left',
  'hem_right',
)
# Row -> the six landmarks, then avg.
PAPER_TABLE_2 = {
  's1 direct regression': (0.071, 0.071, 0.134, 0.130, 0.103, 0.102, 0.102),
  's1 - visibility': (0.104, 0.102, 0.213, 0.212, 0.141, 0.143, 0.153),
  's1 + plabels (T=1)': (0.065, 0.065, 0.113, 0.112, 0.094, 0.095, 0.091),
  's1 + plabels (T=20)': (0.057, 0.058, 0.106, 0.104, 0.088, 0.089, 0.084),
  's2 direct regression': (0.051, 0.051, 0.098, 0.096, 0.082, 0.080, 0.078),
  's2 + plabels (abs.)': (0.050, 0.051, 0.097, 0.096, 0.080, 0.079, 0.076),
  's2 + plabels (offset)': (0.049, 0.050, 0.095, 0.093, 0.077, 0.078, 0.074),
  's3 direct regression': (0.049, 0.049, 0.094, 0.093, 0.074, 0.076, 0.073),
  's3 + two-branch': (0.048, 0.049, 0.094, 0.093, 0.073, 0.075, 0.072),
  's3 + auto-routing': (0.048, 0.049, 0.092, 0.091, 0.071, 0.073, 0.070),
  's3 + plabels (offset)': (0.048, 0.048, 0.091, 0.090, 0.071, 0.073, 0.069),
  's3 + plabels (c. offset)': (0.048, 0.048, 0.091, 0.089, 0.071, 0.072, 0.068),
}
NUM_OVERLAYS = 8
CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto;
  max-width: 76rem; padding: 0 1rem; }
h1, h2 { font-weight: 600; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto;
  font-size: 13px; line-height: 1.35; }
img { max-width: 100%; border: 1px solid #ddd; }
"""


def compare_with_paper(rows: dict[str, dict]) -> str:
  """Table of our NE beside DFA's Table 2, in per cent.

  Args:
    rows: row name of PAPER_TABLE_2 -> NE dict, as metrics.evaluate has it under
      'ne'. Rows that are not given show '-'.

  Raises:
    InputError: for another row name.
  """
  for name in rows:
    if name not in PAPER_TABLE_2:
      raise InputError(
        f"'{name}' is no row of the paper's Table 2, valid names are "
        f'{", ".join(PAPER_TABLE_2)}.'
      )
  titles = [*(name.replace('_', ' ') for name in PAPER_LANDMARKS), 'average']
  width = max(map(len, PAPER_TABLE_2))
  lines = [
    'NE in per cent: paper, ours',
    ' ' * width + ''.join(f' {title:>12}' for title in titles),
    '-' * (width + 13 * len(titles)),
  ]
  for name, paper in PAPER_TABLE_2.items():
    ours = [None] * len(titles)
    if name in rows:
      of = rows[name]['per_landmark']
      ours = [*(of.get(key) for key in PAPER_LANDMARKS), rows[name]['macro']]
    lines.append(
      f'{name:{width}}'
      + ''.join(
        f' {100 * a:>6.1f}{metrics_lib.percent(b):>6}'
        for a, b in zip(paper, ours, strict=True)
      )
    )
  lines += [
    'Paper: FLD, waistline not shown. Our average: macro NE over all landmarks '
    'that have examples.'
  ]
  return '\n'.join(lines) + '\n'


def write_evaluation(directory, predictions, metrics: dict) -> None:
  """Writes metrics.json and predictions.json (COCO results, final stage).

  Numbers are rounded to 6 decimals and keys sorted: equal inputs give the same
  bytes. Each file appears whole or not at all.

  Args:
    directory: made if it does not exist.
    predictions: metrics.Predictions.
    metrics: what metrics.evaluate returned for them.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  text = json.dumps(
    _rounded(metrics), sort_keys=True, indent=2, allow_nan=False
  )
  _write(directory / 'metrics.json', text + '\n')
  final = list(predictions.estimates)[-1]
  results = [
    json.dumps(_rounded(result), sort_keys=True, allow_nan=False)
    for result in metrics_lib.coco_results(predictions, final)
  ]
  _write(directory / 'predictions.json', '[\n' + ',\n'.join(results) + '\n]\n')


def _rounded(value):
  if isinstance(value, dict):
    return {key: _rounded(entry) for key, entry in value.items()}
  if isinstance(value, list):
    return [_rounded(entry) for entry in value]
  return round(value, 6) if isinstance(value, float) else value


def _write(path, text):
  part = path.with_name(path.name + '.part')
  part.write_text(text, encoding='utf-8')
  os.replace(part, path)


def write_report(
  directory,
  metrics: dict,
  images,
  predictions,
  history: list[dict],
  *,
  rows: dict[str, dict] | None = None,
  title: str = 'Fashion landmarks',
) -> None:
  """Writes overlays.png, pdl.png, training.png and report.html.

  Args:
    directory: made if it does not exist.
    metrics: what metrics.evaluate returned for `predictions`.
    images: function from an index of the split to its (H, W, 3) uint8 RGB.
    predictions: metrics.Predictions.
    history: see visualize.plot_training; [] leaves training.png out.
    rows: see compare_with_paper; by default the stages whose names are rows of
      the paper's Table 2.
    title: heading of the page, plain text.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  stages = metrics['stages']
  if rows is None:
    rows = {s: of['ne'] for s, of in stages.items() if s in PAPER_TABLE_2}
  sheet = visualize.overlay_sheet(
    images, predictions, _spread(predictions, metrics), norm=metrics['norm']
  )
  Image.fromarray(sheet).save(directory / 'overlays.png')
  visualize.plot_pdl(metrics).savefig(directory / 'pdl.png', dpi=120)
  pictures = [('Detected landmarks by distance', 'pdl.png')]
  if history:
    figure = visualize.plot_training(history)
    figure.savefig(directory / 'training.png', dpi=120)
    pictures += [('Training', 'training.png')]
  pictures += [
    ('Examples, from the smallest to the largest error', 'overlays.png')
  ]
  body = [f'<h1>{html.escape(title)}</h1>', _summary(metrics)]
  body += _section('Figures', metrics_lib.format_table(metrics))
  body += _section("Beside the paper's Table 2", compare_with_paper(rows))
  for heading, name in pictures:
    body += [f'<h2>{heading}</h2>', f'<img src="{name}" alt="{heading}">']
  body += [
    '<p>Filled: estimate, hollow: truth; orange: left, blue: right; white rim: '
    'visible, black rim: occluded.</p>'
  ]
  page = (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    f'<title>{html.escape(title)}</title><style>{CSS}</style></head>\n<body>\n'
    + '\n'.join(body)
    + '\n</body></html>\n'
  )
  _write(directory / 'report.html', page)


def _spread(predictions, metrics):
  """Examples evenly from the final stage's smallest to its largest error."""
  final = list(predictions.estimates)[-1]
  errors = metrics_lib.image_errors(predictions, final, metrics['norm'])
  order = np.argsort(errors, kind='stable')[: np.isfinite(errors).sum()]
  if not order.size:
    return order
  picks = np.linspace(0, order.size - 1, min(NUM_OVERLAYS, order.size))
  return order[np.rint(picks).astype(int)]


def _summary(metrics):
  final = list(metrics['stages'])[-1]
  macro = metrics_lib.percent(metrics['ne']['macro'])
  return (
    f'<p>{metrics["num_examples"]} examples; macro NE of the final stage '
    f'({html.escape(final)}): <b>{macro} %</b>.</p>'
  )


def _section(heading, text):
  return [f'<h2>{heading}</h2>', f'<pre>{html.escape(text)}</pre>']
