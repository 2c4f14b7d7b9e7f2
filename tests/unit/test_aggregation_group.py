"""Messages between a supervisor and its aggregator, and valid options of groups."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

import nbqueue
from nbqueue.broker.commands.aggregation import MOST_MEMBERS, Ripeness
from nbqueue.calls import payloads
from nbqueue.errors import UsageError
from nbqueue.options import TaskOptions
from nbqueue.tasks import aggregation_group
from nbqueue.tasks.aggregation_group import Member
from nbqueue.worker.settings import WorkerSettings

AT = datetime(2030, 1, 1, tzinfo=timezone.utc)
AT_MS = 1_893_456_000_000

_SET_ID = "0e144f0b-6bb4-44ff-8133-8a514aed30be"


def test_members_arrive_as_they_were_sent() -> None:
    members = [
        Member("a", "mail", 25, b"", b""),
        Member("ü", "t:é", 0, '{"k":"ü"}'.encode(), b"\x00\xff"),
    ]
    group, tasks = aggregation_group.unpack_members(
        aggregation_group.pack_members("g ü", members), "q"
    )
    assert group == "g ü"
    assert [(t.id, t.type, t.queue, t.max_retry, t.headers, t.payload) for t in tasks] == [
        ("a", "mail", "q", 25, {}, b""),
        ("ü", "t:é", "q", 0, {"k": "ü"}, b"\x00\xff"),
    ]


def terms(*args: Any, **options: Any) -> Any:
    return aggregation_group.unpack_message(
        aggregation_group.pack_message(nbqueue.Message("digest", *args, **options))
    )


def test_a_message_has_asynqs_defaults() -> None:
    found = terms()
    assert (found.type, found.payload, found.headers) == ("digest", None, {})
    assert (found.retry, found.timeout, found.deadline, found.retention) == (25, 1800, 0, 0)
    assert (found.delay_ms, found.at_ms, found.unique_ms) == (0, None, None)
    assert (found.task_id, found.group) == (None, None)


@pytest.mark.parametrize(
    ("payload", "sent"),
    [(None, None), (b"", b""), (b"\xff", b"\xff"), ("ü", "ü".encode()), ([1, "ü"], '[1,"ü"]')],
)
def test_its_payload_is_written_as_that_of_any_message(payload: Any, sent: Any) -> None:
    assert terms(payload).payload == (sent.encode() if isinstance(sent, str) else sent)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"timeout": 0.1}, {"timeout": 1}),
        ({"deadline": AT}, {"timeout": 0, "deadline": AT_MS // 1000}),
        ({"deadline": AT, "timeout": "1m"}, {"timeout": 60, "deadline": AT_MS // 1000}),
        ({"retry": 0}, {"retry": 0}),
        ({"retention": 1.5}, {"retention": 2}),
        ({"delay": "1.5s"}, {"delay_ms": 1500}),
        ({"at": AT}, {"at_ms": AT_MS}),
        ({"unique": "1h"}, {"unique_ms": 3_600_000}),
        ({"headers": {"k": "ü"}}, {"headers": {"k": "ü"}}),
        ({"group": "g", "task_id": "i"}, {"group": "g", "task_id": "i"}),
    ],
)
def test_its_options_are_sent_in_units_of_the_wire(options: Any, sent: Any) -> None:
    found = terms(**options)._asdict()
    assert {name: found[name] for name in sent} == sent


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"type": ""}, "type=''"),
        ({"type": "\ud800"}, "type="),
        ({"type": "t", "payload": object()}, "payload"),
        ({"type": "t", "payload": payloads.pack_call(bytes(16), b"", 0)}, "call"),
        ({"type": "t", "queue": "other"}, "queue="),
        ({"type": "t", "name": "n"}, "name="),
        ({"type": "t", "on_conflict": "replace"}, "on_conflict="),
        ({"type": "t", "retries": 3}, "'retries' is no option"),
        ({"type": "t", "delay": 1, "at": AT}, "delay= and at="),
        ({"type": "t", "group": " "}, "group="),
    ],
)
def test_what_cannot_be_said_of_an_aggregate_is_named(wrong: Any, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        nbqueue.Message(**wrong)


@pytest.mark.parametrize("value", [None, b"digest", {"type": "digest"}])
def test_an_aggregator_must_return_a_message(value: Any) -> None:
    with pytest.raises(TypeError, match=r"must return an nbqueue\.Message"):
        aggregation_group.pack_message(value)


def test_a_duration_that_no_wire_takes_is_refused() -> None:
    for name in ("delay", "retention", "timeout", "unique"):
        with pytest.raises(UsageError, match="hundred years"):
            terms(**{name: "40000d"})


def test_an_answer_that_was_tampered_with_is_refused() -> None:
    made = aggregation_group.pack_message(nbqueue.Message("digest"))
    with pytest.raises(TypeError, match="delay_ms"):
        aggregation_group.unpack_message(made.replace(b'"delay_ms": 0', b'"delay_ms":[]'))


@pytest.mark.parametrize("body", [b"", b"\0\0", b"\0\0\0\x02{}", b"\0\0\0\x02no"])
def test_an_answer_that_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        aggregation_group.unpack_message(body)


@pytest.mark.parametrize("group", ["emails", "a:b", "ü x", "user:42", f"x{_SET_ID}"])
def test_groups_may_have_any_name(group: str) -> None:
    assert TaskOptions(group=group).group == group


@pytest.mark.parametrize("group", ["", " ", " x", "\ud800", 3, f"g:{_SET_ID}"])
def test_names_that_no_group_may_have(group: Any) -> None:
    with pytest.raises(UsageError, match="group="):
        TaskOptions(group=group)


def test_settings_say_when_a_group_is_ripe() -> None:
    assert WorkerSettings().ripeness == Ripeness(60_000, 0, 0)
    settings = WorkerSettings(
        group_grace_period="1.5s", group_max_delay="2m", group_max_size=MOST_MEMBERS
    )
    assert settings.ripeness == Ripeness(1_500, 120_000, MOST_MEMBERS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("group_grace_period", 0.9),
        ("group_max_delay", 0),
        ("group_max_size", -1),
        ("group_max_size", True),
        ("group_max_size", 1.5),
        ("group_max_size", MOST_MEMBERS + 1),
    ],
)
def test_settings_that_cannot_be_right_are_named(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name}={value}"):
        WorkerSettings(**{name: value})


def test_a_worker_has_one_aggregator() -> None:
    worker = nbqueue.Worker()

    @worker.aggregate
    async def first(group: str, tasks: list[nbqueue.Task]) -> nbqueue.Message:
        return nbqueue.Message("t")

    settings = worker._settings_now()
    assert (settings.aggregates, settings.aggregator_is_async) == (True, True)
    with pytest.raises(UsageError, match="has an aggregator"):
        worker.aggregate(lambda group, tasks: nbqueue.Message("t"))
    with pytest.raises(UsageError, match="is not a function"):
        nbqueue.Worker().aggregate("digest")  # type: ignore[arg-type]
