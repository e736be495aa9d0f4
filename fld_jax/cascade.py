"""Stage -> predict -> cluster -> next stage -> route.

A single-network method is a cascade of one stage.
"""

import logging
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from fld_jax import checkpoint, evaluate, input_pipeline, pseudo_labels, train
from fld_jax.errors import InputError
from fld_jax.models import MODELS
from fld_jax.predict import ALL, EASY, HARD, Cascade, Stage

logger = logging.getLogger('fld_jax')

CHUNK = 8192  # rows of label vectors that are in memory at a time


def build_model(config, stage, index: int):
  """The Linen module of a stage.

  Args:
    config: `model`: `name` and the module's fields.
    stage: the stage's config.
    index: 0 for the stage that sees the image alone.

  Returns:
    The module.

  Raises:
    InputError: for an unknown model name.
  """
  fields = config.model.to_dict()
  name = fields.pop('name')
  if name not in MODELS:
    raise InputError(
      f"config.model.name is '{name}', valid values are {', '.join(MODELS)}."
    )
  fields['dtype'] = jnp.dtype(fields['dtype'])
  return MODELS[name](
    use_estimate=index > 0,
    num_clusters=stage.pseudo_label.num_clusters,
    softmax=stage.pseudo_label.normalize,
    **fields,
  )


