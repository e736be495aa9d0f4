"""How far each estimate may be off: distances calibrated on held-out images.

  W/calibration.json   for a run's networks and settings of inference, tables
                       from the confidence of a landmark to quantiles of its
                       error; fitted on the split `config.dataset.splits.tune`

An estimate's `error_50` is the distance in pixels of its image within which the
true landmark lies with a chance of at least 50 %, `error_90` that of 90 %: the
quantiles of `metrics.conformal`, by the confidence. They hold for visible
landmarks of images, and of boxes, like those that they were fitted on.

Errors are distances in pixels over the square root of the box's area, so that
one circle around the estimate has the stated chance whatever the box's shape.

The file also holds where truth and estimates lie on some of these images: what
is computed from several landmarks, a length for example, can be calibrated from
them (`inference.measures`).
"""

import dataclasses
import hashlib
import pathlib
from typing import Any, NoReturn

import jax
import numpy as np
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from fld_jax.cascade.stage import Stage
from fld_jax.errors import InputError, shortened
from fld_jax.evaluation.text_tables import percent
from fld_jax.files import json_files
from fld_jax.metrics import normalised_error
from fld_jax.metrics.conformal import LEVELS, MIN_COUNT, Table
from fld_jax.metrics.held_out import HeldOut
from fld_jax.metrics.predictions import (
  Predictions,
  confidences,
  corner_and_size,
  counted,
)

