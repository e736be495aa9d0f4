"""The DFA cascade (Liu et al., Fashion Landmark Detection in the Wild, 2016).

  python -m fld_jax.main --workdir=W \
    --config=configs/dfa.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

Arguments after the colon:
  dataset  a name of docs/datasets.md; without it synthetic, rendered garments
           that need no files. A wrong name is answered with the valid ones.
  size     full: the paper's networks, for a GPU or TPU
           small: 5,000 images, at most an hour on 2 CPU cores
           tiny: the quickstart, some minutes on 2 CPU cores
  stages   3; fewer cut the cascade short
  backbone  vgg16, the paper's; resnet18, resnet34, resnet50, resnet101 or
           resnet152
  pretrained  file of torchvision's weights of the backbone to start from, a
           VGG-16 plain or with batch normalisation; for size=full, or the
           folder of a run of the same size, of which is taken what fits

Expected NE after each stage, in per cent (docs/results/dfa.md):
  dataset=deepfashion,size=small  44 minutes on 1 CPU core; on val 10.14, 9.70
           and 9.68, mean of seeds 0 and 1; with --config.flip_test 9.87, 9.41
           and 9.33
  dataset=synthetic,size=tiny  on test 12.13, 11.63 and 10.85; time not measured
  size=full  not measured
"""

from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.config import parse_arg
from fld_jax.datasets.catalog import DATASETS


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
  config.model = ConfigDict()
  config.model.name = 'dfa'
  defaults.set_backbone(config, arg['backbone'])
  config.model.hidden = 4096
  config.model.dropout = 0.5
  config.model.dtype = 'float32'
  config.stages = (
    _stage('stage1', space='absolute'),
    _stage('stage2', space='offset'),
    _stage('stage3', space='context_offset', branches=True),
  )
  {'full': _full, 'small': _small, 'tiny': _tiny}[arg['size']](config)
  config.stages = config.stages[: arg['stages']]
  defaults.start_pretrained(config, arg['pretrained'])
  config.lock()
  return config


def _stage(name: str, *, space: str, branches: bool = False) -> ConfigDict:
  """Makes the config of one stage, with its space and branches."""
  config = defaults.stage(name)
  config.pseudo_label.space, config.branches = space, branches
  return config


def _full(config: ConfigDict) -> None:
  """Sets the paper's networks, with batch normalisation for random weights."""
  config.model.dtype = 'bfloat16'
  config.input.std = (58.4, 57.1, 57.4)
  for each in config.stages:
    # Against jumps in the first steps; the norms of gradients are not measured.
    each.optimizer.clip_norm = 100.0
    if each.name != 'stage1':
      each.init, each.estimate_noise = 'previous', 0.2
      # Their head starts as -5 times stage 1's and is trained towards 5 times
      # the error, so what the trunk gets is 25 times stage 1's: at stage 1's
      # rate of 1e-3 a network of this size can diverge. At a tenth of it the
      # Euclidean loss of pseudo-labels is too slow (docs/methods.md A6).
      each.optimizer.learning_rate = 1e-4
      each.pseudo_label.loss = 'xent_soft'


def _small(config: ConfigDict) -> None:
  """Sets a narrow trunk and small images: a VGG at 48 pixels, a ResNet at 64.

  The VGG has a quarter of the paper's channels, and half in its last block.
  """
  vgg = config.model.backbone == 'vgg16'
  config.batch_size = 50
  config.input.size = 48 if vgg else 64
  config.input.crop = 'bbox_wh'
  config.input.margin = 0.15
  config.input.std = (60.0, 60.0, 60.0)
  config.input.num_threads = 2
  config.augment.scale = 0.1
  config.augment.rotation = 10.0
  config.augment.colour = 0.3
  defaults.set_backbone(
    config,
    config.model.backbone,
    blocks=((1, 16), (1, 32), (2, 64), (2, 128), (2, 256)),
    width=24,
  )
  config.model.hidden = 512
  config.model.dropout = 0.0
  config.routing.quantile = 0.5
  for index, each in enumerate(config.stages):
    each.train_steps = each.eval_steps = 0
    each.train_epochs = 24.0
    each.eval_epochs = 2.0
    each.min_steps = 600  # fewer than any stage has of 5,000 images
    if index:
      each.init, each.estimate_noise = 'previous', 0.2
    each.weights.visibility = 0.03
    each.weights.pseudo_label = 0.1
    each.optimizer.name = 'adamw'
    each.optimizer.learning_rate = 1e-3 if each.branches else 2e-3
    each.optimizer.schedule = 'cosine'
    each.optimizer.warmup = 0.1
    each.optimizer.weight_decay = 0.01
    each.optimizer.clip_norm = 5.0


def _tiny(config: ConfigDict) -> None:
  """Sets the small cascade, narrower and trained for fewer epochs."""
  _small(config)
  defaults.set_backbone(
    config,
    config.model.backbone,
    blocks=((1, 16), (1, 32), (1, 64), (1, 128)),
    width=16,
  )
  config.model.hidden = 256
  for index, each in enumerate(config.stages):
    each.train_epochs = (12.0, 6.0, 6.0)[index]
    each.eval_epochs = 3.0
    # What each has of the quickstart's 1,500 images, a branch of half of them.
    each.min_steps = (360, 180, 90)[index]
