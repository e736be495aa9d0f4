"""Every config field once, with its default value, unit and meaning."""

import functools
import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from fld_jax import config_rules, defaults
from fld_jax.config import did_you_mean
from fld_jax.datasets.catalog import DATASETS, names
from fld_jax.errors import InputError, shortened
from fld_jax.files.json_files import read_json

# Mean of the authors' release, in RGB.
RELEASE_MEAN = (122.7717, 115.9465, 102.9801)
# Of torchvision's and mmpose's weights, in RGB and units of 0 to 255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
# How images were normalised, by mean and deviation of RGB, for the weights
# that `pretrained=imagenet` finds for a trunk (fld_jax/pretrained/imagenet.py).
PACKAGED_INPUT = {
  **{f'efficientnet_lite{i}': ((127.0,) * 3, (128.0,) * 3) for i in (0, 1, 2)},
  'vgg16': ((122.67892, 116.66877, 104.00699), (1.0, 1.0, 1.0)),
}
# (number of 3x3 convolutions, channels) for each block of the published network
VGG16 = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def base(dataset: str) -> ConfigDict:
  """All fields but `model` and `stages`, with the values of DFA's size=full.

  `--mode=config` shows a field with its comment: the lines above it, and what
  stands behind it.

  Args:
    dataset: The data set, a row of `datasets.catalog.DATASETS`.
  """
  row = DATASETS[dataset]
  config = ConfigDict()
  config.seed = 0  # of initial weights, sampling, augmentation and dropout
  # Images per training step, over all devices (docs/methods.md 1.7, as one of
  # DFA's authors describes it).
  config.batch_size = 40
  # How the step is distributed over devices: shard_map or pmap.
  config.parallel = 'shard_map'
  config.log_every_steps = 20  # steps between two log entries
  # If a loss is not finite: 'stop', or 'skip' the update.
  config.on_nan = 'stop'
  config.eval_splits = row.eval_splits  # splits to evaluate

  config.dataset = ConfigDict()
  config.dataset.name = dataset  # a data set of fld_jax.datasets.catalog
  config.dataset.manual_dir = ''  # folder of the original files
  # For deepfashion: 'coarse', the lists list_*.txt, or 'fine', those of
  # Anno_fine.
  config.dataset.labels = 'coarse'
  # For coco_keypoints: the annotations' file, a path below manual_dir in which
  # {split} stands for train, val or test; if there is none, other places are
  # searched. One without {split} is the only file, from which val is split off.
  config.dataset.annotations = 'annotations/{split}.json'
  # For coco_keypoints: the folder of images, a path below manual_dir that may
  # hold {split}. What lies in it comes first; with 'images', which is the
  # default, other folders are looked through as well.
  config.dataset.images = 'images'
  # For coco_keypoints: a detector's boxes, in place of the annotated ones; a
  # path below manual_dir that may hold {split}.
  config.dataset.detections = ''
  # Pairs of landmarks that change places in a mirrored image, where their names
  # do not tell: 'neck_a:neck_b,hem_a:hem_b'; 'none' if there are none.
  config.dataset.swaps = ''
  # For lsp, lspet and parse: whether left and right are the 'observer's or the
  # 'person's (not for parse).
  config.dataset.centric = 'observer'
  # For data sets of 8 landmarks: upper, lower or full takes the records of this
  # clothes type alone, and of their landmarks those that it has; '' takes all.
  config.dataset.clothes_type = ''
  # Folder of prepared records.
  config.dataset.data_dir = '~/tensorflow_datasets'
  config.dataset.splits = ConfigDict(
    {
      'train': 'train[:95%]',  # records to train on
      # Records on which a checkpoint is chosen: a part of train, never val.
      'tune': 'train[95%:]',
    }
  )
  # If an image cannot be decoded: 'stop', or 'skip' it.
  config.dataset.on_corrupt = 'stop'
  config.dataset.sizes = ConfigDict(
    {
      'train': 1500,  # number of synthetic garments to train on
      'val': 300,  # number of synthetic garments for val
      'test': 300,  # number of synthetic garments for test
    }
  )
  config.dataset.seed = 0  # of the synthetic garments
  config.dataset.update(row.overrides)

  config.input = ConfigDict()
  config.input.size = 224  # side of the crop that networks see, in pixels
  # How a box becomes a square: 'pad_square' keeps its aspect ratio, 'bbox_wh'
  # stretches it (docs/methods.md A1); 'image' leaves boxes out, and pads the
  # whole image to a square.
  config.input.crop = 'pad_square'
  # What the box is grown by on each side, in shares of its sides.
  config.input.margin = 0.0
  config.input.mean = RELEASE_MEAN  # subtracted from RGB values of 0 to 255
  config.input.std = (1.0, 1.0, 1.0)  # what RGB is divided by after that
  config.input.num_threads = 16  # threads that read and decode images
  # Processes that read and decode images; 0 leaves it to the threads.
  config.input.num_workers = 0

  config.augment = ConfigDict()  # docs/methods.md A21
  config.augment.flip = True  # whether to mirror every second image, by chance
  # Logarithm of the largest factor by which a crop is scaled.
  config.augment.scale = 0.05
  config.augment.rotation = 0.0  # largest rotation, in degrees
  config.augment.shift = 0.05  # largest shift, in sides of the crop
  # Largest change of contrast, tint and brightness, as a share.
  config.augment.colour = 0.0
  # Whether augmented crops show what lies around the box, as crops of boxes
  # that do not fit do; otherwise it is black, which shows where the box is.
  config.augment.surroundings = False
  # How far boxes are off: the largest standard deviation of the noise on each
  # of their sides, in their widths and heights.
  config.augment.box_noise = 0.0
  # Largest side of a square of each crop that is painted over, as a share of
  # the crop's side.
  config.augment.cutout = 0.0
  # Share of the training, at its end, in which scale, rotation, shift and
  # colour change half as much and nothing is painted over.
  config.augment.mild_share = 0.0

  # What networks with random weights start from instead: 'imagenet', weights of
  # a package for the trunk; a file of torchvision's weights (.pth or
  # .safetensors) for it; or the folder of a run for all that fits.
  config.pretrained = ''
  # Factor of the offsets that stages after the first predict
  # (docs/methods.md A3).
  config.offset_scale = 5.0
  # Whether to predict from the image and its mirror image, in twice the time.
  config.flip_test = False
  config.heatmap = ConfigDict()
  # How a heatmap becomes a position: quarter, soft_argmax or dark.
  config.heatmap.decoder = 'quarter'
  # Standard deviation of the target's Gaussian, in cells of the heatmap or in
  # SimCC's bins.
  config.heatmap.sigma = 2.0
  config.heatmap.amplitude = 1.0  # height of the target's Gaussian
  # Cells by which peaks lie to the right of and below the landmarks; not 0 for
  # networks that were trained elsewhere.
  config.heatmap.shift = 0.0
  # Factor of the heatmap in the soft-argmax (docs/methods.md 4.2).
  config.heatmap.alpha = 15.0
  config.position_constraint = ConfigDict()
  # PCLoss's parts of the landmark set: skeleton, whole or top_bottom
  # (docs/methods.md 4.3 to 4.5).
  config.position_constraint.partition = 'skeleton'
  # PCLoss takes the mean over the k landmarks of a part that cost most.
  config.position_constraint.k = 4
  # Unit of PCLoss's positions: input_px, heatmap_px or normalized.
  config.position_constraint.space = 'input_px'
  # Landmarks that PCLoss counts: annotated or visible ones.
  config.position_constraint.mask = 'annotated'
  # Whether PCLoss divides by the number of a part's landmarks
  # (docs/methods.md 4.5).
  config.position_constraint.pair_mean = False
  config.routing = ConfigDict()
  # How the branches of a stage are used: 'route' takes one by the estimated
  # difficulty, 'average' and 'two_branch' the mean of both.
  config.routing.mode = 'route'
  # Images with a routing score below it take the easy branch (Liu et al., DFA,
  # section 3.3; docs/methods.md A11).
  config.routing.epsilon = 0.3
  # If above 0, epsilon is this quantile of the training images' scores. If 0,
  # and epsilon leaves a branch less than 5 % of them, it is their quantile 0.7.
  config.routing.quantile = 0.0

  return config


