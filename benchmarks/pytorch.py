"""A comparison with the same network in PyTorch: ms/image, peak memory, NE.

    pip install -c constraints.txt '.[dev,torch]'
    python benchmarks/pytorch.py speed --network=detector --threads=2
    python benchmarks/pytorch.py train --manual_dir=FOLDER --data_dir=D

`speed` times forward passes and whole train steps (loss, gradient, AdamW) of a
network: `detector` is that of configs/detector.py, EfficientNet-Lite0 with a
top-down decoder, `simple_baselines` the small one of configs/pcloss.py, and
`dfa` the first stage of configs/dfa.py at size=full, VGG-16 at 224 pixels with
`--width=64`; other widths are narrow copies of it.
Ours and PyTorch's run in processes of their own on the same `--threads` cores,
and take turns of `--seconds`, so that what else the machine does meets both. It
prints medians, and median and quartiles of the turns' ratios: PyTorch's time
over ours, so above 1 ours is faster. Before that it checks that both compute
the same heatmaps and the same loss from the same weights. Both use float32 with
channels last; neither has a head of visibility or of the order of left and
right, or averages its weights. With `--csv` it also appends a row for
docs/results/speed_pytorch.csv. For SimpleBaselines it also times our steps with
PCLoss and without, in turns.
`train` trains configs/pcloss.py's small SimpleBaselines with both, on the same
batches from the same first weights, and prints macro NE on val.

Everything runs on a CPU, in float32. With `--accelerator` the speeds are those
of the first GPU, in bfloat16: PyTorch's network compiled, in autocast; memory
is that of the device at its peak, and the share of the device's peak is that of
`--tflops`, by XLA's count of a forward pass and three times that for a step.
"""

import argparse
import csv
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
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'helpers')]
from fld_jax.config import XLA_CPU_FLAGS  # noqa: E402

os.environ.setdefault('XLA_FLAGS', XLA_CPU_FLAGS)  # as fld_jax.main sets it
# With --accelerator JAX takes the accelerator that it finds.
if '--accelerator' not in sys.argv or '--only=check' in sys.argv:
  os.environ['JAX_PLATFORMS'] = 'cpu'
# Two processes share a GPU: neither may take its whole memory at once.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')


