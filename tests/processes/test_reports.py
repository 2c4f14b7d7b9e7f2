"""Results that tasks report while they run, and results as JSON."""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest

import nbqueue
from nbqueue.calls import payloads
from nbqueue.errors import SignatureError, TaskFailed, UsageError
from nbqueue.wire.keys import queue_keys

KEY = "5b" * 32
KEYS = queue_keys("default")


@pytest.fixture
def q(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)
    client = nbqueue.connect(lab.server.url)
    yield client
    client.close()


def work(go_on: str, fail: bool = False) -> str:
    for step in range(3):
        nbqueue.report(result={"step": step})
    while not os.path.exists(go_on):
        time.sleep(0.01)
    if fail:
        nbqueue.report(result="the last words")
        raise ValueError("no")
    return "whole"


async def work_async(go_on: str) -> str:
    for step in range(3):
        nbqueue.report(result={"step": step})
    while not os.path.exists(go_on):
        await asyncio.sleep(0.01)
    return "whole"


@pytest.mark.parametrize(
    ("fn", "executor"), [(work, "process"), (work, "thread"), (work_async, "process")]
)
@pytest.mark.parametrize("codec", ["pickle", "json"])
def test_the_latest_result_is_there_while_the_task_runs(
    lab: Any, q: Any, tmp_path: Path, fn: Any, executor: str, codec: str
) -> None:
    go_on = tmp_path / "go"
    with lab.worker(concurrency=1, executor=executor):
        future = q.options(codec=codec).submit(fn, str(go_on))
        lab.wait_until(lambda: future.reported() == {"step": 2})
        stored = lab.redis.hget(KEYS.task(future.id), "result")
        assert (stored == b'{"step":2}') == (codec == "json")
        assert q.get(future.id).reported() == {"step": 2}
        assert not future.done()
        go_on.touch()
        assert future.result(20) == "whole"
        assert future.reported() == "whole"


