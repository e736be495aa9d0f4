"""The objects that a config resolves to, which other modules are handed.

Most of a config is read here alone, so that no function takes a whole config to
read one field.
"""

import dataclasses
import functools

from ml_collections import ConfigDict

from fld_jax import config_rules
from fld_jax.cascade.forward import Forward
from fld_jax.datasets.catalog import (
  ClothesType,
  landmark_set,
  selected_type,
  whole_set,
)
from fld_jax.input_pipeline import Pipeline
from fld_jax.landmark_sets import Tree, tree_of
from fld_jax.ops.heatmaps import Codec
from fld_jax.schema import LandmarkSet


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
  """The resolved config of a method, but for its networks.

  Attributes:
    landmarks: The N landmarks that the networks predict.
    whole: The landmarks of all clothes types, which the run's manifest holds.
    selected: The one clothes type that records are selected by, None for all.
    pipeline: The settings by which records become batches of crops.
    forward: The settings by which networks turn crops into landmarks.
    routing: The use of the last stage's branches, see `cascade.Cascade`.
  """

  landmarks: LandmarkSet
  whole: LandmarkSet
  selected: ClothesType | None
  pipeline: Pipeline
  forward: Forward
  routing: str

  @functools.cached_property
  def tree(self) -> Tree:
    """The tree of the landmarks, for networks that stand on one."""
    return tree_of(self.landmarks)


def resolve(config: ConfigDict, known: LandmarkSet | None = None) -> Setup:
  """Resolves the config of a run.

  Args:
    config: The run's config, with the fields of `fld_jax.defaults`.
    known: The landmarks of all clothes types, as the run's manifest holds them;
      then no file of the data set is read. None takes those of the data set.

  Returns:
    The objects.

  Raises:
    InputError: If a field has a value that it cannot have, or the data set or
      clothes type is unknown.
  """
  config_rules.check(config)
  whole = whole_set(config.dataset, known)
  landmarks = landmark_set(config.dataset, whole)
  return Setup(
    landmarks=landmarks,
    whole=whole,
    selected=selected_type(config.dataset, whole),
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