VERSION = 2  # of the file's form
MAIN = (50, 90)  # the levels that predictions have
_NORM = 'bbox_sqrt_area'


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
  """The tables of one run with one kind of inference; N landmarks, L levels.

  Attributes:
    networks: A digest of the trained networks.
    settings: The fields of the config that errors depend on, by their paths.
    names: The names of the N landmarks.
    split: The split whose images it was fitted on.
    num_images: The number of these images.
    own: Name of a landmark -> its table; a landmark with fewer than MIN_COUNT
      visible examples has none.
    pooled: The table of all landmarks together, for the others.
    held_out: The landmarks of some of these images.
  """

  networks: str
  settings: dict[str, Any]
  names: tuple[str, ...]
  split: str
  num_images: int
  own: dict[str, Table]
  pooled: Table
  held_out: HeldOut

  @classmethod
  def fit(
    cls, predictions: Predictions, split: str, identity: 'Identity'
  ) -> 'Calibration':
    """Fits the tables to a split.

    Args:
      predictions: The split's truth and estimates, of images that no network
        was trained on.
      split: The name of the split.
      identity: What the tables hold for.

    Raises:
      InputError: If an estimate of a landmark with a position is not finite, or
        a box has no area.
    """
    errors, scores = _errors(predictions), _final_scores(predictions)
    visible = counted(predictions.visibility)
    names = predictions.landmark_set.names
    own = {
      name: Table.fit(errors[rows, slot], scores[rows, slot])
      for slot, name in enumerate(names)
      if np.sum(rows := visible[:, slot]) >= MIN_COUNT
    }
    pooled = Table.fit(errors[visible], scores[visible])
    radius = _shares(own, pooled, names, scores)[..., LEVELS.index(50)]
    return cls(
      networks=identity.networks,
      settings=identity.settings,
      names=names,
      split=split,
      num_images=len(predictions.ids),
      own=own,
      pooled=pooled,
      held_out=HeldOut.of(predictions, radius),
    )

  @classmethod
  def read(
    cls,
    workdir: pathlib.Path,
    names: tuple[str, ...],
    identity: 'Identity',
  ) -> 'Calibration | None':
    """Reads the tables of a run.

    Args:
      workdir: The run's folder.
      names: The names of the N landmarks.
      identity: What the tables shall hold for.

    Returns:
      The calibration; None if the run has none for these networks, settings and
      landmarks.

    Raises:
      InputError: If the file is damaged.
    """
    for found in _read_all(_file(workdir)):
      if found.is_for(identity) and found.names == names:
        return found
    return None

  def is_for(self, identity: 'Identity') -> bool:
    """Whether the tables hold for networks and settings."""
    return Identity(self.networks, self.settings) == identity

  def save(self, workdir: pathlib.Path) -> None:
    """Writes the tables, beside those of the same networks.

    Args:
      workdir: The run's folder.

    Raises:
      InputError: If the present file is damaged.
    """
    path = _file(workdir)
    kept = [
      each
      for each in _read_all(path)
      if each.networks == self.networks and each.settings != self.settings
    ]
    content = [each.to_json() for each in [*kept, self]]
    json_files.write_json(path, {'version': VERSION, 'calibrations': content})

  def to_json(self) -> dict[str, Any]:
    """The tables as the file has them."""
    return {
      'networks': self.networks,
      'settings': self.settings,
      'landmarks': list(self.names),
      'split': self.split,
      'num_images': self.num_images,
      'own': {name: _to_json(table) for name, table in self.own.items()},
      'pooled': _to_json(self.pooled),
      'held_out': self.held_out.to_json(),
    }

  def distances(
    self, scores: Float[np.ndarray, 'n N'], boxes: Float[np.ndarray, 'n 4']
  ) -> Float[np.ndarray, 'n N L']:
    """Computes how far the truth may be, for each of LEVELS.

    Args:
      scores: (n, N) confidences of `metrics.predictions.confidences`.
      boxes: (n, 4) boxes x1, y1, x2, y2 in pixels.

    Returns:
      (n, N, L) pixels, infinite where a level has too few errors.
    """
    shares = _shares(self.own, self.pooled, self.names, scores)
    return shares * _sides(boxes)[..., None]

  def of_level(
    self,
    level: int,
    scores: Float[np.ndarray, 'n N'],
    boxes: Float[np.ndarray, 'n 4'],
  ) -> Float[np.ndarray, 'n N']:
    """Computes the (n, N) distances of one of LEVELS, see `distances`."""
    return self.distances(scores, boxes)[..., LEVELS.index(level)]

  def figures(self, predictions: Predictions) -> dict[str, Any]:
    """Measures on other images how often the truth lies within the distances.

    Args:
      predictions: The images' truth and estimates.

    Returns:
      `split` and `num_images` that it was fitted on; `levels`, as fractions,
      and `shares`, that of the visible landmarks within each; for the levels of
      MAIN `within_50` and so on, the share `overall`, `per_landmark` and
      `annotated` (of visible and occluded landmarks); and `typical_50` and so
      on, the median distance as a share of the square root of the box's area,
      `overall` and `per_landmark`. A landmark whose distance is not known does
      not count; None where none counts.
    """
    scores = _final_scores(predictions)
    distances = self.distances(scores, predictions.boxes)
    side = _sides(predictions.boxes)
    errors = _errors(predictions) * side
    visible = counted(predictions.visibility)
    annotated = counted(predictions.visibility, 'annotated')
    result = {'split': self.split, 'num_images': self.num_images}
    result['levels'] = [level / 100 for level in LEVELS]
    result['shares'] = [
      _share(errors, distances[..., i], visible) for i in range(len(LEVELS))
    ]
    for level in MAIN:
      radius = distances[..., LEVELS.index(level)]
      each = range(len(self.names))
      columns = [(errors[:, s], radius[:, s], visible[:, s]) for s in each]
      result[f'within_{level}'] = {
        'overall': _share(errors, radius, visible),
        'annotated': _share(errors, radius, annotated),
        'per_landmark': {
          name: _share(*column)
          for name, column in zip(self.names, columns, strict=True)
        },
      }
      shares = radius / side
      result[f'typical_{level}'] = {
        'overall': _median(shares, visible),
        'per_landmark': {
          name: _median(shares[:, slot], visible[:, slot])
          for slot, name in enumerate(self.names)
        },
      }
    return result

  def unknown(self) -> str:
    """Says in a sentence which distances are not known; '' if all are."""
    tables = [self.own.get(name, self.pooled) for name in self.names]
    missing = [
      f'error_{level}'
      for level in MAIN
      if any(
        np.isinf(t.quantiles[:, LEVELS.index(level)]).any() for t in tables
      )
    ]
    if not missing:
      return ''
    return (
      f'{" and ".join(missing)} cannot be told of every landmark: the '
      f'{self.num_images} held-out images ({self.split}) have too few visible '
      'ones. Let config.dataset.splits.tune have more of them.'
    )


@dataclasses.dataclass(frozen=True)
class Identity:
  """What a calibration holds for.

  Attributes:
    networks: A digest of the trained networks.
    settings: The fields of the config that errors depend on, by their paths.
  """

  networks: str
  settings: dict[str, Any]

  @classmethod
  def of(cls, config: ConfigDict, stages: list[Stage]) -> 'Identity':
    """The identity of a cascade.

    Args:
      config: The run's config.
      stages: The trained stages.
    """
    digest = hashlib.blake2b(digest_size=16)
    for stage in stages:
      arrays = (stage.networks, stage.clusters, stage.epsilon)
      for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        array = np.asarray(leaf)
        name = f'{stage.name} {path} {array.dtype} {array.shape}'
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    # What may change for a trained run, and errors with it.
    settings = {
      'flip_test': config.flip_test,
      'heatmap.decoder': config.heatmap.decoder,
      'routing.mode': config.routing.mode,
    }
    return cls(digest.hexdigest(), settings)


