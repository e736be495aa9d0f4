"""Batches of the items of many requests."""

import asyncio
import concurrent.futures
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(eq=False)
class Waiting:
  """An item that waits for its result.

  Attributes:
    item: What the batch function takes.
    future: The result; who no longer wants it cancels it.
    is_begun: Whether its batch is computed, or was.
  """

  item: Any
  future: asyncio.Future
  is_begun: bool = False


class Batcher:
  """Computes items together that come one by one, in a thread of its own.

  A batch begins as soon as the one before it is done and one of three holds: it
  is full, all items that are under way are in it, or the deadline after its
  first item is over. So a lone request never waits for others, and where there
  are many the batches are full without any deadline.

  An object belongs to one event loop; `close` ends its thread.
  """

  def __init__(
    self,
    compute: Callable[[list[Any]], Sequence[Any]],
    most: int,
    deadline: float,
    num_expected: Callable[[], int],
  ):
    """Makes the queue; nothing is computed before `run`.

    Args:
      compute: A function from items to their results, in the same order.
      most: The most items of a batch.
      deadline: The longest time in seconds that the first item of a batch waits
        for others.
      num_expected: A function that says how many items are under way: those
        that wait, and those that will be put soon.
    """
    self._compute, self._most = compute, most
    self._deadline, self._num_expected = deadline, num_expected
    self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
    self._thread = concurrent.futures.ThreadPoolExecutor(1, 'networks')

  def put(self, item: Any) -> Waiting:
    """Adds an item.

    Args:
      item: The item.
    """
    waiting = Waiting(item, asyncio.get_running_loop().create_future())
    self._queue.put_nowait(waiting)
    return waiting

  async def run(self) -> None:
    """Computes batch after batch, until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
      # Who has given up is left out.
      batch = [w for w in await self._next() if not w.future.done()]
      if not batch:
        continue
      for waiting in batch:
        waiting.is_begun = True
      items = [waiting.item for waiting in batch]
      try:
        found = await loop.run_in_executor(self._thread, self._compute, items)
        results = zip(batch, found, strict=True)
      except Exception as error:
        for waiting in batch:
          if not waiting.future.done():
            waiting.future.set_exception(error)
        continue
      for waiting, result in results:
        if not waiting.future.done():
          waiting.future.set_result(result)

  async def _next(self) -> list[Waiting]:
    """Waits for the items of the next batch."""
    batch = [await self._queue.get()]
    end = asyncio.get_running_loop().time() + self._deadline
    while len(batch) < self._most:
      if self._queue.empty() and self._num_expected() <= len(batch):
        break
      try:
        async with asyncio.timeout_at(end):
          batch.append(await self._queue.get())
      except TimeoutError:
        break
    return batch

  def close(self) -> None:
    """Ends the thread, after the batch that it computes."""
    self._thread.shutdown()
