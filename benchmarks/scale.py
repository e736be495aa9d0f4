"""The computed cost of a large run: prints the tables of docs/scale.md.

  python benchmarks/scale.py
  python benchmarks/scale.py --measure FOLDER     measures the inputs again

FOLDER is DeepFashion's official one; its records are prepared if need be.
Without --measure it needs NumPy alone.
"""

import dataclasses
import io
import math
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# --- measured, see docs/scale.md ----------------------------------------------

PARAMS = 134_510_588  # parameters of stage 1, size=full
FORWARD = 30.15e9  # floating-point operations for one image
RECORD = 8978  # bytes of a prepared image of DeepFashion, 299 x 229 pixels
EXAMPLE = 0.82e-3  # CPU seconds to decode an image, crop it to 224 and augment
CATALOGUE = 5.8e-3  # the same CPU seconds for a photo of 1.5 megapixels
# Stage -> bytes that a process keeps of each of its images before the stage.
ROWS = {1: 100, 2: 164, 3: 168}
# Bytes of the route of every image, and the highest number while it is sorted.
ROUTE, ROUTE_PEAK = 8, 32
# Stage -> CPU seconds to make a vector and process it in one pass of k-means.
KMEANS = {1: 0.13e-6, 2: 0.13e-6, 3: 0.82e-6}
STEP = 2.6e-3  # seconds of a step of k-means with nothing to do, two processes
SAVE = 4.7 / (2 * 4 * PARAMS)  # seconds to save a byte, one process

# --- assumed ------------------------------------------------------------------

