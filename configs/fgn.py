"""FGN (Wang et al., CVPR 2018): heatmaps along the grammars of fashion.

  python -m fld_jax.main --workdir=W \
    --config=configs/fgn.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

Messages pass along the chains of the landmark set (`LandmarkSet.grammars`), in
both directions. Where the data have clothes types, a head with two attentions
predicts them. The paper's body was not to be had: docs/methods.md 3.4 says what
is known of it.

Arguments after the colon:
  dataset  a name of docs/datasets.md; without it synthetic, rendered garments
           that need no files. A wrong name is answered with the valid ones.
  size     full: maps of 28 cells and states of 64 channels as in the paper, at
           224 pixels, for GPUs
           small: 128 pixels and narrow states, for 2 CPU cores
           tiny: rendered garments in a minute or two
  backbone  auto: vgg16 for size=full, efficientnet_lite0 for size=small,
           resnet18 for size=tiny; or another trunk. Of a VGG the features are
           conv4_3, of others they are brought together from c5 to c3.
  loss     bce: cross-entropy of the heatmaps; or mse, their squared error
  pcloss   none, skeleton (left and right apart), whole or top_bottom: PCLoss
           (Song et al., 2021) of the soft-argmax, which is not the paper's
  pretrained  auto: imagenet, but for size=tiny none; imagenet: weights of a
           package (docs/installation.md); none; a file of torchvision's weights
           of the backbone; or a run's folder

No size has been measured on a whole data set yet.
"""

from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.config import parse_arg
from fld_jax.datasets.catalog import DATASETS
from fld_jax.schema import LandmarkSet

BACKBONES = {
  'full': 'vgg16',
  'small': 'efficientnet_lite0',
  'tiny': 'resnet18',
}
# Of the maps, which go from 0 to 1. Most of their cells are 0, so that the mean
# over all of them is small.
LOSSES = {'bce': ('heatmap_entropy', 30.0), 'mse': ('heatmaps', 100.0)}


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of FGN, a cascade of one stage.

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
    size=tuple(BACKBONES),
    backbone='auto',
    loss=tuple(LOSSES),
    pcloss=('none', 'skeleton', 'whole', 'top_bottom'),
    pretrained='auto',
  )
  size, backbone, pretrained = arg['size'], arg['backbone'], arg['pretrained']
  if backbone == 'auto':
    backbone = BACKBONES[size]
  if pretrained == 'auto':
    pretrained = 'none' if size == 'tiny' else 'imagenet'
  config = defaults.base(arg['dataset'])
  config.input.crop = 'bbox_wh'
  config.input.std = (58.4, 57.1, 57.4)
  config.model = ConfigDict(
    {
      'name': 'fgn',
      'merge': not backbone.startswith('vgg'),
      'channels': 64,
      'state': 64,
      'visibility': True,
      'dtype': 'bfloat16',
    }
  )
  defaults.set_backbone(config, backbone, batch_norm=pretrained == 'none')
  config.heatmap.sigma = 1.0
  config.heatmap.decoder = 'dark'
  config.augment.scale = 0.05
  config.augment.shift = 0.01
  config.augment.rotation = 15.0
  config.augment.colour = 0.4
  config.augment.surroundings = True
  config.flip_test = True
  stage = defaults.stage('stage1')
  stage.pseudo_label.num_clusters = 0
  stage.weights.update(landmarks=0.0, pseudo_label=0.0, visibility=0.03)
  loss, weight = LOSSES[arg['loss']]
  stage.weights[loss] = weight
  landmarks = DATASETS[arg['dataset']].landmarks
  # Which landmarks and types there are may stand in the files alone.
  if isinstance(landmarks, LandmarkSet) and landmarks.types:
    stage.weights.category = 0.1
  if arg['pcloss'] != 'none':
    config.position_constraint.partition = arg['pcloss']
    config.position_constraint.space = 'heatmap_px'
    stage.weights.position_constraint = 1e-2
  stage.weight_schedule = 'constant'
  stage.average = 0.999
  stage.train_steps = stage.eval_steps = 0
  defaults.set_adamw(stage.optimizer)
  config.stages = (stage,)
  {'full': _full, 'small': _small, 'tiny': _tiny}[size](config, stage)
  if pretrained != 'none':
    stage.optimizer.trunk_rate = 0.3
    if size == 'small' and backbone.startswith('efficientnet'):
      # The first blocks cost most of the time, and learn little from few
      # images.
      config.model.trunk.frozen = 3
    defaults.start_pretrained(config, pretrained)
  config.lock()
  return config


def _full(config: ConfigDict, stage: ConfigDict) -> None:
  """Sets the published sizes; the paper's solver is not known."""
  config.batch_size = 20
  config.input.size = 224
  stage.train_epochs, stage.eval_epochs = 30.0, 1.0
  stage.optimizer.learning_rate = 3e-4


def _small(config: ConfigDict, stage: ConfigDict) -> None:
  """Sets crops of 128 pixels and narrow states."""
  _light(config, side=128, state=16)
  stage.train_epochs, stage.eval_epochs = 24.0, 2.0
  stage.min_steps = 800
  stage.optimizer.learning_rate = 1e-3


def _tiny(config: ConfigDict, stage: ConfigDict) -> None:
  """Sets a narrow trunk and crops of 64 pixels, for the rendered garments."""
  _light(config, side=64, state=8)
  config.heatmap.alpha = 7.0  # of 8 cells, sharper ones are the nearest cell
  config.model.channels = 32
  defaults.set_backbone(
    config,
    config.model.backbone,
    blocks=((1, 16), (1, 32), (2, 64), (2, 128), (2, 128)),
    width=24,
  )
  stage.train_epochs, stage.eval_epochs = 6.0, 3.0
  stage.min_steps = 180
  stage.optimizer.learning_rate = 2e-3


def _light(config: ConfigDict, side: int, state: int) -> None:
  """Sets what the sizes for a CPU share.

  Args:
    config: The config to change.
    side: The side of the crops in pixels.
    state: The channels of a state.
  """
  config.batch_size = 32
  config.input.size = side
  config.input.margin = 0.075
  config.input.num_threads = 2
  config.model.state = state
  config.model.dtype = 'float32'
