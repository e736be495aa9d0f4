"""The fields of a config with their values and meanings: `--mode=config`.

A field's meaning is its comment in the source of `fld_jax.defaults`, so that it
is written once, beside the default.
"""

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from fld_jax import defaults

WIDTH = 100  # columns of the text


def describe(config: ConfigDict) -> str:
  """Every field of a config, with its value and meaning.

  Args:
    config: A config of a file in configs/, or a run's.

  Returns:
    A line a field, and below it the meaning. Fields whose values differ from
    those of fld_jax/defaults.py are marked by '*'.
  """
  known = dict(fields(defaults.base(config.dataset.name)))
  stage = dict(fields(defaults.stage('')))
  lines = []
  for path, value in fields(config):
    in_stage = re.sub(r'^stages\[\d+\]\.', '', path)
    default = stage if in_stage != path else known
    # Every stage has another name.
    differs = in_stage in default and in_stage != 'name'
    differs = differs and value != default[in_stage]
    lines.append(f'{"*" if differs else " "} {path} = {value!r}')
    lines += textwrap.wrap(
      _sentence(meaning(path)),
      width=WIDTH,
      initial_indent=' ' * 6,
      subsequent_indent=' ' * 6,
    )
  lines.append(
    '\n* differs from the default of fld_jax/defaults.py. '
    '--config.FIELD=VALUE changes a field.'
  )
  return '\n'.join(lines)


def _sentence(text: str) -> str:
  return f'{text[:1].upper()}{text[1:].removesuffix(".")}.'


def meaning(path: str) -> str:
  """The meaning of a field, or '' if there is no comment on it.

  Args:
    path: The field's path in its config, such as 'stages[0].optimizer.name'.
  """
  first, _, rest = path.partition('.')
  if first == 'model':
    return defaults.MODEL_FIELDS.get(path.rpartition('.')[2], '')
  if re.fullmatch(r'stages\[\d+\]', first):
    return comments(defaults.stage).get(rest, '')
  if first == 'rows':  # rows.NAME.FIELD, rows.NAME.paper.LANDMARK
    path = f'rows.{rest.split(".")[1]}'
  if path in defaults.TABLE_FIELDS:
    return defaults.TABLE_FIELDS[path]
  return comments(defaults.base).get(path, '')


def comments(function: Callable) -> dict[str, str]:
  """The comments on the fields that a function gives a config.

  Args:
    function: A function whose variable `config` is the config, to which it
      assigns field by field, or groups of fields as a dict.

  Returns:
    Path of a field -> its comment: the lines above it, and what stands behind
    it. Of several assignments to a field the first counts.
  """
  source = textwrap.dedent(inspect.getsource(function))
  above, behind = {}, {}  # by line
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT:
      alone = not token.line[: token.start[1]].strip()
      text = token.string.removeprefix('#').strip()
      (above if alone else behind)[token.start[0]] = text
  found = {}
  for path, first, last in _assignments(ast.parse(source)):
    words = [behind.get(last, '')]
    line = first - 1
    while line in above:
      words.insert(0, above[line])
      line -= 1
    found.setdefault(path, ' '.join(filter(None, words)))
  return found


def _assignments(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
  """(path, first line, last line) of what is assigned to `config.PATH`.

  The entries of a dict that is assigned come by themselves.
  """
  for node in ast.walk(tree):
    if not isinstance(node, ast.Assign):
      continue
    path = ast.unparse(node.targets[0])
    if not path.startswith('config.'):
      continue
    path = path.removeprefix('config.')
    yield path, node.lineno, node.end_lineno
    for inner in ast.walk(node.value):
      if isinstance(inner, ast.Dict):
        for key, value in zip(inner.keys, inner.values, strict=True):
          yield f'{path}.{key.value}', key.lineno, value.end_lineno


def fields(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
  """(path, value) of every field, in the order of the config."""
  if isinstance(value, ConfigDict):
    for name, entry in value.items():
      yield from fields(entry, f'{path}.{name}' if path else name)
  elif isinstance(value, tuple) and any(
    isinstance(entry, ConfigDict) for entry in value
  ):
    for i, entry in enumerate(value):
      yield from fields(entry, f'{path}[{i}]')
  else:
    yield path, value
