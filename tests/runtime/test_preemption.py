"""Several processes that are asked to end while they evaluate."""

import pytest

from fld_jax.cascade import cascade
from fld_jax.errors import Preempted
from fld_jax.runtime import processes


@pytest.fixture
def asked(monkeypatch):
  """The steps that a process asked about; it shall end at the fourth."""
  steps = []

  def reached(step: int) -> bool:
    steps.append(step)
    return len(steps) == 4

  monkeypatch.setattr('jax.distributed.is_initialized', lambda: True)
  monkeypatch.setattr(processes.multihost, 'reached_preemption', reached)
  monkeypatch.setattr(processes, '_signal', {'came': False, 'waits': False})
  return steps


@pytest.mark.parametrize('batches', range(4))
def test_all_ask_equally_often(asked, batches):
  """Whatever their shares: else they would wait for each other's steps."""
  assert list(cascade._asked(range(batches), 3)) == list(range(batches))
  assert len(asked) == 3
  assert [b - a for a, b in zip(asked, asked[1:], strict=False)] == [1, 1]


@pytest.mark.parametrize('batches', range(7))
def test_an_evaluation_ends_at_the_step_that_all_know(asked, batches):
  seen = []
  with pytest.raises(Preempted, match='nothing was to be saved'):
    for batch in cascade._asked(range(batches), 6):
      seen.append(batch)
  assert len(asked) == 4 and len(seen) == min(batches, 3)


def test_while_a_network_trains_it_is_saved_first(asked):
  with processes.preemption_waits():
    assert list(cascade._asked(range(6), 6)) == list(range(6))
    assert not asked
    answers = [processes.preempted() for _ in range(6)]
  # Once it is said, it holds.
  assert answers == [False] * 3 + [True] * 3 and len(asked) == 4


def test_one_process_is_not_asked(monkeypatch):
  monkeypatch.setattr(processes.multihost, 'reached_preemption', None)
  assert list(cascade._asked(range(3), 3)) == [0, 1, 2]
