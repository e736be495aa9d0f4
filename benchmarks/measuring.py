"""How exact lengths between landmarks are (docs/prediction.md, Measuring).

  python benchmarks/measuring.py W SPLIT NAME=LANDMARK:LANDMARK ...

of an evaluated run prints for each measure the number of items on which all of
its landmarks are visible, the median and the mean error in per cent of the true
length, and the share of true lengths within the 90 % interval.
"""

import pathlib
import sys

import numpy as np

from fld_jax.evaluation import calibration, results
from fld_jax.files import json_files
from fld_jax.inference import measures
from fld_jax.metrics.predictions import confidences, counted


def main() -> None:
  """Measures the items of a split, from W/eval/SPLIT/evaluation.npz."""
  workdir, split, *texts = sys.argv[1:]
  workdir = pathlib.Path(workdir)
  path = workdir / 'eval' / split / 'evaluation.npz'
  p = results.read_evaluation(path).predictions
  names, final = p.landmark_set.names, list(p.estimates)[-1]
  # Of the settings that the run was trained and evaluated with.
  saved = json_files.read_json(workdir / 'calibration.json')['calibrations'][0]
  identity = calibration.Identity(saved['networks'], saved['settings'])
  fitted = calibration.Calibration.read(workdir, names, identity)
  radius = fitted.of_level(50, confidences(p, final), p.boxes)
  visible = counted(p.visibility)
  for measure in measures.parse(texts):
    measures.check_names([measure], p.landmark_set)
    low, high = measures.factors(measure, fitted.held_out)
    columns = [names.index(name) for name in measure.landmarks]
    rows = visible[:, columns].all(axis=1)
    true = measure.length(p.landmarks[rows], names)
    found = measure.length(p.estimates[final][rows], names)
    spread = measure.spread(radius[rows], names)
    within = (true >= found + spread * low) & (true <= found + spread * high)
    errors = 100 * np.abs(found - true) / true
    width = 100 * np.median(spread * (high - low) / found)
    print(
      f'{measure.name}: {rows.sum()} items, error median '
      f'{np.median(errors):.2f} %, mean {errors.mean():.2f} %; within the '
      f'interval {100 * within.mean():.1f} %, whose width is {width:.1f} % of '
      'the length (median)'
    )


if __name__ == '__main__':
  main()
