"""Readers of config arguments and overrides, and the comparison of configs."""

import ast
import difflib
import functools
import importlib.util
import logging
import os
import pathlib
import re
import sys
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from fld_jax.errors import InputError

# XLA's fastest settings for CPUs; they change nothing on other devices. Its
# default library for convolutions is two to three times slower than the one it
# had before; an empty value turns it off. Where a CPU has vectors of 512 bits,
# XLA uses half of each by default: with whole vectors a train step of a small
# SimpleBaselines is a quarter faster, and that of a large one no slower.
XLA_CPU_FLAGS = (
  '--xla_cpu_experimental_ynn_fusion_type= --xla_cpu_prefer_vector_width=512'
)


# The config files that are installed with fld_jax.
CONFIGS = pathlib.Path(__file__).parent / 'configs'


def set_xla_cpu_flags() -> None:
  """Sets XLA's fastest flags for CPUs, unless XLA_FLAGS is set already.

  XLA reads the flags when JAX first looks for devices, so JAX may be imported
  already. If it has looked for devices and works on a CPU, a warning says once
  how to have the flags.
  """
  if 'XLA_FLAGS' in os.environ:  # whoever sets it decides
    return
  # JAX has no public function for this; where it is not imported, it has not
  # looked for devices.
  bridge = sys.modules.get('jax._src.xla_bridge')
  if bridge is None or not bridge.backends_are_initialized():
    os.environ['XLA_FLAGS'] = XLA_CPU_FLAGS
  elif sys.modules['jax'].default_backend() == 'cpu':
    _warn_of_slow_cpu()


@functools.cache  # once a process
def _warn_of_slow_cpu() -> None:
  """Warns that XLA's flags come too late."""
  logging.getLogger('fld_jax').warning(
    'JAX was in use before fld_jax could set XLA_FLAGS, so networks run up to '
    "2.6 times slower on this CPU: load before JAX is used, or set XLA_FLAGS='"
    "%s' yourself.",
    XLA_CPU_FLAGS,
  )


def did_you_mean(name: str, valid: Iterable[str]) -> str:
  """Returns a hint for a misspelt name.

  Args:
    name: The name that was given.
    valid: The valid names.

  Returns:
    ' Did you mean X?' with the closest valid name, '' if none is close.
  """
  close = difflib.get_close_matches(name, list(valid), n=1)
  return f" Did you mean '{close[0]}'?" if close else ''


def parse_arg(
  arg: str | None, **defaults: str | float | bool | tuple[str, ...]
) -> dict[str, Any]:
  """Reads the argument after a config file's colon.

  Args:
    arg: The text 'key=value,key=value', or None for the defaults alone. A
      value takes the type of its default.
    **defaults: Every valid key with its default, a string, number or bool; or
      with a tuple of the valid strings, the first of which is the default.

  Returns:
    Every key with its value.

  Raises:
    InputError: If a key is unknown, or a value is not valid for its key.
  """
  given = {}
  for part in filter(None, (arg or '').split(',')):
    key, _, value = part.partition('=')
    if key not in defaults:
      raise InputError(
        f"The config argument '{key}' is unknown, valid ones are "
        f'{", ".join(defaults)}.{did_you_mean(key, defaults)}'
      )
    given[key] = value
  result = {}
  for key, default in defaults.items():
    if isinstance(default, tuple):
      result[key] = given.get(key, default[0])
      if result[key] not in default:
        raise InputError(
          f"The config argument {key} is '{result[key]}', valid values are "
          f'{", ".join(default)}.{did_you_mean(result[key], default)}'
        )
    elif key not in given or isinstance(default, str):
      result[key] = given.get(key, default)
    else:
      try:
        result[key] = type(default)(ast.literal_eval(given[key]))
      except (ValueError, SyntaxError) as error:
        raise InputError(
          f"The config argument {key} is '{given[key]}', which is not of "
          f'type {type(default).__name__}.'
        ) from error
  return result


