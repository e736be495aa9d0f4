"""The training of a cascade, stage after stage.

Before a stage is trained, the stages before it predict the training images;
their estimates are clustered into the stage's pseudo-labels, and for a stage
with branches they route each image to one. A method with a single network is a
cascade of one stage.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import tensorflow_datasets as tfds
from clu import parameter_overview
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from fld_jax import input_pipeline
from fld_jax.cascade import pseudo_labels, relations, store
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.forward import Variables
from fld_jax.cascade.setup import Setup
from fld_jax.cascade.stage import ALL, EASY, HARD, Stage
from fld_jax.datasets.prepare import content_id
from fld_jax.errors import InputError
from fld_jax.evaluation import baseline, evaluate
from fld_jax.evaluation.baseline import MeanPosition
from fld_jax.evaluation.text_tables import percent
from fld_jax.files import npz
from fld_jax.files.atomic import write_file
from fld_jax.input_pipeline import Records
from fld_jax.pretrained import start
from fld_jax.runtime import checkpoint, processes
from fld_jax.runtime.manifest import (
  ENTRY,
  compare_configs,
  compare_landmarks,
  read_manifest,
  write_manifest,
)
from fld_jax.runtime.parallel import Parallel
from fld_jax.training import checks, train_network, train_step
from fld_jax.training.objective import Objective

logger = logging.getLogger('fld_jax')

# The least share of the training images for a branch, and the quantile of their
# scores that is the threshold if config.routing.epsilon leaves one less.
LEAST_SHARE, FALLBACK = 0.05, 0.7
# Of more images the fit of a head would need much memory and gain nothing.
MAX_HEAD_IMAGES = 20_000


def train_cascade(
  config: ConfigDict,
  setup: Setup,
  builder: tfds.core.DatasetBuilder,
  workdir: pathlib.Path,
  parallel: Parallel,
  show: Callable[[list[dict], bool], None] = lambda history, is_last: None,
) -> None:
  """Trains what is not yet trained of a cascade.

  Args:
    config: The run's config.
    setup: The objects that the config resolves to.
    builder: The builder of the prepared data set.
    workdir: The run's folder; `store.load_cascade` reads the result from it.
    parallel: The devices.
    show: A function that is called on the main process at every evaluation,
      with the curves of all networks up to it, see `cascade.store.load_stage`,
      and whether it is a network's last.

  Raises:
    InputError: If the folder holds a run of another config, other data or other
      landmarks.
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
    compare_landmarks(workdir, manifest, setup.whole)
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
  write = lambda stages: write_manifest(
    workdir, config, setup.whole, data, topology, stages
  )
  trainer = _Trainer(config, setup, builder, workdir, parallel, show)
  if any(x.name not in manifest.get('stages', {}) for x in config.stages):
    trainer.announce()
  finished = {}
  for index, stage in enumerate(config.stages):
    # A finished stage stays in the manifest even if this start is killed.
    write(manifest.get('stages', {}) | finished)
    finished[stage.name] = trainer.add_stage(index)
  write(finished)


