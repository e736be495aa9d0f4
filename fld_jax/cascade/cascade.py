"""A trained cascade applied to batches, each image by the networks it needs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fld_jax import input_pipeline
from fld_jax.cascade import pseudo_labels
from fld_jax.cascade.forward import (
  Variables,
  apply_stage,
  apply_stages,
  normalise_images,
)
from fld_jax.cascade.setup import Setup
from fld_jax.cascade.stage import ALL, EASY, HARD, Stage, before
from fld_jax.errors import InputError
from fld_jax.input_pipeline import Records
from fld_jax.runtime import processes
from fld_jax.runtime.parallel import Parallel

# The outputs that a prediction consists of.
OUTPUTS = (
  'estimate',
  'visibility',
  'pseudo_label',
  'confidence',
  'category',
  'attributes',
)


class Cascade:
  """Stages 1 to S; the last may have an easy and a hard branch.

  `predict` runs the single-network stages on each batch. Where the last stage
  has branches, mode 'route' (Liu et al., 2016) groups images by branch until a
  batch of one branch is full, so that each image passes one branch only and
  nothing but the final padding is computed in vain. 'average' (the authors'
  release) and 'two_branch' (Liu et al., Table 2, both trained on everything)
  run both branches and average their offsets; the visibility is that of the
  summed logits.

  Branches that continue the stage before them see what it sees: the landmarks
  and the pseudo-labels of the last stage but that one. It is run as well, so
  that its own landmarks can be compared with theirs; `stage.needed` leaves it
  out.

  Attributes:
    stages: The trained stages.
    setup: The objects that the run's config resolves to.
  """

  def __init__(
    self,
    stages: list[Stage],
    setup: Setup,
    parallel: Parallel,
    extra: tuple[str, ...] = (),
  ):
    """Compiles the networks and puts their variables on the devices.

    Args:
      stages: The trained stages, in their order.
      setup: The objects that the run's config resolves to.
      parallel: The devices; only this process's are used.
      extra: Names of outputs of the networks that are kept beside those that a
        prediction consists of, see `predict`.

    Raises:
      InputError: If images are to be routed, and the last stage has no
        threshold.
    """
    self.stages = stages
    self.setup = setup
    self._parallel = parallel.local()  # images do not depend on each other
    branched = bool(stages) and ALL not in stages[-1].networks
    self._chain = stages[:-1] if branched else stages
    self._last = last = stages[-1] if branched else None
    # The stage that the branches see, and that routes to them.
    self._router = before(self._chain, last.continues)[-1] if last else None
    self._kept = (*OUTPUTS, *extra)
    if last and setup.routing == 'route' and last.epsilon is None:
      raise InputError(
        f"config.routing.mode is 'route', but stage '{last.name}' was "
        "trained as 'two_branch' and has no threshold: valid are 'two_branch' "
        "and 'average'."
      )
    self._run_chain = self._parallel.compile(
      self._chain_fn, sharded_in=(False, True), sharded_out=True
    )
    if branched:
      self._run_branch = self._parallel.compile(
        self._branch_fn, sharded_in=(False, True), sharded_out=True
      )
    self.put_variables()

  def put_variables(self) -> None:
    """Puts the variables that the stages now hold on the devices."""
    self._chain_variables = self._parallel.replicate(
      [stage.networks[ALL] for stage in self._chain]
    )
    if self._last:
      self._branch_variables = {
        name: self._parallel.replicate(variables)
        for name, variables in self._last.networks.items()
      }

  def _chain_fn(
    self, variables: Sequence[Variables], batch: dict[str, jax.Array]
  ) -> list[dict[str, jax.Array]]:
    """Runs the stages with a single network on one device's share."""
    batch = self._prepare(batch)
    outputs = apply_stages(
      [stage.model for stage in self._chain],
      variables,
      batch,
      self.setup.forward,
    )
    return [self._select(out) for out in outputs]

  def _branch_fn(
    self, variables: Variables, batch: dict[str, jax.Array]
  ) -> dict[str, jax.Array]:
    """Runs one branch of the last stage on one device's share."""
    estimate = batch['estimate']
    out = apply_stage(
      self._last.model,
      variables,
      self._prepare(batch),
      estimate,
      self.setup.forward,
    )
    return self._select(out)

  def _select(self, outputs: dict) -> dict:
    """Returns the outputs that are kept."""
    return {key: outputs[key] for key in self._kept if key in outputs}

  def forward(self, images: jax.Array) -> dict[str, dict[str, jax.Array]]:
    """Runs the whole cascade as one pure function that holds the weights.

    Its graph has no branches: every image passes both networks of a branched
    last stage, and in mode 'route' one of the results is selected. So it costs
    four networks where `predict` runs three, with the same result.

    Args:
      images: (B, S, S, 3) uint8 RGB crops; B may be symbolic.

    Returns:
      Name of the stage -> its outputs, as in the `stages` of `predict`. A
      routed stage also has `route` (B,) int32, 0 for easy and 1 for hard.
    """
    batch = {'image': images}
    variables = [stage.networks[ALL] for stage in self._chain]
    outputs = self._chain_fn(variables, batch)
    stages = {
      stage.name: out for stage, out in zip(self._chain, outputs, strict=True)
    }
    if self._last:
      router = stages[self._router.name]
      batch['estimate'] = router['estimate']
      branches = {
        name: self._branch_fn(variables, batch)
        for name, variables in self._last.networks.items()
      }
      if self.setup.routing == 'route':
        easy = self.route_score(router) < self._last.epsilon
        last = jax.tree.map(
          lambda a, b: jnp.where(jnp.expand_dims(easy, range(1, a.ndim)), a, b),
          branches[EASY],
          branches[HARD],
        )
        last['route'] = jnp.where(easy, 0, 1)
      else:
        last = _merge(list(branches.values()))
      stages[self._last.name] = last
    return stages

  def _prepare(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Normalises the images of a batch."""
    return normalise_images(
      batch, self.setup.forward.mean, self.setup.forward.std
    )

  def predict(self, batches: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Runs the cascade on batches.

    Args:
      batches: Batches of `input_pipeline.eval_batches`, all of one size; rows
        with mask 0 are left out.

    Returns:
      A dict of arrays with one row for each valid example, in the order of the
      batches:
      * Every key of the batches but `image`.
      * `stages`, name -> {`estimate` (n, N, 2) in normalised coordinates, and
        if the network has them `visibility` (n, N, 3) logits, `pseudo_label`
        (n, K), `confidence` (n, N) in [0, 1], `category` (n, C) logits,
        `attributes` (n, A) logits and what `extra` names}.
      * In mode 'route' `route_score` (n,), and `is_hard` (n,) bool, True for
        the images of the hard branch.
      * `passes`, network -> the number of images that went through it.
      * `num_corrupt`, the number of images that could not be read.

    Raises:
      InputError: If no example is valid.
    """
    rows, count = self._predict_some(batches)
    _check_count(count)
    return rows

  def _predict_some(
    self,
    batches: Iterable[dict[str, Any]],
    keep: Callable[[dict], dict] | None = None,
  ) -> tuple[dict[str, Any], int]:
    """Runs the cascade on batches that may have no valid example.

    Args:
      batches: Batches of `input_pipeline.eval_batches`.
      keep: Selects what is kept of a batch's rows, None to keep all of it.

    Returns:
      The result of `predict`, and the number of its rows.
    """
    rows, count, images, passes, corrupt = [], 0, _Queues(), {}, 0
    results = {}  # row -> outputs of each branch of the last stage
    for batch, outputs in self._chain_outputs(batches):
      corrupt += int(batch['corrupt'].sum())
      valid = batch['mask'] > 0
      chunk = {k: v[valid] for k, v in batch.items() if k != 'image'}
      chunk['stages'] = {
        stage.name: {k: v[valid] for k, v in out.items()}
        for stage, out in zip(self._chain, outputs, strict=True)
      }
      for stage in self._chain:
        passes[stage.name] = passes.get(stage.name, 0) + int(valid.sum())
      if self._last:
        estimate = chunk['stages'][self._router.name]['estimate']
        for branch, takes in self._assign_branches(chunk).items():
          images.put(
            branch,
            batch['image'][valid][takes],
            estimate[takes],
            count + np.flatnonzero(takes),
          )
        full = images.full(len(valid))
        self._run_branches(full, results, passes)
      rows.append(keep(chunk) if keep else chunk)
      count += int(valid.sum())
    joined = {}
    if rows:
      joined = jax.tree.map(lambda *parts: np.concatenate(parts), *rows)
    if self._last and count:
      self._run_branches(images.rest(len(valid)), results, passes)
      merged = [_merge(results[i]) for i in range(count)]
      joined['stages'][self._last.name] = jax.tree.map(
        lambda *rows: np.stack(rows), *merged
      )
    return {**joined, 'passes': passes, 'num_corrupt': corrupt}, count

  def predict_records(
    self,
    records: Records,
    *,
    augment: bool = False,
    keep: Callable[[dict], dict] | None = None,
  ) -> dict[str, Any]:
    """Runs the cascade on records, each process on its share of them.

    Args:
      records: The records to predict.
      augment: Whether to augment the crops, as training does.
      keep: A function that selects what is kept of a batch's rows, for a
        cascade without branches; None to keep all of it.

    Returns:
      The result of `predict` for this process's share. If the share has no
      example, rows and the branched last stage are missing.

    Raises:
      InputError: If no process has a valid example.
    """
    share = (processes.index(), processes.count())
    batches = input_pipeline.eval_batches(
      records, self.setup.pipeline, augment=augment, share=share
    )
    # Of the process with the largest share: all ask equally often.
    size = self.setup.pipeline.batch_size // share[1]
    rounds = -(-len(records) // (share[1] * size))
    rows = {}

    def predict() -> int:
      own, count = self._predict_some(_asked(batches, rounds), keep)
      rows.update(own)
      return count

    _check_count(sum(processes.call_on_all(predict)))
    return rows

  def _chain_outputs(
    self, batches: Iterable[dict[str, Any]]
  ) -> Iterator[tuple[dict[str, Any], list[dict]]]:
    """Runs the stages with a single network on batches of the host.

    A batch is sent to the devices before the outputs of the one before it are
    fetched, so that they compute while the host works.

    Args:
      batches: The batches.

    Yields:
      Each batch, and the outputs of each stage on the host.
    """
    waiting = []
    for batch in batches:
      waiting.append((batch, self._start_chain(batch['image'])))
      if len(waiting) > 1:
        batch, outputs = waiting.pop(0)
        yield batch, self._parallel.to_host(outputs)
    for batch, outputs in waiting:
      yield batch, self._parallel.to_host(outputs)

  def _start_chain(self, image: np.ndarray) -> list[dict]:
    """Starts the stages with a single network on images of the host."""
    if not self._chain:
      return []
    images = self._parallel.shard({'image': image})
    return self._run_chain(self._chain_variables, images)

  def compile_for(self, batch_size: int) -> None:
    """Compiles the programs of `predict`, or loads them from JAX's cache.

    Args:
      batch_size: Images of the batches that they are for.
    """
    side, count = self.setup.pipeline.size, self.setup.landmarks.num_landmarks
    image = np.zeros((batch_size, side, side, 3), np.uint8)
    outputs = self._start_chain(image)
    if self._last:
      estimate = np.zeros((batch_size, count, 2), np.float32)
      batch = self._parallel.shard({'image': image, 'estimate': estimate})
      for variables in self._branch_variables.values():
        outputs = outputs, self._run_branch(variables, batch)
    jax.block_until_ready(outputs)

  def route_score(self, outputs: dict) -> jax.Array:
    """Computes Liu et al.'s G, the error to expect before the last stage.

    Args:
      outputs: The outputs of the stage that the branches see, with
        `pseudo_label` (n, K); without branches of the last stage.

    Returns:
      (n,) scores, see `pseudo_labels.routing_score`.
    """
    router = self._router or self._chain[-1]
    return pseudo_labels.routing_score(
      outputs['pseudo_label'], router.clusters['errors']
    )

  def routes(self, rows: dict[str, Any]) -> list[tuple[str, ...]]:
    """Names the networks that each image went through.

    Args:
      rows: The result of `predict`, with n rows.

    Returns:
      n tuples of names such as 'stage1' and 'stage3/easy'.
    """
    chain = tuple(stage.name for stage in self._chain)
    count = len(rows['mask'])
    if not self._last:
      return [chain] * count
    name = lambda branch: f'{self._last.name}/{branch}'
    if 'is_hard' not in rows:  # every image passes every branch
      return [(*chain, *map(name, self._last.networks))] * count
    return [(*chain, name(HARD if hard else EASY)) for hard in rows['is_hard']]

  def _assign_branches(self, chunk: dict) -> dict[str, np.ndarray]:
    """Returns branch -> mask of the rows that pass it.

    In mode 'route' it adds `route_score` and `is_hard` to the rows.
    """
    if self.setup.routing != 'route':
      everything = np.ones(len(chunk['mask']), bool)
      return dict.fromkeys(self._last.networks, everything)
    outputs = chunk['stages'][self._router.name]
    score = np.asarray(self.route_score(outputs))
    easy = score < self._last.epsilon
    chunk['route_score'], chunk['is_hard'] = score, ~easy
    return {EASY: easy, HARD: ~easy}

  def _run_branches(
    self,
    groups: Iterable[tuple[str, np.ndarray, np.ndarray, Sequence[int]]],
    results: dict[int, list[dict]],
    passes: dict[str, int],
  ) -> None:
    """Runs groups of images, and adds to their results and to the counts."""
    for branch, image, estimate, places in groups:
      out = self._parallel.to_host(
        self._run_branch(
          self._branch_variables[branch],
          self._parallel.shard({'image': image, 'estimate': estimate}),
        )
      )
      network = f'{self._last.name}/{branch}'
      passes[network] = passes.get(network, 0) + len(places)
      for i, place in enumerate(places):
        results.setdefault(int(place), []).append(
          {key: value[i] for key, value in out.items()}
        )


def _asked(batches: Iterable[dict], rounds: int) -> Iterator[dict]:
  """The batches; before each, asks whether the run shall end.

  Args:
    batches: Batches, at most so many.
    rounds: The number of times to ask, the same on all processes.
  """
  done = 0
  for batch in batches:
    processes.end_if_preempted()
    done += 1
    yield batch
  for _ in range(done, rounds):
    processes.end_if_preempted()


def _check_count(count: int) -> None:
  """Raises InputError if no example was predicted."""
  if not count:
    raise InputError('There is no valid example to predict.')


def _merge(branches: list[dict]) -> dict:
  """Averages estimates and pseudo-labels, sums visibility logits."""
  count = {key: len(branches) for key in branches[0]} | {'visibility': 1}
  return {
    key: sum(out[key] for out in branches) / count[key] for key in branches[0]
  }


class _Queues:
  """Images that wait for a full batch of their branch."""

  def __init__(self):
    self._waiting = {}

  def put(
    self,
    branch: str,
    images: np.ndarray,
    estimates: np.ndarray,
    places: np.ndarray,
  ) -> None:
    """Adds images of a branch, with their estimates and rows."""
    queue = self._waiting.setdefault(branch, [])
    queue.extend(zip(images, estimates, places, strict=True))

  def full(
    self, size: int
  ) -> Iterator[tuple[str, np.ndarray, np.ndarray, Sequence[int]]]:
    """Takes out all full batches.

    Args:
      size: The number of images in a batch.

    Yields:
      A branch, and the images, estimates and rows of one batch of it.
    """
    for branch, queue in self._waiting.items():
      while len(queue) >= size:
        yield self._group(branch, queue[:size], size)
        del queue[:size]

  def rest(
    self, size: int
  ) -> Iterator[tuple[str, np.ndarray, np.ndarray, Sequence[int]]]:
    """Gives the images that are left, padded with the first of them."""
    for branch, queue in self._waiting.items():
      if queue:
        yield self._group(branch, queue, size)

  def _group(
    self, branch: str, entries: list[tuple], size: int
  ) -> tuple[str, np.ndarray, np.ndarray, Sequence[int]]:
    """Stacks entries to a batch of the given size."""
    images, estimates, places = zip(*entries, strict=True)
    fill = size - len(entries)
    stack = lambda rows: np.stack(rows + rows[:1] * fill)
    return branch, stack(images), stack(estimates), places