def set_adamw(optimizer: ConfigDict) -> None:
  """Sets what all recipes for 5,000 images share; the rate is each one's own.

  Args:
    optimizer: The part `optimizer` of a stage's config, to be changed.
  """
  optimizer.name = 'adamw'
  optimizer.schedule = 'cosine'
  optimizer.warmup = 0.1
  optimizer.weight_decay = 0.01
  optimizer.clip_norm = 5.0


def set_backbone(
  config: ConfigDict,
  name: str,
  *,
  blocks: tuple[tuple[int, int], ...] = VGG16,
  batch_norm: bool = True,
  width: int = 64,
) -> None:
  """Sets the trunk of a config's network, and how wide it is.

  Args:
    config: A config with a `model`.
    name: The trunk, `config.model.backbone`: a row of `models.TRUNKS`.
    blocks: Number of convolutions and their channels for each block of a VGG.
    batch_norm: Whether a VGG's convolutions are normalised. The published VGG,
      which starts from weights for ImageNet, has none.
    width: Channels of the first block of any other trunk.
  """
  config.model.backbone = name
  if name.startswith('vgg'):
    trunk = {'blocks': blocks, 'batch_norm': batch_norm}
  else:
    trunk = {'width': width}
  config.model.trunk = ConfigDict({**trunk, 'frozen': 0})


