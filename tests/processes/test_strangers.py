"""A worker survives anything that other programs write to its keys and channels."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbqueue.broker.commands.limits import limited
from nbqueue.broker.new_tasks import EnqueueRequest
from nbqueue.tasks.new_task import NewTask
from nbqueue.wire.messages import TaskMessage

ASYNQ, OWN = "asynq:{default}:", "nbqueue:{default}:"
DIGITS = "9" * 400
PLACES = ("scheduled", "retry", "lease", "completed", "archived")
IDS = ("j1", "j2", b"\xff", " ", "s1")
SCORES = ("inf", "-inf", "1e308", "-1e308", "9e18", "0", "-1.5")
ODD = (
    *(b"", b"\xff\xfe", b"\0" * 40, b"{}", b"[]", b"null", b'{"a":"\\ud800"}', b"[" * 50_000),
    *(b"|||", b"-1|0|0|0|0", b"|1|1|1|1", b"nan|nan|nan|nan|nan", "|".join([DIGITS] * 5).encode()),
    *(b"inf", b"-inf", b"nan", DIGITS.encode(), b"9" * 5_000, b"1e999", b"-1", b"1.5", b"abc"),
)
INT32, INT64 = (-(2**31), -1, 0, 1, 2**31 - 1), (-(2**63), -1, 0, 1, 2**31, 2**62, 2**63 - 1)

Write = Callable[[Any], object]


def nothing() -> str:
    return "ran"


def message(**fields: Any) -> bytes:
    return TaskMessage(
        **{"type": "x", "id": "j1", "queue": "default", **fields}
    ).SerializeToString()


def schedule(**changes: Any) -> bytes:
    values = {
        "id": "s1", "spec": "@hourly", "tz": "UTC", "message": base64.b64encode(message()).decode(),
        "text": "", "revision": "aaaaaa", "missed": "all", "overlap": True, "jitter_ms": 0,
        "start_ms": 0, "until_ms": 0, "max_runs": 0, "unique_ms": 0, "name": "", "name_seconds": 0,
        "limit": "", "limit_numbers": "",
    }  # fmt: skip
    return json.dumps({**values, **changes}).encode()


# --- What a stranger may write ---

odd_bytes = st.one_of(st.sampled_from(ODD), st.binary(max_size=40))
ids, scores = st.sampled_from(IDS), st.sampled_from(SCORES)
messages = st.builds(
    message,
    type=st.sampled_from(["x", "", "ü\x1b[31m"]),
    retry=st.sampled_from(INT32),
    retried=st.sampled_from(INT32),
    timeout=st.sampled_from(INT64),
    deadline=st.sampled_from(INT64),
    retention=st.sampled_from(INT64),
    last_failed_at=st.sampled_from(INT64),
    completed_at=st.sampled_from(INT64),
    payload=st.sampled_from([b"", b"\0nbc", b"\0nbc\1\2" + b"x" * 60, b"{}"]),
    unique_key=st.sampled_from(["", ASYNQ + "unique:x:y", "z"]),
    headers=st.sampled_from([{}, {"nbq:limits": DIGITS + "|1"}, {"nbq:limits": "-1|nan"}]),
)
schedules = st.builds(
    schedule,
    id=st.sampled_from(["s1", "\ud800"]),
    spec=st.sampled_from(["* * * * *", "@every 1s", f"@every {DIGITS}h", "\0", "*/0 * * * *"]),
    tz=st.sampled_from(["UTC", "../../etc/passwd", "\0", "X" * 5_000, "Europe/Paris"]),
    message=st.builds(lambda raw: base64.b64encode(raw).decode(), messages),
    jitter_ms=st.sampled_from([0, -1, 10**30, 1_000, True]),
    start_ms=st.sampled_from([0, -5, 10**20, 2**60]),
    until_ms=st.sampled_from([0, -5, 1]),
    max_runs=st.sampled_from([0, -1, 3]),
    unique_ms=st.sampled_from([0, -1, 10**15]),
    name=st.sampled_from(["", "n"]),
    name_seconds=st.sampled_from([0, -4, 10**14]),
    limit=st.sampled_from(["", "l"]),
    limit_numbers=st.sampled_from(["", "0|0|0|0", DIGITS]),
)
anything = st.one_of(odd_bytes, messages, schedules)
TASK_FIELDS = (
    *("pending_since", "unique_key", "group", "result", "nbq:lease", "nbq:attempt", "nbq:lost"),
    *("nbq:begun", "nbq:unbegun", "nbq:error", "nbq:unique", "nbq:added", "nbq:due", "nbq:limit"),
    *("nbq:parked", "nbq:name", "nbq:output", "nbq:progress"),
)


def in_set(key: str, member: Any, score: str) -> Write:
    return lambda redis: redis.zadd(key, {member or b"x": score})


def in_hash(key: str, field: Any, value: bytes) -> Write:
    return lambda redis: redis.hset(key, field or b"x", value)


def said(channel: str, data: bytes) -> Write:
    return lambda redis: redis.publish(channel, data)


def task(task_id: Any, place: str, msg: bytes, state: str, more: dict[str, bytes]) -> Write:
    name = task_id if isinstance(task_id, bytes) else task_id.encode()

    def write(redis: Any) -> None:
        redis.hset(f"{ASYNQ}t:".encode() + name, mapping={"msg": msg, "state": state, **more})
        redis.lpush(ASYNQ + place, name)

    return write


def due(raw: bytes, score: str, state: dict[str, bytes]) -> Write:
    def write(redis: Any) -> None:
        redis.hset(OWN + "schedules", "s1", raw)
        redis.zadd(OWN + "schedule_due", {"s1": score})
        redis.hset(OWN + "schedule_state:s1", mapping={"revision": "aaaaaa", **state})
        redis.publish(OWN + "wake", "schedules")

    return write


def handed(data: bytes) -> Write:
    def write(redis: Any) -> None:
        for channel in redis.pubsub_channels("nbqueue:*:hand:*"):
            redis.publish(channel, data)

    return write


WORDS = (b"due ", b"turn ", b"group ", b"neighbour ", b"worker x queues ", b"schedules", b"")
writes = st.one_of(
    st.builds(in_set, st.sampled_from([ASYNQ + place for place in PLACES]), ids, scores),
    st.builds(
        in_set,
        st.sampled_from([
            *(OWN + name for name in ("schedule_due", "waiting", "codes", "workers")),
            *(OWN + "wait:limit:l", ASYNQ + "aggregation_sets", ASYNQ + "g:g", "asynq:servers"),
            *("asynq:{other}:scheduled", "asynq:{other}:lease", "nbqueue:{other}:waiting"),
        ]),
        st.one_of(odd_bytes, st.sampled_from(["limit:l", "lock:z", ASYNQ + "g:g:s", "j1", "s1"])),
        scores,
    ),
    st.builds(
        in_hash,
        st.sampled_from([OWN + name for name in ("limits", "schedules", "handlers")]),
        st.one_of(odd_bytes, st.sampled_from(["l", "s1"])),
        anything,
    ),
    st.builds(
        in_hash,
        st.just(OWN + "settings"),
        st.sampled_from(["archive_max", "archive_days", "concurrency"]),
        st.sampled_from([b"inf", b"-inf", b"nan", DIGITS.encode(), b"0", b"-1", b"1.5", b"x"]),
    ),
    st.builds(
        task,
        ids,
        st.sampled_from(["pending", "active"]),
        anything,
        st.sampled_from(["pending", "active", "scheduled", "completed", "z"]),
        st.dictionaries(st.sampled_from(TASK_FIELDS), odd_bytes, max_size=4),
    ),
    st.builds(
        due,
        schedules,
        scores,
        st.dictionaries(st.sampled_from(["prev", "runs", "last", "paused"]), odd_bytes),
    ),
    st.builds(lambda word, rest: said(OWN + "wake", word + rest), st.sampled_from(WORDS), anything),
    st.builds(said, st.sampled_from(["__redis__:invalidate", "asynq:cancel"]), anything),
    st.builds(handed, anything),
    st.builds(
        lambda name: lambda redis: redis.sadd("asynq:queues", name),
        st.sampled_from([b"mail/eu", b"{x}", b"\xff", b"", b"q" * 3_000, b"other"]),
    ),
    st.builds(
        lambda name, value: lambda redis: redis.lpush(OWN + name, value),
        st.just("offers"),
        odd_bytes,
    ),
    st.builds(
        lambda name: lambda redis: redis.sadd(ASYNQ + "groups", name),
        st.sampled_from([b"g", b"\xff"]),
    ),
)  # fmt: skip


class Victim:
    """A worker that strangers write to. A new one is started where the last one died."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self._running: Any = None

    @property
    def worker(self) -> Any:
        if self._running is None or not self._running.alive:
            self._running = self.lab.start_worker(concurrency=1, lease=3)
        return self._running

    def check(self) -> None:
        """Check that the worker still runs a good task."""
        worker = self.worker
        assert self.lab.value(self.lab.submit(nothing), seconds=15) == "ran"
        assert worker.alive, worker.log()[-3_000:]