class _Trainer:
  """Trains the stages of a config in turn, and remembers the finished ones."""

  def __init__(self, config, builder, workdir: pathlib.Path, parallel):
    self.config, self.workdir, self.parallel = config, workdir, parallel
    splits = config.dataset.splits
    self.records = input_pipeline.Records(builder, splits.train)
    self.tune = input_pipeline.Records(builder, splits.tune)
    self.builder = builder
    self.stages: list[Stage] = []

  def train_stage(self, index: int, stage) -> None:
    """Trains a stage, or loads it if that was done, and appends it."""
    directory = stage_directory(self.workdir, stage)
    if stage.checkpoint and not directory.exists():
      raise InputError(
        f'config.stages[{index}].checkpoint names {directory}, which does not '
        'exist.'
      )
    model = build_model(self.config, stage, index)
    rows = _Lazy(self._training_rows)
    clusters = self._clusters(stage, directory, rows)
    epsilon, subsets = self._routes(stage, directory, rows)
    networks = {}
    for branch, (train_indices, tune_indices) in subsets.items():
      job = self._job(
        index,
        stage,
        directory,
        model,
        clusters,
        branch,
        train_indices,
        tune_indices,
      )
      train.train_network(job, self.config, self.parallel, self.workdir)
      networks[branch], _ = train.load_network(
        job.directory, model, self.config
      )
    self.stages.append(Stage(stage.name, model, networks, clusters, epsilon))

  def _training_rows(self) -> dict:
    """One pass over the training set, under augmentation (methods A19)."""
    cascade = Cascade(self.stages, self.config, self.parallel)
    batches = input_pipeline.eval_batches(
      self.records, self.config, augment=True
    )
    return cascade.predict(batches)

  def _clusters(self, stage, directory, rows) -> dict[str, np.ndarray]:
    """Centres and mean errors of the stage's pseudo-labels, {} without any."""
    if not stage.pseudo_label.num_clusters:
      return {}
    path = directory / 'clusters.npz'
    clusters = checkpoint.load_arrays(path)
    if clusters is None:
      clusters = make_clusters(
        rows(),
        self._estimate(rows),
        stage.pseudo_label,
        self.config.seed,
        self.parallel,
      )
      checkpoint.save_arrays(path, clusters)
    return clusters

  def _estimate(self, rows):
    if not self.stages:
      return None
    return rows()['stages'][self.stages[-1].name]['estimate']

  def _routes(self, stage, directory, rows):
    """Threshold, and for each network its training and tuning images."""
    if not stage.branches:
      return None, {ALL: (None, None)}
    if self.config.routing.mode == 'two_branch':
      return np.inf, {EASY: (None, None), HARD: (None, None)}
    previous = self.stages[-1] if self.stages else None
    if previous is None or 'errors' not in previous.clusters:
      raise InputError(
        f"Stage '{stage.name}' has branches, so the stage before it needs "
        'pseudo-labels of offsets to route by (pseudo_label.num_clusters).'
      )
    path = directory / 'routes.npz'
    routes = checkpoint.load_arrays(path)
    if routes is None:
      routes = self._make_routes(rows())
      checkpoint.save_arrays(path, routes)
    indices = {EASY: [], HARD: []}
    for part, records in (('train', self.records), ('tune', self.tune)):
      for branch, chosen in (
        (EASY, routes[f'{part}_easy']),
        (HARD, ~routes[f'{part}_easy']),
      ):
        # A branch without tuning images is judged on all of them.
        places = records.indices[routes[f'{part}_index'][chosen]]
        indices[branch].append(places if len(places) else None)
    for branch, (train_indices, _) in indices.items():
      if train_indices is None:
        raise InputError(
          f"No training image is routed to the branch '{branch}' at epsilon "
          f'{routes["epsilon"]:.4g}: set config.routing.quantile to share the '
          'images out.'
        )
    return float(routes['epsilon']), indices

  def _make_routes(self, train_rows: dict) -> dict[str, np.ndarray]:
    cascade = Cascade(self.stages, self.config, self.parallel)
    tune_rows = cascade.predict(
      input_pipeline.eval_batches(self.tune, self.config)
    )
    name = self.stages[-1].name
    scores = {
      'train': cascade.route_score(train_rows['stages'][name]),
      'tune': cascade.route_score(tune_rows['stages'][name]),
    }
    routing = self.config.routing
    epsilon = (
      np.quantile(scores['train'], routing.quantile)
      if routing.quantile
      else routing.epsilon
    )
    routes = {'epsilon': np.float64(epsilon)}
    for part, rows in (('train', train_rows), ('tune', tune_rows)):
      routes[f'{part}_easy'] = scores[part] < epsilon
      routes[f'{part}_index'] = rows['index']
      share = routes[f'{part}_easy'].mean()
      logger.info(
        'Routing at epsilon %.4g: %.1f %% of %s is easy.',
        epsilon,
        100 * share,
        part,
      )
      if not 0.05 <= share <= 0.95:
        logger.warning(
          'Less than 5 %% of %s goes to one branch; config.routing.quantile '
          'shares the images out.',
          part,
        )
    return routes

  def _job(
    self,
    index,
    stage,
    directory,
    model,
    clusters,
    branch,
    train_indices,
    tune_indices,
  ) -> train.Job:
    name = stage.name if branch == ALL else f'{stage.name}/{branch}'
    subset = lambda records, indices, split: (
      records
      if indices is None
      else input_pipeline.Records(self.builder, split, indices)
    )
    splits = self.config.dataset.splits
    tune = subset(self.tune, tune_indices, splits.tune)
    candidate = Stage(stage.name, model, {ALL: None}, clusters)
    cascade = _Lazy(
      lambda: Cascade([*self.stages, candidate], self.config, self.parallel)
    )

    def tune_ne(variables) -> float:
      candidate.networks[ALL] = variables
      cascade().refresh()
      batches = input_pipeline.eval_batches(tune, self.config)
      rows = cascade().predict(batches)
      return evaluate.macro_ne(rows, stage.name, self.config.input.size)

    initial = None
    if stage.init == 'previous' and self.stages:
      initial = self.stages[-1].networks[ALL]
    elif stage.init not in ('previous', 'random'):
      raise InputError(
        f"config.stages[{index}].init is '{stage.init}', valid values are "
        "'random' and 'previous'."
      )
    return train.Job(
      name=name,
      directory=directory / branch,
      model=model,
      stage=stage,
      records=subset(self.records, train_indices, splits.train),
      previous_models=tuple(s.model for s in self.stages),
      previous=tuple(s.networks[ALL] for s in self.stages),
      clusters={'centres': clusters['centres']} if clusters else {},
      initial=initial,
      tune_ne=tune_ne,
      seed=100 * self.config.seed + 10 * index + (branch == HARD),
    )


class _Lazy:
  """Calls a function once, when its value is first asked for."""

  def __init__(self, make):
    self._make, self._value = make, None

  def __call__(self):
    if self._value is None:
      self._value = self._make()
    return self._value


