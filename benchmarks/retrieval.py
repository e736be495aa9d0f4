"""Items found again by features off the shelf (DFA, section 4.4).

  python benchmarks/retrieval.py DATASET [FOLDER] [--images=N]

prints for each localisation the share of queries, in per cent, whose item is
among the 1, 5 and 20 nearest images of the gallery. DATASET is synthetic (the
first photo of each item looks for its others), in_shop (query in gallery) or
consumer_to_shop (test in gallery).
"""

import argparse

import numpy as np

from fld_jax import input_pipeline
from fld_jax.config import set_xla_cpu_flags
from fld_jax.configs import base
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.metrics.retrieval import retrieval_accuracy
from fld_jax.retrieval.features import Extractor

SPLITS = {
  'synthetic': ('test', 'test'),
  'in_shop': ('query', 'gallery'),
  'consumer_to_shop': ('test', 'gallery'),
}
TOP = (1, 5, 20)


def first_of_each(items: np.ndarray) -> np.ndarray:
  """(n,) whether an image is the first of its item."""
  _, first = np.unique(items, return_index=True)
  return np.isin(np.arange(len(items)), first)


def main() -> None:
  """Measures the localisations."""
  parser = argparse.ArgumentParser()
  parser.add_argument('dataset', choices=list(SPLITS))
  parser.add_argument('folder', nargs='?', default='')
  parser.add_argument('--images', type=int, default=300)
  parser.add_argument('--data_dir', default='~/tensorflow_datasets')
  given = parser.parse_args()
  set_xla_cpu_flags()
  config = base.get_config(f'dataset={given.dataset}').dataset
  config.manual_dir, config.data_dir = given.folder, given.data_dir
  if given.dataset == 'synthetic':
    config.sizes = {'train': 1, 'val': 1, 'test': given.images}
  builder = prepared_builder(config)
  query, gallery = SPLITS[given.dataset]
  sides = {
    split: input_pipeline.Records(builder, split) for split in {query, gallery}
  }
  items = {
    split: np.array([records[i]['item_id'] for i in range(len(records))])
    for split, records in sides.items()
  }
  asks = np.ones(len(items[query]), bool)
  answers = np.ones(len(items[gallery]), bool)
  if query == gallery:
    asks = first_of_each(items[query])
    answers = ~asks
  print('localisation,queries,gallery,' + ','.join(f'top_{k}' for k in TOP))
  for name in ('image', 'box', 'landmarks'):
    extractor = Extractor(name)
    found = {
      split: np.concatenate([part for _, part in extractor(records)])
      for split, records in sides.items()
    }
    shares = [
      retrieval_accuracy(
        found[query][asks],
        items[query][asks],
        found[gallery][answers],
        items[gallery][answers],
        k,
      ).compute()[0]
      for k in TOP
    ]
    row = [name, asks.sum(), answers.sum(), *(f'{100 * s:.2f}' for s in shares)]
    print(*row, sep=',', flush=True)


if __name__ == '__main__':
  main()
