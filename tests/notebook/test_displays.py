"""Messages of a kernel for live displays: their number, their times, and the saved output."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from kernel import Kernel, displays, printed

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

SETUP = """
import os, sys, threading, time
import nbqueue
q = nbqueue.connect()
sys.path.insert(0, SUPPORT)
from thread_worker import ThreadWorker
worker = ThreadWorker(os.environ["NBQUEUE_URL"])
"""


@pytest.fixture
def notebook(kernel: Kernel) -> Kernel:
    from pathlib import Path

    support = str(Path(__file__).parents[1] / "support")
    kernel.run(SETUP.replace("SUPPORT", repr(support)))
    return kernel


def html_of(content: dict[str, Any]) -> str:
    return str(content["data"]["text/html"])


def test_a_future_is_shown_live_and_settled_without_a_widget(notebook: Kernel) -> None:
    [first] = displays(notebook.run("f = q.options(name='train').submit(abs, -3)\nf"))
    model = notebook.model_of(first)
    notebook.send_to_widget(model, {"kind": "ping", "page": "p"})
    assert "train" in html_of(first)
    assert "as of" in html_of(first)
    assert re.search(r"pending\s+train", first["data"]["text/plain"])
    notebook.run("worker.work()")
    # Once its page has replaced it, the widget is closed.
    notebook.send_to_widget(model, {"kind": "gone", "page": "p"})
    notebook.has_said(lambda m: m["msg_type"] == "comm_close")
    last = displays(notebook.messages)[-1]
    assert last["transient"] == first["transient"]
    assert set(last["data"]) == {"text/plain", "text/html"}
    assert "completed" in html_of(last)
    assert "as of" not in html_of(last)
    assert "data-nbqueue-view" not in html_of(last)


def test_what_failed_can_run_again_from_its_card_and_is_then_followed(notebook: Kernel) -> None:
    notebook.run("open('x', 'w').close(); import os")
    notebook.run(
        "f = q.options(name='rm').submit(os.rmdir, 'x'); g = q.map(os.rmdir, ['x']); worker.work()"
    )
    notebook.run("f.exception(), g.wait(); None")
    for name in ("f", "g"):
        # A card of a wait in the cell before may be updated, too.
        sent = [m for m in notebook.run(name) if m["msg_type"] == "display_data"]
        [first] = displays(sent)
        assert "NotADirectoryError" in html_of(first)
        model = notebook.model_of(first)
        notebook.send_to_widget(model, {"kind": "ping", "page": "p"})
        notebook.run("os.path.isfile('x') and os.remove('x'); os.makedirs('x', exist_ok=True)")
        notebook.send_to_widget(model, {"kind": "act", "action": "retry", "args": {}})
        notebook.listen_until(
            lambda m: m["msg_type"] == "update_display_data" and "as of" in html_of(m["content"])
        )
        notebook.run("worker.work()")
        notebook.has_said(
            lambda m: (
                m["msg_type"] == "update_display_data" and "completed" in html_of(m["content"])
            )
        )
        last = displays(notebook.messages)[-1]
        assert last["transient"] == first["transient"]
        assert name == "g" or "rm" in html_of(last)
        notebook.messages.clear()


def test_a_result_is_shown_escaped(notebook: Kernel) -> None:
    notebook.run("f = q.submit(str, '<script>x</script>'); worker.work(); f.result()")
    [only] = displays(notebook.run("f"))
    assert "<script>" not in html_of(only)
    assert "&lt;script&gt;" in html_of(only)


def test_a_button_acts_and_its_error_is_shown_in_the_view(notebook: Kernel) -> None:
    [first] = displays(notebook.run("f = q.submit(abs, -3)\nf"))
    model = notebook.model_of(first)
    notebook.send_to_widget(model, {"kind": "ping", "page": "p"})
    notebook.send_to_widget(model, {"kind": "act", "action": "cancel", "args": {}})
    notebook.listen_until(lambda m: m["msg_type"] == "update_display_data")
    assert "cancelled" in html_of(displays(notebook.messages)[-1])
    assert "True" in printed(notebook.run("print(f.cancelled())"))


@pytest.mark.slow
def test_ten_thousand_ends_and_three_views_are_few_messages(notebook: Kernel) -> None:
    notebook.run("groups = [q.map(abs, range(n)) for n in (3000, 3000, 4000)]")
    for number in range(3):
        [shown] = displays(notebook.run(f"groups[{number}]"))
        model = notebook.model_of(shown)
        notebook.send_to_widget(model, {"kind": "ping", "page": "p"})
    begun = len(notebook.messages)
    # Spread over ten seconds, while the kernel is free as after a cell that ended.
    notebook.run(
        "def work():\n"
        "    begun = time.monotonic()\n"
        "    for n in range(100):\n"
        "        worker.work(100)\n"
        "        threading.Event().wait(max(0, begun + (n + 1) * 0.1 - time.monotonic()))\n"
        "thread = threading.Thread(target=work); thread.start()"
    )
    ended: list[Any] = []

    def is_last(message: dict[str, Any]) -> bool:
        if message["msg_type"] == "update_display_data" and "as of" not in html_of(
            message["content"]
        ):
            ended.append(message)
        return len(ended) == 3

    notebook.listen_until(is_last, timeout=60)
    sent = [m for m in notebook.messages[begun:] if m["msg_type"] != "status"]
    kinds = {
        kind: sum(m["msg_type"] == kind for m in sent) for kind in {m["msg_type"] for m in sent}
    }
    assert len(sent) <= 150, kinds
    # And they were live, not just settled at the end.
    assert kinds.get("comm_msg", 0) >= 20, kinds
    for message in ended:
        assert "(100%)" in html_of(message["content"])


def test_a_wait_shows_its_bar_and_the_stop_button_ends_only_the_wait(notebook: Kernel) -> None:
    notebook.run("g = q.map(abs, range(3))")
    notebook.execute("g.results()")
    notebook.listen_until(lambda m: m["msg_type"] == "display_data")
    notebook.interrupt()
    notebook.listen_until(lambda m: m["msg_type"] == "error")
    assert notebook.messages[-1]["content"]["ename"] == "KeyboardInterrupt"
    assert len(notebook.messages[-1]["content"]["traceback"]) <= 3
    notebook.listen_until_idle()
    assert "0 3" in printed(notebook.run("print(g.counts().cancelled, len(g))"))
    assert "[0, 1, 2]" in printed(notebook.run("worker.work(); print(g.results())"))


def test_an_interrupted_wait_says_that_the_tasks_go_on(notebook: Kernel) -> None:
    for number, (wait, way_back) in enumerate(
        (
            ("f.result()", 'q.get("t0")'),
            ("await f", 'q.get("t1")'),
            ("next(g)", 'q.group("sweep 2")'),
            ("next(g.as_completed())", 'q.group("sweep 3")'),
            ("await g", 'q.group("sweep 4")'),
            ("nbqueue.wait(f, g)", "3 of 3 tasks go on"),
        )
    ):
        notebook.run(
            f"f = q.options(task_id='t{number}').submit(abs, -1)\n"
            f"g = q.options(name='sweep {number}').map(abs, range(2))"
        )
        notebook.execute(wait)
        notebook.listen_until(lambda m: m["msg_type"] == "display_data")
        notebook.interrupt()
        notebook.listen_until(lambda m: m["msg_type"] == "error")
        [first, last] = notebook.messages[-1]["content"]["traceback"]
        assert "interrupted" in first
        assert way_back in last
        notebook.listen_until_idle()


def test_a_wait_and_its_handle_in_one_cell_are_one_card(notebook: Kernel) -> None:
    notebook.run("work = lambda: (threading.Event().wait(1.5), worker.work())")
    for make, wait in (
        ("h = q.map(abs, range(3))", "h.wait()"),
        ("h = q.map(abs, range(3))", "await h"),
        ("h = q.submit(abs, -3)", "h.result()"),
        ("h = q.map(abs, range(3))", "h.wait(1)"),
    ):
        notebook.run(f"{make}; threading.Thread(target=work).start()")
        shown = displays(notebook.run(f"{wait}; h"))
        assert len({each["transient"]["display_id"] for each in shown}) == 1, wait
        notebook.run("h.wait() if hasattr(h, 'wait') else h.result()")
    # A handle whose tasks run again has a card of its own.
    notebook.run("h = q.map(int, ['x']); threading.Thread(target=work).start()")
    shown = displays(notebook.run("h.wait(); h.retry(); h"))
    assert len({each["transient"]["display_id"] for each in shown}) == 2


SHORT_WAITS = (
    "g.results()",
    "list(g)",
    "list(g.as_completed())",
    "nbqueue.wait(g)",
    "await g",
    "[r async for r in g]",
    "[f async for f in g.as_completed()]",
)


def test_many_short_waits_in_a_row_show_one_bar(notebook: Kernel) -> None:
    notebook.run(
        "def work(count):\n"
        "    for _ in range(count):\n"
        "        threading.Event().wait(0.2)\n"
        "        worker.work(1)\n"
    )
    for wait in SHORT_WAITS:
        notebook.run("g = q.map(abs, range(6)); threading.Thread(target=work, args=(6,)).start()")
        shown = displays(notebook.run(wait + "; None"))
        assert len({each["transient"]["display_id"] for each in shown}) == 1, wait
        assert "6 of 6 (100%)" in html_of(shown[-1]), wait


WAITS = (
    "await f",
    "await asyncio.wait_for(f, 60)",
    "await asyncio.gather(f)",
    "await g",
)


@pytest.mark.parametrize("wait", WAITS)
def test_the_stop_button_ends_an_await_and_leaves_the_task(notebook: Kernel, wait: str) -> None:
    notebook.run("import asyncio; f = q.submit(abs, -1); g = q.map(abs, range(2))")
    notebook.execute(wait)
    notebook.listen_until(lambda m: m["msg_type"] == "display_data")
    notebook.interrupt()
    notebook.listen_until_idle()
    said = notebook.run("worker.work(); print(f.result(), g.results(), f.cancelled())")
    assert "1 [0, 1] False" in printed(said)


def test_what_was_settled_between_two_cells_is_sent_again_within_the_next(
    notebook: Kernel,
) -> None:
    notebook.run("f = q.submit(abs, -1)\nf")
    notebook.run("threading.Timer(0.5, worker.work).start()")
    notebook.listen_until(lambda m: m["msg_type"] == "update_display_data")
    assert "completed" in html_of(displays(notebook.messages)[-1])
    # Runners of notebooks without a page keep only messages of the cell that runs.
    said = notebook.run("None")
    [cell] = [m["parent_header"]["msg_id"] for m in said if m["msg_type"] == "execute_input"]
    [again] = displays([m for m in said if m["parent_header"].get("msg_id") == cell])
    assert "completed" in html_of(again)
    assert not displays(notebook.run("None"))


IS_CONCURRENT = sys.version_info >= (3, 11)
"""True if a kernel receives messages of widgets while a cell awaits.

