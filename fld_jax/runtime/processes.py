"""The processes of one run: how they start, agree and wait for each other.

One process has no need of any of this: then every function here returns at
once. All of it is JAX's own distributed runtime; each wait has a deadline and
happens on the host, before the devices' collectives, where a wait cannot be
ended.
"""

import contextlib
import faulthandler
import itertools
import os
import pickle
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from fld_jax.errors import InputError, LostProcess, Preempted

# A process that gives no sign of life for this long is lost.
HEARTBEAT_SECONDS = 30
SHUTDOWN_SECONDS = 10
# One that does not come to a barrier for this long is stuck: longer than the
# slowest thing that one process does and the others do not.
DEADLINE_SECONDS = 300
LONG_SECONDS = 24 * 3600  # for what the main process does while others wait
LEAVE_SECONDS = 10  # for the others to come to the end of a run that failed
CHUNK_BYTES = (
  2**20
)  # bytes of each process that are on the devices in a `all_gather`
_barrier_ids = itertools.count()
_steps = itertools.count(1)
_signal = {'came': False, 'waits': False}


def listen_for_preemption() -> None:
  """Makes SIGTERM a `Preempted`; after `start` JAX's runtime takes it."""
  if jax.distributed.is_initialized():
    return

  def come(*unused):
    _signal['came'] = True
    if not _signal['waits']:
      raise Preempted('The run was asked to end; nothing was to be saved.')

  signal.signal(signal.SIGTERM, come)


@contextlib.contextmanager
def preemption_waits():
  """Holds a SIGTERM back until `preempted` is asked."""
  _signal['waits'] = True
  try:
    yield
  finally:
    _signal['waits'] = False


def preempted() -> bool:
  """Whether the run shall end after this step; all processes say the same.

  JAX's runtime names a step after the last that any process has asked for, and
  waits for that number: so the steps of all networks are counted in one row.
  """
  if jax.distributed.is_initialized():
    return multihost.reached_preemption(next(_steps))
  return _signal['came']