def test_what_was_reported_stays_when_the_task_fails(lab: Any, q: Any, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with lab.worker(concurrency=1):
        future = q.options(retry=1, retry_delay=60).submit(work, str(tmp_path / "go"), True)
        lab.wait_for(future.id, "retry")
        assert future.reported() == "the last words"
        future = q.submit(work, str(tmp_path / "go"), True)
        with pytest.raises(ValueError, match="no"):
            future.result(20)
        assert future.reported() == "the last words"


def test_a_task_that_reports_nothing_has_reported_nothing(lab: Any, q: Any) -> None:
    future = q.submit(sum, [1, 2])
    assert future.reported() is None
    lab.redis.delete(KEYS.task(future.id))
    assert future.reported() is None


def test_the_result_writer_of_a_handler_is_that_of_asynq(lab: Any, q: Any) -> None:
    """Written data stays if the handler returns None; a returned value replaces it."""
    worker = nbqueue.Worker(lab.server.url, concurrency=1, log=lab.folder / "handlers.log")

    @worker.handle("write")
    def write(task: nbqueue.Task) -> Any:
        nbqueue.report(result=b"half")
        return task.json()

    with worker:
        assert q.enqueue("write", 7, retention=60).result(20) == 7
        assert q.enqueue("write", b"null", retention=60).result(20) == b"half"


def test_a_reported_value_cannot_pass_for_the_result(lab: Any, q: Any, tmp_path: Path) -> None:
    go_on = tmp_path / "go"
    with lab.worker(concurrency=1):
        future = q.submit(work, str(go_on))
        lab.wait_until(lambda: future.reported() == {"step": 2})
        part = lab.redis.hget(KEYS.task(future.id), "result")
        go_on.touch()
        assert future.result(20) == "whole"
        lab.redis.hset(KEYS.task(future.id), "result", part)
        with pytest.raises(SignatureError, match="does not belong"):
            q.get(future.id).result(20)
        forged = part[:-1] + b"x"
        lab.redis.hset(KEYS.task(future.id), "result", forged)
        with pytest.raises(SignatureError):
            future.reported()


def test_a_report_outlives_the_store(lab: Any, q: Any, tmp_path: Path) -> None:
    go_on = tmp_path / "go"

    def slow(go: str, now: str) -> None:
        import os
        import time

        nbqueue.report(result="before")
        while not os.path.exists(now):
            time.sleep(0.01)
        nbqueue.report(result="while it was away")
        while not os.path.exists(go):
            time.sleep(0.01)

    with lab.worker(concurrency=1):
        future = q.submit(slow, str(go_on), str(tmp_path / "now"))
        lab.wait_until(lambda: future.reported() == "before")
        lab.server.kill()
        (tmp_path / "now").touch()
        lab.server.start()
        lab.wait_until(lambda: future.reported() == "while it was away", 40)
        go_on.touch()
        assert future.result(40) is None


def test_the_last_words_outlive_the_store(lab: Any, q: Any, tmp_path: Path) -> None:
    def fail(now: str) -> None:
        import os
        import time

        nbqueue.report(result="before")
        while not os.path.exists(now):
            time.sleep(0.01)
        nbqueue.report(result="while it was away")
        raise ValueError("no")

    with lab.worker(concurrency=1) as worker:
        future = q.submit(fail, str(tmp_path / "now"))
        lab.wait_until(lambda: future.reported() == "before")
        lab.server.kill()
        lab.wait_until(lambda: "store lost" in worker.log())
        (tmp_path / "now").touch()
        lab.wait_until(lambda: "task archived" in worker.log())
        lab.server.start()
        with pytest.raises(ValueError, match="no"):
            future.result(40)
        assert future.reported() == "while it was away"


def values(kind: str) -> Any:
    return {"plain": {"a": [1, None, "ü"]}, "none": None, "set": {1}, "nan": float("nan")}[kind]


def test_a_json_result_is_plain_bytes_and_is_read_without_unpickling(lab: Any, q: Any) -> None:
    json_only = q.options(codec="json")
    with lab.worker(concurrency=1):
        future = json_only.submit(values, "plain")
        assert future.result(20) == {"a": [1, None, "ü"]}
        assert lab.redis.hget(KEYS.task(future.id), "result") == '{"a":[1,null,"ü"]}'.encode()
        assert q.get(future.id).result(20) == {"a": [1, None, "ü"]}
        assert pickle.loads(pickle.dumps(future)).result(20) == {"a": [1, None, "ü"]}
        assert json_only.submit(values, "none").result(20) is None
        assert json_only.map(values, ["plain", "none"]).results(20)[1] is None
        # A task whose result is deleted with it reports it as it ends.
        assert json_only.options(retention=0).submit(values, "plain").result(20)["a"][0] == 1


@pytest.mark.parametrize("kind", ["set", "nan"])
def test_what_json_cannot_hold_fails_the_task_with_the_reason(lab: Any, q: Any, kind: str) -> None:
    with lab.worker(concurrency=1):
        future = q.options(codec="json", retry=5).submit(values, kind)
        with pytest.raises(UsageError, match=r"the result of \S+values cannot be written as JSON"):
            future.result(20)
        assert lab.outcomes(future.id) == ["archived"]


def test_who_writes_to_the_store_can_forge_json_of_json_calls_only(lab: Any, q: Any) -> None:
    with lab.worker(concurrency=1):
        pickled, plain = q.submit(values, "plain"), q.options(codec="json").submit(values, "plain")
        pickled.result(20), plain.result(20)
    for future in (pickled, plain):
        lab.redis.hset(KEYS.task(future.id), "result", b'"forged"')
    with pytest.raises(SignatureError):
        q.get(pickled.id).result(20)
    assert q.get(plain.id).result(20) == "forged"
    lab.redis.hset(KEYS.task(plain.id), "result", b"\x80\x05cos\nsystem\n.")
    with pytest.raises(TaskFailed, match="is no JSON"):
        q.get(plain.id).result(20)
    # A flag that was set without the key is not believed.
    message = lab.find(pickled.id).message
    flags = message.payload[8] | payloads.JSON_RESULT
    message.payload = message.payload[:8] + bytes((flags,)) + message.payload[9:]
    lab.redis.hset(KEYS.task(pickled.id), "msg", message.SerializeToString())
    with pytest.raises(SignatureError):
        q.get(pickled.id).result(20)


def test_a_unique_task_that_exists_is_read_in_its_own_codec(lab: Any, q: Any) -> None:
    first = q.options(codec="json", unique="1h").submit(values, "plain")
    second = q.options(unique="1h", on_conflict="existing").submit(values, "plain")
    assert second.id == first.id
    with lab.worker(concurrency=1):
        assert second.result(20) == first.result(20) == {"a": [1, None, "ü"]}
