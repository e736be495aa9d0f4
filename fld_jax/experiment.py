"""A run: prepare data, train what is left to train, evaluate, report."""

import contextlib
import logging
import pathlib
from collections.abc import Sequence
from typing import Any, NoReturn

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from fld_jax import ablation, defaults, input_pipeline
from fld_jax.cascade import store
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import Setup, resolve
from fld_jax.datasets.catalog import landmark_set, whole_set
from fld_jax.datasets.common.folder_builder import FolderBuilder
from fld_jax.datasets.prepare import (
  content_id,
  describe,
  make_builder,
  prepared_builder,
)
from fld_jax.errors import InputError, shortened
from fld_jax.evaluation import (
  attributes,
  baseline,
  evaluate,
  evaluated_run,
  results,
  score,
  text_tables,
)
from fld_jax.evaluation import calibration as calibration_lib
from fld_jax.evaluation.baseline import MeanPosition
from fld_jax.evaluation.calibration import Calibration, Identity
from fld_jax.evaluation.networks import Networks
from fld_jax.files import atomic, json_files
from fld_jax.landmark_sets import COCO_17
from fld_jax.report import report
from fld_jax.runtime import manifest, processes, user_cache
from fld_jax.runtime.parallel import Parallel
from fld_jax.training import checks, train_cascade
from fld_jax.visualization.history import HistoryFiles

logger = logging.getLogger('fld_jax')


def run(
  config: ConfigDict,
  workdir: pathlib.Path,
  *,
  mode: str,
  splits: Sequence[str],
) -> dict[str, Any]:
  """Runs a mode of the program.

  Args:
    config: The config of a file in configs/.
    workdir: The run's folder; training creates it if it does not exist.
    mode: The mode: 'train' (trains what is not finished, then evaluates),
      'evaluate', or 'ablation' (trains and evaluates each of `config.rows`).
    splits: The names of the splits to evaluate. An ablation shows the first.

  Returns:
    Name of the split -> metrics, as in W/eval/SPLIT/metrics.json; for an
    ablation title of the row -> seed -> figures.

  Raises:
    InputError: If the config, the data or the folder has a fault that the user
      can correct.
  """
  user_cache.keep_programs()
  if mode == 'ablation':
    return ablation.run_rows(
      config,
      workdir,
      lambda row, folder: _run_row(row, folder, splits),
      splits[0],
    )
  begun = manifest.read_manifest(workdir)
  if mode == 'train' and begun:
    config = defaults.as_begun(config, begun['config'])
  # Here alone the config of a run becomes objects, which are handed down.
  if mode == 'evaluate' and begun:
    setup = _resolve_saved(config, workdir, begun)
  else:
    setup = resolve(config)
  checks.check_config(config, setup)
  if begun:
    # Before the data are prepared, which can take hours.
    fields = '' if mode == 'train' else manifest.NETWORK_FIELDS
    manifest.compare_configs(workdir, begun, config, fields)
  elif mode == 'train':
    checks.check_pretrained(config, setup)
  parallel = Parallel(config.parallel)
  parallel.check_batch_size(config.batch_size)
  if mode == 'evaluate' and begun:
    _check_data_dir(config, workdir, begun)
  # The main process prepares the data, so that the others find them prepared.
  prepare = lambda: bool(prepared_builder(config.dataset))
  processes.call_on_main(prepare, seconds=processes.LONG_SECONDS)
  builder = prepared_builder(config.dataset)
  attributes.check(config, builder)
  if mode == 'train' and processes.is_main():
    for line in describe(builder, whole_set(config.dataset)):
      logger.info('%s', line)
  for split in splits:
    # An unknown split is refused before anything is trained.
    field = 'config.eval_splits' if split in config.eval_splits else '--split'
    input_pipeline.Records(builder, split, only=setup.selected, field=field)
  if mode == 'train' and processes.is_main():
    for line in _shared_images(config, builder, splits):
      logger.warning('%s', line)
  with contextlib.ExitStack() as stack:
    processes.call_on_main(lambda: _lock(workdir, mode, stack))
    if mode == 'train':
      if 'num_attributes' in config.model:
        processes.call_on_main(
          lambda: attributes.save(workdir, attributes.of_data(builder))
        )
      train_cascade.train_cascade(
        config,
        setup,
        builder,
        workdir,
        parallel,
        HistoryFiles(workdir).write,
      )
    stages, history = store.load_cascade(config, setup, workdir)
    trained = Cascade(stages, setup, parallel)
    calibration = _calibrate(trained, builder, config, workdir)
    return {
      split: _evaluate_and_report(
        trained, builder, split, config, workdir, history, calibration
      )
      for split in splits
    }


