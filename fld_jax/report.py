"""Writes what an evaluation found: JSON for programs, HTML for people."""

import html
import json
import pathlib

import numpy as np
from PIL import Image

from fld_jax import metrics as metrics_lib
from fld_jax import schema, tables, visualize
from fld_jax.files import rounded, write_file, write_json

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


def coco_results(predictions, stage: str, ids=None) -> list[dict]:
  """COCO keypoint results, one dict an example, plus `file_name` and `bbox`.

  Keypoints are x, y in image pixels, counted from the top-left corner of the
  image, and a score: the height of the heatmap; of a network without any, the
  probability that the landmark is not truncated; 1 if it does not predict that
  either. It is 0 for slots that the clothes type lacks. `score` is the mean
  over the slots that it has, times the score of a detected box.

  Args:
    predictions: metrics.Predictions.
    stage: whose estimates.
    ids: n pairs (image id, category id) that the results are named by; by
      default `predictions.image_ids` and 1.
  """
  if ids is None:
    ids = [(int(image), 1) for image in predictions.image_ids]
  present = np.asarray(predictions.visibility) != schema.ABSENT
  if predictions.box_scores is not None:
    # A detected box has no truth: all slots count.
    present |= ~present.any(axis=1, keepdims=True)
  points = np.asarray(predictions.estimates[stage], np.float64)
  scores = np.ones(present.shape)
  if stage in predictions.confidences:
    scores = np.asarray(predictions.confidences[stage], np.float64)
  elif stage in predictions.visibility_probs:
    probs = np.asarray(predictions.visibility_probs[stage], np.float64)
    scores = 1 - probs[..., schema.TRUNCATED]
  mean = metrics_lib.MeanState.from_values(scores.T, present.T).compute()
  if predictions.box_scores is not None:
    mean = mean * predictions.box_scores
  keypoints = np.dstack([points, np.where(present, scores, 0)])
  corner, size = metrics_lib.corner_and_size(predictions.boxes)
  boxes = np.concatenate([corner, size], axis=-1)[:, 0]
  return [
    {
      'image_id': ids[i][0],
      'category_id': ids[i][1],
      'keypoints': keypoints[i].ravel().tolist(),
      'score': float(mean[i]) if present[i].any() else 0.0,
      'file_name': predictions.ids[i],
      'bbox': boxes[i].tolist(),
    }
    for i in range(len(predictions.ids))
  ]


def write_evaluation(directory, predictions, metrics: dict, ids=None) -> None:
  """Writes metrics.json and predictions.json (COCO results, final stage).

  Numbers are rounded to 6 decimals and keys sorted: equal inputs give the same
  bytes. Each file appears whole or not at all.

  Args:
    directory: made if it does not exist.
    predictions: metrics.Predictions.
    metrics: what metrics.evaluate returned for them.
    ids: see coco_results.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  write_json(directory / 'metrics.json', metrics)
  final = list(predictions.estimates)[-1]
  results = [
    json.dumps(rounded(result), sort_keys=True, allow_nan=False)
    for result in coco_results(predictions, final, ids)
  ]
  lines = '[\n' + ',\n'.join(results) + '\n]\n'
  write_file(directory / 'predictions.json', lines.encode())


def write_report(
  directory,
  metrics: dict,
  images,
  predictions,
  history: list[dict],
  *,
  title: str = 'Fashion landmarks',
) -> None:
  """Writes overlays.png, pdl.png, training.png and report.html.

  Args:
    directory: made if it does not exist.
    metrics: what metrics.evaluate returned for `predictions`.
    images: function from an index of the split to its (H, W, 3) uint8 RGB.
    predictions: metrics.Predictions.
    history: see visualize.plot_training; [] leaves training.png out.
    title: heading of the page, plain text.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
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
  body += _section('Figures', tables.format_table(metrics))
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
  write_file(directory / 'report.html', page.encode())


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
  macro = tables.percent(metrics['ne']['macro'])
  return (
    f'<p>{metrics["num_examples"]} examples; macro NE of the final stage '
    f'({html.escape(final)}): <b>{macro} %</b>.</p>'
  )


def _section(heading, text):
  return [f'<h2>{heading}</h2>', f'<pre>{html.escape(text)}</pre>']
