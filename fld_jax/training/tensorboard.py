"""Learning curves for TensorBoard."""

import contextlib
import pathlib
import time

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from fld_jax.errors import InputError


class Curves:
  """Writes the curves of one network, from a step on.

  tensorboardX's SummaryWriter hands events to a thread. If that dies, of a full
  disk, the program waits for it without end, so here they are written at once.

  A context manager: leaving it closes the file.
  """

  def __init__(self, directory: pathlib.Path, step: int):
    """Starts a file in `directory`; what others hold from `step` on is void.

    Raises:
      InputError: if the disk is full.
    """
    self._directory = directory
    with self._writing():
      directory.mkdir(parents=True, exist_ok=True)
      self._events = EventsWriter(str(directory / 'events'))
      start = SessionLog(status=SessionLog.START)
      event = Event(wall_time=time.time(), step=step, session_log=start)
      self._events.write_event(event)

  def write(self, step: int, values: dict[str, float]) -> None:
    """Adds values of a step, by name, and has them on the disk.

    Raises:
      InputError: if the disk is full.
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

  def __enter__(self):
    return self

  def __exit__(self, kind, *unused):
    # Of two errors the first is the one to tell.
    with contextlib.suppress(InputError) if kind else contextlib.nullcontext():
      with self._writing():
        self._events.close()

  @contextlib.contextmanager
  def _writing(self):
    try:
      yield
    except OSError as error:
      raise InputError(
        f'{self._directory}: the curves could not be written '
        f'({error.strerror}). The checkpoints are whole; free some space and '
        'start the same command again.'
      ) from error
