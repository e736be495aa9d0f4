"""What the main process's console shows of a network in training."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from fld_jax.evaluation import baseline
from fld_jax.evaluation.text_tables import percent
from fld_jax.runtime import compile_times, processes
from fld_jax.training.schedules import Plan

logger = logging.getLogger('fld_jax')


# Between two lines of a log that is no terminal.
LINE_SECONDS = 30
# Waits below this are not worth a word.
SHORT_SECONDS = 3


class Progress:
  """The bar of updates, and a line for each evaluation.

  Where the console is a file or a pipe there is no bar, and a line now and
  then. A context manager: leaving it ends the bar.
  """

  def __init__(self, name: str, plan: Plan, done: int, guess: float | None):
    """Starts with the updates that earlier starts have done.

    Args:
      name: The network's name, 'stage1' or 'stage3/hard'.
      plan: The length of its training.
      done: The number of updates that are done.
      guess: Macro NE of the constant guess on the split tune; None if it is
        not known.
    """
    self._name, self._total, self._guess = name, plan.total, guess
    # When the first update of this start was done, and its number.
    self._since: tuple[float, int] | None = None
    self._bar = tqdm(
      total=plan.total,
      initial=done,
      desc=name,
      bar_format='{desc}: {percentage:3.0f} %|{bar}| {n_fmt} of {total_fmt} '
      'updates, {remaining} left{postfix}',
      mininterval=0.5,
      dynamic_ncols=True,
      disable=not (processes.is_main() and sys.stderr.isatty()),
    )
    self._loss, self._said = '', time.monotonic()

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *unused: Any) -> None:
    self._bar.close()

  @contextlib.contextmanager
  def compiling(
    self, program: str, what: str, is_first: bool
  ) -> Iterator[None]:
    """Announces a wait for the compiler, and says how long it was.

    Args:
      program: The program's name, from `compile_times.name_of`.
      what: What is compiled, in words.
      is_first: Whether the block runs for the first time; otherwise nothing is
        compiled, and nothing is said.
    """
    if not is_first:
      yield
      return
    seconds = compile_times.last(program)
    if seconds is None:
      self._say(f'compiling {what}, about a minute')
    elif seconds >= SHORT_SECONDS:
      self._say(f'compiling {what}, about {seconds:.0f} s as at the last start')
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    if processes.is_main():
      compile_times.keep(program, took)
    if seconds is None or seconds >= SHORT_SECONDS or took >= SHORT_SECONDS:
      self._say(f'compiled {what} in {took:.0f} s')
    self._bar.unpause()  # its rate is that of updates

  def update(self, step: int) -> None:
    """Counts an update.

    Args:
      step: The number of updates done.
    """
    if self._since is None:
      self._since = (time.monotonic(), step)
    self._bar.update()
    if self._bar.disable and time.monotonic() > self._said + LINE_SECONDS:
      self._say(f'{self._where(step)}{self._loss}')

  def show_loss(self, loss: float) -> None:
    """Shows the mean loss since it was last shown.

    Args:
      loss: The loss.
    """
    self._loss = f', loss {loss:.4g}'
    self._bar.set_postfix_str(f'loss {loss:.4g}', refresh=False)

  def evaluated(self, step: int, ne: float) -> None:
    """Shows an evaluation.

    Args:
      step: The number of updates done.
      ne: Macro NE on the split tune, a fraction.
    """
    beside = ''
    if self._guess is not None:
      beside = f' (a constant guess has {percent(self._guess)} %)'
    self._say(f'{self._where(step)}; macro NE on tune {percent(ne)} %{beside}')
    worse = self._guess is not None and ne >= self._guess
    if step == self._total and worse and processes.is_main():
      logger.warning('%s: %s', self._name, baseline.compare(ne, self._guess))

  def _where(self, step: int) -> str:
    """The updates done and, from the time of this start's, the time left."""
    done = f'{step} of {self._total} updates'
    if self._since is None:  # the start itself is evaluated
      return done
    began, first = self._since
    if step in (first, self._total):
      return done
    seconds = (time.monotonic() - began) / (step - first) * (self._total - step)
    return f'{done}, {duration(seconds)} left'

  def _say(self, text: str) -> None:
    """Prints a line, above the bar if there is one."""
    if processes.is_main():
      tqdm.write(f'{self._name}: {text}', file=sys.stderr)
      sys.stderr.flush()
      self._said = time.monotonic()


def duration(seconds: float) -> str:
  """A time to wait, in words that are as exact as one needs: '12 min'.

  Args:
    seconds: The time.
  """
  if seconds < 60:
    return f'{max(1, round(seconds))} s'
  minutes = round(seconds / 60)
  if minutes < 90:
    return f'{minutes} min'
  return f'{minutes // 60} h {minutes % 60} min'
