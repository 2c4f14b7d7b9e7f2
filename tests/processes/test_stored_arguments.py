"""Arguments of stored tasks by name, as cards and frames show them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from thread_worker import ThreadWorker

import nbqueue
from nbqueue.client.arguments.stored_arguments import stored_calls
from nbqueue.client.client import Client
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.task_detail import TaskDetail
from nbqueue.errors import UnknownNameWarning, UsageError
from nbqueue.wire.keys import queue_keys

KEYS = queue_keys("default")


def fit(lr: float, depth: int = 3, *rest: int, mode: str = "fast", **more: Any) -> float:
    return lr


@pytest.fixture
def worker(store_url: str, client: Client) -> Iterator[ThreadWorker]:
    found = ThreadWorker(store_url)
    yield found
    found.close()


class Locked:
    """A value whose pickle cannot be loaded."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise PermissionError("not here")


class Leaving:
    """A value whose pickle ends the program that loads it."""

    def __reduce__(self) -> Any:
        return _leave, ()


def _leave() -> None:
    raise SystemExit(3)


def test_an_argument_that_ends_programs_ends_no_view(client: Client) -> None:
    f = client.submit(fit, Leaving())
    call = stored_calls(client._session, "default", [f.id])[f.id]
    assert "SystemExit(3)" in (call.fault or "")
    [loaded] = client.tasks(columns=["arguments"]).arguments
    assert isinstance(loaded, RuntimeError)
    task = TaskDetail(Scope(client), "default", f.id)
    task.read()
    assert "SystemExit(3)" in task.arguments


def test_a_call_is_shown_as_python_would_write_it(client: Client) -> None:
    f = client.options(retry_delay="1s").submit(fit, 0.1, mode="x" * 500, size=2)
    [call] = stored_calls(client._session, f.queue, [f.id, "absent"]).values()
    assert call.text == "fit(lr=0.1, mode='" + "x" * 57 + "…', size=2)"
    assert call.values == {
        "lr": 0.1, "depth": 3, "mode": "x" * 500, "size": 2, "rest": (),
    }  # fmt: skip
    assert call.fault is None


def test_a_message_has_the_keys_of_its_payload(client: Client) -> None:
    f, other = client.enqueue("email:deliver", {"user": 1}), client.enqueue("raw", b"\xff")
    calls = stored_calls(client._session, f.queue, [f.id, other.id])
    assert calls[f.id][:2] == ("email:deliver(user=1)", {"user": 1})
    assert calls[other.id].text == "raw(…)"
    assert calls[other.id].fault is not None


def test_without_the_code_arguments_are_named_by_position(client: Client, redis: Any) -> None:
    def gone(lr: float, **more: int) -> None: ...

    f = client.submit(gone, 0.5, x=1)
    for key in redis.scan_iter(KEYS.code(b"\0" * 16).replace("00" * 16, "*")):
        redis.delete(key)
    [call] = stored_calls(client._session, f.queue, [f.id]).values()
    assert (call.text, call.values) == ("gone(0.5, x=1)", {"0": 0.5, "x": 1})


def test_what_cannot_be_read_has_a_reason(client: Client) -> None:
    f, g, h = client.submit(fit, 1), client.submit(fit, Locked()), client.submit(
        fit, np.zeros(300_000)
    )  # fmt: skip
    calls = stored_calls(client._session, f.queue, [g.id, h.id])
    assert calls[g.id] == ("fit(…)", {}, "its arguments cannot be read: not here")
    assert "large (2.4 MB)" in (calls[h.id].fault or "")
    other = nbqueue.connect(client.url, key="77" * 32)
    try:
        [call] = stored_calls(other._session, f.queue, [f.id]).values()
        assert "key" in (call.fault or "")
    finally:
        other.close()


@pytest.mark.parametrize("at", [30, 60])
def test_a_forged_call_is_not_loaded(client: Client, redis: Any, at: int) -> None:
    f = client.submit(fit, "x" * 20)
    key = KEYS.task(f.id)
    raw = bytearray(redis.hget(key, "msg"))
    place = raw.index(b"\x00nbq") + at
    raw[place] ^= 1
    redis.hset(key, "msg", bytes(raw))
    [call] = stored_calls(client._session, f.queue, [f.id]).values()
    assert call.values == {}
    assert "changed after it was signed" in (call.fault or "")


# --- In frames ---------------------------------------------------------------------------------


def score(table: Any, power: float = 2.0) -> None: ...


