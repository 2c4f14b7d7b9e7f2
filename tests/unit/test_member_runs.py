"""Members of a task group as runs: what goes in comes out, and strangers' entries are left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.wire import ids
from nbqueue.wire.task_groups.member_runs import MemberRuns, Run, ids_of, read_run, runs_of

NOW = 1_790_000_000_000


def made(first: int, count: int) -> list[str]:
    return ids.make_ids("abcDEF", NOW, range(first, first + count))


def test_ids_that_were_made_together_are_one_run() -> None:
    [run] = runs_of(made(61, 1024))
    assert (run.entry, run.size) == (f"1024 {made(61, 1)[0]}", 1024)
    assert read_run(run.entry.encode()) == run


some_ids = st.one_of(
    st.builds(made, st.sampled_from([0, 60, 3843, ids.NUMBERS - 3]), st.integers(1, 6)),
    st.lists(st.sampled_from(["report-1", "a b", "é", "", "0123456789abcdefg"]), max_size=2),
).map(lambda part: [each for each in part if each])


@given(st.lists(some_ids, min_size=1, max_size=6), st.data())
def test_any_ids_come_out_in_order(parts: list[list[str]], data: st.DataObject) -> None:
    task_ids = [each for part in parts for each in part]
    if not task_ids:
        return
    stored = [run.entry.encode() for run in runs_of(task_ids)]
    members = MemberRuns(run for entry in stored if (run := read_run(entry)) is not None)
    assert members.ids() == task_ids
    assert len(members) == len(task_ids)
    start = data.draw(st.integers(-1, len(task_ids) + 1))
    stop = data.draw(st.integers(-1, len(task_ids) + 1))
    assert ids_of(members.part(start, stop)) == task_ids[max(start, 0) : max(stop, 0)]
    at = data.draw(st.integers(0, len(task_ids) - 1))
    assert members.id_at(at) == task_ids[at]


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"5",
        b"0 x",
        b"-1 x",
        b"2 x",
        b"99999999999 x",
        b"1025 " + made(0, 1)[0].encode(),  # more than are recorded together
        b"1 ",
        b"1 \xff",
        b"x y",
        b"2 a" + b" " * 16,
    ],
)
def test_an_entry_that_is_no_run_is_left_out(entry: bytes) -> None:
    assert read_run(entry) is None


def test_a_record_with_too_many_members_is_cut() -> None:
    assert len(MemberRuns([Run(made(0, 1)[0], ids.NUMBERS)] * 100)) == ids.NUMBERS
    with pytest.raises(IndexError):
        MemberRuns([]).id_at(0)
