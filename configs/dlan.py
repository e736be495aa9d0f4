"""DLAN (Yan et al., ACM MM 2017): landmarks on whole photos, without boxes.

  python -m fld_jax.main --workdir=W \
    --config=configs/dlan.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

An interpretation of the paper's abstract (docs/methods.md 3.3). The network
sees the whole photo, in training and after it (config.input.crop='image'); NE
is measured by the item's box as for every method. A photo with several items
has the landmarks of one.

Arguments after the colon:
  dataset  a name of docs/datasets.md; without it synthetic, rendered garments
           that need no files. A wrong name is answered with the valid ones.
  size     full: VGG-16 on photos of 512 pixels, for a GPU or TPU
           small: photos of 128 pixels, for 2 CPU cores
           tiny: a trial, some minutes on 2 CPU cores
  select   max or gate: how convolutions choose among dilations
  backbone  vgg16; resnet18, resnet34, resnet50, resnet101 or resnet152;
           efficientnet_lite0, efficientnet_lite1 or efficientnet_lite2
  pretrained  imagenet: weights of a package for the backbone, whose published
           width it then has; a file of torchvision's weights of the backbone;
           or the folder of a run of the same size, of which is taken what fits
"""

from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.config import parse_arg
from fld_jax.datasets.catalog import DATASETS


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of one network.

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
    select=('max', 'gate'),
    backbone='vgg16',
    pretrained='',
  )
  config = defaults.base(arg['dataset'])
  config.input.size, config.input.crop = 512, 'image'
  config.input.std = (58.4, 57.1, 57.4)
  config.augment.surroundings = True
  config.augment.scale = 0.2
  config.augment.rotation = 10.0
  config.augment.shift = 0.05
  config.model = ConfigDict(
    {
      'name': 'dlan',
      'local_maps': ('c4', 'c5'),
      'channels': 256,
      'select': arg['select'],
      'patch': 8,
      'steps': 3,
      'hidden': 1024,
      'transform_rate': 0.1,
      'dtype': 'bfloat16',
    }
  )
  defaults.set_backbone(config, arg['backbone'])
  stage = defaults.stage('stage1')
  stage.pseudo_label.num_clusters = 0
  stage.weights.landmarks = stage.weights.pseudo_label = 0.0
  stage.weights.scaled_landmarks = 1.0
  stage.weights.visibility = 0.03
  stage.weight_schedule = 'constant'
  stage.average = 0.999
  defaults.set_adamw(stage.optimizer)
  stage.optimizer.learning_rate = 3e-4
  stage.optimizer.trunk_rate = 0.3 if arg['pretrained'] else 1.0
  config.stages = (stage,)
  if arg['size'] != 'full':
    _small(config, arg['size'], arg['pretrained'] == 'imagenet')
  defaults.start_pretrained(config, arg['pretrained'])
  config.lock()
  return config


def _small(config: ConfigDict, size: str, published: bool) -> None:
  """Sets narrow networks on small photos.

  Args:
    config: The config to change.
    size: 'small' or 'tiny'.
    published: Whether the trunk has its published width.
  """
  is_tiny, model, (stage,) = size == 'tiny', config.model, config.stages
  config.batch_size = 32
  config.input.size = 64 if is_tiny else 128
  config.input.num_threads = 2
  config.augment.colour = 0.3
  model.local_maps = ('c2', 'c3', 'c4') if is_tiny else ('c3', 'c4', 'c5')
  model.channels = 24 if is_tiny else 48
  model.hidden = 128 if is_tiny else 256
  model.patch = 7
  model.dtype = 'float32'
  if not published:
    width = 12 if is_tiny else 16
    blocks = tuple((1, width * 2**i) for i in range(4 if is_tiny else 5))
    backbone = model.backbone
    defaults.set_backbone(config, backbone, blocks=blocks, width=width)
  stage.train_steps = stage.eval_steps = 0
  stage.train_epochs, stage.eval_epochs = (
    (16.0, 2.0) if is_tiny else (20.0, 2.0)
  )
  stage.min_steps = 360 if is_tiny else 800
  stage.optimizer.learning_rate = 1e-3
