"""The images of a report that can be looked through, as JSON for its page."""

import base64
import io
import json

import numpy as np
from PIL import Image

from fld_jax import schema
from fld_jax.evaluation.analysis import words
from fld_jax.evaluation.evaluated_run import EvaluatedRun
from fld_jax.visualization import drawing

MAX_IMAGES = 240  # in all runs together
HEIGHT, WIDTH, QUALITY = 200, 240, 78  # of a thumbnail: pixels, JPEG
WHY = ('worst', 'best', 'spread')


def choose(errors, count: int) -> dict[int, str]:
  """Rows of the worst, of the best and evenly from the best to the worst.

  Args:
    errors: (n,) of the images, NaN where there is none.
    count: of rows, at most.

  Returns:
    row -> one of WHY, a third of each; a row counts once. NaN are left out.
  """
  order = np.argsort(errors, kind='stable')[: np.isfinite(errors).sum()]
  order = order.tolist()
  if len(order) <= count:
    third = -(-len(order) // 3)
  else:
    third = count // 3
  chosen = dict.fromkeys(order[::-1][:third], 'worst')
  for row in order[:third]:
    chosen.setdefault(row, 'best')
  rest = [row for row in order if row not in chosen]
  places = np.linspace(0, len(rest) - 1, min(len(rest), count - len(chosen)))
  for place in places:
    chosen.setdefault(rest[int(round(place))], 'spread')
  return chosen


def gallery(runs: list[EvaluatedRun]) -> dict:
  """What the page's gallery shows, JSON-ready.

  Positions are in pixels of the thumbnail, NE in per cent, None where it is not
  measured. An image that several runs were evaluated on, with the same box, is
  one entry.
  """
  share = MAX_IMAGES // len(runs)
  whys = [choose(run.image_errors[run.final], share) for run in runs]
  rows = [{key: row for row, key in enumerate(_keys(run))} for run in runs]
  keys = {}  # of the chosen images, in the order of the runs
  for run_rows, why in zip(rows, whys, strict=True):
    keys |= {key: None for key, row in run_rows.items() if row in why}
  images = []
  for key in keys:
    of = [run_rows.get(key) for run_rows in rows]
    images.append(_image(runs, of, whys))
  landmarks = runs[0].predictions.landmark_set
  return {
    'landmarks': [words(name) for name in runs[0].names],
    'sides': list(runs[0].predictions.landmark_set.sides),
    'types': {str(code): name for code, name in landmarks.types.items()},
    'variations': {
      str(code): words(name) for code, name in schema.VARIATIONS.items()
    },
    'visibility': list(schema.VISIBILITY_NAMES),
    'runs': [
      {
        'label': run.label,
        'stages': run.stages,
        'count': len(run.predictions.ids),
      }
      for run in runs
    ],
    'images': images,
  }


def embed(value) -> str:
  """JSON that stands in a <script> block and cannot end it."""
  text = json.dumps(value, allow_nan=False, separators=(',', ':'))
  return text.replace('<', r'\u003c')


def _keys(run: EvaluatedRun) -> list:
  boxes = np.round(run.predictions.boxes, 3).tolist()
  return list(zip(run.predictions.ids, map(tuple, boxes), strict=True))


def _image(runs: list[EvaluatedRun], rows: list, whys: list[dict]) -> dict:
  """One entry; `rows` are those of the runs, None where a run has it not."""
  run, row = next(
    (run, row) for run, row in zip(runs, rows, strict=True) if row is not None
  )
  predictions = run.predictions
  thumbnail, corner, scale = drawing.cut_out(
    run.image(row), predictions.boxes[row], height=HEIGHT, width=WIDTH
  )
  place = lambda points: np.round((points - corner) * scale, 1)
  codes = predictions.visibility[row]
  known = schema.has_position(codes)
  truth = place(predictions.landmarks[row]).tolist()
  return {
    'id': predictions.ids[row],
    'src': _data_uri(thumbnail),
    'width': thumbnail.shape[1],
    'height': thumbnail.shape[0],
    'type': int(predictions.clothes_type[row]),
    'variation': int(predictions.variation[row]),
    'visibility': codes.tolist(),
    'truth': [p if has else None for p, has in zip(truth, known, strict=True)],
    'runs': [
      None if row is None else _of_run(run, row, why.get(row), place)
      for run, row, why in zip(runs, rows, whys, strict=True)
    ],
  }


def _of_run(run: EvaluatedRun, row: int, why: str | None, place) -> dict:
  predictions = run.predictions
  clip = lambda points: np.clip(points, -9 * HEIGHT, 9 * HEIGHT)
  hard = predictions.is_hard
  return {
    'why': why,
    'route': None if hard is None else ('easy', 'hard')[int(hard[row])],
    'points': [
      clip(place(predictions.estimates[stage][row])).tolist()
      for stage in run.stages
    ],
    'errors': [_percent(run.errors[stage][row]) for stage in run.stages],
    'exchanged': [bool(run.exchanged[stage][row]) for stage in run.stages],
    'ne': [_percent(run.image_errors[stage][[row]])[0] for stage in run.stages],
  }


def _percent(values) -> list[float | None]:
  return [
    None if np.isnan(value) else round(100 * float(value), 4)
    for value in values
  ]


def _data_uri(picture) -> str:
  buffer = io.BytesIO()
  Image.fromarray(picture).save(buffer, 'JPEG', quality=QUALITY)
  return (
    'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()
  )