UTILISATION = 0.4  # share of the chips' peak that a step reaches
LINKS = 0.6  # share of the links' peak that a step reaches
BATCH = 64  # images on each chip
# Epochs of a stage: the paper's 10,000 steps of 40 images out of 83,000.
EPOCHS = 5
PASSES = 20 + 100 + 2  # most passes of k-means: k-means++, Lloyd, both ends
# Stage -> most vectors of a step on a device, which hold kmeans._SHARE numbers.
SHARE = {1: 2**19 // 16, 2: 2**19 // 16, 3: 2**19 // 256}
CHUNK = 8192  # most vectors of a step in a process, pseudo_labels.CHUNK
ORDER = 8  # bytes of every image's place in the order of the records
# Steps to an evaluation and a checkpoint, stages[i].eval_steps.
SAVE_EVERY = 500
BETWEEN_FAILURES = 30 * 86_400  # seconds from failure to failure of one host
RESTART = 600  # seconds from a failure to the next step


@dataclasses.dataclass
class Pod:
  """Chips and their hosts.

  Attributes:
    name: The name in the tables.
    chips: The number of chips.
    host_chips: The number of chips of each host.
    processes: The number of processes on each host.
    peak: The bfloat16 operations per second of a chip, from its vendor.
    link: The bytes per second that a chip can send in an all-reduce, from its
      vendor.
    cores: The number of CPU cores of each host.
    memory: The memory of each host in bytes.
  """

  name: str
  chips: int
  host_chips: int
  processes: int
  peak: float
  link: float
  cores: int
  memory: float


def v5e(chips: int) -> Pod:
  """Describes a slice of TPU v5e, whose hosts have four chips.

  Args:
    chips: The number of chips.
  """
  return Pod(f'v5e-{chips}', chips, 4, 1, 197e12, 200e9, 112, 192e9)


def h100(chips: int) -> Pod:
  """Describes nodes of eight H100; between nodes each GPU has 400 Gbit/s.

  Args:
    chips: The number of GPUs.
  """
  link = 450e9 if chips <= 8 else 50e9
  return Pod(f'{chips} H100', chips, 8, 8, 989e12, link, 112, 2e12)


PODS = [h100(8), v5e(16), v5e(64), v5e(256), h100(256)]


def training(pod: Pod, stage: int) -> dict[str, float]:
  """Computes the time of a train step and its parts.

  Args:
    pod: The chips.
    stage: The number of the stage, from 1 on. The stages before it run inside
      the step.

  Returns:
    The seconds of `compute`, of the all-reduce `reduce` and of the whole
    `step`; the `images` per second, and `host_images`, those of each host.
  """
  compute = BATCH * (3 + stage - 1) * FORWARD / (pod.peak * UTILISATION)
  chips = pod.chips
  reduce = 2 * (chips - 1) / chips * 4 * PARAMS / (pod.link * LINKS)
  images = BATCH * chips / (compute + reduce)
  return {
    'compute': compute,
    'reduce': reduce,
    'step': compute + reduce,
    'images': images,
    'host_images': images * pod.host_chips / chips,
  }


def evaluation(pod: Pod, count: float) -> float:
  """Computes the seconds to predict images with stage 1.

  Args:
    pod: The chips.
    count: The number of images.
  """
  decode = EXAMPLE / (pod.chips / pod.host_chips * pod.cores)
  return count * max(FORWARD / (pod.chips * pod.peak * UTILISATION), decode)


def between(pod: Pod, stage: int, count: int) -> dict[str, float]:
  """Computes the pass over the images before a stage, and its k-means.

  Args:
    pod: The chips.
    stage: The number of the stage, from 1 on.
    count: The number of images.

  Returns:
    The seconds of the `pass`, of the computation of `kmeans`, and of the
    overhead of its steps, `waits`; the bytes of a process's own `rows`, and
    `host_peak`, the highest number on a host; and `fits`, the number of images
    that fill a host's memory.
  """
  hosts = pod.chips / pod.host_chips
  forward = (stage - 1) * FORWARD / (pod.chips * pod.peak * UTILISATION)
  decode = EXAMPLE / (hosts * pod.cores)
  share = count / (hosts * pod.processes)
  rows = share * ROWS[stage]
  # While the parts are joined, they and the whole are in memory together. The
  # routes of all images come on top of the whole.
  peak = ORDER * count + max(2 * rows, rows + ROUTE_PEAK * count)
  step = min(CHUNK, SHARE[stage] * pod.host_chips // pod.processes)
  return {
    'pass': count * max(forward, decode),
    'rows': rows,
    'host_peak': peak * pod.processes,
    'fits': count * pod.memory / (peak * pod.processes),
    'kmeans': PASSES * share * KMEANS[stage],
    'waits': PASSES * share / step * STEP,
  }


def cascade(pod: Pod, count: int) -> dict[str, float]:
  """Computes the seconds of the whole cascade.

  Args:
    pod: The chips.
    count: The number of training images.

  Returns:
    The seconds of the training, `train`, of the `passes` between the stages,
    and of the computation of `kmeans` and the overhead of its steps, `waits`.
  """
  train = sum(EPOCHS * count / training(pod, s)['images'] for s in (1, 2, 3))
  parts = [between(pod, s, count) for s in (1, 2, 3)]
  return {
    'train': train,
    'passes': sum(part['pass'] for part in parts),
    'kmeans': sum(part['kmeans'] for part in parts),
    'waits': sum(part['waits'] for part in parts),
  }


def with_failures(
  pod: Pod, work: float, every: float, runs: int = 200, seed: int = 0
) -> float:
  """Simulates runs in which hosts fail, and computes their mean time.

  A failure of one host ends all of them. They start again from the last
  checkpoint, RESTART seconds later.

  Args:
    pod: The chips.
    work: The seconds of a run without a failure.
    every: The seconds between two checkpoints.
    runs: The number of runs to simulate.
    seed: The seed of the failures' times.

  Returns:
    The mean seconds of a run.
  """
  rng = np.random.default_rng(seed)
  hosts = pod.chips / pod.host_chips
  taken = 0.0
  for _ in range(runs):
    done = 0.0
    while True:
      until = rng.exponential(BETWEEN_FAILURES / hosts)
      if done + until >= work:
        taken += work - done
        break
      taken += until + RESTART
      done = math.floor((done + until) / every) * every
  return taken / runs


def _table(title: str, rows: list[tuple[str, Callable[[Pod], str]]]) -> str:
  """Makes a Markdown table with a column for each of PODS.

  Args:
    title: The title of the first column.
    rows: For each row its name, and a function of the pod to the cell's text.
  """
  lines = [f'| {title} | ' + ' | '.join(pod.name for pod in PODS) + ' |']
  lines.append('|---|' + '---|' * len(PODS))
  for name, cell in rows:
    cells = [cell(pod) for pod in PODS]
    lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def _time(seconds: float) -> str:
  """Formats a time with a suitable unit."""
  for unit, size in (('h', 3600), ('min', 60), ('s', 1), ('ms', 1e-3)):
    if seconds >= 1.5 * size or unit == 'ms':
      return f'{seconds / size:,.1f} {unit}'


def _bytes(count: float) -> str:
  """Formats a number of bytes with a suitable unit."""
  for unit, size in (('TB', 1e12), ('GB', 1e9), ('MB', 1e6)):
    if count >= size or unit == 'MB':
      return f'{count / size:.3g} {unit}'


def tables(count: int = 100_000_000) -> list[str]:
  """Makes the tables of docs/scale.md.

  Args:
    count: The number of training images.

  Returns:
    The tables in Markdown.
  """
  state = 2 * 4 * PARAMS
  step = lambda pod: training(pod, 1)
  every = lambda pod: SAVE_EVERY * step(pod)['step']
  last = lambda pod: between(pod, 3, count)
  whole = lambda pod: cascade(pod, count)
  work = lambda pod: whole(pod)['train'] + whole(pod)['passes']
  return [
    _table(
      'a train step of stage 1',
      [
        ('hosts', lambda p: f'{p.chips // p.host_chips}'),
        ('images in a batch', lambda p: f'{BATCH * p.chips:,}'),
        ('compute', lambda p: _time(step(p)['compute'])),
        ('all-reduce, not overlapped', lambda p: _time(step(p)['reduce'])),
        ('images/s', lambda p: f'{step(p)["images"]:,.0f}'),
        ('images/s of a host', lambda p: f'{step(p)["host_images"]:,.0f}'),
        (
          'read by a host, a second',
          lambda p: _bytes(step(p)['host_images'] * RECORD),
        ),
        (
          'cores of a host that decode',
          lambda p: f'{step(p)["host_images"] * EXAMPLE:.1f} of {p.cores}',
        ),
        (
          'the same, photos of 1.5 MP',
          lambda p: f'{step(p)["host_images"] * CATALOGUE:.0f} of {p.cores}',
        ),
        (
          'to the devices of a host, a second',
          lambda p: _bytes(step(p)['host_images'] * 224 * 224 * 3),
        ),
      ],
    ),
    _table(
      f'the cascade on {count / 1e6:.0f} million images',
      [
        ('records', lambda p: _bytes(count * RECORD)),
        ('an epoch of stage 1', lambda p: _time(count / step(p)['images'])),
        (
          f'training, {EPOCHS} epochs a stage',
          lambda p: _time(whole(p)['train']),
        ),
        ('the three passes between', lambda p: _time(whole(p)['passes'])),
        ('their k-means', lambda p: _time(whole(p)['kmeans'])),
        ('and its steps', lambda p: _time(whole(p)['waits'])),
      ],
    ),
    _table(
      'the pass before stage 3',
      [
        ("own images' rows in each process", lambda p: _bytes(last(p)['rows'])),
        ("all images' routes in each", lambda p: _bytes(count * ROUTE)),
        ('at the peak, on a host', lambda p: _bytes(last(p)['host_peak'])),
        ('memory of a host', lambda p: _bytes(p.memory)),
        (
          'images that fill it',
          lambda p: f'{last(p)["fits"] / 1e6:,.0f} million',
        ),
      ],
    ),
    _table(
      'checkpoints of stage 1',
      [
        ('parameters and momentum', lambda p: _bytes(state)),
        ('written in', lambda p: _time(SAVE * state)),
        (f'{SAVE_EVERY} steps', lambda p: _time(every(p))),
        (
          'longer because of saving',
          lambda p: f'{100 * SAVE * state / every(p):.0f} %',
        ),
        (
          'longer because of evaluating, tune is 5 %',
          lambda p: f'{100 * evaluation(p, count / 20) / every(p):.0f} %',
        ),
        (
          'longer because of evaluating, tune is 0.1 %',
          lambda p: f'{100 * evaluation(p, count / 1000) / every(p):.1f} %',
        ),
        (
          'longer because of failures, saved every 10 min',
          lambda p: (
            f'{100 * (with_failures(p, work(p), 600) / work(p) - 1):.1f} %'
          ),
        ),
      ],
    ),
  ]


def measure(folder: str) -> None:
  """Measures the inputs on this machine and prints them.

  Args:
    folder: The path of DeepFashion's official folder.
  """
  from fld_jax.configs import dfa
  from fld_jax.datasets.prepare import prepared_builder

  config = dfa.get_config('dataset=deepfashion,size=full')
  config.dataset.manual_dir = folder
  params = _measure_network(config)
  _measure_input(config, prepared_builder(config.dataset))
  for number, stage in enumerate(config.stages, 1):
    _measure_kmeans(number, stage.pseudo_label.space)
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    port = str(found.getsockname()[1])
  command = [sys.executable, __file__, '--together', port]
  with subprocess.Popen([*command, '1']):
    subprocess.run([*command, '0'], check=True)
  _measure_save(params)


def _seconds(run: Callable[[], Any]) -> float:
  """Measures the CPU time of a call, the median of five after a warm-up."""
  times = []
  for _ in range(6):
    start = time.process_time()
    run()
    times.append(time.process_time() - start)
  return float(np.median(times[1:]))


def _measure_network(config: Any) -> dict[str, Any]:
  """Prints PARAMS and FORWARD.

  Args:
    config: The ConfigDict of the cascade.

  Returns:
    The shapes of the parameters of stage 1.
  """
  import jax

  from fld_jax.cascade import stage as stage_lib
  from fld_jax.cascade.setup import resolve

  model = stage_lib.build_model(
    config.model, config.stages[0], 0, resolve(config).landmarks
  )
  size = config.input.size
  batch = {
    'image': np.zeros((1, size, size, 3), np.float32),
    'example_index': np.zeros(1, np.int32),
  }
  init = lambda key: model.init(key, batch, train=False)
  variables = jax.eval_shape(init, jax.random.key(0))
  params = variables['params']
  print('PARAMS', sum(math.prod(x.shape) for x in jax.tree.leaves(params)))
  run = jax.jit(lambda variables: model.apply(variables, batch, train=False))
  print('FORWARD', run.lower(variables).cost_analysis()['flops'])
  return params


def _measure_input(config: Any, builder: Any) -> None:
  """Prints RECORD, EXAMPLE, CATALOGUE (of enlarged photos) and ROWS.

  Args:
    config: The ConfigDict of the cascade.
    builder: The builder of the prepared data set.
  """
  import cv2
  from PIL import Image

  from fld_jax import input_pipeline
  from fld_jax.cascade.setup import resolve
  from fld_jax.files import images as files_images
  from fld_jax.runtime.parallel import Parallel
  from fld_jax.training import train_cascade

  records = input_pipeline.Records(builder, 'train')
  files = pathlib.Path(builder.data_path).glob('*-train.*')
  print('RECORD', sum(f.stat().st_size for f in files) / len(records))
  rng = np.random.default_rng(0)
  small = [records[i] for i in rng.choice(len(records), 500, replace=False)]
  large = []
  for record in small[:50]:
    image = files_images.decode(record['image'])
    scale = math.sqrt(1.5e6 / math.prod(image.shape[:2]))
    image = cv2.resize(image, None, fx=scale, fy=scale)
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'JPEG', quality=90)
    box = np.float32(scale * np.asarray(record['box']))
    large.append({**record, 'image': file.getvalue(), 'box': box})
  example = input_pipeline.Example(resolve(config).pipeline, augment=True)
  run = lambda some: [example(record, rng) for record in some]
  print('EXAMPLE', _seconds(lambda: run(small)) / len(small))
  print('CATALOGUE', _seconds(lambda: run(large)) / len(large))
  trainer = train_cascade._Trainer(
    config,
    resolve(config),
    builder,
    pathlib.Path(),
    Parallel(),
    lambda curves, is_last: None,
  )
  some = input_pipeline.Records(builder, 'train', np.arange(64))
  rows = trainer._rows(trainer.stages, some, augment=True)
  size = sum(getattr(x, 'nbytes', 0) for x in rows.values()) / len(some)
  # A stage adds its estimate, (8, 2) float32; the second one also a score.
  print('ROWS', size, size + 64, size + 64 + 4)


def _measure_kmeans(number: int, space: str) -> None:
  """Prints KMEANS of a stage.

  Args:
    number: The number of the stage, from 1 on.
    space: The space of its vectors, one of `pseudo_labels.SPACES`.
  """
  import jax

  from fld_jax.cascade import pseudo_labels
  from fld_jax.ops import kmeans
  from fld_jax.runtime.parallel import Parallel

  rng, count = np.random.default_rng(0), 200_000
  truth = rng.uniform(-0.5, 0.5, (count, 8, 2)).astype(np.float32)
  estimate = truth + rng.normal(0, 0.05, truth.shape).astype(np.float32)
  codes, chunk = np.zeros((count, 8), np.int32), pseudo_labels.CHUNK
  vectors = jax.jit(
    lambda a, b, c: pseudo_labels.label_vectors(a, b, c, space=space)
  )

  def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for i in range(0, count, chunk):
      part = slice(i, i + chunk)
      yield jax.device_get(vectors(truth[part], codes[part], estimate[part]))

  init = next(chunks())[0][:20]
  more = {'seed': 0, 'parallel': Parallel(), 'tolerance': 0, 'init': init}
  run = lambda n: kmeans.kmeans(chunks, 20, num_iters=n, **more)
  assert run(12).num_iters == 12  # it has not converged earlier
  gap = _seconds(lambda: run(12)) - _seconds(lambda: run(2))
  print('KMEANS', number, gap / 10 / count)


def measure_together(port: str, process: int) -> None:
  """Runs one of the two processes that measure STEP and ROUTE_PEAK.

  Args:
    port: The free port of process 0 on this machine.
    process: The number of this process, 0 or 1. Process 0 prints.
  """
  from fld_jax.ops import kmeans
  from fld_jax.runtime import processes
  from fld_jax.runtime.parallel import Parallel
  from fld_jax.training.train_cascade import joined_routes

  processes.start(f'127.0.0.1:{port}', 2, process)
  rng, steps = np.random.default_rng(process), 500
  z = rng.normal(size=(steps, 1, 16)).astype(np.float32)
  more = {'seed': 0, 'tolerance': 0, 'init': np.eye(20, 16)}
  more |= {'parallel': Parallel(), 'places': process + 2 * np.arange(steps)}
  chunks = lambda: ((one, one == one) for one in z)
  times = []
  for iterations in (1, 1, 11):
    start = time.perf_counter()
    kmeans.kmeans(chunks, 20, num_iters=iterations, **more)
    times.append(time.perf_counter() - start)
  index = np.arange(process, 2_000_000, 2, dtype=np.int32)
  score = rng.random(len(index), np.float32)
  tracemalloc.start()
  joined_routes(score, index)
  peak = tracemalloc.get_traced_memory()[1] / (2 * len(index))
  processes.barrier('the end')
  if processes.is_main():
    print('STEP', (times[2] - times[1]) / 10 / steps)
    print('ROUTE_PEAK', peak)


def _measure_save(params: dict[str, Any]) -> None:
  """Prints SAVE, from the shortest wall time of three.

  Args:
    params: The shapes of the parameters of stage 1.
  """
  import jax
  import orbax.checkpoint as ocp

  rng = np.random.default_rng(0)
  fill = lambda x: rng.standard_normal(x.shape, dtype=np.float32)
  state = {k: jax.tree.map(fill, params) for k in ('params', 'momentum')}
  times = []
  for _ in range(3):
    with tempfile.TemporaryDirectory() as folder:
      start = time.perf_counter()
      with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(pathlib.Path(folder) / 'state', state)
      times.append(time.perf_counter() - start)
  size = sum(x.nbytes for x in jax.tree.leaves(state))
  print('SAVE', min(times), 's', min(times) / size, 's a byte')


if __name__ == '__main__':
  os.environ['JAX_PLATFORMS'] = 'cpu'
  if sys.argv[1:2] == ['--measure']:
    measure(sys.argv[2])
  elif sys.argv[1:2] == ['--together']:
    measure_together(sys.argv[2], int(sys.argv[3]))
  else:
    print('\n\n'.join(tables()))