def start(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins the other processes of the run; call it before anything uses JAX.

  Args:
    coordinator: HOST:PORT of process 0; None, like the others: what the cluster
      says (Cloud TPU, SLURM, Kubernetes, Open MPI).
    num_processes: of the run.
    process_id: of this one, from 0.

  Raises:
    InputError: if the cluster says nothing, or the others do not come.
  """
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      # Else a cluster would still decide which devices are seen.
      cluster_detection_method='deactivate' if coordinator else None,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=SHUTDOWN_SECONDS,
    )
  except (RuntimeError, ValueError, TypeError) as error:
    raise InputError(
      f'The processes of the run did not come together ({error}). Give '
      '--coordinator=HOST:PORT --num_processes=N --process_id=I to each of '
      'them, or --distributed on a cluster that JAX knows.'
    ) from error
  # JAX's runtime aborts a process when another is lost, and names that one:
  # no crash whose stacks anyone wants to see.
  faulthandler.disable()


def run_together(work: Callable[[], Any]) -> Any:
  """Calls a function on all processes, and returns when all have done it.

  Raises:
    LostProcess: if a collective failed because another process is gone.
  """
  try:
    result = work()
  except jax.errors.JaxRuntimeError:
    if count() > 1:
      barrier('what comes after a failed collective', LEAVE_SECONDS)
    raise
  barrier('the end', LONG_SECONDS)
  return result


def leave(status: int, wait_for_others: bool = True) -> NoReturn:
  """Ends this process of a run that did not come to its end.

  Args:
    status: of the exit.
    wait_for_others: Waits a little for the other processes, so that each
      can print why it ends.
  """
  if not jax.distributed.is_initialized():
    sys.exit(status)
  if wait_for_others:
    with contextlib.suppress(LostProcess):
      barrier('the end of a run that failed', LEAVE_SECONDS)
    if is_main():
      time.sleep(1)  # the others' link to each other ends with it
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)  # not by JAX's own end, which waits for the lost


def count() -> int:
  """How many processes the run has."""
  return jax.process_count()


def index() -> int:
  """Which of them this is, from 0."""
  return jax.process_index()


def is_main() -> bool:
  """Whether this is the one that prints and writes shared files."""
  return jax.process_index() == 0


def barrier(name: str, seconds: float | None = None) -> None:
  """Returns when every process has come to the barrier of this name.

  All processes must come to the same barriers, and to those of `all_gather`
  and `call_on_main`, in the same order.

  Args:
    name: The barrier's name in messages; it may be used again.
    seconds: the deadline, by default DEADLINE_SECONDS.

  Raises:
    LostProcess: at the deadline, naming those that have not come.
  """
  if count() == 1:
    return
  seconds = seconds or DEADLINE_SECONDS
  try:
    multihost.get_barrier_sync_fn()(
      key=f'{next(_barrier_ids)} {name}', timeout_ms=round(1000 * seconds)
    )
  except jax.errors.JaxRuntimeError as error:
    # Late ones, or those that missed their heartbeat, are listed in a line.
    listed = re.search(
      r'(?:task names|heartbeats\)):\s*([\d, \n]+)', str(error)
    )
    missing = listed[1].split() if listed else []
    raise LostProcess(
      f'process {", ".join(missing) or "?"} of {count()} did not come to '
      f"'{name}' within {seconds:g} s: it is stuck or gone"
      + ('.' if missing else f'. {error}')
    ) from error


def all_gather(value: Any, seconds: float | None = None) -> list[Any]:
  """What each process gives, in their order, on all of them.

  Args:
    value: anything that can be pickled.
    seconds: the deadline, see `barrier`.
  """
  return _exchange(value, seconds, receives=True)


def gather_to_main(value: Any, seconds: float | None = None) -> list[Any]:
  """As `all_gather`, on the main process alone; on the others an empty list."""
  return _exchange(value, seconds, receives=is_main())


def _exchange(value: Any, seconds: float | None, receives: bool) -> list[Any]:
  if count() == 1:
    return [value]
  barrier('gather', seconds)
  own = pickle.dumps(value)
  # In 32 bits, which is what the devices have.
  size = np.array(divmod(len(own), CHUNK_BYTES), np.int32)
  sizes = np.asarray(multihost_utils.process_allgather(size), np.int64)
  sizes = sizes[:, 0] * CHUNK_BYTES + sizes[:, 1]
  received = [bytearray() for _ in sizes]
  for start in range(0, int(sizes.max()), CHUNK_BYTES):
    piece = np.zeros(min(CHUNK_BYTES, sizes.max() - start), np.uint8)
    part = np.frombuffer(own[start : start + CHUNK_BYTES], np.uint8)
    piece[: part.size] = part
    pieces = np.asarray(multihost_utils.process_allgather(piece))
    if receives:
      for whole, row, size in zip(received, pieces, sizes, strict=True):
        whole += row[: max(0, size - start)].tobytes()
  return list(map(pickle.loads, received)) if receives else []


def call_on_all(make: Callable[[], Any], seconds: float | None = None) -> list:
  """What a function returns on each process, in their order, on all of them.

  What it raises on any is raised on all of them.

  Args:
    make: the function; it must not wait for the other processes.
    seconds: the deadline, see `barrier`.
  """
  if count() == 1:
    return [make()]
  result = error = None
  try:
    result = make()
  except Exception as problem:
    error = problem
  parts = all_gather((result, error), seconds)
  for _, first in parts:
    if first is not None:
      raise first from error  # which has the traceback, if it is this one's
  return [result for result, _ in parts]


def call_on_main(make: Callable[[], Any], seconds: float | None = None) -> Any:
  """What a function returns on the main process, which alone calls it.

  What it raises is raised on all of them.

  Args:
    make: the function.
    seconds: the deadline, see `barrier`.
  """
  return call_on_all(lambda: make() if is_main() else None, seconds)[0]
