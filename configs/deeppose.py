"""DeepPose (Toshev and Szegedy, 2014), as the DFA paper holds it against DFA.

  python -m fld_jax.main --workdir=W \
    --config=configs/deeppose.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

Stage 1 regresses the landmarks from the whole crop. Stages 2 and 3 have one
network a landmark, which sees 120 of 224 pixels of the crop around the estimate
of the stage before, in the resolution of the crop's full size: 17 networks for
8 landmarks (docs/methods.md 2.1).

Arguments after the colon:
  dataset  a name of docs/datasets.md; without it synthetic, rendered garments
           that need no files. A wrong name is answered with the valid ones.
  size     full: the paper's networks, for a GPU or TPU
           small: for 2 CPU cores
           tiny: a trial, some minutes on 2 CPU cores
  stages   3; fewer cut the cascade short
  backbone  vgg16, the paper's; resnet18, resnet34, resnet50, resnet101 or
           resnet152; efficientnet_lite0, efficientnet_lite1 or
           efficientnet_lite2
  pretrained  imagenet: weights of a package for the backbone, whose published
           width it then has; for size=full a file of torchvision's weights, of
           a VGG-16 plain or with batch normalisation; or the folder of a run of
           the same size, of which is taken what fits
"""

from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.config import parse_arg
from fld_jax.datasets.catalog import DATASETS

PATCH = 120 / 224  # side of the patches, in sides of the crop


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of a cascade.

  Args:
    arg: The arguments after the file's colon, 'key=value,key=value'; None for
      the defaults.

  Returns:
    The locked config.

  Raises:
    InputError: If an argument is not valid.
  """
  arg = parse_arg(
    arg,
    dataset=tuple(DATASETS),
    size=('full', 'small', 'tiny'),
    stages=3,
    backbone='vgg16',
    pretrained='',
  )
  config = defaults.base(arg['dataset'])
  config.input.std = (58.4, 57.1, 57.4)
  config.model = ConfigDict()
  config.model.name = 'deeppose'
  defaults.set_backbone(config, arg['backbone'])
  config.model.pool, config.model.patch = 0, 0
  config.model.hidden = 4096
  config.model.dropout = 0.5
  config.model.dtype = 'float32'
  config.stages = tuple(_stage(f'stage{i}') for i in (1, 2, 3))
  {'full': _full, 'small': _small, 'tiny': _tiny}[arg['size']](config)
  if arg['pretrained'] == 'imagenet' and arg['size'] != 'full':
    _from_imagenet(config)
  # What the networks see is cut from crops of twice their side.
  for each in config.stages:
    each.input_size = config.input.size
  config.input.size *= 2
  config.model.patch = round(PATCH * config.input.size)
  # So that offsets are in sides of the patch.
  config.offset_scale = config.input.size / config.model.patch
  first, *later = config.stages
  for each in later:
    each.estimate_from = 'errors'
    if arg['size'] != 'full' or not arg['pretrained']:
      each.init = 'previous'
    # Beside a loss in squares of these offsets.
    each.weights.visibility *= config.offset_scale**2
  config.stages = config.stages[: arg['stages']]
  defaults.start_pretrained(config, arg['pretrained'])
  config.lock()
  return config


def _stage(name: str) -> ConfigDict:
  """Makes the config of one stage, which has no pseudo-labels."""
  config = defaults.stage(name)
  config.pseudo_label.num_clusters = 0
  config.weights.pseudo_label = 0.0
  return config


def _full(config: ConfigDict) -> None:
  """Sets the paper's networks, with batch normalisation for random weights."""
  config.model.dtype = 'bfloat16'
  for each in config.stages:
    each.optimizer.clip_norm = 100.0  # against jumps in the first steps


def _small(config: ConfigDict) -> None:
  """Sets narrow trunks on 64 pixels, as configs/dfa.py does."""
  config.batch_size = 50
  config.input.size, config.model.pool = 64, 2
  config.input.crop = 'bbox_wh'
  config.input.margin = 0.15
  config.input.num_threads = 2
  config.augment.scale = 0.05
  config.augment.shift = 0.01
  config.augment.rotation = 10.0
  config.augment.colour = 0.3
  config.augment.surroundings = True
  defaults.set_backbone(
    config,
    config.model.backbone,
    blocks=((1, 16), (1, 32), (2, 64), (2, 128), (2, 256)),
    width=24,
  )
  config.model.hidden = 512
  config.model.dropout = 0.0
  for each, epochs in zip(config.stages, (24.0, 6.0, 4.0), strict=True):
    each.train_steps = each.eval_steps = 0
    each.train_epochs, each.eval_epochs = epochs, 2.0
    each.min_steps = 600 if each.name == 'stage1' else 300
    each.weights.visibility = 0.03
    each.visibility_floor = 0.1
    defaults.set_adamw(each.optimizer)
    each.optimizer.learning_rate = 2e-3 if each.name == 'stage1' else 1e-3


def _from_imagenet(config: ConfigDict) -> None:
  """Sets the published trunk, whose first blocks cost most and stay."""
  defaults.set_backbone(config, config.model.backbone)
  is_vgg = config.model.backbone == 'vgg16'
  config.model.trunk.frozen = 2 if is_vgg else 3
  for each, epochs in zip(config.stages, (8.0, 3.0, 2.0), strict=True):
    each.train_epochs, each.eval_epochs = epochs, 1.0
    each.optimizer.learning_rate = 1e-3
    each.optimizer.trunk_rate = 0.1 if is_vgg else 0.3


def _tiny(config: ConfigDict) -> None:
  """Sets the small cascade, narrower and trained for fewer epochs."""
  _small(config)
  defaults.set_backbone(
    config,
    config.model.backbone,
    blocks=((1, 16), (1, 32), (1, 64), (1, 128)),
    width=16,
  )
  if config.model.backbone == 'vgg16':
    config.input.size, config.model.pool = 48, 3
  config.model.hidden = 256
  for each, epochs in zip(config.stages, (12.0, 3.0, 2.0), strict=True):
    each.train_epochs, each.eval_epochs = epochs, 1.0
    each.min_steps = 360 if each.name == 'stage1' else 120
