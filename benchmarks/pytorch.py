"""A comparison with the same network in PyTorch: images/s, peak memory, NE.

    pip install -c constraints.txt '.[dev,torch]'
    python benchmarks/pytorch.py speed
    python benchmarks/pytorch.py train --manual_dir=FOLDER --data_dir=D

`speed` times forward passes and whole train steps (loss, gradient, AdamW) of
SimpleBaselines in turns, each in a process of its own, and prints the ratio of
ours to PyTorch's. Both use float32 with channels last. It also times our steps
with PCLoss and without, in turns.
`train` trains configs/pcloss.py's small SimpleBaselines with both, on the same
batches from the same first weights, and prints macro NE on val. Everything runs
on a CPU.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]
from fld_jax.config import XLA_CPU_FLAGS  # noqa: E402

os.environ.setdefault('XLA_FLAGS', XLA_CPU_FLAGS)  # as fld_jax.main sets it
os.environ['JAX_PLATFORMS'] = 'cpu'


def make_config(arguments: argparse.Namespace) -> ConfigDict:
  """Makes the config of the small SimpleBaselines.

  Args:
    arguments: The command line's arguments, which change some fields.
  """
  from fld_jax.configs import pcloss

  config = pcloss.get_config(
    'dataset=deepfashion,size=small,model=simple_baselines,pcloss=none'
  )
  config.seed = arguments.seed
  config.batch_size = arguments.batch_size
  config.input.size = arguments.size
  config.model.backbone = f'resnet{arguments.depth}'
  config.model.trunk.width = arguments.width
  config.model.channels = arguments.channels
  config.dataset.manual_dir = arguments.manual_dir
  config.dataset.data_dir = arguments.data_dir
  config.stages[0].train_epochs = arguments.epochs
  # One evaluation, so that the best checkpoint is the last.
  config.stages[0].eval_epochs = arguments.epochs
  config.stages[0].min_steps = 0
  return config


def rate(call: Callable[[], Any], batch_size: int, seconds: float) -> float:
  """Measures the images/s of the median call, after two that do not count.

  Args:
    call: The function to call.
    batch_size: The number of images that a call processes.
    seconds: The time to measure for, in seconds.
  """
  call(), call()
  times, start = [], time.perf_counter()
  while time.perf_counter() - start < seconds or len(times) < 5:
    before = time.perf_counter()
    call()
    times.append(time.perf_counter() - before)
  return batch_size / float(np.median(times))


def in_turns(
  one: Callable[[], Any], other: Callable[[], Any], seconds: float
) -> list[float]:
  """Compares the times of two calls in turns.

  Args:
    one: The first function to call.
    other: The second function to call.
    seconds: A quarter of the time to measure for, in seconds.

  Returns:
    The three quartiles of the ratio of the second time to the first, less 1.
  """
  for call in (one, other):
    call(), call()
  ratios, start = [], time.perf_counter()
  while time.perf_counter() - start < 4 * seconds or len(ratios) < 5:
    times = [time.perf_counter()]
    for call in (one, other):
      call()
      times.append(time.perf_counter())
    ratios.append((times[2] - times[1]) / (times[1] - times[0]) - 1)
  return list(np.quantile(ratios, (0.25, 0.5, 0.75)))


def example_batch(count: int, side: int) -> dict[str, np.ndarray]:
  """Makes a random batch, as the input pipeline gives it.

  Args:
    count: The number of images.
    side: The side of the images in pixels.
  """
  rng = np.random.default_rng(0)
  return {
    'image': rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8),
    'landmarks': rng.uniform(-0.4, 0.4, (count, 8, 2)).astype(np.float32),
    'visibility': np.zeros((count, 8), np.int32),
    'mask': np.ones(count, np.float32),
    'example_index': np.arange(count, dtype=np.int32),
  }


# --- ours ---------------------------------------------------------------------


def speed_of_ours(config: ConfigDict, seconds: float) -> dict[str, Any]:
  """Measures our forward passes and train steps.

  Args:
    config: The config of the network.
    seconds: The time to measure each of them for, in seconds.

  Returns:
    The images/s of `forward` and `train`, and `PCLoss`, the quartiles of the
    relative increase of a train step's time by PCLoss.
  """
  import jax

  from fld_jax.cascade import stage as stage_lib
  from fld_jax.cascade.forward import normalise_images
  from fld_jax.cascade.setup import resolve
  from fld_jax.runtime import checkpoint
  from fld_jax.runtime.parallel import Parallel
  from fld_jax.training import schedules, train_step
  from fld_jax.training.objective import Objective

  (stage,), parallel = config.stages, Parallel('shard_map')
  model = stage_lib.build_model(
    config.model, stage, 0, resolve(config).landmarks.num_landmarks
  )
  variables = stage_lib.init_variables(model, config.input.size, 0)
  optimizer = schedules.optimizer(stage.optimizer, 1000, model.backbone)
  batch = parallel.shard(example_batch(config.batch_size, config.input.size))
  mean, std = config.input.mean, config.input.std

  def forward(
    variables: dict[str, Any], batch: dict[str, jax.Array]
  ) -> jax.Array:
    batch = normalise_images(batch, mean, std)
    return model.apply(variables, batch, train=False)['heatmaps']

  forward = parallel.compile(
    forward, sharded_in=(False, True), sharded_out=True
  )
  placed = parallel.replicate(variables)

  setup = resolve(config)

  def trainer(weight: float) -> Callable[[], None]:
    """Returns a function that makes a train step with this PCLoss weight."""
    ours = stage.copy_and_resolve_references()
    ours.weights.position_constraint = weight
    weights = schedules.loss_weights(ours, 1000)
    step = train_step.on_devices(
      train_step.make_train_step(
        model,
        (),
        setup.forward,
        dataclasses.replace(Objective.of(config, setup, 0), stage=ours),
        weights,
        optimizer,
        seed=0,
      ),
      parallel,
    )
    state = parallel.replicate(
      checkpoint.to_host(train_step.TrainState.create(variables, optimizer))
    )

    def train() -> None:
      nonlocal state
      state, metrics = step(state, parallel.replicate(()), {}, batch)
      jax.block_until_ready((state, metrics))

    return train

  calls = {
    'forward': lambda: jax.block_until_ready(forward(placed, batch)),
    'train': trainer(0.0),
  }
  rates = {
    name: rate(call, config.batch_size, seconds) for name, call in calls.items()
  }
  more = in_turns(calls['train'], trainer(1e-5), seconds)
  return {**rates, 'PCLoss': more}


def train_ours(config: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
  """Trains our network.

  Args:
    config: The config of the network.
    workdir: The run's folder.

  Returns:
    `ne`, the macro NE on val as a fraction, and `s`, the time in seconds.
  """
  from fld_jax import experiment

  start = time.perf_counter()
  result = experiment.run(config, workdir, mode='train', splits=('val',))['val']
  return {'ne': result['ne']['macro'], 's': time.perf_counter() - start}


# --- PyTorch ------------------------------------------------------------------


class Torch:
  """The network in PyTorch, its loss and its optimiser.

  Attributes:
    torch: The module torch, which this file imports only where it is used.
    config: The config of the network.
    network: The torch module.
    optimizer: The torch optimiser, AdamW.
    rate_at: The function of the step to the learning rate.
    steps: The number of train steps done.
  """

  def __init__(
    self,
    config: ConfigDict,
    variables: dict[str, Any] | None = None,
    rate_at: Callable[[int], float] = lambda step: 1e-3,
  ):
    """Makes the network.

    Args:
      config: The config of the network.
      variables: The variables of our network to start from, None for PyTorch's
        random ones.
      rate_at: A function of the step to the learning rate.
    """
    import torch
    import torch_networks

    self.torch, self.config = torch, config
    fields = config.model
    network = torch_networks.SimpleBaselines(
      fields.depth, fields.width, fields.channels
    )
    if variables is not None:
      torch_networks.load_variables(network, variables)
    self.network = network.to(memory_format=torch.channels_last)
    options = config.stages[0].optimizer
    parameters = list(self.network.parameters())
    self.optimizer = torch.optim.AdamW(
      [
        {'params': [p for p in parameters if p.ndim > 1]},
        {'params': [p for p in parameters if p.ndim == 1], 'weight_decay': 0},
      ],
      lr=1.0,
      weight_decay=options.weight_decay,
    )
    self.rate_at = rate_at
    self.steps = 0

  def images(self, batch: dict[str, np.ndarray]) -> Any:
    """Normalises images.

    Args:
      batch: A batch with `image` (B, S, S, 3) uint8.

    Returns:
      A float32 tensor (B, 3, S, S), with channels last in memory.
    """
    torch, config = self.torch, self.config
    image = torch.from_numpy(np.asarray(batch['image'])).permute(0, 3, 1, 2)
    mean = torch.tensor(config.input.mean).view(1, 3, 1, 1)
    std = torch.tensor(config.input.std).view(1, 3, 1, 1)
    image = (image.float() - mean) / std
    return image.contiguous(memory_format=torch.channels_last)

  def forward(self, batch: dict[str, np.ndarray]) -> Any:
    """Computes heatmaps in evaluation mode.

    Args:
      batch: A batch with `image` (B, S, S, 3) uint8.

    Returns:
      A float32 tensor (B, N, W, W).
    """
    self.network.eval()
    with self.torch.no_grad():
      return self.network(self.images(batch))['heatmaps']

  def train(self, batch: dict[str, np.ndarray]) -> None:
    """Makes a step: masked squared error of the heatmaps, clipping, AdamW.

    Args:
      batch: A batch of the input pipeline.
    """
    torch, options = self.torch, self.config.heatmap
    self.network.train()
    maps = self.network(self.images(batch))['heatmaps']
    side = maps.shape[-1]
    centre = (torch.from_numpy(batch['landmarks']) + 0.5) * side - 0.5
    cells = torch.arange(side)
    x = cells[None, None] - centre[..., 0, None]
    y = cells[None, None] - centre[..., 1, None]
    squared = x[:, :, None] ** 2 + y[:, :, :, None] ** 2
    target = options.amplitude * torch.exp(-squared / (2 * options.sigma**2))
    known = torch.from_numpy(np.isin(batch['visibility'], (0, 1))).float()
    of_map = ((maps - target) ** 2).mean((2, 3))
    of_image = (of_map * known).sum(1) / known.sum(1).clamp(min=1)
    mask = torch.from_numpy(batch['mask'])
    loss = (of_image * mask).sum() / mask.sum().clamp(min=1)
    self.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(
      self.network.parameters(), self.config.stages[0].optimizer.clip_norm
    )
    for group in self.optimizer.param_groups:
      group['lr'] = float(self.rate_at(self.steps))
    self.optimizer.step()
    self.steps += 1


def first_variables(config: ConfigDict, seed: int) -> dict[str, Any]:
  """Draws the random weights that our training starts from.

  Args:
    config: The config of the network.
    seed: The seed of the network's training.
  """
  from fld_jax.cascade import stage as stage_lib
  from fld_jax.cascade.setup import resolve

  model = stage_lib.build_model(
    config.model, config.stages[0], 0, resolve(config).landmarks.num_landmarks
  )
  return stage_lib.init_variables(model, config.input.size, seed)


def speed_of_torch(config: ConfigDict, seconds: float) -> dict[str, float]:
  """Measures PyTorch's forward passes and train steps.

  Args:
    config: The config of the network.
    seconds: The time to measure each of them for, in seconds.

  Returns:
    The images/s of `forward` and `train`.
  """
  network = Torch(config)
  batch = example_batch(config.batch_size, config.input.size)
  calls = {
    'forward': lambda: network.forward(batch),
    'train': lambda: network.train(batch),
  }
  return {
    name: rate(call, config.batch_size, seconds) for name, call in calls.items()
  }


def train_torch(config: ConfigDict) -> dict[str, float]:
  """Trains PyTorch's network, and evaluates it by our decoder and metric.

  Args:
    config: The config of the network.

  Returns:
    `ne`, the macro NE on val as a fraction, and `s`, the time in seconds.
  """
  from fld_jax import input_pipeline
  from fld_jax.cascade.setup import resolve
  from fld_jax.datasets.prepare import prepared_builder
  from fld_jax.evaluation import evaluate
  from fld_jax.training import schedules

  start = time.perf_counter()
  builder = prepared_builder(config.dataset)
  records = input_pipeline.Records(builder, config.dataset.splits.train)
  total = schedules.num_steps(
    config.stages[0],
    'train',
    batch_size=config.batch_size,
    num_examples=len(records),
  )
  seed = 100 * config.seed  # as train_cascade has it for the first network
  network = Torch(
    config,
    first_variables(config, seed),
    schedules.learning_rate(config.stages[0].optimizer, total),
  )
  batches = input_pipeline.train_batches(
    records, resolve(config).pipeline, seed=seed
  )
  for _ in range(total):
    network.train(next(batches))
  parts, codec = [], resolve(config).forward.codec
  for batch in input_pipeline.eval_batches(
    input_pipeline.Records(builder, 'val'), resolve(config).pipeline
  ):
    maps = np.moveaxis(network.forward(batch).numpy(), 1, -1)
    points = np.asarray(codec.decode([maps]))
    valid = batch['mask'] > 0
    rows = {k: v[valid] for k, v in batch.items() if k != 'image'}
    parts.append({**rows, 'estimate': points[valid]})
  rows = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
  rows['stages'] = {'stage1': {'estimate': rows.pop('estimate')}}
  ne, _ = evaluate.macro_ne(rows, 'stage1', resolve(config))
  return {'ne': ne, 's': time.perf_counter() - start}


# --- both ---------------------------------------------------------------------


def run_alone(arguments: argparse.Namespace, what: str) -> dict[str, Any]:
  """Runs one measurement in a process of its own.

  Args:
    arguments: The command line's arguments.
    what: The network to measure: 'ours' or 'torch'.

  Returns:
    The result of `measure`.
  """
  command = [sys.executable, __file__, *sys.argv[1:], f'--only={what}']
  # Both use the allocator that launch/environment.sh sets.
  script = f'source {ROOT}/launch/environment.sh; exec "$@"'
  output = subprocess.run(
    ['bash', '-c', script, 'bash', *command],
    check=True,
    stdout=subprocess.PIPE,
    text=True,
  ).stdout
  return json.loads(output.splitlines()[-1])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
  """Makes the measurement that `--only` names.

  Args:
    arguments: The command line's arguments.

  Returns:
    The measured numbers, and `MiB`, the peak memory of this process.
  """
  config = make_config(arguments)
  if arguments.mode == 'train':
    with tempfile.TemporaryDirectory() as workdir:
      result = (
        train_torch(config)
        if arguments.only == 'torch'
        else train_ours(config, pathlib.Path(workdir))
      )
  else:
    measured = speed_of_torch if arguments.only == 'torch' else speed_of_ours
    result = measured(config, arguments.seconds)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  return {**result, 'MiB': peak}


def main() -> None:
  """Reads the arguments, and prints each pair of numbers and its ratio."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('mode', choices=['speed', 'train'])
  parser.add_argument('--manual_dir', default='')
  parser.add_argument('--data_dir', default='~/tensorflow_datasets')
  parser.add_argument('--size', type=int, default=64)
  parser.add_argument('--depth', type=int, default=18)
  parser.add_argument('--width', type=int, default=24)
  parser.add_argument('--channels', type=int, default=48)
  parser.add_argument('--batch_size', type=int, default=50)
  parser.add_argument('--epochs', type=float, default=8)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--pairs', type=int, default=3)
  parser.add_argument('--seconds', type=float, default=10)
  parser.add_argument('--only', choices=['ours', 'torch'])
  arguments = parser.parse_args()
  if arguments.only:
    print(json.dumps(measure(arguments)))
    return
  pairs = arguments.pairs if arguments.mode == 'speed' else 1
  for _ in range(pairs):
    theirs = run_alone(arguments, 'torch')
    ours = run_alone(arguments, 'ours')
    for name, value in theirs.items():
      print(
        f'{name:8} PyTorch {value:10.4g}  ours {ours[name]:10.4g}  '
        f'ratio {ours[name] / value:.2f}'
      )
    if 'PCLoss' in ours:
      low, median, high = (100 * x for x in ours['PCLoss'])
      print(
        f'A train step with PCLoss takes {median:+.2f} % (median of the pairs; '
        f'quartiles {low:+.2f}, {high:+.2f})'
      )
    print(flush=True)


if __name__ == '__main__':
  main()
