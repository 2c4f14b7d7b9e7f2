"""``%nbqueue`` in a real kernel, with real workers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kernel import Kernel, displays, printed
from waits import wait_until

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


def results(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the results of the cells' last lines, in all their forms."""
    return [m["content"]["data"] for m in messages if m["msg_type"] == "execute_result"]


def text_of(messages: list[dict[str, Any]]) -> str:
    """Return all text that a cell showed."""
    shown = [each["text/plain"] for each in results(messages)]
    shown += [each["data"].get("text/plain", "") for each in displays(messages)]
    return printed(messages) + "\n".join(shown)


def refusal(kernel: Kernel, line: str) -> str:
    """Return the one line that answers a wrong command, without a traceback."""
    messages = kernel.run(line, allow_error=True)
    # IPython prints a usage error, and sends no traceback of it.
    assert not [m for m in messages if m["msg_type"] == "error"]
    said = printed(messages)
    assert said.startswith("UsageError: ")
    assert "nbqueue/notebook" not in said
    return said


def local_files(folder: Path) -> list[dict[str, Any]]:
    """Return the records of workers that were started here."""
    return [
        worker
        for path in folder.glob("state/nbqueue/workers/*.json")
        for worker in json.loads(path.read_text())
    ]


def pid_in(text: str) -> int:
    found = re.search(r"worker (\d+)", text)
    assert found, text
    return int(found[1])


@pytest.fixture
def notebook(kernel: Kernel, jupyter: Path) -> Iterator[Kernel]:
    kernel.run("%load_ext nbqueue\nimport nbqueue\nq = nbqueue.connect()")
    yield kernel
    for worker in local_files(jupyter):
        # A test that failed may have left it; one that passed has not.
        try:
            process = psutil.Process(worker["pid"])
            if "nbqueue.worker" in process.cmdline():
                process.terminate()
        except psutil.NoSuchProcess:
            pass


def test_up_waits_until_ready_and_never_starts_a_second_set(
    notebook: Kernel, jupyter: Path
) -> None:
    messages = notebook.run("%nbqueue up -n 2 --queues critical=6,default")
    first = text_of(messages)
    # It is shown from the beginning, and what is saved at the end needs no widget.
    starting, *_, ready = displays(messages)
    assert "a worker starts" in starting["data"]["text/html"]
    assert set(ready["data"]) == {"text/plain", "text/html"}
    pid = pid_in(first)
    assert "is ready; 2 slots, queues critical=6, default" in first
    [noted] = local_files(jupyter)
    assert Path(noted["log"]).exists()
    assert noted["log"] in first
    assert noted["folder"] == str(jupyter.resolve())
    # Ready is ready: no waiting for a worker to appear.
    [server] = eval_in(notebook, "[(s.pid, s.concurrency, dict(s.queues)) for s in SERVERS]")
    assert server == [pid, 2, {"critical": 6, "default": 1}]
    again = text_of(notebook.run("%nbqueue up -n 3"))
    assert f"worker {pid} runs already: %nbqueue restart starts it anew" in again
    assert len(local_files(jupyter)) == 1
    assert "6" in text_of(
        notebook.run("q.options(queue='critical').submit(sum, [1, 2, 3]).result()")
    )
    # It runs in the folder and with the Python of the notebook.
    where = "import os, sys\nprint(*q.submit(lambda: (os.getcwd(), sys.prefix)).result(), sep='|')"
    folder, prefix = printed(notebook.run(where)).strip().split("|")
    assert Path(folder) == jupyter.resolve()
    assert prefix == eval_in(notebook, "__import__('sys').prefix")

    restarted = pid_in(text_of(notebook.run("%nbqueue restart -n 1 --executor thread")))
    assert restarted != pid
    [noted] = local_files(jupyter)
    assert (noted["pid"], noted["executor"]) == (restarted, "thread")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    assert "1 worker ended" in text_of(notebook.run("%nbqueue down"))
    assert local_files(jupyter) == []
    assert not Path(noted["log"]).exists()
    assert "no worker was started here" in text_of(notebook.run("%nbqueue down"))


def eval_in(notebook: Kernel, expression: str) -> Any:
    """The value of an expression in the kernel, as JSON has it."""
    expression = expression.replace("SERVERS", "q.inspector.servers()")
    return json.loads(printed(notebook.run(f"import json; print(json.dumps({expression}))")))


