"""Views without a notebook: in a terminal, a script, a pipe, an exported file."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

SUPPORT = str(Path(__file__).parents[1] / "support")
SETUP = f"""
import os, sys, threading
sys.path.insert(0, {SUPPORT!r})
import nbqueue
from thread_worker import ThreadWorker
q = nbqueue.connect()
worker = ThreadWorker(os.environ["NBQUEUE_URL"])
"""
LATE = "threading.Timer(1.5, worker.work).start()\n"
UNSERVED = "no worker serves queue 'default' at embedded://"
DEAD = ("LiveHTML(", "VBox(", "children=", "widget-view+json", "model not found")


def script(folder: Path, body: str) -> list[str]:
    path = folder / "script.py"
    path.write_text(SETUP + body)
    return [sys.executable, str(path)]


def on_terminal(words: list[str], folder: Path) -> tuple[str, str]:
    """Run a program whose standard error alone is a terminal; returns what it wrote, and there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    process = subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True
    )
    os.close(theirs)
    seen, limit = b"", time.monotonic() + 60
    try:
        while time.monotonic() < limit:
            ready, _, _ = select.select([ours], [], [], 1.0)
            try:
                part = os.read(ours, 65_536) if ready else b"-"
            except OSError:
                break  # the other end is closed
            if not part:
                break
            seen += part if ready else b""
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert process.returncode == 0, seen.decode()
    return out, seen.decode()


def test_a_script_that_waits_shows_one_line_on_a_terminal_and_takes_it_away(
    jupyter: Path,
) -> None:
    body = LATE + "f = q.options(name='train').submit(abs, -3)\nprint(f.result())\n"
    out, shown = on_terminal(script(jupyter, body), jupyter)
    assert out == "3\n"
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "○ pending  train" in plain
    assert f"! {UNSERVED}" in " ".join(plain.split())
    # It is drawn over itself: nothing moves on, and nothing is left of it at the end.
    assert plain.count("\n") == shown.count("\x1b[1A")
    assert shown.rstrip().endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A\x1b[2K"))


def test_a_wait_that_is_short_shows_nothing_and_one_on_no_terminal_its_reason(
    jupyter: Path,
) -> None:
    body = LATE + "g = q.map(abs, [-1, -2])\nprint(g.results())\n"
    done = subprocess.run(
        script(jupyter, body), cwd=jupyter, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[1, 2]\n"
    assert done.stderr.startswith(f"nbqueue: {UNSERVED}")
    # Other tests may have workers at stores of their own, which further lines name.
    lines = done.stderr.splitlines()
    assert [line for line in lines if "runs at another store" not in line] == lines[:1]
    body = "g = q.map(abs, [-1, -2])\nworker.work()\nprint(g.results())\n"
    out, shown = on_terminal(script(jupyter, body), jupyter)
    assert (out, shown) == ("[1, 2]\n", "")


def test_the_progress_line_can_be_switched_off(
    jupyter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBQUEUE_PROGRESS", "0")
    out, shown = on_terminal(script(jupyter, LATE + "print(q.submit(abs, -3).result())\n"), jupyter)
    assert (out, shown) == ("3\n", "")


def test_a_plain_ipython_shows_text(jupyter: Path) -> None:
    lines = f"""
exec({SETUP!r})
f = q.options(name='train').submit(abs, -3)
f
g = q.map(abs, range(3))
g
worker.work()
f.result()
f
g
q
q.panel()
f.show()
%load_ext nbqueue
%nbqueue status
%nbqueue tasks
%nbqueue cancel nobody
q.schedule(abs, "@hourly", args=(1,), id="s")
""".replace("exec(", "exec(", 1)
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--colors=NoColor", "--no-banner"],
        cwd=jupyter,
        input=lines,
        capture_output=True,
        text=True,
        timeout=90,
    )
    shown = done.stdout + done.stderr
    assert "○ pending  train" in shown
    assert "✓ completed  train" in shown
    assert "→ 3" in shown
    assert "○ pending  abs  0 of 3" in shown
    assert "✓ completed  abs  3 of 3" in shown
    assert "nbqueue at embedded://" in shown
    assert "TaskNotFound" in shown
    assert "<Schedule 's' '@hourly' abs" in shown
    assert "Traceback" not in shown
    assert not any(dead in shown for dead in DEAD), shown
    assert "<div" not in shown


def test_an_exported_notebook_shows_what_was_there_at_the_end(jupyter: Path) -> None:
    cells = (
        SETUP + "f = q.options(name='train').submit(abs, -3)\nf",
        "g = q.map(abs, range(3))\ng",
        LATE + "q.submit(abs, -4).result(), g.results()",
        "waiting = q.options(delay='1h', name='later').submit(abs, 1)\nwaiting.cancel()\nwaiting",
    )
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    NotebookClient(
        notebook,
        timeout=60,
        kernel_name="nbqueue-test",
        resources={"metadata": {"path": str(jupyter)}},
    ).execute()
    saved = nbformat.writes(notebook)
    assert not any(dead in saved for dead in DEAD)
    path = jupyter / "notebook.ipynb"
    path.write_text(saved)
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", str(path)],
        cwd=jupyter,
        check=True,
        capture_output=True,
        timeout=60,
    )
    # The page's own scripts, and the states of widgets that nbclient keeps, show nothing.
    page = re.sub(r"<script.*?</script>", "", (jupyter / "notebook.html").read_text(), flags=re.S)
    assert "3 of 3 (100%)" in page
    assert "cancelled" in page
    assert page.count('aria-label="task train"') == 1
    assert "<button" not in page
    assert not any(dead in page for dead in DEAD if dead != "children=")
