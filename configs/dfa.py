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
branches of stage 2; what is said to be of the present recipe is that:
  dataset=deepfashion,size=small  44 minutes on 1 CPU core; on val 10.14, 9.70
           and 9.68, mean of seeds 0 and 1; with --config.flip_test 9.87, 9.41
           and 9.33
  dataset=deepfashion,size=tiny  of the present recipe, on val 10.87, 9.79, 9.52
           and 9.49 after the branches, seed 0; time not measured
  dataset=synthetic,size=tiny  of the present recipe, on test 11.18, 9.37, 8.45
           and 8.43, 10 minutes on 2 CPU cores beside a running test suite
  dataset=deepfashion,size=small,backbone=efficientnet_lite0,pretrained=imagenet
           of the present recipe, on val 13.67, 10.66, 9.64 and 9.58 after the
           branches, seed 0; time not measured
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
# Of the stages after the first: epochs, epochs between two evaluations, and
# least number of steps, which is no more than what they have of 5,000 images
# (tiny: of 1,500).
LATER = {
  'small': ((8.0, 1.0, 400), (8.0, 1.0, 400), (2.0, 1.0, 150)),
  'tiny': ((6.0, 3.0, 180), (6.0, 3.0, 180), (2.0, 1.0, 60)),
}


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
  size, imagenet = arg['size'], arg['pretrained'] == 'imagenet'
  cascade = arg['cascade']
  if cascade == 'auto':
    cascade = 'paper' if size == 'full' else 'local'
  config.stages = (
    _stage('stage1', space='absolute'),
    _stage('stage2', space='offset'),
    _stage('stage3', space='context_offset', branches=cascade == 'paper'),
  )
  if cascade == 'local':
    branches = _stage('branches', space='context_offset', branches=True)
    config.stages = (*config.stages, branches)
  {'full': _full, 'small': _small, 'tiny': _tiny}[size](config)
  if imagenet and size != 'full':
    _from_imagenet(config)
  _scale_auxiliary(config)
  if cascade == 'local':
    _local(config)
    if size != 'full':
      _coarse_to_fine(config, LATER[size])
      if imagenet:
        for each, epochs in zip(
          config.stages[1:], (4.0, 4.0, 1.0), strict=True
        ):
          each.train_epochs, each.eval_epochs = epochs, 1.0
    config.stages[-1].optimizer.learning_rate /= 10
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


def _local(config: ConfigDict) -> None:
  """Lets later stages correct the one before, where its estimate is.

  The branches start from stage 3 and learn from all images, for a short time,
  and with the weights of the losses that stage 3 had at its end.
  """
  config.model.local_maps = ('c2', 'c3')
  for each in config.stages[1:]:
    each.init, each.estimate_noise = 'previous', ESTIMATE_NOISE
  config.stages[1].pseudo_label.refit = 0.01  # they route to the branches
  branches = config.stages[-1]
  branches.init = 'continue'
  branches.branch_temperature = 0.02
  branches.weight_t1 = branches.weight_t2 = 0.0
  branches.train_steps = 2000


def _coarse_to_fine(
  config: ConfigDict, lengths: tuple[tuple[float, float, int], ...]
) -> None:
  """Lets stages after the first see twice the resolution.

  They change the trunk of the stage before at a tenth of the rate.

  Args:
    config: The config to change, whose crops become those of later stages.
    lengths: Epochs, epochs between two evaluations and least number of steps of
      each later stage.
  """
  first, *later = config.stages
  first.input_size = config.input.size
  config.input.size *= 2
  for each in config.stages:
    each.visibility_floor = 0.1
  for each, length in zip(later, lengths, strict=True):
    each.train_steps = 0
    each.train_epochs, each.eval_epochs, each.min_steps = length
    each.optimizer.learning_rate, each.optimizer.trunk_rate = 1e-3, 0.1


def _full(config: ConfigDict) -> None:
  """Sets the paper's networks, with batch normalisation for random weights."""
  config.model.dtype = 'bfloat16'
  config.input.std = (58.4, 57.1, 57.4)
  for index, each in enumerate(config.stages):
    # Against jumps in the first steps; the norms of gradients are not measured.
    each.optimizer.clip_norm = 100.0
    if not index:
      continue
    # The head is trained towards 5 times the error, so what the trunk gets is
    # up to 25 times stage 1's: at stage 1's rate of 1e-3 a network of this size
    # can diverge. At a tenth of it the Euclidean loss of pseudo-labels is too
    # slow (docs/methods.md A6).
    each.optimizer.learning_rate = 1e-4
    each.pseudo_label.loss = 'xent_soft'


def _small(config: ConfigDict) -> None:
  """Sets a narrow trunk, on crops of 64 pixels.

  The VGG has a quarter of the paper's channels, and half in its last block.
  """
  config.batch_size = 50
  config.input.size, config.model.pool = 64, 2
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
  config.model.hidden = 512
  config.model.dropout = 0.0
  config.routing.quantile = 0.5
  for each in config.stages:
    each.train_steps = each.eval_steps = 0
    each.train_epochs, each.eval_epochs = 24.0, 2.0
    each.min_steps = 600  # fewer than any stage has of 5,000 images
    each.weights.visibility = 0.03
    each.weights.pseudo_label = 0.1
    defaults.set_adamw(each.optimizer)
    each.optimizer.learning_rate = 2e-3


def _from_imagenet(config: ConfigDict) -> None:
  """Sets the published trunk, whose first blocks cost most and stay."""
  defaults.set_backbone(config, config.model.backbone)
  if config.model.backbone == 'vgg16':
    config.model.trunk.frozen = 2
  for each in config.stages:
    each.train_epochs, each.eval_epochs = 8.0, 1.0
    each.optimizer.learning_rate = 1e-3
    each.optimizer.trunk_rate = 0.3 if 'lite' in config.model.backbone else 0.1


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
  for each in config.stages:
    each.train_epochs, each.eval_epochs = 12.0, 3.0
    each.min_steps = 360  # what it has of the quickstart's 1,500 images