def stage_directory(workdir: pathlib.Path, stage) -> pathlib.Path:
  """Where a stage lies: in this run, or in the one that it is taken from."""
  if stage.checkpoint:
    return pathlib.Path(stage.checkpoint).expanduser()
  return workdir / 'stages' / stage.name


def make_clusters(rows, estimate, label, seed, parallel) -> dict:
  """Clusters the training set's label vectors.

  Args:
    rows: of `Cascade.predict` over the training set.
    estimate: (n, N, 2) of the stage before, or None.
    label: the stage's `pseudo_label` config.
    seed: of k-means++.
    parallel: the devices.

  Returns:
    `centres` (K, D) float32 and, with an estimate, `errors` (K,): the mean
    length of the members' offsets, e(C_k) of P1.
  """
  vectors = jax.jit(
    lambda landmarks, visibility, estimate: pseudo_labels.label_vectors(
      landmarks,
      visibility,
      estimate,
      space=label.space,
      context_transform=label.context_transform,
    )
  )

  def chunks():
    for i in range(0, len(rows['landmarks']), CHUNK):
      part = slice(i, i + CHUNK)
      yield jax.device_get(
        vectors(
          rows['landmarks'][part],
          rows['visibility'][part],
          None if estimate is None else estimate[part],
        )
      )

  result = pseudo_labels.kmeans(
    chunks, label.num_clusters, seed=seed, parallel=parallel
  )
  clusters = {'centres': result.centres}
  if estimate is not None:
    nearest = jax.jit(pseudo_labels.hard_label)
    labels = np.concatenate(
      [np.asarray(nearest(z, mask, result.centres)) for z, mask in chunks()]
    )
    errors = pseudo_labels.offset_error(
      rows['landmarks'], rows['visibility'], estimate
    )
    clusters['errors'] = pseudo_labels.cluster_errors(
      labels, np.asarray(errors), label.num_clusters
    )
  return clusters


def train_cascade(config, builder, workdir, parallel) -> list[Stage]:
  """Trains what is not yet trained of a cascade.

  Args:
    config: the run's config.
    builder: of the prepared dataset.
    workdir: the run's folder.
    parallel: the devices.

  Returns:
    The trained stages.
  """
  parallel.check_batch_size(config.batch_size)
  checkpoint.check_manifest(workdir, config, training=True)
  trainer = _Trainer(config, builder, workdir, parallel)
  finished = {}
  for index, stage in enumerate(config.stages):
    checkpoint.write_manifest(workdir, config, finished)
    trainer.train_stage(index, stage)
    done = trainer.stages[-1]
    finished[stage.name] = {
      'directory': str(stage_directory(workdir, stage)),
      'networks': sorted(done.networks),
      'epsilon': done.epsilon,
      'finished': True,
    }
  checkpoint.write_manifest(workdir, config, finished)
  return trainer.stages


def load_cascade(config, workdir) -> tuple[list[Stage], list[dict]]:
  """Loads a finished cascade.

  Args:
    config: of the run, or one with other data but the same networks.
    workdir: the run's folder.

  Returns:
    (stages, history): the curves of all networks, with `stage` their names.

  Raises:
    InputError: if the folder holds no finished cascade of this config.
  """
  manifest = checkpoint.check_manifest(workdir, config, training=False)
  stages, history = [], []
  for index, stage in enumerate(config.stages):
    entry = manifest.get('stages', {}).get(stage.name)
    if not entry:
      raise InputError(
        f"{workdir} holds no finished stage '{stage.name}': train it with "
        '--mode=train.'
      )
    directory = stage_directory(workdir, stage)
    model = build_model(config, stage, index)
    networks = {}
    for name in entry['networks']:
      networks[name], curve = train.load_network(
        directory / name, model, config
      )
      label = stage.name if name == ALL else f'{stage.name}/{name}'
      history += [{**point, 'stage': label} for point in curve]
    clusters = checkpoint.load_arrays(directory / 'clusters.npz') or {}
    stages.append(
      Stage(stage.name, model, networks, clusters, entry['epsilon'])
    )
  return stages, history
