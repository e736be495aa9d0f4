"""Damaged files of runs, COCO annotations and boxes: refused, or taken.

  python tests/helpers/fuzz_runs.py --count=10000

damages the valid file of each kind that often. Every damaged file must be read,
or end in an InputError of one line that names it; no other exception, and
nothing in the folder or beside it may be made, changed or deleted.
"""

import argparse
import contextlib
import copy
import io
import json
import pathlib
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import coco_folders
import fuzz_mutations
import jax
import made_up_runs
import numpy as np

from fld_jax import landmark_sets
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade.setup import resolve
from fld_jax.configs import dfa, pcloss, trained
from fld_jax.datasets.coco import folder as coco_folder
from fld_jax.errors import Findings, InputError
from fld_jax.evaluation import evaluated_run, results
from fld_jax.evaluation.analysis import analyse
from fld_jax.files import json_files
from fld_jax.inference import item_boxes
from fld_jax.runtime import checkpoint, manifest

LONG = 10**400
VALUES = (
  *(None, True, False, 0, 1, -1, 7, 2**31, 2**63, 10**9, LONG, -LONG, 0.0),
  *(0.5, -0.5, 1e-300, 1e300, float('nan'), float('inf'), -float('inf')),
  *('', '0', '48', 'x', '../../x', '/etc/passwd', 'a/b', '.', '\0', '\ud800'),
  *('é', 'train[', 'NaN', 'stage1', 'x' * 5000, '{}', [], {}, [[]], [0], [{}]),
  *({'a': 1}, [1, 2, 3], ['x'], [None], {'name': 'dfa'}, 'keypair', 'stop'),
)


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
  """The paths of all values in a JSON value."""
  yield path
  if isinstance(value, dict | list):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
      yield from _places(inner, (*path, key))


def mutate(value: Any, rng: random.Random) -> Any:
  """A JSON value with one place changed."""
  value = copy.deepcopy(value)
  places = list(_places(value))[1:]
  if not places:
    return rng.choice(VALUES)
  *way, last = rng.choice(places)
  holder = value
  for key in way:
    holder = holder[key]
  kind = rng.randrange(9)
  if kind == 0:
    del holder[last]
  elif kind == 1 and isinstance(holder, dict):
    holder[f'{last}_'] = holder.pop(last)
  elif kind == 2 and isinstance(holder, list):
    holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[last]))
  elif kind == 3 and isinstance(holder[last], float):
    factor = rng.choice((-1, 0, 2, 10, 1e6, 1e-6, 1e300))
    holder[last] = holder[last] * factor
  elif kind == 4:
    holder[last] = f'deep {rng.choice((3, 90, 900, 100_000))}'
  elif kind == 5:  # the value of another place
    other = value
    for key in rng.choice(places):
      other = other[key]
    holder[last] = copy.deepcopy(other)
  else:
    holder[last] = rng.choice(VALUES)
  return value


def damaged_json(valid: Any, rng: random.Random) -> bytes:
  """A JSON file, damaged in its values or in its bytes."""
  if rng.random() < 0.15:
    return damaged_bytes(json.dumps(valid).encode(), rng)
  for _ in range(rng.choice((1, 1, 1, 2, 3))):
    valid = mutate(valid, rng)
  # Lists within lists, deeper than this program could copy them.
  nest = lambda found: '[' * int(found[1]) + ']' * int(found[1])
  return re.sub(r'"deep (\d+)"', nest, json.dumps(valid)).encode()


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
  """A file with one or two places of its bytes changed."""
  steps = [
    (
      rng.choice(fuzz_mutations.TEXT),
      rng.randrange(1 << 20),
      rng.randrange(1 << 20),
    )
    for _ in range(rng.choice((1, 2)))
  ]
  return fuzz_mutations.apply(content, steps)


class Kind:
  """A kind of file.

  Attributes:
    path: The path of the damaged file.
    damage: Function of a random generator to the content of a damaged file.
    use: Reads the file as the program does.
  """

  def __init__(
    self,
    path: pathlib.Path,
    damage: Callable[[random.Random], bytes],
    use: Callable[[], Any],
  ):
    self.path, self.damage, self.use = path, damage, use


