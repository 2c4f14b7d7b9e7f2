"""The counts of a group's card, whatever the order in which events, reads and ends arrive."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nbqueue.client.live.member_states import MemberStates
from nbqueue.wire import states

IDS = ["a", "b", "c", "d"]
EVENTS = ["enqueued", "scheduled", "forwarded", "started", "requeued", "retried", "completed"]
SEEN = [states.PENDING, states.ACTIVE, states.RETRY, states.SCHEDULED, states.COMPLETED]

happening = st.one_of(
    st.tuples(
        st.just("event"), st.sampled_from(EVENTS), st.lists(st.sampled_from(IDS), min_size=1)
    ),
    st.tuples(st.just("read"), st.dictionaries(st.sampled_from(IDS), st.sampled_from(SEEN))),
    st.tuples(st.just("end"), st.sampled_from(IDS)),
)


@given(st.lists(happening))
def test_no_more_tasks_are_counted_than_have_not_ended(happenings: list[tuple]) -> None:  # type: ignore[type-arg]
    ended: set[str] = set()
    members = MemberStates(ended.__contains__)
    for kind, *what in happenings:
        if kind == "event":
            members.note(*what)
        elif kind == "read":
            members.read(*what)
        else:
            ended.add(*what)
        assert sum(members.counts(len(IDS) - len(ended)).values()) <= len(IDS) - len(ended)
    ended.update(IDS)
    assert members.counts(0) == Counter()


def test_events_move_tasks_between_the_counts() -> None:
    members = MemberStates(lambda task_id: False)
    members.read({"a": states.PENDING, "b": states.PENDING, "c": states.COMPLETED})
    assert not members.has_begun
    members.note("started", ["a"])
    assert members.has_begun
    assert members.counts(2) == {states.ACTIVE: 1, states.PENDING: 1}
    members.note("retried", ["a"])
    members.note("completed", ["b"])
    assert members.counts(1) == {states.RETRY: 1}
