"""A trained cascade applied to batches, each image by the networks it needs."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from fld_jax import input_pipeline
from fld_jax.cascade import pseudo_labels
from fld_jax.cascade.forward import apply_stage, apply_stages, normalise_images
from fld_jax.cascade.setup import Setup
from fld_jax.cascade.stage import ALL, EASY, HARD, Stage
from fld_jax.errors import InputError
from fld_jax.runtime import processes
from fld_jax.runtime.parallel import Parallel


class Cascade:
  """Stages 1 to S; the last may have an easy and a hard branch.

  `predict` runs the single-network stages on each batch. Where the last stage
  has branches, mode 'route' (Liu et al., 2016) groups images by branch until a
  batch of one branch is full, so that each image passes one branch only and
  nothing but the final padding is computed in vain. 'average' (the authors'
  release) and 'two_branch' (Liu et al., Table 2, both trained on everything)
  run both branches and average their offsets; the visibility is that of the
  summed logits.

  Attributes:
    stages: The trained stages.
    setup: What the run's config resolves to.
  """

  def __init__(self, stages: list[Stage], setup: Setup, parallel: Parallel):
    self.stages = stages
    self.setup = setup
    self._parallel = parallel.local()  # no image needs another process
    branched = bool(stages) and ALL not in stages[-1].networks
    self._chain = stages[:-1] if branched else stages
    self._last = last = stages[-1] if branched else None
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
    """Puts the stages' present variables on the devices."""
    self._chain_variables = self._parallel.replicate(
      [stage.networks[ALL] for stage in self._chain]
    )
    if self._last:
      self._branch_variables = {
        name: self._parallel.replicate(variables)
        for name, variables in self._last.networks.items()
      }

  def _chain_fn(self, variables, batch):
    batch = self._prepare(batch)
    outputs = apply_stages(
      [stage.model for stage in self._chain],
      variables,
      batch,
      self.setup.forward,
    )
    return [_select(out) for out in outputs]

  def _branch_fn(self, variables, batch):
    estimate = batch['estimate']
    out = apply_stage(
      self._last.model,
      variables,
      self._prepare(batch),
      estimate,
      self.setup.forward,
    )
    return _select(out)

  def forward(self, images) -> dict[str, dict]:
    """The whole cascade as one pure function, with the weights in it.

    Its graph has no choice in it: every image passes both branches of the last
    stage, and in mode 'route' one of the results is taken. So it costs four
    networks where `predict` runs three, and finds the same.

    Args:
      images: (B, S, S, 3) uint8 crops; B may be a symbol.

    Returns:
      name of the stage -> its outputs, see `predict`. Of a routed stage also
      `route`: (B,) int32, 0 easy and 1 hard.
    """
    batch = {'image': images}
    variables = [stage.networks[ALL] for stage in self._chain]
    outputs = self._chain_fn(variables, batch)
    stages = {
      stage.name: out for stage, out in zip(self._chain, outputs, strict=True)
    }
    if self._last:
      batch['estimate'] = outputs[-1]['estimate']
      branches = {
        name: self._branch_fn(variables, batch)
        for name, variables in self._last.networks.items()
      }
      if self.setup.routing == 'route':
        easy = self.route_score(outputs[-1]) < self._last.epsilon
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

  def _prepare(self, batch):
    return normalise_images(
      batch, self.setup.forward.mean, self.setup.forward.std
    )

  def predict(self, batches: Iterable[dict]) -> dict:
    """Runs the cascade.

    Args:
      batches: of `input_pipeline.eval_batches`, all of one size; rows with
        mask 0 are left out.

    Returns:
      Dict of arrays with one row a valid example, in the order of the batches:
      every host key of the batches, `landmarks`, `visibility`; `stages`: name
      -> {`estimate` (n, N, 2) normalised, and if the network has it
      `visibility` (n, N, 3) logits, `pseudo_label` (n, K), `confidence`
      (n, N) in [0, 1]};
      `route_score` (n,) and `is_hard` (n,) bool, the branch, in mode route;
      `passes`: network -> number of images that went through it;
      `num_corrupt`.
    """
    rows, count = self._predict_some(batches)
    _check_count(count)
    return rows

  def _predict_some(self, batches: Iterable[dict], keep=None):
    """As `predict`, and how many rows there are, which may be none."""
    rows, count, images, passes, corrupt = [], 0, _Queues(), {}, 0
    results = {}  # row -> outputs of the last, branched stage
    for batch in batches:
      corrupt += int(batch['corrupt'].sum())
      valid = batch['mask'] > 0
      outputs = self._chain_outputs(batch)
      chunk = {k: v[valid] for k, v in batch.items() if k != 'image'}
      chunk['stages'] = {
        stage.name: {k: v[valid] for k, v in out.items()}
        for stage, out in zip(self._chain, outputs, strict=True)
      }
      for stage in self._chain:
        passes[stage.name] = passes.get(stage.name, 0) + int(valid.sum())
      if self._last:
        estimate = outputs[-1]['estimate'][valid]
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
    records,
    *,
    augment: bool = False,
    keep: Callable[[dict], dict] | None = None,
  ) -> dict:
    """Runs the cascade on records, each process on its share of them.

    Args:
      records: `input_pipeline.Records`.
      augment: see `input_pipeline.eval_batches`.
      keep: of a batch's rows (of a cascade without branches), what to keep;
        None keeps them whole.

    Returns:
      See `predict`; the rows of this process's share, of which there may be
      none; the last, branched stage then has no entry.
    """
    share = (processes.index(), processes.count())
    batches = input_pipeline.eval_batches(
      records, self.setup.pipeline, augment=augment, share=share
    )
    rows = {}

    def predict() -> int:
      own, count = self._predict_some(batches, keep)
      rows.update(own)
      return count

    _check_count(sum(processes.call_on_all(predict)))
    return rows

  def _chain_outputs(self, batch: dict) -> list[dict]:
    if not self._chain:
      return []
    images = self._parallel.shard({'image': batch['image']})
    return self._parallel.to_host(
      self._run_chain(self._chain_variables, images)
    )

  def route_score(self, outputs: dict):
    """Liu et al.'s G: the error to expect after the last but one stage."""
    return pseudo_labels.routing_score(
      outputs['pseudo_label'], self._chain[-1].clusters['errors']
    )

  def routes(self, rows: dict) -> list[tuple[str, ...]]:
    """Of each row of `predict`, the networks that its image went through."""
    chain = tuple(stage.name for stage in self._chain)
    count = len(rows['mask'])
    if not self._last:
      return [chain] * count
    name = lambda branch: f'{self._last.name}/{branch}'
    if 'is_hard' not in rows:  # every image passes every branch
      return [(*chain, *map(name, self._last.networks))] * count
    return [(*chain, name(HARD if hard else EASY)) for hard in rows['is_hard']]

  def _assign_branches(self, chunk: dict) -> dict[str, np.ndarray]:
    """For each branch, which of the rows pass it."""
    if self.setup.routing != 'route':
      everything = np.ones(len(chunk['mask']), bool)
      return dict.fromkeys(self._last.networks, everything)
    outputs = chunk['stages'][self._chain[-1].name]
    score = np.asarray(self.route_score(outputs))
    easy = score < self._last.epsilon
    chunk['route_score'], chunk['is_hard'] = score, ~easy
    return {EASY: easy, HARD: ~easy}

  def _run_branches(self, groups, results: dict, passes: dict) -> None:
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


def _check_count(count: int) -> None:
  """Raises InputError if no example was predicted."""
  if not count:
    raise InputError('There is no valid example to predict.')


def _select(outputs: dict) -> dict:
  keys = ('estimate', 'visibility', 'pseudo_label', 'confidence')
  return {key: outputs[key] for key in keys if key in outputs}


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

  def put(self, branch, images, estimates, places) -> None:
    queue = self._waiting.setdefault(branch, [])
    queue.extend(zip(images, estimates, places, strict=True))

  def full(self, size: int):
    """Whole batches: (branch, images, estimates, places)."""
    for branch, queue in self._waiting.items():
      while len(queue) >= size:
        yield self._group(branch, queue[:size], size)
        del queue[:size]

  def rest(self, size: int):
    """What is left, padded with its first image."""
    for branch, queue in self._waiting.items():
      if queue:
        yield self._group(branch, queue, size)

  def _group(self, branch, entries, size: int):
    images, estimates, places = zip(*entries, strict=True)
    fill = size - len(entries)
    stack = lambda rows: np.stack(rows + rows[:1] * fill)
    return branch, stack(images), stack(estimates), places
