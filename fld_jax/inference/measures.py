"""Lengths between landmarks, in pixels and centimetres, with intervals.

  DIR/measures.csv     a line an item: each length and the interval in which the
                       true one lies with a chance of 90 %
  DIR/size_chart.csv   a line for each category and length: how it is spread
                       over the items

A measure is `name=a:b`, the distance of two landmarks; `name=a:b:c` is the
length of the line through three; `a+b` is the point in the middle of two.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from jaxtyping import Float

from fld_jax import schema
from fld_jax.config import did_you_mean
from fld_jax.errors import InputError
from fld_jax.files import file_names
from fld_jax.inference.landmarks import Landmarks
from fld_jax.inference.scales import Scale
from fld_jax.metrics.held_out import HeldOut

LEVEL = 90  # per cent, of the intervals
MARKER = 'marker'  # of --scale, so that no measure may have this name
PERCENTILES = (5, 25, 50, 75, 95)
_SPREAD = ('count', 'mean', *(f'p{p}' for p in PERCENTILES))


@dataclasses.dataclass(frozen=True)
class Measure:
  """The length of a line through points; N landmarks, P points.

  Attributes:
    name: The name, of letters, digits, '_' and '-'.
    points: The names of the landmarks of each point, which is in their middle.
  """

  name: str
  points: tuple[tuple[str, ...], ...]

  @property
  def landmarks(self) -> tuple[str, ...]:
    """The names of the landmarks that it needs, each once."""
    return tuple(dict.fromkeys(name for point in self.points for name in point))

  def path(
    self, positions: Float[np.ndarray, '*n N 2'], names: Sequence[str]
  ) -> Float[np.ndarray, '*n P 2']:
    """The points of the line.

    Args:
      positions: (..., N, 2) x, y of the landmarks.
      names: The names of the N landmarks.
    """
    index = {name: i for i, name in enumerate(names)}
    points = [
      np.mean([positions[..., index[name], :] for name in point], axis=0)
      for point in self.points
    ]
    return np.stack(points, axis=-2)

  def length(
    self, positions: Float[np.ndarray, '*n N 2'], names: Sequence[str]
  ) -> Float[np.ndarray, '*n']:
    """The length of the line, in the unit of the positions; see `path`."""
    return length(self.path(positions, names))

  def spread(
    self, radius: Float[np.ndarray, '*n N'], names: Sequence[str]
  ) -> Float[np.ndarray, '*n']:
    """How far the length may be off, up to a factor.

    That of two landmarks whose errors are independent: the root of the sum of
    squares. What is wrong with that, the factor of `interval` makes good.

    Args:
      radius: (..., N) typical errors of the landmarks.
      names: The names of the N landmarks.
    """
    columns = [names.index(name) for name in self.landmarks]
    return np.sqrt(np.square(radius[..., columns]).sum(axis=-1))


def length(path: Float[np.ndarray, '*n P 2']) -> Float[np.ndarray, '*n']:
  """The (...) lengths of lines through P points."""
  steps = np.diff(path, axis=-2)
  return np.hypot(steps[..., 0], steps[..., 1]).sum(axis=-1)


def parse(texts: Sequence[str]) -> tuple[Measure, ...]:
  """Reads the measures of a command line.

  Args:
    texts: 'name=landmark:landmark' each; the module's docstring has all forms.

  Raises:
    InputError: A text has another form, or two have the same name.
  """
  found = []
  for text in texts:
    name, equals, line = (part.strip() for part in text.partition('='))
    points = tuple(
      tuple(landmark.strip() for landmark in point.split('+'))
      for point in line.split(':')
    )
    place = f"--measure is '{text}'"
    if not equals or len(points) < 2 or not all(map(all, points)):
      raise InputError(
        f'{place}, must be NAME=LANDMARK:LANDMARK, for example '
        'hem=hem_left:hem_right'
      )
    if not re.fullmatch(r'[A-Za-z0-9_-]+', name):
      raise InputError(
        f"{place}: the name is '{name}', must be of letters, digits, _ and -"
      )
    if name == MARKER:
      raise InputError(
        f"{place}: the name is '{name}', which --scale has for the marker card"
      )
    if any(len(set(point)) < len(point) for point in points) or any(
      a == b for a, b in zip(points, points[1:], strict=False)
    ):
      raise InputError(f'{place}: goes from a point to the same point')
    found.append(Measure(name, points))
  for name, count in Counter(each.name for each in found).items():
    if count > 1:
      raise InputError(f"--measure: '{name}' is there {count} times")
  return tuple(found)


def check_names(
  measures: Sequence[Measure], landmarks: schema.LandmarkSet
) -> None:
  """Refuses measures of landmarks that a run does not have.

  Args:
    measures: The measures.
    landmarks: The run's landmark set.

  Raises:
    InputError: With the names that there are.
  """
  for measure in measures:
    for name in measure.landmarks:
      if name not in landmarks.names:
        raise InputError(
          f"--measure, {measure.name}: '{name}' is no landmark of this run, "
          f'valid values are {", ".join(landmarks.names)}.'
          f'{did_you_mean(name, landmarks.names)}'
        )


def factors(measure: Measure, held_out: HeldOut) -> tuple[float, float]:
  """By how many spreads true lengths lie below and above measured ones.

  Split conformal prediction (Lei et al., 2018, section 5.2: residuals over
  their spread): of the n held-out items the residuals (true - measured) /
  spread are sorted; a new one lies from the floor((n + 1) 0.05)-th to the
  ceil((n + 1) 0.95)-th with a chance of at least 90 %.

  Args:
    measure: The measure.
    held_out: Images that no network was trained on.

  Returns:
    The two residuals; -inf and inf where there are too few items.
  """
  names = held_out.names
  columns = [names.index(name) for name in measure.landmarks]
  spread = measure.spread(held_out.radius, names)
  counts = held_out.visible[:, columns].all(axis=1) & np.isfinite(spread)
  true = measure.length(held_out.truth[counts], names)
  measured = measure.length(held_out.estimates[counts], names)
  residuals = np.sort((true - measured) / spread[counts])
  n, tail = len(residuals), (100 - LEVEL) // 2
  low = (n + 1) * tail // 100
  high = -(-(n + 1) * (100 - tail) // 100)
  if low < 1 or high > n:
    return -math.inf, math.inf
  return float(residuals[low - 1]), float(residuals[high - 1])


@dataclasses.dataclass(frozen=True)
class Length:
  """A measured length and the interval of the true one.

  Attributes:
    value: The length.
    low: The lower end of the interval, at least 0.
    high: The upper end; infinite, and `low` 0, if the interval is not known.
  """

  value: float
  low: float
  high: float

  def scaled(self, factor: float) -> 'Length':
    """The same in another unit."""
    return Length(*(factor * x for x in dataclasses.astuple(self)))


class Measures:
  """The measures of a prediction: lengths of items, and their files."""

  def __init__(
    self,
    measures: Sequence[Measure],
    scale: Scale | None,
    held_out: HeldOut | None,
  ):
    """Sets what is measured.

    Args:
      measures: The measures.
      scale: How centimetres are known; None if they are not.
      held_out: The images that intervals are known from; None if the run has
        no calibration.
    """
    self.measures, self.scale = measures, scale
    unknown = (-math.inf, math.inf)
    self._factors = {
      each.name: factors(each, held_out) if held_out else unknown
      for each in measures
    }
    self._lengths: dict[tuple[str, str, str], list[float]] = {}
    self.left_out: Counter = Counter()

  def header(self) -> list[str]:
    """The names of the columns of measures.csv."""
    cells = ['image', 'x1', 'y1', 'x2', 'y2', 'category', 'score']
    if self.scale:
      cells.append('cm_per_pixel')
    for measure in self.measures:
      for unit in self.units:
        cells += [
          f'{measure.name}_{unit}{end}' for end in ('', '_low', '_high')
        ]
    return cells

  @property
  def units(self) -> tuple[str, ...]:
    """The units of the columns: 'px', and with a scale 'cm'."""
    return ('px', 'cm') if self.scale else ('px',)

  def of(self, measure: Measure, found: Landmarks) -> Length | None:
    """Measures an item in pixels.

    Args:
      measure: The measure.
      found: The landmarks of the item.

    Returns:
      The length; None if its clothes type lacks one of the landmarks, or one is
      estimated to be outside of the image.
    """
    names = found.names
    columns = [names.index(name) for name in measure.landmarks]
    truncated = schema.VISIBILITY_NAMES[schema.TRUNCATED]
    if not found.present[columns].all() or (
      found.visibility
      and any(found.visibility[i] == truncated for i in columns)
    ):
      return None
    value = float(measure.length(found.positions, names))
    low, high = self._factors[measure.name]
    if found.error_50 is None or math.isinf(high):
      return Length(value, 0.0, math.inf)
    spread = float(measure.spread(found.error_50, names))
    if not math.isfinite(spread):
      return Length(value, 0.0, math.inf)
    return Length(value, max(0.0, value + spread * low), value + spread * high)

  def line(self, name: str, found: Landmarks) -> bytes:
    """The line of measures.csv of an item, which the size chart counts too.

    Args:
      name: The name of the image below the folder of photos.
      found: The landmarks of the item.
    """
    cells = [
      file_names.to_cell(file_names.encoded(name)),
      *map('{:.2f}'.format, found.box),
      file_names.to_cell(found.category),
      f'{found.score:.6g}',
    ]
    in_pixels = {each.name: self.of(each, found) for each in self.measures}
    ruler = None
    if self.scale:
      ruler = self.scale.ruler(name, in_pixels)
      per_pixel = ruler.at(found.positions) if ruler else None
      cells.append(f'{per_pixel:.6g}' if per_pixel else '')
      if not ruler:
        self.left_out[f'no scale ({self.scale.why_not})'] += 1
    for measure in self.measures:
      pixels = in_pixels[measure.name]
      if pixels is None:
        self.left_out[f'{measure.name}: a landmark is not there'] += 1
        cells += [''] * (3 * len(self.units))
        continue
      lengths = [pixels]
      if ruler:
        path = ruler.to_cm(measure.path(found.positions, found.names))
        factor = float(length(path)) / pixels.value if pixels.value else 0.0
        lengths.append(pixels.scaled(factor))
      for unit, each in zip(self.units, lengths, strict=False):
        key = (found.category, measure.name, unit)
        self._lengths.setdefault(key, []).append(each.value)
        known = math.isfinite(each.high)
        ends = [f'{each.low:.2f}', f'{each.high:.2f}'] if known else ['', '']
        cells += [f'{each.value:.2f}', *ends]
      cells += [''] * (3 * (len(self.units) - len(lengths)))
    return file_names.csv_line(cells)

  def write_chart(self, file: BinaryIO) -> None:
    """Writes size_chart.csv.

    Args:
      file: The open file.
    """
    header = ('category', 'measure', 'unit', *_SPREAD)
    file.write(file_names.csv_line(header))
    for (category, name, unit), values in sorted(self._lengths.items()):
      spread = [np.mean(values), *np.percentile(values, PERCENTILES)]
      cells = [file_names.to_cell(category), name, unit, str(len(values))]
      cells += map('{:.2f}'.format, spread)
      file.write(file_names.csv_line(cells))

  def notes(self) -> list[str]:
    """Sentences about what could not be measured, and how often."""
    notes = [
      f'Not measured, {reason}: {count} items'
      for reason, count in sorted(self.left_out.items())
    ]
    unknown = [
      name for name, (_, high) in self._factors.items() if math.isinf(high)
    ]
    if unknown:
      notes.append(
        f'The interval of {", ".join(unknown)} is not known: the run has too '
        'few held-out images on which all of its landmarks are visible, or has '
        'not been evaluated with these settings'
      )
    return notes
