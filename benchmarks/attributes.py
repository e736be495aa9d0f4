"""Attributes from features off the shelf at four localisations (DFA, 4.4).

  python benchmarks/attributes.py FOLDER CACHE [--images=N] [--landmarks=W]
    [--joints=W]

prints a line of docs/results/attributes.csv for each localisation: a
perceptron on the features of the first N training images of DeepFashion in
FOLDER, measured on all of val. Features are brought to the same number by
principal components of the training images. CACHE keeps them.

Landmarks are annotated ones, and with --landmarks also those that a run finds;
joints are only measured with --joints, a run on LSP extended.
"""

import argparse
import csv
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from fld_jax import input_pipeline
from fld_jax.config import set_xla_cpu_flags
from fld_jax.configs import base
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.evaluation.attributes import of_data
from fld_jax.files.images import decode
from fld_jax.inference.photos import Items
from fld_jax.inference.predictor import load
from fld_jax.metrics import attributes as metrics
from fld_jax.metrics.attributes import AttributeSet
from fld_jax.metrics.retrieval import attribute_recall
from fld_jax.retrieval import item_features, perceptron
from fld_jax.retrieval.features import LOCALISATIONS, Extractor
from fld_jax.retrieval.projection import Projection

DIMENSION = 256
K = 5


class _Images(Sequence):
  """The decoded images of records, read when they are asked for."""

  def __init__(self, records: input_pipeline.Records):
    self._records = records

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, i: int) -> np.ndarray:
    return decode(self._records[i]['image'])


def features(
  name: str,
  records: input_pipeline.Records,
  file: pathlib.Path,
  workdir: str | None = None,
) -> np.ndarray:
  """The features of records, kept in a file.

  Args:
    name: The localisation.
    records: The records.
    file: The path of the file.
    workdir: The folder of the run that finds the points; None for annotated
      landmarks.
  """
  if file.exists():
    return np.load(file)[: len(records)].astype(np.float32)
  points = None
  if workdir:
    predictor = load(workdir)
    given = [records[i] for i in range(len(records))]
    whole = LOCALISATIONS[name].whole
    boxes = [None if whole else record['box'] for record in given]
    types = [int(record['clothes_type']) for record in given]
    count = predictor.landmark_set.num_landmarks
    items = Items(_Images(records), boxes, count, None if whole else types)
    points = item_features.find_points(predictor, items)
  found = [part for _, part in Extractor(name)(records, points)]
  np.save(file, np.concatenate(found).astype(np.float16))
  return np.concatenate(found)


def measure(
  train: tuple[np.ndarray, np.ndarray],
  val: tuple[np.ndarray, np.ndarray],
  attributes: AttributeSet,
  seed: int,
) -> dict[str, str]:
  """The figures of a perceptron, in per cent.

  Args:
    train: Features and labels to train on.
    val: Features and labels to measure on.
    attributes: The attributes.
    seed: The seed of the perceptron.
  """
  projection = Projection.fit(train[0], DIMENSION)
  x = projection(train[0])
  scale = x.std()
  model, params = perceptron.fit(x / scale, train[1], seed=seed)
  scores = model.apply(params, projection(val[0]) / scale, False)
  scores, labels = np.asarray(scores, np.float64), val[1]
  found = metrics.evaluate(scores, labels, attributes, K)
  error = lambda figure: metrics.bootstrap_error(figure, len(scores))
  recall = lambda rows: attribute_recall(scores[rows], labels[rows], K).summary(
    attributes.names
  )['macro']
  percent = lambda value: f'{100 * value:.2f}'
  return {
    'accuracy': percent(found['accuracy']),
    'accuracy_error': percent(
      error(
        lambda rows: metrics.mean_accuracy(
          scores[rows], labels[rows], attributes
        )
      )
    ),
    'recall': percent(found['recall']['macro']),
    'recall_error': percent(error(recall)),
    'recall_micro': percent(found['recall']['micro']),
    **{k: percent(v) for k, v in found['accuracy_by_group'].items()},
  }


def main() -> None:
  """Measures every localisation that can be."""
  parser = argparse.ArgumentParser()
  parser.add_argument('folder')
  parser.add_argument('cache', type=pathlib.Path)
  parser.add_argument('--images', type=int, default=5000)
  parser.add_argument('--landmarks')
  parser.add_argument('--joints')
  parser.add_argument('--data_dir', default='~/tensorflow_datasets')
  parser.add_argument('--only', default='')
  parser.add_argument('--seed', type=int, default=0)
  given = parser.parse_args()
  set_xla_cpu_flags()
  given.cache.mkdir(parents=True, exist_ok=True)
  config = base.get_config('dataset=deepfashion').dataset
  config.manual_dir, config.data_dir = given.folder, given.data_dir
  builder = prepared_builder(config)
  attributes = of_data(builder)
  splits = {
    'train': input_pipeline.Records(builder, f'train[:{given.images}]'),
    'val': input_pipeline.Records(builder, 'val'),
  }
  labels = {
    split: np.stack([records[i]['attributes'] for i in range(len(records))])
    for split, records in splits.items()
  }
  rows = [('image', None), ('box', None), ('landmarks', None)]
  rows += [('landmarks', given.landmarks)] * bool(given.landmarks)
  rows += [('joints', given.joints)] * bool(given.joints)
  lines = None
  for name, workdir in rows:
    title = f'{name}, found' if workdir else name
    if given.only and title not in given.only.split(';'):
      continue
    both = {
      split: features(
        name,
        records,
        given.cache / f'{title.replace(", ", "-")}-{split}.npy',
        workdir,
      )
      for split, records in splits.items()
    }
    found = measure(
      (both['train'], labels['train']),
      (both['val'], labels['val']),
      attributes,
      given.seed,
    )
    row = {'series': title, 'seed': given.seed, 'split': 'val'}
    row |= {'images': given.images, **found}
    if lines is None:
      lines = csv.DictWriter(sys.stdout, list(row))
      lines.writeheader()
    lines.writerow(row)
    sys.stdout.flush()


if __name__ == '__main__':
  main()
