"""Frames and pictures of a client: read from a real store, filtered, drawn and acted on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from thread_worker import ThreadWorker

import nbqueue
from nbqueue.client.client import Client
from nbqueue.client.inspection import frames
from nbqueue.errors import (
    LargeFrameWarning,
    SignatureError,
    TaskNotFound,
    UnknownNameWarning,
    UsageError,
)
from nbqueue.notebook.string_completion import string_completions
from nbqueue.views.frames.task_frames import DEFAULT_COLUMNS, TASK_COLUMNS
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.worker import Worker

DOCS = Path(__file__).parents[2] / "docs" / "frames.md"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEYS = queue_keys("default")
DOUBLE, BROKEN = f"{__name__}.double", f"{__name__}.broken"


def double(x: int) -> int:
    return x * 2


def broken(x: int) -> int:
    raise ValueError(f"timeout of {x}")


@pytest.fixture
def worker(store_url: str, client: Client) -> Iterator[ThreadWorker]:
    found = ThreadWorker(store_url)
    yield found
    found.close()


@pytest.fixture
def used(client: Client, worker: ThreadWorker) -> Client:
    """A client whose store has "good" and "bad" tasks, and one for later."""
    good = client.options(name="good").submit(double, 2)
    bad = [client.submit(broken, i) for i in range(3)]
    worker.work()
    client.options(delay="1h").submit(double, 3)
    client.options(queue="other").submit(double, 4)
    for future in bad:
        assert isinstance(future.exception("10s"), ValueError)
    assert good.exception("10s") is None
    return client


def test_tasks_of_all_states_and_queues_come_in_the_order_of_their_making(used: Client) -> None:
    frame = used.tasks(columns="all")
    assert tuple(frame.columns) == TASK_COLUMNS
    assert list(frame["state"]) == ["completed", *["archived"] * 3, "scheduled", "pending"]
    assert list(frame["queue"]) == ["default"] * 5 + ["other"]
    first = frame.iloc[0]
    assert (first["name"], first["worker"], first["attempt"]) == ("good", "thread", 1)
    assert first["enqueued_at"] <= first["started_at"] < first["finished_at"]
    assert frame["started_at"].notna().tolist() == [True] * 4 + [False] * 2
    assert frame["error"].iloc[1] == "ValueError: timeout of 0"
    assert frame["process_at"].iloc[4] > pd.Timestamp.now("UTC") + pd.Timedelta("50min")
    origin = frame.attrs["nbqueue"]
    assert origin["store"] == used.url
    assert datetime.fromisoformat(origin["as_of"]).tzinfo is not None
    assert json.dumps(frame.attrs)


def test_filters_choose_among_tasks(used: Client) -> None:
    bad = used.tasks(state="archived")
    assert len(bad) == 3
    assert len(used.tasks(state=["completed", "pending"])) == 2
    assert list(used.tasks(queue="other")["state"]) == ["pending"]
    assert len(used.tasks(type=f"{__name__}.brok*")) == len(used.tasks(error="timeout")) == 3
    assert list(used.tasks(error="of 1").index) == [bad.index[1]]
    assert len(used.tasks(limit=1)) == 1
    assert list(used.tasks(state=["pending", "completed"], limit=1)["queue"]) == ["other"]
    assert used.tasks(ids=[bad.index[0]]).index.tolist() == [bad.index[0]]
    assert used.tasks(ids=bad[1:]).index.tolist() == bad.index[1:].tolist()
    assert used.tasks(ids=bad, state="completed").empty
    assert list(used.tasks(name="good")["state"]) == ["completed"]
    assert used.tasks(name="nobody").empty
    assert len(used.tasks(since="1h")) == 6
    assert used.tasks(since=datetime.now(timezone.utc) + timedelta(hours=1)).empty
    with pytest.warns(UnknownNameWarning, match="there is no queue 'nowhere'"):
        assert used.tasks(queue="nowhere").columns.tolist() == list(DEFAULT_COLUMNS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": "done"}, "'done' is no state: did you mean 'completed'? There are waiting"),
        ({"limit": -1}, "limit=-1"),
        ({"limit": "5"}, "limit='5'"),
        ({"since": "soon"}, "since='soon'"),
        ({"since": datetime(2026, 1, 1)}, "no time zone"),
        ({"columns": ["nam"]}, "'nam' is no column: did you mean 'name'?"),
        ({"ids": 5}, "5 names no task"),
        ({"error": 5}, "error=5"),
        ({"type": [5]}, "type=5"),
    ],
)
def test_what_makes_no_sense_is_refused(client: Client, options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        client.tasks(**options)


def test_values_are_loaded_when_asked_for(used: Client) -> None:
    frame = used.tasks(columns=["state", "arguments", "result", "exception"])
    done, bad = frame.iloc[0], frame.iloc[1]
    assert (done["arguments"], done["result"], done["exception"]) == (((2,), {}), 4, None)
    assert isinstance(bad["exception"], ValueError)
    assert str(bad["exception"]) == "timeout of 0"
    assert bad["result"] is None


def test_what_nobody_signed_is_not_loaded(used: Client, redis: Any) -> None:
    done, bad = used.tasks().index[:2]
    for task_id, field in ((done, "result"), (bad, "nbq:error")):
        key = KEYS.task(task_id)
        value = redis.hget(key, field)
        redis.hset(key, field, value[:-1] + bytes([value[-1] ^ 1]))
    frame = used.tasks(ids=[done, bad], columns=["result", "exception"])
    assert isinstance(frame.loc[done, "result"], SignatureError)
    assert isinstance(frame.loc[bad, "exception"], SignatureError)
    other = nbqueue.connect(used.url, key="77" * 32)
    try:
        assert isinstance(
            other.tasks(ids=[done], columns="arguments").loc[done, "arguments"], nbqueue.UnknownKey
        )
    finally:
        other.close()


def test_rows_chosen_in_pandas_are_retried(used: Client, worker: ThreadWorker) -> None:
    frame = used.tasks(state="archived")
    chosen = frame[frame.error.str.contains("of 1")]
    assert used.retry(chosen).done == chosen.index.tolist()
    assert list(used.tasks(ids=chosen)["state"]) == ["pending"]
    assert frame[frame.error.str.contains("of 2")].nbq.retry().done == [frame.index[2]]
    assert worker.work() == 2
    assert list(used.tasks(ids=frame)["attempt"]) == [1, 2, 2]


def test_every_action_is_there_for_frames_ids_and_the_accessor(used: Client) -> None:
    frame = used.tasks()
    scheduled = frame[frame.state == "scheduled"]
    due = used.tasks(ids=scheduled, columns=["process_at"])["process_at"].iloc[0]
    pending = frame[frame.state == "pending"]
    assert scheduled.nbq.reschedule(delay="2h").done == scheduled.index.tolist()
    assert used.tasks(ids=scheduled, columns="all")["process_at"].iloc[0] > due
    assert used.run(scheduled).done == scheduled.index.tolist()
    assert used.archive(scheduled.index.tolist()).done == scheduled.index.tolist()
    assert pending.nbq.cancel().done == pending.index.tolist()
    attempts = used.attempts()
    assert set(attempts[attempts.outcome == "archived"].nbq.delete().done) == set(frame.index[1:4])
    assert used.delete(frame.index.tolist()).refused.keys() == set(frame.index[1:4])
    assert used.tasks().empty


def test_the_accessor_is_of_frames_of_tasks_only(used: Client) -> None:
    frame = used.tasks()
    with pytest.raises(AttributeError, match="no frame of tasks"):
        pd.DataFrame({"a": [1]}).nbq  # noqa: B018
    assert not hasattr(used.queues(), "nbq")
    lost = pd.DataFrame(frame.to_dict("list"), index=frame.index)
    with pytest.raises(AttributeError, match=re.escape("q.retry(df)")):
        lost.nbq.retry()
    assert frame.nbq.summary().loc[DOUBLE, "completed"] == 1
    assert used.attempts().nbq.summary().loc[BROKEN, "archived"] == 3
    assert used.tasks().iloc[:0].nbq.summary().empty
    assert "archived" in frame.nbq.style.to_html()
    assert repr(frame.nbq.timeline()).startswith("<Timeline: 4 attempts at 4 tasks")
    assert repr(used.attempts().nbq.timeline()).startswith("<Timeline: 4 attempts")


def test_the_accessor_is_registered_with_the_first_frame_and_not_before() -> None:
    code = "import nbqueue, pandas\nprint(hasattr(pandas.DataFrame, 'nbq'))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.strip() == "False"


def test_queues_and_sums_are_frames(used: Client) -> None:
    queues = used.queues()
    assert queues.loc["default", ["completed", "archived", "scheduled"]].tolist() == [1, 3, 1]
    assert queues.loc["other", "pending"] == 1
    assert queues.loc["other", "latency"] >= pd.Timedelta(0)
    for by in ("queue", "type", "worker", "hour", "day"):
        assert used.stats(by=by)["attempts"].sum() == 4
    assert used.stats(by="type").loc[BROKEN, "failure_rate"] == 1.0
    assert used.stats(by="queue", queue="other").empty
    with pytest.raises(UsageError, match="days=0"):
        used.stats(days=0)


def test_limits_of_all_queues_are_a_frame(client: Client) -> None:
    assert client.limits().empty
    client.set_limit(nbqueue.Limit("api", concurrency=4, rate="10/s"))
    client.options(queue="other").submit(double, 1)
    client.set_limit(nbqueue.Limit("disk", concurrency=1), queue="other")
    client.submit(double, 1)
    frame = client.limits()
    assert frame.loc["api"].dropna().to_dict() == {
        "queue": "default", "concurrency": 4, "rate": "10/s", "held": 0, "waiting": 0,
    }  # fmt: skip
    assert list(client.limits("other").index) == ["disk"]
    assert str(frame["concurrency"].dtype) == "Int64"


def test_rows_of_schedules_make_a_frame(client: Client) -> None:
    frame = frames.schedules(client._session, [{"id": "nightly", "spec": "@daily"}])
    assert frame.loc["nightly", "spec"] == "@daily"
    assert frame.attrs["nbqueue"]["store"] == client.url


def test_a_group_has_its_tasks_in_order(client: Client, worker: ThreadWorker) -> None:
    group = client.map(double, range(5))
    worker.work()
    assert group.results("10s") == [0, 2, 4, 6, 8]
    assert list(group.frame().index) == list(group.ids)
    assert sorted(group.attempts()["task_id"]) == sorted(group.ids)
    frame = group.frame([..., "arguments", "result"])
    assert list(frame.index) == list(group.ids)
    assert list(frame["result"]) == [0, 2, 4, 6, 8]
    assert [args for args, _ in frame["arguments"]] == [(i,) for i in range(5)]
    assert repr(group.timeline()).startswith("<Timeline: 5 attempts")


def test_a_timeline_can_be_a_trace(used: Client) -> None:
    events = json.loads(used.timeline(format="trace"))["traceEvents"]
    assert len([each for each in events if each["ph"] == "X"]) == 4
    with pytest.raises(UsageError, match="format='svg'"):
        used.timeline(format="svg")
    with pytest.raises(UsageError, match="takes no by="):
        used.timeline(format="trace", by="task")


def test_pictures_choose_among_attempts(used: Client) -> None:
    for picture in (used.plot.throughput, used.plot.latency, used.plot.durations):
        assert "4 attempts" in repr(picture(since="1h", queue="default"))
        assert "1 attempt" in repr(picture(type=DOUBLE))
        assert "No attempts" in repr(picture(queue="other"))
    assert "3 attempts of 4" in repr(used.plot.failures())


def test_the_examples_of_the_documentation_run(used: Client) -> None:
    blocks = PYTHON.findall(DOCS.read_text())
    assert len(blocks) >= 9
    names: dict[str, Any] = {"q": used}
    for block in blocks:
        exec(block, names)
    assert names["df"].index.name == "task_id"


def test_the_documentation_names_every_column() -> None:
    from nbqueue.views.frames.queue_frames import QUEUE_COLUMNS, WORKER_COLUMNS
    from nbqueue.views.frames.stats import STATS_COLUMNS
    from nbqueue.views.frames.task_frames import ON_DEMAND

    text = DOCS.read_text()
    outcomes = {"completed", "retry", "archived", "lost", "interrupted"}
    for name in (*TASK_COLUMNS, *ON_DEMAND, *QUEUE_COLUMNS, *WORKER_COLUMNS, *STATS_COLUMNS):
        assert f"`{name}`" in text or name in outcomes, name


def test_a_running_task_is_shown_with_its_worker(
    client: Client, store_url: str, tmp_path: Path
) -> None:
    stop = tmp_path / "stop"

    def wait(path: str) -> None:
        import os
        import threading

        while not os.path.exists(path):
            threading.Event().wait(0.01)

    with Worker(store_url, concurrency=1, log=tmp_path / "log") as real:
        future = client.submit(wait, str(stop))
        while client.tasks(state="active").empty:
            assert not future.done()
        row = client.tasks(ids=future, columns="all").loc[future.id]
        stop.touch()
        future.result("30s")
        done = client.tasks(ids=future, columns="all").loc[future.id]
    assert f":{real.pid or ''}" in row["worker"]
    assert row["worker"] == done["worker"]
    assert row["duration"] >= pd.Timedelta(0)
    assert done["state"] == "completed"
    assert abs(done["started_at"] - row["started_at"]) < pd.Timedelta("10s")


def test_a_client_shows_its_queues_and_a_store_that_is_away(
    used: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "other" in used._repr_html_()
    assert 'aria-label="Queue default"' in used.inspector.queue("default")._repr_html_()  # type: ignore[attr-defined]

    def away(*_: object) -> None:
        raise nbqueue.StoreUnreachable("nobody answers there")

    monkeypatch.setattr("nbqueue.client.inspection.cards._queues", away)
    assert "nobody answers there" in used._repr_html_()
    used.close()
    assert "closed" in used._repr_html_()


@pytest.mark.slow
def test_a_hundred_thousand_tasks_are_read_soon_and_disturb_nobody(
    client: Client, redis: Any
) -> None:
    """Measured as CPU time of both processes, which work at once on a shared machine."""
    group = client.map(double, range(100_000))
    assert len(client.tasks(limit=10)) == 10

    def server() -> tuple[float, float, int]:
        cpu = redis.info("cpu")
        scripts = redis.info("commandstats")["cmdstat_evalsha"]
        return cpu["used_cpu_user"] + cpu["used_cpu_sys"], scripts["usec"], scripts["calls"]

    cpu_before, usec_before, calls_before = server()
    began = time.process_time()
    frame = client.tasks()
    client_seconds = time.process_time() - began
    cpu_after, usec_after, calls_after = server()
    assert len(frame) == len(group) == 100_000
    assert client_seconds < 3
    began = time.process_time()
    assert client.tasks(arguments={"x": 77}).index.tolist() == [group.ids[77]]
    assert time.process_time() - began < 5
    assert cpu_after - cpu_before < 3
    # Other clients wait as long as a slice takes.
    assert (usec_after - usec_before) / (calls_after - calls_before) < 5000


def test_results_that_are_json_stand_in_the_frame_as_values(
    client: Client, worker: ThreadWorker
) -> None:
    f = client.options(codec="json").submit(dict, a=1)
    [held] = worker.fetch()
    worker.complete([(held, b'{"a":1}')])
    assert f.result() == {"a": 1}
    [value] = client.tasks(columns=["result"])["result"]
    assert value == {"a": 1}
    # Unsigned JSON is refused for a call that did not ask for JSON.
    client.submit(dict, a=1)
    [held] = worker.fetch()
    worker.complete([(held, b'{"a":2}')])
    values = client.tasks(columns=["result"])["result"].tolist()
    assert sum(isinstance(each, SignatureError) for each in values) == 1


def test_a_very_large_frame_warns_with_the_number_and_the_way_out(
    used: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbqueue.client.inspection.frames._MANY_TASKS", 6)
    with pytest.warns(LargeFrameWarning, match=r"a frame of 6 tasks.*limit=.*state=") as caught:
        used.tasks()
    assert caught[0].filename == __file__
    # No warning if the selection was limited by the user.
    used.tasks(limit=3)
    used.tasks(type="x*")
    used.tasks(since="1h")
    used.tasks(state="pending")


def test_tasks_of_many_queues_are_as_those_of_one(client: Client) -> None:
    """With more queues than are read at once, and queues longer than a slice."""
    names = [f"many-{i:03d}" for i in range(230)]
    for name in names:
        client.enqueue("email", {"to": name}, queue=name)
    for i in range(260):
        client.enqueue("later", i, queue=names[7], delay="1h")
    client.enqueue("joined", group="g", queue=names[9])
    frame = client.tasks()
    assert len(frame) == 230 + 260 + 1
    assert frame["state"].value_counts().loc[["pending", "scheduled", "aggregating"]].tolist() == [
        230, 260, 1,
    ]  # fmt: skip
    assert set(frame["queue"]) == set(names)
    newest = client.tasks(queue=names[5:10], limit=2)
    assert len(newest) == 2
    assert set(newest["type"]) == {"later", "joined"}
    assert len(client.tasks(columns=["payload", "headers"])) == len(frame)
    assert client.queues()["size"].sum() == len(frame)


@pytest.mark.parametrize(
    ("read", "warning"),
    [
        (lambda q: q.tasks(queue="defualt"), "no queue 'defualt': did you mean 'default'"),
        (lambda q: q.tasks(queue=["default", "nope"]), "no queue 'nope'; there are: 'default'"),
        (lambda q: q.attempts(queue="defualt"), "did you mean 'default'"),
        (lambda q: q.stats(queue="defualt"), "did you mean 'default'"),
        (lambda q: q.limits("defualt"), "did you mean 'default'"),
        (lambda q: q.schedules("defualt"), "did you mean 'default'"),
        (
            lambda q: q.tasks(arguments={"xx": 2}),
            "none of these tasks has a parameter 'xx': did you mean 'x'",
        ),
        (
            lambda q: q.attempts(arguments={"y": 2}),
            "none of these tasks has a parameter 'y'; there are x",
        ),
        (
            lambda q: q.tasks(type="double"),
            f"none of the newest tasks is of type 'double': did you mean '{DOUBLE}'",
        ),
        (lambda q: q.attempts(type=f"{DOUBLE}s"), f"did you mean '{DOUBLE}'"),
        (lambda q: q.tasks(name="goood"), "has the name 'goood': did you mean 'good'"),
    ],
)
def test_an_empty_frame_names_what_may_be_misspelled(
    used: Client, read: Callable[[Client], Any], warning: str
) -> None:
    with pytest.warns(UnknownNameWarning) as caught:
        read(used)
    [found] = caught
    assert warning in str(found.message)
    assert found.filename == __file__


def test_what_is_empty_for_another_reason_warns_of_nothing(used: Client) -> None:
    assert used.tasks(arguments={"x": 99}).empty
    assert used.tasks(type="unlike.anything").empty
    assert used.tasks(name="unlike").empty
    used.set_limit(nbqueue.Limit("api", concurrency=1))
    with pytest.warns(UnknownNameWarning, match="no limit 'apy': did you mean 'api'"):
        assert not used.remove_limit("apy")
    with pytest.raises(TaskNotFound, match="did you mean 'good'"):
        used.get("goood")
    for change in (
        lambda: used.inspector.pause("defaultt"),
        lambda: used.set_concurrency("defaultt", 2),
        lambda: used.set_limit(nbqueue.Limit("api", concurrency=1), queue="defaultt"),
        lambda: used.panel(queues=["defaultt"]),
    ):
        with pytest.warns(UnknownNameWarning, match="did you mean 'default'"):
            change()
    used.inspector.pause("quite_another")


def test_tasks_of_a_group_are_found_by_its_name(client: Client) -> None:
    g = client.options(name="sweep").map(double, range(3))
    other = client.options(name="own").submit(double, 9)
    assert sorted(client.tasks(name="sweep").index) == sorted(g.ids)
    assert list(client.tasks(name="sweep-1").index) == [g.ids[1]]
    assert set(client.tasks(name=["sweep", "own"]).index) == {*g.ids, other.id}
    assert list(client.tasks(name="sweep", ids=[g.ids[2], other]).index) == [g.ids[2]]
    assert list(client.tasks(name="sweep", arguments={"x": 2}).index) == [g.ids[2]]
    names = client.tasks(columns=["name"]).name
    assert [names[i] for i in (*g.ids, other.id)] == ["sweep-0", "sweep-1", "sweep-2", "own"]
    assert list(g.frame(["name"]).name) == ["sweep-0", "sweep-1", "sweep-2"]
    with pytest.raises(UsageError, match="names have no patterns"):
        client.tasks(name="swee*")
    with pytest.warns(UnknownNameWarning, match="did you mean 'sweep'"):
        client.tasks(name="swep")
    with pytest.raises(TaskNotFound, match="did you mean 'sweep'"):
        client.get("swep")
    client.options(task_id="report-2030-01").submit(double, 1)
    with pytest.raises(TaskNotFound, match="did you mean 'report-2030-01'"):
        client.get("report-2030")
    names = {"q": client, "n": 1}
    assert string_completions('q.group("', names) == ("", ["sweep"])
    assert string_completions("x = q.group('sw", names) == ("sw", ["sweep"])
    assert string_completions('q.get("ow', names) == ("ow", ["own"])
    assert string_completions('q.tasks(limit=3, name="', names)[1][:2] == ["own", "sweep"]  # type: ignore[index]
    assert string_completions('q.tasks(state="arch', names) == ("arch", ["archived"])
    for other in ('n.group("', "q.group(", 'q.submit("', 'q.group("a", "'):
        assert string_completions(other, names) is None
