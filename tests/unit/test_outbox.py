"""The buffer of a task's output before it is sent: bounded, ordered, complete.

Dropped text is counted.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.executor import pipe
from nbqueue.executor.output import outbox
from nbqueue.executor.output.outbox import HEAD, MOST_AT_ONCE, TAIL, Outbox
from nbqueue.executor.pipe import DISPLAY, STDERR, STDOUT, Frames, Output

PIECES = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.text(max_size=20)), max_size=30)


def test_writes_of_one_kind_become_one_piece() -> None:
    box = Outbox()
    for kind, text in [(STDOUT, b"a\n"), (STDOUT, b"b"), (STDERR, b"c\n"), (STDOUT, b"d")]:
        box.write(kind, text)
    assert box.has_more
    assert box.take() == [
        Output(STDOUT, 0, 0, b"a\nb"),
        Output(STDERR, 3, 1, b"c\n"),
        Output(STDOUT, 5, 2, b"d"),
    ]
    assert not box.has_more
    assert box.take() == []
    box.write(STDOUT, b"e")
    assert box.take() == [Output(STDOUT, 6, 2, b"e")]


@given(PIECES, st.integers(1, 40))
def test_nothing_is_lost_or_turned_around_below_the_caps(
    pieces: list[tuple[int, str]], most: int
) -> None:
    box = Outbox()
    for kind, text in pieces:
        box.write(kind, text.encode())
    taken: list[Output] = []
    while box.has_more and (more := box.take(most)):
        taken += more
    written = [(kind, text.encode()) for kind, text in pieces]
    for kind in (STDOUT, STDERR):
        said = b"".join(each.data for each in taken if each.kind == kind)
        assert said == b"".join(data for of, data in written if of == kind)
    size = lines = 0
    for each in taken:
        assert (each.before, each.lines) == (size, lines)
        size += len(each.data)
        lines += each.data.count(b"\n")


def test_of_a_flood_the_head_and_the_tail_are_kept() -> None:
    box = Outbox()
    lines = [b"%07d\n" % i for i in range(500_000)]
    for line in lines:
        if box.is_full:
            box.sort()
        box.write(STDOUT, line)
    whole = b"".join(lines)
    taken = box.take()
    assert taken[0].before == 0
    head = b"".join(each.data for each in taken if each.before < HEAD)
    tail = b"".join(each.data for each in taken if each.before >= HEAD)
    assert whole.startswith(head)
    assert len(head) == HEAD
    assert whole.endswith(tail)
    assert TAIL - 70_000 < len(tail) <= TAIL
    last = next(each for each in taken if each.before >= HEAD)
    assert last.lines == whole[: last.before].count(b"\n")


def test_a_single_text_beyond_all_caps_is_bounded_too() -> None:
    box = Outbox()
    box.write(STDOUT, "é".encode() * 5_000_000)
    taken = box.take()
    assert sum(len(each.data) for each in taken) <= HEAD + TAIL
    for each in taken:
        each.data.decode()  # no character is cut in two


def test_little_is_taken_at_once_and_the_rest_waits() -> None:
    box = Outbox()
    box.write(STDOUT, b"x" * 500_000)
    first = box.take(MOST_AT_ONCE)
    assert MOST_AT_ONCE <= sum(len(each.data) for each in first) < MOST_AT_ONCE + 66_000
    assert box.has_more
    rest = box.take()
    assert b"".join(each.data for each in first + rest) == b"x" * 500_000


def test_what_nobody_comes_for_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_MOST_UNSORTED", 1_000)
    box = Outbox()
    for _ in range(1_000):
        box.write(STDOUT, b"0123456\n")
    box.write(DISPLAY, b"{}")
    kept = sum(len(each.data) for each in box.take())
    assert kept < 1_000
    box.write(STDOUT, b"end\n")
    assert box.take() == [Output(STDOUT, 8_000, 1_000, b"end\n")]


def test_displays_are_counted_and_never_dropped() -> None:
    box = Outbox()
    box.write(DISPLAY, b"{1}")
    for _ in range(3):
        box.write(STDOUT, b"x" * 1_000_000)
        box.write(DISPLAY, b"{2}")
    assert [each.data for each in box.take() if each.kind == DISPLAY] == [b"{1}"] + [b"{2}"] * 3
    assert box.admit_display(5_000_000) == ""
    assert "5,000,000 can be kept" in box.admit_display(5_000_001)
    for _ in range(3):
        assert box.admit_display(5_000_000) == ""
    assert "20,000,000 bytes" in box.admit_display(1)
    other = Outbox()
    for _ in range(50):
        assert other.admit_display(1) == ""
    assert "50 of this attempt" in other.admit_display(1)


def test_a_piece_travels_in_a_frame() -> None:
    output = Output(STDERR, 2**40, 7, b"\x00data")
    [(kind, body)] = Frames().feed(pipe.pack_output(9, output))
    number, what, said = pipe.unpack_report(body)
    assert (kind, number, what) == (pipe.REPORT, 9, pipe.OUTPUT_REPORT)
    assert pipe.unpack_output(said) == output