def _manifest(folder: pathlib.Path, config, networks: list[str]) -> Kind:
  """The manifest of a run, whose networks are only built."""
  whole = resolve(config).whole
  stages = {
    stage.name: {'networks': ['all'], 'epsilon': None}
    for stage in config.stages
  }
  stages[config.stages[-1].name]['networks'] = networks
  stages[config.stages[-1].name]['epsilon'] = 0.3 if len(networks) > 1 else None
  manifest.write_manifest(
    folder, config, whole, 'data', manifest.TOPOLOGY, stages
  )
  path = folder / 'manifest.json'
  valid = json_files.read_json(path)

  def use() -> None:
    found = trained.get_config(str(folder))
    saved = manifest.read_manifest(folder)
    manifest.compare_configs(folder, saved, found, manifest.NETWORK_FIELDS)
    setup = resolve(found, saved['landmarks'])
    for i, stage in enumerate(found.stages):
      model = stage_lib.build_model(found.model, stage, i, setup.landmarks)
      # What a network of another size has is found when weights are loaded.
      if found.input == config.input and found.model == config.model:
        continue
      stage_lib.variable_shapes(model, setup.pipeline.size)

  return Kind(path, lambda rng: damaged_json(valid, rng), use)


def _coco(folder: pathlib.Path) -> Kind:
  """An annotation file of COCO's form."""
  coco_folders.write(folder, {'train': coco_folders.document('train')})
  path = folder / 'annotations/train.json'
  valid = json.loads(path.read_text())
  # A few images are enough; each would be looked for.
  layout = coco_folders.LAYOUT

  def use() -> None:
    found = Findings(strict=False)
    coco_folder.content_digest(folder, *layout)
    list(coco_folder.read(folder, *layout, findings=found))

  return Kind(path, lambda rng: damaged_json(valid, rng), use)


def _boxes_json(folder: pathlib.Path) -> Kind:
  path = folder / 'boxes.json'
  valid = coco_folders.document('val')
  types = landmark_sets.FASHION_8.types
  return Kind(
    path,
    lambda rng: damaged_json(valid, rng),
    lambda: item_boxes.read(path, types),
  )


def _boxes_results(folder: pathlib.Path) -> Kind:
  path = folder / 'results.json'
  valid = [
    {'file_name': f'{i}.jpg', 'bbox': [1, 2, 30, 40.5], 'score': 0.5}
    for i in range(3)
  ]
  types = landmark_sets.FASHION_8.types
  return Kind(
    path,
    lambda rng: damaged_json(valid, rng),
    lambda: item_boxes.read(path, types),
  )


def _boxes_csv(folder: pathlib.Path) -> Kind:
  path = folder / 'boxes.csv'
  valid = 'image,x1,y1,x2,y2,clothes_type\na.jpg,1,2,30,40,upper\n'
  valid += '"b,c.jpg",0.5,2,1e2,40,full\né.png,1,2,3,4,\n'
  types = landmark_sets.FASHION_8.types
  return Kind(
    path,
    lambda rng: damaged_bytes(valid.encode(), rng),
    lambda: item_boxes.read(path, types),
  )


def _evaluation(folder: pathlib.Path) -> tuple[Kind, Kind]:
  """evaluation.npz and metrics.json of an evaluated run."""
  run = made_up_runs.make_run(count=6)
  place = folder / 'eval/val'
  run.evaluation.save(place / 'evaluation.npz')
  results.write_evaluation(place, run.predictions, run.figures)
  whole = (place / 'evaluation.npz').read_bytes()
  with np.load(place / 'evaluation.npz') as file:
    arrays = dict(file)
  about = json.loads(str(arrays['about']))
  figures = json_files.read_json(place / 'metrics.json')

  def damage(rng: random.Random) -> bytes:
    kind = rng.randrange(8)
    if kind == 0:
      return damaged_bytes(whole, rng)
    changed = dict(arrays)
    if kind < 4:
      text = damaged_json(about, rng).decode('utf-8', 'replace')
      changed['about'] = np.array(text.replace('\0', ' '))
    else:
      name = rng.choice(sorted(arrays))
      changed[name] = _damaged_array(arrays[name], rng)
      if changed[name] is None:
        del changed[name]
    buffer = io.BytesIO()
    np.savez(buffer, **changed)
    return buffer.getvalue()

  def use() -> None:
    read = evaluated_run.read_runs([folder], 'val')
    analyse(read)

  return (
    Kind(place / 'evaluation.npz', damage, use),
    Kind(place / 'metrics.json', lambda rng: damaged_json(figures, rng), use),
  )