ipykernel does since 7.4, which needs Python 3.11; older ones receive them when the cell has ended.
"""


def test_buttons_work_while_a_cell_awaits(notebook: Kernel) -> None:
    [first] = displays(notebook.run("f = q.submit(abs, -1)\nf"))
    model = notebook.model_of(first)
    notebook.execute(
        "print('waits')\ntry:\n    await f\nexcept BaseException as e: print(type(e).__name__)"
    )
    notebook.send_to_widget(model, {"kind": "act", "action": "cancel", "args": {}})
    notebook.listen_until(lambda m: m["msg_type"] == "stream")
    if not IS_CONCURRENT:
        notebook.interrupt()
    notebook.has_said(lambda m: m["msg_type"] == "stream" and "Cancelled" in m["content"]["text"])
    notebook.has_said(
        lambda m: m["msg_type"] == "update_display_data" and "cancelled" in html_of(m["content"])
    )


def test_a_worker_that_a_cell_starts_logs_to_a_file(notebook: Kernel) -> None:
    said = notebook.run("w = nbqueue.Worker(concurrency=1); w.start()")
    [card] = [m["content"]["data"] for m in said if m["msg_type"] == "execute_result"]
    log = re.search(r"log=(\S+)>", card["text/plain"])
    assert log
    assert log[1] in card["text/html"]
    said = notebook.run(
        "q.submit(abs, -3).result(); print(w.log.read_text() != ''); p = w.log; w.stop(); "
        "print(p.exists())"
    )
    assert printed(said) == "True\nFalse\n"
    assert not [m for m in notebook.messages if m["content"].get("name") == "stderr"]
