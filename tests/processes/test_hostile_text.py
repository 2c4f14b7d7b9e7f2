"""Foreign text in the store controls no terminal, page or log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from click.testing import CliRunner
from thread_worker import ThreadWorker

from nbqueue import Client, StoreWarning
from nbqueue.cli.main import main
from nbqueue.client.futures.wait import WaitSet
from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.notebook import magic_actions
from nbqueue.notebook.group_card import GroupCard
from nbqueue.notebook.panel.panel import Panel
from nbqueue.notebook.static_card import StartingWorker
from nbqueue.notebook.task_card import FutureCard
from nbqueue.notebook.view import View
from nbqueue.wire.asynq_pb2 import ServerInfo, WorkerInfo
from nbqueue.wire.keys import name_bytes, queue_keys, server_info, server_tasks, stored_keys
from nbqueue.wire.messages import TaskMessage

KEYS = queue_keys("default")
EVIL = "evil\x1b]52;c;eA==\x07\x9b31m\u202etxt\u2028\u200b"
CONTROLS = set("\x1b\x07\x9b\u202e\u2066\u2028\u200b\r\0")
WORST = EVIL + """<script>alert(1)</script>"><b onclick='x'>&lt;$\\frac{$\0\u2066\r\n"""
TEXTS = {"short": WORST, "long": WORST + "x" * 100_000, "bytes": WORST + "\udcff\udcfe"}
TAGS = frozenset(
    ("div", "span", "code", "pre", "table", "caption", "thead", "tbody", "tr", "th", "td", "button",
     "input", "select", "option", "details", "summary", "time", "img", "svg", "path")
)  # fmt: skip
TABS = ("Queues", "Tasks", "Groups", "Workers", "Schedules", "Timeline", "History")


