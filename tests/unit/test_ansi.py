"""Output of tasks with control sequences, as text and as HTML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.views.ansi import ansi_html, collapse, without_colours
from nbqueue.views.format import INK


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n", "plain\n"),
        ("10%\r20%\r100%\nend", "100%\nend"),
        ("long line\rshort", "shortline"),
        ("kept\r", "kept"),
        ("windows\r\nlines\r\n", "windows\nlines\n"),
        ("\x1b[31mlong red\x1b[0m\rx", "x"),
        ("ab\bc", "ac"),
        ("\b\b|\b/", "/"),
    ],
)
def test_what_was_written_over_is_gone(text: str, shown: str) -> None:
    assert collapse(text) == shown


@given(st.text())
def test_any_text_collapses_and_becomes_html(text: str) -> None:
    assert "\r" not in collapse(text)
    assert "<script" not in ansi_html(text + "<script>")
    assert "\x1b[" not in without_colours(text.replace("\x1b", "") + "\x1b[1;31mx\x1b[0m")


def test_colours_become_spans_with_inline_styles() -> None:
    red = f"color:color-mix(in srgb, #c62828 60%, {INK})"
    assert ansi_html("a\x1b[31m<b>\x1b[0mc") == f'a<span style="{red}">&lt;b&gt;</span>c'
    assert ansi_html("\x1b[1mx\x1b[22my") == '<span style="font-weight:600">x</span>y'
    assert ansi_html("\x1b[2K\x1b[?25lx\x1b]0;title\x07y") == "xy"


@pytest.mark.parametrize(
    ("codes", "colour"),
    [
        ("91", "#e53935"),
        ("38;5;196", "#ff0000"),
        ("38;5;1", "#c62828"),
        ("38;5;255", "#eeeeee"),
        ("38;2;1;2;3", "#010203"),
    ],
)
def test_all_ways_to_say_a_colour_are_understood(codes: str, colour: str) -> None:
    assert colour in ansi_html(f"\x1b[{codes}mx")
    ground = codes.replace("38", "48").replace("91", "101")
    assert f"background:color-mix(in srgb, {colour}" in ansi_html(f"\x1b[{ground}mx")


def test_codes_that_are_cut_short_are_harmless() -> None:
    for code in ("38", "38;5", "38;2;1", "48", "999", "", ";;"):
        assert ansi_html(f"\x1b[{code}mx\x1b[0m").endswith(("x", "x</span>"))
    assert ansi_html("\x1b[38;5;999mx")
