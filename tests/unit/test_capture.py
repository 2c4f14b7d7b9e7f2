"""Output of a task by any means. Each test captures as an executor does.

The capture is undone after each test.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import contextvars
import importlib
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from capturing import PutOut, frame, run_task

from nbqueue.executor import pipe
from nbqueue.executor.output import capture, displays, task_reports
from nbqueue.executor.output.task_reports import Reports, running_task


@contextlib.contextmanager
def capturing() -> Iterator[io.StringIO]:
    """Capture is on; what goes to the worker's log."""
    text = io.StringIO()
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    before = sys.meta_path[:], logging.lastResort, threading.Thread.start
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("default")
        patch.setattr(sys, "stdout", text)
        patch.setattr(sys, "stderr", text)
        patch.setattr(task_reports, "on_begin", [])
        patch.setattr(capture, "on_begin", task_reports.on_begin)
        patch.setattr(builtins, "display", None, raising=False)
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        root.handlers[:] = []
        try:
            capture.install()
            yield text
        finally:
            sys.meta_path[:], logging.lastResort, threading.Thread.start = before
            root.setLevel(level)
            root.handlers[:] = handlers


def captured(test: Callable[[io.StringIO], None]) -> Callable[[], None]:
    """Capture within a test: pytest, too, changes the streams between its phases."""

    def run() -> None:
        with capturing() as log:
            test(log)

    run.__name__ = test.__name__
    return run


@captured
def test_what_is_printed_is_taken_apart_by_stream(log: io.StringIO) -> None:
    def task() -> None:
        print("out", 1)
        print("err", file=sys.stderr)
        sys.stdout.buffer.write("bytes é\n".encode())
        sys.stdout.flush()
        print("end", end="\r", flush=True)

    out = run_task(task)
    assert out.text(pipe.STDOUT) == "out 1\nbytes é\nend\r"
    assert out.text(pipe.STDERR) == "err\n"
    print("outside")
    assert log.getvalue() == "outside\n"


@captured
def test_the_streams_are_files_like_others(log: io.StringIO) -> None:
    assert sys.stdout.writable()
    assert not sys.stdout.readable()
    assert not sys.stdout.isatty()
    assert sys.stdout.encoding == "utf-8"
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.stdout.close()
    assert run_task(lambda: print("still")).text() == "still\n"
    with pytest.raises(TypeError, match="not bytes"):
        sys.stdout.write(b"x")  # type: ignore[arg-type]
    assert run_task(lambda: print("\ud800")).text() == "?\n"


@captured
def test_a_task_that_says_nothing_sends_nothing(log: io.StringIO) -> None:
    sent: list[bytes] = []
    mine = Reports(sent.append)
    mine.begin(frame(1))
    assert mine.end(1, keep=True) == b""
    assert not sent
    assert not mine._is_started, "it started a thread"


@captured
def test_what_cannot_be_sent_now_waits_and_an_odd_report_stops_no_other(log: io.StringIO) -> None:
    sent: list[bytes] = []
    came = threading.Event()

    def send(data: bytes) -> None:
        sent.append(data)
        came.set()

    mine = Reports(send)
    busy = [True]
    mine.is_busy = lambda: busy[0]

    def task() -> None:
        mine.begin(frame(1))
        task = running_task()
        assert task is not None
        task.bars.add(object())  # type: ignore[arg-type]
        task.progressed()
        print("x")
        assert not came.wait(0.3)
        busy[0] = False
        assert came.wait(20), log.getvalue()
        task.unsent.clear()

    contextvars.Context().run(task)
    assert PutOut(b"".join(sent)).text() == "x\n"
    assert log.getvalue() == ""
    assert mine.end(1, keep=True) == b""


@captured
def test_threads_belong_to_the_task_that_started_them(log: io.StringIO) -> None:
    late, done = threading.Event(), threading.Event()

    def later() -> None:
        late.wait(20)
        print("late")
        done.set()

    def task() -> None:
        threading.Thread(target=later).start()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(print, ["in a pool"]))

    assert run_task(task).text() == "in a pool\n"

    def other() -> None:
        late.set()
        assert done.wait(20)

    assert run_task(other).text() == "", "it took the words of another task"
    assert log.getvalue() == "late\n"


@captured
def test_tasks_of_one_loop_are_kept_apart(log: io.StringIO) -> None:
    parts: list[bytes] = []
    mine = Reports(lambda data: None)

    async def task(number: int) -> None:
        mine.begin(frame(number))
        for step in range(3):
            print(number, step)
            await asyncio.sleep(0)
        await asyncio.to_thread(print, number, "thread")
        parts.append(mine.end(number, keep=True))

    async def both() -> None:
        await asyncio.gather(*(asyncio.create_task(task(number)) for number in (1, 2)))

    mine._is_started = True  # nothing is sent before the end
    asyncio.run(both())
    texts = sorted(PutOut(part).text() for part in parts)
    assert texts == [f"{i} 0\n{i} 1\n{i} 2\n{i} thread\n" for i in (1, 2)]


@captured
def test_a_child_that_was_forked_writes_to_the_log(log: io.StringIO) -> None:
    reader, writer = os.pipe()

    def task() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads and forks, which is the point
            pid = os.fork()
        if pid == 0:
            os.write(writer, b"%d" % (running_task() is None))
            os._exit(0)
        os.waitpid(pid, 0)

    run_task(task)
    assert os.read(reader, 1) == b"1"
    os.close(reader)
    os.close(writer)