def _damaged_array(array: np.ndarray, rng: random.Random) -> np.ndarray | None:
  """An array of another shape, type or with another number; None for none."""
  changed = array.copy()
  kind = rng.randrange(7)
  if kind == 0:
    return None
  if kind == 1 or not changed.ndim or not changed.size:
    return np.array(rng.choice((0, 1.5, 'x', float('nan'))))
  if kind == 2:
    return changed[:-1]
  if kind == 3:
    return np.concatenate([changed, changed])
  if kind == 4 and changed.dtype.kind in 'fiub':
    return changed.astype(rng.choice(('U8', np.float16, np.int8, bool)))
  if changed.dtype.kind in 'fiu':
    value = rng.choice((0, -1, 1, 2, 7, 127, 1e9, 1e300, np.nan, np.inf))
    flat = changed.reshape(-1)
    with np.errstate(all='ignore'), contextlib.suppress(ValueError):
      flat[rng.randrange(flat.size)] = np.array(value).astype(flat.dtype)
    return changed
  return changed[..., None]


def _checkpoint(folder: pathlib.Path) -> Kind:
  """The figures of a checkpoint that has no checksums."""
  place = folder / 'network'
  arrays = {'params': {'a': np.zeros(3, np.float32)}}
  with checkpoint.Checkpoints(place) as checkpoints:
    checkpoints.save_weights(arrays)
  (place / '0' / checkpoint.CHECKSUMS).unlink()
  path = place / '0/metrics/metrics'
  valid = {'ne': 0.5, 'standard_error': 0.1}
  use = lambda: checkpoint.SavedNetwork(place).restore_chosen(arrays)
  return Kind(path, lambda rng: damaged_json(valid, rng), use)


def kinds(folder: pathlib.Path) -> dict[str, Kind]:
  """All kinds of files, made in a folder.

  Args:
    folder: An empty folder.
  """
  small = dfa.get_config('dataset=synthetic,size=tiny')
  other = pcloss.get_config('dataset=synthetic,size=small')
  evaluation, metrics = _evaluation(folder / 'evaluated')
  make = lambda name: (folder / name).mkdir(parents=True) or folder / name
  return {
    'manifest of a cascade': _manifest(make('dfa'), small, ['easy', 'hard']),
    'manifest of one network': _manifest(make('pcloss'), other, ['all']),
    'COCO annotations': _coco(make('coco')),
    'boxes in COCO form': _boxes_json(make('boxes')),
    'boxes as COCO results': _boxes_results(make('results')),
    'boxes in CSV': _boxes_csv(make('csv')),
    'evaluation.npz': evaluation,
    'metrics.json': metrics,
    'figures of a checkpoint': _checkpoint(make('checkpoint')),
  }


def _state(folder: pathlib.Path) -> dict:
  """What changes when anything is done to a folder."""
  state = {}
  for path in [folder, *folder.rglob('*')]:
    found = path.lstat()
    state[str(path)] = found.st_mtime_ns, found.st_size
  return state


def run(kind: Kind, count: int, seed: int, beside: pathlib.Path) -> Counter:
  """Damages a file many times.

  Args:
    kind: The kind of file.
    count: The number of damaged files.
    seed: Seed of the damages.
    beside: A folder that holds the file's, in which nothing may be done.

  Returns:
    The numbers of files that were 'read' and 'refused'.

  Raises:
    AssertionError: A file ended otherwise; it is named by its number, and its
      content is kept as `failed` beside the file.
  """
  counts: Counter = Counter()
  whole = kind.path.read_bytes() if kind.path.exists() else None
  before = None
  for number in range(count):
    content = kind.damage(random.Random(f'{seed} {number}'))
    kind.path.write_bytes(content)
    before = _state(beside)
    try:
      kind.use()
      counts['read'] += 1
    except InputError as error:
      counts['refused'] += 1
      text = str(error)
      assert '\n' not in text.strip(), text
      assert len(text) < 3000, text
    except Exception as error:
      (kind.path.parent / 'failed').write_bytes(content)
      raise AssertionError(
        f'damage {number} of {kind.path}: {type(error).__name__}: {error}'
      ) from error
    assert _state(beside) == before, f'damage {number} of {kind.path}'
  if whole is not None:
    kind.path.write_bytes(whole)
  return counts


def main() -> None:
  """Runs the command line."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--count', type=int, default=10_000)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--kind', default='', help='a part of the kinds names')
  options = parser.parse_args()
  jax.config.update('jax_platforms', 'cpu')
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    for title, kind in kinds(folder).items():
      if options.kind in title:
        started = time.monotonic()
        counts = run(kind, options.count, options.seed, folder)
        seconds = time.monotonic() - started
        print(
          f'{title}: {options.count} files, {counts["read"]} read, '
          f'{counts["refused"]} refused, {seconds:.0f} s',
          flush=True,
        )


if __name__ == '__main__':
  main()
