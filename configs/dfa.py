"""The DFA cascade (Liu et al., Fashion Landmark Detection in the Wild, 2016).

  python -m fld_jax.main --workdir=W \
    --config=configs/dfa.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

Arguments after the colon:
  dataset  synthetic (rendered, needs no files) or deepfashion
  size     full: the paper's networks, for a GPU or TPU
           small: 5,000 images, at most an hour on 2 CPU cores
           tiny: the quickstart, some minutes on 2 CPU cores
  stages   3; fewer cut the cascade short
"""

from ml_collections import ConfigDict

from fld_jax.config import parse_arg

# Mean of the authors' release, in RGB.
RELEASE_MEAN = (122.7717, 115.9465, 102.9801)


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of the default cascade."""
  arg = parse_arg(
    arg,
    dataset=('synthetic', 'deepfashion'),
    size=('full', 'small', 'tiny'),
    stages=3,
  )
  config = base(arg['dataset'])
  {'full': _full, 'small': _small, 'tiny': _tiny}[arg['size']](config)
  config.stages = config.stages[: arg['stages']]
  config.lock()
  return config


def base(dataset: str) -> ConfigDict:
  """All fields, with the values of size=full."""
  config = ConfigDict()
  config.seed = 0
  config.batch_size = 40  # methods 1.7, an author's description
  config.parallel = 'shard_map'  # or 'pmap'
  config.log_every_steps = 20
  config.eval_splits = ('val',)

  config.dataset = ConfigDict()
  config.dataset.name = dataset
  config.dataset.manual_dir = ''  # deepfashion: the official folder
  config.dataset.data_dir = '~/tensorflow_datasets'  # of prepared data
  # The best checkpoint is chosen on a part split off train, never on val.
  config.dataset.splits = ConfigDict(
    {'train': 'train[:95%]', 'tune': 'train[95%:]'}
  )
  config.dataset.on_corrupt = 'stop'  # or 'skip': leave the image out
  config.dataset.sizes = ConfigDict({'train': 1500, 'val': 300, 'test': 300})
  config.dataset.seed = 0  # of the synthetic garments

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

  config.model = ConfigDict()
  config.model.name = 'dfa'
  config.model.num_landmarks = 8
  config.model.hidden = 4096
  config.model.blocks = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
  config.model.batch_norm = False
  config.model.dropout = 0.5
  config.model.dtype = 'float32'

  config.offset_scale = 5.0  # methods A3
  # Predict from the image and its mirror image, which costs twice the time.
  config.flip_test = False
  config.position_constraint = ConfigDict()  # methods 4.3 and 4.4
  config.position_constraint.partition = 'skeleton'  # or whole, top_bottom
  config.position_constraint.k = 4
  config.position_constraint.space = 'input_px'  # or 'normalized'
  config.routing = ConfigDict()
  config.routing.mode = 'route'  # or 'average', 'two_branch'
  config.routing.epsilon = 0.3  # P1 section 3.3, methods A11
  config.routing.quantile = 0.0  # above 0: epsilon is this quantile of G

  config.stages = (
    stage('stage1', space='absolute'),
    stage('stage2', space='offset'),
    stage('stage3', space='context_offset', branches=True),
  )
  return config


def stage(name: str, *, space: str, branches: bool = False) -> ConfigDict:
  """One stage with the paper's settings."""
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
  config.branches = branches  # an easy and a hard network
  config.pseudo_label = ConfigDict()
  config.pseudo_label.num_clusters = 20
  config.pseudo_label.space = space
  config.pseudo_label.temperature = 20.0
  config.pseudo_label.normalize = True
  config.pseudo_label.context_transform = 'signed_sqrt'  # or 'raw', A9
  config.pseudo_label.loss = 'euclidean'  # or xent_soft, xent_hard, A6
  config.weights = ConfigDict(
    {
      'landmarks': 1.0,
      'position_constraint': 0.0,  # PCLoss; Song et al.: 1e-5 at 512 pixels
      'visibility': 1.0,
      'pseudo_label': 1.0,
    }
  )
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


def _full(config: ConfigDict) -> None:
  """The paper's networks, from random weights: with batch normalisation."""
  config.model.batch_norm = True
  config.model.dtype = 'bfloat16'
  config.input.std = (58.4, 57.1, 57.4)
  for each in config.stages:
    if each.name != 'stage1':
      each.init, each.estimate_noise = 'previous', 0.2


def _small(config: ConfigDict) -> None:
  """A VGG of a quarter of the channels at 48 pixels."""
  config.batch_size = 50
  config.input.size = 48
  config.input.crop = 'bbox_wh'
  config.input.margin = 0.15
  config.input.std = (60.0, 60.0, 60.0)
  config.input.num_threads = 2
  config.augment.scale = 0.1
  config.augment.rotation = 10.0
  config.augment.colour = 0.3
  config.model.blocks = ((1, 16), (1, 32), (2, 64), (2, 128), (2, 256))
  config.model.batch_norm = True
  config.model.hidden = 512
  config.model.dropout = 0.0
  config.routing.quantile = 0.5
  for index, each in enumerate(config.stages):
    each.train_steps = each.eval_steps = 0
    each.train_epochs = 24.0
    each.eval_epochs = 2.0
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
  """As small, with less of everything."""
  _small(config)
  config.model.blocks = ((1, 16), (1, 32), (1, 64), (1, 128))
  config.model.hidden = 256
  config.eval_splits = ('test',)
  config.dataset.splits.train = 'train'
  config.dataset.splits.tune = 'val'
  for index, each in enumerate(config.stages):
    each.train_epochs = (12.0, 6.0, 6.0)[index]
    each.eval_epochs = 3.0
