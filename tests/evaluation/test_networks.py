"""networks.json: what is counted of a cascade, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import resolve
from fld_jax.cascade.stage import Stage, build_model, init_variables
from fld_jax.errors import InputError
from fld_jax.evaluation.networks import Networks
from fld_jax.runtime.parallel import Parallel


def test_of_a_finished_run(trained_workdir, tiny_config):
  """Three stages, the last with two branches: four networks, three a image."""
  found = Networks.read(trained_workdir / 'eval/test/networks.json')
  assert (found.trained, found.run, found.batch_size) == (4, 3, 8)
  assert 0 < found.ms_per_image < 10_000
  # As the overview of the training has it, a line for each array.
  listed = (trained_workdir / 'parameters.txt').read_text()
  totals = [
    int(line.partition(':')[2].partition('--')[0].replace(',', ''))
    for line in listed.splitlines()
    if line.startswith('Total')
  ]
  assert found.parameters == sum(totals) + totals[-1]


@pytest.mark.parametrize(('routing', 'run'), [('route', 3), ('average', 4)])
def test_branches_in_the_place_of_a_stage(tiny_config, routing, run):
  """The stage that they continue is trained, and not run."""
  config = tiny_config(stages=4)
  config.routing.mode = routing
  setup, stages = resolve(config), []
  for i, fields in enumerate(config.stages):
    model = build_model(config.model, fields, i, setup.landmarks)
    variables = init_variables(model, config.input.size, i)
    names = ('easy', 'hard') if fields.branches else ('all',)
    stages.append(
      Stage(
        fields.name,
        model,
        dict.fromkeys(names, variables),
        {'errors': np.ones(4, np.float32)},
        0.5,
        continues=fields.init == 'continue',
      )
    )
  found = Networks.of(Cascade(stages, setup, Parallel('shard_map')))
  assert stages[-1].continues
  assert (found.trained, found.run) == (5, run)


def test_what_is_not_what_was_written_is_refused(tmp_path):
  path = tmp_path / 'networks.json'
  assert Networks.read(path) is None
  one = Networks(4, 3, 1000, 2.5, 8, '1 x cpu')
  one.save(path)
  assert Networks.read(path) == one
  whole = dataclasses.asdict(one)
  wrong = [
    ('run', None, 'a number above 0'),
    ('trained', 2.5, 'a number above 0'),
    ('parameters', True, 'a number above 0'),
    ('ms_per_image', -1, 'a number above 0'),
    ('ms_per_image', '<b>', 'a number above 0'),
    ('device', 7, 'a text'),
  ]
  for name, value, must in wrong:
    path.write_text(json.dumps({**whole, name: value}))
    with pytest.raises(InputError, match=f'json, {name}: is .* must be {must}'):
      Networks.read(path)
  path.write_text('[1]')
  with pytest.raises(InputError, match='must be an object'):
    Networks.read(path)
