"""The images of a report that can be looked through, as JSON for its page."""

import base64
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from fld_jax import schema
from fld_jax.evaluation.facts import Example, Facts, RunFacts
from fld_jax.evaluation.text_tables import words
from fld_jax.visualization import drawing, sheets

HEIGHT, WIDTH, QUALITY = 200, 240, 78  # of a thumbnail: pixels, JPEG
# What people call the codes of DeepFashion, below an image; a normal pose is
# not worth a word.
PLAIN_TYPES = {'upper': 'top', 'lower': 'trousers or skirt', 'full': 'dress'}
PLAIN_VARIATIONS = {
  'normal_pose': '',
  'medium_pose': 'unusual pose',
  'large_pose': 'extreme pose',
  'medium_zoom_in': 'near',
  'large_zoom_in': 'close-up',
}


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
    'skeleton': [
      [landmarks.names.index(name) for name in pair]
      for pair in landmarks.skeleton
    ],
    'types': {str(code): name for code, name in landmarks.types.items()},
    'plain_types': {
      str(code): PLAIN_TYPES.get(name, words(name))
      for code, name in landmarks.types.items()
    },
    'variations': {
      str(code): words(name) for code, name in schema.VARIATIONS.items()
    },
    'plain_variations': {
      str(code): PLAIN_VARIATIONS[name]
      for code, name in schema.VARIATIONS.items()
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
    'box': to_thumbnail(predictions.boxes[row].reshape(2, 2)).ravel().tolist(),
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
    'unsure': [_unsure(run, row, stage) for stage in run.stages],
    'errors': [_percent(run.errors[stage][row]) for stage in run.stages],
    'exchanged': [bool(run.exchanged[stage][row]) for stage in run.stages],
    'ne': [_percent(run.image_errors[stage][[row]])[0] for stage in run.stages],
  }


def _unsure(run: RunFacts, row: int, stage: str) -> list[bool]:
  """Which landmarks of an image a stage is unsure of.

  Args:
    run: The run's facts.
    row: The image's row in this run.
    stage: The stage's name.

  Returns:
    N bools; [] if the stage has no confidence.
  """
  found = run.run.predictions.confidences.get(stage)
  return [] if found is None else (found[row] < drawing.UNSURE).tolist()


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
