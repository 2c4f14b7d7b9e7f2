"""The last lines of an output: bars and text keep their order, however they come."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nbqueue.views.ansi import collapse
from nbqueue.views.output_lines import MOST_LINES, OutputLines


def test_a_bar_stays_one_line_in_its_place_while_text_is_printed() -> None:
    output = OutputLines()
    for stream, text in (
        ("stdout", "begin\n"),
        ("stderr", "\r 0%"),
        ("stdout", "epoch 1\nepoch"),
        ("stderr", "\r50%"),
        ("stdout", " 2\n"),
        ("stderr", "\r100%\nwarning\n"),
        ("stdout", "end\n"),
    ):
        output.add(stream, text)
    assert output.lines == ["begin", "100%", "epoch 1", "epoch 2", "warning", "end"]


@given(st.text("ab\r\n", max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_text_in_pieces_is_the_text_at_once(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(text)]
    output = OutputLines()
    for begin, end in pairwise(places):
        output.add("stdout", text[begin:end])
    assert output.lines == collapse(text.removesuffix("\n")).split("\n") * bool(text)


def test_lines_that_are_dropped_are_counted() -> None:
    output = OutputLines()
    output.add("stderr", "bar")
    for number in range(MOST_LINES + 10):
        output.add("stdout", f"line {number}\n")
    assert output.first == 11
    assert output.lines[0] == "line 10"
    output.add("stderr", "\rgoes on\n")
    assert output.lines[-1] == "goes on"
    assert len(output.lines) == MOST_LINES
