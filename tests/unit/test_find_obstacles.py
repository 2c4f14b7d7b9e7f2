"""Obstacles as decided from facts, and the commands that they name."""

from __future__ import annotations

from typing import Any

import pytest

from nbqueue.client.futures.group_state import GroupState
from nbqueue.client.obstacles import remedies
from nbqueue.client.obstacles.find_obstacles import find_obstacles
from nbqueue.client.obstacles.obstacle import Obstacle, advice, in_short
from nbqueue.client.obstacles.other_stores import OtherWorker
from nbqueue.client.obstacles.remedies import Surroundings, start_line, surroundings_of
from nbqueue.client.obstacles.store_facts import (
    LimitFacts,
    LockFacts,
    QueueFacts,
    StoreFacts,
    TaskState,
)
from nbqueue.store.url import StoreURL, parse_url
from nbqueue.views.notices import notices_html, notices_text
from nbqueue.wire.server_info import WorkerRecord

NOW = 1_800_000_000_000
HERE = Surroundings("embedded://here")
PENDING = TaskState("pending")


def worker(status: str = "active", number: int = 1) -> WorkerRecord:
    return WorkerRecord(f"box:{number}:ab", 2, {"default": 1}, False, status, 0.0, 0)


def facts(queue: QueueFacts, name: str = "default", **more: Any) -> StoreFacts:
    given: dict[str, Any] = {"tasks": {}, "limits": {}, "locks": {}, **more}
    return StoreFacts(NOW, {name: queue}, **given)


def sentences(found: StoreFacts, *tasks: TaskState, queue: str = "default") -> list[str]:
    return [each.sentence for each in find_obstacles(found, queue, tasks or None, HERE)]


def kinds(found: StoreFacts, *tasks: TaskState) -> list[str]:
    return [each.kind for each in find_obstacles(found, "default", tasks, HERE)]


def test_without_a_worker_it_names_queue_store_and_the_command_that_starts_one() -> None:
    [found] = find_obstacles(facts(QueueFacts()), "default", [PENDING], HERE)
    assert found == Obstacle(
        "no_worker",
        "no worker serves queue 'default' at embedded://here",
        "`nbqueue worker` starts one",
        "default",
    )
    assert sentences(facts(QueueFacts(workers=(worker(),))), PENDING) == []
    assert sentences(facts(QueueFacts(workers=(worker("new"),)))) == []


def test_a_queue_that_is_nearly_one_that_is_served_is_a_mistyped_one() -> None:
    near = facts(QueueFacts(), "critcal", served=frozenset({"critical", "default"}))
    [found] = find_obstacles(near, "critcal", None, HERE)
    assert found.kind == "mistyped"
    assert found.sentence.endswith(" (did you mean 'critical'?)")
    assert found.remedy == "`nbqueue worker -q critcal` starts one"
    far = facts(QueueFacts(), "gpu", served=frozenset({"critical", "default"}))
    assert [each.kind for each in find_obstacles(far, "gpu", None, HERE)] == ["no_worker"]


def test_workers_that_stop_or_are_silent_serve_no_queue_and_are_named() -> None:
    at = "no worker serves queue 'default' at embedded://here: "
    for workers, why in (
        ((worker("closed"),), "box:1 shuts down"),
        ((worker("stopped"),), "box:1 fetches no more tasks, and cannot be resumed"),
        ((worker("closed"), worker("closed", 2)), "box:1 and 1 more shut down"),
    ):
        assert sentences(facts(QueueFacts(workers=workers)), PENDING) == [at + why]
    silent = QueueFacts(silent=(("box:7:ab", NOW / 1000 - 25),))
    assert sentences(facts(silent), PENDING) == [
        at + "box:7 last reported 25s ago, so it died, is suspended or cut off"
    ]


def test_a_running_task_has_an_obstacle_only_if_all_its_workers_are_gone() -> None:
    active = TaskState("active")
    assert kinds(facts(QueueFacts(workers=(worker("closed"),), paused_s=1)), active) == []
    assert kinds(facts(QueueFacts()), active) == ["no_worker"]


def test_a_task_that_has_ended_or_is_not_due_has_no_obstacle() -> None:
    empty = facts(QueueFacts(paused_s=0))
    assert kinds(empty, TaskState("completed")) == []
    assert kinds(empty, TaskState("scheduled", due_ms=NOW + 60_000)) == []
    assert kinds(empty, TaskState("retry", due_ms=NOW - 60_000)) == ["paused", "no_worker"]


def test_a_worker_at_another_store_is_named_with_that_store() -> None:
    other = OtherWorker(12, "embedded://there", "/data/jobs")
    found = facts(QueueFacts(), elsewhere={"default": (other,)})
    [_, elsewhere] = find_obstacles(found, "default", [PENDING], HERE)
    assert elsewhere.text == (
        "a worker for 'default' (process 12, started in /data/jobs) runs at another store, "
        'embedded://there: `nbqueue.connect("embedded://there")` uses that one'
    )