@pytest.fixture(autouse=True)
def _here(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_URL", store_url)


@pytest.fixture
def worker(store_url: str) -> Iterator[ThreadWorker]:
    found = ThreadWorker(store_url)
    yield found
    found.close()


def evil_task(client: Client, redis: Any, state: str = "archived") -> str:
    """A task of a stranger, with hostile text wherever there is text."""
    message = TaskMessage(
        id="stranger", type=EVIL, queue="default", payload=EVIL.encode(), error_msg=EVIL, retry=3,
        group_key=EVIL, headers={EVIL: EVIL},
    )  # fmt: skip
    redis.sadd("asynq:queues", "default")
    task = {"msg": message.SerializeToString(), "state": state}
    redis.hset(KEYS.task("stranger"), mapping=task)
    redis.zadd(KEYS.archived, {"stranger": 1})
    return "stranger"


class _Tags(HTMLParser):
    """Refuses tags and attributes that no view makes, and tags that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("input", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def is_harmless_html(html: str, kept: str = "") -> None:
    """No text became HTML or controls a page. ``kept`` may stand in the values of fields."""
    _Tags(html)
    assert not (CONTROLS - set(kept)) & set(html)
    html.encode("utf-8")


def is_harmless_text(text: str) -> None:
    assert not CONTROLS & set(text), ascii(text)[:2000]
    text.encode("utf-8")


def hostile_store(client: Client, redis: Any, text: str) -> str:
    """Fill a store as a stranger would, with ``text`` wherever there may be text."""
    raw = text.encode("utf-8", "surrogateescape")
    proto = raw.decode("utf-8", "replace")  # protobuf takes no other bytes
    queue = text.replace("{", "(").replace("}", ")")
    keys = stored_keys(queue)
    redis.sadd("asynq:queues", name_bytes(queue))
    lines = {"pending": keys.pending, "archived": keys.archived, "scheduled": keys.scheduled,
             "completed": keys.completed, "retry": keys.retry}  # fmt: skip
    for state, line in lines.items():
        task_id = f"{state} {text}"
        message = TaskMessage(
            id=proto, type=proto, queue=proto, payload=raw, error_msg=proto, retry=3,
            group_key=proto, headers={proto: proto},
        )  # fmt: skip
        task = {
            "msg": message.SerializeToString(), "state": state, "nbq:name": raw, "nbq:attempt": 1,
            "nbq:worker": raw, "nbq:progress": json.dumps(
                {"bars": [{"desc": text, "n": 1, "total": 2, "unit": text}], "fields": {text: text}}
            ),
        }  # fmt: skip
        redis.hset(name_bytes(keys.task(task_id)), mapping=task)
        if state == "pending":
            redis.lpush(name_bytes(line), name_bytes(task_id))
        else:
            redis.zadd(
                name_bytes(line),
                {name_bytes(task_id): 4_000_000_000 if state == "scheduled" else 1},
            )
    now = client._session.clock.now_ms()
    attempt = dict.fromkeys(("type", "reason", "error", "host", "outcome"), raw)
    attempt |= {"task_id": name_bytes(f"archived {text}"), "worker": raw, "attempt": 1,
                "started_at": now - 2000, "finished_at": now - 1000, "waited": 5}  # fmt: skip
    redis.xadd(name_bytes(keys.attempts), attempt)
    made = client.schedule_message("email", {}, "@hourly", id="nightly", queue="default")
    record = json.loads(redis.hget(KEYS.schedules, "nightly"))
    redis.hset(KEYS.schedules, name_bytes(text), json.dumps(record).replace("email", "e"))
    redis.hset(KEYS.schedules, "evil", json.dumps({
        name: text if isinstance(value, str) and name != "spec" else value
        for name, value in record.items()
    }))  # fmt: skip
    made.pause()
    server = ServerInfo(host=proto, pid=7, server_id=proto, concurrency=2, queues={proto: 1},
                        status=proto, active_worker_count=1)  # fmt: skip
    running = WorkerInfo(host=proto, pid=7, server_id=proto, task_id=proto, task_type=proto,
                         task_payload=raw, queue=proto)  # fmt: skip
    name = server_info("evil", 7, "id")
    redis.zadd("asynq:servers", {name: 4_000_000_000})
    redis.set(name, server.SerializeToString())
    tasks = server_tasks("evil", 7, "id")
    redis.zadd("asynq:workers", {tasks: 4_000_000_000})
    redis.hset(tasks, raw, running.SerializeToString())
    return queue


def is_clean(*texts: str) -> None:
    for text in texts:
        assert not CONTROLS & set(text), ascii(text)
        assert "evil\\x1b" in text


@pytest.mark.parametrize(
    "words",
    [("task", "list", "-q", "default", "-s", "archived"), ("task", "inspect", "stranger")],
    ids=" ".join,
)
def test_the_command_line(client: Client, redis: Any, words: tuple[str, ...]) -> None:
    evil_task(client, redis)
    is_clean(CliRunner().invoke(main, words).output)


def test_schedules_of_strangers(client: Client, redis: Any) -> None:
    made = client.schedule_message("email", {}, "@hourly", id="nightly")
    raw = redis.hget(KEYS.schedules, "nightly")
    redis.hset(KEYS.schedules, "nightly", raw.replace(b"email", EVIL.encode()))
    found = CliRunner().invoke(main, ("schedule", "list"))
    assert not CONTROLS & set(found.output)
    assert not CONTROLS & set(repr(made))


def test_handles_and_cards(client: Client, redis: Any) -> None:
    future = client.get(evil_task(client, redis))
    bundle = future._repr_mimebundle_()
    is_clean(repr(future), bundle["text/plain"], bundle["text/html"])
    error = future.exception(5)
    assert error is not None
    is_clean(str(error))
    is_clean(client.tasks(columns="all").nbq.style.to_html())
    is_clean(client.inspector.task("stranger")._repr_html_())


def test_an_error_of_the_command_line_is_one_visible_line(client: Client, redis: Any) -> None:
    said = CliRunner().invoke(main, ("task", "inspect", EVIL)).output
    assert not CONTROLS & set(said)
    assert len(said.splitlines()) == 1


def test_what_a_task_printed_keeps_its_colours_only(
    client: Client, redis: Any, worker: ThreadWorker
) -> None:
    future = client.submit(sum, [1])
    text = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[6nplain\n"
    entry = {"attempt": 1, "at": 1, "kind": "stdout", "before": 0, "lines": 0, "data": text}
    redis.hset(KEYS.task(future.id), "nbq:output", "1-1")
    redis.xadd(KEYS.output(future.id), entry, id="1-1")
    output = future.output()
    assert str(output) == "\x1b[31mred\x1b[0m plain\n"
    assert output.text == text
    assert CliRunner().invoke(main, ("logs", future.id)).output == "\x1b[31mred\x1b[0m plain\n"
    assert "title" not in output._repr_html_()


def test_logs_of_a_worker_are_visible(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "nbqueue.worker"):
        logging.getLogger("nbqueue.worker").warning("task failed type=%s", EVIL)
    is_clean(caplog.text.rstrip("\n"))


def see(*views: View) -> None:
    for view in views:
        for live in (True, False):
            is_harmless_html(view.html(live))
        is_harmless_text(view.text())


@pytest.mark.parametrize("kind", TEXTS)
def test_no_card_is_broken_out_of(client: Client, redis: Any, kind: str) -> None:
    text = TEXTS[kind]
    queue = hostile_store(client, redis, text)
    look = client.inspector
    cards = [client, *look.queue_infos(look.queues()), *look.schedules(), *look.servers()]
    found = [
        task for state in ("pending", "archived", "retry") for task in look.tasks(queue, state)
    ]
    cards += [*found, BulkResult(text, refused={text: text}, asked=[text])]
    for card in cards:
        is_harmless_html(card._repr_html_() or "")
        is_harmless_text(repr(card))
    futures = [client.get(task.id) for task in found]
    see(StartingWorker(text), *map(FutureCard, futures))
    if futures:
        see(GroupCard(WaitSet(futures)))
    status = magic_actions.status(client)
    is_harmless_html(status._repr_html_())
    is_harmless_text(repr(status))


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("kind", TEXTS)
def test_no_tab_is_broken_out_of(client: Client, redis: Any, kind: str, tab: str) -> None:
    text = TEXTS[kind]
    queue = hostile_store(client, redis, text)
    panel = Panel(client, tab=tab)
    see_tab(panel, text)
    if tab == "Tasks":
        for state in ("pending", "archived", "scheduled", "completed"):
            panel.act("queue", {"queue": queue, "state": state})
            see_tab(panel, text)
            for name in ("set-type", "set-error", "find"):
                panel.act(name, {"value": text})
                see_tab(panel, text)
            panel.act("task", {"queue": queue, "id": f"{state} {text}"})
            see_tab(panel, text)
            panel.act("back", {})
    elif tab == "Schedules":
        for schedule_id in (text, "evil"):
            panel.act("open", {"queue": "default", "id": schedule_id})
            see_tab(panel, text)
    elif tab == "Timeline":
        assert "<svg" in panel.html(live=True)


def see_tab(panel: Panel, text: str) -> None:
    # The values of fields and choices go back to the store, exact.
    is_harmless_html(panel.html(live=True), kept=text)
    is_harmless_html(panel.html(live=False))
    is_harmless_text(panel.text())


@pytest.mark.parametrize("task_id", ["a\u202eb", "esc\x1b[2J", "plain", "back\\slash"])
def test_a_row_of_a_frame_still_names_its_task(client: Client, redis: Any, task_id: str) -> None:
    msg = TaskMessage(id=task_id, type="t", queue="default", retry=3).SerializeToString()
    redis.sadd("asynq:queues", "default")
    redis.hset(f"asynq:{{default}}:t:{task_id}", mapping={"msg": msg, "state": "pending"})
    redis.lpush("asynq:{default}:pending", task_id)
    rows = client.tasks(columns="all")
    assert len(rows) == 1
    assert client.archive(rows).done == [task_id]


def test_names_copied_from_a_frame_choose_its_tasks(client: Client, redis: Any) -> None:
    keys = stored_keys(EVIL)
    message = TaskMessage(id="stranger", type=EVIL, queue=EVIL)
    redis.sadd("asynq:queues", name_bytes(EVIL))
    redis.hset(
        name_bytes(keys.task("stranger")),
        mapping={"msg": message.SerializeToString(), "state": "pending"},
    )
    redis.lpush(name_bytes(keys.pending), "stranger")
    row = client.tasks().loc["stranger"]
    assert "\\x1b" in row["type"]
    assert "\\x1b" in row["queue"]
    for kind in (EVIL, row["type"], "*m\\u202e*"):
        for queue in (EVIL, row["queue"], f"{row['queue'][:-2]}*"):
            assert [*client.tasks(type=kind, queue=queue).index] == ["stranger"], (kind, queue)
    found = client.archive(queue=row["queue"], state="pending", type=row["type"])
    assert found.done == ["stranger"]
    assert client.delete("stranger", queue=row["queue"]).done == ["stranger"]


def test_damaged_records_of_workers_are_left_out_with_a_warning(client: Client, redis: Any) -> None:
    for name, pid in (("good", 1), ("list", 2), ("text", 3), ("tasks", 4)):
        key = server_info("host", pid, name)
        record = ServerInfo(host="host", pid=pid, server_id=name).SerializeToString()
        redis.set(key, record)
        redis.zadd("asynq:servers", {key: 1e12})
        redis.zadd("asynq:workers", {server_tasks("host", pid, name): 1e12})
    redis.delete(server_info("host", 2, "list"))
    redis.lpush(server_info("host", 2, "list"), "a")
    redis.set(server_info("host", 3, "text"), b"\xff\xff")
    redis.set(server_tasks("host", 4, "tasks"), "a")
    redis.hset(server_tasks("host", 1, "good"), "task", b"\xff\xff")
    with pytest.warns(StoreWarning) as warned:
        frame = client.workers()
    assert [*frame["pid"]] == [1, 4]
    text = "\n".join(str(each.message) for each in warned)
    for key in (
        server_info("host", 2, "list"), server_info("host", 3, "text"),
        server_tasks("host", 4, "tasks"), server_tasks("host", 1, "good"),
    ):  # fmt: skip
        assert key in text
    redis.delete("asynq:servers", "asynq:workers")
    redis.set("asynq:servers", "a")
    with pytest.warns(StoreWarning, match="asynq:servers"):
        assert client.workers().empty
    assert client.inspector.servers() == []


@pytest.mark.parametrize("kind", TEXTS)
def test_no_frame_controls_a_terminal(client: Client, redis: Any, kind: str) -> None:
    hostile_store(client, redis, TEXTS[kind])
    for frame in (
        client.tasks(columns=["all", "headers"], arguments=True),
        client.attempts(columns="all"),
        client.queues(),
        client.workers(),
        client.schedules(),
        client.stats(by="type"),
        client.tasks(columns="all").nbq.summary(),
    ):
        for shown in (repr(frame), frame.to_string(), frame._repr_html_()):
            # Zero-width characters stay in data: they are parts of words in many languages.
            is_harmless_text(shown.replace("\u200b", "").replace("\u2028", "").replace("\\r", ""))
    is_harmless_html(client.timeline()._repr_mimebundle_()[0]["text/html"])


COMMANDS = (
    ("queue", "list"), ("queue", "inspect", "QUEUE"), ("queue", "history", "QUEUE"),
    ("task", "list", "-q", "QUEUE", "-s", "archived"), ("task", "inspect", "TASK"),
    ("task", "cancel", "TASK"), ("schedule", "list"), ("schedule", "history", "evil"),
    ("schedule", "pause", "evil"), ("store", "check"), ("store", "status"), ("logs", "TASK"),
)  # fmt: skip


@pytest.mark.parametrize("kind", ["short"])
def test_no_command_prints_what_controls_a_terminal(client: Client, redis: Any, kind: str) -> None:
    text = TEXTS[kind]
    queue = hostile_store(client, redis, text)
    for words in COMMANDS:
        named = {"QUEUE": queue, "TASK": f"archived {text}"}
        found = CliRunner().invoke(main, [named.get(word, word) for word in words])
        is_harmless_text(found.output)
        assert not found.exception or isinstance(found.exception, SystemExit), words