def make_config(arguments: argparse.Namespace) -> ConfigDict:
  """Makes the config of the network.

  Args:
    arguments: The command line's arguments, which change some fields.
  """
  from fld_jax import defaults
  from fld_jax.configs import detector, dfa, pcloss
  from fld_jax.models.vgg import VGG16

  if arguments.network == 'detector':
    config = detector.get_config(
      'dataset=deepfashion,size=medium,pretrained=none'
    )
  elif arguments.network == 'dfa':
    config = dfa.get_config('dataset=deepfashion,size=full,stages=1')
    blocks = tuple((n, c * arguments.width // 64) for n, c in VGG16)
    defaults.set_backbone(config, 'vgg16', blocks=blocks, batch_norm=False)
    config.model.hidden, config.model.dropout = 64 * arguments.width, 0.0
    (stage,) = config.stages
    stage.pseudo_label.num_clusters, stage.weights.pseudo_label = 0, 0.0
    stage.landmark_loss, stage.weight_schedule = 'l1', 'constant'
    defaults.set_adamw(stage.optimizer)
  else:
    config = pcloss.get_config(
      'dataset=deepfashion,size=small,model=simple_baselines,pcloss=none,'
      f'backbone=resnet{arguments.depth}'
    )
    config.model.trunk.width = arguments.width
    config.model.channels = arguments.channels
    config.stages[0].train_epochs = arguments.epochs
    # One evaluation, so that the best checkpoint is the last.
    config.stages[0].eval_epochs = arguments.epochs
    config.stages[0].min_steps = 0
  config.seed = arguments.seed
  config.batch_size = arguments.batch_size or config.batch_size
  config.input.size = arguments.size or config.input.size
  if 'visibility' in config.model:
    config.model.visibility = False
  config.model.dtype = 'float32'
  if arguments.accelerator and arguments.only == 'check':
    config.batch_size = 4  # on the CPU, where a full one would take minutes
  elif arguments.accelerator:
    config.model.dtype = 'bfloat16'
  config.stages[0].weights.visibility = 0.0
  config.stages[0].weights.pair_order = 0.0
  config.stages[0].average = 0.0
  config.dataset.manual_dir = arguments.manual_dir
  config.dataset.data_dir = arguments.data_dir
  return config


def median_time(call: Callable[[], Any], seconds: float) -> float:
  """Measures the time of the median call, in seconds.

  Args:
    call: The function to call, at least three times.
    seconds: The time to measure for, in seconds.
  """
  times, start = [], time.perf_counter()
  while time.perf_counter() - start < seconds or len(times) < 3:
    before = time.perf_counter()
    call()
    times.append(time.perf_counter() - before)
  return float(np.median(times))


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


class Ours:
  """Our network, its train step and its forward pass.

  Attributes:
    batch: The batch on the device.
    variables: The variables that the forward pass takes.
  """

  def __init__(
    self, config: ConfigDict, variables: dict[str, Any] | None = None
  ):
    """Compiles nothing yet.

    Args:
      config: The config of the network.
      variables: The variables to start from, None for random ones.
    """
    from fld_jax.cascade import stage as stage_lib
    from fld_jax.cascade.forward import normalise_images
    from fld_jax.cascade.setup import resolve
    from fld_jax.runtime.parallel import Parallel

    self._config, self._setup = config, resolve(config)
    self._parallel = parallel = Parallel('shard_map')
    self._model = model = stage_lib.build_model(
      config.model, config.stages[0], 0, self._setup.landmarks
    )
    self.variables = variables or stage_lib.init_variables(
      model, config.input.size, 0
    )
    self.batch = parallel.shard(
      example_batch(config.batch_size, config.input.size)
    )
    self._placed = parallel.replicate(self.variables)
    mean, std = config.input.mean, config.input.std

    def run(variables: dict[str, Any], batch: dict[str, Any]) -> Any:
      batch = normalise_images(batch, mean, std)
      outputs = model.apply(variables, batch, train=False)
      return outputs['heatmaps' if 'heatmaps' in outputs else 'landmarks']

    self._run = parallel.compile(
      run, sharded_in=(False, True), sharded_out=True
    )

  def forward(self) -> np.ndarray:
    """Computes the outputs of the batch, in evaluation mode.

    Returns:
      Heatmaps (B, W, W, N); landmarks (B, N, 2) of a network without.
    """
    return np.asarray(self._run(self._placed, self.batch))

  def operations(self) -> float:
    """Counts the floating-point operations of `forward`, as XLA does."""
    return self._run.lower(self._placed, self.batch).cost_analysis()['flops']

  def trainer(self, pcloss: float = 0.0) -> Callable[[], float]:
    """Returns a function that makes a train step and returns its loss.

    Args:
      pcloss: The weight of PCLoss.
    """
    import jax

    from fld_jax.runtime import checkpoint
    from fld_jax.training import schedules, train_step
    from fld_jax.training.objective import Objective

    parallel = self._parallel
    (stage,) = self._config.stages
    stage = stage.copy_and_resolve_references()
    stage.weights.position_constraint = pcloss
    optimizer = schedules.optimizer(stage.optimizer, 1000, self._model.backbone)
    objective = Objective.of(self._config, self._setup, 0)
    step = train_step.on_devices(
      train_step.make_train_step(
        self._model,
        (),
        self._setup.forward,
        dataclasses.replace(objective, stage=stage),
        schedules.loss_weights(stage, 1000),
        optimizer,
      ),
      parallel,
    )
    state = parallel.replicate(
      checkpoint.to_host(
        train_step.TrainState.create(self.variables, optimizer)
      )
    )

    given = parallel.replicate(train_step.Given(np.uint32(0), {}))

    def train() -> float:
      nonlocal state
      state, metrics = step(state, parallel.replicate(()), given, self.batch)
      jax.block_until_ready((state, metrics))
      return float(metrics['loss'])

    return train


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
    device: The torch device that it is on.
    optimizer: The torch optimiser, AdamW.
    rate_at: The function of the step to the learning rate.
    steps: The number of train steps done.
  """

  def __init__(
    self,
    config: ConfigDict,
    variables: dict[str, Any] | None = None,
    rate_at: Callable[[int], float] = lambda step: 1e-3,
    accelerated: bool = False,
  ):
    """Makes the network.

    Args:
      config: The config of the network.
      variables: The variables of our network to start from, None for PyTorch's
        random ones.
      rate_at: A function of the step to the learning rate.
      accelerated: Whether the network is compiled and runs in bfloat16, on the
        GPU if there is one.
    """
    import torch
    import torch_networks

    self.torch, self.config, self._accelerated = torch, config, accelerated
    on_gpu = accelerated and torch.cuda.is_available()
    self.device = torch.device('cuda' if on_gpu else 'cpu')
    fields = config.model
    if fields.name == 'top_down':
      network = torch_networks.TopDown(fields.channels)
    elif fields.name == 'dfa':
      network = torch_networks.DFA(
        fields.trunk.blocks, config.input.size, fields.hidden
      )
    else:
      depth = int(fields.backbone.removeprefix('resnet'))
      network = torch_networks.SimpleBaselines(
        depth, fields.trunk.width, fields.channels
      )
    if variables is not None:
      torch_networks.load_variables(network, variables)
    self.network = network.to(self.device, memory_format=torch.channels_last)
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
    self._call = torch.compile(self.network) if accelerated else self.network

  def place(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
    """Copies a batch to the device.

    Args:
      batch: A batch of the input pipeline.
    """
    keys = ('image', 'landmarks', 'visibility', 'mask')
    as_tensor = lambda x: self.torch.from_numpy(np.asarray(x)).to(self.device)
    return {key: as_tensor(batch[key]) for key in keys}

  def _outputs(self, batch: dict[str, Any]) -> dict[str, Any]:
    """The network's outputs, in float32."""
    images = self.images(batch)
    with self.torch.autocast(
      self.device.type, self.torch.bfloat16, enabled=self._accelerated
    ):
      outputs = self._call(images)
    return {name: x.float() for name, x in outputs.items()}

  def images(self, batch: dict[str, np.ndarray]) -> Any:
    """Normalises images.

    Args:
      batch: A batch of `place` with `image` (B, S, S, 3) uint8.

    Returns:
      A float32 tensor (B, 3, S, S), with channels last in memory.
    """
    torch, config = self.torch, self.config
    image = batch['image'].permute(0, 3, 1, 2)
    mean = torch.tensor(config.input.mean, device=self.device).view(1, 3, 1, 1)
    std = torch.tensor(config.input.std, device=self.device).view(1, 3, 1, 1)
    image = (image.float() - mean) / std
    return image.contiguous(memory_format=torch.channels_last)

  def forward(self, batch: dict[str, np.ndarray]) -> Any:
    """Computes the outputs in evaluation mode.

    Args:
      batch: A batch of `place`.

    Returns:
      A float32 tensor on the host: (B, N, W, W) heatmaps, or (B, N, 2)
      landmarks of a network without.
    """
    self.network.eval()
    with self.torch.no_grad():
      outputs = self._outputs(batch)
    name = 'heatmaps' if 'heatmaps' in outputs else 'landmarks'
    return outputs[name].cpu()

  def train(self, batch: dict[str, Any]) -> float:
    """Makes a step: the stage's losses, clipping, AdamW.

    Args:
      batch: A batch of `place`.

    Returns:
      The loss: the heatmaps' masked squared error and the l1 of the soft-argmax
      with their weights.
    """
    torch, (stage,) = self.torch, self.config.stages
    self.network.train()
    outputs = self._outputs(batch)
    truth, mask = batch['landmarks'], batch['mask']
    known = (batch['visibility'] < 2).float()
    of_image = torch.zeros(len(mask), device=self.device)
    if stage.weights.heatmaps:
      maps = outputs['heatmaps']
      of_image = stage.weights.heatmaps * self._heatmaps(maps, truth, known)
    if stage.weights.landmarks:
      found = outputs.get('landmarks')
      found = self._soft_argmax(maps) if found is None else found
      error = (found - truth).abs().sum(2) * known
      of_image = of_image + stage.weights.landmarks * error.sum(1)
    loss = (of_image * mask).sum() / mask.sum().clamp(min=1)
    self.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(
      self.network.parameters(), stage.optimizer.clip_norm
    )
    for group in self.optimizer.param_groups:
      group['lr'] = float(self.rate_at(self.steps))
    self.optimizer.step()
    self.steps += 1
    return float(loss.detach())

  def _heatmaps(self, maps: Any, truth: Any, known: Any) -> Any:
    """Mean squared error to Gaussians, one value an image."""
    torch, options = self.torch, self.config.heatmap
    side = maps.shape[-1]
    centre = (truth + 0.5) * side - 0.5
    cells = torch.arange(side, device=self.device)
    x = cells[None, None] - centre[..., 0, None]
    y = cells[None, None] - centre[..., 1, None]
    squared = x[:, :, None] ** 2 + y[:, :, :, None] ** 2
    target = options.amplitude * torch.exp(-squared / (2 * options.sigma**2))
    of_map = ((maps - target) ** 2).mean((2, 3))
    return (of_map * known).sum(1) / known.sum(1).clamp(min=1)

  def _soft_argmax(self, maps: Any) -> Any:
    """Landmarks (B, N, 2) in [-0.5, 0.5]."""
    torch, side = self.torch, maps.shape[-1]
    share = (self.config.heatmap.alpha * maps).flatten(2).softmax(2)
    share = share.unflatten(2, (side, side))
    place = (torch.arange(side, device=self.device) + 0.5) / side - 0.5
    x = (share.sum(2) * place).sum(2)
    y = (share.sum(3) * place).sum(2)
    return torch.stack([x, y], dim=2)


def first_variables(config: ConfigDict, seed: int) -> dict[str, Any]:
  """Draws the random weights that our training starts from.

  Args:
    config: The config of the network.
    seed: The seed of the network's training.
  """
  from fld_jax.cascade import stage as stage_lib
  from fld_jax.cascade.setup import resolve

  model = stage_lib.build_model(
    config.model, config.stages[0], 0, resolve(config).landmarks
  )
  return stage_lib.init_variables(model, config.input.size, seed)


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
    network.train(network.place(next(batches)))
  parts, codec = [], resolve(config).forward.codec
  for batch in input_pipeline.eval_batches(
    input_pipeline.Records(builder, 'val'), resolve(config).pipeline
  ):
    maps = network.forward(network.place(batch)).numpy()
    maps = np.moveaxis(maps, 1, -1)
    points = np.asarray(codec.decode([maps]))
    valid = batch['mask'] > 0
    rows = {k: v[valid] for k, v in batch.items() if k != 'image'}
    parts.append({**rows, 'estimate': points[valid]})
  rows = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
  rows['stages'] = {'stage1': {'estimate': rows.pop('estimate')}}
  ne, _ = evaluate.macro_ne(rows, 'stage1', resolve(config))
  return {'ne': ne, 's': time.perf_counter() - start}


# --- both ---------------------------------------------------------------------


def check_equal(config: ConfigDict) -> dict[str, float]:
  """Compares both networks, on the same weights and images.

  Args:
    config: The config of the network.

  Returns:
    The largest difference of `outputs`, heatmaps or landmarks, and the relative
    one of the `loss` of a train step.

  Raises:
    SystemExit: A difference is above 1e-4, so that the speeds would not be
      those of the same network.
  """
  import torch_networks

  theirs = Torch(config)
  torch_networks.randomise(theirs.network, 1)
  ours = Ours(config, torch_networks.to_variables(theirs.network))
  batch = example_batch(config.batch_size, config.input.size)
  placed = theirs.place(batch)
  outputs = theirs.forward(placed).numpy()
  if outputs.ndim == 4:
    outputs = np.moveaxis(outputs, 1, -1)
  expected = theirs.train(placed)
  found = {
    'outputs': float(np.abs(ours.forward() - outputs).max()),
    'loss': abs(ours.trainer()() / expected - 1),
  }
  if max(found.values()) > 1e-4:
    raise SystemExit(f'The networks differ: {found}')
  return found


def peak_memory(arguments: argparse.Namespace) -> float:
  """The largest memory so far in MiB: of this process, or on a GPU of that.

  Args:
    arguments: The command line's arguments; `only` is 'ours' or 'torch'.
  """
  if arguments.accelerator and arguments.only == 'ours':
    import jax

    # None on a CPU, where an accelerator's run is tried.
    if stats := jax.local_devices()[0].memory_stats():
      return stats['peak_bytes_in_use'] / 2**20
  if arguments.accelerator and arguments.only == 'torch':
    import torch

    if torch.cuda.is_available():
      return torch.cuda.max_memory_allocated() / 2**20
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def answer(arguments: argparse.Namespace) -> None:
  """Measures what the lines of standard input ask for, until they end.

  A line is 'forward', 'train', 'PCLoss' or 'operations'. The first answer is
  'ready', each other one a number of seconds, PCLoss's quartiles or the
  operations of a forward pass; the last is the peak memory in MiB.

  Args:
    arguments: The command line's arguments; `only` is 'ours' or 'torch'.
  """
  config = make_config(arguments)
  if arguments.only == 'ours':
    ours = Ours(config)
    calls = {'forward': ours.forward, 'train': ours.trainer()}
  else:
    network = Torch(config, accelerated=arguments.accelerator)
    if not arguments.accelerator:
      network.torch.set_num_threads(arguments.threads)
    batch = network.place(example_batch(config.batch_size, config.input.size))
    calls = {
      'forward': lambda: network.forward(batch),
      'train': lambda: network.train(batch),
    }
  for call in calls.values():
    call(), call()
  # With PCLoss another step is compiled: the peak is that without.
  peak = peak_memory(arguments)
  print('ready', flush=True)
  for line in sys.stdin:
    what = line.strip()
    if what == 'PCLoss':
      found = in_turns(
        calls['train'], ours.trainer(1e-5), 2 * arguments.seconds
      )
    elif what == 'operations':
      found = ours.operations()
    else:
      found = median_time(calls[what], arguments.seconds)
      peak = max(peak, peak_memory(arguments))
    print(json.dumps(found), flush=True)
  print(json.dumps(peak), flush=True)


class Worker:
  """A process that measures one of the two networks."""

  def __init__(self, what: str):
    """Starts it, and waits until everything is compiled.

    Args:
      what: The network to measure: 'ours' or 'torch'.
    """
    command = [sys.executable, __file__, *sys.argv[1:], f'--only={what}']
    # Both use the allocator that launch/environment.sh sets.
    script = f'source {ROOT}/launch/environment.sh; exec "$@"'
    self._process = subprocess.Popen(
      ['bash', '-c', script, 'bash', *command],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    while self._read() != 'ready':
      pass

  def _read(self) -> str:
    line = self._process.stdout.readline()
    if not line:
      raise SystemExit('A process of the benchmark has ended early.')
    return line.strip()

  def ask(self, what: str) -> Any:
    """Measures one of what `answer` knows."""
    self._process.stdin.write(f'{what}\n')
    self._process.stdin.flush()
    return json.loads(self._read())

  def end(self) -> float:
    """Ends the process; returns its peak memory in MiB."""
    self._process.stdin.close()
    peak = json.loads(self._read())
    self._process.wait()
    return peak


def run_once(arguments: argparse.Namespace, what: str) -> dict[str, Any]:
  """Runs one training, or the check, in a process of its own.

  Args:
    arguments: The command line's arguments.
    what: 'ours', 'torch' or 'check'.

  Returns:
    The figures that it prints.
  """
  command = [sys.executable, __file__, *sys.argv[1:], f'--only={what}']
  script = f'source {ROOT}/launch/environment.sh; exec "$@"'
  output = subprocess.run(
    ['bash', '-c', script, 'bash', *command],
    check=True,
    stdout=subprocess.PIPE,
    text=True,
  ).stdout
  return json.loads(output.splitlines()[-1])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
  """Makes the training, or the check, that `--only` names.

  Args:
    arguments: The command line's arguments.

  Returns:
    The figures; of a training with `MiB`, the peak memory of this process.
  """
  config = make_config(arguments)
  if arguments.only == 'check':
    return check_equal(config)
  with tempfile.TemporaryDirectory() as workdir:
    result = (
      train_torch(config)
      if arguments.only == 'torch'
      else train_ours(config, pathlib.Path(workdir))
    )
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  return {**result, 'MiB': peak}


def compare_speed(arguments: argparse.Namespace) -> None:
  """Prints the speeds of both networks, measured in turns.

  Args:
    arguments: The command line's arguments.
  """
  config = make_config(arguments)
  side, count = config.input.size, config.batch_size
  print(f'{arguments.network}, {side} pixels, batches of {count}, ', end='')
  where = f'{arguments.threads} threads'
  print('the accelerator' if arguments.accelerator else where, flush=True)
  print('differences:', run_once(arguments, 'check'), flush=True)
  workers = {what: Worker(what) for what in ('torch', 'ours')}
  medians, figures = {}, {}
  if arguments.tflops:
    at_peak = workers['ours'].ask('operations') / 1e12 / arguments.tflops
  # For a step the common count is three forward passes.
  for name, passes in (('forward', 1), ('train', 3)):
    times = []
    for turn in range(arguments.pairs):
      order = ('torch', 'ours') if turn % 2 else ('ours', 'torch')
      taken = {what: workers[what].ask(name) for what in order}
      times.append((taken['torch'], taken['ours']))
    theirs, ours = 1000 / count * np.median(times, axis=0)
    ratios = [a / b for a, b in times]
    low, medians[name], high = np.quantile(ratios, (0.25, 0.5, 0.75))
    print(
      f'{name:8} ms/image: PyTorch {theirs:.2f}, ours {ours:.2f}; ratio '
      f'{medians[name]:.2f} (quartiles {low:.2f}, {high:.2f}; '
      f'{arguments.pairs} turns)',
      flush=True,
    )
    figures[f'{name}_ms'] = f'{ours:.4g}'
    if arguments.tflops:
      share = passes * at_peak / np.median([ours for _, ours in times])
      figures[f'{name}_share'] = f'{share:.3g}'
      print(f'{name:8} {100 * share:.1f} % of the peak', flush=True)
  added = ''
  if arguments.network == 'simple_baselines' and not arguments.accelerator:
    low, median, high = (100 * x for x in workers['ours'].ask('PCLoss'))
    added = f'{median:+.2f}'
    print(
      f'A train step with PCLoss takes {added} % (median of the pairs; '
      f'quartiles {low:+.2f}, {high:+.2f})'
    )
  theirs, ours = workers['torch'].end(), workers['ours'].end()
  print(f'MiB      PyTorch {theirs:.0f}, ours {ours:.0f}; {ours / theirs:.2f}')
  if arguments.csv:
    figures |= {'MiB': f'{ours:.0f}', 'pcloss_percent': added}
    append_row(arguments, config, medians, ours / theirs, figures)


def append_row(
  arguments: argparse.Namespace,
  config: ConfigDict,
  ratios: dict[str, float],
  memory: float,
  figures: dict[str, str],
) -> None:
  """Appends a row to `--csv`, in the columns that it has.

  Args:
    arguments: The command line's arguments.
    config: The config of the network.
    ratios: The ratios of `forward` and `train`.
    memory: Our peak memory over PyTorch's.
    figures: Further columns and their values.
  """
  path = pathlib.Path(arguments.csv)
  with path.open(newline='') as file:
    table = csv.DictReader(file)
    columns, before = table.fieldnames, list(table)
  side = config.input.size
  width = arguments.width
  series = {
    'detector': f'detector: EfficientNet-Lite0, {side} pixels',
    'dfa': f'DFA stage 1: VGG-16 of width {width}, {side} pixels',
    'simple_baselines': (
      f'{width} and {arguments.channels} channels, {side} pixels'
    ),
  }[arguments.network]
  if arguments.accelerator and arguments.network == 'simple_baselines':
    series = f'SimpleBaselines: ResNet-{arguments.depth}, {series}'
  cores = '' if arguments.accelerator else str(arguments.threads)
  alike = lambda row: (row['series'], row.get('cores', '')) == (series, cores)
  row = {
    'series': series,
    'command': (
      'python benchmarks/pytorch.py speed '
      f'--network={arguments.network} '
      + ('--accelerator' if arguments.accelerator else f'--threads={cores}')
    ),
    'commit': arguments.commit,
    'device': arguments.device,
    'cores': cores,
    'pixels': side,
    'batch': config.batch_size,
    'pair': 1 + sum(map(alike, before)),
    'forward': f'{ratios["forward"]:.2f}',
    'train_step': f'{ratios["train"]:.2f}',
    'peak_memory': f'{memory:.2f}',
    **figures,
  }
  with path.open('a', newline='') as file:
    csv.DictWriter(
      file, columns, lineterminator='\n', extrasaction='ignore'
    ).writerow(row)


def read_arguments(words: list[str] | None = None) -> argparse.Namespace:
  """Reads the arguments.

  Args:
    words: They; None for the command line's.
  """
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('mode', choices=['speed', 'train'])
  parser.add_argument(
    '--network',
    choices=['simple_baselines', 'detector', 'dfa'],
    default='simple_baselines',
  )
  parser.add_argument('--threads', type=int, choices=[1, 2], default=2)
  parser.add_argument('--accelerator', action='store_true')
  parser.add_argument('--tflops', type=float, default=0, help='of its peak')
  parser.add_argument('--manual_dir', default='')
  parser.add_argument('--data_dir', default='~/tensorflow_datasets')
  parser.add_argument('--size', type=int, default=0)
  parser.add_argument('--depth', type=int, default=18)
  parser.add_argument('--width', type=int, default=24)
  parser.add_argument('--channels', type=int, default=48)
  parser.add_argument('--batch_size', type=int, default=0)
  parser.add_argument('--epochs', type=float, default=8)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--pairs', type=int, default=7)
  parser.add_argument('--seconds', type=float, default=5)
  parser.add_argument('--csv', default='')
  parser.add_argument('--commit', default='')
  parser.add_argument('--device', default='')
  parser.add_argument('--only', choices=['ours', 'torch', 'check'])
  arguments = parser.parse_args(words)
  if arguments.mode == 'train' and arguments.network != 'simple_baselines':
    parser.error('train is for --network=simple_baselines.')
  return arguments


def main() -> None:
  """Reads the arguments, measures, and prints the figures."""
  arguments = read_arguments()
  if arguments.mode == 'speed' and not arguments.accelerator:
    # Both libraries take as many threads as they are allowed cores.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: arguments.threads])
  if arguments.only:
    if arguments.mode == 'speed' and arguments.only != 'check':
      answer(arguments)
    else:
      print(json.dumps(measure(arguments)))
    return
  if arguments.mode == 'speed':
    compare_speed(arguments)
    return
  theirs, ours = run_once(arguments, 'torch'), run_once(arguments, 'ours')
  for name, value in theirs.items():
    print(
      f'{name:8} PyTorch {value:10.4g}  ours {ours[name]:10.4g}  '
      f'ratio {ours[name] / value:.2f}'
    )


if __name__ == '__main__':
  main()
