"""Errors for invalid names, which show the character that is the reason."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.client.futures.wait import wait
from nbqueue.client.inspection.plots import Plots, draw_timeline
from nbqueue.client.inspection.task_filter import check_where
from nbqueue.client.inspection.task_query import check_states
from nbqueue.client.schedules.entries import _checked_id, options_of
from nbqueue.cron import parse_spec, zone_of
from nbqueue.errors import UsageError
from nbqueue.limits import check_limit_name
from nbqueue.names import did_you_mean, fault_of, fits_pattern, near_names, with_restored
from nbqueue.options import TaskOptions
from nbqueue.store.durability import check_durability
from nbqueue.store.url import parse_url
from nbqueue.tasks.aggregation_group import check_type
from nbqueue.views.frames.stats import check_by
from nbqueue.views.frames.task_frames import chosen_columns
from nbqueue.wire.keys import check_queue_name
from nbqueue.worker.worker import Worker

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


@pytest.mark.parametrize(
    ("word", "known", "question"),
    [
        ("retires", ("queue", "retry"), "did you mean 'retry'?"),
        ("DEFUALT", ("default", "gpu"), "did you mean 'default'?"),
        ("lrr", ("depth", "lr"), "did you mean 'lr'?"),
        ("comp", ("pending", "completed"), "did you mean 'completed'?"),
        ("nobody", ("good",), ""),
        ("nothing", ("default", "gpu"), ""),
        ("a", ("\x1b[2Ja",), ""),
        (3, ("default",), ""),
        ("x" * 1_000_000, ("x" * 1_000_000,), ""),
    ],
)
def test_the_nearest_known_name_is_suggested(
    word: object, known: tuple[str, ...], question: str
) -> None:
    assert did_you_mean(word, known) == question


def test_suggested_names_of_a_store_are_printable_and_few_are_compared() -> None:
    assert did_you_mean("jobs1", ["jobs\x1b1"]) == "did you mean 'jobs\\x1b1'?"
    many = [f"other{i}" for i in range(200_000)]
    assert near_names("zebra", [*many, "zebra"]) == []


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        (lambda: TaskOptions().merged({"retires": 3}), "'retires' is no option of a task: did you"),
        (lambda: TaskOptions(codec="jsn"), "must be 'pickle' or 'json': did you mean 'json'?"),
        (lambda: TaskOptions(on_conflict="exist"), "did you mean 'existing'?"),
        (lambda: options_of({}, {"overlp": True}), "did you mean 'overlap'?"),
        (lambda: check_where(None, {"quue": "a"}), "'quue' chooses no tasks: did you mean 'queue'"),
        (
            lambda: check_states("complete"),
            "state='complete' is no state: did you mean 'completed'",
        ),
        (lambda: check_states("failed"), "did you mean 'retry' or 'archived'?"),
        (lambda: chosen_columns(["durtion"]), "'durtion' is no column: did you mean 'duration'?"),
        (lambda: check_by("quue"), "did you mean 'queue'?"),
        (lambda: parse_spec("@hourli", "UTC"), "did you mean '@hourly'?"),
        (lambda: parse_url("redsi://h"), "did you mean 'redis'?"),
        (lambda: draw_timeline(None, {"titel": "x"}), "'titel' is no option of a timeline: did"),  # type: ignore[arg-type, typeddict-unknown-key]
        (lambda: zone_of("Europe/Pariss"), "did you mean 'Europe/Paris'?"),
        (lambda: wait(return_when="ALL_COMPLETE"), "did you mean 'ALL_COMPLETED'?"),
        (
            lambda: Plots(lambda **_: None).latency(sinse="1h"),
            "'sinse' is no option of a plot: did",
        ),  # type: ignore[call-arg, arg-type, return-value]
        (lambda: check_durability("fsynk", parse_url("redis://h")), "did you mean 'fsync'?"),
        (lambda: Worker(executor="treads"), "did you mean 'thread'?"),
    ],
)
def test_errors_for_names_of_closed_sets_say_which_was_meant(
    wrong: Callable[[], object], meant: str
) -> None:
    with pytest.raises(UsageError) as caught:
        wrong()
    assert meant in str(caught.value)
