"""Everything that a report says of evaluated runs, computed once.

`analyse` turns the loaded runs into one frozen `Facts`. The tables, plots,
sentences and the gallery of a report are functions of it and measure nothing
themselves. NE and shares are fractions here.
"""

import dataclasses

import numpy as np

from fld_jax import papers, schema
from fld_jax.evaluation import mean_images
from fld_jax.evaluation.evaluated_run import EvaluatedRun
from fld_jax.evaluation.facts import (
  CURVE_SHARES,
  ERROR_EDGES,
  GROUPS,
  KEPT_SHARES,
  Branch,
  Comparison,
  DataFacts,
  Example,
  Facts,
  Group,
  KeptCurve,
  RunFacts,
  Series,
  SpreadEllipse,
  group_names,
)
from fld_jax.metrics import normalised_error, routing
from fld_jax.metrics.predictions import corner_and_size, counted

MAX_GALLERY_IMAGES = 240  # of all runs together
MAX_EXAMPLES = 6  # rows of the example sheets of all runs together


def analyse(runs: list[EvaluatedRun]) -> Facts:
  """Computes all that a report says of runs.

  Args:
    runs: Evaluated runs with the same landmarks, at least one.
  """
  rows = mean_images.sample(len(runs[0].predictions.ids))
  crops, patches = mean_images.crops_and_patches(runs[0], rows)
  alone = len(runs) == 1
  of_first = _analyse_run(
    runs[0], '' if alone else '_1', len(runs), crops=crops
  )
  found = [of_first] + [
    _analyse_run(run, f'_{number}', len(runs), first=of_first)
    for number, run in enumerate(runs[1:], 2)
  ]
  return Facts(
    runs=tuple(found),
    series=_series(found),
    history=_history(runs),
    comparisons=tuple(_compare(of_first, other) for other in found[1:]),
    data=_data(runs[0]),
    num_means=len(rows),
    patches=patches,
    examples=_examples(found),
  )


