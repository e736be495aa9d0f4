"""NE of finished runs on garments whose left and right are reversed.

  python benchmarks/pair_order.py W [SPLIT]

prints for the run's last stage the macro NE in per cent on all images of a
split, val by default, on those in which left landmarks lie to the right of
their partners, as on garments seen from behind, and on the others; then how
many images are reversed, and in how many of either kind the prediction has the
order right.
"""

import pathlib
import sys

import numpy as np

from fld_jax import input_pipeline
from fld_jax.cascade import store
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import resolve
from fld_jax.configs import trained
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.evaluation.evaluate import to_predictions
from fld_jax.metrics import normalised_error
from fld_jax.metrics.predictions import counted
from fld_jax.runtime.parallel import Parallel


def main() -> None:
  """Predicts the split once."""
  workdir, split = (*sys.argv[1:3], 'val')[:2]
  config = trained.get_config(workdir)
  setup = resolve(config)
  stages, _ = store.load_cascade(config, setup, pathlib.Path(workdir))
  cascade = Cascade(stages, setup, Parallel())
  records = input_pipeline.Records(prepared_builder(config.dataset), split)
  found = to_predictions(cascade.predict_records(records), setup)
  name = stages[-1].name
  errors = normalised_error.normalised_errors(found, name, setup.landmarks.norm)
  visible = counted(found.visibility) & np.isfinite(errors)
  pairs = setup.landmarks.pairs
  both = visible[:, pairs].all(axis=-1)
  gap = lambda points: np.sum(
    np.where(both, points[:, pairs[:, 1], 0] - points[:, pairs[:, 0], 0], 0),
    axis=1,
  )
  true, own = gap(found.landmarks), gap(found.estimates[name])
  right = np.sign(true) == np.sign(own)
  some = both.any(axis=1)
  behind, front = some & (true < 0), some & (true >= 0)
  for title, images in (
    ('all', np.ones(len(errors), bool)),
    ('reversed', behind),
    ('not reversed', front),
  ):
    mean = np.nanmean(
      np.where(visible[images], errors[images], np.nan), axis=0
    ).mean()
    known = images & some
    print(
      f'{title}: {images.sum()} images, NE {100 * mean:.2f}, order right in '
      f'{100 * right[known].mean():.1f} % of {known.sum()}'
    )


if __name__ == '__main__':
  main()
