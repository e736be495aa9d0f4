"""Truth and estimates that are kept, to calibrate what is made of landmarks."""

import dataclasses
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float

from fld_jax.metrics.predictions import Predictions, corner_and_size, counted

MAX_HELD_OUT = 1000  # images whose landmarks are kept
_DECIMALS = 5  # of the kept landmarks


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
  """Truth and estimates on images that no network was trained on.

  Lengths are in square roots of the box's area and positions from its centre; m
  images, N landmarks.

  Attributes:
    names: The names of the N landmarks.
    estimates: (m, N, 2) estimated x, y.
    truth: (m, N, 2) true x, y; 0 where not visible.
    visible: (m, N) bool, whether the landmark is visible.
    radius: (m, N) the estimates' error_50, infinite where it is not known.
  """

  names: tuple[str, ...]
  estimates: np.ndarray
  truth: np.ndarray
  visible: np.ndarray
  radius: np.ndarray

  @classmethod
  def of(
    cls, predictions: Predictions, radius: Float[np.ndarray, 'n N']
  ) -> 'HeldOut':
    """Takes MAX_HELD_OUT images, evenly over the split, or all there are.

    Args:
      predictions: The split's truth and estimates.
      radius: (n, N) error_50 of the estimates in square roots of the area.
    """
    count = len(predictions.ids)
    rows = np.unique(
      np.linspace(0, count - 1, min(count, MAX_HELD_OUT)).round().astype(int)
    )
    corner, size = corner_and_size(predictions.boxes)
    centre = (corner + size / 2)[rows]
    side = np.sqrt(size.prod(axis=-1, keepdims=True))[rows]
    visible = counted(predictions.visibility)[rows]
    final = list(predictions.estimates)[-1]
    relative = lambda x: ((x[rows] - centre) / side).round(_DECIMALS)
    truth = np.where(
      visible[..., None], relative(np.asarray(predictions.landmarks)), 0.0
    )
    return cls(
      predictions.landmark_set.names,
      relative(np.asarray(predictions.estimates[final], np.float64)),
      truth,
      visible,
      radius[rows].round(_DECIMALS),
    )

  def to_json(self) -> dict[str, Any]:
    """The landmarks as the file has them, flat lists."""
    radius = np.where(np.isfinite(self.radius), self.radius, -1.0)
    return {
      'estimates': self.estimates.ravel().tolist(),
      'truth': self.truth.ravel().tolist(),
      'visible': self.visible.astype(int).ravel().tolist(),
      'error_50': radius.ravel().tolist(),
    }

  @classmethod
  def from_json(
    cls,
    found: dict[str, Any],
    names: tuple[str, ...],
    num_images: int,
    refuse: Callable[[str, Any, str], NoReturn],
  ) -> 'HeldOut':
    """Checks and takes what `to_json` made.

    Args:
      found: The object of the file.
      names: The names of the N landmarks.
      num_images: The number of images of the split.
      refuse: A function that raises the error about a field; it takes the
        field's name, its value, and what it must be.
    """
    count = min(num_images, MAX_HELD_OUT)
    number = lambda v: isinstance(v, int | float) and not isinstance(v, bool)
    arrays = {}
    shapes = {'estimates': (2,), 'truth': (2,), 'visible': (), 'error_50': ()}
    for field, last in shapes.items():
      shape, values = (count, len(names), *last), found.get(field)
      size = int(np.prod(shape))
      is_list = isinstance(values, list) and len(values) == size
      if not is_list or not all(number(v) and np.isfinite(v) for v in values):
        refuse(field, values, f'a list of {size} numbers')
      arrays[field] = np.array(values, np.float64).reshape(shape)
    radius = arrays['error_50']
    return cls(
      names,
      arrays['estimates'],
      arrays['truth'],
      arrays['visible'] == 1,
      np.where(radius < 0, np.inf, radius),
    )