# The fields of config.model, whose defaults are those of the network's class.
MODEL_FIELDS = {
  'name': 'the network, a name in fld_jax.models',
  'backbone': 'the trunk on which the network stands, a name in fld_jax.models',
  'blocks': "(number of 3x3 convolutions, channels) for each of VGG's blocks",
  'batch_norm': "whether VGG's convolutions are followed by batch norm",
  'frozen': 'number of the first blocks that keep their weights; 0 for none',
  'width': "channels of ResNet's first block; 64 is the published width",
  'channels': 'channels of the decoder; of SimCC those of each landmark',
  'merge': "whether FGN's features are brought together from maps c5 to c3; "
  'otherwise they are the deepest of stride 8, conv4_3 of a VGG',
  'state': "channels of a landmark's state in each direction of FGN's chains",
  'visibility': 'whether networks of heatmaps or bins predict visibility too',
  'stride': "side of a cell of IDPR's map in pixels, 4 or 8",
  'num_types': "number of types of each of IDPR's relations",
  'num_attributes': 'number of attributes that each record of the data set has',
  'at_landmarks': 'whether attributes are predicted from what is around the '
  "landmarks beside the whole item; otherwise from the whole item's mean alone",
  'split': "SimCC's bins of x and of y a pixel",
  'pool': 'side of the grid to which the last map is averaged, in cells; 0 for '
  'the map as it is',
  'local_maps': "names of the trunk's maps of which stages after the first see "
  'a patch around each landmark of the estimate; () for none, as in the paper; '
  'of DLAN those that it cuts windows out of',
  'patch': 'side of these patches, in cells of their maps; of DeepPose in '
  'pixels of the crop, of DLAN in samples of a window',
  'select': "how DLAN's convolutions choose among dilations: max or gate",
  'steps': 'how often DLAN looks at the window that it moves',
  'transform_rate': "factor of the changes of DLAN's window",
  'hidden': 'width of the fully connected layers',
  'dropout': 'dropout rate behind the fully connected layers, from 0 to 1',
  'dtype': 'type that networks compute in; parameters are float32',
}
# The fields that configs for --mode=ablation have beside these.
TABLE_FIELDS = {
  'seeds': 'number of seeds, from config.seed on, to train each row with',
  'about': 'what stands below the table',
  'rows.title': "the row's name in the table",
  'rows.paper': "the paper's NE, by landmark; None where it prints none",
  'rows.base': "row that this one is compared with; '' for none",
  'rows.beta': 'weight of PCLoss, for the curve',
  'rows.chosen': "whether this is the paper's choice",
  'rows.num_stages': 'number of stages; all but the last are taken from others',
  'rows.change': 'what the row changes: (field, old value, new value)',
}


def start_pretrained(config: ConfigDict, path: str) -> None:
  """Sets what a start from trained weights asks of a config.

  Networks see images as those did that the weights are of: weights for ImageNet
  in its normalisation, those of another run in that run's.

  Args:
    config: A config with a `model`.
    path: 'imagenet', file of torchvision's weights or folder of a run, for
      `config.pretrained`; '' changes nothing.

  Raises:
    InputError: If a folder is not of a run.
  """
  if not path:
    return
  config.pretrained = path
  if path == 'imagenet':
    # Of a trunk without such weights the start of the training says so.
    default = config.input.mean, config.input.std
    found = PACKAGED_INPUT.get(config.model.backbone, default)
    config.input.mean, config.input.std = found
    if 'batch_norm' in config.model.trunk:
      config.model.trunk.batch_norm = False  # as the published VGG-16
    return
  if os.path.isdir(os.path.expanduser(path)):
    saved, _ = find_run(pathlib.Path(path).expanduser())
    _take_input(config, saved['config'])
    return
  config.input.mean, config.input.std = IMAGENET_MEAN, IMAGENET_STD
  if 'batch_norm' in config.model.trunk:  # vgg16-....pth, vgg16_bn-....pth
    config.model.trunk.batch_norm = '_bn' in os.path.basename(path)


