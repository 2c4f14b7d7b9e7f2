"""``nbqueue queue`` and ``nbqueue task``: what they print, and how they end."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from nbqueue import Client
from nbqueue.cli.main import main


def add(*numbers: int) -> int:
    return sum(numbers)


@pytest.fixture(autouse=True)
def _here(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_URL", store_url)


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == code, done.output
    return done.output


def test_queues(client: Client) -> None:
    assert run("queue", "list") == "There is no queue yet.\n"
    client.submit(add)
    client.options(queue="other", delay="1h").submit(add)
    assert run("queue", "pause", "other", "default") == "other: paused\ndefault: paused\n"
    assert run("queue", "pause", "other") == "other: was paused already\n"
    rows = run("queue", "list").splitlines()
    assert rows[1].split()[:4] == ["default", "1", "0", "0"]
    assert rows[2].split()[:4] == ["other", "0", "0", "1"]
    assert rows[2].split()[-1] == "paused"
    assert run("queue", "unpause", "other") == "other: goes on\n"
    assert run("queue", "unpause", "other") == "other: was not paused\n"
    yet = " (there is no such queue yet)\n"
    assert run("queue", "pause", "nosuch") == "nosuch: paused" + yet
    assert run("queue", "unpause", "nosuch") == "nosuch: goes on" + yet
    assert run("queue", "unpause", "nosuch") == "nosuch: was not paused" + yet
    assert "pending" in run("queue", "inspect", "default")
    assert len(run("queue", "history", "default", "-x", "3").splitlines()) == 4
    assert "no queue 'nope'" in run("queue", "inspect", "nope", code=1)


def test_removing_queues(client: Client) -> None:
    client.submit(add)
    said = run("queue", "remove", "default", code=1)
    assert "with --force to" in said
    assert "force=" not in said
    assert run("queue", "remove", "-f", "default") == "default: removed\n"
    assert "no queue" in run("queue", "remove", "default", code=1)


def test_tasks_are_named_by_their_names(client: Client) -> None:
    older, newest = (client.options(name="my run").submit(add, i) for i in (1, 2))
    other = client.options(name="nightly", queue="other", delay="1h").submit(add)
    assert newest.id in run("task", "inspect", "my run")
    assert other.id in run("task", "inspect", "nightly", "-q", "other")
    assert "no task 'nightly'" in run("task", "inspect", "nightly", "-q", "default", code=1)
    assert "nightly is not in the store" in run("task", "run", "nightly", "-q", "default", code=1)
    assert run("task", "run", "nightly") == "run: 1 done\n"
    assert run("task", "cancel", "my run", "nightly", older.id) == "cancel: 3 done\n"
    # An id goes before a name.
    client.options(name=older.id).submit(add, 3)
    assert "archived" in run("task", "inspect", older.id)
    assert run("task", "delete", "my run") == "delete: 1 done\n"
    assert f"{newest.id} is not in the store" in run("task", "cancel", "my run", code=1)


def test_tasks(client: Client) -> None:
    first, second = client.submit(add, 1), client.submit(add, 2)
    listed = run("task", "list", "-q", "default", "-s", "pending").splitlines()
    assert [row.split()[0] for row in listed] == ["id", first.id, second.id]
    assert "choose tasks" in run("task", "list", "-q", "default", code=2)
    inspected = run("task", "inspect", first.id)
    assert "pending" in inspected
    assert "payload" in inspected
    assert "no task 'nope'" in run("task", "inspect", "nope", code=1)
    assert run("task", "archive", first.id) == "archive: 1 done\n"
    assert "is archived" in run("task", "archive", first.id, second.id, code=1)
    assert run("task", "run", "-q", "default", "-s", "archived", "--reset") == "run: 2 done\n"
    assert run("task", "reschedule", first.id, "--delay", "1h") == "reschedule: 1 done\n"
    at = ("--at", "2099-01-31T08:00+01:00")
    assert run("task", "reschedule", first.id, *at) == "reschedule: 1 done\n"
    assert "2099-01-31" in run("task", "list", "-q", "default", "-s", "scheduled")
    assert "is no time" in run("task", "reschedule", first.id, "--at", "soon", code=2)
    assert "one of --at and --delay" in run("task", "reschedule", first.id, code=2)
    assert run("task", "cancel", second.id, "-q", "default") == "cancel: 1 done\n"
    assert run("task", "delete", "-q", "default", "-s", "archived", "--since", "1h") == (
        "delete: 1 done\n"
    )
    assert "ids or names, or with both -q NAME and -s STATE" in run("task", "delete", code=2)
    assert run("task", "list", "-q", "default", "-s", "retry") == "There is no such task.\n"


def test_groups(client: Client) -> None:
    assert "There is no task group yet." in run("groups")
    client.options(name="sweep").map(add, range(3))
    client.options(name="other").map(add, range(2))
    shown = run("groups")
    assert shown.index("other") < shown.index("sweep")
    assert "0 of 3" in shown
    assert "sweep" not in run("groups", "--limit", "1")
    assert "Did you mean 'groups'?" in run("grups", code=2)
    assert "Did you mean 'retry' or 'archived'?" in run(
        "task", "list", "-q", "default", "-s", "failed", code=2
    )
