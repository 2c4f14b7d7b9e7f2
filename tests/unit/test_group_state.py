"""`GroupState`: order, outcomes and counts of a group's tasks, without a store."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nbqueue.client.futures.group_state import Counts, EnoughEnded, GroupState


@dataclass(frozen=True)
class End:
    is_failed: bool = False
    is_cancelled: bool = False
    is_gone: bool = False
    is_unfollowed: bool = False


DONE, FAILED, CANCELLED = End(), End(is_failed=True), End(is_failed=True, is_cancelled=True)


def state_of(count: int) -> GroupState[End]:
    state: GroupState[End] = GroupState()
    state.add([f"t{i}" for i in range(count)])
    return state


def test_an_empty_group_is_done() -> None:
    state = state_of(0)
    assert (state.is_done, len(state), state.counts()) == (True, 0, Counts(0, 0, 0, 0))
    assert EnoughEnded(state.outcomes, passes_failures=False)()


def test_counts_and_order_follow_the_ends() -> None:
    state = state_of(4)
    ends = (("t2", DONE), ("t0", FAILED), ("t3", CANCELLED))
    assert state.settle(ends) == [2, 0, 3]
    assert state.ended == [2, 0, 3]
    assert state.counts() == Counts(total=4, completed=1, failed=1, cancelled=1)
    assert state.counts().done == 3
    assert (state.unended(), state.is_done) == (["t1"], False)
    assert [state.has_ended(i) for i in range(4)] == [True, False, True, True]
    state.settle([("t1", DONE)])
    assert (state.unended(), state.is_done) == ([], True)


def test_tasks_that_are_gone_count_apart_and_tasks_that_run_again_are_open() -> None:
    state = state_of(3)
    for task_id, end in (("t2", End(is_failed=True, is_gone=True)), ("t0", FAILED), ("t1", DONE)):
        state.settle([(task_id, end)])
    assert state.counts() == Counts(3, completed=1, failed=1, cancelled=0, gone=1)
    assert state.counts().done == 3
    assert [index for index, _ in state.failures(9)] == [0]
    state.reopen(["t0"])
    assert (state.ended, state.unended(), state.is_done) == ([2, 1], ["t0"], False)
    assert state.counts() == Counts(3, completed=1, failed=0, cancelled=0, gone=1)
    assert state.settle([("t0", DONE)]) == [0]
    assert state.counts() == Counts(3, completed=2, failed=0, cancelled=0, gone=1)


def test_the_first_end_of_a_task_counts() -> None:
    state = state_of(1)
    assert state.settle([("t0", DONE)]) == [0]
    assert state.settle([("t0", FAILED)]) == []
    assert state.outcomes == [DONE]
    assert state.counts() == Counts(1, 1, 0, 0)


def test_tasks_that_are_added_later_follow_the_others() -> None:
    state = state_of(1)
    state.settle([("t0", DONE)])
    state.add(["u0", "u1"])
    assert (state.is_done, state.ids, state.index_of("u1")) == (False, ["t0", "u0", "u1"], 2)
    assert "u0" in state
    assert "t9" not in state
    with pytest.raises(KeyError):
        state.settle([("t9", DONE)])


def test_failures_are_given_in_the_order_of_failing_without_cancelled_tasks() -> None:
    state = state_of(5)
    for task_id, end in (("t3", FAILED), ("t0", CANCELLED), ("t1", FAILED), ("t2", FAILED)):
        state.settle([(task_id, end)])
    assert [index for index, _ in state.failures(9)] == [3, 1, 2]
    assert [index for index, _ in state.failures(2)] == [3, 1]
    assert state.failures(0) == []


@pytest.mark.parametrize("cut_off", ["after the outcome", "after the order"])
def test_a_settle_that_a_fork_cut_off_is_counted_again(cut_off: str) -> None:
    state = state_of(3)
    state.settle([("t2", FAILED)])
    state.outcomes[0] = CANCELLED
    if cut_off == "after the order":
        state.ended.append(0)
    state.recount()
    assert state.ended == [2, 0]
    assert state.counts() == Counts(total=3, completed=0, failed=1, cancelled=1)


def test_enough_have_ended_when_all_have_or_when_a_failure_is_first_in_order() -> None:
    state = state_of(3)
    all_ended = EnoughEnded(state.outcomes, passes_failures=True)
    first_failure = EnoughEnded(state.outcomes, passes_failures=False)
    state.settle([("t1", FAILED)])
    assert (all_ended(), first_failure()) == (False, False)  # the first one may yet fail
    state.settle([("t0", DONE)])
    assert (all_ended(), first_failure()) == (False, True)
    state.settle([("t2", DONE)])
    assert (all_ended(), first_failure()) == (True, True)
