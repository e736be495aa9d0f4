"""Stage -> predict -> cluster -> next stage -> route.

A single-network method is a cascade of one stage.
"""

import logging
import pathlib

import numpy as np

from fld_jax import input_pipeline
from fld_jax.cascade import pseudo_labels, store
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.stage import ALL, EASY, HARD, Stage
from fld_jax.datasets.catalog import selected_type
from fld_jax.datasets.prepare import content_id
from fld_jax.errors import InputError
from fld_jax.evaluation import evaluate
from fld_jax.runtime import checkpoint, processes
from fld_jax.runtime.manifest import (
  compare_configs,
  read_manifest,
  write_manifest,
)
from fld_jax.training import train_network

logger = logging.getLogger('fld_jax')


def train_cascade(config, builder, workdir: pathlib.Path, parallel) -> None:
  """Trains what is not yet trained of a cascade.

  Args:
    config: the run's config.
    builder: of the prepared dataset.
    workdir: the run's folder; `stage.load_cascade` reads the result from it.
    parallel: the devices.

  Raises:
    InputError: if the folder holds a run of another config or other data.
  """
  data = content_id(builder)
  manifest = read_manifest(workdir)
  if manifest:
    compare_configs(workdir, manifest, config)
    if manifest['data'] != data:
      raise InputError(
        f'{workdir}/manifest.json was trained on {manifest["data"]}, and '
        f'config.dataset now gives {data}: give another --workdir.'
      )
  topology = {
    'devices': parallel.num_devices,
    'processes': parallel.num_processes,
  }
  before = manifest.get('topology', topology)
  if before != topology:
    logger.info(
      'The run goes on with %d devices in %d processes; it had %d in %d.',
      *topology.values(),
      before['devices'],
      before['processes'],
    )
  write = lambda stages: write_manifest(workdir, config, data, topology, stages)
  trainer = _Trainer(config, builder, workdir, parallel)
  finished = {}
  for index, stage in enumerate(config.stages):
    # A finished stage stays in the manifest even if this start is killed.
    write(manifest.get('stages', {}) | finished)
    finished[stage.name] = trainer.add_stage(index, stage)
  write(finished)


