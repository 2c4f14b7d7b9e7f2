"""Records of workers, begun attempts, repaired leases and overdue maintenance."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Stream, Zset, dump, load, task
from protobuf import decode_server, decode_worker
from transitions import FENCE, LEASE_MS, NOW, SCORE, SINCE, active, attempt, fetched

from nbqueue.broker.commands import lifecycle, maintenance, presence
from nbqueue.broker.commands.maintenance import Overdue, Repaired
from nbqueue.transport.topology import ANYWHERE
from nbqueue.wire.server_info import RunningTask, WorkerRecord
from nbqueue.wire.server_info import decode_worker as decode_record

WORKER = "höst:7:0123456789abcdef01234567"
SERVER_KEY = f"asynq:servers:{{{WORKER}}}"
TASKS_KEY = f"asynq:workers:{{{WORKER}}}"
RECORD = WorkerRecord(WORKER, 4, {"q": 2, "p": 1}, True, "active", 1_700_000_000.5, 2)
SERVER = {
    "host": "höst",
    "pid": 7,
    "server_id": "0123456789abcdef01234567",
    "concurrency": 4,
    "queues": {"q": 2, "p": 1},
    "strict_priority": 1,
    "status": "active",
    "start_time": 1_700_000_000.5,
    "active_worker_count": 2,
}


def shown(task_id: str, queue: str = "q", deadline: float = 0) -> RunningTask:
    return RunningTask(task_id, "t", b"f(\xe2\x80\xa6)", queue, 1_700_000_001.25, deadline)


def info(task_id: str, queue: str = "q", deadline: int = 32_503_680_000) -> dict[str, Any]:
    return {
        "host": "höst",
        "pid": 7,
        "server_id": "0123456789abcdef01234567",
        "task_id": task_id,
        "task_type": "t",
        "task_payload": "f(…)".encode(),
        "queue": queue,
        "start_time": 1_700_000_001.25,
        "deadline": deadline,
    }


def test_a_worker_is_written_as_asynq_writes_it_and_replaces_what_it_said_before(
    broker: Any, redis: Any
) -> None:
    redis.hset(TASKS_KEY, "old", "x")
    tasks = [shown("a"), shown("b", deadline=1_800_000_000.9), shown("a", "p")]
    for _ in range(2):
        assert broker.run(presence.heartbeat_worker(RECORD, tasks)) == 3
        assert decode_server(redis.get(SERVER_KEY)) == SERVER
        found = {key.decode(): decode_worker(v) for key, v in redis.hgetall(TASKS_KEY).items()}
        assert found == {
            "a": info("a"),
            "b": info("b", deadline=1_800_000_000),
            "a in p": info("a", "p"),
        }
        assert 0 < redis.pttl(SERVER_KEY) <= 10_000
        assert 0 < redis.pttl(TASKS_KEY) <= 10_000
    assert decode_record(redis.get(SERVER_KEY)) == RECORD
    assert broker.run(presence.heartbeat_worker(RECORD, [])) == 0
    assert redis.exists(TASKS_KEY) == 0
    redis.delete(SERVER_KEY)


def test_what_a_worker_wrote_is_deleted_when_it_leaves(broker: Any, redis: Any) -> None:
    broker.run(presence.heartbeat_worker(RECORD, [shown("a")]))
    broker.call(*presence.listing(WORKER, ["q", "p"], NOW_MS), on=ANYWHERE)
    assert redis.zrange("asynq:servers", 0, -1, withscores=True) == [
        (SERVER_KEY.encode(), NOW + 10)
    ]
    assert redis.zrange("asynq:workers", 0, -1, withscores=True) == [(TASKS_KEY.encode(), NOW + 10)]
    assert redis.zrange("nbqueue:{q}:workers", 0, -1, withscores=True) == [(WORKER.encode(), NOW)]
    assert 0 < redis.ttl("nbqueue:{q}:workers") <= 86_400
    broker.call(*presence.vanish(WORKER, ["q", "p"]), on=ANYWHERE)
    assert dump(redis) == {}


def test_who_served_a_queue_long_ago_is_forgotten(broker: Any, redis: Any) -> None:
    broker.call(*presence.listing("old:1:ab", ["q"], NOW_MS - 86_411_000), on=ANYWHERE)
    broker.call(*presence.listing(WORKER, ["q"], NOW_MS), on=ANYWHERE)
    assert redis.zrange("nbqueue:{q}:workers", 0, -1) == [WORKER.encode()]
    assert redis.zrange("asynq:servers", 0, -1) == [SERVER_KEY.encode()]
    assert redis.zrange("asynq:workers", 0, -1) == [TASKS_KEY.encode()]
    broker.call(*presence.vanish("old:1:ab", ["q"]), *presence.vanish(WORKER, ["q"]), on=ANYWHERE)


def test_only_what_the_caller_holds_has_begun(broker: Any, redis: Any) -> None:
    other = active("c", {"nbq:lease": f"other|{SINCE}"})
    given = {
        **fetched(active("a", {"nbq:attempt": 3}), active("b"), other),
        "pending": ["p"],
        "t:p": task("p", "pending", {"pending_since": 1}),
    }
    load(redis, given)
    command = lifecycle.note_begun("q", [(each, FENCE, 3) for each in ("a", "c", "p", "missing")])
    for _ in range(2):
        assert broker.run(command) == 1
        assert dump(redis) == {
            **given,
            "t:a": active("a", {"nbq:attempt": 3, "nbq:begun": 3}),
        }


def test_that_an_earlier_attempt_had_begun_says_nothing_of_this_one(
    broker: Any, redis: Any
) -> None:
    load(redis, fetched(active("a", {"nbq:attempt": 2, "nbq:begun": 1})))
    [found] = broker.run(maintenance.expired("q", LEASE_MS))
    [held] = broker.run(maintenance.held_by_worker("q", "host:1:ab"))
    assert (found.begun, held.begun) == (False, False)


@pytest.mark.usefixtures("odd_store")
def test_active_tasks_without_a_lease_are_found_by_who_looks_for_expired_ones(
    broker: Any, redis: Any
) -> None:
    given = {
        **fetched(active("a"), active("b")),
        "active": ["o", "a", "gone", "b", "done"],
        "t:o": task("o", "active"),
        "t:done": task("done", "completed"),
        "completed": Zset(done=NOW),
    }
    load(redis, given)
    assert broker.run(maintenance.repair_leases("q", NOW_MS)) == Repaired(5, 3)
    lease = Zset(a=SCORE, b=SCORE, o=NOW - 60, gone=NOW - 60, done=NOW - 60)
    assert dump(redis) == {**given, "lease": lease}
    assert broker.run(maintenance.repair_leases("q", NOW_MS)) == Repaired(5, 0)
    [found] = broker.run(maintenance.expired("q", NOW_MS))
    assert (found.task_id, found.begun) == ("o", False)
    assert dump(redis) == {
        **given,
        "active": ["o", "a", "b"],
        "lease": Zset(a=SCORE, b=SCORE, o=NOW - 60),
    }


@pytest.mark.usefixtures("odd_store")
def test_active_tasks_are_looked_at_in_slices(broker: Any, redis: Any) -> None:
    names = [f"o{i}" for i in range(5)]
    load(redis, {"active": names, **{f"t:{n}": task(n, "active") for n in names}})
    found = [broker.run(maintenance.repair_leases("q", NOW_MS, start, 2)) for start in (0, 2, 4, 6)]
    assert found == [Repaired(2, 2), Repaired(2, 2), Repaired(1, 1), Repaired(0, 0)]


NOTHING = Overdue(False, False, False, False, False, False, False)


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, NOTHING),
        (fetched(active("a")), NOTHING),
        ({"scheduled": Zset(s=NOW + 2)}, NOTHING),
        ({"scheduled": Zset(s=NOW + 1)}, NOTHING._replace(due=True)),
        ({"retry": Zset(s=NOW)}, NOTHING._replace(due=True)),
        ({"active": ["a"], "lease": Zset(a=NOW - 1)}, NOTHING._replace(expired=True)),
        ({"active": ["a"]}, NOTHING._replace(orphans=True)),
        ({"completed": Zset(c=NOW)}, NOTHING._replace(over=True)),
        ({"completed": Zset(c=NOW + 1)}, NOTHING),
        ({"own:waiting": Zset({"limit:n": NOW_MS})}, NOTHING._replace(waiting=True)),
        ({"own:waiting": Zset({"limit:n": NOW_MS + 1})}, NOTHING),
        ({"own:schedule_due": Zset(s=NOW_MS + 9)}, NOTHING._replace(schedules=True)),
    ],
)
def test_overdue_says_what_there_is_to_do(
    broker: Any, redis: Any, content: Any, expected: Overdue
) -> None:
    load(redis, content)
    assert broker.run(maintenance.overdue("q", NOW_MS, 0)) == expected
    assert dump(redis) == content


def test_overdue_sees_old_attempts(broker: Any, redis: Any) -> None:
    load(redis, {"own:attempts": Stream([attempt("a", "completed")])})
    written_ms = int(redis.xrange("nbqueue:{q}:attempts")[0][0].split(b"-")[0])
    assert broker.run(maintenance.overdue("q", NOW_MS, written_ms)) == NOTHING
    later = maintenance.overdue("q", NOW_MS, written_ms + 1)
    assert broker.run(later) == NOTHING._replace(old_attempts=True)
