"""Exceptions are sent whatever they contain."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.calls import exceptions, rebuild
from nbqueue.calls.exceptions import RemoteTraceback, dump_exception, error_text, load_exception
from nbqueue.calls.pickling import reducers
from nbqueue.errors import CannotPickle, IncompatiblePython, TaskFailed


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def there_and_back(error: BaseException) -> BaseException:
    return load_exception(dump_exception(raised(error)), "id-1")


def traceback_of(error: BaseException) -> str:
    assert isinstance(error.__cause__, RemoteTraceback)
    return str(error.__cause__)


class NeedsArguments(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class HoldsLock(Exception):
    def __init__(self) -> None:
        super().__init__("held", threading.Lock())
        self.lock = threading.Lock()
        self.code = 7


class CannotReduce(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no")


class CannotSpeak(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class LoadsAsAnother(Exception):
    def __reduce__(self) -> Any:
        return dict, ()


class CannotBeMade(Exception):
    def __new__(cls, *args: object) -> CannotBeMade:
        if args != ("secret",):
            raise TypeError("not like this")
        return super().__new__(cls, *args)

    def __init__(self, *args: object) -> None:
        super().__init__("other")


def test_exception_comes_back_as_its_own_type_with_the_traceback_as_cause() -> None:
    back = there_and_back(ValueError("bad", 3))
    assert type(back) is ValueError
    assert back.args == ("bad", 3)
    text = traceback_of(back)
    assert text.startswith("\n\n--- traceback on the worker ---\nTraceback (most recent call last)")
    assert "raise error" in text
    assert text.endswith("ValueError: ('bad', 3)\n--- end ---")
    assert pickle.loads(pickle.dumps(back.__cause__)).args == back.__cause__.args  # type: ignore


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        OSError(2, "No such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        SystemExit(3),
        KeyboardInterrupt(),
        StopIteration(4),
    ],
)
def test_builtin_exceptions_come_back_whole(error: BaseException) -> None:
    back = there_and_back(error)
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)


def test_exception_whose_init_wants_other_arguments_keeps_type_and_attributes() -> None:
    back = there_and_back(NeedsArguments(404, "gone"))
    assert type(back) is NeedsArguments
    assert (back.code, str(back)) == (404, "gone")


def test_what_cannot_be_sent_in_an_exception_is_dropped() -> None:
    back = there_and_back(HoldsLock())
    assert type(back) is HoldsLock
    assert back.code == 7
    assert back.args[0] == "held"
    assert "lock object" in back.args[1]
    assert not hasattr(back, "lock")


@pytest.mark.parametrize("kind", [CannotReduce, CannotSpeak, LoadsAsAnother])
def test_hostile_exceptions_still_come_back(kind: type[Exception]) -> None:
    back = there_and_back(kind("text"))
    assert type(back) is kind
    assert back.args == ("text",)
    assert kind.__name__ in traceback_of(back)


def test_exception_that_cannot_come_becomes_task_failed() -> None:
    back = there_and_back(CannotBeMade("secret"))
    assert type(back) is TaskFailed
    assert back.task_id == "id-1"
    assert str(back).endswith("CannotBeMade: other")
    assert "raise error" in back.traceback
    assert "raise error" in traceback_of(back)


def test_exception_of_a_local_class_that_holds_a_lock_becomes_task_failed() -> None:
    lock = threading.Lock()

    class Local(Exception):
        def use(self) -> object:
            return lock

    back = there_and_back(Local("x"))
    assert type(back) is TaskFailed
    assert "Local: x" in str(back)


def test_causes_and_notes_are_in_the_text() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as caught:
        if sys.version_info >= (3, 11):
            caught.add_note("look here")
        back = load_exception(dump_exception(caught), "id-1")
    text = traceback_of(back)
    assert "KeyError: 'inner'" in text
    assert "direct cause" in text
    if sys.version_info >= (3, 11):
        assert "look here" in text
        assert back.__notes__ == ["look here"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with Python 3.11")
def test_exception_group_comes_back() -> None:
    group_type = builtins.ExceptionGroup
    group = group_type("both", [ValueError("a"), group_type("in", [KeyError("b")])])
    back = there_and_back(group)
    assert type(back) is group_type
    assert [type(e) for e in back.exceptions] == [ValueError, group_type]
    assert "KeyError: 'b'" in traceback_of(back)
    back = there_and_back(group_type("both", [CannotBeMade("secret"), KeyError("b")]))
    assert type(back) is group_type
    assert [type(e) for e in back.exceptions] == [TaskFailed, KeyError]
    assert str(back.exceptions[0]).endswith("CannotBeMade: other")


def test_endless_chains_are_cut() -> None:
    error: BaseException = ValueError("first")
    for number in range(5000):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    back = there_and_back(error)
    assert str(back) == "4999"
    assert len(traceback_of(back)) < 110_000
    loop = ValueError("loop")
    loop.__cause__ = KeyError("x")
    loop.__cause__.__cause__ = loop
    assert "loop" in traceback_of(there_and_back(loop))


def test_huge_and_odd_texts_are_capped_and_valid() -> None:
    back = there_and_back(ValueError("x" * 5_000_000 + "end"))
    text = traceback_of(back)
    assert len(text) < 110_000
    assert "characters left out" in text
    assert "xend" in text
    data = dump_exception(raised(CannotReduce("a\udc80b\0")))
    assert b"\\udc80" in data
    assert str(load_exception(data, "id-1").__cause__).encode()


def test_recursion_error_travels() -> None:
    def down() -> None:
        down()

    with pytest.raises(RecursionError) as info:
        down()
    back = load_exception(dump_exception(info.value), "id-1")
    assert type(back) is RecursionError
    assert "Previous line repeated" in traceback_of(back)


def frame_of_run(error: BaseException) -> TracebackType | None:
    """Return the traceback from the first frame of ``run`` on, where an executor would begin."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_name != "run":
        frame = frame.tb_next
    return frame


