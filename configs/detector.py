"""The landmark detector that we recommend: a light network from ImageNet.

  python -m fld_jax.main --workdir=W \
    --config=configs/detector.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

It stands on EfficientNet-Lite0 with weights for ImageNet, brings its maps
together at stride 4 and trains the soft-argmax of heatmaps (Sun et al., ECCV
2018) together with the heatmaps themselves. Whether a garment is seen from
behind, which reverses left and right, it predicts from the whole crop.

Arguments after the colon:
  dataset  a name of docs/datasets.md; without it synthetic, rendered garments
           that need no files. A wrong name is answered with the valid ones.
  size     small, medium or large: crops of 96, 160 and 224 pixels
  backbone  efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, or
           another trunk
  head     heatmaps; or simcc: bins of x and of y from the trunk's last map (Li
           et al., ECCV 2022)
  pretrained  imagenet: weights of a package (docs/installation.md); none; a
           file of torchvision's weights of the backbone; or a run's folder

Expected: size=medium on DeepFashion has NE 6.51 on val (seed 0) after 38
minutes on two CPU cores (docs/results/detector.md). The other sizes are not
measured.
"""

from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.config import parse_arg
from fld_jax.datasets.catalog import DATASETS

# Side of the crops, and epochs.
SIZES = {
  'small': (96, 20.0),
  'medium': (160, 16.0),
  'large': (224, 60.0),
}


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of the detector, a cascade of one stage.

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
    size=tuple(SIZES),
    backbone='efficientnet_lite0',
    head=('heatmaps', 'simcc'),
    pretrained='imagenet',
  )
  config = defaults.base(arg['dataset'])
  side, epochs = SIZES[arg['size']]
  config.batch_size = 32
  config.input.size = side
  config.input.crop = 'bbox_wh'
  # What tells that a garment is seen from behind may lie outside of its box.
  config.input.margin = 0.125
  config.input.std = (58.4, 57.1, 57.4)
  config.input.num_threads = 2
  simcc = arg['head'] == 'simcc'
  network = {'name': 'top_down', 'channels': 64}
  if simcc:
    network = {'name': 'simcc', 'channels': 16, 'hidden': 256, 'split': 2}
  config.model = ConfigDict({**network, 'visibility': True, 'dtype': 'float32'})
  defaults.set_backbone(config, arg['backbone'])
  if arg['backbone'].startswith('efficientnet') and arg['pretrained'] != 'none':
    # The stem and these blocks have the largest maps, whose gradients take
    # long, and the most general weights.
    config.model.trunk.frozen = 3
  config.flip_test = True
  # Boxes may be off by as much as a detector's; nothing else moves the crop.
  config.augment.box_noise = 0.1
  config.augment.scale = config.augment.shift = 0.0
  config.augment.rotation = 20.0
  config.augment.colour = 0.4
  config.augment.surroundings = True
  config.augment.cutout = 0.35
  config.augment.mild_share = 0.25
  config.heatmap.decoder = 'soft_argmax'
  config.heatmap.sigma = min(2.0, 1 + side / 128)
  stage = defaults.stage('stage1')
  stage.pseudo_label.num_clusters = 0
  stage.weights.pseudo_label = 0.0
  stage.weights.visibility = 0.03
  stage.weights.heatmaps = 100.0
  stage.weights.pair_order = 1.0
  if simcc:
    stage.weights.heatmaps, stage.weights.bins = 0.0, 1.0
    stage.weights.pair_order = 0.0
    # RTMPose's share of the side: 5.66 of 512 bins, 4.9 of 384.
    config.heatmap.sigma = config.model.split * side / 80
  stage.landmark_loss = 'l1'
  stage.weight_schedule = 'constant'
  stage.average = 0.999
  stage.train_steps = stage.eval_steps = 0
  stage.train_epochs, stage.eval_epochs = epochs, 2.0
  stage.min_steps = 800
  defaults.set_adamw(stage.optimizer)
  stage.optimizer.learning_rate = 1e-3
  stage.optimizer.trunk_rate = 0.3 if arg['pretrained'] != 'none' else 1.0
  config.stages = (stage,)
  if arg['pretrained'] != 'none':
    defaults.start_pretrained(config, arg['pretrained'])
  config.lock()
  return config
