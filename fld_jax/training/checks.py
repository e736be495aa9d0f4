"""Checks of a config before a run, so that no run fails late or in silence."""

from ml_collections import ConfigDict

from fld_jax import config_rules, defaults
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.setup import Setup
from fld_jax.cascade.stage import ALL, EASY, HARD
from fld_jax.errors import InputError, printable
from fld_jax.ops.heatmaps import Codec
from fld_jax.pretrained import start
from fld_jax.training import objective, schedules


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
  size = setup.pipeline.size
  for index, stage in enumerate(config.stages):
    model = stage_lib.build_model(config.model, stage, index, landmarks)
    _check_halving(config, stage, size)
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
    if 'attributes' in shapes and not stage.weights.attributes:
      raise InputError(
        f'config.stages[{index}].weights.attributes is 0, and the network '
        f"'{config.model.name}' predicts attributes: it would do so without "
        'having learnt it. Set the weight above 0.'
      )
    if 'heatmaps' in shapes:
      _check_heatmaps(stage, setup.forward.codec, side=shapes['heatmaps'][1])
    starts = index and stage.init == 'previous'
    if starts and not hasattr(model, 'warm_start'):
      raise InputError(
        f"config.stages[{index}].init is 'previous', and the network "
        f"'{config.model.name}' cannot start from the stage before: set it "
        "to 'random'."
      )


def _check_halving(config: ConfigDict, stage: ConfigDict, size: int) -> None:
  """Refuses a VGG that would leave out the right and lower edge of its maps.

  A 2x2 pool of a map of odd side ignores its last row and column. Runs that
  were trained so can be evaluated.

  Args:
    config: The run's config.
    stage: One of its stages.
    size: The side of the crops, in pixels.
  """
  blocks = len(config.model.trunk.get('blocks', ()))
  side = stage.input_size or size
  if side % 2**blocks:
    raise InputError(
      f'The networks of {stage.name} see crops of {side} pixels '
      '(config.input.size, or input_size of the stage), which the trunk halves '
      f'{blocks} times: give a multiple of {2**blocks}, or fewer '
      'config.model.trunk.blocks.'
    )


# What SGD's rate can be if positions weigh 20 times (docs/methods.md A14).
ISSUE6_RATE = 1e-4


def doubts(config: ConfigDict, num_images: int) -> list[str]:
  """Sentences on what is allowed and will hardly end well.

  Args:
    config: The run's config.
    num_images: The number of training images.
  """
  lines = []
  trunk = config.model.trunk
  is_published = trunk.get('blocks') == defaults.VGG16
  is_published = is_published or trunk.get('width') == 64
  first = config.stages[0]
  if is_published and not config.pretrained and not first.checkpoint:
    plan = schedules.Plan.of(
      first, batch_size=config.batch_size, num_examples=num_images
    )
    epochs = plan.total * config.batch_size / num_images
    lines.append(
      f'{first.name} starts from random weights, with '
      f"'{config.model.backbone}' in its published size, and sees each of "
      f'{num_images:,} training images '
      f'{epochs:.1f} times. The papers start from weights for ImageNet: '
      "pretrained=FILE behind the config file's colon, or pretrained=imagenet "
      '(docs/training.md).'
    )
  for index, stage in enumerate(config.stages):
    rule = stage.optimizer
    if (
      stage.weight_schedule == 'author_issue6'
      and rule.name == 'sgd'
      and rule.learning_rate > ISSUE6_RATE
    ):
      lines.append(
        f"config.stages[{index}].weight_schedule is 'author_issue6', by which "
        'positions weigh 20 times, and '
        f'config.stages[{index}].optimizer.learning_rate is '
        f'{rule.learning_rate:g}: SGD can diverge. 5e-5 takes the steps that '
        '1e-3 takes with the other schedules.'
      )
  return lines


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
      model = stage_lib.build_model(config.model, stage, index, setup.landmarks)
      shapes = stage_lib.variable_shapes(model, setup.pipeline.size)
      for network in (EASY, HARD) if stage.branches else (ALL,):
        start.start_network(shapes, config, setup, index, network)


def _check_heatmaps(stage: ConfigDict, codec: Codec, side: int) -> None:
  """Refuses a soft-argmax that is drawn to the middle of the stage's maps."""
  weights = stage.weights
  soft = weights.position_constraint or weights.landmarks
  soft = soft or codec.decoder == 'soft_argmax'
  # Maps that are not trained towards targets may grow to any height.
  if (weights.heatmaps or weights.heatmap_entropy) and soft:
    codec.check_sharpness(side)
