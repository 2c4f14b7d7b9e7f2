"""The list of tasks of dashboards, on an inspector that holds tasks in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from nbqueue.client.client import Client
from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.task_list import ACTIONS, STATES, TaskList
from nbqueue.errors import StoreDamaged
from nbqueue.wire import states


class MemoryInspector:
    """An inspector with a given number of pending tasks, which notes its calls."""

    def __init__(self, count: int) -> None:
        self.ids = [f"t{number}" for number in range(count)]
        self.asked: list[Any] = []
        self.is_damaged = False

    def queues(self) -> list[str]:
        return ["mail", "other"]

    def queue(self, name: str) -> Any:
        counts = dict.fromkeys(STATES, 0) | {states.PENDING: len(self.ids)}
        return SimpleNamespace(**counts, fault="it is a string")

    def page(self, queue: str, state: str, first: int, size: int, *, newest_first: bool) -> Any:
        if self.is_damaged:
            raise StoreDamaged("it is a string")
        ids = self.ids[::-1] if newest_first else self.ids
        return [SimpleNamespace(id=each) for each in ids[first : first + size]]

    def tasks(self, queue: str, state: str, **chosen: Any) -> Any:
        self.asked.append(chosen)
        return (SimpleNamespace(id=each) for each in self.ids)

    def delete(self, ids: Any = None, **chosen: Any) -> BulkResult:
        self.asked.append((ids, chosen))
        return BulkResult("delete", done=ids or self.ids, refused={"t9": "is active"})


def make(count: int = 120, queues: tuple[str, ...] | None = None) -> tuple[TaskList, Any]:
    inspector = MemoryInspector(count)
    client = cast(Client, SimpleNamespace(inspector=inspector))
    tasks = TaskList(Scope(client, queues))
    tasks.read_names()
    assert tasks.read() == ""
    return tasks, inspector


def ids(tasks: TaskList) -> list[str]:
    return [task.id for task in tasks.tasks]


def test_a_list_shows_a_page_of_the_first_queue() -> None:
    tasks, _ = make()
    assert (tasks.queue, len(tasks.tasks), tasks.paging.total) == ("mail", 50, 120)
    tasks.paging.turn(1)
    tasks.read()
    assert ids(tasks)[0] == "t50"
    tasks.sort(newest_first=True)
    tasks.read()
    assert ids(tasks)[0] == "t119"


def test_a_list_shows_only_queues_of_its_scope() -> None:
    tasks, _ = make(queues=("other",))
    assert (tasks.queue, tasks.queue_names) == ("other", ["other"])


def test_a_filter_has_no_total_until_its_tasks_are_counted() -> None:
    tasks, inspector = make()
    tasks.select(["t1"], is_on=True)
    tasks.filter(type=" email ")
    assert tasks.read() == ""
    assert inspector.asked[-1] == {"group": None, "type": "email", "error": None}
    assert (tasks.paging.total, tasks.matching, tasks.selected) == (None, None, set())
    assert not tasks.can_sort
    tasks.count_matching()
    assert tasks.matching == 120


def test_an_action_goes_to_the_selected_tasks_or_to_all_that_match() -> None:
    tasks, inspector = make()
    tasks.select(["t2", "t1", "t3"], is_on=True)
    tasks.select(["t3"], is_on=False)
    assert tasks.act_on_selected("delete") == "2 deleted, 1 refused (is active)"
    assert inspector.asked[-1] == (["t1", "t2"], {"queue": "mail"})
    assert not tasks.selected
    tasks.filter(error="no")
    assert tasks.act_on_all("delete") == "120 deleted, 1 refused (is active)"
    assert inspector.asked[-1] == (None, {"queue": "mail", "state": "pending", "error": "no"})


@pytest.mark.parametrize("state", STATES)
def test_an_action_that_a_state_does_not_allow_does_nothing(state: str) -> None:
    tasks, inspector = make()
    tasks.show("mail", state)
    for action in {"run", "cancel", "archive", "delete", "remove_queue"} - set(ACTIONS[state]):
        assert tasks.act_on_all(action) == ""
    assert not inspector.asked


def test_a_queue_that_cannot_be_read_says_why() -> None:
    tasks, inspector = make()
    inspector.is_damaged = True
    assert tasks.read() == "mail cannot be read: it is a string"
    assert tasks.tasks == []
