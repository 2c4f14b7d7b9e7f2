"""Models of dashboards: the contract that all keep, and what each does of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from filled_queues import fill
from thread_worker import ThreadWorker

from nbqueue.client.client import Client
from nbqueue.dashboard.attempt_timeline import AttemptTimeline
from nbqueue.dashboard.daily_history import DailyHistory
from nbqueue.dashboard.queue_list import QueueList
from nbqueue.dashboard.schedule_list import ScheduleList
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.table_model import READ_ONLY, TableModel
from nbqueue.dashboard.task_list import TaskList
from nbqueue.dashboard.worker_list import WorkerList
from nbqueue.errors import UsageError

MODELS: tuple[type[TableModel[Any]], ...] = (
    QueueList,
    TaskList,
    WorkerList,
    ScheduleList,
    AttemptTimeline,
    DailyHistory,
)


@pytest.fixture
def filled(client: Client, store_url: str) -> Client:
    """A store with something of everything."""
    client.map(abs, range(3))
    worker = ThreadWorker(store_url)
    worker.work()
    worker.close()
    fill(client, 2, "mail")
    client.schedule(abs, "@hourly", args=(1,), id="first")
    client.schedule(abs, "@daily", args=(1,), id="second")
    return client


@pytest.mark.parametrize("model", MODELS)
def test_rows_are_plain_values_with_a_key_and_sort_by_each_column(
    filled: Client, model: type[TableModel[Any]]
) -> None:
    found = model(Scope(filled))
    if isinstance(found, TaskList):
        found.show("mail", "pending")
    found.read()
    if model is not WorkerList:
        assert found.rows
    assert len({row.key for row in found.rows}) == len(found.rows)
    for column in found.columns:
        for row in found.rows:
            assert isinstance(getattr(row, column.name), str | int | float | None)
        if column.can_sort:
            found.sort(column.name)
            found.read()
    with pytest.raises(UsageError, match="no column 'colour'"):
        found.sort("colour")
    with pytest.raises(UsageError, match="no filter 'colour'"):
        found.filter(colour="red")


@pytest.mark.parametrize("model", MODELS)
def test_csv_has_a_line_for_each_row(filled: Client, model: type[TableModel[Any]]) -> None:
    found = model(Scope(filled))
    found.read()
    file = found.csv()
    lines = file.text.splitlines()
    assert len(lines) == 1 + len(found.rows)
    assert lines[0].count(",") == len(found.columns) - 1


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_is_read_only_does_nothing(
    filled: Client, model: type[TableModel[Any]]
) -> None:
    found = model(Scope(filled, read_only=True))
    found.read()
    for row in found.rows:
        for action in (*found.row_actions(row), *found.actions(), *found.all_actions()):
            assert found.act(action.name, [row.key]) == READ_ONLY


def test_queues_sort_by_what_they_hold(filled: Client) -> None:
    fill(filled, 9, "more")
    queues = QueueList(Scope(filled))
    queues.sort("pending")
    queues.sort("pending")
    queues.read()
    assert [row.queue for row in queues.rows] == ["more", "mail", "default"]
    assert queues.task_count == 14
    assert "paused" in queues.act("pause", ["mail"])
    queues.read()
    assert queues.row("mail").state == "paused"  # type: ignore[union-attr]


def test_an_open_schedule_has_its_history(filled: Client) -> None:
    schedules = ScheduleList(Scope(filled))
    schedules.read()
    [first, second] = [row.key for row in schedules.rows]
    assert "as task" in schedules.act("run", [first])
    schedules.open(first)
    schedules.read()
    assert [row.outcome for row in schedules.history.rows] == ["enqueued"]
    assert schedules.act("remove", [first]) == "first is removed; its tasks go on"
    schedules.read()
    assert (schedules.opened, schedules.history.rows) == ("", [])
    assert "from now on" in schedules.change_spec(second, "@hourly")


def test_workers_of_this_machine_are_started_and_stopped(client: Client) -> None:
    calls: list[Any] = []
    worker = SimpleNamespace(pid=1, log="a.log")

    class Launcher:
        def running(self) -> list[Any]:
            return []

        def start(self, queues: Any, **options: Any) -> Any:
            calls.append((queues, options))
            return worker

        def stop(self) -> list[Any]:
            return [worker]

    fill(client, 1, "mail")
    workers = WorkerList(Scope(client), Launcher())
    workers.set_slots("3")
    assert workers.act("start", None) == "worker 1 runs; its log is a.log"
    assert calls == [({"mail": 1}, {"concurrency": 3})]
    assert workers.act("stop", None) == "1 worker ended"
    assert WorkerList(Scope(client)).all_actions() == ()