def test_a_paused_queue_says_since_when_and_how_to_resume_it() -> None:
    paused = QueueFacts(NOW // 1000 - 300, workers=(worker(),))
    [found] = find_obstacles(facts(paused), "default", [PENDING], HERE)
    assert found.text == (
        "queue 'default' has been paused for 5m 00s: `q.inspector.unpause('default')` resumes it"
    )
    assert sentences(facts(paused._replace(paused_s=0)), PENDING) == ["queue 'default' is paused"]


def test_limits_and_locks_say_what_holds_them() -> None:
    served = QueueFacts(workers=(worker(),), concurrency=4, active=4)
    limits = {
        ("default", "one"): LimitFacts(1, None, ("t1",), 1, 1, None),
        ("default", "api"): LimitFacts(4, "10/s", ("t1", "t2"), 4, 96, None),
        ("default", "slow"): LimitFacts(None, "2/h", (), 0, 3, NOW + 90_000),
        ("default", "free"): LimitFacts(4, None, (), 0, 1, None),
    }
    locks = {("default", "k"): LockFacts("t9", 60_000)}
    found = facts(served, limits=limits, locks=locks)
    for parked, sentence in (
        (
            "limit:one",
            "limit 'one' is used up, and 1 task waits for it: task t1 has its only place",
        ),
        (
            "limit:api",
            "limit 'api' is used up, and 96 tasks wait for it: 4 tasks have all of its 4 places "
            "(t1, t2, …)",
        ),
        (
            "limit:slow",
            "limit 'slow' is used up, and 3 tasks wait for it: it lets 2/h start, the next in "
            "1m 30s",
        ),
        ("lock:k", "another task holds the unique lock: t9, for 1m 00s at most"),
    ):
        assert sentences(found, TaskState("scheduled", parked)) == [sentence]
    assert sentences(found, TaskState("scheduled", "limit:free")) == []
    assert sentences(found, TaskState("scheduled", "limit:unread")) == []
    assert sentences(found, PENDING) == [
        "queue 'default' runs at most 4 tasks at a time, and 4 run"
    ]


def test_a_requirement_is_an_obstacle_only_if_no_live_worker_meets_it() -> None:
    parked = TaskState("scheduled", "need:python=3.99")
    key = b"asynq:servers:{box:1:ab}"
    here = QueueFacts(workers=(worker(),), capabilities=(b"box:1:ab python=3.99",))
    assert sentences(facts(here, alive=(key,)), parked) == []
    assert sentences(facts(here), parked) == ["needs a worker with Python 3.99; none is alive"]


def test_commands_suit_the_place_where_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_URL", "redis://h/1")
    default, other = parse_url("redis://h/1"), parse_url("embedded://other")
    secret = parse_url("redis://:secret@h")

    def line(url: StoreURL, queue: str = "default") -> str:
        return start_line(surroundings_of(url), queue)

    assert line(default, "my queue") == "`nbqueue worker -q 'my queue'` starts one"
    assert line(other, "a=b") == "`nbqueue worker -q a=b=1 --url embedded://other` starts one"
    assert line(secret) == ("`nbqueue worker`, with the store's URL in NBQUEUE_URL, starts one")
    try:
        remedies.register_magic(lambda: None)
        assert line(default, "gpu") == (
            "`%nbqueue up -q gpu` starts one here, `nbqueue worker -q gpu --url "
            "redis://h:6379/1` in a terminal"
        )
        assert line(other) == (
            "`%nbqueue connect embedded://other` and then `%nbqueue up` starts one here, "
            "`nbqueue worker --url embedded://other` in a terminal"
        )
        remedies.register_magic(lambda: other)
        assert line(other).startswith("`%nbqueue up` starts one here")
        assert "secret" not in line(secret)
    finally:
        remedies.unregister_magic()


def test_obstacles_in_words() -> None:
    some = [Obstacle("paused", f"reason {i}", "" if i else "do `x`") for i in range(5)]
    assert in_short(some[:2] + some[:1]) == "reason 0; reason 1"
    assert in_short(some) == "reason 0; reason 1; reason 2; and 2 more"
    assert advice(some[1:]) == ""
    assert advice(some) == ". do `x`"
    assert notices_text(some[:2]) == ["  ! reason 0: do `x`", "  ! reason 1"]


def test_names_from_a_store_are_escaped_on_cards() -> None:
    found = facts(QueueFacts(), "<b>`\x1b[2J")
    [html] = notices_html(find_obstacles(found, "<b>`\x1b[2J", None, HERE))
    assert "<b>" not in html
    assert "\x1b" not in html


def test_a_sample_of_a_group_is_of_both_its_ends() -> None:
    class End:
        is_failed = is_cancelled = is_gone = is_unfollowed = False

    state: GroupState[Any] = GroupState()
    state.add([f"t{i}" for i in range(10)])
    for i in (0, 1, 5, 9):
        state.settle([(f"t{i}", End())])
    assert state.sample_unended(4) == ["t2", "t3", "t8", "t7"]
    assert state.sample_unended(20) == ["t2", "t3", "t4", "t6", "t7", "t8"]
    state.reopen(["t1"])
    assert state.sample_unended(2) == ["t1", "t8"]
