"""Every config field once, with its default value, unit and meaning."""

import os

from ml_collections import ConfigDict

from fld_jax import defaults
from fld_jax.datasets.catalog import DATASETS, find

# Mean of the authors' release, in RGB.
RELEASE_MEAN = (122.7717, 115.9465, 102.9801)
# Of torchvision's and mmpose's weights, in RGB and units of 0 to 255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def base(dataset: str) -> ConfigDict:
  """All fields but `model` and `stages`, with the values of DFA's size=full."""
  row = DATASETS[dataset]
  config = ConfigDict()
  config.seed = 0
  config.batch_size = 40  # methods 1.7, an author's description
  config.parallel = 'shard_map'  # or 'pmap'
  config.log_every_steps = 20
  config.on_nan = 'stop'  # or 'skip': leave out updates of no finite loss
  config.eval_splits = row.eval_splits

  config.dataset = ConfigDict()
  config.dataset.name = dataset
  config.dataset.manual_dir = ''  # the folder of the original files
  # deepfashion: 'coarse', the lists list_*.txt; or 'fine', those of Anno_fine
  config.dataset.labels = 'coarse'
  # coco_keypoints: places below manual_dir, of train, val and test.
  config.dataset.annotations = 'annotations/{split}.json'
  config.dataset.images = 'images'
  config.dataset.detections = ''  # boxes of a detector instead, by {split}
  # lsp, lspet, parse: whose left and right; or 'person', not for parse
  config.dataset.centric = 'observer'
  # '': all; or upper, lower or full: records of that type alone, and of their
  # landmarks those that it has. For datasets of 8 landmarks.
  config.dataset.clothes_type = ''
  config.dataset.data_dir = '~/tensorflow_datasets'  # of prepared data
  # A checkpoint is chosen on a part split off train, never on val.
  config.dataset.splits = ConfigDict(
    {'train': 'train[:95%]', 'tune': 'train[95%:]'}
  )
  config.dataset.on_corrupt = 'stop'  # or 'skip': leave the image out
  config.dataset.sizes = ConfigDict({'train': 1500, 'val': 300, 'test': 300})
  config.dataset.seed = 0  # of the synthetic garments
  config.dataset.update(row.overrides)

  config.input = ConfigDict()
  config.input.size = 224
  config.input.crop = 'pad_square'  # or 'bbox_wh', methods A1
  config.input.margin = 0.0  # of the box's sides, added on each side
  config.input.mean = RELEASE_MEAN
  config.input.std = (1.0, 1.0, 1.0)
  config.input.num_threads = 16
  config.input.num_workers = 0  # processes; 0: threads only

  config.augment = ConfigDict()  # methods A21
  config.augment.flip = True
  config.augment.scale = 0.05  # log of the largest factor
  config.augment.rotation = 0.0  # degrees
  config.augment.shift = 0.05  # of the crop's side
  config.augment.colour = 0.0

  # File of torchvision's weights (.pth or .safetensors) that the trunks of
  # networks with random weights start from instead, see `start_pretrained`.
  config.pretrained = ''
  config.offset_scale = 5.0  # methods A3
  # Predict from the image and its mirror image, which costs twice the time.
  config.flip_test = False
  config.heatmap = ConfigDict()  # of the models that have any
  config.heatmap.decoder = 'quarter'  # or 'soft_argmax', 'dark'
  config.heatmap.sigma = 2.0  # of the target, in cells
  config.heatmap.amplitude = 1.0  # of the target
  # Cells that the peaks lie to the right of, and below, our places: of networks
  # that were trained elsewhere.
  config.heatmap.shift = 0.0
  config.heatmap.alpha = 15.0  # of the soft-argmax, methods 4.2
  config.position_constraint = ConfigDict()  # methods 4.3 to 4.5
  config.position_constraint.partition = 'skeleton'  # or whole, top_bottom
  config.position_constraint.k = 4
  config.position_constraint.space = 'input_px'  # or heatmap_px, normalized
  config.position_constraint.mask = 'annotated'  # or 'visible'
  config.position_constraint.pair_mean = False
  config.routing = ConfigDict()
  config.routing.mode = 'route'  # or 'average', 'two_branch'
  config.routing.epsilon = 0.3  # P1 section 3.3, methods A11
  config.routing.quantile = 0.0  # above 0: epsilon is this quantile of G

  return config


def start_pretrained(config: ConfigDict, path: str) -> None:
  """Sets what a start from weights for ImageNet asks of a config.

  Args:
    config: with a `model`.
    path: of torchvision's weights, for `config.pretrained`; '' changes nothing.
  """
  if not path:
    return
  config.pretrained = path
  config.input.mean, config.input.std = IMAGENET_MEAN, IMAGENET_STD
  if 'batch_norm' in config.model:  # vgg16-....pth, vgg16_bn-....pth
    config.model.batch_norm = '_bn' in os.path.basename(path)


def stage(name: str) -> ConfigDict:
  """One stage, with the settings of DFA's first."""
  config = ConfigDict()
  config.name = name
  config.train_steps = 10_000  # methods 1.7
  config.train_epochs = 0.0  # counts if train_steps is 0
  config.eval_steps = 500
  config.eval_epochs = 0.0
  config.init = 'random'  # or 'previous': start as the stage before ended
  # Deviation of the noise on the previous stage's landmarks in training, in
  # sides of the crop; nothing for the first stage.
  config.estimate_noise = 0.0
  config.checkpoint = ''  # a stage's folder in another run: take that one
  config.branches = False  # True: an easy and a hard network
  config.pseudo_label = ConfigDict()
  config.pseudo_label.num_clusters = 20
  config.pseudo_label.space = 'absolute'  # or offset, context_offset
  config.pseudo_label.temperature = 20.0
  config.pseudo_label.normalize = True
  config.pseudo_label.context_transform = 'signed_sqrt'  # or 'raw', A9
  config.pseudo_label.loss = 'euclidean'  # or xent_soft, xent_hard, A6
  config.weights = ConfigDict(
    {
      'landmarks': 1.0,
      'heatmaps': 0.0,
      'position_constraint': 0.0,  # PCLoss; Song et al.: 1e-5 at 512 pixels
      'visibility': 1.0,
      'pseudo_label': 1.0,
    }
  )
  config.landmark_loss = 'l2'  # or 'l1'
  config.weight_schedule = 'ramp_down'  # methods A14
  config.weight_t1 = 0.2
  config.weight_t2 = 0.4
  config.optimizer = ConfigDict()
  config.optimizer.name = 'sgd'
  config.optimizer.momentum = 0.9
  config.optimizer.learning_rate = 1e-3
  config.optimizer.schedule = 'step'
  config.optimizer.step_at = (0.8,)
  config.optimizer.step_factor = 0.1
  config.optimizer.warmup = 0.0  # share of the run
  config.optimizer.weight_decay = 5e-4
  config.optimizer.clip_norm = 0.0
  return config


def restore(saved: dict) -> ConfigDict:
  """The config of what `checkpoint.to_dict` made of it."""
  saved = _tuples(saved)
  stages = saved.pop('stages')
  find(saved['dataset']['name'])
  config = defaults.base(saved['dataset']['name'])
  config.update(saved)
  config.stages = tuple(defaults.stage(stage['name']) for stage in stages)
  for stage, fields in zip(config.stages, stages, strict=True):
    stage.update(fields)
  config.lock()
  return config


def _tuples(value):
  """JSON's lists as tuples, which configs have."""
  if isinstance(value, dict):
    return {key: _tuples(entry) for key, entry in value.items()}
  if isinstance(value, list):
    return tuple(map(_tuples, value))
  return value
