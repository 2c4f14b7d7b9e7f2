"""Aggregation groups end to end: messages of a group become one task, whatever ends meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

import nbqueue
from nbqueue.wire.messages import TaskMessage

KEY = "5b" * 32


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)


@pytest.fixture
def q(lab: Any) -> Iterator[Any]:
    client = nbqueue.connect(lab.server.url)
    yield client
    client.close()


def digest(group: str, tasks: list[nbqueue.Task]) -> nbqueue.Message:
    said = {"group": group, "tasks": [task.json() for task in tasks]}
    return nbqueue.Message("digest", said, retention="1h")


def make_worker(lab: Any, aggregator: Any = digest, **settings: Any) -> nbqueue.Worker:
    """A worker that aggregates, and runs what comes of it."""
    name = f"groups-{len(list(lab.folder.glob('groups-*')))}.log"
    settings = {"concurrency": 2, "group_grace_period": 1, **settings}
    worker = nbqueue.Worker(lab.server.url, log=lab.folder / name, **settings)
    if aggregator is not None:
        worker.aggregate(aggregator)
    worker.handle("digest", lambda task: task.json())
    return worker


def aggregates(lab: Any) -> list[Any]:
    """What the aggregates say that were completed."""
    found = []
    for task_id in lab.redis.zrange("asynq:{default}:completed", 0, -1):
        fields = lab.redis.hgetall(b"asynq:{default}:t:" + task_id)
        if TaskMessage.FromString(fields[b"msg"]).type == "digest":
            found.append(json.loads(fields[b"result"]))
    return found


def is_empty(lab: Any) -> bool:
    """Whether nothing is left of any group."""
    keys = [key.decode() for key in lab.redis.keys("asynq:{default}:*")]
    return not [k for k in keys if ":g:" in k or k.endswith((":groups", ":aggregation_sets"))]


def test_a_group_is_aggregated_once_it_is_quiet_for_the_grace_period(lab: Any, q: Any) -> None:
    with make_worker(lab):
        began = time.monotonic()
        futures = [q.enqueue("mail", {"n": n}, group="emails") for n in range(5)]
        lab.wait_until(lambda: aggregates(lab))
        took = time.monotonic() - began
        [found] = aggregates(lab)
        assert found == {"group": "emails", "tasks": [{"n": n} for n in range(5)]}
        assert took >= 1, "it did not wait for the grace period"
        assert is_empty(lab)
        [result] = {future.result(20) for future in futures}
        assert q.get(result).result(20) == found