def _shares(
  own: dict[str, Table],
  pooled: Table,
  names: tuple[str, ...],
  scores: Float[np.ndarray, 'n N'],
) -> Float[np.ndarray, 'n N L']:
  """Looks up the (n, N, L) quantiles, in square roots of the box's area."""
  columns = [
    own.get(name, pooled).at(scores[:, slot]) for slot, name in enumerate(names)
  ]
  return np.stack(columns, axis=1)


def _errors(predictions: Predictions) -> Float[np.ndarray, 'n N']:
  """The (n, N) errors of the final stage, over the root of the box's area."""
  final = list(predictions.estimates)[-1]
  return normalised_error.normalised_errors(predictions, final, _NORM)


def _sides(boxes: Float[np.ndarray, 'n 4']) -> Float[np.ndarray, 'n 1']:
  """The (n, 1) square roots of the boxes' areas, in pixels."""
  return np.sqrt(corner_and_size(boxes)[1].prod(axis=-1))


def _final_scores(predictions: Predictions) -> Float[np.ndarray, 'n N']:
  return confidences(predictions, list(predictions.estimates)[-1])


def _share(
  errors: Float[np.ndarray, '*shape'],
  radius: Float[np.ndarray, '*shape'],
  mask: Bool[np.ndarray, '*shape'],
) -> float | None:
  """The share of errors within their radius; None if none counts."""
  mask = mask & np.isfinite(radius)
  return float((errors <= radius)[mask].mean()) if mask.any() else None


def _median(
  values: Float[np.ndarray, '*shape'], mask: Bool[np.ndarray, '*shape']
) -> float | None:
  """The median of the finite values; None if none counts."""
  mask = mask & np.isfinite(values)
  return float(np.median(values[mask])) if mask.any() else None


def describe(figures: dict[str, Any]) -> str:
  """Says in a sentence how good the distances are, for console and report.

  Args:
    figures: What `Calibration.figures` returned.
  """
  found = [figures[f'within_{level}']['overall'] for level in MAIN]
  if None in found:
    return (
      f'The {figures["num_images"]} held-out images ({figures["split"]}) are '
      'too few to tell how far estimates may be off.'
    )
  shares = ' and '.join(
    f'{percent(share, decimals=1)} % within error_{level}'
    for level, share in zip(MAIN, found, strict=True)
  )
  return (
    f'Of the visible landmarks {shares}, distances that were fitted on '
    f'{figures["num_images"]:,} held-out images ({figures["split"]}).'
  )


def _to_json(table: Table) -> dict[str, Any]:
  """The table as the file has it, `null` for infinite."""
  finite = lambda value: value if np.isfinite(value) else None
  return {
    'count': table.count,
    'edges': table.edges.tolist(),
    'quantiles': [[finite(v) for v in row] for row in table.quantiles.tolist()],
  }


def _file(workdir: pathlib.Path) -> pathlib.Path:
  return workdir / 'calibration.json'


def _refuse(path: pathlib.Path, place: str, value: Any, must: str) -> NoReturn:
  raise InputError(
    f'{path}, {place}: is {shortened(value)}, must be {must}: remove the file, '
    'and --mode=evaluate makes it again'
  )


def _is_number(value: Any) -> bool:
  is_real = isinstance(value, int | float) and not isinstance(value, bool)
  return is_real and bool(np.isfinite(value)) and value >= 0


def _is_count(value: Any) -> bool:
  return type(value) is int and 0 <= value < 2**63


def _read_all(path: pathlib.Path) -> list[Calibration]:
  """Reads and checks all tables of a file; none if there is no file."""
  if not path.exists():
    return []
  saved = json_files.read_json(path)
  if not isinstance(saved, dict):
    _refuse(path, 'content', saved, 'an object')
  if saved.get('version') != VERSION:
    _refuse(path, 'version', saved.get('version'), str(VERSION))
  entries = saved.get('calibrations')
  if not isinstance(entries, list):
    _refuse(path, 'calibrations', entries, 'a list')
  return [
    _parsed(path, f'calibrations[{i}]', entry)
    for i, entry in enumerate(entries)
  ]


