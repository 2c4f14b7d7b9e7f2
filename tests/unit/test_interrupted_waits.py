"""Waits that are interrupted in a program: a line says that the tasks go on."""

from __future__ import annotations

import signal
import threading

import pytest

from nbqueue.client.client import Client
from nbqueue.client.futures.wait import wait
from nbqueue.errors import UsageError


def interrupt_soon() -> None:
    main = threading.main_thread().ident
    threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT)).start()


def test_ctrl_c_is_raised_and_a_line_says_how_to_find_the_task(
    client: Client, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    future = client.options(name="train", task_id="t1").submit(abs, -3)
    group = client.options(name="sweep").map(abs, range(2))
    for waits in (
        lambda: future.result(30),
        lambda: group.wait(30),
        lambda: wait(future, group),
        lambda: future.output(follow=True),
        lambda: client.wait_for_workers(2, queue="gpu"),
    ):
        interrupt_soon()
        with pytest.raises(KeyboardInterrupt):
            waits()
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        'the wait was interrupted; task train goes on: q.get("t1") finds it again, '
        "its cancel() ends it",
        'the wait was interrupted; the tasks of sweep go on: q.group("sweep") finds them again, '
        "its cancel() ends them",
        "the wait was interrupted; 3 of 3 tasks go on; cancel() of a future ends its task",
        'the wait was interrupted; task train goes on: q.get("t1") finds it again, '
        "its cancel() ends it",
        "the wait was interrupted; nothing else changed: q.wait_for_workers(2, queue='gpu') waits "
        "again",
    ]
    monkeypatch.setenv("NBQUEUE_PROGRESS", "0")
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        future.result(30)
    assert capfd.readouterr().err == ""
    assert not future.cancelled()


def test_wrong_time_outs_are_refused_before_anything_is_sent(client: Client) -> None:
    group = client.map(abs, range(2))
    for wrong in (-1, float("nan"), 1e300, "soon", "-5"):
        for waits in (
            lambda t: client.map(abs, [1], timeout=t),
            group.results,
            group.wait,
            group.as_completed,
            lambda t: wait(group, timeout=t),
            lambda t: client.wait_for_workers(timeout=t),
        ):
            with pytest.raises(UsageError, match="timeout="):
                waits(wrong)
    assert len(client.tasks()) == 2


def test_a_closed_client_says_that_it_was_closed_and_not_that_tasks_failed(client: Client) -> None:
    group = client.options(name="sweep").map(abs, range(3))
    future = client.options(task_id="later", delay="2h").submit(abs, 1)
    assert "scheduled: due in 2h 00m, at " in repr(future)
    assert "due in " in future._repr_mimebundle_()["text/plain"]
    assert future.cancel()
    assert " archived (cancelled) id=" in repr(future)
    assert "archived (cancelled)" in future._repr_mimebundle_()["text/html"]
    assert "archived (cancelled)" in client.inspector.task("later")._repr_html_()
    client.close()
    assert group.done()
    assert group.counts() == (3, 0, 0, 0, 0)
    assert "0 of 3 done, 3 not followed any more as the client was closed id=" in repr(group)
    shown = group._repr_mimebundle_()
    assert "failed" not in shown["text/plain"] + shown["text/html"]
    assert "the client was closed: 3 tasks went on" in shown["text/plain"]
