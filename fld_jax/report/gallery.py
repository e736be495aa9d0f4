"""The images of a report that can be looked through, as JSON for its page."""

import base64
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from fld_jax import schema
from fld_jax.evaluation.facts import Example, Facts, RunFacts
from fld_jax.evaluation.text_tables import words
from fld_jax.visualization import sheets

HEIGHT, WIDTH, QUALITY = 200, 240, 78  # of a thumbnail: pixels, JPEG


def gallery(facts: Facts) -> dict:
  """Collects what the page's gallery shows.

  Args:
    facts: The report's facts.

  Returns:
    A JSON-ready dict. Positions are in pixels of the thumbnail, NE in per cent,
    None where it is not measured.
  """
  landmarks = facts.landmarks
  return {
    'landmarks': [words(name) for name in landmarks.names],
    'sides': list(landmarks.sides),
    'types': {str(code): name for code, name in landmarks.types.items()},
    'variations': {
      str(code): words(name) for code, name in schema.VARIATIONS.items()
    },
    'visibility': list(schema.VISIBILITY_NAMES),
    'runs': [
      {
        'label': run.label,
        'stages': run.stages,
        'count': len(run.run.predictions.ids),
      }
      for run in facts.runs
    ],
    'images': [_image(facts, example) for example in facts.examples],
  }


def _image(facts: Facts, example: Example) -> dict:
  """One entry of the gallery."""
  run, row = next(
    (run.run, row)
    for run, row in zip(facts.runs, example.rows, strict=True)
    if row is not None
  )
  predictions = run.predictions
  thumbnail, corner, scale = sheets.cut_out(
    run.image(row), predictions.boxes[row], height=HEIGHT, width=WIDTH
  )
  to_thumbnail = lambda points: np.round((points - corner) * scale, 1)
  codes = predictions.visibility[row]
  known = schema.has_position(codes)
  truth = to_thumbnail(predictions.landmarks[row]).tolist()
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
      None if row is None else _of_run(run, row, reason, to_thumbnail)
      for run, row, reason in zip(
        facts.runs, example.rows, example.reasons, strict=True
      )
    ],
  }


def _of_run(
  run: RunFacts,
  row: int,
  reason: str | None,
  to_thumbnail: Callable[[np.ndarray], np.ndarray],
) -> dict:
  """What a run says of an image of the gallery.

  Args:
    run: The run's facts.
    row: The image's row in this run.
    reason: Why the image was chosen, None if another run chose it.
    to_thumbnail: Function from pixels of the image to those of the thumbnail.
  """
  predictions, hard = run.run.predictions, run.run.predictions.is_hard
  clip = lambda points: np.clip(points, -9 * HEIGHT, 9 * HEIGHT)
  return {
    'why': reason,
    'route': None if hard is None else ('easy', 'hard')[int(hard[row])],
    'points': [
      clip(to_thumbnail(predictions.estimates[stage][row])).tolist()
      for stage in run.stages
    ],
    'errors': [_percent(run.errors[stage][row]) for stage in run.stages],
    'exchanged': [bool(run.exchanged[stage][row]) for stage in run.stages],
    'ne': [_percent(run.image_errors[stage][[row]])[0] for stage in run.stages],
  }


def _percent(values: np.ndarray) -> list[float | None]:
  """Fractions as numbers in per cent for the page's script, None for NaN."""
  return [
    None if np.isnan(value) else round(100 * float(value), 4)
    for value in values
  ]


def _data_uri(picture: np.ndarray) -> str:
  """An (H, W, 3) uint8 picture as a JPEG in a data URI."""
  buffer = io.BytesIO()
  Image.fromarray(picture).save(buffer, 'JPEG', quality=QUALITY)
  return (
    'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()
  )
