"""Any value of an option is accepted, or refused with a readable `UsageError`."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import click
import pytest
from click.testing import CliRunner

import nbqueue
from nbqueue.cli import main as command_line
from nbqueue.client.schedules.entries import SETTINGS, with_settings
from nbqueue.client.submitting.resolved_options import ResolvedOptions
from nbqueue.cron import parse_spec
from nbqueue.durations import parse_duration
from nbqueue.errors import StoreError, UsageError
from nbqueue.options import TaskOptions
from nbqueue.sizes import parse_size
from nbqueue.store.url import parse_url
from nbqueue.wire.schedule_record import ScheduleEntry
from nbqueue.worker.settings import WorkerSettings

DIGITS = "9" * 5000
HUGE = 10**5000


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


BAD: dict[str, Any] = {
    "None": None, "True": True, "False": False, "zero": 0, "minus one": -1, "float": 1.5,
    "NaN": math.nan, "infinity": math.inf, "minus infinity": -math.inf, "400 digits": 10**400,
    "5,000 digits": HUGE, "minus 5,000 digits": -HUGE, "text of digits": DIGITS,
    "digits a second": DIGITS + "/s", "digits of a unit": DIGITS + "GB", "seconds": DIGITS + "s",
    "many parts": "1s" * 5000, "empty": "", "blank": "  ", "NUL": "a\0b", "surrogate": "\ud800",
    "escape": "\x1b[2J", "other digits": "٣/s", "bytes": b"12", "list": [], "list of lists": [[]],
    "dict": {}, "set": {1}, "tuple": (1, None), "huge tuple": (HUGE, "1s"), "object": object(),
    "class": int, "complex": 1j, "fraction": Fraction(1, 3), "unshowable": Unshowable(),
    "naive": datetime(2030, 1, 1), "first moment": datetime.min.replace(tzinfo=timezone.utc),
    "last moment": datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
    "longest delta": timedelta.max, "negative delta": -timedelta(1), "function": len,
}  # fmt: skip
VALUES = pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())


def check(call: Callable[[], object]) -> None:
    """Make the call: it returns, or raises a `UsageError` that is one short line."""
    error = ""
    try:
        call()
    except UsageError as raised:
        error = str(raised)
    assert len(error) < 2_000
    assert error.isprintable()


@pytest.mark.parametrize("name", [each.name for each in dataclasses.fields(TaskOptions)])
@VALUES
def test_options_of_tasks(name: str, value: Any) -> None:
    check(lambda: ResolvedOptions(TaskOptions().merged({name: value})))


@pytest.mark.parametrize("name", list(inspect.signature(nbqueue.Worker).parameters))
@VALUES
def test_options_of_workers(name: str, value: Any) -> None:
    check(lambda: repr(nbqueue.Worker(**{name: value})))


@pytest.mark.parametrize("name", [each.name for each in dataclasses.fields(nbqueue.Limit)])
@VALUES
def test_options_of_limits(name: str, value: Any) -> None:
    usual = {"name": "a", "concurrency": 1, "rate": "1/s", "burst": 1}
    check(lambda: nbqueue.Limit(**(usual | {name: value})).numbers)
    if name != "name":
        only = {"name": "a", name: value}
        check(lambda: nbqueue.Limit(**only).numbers)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "id"])
@VALUES
def test_settings_of_schedules(name: str, value: Any) -> None:
    entry = ScheduleEntry("i", "@hourly", "UTC", b"", "", "")
    check(lambda: with_settings(entry, {name: value}))


@VALUES
def test_specs_of_schedules(value: Any) -> None:
    check(lambda: parse_spec(value))
    check(lambda: parse_spec("@hourly", value))
    if isinstance(value, str):
        check(lambda: parse_spec("@every " + value))
        check(lambda: parse_spec(f"TZ={value} @hourly"))


@pytest.mark.parametrize("field", range(5))
@pytest.mark.parametrize("part", [DIGITS, f"*/{DIGITS}", f"1-{DIGITS}", "-", "/", ",", "٣", "\0"])
def test_fields_of_cron(field: int, part: str) -> None:
    parts = ["*"] * 5
    parts[field] = part
    with pytest.raises(UsageError):
        parse_spec(" ".join(parts))


@VALUES
def test_durations_sizes_and_urls(value: Any) -> None:
    check(lambda: parse_duration(value))
    check(lambda: parse_size(value))
    check(lambda: parse_url(value))
    check(lambda: nbqueue.exponential(value))
    check(lambda: nbqueue.exponential("1s", value))
    check(lambda: nbqueue.exponential(factor=value))
    check(lambda: nbqueue.exponential(jitter=value))


@pytest.mark.parametrize(
    "url",
    [f"redis://h:{DIGITS}", f"redis://h/{DIGITS}", f"unix:///s?db={DIGITS}", "redis://h:٣",
     f"redis+sentinel://h:1,i:{DIGITS}/m/0", f"redis+cluster://h:{DIGITS}", "redis://h:-1"],
)  # fmt: skip
def test_ports_and_databases(url: str) -> None:
    with pytest.raises(UsageError):
        parse_url(url)


@pytest.mark.parametrize("name", ["url", "key", "captured_limit"])
@VALUES
def test_options_of_connect(name: str, value: Any, store_url: str) -> None:
    if name == "url" and (value is None or value == ""):
        return

    def connect() -> None:
        with contextlib.suppress(StoreError):
            nbqueue.connect(**({"url": store_url} | {name: value})).close()

    check(connect)


def _commands(command: click.Command, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [words]
    context = click.Context(command)
    found = []
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        found += _commands(inner, (*words, name))
    return found


def _command(words: tuple[str, ...]) -> click.Command:
    found: click.Command = command_line.main
    for word in words:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None
        found = inner
    return found


# Commands that would not return. That of a worker checks its options, and then lacks a store.
_LONG = {("demo",), ("latency",)}
TEXTS = [DIGITS, "9" * 400, f"a={DIGITS}", "9" * 400 + "GB", DIGITS + "s", "-1", "nan", "inf", "",
         " ", "1e999", "\x1b[2J", "0001-01-01", "9999-12-31T23:59:59"]  # fmt: skip


@pytest.mark.parametrize(
    "words", [w for w in _commands(command_line.main) if w not in _LONG], ids=" ".join
)
def test_parameters_of_the_command_line(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, store_url: str
) -> None:
    is_worker = words == ("worker",)
    monkeypatch.setenv("NBQUEUE_URL", "redis://127.0.0.1:1" if is_worker else store_url)
    command = _command(words)
    required = ["x"] * sum(
        isinstance(each, click.Argument) and each.required for each in command.params
    )
    if is_worker:
        monkeypatch.setattr(nbqueue.Worker, "run", lambda self: 0)
    for param in command.params:
        for text in TEXTS:
            said = [*words, *required]
            if isinstance(param, click.Argument):
                said[len(words) :] = [text or "x"]
            elif param.is_flag:  # type: ignore[attr-defined]
                continue
            else:
                said.append(f"{param.opts[0]}={text}" if len(param.opts[0]) > 2 else param.opts[0])
                if len(param.opts[0]) == 2:
                    said.append(text)
            done = CliRunner().invoke(command_line.main, said)
            fault = done.exception
            assert fault is None or isinstance(fault, SystemExit), (said[:4], repr(fault)[:300])
            assert "Traceback" not in done.output
            assert "\x1b[2J" not in done.output


def test_a_worker_shows_no_password() -> None:
    worker = nbqueue.Worker("redis://user:secret@h:1/0")
    sentinel = "redis+sentinel://u:secret@h:1/m/0?sentinel_username=u&sentinel_password=secret"
    for shown in (repr(worker), repr(worker.settings), repr(WorkerSettings(sentinel))):
        assert "secret" not in shown
    assert "redis://user:***@h:1/0" in repr(worker.settings)
    assert worker.settings.url == "redis://user:secret@h:1/0"


@pytest.mark.parametrize("queues", ["mail", b"mail", 5, None])
def test_names_of_queues_are_no_text(queues: Any) -> None:
    with pytest.raises(UsageError, match="must be names"):
        nbqueue.Worker(queues=queues)
