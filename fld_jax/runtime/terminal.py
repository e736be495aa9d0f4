"""The program's terminal: what it prints, and the Ctrl-C that it hears.

A stream that can take no more (a closed pipe, a full disk) never ends the work:
the results are files. Text that the terminal's encoding lacks is escaped.

A Ctrl-C ends every mode in one line and the status INTERRUPTED. Python hears it
between two of its own instructions; while a network compiles, none is run for
minutes. So a thread hears it too, and ends the program if the main thread does
not within GRACE_SECONDS, or at a second Ctrl-C.
"""

import atexit
import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from fld_jax.errors import Preempted

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it
GRACE_SECONDS = 5
_state = {'count': 0, 'raised': False, 'waits': False}


class _Stream(io.RawIOBase):
  """Writes to a descriptor, and takes what that does not as written.

  Attributes:
    problem: Why something could not be written; '' if nothing is wrong, or
      nobody reads it any more.
  """

  def __init__(self, descriptor: int):
    super().__init__()
    self._descriptor = descriptor
    self.problem = ''

  def writable(self) -> bool:
    """Always True, for the buffer above."""
    return True

  def fileno(self) -> int:
    """The descriptor, which other libraries ask for."""
    return self._descriptor

  def isatty(self) -> bool:
    """Whether it is a terminal."""
    return os.isatty(self._descriptor)

  def write(self, data: bytes | memoryview) -> int:
    """Writes all of the data, or drops it.

    Args:
      data: The bytes.
    """
    left = memoryview(data).cast('B')
    length = len(left)
    try:
      while left:
        left = left[os.write(self._descriptor, left) :]
    except BrokenPipeError:
      pass  # a reader such as `head` has seen enough
    except OSError as error:
      self.problem = error.strerror
    return length


@contextlib.contextmanager
def guarded_streams() -> Iterator[Callable[[], str]]:
  """Puts streams that never fail in the place of stdout and stderr.

  Yields:
    A function that says why the standard output could not be written; ''
    if nothing is wrong.
  """
  before = sys.stdout, sys.stderr
  out = None
  if sys.stdout is not None and sys.stdout is sys.__stdout__:
    out = _Stream(sys.stdout.fileno())
    sys.stdout = _text(out, sys.stdout)
  if sys.stderr is not None and sys.stderr is sys.__stderr__:
    sys.stderr = _text(_Stream(sys.stderr.fileno()), sys.stderr)
  # Where the parent has closed them there are none, which tqdm does not know.
  with open(os.devnull, 'w') as nowhere:
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere

    def problem() -> str:
      sys.stdout.flush()
      return out.problem if out else ''

    try:
      yield problem
    finally:
      sys.stdout.flush()
      sys.stderr.flush()
      sys.stdout, sys.stderr = before


def _text(stream: _Stream, like: io.TextIOWrapper) -> io.TextIOWrapper:
  """A stream of text, with the encoding of another."""
  is_err = like is sys.__stderr__
  return io.TextIOWrapper(
    io.BufferedWriter(stream),
    encoding=like.encoding,
    errors='backslashreplace',
    line_buffering=is_err or stream.isatty(),
    write_through=is_err,
  )


@contextlib.contextmanager
def hidden_late_answers() -> Iterator[None]:
  """Hides what TensorStore has to say to a save that has failed by then.

  The first of a checkpoint's arrays that cannot be written ends the save in an
  error. Each of the others then finds nobody who waits for it, and has Python
  print a traceback, from a thread of its own.
  """
  hook = sys.unraisablehook

  def shown(unraisable: 'sys.UnraisableHookArgs') -> None:
    if str(unraisable.exc_value) != 'Event loop is closed':
      hook(unraisable)

  asyncio = logging.getLogger('asyncio')
  level = asyncio.level
  sys.unraisablehook = shown
  asyncio.setLevel(logging.CRITICAL)  # 'exception was never retrieved'
  try:
    yield
  finally:
    sys.unraisablehook = hook
    asyncio.setLevel(level)


@contextlib.contextmanager
def heard_interrupts(word: Callable[[], str]) -> Iterator[None]:
  """Ends the program at a Ctrl-C, should the main thread not do it.

  Args:
    word: A function that makes the line to print.
  """
  ignored = signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None)
  if ignored or threading.current_thread() is not threading.main_thread():
    yield
    return
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  _state['count'], _state['raised'] = 0, False
  handler = signal.getsignal(signal.SIGINT)

  def raised(number: int, frame: FrameType | None) -> None:
    # The thread may hear of it only after the error that it becomes.
    _state['raised'] = True
    handler(number, frame)

  signal.signal(signal.SIGINT, raised)
  threading.Thread(target=_hear, args=(reading, word), daemon=True).start()
  hook = sys.unraisablehook

  def lost(unraisable: 'sys.UnraisableHookArgs') -> None:
    # Raised where Python can only print it, in the end of an object.
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
      leave(word())
    if not issubclass(unraisable.exc_type, Preempted):
      hook(unraisable)

  sys.unraisablehook = lost
  try:
    yield
  finally:
    sys.unraisablehook = hook
    signal.set_wakeup_fd(before)
    if signal.getsignal(signal.SIGINT) is raised:
      signal.signal(signal.SIGINT, handler)
    # All is done; what Python does at its end is not to be interrupted.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    os.close(writing)  # which ends the thread


def _hear(descriptor: int, word: Callable[[], str]) -> None:
  """Reads the numbers of the signals that came, one byte each."""
  while numbers := os.read(descriptor, 16):
    _state['count'] += numbers.count(signal.SIGINT)
    if _state['count'] > 1:
      leave(word())
    if _state['count'] and not _state['waits']:
      timer = threading.Timer(GRACE_SECONDS, lambda: leave(word()))
      timer.daemon = True
      timer.start()
    elif _state['count'] and sys.stderr.isatty():
      print(
        '\nSaving, then ending. Ctrl-C again ends at once.', file=sys.stderr
      )
  os.close(descriptor)


def interrupted() -> bool:
  """Whether a Ctrl-C has come."""
  return _state['raised'] or _state['count'] > 0


@contextlib.contextmanager
def saving_first() -> Iterator[None]:
  """Lets the first Ctrl-C wait: the work ends by itself, once it is saved."""
  _state['waits'] = True
  try:
    yield
  finally:
    _state['waits'] = False


def leave(word: str) -> NoReturn:
  """Ends the program at once, with the status INTERRUPTED.

  Without Python's own end, which waits for every thread.

  Args:
    word: The line to print.
  """
  multiprocessing = sys.modules.get('multiprocessing')
  if multiprocessing:
    for child in multiprocessing.active_children():
      child.terminate()
  # A progress bar that stands has no end of its line yet.
  bars = getattr(sys.modules.get('tqdm'), 'tqdm', None)
  start = '\n' if bars and getattr(bars, '_instances', None) else ''
  with contextlib.suppress(OSError, ValueError):
    sys.stdout.flush()
    print(f'{start}{word}', file=sys.stderr, flush=True)
  os._exit(INTERRUPTED)
