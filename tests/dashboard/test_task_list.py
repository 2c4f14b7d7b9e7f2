"""The list of tasks of dashboards: pages, scans, selection by id, order and CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from filled_queues import fill
from waits import wait_until

from nbqueue.client.client import Client
from nbqueue.dashboard import task_scan
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.task_key import split_key, task_key
from nbqueue.dashboard.task_actions import ACTIONS
from nbqueue.dashboard.task_list import ALL, STATES, TaskList
from nbqueue.errors import UsageError
from nbqueue.wire import states


def opened(client: Client, queue: str = "default", state: str = states.PENDING) -> TaskList:
    tasks = TaskList(Scope(client))
    tasks.show(queue, state)
    tasks.read()
    return tasks


def scanned(tasks: TaskList) -> TaskList:
    """Read until the scan has ended."""

    def is_done() -> bool:
        tasks.read()
        return not tasks.progress

    wait_until(is_done)
    return tasks


def ids(tasks: TaskList) -> list[str]:
    return [row.id for row in tasks.rows]


def test_a_list_shows_a_page_of_the_first_queue(client: Client) -> None:
    fill(client, 120)
    tasks = TaskList(Scope(client))
    tasks.read()
    assert (tasks.queue, len(tasks.rows), tasks.paging.total) == ("default", 50, 120)
    tasks.turn(1)
    tasks.read()
    assert ids(tasks)[0] == "t000050"
    tasks.sort("time_ms")
    tasks.read()
    assert ids(tasks)[0] == "t000119"


def test_a_list_begins_with_all_tasks_if_none_is_pending(client: Client) -> None:
    tasks = TaskList(Scope(client))
    tasks.read()
    assert tasks.rows == []
    [name] = fill(client, 1)
    client.inspector.archive(name, queue="default")
    tasks.read()
    assert (tasks.state, ids(tasks)) == (ALL, [name])
    tasks.show("default", states.PENDING)
    tasks.read()
    assert tasks.rows == []


def test_a_list_shows_only_queues_of_its_scope(client: Client) -> None:
    fill(client, 1, "mail")
    fill(client, 2, "other")
    tasks = TaskList(Scope(client, ("other",)))
    tasks.show(ALL, ALL)
    scanned(tasks)
    assert tasks.queue_names == ["other"]
    assert {row.queue for row in tasks.rows} == {"other"}


def test_the_selection_follows_tasks_and_drops_what_left_the_list(client: Client) -> None:
    names = fill(client, 120)
    tasks = opened(client)
    keys = [task_key("default", name) for name in names]
    tasks.select([keys[3], keys[7]], is_on=True)
    tasks.turn(2)
    # Tasks before them leave: all others move up by two places, and over the border of a page.
    client.inspector.delete([names[0], names[3]], queue="default")
    tasks.read()
    assert tasks.selected == {keys[7]}
    assert tasks.act("delete", tasks.selected) == "1 deleted"
    assert client.inspector.queue("default").pending == 117
    tasks.read()
    assert names[7] not in ids(tasks)
    assert tasks.selected == set()


def test_an_action_leaves_a_selected_task_alone_that_is_in_another_state_by_now(
    client: Client,
) -> None:
    [name] = fill(client, 1)
    tasks = opened(client)
    tasks.select([tasks.rows[0].key], is_on=True)
    client.inspector.archive(name, queue="default")
    assert tasks.act("delete", tasks.selected) == "0 deleted"
    assert client.inspector.task(name).state == "archived"


def test_all_queues_and_states_are_one_list_that_sorts_by_each_column(client: Client) -> None:
    fill(client, 3, "mail", "b")
    fill(client, 2, "other", "a")
    client.inspector.archive("t000002", queue="mail")
    client.options(queue="other", delay="1h").enqueue("c", task_id="later")
    tasks = TaskList(Scope(client))
    tasks.show(ALL, ALL)
    scanned(tasks)
    found = [(row.queue, row.state, row.id) for row in tasks.rows]
    assert sorted(found) == [
        ("mail", "archived", "t000002"),
        ("mail", "pending", "t000000"),
        ("mail", "pending", "t000001"),
        ("other", "pending", "t000000"),
        ("other", "pending", "t000001"),
        ("other", "scheduled", "later"),
    ]
    assert found[0][1] == "archived"  # what needs attention comes first
    for column in (each for each in tasks.columns if each.can_sort):
        for is_descending in (False, True):
            tasks.sort(column.name)
            tasks.read()
            values = [getattr(row, column.name) for row in tasks.rows]
            known = [value for value in values if value not in (None, "")]
            assert known == sorted(known, reverse=is_descending), column
            assert values[: len(known)] == known
    # Two queues have a task of the same id: they are told apart.
    tasks.select([task_key("mail", "t000000")], is_on=True)
    assert tasks.act("archive", tasks.selected) == "1 archived"
    assert client.inspector.queue("other").pending == 2


def test_a_filter_counts_what_matches_and_follows_changes(client: Client) -> None:
    names = fill(client, 600)
    fill(client, 4, "other", "report:x")
    tasks = opened(client)
    tasks.select([tasks.rows[0].key], is_on=True)
    tasks.filter(type=" email ")
    scanned(tasks)
    assert (tasks.matching, tasks.selected, len(tasks.rows)) == (600, set(), 50)
    assert ids(tasks)[0] == names[0]
    client.inspector.delete(names[:10], queue="default")
    tasks.changed()
    wait_until(lambda: scanned(tasks).matching == 590)
    assert ids(tasks)[0] == names[10]
    tasks.filter(type="report:*")
    assert scanned(tasks).matching == 0
    tasks.show(ALL, states.PENDING)
    tasks.filter(type="report:*")
    assert scanned(tasks).matching == 4
    assert tasks.act("delete", None) == "4 deleted"
    with pytest.raises(UsageError, match="no filter 'color'"):
        tasks.filter(color="red")


def test_a_list_that_was_cut_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_scan, "MOST_KEPT", 300)
    fill(client, 1_000)
    tasks = opened(client)
    tasks.sort("type")
    scanned(tasks)
    assert tasks.note == ("the list was cut: it has 300 of 1,000 tasks, and only these are sorted")
    assert tasks.matching == 1_000
    tasks.filter(type="email")
    assert scanned(tasks).matching == 1_000
    assert tasks.paging.total == 300
    file = tasks.csv()
    assert file.note == "tasks.csv has 300 rows, the first of 1,000"


def test_csv_has_all_pages_and_no_formulas(client: Client) -> None:
    fill(client, 1_200, type="=cmd()")
    file = opened(client).csv()
    head, *rows = csv.reader(io.StringIO(file.text))
    assert head == ["state", "type", "call", "id", "attempt", "enqueued (UTC)", "error"]
    assert [row[3] for row in rows] == [f"t{number:06d}" for number in range(1_200)]
    assert {tuple(row[1:3]) for row in rows} == {("'=cmd()", "'=cmd()()")}
    assert file.note == "tasks.csv has 1,200 rows"


@pytest.mark.parametrize("state", STATES)
def test_an_action_that_a_state_does_not_allow_is_refused(client: Client, state: str) -> None:
    fill(client, 1)
    tasks = opened(client, state=state)
    for action in {"run", "cancel", "archive", "delete", "remove_queue"} - set(ACTIONS[state]):
        with pytest.raises(UsageError, match=action):
            tasks.act(action, None)


def test_a_queue_that_cannot_be_read_says_why(client: Client, redis: Any) -> None:
    fill(client, 1)
    tasks = opened(client)
    redis.delete("asynq:{default}:pending")
    redis.set("asynq:{default}:pending", "x")
    tasks.read()
    assert "default cannot be read" in tasks.note
    assert tasks.rows == []


@pytest.mark.parametrize("queue", ["mail", "a/b%", "ä ö", "\udcff", "x" * 100])
def test_keys_name_queue_and_id(queue: str) -> None:
    assert split_key(task_key(queue, "1/2")) == (queue, "1/2")


def fit(depth: int, lr: float = 0.1) -> None:
    """A function whose arguments are searched."""


def test_calls_are_shown_and_searched_by_argument(client: Client) -> None:
    for depth in range(1, 30):
        client.submit(fit, depth, lr=0.15 if depth % 2 else 0.1)
    client.submit(fit, 99)
    client.enqueue("report", {"user": 7})
    tasks = opened(client)
    assert tasks.rows[0].call == "fit(depth=1, lr=0.15)"
    assert tasks.rows[-1].call == "report(user=7)"
    expected = {"lr=0.1": 15, "lr=0.15": 15, "lr=0.15, depth=3": 1, "depth=2": 1, "user": 1}
    for text, number in expected.items():
        tasks.filter(arguments=text)
        assert scanned(tasks).matching == number, text
    tasks.filter(arguments="lr=0.15")
    scanned(tasks)
    assert tasks.act("delete", None) == "15 deleted"
    assert client.inspector.queue("default").pending == 16