def test_frames_have_a_column_for_each_parameter(client: Client) -> None:
    group = client.map(fit, [0.1, 0.2], [1, 2])
    client.submit(score, 5)
    client.enqueue("email:deliver", {"user": 1})
    frame = client.tasks(arguments=True)
    assert list(frame.columns[:6]) == ["type", "queue", "state", "attempt", "duration", "error"]
    assert {name: str(dtype) for name, dtype in frame.dtypes.items() if name[:4] == "arg."} == {
        "arg.lr": "float64", "arg.depth": "Int64", "arg.mode": "string", "arg.rest": "object",
        "arg.table": "Int64", "arg.power": "float64", "arg.user": "Int64",
    }  # fmt: skip
    assert "fault" not in frame
    assert frame["arg.depth"].tolist()[:2] == [1, 2]
    assert frame["arg.mode"].isna().tolist() == [False, False, True, True]
    own = group.frame("state", arguments=True)
    assert list(own.index) == list(group.ids)
    assert list(own.columns) == ["state", "arg.lr", "arg.depth", "arg.mode", "arg.rest"]
    assert str(own["arg.depth"].dtype) == "int64"


def test_unreadable_arguments_are_missing_and_have_a_fault(client: Client) -> None:
    f, g = client.submit(fit, 0.5), client.submit(fit, Locked())
    frame = client.tasks(arguments=True)
    assert frame["arg.lr"].to_dict() == {f.id: 0.5, g.id: pytest.approx(np.nan, nan_ok=True)}
    assert frame["fault"][g.id] == "its arguments cannot be read: not here"
    other = nbqueue.connect(client.url, key="77" * 32)
    try:
        unread = other.tasks(arguments=True)
        assert not any(name.startswith("arg.") for name in unread.columns)
        assert unread["fault"].str.contains("key").all()
        assert other.tasks(arguments={"lr": 0.5}).empty
    finally:
        other.close()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"table": 0.1}, [0]),
        ({"table": float("nan")}, [1]),
        ({"table": np.array([1.0, np.nan])}, []),
        ({"table": np.array([1.0, 2.0])}, [2]),
        ({"table": 1.0}, []),
        ({"table": pd.DataFrame({"a": [1.0, np.nan]})}, [3]),
        ({"table": "x"}, [4]),
        ({"table": None}, [5]),
        ({"table": [1, {"b": 2}]}, [6]),
        ({"power": 2.0}, [0, 1, 2, 3, 4, 5, 6]),
        ({"power": 2.0, "table": "x"}, [4]),
        ({"nothing": 1}, []),
    ],
    ids=str,
)
def test_tasks_are_chosen_by_their_arguments(
    client: Client, wanted: dict[str, Any], found: list[int]
) -> None:
    tables = [0.1, float("nan"), np.array([1.0, 2.0]), pd.DataFrame({"a": [1.0, np.nan]}), "x"]
    group = client.map(score, [*tables, None, [1, {"b": 2}]])
    is_unknown = "nothing" in wanted
    with pytest.warns(UnknownNameWarning) if is_unknown else contextlib.nullcontext():
        assert list(client.tasks(arguments=wanted).index) == [group.ids[i] for i in found]
        assert len(client.tasks(arguments=wanted, limit=1)) == min(1, len(found))


@pytest.mark.parametrize("arguments", [1, "lr", {1: 2}, {"arg.lr": 1}])
def test_wrong_filters_are_refused(client: Client, arguments: Any) -> None:
    with pytest.raises(UsageError, match="arguments"):
        client.tasks(arguments=arguments)


def test_attempts_have_the_arguments_of_their_tasks(client: Client, worker: ThreadWorker) -> None:
    group = client.map(fit, [0.1, 0.2, 0.3])
    other = client.submit(score, 1)
    worker.work()
    assert group.results("10s") == [0.1, 0.2, 0.3]
    other.result("10s")
    frame = client.attempts(type="*.fit", arguments=True, seconds=True)
    assert list(frame["arg.lr"]) == [0.1, 0.2, 0.3]
    assert str(frame["duration"].dtype) == "float64"
    chosen = client.attempts(arguments={"lr": 0.2}, queue="default", columns=["task_id"])
    assert list(chosen["task_id"]) == [group.ids[1]]
    assert chosen["arg.lr"].tolist() == [0.2]
    assert group.attempts(arguments=True, columns=["task_id"])["arg.depth"].tolist() == [3] * 3
    client.delete([group.ids[0]])
    frame = client.attempts(arguments=True)
    assert "no longer in the store" in frame["fault"][0]
    with pytest.warns(UnknownNameWarning, match="there is no queue 'nothing'"):
        assert client.attempts(queue="nothing").empty
    assert repr(frame.nbq.timeline()).startswith("<Timeline: 4 attempts")
    assert repr(frame[1:3].nbq.timeline()).startswith("<Timeline: 2 attempts")
    assert repr(client.tasks(type="*.fit").nbq.timeline()).startswith("<Timeline: 2 attempts")
