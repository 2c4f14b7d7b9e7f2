"""Errors for invalid names, which show the character that is the reason."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.client.schedules.entries import _checked_id
from nbqueue.errors import UsageError
from nbqueue.limits import check_limit_name
from nbqueue.names import fault_of, fits_pattern, with_restored
from nbqueue.options import TaskOptions
from nbqueue.tasks.aggregation_group import check_type
from nbqueue.wire.keys import check_queue_name

CHECKS = {
    "task_id": lambda text: TaskOptions(task_id=text),
    "name": lambda text: TaskOptions(name=text),
    "group": lambda text: TaskOptions(group=text),
    "queue": check_queue_name,
    "type": check_type,
    "limit": check_limit_name,
    "schedule": lambda text: _checked_id(text, ""),
}


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\0b", "the NUL character '\\x00' at position 1"),
        ("a\x1bb", "the control character '\\x1b' at position 1"),
        ("a\x7f", "the control character '\\x7f' at position 1"),
        ("ab\ud800", "the lone surrogate, which UTF-8 cannot hold, '\\ud800' at position 2"),
        ("a\nb", "white space '\\n' at position 1"),
    ],
)
def test_the_true_reason_is_told(what: str, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)) as caught:
        CHECKS[what](text)
    assert repr(text) in str(caught.value)
    assert ": " in str(caught.value)


@pytest.mark.parametrize("what", ["task_id", "queue", "limit", "schedule"])
def test_invisible_characters_are_told(what: str) -> None:
    with pytest.raises(UsageError, match=r"the invisible character '\\u200f' at position 1"):
        CHECKS[what]("a\u200fb")


@pytest.mark.parametrize("what", ["task_id", "schedule"])
def test_a_space_is_white_space(what: str) -> None:
    with pytest.raises(UsageError, match="white space ' ' at position 1"):
        CHECKS[what]("a b")


@pytest.mark.parametrize("char", "{}/")
def test_what_a_queue_cannot_hold_is_told(char: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"the character {char!r} at position 1")):
        check_queue_name(f"a{char}b")


@pytest.mark.parametrize("what", ["limit", "schedule"])
def test_how_long_a_name_may_be_is_told(what: str) -> None:
    with pytest.raises(UsageError, match="has 5,000 characters"):
        CHECKS[what]("x" * 5_000)


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("text", ["a", "späte", "日本", "a_b-c.d:e", "é", "😀"])
def test_what_can_be_a_name_is_one(what: str, text: str) -> None:
    CHECKS[what](text)
    assert fault_of(text) is None


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_an_asterisk_stands_for_anything(pattern: str, text: str) -> None:
    assert fits_pattern(text, pattern) == fnmatch.fnmatchcase(text, pattern)


@pytest.mark.parametrize("pattern", ["[a]", "a?", "a%", "."])
def test_other_characters_stand_for_themselves(pattern: str) -> None:
    assert fits_pattern(pattern, pattern)
    assert not fits_pattern("a", pattern)


def test_a_pattern_from_a_frame_stands_for_the_characters_that_it_shows() -> None:
    assert with_restored("a*b") == ("a*b",)
    assert with_restored("a\\x1b\\u202e*") == ("a\\x1b\\u202e*", "a\x1b\u202e*")
    assert with_restored("\\x41\\n") == ("\\x41\\n",)
