"""What a stranger wrote to the store reaches no terminal, notebook or log as it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from thread_worker import ThreadWorker

from nbqueue import Client
from nbqueue.cli.main import main
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import TaskMessage

KEYS = queue_keys("default")
EVIL = "evil\x1b]52;c;eA==\x07\x9b31m\u202etxt\u2028\u200b"
CONTROLS = set("\x1b\x07\x9b\u202e\u2028\u200b\r")


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
    is_clean(client.tasks().nbq.style.to_html())
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
