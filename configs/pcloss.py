"""PCLoss (Song et al., Pattern Recognition 2021) and the models it is put on.

  python -m fld_jax.main --workdir=W \
    --config=configs/pcloss.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

Arguments after the colon:
  dataset  a name of docs/datasets.md; without it synthetic, rendered garments
           that need no files. A wrong name is answered with the valid ones.
  model    simple_baselines, fpn: heatmaps
           integral: SimpleBaselines' network, trained on the soft-argmax and
           towards heatmaps
           fashionnet: regression
  backbone  auto: for fashionnet vgg16, for the others a ResNet, resnet50 for
           size=full, else resnet18; or vgg16, resnet18, resnet34, resnet50,
           resnet101 or resnet152
  pcloss   skeleton (left and right apart), whole, top_bottom, or none
  heatmap  targets and soft-argmax: paper (amplitude 100, alpha 0.1) or unit
           (amplitude 1, alpha 15); auto: paper for size=full, else unit
  size     full: the paper's recipe at 512 pixels, for GPUs
           medium: 5,000 images at 128 pixels, 40 minutes on 2 CPU cores
           small: 5,000 images at 64 pixels, minutes on 2 CPU cores
           tiny: rendered garments in a minute or two
  pretrained  file of torchvision's weights of the backbone to start from, for
           size=full, or the folder of a run of the same size, of which is taken
           what fits

Expected NE on val of DeepFashion, in per cent (docs/results/pcloss.md), from
before training crops showed surroundings (--config.augment.surroundings=False):
  size=small  3 to 4 minutes on 1 CPU core; mean of seeds 0 to 2 without PCLoss
           and with pcloss=skeleton: fashionnet 12.62 and 12.58,
           simple_baselines 11.66 and 11.62, fpn 10.65 and 10.71; integral and
           resnet_regression not measured
  size=medium,model=integral,pcloss=none  41 minutes on 2 CPU cores; 6.88 with
           seed 0; other models not measured
  size=full, size=tiny  not measured
"""

import numpy as np
from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.config import parse_arg
from fld_jax.datasets.catalog import DATASETS
from fld_jax.errors import InputError
from fld_jax.papers import PCLOSS_SETTINGS

MODELS = ('simple_baselines', 'integral', 'fpn', 'fashionnet')
# The soft-argmax needs amplitude times alpha of at least 10 or so
# (docs/methods.md 4.2). The best weight of PCLoss differs between the two.
HEATMAPS = {
  'paper': {'amplitude': 100.0, 'alpha': 0.1},
  'unit': {'amplitude': 1.0, 'alpha': 15.0},
}


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of one model, a cascade of one stage.

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
    model=MODELS,
    backbone='auto',
    pcloss=('skeleton', 'none', 'whole', 'top_bottom'),
    size=('full', 'medium', 'small', 'tiny'),
    heatmap=('auto', *HEATMAPS),
    pretrained='',
  )
  config = defaults.base(arg['dataset'])
  stage = defaults.stage('stage1')
  stage.pseudo_label.num_clusters = 0
  stage.weights.pseudo_label = 0.0
  stage.weight_schedule = 'constant'
  config.stages = (stage,)
  backbone = arg['backbone']
  if backbone == 'auto':
    depth = 50 if arg['size'] == 'full' else 18
    backbone = 'vgg16' if arg['model'] == 'fashionnet' else f'resnet{depth}'
  _model(config, stage, arg['model'], backbone)
  _full(config, stage, arg['dataset'])
  small = {'medium': _medium, 'small': _small, 'tiny': _tiny}
  if arg['size'] in small:
    small[arg['size']](config, stage, arg['model'])
  if stage.weights.heatmaps:
    preset = 'paper' if arg['size'] == 'full' else 'unit'
    preset = preset if arg['heatmap'] == 'auto' else arg['heatmap']
    config.heatmap.update(HEATMAPS[preset])
    cells = config.input.size // 4
    # The paper: 8 of 128 cells. For maps of 64 cells 2 is usual, and maps of 16
    # get 1.5.
    sigma = cells / 16 if preset == 'paper' else min(2.0, 1 + cells / 32)
    config.heatmap.sigma = sigma
    if arg['model'] == 'integral':
      # The best of 10, 100 and 1000 after 8 epochs at 64 pixels.
      stage.weights.heatmaps = 100.0 / config.heatmap.amplitude**2
  elif arg['heatmap'] != 'auto':
    raise InputError(
      f"The config argument heatmap is '{arg['heatmap']}', and the model "
      f"'{arg['model']}' has none: leave it out."
    )
  if arg['pcloss'] == 'none':
    stage.weights.position_constraint = 0.0
  else:
    config.position_constraint.partition = arg['pcloss']
  defaults.start_pretrained(config, arg['pretrained'])
  config.lock()
  return config


