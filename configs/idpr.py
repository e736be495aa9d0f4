"""IDPR (Chen and Yuille, NIPS 2014), and two additions of DFA to it.

  python -m fld_jax.main --workdir=W \
    --config=configs/idpr.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

Arguments after the colon:
  dataset  a name of docs/datasets.md; without it synthetic, rendered garments
           that need no files. A wrong name is answered with the valid ones.
  size     full: 224 pixels, the paper's 13 types, for a GPU or TPU
           small: 5,000 images at 96 pixels, on 2 CPU cores
           tiny: rendered garments at 64 pixels, some minutes on 2 CPU cores
  extras   none; pseudo_label: a head of soft pseudo-labels of 20 poses;
           routing: that, and a second pass by one of two networks, for images
           that look easy and hard (Liu et al., ECCV 2016, Table 4;
           docs/methods.md 2.3)
  backbone  auto: vgg16, of size=small efficientnet_lite0; or another trunk with
           maps of strides 4 to 32
  pretrained  auto: imagenet for size=small, else none; imagenet: weights of a
           package (docs/installation.md); a file of torchvision's weights of
           the backbone; or a run's folder
"""

from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.config import parse_arg
from fld_jax.datasets.catalog import DATASETS


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of IDPR, a cascade of one stage, or two with routing.

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
    extras=('none', 'pseudo_label', 'routing'),
    backbone='auto',
    pretrained='auto',
  )
  size, backbone, pretrained = (
    arg[key] for key in ('size', 'backbone', 'pretrained')
  )
  if backbone == 'auto':
    backbone = 'efficientnet_lite0' if size == 'small' else 'vgg16'
  if pretrained == 'auto':
    pretrained = 'imagenet' if size == 'small' else 'none'
  config = defaults.base(arg['dataset'])
  config.model = ConfigDict(
    {
      'name': 'idpr',
      'stride': 8,
      'num_types': 13,
      'channels': 256,
      'dtype': 'bfloat16',
    }
  )
  defaults.set_backbone(config, backbone)
  stage = defaults.stage('stage1')
  stage.weight_schedule = 'constant'
  stage.weights.landmarks = 0.0
  stage.weights.parts = stage.weights.relations = 1.0
  # The tree has weights of its own, which only this loss changes.
  stage.weights.tree = 0.1
  stage.weights.visibility = 0.03
  stage.weights.pseudo_label = 0.0
  stage.pseudo_label.num_clusters = 0
  config.heatmap.sigma = 1.0  # of a part's patches, in cells
  config.offset_scale = 1.0  # the second pass finds landmarks, and no offsets
  if arg['extras'] != 'none':
    stage.pseudo_label.num_clusters = 20
    stage.pseudo_label.refit = 0.01
    stage.weights.pseudo_label = 0.1
  {'full': _full, 'small': _small, 'tiny': _tiny}[size](config, stage)
  if pretrained != 'none':
    defaults.start_pretrained(config, pretrained)
    stage.optimizer.trunk_rate = 0.3
  config.stages = (stage,)
  if arg['extras'] == 'routing':
    config.stages = (stage, _branches(stage))
  config.lock()
  return config


def _branches(first: ConfigDict) -> ConfigDict:
  """The second pass: two networks that start as the first one."""
  stage = first.copy_and_resolve_references()
  stage.name, stage.branches, stage.init = 'branches', True, 'previous'
  stage.pseudo_label.num_clusters, stage.pseudo_label.refit = 0, 0.0
  stage.weights.pseudo_label = 0.0
  stage.optimizer.learning_rate = first.optimizer.learning_rate / 10
  stage.train_steps, stage.train_epochs = (
    first.train_steps // 4,
    first.train_epochs / 4,
  )
  stage.min_steps = first.min_steps // 4
  return stage


def _full(config: ConfigDict, stage: ConfigDict) -> None:
  """Sets crops of 224 pixels and random weights' batch normalisation."""
  config.input.std = (58.4, 57.1, 57.4)
  stage.optimizer.name = 'adam'
  stage.optimizer.learning_rate = 3e-4
  stage.optimizer.clip_norm = 100.0


def _small(config: ConfigDict, stage: ConfigDict) -> None:
  """Sets the recipe of configs/detector.py, for 5,000 images on a CPU."""
  config.batch_size = 32
  config.input.size = 96
  config.input.crop = 'bbox_wh'
  config.input.margin = 0.075
  config.input.std = (58.4, 57.1, 57.4)
  config.input.num_threads = 2
  config.flip_test = True
  config.augment.scale = 0.05
  config.augment.shift = 0.01
  config.augment.rotation = 15.0
  config.augment.colour = 0.4
  config.augment.surroundings = True
  config.routing.quantile = 0.5
  config.model.stride = 4
  config.model.num_types = 5
  config.model.channels = 64
  config.model.dtype = 'float32'
  if config.model.backbone.startswith('efficientnet'):
    config.model.trunk.frozen = 3  # stem and first blocks, which cost most
  stage.average = 0.999
  stage.train_steps = stage.eval_steps = 0
  stage.train_epochs, stage.eval_epochs = 20.0, 2.0
  stage.min_steps = 800
  defaults.set_adamw(stage.optimizer)
  stage.optimizer.learning_rate = 1e-3


def _tiny(config: ConfigDict, stage: ConfigDict) -> None:
  """Sets a narrow trunk with random weights, for the rendered garments."""
  _small(config, stage)
  defaults.set_backbone(
    config,
    config.model.backbone,
    blocks=((1, 16), (1, 32), (1, 64), (1, 128), (1, 128)),
    width=16,
  )
  config.flip_test = False
  config.input.size = 64
  config.model.channels = 32
  stage.average = 0.99
  stage.train_epochs, stage.eval_epochs = 8.0, 2.0
  stage.min_steps = 300
  stage.optimizer.learning_rate = 2e-3