@pytest.fixture(scope="module")
def victim(shared_lab: Any) -> Iterator[Victim]:
    made = Victim(shared_lab)
    yield made
    if made._running is not None:
        made._running.end()


def endure(victim: Victim, batch: list[Write]) -> None:
    assert victim.worker.alive
    for write in batch:
        write(victim.lab.redis)
    victim.check()
    assert "Traceback" not in victim.worker.log()


_WITH_A_WORKER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=25, derandomize=True, suppress_health_check=_WITH_A_WORKER, database=None)
@given(st.lists(writes, min_size=1, max_size=12))
def test_a_worker_goes_on_whatever_is_written(victim: Victim, batch: list[Write]) -> None:
    endure(victim, batch)


@pytest.mark.slow
@settings(max_examples=500, suppress_health_check=_WITH_A_WORKER)
@given(st.lists(writes, min_size=1, max_size=30))
def test_a_worker_goes_on_for_long(victim: Victim, batch: list[Write]) -> None:
    endure(victim, batch)


@pytest.mark.parametrize("score", ["inf", "-inf", "1e308"])
@pytest.mark.parametrize("place", [ASYNQ + each for each in PLACES] + [OWN + "waiting"])
def test_a_score_that_is_no_time(victim: Victim, place: str, score: str) -> None:
    endure(victim, [in_set(place, "j9", score), said(OWN + "wake", b"due 0")])


