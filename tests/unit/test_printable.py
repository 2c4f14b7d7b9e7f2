"""Text from a store is shown with escapes; output keeps its colours and no other sequences."""

from __future__ import annotations

import io
import logging
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue import errors
from nbqueue.calls.exceptions import RemoteTraceback
from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.client.results.reported_progress import Bar, Progress
from nbqueue.clock import from_ms
from nbqueue.printable import printable
from nbqueue.views import controls
from nbqueue.views import html as h
from nbqueue.views.ansi import TerminalStream, ansi_html, for_terminal, without_colours

HOSTILE = "a\x1b]52;c;eA==\x07\x9b2J\u202eb\u2066\u200b\u2028\ud800\n\r\t\x00\U000e0041"
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def _controls(text: str, kept: str = "") -> list[str]:
    return [
        c for c in text if c not in kept and unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
    ] + [c for c in text if unicodedata.bidirectional(c) in ("RLO", "LRO", "RLE", "LRE", "PDF")]


def test_control_characters_become_escapes() -> None:
    assert printable(HOSTILE) == (
        "a\\x1b]52;c;eA==\\x07\\x9b2J\\u202eb\\u2066\\u200b\\u2028\\ud800\\n\\r\\t\\x00\\U000e0041"
    )
    assert printable("a\n\tb\r", lines=True) == "a\n\tb\\r"
    assert printable("größe 東京 ✓ 🎉\u00a0…") == "größe 東京 ✓ 🎉\u00a0…"


@given(st.text(st.characters()))
def test_no_text_keeps_a_control_character(text: str) -> None:
    assert not _controls(printable(text))
    assert not _controls(printable(text, lines=True), "\n\t")
    assert not _controls(h.text(text), "\n\t")


def test_html_shows_escapes() -> None:
    for made in (h.strong, h.pale, h.code, h.pre, h.problem):
        assert not _controls(made(HOSTILE), "\n\t")
    assert not _controls(
        controls.button(HOSTILE, "act", label=HOSTILE, args={"id": HOSTILE}), "\n\t"
    )


def test_a_list_of_choices_keeps_the_values_that_it_returns() -> None:
    html = controls.choice("a\x1fb", [("a\x1fb", "a\x1fb")], "act", label="queue")
    assert 'value="a\x1fb" selected>a\\x1fb<' in html


@pytest.mark.parametrize(
    "error",
    [
        errors.NbqueueError(HOSTILE),
        errors.UsageError(HOSTILE),
        errors.TaskFailed(HOSTILE),
        errors.TaskNotFound(HOSTILE),
        RemoteTraceback(HOSTILE),
    ],
)
def test_errors_show_escapes(error: Exception) -> None:
    assert not _controls(str(error), "\n\t")
    assert error.args[0] == HOSTILE


def test_an_error_without_a_message_is_empty_text() -> None:
    assert str(errors.NbqueueError()) == ""


def test_results_of_actions_and_progress_show_escapes() -> None:
    assert not _controls(repr(BulkResult("run", refused={"1": HOSTILE})))
    bar = Bar(HOSTILE, 1, 2, HOSTILE, None, HOSTILE)
    assert not _controls(str(Progress([bar], {HOSTILE: HOSTILE}, from_ms(0))))


@pytest.mark.parametrize("name", ["nbqueue.worker", "nbqueue.client", "nbqueue.notebook"])
def test_a_log_record_is_one_line_for_any_handler(name: str) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        logger.warning("task failed id=%s tasks=%d", HOSTILE, 3)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logger.exception("fault")
    finally:
        logger.removeHandler(handler)
    first, *rest = written.getvalue().split("\n")
    assert first.startswith("task failed id=a\\x1b]52")
    assert first.endswith("tasks=3")
    assert not _controls(first)
    assert not _controls("\n".join(rest), "\n\t")


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("\x1b]0;title\x07a", "a"),
        ("\x1b]52;c;aGk=\x1b\\a", "a"),
        ("\x1b]8;;http://e\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[6n\x1b[c\x1b[>4;1m\x1b[?1049h\x1b[2Ja", "a"),
        ("\x9b6n\x9d0;title\x9ca", "a"),
        ("\x1bP$qm\x1b\\a\x1bc\x1b(B", "a"),
        ("\x1b", "\\x1b"),
        ("\x1b\x1b[6n]52;c;aGk=\x07", "\\x1b]52;c;aGk="),
        ("a\x07\x00", "a\\x00"),
        ("10%\r20%\tb\r\n", "10%\r20%\tb\r\n"),
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("\x1b[8mhidden", "\x1b[8mhidden\x1b[0m"),
        ("\u202eevil 👩\u200d🔬", "\\u202eevil 👩\u200d🔬"),
    ],
)
def test_output_keeps_colours_and_loses_other_sequences(printed: str, shown: str) -> None:
    assert for_terminal(printed) == shown


@given(st.text(st.sampled_from("\x1b\x9b\x9d\x90\x9c\x07\\[]P?>;0m1nc \r\n\té\u202e")))
def test_no_output_controls_a_terminal(text: str) -> None:
    stream = TerminalStream()
    pieces = "".join(stream.feed(bytes((b,))) for b in text.encode()) + stream.end()
    for shown in (for_terminal(text), pieces):
        assert not _controls(_COLOUR.sub("", shown), "\n\r\t")
    assert not _controls(ansi_html(text), "\n\r\t")
    assert not _controls(without_colours(text), "\n\r\t")


def test_a_stream_joins_sequences_and_characters_that_were_cut() -> None:
    stream = TerminalStream()
    data = "\x1b[31mré\x1b]52;c;eA==\x07d".encode()
    shown = "".join(stream.feed(data[i : i + 1]) for i in range(len(data))) + stream.end()
    assert shown == "\x1b[31mréd\x1b[0m"


def test_many_unfinished_sequences_take_no_time() -> None:
    for start in ("\x1b]", "\x9d", "\x1b[", "\x9b1"):
        assert len(for_terminal(start * 100_000)) < 2_000_000
