"""Learning curves for TensorBoard."""

import contextlib
import pathlib
import time
from collections.abc import Iterator
from typing import Self

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from fld_jax.errors import InputError


class Curves:
  """Writes the curves of one network, from a step on.

  tensorboardX's SummaryWriter hands events to a thread. If the thread dies of a
  full disk, the program waits for it without end, so here events are written at
  once.

  It is a context manager: leaving it closes the file.
  """

  def __init__(self, directory: pathlib.Path, step: int):
    """Starts an event file.

    Args:
      directory: The folder of the network's event files.
      step: The first step that the file is about. TensorBoard drops what older
        files of the folder hold from this step on.

    Raises:
      InputError: If the file cannot be written, as on a full disk.
    """
    self._directory = directory
    with self._writing():
      directory.mkdir(parents=True, exist_ok=True)
      self._events = EventsWriter(str(directory / 'events'))
      start = SessionLog(status=SessionLog.START)
      event = Event(wall_time=time.time(), step=step, session_log=start)
      self._events.write_event(event)

  def write(self, step: int, values: dict[str, float]) -> None:
    """Adds the values of a step and flushes them to the disk.

    Args:
      step: The number of the step.
      values: Name of the curve -> its value.

    Raises:
      InputError: If the file cannot be written, as on a full disk.
    """
    with self._writing():
      for name, value in values.items():
        self._events.write_event(
          Event(
            wall_time=time.time(),
            step=step,
            summary=summary.scalar(name, value),
          )
        )
      self._events.flush()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: type[BaseException] | None, *unused: object) -> None:
    # If an error leaves the block, a second one must not hide it.
    with contextlib.suppress(InputError) if kind else contextlib.nullcontext():
      with self._writing():
        self._events.close()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Turns an error of the disk into an InputError that says what to do."""
    try:
      yield
    except OSError as error:
      raise InputError(
        f'{self._directory}: the curves could not be written '
        f'({error.strerror}). The checkpoints are whole; free some space and '
        'start the same command again.'
      ) from error
