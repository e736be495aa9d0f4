"""What each field of a config may be: the one place that says so.

The same rules serve the command line, where a field is a user's, and the
manifest of a run, which may be damaged or a stranger's. They need no JAX, so a
mistake on the command line is found at once; tests hold the names here against
the tables of the modules that do the work.
"""

import dataclasses
import numbers
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fld_jax.config import did_you_mean
from fld_jax.errors import InputError, shortened
from fld_jax.files.inside import is_plain


class Number(NamedTuple):
  """The rule of a finite number.

  Attributes:
    low: The smallest valid value.
    high: The largest valid value.
    whole: Whether it must be an integer.
  """

  low: float
  high: float
  whole: bool = False

  def valid(self, value: Any) -> bool:
    """Whether a value obeys the rule.

    Args:
      value: A value of any type.
    """
    kind = numbers.Integral if self.whole else numbers.Real
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    return is_number and self.low <= value <= self.high

  def __str__(self) -> str:
    kind = 'a whole number' if self.whole else 'a number'
    return f'{kind} from {self.low:.12g} to {self.high:.12g}'


def whole(low: int, high: int) -> Number:
  """The rule of an integer.

  Args:
    low: The smallest valid integer.
    high: The largest valid integer.
  """
  return Number(low, high, whole=True)


class Flag(NamedTuple):
  """The rule of True or False."""

  def valid(self, value: Any) -> bool:
    """Whether a value obeys the rule.

    Args:
      value: A value of any type.
    """
    return isinstance(value, bool)

  def __str__(self) -> str:
    return 'true or false'


class Text(NamedTuple):
  """The rule of a text.

  Attributes:
    plain: Whether it is the name of a file or folder, and must be no path.
  """

  plain: bool = False

  def valid(self, value: Any) -> bool:
    """Whether a value obeys the rule.

    Args:
      value: A value of any type.
    """
    if self.plain:
      return is_plain(value)
    return isinstance(value, str) and '\0' not in value and _encodes(value)

  def __str__(self) -> str:
    if self.plain:
      return "a name without '/' that is not '.' or '..'"
    return 'a text'


def _encodes(text: str) -> bool:
  """Whether a text can be the path of a file."""
  try:
    os.fsencode(text)
  except UnicodeEncodeError:  # half of a character
    return False
  return True


class OneOf(NamedTuple):
  """The rule of a text that is one of a few.

  Attributes:
    names: The valid texts.
  """

  names: tuple[str, ...]

  def valid(self, value: Any) -> bool:
    """Whether a value obeys the rule.

    Args:
      value: A value of any type.
    """
    return isinstance(value, str) and value in self.names


class Several(NamedTuple):
  """The rule of a list.

  Attributes:
    each: The rule of its entries.
    shortest: The smallest valid number of entries.
    longest: The largest valid number of entries.
  """

  each: Any
  shortest: int
  longest: int

  def valid(self, value: Any) -> bool:
    """Whether a value obeys the rule.

    Args:
      value: A value of any type.
    """
    return (
      isinstance(value, list | tuple)
      and self.shortest <= len(value) <= self.longest
      and all(map(self.each.valid, value))
    )

  def __str__(self) -> str:
    count = f'{self.shortest}'
    if self.longest != self.shortest:
      count += f' to {self.longest}'
    return f'a list of {count}, each {self.each}'


class Pair(NamedTuple):
  """The rule of a list of two values of different kinds.

  Attributes:
    first: The rule of the first value.
    second: The rule of the second value.
  """

  first: Any
  second: Any

  def valid(self, value: Any) -> bool:
    """Whether a value obeys the rule.

    Args:
      value: A value of any type.
    """
    return (
      isinstance(value, list | tuple)
      and len(value) == 2
      and self.first.valid(value[0])
      and self.second.valid(value[1])
    )

  def __str__(self) -> str:
    return f'a list of two, {self.first} and {self.second}'