@captured
def test_what_is_logged_is_there_once_with_handlers_and_without(log: io.StringIO) -> None:
    named = logging.getLogger("some.lib")

    def task() -> None:
        named.debug("no")
        named.info("yes %d", 1)
        named.warning("careful")

    out = run_task(task)
    assert out.text(pipe.STDERR) == "INFO some.lib: yes 1\nWARNING some.lib: careful\n"

    def configured() -> None:
        logging.basicConfig(format="%(message)s", level=logging.WARNING)
        task()

    assert run_task(configured).text() == "careful\n"
    named.warning("outside")
    assert log.getvalue() == "outside\n"


@captured
def test_an_inherited_backend_of_a_notebook_is_replaced(log: io.StringIO) -> None:
    assert os.environ["MPLBACKEND"] == "Agg"
    assert builtins.display is displays.display  # type: ignore[attr-defined]


@captured
def test_progress_reports_nested_bars(log: io.StringIO) -> None:
    import nbqueue

    def task() -> None:
        for _ in nbqueue.progress(range(2), desc="outer"):
            for _ in nbqueue.progress(iter("abc"), total=4, desc="inner"):
                pass
        nbqueue.report(progress=(1, 3), desc="all", loss=0.5, note="x")

    out = run_task(task)
    assert out.bars == [("all", 1, 3), ("outer", 2, 2), ("inner", 3, 4)]
    assert out.progress["fields"] == {"loss": 0.5, "note": "x"}
    assert out.text() == ""


def test_progress_outside_of_a_task_only_iterates() -> None:
    import nbqueue

    bar = nbqueue.progress([1, 2, 3])
    assert (list(bar), len(bar)) == ([1, 2, 3], 3)
    with pytest.raises(TypeError, match="total="):
        len(nbqueue.progress(iter([1])))

    async def items() -> Any:
        yield 1
        yield 2

    async def collect() -> list[int]:
        return [item async for item in nbqueue.progress(items())]

    assert asyncio.run(collect()) == [1, 2]


@captured
def test_an_asynchronous_iterable_reports_too(log: io.StringIO) -> None:
    import nbqueue

    async def items() -> Any:
        for i in range(3):
            yield i

    async def work() -> None:
        async for _ in nbqueue.progress(items(), total=3, desc="async"):
            pass

    assert run_task(lambda: asyncio.run(work())).bars == [("async", 3, 3)]


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"progress": "half"}, "neither a number from 0 to 1"),
        ({"progress": (1, 2, 3)}, "neither a number"),
        ({"loss": [1]}, "loss='\\[1\\]' cannot be shown"),
        ({"text": "x" * 201}, "200 characters"),
    ],
)
def test_a_report_that_makes_no_sense_is_refused(said: Any, match: str) -> None:
    import nbqueue
    from nbqueue.errors import UsageError

    def task() -> None:
        with pytest.raises(UsageError, match=match):
            nbqueue.report(**said)

    run_task(task)


def test_numbers_of_numpy_and_odd_ones_are_small_values() -> None:
    import numpy as np

    import nbqueue

    out = run_task(lambda: nbqueue.report(progress=np.float32(0.5), a=np.int64(3), b=float("nan")))
    assert out.bars == [("", 0.5, 1.0)]
    assert out.progress["fields"] == {"a": 3, "b": "nan"}


# --- tqdm -----------------------------------------------------------------------------------------


def fresh_tqdm() -> Any:
    """tqdm as a task imports it, for the first time in its process."""
    pytest.importorskip("tqdm")
    for name in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
        del sys.modules[name]
    return importlib.import_module("tqdm")


@captured
def test_bars_of_tqdm_report_and_draw_nothing(log: io.StringIO) -> None:
    tqdm = fresh_tqdm()

    def task() -> None:
        for _ in tqdm.tqdm(range(3), desc="outer", mininterval=0):
            with tqdm.trange(4, desc="inner", leave=False) as inner:
                for _ in inner:
                    inner.set_postfix(loss=0.25)
        with tqdm.tqdm(total=10, unit="B", disable=None) as bar:
            bar.update(4)

    out = run_task(task)
    # The second outermost bar took the place of the first, which had ended.
    assert out.bars == [("", 4, 10)]
    assert out.progress["bars"][0]["unit"] == "B"
    assert out.text() == ""


@captured
def test_nested_bars_of_tqdm_keep_their_order(log: io.StringIO) -> None:
    tqdm = fresh_tqdm()

    def task() -> None:
        outer = tqdm.tqdm(total=3, desc="outer")
        inner = tqdm.tqdm(total=2, desc="inner")
        inner.set_postfix_str("x=1")
        inner.update(1)
        outer.update(1)
        outer.refresh()
        inner.refresh()

    out = run_task(task)
    assert out.bars == [("outer", 1, 3), ("inner", 1, 2)]
    assert out.progress["bars"][1]["postfix"] == "x=1"


@captured
def test_words_beside_the_bar_and_files_of_the_user_stay_what_they_are(log: io.StringIO) -> None:
    tqdm = fresh_tqdm()
    own = io.StringIO()

    def task() -> None:
        for i in tqdm.tqdm(range(2), file=own, mininterval=0):
            tqdm.tqdm.write(f"step {i}")

    out = run_task(task)
    assert out.text() == "step 0\nstep 1\n"
    assert "2/2" in own.getvalue()
    assert out.bars == []
    for _ in tqdm.tqdm(range(2), file=own):
        pass  # outside of a task it draws


@captured
def test_bars_for_notebooks_report_too(log: io.StringIO) -> None:
    fresh_tqdm()

    def task() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tqdm.notebook as notebook
        for _ in notebook.tqdm(range(3), desc="nb"):
            pass
        for _ in notebook.trange(2, desc="range"):
            pass

    assert run_task(task).bars == [("range", 2, 2)]