def call_twice(run: Callable[..., Any]) -> None:
    run(lambda: run(lambda: 1 / 0))


def test_frames_of_nbqueue_are_not_shown(tmp_path: Path) -> None:
    for folder in ("executor", "calls"):
        name = str(Path(exceptions._PACKAGE) / folder / "handlers.py")
        namespace: dict[str, Any] = {}
        exec(compile("def run(fn):\n    return fn()\n", name, "exec"), namespace)
        with pytest.raises(ZeroDivisionError) as info:
            call_twice(namespace["run"])
        text = exceptions.traceback_text(info.value.with_traceback(frame_of_run(info.value)))
        # Only the outermost ones go: one that the user's code called stays.
        assert text.count("handlers.py") == 1
        assert text.count("test_exceptions.py") == 2
        text = exceptions.traceback_text(info.value, skip_frames=3)
        assert text.count("File ") == 0


def test_frames_of_nbqueue_are_shown_if_there_are_no_others() -> None:
    def inside(error: Exception) -> str:
        name = str(Path(exceptions._PACKAGE) / "executor" / "run.py")
        namespace: dict[str, Any] = {"error": error}
        exec(compile("def run():\n    raise error\n", name, "exec"), namespace)
        try:
            namespace["run"]()
        except Exception as caught:
            return exceptions.traceback_text(caught.with_traceback(frame_of_run(caught)))
        raise AssertionError

    assert "run.py" in inside(ValueError("a fault of ours"))
    assert "run.py" not in inside(CannotPickle("the result of fit(), a generator"))


@given(st.text())
def test_error_text_is_one_line_of_valid_utf8(message: str) -> None:
    text = error_text(ValueError(message))
    assert text.startswith("ValueError")
    assert len(text.splitlines()) == 1
    assert text.encode()


def test_error_text_is_short_and_never_fails() -> None:
    assert error_text(ValueError("a\n  b")) == "ValueError: a b"
    assert error_text(KeyError()) == "KeyError"
    assert len(error_text(ValueError("é" * 9000)).encode()) <= 2000
    assert "cannot be shown: RuntimeError" in error_text(CannotSpeak())
    assert error_text(ValueError("\udc80")) == "ValueError: \\udc80"


def test_format_of_a_newer_nbqueue_is_refused() -> None:
    with pytest.raises(IncompatiblePython, match="upgrade nbqueue here"):
        load_exception(pickle.dumps((99,)), "id-1")


def test_class_of_the_notebook_is_caught_by_its_own_except(tmp_path: Path) -> None:
    """The notebook sends a function, a worker raises its exception, the notebook catches it."""
    notebook = """
        import pathlib, subprocess, sys
        from nbqueue.calls import exceptions as E, functions as F
        class Sold(Exception):
            def __init__(self, item, price):
                super().__init__(f"{item} is sold")
                self.price = price
        def buy(): raise Sold("lamp", 3)
        out = pathlib.Path("call"); out.write_bytes(F.dump_function(buy).blob)
        subprocess.run([sys.executable, "worker.py"], check=True)
        try: raise E.load_exception(pathlib.Path("error").read_bytes(), "id-1")
        except Sold as error: print(error, error.price, "raise Sold" in str(error.__cause__))
    """
    worker = """
        import pathlib
        from nbqueue.calls import exceptions as E, functions as F
        try: F.load_function(pathlib.Path("call").read_bytes())()
        except Exception as error: pathlib.Path("error").write_bytes(E.dump_exception(error))
    """
    (tmp_path / "notebook.py").write_text(textwrap.dedent(notebook))
    (tmp_path / "worker.py").write_text(textwrap.dedent(worker))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-B", "notebook.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.strip() == "lamp is sold 3 True", done.stderr


def test_class_unknown_where_it_arrives_becomes_task_failed(tmp_path: Path) -> None:
    body = list(pickle.loads(dump_exception(raised(ValueError("x")))))
    body[1], body[5] = "gone.Error", b"cgone\nError\n."
    back = load_exception(pickle.dumps(tuple(body)), "id-1")
    assert type(back) is TaskFailed
    assert str(back) == "gone.Error: x"


def test_sending_an_exception_leaves_its_class_on_the_worker_as_it_was(tmp_path: Path) -> None:
    cells = "class Sold(Exception):\n    def say(self): return 1\n"
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(cells, "<cell>", "exec"), namespace)
    rebuild._received.add(namespace["Sold"])  # as if it had come from a notebook
    method = namespace["Sold"].say
    received = dump_exception(raised(namespace["Sold"]("x")))
    assert pickle.loads(received)[5] is not None
    assert namespace["Sold"].say is method


def test_an_exception_that_an_extension_reduces_itself_is_left_to_it() -> None:
    # As pydantic's ValidationError, which only the method named here can make.
    class OfExtension(OSError):
        __reduce__ = OSError.__reduce__

    assert reducers.way_of(OfExtension) is None
