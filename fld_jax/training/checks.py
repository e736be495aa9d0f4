"""What is refused before anything runs."""

import pathlib

from fld_jax.cascade import stage as stage_lib
from fld_jax.datasets.catalog import landmark_set
from fld_jax.defaults import IMAGENET_MEAN, IMAGENET_STD
from fld_jax.errors import InputError
from fld_jax.ops import heatmaps
from fld_jax.pretrained import torchvision
from fld_jax.training import objective


def check_config(config) -> None:
  """Refuses what would only fail later, or quietly do something else.

  Args:
    config: the run's config.

  Raises:
    InputError: naming the field, its value and the valid ones.
  """

  def check(field: str, value, valid) -> None:
    if value not in valid:
      raise InputError(
        f'config.{field} is {value!r}, valid values are '
        f'{", ".join(map(repr, valid))}.'
      )

  options = config.position_constraint
  check('position_constraint.space', options.space, objective.PC_SPACES)
  landmarks = landmark_set(config.dataset)
  check(
    'position_constraint.partition', options.partition, landmarks.partitions
  )
  check('position_constraint.mask', options.mask, objective.PC_MASKS)
  check('on_nan', config.on_nan, ('stop', 'skip'))
  check('heatmap.decoder', config.heatmap.decoder, heatmaps.DECODERS)
  if options.k < 1:
    raise InputError(
      f'config.position_constraint.k is {options.k}, it must be at least 1.'
    )
  if config.heatmap.sigma <= 0:
    raise InputError(
      f'config.heatmap.sigma is {config.heatmap.sigma}, it must be above 0.'
    )
  if config.pretrained:
    check('input.mean', tuple(config.input.mean), [IMAGENET_MEAN])
    check('input.std', tuple(config.input.std), [IMAGENET_STD])
  for index, stage in enumerate(config.stages):
    model = stage_lib.build_model(config, stage, index)
    shapes = stage_lib.output_shapes(model, config)
    objective.check_outputs(shapes, stage, config)
    if 'heatmaps' in shapes:
      _check_heatmaps(config, stage, side=shapes['heatmaps'][1])
    check(f'stages[{index}].landmark_loss', stage.landmark_loss, ('l1', 'l2'))
    check(f'stages[{index}].init', stage.init, ('random', 'previous'))
    if stage.branches and index < len(config.stages) - 1:
      raise InputError(
        f'config.stages[{index}].branches is True, and only the last of '
        f'{len(config.stages)} stages can have branches.'
      )
    if index and stage.init == 'previous':
      if not hasattr(model, 'warm_start'):
        raise InputError(
          f"config.stages[{index}].init is 'previous', and the network "
          f"'{config.model.name}' cannot start from the stage before: set it "
          "to 'random'."
        )
      model.check_warm_start(index)


def check_pretrained(config) -> None:
  """Refuses a file `config.pretrained` that some network cannot start from.

  Args:
    config: the run's config.

  Raises:
    InputError: see `pretrained.start_trunk`.
  """
  path = pathlib.Path(config.pretrained).expanduser()
  for index, stage in enumerate(config.stages):
    starts_here = not stage.checkpoint and (not index or stage.init == 'random')
    if config.pretrained and starts_here:
      model = stage_lib.build_model(config, stage, index)
      shapes = stage_lib.variable_shapes(model, config)
      torchvision.start_trunk(path, shapes, config.model.name)


def _check_heatmaps(config, stage, side: int) -> None:
  """Refuses a soft-argmax that could not see the maps it is taken of."""
  weights = stage.weights
  soft = weights.position_constraint or weights.landmarks
  soft = soft or config.heatmap.decoder == 'soft_argmax'
  # Maps that are not trained towards targets have no set height.
  if weights.heatmaps and soft:
    heatmaps.check_sharpness(config.heatmap, side)