def find_run(path: pathlib.Path) -> tuple[dict, pathlib.Path]:
  """Reads the manifest of the run that `config.pretrained` names.

  Args:
    path: The folder W of a run, or W/stages/NAME, or W/stages/NAME/NETWORK.

  Returns:
    The manifest, its config with present names; and W.

  Raises:
    InputError: If there is no run, or its manifest is damaged.
  """
  path = pathlib.Path(os.path.abspath(path))
  for workdir in (path, *path.parents[:3]):
    file = workdir / 'manifest.json'
    if file.is_file():
      break
  else:
    raise InputError(
      f'config.pretrained is {path}, which is no folder of a run: it holds no '
      "manifest.json. Give a run's W or W/stages/NAME/NETWORK, or a file of "
      "torchvision's weights"
    )
  saved = read_json(file)
  if not isinstance(saved, dict):
    raise InputError(f'{file}: is {shortened(saved)}, must be an object')
  saved['config'] = check_saved(saved.get('config'), str(file))
  return saved, workdir


def _take_input(config: ConfigDict, saved: dict) -> None:
  """Sets how images are normalised, and a VGG, to those of a saved config."""
  for field in ('mean', 'std'):
    config.input[field] = tuple(saved['input'][field])
  theirs = saved['model']['trunk']
  if 'batch_norm' in config.model.trunk and 'batch_norm' in theirs:
    config.model.trunk.batch_norm = theirs['batch_norm']