def _model(
  config: ConfigDict, stage: ConfigDict, name: str, backbone: str
) -> None:
  """Sets the network, in its published size, and its losses."""
  head = {'channels': 256, 'visibility': False}
  if name == 'fashionnet':
    head = {'pool': 7, 'hidden': 1024, 'dropout': 0.5}
  config.model = ConfigDict(
    {
      'name': 'simple_baselines' if name == 'integral' else name,
      'dtype': 'bfloat16',
      **head,
    }
  )
  defaults.set_backbone(config, backbone)
  if name == 'fashionnet':
    stage.weights.visibility = 0.03
    return
  config.position_constraint.space = 'heatmap_px'
  stage.weights.visibility = 0.0
  stage.weights.heatmaps = 1.0
  if name == 'integral':
    # Both losses, Sun et al.'s H and I. With the l1 of the soft-argmax alone
    # the network learns far more slowly from few images.
    config.heatmap.decoder = 'soft_argmax'
    stage.landmark_loss = 'l1'
  else:
    stage.weights.landmarks = 0.0


def _full(config: ConfigDict, stage: ConfigDict, dataset: str) -> None:
  """Sets the recipe of Song et al., section 4.2.

  What the paper leaves open is in docs/methods.md 3.6, 4 and A21.

  Args:
    config: The config to change.
    stage: The config's only stage.
    dataset: The data set, a row of `datasets.catalog.DATASETS`.
  """
  paper = PCLOSS_SETTINGS.get(dataset, PCLOSS_SETTINGS[''])
  config.batch_size = 20
  config.input.size = 512
  config.input.crop = 'bbox_wh'
  config.input.std = (58.4, 57.1, 57.4)
  config.augment.scale = float(np.log(1.25))
  config.augment.rotation = 30.0
  config.augment.shift = 0.0
  config.augment.surroundings = True
  config.position_constraint.k = paper.k
  stage.weights.position_constraint = paper.beta
  stage.train_steps, stage.eval_steps = paper.steps, 5_000
  stage.optimizer.name = 'adam'
  stage.optimizer.learning_rate = 3e-4
  stage.optimizer.step_at = (30_000.0, 50_000.0)
  stage.optimizer.step_factor = 1 / 3
  stage.optimizer.weight_decay = 0.0


def _from_scratch(
  config: ConfigDict, stage: ConfigDict, name: str, side: int
) -> None:
  """Sets a recipe that learns well from 5,000 images and random weights.

  Args:
    config: The config to change.
    stage: The config's only stage.
    name: The model, one of MODELS.
    side: The side of the crops in pixels.
  """
  config.batch_size = 50
  config.input.size = side
  config.input.margin = 0.075
  config.input.std = (60.0, 60.0, 60.0)
  config.input.num_threads = 2
  config.model.dtype = 'float32'
  # On DeepFashion; the paper's weights are for its heatmaps of height 100.
  stage.weights.position_constraint = 1e-5
  # FashionNet's weight. The heads of the other networks learn beside them, so
  # that it changes nothing of their landmarks.
  stage.weights.visibility = 0.03
  if name != 'fashionnet':
    config.model.visibility = True
  else:
    config.model.dropout = 0.1
    config.model.pool = 2
    config.model.hidden = 512
    # PCLoss is in squares of pixels, so the weight that is good at 64 pixels is
    # scaled.
    stage.weights.position_constraint = 1e-4 * (64 / side) ** 2
  stage.train_steps = stage.eval_steps = 0
  stage.eval_epochs = 3.0
  stage.optimizer.name = 'adamw'
  stage.optimizer.schedule = 'cosine'
  stage.optimizer.learning_rate = 2e-3
  stage.optimizer.warmup = 0.1
  stage.optimizer.weight_decay = 0.01
  stage.optimizer.clip_norm = 5.0


def _medium(config: ConfigDict, stage: ConfigDict, name: str) -> None:
  """Sets crops of 128 pixels and 60 epochs."""
  _from_scratch(config, stage, name, side=128)
  stage.train_epochs = 60.0
  stage.min_steps = 2000  # 5,000 images have 5,700
  config.flip_test = True
  # Annotated boxes fit the garment, so the place of a box tells much about the
  # places of landmarks. The scale and shift of `_small` would hide that
  # (docs/results/pcloss.md).
  config.augment.scale = 0.05
  config.augment.shift = 0.01
  config.augment.rotation = 15.0
  config.augment.colour = 0.4
  defaults.set_backbone(
    config,
    config.model.backbone,
    blocks=((1, 32), (1, 64), (2, 128), (2, 256), (2, 256)),
    width=48,
  )
  if name != 'fashionnet':
    config.model.channels = 64
  elif config.model.backbone == 'vgg16':
    config.model.pool = 4


def _small(config: ConfigDict, stage: ConfigDict, name: str) -> None:
  """Sets crops of 64 pixels and 8 epochs."""
  _from_scratch(config, stage, name, side=64)
  config.augment.scale = 0.18
  config.augment.rotation = 20.0
  config.augment.shift = 0.04
  config.augment.colour = 0.3
  stage.train_epochs = 8.0
  stage.min_steps = 600  # 5,000 images have 760
  defaults.set_backbone(
    config,
    config.model.backbone,
    blocks=((1, 16), (1, 32), (2, 64), (2, 128), (2, 256)),
    width=24,
  )
  if name != 'fashionnet':
    config.model.channels = 48


def _tiny(config: ConfigDict, stage: ConfigDict, name: str) -> None:
  """Sets the small networks, for the rendered garments."""
  _small(config, stage, name)
  stage.train_epochs = 6.0
  stage.min_steps = 180  # what 1,500 rendered garments have