class _Trainer:
  """Trains stages in turn and remembers those that are finished.

  Attributes:
    config: The run's config.
    setup: The objects that the config resolves to.
    builder: The builder of the prepared data set.
    workdir: The run's folder.
    parallel: The devices.
    records: The training images.
    tune: The held-out images that checkpoints are chosen by.
    stages: The finished stages.
    history: The curves of the networks that are finished.
    guess: The mean positions of the training images' landmarks.
  """

  def __init__(
    self,
    config: ConfigDict,
    setup: Setup,
    builder: tfds.core.DatasetBuilder,
    workdir: pathlib.Path,
    parallel: Parallel,
    show: Callable[[list[dict], bool], None],
  ):
    self.config, self.setup = config, setup
    self.builder, self.workdir, self.parallel = builder, workdir, parallel
    self._show = show
    splits = config.dataset.splits
    records = lambda name: input_pipeline.Records(
      builder,
      splits[name],
      only=setup.selected,
      field=f'config.dataset.splits.{name}',
    )
    self.records, self.tune = records('train'), records('tune')
    self.stages: list[Stage] = []
    self.history: list[dict] = []
    self.guess = processes.call_on_main(self._guess, processes.LONG_SECONDS)

  def _guess(self) -> MeanPosition:
    """Reads the mean positions that an earlier start left, or measures them."""
    landmarks = self.setup.landmarks
    if MeanPosition.read(landmarks, self.workdir) is None:
      MeanPosition.measure(landmarks, self.records).save(self.workdir)
    # As the file has it, rounded, so that a later start has the same figures.
    return MeanPosition.read(landmarks, self.workdir)

  def _guess_ne(self, records: Records) -> float | None:
    """Measures the macro NE of the mean positions, None if there is none."""
    truth = lambda: baseline.read_truth(self.setup.landmarks, records)
    return processes.call_on_main(
      lambda: self.guess.figures(truth())['ne']['macro'], processes.LONG_SECONDS
    )

  def announce(self) -> None:
    """Says before the training what its figures mean and what it works on."""
    landmarks, batch = self.setup.landmarks, self.config.batch_size
    guess = percent(self._guess_ne(self.tune), missing='not measured')
    logger.info(
      "%s A constant guess, each landmark's mean position in the training "
      'images, has a macro NE of %s %% on the tune images.',
      baseline.about_ne(landmarks),
      guess,
    )
    logger.info(
      'Trained on %d images (%s); tune, the images that choose the checkpoint, '
      'are %d (%s).',
      len(self.records),
      self.records.split,
      len(self.tune),
      self.tune.split,
    )
    for line in checks.doubts(self.config, len(self.records)):
      if processes.is_main():
        logger.warning('%s', line)
    if batch > len(self.records) and processes.is_main():
      logger.warning(
        'config.batch_size is %d, and there are %d training images: a batch '
        'has some of them several times.',
        batch,
        len(self.records),
      )
    tables, counts = [], []
    for index, stage in enumerate(self.config.stages):
      model = stage_lib.build_model(self.config.model, stage, index, landmarks)
      size = self.setup.pipeline.size
      params = stage_lib.variable_shapes(model, size)['params']
      table = parameter_overview.get_parameter_overview(
        params, include_stats=False
      )
      tables.append(f'{stage.name}\n{table}\n')
      count = sum(array.size for array in jax.tree.leaves(params))
      counts.append(f'{stage.name} {count:,}')
    path = self.workdir / 'parameters.txt'
    if processes.is_main():
      write_file(path, '\n'.join(tables).encode())
    logger.info('Parameters: %s; listed in %s.', ', '.join(counts), path)

  def add_stage(self, index: int) -> dict:
    """Trains one stage, or takes it from another run.

    Args:
      index: The stage's place in `config.stages`, from 0 on.

    Returns:
      The stage's entry in the manifest.

    Raises:
      InputError: If the stage of another run does not fit, or the stage cannot
        be trained.
    """
    stage = self.config.stages[index]
    if stage.checkpoint:
      taken, entry = store.take_stage(self.config, self.setup, index)
      store.copy_stage(self.config, self.setup, index, self.workdir, entry)
      self.stages.append(taken)
      return entry
    directory = store.stage_directory(self.workdir, stage)
    model = stage_lib.build_model(
      self.config.model, stage, index, self.setup.landmarks
    )
    seen = stage_lib.before(self.stages, stage.init == 'continue')
    rows = _Lazy(lambda: self._rows(seen, self.records, augment=True))
    clusters = self._clusters(stage, directory, rows)
    routing, subsets = self._routes(stage, seen, directory, rows)
    errors = self._start_errors(stage, seen, directory, rows)
    measured = self._measured(stage, directory, model, rows)
    del rows  # frees their memory while the stage trains
    networks = {}
    for branch, subset in subsets.items():
      job = self._job(
        index,
        seen,
        directory,
        model,
        clusters,
        measured,
        branch,
        subset,
        routing,
        errors,
      )
      train_network.train_network(job, self.parallel, self.workdir)
      networks[branch], history = store.load_network(
        job.directory, model, self.setup.pipeline.size
      )
      self.history += [{**point, 'stage': job.name} for point in history]
    entry = {
      **ENTRY,
      **routing,
      'networks': sorted(networks),
      'continues': stage.init == 'continue',
      'refitted': stage.pseudo_label.refit > 0,
    }
    trained = Stage(
      stage.name,
      model,
      networks,
      clusters,
      entry['epsilon'],
      entry['continues'],
    )
    if entry['refitted']:
      head = self._head(stage, directory, trained)
      store.put_head(model, networks[ALL], head)
    self.stages.append(trained)
    return entry

  def _head(
    self, stage: ConfigDict, directory: pathlib.Path, trained: Stage
  ) -> dict[str, np.ndarray]:
    """Fits the head of a trained stage's pseudo-labels once more.

    Labels and features are those of training images under augmentation, as they
    are for the clusters (docs/methods.md A19).

    Args:
      stage: The stage's config.
      directory: The stage's folder.
      trained: The stage, with its chosen network.

    Returns:
      `kernel` and `bias` of the head; a start that is killed leaves the file of
      them whole or none, and the next one makes the same.
    """
    variables, label = trained.networks[ALL], stage.pseudo_label
    path = directory / store.HEAD_FILE
    every = -(-len(self.records) // MAX_HEAD_IMAGES)
    records = input_pipeline.Records(
      self.builder,
      self.records.split,
      self.records.indices[::every],
      self.setup.selected,
    )

    def keep(rows: dict[str, Any]) -> dict[str, np.ndarray]:
      estimate = None
      for previous in self.stages[-1:]:
        estimate = rows['stages'][previous.name]['estimate']
      vectors = pseudo_labels.label_vectors(
        rows['landmarks'],
        rows['visibility'],
        estimate,
        space=label.space,
        context_transform=label.context_transform,
      )
      target = pseudo_labels.soft_labels(
        *vectors, trained.clusters['centres'], temperature=label.temperature
      )
      features = rows['stages'][trained.name]['features']
      return {
        'index': rows['index'],
        'features': features,
        'target': np.asarray(target),
      }

    def make() -> dict[str, np.ndarray]:
      cascade = Cascade(
        [*self.stages, trained], self.setup, self.parallel, ('features',)
      )
      found = cascade.predict_records(records, augment=True, keep=keep)
      names = ('index', 'features', 'target')
      parts = processes.gather_to_main({name: found[name] for name in names})

      def fit() -> dict[str, np.ndarray]:
        index, features, target = (
          np.concatenate([part[name] for part in parts]) for name in names
        )
        order = np.argsort(index)
        return pseudo_labels.fit_head(
          features[order], target[order], label.refit
        )

      return processes.call_on_main(fit, processes.LONG_SECONDS)

    head = checkpoint.load_or_make_arrays(
      path,
      lambda found: store.check_head(path, found, trained.model, variables),
      make,
    )
    logger.info(
      '%s: the head of its pseudo-labels is fitted to %d training images.',
      stage.name,
      len(records),
    )
    return head

  def _rows(
    self, seen: list[Stage], records: Records, *, augment: bool
  ) -> dict[str, np.ndarray]:
    """Predicts records and keeps what clustering and routing need.

    Args:
      seen: The stages that the next one sees.
      records: The records, on n of which this process works.
      augment: Whether to augment the crops, as for the training set
        (docs/methods.md A19).

    Returns:
      `index` (n,), `landmarks` (n, N, 2) and `visibility` (n, N); from the
      second stage on the `estimate` (n, N, 2) of the stage before and, if it
      has such a head, its `pseudo_label` (n, K).
    """
    cascade = Cascade(seen, self.setup, self.parallel)

    def keep(rows: dict[str, Any]) -> dict[str, np.ndarray]:
      kept = {key: rows[key] for key in ('index', 'landmarks', 'visibility')}
      for previous in seen[-1:]:
        outputs = rows['stages'][previous.name]
        kept['estimate'] = outputs['estimate']
        if previous.clusters:
          kept['pseudo_label'] = outputs['pseudo_label']
      return kept

    return cascade.predict_records(records, augment=augment, keep=keep)

  def _clusters(
    self, stage: ConfigDict, directory: pathlib.Path, rows: '_Lazy'
  ) -> dict[str, np.ndarray]:
    """Returns the stage's `centres` and `errors`, {} without pseudo-labels."""
    if not stage.pseudo_label.num_clusters:
      return {}
    # Of the same landmarks and vectors: they are the same clusters.
    continued = self.stages[-1].clusters if stage.init == 'continue' else None
    path = directory / 'clusters.npz'
    num_landmarks = self.setup.landmarks.num_landmarks
    return checkpoint.load_or_make_arrays(
      path,
      lambda found: pseudo_labels.check_clusters(
        path, found, stage.pseudo_label, num_landmarks, bool(self.stages)
      ),
      lambda: (
        continued
        or pseudo_labels.make_clusters(
          rows()['landmarks'],
          rows()['visibility'],
          rows().get('estimate'),
          np.searchsorted(self.records.indices, rows()['index']),
          stage.pseudo_label,
          seed=self.config.seed,
          parallel=self.parallel,
        )
      ),
    )

  def _measured(
    self,
    stage: ConfigDict,
    directory: pathlib.Path,
    model: nn.Module,
    rows: '_Lazy',
  ) -> dict[str, dict[str, np.ndarray]]:
    """Measures what a network holds of the training images from the start.

    Args:
      stage: The stage's config.
      directory: The stage's folder.
      model: The Linen module.
      rows: The training images as `_rows` returns them.

    Returns:
      Collections of variables: the types of IDPR's relations, {} for other
      networks, and for one that starts from a network that has them.
    """
    num_types = getattr(model, 'num_types', 0)
    if not num_types or (stage.init != 'random' and self.stages):
      return {}
    path = directory / 'relations.npz'
    found = checkpoint.load_or_make_arrays(
      path,
      lambda found: relations.check_relations(
        path, found, model.tree, num_types
      ),
      lambda: relations.make_relations(
        rows()['landmarks'],
        rows()['visibility'],
        np.searchsorted(self.records.indices, rows()['index']),
        model.tree,
        num_types,
        seed=self.config.seed,
        parallel=self.parallel,
      ),
    )
    return {'relations': found}

  def _start_errors(
    self,
    stage: ConfigDict,
    seen: list[Stage],
    directory: pathlib.Path,
    rows: '_Lazy',
  ) -> train_step.Errors | None:
    """Returns by what a stage's starts are drawn, None if they are not."""
    if stage.estimate_from != 'errors' or not seen:
      return None
    path, shape = (
      directory / store.ERRORS_FILE,
      (self.setup.landmarks.num_landmarks, 2),
    )

    def check(found: dict[str, np.ndarray]) -> None:
      npz.numbers(path, 'mean', found.get('mean'), shape)
      npz.numbers(path, 'std', found.get('std'), shape, low=0)

    def make() -> dict[str, np.ndarray]:
      names = ('index', 'landmarks', 'visibility', 'estimate')
      found = rows()
      parts = processes.gather_to_main({name: found[name] for name in names})

      def measure() -> dict[str, np.ndarray]:
        index, truth, visibility, estimate = (
          np.concatenate([part[name] for part in parts]) for name in names
        )
        order = np.argsort(index)  # sums are of one order
        errors = train_step.Errors.measure(
          estimate[order], truth[order], visibility[order]
        )
        return dataclasses.asdict(errors)

      return processes.call_on_main(measure, processes.LONG_SECONDS)

    errors = train_step.Errors(
      **checkpoint.load_or_make_arrays(path, check, make)
    )
    logger.info(
      '%s is trained from true landmarks plus the errors of %s: %.1f %% of the '
      "crop's side, the mean deviation.",
      stage.name,
      seen[-1].name,
      100 * errors.std.mean(),
    )
    return errors

  def _routes(
    self,
    stage: ConfigDict,
    seen: list[Stage],
    directory: pathlib.Path,
    rows: '_Lazy',
  ) -> tuple[dict[str, Any], dict[str, tuple[Records, Records]]]:
    """Finds what images each network of a stage is trained on.

    Args:
      stage: The stage's config.
      seen: The stages that it sees, of which the last one routes.
      directory: The stage's folder.
      rows: The training images as `_rows` returns them.

    Returns:
      The facts of the routing in the stage's entry in the manifest, and each
      network's (training, tuning) records.
    """
    everything = (self.records, self.tune)
    if not stage.branches:
      return {}, {ALL: everything}
    if self.config.routing.mode == 'two_branch':
      return {}, {EASY: everything, HARD: everything}
    if not seen or not seen[-1].clusters:
      raise InputError(
        f"Stage '{stage.name}' has branches, so the stage before it needs "
        'pseudo-labels to route by (pseudo_label.num_clusters).'
      )
    if 'errors' not in seen[-1].clusters:
      seen[-1].clusters['errors'] = self._errors(seen[-1], directory, rows)
    path = directory / 'routes.npz'
    routes = checkpoint.load_or_make_arrays(
      path,
      lambda found: self._check_routes(path, found),
      lambda: self._make_routes(seen, rows()),
    )
    epsilon, options = float(routes['epsilon']), self.config.routing
    share = float(np.mean(routes['train_score'] < epsilon))
    is_given = epsilon == options.epsilon
    threshold = 'epsilon' if is_given else 'fallback'
    routing = {
      'epsilon': epsilon,
      'threshold': 'quantile' if options.quantile else threshold,
      'easy_share': share,
    }
    logger.info(
      'Routing at epsilon %.4g: %.1f %% of the training images are easy.',
      epsilon,
      100 * share,
    )
    is_soft = stage.branch_temperature > 0
    return routing, {
      EASY: self._subsets(routes, epsilon, easy=True, takes_all=is_soft),
      HARD: self._subsets(routes, epsilon, easy=False, takes_all=is_soft),
    }

  def _errors(
    self, router: Stage, directory: pathlib.Path, rows: '_Lazy'
  ) -> np.ndarray:
    """Measures the errors of the clusters of a first stage that routes.

    It had no estimates to measure when its clusters were made.

    Args:
      router: The trained stage.
      directory: The folder of the stage that it routes to.
      rows: The training images as `_rows` returns them.

    Returns:
      (K,) errors of its own estimates.
    """
    path = directory / store.CLUSTER_ERRORS_FILE
    label = self.config.stages[0].pseudo_label
    make = lambda: pseudo_labels.measured_errors(
      rows()['landmarks'],
      rows()['visibility'],
      rows()['estimate'],
      router.clusters['centres'],
      label,
    )
    found = checkpoint.load_or_make_arrays(
      path,
      lambda found: pseudo_labels.check_errors(path, found, label),
      lambda: {'errors': make()},
    )
    return found['errors']

  def _make_routes(
    self, seen: list[Stage], train_rows: dict[str, np.ndarray]
  ) -> dict[str, np.ndarray]:
    """Returns the threshold and the score of each training and tuning image."""
    tune_rows = self._rows(seen, self.tune, augment=False)
    routes = {}
    errors = seen[-1].clusters['errors']
    for part, rows in (('train', train_rows), ('tune', tune_rows)):
      score = pseudo_labels.routing_score(rows['pseudo_label'], errors)
      score, index = joined_routes(np.asarray(score), rows['index'])
      routes[f'{part}_score'], routes[f'{part}_index'] = score, index
    epsilon = find_threshold(routes['train_score'], self.config.routing)
    return {**routes, 'epsilon': np.float64(epsilon)}

  def _check_routes(
    self, path: pathlib.Path, routes: dict[str, np.ndarray]
  ) -> None:
    """Refuses routes of a file that do not fit the records."""
    npz.numbers(path, 'epsilon', routes.get('epsilon'), ())
    for part, records in (('train', self.records), ('tune', self.tune)):
      name = f'{part}_index'
      index = npz.numbers(
        path, name, routes.get(name), (None,), low=0, kinds='iu'
      )
      if not np.isin(index, records.indices).all():
        raise InputError(f'{path}, {name}: has records of another split')
      name = f'{part}_score'
      npz.numbers(path, name, routes.get(name), index.shape)

  def _subsets(
    self,
    routes: dict[str, np.ndarray],
    epsilon: float,
    *,
    easy: bool,
    takes_all: bool,
  ) -> tuple[Records, Records]:
    """Returns the (training, tuning) records of one branch.

    Args:
      routes: The score of each training and tuning image.
      epsilon: The threshold.
      easy: Which branch it is.
      takes_all: Whether it is trained on all images, with weights.
    """
    splits, subsets = self.config.dataset.splits, []
    for part, split in (('train', splits.train), ('tune', splits.tune)):
      takes = (routes[f'{part}_score'] < epsilon) == easy
      if part == 'train' and takes_all:
        takes[:] = True
      if not takes.any():
        # So it is as good as any for an image that does come its way.
        logger.warning(
          "No image of '%s' is routed to the branch '%s' at epsilon %.4g: it "
          'gets all of them.',
          split,
          EASY if easy else HARD,
          epsilon,
        )
        takes[:] = True
      indices = routes[f'{part}_index'][takes]
      subsets.append(
        input_pipeline.Records(
          self.builder, split, indices, self.setup.selected
        )
      )
    return tuple(subsets)

  def _job(
    self,
    index: int,
    seen: list[Stage],
    directory: pathlib.Path,
    model: nn.Module,
    clusters: dict[str, np.ndarray],
    measured: dict[str, dict[str, np.ndarray]],
    branch: str,
    subset: tuple[Records, Records],
    routing: dict[str, Any],
    errors: train_step.Errors | None,
  ) -> train_network.Job:
    """Makes the job of one network of a stage.

    Args:
      index: The stage's place in `config.stages`, from 0 on.
      seen: The stages that it sees.
      directory: The stage's folder.
      model: The stage's Linen module.
      clusters: Holds `centres` (K, D); {} without pseudo-labels.
      measured: The network's variables that `_measured` returned.
      branch: The network: 'all', 'easy' or 'hard'.
      subset: The network's (training, tuning) records.
      routing: The facts of the stage's routing, {} without it.
      errors: What the stages before are off by, if it is trained by that.
    """
    stage, (records, tune) = self.config.stages[index], subset
    candidate = Stage(stage.name, model, {ALL: {}}, clusters)
    cascade = Cascade([*seen, candidate], self.setup, self.parallel)
    membership = None
    if routing and stage.branch_temperature:
      membership = train_step.Membership.of(
        is_easy=branch == EASY,
        errors=seen[-1].clusters['errors'],
        epsilon=routing['epsilon'],
        temperature=stage.branch_temperature,
      )

    def tune_ne(variables: Variables) -> tuple[float, float]:
      candidate.networks[ALL] = variables
      cascade.put_variables()
      rows = cascade.predict_records(tune)
      return evaluate.macro_ne(rows, stage.name, self.setup)

    def show(history: list[dict], is_last: bool) -> None:
      if processes.is_main():
        of_network = [{**point, 'stage': name} for point in history]
        self._show(self.history + of_network, is_last)

    seed = 100 * self.config.seed + 10 * index + (branch == HARD)
    name = stage.name if branch == ALL else f'{stage.name}/{branch}'
    return train_network.Job(
      name=name,
      directory=directory / branch,
      model=model,
      stage=stage,
      records=records,
      epoch=len(self.records if stage.whole_epochs else records),
      has_known_start=stage.init != 'random' and bool(self.stages),
      pipeline=self.setup.pipeline,
      forward=self.setup.forward,
      objective=Objective.of(self.config, self.setup, index),
      previous_models=tuple(s.model for s in seen),
      previous=tuple(s.networks[ALL] for s in seen),
      given=train_step.Given(
        np.uint32(seed),
        {'centres': clusters['centres']} if clusters else {},
        membership,
        errors,
      ),
      initial=lambda begins: {
        **self._initial(index, branch, model, seed, begins),
        **measured,
      },
      tune_ne=tune_ne,
      guess=self._guess_ne(tune),
      show=show,
      seed=seed,
      log_every=self.config.log_every_steps,
      on_nan=self.config.on_nan,
    )

  def _initial(
    self,
    index: int,
    branch: str,
    model: nn.Module,
    seed: int,
    begins: bool,
  ) -> Variables:
    """Makes the variables that a network starts from.

    Args:
      index: The stage's place in `config.stages`, from 0 on.
      branch: The network's name in the stage: 'all', 'easy' or 'hard'.
      model: The Linen module.
      seed: The seed of random variables.
      begins: Whether the training begins. If it is resumed, only the structure
        of the variables counts, and no file of weights is read.
    """
    stage, size = self.config.stages[index], self.setup.pipeline.size
    if stage.init == 'continue':
      return checkpoint.to_host(self.stages[-1].networks[ALL])
    variables = stage_lib.init_variables(model, size, seed)
    if stage.init == 'previous' and self.stages:
      return model.warm_start(variables, self.stages[-1].networks[ALL])
    if not (self.config.pretrained and begins):
      return variables
    variables, what = start.start_network(
      variables,
      self.config,
      self.setup,
      index,
      branch,
    )
    name = stage.name if branch == ALL else f'{stage.name}/{branch}'
    logger.info('%s %s.', name, what)
    return variables


def find_threshold(
  score: Float[np.ndarray, ' n'], routing: ConfigDict
) -> float:
  """Chooses the threshold of the routing score.

  Liu et al.'s 0.3 fits errors of about theirs. A run with others might have a
  branch without images, after hours: then the threshold is a quantile.

  Args:
    score: (n,) the scores of the training images.
    routing: The config's `routing`.

  Returns:
    `routing.quantile` of the scores if it is above 0; else `routing.epsilon` if
    it leaves both branches LEAST_SHARE of the images; else FALLBACK of the
    scores, which a warning says.
  """
  if routing.quantile:
    return float(np.quantile(score, routing.quantile))
  share = float(np.mean(score < routing.epsilon))
  if LEAST_SHARE <= share <= 1 - LEAST_SHARE:
    return float(routing.epsilon)
  found = float(np.quantile(score, FALLBACK))
  logger.warning(
    'At config.routing.epsilon %.4g %.1f %% of the training images are easy, '
    'which leaves a branch less than %.0f %%: epsilon is %.4g, the quantile %g '
    'of their scores. config.routing.quantile chooses another one.',
    routing.epsilon,
    100 * share,
    100 * LEAST_SHARE,
    found,
    FALLBACK,
  )
  return found


def joined_routes(
  score: Float[np.ndarray, ' n'], index: Int[np.ndarray, ' n']
) -> tuple[Float[np.ndarray, ' m'], Int[np.ndarray, ' m']]:
  """Joins the routing scores of all processes.

  Args:
    score: (n,) the scores of this process's images.
    index: (n,) the indices of these images in the split.

  Returns:
    (m,) the scores of all processes' images, and (m,) their indices in
    ascending order.
  """
  shares = processes.all_gather((score, index))
  score, index = map(np.concatenate, zip(*shares, strict=True))
  order = np.argsort(index)
  return score[order], index[order]


class _Lazy:
  """The value of a function, which is called once, at the first use."""

  def __init__(self, make: Callable[[], Any]):
    self._make, self._value = make, None

  def __call__(self) -> Any:
    if self._value is None:
      self._value = self._make()
    return self._value
