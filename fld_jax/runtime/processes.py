"""The processes of one run: how they start, agree and wait for each other.

In a run of one process every function here returns at once. All of it rests on
JAX's own distributed runtime. Each wait has a deadline and happens on the host,
before the devices' collectives, since a collective cannot be interrupted.
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
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from fld_jax.errors import InputError, LostProcess, Preempted
from fld_jax.runtime import terminal

# A process that sends no heartbeat for this long is lost.
HEARTBEAT_SECONDS = 30
SHUTDOWN_SECONDS = 10
# A process that does not reach a barrier for this long is stuck. The time is
# longer than the slowest work that one process does and the others do not.
DEADLINE_SECONDS = 300
LONG_SECONDS = 24 * 3600  # for work of the main process while the others wait
LEAVE_SECONDS = 10  # for the others to reach the end of a run that failed
# Bytes of each process that an `all_gather` has on the devices at a time.
CHUNK_BYTES = 2**20
_barrier_ids = itertools.count()
_steps = itertools.count(1)
_signal = {'came': False, 'waits': False}
_NOTHING_SAVED = 'The run was asked to end; nothing was to be saved.'


def listen_for_preemption() -> None:
  """Makes SIGTERM and Ctrl-C a `Preempted`, which saves first.

  After `start` JAX's runtime takes SIGTERM, and a Ctrl-C is handed on to it, so
  that all processes end after the same step.
  """
  if jax.distributed.is_initialized():
    signal.signal(
      signal.SIGINT, lambda *unused: signal.raise_signal(signal.SIGTERM)
    )
    return

  def come(*unused: Any) -> None:
    _signal['came'] = True
    if not _signal['waits']:
      raise Preempted(_NOTHING_SAVED)

  signal.signal(signal.SIGTERM, come)
  signal.signal(signal.SIGINT, come)


@contextlib.contextmanager
def preemption_waits() -> Iterator[None]:
  """Makes SIGTERM and Ctrl-C wait until `preempted` is called."""
  _signal['waits'] = True
  try:
    with terminal.saving_first():
      yield
  finally:
    _signal['waits'] = False


def end_if_preempted() -> None:
  """Ends work of several processes that has nothing to save, if it shall end.

  All processes must call it equally often. One process alone is ended by the
  signal itself; and within `preemption_waits` it is the caller's matter.

  Raises:
    Preempted: The run was asked to end.
  """
  if not _signal['waits'] and jax.distributed.is_initialized() and preempted():
    raise Preempted(_NOTHING_SAVED)


def preempted() -> bool:
  """Tells whether the run has to end after this step.

  All processes call it after every step and get the same answer. JAX's runtime
  ends the run at a step after the last that any process has asked for, and
  waits for that number: so the steps of all networks are counted together.
  """
  if jax.distributed.is_initialized():
    # It is said at one step alone, and holds from there on.
    _signal['came'] = _signal['came'] or multihost.reached_preemption(
      next(_steps)
    )
  return _signal['came']


def start(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins the other processes of the run; call it before anything uses JAX.

  An argument that is None is found out from the cluster (Cloud TPU, SLURM,
  Kubernetes, Open MPI).

  Args:
    coordinator: The address HOST:PORT of process 0.
    num_processes: The number of processes of the run.
    process_id: The number of this process, from 0 on.

  Raises:
    InputError: If the cluster gives no answer, or the other processes do not
      come.
  """
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      # Otherwise a cluster would still decide which devices are visible.
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
  # JAX's runtime aborts a process when another one is lost, and names the lost
  # one. That is no crash of this process, so its stacks would only distract.
  faulthandler.disable()


def run_together(work: Callable[[], Any]) -> Any:
  """Calls a function on all processes, and returns when all have done it.

  Args:
    work: The function. It may use collectives.

  Returns:
    What the function returns on this process.

  Raises:
    LostProcess: If a collective failed because another process is gone, or
      another process does not come to the end.
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
  """Ends this process of a run that failed or was stopped.

  Args:
    status: The exit status.
    wait_for_others: Whether to wait a little for the other processes, so that
      each can print why it ends.
  """
  if not jax.distributed.is_initialized():
    sys.exit(status)
  if wait_for_others:
    with contextlib.suppress(LostProcess):
      barrier('the end of a run that failed', LEAVE_SECONDS)
    if is_main():
      time.sleep(1)  # the others' connections end with the main process
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)  # JAX's own shutdown would wait for the lost process


def count() -> int:
  """Returns the number of processes of the run."""
  return jax.process_count()


def index() -> int:
  """Returns the number of this process, from 0 on."""
  return jax.process_index()


def is_main() -> bool:
  """Tells whether this is the process that prints and writes shared files."""
  return jax.process_index() == 0


def barrier(name: str, seconds: float | None = None) -> None:
  """Returns when every process has come to the barrier of this name.

  All processes must come to the same barriers, and to those of `all_gather`
  and `call_on_main`, in the same order.

  Args:
    name: The barrier's name in messages; it may be used again.
    seconds: The deadline in seconds, None for DEADLINE_SECONDS.

  Raises:
    LostProcess: If some process has not come at the deadline. The message names
      those processes.
  """
  if count() == 1:
    return
  seconds = seconds or DEADLINE_SECONDS
  try:
    multihost.get_barrier_sync_fn()(
      key=f'{next(_barrier_ids)} {name}', timeout_ms=round(1000 * seconds)
    )
  except jax.errors.JaxRuntimeError as error:
    # JAX lists in one line the processes that are late or sent no heartbeat.
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
  """Gives every process the values of all processes.

  Args:
    value: This process's value, anything that can be pickled.
    seconds: The deadline in seconds, None for DEADLINE_SECONDS.

  Returns:
    One value for each process, in the order of their numbers.

  Raises:
    LostProcess: If some process does not come in time.
  """
  return _exchange(value, seconds, receives=True)


def gather_to_main(value: Any, seconds: float | None = None) -> list[Any]:
  """Gives the main process the values of all processes.

  Args:
    value: This process's value, anything that can be pickled.
    seconds: The deadline in seconds, None for DEADLINE_SECONDS.

  Returns:
    On the main process one value for each process, in the order of their
    numbers; on the others an empty list.

  Raises:
    LostProcess: If some process does not come in time.
  """
  return _exchange(value, seconds, receives=is_main())


def _exchange(value: Any, seconds: float | None, receives: bool) -> list[Any]:
  """Gathers values in chunks; a process that does not receive gets none."""
  if count() == 1:
    return [value]
  barrier('gather', seconds)
  own = pickle.dumps(value)
  # As two numbers of 32 bits: without x64 the devices have no 64-bit integers.
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
  """Calls a function on each process and gives all of them all results.

  What the function raises on any process is raised on all of them.

  Args:
    make: The function; it must not wait for the other processes.
    seconds: The deadline in seconds, None for DEADLINE_SECONDS.

  Returns:
    One result for each process, in the order of their numbers.

  Raises:
    LostProcess: If some process does not come in time.
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
      raise first from error  # the traceback, if it was raised on this process
  return [result for result, _ in parts]


def call_on_main(make: Callable[[], Any], seconds: float | None = None) -> Any:
  """Calls a function on the main process alone and gives all its result.

  What the function raises is raised on all processes.

  Args:
    make: The function; it must not wait for the other processes.
    seconds: The deadline in seconds, None for DEADLINE_SECONDS.

  Returns:
    The result of the main process's call.

  Raises:
    LostProcess: If some process does not come in time.
  """
  return call_on_all(lambda: make() if is_main() else None, seconds)[0]
