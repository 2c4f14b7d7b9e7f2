"""Static cards: their words, and that text from the store does not become HTML."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timezone
from html.parser import HTMLParser

import pandas as pd
import pytest
from markupsafe import Markup

from nbqueue.broker.reads.models import ActiveTask, QueueInfo, ServerInfo, TaskInfo
from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.views import static_cards
from nbqueue.views.frame_accessor import FrameViews
from nbqueue.views.frames.columns import texts
from nbqueue.views.progress_bar import bars_html
from nbqueue.views.static_cards import WorkerFacts
from nbqueue.worker.worker import Worker

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
EVIL = "<script>alert('x')</script>"
QUEUE = QueueInfo("mail", 3, 0, 1, 0, 0, 0, 2, 0, 0, 5, 1, 50, 10, 4, True, 61.0, 2_500_000, MOMENT)
TASK = TaskInfo(
    "t1", "mail", "fit", b"abc", {}, "retry", 3, 1, "ValueError: no", MOMENT, 60.0, None, "g",
    MOMENT, 86_400.0, None, b"r" * 2000, True, 2, 0,
)  # fmt: skip
SERVER = ServerInfo(
    "h:7:ab", "h", 7, 4, {"mail": 1, "gpu": 3}, False, MOMENT, "active",
    (ActiveTask("t1", "fit", b"", "mail", MOMENT, None),),
)  # fmt: skip
SCHEDULE = {"id": "nightly", "spec": "0 3 * * *", "tz": "Europe/Paris", "queue": "mail",
            "type": "report", "next_at": MOMENT, "prev_at": None, "paused": False}  # fmt: skip
FACTS = WorkerFacts(True, 7, {"mail": 1, "gpu": 3}, 4, "process", "/tmp/log")

ALL = {
    "client": static_cards.client_card("redis://h", is_open=True, queues=[QUEUE]),
    "closed": static_cards.client_card("redis://h", is_open=False),
    "trouble": static_cards.client_card("redis://h", is_open=True, trouble="it is away"),
    "queue": static_cards.queue_card(QUEUE),
    "task": static_cards.task_card(TASK),
    "server": static_cards.server_card(SERVER),
    "worker": static_cards.worker_card(FACTS),
    "schedule": static_cards.schedule_card(SCHEDULE),
    "bulk": static_cards.bulk_card("run", ["a"], {"b": "is not in the store"}, ["c"], 2),
}


class _Words(HTMLParser):
    """The words of a piece of HTML, with ordered tags and no handlers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [name for name, _ in attrs if name.startswith("on")]
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + " "


def words(html: str) -> str:
    return re.sub(r"\s+", " ", _Words(html).words)


@pytest.mark.parametrize("name", ALL)
def test_a_card_is_whole_and_has_a_name(name: str) -> None:
    assert words(ALL[name])
    assert re.match(r'<div role="group" aria-label="[A-Z][^"]+"|<div role="group" aria-label="run',
                    ALL[name])  # fmt: skip
    assert "<style" not in ALL[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("client", "● connected"), ("client", "mail ‖ paused"), ("client", "1 queue, as of"),
        ("closed", "○ closed"), ("trouble", "it is away"),
        ("queue", "oldest pending task waits 1m 01s"), ("queue", "memory about 2.5 MB"),
        ("queue", "dropped from the full archive 4"), ("queue", "pending 1"),
        ("task", "↻ retry"), ("task", "nobody holds it"), ("task", "retries 1 of 3"),
        ("task", "begun 2 times"), ("task", "result 2.0 kB"), ("task", "ValueError: no"),
        ("server", "running 1 of 4"), ("server", "mail ×1, gpu ×3"),
        ("worker", "▶ running"), ("worker", "runs at once 4 in processes"),
        ("schedule", "zone Europe/Paris"),
        ("schedule", "next run 2026-01-02 04:04:05 CET"), ("schedule", "last run –"),
        ("bulk", "1 task done"), ("bulk", "1 running task asked to end"),
        ("bulk", "1 is not in the store b"),
    ],
)  # fmt: skip
def test_a_card_says(name: str, said: str) -> None:
    assert said in words(ALL[name])