def _run_row(
  config: ConfigDict, workdir: pathlib.Path, splits: Sequence[str]
) -> dict[str, Any]:
  """Runs a row of an ablation; on COCO's people it has AP and AR, too.

  Args:
    config: The row's config.
    workdir: The row's folder.
    splits: The names of the splits to evaluate.

  Returns:
    The result of `run`, each split with `coco` where there is such a figure.
  """
  found = run(config, workdir, mode='train', splits=splits)
  names = landmark_set(config.dataset).names
  if config.dataset.name == 'coco_keypoints' and names == COCO_17.names:
    for split, metrics in found.items():
      folder = workdir / 'eval' / split
      predictions = folder / 'predictions.json'
      metrics['coco'] = processes.call_on_main(
        lambda at=predictions, of=split, to=folder: score.score(
          config.dataset, at, of, to
        )['coco'],
        processes.LONG_SECONDS,
      )
  return found


def _shared_images(
  config: ConfigDict,
  builder: tfds.core.DatasetBuilder,
  reported: Sequence[str],
) -> list[str]:
  """Sentences on splits with common images, whose figures say too much.

  Args:
    config: The run's config.
    builder: The builder of the prepared data set.
    reported: The splits that the run reports on.
  """
  train, tune = config.dataset.splits.train, config.dataset.splits.tune
  pairs = [(tune, train, 'on which networks are trained')]
  for split in reported:
    pairs.append((split, train, 'on which networks are trained'))
    pairs.append((split, tune, 'by which checkpoints are chosen'))
  lines = []
  for split, other, why in pairs:
    count = input_pipeline.num_shared(builder, split, other)
    if count:
      lines.append(
        f"{count} images of '{split}' are also in '{other}', {why}: figures of "
        f"'{split}' look better than those of new images. The splits are "
        'config.dataset.splits and config.eval_splits.'
      )
  return lines


def _resolve_saved(
  config: ConfigDict, workdir: pathlib.Path, saved: dict
) -> Setup:
  """Resolves the config of a run that is evaluated.

  Args:
    config: The run's config, perhaps with another data set.
    workdir: The run's folder, for messages.
    saved: The run's manifest.

  Returns:
    The objects, with the run's own landmarks.

  Raises:
    InputError: If the data set has other landmarks than the run.
  """
  setup = resolve(config, saved['landmarks'])
  data = resolve(config)
  for field in ('names', 'slots', 'types'):
    then, now = getattr(setup.whole, field), getattr(data.whole, field)
    if then != now:
      raise InputError(
        f'{workdir}/manifest.json, landmarks.{field}: is {shortened(then)}, '
        f'and config.dataset has {shortened(now)}: evaluate the run on data '
        'with its own landmarks.'
      )
  return setup


def _check_data_dir(
  config: ConfigDict, workdir: pathlib.Path, saved: dict
) -> None:
  """Refuses to prepare data in a folder that only the run's manifest names.

  A run may be a stranger's, or come from another machine: nothing is made
  outside of it but where the user, or the default, says.

  Args:
    config: The run's config, perhaps with fields of the command line.
    workdir: The run's folder, for the message.
    saved: The run's manifest.

  Raises:
    InputError: If the data set is not prepared, and no records of it are in the
      folder yet.
  """
  place, name = config.dataset.data_dir, config.dataset.name
  theirs = saved['config']['dataset'].get('data_dir')
  if place != theirs or place == defaults.base(name).dataset.data_dir:
    return
  builder = make_builder(config.dataset)
  known = pathlib.Path(place).expanduser() / builder.name
  if not builder.is_prepared() and not known.is_dir():
    raise InputError(
      f'{workdir}/manifest.json, config.dataset.data_dir: is {place}, where '
      f'{name} is not prepared: say where its records are or shall be, '
      '--config.dataset.data_dir=FOLDER'
    )


def _check_links(workdir: pathlib.Path) -> None:
  """Refuses to write into a run of which a part lies somewhere else."""
  root = workdir.resolve()
  for path in workdir.rglob('*'):
    if path.is_symlink() and not path.resolve().is_relative_to(root):
      raise InputError(
        f'{path} is a link to {path.resolve()}, outside of the run: it must be '
        'a file or folder of the run itself.'
      )


def _lock(
  workdir: pathlib.Path, mode: str, stack: contextlib.ExitStack
) -> None:
  """Keeps other runs out of a folder until the stack is left.

  Args:
    workdir: The run's folder; training creates it.
    mode: The mode of the run.
    stack: The stack that holds the lock.

  Raises:
    InputError: If another run uses the folder.
  """

  def busy() -> NoReturn:
    raise InputError(
      f'{workdir} is used by another run: wait for its end, or give another '
      '--workdir.'
    )

  if mode == 'train':
    workdir.mkdir(parents=True, exist_ok=True)
  if workdir.is_dir():
    stack.enter_context(atomic.locked(workdir, busy))
  _check_links(workdir)
  if mode == 'train':
    atomic.remove_unfinished(workdir)