def stage(name: str) -> ConfigDict:
  """The fields of one stage, with the values of DFA's first.

  Args:
    name: The stage's name, under which its networks are saved.
  """
  config = ConfigDict()
  config.name = name  # the stage's name, under which its networks are saved
  # Length of the training in steps; of steps and epochs, the first that is not
  # 0 counts (docs/methods.md 1.7).
  config.train_steps = 10_000
  config.train_epochs = 0.0  # length of the training in epochs
  # Least length of a training that is given in epochs, in steps: what few
  # images need to be learnt from. 0 for none.
  config.min_steps = 0
  # Steps between two evaluations on the split tune, after which a checkpoint is
  # saved; of steps and epochs, the first that is not 0 counts. In epochs there
  # are more evaluations, without a checkpoint, if there were fewer than ten.
  config.eval_steps = 500
  config.eval_epochs = 0.0  # epochs between two such evaluations
  # Initial weights: 'random'; those of the 'previous' stage, whose landmarks
  # the stage corrects; or, for branches, 'continue': those of the previous
  # stage, in whose place they come, so that they see what it sees.
  config.init = 'random'
  # Standard deviation of the noise on the previous stage's landmarks in
  # training, in sides of the crop; the first stage has none.
  config.estimate_noise = 0.0
  # Where a stage after the first is trained to start: from the landmarks of the
  # 'previous' stage on the very crop; or from true ones plus normal noise with
  # the mean and deviation of that stage's 'errors' on the training images, a
  # landmark (DeepPose's jitter, docs/methods.md 2.1), which landmarks without a
  # position do not have.
  config.estimate_from = 'previous'
  # Side of the crops that the stage's networks see, in pixels, to which those
  # of config.input.size, a multiple of it, are averaged down; 0 leaves them.
  config.input_size = 0
  # Folder of a stage of another run, to take in place of training.
  config.checkpoint = ''
  config.branches = False  # whether it has an easy and a hard network
  # What a branch learns from: 0 for the training images on its side of the
  # routing threshold alone (Liu et al.); above 0 for all of them, an image
  # weighing sigmoid(+-(epsilon - G) / branch_temperature), where G is the
  # routing score of its crop, in sides of the crop.
  config.branch_temperature = 0.0
  # Whether an epoch of a branch has as many steps as one of all training
  # images; otherwise it is of the branch's own images.
  config.whole_epochs = True
  config.pseudo_label = ConfigDict()
  # Number of clusters, the length of a pseudo-label; 0 for none.
  config.pseudo_label.num_clusters = 20
  # What is clustered: absolute, offset or context_offset.
  config.pseudo_label.space = 'absolute'
  # Temperature of the softmax over distances to the clusters.
  config.pseudo_label.temperature = 20.0
  # Whether pseudo-labels sum to 1.
  config.pseudo_label.normalize = True
  # Transform of the products of context_offset: signed_sqrt or raw
  # (docs/methods.md A9).
  config.pseudo_label.context_transform = 'signed_sqrt'
  # Loss of pseudo-labels: euclidean, xent_soft or xent_hard
  # (docs/methods.md A6).
  config.pseudo_label.loss = 'euclidean'
  # Weight decay with which the head of the pseudo-labels is fitted once more
  # when the stage is trained; 0 leaves it as the training left it, which lets
  # its weight fade while the network goes on changing.
  config.pseudo_label.refit = 0.0
  config.weights = ConfigDict(
    {
      'landmarks': 1.0,  # weight of the landmarks' loss
      'heatmaps': 0.0,  # weight of the heatmaps' loss
      # Weight of the cross-entropy of heatmaps that are a sigmoid.
      'heatmap_entropy': 0.0,
      'bins': 0.0,  # weight of the loss of SimCC's bins
      # Weight of DLAN's scale-regularised regression (docs/methods.md 3.3).
      'scaled_landmarks': 0.0,
      'parts': 0.0,  # weight of the loss of IDPR's parts
      'relations': 0.0,  # weight of the loss of the types of its relations
      'tree': 0.0,  # weight of the hinge loss of its tree
      # Weight of PCLoss; Song et al. take 1e-5 at 512 pixels.
      'position_constraint': 0.0,
      # Weight of the loss of the clothes type, for networks that predict it.
      'category': 0.0,
      # Weight of the loss of the order of left and right, for networks of
      # heatmaps; 0 leaves it to the heatmaps.
      'pair_order': 0.0,
      'attributes': 0.0,  # weight of the attributes' loss
      'visibility': 1.0,  # weight of the visibility's loss
      'pseudo_label': 1.0,  # weight of the pseudo-labels' loss
    }
  )
  # Decay a step of the average of the weights, which is evaluated and kept in
  # their place; 0 for none.
  config.average = 0.0
  config.landmark_loss = 'l2'  # loss of landmarks: l2 or l1
  # How the weights change during training: ramp_down, paper_literal,
  # author_issue6 or constant (docs/methods.md A14).
  config.weight_schedule = 'ramp_down'
  # When the auxiliary losses begin to fade, as a share of the training.
  config.weight_t1 = 0.2
  # When the auxiliary losses have faded, as a share of the training.
  config.weight_t2 = 0.4
  # What 'ramp_down' leaves of the weight of the visibility; 0 in Liu et al.
  config.visibility_floor = 0.0
  config.optimizer = ConfigDict()
  config.optimizer.name = 'sgd'  # rule of the updates: sgd, adam or adamw
  config.optimizer.momentum = 0.9  # momentum, of sgd alone
  config.optimizer.learning_rate = 1e-3  # learning rate at its highest
  # Factor of the learning rate of the trunk.
  config.optimizer.trunk_rate = 1.0
  # How the learning rate falls: step, cosine (to 0) or constant.
  config.optimizer.schedule = 'step'
  # When schedule=step lowers the learning rate: up to 1 a share of the
  # training, above 1 a step.
  config.optimizer.step_at = (0.8,)
  # What the learning rate is multiplied by at each of step_at.
  config.optimizer.step_factor = 0.1
  # Share of the training in which the learning rate climbs from 0.
  config.optimizer.warmup = 0.0
  # Factor of the weight decay, which acts on kernels alone.
  config.optimizer.weight_decay = 5e-4
  # Norm to which gradients are clipped; 0 for no clipping.
  config.optimizer.clip_norm = 0.0
  return config


def restore(saved: Any, file: str) -> ConfigDict:
  """The config that a file of a run holds.

  Args:
    saved: The config as JSON's dicts and lists, perhaps of an older version.
    file: The path of the file, for messages.

  Returns:
    The config. Fields that there were not yet have their present defaults.

  Raises:
    InputError: A field is missing, unknown, or has a value that it cannot have.
  """
  saved = check_saved(saved, file)
  saved = _tuples(saved)
  stages = saved.pop('stages')
  config = defaults.base(saved['dataset']['name'])
  config.update(saved)
  config.stages = tuple(defaults.stage(stage['name']) for stage in stages)
  for stage, fields in zip(config.stages, stages, strict=True):
    stage.update(fields)
  config.lock()
  return config


