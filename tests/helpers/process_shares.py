"""What test_shares.py has several processes do, and itself alone.

  python shares.py FOLDER PORT PROCESS

takes FOLDER/inputs, works as one of two processes, leaves FOLDER/outputPROCESS.
"""

import pathlib
import pickle
import sys

import numpy as np

from fld_jax.cascade import pseudo_labels
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import resolve
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import InputError
from fld_jax.evaluation import evaluate
from fld_jax.input_pipeline import Records
from fld_jax.ops import kmeans
from fld_jax.runtime import processes
from fld_jax.runtime.parallel import Parallel
from fld_jax.training import train_cascade


class Spoilt(Records):
  """Records of which one cannot be decoded."""

  def __getitem__(self, i):
    record = super().__getitem__(i)
    return {**record, 'image': b'no image'} if i == 3 else record


def said(work) -> str:
  """The sentence that a mistake ends in."""
  try:
    work()
  except InputError as error:
    return str(error)
  return 'nothing was wrong'


def cluster(case: dict, mode: str, places):
  """K-means of this process's vectors, in chunks of 20."""
  z, mask = case['z'][places], case['mask'][places]
  parts = [slice(i, i + 20) for i in range(0, len(z), 20)]
  return kmeans.kmeans(
    lambda: ((z[part], mask[part]) for part in parts),
    places=places,
    seed=5,
    parallel=Parallel(mode),
    **case['more'],
  )


def work(inputs: dict) -> dict:
  """All of it, on this process's share; {what: outcome}."""
  which, shares = processes.index(), processes.count()
  found = {}
  for name, case in inputs['cases'].items():
    places = np.arange(len(case['z']))
    if name.startswith('alone'):
      places = places if not which else places[:0]
    else:
      places = places[which::shares]
    for mode in ('shard_map', 'pmap'):
      if name.startswith('wrong'):
        found[name, mode] = said(
          lambda c=case, m=mode, p=places: cluster(c, m, p)
        )
      else:
        found[name, mode] = tuple(cluster(case, mode, places))
  found['errors'] = pseudo_labels.cluster_errors(
    inputs['labels'][which::shares], inputs['errors'][which::shares], 4
  )
  found['errors of one'] = pseudo_labels.cluster_errors(
    inputs['labels'][which:1], inputs['errors'][which:1], 4
  )
  return {**found, **predict(inputs, which, shares)}


def predict(inputs: dict, which: int, shares: int) -> dict:
  """What a cascade of one stage finds of this process's images."""
  config, variables = inputs['config'], inputs['variables']
  builder = prepared_builder(config.dataset)
  parallel = Parallel()
  trainer = train_cascade._Trainer(
    config,
    resolve(config),
    builder,
    pathlib.Path(config.dataset.data_dir),  # anywhere that goes with the test
    parallel,
    lambda curves, is_last: None,
  )
  rows = {
    'before stage 1': trainer._rows(
      trainer.stages, trainer.records, augment=True
    )
  }
  model = stage_lib.build_model(
    config.model, config.stages[0], 0, resolve(config).landmarks
  )
  clusters = {'errors': np.arange(4, dtype=np.float32)}
  stage = stage_lib.Stage('stage1', model, {'all': variables}, clusters)
  trainer.stages.append(stage)
  trained = Cascade([stage], resolve(config), parallel)
  one = Records(builder, 'val', [3])
  rows['before stage 2'] = trainer._rows(
    trainer.stages, trainer.records, augment=True
  )
  rows['of one image'] = trainer._rows(trainer.stages, one, augment=True)
  ne = {
    name: evaluate.macro_ne(
      trained.predict_records(some), 'stage1', resolve(config)
    )
    for name, some in (('val', trainer.tune), ('one', one))
  }
  predictions, results = evaluate.evaluate_split(trained, builder, 'val')
  return {
    'routes': trainer._make_routes(trainer.stages, rows['before stage 2']),
    'rows': rows,
    'ne': ne,
    'results': results,
    'ids': predictions and predictions.ids,
    'spoilt': said(lambda: trained.predict_records(Spoilt(builder, 'val'))),
  }


if __name__ == '__main__':
  folder, port, process = sys.argv[1:]
  folder = pathlib.Path(folder)
  processes.start(f'127.0.0.1:{port}', 2, int(process))
  processes.CHUNK_BYTES = 7
  long = processes.all_gather(process * 20)
  assert long == ['0' * 20, '1' * 20]
  expected = [] if int(process) else ['0' * 14, '']
  assert processes.gather_to_main('' if int(process) else '0' * 14) == expected
  processes.CHUNK_BYTES = 1000
  inputs = pickle.loads((folder / 'inputs').read_bytes())
  output = processes.run_together(lambda: work(inputs))
  (folder / f'output{process}').write_bytes(pickle.dumps(output))
