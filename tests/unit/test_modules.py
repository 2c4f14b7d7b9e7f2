"""Local modules are found by reading a call's code, and kept separate per call."""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import sys
import textwrap
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbqueue.calls import functions
from nbqueue.calls.functions import Loaded, dump_function, load_code
from nbqueue.calls.modules import active_modules, lazy_imports


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules, on the path. What is imported of it is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> None:
    path = folder / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))


def define(source: str, name: str = "fn") -> Callable[..., Any]:
    """A function as a notebook has it."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(textwrap.dedent(source), "<cell>", "exec"), space)
    found: Callable[..., Any] = space[name]
    return found


def away(folder: Path, fn: Callable[..., Any]) -> Loaded:
    """Load ``fn`` where its modules cannot be imported."""
    blob = dump_function(fn).blob
    for path in folder.rglob("*.py"):
        path.rename(path.with_suffix(".gone"))
    for name in [name for name in sys.modules if (folder / name.partition(".")[0]).exists()]:
        del sys.modules[name]
    importlib.invalidate_caches()
    return load_code(blob)


@pytest.fixture
def call() -> Iterator[Callable[..., Any]]:
    """Call a function as an executor does."""
    entered = []

    def run(loaded: Loaded, *args: Any) -> Any:
        active_modules.enter(loaded.modules)
        entered.append(loaded.modules)
        return loaded.function(*args)

    before = dict(sys.modules)
    yield run
    for modules in entered:
        active_modules.leave(modules)
    active_modules.enter(load_code(dump_function(len).blob).modules)  # those above make room
    sys.modules["__main__"] = before["__main__"]


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("import helper", {"helper"}),
        ("import helper as other", {"helper"}),
        ("from helper import a, b", {"helper"}),
        ("import parts.one as one", {"parts", "parts.one"}),
        ("from parts import one", {"parts", "parts.one"}),
        ("from parts.one import a", {"parts", "parts.one"}),
        ("importlib.import_module('parts.one')", {"parts", "parts.one"}),
        ("__import__('helper')", {"helper"}),
        ("import json, numpy, no_such", set()),
        ("(lambda: __import__('helper'))()", {"helper"}),
        ("try:\n        import helper\n    except ImportError: pass", {"helper"}),
        ("class A:\n        from helper import a", {"helper"}),
        ("def inner():\n        import helper", {"helper"}),
        ("[__import__('helper') for i in range(1)]", {"helper"}),
    ],
)
def test_imports_of_local_modules_are_found_in_code(
    folder: Path, statement: str, names: set[str]
) -> None:
    write(folder, "helper", "a = b = 1")
    write(folder, "parts/__init__", "")
    write(folder, "parts/one", "a = 1")
    fn = define(f"import importlib\ndef fn():\n    {statement}\n")
    assert dump_function(fn).imports == names
    assert not any(name in sys.modules for name in ("helper", "parts"))


def test_relative_imports_and_imports_of_imports_are_followed(folder: Path, call: Any) -> None:
    write(folder, "parts/__init__", "from . import one")
    write(folder, "parts/one", "from .two import VALUE\ndef get():\n    from .. import parts")
    write(folder, "parts/two", "import helper\nVALUE = helper.VALUE + 1")
    write(folder, "helper", "VALUE = 1")
    fn = define("def fn():\n    import parts\n    return parts.one.VALUE")
    assert dump_function(fn).imports == {"parts", "parts.one", "parts.two", "helper"}
    assert call(away(folder, fn)) == 2


def test_a_file_that_was_just_written_is_found(folder: Path) -> None:
    fn = define("def fn():\n    try:\n        import newest\n    except ImportError: pass")
    assert dump_function(fn).imports == set()
    write(folder, "newest", "")
    assert dump_function(fn).imports == {"newest"}


def test_a_module_with_a_mistake_fails_where_it_is_imported(folder: Path, call: Any) -> None:
    write(folder, "helper", "def (:")
    fn = define("def fn():\n    import helper")
    with pytest.raises(SyntaxError):
        call(away(folder, fn))


def test_a_module_that_failed_is_run_again_at_the_next_import(folder: Path, call: Any) -> None:
    write(folder, "helper", "import os\nos.environ['NBQUEUE_TEST_READY']")
    loaded = away(folder, define("def fn():\n    import helper\n    return 'fine'"))
    with pytest.raises(KeyError):
        call(loaded)
    os.environ["NBQUEUE_TEST_READY"] = "1"
    try:
        assert call(loaded) == "fine"
    finally:
        del os.environ["NBQUEUE_TEST_READY"]


def test_what_a_late_module_cannot_send_is_made_by_its_source(folder: Path, call: Any) -> None:
    write(
        folder,
        "helper",
        """
        import threading
        lock = threading.Lock()
        large = b"x" * 2_000_000
        class Thing: pass
        def locked():
            with lock: return len(large)
        """,
    )
    helper = importlib.import_module("helper")
    fn = define("def fn(Thing):\n    import helper\n    return helper.locked(), helper.Thing")
    code = dump_function(fn)
    assert len(code.blob) < 100_000
    size, thing = call(away(folder, fn), helper.Thing)
    assert size == 2_000_000
    assert thing is helper.Thing


def test_why_a_name_cannot_be_imported_is_said(folder: Path, call: Any) -> None:
    write(folder, "helper", "import threading, os\nlock = threading.Lock()")
    importlib.import_module("helper")
    write(folder, "helper", "raise ValueError('no device')")
    fn = define("def fn():\n    from helper import lock")
    with pytest.raises(ImportError, match=r"helper\.lock was not sent .* no device"):
        call(away(folder, fn))


def test_sys_modules_is_as_before_when_a_call_ends_outside_of_an_executor(folder: Path) -> None:
    write(folder, "helper", "VALUE = 1")
    mine = importlib.import_module("helper")
    loaded = load_code(dump_function(define("import helper\ndef fn(): return helper.VALUE")).blob)
    main = sys.modules["__main__"]
    active_modules.enter(loaded.modules)
    assert loaded.function() == 1
    assert sys.modules["helper"] is not mine
    active_modules.leave(loaded.modules)
    assert sys.modules["helper"] is mine
    assert sys.modules["__main__"] is main


def test_an_executor_keeps_modules_until_another_call_comes(
    folder: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active_modules, "_keeps_newest", True)
    write(folder, "helper", "VALUE = 1")
    loaded = away(folder, define("import helper\ndef fn(): return helper"))
    active_modules.enter(loaded.modules)
    active_modules.leave(loaded.modules)
    theirs = loaded.function()
    assert sys.modules["helper"] is theirs
    call(load_code(dump_function(define("def fn(): return 1")).blob))
    assert sys.modules.get("helper") is not theirs


def test_sys_modules_is_as_before_when_another_call_comes(folder: Path, call: Any) -> None:
    write(folder, "helper", "VALUE = 1")
    other = types.ModuleType("helper")
    loaded = away(
        folder, define("def fn():\n    import helper, sys\n    return sys.modules[helper.__name__]")
    )
    sys.modules["helper"] = other
    try:
        assert call(loaded).VALUE == 1
        active_modules.leave(loaded.modules)
        assert call(load_code(dump_function(define("def fn(): return 1")).blob)) == 1
        assert sys.modules["helper"] is other
        active_modules.enter(loaded.modules)
    finally:
        del sys.modules["helper"]


def test_modules_of_calls_that_are_forgotten_are_collected(folder: Path, call: Any) -> None:
    write(folder, "helper", "class Thing: pass\ndef make(): return Thing()")
    loaded = away(folder, define("def fn():\n    import helper\n    return helper"))
    active_modules.enter(loaded.modules)
    gone = weakref.ref(loaded.function())
    active_modules.leave(loaded.modules)
    del loaded
    call(load_code(dump_function(define("def fn(): return 1")).blob))
    gc.collect()
    assert gone() is None


def test_other_code_imports_as_before(folder: Path, call: Any) -> None:
    write(folder, "helper", "VALUE = 1")
    assert call(away(folder, define("def fn():\n    import helper\n    return helper.VALUE"))) == 1
    with pytest.raises(ModuleNotFoundError):
        exec("import helper.more", {"__name__": "other"})
    import json.decoder as decoder

    assert decoder is sys.modules["json.decoder"]


def test_what_follows_the_function_is_ignored_by_an_older_nbqueue(folder: Path) -> None:
    write(folder, "helper", "VALUE = 1")
    fn = define("def fn():\n    import helper\n    return helper.VALUE")
    *_, data, _texts = pickle.loads(dump_function(fn).blob)
    assert pickle.loads(data)() == 1


def test_arguments_leave_out_the_modules_of_the_function(folder: Path) -> None:
    write(folder, "helper", "VALUE = 'here'\n")
    fn = define("def fn(other):\n    import helper\n    return other()")
    code = dump_function(fn)
    other = define("def fn():\n    import helper")
    assert b"here" in functions.dump_arguments((other,), {})
    assert b"here" not in functions.dump_arguments((other,), {}, imports=code.imports)


def test_only_code_of_which_all_imports_are_installed_is_settled(folder: Path) -> None:
    write(folder, "helper", "")
    for statement, settled in (
        ("import json, numpy.linalg", True),
        ("import helper", False),
        ("import no_such_module", False),
        ("from . import sibling", False),
    ):
        code = define(f"def fn():\n    {statement}").__code__
        assert lazy_imports.is_settled(code) is settled, statement


def test_calls_that_read_pickles_bring_what_the_notebook_defines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = types.ModuleType("__main__")
    exec("class Point: pass\ndef near(p): pass\nhuge = b'x' * 1_000_000", vars(main))
    exec("def read(data):\n    import pickle\n    return pickle.loads(data)", vars(main))
    exec("def other(data):\n    import json\n    return json.loads(data)", vars(main))
    monkeypatch.setitem(sys.modules, "__main__", main)
    blob = dump_function(vars(main)["read"]).blob
    assert b"Point" in blob
    assert b"near" in blob
    assert b"xxxx" not in blob
    assert b"Point" not in dump_function(vars(main)["other"]).blob
    assert b"Point" in dump_function(pickle.loads).blob
