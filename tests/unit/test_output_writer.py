"""The supervisor's part in outputs: one write under way, bounded, nothing lost or doubled."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.broker.reads.task_outputs import Entry, display_owner
from nbqueue.calls import payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.executor import pipe
from nbqueue.executor.output.outbox import HEAD, LARGEST_DISPLAY, TAIL
from nbqueue.executor.pipe import Output
from nbqueue.testing.local_attempts import NO_OWNER
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.messages import TaskMessage
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.tasks import output_writer
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.output_writer import HOUR_MS, WEEK_MS, OutputWriter, news

KEYS = Keyring([bytes(range(32))])
PER_TASK = 9


class FakeConnection:
    """Keeps what is sent, and answers on request."""

    def __init__(self, is_up: bool = True) -> None:
        self.is_up = is_up
        self.sent: list[tuple[Any, Callable[[Any], None]]] = []

    def send(self, command: Any, on_reply: Callable[[Any], None]) -> None:
        self.sent.append((command, on_reply))

    def answer(self, reply: Any = ()) -> None:
        sent, self.sent = self.sent, []
        for _, on_reply in sent:
            on_reply(list(reply) if isinstance(reply, tuple) else reply)


class FakeConnections:
    def __init__(self) -> None:
        self.current = FakeConnection()
        self.on_down: list[Callable[[], None]] = []

    def tasks(self, queue: str) -> FakeConnection:
        return self.current

    def go_down(self) -> None:
        self.current = FakeConnection(is_up=False)
        for action in self.on_down:
            action()


class Desk:
    """An `OutputWriter`, and what it has sent."""

    def __init__(self) -> None:
        self.connections = FakeConnections()
        context = SimpleNamespace(connections=self.connections, keys=KEYS, clock=Clock())
        self.writer = OutputWriter(cast("ServiceContext", context))

    def take(self, attempt: Attempt, text: bytes, before: int = 0, kind: int = pipe.STDOUT) -> None:
        output = Output(kind, before, 0, text)
        _, body = pipe.Frames().feed(pipe.pack_output(attempt.number, output))[0]
        self.writer.take(attempt, pipe.OUTPUT_REPORT, pipe.unpack_report(body)[2])

    def flushed(self) -> list[dict[str, Any]]:
        """The fields that one round sends, a dict for each task."""
        connection = self.connections.current
        count = len(connection.sent)
        self.writer.flush()
        rows: list[dict[str, Any]] = []
        for command, _ in connection.sent[count:]:
            args = list(command.args)[1:]
            for at in range(0, len(args), PER_TASK):
                task_id, _, _, ttl, entries, drop, progress, _, told = args[at : at + PER_TASK]
                rows.append({"id": task_id, "ttl": ttl, "data": _data(entries), "drop": drop,
                             "progress": progress, "news": told})  # fmt: skip
        return rows


def _data(packed: bytes) -> list[bytes]:
    words: list[bytes] = []
    while packed:
        size = int.from_bytes(packed[:4], "big")
        words.append(packed[4 : 4 + size])
        packed = packed[4 + size :]
    return words[5::6]


def an_attempt(number: int = 1, queue: str = "q", retention: int = 60) -> Attempt:
    message = TaskMessage(id=f"t{number}", type="t", queue=queue, retention=retention)
    task = Fetched(f"t{number}", b"", None, 1, 0)
    return Attempt(number, queue, task, message, "Tt", 1_000_000, NO_OWNER)


def test_a_round_writes_all_tasks_of_a_queue_at_once() -> None:
    desk = Desk()
    for number in (1, 2, 3):
        desk.take(an_attempt(number), b"x")
    desk.take(an_attempt(4, "other"), b"y")
    rows = desk.flushed()
    assert sorted((row["id"], *row["data"]) for row in rows) == [
        ("t1", b"x"), ("t2", b"x"), ("t3", b"x"), ("t4", b"y"),
    ]  # fmt: skip
    assert len(desk.connections.current.sent) == 2
    assert {row["ttl"] for row in rows} == {WEEK_MS}
    assert desk.flushed() == []


def test_one_write_of_a_task_is_under_way_and_its_last_words_do_not_wait() -> None:
    desk = Desk()
    mine = an_attempt()
    desk.take(mine, b"a")
    assert [row["data"] for row in desk.flushed()] == [[b"a"]]
    desk.take(mine, b"b", 1)
    assert desk.flushed() == []
    desk.take(mine, b"c", 2)
    desk.writer.finish(mine, outcome=pipe.VALUE)
    [row] = desk.flushed()
    assert (row["data"], row["ttl"]) == ([b"b", b"c"], HOUR_MS)
    desk.connections.current.answer()
    assert desk.writer._tasks == {}


@pytest.mark.parametrize(
    ("retention", "is_success", "kept"),
    [(60, True, HOUR_MS), (86_400, True, 86_400_000), (0, False, WEEK_MS),
     (30 * 86_400, False, 30 * 86_400_000)],
)  # fmt: skip
def test_an_output_is_kept_as_long_as_its_end(retention: int, is_success: bool, kept: int) -> None:
    desk = Desk()
    mine = an_attempt(retention=retention)
    desk.writer.finish(mine, pipe.VALUE if is_success else None)
    assert desk.flushed() == []  # it wrote nothing
    desk.take(mine, b"x")
    desk.writer.finish(mine, pipe.VALUE if is_success else None)
    assert [row["ttl"] for row in desk.flushed()] == [kept]


def test_what_was_not_acknowledged_is_written_again_under_the_same_numbers() -> None:
    desk = Desk()
    mine = an_attempt()
    desk.take(mine, b"a")
    desk.writer.take(mine, pipe.PROGRESS_REPORT, b'{"bars":[]}')
    [first] = desk.flushed()
    desk.take(mine, b"b", 1)
    desk.connections.go_down()
    desk.writer.flush()
    desk.writer.finish(mine, outcome=pipe.VALUE)
    desk.connections.current = FakeConnection()
    [again] = desk.flushed()
    assert again["data"] == [b"a", b"b"]
    assert again["progress"] == first["progress"] != b""
    command, _ = desk.connections.current.sent[0]
    assert command.args[5].startswith(b"\x00\x00\x00\x011")  # number 1


def test_the_store_keeps_head_and_tail() -> None:
    desk = Desk()
    mine = an_attempt()
    dropped: list[str] = []
    size = 0
    for _ in range(40):
        desk.take(mine, b"x" * 50_000, size)
        size += 50_000
        [row] = desk.flushed()
        dropped += row["drop"].split()
        desk.connections.current.answer()
    kept = 40 - len(dropped)
    assert dropped == [str(i) for i in range(3, 3 + len(dropped))]  # 1 and 2 are the head
    assert kept * 50_000 == HEAD + TAIL


def test_a_store_that_is_away_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.connections.go_down()
    mine = an_attempt()
    for i in range(100):
        desk.take(mine, b"%02d" % i + b"x" * 49_998, i * 50_000)
    assert desk.writer._waiting_size <= HEAD + TAIL
    monkeypatch.setattr(output_writer, "_MOST_WAITING", 1_500_000)
    for number in range(2, 50):
        for i in range(20):
            desk.take(an_attempt(number), b"x" * 50_000, i * 50_000)
    assert desk.writer._waiting_size <= 1_500_000 + 50 * HEAD
    desk.connections.current = FakeConnection()
    rows = desk.flushed()
    last = next(row for row in rows if row["id"] == "t1")["data"][-1]
    assert last.startswith(b"99")
    assert desk.writer._waiting_size == 0


def test_a_refusal_of_the_store_ends_nothing() -> None:
    desk = Desk()
    mine = an_attempt()
    desk.take(mine, b"a")
    desk.flushed()
    desk.connections.current.answer(ReplyError("OOM command not allowed"))
    desk.take(mine, b"b", 1)
    assert [row["data"] for row in desk.flushed()] == [[b"b"]]


def test_displays_are_signed_and_bounded_here_too() -> None:
    desk = Desk()
    mine = an_attempt()
    desk.take(mine, b"{}", kind=pipe.DISPLAY)
    desk.take(mine, b"x" * (LARGEST_DISPLAY + 1), kind=pipe.DISPLAY)
    desk.take(mine, b"x", kind=99)
    [row] = desk.flushed()
    [envelope] = row["data"]
    result = KEYS.verify_result(envelope, display_owner("t1", 1))
    assert (result.kind, bytes(result.body)) == (payloads.DISPLAY, b"{}")


def test_odd_reports_are_dropped() -> None:
    desk = Desk()
    for kind, body in [(pipe.PROGRESS_REPORT, b"[]"), (pipe.PROGRESS_REPORT, b"{" * 40_000),
                       (pipe.RESULT_REPORT, b"x"), (77, b"x")]:  # fmt: skip
        desk.writer.take(an_attempt(), kind, body)
    assert desk.flushed() == []


def test_news_have_what_is_small_and_name_what_is_not() -> None:
    entry = Entry(1, 1, 5, "stdout", 0, 0, b"x\n")
    progress = b'{"bars":[]}'
    assert json.loads(news("t", [entry], progress)) == {
        "id": "t", "more": False, "entries": [[1, 1, 5, "stdout", 0, 0, "x\n"]],
        "progress": {"bars": []},
    }  # fmt: skip
    assert json.loads(news("t", [], progress)) == {
        "id": "t", "more": False, "progress": {"bars": []},
    }  # fmt: skip
    assert json.loads(news("t", [entry._replace(data=b"x" * 20_000)], b"")) == {
        "id": "t", "more": True,
    }  # fmt: skip
    assert json.loads(news("t", [entry._replace(kind="display")], b""))["more"] is True