def test_workers_survive_a_restart_of_the_kernel_unless_asked_not_to(
    notebook: Kernel, jupyter: Path
) -> None:
    pid = pid_in(text_of(notebook.run("%nbqueue up -n 1")))
    notebook.restart()
    notebook.run("%load_ext nbqueue")
    assert f"worker {pid} runs already" in text_of(notebook.run("%nbqueue up"))
    assert "1 worker with 1 slot" in text_of(notebook.run("%nbqueue status"))
    notebook.run("%nbqueue down")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    pid = pid_in(text_of(notebook.run("%nbqueue up -n 1 --with-kernel")))
    notebook.restart()
    wait_until(lambda: not any(each["pid"] == pid and alive(pid) for each in local_files(jupyter)))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_idle_worker_ends_by_itself(notebook: Kernel) -> None:
    pid = pid_in(text_of(notebook.run("%nbqueue up -n 1 --idle 1s")))
    wait_until(lambda: not alive(pid), 30)
    assert "no worker was started here that still runs" in text_of(notebook.run("%nbqueue down"))


def test_a_worker_that_crashes_at_start_shows_its_error(notebook: Kernel, jupyter: Path) -> None:
    (jupyter / "sitecustomize.py").write_text("raise SystemExit('no such luck')\n")
    notebook.run(f"import os; os.environ['PYTHONPATH'] = {str(jupyter)!r}")
    said = refusal(notebook, "%nbqueue up -n 1")
    assert "did not start" in displays(notebook.messages)[-1]["data"]["text/plain"]
    assert "WorkerDidNotStart" in said
    assert "no such luck" in said
    assert local_files(jupyter) == []


def test_commands_for_tasks(notebook: Kernel) -> None:
    notebook.run(
        "import os, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1] / 'support')!r})\n"
        "from thread_worker import ThreadWorker\n"
        "worker = ThreadWorker(os.environ['NBQUEUE_URL'])\n"
        "f = q.options(name='mine').submit(abs, -3)\n"
        "h = q.options(delay='1h').submit(abs, -4)\n"
        "b = q.submit(int, 'x')\n"
    )
    ids = eval_in(notebook, "[f.id, h.id, b.id]")
    [table] = results(notebook.run("%nbqueue tasks --state scheduled"))
    assert ids[1] in table["text/html"]
    assert ids[0] not in table["text/html"]
    [table] = results(notebook.run("%nbqueue tasks --limit 1"))
    assert sum(task_id in table["text/html"] for task_id in ids) == 1
    assert "mine" in text_of(notebook.run("%nbqueue attach mine"))
    assert "cancel: 1 done" in text_of(notebook.run("%nbqueue cancel mine"))
    assert eval_in(notebook, "f.cancelled()") is True
    notebook.run("worker.work(); b.exception()")
    assert "retry: 1 done" in text_of(notebook.run(f"%nbqueue retry {ids[2]}"))
    assert eval_in(notebook, "q.inspector.task(b.id).state") == "pending"
    notebook.run(f"%nbqueue logs {ids[2]}")
    assert "pending" in text_of(notebook.run("%nbqueue status"))
    assert "TaskNotFound" in refusal(notebook, "%nbqueue attach nobody")
    notebook.run("q.options(name='sweep').map(abs, range(3))")
    assert "sweep" in text_of(notebook.run("%nbqueue groups"))
    assert "0 of 3" in text_of(notebook.run("%nbqueue attach sweep"))


def test_commands_for_schedules_the_panel_and_the_store(notebook: Kernel, jupyter: Path) -> None:
    [card] = results(notebook.run("q.schedule(abs, '0 3 * * *', args=(-1,), id='<nightly>')"))
    assert "&lt;nightly&gt;" in card["text/html"]
    assert "<nightly>" not in card["text/html"]
    [table] = results(notebook.run("%nbqueue schedules"))
    assert "nightly" in table["text/html"]
    [panel] = displays(notebook.run("%nbqueue panel --read-only"))
    assert "read only" not in panel["data"]["text/plain"]
    assert "nbqueue at embedded://" in panel["data"]["text/plain"]
    assert "read only" in panel["data"]["text/html"]
    other = f"embedded://{jupyter / 'other'}"
    [client] = results(notebook.run(f"%nbqueue connect {other}"))
    assert other in client["text/plain"]
    assert other in text_of(notebook.run("%nbqueue status"))
    assert "is not a store URL" in refusal(notebook, "%nbqueue connect http://x")
    from nbqueue.store.embedded import stop_server

    stop_server(jupyter / "other")


