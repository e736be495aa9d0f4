"""The DFA cascade (Liu et al., Fashion Landmark Detection in the Wild, 2016).

  python -m fld_jax.main --workdir=W \
    --config=configs/dfa.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

Arguments after the colon:
  dataset  a name of docs/datasets.md; without it synthetic, rendered garments
           that need no files. A wrong name is answered with the valid ones.
  size     full: the paper's networks, for a GPU or TPU
           small: 5,000 images, about an hour on 2 CPU cores
           tiny: the quickstart, some minutes on 2 CPU cores
  cascade  auto: paper for size=full, else local
           local: stages after the first see the image where the estimate is, of
           small networks in more detail; branches start from a common stage 3
           paper: all stages see the same crop and start alike; the branches are
           the third stage
  stages   4, or 3 of cascade=paper: stage 1, 2, 3 and the branches of the
           third; fewer cut the cascade short
  backbone  vgg16, the paper's; resnet18, resnet34, resnet50, resnet101 or
           resnet152; efficientnet_lite0, efficientnet_lite1 or
           efficientnet_lite2
  pretrained  imagenet: weights of a package for the backbone, whose published
           width it then has; for size=full a file of torchvision's weights, of
           a VGG-16 plain or with batch normalisation; or the folder of a run of
           the same size, of which is taken what fits

Expected NE after each stage, in per cent (docs/results/dfa.md), of version
0.1.0, whose stages all saw crops of 48 pixels and whose stage 3 was two
branches of stage 2; the present recipes are not measured yet:
  dataset=deepfashion,size=small  44 minutes on 1 CPU core; on val 10.14, 9.70
           and 9.68, mean of seeds 0 and 1; with --config.flip_test 9.87, 9.41
           and 9.33
  dataset=deepfashion,size=tiny  of the present recipe, on val 10.87, 9.79, 9.52
           and 9.49 after the branches, seed 0; time not measured
  dataset=synthetic,size=tiny  of the present recipe, on test 11.18, 9.37, 8.45
           and 8.43, 10 minutes on 2 CPU cores beside a running test suite
  size=full  not measured
"""

from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.config import parse_arg
from fld_jax.datasets.catalog import DATASETS

# Noise on the estimate that later stages are trained with, in crop sides.
# What is to be learnt is a correction of the size of the stage before's error.
# With noise that is much larger than that (0.2) a network learns that the
# estimate tells it nothing, and finds the landmarks anew.
ESTIMATE_NOISE = 0.03


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
    cascade=('auto', 'local', 'paper'),
    stages=4,
    backbone='vgg16',
    pretrained='',
  )
  config = defaults.base(arg['dataset'])
  config.model = ConfigDict()
  config.model.name = 'dfa'
  defaults.set_backbone(config, arg['backbone'])
  config.model.pool = 0
  config.model.local_maps, config.model.patch = (), 7
  config.model.hidden = 4096
  config.model.dropout = 0.5
  config.model.dtype = 'float32'
  config.stages = (
    _stage('stage1', space='absolute'),
    _stage('stage2', space='offset'),
    _stage('stage3', space='context_offset'),
    _stage('branches', space='context_offset', branches=True),
  )
  {'full': _full, 'small': _small, 'tiny': _tiny}[arg['size']](config)
  if arg['pretrained'] == 'imagenet' and arg['size'] != 'full':
    _from_imagenet(config)
  _scale_auxiliary(config)
  _branches(config.stages[-1])
  config.stages[1].pseudo_label.refit = 0.01  # they route to the branches
  if arg['cascade'] == 'auto':
    arg['cascade'] = 'paper' if arg['size'] == 'full' else 'local'
  if arg['cascade'] == 'paper':
    _as_in_the_paper(config)
  config.stages = config.stages[: arg['stages']]
  defaults.start_pretrained(config, arg['pretrained'])
  config.lock()
  return config


def _stage(name: str, *, space: str, branches: bool = False) -> ConfigDict:
  """Makes the config of one stage, with its space and branches."""
  config = defaults.stage(name)
  config.pseudo_label.space, config.branches = space, branches
  return config


def _scale_auxiliary(config: ConfigDict) -> None:
  """Lets auxiliary losses of all stages weigh the same beside the landmarks'.

  From the second stage on the loss of landmarks is in squares of scaled offsets
  (docs/methods.md A3).
  """
  for each in config.stages[1:]:
    each.weights.visibility *= config.offset_scale**2
    each.weights.pseudo_label *= config.offset_scale**2


def _branches(stage: ConfigDict) -> None:
  """Lets the branches start from stage 3, and learn from all images.

  They are trained for a short time, at a tenth of stage 3's rate, and with the
  weights of the losses that stage 3 had at its end.
  """
  stage.init = 'continue'
  stage.branch_temperature = 0.02
  stage.weight_t1 = stage.weight_t2 = 0.0
  stage.optimizer.learning_rate /= 10


