"""How many members of each group are looked at, and what is made of a sample."""

from __future__ import annotations

import pytest

from nbqueue.client.task_groups.counting import Counted, count, sample, shares
from nbqueue.wire import ids
from nbqueue.wire.task_groups.member_runs import MemberRuns, ids_of, runs_of
from nbqueue.wire.task_groups.task_group_record import TaskGroupRecord, read_record


def record_of(size: int, complete: bytes = b"1") -> TaskGroupRecord:
    fields = {b"queue": b"q", b"type": b"f", b"started": b"1", b"complete": complete}
    made = ids.make_ids("abcDEF", 1_790_000_000_000, range(size))
    runs = [run for at in range(0, size, 1_000) for run in runs_of(made[at : at + 1_000])]
    record = read_record("g", fields, [run.entry.encode() for run in runs])
    assert record is not None
    return record


@pytest.mark.parametrize(
    ("sizes", "most", "found"),
    [
        ([], 100, []),
        ([5, 7], 100, [5, 7]),
        ([5, 1_000_000], 30_000, [5, 20_000]),
        ([10, 900, 900], 610, [10, 300, 300]),
        ([50_000] * 4, 8, [10] * 4),
    ],
)
def test_small_groups_are_counted_and_large_ones_share_the_rest(
    sizes: list[int], most: int, found: list[int]
) -> None:
    assert shares(sizes, most) == found


def test_a_sample_is_spread_over_the_group() -> None:
    members: MemberRuns = record_of(5_000).members
    everything = members.ids()
    parts = sample(members, 500)
    chosen = [everything.index(each) for part in parts for each in ids_of(part)]
    assert len(chosen) == 500
    assert chosen == sorted(set(chosen))
    assert [len([at for at in chosen if at // 1000 == part]) for part in range(5)] == [100] * 5
    assert [each for part in sample(members, 5_000) for each in ids_of(part)] == everything


def test_counts_are_exact_of_all_members_and_scaled_of_some() -> None:
    assert count(record_of(6), "cfx.pa") == Counted(6, 4, 1, 1)
    assert count(record_of(60), "ccfppp") == Counted(60, 30, 10, 0, is_estimated=True)
    assert count(record_of(0), "") == Counted(0, 0, 0, 0)


def test_members_that_were_recorded_and_never_enqueued_do_not_count() -> None:
    assert count(record_of(6, b""), ".cp...") == Counted(3, 2, 0, 0)
    assert count(record_of(6, b"1"), ".cp...") == Counted(6, 5, 0, 0)