@pytest.mark.parametrize("score", ["inf", "-inf", "1e308", "1e18", "-1"])
def test_a_schedule_that_is_due_at_no_time(victim: Victim, score: str) -> None:
    endure(victim, [due(schedule(), score, {"prev": DIGITS.encode(), "runs": b"inf"})])


@pytest.mark.parametrize(
    "changes",
    [
        {"jitter_ms": -1}, {"jitter_ms": 10**400}, {"id": "\ud800"}, {"max_runs": -1},
        {"start_ms": 10**40}, {"name": "n"}, {"tz": "\0"}, {"spec": f"@every {DIGITS}h"},
    ],
)  # fmt: skip
def test_a_schedule_with_what_cannot_be(victim: Victim, changes: dict[str, Any]) -> None:
    endure(victim, [due(schedule(**changes), "1", {})])


@pytest.mark.parametrize(
    "data", [b"due " + DIGITS.encode(), b"turn " + b"9" * 5_000, b"group " + b"9" * 5_000 + b" g"]
)
def test_numbers_of_many_digits_on_the_channel_that_wakes(victim: Victim, data: bytes) -> None:
    endure(victim, [said(OWN + "wake", data)])


def test_an_invalidation_that_is_no_list(victim: Victim) -> None:
    endure(victim, [said("__redis__:invalidate", b"text")])


@pytest.mark.parametrize(
    "queues",
    [{f"q{i}": 1 for i in range(3_000)}, {"q": 10**400}, {"q": 2**31}, {"default": 0}],
    ids=["many queues", "a weight of many digits", "a weight that no record holds", "none"],
)
def test_a_command_to_serve_what_cannot_be_served(victim: Victim, queues: dict[str, int]) -> None:
    words = f"worker {victim.worker.worker.id} queues {json.dumps(queues)}"
    endure(victim, [said(OWN + "wake", words.encode())])
    assert f"queues={'default=1'}" in victim.worker.log()
    assert "serves other queues" not in victim.worker.log()


def test_what_is_refused_again_and_again_is_logged_once(victim: Victim) -> None:
    words = (
        f"worker {victim.worker.worker.id} queues {json.dumps({f'z{i}': 1 for i in range(999)})}"
    )
    before = victim.worker.log().count("command refused")
    endure(victim, [said(OWN + "wake", words.encode())] * 20)
    assert victim.worker.log().count("command refused") <= before + 1


@pytest.mark.parametrize(
    "numbers",
    ["0|0|0|0", "-1|nan|inf|0|x", "|".join([DIGITS] * 5), "|1|0||", "|0|1||", "1e9|||", "|1|1|inf"],
)
def test_a_limit_with_what_cannot_be_limits_nothing(victim: Victim, numbers: str) -> None:
    lab = victim.lab
    lab.redis.hset(OWN + "limits", "odd", numbers)
    lab.redis.set(OWN + "rate:odd", "inf")
    code, message = lab.call(nothing)
    new = limited(NewTask(message.id, message.SerializeToString()), "odd")
    assert victim.worker.alive
    lab.broker.enqueue(
        EnqueueRequest("default", [new], fingerprint=code.fingerprint, blob=code.blob)
    )
    assert lab.value(message.id) == "ran"