WRONG = (
    ("%nbqueue nonsense", "'nonsense' is no command; there are attach, cancel"),
    ("%nbqueue stauts", "'stauts' is no command: did you mean 'status'?"),
    ("%nbqueue up -m 4", "'-m' is unknown\nusage: %nbqueue up [-h] [-n N]"),
    ("%nbqueue up --executer thread", "did you mean '--executor'?"),
    ("%nbqueue tasks --state archved", "did you mean 'archived'?"),
    ("%nbqueue up -n none", "'none' is not a whole number from 1 on"),
    ("%nbqueue up --queues =3", "must be names such as critical=6,default"),
    ("%nbqueue up --executor gpu", "'gpu' is no executor; there are process"),
    ("%nbqueue up --idle soon", "--idle"),
    ("%nbqueue up --detach --with-kernel", "not allowed with"),
    ("%nbqueue logs", "required: task"),
    ("%nbqueue connect", "required: url"),
    ("%nbqueue cancel 'x", "cannot be read"),
)


def test_what_is_said_wrongly_is_one_line_and_help_is_help(notebook: Kernel) -> None:
    for line, expected in WRONG:
        assert expected in refusal(notebook, line)
    shown = printed(notebook.run("%nbqueue up --help"))
    assert "--with-kernel" in shown
    assert "usage: %nbqueue up" in shown
    for line in ("%nbqueue up?", "%nbqueue up -n 3 ?", "  %nbqueue up??"):
        assert printed(notebook.run(line)) == shown
    reply = notebook.ask_about("%nbqueue")
    for command in ("up", "down", "restart", "status", "panel", "tasks", "logs", "cancel"):
        assert re.search(rf"^ +{command} ", reply, re.MULTILINE), reply


def test_tab_completes_commands_options_and_ids(notebook: Kernel) -> None:
    assert notebook.complete("%nbqueue sta") == ["status"]
    assert set(notebook.complete("%nbqueue ")) >= {"up", "down", "logs", "schedules", "connect"}
    assert "--with-kernel" in notebook.complete("%nbqueue up --")
    task_id = eval_in(notebook, "q.submit(abs, -3).id")
    assert task_id in notebook.complete("%nbqueue logs ")
    assert notebook.complete(f"x = 1\n%nbqueue logs {task_id[:8]}") == [task_id]
    notebook.run("f = q.options(queue='slow', name='long-run').submit(abs, -3)")
    assert notebook.complete("%nbqueue attach lo") == ["long-run"]
    assert notebook.complete("%nbqueue tasks --queue ") == ["default", "slow"]
    assert notebook.complete("%nbqueue tasks --queue=sl") == ["slow"]
    assert notebook.complete("%nbqueue tasks --type ") == ["abs"]
    assert notebook.complete("%nbqueue tasks --state arch") == ["archived"]
    assert notebook.complete("%nbqueue up --executor ") == ["process", "thread"]
    assert notebook.complete("%nbqueue up -q sl") == ["slow"]
    notebook.run('q.options(name="grid", delay="1h").map(abs, range(3))')
    assert notebook.complete("%nbqueue attach gr") == ["grid"]
    assert notebook.complete('q.group("') == ["grid"]
    notebook.run("%nbqueue cancel grid")
    assert printed(notebook.run('print(q.group("grid").counts().cancelled)')) == "3\n"
    # Whatever else is completed, is so as ever.
    assert notebook.complete("q.sub") == ["submit"]


def test_loading_twice_and_unloading_are_harmless(notebook: Kernel) -> None:
    notebook.run("%reload_ext nbqueue")
    notebook.run("import nbqueue; nbqueue.load_ipython_extension(get_ipython())")
    assert notebook.complete("%nbqueue sta") == ["status"]
    notebook.run("%unload_ext nbqueue")
    assert "not found" in refusal(notebook, "%nbqueue status")
    assert "status" not in notebook.complete("%nbqueue sta")
    notebook.run("%load_ext nbqueue\n%nbqueue status")