def _full(config: ConfigDict) -> None:
  """Sets the paper's networks, with batch normalisation for random weights."""
  config.model.dtype = 'bfloat16'
  config.input.std = (58.4, 57.1, 57.4)
  config.model.local_maps = ('c2', 'c3')
  for index, each in enumerate(config.stages):
    # Against jumps in the first steps; the norms of gradients are not measured.
    each.optimizer.clip_norm = 100.0
    if not index:
      continue
    each.init, each.estimate_noise = 'previous', ESTIMATE_NOISE
    # The head is trained towards 5 times the error, so what the trunk gets is
    # up to 25 times stage 1's: at stage 1's rate of 1e-3 a network of this size
    # can diverge. At a tenth of it the Euclidean loss of pseudo-labels is too
    # slow (docs/methods.md A6).
    each.optimizer.learning_rate = 1e-4
    each.pseudo_label.loss = 'xent_soft'
  config.stages[-1].train_steps = 2000


def _small(config: ConfigDict) -> None:
  """Sets a narrow trunk, on crops of 64 pixels and then of 128.

  The VGG has a quarter of the paper's channels, and half in its last block.
  """
  config.batch_size = 50
  config.input.crop = 'bbox_wh'
  config.input.margin = 0.15
  config.input.std = (60.0, 60.0, 60.0)
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
  _coarse_to_fine(config, 64, 2)
  config.model.hidden = 512
  config.model.dropout = 0.0
  config.routing.quantile = 0.5
  for index, each in enumerate(config.stages):
    each.train_steps = each.eval_steps = 0
    each.train_epochs = (24.0, 8.0, 8.0, 2.0)[index]
    each.eval_epochs = (2.0, 1.0, 1.0, 1.0)[index]
    # Fewer than any stage has of 5,000 images.
    each.min_steps = (600, 400, 400, 150)[index]
    each.weights.visibility = 0.03
    each.weights.pseudo_label = 0.1
    each.visibility_floor = 0.1
    each.optimizer.name = 'adamw'
    each.optimizer.learning_rate = 1e-3 if index else 2e-3
    each.optimizer.schedule = 'cosine'
    each.optimizer.warmup = 0.1
    each.optimizer.weight_decay = 0.01
    each.optimizer.clip_norm = 5.0


def _coarse_to_fine(config: ConfigDict, side: int, pool: int) -> None:
  """Lets stages after the first see twice the resolution, and the estimate.

  They start from the stage before, whose trunk they change at a tenth of the
  rate.

  Args:
    config: The config to change.
    side: The side of the first stage's crops, in pixels.
    pool: Side of the grid that fc6 sees, in cells: the first stage's last map.
  """
  config.input.size = 2 * side
  config.model.pool = pool
  config.model.local_maps = ('c2', 'c3')
  first, *later = config.stages
  first.input_size = side
  for each in later:
    each.init, each.estimate_noise = 'previous', ESTIMATE_NOISE
    each.optimizer.trunk_rate = 0.1


def _from_imagenet(config: ConfigDict) -> None:
  """Sets the published trunk, whose first blocks cost most and stay."""
  defaults.set_backbone(config, config.model.backbone)
  if config.model.backbone == 'vgg16':
    config.model.trunk.frozen = 2
  for index, each in enumerate(config.stages):
    each.train_epochs = (8.0, 4.0, 4.0, 1.0)[index]
    each.eval_epochs = 1.0
    each.optimizer.learning_rate = 1e-3
    if not index:
      each.optimizer.trunk_rate = (
        0.3 if 'lite' in config.model.backbone else 0.1
      )


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
    _coarse_to_fine(config, 48, 3)
  config.model.hidden = 256
  for index, each in enumerate(config.stages):
    each.train_epochs = (12.0, 6.0, 6.0, 2.0)[index]
    each.eval_epochs = 1.0 if each.branches else 3.0
    # What each has of the quickstart's 1,500 images.
    each.min_steps = (360, 180, 180, 60)[index]


def _as_in_the_paper(config: ConfigDict) -> None:
  """Takes back what the paper does not have.

  Each stage starts by itself, from ImageNet or random weights, on the same
  crops; the branches are the third stage, each on its own images.
  """
  first, second, third, _ = config.stages
  size = first.input_size or config.input.size
  config.input.size, config.model.local_maps = size, ()
  third.branches = True
  for each in (first, second, third):
    each.input_size, each.init, each.estimate_noise = 0, 'random', 0.0
    each.pseudo_label.refit = each.visibility_floor = 0.0
    each.train_epochs = first.train_epochs
    each.eval_epochs, each.min_steps = first.eval_epochs, first.min_steps
    each.optimizer.trunk_rate = first.optimizer.trunk_rate
    if each.optimizer.name != 'sgd':
      each.optimizer.learning_rate = first.optimizer.learning_rate
  config.stages = (first, second, third)