def _analyse_run(
  run: EvaluatedRun,
  file_suffix: str,
  num_runs: int,
  *,
  first: RunFacts | None = None,
  crops: np.ndarray | None = None,
) -> RunFacts:
  """Measures one run.

  Args:
    run: The run.
    file_suffix: The end of the names of the run's own files, see `RunFacts`.
    num_runs: The number of runs in the report.
    first: The first run's facts; None if this is the first run.
    crops: The crops of `mean_images.sample`, if they were made already.
  """
  norm = run.figures['norm']
  mask = _counted(run)
  errors = {stage: _errors(run, stage, mask) for stage in run.stages}
  image_errors = {
    stage: normalised_error.image_errors(run.predictions, stage, norm)
    for stage in run.stages
  }
  exchanged = _exchanged(run, image_errors)
  final = errors[run.final]
  config = run.evaluation.config
  return RunFacts(
    run=run,
    file_suffix=file_suffix,
    caption_prefix='' if num_runs == 1 else f'{run.label}: ',
    counted=mask,
    errors=errors,
    image_errors=image_errors,
    exchanged=exchanged,
    exchanged_outliers=_exchanged_outliers(final, exchanged[run.final]),
    images_seen=_images_seen(run),
    groups={
      group: _groups(run, group, final, image_errors[run.final])
      for group in GROUPS
    },
    confusion=confusion(run),
    branches=_branches(run, errors, mask),
    routed_well=_routed_well(run, image_errors),
    kept=tuple(
      _kept_curve(name, final[mask], scores[mask])
      for name, scores in confidence_scores(run).items()
    ),
    kept_at_best=_kept_curve(
      'at best: by the error itself', final[mask], -final[mask]
    ),
    clusters=_clusters(run, image_errors[run.final], crops),
    published=papers.published(
      config.dataset.name, config.model.name, run.names
    ),
    example_rows=_example_rows(
      run, image_errors[run.final], max(2, MAX_EXAMPLES // num_runs), first
    ),
  )


def _counted(run: EvaluatedRun) -> np.ndarray:
  """The (n, N) mask of the landmarks that NE is measured of: visible ones."""
  norm = normalised_error.normaliser(run.predictions, run.figures['norm'])
  return counted(run.predictions.visibility) & np.isfinite(norm[:, :1])


def _errors(run: EvaluatedRun, stage: str, mask: np.ndarray) -> np.ndarray:
  """The (n, N) NE of a stage, NaN outside of the (n, N) mask."""
  found = normalised_error.normalised_errors(
    run.predictions, stage, run.figures['norm']
  )
  return np.where(mask, found, np.nan)


def _exchanged(
  run: EvaluatedRun, image_errors: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """The images that fit better with left and right exchanged.

  Args:
    run: The run.
    image_errors: Stage -> (n,) NE of the images.

  Returns:
    Stage -> (n,) mask, see `RunFacts.exchanged`.
  """
  flip = run.predictions.landmark_set.flip
  turned = dataclasses.replace(
    run.predictions,
    estimates={
      stage: estimate[:, flip]
      for stage, estimate in run.predictions.estimates.items()
    },
  )
  norm = run.figures['norm']
  return {
    stage: normalised_error.image_errors(turned, stage, norm)
    < image_errors[stage]
    for stage in run.stages
  }


def _exchanged_outliers(
  errors: np.ndarray, exchanged: np.ndarray
) -> float | None:
  """The share of the outliers that images with exchanged sides have.

  Args:
    errors: (n, N) NE of the final stage.
    exchanged: (n,) mask of these images.

  Returns:
    A fraction; None if there are no such images or no outliers.
  """
  outliers = errors > normalised_error.OUTLIER
  if not exchanged.any() or not outliers.any():
    return None
  return float(outliers[exchanged].sum() / outliers.sum())


def _images_seen(run: EvaluatedRun) -> int | None:
  """The number of images in training, of all stages; None if not known."""
  seen = {}
  for point in run.evaluation.history:
    seen[point['stage']] = max(seen.get(point['stage'], 0), point['images'])
  return sum(seen.values()) if seen else None


def _groups(
  run: EvaluatedRun, group: str, errors: np.ndarray, image_errors: np.ndarray
) -> list[Group]:
  """The final stage by clothes type or variation, where metrics.json has it.

  Args:
    run: The run.
    group: 'clothes_type' or 'variation'.
    errors: (n, N) NE of the final stage.
    image_errors: (n,) NE of the images by the final stage.
  """
  codes = np.asarray(getattr(run.predictions, group))
  measured = run.figures['stages'][run.final][f'ne_by_{group}']
  groups = []
  for code, name in group_names(run.predictions.landmark_set, group).items():
    if name not in measured:
      continue
    mask = codes == code
    images = image_errors[mask][np.isfinite(image_errors[mask])]
    values = errors[mask][np.isfinite(errors[mask])]
    outliers = values > normalised_error.OUTLIER
    groups.append(
      Group(
        name=name,
        count=int(mask.sum()),
        macro=measured[name]['macro'],
        median=float(np.median(images)) if images.size else None,
        high=float(np.quantile(images, 0.9)) if images.size else None,
        outliers=float(np.mean(outliers)) if values.size else None,
      )
    )
  return groups


def confusion(run: EvaluatedRun) -> np.ndarray | None:
  """Counts the landmarks of the final stage by true and predicted visibility.

  Args:
    run: The run.

  Returns:
    (3, 3) counts, true by predicted; None if no stage predicts visibility.
  """
  probs = run.predictions.visibility_probs
  if not probs:
    return None
  found = np.argmax(list(probs.values())[-1], axis=-1)
  truth = run.predictions.visibility
  return np.array(
    [[np.sum((truth == a) & (found == b)) for b in range(3)] for a in range(3)]
  )


def _branches(
  run: EvaluatedRun, errors: dict[str, np.ndarray], counted_mask: np.ndarray
) -> tuple[Branch, ...]:
  """The easy and the hard branch; () without routing."""
  hard = run.predictions.is_hard
  if hard is None:
    return ()
  return tuple(
    Branch(
      name=name,
      count=int(mask.sum()),
      share=float(mask.mean()),
      macro={
        stage: normalised_error.ne(
          errors[stage][mask], counted_mask[mask], run.names
        )['macro']
        for stage in run.stages
      },
    )
    for name, mask in (('easy', ~hard), ('hard', hard))
  )


def _routed_well(
  run: EvaluatedRun, image_errors: dict[str, np.ndarray]
) -> dict[str, float | None]:
  """Rank correlation of the routing score with each stage's (n,) NE."""
  score = run.predictions.route_score
  if score is None:
    return {}
  return {
    stage: routing.rank_correlation(score, errors)
    for stage, errors in image_errors.items()
  }


def confidence_scores(run: EvaluatedRun) -> dict[str, np.ndarray]:
  """Collects values that may tell how good each landmark of the final stage is.

  Args:
    run: The run.

  Returns:
    Name -> (n, N), higher is more certain; first the network's own confidence,
    if it has one.
  """
  final, predictions, found = run.final, run.predictions, {}
  if final in predictions.confidences:
    found['height of the heatmap'] = predictions.confidences[final]
  if final in predictions.visibility_probs:
    probs = predictions.visibility_probs[final]
    found['probability of visible'] = probs[..., schema.VISIBLE]
  if len(run.stages) > 1:
    moved = predictions.estimates[final]
    moved = moved - predictions.estimates[run.stages[-2]]
    moved = moved / corner_and_size(predictions.boxes)[1]
    found['small move by the last stage'] = -np.linalg.norm(moved, axis=-1)
  if predictions.route_score is not None:
    score = -predictions.route_score[:, None]
    shape = predictions.visibility.shape
    found['low routing score'] = np.broadcast_to(score, shape)
  return found


def _kept_curve(name: str, errors: np.ndarray, scores: np.ndarray) -> KeptCurve:
  """The curve of (m,) errors that are sorted by (m,) scores."""
  values = kept_ne(errors, scores, (*KEPT_SHARES, *CURVE_SHARES))
  at = len(KEPT_SHARES)
  return KeptCurve(name, tuple(values[:at]), tuple(values[at:]))


def kept_ne(
  errors: np.ndarray, scores: np.ndarray, kept: tuple[float, ...]
) -> list[float | None]:
  """Computes the mean error of the values with the highest scores.

  Args:
    errors: (m,) errors of the landmarks that count.
    scores: (m,) scores, high for the landmarks that are to be kept.
    kept: The shares that are kept, in (0, 1].

  Returns:
    The mean error at each share; None if m is 0.
  """
  order = np.argsort(-scores, kind='stable')
  means = np.cumsum(errors[order]) / np.arange(1, len(errors) + 1)
  return [
    float(means[max(1, round(share * len(errors))) - 1])
    if len(errors)
    else None
    for share in kept
  ]


def _clusters(
  run: EvaluatedRun, image_errors: np.ndarray, crops: np.ndarray | None
) -> dict[str, list[mean_images.Cluster]]:
  """Stage -> its clusters; decodes images only if there are any.

  Args:
    run: The run.
    image_errors: (n,) NE of the images by the final stage.
    crops: (m, TILE, TILE, 3) the crops of the sampled images, if already made.
  """
  if not run.evaluation.centres:
    return {}
  rows = mean_images.sample(len(run.predictions.ids))
  if crops is None:
    crops, _ = mean_images.crops_and_patches(run, rows)
  return {
    stage: mean_images.clusters(run, stage, rows, crops, image_errors)
    for stage in run.evaluation.centres
  }


def same_images(
  one: EvaluatedRun, other: EvaluatedRun
) -> tuple[np.ndarray, np.ndarray]:
  """Finds the images that two runs were both evaluated on.

  Args:
    one: The one run.
    other: The other run.

  Returns:
    (k,) rows of these images in the one run, and their (k,) rows in the other.
  """
  places = {name: row for row, name in enumerate(other.predictions.ids)}
  pairs = [
    (row, places[name])
    for row, name in enumerate(one.predictions.ids)
    if name in places
  ]
  return tuple(np.array(pairs, int).reshape(-1, 2).T)


def _compare(one: RunFacts, other: RunFacts) -> Comparison:
  """A run beside the first one."""
  rows, other_rows = same_images(one.run, other.run)
  a = one.image_errors[one.final][rows]
  b = other.image_errors[other.final][other_rows]
  known = np.isfinite(a) & np.isfinite(b)
  change = (b - a)[known]
  if not change.size:
    return Comparison(label=other.label, first=a, other=b, count=0)
  error = None
  if change.size > 1:
    error = float(change.std(ddof=1) / np.sqrt(change.size))
  return Comparison(
    label=other.label,
    first=a,
    other=b,
    count=change.size,
    mean_first=float(a[known].mean()),
    mean_other=float(b[known].mean()),
    change=float(change.mean()),
    standard_error=error,
    better=float((change < 0).mean()),
  )


def _series(runs: list[RunFacts]) -> dict[str, Series]:
  """What plots compare: the stages of one run, or the runs' final stages."""
  if len(runs) == 1:
    (run,) = runs
    chosen = {stage: (run, stage) for stage in run.stages}
  else:
    chosen = {run.label: (run, run.final) for run in runs}
  series = {}
  for label, (run, stage) in chosen.items():
    errors = run.errors[stage]
    values = errors[np.isfinite(errors)]
    # The last bin has its right edge, and all that is above.
    inside = np.minimum(values, ERROR_EDGES[-1] - 1e-9)
    series[label] = Series(
      figures=run.run.figures['stages'][stage],
      histogram=np.histogram(inside, ERROR_EDGES)[0] / max(1, values.size),
      by_landmark=np.array([_mean_median_high(column) for column in errors.T]),
      **_pdl(run, stage),
    )
  return series


def _pdl(run: RunFacts, stage: str) -> dict:
  """Detected landmarks of a stage in parts, as `Series` has them."""
  predictions = run.run.predictions
  errors = normalised_error.CROP_PIXELS * normalised_error.normalised_errors(
    predictions, stage, 'bbox_wh'
  )
  mask = counted(predictions.visibility)
  curve = lambda *part: normalised_error.pdl(
    errors[part], mask[part], normalised_error.PDL_THRESHOLDS
  )
  by_group = {}
  for group in GROUPS:
    codes = np.asarray(getattr(predictions, group))
    names = group_names(predictions.landmark_set, group)
    by_group[group] = {
      name: curve(codes == code)
      for code, name in names.items()
      if mask[codes == code].any()
    }
  return {
    'pdl_by_landmark': np.array(
      [curve(slice(None), slot) for slot in range(mask.shape[1])]
    ),
    'pdl_by_group': by_group,
  }


def _mean_median_high(errors: np.ndarray) -> tuple[float, float, float]:
  """Mean, median and 90 % quantile of (n,) errors; NaN are left out."""
  values = errors[np.isfinite(errors)]
  if not values.size:
    return (np.nan,) * 3
  return (values.mean(), *np.quantile(values, (0.5, 0.9)))


def _history(runs: list[EvaluatedRun]) -> list[dict]:
  """The curves of all trainings; of several runs, with their labels."""
  return [
    point
    if len(runs) == 1
    else {**point, 'stage': f'{run.label} {point["stage"]}'}
    for run in runs
    for point in run.evaluation.history
  ]


def _data(run: EvaluatedRun) -> DataFacts:
  """What a run was evaluated on."""
  predictions = run.predictions
  groups = {}
  for group in GROUPS:
    codes = np.asarray(getattr(predictions, group))
    if codes.any():
      names = group_names(predictions.landmark_set, group)
      groups[group] = {n: int(np.sum(codes == c)) for c, n in names.items()}
  codes = predictions.visibility
  corner, size = corner_and_size(predictions.boxes)
  places = (np.asarray(predictions.landmarks) - corner) / size
  known = schema.has_position(codes)
  positions = tuple(
    places[known[:, slot], slot] for slot in range(len(run.names))
  )
  states = range(len(schema.VISIBILITY_NAMES))
  return DataFacts(
    total=len(predictions.ids),
    groups=groups,
    present=np.sum(codes != schema.ABSENT, axis=0),
    states=np.stack([np.sum(codes == c, axis=0) for c in states], axis=1),
    positions=positions,
    ellipses=tuple(
      _ellipse(points) if len(points) > 1 else None for points in positions
    ),
  )


def _ellipse(points: np.ndarray) -> SpreadEllipse:
  """Two standard deviations around the mean of (k, 2) positions."""
  values, vectors = np.linalg.eigh(np.cov(points.T))
  width, height = 4 * np.sqrt(np.maximum(values[::-1], 0))
  return SpreadEllipse(
    centre=points.mean(axis=0),
    width=width,
    height=height,
    angle=np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])),
  )