@pytest.mark.parametrize(
    ("spec", "tz", "said"),
    [
        ("@daily", "UTC", "2026-01-02 03:04:05 UTC"),
        ("CRON_TZ=Asia/Tokyo 0 9 * * *", "UTC", "2026-01-02 12:04:05 JST"),
        ("TZ=Asia/Tokyo @daily", "Europe/Paris", "2026-01-02 12:04:05 JST"),
        ("@every 1h", "Asia/Kathmandu", "2026-01-02 08:49:05 UTC+0545"),
    ],
)
def test_a_schedule_is_shown_in_its_zone(spec: str, tz: str, said: str) -> None:
    shown = {**SCHEDULE, "spec": spec, "tz": tz}
    assert f"next run {said}" in words(static_cards.schedule_card(shown))


@pytest.mark.parametrize("tz", [None, "Nowhere/At_All", "", 7])
def test_a_schedule_of_no_known_zone_is_shown_in_local_time(tz: object) -> None:
    local = MOMENT.astimezone()
    said = f"next run {local:%Y-%m-%d %H:%M:%S} {local.tzname()}"
    assert said in words(static_cards.schedule_card({**SCHEDULE, "tz": tz}))


HOSTILE = {
    "tag": EVIL,
    "attribute": "\" onclick='alert(1)' x=\"",
    "entity": "&lt;b&gt; alert(1) &#60;",
    "controls": "alert(\x1b[31m\x07\x9b2J\u202e\u2066\u200b\u2028\0",
    "surrogates": "alert(\ud800\udcff",
    "long": EVIL + "alert(" * 20_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_text_of_others_is_shown_and_not_run(kind: str) -> None:
    text = HOSTILE[kind]
    evil = [
        static_cards.queue_card(replace(QUEUE, queue=text)),
        static_cards.client_card(text, is_open=True, queues=[replace(QUEUE, queue=text)]),
        static_cards.client_card("redis://h", is_open=True, trouble=text),
        static_cards.task_card(
            replace(TASK, id=text, type=text, error=text, group=text, state=text)
        ),
        static_cards.server_card(
            replace(
                SERVER, host=text, status=text, queues={text: 1},
                active_tasks=(ActiveTask(text, text, b"", text, MOMENT, None),),
            )
        ),
        static_cards.worker_card(replace(FACTS, queues={text: 1}, log=text)),
        static_cards.schedule_card(dict.fromkeys(("id", "spec", "tz", "queue", "type"), text)),
        static_cards.bulk_card(text, [], {text: text}, [], 0),
    ]  # fmt: skip
    evil += [
        bars_html({"bars": [{"desc": text, "n": 1, "unit": text}], "fields": {text: text}}),
    ]
    for html in evil:
        assert isinstance(html, Markup)
        assert "<script" not in html
        assert "alert(" in words(html)
        assert not set("\x1b\x07\x9b\u202e\u2066\u200b\u2028\0") & set(html)
        html.encode("utf-8")


def test_a_styled_frame_escapes_what_others_wrote() -> None:
    frame = pd.DataFrame({"error": texts([EVIL])}, index=pd.Index([EVIL], name="task_id"))
    html = FrameViews(frame).style.to_html()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 2


def test_a_worker_that_does_not_run_says_so() -> None:
    assert "not running" in words(Worker(queues=["mail"])._repr_html_())


def test_a_result_of_many_is_a_card_too() -> None:
    result = BulkResult("archive", done=["a"], refused={f"x{i}": "is active" for i in range(9)})
    assert "9 is active x0 x1 x2 x3 x4 …" in words(result._repr_html_())
