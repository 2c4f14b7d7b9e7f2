"""Rich displays of a task, without a shell."""

from __future__ import annotations

import base64
import importlib
import subprocess
import sys
from typing import Any

import pytest
from capturing import run_task

from nbqueue.executor import pipe
from nbqueue.executor.output import displays
from nbqueue.executor.output.import_hooks import ImportHooks


class Rich:
    def __repr__(self) -> str:
        return "plain"

    def _repr_html_(self) -> str:
        return "<b>rich</b>"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return b"\x89PNG", {"width": 7}

    def _repr_svg_(self) -> str:
        raise ValueError("no such form")

    def _repr_latex_(self) -> None:
        return None


class Bundle:
    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return {"text/plain": "p", "application/x": {"a": 1}}, {"application/x": {"b": 2}}


class Own:
    def _ipython_display_(self) -> None:
        displays.display("inside")


def test_all_forms_of_an_object_are_taken() -> None:
    out = run_task(lambda: displays.display(Rich(), Bundle(), Own()))
    image = base64.b64encode(b"\x89PNG").decode()
    assert out.displays == [
        {
            "data": {"text/plain": "plain", "text/html": "<b>rich</b>", "image/png": image},
            "metadata": {"image/png": {"width": 7}},
        },
        {
            "data": {"text/plain": "p", "application/x": {"a": 1}},
            "metadata": {"application/x": {"b": 2}},
        },
        {"data": {"text/plain": "'inside'"}, "metadata": {}},
    ]


def test_forms_can_be_chosen_and_classes_are_not_asked() -> None:
    def task() -> None:
        displays.display(Rich(), include=["text/html"], metadata={"m": 1})
        displays.display(Rich(), exclude=["image/png", "text/html"])
        displays.display({"text/x": "raw"}, raw=True)
        displays.display(Rich)

    assert [each["data"] for each in run_task(task).displays] == [
        {"text/html": "<b>rich</b>"},
        {"text/plain": "plain"},
        {"text/x": "raw"},
        {"text/plain": displays._text(Rich)},
    ]


def test_a_display_with_an_id_can_change() -> None:
    def task() -> None:
        handle = displays.display(1, display_id=True)
        assert handle is not None
        handle.update(2)
        displays.display(3, display_id="mine")
        displays.clear_output(wait=True)

    out = run_task(task)
    first, second, third = (each["id"] for each in out.displays)
    assert first == second
    assert third == "mine"
    assert out.outputs[-1].kind == pipe.CLEAR


def test_what_is_too_large_leaves_a_note() -> None:
    def task() -> None:
        displays.display({"text/plain": "x" * 5_000_001}, raw=True)
        displays.display("after")

    out = run_task(task)
    assert out.text() == (
        "[a display is left out: it has 5,000,041 bytes, and 5,000,000 can be kept]\n"
    )
    assert len(out.displays) == 1


def test_outside_of_a_task_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    displays.display(Rich())
    displays.publish_display_data({"text/plain": "p"})
    displays.clear_output()
    assert capsys.readouterr().out == "plain\np\n"


def test_figures_that_are_shown_become_images_and_are_closed() -> None:
    program = """
import sys, os
os.environ["MPLBACKEND"] = "Agg"
sys.path.insert(0, sys.argv[1])
from capturing import run_task
from nbqueue.executor.output.displays import patch_pyplot, display
from nbqueue.executor.output.import_hooks import ImportHooks
ImportHooks({"matplotlib.pyplot": patch_pyplot}).install()
def task():
    import matplotlib.pyplot as plt
    plt.plot([1, 2])
    fig = plt.figure()
    plt.show()
    assert plt.get_fignums() == []
    display(fig)
out = run_task(task)
assert out.text() == "", out.text()
print([d["data"]["image/png"][:5] for d in out.displays])
"""
    support = str(importlib.import_module("capturing").__file__).rpartition("/")[0]
    done = subprocess.run(
        [sys.executable, "-c", program, support], capture_output=True, text=True, timeout=55
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['iVBOR', 'iVBOR', 'iVBOR']\n"


def test_ipython_without_a_shell_displays_into_the_output() -> None:
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from capturing import run_task
from nbqueue.executor.output.displays import patch_ipython
from nbqueue.executor.output.import_hooks import ImportHooks
ImportHooks({"IPython.core.display_functions": patch_ipython}).install()
def task():
    from IPython.display import HTML, display, update_display, publish_display_data
    display(HTML("<i>x</i>"), display_id="d")
    update_display(HTML("<i>y</i>"), display_id="d")
    publish_display_data({"text/plain": "z"})
out = run_task(task)
assert out.text() == "", out.text()
print([d["data"].get("text/html", d["data"]["text/plain"]) for d in out.displays])
"""
    support = str(importlib.import_module("capturing").__file__).rpartition("/")[0]
    done = subprocess.run(
        [sys.executable, "-c", program, support], capture_output=True, text=True, timeout=55
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['<i>x</i>', '<i>y</i>', 'z']\n"


def test_a_hook_acts_once_and_its_failure_harms_nothing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hooked_one.py").write_text("value = 1\n")
    (tmp_path / "hooked_two.py").write_text("value = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    acted: list[str] = []

    def act(module: Any) -> None:
        acted.append(module.__name__)
        module.value += 10

    def fail(module: Any) -> None:
        raise ValueError("another version")

    ImportHooks({"hooked_one": act, "hooked_two": fail, "not_there": act}).install()
    one, two = importlib.import_module("hooked_one"), importlib.import_module("hooked_two")
    assert (one.value, two.value, acted) == (11, 2, ["hooked_one"])
    assert "another version" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("not_there")
    for name in ("hooked_one", "hooked_two"):
        monkeypatch.delitem(sys.modules, name)
