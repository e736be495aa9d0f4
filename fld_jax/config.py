"""What every config file and `main` share about configs."""

import ast
import importlib.util
import os
import re
from typing import Any

from ml_collections import ConfigDict

from fld_jax.errors import InputError

# What XLA does best on a CPU; flags of the CPU alone. Its default library for
# convolutions is two to three times slower than the one it had before; an empty
# value turns it off. And where a CPU has vectors of 512 bits, it uses half of
# them unless told: so a train step of a small SimpleBaselines is a quarter
# faster, and a large one no slower.
XLA_CPU_FLAGS = (
  '--xla_cpu_experimental_ynn_fusion_type= --xla_cpu_prefer_vector_width=512'
)


def parse_arg(arg: str | None, **defaults) -> dict:
  """Reads the argument after a config file's colon.

  Args:
    arg: 'key=value,key=value', or None. A value takes the type of its
      default.
    **defaults: every key that is understood, each a string, number, bool or a
      tuple of the valid strings, the first of which is the default.

  Returns:
    The defaults with the given values.

  Raises:
    InputError: for a key or value that is not understood.
  """
  given = {}
  for part in filter(None, (arg or '').split(',')):
    key, _, value = part.partition('=')
    if key not in defaults:
      raise InputError(
        f"The config argument '{key}' is unknown, valid ones are "
        f'{", ".join(defaults)}.'
      )
    given[key] = value
  result = {}
  for key, default in defaults.items():
    if isinstance(default, tuple):
      result[key] = given.get(key, default[0])
      if result[key] not in default:
        raise InputError(
          f"The config argument {key} is '{result[key]}', valid values are "
          f'{", ".join(default)}.'
        )
    elif key not in given or isinstance(default, str):
      result[key] = given.get(key, default)
    else:
      try:
        result[key] = type(default)(ast.literal_eval(given[key]))
      except (ValueError, SyntaxError) as error:
        raise InputError(
          f"The config argument {key} is '{given[key]}', which is no "
          f'{type(default).__name__}.'
        ) from error
  return result


def difference(old, new, path: str = '') -> tuple[tuple[str, Any, Any], ...]:
  """Where two configs differ: path, old and new value.

  Args:
    old: ConfigDict, or a part of one.
    new: likewise.
    path: of both.

  Returns:
    ('stages[0].train_epochs', 8.0, 5.0), for example. Parts that have not the
    same fields, or not as many entries, count as one value.
  """
  both = lambda kind: isinstance(old, kind) and isinstance(new, kind)
  if both(ConfigDict) and old.keys() == new.keys():
    inner = [(f'.{k}' if path else k, old[k], new[k]) for k in old]
  elif both(tuple) and len(old) == len(new):
    inner = [
      (f'[{i}]', *pair) for i, pair in enumerate(zip(old, new, strict=True))
    ]
  else:
    return ((path, old, new),) if old != new else ()
  pairs = [difference(a, b, path + name) for name, a, b in inner]
  return sum(pairs, ())


def find_flag(arguments: list[str], name: str) -> str | None:
  """The value of a flag on a command line, the last one given; None if none.

  Args:
    arguments: with --NAME=VALUE or --NAME VALUE among them.
    name: of the flag.
  """
  start = f'--{name}='
  pairs = zip(arguments, [*arguments[1:], None], strict=True)
  given = [
    argument.removeprefix(start) if argument.startswith(start) else following
    for argument, following in pairs
    if argument.startswith(start) or argument == f'--{name}'
  ]
  return given[-1] if given else None


def find_config(arguments: list[str]) -> tuple[str, str | None] | None:
  """The config file that a command line names, and its argument.

  Args:
    arguments: with --config=FILE[:ARG] or --config FILE[:ARG] among them.

  Returns:
    (FILE, ARG or None); None if there is no such flag.

  Raises:
    InputError: if there is no such file.
  """
  given = find_flag(arguments, 'config')
  if given is None:
    return None
  path, _, arg = given.partition(':')
  if not os.path.isfile(path):
    raise InputError(f"There is no config file '{path}'.")
  return path, arg or None


def explain_overrides(arguments: list[str]) -> None:
  """Names the override on a command line whose field the config has not.

  Args:
    arguments: of the command line, see `find_config`.

  Raises:
    InputError: naming the field and the fields that there are beside it.
      Returns if every override names a field.
  """
  place = find_config(arguments)
  config = _load(*place) if place else {}
  for argument in arguments:
    if not argument.startswith('--config.'):
      continue
    path = argument.removeprefix('--config.').partition('=')[0]
    holder, seen = config, 'config'
    for name, index in re.findall(r'(\w+)|\[(\d+)\]', path):
      if name:
        valid = sorted(holder.keys()) if hasattr(holder, 'keys') else []
        found = name in valid
      else:
        valid = list(map(str, range(len(holder))))
        found = index in valid
      if not found:
        raise InputError(
          f"There is no config field '{path}': {seen} has "
          f'{", ".join(valid) or "no fields"}.'
        )
      holder = holder[name or int(index)]
      seen += f'.{name}' if name else f'[{index}]'


def _load(path: str, arg: str | None = None):
  spec = importlib.util.spec_from_file_location('config_file', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(arg)