class _Trainer:
  """Trains stages in turn and remembers those that are finished."""

  def __init__(self, config, builder, workdir: pathlib.Path, parallel):
    self.config, self.workdir, self.parallel = config, workdir, parallel
    self.builder = builder
    splits = config.dataset.splits
    self.only = selected_type(config.dataset)
    records = lambda split: input_pipeline.Records(
      builder, split, only=self.only
    )
    self.records, self.tune = records(splits.train), records(splits.tune)
    self.stages: list[Stage] = []

  def add_stage(self, index: int, stage) -> dict:
    """Trains, or takes from another run, one stage; its manifest entry."""
    if stage.checkpoint:
      taken, entry = store.take_stage(self.config, stage, index)
      self.stages.append(taken)
      return entry
    directory = store.stage_directory(self.workdir, stage)
    model = stage_lib.build_model(self.config, stage, index)
    rows = _Lazy(lambda: self._rows(self.records, augment=True))
    clusters = self._clusters(stage, directory, rows)
    epsilon, subsets = self._routes(stage, directory, rows)
    del rows  # no need to hold them while the stage trains
    networks = {}
    for branch, subset in subsets.items():
      job = self._job(index, stage, directory, model, clusters, branch, subset)
      train_network.train_network(job, self.config, self.parallel, self.workdir)
      networks[branch], _ = store.load_network(
        job.directory, model, self.config
      )
    self.stages.append(Stage(stage.name, model, networks, clusters, epsilon))
    return {'networks': sorted(networks), 'epsilon': epsilon}

  def _rows(self, records, *, augment: bool) -> dict:
    """What clustering and routing need of one pass over records.

    The training set's is under augmentation (docs/methods.md A19).

    Returns:
      Of this process's share `index`, `landmarks`, `visibility`, and after a
      stage its `estimate` and, if its clusters have errors, `score`, Liu et
      al.'s G.
    """
    cascade = Cascade(self.stages, self.config, self.parallel)

    def keep(rows: dict) -> dict:
      kept = {key: rows[key] for key in ('index', 'landmarks', 'visibility')}
      for before in self.stages[-1:]:
        outputs = rows['stages'][before.name]
        kept['estimate'] = outputs['estimate']
        if 'errors' in before.clusters:
          kept['score'] = np.asarray(cascade.route_score(outputs))
      return kept

    return cascade.predict_records(records, augment=augment, keep=keep)

  def _clusters(self, stage, directory, rows) -> dict[str, np.ndarray]:
    """Centres and mean errors of the stage's pseudo-labels, {} without any."""
    if not stage.pseudo_label.num_clusters:
      return {}
    path = directory / 'clusters.npz'
    clusters = checkpoint.load_arrays(path)
    if clusters is None:
      clusters = pseudo_labels.make_clusters(
        rows()['landmarks'],
        rows()['visibility'],
        rows().get('estimate'),
        np.searchsorted(self.records.indices, rows()['index']),
        stage.pseudo_label,
        seed=self.config.seed,
        parallel=self.parallel,
      )
      checkpoint.save_arrays(path, clusters)
    return clusters

  def _routes(self, stage, directory, rows):
    """Threshold, and for each network its (training, tuning) records."""
    everything = (self.records, self.tune)
    if not stage.branches:
      return None, {ALL: everything}
    if self.config.routing.mode == 'two_branch':
      return None, {EASY: everything, HARD: everything}
    if not self.stages or 'errors' not in self.stages[-1].clusters:
      raise InputError(
        f"Stage '{stage.name}' has branches, so the stage before it needs "
        'pseudo-labels of offsets to route by (pseudo_label.num_clusters).'
      )
    path = directory / 'routes.npz'
    routes = checkpoint.load_arrays(path)
    if routes is None:
      routes = self._make_routes(rows())
      checkpoint.save_arrays(path, routes)
    epsilon = float(routes['epsilon'])
    return epsilon, {
      EASY: self._subsets(routes, epsilon, easy=True),
      HARD: self._subsets(routes, epsilon, easy=False),
    }

  def _make_routes(self, train_rows: dict) -> dict[str, np.ndarray]:
    """Threshold, and routing score of each training and tuning image."""
    tune_rows = self._rows(self.tune, augment=False)
    routes = {}
    for part, rows in (('train', train_rows), ('tune', tune_rows)):
      score, index = joined_routes(rows['score'], rows['index'])
      routes[f'{part}_score'], routes[f'{part}_index'] = score, index
    routing, score = self.config.routing, routes['train_score']
    routes['epsilon'] = np.float64(
      np.quantile(score, routing.quantile)
      if routing.quantile
      else routing.epsilon
    )
    share = np.mean(score < routes['epsilon'])
    logger.info(
      'Routing at epsilon %.4g: %.1f %% of the training images are easy.',
      routes['epsilon'],
      100 * share,
    )
    if not 0.05 <= share <= 0.95:
      logger.warning(
        'One branch gets less than 5 %% of the training images; '
        'config.routing.quantile shares them out.'
      )
    return routes

  def _subsets(self, routes: dict, epsilon: float, *, easy: bool):
    """The (training, tuning) records of one branch."""
    splits, subsets = self.config.dataset.splits, []
    for part, split in (('train', splits.train), ('tune', splits.tune)):
      takes = (routes[f'{part}_score'] < epsilon) == easy
      # A branch without tuning images is judged on all of them.
      if part == 'tune' and not takes.any():
        takes[:] = True
      if not takes.any():
        raise InputError(
          f'No training image is routed to the branch '
          f"'{EASY if easy else HARD}' at epsilon {epsilon:.4g}: set "
          'config.routing.quantile to share the images out.'
        )
      indices = routes[f'{part}_index'][takes]
      subsets.append(
        input_pipeline.Records(self.builder, split, indices, self.only)
      )
    return tuple(subsets)

  def _job(self, index, stage, directory, model, clusters, branch, subset):
    """What `train.train_network` needs for one network of a stage."""
    records, tune = subset
    candidate = Stage(stage.name, model, {ALL: {}}, clusters)
    cascade = Cascade([*self.stages, candidate], self.config, self.parallel)

    def tune_ne(variables) -> tuple[float, float]:
      candidate.networks[ALL] = variables
      cascade.put_variables()
      rows = cascade.predict_records(tune)
      return evaluate.macro_ne(rows, stage.name, self.config)

    initial = None
    if stage.init == 'previous' and self.stages:
      initial = self.stages[-1].networks[ALL]
    return train_network.Job(
      name=stage.name if branch == ALL else f'{stage.name}/{branch}',
      directory=directory / branch,
      model=model,
      stage=stage,
      records=records,
      previous_models=tuple(s.model for s in self.stages),
      previous=tuple(s.networks[ALL] for s in self.stages),
      clusters={'centres': clusters['centres']} if clusters else {},
      initial=initial,
      tune_ne=tune_ne,
      seed=100 * self.config.seed + 10 * index + (branch == HARD),
    )


def joined_routes(score, index) -> tuple[np.ndarray, np.ndarray]:
  """All images' scores and indices, in their order, of each process's own."""
  shares = processes.all_gather((score, index))
  score, index = map(np.concatenate, zip(*shares, strict=True))
  order = np.argsort(index)
  return score[order], index[order]


class _Lazy:
  """Calls a function once, when its value is first asked for."""

  def __init__(self, make):
    self._make, self._value = make, None

  def __call__(self):
    if self._value is None:
      self._value = self._make()
    return self._value
