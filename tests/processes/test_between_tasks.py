"""Process state that a task changes is restored for the next task."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nbqueue.client.client import Client, connect


def assign_stdout() -> None:
    sys.stdout = io.StringIO()
    sys.stderr = sys.__stderr__


def overlap_redirections() -> None:
    first, second = (contextlib.redirect_stdout(io.StringIO()) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)


def close_stdout() -> None:
    sys.stdout.close()
    with contextlib.suppress(OSError):
        os.close(1)


def replace_descriptors() -> None:
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 1)
        os.dup2(null.fileno(), 2)


def change_folder() -> None:
    os.chdir(tempfile.gettempdir())


def change_to_a_removed_folder() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)


def silence_warnings() -> None:
    warnings.simplefilter("ignore")


def never_leave_catch_warnings() -> None:
    warnings.catch_warnings().__enter__()
    warnings.simplefilter("error")


def disable_logging() -> None:
    logging.disable(logging.CRITICAL)


CHANGES = (
    assign_stdout,
    overlap_redirections,
    close_stdout,
    replace_descriptors,
    change_folder,
    change_to_a_removed_folder,
    silence_warnings,
    never_leave_catch_warnings,
    disable_logging,
)


def show() -> str:
    print("printed")
    print("to stderr", file=sys.stderr)
    logging.getLogger("a.library").warning("logged")
    warnings.warn("warned", UserWarning, stacklevel=1)
    return os.getcwd()


def outputs() -> tuple[Any, Any]:
    """Return the files that the descriptors refer to."""
    return tuple((s.st_dev, s.st_ino) for s in (os.fstat(1), os.fstat(2)))


async def show_in_a_loop() -> str:
    return show()


async def outputs_in_a_loop() -> tuple[Any, Any]:
    return outputs()


def as_coroutine(change: Callable[[], None]) -> Callable[[], Any]:
    async def changed() -> None:
        change()

    return changed


@pytest.fixture(scope="module")
def client(shared_lab: Any) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBQUEUE_KEY", "5b" * 32)
        with connect(shared_lab.url) as made:
            yield made


@pytest.fixture(scope="module", params=["process", "thread", "loop"])
def kind(request: pytest.FixtureRequest, shared_lab: Any) -> Iterator[str]:
    executor = "process" if request.param == "loop" else request.param
    with shared_lab.worker(executor=executor, queues=[request.param], concurrency=1):
        yield request.param


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_next_task_shows_all_that_it_says(client: Client, kind: str, change: Any) -> None:
    q, is_loop = client.options(queue=kind), kind == "loop"
    before = q.submit(outputs_in_a_loop if is_loop else outputs).result(20)
    q.submit(as_coroutine(change) if is_loop else change).result(20)
    for _ in range(2):
        shown = q.submit(show_in_a_loop if is_loop else show)
        assert shown.result(20) == os.getcwd()
        text = shown.output().text
        for said in (
            "printed\n",
            "to stderr\n",
            "WARNING a.library: logged\n",
            "UserWarning: warned",
        ):
            assert said in text
    assert q.submit(outputs_in_a_loop if is_loop else outputs).result(20) == before


def test_redirections_that_overlap_in_two_threads_end_with_their_tasks(
    client: Client, shared_lab: Any
) -> None:
    folder = shared_lab.mark_file("")

    def redirect(name: str, other: str) -> None:
        def wait_for(mark: str) -> None:
            limit = threading.Event()
            while not os.path.exists(folder + mark):
                limit.wait(0.01)

        def leave(mark: str) -> None:
            with open(folder + mark, "w"):
                pass

        if name == "second":
            wait_for("first-in")
        with contextlib.redirect_stdout(io.StringIO()):
            leave(f"{name}-in")
            wait_for(f"{other}-in")
            if name == "second":
                wait_for("first-out")
        leave(f"{name}-out")

    with shared_lab.worker(executor="thread", queues=["two"], concurrency=3):
        q = client.options(queue="two")
        first, second = q.submit(redirect, "first", "second"), q.submit(redirect, "second", "first")
        first.result(20)
        second.result(20)
        shown = q.submit(show)
        shown.result(20)
        assert "printed\n" in shown.output().text


def test_a_change_stays_while_a_task_that_may_have_made_it_runs(
    client: Client, shared_lab: Any
) -> None:
    begun, go = shared_lab.mark_file("kept-begun"), shared_lab.mark_file("kept-go")

    def keep() -> str:
        with contextlib.redirect_stdout(io.StringIO()) as buffer:
            with open(begun, "w"):
                pass
            while not os.path.exists(go):
                threading.Event().wait(0.01)
            print("mine")
        return buffer.getvalue()

    with shared_lab.worker(executor="thread", queues=["keeps"], concurrency=3):
        q = client.options(queue="keeps")
        kept = q.submit(keep)
        shared_lab.wait_until(lambda: os.path.exists(begun))
        for _ in range(3):
            q.submit(show).result(20)
        with open(go, "w"):
            pass
        # Output of other threads goes there meanwhile, as in any program with threads.
        assert kept.result(20).endswith("mine\n")


def test_the_folder_and_filters_that_a_hook_chose_are_kept(lab: Any) -> None:
    def choose() -> None:
        os.chdir("/")
        warnings.filterwarnings("ignore", message="known")

    def look() -> tuple[str, bool]:
        known = any(each[1] and each[1].pattern == "known" for each in warnings.filters)
        return os.getcwd(), known

    from nbqueue.worker.worker import Worker

    worker = Worker(lab.url, concurrency=1)
    worker.on_start(choose)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBQUEUE_KEY", "5b" * 32)
        with worker:
            lab.value(lab.submit(change_folder))
            lab.value(lab.submit(silence_warnings))
            assert lab.value(lab.submit(look)) == ("/", True)


def test_what_children_print_goes_to_the_log_again(lab: Any) -> None:
    def say() -> None:
        subprocess.run([sys.executable, "-c", "print('of a child')"], check=True)

    with lab.worker(concurrency=1) as worker:
        lab.value(lab.submit(replace_descriptors))
        lab.value(lab.submit(say))
        lab.wait_until(lambda: "of a child" in worker.log())


def test_a_task_that_allows_few_nested_calls_leaves_the_next_as_many(lab: Any) -> None:
    def allow_few() -> None:
        sys.setrecursionlimit(len(inspect.stack(0)) + 40)

    def nest(depth: int) -> int:
        return 0 if depth == 0 else 1 + nest(depth - 1)

    with lab.worker(concurrency=1):
        lab.value(lab.submit(allow_few))
        assert lab.value(lab.submit(nest, 300)) == 300


def test_signals_that_a_task_blocks_reach_programs_of_the_next(lab: Any) -> None:
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])

    def terminate() -> tuple[set[Any], int]:
        with subprocess.Popen(["sleep", "60"]) as child:
            child.terminate()
            return signal.pthread_sigmask(signal.SIG_BLOCK, ()), child.wait(20)

    with lab.worker(concurrency=1):
        lab.value(lab.submit(block))
        assert lab.value(lab.submit(terminate)) == (set(), -signal.SIGTERM)


def test_a_coroutine_that_changes_its_loop_leaves_the_next_as_they_are(lab: Any) -> None:
    async def spoil() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: 1 / 0)  # type: ignore[arg-type]
        loop.set_exception_handler(lambda loop, context: None)
        loop.set_debug(True)

    async def use() -> tuple[Any, ...]:
        loop = asyncio.get_running_loop()
        await asyncio.gather(asyncio.sleep(0), asyncio.create_task(asyncio.sleep(0)))
        return loop.get_task_factory(), loop.get_exception_handler(), loop.get_debug()

    with lab.worker(concurrency=1):
        lab.value(lab.submit(spoil))
        assert lab.value(lab.submit(use)) == (None, None, False)


def test_coroutines_that_run_together_share_what_they_change(lab: Any) -> None:
    async def stay() -> str:
        os.chdir("/")
        await asyncio.sleep(0.5)
        return os.getcwd()

    async def pass_by() -> None:
        await asyncio.sleep(0)

    async def look() -> str:
        return os.getcwd()

    with lab.worker():
        staying = lab.submit(stay)
        for _ in range(5):
            lab.value(lab.submit(pass_by))
        assert lab.value(staying) == "/"
        assert lab.value(lab.submit(look)) == os.getcwd()
