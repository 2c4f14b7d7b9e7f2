"""Waits that are interrupted in a program: a line says that the tasks go on."""

from __future__ import annotations

import signal
import threading

import pytest

from nbqueue.client.client import Client
from nbqueue.client.futures.wait import wait


def interrupt_soon() -> None:
    main = threading.main_thread().ident
    threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT)).start()


def test_ctrl_c_is_raised_and_a_line_says_how_to_find_the_task(
    client: Client, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    future = client.options(name="train", task_id="t1").submit(abs, -3)
    group = client.options(name="sweep").map(abs, range(2))
    for waits in (lambda: future.result(30), lambda: group.wait(30), lambda: wait(future, group)):
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
    ]
    monkeypatch.setenv("NBQUEUE_PROGRESS", "0")
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        future.result(30)
    assert capfd.readouterr().err == ""
    assert not future.cancelled()