def _example_rows(
  run: EvaluatedRun,
  image_errors: np.ndarray,
  count: int,
  first: RunFacts | None,
) -> np.ndarray:
  """Rows of images from the smallest to the largest error.

  Args:
    run: The run.
    image_errors: (n,) NE of the images by the run's final stage.
    count: The number of rows, at most.
    first: The first run's facts, if `run` is another one. The first run chooses
      the images where the other one has them too.
  """
  chooser = run if first is None else first.run
  errors = image_errors if first is None else first.image_errors[first.final]
  mine, theirs = same_images(run, chooser)
  place = dict(zip(theirs.tolist(), mine.tolist(), strict=True))
  rows = [place[row] for row in spread(errors, count).tolist() if row in place]
  return np.array(rows, int) if rows else spread(image_errors, count)


def spread(errors: np.ndarray, count: int) -> np.ndarray:
  """Chooses rows evenly from the smallest to the largest error.

  Args:
    errors: (n,) errors; rows with NaN are not chosen.
    count: The largest number of rows.

  Returns:
    (k,) rows, by their errors.
  """
  order = np.argsort(errors, kind='stable')[: np.isfinite(errors).sum()]
  if not order.size:
    return order
  picks = np.linspace(0, order.size - 1, min(count, order.size))
  return order[np.rint(picks).astype(int)]