def difference(
  old: Any, new: Any, path: str = ''
) -> tuple[tuple[str, Any, Any], ...]:
  """Finds the fields in which two configs differ.

  Args:
    old: A ConfigDict, or a part of one.
    new: The ConfigDict or part to compare with `old`.
    path: The path of the two parts in their configs, '' for whole configs.

  Returns:
    Triples of path, old and new value, such as ('stages[0].train_epochs', 8.0,
    5.0). Parts that differ in their fields, or in the number of their entries,
    count as one value, as do tuples of plain values, whose entries cannot be
    set.
  """
  both = lambda kind: isinstance(old, kind) and isinstance(new, kind)
  if both(ConfigDict) and old.keys() == new.keys():
    inner = [(f'.{k}' if path else k, old[k], new[k]) for k in old]
  elif (
    both(tuple)
    and len(old) == len(new)
    and all(isinstance(entry, ConfigDict) for entry in (*old, *new))
  ):
    inner = [
      (f'[{i}]', *pair) for i, pair in enumerate(zip(old, new, strict=True))
    ]
  else:
    return ((path, old, new),) if old != new else ()
  pairs = [difference(a, b, path + name) for name, a, b in inner]
  return sum(pairs, ())


def find_flag(arguments: list[str], name: str) -> str | None:
  """Finds the value of a flag on a command line.

  Args:
    arguments: The words of the command line, in which the flag may be given as
      --NAME=VALUE or --NAME VALUE.
    name: The flag's name.

  Returns:
    The value that was given last, None if the flag is not given.
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
  """Finds the config file that a command line names, and its argument.

  Args:
    arguments: The words of the command line, in which the file may be given as
      --config=FILE[:ARG] or --config FILE[:ARG].

  Returns:
    (FILE, ARG or None), None if there is no such flag.

  Raises:
    InputError: If the file does not exist.
  """
  given = find_flag(arguments, 'config')
  if given is None:
    return None
  path, _, arg = given.partition(':')
  if not os.path.isfile(path):
    files = map(str, pathlib.Path(path).parent.glob('*.py'))
    hint = did_you_mean(path, files)
    installed = CONFIGS / os.path.basename(path)
    if not hint and installed.is_file():
      hint = f" Did you mean '{installed}'?"
    raise InputError(f"There is no config file '{path}'.{hint}")
  return path, arg or None


def explain_overrides(arguments: list[str]) -> None:
  """Refuses an override on a command line whose field the config lacks.

  Args:
    arguments: The words of the command line, in which an override is given as
      --config.PATH=VALUE.

  Raises:
    InputError: If an override names no field. The message lists the fields that
      there are in its place.
  """
  place = find_config(arguments)
  config = _load(*place) if place else {}
  for argument in arguments:
    if argument.startswith('--config.'):
      check_field(config, argument.removeprefix('--config.').partition('=')[0])


def check_field(config: ConfigDict | dict, path: str) -> None:
  """Refuses a path that names no field of a config.

  Args:
    config: The config; {} if there is none.
    path: The field's path, such as 'stages[0].optimizer.name'.

  Raises:
    InputError: If there is no such field. The message lists the fields that
      there are in its place.
  """
  holder, seen = config, 'config'
  for name, index in re.findall(r'(\w+)|\[(\d+)\]', path):
    if name:
      valid = sorted(holder.keys()) if hasattr(holder, 'keys') else []
      found = name in valid
    else:
      valid = (
        list(map(str, range(len(holder)))) if isinstance(holder, tuple) else []
      )
      found = index in valid
    if not found:
      raise InputError(
        f"There is no config field '{path}': {seen} has "
        f'{", ".join(valid) or "no fields"}.{did_you_mean(name, valid)}'
      )
    holder = holder[name or int(index)]
    seen += f'.{name}' if name else f'[{index}]'


def _load(path: str, arg: str | None = None) -> ConfigDict:
  """Calls `get_config` of a config file.

  Args:
    path: The path of the file.
    arg: The argument after the file's colon, None without one.
  """
  spec = importlib.util.spec_from_file_location('config_file', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(arg)
