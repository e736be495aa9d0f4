"""What a config resolves to: the objects that everything below is handed.

A config is read here and nowhere further down, so that no function takes a
whole config to ask it for one field.
"""

import dataclasses

from fld_jax.cascade.forward import Forward
from fld_jax.datasets.catalog import ClothesType, landmark_set, selected_type
from fld_jax.errors import InputError
from fld_jax.input_pipeline import Pipeline
from fld_jax.ops.heatmaps import Codec
from fld_jax.schema import LandmarkSet

ROUTING_MODES = ('route', 'average', 'two_branch')


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
  """The resolved config of a method, but for its networks.

  Attributes:
    landmarks: The N landmarks that the networks predict.
    selected: The one clothes type that records are selected by, None for all.
    pipeline: How records become batches of crops.
    forward: How networks turn crops into landmarks.
    routing: One of ROUTING_MODES, see `cascade.Cascade`.
  """

  landmarks: LandmarkSet
  selected: ClothesType | None
  pipeline: Pipeline
  forward: Forward
  routing: str


def resolve(config) -> Setup:
  """Resolves the config of a run.

  Args:
    config: The run's config, see `fld_jax.defaults`.

  Raises:
    InputError: For a data set, clothes type or routing mode that there is not.
  """
  if config.routing.mode not in ROUTING_MODES:
    raise InputError(
      f"config.routing.mode is '{config.routing.mode}', valid values are "
      f'{", ".join(ROUTING_MODES)}.'
    )
  landmarks = landmark_set(config.dataset)
  return Setup(
    landmarks=landmarks,
    selected=selected_type(config.dataset),
    pipeline=Pipeline.of(config, landmarks),
    forward=Forward(
      mean=tuple(config.input.mean),
      std=tuple(config.input.std),
      offset_scale=config.offset_scale,
      codec=Codec(**config.heatmap),
      flip=landmarks.flip if config.flip_test else None,
    ),
    routing=config.routing.mode,
  )
