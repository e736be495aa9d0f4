"""Attributes and landmarks of garments from one light network.

  python -m fld_jax.main --workdir=W \
    --config=configs/attributes.py:dataset=deepfashion,size=small \
    --config.dataset.manual_dir=FOLDER

The network is that of configs/detector.py, and from the same trunk it predicts
attributes: from the whole item, and from what is around the landmarks that it
finds (docs/retrieval.md).

Arguments after the colon:
  dataset  a data set whose records have attributes; without it synthetic,
           rendered garments that need no files
  size     small, medium or large: crops of 96, 128 and 224 pixels
  features  landmarks: what is around the landmarks beside the whole item; or
           item: the whole item alone
  trunk    tuned; or frozen: the trunk keeps its weights for ImageNet, so that
           a perceptron on features off the shelf is trained (Liu et al., ECCV
           2016, section 4.4)
  pretrained  imagenet: weights of a package (docs/installation.md); none; a
           file of torchvision's weights; or a run's folder
"""

from ml_collections import ConfigDict

from fld_jax.config import parse_arg
from fld_jax.configs import detector
from fld_jax.datasets.synthetic.garments import ATTRIBUTE_NAMES

# Data set -> the number of its attributes. For another release of
# DeepFashion's, --config.model.num_attributes says it.
DATASETS = {'synthetic': len(ATTRIBUTE_NAMES), 'deepfashion': 26}
BLOCKS = 16  # of EfficientNet-Lite0


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the config of the joint network, a cascade of one stage.

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
    size=tuple(detector.SIZES),
    features=('landmarks', 'item'),
    trunk=('tuned', 'frozen'),
    pretrained='imagenet',
  )
  config = detector.get_config(
    f'dataset={arg["dataset"]},size={arg["size"]},'
    f'pretrained={arg["pretrained"]}'
  )
  config.unlock()
  config.model.name = 'attributes'
  config.model.num_attributes = DATASETS[arg['dataset']]
  config.model.at_landmarks = arg['features'] == 'landmarks'
  config.model.update({'hidden': 512, 'dropout': 0.3})
  if arg['trunk'] == 'frozen':
    config.model.trunk.frozen = BLOCKS
  (stage,) = config.stages
  stage.weights.attributes = 3.0
  config.lock()
  return config
