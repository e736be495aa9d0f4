"""Checks of a config before a run, so that no run fails late or in silence."""

from ml_collections import ConfigDict

from fld_jax import config_rules
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.setup import Setup
from fld_jax.cascade.stage import ALL, EASY, HARD
from fld_jax.errors import InputError, printable
from fld_jax.ops.heatmaps import Codec
from fld_jax.pretrained import start
from fld_jax.training import objective


def check_config(config: ConfigDict, setup: Setup) -> None:
  """Refuses what would only fail later, or quietly do something else.

  Args:
    config: The run's config.
    setup: The objects that the config resolves to.

  Raises:
    InputError: If a field has no valid value. The message names the field, its
      value and the valid ones.
  """
  landmarks = setup.landmarks
  config_rules.Place().check(
    'position_constraint.partition',
    config.position_constraint.partition,
    config_rules.OneOf(tuple(landmarks.partitions)),
  )
  if (
    config.augment.flip
    and landmarks.swaps is None
    and landmarks.num_landmarks > 1
    and not len(landmarks.pairs)
  ):
    names = printable(', '.join(landmarks.names))
    raise InputError(
      'config.augment.flip mirrors every second image, and no two of the '
      f'landmarks ({names}) are called left and right: name those that change '
      'places, '
      f'--config.dataset.swaps={landmarks.names[0]}:{landmarks.names[-1]},... '
      '(--mode=doctor proposes pairs), or --config.dataset.swaps=none if none '
      'do, or --config.augment.flip=False.'
    )
  n, size = landmarks.num_landmarks, setup.pipeline.size
  for index, stage in enumerate(config.stages):
    model = stage_lib.build_model(config.model, stage, index, n)
    shapes = stage_lib.output_shapes(model, size)
    towards = objective.Objective.of(config, setup, index)
    objective.check_outputs(shapes, towards)
    if config.model.get('visibility', False) and not stage.weights.visibility:
      raise InputError(
        f'config.stages[{index}].weights.visibility is 0, and '
        'config.model.visibility is True: the network would predict visibility '
        'without having learnt it. Set config.model.visibility=False, or the '
        'weight above 0.'
      )
    if 'heatmaps' in shapes:
      _check_heatmaps(stage, setup.forward.codec, side=shapes['heatmaps'][1])
    if index and stage.init == 'previous':
      if not hasattr(model, 'warm_start'):
        raise InputError(
          f"config.stages[{index}].init is 'previous', and the network "
          f"'{config.model.name}' cannot start from the stage before: set it "
          "to 'random'."
        )
      model.check_warm_start(index)


def check_pretrained(config: ConfigDict, setup: Setup) -> None:
  """Refuses a `config.pretrained` that some network cannot start from.

  Args:
    config: The run's config.
    setup: The objects that the config resolves to.

  Raises:
    InputError: If there are no such weights, they do not fit (see
      `start.start_network`), or they are of images in another normalisation.
  """
  if not config.pretrained:
    return
  start.check_normalisation(config)
  for index, stage in enumerate(config.stages):
    if not stage.checkpoint and (not index or stage.init == 'random'):
      model = stage_lib.build_model(
        config.model, stage, index, setup.landmarks.num_landmarks
      )
      shapes = stage_lib.variable_shapes(model, setup.pipeline.size)
      for network in (EASY, HARD) if stage.branches else (ALL,):
        start.start_network(shapes, config, setup, index, network)


def _check_heatmaps(stage: ConfigDict, codec: Codec, side: int) -> None:
  """Refuses a soft-argmax that is drawn to the middle of the stage's maps."""
  weights = stage.weights
  soft = weights.position_constraint or weights.landmarks
  soft = soft or codec.decoder == 'soft_argmax'
  # Maps that are not trained towards targets may grow to any height.
  if weights.heatmaps and soft:
    codec.check_sharpness(side)
