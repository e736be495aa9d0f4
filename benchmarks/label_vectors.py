"""The vectors that a trained cascade's k-means clustered, for kmeans.py.

  python benchmarks/label_vectors.py W OUT

writes OUT/STAGE.npy, (n, D) float32, for each stage of the run in W. It holds
the vectors of the training images that have every coordinate, since
scikit-learn has no masks.
"""

import pathlib
import sys

import jax
import numpy as np

from fld_jax import input_pipeline
from fld_jax.cascade import pseudo_labels, store
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import resolve
from fld_jax.configs import trained
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.runtime.parallel import Parallel


def main() -> None:
  """Predicts the training set once and writes a file for each stage."""
  workdir, out = map(pathlib.Path, sys.argv[1:3])
  config = trained.get_config(str(workdir))
  stages, _ = store.load_cascade(config, resolve(config), workdir)
  records = input_pipeline.Records(
    prepared_builder(config.dataset), config.dataset.splits.train
  )
  rows = Cascade(stages[:-1], resolve(config), Parallel()).predict(
    input_pipeline.eval_batches(records, resolve(config).pipeline, augment=True)
  )
  out.mkdir(parents=True, exist_ok=True)
  estimate = None
  for settings in config.stages:
    label = settings.pseudo_label
    z, mask = jax.device_get(
      pseudo_labels.label_vectors(
        rows['landmarks'],
        rows['visibility'],
        estimate,
        space=label.space,
        context_transform=label.context_transform,
      )
    )
    np.save(out / f'{settings.name}.npy', z[mask.all(axis=1)])
    print(out / f'{settings.name}.npy', z[mask.all(axis=1)].shape)
    if settings.name in rows['stages']:
      estimate = rows['stages'][settings.name]['estimate']


if __name__ == '__main__':
  main()