def as_begun(config: ConfigDict, saved: dict) -> ConfigDict:
  """A config for going on with a run that began before there was a field.

  Of a field that changes what is computed, the run keeps the value under which
  it began: a stage without `min_steps` has no least length, one without
  `whole_epochs` counts the epochs of a branch by the branch's own images, and a
  network with heatmaps without `visibility` predicts none.

  Args:
    config: The config of this start; it is left as it is.
    saved: The config in the run's manifest, or {}.

  Returns:
    The config to go on with.
  """
  config = config.copy_and_resolve_references()
  # A copied config shares the stages, which are a tuple.
  config.stages = tuple(
    stage.copy_and_resolve_references() for stage in config.stages
  )
  for stage, begun in zip(config.stages, saved.get('stages', ()), strict=False):
    if 'min_steps' not in begun:
      stage.min_steps = 0
    if 'whole_epochs' not in begun:
      stage.whole_epochs = False
  model = saved.get('model', {})
  if 'visibility' in config.model and 'visibility' not in model and model:
    config.model.visibility = False
    for stage, begun in zip(config.stages, saved['stages'], strict=True):
      stage.weights.visibility = begun['weights']['visibility']
  weights = config.pretrained
  if weights and weights == saved.get('pretrained'):
    # A training that has begun no longer needs them.
    if not os.path.exists(os.path.expanduser(weights)):
      _take_input(config, saved)
  return config


def check_saved(saved: Any, file: str) -> dict:
  """Checks every field of a saved config.

  Args:
    saved: The config as JSON's dicts and lists, perhaps of an older version.
    file: The path of the file, for messages.

  Returns:
    The config in the same form, with its present names, see `translate`.

  Raises:
    InputError: A field is missing, unknown, or has a value that it cannot have.
  """
  place = config_rules.Place(file)
  for holder, needed in (
    (('config',), ('dataset', 'model', 'stages')),
    (('config', 'dataset'), ('name',)),
    (('config', 'model'), ('name', 'dtype')),
  ):
    value = functools.reduce(dict.get, holder[1:], saved)
    path = '.'.join(holder[1:])
    if not isinstance(value, dict):
      problem = f'is {shortened(value)}, must be an object'
      raise place.error(path, problem)
    for name in needed:
      if name not in value:
        inner = '.'.join([*holder[1:], name])
        raise place.error(inner, 'is missing')
  saved = translate(saved, file)
  for name in ('backbone', 'trunk'):
    if name not in saved['model']:
      raise place.error(f'model.{name}', 'is missing')
  config_rules.check(saved, file)
  name = saved['dataset']['name']
  if name not in names():
    raise place.error(
      'dataset.name',
      f'is {shortened(name)}, valid values are {", ".join(names())}',
      did_you_mean(name, names()),
    )
  known = {**defaults.base(name), 'stages': None, 'model': {'trunk': {}}}
  for path in config_rules.MODEL:
    holder = known['model']
    if path.startswith('trunk.'):
      holder = holder['trunk']
    holder[path.removeprefix('trunk.')] = holder.get(path)
  config_rules.check_fields(saved, known, file)
  for i, stage in enumerate(saved['stages']):
    fields = defaults.stage('')
    config_rules.check_fields(stage, fields, file, f'stages[{i}]')
  return saved


def translate(saved: dict, file: str) -> dict:
  """A saved config with its present names for what had others.

  Before there was `model.backbone`, a network's name said which trunk it stood
  on, whose options were the network's own fields.

  Args:
    saved: The config as JSON's dicts and lists; it is left as it is.
    file: The path of its file, for messages.

  Returns:
    The config in the same form.

  Raises:
    InputError: The config of an older version has no depth.
  """
  if 'backbone' in saved['model']:
    return saved
  model = dict(saved['model'])
  if model['name'] in ('dfa', 'fashionnet'):
    model['backbone'] = 'vgg16'
  elif 'depth' in model:
    model['backbone'] = f'resnet{model.pop("depth")}'
  else:
    raise config_rules.Place(file).error('model.backbone', 'is missing')
  if model['name'] == 'resnet_regression':
    model['name'] = 'fashionnet'
  options = model.keys() & {'blocks', 'batch_norm', 'width'}
  model['trunk'] = {option: model.pop(option) for option in sorted(options)}
  return {**saved, 'model': model}


def _tuples(value: Any) -> Any:
  """JSON's lists as tuples, which configs have."""
  if isinstance(value, dict):
    return {key: _tuples(entry) for key, entry in value.items()}
  if isinstance(value, list):
    return tuple(map(_tuples, value))
  return value
