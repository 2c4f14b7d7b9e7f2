"""What failed, where and with what, on the cards of real tasks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from thread_worker import ThreadWorker
from waits import wait_until

import nbqueue
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.task_detail import TaskDetail
from nbqueue.notebook.group_card import GroupCard
from nbqueue.notebook.panel.model_table import Drawing
from nbqueue.notebook.panel.task_view import task_view
from nbqueue.notebook.replay_here import replay_here
from nbqueue.notebook.task_card import FutureCard


@pytest.fixture
def worker(store_url: str) -> Iterator[ThreadWorker]:
    found = ThreadWorker(store_url)
    yield found
    found.close()


def load(path: str, rows: int = 100) -> int:
    return int(json.loads('{"a": 1}')["price" if rows else "a"])


def check(x: int) -> int:
    if x % 3 == 0:
        raise ValueError(f"{x % 2} is odd")
    return load("s3://", rows=x % 2)


def test_a_card_shows_the_call_and_the_line_that_failed(
    client: nbqueue.Client, worker: ThreadWorker
) -> None:
    future = client.submit(load, "s3://" + "x" * 500, rows=5)
    worker.work()
    wait_until(future.done)
    html = FutureCard(future).html(live=False).unescape()
    assert "load(path='s3://xxx" in html
    assert "…', rows=5)" in html
    assert "KeyError: 'price'" in html
    assert "in load: return int(json.loads(" in html
    assert f'q.get("{future.id}").replay()' in html


def test_a_group_counts_equal_errors_with_their_arguments(
    client: nbqueue.Client, worker: ThreadWorker
) -> None:
    group = client.map(check, range(12))
    worker.work()
    wait_until(group.done)
    card = GroupCard(group)
    html = card.html(live=False).unescape()
    assert "4 × KeyError: 'price'" in html
    assert html.count("2 × ValueError: ") == 2
    for x in (1, 5, 7, 11, 0, 6, 3, 9):
        assert f"check(x={x})" in html
    card.act("retry", {})
    assert not group.done()
    worker.work()
    wait_until(group.done)
    assert "4 × KeyError" in card.html(live=False).unescape()


def test_a_task_in_full_shows_its_failure_and_runs_it_here(
    client: nbqueue.Client, worker: ThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("last_type", "last_value", "last_traceback"):
        monkeypatch.setattr(sys, name, None, raising=False)
    failed, good = client.submit(load, "a", rows=5), client.submit(load, "a", rows=0)
    worker.work(2)
    wait_until(lambda: failed.done() and good.done())
    task = TaskDetail(Scope(client), "default", failed.id)
    task.read()
    html = task_view(task, Drawing(live=True, acts=True, now_ms=0)).unescape()
    assert "KeyError: 'price'" in html
    assert "load(path='a', rows=5)\nKeyError: 'price'\nTraceback" in html  # what Copy copies
    assert "Replay here" in html
    assert replay_here(client.get(failed.id)).startswith("KeyError: 'price': %debug")
    assert isinstance(sys.last_value, KeyError)
    assert sys.last_traceback.tb_next is not None
    assert replay_here(client.get(good.id)) == "Here it returned 1"
    client.delete(good.id)
    with pytest.raises(nbqueue.TaskNotFound):
        replay_here(client.get(good.id))