FLAG, TEXT = Flag(), Text()
COUNT = whole(0, 10**12)
SHARE = Number(0, 1)
FACTOR = Number(0, 1e6)
POSITIVE = Number(1e-6, 1e6)
SIDE = whole(1, 65536)
DTYPES = ('float32', 'bfloat16', 'float16')

BASE = {
  'seed': whole(0, 2**31 - 1),
  'batch_size': SIDE,
  'parallel': OneOf(('shard_map', 'pmap')),
  'log_every_steps': whole(1, 10**12),
  'on_nan': OneOf(('stop', 'skip')),
  'eval_splits': Several(Text(plain=True), 1, 64),
  'dataset.name': TEXT,
  'dataset.manual_dir': TEXT,
  'dataset.labels': OneOf(('coarse', 'fine')),
  'dataset.annotations': TEXT,
  'dataset.images': TEXT,
  'dataset.detections': TEXT,
  'dataset.centric': OneOf(('observer', 'person')),
  'dataset.clothes_type': TEXT,
  'dataset.data_dir': TEXT,
  'dataset.swaps': TEXT,
  'dataset.splits.train': Text(plain=True),
  'dataset.splits.tune': Text(plain=True),
  'dataset.on_corrupt': OneOf(('stop', 'skip')),
  'dataset.sizes.train': whole(1, 10**9),
  'dataset.sizes.val': whole(1, 10**9),
  'dataset.sizes.test': whole(1, 10**9),
  'dataset.seed': whole(0, 2**31 - 1),
  'input.size': whole(8, 4096),
  'input.crop': OneOf(('pad_square', 'bbox_wh', 'image')),
  'input.margin': Number(0, 10),
  'input.mean': Several(Number(-1e6, 1e6), 3, 3),
  'input.std': Several(Number(1e-3, 1e6), 3, 3),
  'input.num_threads': whole(0, 1024),
  'input.num_workers': whole(0, 1024),
  'augment.flip': FLAG,
  'augment.scale': Number(0, 5),
  'augment.rotation': Number(0, 360),
  'augment.shift': Number(0, 10),
  'augment.colour': SHARE,
  'augment.surroundings': FLAG,
  'augment.box_noise': Number(0, 1),
  'augment.cutout': SHARE,
  'augment.mild_share': SHARE,
  'pretrained': TEXT,
  'offset_scale': POSITIVE,
  'flip_test': FLAG,
  'heatmap.decoder': OneOf(('quarter', 'soft_argmax', 'dark')),
  'heatmap.sigma': POSITIVE,
  'heatmap.amplitude': POSITIVE,
  'heatmap.shift': Number(-100, 100),
  'heatmap.alpha': POSITIVE,
  'position_constraint.partition': TEXT,
  'position_constraint.k': SIDE,
  'position_constraint.space': OneOf(('input_px', 'heatmap_px', 'normalized')),
  'position_constraint.mask': OneOf(('annotated', 'visible')),
  'position_constraint.pair_mean': FLAG,
  'routing.mode': OneOf(('route', 'average', 'two_branch')),
  'routing.epsilon': Number(-1e9, 1e9),
  'routing.quantile': SHARE,
}
MODEL = {
  # Names of the tables in fld_jax/models, which `build_model` looks up.
  'name': TEXT,
  'backbone': TEXT,
  'dtype': OneOf(DTYPES),
  'channels': SIDE,
  'merge': FLAG,
  'state': SIDE,
  'visibility': FLAG,
  'stride': whole(4, 8),
  'num_types': whole(1, 1024),
  'num_attributes': whole(1, 65536),
  'at_landmarks': FLAG,
  'split': whole(1, 16),
  'pool': whole(0, 256),
  'local_maps': Several(Text(plain=True), 0, 9),
  'patch': whole(1, 4096),
  'select': OneOf(('max', 'gate')),
  'steps': whole(1, 64),
  'transform_rate': FACTOR,
  'hidden': SIDE,
  'dropout': Number(0, 0.999),
  'trunk.blocks': Several(Pair(whole(1, 16), whole(1, 8192)), 1, 12),
  'trunk.batch_norm': FLAG,
  'trunk.width': whole(1, 4096),
  'trunk.frozen': whole(0, 1000),
}
STAGE = {
  'name': Text(plain=True),
  'train_steps': COUNT,
  'train_epochs': Number(0, 1e9),
  'min_steps': COUNT,
  'eval_steps': COUNT,
  'eval_epochs': Number(0, 1e9),
  'init': OneOf(('random', 'previous', 'continue')),
  'estimate_noise': Number(0, 10),
  'estimate_from': OneOf(('previous', 'errors')),
  'input_size': COUNT,
  'checkpoint': TEXT,
  'branches': FLAG,
  'branch_temperature': FACTOR,
  'whole_epochs': FLAG,
  'pseudo_label.num_clusters': whole(0, 65536),
  'pseudo_label.space': OneOf(('absolute', 'offset', 'context_offset')),
  'pseudo_label.temperature': POSITIVE,
  'pseudo_label.normalize': FLAG,
  'pseudo_label.context_transform': OneOf(('signed_sqrt', 'raw')),
  'pseudo_label.loss': OneOf(('euclidean', 'xent_soft', 'xent_hard')),
  'pseudo_label.refit': FACTOR,
  'weights.landmarks': FACTOR,
  'weights.heatmaps': FACTOR,
  'weights.heatmap_entropy': FACTOR,
  'weights.bins': FACTOR,
  'weights.scaled_landmarks': FACTOR,
  'weights.parts': FACTOR,
  'weights.relations': FACTOR,
  'weights.tree': FACTOR,
  'weights.position_constraint': FACTOR,
  'weights.pair_order': FACTOR,
  'weights.attributes': FACTOR,
  'weights.visibility': FACTOR,
  'weights.pseudo_label': FACTOR,
  'weights.category': FACTOR,
  'average': Number(0, 0.999999),
  'landmark_loss': OneOf(('l1', 'l2')),
  'weight_schedule': OneOf(
    ('ramp_down', 'paper_literal', 'author_issue6', 'constant')
  ),
  'weight_t1': SHARE,
  'weight_t2': SHARE,
  'visibility_floor': SHARE,
  'optimizer.name': OneOf(('sgd', 'adam', 'adamw')),
  'optimizer.momentum': SHARE,
  'optimizer.learning_rate': FACTOR,
  'optimizer.trunk_rate': FACTOR,
  'optimizer.schedule': OneOf(('step', 'cosine', 'constant')),
  'optimizer.step_at': Several(Number(0, 1e12), 0, 64),
  'optimizer.step_factor': FACTOR,
  'optimizer.warmup': SHARE,
  'optimizer.weight_decay': FACTOR,
  'optimizer.clip_norm': FACTOR,
}
# Of fields that have no rule of their own, by the type of their default.
BY_TYPE = {
  bool: FLAG,
  int: whole(-(10**15), 10**15),
  float: Number(-1e12, 1e12),
  str: TEXT,
}
MAX_STAGES = 64
MAX_BATCH = 2**32  # pixels of a batch of crops


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a config stands, for messages.

  Attributes:
    file: The path of the file; '' for a config of the command line.
  """

  file: str = ''

  def error(self, path: str, problem: str, hint: str = '') -> InputError:
    """The InputError for a field, for the caller to raise.

    Args:
      path: The field's path in the config; '' for the config itself.
      problem: What is wrong, from the verb on.
      hint: A sentence that follows, see `did_you_mean`.
    """
    name = f'config.{path}' if path else 'config'
    start = f'{self.file}, {name}:' if self.file else name
    return InputError(f'{start} {problem}.{hint}', 'config')

  def check(self, path: str, value: Any, rule: Any) -> None:
    """Refuses a value that its field cannot have.

    Args:
      path: The field's path in the config.
      value: The value.
      rule: The rule of the field.

    Raises:
      InputError: The value is not valid. The message names the field, the value
        and what is valid.
    """
    if rule.valid(value):
      return
    if isinstance(rule, OneOf):
      hint = did_you_mean(value, rule.names) if isinstance(value, str) else ''
      valid = ', '.join(map(repr, rule.names))
      raise self.error(
        path, f'is {shortened(value)}, valid values are {valid}', hint
      )
    if isinstance(rule, Several) and isinstance(value, list | tuple):
      if rule.shortest <= len(value) <= rule.longest:
        for i, entry in enumerate(value):
          self.check(f'{path}[{i}]', entry, rule.each)
    raise self.error(path, f'is {shortened(value)}, must be {rule}')


def check(config: Mapping | ConfigDict, file: str = '') -> None:
  """Refuses a config with a value that its field cannot have.

  Args:
    config: A ConfigDict, or the dicts and lists of a manifest. A config for
      --mode=ablation has other fields beside those of a run, which are not
      looked at.
    file: The path of the file that the config was read from; '' for a config of
      the command line.

  Raises:
    InputError: A value is not valid. The message names the field, the value
      and what is valid.
  """
  place = Place(file)
  _check_group(place, '', config, BASE)
  _check_batch(place, config)
  if 'model' in config:
    _check_group(place, 'model', config['model'], MODEL)
  if 'stages' in config:
    _check_stages(place, config['stages'])
  if 'model' in config:
    _check_sides(place, config)


def _check_group(
  place: Place, path: str, group: Any, rules: Mapping[str, Any]
) -> None:
  """Checks the fields of a part of a config that have a rule."""
  _check_object(place, path, group)
  for name in rules:
    holder, inner = group, path
    *parents, last = name.split('.')
    for parent in parents:
      inner = _join(inner, parent)
      holder = holder.get(parent, {})
      _check_object(place, inner, holder)
    if last in holder:
      place.check(_join(inner, last), holder[last], rules[name])


def _check_object(place: Place, path: str, value: Any) -> None:
  """Refuses a value that is not a part of a config with fields of its own."""
  if not isinstance(value, dict | ConfigDict):
    raise place.error(path, f'is {shortened(value)}, must be an object')


def _join(path: str, name: str) -> str:
  """The path of a field of a part; the path of a config itself is ''."""
  return f'{path}.{name}' if path else name


def _check_batch(place: Place, config: Mapping | ConfigDict) -> None:
  """Refuses a batch of crops that no memory holds."""
  size = config.get('input', {}).get('size', 1)
  most, count = MAX_BATCH // size**2, config.get('batch_size', 1)
  if count > most:
    raise place.error(
      'batch_size',
      f'is {count}, must be at most {most} for crops of config.input.size '
      f'{size}',
    )


def _check_sides(place: Place, config: Mapping | ConfigDict) -> None:
  """Refuses crops that a stage cannot see.

  They are a whole part of those that are cut, and a VGG does not halve them
  more often than there are pixels.
  """
  blocks = len(config['model'].get('trunk', {}).get('blocks', ()))
  size = config.get('input', {}).get('size', 2**blocks)
  least = f'at least {2**blocks}, as the trunk halves it {blocks} times'
  if size < 2**blocks:
    raise place.error('input.size', f'is {size}, must be {least}')
  for i, stage in enumerate(config.get('stages', ())):
    side, path = stage.get('input_size', 0), f'stages[{i}].input_size'
    if side and (side > size or size % side):
      raise place.error(
        path,
        f'is {side}, must be 0 or divide config.input.size, which is {size}',
      )
    if 0 < side < 2**blocks:
      raise place.error(path, f'is {side}, must be 0 or {least}')


def _check_stages(place: Place, stages: Any) -> None:
  """Refuses a list of stages without names of their own or valid fields."""
  if not isinstance(stages, list | tuple) or not 1 <= len(stages) <= MAX_STAGES:
    raise place.error(
      'stages',
      f'is {shortened(stages)}, must be a list of 1 to {MAX_STAGES} stages',
    )
  names = []
  for i, stage in enumerate(stages):
    path = f'stages[{i}]'
    _check_group(place, path, stage, STAGE)
    if 'name' not in stage:
      raise place.error(f'{path}.name', 'is missing')
    if stage['name'] in names:
      raise place.error(
        f'{path}.name', f'is {stage["name"]!r}, which an earlier stage has'
      )
    names.append(stage['name'])
    if stage.get('branches', False) and i != len(stages) - 1:
      raise place.error(
        f'{path}.branches',
        f'is True, and only the last of {len(stages)} stages can have branches',
      )
    _check_labels(place, path, stage)
    if stage.get('init') == 'continue':
      _check_continues(place, stages, i)


def _check_labels(place: Place, path: str, stage: Mapping | ConfigDict) -> None:
  """Refuses to fit again a head of pseudo-labels that there is not."""
  label = stage.get('pseudo_label', {})
  strength = label.get('refit', 0)
  if not strength:
    return
  if stage.get('branches', False):
    raise place.error(
      f'{path}.pseudo_label.refit',
      f'is {strength}, and pseudo-labels of branches route no image: must be 0',
    )
  if not label.get('num_clusters', 1):
    raise place.error(
      f'{path}.pseudo_label.refit',
      f'is {strength}, and the stage has no pseudo-labels: must be 0',
    )
  if not label.get('normalize', True):
    raise place.error(
      f'{path}.pseudo_label.refit',
      f'is {strength}, and must be 0 unless pseudo_label.normalize is True',
    )


# Of the pseudo-labels, what a stage that continues another one shares with it.
SHARED_LABEL = ('num_clusters', 'space', 'normalize', 'context_transform')


def _check_continues(place: Place, stages: Any, index: int) -> None:
  """Refuses a stage that cannot come in the place of the one before it."""
  path, stage = f'stages[{index}]', stages[index]
  if not stage.get('branches', False) or index < 2:
    raise place.error(
      f'{path}.init',
      "is 'continue', which is for branches of a stage that corrects another "
      'one: valid for the last of at least 3 stages, with branches',
    )
  ours, theirs = (stages[i].get('pseudo_label', {}) for i in (index, index - 1))
  for name in SHARED_LABEL:
    if ours.get(name) != theirs.get(name):
      raise place.error(
        f'{path}.pseudo_label.{name}',
        f"is {ours.get(name)!r}, and as its init is 'continue', it must be "
        f'that of the stage before, {theirs.get(name)!r}',
      )


def check_fields(
  saved: Mapping, known: Mapping | ConfigDict, file: str, path: str = ''
) -> None:
  """Refuses fields that configs do not have, or have with another type.

  Args:
    saved: The config of a file, or a part of it, as dicts and lists.
    known: The same part of a config with all fields, for which a value of type
      dict or ConfigDict is a part with fields of its own.
    file: The path of the file, for messages.
    path: The path of the part in the config.

  Raises:
    InputError: A field is unknown or of another type. The message names it and
      what is valid.
  """
  place = Place(file)
  for name, value in saved.items():
    inner = _join(path, shortened(name)[1:-1])
    if name not in known:
      raise place.error(
        inner,
        f'is no field, valid are {", ".join(known)}',
        did_you_mean(name, known),
      )
    if isinstance(known[name], dict | ConfigDict):
      _check_object(place, inner, value)
      check_fields(value, known[name], file, inner)
    elif type(known[name]) in BY_TYPE:
      place.check(inner, value, BY_TYPE[type(known[name])])
