"""Batches across requests: none lost, none twice, none waited for in vain."""

import asyncio
import time

import numpy as np
import pytest

from fld_jax.service.batching import Batcher


async def computing(batcher, work):
  task = asyncio.create_task(batcher.run())
  try:
    return await work
  finally:
    task.cancel()
    batcher.close()


@pytest.mark.parametrize('seed', range(3))
def test_each_item_gets_its_own_result_once(seed):
  rng = np.random.default_rng(seed)
  batches, left = [], 60

  def compute(items):
    batches.append(items)
    time.sleep(rng.uniform(0, 0.005))
    return [-item for item in items]

  async def work(batcher):
    nonlocal left

    async def one(item, after):
      nonlocal left
      await asyncio.sleep(after)
      found = await batcher.put(item).future
      left -= 1
      return found

    waits = rng.uniform(0, 0.1, 60)
    return await asyncio.gather(*map(one, range(60), waits))

  async def run():
    batcher = Batcher(compute, 7, 0.01, lambda: left)
    return await computing(batcher, work(batcher))

  assert asyncio.run(run()) == [-i for i in range(60)]
  assert sorted(sum(batches, [])) == list(range(60))
  sizes = list(map(len, batches))
  assert max(sizes) <= 7 and np.mean(sizes) > 1


@pytest.mark.parametrize(('expected', 'waits'), [(1, False), (2, True)])
def test_waits_for_what_is_under_way_alone(expected, waits):
  async def run():
    batcher = Batcher(lambda items: items, 4, 0.2, lambda: expected)
    start = time.monotonic()
    work = batcher.put('a').future
    assert await computing(batcher, work) == 'a'
    return time.monotonic() - start

  assert (asyncio.run(run()) >= 0.2) == waits


def test_a_full_batch_does_not_wait():
  async def run():
    batcher = Batcher(lambda items: items, 3, 60, lambda: 99)
    work = asyncio.gather(*(batcher.put(i).future for i in range(6)))
    return await asyncio.wait_for(computing(batcher, work), 10)

  assert asyncio.run(run()) == list(range(6))


def test_a_failure_is_of_its_batch_alone():
  def compute(items):
    if 1 in items:
      raise ArithmeticError(f'{items}')
    return items

  async def run():
    batcher = Batcher(compute, 2, 0, lambda: 0)
    waiting = [batcher.put(i) for i in range(6)]
    work = asyncio.gather(
      *(each.future for each in waiting), return_exceptions=True
    )
    return await computing(batcher, work)

  found = asyncio.run(run())
  failed = [i for i, x in enumerate(found) if isinstance(x, ArithmeticError)]
  assert 1 in failed and len(failed) <= 2
  assert all(x == i for i, x in enumerate(found) if i not in failed)


def test_who_has_given_up_is_not_computed():
  seen = []

  def compute(items):
    seen.extend(items)
    return items

  async def run():
    batcher = Batcher(compute, 1, 0, lambda: 0)
    waiting = [batcher.put(i) for i in range(3)]
    waiting[1].future.cancel()
    work = asyncio.gather(waiting[0].future, waiting[2].future)
    assert await computing(batcher, work) == [0, 2]
    return [each.is_begun for each in waiting]

  assert asyncio.run(run()) == [True, False, True]
  assert seen == [0, 2]