def _calibrate(
  trained: Cascade,
  builder: tfds.core.DatasetBuilder,
  config: ConfigDict,
  workdir: pathlib.Path,
) -> Calibration | None:
  """Reads how far estimates may be off, or measures it on held-out images.

  Args:
    trained: The trained cascade.
    builder: The builder of the data set.
    config: The run's config.
    workdir: The run's folder.

  Returns:
    The calibration; None if there is none, and the data are not those that the
    run was trained on, whose held-out images it is measured on.
  """
  names = trained.setup.landmarks.names
  seconds = processes.LONG_SECONDS

  def read() -> tuple[Identity, Calibration | None]:
    identity = Identity.of(config, trained.stages)
    return identity, Calibration.read(workdir, names, identity)

  identity, found = processes.call_on_main(read, seconds)
  own = manifest.read_manifest(workdir)['data'] == content_id(builder)
  if found or not own:
    return found
  split = config.dataset.splits.tune
  logger.info('How far estimates may be off is measured on %s.', split)
  predictions, _ = evaluate.evaluate_split(trained, builder, split)

  def fit() -> Calibration:
    Calibration.fit(predictions, split, identity).save(workdir)
    # As the file has it, rounded, so that a later start has the same figures.
    return Calibration.read(workdir, names, identity)

  return processes.call_on_main(fit, seconds)


def _evaluate_and_report(
  trained: Cascade,
  builder: tfds.core.DatasetBuilder,
  split: str,
  config: ConfigDict,
  workdir: pathlib.Path,
  history: list[dict],
  calibration: Calibration | None,
) -> dict:
  """Evaluates a split, writes its files and prints its table.

  Args:
    trained: The trained cascade.
    builder: The builder of the data set.
    split: The name of the split.
    config: The run's config.
    workdir: The run's folder.
    history: The curves of the training, for the report.
    calibration: How far estimates may be off; None if it is not known.

  Returns:
    The metrics.
  """
  predictions, metrics = evaluate.evaluate_split(
    trained, builder, split, calibration
  )
  if not processes.is_main():
    return metrics
  directory = workdir / 'eval' / split
  evaluation = results.Evaluation(
    split=split,
    predictions=predictions,
    config=config,
    history=history,
    centres={
      stage.name: stage.clusters['centres']
      for stage in trained.stages
      if stage.clusters
    },
    epsilon=trained.stages[-1].epsilon,
  )
  guess = _guess(directory, evaluation, workdir)
  _write(directory, evaluation, metrics, builder)
  networks = Networks.of(trained)
  networks.save(directory / 'networks.json')
  run = evaluated_run.EvaluatedRun(
    label=workdir.absolute().name,
    evaluation=evaluation,
    figures=json_files.rounded(metrics),  # equal to those of metrics.json
    image=evaluated_run.image_reader(builder, evaluation),
    guess=guess,
    networks=networks,
  )
  report.write_report([run], directory)
  _print(directory, split, metrics, guess)
  return metrics


def _guess(
  directory: pathlib.Path, evaluation: results.Evaluation, workdir: pathlib.Path
) -> dict | None:
  """Writes baseline.json of an evaluated split.

  Args:
    directory: The folder of the evaluation.
    evaluation: The evaluated split.
    workdir: The run's folder.

  Returns:
    The file's content; None, and no file, if the run's training left no mean
    positions of these landmarks.
  """
  path = directory / 'baseline.json'
  truth = evaluation.predictions
  guess = MeanPosition.read(truth.landmark_set, workdir)
  if guess is None:
    path.unlink(missing_ok=True)
    return None
  figures = json_files.rounded(guess.figures(truth))
  json_files.write_json(path, figures)
  return figures


def _write(
  directory: pathlib.Path,
  evaluation: results.Evaluation,
  metrics: dict,
  builder: tfds.core.DatasetBuilder,
) -> None:
  """Writes metrics.json, predictions.json and evaluation.npz."""
  ids = None
  if isinstance(builder, FolderBuilder):
    ids = builder.result_ids(evaluation.predictions.ids)
  results.write_evaluation(directory, evaluation.predictions, metrics, ids)
  evaluation.save(directory / 'evaluation.npz')


def _print(
  directory: pathlib.Path, split: str, metrics: dict, guess: dict | None
) -> None:
  """Prints the table of NE, and the paths of the files that were written.

  Args:
    directory: The folder of the evaluation.
    split: Name of the split.
    metrics: The metrics.
    guess: The figures of the constant guess, None if they are not known.
  """
  print(f'\n{split}: NE in % of the box\n{text_tables.format_table(metrics)}')
  if guess:
    macro = guess['ne']['macro']
    print(f'{baseline.compare(metrics["ne"]["macro"], macro)}\n')
  if 'attributes' in metrics:
    print(f'{attributes.describe(metrics["attributes"])}\n')
  if 'calibration' in metrics:
    print(f'{calibration_lib.describe(metrics["calibration"])}\n')
  print(
    f'Figures: {directory}/metrics.json\n'
    f'Predictions: {directory}/predictions.json\n'
    f'All of it: {directory}/evaluation.npz\n'
    f'Report: {directory}/report.html',
    flush=True,
  )
