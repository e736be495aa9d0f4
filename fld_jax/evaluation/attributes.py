"""The attributes of a data set, and how well a run predicts them.

W/attributes.json   the names and groups of the attributes that a run predicts
"""

import pathlib

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from tabulate import tabulate

from fld_jax.errors import InputError, shortened
from fld_jax.evaluation.text_tables import percent
from fld_jax.files import json_files
from fld_jax.metrics import attributes as metrics
from fld_jax.metrics.attributes import AttributeSet

NAME = 'attributes.json'


def of_data(builder: tfds.core.DatasetBuilder) -> AttributeSet:
  """The attributes that the records of a data set have, perhaps none.

  Args:
    builder: The builder of the data set.
  """
  names = (builder.info.metadata or {}).get('attribute_names', ())
  return AttributeSet(tuple(names), tuple(builder.attribute_groups()))


def check(config: ConfigDict, builder: tfds.core.DatasetBuilder) -> None:
  """Refuses to train on records with another number of attributes.

  Args:
    config: The run's config.
    builder: The builder of the data set.

  Raises:
    InputError: The network predicts attributes, and not as many as there are.
  """
  wished = config.model.get('num_attributes')
  if wished is None:
    return
  count = len(of_data(builder).names)
  if wished == count:
    return
  hint = f'--config.model.num_attributes={count}'
  if not count:
    hint = 'choose a data set with attributes, or another config.model.name'
  raise InputError(
    f'config.model.num_attributes is {wished}, and the records of '
    f'{builder.info.full_name} have {count} attributes: {hint}.'
  )


def save(workdir: pathlib.Path, attributes: AttributeSet) -> None:
  """Writes what a run predicts.

  Args:
    workdir: The run's folder.
    attributes: The attributes.
  """
  value = {'names': list(attributes.names), 'groups': list(attributes.groups)}
  json_files.write_json(workdir / NAME, value)


def read(workdir: pathlib.Path, count: int | None) -> AttributeSet | None:
  """Reads what a run predicts.

  Args:
    workdir: The run's folder.
    count: How many attributes its network has, None if it has none.

  Returns:
    The attributes; None if the network predicts none.

  Raises:
    InputError: The file is missing or damaged.
  """
  if count is None:
    return None
  path = workdir / NAME
  found = json_files.read_json(path)
  found = found if isinstance(found, dict) else {}
  for field in ('names', 'groups'):
    value = found.get(field)
    if (
      not isinstance(value, list)
      or len(value) != count
      or not all(isinstance(name, str) and name for name in value)
    ):
      raise InputError(
        f'{path}, {field}: is {shortened(value)}, must be {count} names'
      )
  return AttributeSet(tuple(found['names']), tuple(found['groups']))


def figures(rows: dict, builder: tfds.core.DatasetBuilder) -> dict | None:
  """The figures of the attributes that the last stage predicts.

  Args:
    rows: What `Cascade.predict` returned.
    builder: The builder of the data set.

  Returns:
    The result of `metrics.attributes.evaluate`, and `accuracy_error`, the
    bootstrap's standard error of `accuracy`; None if the network predicts no
    attributes, or the records have none.
  """
  scores = list(rows['stages'].values())[-1].get('attributes')
  labels = rows['attributes']
  if scores is None or scores.shape != labels.shape:
    return None
  scores, attributes = scores.astype(np.float64), of_data(builder)
  found = metrics.evaluate(scores, labels, attributes)
  found['accuracy_error'] = metrics.bootstrap_error(
    lambda rows: metrics.mean_accuracy(scores[rows], labels[rows], attributes),
    len(scores),
  )
  return found


def describe(figures: dict) -> str:
  """A plain-text table of `figures`, in per cent.

  Args:
    figures: The figures.
  """
  groups = figures['accuracy_by_group']
  recalls = figures['recall_by_group']
  rows = [
    [name, percent(groups[name]), percent(recalls[name]['macro'])]
    for name in groups
  ]
  rows.append(
    ['all', percent(figures['accuracy']), percent(figures['recall']['macro'])]
  )
  head = ['group', 'accuracy', f'recall, top {figures["k"]}']
  return f'attributes, in %\n{tabulate(rows, head)}'