def choose(errors: np.ndarray, count: int) -> dict[int, str]:
  """Chooses the worst rows, the best ones, and some evenly in between.

  Args:
    errors: (n,) errors of the images, NaN where there is none.
    count: The largest number of rows.

  Returns:
    Row -> 'worst', 'best' or 'spread', a third of each; a row counts once. Rows
    with NaN are left out.
  """
  order = np.argsort(errors, kind='stable')[: np.isfinite(errors).sum()]
  order = order.tolist()
  if len(order) <= count:
    third = -(-len(order) // 3)
  else:
    third = count // 3
  chosen = dict.fromkeys(order[::-1][:third], 'worst')
  for row in order[:third]:
    chosen.setdefault(row, 'best')
  rest = [row for row in order if row not in chosen]
  places = np.linspace(0, len(rest) - 1, min(len(rest), count - len(chosen)))
  for place in places:
    chosen.setdefault(rest[int(round(place))], 'spread')
  return chosen


def _examples(runs: list[RunFacts]) -> list[Example]:
  """The images of the gallery, in the order of the runs.

  An image that several runs were evaluated on, with the same box, is one.
  """
  share = MAX_GALLERY_IMAGES // len(runs)
  reasons = [choose(run.image_errors[run.final], share) for run in runs]
  rows = [
    {key: row for row, key in enumerate(_image_keys(run.run))} for run in runs
  ]
  keys = {}  # of the chosen images
  for run_rows, why in zip(rows, reasons, strict=True):
    keys |= {key: None for key, row in run_rows.items() if row in why}
  examples = []
  for key in keys:
    found = tuple(run_rows.get(key) for run_rows in rows)
    why = tuple(r.get(row) for r, row in zip(reasons, found, strict=True))
    examples.append(Example(found, why))
  return examples


def _image_keys(run: EvaluatedRun) -> list[tuple]:
  """What tells the n images apart: their ids and boxes."""
  boxes = np.round(run.predictions.boxes, 3).tolist()
  return list(zip(run.predictions.ids, map(tuple, boxes), strict=True))