def _parsed(path: pathlib.Path, place: str, entry: Any) -> Calibration:
  """Checks what `Calibration.to_json` made."""
  is_text = lambda value: isinstance(value, str)
  is_names = lambda value: (
    isinstance(value, list) and all(map(is_text, value)) and bool(value)
  )
  kinds = {
    'networks': (is_text, 'a text'),
    'settings': (lambda value: isinstance(value, dict), 'an object'),
    'landmarks': (is_names, 'a list of names'),
    'split': (is_text, 'a text'),
    'num_images': (_is_count, 'a whole number'),
    'own': (lambda value: isinstance(value, dict), 'an object'),
  }
  if not isinstance(entry, dict):
    _refuse(path, place, entry, 'an object')
  for field, (is_valid, must) in kinds.items():
    if not is_valid(entry.get(field)):
      _refuse(path, f'{place}.{field}', entry.get(field), must)
  strangers = sorted(set(entry['own']) - set(entry['landmarks']))
  if strangers:
    must = f'of {", ".join(entry["landmarks"])}'
    _refuse(path, f'{place}.own', strangers[0], must)
  return Calibration(
    networks=entry['networks'],
    settings=entry['settings'],
    names=tuple(entry['landmarks']),
    split=entry['split'],
    num_images=entry['num_images'],
    own={
      name: _parsed_table(path, f'{place}.own.{name}', table)
      for name, table in entry['own'].items()
    },
    pooled=_parsed_table(path, f'{place}.pooled', entry.get('pooled')),
    held_out=_parsed_held_out(path, f'{place}.held_out', entry),
  )


def _parsed_held_out(
  path: pathlib.Path, place: str, entry: dict[str, Any]
) -> HeldOut:
  """Checks what `HeldOut.to_json` made."""
  found = entry.get('held_out')
  if not isinstance(found, dict):
    _refuse(path, place, found, 'an object')
  return HeldOut.from_json(
    found,
    tuple(entry['landmarks']),
    entry['num_images'],
    lambda field, *why: _refuse(path, f'{place}.{field}', *why),
  )


def _parsed_table(path: pathlib.Path, place: str, table: Any) -> Table:
  """Checks what `_to_json` made."""
  if not isinstance(table, dict):
    _refuse(path, place, table, 'an object')
  count, edges, rows = (table.get(k) for k in ('count', 'edges', 'quantiles'))
  if not _is_count(count):
    _refuse(path, f'{place}.count', count, 'a whole number')
  is_list = isinstance(edges, list) and all(map(_is_number, edges))
  if not is_list or sorted(set(edges)) != edges:
    _refuse(path, f'{place}.edges', edges, 'a list of ascending confidences')
  if not isinstance(rows, list) or len(rows) != len(edges) + 1:
    _refuse(path, f'{place}.quantiles', rows, f'a list of {len(edges) + 1}')
  for i, row in enumerate(rows):
    is_row = isinstance(row, list) and len(row) == len(LEVELS)
    if not is_row or not all(v is None or _is_number(v) for v in row):
      must = f'{len(LEVELS)} numbers from 0 on, or null'
      _refuse(path, f'{place}.quantiles[{i}]', row, must)
  quantiles = [[np.inf if v is None else v for v in row] for row in rows]
  return Table(count, np.array(edges, np.float64), np.array(quantiles, float))


def check_figures(
  path: pathlib.Path, found: Any, names: tuple[str, ...]
) -> None:
  """Refuses figures of a file that are not what `Calibration.figures` returns.

  Args:
    path: The path of metrics.json.
    found: Its `calibration`.
    names: The names of the N landmarks.

  Raises:
    InputError: Naming the place.
  """
  is_share = lambda value: value is None or _is_number(value)

  def check(place: str, value: Any, is_valid: bool, must: str) -> None:
    if not is_valid:
      raise InputError(
        f'{path}, {place}: is {shortened(value)}, must be {must}: evaluate '
        'again.'
      )

  place = 'calibration'
  check(place, found, isinstance(found, dict), 'an object')
  get = found.get
  check(f'{place}.split', get('split'), isinstance(get('split'), str), 'a text')
  number = get('num_images')
  check(f'{place}.num_images', number, _is_count(number), 'a whole number')
  levels = [level / 100 for level in LEVELS]
  check(f'{place}.levels', get('levels'), get('levels') == levels, f'{levels}')
  shares = get('shares')
  is_list = isinstance(shares, list) and len(shares) == len(LEVELS)
  is_list = is_list and all(map(is_share, shares))
  check(f'{place}.shares', shares, is_list, f'{len(LEVELS)} numbers or null')
  for level in MAIN:
    for kind, more in (('within', ('annotated',)), ('typical', ())):
      field, inner = f'{place}.{kind}_{level}', get(f'{kind}_{level}')
      check(field, inner, isinstance(inner, dict), 'an object')
      for key in ('overall', *more):
        valid = key in inner and is_share(inner[key])
        check(f'{field}.{key}', inner.get(key), valid, 'a number or null')
      per = inner.get('per_landmark')
      valid = isinstance(per, dict) and set(per) == set(names)
      valid = valid and all(map(is_share, per.values()))
      must = 'a number or null for each landmark'
      check(f'{field}.per_landmark', per, valid, must)
